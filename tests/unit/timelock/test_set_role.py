import pytest

from tests.support.world import DAY, GUARDIAN, KEEPER, OWNER, STRANGER, STRATEGIST, ZERO, reverts
from tests.unit.timelock.support import Desk

TARGETS = [5_000, 3_000, 2_000]


@pytest.mark.parametrize("roles", range(8))
def test_needs_the_delay_and_stores_the_roles(desk: Desk, roles: int) -> None:
    desk.assert_needs_the_delay("set_role", STRANGER, roles)
    assert desk.vault.call("roles", STRANGER) == roles


@pytest.mark.parametrize("account", [OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER])
def test_is_recorded(desk: Desk, account: str) -> None:
    before = desk.head()
    desk.delayed("set_role", account, 3)
    desk.assert_recorded(before, "set_role", ["address", "uint256"], [account, 3])


def test_replaces_what_was_there(desk: Desk) -> None:
    desk.at_once("set_targets", TARGETS, sender=STRATEGIST)
    desk.delayed("set_role", STRATEGIST, 1)
    with reverts("not admin or strategist"):
        desk.at_once("set_targets", TARGETS, sender=STRATEGIST)


def test_replaces_a_guardian(desk: Desk) -> None:
    desk.delayed("set_role", GUARDIAN, 0)
    desk.delayed("set_role", STRANGER, 4)
    with reverts("not guardian"):
        desk.at_once("pause", sender=GUARDIAN)
    desk.at_once("pause", sender=STRANGER)


@pytest.mark.parametrize(("account", "roles", "reason"), [(ZERO, 1, "no account"), (STRANGER, 8, "0x")])
def test_out_of_range_reverts(desk: Desk, account: str, roles: int, reason: str) -> None:
    desk.queue("set_role", account, roles)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_role", account, roles)
