"""Files and frames as people have them, and what is refused, with its place."""

from __future__ import annotations

import gzip
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from offchain.backtest import BacktestError, run
from offchain.backtest.model import Policy
from offchain.data import DataSettings, Loaded, data_settings, load, load_frame
from offchain.data.cache import Spans
from offchain.data.settings import Source

ROOT = Path(__file__).resolve().parents[2]
DAYS = pd.date_range("2024-01-01", periods=10, freq="D")  # a Monday
WIDE = "Date,AAA,BBB\n" + "".join(f"{day:%Y-%m-%d},{100 + i},{50 - i}\n" for i, day in enumerate(DAYS))


def csv(folder: Path, text: str | bytes, name: str = "prices.csv", **settings: Any) -> Loaded:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(data_settings({"source": "csv", "path": name, **settings}), base=folder)


def refused(folder: Path, text: str | bytes, message: str, **settings: Any) -> None:
    with pytest.raises(BacktestError) as caught:
        csv(folder, text, **settings)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def replaced(line: int, new: str, text: str = WIDE) -> str:
    """`text` with another line (the header is 1); empty: without it."""
    lines = text.splitlines(keepends=True)
    lines[line - 1] = new and new + "\n"
    return "".join(lines)


# ---------------------------------------------------------------- the bundled series


def test_bundled_series_is_read_offline_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def nothing(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", nothing)
    found = load(DataSettings(source="sp500"))
    assert found.market.shape == (8313, 20)
    assert str(found.market.dates[0]) == "1990-01-02T00:00:00" and found.market.names[0] == "AAPL"
    result = run(found.market, Policy(np.full(20, 0.05), bands=0.05))
    assert result.final_value > 1e8
    chosen = load(
        DataSettings(source="sp500", assets=["XOM", "AAPL"], start=date(2000, 1, 1), end=date(2000, 12, 31))
    )
    assert chosen.market.names == ("XOM", "AAPL") and chosen.market.shape == (252, 2)
    assert "20 US shares" in found.source and "2000-01-03 to 2000-12-29" in chosen.source


# ---------------------------------------------------------------- shapes of files


def test_wide(tmp_path: Path) -> None:
    found = csv(tmp_path, WIDE)
    assert found.market.names == ("AAA", "BBB")
    assert found.market.prices[:, 1].tolist() == [50.0 - i for i in range(10)]
    assert (found.market.dates == DAYS.to_numpy().astype("datetime64[s]")).all()
    assert found.warnings == () and found.volume is None


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + WIDE,
        WIDE.replace("\n", "\r\n"),
        WIDE.replace(",", ";"),
        WIDE.replace(",", "\t"),
        "\n\n" + WIDE.replace("2024-01-05", "\n   \n\n2024-01-05") + ",,\n\n",
        WIDE.replace("2024-01-0", " 2024-01-0").replace(",100,", ", 100 ,"),
        WIDE.replace("\n", ",\n"),  # a comma after each line
        WIDE.replace(",100,", ",1e2,").replace(",101,", ",+101.,"),
        re.sub(r"(\d{4})-(\d\d)-(\d\d)", r"\1\2\3", WIDE),
        re.sub(r"(\d{4}-\d\d-\d\d)", r"\1T00:00:00Z", WIDE),
        re.sub(r"(\d{4}-\d\d-\d\d)", r"\1 01:00:00+01:00", WIDE),
        re.sub(r"(\d{4}-\d\d-\d\d)", r"\1 00:00:00", WIDE),
        re.sub(r"\d{4}-\d\d-\d\d", lambda m: str(int(pd.Timestamp(m[0]).timestamp())), WIDE),
        re.sub(r"\d{4}-\d\d-\d\d", lambda m: str(int(pd.Timestamp(m[0]).timestamp() * 1_000)), WIDE),
        re.sub(r"\d{4}-\d\d-\d\d", lambda m: str(int(pd.Timestamp(m[0]).timestamp() * 1_000_000)), WIDE),
        WIDE.encode("utf-16"),
        gzip.compress(WIDE.encode()),
        "Date,AAA,BBB\n" + "".join(reversed(WIDE.splitlines(keepends=True)[1:])),  # newest first
    ],
    ids=[
        "BOM", "CRLF", "semicolons", "tabs", "blank lines", "spaces", "last comma", "exponents", "YYYYMMDD", "ISO Z",
        "offset", "clock", "seconds", "milliseconds", "microseconds", "UTF-16", "gzip", "newest first",
    ],
)  # fmt: skip
def test_the_same_prices_however_they_are_written(tmp_path: Path, text: str | bytes) -> None:
    assert csv(tmp_path, text).fingerprint == csv(tmp_path, WIDE).fingerprint


def test_fingerprint_changes_with_a_price_a_name_or_a_date(tmp_path: Path) -> None:
    prints = {
        csv(tmp_path, text).fingerprint
        for text in (WIDE, WIDE.replace("AAA", "AAB"), WIDE.replace(",109,", ",109.5,"), replaced(11, ""))
    }
    assert len(prints) == 4


def test_long(tmp_path: Path) -> None:
    lines = [
        f"{day:%Y-%m-%d},{name},{price + i}\n"
        for i, day in enumerate(DAYS)
        for name, price in (("B", 5), ("A", 9))
    ]
    found = csv(tmp_path, "date,symbol,price\n" + "".join(lines))
    assert found.market.names == ("B", "A") and found.market.prices[:, 0].tolist() == [
        5.0 + i for i in range(10)
    ]
    chosen = csv(tmp_path, "date,symbol,price\n" + "".join(lines), assets=["A"])
    assert chosen.market.names == ("A",)
    refused(
        tmp_path,
        "date,symbol,price\n" + "".join(lines[:-1]),
        r"A \(2024-01-10: no row, after prices.csv, line 20\)|A ends",
    )
    twice = "date,symbol,price\n" + "".join(lines) + lines[3]
    refused(
        tmp_path,
        twice,
        r"prices.csv, line 22: 2024-01-02 is there already for A: prices.csv, line 5",
        sort=True,
    )


def test_decimal_commas_are_read_if_they_are_meant(tmp_path: Path) -> None:
    text = WIDE.replace(",", ";").replace(";100;", ";100,5;")
    assert csv(tmp_path, text, decimal=",").market.prices[0, 0] == 100.5
    refused(tmp_path, text, r"line 2, column AAA: '100,5': a comma: set decimal = \",\"")
    refused(
        tmp_path, text.replace("101", "1.101,5"), r"line 3, column AAA: '1.101,5': thousands", decimal=","
    )


def test_yahoo_prices_and_volume(tmp_path: Path) -> None:
    head = "Date,Open,High,Low,Close,Adj Close,Volume\n"
    text = head + "".join(f"{day:%Y-%m-%d},1,9,1,{8 + i},{7 + i},{1000 + i}\n" for i, day in enumerate(DAYS))
    found = csv(tmp_path, text, "KO.csv")
    assert found.market.names == ("KO",) and found.market.prices[0, 0] == 8.0
    assert found.volume is not None and found.volume[1, 0] == 1001 * 9.0
    assert found.warnings == (
        'KO.csv: prices are column Close; price_column = "Adj Close" reads the adjusted ones',
    )
    adjusted = csv(tmp_path, text, "KO.csv", price_column="Adj Close")
    assert adjusted.market.prices[0, 0] == 7.0 and adjusted.warnings == ()


def test_stooq_bulk_file(tmp_path: Path) -> None:
    head = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    text = head + "".join(
        f"KO.US,D,{day:%Y%m%d},000000,1,9,1,{8 + i},{100 + i},0\n" for i, day in enumerate(DAYS)
    )
    found = csv(tmp_path, text)
    assert found.market.names == ("KO.US",) and found.market.prices[-1, 0] == 17.0
    assert str(found.market.dates[0])[:10] == "2024-01-01"


def test_binance_klines_have_no_header_and_are_dated_at_their_end(tmp_path: Path) -> None:
    def line(i: int, unit: int) -> str:
        opened = int(DAYS[i].timestamp()) * unit
        return f"{opened},1,9,1,{8 + i},5,{opened + 86_400 * unit - 1},{1000 + i},10,2,3,0\n"

    text = "".join(
        line(i, 1_000 if i < 5 else 1_000_000) for i in range(10)
    )  # milli-, then microseconds, as they did
    found = csv(tmp_path, text, "BTCUSDT.csv")
    assert found.market.names == ("BTCUSDT",) and str(found.market.dates[0]) == "2024-01-02T00:00:00"
    assert found.volume is not None and found.volume[:, 0].tolist() == [1000.0 + i for i in range(10)]


def test_a_folder_has_a_file_an_asset(tmp_path: Path) -> None:
    folder = tmp_path / "shares"
    folder.mkdir()
    for k, name in enumerate(("KO", "XOM")):
        rows = "".join(f"{day:%Y-%m-%d},{8 + i + k}\n" for i, day in enumerate(DAYS))
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(("Date,Close\n" + rows).encode()))
    found = load(data_settings({"source": "csv", "path": "shares"}), base=tmp_path)
    assert found.market.names == ("KO", "XOM") and found.market.prices[0].tolist() == [8.0, 9.0]
    files = {"Coke": "shares/KO.csv.gz", "Oil": "shares/XOM.csv.gz"}
    named = load(data_settings({"source": "csv", "files": files, "constant": {"USD": 1}}), base=tmp_path)
    assert named.market.names == ("Coke", "Oil", "USD") and (named.market.prices[:, 2] == 1).all()
    order = {"assets": ["USD", "Oil", "Coke"], "constant": {"USD": 1}}
    assert load(data_settings({"source": "csv", "files": files, **order}), base=tmp_path).market.names == (
        "USD",
        "Oil",
        "Coke",
    )


def test_parquet_and_frames_are_the_same_as_csv(tmp_path: Path) -> None:
    expected = csv(tmp_path, WIDE).fingerprint
    frame = pd.read_csv(tmp_path / "prices.csv", index_col="Date", parse_dates=["Date"])
    zoned = frame.tz_localize("UTC").tz_convert("America/New_York")
    dated = frame.set_axis(frame.index.date)
    for kind in (
        frame,
        zoned,
        dated,
        frame.reset_index(),
        frame.astype("float32"),
        frame.set_axis(frame.index.astype(str)),
    ):
        assert load_frame(kind).fingerprint == expected
        kind.to_parquet(tmp_path / "prices.parquet")
        assert (
            load(data_settings({"source": "parquet", "path": "prices.parquet"}), base=tmp_path).fingerprint
            == expected
        )
    long = frame.reset_index().melt("Date", var_name="asset", value_name="price").sort_values("Date")
    assert load_frame(long).fingerprint == expected
    with pytest.raises(
        BacktestError, match=r"DataFrame, row 2, column AAA \(2024-01-03\): -1 is not a price above 0"
    ):
        load_frame(frame.where(frame.AAA != 102, -1))
    with pytest.raises(BacktestError, match="columns have two levels"):
        load_frame(pd.concat({"Close": frame}, axis=1))


def test_times_of_a_zone(tmp_path: Path) -> None:
    days = pd.date_range("2024-03-08", periods=5, freq="D").strftime(
        "%Y-%m-%d"
    )  # the clock changes on the 10th
    text = "date,A\n" + "".join(f"{day} 16:00,{8 + i}\n" for i, day in enumerate(days))
    found = csv(tmp_path, text, timezone="America/New_York")
    assert [str(when)[11:13] for when in found.market.dates] == ["21", "21", "20", "20", "20"]
    assert str(csv(tmp_path, text).market.dates[0])[11:13] == "16"  # without a zone: UTC
    dates_only = text.replace(" 16:00", "")
    assert str(csv(tmp_path, dates_only, timezone="America/New_York").market.dates[0])[11:] == "00:00:00"
    refused(
        tmp_path,
        replaced(4, "2024-03-10 02:30,10", text),
        "line 4, column date: '2024-03-10 02:30': is twice or never",
        timezone="America/New_York",
    )
    refused(
        tmp_path,
        replaced(4, "2024-03-10 16:00Z,10", text),
        "line 4, column date: .* with and without a time zone",
    )
    mixed = csv(tmp_path, text.replace(" 16:00", " 16:00-05:00", 2).replace(" 16:00,", " 16:00-04:00,"))
    assert (mixed.market.dates == found.market.dates).all()
    assert (csv(tmp_path, text, daily=True).market.times % 86_400 == 0).all()


def test_other_dates_need_their_format(tmp_path: Path) -> None:
    text = re.sub(r"(\d{4})-(\d\d)-(\d\d)", r"\3/\2/\1", WIDE)
    refused(tmp_path, text, r"line 2, column Date: '01/01/2024': not a date such as 2020-01-31; date_format")
    assert csv(tmp_path, text, date_format="%d/%m/%Y").fingerprint == csv(tmp_path, WIDE).fingerprint
    refused(tmp_path, text + "13/13/2024,1,1\n", "line 12, column Date: '13/13/2024'", date_format="%d/%m/%Y")


# ---------------------------------------------------------------- as vendors write them


def of_days(header: str, line: str) -> str:
    """A file with a line a day; `line` has the fields day and i."""
    return header + "\n" + "".join(line.format(day=day, i=i) + "\n" for i, day in enumerate(DAYS))


def test_coingecko(tmp_path: Path) -> None:
    text = of_days("snapped_at,price,market_cap,total_volume", "{day:%Y-%m-%d} 00:00:00 UTC,1{i}.5,8e11,2e10")
    found = csv(tmp_path, text, "btc-usd-max.csv")
    assert list(found.market.names) == ["btc-usd-max"]
    assert found.market.prices[3, 0] == 13.5
    assert found.volume is not None
    assert found.volume[-1, 0] == 2e10
    assert str(found.market.dates[0]) == "2024-01-01T00:00:00"


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_column_that_numbers_the_rows_is_no_asset(tmp_path: Path, name: str, first: int) -> None:
    lines = WIDE.splitlines()
    text = f"{name},{lines[0]}\n" + "".join(f"{i + first},{line}\n" for i, line in enumerate(lines[1:]))
    found = csv(tmp_path, text)
    assert found.fingerprint == csv(tmp_path, WIDE).fingerprint


def test_a_price_beside_other_figures_is_one_asset(tmp_path: Path) -> None:
    text = of_days("Date,Close,SMA 20", "{day:%Y-%m-%d},1{i},1{i}")
    assert list(csv(tmp_path, text, "KO.csv").market.names) == ["KO"]
    text = of_days("Date,mid,spread", "{day:%Y-%m-%d},1{i},1{i}")
    assert csv(tmp_path, text, "KO.csv", price_column="mid").market.prices[0].tolist() == [10]


def test_columns_that_are_no_prices_are_refused(tmp_path: Path) -> None:
    text = of_days("Date,AAA,BBB,AAA_Volume", "{day:%Y-%m-%d},1{i},2{i},90000")
    refused(tmp_path, text, r'column AAA_Volume is not a price: .*assets = \["AAA", "BBB"\]')
    assert list(csv(tmp_path, text, assets=["AAA", "BBB"]).market.names) == ["AAA", "BBB"]


def test_volume_that_nobody_asked_for_and_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    text = of_days("Date,Price,Open,High,Low,Vol.", "{day:%Y-%m-%d},1{i},1,1,1,5.3M")
    found = csv(tmp_path, text)
    assert "volume is left out: prices.csv, line 2, column Vol.: '5.3M'" in found.warnings[0]
    refused(tmp_path, text, "'5.3M': not a number", volume_column="Vol.")


def test_yfinance_s_three_lines_and_a_time_apart_say_what_to_do(tmp_path: Path) -> None:
    text = "Price,Close,Volume\nTicker,AAA,AAA\nDate,,\n2024-01-01,1,2\n2024-01-02,1,2\n"
    refused(tmp_path, text, r'lines 1 to 3: yfinance\'s header .*frame\["Close"\]\.to_csv')
    text = "Date,Time,Open,High,Low,Close\n2024-01-01,10:00,1,1,1,1\n2024-01-01,11:00,1,1,1,1\n"
    refused(tmp_path, text, "the time of day has a column of its own, Time: write both in Date")


def test_a_series_and_an_index_of_two_levels(tmp_path: Path) -> None:
    frame = pd.DataFrame({"AAA": np.arange(10) + 100.0, "BBB": 50.0 - np.arange(10)}, index=DAYS)
    assert load_frame(frame["AAA"]).market.names == ("AAA",)
    tall = frame.rename_axis("date").rename_axis("asset", axis=1).stack().rename("price").to_frame()
    assert load_frame(tall).fingerprint == load_frame(frame).fingerprint
    pd.concat({"Close": frame, "Volume": frame}, axis=1).to_parquet(tmp_path / "two.parquet")
    with pytest.raises(BacktestError, match="columns have two levels"):
        load(data_settings({"source": "parquet", "path": "two.parquet"}), base=tmp_path)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("line", "new", "message"),
    [
        (
            4,
            "2024-01-03,-102,48",
            r"prices.csv, line 4, column AAA \(2024-01-03\): -102 is not a price above 0",
        ),
        (4, "2024-01-03,102,0", r"prices.csv, line 4, column BBB \(2024-01-03\): 0 is not a price above 0"),
        (4, "2024-01-03,inf,48", r"line 4, column AAA \(2024-01-03\): inf is not a price"),
        (4, "2024-01-03,NaN,48", r"line 4, column AAA \(2024-01-03\): no price; gaps = \"fill\""),
        (4, "2024-01-03,102,", r"line 4, column BBB \(2024-01-03\): no price; gaps"),
        (4, "2024-01-03,Dividend,48", r"prices.csv, line 4, column AAA: 'Dividend': not a number"),
        (4, "2024-01-03,$102,48", r"line 4, column AAA: '\$102': not a number"),
        (4, '2024-01-03,"1,102.5",48', r"line 4, column AAA: '1,102.5': thousands separators"),
        (4, '2024-01-03,"1,102",48', r"line 4, column AAA: '1,102': a comma: set decimal"),
        (
            4,
            "2024-01-03,1,102,48",
            r"prices.csv, line 4: 4 cells under 3 columns: are there commas inside numbers\?",
        ),
        (4, "2024-01-03,102", r"prices.csv, line 4: 2 cells under 3 columns"),
        (4, "2024-01-02,102,48", r"line 4: 2024-01-02 is there already: prices.csv, line 3; remove one"),
        (4, "2023-12-31,102,48", r"line 4: 2023-12-31 comes after 2024-01-02: not in order; sort = true"),
        (4, "2024-02-30,102,48", r"line 4, column Date: '2024-02-30': not a date"),
        (4, "yesterday,102,48", r"line 4, column Date: 'yesterday': not a date"),
        (4, ",102,48", r"line 4, column Date: 'None': no date"),
        (4, "", r"AAA \(2024-01-03: no row, after prices.csv, line 3\): no price \(1 more of them\)"),
        (
            4,
            "2024-01-03,51,48",
            r"line 4, .*: 51 after 101 looks like a split of 2 for 1: splits = { AAA = \[\[\"2024-01-03\", 2\]\] }",
        ),
        (
            4,
            "2024-01-03,306,48",
            r"looks like a split of 1 for 3: splits = { AAA = \[\[\"2024-01-03\", 0.333333333333\]\] }",
        ),
        (4, "2024-01-03,68,48", r"looks like a split of 3 for 2"),
        (11, "2024-01-10,1521,48", r"line 11, .*: 1521 after 108 is not what a price does in one row"),
        (1, "Date,AAA,AAA", r"prices.csv, line 1: column AAA is there twice"),
        (1, "", r"prices.csv, line 1: '2024-01-01,100,50' is not a header"),
        (1, "prices", r"line 1: 'prices' is not a header of at least two columns; skip_lines"),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(tmp_path: Path, line: int, new: str, message: str) -> None:
    refused(tmp_path, replaced(line, new), message)


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    text = "# from somewhere\n\n" + WIDE.replace("2024-01-03,", "\n  \n,,\n2024-01-03,").replace(
        ",105,", ",x,"
    )
    refused(tmp_path, text, "prices.csv, line 12, column AAA: 'x': not a number", skip_lines=1)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path, "", "prices.csv: empty")
    refused(tmp_path, "Date,AAA\n", "prices.csv: no rows below the header")
    refused(tmp_path, WIDE.encode() + b"\xff\xe9", "prices.csv, line 12: not UTF-8")
    refused(tmp_path, gzip.compress(WIDE.encode())[:-20], "prices.csv: cannot be unpacked")
    refused(tmp_path, b"PK\x03\x04", "a zip archive: unpack it")
    refused(tmp_path, b"PAR1", 'a Parquet file: set source = "parquet"')
    (tmp_path / "prices.parquet").write_text("no")
    with pytest.raises(BacktestError, match=r"prices.parquet: cannot be read"):
        load(data_settings({"source": "parquet", "path": "prices.parquet"}), base=tmp_path)
    with pytest.raises(BacktestError, match=r"data.path: no such file: .*none.csv"):
        load(data_settings({"source": "csv", "path": "none.csv"}), base=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "csv"}, r"data.path or files: one of them is needed"),
        ({"source": "xls"}, r"data.source: .*'csv', 'parquet'"),
        ({"source": "sp500", "paht": "x"}, r"data.paht: unknown key"),
        ({"source": "sp500", "exchange": "kraken"}, r'data.exchange: source = "sp500" does not read it'),
        ({"source": "sp500", "start": "tomorrow"}, r"data.start: 'tomorrow' is not a date"),
        ({"source": "sp500", "assets": ["APPL"]}, r"data.assets: there is no 'APPL', is 'AAPL' meant\?"),
        (
            {"source": "sp500", "start": "2050-01-01"},
            r"no rows between them; the data are from 1990-01-02 to 2022-12-28",
        ),
        ({"source": "sp500", "start": "2000-01-03", "end": "2000-01-03"}, r"1 rows are left, at least 2"),
        ({"source": "sp500", "fill_rows": 0}, r"data.fill_rows: .*greater than or equal to 1"),
        ({"source": "sp500", "splits": {"KO": [["2000-01-01", -2]]}}, r"data.splits: KO: -2 on 2000-01-01"),
        ({"source": "sp500", "constant": {"USD": 0}}, r"data.constant: USD: 0 is not a price above 0"),
        ({"source": "sp500", "constant": {"KO": 1}}, r"data.constant: KO has prices already"),
        ({"source": "sp500", "calendar": "XNYZ"}, r"data.calendar: .*XNYZ"),
        ({"source": "csv", "path": "x", "timezone": "Mars"}, r"data.timezone: 'Mars' is not a time zone"),
        ({"source": "ccxt", "exchange": "kraken"}, r"data.symbols: missing"),
        ({"source": "chain", "start": "2024-01-01"}, r"data.feeds or pools: one of them is needed"),
        (
            {"source": "chain", "start": "2024-01-01", "feeds": {"A": "0x12"}},
            r"data.feeds: '0x12' is not an address",
        ),
        ({"source": "chain", "feeds": {"A": "0x" + "12" * 20}}, r"data.start: missing"),
        (
            {"source": "chain", "start": "2024-01-01", "feeds": {"A": "0x" + "12" * 20}, "every": "1y"},
            r"data.every: '1y'",
        ),
        (
            {"source": "chain", "start": "2024-01-01", "feeds": {"A": "0x" + "12" * 20}},
            r"data.rpc_url: no node is named",
        ),
    ],
)
def test_settings_are_refused_by_name(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("EVENKEEL_RPC_URL", "ETH_RPC_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BacktestError, match=message):
        load(data_settings(settings), base=tmp_path)


# ---------------------------------------------------------------- what is put right


def test_gaps_are_filled_or_dropped_as_asked(tmp_path: Path) -> None:
    text = replaced(4, "2024-01-03,,48", replaced(5, "2024-01-04,,47"))
    filled = csv(tmp_path, text, gaps="fill")
    assert filled.market.prices[:4, 0].tolist() == [100, 101, 101, 101] and filled.market.prices[2, 1] == 48
    assert filled.warnings[0].startswith(
        "gaps: 2 prices filled with the ones before, the first prices.csv, line 4"
    )
    dropped = csv(tmp_path, text, gaps="drop")
    assert (
        dropped.market.prices[:3, 0].tolist() == [100, 101, 104] and "2 rows left out" in dropped.warnings[0]
    )
    refused(tmp_path, text, "line 4, .* no price for more than fill_rows = 1 rows", gaps="fill", fill_rows=1)
    whole = csv(tmp_path, replaced(4, ""), gaps="fill")  # a row that is not there at all
    assert whole.market.prices[2].tolist() == [101, 49] and len(whole.market.times) == 10


def test_a_session_without_a_row_is_a_gap_of_the_exchange(tmp_path: Path) -> None:
    found = load(DataSettings(source="sp500", start=date(2022, 1, 1), assets=["KO", "XOM"], calendar="XNYS"))
    dates = found.market.dates.astype("datetime64[D]")
    rows = [f"{day},{a},{b}\n" for day, (a, b) in zip(dates, found.market.prices, strict=True)]
    text = "date,KO,XOM\n" + "".join(rows)
    assert csv(tmp_path, text, calendar="XNYS").fingerprint == found.fingerprint
    without = text.replace(rows[99], "")
    assert csv(tmp_path, without).market.shape[0] == len(rows) - 1  # as if a holiday
    refused(
        tmp_path,
        without,
        rf"KO \({dates[99]}: no row, after prices.csv, line 100\): no price",
        calendar="XNYS",
    )
    week = text.replace("".join(rows[90:100]), "")
    refused(tmp_path, week, r"prices.csv, line 91, .*: no rows until prices.csv, line 92.*: rows are missing")
    assert csv(tmp_path, week, gaps="drop").market.shape[0] == len(rows) - 10


def test_weekends_that_only_some_trade(tmp_path: Path) -> None:
    weekend = {"2024-01-06", "2024-01-07"}
    text = "Date,BTC,SPY\n" + "".join(
        f"{day:%Y-%m-%d},{100 + i},{'' if str(day)[:10] in weekend else 50 + i}\n"
        for i, day in enumerate(DAYS)
    )
    refused(
        tmp_path,
        text,
        r"line 7, column BTC \(2024-01-06\): BTC has prices on weekends, SPY has none: align = \"inner\"",
    )
    inner = csv(tmp_path, text, align="inner")
    assert len(inner.market.times) == 8 and "2 rows on weekends left out" in inner.warnings[0]
    forward = csv(tmp_path, text, align="forward")
    assert forward.market.prices[4:8, 1].tolist() == [54, 54, 54, 57]
    holiday = text.replace("2024-01-03,102,52", "2024-01-03,102,")
    refused(tmp_path, holiday, r"line 4, column SPY \(2024-01-03\): no price", align="forward")


def test_other_times_of_day_are_pointed_out(tmp_path: Path) -> None:
    for name, clock in (("A", "00:00"), ("B", "21:00")):
        rows = "".join(f"{day:%Y-%m-%d} {clock},{8 + i}\n" for i, day in enumerate(DAYS))
        (tmp_path / f"{name}.csv").write_text("Date,Close\n" + rows)
    settings = {"source": "csv", "files": {"A": "A.csv", "B": "B.csv"}}
    with pytest.raises(BacktestError, match=r"^data: A and B have other times of day: daily = true"):
        load(data_settings(settings), base=tmp_path)
    assert load(data_settings(settings | {"daily": True, "start": "common"}), base=tmp_path).market.shape == (
        10,
        2,
    )


def test_assets_that_begin_later_or_end_earlier(tmp_path: Path) -> None:
    text = replaced(2, "2024-01-01,100,", replaced(3, "2024-01-02,101,"))
    refused(
        tmp_path,
        text,
        r"data.start: prices.csv, line 4, column BBB \(2024-01-03\): BBB begins there, "
        r'others on 2024-01-01: start = "2024-01-03" or "common"',
    )
    assert csv(tmp_path, text, start="common").market.prices[0].tolist() == [102, 48]
    assert csv(tmp_path, text, start="2024-01-03").market.prices[0].tolist() == [102, 48]
    ends = replaced(11, "2024-01-10,,41")
    refused(
        tmp_path,
        ends,
        r'data.end: prices.csv, line 10, column AAA \(2024-01-09\): AAA ends there.* end = "2024-01-09"',
    )
    assert len(csv(tmp_path, ends, end="common").market.times) == 9


def test_splits_are_adjusted_for(tmp_path: Path) -> None:
    split = "Date,AAA\n" + "".join(
        f"{day:%Y-%m-%d},{(700 + i) / (7 if i >= 4 else 1):.4f}\n" for i, day in enumerate(DAYS)
    )
    refused(
        tmp_path, split, r"line 6, column AAA \(2024-01-05\): 100.571 after 703 looks like a split of 7 for 1"
    )
    found = csv(tmp_path, split, splits={"AAA": [["2024-01-05", 7]]})
    np.testing.assert_allclose(found.market.prices[:, 0], (700 + np.arange(10)) / 7, rtol=1e-5)
    real = csv(tmp_path, split, allow_jumps={"AAA": ["2024-01-05"]})
    assert (
        real.market.prices[0, 0] == 700
        and csv(tmp_path, split, allow_jumps=True).fingerprint == real.fingerprint
    )
    refused(tmp_path, split, "looks like a split", allow_jumps={"AAA": ["2024-01-06"]})
    refused(
        tmp_path,
        split,
        r"data.splits.AAA: .* the price is 1 times that before, not about 1/7",
        splits={"AAA": [["2024-01-04", 7]]},
    )
    refused(tmp_path, split, r"data.splits: there is no 'AAB'", splits={"AAB": [["2024-01-04", 7]]})


def test_a_price_that_stands_still_is_pointed_out(tmp_path: Path) -> None:
    text = re.sub(r",1\d\d,", ",100,", WIDE)
    assert csv(tmp_path, text, stale_rows=11).warnings == ()
    (warning,) = csv(tmp_path, text, stale_rows=10).warnings
    assert warning.startswith("AAA: the same price for 10 rows from prices.csv, line 2")


# ---------------------------------------------------------------- volume, dividends, flows


def test_volume_is_of_a_day_whatever_the_rows(tmp_path: Path) -> None:
    hours = pd.date_range("2024-01-01", periods=72, freq="h")
    text = "date,close,volume\n" + "".join(f"{t:%Y-%m-%d %H:%M},2,{i + 1}\n" for i, t in enumerate(hours))
    found = csv(tmp_path, text, stale_rows=0)
    assert found.volume is not None
    assert found.volume[50, 0] == 2 * sum(range(28, 52))  # the last 24 rows
    assert found.volume[0, 0] == 2 * 24 and found.volume[1, 0] == 2 * 3 * 12  # a part of a day, scaled
    weeks = pd.date_range("2024-01-01", periods=10, freq="7D")
    text = "date,close,volume\n" + "".join(f"{t:%Y-%m-%d},2,700\n" for t in weeks)
    assert csv(tmp_path, text, stale_rows=0).volume.tolist() == [[200.0]] * 10  # type: ignore[union-attr]
    none = text.replace("2024-01-08,2,700", "2024-01-08,2,0")
    found = csv(tmp_path, none, stale_rows=0)
    assert (
        found.volume is not None
        and found.volume[1, 0] == 200
        and "volume: none in 1 places" in found.warnings[0]
    )


def test_dividends_are_paid_at_the_next_row(tmp_path: Path) -> None:
    text = replaced(6, "", replaced(7, "")).replace("Date", "date")
    (tmp_path / "paid.csv").write_text(
        "date,asset,amount\n2024-01-02,BBB,0.5\n2024-01-02,BBB,0.25\n2024-01-05,AAA,1\n2023-01-01,AAA,9\n"
    )
    found = csv(tmp_path, text, dividends="paid.csv", gaps="drop")
    paid = np.zeros((8, 2))
    paid[1, 1], paid[4, 0] = 0.75, 1.0
    assert found.market.dividends.tolist() == paid.tolist()
    assert "paid.csv: 1 dividends on dates without a row are paid on the next one" in found.warnings
    (tmp_path / "paid.csv").write_text("date,AAA,BBB,CCC\n2024-01-02,,0.75,1\n")
    wide = csv(tmp_path, WIDE, dividends="paid.csv")
    assert wide.market.dividends.sum() == 0.75 and wide.market.dividends[1, 1] == 0.75
    assert wide.warnings == ("paid.csv: CCC has no prices, its dividends are left out",)
    (tmp_path / "paid.csv").write_text("date,AAA\n2024-01-02,-1\n")
    refused(tmp_path, WIDE, r"paid.csv, line 2 \(dividends\): -1 for AAA", dividends="paid.csv")
    refused(tmp_path, WIDE, r"data.dividends: no such file", dividends="none.csv")


def test_flows_come_at_the_next_row(tmp_path: Path) -> None:
    (tmp_path / "flows.csv").write_text(
        "date,in_kind,by_route\n2024-01-02,5,\n2024-01-03 12:00,,-7\n2024-01-04,,2\n"
    )
    market = csv(tmp_path, WIDE, flows="flows.csv").market
    assert market.flows_in_kind.tolist() == [0, 5, *[0] * 8]
    assert market.flows_by_route.tolist() == [0, 0, 0, -5, *[0] * 6]
    (tmp_path / "flows.csv").write_text("date,in_kind\n2024-01-01,5\n")
    refused(
        tmp_path,
        WIDE,
        r"flows.csv, line 2 \(flows\): 2024-01-01 is not after the first row",
        flows="flows.csv",
    )
    (tmp_path / "flows.csv").write_text("date,amount\n2024-01-02,5\n")
    refused(
        tmp_path,
        WIDE,
        r"data.flows: flows.csv: column amount: needs date, in_kind and by_route",
        flows="flows.csv",
    )


# ---------------------------------------------------------------- the cache


def test_spans_fetch_what_is_missing_and_leave_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64())])
    spans = Spans(tmp_path, "a/b c", {"k": 1}, schema)
    assert spans.missing(1, 9) == [(1, 9)]
    spans.put((3, 4), {"n": [3, 4], "x": [0.3, 0.4]})
    spans.put((7, 8), {"n": [], "x": []})
    assert spans.missing(1, 9) == [(1, 2), (5, 6), (9, 9)] and spans.missing(3, 4) == [] == spans.missing(
        7, 7
    )
    spans.put((4, 6), {"n": [4, 6], "x": [0.4, 0.6]})  # over what is there, as a second process may write
    assert spans.read(4, 9).to_pydict() == {"n": [4, 6], "x": [0.4, 0.6]}
    assert Spans(tmp_path, "a/b c", {"k": 2}, schema).missing(3, 4) == [(3, 4)]
    assert (tmp_path / ".gitignore").read_text() == "*\n"

    def crash(table: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", crash)
    with pytest.raises(KeyboardInterrupt):
        spans.put((9, 9), {"n": [9], "x": [0.9]})
    assert spans.missing(9, 9) == [(9, 9)]
    assert not [path for path in spans.folder.iterdir() if path.suffix != ".parquet"]


# ---------------------------------------------------------------- the page and the examples


def test_each_setting_is_on_the_page_and_its_examples_are_valid() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    for name, field in DataSettings.model_fields.items():
        assert f"| `{name}` |" in page and f"| {field.description} |" in page, name
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert {data_settings(tomllib.loads(text)["data"]).source for text in examples} == set(
        get_args(Source)
    ) - {"pandas"}


def test_the_example_files_load() -> None:
    folder = ROOT / "examples" / "backtest"
    found = load(data_settings({"source": "csv", "path": "prices.csv", "flows": "flows.csv"}), base=folder)
    assert found.market.shape == (501, 5) and found.market.flows_by_route.sum() == 70_000
    bundled = load(DataSettings(source="sp500", assets=list(found.market.names), start=date(2021, 1, 1)))
    assert (found.market.prices == bundled.market.prices).all()


# ---------------------------------------------------------------- large files


def test_a_large_file_is_read_by_columns(tmp_path: Path) -> None:
    rows, n = 100_000, 10
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        100 * np.exp(np.cumsum(rng.normal(0, 1e-4, (rows, n)), axis=0)),
        pd.date_range("2020-01-01", periods=rows, freq="min"),
        [f"A{i}" for i in range(n)],
    )
    table = pa.Table.from_pandas(frame.rename_axis("date").reset_index(), preserve_index=False)
    pacsv.write_csv(table, tmp_path / "large.csv")
    found = load(data_settings({"source": "csv", "path": "large.csv"}), base=tmp_path)
    assert (found.market.prices == frame.to_numpy()).all()
    assert found.market.shape == (rows, n)
