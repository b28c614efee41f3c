"""Candles of an exchange, through ccxt; complete ones only, kept on disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from offchain.backtest.errors import BacktestError
from offchain.data.cache import Span, Spans
from offchain.data.files import Found, no_such
from offchain.data.settings import DataSettings
from offchain.data.table import Series, day_of

if TYPE_CHECKING:
    from offchain.data.load import Progress

__all__ = ["read_exchange"]

SCHEMA = pa.schema([("opened", pa.int64()), ("close", pa.float64()), ("volume", pa.float64())])  # seconds UTC
PAGE = 500  # candles, what common exchanges give at a time
ATTEMPTS = 5
LONGEST_WAIT = 30.0  # seconds


def read_exchange(settings: DataSettings, base: Path, progress: Progress) -> Found:
    """Closes and volumes of `symbols`, each dated at its candle's end, the first moment at which it is known."""
    exchange = _exchange(settings)
    step = int(exchange.parse_timeframe(settings.timeframe))
    _attempt(exchange.load_markets, settings)
    found = Found()
    for name, symbol in settings.symbols.items():
        found.names.append(name)
        if settings.assets and name not in settings.assets:
            continue
        if symbol not in exchange.markets:
            raise BacktestError(
                f"data.symbols.{name}: {no_such(symbol, list(exchange.markets))} at {settings.exchange}"
            )
        key = {"exchange": settings.exchange, "symbol": symbol, "timeframe": settings.timeframe}
        spans = Spans(
            base / settings.cache, f"{settings.exchange}-{symbol}-{settings.timeframe}", key, SCHEMA
        )
        first, last = _asked(settings, step, time.time())
        for span in spans.missing(first, last):
            _fetch(
                exchange, symbol, span, step, spans, settings, lambda share, name=name: progress(name, share)
            )
        found.series.append(_series(name, symbol, spans, first, last, step, settings))
        if (begins := int(found.series[-1].times[0])) > first + step:
            found.remarks.append(
                f"{name}: {settings.exchange} has no candles of {symbol} before {day_of(begins)}"
            )
    return found


def _exchange(settings: DataSettings) -> Any:
    try:
        import ccxt  # type: ignore[import-untyped]
    except ImportError:
        raise BacktestError("data.source: ccxt is not installed: pip install '.[exchange-data]'") from None
    if settings.exchange not in ccxt.exchanges:
        raise BacktestError(f"data.exchange: {no_such(str(settings.exchange), ccxt.exchanges)}")
    exchange = getattr(ccxt, str(settings.exchange))({"enableRateLimit": True, **settings.exchange_options})
    if not exchange.has["fetchOHLCV"]:
        raise BacktestError(f"data.exchange: {settings.exchange} has no candles")
    if settings.timeframe not in exchange.timeframes:
        known = ", ".join(exchange.timeframes)
        raise BacktestError(f"data.timeframe: {settings.exchange} has {known}, not {settings.timeframe}")
    return exchange


def _asked(settings: DataSettings, step: int, now: float) -> Span:
    """When the first and the last candle open that end within start and end, and have ended."""
    start = settings.start_seconds
    if start is None:
        raise BacktestError("data.start: missing; from when shall candles be read?")
    first = -(-start // step) * step - step
    end = min(settings.end_seconds if settings.end_seconds is not None else int(now), int(now))
    last = end // step * step - step
    if last < first:
        raise BacktestError("data.start, data.end: no candle ends between them")
    return first, last


def _fetch(
    exchange: Any, symbol: str, span: Span, step: int, spans: Spans, settings: DataSettings, progress: Any
) -> None:
    """Candles that open within `span`, page by page, each kept as it comes.

    Time without candles is kept as empty only if candles follow: the newest may be late.
    """
    (begin, last), since = span, span[0]
    while since <= last:
        page = _page(exchange, symbol, since, settings)
        rows = [row for row in page if since * 1_000 <= row[0] <= last * 1_000 and row[4] is not None]
        if rows:
            until = max(row[0] for row in rows) // 1_000
            values = {
                "opened": [row[0] // 1_000 for row in rows],
                "close": [float(row[4]) for row in rows],
                "volume": [float(row[5] or 0) for row in rows],
            }
            spans.put((begin, until), values)
            begin = since = until + 1
        else:
            since += PAGE * step
        progress(min((since - span[0] + step) / (last - span[0] + step), 1.0))


def _page(exchange: Any, symbol: str, since: int, settings: DataSettings) -> list[list[Any]]:
    found = _attempt(lambda: exchange.fetch_ohlcv(symbol, settings.timeframe, since * 1_000, PAGE), settings)
    return list(found or [])


def _series(
    name: str, symbol: str, spans: Spans, first: int, last: int, step: int, settings: DataSettings
) -> Series:
    table = spans.read(first, last)
    if not len(table):
        raise BacktestError(
            f"data.symbols.{name}: {settings.exchange} has no candles of {symbol} in that time"
        )
    opened = table["opened"].to_numpy()
    close = np.array(table["close"].to_numpy())
    volume = np.array(table["volume"].to_numpy()) * close
    return Series(
        name, opened + step, close, lambda i: f"{settings.exchange}, candle {i + 1}", symbol, volume
    )


def _attempt(call: Any, settings: DataSettings) -> Any:
    """What the exchange answers; waits and tries again where it is busy."""
    import ccxt

    tries = Retrying(
        retry=retry_if_exception_type(ccxt.NetworkError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(max=LONGEST_WAIT),
        reraise=True,
    )
    try:
        return tries(call)
    except ccxt.BaseError as error:
        raise BacktestError(
            f"data.exchange: {settings.exchange}: {type(error).__name__}: {str(error)[:200]}"
        ) from None
