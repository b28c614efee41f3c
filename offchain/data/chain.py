"""Prices from a chain: Chainlink's rounds and Uniswap's events, as they were known at each row's time, kept on disk.

Only blocks some way below the newest are read, so that no reorganisation changes what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from offchain.backtest.errors import BacktestError
from offchain.data.cache import Span, Spans
from offchain.data.files import Found
from offchain.data.node import Node, Refused, call_of, until_head
from offchain.data.settings import DataSettings, Pool, seconds_of
from offchain.data.table import Floats, Ints, Place, Series, day_of

if TYPE_CHECKING:
    from offchain.data.load import Progress

__all__ = ["read_chain"]

ROUNDS = pa.schema(
    [("round", pa.int64()), ("updated", pa.int64()), ("answer", pa.string())]
)  # updated 0: none
EVENTS = pa.schema(
    [("block", pa.int64()), ("log", pa.int64()), ("price", pa.float64()), ("depth", pa.float64())]
)  # token1 units for a unit of token0; token1 units of liquidity at the price (V2: the reserve)
TICKS = pa.schema([("tick", pa.int64()), ("block", pa.int64())])  # rows' times over `every`, blocks at them
MOST_ROUNDS = 1 << 40  # of a phase
CHUNK = 500  # rounds kept at a time
MOST_ROWS, MOST_RANGES = 20_000, 25  # events and requests that are kept at a time
LOOKS_BACK = (
    6  # how often the blocks before the first row are searched for a pool's price, each time twice as many
)
SYNC = "0x" + keccak(text="Sync(uint112,uint112)").hex()
SWAP_V3 = "0x" + keccak(text="Swap(address,address,int256,int256,uint160,uint128,int24)").hex()
Q96 = 1 << 96
NO_ROUND = ("revert", "no data present")  # what a node says when there is no such round


@dataclass(eq=False)
class Reader:
    """What reading needs."""

    node: Node
    settings: DataSettings
    cache: Path
    progress: Progress
    times: Ints  # (T,) of the rows
    found: Found

    def spans(self, title: str, key: dict[str, Any], schema: pa.Schema) -> Spans:
        """A series on disk, of this chain."""
        return Spans(
            self.cache, f"{title}-{self.node.chain_id}", self.node.key | {"title": title} | key, schema
        )


def read_chain(settings: DataSettings, base: Path, progress: Progress) -> Found:
    """Prices in USD of `feeds` and `pools` at each multiple of `every`."""
    for name, pool in settings.pools.items():
        if pool.quote != "USD" and pool.quote not in settings.feeds | settings.pools:
            raise BacktestError(
                f"data.pools.{name}.quote: {pool.quote!r} is neither USD nor one of feeds and pools"
            )
    try:
        node = Node(settings)
    except Refused as error:
        raise BacktestError(f"data.rpc_url: {settings.node()} does not answer as a node: {error}") from None
    found = Found(names=[*settings.feeds, *settings.pools])
    reader = Reader(node, settings, base / settings.cache, progress, _times(node, settings), found)
    known: dict[str, Series] = {}
    for name in settings.assets or found.names:
        if name in found.names:
            found.series.append(_read(reader, name, known, ()))
    return found


def _times(node: Node, settings: DataSettings) -> Ints:
    step = seconds_of(settings.every)
    newest = node.time_of(node.head)
    end = settings.end_seconds
    if end is not None:
        end = end // step * step
        until_head(node, end)
    last = (newest - 1 if end is None else end) // step
    first = -(-(settings.start_seconds or 0) // step)
    if last <= first:
        raise BacktestError(
            f"data.start: less than two rows, every {settings.every}, from {day_of(settings.start_seconds or 0)} to "
            f"{day_of(last * step)}; the newest block that is read is of {day_of(newest)}"
        )
    return np.arange(first, last + 1, dtype=np.int64) * step


def _read(reader: Reader, name: str, known: dict[str, Series], path: tuple[str, ...]) -> Series:
    """One asset in USD, after what it is quoted in."""
    if name in path:
        raise BacktestError(f"data.pools.{name}.quote: goes in a circle: {' in '.join((*path, name))}")
    if name not in known:
        if name in reader.settings.feeds:
            known[name] = _feed(reader, name, reader.settings.feeds[name])
        else:
            pool = reader.settings.pools[name]
            quote = None if pool.quote == "USD" else _read(reader, pool.quote, known, (*path, name))
            known[name] = _pool(reader, name, pool, quote)
    return known[name]


def _at(name: str, values: Floats, depth: Floats | None, times: Ints, place: Place) -> Series:
    """A series from the first row that has a price on."""
    begin = int(np.argmax(~np.isnan(values))) if not np.isnan(values).all() else len(values)
    return Series(
        name,
        times[begin:],
        values[begin:],
        lambda i: place(begin + i),
        "",
        None,
        None if depth is None else depth[begin:],
    )


# ---------------------------------------------------------------- Chainlink


def _feed(reader: Reader, name: str, feed: str) -> Series:
    """The last round's answer at each row."""
    try:
        decimals = _int(reader.node.call(feed, _data("decimals()")))
        latest = decode(ROUND, reader.node.call(feed, _data("latestRoundData()"), reader.node.head))
    except (Refused, DecodingError) as error:
        raise BacktestError(
            f"data.feeds.{name}: {feed} does not answer as a Chainlink feed: {error}"
        ) from None
    now_phase, last = latest[0] >> 64, latest[0] & (2**64 - 1)
    phases, rounds, updated, answers = [], [], [], []
    bound = np.iinfo(np.int64).max  # an older phase's rounds end where the next phase's begin
    for phase in range(now_phase, 0, -1) if now_phase else (0,):
        top = last if phase == now_phase else _last_round(reader.node, name, feed, phase)
        table = _phase(reader, name, feed, phase, top)
        when = table["updated"].to_numpy()
        used = (when > 0) & (when < bound)
        if used.any():
            phases.append(np.full(used.sum(), phase))
            rounds.append(table["round"].to_numpy()[used])
            updated.append(when[used])
            answers.append(
                np.array(
                    [int(answer) for answer in table["answer"].filter(pa.array(used)).to_pylist()], object
                )
            )
            bound = int(when[used].min())
            if bound <= reader.times[0]:
                break
    if not updated:
        raise BacktestError(f"data.feeds.{name}: {feed} has no rounds")
    all_updated = np.concatenate(updated)
    all_answers = np.concatenate(answers)
    order = np.lexsort((np.concatenate(rounds), all_updated))
    wrong = all_answers <= 0
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        reader.found.remarks.append(
            f"{name}: {int(wrong.sum())} rounds with answers of 0 or below are left out, "
            f"the first of {day_of(all_updated[at])}"
        )
        order = order[~wrong[order]]
    when, prices = (
        all_updated[order],
        np.array([float(answer) for answer in all_answers[order]]) / 10**decimals,
    )
    ids = [
        (int(p), int(r))
        for p, r in zip(np.concatenate(phases)[order], np.concatenate(rounds)[order], strict=True)
    ]
    at_row = np.searchsorted(when, reader.times, side="right") - 1

    def place(i: int) -> str:
        phase, number = ids[at_row[i]]
        return f"{name}, feed {feed}, phase {phase}, round {number}"

    return _at(name, np.where(at_row >= 0, prices[at_row], np.nan), None, reader.times, place)


ROUND = ["uint80", "int256", "uint256", "uint256", "uint80"]


def _phase(reader: Reader, name: str, feed: str, phase: int, top: int) -> Any:
    """A phase's rounds from `top` back to one that is known at the first row."""
    spans = reader.spans(f"chainlink-{feed}-{phase}", {}, ROUNDS)
    start = int(reader.times[0])
    newest = oldest = 0
    low = top + 1
    while low > 1:
        low, high = max(low - CHUNK, 1), low - 1
        for span in spans.missing(low, high):
            spans.put(span, _rounds(reader.node, name, feed, phase, span))
        when = spans.read(low, high)["updated"].to_numpy()
        if (when > 0).any():
            oldest = int(when[when > 0].min())
            newest = newest or int(when.max())
            reader.progress(name, min(max((newest - oldest) / max(newest - start, 1), 0.0), 1.0))
            if oldest <= start:
                break
    return spans.read(low, top)


def _rounds(node: Node, name: str, feed: str, phase: int, span: Span) -> dict[str, list[Any]]:
    numbers = range(span[0], span[1] + 1)
    asked = [
        ("eth_call", call_of(feed, _data("getRoundData(uint80)", phase << 64 | number))) for number in numbers
    ]
    found: dict[str, list[Any]] = {"round": list(numbers), "updated": [], "answer": []}
    for number, answer in zip(numbers, node.ask_many(asked), strict=True):
        _, value, _, updated, _ = _round(answer, f"data.feeds.{name}: phase {phase}, round {number}")
        found["updated"].append(updated)
        found["answer"].append(str(value))
    return found


def _round(answer: Any, where: str) -> tuple[int, ...]:
    """A round's five numbers, zeros if there is none."""
    if isinstance(answer, Refused):
        _check_revert(answer, where)
        return (0, 0, 0, 0, 0)
    try:
        return tuple(decode(ROUND, bytes.fromhex(answer.removeprefix("0x"))))
    except DecodingError:
        raise BacktestError(f"{where}: getRoundData does not answer as a Chainlink feed") from None


def _check_revert(error: Refused, where: str) -> None:
    """BacktestError if a refusal is the node's own, not the contract's."""
    if not any(words in str(error).lower() for words in NO_ROUND):
        raise BacktestError(f"{where}: the node: {error}") from None


def _last_round(node: Node, name: str, feed: str, phase: int) -> int:
    """Of an older phase: its aggregator says; if the proxy does not name it, searched for. 0: it has none."""
    try:
        aggregator = "0x" + node.call(feed, _data("phaseAggregators(uint16)", phase))[12:32].hex()
        return _int(node.call(aggregator, _data("latestRound()")))
    except Refused as error:
        _check_revert(error, f"data.feeds.{name}: phase {phase}")
    except DecodingError:
        pass

    def exists(number: int) -> bool:
        data = _data("getRoundData(uint80)", phase << 64 | number)
        (answer,) = node.ask_many([("eth_call", call_of(feed, data))])
        return _round(answer, f"data.feeds.{name}: phase {phase}, round {number}")[3] > 0

    high = 1
    while exists(high):
        high *= 2
        if high > MOST_ROUNDS:
            raise BacktestError(
                f"data.feeds.{name}: phase {phase} has a round at every number: is it a Chainlink proxy?"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exists(middle) else (low, middle)
    return low


def _data(signature: str, *arguments: int) -> str:
    """A call of a function of whole numbers."""
    words = b"".join(argument.to_bytes(32, "big") for argument in arguments)
    return "0x" + (function_signature_to_4byte_selector(signature) + words).hex()


def _int(answer: bytes) -> int:
    return int(decode(["uint256"], answer)[0])


# ---------------------------------------------------------------- Uniswap


def _pool(reader: Reader, name: str, pool: Pool, quote: Series | None) -> Series:
    """The pool's price at each row, in USD; and its depth on one side."""
    is_token0, decimals, version = _sides(reader.node, name, pool)
    blocks = _blocks(reader)
    table = _events(reader, name, pool.address, version, blocks)
    at_row = np.searchsorted(table["block"].to_numpy(), blocks, side="right") - 1
    none = at_row < 0
    raw = np.append(table["price"].to_numpy(), np.nan)[np.where(none, -1, at_row)]
    depth1 = np.append(table["depth"].to_numpy(), np.nan)[np.where(none, -1, at_row)]
    if is_token0:
        price, depth = raw * 10.0 ** (decimals[0] - decimals[1]), depth1 / 10.0 ** decimals[1]
    else:
        price, depth = 10.0 ** (decimals[1] - decimals[0]) / raw, depth1 / raw / 10.0 ** decimals[0]
    if quote is not None:
        of_quote = np.full(len(blocks), np.nan)
        of_quote[len(blocks) - len(quote.prices) :] = quote.prices
        price, depth = price * of_quote, depth * of_quote
    event_blocks = table["block"].to_numpy()

    def place(i: int) -> str:
        return f"{name}, pool {pool.address}, block {event_blocks[at_row[i]]}"

    return _at(name, price, depth, reader.times, place)


def _sides(node: Node, name: str, pool: Pool) -> tuple[bool, tuple[int, int], int]:
    """Whether the asset is token0, both tokens' decimals, and Uniswap's version."""
    try:
        tokens = ["0x" + node.call(pool.address, _data(f"token{i}()"))[12:32].hex() for i in (0, 1)]
        if pool.token.lower() not in tokens:
            raise BacktestError(
                f"data.pools.{name}.token: the pool {pool.address} is of {tokens[0]} and {tokens[1]}"
            )
        decimals = tuple(_int(node.call(token, _data("decimals()"))) for token in tokens)
        version = 3
        try:
            node.call(pool.address, _data("slot0()"))
        except Refused:
            node.call(pool.address, _data("getReserves()"))
            version = 2
    except (Refused, DecodingError) as error:
        raise BacktestError(
            f"data.pools.{name}: {pool.address} does not answer as a Uniswap pool: {error}"
        ) from None
    return tokens.index(pool.token.lower()) == 0, (decimals[0], decimals[1]), version


def _blocks(reader: Reader) -> Ints:
    """(T,) the last block at or before each row's time."""
    step = seconds_of(reader.settings.every)
    spans = reader.spans("blocks", {"every": step}, TICKS)
    first, last = int(reader.times[0]) // step, int(reader.times[-1]) // step
    for span in spans.missing(first, last):
        ticks = np.arange(span[0], span[1] + 1, dtype=np.int64)
        spans.put(span, {"tick": ticks, "block": reader.node.blocks_at(ticks * step)})
    return np.asarray(spans.read(first, last)["block"].to_numpy())


def _events(reader: Reader, name: str, pool: str, version: int, blocks: Ints) -> Any:
    """The pool's prices up to the last row, with one before the first row if there is one near."""
    spans = reader.spans(f"uniswap-v{version}-{pool}", {}, EVENTS)
    first, last = max(int(blocks[0]), 0), int(blocks[-1])
    _keep_events(reader, name, pool, version, spans, (first, last))
    silent = replace(reader, progress=lambda what, share: None)
    low, size = first, reader.settings.blocks_per_request
    known = spans.read(low, first)
    for _ in range(LOOKS_BACK):
        if len(known) or not low:
            break
        low, size = max(low - size, 0), 2 * size
        _keep_events(silent, name, pool, version, spans, (low, first))
        known = spans.read(low, first)
    found = spans.read(low, last)
    if not len(found):
        raise BacktestError(f"data.pools.{name}: no trades in blocks {low} to {last}")
    return found


def _keep_events(reader: Reader, name: str, pool: str, version: int, spans: Spans, asked: Span) -> None:
    topic, parse = (SYNC, _parse_v2) if version == 2 else (SWAP_V3, _parse_v3)
    for span in spans.missing(*asked):
        begin, rows, ranges = span[0], [], 0
        until = begin - 1
        try:
            for (_, until), logs in reader.node.logs(pool, [topic], span):
                rows += [row for row in map(parse, logs) if row is not None]
                ranges += 1
                if len(rows) >= MOST_ROWS or ranges >= MOST_RANGES:
                    _put(spans, (begin, until), rows)
                    begin, rows, ranges = until + 1, [], 0
                reader.progress(name, (until - asked[0] + 1) / (asked[1] - asked[0] + 1))
        finally:  # what came before a break is kept
            if until >= begin:
                _put(spans, (begin, until), rows)


def _put(spans: Spans, span: Span, rows: Sequence[tuple[Any, ...]]) -> None:
    spans.put(span, {column: [row[i] for row in rows] for i, column in enumerate(EVENTS.names)})


def _parse_v2(log: dict[str, Any]) -> tuple[int, int, float, float] | None:
    reserve0, reserve1 = _words(log, 2)
    if not reserve0 or not reserve1:
        return None
    return int(log["blockNumber"], 16), int(log["logIndex"], 16), reserve1 / reserve0, float(reserve1)


def _parse_v3(log: dict[str, Any]) -> tuple[int, int, float, float] | None:
    _, _, sqrt_price, liquidity, _ = _words(log, 5)
    if not sqrt_price:
        return None
    price, depth = sqrt_price * sqrt_price / (Q96 * Q96), liquidity * sqrt_price / Q96
    return int(log["blockNumber"], 16), int(log["logIndex"], 16), price, depth


def _words(log: dict[str, Any], count: int) -> list[int]:
    data = log["data"].removeprefix("0x")
    return [int(data[64 * i : 64 * i + 64], 16) for i in range(count)]
