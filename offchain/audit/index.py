"""The index: vaults' logs from a node into a database, and their history by block out of it.

Any number of vaults in one pass, range by range; a later run goes on where one stopped. The hashes of blocks are kept:
where the node's differ, the chain was reorganised, and everything after the last block that both know is read again.
The database is SQLite in a file of its own, or the keeper's PostgreSQL. Only the logs and what they do not say is
stored; balances, NAV and the rest follow from them (`offchain.audit.points`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from eth_typing import BlockNumber
from eth_utils.crypto import keccak
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from web3 import Web3
from web3.exceptions import BlockNotFound
from web3.types import LogReceipt

from offchain.audit.chain import Created, RuleChanged
from offchain.audit.history import TOPIC_OF, TRANSFER, History, Log
from offchain.audit.logs import Tell, creation_block, logs_in
from offchain.audit.points import Point, Transfer, point_at, points, transfer_of
from offchain.audit.tables import LAYOUT, blocks, logs, meta, metadata, vaults
from offchain.audit.verify import complete, config_tokens
from offchain.chain.contracts import address_of, bind
from offchain.chain.errors import ChainError, ConfigError
from offchain.chain.events import BLOCKS_PER_REQUEST
from offchain.chain.vault import BlockRef, block_at, read_vault
from offchain.keeper.database import lock, open_database, reading, writing

__all__ = [
    "DEFAULT",
    "Difference",
    "Indexed",
    "at_block",
    "check",
    "compare",
    "history_of",
    "index_vaults",
    "load",
    "open_index",
]

DEFAULT = Path("evenkeel-index.sqlite")
ADDRESSES = 200  # in one eth_getLogs
MOST_REPLACED = 1_000  # reorganisations in a row while indexing
MOST_SHORTER = (
    100  # blocks by which a reorganisation may shorten the chain; a node further behind is not synced
)


@dataclass(frozen=True)
class Indexed:
    """How far a vault's index goes."""

    vault: str
    first_block: int
    last_block: int
    logs: int  # of the vault and of its tokens


@dataclass(frozen=True)
class Difference:
    """Where the index and the chain disagree."""

    block: int
    field: str
    indexed: str
    chain: str


class _ReplacedError(Exception):
    """The chain was reorganised while it was read."""


class _OvertakenError(Exception):
    """Another process wrote the same vaults meanwhile."""


def open_index(target: Path | str) -> Engine:
    """The index in this file, or at this SQLAlchemy address; made where there is none.

    ConfigError where it is of another layout.
    """
    engine = open_database(target)
    with writing(engine) as db:
        lock(db, "audit layout")
        metadata.create_all(db.connection())  # under the lock: of two processes at once one makes the tables
        found = db.scalar(select(meta.c.layout))
        if found is None:
            db.execute(insert(meta).values(layout=LAYOUT))
    if found not in (None, LAYOUT):
        engine.dispose()
        raise ConfigError(
            f"--database: the index there has layout {found}, this program writes {LAYOUT}: name another file; "
            "an index can be made again from the chain"
        )
    return engine


# ---------------------------------------------------------------- writing


def index_vaults(
    web3: Web3,
    engine: Engine,
    addresses: Sequence[str],
    *,
    from_block: int = 0,
    to_block: int | None = None,
    size: int = BLOCKS_PER_REQUEST,
    tell: Tell = lambda *_: None,
) -> list[Indexed]:
    """Bring the index of these vaults up to `to_block`, the newest if left out.

    `from_block`: not after the creation of any of them. `size`: blocks asked for at once, to begin with.

    Raises:
        ChainError: an address is not a vault, the chain does not come to rest, or the node is far behind the index.

    """
    chain_id = web3.eth.chain_id
    wanted = [address_of(address, "vault") for address in addresses]
    replaced = 0
    while replaced < MOST_REPLACED:
        last = block_at(web3, "latest" if to_block is None else BlockNumber(to_block))
        try:
            _rewind(web3, engine, chain_id)
            _register(web3, engine, chain_id, wanted, from_block, last.number)
            _follow(web3, engine, chain_id, wanted, last, size, tell)
            return [_how_far(engine, chain_id, vault) for vault in wanted]
        except _ReplacedError:
            replaced += 1
        except _OvertakenError:  # what the other one wrote need not be read again
            continue
    raise ChainError("the chain is reorganised again and again: try later, or another node")


def _rewind(web3: Web3, engine: Engine, chain_id: int) -> None:
    """Forget what came after the last block that the index and the node share.

    ChainError where the node only has not got that far yet: nothing is forgotten then.
    """
    common, newest = -1, None
    for number, found in _known_blocks(engine, chain_id):
        if newest is None:
            newest = number
            _check_not_behind(web3, newest)
        if _hash_of(web3, number) == found:
            common = number
            break
    if newest is None or common == newest:
        return
    with writing(engine) as db:
        lock(db, "audit", chain_id)
        for table, column in ((logs, logs.c.block), (blocks, blocks.c.number)):
            db.execute(delete(table).where(table.c.chain_id == chain_id, column > common))
        of_chain = vaults.c.chain_id == chain_id
        db.execute(
            delete(vaults).where(of_chain, vaults.c.first_block > common)
        )  # it may be created elsewhere
        db.execute(
            update(vaults).where(of_chain, vaults.c.next_block > common + 1).values(next_block=common + 1)
        )


def _known_blocks(engine: Engine, chain_id: int) -> Iterator[tuple[int, str]]:
    """(number, hash) of the blocks in the index, newest first; no transaction stays open while the node is asked."""
    before = None
    while before is None or before > 0:
        query = select(blocks.c.number, blocks.c.hash).where(blocks.c.chain_id == chain_id)
        if before is not None:
            query = query.where(blocks.c.number < before)
        with reading(engine) as db:
            some = db.execute(query.order_by(blocks.c.number.desc()).limit(100)).all()
        yield from ((row.number, row.hash) for row in some)
        if not some:
            return
        before = some[-1].number


def _check_not_behind(web3: Web3, newest: int) -> None:
    """A node that is still far from the newest block of the index says nothing about a reorganisation."""
    at = block_at(web3, "latest").number
    if at < newest - MOST_SHORTER:
        raise ChainError(
            f"rpc_url: the node is at block {at}, the index at {newest}: wait until the node has caught up, use "
            "another one, or name another file with --database where this is another chain of the same id"
        )


def _hash_of(web3: Web3, number: int) -> str | None:
    try:
        return block_at(web3, BlockNumber(number)).hash
    except BlockNotFound:
        return None


def _register(
    web3: Web3, engine: Engine, chain_id: int, wanted: Sequence[str], from_block: int, last: int
) -> None:
    """New vaults, each from the block of its creation."""
    with reading(engine) as db:
        query = select(vaults.c.vault).where(vaults.c.chain_id == chain_id)
        known = set(db.scalars(query))
    for vault in wanted:
        if vault in known:
            continue
        if not web3.eth.get_code(Web3.to_checksum_address(vault), BlockNumber(last)):
            raise ChainError(f"vault: no contract at {vault} on chain {chain_id} (wrong address or rpc_url?)")
        first = creation_block(web3, vault, from_block, last)
        with writing(engine) as db:
            lock(db, "audit", chain_id)
            if (
                db.scalar(
                    select(vaults.c.vault).where(vaults.c.chain_id == chain_id, vaults.c.vault == vault)
                )
                is None
            ):
                row = {"chain_id": chain_id, "vault": vault, "first_block": first, "next_block": first}
                db.execute(insert(vaults).values(**row))


def _follow(
    web3: Web3, engine: Engine, chain_id: int, wanted: Sequence[str], last: BlockRef, size: int, tell: Tell
) -> None:
    """Range by range up to the last block; _ReplacedError when the chain changed meanwhile."""
    rows = _rows(engine, chain_id, wanted)
    behind = {vault: row.next_block for vault, row in rows.items() if row.next_block <= last.number}
    if not behind:
        return
    facts = {vault: json.loads(rows[vault].facts) if rows[vault].facts else None for vault in behind}
    start = first = min(behind.values())
    while first <= last.number:
        active = [vault for vault, next_block in behind.items() if next_block <= first]
        later = [next_block for next_block in behind.values() if next_block > first]
        stop = min([last.number, *(next_block - 1 for next_block in later)])
        for begin, until, found in logs_in(web3, _filters(active, facts), first, stop, size):
            learned = _take(web3, engine, chain_id, active, facts, begin, until, found, last)
            tell("blocks", until - start + 1, last.number - start + 1)
            first, size = until + 1, max(until - begin + 1, 1)
            if learned:  # other tokens to ask for from here on
                break


def _filters(active: Sequence[str], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The vaults' own logs, and their tokens' transfers to and from them."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(active), ADDRESSES):
        some = list(active[start : start + ADDRESSES])
        found.append({"address": some})
        tokens = sorted({token for vault in some for token in (facts[vault] or {}).get("tokens", [])})
        found += _transfers(some, tokens) if tokens else []
    return found


def _transfers(some: Sequence[str], tokens: Sequence[str]) -> list[dict[str, Any]]:
    topic = "0x" + TRANSFER.hex()
    padded = ["0x" + "00" * 12 + vault[2:].lower() for vault in some]
    return [
        {"address": list(tokens), "topics": [topic, None, padded]},
        {"address": list(tokens), "topics": [topic, padded]},
    ]


def _take(
    web3: Web3,
    engine: Engine,
    chain_id: int,
    active: Sequence[str],
    facts: dict[str, Any],
    first: int,
    until: int,
    found: Sequence[LogReceipt],
    last: BlockRef,
) -> bool:
    """Write a range: its logs, the hashes of their blocks, how far the vaults are. True when a vault has new tokens."""
    rows, learned = _log_rows(chain_id, active, found), False
    for vault in active:  # tokens that this range brings into a basket: their transfers so far, too
        own = [row for row in rows if row["vault"] == vault and row["address"] == vault]
        if facts[vault] is None or any(_brings(row) for row in own):
            before = set((facts[vault] or {}).get("tokens", []))
            facts[vault] = _learn(web3, engine, chain_id, vault, own, last.number)
            new = sorted(set((facts[vault] or {}).get("tokens", [])) - before)
            learned = learned or bool(new)
            if new:
                begin = _row(engine, chain_id, vault).first_block
                for _, _, more in logs_in(web3, _transfers([vault], new), begin, until):
                    rows += _log_rows(chain_id, [vault], more)
    numbers = sorted({row["block"] for row in rows} | {until})
    told = {number: block_at(web3, BlockNumber(number)) for number in numbers}
    hashes = {row["block"]: row.pop("block_hash") for row in rows}
    if any(told[number].hash != found_hash for number, found_hash in hashes.items()):
        raise _ReplacedError
    if _hash_of(web3, last.number) != last.hash:  # a range without logs, too, was read from this one chain
        raise _ReplacedError
    unique = {(row["vault"], row["block"], row["log_index"]): row for row in rows}
    with writing(engine) as db:
        lock(db, "audit", chain_id)
        _check_next(db, chain_id, active, first)
        _check_parent(web3, db, chain_id, first)
        for vault in active:
            place = (logs.c.chain_id == chain_id, logs.c.vault == vault)
            db.execute(delete(logs).where(*place, logs.c.block >= first, logs.c.block <= until))
            at = (vaults.c.chain_id == chain_id, vaults.c.vault == vault)
            values = {"next_block": until + 1, "facts": json.dumps(facts[vault]) if facts[vault] else None}
            db.execute(update(vaults).where(*at).values(**values))
        _put_new(db, chain_id, list(unique.values()), told, first)
    return learned


def _put_new(
    db: Session, chain_id: int, rows: Sequence[dict[str, Any]], told: dict[int, BlockRef], first: int
) -> None:
    """Logs and blocks; of earlier blocks only what is not there yet."""
    early = [row for row in rows if row["block"] < first]
    for row in early:
        place = [logs.c[name] == row[name] for name in ("chain_id", "vault", "block", "log_index")]
        db.execute(delete(logs).where(*place))
    if rows:
        db.execute(insert(logs), list(rows))
    db.execute(delete(blocks).where(blocks.c.chain_id == chain_id, blocks.c.number.in_(list(told))))
    values = [
        {"chain_id": chain_id, "number": b.number, "hash": b.hash, "time": b.time} for b in told.values()
    ]
    db.execute(insert(blocks), values)


def _check_next(db: Session, chain_id: int, active: Sequence[str], first: int) -> None:
    """The range still begins where these vaults end: else another process went on, or back, and a gap would be left."""
    query = select(vaults.c.vault, vaults.c.next_block).where(vaults.c.chain_id == chain_id)
    found = {row.vault: row.next_block for row in db.execute(query.where(vaults.c.vault.in_(list(active))))}
    if found != dict.fromkeys(active, first):
        raise _OvertakenError


def _check_parent(web3: Web3, db: Session, chain_id: int, first: int) -> None:
    """The block before this range is still the one that was indexed."""
    place = (blocks.c.chain_id == chain_id, blocks.c.number == first - 1)
    known = db.scalar(select(blocks.c.hash).where(*place))
    if known is not None and _hash_of(web3, first - 1) != known:
        raise _ReplacedError


def _log_rows(chain_id: int, active: Iterable[str], found: Sequence[LogReceipt]) -> list[dict[str, Any]]:
    """Each log for each vault that it is about."""
    by_vault = {vault.lower(): vault for vault in active}
    rows = []
    for receipt in found:
        topics = [bytes(topic) for topic in receipt["topics"]]
        about = {str(receipt["address"]).lower()}
        if topics[:1] == [TRANSFER] and len(topics) == 3:
            about |= {"0x" + topic[12:].hex() for topic in topics[1:]}
        for vault in sorted(about & set(by_vault)):
            rows.append(
                {
                    "chain_id": chain_id,
                    "vault": by_vault[vault],
                    "block": int(receipt["blockNumber"]),
                    "log_index": int(receipt["logIndex"]),
                    "address": str(receipt["address"]),
                    "tx_hash": receipt["transactionHash"].to_0x_hex(),
                    "topics": " ".join(topic.hex() for topic in topics),
                    "data": bytes(receipt["data"]).hex(),
                    "block_hash": receipt["blockHash"].to_0x_hex(),
                }
            )
    return rows


def _brings(row: dict[str, Any]) -> bool:
    """A log that may change what the logs do not say: a token or a teller comes."""
    return any(row["topics"].startswith(TOPIC_OF[kind].hex()) for kind in (Created, RuleChanged))


def _learn(
    web3: Web3, engine: Engine, chain_id: int, vault: str, rows: Sequence[dict[str, Any]], last: int
) -> dict[str, Any] | None:
    """What the vault's logs so far, and these, do not say; None before its creation."""
    known = [log for log, address in _stored_logs(engine, chain_id, vault) if address == vault]
    seen = {(log.block, log.log_index) for log in known}
    more = [_to_log(row, 0) for row in rows if (row["block"], row["log_index"]) not in seen]
    everything = tuple(sorted([*known, *more], key=lambda log: (log.block, log.log_index)))
    implementation = bind(web3, "Vault", vault).functions.implementation().call(block_identifier=last)
    code = web3.eth.get_code(Web3.to_checksum_address(implementation), BlockNumber(last))
    found = complete(web3, vault, keccak(bytes(code)), everything, last)
    if not found.config:
        return None
    return {
        "codehash": found.codehash.hex(),
        "config": found.config.hex(),
        "decimals": dict(found.decimals),
        "melt_seconds": dict(found.melt_seconds),
        "seed": None if found.seed is None else [str(units) for units in found.seed],
        "tokens": config_tokens(found),
    }


# ---------------------------------------------------------------- reading


def _rows(engine: Engine, chain_id: int, wanted: Sequence[str]) -> dict[str, Any]:
    with reading(engine) as db:
        query = select(vaults).where(vaults.c.chain_id == chain_id, vaults.c.vault.in_(list(wanted)))
        return {row.vault: row for row in db.execute(query)}


def _row(engine: Engine, chain_id: int, vault: str) -> Any:
    """_OvertakenError where another process forgot the vault."""
    row = _rows(engine, chain_id, [vault]).get(vault)
    if row is None:
        raise _OvertakenError
    return row


def _how_far(engine: Engine, chain_id: int, vault: str) -> Indexed:
    row = _row(engine, chain_id, vault)
    with reading(engine) as db:
        count = db.scalar(
            select(func.count()).select_from(logs).where(logs.c.chain_id == chain_id, logs.c.vault == vault)
        )
    return Indexed(vault, row.first_block, row.next_block - 1, int(count or 0))


def _stored_logs(engine: Engine, chain_id: int, vault: str) -> list[tuple[Log, str]]:
    """The logs about a vault in the chain's order, each with the contract that logged it."""
    on = (blocks.c.chain_id == logs.c.chain_id) & (blocks.c.number == logs.c.block)
    query = (
        select(logs, blocks.c.time)
        .join(blocks, on)
        .where(logs.c.chain_id == chain_id, logs.c.vault == vault)
        .order_by(logs.c.block, logs.c.log_index)
    )
    with reading(engine) as db:
        return [(_to_log(row._asdict(), row.time), row.address) for row in db.execute(query)]


def _to_log(row: dict[str, Any], time: int) -> Log:
    topics = tuple(bytes.fromhex(topic) for topic in row["topics"].split())
    return Log(row["block"], time, row["tx_hash"], row["log_index"], topics, bytes.fromhex(row["data"]))


def load(engine: Engine, chain_id: int, vault: str) -> tuple[History, list[tuple[Transfer, int]]]:
    """A vault's history as the verifier takes it, and the transfers of its tokens with their times.

    ConfigError where the vault is not in the index.
    """
    vault = address_of(vault, "vault")
    row = _rows(engine, chain_id, [vault]).get(vault)
    if row is None or not row.facts:
        raise ConfigError(
            f"vault: {vault} of chain {chain_id} is not indexed: run `evenkeel audit index {vault}`"
        )
    facts = json.loads(row.facts)
    stored = _stored_logs(engine, chain_id, vault)
    own = tuple(log for log, address in stored if address == vault)
    moved = [
        (transfer, log.time)
        for log, address in stored
        if address != vault and (transfer := transfer_of(log, address, vault)) is not None
    ]
    seed = facts["seed"]
    history = History(
        chain_id,
        vault,
        bytes.fromhex(facts["codehash"]),
        bytes.fromhex(facts["config"]),
        own,
        facts["decimals"],
        facts["melt_seconds"],
        None if seed is None else tuple(int(units) for units in seed),
    )
    return history, moved


def history_of(engine: Engine, chain_id: int, vault: str) -> list[Point]:
    """The vault by block with events, from the index alone."""
    return points(*load(engine, chain_id, vault))


def at_block(engine: Engine, chain_id: int, vault: str, block: int, time: int) -> Point | None:
    """The vault at the end of any block, whose timestamp is given; None before its creation."""
    return point_at(*load(engine, chain_id, vault), block, time)


# ---------------------------------------------------------------- checking


def check(
    web3: Web3, engine: Engine, vault: str, samples: int = 20, tell: Tell = lambda *_: None
) -> tuple[int, list[Difference]]:
    """Compare blocks of the index with the node: (how many, where they differ).

    Of the blocks with events evenly spread ones, the newest block indexed, and as many blocks between events.
    The node must know the states at them.
    """
    history, moved = load(engine, web3.eth.chain_id, vault)
    row = _rows(engine, web3.eth.chain_id, [history.vault])[history.vault]
    numbers = [point.block for point in points(history, moved)]
    between = [(one + other) // 2 for one, other in pairwise(numbers) if other - one > 1]
    chosen = sorted({row.next_block - 1, *_spread(numbers, samples), *_spread(between, samples)})
    chosen = [number for number in chosen if number >= numbers[0]][-samples:]
    differences: list[Difference] = []
    for done, number in enumerate(chosen, start=1):
        at = block_at(web3, BlockNumber(number))
        point = point_at(history, moved, number, at.time)
        assert point is not None  # at or after the first
        differences += compare(web3, vault, point)
        tell("blocks checked", done, len(chosen))
    return len(chosen), differences


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly, with the last."""
    return list(numbers[:: -max(len(numbers) // max(most // 2, 1), 1)]) if numbers else []


def compare(web3: Web3, vault: str, point: Point) -> list[Difference]:
    """Where a point differs from what the vault answers at its block."""
    snapshot = read_vault(web3, vault, block_at(web3, BlockNumber(point.block)))
    state = snapshot.state
    number = bind(web3, "Vault", vault).functions.flow_sequence().call(block_identifier=point.block)
    pairs: list[tuple[str, object, object]] = [
        ("tokens", point.tokens, tuple(asset.token for asset in state.assets)),
        ("balances", point.balances, state.balances),
        ("supply", point.supply, state.supply),
        ("pending_fee_shares", point.pending_fee_shares, state.pending_fee_shares),
        ("flow_sequence", point.flow_sequence, number),
        ("head", point.head, snapshot.head),
    ]
    if point.priced_at == point.block:
        pairs.append(("prices", point.prices, state.prices))
    return [Difference(point.block, name, str(one), str(other)) for name, one, other in pairs if one != other]
