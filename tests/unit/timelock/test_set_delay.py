import pytest

from tests.support.world import ALICE, DAY, DELAY, OWNER, reverts
from tests.unit.timelock.support import Desk


@pytest.mark.parametrize("delay", [2 * DAY, 2 * DAY + 1, 30 * DAY])
def test_needs_the_delay_and_says_so(desk: Desk, delay: int) -> None:
    desk.assert_needs_the_delay("set_delay", delay)
    executed, event = desk.evm.events()
    assert (executed.name, event.name) == ("Executed", "DelaySet")
    assert event.address.lower() == desk.timelock.address.lower()
    assert event.fields == {"vault": desk.vault.address.lower(), "delay_seconds": delay}
    assert desk.timelock.call("terms", desk.vault.address) == (OWNER, delay)


def test_lowering_it_waits_the_higher_one(desk: Desk) -> None:
    desk.delayed("set_delay", 30 * DAY)
    desk.queue("set_delay", DELAY)
    desk.sleep(30 * DAY - 1)
    with reverts("not ready"):
        desk.execute("set_delay", DELAY)
    desk.sleep(1)
    desk.execute("set_delay", DELAY)
    desk.delayed("set_role", ALICE, 1)
    assert desk.vault.call("roles", ALICE) == 1


@pytest.mark.parametrize("delay", [0, 2 * DAY - 1, 30 * DAY + 1, 2**255])
def test_out_of_range_reverts(desk: Desk, delay: int) -> None:
    desk.queue("set_delay", delay)
    desk.sleep(DELAY)
    with reverts("delay out of range"):
        desk.execute("set_delay", delay)


def test_is_no_audit_entry(desk: Desk) -> None:
    """The vault's rules are the same; `DelaySet` is the Timelock's own."""
    before = desk.head()
    desk.delayed("set_delay", 3 * DAY)
    assert desk.head() == before
