"""How far a measure could be off: the stationary block bootstrap (Politis and Romano 1994); many comparisons at once.

Rows are drawn in blocks, so that calm and wild times stay together; block lengths are geometric, their mean as Politis
and White (2004, corrected 2009) have it. All series of a comparison are drawn from the same rows, so that what moves
them together cancels in their differences. A seed gives the same numbers every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from offchain.backtest.errors import BacktestError
from offchain.backtest.measures import CORE, LEAST_SPREAD, Track, core
from offchain.backtest.model import Floats, Ints

__all__ = [
    "CLAIMED",
    "Interval",
    "adjusted_p",
    "as_compared",
    "block_length",
    "bootstrap",
    "chance_of_trials",
    "interval",
    "resampled_rows",
]

CLAIMED = ("cagr", "sharpe")  # differences that are tested: one family of comparisons
LEAST_BLOCKS = 20  # that the rows hold: fewer would give intervals that are too short
AT_ONCE = 1_000_000  # numbers a series in one go: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A number and the interval that holds its true value in `level` of cases."""

    value: float
    low: float
    high: float
    level: float

    @property
    def covers_zero(self) -> bool:
        """0 is among what it may be; so it is when nothing is known (NaN)."""
        return not (self.low > 0 or self.high < 0)


def block_length(returns: Floats) -> float:
    """Mean block length for (T,) or (T, K) returns: the longest that any series or its squares ask for.

    Squares, because calm and wild times last longer than anything that shows in the returns themselves. At least 1 row,
    at most a twentieth of them.
    """
    from skfolio.utils.bootstrap import optimal_block_size

    lengths = [1.0]
    for series in np.atleast_2d(returns.T):
        for values in (series, (series - series.mean()) ** 2):
            if len(values) >= 9 and np.std(values) > 0:
                lengths.append(float(optimal_block_size(values)))
    return max(min(max(lengths), len(returns) / LEAST_BLOCKS), 1.0)


def resampled_rows(rng: np.random.Generator, rows: int, block: float, samples: int) -> Ints:
    """(rows, samples) row numbers: blocks of mean length `block` from anywhere, the last row followed by the first."""
    starts = rng.integers(rows, size=(rows, samples))
    new = rng.random((rows, samples)) < 1 / block
    new[0] = True
    row = np.arange(rows)[:, None]
    begin = np.maximum.accumulate(np.where(new, row, 0), axis=0)  # where the block of each row began
    found: Ints = (np.take_along_axis(starts, begin, axis=0) + row - begin) % rows
    return found


def bootstrap(
    tracks: list[Track],
    rows_per_year: float,
    risk_free: float = 0.0,
    *,
    samples: int = 1_000,
    block: float | None = None,
    seed: int = 0,
) -> dict[str, Floats]:
    """(samples, K) of each measure of `CORE`, of K tracks on the same dates drawn from the same rows."""
    if samples < 100:
        raise BacktestError(f"samples: {samples} is below 100")
    dates = tracks[0].dates
    for track in tracks[1:]:
        if not np.array_equal(track.dates, dates):
            raise BacktestError(f"{track.name}: its dates are not those of {tracks[0].name or 'the policy'}")
    returns = np.stack([track.returns for track in tracks], axis=1)
    length = block_length(returns) if block is None else block
    if not length >= 1:
        raise BacktestError(f"block: {block} is not a number of rows of at least 1")
    found: dict[str, list[Any]] = {name: [] for name in CORE}
    for drawn in _draws(len(returns), length, samples, seed):
        each = [
            core(returns[:, k][drawn], track.years, rows_per_year, risk_free, float(track.wealth[0]))
            for k, track in enumerate(tracks)
        ]
        for name in CORE:
            found[name].append(np.stack([one[name] for one in each], axis=1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _draws(rows: int, block: float, samples: int, seed: int) -> Iterator[Ints]:
    batch = max(AT_ONCE // rows, 1)
    for part, start in enumerate(range(0, samples, batch)):
        rng = np.random.default_rng([seed, part])
        yield resampled_rows(rng, rows, block, min(batch, samples - start))


def interval(value: float, drawn: Floats, level: float = 0.95) -> Interval:
    """Percentile interval (Efron 1979) of a measure from its bootstrapped values (B,)."""
    if not 0 < level < 1:
        raise BacktestError(f"level: {level} is not between 0 and 1, such as 0.95")
    known = drawn[np.isfinite(drawn)]
    if known.size == 0 or not np.isfinite(value):
        return Interval(value, np.nan, np.nan, level)
    low, high = np.quantile(known, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(value), float(low), float(high), level)


def adjusted_p(values: Floats, drawn: Floats, chance_besides: Floats | None = None) -> Floats:
    """(K,) two-sided p-values of K numbers being 0, right for all K together: step-down max-t (Romano and Wolf 2005).

    `drawn` (B, K): the numbers bootstrapped together. `chance_besides` (B,): the largest |t| that chance gave, in the
    same samples, to comparisons that were made too and are not among the K. A number that is not defined or never
    varies has p = 1.
    """
    spread = drawn.std(axis=0)
    found = np.ones(len(values))
    known = np.flatnonzero(np.isfinite(spread) & (spread > LEAST_SPREAD) & np.isfinite(values))
    size = np.abs(values[known]) / spread[known]
    chance = np.abs(drawn[:, known] - values[known]) / spread[known]
    order = np.argsort(-size)
    besides = np.zeros(len(drawn)) if chance_besides is None else chance_besides
    p = 0.0
    for step, k in enumerate(order):
        most = np.maximum(chance[:, order[step:]].max(axis=1), besides)
        p = max(p, float((1 + (most >= size[k]).sum()) / (1 + len(drawn))))
        found[known[k]] = p
    return found


def as_compared(name: str, values: Any) -> Floats:
    """A `CLAIMED` measure as it is tested: growth as its logarithm, whose errors lie evenly on both sides."""
    found: Floats = np.log1p(values) if name == "cagr" else np.asarray(values)
    return found


def chance_of_trials(
    trials: Floats,
    others: Floats,
    years: float,
    rows_per_year: float,
    risk_free: float = 0.0,
    *,
    samples: int,
    block: float,
    seed: int,
) -> Floats:
    """(samples,) largest chance |t| of any `as_compared` difference of a trial (T − 1, N) to an other (T − 1, K).

    For `adjusted_p`, with the samples of `bootstrap` of the same terms: who looked at N trials made these comparisons.
    """
    rows = len(trials)
    both = np.concatenate((trials, others), axis=1)
    free = (1 + risk_free) ** (1 / rows_per_year) - 1
    parts = [
        _moments(_counts(drawn), both, years, rows_per_year, free)
        for drawn in _draws(rows, block, samples, seed)
    ]
    drawn = np.concatenate(parts, axis=1)  # (2, samples, N + K)
    value = _moments(np.ones((1, rows)), both, years, rows_per_year, free)
    most, n = np.zeros(samples), trials.shape[1]
    for k in range(n, both.shape[1]):
        for now, once in zip(drawn, value, strict=True):
            moved = (now[:, :n] - now[:, k : k + 1]) - (once[:, :n] - once[:, k : k + 1])
            spread = moved.std(axis=0)
            fine = spread > LEAST_SPREAD
            if fine.any():
                most = np.maximum(most, np.abs(moved[:, fine] / spread[fine]).max(axis=1))
    return most


def _counts(drawn: Ints) -> Floats:
    """(S, T) how often each row was drawn, from (T, S) rows."""
    rows, samples = drawn.shape
    flat = (drawn + rows * np.arange(samples)).ravel()
    return np.bincount(flat, minlength=rows * samples).reshape(samples, rows).astype(np.float64)


def _moments(counts: Floats, returns: Floats, years: float, rows_per_year: float, free: float) -> Floats:
    """(2, S, N) `as_compared` measures of returns (T, N) whose rows are counted as often as (S, T) `counts` says."""
    rows = len(returns)
    mean = counts @ returns / rows
    center = returns.mean(axis=0)
    spread = np.sqrt(
        np.maximum(counts @ (returns - center) ** 2 / rows - (mean - center) ** 2, 0.0) * rows / (rows - 1)
    )
    growth = counts @ np.log1p(returns) / years
    sharpe = np.divide(mean - free, spread, out=np.zeros_like(mean), where=spread > LEAST_SPREAD)
    sharpe *= rows_per_year**0.5
    return np.stack((growth, sharpe))
