"""The journal's database: files of older programs, newer ones, two at once, full, away, and no password anywhere."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from typer.testing import CliRunner
from web3 import Web3

from offchain.chain.errors import BusyError, ConfigError, HeldError, JournalError
from offchain.cli import app
from offchain.keeper import database
from offchain.keeper.database import SCHEMA, open_database
from offchain.keeper.journal import Journal, NonceState, Status
from offchain.keeper.tables import Base, Run
from offchain.settings import load_settings
from tests.support.postgres import PASSWORD, Postgres, postgres  # noqa: F401

VAULT, SENDER = "0x" + "a" * 40, "0x" + "b" * 40
HASH = "0x" + "01" * 32

# As the program wrote it before its journals had versions, with a run of each kind.
OLD_RUNS = """
CREATE TABLE runs (
	id INTEGER NOT NULL, vault VARCHAR(42) NOT NULL, chain_id INTEGER NOT NULL, block INTEGER NOT NULL,
	session INTEGER NOT NULL, status VARCHAR(16) NOT NULL, reason TEXT NOT NULL, tx_hash VARCHAR(66),
	nonce INTEGER, raw_tx TEXT, sender VARCHAR(42), deadline INTEGER, decision VARCHAR(66), record TEXT,
	created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX ix_runs_status ON runs (status);
CREATE INDEX ix_runs_vault ON runs (vault);
"""
OLD_COSTS = """
CREATE TABLE costs (
	run INTEGER NOT NULL, block INTEGER NOT NULL, block_hash TEXT NOT NULL, time INTEGER NOT NULL,
	reverted BOOLEAN NOT NULL, nav VARCHAR(80) NOT NULL, predicted_fee VARCHAR(80) NOT NULL,
	predicted_impact VARCHAR(80) NOT NULL, predicted_tax VARCHAR(80) NOT NULL, predicted_gas VARCHAR(80),
	predicted_gas_used INTEGER NOT NULL, predicted_drift VARCHAR(80) NOT NULL, fee VARCHAR(80) NOT NULL,
	impact VARCHAR(80) NOT NULL, tax VARCHAR(80) NOT NULL, gas VARCHAR(80), gas_used INTEGER NOT NULL,
	gas_wei VARCHAR(80) NOT NULL, drift VARCHAR(80) NOT NULL, native_price VARCHAR(80), why TEXT NOT NULL,
	PRIMARY KEY (run), FOREIGN KEY(run) REFERENCES runs (id)
);
"""
ROW = "insert into runs values (?, ?, 1, 10, 3, ?, ?, ?, ?, ?, ?, 999, null, '{}', ?, ?)"
NOW = "2026-11-21 22:18:27.242936"


def write_old(path: Path, *, costs: bool = True) -> None:
    """A confirmed run, one that was given up, a skip, and one whose transaction may still be mined."""
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript(OLD_RUNS + (OLD_COSTS if costs else ""))
        for run, status, nonce in (
            (1, "confirmed", 1),
            (2, "failed", 2),
            (3, "skipped", None),
            (4, "sent", 3),
        ):
            tx = (None, None, None, None) if nonce is None else (f"0x{nonce:064x}", nonce, "0x02", SENDER)
            file.execute(ROW, (run, VAULT, status, status, *tx, NOW, NOW))
        if costs:
            row = (1, 8, HASH, 1_700_000_000, 0, "9", "0", "0", "0", None, 1, "0", "1", "2", "0", None, 3)
            marks = ", ".join("?" * 21)
            file.execute(f"insert into costs values ({marks})", (*row, str(2**64), "4", None, ""))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, path: Path) -> Path | str:
    server: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    return path if server is None else server.url()


def planned(journal: Journal, vault: str = VAULT) -> int:
    return journal.plan(vault, 1, 10, 3, "threshold", HASH, '{"a":"1"}', 999)


# ---------------------------------------------------------------- the schema


def test_the_steps_make_the_tables_that_the_program_has(target: Path | str) -> None:
    with open_database(target).connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == SCHEMA


def test_the_newest_step_is_the_one_that_the_program_expects() -> None:
    config = Config()
    config.set_main_option("script_location", "offchain.keeper:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_a_journal_from_before_there_were_versions_is_taken_over(path: Path) -> None:
    write_old(path)
    journal = Journal(path)
    assert [run.status for run in journal.runs()] == ["sent", "skipped", "failed", "confirmed"]
    ((run, cost),) = journal.costs(VAULT)
    assert (run.id, cost.block, cost.gas_wei) == (1, 8, 2**64)
    (left,) = journal.unfinished(VAULT, 1)
    (attempt,) = journal.attempts(1, SENDER, left.nonce or 0)
    assert (attempt.run, attempt.raw, attempt.tx_hash) == (4, "0x02", f"0x{3:064x}")
    assert {nonce.nonce: nonce.state for nonce, _ in journal.open_nonces(1, SENDER)} == {
        2: NonceState.LIVE,  # given up, but nobody knows whether it is still in a pool
        3: NonceState.LIVE,
    }
    (used,) = journal.young(1, 8, vault=VAULT)[2:]
    (mined,) = journal.attempts(1, SENDER, used.nonce)
    assert (mined.block, mined.gas_wei) == (8, 2**64)
    with open_database(path).connect() as db:
        assert compare_metadata(MigrationContext.configure(db), Base.metadata) == []
    journal.close()


def write_used(target: Path | str, blocks: dict[tuple[int, int], int | None]) -> None:
    """A journal of schema 0004, whose nonces of chains were used in these blocks; None: by somebody else."""
    rows = [
        {
            "chain": chain,
            "sender": SENDER,
            "nonce": nonce,
            "block": block,
            "hash": f"0x{chain:032x}{nonce:032x}",
        }
        for (chain, nonce), block in blocks.items()
    ]
    engine = open_database(target)
    with engine.begin() as db:
        db.execute(text("insert into nonces values (:chain, :sender, :nonce, null, 'used')"), rows)
        attempt = (
            "insert into attempts (chain_id, sender, nonce, purpose, tx_hash, raw, gas, max_fee, sent_block, sent_time,"
            " note, block) values (:chain, :sender, :nonce, 'cancel', :hash, '0x02', 1, '1', 1, 1, '', :block)"
        )
        db.execute(text(attempt), rows)
        db.execute(text("update alembic_version set version_num = '0004'"))
    engine.dispose()


def test_nonces_of_before_are_final_where_their_own_chain_has_gone_on(target: Path | str) -> None:
    write_used(
        target,
        {(1, 0): 35, (1, 1): 36, (1, 2): 100, (1, 3): None, (5, 0): 500, (5, 1): 900, (7, 0): None},
    )
    engine = open_database(target)
    with engine.connect() as db:
        assert db.execute(
            text("select chain_id, nonce from nonces where state = 'final' order by chain_id, nonce")
        ).all() == [(1, 0), (5, 0)]
    engine.dispose()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps of SQLite's machine from now on, a hundred an item."""
    durable, found = database._durable, []

    def counted(connection: Any, record: object) -> None:
        durable(connection, record)
        connection.set_progress_handler(lambda: found.append(100), 100)

    monkeypatch.setattr(database, "_durable", counted)
    return found


def test_many_nonces_of_before_are_marked_in_one_go(path: Path, steps: list[int]) -> None:
    """What each of them takes must not grow with their number."""
    write_used(path, {(1, nonce): nonce for nonce in range(500)})
    steps.clear()
    open_database(path).dispose()
    assert sum(steps) < 100_000  # a million where each reads all attempts


def test_a_look_reads_no_more_of_an_old_journal_than_of_a_young_one(path: Path, steps: list[int]) -> None:
    write_used(path, {(1, nonce): nonce for nonce in range(2_000)})
    with closing(Journal(path)) as journal:
        for read in (
            lambda: journal.young(1, 8, vault=VAULT),
            lambda: journal.young(1, 8, fills_of=SENDER),
            lambda: journal.open_nonces(1, SENDER),
            lambda: journal.blocks_since(1, 1_990),
        ):
            steps.clear()
            read()
            assert sum(steps) < 5_000  # six for each nonce, else


def test_a_journal_from_before_the_cost_ledger_is_taken_over(path: Path) -> None:
    write_old(path, costs=False)
    journal = Journal(path)
    assert len(journal.runs()) == 4
    assert journal.costs(VAULT) == []
    journal.close()


def test_a_journal_of_a_newer_program_is_refused_and_left_as_it_is(target: Path | str) -> None:
    engine = open_database(target)
    with engine.begin() as db:
        db.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"written by a newer evenkeel \(schema 9999, this one knows"):
        Journal(target)
    with engine.connect() as db:
        assert db.execute(text("select version_num from alembic_version")).scalar() == "9999"
    engine.dispose()


def start(target: Path | str, barrier: Any, opened: Any) -> None:
    barrier.wait()
    Journal(target).close()
    opened.release()


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_start_at_once_do_not_disturb_each_other(target: Path | str, old: bool) -> None:
    if old and isinstance(target, Path):
        write_old(target)
    forked = multiprocessing.get_context("fork")
    barrier, opened = forked.Barrier(4), forked.Semaphore(0)
    processes = [forked.Process(target=start, args=(target, barrier, opened)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert opened.get_value() == 4
    assert len(Journal(target).runs()) == (4 if old and isinstance(target, Path) else 0)


# ---------------------------------------------------------------- what is no journal


def test_a_file_that_is_no_journal_is_a_clear_error(path: Path) -> None:
    path.write_text("this is not a database, and long enough to be seen as none")
    with pytest.raises(ConfigError, match="journal: cannot use"):
        Journal(path)


def test_a_file_that_is_locked_may_come_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(JournalError, match=r"journal: cannot use .* locked"):
            Journal(path)
    Journal(path).close()


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="journal: cannot use"):
        Journal(tmp_path / "nowhere" / "journal.sqlite")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://keeper:secret@host/name", "database: mysql: only sqlite and postgresql"),
        ("postgresql://keeper:secret@host:port/name", "database: not an address such as"),
        ("://keeper:secret@host", "database: not an address such as"),
    ],
)
def test_an_address_that_cannot_be_used_is_not_repeated(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Journal(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", [PASSWORD, "wrong-hunter2"])
def test_a_password_is_in_no_message(postgres: Postgres, password: str) -> None:  # noqa: F811
    name = "postgres" if password != PASSWORD else "missing"
    with pytest.raises(JournalError, match="database: cannot use postgresql") as caught:
        Journal(postgres.address(name, password))
    assert password not in str(caught.value)
    assert password not in repr(caught.value.__context__ or "")
    assert caught.value.__cause__ is None


def test_a_password_is_in_no_print_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, kind in (("database", "postgresql"), ("signer_url", "http"), ("private_rpc_url", "https")):
        monkeypatch.setenv(f"EVENKEEL_{name.upper()}", f"{kind}://keeper:{PASSWORD}@host/{name}")
    settings = load_settings()
    assert settings.database is not None and PASSWORD in settings.database.get_secret_value()
    for dump in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert PASSWORD not in dump


# ---------------------------------------------------------------- full, away, and back


@pytest.fixture
def full(path: Path) -> Iterator[Journal]:
    """A journal whose file may not grow any more."""
    journal = Journal(path)
    with journal._engine.connect() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar()
        db.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # of this connection, which the pool keeps
    yield journal
    journal.close()


def fill(journal: Journal) -> str:
    """The error when nothing more fits."""

    def grow() -> None:
        for k in range(1_000):
            journal.plan(f"0x{k:040x}", 1, 10, 3, "x" * 4_000, HASH, "{}", 999)

    with pytest.raises(JournalError) as caught:
        grow()
    return str(caught.value)


def test_a_full_disk_is_said_and_half_a_step_is_not_written(full: Journal, path: Path) -> None:
    assert fill(full) == f"journal: cannot write {path}: database or disk is full"
    kept = len(full.runs(limit=10_000))
    with pytest.raises(JournalError):
        full.plan(SENDER, 1, 10, 3, "x" * 4_000, HASH, "{}", 999)
    assert len(full.runs(limit=10_000)) == kept  # reading goes on
    with full._engine.connect() as db:
        db.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert full.run(planned(full)).status == Status.PLANNED  # there is room again: it goes on


def test_a_database_that_is_restarted_is_used_again(postgres: Postgres) -> None:  # noqa: F811
    journal = Journal(postgres.url())
    run = planned(journal)
    postgres.stop()
    for act in (lambda: journal.simulated(run), lambda: journal.runs()):
        with pytest.raises(JournalError, match=r"journal: cannot (read|write) postgresql") as caught:
            act()
        assert PASSWORD not in str(caught.value)
    postgres.start()
    assert journal.run(run).status == Status.PLANNED
    journal.simulated(run)
    assert journal.run(run).status == Status.SIMULATED
    journal.close()


def test_one_keeper_a_vault_where_the_database_is_shared(postgres: Postgres) -> None:  # noqa: F811
    url = postgres.url()
    one, other = Journal(url), Journal(url)
    with one.hold(VAULT):
        with pytest.raises(HeldError, match="another keeper looks after"), other.hold(VAULT):
            pass
        with other.hold(SENDER):
            pass
    with other.hold(VAULT):
        pass
    for journal in (one, other):
        journal.close()


def test_a_keeper_whose_place_was_taken_while_the_database_restarted_writes_nothing(
    postgres: Postgres,  # noqa: F811
) -> None:
    url = postgres.url()
    one, other = Journal(url), Journal(url)
    with one.hold(VAULT) as first:
        run = planned(first)
        postgres.stop()
        with pytest.raises(JournalError):
            first.simulated(run)
        postgres.start()
        with other.hold(VAULT) as second:
            with pytest.raises(BusyError, match=f"another keeper looks after {VAULT}"):
                first.simulated(run)
            assert second.run(run).status == Status.PLANNED
            second.simulated(run)
        first.failed(run, "its place is free again, and taken")
        with pytest.raises(HeldError), other.hold(VAULT):
            pass
    for journal in (one, other):
        journal.close()


def test_a_writer_waits_for_another_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    journal = Journal(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="database is locked"):
            planned(journal)
        assert journal.runs() == []  # readers do not wait
        other.execute("ROLLBACK")
    planned(journal)
    journal.close()


def test_the_command_costs_reads_the_database_that_is_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "update runs set vault = ?", (Web3.to_checksum_address(VAULT),)
        )  # as the keeper writes it
    monkeypatch.setenv("EVENKEEL_DATABASE", f"sqlite:///{path}")
    found = CliRunner().invoke(app, ["costs", VAULT, "--json"])
    assert found.exit_code == 0, found.stderr
    assert [line["block"] for line in json.loads(found.stdout)["entries"]] == ["8"]


def test_a_keeper_that_stands_still_within_a_transaction_holds_up_nobody_for_long(
    postgres: Postgres,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 1)
    url = postgres.url()
    frozen, other = Journal(url), Journal(url)
    run, waits = planned(frozen), planned(other, SENDER)
    with pytest.raises(JournalError, match="cannot write"), database.writing(frozen._engine) as db:  # noqa: PT012
        database.lock(db, "account", 1, SENDER)
        with pytest.raises(JournalError, match="lock timeout"):
            other.reserve(waits, SENDER, 5, 5)
        give_up = time.monotonic() + 60
        while True:  # the server ends the transaction of the one that stands still
            try:
                assert other.reserve(waits, SENDER, 5, 5) == 5
                break
            except JournalError:
                assert time.monotonic() < give_up
        db.get_one(Run, run).status = Status.SIMULATED  # it goes on, and finds that it is too late
    assert frozen.run(run).status == Status.PLANNED
    for journal in (frozen, other):
        journal.close()


def test_two_threads_open_journals_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def opened(number: int) -> bool:
        start.wait()
        with closing(Journal(tmp_path / f"{number}.sqlite")) as journal:
            return journal.runs() == []

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(opened, range(4)))
