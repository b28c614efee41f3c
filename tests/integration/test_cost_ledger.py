"""The cost ledger on anvil: what the keeper predicted and what the chain took, with somebody in between or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from web3.contract import Contract
from web3.logs import DISCARD

from offchain.chain.errors import ChainError
from offchain.chain.pools import read_pools
from offchain.chain.sender import Sender
from offchain.cli import app
from offchain.demo.world import World
from offchain.keeper import dispatch, loop
from offchain.keeper.costs import Entry
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper, Outcome
from offchain.planner import Plan, SwapV2, SwapV3, encode
from offchain.planner.pools import same
from offchain.policy import DAY, WAD
from tests.support import demo_vault
from tests.support.demo_vault import FIRST, funded_vault

JUMP = replace(FIRST, prices=(FIRST.prices[0] * 16 // 10, *FIRST.prices[1:]))  # tAAPL from 30 % to above 40 %
NATIVE = 2_000 * WAD


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A world with one threshold vault, and prices that make it trade."""
    with funded_vault() as (world, vault):
        world.chain.mine(world.chain.now + 3_600)
        world.set_market(JUMP)
        yield world, vault


def make_keeper(*args: Any, **changes: Any) -> Keeper:
    """One that knows the native token's price."""
    return demo_vault.make_keeper(*args, **({"native_price": NATIVE} | changes))


class Meddled(Sender):
    """Something happens just before the transaction is mined."""

    meddle: Callable[[], object]

    def send(self, raw: str, tx_hash: str) -> None:
        self.meddle()
        super().send(raw, tx_hash)


def meddled(world: World, meddle: Callable[[], object]) -> Sender:
    """The keeper's sender with somebody just ahead of it."""
    sender = Meddled(world.chain.web3, world.keeper, poll_seconds=0.02)
    object.__setattr__(sender, "meddle", meddle)
    return sender


def money(world: World) -> int:
    return int(world.chain.web3.eth.get_balance(world.keeper.address))


def ledger(journal: Journal, vault: Contract) -> list[Entry]:
    return [entry for _, entry in journal.costs(vault.address)]


def rebalances(vault: Contract) -> list[Any]:
    return list(vault.events.Rebalanced().get_logs(from_block=0))


def lost(vault: Contract, outcome: Outcome, after: list[int] | None = None) -> int:
    """NAV lost by the vault's own event, or if it had ended with `after`."""
    assert outcome.receipt is not None and outcome.snapshot is not None
    (event,) = vault.events.Rebalanced().process_receipt(outcome.receipt, errors=DISCARD)
    args, assets = event["args"], outcome.snapshot.state.assets
    held = args["balances_before"], after or args["balances_after"]
    worth = [
        sum(q * p // 10**a.decimals for q, p, a in zip(b, args["prices"], assets, strict=True)) for b in held
    ]
    return int(worth[0] - worth[1])


def test_predicted_is_realised_to_the_wei_when_nothing_moves(
    world: World, vault: Contract, journal: Journal
) -> None:
    before = money(world)
    outcome = make_keeper(world, vault, journal).once()
    plan = outcome.plan
    assert outcome.status == Status.CONFIRMED and plan is not None and plan.costs is not None
    assert {type(leg.leg) for leg in plan.legs} == {SwapV2, SwapV3}
    (found,) = ledger(journal, vault)
    assert not found.reverted
    assert found.fee == found.predicted_fee > 0
    assert found.impact == found.predicted_impact
    assert found.fee + found.impact == lost(vault, outcome)
    assert found.drift == found.predicted_drift == plan.drift_after
    assert abs(found.fee - plan.costs.fee) < 10**6  # the planner's floats; USD WAD
    assert found.gas_wei == before - money(world)
    assert found.gas == found.gas_wei * 2_000
    assert found.predicted_gas == plan.costs.gas > 0
    assert found.predicted_gas_used * 8 // 10 < found.gas_used < found.predicted_gas_used * 12 // 10
    assert found.block == outcome.receipt["blockNumber"]  # type: ignore[index]
    assert found.why == ""


def test_a_leg_through_a_token_outside_the_basket(world: World, vault: Contract, journal: Journal) -> None:
    """tJPM trades cheaply against another dollar only: the plan buys it through that."""
    other = world.chain.deploy(world.deployer, "TestToken", "Other dollar", "oUSD", 6)
    oracle, feed = world.oracle.functions, world.feeds[-1].address
    world.chain.send(world.deployer, oracle.set_feed(other.address, feed, DAY, 10**15, 10**20))
    depth, provider = 10**7, world.provider  # USD
    world.mint(provider.address, depth, JUMP)
    world.chain.send(world.deployer, other.functions.mint(provider.address, 2 * depth * 10**6))
    world.chain.send(provider, other.functions.approve(world.uniswap.v3_positions.address, 2**256 - 1))
    for token, decimals, price in zip(world.tokens[:2], (18, 8), JUMP.prices, strict=False):
        amounts = depth * 10**8 * 10**decimals // price, depth * 10**6
        world.uniswap.add_v3(provider, token.address, other.address, *amounts, 500, 4.0)
    outcome = make_keeper(world, vault, journal, hub=other.address).once()
    assert outcome.status == Status.CONFIRMED and outcome.plan is not None
    assert any(same(leg.token_out, other.address) for leg in outcome.plan.legs)
    assert any(same(leg.leg.token_in, other.address) for leg in outcome.plan.legs)
    (found,) = ledger(journal, vault)
    assert (found.fee, found.impact, found.drift, found.why) == (
        found.predicted_fee,
        found.predicted_impact,
        found.predicted_drift,
        "",
    )
    assert found.fee + found.impact == lost(vault, outcome)


@pytest.mark.parametrize("kind", [SwapV2, SwapV3])
def test_a_swap_in_between_shows_as_what_it_did(
    world: World, vault: Contract, journal: Journal, kind: type[SwapV2 | SwapV3]
) -> None:
    web3, seen = world.chain.web3, {}

    def sell_ahead() -> None:
        """Somebody sells what the plan's last leg of this kind sells, in the same pool."""
        leg = next(leg for leg in reversed(seen["plan"].legs) if isinstance(leg.leg, kind))
        token = next(token for token in world.tokens if same(token.address, leg.leg.token_in))
        other = next(token for token in world.tokens if same(token.address, leg.token_out))
        amount = leg.amount_in // 2
        world.chain.send(world.deployer, token.functions.mint(world.executor.address, amount))
        payload = encode([replace(leg.leg, amount_in=amount, min_out=0, to_caller=True, whole_balance=True)])
        world.chain.send(world.deployer, world.executor.functions.execute(payload))
        pairs = [(token.address, other.address)]
        pools = read_pools(web3, pairs, world.pool_source, web3.eth.block_number)
        pool = next(pool for pool in pools if same(pool.address, leg.leg.pool))
        seen["less"] = leg.expected_out - pool.amount_out(leg.leg.token_in, leg.amount_in)
        seen["leg"], seen["index"] = leg, world.tokens.index(other)

    def remembering(problem: Any) -> Plan:
        seen["plan"] = loop.joint_plan(problem)
        return seen["plan"]

    keeper = make_keeper(world, vault, journal, sender=meddled(world, sell_ahead), planner=remembering)
    outcome = keeper.once()
    assert outcome.status == Status.CONFIRMED and outcome.plan is not None
    assert seen["less"] > 0
    after = list(outcome.plan.balances_after)
    planned = lost(vault, outcome, after)
    after[seen["index"]] -= seen["less"]
    assert vault.functions.balances().call() == after
    (found,) = ledger(journal, vault)
    assert found.predicted_fee + found.predicted_impact == planned
    assert found.fee + found.impact == lost(vault, outcome) > planned
    assert found.fee == found.predicted_fee
    assert found.why.count("\n") == 0
    assert f"pool {seen['leg'].leg.pool} had moved: it paid " in found.why
    assert found.why.endswith(f" less than at block {outcome.block}")


class Killed(Exception):
    """The process died here."""


def test_a_crash_after_sending_is_accounted_for_once(world: World, vault: Contract, tmp_path: Path) -> None:
    class Dying(Sender):
        def send(self, raw: str, tx_hash: str) -> None:
            super().send(raw, tx_hash)
            raise Killed

    path, before = tmp_path / "crash.sqlite", money(world)
    with pytest.raises(Killed):
        make_keeper(world, vault, Journal(path), sender=Dying(world.chain.web3, world.keeper)).once()
    assert ledger(Journal(path), vault) == []
    for _ in range(2):
        assert make_keeper(world, vault, Journal(path)).once().status == Status.SKIPPED
        ((run, found),) = Journal(path).costs(vault.address)
        assert (run.status, run.tx_hash is None) == (Status.CONFIRMED, False)
        assert found.gas_wei == before - money(world)
        assert (found.fee, found.impact, found.why) == (found.predicted_fee, found.predicted_impact, "")
        assert found.fee > 0
    assert len(rebalances(vault)) == 1


def test_a_crash_before_the_node_has_it_leaves_no_row(world: World, vault: Contract, tmp_path: Path) -> None:
    class Dying(Sender):
        def send(self, raw: str, tx_hash: str) -> None:
            raise Killed

    path = tmp_path / "crash.sqlite"
    with pytest.raises(Killed):
        make_keeper(world, vault, Journal(path), sender=Dying(world.chain.web3, world.keeper)).once()
    world.chain.mine(world.chain.now + 3_600)  # past the deadline
    world.set_market(JUMP)
    journal = Journal(path)
    assert make_keeper(world, vault, journal).once().status == Status.CONFIRMED
    assert [run.status for run in journal.runs()] == [Status.CONFIRMED, Status.FAILED]
    assert [run.id for run, _ in journal.costs(vault.address)] == [2]


def test_a_revert_leaves_its_gas(world: World, vault: Contract, journal: Journal) -> None:
    before = money(world)
    late = make_keeper(world, vault, journal, sender=meddled(world, lambda: world.set_market(FIRST)))
    outcome = late.once()
    assert (outcome.status, outcome.reason) == (Status.FAILED, "reverted on chain: no trigger")
    (found,) = ledger(journal, vault)
    assert found.reverted
    assert found.gas_wei == before - money(world) > 0
    assert found.gas == found.gas_wei * 2_000
    assert (found.fee, found.impact, found.predicted_fee, found.predicted_gas) == (0, 0, 0, 0)
    world.set_market(JUMP)
    assert make_keeper(world, vault, journal).once().status == Status.CONFIRMED
    assert [entry.reverted for entry in ledger(journal, vault)] == [True, False]


def test_a_revert_that_is_settled_later_leaves_its_gas(
    world: World, vault: Contract, journal: Journal
) -> None:
    def late() -> None:
        world.set_market(FIRST)
        make_sender.send(*seen)
        raise Killed

    make_sender, seen = Sender(world.chain.web3, world.keeper), []

    class Dying(Sender):
        def send(self, raw: str, tx_hash: str) -> None:
            seen.extend((raw, tx_hash))
            late()

    before = money(world)
    with pytest.raises(Killed):
        make_keeper(world, vault, journal, sender=Dying(world.chain.web3, world.keeper)).once()
    assert make_keeper(world, vault, journal).once().status == Status.SKIPPED
    (found,) = ledger(journal, vault)
    assert (found.reverted, found.gas_wei) == (True, before - money(world))


def test_what_was_not_sent_leaves_no_row(world: World, vault: Contract, journal: Journal) -> None:
    def lying(problem: Any) -> Plan:
        return replace(loop.joint_plan(problem), payload=b"")

    assert make_keeper(world, vault, journal, planner=lying).once().status == Status.FAILED
    dry = Sender(world.chain.web3, world.keeper, dry_run=True)
    assert make_keeper(world, vault, journal, sender=dry).once().status == Status.SIMULATED
    assert ledger(journal, vault) == []


def test_a_block_that_was_replaced_takes_its_row_along(
    world: World, vault: Contract, journal: Journal
) -> None:
    """The transaction is mined once more, in another block and at another price."""
    chain = world.chain
    snapshot = chain._rpc("evm_snapshot", [])
    keeper = make_keeper(world, vault, journal)
    keeper.once()
    ((first_run, first),) = journal.costs(vault.address)
    assert keeper.once().status == Status.SKIPPED
    assert ledger(journal, vault) == [first]  # nothing was replaced

    chain._rpc("evm_revert", [snapshot])
    assert chain.web3.eth.block_number < first.block
    token = world.tokens[0]
    chain.send(world.deployer, token.functions.mint(vault.address, 10**18))  # another block at that height
    assert keeper.once().status == Status.SKIPPED  # settled before anything new is looked at
    ((run, found),) = journal.costs(vault.address)
    assert (run.id, run.tx_hash, run.status) == (first_run.id, first_run.tx_hash, Status.CONFIRMED)
    assert found.block == first.block + 1
    assert found.block_hash != first.block_hash
    assert "the vault's balance of" in found.why


def test_a_replaced_block_without_the_transaction_leaves_no_row(
    world: World, vault: Contract, journal: Journal
) -> None:
    chain = world.chain
    snapshot = chain._rpc("evm_snapshot", [])
    keeper = make_keeper(world, vault, journal)
    keeper.once()
    chain._rpc("evm_revert", [snapshot])
    chain.send(world.keeper, world.cash.functions.approve(world.deployer.address, 1))  # its nonce is used
    world.set_market(FIRST)
    assert keeper.once().status == Status.SKIPPED
    assert ledger(journal, vault) == []
    assert [run.status for run in journal.runs()] == [Status.SKIPPED, Status.FAILED]


def test_a_node_that_is_behind_does_not_count_twice(world: World, vault: Contract, journal: Journal) -> None:
    """The keeper sees the state before its own transaction once more, and waits until the chain is as long again."""
    chain = world.chain
    snapshot = chain._rpc("evm_snapshot", [])
    keeper = make_keeper(world, vault, journal)
    keeper.once()
    chain._rpc("evm_revert", [snapshot])
    with pytest.raises(ChainError, match="the node is behind"):
        keeper.once()
    chain.mine(chain.now + 1)
    assert keeper.once().status == Status.SKIPPED  # the same transaction again, and then nothing to do
    assert len(rebalances(vault)) == len(ledger(journal, vault)) == 1


def test_bookkeeping_that_fails_does_not_stop_the_keeper(
    world: World, vault: Contract, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Entry:
        raise ZeroDivisionError

    monkeypatch.setattr(dispatch, "entry", broken)
    assert make_keeper(world, vault, journal).once().status == Status.CONFIRMED
    assert [run.status for run in journal.runs()] == [Status.CONFIRMED]
    assert ledger(journal, vault) == []


def test_command_costs(world: World, vault: Contract, journal: Journal) -> None:
    make_keeper(world, vault, journal).once()
    (found,) = ledger(journal, vault)
    arguments = ["costs", vault.address, "--journal", str(journal.path)]
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert report["rebalances"] == "1"
    assert report["totals"]["fee"]["realised_usd_wad"] == str(found.fee)
    assert report["totals"] == report["entries"][0]["costs"]
    assert found.gas is not None and found.predicted_gas is not None
    assert report["totals"]["total"]["difference_usd_wad"] == str(found.gas - found.predicted_gas)
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0, table.output
    assert f"{found.fee / WAD:,.4f}" in table.stdout
    assert f"NAV {found.nav / WAD:,.2f} USD" in table.stdout
