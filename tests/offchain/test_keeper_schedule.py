"""The schedule: a look never ends the keeper, no vault waits for another, what was missed is done once."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import structlog
from structlog.testing import capture_logs

from offchain.chain.errors import BusyError, ConfigError, HeldError, JournalError
from offchain.cli.common import _log_to_stderr
from offchain.errors import EvenkeelError
from offchain.keeper import schedule
from offchain.keeper.database import open_database
from offchain.keeper.journal import Status
from offchain.keeper.loop import journal_of
from offchain.keeper.outside import Outside
from offchain.keeper.rhythm import Rhythm
from offchain.keeper.schedule import TARGETS, Heads, Job, Slots, Worker, _held, look, run, run_settings
from offchain.keeper.watch import Watch
from offchain.settings import load_settings
from tests.support.keeper_seen import OTHER, VAULT, outcome, snapshot

PATIENCE = 60  # seconds that a test waits for what must happen
HOUR = 3_600


class Scripted:
    """Looks do what the list says: raise, or call a function; then nothing."""

    def __init__(
        self,
        *script: Exception | Callable[[], None] | None,
        then: threading.Event | None = None,
        vault: str = VAULT,
    ) -> None:
        self.script, self.looks, self.then, self.vault = list(script), 0, then, vault
        self.web3: Any = SimpleNamespace(eth=SimpleNamespace(chain_id=1))
        self.seen = snapshot(vault=vault)
        self.status, self.tx_hash = Status.SKIPPED, None
        self.tends: list[Any] = []  # what following what was sent comes to; then nothing is left
        self.tended = threading.Semaphore(0)

    def once(self) -> Any:
        self.looks += 1
        step = self.script.pop(0) if self.script else None
        if not self.script and self.then:
            self.then.set()
        if isinstance(step, Exception):
            raise step
        if step is not None:
            step()
        return replace(outcome(self.status, vault=self.vault, seen=self.seen), tx_hash=self.tx_hash)

    def tend(self) -> bool:
        step = self.tends.pop(0) if self.tends else False
        self.tended.release()
        if isinstance(step, Exception):
            raise step
        return bool(step)


def sender() -> Any:
    return SimpleNamespace(sends=False, stop=threading.Event())


def run_jobs(*jobs: Job, stop: threading.Event, **more: Any) -> None:
    """Until a job sets `stop`."""
    run(jobs, sender=sender(), stop=stop, **more)


# ---------------------------------------------------------------- one look


def test_an_outage_is_waited_out() -> None:
    keeper = Scripted(requests.ConnectionError(), TimeoutError(), JournalError("away"), None)
    with capture_logs() as logs:
        found = look(keeper, threading.Event(), longest_pause=0.01)
    assert keeper.looks == 4
    assert [line["event"].split()[1] for line in logs] == ["node", "node", "database"]
    assert found is not None and found.vault == VAULT


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    keeper = Scripted(*[requests.ConnectionError()] * 2, then=stop)
    assert look(keeper, stop, longest_pause=0.01) is None
    assert keeper.looks == 2


@pytest.mark.parametrize("error", [EvenkeelError("vault: not a vault"), RuntimeError("a bug")])
def test_other_errors_end_only_the_look(error: Exception) -> None:
    keeper = Scripted(error)
    assert look(keeper, threading.Event()) is None
    assert keeper.looks == 1


# ---------------------------------------------------------------- several jobs


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """stderr on a full disk: the vaults' threads must not end one by one, unseen."""
    stop = threading.Event()
    keeper = Scripted(RuntimeError("a bug"), log_a_line, log_a_line, then=stop)
    before = structlog.get_config()
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        _log_to_stderr(as_json=False)
        late = threading.Timer(PATIENCE, stop.set)
        late.start()
        try:
            run_jobs(Job(keeper, Rhythm(0.01)), stop=stop)
        finally:
            late.cancel()
            structlog.configure(**before)
            with contextlib.suppress(OSError):
                full.close()
    assert keeper.looks >= 3


def log_a_line() -> None:
    structlog.get_logger().warning("a look")


def test_what_goes_wrong_after_a_look_does_not_end_the_vault_s_thread() -> None:
    class Broken(Slots):
        def __init__(self) -> None: ...

        def done_at(self, *_: Any) -> int:
            return 0

        def done(self, *_: Any) -> None:
            raise RuntimeError("a bug")

    stop, keeper = threading.Event(), Scripted(None, None)
    worker = Worker([Job(keeper, DAILY)], stop, Watch(), Broken())
    thread = threading.Thread(target=worker.work)
    thread.start()  # it runs once for what was missed
    try:
        wait_for(lambda: keeper.looks == 1 or not thread.is_alive())
        worker.ask(worker.jobs[0])
        wait_for(lambda: keeper.looks == 2 or not thread.is_alive())
        assert thread.is_alive()
    finally:
        stop.set()
        worker.end()
        thread.join()


def test_run_looks_at_once_and_again_until_stopped() -> None:
    stop = threading.Event()
    keeper = Scripted(RuntimeError("a bug"), None, then=stop)
    run_jobs(Job(keeper, Rhythm(0.01)), stop=stop)
    assert keeper.looks >= 2


def test_a_look_that_hangs_or_fails_holds_up_no_other_vault() -> None:
    stop, free = threading.Event(), threading.Event()
    hangs = Scripted(lambda: free.wait(PATIENCE), vault=OTHER)  # type: ignore[arg-type,return-value]
    fails = Scripted(*[RuntimeError("a bug")] * 9, vault="0x" + "c" * 40)
    works = Scripted(None, None, None, free.set, then=stop)
    run_jobs(Job(hangs, Rhythm(0.01)), Job(fails, Rhythm(0.01)), Job(works, Rhythm(0.01)), stop=stop)
    assert free.is_set()  # by the vault that works, while the first look at the other still hung
    assert hangs.looks == 1 and works.looks >= 4
    assert fails.looks >= 1


def test_a_vault_s_jobs_run_one_after_the_other_and_a_strategy_that_fails_does_not_halt_it() -> None:
    stop, busy, together = threading.Event(), threading.Lock(), []

    def alone() -> None:
        together.append(not busy.acquire(blocking=False))
        busy.release()

    def fails() -> None:
        alone()
        raise RuntimeError("no history")

    keeper = Scripted(*[alone] * 3, then=stop)
    strategist = Scripted(*[fails] * 9)
    watch = Watch(max_exceptions=1)
    jobs = Job(keeper, Rhythm(0.01)), Job(strategist, Rhythm(0.01), TARGETS)
    run_jobs(*jobs, stop=stop, outside=Outside(watch))
    assert keeper.looks >= 3
    assert strategist.looks == 1  # halted by itself
    assert not any(together)
    assert not watch.halted(VAULT)


def test_all_that_is_asked_for_during_a_look_is_one_more_look() -> None:
    stop, started, go = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        go.wait(PATIENCE)

    keeper = Scripted(slow, None, then=None)
    worker = Worker([job := Job(keeper, Rhythm(HOUR))], stop, Watch())
    thread = threading.Thread(target=worker.work)
    thread.start()
    assert started.wait(PATIENCE)
    for _ in range(5):
        worker.ask(job)
    ended = threading.Event()
    keeper.then = ended
    go.set()
    assert ended.wait(PATIENCE)
    stop.set()
    worker.end()
    thread.join()
    assert keeper.looks == 2


# ---------------------------------------------------------------- what was missed


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    engine = open_database(tmp_path / "journal.sqlite")
    yield Slots(engine)
    engine.dispose()


NINE = 1_795_251_600.0  # 21 November 2026, 09:00 UTC
DAILY = Rhythm(cron="0 9 * * *")


def worker_at(wall: float, keeper: Scripted, slots: Slots, rhythm: Rhythm = DAILY) -> tuple[Worker, Job]:
    """A worker whose clock stands at `wall`, as a new process makes it."""
    job = Job(keeper, rhythm)
    return Worker([job], threading.Event(), Watch(), slots, wall=lambda: wall), job


def started(wall: float, slots: Slots, rhythm: Rhythm = DAILY) -> bool:
    """Whether a process that starts at `wall` looks at once."""
    worker, _ = worker_at(wall, Scripted(), slots, rhythm)
    worker.stop.set()
    worker.work()
    return bool(worker._asked)


def test_a_first_start_waits_for_the_schedule(slots: Slots) -> None:
    assert not started(NINE + 60, slots)
    assert slots.done_at(1, VAULT, "rebalance") == NINE + 60


def test_a_time_that_passed_while_no_keeper_ran_is_made_up_for_once(slots: Slots) -> None:
    slots.done(1, VAULT, "rebalance", NINE)
    assert not started(NINE + 23 * HOUR, slots)
    with capture_logs() as logs:
        assert started(NINE + 75 * HOUR, slots)  # three of them
    (said,) = [line for line in logs if line["event"].startswith("missed")]
    assert said["since"] == "2026-11-22T09:00:00+00:00"
    worker, job = worker_at(NINE + 75 * HOUR, Scripted(), slots)
    worker._do(job, NINE + 75 * HOUR)
    assert not started(NINE + 76 * HOUR, slots)


def test_a_crash_or_an_error_during_the_look_leaves_its_time_to_the_next_start(slots: Slots) -> None:
    slots.done(1, VAULT, "rebalance", NINE)
    worker, job = worker_at(NINE + 24 * HOUR, Scripted(RuntimeError("a bug")), slots)
    worker._do(job, NINE + 24 * HOUR)
    assert slots.done_at(1, VAULT, "rebalance") == NINE
    assert started(NINE + 25 * HOUR, slots)


def test_a_time_that_came_while_a_long_look_ran_is_not_lost_in_a_crash(slots: Slots) -> None:
    """The look of day one ends on day two: what is done is day one."""
    worker, job = worker_at(NINE + 30 * HOUR, Scripted(), slots)
    worker._do(job, NINE)
    assert slots.done_at(1, VAULT, "rebalance") == NINE
    assert started(NINE + 31 * HOUR, slots)


def test_a_record_of_a_clock_that_was_ahead_misses_nothing_and_runs_nothing(slots: Slots) -> None:
    slots.done(1, VAULT, "rebalance", NINE + 365 * 24 * HOUR)
    assert not started(NINE + HOUR, slots)


def test_a_node_that_cannot_say_which_chain_it_is_means_a_look(slots: Slots) -> None:
    class Away:
        @property
        def chain_id(self) -> int:
            raise requests.ConnectionError

    slots.done(1, VAULT, "rebalance", NINE)
    keeper = Scripted()
    keeper.web3 = SimpleNamespace(eth=Away())
    worker, _ = worker_at(NINE + 60, keeper, slots)
    worker.stop.set()
    worker.work()
    assert worker._asked


def test_an_interval_or_blocks_start_with_a_look(slots: Slots) -> None:
    slots.done(1, VAULT, "rebalance", NINE)
    assert started(NINE + 60, slots, Rhythm(60))
    assert started(NINE + 60, slots, replace(DAILY, on_block=True))


# ---------------------------------------------------------------- between two looks


def test_what_was_sent_is_followed_however_far_the_next_look_is(slots: Slots) -> None:
    keeper = Scripted()
    keeper.tx_hash = "0x" + "11" * 32
    worker, job = worker_at(NINE, keeper, slots)
    worker.settle_seconds = 0.01
    keeper.tends = [False, True, requests.ConnectionError("away"), True, False]
    thread = threading.Thread(target=worker.work)
    thread.start()
    assert keeper.tended.acquire(timeout=PATIENCE)  # a crash may have left something
    worker.ask(job)
    for _ in range(4):
        assert keeper.tended.acquire(timeout=PATIENCE)
    worker.stop.set()
    worker.end()
    thread.join(PATIENCE)
    assert (keeper.looks, keeper.tends, worker.young) == (1, [], False)


def test_that_what_was_sent_cannot_be_followed_is_said_once(slots: Slots) -> None:
    keeper = Scripted()
    worker, _ = worker_at(NINE, keeper, slots)
    keeper.tends = [JournalError("away"), JournalError("away"), True, JournalError("away")]
    with capture_logs() as logs:
        for _ in range(4):
            worker._tend()
    assert len(logs) == 2
    assert worker.young


def test_after_a_look_that_sent_nothing_there_is_nothing_to_follow(slots: Slots) -> None:
    keeper = Scripted(None, BusyError("another"))
    worker, job = worker_at(NINE, keeper, slots)
    worker.young = False
    worker._do(job, NINE)
    assert not worker.young
    worker._do(job, NINE)
    assert worker.young  # nobody knows what it sent


# ---------------------------------------------------------------- blocks and prices


class Chain:
    """A node that counts what it is asked."""

    def __init__(self) -> None:
        self.number, self.asked, self.prices = 7, [], {}
        self.error: Exception | None = None
        self.eth: Any = self

    @property
    def block_number(self) -> int:
        self.asked.append("eth_blockNumber")
        if self.error:
            raise self.error
        return self.number


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Chain:
    chain = Chain()

    def read(web3: Any, oracle: str, tokens: list[str], block: int) -> list[tuple[int, int]]:
        chain.asked.append(f"prices of {len(tokens)}")
        return [chain.prices.get(token, (10**18, 0)) for token in tokens]

    monkeypatch.setattr(schedule, "read_prices", read)
    return chain


def follower(vault: str = VAULT, **rhythm: bool) -> Worker:
    """A worker whose first look is over."""
    worker = Worker([Job(Scripted(vault=vault), Rhythm(HOUR, **rhythm))], threading.Event(), Watch())  # type: ignore[arg-type]
    worker._do(worker.jobs[0], 0)
    return worker


def asked(workers: list[Worker]) -> list[bool]:
    found = [bool(worker._asked) for worker in workers]
    for worker in workers:
        worker._asked.clear()
    return found


def test_a_block_is_polled_for_once_for_all_vaults(chain: Chain) -> None:
    workers = [follower(f"0x{i:040x}", on_block=True) for i in range(30)]
    heads = Heads(chain)  # type: ignore[arg-type]
    heads.handle(workers)
    assert not any(asked(workers))  # each starts with a look of its own
    heads.handle(workers)
    assert not any(asked(workers))
    chain.number += 1
    heads.handle(workers)
    assert all(asked(workers))
    assert chain.asked == ["eth_blockNumber"] * 3


def test_a_price_wakes_the_vaults_that_hold_it(chain: Chain) -> None:
    workers = [follower(VAULT, on_price=True), follower(OTHER, on_price=True)]
    other = workers[1].jobs[0].looker
    assert isinstance(other, Scripted)
    assets = tuple(
        replace(asset, token="0x" + str(8 + i) * 40) for i, asset in enumerate(other.seen.state.assets)
    )
    other.seen = replace(other.seen, state=replace(other.seen.state, assets=assets))
    workers[1]._do(workers[1].jobs[0], 0)
    heads = Heads(chain)  # type: ignore[arg-type]
    heads.handle(workers)
    chain.number += 1
    heads.handle(workers)
    assert asked(workers) == [False, False]
    chain.number += 1
    chain.prices[assets[0].token] = (10**18 + 1, 0)
    chain.asked.clear()
    heads.handle(workers)
    assert asked(workers) == [False, True]
    assert chain.asked == ["eth_blockNumber", "prices of 4"]
    chain.number += 1
    heads.handle(workers)
    assert asked(workers) == [False, True]  # until a look has seen it
    chain.prices[assets[0].token] = (10**18, 5)
    chain.number += 1
    heads.handle(workers)
    assert asked(workers) == [False, True]  # a price that went stale is news as well


def test_a_block_whose_handling_failed_is_handled_again(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [follower(on_price=True)]
    heads = Heads(chain)  # type: ignore[arg-type]
    heads.handle(workers)
    chain.number += 1
    chain.prices = {asset.token: (1, 0) for asset in snapshot().state.assets}
    read = schedule.read_prices

    def away(*_: Any) -> Any:
        raise requests.ConnectionError

    monkeypatch.setattr(schedule, "read_prices", away)
    with pytest.raises(requests.ConnectionError):
        heads.handle(workers)
    monkeypatch.setattr(schedule, "read_prices", read)
    heads.handle(workers)
    assert asked(workers) == [True]


def test_with_a_lens_only_vaults_that_could_act_or_are_not_settled_are_looked_at(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [follower(f"0x{i:040x}", on_block=True) for i in range(3)]
    workers[2].unsettled = True
    calls = []

    def screened(web3: Any, lens: str, vaults: list[str], at: Any) -> list[Any]:
        calls.append(len(vaults))
        return [SimpleNamespace(vault=v, snapshot=snapshot(), could_act=i == 1) for i, v in enumerate(vaults)]

    monkeypatch.setattr(schedule, "screen", screened)
    monkeypatch.setattr(schedule, "block_at", lambda web3, number: None)
    heads = Heads(chain, lens="0x" + "e" * 40)  # type: ignore[arg-type]
    heads.handle(workers)
    chain.number += 1
    heads.handle(workers)
    assert asked(workers) == [False, True, True]
    assert calls == [3]


def test_after_an_error_a_vault_counts_as_not_settled(chain: Chain) -> None:
    """What its look had sent before, the screen cannot see."""
    worker = Worker(
        [Job(Scripted(BusyError("another"), None), Rhythm(HOUR, on_block=True))], threading.Event(), Watch()
    )
    (job,) = worker.jobs
    worker._do(job, 0)
    assert worker.unsettled
    worker._do(job, 0)
    assert not worker.unsettled


def test_an_outage_of_the_node_is_said_once_and_waited_out(chain: Chain) -> None:
    stop, workers = threading.Event(), [follower(on_block=True)]
    heads = Heads(chain, poll_seconds=0.001)  # type: ignore[arg-type]
    chain.error = requests.ConnectionError()
    thread = threading.Thread(target=heads.follow, args=(workers, stop))
    with capture_logs() as logs:
        thread.start()
        wait_for(lambda: len(chain.asked) > 5)
        chain.error = None
        wait_for(lambda: heads._last == 7)
        chain.number = 8
        wait_for(lambda: bool(workers[0]._asked))
        stop.set()
        heads.end()
        thread.join()
    assert [line["event"] for line in logs] == ["blocks cannot be followed for now"]


def wait_for(what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.001)


# ---------------------------------------------------------------- by the settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


A, B = "0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D"


def test_each_vault_has_its_own_settings_and_else_the_general_ones() -> None:
    Path("evenkeel.toml").write_text(
        f"""
        cron = "0 9 * * *"
        timezone = "Europe/Berlin"
        on_price = true
        trigger_blocks = 2
        [[vaults]]
        address = "{A}"
        [[vaults]]
        address = "{B}"
        interval_seconds = 5
        on_price = false
        on_block = true
        trigger_blocks = 3
        """
    )
    settings = load_settings()
    first, second = (schedule._rhythm(table) for table in settings.kept())
    assert first == Rhythm(None, "0 9 * * *", "Europe/Berlin", False, True)
    assert second == Rhythm(5, None, "Europe/Berlin", True, False)
    assert [settings.of(vault).trigger_blocks for vault in (A, B)] == [2, 3]
    assert [table.address for table in load_settings(vault=B).kept()] == [B]
    assert load_settings(vault=B).kept()[0].interval_seconds == 5


def test_plain_addresses_are_vaults() -> None:
    Path("evenkeel.toml").write_text(f'vaults = ["{A}", "{B.lower()}"]')
    assert [table.address for table in load_settings().kept()] == [A, B]
    assert [table.interval_seconds for table in load_settings().kept()] == [60, 60]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'vaults = ["{A}", "{A}"]', f"vaults: {A} is there twice"),
        (f'vault = "{A}"\nvaults = ["{B}"]', f"vault: {A} is not one of vaults"),
        ('vaults = ["0x12"]', r"vaults\.0\.address: '0x12' is not an address"),
        (f'[[vaults]]\naddress = "{A}"\ncorn = "x"', r"vaults\.0\.corn: unknown key"),
        (
            f'[[vaults]]\naddress = "{A}"\ncron = "x"\ninterval_seconds = 3',
            "cron and interval_seconds: set one",
        ),
    ],
)
def test_a_wrong_vault_is_named(text: str, words: str) -> None:
    Path("evenkeel.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_settings()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "vault, executor: not set"),
        ({"vault": A, "cron": "often"}, f"cron: 'often' .* {A}"),
        ({"vault": A, "cron": "0 9 * * *", "timezone": "Berlin"}, "timezone: 'Berlin'"),
    ],
)
def test_a_schedule_that_is_none_is_named_before_anything_starts(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run_settings(load_settings(**settings), None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- another keeper is there


def test_a_second_keeper_stands_by_and_takes_the_first_one_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "STANDBY_SECONDS", 0.01)
    settings, watch, stop = load_settings(vault=VAULT), Watch(), threading.Event()
    waits, has, leave = threading.Event(), threading.Event(), threading.Event()
    beat = watch.beat

    def beats() -> None:
        beat()
        waits.set()

    monkeypatch.setattr(watch, "beat", beats)

    def second() -> None:
        with _held(settings, [VAULT], watch, stop):
            has.set()
            leave.wait(PATIENCE)

    with journal_of(settings, [VAULT]):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(PATIENCE)
        assert (watch.facts().standby, has.is_set()) == (True, False)
    assert has.wait(PATIENCE)
    assert not watch.facts().standby
    leave.set()
    thread.join(PATIENCE)


def test_a_keeper_that_stands_by_ends_at_the_stop() -> None:
    settings, stop = load_settings(vault=VAULT), threading.Event()
    stop.set()
    with (
        journal_of(settings, [VAULT]),
        pytest.raises(HeldError, match="journal: another keeper is using"),
        _held(settings, [VAULT], Watch(), stop),
    ):
        pass
