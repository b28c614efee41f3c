"""The keeper asks venues over HTTP, and uses what the node has shown to be better: anvil, real pools and routers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner
from web3 import Web3
from web3.contract import Contract

from offchain import policy
from offchain.aggregators import AggregatedPlan, with_quotes
from offchain.aggregators.base import Http
from offchain.aggregators.zeroex import ZeroEx
from offchain.chain.contracts import ZERO
from offchain.chain.sender import Sender
from offchain.chain.vault import read_vault
from offchain.cli import app
from offchain.demo.market import Day, history
from offchain.demo.uniswap import _artifact
from offchain.demo.world import World, build_world
from offchain.keeper.costs import read_record
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper
from offchain.planner import plan
from offchain.planner.problem import objective
from offchain.policy import Mode
from tests.support import aggregators as shapes
from tests.support.aggregators import Answer, Asked, Server, serving
from tests.support.anvil import anvil

KEY = "s3cret-KEY-0123456789"
FIRST = history(2)[0]
DEPOSIT = 1_000_000  # USD
DEEP = 200_000_000  # USD on each side of the pair that the keeper does not know
FOREVER = 2**40


def moved(day: Day, per_cent: int) -> Day:
    """The day's prices with the first stock moved."""
    return replace(day, prices=(day.prices[0] * (100 + per_cent) // 100, *day.prices[1:]))


JUMP = moved(FIRST, 60)  # tAAPL from 30 % to above 40 %


@dataclass
class Town:
    """A world with one vault out of balance, and another exchange that the keeper's settings do not name."""

    world: World
    vault: Contract
    router: Contract
    sold: Contract
    bought: Contract

    def quotes(self, asked: Asked, more_bps: int = 0) -> Answer:
        """0x with that exchange as its only source; `more_bps` more is promised than is paid."""
        sold, bought, amount = (asked.query[name] for name in ("sellToken", "buyToken", "sellAmount"))
        ours = {self.sold.address.lower(), self.bought.address.lower()}
        if {sold.lower(), bought.lower()} != ours:
            return Answer(shapes.ZEROEX_NONE)
        path = [Web3.to_checksum_address(where) for where in (sold, bought)]
        pays = self.router.functions.getAmountsOut(int(amount), path).call()[-1]
        least = pays * (10_000 - int(asked.query["slippageBps"])) // 10_000
        taker = Web3.to_checksum_address(asked.query["taker"])
        swap = self.router.functions.swapExactTokensForTokens(int(amount), least, path, taker, FOREVER)
        where, promise = self.router.address, pays * (10_000 + more_bps) // 10_000
        return Answer(shapes.zeroex(asked, promise, least, where, where, swap._encode_transaction_data()))

    def keeper(self, journal: Journal, server: Server, **changes: Any) -> Keeper:
        world = self.world
        keeper = Keeper(
            web3=world.chain.web3,
            vault=self.vault.address,
            executor=world.executor.address,
            hub=world.cash.address,
            pools=world.pool_source,
            sender=Sender(world.chain.web3, world.keeper, poll_seconds=0.02),
            journal=journal,
            venues=(ZeroEx(Http(20), server.url, SecretStr(KEY)),),
            quote_seconds=20,
        )
        return replace(keeper, **changes)


@pytest.fixture(scope="module")
def built() -> Iterator[Town]:
    with anvil(FIRST.timestamp) as chain:
        world = build_world(chain, FIRST)
        vault = world.create_vault(Mode.THRESHOLD, "Test basket", "TEST", FIRST)
        depositor, provider = chain.accounts[6], world.provider
        world.mint(depositor.address, DEPOSIT, FIRST)
        world.approve(depositor, vault.address)
        shares = (DEPOSIT - 1_000) * 10**18
        amounts = vault.functions.preview_mint_in_kind(shares).call()
        chain.send(
            depositor, vault.functions.mint_in_kind(shares, [a * 2 for a in amounts], depositor.address)
        )
        factory = chain.deploy_code(
            world.deployer, *_artifact("v2-core/build/UniswapV2Factory.json"), world.deployer.address
        )
        router = chain.deploy_code(
            world.deployer, *_artifact("v2-periphery/build/UniswapV2Router02.json"), factory.address, ZERO
        )
        chain.mine(chain.now + 3_600)
        world.set_market(JUMP)
        world.mint(provider.address, DEEP, JUMP)
        world.approve(provider, router.address)
        sold, bought = world.tokens[0], world.tokens[1]
        units = [
            DEEP * 10**8 * 10 ** token.functions.decimals().call() // price
            for token, price in zip((sold, bought), JUMP.prices, strict=False)
        ]
        liquidity = router.functions.addLiquidity(
            sold.address, bought.address, *units, 0, 0, provider.address, FOREVER
        )
        chain.send(provider, liquidity)
        yield Town(world, vault, router, sold, bought)


@pytest.fixture
def town(built: Town) -> Iterator[Town]:
    """As built; what a test does to the chain is undone."""
    snapshot = built.world.chain._rpc("evm_snapshot", [])
    yield built
    built.world.chain._rpc("evm_revert", [snapshot])


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def balances(town: Town) -> tuple[int, ...]:
    return tuple(read_vault(town.world.chain.web3, town.vault.address).state.balances)


def test_a_better_quote_is_carried_out_and_recorded(town: Town, journal: Journal) -> None:
    before = read_vault(town.world.chain.web3, town.vault.address)
    with serving(town.quotes) as server, capture_logs() as logs:
        outcome = town.keeper(journal, server).once()
    assert outcome.status == Status.CONFIRMED, outcome.reason
    found = outcome.plan
    assert isinstance(found, AggregatedPlan)
    assert [quote.venue for quote in found.calls] == ["0x"]
    assert found.legs  # the rest through the own pools
    assert balances(town) == found.balances_after  # predicted to the wei
    after = read_vault(town.world.chain.web3, town.vault.address)
    assert sum(policy.drifts(after.state)) < sum(policy.drifts(before.state)) // 2

    run = journal.runs()[0]
    assert run.record is not None
    kept = json.loads(run.record)["plan"]
    assert kept["choice"] == found.choice
    assert found.choice.startswith("0x: in simulation at least ")
    assert [quote["venue"] for quote in kept["quotes"]] == ["0x"] * len(server.asked)
    assert any(line["event"] == "route chosen" and line["choice"] == found.choice for line in logs)
    assert any(line["event"] == "quote" and " bps" in line["quote"] for line in logs)
    assert KEY not in run.record + repr(logs) + repr(outcome)
    assert {asked.query["txOrigin"] for asked in server.asked} == {town.world.keeper.address}


def test_the_outcome_is_better_than_without_venues(town: Town, journal: Journal) -> None:
    with serving(town.quotes) as server:
        keeper = town.keeper(journal, server)
        snapshot = town.world.chain._rpc("evm_snapshot", [])
        assert keeper.once().status == Status.CONFIRMED
        with_venue = balances(town)
        town.world.chain._rpc("evm_revert", [snapshot])
        alone = replace(keeper, venues=(), journal=Journal(":memory:")).once()
    assert alone.status == Status.CONFIRMED
    assert not isinstance(alone.plan, AggregatedPlan)
    state = alone.snapshot.state if alone.snapshot else None
    assert state is not None
    assert policy.nav(state, with_venue) > policy.nav(state, balances(town))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (lambda town, asked: town.quotes(asked, more_bps=300), "0x not used: "),
        (lambda town, asked: Answer(b"<html>", 500), "own route: no quote of 0x beats it by 2 bps"),
        (lambda town, asked: Answer(shapes.ZEROEX_NONE), "own route: no quote of 0x beats it by 2 bps"),
    ],
)
def test_lies_and_errors_leave_the_own_route(
    town: Town, journal: Journal, script: Callable[[Town, Asked], Answer], words: str
) -> None:
    with serving(lambda asked: script(town, asked)) as server:
        outcome = town.keeper(journal, server).once()
    assert outcome.status == Status.CONFIRMED, outcome.reason
    found = outcome.plan
    assert isinstance(found, AggregatedPlan)
    assert not found.calls
    assert found.choice.startswith("own route")
    assert words in found.choice
    assert balances(town) == found.balances_after
    record = journal.runs()[0].record
    assert record is not None
    assert words in json.loads(record)["plan"]["choice"]


def test_gas_is_measured_where_it_has_a_price(town: Town, journal: Journal) -> None:
    """The node answers for both plans; this gain is worth the gas of the call."""
    with serving(town.quotes) as server:
        outcome = town.keeper(journal, server, native_price=2_000 * 10**18).once()
    assert outcome.status == Status.CONFIRMED, outcome.reason
    assert isinstance(outcome.plan, AggregatedPlan)
    assert outcome.plan.calls, outcome.plan.choice
    assert outcome.receipt is not None
    assert outcome.plan.costs is not None and outcome.plan.costs.gas > 0


def test_nobody_is_asked_without_need(town: Town, journal: Journal) -> None:
    """Nor where there is nobody to simulate as."""
    with serving(town.quotes) as server:
        blind = town.keeper(journal, server, sender=Sender(town.world.chain.web3, None))
        assert blind.once().status == Status.PLANNED
        assert not server.asked
        assert town.keeper(journal, server).once().status == Status.CONFIRMED
        asked = len(server.asked)
        assert asked > 0
        assert town.keeper(journal, server).once().status == Status.SKIPPED  # on target now
        assert len(server.asked) == asked


def test_the_plan_can_be_made_again_from_its_record(town: Town, journal: Journal) -> None:
    with serving(town.quotes) as server:
        outcome = town.keeper(journal, server).once()
    assert outcome.decision is not None
    record = json.loads(outcome.decision.record)
    assert isinstance(outcome.plan, AggregatedPlan)
    quotes = outcome.plan.quotes
    assert [q["data"] for q in record["plan"]["quotes"]] == ["0x" + q.data.hex() for q in quotes]
    problem = read_record(outcome.decision.record)
    again = with_quotes(problem, plan(problem), quotes, int(record["plan"]["margin_bps"]))
    assert again is not None
    assert "0x" + again.payload.hex() == record["plan"]["payload"]
    assert objective(problem, again.worst) < objective(problem, plan(problem).balances_after)


# ---------------------------------------------------------------- the command line on the same chain


def test_the_settings_name_the_venues(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore, password = tmp_path / "key.json", tmp_path / "password"
    keystore.write_text(
        json.dumps(Account.encrypt(town.world.keeper.key, "secret", kdf="pbkdf2", iterations=10))
    )
    password.write_text("secret\n")
    source = town.world.pool_source
    with serving(town.quotes) as server:
        (tmp_path / "evenkeel.toml").write_text(
            f'rpc_url = "{town.world.chain.url}"\nvault = "{town.vault.address}"\n'
            f'executor = "{town.world.executor.address}"\nkeystore = "{keystore}"\npassword_file = "{password}"\n'
            f"v2_factories = {json.dumps(source.v2_factories)}\nv3_factories = {json.dumps(source.v3_factories)}\n"
            f"v3_fees = {json.dumps(source.v3_fees)}\n"
            f'aggregators = ["0x"]\naggregator_urls = {{ "0x" = "{server.url}" }}\naggregator_timeout_seconds = 20\n'
        )
        monkeypatch.chdir(tmp_path)
        for name in ("ETH_RPC_URL", "EVENKEEL_RPC_URL", "EVENKEEL_ZEROX_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        missing = CliRunner().invoke(app, ["keeper", "once"])
        assert missing.exit_code != 0
        assert "aggregators: 0x needs a key in the environment variable EVENKEEL_ZEROX_API_KEY" in (
            missing.stderr.replace("\n", " ")
        )
        assert not server.asked
        monkeypatch.setenv("EVENKEEL_ZEROX_API_KEY", KEY)
        done = CliRunner().invoke(app, ["keeper", "once", "--json"])
    assert json.loads(done.stdout)["status"] == "confirmed", done.output
    assert {asked.headers["0x-api-key"] for asked in server.asked} == {KEY}
    assert KEY not in done.output
