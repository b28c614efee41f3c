"""The process dies, the disk is full, the database goes away, somebody else works on the same vault. On anvil.

After each fault: the vault was rebalanced once, the journal says so, and no nonce of the account is open.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from sqlalchemy import event
from sqlalchemy.orm import Session
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.types import RPCEndpoint

from offchain.chain.errors import HeldError, JournalError
from offchain.chain.sender import Sender
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper, from_settings
from offchain.planner import Plan, Problem, plan
from offchain.settings import load_settings
from tests.support.anvil import Anvil, anvil
from tests.support.demo_vault import FIRST, funded_vault, make_keeper
from tests.support.postgres import Postgres, postgres  # noqa: F401

JUMP = replace(FIRST, prices=(FIRST.prices[0] * 16 // 10, *FIRST.prices[1:]))  # tAAPL from 30 % to above 40 %

ASK_ONCE = {"cache_allowed_requests": True, "cacheable_requests": {RPCEndpoint("eth_chainId")}}


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A vault that is due."""
    with funded_vault(anvil) as (world, vault):
        world.chain.mine(world.chain.now + 3_600)
        world.set_market(JUMP)
        yield world, vault


class Planner:
    """The planner, which is asked once: every test begins at the same state."""

    def __init__(self) -> None:
        self.found: Plan | None = None

    def __call__(self, problem: Problem) -> Plan:
        self.found = self.found or plan(problem)
        return self.found


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner()


@dataclass
class Stage:
    """The vault, and keepers that each have a connection of their own."""

    world: World
    vault: Contract
    planner: Planner

    @property
    def chain(self) -> Anvil:
        assert isinstance(self.world.chain, Anvil)
        return self.world.chain

    def keeper(
        self, journal: Journal, provider: type[HTTPProvider] = HTTPProvider, **settings: Any
    ) -> Keeper:
        web3 = Web3(provider(self.chain.url, **ASK_ONCE))  # type: ignore[arg-type]
        options = {"receipt_timeout_seconds": 20, "poll_seconds": 0.01} | settings
        sender = Sender(web3, self.world.keeper, **options)  # type: ignore[arg-type]
        return make_keeper(self.world, self.vault, journal, web3=web3, sender=sender, planner=self.planner)

    def rebalances(self) -> int:
        return len(list(self.vault.events.Rebalanced().get_logs(from_block=0)))

    def count(self) -> int:
        return int(self.chain.web3.eth.get_transaction_count(self.world.keeper.address))

    def assert_done_once(self, target: Path | str) -> None:
        """A keeper that starts now has nothing left to do, and journal and chain agree."""
        journal = Journal(target)
        for _ in range(2):
            assert self.keeper(journal).once().status in (Status.CONFIRMED, Status.SKIPPED)
        runs = journal.runs(self.vault.address)
        (done,) = [run for run in runs if run.status == Status.CONFIRMED]
        (event,) = self.vault.events.Rebalanced().get_logs(from_block=0)
        assert done.tx_hash == event["transactionHash"].to_0x_hex()
        assert event["args"]["decision"].hex() == (done.decision or "").removeprefix("0x")
        assert {run.status for run in runs} <= {Status.CONFIRMED, Status.FAILED, Status.SKIPPED}
        assert [run.id for run, _ in journal.costs(self.vault.address)] == [done.id]
        open_nonces = journal.open_nonces(self.chain.web3.eth.chain_id, self.world.keeper.address)
        assert [nonce.state for nonce, _ in open_nonces if nonce.nonce < self.count()] == []
        assert self.count() == 1
        journal.close()


@pytest.fixture
def stage(world: World, vault: Contract, planner: Planner) -> Stage:
    return Stage(world, vault, planner)


# ---------------------------------------------------------------- the process dies

STEPS = ["plan", "simulated", "reserve", "sent", "send", "mined"]  # in the order in which a look takes them


@contextmanager
def watching(act: Callable[[str], None]) -> Iterator[type[HTTPProvider]]:
    """`act` gets "before 3", "after 3" at the third step: a commit of the journal, or the transaction's sending."""
    number = 0

    class Provider(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            if method != "eth_sendRawTransaction":
                return super().make_request(method, params)
            before(None)
            try:
                return super().make_request(method, params)
            finally:
                after(None)

    def before(_: object) -> None:
        nonlocal number
        number += 1
        act(f"before {number}")

    def after(_: object) -> None:
        act(f"after {number}")

    event.listen(Session, "before_commit", before)
    event.listen(Session, "after_commit", after)
    try:
        yield Provider
    finally:
        event.remove(Session, "before_commit", before)
        event.remove(Session, "after_commit", after)


def look_and_die(stage: Stage, path: Path, moment: str) -> None:
    """In a process of its own: it is gone at that moment, as with a power cut."""

    def act(now: str) -> None:
        if now == moment:
            os._exit(9)

    with watching(act) as provider:
        outcome = stage.keeper(Journal(path), provider).once()
    os._exit(0 if outcome.status == Status.CONFIRMED else 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_keeper_that_dies_anywhere_resumes(stage: Stage, tmp_path: Path, step: str, when: str) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    stage.planner.found = stage.planner.found or stage.keeper(Journal(":memory:"), dry_run=True).once().plan
    moment = f"{when} {STEPS.index(step) + 1}"
    process = multiprocessing.get_context("fork").Process(target=look_and_die, args=(stage, path, moment))
    process.start()
    process.join()
    assert process.exitcode == 9
    stage.assert_done_once(path)


def test_the_steps_are_all_that_a_look_takes(stage: Stage, tmp_path: Path) -> None:
    seen: list[str] = []
    with watching(seen.append) as provider:
        assert stage.keeper(Journal(tmp_path / "journal.sqlite"), provider).once().status == Status.CONFIRMED
    assert seen == [f"{when} {k}" for k in range(1, len(STEPS) + 1) for when in ("before", "after")]


# ---------------------------------------------------------------- the disk, the database


def fill_up(path: Path, journal: Journal) -> None:
    """Not a byte more fits into the file."""
    with journal._engine.connect() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar()
        db.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # of this connection, which the pool keeps
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"PRAGMA max_page_count={pages}")
        other.execute("create table if not exists junk (x)") if not _has_junk(other) else None
        for size in (2_000, 200, 20, 1):
            while True:
                try:
                    other.execute("insert into junk values (zeroblob(?))", (size,))
                except sqlite3.OperationalError:
                    break


def _has_junk(db: sqlite3.Connection) -> bool:
    return db.execute("select 1 from sqlite_master where name = 'junk'").fetchone() is not None


@pytest.mark.parametrize("step", ["plan", "sent", "mined"])
def test_a_full_disk_stops_it_and_room_lets_it_go_on(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table junk (x)")
    write = getattr(Journal, step)

    def full(self: Journal, *args: Any, **named: Any) -> Any:
        fill_up(path, self)
        return write(self, *args, **named)

    monkeypatch.setattr(Journal, step, full)
    with pytest.raises(JournalError, match="database or disk is full"):
        stage.keeper(journal).once()
    assert (stage.count(), stage.rebalances()) == ((1, 1) if step == "mined" else (0, 0))
    monkeypatch.undo()
    journal.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("drop table junk")
    stage.assert_done_once(path)


@pytest.mark.parametrize("step", STEPS)
def test_a_database_that_goes_away_stops_it_and_its_return_lets_it_go_on(
    stage: Stage,
    postgres: Postgres,  # noqa: F811
    step: str,
) -> None:
    url = postgres.url()
    journal = Journal(url)

    def act(now: str) -> None:
        if now == f"before {STEPS.index(step) + 1}":
            postgres.stop()

    with watching(act) as provider, pytest.raises(JournalError, match="journal: cannot"):
        stage.keeper(journal, provider).once()
    assert stage.count() == (1 if step in ("send", "mined") else 0)  # what was sent is in the journal
    postgres.start()
    journal.close()
    stage.assert_done_once(url)


# ---------------------------------------------------------------- somebody else


def test_two_keepers_with_one_database_on_one_vault(stage: Stage, postgres: Postgres) -> None:  # noqa: F811
    url = postgres.url()
    start = threading.Barrier(3)
    problems: list[Exception] = []

    def keep() -> None:
        journal = Journal(url)
        keeper = stage.keeper(journal)
        start.wait()
        try:
            for _ in range(2):
                keeper.once()
        except Exception as error:
            problems.append(error)
        journal.close()

    threads = [threading.Thread(target=keep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert stage.rebalances() == 1
    stage.assert_done_once(url)


def test_two_keepers_with_a_journal_each_on_one_vault(stage: Stage, tmp_path: Path) -> None:
    stage.chain.automine(False)
    one, other = (Journal(tmp_path / f"{name}.sqlite") for name in ("one", "other"))
    first = stage.keeper(one, receipt_timeout_seconds=0)
    assert first.once().status == Status.SENT
    late = stage.keeper(other, receipt_timeout_seconds=0).once()
    assert late.status == Status.SKIPPED  # on top of the pending block there is nothing to do any more
    assert late.reason.startswith("another keeper was first: the vault has changed since block ")
    assert [run.status for run in other.runs()] == [Status.SKIPPED]
    stage.chain.automine(True)
    stage.chain.mine_blocks()
    assert first.once().status == Status.SKIPPED
    assert stage.keeper(other).once().status == Status.SKIPPED
    assert (stage.rebalances(), stage.count()) == (1, 1)
    for journal in (one, other):
        journal.close()


# ---------------------------------------------------------------- nothing secret, and the kill switch

PASSWORD = "correct-horse-battery"


def write_settings(stage: Stage, folder: Path, extra: str = "") -> None:
    world = stage.world
    (folder / "key.json").write_text(
        json.dumps(Account.encrypt(world.keeper.key, PASSWORD, kdf="pbkdf2", iterations=10))
    )
    (folder / "password").write_text(PASSWORD)
    source = world.pool_source
    (folder / "evenkeel.toml").write_text(
        f'rpc_url = "{world.chain.url}"\nvault = "{stage.vault.address}"\nexecutor = "{world.executor.address}"\n'
        f'hub = "{world.cash.address}"\nkeystore = "key.json"\npassword_file = "password"\n'
        f"v2_factories = {json.dumps(source.v2_factories)}\nv3_factories = {json.dumps(source.v3_factories)}\n"
        f"v3_fees = {json.dumps(source.v3_fees)}\n{extra}\n"
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ETH_RPC_URL", "EVENKEEL_RPC_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_neither_key_nor_password_is_in_logs_journal_errors_or_arguments(stage: Stage, folder: Path) -> None:
    write_settings(stage, folder, 'kill_switch = "stop"')
    (folder / "stop").touch()
    said = io.StringIO()
    with redirect_stdout(said):
        for _ in range(2):
            settings = load_settings()
            with from_settings(settings, stage.chain.web3) as found:
                outcome = replace(found, planner=stage.planner).once()
            said.write(f"{settings!r} {found!r} {outcome!r} {outcome.summary()}")
            (folder / "stop").unlink(missing_ok=True)
        (folder / "password").write_text("not the password")
        with (
            pytest.raises(Exception, match="does not open") as caught,
            from_settings(settings, stage.chain.web3),
        ):
            pass
        said.write(repr(caught.value))
    assert outcome.status == Status.CONFIRMED
    seen = said.getvalue().encode() + (folder / "evenkeel.sqlite").read_bytes()
    seen += Path(f"/proc/{os.getpid()}/cmdline").read_bytes()
    key = bytes(stage.world.keeper.key)
    for secret in (PASSWORD.encode(), key, key.hex().encode(), str(int.from_bytes(key, "big")).encode()):
        assert secret not in seen
    assert b"confirmed" in seen


def test_a_keeper_on_a_shared_database_and_a_second_one_that_is_refused(
    stage: Stage,
    folder: Path,
    postgres: Postgres,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_settings(stage, folder)
    monkeypatch.setenv("EVENKEEL_DATABASE", postgres.url())
    with from_settings(load_settings(), stage.chain.web3) as found:
        assert replace(found, planner=stage.planner).once().status == Status.CONFIRMED
        again = from_settings(load_settings(), stage.chain.web3)
        with pytest.raises(HeldError, match="database: another keeper looks after"):
            again.__enter__()
    with from_settings(load_settings(), stage.chain.web3) as found:
        assert replace(found, planner=stage.planner).once().status == Status.SKIPPED
    assert not (folder / "evenkeel.sqlite").exists()


def test_the_kill_switch_stops_before_anything_is_signed(stage: Stage, folder: Path) -> None:
    write_settings(stage, folder, 'kill_switch = "stop"')
    (folder / "stop").touch()
    with from_settings(load_settings(), stage.chain.web3) as found:
        outcome = replace(found, planner=stage.planner).once()
    assert outcome.status == Status.SIMULATED
    assert outcome.reason.startswith(
        "kill_switch: stop exists, so nothing is signed or sent, would rebalance: "
    )
    assert (stage.count(), stage.rebalances()) == (0, 0)
    journal = Journal(folder / "evenkeel.sqlite")
    assert [(run.status, run.nonce) for run in journal.runs()] == [(Status.SKIPPED, None)]
    journal.close()
