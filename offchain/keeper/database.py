"""The journal's database: SQLite in a file by default, PostgreSQL for fleets. At start the schema is made current.

An address with a password is kept in SQLAlchemy's URL, which hides it; no message here repeats the address as given.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, event, inspect, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from offchain.chain.errors import ConfigError, JournalError
from offchain.errors import EvenkeelError

__all__ = [
    "SCHEMA",
    "Hold",
    "lock",
    "open_database",
    "open_to_read",
    "reading",
    "version_of",
    "where",
    "writing",
]

SCHEMA = "0005"  # the newest step in migrations/versions
LOCK_SECONDS = 30  # how long a writer waits for another one
CONNECT_SECONDS = 10
_UPGRADING = threading.Lock()  # alembic is for one thread of a process at a time
UPGRADE_LOCK = 0x6576656E_6B65656C  # "evenkeel": PostgreSQL's advisory lock while the schema changes


def open_database(target: Path | str) -> Engine:
    """The database at `target`, a file or an SQLAlchemy address, with today's schema.

    ConfigError where it is no journal or newer than this program, JournalError where it cannot be reached.
    """
    url = _url(target)
    engine = _engine(url)
    try:
        with engine.connect() as db:
            version = _version(db)
        if version != SCHEMA:
            _upgrade(engine)
    except DBAPIError as error:
        engine.dispose()
        raise _unusable(url, error) from None
    except ConfigError:
        engine.dispose()
        raise
    return engine


def open_to_read(target: Path | str, needed: Sequence[Table] = ()) -> Engine:
    """The database at `target` as it is: nothing is made or migrated. An older schema will do if it has the tables and
    columns that are `needed`.

    ConfigError where it has not, is newer than this program, or is no journal; JournalError where it is away.
    """
    url = _url(target)
    version = version_of(target)
    if version is not None and version > SCHEMA:
        raise ConfigError(_too_new(url, version))
    engine = _engine(url)
    with _told("read", engine), engine.connect() as db:
        missing = [table.name for table in needed if not _has(db, table)]
    if missing:
        engine.dispose()
        words = f"schema {version}" if version else "no journal yet"
        raise ConfigError(
            f"{_setting(url)}: {where(url)} has {words}, without {', '.join(missing)}: a keeper of this version "
            f"brings it to {SCHEMA} when it starts (evenkeel keeper once --dry-run, evenkeel fleet init)"
        )
    return engine


def _has(db: Connection, table: Table) -> bool:
    """The table is there, with all columns."""
    seen = inspect(db)
    if not seen.has_table(table.name):
        return False
    return {column.name for column in table.columns} <= {one["name"] for one in seen.get_columns(table.name)}


def version_of(target: Path | str) -> str | None:
    """The schema's version at `target`, None before it had one; nothing is changed.

    ConfigError where it is no journal, JournalError where it cannot be reached.
    """
    url = _url(target)
    engine = _engine(url)
    try:
        with engine.connect() as db:
            return _version(db)
    except DBAPIError as error:
        raise _unusable(url, error) from None
    finally:
        engine.dispose()


def where(url: URL) -> str:
    """The database in a message: the file, or the address without its password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads. JournalError when the database does not answer."""
    with _told("read", engine), Session(engine, expire_on_commit=False) as db:
        yield db


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session in one transaction, written when the block ends: all of it or nothing.

    JournalError when it was not written, or, with a connection that broke at the very end, may not have been.
    The engine's option `evenkeel_fence`, a function of the session, may forbid it: it is asked in the same transaction.
    """
    writer = engine.execution_options(evenkeel_writes=True)
    fence = engine.get_execution_options().get("evenkeel_fence")
    with _told("write", engine), Session(writer, expire_on_commit=False) as db, db.begin():
        if fence is not None:
            fence(db)
        yield db


def lock(db: Session, *key: object) -> None:
    """Wait until no other transaction holds `key`, and hold it to this one's end. SQLite has one writer anyway."""
    if db.get_bind().dialect.name == "postgresql":
        db.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": repr(key)})


class Hold:
    """Locks that this process has on one connection to a PostgreSQL server, and takes again when that breaks.

    Without such a server there is nothing to hold.
    """

    def __init__(self, engine: Engine, keys: Sequence[str]) -> None:
        self._engine, self._keys = engine, keys
        self._db: Connection | None = None
        self._mutex = threading.Lock()

    def take(self) -> str:
        """The first key that another process holds, "" where all are held here. JournalError as for any reading."""
        if self._engine.dialect.name != "postgresql":
            return ""
        with self._mutex, _told("read", self._engine):
            if self._db is not None:
                try:
                    self._db.execute(text("select 1"))
                except DBAPIError:  # the server was restarted: the locks went with the connection
                    self._drop()
                else:
                    return ""
            self._db = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            lock_one = text("select pg_try_advisory_lock(hashtextextended(:key, 1))")
            taken = ""
            try:
                taken = next(
                    (key for key in self._keys if not self._db.execute(lock_one, {"key": key}).scalar()), ""
                )
            except DBAPIError:
                self._drop()
                raise
            if taken:
                self._drop()
            return taken

    def release(self) -> None:
        """Nothing is held any more."""
        with self._mutex:
            self._drop()

    def _drop(self) -> None:
        if self._db is not None:
            self._db.invalidate()  # the server lets the locks go with the connection
            self._db.close()
            self._db = None


@contextmanager
def _told(what: str, engine: Engine) -> Iterator[None]:
    """A database that is away, full or damaged is a JournalError; what is wrong with a statement is not."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise
    except DBAPIError as error:
        raise JournalError(f"journal: cannot {what} {where(engine.url)}: {_cause(error)}") from None
    except PoolTimeout:
        words = "all connections are busy, or wait for it"
        raise JournalError(f"journal: cannot {what} {where(engine.url)}: {words}") from None


def _url(target: Path | str) -> URL:
    if not isinstance(target, str) or not _meant_as_address(target):
        return URL.create("sqlite", database=str(target))
    try:
        url = make_url(target)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ConfigError("database: not an address such as postgresql+psycopg://user@host/name") from None
    if backend == "postgresql" and url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ConfigError(f"database: {url.drivername}: only sqlite and postgresql+psycopg are supported")
    return url


def _meant_as_address(text: str) -> bool:
    """Not a file's name: one with its "://" mistyped must not become a file, for it may hold a password."""
    return "://" in text or text.startswith(("postgres:", "postgresql:")) or (":" in text and "@" in text)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url, pool_pre_ping=True, connect_args=_patience(url))
        except ModuleNotFoundError:
            raise ConfigError("database: PostgreSQL needs psycopg: pip install 'evenkeel[fleet]'") from None
    options: dict[str, Any] = {"connect_args": {"timeout": LOCK_SECONDS}}
    if url.database in (None, "", ":memory:"):  # one connection, else each thread has a journal of its own
        options = {"connect_args": {"check_same_thread": False}, "poolclass": StaticPool}
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", _begin)
    return engine


def _patience(url: URL) -> dict[str, Any]:
    """A process that stands still in the midst of a transaction holds up no other for long: the server ends it."""
    limits = {"lock_timeout": LOCK_SECONDS, "idle_in_transaction_session_timeout": 2 * LOCK_SECONDS}
    options = " ".join(f"-c {name}={seconds * 1_000}" for name, seconds in limits.items())
    given = url.query.get("options", "")
    return {"connect_timeout": CONNECT_SECONDS, "options": f"{options} {given}".strip()}


def _durable(connection: Any, _record: object) -> None:
    """What is written survives a power cut. Transactions are begun here (`_begin`), not when the driver likes."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    """A writer takes the file's one lock at once: one that takes it later may find that it is too late."""
    writes = connection.get_execution_options().get("evenkeel_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _version(db: Connection) -> str | None:
    """The schema's version, None before it had one."""
    if not inspect(db).has_table("alembic_version"):
        return None
    found = db.execute(text("select version_num from alembic_version")).scalar()
    return None if found is None else str(found)


def _upgrade(engine: Engine) -> None:
    """Run the missing steps in one transaction; of several processes one does it and the others wait."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "offchain.keeper:migrations")
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    with _UPGRADING, engine.execution_options(evenkeel_writes=True).begin() as db:
        if engine.dialect.name == "postgresql":
            db.execute(text("select pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
        version = _version(db)
        if version is not None and version not in known:
            raise ConfigError(_too_new(engine.url, version))
        config.attributes["connection"] = db
        command.upgrade(config, "head")


def _unusable(url: URL, error: DBAPIError) -> EvenkeelError:
    """A server that is away and a file that is locked come back; what is no database, or in no folder, does not."""
    passes = isinstance(error, OperationalError) and "unable to open" not in str(error.orig)
    kind = JournalError if passes else ConfigError
    return kind(f"{_setting(url)}: cannot use {where(url)}: {_cause(error)}")


def _too_new(url: URL, version: str) -> str:
    return (
        f"{_setting(url)}: {where(url)} was written by a newer evenkeel (schema {version}, this one knows {SCHEMA}): "
        "upgrade the program"
    )


def _setting(url: URL) -> str:
    """The setting that names this database."""
    return "journal" if url.get_backend_name() == "sqlite" else "database"


def _cause(error: DBAPIError) -> str:
    """The driver's own words, on one line."""
    return " ".join(str(error.orig).split())
