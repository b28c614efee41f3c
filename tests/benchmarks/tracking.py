"""The tracking optimum (the anchors' problem b) beside direct calls of the QP solvers, cold and warm.

Cold: from the arrays of the problem to weights; for ours with the check of the covariance and the certificate, for a
peer with building its matrices and setting it up. Warm: the same covariance, weights held moved by 2 % noise again and
again, as the keeper sees it when prices move; beside the fastest peer's cold solve, and beside OSQP updated and warm
started. All take turns on the same instances; medians; half of the instances have a binding cap. A peer is *correct* on
a size if its objective is at most 1e-4 above the best that anyone found, as a fraction of it, and no constraint is
missed by more than 1e-6; goals are set against the fastest correct one that is called directly.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import clarabel
import cvxpy as cp
import daqp
import highspy
import numpy as np
import osqp
import piqp
import scipy.sparse as sp

from offchain.planner.tracking import Tracked, Tracking, TrackingSolver, solve
from tests.benchmarks.common import Curves, Row, row, taking_turns

SIZES = {10: 30, 50: 16, 200: 8, 500: 4}  # n -> instances
QUICK = {10: 4, 50: 2, 200: 2, 500: 1}
IN_A_ROW = {10: 20, 50: 5, 200: 2, 500: 2}  # calls of a cheap solver at a turn, and moves of the prices
GAP, DEFECT = 1e-7, 1e-12  # what ours may miss
Vector = np.ndarray
NOTED = {  # ms at each n; the anchors' figures
    "DAQP": (0.13, 7.7, 488, 1882),
    "PIQP": (2.9, 3.8, 20, 318),
    "Clarabel": (2.2, 5.3, 57, 273),
    "OSQP polished": (2.8, 5.3, 28, 189),
    "HiGHS": (3.1, 6.3, 47, 325),
    "cvxpy + Clarabel": (16.5, 20.6, 108, 502),
    "cvxpy + OSQP": (18.5, 21.2, 125, 1176),
    "OSQP warm": (0.19, 0.36, 4.7, 66),
}


def instance(n: int, seed: int) -> Tracking:
    """Factor covariance, weights drifted by a quarter, costs of 5 to 50 bps, risk and costs of the same weight."""
    rng = np.random.default_rng(seed)
    factors = max(2, n // 10)
    loadings = np.c_[0.6 + 0.2 * rng.standard_normal(n), rng.normal(0, 0.6 / np.sqrt(factors), (n, factors))]
    vol = rng.uniform(0.2, 0.6, n)
    sigma = (loadings @ loadings.T + np.diag(rng.uniform(0.3, 0.7, n) ** 2)) * np.outer(vol, vol)
    target = rng.dirichlet(np.full(n, 2.0))
    held = target * np.exp(rng.normal(0, 0.25, n))
    held /= held.sum()
    cap = 2.0 if seed % 2 else 0.5 * float(np.abs(target - held).sum())
    return Tracking(target, held, rng.uniform(5e-4, 5e-3, n), sigma, float(n), cap)


def moved(problem: Tracking, seed: int) -> Tracking:
    held = problem.weights * np.exp(
        np.random.default_rng(10_000 + seed).normal(0, 0.02, len(problem.weights))
    )
    return Tracking(
        problem.target,
        held / held.sum(),
        problem.cost,
        problem.covariance,
        problem.aversion,
        problem.turnover,
    )


# ---------------------------------------------------------------- peers: each from the same arrays to weights


def buys_and_sells(p: Tracking) -> tuple[np.ndarray, Vector, Vector, Vector]:
    """Dense form z = (buys, sells) >= 0, w = weights + buys - sells: Hessian, linear term, sum row, upper bounds."""
    assert p.covariance is not None
    n = len(p.target)
    risk = p.aversion * p.covariance
    hessian = np.empty((2 * n, 2 * n))
    hessian[:n, :n] = hessian[n:, n:] = risk
    hessian[:n, n:] = hessian[n:, :n] = -risk
    pull = risk @ (p.weights - p.target)
    row = np.ones(2 * n)
    row[n:] = -1
    return (
        hessian,
        np.concatenate([pull + p.cost, p.cost - pull]),
        row,
        np.concatenate([1 - p.weights, p.weights]),
    )


def by_daqp(p: Tracking) -> Vector:
    hessian, linear, row, most = buys_and_sells(p)
    n = len(p.target)
    rows = np.stack([row, np.ones(2 * n)])
    net = 1 - p.weights.sum()
    sense = np.zeros(2 * n + 2, np.int32)
    sense[2 * n] = 5  # equality
    z = daqp.solve(
        hessian, linear, rows, np.r_[most, net, p.turnover], np.r_[np.zeros(2 * n), net, -1e30], sense
    )[0]
    return p.weights + z[:n] - z[n:]


def by_piqp(p: Tracking) -> Vector:
    hessian, linear, row, most = buys_and_sells(p)
    n = len(p.target)
    solver = piqp.DenseSolver()
    solver.setup(
        hessian, linear, row[None], np.array([1 - p.weights.sum()]), np.ones((1, 2 * n)),
        np.array([-1e30]), np.array([p.turnover]), np.zeros(2 * n), most,
    )  # fmt: skip
    solver.solve()
    return p.weights + solver.result.x[:n] - solver.result.x[n:]


def trades_and_sizes(p: Tracking) -> tuple[sp.csc_matrix, Vector, sp.csc_matrix, Vector, Vector]:
    """Sparse form z = (trades, sizes), |trade| <= size: Hessian (upper), linear term, rows, lower and upper of rows."""
    assert p.covariance is not None
    n = len(p.target)
    risk = p.aversion * p.covariance
    hessian = sp.block_diag([sp.csc_matrix(np.triu(risk)), sp.csc_matrix((n, n))], format="csc")
    one, ones = sp.eye(n, format="csc"), np.ones((1, n))
    rows = sp.bmat([[ones, None], [None, ones], [one, None], [one, -one], [-one, -one]], format="csc")
    net = 1 - p.weights.sum()
    lower = np.r_[net, -np.inf, -p.weights, np.full(2 * n, -np.inf)]
    upper = np.r_[net, p.turnover, 1 - p.weights, np.zeros(2 * n)]
    return hessian, np.r_[risk @ (p.weights - p.target), p.cost], rows, lower, upper


def by_clarabel(p: Tracking) -> Vector:
    hessian, linear, rows, lower, upper = trades_and_sizes(p)
    n = len(p.target)
    matrix = sp.vstack([rows[:1], rows[1:], -rows[2 : 2 + n]], format="csc")
    limits = np.r_[upper, -lower[2 : 2 + n]]
    options = clarabel.DefaultSettings()
    options.verbose = False
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(len(limits) - 1)]
    z = np.array(clarabel.DefaultSolver(hessian, linear, matrix, limits, cones, options).solve().x)
    return p.weights + z[:n]


def osqp_setup(p: Tracking) -> osqp.OSQP:
    solver = osqp.OSQP()
    hessian, linear, rows, lower, upper = trades_and_sizes(p)
    solver.setup(
        hessian,
        linear,
        rows,
        lower,
        upper,
        verbose=False,
        polishing=True,
        eps_abs=1e-6,
        eps_rel=1e-6,
        max_iter=20_000,
    )
    return solver


def by_osqp(p: Tracking) -> Vector:
    return p.weights + osqp_setup(p).solve().x[: len(p.target)]


def by_highs(p: Tracking) -> Vector:
    hessian, linear, rows, lower, upper = trades_and_sizes(p)
    n, m = len(p.target), len(lower)
    triangle = hessian.T.tocsc()  # HiGHS wants the lower triangle
    model = highspy.HighsModel()
    model.lp_.num_col_, model.lp_.num_row_ = 2 * n, m
    model.lp_.col_cost_ = linear
    model.lp_.col_lower_, model.lp_.col_upper_ = (
        np.full(2 * n, -highspy.kHighsInf),
        np.full(2 * n, highspy.kHighsInf),
    )
    model.lp_.row_lower_, model.lp_.row_upper_ = lower, upper
    model.lp_.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.lp_.a_matrix_.start_, model.lp_.a_matrix_.index_ = rows.indptr, rows.indices
    model.lp_.a_matrix_.value_ = rows.data
    model.hessian_.dim_ = 2 * n
    model.hessian_.format_ = highspy.HessianFormat.kTriangular
    model.hessian_.start_, model.hessian_.index_ = triangle.indptr, triangle.indices
    model.hessian_.value_ = triangle.data
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("time_limit", 20.0)
    solver.passModel(model)
    solver.run()
    return p.weights + np.array(solver.getSolution().col_value)[:n]


def by_cvxpy(p: Tracking, solver: str) -> Vector:
    w = cp.Variable(len(p.target), nonneg=True)
    risk = p.aversion / 2 * cp.quad_form(w - p.target, cp.psd_wrap(p.covariance))
    trades = w - p.weights
    problem = cp.Problem(
        cp.Minimize(risk + p.cost @ cp.abs(trades)), [cp.sum(w) == 1, cp.norm1(trades) <= p.turnover]
    )
    problem.solve(solver=solver)
    return np.asarray(w.value)


DIRECT: dict[str, Callable[[Tracking], Vector]] = {
    "DAQP": by_daqp,
    "PIQP": by_piqp,
    "Clarabel": by_clarabel,
    "OSQP polished": by_osqp,
    "HiGHS": by_highs,
}
COLD = DIRECT | {
    "cvxpy + Clarabel": lambda p: by_cvxpy(p, cp.CLARABEL),
    "cvxpy + OSQP": lambda p: by_cvxpy(p, cp.OSQP),
}
PEERS = (*COLD, "OSQP warm")


# ---------------------------------------------------------------- measuring


class Measured(NamedTuple):
    """One solver on one size."""

    ms: float  # median
    gap: float  # worst excess over the best objective found, or certified gap, as a fraction of the objective
    defect: float  # worst miss of a constraint

    @property
    def correct(self) -> bool:
        return self.gap <= 1e-4 and self.defect <= 1e-6


def objective(p: Tracking, w: Vector) -> float:
    assert p.covariance is not None
    miss = w - p.target
    return float(p.aversion / 2 * miss @ p.covariance @ miss + p.cost @ np.abs(w - p.weights))


def defect(p: Tracking, w: Vector) -> float:
    return float(max(abs(w.sum() - 1), -w.min(), np.abs(w - p.weights).sum() - p.turnover, 0.0))


Answers = dict[str, list[tuple[Tracking, Any]]]


def cold(p: Tracking, calls: int) -> tuple[dict[str, list[float]], Answers]:
    """Seconds and answers by name."""
    answers: Answers = {}

    def kept(name: str, call: Callable[[Tracking], Any]) -> Callable[[], None]:
        return lambda: answers.__setitem__(name, [(p, call(p))])

    tasks = {name: kept(name, peer) for name, peer in (COLD | {"ours, cold": solve}).items()}
    return taking_turns(tasks, rounds(calls), dict.fromkeys([*DIRECT, "ours, cold"], calls)), answers


def warm(p: Tracking, seed: int, moves: int) -> tuple[dict[str, list[float]], Answers]:
    """The same after each of some moves of the prices, one after the other, from where the move before it ended."""
    answers: Answers = {}
    solver, ours = osqp_setup(p), TrackingSolver(p.covariance)
    solver.solve()
    ours.solve(p)
    after = [moved(p, 1000 * seed + move) for move in range(moves)]
    tasks = {
        "OSQP warm": lambda: answers.__setitem__("OSQP warm", [(q, osqp_again(solver, q)) for q in after]),
        "ours, warm": lambda: answers.__setitem__("ours, warm", [(q, ours.solve(q)) for q in after]),
    }
    spent = taking_turns(tasks, rounds(moves))
    return {name: [seconds / moves for seconds in times] for name, times in spent.items()}, answers


def rounds(in_a_row: int) -> int:
    """Turns on each instance."""
    return 1 if in_a_row <= 2 else 3


def osqp_again(solver: osqp.OSQP, q: Tracking) -> Vector:
    assert q.covariance is not None
    n = len(q.target)
    net, idle = 1 - q.weights.sum(), np.full(2 * n, -np.inf)
    solver.update(
        q=np.r_[q.aversion * (q.covariance @ (q.weights - q.target)), q.cost],
        l=np.r_[net, -np.inf, -q.weights, idle],
        u=np.r_[net, q.turnover, 1 - q.weights, np.zeros(2 * n)],
    )
    return q.weights + solver.solve().x[:n]


def measure(n: int, instances: int, tick: Callable[[], None]) -> dict[str, Measured]:
    """All solvers on one size."""
    spent, gaps, defects = defaultdict(list), defaultdict(list), defaultdict(list)
    for seed in range(instances):
        p = instance(n, seed)
        for times, answers in (cold(p, IN_A_ROW[n]), warm(p, seed, IN_A_ROW[n])):
            for name, seconds in times.items():
                spent[name].append(float(np.median(seconds)) * 1e3)
            for same in zip(*answers.values(), strict=True):
                judge(dict(zip(answers, same, strict=True)), gaps, defects)
        tick()
    return {
        name: Measured(float(np.median(spent[name])), max(gaps[name]), max(defects[name])) for name in spent
    }


def judge(
    same: dict[str, tuple[Tracking, Any]], gaps: dict[str, list[float]], defects: dict[str, list[float]]
) -> None:
    """Answers to one problem, against each other and against our certificate."""
    found = {name: (p, a.weights if isinstance(a, Tracked) else a) for name, (p, a) in same.items()}
    best = min(objective(p, w) for p, w in found.values() if defect(p, w) < 1e-9)
    for name, (p, w) in found.items():
        gaps[name].append(objective(p, w) / best - 1)
        defects[name].append(defect(p, w))
        answer = same[name][1]
        if isinstance(answer, Tracked):
            gaps[name].append(answer.gap / answer.objective)


def rows_of(n: int, found: dict[str, Measured]) -> list[Row]:
    """Ours beside everybody, with the goals."""
    ours = {"cold": found["ours, cold"], "warm": found["ours, warm"]}
    fastest = min((name for name in DIRECT if found[name].correct), key=lambda name: found[name].ms)
    rows = []
    for name in PEERS:
        peer, how, goal = found[name], "cold", 1.0 if name == fastest else None
        if name == "OSQP warm":
            how, goal = "warm", 1 / 3 if peer.correct else None
        label, noted = name if peer.correct else f"{name} (wrong)", NOTED[name][list(SIZES).index(n)]
        more = {"noted": noted, "gap": peer.gap, "defect": peer.defect}
        rows.append(row(f"optimal trade, {how}", n, ours[how].ms, peer.ms, label, goal, "ms", **more))
    ms = found[fastest].ms
    rows.append(row("optimal trade, warm", n, ours["warm"].ms, ms, f"{fastest}, cold", 1 / 3, "ms"))
    gap, miss = max(one.gap for one in ours.values()), max(one.defect for one in ours.values())
    rows.append(row("worst certified gap", n, gap, GAP, "allowed", 1.0, "of objective", "answer"))
    rows.append(row("worst constraint missed", n, miss, DEFECT, "allowed", 1.0, "of NAV", "answer"))
    return rows


def run(quick: bool, tick: Callable[[], None]) -> tuple[list[Row], Curves, str]:
    """The rows and the growth with n, ms."""
    warnings.simplefilter("ignore")
    solve(instance(10, 0))  # compiled code is loaded
    rows, curves = [], defaultdict(dict)
    for n, instances in (QUICK if quick else SIZES).items():
        found = measure(n, instances, tick)
        rows += rows_of(n, found)
        for name, one in found.items():
            curves[name][n] = one.ms
    return rows, curves, ""


def ticks(quick: bool) -> int:
    """How often `run` calls `tick`."""
    return sum((QUICK if quick else SIZES).values())
