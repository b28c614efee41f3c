"""skfolio's and scikit-learn's estimators and optimisers, as `kinds` calls them. Heavy: imported when first needed.

Returns X (T, n) linear, a row each; moments are of one row. Moments are scaled to a mean variance of 1 before a solver
sees them, which changes no answer and lets it reach its tolerance.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skfolio import moments as estimators
from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction, RiskBudgeting
from skfolio.prior import BasePrior, BlackLitterman, EmpiricalPrior, ReturnDistribution
from sklearn.covariance import shrunk_covariance  # type: ignore[import-untyped]

from offchain.strategies.errors import StrategyError

__all__ = [
    "COVARIANCES",
    "MEANS",
    "Limits",
    "black_litterman",
    "covariance_of",
    "hrp",
    "max_sharpe",
    "mean_of",
    "mean_variance",
    "risk_parity",
    "shrunk",
]

Floats = NDArray[np.float64]
Limits = tuple[Floats, Floats, Floats, Floats]  # low (n,), high (n,), A (k, n), b (k,)
MEANS = ("sample", "shrunk", "ew")
COVARIANCES = ("sample", "ledoit-wolf", "oas", "ew")
RIDGE = 1e-10  # of the mean variance: an asset that does not move has one answer too
ON = 1e-6  # a weight above it is free
SOLVER = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


class Given(BasePrior):  # type: ignore[misc]
    """Moments that are known already, as a skfolio prior."""

    def __init__(self, mean: Floats, covariance: Floats) -> None:
        self.mean = mean
        self.covariance = covariance

    def fit(self, X: Any, y: Any = None, **_: Any) -> Given:
        """Skfolio's interface."""
        self.return_distribution_ = ReturnDistribution(
            mu=self.mean, covariance=self.covariance, returns=np.asarray(X)
        )
        return self


# ---------------------------------------------------------------- estimators


def mean_of(returns: Floats, kind: str, half_life: float) -> Floats:
    """(n,) sample; shrunk: James-Stein; ew: exponentially weighted."""
    model = {
        "sample": estimators.EmpiricalMu,
        "shrunk": estimators.ShrunkMu,
        "ew": lambda: estimators.EWMu(half_life=half_life, min_observations=1),
    }[kind]()
    moves = _moving(returns)
    found = np.zeros(returns.shape[1])
    if moves.any():
        found[moves] = model.fit(returns[:, moves]).mu_
    return found


def covariance_of(returns: Floats, kind: str, half_life: float) -> Floats:
    """(n, n) sample; ledoit-wolf, oas: shrunk towards the identity; ew: exponentially weighted."""
    model = {
        "sample": lambda: estimators.EmpiricalCovariance(nearest=False),
        "ledoit-wolf": lambda: estimators.LedoitWolf(nearest=False),
        "oas": lambda: estimators.OAS(nearest=False),
        "ew": lambda: estimators.EWCovariance(half_life=half_life, min_observations=1, nearest=False),
    }[kind]()
    moves = _moving(returns)
    found = np.zeros((returns.shape[1], returns.shape[1]))
    if moves.any():
        found[np.ix_(moves, moves)] = model.fit(returns[:, moves]).covariance_
    return found


def _moving(returns: Floats) -> NDArray[np.bool_]:
    """Which assets' prices change: cash has no variance, which skfolio's estimators refuse."""
    return np.asarray(np.ptp(returns, axis=0) > 0)


def shrunk(covariance: Floats, shrinkage: float) -> Floats:
    """The correlations shrunk towards none, (1 − s) C + s I; the variances stay."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    correlation = covariance / np.outer(deviation, deviation)
    return np.asarray(shrunk_covariance(correlation, shrinkage=shrinkage) * np.outer(deviation, deviation))


def _scaled(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    scale = float(np.trace(covariance)) / len(covariance)
    if not scale > 0:
        raise StrategyError("no asset's price moves in the history: there is nothing to optimise")
    return mean / scale, covariance / scale + RIDGE * np.eye(len(covariance))


# ---------------------------------------------------------------- optimisers


def _fit(model: Any, returns: Any) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the tolerance asked for is tight
        model.fit(returns)
    w = np.asarray(model.weights_, dtype=np.float64)
    w = np.where(w < 1e-10, 0.0, w)
    return np.asarray(w / w.sum(), dtype=np.float64)


def _within(limits: Limits) -> dict[str, Any]:
    low, high, rows, most = limits
    return {"min_weights": low, "max_weights": high, "left_inequality": rows, "right_inequality": most}


def mean_variance(
    mean: Floats, covariance: Floats, aversion: float, returns: Floats, limits: Limits
) -> Floats:
    """Min aversion/2 · wᵀΣw − meanᵀw, Σ w = 1, 0 <= w. With mean 0 the minimum variance."""
    r, sigma = _scaled(mean / aversion, covariance)
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,  # max rᵀw − risk_aversion · wᵀΣw
        risk_aversion=0.5,
        prior_estimator=Given(r, sigma),
        solver_params=SOLVER,
        **_within(limits),
    )
    return _polished(_fit(model, returns), r, sigma, limits)


def _polished(w: Floats, r: Floats, sigma: Floats, limits: Limits) -> Floats:
    """The solver's answer to the last digits: the linear system of its free assets, if that keeps every condition."""
    low, high, rows, most = limits
    n, free = len(w), (w > low + ON) & (w < high - ON)
    m = int(free.sum())
    if m == 0 or (rows @ w > most - ON).any():  # a group's limit is active: as it is
        return w
    fixed = np.where(free, 0.0, np.where(w <= low + ON, low, high))
    kkt = np.ones((m + 1, m + 1))
    kkt[:m, :m] = sigma[np.ix_(free, free)]
    kkt[m, m] = 0.0
    answer = np.linalg.solve(
        kkt, np.append(r[free] - sigma[np.ix_(free, ~free)] @ fixed[~free], 1 - fixed.sum())
    )
    better = fixed.copy()
    better[free] = answer[:m]
    slope = sigma @ better - r + answer[m]
    noise = 1e-9 * (np.abs(r).max() + np.abs(sigma).max())
    right = np.where(free, 0.0, np.where(fixed <= low, np.minimum(slope, 0.0), np.maximum(slope, 0.0)))
    kept = (better >= low).all() and (better <= high).all() and (np.abs(right) <= noise).all()
    return better if kept and n else w


def max_sharpe(
    mean: Floats, covariance: Floats, free_rate: float, returns: Floats, limits: Limits
) -> Floats | None:
    """Max (meanᵀw − free_rate) / √(wᵀΣw); None where no weights allowed beat the free rate."""
    r, sigma = _scaled(mean - free_rate, covariance)
    if _most(r, limits) <= 1e-12:
        return None
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO,
        prior_estimator=Given(r, sigma),
        solver_params=SOLVER,
        **_within(limits),
    )
    return _fit(model, returns)


def _most(r: Floats, limits: Limits) -> float:
    """The largest rᵀw allowed."""
    from scipy.optimize import linprog  # type: ignore[import-untyped]

    low, high, rows, most = limits
    found = linprog(-r, rows, most, np.ones((1, len(r))), [1.0], list(zip(low, high, strict=True)))
    return -float(found.fun) if found.success else 1.0  # infeasible: the optimiser's matter


def risk_parity(covariance: Floats, budget: Floats | None, returns: Floats, limits: Limits) -> Floats:
    """Risk contributions wᵢ(Σw)ᵢ in proportion to the budget (None: equal); (Maillard, Roncalli, Teïletche 2010)."""
    keep = limits[1] > 0  # an asset that may not be held contributes nothing
    sigma, within = covariance[np.ix_(keep, keep)], _only(limits, keep)
    if keep.sum() < 2:
        return keep.astype(np.float64)
    zero, sigma = _scaled(np.zeros(len(sigma)), sigma)
    model = RiskBudgeting(
        risk_budget=None if budget is None else budget[keep],
        prior_estimator=Given(zero, sigma),
        solver_params=SOLVER,
        **_within(within),
    )
    return _spread(_fit(model, returns[:, keep]), keep)


def hrp(covariance: Floats, returns: Floats, limits: Limits) -> Floats:
    """Hierarchical risk parity (López de Prado 2016)."""
    keep = limits[1] > 0
    if keep.sum() < 2:
        return keep.astype(np.float64)
    still = keep & ~_moving(returns)
    if still.any():  # no variance: in the limit it takes all
        return np.asarray(still / still.sum(), dtype=np.float64)
    zero, sigma = _scaled(np.zeros(int(keep.sum())), covariance[np.ix_(keep, keep)])
    low, high, _, _ = _only(limits, keep)
    model = HierarchicalRiskParity(prior_estimator=Given(zero, sigma), min_weights=low, max_weights=high)
    return _spread(_fit(model, returns[:, keep]), keep)


def _only(limits: Limits, keep: NDArray[np.bool_]) -> Limits:
    low, high, rows, most = limits
    return low[keep], high[keep], rows[:, keep], most


def _spread(w: Floats, keep: NDArray[np.bool_]) -> Floats:
    out = np.zeros(len(keep))
    out[keep] = w
    return out


def black_litterman(
    returns: Any, views: list[str], confidences: Any, tau: float, aversion: float, covariance: Any
) -> tuple[Floats, Floats]:
    """The posterior mean and covariance of a row: equilibrium of equal weights, then the views (also of one row)."""
    moves = _moving(returns.to_numpy())
    kinds = {
        "sample": lambda: estimators.EmpiricalCovariance(nearest=False),
        "ledoit-wolf": lambda: estimators.LedoitWolf(nearest=False),
        "oas": lambda: estimators.OAS(nearest=False),
    }
    kind = kinds[covariance]()
    prior = EmpiricalPrior(
        mu_estimator=estimators.EquilibriumMu(risk_aversion=aversion, covariance_estimator=kind),
        covariance_estimator=kind,
    )
    if not views:
        found = prior.fit(returns.loc[:, moves]).return_distribution_
    else:
        model = BlackLitterman(
            views=views,
            view_confidences=confidences,
            tau=tau,
            prior_estimator=prior,
        )
        found = model.fit(returns.loc[:, moves]).return_distribution_
    mean, sigma = np.zeros(len(moves)), np.zeros((len(moves), len(moves)))
    mean[moves], sigma[np.ix_(moves, moves)] = found.mu, found.covariance
    return mean, sigma
