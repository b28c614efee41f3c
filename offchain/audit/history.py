"""A vault's history as data: its logs as the chain has them, decoded, and what they do not say. Pure.

The data of an audit entry are hashed as they are, so decoding is strict: data that are not the one encoding of what
they say are refused. Of the vault's transfers only the mints count: of the seed, of flows (which say it themselves) and
of collected fees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from offchain.audit.chain import (
    REBALANCE_TYPES,
    RULE_TYPES,
    SESSION_TYPES,
    AuditBreak,
    Created,
    Event,
    Position,
    Rebalanced,
    RuleChanged,
    SessionOpened,
)
from offchain.policy import Asset, Rules

__all__ = [
    "AnyEvent",
    "Config",
    "Flow",
    "History",
    "Issued",
    "Log",
    "MintedInKind",
    "RedeemedInKind",
    "Released",
    "SessionClosed",
    "SharesMinted",
    "decode_log",
    "decode_logs",
    "entries_of",
    "parse_config",
]

NOBODY = "0x" + "00" * 20
MAX_ASSETS = 16
MAX_DECIMALS = 255  # what a token can say in a uint8; more would be 10 to a power that no memory holds


@dataclass(frozen=True, slots=True)
class Log:
    """A log of the vault, as a node tells it."""

    block: int
    time: int  # timestamp of the block
    transaction: str  # 0x hash
    log_index: int  # in the block
    topics: tuple[bytes, ...]
    data: bytes

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.block, self.transaction, self.log_index, self.time)


@dataclass(frozen=True)
class MintedInKind:
    """Shares for their part of every asset."""

    position: Position
    caller: str
    receiver: str
    shares: int
    amounts: tuple[int, ...]  # token units, in the order of the assets then
    flow_sequence: int


@dataclass(frozen=True)
class RedeemedInKind:
    """A part of every asset, but the skipped ones, for shares."""

    position: Position
    caller: str
    receiver: str
    owner: str
    shares: int
    amounts: tuple[int, ...]
    skip: int  # bitmask
    flow_sequence: int


@dataclass(frozen=True)
class Issued:
    """Shares for one asset, through a teller."""

    position: Position
    teller: str
    receiver: str
    shares: int
    fee: int  # shares of nobody that melt
    asset: str
    paid: int  # token units
    flow_sequence: int


@dataclass(frozen=True)
class Released:
    """One asset for shares, through a teller."""

    position: Position
    teller: str
    owner: str
    receiver: str
    shares: int
    fee: int
    asset: str
    paid: int
    flow_sequence: int


@dataclass(frozen=True)
class SessionClosed:
    """The rebalance whose entry follows closed its session."""

    position: Position
    session: int


@dataclass(frozen=True)
class SharesMinted:
    """A transfer from nobody: of the seed, of the flow whose event follows, or of collected fees."""

    position: Position
    receiver: str
    shares: int


Flow = MintedInKind | RedeemedInKind | Issued | Released
AnyEvent = Event | Flow | SessionClosed | SharesMinted


@dataclass(frozen=True)
class Config:
    """What the vault was created with (interfaces/IVault.vyi)."""

    name: str
    symbol: str
    assets: tuple[Asset, ...]  # with the decimals that the tokens say
    rules: Rules
    oracle: str
    owner: str
    delay_seconds: int
    guardian: str
    strategist: str
    keepers: tuple[str, ...]
    fee_bps: int
    fee_recipient: str


@dataclass(frozen=True)
class History:
    """All that the verifier reads. The head binds the entries and, by its hash, the config; nothing else."""

    chain_id: int
    vault: str  # address
    codehash: bytes  # keccak256 of the implementation's code, as found
    config: bytes  # ABI-encoded, from the factory's VaultCreated
    logs: tuple[Log, ...]  # the vault's, in the chain's order
    decimals: Mapping[str, int]  # by token in lower case, of every token that ever was an asset
    melt_seconds: Mapping[str, int] = field(default_factory=dict)  # by teller in lower case
    seed: tuple[int, ...] | None = None  # token units that the vault was created with, where known


CONFIG_TYPE = (
    "(string,string,(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)[],"
    "(uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256),"
    "address,address,uint256,address,address,address[],uint256,address)"
)


def parse_config(data: bytes, decimals: Mapping[str, int]) -> Config:
    """The config of these bytes; AuditBreak when they are none, or a token's decimals are not known."""
    try:
        name, symbol, assets, rules, oracle, owner, delay, guardian, strategist, keepers, fee, recipient = (
            decode([CONFIG_TYPE], data)[0]
        )
    except (DecodingError, ValueError, OverflowError) as error:
        raise AuditBreak("config", f"cannot be decoded: {_line(error)}") from None
    return Config(
        name,
        symbol,
        tuple(with_decimals(row, decimals) for row in assets),
        Rules(*rules),
        to_checksum_address(oracle),
        to_checksum_address(owner),
        delay,
        to_checksum_address(guardian),
        to_checksum_address(strategist),
        tuple(to_checksum_address(keeper) for keeper in keepers),
        fee,
        to_checksum_address(recipient),
    )


def with_decimals(row: Sequence[object], decimals: Mapping[str, int]) -> Asset:
    """An `Asset` struct with the decimals that its token says; those in the struct count for nothing."""
    token, _, *rest = row
    known = decimals.get(str(token).lower())
    if known is None:
        raise AuditBreak("decimals", f"those of {token} are not known")
    if not 0 <= known <= MAX_DECIMALS:
        raise AuditBreak("decimals", f"those of {token} are above {MAX_DECIMALS}")
    return Asset(to_checksum_address(str(token)), known, *rest)  # type: ignore[arg-type]


_FLOW_TYPES = {
    MintedInKind: (("address", "address"), ("uint256", "uint256[]", "uint256")),
    RedeemedInKind: (("address",) * 3, ("uint256", "uint256[]", "uint256", "uint256")),
    Issued: (("address", "address"), ("uint256", "uint256", "address", "uint256", "uint256")),
    Released: (("address",) * 3, ("uint256", "uint256", "address", "uint256", "uint256")),
}
TYPES: dict[type[AnyEvent], tuple[tuple[str, ...], tuple[str, ...]]] = {  # indexed, in the data
    Created: ((), ("uint256", "address", "bytes32", "bytes32")),
    SessionOpened: ((), SESSION_TYPES),
    Rebalanced: (("address",), REBALANCE_TYPES),
    RuleChanged: ((), RULE_TYPES),
    SessionClosed: ((), ("uint256",)),
    **_FLOW_TYPES,
}
TOPICS: dict[bytes, type[AnyEvent]] = {
    keccak(text=f"{kind.__name__}({','.join(indexed + plain)})"): kind
    for kind, (indexed, plain) in TYPES.items()
}
TOPIC_OF = {kind: topic for topic, kind in TOPICS.items()}
TRANSFER = keccak(text="Transfer(address,address,uint256)")


def decode_log(log: Log) -> AnyEvent | None:
    """The event; None for approvals and transfers between holders. AuditBreak for what no vault logs."""
    if log.topics[:1] == (TRANSFER,):
        return _minted(log)
    kind = TOPICS.get(log.topics[0]) if log.topics else None
    if kind is None:
        return None
    indexed, plain = TYPES[kind]
    if len(log.topics) != 1 + len(indexed):
        raise AuditBreak("topics", f"{len(log.topics)} of a {kind.__name__} event", log.position)
    found = (*_indexed(indexed, log), *_plain(plain, kind.__name__, log))
    return kind(log.position, *found)  # type: ignore[arg-type]


def _minted(log: Log) -> SharesMinted | None:
    if len(log.topics) != 3:
        raise AuditBreak("topics", f"{len(log.topics)} of a Transfer event", log.position)
    sender, receiver = _indexed(("address", "address"), log)
    if sender != NOBODY:
        return None
    (shares,) = _plain(("uint256",), "Transfer", log)
    return SharesMinted(log.position, str(receiver), int(str(shares)))


def _indexed(types: Sequence[str], log: Log) -> list[object]:
    values: list[object] = []
    for kind, topic in zip(types, log.topics[1:], strict=True):
        if len(topic) != 32 or (kind == "address" and any(topic[:12])):
            raise AuditBreak("topics", f"0x{topic.hex()} is no {kind}", log.position)
        values.append(to_checksum_address(topic[12:]))
    return values


def _plain(types: Sequence[str], name: str, log: Log) -> list[object]:
    try:
        values = decode(types, log.data)
        canonical = encode(types, values)
    except (DecodingError, ValueError, OverflowError, UnicodeError) as error:
        raise AuditBreak("data", f"not those of a {name} event: {_line(error)}", log.position) from None
    if canonical != log.data:
        raise AuditBreak("data", f"not the one encoding of a {name} event", log.position)
    return [_value(kind, value) for kind, value in zip(types, values, strict=True)]


def _value(kind: str, value: object) -> object:
    if kind == "address":
        return to_checksum_address(str(value))
    return tuple(value) if isinstance(value, list | tuple) else value


def decode_logs(logs: Iterable[Log]) -> list[AnyEvent]:
    """All events among the logs, in their order."""
    return [event for log in logs if (event := decode_log(log)) is not None]


def entries_of(events: Iterable[AnyEvent]) -> list[Event]:
    """Those that extend the head."""
    return [e for e in events if isinstance(e, Created | SessionOpened | Rebalanced | RuleChanged)]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
