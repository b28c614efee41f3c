"""Several vaults in one process on a real chain: new blocks, prices, a subscription, bands that flicker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web3.contract import Contract

from offchain.chain.contracts import bind
from offchain.demo.market import Day
from offchain.demo.world import World
from offchain.keeper.database import open_database
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper, Outcome
from offchain.keeper.rhythm import Rhythm
from offchain.keeper.schedule import Heads, Job, Slots, Worker, run, run_settings
from offchain.keeper.watch import Watch
from offchain.policy import Mode
from offchain.settings import load_settings
from tests.support.anvil import anvil
from tests.support.demo_vault import FIRST, funded_vault, make_keeper

PATIENCE = 120  # seconds that a test waits for what must happen
DAY = 86_400


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A world with two vaults on target: one threshold vault that holds enough to trade, one of its seed alone."""
    with funded_vault(anvil) as (world, vault):
        world.create_vault(Mode.EITHER, "Another basket", "OTHER", FIRST)
        yield world, vault


@pytest.fixture
def vaults(world: World) -> list[Contract]:
    return world.vaults


def moved(per_cent: int) -> Day:
    """The first day's prices with one stock moved."""
    return replace(FIRST, prices=(FIRST.prices[0] * (100 + per_cent) // 100, *FIRST.prices[1:]))


def until(what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.005)


class Told:
    """A keeper that tells of each outcome."""

    def __init__(self, keeper: Keeper, tell: Callable[[str, Outcome], None]) -> None:
        self._keeper, self._tell, self.vault, self.web3 = keeper, tell, keeper.vault, keeper.web3

    def once(self) -> Outcome:
        outcome = self._keeper.once()
        self._tell(self.vault, outcome)
        return outcome

    def tend(self) -> bool:
        return self._keeper.tend()


@pytest.mark.parametrize("how", ["on_price", "on_block with a lens"])
def test_vaults_of_one_account_act_when_the_market_moves(
    world: World, vaults: list[Contract], journal: Journal, how: str
) -> None:
    looked, stop = threading.Event(), threading.Event()
    seen: dict[str, list[Outcome]] = {vault.address: [] for vault in vaults}
    lock = threading.Lock()

    def tell(vault: str, outcome: Outcome) -> None:
        with lock:
            seen[vault].append(outcome)
            if all(seen.values()):
                looked.set()
            if all(any(one.status == Status.CONFIRMED for one in found) for found in seen.values()):
                stop.set()

    rhythm = Rhythm(DAY, on_price=how == "on_price", on_block=how != "on_price")
    keepers = [make_keeper(world, vault, journal) for vault in vaults]
    lens = world.chain.deploy(world.deployer, "VaultLens").address if "lens" in how else ""
    heads = Heads(world.chain.web3, lens, poll_seconds=0.02)
    jobs = [Job(Told(keeper, tell), rhythm) for keeper in keepers]
    service = threading.Thread(
        target=run, args=(jobs,), kwargs={"sender": keepers[0].sender, "stop": stop, "heads": heads}
    )
    service.start()
    try:
        assert looked.wait(PATIENCE)
        until(lambda: heads._last is not None)
        world.set_market(moved(60))
        assert stop.wait(PATIENCE), seen
    finally:
        stop.set()
        service.join()
    confirmed = [[one for one in found if one.status == Status.CONFIRMED] for found in seen.values()]
    assert [len(found) for found in confirmed] == [1, 1]
    web3 = world.chain.web3
    nonces = {web3.eth.get_transaction(found[0].tx_hash)["nonce"] for found in confirmed}  # type: ignore[arg-type]
    assert nonces == {0, 1}
    for vault in vaults:
        assert vault.functions.session().call()[0] == 1


def test_a_subscription_tells_of_a_block_at_once(world: World, vault: Contract, journal: Journal) -> None:
    """The next poll would be in an hour."""
    stop = threading.Event()
    asked = threading.Event()

    class Asked(Worker):
        def ask(self, job: Job, due: float | None = None) -> None:
            asked.set()

    worker = Asked([Job(make_keeper(world, vault, journal), Rhythm(DAY, on_block=True))], stop, Watch())
    url = world.chain.url.replace("http://", "ws://")
    heads = Heads(world.chain.web3, poll_seconds=3_600, ws_url=url)
    threads = [
        threading.Thread(target=heads.follow, args=([worker], stop)),
        threading.Thread(target=heads.listen, args=(stop,)),
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: heads._subscribed and heads._last is not None)
        world.chain.mine(world.chain.now + 12)
        assert asked.wait(PATIENCE)
    finally:
        stop.set()
        heads.end()
        for thread in threads:
            thread.join()


# ---------------------------------------------------------------- by the settings


def test_a_file_of_settings_keeps_several_vaults_and_moves_targets(
    world: World, vaults: list[Contract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is signed; what would be is in the journal. A line that was missed is made up for at the start."""
    monkeypatch.chdir(tmp_path)
    first, second = (vault.address for vault in vaults)
    names = ["tAAPL", "tJPM", "tXOM", "tUSD"]
    rows = [f"{FIRST.timestamp - (3 - i) * DAY},{100 + i},{100 - i},{100 + i % 2},1" for i in range(3)]
    Path("prices.csv").write_text("\n".join([",".join(["date", *names]), *rows]))
    Path("evenkeel.toml").write_text(
        f"""
        rpc_url = "{world.chain.url}"
        executor = "{world.executor.address}"
        v2_factories = ["{world.uniswap.v2_factory.address}"]
        simulate_as = "{world.deployer.address}"
        poll_seconds = 0.05
        [[vaults]]
        address = "{first}"
        interval_seconds = 86_400
        [vaults.strategy]
        name = "fixed"
        settings = {{ weights = {{ tAAPL = 0.4, tJPM = 0.2, tXOM = 0.2, tUSD = 0.2 }} }}
        data = {{ source = "csv", path = "prices.csv" }}
        [[vaults]]
        address = "{second}"
        cron = "0 0 1 1 *"
        """
    )
    settings, stop = load_settings(), threading.Event()
    with closing(Journal(settings.journal)) as journal:
        engine = open_database(settings.journal)
        Slots(engine).done(world.chain.web3.eth.chain_id, second, "rebalance", 0)
        service = threading.Thread(target=run_settings, args=(settings, world.chain.web3, stop))
        service.start()
        try:
            until(lambda: len(journal.runs(first)) >= 2 and bool(journal.runs(second)))
        finally:
            stop.set()
            service.join()
        reasons = sorted(run.reason for run in journal.runs(first))
        assert reasons[0].startswith("dry run, would act: fixed: moves the targets by 2000 bps, all the way")
        assert reasons[1].startswith("no trigger")
        assert journal.runs(second)[0].reason.startswith("no trigger")
        done_at = Slots(engine).done_at(world.chain.web3.eth.chain_id, second, "rebalance")
        assert done_at is not None and done_at > time.time() - PATIENCE
        engine.dispose()


# ---------------------------------------------------------------- bands that flicker


def mined(world: World, blocks: int) -> None:
    for _ in range(blocks):
        world.chain.mine(world.chain.now + 12)


def feed_says(world: World, price: int) -> None:
    """One block in which the first stock's feed answers."""
    feed: Any = bind(world.chain.web3, "TestFeed", world.feeds[0].address).functions
    world.chain.send(world.deployer, feed.set_answer(price))


def test_a_band_has_to_be_broken_for_some_blocks(world: World, vault: Contract, journal: Journal) -> None:
    keeper = make_keeper(world, vault, journal, trigger_blocks=4)
    mined(world, 4)
    world.set_market(moved(60))  # two blocks, the feeds in the first
    early = keeper.once()
    assert (early.status, early.reason[:10]) == (Status.SKIPPED, "flickering")
    mined(world, 1)
    assert keeper.once().reason == early.reason
    mined(world, 1)
    assert keeper.once().status == Status.CONFIRMED


def test_a_band_that_flickers_is_not_acted_on(world: World, vault: Contract, journal: Journal) -> None:
    keeper = make_keeper(world, vault, journal, trigger_blocks=3)
    mined(world, 3)
    high = moved(60)
    world.set_market(high)
    feed_says(world, FIRST.prices[0])
    feed_says(world, high.prices[0])
    mined(world, 1)
    assert keeper.once().reason.startswith("flickering")  # broken, not broken, broken, broken
    assert make_keeper(world, vault, journal, trigger_blocks=1).once().status == Status.CONFIRMED
