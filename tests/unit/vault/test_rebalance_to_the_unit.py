"""Where a weight or a band does not come out even the last unit of a WAD decides, and its direction is written down."""

from __future__ import annotations

import random
from contextlib import nullcontext
from fractions import Fraction

import pytest

from tests.support.world import GUARDIAN, STRANGER, WAD, World, reverts
from tests.unit.stage import K, Stage, usd


def test_a_weight_is_rounded_down_before_it_is_out_of_band(stage: Stage) -> None:
    """A unit of stock more, and cash is at 55 % less 5e-24: not yet at its band of 5 points."""
    edge = usd(550 * K, 270 * K, 180 * K)
    stage.set_balances([*edge[:2], edge[2] + 1])
    with reverts("no trigger"):
        stage.open_session()
    stage.set_balances(edge)
    stage.open_session()


@pytest.mark.parametrize(("units", "closes"), [(0, True), (1, False)])
def test_half_of_an_odd_band_is_rounded_down(units: int, closes: bool) -> None:
    """In a quarantine of 30 % the first asset's target is 5/7 and its band a quarter of that, an odd number."""
    world = World(decimals=(18,), prices_usd=(1,), mode=1)
    world.delayed("set_bands", [10_000] * 3, [2_500, 2_500, 10_000])
    world.at_once("quarantine", world.tokens[1].address, sender=GUARDIAN)
    target = 10**18 * 5 // 7
    band = target // 4
    assert band % 2 == 1
    world.set_balances([9 * 10**17, 10**18, 10**17])
    world.vault.call("open_session", sender=STRANGER)
    held = target + band // 2 + units
    world.rebalance([held, 10**18, 10**18 - held])
    assert len(world.evm.events("SessionClosed")) == closes


@pytest.mark.parametrize(("units", "reason"), [(0, ""), (1, "bought past target")])
def test_a_quarter_of_an_odd_band_is_rounded_down(units: int, reason: str) -> None:
    """No tolerance is wider than that: here of the second asset, bought while the last is in quarantine."""
    world = World((4_000, 2_000, 1_000, 3_000), (18,), (1,), mode=1, tolerance_bps=1_000)
    world.delayed("set_bands", [10_000] * 4, [1_000, 2_499, 10_000, 2_500])
    world.at_once("quarantine", world.tokens[3].address, sender=GUARDIAN)
    target = 10**18 * 2 // 7
    band = target * 2_499 // 10_000
    assert band % 4 == 3
    held = target + band // 4 + units
    first, bought = 6 * 10**17, 10**17
    rest = 10**18 - first - held
    world.set_balances([first + bought, held - bought, rest, 1])
    with reverts(reason) if reason else nullcontext():
        world.rebalance([first, held, rest, 1])


def test_half_of_what_is_achieved_is_rounded_up() -> None:
    """Cash is sold for coin, from just below coin's target to as far above: only cash comes nearer.

    The first asset's weight falls by what is sold, the second's drift stays: by a unit it is more or less than half of
    what a perfect trade achieves. Of trades a unit apart, refused are those whose drift falls by the quotient rounded
    down.
    """
    world = World(decimals=(18,), prices_usd=(1,), mode=1)
    nav, sold, targets = 10**18 + 9, 4 * 10**15 + 7, (WAD // 2, 3 * WAD // 10)

    def drift(values: tuple[int, int]) -> int:
        return sum(abs(value * WAD // nav - target) for value, target in zip(values, targets, strict=True))

    verdicts = set()
    for nearer in range(-3, 4):
        cash, coin = 57 * 10**16, 3 * nav // 10 - sold // 2 - nearer
        rest = nav - cash - coin
        fall = drift((cash, coin)) - drift((cash - sold, coin + sold))
        exact = Fraction(sold * WAD, nav)
        world.set_balances([cash, coin, rest])
        snapshot = world.evm.snapshot()
        after = [cash - sold, coin + sold, rest]
        if fall < exact:
            with reverts("drift fell too little"):
                world.rebalance(after)
        else:
            world.rebalance(after)
        world.evm.revert(snapshot)
        verdicts.add((fall >= exact, fall == int(exact)))
    assert verdicts >= {(True, False), (False, True)}


def test_sends_what_is_above_the_target_and_no_unit_more() -> None:
    """At prices that divide nothing, in a vault of so little that a unit shows; a perfect trade follows."""
    world = World((5_000, 5_000), (18,), (1,), mode=1)
    for number in range(30):
        rng = random.Random(number)
        snapshot = world.evm.snapshot()
        prices = [rng.randint(WAD // 3, 3 * WAD) for _ in range(2)]
        for index, price in enumerate(prices):
            world.set_price(index, price)
        holds = [
            rng.randint(8, 9) * 10**7 * WAD // prices[0] + rng.randint(0, 99),
            5 * 10**7 * WAD // prices[1],
        ]
        world.set_balances(holds)
        values = [balance * price // WAD for balance, price in zip(holds, prices, strict=True)]
        excess = (values[0] - -(-sum(values) // 2)) * WAD // prices[0]
        world.rebalance([holds[0] - excess, holds[1] + excess * prices[0] // prices[1]])
        assert world.tokens[0].call("balanceOf", world.executor.address) == excess, number
        world.evm.revert(snapshot)
