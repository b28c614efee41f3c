import pytest

from tests.support.world import ALICE, GUARDIAN, KEEPER, OWNER, STRANGER, STRATEGIST, WAD, World, reverts
from tests.unit.vault.support import TELLER, OpenWorld


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER, ALICE])
def test_by_anyone_but_the_timelock_reverts(world: World, caller: str) -> None:
    with reverts("not timelock"):
        world.vault.call("set_teller", caller, 10_000, 10_000, sender=caller)


@pytest.mark.parametrize(("capacity", "refill"), [(1, 0), (500, 100), (10_000, 10_000)])
def test_stores_and_records(open_world: OpenWorld, capacity: int, refill: int) -> None:
    before = open_world.head()
    open_world.as_timelock("set_teller", TELLER, capacity, refill)
    open_world.assert_recorded(
        before, "set_teller", ["address", "uint256", "uint256"], [TELLER, capacity, refill]
    )
    assert open_world.vault.call("flow_room", TELLER) == (capacity * 10**14, capacity * 10**14)


@pytest.mark.parametrize(("capacity", "refill"), [(10_001, 0), (1, 10_001), (2**255, 0)])
def test_above_100_percent_reverts(open_world: OpenWorld, capacity: int, refill: int) -> None:
    with reverts("flow limit above 100%"):
        open_world.as_timelock("set_teller", TELLER, capacity, refill)


def test_of_no_capacity_ends_the_right_and_records(open_world: OpenWorld) -> None:
    open_world.as_timelock("set_teller", TELLER, 500, 100)
    open_world.as_teller("issue", ALICE, WAD, 0, 0, open_world.tokens[0].address, 0)
    before = open_world.head()
    open_world.as_timelock("set_teller", TELLER, 0, 100)
    open_world.assert_recorded(before, "set_teller", ["address", "uint256", "uint256"], [TELLER, 0, 100])
    assert open_world.vault.call("flow_room", TELLER) == (0, 0)
    with reverts("not teller"):
        open_world.as_teller("issue", ALICE, WAD, 0, 0, open_world.tokens[0].address, 0)
