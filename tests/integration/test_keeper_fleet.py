"""A fleet on anvil and a real PostgreSQL: vaults change hands at every step. Processes: tests/fleet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import text
from typer.testing import CliRunner

from offchain.chain.errors import BusyError, ConfigError
from offchain.chain.sender import Sender
from offchain.cli import app
from offchain.cli.fleet import tables
from offchain.demo.world import World
from offchain.keeper.database import open_database
from offchain.keeper.fleet import Fleet, Lease, Registry, create_queue, is_due, status_report
from offchain.keeper.journal import Journal, Status
from offchain.planner import Plan, Problem, plan
from offchain.policy import WAD, weights
from offchain.settings import Settings, VaultSettings
from offchain.show.console import short
from tests.fleet.stage import JUMP, many_vaults, rebalanced
from tests.support.demo_vault import make_keeper
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]

VAULTS = 12


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Any]]:
    with many_vaults(VAULTS) as world:
        yield world, world.vaults[0]


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.url()


@pytest.fixture
def fleet(world: World, vault: Any, database: str) -> Iterator[Callable[..., Fleet]]:
    """Workers of one database, in this process."""
    made: list[Fleet] = []

    def make(name: str, **changes: Any) -> Fleet:
        engine = open_database(database)
        create_queue(engine)
        keeper = make_keeper(world, vault, Journal(engine), **changes)
        made.append(Fleet(Settings(vault=vault.address), keeper, engine, name))
        return made[-1]

    yield make
    for one in made:
        one.engine.dispose()


def results(fleet: Fleet) -> list[tuple[Status, str]]:
    return [(Status(run.status), run.reason) for run in reversed(fleet.keeper.journal.runs())]


# ---------------------------------------------------------------- a vault changes hands while its worker is frozen


def a_quarter(problem: Problem) -> Plan:
    """Trades a quarter of what is needed: the session stays open, and the chain takes as much again, and again."""
    state = problem.state
    now = weights(state)
    targets = [
        (asset.target_bps + 3 * weight * 10_000 // WAD) // 4
        for asset, weight in zip(state.assets, now, strict=True)
    ]
    targets[-1] += 10_000 - sum(targets)
    assets = tuple(
        replace(asset, target_bps=target, band_points_bps=25, band_relative_bps=25)
        for asset, target in zip(state.assets, targets, strict=True)
    )
    return plan(replace(problem, state=replace(state, assets=assets)))


def test_a_part_of_a_rebalance_may_be_repeated(world: World, vault: Any, fleet: Callable[..., Fleet]) -> None:
    """What the next test rests on: the chain itself does not refuse a second one."""
    world.set_market(JUMP)
    worker = fleet("a", planner=a_quarter)
    for _ in range(2):
        outcome = worker.look(vault.address)
        assert outcome is not None and outcome.status == Status.CONFIRMED, outcome
    assert rebalanced(world)[vault.address] == 2


def test_a_worker_that_froze_before_its_plan_was_noted_sends_nothing(
    world: World, vault: Any, fleet: Callable[..., Fleet]
) -> None:
    """Its plan is old, and the vault would accept it: without the lease this is a second rebalance."""
    world.set_market(JUMP)
    other = fleet("b", planner=a_quarter)

    def frozen_meanwhile(problem: Problem) -> Plan:
        found = a_quarter(problem)
        outcome = other.look(vault.address)
        assert outcome is not None and outcome.status == Status.CONFIRMED
        return found

    fleet("a", planner=frozen_meanwhile).look(vault.address)
    assert rebalanced(world)[vault.address] == 1
    assert [status for status, _ in results(other)] == [Status.CONFIRMED]


class Frozen(Sender):
    """Stands still once, at `step`, while another worker takes the vault over."""

    step = ""
    others: Callable[[], Any] = staticmethod(lambda: None)

    def _pass(self, step: str) -> None:
        if step == type(self).step:
            type(self).step = ""
            type(self).others()

    def prepare(self, call: Any) -> Any:
        self._pass("prepare")
        return super().prepare(call)

    def refused(self, tx: Any, *block: Any) -> str:
        self._pass("reserved")
        return super().refused(tx, *block)

    def send(self, raw: str, tx_hash: str, public: bool = False) -> None:
        self._pass("before send")
        super().send(raw, tx_hash, public)
        self._pass("after send")


@pytest.mark.parametrize("step", ["prepare", "reserved", "before send", "after send"])
def test_a_worker_that_froze_on_the_way_does_not_double(
    world: World, vault: Any, fleet: Callable[..., Fleet], step: str
) -> None:
    world.set_market(JUMP)
    other = fleet("b")
    Frozen.step = step
    Frozen.others = staticmethod(lambda: other.look(vault.address))
    sender = Frozen(world.chain.web3, world.keeper, poll_seconds=0.02)
    worker = fleet("a", sender=sender)
    worker.look(vault.address)
    assert Frozen.step == ""
    assert rebalanced(world)[vault.address] == 1
    ended = [status for status, _ in results(other) if status != Status.SKIPPED]
    interrupted = [Status.FAILED] if step in ("prepare", "reserved") else []
    assert ended == [*interrupted, Status.CONFIRMED]
    assert world.chain.web3.eth.get_transaction_count(world.keeper.address) == 1
    (row,) = status_report(other.engine, 60)["vaults"]
    assert (row["last_worker"], row["state"]) == ("b", "idle")  # the frozen one has not even noted its end


def test_the_lease_holds_against_an_end_that_is_written_now(world: World, vault: Any, database: str) -> None:
    """Taking over waits for a write that was allowed, and forbids the next."""
    engine = open_database(database)
    create_queue(engine)
    lease = Lease.take(engine, 1, vault.address)
    journal = Journal(lease.fenced)
    run = journal.plan(vault.address, 1, 1, 1, "threshold", "0x", "{}", 600)
    with ThreadPoolExecutor(1) as pool:
        with engine.connect() as db, db.begin():
            lease.check(db)  # type: ignore[arg-type]
            taken = pool.submit(Lease.take, engine, 1, vault.address)
            waits = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watching:
                while watching.scalar(waits) == 0:
                    assert not taken.done()
        newer = taken.result()
    for write in (
        lambda: journal.simulated(run),
        lambda: journal.reserve(run, vault.address, 0, 0),
        lambda: journal.failed(run, "late"),
        lambda: journal.plan(vault.address, 1, 1, 1, "threshold", "0x", "{}", 600),
        lambda: lease.end("skipped", "", again=False),
    ):
        with pytest.raises(BusyError, match="another worker has taken"):
            write()
    Journal(newer.fenced).failed(run, "interrupted")
    assert Journal(engine).run(run).reason == "interrupted"
    engine.dispose()


def test_a_vault_that_a_keeper_holds_on_its_own_is_left_to_it(
    world: World, vault: Any, fleet: Callable[..., Fleet]
) -> None:
    worker = fleet("a")
    with worker.keeper.journal.hold(vault.address):
        assert worker.look(vault.address) is None
    assert worker.look(vault.address) is not None


# ---------------------------------------------------------------- nonces of one account


def test_workers_that_share_an_account_never_share_a_nonce(vault: Any, database: str) -> None:
    account, runs = "0x" + "c" * 40, 24
    engines = [open_database(database) for _ in range(3)]

    def claim(number: int) -> int:
        journal = Journal(engines[number % 3])
        run = journal.plan(f"0x{number:040x}", 1, 1, 1, "threshold", "0x", "{}", 600)
        return journal.reserve(run, account, 5, 5)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(runs))) == list(range(5, 5 + runs))
    for engine in engines:
        engine.dispose()


# ---------------------------------------------------------------- which vaults, and when


def test_the_factorys_vaults_with_the_role_are_kept(world: World, vault: Any) -> None:
    account, guardian = world.keeper.address, world.guardian
    registry = Registry(world.chain.web3, world.factory.address, account)
    assert registry.vaults() == [one.address for one in world.vaults]
    assert Registry(world.chain.web3, world.factory.address, guardian.address).vaults() == []


def kept(**changes: Any) -> VaultSettings:
    return VaultSettings(address="0x" + "ab" * 20, **changes)


@pytest.mark.parametrize(
    ("vault", "slot", "now", "due"),
    [
        (kept(interval_seconds=60), None, 1_000, True),
        (kept(interval_seconds=60), 940, 1_000, True),
        (kept(interval_seconds=60), 941, 1_000, False),
        (kept(interval_seconds=60, on_block=True), 999, 1_000, True),
        (kept(interval_seconds=60, on_price=True), 999, 1_000, True),
        (kept(cron="0 9 * * *"), 9 * 3_600 - 1, 9 * 3_600, True),
        (kept(cron="0 9 * * *"), 9 * 3_600, 9 * 3_600 + 60, False),
        (kept(cron="0 9 * * *"), 9 * 3_600 - 1, 5 * 86_400, True),  # all workers were down for days
        (kept(cron="0 9 * * *", timezone="Europe/Berlin"), 8 * 3_600 - 1, 8 * 3_600, True),
    ],
)
def test_when_a_vault_is_due(vault: VaultSettings, slot: int | None, now: int, due: bool) -> None:
    assert is_due(vault, slot, now) is due


def test_a_round_looks_at_what_is_due_unfinished_or_failed(
    world: World, vault: Any, fleet: Callable[..., Fleet]
) -> None:
    worker = fleet("a")
    now = 1_700_000_000
    assert worker.wanted(now) == ([vault.address], {vault.address: ""})  # no lens: nothing is screened
    worker._seen(now, {vault.address: ""})
    assert worker.wanted(now + 59) == ([], {})
    assert worker.wanted(now + 60)[0] == [vault.address]

    chain_id = worker.chain_id
    run = worker.keeper.journal.plan(vault.address, chain_id, 1, 1, "threshold", "0x", "{}", 600)
    assert worker.wanted(now + 1) == ([vault.address], {})
    worker.keeper.journal.failed(run, "interrupted")
    assert worker.wanted(now + 1) == ([], {})

    broken = fleet("b", executor="0x")  # every look is an error
    world.set_market(JUMP)
    assert broken.look(vault.address) is None
    assert worker.wanted(now + 1) == ([vault.address], {vault.address: ""})


def test_a_vault_whose_keeper_is_halted_stays_due(vault: Any, fleet: Callable[..., Fleet]) -> None:
    worker = fleet("a")
    worker.outside.watch.clock = lambda: 0.0  # the halt does not end meanwhile
    for _ in range(worker.outside.watch.max_exceptions):
        worker.outside.watch.failed(vault.address, ZeroDivisionError())
    assert worker.wanted(1_700_000_000)[0] == [vault.address]  # it is known from now on
    worker._seen(1_700_000_000, {vault.address: ""})
    assert worker.wanted(1_700_000_001)[0] == []
    assert worker.look(vault.address) is None  # halted
    assert worker.wanted(1_700_000_001)[0] == [vault.address]


def test_what_a_halted_vault_has_sent_is_looked_after_under_a_lease(
    world: World, vault: Any, fleet: Callable[..., Fleet]
) -> None:
    """No other worker may be there to do it."""
    world.set_market(JUMP)
    chain = world.chain
    chain.automine(False)  # type: ignore[attr-defined]
    sender = Sender(chain.web3, world.keeper, receipt_timeout_seconds=0, poll_seconds=0.01)
    worker = fleet("a", sender=sender)
    outcome = worker.look(vault.address)
    chain.automine(True)  # type: ignore[attr-defined]
    assert outcome is not None and outcome.status == Status.SENT
    worker.outside.watch.clock = lambda: 0.0
    for _ in range(worker.outside.watch.max_exceptions):
        worker.outside.watch.failed(vault.address, ZeroDivisionError())
    chain.mine_blocks(1)  # type: ignore[attr-defined]
    assert worker.look(vault.address) is None
    assert [status for status, _ in results(worker)] == [Status.CONFIRMED]
    (row,) = status_report(worker.engine, 60)["vaults"]
    assert row["reason"] == "halted"


def test_a_round_screens_through_the_lens(world: World, vault: Any, fleet: Callable[..., Fleet]) -> None:
    worker = fleet("a")
    lens = world.chain.deploy(world.deployer, "VaultLens").address
    worker.settings = Settings(vault=vault.address, lens=lens)
    looks, seen = worker.wanted(1_700_000_000)
    assert looks == []
    assert seen[vault.address].startswith("no trigger")
    worker._seen(1_700_000_000, seen)
    (row,) = status_report(worker.engine, 60)["vaults"]
    assert (row["result"], row["reason"]) == ("waiting", seen[vault.address])
    console = Console(file=StringIO(), width=240)
    console.print(tables(status_report(worker.engine, 60)))
    assert short(vault.address) in console.file.getvalue()  # type: ignore[attr-defined]
    world.set_market(JUMP)
    assert worker.wanted(1_700_000_060)[0] == [vault.address]


# ---------------------------------------------------------------- the command line


def test_mistakes_are_one_line(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    result = run(app, ["fleet", "status"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: database: a fleet needs PostgreSQL: ")
    monkeypatch.setenv("EVENKEEL_DATABASE", database)
    result = run(app, ["fleet", "status"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "there is no fleet in " in result.stderr and "hunter2" not in result.stderr
    for made in (True, False):
        result = run(app, ["fleet", "init", "--json"])
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["made"] is made
        assert "hunter2" not in result.stdout
    assert "0 vaults, 0 looks under way, 0 waiting" in run(app, ["fleet", "status"]).stdout
    result = run(app, ["fleet", "status", "--json"])
    assert json.loads(result.stdout) == {"workers": [], "queue": {"waiting": 0, "running": 0}, "vaults": []}


def test_what_is_missing_for_work_is_named(
    world: World, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offchain.keeper.fleet import fleet_from

    monkeypatch.chdir(tmp_path)
    for changes, words in (
        ({}, "vaults, factory: not set"),
        ({"factory": world.factory.address}, "factory: whose vaults"),
        (
            {"vaults": [{"address": world.vaults[0].address, "strategy": {"name": "hold", "data": {}}}]},
            "vaults, strategy: ",
        ),
    ):
        with (
            pytest.raises(ConfigError, match=words),
            fleet_from(Settings(database=database, **changes), world.chain.web3),
        ):
            pass
