"""A strategy moves a vault's targets on a real chain: in steps, within the limits, once whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web3.contract import Contract

from offchain.chain.sender import Sender
from offchain.chain.vault import read_vault
from offchain.demo.market import STOCKS
from offchain.demo.world import World
from offchain.keeper.database import open_database
from offchain.keeper.journal import Journal, Status
from offchain.keeper.overview import read_ledger
from offchain.keeper.targets import Strategist, Wanted
from tests.support.anvil import anvil
from tests.support.demo_vault import funded_vault, make_keeper

DAY = 86_400
NAMES = [*(stock.symbol for stock in STOCKS), "tUSD"]  # targets 30, 25, 20 and 25 %; limits 5 to 60 %
FAR = (0.6, 0.1, 0.1, 0.2)  # a way of 6,000 bps; 2,000 may be moved at once, and 100 more a day


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A world with one threshold vault; its deployer is the strategist."""
    with funded_vault(anvil) as (world, vault):
        yield world, vault


class Wants:
    """A strategy that wants always the same."""

    def __init__(self, *weights: float, stale: str = "") -> None:
        self.weights, self.stale = weights, stale

    def wanted(self, snapshot: Any, names: list[str]) -> Wanted:
        assert names == NAMES
        return Wanted(self.weights, "mine", "no history", self.stale)


def make_strategist(world: World, vault: Contract, journal: Journal, asks: Any, **changes: Any) -> Strategist:
    web3 = world.chain.web3
    sender = Sender(web3, world.deployer, poll_seconds=0.02)
    return replace(Strategist(web3, vault.address, asks, sender, journal), **changes)


def targets(world: World, vault: Contract) -> list[int]:
    return [asset.target_bps for asset in read_vault(world.chain.web3, vault.address).state.assets]


def sent(world: World) -> int:
    return world.chain.web3.eth.get_transaction_count(world.deployer.address)


def test_targets_glide_at_the_speed_that_the_vault_allows(
    world: World, vault: Contract, journal: Journal
) -> None:
    strategist = make_strategist(world, vault, journal, Wants(*FAR))
    before = sent(world)
    assert targets(world, vault) == [3_000, 2_500, 2_000, 2_500]
    first = strategist.once()
    assert first.status == Status.CONFIRMED, first.reason
    assert targets(world, vault) == [4_000, 2_000, 1_667, 2_333]
    again = strategist.once()
    assert again.status == Status.SKIPPED
    assert again.reason.startswith("mine: targets move too fast: 4000 bps are left, and only ")
    world.chain.mine(world.chain.now + 5 * DAY)
    assert strategist.once().status == Status.CONFIRMED
    assert targets(world, vault) == [4_250, 1_875, 1_584, 2_291]
    for _ in range(2):
        world.chain.mine(world.chain.now + 20 * DAY)
        assert strategist.once().status == Status.CONFIRMED
    assert targets(world, vault) == [6_000, 1_000, 1_000, 2_000]
    assert strategist.once().reason == "mine: the targets are within 0 bps of what is wanted"
    assert sent(world) - before == 4  # and none was refused


def test_no_asset_leaves_its_limits(world: World, vault: Contract, journal: Journal) -> None:
    strategist = make_strategist(world, vault, journal, Wants(1.0, 0.0, 0.0, 0.0))
    for _ in range(3):
        assert strategist.once().status == Status.CONFIRMED
        world.chain.mine(world.chain.now + 40 * DAY)
    assert strategist.once().status == Status.SKIPPED
    assert targets(world, vault) == [6_000, 1_334, 1_333, 1_333]


def test_who_is_not_strategist_is_told_so_and_sends_nothing(
    world: World, vault: Contract, journal: Journal
) -> None:
    stranger = world.chain.accounts[7]
    outcome = make_strategist(
        world, vault, journal, Wants(*FAR), sender=Sender(world.chain.web3, stranger)
    ).once()
    assert outcome.status == Status.FAILED
    assert outcome.reason.endswith(
        f"not admin or strategist (account {stranger.address} lacks the strategist role of this vault)"
    )
    assert world.chain.web3.eth.get_transaction_count(stranger.address) == 0
    assert targets(world, vault) == [3_000, 2_500, 2_000, 2_500]


def test_a_dry_run_a_kill_switch_and_an_old_history_move_nothing(
    world: World, vault: Contract, journal: Journal, tmp_path: Path
) -> None:
    web3, before = world.chain.web3, sent(world)
    switch = tmp_path / "stop"
    switch.touch()
    dry = Sender(web3, world.deployer, dry_run=True)
    off = Sender(web3, world.deployer, kill_switch=switch)
    assert make_strategist(world, vault, journal, Wants(*FAR), sender=dry).once().status == Status.SIMULATED
    assert make_strategist(world, vault, journal, Wants(*FAR), sender=off).once().status == Status.SIMULATED
    old = make_strategist(world, vault, journal, Wants(*FAR, stale="the history ends")).once()
    assert (old.status, old.reason) == (Status.SKIPPED, "mine: the history ends")
    assert sent(world) == before
    assert targets(world, vault) == [3_000, 2_500, 2_000, 2_500]


class Killed(Exception):
    """The process died here."""


class DyingSender(Sender):
    """Dies before or after the node has the transaction."""

    delivers = True

    def send(self, raw: str, tx_hash: str, public: bool = False) -> None:
        if self.delivers:
            super().send(raw, tx_hash, public)
        raise Killed


class DyingBeforeSender(DyingSender):
    """Dies before the node has the transaction."""

    delivers = False


class DyingUnsigned(Sender):
    """Dies before anything is signed."""

    def sign(self, *_: Any) -> Any:
        raise Killed


@pytest.mark.parametrize(
    ("dying", "left"),
    [
        (DyingSender, Status.SENT),
        (DyingBeforeSender, Status.SENT),
        (DyingUnsigned, Status.SIMULATED),
    ],
)
def test_a_crash_at_any_step_resumes_without_a_double(
    world: World, vault: Contract, tmp_path: Path, dying: type[Sender], left: Status
) -> None:
    path, before = tmp_path / "crash.sqlite", sent(world)
    with pytest.raises(Killed):
        make_strategist(
            world, vault, Journal(path), Wants(*FAR), sender=dying(world.chain.web3, world.deployer)
        ).once()
    (run,) = Journal(path).unfinished(vault.address, world.chain.web3.eth.chain_id)
    assert run.status == left
    restarted = make_strategist(world, vault, Journal(path), Wants(*FAR))
    restarted.once()
    assert targets(world, vault) == [4_000, 2_000, 1_667, 2_333]
    assert sent(world) - before == 1
    done = [run.status for run in restarted.journal.runs()]
    assert done.count(Status.CONFIRMED) == 1
    assert restarted.journal.unfinished(vault.address, world.chain.web3.eth.chain_id) == []


def test_a_keeper_settles_it_too_and_counts_no_rebalance(
    world: World, vault: Contract, tmp_path: Path
) -> None:
    path = tmp_path / "crash.sqlite"
    with pytest.raises(Killed):
        make_strategist(
            world, vault, Journal(path), Wants(*FAR), sender=DyingSender(world.chain.web3, world.deployer)
        ).once()
    keeper = make_keeper(world, vault, Journal(path), sender=Sender(world.chain.web3, world.deployer))
    keeper.once()
    runs = keeper.journal.runs()
    assert [run.status for run in runs if run.session == 0] == [Status.CONFIRMED]
    assert keeper.journal.costs(vault.address) == []
    assert read_ledger(open_database(path)).rebalances == {}


def test_two_strategists_at_once_take_one_step(world: World, vault: Contract, journal: Journal) -> None:
    before, together = sent(world), threading.Barrier(2)

    class Together(Wants):
        def wanted(self, snapshot: Any, names: list[str]) -> Wanted:
            together.wait(60)
            return super().wanted(snapshot, names)

    found: list[Status] = []
    strategists = [make_strategist(world, vault, journal, Together(*FAR)) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda one=one: found.append(one.once().status)) for one in strategists
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(Status.CONFIRMED) == 1
    assert sent(world) - before == 1
    assert targets(world, vault) == [4_000, 2_000, 1_667, 2_333]
