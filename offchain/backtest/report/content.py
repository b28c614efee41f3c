"""Everything that a report says, as plain values: what the JSON holds and what the page is made of.

Charts have a part of the rows: evenly spaced ones, those that were traded, and each line's peaks and troughs. Tables
are worked out from all rows. Numbers that do not exist are None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offchain import __version__
from offchain.backtest.measures import risk_contributions, rolling_correlations, yearly_returns
from offchain.backtest.model import Floats, Ints, Kind, Market
from offchain.backtest.report.names import plain
from offchain.backtest.report.study import Study, Swept
from offchain.backtest.report.words import (
    cause_names,
    costs_in_words,
    method_in_words,
    policy_in_words,
    pools_in_words,
)

__all__ = ["content"]

CHART_ROWS = 1_200  # evenly spaced; see the module's docstring for those that are added
TRADE_ROWS = 800  # of the added ones, at most
CHART_ASSETS = 30  # with a weight chart of their own
RISK_POINTS = 250  # in time, of risk contributions and correlations; fewer where the assets are many
KINDS = ("", "calendar", "band", "calendar and band", "first purchase")  # by `Kind`


def content(study: Study) -> dict[str, Any]:
    """The report as JSON values, in the order of the page."""
    rows = _kept(study)
    return {
        "evenkeel": __version__,
        "title": plain(study.title),
        "evidence": _json(study.evidence),
        "measures": _measures(study),
        "setting": _setting(study),
        "growth": _growth(study, rows),
        "weights": _weights(study, rows),
        "trades": _trades(study),
        "years": _years(study),
        "tracking_error": _tracking_error(study, rows),
        "risk": _risk(study),
        "correlation": _correlation(study),
        "stress": _json(study.stress),
        "sweep": None if study.swept is None else _sweep(study.swept),
        "data": _json(study.source),
        "notes": [plain(note, 1_000) for note in study.notes],
        "settings": _json(study.settings),
    }


# ---------------------------------------------------------------- rows


def _kept(study: Study) -> Ints:
    count = len(study.market.times)
    rows = [np.linspace(0, count - 1, min(count, CHART_ROWS)).astype(np.int64)]
    traded = study.played[0].result.trade_rows
    if len(traded) <= TRADE_ROWS:
        rows += [traded, np.maximum(traded - 1, 0)]
    for played in study.played:
        falls = _drawdown(played.result.index)
        rows.append(np.array([played.result.index.argmax(), played.result.index.argmin(), falls.argmin()]))
    found: Ints = np.unique(np.concatenate(rows))
    return found


def _days(study: Study, rows: Ints) -> list[str]:
    """The day, or the minute where days have several rows."""
    several = bool((np.diff(study.market.dates.astype("datetime64[D]").astype(np.int64)) == 0).any())
    return [str(x) for x in np.datetime_as_string(study.market.dates[rows], "m" if several else "D")]


def _window(study: Study) -> int:
    """Rows of a year, or of a third of the data if that is shorter."""
    return max(2, min(round(study.rows_per_year), len(study.market.times) // 3))


# ---------------------------------------------------------------- parts


def _measures(study: Study) -> dict[str, Any]:
    names = list(dict.fromkeys(name for played in study.played for name in played.measures))
    return {
        "of": [plain(played.name) for played in study.played],
        "benchmark": study.benchmark,
        "rows": [
            {"measure": name, "values": [_number(p.measures.get(name)) for p in study.played]}
            for name in names
        ],
    }


def _setting(study: Study) -> dict[str, Any]:
    market = study.market
    days = np.datetime_as_string(market.dates[[0, -1]], "D")
    return {
        "engine": study.engine,
        "first": str(days[0]),
        "last": str(days[1]),
        "years": round(market.years, 2),
        "rows": market.shape[0],
        "rows_per_year": round(study.rows_per_year, 2),
        "assets": [plain(name) for name in market.names],
        "cash": study.cash,
        "policies": [
            {
                "name": plain(played.name),
                "strategy": plain(played.strategy, 1_000),
                "rule": policy_in_words(played.result.policy),
            }
            for played in study.played
        ],
        "costs": costs_in_words(study.costs) if study.pools is None else pools_in_words(study.pools),
        "benchmark": plain(study.played[study.benchmark].name),
        "method": method_in_words(
            study.engine, study.rows_per_year, study.risk_free, market.shape[0], market.years
        ),
    }


def _growth(study: Study, rows: Ints) -> dict[str, Any]:
    lines = [
        {
            "name": plain(played.name),
            "index": _list(played.result.index[rows]),
            "drawdown_percent": _list(100 * _drawdown(played.result.index)[rows], 5),
        }
        for played in study.played
    ]
    return {
        "dates": _days(study, rows),
        "rows": len(rows),
        "of_rows": len(study.market.times),
        "lines": lines,
    }


def _drawdown(index: Floats) -> Floats:
    """Below the highest value so far, the start (1) included; a fraction of at most 0."""
    falls: Floats = index / np.maximum.accumulate(np.maximum(index, 1.0)) - 1
    return falls


def _weights(study: Study, rows: Ints) -> dict[str, Any]:
    """Weights and bands in percent. A target or band that never changes is one number."""
    found, names = study.played[0].result, study.market.names
    weights, targets, bands = found.weights, found.targets, found.bands
    before = _weights_before(found)[:TRADE_ROWS]
    before[found.trade_kinds[:TRADE_ROWS] == Kind.FIRST] = np.nan  # there was nothing
    kept = np.sort(np.argsort(-weights.mean(axis=0), kind="stable")[:CHART_ASSETS])
    return {
        "of_assets": len(names),
        "assets": [
            {
                "name": plain(names[i]),
                "weight": _list(100 * weights[rows, i], 5),
                "target": _steady(100 * targets[:, i], rows),
                "low": _steady(100 * np.maximum(targets[:, i] - bands[:, i], 0), rows),
                "before_trades": _list(100 * before[:, i], 5),
                "high": _steady(100 * np.minimum(targets[:, i] + bands[:, i], 1), rows),
            }
            for i in kept
        ],
    }


def _weights_before(result: Any) -> Floats:
    """(R, n) weights as the trades found them."""
    rows = result.trade_rows
    after, costs = result.value[rows], result.trade_costs.sum(axis=1)
    held = result.weights[rows] * after[:, None] - result.trades
    found: Floats = held / (after + costs)[:, None]
    return found


def _steady(values: Floats, rows: Ints) -> Any:
    return _number(values[0], 6) if (values == values[0]).all() else _list(values[rows], 5)


def _traded(result: Any) -> Floats:
    """(R,) bought and sold, as a fraction of the value before."""
    before = result.value[result.trade_rows] + result.trade_costs.sum(axis=1)
    found: Floats = np.abs(result.trades).sum(axis=1) / before
    return found


def _trades(study: Study) -> dict[str, Any]:
    found = study.played[0].result
    rows = found.trade_rows[:TRADE_ROWS]
    return {
        "count": len(found.trade_rows),
        "shown": len(rows),
        "dates": _days(study, rows),
        "traded_percent": _list(100 * _traded(found)[: len(rows)], 4),
        "why": [KINDS[kind] for kind in found.trade_kinds[: len(rows)].tolist()],
    }


def _years(study: Study) -> list[dict[str, Any]]:
    """By calendar year, UTC: returns of all, turnover and costs of the backtest. The first and last may be parts."""
    found = study.played[0].result
    years = study.market.dates.astype("datetime64[Y]").astype(np.int64) + 1970
    returns = [yearly_returns(played.result, whole=False) for played in study.played]
    traded, costs = _traded(found), found.trade_costs
    bps = 1e4 * costs / (found.value[found.trade_rows] + costs.sum(axis=1))[:, None]
    table = []
    for year in np.unique(years).tolist():
        here = years[found.trade_rows] == year
        table.append(
            {
                "year": year,
                "return_percent": [_number(100 * of.get(year, math.nan), 5) for of in returns],
                "trades": int(here.sum()),
                "turnover_percent": _number(100 * traded[here].sum(), 5),
                "cost_bps": dict(
                    zip(cause_names(study.engine), _list(bps[here].sum(axis=0), 5), strict=True)
                ),
            }
        )
    return table


def _tracking_error(study: Study, rows: Ints) -> dict[str, Any]:
    """A year's standard deviation of the return above that of the targets, held at every row without costs."""
    found, market = study.played[0].result, study.market
    moves = market.prices[1:] / market.prices[:-1] - 1
    if market.dividends is not None:
        moves = moves + market.dividends[1:] / market.prices[:-1]
    above = found.index[1:] / found.index[:-1] - 1 - (found.targets[:-1] * moves).sum(axis=1)
    window = _window(study)
    at = rows[rows >= window]
    sums, squares = (np.concatenate(([0.0], np.cumsum(x))) for x in (above, above**2))
    mean = (sums[at] - sums[at - window]) / window
    variance = np.maximum((squares[at] - squares[at - window]) / window - mean**2, 0)
    return {
        "window_rows": window,
        "dates": _days(study, at),
        "percent": _list(100 * np.sqrt(variance * study.rows_per_year), 5),
    }


def _risk(study: Study) -> dict[str, Any]:
    """Each asset's part of the variance, beside its weight, both as the mean over time."""
    market, window = study.market, _window(study)
    weights = study.played[0].result.weights
    rows, parts = risk_contributions(market, weights, window=window, points=_points(market))
    mean = np.nan_to_num(parts).mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    return {
        "window_rows": window,
        "points": len(rows),
        "of_assets": len(order),
        "assets": [
            {
                "name": plain(market.names[i]),
                "weight_percent": _number(100 * weights[rows, i].mean(), 4),
                "risk_percent": _number(100 * mean[i], 4),
            }
            for i in order[:CHART_ASSETS]
        ],
    }


def _points(market: Market) -> int:
    """Each takes time with the square of the assets."""
    return max(20, min(RISK_POINTS, 20_000 // market.shape[1]))


def _correlation(study: Study) -> dict[str, Any] | None:
    if study.market.shape[1] < 2:
        return None
    found = rolling_correlations(study.market, window=_window(study), points=_points(study.market))
    return {
        "window_rows": _window(study),
        "dates": _days(study, found.rows),
        "lowest": _list(found.lowest, 4),
        "mean": _list(found.mean, 4),
        "highest": _list(found.highest, 4),
    }


def _sweep(swept: Swept) -> dict[str, Any]:
    return {
        "axes": [{"setting": name, "values": _json(values)} for name, values in swept.axes.items()],
        "chosen": _json(swept.chosen),
        "measures": {name: _list(np.asarray(values)) for name, values in swept.measures.items()},
    }


# ---------------------------------------------------------------- plain values


def _number(value: Any, digits: int = 10) -> float | int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def _list(values: NDArray[Any], digits: int = 7) -> list[float | int | None]:
    return [_number(x, digits) for x in np.asarray(values, dtype=np.float64).tolist()]


def _json(value: Any) -> Any:
    """What a library handed over, as JSON values."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.generic):
        return _json(value.item())
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {plain(key): _json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _json(value.tolist())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_json(item) for item in value]
    return plain(value, 2_000)
