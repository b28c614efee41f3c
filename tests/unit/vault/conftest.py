import pytest

from tests.support.world import ALICE, WAD, World
from tests.unit.vault.support import ODD, SHARES, OpenWorld


@pytest.fixture(autouse=True)
def isolation() -> None:
    """Each test has a chain of its own."""


@pytest.fixture
def world() -> World:
    """A vault with a fee of 1 %; ALICE holds SHARES."""
    made = World(fee_bps=100)
    made.mint(ALICE, SHARES)
    return made


@pytest.fixture
def odd_world(world: World) -> World:
    """The same ten days on, with balances and a supply that divide nothing."""
    world.sleep(ODD)
    world.set_balances([balance + 7_919 for balance in world.balances()])
    return world


@pytest.fixture
def open_world() -> OpenWorld:
    """A vault whose timelock does what anyone says; ALICE holds SHARES."""
    made = OpenWorld()
    made.mint(ALICE, SHARES)
    assert made.vault.call("balanceOf", ALICE) == SHARES == 100 * WAD
    return made
