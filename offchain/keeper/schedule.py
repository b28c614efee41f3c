"""`run`: the jobs of any number of vaults in one process, each on its own rhythm.

Each vault has a thread: a look that takes long, or waits for a node, holds up no other vault. One clock thread asks
the vaults' threads when a time has come; one more watches the chain for all of them (`Heads`). Asking for a job that
runs already makes it run once more afterwards, however often it is asked for. It ends cleanly on SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import structlog
from sqlalchemy.engine import Engine
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_exponential_jitter,
    wait_fixed,
)
from tenacity.nap import sleep_using_event
from web3 import Web3

from offchain.chain.errors import NODE_ERRORS, ConfigError, HeldError, JournalError
from offchain.chain.oracle import read_prices
from offchain.chain.sender import Sender
from offchain.chain.vault import Snapshot, block_at
from offchain.errors import EvenkeelError
from offchain.keeper.database import open_database, reading, writing
from offchain.keeper.filler import Filler
from offchain.keeper.health import BEAT_SECONDS
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Outcome, journal_of, keeper_of
from offchain.keeper.outside import TICK_SECONDS, Outside, watching
from offchain.keeper.rhythm import Rhythm, Timer
from offchain.keeper.screen import screen
from offchain.keeper.tables import Slot
from offchain.keeper.targets import strategist_of
from offchain.keeper.watch import Watch, words_of
from offchain.settings import Settings, StrategySettings, VaultSettings

__all__ = ["REBALANCE", "TARGETS", "Heads", "Job", "Slots", "look", "run", "run_settings", "serve_fillers"]

REBALANCE, TARGETS = "rebalance", "targets"  # names of jobs
FIRST_PAUSE = 1.0  # second, and up to as much again: a node that is too slow is not asked again at once
LONGEST_PAUSE = 60  # seconds between two tries while the node is away
STANDBY_SECONDS = 5.0  # between two looks whether another keeper is still there
SETTLE_SECONDS = 12.0  # between two looks at what was sent, however far the vault's next look is
CLOCK_SECONDS = 1.0  # at most between two looks at the clocks: one that is set is noticed within that
SUBSCRIBED_POLL_SECONDS = 30.0  # between two polls while a subscription tells of blocks
WAITED_FOR: tuple[type[Exception], ...] = (
    *NODE_ERRORS,
    JournalError,
)  # within a look: a daily one has no other
NOT_NOW: tuple[type[Exception], ...] = (*NODE_ERRORS, EvenkeelError)
MOST_PRICES = 16  # that an oracle answers at once

log = structlog.get_logger("evenkeel.keeper")


class Looker(Protocol):
    """Keeper, Strategist: looks at a vault and acts if that is to be done."""

    @property
    def vault(self) -> str:
        """Its address."""

    @property
    def web3(self) -> Web3:
        """The node."""

    def once(self) -> Outcome:
        """One look."""

    def tend(self) -> bool:
        """Follow what was sent, start nothing; whether there is something to follow later."""


@dataclass(frozen=True)
class Job:
    """Something that is done for a vault again and again."""

    looker: Looker
    rhythm: Rhythm
    name: str = REBALANCE


class Slots:
    """What of each schedule was done last, kept in the journal's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def done_at(self, chain_id: int, vault: str, job: str) -> int | None:
        """UTC seconds; None: never."""
        with reading(self._engine) as db:
            found = db.get(Slot, (chain_id, vault, job))
            return None if found is None else found.done_at

    def done(self, chain_id: int, vault: str, job: str, at: float) -> None:
        """All times of the schedule up to `at` are done."""
        with writing(self._engine) as db:
            db.merge(Slot(chain_id=chain_id, vault=vault, job=job, done_at=int(at)))


# ---------------------------------------------------------------- one vault


@dataclass
class Worker:
    """A vault's thread."""

    jobs: Sequence[Job]
    stop: threading.Event
    watch: Watch
    slots: Slots | None = None
    wall: Callable[[], float] = time.time
    next_in: Callable[[], float | None] = lambda: (
        None
    )  # seconds to the next time of the vault's rebalance job
    snapshot: Snapshot | None = None  # of the last look that read the vault
    unsettled: bool = False  # its last transaction is not deep enough yet
    young: bool = True  # something that was sent may still move: unknown at the start
    settle_seconds: float = SETTLE_SECONDS  # between two looks at that
    away: bool = False  # the last one failed, and that was said
    _asked: dict[str, float] = field(default_factory=dict)  # by job: the time that it was due
    _wake: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._others = Watch(max_exceptions=self.watch.max_exceptions)  # a strategy halts no rebalance

    @property
    def vault(self) -> str:
        """Its address."""
        return self.jobs[0].looker.vault

    def follows(self, what: str) -> bool:
        """Whether one of its jobs is `on_block` or `on_price`."""
        return any(getattr(job.rhythm, what) for job in self.jobs)

    def ask(self, job: Job, due: float | None = None) -> None:
        """Let the job run as soon as the vault's thread is free."""
        with self._wake:
            if due is not None and job.name in self._asked and job.rhythm.line is not None:
                log.warning("busy: two times of a schedule become one run", vault=self.vault, job=job.name)
            self._asked[job.name] = self.wall() if due is None else due
            self._wake.notify()

    def end(self) -> None:
        """Wake the thread, which ends when `stop` is set."""
        with self._wake:
            self._wake.notify()

    def work(self) -> None:
        """What was missed, then what is asked for, until the stop."""
        for job in self.jobs:
            if self._missed(job) or job.rhythm.at_start:
                self.ask(job)
        while not self.stop.is_set():
            asked = self._next()
            try:
                if asked is not None:
                    self._do(*asked)
                elif not self.stop.is_set():
                    self._tend()
            except Exception:  # the vault's thread goes on, whatever happens
                log.exception("bug: after a look", vault=self.vault)

    def _next(self) -> tuple[Job, float] | None:
        """The job that is asked for, and when it was due; None at the stop, or to see to what was sent."""
        with self._wake:
            seconds = self.settle_seconds if self.young else None
            self._wake.wait_for(lambda: self._asked or self.stop.is_set(), seconds)
            if self.stop.is_set() or not self._asked:
                return None
            job = next(job for job in self.jobs if job.name in self._asked)
            return job, self._asked.pop(job.name)

    def _tend(self) -> None:
        """Follow what was sent until no block that it is in can be replaced."""
        try:
            self.young, self.away = any(job.looker.tend() for job in self.jobs), False
        except NOT_NOW as error:
            if not self.away:
                log.warning(
                    "what was sent cannot be followed for now", vault=self.vault, error=words_of(error)
                )
            self.away = True

    def _do(self, job: Job, due: float) -> None:
        outcome = look(job.looker, self.stop, watch=self.watch if job.name == REBALANCE else self._others)
        # after an error nobody knows what was sent
        self.unsettled = outcome is None or outcome.status in (Status.SENT, Status.MINED)
        self.young |= outcome is None or outcome.tx_hash is not None
        if outcome is not None:
            self.snapshot = outcome.snapshot or self.snapshot
            if self.slots is not None and job.rhythm.line is not None:
                try:
                    self.slots.done(outcome.chain_id, self.vault, job.name, due)
                except JournalError as error:
                    log.error("not noted: a restart will run it again", vault=self.vault, error=str(error))
        if job.name == REBALANCE and (seconds := self.next_in()) is not None:
            self.watch.due(self.vault, seconds)

    def _missed(self, job: Job) -> bool:
        """Whether a time of the schedule passed while no process was there for it; what is not known counts."""
        line = job.rhythm.line
        if self.slots is None or line is None:
            return False
        now = self.wall()
        try:
            chain_id = job.looker.web3.eth.chain_id
            last = self.slots.done_at(chain_id, self.vault, job.name)
            if last is None:
                self.slots.done(chain_id, self.vault, job.name, now)
                return False
        except NOT_NOW:
            return True
        if (due := line.after(min(last, now))) > now:
            return False
        since = datetime.fromtimestamp(due, UTC).isoformat(timespec="seconds")
        log.warning("missed while no keeper ran: runs once now", vault=self.vault, job=job.name, since=since)
        return True


def look(
    keeper: Looker, stop: threading.Event, longest_pause: float = LONGEST_PAUSE, watch: Watch | None = None
) -> Outcome | None:
    """One look that never raises; while node or database is away it tries again, ever slower. None: without an outcome.

    Not made while `watch` has the vault's keeper halted, because too many looks in a row ended in an error.
    """
    watch = watch or Watch()

    def waits(state: RetryCallState) -> None:
        watch.outage(keeper.vault, state.outcome.exception() if state.outcome else None)
        _log_outage(state)

    retrying = Retrying(
        retry=retry_if_exception_type(WAITED_FOR),
        wait=wait_exponential_jitter(initial=FIRST_PAUSE, max=longest_pause, jitter=FIRST_PAUSE),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=waits,
        reraise=True,
    )
    return watch.look(keeper.vault, partial(retrying, keeper.once), keeper.tend)


def _log_outage(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = round(state.next_action.sleep, 1) if state.next_action else 0
    log.warning(
        f"the {'database' if isinstance(error, JournalError) else 'node'} is waited for",
        attempt=state.attempt_number,
        again_in_seconds=pause,
        error=words_of(error),
    )


# ---------------------------------------------------------------- blocks and prices


@dataclass
class Heads:
    """Asks for the newest block, once for all vaults, and finds whom that concerns.

    What a vault's prices are compared with is what its last look saw, so that no update is lost: not one in a block
    that was never seen, nor one in a block that was replaced, nor one while the process was down.
    """

    web3: Web3
    lens: str = ""  # address of a VaultLens; with one, only vaults that could act are looked at
    poll_seconds: float = 2
    ws_url: str = ""  # of a node that tells of new blocks; it is only believed that there is one
    _last: int | None = None  # the block that was handled last
    _wake: threading.Event = field(default_factory=threading.Event)
    _subscribed: bool = False

    def follow(self, workers: Sequence[Worker], stop: threading.Event) -> None:
        """Ask the workers whom a new block concerns, until the stop."""
        away = False
        while not stop.is_set():
            try:
                self.handle(workers)
                away = False
            except NOT_NOW as error:
                if not away:
                    log.warning("blocks cannot be followed for now", error=words_of(error))
                away = True
            except Exception:
                log.exception("bug: blocks cannot be followed")
            self._wake.wait(max(self.poll_seconds, SUBSCRIBED_POLL_SECONDS if self._subscribed else 0))
            self._wake.clear()

    def end(self) -> None:
        """Wake the thread, which ends when the stop is set."""
        self._wake.set()

    def handle(self, workers: Sequence[Worker]) -> None:
        """If there is another block than the one handled last, ask the workers whom it concerns."""
        number = self.web3.eth.block_number
        if number == self._last:
            return
        if self._last is not None:  # each job runs once at the start anyway
            for worker in self._concerned(workers, number):
                for job in worker.jobs:
                    if job.rhythm.on_block or job.rhythm.on_price:
                        worker.ask(job)
        self._last = number  # not before: what failed is handled again

    def _concerned(self, workers: Sequence[Worker], number: int) -> Iterable[Worker]:
        if not self.lens:
            repriced = self._repriced(
                [worker for worker in workers if not worker.follows("on_block")], number
            )
            return [worker for worker in workers if worker.follows("on_block") or worker.vault in repriced]
        found = screen(
            self.web3, self.lens, [worker.vault for worker in workers], block_at(self.web3, number)
        )
        return [
            worker
            for worker, seen in zip(workers, found, strict=True)
            if worker.unsettled
            or seen.snapshot is None  # the lens cannot say: its own look will
            or (seen.could_act and (worker.follows("on_block") or _moved(worker.snapshot, seen.snapshot)))
        ]

    def _repriced(self, workers: Sequence[Worker], number: int) -> set[str]:
        """Vaults one of whose prices is not what their last look saw. Of each oracle, all tokens at once."""
        tokens: dict[str, set[str]] = {}
        for worker in workers:
            if worker.snapshot is not None:
                state = worker.snapshot.state
                tokens.setdefault(state.oracle, set()).update(asset.token for asset in state.assets)
        now: dict[tuple[str, str], tuple[int, int]] = {}
        for oracle, wanted in tokens.items():
            listed = sorted(wanted)
            for i in range(0, len(listed), MOST_PRICES):
                some = listed[i : i + MOST_PRICES]
                prices = read_prices(self.web3, oracle, some, number)
                now |= {(oracle, token): price for token, price in zip(some, prices, strict=True)}
        return {
            worker.vault for worker in workers if worker.snapshot is None or _differs(worker.snapshot, now)
        }

    # ------------------------------------------------------------ a subscription

    def listen(self, stop: threading.Event) -> None:
        """Let the node at `ws_url` tell of new blocks, until the stop; without it they are polled for."""
        asyncio.run(self._listen(stop))

    async def _listen(self, stop: threading.Event) -> None:
        while not stop.is_set():
            task = asyncio.create_task(self._newest())
            while not task.done() and not stop.is_set():
                await asyncio.wait({task}, timeout=0.2)
            self._subscribed = False
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                return
            error = task.exception()
            log.warning("ws_url: no subscription, blocks are polled for", error=type(error).__name__)
            self._wake.set()
            for _ in range(50):  # ten seconds
                if not stop.is_set():
                    await asyncio.sleep(0.2)

    async def _newest(self) -> None:
        from web3 import AsyncWeb3, WebSocketProvider

        async with AsyncWeb3(WebSocketProvider(self.ws_url)) as web3:
            await web3.eth.subscribe("newHeads")
            self._subscribed = True
            self._wake.set()
            async for _ in web3.socket.process_subscriptions():
                self._wake.set()


def _moved(before: Snapshot | None, now: Snapshot | None) -> bool:
    """Whether a price, or whether it can be used, is not what it was."""
    if before is None or now is None:
        return True
    return (before.state.prices, before.state.statuses) != (now.state.prices, now.state.statuses)


def _differs(seen: Snapshot, now: dict[tuple[str, str], tuple[int, int]]) -> bool:
    state = seen.state
    rows = zip(state.assets, state.prices, state.statuses, strict=True)
    return any(now.get((state.oracle, a.token)) != (price, status) for a, price, status in rows)


# ---------------------------------------------------------------- all of them


def run(
    jobs: Sequence[Job],
    *,
    sender: Sender,
    stop: threading.Event | None = None,
    outside: Outside | None = None,
    heads: Heads | None = None,
    slots: Slots | None = None,
) -> None:
    """Do the jobs on their rhythms until a signal or `stop`.

    `outside`: what others see of it (offchain.keeper.outside.watching). `heads`: for jobs on blocks or prices.
    """
    outside, stop = outside or Outside(), stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    by_vault: dict[str, list[Job]] = {}
    for job in jobs:
        by_vault.setdefault(job.looker.vault, []).append(job)
    workers = [Worker(of_one, stop, outside.watch, slots) for of_one in by_vault.values()]
    timed = [
        (Timer(job.rhythm, time.time(), time.monotonic()), worker, job)
        for worker in workers
        for job in worker.jobs
    ]
    for timer, worker, job in timed:
        if job.name == REBALANCE:
            worker.next_in = partial(_left, timer)
            outside.watch.due(worker.vault, 0 if job.rhythm.at_start else _left(timer))
    threads = [threading.Thread(target=worker.work, name=worker.vault) for worker in workers]
    followers = [worker for worker in workers if worker.follows("on_block") or worker.follows("on_price")]
    if heads is not None and followers:
        threads.append(threading.Thread(target=heads.follow, args=(followers, stop), name="heads"))
        if heads.ws_url:
            threads.append(threading.Thread(target=heads.listen, args=(stop,), name="subscription"))
    if outside.ticks:
        threads.append(threading.Thread(target=_tick, args=(outside, stop), name="outside"))
    outside.watch.beat()
    for thread in threads:
        thread.start()
    log.info("keeper runs", jobs=len(jobs), sends=sender.sends)
    for job in jobs:
        log.info("schedule", vault=job.looker.vault, job=job.name, schedule=str(job.rhythm))
    try:
        _keep_time(timed, outside.watch, stop)
    finally:  # a look that is under way is finished; what it sent is in the journal
        stop.set()
        sender.stop.set()
        for worker in workers:
            worker.end()
        if heads is not None:
            heads.end()
        for thread in threads:
            thread.join()
    log.info("keeper stopped")


def _keep_time(timed: Sequence[tuple[Timer, Worker, Job]], watch: Watch, stop: threading.Event) -> None:
    beat_at = time.monotonic()
    while not stop.is_set():
        wall, mono = time.time(), time.monotonic()
        if mono - beat_at >= BEAT_SECONDS:
            watch.beat()
            beat_at = mono
        for timer, worker, job in timed:
            if timer.due(wall, mono):
                worker.ask(job, timer.slot)
        left = min((timer.left(wall, mono) for timer, _, _ in timed), default=CLOCK_SECONDS)
        stop.wait(max(0.01, min(left, CLOCK_SECONDS)))


def _left(timer: Timer) -> float:
    return timer.left(time.time(), time.monotonic())


def _tick(outside: Outside, stop: threading.Event) -> None:
    """Probes and alerts, where they are on."""
    while not stop.is_set():
        try:
            outside.tick()
        except Exception:
            log.exception("bug: probes and alerts")
        stop.wait(TICK_SECONDS)


# ---------------------------------------------------------------- by the settings


def run_settings(settings: Settings, web3: Web3, stop: threading.Event | None = None) -> None:
    """Keep all the vaults that the settings name, until a signal or `stop`. ConfigError where a setting is wrong.

    While another keeper has the journal or one of the vaults this one stands by.
    """
    kept = settings.kept()
    if not kept:
        names = "vault" if settings.executor else "vault, executor"
        raise ConfigError(f"{names}: not set (in evenkeel.toml, or EVENKEEL_VAULT; several: vaults)")
    sender, stop = Sender.from_settings(web3, settings), stop or threading.Event()
    rhythms = [_rhythm(table) for table in kept]
    with (
        watching(settings, web3, sender) as outside,
        _held(settings, [table.address for table in kept], outside.watch, stop) as journal,
        _slots(settings) as slots,
    ):
        jobs = []
        for table, rhythm in zip(kept, rhythms, strict=True):
            jobs.append(Job(keeper_of(settings, web3, sender, journal, table.address), rhythm))
            if table.strategy is not None:
                jobs.append(_strategy_job(settings, table.strategy, web3, sender, journal, table.address))
        heads = _heads(settings, web3, settings.lens or "")
        run(jobs, sender=sender, stop=stop, outside=outside, heads=heads, slots=slots)


@contextmanager
def _held(
    settings: Settings, vaults: Sequence[str], watch: Watch, stop: threading.Event
) -> Iterator[Journal]:
    """The journal and the vaults; while another keeper has them this one stands by, to take its place."""

    def stands_by(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning(
                "stands by, to take over when it ends",
                reason=str(state.outcome and state.outcome.exception()),
            )
        watch.note(standby=True)
        watch.beat()

    retrying = Retrying(
        retry=retry_if_exception_type(HeldError),
        wait=wait_fixed(STANDBY_SECONDS),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=stands_by,
        reraise=True,
    )
    with ExitStack() as opened:
        journal = retrying(lambda: opened.enter_context(journal_of(settings, vaults)))
        watch.note(standby=False)
        yield journal


def serve_fillers(
    settings: Settings, web3: Web3, fillers: Sequence[Filler], stop: threading.Event | None = None
) -> None:
    """Look at each filler's vault on its rhythm, until a signal or `stop`."""
    jobs = [Job(one, _rhythm(settings.of(one.vault))) for one in fillers]
    sender = fillers[0].sender
    with watching(settings, web3, sender) as outside:
        run(jobs, sender=sender, stop=stop, outside=outside, heads=_heads(settings, web3, lens=""))


def _heads(settings: Settings, web3: Web3, lens: str) -> Heads:
    url = settings.ws_url.get_secret_value() if settings.ws_url else ""
    return Heads(web3, lens, settings.poll_seconds, url)


def _rhythm(table: VaultSettings) -> Rhythm:
    try:
        return Rhythm(
            table.interval_seconds,
            table.cron,
            table.timezone or "UTC",
            bool(table.on_block),
            bool(table.on_price),
        )
    except ConfigError as error:
        raise ConfigError(f"{error} (of vault {table.address})") from None


def _strategy_job(
    settings: Settings, strategy: StrategySettings, web3: Web3, sender: Sender, journal: Journal, vault: str
) -> Job:
    try:
        rhythm = Rhythm(strategy.interval_seconds, strategy.cron, strategy.timezone)
        return Job(strategist_of(settings, strategy, web3, sender, journal, vault), rhythm, TARGETS)
    except EvenkeelError as error:
        raise ConfigError(f"strategy of vault {vault}: {error}") from None


@contextmanager
def _slots(settings: Settings) -> Iterator[Slots]:
    target: Any = settings.database.get_secret_value() if settings.database else settings.journal
    with ExitStack() as open_things:
        engine = open_database(target)
        open_things.callback(engine.dispose)
        yield Slots(engine)
