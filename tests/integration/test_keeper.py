"""The keeper on anvil, against real Uniswap V2 and V3 pools and the real vault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from eth_account import Account
from eth_utils.crypto import keccak
from typer.testing import CliRunner
from web3.contract import Contract

from offchain import policy
from offchain.chain.events import vault_events
from offchain.chain.pools import read_pools
from offchain.chain.sender import Sender
from offchain.chain.vault import BlockRef, deadline_after, latest_block, read_vault
from offchain.cli import app
from offchain.demo.market import Day
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper
from offchain.planner import Plan, Problem, V2Pool, V3Pool, plan
from offchain.policy import DAY
from tests.support.anvil import anvil
from tests.support.demo_vault import DEPOSIT, FIRST, funded_vault, make_keeper


def moved(day: Day, per_cent: int, stock: int = 0) -> Day:
    """The day's prices with one stock moved."""
    prices = list(day.prices)
    prices[stock] = prices[stock] * (100 + per_cent) // 100
    return replace(day, prices=tuple(prices))


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A world with one threshold vault that holds enough to trade."""
    with funded_vault(anvil) as (world, vault):
        yield world, vault


@pytest.fixture
def keeper(world: World, vault: Contract, journal: Journal) -> Keeper:
    return make_keeper(world, vault, journal)


def later(world: World, seconds: int, day: Day) -> None:
    """Let time pass and bring feeds and pools to the day's prices."""
    world.chain.mine(world.chain.now + seconds)
    world.set_market(day)


def sent_by_keeper(world: World) -> int:
    return world.chain.web3.eth.get_transaction_count(world.keeper.address)


def rebalances(world: World, vault: Contract) -> list[Any]:
    web3 = world.chain.web3
    events = vault_events(web3, vault.address, 0, web3.eth.block_number)
    return [event for event in events if event["event"] == "Rebalanced"]


JUMP = moved(FIRST, per_cent=60)  # tAAPL from 30 % to above 40 %


def test_does_nothing_on_target(world: World, keeper: Keeper, journal: Journal) -> None:
    outcome = keeper.once()
    assert outcome.status == Status.SKIPPED
    assert outcome.reason.startswith("no trigger")
    assert sent_by_keeper(world) == 0
    assert [run.status for run in journal.runs()] == [Status.SKIPPED]


def test_acts_at_the_trigger_and_not_twice(
    world: World, vault: Contract, keeper: Keeper, journal: Journal
) -> None:
    later(world, 3_600, JUMP)
    before = read_vault(world.chain.web3, vault.address)
    outcome = keeper.once()
    assert outcome.status == Status.CONFIRMED, outcome.reason
    assert outcome.receipt is not None
    assert outcome.plan is not None
    after = read_vault(world.chain.web3, vault.address)
    assert sum(policy.drifts(after.state)) < sum(policy.drifts(before.state)) // 10
    assert list(after.state.balances) == list(outcome.plan.balances_after)  # predicted to the wei

    again = keeper.once()
    assert again.status == Status.SKIPPED
    assert sent_by_keeper(world) == 1
    assert [run.status for run in journal.runs()] == [Status.SKIPPED, Status.CONFIRMED]


def test_uses_eip_1559(world: World, keeper: Keeper) -> None:
    later(world, 3_600, JUMP)
    tx = world.chain.web3.eth.get_transaction(keeper.once().tx_hash)  # type: ignore[arg-type]
    assert tx["type"] == 2
    assert tx["maxFeePerGas"] > tx["maxPriorityFeePerGas"]


def test_commits_to_its_record(world: World, vault: Contract, keeper: Keeper, journal: Journal) -> None:
    later(world, 3_600, JUMP)
    keeper.once()
    (event,) = rebalances(world, vault)
    run = journal.runs()[0]
    assert run.record is not None
    assert event["args"]["decision"] == keccak(text=run.record)
    assert json.loads(run.record)["block"]["number"] == str(run.block)


def test_waits_for_the_cooldown(world: World, keeper: Keeper) -> None:
    later(world, 3_600, JUMP)
    assert keeper.once().status == Status.CONFIRMED
    again = moved(JUMP, per_cent=60)
    later(world, DAY - 60, again)
    early = keeper.once()
    assert (early.status, early.reason) == (Status.SKIPPED, "cooldown not over")
    later(world, 60, again)
    assert keeper.once().status == Status.CONFIRMED
    assert sent_by_keeper(world) == 2


def test_on_a_chain_that_stood_still_the_deadline_counts_from_the_next_block(
    world: World, keeper: Keeper
) -> None:
    later(world, 3_600, JUMP)
    world.chain._rpc("evm_increaseTime", [3 * keeper.deadline_seconds])
    outcome = keeper.once()
    assert outcome.status == Status.CONFIRMED, outcome.reason
    assert world.chain.now - outcome.snapshot.block.time > keeper.deadline_seconds  # type: ignore[union-attr]


@pytest.mark.parametrize(("pending", "deadline"), [(900, 1_060), (1_050, 1_110), (10**9, 1_060 + DAY)])
def test_a_pending_block_far_away_is_not_believed(pending: int, deadline: int) -> None:
    web3: Any = SimpleNamespace(eth=SimpleNamespace(get_block=lambda _: {"timestamp": pending}))
    assert deadline_after(web3, BlockRef(7, "0x", 1_000), 60) == deadline


def test_refuses_what_the_policy_refuses(world: World, vault: Contract, journal: Journal) -> None:
    def selling_everything(problem: Problem) -> Plan:
        good = plan(problem)
        after = list(good.balances_after)
        after[0] = 0
        return replace(good, sells=problem.state.balances, balances_after=tuple(after))

    later(world, 3_600, JUMP)
    outcome = make_keeper(world, vault, journal, planner=selling_everything).once()
    assert outcome.status == Status.SKIPPED
    assert outcome.reason.startswith("the vault would refuse the plan: ")
    assert sent_by_keeper(world) == 0


def test_does_not_submit_what_the_simulation_refuses(world: World, vault: Contract, journal: Journal) -> None:
    def lying(problem: Problem) -> Plan:
        return replace(plan(problem), payload=b"")

    later(world, 3_600, JUMP)
    outcome = make_keeper(world, vault, journal, planner=lying).once()
    assert outcome.status == Status.FAILED
    assert outcome.reason == "the vault refuses in simulation: loss above slippage"
    assert sent_by_keeper(world) == 0
    assert journal.runs()[0].status == Status.FAILED


def test_says_that_the_account_is_no_keeper(world: World, vault: Contract, journal: Journal) -> None:
    stranger = world.chain.accounts[7]
    later(world, 3_600, JUMP)
    outcome = make_keeper(world, vault, journal, sender=Sender(world.chain.web3, stranger)).once()
    assert outcome.status == Status.FAILED
    assert "not keeper" in outcome.reason
    assert stranger.address in outcome.reason


def test_a_dry_run_sends_nothing(world: World, vault: Contract, journal: Journal) -> None:
    later(world, 3_600, JUMP)
    sender = Sender(world.chain.web3, world.keeper, dry_run=True)
    outcome = make_keeper(world, vault, journal, sender=sender).once()
    assert outcome.status == Status.SIMULATED
    assert sent_by_keeper(world) == 0
    assert journal.unfinished(vault.address, outcome.chain_id) == []


def test_waits_for_usable_prices(world: World, keeper: Keeper) -> None:
    later(world, 3_600, JUMP)
    world.chain.mine(world.chain.now + 2 * DAY)
    assert keeper.once().reason == "price not usable"


def test_trades_the_rest_while_one_asset_is_in_quarantine(
    world: World, vault: Contract, keeper: Keeper
) -> None:
    """Its feed is dead and its token reverts; the keeper trades the others."""
    aside = world.tokens[1]
    chain = world.chain
    chain.send(world.guardian, world.timelock.functions.quarantine(vault.address, aside.address))
    later(world, 3_600, JUMP)
    chain.send(world.deployer, world.feeds[1].functions.set_answer(0))
    code = chain.web3.eth.get_code(aside.address).to_0x_hex()
    chain._rpc("anvil_setCode", [aside.address, "0xfe"])
    outcome = keeper.once()
    chain._rpc("anvil_setCode", [aside.address, code])
    assert outcome.status == Status.CONFIRMED, outcome.reason
    assert outcome.plan is not None
    assert outcome.plan.sells[1] == 0
    (event,) = rebalances(world, vault)
    assert event["args"]["balances_before"][1] == event["args"]["prices"][1] == 0
    assert event["args"]["balances_before"][0] > event["args"]["balances_after"][0]
    assert aside.functions.balanceOf(vault.address).call() > 0


class Killed(Exception):
    """The process died here."""


class DyingSender(Sender):
    """Dies before or after the node has the transaction."""

    delivers = True

    def send(self, raw: str, tx_hash: str) -> None:
        if self.delivers:
            super().send(raw, tx_hash)
        raise Killed


class DyingBeforeSender(DyingSender):
    """Dies before the node has the transaction."""

    delivers = False


@pytest.mark.parametrize("dying", [DyingSender, DyingBeforeSender])
def test_a_crash_after_signing_resumes_without_a_double(
    world: World, vault: Contract, tmp_path: Path, dying: type[DyingSender]
) -> None:
    path = tmp_path / "crash.sqlite"
    later(world, 3_600, JUMP)
    with pytest.raises(Killed):
        make_keeper(world, vault, Journal(path), sender=dying(world.chain.web3, world.keeper)).once()
    (left,) = Journal(path).unfinished(vault.address, world.chain.web3.eth.chain_id)
    assert left.status == Status.SENT

    restarted = make_keeper(world, vault, Journal(path))
    outcome = restarted.once()
    assert outcome.status == Status.SKIPPED  # settled, and then nothing is left to do
    assert [run.status for run in restarted.journal.runs()] == [Status.SKIPPED, Status.CONFIRMED]
    assert len(rebalances(world, vault)) == 1
    assert sent_by_keeper(world) == 1


def test_a_lost_answer_is_settled_on_the_next_look(world: World, vault: Contract, journal: Journal) -> None:
    class Unlucky(Sender):
        def send(self, raw: str, tx_hash: str) -> None:
            super().send(raw, tx_hash)
            raise requests.ConnectionError("the answer was lost")

    later(world, 3_600, JUMP)
    with pytest.raises(requests.ConnectionError):
        make_keeper(world, vault, journal, sender=Unlucky(world.chain.web3, world.keeper)).once()
    assert make_keeper(world, vault, journal).once().status == Status.SKIPPED
    assert len(rebalances(world, vault)) == 1


def test_an_unsent_transaction_is_given_up_after_its_deadline(
    world: World, vault: Contract, journal: Journal
) -> None:
    later(world, 3_600, JUMP)
    with pytest.raises(Killed):
        make_keeper(world, vault, journal, sender=DyingBeforeSender(world.chain.web3, world.keeper)).once()
    later(world, 3_600, JUMP)
    outcome = make_keeper(world, vault, journal).once()
    assert outcome.status == Status.CONFIRMED  # a new one
    assert [run.status for run in journal.runs()] == [Status.CONFIRMED, Status.FAILED]
    assert journal.runs()[1].reason == "its deadline passed before it was mined"
    assert len(rebalances(world, vault)) == 1


def test_a_used_nonce_voids_an_unsent_transaction(world: World, vault: Contract, journal: Journal) -> None:
    later(world, 3_600, JUMP)
    with pytest.raises(Killed):
        make_keeper(world, vault, journal, sender=DyingBeforeSender(world.chain.web3, world.keeper)).once()
    approve = world.cash.functions.approve(world.deployer.address, 1)
    world.chain.send(world.keeper, approve)
    assert make_keeper(world, vault, journal).once().status == Status.CONFIRMED
    assert "used nonce" in journal.runs()[1].reason
    assert len(rebalances(world, vault)) == 1


def test_a_crash_before_signing_is_noted(
    world: World, vault: Contract, keeper: Keeper, journal: Journal
) -> None:
    chain_id = world.chain.web3.eth.chain_id
    journal.plan(vault.address, chain_id, 1, 1, "threshold", "0x", "{}", 0)
    keeper.once()
    assert journal.runs()[1].reason == "interrupted before anything was sent"


def test_pauses_after_reverts_in_a_row(world: World, vault: Contract, journal: Journal) -> None:
    class Late(Sender):
        """The market is back before the transaction is mined."""

        def send(self, raw: str, tx_hash: str) -> None:
            world.set_market(FIRST)
            super().send(raw, tx_hash)

    late = make_keeper(world, vault, journal, sender=Late(world.chain.web3, world.keeper, poll_seconds=0.02))
    later(world, 3_600, JUMP)
    for _ in range(2):
        outcome = late.once()
        assert (outcome.status, outcome.reason) == (Status.FAILED, "reverted on chain: no trigger")
        world.set_market(JUMP)
    keeper = make_keeper(world, vault, journal)
    waiting = keeper.once()
    assert waiting.status == Status.SKIPPED
    assert waiting.reason.startswith("pausing after 2 reverts on chain in a row, until ")
    assert sent_by_keeper(world) == 2
    later(world, 60, JUMP)
    assert keeper.once().status == Status.CONFIRMED
    assert journal.reverts(vault.address, world.chain.web3.eth.chain_id) == []


def test_pools_are_read_as_they_pay(world: World) -> None:
    web3 = world.chain.web3
    pairs = [(world.cash.address, token.address) for token in world.tokens[:-1]]
    pools = read_pools(web3, pairs, world.pool_source, latest_block(web3).number)
    assert sum(isinstance(pool, V2Pool) for pool in pools) == 3
    assert sum(isinstance(pool, V3Pool) for pool in pools) == 3


def test_a_hub_outside_the_basket_is_priced_by_the_oracle(
    world: World, vault: Contract, journal: Journal
) -> None:
    other = world.chain.deploy(world.deployer, "TestToken", "Other dollar", "oUSD", 6)
    feed = world.feeds[-1].address
    world.chain.send(
        world.deployer, world.oracle.functions.set_feed(other.address, feed, DAY, 10**15, 10**20)
    )
    later(world, 3_600, JUMP)
    outcome = make_keeper(world, vault, journal, hub=other.address).once()
    assert outcome.status == Status.CONFIRMED  # no pool trades the hub, and none needs to
    assert outcome.decision is not None and outcome.decision.plan is not None
    assert outcome.decision.plan.method == "joint"


# ---------------------------------------------------------------- the command line on the same chain


@pytest.fixture
def command(world: World, vault: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`evenkeel …` with settings for this world."""
    keystore, password = tmp_path / "key.json", tmp_path / "password"
    keystore.write_text(json.dumps(Account.encrypt(world.keeper.key, "secret", kdf="pbkdf2", iterations=10)))
    password.write_text("secret\n")
    source = world.pool_source
    (tmp_path / "evenkeel.toml").write_text(
        f'rpc_url = "{world.chain.url}"\nvault = "{vault.address}"\nexecutor = "{world.executor.address}"\n'
        f'hub = "{world.cash.address}"\nkeystore = "{keystore}"\npassword_file = "{password}"\n'
        f"v2_factories = {json.dumps(source.v2_factories)}\nv3_factories = {json.dumps(source.v3_factories)}\n"
        f"v3_fees = {json.dumps(source.v3_fees)}\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("ETH_RPC_URL", "EVENKEEL_RPC_URL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_command_keeper_once(world: World, command: Any) -> None:
    nothing = command("keeper", "once", "--json")
    assert nothing.exit_code == 0, nothing.output
    assert json.loads(nothing.stdout)["status"] == "skipped"
    later(world, 3_600, JUMP)
    dry = command("keeper", "once", "--dry-run", "--json")
    assert json.loads(dry.stdout)["status"] == "simulated"
    assert sent_by_keeper(world) == 0
    done = json.loads(command("keeper", "once", "--json").stdout)
    assert done["status"] == "confirmed"
    assert world.chain.web3.eth.get_transaction_receipt(done["tx_hash"])["status"] == 1


def test_command_status(vault: Contract, command: Any) -> None:
    report = json.loads(command("status", vault.address, "--json").stdout)
    assert [asset["symbol"] for asset in report["assets"]] == ["tAAPL", "tJPM", "tXOM", "tUSD"]
    assert sum(asset["weight_percent"] for asset in report["assets"]) == pytest.approx(100)
    assert report["nav_usd"] == pytest.approx(DEPOSIT, rel=1e-3)
    table = command("status", vault.address)
    assert table.exit_code == 0
    assert "tAAPL" in table.stdout
    assert f"admin {report['admin']} · changes wait 2 days" in table.stdout


def test_command_status_shows_a_quarantine(world: World, vault: Contract, command: Any) -> None:
    token = world.tokens[1].address
    world.chain.send(world.guardian, world.timelock.functions.quarantine(vault.address, token))
    report = json.loads(command("status", vault.address, "--json").stdout)
    assert [asset["quarantined"] for asset in report["assets"]] == [False, True, False, False]
    assert [asset["weight_percent"] for asset in report["assets"]][1] == 0
    assert sum(asset["target_percent"] for asset in report["assets"]) == pytest.approx(100)
    assert report["quarantine_until"] == world.chain.now + 14 * DAY
    assert "in quarantine" in command("status", vault.address).stdout


def test_command_audit_verify(world: World, vault: Contract, command: Any) -> None:
    later(world, 3_600, JUMP)
    command("keeper", "once")
    result = command("audit", "verify", vault.address, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ok"] is True


def test_command_status_of_what_is_no_vault(world: World, command: Any) -> None:
    for address in (world.cash.address, world.deployer.address):
        result = command("status", address)
        assert result.exit_code == 1
        assert "vault" in result.stderr
        assert result.stdout == ""
