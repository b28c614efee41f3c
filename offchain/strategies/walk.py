"""A strategy walked through a market at its own rhythm: the targets that a backtest's `Policy` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offchain.strategies.base import Strategy, adapted, built_in, checked_weights
from offchain.strategies.errors import StrategyError
from offchain.strategies.tax import Book

__all__ = ["EVERY", "WARM_UP", "Track", "walk"]

Floats = NDArray[np.float64]
EVERY = ("day", "week", "month", "quarter", "year")  # each decides at its first row, UTC
WARM_UP = 252  # rows before the first decision where lookback is None


def walk(
    strategy: Any,
    market: Any,
    every: str | int = "month",
    lookback: int | None = WARM_UP,
    start: Any = None,
    progress: Callable[[int, int], None] | None = None,
    check: bool = True,
) -> Floats:
    """(T, n) targets for `Policy(targets=...)`: a row of weights where the strategy decides, NaN between.

    `market`: a Market or a DataFrame of closes. `every`: "day", "week", "month", "quarter", "year" (its first row), or
    a number of rows. `lookback`: how many rows, the last of them now, the strategy sees; None: all so far. It decides
    first at the row that completes its lookback (None: 252 rows), then at each period's first row; Fixed and Equal
    decide from row 0. Until then `start` is held: weights by asset or in order; None: what `lots` hold, else equal
    weights; moved to the nearest that the constraints allow. `progress(done, total)` is called after each decision.

    Limits of turnover and gains are measured from the last targets as prices have moved them since.

    A strategy that is not of this package is then examined by `check_causal` (`check=False` leaves that out), which
    about doubles the time. It raises LookAheadError if it knows what it cannot know.
    """
    from offchain.backtest.model import Market
    from offchain.strategies.causal import check_causal

    strategy = adapted(strategy)
    track = Track.of(Market.of(market), strategy, every, lookback, start)
    if built_in(strategy):
        return track.run(strategy, progress)
    pristine = copied(strategy)
    targets = track.run(copied(pristine), progress)
    if check:
        check_causal(lambda: copied(pristine), market, every, lookback, start, targets=targets)
    return targets


def copied(strategy: Strategy) -> Strategy:
    """A strategy that shares no state with the one given."""
    try:
        return deepcopy(strategy)
    except Exception as error:
        raise StrategyError(
            f"{strategy.name}: cannot be copied ({error}), so it cannot be replayed"
        ) from None


@dataclass(frozen=True, eq=False)
class Track:
    """Where a strategy decides in a market, and what it sees there."""

    dates: Any  # (T,)
    prices: Floats  # (T, n)
    names: tuple[str, ...]
    rows: list[int]  # of the decisions
    lookback: int | None
    start: Any

    @staticmethod
    def of(market: Any, strategy: Strategy, every: str | int, lookback: int | None, start: Any) -> Track:
        """Checked; `market` is a Market."""
        total = len(market.dates)
        needed = strategy.rows_needed
        if lookback is not None and (not isinstance(lookback, int) or lookback < max(needed, 1)):
            raise StrategyError(
                f"lookback: {lookback!r} is not a number of at least the {needed} rows that {strategy.name} needs"
            )
        first = 0 if needed <= 1 else max(lookback or WARM_UP, needed) - 1
        if first >= total:
            raise StrategyError(
                f"lookback: the first decision is at row {first}, the data end at row {total - 1}: lower it"
            )
        rows = [row for row in _starts(market.dates, every) if row > first]
        return Track(market.dates, market.prices, market.names, [first, *rows], lookback, start)

    def until(self, row: int) -> Track:
        """The same where the market ends at a row."""
        return Track(
            self.dates[: row + 1].copy(),
            self.prices[: row + 1].copy(),
            self.names,
            [r for r in self.rows if r <= row],
            self.lookback,
            self.start,
        )

    def on(self, prices: Floats, rows: Sequence[int]) -> Track:
        """The same dates with other prices and decisions."""
        return Track(self.dates, prices, self.names, list(rows), self.lookback, self.start)

    def run(self, strategy: Strategy, progress: Callable[[int, int], None] | None = None) -> Floats:
        """The targets; sets the strategy's book on the way."""
        targets = np.full(self.prices.shape, np.nan)
        book = Book.of(strategy.constraints.lots, self.names) if strategy.constraints.lots else None
        before, follows = strategy.book, strategy.constraints.follows_a_book
        try:
            if self.rows[0] > 0:
                targets[0] = self._start(strategy, book)
                book = _traded(book, targets[0], self.prices[0]) if follows else None
            for done, row in enumerate(self.rows):
                strategy.book = book
                targets[row] = self.decide(strategy, row)
                book = _traded(book, targets[row], self.prices[row]) if follows else None
                if progress is not None:
                    progress(done + 1, len(self.rows))
        finally:
            strategy.book = before
        return targets

    def decide(self, strategy: Strategy, row: int) -> Floats:
        """(n,) at a row. The strategy gets a copy of what it may see and nothing else."""
        first = 0 if self.lookback is None else max(0, row + 1 - self.lookback)
        index = pd.DatetimeIndex(np.array(self.dates[first : row + 1], copy=True))
        history = pd.DataFrame(
            np.array(self.prices[first : row + 1], copy=True), index=index, columns=list(self.names)
        )
        found = strategy.target_weights(history, pd.Timestamp(self.dates[row]))
        return np.asarray(found.to_numpy(), dtype=np.float64)

    def _start(self, strategy: Strategy, book: Book | None) -> Floats:
        n, held = len(self.names), None if book is None else book.weights(self.prices[0])
        if self.start is not None:
            wanted = checked_weights(self.start, list(self.names), "start")
        else:
            wanted = np.full(n, 1 / n) if held is None else held
        return strategy.constraints.nearest(wanted, self.names, self.prices[:1], book)


def _traded(book: Book | None, weights: Floats, prices: Floats) -> Book:
    if book is None:
        return Book.of_weights(weights, prices)
    book.trade(weights, prices)
    return book


def _starts(dates: Any, every: str | int) -> list[int]:
    """The first row of each period."""
    days = np.asarray(dates).astype("datetime64[D]").astype(np.int64)
    months = np.asarray(dates).astype("datetime64[M]").astype(np.int64)
    if isinstance(every, int) and not isinstance(every, bool) and every >= 1:
        return list(range(0, len(days), every))
    periods = {
        "day": days,
        "week": (days + 3) // 7,  # 1 January 1970 was a Thursday: weeks begin on Mondays
        "month": months,
        "quarter": months // 3,
        "year": months // 12,
    }
    if not isinstance(every, str) or every not in periods:
        raise StrategyError(
            f"every: {every!r} is none of {', '.join(EVERY)}, nor a number of rows of at least 1"
        )
    period = periods[every]
    return [int(row) for row in np.flatnonzero(np.diff(period, prepend=period[0] - 1))]
