import pytest

from tests.support.world import ALICE, GUARDIAN, KEEPER, OWNER, STRANGER, STRATEGIST, WAD, ZERO, reverts
from tests.unit.timelock.support import Desk


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN])
@pytest.mark.parametrize(("account", "roles"), [(KEEPER, 1), (STRATEGIST, 2), (STRANGER, 0)])
def test_takes_the_roles_and_is_recorded(desk: Desk, caller: str, account: str, roles: int) -> None:
    before = desk.head()
    assert desk.vault.call("roles", account) == roles
    desk.at_once("drop_role", account, sender=caller)
    desk.assert_recorded(before, "set_role", ["address", "uint256"], [account, 0])
    assert desk.vault.call("roles", account) == 0


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN])
def test_leaves_a_guardian(desk: Desk, caller: str) -> None:
    desk.delayed("set_role", ALICE, 7)
    before = desk.head()
    desk.at_once("drop_role", ALICE, sender=caller)
    desk.assert_recorded(before, "set_role", ["address", "uint256"], [ALICE, 4])
    assert desk.vault.call("roles", ALICE) == 4
    desk.at_once("drop_role", GUARDIAN, sender=caller)
    assert desk.vault.call("roles", GUARDIAN) == 4


def test_stops_the_keeper(desk: Desk) -> None:
    desk.set_price(0, 3 * WAD)
    desk.rebalance(desk.balances())  # opens a session
    desk.at_once("drop_role", KEEPER, sender=GUARDIAN)
    with reverts("not keeper"):
        desk.rebalance(desk.balances())


@pytest.mark.parametrize("caller", [KEEPER, STRATEGIST, STRANGER])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not admin or guardian"):
        desk.at_once("drop_role", KEEPER, sender=caller)


def test_of_nobody_reverts(desk: Desk) -> None:
    with reverts("no account"):
        desk.at_once("drop_role", ZERO)
