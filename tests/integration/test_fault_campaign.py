"""A few runs of the fault campaign (`make faults`), and its judge: the chain's word against the journals'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hexbytes import HexBytes
from rich.console import Console

from offchain.chain.fees import Fees
from offchain.chain.sender import SignedCall
from offchain.keeper.costs import Entry
from offchain.keeper.journal import Journal, Mined, Status
from tests.faults import judge
from tests.faults.campaign import faults_table, report, run, table
from tests.faults.scenario import CREWS, KINDS, draw

NUMBERS = (0, 2)  # a killed keeper, bad nodes


def test_a_few_runs_and_what_they_say() -> None:
    said = Console(file=StringIO(), width=200)
    verdicts = run(NUMBERS, said, postgres=False)
    assert [(verdict.scenario.number, verdict.wrong) for verdict in verdicts] == [(n, []) for n in NUMBERS]
    said.print(table(verdicts), faults_table(verdicts))
    found = report(verdicts, 0, 1)
    assert (found["runs"], found["failed"], found["failures"]) == (2, 0, [])
    assert found["runs_by_kind"] == {"RPC": 1, "kill": 1}
    assert sum(found["faults"].values()) > 1
    assert "│ all" in said.file.getvalue()  # type: ignore[attr-defined]


def test_a_number_always_draws_the_same_and_all_kinds_and_crews_are_drawn() -> None:
    many = [draw(number) for number in range(300)]
    assert many == [draw(number) for number in range(300)]
    assert {scenario.kind for scenario in many} == set(KINDS)
    assert {scenario.crew for scenario in many} == set(CREWS)
    full = [scenario for scenario in many if any(fault.act == "full disk" for fault in scenario.faults)]
    assert {scenario.kind for scenario in full} == {"full disk", "mixed"}
    assert CREWS[2] not in {scenario.crew for scenario in full}  # its journal is in no file


# ---------------------------------------------------------------- the judge sees what is wrong

VAULT, KEEPER = "0x" + "A" * 40, "0x" + "B" * 40
HASH, BLOCK, DECISION = "0x" + "11" * 32, "0x" + "22" * 32, "33" * 32
MINED = judge.Mined(KEEPER, 5, HASH, 9, BLOCK, True, 7)


@dataclass
class World:
    """What the chain says, and a journal that agrees with it."""

    journal: Journal
    monkeypatch: pytest.MonkeyPatch
    mined: list[judge.Mined] = field(default_factory=lambda: [MINED])
    sessions: list[int] = field(default_factory=lambda: [1])  # that were traded in
    closed: list[int] = field(default_factory=lambda: [1])

    def keep(self, settled: bool = True, gas_wei: int = 7) -> None:
        """The keeper's side of it."""
        run = self.journal.plan(VAULT, judge.CHAIN_ID, 7, 1, "due", "0x" + DECISION, "{}", 999)
        nonce = self.journal.reserve(run, KEEPER, 5, 5)
        attempt = self.journal.sent(run, SignedCall(HASH, nonce, "0x02", KEEPER, 21_000, Fees(2, 1)), 8, 100)
        if settled:
            at = Mined(9, BLOCK, 112, gas_wei)
            cost = replace(COST, gas_wei=gas_wei)
            self.journal.mined(attempt, at, Status.CONFIRMED, cost=cost)

    def wrong(self) -> str:
        logs = [
            {
                "args": {"session": session, "decision": bytes.fromhex(DECISION)},
                "transactionHash": HexBytes(HASH),
            }
            for session in self.sessions
        ]
        self.monkeypatch.setattr(judge, "mined_since", lambda *_: self.mined)
        self.monkeypatch.setattr(judge, "rebalances", lambda *_: logs)
        self.monkeypatch.setattr(judge, "closed", lambda *_: self.closed)
        vault: Any = SimpleNamespace(address=VAULT)
        return "; ".join(judge.faults_in(None, [vault], [self.journal], [KEEPER], 8, {VAULT: 1}))  # type: ignore[arg-type]


COST = Entry(
    **{item.name: 0 for item in fields(Entry)}
    | {"block": 9, "block_hash": BLOCK, "reverted": False, "why": "", "gas_wei": 7}  # type: ignore[arg-type]
)


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal, monkeypatch)
    journal.close()


def test_a_journal_that_agrees(judged: World) -> None:
    judged.keep()
    assert judged.wrong() == ""


def test_a_transaction_that_is_in_no_journal(judged: World) -> None:
    assert f"{HASH} is in no journal" in judged.wrong()


def test_a_transaction_that_the_journal_still_waits_for(judged: World) -> None:
    judged.keep(settled=False)
    said = judged.wrong()
    assert "run 1 is still sent" in said
    assert "the journal says (None, None, None)" in said
    assert judge.unsettled(judged.journal, {KEEPER: 6}, [VAULT]) == "run 1 is sent: due"


def test_another_gas_than_the_chain_s(judged: World) -> None:
    judged.keep(gas_wei=8)
    said = judged.wrong()
    assert "the ledger has a cost that the chain does not have" in said
    assert f"the journal says (9, '{BLOCK}', 8), the chain (9, '{BLOCK}', 7)" in said


def test_a_rebalance_that_the_chain_does_not_have(judged: World) -> None:
    judged.keep()
    judged.mined, judged.sessions, judged.closed = [], [], []
    said = judged.wrong()
    assert "run 1 is confirmed, and the chain has no such rebalance" in said
    assert "1 were due" in said


def test_two_trades_in_a_session_and_one_that_was_not_completed(judged: World) -> None:
    judged.keep()
    judged.sessions = [1, 1]
    assert "traded twice in a session: [1, 1]" in judged.wrong()
    judged.sessions, judged.closed = [1], []
    assert "sessions [1] were traded in, [] were completed" in judged.wrong()


@pytest.mark.parametrize(("after", "good"), [(910, True), (900, False), (940, False)])
def test_a_session_may_be_completed_but_not_traded_again(after: int, good: bool) -> None:
    """The target is 910: the second trade comes nearer, does nothing, or goes past it."""

    def drift(_: object, balances: Sequence[int]) -> int:
        return abs(balances[0] - 910)

    trades = [
        {"keeper": 1, "prices": [1], "balances_before": [1_000], "balances_after": [900], "decision": b"1"},
        {"keeper": 2, "prices": [1], "balances_before": [900], "balances_after": [after], "decision": b"1"},
    ]
    assert judge._completes(trades, drift) is good
    assert not judge._completes([trades[0], trades[1] | {"keeper": 1}], drift)


def test_a_transaction_that_failed_is_no_rebalance(judged: World) -> None:
    judged.keep()
    judged.mined = [replace(MINED, succeeded=False)]
    assert "run 1 is confirmed" in judged.wrong()


def test_a_gap_in_the_nonces(judged: World) -> None:
    judged.keep()
    judged.mined = [MINED, replace(MINED, nonce=7, tx_hash="0x" + "44" * 32)]
    assert "[5, 7]" in judged.wrong()
