"""Each strategy against what defines it, by other means than the code that found it."""

from __future__ import annotations

from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from skfolio.datasets import load_sp500_dataset

from offchain.strategies import KINDS, NAMES, Constraints, StrategyError, make
from offchain.strategies.forecast import SPANS, panel
from offchain.strategies.genetic import OBJECTIVES

NOW = "2022-12-28"


@cache
def closes() -> pd.DataFrame:
    return load_sp500_dataset().iloc[-253:, :10]


def returns() -> np.ndarray:
    return closes().pct_change().iloc[1:].to_numpy()


def weights(
    name: str, history: pd.DataFrame | None = None, limits: Constraints | None = None, **more: Any
) -> np.ndarray:
    history = closes() if history is None else history
    return make(name, more, limits).target_weights(history, history.index[-1]).to_numpy()


def correlated(stock: int, rows: int, rho: float, seed: int = 0) -> np.ndarray:
    """(rows, stock) returns of 1 % deviation a row and one pairwise correlation."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(rows, 1)), rng.normal(size=(rows, stock))
    return 0.01 * (np.sqrt(rho) * common + np.sqrt(1 - rho) * own)


def frame(x: np.ndarray, first: str = "2020-01-01") -> pd.DataFrame:
    prices = 100 * np.cumprod(np.vstack([np.ones(x.shape[1]), 1 + x]), axis=0)
    return pd.DataFrame(
        prices, pd.date_range(first, periods=len(prices)), [f"a{i}" for i in range(x.shape[1])]
    )


# ---------------------------------------------------------------- all


@pytest.mark.parametrize("name", [name for name in NAMES if name != "forecast-torch"])
def test_all_give_weights_over_the_columns_that_sum_to_1_and_are_the_same_again(name: str) -> None:
    settings = {
        "fixed": {"weights": {"AAPL": 0.3, "AMD": 0.7}},
        "volatility-target": {"cash": "AAPL"},
        "genetic": {"generations": 5},
    }.get(name, {})
    strategy = make(name, settings)
    found = strategy.target_weights(closes(), NOW)
    assert list(found.index) == list(closes().columns)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found == strategy.target_weights(closes(), NOW)).all()
    assert (found == make(name, settings).target_weights(closes(), NOW)).all()


def test_fixed_and_equal() -> None:
    history = closes().iloc[:1]
    assert weights("fixed", history, weights={"AMD": 1.0})[1] == 1
    assert (weights("fixed", history, weights=[0.1] * 10) == 0.1).all()
    assert (weights("equal", history) == 0.1).all()


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "name", ["mean-variance", "min-variance", "max-sharpe", "risk-parity", "hrp", "correlation-aware"]
)
def test_one_or_two_assets_are_enough(name: str, n: int) -> None:
    assert weights(name, closes().iloc[:, :n]).sum() == pytest.approx(1, abs=1e-12)


def test_prices_that_never_move_are_refused_in_words() -> None:
    flat = pd.DataFrame(1.0, closes().index, ["a", "b"])
    with pytest.raises(StrategyError, match="no asset's price moves in the history"):
        weights("min-variance", flat)


def test_a_stablecoin_beside_stocks_is_no_obstacle() -> None:
    with_cash = closes().assign(USD=1.0)
    for name in ("min-variance", "risk-parity", "max-sharpe", "mean-variance", "hrp"):
        w = weights(name, with_cash)
        assert w.sum() == pytest.approx(1, abs=1e-12)
    assert weights("min-variance", with_cash, covariance="sample")[-1] == pytest.approx(1, abs=1e-3)


# ---------------------------------------------------------------- mean-variance


@pytest.mark.parametrize("aversion", [1.0, 10.0, 100.0, 1e4])
def test_mean_variance_satisfies_the_conditions_of_the_qp(aversion: float) -> None:
    """min ½ wᵀΣw − λ rᵀw, Σw = 1, w >= 0: Σw − λr + ν = μ >= 0 with μ = 0 where w > 0 (Karush, Kuhn, Tucker)."""
    w = weights("mean-variance", risk_aversion=aversion)
    sigma, r, lam = np.cov(returns().T), returns().mean(axis=0), 1 / aversion
    slope = sigma @ w - lam * r
    held = w > 1e-9
    nu = -slope[held].mean()
    scale = np.abs(lam * r).max() + np.abs(sigma).max()
    assert np.abs(slope[held] + nu).max() <= 1e-8 * scale
    assert (slope + nu >= -1e-8 * scale).all()
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (w >= 0).all()


def test_mean_variance_is_what_cvxpy_finds() -> None:
    sigma, r = np.cov(returns().T) * 1e4, returns().mean(axis=0) * 1e4
    w = cp.Variable(10)
    cp.Problem(cp.Minimize(50 * cp.quad_form(w, cp.psd_wrap(sigma)) - r @ w), [cp.sum(w) == 1, w >= 0]).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    assert weights("mean-variance", risk_aversion=100.0) == pytest.approx(w.value, abs=1e-6)


def test_mean_variance_without_expected_returns_is_the_inverse_variance_of_uncorrelated_assets() -> None:
    x = correlated(3, 40_000, 0.0) * np.array([1, 2, 4])
    w = weights("min-variance", frame(x), covariance="sample")
    assert w == pytest.approx(np.array([16, 4, 1]) / 21, abs=0.01)


@pytest.mark.parametrize("aversion", [20.0, 200.0])
def test_bounds_and_groups_are_in_the_qp_not_only_after_it(aversion: float) -> None:
    names = list(closes().columns)
    limits = Constraints(
        max_weights=0.3, groups={"g": names[:5]}, min_groups={"g": 0.6}, min_weights={names[9]: 0.05}
    )
    got = weights("mean-variance", limits=limits, risk_aversion=aversion)
    sigma, r = np.cov(returns().T) * 1e4, returns().mean(axis=0) * 1e4
    w = cp.Variable(10)
    rules = [cp.sum(w) == 1, w >= 0, w <= 0.3, cp.sum(w[:5]) >= 0.6, w[9] >= 0.05]
    cp.Problem(cp.Minimize(aversion / 2 * cp.quad_form(w, cp.psd_wrap(sigma)) - r @ w), rules).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    assert got == pytest.approx(w.value, abs=1e-5)


# ---------------------------------------------------------------- the other optimisers


def random_weights(n: int, count: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.vstack([rng.dirichlet(np.full(n, a), count // 2) for a in (0.2, 1.0)])


def test_min_variance_is_below_all_random_weights_and_meets_the_conditions() -> None:
    w = weights("min-variance", covariance="sample")
    sigma = np.cov(returns().T)
    others = random_weights(10)
    assert w @ sigma @ w < np.einsum("ki,ij,kj->k", others, sigma, others).min()
    slope = sigma @ w
    assert slope[w > 1e-9] == pytest.approx(np.full((w > 1e-9).sum(), w @ sigma @ w), rel=1e-6)
    assert (slope >= w @ sigma @ w * (1 - 1e-6)).all()


def test_max_sharpe_is_above_all_random_weights_and_on_the_tangent() -> None:
    w = weights("max-sharpe", covariance="sample", risk_free_rate=0.01)
    sigma, r = np.cov(returns().T), returns().mean(axis=0) - 0.01 / 252
    others = random_weights(10)
    ratios = others @ r / np.sqrt(np.einsum("ki,ij,kj->k", others, sigma, others))
    assert w @ r / np.sqrt(w @ sigma @ w) > ratios.max()
    price = (w @ r) / (w @ sigma @ w)  # r = price · Σw on what is held, r <= price · Σw elsewhere
    held = w > 1e-4
    assert r[held] == pytest.approx(price * (sigma @ w)[held], abs=1e-5 * np.abs(r).max() + 1e-7)
    assert (r <= price * (sigma @ w) + 1e-6).all()


def test_max_sharpe_where_nothing_beats_the_free_rate_is_the_minimum_variance() -> None:
    falling = frame(correlated(4, 300, 0.3) - 0.01)
    assert weights("max-sharpe", falling) == pytest.approx(weights("min-variance", falling), abs=1e-9)


def test_risk_parity_contributes_equally_and_by_budget() -> None:
    sigma = np.cov(returns().T)
    w = weights("risk-parity", covariance="sample")
    shares = w * (sigma @ w) / (w @ sigma @ w)
    assert shares == pytest.approx(np.full(10, 0.1), abs=1e-4)
    w = weights("risk-parity", covariance="sample", budget={"AAPL": 3.0})
    shares = w * (sigma @ w) / (w @ sigma @ w)
    assert shares == pytest.approx(np.array([3] + [1] * 9) / 12, abs=1e-4)


def test_hrp_of_two_is_inverse_variance_and_twins_share_a_place() -> None:
    x = returns()[:, :2]
    v = x.var(axis=0)
    assert weights("hrp", closes().iloc[:, :2], covariance="sample") == pytest.approx(
        (1 / v) / (1 / v).sum(), rel=1e-3
    )
    one = correlated(2, 4000, 0.0)
    twins = np.column_stack([one[:, 0], one[:, 1], one[:, 1] + correlated(1, 4000, 0.0, 5)[:, 0] * 0.01])
    w = weights("hrp", frame(twins), covariance="sample")
    assert w[0] == pytest.approx(0.5, abs=0.03)  # the tree puts the twins into one half
    assert w[1:] == pytest.approx([0.25, 0.25], abs=0.03)


# ---------------------------------------------------------------- Black-Litterman


def test_black_litterman_without_views_is_the_equilibrium() -> None:
    assert weights("black-litterman") == pytest.approx(np.full(10, 0.1), abs=1e-6)


def test_black_litterman_is_the_published_formula() -> None:
    """μ = π + τΣPᵀ(PτΣPᵀ + Ω)⁻¹(q − Pπ), Ω = diag(PτΣPᵀ) (He and Litterman 1999), then the QP."""
    tau, aversion = 0.05, 2.5
    got = weights(
        "black-litterman",
        views=["AAPL = 0.2", "AMD - BAC = 0.1"],
        tau=tau,
        risk_aversion=aversion,
        covariance="sample",
    )
    sigma = np.cov(returns().T)
    pi = aversion * sigma @ np.full(10, 0.1)
    p = np.zeros((2, 10))
    p[0, 0], p[1, 1], p[1, 2] = 1, 1, -1
    q = np.array([0.2, 0.1]) / 252
    middle = p @ (tau * sigma) @ p.T
    gain = tau * sigma @ p.T @ np.linalg.inv(middle + np.diag(np.diag(middle)))
    mu, post = pi + gain @ (q - p @ pi), sigma + tau * sigma - gain @ p @ (tau * sigma)
    w = cp.Variable(10)
    quad = aversion / 2 * cp.quad_form(w, cp.psd_wrap(post * 1e4))
    cp.Problem(cp.Minimize(quad - mu * 1e4 @ w), [cp.sum(w) == 1, w >= 0]).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    assert got == pytest.approx(w.value, abs=1e-5)


def test_a_view_moves_weight_to_its_asset_and_confidence_moves_more() -> None:
    base = weights("black-litterman")[0]
    doubtful, sure = (
        weights("black-litterman", views=["AAPL = 0.3"], confidences=[c])[0] for c in (0.1, 0.9)
    )
    assert base < doubtful < sure


def test_views_that_cannot_be_read_are_refused() -> None:
    for views in (["AAPL up"], ["NOPE = 0.1"], ["AAPL = much"]):
        with pytest.raises(StrategyError, match="BlackLitterman: views: "):
            weights("black-litterman", views=views)


# ---------------------------------------------------------------- made of others


def test_volatility_target_keeps_the_expected_volatility_and_never_borrows() -> None:
    with_cash = closes().assign(USD=1.0)
    sigma = _ew(returns(), 32.0)
    for target in (0.05, 0.15):
        w = weights("volatility-target", with_cash, cash="USD", volatility=target)
        assert np.sqrt(w[:-1] @ sigma @ w[:-1] * 252) == pytest.approx(target, rel=1e-6)
        assert w[:-1] == pytest.approx(np.full(10, (1 - w[-1]) / 10), abs=1e-12)
    assert weights("volatility-target", with_cash, cash="USD", volatility=5.0)[-1] == 0


def _ew(x: np.ndarray, half_life: float) -> np.ndarray:
    weight = 0.5 ** (np.arange(len(x))[::-1] / half_life)
    return (x.T * weight / weight.sum()) @ x


def test_correlation_aware_switches_when_correlations_jump() -> None:
    calm, jumped = correlated(5, 300, 0.1), np.vstack([correlated(5, 260, 0.1), correlated(5, 40, 0.95, 1)])
    scale = np.array([1, 1, 2, 2, 3.0])
    strategy = make("correlation-aware")
    quiet, shaken = frame(calm * scale), frame(jumped * scale)
    assert not strategy.stressed(quiet)
    assert strategy.stressed(shaken)
    sigma = 0.9 * _ew(calm * scale, 126.0) + 0.1 * np.diag(np.diag(_ew(calm * scale, 126.0)))
    w = strategy.target_weights(quiet, quiet.index[-1]).to_numpy()
    assert w * (sigma @ w) / (w @ sigma @ w) == pytest.approx(np.full(5, 0.2), abs=2e-3)
    fast = _ew(jumped * scale, 21.0)
    sigma = 0.9 * fast + 0.1 * np.diag(np.diag(fast))
    w = strategy.target_weights(shaken, shaken.index[-1]).to_numpy()
    others = random_weights(5)
    assert w @ sigma @ w < np.einsum("ki,ij,kj->k", others, sigma, others).min()


# ---------------------------------------------------------------- genetic


def test_genetic_keeps_count_lots_and_least_weight() -> None:
    w = weights("genetic", assets=4, lot=0.05, min_weight=0.1, generations=15)
    assert 1 <= (w > 0).sum() <= 4
    assert w / 0.05 == pytest.approx(np.round(w / 0.05), abs=1e-9)
    assert w[w > 0].min() >= 0.1 - 1e-12


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_genetic_beats_ten_thousand_random_portfolios(objective: str) -> None:
    w = weights("genetic", objective=objective, generations=40)
    score = OBJECTIVES[objective]
    assert score(returns() @ w[:, None])[0] < score(returns() @ random_weights(10, 10_000).T).min()


def test_genetic_of_variance_like_objective_nears_the_exact_answer() -> None:
    """Max Sharpe is also a convex program: the search must come within a hundredth of it."""
    exact = weights("max-sharpe", covariance="sample")
    found = weights("genetic", objective="sharpe", generations=80)
    best, got = (OBJECTIVES["sharpe"](returns() @ w[:, None])[0] for w in (exact, found))
    assert got == pytest.approx(best, rel=0.01)


def test_genetic_is_seeded() -> None:
    a, b, c = (weights("genetic", generations=5, seed=seed) for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_drawdown_is_the_deepest_fall_from_a_high() -> None:
    x = np.array([[0.1, -0.5], [-0.2, 0.5], [0.05, 1.0], [-0.1, 0.0]])
    assert OBJECTIVES["drawdown"](x) == pytest.approx([1 - 0.8 * 1.05 * 0.9, 0.5])


# ---------------------------------------------------------------- forecasts


def test_the_training_rows_end_a_horizon_before_the_last_close() -> None:
    history = closes().iloc[:, :3]
    seen, outcome, latest = panel(history, 5)
    rows = len(history) - max(SPANS)
    assert seen.shape == ((rows - 5) * 3, 5)
    assert latest.shape == (3, 5)
    logs = np.log(history.to_numpy())
    last = logs[-1] - logs[-6]
    assert outcome[-3:] == pytest.approx(last - last.mean(), abs=1e-15)
    moves = (logs[-1] - logs[-22]) / 21
    assert latest[:, 2] == pytest.approx(moves - moves.mean(), abs=1e-15)
    changed = history.copy()
    changed.iloc[-1] *= [
        1.5,
        1.0,
        0.7,
    ]  # the last close reaches only the last outcomes and the latest features
    again, outcomes, _ = panel(changed, 5)
    assert (again == seen).all()
    assert (outcomes[:-3] == outcome[:-3]).all()


@pytest.mark.parametrize("model", ["ridge", "forest", "boosting"])
def test_a_forecaster_learns_a_rule_and_forecasts_nothing_of_noise(model: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (400, 6))
    follows = noise.copy()
    for k in range(1, 400):
        follows[k] = 0.8 * follows[k - 1] + noise[k]
    for x, least, most in ((follows, 0.4, 1.0), (noise, -0.35, 0.35)):
        history, found = frame(x), []
        for row in range(340, 400, 20):
            forecast = make("forecast", {"model": model, "horizon": 1}).forecast(history.iloc[: row + 1])
            found.append(np.corrcoef(forecast, x[row])[0, 1] if forecast.std() > 1e-9 else 0.0)
        assert least < np.mean(found) < most


def test_torch_says_what_to_install_where_it_is_not() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(StrategyError, match="TorchForecast: needs PyTorch: pip install torch"):
            weights("forecast-torch")
    else:
        assert weights("forecast-torch").sum() == pytest.approx(1)


def test_too_little_history_for_the_features_is_refused() -> None:
    with pytest.raises(StrategyError, match="lookback of walk, horizon"):
        weights("forecast", closes().iloc[:90], horizon=60)
    with pytest.raises(StrategyError, match="needs 87 rows"):
        weights("forecast", closes().iloc[:60])


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("mean-variance", {"risk_aversion": 0}, "risk_aversion: 0 is not a number"),
        ("mean-variance", {"mean": "best"}, "mean: 'best' is none of sample, shrunk, ew"),
        ("min-variance", {"covariance": "x"}, "covariance: 'x' is none of"),
        ("min-variance", {"lookback": 3}, "'lookback' is no setting; settings are mean, covariance"),
        ("max-sharpe", {"risk_free_rate": "2%"}, "risk_free_rate: '2%' is not a number"),
        ("volatility-target", {}, "cash: name the column"),
        ("volatility-target", {"cash": "USD", "of": "nope"}, "'nope' is not known"),
        (
            "correlation-aware",
            {"fast_half_life": 500},
            "fast_half_life: 500 is not a number between 1 and 126",
        ),
        ("genetic", {"lot": 0.3}, "lot: 1 is not a multiple of 0.3"),
        ("genetic", {"objective": "luck"}, "objective: 'luck' is none of drawdown"),
        ("forecast", {"model": "oracle"}, "model: 'oracle' is none of ridge, forest, boosting"),
        ("black-litterman", {"views": ["A = 0.1"], "confidences": [1, 2]}, "confidences: 2 for 1 views"),
        ("risk_parity", {"budget": {"NOPE": 2}}, "budget: 'NOPE' is not an asset"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(StrategyError) as error:
        weights(name, **settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_estimators_differ_and_are_skfolios() -> None:
    found = [weights("min-variance", covariance=kind) for kind in ("sample", "ledoit-wolf", "oas", "ew")]
    assert all(np.abs(a - b).max() > 1e-5 for i, a in enumerate(found) for b in found[:i])
    means = [weights("mean-variance", mean=kind, risk_aversion=50.0) for kind in ("sample", "shrunk", "ew")]
    assert all(np.abs(a - b).max() > 1e-4 for i, a in enumerate(means) for b in means[:i])
    assert set(KINDS) == set(NAMES)
