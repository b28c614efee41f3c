"""Prices on their way to a Market: a series an asset, then all of them on common rows, each cell knowing its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offchain.backtest.errors import BacktestError

__all__ = ["Floats", "Ints", "Series", "Table", "day_of", "join"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Place = Callable[[int], str]


@dataclass(eq=False)
class Series:
    """One asset's prices as its source has them."""

    name: str
    times: Ints  # (T,) seconds UTC, ascending; wide files share one array
    prices: Floats  # (T,) NaN: a cell without a price
    place: Place  # where row i stands: "prices.csv, line 17"
    column: str = ""  # the cell's, where the source has columns
    volume: Floats | None = None  # (T,) USD traded in the row's period
    depth: Floats | None = None  # (T,) USD on one side of its pool


@dataclass(eq=False)
class Table:
    """Several assets on the rows of all of them together."""

    series: list[Series]
    times: Ints  # (T,)
    prices: Floats  # (T, n) NaN: none

    @property
    def names(self) -> list[str]:
        """(n,)"""
        return [one.name for one in self.series]

    def where(self, row: int, column: int) -> str:
        """A cell in words: its place in the source, or that it has none there."""
        one = self.series[column]
        when = day_of(self.times[row])
        i = int(np.searchsorted(one.times, self.times[row]))
        if i < len(one.times) and one.times[i] == self.times[row]:
            return f"{one.place(i)}, column {one.column or one.name} ({when})"
        last = one.place(i - 1) if i else ""
        return f"{one.name} ({when}: no row{', after ' + last if last else ''})"

    def rows(self, keep: NDArray[np.bool_]) -> Table:
        """Only some rows."""
        return self if keep.all() else Table(self.series, self.times[keep], self.prices[keep])


def join(series: Sequence[Series]) -> Table:
    """All assets on the union of their times."""
    first = series[0].times
    if all(one.times is first or np.array_equal(one.times, first) for one in series):
        return Table(list(series), first, np.column_stack([one.prices for one in series]))
    times = np.unique(np.concatenate([one.times for one in series]))
    return Table(list(series), times, np.column_stack([spread(one, one.prices, times) for one in series]))


def spread(one: Series, values: Floats, times: Ints) -> Floats:
    """A series' values on `times`, NaN where it has no row."""
    found = np.full(len(times), np.nan)
    at = np.searchsorted(one.times, times)
    at[at == len(one.times)] = 0
    here = one.times[at] == times
    found[here] = values[at[here]]
    return found


def day_of(seconds: int | np.int64) -> str:
    """The date, with the time of day if it is not midnight, UTC."""
    text = str(np.datetime64(int(seconds), "s"))
    return text[:10] if text.endswith("T00:00:00") else text.replace("T", " ") + " UTC"


def in_order(times: Ints, place: Place, name: str, sort: bool) -> NDArray[np.int64] | None:
    """The order that makes `times` ascend, None if they do; BacktestError names what is unsorted or twice."""
    steps = np.diff(times)
    order = None
    if (steps < 0).any():
        if (steps <= 0).all():
            order = np.arange(len(times))[::-1]  # newest first, as many sites write
        elif sort:
            order = np.argsort(times, kind="stable")
        else:
            i = int((steps < 0).argmax()) + 1
            raise BacktestError(
                f"{place(i)}: {day_of(times[i])} comes after {day_of(times[i - 1])}{name}: "
                "not in order; sort = true sorts"
            )
    sorted_times = times if order is None else times[order]
    twice = np.diff(sorted_times) == 0
    if twice.any():
        i = int(twice.argmax())
        a, b = sorted((i, i + 1) if order is None else (int(order[i]), int(order[i + 1])))
        raise BacktestError(
            f"{place(b)}: {day_of(times[b])} is there already{name}: {place(a)}; remove one of them"
        )
    return order
