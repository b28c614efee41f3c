"""What to load: the `[data]` table of a backtest file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from offchain.backtest.errors import BacktestError
from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError

__all__ = ["DataSettings", "Pool", "Source", "data_settings", "seconds_of"]

Source = Literal["sp500", "csv", "parquet", "pandas", "ccxt", "chain"]
When = date | datetime | Literal["common"] | str | None

FILES = {
    "path", "files", "layout", "date_column", "price_column", "asset_column", "volume_column", "date_format",
    "timezone", "daily", "delimiter", "decimal", "skip_lines", "sort",
}  # fmt: skip
ONLY = {
    "sp500": set(),
    "csv": FILES,
    "parquet": FILES - {"delimiter", "decimal", "skip_lines"},
    "pandas": FILES - {"path", "files", "delimiter", "decimal", "skip_lines"},
    "ccxt": {"exchange", "symbols", "timeframe", "exchange_options", "cache"},
    "chain": {
        "feeds", "pools", "every", "rpc_url", "rpc_timeout_seconds", "confirmations", "blocks_per_request",
        "calls_per_request", "cache",
    },
}  # fmt: skip
EVERYWHERE = {
    "source", "assets", "start", "end", "constant", "align", "gaps", "calendar", "fill_rows", "splits",
    "allow_jumps", "stale_rows", "dividends", "flows",
}  # fmt: skip
DURATIONS = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


class Pool(BaseModel):
    """A Uniswap V2 pair or V3 pool that prices an asset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(description="the pool's")
    token: str = Field(description="the asset's token, one of the pool's two")
    quote: str = Field(
        default="USD",
        description="what the other token is: USD for a dollar token, or another asset's name here",
    )

    @field_validator("address", "token")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return _address(value)


class DataSettings(BaseModel):
    """Where prices come from and what is done about what is wrong with them. Times are UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source = Field(
        description="sp500 (bundled), csv, parquet, pandas, ccxt (an exchange) or chain (a node)"
    )
    assets: list[str] | None = Field(
        default=None, min_length=1, description="which, in this order; default: all"
    )
    start: When = Field(
        default=None, description='first row from this time on; "common": when all assets exist'
    )
    end: When = Field(
        default=None, description='last row until this time (a date: its whole day); "common" as above'
    )
    constant: dict[str, float] = Field(default={}, description="assets of one price, such as { USDC = 1.0 }")
    # files
    path: Path | None = Field(
        default=None, description="a file, or a folder with a file an asset, named after it"
    )
    files: dict[str, Path] = Field(default={}, description="a file an asset, instead of path")
    layout: Literal["auto", "wide", "long", "ohlcv"] = Field(
        default="auto",
        description="wide: a column an asset; long: date, asset, price; ohlcv: open, high, low, close of one asset",
    )
    date_column: str | None = Field(default=None, description="default: by its name, else the first column")
    price_column: str | None = Field(default=None, description="of long and ohlcv; default: price or close")
    asset_column: str | None = Field(default=None, description="of long; default: asset, symbol or ticker")
    volume_column: str | None = Field(default=None, description="of long and ohlcv; default: volume")
    date_format: str | None = Field(
        default=None, description='such as "%d/%m/%Y", for dates that are not ISO'
    )
    timezone: str = Field(
        default="UTC", description="of times of day without a zone, such as America/New_York"
    )
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="default: , ; or tab, found out"
    )
    decimal: Literal[".", ","] = Field(default=".", description="the decimal sign")
    skip_lines: int = Field(default=0, ge=0, description="lines before the header")
    sort: bool = Field(default=False, description="put unsorted rows in order")
    # an exchange
    exchange: str | None = Field(default=None, description="ccxt's name of it, such as kraken")
    symbols: dict[str, str] = Field(default={}, description='by asset, such as { BTC = "BTC/USD" }')
    timeframe: str = Field(default="1d", description="of the candles; a row is dated at its candle's end")
    exchange_options: dict[str, Any] = Field(default={}, description="for ccxt's constructor")
    # a chain
    feeds: dict[str, str] = Field(default={}, description="Chainlink feeds (proxies) by asset")
    pools: dict[str, Pool] = Field(default={}, description="Uniswap V2 and V3 pools by asset")
    every: str = Field(
        default="1d", description="distance of rows: 15m, 1h, 1d, 1w; the last price known then is taken"
    )
    rpc_url: str | None = Field(
        default=None, description="the node; default: EVENKEEL_RPC_URL or ETH_RPC_URL"
    )
    rpc_timeout_seconds: float = Field(default=30, gt=0, description="how long one request may take")
    confirmations: int = Field(
        default=64, ge=0, description="blocks below the newest that are not read: reorganisations"
    )
    blocks_per_request: int = Field(
        default=5_000, ge=1, description="eth_getLogs at most; halved where a node refuses"
    )
    calls_per_request: int = Field(
        default=100, ge=1, description="in a batch at most; halved where a node refuses"
    )
    cache: Path = Field(default=Path(".evenkeel-cache"), description="folder that keeps what was fetched")
    # what is wrong with them
    daily: bool = Field(default=False, description="cut times to their date")
    align: Literal["refuse", "inner", "forward"] = Field(
        default="refuse",
        description="weekends that only some assets trade: inner leaves them out, forward carries prices over them",
    )
    gaps: Literal["refuse", "fill", "drop"] = Field(
        default="refuse",
        description="rows in which an asset has no price: fill takes the price before, drop leaves the row out",
    )
    calendar: str | None = Field(
        default=None, description="an exchange's, such as XNYS: a session without a row is a gap"
    )
    fill_rows: int = Field(default=5, ge=1, description="rows in a row that gaps = fill may fill")
    splits: dict[str, list[tuple[date, float]]] = Field(
        default={}, description='to adjust for: { AAPL = [["2014-06-09", 7]] }, 7 new shares for one'
    )
    allow_jumps: bool | dict[str, list[date]] = Field(
        default=False,
        description="prices that jump like a split are real: all, or those on the dates by asset",
    )
    stale_rows: int = Field(
        default=20, ge=0, description="rows of one price that are worth a warning; 0: never"
    )
    # what belongs to them
    dividends: Path | None = Field(
        default=None, description="file, wide or long, of dividends a share on their ex-dates"
    )
    flows: Path | None = Field(default=None, description="file with columns date, in_kind, by_route")

    @field_validator("start", "end")
    @classmethod
    def _is_time(cls, value: When) -> When:
        if isinstance(value, str) and value != "common":
            try:
                return datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
            except ValueError:
                raise ValueError(f'{value!r} is not a date such as "2020-01-31" and not "common"') from None
        return value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone such as UTC or America/New_York") from None
        return value

    @field_validator("every", "timeframe")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        seconds_of(value)
        return value

    @field_validator("feeds")
    @classmethod
    def _are_addresses(cls, values: dict[str, str]) -> dict[str, str]:
        return {name: _address(value) for name, value in values.items()}

    @field_validator("constant")
    @classmethod
    def _are_prices(cls, values: dict[str, float]) -> dict[str, float]:
        for name, price in values.items():
            if not 0 < price < float("inf"):
                raise ValueError(f"{name}: {price:g} is not a price above 0")
        return values

    @field_validator("splits")
    @classmethod
    def _are_ratios(cls, values: dict[str, list[tuple[date, float]]]) -> dict[str, list[tuple[date, float]]]:
        for name, splits in values.items():
            for when, ratio in splits:
                if not 0 < ratio < float("inf"):
                    raise ValueError(f"{name}: {ratio:g} on {when} is not a ratio above 0")
        return values

    @model_validator(mode="after")
    def _fits_the_source(self) -> DataSettings:
        for name in type(self).model_fields:
            if name in self.model_fields_set - EVERYWHERE - ONLY[self.source]:
                raise ValueError(f'{name}: source = "{self.source}" does not read it')
        missing = {
            "csv": (self.path is None) == (not self.files) and "path or files: one of them is needed",
            "parquet": (self.path is None) == (not self.files) and "path or files: one of them is needed",
            "ccxt": (not self.exchange and "exchange: missing, such as kraken")
            or (not self.symbols and 'symbols: missing, such as { BTC = "BTC/USD" }'),
            "chain": (not self.feeds and not self.pools and "feeds or pools: one of them is needed")
            or (self.start in (None, "common") and "start: missing; how far back shall be read?"),
        }.get(self.source)
        if missing:
            raise ValueError(missing)
        for name in sorted(set(self.feeds) & set(self.pools)):
            raise ValueError(f"pools: {name} is in feeds too")
        return self

    @property
    def start_seconds(self) -> int | None:
        """`start` as a timestamp; None if there is none or it is "common"."""
        return _timestamp(self.start, 0)

    @property
    def end_seconds(self) -> int | None:
        """`end` as a timestamp, the last second of the day if it is a date."""
        return _timestamp(self.end, 86_399)

    def node(self) -> str:
        """The node's address; BacktestError where none is named."""
        url = self.rpc_url or os.environ.get("EVENKEEL_RPC_URL") or os.environ.get("ETH_RPC_URL")
        if not url:
            raise BacktestError("data.rpc_url: no node is named, here or in EVENKEEL_RPC_URL or ETH_RPC_URL")
        return url


def data_settings(values: Mapping[str, Any]) -> DataSettings:
    """Settings of a table; BacktestError names each key that is wrong."""
    try:
        return DataSettings(**values)
    except ValidationError as error:
        raise BacktestError("; ".join(_line(item) for item in error.errors())) from None


def seconds_of(duration: str) -> int:
    """Of 15m, 1h, 1d, 1w; ValueError otherwise."""
    count, unit = duration[:-1], duration[-1:]
    if not count.isdecimal() or int(count) < 1 or unit not in DURATIONS:
        raise ValueError(f"{duration!r} is not a duration such as 15m, 1h, 1d or 1w")
    return int(count) * DURATIONS[unit]


def _address(value: str) -> str:
    try:
        return address_of(value, "address")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("address: ")) from None


def _timestamp(when: When, rest_of_day: int) -> int | None:
    if when is None or isinstance(when, str):
        return None
    if not isinstance(when, datetime):
        return int(datetime(when.year, when.month, when.day, tzinfo=UTC).timestamp()) + rest_of_day
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _line(error: Any) -> str:
    key = ".".join(str(part) for part in ("data", *error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    return f"data.{message}" if key == "data" else f"{key}: {message}"
