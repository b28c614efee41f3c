"""Splitting one order over k constant-product pools (the anchors' problem c), and a mixed two-hop market.

An order of 2 % of the depth of k V2 pools, continuous amounts, all methods given the same arrays of reserves, taking
turns; microseconds a split, the median over markets and rounds. `loss` is against the best that any method found,
recomputed from the split itself after scaling it to the input. `split` is what the router runs (`_segments.clear`) from
reserves to split; `whole route()` is snapshots in, exact integer legs and the certificate out. The mixed market has V2
and V3 pools and two hops; V3 pools are rows of segments for cvxpy.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cvxpy as cp
import numpy as np
from numba import njit
from scipy.optimize import brentq, minimize

from offchain.planner import _segments as segments
from offchain.planner.pools import V2Pool
from offchain.planner.route import Order, _Market, _network, route
from tests.benchmarks.common import Curves, Row, row, taking_turns
from tests.offchain.test_planner_route import DECIMALS, A, B, C, units, v2, v3

KEEP = 0.997
SIZES = (2, 5, 10, 20, 50, 100)
QUICK_SIZES = (2, 10, 100)
GOAL = 2.0  # times the closed form in numba
LOSS = 1e-9  # bps: rounding of floats
Split = Callable[[Any, Any, float], Any]
NOTED = {  # µs at k = 2, 10, 100; the anchors' figures
    "closed form, numba": (2.8, 3.2, 6.3),
    "closed form, numpy": (46, 54, 46),
    "root finding": (104, 102, 101),
    "dual L-BFGS-B": (864, 945, 864),
    "scipy SLSQP": (1_427, 3_127, 37_724),
    "cvxpy + Clarabel": (12_715, 13_212, 11_978),
    "greedy 1 % slices": (1_295, 1_027, 769),
}


# ---------------------------------------------------------------- methods: reserves in, amounts out


@njit(cache=True)
def kernel(x: Any, y: Any, amount: float) -> Any:
    """The router's: segments of the pools, cleared together."""
    count = len(x)
    a, lo, hi = np.empty(count), np.empty(count), np.empty(count)
    for i in range(count):
        lo[i] = np.sqrt(x[i] / (y[i] * KEEP))
        a[i] = x[i] / (KEEP * lo[i])
        hi[i] = np.inf
    mu = segments.clear(a, lo, hi, count, amount)
    for i in range(count):
        hi[i] = max(mu - lo[i], 0.0) * a[i]
    return hi


@njit(cache=True)
def closed_numba(x: Any, y: Any, amount: float) -> Any:
    """The peer: pools sorted by price, the active set found by prefix sums, the split in closed form."""
    count = len(x)
    start = np.empty(count)
    for i in range(count):
        start[i] = x[i] / y[i]
    rank = np.argsort(start)
    roots, held, level = 0.0, 0.0, 0.0
    for n in range(count):
        i = rank[n]
        if n > 0 and level * level <= start[i]:
            break
        roots += np.sqrt(x[i] * y[i])
        held += x[i]
        level = (KEEP * amount + held) / roots
    split = np.empty(count)
    for i in range(count):
        split[i] = max(level * np.sqrt(x[i] * y[i]) - x[i], 0.0) / KEEP
    return split


def closed_numpy(x: Any, y: Any, amount: float) -> Any:
    rank = np.argsort(x / y)
    roots = np.sqrt(x * y)
    levels = (KEEP * amount + np.cumsum(x[rank])) / np.cumsum(roots[rank])
    active = int(np.count_nonzero(levels**2 > (x / y)[rank]))
    return np.maximum(levels[max(active, 1) - 1] * roots - x, 0.0) / KEEP


def root_finding(x: Any, y: Any, amount: float) -> Any:
    roots = np.sqrt(x * y)

    def taken(level: float) -> float:
        return float(np.maximum(level * roots - x, 0.0).sum() / KEEP - amount)

    low = float(np.sqrt((x / y).min()))
    high = low + KEEP * amount / float(roots[np.argmin(x / y)])
    return np.maximum(brentq(taken, low, high, xtol=1e-16, rtol=8.9e-16) * roots - x, 0.0) / KEEP


def slsqp(x: Any, y: Any, amount: float) -> Any:
    count = len(x)
    scale = float(paid(x, y, np.full(count, amount / count)))

    def lost(share: Any) -> float:
        return -paid(x, y, share * amount) / scale

    def slope(share: Any) -> Any:
        return -KEEP * x * y / (x + KEEP * share * amount) ** 2 * amount / scale

    found = minimize(
        lost,
        np.full(count, 1 / count),
        jac=slope,
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda s: s.sum() - 1, "jac": lambda s: np.ones(count)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 300},
    )
    return np.maximum(found.x, 0) * amount


def with_cvxpy(x: Any, y: Any, amount: float) -> Any:
    part = cp.Variable(len(x), nonneg=True)  # of the pool's reserve
    problem = cp.Problem(cp.Minimize((y / y.sum()) @ cp.inv_pos(1 + KEEP * part)), [(x / amount) @ part == 1])
    problem.solve(solver=cp.CLARABEL)
    return np.maximum(part.value, 0) * x


def greedy(x: Any, y: Any, amount: float) -> Any:
    """A hundred slices of 1 %, each to the pool that pays most for it."""
    split, piece = np.zeros(len(x)), amount / 100
    now = out(x, y, split)
    for _ in range(100):
        after = out(x, y, split + piece)
        best = int(np.argmax(after - now))
        split[best] += piece
        now[best] = after[best]
    return split


def dual(x: Any, y: Any, amount: float) -> Any:
    """CFMMRouter's method (Diamandis et al. 2023): L-BFGS-B on the price, each pool's arbitrage in closed form."""
    unit = float(np.median(y / x))

    def arbitrage(price: float) -> Any:
        return np.maximum(np.sqrt(KEEP * x * y / price) - x, 0.0) / KEEP

    def value(price: Any) -> tuple[float, Any]:
        split = arbitrage(price[0] * unit)
        short = amount - float(split.sum())
        return (paid(x, y, split) + price[0] * unit * short) / (unit * amount), np.array([short / amount])

    options = {"ftol": 1e-16, "gtol": 1e-12}
    found = minimize(value, [1.0], jac=True, bounds=[(1e-9, None)], method="L-BFGS-B", options=options)
    return arbitrage(found.x[0] * unit)


METHODS: dict[str, Split] = {
    "ours, split": kernel,
    "closed form, numba": closed_numba,
    "closed form, numpy": closed_numpy,
    "root finding": root_finding,
    "dual L-BFGS-B": dual,
    "scipy SLSQP": slsqp,
    "cvxpy + Clarabel": with_cvxpy,
    "greedy 1 % slices": greedy,
}
WHOLE = "ours, whole route()"
REPEATS = {
    "ours, split": 300,
    "closed form, numba": 300,
    "closed form, numpy": 50,
    "root finding": 20,
    WHOLE: 3,
}


def out(x: Any, y: Any, split: Any) -> Any:
    return y * KEEP * split / (x + KEEP * split)


def paid(x: Any, y: Any, split: Any) -> float:
    return float(out(x, y, split).sum())


# ---------------------------------------------------------------- measurement


def market(k: int, seed: int) -> tuple[Any, Any, float]:
    """k pools of depths over two decades, prices 1 % apart; an order of 2 % of all."""
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(5, 7, k)
    return x, 2 * x * np.exp(rng.normal(0, 0.01, k)), 0.02 * float(x.sum())


def integer_order(x: Any, y: Any, amount: float) -> Order:
    pools = [
        V2Pool(f"0x{i + 1:040x}", A, B, 30, int(x[i] * 10 ** DECIMALS[A]), int(y[i] * 10 ** DECIMALS[B]))
        for i in range(len(x))
    ]
    return Order(A, B, int(amount * 10 ** DECIMALS[A]), tuple(pools))


def measure(k: int, markets: int, rounds: int, tick: Callable[[], None]) -> dict[str, tuple[float, float]]:
    """Median microseconds and the worst loss, bps, by method."""
    spent, loss = defaultdict(list), defaultdict(float)
    for seed in range(markets):
        x, y, amount = market(k, seed)
        order = integer_order(x, y, amount)
        splits = {name: method(x, y, amount) for name, method in METHODS.items()}
        values = {name: paid(x, y, split * (amount / split.sum())) for name, split in splits.items()}
        best = max(values.values())
        for name, value in values.items():
            loss[name] = max(loss[name], (best - value) / best * 1e4)
        loss[WHOLE] = max(loss[WHOLE], route(order).certificate.relative_gap * 1e4)
        calls: dict[str, Callable[[], Any]] = {n: partial(m, x, y, amount) for n, m in METHODS.items()}
        for name, times in taking_turns(calls | {WHOLE: partial(route, order)}, rounds, REPEATS).items():
            spent[name] += times
        tick()
    return {name: (float(np.median(times)) * 1e6, loss[name]) for name, times in spent.items()}


def rows_of(k: int, found: dict[str, tuple[float, float]]) -> list[Row]:
    """Ours beside everybody, with the goals."""
    ours, lost = found["ours, split"]
    rows = []
    for name in list(METHODS)[1:]:
        goal = GOAL if name == "closed form, numba" else None
        noted = dict(zip((2, 10, 100), NOTED[name], strict=True)).get(k)
        rows.append(
            row("split", k, ours, found[name][0], name, goal, "µs", noted=noted, loss_bps=found[name][1])
        )
    rows.append(row("loss of the split", k, lost, LOSS, "rounding", 1.0, "bps", "answer"))
    whole, gap = found[WHOLE]
    rows.append(row("whole route()", k, whole, found["cvxpy + Clarabel"][0], "cvxpy + Clarabel", None, "µs"))
    rows.append(row("certified gap of route()", k, gap, LOSS, "rounding", 1.0, "bps", "answer"))
    return rows


def mixed(rounds: int) -> list[Row]:
    """Direct and through a third token, 6 V2 and 6 V3 pools; cvxpy has the same segments."""
    rng = random.Random(11)
    pools = []
    for i, pair in enumerate([(A, B), (A, C), (C, B)] * 2):
        pools.append(v2(2 * i + 1, pair, 10 ** rng.uniform(5.5, 7), math.exp(rng.gauss(0, 0.002))))
        pools.append(v3(rng, 2 * i + 2, pair, 10 ** rng.uniform(5.5, 7), math.exp(rng.gauss(0, 0.002))))
    order = Order(A, B, units(A, 300_000), tuple(pools))
    skipped = {address for address, _ in route(order).skipped}  # whose ranges are all on the other side
    order = replace(order, pools=tuple(pool for pool in pools if pool.address not in skipped))
    solve, found, size = cvxpy_network(order), route(order), f"{len(order.pools)} pools"
    spent = taking_turns({"ours": partial(route, order), "cvxpy": solve}, rounds, {"ours": 20})
    ours, theirs = (float(np.median(spent[name])) * 1e6 for name in ("ours", "cvxpy"))
    return [
        row("V2 and V3, two hops", size, ours, theirs, "cvxpy + Clarabel", None, "µs"),
        row("certified gap", size, found.certificate.relative_gap * 1e4, 1e-3, "allowed", 1.0, "bps", "answer",
            cvxpy_claims_bps=(solve() / found.amount_out - 1) * 1e4),
    ]  # fmt: skip


def cvxpy_network(order: Order) -> Callable[[], float]:
    """The same problem for a convex solver, which returns what it thinks is paid: every segment scaled to itself."""
    net = _network(order, _Market.of(order))
    edge = net.edge[net.pool]
    reach = float(order.amount_in) * 1e6
    scale_in = net.a * net.lo  # virtual reserve over γ
    top = np.minimum((net.hi - net.lo) / net.lo, reach)
    unit = {0: 1.0, 1: 10.0 ** DECIMALS[A], 2: 10.0 ** DECIMALS[C]}

    def solve() -> float:
        part = cp.Variable(len(net.a), nonneg=True)
        gained = 1 - cp.inv_pos(1 + part)
        out_scale = net.a / net.lo
        kept = cp.Variable(len(net.a), nonneg=True)
        rows = [part <= np.minimum(top, 1e3), kept <= gained]
        into = (edge == 0) | (edge == 1)
        rows.append((scale_in[into] / unit[1]) @ part[into] == order.amount_in / unit[1])
        rows.append(
            (scale_in[edge == 2] / unit[2]) @ part[edge == 2]
            <= (out_scale[edge == 1] / unit[2]) @ kept[edge == 1]
        )
        last = edge != 1
        problem = cp.Problem(cp.Maximize((out_scale[last] / 10.0 ** DECIMALS[B]) @ kept[last]), rows)
        problem.solve(solver=cp.CLARABEL)
        return float(problem.value) * 10.0 ** DECIMALS[B]

    return solve


def run(quick: bool, tick: Callable[[], None]) -> tuple[list[Row], Curves, str]:
    """The rows and the growth with k, µs."""
    rows, curves, rounds = [], defaultdict(dict), 2 if quick else 7
    for k in QUICK_SIZES if quick else SIZES:
        found = measure(k, 1 if quick else 5, rounds, tick)
        rows += rows_of(k, found)
        for name, (micros, _) in found.items():
            curves[name][k] = micros
    return rows + mixed(rounds), curves, ""


def ticks(quick: bool) -> int:
    """How often `run` calls `tick`."""
    return len(QUICK_SIZES) if quick else 5 * len(SIZES)
