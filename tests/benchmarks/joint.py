"""The joint problem: 8 assets, 40 pools, V2 and V3, two hops, gas, beside the same problem in cvxpy with Clarabel.

    python tests/benchmarks/joint.py            the tables and reports/benchmarks/joint.json

`relaxed`: the same arrays to both, from arrays to optimum and bound, median milliseconds over markets, interleaved;
cvxpy's figure includes building the model, as a keeper that sees new pools each time has to; Clarabel's own solve time
stands beside it. `plan`: the whole planner, pools in, integer legs and certificate out, with gas, once with its own
solver and once with cvxpy and Clarabel in its place: the same search, the same integers. `worse`: how far our objective
lies above the one that the peer reports at most, bps of NAV; below 0 where ours is better everywhere.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from offchain import policy  # noqa: E402
from offchain.planner import Plan, Problem, joint, plan  # noqa: E402
from offchain.planner.joint import Market, Solution, bound, cost, solve  # noqa: E402
from offchain.planner.market import read  # noqa: E402
from offchain.planner.problem import objective  # noqa: E402
from tests.support.market import NOW, random_problem  # noqa: E402

REPORT = ROOT / "reports" / "benchmarks" / "joint.json"
GOAL = 1 / 20
NOISE = 1e-8  # of NAV: flows below it are Clarabel's tolerance


def by_cvxpy(market: Market, guess: Solution | None = None) -> Solution:
    """What `joint.solve` does, by the modelling language and Clarabel."""
    s, n, count = market.segments, market.assets, len(market.segments.pool)
    y, taken = cp.Variable(count), cp.Variable(count)
    x, slack = cp.Variable(n), cp.Variable(len(market.room), nonneg=True)
    into, out = np.zeros((market.tokens, count)), np.zeros((market.tokens, count))
    into[s.token_in, np.arange(count)] = 1
    out[s.token_out, np.arange(count)] = 1
    left = out @ cp.multiply(s.depth, s.start - y) - into @ taken
    soft = np.isfinite(market.price)
    net = left - cp.hstack([x, np.zeros(market.tokens - n)]) if market.tokens > n else left - x
    balance, rows = net >= 0, market.rows @ x <= market.room + slack
    constraints = [
        cp.inv_pos(y) <= 1 / s.start + cp.multiply(taken, s.keep / s.depth),
        y <= s.start, y >= s.end, balance, rows,
        x >= market.lower, x <= market.upper, slack[~soft] == 0,
    ]  # fmt: skip
    root = np.linalg.cholesky(market.quadratic)
    goal = 0.5 * cp.sum_squares(root.T @ (market.drift + x)) - market.slope @ x
    if np.any(soft):
        goal += slack[soft] @ market.price[soft]
    problem = cp.Problem(cp.Minimize(goal), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.solve(solver=cp.CLARABEL)
    idle = 0.5 * market.drift @ market.quadratic @ market.drift
    idle += np.maximum(-market.room, 0)[soft] @ market.price[soft]
    by_cvxpy.status = problem.status  # type: ignore[attr-defined]
    by_cvxpy.value = problem.value - idle  # type: ignore[attr-defined]
    by_cvxpy.inside = problem.solver_stats.solve_time  # type: ignore[attr-defined]
    paid = np.maximum(s.depth * (s.start - y.value), 0)
    used = paid > NOISE
    value_in = np.where(used, np.maximum(taken.value, 0), 0)
    prices = np.maximum(balance.dual_value, 1e-6)
    return Solution(
        prices, np.maximum(rows.dual_value, 0), value_in, np.where(used, paid, 0), x.value, 0.0, 0
    )


def timed(task: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds and the result."""
    start = time.perf_counter()
    result = task()
    return (time.perf_counter() - start) * 1e3, result


def solve_and_prove(market: Market) -> tuple[Solution, float]:
    """The optimum and its gap."""
    found = solve(market)
    return found, value_of(market, found) - bound(market, found.prices, found.multipliers)


def value_of(market: Market, found: Solution) -> float:
    """Cost of what the pools really pay at these flows; a shortfall is taken from the assets."""
    s = market.segments
    net = np.bincount(s.token_out, found.value_out, market.tokens) - np.bincount(
        s.token_in, found.value_in, market.tokens
    )
    return cost(market, net[: market.assets])


def with_cvxpy(problem: Problem) -> Plan:
    """The planner with the peer as its solver."""
    module = importlib.import_module("offchain.planner.plan")
    module.joint.solve = by_cvxpy
    try:
        return plan(problem)
    finally:
        module.joint.solve = solve


def reached(problem: Problem, found: Plan) -> float:
    """Objective with gas, bps of NAV."""
    gas = found.costs.gas if found.costs else 0
    return (objective(problem, found.balances_after) + gas) / policy.nav(problem.state) * 1e4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--markets", type=int, default=20)
    parser.add_argument("--plans", type=int, default=4)
    args = parser.parse_args()
    assert joint.solve is solve
    problems = []
    seed = 0
    while len(problems) < args.markets:
        problem = random_problem(seed, assets=8, pools=40, gas=True)
        seed += 1
        if not policy.next_session(problem.state, NOW)[1]:
            problems.append(problem)
    plan(problems[0])
    by_cvxpy(read(problems[0]).market)

    mine, theirs, inside, worse, gaps = [], [], [], [], []
    for problem in problems:
        market = read(problem).market
        ms, (found, gap) = timed(lambda m=market: solve_and_prove(m))
        other_ms, _ = timed(lambda m=market: by_cvxpy(m))
        mine.append(ms)
        theirs.append(other_ms)
        inside.append(by_cvxpy.inside * 1e3)  # type: ignore[attr-defined]
        gaps.append(gap * 1e4)
        if by_cvxpy.status == cp.OPTIMAL:  # type: ignore[attr-defined]
            worse.append((value_of(market, found) - by_cvxpy.value) * 1e4)  # type: ignore[attr-defined]
    gave_up = len(problems) - len(worse)
    rows = [row("relaxed", mine, theirs, max(worse), max(gaps))]
    rows.append(row("relaxed, Clarabel's own time", mine, inside, max(worse), max(gaps)))

    alone = [timed(lambda p=problem: plan(p))[0] for problem in problems]
    mine, theirs, worse, gaps = [], [], [], []
    for problem in problems[: args.plans]:
        ms, found = timed(lambda p=problem: plan(p))
        other_ms, other = timed(lambda p=problem: with_cvxpy(p))
        mine.append(ms)
        theirs.append(other_ms)
        worse.append(reached(problem, found) - reached(problem, other))
        if found.certificate:
            gaps.append(found.certificate.gap / policy.nav(problem.state) * 1e4)
    rows.append(row("plan, gas, integers", mine, theirs, max(worse), statistics.median(gaps)))
    sizes = [len(read(p).market.segments.pool) for p in problems]

    console = Console(width=118)
    table = Table(title=f"8 assets, 40 pools, median {statistics.median(sizes):.0f} segments, two hops")
    for name in ("problem", "ours, ms", "cvxpy + Clarabel, ms", "ratio", "goal", "worse, bps", "gap, bps"):
        table.add_column(name, justify="left" if name == "problem" else "right")
    for r in rows:
        table.add_row(
            r["name"], f"{r['ours']:.2f}", f"{r['anchor']:.1f}", f"{r['ratio']:.4f}", f"{GOAL}",
            f"{r['worse_bps']:.6f}", f"{r['gap_bps']:.6f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"whole plan over all {len(alone)} markets: median {statistics.median(alone):.1f} ms")
    console.print(
        f"Clarabel gave up on {gave_up} of {len(problems)} relaxed problems, which `worse` leaves out; where it did "
        "not, its own tolerance lets it miss the constraints by about as much as it seems better"
    )
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(rows, indent=1) + "\n")


def row(name: str, mine: list[float], theirs: list[float], worse: float, gap: float) -> dict[str, Any]:
    """One line of the report; times are medians of milliseconds."""
    ours, anchor = statistics.median(mine), statistics.median(theirs)
    return {
        "name": name,
        "size": "8 assets, 40 pools",
        "ours": ours,
        "anchor": anchor,
        "anchor_name": "cvxpy + Clarabel",
        "ratio": ours / anchor,
        "goal": GOAL,
        "worse_bps": worse,
        "gap_bps": gap,
    }


if __name__ == "__main__":
    main()
