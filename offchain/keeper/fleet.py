"""A fleet: any number of workers, on any number of machines, keep many vaults through one PostgreSQL.

Every `fleet_tick_seconds` one worker, whichever is first, makes a round: it frees the vaults of workers that are gone,
screens all vaults that are due in a few calls, and queues a look at each that could act or has something unfinished.
Any worker takes the next look. The queue, its periodic round and its lock a vault are procrastinate's.

The queue's lock keeps two workers off one vault as long as all of them are well. What holds whatever happens is the
lease: a look begins by writing a new one into the vault's row, and every later write to the journal, in its own
transaction, first sees that the lease is still there. A worker that was frozen and wakes up after its vault was taken
over can write nothing any more, and nothing is signed or sent that is not in the journal.
See docs/decisions/0018-fleet-on-procrastinate.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import procrastinate
import psycopg
import structlog
from procrastinate import exceptions, jobs
from sqlalchemy import BigInteger, Column, DateTime, MetaData, String, Table, Text, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.orm import Session
from web3 import Web3

from offchain.chain.contracts import ZERO, bind
from offchain.chain.errors import NODE_ERRORS, BusyError, ConfigError, JournalError
from offchain.chain.registry import batched, vault_count, vaults_of
from offchain.chain.sender import Sender
from offchain.chain.vault import latest_block
from offchain.errors import EvenkeelError
from offchain.keeper.database import open_database, reading, where, writing
from offchain.keeper.health import BEAT_SECONDS
from offchain.keeper.journal import UNFINISHED, Journal, Run
from offchain.keeper.loop import Keeper, Outcome, keeper_of
from offchain.keeper.outside import TICK_SECONDS, Outside, watching
from offchain.keeper.rhythm import Cron
from offchain.keeper.screen import screen
from offchain.keeper.watch import plain, words_of
from offchain.settings import Settings, VaultSettings

__all__ = [
    "Fleet",
    "Lease",
    "Registry",
    "create_queue",
    "fleet_from",
    "is_due",
    "postgres_of",
    "status_report",
]

KEEPER = 1  # the vault's role, Role.KEEPER
ROLE_SECONDS = 600  # until all vaults of the factory are asked for the role again
FOLLOW_SECONDS = 30  # that a look waits for its receipt; the next round looks again
LOOK_SECONDS = 900  # after which a look has hung, whatever its worker says of itself
FORGET_SECONDS = 86_400  # after which a silent worker is no longer in the report
AGAIN_SECONDS = 5  # between two tries to reach the database
FIRST, SOON = 20, 10  # priorities: of a vault that was taken over, of a round
CREATE_LOCK = 0x6576656E_666C6565  # "evenflee": PostgreSQL's advisory lock while the queue is made
ROUND, LOOK = "evenkeel.round", "evenkeel.look"
# What ends a round, and is no bug: node, database or settings.
AWAY: tuple[type[Exception], ...] = (*NODE_ERRORS, EvenkeelError, exceptions.ConnectorException)

T = TypeVar("T")

log = structlog.get_logger("evenkeel.fleet")

_tables = MetaData()
vaults = Table(
    "fleet_vaults",
    _tables,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("vault", String(42), primary_key=True),
    Column("slot", BigInteger),  # UTC seconds of the round that last saw to it; NULL: due at once
    Column("lease", String(32)),  # of the newest look
    Column("job", BigInteger),  # the queue's, of the newest look
    Column("worker_id", BigInteger),  # the queue's
    Column("worker", String(100)),
    Column("taken_at", DateTime(timezone=True)),  # begin of the newest look
    Column("looked_at", DateTime(timezone=True)),  # its end; NULL: it is under way, or its worker died
    Column("result", String(16)),  # of the last look, or `waiting`: it was not worth one
    Column("reason", Text),
)


# ---------------------------------------------------------------- who may write


@dataclass(frozen=True)
class Lease:
    """The right to look after one vault, until somebody else takes it."""

    engine: Engine
    chain_id: int
    vault: str
    token: str

    @classmethod
    def take(
        cls, engine: Engine, chain_id: int, vault: str, worker: str = "", job: int = 0, worker_id: int = 0
    ) -> Lease:
        """From now on nobody who had the vault before can write. BusyError where a keeper holds it on its own."""
        token = uuid.uuid4().hex
        row = {
            "lease": token,
            "job": job,
            "worker": worker,
            "worker_id": worker_id,
            "taken_at": func.now(),
            "looked_at": None,
        }
        with writing(engine) as db:
            # the lock of Journal.hold: `evenkeel keeper run` on the same database
            free = text("select pg_try_advisory_xact_lock(hashtextextended(:key, 1))")
            if not db.scalar(free, {"key": f"vault {vault}"}):
                raise BusyError(f"a keeper outside the fleet looks after {vault}")
            new = insert(vaults).values(chain_id=chain_id, vault=vault, **row)
            db.execute(new.on_conflict_do_update(index_elements=["chain_id", "vault"], set_=row))
        return cls(engine, chain_id, vault, token)

    def check(self, db: Session) -> None:
        """BusyError where the lease is gone; else it stays until the transaction's end."""
        mine = (vaults.c.chain_id == self.chain_id, vaults.c.vault == self.vault)
        if db.scalar(select(vaults.c.lease).where(*mine).with_for_update(read=True)) != self.token:
            raise BusyError(f"another worker has taken {self.vault} over")

    @property
    def fenced(self) -> Engine:
        """The database, for writes that are only made while the lease holds."""
        return self.engine.execution_options(evenkeel_fence=self.check)

    def end(self, result: str, reason: str, *, again: bool) -> None:
        """Note what came of the look; `again`: the next round looks again. BusyError where the lease is gone."""
        said: dict[str, Any] = {"looked_at": func.now(), "result": result, "reason": reason}
        if again:
            said["slot"] = None
        mine = (vaults.c.chain_id == self.chain_id, vaults.c.vault == self.vault)
        with writing(self.fenced) as db:
            db.execute(update(vaults).where(*mine).values(**said))


# ---------------------------------------------------------------- which vaults, and when


@dataclass
class Registry:
    """The vaults of a factory for which the account has the keeper role; the list only grows, roles change."""

    web3: Web3
    factory: str  # address
    account: str  # address
    _known: dict[str, bool] = field(default_factory=dict)  # whether the role is there, by vault
    _asked_at: float = float("-inf")  # monotonic

    def vaults(self) -> list[str]:
        """Addresses, in the factory's order. A few requests, or a hundredth of the vaults when roles are asked."""
        count = vault_count(self.web3, self.factory)
        if time.monotonic() - self._asked_at > ROLE_SECONDS or count < len(self._known):
            self._known, self._asked_at = {}, time.monotonic()
        new = vaults_of(self.web3, self.factory, first=len(self._known))
        roles = [bind(self.web3, "Vault", vault).functions.roles(self.account) for vault in new]
        for vault, role in zip(new, batched(self.web3, roles), strict=True):
            self._known[vault] = bool(int(role) & KEEPER)
        return [vault for vault, mine in self._known.items() if mine]


def is_due(vault: VaultSettings, slot: int | None, now: int) -> bool:
    """Whether the vault's time has come since the round at `slot` (UTC seconds; None: at once) saw to it.

    However many times were missed, it is one. What is to be looked at on blocks or prices is due in each round.
    """
    if slot is None or vault.on_block or vault.on_price:
        return True
    if vault.cron is not None:
        return _after(vault.cron, vault.timezone or "UTC", slot) <= now
    return now >= slot + (vault.interval_seconds or 0)


@lru_cache(maxsize=4_096)
def _after(line: str, timezone: str, slot: int) -> float:
    return Cron(line, timezone).after(slot)


# ---------------------------------------------------------------- a worker


@dataclass
class Fleet:
    """One worker: what it takes to make rounds and looks. `work` runs it until a signal or `stop`."""

    settings: Settings
    keeper: Keeper  # as it is for every vault, apart from vault and journal
    engine: Engine
    name: str
    outside: Outside = field(default_factory=Outside)
    registry: Registry | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.chain_id = int(self.keeper.web3.eth.chain_id)
        self.queue = f"evenkeel-{self.chain_id}"
        self._running: asyncio.Task[None] | None = None
        self.app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(
                conninfo=_libpq(self.engine.url), min_size=1, max_size=4, timeout=AGAIN_SECONDS
            )
        )
        # No lock on rounds: one whose worker is frozen must not keep others from making the next.
        rounds = self.app.task(name=ROUND, queue=self.queue, queueing_lock=self.queue, priority=SOON)(
            self._round
        )
        self.app.periodic(cron=f"* * * * * */{self.settings.fleet_tick_seconds}")(rounds)
        self.app.task(name=LOOK, queue=self.queue, pass_context=True)(self._look)

    # ------------------------------------------------------------ a look

    def look(self, vault: str, job: int = 0, worker_id: int = 0) -> Outcome | None:
        """One look under a new lease; None where it did not end with an outcome. Never raises.

        Of a vault that is halted what was sent is looked after, under a lease too.
        """
        leases: list[Lease] = []
        errors: list[Exception] = []

        def leased(act: Callable[[Keeper], T]) -> T:
            try:
                lease = Lease.take(self.engine, self.chain_id, vault, self.name, job, worker_id)
                leases.append(lease)
                keeper = replace(
                    self.keeper,
                    vault=vault,
                    journal=Journal(lease.fenced),
                    trigger_blocks=self.settings.of(vault).trigger_blocks or 1,
                )
                return act(keeper)
            except Exception as error:
                errors.append(error)
                raise

        outcome = self.outside.watch.look(vault, lambda: leased(Keeper.once), lambda: leased(Keeper.tend))
        if leases:
            self._end(leases[0], outcome, errors)
        elif not any(isinstance(error, BusyError) for error in errors):  # the database is away
            with contextlib.suppress(JournalError):
                self._due_at_once(vault)
        return outcome

    def _end(self, lease: Lease, outcome: Outcome | None, errors: Sequence[Exception]) -> None:
        try:
            if outcome is not None:
                lease.end(str(outcome.status), plain(outcome.reason), again=False)
            else:
                lease.end("error", words_of(errors[0]) if errors else "halted", again=True)
        except BusyError as error:
            log.info("left to another worker", vault=lease.vault, reason=str(error))
        except JournalError as error:
            log.warning("not noted", vault=lease.vault, reason=str(error))

    def _look(self, context: procrastinate.JobContext, vault: str) -> None:
        self.look(vault, context.job.id or 0, context.job.worker_id or 0)

    # ------------------------------------------------------------ a round

    def kept(self) -> dict[str, VaultSettings]:
        """The vaults of the settings and of the factory, each with its own settings."""
        found = {vault.address: vault for vault in self.settings.kept()}
        if self.registry is not None:
            found = {vault: self.settings.of(vault) for vault in self.registry.vaults()} | found
        return found

    def wanted(self, now: int) -> tuple[list[str], dict[str, str]]:
        """The vaults to look at in the round of `now` (UTC seconds); those that were seen to, and why not, if so."""
        kept = self.kept()
        slots, busy, unfinished = self._rows(now, kept)
        due = [
            vault for vault, own in kept.items() if vault not in busy and is_due(own, slots.get(vault), now)
        ]
        waiting = self._screened(due)
        unfinished |= self.keeper.dispatch.displaced(self.chain_id)
        open_runs = [vault for vault in kept if vault in unfinished and vault not in busy]
        looks = dict.fromkeys([*open_runs, *(vault for vault in due if not waiting.get(vault))])
        return list(looks), {vault: "" if vault in looks else waiting[vault] for vault in due}

    def _rows(
        self, now: int, kept: Mapping[str, VaultSettings]
    ) -> tuple[dict[str, int | None], set[str], set[str]]:
        """When each vault was seen to last; those in the queue; those with runs that are not ended."""
        with writing(self.engine) as db:
            rows = select(vaults.c.vault, vaults.c.slot).where(vaults.c.chain_id == self.chain_id)
            slots = {str(row.vault): row.slot for row in db.execute(rows)}
            # a cron line's vault waits for its first time
            new = {vault: now if own.cron else None for vault, own in kept.items() if vault not in slots}
            if new:
                values = [{"chain_id": self.chain_id, "vault": v, "slot": slot} for v, slot in new.items()]
                db.execute(insert(vaults).on_conflict_do_nothing(), values)
            queued = text(
                "select args ->> 'vault' from procrastinate_jobs"
                " where queue_name = :queue and task_name = :look and status in ('todo', 'doing')"
            )
            busy = set(db.scalars(queued, {"queue": self.queue, "look": LOOK}))
            runs = select(Run.vault).where(Run.chain_id == self.chain_id, Run.status.in_(UNFINISHED))
            unfinished = set(db.scalars(runs.distinct()))
        return new | slots, busy, unfinished

    def _screened(self, due: Sequence[str]) -> dict[str, str]:
        """Why not to look, by vault; "" or missing: it could act, or cannot be read without a look."""
        lens = self.settings.lens
        if lens is None or not due:
            return {}
        web3 = self.keeper.web3
        found = screen(web3, lens, due, latest_block(web3))
        return {
            vault: seen.reason
            for vault, seen in zip(due, found, strict=True)
            if seen.snapshot is not None and not seen.could_act
        }

    def _seen(self, now: int, seen: Mapping[str, str]) -> None:
        """The round of `now` saw to these; with the reason where it was not worth a look."""
        rows = [
            {"chain_id": self.chain_id, "vault": vault, "slot": now, "result": "waiting", "reason": why}
            for vault, why in seen.items()
        ]
        with writing(self.engine) as db:
            for told in (True, False):
                part = [row for row in rows if bool(row["reason"]) == told]
                if not part:
                    continue
                new = insert(vaults)
                columns = ("slot", "result", "reason") if told else ("slot",)
                values = {name: new.excluded[name] for name in columns}
                db.execute(new.on_conflict_do_update(index_elements=["chain_id", "vault"], set_=values), part)

    async def _round(self, timestamp: int) -> None:
        """See who is due, queue looks, free what is lost. Whatever fails is left to the next round."""
        try:
            looks, seen = await asyncio.to_thread(self.wanted, timestamp)
            for vault in looks:
                await self._queue(vault)
            await asyncio.to_thread(self._seen, timestamp, seen)
            await self._take_over()  # last: it may have to wait for a frozen worker's transaction
            await asyncio.to_thread(self.keeper.dispatch.tend, self.chain_id)
        except AWAY as error:
            log.warning("round left out", error=words_of(error))
        except Exception:
            log.exception("bug: round left out")
        else:
            (log.info if looks else log.debug)("round", due=len(seen), looks=len(looks))

    async def _queue(self, vault: str, priority: int = 0) -> None:
        """A look at the vault, once it is free; not if one waits already."""
        key = f"{self.chain_id}:{vault}"
        look = self.app.configure_task(LOOK, lock=key, queueing_lock=key, priority=priority)
        with contextlib.suppress(exceptions.AlreadyEnqueued):
            await look.defer_async(vault=vault)

    async def _take_over(self) -> None:
        """Vaults whose worker is silent, or whose look has hung, go to whoever is next.

        Their jobs end and new ones are made. Not a retry of the same job: the old worker would end that as its own.
        """
        manager, silent = self.app.job_manager, self.settings.fleet_timeout_seconds
        lost: dict[int, str | None] = {
            int(job.id or 0): _vault_of(job)
            for job in await manager.get_stalled_jobs(queue=self.queue, seconds_since_heartbeat=silent)
        }
        for job, vault in (lost | await asyncio.to_thread(self._hung)).items():
            if vault is not None:
                await asyncio.to_thread(self._due_at_once, vault)
            with contextlib.suppress(exceptions.ConnectorException):  # another round was faster
                await manager.finish_job_by_id_async(job, jobs.Status.FAILED, delete_job=True)
            if vault is not None:
                log.warning("taken over", vault=vault, job=job)
                await self._queue(vault, FIRST)

    def _due_at_once(self, vault: str) -> None:
        """The next round looks at it, in case nothing else comes of this."""
        mine = (vaults.c.chain_id == self.chain_id, vaults.c.vault == vault)
        with writing(self.engine) as db:
            db.execute(update(vaults).where(*mine).values(slot=None))

    def _hung(self) -> dict[int, str | None]:
        """Jobs of workers that are not silent, whose look takes too long, or has ended and the queue was not told."""
        query = text(
            "select j.id, v.vault from procrastinate_jobs j join fleet_vaults v on v.job = j.id"
            " where j.queue_name = :queue and j.status = 'doing' and v.chain_id = :chain_id"
            " and (v.taken_at < now() - make_interval(secs => :longest)"
            "      or v.looked_at < now() - make_interval(secs => :silent))"
        )
        values = {
            "queue": self.queue,
            "chain_id": self.chain_id,
            "longest": LOOK_SECONDS,
            "silent": self.settings.fleet_timeout_seconds,
        }
        with reading(self.engine) as db:
            return {int(row.id): str(row.vault) for row in db.execute(query, values)}

    # ------------------------------------------------------------ until it is told to stop

    def work(self) -> None:
        """Make rounds and looks until SIGTERM, Ctrl-C or `halt`; looks that are under way are finished."""
        for theirs in (
            "procrastinate",
            "psycopg.pool",
        ):  # a database that goes away is told once, in our words
            logging.getLogger(theirs).setLevel(logging.CRITICAL)
        asyncio.run(self._work())

    def halt(self) -> None:
        """Stop, from the worker's own thread."""
        self.stop.set()
        self.keeper.sender.stop.set()
        if self._running is not None:
            self._running.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(self.settings.fleet_looks + 4))
        loop.set_exception_handler(_unheard)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.halt)
        log.info("worker runs", worker=self.name, queue=self.queue, sends=self.keeper.sender.sends)
        beats = asyncio.create_task(self._beats())
        try:
            while not self.stop.is_set():
                self._running = asyncio.create_task(self._until_it_breaks())
                with contextlib.suppress(asyncio.CancelledError):
                    await self._running
        finally:
            beats.cancel()
        log.info("worker stopped", worker=self.name)

    async def _until_it_breaks(self) -> None:
        """The queue's worker. It ends when the database goes away, and when its own row was removed meanwhile."""
        silent = self.settings.fleet_timeout_seconds
        error: Exception | None = None
        try:
            async with self.app.open_async():
                await self.app.run_worker_async(
                    queues=[self.queue],
                    name=self.name,
                    concurrency=self.settings.fleet_looks,
                    fetch_job_polling_interval=1.0,
                    update_heartbeat_interval=silent / 5,
                    stalled_worker_timeout=FORGET_SECONDS,
                    delete_jobs="always",
                    install_signal_handlers=False,
                )
        except (exceptions.ConnectorException, psycopg.Error) as found:
            error = found
        log.warning("the queue broke off", worker=self.name, error=words_of(error) if error else "it ended")
        await asyncio.sleep(AGAIN_SECONDS)

    async def _beats(self) -> None:
        """The sign of life and, where they are on, probes and alerts."""
        ticked = float("-inf")
        while True:
            self.outside.watch.beat()
            if self.outside.ticks and time.monotonic() - ticked >= TICK_SECONDS:
                ticked = time.monotonic()
                await asyncio.to_thread(self.outside.tick)
            await asyncio.sleep(BEAT_SECONDS)


# ---------------------------------------------------------------- from settings


def postgres_of(settings: Settings) -> str:
    """The database's address. ConfigError where it is not PostgreSQL."""
    address = settings.database.get_secret_value() if settings.database is not None else ""
    if not address.startswith("postgres"):
        raise ConfigError(
            "database: a fleet needs PostgreSQL: set it to postgresql+psycopg://user@host/name"
            " (EVENKEEL_DATABASE, because a password may be in it)"
        )
    return address


def create_queue(engine: Engine) -> bool:
    """Make the fleet's tables and procrastinate's, unless they are there; whether they were made."""
    with engine.begin() as db:
        db.execute(text("select pg_advisory_xact_lock(:key)"), {"key": CREATE_LOCK})
        _tables.create_all(db)
        if db.scalar(text("select to_regclass('procrastinate_jobs')")) is not None:
            return False
        schema = procrastinate.schema.SchemaManager.get_schema()
        db.execution_options(no_parameters=True).exec_driver_sql(schema)
    return True


@contextlib.contextmanager
def fleet_from(settings: Settings, web3: Web3) -> Iterator[Fleet]:
    """The worker that the settings describe. ConfigError for what is missing."""
    if settings.factory is None and not settings.kept():
        raise ConfigError("vaults, factory: not set: name the vaults to keep, or the factory they are from")
    if any(vault.strategy is not None for vault in settings.vaults):
        raise ConfigError(
            "vaults, strategy: a fleet moves no targets; run that vault with evenkeel keeper run"
        )
    sender = Sender.from_settings(web3, settings)
    sender = replace(
        sender, receipt_timeout_seconds=min(sender.receipt_timeout_seconds, float(FOLLOW_SECONDS))
    )
    account = sender.account.address if sender.account else settings.simulate_as
    if settings.factory is not None and account is None:
        raise ConfigError(
            "factory: whose vaults? set keystore, account, signer_url or simulate_as: the account with the keeper role"
        )
    with contextlib.ExitStack() as opened:
        engine = open_database(postgres_of(settings))
        opened.callback(engine.dispose)
        create_queue(engine)
        outside = opened.enter_context(watching(settings, web3, sender))
        keeper = keeper_of(settings, web3, sender, Journal(engine), ZERO)
        registry = Registry(web3, settings.factory, account) if settings.factory and account else None
        name = settings.fleet_worker or f"{socket.gethostname()}:{os.getpid()}"
        yield Fleet(settings, keeper, engine, name, outside, registry)


def _libpq(url: URL) -> str:
    """The address as PostgreSQL's own library reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


# ---------------------------------------------------------------- seen from outside


def status_report(engine: Engine, silent_seconds: int) -> dict[str, Any]:
    """Workers, queue and vaults as the database has them; ages in seconds. JournalError where it cannot be read."""
    with reading(engine) as db:
        if db.scalar(text("select to_regclass('fleet_vaults')")) is None:
            raise ConfigError(f"database: there is no fleet in {where(engine.url)} yet: evenkeel fleet init")
        found = db.execute(select(vaults, func.now().label("now")).order_by(vaults.c.vault))
        rows: list[dict[str, Any]] = [dict(row) for row in found.mappings()]
        queued = [
            dict(row)
            for row in db.execute(
                text(
                    "select id, task_name, args ->> 'vault' vault, status::text, worker_id from procrastinate_jobs"
                    " where queue_name like 'evenkeel-%' and status in ('todo', 'doing') order by id"
                )
            ).mappings()
        ]
        workers = db.execute(
            text(
                "select id, extract(epoch from now() - last_heartbeat) age from procrastinate_workers order by id"
            )
        ).all()
    running = {job["id"]: job for job in queued if job["status"] == "doing"}
    waiting = {job["vault"] for job in queued if job["status"] == "todo" and job["vault"]}
    names = {row["worker_id"]: row["worker"] for row in sorted(rows, key=_taken)}
    return {
        "workers": [
            {
                "worker": names.get(worker.id),
                "worker_id": worker.id,
                "heartbeat_age_seconds": round(float(worker.age), 1),
                "silent": float(worker.age) > silent_seconds,
                "looks": sum(
                    job["worker_id"] == worker.id and job["task_name"] == LOOK for job in running.values()
                ),
            }
            for worker in workers
        ],
        "queue": {
            "waiting": len(waiting),
            "running": sum(job["task_name"] == LOOK for job in running.values()),
        },
        "vaults": [_seen_vault(row, running, waiting) for row in rows],
    }


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody waits for: a worker that woke up cannot end a job that was taken from it."""
    if isinstance(context.get("exception"), exceptions.ConnectorException):
        log.warning("the queue does not take a job's end: it was taken over, or the database is away")
    else:
        loop.default_exception_handler(context)


def _vault_of(job: jobs.Job) -> str | None:
    """That a look is at; None for a round."""
    vault = job.task_kwargs.get("vault")
    return None if vault is None else str(vault)


def _taken(row: dict[str, Any]) -> float:
    return row["taken_at"].timestamp() if row["taken_at"] else 0.0


def _seen_vault(row: dict[str, Any], running: Mapping[int, Any], waiting: set[str]) -> dict[str, Any]:
    looking = row["job"] in running and row["looked_at"] is None
    age = (row["now"] - row["looked_at"]).total_seconds() if row["looked_at"] else None
    return {
        "vault": row["vault"],
        "chain_id": row["chain_id"],
        "state": "looking" if looking else "queued" if row["vault"] in waiting else "idle",
        "worker": row["worker"] if looking else None,
        "last_worker": row["worker"],
        "look_age_seconds": None if age is None else round(age, 1),
        "result": row["result"],
        "reason": row["reason"],
    }
