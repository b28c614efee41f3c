"""A second market source: an exchange's ticker through ccxt, to compare the oracle's prices with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from offchain.chain.errors import ConfigError
from offchain.policy import WAD
from offchain.settings import Settings

__all__ = ["Ticker"]

TIMEOUT_SECONDS = 10  # of one request


@dataclass(frozen=True)
class Ticker:
    """Prices of `symbols` at one exchange. The quote currency counts as US dollars: USD, USDT, USDC and the like."""

    exchange: Any  # ccxt's
    symbols: Mapping[str, str]  # symbol by token
    max_age_seconds: int = 300
    wall: Callable[[], float] = time.time
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def from_settings(cls, settings: Settings) -> Ticker | None:
        """None where no source is named; ConfigError where ccxt has no such exchange. Nothing is asked yet."""
        name = settings.market_source
        if name is None:
            return None
        if not settings.market_symbols:
            raise ConfigError(
                'market_symbols: market_source is set, so name a symbol a token, such as "0x…" = "ETH/USD"'
            )
        exchange, lock = _exchange(name, json.dumps(settings.market_options, sort_keys=True, default=str))
        return cls(exchange, settings.market_symbols, settings.market_max_age_seconds, _lock=lock)

    @property
    def name(self) -> str:
        """The exchange's."""
        return str(self.exchange.id)

    def prices(self) -> dict[str, int]:
        """USD WAD per whole token, by token: between bid and ask, or the last one where there are none.

        ConnectionError where one is missing, old or makes no sense.
        """
        with self._lock:
            return {token: self._price(symbol) for token, symbol in self.symbols.items()}

    def _price(self, symbol: str) -> int:
        import ccxt  # type: ignore[import-untyped]

        try:
            said = self.exchange.fetch_ticker(symbol)
        except ccxt.BadSymbol:
            raise ConnectionError(f"{self.name} has no {symbol} (market_symbols)") from None
        except Exception as error:  # ccxt's own words hold the address, and what the server sent
            raise ConnectionError(
                f"{self.name} gives no price of {symbol} ({type(error).__name__})"
            ) from None
        stamp = said.get("timestamp")  # milliseconds; some exchanges say none
        age = None if stamp is None else self.wall() - stamp / 1_000
        if age is not None and age > self.max_age_seconds:
            raise ConnectionError(f"{self.name}'s price of {symbol} is {age:.0f} s old")
        price = _middle(said)
        if price is None:
            raise ConnectionError(f"{self.name} gives no usable price of {symbol}")
        return int(price * WAD)


@lru_cache
def _exchange(name: str, options: str) -> tuple[Any, threading.Lock]:
    """The client of ccxt, one a process: what markets there are is asked once, and the exchange's pace is kept."""
    try:
        import ccxt
    except ImportError:
        raise ConfigError("market_source: ccxt is not installed: pip install '.[exchange-data]'") from None
    if name not in ccxt.exchanges:
        near = get_close_matches(name, ccxt.exchanges, 1)
        raise ConfigError(
            f"market_source: ccxt has no {name!r}" + (f", is {near[0]!r} meant?" if near else "")
        )
    timeout = {"enableRateLimit": True, "timeout": TIMEOUT_SECONDS * 1_000}
    exchange = getattr(ccxt, name)(timeout | json.loads(options))
    if not exchange.has["fetchTicker"]:
        raise ConfigError(f"market_source: {name} has no tickers")
    return exchange, threading.Lock()


def _middle(said: Mapping[str, Any]) -> Decimal | None:
    """Between bid and ask, else the last price; None where there is none above 0."""
    bid, ask, last = (_number(said.get(name)) for name in ("bid", "ask", "last"))
    if bid is not None and ask is not None and bid <= ask:
        return (bid + ask) / 2
    return last


def _number(value: object) -> Decimal | None:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() and found > 0 else None
