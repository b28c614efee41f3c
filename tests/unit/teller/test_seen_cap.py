"""What a vault was last seen to be worth fits its field in whatever asset."""

from tests.support.world import ALICE, GUARDIAN
from tests.unit.teller.stage import STOCK, Desk

MOST = 2**143 - 1


def test_is_capped_where_the_asset_is_worth_next_to_nothing(desk: Desk) -> None:
    """At 1e-18 USD for a stock a hundred million USD are 1e44 of its units."""
    desk.hold([100_000, 0, 0])
    desk.world.set_price(STOCK, 1)
    desk.call("deposit", 10**40, ALICE, teller=STOCK)
    worth = desk.call("totalAssets", teller=STOCK)
    assert worth > MOST
    supply = desk.vault.call("totalSupply")
    desk.world.at_once("pause", sender=GUARDIAN)
    assert desk.call("totalAssets", teller=STOCK) == MOST
    assert desk.call("convertToAssets", supply, teller=STOCK) == MOST
