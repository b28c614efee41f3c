"""Over random baskets, drifts, prices, times and budgets: what is quoted is what the vault accepts, never below the
price, as large as an exact calculation allows; and fills in parts and in any order reach what one fill reaches.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from tests.support.evm import Reverted
from tests.unit.auction.stage import BPS, DECAY, GRACE, MANY, MILLION, RECEIVER, START_BPS, WAD, Stage

BASKETS = 40
CASES = 12  # a basket
YEAR = 365 * 86_400


def random_stage(rng: random.Random) -> Stage:
    """2 to 16 assets of any decimals; tolerance 0 half of the time, so that no target may be passed at all."""
    count = rng.choice([2, 2, 3, 4, 8, 16])
    cuts = sorted(rng.randint(0, 10_000) for _ in range(count - 1))
    targets = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    decimals = [rng.choice([2, 6, 8, 18, 18, 24]) for _ in targets]
    # one unit of a token of 2 decimals is worth at most a dollar
    prices = [rng.randint(1, 9) * 10 ** rng.randint(15, 19 if d == 2 else 22) for d in decimals]
    errors = [rng.choice([0, 5, 25, 100]) for _ in targets]
    slippage = sum(sorted(errors)[-2:]) + rng.choice([10, 50, 200])
    tolerance = rng.choice([0, 0, 20, 50])
    return Stage(
        targets,
        decimals,
        prices,
        errors,
        max_slippage_bps=slippage,
        tolerance_bps=tolerance,
        loss_capacity_bps=rng.choice([500, 8_000]),
        loss_refill_bps_per_year=rng.choice([0, 100, 5_000]),
    )


def arrange(rng: random.Random, stage: Stage) -> int:
    """Holdings off target, a session of some age and a used part of the loss budget; the price factor in WAD."""
    nav = 10 ** rng.choice([rng.randint(12, 18), *[rng.randint(22, 28)] * 3])  # at times almost nothing
    far = rng.choice([0.001, 0.05, 0.5, 1.0])
    shares = [bps * (1 + rng.uniform(-far, far)) + rng.uniform(0, 10) for bps in stage.targets_bps]
    stage.hold([nav * int(share * 1e9) // int(sum(shares) * 1e9) for share in shares])
    age = GRACE + rng.choice([0, DECAY // 2, DECAY, DECAY + 1, rng.randint(0, 2 * DECAY)])
    if rng.random() < 0.1:  # the price is exactly the oracle's: neither gain nor loss
        age = GRACE + DECAY * START_BPS // (START_BPS + stage.rules["max_slippage_bps"])
    capacity = stage.rules["loss_capacity_bps"] * BPS
    used = rng.choice(
        [0, 0, capacity // 2, capacity * 99 // 100, capacity - rng.randint(0, 10**10), capacity]
    )
    set_session(stage, stage.evm.now - age, used)
    return stage.factor(age)


def random_size(rng: random.Random, stage: Stage, sell: int) -> int:
    """Mostly all there is, else a part, or as little as the vault's rounding can tell from nothing."""
    whole = stage.balance(sell, stage.vault.address)
    dust = (
        stage.nav() * int(10 ** rng.uniform(0, 6)) // (1_000 * WAD) * stage.scales[sell] // stage.prices[sell]
    )
    return rng.choice([MANY, MANY, rng.randint(1, whole + 1), dust + 1])


def set_session(stage: Stage, opened_at: int, used: int) -> None:
    words, rules, _, _, *rest = stage.settings()
    stage.configure([words, rules, 1 | opened_at << 32, used | stage.evm.now << 128, *rest])


def exact_limits(stage: Stage, sell: int, buy: int, factor: int) -> dict[str, Fraction]:
    """What may be sold, USD WAD without rounding, by each of the three limits."""
    phi = Fraction(factor, WAD)
    nav = stage.nav()
    held = [stage.value(i, amount) for i, amount in enumerate(stage.balances())]
    target = [Fraction(bps, 10_000) for bps in stage.targets_bps]
    surplus = (held[sell] - target[sell] * nav) / (1 + target[sell] * max(phi - 1, 0))
    gap = (target[buy] * nav - held[buy]) / (target[buy] + (1 - target[buy]) * phi)
    used = stage.vault.call("loss_budget_used")
    room = Fraction(stage.rules["loss_capacity_bps"] * BPS - used, WAD) * nav
    errors = [Fraction(error, 10_000) for error in stage.errors_bps]
    cost = max(1 - phi, 0) + errors[sell] + errors[buy] * phi
    return {"surplus": surplus, "gap": gap} | ({"budget": room / cost} if cost else {})


def rounding(stage: Stage, sell: int, buy: int) -> Fraction:
    """What the roundings of one fill may cost in value sold: units of both tokens, and weights' last digits."""
    units = sum(Fraction(stage.prices[i], stage.scales[i]) for i in (sell, buy))
    return 3 * units + Fraction(200 * stage.nav(), WAD) + 10


def answer(function: Callable[..., Any], *args: int) -> Any:
    """What it returns; nothing where nothing is left to fill, or where what was left closed the session."""
    try:
        return function(*args)
    except Reverted as refusal:
        if refusal.reason not in ("nothing to fill", "no session"):
            raise
        return ()


def check_fill(stage: Stage, sell: int, buy: int, factor: int, max_sell: int = MANY) -> str:
    """Quote and fill one pair; what limited it, or "" when there was nothing to fill."""
    limits = exact_limits(stage, sell, buy, factor)
    binding = min(limits, key=lambda name: limits[name])
    slack = rounding(stage, sell, buy)
    offered = answer(stage.quote, sell, buy, max_sell)
    if not offered:
        whole = Fraction(min(max_sell, 10**60) * stage.prices[sell], stage.scales[sell])
        cheap = slack if binding != "budget" else slack * WAD // BPS
        assert min(limits[binding], whole) <= cheap
        return ""
    session, sold, owed = offered
    before, nav_before = stage.balances(), stage.nav()
    used_before = stage.vault.call("loss_budget_used")
    received = stage.balance(sell, RECEIVER)
    assert (session, stage.fill(sell, buy, max_sell)) == (1, (sold, owed))
    after, nav_after = stage.balances(), stage.nav()
    assert [b - a for a, b in zip(after, before, strict=True)] == [
        sold if i == sell else -owed if i == buy else 0 for i in range(len(before))
    ]
    assert stage.balance(sell, RECEIVER) == received + sold

    sold_value = Fraction(sold * stage.prices[sell], stage.scales[sell])
    paid_value = Fraction(owed * stage.prices[buy], stage.scales[buy])
    assert paid_value >= sold_value * Fraction(factor, WAD)
    assert factor >= WAD - stage.rules["max_slippage_bps"] * BPS
    assert (nav_before - nav_after) * 10_000 <= stage.rules["max_slippage_bps"] * (sold_value + 1)
    # no dearer for the filler than the price and the last units, either
    assert paid_value <= (sold_value + 1) * Fraction(factor, WAD) + 1 + Fraction(
        stage.prices[buy], stage.scales[buy]
    )
    used = stage.vault.call("loss_budget_used")
    assert used_before <= used <= stage.rules["loss_capacity_bps"] * BPS

    assert sold_value <= limits[binding]
    if (
        max_sell >= MANY
    ):  # and as much as there was; in the budget a unit of the bought token counts once more
        assert sold_value >= limits[binding] - (slack if binding != "budget" else slack * WAD // BPS)
    return binding


def test_a_quote_is_what_the_vault_accepts_and_all_there_is() -> None:
    met: Counter[str] = Counter()
    for number in range(BASKETS):
        rng = random.Random(number)
        stage = random_stage(rng)
        for case in range(CASES):
            snapshot = stage.evm.snapshot()
            factor = arrange(rng, stage)
            count = len(stage.tokens)
            pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
            for sell, buy in rng.sample(pairs, min(len(pairs), 12)):
                try:
                    met[check_fill(stage, sell, buy, factor, random_size(rng, stage, sell))] += 1
                except (AssertionError, Reverted) as error:
                    raise AssertionError(
                        f"basket {number}, case {case}, {sell} for {buy}: {error}"
                    ) from error
                if stage.vault.call("session")[2]:  # closed
                    break
            stage.evm.revert(snapshot)
    assert set(met) == {"", "surplus", "gap", "budget"}
    assert all(times >= 20 for times in met.values()), met


def exhaust(
    stage: Stage, pairs: list[tuple[int, int]], parts: random.Random | None
) -> dict[tuple[int, int], int]:
    """Fill until nothing is left of any pair, in full or in random parts; what was sold of each."""
    sold = dict.fromkeys(pairs, 0)
    left = list(pairs)
    while left:
        pair = parts.choice(left) if parts else left[0]
        max_sell = MANY
        if parts and parts.random() < 0.7:
            max_sell = stage.balance(pair[0], stage.vault.address) * parts.randint(1, 100) // 1_000
        filled = answer(stage.fill, *pair, max_sell)
        if filled:
            sold[pair] += filled[0]
            if len(stage.tokens) > 2:
                left = list(pairs)  # a fill that gains or loses moves the other assets' weights
        elif max_sell == MANY:
            left.remove(pair)
    return sold


@pytest.mark.parametrize("number", range(12))
def test_fills_in_parts_and_in_any_order_reach_what_whole_ones_reach(number: int) -> None:
    rng = random.Random(number)
    count = (2, 2, 3, 4, 8)[number % 5]
    targets = [10_000 // count] * (count - 1)
    stage = Stage(
        [*targets, 10_000 - sum(targets)],
        [rng.choice([6, 8, 18]) for _ in range(count)],
        [rng.randint(1, 9) * 10 ** rng.randint(17, 21) for _ in range(count)],
        loss_capacity_bps=8_000,
    )
    weights = [rng.choice([rng.uniform(0.6, 0.95), rng.uniform(1.05, 1.4)]) for _ in range(count)]
    weights[0], weights[1] = 0.8, 1.2
    stage.hold([int(MILLION * w / sum(weights)) for w in weights])
    age = GRACE + rng.choice([0, DECAY // 2, DECAY])
    words, rules, _, _, *rest = stage.settings()
    # opened by the calendar: with a tolerance of 0 it stays open to the end
    stage.configure([words, rules, 1 | (stage.evm.now - age) << 32 | 1 << 152, 0, *rest])
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]

    start = stage.evm.snapshot()
    whole = exhaust(stage, pairs, None)
    assert total_drift(stage) <= 1e-6
    order = rng.sample(pairs, len(pairs))
    for parts in (None, rng):
        stage.evm.revert(start)
        start = stage.evm.snapshot()
        filled = exhaust(stage, order, parts)
        assert total_drift(stage) <= 1e-6
        if count == 2:  # with more, what one fill's gain moves past a target is bought back by another
            assert filled[1, 0] * (1 + 1e-9) + 100 >= whole[1, 0]


def total_drift(stage: Stage) -> float:
    nav = stage.nav()
    weights = [stage.value(i, amount) / nav for i, amount in enumerate(stage.balances())]
    return sum(abs(w - bps / 10_000) for w, bps in zip(weights, stage.targets_bps, strict=True))
