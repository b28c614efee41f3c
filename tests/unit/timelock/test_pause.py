import pytest

from tests.support.world import (
    ALICE,
    DAY,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    WAD,
    reverts,
)
from tests.unit.timelock.support import Desk


def paused_until(desk: Desk) -> int:
    return int(desk.vault.call("paused_until"))


def test_stops_trades_for_14_days(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    assert paused_until(desk) == desk.evm.now + 14 * DAY
    for wait in (0, 14 * DAY - 1):
        desk.sleep(wait)
        desk.refresh()
        with reverts("paused"):
            desk.rebalance(desk.balances())
        with reverts("paused"):
            desk.vault.call("open_session", sender=STRANGER)
        with reverts("paused"):
            desk.vault.call("appraise", desk.tokens[0].address)


def test_lets_trades_go_on_afterwards(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    desk.sleep(14 * DAY)
    desk.set_price(0, 3 * WAD)
    assert desk.vault.call("open_session", sender=STRANGER) == 1
    assert desk.vault.call("appraise", desk.tokens[0].address)[0] > 0


def test_leaves_in_kind_flows_alone(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    desk.mint(ALICE, 2 * WAD)
    desk.redeem(ALICE, WAD)
    assert desk.vault.call("balanceOf", ALICE) == WAD


def test_is_recorded(desk: Desk) -> None:
    before = desk.head()
    desk.at_once("pause", sender=GUARDIAN)
    desk.assert_recorded(before, "pause", ["uint256"], [desk.evm.now + 14 * DAY])


def test_changes_nothing_else(desk: Desk) -> None:
    before = desk.vault.call("settings")
    desk.at_once("pause", sender=GUARDIAN)
    assert desk.vault.call("settings") == (*before[:6], desk.evm.now + 14 * DAY)


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST, KEEPER, STRANGER])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not guardian"):
        desk.at_once("pause", sender=caller)


@pytest.mark.parametrize("wait", [0, 14 * DAY - 1, 14 * DAY, 21 * DAY - 1])
def test_again_within_21_days_reverts(desk: Desk, wait: int) -> None:
    """A guardian cannot stop trades for ever: after 14 days 7 must pass."""
    desk.at_once("pause", sender=GUARDIAN)
    desk.sleep(wait)
    with reverts("too soon after the last"):
        desk.at_once("pause", sender=GUARDIAN)


def test_after_7_more_days_pauses_again(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    desk.sleep(21 * DAY)
    desk.at_once("pause", sender=GUARDIAN)
    assert paused_until(desk) == desk.evm.now + 14 * DAY


def test_within_7_days_of_an_unpause_reverts(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    desk.delayed("unpause")
    desk.sleep(7 * DAY - 1)
    with reverts("too soon after the last"):
        desk.at_once("pause", sender=GUARDIAN)
    desk.sleep(1)
    desk.at_once("pause", sender=GUARDIAN)


def test_leaves_the_quarantine_its_own_gap(desk: Desk) -> None:
    desk.at_once("quarantine", desk.tokens[0].address, sender=GUARDIAN)
    desk.at_once("pause", sender=GUARDIAN)
    assert paused_until(desk) == desk.evm.now + 14 * DAY
