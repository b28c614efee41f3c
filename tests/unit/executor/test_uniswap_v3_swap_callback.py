import pytest
from eth_abi import encode

from offchain.planner.payload import Call
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
