"""Logs from a node in ranges that it accepts: halved where it refuses, doubled where it does not. The edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import requests
from eth_typing import BlockNumber
from web3 import Web3
from web3.exceptions import Web3Exception, Web3RPCError
from web3.types import FilterParams, LogReceipt

from offchain.audit.history import Log
from offchain.chain.errors import ChainError
from offchain.chain.events import BLOCKS_PER_REQUEST

__all__ = ["Tell", "Times", "creation_block", "logs_in", "to_log"]

MOST_BLOCKS = 16 * BLOCKS_PER_REQUEST  # a range never grows beyond
Tell = Callable[[str, int, int], None]  # what is being done; how much of how much


def logs_in(
    web3: Web3,
    filters: Sequence[dict[str, Any]],
    first: int,
    last: int,
    size: int = BLOCKS_PER_REQUEST,
) -> Iterator[tuple[int, int, list[LogReceipt]]]:
    """(first block, last block, logs of any of the filters in the chain's order) of each range from `first` to `last`.

    ChainError where the node refuses even a single block.
    """
    while first <= last:
        until = min(first + size - 1, last)
        try:
            found = [log for one in filters for log in _ask(web3, one, first, until)]
        except (Web3RPCError, requests.Timeout, requests.HTTPError) as error:
            if until == first:
                raise ChainError(f"the node does not give the logs of block {first}: {error}") from error
            size = (until - first + 1) // 2
            continue
        found.sort(key=lambda log: (log["blockNumber"], log["logIndex"]))
        yield first, until, found
        first = until + 1
        size = min(size * 2, MOST_BLOCKS)


def _ask(web3: Web3, wanted: dict[str, Any], first: int, last: int) -> list[LogReceipt]:
    asked = cast(FilterParams, wanted | {"fromBlock": first, "toBlock": last})
    return [log for log in web3.eth.get_logs(asked) if not log.get("removed")]


class Times:
    """Timestamps of blocks, each asked for once."""

    def __init__(self, web3: Web3) -> None:
        self._web3 = web3
        self._known: dict[int, int] = {}

    def of(self, block: int) -> int:
        """Of that block."""
        if block not in self._known:
            self._known[block] = int(self._web3.eth.get_block(BlockNumber(block))["timestamp"])
        return self._known[block]


def to_log(receipt: LogReceipt, time: int) -> Log:
    """The log as the verifier's data."""
    return Log(
        int(receipt["blockNumber"]),
        time,
        receipt["transactionHash"].to_0x_hex(),
        int(receipt["logIndex"]),
        tuple(bytes(topic) for topic in receipt["topics"]),
        bytes(receipt["data"]),
    )


def creation_block(web3: Web3, address: str, first: int, last: int) -> int:
    """The block since which there is code at `address`, by halving; `first` where the node does not know old states."""
    known = Web3.to_checksum_address(address)
    low, high = first, last
    try:
        while low < high:
            middle = (low + high) // 2
            if web3.eth.get_code(known, BlockNumber(middle)):
                high = middle
            else:
                low = middle + 1
    except (Web3Exception, ValueError):
        return first
    return low
