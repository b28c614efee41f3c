"""Vault events in block ranges that public nodes accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from web3 import Web3
from web3.types import EventData

from offchain.chain.contracts import bind

__all__ = ["BLOCKS_PER_REQUEST", "vault_events"]

BLOCKS_PER_REQUEST = 5_000  # blocks; what common public nodes allow in one eth_getLogs


def vault_events(
    web3: Web3,
    vault: str,
    from_block: int,
    to_block: int,
    *,
    blocks_per_request: int = BLOCKS_PER_REQUEST,
) -> list[EventData]:
    """Every event of `vault` from `from_block` to `to_block` inclusive, decoded, in chain order.

    Logs whose topic the ABI does not know are left out: the vault emits none.
    """
    contract = bind(web3, "Vault", vault)
    events: list[Any] = list(contract.events)  # type: ignore[call-overload]
    decoders = {event().topic: event() for event in events}
    found: list[EventData] = []
    for first, last in _ranges(from_block, to_block, blocks_per_request):
        logs = web3.eth.get_logs({"address": contract.address, "fromBlock": first, "toBlock": last})
        for log in logs:
            decoder = decoders.get(log["topics"][0].to_0x_hex()) if log["topics"] else None
            if decoder is not None:
                found.append(decoder.process_log(log))
    return sorted(found, key=lambda event: (event["blockNumber"], event["logIndex"]))


def _ranges(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last + 1, size):
        yield start, min(start + size - 1, last)
