"""Forecasts of returns by machine learning, trained again at every decision on what is known by then (walk-forward)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offchain.strategies.errors import StrategyError
from offchain.strategies.kinds import Estimated, choice, number, returns_of

__all__ = ["SPANS", "Forecast", "TorchForecast", "panel"]

Floats = NDArray[np.float64]
SPANS = (1, 5, 21, 63)  # rows of the trailing returns that are features


def panel(history: pd.DataFrame, horizon: int) -> tuple[Floats, Floats, Floats]:
    """(X, y, latest): training rows whose outcome is known, and the n rows to forecast from.

    Features of an asset at a row, as log returns a row: over each of SPANS, and the volatility of the longest; each
    less the mean of all assets at that row. y: its log return over the next `horizon` rows, also less the mean. The
    last training row is so `horizon` rows before the last close.
    """
    logs = np.log(history.to_numpy(dtype=np.float64))
    rows, n = logs.shape
    longest = max(SPANS)
    if rows < longest + horizon + 2:
        raise StrategyError(
            f"forecast: {rows} rows of history, needs {longest + horizon + 2}: lookback of walk, horizon"
        )
    steps = np.diff(logs, axis=0, prepend=logs[:1])
    at = np.arange(longest, rows)
    parts = [(logs[at] - logs[at - span]) / span for span in SPANS]
    windows = np.lib.stride_tricks.sliding_window_view(steps[1:], longest, axis=0)
    parts.append(windows.std(axis=2))
    features = np.stack(parts, axis=2)
    features -= features.mean(axis=1, keepdims=True)
    ahead = logs[at[:-horizon] + horizon] - logs[at[:-horizon]]
    ahead -= ahead.mean(axis=1, keepdims=True)
    k = features.shape[2]
    return features[:-horizon].reshape(-1, k), ahead.reshape(-1), features[-1].reshape(n, k)


@dataclass(eq=False)
class Forecast(Estimated):
    """scikit-learn forecasts each asset's return over `horizon` rows; the mean-variance QP makes weights of them.

    The model is trained from nothing at every decision, on all assets together. What is forecast is the return beyond
    the mean of all assets; `trust` says how much of it enters the QP.
    """

    covariance: str = "ledoit-wolf"
    model: str = "ridge"  # ridge, forest, boosting
    horizon: int = 21  # rows
    trust: float = 1.0
    risk_aversion: float = 2.5
    seed: int = 1
    rows_needed = max(SPANS) + 24

    MODELS: ClassVar[tuple[str, ...]] = ("ridge", "forest", "boosting")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "model", self.model, self.MODELS)
        number(self.name, "horizon", self.horizon, 1)
        number(self.name, "trust", self.trust, 0)
        number(self.name, "risk_aversion", self.risk_aversion, 1e-9)

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The QP's optimum with the forecasts for mean."""
        from offchain.strategies import _optimise

        x = returns_of(history)
        mean = self.trust * self.forecast(history) / self.horizon
        return _optimise.mean_variance(
            mean, self.covariance_of(x), self.risk_aversion, x, self.limits(history)
        )

    def forecast(self, history: pd.DataFrame) -> Floats:
        """(n,) log return over the next `horizon` rows beyond the mean of the assets."""
        seen, outcome, latest = panel(history, self.horizon)
        return self.fit_predict(seen, outcome, latest)

    def fit_predict(self, seen: Floats, outcome: Floats, latest: Floats) -> Floats:
        """Trains on (seen, outcome) and forecasts for `latest`."""
        from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor  # type: ignore[import-untyped]
        from sklearn.linear_model import RidgeCV  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

        models = {
            "ridge": lambda: RidgeCV(alphas=np.logspace(0, 6, 7)),
            "forest": lambda: RandomForestRegressor(100, min_samples_leaf=50, random_state=self.seed),
            "boosting": lambda: GradientBoostingRegressor(
                n_estimators=100, max_depth=2, learning_rate=0.05, subsample=0.5, random_state=self.seed
            ),
        }
        fitted = make_pipeline(StandardScaler(), models[self.model]()).fit(seen, outcome)
        return np.asarray(fitted.predict(latest), dtype=np.float64)


@dataclass(eq=False)
class TorchForecast(Forecast):
    """The same with a small neural network in PyTorch, which is not among Evenkeel's packages: `pip install torch`."""

    model: str = "network"
    width: int = 16  # of the two hidden layers
    epochs: int = 50

    MODELS: ClassVar[tuple[str, ...]] = ("network",)

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.name, "width", self.width, 1)
        number(self.name, "epochs", self.epochs, 1)

    def fit_predict(self, seen: Floats, outcome: Floats, latest: Floats) -> Floats:
        """Adam on squared errors, standardised, full batches, one thread of randomness from the seed."""
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError:
            raise StrategyError(f"{self.name}: needs PyTorch: pip install torch") from None
        middle, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-12
        scale = float(outcome.std()) or 1.0
        x, y, last = (
            torch.tensor(part, dtype=torch.float32)
            for part in ((seen - middle) / spread, outcome[:, None] / scale, (latest - middle) / spread)
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = torch.nn.Sequential(
                torch.nn.Linear(x.shape[1], self.width),
                torch.nn.Tanh(),
                torch.nn.Linear(self.width, self.width),
                torch.nn.Tanh(),
                torch.nn.Linear(self.width, 1),
            )
            adam = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
            for _ in range(int(self.epochs)):
                adam.zero_grad()
                torch.nn.functional.mse_loss(network(x), y).backward()
                adam.step()
            with torch.no_grad():
                found = network(last).numpy()[:, 0]
        return np.asarray(found * scale, dtype=np.float64)
