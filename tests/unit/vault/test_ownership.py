import pytest
from brownie import ZERO_ADDRESS, reverts

from tests.unit.vault.deployment import assert_recorded


def test_transfer_ownership_only_offers(vault, owner, stranger):
    before = vault.head()
    tx = vault.transfer_ownership(stranger, {"from": owner})
    assert (vault.owner(), vault.pending_owner()) == (owner, stranger)
    assert_recorded(vault, tx, "transfer_ownership", ["address"], [stranger.address], before)


def test_accept_ownership_takes_it(vault, owner, stranger):
    vault.transfer_ownership(stranger, {"from": owner})
    before = vault.head()
    tx = vault.accept_ownership({"from": stranger})
    assert (vault.owner(), vault.pending_owner()) == (stranger, ZERO_ADDRESS)
    assert_recorded(vault, tx, "accept_ownership", ["address"], [stranger.address], before)
    with reverts("not owner"):
        vault.unpause({"from": owner})
    vault.unpause({"from": stranger})


def test_an_offer_can_be_withdrawn(vault, owner, stranger):
    vault.transfer_ownership(stranger, {"from": owner})
    vault.transfer_ownership(ZERO_ADDRESS, {"from": owner})
    with reverts("not pending owner"):
        vault.accept_ownership({"from": stranger})
    assert vault.owner() == owner


@pytest.mark.parametrize("caller", ["owner", "keeper", "guardian", "strategist", "stranger"])
def test_accept_ownership_by_others_reverts(vault, owner, depositor, caller, request):
    vault.transfer_ownership(depositor, {"from": owner})
    with reverts("not pending owner"):
        vault.accept_ownership({"from": request.getfixturevalue(caller)})


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "stranger"])
def test_transfer_ownership_by_others_reverts(vault, caller, request):
    account = request.getfixturevalue(caller)
    with reverts("not owner"):
        vault.transfer_ownership(account, {"from": account})
