"""Status: `keeper status` and `fleet status` fit a terminal and change nothing; what is waited for is no failure."""

from __future__ import annotations

import io
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from offchain.chain.errors import ConfigError, JournalError
from offchain.chain.sender import RelayUnavailable
from offchain.chain.vault import Terms
from offchain.cli import app, fleet
from offchain.keeper.database import SCHEMA, open_to_read, version_of
from offchain.keeper.decide import canonical_json
from offchain.keeper.health import Limits, problems
from offchain.keeper.journal import Journal
from offchain.keeper.overview import Ledger
from offchain.keeper.watch import AWAY_SECONDS, Reason, Watch
from offchain.policy import Mode
from offchain.show.console import short
from offchain.show.keeper_status import TABLES, status_report, tables
from offchain.show.status import status_report as vault_report
from tests.support.keeper_seen import (
    ACCOUNT,
    OTHER,
    STOCK,
    VAULT,
    Clock,
    node,
    outcome,
    sent,
    snapshot,
    watched,
)

THIRD = "0x" + "d" * 40
LONG = (
    f"the vault would refuse every size of the trade: outside the band: {STOCK}; the loss budget is used up until "
    "tomorrow, and the market's price is 2.31 % from the oracle's"
)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three vaults, one of them with a transaction under way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "j.sqlite"
    written = Journal(path)
    record = canonical_json({"state": snapshot().state})
    written.skip(VAULT, 1, 7, 1, LONG, "0x" + "00" * 32, record)
    sent(written, 6, OTHER)
    written.skip(THIRD, 1, 7, 1, "no trigger: every asset is in its band", "0x" + "00" * 32, record)
    written.close()
    return path


def shown(what: Any, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(what)
    return file.getvalue().splitlines()


def kinds(watch: Watch) -> list[str]:
    return [str(one.kind) for one in problems(watch.facts(), Ledger((), {}), Limits())]


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("width", [80, 120])
def test_a_vault_takes_few_lines_of_a_narrow_terminal(journal: Path, width: int) -> None:
    engine = open_to_read(journal, TABLES)
    lines = shown(tables(status_report(engine)), width)
    engine.dispose()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert all(short(one) in text for one in (VAULT, OTHER, THIRD, ACCOUNT))
    assert "1, from nonce 6" in text and "10.00 %, 200 %" in text and "chain 1" in text
    first = next(i for i, line in enumerate(lines) if short(VAULT) in line)
    assert next(i for i, line in enumerate(lines) if short(OTHER) in line) - first <= 6


def test_without_a_terminal_nothing_is_wrapped_and_json_has_whole_addresses(journal: Path) -> None:
    command = ["keeper", "status", "--journal", str(journal)]
    lines = CliRunner().invoke(app, command).stdout.splitlines()
    (row,) = [line for line in lines if short(VAULT) in line]
    assert (
        "skipped: the vault would refuse every size of the trade" in row
        and short(STOCK) in row
        and row.rstrip().endswith("…")
    )
    body = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [vault["vault"] for vault in body["vaults"]] == [VAULT, OTHER, THIRD]
    assert (body["vaults"][0]["reason"], body["accounts"][0]["account"]) == (LONG, ACCOUNT)


def test_vaults_of_several_chains_say_which(journal: Path) -> None:
    written = Journal(journal)
    written.skip(VAULT, 10, 7, 1, "no trigger", "0x" + "00" * 32, "{}")
    written.close()
    engine = open_to_read(journal, TABLES)
    text = "\n".join(shown(tables(status_report(engine)), 80))
    engine.dispose()
    assert f"1:{short(VAULT)}" in text and f"10:{short(VAULT)}" in text


def test_a_fleet_in_a_narrow_terminal() -> None:
    worker = {"worker": "keeper-host-1:12345", "worker_id": 1, "heartbeat_age_seconds": 3, "silent": False}
    row = {"vault": VAULT, "worker": None, "look_age_seconds": 12.0, "result": "skipped", "state": "idle"}
    report = {
        "workers": [worker | {"looks": 1}, worker | {"worker": None, "silent": True, "looks": 0}],
        "queue": {"waiting": 0, "running": 1},
        "vaults": [
            row | {"reason": LONG},
            row | {"vault": OTHER, "state": "looking", "worker": "keeper-host-1:12345", "reason": None},
            row | {"vault": THIRD, "look_age_seconds": None, "result": None, "reason": "[red]none[/red]"},
        ],
    }
    lines = shown(fleet.tables(report), 80)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert all(short(one) in text for one in (VAULT, OTHER, THIRD))
    assert "12 s ago" in text and "[red]none[/red]" in text and "silent: its vaults go to others" in text
    assert text.index(short(OTHER)) < text.index(short(VAULT))  # those that are looked at first
    assert "keeper-host-1:12345 looks at it" in text and len(lines) < 18


# ---------------------------------------------------------------- read only


def test_status_changes_no_journal(journal: Path) -> None:
    before = journal.read_bytes()
    assert CliRunner().invoke(app, ["keeper", "status", "--journal", str(journal)]).exit_code == 0
    assert journal.read_bytes() == before


def versioned(path: Path, version: str, *more: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute("update alembic_version set version_num = ?", (version,))
        for statement in more:
            db.execute(statement)


def opened(path: Path) -> Engine:
    return open_to_read(path, TABLES)


def test_an_older_journal_is_read_and_stays_older(journal: Path) -> None:
    versioned(journal, "0003", "drop table slots")
    result = CliRunner().invoke(app, ["keeper", "status", "--journal", str(journal)])
    assert (result.exit_code, short(VAULT) in result.stdout) == (0, True)
    assert version_of(journal) == "0003"


def test_a_journal_without_what_is_read_is_named_with_what_helps(journal: Path) -> None:
    versioned(journal, "0002", "drop table alerts")
    with pytest.raises(
        ConfigError, match=rf"has schema 0002, without alerts: .* to {SCHEMA} .*keeper once --dry-run"
    ):
        opened(journal)
    assert version_of(journal) == "0002"


def test_neither_an_empty_file_nor_a_newer_journal_nor_another_file(journal: Path, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.sqlite", tmp_path / "other"
    empty.touch()
    other.write_text("no database, " * 100)
    with pytest.raises(ConfigError, match=r"journal: .*empty\.sqlite has no journal yet, without runs, "):
        opened(empty)
    assert empty.read_bytes() == b""
    versioned(journal, "9999")
    with pytest.raises(ConfigError, match=r"written by a newer evenkeel \(schema 9999"):
        opened(journal)
    with pytest.raises(ConfigError, match="file is not a database"):
        opened(other)


# ---------------------------------------------------------------- what is waited for


def test_a_node_that_is_away_is_one_message_and_no_failures_in_a_row() -> None:
    clock = Clock()
    watch = watched(clock)
    watch.looked(OTHER, outcome(vault=OTHER))
    node(watch, clock, answers=False)
    for _ in range(50):
        clock.now += 10
        for vault in (VAULT, OTHER):
            watch.outage(vault, requests.ConnectionError())
    assert kinds(watch) == ["node_away"]
    seen = watch.facts().vaults[0]
    assert (seen.failures_in_a_row, seen.failures[Reason.NODE], seen.reason) == (0, 50, Reason.NODE)


def test_a_node_that_answers_but_not_the_looks_is_told_after_a_minute() -> None:
    clock = Clock()
    watch = watched(clock)
    for _ in range(3):
        watch.outage(VAULT, requests.ConnectionError())
    assert kinds(watch) == []
    clock.now += AWAY_SECONDS - 1
    watch.outage(VAULT, requests.ConnectionError())
    assert kinds(watch) == []
    clock.now += 1
    for _ in range(3):
        watch.outage(VAULT, requests.ConnectionError())
    node(watch, clock)
    assert kinds(watch) == ["repeated_failure"]
    watch.looked(VAULT, outcome())
    assert kinds(watch) == []
    watch.outage(VAULT, requests.ConnectionError())
    assert watch.facts().vaults[0].failures_in_a_row == 0  # the minute begins anew


def test_a_node_that_comes_back_has_a_minute_from_then_on() -> None:
    clock = Clock()
    watch = watched(clock)
    node(watch, clock, answers=False)
    watch.outage(VAULT, requests.ConnectionError())
    clock.now += 10 * AWAY_SECONDS
    watch.outage(VAULT, requests.ConnectionError())
    node(watch, clock)
    clock.now += AWAY_SECONDS - 1
    for _ in range(3):
        watch.outage(VAULT, requests.ConnectionError())
    assert watch.facts().vaults[0].failures_in_a_row == 0


@pytest.mark.parametrize(("answers", "wrong"), [(False, ["database_away"]), (True, ["repeated_failure"])])
def test_a_database_that_is_away_and_one_that_only_reads(answers: bool, wrong: list[str]) -> None:
    clock = Clock()
    watch = watched(clock)
    for _ in range(10):
        clock.now += 10
        watch.note(database=answers)
        watch.failed(VAULT, JournalError("journal: cannot write it: disk full"))
    node(watch, clock)
    watch.note(database=answers)
    assert kinds(watch) == wrong


def test_a_relay_that_is_away_has_no_other_alert() -> None:
    clock = Clock()
    watch = watched(clock)
    for _ in range(10):
        watch.outage(VAULT, RelayUnavailable("private_rpc_url: does not answer"))
        clock.now += 10
    node(watch, clock)
    (one,) = problems(watch.facts(), Ledger((), {}), Limits())
    assert (str(one.kind), one.text, one.detail) == (
        "repeated_failure",
        "4 failures in a row (relay_away).",
        "private_rpc_url: does not answer",
    )


# ---------------------------------------------------------------- evenkeel status


@pytest.mark.parametrize(
    ("mode", "stock", "says"),
    [
        (Mode.THRESHOLD, 50, "every asset is in its band"),
        (Mode.THRESHOLD, 60, "outside the band: 0x"),
        (Mode.CALENDAR, 50, "calendar slot 1 is used"),
    ],
)
def test_a_vault_s_trigger_has_its_reason_in_every_mode(mode: Mode, stock: int, says: str) -> None:
    seen = snapshot(stock)
    seen = replace(seen, state=replace(seen.state, rules=replace(seen.state.rules, mode=mode)))
    report = vault_report(seen, Terms("0x", "0x", 0), lambda tokens: list(tokens))
    assert report["trigger_reason"].startswith(says)
