"""CSV, Parquet and pandas: columns found by their names, dates and numbers read, each mistake named by line and column.

Read with pyarrow; a CSV's cells are text first, so that what is not a number can be shown as it stands there.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv as pacsv  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from offchain.backtest.errors import BacktestError
from offchain.data.settings import DataSettings
from offchain.data.table import Floats, Ints, Series, in_order

__all__ = [
    "Found",
    "Sheet",
    "dates",
    "no_such",
    "normal",
    "numbers",
    "read_sheet",
    "series_of",
    "series_of_files",
    "sheet_of_frame",
]

MISSING = [
    "",
    "NaN",
    "nan",
    "NAN",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "null",
    "NULL",
    "None",
    "none",
    "-",
    ".",
    "NaT",
]
DATE_NAMES = (
    "close time", "date", "datetime", "date time", "timestamp", "open time", "time", "unix", "unix timestamp", "ts",
    "day", "period", "gmt time", "snapped at", "index", "index level 0", "",
)  # fmt: skip
ASSET_NAMES = ("asset", "symbol", "ticker", "instrument", "security", "coin", "token", "code", "name", "id")
PRICE_NAMES = ("close", "price", "closing price", "close last", "value", "last", "adj close")
QUOTE_VOLUME_NAMES = (
    "quote asset volume",
    "quote volume",
    "volume usd",
    "volume usdt",
    "volume usdc",
    "dollar volume",
    "total volume",  # CoinGecko's
)
VOLUME_NAMES = ("volume", "vol", "base volume")
NO_PRICE = {"volume", "vol", "volumes", "return", "returns", "weight", "weights"}  # last words of columns
ADJUSTED_NAMES = ("adj close", "adjusted close", "adjclose", "close adjusted")
CANDLE = {"open", "high", "low", "close"}
KNOWN = (
    CANDLE | set(PRICE_NAMES) | set(QUOTE_VOLUME_NAMES) | set(VOLUME_NAMES) | set(ADJUSTED_NAMES) | set(DATE_NAMES)
    | {"dividends", "stock splits", "capital gains", "per", "openint", "market cap", "vwap", "change", "trades"}
)  # fmt: skip
BINANCE = (
    "open time", "open", "high", "low", "close", "volume", "close time", "quote asset volume", "number of trades",
    "taker buy base volume", "taker buy quote volume", "ignore",
)  # fmt: skip
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Inf|INF|infinity|Infinity)$"
BLOCK = 1 << 24  # bytes: a line of pyarrow's must fit
BLANK_LINE = re.compile(rb"^[ \t]+$", re.MULTILINE)
COUNTERS = re.compile(r"|unnamed \d+|index|column \d+|no|nr")  # what rows are numbered under
YFINANCE = re.compile(rb"Price,[^\n]*\nTicker,[^\n]*\nDate,")
ZONE = r"\d{1,2}:\d{2}.*(Z|z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})$"
FIRST_EPOCH = 1e8  # seconds, 1973: below it a number is no timestamp


@dataclass(eq=False)
class Sheet:
    """A table as its file has it."""

    label: str  # of the file
    names: list[str]
    columns: list[Any]  # of pyarrow
    unit: str = "row"  # or line
    first: int = 0  # number of the first row
    rows: Ints | None = None  # which rows are left; None: all
    text: bytes | None = field(default=None, repr=False)  # of a CSV's rows, to count lines in
    lines: Ints | None = field(default=None, repr=False)

    def place(self, i: int) -> str:
        """Row i in words."""
        row = int(i if self.rows is None else self.rows[i])
        if self.text is not None:
            if self.lines is None:
                found = enumerate(self.text.split(b"\n"))
                self.lines = np.array([at for at, line in found if line.strip(b"\r")], dtype=np.int64)
            row = int(self.lines[row])
        return f"{self.label}, {self.unit} {row + self.first}"

    def find(self, wanted: str | None, names: Sequence[str], setting: str) -> int | None:
        """The column that a setting names, or the first of the usual names; None if there is none."""
        usual = [normal(name) for name in self.names]
        if wanted is not None:
            if wanted in self.names:
                return self.names.index(wanted)
            if normal(wanted) in usual:
                return usual.index(normal(wanted))
            raise BacktestError(f"data.{setting}: {no_such(wanted, self.names)} in {self.label}")
        return next((usual.index(name) for name in names if name in usual), None)

    def take(self, keep: Any) -> Sheet:
        """Some of the rows (positions)."""
        rows = keep if self.rows is None else self.rows[keep]
        return replace(self, columns=[column.take(pa.array(keep)) for column in self.columns], rows=rows)


# ---------------------------------------------------------------- files


@dataclass(eq=False)
class Found:
    """What a source has."""

    series: list[Series] = field(default_factory=list)  # of the assets that are asked for
    names: list[str] = field(default_factory=list)  # of all assets
    remarks: list[str] = field(default_factory=list)


def series_of_files(settings: DataSettings, base: Path) -> Found:
    """What `path` or `files` hold."""
    found = Found()
    for name, path in _paths(settings, base):
        sheet = read_sheet(path, settings)
        series = series_of(sheet, _stem(path), settings, found)
        if name is not None:
            if len(series) != 1:
                raise BacktestError(
                    f"data.files.{name}: {sheet.label} has {len(series)} assets, needs one: "
                    + ", ".join(one.name for one in series[:5])
                )
            series[0].name = name
            found.names.append(name)
        found.series += series
    return found


def read_sheet(path: Path, settings: DataSettings) -> Sheet:
    """A CSV (also .gz) or Parquet file; BacktestError if it cannot be read."""
    try:
        if path.suffix in (".parquet", ".pq"):
            return _of_arrow(pq.read_table(path), path.name)
        return _read_csv(path.read_bytes(), path.name, settings)
    except OSError as error:
        raise BacktestError(f"data: {path}: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise BacktestError(f"data: {path.name}: cannot be read: {str(error).splitlines()[0]}") from None


def sheet_of_frame(frame: pd.DataFrame) -> Sheet:
    """A DataFrame with its index."""
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(str(frame.name or "price"))
    if isinstance(frame.index, pd.MultiIndex):
        frame = frame.reset_index()
    if frame.columns.nlevels > 1:
        raise BacktestError(
            'data: the DataFrame\'s columns have two levels: choose one, such as frame["Close"]'
        )
    if not frame.columns.is_unique:
        raise BacktestError(f"data: column {frame.columns[frame.columns.duplicated()][0]} is there twice")
    if isinstance(frame.index, pd.RangeIndex):
        table = pa.Table.from_pandas(frame.rename(columns=str), preserve_index=False)
    else:
        table = pa.Table.from_pandas(
            frame.rename_axis("index").rename(columns=str).reset_index(), preserve_index=False
        )
    return _of_arrow(table.replace_schema_metadata(None), "DataFrame")


def _paths(settings: DataSettings, base: Path) -> Iterator[tuple[str | None, Path]]:
    for name, file in settings.files.items():
        yield name, _existing(base / file, f"files.{name}")
    if settings.path is None:
        return
    path = _existing(base / settings.path, "path")
    if not path.is_dir():
        yield None, path
        return
    endings = (".csv", ".csv.gz", ".txt") if settings.source == "csv" else (".parquet", ".pq")
    files = sorted(file for file in path.iterdir() if file.name.endswith(endings))
    if settings.assets:
        files = [file for file in files if _stem(file) in settings.assets] or files
    if not files:
        raise BacktestError(f"data.path: {settings.path} has no files that end in {' or '.join(endings)}")
    yield from ((None, file) for file in files)


def _existing(path: Path, setting: str) -> Path:
    if not path.exists():
        raise BacktestError(f"data.{setting}: no such file: {path}")
    return path


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _read_csv(data: bytes, label: str, settings: DataSettings) -> Sheet:
    text = _utf8(_unpacked(data, label), label)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n " in text or b"\n\t" in text or text[:1] in (b" ", b"\t"):
        text = BLANK_LINE.sub(b"", text)
    start = 0
    for _ in range(settings.skip_lines):
        start = text.find(b"\n", start) + 1 or len(text)
    while text[start : start + 1] == b"\n":
        start += 1
    end = text.find(b"\n", start) % (len(text) + 1)
    header = text[start:end].decode()
    if YFINANCE.match(text, start):
        raise BacktestError(
            f"{label}, lines 1 to 3: yfinance's header of three lines is not read: "
            f'save its closes, frame["Close"].to_csv("{label}")'
        )
    delimiter = settings.delimiter or max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    line = text.count(b"\n", 0, start) + 1  # the header's number
    if len(names) in (11, 12) and all(re.match(NUMBER, name) for name in names):
        names, end, line = list(BINANCE[: len(names)]), start - 1, line - 1  # klines without a header
    elif len(names) < 2:
        raise BacktestError(
            f"{label}, line {line}: {header[:60]!r} is not a header of at least two columns; "
            "skip_lines skips lines before it, delimiter says what is between cells"
        )
    elif _looks_like_data(names):
        raise BacktestError(
            f"{label}, line {line}: {header[:60]!r} is not a header: the first line names the columns"
        )
    names = [name or (f"column {i + 1}" if i else "") for i, name in enumerate(names)]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BacktestError(f"{label}, line {line}: column {twice[0]} is there twice")
    body = text[end + 1 :]
    sheet = Sheet(label, names, [], "line", line + 1, None, body)
    table = _parse(body, names, delimiter, sheet)
    empty = np.logical_and.reduce([column.is_null().to_numpy() for column in table.columns])
    keep = [
        i
        for i, name in enumerate(names)
        if not name.startswith("column ") or table.column(i).null_count < len(table)
    ]
    sheet = replace(sheet, names=[names[i] for i in keep], columns=[table.column(i) for i in keep])
    return sheet.take(np.flatnonzero(~empty)) if empty.any() else sheet


def _unpacked(data: bytes, label: str) -> bytes:
    if data[:4] == b"PK\x03\x04":
        raise BacktestError(f"data: {label}: a zip archive: unpack it first (.csv and .csv.gz are read)")
    if data[:4] == b"PAR1":
        raise BacktestError(f'data: {label}: a Parquet file: set source = "parquet"')
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BacktestError(f"data: {label}: cannot be unpacked: {error}") from None


def _utf8(data: bytes, label: str) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise BacktestError(f"data: {label}: empty")
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BacktestError(f"{label}, line {line}: not UTF-8: save the file as UTF-8") from None
    return data


def _looks_like_data(names: list[str]) -> bool:
    return (
        all(re.match(NUMBER, name) for name in names[1:])
        and re.match(r"[\d/:. TZ+-]+$", names[0]) is not None
    )


def _parse(body: bytes, names: list[str], delimiter: str, sheet: Sheet) -> pa.Table:
    wrong: list[tuple[int, int]] = []

    def refuse(row: Any) -> str:
        wrong.append((row.number - 1, row.actual_columns))
        return "skip"

    if not body or body.isspace():
        raise BacktestError(f"{sheet.label}: no rows below the header")
    table = pacsv.read_csv(
        io.BytesIO(body),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=refuse),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in names}, null_values=MISSING, strings_can_be_null=True
        ),
    )
    if wrong:
        row, cells = wrong[0]
        hint = ": are there commas inside numbers?" if cells > len(names) and delimiter == "," else ""
        raise BacktestError(f"{sheet.place(row)}: {cells} cells under {len(names)} columns{hint}")
    return table


def _of_arrow(table: pa.Table, label: str) -> Sheet:
    names = [str(name) for name in table.column_names]
    if not len(table):
        raise BacktestError(f"data: {label}: no rows")
    if any(re.fullmatch(r"\('.*', '.*'\)", name) for name in names):
        raise BacktestError(
            f'data: {label}: columns have two levels: save one of them, such as frame["Close"]'
        )
    names = ["index" if re.fullmatch(r"__index_level_\d+__", name) else name for name in names]
    columns = [column.combine_chunks() for column in table.columns]
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in columns]
    return Sheet(label, names, columns)


# ---------------------------------------------------------------- layouts


def series_of(sheet: Sheet, stem: str, settings: DataSettings, found: Found) -> list[Series]:
    """The assets of a sheet; `stem` names the asset of a sheet that has only one."""
    date = sheet.find(settings.date_column, DATE_NAMES, "date_column")
    date = 0 if date is None else date
    _refuse_clock_apart(sheet, date)
    layout = settings.layout if settings.layout != "auto" else _layout(sheet, date, settings)
    times = dates(sheet, date, settings)
    if layout == "wide":
        return _wide(sheet, date, times, settings, found)
    price = sheet.find(settings.price_column, PRICE_NAMES, "price_column")
    if price is None:
        raise BacktestError(
            f"data.price_column: {sheet.label} has no column close or price, only {', '.join(sheet.names)}: name it"
        )
    if settings.price_column is None:
        for name in sheet.names:
            if normal(name) in ADJUSTED_NAMES and name != sheet.names[price]:
                found.remarks.append(
                    f"{sheet.label}: prices are column {sheet.names[price]}; "
                    f'price_column = "{name}" reads the adjusted ones'
                )
    if layout == "ohlcv":
        found.names.append(stem)
        whole = np.arange(len(times))
        return [_candles(sheet, stem, whole, times, price, settings, found)]
    asset = sheet.find(settings.asset_column, ASSET_NAMES, "asset_column")
    if asset is None:
        raise BacktestError(
            f"data.asset_column: {sheet.label} has no column asset, symbol or ticker: name it"
        )
    return [
        _candles(sheet.take(rows), name, rows, times[rows], price, settings, found)
        for name, rows in _groups(sheet, asset, settings, found)
    ]


def _refuse_clock_apart(sheet: Sheet, date: int) -> None:
    """BacktestError where date and time of day stand in two columns and there is more than one time of day."""
    clock = [i for i, name in enumerate(sheet.names) if normal(name) == "time" and i != date]
    if normal(sheet.names[date]) == "date" and clock and len(pc.unique(sheet.columns[clock[0]])) > 1:
        raise BacktestError(
            f"{sheet.label}: the time of day has a column of its own, {sheet.names[clock[0]]}: "
            f"write both in {sheet.names[date]}, such as 2024-01-31 15:30"
        )


def _layout(sheet: Sheet, date: int, settings: DataSettings) -> str:
    names = [normal(name) for name in sheet.names]
    others = {name for i, name in enumerate(names) if i != date}
    asset = sheet.find(settings.asset_column, ASSET_NAMES, "asset_column")
    priced = settings.price_column is not None or bool(others & set(PRICE_NAMES))
    if asset is not None and priced:
        return "long"
    known = priced and (others <= KNOWN or bool(others & {"close", "price", "adj close"}))
    return "ohlcv" if others >= CANDLE or settings.price_column is not None or known else "wide"


def _wide(sheet: Sheet, date: int, times: Ints, settings: DataSettings, found: Found) -> list[Series]:
    order = in_order(times, sheet.place, "", settings.sort)
    if order is not None:
        sheet, times = sheet.take(order), times[order]
    columns = [i for i in range(len(sheet.names)) if i != date]
    found.names += [sheet.names[i] for i in columns]
    if settings.assets is not None and not settings.files:
        columns = [i for i in columns if sheet.names[i] in settings.assets]
    else:
        columns = [i for i in columns if not _counts_rows(sheet, i)]
        for i in columns:
            if normal(sheet.names[i]).split(" ")[-1] in NO_PRICE:
                raise BacktestError(
                    f"{sheet.label}: column {sheet.names[i]} is not a price: name the columns that are, "
                    'such as assets = ["'
                    + '", "'.join([sheet.names[j] for j in columns if j != i][:2])
                    + '"]'
                )
    return [
        Series(sheet.names[i], times, numbers(sheet, i, settings), sheet.place, sheet.names[i])
        for i in columns
    ]


def _counts_rows(sheet: Sheet, i: int) -> bool:
    """Whether a column without a name of its own is 0, 1, 2 … or 1, 2, 3 …, as R and pandas save."""
    if not COUNTERS.fullmatch(normal(sheet.names[i])):
        return False
    texts = sheet.columns[i].cast(pa.string()).to_pylist()
    return any(texts == [str(first + k) for k in range(len(texts))] for first in (0, 1))


def _groups(sheet: Sheet, asset: int, settings: DataSettings, found: Found) -> list[tuple[str, Ints]]:
    """Each asset's rows, in the order in which the assets first come."""
    column = sheet.columns[asset]
    if column.null_count:
        raise BacktestError(
            f"{sheet.place(_first(column.is_null()))}, column {sheet.names[asset]}: no asset's name"
        )
    codes = pc.dictionary_encode(column.cast(pa.string()))
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    names = [str(name).strip() for name in codes.dictionary.to_pylist()]
    found.names += names
    numbers_ = codes.indices.to_numpy()
    order = np.argsort(numbers_, kind="stable")
    parts = np.split(order, np.searchsorted(numbers_[order], np.arange(1, len(names))))
    return [
        (name, rows)
        for name, rows in zip(names, parts, strict=True)
        if not settings.assets or name in settings.assets
    ]


def _candles(
    sheet: Sheet, name: str, rows: Ints, times: Ints, price: int, settings: DataSettings, found: Found
) -> Series:
    """One asset: its price, and what was traded in USD."""
    order = in_order(times, sheet.place, f" for {name}", settings.sort)
    if order is not None:
        sheet, times = sheet.take(order), times[order]
    prices = numbers(sheet, price, settings)
    volume = None
    traded = sheet.find(None, QUOTE_VOLUME_NAMES, "") if settings.volume_column is None else None
    if traded is not None:
        volume = numbers(sheet, traded, settings)
    else:
        units = sheet.find(settings.volume_column, VOLUME_NAMES, "volume_column")
        volume = None if units is None else _units(sheet, units, settings, found) * prices
    return Series(name, times, prices, sheet.place, sheet.names[price], volume)


def _units(sheet: Sheet, i: int, settings: DataSettings, found: Found) -> Floats:
    """The volume; where nobody asked for it and it cannot be read ("5.3M") a remark, and NaN."""
    try:
        return numbers(sheet, i, settings)
    except BacktestError as error:
        if settings.volume_column is not None:
            raise
        found.remarks.append(f"volume is left out: {error}")
        return np.full(len(sheet.columns[i]), np.nan)


def normal(name: str) -> str:
    """A column's name in lower case, words apart."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def no_such(name: str, names: Sequence[str]) -> str:
    """That there is no such name, and what may have been meant."""
    close = get_close_matches(name, names, 1)
    some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"there is no {name!r}" + (f", is {close[0]!r} meant?" if close else f" among {some}")


# ---------------------------------------------------------------- cells


def numbers(sheet: Sheet, i: int, settings: DataSettings) -> Floats:
    """(T,) column i; NaN where a cell is empty. BacktestError names the first that is no number."""
    column = sheet.columns[i]
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_numbers(sheet, i, settings)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise BacktestError(f"{sheet.label}, column {sheet.names[i]}: has {kind}, needs numbers")
    return np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _text_numbers(sheet: Sheet, i: int, settings: DataSettings) -> Floats:
    column = sheet.columns[i]
    if settings.decimal == ",":
        _refuse(sheet, i, pc.match_substring(column, "."), "thousands separators are not read: write 1234,5")
        column = pc.replace_substring(column, ",", ".")
    try:
        cast = column.cast(pa.float64())
    except pa.ArrowInvalid:
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.is_in(column, pa.array(MISSING)), None, column)
        thousands = pc.match_substring_regex(
            column, r"^[+-]?\d{1,3}([,' ]\d{3})+\.\d+$|^[+-]?\d{1,3}([,' ]\d{3}){2,}$"
        )
        _refuse(sheet, i, thousands, "thousands separators are not read: write 1234.5")
        comma = pc.match_substring_regex(column, r"^[+-]?\d+,\d+$")
        _refuse(sheet, i, comma, 'a comma: set decimal = "," if it is the decimal sign, else take it out')
        _refuse(sheet, i, pc.invert(pc.match_substring_regex(column, NUMBER)), "not a number")
        cast = column.cast(pa.float64())
    return np.array(
        cast.to_numpy(zero_copy_only=False) if isinstance(cast, pa.Array) else cast.to_numpy(),
        dtype=np.float64,
    )


def _refuse(sheet: Sheet, i: int, bad: Any, why: str) -> None:
    """BacktestError if any cell of column i is bad (null: not)."""
    row = _first(bad)
    if row >= 0:
        value = sheet.columns[i][row].as_py()
        raise BacktestError(
            f"{sheet.place(row)}, column {sheet.names[i] or i + 1}: {str(value)[:40]!r}: {why}"
        )


def _first(bad: Any) -> int:
    """Position of the first True; -1: none."""
    return int(pc.index(bad, True).as_py())


def dates(sheet: Sheet, i: int, settings: DataSettings) -> Ints:
    """(T,) column i as seconds UTC, to the nearest; BacktestError names the first that is no date."""
    column = sheet.columns[i]
    kind = column.type
    if column.null_count:
        _refuse(sheet, i, column.is_null(), "no date")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.utf8_trim_whitespace(column)
        if (
            pc.all(pc.match_substring_regex(column, r"^\d+(\.\d+)?$")).as_py()
            and settings.date_format is None
        ):
            return _cut(_epochs(sheet, i, column.cast(pa.float64())), settings)
        return _cut(_text_dates(sheet, i, column, settings), settings)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _cut(_epochs(sheet, i, column.cast(pa.float64(), safe=False)), settings)
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise BacktestError(
            f"{sheet.label}, column {sheet.names[i]}: has {kind}, needs dates; date_column names another"
        )
    stamps = pd.DatetimeIndex(column.to_pandas())
    if stamps.tz is None and pa.types.is_timestamp(kind):
        stamps = _in_zone(sheet, i, stamps, settings.timezone)
    return _cut(_seconds(stamps), settings)


def _text_dates(sheet: Sheet, i: int, column: Any, settings: DataSettings) -> Ints:
    if settings.date_format is not None:
        stamps = pd.to_datetime(column.to_pandas(), format=settings.date_format, errors="coerce", utc=False)
        _refuse(
            sheet,
            i,
            pa.array(stamps.isna().to_numpy()),
            f"not a date in date_format {settings.date_format!r}",
        )
        index = pd.DatetimeIndex(stamps)
        clock = "%H" in settings.date_format or "%I" in settings.date_format
        return _seconds(_in_zone(sheet, i, index, settings.timezone) if clock and index.tz is None else index)
    zoned = pc.match_substring_regex(column, ZONE).to_numpy(zero_copy_only=False)
    if zoned.any() and not zoned.all():
        odd = int((zoned != zoned[0]).argmax())
        _refuse(
            sheet, i, pa.array(np.arange(len(zoned)) == odd), "with and without a time zone: write all alike"
        )
    iso = pc.replace_substring_regex(column, r" ?(UTC|GMT)$", "Z")  # "2024-01-31 00:00:00 UTC"
    stamps = pd.to_datetime(iso.to_pandas(), format="ISO8601", errors="coerce", utc=True)
    bad = stamps.isna().to_numpy()
    _refuse(
        sheet, i, pa.array(bad), 'not a date such as 2020-01-31; date_format such as "%d/%m/%Y" reads others'
    )
    index = pd.DatetimeIndex(stamps)
    clock = pc.match_substring(column, ":").to_numpy(zero_copy_only=False)
    if settings.timezone != "UTC" and not zoned.any() and clock.any():
        index = _in_zone(sheet, i, index.tz_localize(None), settings.timezone)
    return _seconds(index)


def _in_zone(sheet: Sheet, i: int, index: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    """Naive times as those of `zone`; refuses hours that the clock's change makes twice or never."""
    if zone == "UTC":
        return index
    found = index.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    why = f"is twice or never on the clocks of {zone}: write times with their offset, or in UTC"
    _refuse(sheet, i, pa.array(found.isna()), why)
    return found


def _seconds(index: pd.DatetimeIndex) -> Ints:
    if index.tz is not None:
        index = index.tz_convert(None)
    milliseconds = index.to_numpy().astype("datetime64[ms]").astype(np.int64)
    return (milliseconds + 500) // 1_000


def _epochs(sheet: Sheet, i: int, column: Any) -> Ints:
    """Seconds, milli-, micro- or nanoseconds since 1970, told apart by their size; or YYYYMMDD."""
    values = np.asarray(
        column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    )
    if values.min() >= 19_000_101 and values.max() <= 21_001_231:
        text = pd.Series(values.astype(np.int64).astype(str))
        stamps = pd.to_datetime(text, format="%Y%m%d", errors="coerce", utc=True)
        _refuse(sheet, i, pa.array(stamps.isna().to_numpy()), "not a date such as 20200131")
        return _seconds(pd.DatetimeIndex(stamps))
    scale = np.select([values < 1e11, values < 1e14, values < 1e17], [1.0, 1e3, 1e6], 1e9)
    bad = ~((values >= FIRST_EPOCH) & (values < 1e20))
    _refuse(
        sheet,
        i,
        pa.array(bad),
        "not a date or a timestamp; date_column names the column, date_format its form",
    )
    seconds: Ints = np.floor(values / scale + 0.5).astype(np.int64)
    return seconds


def _cut(times: Ints, settings: DataSettings) -> Ints:
    return times // 86_400 * 86_400 if settings.daily else times
