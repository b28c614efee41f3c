"""A strategy: one method, from closes to weights; and what is done with its answer before anyone sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offchain.strategies.constraints import Constraints
from offchain.strategies.errors import LookAheadError, StrategyError
from offchain.strategies.guard import Call, asking, day, explained, known
from offchain.strategies.tax import Book

__all__ = ["BUILT_IN", "Adapted", "Strategy", "adapted", "built_in", "checked_weights"]

Floats = NDArray[np.float64]
BUILT_IN: set[type] = set()  # the classes of this package: not watched, not replayed, but tested
SUM = 1e-6  # how far from 1 the weights of a strategy may sum; they are scaled to 1


def _answering(raw: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    @wraps(raw)
    def target_weights(self: Strategy, history: pd.DataFrame, now: Any) -> pd.Series:
        return _decide(self, raw, history, now)

    return target_weights


class Strategy:
    """Subclass it and write `target_weights(self, history, now)`; settings are the arguments of the constructor.

    `history`: closes, a DataFrame of UTC dates by assets, its last row at or before `now` (a pandas Timestamp, UTC,
    without a zone). Return the weights: a Series or dict by asset (what it leaves out is 0), or n numbers in the order
    of the columns; each at least 0, sum 1.

    Whoever calls the method gets a Series that is checked, sums to 1 and keeps the `constraints`. A history that goes
    past `now` is refused with LookAheadError, not cut: a caller who passes one has a mistake to find. `book` is what is
    held, for limits on turnover and on realised gains; `walk` keeps it.
    """

    constraints: Constraints = Constraints()
    book: Book | None = None
    rows_needed: int = 2  # the least history; 1: decides from the first row on

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "target_weights" in cls.__dict__:
            cls.target_weights = _answering(cls.__dict__["target_weights"])  # type: ignore[assignment, method-assign]

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """The weights wanted at `now`, from closes up to now."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """How messages call it."""
        return type(self).__name__


class Adapted(Strategy):
    """A strategy of a class that does not inherit from Strategy."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        """The class of the user."""
        return type(self.inner).__name__

    def target_weights(self, history: pd.DataFrame, now: pd.Timestamp) -> Any:
        """What the inner strategy wants."""
        return self.inner.target_weights(history, now)


def adapted(strategy: Any) -> Strategy:
    """A Strategy as it is; another object with the method in a frame."""
    if isinstance(strategy, type):
        raise StrategyError(f"{strategy.__name__}: a class, not a strategy: call it, {strategy.__name__}()")
    if isinstance(strategy, Strategy):
        return strategy
    if not callable(getattr(strategy, "target_weights", None)):
        raise StrategyError(f"{type(strategy).__name__}: has no method target_weights(history, now)")
    return Adapted(strategy)


def built_in(strategy: Any) -> bool:
    """Whether it is this package's own code, with all that it is made of."""
    parts = [part for part in getattr(strategy, "__dict__", {}).values() if isinstance(part, Strategy)]
    return type(strategy) in BUILT_IN and all(built_in(part) for part in parts)


def _decide(strategy: Strategy, raw: Callable[..., Any], history: Any, now: Any) -> pd.Series:
    who, now = strategy.name, _utc(strategy.name, now)
    _check_history(who, history, now, strategy.rows_needed)
    inner = getattr(strategy, "inner", None)
    source = getattr(inner, "target_weights", raw).__code__.co_filename
    copy, constraints = known(history), strategy.constraints
    columns, prices = list(copy.columns), copy.to_numpy()
    with asking(Call(who, now, source, watched=not built_in(strategy))) as call:
        try:
            found = raw(strategy, copy, now)
        except StrategyError:
            raise
        except Exception as error:
            if built_in(strategy) and constraints != Constraints():  # are they why?
                constraints.nearest(np.full(len(columns), 1 / len(columns)), columns, prices, strategy.book)
            raise explained(call, error, len(copy)) from None
    if call.refused is not None:
        raise call.refused
    weights = checked_weights(found, columns, f"{who}: at {day(now)}", call)
    return pd.Series(constraints.nearest(weights, columns, prices, strategy.book), index=history.columns)


def _utc(who: str, now: Any) -> pd.Timestamp:
    try:
        time = pd.Timestamp(now)
    except (TypeError, ValueError):
        raise StrategyError(f"{who}: now: {now!r} is not a time") from None
    return time.tz_convert(None) if time.tz is not None else time


def _check_history(who: str, history: Any, now: pd.Timestamp, needed: int) -> None:
    if not isinstance(history, pd.DataFrame) or not isinstance(history.index, pd.DatetimeIndex):
        raise StrategyError(f"{who}: history: needs a DataFrame of closes with an index of dates")
    if len(history) < needed or history.shape[1] == 0:
        raise StrategyError(
            f"{who}: history: has shape {history.shape}, needs {needed} rows and 1 column at least"
        )
    index = history.index if history.index.tz is None else history.index.tz_convert(None)
    if index.max() > now:
        raise LookAheadError(
            f"{who}: history goes to {day(index.max())}, past now ({day(now)}): pass history.loc[:now]"
        )


def checked_weights(found: Any, columns: list[Any], who: str, call: Call | None = None) -> Floats:
    """Weights in the order of the columns, each at least 0, sum 1; else an error that names asset and value."""
    if isinstance(found, (pd.Series, Mapping)):
        given = dict(found.items())
        unknown = [name for name in given if name not in columns]
        if unknown:
            raise StrategyError(
                f"{who}: weights: {unknown[0]!r} is not an asset; assets are {_some(columns)}"
            )
        found = [given.get(name, 0.0) for name in columns]
    try:
        weights = np.array(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise StrategyError(f"{who}: weights: {type(found).__name__} is not a list of numbers") from None
    if weights.shape != (len(columns),):
        raise StrategyError(f"{who}: weights: have shape {weights.shape}, needs {len(columns)}, one an asset")
    bad = ~(weights >= -1e-9) | np.isinf(weights)  # NaN too
    if bad.any():
        first = int(bad.argmax())
        if call is not None and call.shifted and np.isnan(weights[first]):
            raise call.refuse(
                f"shifts later rows onto now, and there are none: weight of {columns[first]} is nan"
            )
        raise StrategyError(f"{who}: weight of {columns[first]}: {weights[first]:g} is not at least 0")
    weights = np.maximum(weights, 0.0)
    total = float(weights.sum())
    if abs(total - 1) > SUM:
        raise StrategyError(f"{who}: the weights sum to {total:.9g}, not to 1")
    return weights if abs(total - 1) <= 1e-15 else weights / total


def _some(names: list[Any]) -> str:
    return ", ".join(str(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")
