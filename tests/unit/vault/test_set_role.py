import pytest

from tests.support.world import (
    ALICE,
    BOB,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    ZERO,
    World,
    reverts,
)
from tests.unit.vault.support import OpenWorld


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER, ALICE])
def test_by_anyone_but_the_timelock_reverts(world: World, caller: str) -> None:
    with reverts("not timelock"):
        world.vault.call("set_role", caller, 7, sender=caller)


@pytest.mark.parametrize("roles", range(8))
def test_stores_and_records(open_world: OpenWorld, roles: int) -> None:
    before = open_world.head()
    open_world.as_timelock("set_role", BOB, roles)
    open_world.assert_recorded(before, "set_role", ["address", "uint256"], [BOB, roles])
    assert open_world.vault.call("roles", BOB) == roles
    open_world.as_timelock("set_role", BOB, 1)
    assert open_world.vault.call("roles", BOB) == 1


def test_for_nobody_reverts(open_world: OpenWorld) -> None:
    with reverts("no account"):
        open_world.as_timelock("set_role", ZERO, 1)


def test_that_does_not_exist_reverts(open_world: OpenWorld) -> None:
    with reverts("0x"):
        open_world.as_timelock("set_role", BOB, 8)
