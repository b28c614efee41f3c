"""Filling auctions on a real chain, against real pools: at a profit or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from web3.contract import Contract

from offchain import policy
from offchain.chain.contracts import bind
from offchain.chain.errors import ConfigError
from offchain.chain.sender import Sender
from offchain.chain.vault import read_vault
from offchain.cli import app
from offchain.demo.market import Day
from offchain.demo.world import AUCTION, TOKENS, World
from offchain.keeper.filler import Filler, deploy_taker
from offchain.keeper.journal import Journal, Status
from offchain.keeper.market import Sources
from offchain.policy import WAD, Mode
from tests.support.anvil import anvil
from tests.support.demo_vault import FIRST, funded_vault

GRACE, DECAY, _ = AUCTION
NATIVE_PRICE = 3_000  # USD
JUMP = replace(FIRST, prices=(FIRST.prices[0] * 8 // 5, *FIRST.prices[1:]))


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A world with one vault, whose first asset is far too heavy, in a session that its keeper does not use."""
    with funded_vault(anvil) as (world, vault):
        world.set_market(JUMP)
        world.chain.send(world.chain.accounts[8], vault.functions.open_session())
        yield world, vault


@pytest.fixture
def taker(world: World) -> Contract:
    _, address = deploy_taker(world.chain.web3, Sender(world.chain.web3, world.chain.accounts[7]))
    return bind(world.chain.web3, "Taker", address)


def make_filler(world: World, vault: Contract, taker: Contract, journal: Journal, **changes: Any) -> Filler:
    web3 = world.chain.web3
    filler = Filler(
        web3,
        vault.address,
        world.auction.address,
        taker.address,
        world.executor.address,
        Sources(
            world.pool_source, world.executor.address, world.cash.address, native_price=NATIVE_PRICE * WAD
        ),
        Sender(web3, world.chain.accounts[7], poll_seconds=0.02),
        journal,
        min_profit=WAD,
    )
    return replace(filler, **changes)


def at(world: World, seconds: int, day: Day = JUMP) -> None:
    """So long after the session's start, with feeds and pools at the day's prices."""
    session = world.vaults[0].functions.session().call()
    world.chain.mine(session[1] + seconds - 3)
    world.set_market(day)


def wealth(world: World, account: str) -> int:
    """USD WAD, without what the account pays gas with."""
    rows = zip(world.tokens, TOKENS, JUMP.prices, strict=True)
    return sum(
        token.functions.balanceOf(account).call() * price * 10**10 // what.scale
        for token, what, price in rows
    )


def test_fills_at_a_profit_without_money_of_its_own(
    world: World, vault: Contract, taker: Contract, journal: Journal
) -> None:
    at(world, GRACE + DECAY)
    web3, filler = world.chain.web3, make_filler(world, vault, taker, journal)
    owner = world.chain.accounts[7].address
    assert wealth(world, owner) == 0
    before = read_vault(web3, vault.address).state
    outcome = filler.once()
    assert outcome.status == Status.CONFIRMED, outcome.reason
    after = read_vault(web3, vault.address).state
    assert sum(policy.drifts(after)) < sum(policy.drifts(before)) * 3 // 4
    assert outcome.receipt is not None
    paid = outcome.receipt["gasUsed"] * outcome.receipt["effectiveGasPrice"] * NATIVE_PRICE
    assert wealth(world, owner) >= paid + WAD
    assert wealth(world, owner) > 50 * WAD  # 1.5 % of what was sold, less what the pools cost
    for token in world.tokens:
        assert token.functions.balanceOf(taker.address).call() == 0
        assert token.functions.balanceOf(world.executor.address).call() == 0
        assert token.functions.allowance(taker.address, world.auction.address).call() == 0
    rich = wealth(world, owner)
    assert filler.once().status in (Status.CONFIRMED, Status.SKIPPED)  # what is left may be worth it, too
    assert wealth(world, owner) >= rich


@pytest.mark.parametrize(
    ("seconds", "changes", "words"),
    [
        (GRACE - 600, {}, "the keeper's grace period is not over"),
        (GRACE + 5, {}, "no fill of the auction gains anything"),  # 1 % above the oracle's price
        (GRACE + DECAY, {"min_profit": 10**6 * WAD}, "less than min_profit_usd 1000000.00 USD"),
        (GRACE + DECAY, {"gas": 10**8}, "no fill of the auction gains anything"),  # gas eats it
        (GRACE + DECAY, {"gas": 0}, "gas is left out"),
        (86_400 + 3, {}, "no session is open"),
    ],
)
def test_does_nothing_where_it_does_not_pay(
    world: World, vault: Contract, taker: Contract, journal: Journal, seconds: int, changes: Any, words: str
) -> None:
    at(world, seconds)
    web3, account = world.chain.web3, world.chain.accounts[7].address
    filler = make_filler(world, vault, taker, journal)
    if "gas" in changes:
        sources = replace(filler.sources, native_price=changes.pop("gas") * WAD)
        changes = {"sources": sources}
    before = web3.eth.get_transaction_count(account)
    outcome = replace(filler, **changes).once()
    assert outcome.status == Status.SKIPPED
    assert words in outcome.reason
    assert web3.eth.get_transaction_count(account) == before
    assert vault.functions.session().call()[2] == 0


class Late(Sender):
    """Something happens on the chain after the last simulation and before the transaction is in a block."""

    meanwhile: Callable[[], None]

    def send(self, raw: str, tx_hash: str, public: bool = False) -> None:
        self.meanwhile()
        super().send(raw, tx_hash, public)


@pytest.mark.parametrize(("per_mille", "words"), [(5, "profit below minimum"), (100, "reverted on chain")])
def test_loses_nothing_when_the_pools_move_before_it_is_mined(
    world: World, vault: Contract, taker: Contract, journal: Journal, per_mille: int, words: str
) -> None:
    def pools_fall() -> None:
        world.set_market(
            replace(JUMP, prices=(JUMP.prices[0] * (1_000 - per_mille) // 1_000, *JUMP.prices[1:]))
        )
        feeds = [feed.address for feed in world.feeds]
        world.chain.send(world.deployer, world.board.functions.set_answers(feeds, list(JUMP.prices)))

    at(world, GRACE + DECAY)
    owner = world.chain.accounts[7]
    sender = Late(world.chain.web3, owner, poll_seconds=0.02)
    object.__setattr__(sender, "meanwhile", pools_fall)
    before = read_vault(world.chain.web3, vault.address).state.balances
    outcome = make_filler(world, vault, taker, journal, sender=sender, min_profit=55 * WAD).once()
    assert outcome.status == Status.FAILED
    assert words in outcome.reason
    assert outcome.receipt is not None and outcome.receipt["status"] == 0
    assert wealth(world, owner.address) == 0
    assert read_vault(world.chain.web3, vault.address).state.balances == before


def test_a_dry_run_sends_nothing(world: World, vault: Contract, taker: Contract, journal: Journal) -> None:
    at(world, GRACE + DECAY)
    sender = Sender(world.chain.web3, world.chain.accounts[7], dry_run=True)
    outcome = make_filler(world, vault, taker, journal, sender=sender).once()
    assert outcome.status == Status.SIMULATED
    assert outcome.reason.startswith("dry run, would act: buys tAAPL for ")
    with pytest.raises(ConfigError, match="dry run"):
        deploy_taker(world.chain.web3, sender)


def test_only_its_owner_takes_and_only_the_running_auction_calls_back(
    world: World, vault: Contract, taker: Contract, journal: Journal
) -> None:
    at(world, GRACE + DECAY)
    stranger = Sender(world.chain.web3, world.chain.accounts[9])
    outcome = make_filler(world, vault, taker, journal, sender=stranger).once()
    assert outcome.reason == "the fill reverts in simulation: not owner"
    call = taker.functions.on_fill(world.cash.address, 1, world.cash.address, 1, b"")
    with pytest.raises(Exception, match="not the running auction"):
        call.call({"from": world.chain.accounts[7].address})


def test_the_command(
    world: World, vault: Contract, taker: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(world, GRACE + DECAY)
    monkeypatch.chdir(tmp_path)
    lines = {
        "rpc_url": world.chain.url,
        "auction": world.auction.address,
        "taker": taker.address,
        "executor": world.executor.address,
        "simulate_as": world.chain.accounts[7].address,
        "native_price_usd": str(NATIVE_PRICE),
    }
    text = [f'{key} = "{value}"' for key, value in lines.items()]
    text += [f'vaults = ["{vault.address}"]', f'v2_factories = ["{world.uniswap.v2_factory.address}"]']
    Path("evenkeel.toml").write_text("\n".join(text))
    result = CliRunner().invoke(app, ["filler", "--once", "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)
    assert (found["vault"], found["status"]) == (vault.address, "simulated")
    table = CliRunner().invoke(app, ["filler", "--once", "--dry-run"], env={"COLUMNS": "250"})
    assert vault.address in table.stdout and "simulated" in table.stdout
    Path("evenkeel.toml").write_text("\n".join(line for line in text if "taker" not in line))
    result = CliRunner().invoke(app, ["filler", "--once"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: taker: not set, and the filler needs it" in result.stderr
    for name, view in (("taker", "owner"), ("auction", "grace_seconds")):
        wrong = {**lines, name: world.executor.address}
        given = [f'{key} = "{value}"' for key, value in wrong.items()]
        Path("evenkeel.toml").write_text("\n".join(given + text[len(lines) :]))
        result = CliRunner().invoke(app, ["filler", "--once", "--dry-run"])
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: {name}: {world.executor.address} does not answer {view}()" in result.stderr


def test_all_vaults_of_a_factory(
    world: World, vault: Contract, taker: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(world, GRACE + DECAY)
    world.create_vault(Mode.THRESHOLD, "Another", "OTHER", FIRST)
    monkeypatch.chdir(tmp_path)
    lines = {
        "rpc_url": world.chain.url,
        "factory": world.factory.address,
        "auction": world.auction.address,
        "taker": taker.address,
        "executor": world.executor.address,
        "simulate_as": world.chain.accounts[7].address,
        "native_price_usd": str(NATIVE_PRICE),
        "daily_gas_limit_native": "1",
        "v2_factories": [world.uniswap.v2_factory.address],
        "allowed_tokens": [token.address.lower() for token in world.tokens],
    }

    def look(**changes: Any) -> Any:
        given = {name: value for name, value in (lines | changes).items() if value is not None}
        Path("evenkeel.toml").write_text("\n".join(f"{n} = {json.dumps(v)}" for n, v in given.items()))
        return CliRunner().invoke(app, ["filler", "--once", "--dry-run", "--json"])

    result = look()
    assert result.exit_code == 0, result.stderr
    first, other = json.loads(result.stdout)
    assert (first["vault"], first["status"]) == (vault.address, "simulated")
    assert (other["vault"], other["reason"]) == (world.vaults[-1].address, "no session is open")
    result = look(allowed_tokens=lines["allowed_tokens"][:-1])
    for found in json.loads(result.stdout):  # one of its tokens might be anything
        assert found["reason"] == f"allowed_tokens: {world.tokens[-1].address} is not in the list"
    assert [one["vault"] for one in json.loads(look(vaults=[vault.address]).stdout)] == [vault.address]

    for changes, words in (
        ({"factory": vault.address}, f"factory: {vault.address} does not answer vault_count()"),
        ({"factory": None}, "vaults or factory: not set, and the filler needs it"),
        ({"allowed_tokens": None}, "allowed_tokens: not set; with factory the filler needs both"),
        ({"daily_gas_limit_native": None}, "daily_gas_limit_native: not set; with factory"),
    ):
        result = look(**changes)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: {words}" in result.stderr
