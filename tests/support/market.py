"""Random vaults and Uniswap pools as the planner sees them: V2 and V3, ticks, empty ranges, direct and indirect."""

from __future__ import annotations

import random
from dataclasses import replace
from math import isqrt, log
from typing import Any

from offchain import policy
from offchain.planner import Pool, Problem, V2Pool, V3Pool
from offchain.planner.pools import sqrt_ratio_at_tick, tick_at_sqrt_ratio
from offchain.policy import DAY, WAD, Asset, Mode, Rules, Session, VaultState

NOW = 1_700_000_000
EXECUTOR = "0x" + "ee" * 20
SPACING = {100: 1, 500: 10, 3_000: 60, 10_000: 200}


def address(kind: str, number: int) -> str:
    return f"0x{kind}{number:038x}"


def v3_state(
    rng: random.Random, fee: int, sqrt_price: int, liquidity: int, ranges: int, gaps: bool
) -> tuple[int, list[tuple[int, int, int]]]:
    """(tick, positions (lower, upper, liquidity)) around a price; some of the ranges nested, some with gaps."""
    spacing = SPACING[fee]
    tick = tick_at_sqrt_ratio(sqrt_price)
    width = max(int(log(1 + rng.uniform(0.002, 0.2)) / log(1.0001)) // spacing, 2)
    home = tick // spacing
    positions = [((home - width) * spacing, (home + width) * spacing, liquidity)]
    for _ in range(ranges):
        middle = home + rng.randint(-2 * width, 2 * width)
        half = rng.randint(1, width)
        positions.append(
            ((middle - half) * spacing, (middle + half) * spacing, liquidity * rng.randint(1, 30) // 10)
        )
    if gaps:
        far = home + rng.choice((-1, 1)) * 3 * width
        positions.append((far * spacing, (far + width) * spacing, liquidity))
    return tick, positions


def v3_pool(
    where: str,
    token0: str,
    token1: str,
    fee: int,
    sqrt_price: int,
    tick: int,
    positions: list[tuple[int, int, int]],
) -> V3Pool:
    nets: dict[int, int] = {}
    for lower, upper, liquidity in positions:
        nets[lower] = nets.get(lower, 0) + liquidity
        nets[upper] = nets.get(upper, 0) - liquidity
    ticks = tuple(sorted((t, net) for t, net in nets.items() if net))
    live = sum(liquidity for lower, upper, liquidity in positions if lower <= tick < upper)
    return V3Pool(where, token0, token1, fee, SPACING[fee], sqrt_price, tick, live, ticks)


def random_problem(
    seed: int,
    *,
    assets: int = 0,
    pools: int = 0,
    gas: bool = False,
    covariance: bool = False,
    noise: float = 0.0005,
    **options: Any,
) -> Problem:
    """A vault out of balance among pools priced about as the oracle says (`noise`: relative error)."""
    rng = random.Random(seed)
    n = assets or rng.randint(2, 8)
    count = pools or rng.randint(n, 5 * n)
    extra = rng.randint(0, 2)
    decimals = [rng.choice((6, 8, 18)) for _ in range(n + extra)]
    prices = [int(WAD * 10 ** rng.uniform(-2, 4)) for _ in range(n + extra)]
    tokens = [address("aa", i + 1) for i in range(n + extra)]
    cut = sorted(rng.sample(range(200, 9800), n - 1))
    targets = [b - a for a, b in zip([0, *cut], [*cut, 10_000], strict=True)]
    wealth = 10 ** rng.uniform(3, 7)
    dollars = [wealth * t / 10_000 * rng.uniform(0.6, 1.4) for t in targets]
    listed = tuple(
        Asset(tokens[i], decimals[i], targets[i], 500, 2500, 0, 10_000, rng.choice((10, 25, 50)))
        for i in range(n)
    )
    balances = tuple(int(dollars[i] * WAD * 10 ** decimals[i] / prices[i]) for i in range(n))
    rules = Rules(
        Mode.THRESHOLD,
        0,
        1,
        NOW,
        DAY,
        0,
        rng.choice((120, 200, 300)),
        rng.choice((30, 100, 1000)),
        100,
        rng.choice((0, 20, 50)),
        1000,
        100,
    )
    state = VaultState(
        listed, rules, Session(), balances, tuple(prices[:n]), (0,) * n, WAD, NOW, vault="0x" + "01" * 20
    )
    found = [_random_pool(rng, k, tokens, decimals, prices, n, wealth, noise) for k in range(count)]
    if gas:
        options["gas_price"] = int(WAD * 10 ** rng.uniform(-7, -4.5))  # 0.03 to 10 USD a leg
    if covariance:
        factors = [[rng.gauss(0, 0.3) for _ in range(3)] for _ in range(n)]
        rows = [
            [sum(a * b for a, b in zip(f, g, strict=True)) + 0.01 * (f is g) for g in factors]
            for f in factors
        ]
        options["covariance"] = tuple(tuple(int(x * WAD) for x in row) for row in rows)
        options.setdefault("risk_aversion", 10 * WAD)
    return Problem(state, tuple(found), EXECUTOR, tokens[0], NOW, **options)


def _random_pool(
    rng: random.Random,
    k: int,
    tokens: list[str],
    decimals: list[int],
    prices: list[int],
    n: int,
    wealth: float,
    noise: float,
) -> Pool:
    a, b = rng.sample(range(len(tokens)), 2) if rng.random() < 0.5 else (0, rng.randrange(1, len(tokens)))
    if int(tokens[a], 16) > int(tokens[b], 16):
        a, b = b, a
    depth = wealth * 10 ** rng.uniform(-1, 2)  # USD on each side
    error = 1 + rng.gauss(0, noise)
    units = [depth * WAD * 10 ** decimals[i] / prices[i] for i in (a, b)]
    held = max(int(units[0]), 10), max(int(units[1] * error), 10)
    if rng.random() < 0.5:
        return V2Pool(address("b2", k + 1), tokens[a], tokens[b], rng.choice((5, 30, 30, 100)), *held)
    fee = rng.choice(tuple(SPACING))
    sqrt_price = isqrt(held[1] * 2**192 // held[0])
    liquidity = isqrt(held[0] * held[1]) * rng.randint(2, 40)
    tick, positions = v3_state(rng, fee, sqrt_price, liquidity, rng.randint(0, 6), rng.random() < 0.3)
    return v3_pool(address("b3", k + 1), tokens[a], tokens[b], fee, sqrt_price, tick, positions)


def spent_budget(problem: Problem, left_bps: float) -> Problem:
    """The same with nearly all of the loss budget used."""
    capacity = problem.state.rules.loss_capacity_bps * policy.BPS_IN_WAD
    used = max(capacity - int(left_bps * policy.BPS_IN_WAD), 0)
    return replace(problem, state=replace(problem.state, loss_used=used, loss_time=NOW))


__all__ = ["EXECUTOR", "NOW", "random_problem", "spent_budget", "sqrt_ratio_at_tick", "v3_pool", "v3_state"]
