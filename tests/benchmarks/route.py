"""Splitting one order over k constant-product pools, beside its peers, and a mixed two-hop market.

    python tests/benchmarks/route.py            the table, reports/benchmarks/route.json and route.png

Problem c of the anchors: an order of 2 % of the depth of k V2 pools, continuous amounts, all methods given the same
arrays of reserves in one run, interleaved; microseconds a split, the median over markets and rounds. `loss` is against
the best that any method found, recomputed from the split itself after scaling it to the input. `kernel` is what the
router runs (`_segments.clear`) from reserves to split, `route()` the whole: snapshots in, exact integer legs and the
certificate out. The mixed market has V2 and V3 pools and two hops: its loss is against the certified upper bound, or,
for cvxpy, against the router's own route; V3 pools are rows of segments there.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cvxpy as cp
import matplotlib as mpl
import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq, minimize

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from offchain.planner import _segments as segments  # noqa: E402
from offchain.planner.pools import V2Pool  # noqa: E402
from offchain.planner.route import Order, _Market, _network, route  # noqa: E402
from tests.offchain.test_planner_route import DECIMALS, A, B, C, units, v2, v3  # noqa: E402

REPORTS = ROOT / "reports" / "benchmarks"
KEEP = 0.997
SIZES = (2, 5, 10, 20, 50, 100)
REPORTED = (2, 10, 100)
MARKETS = 5
GOAL = 2.0  # times the closed form in numba
Split = Callable[[Any, Any, float], Any]


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


METHODS: dict[str, Split] = {
    "router's kernel": kernel,
    "closed form, numba": closed_numba,
    "closed form, numpy": closed_numpy,
    "root finding": root_finding,
    "scipy SLSQP": slsqp,
    "cvxpy + Clarabel": with_cvxpy,
    "greedy 1 % slices": greedy,
}
REPEATS = {"router's kernel": 300, "closed form, numba": 300, "closed form, numpy": 50, "root finding": 20}


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


def timed(call: Callable[[], Any], repeats: int) -> float:
    """Microseconds a call."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats * 1e6


def integer_order(x: Any, y: Any, amount: float) -> Order:
    pools = [
        V2Pool(f"0x{i + 1:040x}", A, B, 30, int(x[i] * 10 ** DECIMALS[A]), int(y[i] * 10 ** DECIMALS[B]))
        for i in range(len(x))
    ]
    return Order(A, B, int(amount * 10 ** DECIMALS[A]), tuple(pools))


def measure(rounds: int) -> tuple[dict[tuple[str, int], list[float]], dict[tuple[str, int], float]]:
    """Microseconds and the worst loss, bps, by method and k."""
    spent: dict[tuple[str, int], list[float]] = {}
    loss: dict[tuple[str, int], float] = {}
    for k in SIZES:
        for seed in range(MARKETS):
            x, y, amount = market(k, seed)
            order = integer_order(x, y, amount)
            values = {}
            for name, method in METHODS.items():
                split = method(x, y, amount)
                values[name] = paid(x, y, split * (amount / split.sum()))
            best = max(values.values())
            for name, value in values.items():
                loss[name, k] = max(loss.get((name, k), 0.0), (best - value) / best * 1e4)
            found = route(order)
            loss["route(), all of it", k] = max(
                loss.get(("route(), all of it", k), 0.0), found.certificate.relative_gap * 1e4
            )
            for _ in range(rounds):
                for name, method in METHODS.items():
                    call = partial(method, x, y, amount)
                    spent.setdefault((name, k), []).append(timed(call, REPEATS.get(name, 1)))
                spent.setdefault(("route(), all of it", k), []).append(timed(partial(route, order), 3))
    return spent, loss


def mixed(rounds: int) -> list[dict[str, Any]]:
    """Direct and through a third token, 6 V2 and 6 V3 pools, with and without gas; cvxpy has the same segments."""
    rng = random.Random(11)
    pools = []
    for i, pair in enumerate([(A, B), (A, C), (C, B)] * 2):
        pools.append(v2(2 * i + 1, pair, 10 ** rng.uniform(5.5, 7), math.exp(rng.gauss(0, 0.002))))
        pools.append(v3(rng, 2 * i + 2, pair, 10 ** rng.uniform(5.5, 7), math.exp(rng.gauss(0, 0.002))))
    order = Order(A, B, units(A, 300_000), tuple(pools))
    skipped = {address for address, _ in route(order).skipped}  # whose ranges are all on the other side
    order = replace(order, pools=tuple(pool for pool in pools if pool.address not in skipped))
    solve, value = cvxpy_network(order)
    found = route(order)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: route(order), 5))
        theirs.append(timed(solve, 1))
    gas = route(Order(A, B, order.amount_in, order.pools, gas_price=2 * 10**28))
    print(
        f"mixed market, {len(order.pools)} pools, {len(found.legs)} legs: gap {found.certificate.relative_gap:.1e} of"
        f" the bound; cvxpy's own optimum is {(value() / found.amount_out - 1) * 1e4:+.2e} bps; with gas"
        f" {len(gas.legs)} legs, gap {gas.certificate.gap / max(gas.gas_cost, 1):.3f} of the gas"
    )
    return [
        row(
            "mixed V2/V3, two hops",
            len(order.pools),
            statistics.median(ours),
            statistics.median(theirs),
            "cvxpy + Clarabel",
            0.05,
        )
        | {"loss_bps": found.certificate.relative_gap * 1e4}
    ]


def cvxpy_network(order: Order) -> tuple[Callable[[], Any], Callable[[], float]]:
    """The same problem for a convex solver: every segment's inputs and outputs, scaled to themselves."""
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

    return solve, solve


def row(
    name: str, size: int, ours: float, anchor: float, anchor_name: str, goal: float | None
) -> dict[str, Any]:
    return {
        "name": name,
        "size": size,
        "ours": round(ours, 3),
        "anchor": round(anchor, 3),
        "anchor_name": anchor_name,
        "ratio": round(ours / anchor, 4),
        "goal": goal,
    }


def show(found: list[dict[str, Any]]) -> None:
    table = Table("what", "k", "ours, µs", "beside", "its µs", "ratio", "goal", "loss, bps", title="Routing")
    for line in found:
        met = line["goal"] is None or line["ratio"] <= line["goal"]
        table.add_row(
            line["name"],
            str(line["size"]),
            f"{line['ours']:,.2f}",
            line["anchor_name"],
            f"{line['anchor']:,.2f}",
            f"[{'green' if met else 'red'}]{line['ratio']:.3g}",
            "" if line["goal"] is None else f"{line['goal']:g}",
            f"{line['loss_bps']:.2g} / {line.get('anchor_loss_bps', 0):.2g}",
        )
    Console(width=130).print(table)


def plot(spent: dict[tuple[str, int], list[float]]) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for name in [*METHODS, "route(), all of it"]:
        medians = [statistics.median(spent[name, k]) for k in SIZES]
        axes.loglog(SIZES, medians, marker="o", label=name, linewidth=2.5 if name.startswith("rout") else 1)
    axes.set(
        xlabel="pools", ylabel="µs a split", title="Splitting an order of 2 % of the depth over k V2 pools"
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(REPORTS / "route.png", dpi=130)


def main() -> None:
    """Measure, show, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    gc.disable()
    spent, loss = measure(rounds)
    middle = {key: statistics.median(times) for key, times in spent.items()}
    found = []
    for k in REPORTED:
        for name in list(METHODS)[1:]:
            goal = GOAL if name == "closed form, numba" else None
            line = row("split, router's kernel", k, middle["router's kernel", k], middle[name, k], name, goal)
            found.append(line | {"loss_bps": loss["router's kernel", k], "anchor_loss_bps": loss[name, k]})
        line = row(
            "route(), all of it",
            k,
            middle["route(), all of it", k],
            middle["cvxpy + Clarabel", k],
            "cvxpy + Clarabel",
            None,
        )
        found.append(
            line | {"loss_bps": loss["route(), all of it", k], "anchor_loss_bps": loss["cvxpy + Clarabel", k]}
        )
    found += mixed(rounds)
    show(found)
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "route.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(spent)


if __name__ == "__main__":
    main()
