"""The executor's packed legs: every leg survives the round trip, everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.errors import PayloadError
from offchain.planner import Call, Leg, SwapV2, SwapV3, Sweep, decode, encode

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
amounts = st.integers(0, 2**128 - 1)
flags = (st.booleans(), st.booleans(), st.booleans())
legs = st.one_of(
    st.builds(Call, addresses, st.binary(max_size=200)),
    st.builds(SwapV2, addresses, addresses, amounts, amounts, st.integers(0, 2**16 - 1), *flags),
    st.builds(SwapV3, addresses, addresses, amounts, amounts, *flags),
    st.builds(Sweep, addresses),
)
A, B = "0x" + "aa" * 20, "0x" + "bb" * 20


@given(st.lists(legs, max_size=8))
def test_payload_decodes_to_the_legs_it_was_made_of(made: list[Leg]) -> None:
    assert decode(encode(made)) == tuple(made)


def test_layout_is_the_specification_s() -> None:
    v2 = encode([SwapV2(A, B, 3, 2, 30, zero_for_one=True, to_caller=True, whole_balance=True)])
    assert (
        v2
        == b"\x01\x07" + b"\xaa" * 20 + b"\xbb" * 20 + bytes(15) + b"\x03" + bytes(15) + b"\x02" + b"\x00\x1e"
    )
    assert encode([SwapV3(A, B, 3, 2, zero_for_one=False)])[:2] == b"\x02\x00"
    assert encode([Call(A, b"xyz")]) == b"\x00" + b"\xaa" * 20 + b"\x00\x03xyz"
    assert encode([Sweep(B)]) == b"\x03" + b"\xbb" * 20


@pytest.mark.parametrize(
    "payload", [b"\x04", b"\x03" + b"\xaa" * 19, b"\x01\x08" + bytes(74), b"\x00" + bytes(21) + b"\x01"]
)
def test_malformed_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="payload"):
        decode(payload)


@pytest.mark.parametrize(
    ("leg", "message"),
    [
        (Sweep("0x1234"), "not an address"),
        (Sweep("token"), "not an address"),
        (SwapV3(A, B, 2**128, 0, True), "does not fit 16 bytes"),
        (Call(A, bytes(8192)), "above the executor's 8192"),
    ],
)
def test_legs_that_do_not_fit_are_refused(leg: Leg, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        encode([leg])
