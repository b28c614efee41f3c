"""The tracking optimum (the anchors' problem b) beside direct calls of the QP solvers, cold and warm.

    python tests/benchmarks/tracking.py           prints the table, writes reports/benchmarks/tracking.{json,png}

Cold: from the arrays of the problem to weights; for ours with the check of the covariance and the certificate, for a
peer with building its matrices and setting it up. Warm: the same covariance, weights held moved by 2 % noise, as the
keeper sees it; the goal compares that with the fastest peer's *cold* solve, and OSQP updated and warm started is shown
beside it. All take turns on the same instances in one run; medians; half of the instances have a binding cap. `worst
gap`: the largest excess over the best objective that anyone found, as a fraction of it (for ours also the largest
certified gap / objective). A peer is *correct* on a size if that is at most 1e-4 and no constraint is missed by more
than 1e-6; ratios are taken against the fastest correct one. One BLAS thread for everybody.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import clarabel
import daqp
import highspy
import matplotlib as mpl
import numpy as np
import osqp
import piqp
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from offchain.planner.tracking import Tracking, TrackingSolver, solve  # noqa: E402

REPORT = ROOT / "reports" / "benchmarks" / "tracking.json"
PICTURE = REPORT.with_suffix(".png")
SIZES = {10: 40, 50: 20, 200: 8, 500: 4}  # n -> instances
Vector = np.ndarray


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


COLD: dict[str, Callable[[Tracking], Vector]] = {
    "DAQP": by_daqp,
    "PIQP": by_piqp,
    "Clarabel": by_clarabel,
    "OSQP polished": by_osqp,
    "HiGHS": by_highs,
}


# ---------------------------------------------------------------- measuring


def objective(p: Tracking, w: Vector) -> float:
    assert p.covariance is not None
    return float(
        p.aversion / 2 * (w - p.target) @ p.covariance @ (w - p.target) + p.cost @ np.abs(w - p.weights)
    )


def defect(p: Tracking, w: Vector) -> float:
    return float(max(abs(w.sum() - 1), -w.min(), np.abs(w - p.weights).sum() - p.turnover, 0.0))


def timed(call: Callable[[], Vector], repeats: int) -> tuple[Vector, float]:
    """The answer and the median of the times, seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return answer, float(np.median(times))


def measure(n: int, instances: int) -> dict[str, dict[str, float]]:
    """name -> median milliseconds, worst gap, worst defect; ours also the worst certificate."""
    times, gaps, defects = defaultdict(list), defaultdict(list), defaultdict(list)
    repeats = {10: 9, 50: 5}.get(n, 1)
    proofs, untraded, benefit = [], [], []
    solve(instance(n, 0))  # compiled code is loaded
    for seed in range(instances):
        p = instance(n, seed)
        q = moved(p, seed)
        answers: dict[str, tuple[Tracking, Vector]] = {}
        for name, peer in COLD.items():
            w, t = timed(lambda peer=peer, p=p: peer(p), repeats)
            times[name].append(t)
            answers[name] = (p, w)
        solver = osqp_setup(p)
        solver.solve()

        def osqp_again(solver: osqp.OSQP = solver, q: Tracking = q) -> Vector:
            net = 1 - q.weights.sum()
            idle = np.full(2 * n, -np.inf)
            assert q.covariance is not None
            pull = q.aversion * (q.covariance @ (q.weights - q.target))
            solver.update(
                q=np.r_[pull, q.cost],
                l=np.r_[net, -np.inf, -q.weights, idle],
                u=np.r_[net, q.turnover, 1 - q.weights, np.zeros(2 * n)],
            )
            return q.weights + solver.solve().x[:n]

        w, t = timed(osqp_again, 1)  # a second call would start at its own answer
        times["OSQP warm"].append(t)
        answers["OSQP warm"] = (q, w)

        found, t = timed(lambda p=p: solve(p), repeats)
        times["ours, cold"].append(t)
        answers["ours, cold"] = (p, found.weights)
        warm_times = []
        for _ in range(repeats):
            ours = TrackingSolver(p.covariance)
            ours.solve(p)
            again, t = timed(lambda q=q, ours=ours: ours.solve(q), 1)
            warm_times.append(t)
        times["ours, warm"].append(float(np.median(warm_times)))
        answers["ours, warm"] = (q, again.weights)
        proofs += [found.gap / found.objective, again.gap / again.objective]
        untraded.append(found.untraded.mean())
        if seed % 2:
            benefit.append(1 - found.objective / objective(p, p.target))
        for group in (p, q):
            best = min(objective(x, w) for x, w in answers.values() if x is group and defect(x, w) < 1e-9)
            for name, (x, w) in answers.items():
                if x is group:
                    gaps[name].append(objective(x, w) / best - 1)
                    defects[name].append(defect(x, w))
    rows = {
        name: {
            "ms": 1e3 * float(np.median(times[name])),
            "gap": float(np.max(gaps[name])),
            "defect": float(np.max(defects[name])),
        }
        for name in times
    }
    rows["ours, cold"] |= {
        "certified": float(np.max(proofs)),
        "untraded": float(np.mean(untraded)),
        "benefit": float(np.mean(benefit)),
    }
    return rows


def is_correct(row: dict[str, float]) -> bool:
    return row["gap"] <= 1e-4 and row["defect"] <= 1e-6


def compare(n: int, rows: dict[str, dict[str, float]]) -> list[dict[str, object]]:
    """The report's rows: ours against the fastest correct peer."""
    right = {name: rows[name]["ms"] for name in COLD if is_correct(rows[name])}
    fastest = min(right, key=lambda name: right[name])
    out: list[dict[str, object]] = []
    for name, goal in (("ours, cold", 1.0), ("ours, warm", 1 / 3)):
        ours = rows[name]["ms"]
        out.append(
            {
                "name": f"tracking, {name.split()[-1]}",
                "size": n,
                "ours": ours,
                "anchor": right[fastest],
                "anchor_name": f"{fastest}, cold, ms",
                "ratio": ours / right[fastest],
                "goal": goal,
            }
        )
    proof = rows["ours, cold"]["certified"]
    out.append(
        {
            "name": "tracking, certified gap",
            "size": n,
            "ours": proof,
            "anchor": 1e-7,
            "anchor_name": "goal",
            "ratio": proof / 1e-7,
            "goal": 1.0,
        }
    )
    return out


def draw(measured: dict[int, dict[str, dict[str, float]]]) -> None:
    """Growth with n, logarithmic on both axes."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    sizes = list(measured)
    for name in [*COLD, "OSQP warm", "ours, cold", "ours, warm"]:
        ours = name.startswith("ours")
        axes.plot(
            sizes,
            [measured[n][name]["ms"] for n in sizes],
            label=name,
            marker="o",
            linewidth=2.5 if ours else 1,
            linestyle="--" if "warm" in name else "-",
            color={"ours, cold": "black", "ours, warm": "black"}.get(name),
        )
    axes.set(xscale="log", yscale="log", xlabel="assets", ylabel="ms a solve (median)")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    warnings.simplefilter("ignore")
    console = Console()
    measured, report = {}, []
    table = Table(title="Tracking optimum: ms a solve (worst gap)")
    for column in (
        "n",
        *COLD,
        "OSQP warm",
        "ours, cold",
        "ours, warm",
        "cold ratio",
        "warm ratio",
        "certified",
    ):
        table.add_column(column, justify="right")
    for n, instances in SIZES.items():
        console.print(f"n = {n}: {instances} instances")
        rows = measured[n] = measure(n, instances)
        compared = compare(n, rows)
        report += compared
        cells = []
        for name in [*COLD, "OSQP warm", "ours, cold", "ours, warm"]:
            row = rows[name]
            flag = "" if is_correct(row) else " ✗"
            cells.append(f"{row['ms']:.3g} ({row['gap']:.0e}){flag}")
        table.add_row(
            str(n),
            *cells,
            f"{compared[0]['ratio']:.2f}",
            f"{compared[1]['ratio']:.2f}",
            f"{compared[2]['ours']:.0e}",
        )
    console.print(table)
    for n in SIZES:
        row = measured[n]["ours, cold"]
        console.print(
            f"n = {n}: {row['untraded']:.0%} of names untraded; without the cap the optimum costs "
            f"{row['benefit']:.0%} less than trading to the target"
        )
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"rows": report, "measured": measured}, indent=1) + "\n")
    draw(measured)
    console.print(f"written: {REPORT.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
