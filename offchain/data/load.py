"""`load(settings)`: a Market and what belongs to it, from any source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Market
from offchain.data.check import checked
from offchain.data.files import (
    Found,
    Sheet,
    dates,
    normal,
    numbers,
    read_sheet,
    series_of,
    series_of_files,
    sheet_of_frame,
)
from offchain.data.settings import DataSettings, data_settings
from offchain.data.table import Floats, Ints, Table, day_of, spread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Loaded", "Progress", "load", "load_frame"]

DAY = 86_400
Progress = Callable[[str, float], None]  # what is being fetched, and which part of it is there (0 to 1)


@dataclass(frozen=True, eq=False)
class Loaded:
    """Data for a backtest. T rows, n assets."""

    market: Market
    volume: Floats | None  # (T, n) USD traded in the day up to each row, for `Costs.daily_volume`
    pool_depth: (
        Floats | None
    )  # (T, n) USD on one side of each asset's pool (inf: none), for `Costs.pool_depth`
    source: str  # where it is from, in words
    fingerprint: str  # SHA-256 of all numbers, names and times
    warnings: tuple[str, ...] = ()  # what the user should see


def load(settings: DataSettings, progress: Progress | None = None, base: Path | None = None) -> Loaded:
    """The data that `settings` name; paths are relative to `base`, the backtest file's folder.

    BacktestError names the setting, or the file, line and column, that is wrong. What a node or an exchange answers is
    kept in the folder `cache`, and only what is new is asked for again.
    """
    base = base or Path()
    tell = progress or (lambda what, share: None)
    if settings.source == "pandas":
        raise BacktestError('data.source: "pandas" is for load_frame(frame, ...)')
    if settings.source == "sp500":
        return _finish(
            _bundled(settings), "20 US shares, adjusted closes, bundled with skfolio", settings, base
        )
    if settings.source == "ccxt":
        from offchain.data.exchange import read_exchange

        return _finish(
            read_exchange(settings, base, tell), f"{settings.exchange}, {settings.timeframe}", settings, base
        )
    if settings.source == "chain":
        from offchain.data.chain import read_chain

        return _finish(read_chain(settings, base, tell), f"chain, every {settings.every}", settings, base)
    path = settings.path or ", ".join(str(file) for file in settings.files.values())
    return _finish(series_of_files(settings, base), f"{settings.source} {path}", settings, base)


def load_frame(frame: pd.DataFrame, **settings: Any) -> Loaded:
    """The same of a DataFrame: a column an asset, or long (date, asset, price), with settings of `DataSettings`."""
    chosen = data_settings({"source": "pandas", **settings})
    found = Found()
    found.series = series_of(sheet_of_frame(frame), "price", chosen, found)
    return _finish(found, "DataFrame", chosen, Path())


def _bundled(settings: DataSettings) -> Found:
    """The file that skfolio carries, read without importing skfolio, which takes seconds."""
    spec = find_spec("skfolio")
    if spec is None or spec.origin is None:
        raise BacktestError("data.source: sp500 needs skfolio: pip install '.[backtest]'")
    found = Found()
    sheet = read_sheet(Path(spec.origin).parent / "datasets" / "data" / "sp500_dataset.csv.gz", settings)
    found.series = series_of(sheet, "", settings, found)
    return found


def _finish(found: Found, source: str, settings: DataSettings, base: Path) -> Loaded:
    table = checked(found, settings)
    raw_volume = _volume(table, found.remarks)
    extra: dict[str, Any] = {}
    if settings.dividends is not None:
        extra["dividends"] = _dividends(table, settings, base, found.remarks)
    if settings.flows is not None:
        extra |= _flows(table, settings, base)
    market = Market(table.times.astype("datetime64[s]"), table.prices, tuple(table.names), **extra)
    depth = _depth(table)
    days = f"{day_of(table.times[0])[:10]} to {day_of(table.times[-1])[:10]}"
    rows, n = market.shape
    return Loaded(
        market,
        raw_volume,
        depth,
        f"{source}: {n} asset{'s' if n > 1 else ''}, {rows:,} rows, {days}",
        _fingerprint(market, raw_volume, depth),
        tuple(found.remarks),
    )


def _fingerprint(market: Market, volume: Floats | None, depth: Floats | None) -> str:
    digest = hashlib.sha256(repr((tuple(market.names), market.shape)).encode())
    parts = (
        market.times, market.prices, market.dividends, market.flows_in_kind, market.flows_by_route, volume, depth
    )  # fmt: skip
    for part in parts:
        digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- volume, depth


def _volume(table: Table, remarks: list[str]) -> Floats | None:
    """(T, n) USD in the day up to each row; None unless each asset has it."""
    if not all(one.volume is not None for one in table.series):
        return None
    columns = []
    for one in table.series:
        assert one.volume is not None
        traded = spread(one, one.volume, table.times)
        if not (np.nan_to_num(traded) >= 0).all() or not (traded > 0).any():
            remarks.append(f"{one.name}: its volume is not usable (none, or below 0), so no asset's is read")
            return None
        columns.append(_a_day(np.nan_to_num(traded), table.times))
    volume = np.column_stack(columns)
    empty = ~(volume > 0)
    if empty.any():
        row, column = (int(i) for i in np.argwhere(empty)[0])
        remarks.append(
            f"volume: none in {int(empty.sum()):,} places, taken from the row before: {table.where(row, column)}"
        )
        rows = np.maximum.accumulate(np.where(empty, 0, np.arange(len(empty))[:, None]), axis=0)
        volume = np.take_along_axis(volume, rows, axis=0)
        if not (volume > 0).all():
            remarks.append("volume: none in the first row, so none is read; a later start has some")
            return None
    return volume


def _a_day(traded: Floats, times: Ints) -> Floats:
    """What was traded in rows, as what was traded in the day up to each row; longer rows are spread over their days."""
    usual = int(np.median(np.diff(times)))
    if usual >= 2 * DAY:
        return traded * (DAY / usual)
    if usual > DAY // 2:
        return traded
    total = np.concatenate([[0.0], np.cumsum(traded)])
    first = np.searchsorted(times, times - DAY, side="right")
    covered = np.minimum(times - times[0] + usual, DAY)
    return np.asarray((total[1:] - total[first]) * (DAY / covered))


def _depth(table: Table) -> Floats | None:
    if all(one.depth is None for one in table.series):
        return None
    columns = [
        np.full(len(table.times), np.inf) if one.depth is None else spread(one, one.depth, table.times)
        for one in table.series
    ]
    return np.column_stack(columns)


# ---------------------------------------------------------------- dividends, flows


def _dividends(table: Table, settings: DataSettings, base: Path, remarks: list[str]) -> Floats:
    """(T, n) a share, at the first row from each ex-date on."""
    assert settings.dividends is not None
    sheet, plain = _side_file("dividends", settings.dividends, settings, base)
    found = np.zeros(table.prices.shape)
    usual = [normal(name) for name in sheet.names]
    asset = next((usual.index(name) for name in ("asset", "symbol", "ticker") if name in usual), None)
    date = sheet.find(None, ("date", "ex date", "exdate", "ex dividend date", "index", ""), "") or 0
    times = dates(sheet, date, plain)
    late = 0
    for i, name in enumerate(sheet.names):
        if i in (date, asset):
            continue
        amounts = numbers(sheet, i, plain)
        if asset is not None and usual[i] not in ("dividend", "dividends", "amount", "value"):
            continue
        names = (
            [name] * len(times)
            if asset is None
            else [str(x).strip() for x in sheet.columns[asset].to_pylist()]
        )
        for row in np.flatnonzero(~np.isnan(amounts)):
            late += _pay(found, table, settings, sheet, int(row), times[row], names[row], float(amounts[row]))
        for unknown in sorted(
            {name for name in names if name not in table.names and name not in (settings.assets or [])}
        ):
            if settings.assets is None:
                remarks.append(f"{sheet.label}: {unknown} has no prices, its dividends are left out")
    if late:
        remarks.append(f"{sheet.label}: {late} dividends on dates without a row are paid on the next one")
    return found


def _pay(
    found: Floats,
    table: Table,
    settings: DataSettings,
    sheet: Sheet,
    row: int,
    time: Any,
    name: str,
    amount: float,
) -> int:
    """Add one dividend where it is paid; 1 if not on its own date."""
    if not 0 <= amount < np.inf:
        raise BacktestError(
            f"{sheet.place(row)} (dividends): {amount:g} for {name} is not an amount of at least 0"
        )
    if name not in table.names or not table.times[0] < time <= table.times[-1] or not amount:
        return 0
    at = int(np.searchsorted(table.times, time))
    for when, ratio in settings.splits.get(name, []):
        if time < int(np.datetime64(when, "s").astype(np.int64)):
            amount /= ratio
    found[at, table.names.index(name)] += amount
    return int(table.times[at] // DAY != int(time) // DAY)


def _flows(table: Table, settings: DataSettings, base: Path) -> dict[str, Floats]:
    """What depositors bring and take, at the first row from each date on."""
    assert settings.flows is not None
    sheet, plain = _side_file("flows", settings.flows, settings, base)
    date = sheet.find(None, ("date", "datetime", "timestamp", "time", "index", ""), "") or 0
    times = dates(sheet, date, plain)
    columns = {"in kind": "flows_in_kind", "by route": "flows_by_route"}
    found: dict[str, Floats] = {}
    for i, name in enumerate(sheet.names):
        if i == date:
            continue
        if normal(name) not in columns:
            raise BacktestError(
                f"data.flows: {sheet.label}: column {name}: needs date, in_kind and by_route, one or both"
            )
        flows = np.zeros(len(table.times))
        for row in np.flatnonzero(~np.isnan(amounts := numbers(sheet, i, plain))):
            if amounts[row] and not table.times[0] < times[row] <= table.times[-1]:
                first, last = day_of(table.times[0]), day_of(table.times[-1])
                raise BacktestError(
                    f"{sheet.place(int(row))} (flows): {day_of(times[row])} is not after the first row, {first}, "
                    f"and by the last, {last}; what the vault starts with is `cash`"
                )
            flows[min(int(np.searchsorted(table.times, times[row])), len(flows) - 1)] += amounts[row]
        found[columns[normal(name)]] = flows
    return found


def _side_file(setting: str, file: Path, settings: DataSettings, base: Path) -> tuple[Sheet, DataSettings]:
    """A file beside the prices: read with the same zone and signs, whatever the prices' source."""
    path = base / file
    if not path.is_file():
        raise BacktestError(f"data.{setting}: no such file: {path}")
    given = {
        name: getattr(settings, name) for name in ("decimal", "delimiter", "date_format", "timezone", "daily")
    }
    plain = DataSettings.model_construct(**{**DataSettings(source="sp500").__dict__, **given})
    return read_sheet(path, plain), plain
