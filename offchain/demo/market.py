"""Real daily prices of US equities, adjusted for splits and dividends, from the file that skfolio carries.

skfolio itself is not imported: only its data file is read.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from offchain.chain.errors import ConfigError

__all__ = ["CASH", "STOCKS", "Day", "Token", "history"]

START = date(2020, 1, 2)  # the crash of spring 2020 and the recovery follow
TRADING_DAYS = 252  # one year
CLOSE_HOUR = 21  # UTC; New York closes at 20:00 or 21:00
PRICE_DECIMALS = 8  # of a Chainlink USD feed


@dataclass(frozen=True)
class Token:
    """A token of the demo's basket."""

    symbol: str
    name: str
    decimals: int
    target_bps: int
    column: str = ""  # in the price file; cash has none

    @property
    def scale(self) -> int:
        """Token units in one whole token."""
        return int(10**self.decimals)


@dataclass(frozen=True)
class Day:
    """One close."""

    date: date
    prices: tuple[int, ...]  # USD per whole token with PRICE_DECIMALS; stocks in order, then cash

    @property
    def timestamp(self) -> int:
        """When the market closed, seconds UTC."""
        return int(
            datetime(self.date.year, self.date.month, self.date.day, CLOSE_HOUR, tzinfo=UTC).timestamp()
        )


STOCKS = (
    Token("tAAPL", "Tokenized Apple", 18, 3_000, "AAPL"),
    Token("tJPM", "Tokenized JPMorgan Chase", 8, 2_500, "JPM"),
    Token("tXOM", "Tokenized Exxon Mobil", 18, 2_000, "XOM"),
)
CASH = Token("tUSD", "Test Dollar", 6, 2_500)


def history(days: int = TRADING_DAYS) -> list[Day]:
    """The first `days` trading days from START on."""
    found = [day for day in _all_days() if day.date >= START]
    if not 2 <= days <= len(found):
        raise ConfigError(
            f"days: {days} is not between 2 and {len(found)}, the trading days in the price file"
        )
    return found[:days]


@cache
def _all_days() -> tuple[Day, ...]:
    with gzip.open(_price_file(), "rt", newline="") as file:
        rows = csv.DictReader(file)
        return tuple(Day(date.fromisoformat(row["Date"]), _prices(row)) for row in rows)


def _prices(row: dict[str, str]) -> tuple[int, ...]:
    scale: int = 10**PRICE_DECIMALS
    return (*(round(float(row[stock.column]) * scale) for stock in STOCKS), scale)


def _price_file() -> Path:
    spec = find_spec("skfolio")  # finds the package without importing it
    if spec is None or spec.origin is None:
        raise ConfigError("skfolio is missing, which carries the price history: pip install '.[demo]'")
    file = Path(spec.origin).parent / "datasets" / "data" / "sp500_dataset.csv.gz"
    if not file.is_file():
        raise ConfigError(f"skfolio's price file is not where it is expected: {file}")
    return file
