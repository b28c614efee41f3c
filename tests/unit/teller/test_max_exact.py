"""`maxDeposit` beside the largest supply, in an asset so cheap that a unit of a share is many of its own."""

from tests.support.world import ALICE, BOB, WAD
from tests.unit.teller.stage import MAX_SUPPLY, STOCK, Desk


def test_deposits_up_to_the_largest_supply_to_the_unit(desk: Desk) -> None:
    desk.world.mint(ALICE, MAX_SUPPLY - desk.vault.call("totalSupply") - 100 * WAD)
    desk.world.set_price(STOCK, 1)
    state = desk.state(STOCK)
    assert MAX_SUPPLY - state.supply == 100 * WAD
    most = 100 * WAD * state.nav // state.supply * state.scale // state.price
    assert desk.call("maxDeposit", BOB, teller=STOCK) == most
    assert (100 * WAD - 1) * state.nav // state.supply * state.scale // state.price < most
