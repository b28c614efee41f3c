import pytest
from brownie import ZERO_ADDRESS, reverts

FOREVER = 2**256 - 1


def test_moves_shares(vault, shares, depositor, receiver):
    supply = vault.totalSupply()
    tx = vault.transfer(receiver, 40, {"from": depositor})
    assert tx.return_value is True
    assert (vault.balanceOf(depositor), vault.balanceOf(receiver)) == (shares - 40, 40)
    assert vault.totalSupply() == supply
    assert [list(log.values()) for log in tx.events["Transfer"]] == [[depositor, receiver, 40]]


def test_to_oneself_changes_nothing(vault, shares, depositor):
    vault.transfer(depositor, shares, {"from": depositor})
    assert vault.balanceOf(depositor) == shares


def test_of_nothing_is_allowed(vault, stranger, receiver):
    tx = vault.transfer(receiver, 0, {"from": stranger})
    assert [list(log.values()) for log in tx.events["Transfer"]] == [[stranger, receiver, 0]]


def test_of_more_than_held_reverts(vault, shares, depositor, receiver):
    with reverts("balance too low"):
        vault.transfer(receiver, shares + 1, {"from": depositor})
    vault.transfer(receiver, shares, {"from": depositor})


def test_to_nobody_or_the_vault_reverts(vault, shares, depositor):
    for receiver in (ZERO_ADDRESS, vault):
        with reverts("receiver not allowed"):
            vault.transfer(receiver, 1, {"from": depositor})


def test_approve_sets_the_allowance(vault, depositor, stranger):
    tx = vault.approve(stranger, 5, {"from": depositor})
    assert tx.return_value is True
    assert vault.allowance(depositor, stranger) == 5
    assert [list(log.values()) for log in tx.events["Approval"]] == [[depositor, stranger, 5]]
    vault.approve(stranger, 3, {"from": depositor})
    assert vault.allowance(depositor, stranger) == 3


def test_transfer_from_moves_and_spends(vault, shares, depositor, receiver, stranger):
    vault.approve(stranger, 10, {"from": depositor})
    tx = vault.transferFrom(depositor, receiver, 4, {"from": stranger})
    assert tx.return_value is True
    assert vault.balanceOf(receiver) == 4
    assert vault.allowance(depositor, stranger) == 6
    assert [list(log.values()) for log in tx.events["Transfer"]] == [[depositor, receiver, 4]]


def test_transfer_from_does_not_spend_an_infinite_allowance(vault, shares, depositor, receiver, stranger):
    vault.approve(stranger, FOREVER, {"from": depositor})
    vault.transferFrom(depositor, receiver, 4, {"from": stranger})
    assert vault.allowance(depositor, stranger) == FOREVER


@pytest.mark.parametrize("caller", ["stranger", "owner", "keeper", "depositor"])
def test_transfer_from_without_allowance_reverts(vault, shares, depositor, receiver, caller, request):
    with reverts("allowance too low"):
        vault.transferFrom(depositor, receiver, 1, {"from": request.getfixturevalue(caller)})


def test_transfer_from_beyond_the_balance_reverts(vault, shares, depositor, receiver, stranger):
    vault.approve(stranger, FOREVER, {"from": depositor})
    with reverts("balance too low"):
        vault.transferFrom(depositor, receiver, shares + 1, {"from": stranger})
