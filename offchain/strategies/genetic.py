"""A genetic algorithm (pymoo) for what a quadratic program cannot hold: a count of assets, lots, drawdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offchain.strategies.base import Strategy
from offchain.strategies.errors import StrategyError
from offchain.strategies.kinds import choice, number, returns_of

__all__ = ["OBJECTIVES", "Genetic"]

Floats = NDArray[np.float64]


def _drawdown(x: Floats) -> Floats:
    """Deepest fall from a high, (k,), of returns (T, k)."""
    value = np.vstack([np.ones(x.shape[1]), np.cumprod(1 + x, axis=0)])
    return np.asarray((1 - value / np.maximum.accumulate(value, axis=0)).max(axis=0))


def _calmar(x: Floats) -> Floats:
    growth = np.log1p(x).mean(axis=0)
    return np.asarray(-growth / np.maximum(_drawdown(x), 1e-9))


def _cvar(x: Floats) -> Floats:
    """Mean loss of the worst 5 % of rows."""
    worst = max(1, int(np.ceil(0.05 * len(x))))
    return np.asarray(-np.sort(x, axis=0)[:worst].mean(axis=0))


def _sharpe(x: Floats) -> Floats:
    return np.asarray(-x.mean(axis=0) / np.maximum(x.std(axis=0), 1e-12))


POWER = 2  # of genes to weights: small positions are as easy to reach as large ones

OBJECTIVES: dict[str, Callable[[Floats], Floats]] = {
    "drawdown": _drawdown,
    "calmar": _calmar,
    "cvar": _cvar,
    "sharpe": _sharpe,
}


@dataclass(eq=False)
class Genetic(Strategy):
    """The weights that would have done best in the history by `objective`, rebalanced each row; found by evolution.

    At most `assets` are held, each a multiple of `lot` and at least `min_weight`. The same seed gives the same weights.
    """

    objective: str = "drawdown"  # drawdown, calmar, cvar, sharpe
    assets: int = 0  # held at most; 0: any number
    lot: float = 0.0  # weights are multiples of it; 0: any. 1 / lot is a whole number
    min_weight: float = 0.0  # of an asset that is held
    population: int = 80
    generations: int = 60
    seed: int = 1
    rows_needed = 3

    def __post_init__(self) -> None:
        choice(self.name, "objective", self.objective, tuple(OBJECTIVES))
        number(self.name, "assets", self.assets, 0)
        number(self.name, "lot", self.lot, 0, 1)
        number(self.name, "min_weight", self.min_weight, 0, 1)
        number(self.name, "population", self.population, 4)
        number(self.name, "generations", self.generations, 1)
        if self.lot and abs(1 / self.lot - round(1 / self.lot)) > 1e-9:
            raise StrategyError(f"{self.name}: lot: 1 is not a multiple of {self.lot:g}")
        if self.assets * self.lot > 1 + 1e-9:
            raise StrategyError(
                f"{self.name}: assets, lot: {self.assets} lots of {self.lot:g} are more than 1"
            )

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The best of the last generation."""
        from pymoo.algorithms.soo.nonconvex.ga import GA  # type: ignore[import-untyped]
        from pymoo.core.problem import Problem  # type: ignore[import-untyped]
        from pymoo.optimize import minimize  # type: ignore[import-untyped]

        x, columns = returns_of(history), list(history.columns)
        low, high = self.constraints.bounds(columns)
        rows, most = self.constraints.group_rows(columns)
        objective, decode = OBJECTIVES[self.objective], self.decode

        class Search(Problem):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(n_var=len(columns), n_obj=1, n_ieq_constr=1, xl=0.0, xu=1.0)

            def _evaluate(self, genes: Floats, out: dict[str, Any], *_: Any, **__: Any) -> None:
                w = decode(genes)
                over = np.maximum(w - high, 0).sum(1) + np.maximum(low - w, 0).sum(1)
                over += np.maximum(w @ rows.T - most, 0).sum(1)
                out["F"], out["G"] = objective(x @ w.T)[:, None], (over - 1e-9)[:, None]

        rng = np.random.default_rng(self.seed)
        first = rng.random((self.population, len(columns)))
        first[0] = 1.0  # equal weights, and as many single assets as fit, are in the first generation
        singles = min(len(columns), self.population - 1)
        first[1 : 1 + singles] = np.eye(len(columns))[:singles]
        found = minimize(
            Search(),
            GA(pop_size=self.population, sampling=first, eliminate_duplicates=True),
            ("n_gen", self.generations),
            seed=self.seed,
            verbose=False,
        )
        best = found.X if found.X is not None else np.ones(len(columns))  # none allowed: the nearest to equal
        return self.decode(np.atleast_2d(best))[0]

    def decode(self, genes: Floats) -> Floats:
        """(k, n) genes of 0 to 1 as weights: the largest `assets` of them, in proportion, then whole lots."""
        genes = np.asarray(genes, dtype=np.float64)
        n = genes.shape[1]
        keep = n if self.assets == 0 else min(int(self.assets), n)
        if self.min_weight > 0:
            keep = min(keep, int(1 / self.min_weight + 1e-9))
        order = np.argsort(-genes, axis=1, kind="stable")
        w = np.zeros_like(genes)
        chosen = order[:, : max(keep, 1)]
        np.put_along_axis(w, chosen, np.maximum(np.take_along_axis(genes, chosen, 1) ** POWER, 1e-12), 1)
        w /= w.sum(axis=1, keepdims=True)
        if self.min_weight > 0:
            w = np.array([_at_least(row, self.min_weight) for row in w])
        return np.array([_in_lots(row, self.lot, self.min_weight) for row in w]) if self.lot else w


def _at_least(w: Floats, least: float) -> Floats:
    """Drops the smallest until what is left, scaled to 1, is at least `least` each."""
    w = w.copy()
    while True:
        w /= w.sum()
        small = (w > 0) & (w < least - 1e-12)
        if not small.any():
            return w
        w[np.where(small, w, np.inf).argmin()] = 0.0


def _in_lots(w: Floats, lot: float, least: float) -> Floats:
    """Whole lots by the largest remainders; what falls below the least weight goes to the largest."""
    count = round(1 / lot)
    exact = w * count
    lots = np.floor(exact + 1e-9)
    for i in np.argsort(-(exact - lots) * (w > 0), kind="stable")[: int(count - lots.sum())]:
        lots[i] += 1
    small = (lots > 0) & (lots / count < least - 1e-12)
    lots[int(lots.argmax())] += lots[small].sum()
    lots[small] = 0
    return np.asarray(lots / count)
