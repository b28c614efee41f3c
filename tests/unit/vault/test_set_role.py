import pytest
from brownie import ZERO_ADDRESS, reverts

from tests.unit.vault.deployment import TARGETS, assert_recorded

KEEPER, STRATEGIST, GUARDIAN = 1, 2, 4


@pytest.mark.parametrize("roles", range(8))
def test_stores_and_records_the_roles(vault, owner, stranger, roles):
    before = vault.head()
    tx = vault.set_role(stranger, roles, {"from": owner})
    assert vault.roles(stranger) == roles
    assert_recorded(vault, tx, "set_role", ["address", "uint256"], [stranger.address, roles], before)


def test_replaces_what_was_there(vault, owner, strategist):
    vault.set_targets(TARGETS, {"from": strategist})
    vault.set_role(strategist, KEEPER, {"from": owner})
    with reverts("not owner or strategist"):
        vault.set_targets(TARGETS, {"from": strategist})


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "stranger"])
def test_by_others_reverts(vault, caller, request):
    account = request.getfixturevalue(caller)
    with reverts("not owner"):
        vault.set_role(account, KEEPER, {"from": account})


def test_for_nobody_reverts(vault, owner):
    with reverts("no account"):
        vault.set_role(ZERO_ADDRESS, KEEPER, {"from": owner})


def test_that_does_not_exist_reverts(vault, owner, stranger):
    with reverts():
        vault.set_role(stranger, 8, {"from": owner})
    assert vault.roles(stranger) == 0
