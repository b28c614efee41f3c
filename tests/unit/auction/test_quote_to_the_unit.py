"""The quote is the formulas of docs/spec.md, Auction, to the last unit: each rounding has its direction."""

from __future__ import annotations

import random

from tests.unit.auction.stage import BPS, MANY, WAD, Stage
from tests.unit.auction.test_fill_properties import answer, arrange, random_size, random_stage

BASKETS, CASES = 60, 6


def up(x: int, y: int) -> int:
    """x / y, rounded up."""
    return -(-x // y)


def by_the_spec(stage: Stage, sell: int, buy: int, factor: int, max_sell: int, aside: int) -> tuple[int, ...]:
    """What is sold and owed; nothing where nothing is left to fill."""
    counted = [i for i in range(len(stage.tokens)) if i != aside]
    held = {i: stage.value(i, stage.balance(i, stage.vault.address)) for i in counted}
    whole = sum(stage.targets_bps[i] for i in counted)
    t_s, t_b = (stage.targets_bps[i] * WAD // whole for i in (sell, buy))
    p_s, p_b, scale_s, scale_b = (of[i] for of in (stage.prices, stage.scales) for i in (sell, buy))
    e_s, e_b = (stage.errors_bps[i] * BPS for i in (sell, buy))
    nav, unit = sum(held.values()), up(p_b, scale_b) + 1

    surplus = (held[sell] - up(nav * (t_s + 1), WAD)) * WAD // (WAD + up(t_s * max(factor - WAD, 0), WAD))
    gap = (nav * t_b // WAD - held[buy] - unit) * WAD // (t_b + up((WAD - t_b) * factor, WAD))
    value = min(surplus, gap)
    if cost := max(WAD - factor, 0) + e_s + up(e_b * factor, WAD):
        room = stage.rules["loss_capacity_bps"] * BPS - stage.vault.call("loss_budget_used") - 1
        value = min(value, (max(room, 0) * nav - e_b * unit) // cost)
    sold = min(max_sell, max(value, 0) * scale_s // p_s)
    value = up(sold * p_s, scale_s)
    if value * WAD <= 100 * nav:
        return ()
    return sold, up(up(value * factor, WAD) * scale_b, p_b)


def test_over_random_baskets() -> None:
    quoted = 0
    for number in range(BASKETS):
        rng = random.Random(number)
        stage = random_stage(rng)
        count = len(stage.tokens)
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
        for _ in range(CASES):
            factor = arrange(rng, stage)
            snapshot = stage.evm.snapshot()
            aside = count
            if count > 2 and rng.random() < 0.3:
                aside = rng.choice([i for i in range(count) if stage.targets_bps[i] < 10_000])
                stage.quarantine(aside)
            for sell, buy in rng.sample(pairs, min(len(pairs), 12)):
                if aside in (sell, buy):
                    continue
                max_sell = rng.choice([MANY, random_size(rng, stage, sell)])
                wanted = by_the_spec(stage, sell, buy, factor, max_sell, aside)
                found = answer(stage.quote, sell, buy, max_sell)
                assert tuple(found[1:]) == wanted, (number, sell, buy)
                quoted += bool(wanted)
            stage.evm.revert(snapshot)
    assert quoted > 200
