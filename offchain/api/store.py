"""What the API itself remembers: keys (hashed), webhooks and what was sent to them, notes, answers by idempotency key.

Nothing of it is about money, and nothing of the chain is kept: all that can be read from the chain is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import JSON, Text, UniqueConstraint, create_engine, delete, event, select, update
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from offchain.chain.errors import ConfigError

__all__ = ["SCOPES", "ApiKey", "Delivery", "Kept", "Note", "Store", "Webhook"]

SCOPES = ("notes:read", "notes:write", "webhooks:read", "webhooks:write")
FILE = Path("evenkeel-api.sqlite")
KEPT_SECONDS = 86_400  # of an answer by idempotency key
STUCK_SECONDS = 120  # after which a request that never ended counts as gone


class _Base(DeclarativeBase):
    pass


class ApiKey(_Base):
    """Who may write. The secret itself is not kept."""

    __tablename__ = "api_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str]  # SHA-256 of the secret, which is random and long
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[int]  # timestamps, here and below
    revoked_at: Mapped[int | None]


class Webhook(_Base):
    """Where events go. Secrets are kept as they are: each message is signed with them."""

    __tablename__ = "webhook"
    id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str]
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_until: Mapped[int | None]  # until then both sign
    vaults: Mapped[list[str]] = mapped_column(JSON)
    events: Mapped[list[str]] = mapped_column(JSON)  # empty: all
    block: Mapped[int]  # events up to it are in `delivery`
    created_at: Mapped[int]
    disabled_at: Mapped[int | None]
    disabled_reason: Mapped[str | None]


class Delivery(_Base):
    """An event on its way to a webhook."""

    __tablename__ = "delivery"
    __table_args__ = (UniqueConstraint("webhook_id", "event_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[str]
    event_id: Mapped[str]  # the same for every attempt
    type: Mapped[str]
    body: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    next_at: Mapped[int | None]  # None: delivered, or given up
    delivered_at: Mapped[int | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]


class Note(_Base):
    """What somebody wrote about a vault."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    vault: Mapped[str]
    key_id: Mapped[str]
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int]


class Kept(_Base):
    """The first answer to an idempotency key; no status: still at work."""

    __tablename__ = "kept"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str]  # SHA-256 of method, path and body
    status: Mapped[int | None]
    body: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[int]


@dataclass(frozen=True)
class Store:
    """The database. Methods take the time, so that tests choose it."""

    engine: Engine

    @classmethod
    def open(cls, target: Path | str = FILE) -> Store:
        """At a file or an SQLAlchemy address; made where there is none. ConfigError where that cannot be."""
        address = f"sqlite:///{target}" if isinstance(target, Path) else target
        try:
            engine = create_engine(make_url(address))
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _sqlite_waits)
            _Base.metadata.create_all(engine)
        except (ArgumentError, SQLAlchemyError, ModuleNotFoundError) as error:
            raise ConfigError(f"api_database: cannot be used ({type(error).__name__})") from None
        return cls(engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: written when the block ends, or nothing of it."""
        with Session(self.engine, expire_on_commit=False) as db, db.begin():
            yield db

    # ---------------------------------------------------------------- keys

    def create_key(self, name: str, scopes: Sequence[str], now: int) -> str:
        """A new key; this is the only time that it can be read."""
        number, secret = secrets.token_hex(6), secrets.token_hex(24)
        row = ApiKey(id=number, name=name, hash=_hash(secret), scopes=sorted(set(scopes)), created_at=now)
        with self.session() as db:
            db.add(row)
        return f"ek_{number}_{secret}"

    def all_keys(self) -> list[ApiKey]:
        """All, the oldest first; without their secrets, which nobody has."""
        with self.session() as db:
            return list(db.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))

    def revoke_key(self, number: str, now: int) -> bool:
        """Whether there was one to revoke; its webhooks end with it."""
        still = update(ApiKey).where(ApiKey.id == number, ApiKey.revoked_at.is_(None))
        hooks = update(Webhook).where(Webhook.key_id == number, Webhook.disabled_at.is_(None))
        with self.session() as db:
            db.execute(hooks.values(disabled_at=now, disabled_reason="its API key was revoked"))
            return bool(db.execute(still.values(revoked_at=now)).rowcount)  # type: ignore[attr-defined]

    def key(self, text: str) -> ApiKey | None:
        """The key that `text` is, if it is one and not revoked."""
        prefix, _, rest = text.partition("_")
        number, _, secret = rest.partition("_")
        if prefix != "ek" or not number or not secret:
            return None
        with self.session() as db:
            row = db.get(ApiKey, number)
        good = hmac.compare_digest(row.hash if row else "", _hash(secret))
        return row if row is not None and good and row.revoked_at is None else None

    # ---------------------------------------------------------------- idempotency

    def begin(self, key_id: str, key: str, request: str, now: int) -> Kept | None:
        """None where this request is the first with `key`; else the row of the first."""
        with self.session() as db:
            db.execute(delete(Kept).where(Kept.created_at < now - KEPT_SECONDS))
            db.execute(delete(Kept).where(Kept.status.is_(None), Kept.created_at < now - STUCK_SECONDS))
        while True:
            try:
                with self.session() as db:
                    db.add(Kept(key_id=key_id, key=key, request=request, body="", created_at=now))
                return None
            except IntegrityError:
                with self.session() as db:
                    first = db.get(Kept, (key_id, key))
            if first is not None:  # else it failed in between, and this one is the first
                return first

    def end(self, key_id: str, key: str, began: int, status: int, body: str) -> None:
        """Keep the answer of the request that `began` then; one that took its place has its own."""
        with self.session() as db:
            own = (Kept.key_id == key_id, Kept.key == key, Kept.created_at == began)
            db.execute(update(Kept).where(*own, Kept.status.is_(None)).values(status=status, body=body))

    def forget(self, key_id: str, key: str, began: int) -> None:
        """The request that `began` then failed: it may be tried again."""
        with self.session() as db:
            own = (Kept.key_id == key_id, Kept.key == key, Kept.created_at == began)
            db.execute(delete(Kept).where(*own, Kept.status.is_(None)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _sqlite_waits(connection: object, _: object) -> None:
    connection.execute("pragma busy_timeout = 30000")  # type: ignore[attr-defined]
    connection.execute("pragma journal_mode = wal")  # type: ignore[attr-defined]
