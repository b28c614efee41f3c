"""The router's numbers: pools as segments of one shape, split at equal marginal prices in closed form.

With μ = 1 / √(marginal price, units out a unit in, fee taken), any stretch of a pool of constant liquidity L that keeps
the share γ of what comes in is a segment from lo to hi:

    in(μ) = a · (μ − lo)        out(μ) = a · (1/lo − 1/μ)        a = L / √γ,  lo = √(x / (y·γ)) for reserves x, y

A V2 pool is one segment, a V3 pool one for each range between ticks that has liquidity.

- In parallel all run at the same μ: Σ aᵢ·(clip(μ, loᵢ, hiᵢ) − loᵢ) = amount, piecewise linear in μ (`clear`).
- In series, through an intermediate token, μ = μ₁·μ₂ and out₁ = in₂. Then K = a₁/μ₁ + a₂·μ₂ does not change along a
  stretch where a₁ and a₂ do not, and in and out are again those of a segment, with a = a₁·a₂/K and
  μ₁ = (a₁ + a₂·μ) / K (`_series`). So a network of two hops is cleared in closed form too, shared pools included:
  with two hops a pool has only one place in it, as part of one edge.

The optimum is that of Angeris et al., "Optimal Routing for Constant Function Market Makers" (2022); the surplus of a
pool at given prices is its conjugate, the arbitrage problem of Diamandis et al. (2023). Gas makes the choice of legs a
problem of fixed costs, solved by branch and bound on the same dual (`choose`).

Floats: what leaves here is rounded and recomputed in integers by `route`. Edge 0 is direct; edges 2m+1 and 2m+2 lead
into and out of intermediate token m.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
F = TypeVar("F", bound=Callable[..., Any])

ROUNDS, NEWTON = 200, 8  # of `clear`, which needs a handful; after so many every other one bisects
GOLDEN, G = 48, (3 - 5**0.5) / 2  # steps and cut of golden-section searches
EXACT = 1e-12  # relative: bounds closer than this are equal


class Network(NamedTuple):
    """Pools as segments, sorted by edge and, within an edge, by `lo`."""

    a: Floats  # (segments,)
    lo: Floats
    hi: Floats
    pool: Ints  # (segments,) index of the pool it is part of
    first: Ints  # (edges + 1,) where each edge's segments begin
    order: Ints  # (2 · segments,) starts s and ends s + segments by place, edge by edge
    edge: Ints  # (pools,)
    gas: Floats  # (pools,) cost of a leg, units of token_out


class Flows(NamedTuple):
    """What a set of pools does with an amount."""

    mu: float  # of the whole route
    edge_mu: Floats  # (edges,) 0 where the edge leads nowhere
    into: Floats  # (pools,) units of the token that each pool takes
    taken: float  # units of token_in; less than the amount when the pools cannot take it
    paid: float  # units of token_out, before gas


def _compiled(function: F) -> F:
    return cast(F, njit(cache=True, error_model="numpy")(function))


def network(
    rows: list[tuple[float, float, float]], pool: list[int], edge: list[int], gas: list[float]
) -> Network:
    """`rows`: (a, lo, hi) of each segment, `pool`: whose it is; `edge` and `gas` of each pool."""
    table, owners, edges = np.array(rows, dtype=np.float64), np.array(pool), np.array(edge)
    of_segment = edges[owners]
    rank = np.lexsort((table[:, 1], of_segment))
    a, lo, hi = np.ascontiguousarray(table[rank].T)
    owners, of_segment = owners[rank], of_segment[rank]
    count = int(edges.max()) // 2 * 2 + 3
    order = np.lexsort((np.concatenate((lo, hi)), np.concatenate((of_segment, of_segment))))
    first = np.searchsorted(of_segment, np.arange(count + 1))
    return Network(a, lo, hi, owners, first, order, edges, np.array(gas))


@_compiled
def clear(a: Floats, lo: Floats, hi: Floats, count: int, amount: float) -> float:
    """The μ at which the first `count` segments take `amount` together; their greatest hi when they cannot.

    Newton's method on a piecewise linear function ends exactly once it is on the right piece; where gaps in the
    liquidity make it not convex, bisection takes over.
    """
    low, high, mu = np.inf, 0.0, np.inf
    for i in range(count):
        low = min(low, lo[i])
        high = max(high, hi[i])
        alone = lo[i] + amount / a[i]
        if alone <= hi[i]:
            mu = min(mu, alone)  # with others beside it, μ can only be lower
    mu = min(mu, high)
    last_slope, last_base, last_full = -1.0, 0.0, 0.0
    for turn in range(ROUNDS):
        slope, base, full = 0.0, 0.0, 0.0
        for i in range(count):
            if lo[i] < mu:
                if mu < hi[i]:
                    slope += a[i]
                    base += a[i] * lo[i]
                else:
                    full += a[i] * (hi[i] - lo[i])
        if slope == last_slope and base == last_base and full == last_full:
            break
        last_slope, last_base, last_full = slope, base, full
        if slope * mu - base + full < amount:
            low = max(low, mu)
        else:
            high = min(high, mu)
        step = (amount + base - full) / slope if slope > 0 else -1.0
        if step == mu:
            break
        if low < step < high and (turn < NEWTON or turn % 2):
            mu = step
        else:
            mu = np.sqrt(low) * np.sqrt(high)
            last_slope = -1.0
            if not low < mu < high:
                mu = high
                break
    return mu


@_compiled
def _next(net: Network, mask: Flags, at: int, end: int) -> int:
    """The next start or end of a segment of a pool in the mask."""
    size = len(net.a)
    while at < end and not mask[net.pool[net.order[at] % size]]:
        at += 1
    return at


@_compiled
def _place(net: Network, at: int, end: int) -> float:
    if at == end:
        return np.inf
    event = net.order[at]
    size = len(net.a)
    return float(net.lo[event] if event < size else net.hi[event - size])


@_compiled
def _pass(net: Network, mask: Flags, edge: int, at: int, end: int, slope: float) -> tuple[int, float]:
    """Past all starts and ends at one place: where to go on, and the edge's slope from there."""
    place, ended, size = _place(net, at, end), False, len(net.a)
    while at < end and _place(net, at, end) == place:
        event = net.order[at]
        if event < size:
            slope += net.a[event]
        else:
            ended = True
        at = _next(net, mask, at + 1, end)
    if ended:  # a difference would keep the error of what was large
        slope = 0.0
        for s in range(net.first[edge], net.first[edge + 1]):
            if net.lo[s] > place:
                break
            if mask[net.pool[s]] and net.hi[s] > place:
                slope += net.a[s]
    return at, slope


@_compiled
def _series(net: Network, mask: Flags, edge: int, amount: float, pieces: Floats, used: int) -> int:
    """Write the pieces of `edge` then `edge + 1` behind the first `used`; how many there are then.

    pieces[:, p]: a, lo, hi, then a₁, a₂, K, and μ₁ at the start, μ₂ at the end, and the μ₁ where edge 1 goes on.
    """
    begun = used
    end1, end2 = 2 * net.first[edge + 1], 2 * net.first[edge + 2]
    at1 = _next(net, mask, 2 * net.first[edge], end1)
    at2 = _next(net, mask, 2 * net.first[edge + 1], end2)
    mu1 = mu2 = a1 = a2 = taken = 0.0
    while True:
        if a1 == 0.0:
            if at1 == end1:
                mu1 = np.inf
                break
            mu1 = _place(net, at1, end1)
            at1, a1 = _pass(net, mask, edge, at1, end1, a1)
            continue
        if a2 == 0.0:
            if at2 == end2:
                break
            mu2 = _place(net, at2, end2)
            at2, a2 = _pass(net, mask, edge + 1, at2, end2, a2)
            continue
        next1, next2 = _place(net, at1, end1), _place(net, at2, end2)
        room1, room2 = a1 * (1 / mu1 - 1 / next1), a2 * (next2 - mu2)
        k = a1 / mu1 + a2 * mu2
        if room1 <= room2:
            to1, to2 = next1, min(mu2 + room1 / a2, next2)
        else:
            to1, to2 = min(1 / (1 / mu1 - room2 / a1), next1), next2
        if to1 * to2 > mu1 * mu2:
            if used > begun:
                pieces[8, used - 1] = mu1
            pieces[:8, used] = (a1 * a2 / k, mu1 * mu2, to1 * to2, a1, a2, k, mu1, to2)
            taken += pieces[0, used] * (pieces[2, used] - pieces[1, used])
            used += 1
        mu1, mu2 = to1, to2
        if room1 <= room2:
            at1, a1 = _pass(net, mask, edge, at1, end1, a1)
        else:
            at2, a2 = _pass(net, mask, edge + 1, at2, end2, a2)
        if taken > 2 * amount:
            break  # more than could ever go this way
    if used > begun:
        pieces[8, used - 1] = mu1
    return used


@_compiled
def _locate(pieces: Floats, begin: int, end: int, mu: float) -> tuple[float, float]:
    """μ₁ and μ₂ of a series of pieces at the route's μ; between pieces, prices at which neither edge would go on."""
    if begin == end:
        return 0.0, 0.0
    if mu <= pieces[1, begin]:
        return pieces[6, begin], mu / pieces[6, begin]
    last = begin
    for p in range(begin, end):
        if pieces[1, p] < mu:
            last = p
    if mu < pieces[2, last]:
        mu1 = (pieces[3, last] + pieces[4, last] * mu) / pieces[5, last]
    else:
        mu1 = min(mu / pieces[7, last], pieces[8, last])
    return mu1, (pieces[7, last] if mu1 == np.inf else mu / mu1)


@_compiled
def solve(net: Network, mask: Flags, amount: float) -> Flows:
    """The best split of `amount` over the pools in the mask, without regard to gas."""
    size, edges = len(net.a), len(net.first) - 1
    pieces = np.empty((9, 3 * size + 1))
    used = 0
    for s in range(net.first[0], net.first[1]):
        if mask[net.pool[s]]:
            pieces[0, used], pieces[1, used], pieces[2, used] = net.a[s], net.lo[s], net.hi[s]
            used += 1
    begins = np.empty(edges + 1, dtype=np.int64)
    for edge in range(1, edges, 2):
        begins[edge] = used
        used = _series(net, mask, edge, amount, pieces, used)
        begins[edge + 1] = used
    edge_mu, into = np.zeros(edges), np.zeros(len(net.edge))
    edge_mu[0] = np.inf
    if used == 0:
        return Flows(np.inf, edge_mu, into, 0.0, 0.0)
    mu = clear(pieces[0], pieces[1], pieces[2], used, amount)
    full = True
    for p in range(used):
        full = full and pieces[2, p] <= mu
    if full:
        mu = np.inf  # more of token_in is worth nothing
    edge_mu[0] = mu
    for edge in range(1, edges, 2):
        edge_mu[edge], edge_mu[edge + 1] = _locate(pieces, begins[edge], begins[edge + 1], mu)
    taken, paid = 0.0, 0.0
    for s in range(size):
        edge = net.edge[net.pool[s]]
        at = min(edge_mu[edge], net.hi[s])
        if mask[net.pool[s]] and at > net.lo[s]:
            part = net.a[s] * (at - net.lo[s])
            into[net.pool[s]] += part
            if edge == 0 or edge % 2 == 1:
                taken += part
            if edge == 0 or edge % 2 == 0:
                paid += net.a[s] * (1 / net.lo[s] - 1 / at)
    return Flows(mu, edge_mu, into, taken, paid)


@_compiled
def _surplus(net: Network, s: int, mu: float) -> float:
    """What a segment pays more than it costs at its edge's μ, units of the token it pays."""
    at = min(mu, net.hi[s])
    if at <= net.lo[s]:
        return 0.0
    return float(net.a[s] * max(1 / net.lo[s] - 1 / at - (at - net.lo[s]) / (mu * mu), 0.0))


@_compiled
def surpluses(net: Network, edge_mu: Floats) -> Floats:
    """What each pool would earn for the route at these prices, units of token_out: its conjugate, gas not paid."""
    earned = np.zeros(len(net.edge))
    for s in range(len(net.a)):
        edge = net.edge[net.pool[s]]
        unit = 1.0 if edge % 2 == 0 else 1 / edge_mu[edge + 1] ** 2
        earned[net.pool[s]] += unit * _surplus(net, s, edge_mu[edge])
    return earned


@_compiled
def prices(net: Network, flows: Flows) -> Floats:
    """The μ of every edge; for an intermediate token that the flows leave out, as if its pools were all there.

    Where pools lead only into a token, or only out of it, a price at which they earn nothing.
    """
    edge_mu = flows.edge_mu.copy()
    everything = np.ones(len(net.edge), dtype=np.bool_)
    for edge in range(1, len(edge_mu), 2):
        if edge_mu[edge] == 0.0:
            width = 2 * (net.first[edge + 2] - net.first[edge]) + 1
            pieces = np.empty((9, width))
            found = _series(net, everything, edge, np.inf, pieces, 0)
            edge_mu[edge], edge_mu[edge + 1] = _locate(pieces, 0, found, flows.mu)
            if found == 0:
                begin = net.first[edge + 1]
                edge_mu[edge + 1] = net.lo[begin] if begin < net.first[edge + 2] else np.inf
    return edge_mu


@_compiled
def _value(net: Network, flows: Flows, amount: float) -> float:
    """Paid net of gas; worth nothing when the amount is not taken whole."""
    if flows.taken < amount * (1 - 1e-9):
        return -np.inf
    worth = flows.paid
    for i in range(len(net.edge)):
        if flows.into[i] >= 0.5:
            worth -= net.gas[i]
    return worth


@_compiled
def _gains(net: Network, flows: Flows) -> Floats:
    """Surplus less gas of each pool at the prices of these flows."""
    gains: Floats = surpluses(net, prices(net, flows)) - net.gas
    return gains


@_compiled
def choose(net: Network, amount: float, nodes: int) -> Flows:
    """The flows, over the best choice of pools, that pay most net of gas.

    Exact unless branch and bound meets more than `nodes` nodes. When the pools cannot take the amount, all are used.
    """
    flows = solve(net, np.ones(len(net.edge), dtype=np.bool_), amount)
    if _value(net, flows, amount) == -np.inf or net.gas.max() <= 0.0:
        return flows
    return _branch(net, amount, nodes, _prefixes(net, amount, flows))


@_compiled
def _prefixes(net: Network, amount: float, flows: Flows) -> Flows:
    """The best of `flows` and of every prefix of the pools, sorted by surplus less gas; again from what that found."""
    best = _value(net, flows, amount)
    for _ in range(2):
        trial = np.zeros(len(net.edge), dtype=np.bool_)
        for i in np.argsort(-_gains(net, flows)):
            trial[i] = True
            tried = solve(net, trial, amount)
            worth = _value(net, tried, amount)
            if worth > best:
                best, flows = worth, tried
    return flows


@_compiled
def _branch(net: Network, amount: float, nodes: int, flows: Flows) -> Flows:
    """Branch and bound from `flows`. A node keeps some pools, leaves some out and has not decided on the others."""
    count, best = len(net.edge), _value(net, flows, amount)
    base, at_best = amount / flows.mu**2, _gains(net, flows)
    stack = np.zeros((count + 2, count), dtype=np.int8)  # 1 kept, -1 left out, 0 not decided
    depth = 1
    for _ in range(nodes):
        if depth == 0:
            break
        depth -= 1
        state = stack[depth]
        if _most(base, at_best, state) <= best + EXACT * abs(best):
            continue
        tried = solve(net, state >= 0, amount)
        worth = _value(net, tried, amount)
        if worth == -np.inf:
            continue
        if worth > best:
            best, flows = worth, tried
            base, at_best = amount / flows.mu**2, _gains(net, flows)
        gains, weakest = _gains(net, tried), -1
        for i in range(count):
            if state[i] == 0 and tried.into[i] > 0 and (weakest < 0 or gains[i] < gains[weakest]):
                weakest = i
        bound = _most(amount / tried.mu**2, gains, state)
        if bound <= best + EXACT * abs(best) or weakest < 0:
            continue
        stack[depth + 1] = state
        stack[depth, weakest] = 1
        stack[depth + 1, weakest] = -1
        depth += 2
    return flows


@_compiled
def _most(base: float, gains: Floats, state: NDArray[np.int8]) -> float:
    """No choice below a node pays more: λ·amount + Σ kept gains + Σ undecided max(0, gains), at any prices."""
    total = base
    for i in range(len(gains)):
        if state[i] == 1 or (state[i] == 0 and gains[i] > 0):
            total += gains[i]
    return total


@_compiled
def _earned(net: Network, edge: int, mu: float, unit: float, earned: Floats) -> tuple[float, float]:
    """Of an edge's pools, surplus less gas: the sum of what is positive, and the greatest. `earned`: scratch."""
    segments = range(net.first[edge], net.first[edge + 1])
    for s in segments:
        earned[net.pool[s]] = -net.gas[net.pool[s]]
    for s in segments:
        earned[net.pool[s]] += unit * _surplus(net, s, mu)
    total, top = 0.0, -np.inf
    for s in segments:
        total += max(earned[net.pool[s]], 0.0)
        top = max(top, earned[net.pool[s]])
        earned[net.pool[s]] = -np.inf  # counted
    return total, top


@_compiled
def _through(net: Network, edge: int, mu: float, mu2: float, earned: Floats) -> tuple[float, float]:
    """What an intermediate token adds to the bound, and what it adds to be used at all (0 or less)."""
    one, top1 = _earned(net, edge, mu / mu2, 1 / mu2**2, earned)
    two, top2 = _earned(net, edge + 1, mu2, 1.0, earned)
    return one + two, min(top1, 0.0) + min(top2, 0.0)


@_compiled
def _dual(net: Network, mu: float, amount: float, edge_mu: Floats, search: bool) -> float:
    """The certificate's bound at λ = 1/μ². With `search`, `edge_mu` is set to the tokens' best prices."""
    earned = np.empty(len(net.edge))
    total, top = _earned(net, 0, mu, 1.0, earned)
    must = min(top, 0.0)
    edge_mu[0] = mu
    for edge in range(1, len(edge_mu), 2):
        begin1, begin2, end2 = net.first[edge], net.first[edge + 1], net.first[edge + 2]
        if begin1 == begin2 or begin2 == end2:
            continue
        if search:
            low, high = net.lo[begin2], max(mu / net.lo[begin1], net.lo[begin2])
            for _ in range(GOLDEN):
                left, right = low ** (1 - G) * high**G, low**G * high ** (1 - G)
                one, two = _through(net, edge, mu, left, earned), _through(net, edge, mu, right, earned)
                if one[0] + one[1] <= two[0] + two[1]:
                    high = right
                else:
                    low = left
            edge_mu[edge], edge_mu[edge + 1] = mu / low, low
        adds, needs = _through(net, edge, mu, edge_mu[edge + 1], earned)
        total += adds
        must = max(must, needs)
    return total + must + amount / mu**2


@_compiled
def tighten(net: Network, flows: Flows, amount: float) -> Floats:
    """The μ of every edge at which the certificate's bound is least. The bound is convex in the prices."""
    edge_mu = prices(net, flows)
    if flows.mu == np.inf or net.gas.max() <= 0.0:
        return edge_mu
    least = _dual(net, flows.mu, amount, edge_mu, False)
    if least <= _value(net, flows, amount) * (1 + EXACT):
        return edge_mu
    low, high = np.inf, 2 * flows.mu
    for edge in range(0, len(edge_mu), 2):
        if net.first[edge] < net.first[edge + 1]:
            start = net.lo[net.first[edge]]
            if edge > 0:
                start *= net.lo[net.first[edge - 1]] if net.first[edge - 1] < net.first[edge] else np.inf
            low = min(low, start)
    trial = edge_mu.copy()
    for _ in range(GOLDEN):
        left, right = low ** (1 - G) * high**G, low**G * high ** (1 - G)
        if _dual(net, left, amount, trial, True) <= _dual(net, right, amount, trial, True):
            high = right
        else:
            low = left
    if _dual(net, low, amount, trial, True) < least:
        return trial
    return edge_mu


@_compiled
def alone(net: Network, pool: int, amount: float) -> float:
    """What one pool pays for `amount`, -1 when it cannot take it. Pools round against the trader: never less."""
    left, paid = amount, 0.0
    for s in range(net.first[net.edge[pool]], net.first[net.edge[pool] + 1]):
        if net.pool[s] == pool:
            at = min(net.lo[s] + left / net.a[s], net.hi[s])
            paid += net.a[s] * (at - net.lo[s]) / (net.lo[s] * at)
            left -= net.a[s] * (net.hi[s] - net.lo[s])
            if left <= 0:
                return float(paid)
    return float(paid) if left <= 1e-9 * amount else -1.0


@_compiled
def paths(net: Network, amount: float, widest: int) -> tuple[Floats, Ints, Ints]:
    """Every single path: what it pays net of gas, its first pool and its second or -1; the best first.

    Through one token only the `widest` best pools of the first hop are paired with those of the second.
    """
    count, edges = len(net.edge), len(net.first) - 1
    worth, one, two = [-np.inf], [-1], [-1]
    for i in range(count):
        if net.edge[i] == 0:
            paid = alone(net, i, amount)
            if paid >= 0:
                worth.append(paid - net.gas[i])
                one.append(i)
                two.append(-1)
    for edge in range(1, edges, 2):
        firsts = np.array([i for i in range(count) if net.edge[i] == edge], dtype=np.int64)
        seconds = np.array([i for i in range(count) if net.edge[i] == edge + 1], dtype=np.int64)
        between = np.array([alone(net, i, amount) for i in firsts])
        for f in np.argsort(-between)[:widest]:
            if between[f] <= 0:
                break
            for j in seconds:
                paid = alone(net, j, between[f])
                if paid >= 0:
                    worth.append(paid - net.gas[firsts[f]] - net.gas[j])
                    one.append(firsts[f])
                    two.append(j)
    rank = np.argsort(-np.array(worth))
    return np.array(worth)[rank], np.array(one)[rank], np.array(two)[rank]
