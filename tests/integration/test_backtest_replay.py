"""Live = backtest: a keeper works on anvil, and the backtester decides the same from its journal, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from web3.contract import Contract

from offchain.backtest.chain import replay_journal, replay_record
from offchain.chain.events import vault_events
from offchain.demo.market import Day
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper, Outcome
from offchain.policy import DAY
from tests.support.demo_vault import FIRST, funded_vault, make_keeper

DAYS = (  # how far the first stock has moved, per cent; the others follow half as far the other way
    (3_600, 0), (3_600, 60), (7_200, 60), (2 * DAY, 20), (2 * DAY, 90), (3_600, 90), (2 * DAY, 70), (2 * DAY, -10),
)  # fmt: skip


def day_of(per_cent: int) -> Day:
    """The first day's prices, moved."""
    stock, *others, cash = FIRST.prices
    moved = [price * (200 - per_cent) // 200 for price in others]
    return replace(FIRST, prices=(stock * (100 + per_cent) // 100, *moved, cash))


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[World, Contract, Journal, list[Outcome]]]:
    """A keeper that looked at its vault through DAYS, gas priced, and its journal."""
    journal = Journal(tmp_path_factory.mktemp("live") / "journal.sqlite")
    with funded_vault() as (world, vault):
        keeper: Keeper = make_keeper(world, vault, journal, native_price=2_500 * 10**18)
        outcomes = []
        for seconds, per_cent in DAYS:
            world.chain.mine(world.chain.now + seconds)
            world.set_market(day_of(per_cent))
            outcomes.append(keeper.once())
        yield world, vault, journal, outcomes
    journal.close()


def test_each_decision_is_made_again_bit_for_bit(lived: Any) -> None:
    world, vault, journal, outcomes = lived
    done = [outcome for outcome in outcomes if outcome.status == Status.CONFIRMED]
    assert len(done) >= 3
    again = {found.run: found for found in replay_journal(journal, vault.address)}
    runs = journal.runs(vault.address)
    assert again.keys() == {run.id for run in runs}  # those that did nothing are replayed, too
    assert all(found.same and found.replayed == found.recorded for found in again.values())

    web3 = world.chain.web3
    events = [
        e for e in vault_events(web3, vault.address, 0, web3.eth.block_number) if e["event"] == "Rebalanced"
    ]
    on_chain = ["0x" + event["args"]["decision"].hex() for event in events]
    assert on_chain == [again[run.id].replayed for run in reversed(runs) if run.status == Status.CONFIRMED]


def test_the_whole_decision_is_the_same(lived: Any) -> None:
    """Legs, amounts, payload, what is expected of it: not only its hash."""
    for outcome in lived[3]:
        assert replay_record(outcome.decision.record) == replace(
            outcome.decision, act=outcome.decision.plan is not None and outcome.decision.plan.trades
        )


def test_a_tampered_record_is_found_and_named(lived: Any, tmp_path: Path) -> None:
    world, vault, journal, _ = lived
    run = next(run for run in journal.runs(vault.address) if run.status == Status.CONFIRMED)
    record = json.loads(run.record)
    record["state"]["balances"][0] = str(int(record["state"]["balances"][0]) + 10**15)
    changed = json.dumps(record, sort_keys=True, separators=(",", ":"))
    forged = Journal(tmp_path / "forged.sqlite")
    try:
        for text, decision in ((changed, run.decision), (changed, "0x" + keccak(text=changed).hex())):
            place = (vault.address, world.chain.web3.eth.chain_id, run.block, run.session, run.reason)
            forged.dry(forged.plan(*place, decision, text, 0), "")
        hashed, decided = replay_journal(forged)
    finally:
        forged.close()
    assert hashed.mismatch.startswith("record: hashes to 0x")
    assert not decided.same and "in the journal" in decided.mismatch
    assert decided.mismatch.startswith("plan.")  # the same vault would have been traded otherwise
