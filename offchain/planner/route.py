"""The best way to exchange one token for another: over which pools, how much through each, and proof that it is best.

`route(order)` splits an exact input over every direct pool and every path through one intermediate token so that the
most is paid net of gas. Marginal prices are then equal on all paths used; a leg that earns less than its gas is left
out. With two hops a pool serves one edge only (into a token, or out of it), so paths that share a pool are one leg of
their joint amount, and the legs can run in any order that fills an intermediate token before it is sold.

For exchanges outside a vault, such as a zap's (docs/decisions/0014): the keeper's `plan` routes by itself.

The optimum is found in floats (`_segments`) and finished in integers: the legs' inputs sum to the input exactly, what
comes out of each intermediate token's first hop is what its second hop takes, and each leg's output is what the pool
pays for it, to the wei. The best single pool or path is worked out in integers too; the route is never worse.

The certificate bounds what any split can pay, in integers rounded up and from the pools themselves, not from the
optimiser: for prices p ≥ 0 of each token in units of token_out (Lagrange multipliers, p_out = 1)

    paid − gas  ≤  p_in · amount_in + Σ over pools max(0, sup_Δ (p_b · out(Δ) − p_a · Δ) − gas of the leg)

for a pool that is sold token a and pays token b; where no pool on any way from token_in to token_out is worth its gas
at these prices, the least loss of one way is taken off, since one must be used. Without gas the bound is tight but for
rounding. With gas a leg is all or nothing, and a gap can remain: it is about what being undecided on a leg is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, sqrt
from typing import NamedTuple

import numpy as np

from offchain.errors import PlannerError, PoolError
from offchain.planner import _segments as segments
from offchain.planner.pools import MAX_UINT112, PIPS, Q96, Pool, V2Pool, V3Pool, stretches

__all__ = ["Certificate", "Order", "Route", "RouteLeg", "route", "upper_bound"]

WAD = 10**18
MOST = 2**128 - 1  # of an amount: what a leg of the executor can hold
NODES = 2_000  # of branch and bound; all subsets of 8 pools are fewer
WIDEST = 64  # pools of a first hop that are tried with each of the second, for the best single path
FINE = 64  # further bits of a sqrt price in the certificate


@dataclass(frozen=True, slots=True)
class Order:
    """What to exchange and where.

    Gas is paid in another token than token_out: `gas_price` says what a unit of it is worth. With gas at 20 gwei,
    ether at 3,000 USD and a token_out of 1 USD and 6 decimals: 20e-9 · 3,000 · 1e6 · 1e18 = 6e19.
    """

    token_in: str
    token_out: str
    amount_in: int  # token_in units
    pools: tuple[Pool, ...]
    max_hops: int = 2  # 1 or 2
    gas_price: int = 0  # WAD: token_out units a unit of gas, times 1e18
    gas_v2: int = 70_000  # of a SWAP_V2 leg
    gas_v3: int = 90_000  # of a SWAP_V3 leg
    max_legs: int = 100  # a payload of the executor holds 107


class RouteLeg(NamedTuple):
    """One swap. Legs stand in the order in which they run."""

    pool: Pool  # as it was given
    token_in: str
    token_out: str
    amount_in: int  # token_in units
    amount_out: int  # token_out units, exactly what the pool pays


@dataclass(frozen=True, slots=True)
class Certificate:
    """No split pays more than `upper_bound`: `upper_bound(order, prices)` works it out again."""

    prices: tuple[tuple[str, Fraction], ...]  # (token, units of the order's token_out a unit of it)
    upper_bound: int  # token_out units, net of gas
    gap: int  # token_out units: upper_bound less what the route pays net of gas
    relative_gap: float  # of the upper bound


@dataclass(frozen=True, slots=True)
class Route:
    """What to do with an order."""

    legs: tuple[RouteLeg, ...]
    amount_in: int  # token_in units that the legs take: the order's, or less for a reason
    amount_out: int  # token_out units that the legs pay
    gas_cost: int  # token_out units, rounded up
    certificate: Certificate
    reason: str  # why nothing or not all is exchanged, "" otherwise
    skipped: tuple[tuple[str, str], ...] = ()  # pools that were left out as not usable: (address, why)

    @property
    def net(self) -> int:
        """Paid less gas, token_out units; below 0 where the gas is worth more than the trade."""
        return self.amount_out - self.gas_cost


def route(order: Order) -> Route:
    """The split that pays most net of gas; partial or empty with a reason where the pools cannot do more."""
    _check(order)
    market = _Market.of(order)
    while True:
        try:
            return _route(order, market)
        except _UnusableError as found:  # a snapshot that contradicts itself: go on without it
            market = market.without(found.place, str(found))


class _UnusableError(Exception):
    """A pool cannot do what its snapshot promised."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(why)
        self.place = place


def _check(order: Order) -> None:
    if order.token_in.lower() == order.token_out.lower():
        raise PlannerError("token_out: is the same as token_in")
    if order.max_hops not in (1, 2):
        raise PlannerError(f"max_hops: {order.max_hops} is not 1 or 2")
    if min(order.amount_in, order.gas_price, order.gas_v2, order.gas_v3) < 0 or order.max_legs < 2:
        raise PlannerError("amount_in, gas_price, gas_v2, gas_v3: must not be negative; max_legs: at least 2")


# ---------------------------------------------------------------- the market


class _Edge(NamedTuple):
    """A pool's one place in the network."""

    pool: Pool
    token_in: str
    token_out: str
    down: bool  # it sells the pool's token0
    number: int  # 0 direct, 2m + 1 and 2m + 2 into and out of intermediate token m


@dataclass(frozen=True, slots=True)
class _Market:
    """The pools of an order that lead somewhere."""

    edges: tuple[_Edge, ...]
    skipped: tuple[tuple[str, str], ...]

    @staticmethod
    def of(order: Order) -> _Market:
        start, end = order.token_in.lower(), order.token_out.lower()
        edges: list[_Edge] = []
        into: dict[str, list[Pool]] = {}  # by intermediate token
        out: dict[str, list[Pool]] = {}
        for pool in {pool.address.lower(): pool for pool in order.pools}.values():
            zero, one = pool.token0.lower(), pool.token1.lower()
            if {zero, one} == {start, end}:
                edges.append(_Edge(pool, order.token_in, order.token_out, zero == start, 0))
            elif start in (zero, one):
                into.setdefault(one if zero == start else zero, []).append(pool)
            elif end in (zero, one):
                out.setdefault(one if zero == end else zero, []).append(pool)
        if order.max_hops == 2:
            for m, token in enumerate(t for t in into if t in out):
                name = _name_in(into[token][0], token)
                for pool in into[token]:
                    down = pool.token1.lower() == token
                    edges.append(_Edge(pool, order.token_in, name, down, 2 * m + 1))
                for pool in out[token]:
                    down = pool.token0.lower() == token
                    edges.append(_Edge(pool, name, order.token_out, down, 2 * m + 2))
        return _Market(tuple(edges), ())

    def without(self, place: int, why: str) -> _Market:
        gone = self.edges[place]
        return _Market(
            self.edges[:place] + self.edges[place + 1 :], (*self.skipped, (gone.pool.address, why))
        )


def _name_in(pool: Pool, token: str) -> str:
    """The token as the pool spells it."""
    return pool.token0 if pool.token0.lower() == token else pool.token1


def _leg_gas(order: Order, pool: Pool) -> int:
    """WAD of token_out units."""
    return order.gas_price * (order.gas_v2 if isinstance(pool, V2Pool) else order.gas_v3)


def _network(order: Order, market: _Market) -> segments.Network:
    """The pools as segments; `_UnusableError` for one that has none to offer.

    A V3 pool's ranges are read only as far as the amount can carry it.
    """
    rows: list[tuple[float, float, float]] = []
    owner: list[int] = []
    best_into: dict[int, float] = {}  # by edge: most that a first hop can pay a unit
    for place, (pool, token_in, _, _, number) in enumerate(market.edges):
        begun = len(rows)
        rate = best_into.get(number - 1, 0.0) if number and number % 2 == 0 else 1.0
        try:
            _add_segments(pool, token_in, 2 * order.amount_in * rate, rows)
        except (PoolError, ZeroDivisionError, OverflowError) as error:
            raise _UnusableError(place, str(error)) from error
        if len(rows) == begun:
            raise _UnusableError(place, f"pool {pool.address} has no liquidity to sell {token_in} into")
        owner += [place] * (len(rows) - begun)
        best_into[number] = max(best_into.get(number, 0.0), rows[begun][1] ** -2)
    gas = [_leg_gas(order, edge.pool) / WAD for edge in market.edges]
    return segments.network(rows, owner, [edge.number for edge in market.edges], gas)


def _add_segments(pool: Pool, token_in: str, most: float, rows: list[tuple[float, float, float]]) -> None:
    """The pool's stretches as (a, lo, hi), μ = 1 / (√keep · root price), until they take `most`."""
    root, taken = sqrt(pool.keep), 0.0
    for depth, start, end in stretches(pool, token_in):
        a, lo, hi = depth / root, 1 / (start * root), 1 / (end * root)
        if hi > lo:
            rows.append((a, lo, hi))
            taken += a * (hi - lo)
        if taken > most:
            return


# ---------------------------------------------------------------- the split


def _route(order: Order, market: _Market) -> Route:
    amount = min(order.amount_in, MOST)
    if amount == 0:
        return _certified(order, market, (), (), "nothing to exchange")
    if not market.edges:
        return _certified(order, market, (), (), "no usable pool leads from token_in to token_out")
    net = _network(order, market)
    flows = segments.choose(net, float(amount), NODES)
    if np.count_nonzero(flows.into >= 0.5) > order.max_legs:
        flows = segments.solve(net, _widest(order, net, flows), float(amount))
    shadow = _prices(order, market, segments.tighten(net, flows, float(amount)))
    if flows.taken == 0.0 and flows.mu == np.inf:
        return _certified(order, market, (), shadow, "no usable pool leads from token_in to token_out")
    split, single = _finish(market, net, flows.into, amount), _best_path(order, market, net, amount)
    legs = max(split, single, key=lambda legs: (_taken(order, legs), _net(order, legs), -len(legs)))
    taken = _taken(order, legs)
    reason = ""
    if not legs:
        reason = "too little to be paid anything"
    elif taken < order.amount_in:
        reason = f"the pools can take {taken} of {order.amount_in}"
    return _certified(order, market, legs, shadow, reason)


def _widest(order: Order, net: segments.Network, flows: segments.Flows) -> segments.Flags:
    """The pools with the greatest surplus, as many as fit."""
    earned = np.where(flows.into >= 0.5, segments.surpluses(net, flows.edge_mu) - net.gas, -np.inf)
    mask: segments.Flags = np.zeros(len(earned), dtype=np.bool_)
    mask[np.argsort(-earned)[: order.max_legs]] = True
    return mask


def _finish(
    market: _Market, net: segments.Network, into: segments.Floats, amount: int
) -> tuple[RouteLeg, ...]:
    """The flows in integers."""
    wanted = {place: flow for place, flow in enumerate(into.tolist()) if flow > 0}
    room = np.zeros(len(market.edges))
    np.add.at(room, net.pool, net.a * (net.hi - net.lo))
    draft = _Draft(market, room.tolist(), wanted, {})
    while draft.wanted:
        legs = draft.legs(amount)
        if legs is not None:
            return legs
    return ()


@dataclass(frozen=True, slots=True)
class _Draft:
    """Flows that are being rounded. A try that fails leaves out a pool or lowers what some can get."""

    market: _Market
    room: list[float]  # (pools,) about what each can take
    wanted: dict[int, float]  # by pool's place
    limits: dict[int, int]  # by pool's place, where it matters

    def legs(self, amount: int) -> tuple[RouteLeg, ...] | None:
        """The legs, first hops before second ones; None when it is to be tried again."""
        numbers = {place: self.market.edges[place].number for place in self.wanted}
        arrived: dict[int, int] = {}  # by edge of a second hop
        legs: list[RouteLeg] = []
        shares = self._shares([p for p, n in numbers.items() if n == 0 or n % 2], amount)
        if not self._run(shares, legs, arrived):
            return None
        for number in sorted(set(arrived) | {n for n in numbers.values() if n and n % 2 == 0}):
            second = [p for p, n in numbers.items() if n == number]
            first = [p for p, n in numbers.items() if n == number - 1]
            if not first or not second:
                self._forget(first + second)
                return None
            parts = self._shares(second, arrived[number])
            excess = arrived[number] - sum(parts.values())
            if excess:
                for place in first:
                    self.limits[place] = shares[place] * (arrived[number] - excess) // arrived[number] - 1
                self._forget([place for place in first if self.limits[place] <= 0])
                return None
            if not self._run(parts, legs, arrived):
                return None
        return tuple(legs)

    def _shares(self, places: list[int], amount: int) -> dict[int, int]:
        """`amount` in whole units, as the flows say and what is left to the greatest; less if they cannot take it."""
        places = sorted(places, key=lambda p: -self.wanted[p])
        shares = {place: self._limited(place, int(self.wanted[place])) for place in places}
        left = amount - sum(shares.values())
        for place in places:
            if left == 0:
                break
            share = self._limited(place, max(shares[place] + left, 0))
            left -= share - shares[place]
            shares[place] = share
        return shares

    def _limited(self, place: int, share: int) -> int:
        if share > 0.999999 * self.room[place] and place not in self.limits:
            edge = self.market.edges[place]
            self.limits[place] = edge.pool.capacity(edge.token_in)
        return min(share, self.limits.get(place, share))

    def _run(self, shares: dict[int, int], legs: list[RouteLeg], arrived: dict[int, int]) -> bool:
        """Add the legs; False, and their pools left out, when some would be paid nothing."""
        useless = []
        for place, share in shares.items():
            pool, token_in, token_out, _, number = self.market.edges[place]
            try:
                paid = pool.amount_out(token_in, share) if share else 0
            except PoolError as error:
                raise _UnusableError(place, str(error)) from error
            if paid == 0:
                useless.append(place)
                continue
            legs.append(RouteLeg(pool, token_in, token_out, share, paid))
            if number % 2:
                arrived[number + 1] = arrived.get(number + 1, 0) + paid
        self._forget(useless[len(useless) // 2 :])  # the greater half may do with what the others leave
        return not useless

    def _forget(self, places: list[int]) -> None:
        for place in places:
            del self.wanted[place]


def _best_path(order: Order, market: _Market, net: segments.Network, amount: int) -> tuple[RouteLeg, ...]:
    """The single pool, or two in a row, that pays most net of gas for all of the amount."""
    best: tuple[RouteLeg, ...] = ()
    best_net = 0
    for bound, first, second in zip(*segments.paths(net, float(amount), WIDEST), strict=True):
        if first < 0 or (best and bound + abs(bound) * 1e-12 + 1 < best_net):
            break  # pools round against the trader: the others pay less than their bounds
        legs: list[RouteLeg] = []
        arriving = amount
        try:
            for place in (first, second) if second >= 0 else (first,):
                edge = market.edges[place]
                paid = edge.pool.amount_out(edge.token_in, arriving)
                legs.append(RouteLeg(edge.pool, edge.token_in, edge.token_out, arriving, paid))
                arriving = paid
                if paid == 0:
                    break
        except PoolError:
            continue
        if arriving and (not best or _net(order, tuple(legs)) > best_net):
            best = tuple(legs)
            best_net = _net(order, best)
    return best


# ---------------------------------------------------------------- outcome and certificate


def _taken(order: Order, legs: tuple[RouteLeg, ...]) -> int:
    return sum(leg.amount_in for leg in legs if leg.token_in == order.token_in)


def _gas(order: Order, legs: tuple[RouteLeg, ...]) -> int:
    if order.gas_price == 0:
        return 0
    return -(-sum(_leg_gas(order, leg.pool) for leg in legs) // WAD)


def _net(order: Order, legs: tuple[RouteLeg, ...]) -> int:
    paid = sum(leg.amount_out for leg in legs if leg.token_out == order.token_out)
    return paid - _gas(order, legs)


def _certified(
    order: Order,
    market: _Market,
    legs: tuple[RouteLeg, ...],
    prices: tuple[tuple[str, Fraction], ...],
    reason: str,
) -> Route:
    gas = _gas(order, legs)
    paid = _net(order, legs) + gas
    bound = _bound(order, market, prices)
    bound = bound if legs else max(bound, 0)  # to do nothing costs nothing
    gap = bound - (paid - gas)
    certificate = Certificate(prices, bound, gap, gap / bound if bound else 0.0)
    return Route(legs, _taken(order, legs), paid, gas, certificate, reason, market.skipped)


def _prices(order: Order, market: _Market, edge_mu: segments.Floats) -> tuple[tuple[str, Fraction], ...]:
    """Of token_in (nothing where there is more of it than the pools take) and of each intermediate token."""
    found = {order.token_in: Fraction(float(edge_mu[0]) ** -2)}
    for edge in market.edges:
        if edge.number and edge.number % 2 == 0:
            found[edge.token_in] = Fraction(float(edge_mu[edge.number]) ** -2)
        elif edge.number:
            found[edge.token_out] = Fraction(float(edge_mu[edge.number + 1]) ** -2)
    return tuple(found.items())


def upper_bound(order: Order, prices: tuple[tuple[str, Fraction], ...]) -> int:
    """No split that sells anything pays more than this net of gas, token_out units; for any prices, 0 or above.

    A token without a price counts as 0. Pools whose snapshot cannot be traded with count for nothing.
    """
    return _bound(order, _Market.of(order), prices)


def _bound(order: Order, market: _Market, prices: tuple[tuple[str, Fraction], ...]) -> int:
    if order.amount_in == 0:
        return 0
    of = {token.lower(): price for token, price in prices} | {order.token_out.lower(): Fraction(1)}
    worth = of.get(order.token_in.lower(), Fraction(0))
    gains: dict[int, list[int]] = {}  # by edge, of each pool, times 2**FINE
    unit = ratio = Fraction(
        0
    )  # of an edge: what a unit that it pays is worth; in such units, one that it takes
    for pool, token_in, token_out, down, number in market.edges:
        if number not in gains:
            gains[number] = []
            sold, unit = of.get(token_in.lower(), Fraction(0)), of.get(token_out.lower(), Fraction(0))
            ratio = sold / unit if unit else Fraction(0)
        try:
            earned = _conjugate(pool, token_in, down, *ratio.as_integer_ratio()) if unit else 0
        except (PoolError, ZeroDivisionError):
            continue
        gas = (_leg_gas(order, pool) << FINE) // WAD if order.gas_price else 0
        gains[number].append(_up(earned * unit.numerator, unit.denominator) - gas)
    ways = [[n] if n == 0 else [n, n + 1] for n in gains if n == 0 or n % 2]
    ways = [way for way in ways if all(gains.get(n) for n in way)]
    if not ways:
        return 0
    total = _up(worth.numerator * order.amount_in << FINE, worth.denominator)
    total += sum(max(gain, 0) for way in ways for n in way for gain in gains[n])
    total += max(sum(min(max(gains[n]), 0) for n in way) for way in ways)  # at least one of them is used
    return _up(total, 1 << FINE)


def _conjugate(pool: Pool, token_in: str, down: bool, rn: int, rd: int) -> int:
    """sup_Δ (out(Δ) - price · Δ), price = rn / rd: units of the token that the pool pays, times 2**FINE, rounded up.

    In real numbers, above which the pools' integers never pay. V2: (√y − √z)² with z = price · x / γ while z < y.
    V3, in each range, with the sqrt price P* at which the pool's price, fee taken, is `price`: L (P₀ − P*)² / P₀ down,
    L (P* − P₀)² / (P₀ P*²) up; the whole range where it ends before P*.
    """
    if isinstance(pool, V3Pool):
        if next(pool.ranges(token_in), None) is None:
            raise PoolError(f"pool {pool.address} has no liquidity")
        search = _conjugate_down if down else _conjugate_up
        return search(pool.ranges(token_in), PIPS - pool.fee, rn, rd)
    x, y = (pool.reserve0, pool.reserve1) if down else (pool.reserve1, pool.reserve0)
    if y == 0 or not 0 < x < MAX_UINT112:
        raise PoolError(f"pool {pool.address} has no liquidity")
    zn, zd = rn * x * 10_000, rd * (10_000 - pool.fee_bps)
    if zn >= y * zd:
        return 0
    return (y << FINE) + _up(zn << FINE, zd) - 2 * isqrt((y * zn << 2 * FINE) // zd)


def _conjugate_down(ranges: Iterator[tuple[int, int, int]], keep: int, rn: int, rd: int) -> int:
    unit, total = Q96 << FINE, 0
    star = isqrt(rn * PIPS * unit * unit // (rd * keep))
    for liquidity, begin, end in ranges:
        high, low = begin << FINE, end << FINE
        if high <= star:
            break
        if low <= star:
            return total + _up(liquidity * (high - star) ** 2 << FINE, high * unit)
        cost = (rn * liquidity * unit * (high - low) * PIPS << FINE) // (rd * high * low * keep)
        total += _up(liquidity * (high - low) << FINE, unit) - cost
    return total


def _conjugate_up(ranges: Iterator[tuple[int, int, int]], keep: int, rn: int, rd: int) -> int:
    unit, total = Q96 << FINE, 0
    star = isqrt(rd * keep * unit * unit // (rn * PIPS)) + 1 if rn else None
    for liquidity, begin, end in ranges:
        low, high = begin << FINE, end << FINE
        if star is not None and low >= star:
            break
        if star is not None and high >= star:
            return total + _up(liquidity * unit * (star - low) ** 2 << FINE, low * star * star)
        cost = (rn * liquidity * (high - low) * PIPS << FINE) // (rd * unit * keep)
        total += _up(liquidity * unit * (high - low) << FINE, low * high) - cost
    return total


def _up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
