"""A keeper makes the dearest legal trade whenever one is allowed, for a year, by its own executor; nobody notices.

Two feeds stand off the true prices by all of their declared error, each the way that suits the keeper, so that the
vault sees only a part of the loss. Published bound (docs/security.md): capacity + refill * time, of the vault's value;
here 200 + 400 bps for a year. The market drives the basket out of its band again and again, for nothing.
Measured: 599 bps in 248 trades, of which the vault's own prices show 424.
"""

from __future__ import annotations

from fractions import Fraction

from tests.support.evm import Reverted
from tests.support.world import DAY, START, WAD, World
from tests.unit.attacks.wealth import value

YEAR = 365 * DAY
BPS = 10**14
CAPACITY, REFILL = 200, 400  # bps, and bps a year
ERROR = 25  # bps, of each feed
SLIPPAGE = 120  # bps


def out_of_band(world: World) -> None:
    """The market has made the first token worth 60 % of the vault, at the value that the vault has."""
    nav = value(world, world.balances())
    world.set_balances([nav * 6 // 10, nav * 4 // 10])


def dearest(world: World, sold: int) -> list[int]:
    """Balances after selling `sold` of the first token at all the loss that slippage and what is left allow."""
    cash, stock = world.balances()
    nav, used = cash + stock, world.vault.call("loss_budget_used")
    room = max(0, CAPACITY * BPS - used - 10) * nav // WAD  # charge that is left, in tokens
    # lost + error * (sold + sold - lost) <= room
    lost = min(sold * SLIPPAGE // 10_000, max(0, room * 10_000 - 2 * ERROR * sold) // (10_000 - ERROR))
    return [cash - sold, stock + sold - lost]


def true_loss(before: list[int], after: list[int]) -> Fraction:
    """In the true prices: what is sold is worth `ERROR` more than the feed says, what is bought that much less."""
    high, low = 10_000 + ERROR, 10_000 - ERROR
    worth = [balances[0] * high + balances[1] * low for balances in (before, after)]
    return Fraction(worth[0] - worth[1], worth[0])


def year_of_theft(world: World) -> tuple[Fraction, Fraction, int]:
    """The loss as the oracle sees it and the true one, as parts of the value; and the number of trades."""
    seen = true = Fraction(0)
    trades = 0
    while world.evm.now < START + YEAR:
        before = world.balances()
        sold = (before[0] - before[1]) // 2
        # as much as the charge for the feeds' errors alone leaves room for
        room = CAPACITY * BPS - world.vault.call("loss_budget_used")
        sold = min(sold, room * sum(before) // WAD * 10_000 // (SLIPPAGE + 2 * ERROR))
        if sold > before[0] // 1_000:
            after = dearest(world, sold)
            try:
                world.rebalance(after)
            except Reverted as refusal:
                if refusal.reason != "cooldown not over":
                    raise
            else:
                seen += Fraction(sum(before) - sum(after), sum(before))
                true += true_loss(before, after)
                trades += 1
        world.sleep(DAY)
        world.refresh()
        out_of_band(world)
    return seen, true, trades


def test_costs_no_more_than_the_published_bound():
    world = World((5_000, 5_000), (18,), (1,), mode=1, max_slippage_bps=SLIPPAGE)
    out_of_band(world)
    seen, true, trades = year_of_theft(world)
    bound = Fraction(CAPACITY + REFILL, 10_000)
    assert trades > 100
    assert seen <= bound
    # of value at true prices, which differ from the oracle's by the error itself: a second-order part more
    assert true <= bound * Fraction(10_000, 10_000 - ERROR)
    assert true >= bound * Fraction(98, 100)  # the bound is no exaggeration: a keeper gets nearly all of it


def test_costs_no_more_than_the_capacity_at_once():
    """In one transaction, or in as many as fit into one block."""
    world = World((5_000, 5_000), (18,), (1,), mode=1, max_slippage_bps=SLIPPAGE)
    true = Fraction(0)
    for _ in range(20):
        world.evm.set_time(START)
        nav = value(world, world.balances())
        world.set_balances([nav * 9 // 10, nav // 10])
        before = world.balances()
        room = CAPACITY * BPS - world.vault.call("loss_budget_used")
        sold = min(before[0] // 10, room * nav // WAD * 10_000 // (SLIPPAGE + 2 * ERROR))
        after = dearest(world, sold)
        world.rebalance(after)
        true += true_loss(before, after)
    assert world.evm.now == START
    assert Fraction(CAPACITY * 98 // 100, 10_000) <= true
    assert true <= Fraction(CAPACITY, 10_000) * Fraction(10_000, 10_000 - ERROR)
