"""A keeper makes the dearest legal trade whenever one is allowed, for a year, by its own executor; nobody notices.

Two feeds stand off the true prices by all of their declared error, each the way that suits the keeper, so that the
vault sees only a part of the loss. Published bound (docs/security.md): capacity + refill * time, of the vault's value;
here 200 + 400 bps for a year. The market drives the basket out of its band again and again, for nothing.
Measured: 599 bps in 248 trades, of which the vault's own prices show 424.
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.support.evm import Reverted
from tests.support.world import DAY, START, WAD, World
from tests.unit.attacks.wealth import value

YEAR = 365 * DAY
BPS = 10**14
FULL = 10_000  # bps
CAPACITY, REFILL = 200, 400  # bps, and bps a year
ERROR = 25  # bps, of each feed
SLIPPAGE = 120  # bps
CHARGE = (SLIPPAGE + 2 * ERROR) * FULL - ERROR * SLIPPAGE  # of what is sold, bps * bps: loss and errors


class Thief:
    """Counts what it has cost the others, as parts of the value: as the vault sees it, and in truth."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen = self.true = Fraction(0)
        self.trades = 0

    def steal(self, parts: int = 1) -> None:
        """Sell one of so many parts of the excess at all the slippage; if the budget refuses that, what it allows."""
        before = self.world.balances()
        room = CAPACITY * BPS - self.world.vault.call("loss_budget_used") - 10  # roundings
        fits = max(0, room) * sum(before) * FULL**2 // (WAD * CHARGE)
        for sold in ((before[0] - before[1]) // 2 // parts, fits):
            after = [before[0] - sold, before[1] + sold - sold * SLIPPAGE // FULL]
            try:
                self.world.rebalance(after)
            except Reverted as refusal:
                if refusal.reason != "loss budget exceeded":
                    return
            else:
                self.seen += Fraction(sum(before) - sum(after), sum(before))
                self.true += true_loss(before, after)
                self.trades += 1
                return


def true_loss(before: list[int], after: list[int]) -> Fraction:
    """In the true prices: what is sold is worth `ERROR` more than the feed says, what is bought that much less."""
    worth = [balances[0] * (FULL + ERROR) + balances[1] * (FULL - ERROR) for balances in (before, after)]
    return Fraction(worth[0] - worth[1], worth[0])


def out_of_band(world: World, part: int) -> None:
    """The market has made the first token worth `part` % of the vault, at the value that the vault has."""
    nav = value(world, world.balances())
    world.set_balances([nav * part // 100, nav * (100 - part) // 100])


@pytest.fixture
def world() -> World:
    return World((5_000, 5_000), (18,), (1,), mode=1, max_slippage_bps=SLIPPAGE)


def test_costs_no_more_than_the_published_bound(world: World):
    thief = Thief(world)
    while world.evm.now < START + YEAR:
        out_of_band(world, 60)
        thief.steal()
        world.sleep(DAY)
        world.refresh()
    bound = Fraction(CAPACITY + REFILL, FULL)
    assert thief.trades > 100
    assert thief.seen <= bound
    # parts of the value at true prices, which is off the oracle's by the error itself: of second order
    assert thief.true <= bound * Fraction(FULL, FULL - ERROR)
    assert thief.true >= bound * Fraction(
        98, 100
    )  # the bound is no exaggeration: a keeper gets nearly all of it


def test_costs_no_more_than_the_capacity_at_once(world: World):
    """In as many transactions as fit into one block, each finding the worst that a market could do."""
    thief = Thief(world)
    for _ in range(20):
        world.evm.set_time(START)
        out_of_band(world, 90)
        thief.steal(parts=4)  # so that the session stays open
    assert world.evm.now == START
    assert thief.true >= Fraction(CAPACITY, FULL) * Fraction(98, 100)
    assert thief.true <= Fraction(CAPACITY, FULL) * Fraction(FULL, FULL - ERROR)
