"""The planner's problem as arrays: vault rules to rows and boxes, pools to segments, all in units of the NAV."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from offchain import policy
from offchain.errors import PoolError
from offchain.planner.joint import Market, Segments, Vector
from offchain.planner.pools import Q96, Pool, V2Pool, same, stretches
from offchain.planner.problem import BPS, GAS_V2, GAS_V3, Problem, closing_aims, reopen_price
from offchain.policy import WAD

__all__ = ["Reading", "read"]

FLOOR = 1e-4  # a segment ends at the latest where the square root of its price has fallen to this
SAFE_END = 1e-12  # a segment ends this much sooner, so that a rounded amount still fits
RIDGE = 1e-9  # of the largest variance, added to the diagonal: a covariance may be singular


@dataclass(frozen=True, slots=True)
class Reading:
    """The market and what its indices stand for. A *leg* is a pool and a direction: 2 · pool + (0 sells token0)."""

    market: Market
    tokens: tuple[str, ...]  # by index, lower case; the assets first
    unit: Vector  # NAV that one token unit is worth
    leg: np.ndarray  # (segments,) int64
    gas: Vector  # (2 · pools,) NAV of each leg
    rounding: Vector  # (2 · pools,) NAV: a unit of what each leg pays, which rounding may take
    row_names: tuple[str, ...]  # "slippage", "budget", "turnover" or "closing"
    why_not: tuple[str, ...]  # (n,) why an asset cannot be traded at all, "" if it can
    ended: (
        np.ndarray
    )  # (segments,) bool: the leg's last segment, ended by the slippage limit or by what is known


def read(problem: Problem, loss: float = 0.0) -> Reading:
    """`loss`: NAV that the trade is going to lose, as a share; weights after it are measured against what is left.

    Below 0, a gain, which the rules let purchases pass their targets by.
    """
    state = problem.state
    n, nav, aside = len(state.assets), policy.nav(state), policy.aside(state)
    held, weights, targets = policy.values(state), policy.weights(state), policy.targets(state)
    tokens, unit, oracle = _tokens(problem, nav, aside)
    gas = np.array([[GAS_V2 if isinstance(p, V2Pool) else GAS_V3] * 2 for p in problem.pools], dtype=float)
    gas = gas.reshape(-1) * (problem.gas_price / nav)
    segments, legs, ended, unusable = _segments(problem, tokens, unit, oracle, aside)

    drift = np.array([(v * WAD - t * nav) / (WAD * nav) for v, t in zip(held, targets, strict=True)])
    slope = np.ones(n)
    for i, tax in enumerate(problem.tax_per_token):
        if weights[i] > targets[i] and state.prices[i]:
            slope[i] += tax / state.prices[i]
    lower, upper = np.zeros(n), np.zeros(n)
    most = policy.clip_sells(state, state.balances)
    reach = set(segments.token_in.tolist()) | set(segments.token_out.tolist())
    why_not = []
    for i, tolerance in enumerate(policy.tolerances(state)):
        why_not.append(_why_not(problem, i, aside, i in reach, unusable))
        if i == aside or i not in reach:
            continue
        if weights[i] > targets[i]:
            lower[i] = -most[i] * unit[i]
        elif weights[i] < targets[i]:
            upper[i] = max(((targets[i] + tolerance) / WAD + max(-loss, 0)) * (1 - loss) - held[i] / nav, 0.0)
    sign = np.where(drift > 0, -1.0, 1.0)  # of x, where it is not 0

    names, rows, room, price = _rows(problem, sign)
    worst = problem.state.rules.max_slippage_bps / BPS * float(np.sum(np.maximum(drift, 0)))  # NAV to lose
    gain = max(-loss, 0.0)
    for i, limit in enumerate(closing_aims(problem)):
        if i == aside or not reopen_price(problem):
            continue
        lim, t, own = limit / WAD, targets[i] / WAD, np.where(np.arange(n) == i, 1.0, 0.0)
        high = drift[i] + (t + lim) * worst if drift[i] >= 0 else policy.tolerances(state)[i] / WAD + gain
        low = t * gain if drift[i] >= 0 else t * gain - drift[i]
        sides = [(high, own - (t + lim), lim - drift[i]), (low, (t - lim) - own, lim + drift[i])]
        for (
            furthest,
            row,
            left,
        ) in sides:  # of the NAV after, as the vault measures it; only what can be passed
            if furthest > lim:
                names.append("closing")
                rows.append(row)
                room.append(left)
                price.append(reopen_price(problem) / WAD)
    market = Market(
        len(tokens), drift, _quadratic(problem), slope, lower, upper,
        np.array(rows).reshape(len(room), n), np.array(room), np.array(price), segments,
    )  # fmt: skip
    rounding = np.zeros(len(gas))
    rounding[legs] = unit[segments.token_out]
    return Reading(market, tokens, unit, legs, gas, rounding, tuple(names), tuple(why_not), ended)


def _rows(problem: Problem, sign: Vector) -> tuple[list[str], list[Vector], list[float], list[float]]:
    """The rules that bind the whole trade. lost = −Σ x; sold, and traded: sums of |x|."""
    rules, n = problem.state.rules, len(sign)
    ones, sold = np.ones(n), np.where(sign < 0, 1.0, 0.0)
    slippage = max(rules.max_slippage_bps - problem.slippage_margin_bps, 0) / BPS
    error = np.array([a.price_error_bps for a in problem.state.assets]) / BPS * sign
    budget = rules.loss_capacity_bps / BPS - policy.loss_budget_used(problem.state, problem.now) / WAD
    names = ["slippage", "budget", "budget", "turnover"]
    rows = [-ones + slippage * sold, -ones + error, error, sign]
    room = [0.0, max(budget, 0.0), max(budget, 0.0), problem.turnover_cap / WAD]
    return names, rows, room, [np.inf] * len(names)


def _quadratic(problem: Problem) -> np.ndarray:
    n, aversion = len(problem.state.assets), problem.risk_aversion / WAD
    sigma = np.eye(n) if problem.covariance is None else np.array(problem.covariance, dtype=float) / WAD
    return aversion * (sigma + sigma.T) / 2 + np.eye(n) * ridge(problem)


def ridge(problem: Problem) -> float:
    """What `_quadratic` adds to the diagonal."""
    most = 1.0 if problem.covariance is None else max(max(row) for row in problem.covariance) / WAD
    return max(RIDGE * problem.risk_aversion / WAD * most, 1e-12)


def untrimmed(reading: Reading) -> Market:
    """The market with pools that pay at least what they do: not ended early for rounding, nor where all is paid out."""
    s = reading.market.segments
    first = np.zeros(len(reading.gas))
    np.maximum.at(first, reading.leg, s.start)
    end = np.where(reading.ended, s.end * (1 - 2 * SAFE_END), s.end)
    end = np.where(s.end <= first[reading.leg] * FLOOR * 1.001, s.start * FLOOR**3, end)
    return replace(reading.market, segments=replace(s, end=end))


def _why_not(problem: Problem, i: int, aside: int, reached: bool, unusable: list[str]) -> str:
    token = problem.state.assets[i].token
    if i == aside:
        return "in quarantine: not touched"
    if reached:
        return ""
    mine = [p for p in problem.pools if same(token, p.token0) or same(token, p.token1)]
    reasons = sorted({unusable[problem.pools.index(p)] for p in mine} - {""})
    if not mine:
        return "no pool that was read trades it"
    return (
        "none of its pools can be used: " + "; ".join(reasons)
        if reasons
        else "none of its pools leads anywhere"
    )


# ---------------------------------------------------------------- pools


def _tokens(problem: Problem, nav: int, aside: int) -> tuple[tuple[str, ...], Vector, list[bool]]:
    """Tokens by index, NAV per token unit of each, and whether that is the oracle's word (else the deepest pool's)."""
    state = problem.state
    names = [asset.token.lower() for asset in state.assets]
    unit = [p / (a.scale * nav) for a, p in zip(state.assets, state.prices, strict=True)]
    if aside < len(unit):
        unit[aside] = 0.0
    hub = problem.hub.lower()
    if hub and hub not in names and problem.hub_price > 0:
        names.append(hub)
        unit.append(problem.hub_price / (10**problem.hub_decimals * nav))
    oracle = [True] * len(names)
    sides = [(p.token0.lower(), p.token1.lower(), *_reserves(p)) for p in problem.pools]
    while True:  # one ring of tokens further out each time
        found: dict[str, tuple[float, float]] = {}  # value of the known side, NAV per unit
        for a, b, held_a, held_b in sides:
            for known, new, held_known, held_new in ((a, b, held_a, held_b), (b, a, held_b, held_a)):
                if new in names or known not in names or held_known <= 0 or held_new <= 0:
                    continue
                value = held_known * unit[names.index(known)]
                if value > 0:
                    found[new] = max(found.get(new, (0.0, 0.0)), (value, value / held_new))
        if not found:
            return tuple(names), np.array(unit), oracle
        for token, (_, price) in sorted(found.items()):
            names.append(token)
            unit.append(price)
            oracle.append(False)


def _reserves(pool: Pool) -> tuple[float, float]:
    """Token units at the present price; of a V3 pool the virtual ones."""
    if isinstance(pool, V2Pool):
        return float(pool.reserve0), float(pool.reserve1)
    root = pool.sqrt_price_x96 / Q96
    return (pool.liquidity / root, pool.liquidity * root) if root > 0 else (0.0, 0.0)


def _segments(
    problem: Problem, tokens: tuple[str, ...], unit: Vector, oracle: list[bool], aside: int
) -> tuple[Segments, np.ndarray, np.ndarray, list[str]]:
    """The segments, their legs, which of them end for good, and why a pool gives none."""
    limit = problem.pool_limit_bps / BPS if problem.pool_limit_bps < BPS else None
    index = {token: k for k, token in enumerate(tokens)}
    rows: list[tuple[int, int, int, float, float, float, float]] = []
    legs: list[int] = []
    ended: list[bool] = []
    why = [""] * len(problem.pools)
    for m, pool in enumerate(problem.pools):
        zero, one = index.get(pool.token0.lower()), index.get(pool.token1.lower())
        if zero is None or one is None or zero == one:
            why[m] = "no liquidity"
            continue
        if aside in (zero, one):
            why[m] = "its other token is in quarantine"
            continue
        for direction, (i, o) in enumerate(((zero, one), (one, zero))):
            price_limit = limit if oracle[i] and oracle[o] else None
            try:
                pieces = _pieces(
                    pool, pool.token1 if direction else pool.token0, unit[i], unit[o], price_limit
                )
            except PoolError as error:
                why[m] = str(error)
                break
            if not pieces:
                why[m] = why[m] or "no liquidity inside pool_limit_bps"
            for k, (depth, start, end) in enumerate(pieces):
                rows.append((m, i, o, pool.keep, depth, start, end))
                legs.append(2 * m + direction)
                ended.append(k == len(pieces) - 1)
    columns = list(zip(*rows, strict=True)) or [()] * 7
    who = [np.array(column, dtype=np.int64) for column in columns[:3]]
    what = [np.array(column, dtype=np.float64) for column in columns[3:]]
    segments = Segments(who[0], who[1], who[2], what[0], what[1], what[2], what[3])
    return segments, np.array(legs, dtype=np.int64), np.array(ended, dtype=bool), why


def _pieces(
    pool: Pool, token_in: str, unit_in: float, unit_out: float, limit: float | None
) -> list[tuple[float, float, float]]:
    """(depth, start, end) of each stretch that selling `token_in` crosses.

    `limit`: the pool is left where its average price, fee included, is this share below the oracle's.
    """
    scale = (unit_out / unit_in) ** 0.5  # from raw to oracle's units
    size = (unit_out * unit_in) ** 0.5
    ranges: list[tuple[float, float, float]] = []
    for depth, start, end in stretches(pool, token_in):
        lowest = (ranges[0][1] if ranges else start * scale) * FLOOR
        if start * scale <= lowest:
            break
        ranges.append((depth * size, start * scale, max(end * scale, lowest)))
    kept = ranges if limit is None else _fair(ranges, pool.keep, 1 - limit)
    if kept:
        depth, start, end = kept[-1]
        end *= 1 + SAFE_END
        kept = [*kept[:-1], (depth, start, end)] if start > end else kept[:-1]
    return kept


def _fair(
    ranges: list[tuple[float, float, float]], keep: float, least: float
) -> list[tuple[float, float, float]]:
    """The ranges as far as the average price, fee included, is at least `least`.

    Inside a range with (taken, paid) before it: paid + D (s − y) = least (taken + D (1/y − 1/s) / keep), the smaller
    root y, the product of the roots being least / keep.
    """
    taken = paid = 0.0
    kept = []
    for depth, start, end in ranges:
        if keep * start * start < least and paid <= least * taken:
            break
        half = (paid - least * taken) / depth + start + least / (keep * start)
        root = half * half - 4 * least / keep
        stop = 2 * least / keep / (half + root**0.5) if root > 0 else start
        if stop >= start:
            break
        kept.append((depth, start, max(end, stop)))
        if stop > end:
            break
        taken += depth * (1 / end - 1 / start) / keep
        paid += depth * (start - end)
    return kept


def keep_legs(reading: Reading, kept: np.ndarray) -> Reading:
    """The same market with only the legs of the mask (2 · pools,)."""
    chosen = kept[reading.leg]
    market = replace(reading.market, segments=reading.market.segments.only(chosen))
    return replace(reading, market=market, leg=reading.leg[chosen], ended=reading.ended[chosen])
