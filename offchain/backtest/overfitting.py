"""What choosing the best of many trials does to its result, and how much of it is left on rows it was not chosen on.

A trial is one set of parameters that was tried. T rows of returns, N trials; all functions are pure and take (T, N). A
Sharpe ratio here is of one row, not a year, unless its name or docstring says otherwise. Sources: docs/evidence.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offchain.backtest.engine import STATISTICS, Job, nothing_kept, play
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Costs, Floats, Ints, Policy
from offchain.backtest.triggers import schedule

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BacktestOverfitting",
    "CrossValidation",
    "Neighbours",
    "WalkForward",
    "confidence",
    "cross_validation",
    "deflated_sharpe",
    "effective_trials",
    "luck",
    "min_track_rows",
    "neighbours",
    "probabilistic_sharpe",
    "probability_of_overfitting",
    "sharpe_of",
    "sharpe_variance",
    "sharpe_variance_of",
    "trial_returns",
    "walk_forward",
]

ALIKE = 0.5  # trials whose returns correlate above this are one
LEAST_VARIANCE = 1e-20  # of a row's return: below it is rounding, and the Sharpe ratio is taken as 0
COMBINATIONS_AT_ONCE = 500
LOWER_IS_BETTER = (
    "max_drawdown",
    "annual_volatility",
    "volatility",
    "cvar_95",
    "turnover",
    "annual_turnover",
    "cost",
)


def trial_returns(
    data: Any,
    policies: Iterable[Policy],
    costs: Costs | None = None,
    *,
    cash: float = 1e6,
    holdings: Any = None,
) -> Floats:
    """(T − 1, N) returns of each policy on a market: what the functions here take."""
    job = Job.of(data, costs, cash, holdings)
    rows, n = job.market.shape
    found, index = [], np.empty(rows)
    for policy in policies:
        play(job, policy, schedule(policy, job.market), index, nothing_kept(n))
        found.append(index[1:] / index[:-1] - 1)
    if not found:
        raise BacktestError("trials: there are none")
    return np.stack(found, axis=1)


# ---------------------------------------------------------------- one Sharpe ratio, and the best of many


def sharpe_of(returns: Floats) -> float:
    """Of a row; NaN if returns (T,) never vary."""
    spread = float(np.std(returns, ddof=1))
    return float(returns.mean()) / spread if spread**2 > LEAST_VARIANCE else np.nan


def sharpe_variance_of(returns: Floats) -> float:
    """`sharpe_variance` with the skew and kurtosis of returns (T,)."""
    from scipy import stats  # type: ignore[import-untyped]

    sharpe = sharpe_of(returns)
    if np.isnan(sharpe):
        return np.nan
    return sharpe_variance(sharpe, float(stats.skew(returns)), float(stats.kurtosis(returns, fisher=False)))


def sharpe_variance(sharpe: float, skew: float = 0.0, kurtosis: float = 3.0) -> float:
    """Times rows − 1: the variance of an estimated Sharpe ratio (Mertens 2002; Bailey and López de Prado 2012)."""
    return 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2


def confidence(sharpe: float, variance: float, rows: int, against: float = 0.0) -> float:
    """That the true Sharpe ratio is above `against`; NaN if there is no spread."""
    from scipy import stats

    if not variance > 0:
        return np.nan
    return float(stats.norm.cdf((sharpe - against) * np.sqrt((rows - 1) / variance)))


def probabilistic_sharpe(returns: Floats, against: float = 0.0) -> float:
    """PSR: the confidence that the true Sharpe ratio, of a row, of excess returns (T,) is above `against`."""
    return confidence(sharpe_of(returns), sharpe_variance_of(returns), len(returns), against)


def min_track_rows(sharpe: float, variance: float, against: float = 0.0, level: float = 0.95) -> float:
    """MinTRL: how many rows show at this level that the Sharpe ratio is above `against`; inf if it is not above."""
    from scipy import stats

    if not (sharpe > against and variance > 0):
        return np.inf
    return float(1 + variance * (stats.norm.ppf(level) / (sharpe - against)) ** 2)


def luck(sharpes: Floats, count: float) -> float:
    """The Sharpe ratio that the best of `count` independent trials without skill is expected to show."""
    from skfolio.measures import expected_max_sharpe_ratio

    spread = float(np.std(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    return float(expected_max_sharpe_ratio(n_trials=float(count), trial_sharpe_ratio_std=spread))


def deflated_sharpe(returns: Floats, trials: Floats, count: float | None = None) -> tuple[float, float]:
    """DSR and the Sharpe ratio that luck alone would show, of the chosen returns (T,) among `trials` (T, N).

    `count`: how many trials were really made, those that were thrown away included; None: N. The spread of their
    Sharpe ratios is that of the N.
    """
    benchmark = luck(_sharpes(*_totals(trials)), trials.shape[1] if count is None else count)
    return probabilistic_sharpe(returns, benchmark), benchmark


def effective_trials(trials: Floats) -> int:
    """How many different trials there are: clusters of returns (average linkage) that correlate above `ALIKE`.

    In the spirit of López de Prado and Lewis (2019), with a stated cut instead of a searched one.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]
    from scipy.spatial.distance import squareform  # type: ignore[import-untyped]

    if trials.shape[1] < 2:
        return int(trials.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        likeness = np.nan_to_num(np.corrcoef(trials, rowvar=False))  # one that never moves is like no other
    apart = np.clip(1 - likeness, 0, 2)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform((apart + apart.T) / 2, checks=False), "average")
    clusters: Ints = fcluster(tree, 1 - ALIKE, "distance")
    return len(np.unique(clusters))


# ---------------------------------------------------------------- Sharpe ratios on some of the rows


def _totals(returns: Floats, parts: Sequence[Ints] | None = None) -> tuple[Floats, Floats, Floats]:
    """Rows (P,), sums (P, N) and sums of squares (P, N) by part; without parts, of everything: (), (N,), (N,)."""
    if parts is None:
        return np.array(float(len(returns))), returns.sum(axis=0), (returns**2).sum(axis=0)
    counts = np.array([float(len(part)) for part in parts])
    sums = np.stack([returns[part].sum(axis=0) for part in parts])
    return counts, sums, np.stack([(returns[part] ** 2).sum(axis=0) for part in parts])


def _sharpes(count: Floats, sums: Floats, squares: Floats) -> Floats:
    """Sharpe ratios (..., N) of a row from counts (...) and sums (..., N)."""
    count = np.asarray(count)[..., None]
    mean = sums / count
    variance = (squares - count * mean**2) / (count - 1)
    fine = variance > LEAST_VARIANCE
    found: Floats = np.where(fine, mean / np.sqrt(np.where(fine, variance, 1.0)), 0.0)
    return found.reshape(sums.shape)


def _need(trials: Floats, rows: int, name: str) -> None:
    if trials.ndim != 2 or trials.shape[1] < 2 or not np.isfinite(trials).all():
        raise BacktestError("trials: needs a table of finite returns with a row a date and 2 columns or more")
    if len(trials) < rows:
        raise BacktestError(f"{name}: needs at least {rows} rows of returns, there are {len(trials)}")


@dataclass(frozen=True, eq=False)
class BacktestOverfitting:
    """Combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado and Zhu 2017)."""

    probability: (
        float  # PBO: that the best in one half is below the median of the other; exactly at it counts half
    )
    logits: Floats  # (C,) ln(ω / (1 − ω)), ω the rank (0 to 1) out of sample of what was best in sample
    in_sample: Floats  # (C,) its Sharpe ratio where it was chosen
    out_of_sample: Floats  # (C,) and in the other half
    degradation: float  # slope of the second on the first; below 0: the better it looked the worse it did
    loss: float  # share of halves in which the chosen had a Sharpe ratio below 0


def probability_of_overfitting(trials: Floats, blocks: int = 16) -> BacktestOverfitting:
    """PBO of (T, N) trials: `blocks` equal spans of rows, every half of them against the other half."""
    if blocks < 2 or blocks % 2 or blocks > 20:
        raise BacktestError(f"blocks: {blocks} is not an even number from 2 to 20")
    _need(trials, 4 * blocks, "probability of overfitting")
    counts, sums, squares = _totals(trials, np.array_split(np.arange(len(trials)), blocks))
    parts = [_halves(mask, counts, sums, squares) for mask in _half_masks(blocks)]
    rank, inside, outside = (np.concatenate(part) for part in zip(*parts, strict=True))
    logits = np.log(rank / (1 - rank))
    spread = inside.var()
    slope = ((inside - inside.mean()) * (outside - outside.mean())).mean() / spread if spread > 0 else np.nan
    at = np.isclose(logits, 0)
    return BacktestOverfitting(
        probability=float((logits[~at] < 0).sum() + at.sum() / 2) / len(logits),
        logits=logits,
        in_sample=inside,
        out_of_sample=outside,
        degradation=float(slope),
        loss=float((outside < 0).mean()),
    )


def _half_masks(blocks: int) -> Iterator[Floats]:
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    for start in range(0, len(chosen), COMBINATIONS_AT_ONCE):
        some = chosen[start : start + COMBINATIONS_AT_ONCE]
        mask = np.zeros((len(some), blocks))
        np.put_along_axis(mask, some, 1.0, axis=1)
        yield mask


def _halves(mask: Floats, counts: Floats, sums: Floats, squares: Floats) -> tuple[Floats, Floats, Floats]:
    """For each mask: rank out of sample of the best in sample, and its Sharpe ratios in and out of sample."""
    inside, outside = (_sharpes(half @ counts, half @ sums, half @ squares) for half in (mask, 1 - mask))
    best = inside.argmax(axis=1)[:, None]
    own = np.take_along_axis(outside, best, axis=1)
    below, level = (outside < own).sum(axis=1), (outside == own).sum(axis=1)
    rank = (below + (level + 1) / 2) / (outside.shape[1] + 1)
    return rank, np.take_along_axis(inside, best, axis=1)[:, 0], own[:, 0]


# ---------------------------------------------------------------- choosing again and again


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Combinatorial purged cross-validation (López de Prado 2018, chapter 12) of choosing the trial of best Sharpe."""

    sharpes: Floats  # (P,) of each path: the whole history, every row out of sample
    paths: Floats  # (P, T) returns
    chosen: Ints  # (S,) trial of each split
    average: float  # Sharpe ratio of the trials' mean return: choosing none of them


def cross_validation(
    trials: Floats, folds: int = 10, test_folds: int = 2, *, purged: int = 5, embargo: int | None = None
) -> CrossValidation:
    """`purged` rows beside each test fold are not learned from, `embargo` more after it (None: 1 % of the rows)."""
    from skfolio.model_selection import CombinatorialPurgedCV

    rows = len(trials)
    embargo = rows // 100 if embargo is None else embargo
    _need(trials, folds * (purged + embargo + 3), "cross-validation")
    try:
        splits = CombinatorialPurgedCV(folds, test_folds, purged_size=purged, embargo_size=embargo)
    except ValueError as error:
        raise BacktestError(f"cross-validation: {error}") from None
    paths, chosen = np.full((splits.n_test_paths, rows), np.nan), []
    for (train, tests), path_ids in zip(splits.split(trials), splits.get_path_ids(), strict=True):
        best = int(_sharpes(*_totals(trials[train])).argmax())
        chosen.append(best)
        for test, path in zip(tests, path_ids, strict=True):
            paths[path, test] = trials[test, best]
    average = float(_sharpes(*_totals(trials.mean(axis=1, keepdims=True)))[0])
    return CrossValidation(_sharpes(*_totals(paths.T)), paths, np.array(chosen), average)


@dataclass(frozen=True, eq=False)
class WalkForward:
    """The best trial of each training span, held for the span after it; the parts put together."""

    rows: Ints  # (R,) of the trials' returns, out of sample
    returns: Floats  # (R,) of the chosen
    average: Floats  # (R,) of the mean of all trials: choosing none
    chosen: Ints  # (W,) trial of each span
    in_sample: Floats  # (W,) its mean return of a row where it was chosen
    out_of_sample: Floats  # (W,) and after
    efficiency: float  # mean of the second / mean of the first (Pardo 2008); NaN if the first is not above 0


def walk_forward(
    trials: Floats, train: int, test: int, *, expand: bool = False, purged: int = 0
) -> WalkForward:
    """Choice by Sharpe ratio on `train` rows (all so far if `expand`), result on `test` rows after `purged` more."""
    from skfolio.model_selection import WalkForward as Splits

    if train < 10 or test < 1 or purged < 0:
        raise BacktestError(
            "walk-forward: needs train of at least 10 rows, test of at least 1, purged of at least 0"
        )
    _need(trials, train + purged + test, "walk-forward")
    splits = Splits(
        test_size=test, train_size=train, expand_train=expand, reduce_test=True, purged_size=purged
    )
    rows, returns, average, chosen, means = [], [], [], [], []
    for learned, held in splits.split(trials):
        best = int(_sharpes(*_totals(trials[learned])).argmax())
        chosen.append(best)
        rows.append(held)
        returns.append(trials[held, best])
        average.append(trials[held].mean(axis=1))
        means.append((trials[learned, best].mean(), returns[-1].mean()))
    inside, outside = np.array(means).T
    efficiency = float(outside.mean() / inside.mean()) if inside.mean() > 0 else np.nan
    return WalkForward(
        rows=np.concatenate(rows),
        returns=np.concatenate(returns),
        average=np.concatenate(average),
        chosen=np.array(chosen),
        in_sample=inside,
        out_of_sample=outside,
        efficiency=efficiency,
    )


# ---------------------------------------------------------------- parameters beside the chosen ones


@dataclass(frozen=True)
class Neighbours:
    """How a measure changes one step away in the grid of a sweep."""

    measure: str
    value: float  # at the chosen parameters
    neighbours: int  # one step away in one parameter
    mean: float  # of the neighbours
    worst: float  # of the neighbours
    typical: float  # median of the whole table
    sharpness: float  # (value − mean) / (value − typical): 0 plateau, 1 spike; NaN: not above typical
    parameters: dict[str, Any]

    @property
    def shape(self) -> str:
        """`alone`, `ordinary` (no better than typical), `plateau` or `spike` (half of the gain is gone beside it)."""
        if self.neighbours == 0:
            return "alone"
        if not np.isfinite(self.sharpness):
            return "ordinary"
        return "spike" if self.sharpness > 0.5 else "plateau"


def neighbours(
    table: pd.DataFrame,
    measure: str = "sharpe",
    parameters: Sequence[str] | None = None,
    chosen: int | None = None,
) -> Neighbours:
    """Of row `chosen` (None: the best) of a sweep's table. `parameters`: None: the settings that vary."""
    settings = [name for name in table.columns if name not in (*STATISTICS, "name")]
    names = (
        [name for name in settings if table[name].nunique(dropna=False) > 1]
        if parameters is None
        else parameters
    )
    for name in (measure, *names):
        if name not in table.columns:
            raise BacktestError(
                f"neighbours: no column {name!r} in the sweep; there are {', '.join(table.columns)}"
            )
    if len(table) == 0 or not names:
        raise BacktestError("neighbours: no setting varies in the sweep")
    sign = -1.0 if measure in LOWER_IS_BETTER else 1.0
    values = sign * table[measure].to_numpy(dtype=np.float64)
    row = int(np.nanargmax(values)) if chosen is None else chosen
    steps = sum(_steps(table[name].to_numpy(), row) for name in names)
    beside = values[(np.asarray(steps) == 1) & np.isfinite(values)]
    typical = float(np.nanmedian(values))
    gain = values[row] - typical
    return Neighbours(
        measure=measure,
        value=float(sign * values[row]),
        neighbours=len(beside),
        mean=float(sign * beside.mean()) if len(beside) else np.nan,
        worst=float(sign * beside.min()) if len(beside) else np.nan,
        typical=sign * typical,
        sharpness=float((values[row] - beside.mean()) / gain) if len(beside) and gain > 1e-12 else np.nan,
        parameters={name: table[name].iloc[row] for name in names},
    )


def _steps(column: NDArray[Any], row: int) -> Ints:
    """(P,) steps in the grid between each row's value and that of `row`; words are one step apart."""
    if column.dtype.kind in "iuf":
        _, place = np.unique(column, return_inverse=True)
        found: Ints = np.abs(place - place[row]).astype(np.int64)
        return found
    return np.array([value != column[row] for value in column], dtype=np.int64)
