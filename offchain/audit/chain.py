"""The hash chain of a vault's decisions, recomputed from its events (docs/spec.md, "Audit head").

Pure: events in, head out, or an `AuditBreak` that names the first event that does not fit.
A wrong value, a missing event and a changed order all show at the first head that differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from offchain.errors import EvenkeelError

GENESIS, SESSION, REBALANCE, RULE = range(4)  # the kinds of entry

ASSET_TYPE: Final = "(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
RULES_TYPE: Final = "(" + ",".join(["uint256"] * 12) + ")"
CONFIG_TYPE: Final = (
    f"(string,string,{ASSET_TYPE}[],{RULES_TYPE},address,address,address,address,address,uint256,address)"
)

GENESIS_TYPES: Final = ("uint256", "uint256", "address", "bytes32", "bytes32")
SESSION_TYPES: Final = (
    "bytes32", "uint256", "uint256", "uint256", "uint256", "uint256", "uint256[]", "uint256[]",
)  # fmt: skip
REBALANCE_TYPES: Final = (
    "bytes32", "uint256", "uint256", "uint256", "uint256", "uint256", "uint256[]", "uint256[]", "uint256[]",
    "uint256[]", "address", "bytes32", "bytes32",
)  # fmt: skip
RULE_TYPES: Final = ("bytes32", "uint256", "string", "uint256", "bytes32")


class AuditBreak(EvenkeelError):
    """The history does not add up: do not rely on this vault's record from this entry on."""

    def __init__(self, field: str, reason: str, position: "Position | None" = None) -> None:
        self.field = field
        self.reason = reason
        self.position = position
        where = f"block {position.block}, transaction {position.transaction}" if position else "no transaction"
        super().__init__(f"{where}, field {field}: {reason}")


@dataclass(frozen=True)
class Position:
    """Where an event stands in the chain."""

    block: int
    transaction: str  # 0x hash
    log_index: int  # in the block


@dataclass(frozen=True)
class Created:
    """The vault was initialised: the first entry."""

    position: Position
    config: tuple[Any, ...]  # the values of `Config` in the order of docs/spec.md
    head: bytes


@dataclass(frozen=True)
class SessionOpened:
    """Somebody opened a session without trading."""

    position: Position
    session: int
    by_calendar: bool  # not hashed: follows from the rules, the slot and the time
    slot: int  # not hashed: follows from the rules and the time
    time: int  # seconds, UTC
    supply: int  # shares, 18 decimals
    flow_sequence: int
    prices: tuple[int, ...]  # USD WAD a whole token
    balances: tuple[int, ...]  # token units
    head: bytes


@dataclass(frozen=True)
class Rebalanced:
    """The keeper traded."""

    position: Position
    session: int
    keeper: str  # not hashed
    executor: str
    time: int  # seconds, UTC
    supply: int  # shares, 18 decimals
    flow_sequence: int
    prices: tuple[int, ...]  # USD WAD a whole token
    balances_before: tuple[int, ...]  # token units
    balances_after: tuple[int, ...]  # token units
    sells: tuple[int, ...]  # token units, as called with
    payload_hash: bytes
    decision: bytes
    head: bytes


@dataclass(frozen=True)
class RuleChanged:
    """A setter ran."""

    position: Position
    name: str  # the setter's
    data: bytes  # its arguments, abi-encoded
    time: int  # seconds, UTC
    head: bytes


Event = Created | SessionOpened | Rebalanced | RuleChanged


def genesis_head(event: Created, chain_id: int, vault: str, implementation_codehash: bytes) -> bytes:
    """The first head: it binds the chain, the vault, its code and what it was created with."""
    config_hash = keccak(encode([CONFIG_TYPE], [event.config]))
    return keccak(encode(GENESIS_TYPES, [GENESIS, chain_id, vault, implementation_codehash, config_hash]))


def next_head(head: bytes, event: Event) -> bytes:
    """The head after `event`, which follows `head`."""
    match event:
        case SessionOpened(session=session, time=time, supply=supply, flow_sequence=flows, prices=prices):
            values = [head, SESSION, session, time, supply, flows, prices, event.balances]
            return keccak(encode(SESSION_TYPES, values))
        case Rebalanced(session=session, time=time, supply=supply, flow_sequence=flows, prices=prices):
            values = [
                head, REBALANCE, session, time, supply, flows, prices, event.balances_before,
                event.balances_after, event.sells, event.executor, event.payload_hash, event.decision,
            ]  # fmt: skip
            return keccak(encode(REBALANCE_TYPES, values))
        case RuleChanged(name=name, time=time, data=data):
            return keccak(encode(RULE_TYPES, [head, RULE, name, time, keccak(data)]))
        case Created():
            raise AuditBreak("kind", "a second Created event: a vault is created once", event.position)


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
        raise AuditBreak("kind", "the history does not start with Created: events are missing", first.position)
    head = genesis_head(first, chain_id, vault, implementation_codehash)
    _check_head(first, head)
    for before, event in pairwise(events):
        _check_order(before, event)
        _check_values(before, event, assets=len(first.config[2]))
        head = next_head(head, event)
        _check_head(event, head)
    return head


def _check_head(event: Event, head: bytes) -> None:
    if event.head != head:
        reason = (
            f"the event says 0x{event.head.hex()}, its values after the entry before give 0x{head.hex()}: "
            "a value was changed, or an entry before it is missing"
        )
        raise AuditBreak("head", reason, event.position)


def _check_order(before: Event, event: Event) -> None:
    place = (event.position.block, event.position.log_index)
    if place <= (before.position.block, before.position.log_index):
        raise AuditBreak("position", "the event is not after the one before it", event.position)


def _check_values(before: Event, event: Event, assets: int) -> None:
    """What must hold between entries whatever the hash says; names the field where the hash cannot."""
    if not isinstance(event, Created) and not isinstance(before, Created) and event.time < before.time:
        raise AuditBreak("time", f"{event.time} is before the last entry's {before.time}", event.position)
    for field in ("prices", "balances", "balances_before", "balances_after", "sells"):
        values = getattr(event, field, None)
        if values is not None and len(values) != assets:
            raise AuditBreak(field, f"{len(values)} values for {assets} assets", event.position)
