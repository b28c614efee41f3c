"""Vault events in block ranges that public nodes accept; the swaps that pools logged in a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode
from eth_utils.crypto import keccak
from web3 import Web3
from web3.types import EventData, LogReceipt

from offchain.chain.contracts import bind

__all__ = ["BLOCKS_PER_REQUEST", "PoolSwap", "events_in", "pool_swaps", "vault_events"]

BLOCKS_PER_REQUEST = 5_000  # blocks; what common public nodes allow in one eth_getLogs
TRANSFER = keccak(text="Transfer(address,address,uint256)")  # ERC-20
SWAP_V2 = keccak(text="Swap(address,uint256,uint256,uint256,uint256,address)")  # Uniswap's pairs
SWAP_V3 = keccak(text="Swap(address,address,int256,int256,uint160,uint128,int24)")  # Uniswap's pools


@dataclass(frozen=True, slots=True)
class PoolSwap:
    """A swap as its pool logged it: token units into the pool, below 0 out of it. Anything can log such a thing."""

    pool: str  # address
    amount0: int
    amount1: int


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
    address = Web3.to_checksum_address(vault)
    found: list[EventData] = []
    for first, last in _ranges(from_block, to_block, blocks_per_request):
        logs = web3.eth.get_logs({"address": address, "fromBlock": first, "toBlock": last})
        found += events_in(web3, vault, logs)
    return sorted(found, key=lambda event: (event["blockNumber"], event["logIndex"]))


def events_in(web3: Web3, vault: str, logs: Iterable[LogReceipt]) -> list[EventData]:
    """Those of `logs` that `vault` emitted and the ABI knows, decoded; `web3` is asked for nothing."""
    contract = bind(web3, "Vault", vault)
    events: list[Any] = list(contract.events)  # type: ignore[call-overload]
    decoders = {event().topic: event() for event in events}
    found = []
    for log in logs:
        decoder = decoders.get(log["topics"][0].to_0x_hex()) if log["topics"] else None
        if decoder is not None and log["address"] == contract.address:
            found.append(decoder.process_log(log))
    return found


def pool_swaps(logs: Iterable[LogReceipt]) -> list[PoolSwap]:
    """The swaps that Uniswap V2 and V3 pools logged among `logs`, which are in the chain's order.

    A V2 pair counts as put in whatever it finds above its reserves; what lay there before the transaction is left out.
    """
    found = []
    sent: dict[str, int] = {}  # token units transferred to an address since its last swap
    for log in logs:
        topics, data = [bytes(topic) for topic in log["topics"]], bytes(log["data"])
        if topics[:1] == [TRANSFER] and len(topics) == 3 and len(data) == 32:
            receiver = Web3.to_checksum_address(topics[2][12:])
            sent[receiver] = sent.get(receiver, 0) + int.from_bytes(data, "big")
        elif topics[:1] == [SWAP_V2] and len(data) == 128:
            in0, in1, out0, out1 = decode(["uint256"] * 4, data)
            most = sent.pop(log["address"], 0) or in0 + in1
            if out0 and out1:  # paid on both sides, as flash swaps are
                found.append(PoolSwap(log["address"], in0 - out0, in1 - out1))
            elif out1:
                found.append(PoolSwap(log["address"], min(in0, most), -out1))
            else:
                found.append(PoolSwap(log["address"], -out0, min(in1, most)))
        elif topics[:1] == [SWAP_V3] and len(data) == 160:
            amount0, amount1, *_ = decode(["int256", "int256", "uint160", "uint128", "int24"], data)
            found.append(PoolSwap(log["address"], amount0, amount1))
    return found


def _ranges(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last + 1, size):
        yield start, min(start + size - 1, last)
