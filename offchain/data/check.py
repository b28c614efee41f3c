"""What is wrong with prices: gaps, splits, weekends, values; each refused where it stands, or put right as asked.

Pure: series in, a table of prices on common rows out.
"""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from offchain.backtest.errors import BacktestError
from offchain.data.files import Found, no_such
from offchain.data.settings import DataSettings
from offchain.data.table import Floats, Ints, Series, Table, day_of, join

__all__ = ["checked"]

DAY = 86_400
WHOLE = (*range(2, 11), 12, 15, 20, 25, 30, 40, 50, 100)  # old shares for a new one
RATIOS = (1.5, *WHOLE)  # new shares for an old one; 1.5 not the other way: shares do rise by half
SMALLEST = 1.4
ABSURD = 10.0  # times as much or as little from row to row
SPLIT_TOLERANCE = 0.03  # how far the price may have moved on the day of the split
CLAIMED_TOLERANCE = 0.25  # the same, of a split that the settings name
CLOCK = 0.5  # share of equal steps from which on rows on all days of the week are a clock's
HOLIDAYS = 5  # weekdays without a row that are more than holidays
MAX_MISSING = 1_000_000  # rows that a clock's gaps may have

Mask = NDArray[np.bool_]


def checked(found: Found, settings: DataSettings) -> Table:
    """The table of the chosen assets without a gap; BacktestError names the place of what is wrong."""
    remarks = found.remarks
    table = join(_chosen(found, settings))
    table = _with_missing_rows(_clipped(table, settings), settings)
    _check_values(table)
    table = _common(table, settings)
    if settings.stale_rows:
        _note_stale(table, settings.stale_rows, remarks)
    table = _aligned(table, settings, remarks)
    table = _without_gaps(table, settings, remarks)
    if len(table.times) < 2:
        raise BacktestError(f"data: {len(table.times)} rows are left, at least 2 are needed")
    _adjust(table, settings)
    if settings.allow_jumps is not True and settings.source != "sp500":
        _check_jumps(table, settings)
    return _with_constants(table, settings)


def _chosen(found: Found, settings: DataSettings) -> list[Series]:
    series = found.series
    names = [one.name for one in series]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise BacktestError(
                f"data: asset {name} is there twice: {series[names.index(name)].place(0)}, {series[i].place(0)}"
            )
        if name in settings.constant:
            raise BacktestError(f"data.constant: {name} has prices already")
    known = [*found.names, *settings.constant]
    for setting, wanted in (("assets", settings.assets or []), ("splits", settings.splits)):
        for name in wanted:
            if name not in known:
                raise BacktestError(f"data.{setting}: {no_such(name, known)}")
    chosen = [series[names.index(name)] for name in settings.assets or names if name in names]
    if not chosen:
        raise BacktestError("data.assets: needs an asset that has a series of prices")
    return chosen


# ---------------------------------------------------------------- rows


def _clipped(table: Table, settings: DataSettings) -> Table:
    keep = np.ones(len(table.times), dtype=bool)
    if settings.start_seconds is not None:
        keep &= table.times >= settings.start_seconds
    if settings.end_seconds is not None:
        keep &= table.times <= settings.end_seconds
    if not keep.any():
        first, last = day_of(table.times[0]), day_of(table.times[-1])
        raise BacktestError(
            f"data.start, data.end: no rows between them; the data are from {first} to {last}"
        )
    return table.rows(keep)


def _with_missing_rows(table: Table, settings: DataSettings) -> Table:
    """With empty rows where the clock or the exchange's calendar says that one is missing."""
    times = table.times
    steps = np.diff(times)
    if not len(steps):
        return table
    usual = int(np.median(steps))
    if settings.calendar is not None:
        missing = _sessions_without_row(times, settings.calendar)
    elif usual <= 4 * DAY and not _is_clock(times, steps, usual):
        _check_weekdays(table, settings)
        return table
    elif usual > 4 * DAY:
        wide = steps > 1.9 * usual
        if wide.any() and settings.gaps == "refuse":
            _refuse_step(table, int(wide.argmax()))
        return table
    else:
        missing = _ticks_without_row(times, steps, usual)
    if not len(missing):
        return table
    union = np.union1d(times, missing)
    prices = np.full((len(union), table.prices.shape[1]), np.nan)
    prices[np.searchsorted(union, times)] = table.prices
    return Table(table.series, union, prices)


def _is_clock(times: Ints, steps: Ints, usual: int) -> bool:
    """Whether rows come round the clock or each day, weekends too."""
    days = (times // DAY + 3) % 7
    return bool((days == 5).any() and (days == 6).any()) and float(np.mean(steps == usual)) >= CLOCK


def _ticks_without_row(times: Ints, steps: Ints, usual: int) -> Ints:
    wide = np.flatnonzero(steps > 1.5 * usual)
    counts = (steps[wide] - usual // 2) // usual
    if counts.sum() > MAX_MISSING:
        raise BacktestError(f"data: {counts.sum():,} rows are missing at a usual distance of {usual} seconds")
    found = [times[i] + usual * np.arange(1, count + 1) for i, count in zip(wide, counts, strict=True)]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def _sessions_without_row(times: Ints, name: str) -> Ints:
    import exchange_calendars  # type: ignore[import-untyped]
    import pandas as pd

    first, last = (pd.Timestamp(int(t), unit="s").normalize() for t in (times[0], times[-1]))
    try:
        calendar = exchange_calendars.get_calendar(
            name, start=first - pd.Timedelta(days=30), end=last + pd.Timedelta(days=30)
        )
    except exchange_calendars.errors.CalendarError as error:
        raise BacktestError(f"data.calendar: {error}") from None
    sessions = calendar.sessions_in_range(first, last).to_numpy().astype("datetime64[s]").astype(np.int64)
    missing = sessions[~np.isin(sessions, times // DAY * DAY)]
    before = np.searchsorted(times, missing) - 1  # at the hour of the row before
    return np.asarray(missing + times[before] % DAY, dtype=np.int64)


def _check_weekdays(table: Table, settings: DataSettings) -> None:
    """Of rows on working days, whose holidays are not known: a week without a row is a gap."""
    days = table.times.astype("datetime64[s]").astype("datetime64[D]")
    absent = np.busday_count(days[:-1], days[1:]) - 1
    if settings.gaps == "refuse" and (absent >= HOLIDAYS).any():
        _refuse_step(table, int((absent >= HOLIDAYS).argmax()))


def _refuse_step(table: Table, row: int) -> None:
    column = int((~np.isnan(table.prices[row])).argmax())
    after = int((~np.isnan(table.prices[row + 1])).argmax())
    raise BacktestError(
        f"{table.where(row, column)}: no rows until {table.where(row + 1, after)}: "
        'rows are missing; gaps = "drop" goes on without them'
    )


def _weekend(times: Ints) -> Mask:
    return np.asarray((times // DAY + 3) % 7 >= 5)  # 1 January 1970 was a Thursday


def _common(table: Table, settings: DataSettings) -> Table:
    """Without the rows before all assets exist, or after one ends, where settings say so; else these are refused."""
    valid = ~np.isnan(table.prices)
    for column, name in enumerate(table.names):
        if not valid[:, column].any():
            raise BacktestError(f"data: {name} has no price in the rows chosen")
    first = valid.argmax(axis=0)
    last = len(valid) - 1 - valid[::-1].argmax(axis=0)
    begin = int(first.max()) if settings.start == "common" else 0
    end = int(last.min()) if settings.end == "common" else len(valid) - 1
    if end < begin:
        raise BacktestError(
            f"data: {table.names[int(first.argmax())]} begins after {table.names[int(last.argmin())]} ends"
        )
    if first.max() > begin:
        if hint := _hours_differ(table):
            raise BacktestError(f"data: {hint}")
        column = int(first.argmax())
        since = day_of(table.times[first[column]])
        raise BacktestError(
            f"data.start: {table.where(int(first[column]), column)}: {table.names[column]} begins there, others on "
            f'{day_of(table.times[begin])}: start = "{since[:10]}" or "common" begins when all exist'
        )
    if last.min() < end:
        column = int(last.argmin())
        until = day_of(table.times[last[column]])
        raise BacktestError(
            f"data.end: {table.where(int(last[column]), column)}: {table.names[column]} ends there, others on "
            f'{day_of(table.times[end])}: end = "{until[:10]}" or "common" ends when the first does'
        )
    return Table(table.series, table.times[begin : end + 1], table.prices[begin : end + 1])


def _aligned(table: Table, settings: DataSettings, remarks: list[str]) -> Table:
    """Weekends that only some assets trade."""
    weekend = _weekend(table.times)
    valid = ~np.isnan(table.prices)
    trades = valid[weekend].any(axis=0)
    if trades.all() or not trades.any():
        return table
    always, rests = table.names[int(trades.argmax())], table.names[int((~trades).argmax())]
    if settings.align == "refuse":
        row = int(np.flatnonzero(weekend & valid[:, int(trades.argmax())])[0])
        raise BacktestError(
            f"{table.where(row, int(trades.argmax()))}: {always} has prices on weekends, {rests} has none: "
            'align = "inner" leaves weekends out, "forward" carries prices over them'
        )
    if settings.align == "inner":
        remarks.append(f"align: {int(weekend.sum())} rows on weekends left out")
        return table.rows(~weekend)
    carried = _carried(table.prices)
    fill = weekend[:, None] & ~trades & ~valid
    remarks.append(f"align: {int(fill.any(axis=1).sum())} rows on weekends carry the prices before")
    return Table(table.series, table.times, np.where(fill, carried, table.prices))


def _without_gaps(table: Table, settings: DataSettings, remarks: list[str]) -> Table:
    empty = np.isnan(table.prices)
    count = int(empty.sum())
    if not count:
        return table
    row, column = (int(i) for i in np.argwhere(empty)[0])
    if settings.gaps == "refuse":
        more = f" ({count - 1:,} more of them)" if count > 1 else ""
        hint = _hours_differ(table)
        raise BacktestError(
            f"{table.where(row, column)}: no price{more}; "
            + (hint or 'gaps = "fill" takes the one before, "drop" leaves the row out')
        )
    if settings.gaps == "drop":
        remarks.append(
            f"gaps: {int(empty.any(axis=1).sum()):,} rows left out, the first {day_of(table.times[row])}"
        )
        return table.rows(np.asarray(~empty.any(axis=1)))
    age = np.arange(len(empty))[:, None] - _last_valid(empty)
    if (age > settings.fill_rows).any():
        row, column = (int(i) for i in np.argwhere(age > settings.fill_rows)[0])
        raise BacktestError(
            f"{table.where(row - settings.fill_rows, column)}: "
            f"no price for more than fill_rows = {settings.fill_rows} rows"
        )
    remarks.append(
        f"gaps: {count:,} prices filled with the ones before, the first {table.where(row, column)}"
    )
    return Table(table.series, table.times, _carried(table.prices))


def _hours_differ(table: Table) -> str:
    """What to do if assets are never priced at the same time of day."""
    hours = [set((one.times % DAY).tolist()) if len(one.times) < 10**6 else set() for one in table.series]
    for other, name in zip(hours[1:], table.names[1:], strict=True):
        if hours[0] and other and not hours[0] & other:
            return (
                f"{table.names[0]} and {name} have other times of day: daily = true cuts times to their dates"
            )
    return ""


def _last_valid(empty: Mask) -> Ints:
    """(T, n) the last row with a price, at each row."""
    rows = np.where(empty, 0, np.arange(len(empty))[:, None])
    return np.asarray(np.maximum.accumulate(rows, axis=0), dtype=np.int64)


def _carried(prices: Floats) -> Floats:
    """NaN replaced by the price before."""
    return np.take_along_axis(prices, _last_valid(np.isnan(prices)), axis=0)


# ---------------------------------------------------------------- values


def _check_values(table: Table) -> None:
    with np.errstate(invalid="ignore"):
        bad = ~((table.prices > 0) & (table.prices < np.inf)) & ~np.isnan(table.prices)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise BacktestError(
            f"{table.where(row, column)}: {table.prices[row, column]:g} is not a price above 0"
        )


def _note_stale(table: Table, most: int, remarks: list[str]) -> None:
    for column, name in enumerate(table.names):
        rows = np.flatnonzero(~np.isnan(table.prices[:, column]))
        changes = np.flatnonzero(np.diff(table.prices[rows, column]) != 0) + 1
        edges = np.concatenate([[0], changes, [len(rows)]])
        lengths = np.diff(edges)
        if (lengths >= most).any():
            run = int(lengths.argmax())
            place = table.where(int(rows[edges[run]]), column)
            runs = int((lengths >= most).sum())
            also = f", and {runs - 1} more such runs" if runs > 1 else ""
            remarks.append(
                f"{name}: the same price for {lengths[run]:,} rows from {place}{also}: is it traded?"
            )


def _adjust(table: Table, settings: DataSettings) -> None:
    """Prices before a split divided by its ratio, in place."""
    for name, splits in settings.splits.items():
        if name not in table.names:
            continue
        column = table.names.index(name)
        for when, ratio in splits:
            row = int(np.searchsorted(table.times, _midnight(when)))
            if 0 < row < len(table.times):
                jump = table.prices[row, column] / table.prices[row - 1, column]
                if abs(jump * ratio - 1) > CLAIMED_TOLERANCE:
                    raise BacktestError(
                        f"data.splits.{name}: {table.where(row, column)}: the price is {jump:.3g} times that before, "
                        f"not about 1/{ratio:g}: is the series adjusted already, or the date another?"
                    )
            if row:
                table.prices[:row, column] /= ratio


def _check_jumps(table: Table, settings: DataSettings) -> None:
    """Refuse what looks like a split that prices are not adjusted for, and what no price does in a row."""
    jump = table.prices[1:] / table.prices[:-1]
    suspects = []
    for row, column in np.argwhere((jump > SMALLEST) | (jump < 1 / SMALLEST)):
        size = max(jump[row, column], 1 / jump[row, column])
        ratio = min(RATIOS if jump[row, column] < 1 else WHOLE, key=lambda r: abs(size / r - 1))
        split_like = abs(size / ratio - 1) < SPLIT_TOLERANCE
        if split_like or size >= ABSURD:
            name, time = table.names[column], int(table.times[row + 1])
            if not _is_allowed(settings, name, time):
                suspects.append((int(row), int(column), Fraction(ratio) if split_like else None))
    if suspects:
        row, column, ratio = suspects[0]
        name, when = table.names[column], day_of(table.times[row + 1] // DAY * DAY)
        why = "is not what a price does in one row (a slip, another unit, a line of totals?): correct it; "
        if ratio is not None:
            split = ratio if jump[row, column] < 1 else 1 / ratio
            why = (
                f"looks like a split of {split.numerator} for {split.denominator}: "
                f'splits = {{ {name} = [["{when}", {float(split):.12g}]] }} adjusts for it, '
            )
        raise BacktestError(
            f"{table.where(row + 1, column)}: {table.prices[row + 1, column]:g} after "
            f"{table.prices[row, column]:g} {why}"
            f'allow_jumps = {{ {name} = ["{when}"] }} takes it as real'
            + (f"; there are {len(suspects) - 1} more" if len(suspects) > 1 else "")
        )


def _is_allowed(settings: DataSettings, name: str, time: int) -> bool:
    allowed = settings.allow_jumps if isinstance(settings.allow_jumps, dict) else {}
    return any(_midnight(when) == time // DAY * DAY for when in allowed.get(name, []))


def _midnight(when: date) -> int:
    return int(np.datetime64(when, "s").astype(np.int64))


def _with_constants(table: Table, settings: DataSettings) -> Table:
    """With assets of one price, and in the order of `assets`."""
    if not settings.constant:
        return table
    series = list(table.series)
    columns = [table.prices]
    for name, price in settings.constant.items():
        values = np.full(len(table.times), price)
        series.append(Series(name, table.times, values, lambda _: "data.constant"))
        columns.append(values[:, None])
    prices = np.hstack(columns)
    names = [one.name for one in series]
    order = [names.index(name) for name in settings.assets] if settings.assets else list(range(len(names)))
    return Table([series[i] for i in order], table.times, np.ascontiguousarray(prices[:, order]))
