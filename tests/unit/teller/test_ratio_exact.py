"""`convertTo*` of numbers so large that a product just is a number, or just is none."""

from __future__ import annotations

from tests.support.world import WAD
from tests.unit.teller.stage import MAX, Desk


def test_the_largest_product_that_is_a_number_is_exact(desk: Desk) -> None:
    """One share unit more and the quotient comes first, which is less."""
    state = desk.state()
    shares = MAX // state.nav
    assert MAX // shares == state.nav and shares % state.supply > 0
    exact = shares * state.nav // state.supply * state.scale // state.price
    assert desk.call("convertToAssets", shares) == exact
    less = (shares + 1) // state.supply * state.nav * state.scale // state.price
    assert desk.call("convertToAssets", shares + 1) == less < exact


def test_the_largest_quotient_whose_product_is_a_number(desk: Desk) -> None:
    """One share more and the answer is the greatest number, of which the asset's price is taken."""
    for index, price in enumerate(desk.world.prices):
        desk.world.set_price(index, 2 * price)
    state = desk.state()
    assert state.nav == 2 * state.supply
    shares = MAX // state.nav * state.supply
    worth = MAX // state.nav * state.nav
    assert MAX - worth > WAD
    assert desk.call("convertToAssets", shares) == worth // state.price * state.scale
    assert desk.call("convertToAssets", shares + state.supply) == MAX // state.price * state.scale
