"""Uniswap pools: found through their factories, read at one block into the planner's snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from offchain.chain.contracts import (
    V2_FACTORY,
    V2_PAIR,
    V3_FACTORY,
    V3_POOL,
    ZERO,
    bind_abi,
)
from offchain.planner.pools import MAX_TICK, MIN_TICK, Pool, V2Pool, V3Pool

__all__ = ["PoolRef", "PoolSource", "discover", "read_pools", "read_v2", "read_v3"]

TICK_RANGE = 4_000  # ticks read each side of the price, at least: 1.0001 ** 4000 = +49 %, -33 %
WORD = 256  # initialised-tick flags in one word of the bitmap


@dataclass(frozen=True)
class PoolSource:
    """Where to look for pools."""

    v2_factories: Sequence[str] = ()
    v3_factories: Sequence[str] = ()
    v3_fees: Sequence[int] = (100, 500, 3000, 10000)  # millionths
    v2_fee_bps: int = 30


@dataclass(frozen=True)
class PoolRef:
    """A pool that exists; its price and liquidity are still to be read."""

    version: int  # 2 or 3
    address: str


def discover(web3: Web3, pairs: Sequence[tuple[str, str]], source: PoolSource, block: int) -> list[PoolRef]:
    """Every pool for one of the token pairs that the factories know at `block`."""
    pairs = [(Web3.to_checksum_address(a), Web3.to_checksum_address(b)) for a, b in pairs]
    calls: list[tuple[int, ContractFunction]] = []
    for factory in source.v2_factories:
        contract = bind_abi(web3, V2_FACTORY, factory)
        calls += [(2, contract.functions.getPair(a, b)) for a, b in pairs]
    for factory in source.v3_factories:
        contract = bind_abi(web3, V3_FACTORY, factory)
        calls += [(3, contract.functions.getPool(a, b, fee)) for a, b in pairs for fee in source.v3_fees]
    answers = _call_all(web3, [call for _, call in calls], block)
    return [
        PoolRef(version, address)
        for (version, _), address in zip(calls, answers, strict=True)
        if address != ZERO
    ]


def read_pools(
    web3: Web3, pairs: Sequence[tuple[str, str]], source: PoolSource, block: int
) -> tuple[Pool, ...]:
    """Snapshots at `block` of every pool for one of the token pairs that has liquidity."""
    found: list[Pool] = []
    for ref in discover(web3, pairs, source, block):
        pool = (
            read_v2(web3, ref.address, source.v2_fee_bps, block)
            if ref.version == 2
            else read_v3(web3, ref.address, block)
        )
        if pool is not None:
            found.append(pool)
    return tuple(found)


def read_v2(web3: Web3, address: str, fee_bps: int, block: int) -> V2Pool | None:
    """The pair at that block; None while it is empty."""
    pair = bind_abi(web3, V2_PAIR, address).functions
    token0, token1, reserves = _call_all(web3, [pair.token0(), pair.token1(), pair.getReserves()], block)
    if not reserves[0] or not reserves[1]:
        return None
    return V2Pool(address, token0, token1, fee_bps, reserves[0], reserves[1])


def read_v3(web3: Web3, address: str, block: int) -> V3Pool | None:
    """The pool at that block, with the ticks around its price; None while it has no price."""
    contract = bind_abi(web3, V3_POOL, address)
    view = contract.functions
    calls = [
        view.token0(),
        view.token1(),
        view.fee(),
        view.tickSpacing(),
        view.slot0(),
        view.liquidity(),
    ]
    token0, token1, fee, spacing, slot0, liquidity = _call_all(web3, calls, block)
    sqrt_price, tick = slot0[0], slot0[1]
    if sqrt_price == 0 or liquidity == 0:
        return None
    first, last = _words(tick, spacing)
    ticks = _initialised_ticks(web3, contract, spacing, range(first, last + 1), block)
    known_from = max(first * WORD * spacing, MIN_TICK)
    known_to = min((last * WORD + WORD - 1) * spacing, MAX_TICK)
    return V3Pool(
        address,
        token0,
        token1,
        fee,
        spacing,
        sqrt_price,
        tick,
        liquidity,
        ticks,
        known_from,
        known_to,
    )


def _words(tick: int, spacing: int) -> tuple[int, int]:
    """First and last word of the bitmap that cover TICK_RANGE around `tick` and one word each side of it."""
    lowest, highest = MIN_TICK // spacing // WORD, MAX_TICK // spacing // WORD
    first = (tick - TICK_RANGE) // spacing // WORD - 1
    last = (tick + TICK_RANGE) // spacing // WORD + 1
    return max(first, lowest), min(last, highest)


def _initialised_ticks(
    web3: Web3, pool: Contract, spacing: int, words: range, block: int
) -> tuple[tuple[int, int], ...]:
    """(tick, liquidityNet) in ascending order."""
    bitmaps = _call_all(web3, [pool.functions.tickBitmap(word) for word in words], block)
    ticks = [
        (word * WORD + bit) * spacing
        for word, bitmap in zip(words, bitmaps, strict=True)
        for bit in range(WORD)
        if bitmap >> bit & 1
    ]
    nets = _call_all(web3, [pool.functions.ticks(tick) for tick in ticks], block)
    return tuple((tick, net[1]) for tick, net in zip(ticks, nets, strict=True))


def _call_all(web3: Web3, calls: Sequence[ContractFunction], block: int) -> list[Any]:
    """The answers to `calls` at `block`, in order."""
    return [call.call(block_identifier=block) for call in calls]
