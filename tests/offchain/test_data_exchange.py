"""Candles through ccxt from a server that speaks Bitstamp's interface; no network."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from offchain.backtest import BacktestError
from offchain.data import Loaded, data_settings, exchange, load

DAY = 86_400
LISTED = 1_640_995_200  # 2022-01-01
PAIRS = {"BTC/USD": 40_000.0, "ETH/USD": 3_000.0}


@dataclass
class Bitstamp:
    """A market that opens on LISTED."""

    url: str = ""
    newest: int = 2_000_000_000  # no candle opens after it
    failures: int = 0  # requests that are answered with 503 first
    asked: list[tuple[str, int]] = field(default_factory=list)  # pair, start

    def close(self, pair: str, opened: int) -> float:
        return float(PAIRS[pair] * (1 + 0.1 * np.sin(opened / DAY)))

    def answer(self, path: str, query: dict[str, str]) -> Any:
        if path.endswith("/markets/"):
            return [self.market(pair) for pair in PAIRS]
        pair = next(pair for pair in PAIRS if path.strip("/").endswith(pair.replace("/", "").lower()))
        start, end, step = int(query["start"]), int(query["end"]), int(query["step"])
        self.asked.append((pair, start))
        opens = range(max(-(-start // step) * step, LISTED), min(end, self.newest) + 1, step)
        rows = [
            {"timestamp": str(t), "open": "1", "high": "1", "low": "1", "volume": "2",
             "close": repr(self.close(pair, t))}
            for t in list(opens)[: int(query["limit"])]
        ]  # fmt: skip
        return {"data": {"pair": pair, "ohlc": rows}}

    def market(self, pair: str) -> dict[str, Any]:
        base, counter = pair.split("/")
        return {
            "name": pair, "market_symbol": (base + counter).lower(), "base_currency": base, "counter_currency": counter,
            "base_decimals": 8, "counter_decimals": 2, "minimum_order_value": f"10 {counter}", "market_type": "SPOT",
            "trading": "Enabled", "instant_and_market_orders": "Enabled", "description": f"{base} / {counter}",
        }  # fmt: skip


@pytest.fixture
def bitstamp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bitstamp]:
    server = Bitstamp()
    monkeypatch.setattr(exchange, "LONGEST_WAIT", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status = 200
            if server.failures:
                server.failures, status = server.failures - 1, 503
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            data = b"down" if status == 503 else json.dumps(server.answer(parts.path, query)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/api"
    yield server
    http.shutdown()
    http.server_close()


def read(server: Bitstamp, folder: Path, progress: Any = None, **more: Any) -> Loaded:
    values = {
        "exchange": "bitstamp",
        "symbols": {"BTC": "BTC/USD", "ETH": "ETH/USD"},
        "start": "2022-02-01",
        "end": "2024-01-31",
        "exchange_options": {"urls": {"api": {"public": server.url, "private": server.url}}, "rateLimit": 1},
    }
    return load(data_settings({"source": "ccxt"} | values | more), progress, base=folder)


def test_candles_are_dated_at_their_end_and_have_a_volume(bitstamp: Bitstamp, tmp_path: Path) -> None:
    shares: list[tuple[str, float]] = []
    found = read(bitstamp, tmp_path, lambda name, share: shares.append((name, share)))
    market = found.market
    assert market.names == ("BTC", "ETH") and market.shape == (730, 2)
    assert str(market.dates[0])[:10] == "2022-02-01" and str(market.dates[-1])[:10] == "2024-01-31"
    expected = [[bitstamp.close(pair, int(t) - DAY) for pair in PAIRS] for t in market.times]
    assert market.prices.tolist() == expected
    assert found.volume is not None and (found.volume == 2 * market.prices).all()
    assert found.warnings == () and shares[-1] == ("ETH", 1.0)


def test_only_what_is_new_is_fetched(bitstamp: Bitstamp, tmp_path: Path) -> None:
    first = read(bitstamp, tmp_path, end="2023-06-30")
    assert (tmp_path / ".evenkeel-cache").is_dir()
    bitstamp.asked.clear()
    assert read(bitstamp, tmp_path, end="2023-06-30").fingerprint == first.fingerprint
    assert bitstamp.asked == []
    longer = read(bitstamp, tmp_path)
    ends = int(first.market.times[-1])  # the next candle opens then
    assert [(pair, -(-start // DAY) * DAY) for pair, start in bitstamp.asked] == [
        ("BTC/USD", ends),
        ("ETH/USD", ends),
    ]
    assert longer.market.shape == (730, 2)
    assert longer.fingerprint == read(bitstamp, tmp_path / "other").fingerprint


def test_a_candle_that_is_late_is_asked_for_again(bitstamp: Bitstamp, tmp_path: Path) -> None:
    bitstamp.newest = LISTED + 99 * DAY
    assert read(bitstamp, tmp_path, end="2022-05-01").market.shape[0] == 70
    bitstamp.newest += 5 * DAY
    assert read(bitstamp, tmp_path, end="2022-05-01").market.shape[0] == 75


def test_the_candle_of_now_is_not_read(
    bitstamp: Bitstamp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange.time, "time", lambda: LISTED + 100 * DAY + 5.0)
    found = read(bitstamp, tmp_path, end=None)
    assert int(found.market.times[-1]) == LISTED + 100 * DAY


def test_time_before_the_listing_is_pointed_out(bitstamp: Bitstamp, tmp_path: Path) -> None:
    found = read(bitstamp, tmp_path, start="2019-01-01", symbols={"BTC": "BTC/USD"})
    assert int(found.market.times[0]) == LISTED + DAY and found.market.shape[0] == 760
    assert found.warnings == ("BTC: bitstamp has no candles of BTC/USD before 2022-01-02",)


def test_an_exchange_that_is_down_is_waited_for(bitstamp: Bitstamp, tmp_path: Path) -> None:
    bitstamp.failures = 3
    assert read(bitstamp, tmp_path).market.shape == (730, 2)
    bitstamp.failures = 100
    with pytest.raises(BacktestError, match=r"data.exchange: bitstamp: ExchangeNotAvailable"):
        read(bitstamp, tmp_path / "other")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exchange": "bitstmap"}, r"data.exchange: there is no 'bitstmap', is 'bitstamp' meant\?"),
        ({"symbols": {"BTC": "BTC/USDD"}}, r"symbols.BTC: there is no 'BTC/USDD', is 'BTC/USD' meant\? at bitstamp"),
        ({"timeframe": "7m"}, r"data.timeframe: bitstamp has .*1d.*, not 7m"),
        ({"start": None}, r"data.start: missing"),
        ({"start": "2024-01-31", "end": "2024-01-30"}, r"data.start, data.end: no candle ends between them"),
        ({"start": "2010-01-01", "end": "2010-02-01"}, r"symbols.BTC: bitstamp has no candles of BTC/USD in that time"),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    bitstamp: Bitstamp, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BacktestError, match=message):
        read(bitstamp, tmp_path, **settings)
