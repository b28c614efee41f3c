"""Alerts: told once, repeated rarely, over once; across restarts and workers; a dead webhook stops nothing.

Against a webhook that is a local server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import Engine, text
from web3 import Web3

from offchain.chain.sender import Sender
from offchain.keeper import alerts as alerts_module
from offchain.keeper.alerts import CLAIM_SECONDS, CLEAR_SECONDS, HOLD_SECONDS, Alerts, is_over
from offchain.keeper.database import open_database
from offchain.keeper.health import Kind, Problem
from offchain.keeper.journal import Journal, Status
from offchain.keeper.outside import Outside
from offchain.keeper.overview import Ledger
from offchain.keeper.probe import Probe
from offchain.keeper.watch import AccountSeen
from offchain.show.keeper_status import status_report
from tests.support.keeper_seen import ACCOUNT, E18, NOW, OTHER, VAULT, Clock, node, outcome, snapshot, watched
from tests.support.postgres import Postgres, postgres  # noqa: F401

SECRET = "T000-B000-secret-token"
REPEAT = 3_600
HALTED = Problem(Kind.HALTED, VAULT, "Paused.", VAULT, None, 1)
LOW_GAS = Problem(Kind.LOW_GAS, ACCOUNT, "Nearly empty.", None, ACCOUNT, 1)


@dataclass
class Hook:
    """A webhook that keeps what it is sent, and answers as it is told."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0
    answers: list[int] = field(default_factory=list)  # then 200
    url: str = ""

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(message["kind"], message["status"]) for message in self.messages]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            made.tries += 1
            status = made.answers.pop(0) if made.answers else 200
            if status == 200:
                made.messages.append(json.loads(body))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", made.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}/services/{SECRET}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(tmp_path / "journal.sqlite")
    yield made
    made.dispose()


@dataclass
class Told:
    """A keeper process that checks at times we choose."""

    alerts: Alerts
    clock: Clock

    def check(
        self, *found: Problem, after: float = 0, over: Callable[[Kind, str], bool] = lambda *_: True
    ) -> None:
        self.clock.now += after
        self.alerts.check(found, over)


@pytest.fixture
def process(hook: Hook, engine: Engine) -> Callable[..., Told]:
    clock = Clock()

    def start(**changes: Any) -> Told:
        options: dict[str, Any] = {"host": "here", "engine": engine, "url": SecretStr(hook.url)} | changes
        made = Alerts(repeat_seconds=REPEAT, wall=clock.wall, pause_seconds=0.001, **options)
        return Told(made, clock)

    return start


# ---------------------------------------------------------------- once, again, over


def test_it_is_told_once_and_again_only_after_the_time(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    for _ in range(5):
        told.check(HALTED, after=15)
    assert hook.said == [("halted", "firing")]
    told.check(HALTED, after=REPEAT - 61)
    assert len(hook.messages) == 1
    told.check(HALTED, after=1)
    told.check(HALTED, after=15)
    assert [message["repeated"] for message in hook.messages] == [False, True]
    assert len({message["id"] for message in hook.messages}) == 2


def test_that_it_is_over_is_told_once(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    told.check(HALTED)
    told.check(after=15)
    told.check(after=CLEAR_SECONDS - 1)
    assert hook.said == [("halted", "firing")]
    told.check(after=1)
    for _ in range(5):
        told.check(after=REPEAT)
    assert hook.said == [("halted", "firing"), ("halted", "resolved")]
    told.check(HALTED)
    assert hook.said[2:] == [("halted", "firing")]
    assert hook.messages[2]["id"] != hook.messages[0]["id"]


def test_what_comes_and_goes_is_one_alert(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    for _ in range(20):
        told.check(HALTED, after=15)
        told.check(after=CLEAR_SECONDS - 15)
    assert hook.said == [("halted", "firing")]


@pytest.mark.parametrize("kind", list(HOLD_SECONDS))
def test_what_may_be_over_in_a_moment_has_to_last(
    kind: Kind, process: Callable[..., Told], hook: Hook
) -> None:
    told, problem = process(), Problem(kind, "x", "It is so.")
    told.check(problem)
    told.check(problem, after=HOLD_SECONDS[kind] - 1)
    told.check(after=1)
    told.check(problem, after=1)
    assert hook.messages == []
    told.check(problem, after=HOLD_SECONDS[kind])
    assert hook.said == [(str(kind), "firing")]


def test_kinds_and_subjects_are_told_apart(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    other = Problem(Kind.HALTED, OTHER, "Paused.", OTHER, None, 1)
    missed = Problem(Kind.MISSED_RUN, VAULT, "Late.", VAULT, None, 1)
    told.check(HALTED, other, missed, Problem(Kind.STARTING, VAULT, "No look yet.", VAULT))
    told.check(HALTED, other, missed, after=15)
    assert [(one["kind"], one["vault"]) for one in hook.messages] == [
        ("halted", VAULT),
        ("halted", OTHER),
        ("missed_run", VAULT),
    ]


def test_what_cannot_be_known_is_not_over(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    told.check(HALTED)
    for _ in range(3):
        told.check(after=CLEAR_SECONDS, over=lambda *_: False)
    assert hook.said == [("halted", "firing")]


def test_a_storm_is_told_a_few_at_a_time_and_to_the_end(process: Callable[..., Told], hook: Hook) -> None:
    told, many = process(), [Problem(Kind.HALTED, f"0x{i:040x}", "Paused.", f"0x{i:040x}") for i in range(45)]
    for count in (20, 40, 45, 45):
        told.check(*many, after=15)
        assert len(hook.messages) == count


# ---------------------------------------------------------------- restarts and workers


def test_a_restart_does_not_repeat_it(process: Callable[..., Told], hook: Hook) -> None:
    process().check(HALTED)
    for _ in range(3):
        process().check(HALTED, after=15)
    assert hook.said == [("halted", "firing")]
    process().check(HALTED, after=REPEAT)
    assert [message["repeated"] for message in hook.messages] == [False, True]


def test_what_was_over_while_nobody_looked_is_told_after_a_restart(
    process: Callable[..., Told], hook: Hook
) -> None:
    process().check(HALTED)
    later = process()
    later.check(after=86_400)
    assert len(hook.messages) == 1  # it has just begun to look
    later.check(after=CLEAR_SECONDS)
    assert hook.said == [("halted", "firing"), ("halted", "resolved")]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_two_workers_one_tells_it(
    database: str, process: Callable[..., Told], hook: Hook, engine: Engine, request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        engine = open_database(server.url())
    one, two = process(engine=engine, host="one"), process(engine=engine, host="two")
    for _ in range(10):
        one.clock.now += REPEAT
        threads = [threading.Thread(target=told.check, args=(LOW_GAS,)) for told in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [message["repeated"] for message in hook.messages] == [
        False,
        *[True] * 8,
    ]  # the first time it has to last
    if database == "postgresql":
        engine.dispose()


def test_each_machine_tells_its_own_kill_switch(process: Callable[..., Told], hook: Hook) -> None:
    switch = Problem(Kind.KILL_SWITCH, "kill switch", "On.")
    one, two = process(host="one"), process(host="two")
    one.check(switch)
    two.check(switch)
    two.check(switch, after=15)
    assert [message["host"] for message in hook.messages] == ["one", "two"]
    one.check(after=15)
    two.check(switch)
    one.check(after=CLEAR_SECONDS)
    assert [(message["host"], message["status"]) for message in hook.messages[2:]] == [("one", "resolved")]


def test_what_another_keeper_of_the_vault_does_not_see_is_not_over(
    process: Callable[..., Told], hook: Hook
) -> None:
    one, two = process(host="one"), process(host="two")
    for _ in range(40):
        one.check(HALTED, after=15)
        two.check()
    assert hook.said == [("halted", "firing")]
    for _ in range(10):
        one.check(after=15)
        two.check()
    assert hook.said == [("halted", "firing"), ("halted", "resolved")]


def test_who_dies_while_sending_leaves_it_to_be_sent_later(
    process: Callable[..., Told], hook: Hook, engine: Engine
) -> None:
    dead, alive = process(), process()
    dead.alerts._post = lambda *_: False  # type: ignore[method-assign]
    dead.check(HALTED)
    alive.check(HALTED, after=15)
    assert hook.messages == []
    alive.check(HALTED, after=CLAIM_SECONDS)
    assert hook.said == [("halted", "firing")]


def test_without_the_database_it_is_told_once_too(
    process: Callable[..., Told], hook: Hook, engine: Engine
) -> None:
    told = process()
    told.check(LOW_GAS)
    told.check(LOW_GAS, after=60)
    with engine.begin() as db:
        db.execute(text("alter table alerts rename to gone"))
    away = Problem(Kind.DATABASE, "database", "It does not answer.")
    for _ in range(6):
        told.check(away, LOW_GAS, after=15)
    assert hook.said == [("low_gas", "firing"), ("database_away", "firing")]
    with engine.begin() as db:
        db.execute(text("alter table gone rename to alerts"))
    told.check(LOW_GAS, after=15)
    process().check(LOW_GAS, after=15)  # after a restart both are known
    told.check(LOW_GAS, after=CLEAR_SECONDS)
    assert hook.said[2:] == [("database_away", "resolved")]


def test_a_clock_that_is_set_back_does_not_silence_it(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    told.check(HALTED)
    told.check(HALTED, after=-86_400)
    told.check(HALTED, after=15)
    assert len(hook.messages) == 2


# ---------------------------------------------------------------- the message


def test_the_message_is_for_programs_and_for_slack(process: Callable[..., Told], hook: Hook) -> None:
    hostile = "<!channel> & \x1b[31m\nhttps://node/key " + "x" * 1_000
    process().check(
        Problem(Kind.REPEATED_FAILURE, VAULT, "3 failures in a row (reverted).", VAULT, None, 1, hostile)
    )
    (message,) = hook.messages
    assert message["text"].startswith(
        "[firing] repeated_failure: 3 failures in a row (reverted). &lt;!channel&gt; &amp; [31m https://node/… x"
    )
    assert message["text"].endswith(f"vault {VAULT}") and len(message["text"]) < 600
    assert message["text"].isprintable()
    expected = {"kind": "repeated_failure", "status": "firing", "severity": "critical", "vault": VAULT}
    expected |= {"account": None, "chain_id": 1, "repeated": False, "since": NOW, "host": "here"}
    assert {key: message[key] for key in expected} == expected


def test_warnings_are_told_from_what_is_critical(process: Callable[..., Told], hook: Hook) -> None:
    told = process()
    told.check(LOW_GAS)
    told.check(LOW_GAS, HALTED, after=60)
    assert {one["kind"]: one["severity"] for one in hook.messages} == {
        "low_gas": "warning",
        "halted": "critical",
    }


# ---------------------------------------------------------------- a webhook that is ill


def test_a_webhook_that_is_busy_is_tried_again(process: Callable[..., Told], hook: Hook) -> None:
    hook.answers = [503, 429, 500]
    told = process()
    told.check(HALTED)
    assert (hook.tries, hook.said) == (4, [("halted", "firing")])
    assert told.alerts.counts() == {("halted", "firing"): 1}


@pytest.mark.parametrize("status", [400, 404, 302, 307])
def test_a_refusal_is_not_hammered(status: int, process: Callable[..., Told], hook: Hook) -> None:
    hook.answers = [status]
    told = process()
    told.check(HALTED, LOW_GAS)
    told.check(HALTED, LOW_GAS, after=15)
    assert (hook.tries, hook.messages) == (1, [])
    assert told.alerts.counts() == {("halted", "failed"): 1}
    told.check(HALTED, after=CLAIM_SECONDS)
    assert hook.said == [("halted", "firing")]


def test_a_check_ends_with_the_first_message_that_is_not_taken(
    process: Callable[..., Told], hook: Hook
) -> None:
    hook.answers = [400, 400]
    told, other = process(), Problem(Kind.HALTED, OTHER, "Paused.", OTHER, None, 1)
    told.check(HALTED, other)
    assert hook.tries == 1
    told.check(HALTED, other, after=15)
    assert hook.tries == 2
    told.check(HALTED, other, after=CLAIM_SECONDS + 15)
    assert [message["vault"] for message in hook.messages] == [VAULT, OTHER]


def test_what_was_never_told_is_never_told_to_be_over(process: Callable[..., Told], hook: Hook) -> None:
    hook.answers = [400]
    told = process()
    told.check(HALTED)
    for _ in range(4):
        told.check(after=CLEAR_SECONDS)
    assert (hook.tries, hook.messages) == (1, [])


def test_a_dead_webhook_raises_nothing_and_its_secret_is_not_said(
    process: Callable[..., Told], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    told = process(url=SecretStr(f"http://127.0.0.1:9/services/{SECRET}"))
    with caplog.at_level("DEBUG", "evenkeel"):
        told.check(HALTED)
        told.check(HALTED, after=CLAIM_SECONDS + 1)
    assert told.alerts.counts() == {("halted", "failed"): 2}
    said = capsys.readouterr()
    everything = said.out + said.err + caplog.text + repr(told.alerts)
    assert "alert not delivered" in everything and "127.0.0.1" in everything
    assert SECRET not in everything


def test_a_bug_in_alerts_stops_nothing(
    process: Callable[..., Told], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Alerts, "_claim", broken)
    process().check(HALTED)
    said = capsys.readouterr()
    assert "bug: alerts failed" in said.out + said.err
    assert SECRET not in said.out + said.err


def test_a_stop_ends_the_waiting(process: Callable[..., Told], hook: Hook) -> None:
    stop = threading.Event()
    told = process(stop=stop)
    told.alerts.pause_seconds = 60
    hook.answers = [503] * 4
    threading.Timer(0.2, stop.set).start()
    thread = threading.Thread(target=told.check, args=(HALTED,))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert hook.tries < 4


# ---------------------------------------------------------------- from the watch to the webhook


def test_every_kind_that_the_watch_sees_is_told_and_is_over_again(
    hook: Hook, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper that everything happens to at once, then all is well again; twice, with a restart in between."""
    monkeypatch.setattr(alerts_module, "MOST_MESSAGES", 100)
    clock = Clock()
    watch = watched(clock, max_exceptions=3)
    journal = Journal(tmp_path / "journal.sqlite")
    web3 = Web3()
    outside = Outside(watch, engine=engine, probe=Probe(watch, web3, Sender(web3), engine))
    monkeypatch.setattr(Probe, "ask", lambda _: None)

    def restart() -> None:
        outside.alerts = Alerts(
            engine, SecretStr(hook.url), REPEAT, wall=clock.wall, pause_seconds=0.001, host="here"
        )

    restart()
    watch.due(VAULT, 60)
    watch.looked(VAULT, outcome(seen=snapshot(statuses=(0, 5), paused_until=NOW + 3_000)))
    for _ in range(3):
        watch.failed(VAULT, RuntimeError("a bug"))
    watch.note(kill_switch="stop", account=AccountSeen(1, ACCOUNT, 0))
    clock.now += 1_000
    node(watch, clock, behind=301)
    for _ in range(3):
        outside.tick()
        clock.now += 60
        restart()
    wrong = {"kill_switch", "halted", "missed_run", "repeated_failure", "stale_oracle", "low_gas"}
    wrong |= {"stale_block", "vault_paused"}
    # Each restart begins to wait for what has to last.
    assert {kind for kind, _ in hook.said} == wrong - set(map(str, HOLD_SECONDS))
    for _ in range(3):
        outside.tick()
        clock.now += 60
    assert sorted(hook.said) == sorted((kind, "firing") for kind in wrong)
    listed = status_report(engine)["alerts"]
    assert {alert["kind"] for alert in listed} == wrong and all(alert["sent"] for alert in listed)
    watch.note(kill_switch="", account=AccountSeen(1, ACCOUNT, E18))
    watch.looked(VAULT, outcome(Status.SKIPPED))
    watch.due(VAULT, 10_000)
    for _ in range(4):
        node(watch, clock)
        outside.tick()
        clock.now += 60
    assert sorted(hook.said[len(wrong) :]) == sorted((kind, "resolved") for kind in wrong)
    journal.close()


@pytest.mark.parametrize("kind", [Kind.HALTED, Kind.REPEATED_FAILURE, Kind.STALE_ORACLE, Kind.MISSED_RUN])
def test_a_vault_that_was_not_looked_at_yet_is_not_over(kind: Kind) -> None:
    watch = watched(Clock())
    watch.started(OTHER)
    assert not is_over(kind, OTHER, watch.facts(), Ledger((), {}))
    assert not is_over(kind, "0x" + "9" * 40, watch.facts(), Ledger((), {}))  # another worker's
    assert is_over(kind, VAULT, watch.facts(), Ledger((), {}))
    watch.failed(OTHER, requests.ConnectionError())
    assert is_over(kind, OTHER, watch.facts(), None) == (kind == Kind.MISSED_RUN)


def test_an_account_that_cannot_be_asked_is_not_over() -> None:
    clock = Clock()
    watch = watched(clock)
    for kind in (Kind.LOW_GAS, Kind.STUCK_TRANSACTION):
        assert is_over(kind, ACCOUNT, watch.facts(), Ledger((), {}))
        assert not is_over(kind, ACCOUNT, watch.facts(), None)
        assert not is_over(kind, OTHER, watch.facts(), Ledger((), {}))
    node(watch, clock, answers=False)
    assert not is_over(Kind.LOW_GAS, ACCOUNT, watch.facts(), Ledger((), {}))
