"""The hash chain of a vault's decisions, recomputed from its events (docs/spec.md, "Audit head").

An entry's data are what is hashed: `head' = keccak256(data)`, and every entry but the first begins with the head before
it. Pure: events in, head out, or an `AuditBreak` that names the first event that does not fit.
Lists are in the order of the vault's assets at that time; an asset in quarantine has price and balance 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from offchain.errors import EvenkeelError

SESSION: Final = 1  # the kinds of entry; genesis has none
REBALANCE: Final = 2
RULE: Final = 3

GENESIS_TYPES: Final = ("uint256", "address", "bytes32", "bytes32")
SESSION_TYPES: Final = (
    "bytes32", "uint256", "uint256", "bool", "uint256", "uint256", "uint256", "uint256", "uint256[]", "uint256[]",
)  # fmt: skip
REBALANCE_TYPES: Final = (
    "bytes32", "uint256", "uint256", "uint256", "uint256", "uint256", "uint256[]", "uint256[]", "uint256[]",
    "uint256[]", "address", "bytes32", "bytes32",
)  # fmt: skip
RULE_TYPES: Final = ("bytes32", "uint256", "string", "uint256", "bytes")


class AuditBreak(EvenkeelError):
    """The history does not add up: do not rely on this vault's record from this entry on."""

    def __init__(self, field: str, reason: str, position: "Position | None" = None) -> None:
        self.field = field
        self.reason = reason
        self.position = position
        where = (
            f"block {position.block}, transaction {position.transaction}" if position else "no transaction"
        )
        super().__init__(f"{where}, field {field}: {reason}")


@dataclass(frozen=True)
class Position:
    """Where an event stands in the chain."""

    block: int
    transaction: str  # 0x hash
    log_index: int  # in the block
    time: int = 0  # the block's timestamp; 0: not known


@dataclass(frozen=True)
class Created:
    """The vault was initialised: the first entry."""

    position: Position
    chain_id: int
    vault: str  # address
    codehash: bytes  # keccak256 of the implementation's code
    config_hash: bytes  # keccak256 of the abi-encoded Config that the factory was given


@dataclass(frozen=True)
class SessionOpened:
    """Somebody opened a session without trading."""

    position: Position
    previous_head: bytes
    kind: int
    session: int
    by_calendar: bool
    slot: int
    time: int  # seconds, UTC
    supply: int  # shares, 18 decimals
    flow_sequence: int
    prices: tuple[int, ...]  # USD WAD a whole token
    balances: tuple[int, ...]  # token units


@dataclass(frozen=True)
class Rebalanced:
    """The keeper traded."""

    position: Position
    keeper: str  # address; indexed, so not hashed
    previous_head: bytes
    kind: int
    session: int
    time: int  # seconds, UTC
    supply: int  # shares, 18 decimals
    flow_sequence: int
    prices: tuple[int, ...]  # USD WAD a whole token
    balances_before: tuple[int, ...]  # token units
    balances_after: tuple[int, ...]  # token units
    sells: tuple[int, ...]  # token units, as called with
    executor: str  # address
    payload_hash: bytes
    decision: bytes


@dataclass(frozen=True)
class RuleChanged:
    """The Timelock changed something."""

    position: Position
    previous_head: bytes
    kind: int
    name: str  # the Timelock's function, or the one whose effect it has: "pause" for unpause, too
    time: int  # seconds, UTC
    data: bytes  # its arguments without the vault, abi-encoded


Event = Created | SessionOpened | Rebalanced | RuleChanged


def head_after(e: Event) -> bytes:
    """The head that `e` leads to: the hash of what it says."""
    match e:
        case Created():
            return keccak(encode(GENESIS_TYPES, [e.chain_id, e.vault, e.codehash, e.config_hash]))
        case SessionOpened():
            values = [
                e.previous_head, e.kind, e.session, e.by_calendar, e.slot, e.time, e.supply, e.flow_sequence,
                e.prices, e.balances,
            ]  # fmt: skip
            return keccak(encode(SESSION_TYPES, values))
        case Rebalanced():
            values = [
                e.previous_head, e.kind, e.session, e.time, e.supply, e.flow_sequence, e.prices, e.balances_before,
                e.balances_after, e.sells, e.executor, e.payload_hash, e.decision,
            ]  # fmt: skip
            return keccak(encode(REBALANCE_TYPES, values))
        case RuleChanged():
            return keccak(encode(RULE_TYPES, [e.previous_head, e.kind, e.name, e.time, e.data]))


def recompute_head(
    events: Sequence[Event], chain_id: int, vault: str, implementation_codehash: bytes
) -> bytes:
    """The head that `events` lead to.

    Args:
        events: the vault's whole history, in the chain's order.
        chain_id: of the chain that the vault is on.
        vault: the vault's address.
        implementation_codehash: keccak256 of the code that the vault runs.

    Raises:
        AuditBreak: at the first event that does not fit, naming its block, transaction and field.

    """
    if not events:
        raise AuditBreak("kind", "no events: is this a vault, and does the history start at its creation?")
    first = events[0]
    if not isinstance(first, Created):
        raise AuditBreak(
            "kind", "the history does not start with Created: events are missing", first.position
        )
    _check_genesis(first, chain_id, vault, implementation_codehash)
    for before, event in pairwise(events):
        _check_link(before, event)
    return head_after(events[-1])


def _check_genesis(first: Created, chain_id: int, vault: str, implementation_codehash: bytes) -> None:
    """The first entry binds the chain, the vault and its code."""
    if first.chain_id != chain_id:
        raise AuditBreak("chain_id", f"created on chain {first.chain_id}, this is {chain_id}", first.position)
    if first.vault.lower() != vault.lower():
        raise AuditBreak("vault", f"this is the record of {first.vault}, not of {vault}", first.position)
    if first.codehash != implementation_codehash:
        reason = f"created with code 0x{first.codehash.hex()}, runs 0x{implementation_codehash.hex()}"
        raise AuditBreak("codehash", reason, first.position)


def _check_link(before: Event, event: Event) -> None:
    """`event` may follow `before`: by place, kind, head and time."""
    kinds = {SessionOpened: SESSION, Rebalanced: REBALANCE, RuleChanged: RULE}
    place = (event.position.block, event.position.log_index)
    if place <= (before.position.block, before.position.log_index):
        raise AuditBreak("position", "the event is not after the one before it", event.position)
    if isinstance(event, Created):
        raise AuditBreak("kind", "a second Created event: a vault is created once", event.position)
    if event.kind != kinds[type(event)]:
        raise AuditBreak("kind", f"{event.kind} in a {type(event).__name__} event", event.position)
    expected = head_after(before)
    if event.previous_head != expected:
        reason = (
            f"0x{event.previous_head.hex()} instead of 0x{expected.hex()}: the entry in block {before.position.block}, "
            f"transaction {before.position.transaction} was changed, or entries between are missing"
        )
        raise AuditBreak("previous_head", reason, event.position)
    if not isinstance(before, Created) and event.time < before.time:
        raise AuditBreak("time", f"{event.time} is before the last entry's {before.time}", event.position)
