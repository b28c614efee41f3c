import pytest
from brownie import reverts
from eth_abi import encode

from offchain.planner.payload import Call
from offchain.planner.payload import encode as payload


@pytest.fixture
def stolen(token_a):
    return encode(["address"], [token_a.address])


def test_reverts_outside_a_swap(executor, token_a, caller, deployer, stolen):
    token_a.mint(executor, 100, {"from": deployer})
    with reverts("not the pool"):
        executor.uniswapV3SwapCallback(100, -1, stolen, {"from": caller})
    assert token_a.balanceOf(executor) == 100


def test_reverts_for_a_contract_called_by_a_leg(executor, token_a, caller, deployer, stolen, BadExecutor):
    thief = deployer.deploy(BadExecutor)
    callback = executor.uniswapV3SwapCallback.encode_input(100, -1, stolen)
    thief.set_call(executor, callback, {"from": deployer})
    thief.set_mode(4, {"from": deployer})  # REENTER_OR_REVERT
    token_a.mint(executor, 100, {"from": deployer})
    call = Call(thief.address, bytes.fromhex(thief.execute.encode_input(b"")[2:]))
    with reverts("not the pool"):
        executor.execute(payload([call]), {"from": caller})
