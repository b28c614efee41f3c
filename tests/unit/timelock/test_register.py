import pytest

from tests.support.world import ALICE, BOB, DAY, DELAY, OWNER, STRANGER, ZERO, reverts
from tests.unit.timelock.support import Desk


def test_places_the_caller_under_the_timelock(desk: Desk) -> None:
    desk.timelock.call("register", ALICE, 3 * DAY, sender=STRANGER)
    (event,) = desk.evm.events()
    assert (event.address.lower(), event.name) == (desk.timelock.address.lower(), "Registered")
    assert event.fields == {"vault": STRANGER, "admin": ALICE, "delay_seconds": 3 * DAY}
    assert desk.timelock.call("terms", STRANGER) == (ALICE, 3 * DAY)
    assert desk.timelock.call("terms", desk.vault.address) == (OWNER, DELAY)
    assert desk.timelock.call("terms", BOB) == (ZERO, 0)


def test_a_second_time_reverts(desk: Desk) -> None:
    desk.timelock.call("register", ALICE, 3 * DAY, sender=STRANGER)
    for admin in (ALICE, BOB):
        with reverts("already registered"):
            desk.timelock.call("register", admin, 3 * DAY, sender=STRANGER)


def test_without_an_admin_reverts(desk: Desk) -> None:
    with reverts("no owner"):
        desk.timelock.call("register", ZERO, 3 * DAY, sender=STRANGER)


@pytest.mark.parametrize("delay", [0, 2 * DAY - 1, 30 * DAY + 1, 2**255])
def test_with_a_delay_out_of_range_reverts(desk: Desk, delay: int) -> None:
    with reverts("delay out of range"):
        desk.timelock.call("register", ALICE, delay, sender=STRANGER)


@pytest.mark.parametrize("delay", [2 * DAY, 30 * DAY])
def test_with_a_delay_at_the_edge_is_accepted(desk: Desk, delay: int) -> None:
    desk.timelock.call("register", ALICE, delay, sender=STRANGER)
    assert desk.timelock.call("terms", STRANGER) == (ALICE, delay)


def test_names_its_parts(desk: Desk) -> None:
    assert desk.timelock.call("rule_book") == desk.rule_book.address.lower()
    assert desk.timelock.call("teller_implementation") == desk.teller_implementation.address.lower()
