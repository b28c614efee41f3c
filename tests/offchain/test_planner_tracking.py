"""The tracking optimum against cvxpy with Clarabel, brute force, and its own promises."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.errors import PlannerError
from offchain.planner.tracking import AssetState, Tracked, Tracking, TrackingSolver, certificate, solve

GAP = 1e-7
KINDS = ("factor", "low rank", "twins", "cash", "correlated", "few samples", "none")


def objective(problem: Tracking, w: np.ndarray) -> float:
    """F(w), written once more."""
    miss = w - problem.target
    risk = miss @ miss if problem.covariance is None else miss @ problem.covariance @ miss
    return float(problem.aversion / 2 * risk + problem.cost @ np.abs(w - problem.weights))


def assert_feasible(problem: Tracking, w: np.ndarray) -> None:
    n = len(w)
    lower = np.zeros(n) if problem.lower is None else problem.lower
    upper = np.ones(n) if problem.upper is None else problem.upper
    assert abs(w.sum() - 1) <= 1e-12
    assert (w >= lower).all() and (w <= upper).all()
    assert np.abs(w - problem.weights).sum() <= problem.turnover + 1e-12


def assert_optimal(problem: Tracking, found: Tracked) -> None:
    assert_feasible(problem, found.weights)
    assert found.objective == pytest.approx(objective(problem, found.weights), rel=1e-9, abs=1e-18)
    assert found.certified and 0 <= found.relative_gap <= GAP, (found.relative_gap, found.method)
    assert found.turnover_price >= 0


def covariance(kind: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
    vol = np.exp(rng.normal(0, 0.5, n)) * 0.3
    if kind == "none":
        return None
    if kind == "factor":
        loadings = rng.standard_normal((n, 2))
        sigma = loadings @ loadings.T + np.diag(rng.uniform(0.2, 0.7, n) ** 2)
    elif kind == "low rank":
        loadings = rng.standard_normal((n, max(1, n // 3)))
        sigma = loadings @ loadings.T
    elif kind == "twins":  # every asset's double is in the basket
        loadings = rng.standard_normal((n, n))
        loadings[n // 2 :] = loadings[: n - n // 2]
        sigma = loadings @ loadings.T
    elif kind == "cash":  # one asset without risk
        loadings = rng.standard_normal((n, n))
        loadings[0] = 0
        sigma = loadings @ loadings.T / n
    elif kind == "correlated":
        sigma = 0.0001 * np.eye(n) + 0.9999
    else:
        sample = rng.standard_normal((max(2, n // 2), n))
        sigma = np.cov(sample.T).reshape(n, n)
    return sigma * np.outer(vol, vol)


def market(seed: int, n: int, kind: str = "factor", **changes: object) -> Tracking:
    """A drifted portfolio in which risk and costs weigh about the same."""
    rng = np.random.default_rng(seed)
    sigma = covariance(kind, n, rng)
    target = rng.dirichlet(np.full(n, 2.0))
    held = target * np.exp(rng.normal(0, 0.25, n))
    held /= held.sum()
    cost = rng.uniform(5e-4, 5e-3, n)
    pull = np.abs((np.eye(n) if sigma is None else sigma) @ (held - target)).mean()
    aversion = float(cost.mean() / pull * np.exp(rng.normal(0.5, 0.7)))
    turnover = float(np.abs(target - held).sum() * rng.uniform(0.2, 0.9)) if rng.random() < 0.5 else 2.0
    return replace(Tracking(target, held, cost, sigma, aversion, turnover), **changes)  # type: ignore[arg-type]


def clarabel(problem: Tracking) -> float:
    """The optimal objective by cvxpy; the problem is scaled so that the solver's tolerances mean something."""
    n = len(problem.target)
    sigma = np.eye(n) if problem.covariance is None else problem.covariance
    values, vectors = np.linalg.eigh(sigma)
    root = (vectors * np.sqrt(np.maximum(values, 0))).T
    scale = objective(problem, problem.weights) or 1.0
    w = cp.Variable(n)
    risk = cp.sum_squares(np.sqrt(problem.aversion / 2 / scale) * root @ (w - problem.target))
    costs = (problem.cost / scale) @ cp.abs(w - problem.weights)
    lower = np.zeros(n) if problem.lower is None else problem.lower
    upper = np.ones(n) if problem.upper is None else problem.upper
    limits = [cp.sum(w) == 1, w >= lower, w <= upper, cp.norm1(w - problem.weights) <= problem.turnover]
    task = cp.Problem(cp.Minimize(risk + costs), limits)
    task.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(task.value) * scale


# ---------------------------------------------------------------- against others


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_equals_clarabel(kind: str, n: int) -> None:
    for seed in range(4):
        problem = market(seed, n, kind)
        found = solve(problem)
        assert_optimal(problem, found)
        best = clarabel(problem)
        scale = objective(problem, problem.weights)
        assert abs(found.objective - best) <= 1e-6 * scale, (seed, found.objective, best)


@pytest.mark.parametrize("seed", range(6))
def test_equals_clarabel_inside_bounds(seed: int) -> None:
    problem = market(seed, 12)
    rng = np.random.default_rng(seed)
    lower, upper = problem.target * rng.uniform(0.7, 1, 12), problem.target * rng.uniform(1, 1.3, 12)
    problem = replace(problem, lower=lower, upper=upper, turnover=2.0)  # the weights held lie outside some
    held = problem.weights
    assert (held < lower).any() or (held > upper).any()
    found = solve(problem)
    assert_optimal(problem, found)
    assert ((found.states == AssetState.AT_LOWER) <= (found.weights == lower)).all()
    assert abs(found.objective - clarabel(problem)) <= 1e-6 * found.objective


@pytest.mark.parametrize("seed", range(8))
def test_a_mean_variance_problem_is_one_with_another_target(seed: int) -> None:
    held = market(seed, 10)
    assert held.covariance is not None
    expected = np.random.default_rng(seed).normal(0.05, 0.05, 10)
    target = np.linalg.solve(held.covariance, expected) / held.aversion
    found = solve(replace(held, target=target))
    w = cp.Variable(10, nonneg=True)
    root, trades = np.linalg.cholesky(held.covariance).T, w - held.weights
    gain = expected @ w - held.aversion / 2 * cp.sum_squares(root @ w) - held.cost @ cp.abs(trades)
    task = cp.Problem(cp.Maximize(gain), [cp.sum(w) == 1, cp.norm1(trades) <= held.turnover])
    best = task.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    w.value = found.weights
    assert found.certified
    assert abs(gain.value - best) <= 1e-8 * abs(best)


@pytest.mark.parametrize("seed", range(6))
def test_two_assets_equal_a_fine_grid(seed: int) -> None:
    problem = market(seed, 2)
    held, half = problem.weights[0], min(problem.turnover, 1) / 2 * (1 - 1e-12)
    corners = [held, problem.target[0], held - half, held + half]
    first = np.clip(np.append(np.linspace(0, 1, 200_001), corners), 0, 1)
    grid = np.stack([first, 1 - first])
    miss = grid - problem.target[:, None]
    moves = np.abs(grid - problem.weights[:, None])
    assert problem.covariance is not None
    values = (
        problem.aversion / 2 * np.einsum("ik,ij,jk->k", miss, problem.covariance, miss) + problem.cost @ moves
    )
    values[moves.sum(0) > problem.turnover] = np.inf
    found = solve(problem)
    assert_optimal(problem, found)
    assert found.objective <= values.min() * (1 + 1e-9)
    assert found.objective >= values.min() * (1 - 1e-4)  # the grid's own coarseness


@pytest.mark.parametrize("seed", range(6))
def test_three_assets_equal_every_combination_of_states(seed: int) -> None:
    """Brute force over what each asset does: each combination is a linear system."""
    problem = market(seed, 3, turnover=2.0)
    assert problem.covariance is not None
    best = np.inf
    for states in itertools.product((-2, -1, 0, 1), repeat=3):  # down to 0, sold, untraded, bought
        free = [i for i in range(3) if abs(states[i]) == 1]
        w = np.array([0.0 if s == -2 else h for s, h in zip(states, problem.weights, strict=True)])
        if free:
            m = len(free)
            kkt = np.ones((m + 1, m + 1))
            kkt[:m, :m], kkt[m, m] = problem.aversion * problem.covariance[np.ix_(free, free)], 0
            fixed = w.copy()
            fixed[free] = 0
            slope = problem.aversion * problem.covariance @ (fixed - problem.target)
            signs = np.array([states[i] for i in free])
            answer = np.linalg.solve(
                kkt, np.append(-slope[free] - problem.cost[free] * signs, 1 - fixed.sum())
            )
            w[free] = answer[:m]
        if abs(w.sum() - 1) < 1e-9 and (w >= 0).all():
            best = min(best, objective(problem, w))
    assert solve(problem).objective == pytest.approx(best, rel=1e-9)


# ---------------------------------------------------------------- corners


def test_holding_the_target_is_left_alone() -> None:
    problem = market(1, 8)
    found = solve(replace(problem, weights=problem.target))
    assert np.array_equal(found.weights, problem.target) and found.gap == 0 and found.untraded.all()


def test_no_turnover_allows_no_trade() -> None:
    problem = market(2, 8, turnover=0.0)
    found = solve(problem)
    assert_optimal(problem, found)
    assert np.array_equal(found.weights, problem.weights)


def test_no_costs_trade_to_the_target() -> None:
    problem = market(3, 8, turnover=2.0, cost=np.zeros(8))
    found = solve(problem)
    assert_optimal(problem, found)
    assert found.weights == pytest.approx(problem.target, abs=1e-9)


def test_prohibitive_costs_stop_all_trades() -> None:
    problem = market(4, 8, cost=np.ones(8))
    found = solve(problem)
    assert_optimal(problem, found)
    assert np.array_equal(found.weights, problem.weights)


def test_one_asset_has_one_answer() -> None:
    assert solve(Tracking(np.ones(1), np.ones(1), np.zeros(1))).weights.tolist() == [1.0]


def test_a_binding_cap_is_used_in_full_and_has_a_price() -> None:
    free = market(5, 10, turnover=2.0)
    wanted = np.abs(solve(free).weights - free.weights).sum()
    assert wanted > 0 and not solve(free).cap_binds
    capped = replace(free, turnover=wanted / 2)
    found = solve(capped)
    assert_optimal(capped, found)
    assert found.cap_binds
    assert np.abs(found.weights - free.weights).sum() == pytest.approx(wanted / 2, rel=1e-9)
    looser = solve(replace(capped, turnover=capped.turnover + 1e-6))
    assert (found.objective - looser.objective) / 1e-6 == pytest.approx(found.turnover_price, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_units_do_not_matter(scale: float) -> None:
    """The covariance of another period, the aversion to match: the same weights."""
    problem = market(6, 20)
    assert problem.covariance is not None
    scaled = replace(problem, covariance=problem.covariance * scale, aversion=problem.aversion / scale)
    found = solve(scaled)
    assert_optimal(scaled, found)
    assert found.weights == pytest.approx(solve(problem).weights, abs=1e-9)


def test_no_covariance_is_the_identity() -> None:
    problem = market(7, 10, "none")
    assert np.array_equal(solve(problem).weights, solve(replace(problem, covariance=np.eye(10))).weights)


def test_where_the_active_set_gives_up_the_descent_finds_the_optimum() -> None:
    """Low rank, costs a hundred times too small to matter: states flip for ever."""
    methods = set()
    for seed in range(60):
        problem = market(seed, 16, "low rank")
        problem = replace(problem, cost=problem.cost / 100)
        found = solve(problem)
        assert_optimal(problem, found)
        methods.add(found.method)
    assert methods == {"active set", "descent"}


# ---------------------------------------------------------------- a solver used again


def test_a_warm_solver_gives_the_same_answers() -> None:
    problem = market(8, 50, turnover=2.0)
    solver = TrackingSolver(problem.covariance)
    rng = np.random.default_rng(8)
    systems = []
    for _ in range(10):
        held = problem.weights * np.exp(rng.normal(0, 0.01, 50))
        problem = replace(problem, weights=held / held.sum())
        warm, cold = solver.solve(problem), solve(problem)
        assert_optimal(problem, warm)
        assert warm.weights == pytest.approx(cold.weights, abs=1e-9)
        systems.append((warm.systems, cold.systems))
    assert sum(warm for warm, _ in systems[1:]) < sum(cold for _, cold in systems[1:])


def test_a_solver_refuses_another_covariance() -> None:
    problem = market(9, 5)
    assert problem.covariance is not None
    solver = TrackingSolver(problem.covariance)
    solver.solve(replace(problem, covariance=problem.covariance.copy()))  # equal numbers are the same
    with pytest.raises(PlannerError, match="not this solver's"):
        solver.solve(replace(problem, covariance=2 * problem.covariance))


def test_a_solver_keeps_its_own_copy() -> None:
    problem = market(9, 5)
    assert problem.covariance is not None
    before = solve(problem)
    solver = TrackingSolver(problem.covariance)
    problem.covariance[:] = np.eye(5)
    assert np.array_equal(solver.solve(problem).weights, before.weights)


# ---------------------------------------------------------------- refusals

BROKEN = [
    ({"aversion": 0.0}, "aversion"),
    ({"aversion": float("nan")}, "aversion"),
    ({"cost": np.array([0.1, -0.1, 0.1])}, "cost: below 0"),
    ({"target": np.array([np.nan, 0.5, 0.5])}, "finite"),
    ({"cost": np.array([np.nan, 0.5, 0.5])}, "finite"),
    ({"cost": np.zeros(2)}, "finite"),
    ({"weights": np.array([0.5, 0.5, 0.5])}, "weights: must sum to 1"),
    ({"lower": np.array([0.5, 0.5, 0.5])}, "room for a sum of 1"),
    ({"upper": np.array([0.2, 0.2, 0.2])}, "room for a sum of 1"),
    ({"lower": np.array([-0.1, 0.0, 0.0])}, "0 <= lower"),
    ({"turnover": -0.1}, "turnover"),
    ({"turnover": float("nan")}, "turnover"),
    ({"turnover": 0.0, "lower": np.array([0.9, 0.0, 0.0])}, "turnover: too small"),
    ({"covariance": np.eye(4)}, "covariance: 4 assets"),
    ({"covariance": np.zeros((3, 3))}, "covariance: not finite"),
    ({"covariance": np.diag([1.0, 1.0, -1.0])}, "covariance: not finite"),
    ({"covariance": np.array([[1.0, 2.0, 0], [2.0, 1.0, 0], [0, 0, 1]])}, "covariance: not finite"),
    ({"covariance": np.array([[1.0, 0.5, 0], [0.2, 1.0, 0], [0, 0, 1]])}, "covariance: not finite"),
    ({"covariance": np.full((3, 3), np.nan)}, "covariance: not finite"),
    ({"covariance": np.ones((3, 2))}, "covariance: not square"),
]


@pytest.mark.parametrize(
    ("change", "message"), BROKEN, ids=[f"{list(c)[-1]} {i}" for i, (c, _) in enumerate(BROKEN)]
)
def test_a_malformed_problem_is_refused(change: dict[str, object], message: str) -> None:
    third = np.full(3, 1 / 3)
    problem = Tracking(third, third, np.full(3, 0.001), np.eye(3))
    solve(problem)
    with pytest.raises(PlannerError, match=message):
        solve(replace(problem, **change))  # type: ignore[arg-type]


def test_integers_and_strided_arrays_are_read() -> None:
    target = np.array([[0.5, 9.0], [0.5, 9.0]])[:, 0]
    found = solve(Tracking(target, np.array([1, 0]), np.array([0, 0]), np.eye(2, dtype=np.int64), 1, 2))  # type: ignore[arg-type]
    assert found.weights == pytest.approx([0.5, 0.5])


# ---------------------------------------------------------------- properties

problems = st.builds(market, st.integers(0, 2**31), st.integers(2, 16), st.sampled_from(KINDS))


@settings(max_examples=150, deadline=None)
@given(problem=problems)
def test_never_worse_than_staying_or_than_the_target(problem: Tracking) -> None:
    found = solve(problem)
    assert_optimal(problem, found)
    assert found.objective <= objective(problem, problem.weights) * (1 + 1e-9)
    if np.abs(problem.target - problem.weights).sum() <= problem.turnover:
        assert found.objective <= objective(problem, problem.target) * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(problem=problems, seed=st.integers(0, 2**31))
def test_no_feasible_portfolio_beats_the_bound(problem: Tracking, seed: int) -> None:
    found = solve(problem)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        w = rng.dirichlet(np.full(len(problem.target), 0.5))
        traded = np.abs(w - problem.weights).sum()
        w = problem.weights + min(1, problem.turnover / traded) * (w - problem.weights)
        assert objective(problem, w) >= found.objective - found.gap - 1e-15
        near = 0.999 * found.weights + 0.001 * w
        assert objective(problem, near) >= found.objective - found.gap - 1e-15


@settings(max_examples=100, deadline=None)
@given(problem=problems, nu=st.floats(-0.1, 0.1), lam=st.floats(0, 0.1), seed=st.integers(0, 2**31))
def test_the_certificate_holds_for_any_prices_and_weights(
    problem: Tracking, nu: float, lam: float, seed: int
) -> None:
    """Objective − gap is below the optimum whatever made the weights and prices."""
    best = solve(problem).objective
    rng = np.random.default_rng(seed)
    w = problem.weights + rng.random() * (rng.dirichlet(np.ones(len(problem.target))) - problem.weights)
    traded = np.abs(w - problem.weights).sum()
    if traded > problem.turnover:
        w = problem.weights + problem.turnover / traded * (w - problem.weights)
    value, gap = certificate(problem, w, nu, lam)
    assert value == pytest.approx(objective(problem, w), rel=1e-9, abs=1e-18)
    assert gap >= 0 and value - gap <= best * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(problem=problems, seed=st.integers(0, 2**31))
def test_the_order_of_the_assets_does_not_matter(problem: Tracking, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(problem.target))
    sigma = problem.covariance
    shuffled = replace(
        problem,
        target=problem.target[order],
        weights=problem.weights[order],
        cost=problem.cost[order],
        covariance=None if sigma is None else sigma[np.ix_(order, order)],
    )
    found, again = solve(problem), solve(shuffled)
    assert again.objective == pytest.approx(found.objective, rel=1e-7)
    if sigma is None or np.linalg.cond(sigma) < 1e6:
        assert again.weights == pytest.approx(found.weights[order], abs=1e-7)


@pytest.mark.parametrize("scale", [1e2, 1e5, 1e8, 1e11])
def test_costs_beyond_all_proportion_stop_all_trades(scale: float) -> None:
    """Rounding in the costs swamps the risk; a vault must not be sold into one asset for it."""
    for seed in range(40):
        for kind in ("cash", "correlated", "low rank"):
            problem = market(seed, 6, kind, turnover=2.0)
            problem = replace(problem, aversion=problem.aversion / scale)
            found = solve(problem)
            assert_feasible(problem, found.weights)
            assert found.objective <= objective(problem, problem.weights) * (1 + 1e-9)
