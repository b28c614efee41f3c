from tests.support.world import DELAY, GUARDIAN, STRANGER, WAD, reverts
from tests.unit.timelock.support import Desk


def test_needs_the_delay(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    desk.assert_needs_the_delay("unpause")
    assert desk.vault.call("paused_until") == desk.evm.now
    desk.set_price(0, 3 * WAD)
    desk.vault.call("open_session", sender=STRANGER)


def test_is_recorded_as_a_pause_that_ends_now(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    before = desk.head()
    desk.delayed("unpause")
    desk.assert_recorded(before, "pause", ["uint256"], [desk.evm.now])


def test_may_be_vetoed_while_the_pause_lasts(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    desk.queue("unpause")
    desk.cancel("unpause", sender=GUARDIAN)
    desk.sleep(DELAY)
    with reverts("not queued"):
        desk.execute("unpause")


def test_of_a_vault_that_is_not_paused_leaves_the_guardian_free_to_pause(desk: Desk) -> None:
    desk.delayed("unpause")
    assert desk.vault.call("paused_until") == 0
    desk.at_once("pause", sender=GUARDIAN)


def test_of_a_pause_that_is_over_changes_nothing(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    until = desk.vault.call("paused_until")
    desk.sleep(20 * 86_400)
    desk.delayed("unpause")
    assert desk.vault.call("paused_until") == until
    desk.at_once("pause", sender=GUARDIAN)
