import pytest
from brownie import reverts

from tests.unit.vault.deployment import assert_recorded

KEEPER, STRATEGIST, GUARDIAN = 1, 2, 4


@pytest.mark.parametrize("caller", ["owner", "guardian"])
def test_takes_and_records(vault, keeper, caller, request):
    before = vault.head()
    assert vault.roles(keeper) == KEEPER
    tx = vault.drop_role(keeper, {"from": request.getfixturevalue(caller)})
    assert vault.roles(keeper) == 0
    assert_recorded(vault, tx, "set_role", ["address", "uint256"], [keeper.address, 0], before)


@pytest.mark.parametrize("caller", ["owner", "guardian"])
def test_leaves_a_guardian(vault, owner, stranger, caller, request):
    vault.set_role(stranger, KEEPER | STRATEGIST | GUARDIAN, {"from": owner})
    vault.drop_role(stranger, {"from": request.getfixturevalue(caller)})
    assert vault.roles(stranger) == GUARDIAN


def test_stops_the_keeper(vault, keeper, guardian, executor):
    call = ([0, 0, 0], executor, bytes(1), bytes(32), 1, 2**64, {"from": keeper})
    with reverts("no trigger"):
        vault.rebalance(*call)
    vault.drop_role(keeper, {"from": guardian})
    with reverts("not keeper"):
        vault.rebalance(*call)


@pytest.mark.parametrize("caller", ["keeper", "strategist", "stranger"])
def test_by_others_reverts(vault, keeper, caller, request):
    with reverts("not owner or guardian"):
        vault.drop_role(keeper, {"from": request.getfixturevalue(caller)})
