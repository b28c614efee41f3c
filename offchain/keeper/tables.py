"""The journal's tables. What changes here needs a migration (`offchain/keeper/migrations`)."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from offchain.keeper.costs import Entry

__all__ = [
    "Alert",
    "Attempt",
    "Base",
    "Decimals",
    "Nonce",
    "NonceState",
    "Purpose",
    "Run",
    "Slot",
    "Status",
    "costs",
]


class Status(StrEnum):
    """How far a run got."""

    PLANNED = "planned"
    SIMULATED = "simulated"
    SENT = "sent"
    MINED = "mined"  # it succeeded, and is not yet as deep as the chain's `confirmations`
    CONFIRMED = "confirmed"
    FAILED = "failed"
    SKIPPED = "skipped"


class NonceState(StrEnum):
    """What became of a nonce of the account."""

    RESERVED = "reserved"  # for a run; nothing is signed with it
    FREE = "free"  # its run ended before anything was signed: the next intent takes it
    LIVE = "live"  # something was signed with it, and the chain has not used it yet
    USED = "used"  # the chain has: by one of the attempts, or by somebody else
    FINAL = "final"  # so deep in the chain that nothing replaces it: not looked at again


class Purpose(StrEnum):
    """What an attempt is for."""

    CALL = "call"  # what its run wants
    CANCEL = "cancel"  # nothing at all, to free the nonce: a transfer of 0 to oneself


class Decimals(TypeDecorator[int]):
    """An integer of any size, kept as its decimal digits: databases' own end at 63 bits."""

    impl = String(80)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """From the database."""
        return None if value is None else int(value)


class Base(DeclarativeBase):
    """Integers are 64 bits wide; SQLite numbers rows by itself in a plain INTEGER only."""

    type_annotation_map = {  # noqa: RUF012
        int: BigInteger().with_variant(Integer, "sqlite"),
        datetime: DateTime(timezone=True),
    }


class Run(Base):
    """One look at a vault, and what came of it."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    vault: Mapped[str] = mapped_column(String(42), index=True)
    chain_id: Mapped[int]
    block: Mapped[int]
    session: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    tx_hash: Mapped[str | None] = mapped_column(
        String(66), default=None
    )  # the latest attempt, or the mined one
    nonce: Mapped[int | None] = mapped_column(default=None)
    sender: Mapped[str | None] = mapped_column(String(42), default=None)
    deadline: Mapped[int | None] = mapped_column(default=None)  # timestamp, chain time
    decision: Mapped[str | None] = mapped_column(String(66), default=None)
    record: Mapped[str | None] = mapped_column(Text, default=None)  # canonical JSON, `decision` is its hash
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    updated_at: Mapped[datetime] = mapped_column(
        default=lambda: datetime.now(UTC), onupdate=lambda: datetime.now(UTC)
    )


class Nonce(Base):
    """A nonce of an account, and the one run that it is for."""

    __tablename__ = "nonces"

    chain_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sender: Mapped[str] = mapped_column(String(42), primary_key=True)
    nonce: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))  # None: it only fills a gap
    state: Mapped[str] = mapped_column(String(16), index=True)


class Attempt(Base):
    """A signed transaction, written down before a node sees it. Several of one nonce: at most one is mined."""

    __tablename__ = "attempts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["chain_id", "sender", "nonce"], ["nonces.chain_id", "nonces.sender", "nonces.nonce"]
        ),
        Index("ix_attempts_nonce", "chain_id", "sender", "nonce"),
        Index("ix_attempts_tx_hash", "chain_id", "tx_hash", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    chain_id: Mapped[int]
    sender: Mapped[str] = mapped_column(String(42))
    nonce: Mapped[int]
    run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    tx_hash: Mapped[str] = mapped_column(String(66))
    raw: Mapped[str] = mapped_column(Text)  # hex, what eth_sendRawTransaction takes
    gas: Mapped[int]  # limit, units
    max_fee: Mapped[int] = mapped_column(Decimals)  # wei a gas unit; the gas price where there is no base fee
    tip: Mapped[int | None] = mapped_column(Decimals)  # wei a gas unit; None: the chain has no base fee
    sent_block: Mapped[int]  # the newest when it was signed
    sent_time: Mapped[int]  # that block's timestamp
    note: Mapped[str] = mapped_column(Text, default="")  # what the node said when it did not take it
    block: Mapped[int | None] = mapped_column(default=None, index=True)  # the one it is in
    block_hash: Mapped[str | None] = mapped_column(String(66), default=None)
    block_time: Mapped[int | None] = mapped_column(default=None)  # timestamp
    gas_wei: Mapped[int | None] = mapped_column(
        Decimals, default=None
    )  # what it cost, wei of the native token


class Alert(Base):
    """Something that somebody is to know: kept so that a restart, or another worker, does not say it again."""

    __tablename__ = "alerts"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)  # kind and subject
    kind: Mapped[str] = mapped_column(String(32))
    since: Mapped[int]  # UTC seconds, as all times here
    seen_at: Mapped[int]  # when it was last so
    sent_at: Mapped[int | None] = mapped_column(default=None)  # last message that was delivered
    claimed_until: Mapped[int] = mapped_column(default=0)  # somebody is sending it
    text: Mapped[str] = mapped_column(Text, default="")


class Slot(Base):
    """The last time of a schedule that was done, so that a restart knows what it missed."""

    __tablename__ = "slots"

    chain_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    vault: Mapped[str] = mapped_column(String(42), primary_key=True)
    job: Mapped[str] = mapped_column(String(16), primary_key=True)  # what is done: rebalance, targets
    done_at: Mapped[int]  # UTC seconds


_COLUMNS: dict[str, Any] = {"bool": Boolean, "int": Decimals, "int | None": Decimals, "str": Text}
_SMALL = ("block", "time", "gas_used", "predicted_gas_used")  # fit a database's integers
_INTEGER = BigInteger().with_variant(Integer, "sqlite")
costs = Table(
    "costs",
    Base.metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    *(
        Column(
            field.name,
            _INTEGER if field.name in _SMALL else _COLUMNS[str(field.type)],
            nullable="None" in str(field.type),
        )
        for field in fields(Entry)
    ),
)
