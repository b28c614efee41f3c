"""`flow_room` after a limit was lowered below what has flowed: nothing more that way, on either side."""

import pytest

from tests.support.world import ALICE, BOB
from tests.unit.vault.support import TELLER, OpenWorld

PERCENT = 10**16


@pytest.mark.parametrize("direction", [1, -1])
def test_is_nothing_beyond_a_lowered_limit(open_world: OpenWorld, direction: int) -> None:
    world = open_world
    world.as_timelock("set_teller", TELLER, 500, 0)
    world.mint(ALICE, int(world.vault.call("totalSupply")))
    amount = 4 * int(world.vault.call("totalSupply")) // 100
    token = world.tokens[0].address
    if direction == 1:
        world.as_teller("issue", ALICE, amount, 0, 0, token, 0)
    else:
        world.as_teller("release", ALICE, ALICE, amount, 0, 0, token, 0, BOB)
    world.as_timelock("set_teller", TELLER, 100, 0)
    assert world.vault.call("flow_room", TELLER)[::direction] == (0, 5 * PERCENT)
