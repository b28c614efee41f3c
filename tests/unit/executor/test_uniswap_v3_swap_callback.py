import pyrevm
import pytest
from eth_abi import encode

from offchain.planner.payload import Call, SwapV3
from offchain.planner.payload import encode as payload
from tests.support.evm import Reverted, artifact
from tests.support.venue import call_data

REENTER_OR_REVERT = 4


@pytest.fixture
def stolen(token_a):
    return encode(["address"], [token_a.address])


def test_reverts_outside_a_swap(executor, token_a, caller, stolen):
    token_a.call("mint", executor.address, 100)
    with pytest.raises(Reverted, match=r"^not the pool$"):
        executor.call("uniswapV3SwapCallback", 100, -1, stolen, sender=caller)
    assert token_a.call("balanceOf", executor.address) == 100


def test_reverts_for_a_contract_called_by_a_leg(evm, executor, token_a, caller, stolen):
    thief = evm.deploy(artifact("BadExecutor"))
    thief.call("set_call", executor.address, call_data(executor, "uniswapV3SwapCallback", 100, -1, stolen))
    thief.call("set_mode", REENTER_OR_REVERT)
    token_a.call("mint", executor.address, 100)
    call = Call(thief.address, call_data(thief, "execute", b""))
    with pytest.raises(Reverted, match=r"^not the pool$"):
        executor.call("execute", payload([call]), sender=caller)


def test_reverts_for_nobody(executor, token_a, stolen):
    """No pool may call back before the first swap: not even the zero address, which empty storage would name."""
    token_a.call("mint", executor.address, 100)
    with pytest.raises(Reverted, match=r"^not the pool$"):
        executor.call("uniswapV3SwapCallback", 100, -1, stolen, sender="0x" + "00" * 20)


def test_reverts_for_a_pool_whose_swap_is_over(evm, executor, token_a, caller, stolen):
    """A pool of the payload's own choice that returns two zeros, and then shows that it is a plain account."""
    pool = "0x" + "70" * 20
    returns_zeros = bytes.fromhex("60406000f3")
    evm._evm.insert_account_info(pool, pyrevm.AccountInfo(nonce=1, code=returns_zeros))
    token_a.call("mint", executor.address, 100)
    executor.call("execute", payload([SwapV3(pool, token_a.address, 100, 0, True)]), sender=caller)
    evm._evm.insert_account_info(pool, pyrevm.AccountInfo(nonce=1, code=b""))
    with pytest.raises(Reverted, match=r"^not the pool$"):
        executor.call("uniswapV3SwapCallback", 100, -1, stolen, sender=pool)
    assert token_a.call("balanceOf", executor.address) == 100
