"""The joint problem: which assets, how much and through which pools, solved at once and with a proof.

With the vault's NAV as unit and x the value change of each asset, the relaxed problem (amounts continuous, no gas) is

    minimise    ½ (d + x)ᵀ Q (d + x) − slopeᵀ x
    subject to  x = the pools' net payments,   lower ≤ x ≤ upper,
                rowsᵏ · x ≤ roomᵏ + slackᵏ, a unit of slackᵏ costing priceᵏ (infinite: a hard rule),
                every other token nets to 0,

d: weights less targets; Q: aversion times the covariance or the identity; slope: 1, less or more the tax. The vault's
rules are linear in x because their direction is given: an overweight asset can only be sold.

**Pools.** A V2 pool, and each tick range of a V3 pool, is one *segment* a direction: selling moves the square root of
its price from `start` down to y ≥ `end`, takes depth (1/y − 1/start) / keep and pays depth (start − y), `keep` being 1
less the fee. Square roots of prices are in units of the oracle's, so about 1.

**Dual decomposition** (Angeris et al. 2022, *Optimal Routing for Constant Function Market Makers*; Diamandis et al.
2023, *An Efficient Algorithm for Optimal Routing Through Constant Function Market Makers*). Given a value ν of each
token and μ of each row, everything separates: a segment stops at y = sqrt(νᵢₙ / (keep · νₒᵤₜ)), and the basket solves a
quadratic over a box. The sum is a convex, continuously differentiable function of (ν, μ), at most some 30 numbers,
whatever the number of pools; it is minimised here by a projected semismooth Newton method with a line search. At the
optimum the trades of all segments match what the basket wants, so every path in use has the same marginal price.

**Certificate.** Weak duality: for *any* (ν, μ), minus the dual function is below the optimum. `bound` computes it
from the problem and (ν, μ) alone, in other code than the solver's, and rounds against itself.

Floats: amounts leave this module as proposals; `plan` turns them into integers and asks the vault's rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Market", "Segments", "Solution", "bound", "cost", "is_compiled", "most_gain", "solve"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

MAX_STEPS = 120  # Newton steps; some 10 to 30 are usual
STUCK = 1e-9  # NAV that does not add up: the Newton method did not arrive
HELPERS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8)  # depths in NAV
SMALLEST_PRICE = 1e-6  # of a token, in units of the oracle's


@dataclass(frozen=True, slots=True)
class Segments:
    """s one-way pieces of pools, as arrays (s,)."""

    pool: Indices  # index into the problem's pools
    token_in: Indices
    token_out: Indices
    keep: Vector  # 1 − fee
    depth: Vector  # sqrt of the product of the virtual reserves, in NAV
    start: Vector  # sqrt of the price (value out per value in) before the trade, fee apart
    end: Vector  # lowest that it may fall to, > 0

    def only(self, chosen: NDArray[np.bool_]) -> Segments:
        """Those of the mask (s,)."""
        return Segments(*(getattr(self, name)[chosen] for name in self.__slots__))

    def flows(self, prices: Vector) -> tuple[Vector, Vector]:
        """(value in, value out) of each segment's best trade at token prices ν: closed form."""
        y = np.sqrt(prices[self.token_in] / (self.keep * prices[self.token_out]))
        y = np.clip(y, self.end, self.start)
        return self.depth * (1 / y - 1 / self.start) / self.keep, self.depth * (self.start - y)


@dataclass(frozen=True, slots=True)
class Market:
    """The relaxed problem. Tokens 0..n−1 are the assets, the others only pass through. Values in NAV."""

    tokens: int
    drift: Vector  # (n,) d = w − t
    quadratic: Matrix  # (n, n) Q, symmetric, positive definite
    slope: Vector  # (n,) what a unit of value of the asset is worth: 1, more where selling it is taxed
    lower: Vector  # (n,) of x; 0 where the asset must not be sold
    upper: Vector  # (n,)
    rows: Matrix  # (m, n)
    room: Vector  # (m,)
    price: Vector  # (m,) of a unit of slack; inf: none allowed
    segments: Segments

    @property
    def assets(self) -> int:
        """How many."""
        return len(self.drift)


@dataclass(frozen=True, slots=True)
class Solution:
    """Optimal up to `residual`."""

    prices: Vector  # (tokens,) ν
    multipliers: Vector  # (m,) μ
    value_in: Vector  # (s,) of each segment
    value_out: Vector  # (s,)
    change: Vector  # (n,) x
    residual: float  # largest net amount of a token that does not add up, NAV
    steps: int


def solve(market: Market, guess: Solution | None = None) -> Solution:
    """Minimise the dual function; `guess`: the solution of a similar market with the same tokens and rows.

    Where the Newton method gets stuck, on a flat or kinked dual, it is led there: with pools of no fee and no end
    between all tokens that are exchanged, whose depth is lowered step by step (a homotopy).
    """
    found = _minimise(market, guess)
    if found.residual <= STUCK:
        return found
    led: Solution | None = None
    for depth in HELPERS:
        led = _minimise(_with_helpers(market, depth), led)
    led = _minimise(market, led)
    return min(found, led, key=lambda one: one.residual)


def is_compiled() -> bool:
    """The compiled code is on this machine's disk already; without it the first `solve` takes some ten seconds."""
    return any(Path(_newton.stats.cache_path or ".").glob("joint._newton-*.nbi"))


def _minimise(market: Market, guess: Solution | None) -> Solution:
    m, tokens = len(market.room), market.tokens
    z = np.ones(tokens + m)
    z[tokens:] = 0.0
    if guess is not None:
        z[:tokens], z[tokens : tokens + len(guess.multipliers)] = guess.prices, guess.multipliers
    s = market.segments
    high = np.concatenate([np.full(tokens, 1e6), market.price])
    low = np.concatenate([np.full(tokens, SMALLEST_PRICE), np.zeros(m)])
    z, x, residual, steps = _newton(
        z, low, high, tokens, market.drift, market.quadratic, market.slope, market.lower, market.upper,
        market.rows, market.room, s.token_in, s.token_out, s.keep, s.depth, s.start, s.end,
    )  # fmt: skip
    value_in, value_out = s.flows(z[:tokens])
    return Solution(z[:tokens], z[tokens:], value_in, value_out, x, float(residual), int(steps))


def _with_helpers(market: Market, depth: float) -> Market:
    """The market with a deep pool at the oracle's prices, without fee, between any two tokens that a pool exchanges."""
    s = market.segments
    ends = np.stack([s.token_in, s.token_out], axis=1)
    ends = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
    k = len(ends)
    more = (
        np.full(k, -1), ends[:, 0], ends[:, 1], np.ones(k), np.full(k, depth), np.ones(k), np.full(k, 1e-3)
    )  # fmt: skip
    columns = (getattr(s, name) for name in s.__slots__)
    return replace(
        market, segments=Segments(*(np.concatenate(two) for two in zip(columns, more, strict=True)))
    )


def cost(market: Market, x: Vector) -> float:
    """The objective of value changes x (n,), slack included, less that of no trade at all, both in NAV."""
    return _cost(market, x) - _cost(market, np.zeros(market.assets))


def _cost(market: Market, x: Vector) -> float:
    moved = market.drift + x
    over = np.maximum(market.rows @ x - market.room, 0.0)
    soft = np.isfinite(market.price)
    slack = float(over[soft] @ market.price[soft])
    return float(0.5 * moved @ market.quadratic @ moved - market.slope @ x) + slack


def most_gain(market: Market, prices: Vector) -> float:
    """A number that no trade's Σ x is above, whatever the prices > 0: weak duality again, of the box alone."""
    s, nu = market.segments, np.maximum(prices, SMALLEST_PRICE)
    value_in, value_out = s.flows(nu)
    arbitrage = float(np.sum(nu[s.token_out] * value_out - nu[s.token_in] * value_in))
    kept = 1 - nu[: market.assets]
    return arbitrage + float(np.sum(np.maximum(kept * market.lower, kept * market.upper)))


def bound(market: Market, prices: Vector, multipliers: Vector) -> float:
    """A number that no trade's `cost` is below, whatever the prices > 0 and multipliers (clipped to their range)."""
    mu = np.clip(multipliers, 0.0, market.price)
    nu = np.maximum(prices, SMALLEST_PRICE)
    s = market.segments
    value_in, value_out = s.flows(nu)
    arbitrage = float(np.sum(nu[s.token_out] * value_out - nu[s.token_in] * value_in))
    n = market.assets
    linear = nu[:n] + mu @ market.rows - market.slope

    def gradient(x: Vector) -> Vector:
        return np.asarray(market.quadratic @ (market.drift + x) + linear)

    x = np.zeros(n)
    _box(market.quadratic, linear + market.quadratic @ market.drift, market.lower, market.upper, x)
    moved = market.drift + x
    best = float(0.5 * moved @ market.quadratic @ moved + linear @ x)
    slope = gradient(x)  # the quadratic lies above its tangent: what x may still miss, whoever found it
    missed = float(np.sum(np.minimum(slope * (market.lower - x), slope * (market.upper - x))))
    scale = 1e-12 * (1.0 + float(np.sum(value_out)) + abs(best))  # for the rounding of all these floats
    return best + missed - float(mu @ market.room) - arbitrage - scale - _cost(market, np.zeros(n))


# ---------------------------------------------------------------- compiled


@njit(cache=True)
def _newton(
    z: Any,
    low: Any,
    high: Any,
    tokens: Any,
    drift: Any,
    q: Any,
    slope: Any,
    lower: Any,
    upper: Any,
    rows: Any,
    room: Any,
    tin: Any,
    tout: Any,
    keep: Any,
    depth: Any,
    start: Any,
    end: Any,
) -> Any:
    """Projected Newton (Bertsekas 1982) on the dual function: (z, x, residual, steps)."""
    size, n = len(z), len(drift)
    x = np.zeros(n)
    value, grad, hess = _dual(
        z, tokens, drift, q, slope, lower, upper, rows, room, tin, tout, keep, depth, start, end, x
    )
    deepest = 0.0
    for s in range(len(depth)):
        deepest = max(deepest, depth[s])
    tolerance = 1e-11 + 4e-16 * deepest
    damping = 1e-9
    residual, steps = 0.0, 0
    while steps < MAX_STEPS:
        steps += 1
        free = np.zeros(size, np.bool_)
        residual = 0.0
        for i in range(size):
            blocked = (z[i] <= low[i] and grad[i] > 0) or (z[i] >= high[i] and grad[i] < 0)
            free[i] = not blocked
            if not blocked:
                residual = max(residual, abs(grad[i]))
        if residual <= tolerance:
            break
        step = _direction(hess, grad, free, damping)
        went, length = False, 1.0
        for _ in range(40):
            trial = z.copy()
            for i in range(size):
                trial[i] = min(max(z[i] + length * step[i], low[i]), high[i])
                if i < tokens:  # a price never falls to nothing at once
                    trial[i] = max(trial[i], min(low[i] + 0.2 * (z[i] - low[i]), z[i]))
            v, g, h = _dual(
                trial,
                tokens,
                drift,
                q,
                slope,
                lower,
                upper,
                rows,
                room,
                tin,
                tout,
                keep,
                depth,
                start,
                end,
                x,
            )
            descent = 0.0
            for i in range(size):
                descent += grad[i] * (trial[i] - z[i])
            noise = 1e-16 * (1.0 + abs(value) + deepest * 1e-2)
            if v <= value + 1e-4 * descent or (
                abs(v - value) <= noise and _norm(g, trial, low, high) < residual
            ):
                went = True
                break
            length *= 0.35
        if not went:
            if damping > 1e-2:
                break
            damping *= 100.0
            continue
        damping = max(damping * 0.1, 1e-12) if length > 0.5 else min(damping * 3.0, 1e-3)
        z, value, grad, hess = trial, v, g, h
    value, grad, hess = _dual(
        z, tokens, drift, q, slope, lower, upper, rows, room, tin, tout, keep, depth, start, end, x
    )
    return z, x, _norm(grad, z, low, high), steps


@njit(cache=True)
def _norm(grad: Any, z: Any, low: Any, high: Any) -> Any:
    """Largest component of the projected gradient."""
    worst = 0.0
    for i in range(len(z)):
        if not ((z[i] <= low[i] and grad[i] > 0) or (z[i] >= high[i] and grad[i] < 0)):
            worst = max(worst, abs(grad[i]))
    return worst


@njit(cache=True)
def _direction(hess: Any, grad: Any, free: Any, damping: Any) -> Any:
    """The Newton direction over the free variables, 0 for the others."""
    index = _chosen(free)
    k = len(index)
    a, b = np.zeros((k, k)), np.zeros(k)
    for i in range(k):
        b[i] = -grad[index[i]]
        for j in range(k):
            a[i, j] = hess[index[i], index[j]]
    for i in range(k):
        a[i, i] += damping * (1.0 + a[i, i])
    _solve(a, b)
    step = np.zeros(len(grad))
    for i in range(k):
        step[index[i]] = b[i]
    return step


@njit(cache=True)
def _dual(
    z: Any,
    tokens: Any,
    drift: Any,
    q: Any,
    slope: Any,
    lower: Any,
    upper: Any,
    rows: Any,
    room: Any,
    tin: Any,
    tout: Any,
    keep: Any,
    depth: Any,
    start: Any,
    end: Any,
    x: Any,
) -> Any:
    """The dual function at z = (ν, μ): value, gradient, generalised Hessian. x: warm start in, maximiser out."""
    size, n = len(z), len(drift)
    grad, hess = np.zeros(size), np.zeros((size, size))
    value = 0.0
    for s in range(len(depth)):
        i, o = tin[s], tout[s]
        y2 = z[i] / (keep[s] * z[o])
        if y2 >= start[s] * start[s]:
            continue
        y = np.sqrt(y2)
        inside = y > end[s]
        if not inside:
            y = end[s]
        taken = depth[s] * (start[s] - y) / (y * start[s] * keep[s])
        paid = depth[s] * (start[s] - y)
        value += z[o] * paid - z[i] * taken
        grad[o] += paid
        grad[i] -= taken
        if inside:
            half = 0.5 * depth[s] * y
            hess[o, o] += half / z[o]
            hess[i, i] += half * z[o] / (z[i] * z[i])
            hess[o, i] -= half / z[i]
            hess[i, o] -= half / z[i]
    m = size - tokens
    linear = np.zeros(n)
    for i in range(n):
        linear[i] = z[i] - slope[i]
        for k in range(m):
            linear[i] += z[tokens + k] * rows[k, i]
        for j in range(n):
            linear[i] += q[i, j] * drift[j]
    free = _box(q, linear, lower, upper, x)
    inner = 0.0
    for i in range(n):
        inner += linear[i] * x[i]
        for j in range(n):
            inner += 0.5 * x[i] * q[i, j] * x[j] + 0.5 * drift[i] * q[i, j] * drift[j]
    value -= inner
    for k in range(m):
        value += z[tokens + k] * room[k]
        grad[tokens + k] += room[k]
        for i in range(n):
            grad[tokens + k] -= rows[k, i] * x[i]
    for i in range(n):
        grad[i] -= x[i]
    index = _chosen(free)
    f = len(index)
    if f > 0:  # Pᵀ B⁻¹ P with B the free block of q, P what z adds to x's slope there
        block, pull = np.zeros((f, f)), np.zeros((f, size))
        for a in range(f):
            pull[a, index[a]] = 1.0
            for k in range(m):
                pull[a, tokens + k] = rows[k, index[a]]
            for b in range(f):
                block[a, b] = q[index[a], index[b]]
        _factor(block)
        for i in range(size):
            for a in range(f):
                for b in range(a):
                    pull[a, i] -= block[a, b] * pull[b, i]
                pull[a, i] /= block[a, a]
            for j in range(i + 1):
                for a in range(f):
                    hess[i, j] += pull[a, i] * pull[a, j]
        for i in range(size):
            for j in range(i):  # the segments' part is symmetric, too
                hess[j, i] = hess[i, j]
    return value, grad, hess


@njit(cache=True)
def _chosen(mask: Any) -> Any:
    """The indices of a mask."""
    index = np.zeros(len(mask), np.int64)
    k = 0
    for i in range(len(mask)):
        if mask[i]:
            index[k] = i
            k += 1
    return index[:k]


@njit(cache=True)
def _factor(a: Any) -> Any:
    """The Cholesky factor of a positive definite matrix, into its lower half; a pivot lost to rounding becomes tiny.

    Loops, because numba takes ten seconds to compile a call of its LAPACK.
    """
    for i in range(len(a)):
        for j in range(i + 1):
            left = a[i, j]
            for k in range(j):
                left -= a[i, k] * a[j, k]
            a[i, j] = left / a[j, j] if j < i else np.sqrt(max(left, 1e-15 * a[i, i] + 1e-300))


@njit(cache=True)
def _solve(a: Any, b: Any) -> Any:
    """Solves a x = b for a positive definite matrix, x into b; a is overwritten."""
    _factor(a)
    n = len(b)
    for i in range(n):
        for k in range(i):
            b[i] -= a[i, k] * b[k]
        b[i] /= a[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            b[i] -= a[k, i] * b[k]
        b[i] /= a[i, i]


@njit(cache=True)
def _box(q: Any, c: Any, low: Any, high: Any, x: Any) -> Any:
    """Sets x to the least of ½ xᵀ q x + cᵀ x in the box: by coordinates, then exact. The free set."""
    n = len(c)
    free = np.zeros(n, np.bool_)
    for i in range(n):
        x[i] = min(max(x[i], low[i]), high[i])
    for _ in range(60):
        for _ in range(12):
            moved = 0.0
            for i in range(n):
                slope = c[i]
                for j in range(n):
                    slope += q[i, j] * x[j]
                to = min(max(x[i] - slope / q[i, i], low[i]), high[i])
                moved = max(moved, abs(to - x[i]))
                x[i] = to
            if moved == 0.0:
                break
        f = 0
        for i in range(n):
            free[i] = low[i] < x[i] and x[i] < high[i]
            f += free[i]
        if moved < 1e-15 or f == 0:
            break
        index = _chosen(free)
        a, b = np.zeros((f, f)), np.zeros(f)
        for i in range(f):
            b[i] = -c[index[i]]
            for j in range(n):
                if not free[j]:
                    b[i] -= q[index[i], j] * x[j]
            for j in range(f):
                a[i, j] = q[index[i], index[j]]
        _solve(a, b)
        exact = b
        stays = True
        for i in range(f):
            stays = stays and low[index[i]] <= exact[i] and exact[i] <= high[index[i]]
        if stays:
            for i in range(f):
                x[index[i]] = exact[i]
            good = True
            for i in range(n):
                slope = c[i]
                for j in range(n):
                    slope += q[i, j] * x[j]
                if not free[i]:
                    good = good and (
                        (x[i] <= low[i] and slope >= 0)
                        or (x[i] >= high[i] and slope <= 0)
                        or low[i] == high[i]
                    )
            if good:
                break
    return free
