"""The router against other solvers, brute force and its own certificate."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from offchain.errors import PlannerError, PoolError
from offchain.planner.pools import (
    MAX_TICK,
    MIN_TICK,
    Pool,
    V2Pool,
    V3Pool,
    sqrt_ratio_at_tick,
    stretches,
    trades,
)
from offchain.planner.route import Order, Route, route, upper_bound

A, B, C, D = ("0x" + digit * 40 for digit in "abcd")
DECIMALS = {A: 6, B: 18, C: 8, D: 18}
DOLLARS = {A: 1.0, B: 2_500.0, C: 60_000.0, D: 0.3}
SPACING = {100: 1, 500: 10, 3000: 60, 10_000: 200}
PAIRS = [(A, B), (A, C), (C, B), (A, D), (D, B)]
GWEI_20 = {A: 60 * 10**18, B: 2 * 10**28, C: 10**17, D: 2 * 10**32}  # a unit of gas of 6e-5 USD, WAD


def address(number: int) -> str:
    return f"0x{number:040x}"


def units(token: str, dollars: float) -> int:
    return int(dollars / DOLLARS[token] * 10 ** DECIMALS[token])


def v2(number: int, pair: tuple[str, str], dollars: float, off: float = 1.0) -> V2Pool:
    """A pair with this much of each side, its price off the market's by a factor."""
    return V2Pool(address(number), *pair, 30, units(pair[0], dollars), units(pair[1], dollars * off))


def v3(rng: random.Random, number: int, pair: tuple[str, str], dollars: float, off: float = 1.0) -> V3Pool:
    """A pool of random ranges, some of them empty; about this much of each side within 10 % of the price."""
    fee = rng.choice(list(SPACING))
    spacing = SPACING[fee]
    price = units(pair[1], 1.0) * off / units(pair[0], 1.0)
    tick = max(min(math.floor(math.log(price, 1.0001)), MAX_TICK - 1), MIN_TICK + 1)
    depth = int(math.sqrt(units(pair[0], dollars)) * math.sqrt(units(pair[1], dollars)) * 20)
    nets: dict[int, int] = {}
    liquidity = 0
    whole = MAX_TICK // spacing * spacing
    ranges = [(-whole, whole, depth // 1000 + 1)] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 6)):
        lower = (tick + rng.randint(-1500, 1200)) // spacing * spacing
        ranges.append(
            (lower, lower + spacing * rng.randint(1, 1 + 1500 // spacing), rng.randint(1, 2 * depth))
        )
    for lower, upper, amount in ranges:
        nets[lower] = nets.get(lower, 0) + amount
        nets[upper] = nets.get(upper, 0) - amount
        liquidity += amount if lower <= tick < upper else 0
    ticks = tuple(sorted((t, net) for t, net in nets.items() if net))
    start = sqrt_ratio_at_tick(tick)
    inside = rng.randint(0, sqrt_ratio_at_tick(tick + 1) - start - 1)
    return V3Pool(address(number), *pair, fee, spacing, start + inside, tick, liquidity, ticks)


def random_order(seed: int, most_pools: int = 10, gas: bool = True) -> Order:
    """Two or three hops' worth of pools, dust and whales among them, and an order of 1 unit to ten times the market."""
    rng = random.Random(seed)
    pools: list[Pool] = []
    for number in range(1, rng.randint(2, most_pools + 1)):
        pair = rng.choice(PAIRS if rng.random() < 0.7 else PAIRS[:1])
        pair = pair if rng.random() < 0.5 else (pair[1], pair[0])
        dollars, off = 10 ** rng.uniform(0, 8), math.exp(rng.gauss(0, 0.01))
        pools.append(
            v2(number, pair, dollars, off) if rng.random() < 0.5 else v3(rng, number, pair, dollars, off)
        )
    ends = (A, B) if rng.random() < 0.5 else (B, A)
    amount = max(1, units(ends[0], 10 ** rng.uniform(-6, 9))) if rng.random() < 0.9 else rng.randint(1, 9)
    price = GWEI_20[ends[1]] if gas and rng.random() < 0.5 else 0
    return Order(*ends, amount, tuple(pools), gas_price=price)


def quote(pool: Pool, token: str, amount: int) -> int | None:
    try:
        return pool.amount_out(token, amount)
    except PoolError:
        return None


def gas_of(order: Order, *pools: Pool) -> Fraction:
    used = sum(order.gas_v2 if isinstance(pool, V2Pool) else order.gas_v3 for pool in pools)
    return Fraction(order.gas_price * used, 10**18)


def best_single(order: Order) -> int | None:
    """The most that one pool, or two in a row, pay net of gas for all of the order; None when none can."""
    found: list[int] = []
    for pool in order.pools:
        if trades(pool, order.token_in, order.token_out):
            paid = quote(pool, order.token_in, order.amount_in)
            if paid:
                found.append(paid - math.ceil(gas_of(order, pool)))
    for one, two in product(order.pools, repeat=2):
        for middle in (C, D):
            if trades(one, order.token_in, middle) and trades(two, middle, order.token_out):
                between = quote(one, order.token_in, order.amount_in)
                paid = quote(two, middle, between) if between else None
                if paid:
                    found.append(paid - math.ceil(gas_of(order, one, two)))
    return max(found, default=None)


def check(order: Order, found: Route) -> None:
    """What every route must be."""
    balance = {order.token_in: order.amount_in}
    for leg in found.legs:  # in order: nothing is spent before it is there
        assert leg.pool in order.pools
        assert leg.amount_out == leg.pool.amount_out(leg.token_in, leg.amount_in) > 0
        balance[leg.token_in] -= leg.amount_in
        assert balance[leg.token_in] >= 0
        balance[leg.token_out] = balance.get(leg.token_out, 0) + leg.amount_out
    assert len({leg.pool.address for leg in found.legs}) == len(found.legs)
    assert balance.pop(order.token_out, 0) == found.amount_out
    assert balance.pop(order.token_in) == order.amount_in - found.amount_in
    assert not any(balance.values())
    assert (found.amount_in == order.amount_in) == (found.reason == "")
    assert found.gas_cost == math.ceil(gas_of(order, *[leg.pool for leg in found.legs]))
    proof = found.certificate
    bound = upper_bound(order, proof.prices)
    assert proof.upper_bound == (bound if found.legs else max(bound, 0))
    assert proof.gap == proof.upper_bound - found.net >= 0


def rounding(order: Order, found: Route) -> Fraction:
    """What integers may cost, in token_out units: a few units of either token a step, at what they fetch there."""
    prices = dict(found.certificate.prices)
    worth = prices | {order.token_out: Fraction(1)}
    lost = Fraction(found.amount_out, 10**13) + 3 * sum(
        worth.values()
    )  # paths that pay less than a unit on the way
    for leg in reversed(found.legs):
        steps = 3
        if isinstance(leg.pool, V3Pool):  # a step ends at a tick or where a word of the bitmap does
            moved = leg.pool.swap(leg.token_in, leg.amount_in)[1].tick - leg.pool.tick
            steps = 6 + 2 * len(leg.pool.ticks) + 2 * abs(moved) // (256 * leg.pool.tick_spacing)
        fetched = Fraction(leg.amount_out + 1, leg.amount_in) * worth[leg.token_out]
        worth[leg.token_in] = max(worth.get(leg.token_in, Fraction(0)), fetched)
        lost += steps * (worth[leg.token_out] + worth[leg.token_in])
    return lost


relaxed = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@relaxed
@given(st.integers(0, 2**32))
def test_every_route_is_exact_and_never_worse_than_the_best_single_path(seed: int) -> None:
    order = random_order(seed)
    found = route(order)
    check(order, found)
    single = best_single(order)
    if single is not None:
        assert found.reason == ""
        assert found.net >= single


@relaxed
@given(st.integers(0, 2**32))
def test_without_gas_the_gap_is_rounding(seed: int) -> None:
    order = random_order(seed, gas=False)
    found = route(order)
    if found.legs:
        assert found.certificate.gap <= rounding(order, found)


@relaxed
@given(st.integers(0, 2**32))
def test_no_random_split_passes_the_bound(seed: int) -> None:
    order = random_order(seed)
    bound = route(order).certificate.upper_bound
    rng = random.Random(seed)
    for _ in range(20):
        paid = random_split(rng, order)
        assert paid <= bound or paid <= 0  # what sells nothing is no split


def random_split(rng: random.Random, order: Order) -> Fraction:
    """What some split pays net of gas; pools that refuse their share leave it unsold."""
    pools = rng.sample(order.pools, rng.randint(0, len(order.pools)))
    held = {order.token_in: order.amount_in}
    paid = Fraction(0)
    for hop in (1, 2):
        sold = {} if hop == 1 else dict(held)
        source = dict(held) if hop == 1 else sold
        for pool in pools:
            for token in (pool.token0, pool.token1):
                other = pool.token1 if token == pool.token0 else pool.token0
                if source.get(token, 0) == 0 or other == order.token_in or token == order.token_out:
                    continue
                if (hop == 2) != (other == order.token_out and token != order.token_in) and not (
                    hop == 1 and token == order.token_in
                ):
                    continue
                amount = int(held[token] * rng.random())
                out = quote(pool, token, amount) if amount else None
                if not out:
                    continue
                held[token] -= amount
                held[other] = held.get(other, 0) + out
                paid -= gas_of(order, pool)
    return paid + held.get(order.token_out, 0)


def test_prices_on_all_used_paths_are_equal() -> None:
    pools = [v2(1, (A, B), 1e6), v2(2, (A, B), 3e6, 1.002), v2(3, (A, D), 2e6), v2(4, (D, B), 5e6, 1.004)]
    found = route(Order(A, B, units(A, 50_000), tuple(pools)))
    prices = dict(found.certificate.prices) | {B: Fraction(1)}
    assert len(found.legs) == 4
    for leg in found.legs:
        more = leg.amount_in * 1_000_001 // 1_000_000
        slope = Fraction(leg.pool.amount_out(leg.token_in, more) - leg.amount_out, more - leg.amount_in)
        assert float(slope) == pytest.approx(float(prices[leg.token_in] / prices[leg.token_out]), rel=1e-6)


# ---------------------------------------------------------------- other solvers


@pytest.mark.parametrize("seed", range(3))
def test_as_good_as_cvxpy_with_clarabel(seed: int) -> None:
    """Two hops and direct, V2: maximise what is paid, reserves on their curves, in units of each pool's reserves."""
    rng = random.Random(seed)
    pairs = [(A, B)] * 3 + [(A, C)] * 2 + [(C, B)] * 2
    pools = [
        v2(i + 1, p, 10 ** rng.uniform(5, 7), math.exp(rng.gauss(0, 0.005))) for i, p in enumerate(pairs)
    ]
    order = Order(A, B, units(A, 200_000), tuple(pools))
    into, out = cp.Variable(7, nonneg=True), cp.Variable(7, nonneg=True)  # parts of the reserves
    rows = [cp.inv_pos(1 + 0.997 * into[i]) <= 1 - out[i] for i in range(7)]
    x = np.array([pool.reserve0 / 10 ** DECIMALS[pool.token0] for pool in pools])
    y = np.array([pool.reserve1 / 10 ** DECIMALS[pool.token1] for pool in pools])
    rows.append(into[:5] @ x[:5] == 200_000)
    rows.append(into[5:] @ x[5:] == out[3:5] @ y[3:5])
    best = cp.Problem(cp.Maximize(out[:3] @ y[:3] + out[5:] @ y[5:]), rows)
    best.solve(solver=cp.CLARABEL)
    found = route(order)
    assert found.amount_out / 10**18 == pytest.approx(best.value, rel=1e-6)
    assert found.amount_out / 10**18 >= best.value * (1 - 1e-8)


def test_as_good_as_root_finding_on_the_dual() -> None:
    rng = random.Random(7)
    pools = [v2(i + 1, (A, B), 10 ** rng.uniform(4, 7), math.exp(rng.gauss(0, 0.01))) for i in range(30)]
    amount = units(A, 400_000)

    def demand(price: float) -> float:
        roots = (math.sqrt(0.997 * p.reserve0 * p.reserve1 / price) for p in pools)
        return sum(max(root - p.reserve0, 0) / 0.997 for root, p in zip(roots, pools, strict=True))

    start = max(p.reserve1 / p.reserve0 for p in pools)
    price = brentq(lambda p: demand(p) - amount, start / 100, start, xtol=1e-30, rtol=1e-15)
    found = route(Order(A, B, amount, tuple(pools)))
    assert float(found.certificate.prices[0][1]) == pytest.approx(price, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_as_good_as_a_search_over_two_v3_pools(seed: int) -> None:
    rng = random.Random(seed)
    pools = (v3(rng, 1, (A, B), 1e6), v3(rng, 2, (A, B), 1e6))
    amount = units(A, 100_000)
    found = route(Order(A, B, amount, pools))

    def paid(share: float) -> float:
        first = int(share)
        outs = (quote(pools[0], A, first) if first else 0, quote(pools[1], A, amount - first))
        return -float(sum(outs)) if None not in outs else math.inf  # type: ignore[arg-type]

    best = max(-paid(s) for s in np.linspace(0, amount, 101))
    best = max(best, -minimize_scalar(paid, bounds=(0, amount), method="bounded").fun)
    assert found.amount_out >= best * (1 - 1e-12)
    assert found.reason == ""


@pytest.mark.parametrize("seed", range(20))
def test_brute_force_over_integer_splits_of_tiny_pools(seed: int) -> None:
    """Integers lose at most a unit a leg against the best of all splits."""
    rng = random.Random(seed)
    pools = [
        V2Pool(address(i + 1), A, B, 30, rng.randint(50, 900), rng.randint(50, 900))
        for i in range(rng.choice([2, 3]))
    ]
    amount = rng.randint(1, 60)
    best = max(
        sum(pool.amount_out(A, part) for pool, part in zip(pools, (*split, amount - sum(split)), strict=True))
        for split in product(range(amount + 1), repeat=len(pools) - 1)
        if sum(split) <= amount
    )
    found = route(Order(A, B, amount, tuple(pools)))
    assert best - len(pools) <= found.amount_out <= best


# ---------------------------------------------------------------- gas


@pytest.mark.parametrize("seed", range(8))
def test_legs_are_the_best_of_all_subsets(seed: int) -> None:
    rng = random.Random(seed)
    pairs = [(A, B)] * 6 if seed % 2 else [(A, B)] * 2 + [(A, C)] * 2 + [(C, B)] * 2
    pools = tuple(
        v2(i + 1, p, 10 ** rng.uniform(3.5, 6), math.exp(rng.gauss(0, 0.003))) for i, p in enumerate(pairs)
    )
    order = Order(A, B, units(A, 10 ** rng.uniform(2.5, 5)), pools, gas_price=GWEI_20[B])
    best = -math.inf
    for size in range(1, 7):
        for chosen in combinations(pools, size):
            tried = route(replace(order, pools=chosen, gas_price=0))
            if tried.reason == "":
                best = max(best, tried.amount_out - gas_of(order, *[leg.pool for leg in tried.legs]))
    found = route(order)
    check(order, found)
    assert found.net >= best - 20


def test_legs_below_their_gas_are_left_out() -> None:
    pools = (v2(1, (A, B), 1e6), v2(2, (A, B), 1e3))
    order = Order(A, B, units(A, 1_000), pools)
    assert len(route(order).legs) == 2
    assert [leg.pool for leg in route(replace(order, gas_price=GWEI_20[B])).legs] == [pools[0]]


# ---------------------------------------------------------------- edges


def test_huge_orders_are_partial_with_a_reason() -> None:
    rng = random.Random(3)
    ticks = ((-600, 10**18), (600, -(10**18)))
    narrow = V3Pool(address(1), A, B, 3000, 60, 2**96, 0, 10**18, ticks)
    order = Order(A, B, 10**30, (narrow,))
    found = route(order)
    check(order, found)
    assert found.amount_in == narrow.capacity(A) > 0
    assert f"the pools can take {found.amount_in} of" in found.reason
    assert found.certificate.gap <= 5
    known = replace(
        narrow, ticks=((-60_000, 10**18), (60_000, -(10**18))), known_from=-15_360, known_to=15_300
    )
    for token in (A, B):
        other = B if token == A else A
        found = route(Order(token, other, 10**30, (known, v3(rng, 2, (A, C), 1e3), v3(rng, 3, (C, B), 1e3))))
        assert found.amount_in >= known.capacity(token)
        assert "can take" in found.reason


def test_capacity_is_the_most_that_a_pool_takes() -> None:
    rng = random.Random(5)
    for number in range(20):
        pool = v3(rng, number, (A, B), 1e5)
        for token in (A, B):
            most = pool.capacity(token)
            if most:
                assert pool.amount_out(token, most) >= 0
            with pytest.raises(PoolError, match="too little liquidity"):
                pool.amount_out(token, most * 1_000_001 // 1_000_000 + 1000)


@pytest.mark.parametrize("seed", range(40))
def test_stretches_take_and_pay_what_the_pool_does(seed: int) -> None:
    rng = random.Random(seed)
    pair = rng.choice(PAIRS)
    for pool in (v2(1, pair, 10 ** rng.uniform(3, 8)), v3(rng, 2, pair, 10 ** rng.uniform(3, 8))):
        for token_in in pair:
            taken = paid = 0.0
            for depth, start, end in stretches(pool, token_in):
                stop = end + (start - end) * rng.random()  # anywhere inside
                sold = taken + depth * (1 / stop - 1 / start) / pool.keep
                if 1e9 < sold < 1e30:  # units: below, rounding tells
                    bought = paid + depth * (start - stop)
                    assert pool.amount_out(token_in, int(sold)) == pytest.approx(bought, rel=1e-6, abs=30)
                taken += depth * (1 / end - 1 / start) / pool.keep
                paid += depth * (start - end)
            if 1e9 < taken < 1e30:
                assert pool.capacity(token_in) == pytest.approx(taken, rel=1e-6)


def test_a_unit_is_sold_where_it_is_paid_for() -> None:
    rich, poor = V2Pool(address(1), A, B, 30, 10**6, 10**9), V2Pool(address(2), A, B, 30, 10**9, 10**6)
    found = route(Order(A, B, 1, (poor, rich)))
    assert [(leg.pool, leg.amount_in) for leg in found.legs] == [(rich, 1)]
    nothing = route(Order(A, B, 1, (poor,)))
    assert (nothing.legs, nothing.amount_out, nothing.reason) == ((), 0, "too little to be paid anything")


def test_unusable_pools_are_left_out_and_named() -> None:
    good = v2(1, (A, B), 1e6)
    ticks = ((-600, 10**18), (600, -(10**18)))
    sound = V3Pool(address(9), A, B, 3000, 60, 2**96, 0, 10**18, ticks)
    bad = [
        replace(good, address=address(2), reserve1=0),
        replace(good, address=address(3), fee_bps=10_000),
        replace(sound, address=address(4), sqrt_price_x96=0),
        replace(sound, address=address(5), tick=-1200),
        replace(sound, address=address(6), liquidity=0, ticks=()),
        replace(sound, address=address(7), tick=0, liquidity=1, ticks=((-60, 10**18),)),
        replace(sound, address=address(8), known_from=-60, known_to=60),
    ]
    for pool in bad:
        found = route(Order(A, B, 10**9, (pool, good)))
        assert [leg.pool for leg in found.legs] == [good]
        assert [name for name, _ in found.skipped] == [pool.address]
        alone = route(Order(A, B, 10**9, (pool,)))
        assert (alone.legs, alone.reason) == ((), "no usable pool leads from token_in to token_out")


def test_orders_with_nothing_to_do() -> None:
    pool = v2(1, (A, B), 1e6)
    assert route(Order(A, B, 0, (pool,))).reason == "nothing to exchange"
    assert route(Order(A, B, 5, ())).reason == "no usable pool leads from token_in to token_out"
    assert route(Order(A, B, 10**9, (v2(1, (A, C), 1e6),))).legs == ()
    two = (v2(1, (A, C), 1e6), v2(2, (C, B), 1e6))
    assert len(route(Order(A, B, 10**9, two)).legs) == 2
    assert route(Order(A, B, 10**9, two, max_hops=1)).legs == ()


@pytest.mark.parametrize(
    ("changes", "setting"),
    [({"token_out": A}, "token_out"), ({"max_hops": 3}, "max_hops"), ({"amount_in": -1}, "amount_in")],
)
def test_orders_that_make_no_sense_are_refused(changes: dict[str, object], setting: str) -> None:
    with pytest.raises(PlannerError, match=setting):
        route(replace(Order(A, B, 5, ()), **changes))  # type: ignore[arg-type]


def test_a_pool_given_twice_counts_once() -> None:
    pool = v2(1, (A, B), 1e5)
    order = Order(
        A, B, units(A, 10_000), (pool, replace(pool, address=pool.address.upper().replace("X", "x")))
    )
    assert route(order).amount_out == pool.amount_out(A, order.amount_in)


def test_a_hundred_and_fifty_pools_keep_to_the_most_legs() -> None:
    rng = random.Random(2)
    pools = tuple(v2(i + 1, (A, B), 10 ** rng.uniform(5, 6)) for i in range(150))
    found = route(order := Order(A, B, units(A, 10**7), pools))
    check(order, found)
    assert len(found.legs) == 100
    assert found.certificate.relative_gap < 0.03  # what the legs that did not fit would bring
