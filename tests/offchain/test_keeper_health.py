"""Health: what is wrong is named, alive is not ready, errors in a row halt a vault; over HTTP and in the live table."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import structlog
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from structlog.testing import capture_logs
from typer.testing import CliRunner
from web3 import Web3
from web3.exceptions import Web3RPCError

from offchain.chain.errors import BusyError, ChainError, ConfigError, JournalError, PassingError
from offchain.chain.rpc import NodesDisagree, NodeStatus, NodesUnavailable, WrongChain
from offchain.chain.sender import Sender
from offchain.cli import app, common
from offchain.errors import EvenkeelError, PlannerError
from offchain.keeper.database import open_database
from offchain.keeper.decide import canonical_json
from offchain.keeper.dispatch import INTERRUPTED, LATE
from offchain.keeper.health import GRACE_SECONDS, Limits, Problem, alive, problems, ready, serving
from offchain.keeper.journal import REVERTED, Journal, Status
from offchain.keeper.outside import Outside, watching
from offchain.keeper.overview import Account, Ledger
from offchain.keeper.rhythm import Rhythm
from offchain.keeper.schedule import Job, Worker, look, run
from offchain.keeper.watch import AccountSeen, Reason, Watch, plain, reason_of, reason_of_error
from offchain.settings import load_settings
from offchain.show.keeper_status import status_report, tables
from offchain.show.live import show_live
from tests.support.keeper_seen import (
    ACCOUNT,
    E18,
    NOW,
    OTHER,
    STOCK,
    VAULT,
    Clock,
    mined,
    node,
    outcome,
    sent,
    snapshot,
    watched,
)

SECRET = "a-secret-key"
NOTHING = Ledger((), {})
LIMITS = Limits(look_seconds=100, stuck_seconds=900, block_age_seconds=300)


def found(watch: Watch, ledger: Ledger | None = NOTHING, limits: Limits = LIMITS) -> list[Problem]:
    return problems(watch.facts(), ledger, limits)


def kinds(watch: Watch, ledger: Ledger | None = NOTHING, limits: Limits = LIMITS) -> list[str]:
    return [str(problem.kind) for problem in found(watch, ledger, limits)]


def waiting(pending: int, sent_at: int, gas: int = 500_000) -> Ledger:
    return Ledger((Account(1, ACCOUNT, pending, sent_at, 5, 0.0, gas),), {})


def answer(watch: Watch, ledger: Ledger | None = NOTHING) -> tuple[bool, dict[str, Any]]:
    return ready(watch.facts(), found(watch, ledger))


# ---------------------------------------------------------------- what is wrong


def test_nothing_is_wrong_with_a_keeper_that_works() -> None:
    watch = watched(Clock())
    assert kinds(watch) == []
    assert answer(watch) == (
        True,
        {"status": "ok", "reasons": [], "vaults": 1, "sends": True, "version": answer(watch)[1]["version"]},
    )


def test_before_the_first_look_it_is_not_ready() -> None:
    watch = Watch()
    assert answer(watch)[1]["status"] == "unavailable"
    watch = watched(Clock())
    watch.started(OTHER)
    assert kinds(watch) == ["starting"]
    assert answer(watch)[0]  # the other vault is looked after


def test_a_keeper_that_stands_by_is_alive_and_not_ready() -> None:
    watch = watched(Clock())
    watch.note(standby=True)
    watch.beat()
    assert alive(watch.facts(), LIMITS)[0]
    assert (kinds(watch), answer(watch)[0]) == (["standby"], False)
    watch.note(standby=False)
    assert (kinds(watch), answer(watch)[0]) == ([], True)


@pytest.mark.parametrize(("age", "wrong"), [(300, []), (301, ["stale_block"])])
def test_the_age_of_the_newest_block(age: int, wrong: list[str]) -> None:
    clock = Clock()
    watch = watched(clock)
    node(watch, clock, behind=age)
    assert kinds(watch) == wrong
    assert answer(watch)[0]


def test_no_node_answers() -> None:
    clock = Clock()
    watch = watched(clock)
    node(watch, clock, answers=False)
    assert kinds(watch) == ["node_away"]
    assert not answer(watch)[0]
    assert alive(watch.facts(), LIMITS)[0]


def test_a_node_of_another_chain_than_before_or_than_the_setting() -> None:
    clock = Clock()
    watch = watched(clock)
    node(watch, clock, chain_id=5)
    assert kinds(watch) == ["wrong_chain"]
    assert not answer(watch)[0]
    assert kinds(watched(clock, chain_id=1)) == []
    assert kinds(watched(clock, chain_id=2)) == ["wrong_chain"]


def test_nodes_that_disagree_or_are_behind() -> None:
    watch = watched(Clock())
    first = NodeStatus(1, "https://one", True, True, False, 0, 0.1, 9, 1, {})
    watch.note(endpoints=[first, replace(first, position=2)])
    assert kinds(watch) == []
    watch.note(endpoints=[first, replace(first, position=2, lagging=True)])
    assert kinds(watch) == ["node_disagreement"]
    watch.note(endpoints=[first])
    assert kinds(watch) == []
    watch.failed(VAULT, NodesDisagree(7, "hash", {1: "0x01", 2: "0x02"}))
    assert kinds(watch) == ["node_disagreement"]


def test_the_database_does_not_answer() -> None:
    watch = watched(Clock())
    assert kinds(watch, None) == ["database_away"]
    assert not answer(watch, None)[0]
    watch.failed(VAULT, JournalError("journal: cannot write"))
    assert kinds(watch) == ["database_away"]


def test_the_database_does_not_answer_within_a_look() -> None:
    watch = watched(Clock())
    watch.outage(VAULT, JournalError("journal: cannot write"))
    assert "database_away" in kinds(watch)
    (seen,) = watch.facts().vaults
    assert (seen.reason, seen.detail) == (Reason.DATABASE, "journal: cannot write")


def test_the_kill_switch_is_not_ready_but_alive() -> None:
    watch = watched(Clock())
    watch.note(kill_switch="/path/stop", sends=False)
    assert kinds(watch) == ["kill_switch"]
    assert not answer(watch)[0]
    assert alive(watch.facts(), LIMITS)[0]


def test_a_vault_that_its_guardian_paused() -> None:
    clock = Clock()
    watch = watched(clock)
    watch.looked(VAULT, outcome(seen=snapshot(paused_until=NOW + 10)))
    assert kinds(watch) == ["vault_paused"]
    assert not answer(watch)[0]
    watch.looked(OTHER, outcome(vault=OTHER))
    assert answer(watch)[0] and answer(watch)[1]["status"] == "degraded"
    clock.now += 10
    assert kinds(watch) == []


def test_a_price_that_is_not_usable_unless_its_asset_is_in_quarantine() -> None:
    watch = watched(Clock())
    watch.looked(VAULT, outcome(seen=snapshot(statuses=(0, 5))))
    (problem,) = found(watch)
    assert (str(problem.kind), problem.detail) == ("stale_oracle", f"{STOCK} STALE")
    watch.looked(VAULT, outcome(seen=snapshot(statuses=(0, 5), aside=1, aside_until=NOW + 10)))
    assert kinds(watch) == []


def test_a_look_that_does_not_begin() -> None:
    clock = Clock()
    watch = watched(clock)
    watch.due(VAULT, 60)
    clock.now += 60 + GRACE_SECONDS
    node(watch, clock)
    assert kinds(watch) == []
    clock.now += 1
    assert kinds(watch) == ["missed_run"]
    watch.started(VAULT)
    assert kinds(watch) == []


def test_a_look_that_hangs_is_not_alive_and_one_that_waits_for_the_node_is() -> None:
    clock = Clock()
    watch = watched(clock)
    watch.started(VAULT)
    clock.now += 101
    node(watch, clock)
    watch.beat()
    assert kinds(watch) == ["missed_run"]
    good, body = alive(watch.facts(), LIMITS)
    assert (good, body["reasons"]) == (False, ["look_hangs"])
    watch.outage(VAULT, requests.ConnectionError())
    assert alive(watch.facts(), LIMITS)[0]


def test_a_scheduler_that_stands_still_is_not_alive() -> None:
    clock = Clock()
    watch = watched(clock)
    clock.now += 60
    assert alive(watch.facts(), LIMITS)[0]
    clock.now += 1
    good, body = alive(watch.facts(), LIMITS)
    assert (good, body["status"], body["reasons"]) == (False, "unavailable", ["scheduler_stands_still"])


def test_a_clock_that_is_set_back_is_no_standstill() -> None:
    clock = Clock()
    watch = Watch(clock=clock.monotonic, wall=lambda: NOW - 86_400)
    watch.beat()
    watch.looked(VAULT, outcome())
    watch.due(VAULT, 60)
    clock.now += 30
    assert alive(watch.facts(), LIMITS)[0]
    assert kinds(watch) == []


@pytest.mark.parametrize(
    ("ledger", "wrong"),
    [
        (waiting(1, NOW - 900), []),
        (waiting(1, NOW - 901), ["stuck_transaction"]),
        (waiting(0, NOW - 901), []),
    ],
)
def test_a_transaction_that_waits_too_long(ledger: Ledger, wrong: list[str]) -> None:
    assert kinds(watched(Clock()), ledger) == wrong


@pytest.mark.parametrize(
    ("wei", "wrong"), [(4 * 500_000 * 10**9, []), (4 * 500_000 * 10**9 - 1, ["low_gas"])]
)
def test_less_gas_than_four_rebalances_take(wei: int, wrong: list[str]) -> None:
    watch = watched(Clock())
    watch.note(account=AccountSeen(1, ACCOUNT, wei))
    assert kinds(watch, waiting(0, 0)) == wrong
    assert kinds(watch, waiting(0, 0), replace(LIMITS, low_gas_multiple=3)) == []


def test_three_failures_in_a_row_and_what_ends_them() -> None:
    watch = watched(Clock())
    for wrong in ([], [], ["repeated_failure"]):
        watch.looked(VAULT, outcome(Status.FAILED, f"{REVERTED}: slippage"))
        assert kinds(watch) == wrong
    watch.looked(VAULT, outcome(Status.SKIPPED, "pausing after 3 reverts on chain in a row, until 9"))
    watch.looked(VAULT, outcome(Status.SENT, "not mined yet"))
    assert kinds(watch) == ["repeated_failure"]
    assert answer(watch)[1]["status"] == "degraded"
    watch.looked(VAULT, outcome())
    assert kinds(watch) == []


# ---------------------------------------------------------------- reasons, in types


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{REVERTED}: state moved", Reason.REVERTED),
        (LATE, Reason.LATE),
        (INTERRUPTED, Reason.INTERRUPTED),
        (
            "the vault refuses in simulation: not keeper (account 0x1 lacks the keeper role of this vault)",
            "not_keeper",
        ),
        ("the vault refuses in simulation: slippage", Reason.SIMULATION),
        ("insufficient funds for gas: 0x1 has 0.1", Reason.FUNDS),
        ("another transaction of 0x1 used nonce 5", Reason.NONCE_TAKEN),
        ("whatever somebody writes", Reason.OTHER),
    ],
)
def test_the_reason_of_a_failed_run(text: str, reason: str) -> None:
    assert reason_of(text) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ConnectionError(), Reason.NODE),
        (Web3RPCError("busy"), Reason.NODE),
        (NodesUnavailable("none"), Reason.NODE),
        (NodesDisagree(1, "hash", {}), Reason.DISAGREEMENT),
        (WrongChain("rpc_url"), Reason.WRONG_CHAIN),
        (ConfigError("executor"), Reason.SETTING),
        (ChainError("block was replaced"), Reason.CHAIN),
        (JournalError("away"), Reason.DATABASE),
        (PlannerError("?"), Reason.OTHER),
        (ZeroDivisionError(), Reason.BUG),
    ],
)
def test_the_reason_of_an_error(error: Exception, reason: Reason) -> None:
    assert reason_of_error(error) == reason


def test_words_of_others_are_made_plain() -> None:
    assert plain("a\x1b[31m\n b\u202e  c") == "a [31m b c"
    assert plain(f"to https://node.example/v2/{SECRET}?x=1 now") == "to https://node.example/… now"
    assert len(plain("x" * 1_000)) == 300


# ---------------------------------------------------------------- halting


class Scripted:
    """A keeper whose looks do what the list says, then nothing."""

    vault = VAULT

    def __init__(self, *script: Exception | None) -> None:
        self.script, self.looks = list(script), 0
        self.sender = Sender(Web3())

    def once(self) -> Any:
        self.looks += 1
        step = self.script.pop(0) if self.script else None
        if step is not None:
            raise step
        return outcome()

    def tend(self) -> bool:
        return False


def looks(keeper: Any, watch: Watch, times: int) -> int:
    for _ in range(times):
        look(keeper, threading.Event(), 0.001, watch)
    return int(keeper.looks)


def test_errors_in_a_row_halt_a_vault_ever_longer_until_a_look_is_good() -> None:
    clock = Clock()
    watch = watched(clock, max_exceptions=3)
    keeper = Scripted(*[RuntimeError("a bug")] * 2, EvenkeelError("x"), RuntimeError("again"))
    assert looks(keeper, watch, 5) == 3
    assert "halted" in kinds(watch)
    assert not answer(watch)[0]
    clock.now += 59
    assert looks(keeper, watch, 1) == 3
    clock.now += 1
    assert looks(keeper, watch, 2) == 4  # tried once, and again in error
    clock.now += 119
    assert looks(keeper, watch, 1) == 4
    clock.now += 1
    assert looks(keeper, watch, 2) == 6
    assert "halted" not in kinds(watch)


def test_while_a_vault_is_halted_what_it_has_sent_is_looked_after() -> None:
    watch, tended = watched(Clock(), max_exceptions=1), []

    class Tended(Scripted):
        def tend(self) -> None:
            tended.append(self.looks)
            raise NodesUnavailable("away")  # is no reason to end the schedule

    assert looks(Tended(RuntimeError("a bug")), watch, 3) == 1
    assert tended == [1, 1]


def test_fewer_errors_do_not_halt_and_a_good_look_starts_the_count_again() -> None:
    watch = watched(Clock(), max_exceptions=3)
    two = [RuntimeError("a bug")] * 2
    assert looks(Scripted(*two, None, *two, None), watch, 6) == 6


def test_a_vault_that_halts_is_logged_once() -> None:
    clock = Clock()
    watch = watched(clock, max_exceptions=1)
    with capture_logs() as logs:
        for _ in range(2):
            watch.failed(VAULT, RuntimeError())
            assert [watch.halted(VAULT) for _ in range(3)] == [True] * 3
            clock.now += 3_600
    assert [line["event"] for line in logs].count("halted") == 2


def test_the_pause_ends_at_an_hour() -> None:
    clock = Clock()
    watch = watched(clock, max_exceptions=1)
    for _ in range(40):
        watch.failed(VAULT, RuntimeError())
    clock.now += 3_600
    assert not watch.halted(VAULT)


@pytest.mark.parametrize(
    "error", [BusyError("another"), JournalError("away"), NodesUnavailable("x"), PassingError("x")]
)
def test_what_is_waited_for_does_not_halt(error: Exception) -> None:
    watch = watched(Clock(), max_exceptions=2)
    for _ in range(5):
        watch.failed(VAULT, error)
    assert not watch.halted(VAULT)


def test_one_vault_halts_and_the_other_goes_on() -> None:
    watch = watched(Clock(), max_exceptions=1)
    watch.failed(VAULT, RuntimeError())
    assert watch.halted(VAULT)
    assert watch.look(OTHER, lambda: outcome(vault=OTHER)) is not None
    assert answer(watch)[0]


def test_an_outage_within_a_look_is_seen_and_does_not_halt() -> None:
    watch = watched(Clock(), max_exceptions=2)
    assert looks(Scripted(*[requests.ConnectionError()] * 3, None), watch, 1) == 4
    (seen,) = watch.facts().vaults
    assert seen.failures[Reason.NODE] == 3
    assert not watch.halted(VAULT)


def test_the_schedule_shows_a_sign_of_life_and_when_the_next_look_is_due() -> None:
    watch, stop, keeper = Watch(), threading.Event(), Scripted()
    ended = threading.Event()

    def tick() -> None:
        if keeper.looks and watch.facts().vaults[0].looked_at is not None:
            ended.set()
            stop.set()

    class Ticking(Outside):
        ticks = True  # type: ignore[assignment]

        def tick(self) -> None:
            tick()

    timer = threading.Thread(
        target=lambda: [ended.wait(0.05) or tick() for _ in range(400) if not stop.is_set()]
    )
    timer.start()
    job = Job(keeper, Rhythm(3_600))  # type: ignore[arg-type]
    run([job], sender=keeper.sender, stop=stop, outside=Ticking(watch))
    timer.join()
    facts = watch.facts()
    assert ended.is_set()
    assert facts.beat_at is not None
    assert facts.vaults[0].due_at is not None and 3_500 < facts.vaults[0].due_at - facts.clock <= 3_600


def test_after_a_look_the_next_one_is_due() -> None:
    watch = Watch()
    job = Job(Scripted(), Rhythm(60))  # type: ignore[arg-type]
    Worker([job], threading.Event(), watch, next_in=lambda: 60)._do(job, 0)
    (seen,) = watch.facts().vaults
    assert seen.due_at is not None and 0 < seen.due_at - watch.clock() <= 60


def test_what_a_node_s_client_says_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    watch, stop = watched(Clock()), threading.Event()
    error = requests.ConnectionError(f"Max retries exceeded with url: /v2/{SECRET}")
    looks(Scripted(error), watch, 1)
    stop.set()
    look(Scripted(error), stop, 0.001, watch)  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert "the node is waited for" in said.out and "stopped while the node was away" in said.out
    assert "ConnectionError" in said.out
    assert SECRET not in said.out + said.err + watch.facts().vaults[0].detail


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bug_is_logged_with_its_place_and_without_the_values_there(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def once() -> Any:
        password = f"{SECRET}"
        raise ZeroDivisionError(len(password))

    common._log_to_stderr(as_json)
    try:
        assert watched(Clock()).look(VAULT, once) is None
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr()
    assert "ZeroDivisionError" in said.err and "in once" in said.err
    assert SECRET not in said.err


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    journal = Journal(tmp_path / "journal.sqlite")
    made = Outside(watched(Clock()), LIMITS, open_database(journal.path))
    yield made
    made.engine.dispose()  # type: ignore[union-attr]
    journal.close()


def test_the_three_answers(outside: Outside) -> None:
    with outside.served("127.0.0.1", 0) as port:
        at = f"http://127.0.0.1:{port}"
        for path in ("/healthz", "/readyz"):
            response = requests.get(at + path, timeout=5)
            assert (response.status_code, response.json()["status"]) == (200, "ok")
            assert response.headers["Content-Type"] == "application/json"
        scraped = requests.get(at + "/metrics", timeout=5)
        names = {family.name for family in text_string_to_metric_families(scraped.text)}
        assert "evenkeel_drift_bps" in names
        assert scraped.headers["Content-Type"].startswith("text/plain")
        assert requests.get(at + "/", timeout=5).status_code == 404
        assert requests.get(at + "/metrics/../readyz", timeout=5).status_code in (200, 404)
        assert requests.post(at + "/readyz", timeout=5).status_code == 501
        head = requests.head(at + "/readyz", timeout=5)
        assert (head.status_code, head.content) == (200, b"")
    with pytest.raises(requests.ConnectionError):
        requests.get(at + "/healthz", timeout=5)


def test_what_is_wrong_is_503_with_its_kind_and_no_words_of_others(outside: Outside) -> None:
    watch = outside.watch
    watch.looked(VAULT, outcome(Status.FAILED, f"https://node/{SECRET} said {SECRET}"))
    for _ in range(3):
        watch.failed(VAULT, requests.ConnectionError(f"Max retries exceeded with url: /v2/{SECRET}"))
        watch.failed(VAULT, RuntimeError(SECRET))
    watch.note(kill_switch="/path/stop")
    with outside.served("127.0.0.1", 0) as port:
        texts = []
        for path, status in (("/readyz", 503), ("/healthz", 200), ("/metrics", 200)):
            response = requests.get(f"http://127.0.0.1:{port}{path}", timeout=5)
            assert response.status_code == status
            texts.append(response.text)
    body = json.loads(texts[0])
    assert [reason["kind"] for reason in body["reasons"]] == ["kill_switch", "halted", "repeated_failure"]
    assert set(body["reasons"][1]) == {"kind", "text", "vault", "account", "chain_id"}
    assert body["reasons"][1]["vault"] == VAULT
    assert SECRET not in "".join(texts)


def test_a_client_that_says_nothing_holds_up_nobody(outside: Outside) -> None:
    with outside.served("127.0.0.1", 0) as port, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET /readyz HT")
        assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200


def test_an_answer_that_fails_says_nothing_of_why() -> None:
    def broken() -> Any:
        raise RuntimeError(SECRET)

    with serving("127.0.0.1", 0, healthz=broken, readyz=broken, metrics=broken) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        assert (response.status, response.read()) == (500, b"failed\n")
        connection.close()


def test_a_port_that_is_taken_is_named(outside: Outside) -> None:
    with (
        outside.served("127.0.0.1", 0) as port,
        pytest.raises(ConfigError, match=f"metrics_port, metrics_address: cannot open 127.0.0.1:{port}"),
        outside.served("127.0.0.1", port),
    ):
        pass


# ---------------------------------------------------------------- switched on by the settings


def test_nothing_is_opened_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    before = threading.active_count()
    with watching(settings, Web3(), Sender(Web3())) as outside:
        assert (outside.engine, outside.probe, outside.alerts) == (None, None, None)
        assert not outside.ticks
        assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_what_the_settings_switch_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = load_settings(metrics_port=port, alert_webhook_url="http://127.0.0.1:9/x", max_exceptions=7)
    assert settings.metrics_address == "127.0.0.1"
    with watching(settings, Web3(), Sender(Web3())) as outside:
        assert outside.ticks and outside.alerts is not None
        assert outside.watch.max_exceptions == 7
        response = requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
        assert response.json()["reasons"] == ["scheduler_stands_still"]


# ---------------------------------------------------------------- the live table


def looked(journal: Journal, reason: str = "no trigger") -> None:
    record = canonical_json({"state": snapshot().state})
    journal.skip(VAULT, 1, 7, 1, reason, "0x" + "00" * 32, record)


def test_the_table_and_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal(tmp_path / "j.sqlite")
    sent(journal, 5)
    mined(journal, 5, E18 // 8)
    looked(journal)
    sent(journal, 6, OTHER)
    journal.close()
    command = ["keeper", "status", "--journal", "j.sqlite"]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    first, second = body["vaults"]
    assert (first["vault"], first["status"], first["rebalances"]) == (VAULT, "skipped", 1)
    assert (first["drift_bps"], first["band_bps"], first["band_used_percent"]) == (1_000, 500, 200)
    assert (second["status"], second["drift_bps"]) == ("sent", None)
    assert first["look_age_seconds"] < 60
    (account,) = body["accounts"]
    assert (account["pending"], account["oldest_nonce"], account["gas_spent_native"]) == (1, 6, 0.125)
    table = CliRunner(env={"COLUMNS": "120"}).invoke(app, command)
    assert table.exit_code == 0
    assert "skipped" in table.stdout and "200 %" in table.stdout and "1, from nonce 6" in table.stdout
    one = CliRunner().invoke(app, [*command, "--json", "--vault", VAULT])
    assert [vault["vault"] for vault in json.loads(one.stdout)["vaults"]] == [VAULT]


def test_a_journal_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["keeper", "status", "--journal", "none.sqlite"])
    assert result.exit_code == 2
    assert "journal: no such file: none.sqlite" in result.stderr
    assert not Path("none.sqlite").exists()


def test_the_live_table_goes_on_while_the_database_is_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    looked(journal, "hostile \x1b[31m[red]markup[/red]")
    engine = open_database(tmp_path / "j.sqlite")
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=True, color_system=None)
    turns = iter([status_report(engine), JournalError("journal: cannot read it")])
    slept: list[float] = []

    def read() -> dict[str, Any]:
        step = next(turns)
        if isinstance(step, Exception):
            raise step
        return step

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    show_live(read, tables, console, 2, sleep)
    text = shown.getvalue()
    assert slept == [2, 2]
    assert "journal: cannot read it" in text
    assert "[red]markup[/red]" in text and "\x1b[31m" not in text
    engine.dispose()
    journal.close()
