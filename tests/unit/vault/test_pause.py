import pytest
from brownie import chain, reverts

from tests.unit.vault.deployment import DAY, WAD, assert_recorded


def test_stops_trades_for_14_days(vault, guardian, keeper, executor):
    tx = vault.pause({"from": guardian})
    assert vault.paused_until() == tx.timestamp + 14 * DAY
    with reverts("paused"):
        vault.rebalance([0, 0, 0], executor, bytes(1), bytes(32), 1, 2**64, {"from": keeper})
    with reverts("paused"):
        vault.open_session({"from": keeper})


def test_lets_trades_go_on_afterwards(vault, guardian, keeper, executor):
    vault.pause({"from": guardian})
    chain.sleep(14 * DAY + 1)
    with reverts("no trigger"):
        vault.rebalance([0, 0, 0], executor, bytes(1), bytes(32), 1, 2**64, {"from": keeper})


def test_leaves_flows_alone(vault, shares, guardian, depositor):
    vault.pause({"from": guardian})
    vault.mint_in_kind(WAD, [2**256 - 1] * 3, depositor, {"from": depositor})
    vault.redeem_in_kind(2 * WAD, depositor, depositor, [0] * 3, 0, {"from": depositor})
    assert vault.balanceOf(depositor) == shares - WAD


def test_records_the_end(vault, guardian):
    before = vault.head()
    tx = vault.pause({"from": guardian})
    assert_recorded(vault, tx, "pause", ["uint256"], [tx.timestamp + 14 * DAY], before)


def test_of_a_paused_vault_reverts(vault, guardian):
    vault.pause({"from": guardian})
    with reverts("paused lately"):
        vault.pause({"from": guardian})


def test_within_7_days_of_the_last_reverts(vault, guardian):
    vault.pause({"from": guardian})
    chain.sleep(21 * DAY - 60)
    with reverts("paused lately"):
        vault.pause({"from": guardian})


def test_after_7_more_days_pauses_again(vault, guardian):
    vault.pause({"from": guardian})
    chain.sleep(21 * DAY + 1)
    tx = vault.pause({"from": guardian})
    assert vault.paused_until() == tx.timestamp + 14 * DAY


def test_within_7_days_of_unpause_reverts(vault, guardian, owner):
    vault.pause({"from": guardian})
    vault.unpause({"from": owner})
    chain.sleep(7 * DAY - 60)
    with reverts("paused lately"):
        vault.pause({"from": guardian})
    chain.sleep(61)
    vault.pause({"from": guardian})


@pytest.mark.parametrize("caller", ["owner", "strategist", "keeper", "stranger"])
def test_by_others_reverts(vault, caller, request):
    with reverts("not guardian"):
        vault.pause({"from": request.getfixturevalue(caller)})


def test_unpause_ends_it(vault, guardian, owner, keeper, executor):
    vault.pause({"from": guardian})
    tx = vault.unpause({"from": owner})
    assert vault.paused_until() == tx.timestamp
    with reverts("no trigger"):
        vault.rebalance([0, 0, 0], executor, bytes(1), bytes(32), 1, 2**64, {"from": keeper})


def test_unpause_records_the_end(vault, guardian, owner):
    vault.pause({"from": guardian})
    before = vault.head()
    tx = vault.unpause({"from": owner})
    assert_recorded(vault, tx, "pause", ["uint256"], [tx.timestamp], before)


@pytest.mark.parametrize("caller", ["guardian", "strategist", "keeper", "stranger"])
def test_unpause_by_others_reverts(vault, guardian, caller, request):
    vault.pause({"from": guardian})
    with reverts("not owner"):
        vault.unpause({"from": request.getfixturevalue(caller)})


def test_an_idle_unpause_leaves_the_guardian_free_to_pause(vault, guardian, owner):
    vault.unpause({"from": owner})
    assert vault.paused_until() == 0
    vault.pause({"from": guardian})
