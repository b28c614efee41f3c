"""What a backtest is made of: market data, a policy in the vault's words, costs; and what it returns.

T rows (closes), n assets. Money is USD (or whatever the prices are in), weights are fractions, times UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offchain.backtest.errors import BacktestError
from offchain.policy import CalendarUnit, Mode, Rules

__all__ = ["CAUSES", "Costs", "Kind", "Market", "Policy", "RebalanceTo", "Schedule"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SUM_TOLERANCE = 1e-9  # of targets, around 1
LOWEST = (
    ("calendar_every", 1),
    ("calendar_anchor", 0),
    ("window_seconds", 1),
    ("cooldown_seconds", 0),
    ("tolerance_bps", 0),
    ("fee_bps", 0),
    ("speed_refill_bps_per_day", 0),
    ("gain_over_cost", 0),
    ("aversion", 0),
)  # of a policy's settings
CAUSES = ("proportional", "fixed", "impact", "pool")  # of a rebalance's cost, in the order of `Result.costs`


class RebalanceTo(Enum):
    """How far a rebalance goes: the distance from target at which an asset is left."""

    TARGET = "target"  # 0
    CLOSE = "close"  # what closes the vault's session: tolerance (calendar), half the band (threshold)
    HALF_BAND = "half band"
    EDGE = "edge"  # the band itself; the vault's session stays open there, so this one is for research


class Kind:
    """Why a row was traded, in `Result.kinds`."""

    NONE, CALENDAR, THRESHOLD, CALENDAR_AND_THRESHOLD, FIRST = range(5)


@dataclass(frozen=True, eq=False)
class Market:
    """Closes and what else happened at them; checked when made, each message names the row and the column.

    An asset's split is the data's matter: prices are comparable from row to row. Flows are what depositors bring (above
    0) or take (below 0), gross: `in_kind` pro rata without trading; `by_route` for cash that buys or comes from the
    same slice of the basket, its trading paid by who comes or goes, as by the vault's Zap.
    """

    dates: Any  # (T,) datetime64 or a DatetimeIndex, UTC, ascending; kept as datetime64[s]
    prices: Any  # (T, n) above 0
    names: Sequence[str] = ()  # (n,) columns
    dividends: Any = None  # (T, n) per share, at the row's open: who held the row before gets it in cash
    flows_in_kind: Any = None  # (T,)
    flows_by_route: Any = None  # (T,)
    times: Ints = field(init=False, repr=False)  # (T,) seconds
    cache: dict[Any, Any] = field(init=False, repr=False)  # calendar slots by their terms

    def __post_init__(self) -> None:
        prices = _matrix("prices", self.prices)
        rows, n = prices.shape
        names = tuple(str(name) for name in self.names) or tuple(f"asset {i}" for i in range(n))
        dates = _dates(self.dates, rows)
        if len(names) != n:
            raise BacktestError(f"names: {len(names)} names for {n} columns of prices")
        values = {
            "dates": dates,
            "prices": prices,
            "names": names,
            "times": dates.astype(np.int64),
            "cache": {},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        _check(self, "prices", prices, prices.min() > 0 and prices.max() < np.inf, "a number above 0")
        if self.dividends is not None:
            paid = _matrix("dividends", self.dividends, prices.shape)
            _check(self, "dividends", paid, paid.min() >= 0 and paid.max() < np.inf, "a number of at least 0")
            object.__setattr__(self, "dividends", paid)
        for name in ("flows_in_kind", "flows_by_route"):
            object.__setattr__(self, name, _flows(self, name))

    @property
    def shape(self) -> tuple[int, int]:
        """T rows and n assets."""
        rows, n = self.prices.shape
        return rows, n

    @property
    def years(self) -> float:
        """From the first row to the last, of 365.25 days."""
        return float(self.times[-1] - self.times[0]) / (365.25 * 86_400)

    @staticmethod
    def of(data: Any, **more: Any) -> Market:
        """A Market as it is; of a pandas DataFrame its index (time zones become UTC), columns and values."""
        if isinstance(data, Market):
            return data
        index = data.index
        if getattr(index, "tz", None) is not None:
            index = index.tz_convert(None)
        return Market(index.to_numpy(), data.to_numpy(), tuple(data.columns), **more)

    def where(self, row: int, column: int | None = None) -> str:
        """A cell in words, rows counted from 0."""
        day = np.datetime_as_string(self.dates[row], "D")
        return f"row {row} ({day})" + ("" if column is None else f", column {self.names[column]}")


@dataclass(frozen=True, eq=False)
class Policy:
    """When to trade and to which weights, in the vault's words (docs/spec.md); all engines read this one.

    The vault's band is max(25 bps, min(points, relative · target)), so the defaults are 5/25. `bands` replaces it, for
    widths the vault does not have. Where `targets` has T rows, a row of NaN leaves the targets as they are.
    """

    targets: Any  # (n,) or (T, n) fractions that sum to 1
    mode: Mode = Mode.EITHER
    band_points_bps: int | Sequence[int] = 500
    band_relative_bps: int | Sequence[int] = 2_500  # of the target
    calendar_unit: CalendarUnit = CalendarUnit.MONTHS
    calendar_every: int = 3
    calendar_anchor: int = 0  # timestamp at which slot 1 starts; 0: 1 January 1970
    window_seconds: int = 86_400  # a fast rebalance is done within its row: not read there
    cooldown_seconds: int = 0  # from a rebalance to the next
    tolerance_bps: int = 50  # read for RebalanceTo.CLOSE; the vault wants more than 0 with a calendar
    rebalance_to: RebalanceTo = RebalanceTo.TARGET
    fee_bps: int = 0  # of the vault, a year
    name: str = ""
    # beyond the vault's settings
    bands: Any = None  # scalar, (n,) or (T, n) half-widths
    stops: Any = None  # scalar, (n,) or (T, n) distances at which a trade stops; replaces rebalance_to
    calendar_rows: Any = None  # (T,) bool: an exchange calendar's rows instead of slots; each lapses at once
    first_row_only: bool = False  # a slot lapses after its first row; the vault's stays due until it is used
    min_targets: Any = None  # scalar or (n,) limits of moving targets
    max_targets: Any = None
    speed_capacity_bps: int | None = None  # Σ|Δt| of moving targets; None: no limit
    speed_refill_bps_per_day: int = 0
    gain_over_cost: float = 0.0  # trade if the tracking loss falls by at least this multiple of the cost
    aversion: float = 0.3  # of that loss, aversion / 2 · δᵀΣδ of NAV (docs/planner.md)
    covariance: Any = None  # (n, n) Σ; None: the identity, squared drift

    def __post_init__(self) -> None:
        for name, kind in (("mode", Mode), ("calendar_unit", CalendarUnit), ("rebalance_to", RebalanceTo)):
            if not isinstance(getattr(self, name), kind):
                choices = ", ".join(f"{kind.__name__}.{choice.name}" for choice in kind)
                raise BacktestError(f"{name}: {getattr(self, name)!r} is none of {choices}")
        for name, low in LOWEST:
            if not getattr(self, name) >= low:
                raise BacktestError(f"{name}: {getattr(self, name)} is below {low}")

    def rules(self) -> Rules:
        """The vault's rules as far as a policy knows them; slippage and loss budget are wide."""
        return Rules(
            mode=int(self.mode),
            calendar_unit=int(self.calendar_unit),
            calendar_every=self.calendar_every,
            calendar_anchor=self.calendar_anchor,
            window_seconds=self.window_seconds,
            cooldown_seconds=self.cooldown_seconds,
            max_slippage_bps=1_000,
            loss_capacity_bps=8_000,
            loss_refill_bps_per_year=65_000,
            tolerance_bps=self.tolerance_bps,
            speed_capacity_bps=self.speed_capacity_bps or 0,
            speed_refill_bps_per_day=self.speed_refill_bps_per_day,
        )


@dataclass(frozen=True, eq=False)
class Costs:
    """What trading costs. Amounts in USD; scalars hold for all assets, (T, n) arrays say what is known at each row.

    Impact is the square-root law, impact · volatility · √(traded / daily volume) of what is traded (Grinold and Kahn
    2000; Tóth et al. 2011). A pool is constant-product, at the row's price before each trade: buying a value of x costs
    x²/(depth − x), selling it x²/(depth + x), depth the value of one side.
    """

    proportional_bps: ArrayLike = 0.0  # scalar or (n,) of the value traded
    per_rebalance: float = 0.0
    per_leg: float = 0.0  # for each asset that is traded
    impact: float = 0.0  # coefficient, about 1
    volatility: Any = None  # scalar, (n,) or (T, n) a day, fraction
    daily_volume: Any = None  # scalar, (n,) or (T, n) USD
    pool_depth: Any = None  # scalar, (n,) or (T, n) USD; inf: no pool


@dataclass(frozen=True, eq=False)
class Schedule:
    """A policy on a market's rows. K: how many different settings it goes through."""

    table: Floats  # (4, K, n): targets, bands, stops where a band was hit, stops where the calendar was due
    setting: NDArray[np.int32]  # (T,) which of the K
    slots: NDArray[np.int32]  # (T,) number of the calendar slot
    lapses: bool  # a slot ends with its first row


# ---------------------------------------------------------------- checks


def shaped(name: str, value: Any, rows: int, n: int, low: float = 0.0, high: float = np.inf) -> Floats:
    """A scalar, (n,) or (rows, n) as (1, n) or (rows, n) of float64 within low and high, else BacktestError."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise BacktestError(f"{name}: not a number or an array of numbers") from None
    if array.shape not in ((), (n,), (1, n), (rows, n)):
        raise BacktestError(
            f"{name}: has shape {array.shape}, needs one number, {n} numbers or {rows} rows of {n}"
        )
    if array.ndim == 2:
        array = np.ascontiguousarray(array)
    else:
        one, array = array, np.empty((1, n))
        array[0] = one
    if not (array.min() >= low and array.max() <= high):
        row, column = _first(~((array >= low) & (array <= high)))
        place = f"asset {column}" if len(array) == 1 else f"row {row}, asset {column}"
        raise BacktestError(f"{name}: {place}: {array[row, column]:g} is not between {low:g} and {high:g}")
    return array


def _first(bad: NDArray[np.bool_]) -> tuple[int, int]:
    row, column = np.argwhere(bad)[0]
    return int(row), int(column)


def _matrix(name: str, value: Any, shape: tuple[int, int] | None = None) -> Floats:
    try:
        array = np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise BacktestError(f"{name}: not a table of numbers") from None
    if shape is not None and array.shape != shape:
        raise BacktestError(f"{name}: has shape {array.shape}, prices have {shape}")
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise BacktestError(f"{name}: has shape {array.shape}, needs at least 2 rows and 1 column")
    return array


def _dates(value: Any, rows: int) -> NDArray[np.datetime64]:
    try:
        dates = np.asarray(value).astype("datetime64[s]")
    except (TypeError, ValueError):
        raise BacktestError(
            "dates: not dates; pandas.to_datetime(..., utc=True).tz_convert(None) makes them"
        ) from None
    if dates.shape != (rows,):
        raise BacktestError(f"dates: {dates.shape[0] if dates.ndim else 0} dates for {rows} rows of prices")
    seconds = dates.astype(np.int64)
    missing = np.isnat(dates)
    if missing.any():
        raise BacktestError(f"dates: row {int(missing.argmax())}: no date")
    late = seconds[1:] <= seconds[:-1]
    if late.any():
        row = int(late.argmax()) + 1
        raise BacktestError(f"dates: row {row} ({dates[row]}): not after the row before ({dates[row - 1]})")
    return dates


def _check(market: Market, name: str, array: Floats, fine: Any, need: str) -> None:
    if fine:  # NaN makes it false
        return
    low = 0 if name == "dividends" else np.nextafter(0, 1)
    row, column = _first(~((array >= low) & (array < np.inf)))
    raise BacktestError(f"{name}: {market.where(row, column)}: {array[row, column]:g} is not {need}")


def _flows(market: Market, name: str) -> Floats | None:
    value = getattr(market, name)
    if value is None:
        return None
    flows = np.ascontiguousarray(value, dtype=np.float64)
    if flows.shape != (len(market.times),):
        raise BacktestError(
            f"{name}: has shape {flows.shape}, needs one amount for each of {len(market.times)} rows"
        )
    bad = ~np.isfinite(flows)
    if bad.any():
        row = int(bad.argmax())
        raise BacktestError(f"{name}: {market.where(row)}: {flows[row]:g} is not an amount")
    if flows[0] != 0:
        raise BacktestError(f"{name}: {market.where(0)}: must be 0: what the vault starts with is `cash`")
    return flows
