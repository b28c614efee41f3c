"""How much fits: the payload, the legs, the tokens of a sweep; and the price that a V3 swap may go to."""

from __future__ import annotations

import pyrevm
import pytest

from offchain.planner.payload import SwapV3, Sweep, encode
from tests.support.evm import Contract, Evm, Reverted, artifact

MAX_PAYLOAD, CALL_HEADER, MAX_TOKENS = 8_192, 23, 17
# Uniswap V3's TickMath: the least and the greatest square root of a price, Q64.96
MIN_SQRT_RATIO, MAX_SQRT_RATIO = 4_295_128_739, 1461446703485210103287273052203988822378723970342
LIMIT_AT = 100  # where the fourth argument of `swap` begins in its calldata


@pytest.fixture
def fresh() -> tuple[Evm, Contract, Contract]:
    """A chain of its own, for code that is put in place by hand: an executor and a token that it has a unit of."""
    evm = Evm()
    executor = evm.deploy(artifact("Executor"))
    token = evm.deploy(artifact("TestToken"), "A", "A", 18)
    token.call("mint", executor.address, 1)
    return evm, executor, token


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_a_payload_has_8192_bytes_at_most(executor: Contract, caller: str, more: int, fits: bool) -> None:
    """One call, of a contract that takes whatever it is told."""
    listener = executor.evm.deploy(artifact("ScriptedPool"), caller, caller)
    data = b"\x01" * (MAX_PAYLOAD - CALL_HEADER + more)
    payload = b"\0" + bytes.fromhex(listener.address[2:]) + len(data).to_bytes(2, "big") + data
    assert len(payload) == MAX_PAYLOAD + more
    if fits:
        executor.call("execute", payload, sender=caller)
    else:
        with pytest.raises(Reverted, match=r"^0x$"):
            executor.call("execute", payload, sender=caller)


def test_as_many_of_the_shortest_legs_as_fit(executor: Contract, token_a: Contract, caller: str) -> None:
    """And what is too short to be a leg behind them is seen."""
    payload = encode([Sweep(token_a.address)] * 390)
    assert MAX_PAYLOAD - len(payload) == 2
    token_a.call("mint", executor.address, 5)
    executor.call("execute", payload, sender=caller)
    assert token_a.call("balanceOf", caller) == 5
    with pytest.raises(Reverted, match=r"^bad leg$"):
        executor.call("execute", payload + b"\x03\x00", sender=caller)


def test_sweeps_17_tokens_and_not_18(executor: Contract, token_a: Contract, caller: str) -> None:
    token_a.call("mint", executor.address, 5)
    executor.call("sweep", [token_a.address] * MAX_TOKENS, sender=caller)
    assert token_a.call("balanceOf", caller) == 5
    with pytest.raises(Reverted, match=r"^0x$"):
        executor.call("sweep", [token_a.address] * (MAX_TOKENS + 1), sender=caller)


@pytest.mark.parametrize(("token0_in", "limit"), [(True, MIN_SQRT_RATIO + 1), (False, MAX_SQRT_RATIO - 1)])
def test_a_v3_swap_may_go_to_the_end_of_all_prices(
    fresh: tuple[Evm, Contract, Contract], caller: str, token0_in: bool, limit: int
) -> None:
    """The pool answers nothing but a swap with the last price that Uniswap's pools accept, and pays nothing."""
    evm, executor, token = fresh
    pool = evm.deploy(artifact("ScriptedPool"), caller, caller)
    asked = b"\x60" + LIMIT_AT.to_bytes(1, "big") + b"\x35"  # CALLDATALOAD
    is_it = b"\x73" + limit.to_bytes(20, "big") + b"\x14\x60\x21\x57\x60\x00\x60\x00\xfd\x5b"
    code = asked + is_it + b"\x60\x40\x60\x00\xf3"  # RETURN(0, 64): two zeros
    assert code[0x21] == 0x5B
    evm._evm.insert_account_info(pool.address, pyrevm.AccountInfo(code=code))
    executor.call("execute", encode([SwapV3(pool.address, token.address, 1, 0, token0_in)]), sender=caller)
