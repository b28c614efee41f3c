"""What a policy earned, risked and cost: the field's usual measures, from a backtest or from any series of returns.

T rows. A `Track` is a share's value at each row, 1 before the first purchase; T − 1 returns lie between its rows. What
a measure means to somebody who has to decide, its formula and its source: docs/evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offchain.backtest.errors import BacktestError
from offchain.backtest.model import CAUSES, Floats, Ints, Market

__all__ = [
    "CORE",
    "Correlations",
    "Drawdown",
    "Track",
    "core",
    "drawdowns",
    "measures",
    "risk_contributions",
    "rolling_correlations",
    "yearly_returns",
]

CORE = ("cagr", "volatility", "sharpe", "sortino", "calmar", "max_drawdown", "cvar_95")  # of returns alone
YEAR = 365.25 * 86_400  # seconds
CUSTOMARY = (1, 4, 12, 52, 252, 365, 8_760)  # rows a year: years, quarters, months, weeks, days, hours
NEAR = 0.05  # of a customary number: closer than this the customary one is used
TAIL = 0.95  # of CVaR
LEAST_SPREAD = 1e-14  # a standard deviation below this is rounding of 0


@dataclass(frozen=True, eq=False)
class Track:
    """The value of one share at each row, whatever made it."""

    name: str
    dates: NDArray[np.datetime64]  # (T,) to the second, UTC
    wealth: Floats  # (T,) 1 before the first row's purchase

    def __post_init__(self) -> None:
        if len(self.wealth) < 3:
            raise BacktestError(f"returns of {self.name or 'the policy'}: needs at least 3 rows")
        bad = ~((self.wealth > 0) & (self.wealth < np.inf))
        if bad.any():
            row = int(bad.argmax())
            raise BacktestError(
                f"returns of {self.name or 'the policy'}: row {row}: the value is not a number above 0"
            )

    @property
    def returns(self) -> Floats:
        """(T − 1,) from row to row; what the first purchase cost is not in them."""
        found: Floats = self.wealth[1:] / self.wealth[:-1] - 1
        return found

    @property
    def years(self) -> float:
        """From the first row to the last, of 365.25 days."""
        return float((self.dates[-1] - self.dates[0]).astype(np.int64)) / YEAR

    @property
    def rows_per_year(self) -> float:
        """As the dates have it: a customary number (252 for stocks, 365 for crypto, 52, 12 …) if within 5 % of it."""
        found = (len(self.dates) - 1) / self.years
        near = min(CUSTOMARY, key=lambda usual: abs(found / usual - 1))
        return float(near) if abs(found / near - 1) <= NEAR else found

    @staticmethod
    def of(data: Any, dates: Any = None, name: str = "") -> Track:
        """Of a Result (any engine's), a pandas Series of returns with dates, or returns with `dates`.

        Dates are one more than returns, the first that of the money put in; or as many, and the money was put in one
        usual step before.
        """
        if isinstance(data, Track):
            return replace(data, name=name or data.name)
        if hasattr(data, "index") and hasattr(data, "market"):
            policy = getattr(data, "policy", None)
            return Track(name or getattr(policy, "name", ""), data.market.dates, np.asarray(data.index))
        if dates is None and hasattr(data, "index"):
            dates = data.index
            if getattr(dates, "tz", None) is not None:
                dates = dates.tz_convert(None)
        if dates is None:
            raise BacktestError("dates: needed with plain returns")
        try:
            returns = np.asarray(data, dtype=np.float64)
            days = np.asarray(dates).astype("datetime64[s]")
        except (TypeError, ValueError):
            raise BacktestError(f"returns of {name or 'the policy'}: not numbers with dates") from None
        if returns.ndim != 1 or days.ndim != 1 or len(days) - len(returns) not in (0, 1):
            raise BacktestError(
                f"returns of {name or 'the policy'}: {returns.shape} returns with {days.shape} dates;"
                " needs as many dates or one more"
            )
        if len(days) == len(returns) > 1:
            days = np.concatenate((days[:1] - np.median(np.diff(days).astype(np.int64)).astype(int), days))
        if (np.diff(days).astype(np.int64) <= 0).any():
            raise BacktestError("dates: not ascending")
        return Track(name, days, np.concatenate(([1.0], np.cumprod(1 + returns))))


# ---------------------------------------------------------------- of returns


def core(
    returns: Floats, years: float, rows_per_year: float, risk_free: float = 0.0, start: float = 1.0
) -> dict[str, Any]:
    """The measures `CORE` of returns (T − 1,), floats, or of many series (T − 1, B), arrays (B,); NaN: not defined.

    `start`: what is left of 1 after the first purchase. `risk_free`: a year, compounded.
    """
    from skfolio.measures import cvar, get_drawdowns, semi_deviation, standard_deviation

    free = (1 + risk_free) ** (1 / rows_per_year) - 1
    first = np.full_like(returns[:1], start - 1)
    falls = -get_drawdowns(np.concatenate((first, returns)), compounded=True).min(axis=0)
    excess, root = returns.mean(axis=0) - free, rows_per_year**0.5
    spread = standard_deviation(returns)
    down = semi_deviation(returns, min_acceptable_return=free, biased=True)
    cagr = (start * np.prod(1 + returns, axis=0)) ** (1 / years) - 1
    found = {
        "cagr": cagr,
        "volatility": spread * root,
        "sharpe": _over(excess, spread) * root,
        "sortino": _over(excess, down) * root,
        "calmar": _over(cagr, falls),
        "max_drawdown": falls,
        "cvar_95": cvar(returns, beta=TAIL),
    }
    return {name: float(value) if returns.ndim == 1 else value for name, value in found.items()}


def _over(a: Any, b: Any) -> Any:
    """Quotient; NaN where b is 0 but for rounding."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > LEAST_SPREAD)


def measures(
    data: Any,
    dates: Any = None,
    *,
    benchmark: Any = None,
    rows_per_year: float | None = None,
    risk_free: float = 0.0,
) -> dict[str, float]:
    """Measures by name, of a Result or of returns (`Track.of`); what is not defined for the data is NaN.

    `benchmark`: a Result, a Track or returns on the same dates. `rows_per_year`: 252, 365 …; None: as the dates have
    it, and stated under that name. `risk_free`: a year, fraction. Fractions throughout, but what is named days or bps.
    A Result has its turnover, cost and tracking error too; the first purchase is counted there, as in `STATISTICS`.
    """
    from scipy import stats  # type: ignore[import-untyped]

    track = Track.of(data, dates)
    per_year = _rows_per_year(track, rows_per_year)
    if not risk_free > -1:
        raise BacktestError(f"risk_free: {risk_free} is not a rate a year above -1, such as 0.02")
    returns, start = track.returns, float(track.wealth[0])
    found: dict[str, float] = core(returns, track.years, per_year, risk_free, start)
    worst, by_year = drawdowns(track, 1), list(yearly_returns(track).values())
    found |= {
        "total_return": float(track.wealth[-1] - 1),
        "max_drawdown_days": worst[0].days if worst else 0.0,
        "underwater_days": max((fall.days for fall in drawdowns(track, len(returns))), default=0.0),
        "best_year": max(by_year, default=np.nan),
        "worst_year": min(by_year, default=np.nan),
        "skew": float(stats.skew(returns)) if np.ptp(returns) > LEAST_SPREAD else np.nan,
        "kurtosis": float(stats.kurtosis(returns, fisher=False))
        if np.ptp(returns) > LEAST_SPREAD
        else np.nan,
        "years": track.years,
        "rows_per_year": per_year,
        "risk_free": risk_free,
    }
    if benchmark is not None:
        other = Track.of(benchmark, track.dates if dates is None else dates)
        found["tracking_error"] = _tracking_error(returns, other, track, per_year)
    if hasattr(data, "trade_costs"):
        found |= _of_trading(data, returns, track.years, per_year)
    return found


def _rows_per_year(track: Track, given: float | None) -> float:
    if given is not None and not 0 < given < np.inf:
        raise BacktestError(
            f"rows_per_year: {given} is not a number above 0, such as 252 (stocks) or 365 (crypto)"
        )
    return track.rows_per_year if given is None else float(given)


def _tracking_error(returns: Floats, benchmark: Track, track: Track, per_year: float) -> float:
    if not np.array_equal(benchmark.dates, track.dates):
        raise BacktestError(f"benchmark: its dates are not those of {track.name or 'the policy'}")
    return float(np.std(returns - benchmark.returns, ddof=1) * per_year**0.5)


def _of_trading(result: Any, returns: Floats, years: float, per_year: float) -> dict[str, float]:
    """Turnover, cost and distance from target of a Result; values and costs relative to the value at their row."""
    values, costs = np.asarray(result.value), np.asarray(result.trade_costs, dtype=np.float64)
    rows = np.asarray(result.trade_rows, dtype=np.int64)
    before = values[rows] + costs.sum(axis=1)
    turned = np.abs(result.trades).sum(axis=1) / before
    bps = 10_000 * (costs / before[:, None]).sum(axis=0) / years
    prices, targets = result.market.prices, np.asarray(result.targets)
    relatives = prices[1:] / prices[:-1]
    if result.market.dividends is not None:
        relatives = relatives + result.market.dividends[1:] / prices[:-1]
    ideal = (targets[:-1] * relatives).sum(axis=1) - 1
    return {
        "rebalances": float(len(rows)),
        "turnover_a_year": float(turned.sum() / years),
        "cost_bps_a_year": float(bps.sum()),
        **{f"cost_{cause}_bps_a_year": float(x) for cause, x in zip(CAUSES, bps, strict=True)},
        "fees_bps_a_year": float(10_000 * (np.asarray(result.fees) / values).sum() / years),
        "tracking_error_to_targets": float(np.std(returns - ideal, ddof=1) * per_year**0.5),
        "distance_from_targets": float(np.abs(result.weights - targets).sum(axis=1).mean() / 2),
    }


# ---------------------------------------------------------------- falls and years


@dataclass(frozen=True)
class Drawdown:
    """A fall from a peak, until the peak was reached again."""

    depth: float  # fraction of the peak
    peak: np.datetime64
    trough: np.datetime64
    recovery: np.datetime64 | None  # None: not yet
    days: float  # from peak to recovery, or to the last row
    rows: tuple[int, int, int]  # of peak, trough, recovery (or the last)


def drawdowns(data: Any, worst: int = 5, dates: Any = None) -> list[Drawdown]:
    """The `worst` falls, deepest first; they do not overlap. What the first purchase cost is not a fall."""
    track = Track.of(data, dates)
    wealth = track.wealth
    peaks = np.maximum.accumulate(wealth)
    below = np.concatenate(([False], wealth < peaks, [False]))
    starts = np.flatnonzero(below[1:] & ~below[:-1])  # first row below its peak
    ends = np.flatnonzero(~below[1:] & below[:-1])  # first row not below any more, T if none
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        peak, last = start - 1, min(end, len(wealth) - 1)
        trough = start + int(np.argmin(wealth[start:end]))
        days = float((track.dates[last] - track.dates[peak]).astype(np.int64)) / 86_400
        found.append(
            Drawdown(
                depth=float(1 - wealth[trough] / wealth[peak]),
                peak=track.dates[peak],
                trough=track.dates[trough],
                recovery=track.dates[end] if end < len(wealth) else None,
                days=days,
                rows=(peak, trough, last),
            )
        )
    return sorted(found, key=lambda fall: -fall.depth)[:worst]


def yearly_returns(data: Any, dates: Any = None, *, whole: bool = True) -> dict[int, float]:
    """Returns by calendar year (UTC). `whole`: only years whose first and last rows are within ten days of its ends."""
    track = Track.of(data, dates)
    years = track.dates.astype("datetime64[Y]")
    last = np.append(np.flatnonzero(years[1:] != years[:-1]), len(years) - 1)
    ends = np.concatenate((track.wealth[:1], track.wealth[last]))
    begins = np.concatenate((track.dates[:1], track.dates[last]))
    found, slack = {}, np.timedelta64(10, "D")
    for i, row in enumerate(last):
        begin, year = years[row].astype("datetime64[s]"), years[row]
        complete = begins[i] <= begin + slack and begins[i + 1] >= (year + 1).astype("datetime64[s]") - slack
        if complete or not whole:
            found[int(year.astype(np.int64)) + 1970] = float(ends[i + 1] / ends[i] - 1)
    return found


# ---------------------------------------------------------------- for the report's charts


def risk_contributions(
    data: Any, weights: Any = None, *, window: int = 252, points: int = 250
) -> tuple[Ints, Floats]:
    """Rows (K,) and (K, n) each asset's part of the portfolio's variance, w_i (Σw)_i / wᵀΣw, which sum to 1.

    `data`: a Result, or a Market with `weights` (T, n). Σ is the covariance of the `window` returns up to the row. At
    most `points` rows, evenly spaced, the last one included.
    """
    market = data if isinstance(data, Market) else data.market
    held = np.asarray(data.weights if weights is None else weights)
    returns, rows = _windows(market, window, points)
    found = np.empty((len(rows), market.shape[1]))
    for k, row in enumerate(rows.tolist()):
        seen = returns[row - window : row]
        seen = seen - seen.mean(axis=0)
        parts = held[row] * (seen.T @ (seen @ held[row]))
        found[k] = parts / parts.sum() if parts.sum() > 0 else np.nan
    return rows, found


@dataclass(frozen=True, eq=False)
class Correlations:
    """Pairwise correlations of returns, as they change."""

    rows: Ints  # (K,)
    lowest: Floats  # (K,) of the pairs
    mean: Floats  # (K,)
    highest: Floats  # (K,)
    latest: Floats  # (n, n) at the last of the rows


def rolling_correlations(market: Market, *, window: int = 63, points: int = 250) -> Correlations:
    """Of the `window` returns up to each of at most `points` rows; needs two assets at least."""
    if market.shape[1] < 2:
        raise BacktestError("correlations: needs at least 2 assets")
    returns, rows = _windows(market, window, points)
    pairs = np.triu_indices(market.shape[1], 1)
    table = np.empty((3, len(rows)))
    latest: Floats = np.eye(market.shape[1])
    for k, row in enumerate(rows.tolist()):
        with np.errstate(invalid="ignore"):  # an asset that did not move has none
            latest = np.atleast_2d(np.corrcoef(returns[row - window : row], rowvar=False))
        some = latest[pairs][~np.isnan(latest[pairs])]
        table[:, k] = (some.min(), some.mean(), some.max()) if some.size else np.nan
    return Correlations(rows, table[0], table[1], table[2], latest)


def _windows(market: Market, window: int, points: int) -> tuple[Floats, Ints]:
    """Returns (T − 1, n) and the rows at which windows end; returns[row − window : row] are those up to the row."""
    count = len(market.prices)
    if not 2 <= window < count:
        raise BacktestError(f"window: {window} is not between 2 and {count - 1}, the number of returns")
    rows = np.unique(np.linspace(count - 1, window, max(points, 1)).astype(np.int64))
    return market.prices[1:] / market.prices[:-1] - 1, rows
