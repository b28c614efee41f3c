import pytest
from brownie import ZERO_ADDRESS, reverts

from offchain.planner.payload import Call, SwapV2, SwapV3, Sweep, encode

AMOUNT = 10**21
FEE_BPS = 30


@pytest.fixture(params=["v2", "v3"])
def swap(request, pair, pool):
    """Makes a leg on the real pool of each kind: swap(token_in, amount_in, min_out, ...)."""
    venue = pair if request.param == "v2" else pool

    def leg(token_in, amount_in, min_out=0, **flags):
        zero_for_one = venue.token0() == token_in.address
        fields = (venue.address, token_in.address, amount_in, min_out)
        if request.param == "v2":
            return SwapV2(*fields, FEE_BPS, zero_for_one, **flags)
        return SwapV3(*fields, zero_for_one, **flags)

    return leg


@pytest.fixture
def run(executor, caller):
    """Executes legs, or a payload, as the caller."""

    def execute(*legs):
        payload = legs[0] if isinstance(legs[0], bytes) else encode(legs)
        return executor.execute(payload, {"from": caller})

    return execute


def v2_out(amount, reserve_in, reserve_out):
    after_fee = amount * 997
    return after_fee * reserve_out // (reserve_in * 1000 + after_fee)


def test_answers_its_selector(executor, caller):
    assert executor.execute.call(b"", {"from": caller}) == executor.execute.signature


@pytest.mark.parametrize("to_caller", [True, False])
@pytest.mark.parametrize("direction", ["a for b", "b for a"])
def test_swaps_and_pays(executor, caller, token_a, token_b, swap, run, deployer, direction, to_caller):
    token_in, token_out = (token_a, token_b) if direction == "a for b" else (token_b, token_a)
    token_in.mint(executor, AMOUNT, {"from": deployer})
    run(swap(token_in, AMOUNT, to_caller=to_caller))

    receiver = caller if to_caller else executor
    price = 2 if direction == "a for b" else 0.5
    assert token_in.balanceOf(executor) == 0
    assert 0.995 * price < token_out.balanceOf(receiver) / AMOUNT < 0.997 * price


def test_v2_pays_what_the_pair_allows_to_the_wei(executor, caller, pair, token_a, token_b, run, deployer):
    token_a.mint(executor, AMOUNT, {"from": deployer})
    expected = v2_out(AMOUNT, token_a.balanceOf(pair), token_b.balanceOf(pair))
    a_first = pair.token0() == token_a
    with reverts("leg paid too little"):
        run(SwapV2(pair.address, token_a.address, AMOUNT, expected + 1, FEE_BPS, a_first, to_caller=True))
    run(SwapV2(pair.address, token_a.address, AMOUNT, expected, FEE_BPS, a_first, to_caller=True))
    assert token_b.balanceOf(caller) == expected


def test_reverts_when_a_leg_pays_less_than_its_minimum(executor, token_a, swap, run, deployer):
    token_a.mint(executor, AMOUNT, {"from": deployer})
    with reverts("leg paid too little"):
        run(swap(token_a, AMOUNT, min_out=2 * AMOUNT))


def test_scales_the_minimum_to_a_clipped_amount(executor, caller, token_a, token_b, swap, run, deployer):
    token_a.mint(executor, AMOUNT, {"from": deployer})
    run(swap(token_a, 4 * AMOUNT, min_out=4 * AMOUNT, to_caller=True))
    assert token_b.balanceOf(caller) > AMOUNT


def test_uses_at_most_amount_in(executor, token_a, swap, run, deployer):
    token_a.mint(executor, 3 * AMOUNT, {"from": deployer})
    run(swap(token_a, AMOUNT))
    assert token_a.balanceOf(executor) == 2 * AMOUNT


def test_uses_the_whole_balance_on_request(executor, caller, token_a, token_b, swap, run, deployer):
    token_a.mint(executor, 3 * AMOUNT, {"from": deployer})
    run(swap(token_a, AMOUNT, min_out=AMOUNT, whole_balance=True, to_caller=True))
    assert token_a.balanceOf(executor) == 0
    assert token_b.balanceOf(caller) > 3 * AMOUNT


def test_scales_the_minimum_to_the_whole_balance(executor, token_a, swap, run, deployer):
    token_a.mint(executor, 3 * AMOUNT, {"from": deployer})
    with reverts("leg paid too little"):
        run(swap(token_a, AMOUNT, min_out=2 * AMOUNT, whole_balance=True))


def test_leaves_out_a_swap_of_nothing(executor, caller, token_a, token_b, swap, run):
    run(swap(token_a, AMOUNT, min_out=2 * AMOUNT, to_caller=True), swap(token_b, AMOUNT, whole_balance=True))
    assert token_b.balanceOf(caller) == 0


def test_chains_swaps(executor, caller, token_a, token_b, pair, pool, run, deployer):
    token_a.mint(executor, AMOUNT, {"from": deployer})
    run(
        SwapV2(pair.address, token_a.address, AMOUNT, 0, FEE_BPS, pair.token0() == token_a),
        SwapV3(pool.address, token_b.address, 1, 0, pool.token0() == token_b, True, True),
    )
    assert token_b.balanceOf(executor) == 0
    assert 0.99 * AMOUNT < token_a.balanceOf(caller) < AMOUNT


def test_reverts_on_the_wrong_direction(executor, token_a, pool, run, deployer):
    token_a.mint(executor, AMOUNT, {"from": deployer})
    with reverts("IIA"):
        run(SwapV3(pool.address, token_a.address, AMOUNT, 0, pool.token0() != token_a.address))


def test_sweeps_to_the_caller(executor, caller, token_a, silent_token, run, deployer):
    token_a.mint(executor, AMOUNT, {"from": deployer})
    silent_token.mint(executor, 7, {"from": deployer})
    run(Sweep(token_a.address), Sweep(silent_token.address), Sweep(token_a.address))
    assert (token_a.balanceOf(caller), silent_token.balanceOf(caller)) == (AMOUNT, 7)


def test_calls_a_target_as_itself(executor, caller, token_a, run, deployer, accounts):
    receiver = accounts[2]
    token_a.mint(executor, AMOUNT, {"from": deployer})
    data = bytes.fromhex(token_a.transfer.encode_input(receiver, AMOUNT)[2:])
    run(Call(token_a.address, data), Sweep(token_a.address))
    assert token_a.balanceOf(receiver) == AMOUNT
    assert token_a.balanceOf(caller) == 0


def test_passes_on_the_reason_of_a_failed_call(executor, caller, token_a, run, deployer):
    data = bytes.fromhex(token_a.transfer.encode_input(deployer, AMOUNT)[2:])
    with reverts("insufficient balance"):
        run(Call(token_a.address, data))


def test_reverts_on_a_call_to_no_code(run):
    with reverts("bad leg"):
        run(Call(ZERO_ADDRESS, b""))


def test_cannot_be_reentered(executor, caller, run):
    inner = bytes.fromhex(executor.execute.encode_input(b"")[2:])
    with reverts():
        run(Call(executor.address, inner))
    inner = bytes.fromhex(executor.sweep.encode_input([])[2:])
    with reverts():
        run(Call(executor.address, inner))


LEGS = {
    "call": Call("0x" + "11" * 20, b"abc"),
    "v2": SwapV2("0x" + "11" * 20, "0x" + "22" * 20, 1, 1, 30, True),
    "v3": SwapV3("0x" + "11" * 20, "0x" + "22" * 20, 1, 1, True),
    "sweep": Sweep("0x" + "11" * 20),
}


@pytest.mark.parametrize("kind", LEGS)
def test_reverts_on_a_leg_cut_short(run, kind):
    with reverts("bad leg"):
        run(encode([LEGS[kind]])[:-1])


def test_reverts_on_an_unknown_kind(run):
    with reverts("bad leg"):
        run(b"\x04" + bytes(80))


def test_reverts_on_bytes_after_the_last_leg(run, token_a):
    with reverts("bad leg"):
        run(encode([Sweep(token_a.address)]) + b"\x00")


def test_reverts_on_bytes_after_as_many_legs_as_fit(executor, caller, token_a):
    legs = encode([Sweep(token_a.address)]) * 390
    assert executor.execute.call(legs, {"from": caller}) == executor.execute.signature
    with reverts("bad leg"):
        executor.execute.call(legs + b"\x03\x00", {"from": caller})


@pytest.mark.parametrize(("field", "value"), [("flags", 8), ("amount_in", 0), ("fee_bps", 10_000)])
def test_reverts_on_a_swap_field_out_of_range(run, pair, token_a, field, value):
    payload = bytearray(encode([SwapV2(pair.address, token_a.address, 1, 0, 30, True)]))
    start, size = {"flags": (1, 1), "amount_in": (42, 16), "fee_bps": (74, 2)}[field]
    payload[start : start + size] = value.to_bytes(size, "big")
    with reverts("bad leg"):
        run(bytes(payload))
