"""Quotes of outside venues, compared with the own route. Off unless venues are named (docs/planner.md, Aggregators)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from pydantic import SecretStr

from offchain.aggregators.base import Aggregator, Http, HttpVenue, Quote, QuoteRequest, ask
from offchain.aggregators.compare import AggregatedPlan, compared, improve, refusal, requests_for, with_quotes
from offchain.aggregators.cow import Cow
from offchain.aggregators.oneinch import OneInch
from offchain.aggregators.uniswapx import UniswapX
from offchain.aggregators.zeroex import ZeroEx
from offchain.chain.errors import ConfigError

__all__ = [
    "VENUES",
    "AggregatedPlan",
    "Aggregator",
    "Quote",
    "QuoteRequest",
    "ask",
    "compared",
    "improve",
    "refusal",
    "requests_for",
    "venues",
    "with_quotes",
]

VENUES: dict[str, type[HttpVenue]] = {venue.name: venue for venue in (ZeroEx, OneInch, Cow, UniswapX)}

HERE = ("127.0.0.1", "localhost", "::1")
SAFE = (
    ("https", False),
    ("https", True),
    ("http", True),
)  # scheme, on this machine: a key goes with the request


def venues(names: Sequence[str], urls: Mapping[str, str], timeout: float) -> tuple[Aggregator, ...]:
    """The clients of the named venues; their keys come from the environment and from nowhere else.

    `urls`: other addresses than the venues' own, by name. ConfigError, naming the setting or the variable, where
    something is wrong or missing.
    """
    for setting, named in (("aggregators", names), ("aggregator_urls", urls)):
        for name in named:
            if name not in VENUES:
                raise ConfigError(f"{setting}: {name!r} is not known; choose from {', '.join(VENUES)}")
    for name in names:
        if list(names).count(name) > 1:
            raise ConfigError(f"aggregators: {name} is named twice")
    return tuple(_client(name, urls.get(name, ""), timeout) for name in names)


def _client(name: str, url: str, timeout: float) -> HttpVenue:
    venue = VENUES[name]
    key = os.environ.get(venue.key_variable, "").strip() if venue.key_variable else ""
    if venue.key_variable and not key:
        raise ConfigError(f"aggregators: {name} needs a key in the environment variable {venue.key_variable}")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{venue.key_variable}: not a key: it has characters that no header can carry")
    parts = urlsplit(url or venue.default_url)
    if (
        not parts.hostname
        or (parts.scheme, parts.hostname in HERE) not in SAFE
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(
            f"aggregator_urls: {name}: {url!r} is not an https:// address (http:// on this machine only)"
        )
    return venue(Http(timeout), url, SecretStr(key) if key else None)
