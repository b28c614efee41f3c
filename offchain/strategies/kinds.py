"""The strategies: each a class with its settings and one method. docs/strategies.md has the table.

Returns are linear, from row to row; moments are of one row. "A year" means `rows_per_year` rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offchain.strategies.base import Strategy, adapted
from offchain.strategies.errors import StrategyError

if TYPE_CHECKING:
    from offchain.strategies._optimise import Limits

__all__ = [
    "HRP",
    "BlackLitterman",
    "CorrelationAware",
    "Equal",
    "Estimated",
    "Fixed",
    "MaxSharpe",
    "MeanVariance",
    "MinVariance",
    "RiskParity",
    "VolatilityTarget",
    "choice",
    "number",
]

Floats = NDArray[np.float64]


def number(who: str, name: str, value: Any, low: float, high: float = np.inf) -> None:
    """Refuses a setting that is not a number within low and high."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise StrategyError(f"{who}: {name}: {value!r} is not a number between {low:g} and {high:g}")


def choice(who: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuses a setting that is none of the choices."""
    if value not in choices:
        raise StrategyError(f"{who}: {name}: {value!r} is none of {', '.join(choices)}")


def returns_of(history: pd.DataFrame) -> Floats:
    """(T − 1, n) linear returns."""
    prices = history.to_numpy(dtype=np.float64)
    return np.asarray(prices[1:] / prices[:-1] - 1, dtype=np.float64)


# ---------------------------------------------------------------- without estimates


@dataclass(eq=False)
class Fixed(Strategy):
    """The same weights always."""

    weights: Mapping[str, float] | Sequence[float] = ()
    rows_needed = 1

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The setting."""
        return self.weights


@dataclass(eq=False)
class Equal(Strategy):
    """1 / n each."""

    rows_needed = 1

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """1 / n of every column."""
        return np.full(history.shape[1], 1 / history.shape[1])


# ---------------------------------------------------------------- optimised


@dataclass(eq=False)
class Estimated(Strategy):
    """What the optimised ones share: how moments are estimated from the history."""

    mean: str = "sample"  # sample, shrunk (James-Stein), ew (exponentially weighted)
    covariance: str = "sample"  # sample, ledoit-wolf, oas, ew
    half_life: float = 63.0  # rows, for ew
    rows_per_year: float = 252.0
    rows_needed = 3

    def __post_init__(self) -> None:
        choice(self.name, "mean", self.mean, ("sample", "shrunk", "ew"))
        choice(self.name, "covariance", self.covariance, ("sample", "ledoit-wolf", "oas", "ew"))
        number(self.name, "half_life", self.half_life, 1)
        number(self.name, "rows_per_year", self.rows_per_year, 1)

    def limits(self, history: pd.DataFrame) -> Limits:
        """The personal bounds and groups, for the optimiser."""
        columns = list(history.columns)
        return (*self.constraints.bounds(columns), *self.constraints.group_rows(columns))

    def mean_of(self, returns: Floats) -> Floats:
        """(n,) expected return of a row."""
        from offchain.strategies import _optimise

        return _optimise.mean_of(returns, self.mean, self.half_life)

    def covariance_of(self, returns: Floats) -> Floats:
        """(n, n) of a row."""
        from offchain.strategies import _optimise

        return _optimise.covariance_of(returns, self.covariance, self.half_life)


@dataclass(eq=False)
class MeanVariance(Estimated):
    """The quadratic program min ½ wᵀΣw − λ rᵀw, Σw = 1, w >= 0, with λ = 1 / risk_aversion (Markowitz 1952)."""

    risk_aversion: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.name, "risk_aversion", self.risk_aversion, 1e-9)

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The QP's optimum with the history's moments."""
        from offchain.strategies import _optimise

        x = returns_of(history)
        mean, covariance = self.mean_of(x), self.covariance_of(x)
        return _optimise.mean_variance(mean, covariance, self.risk_aversion, x, self.limits(history))


@dataclass(eq=False)
class MinVariance(Estimated):
    """min wᵀΣw."""

    covariance: str = "ledoit-wolf"

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The QP's optimum without expected returns."""
        from offchain.strategies import _optimise

        x = returns_of(history)
        zero = np.zeros(x.shape[1])
        return _optimise.mean_variance(zero, self.covariance_of(x), 1.0, x, self.limits(history))


@dataclass(eq=False)
class MaxSharpe(Estimated):
    """max (rᵀw − r_f) / √(wᵀΣw); where no asset is expected to beat the risk-free rate, the minimum variance."""

    covariance: str = "ledoit-wolf"
    risk_free_rate: float = 0.0  # a year

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.name, "risk_free_rate", self.risk_free_rate, -1, 1)

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The tangency portfolio of the history's moments."""
        from offchain.strategies import _optimise

        x, limits = returns_of(history), self.limits(history)
        covariance = self.covariance_of(x)
        found = _optimise.max_sharpe(
            self.mean_of(x), covariance, self.risk_free_rate / self.rows_per_year, x, limits
        )
        if found is None:
            return _optimise.mean_variance(np.zeros(x.shape[1]), covariance, 1.0, x, limits)
        return found


@dataclass(eq=False)
class RiskParity(Estimated):
    """Every asset contributes the same risk, wᵢ(Σw)ᵢ; or in proportion to `budget`."""

    covariance: str = "ledoit-wolf"
    budget: Mapping[str, float] = field(default_factory=dict)  # asset: share; the others 1

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The risk budgeting portfolio."""
        from offchain.strategies import _optimise

        x = returns_of(history)
        budget = None
        if self.budget:
            unknown = set(self.budget) - set(history.columns)
            if unknown:
                raise StrategyError(f"{self.name}: budget: {min(unknown)!r} is not an asset of the data")
            budget = np.array([float(self.budget.get(str(name), 1.0)) for name in history.columns])
            if not (budget > 0).all():
                raise StrategyError(f"{self.name}: budget: needs numbers above 0")
            budget = budget / budget.sum()
        return _optimise.risk_parity(self.covariance_of(x), budget, x, self.limits(history))


@dataclass(eq=False)
class HRP(Estimated):
    """Hierarchical risk parity: splits the risk along a tree of correlations, without inverting Σ."""

    covariance: str = "ledoit-wolf"

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The recursive bisection's weights."""
        from offchain.strategies import _optimise

        x = returns_of(history)
        return _optimise.hrp(self.covariance_of(x), x, self.limits(history))


@dataclass(eq=False)
class BlackLitterman(Estimated):
    """Equal weights as the equilibrium, moved by views; then the mean-variance QP with the posterior moments.

    A view: "AAPL = 0.08" (return a year) or "AAPL - MSFT = 0.03". Without views the answer is the equilibrium.
    """

    covariance: str = "ledoit-wolf"
    views: Sequence[str] = ()
    confidences: Sequence[float] = ()  # of each view, 0 to 1 (Idzorek); none: Ω proportional to the prior
    tau: float = 0.05
    risk_aversion: float = 2.5

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "covariance", self.covariance, ("sample", "ledoit-wolf", "oas"))
        number(self.name, "tau", self.tau, 1e-9)
        number(self.name, "risk_aversion", self.risk_aversion, 1e-9)
        if self.confidences and len(self.confidences) != len(self.views):
            raise StrategyError(
                f"{self.name}: confidences: {len(self.confidences)} for {len(self.views)} views"
            )
        self._views = [self._a_row(view) for view in self.views]

    def _a_row(self, view: str) -> str:
        """The view with its return of one row."""
        left, _, right = str(view).partition("=")
        try:
            return f"{left.strip()} = {float(right) / self.rows_per_year!r}"
        except ValueError:
            raise StrategyError(
                f'{self.name}: views: {view!r} is not like "A = 0.08" or "A - B = 0.03"'
            ) from None

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The QP's optimum with the posterior moments."""
        from offchain.strategies import _optimise

        x = pd.DataFrame(returns_of(history), columns=[str(name) for name in history.columns])
        confidences = list(self.confidences) or None
        try:
            mean, covariance = _optimise.black_litterman(
                x, self._views, confidences, self.tau, self.risk_aversion, self.covariance
            )
        except Exception as error:
            raise StrategyError(f"{self.name}: views: {error}") from None
        return _optimise.mean_variance(
            mean, covariance, self.risk_aversion, x.to_numpy(), self.limits(history)
        )


# ---------------------------------------------------------------- made of others


@dataclass(eq=False)
class VolatilityTarget(Strategy):
    """Another strategy on all columns but `cash`, and as much of it as keeps the volatility expected at the target.

    Share of the risky part = min(1, volatility / its expected volatility); the rest is cash. No borrowing.
    """

    of: Any = "equal"  # a strategy or its name
    settings: Mapping[str, Any] = field(default_factory=dict)  # of that strategy
    volatility: float = 0.10  # a year
    cash: str = ""  # a column: a stablecoin, a money market
    half_life: float = 32.0  # rows, of the exponentially weighted covariance
    rows_per_year: float = 252.0
    rows_needed = 3

    def __post_init__(self) -> None:
        from offchain.strategies.load import make

        number(self.name, "volatility", self.volatility, 1e-6)
        number(self.name, "half_life", self.half_life, 1)
        number(self.name, "rows_per_year", self.rows_per_year, 1)
        if not self.cash:
            raise StrategyError(f"{self.name}: cash: name the column that holds cash")
        self.inner_strategy = make(self.of, self.settings) if isinstance(self.of, str) else adapted(self.of)

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The inner weights scaled, and cash."""
        from offchain.strategies import _optimise

        if self.cash not in history.columns or history.shape[1] < 2:
            raise StrategyError(f"{self.name}: cash: {self.cash!r} is not one of several assets of the data")
        risky = history.drop(columns=self.cash)
        weights = self.inner_strategy.target_weights(risky, now)
        sigma = _optimise.covariance_of(returns_of(risky), "ew", self.half_life)
        w = weights.to_numpy()
        expected = float(np.sqrt(w @ sigma @ w * self.rows_per_year))
        share = min(1.0, self.volatility / expected) if expected > 0 else 1.0
        return {**(weights * share).to_dict(), self.cash: 1 - share}


@dataclass(eq=False)
class CorrelationAware(Strategy):
    """Exponentially weighted, shrunk covariance; risk parity while calm, minimum variance when correlations jump.

    They have jumped when the mean correlation of the fast covariance exceeds that of the slow one by `jump`. In that
    regime the fast covariance is used.
    """

    slow_half_life: float = 126.0  # rows
    fast_half_life: float = 21.0
    shrinkage: float = 0.1  # of correlations towards none
    jump: float = 0.15
    rows_needed = 3

    def __post_init__(self) -> None:
        number(self.name, "slow_half_life", self.slow_half_life, 1)
        number(self.name, "fast_half_life", self.fast_half_life, 1, self.slow_half_life)
        number(self.name, "shrinkage", self.shrinkage, 0, 1)
        number(self.name, "jump", self.jump, 0, 2)

    def stressed(self, history: pd.DataFrame) -> bool:
        """Whether correlations have jumped."""
        slow, fast = self._covariances(returns_of(history))
        return _mean_correlation(fast) > _mean_correlation(slow) + self.jump

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """Risk parity or minimum variance, by regime."""
        from offchain.strategies import _optimise

        x, columns = returns_of(history), list(history.columns)
        slow, fast = (_optimise.shrunk(sigma, self.shrinkage) for sigma in self._covariances(x))
        limits = (*self.constraints.bounds(columns), *self.constraints.group_rows(columns))
        if self.stressed(history):
            return _optimise.mean_variance(np.zeros(len(columns)), fast, 1.0, x, limits)
        return _optimise.risk_parity(slow, None, x, limits)

    def _covariances(self, x: Floats) -> tuple[Floats, Floats]:
        from offchain.strategies import _optimise

        slow = _optimise.covariance_of(x, "ew", self.slow_half_life)
        return slow, _optimise.covariance_of(x, "ew", self.fast_half_life)


def _mean_correlation(sigma: Floats) -> float:
    """Of all pairs of different assets."""
    n = len(sigma)
    if n < 2:
        return 0.0
    deviation = np.sqrt(np.maximum(np.diag(sigma), 1e-300))
    return float(((sigma / np.outer(deviation, deviation)).sum() - n) / (n * (n - 1)))
