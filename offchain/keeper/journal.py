"""The keeper's journal on SQLite: each step is written down before it is taken.

A run is `planned`, `simulated`, `sent`, then `confirmed` or `failed`; or it is `skipped`. The signed transaction
is kept from `sent` on, so that a keeper that died there finds it again instead of making a second one.
What a mined transaction cost (table `costs`) is written together with its run's end: once, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    delete,
    event,
    insert,
    select,
)
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from offchain.chain.errors import ConfigError
from offchain.keeper.costs import Entry

__all__ = ["REVERTED", "Journal", "Run", "Status"]

REVERTED = "reverted on chain"  # how the reason of a run begins whose transaction was mined and failed


class Status(StrEnum):
    """How far a run got."""

    PLANNED = "planned"
    SIMULATED = "simulated"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    SKIPPED = "skipped"


UNFINISHED = (Status.PLANNED, Status.SIMULATED, Status.SENT)


class _Base(DeclarativeBase):
    pass


class Run(_Base):
    """One look at a vault, and what came of it."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    vault: Mapped[str] = mapped_column(String(42), index=True)
    chain_id: Mapped[int]
    block: Mapped[int]
    session: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    tx_hash: Mapped[str | None] = mapped_column(String(66), default=None)
    nonce: Mapped[int | None] = mapped_column(default=None)
    raw_tx: Mapped[str | None] = mapped_column(Text, default=None)
    sender: Mapped[str | None] = mapped_column(String(42), default=None)
    deadline: Mapped[int | None] = mapped_column(default=None)  # timestamp, chain time
    decision: Mapped[str | None] = mapped_column(String(66), default=None)
    record: Mapped[str | None] = mapped_column(
        Text, default=None
    )  # canonical JSON that `decision` is the hash of
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        default=lambda: datetime.now(UTC),
        onupdate=lambda: datetime.now(UTC),
    )


class _Decimals(TypeDecorator[int]):
    """An integer of any size, kept as its decimal digits: SQLite's own end at 63 bits."""

    impl = String(80)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


_COLUMNS: dict[str, Any] = {"bool": Boolean, "int": _Decimals, "int | None": _Decimals, "str": Text}
_SMALL = ("block", "time", "gas_used", "predicted_gas_used")  # fit SQLite's integers
_costs = Table(
    "costs",
    _Base.metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    *(
        Column(
            field.name,
            Integer if field.name in _SMALL else _COLUMNS[str(field.type)],
            nullable="None" in str(field.type),
        )
        for field in fields(Entry)
    ),
)


class Journal:
    """Runs of any number of vaults in one SQLite file (`:memory:` for none)."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._engine = _open(self.path)

    def skip(self, vault: str, chain_id: int, block: int, session: int, reason: str) -> None:
        """Note that nothing was done; the same reason again only moves the last entry's block and time."""
        with Session(self._engine) as db, db.begin():
            last = db.scalar(
                select(Run)
                .where(Run.vault == vault, Run.chain_id == chain_id)
                .order_by(Run.id.desc())
                .limit(1)
            )
            if last is not None and (last.status, last.reason, last.session) == (
                Status.SKIPPED,
                reason,
                session,
            ):
                last.block, last.updated_at = block, datetime.now(UTC)
                return
            db.add(
                Run(
                    vault=vault,
                    chain_id=chain_id,
                    block=block,
                    session=session,
                    status=Status.SKIPPED,
                    reason=reason,
                )
            )

    def plan(
        self,
        vault: str,
        chain_id: int,
        block: int,
        session: int,
        reason: str,
        decision: str,
        record: str,
        deadline: int,
    ) -> int:
        """Note a plan before it is simulated; the run's id."""
        run = Run(
            vault=vault,
            chain_id=chain_id,
            block=block,
            session=session,
            status=Status.PLANNED,
            reason=reason,
            decision=decision,
            record=record,
            deadline=deadline,
        )
        with Session(self._engine) as db, db.begin():
            db.add(run)
            db.flush()
            return run.id

    def simulated(self, run_id: int) -> None:
        """The node accepts the plan in an eth_call."""
        self._update(run_id, status=Status.SIMULATED)

    def sent(self, run_id: int, *, tx_hash: str, nonce: int, raw_tx: str, sender: str) -> None:
        """The transaction is signed and about to be given to the node."""
        self._update(
            run_id,
            status=Status.SENT,
            tx_hash=tx_hash,
            nonce=nonce,
            raw_tx=raw_tx,
            sender=sender,
        )

    def confirmed(self, run_id: int, cost: Entry | None = None) -> None:
        """The transaction is mined and succeeded; `cost` is what it cost."""
        self._update(run_id, cost, status=Status.CONFIRMED)

    def failed(self, run_id: int, reason: str, cost: Entry | None = None) -> None:
        """The run ended without a rebalance; `cost` is the gas of a transaction that was mined and failed."""
        self._update(run_id, cost, status=Status.FAILED, reason=reason)

    def dropped(self, run_id: int) -> None:
        """The block that the transaction was in is no longer part of the chain: it is to be settled again."""
        self._update(run_id, status=Status.SENT, reason="settled again: its block was replaced")

    def dry(self, run_id: int, reason: str) -> None:
        """The run ended after the simulation because nothing is to be sent."""
        self._update(run_id, status=Status.SKIPPED, reason=reason)

    def unfinished(self, vault: str, chain_id: int) -> Sequence[Run]:
        """Runs of the vault that a crash or a time-out left half way, oldest first."""
        query = (
            select(Run)
            .where(Run.vault == vault, Run.chain_id == chain_id, Run.status.in_(UNFINISHED))
            .order_by(Run.id)
        )
        with Session(self._engine, expire_on_commit=False) as db:
            return db.scalars(query).all()

    def reverts(self, vault: str, chain_id: int) -> Sequence[Run]:
        """Runs that reverted on chain since the last rebalance of the vault, oldest first."""
        confirmed = (
            select(Run.id)
            .where(Run.vault == vault, Run.chain_id == chain_id, Run.status == Status.CONFIRMED)
            .order_by(Run.id.desc())
            .limit(1)
        )
        with Session(self._engine, expire_on_commit=False) as db:
            query = (
                select(Run)
                .where(
                    Run.vault == vault,
                    Run.chain_id == chain_id,
                    Run.id > (db.scalar(confirmed) or 0),
                    Run.status == Status.FAILED,
                    Run.reason.startswith(REVERTED),
                )
                .order_by(Run.id)
            )
            return db.scalars(query).all()

    def runs(self, vault: str | None = None, limit: int = 100) -> Sequence[Run]:
        """The latest runs, newest first."""
        query = select(Run).order_by(Run.id.desc()).limit(limit)
        if vault is not None:
            query = query.where(Run.vault == vault)
        with Session(self._engine, expire_on_commit=False) as db:
            return db.scalars(query).all()

    def costs(
        self, vault: str, chain_id: int | None = None, latest: int | None = None
    ) -> Sequence[tuple[Run, Entry]]:
        """The vault's ledger, oldest first: what each mined transaction cost, or the `latest` of them."""
        query = select(Run, _costs).join(_costs, _costs.c.run == Run.id).where(Run.vault == vault)
        if chain_id is not None:
            query = query.where(Run.chain_id == chain_id)
        query = query.order_by(Run.id.desc()).limit(latest)
        names = [field.name for field in fields(Entry)]
        with Session(self._engine, expire_on_commit=False) as db:
            rows = db.execute(query).all()
        return [(row.Run, Entry(**{name: row._mapping[name] for name in names})) for row in reversed(rows)]

    def close(self) -> None:
        """Let the file go."""
        self._engine.dispose()

    def _update(self, run_id: int, cost: Entry | None = None, **values: object) -> None:
        """Change the run; its transaction's line in the ledger is `cost`, or none. All of it or nothing."""
        with Session(self._engine) as db, db.begin():
            run = db.get_one(Run, run_id)
            for name, value in values.items():
                setattr(run, name, value)
            same = select(Run.id).where(Run.tx_hash == run.tx_hash, Run.chain_id == run.chain_id)
            db.execute(delete(_costs).where(_costs.c.run.in_(same)))
            if cost is not None:
                db.execute(insert(_costs).values(run=run_id, **asdict(cost)))


def _open(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _durable(connection: object, _record: object) -> None:
        connection.execute("PRAGMA synchronous=FULL")  # type: ignore[attr-defined]  # survives a power cut

    try:
        _Base.metadata.create_all(engine)
    except DatabaseError as error:
        raise ConfigError(f"journal: cannot use {path}: {error.orig}") from None
    return engine
