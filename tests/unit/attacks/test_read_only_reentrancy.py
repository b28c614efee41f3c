"""In the middle of a transaction of the vault, an executor or a token with a hook reads what the vault is worth.

Whoever believed it, a lender, another pool, would price shares by a vault whose tokens are on their way: at most the
whole trade, a tenth of NAV here, would be missing. So every view that prices is locked; all others tell what no
transaction changes half-way.
"""

import pytest

from tests.unit.attacks.doors import DOORS, FLOWS, OPEN, VIEWS, Den


@pytest.mark.parametrize("transaction", ["rebalance", "redeem_in_kind", "mint_in_kind", "release"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_that_prices_is_locked(view, transaction):
    den = Den()
    den.prepare(view)
    assert den.works()
    assert den.works_within(transaction) == (view in OPEN)
    assert den.works()


def test_every_function_is_looked_at():
    assert set(VIEWS) | set(FLOWS) == set(DOORS)
    assert set(DOORS) >= OPEN
