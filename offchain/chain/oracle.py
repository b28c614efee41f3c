"""The vault's price oracle: prices with their statuses, and the statuses in words."""

from __future__ import annotations

from collections.abc import Sequence

from web3 import Web3

from offchain.chain.contracts import bind

__all__ = ["PRICE_STATUSES", "price_status", "read_prices"]

PRICE_STATUSES = (  # of PriceOracle, by number
    "OK",
    "NO_FEED",
    "CALL_FAILED",
    "BAD_ANSWER",
    "BAD_ROUND",
    "STALE",
    "SEQUENCER_DOWN",
    "DEVIATES",
    "NO_SECOND_SOURCE",
)


def price_status(number: int) -> str:
    """The status in words."""
    return PRICE_STATUSES[number] if number < len(PRICE_STATUSES) else f"status {number}"


def read_prices(web3: Web3, oracle: str, tokens: Sequence[str], block: int) -> list[tuple[int, int]]:
    """(USD WAD per whole token, status) of each token at `block`; a price is usable where the status is 0."""
    prices, statuses = (
        bind(web3, "PriceOracle", oracle).functions.prices(list(tokens)).call(block_identifier=block)
    )
    return [(int(price), int(status)) for price, status in zip(prices, statuses, strict=True)]
