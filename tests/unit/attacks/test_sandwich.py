"""Somebody moves the pair's price before the keeper's trade and back after it, and keeps the difference.

A real Uniswap V2 pair. The keeper's `min_out` bounds what can be taken from a trade to the part it allows; where the
keeper asks for nothing, the vault's own slippage limit, 120 bps of what is sold, bounds it still.
"""

import pytest

from tests.support.evm import Reverted
from tests.support.world import STRANGER, WAD, reverts
from tests.unit.attacks.market import CASH, NAV, STOCK, Market
from tests.unit.attacks.wealth import value, wealth

FUNDS = [50_000_000 * WAD, 0]


@pytest.fixture
def market() -> Market:
    market = Market()
    market.give(STRANGER, FUNDS)
    return market


def sandwich(market: Market, front: int, min_out: int) -> tuple[int, int]:
    """What the vault lost against the pair's honest price, and the attacker's profit; USD WAD."""
    honest, sold = market.quote(market.excess), market.excess
    before, stock = wealth(market, STRANGER), market.balances()[STOCK]
    bought = market.swap(STRANGER, CASH, front)
    market.trade(sold, min_out)
    market.swap(STRANGER, STOCK, bought)
    got = market.balances()[STOCK] - stock
    return value(market, [0, honest - got]), wealth(market, STRANGER) - before


def largest_front(market: Market, min_out: int) -> int:
    """The most that the attacker can put before the trade without it reverting, by bisection; in thousands."""
    low, high = 0, FUNDS[CASH]
    while high - low > 1_000 * WAD:
        middle = (low + high) // 2
        before = market.evm.snapshot()
        try:
            sandwich(market, middle, min_out)
            low = middle
        except Reverted:
            high = middle
        market.evm.revert(before)
    return low


@pytest.mark.parametrize("allowed_bps", [1, 10, 50])
def test_takes_no_more_than_the_minimum_allows(market: Market, allowed_bps):
    """The attacker finds the best front run that the trade still passes: it takes at most what the keeper gave up."""
    sold, honest = market.excess, market.quote(market.excess)
    min_out = honest * (10_000 - allowed_bps) // 10_000
    front = largest_front(market, min_out)
    lost, profit = sandwich(market, front, min_out)
    assert lost <= value(market, [0, honest * allowed_bps // 10_000 + 2])
    assert profit <= lost
    assert lost <= sold * allowed_bps // 10_000


def test_a_front_run_beyond_the_minimum_stops_the_trade(market: Market):
    honest = market.quote(market.excess)
    with reverts("leg paid too little"):
        sandwich(market, NAV * WAD, honest * 9_950 // 10_000)
    assert market.balances() == [560_000 * WAD, 220_000 * WAD]


def test_without_a_minimum_the_slippage_limit_holds(market: Market):
    """A careless or bribed keeper: 1.2 % of the 60 thousand USD sold, 720 USD, is the most that can be missing."""
    sold = market.excess
    with reverts("loss above slippage"):
        sandwich(market, NAV * WAD, 0)
    market = Market()
    market.give(STRANGER, FUNDS)
    front = largest_front(market, 0)
    nav = value(market, market.balances())
    _, profit = sandwich(market, front, 0)
    lost = nav - value(market, market.balances())
    assert sold * 110 // 10_000 < lost <= sold * 120 // 10_000
    assert profit < lost


def test_the_neighbour_trades_unharmed(market: Market):
    sold = market.excess
    market.trade(sold, market.quote(sold))
    assert market.excess < 1_000 * WAD
