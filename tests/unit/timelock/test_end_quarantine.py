import pytest

from tests.support.world import DAY, GUARDIAN, KEEPER, OWNER, STRANGER, STRATEGIST, reverts
from tests.unit.timelock.support import Desk


@pytest.fixture
def aside(desk: Desk) -> Desk:
    """Gold, the second asset, has been in quarantine for three days."""
    desk.at_once("quarantine", desk.tokens[1].address, sender=GUARDIAN)
    desk.sleep(3 * DAY)
    return desk


def test_ends_it_now(aside: Desk) -> None:
    aside.at_once("end_quarantine", sender=GUARDIAN)
    assert aside.vault.call("settings")[1] >> 216 == aside.evm.now
    assert aside.vault.call("appraise", aside.tokens[1].address)[0] > 0


def test_is_recorded_as_one_that_ends_now(aside: Desk) -> None:
    before = aside.head()
    aside.at_once("end_quarantine", sender=GUARDIAN)
    aside.assert_recorded(before, "quarantine", ["uint256", "uint256"], [1, aside.evm.now])


def test_changes_nothing_else(aside: Desk) -> None:
    before = aside.vault.call("settings")
    aside.at_once("end_quarantine", sender=GUARDIAN)
    now = aside.vault.call("settings")
    assert now[1] & (2**216 - 1) == before[1] & (2**216 - 1)
    assert (now[0], *now[2:]) == (before[0], *before[2:])


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST, KEEPER, STRANGER])
def test_by_others_reverts(aside: Desk, caller: str) -> None:
    with reverts("not guardian"):
        aside.at_once("end_quarantine", sender=caller)


def test_without_one_reverts(desk: Desk) -> None:
    with reverts("no quarantine"):
        desk.at_once("end_quarantine", sender=GUARDIAN)


def test_twice_or_after_it_has_ended_reverts(aside: Desk) -> None:
    snapshot = aside.evm.snapshot()
    aside.at_once("end_quarantine", sender=GUARDIAN)
    with reverts("no quarantine"):
        aside.at_once("end_quarantine", sender=GUARDIAN)
    aside.evm.revert(snapshot)
    aside.sleep(11 * DAY)
    with reverts("no quarantine"):
        aside.at_once("end_quarantine", sender=GUARDIAN)
