import pytest
from eth_utils import keccak

from offchain.planner.payload import Call, SwapV2, SwapV3, Sweep, encode
from tests.support.evm import Reverted, artifact
from tests.support.venue import V2_FEE_BPS, call_data, is_token0, v2_out

AMOUNT = 10**21
SELECTOR = keccak(text="execute(bytes)")[:4]
NOBODY = "0x" + "00" * 20


@pytest.fixture(params=["v2", "v3"])
def swap(request, pair, pool):
    """Makes a leg on the real pool of each kind: swap(token_in, amount_in, min_out, ...)."""
    venue = pair if request.param == "v2" else pool

    def leg(token_in, amount_in, min_out=0, **flags):
        fields = (venue.address, token_in.address, amount_in, min_out)
        if request.param == "v2":
            return SwapV2(*fields, V2_FEE_BPS, is_token0(venue, token_in), **flags)
        return SwapV3(*fields, is_token0(venue, token_in), **flags)

    return leg


@pytest.fixture
def run(executor, caller):
    """Executes legs, or a payload, as the caller."""

    def execute(*legs):
        payload = legs[0] if isinstance(legs[0], bytes) else encode(legs)
        return executor.call("execute", payload, sender=caller)

    return execute


@pytest.fixture
def refuses(run):
    """The same, refused with a reason."""

    def refuse(reason, *legs):
        with pytest.raises(Reverted) as refusal:
            run(*legs)
        assert refusal.value.reason == reason

    return refuse


@pytest.fixture
def balance():
    return lambda token, account: token.call("balanceOf", getattr(account, "address", account))


def test_answers_its_selector(run):
    assert run(b"") == SELECTOR


@pytest.mark.parametrize("to_caller", [True, False])
@pytest.mark.parametrize("direction", ["a for b", "b for a"])
def test_swaps_and_pays(executor, caller, token_a, token_b, swap, run, balance, direction, to_caller):
    token_in, token_out = (token_a, token_b) if direction == "a for b" else (token_b, token_a)
    token_in.call("mint", executor.address, AMOUNT)
    run(swap(token_in, AMOUNT, to_caller=to_caller))

    price = 2 if direction == "a for b" else 0.5
    assert balance(token_in, executor) == 0
    paid = balance(token_out, caller if to_caller else executor)
    assert 0.995 * price < paid / AMOUNT < 0.997 * price


def test_v2_pays_what_the_pair_allows_to_the_wei(
    executor, caller, pair, token_a, token_b, run, refuses, balance
):
    token_a.call("mint", executor.address, AMOUNT)
    expected = v2_out(AMOUNT, balance(token_a, pair), balance(token_b, pair))
    a_first = is_token0(pair, token_a)

    def leg(min_out):
        return SwapV2(pair.address, token_a.address, AMOUNT, min_out, V2_FEE_BPS, a_first, to_caller=True)

    refuses("leg paid too little", leg(expected + 1))
    run(leg(expected))
    assert balance(token_b, caller) == expected


def test_reverts_when_a_leg_pays_less_than_its_minimum(executor, token_a, swap, refuses):
    token_a.call("mint", executor.address, AMOUNT)
    refuses("leg paid too little", swap(token_a, AMOUNT, min_out=2 * AMOUNT))


def test_scales_the_minimum_to_a_clipped_amount(executor, caller, token_a, token_b, swap, run, balance):
    token_a.call("mint", executor.address, AMOUNT)
    run(swap(token_a, 4 * AMOUNT, min_out=4 * AMOUNT, to_caller=True))
    assert balance(token_b, caller) > AMOUNT


def test_uses_at_most_amount_in(executor, token_a, swap, run, balance):
    token_a.call("mint", executor.address, 3 * AMOUNT)
    run(swap(token_a, AMOUNT))
    assert balance(token_a, executor) == 2 * AMOUNT


def test_uses_the_whole_balance_on_request(executor, caller, token_a, token_b, swap, run, balance):
    token_a.call("mint", executor.address, 3 * AMOUNT)
    run(swap(token_a, AMOUNT, min_out=AMOUNT, whole_balance=True, to_caller=True))
    assert balance(token_a, executor) == 0
    assert balance(token_b, caller) > 3 * AMOUNT


def test_scales_the_minimum_to_the_whole_balance(executor, token_a, swap, refuses):
    token_a.call("mint", executor.address, 3 * AMOUNT)
    refuses("leg paid too little", swap(token_a, AMOUNT, min_out=2 * AMOUNT, whole_balance=True))


def test_leaves_out_a_swap_of_nothing(caller, token_a, token_b, swap, run, balance):
    run(swap(token_a, AMOUNT, min_out=2 * AMOUNT, to_caller=True), swap(token_b, AMOUNT, whole_balance=True))
    assert balance(token_b, caller) == 0


def test_chains_swaps(executor, caller, token_a, token_b, pair, pool, run, balance):
    token_a.call("mint", executor.address, AMOUNT)
    run(
        SwapV2(pair.address, token_a.address, AMOUNT, 0, V2_FEE_BPS, is_token0(pair, token_a)),
        SwapV3(pool.address, token_b.address, 1, 0, is_token0(pool, token_b), True, True),
    )
    assert balance(token_b, executor) == 0
    assert 0.99 * AMOUNT < balance(token_a, caller) < AMOUNT


def test_reverts_on_the_wrong_direction(executor, token_a, pool, refuses):
    token_a.call("mint", executor.address, AMOUNT)
    refuses("IIA", SwapV3(pool.address, token_a.address, AMOUNT, 0, not is_token0(pool, token_a)))


def test_sweeps_to_the_caller(executor, caller, token_a, silent_token, run, balance):
    token_a.call("mint", executor.address, AMOUNT)
    silent_token.call("mint", executor.address, 7)
    run(Sweep(token_a.address), Sweep(silent_token.address), Sweep(token_a.address))
    assert (balance(token_a, caller), silent_token.call("held", caller)) == (AMOUNT, 7)


def test_reverts_when_a_transfer_returns_false(evm, executor, silent_token, refuses):
    silent_token.call("mint", executor.address, 7)
    silent_token.call("set_weird", 2 | 512)  # FALSE_ON_FAILURE, PAUSED
    refuses("transfer failed", Sweep(silent_token.address))


def test_calls_a_target_as_itself(executor, caller, token_a, run, balance):
    receiver = "0x" + "4e" * 20
    token_a.call("mint", executor.address, AMOUNT)
    run(Call(token_a.address, call_data(token_a, "transfer", receiver, AMOUNT)), Sweep(token_a.address))
    assert (balance(token_a, receiver), balance(token_a, caller)) == (AMOUNT, 0)


def test_passes_on_the_reason_of_a_failed_call(caller, token_a, refuses):
    refuses("insufficient balance", Call(token_a.address, call_data(token_a, "transfer", caller, AMOUNT)))


def test_reverts_on_a_call_to_no_code(refuses):
    refuses("bad leg", Call(NOBODY, b""))


def test_cannot_be_reentered(executor, refuses):
    for name, argument in (("execute", b""), ("sweep", [])):
        refuses("0x", Call(executor.address, call_data(executor, name, argument)))


LEGS = {
    "v2": SwapV2("0x" + "11" * 20, "0x" + "22" * 20, 1, 1, 30, True),
    "v3": SwapV3("0x" + "11" * 20, "0x" + "22" * 20, 1, 1, True),
    "sweep": Sweep("0x" + "11" * 20),
}


@pytest.mark.parametrize("kind", LEGS)
def test_reverts_on_a_leg_cut_short(refuses, kind):
    refuses("bad leg", encode([LEGS[kind]])[:-1])


def test_reverts_on_a_call_cut_short(run, refuses, token_a):
    whole = encode([Call(token_a.address, call_data(token_a, "totalSupply"))])
    run(whole)
    refuses("bad leg", whole[:-1])
    refuses("bad leg", whole[:22])  # within the header


def test_calls_without_data(evm, run):
    answers_anything = evm.deploy(artifact("ScriptedPool"), NOBODY, NOBODY)
    run(Call(answers_anything.address, b""))


@pytest.mark.parametrize("kind", [4, 255])
def test_reverts_on_an_unknown_kind(run, refuses, token_a, kind):
    call = encode([Call(token_a.address, call_data(token_a, "totalSupply"))])
    run(call)
    refuses("bad leg", bytes([kind]) + call[1:])
    refuses("bad leg", bytes([kind]) + encode([Sweep(token_a.address)])[1:])


def test_reverts_on_bytes_after_the_last_leg(refuses, token_a):
    refuses("bad leg", encode([Sweep(token_a.address)]) + b"\x00")


def test_reverts_on_bytes_after_as_many_legs_as_fit(run, refuses, token_a):
    legs = encode([Sweep(token_a.address)]) * 390
    assert run(legs) == SELECTOR
    refuses("bad leg", legs + b"\x03\x00")


@pytest.mark.parametrize(("field", "value"), [("flags", 8), ("amount_in", 0), ("fee_bps", 10_000)])
def test_reverts_on_a_swap_field_out_of_range(refuses, pair, token_a, field, value):
    payload = bytearray(encode([SwapV2(pair.address, token_a.address, 1, 0, 30, True)]))
    start, size = {"flags": (1, 1), "amount_in": (42, 16), "fee_bps": (74, 2)}[field]
    payload[start : start + size] = value.to_bytes(size, "big")
    refuses("bad leg", bytes(payload))
