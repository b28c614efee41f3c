"""Teller and Auction on anvil, made and used as off-chain users do; the audit follows all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from web3.contract import Contract
from web3.logs import DISCARD

from offchain import policy
from offchain.audit import verify_vault
from offchain.chain.contracts import bind
from offchain.chain.vault import read_terms, read_vault
from offchain.demo.market import CASH, history
from offchain.demo.world import AUCTION, World, build_world
from offchain.policy import DAY, WAD, Mode
from tests.support.anvil import anvil

FIRST = history(2)[0]
SEED = 1_000  # USD
PAID = 20 * CASH.scale


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One threshold vault, seeded and no more."""
    with anvil(FIRST.timestamp) as chain:
        world = build_world(chain, FIRST)
        world.create_vault(Mode.THRESHOLD, "Test basket", "TEST", FIRST)
        yield world


@pytest.fixture
def vault(world: World) -> Iterator[Contract]:
    """The vault; what a test does to the chain is undone."""
    snapshot = world.chain._rpc("evm_snapshot", [])
    yield world.vaults[0]
    world.chain._rpc("evm_revert", [snapshot])


def test_a_teller_takes_and_pays_cash_for_its_fee(world: World, vault: Contract) -> None:
    chain, depositor = world.chain, world.chain.accounts[6]
    call = world.announce(vault, "add_teller", world.cash.address, 60, 150, DAY, 1_000, 100, False)
    chain.mine(chain.now + read_terms(chain.web3, vault.address).delay_seconds)
    world.set_market(FIRST)
    receipt = chain.send(world.deployer, call)
    (added,) = world.timelock.events.TellerAdded().process_receipt(receipt, errors=DISCARD)
    teller = bind(chain.web3, "Teller", added["args"]["teller"])
    assert teller.functions.share().call() == vault.address

    world.mint(depositor.address, 1_000, FIRST, only=[CASH])
    world.approve(depositor, teller.address, only=[CASH])
    expected = teller.functions.previewDeposit(PAID).call()
    receipt = chain.send(depositor, teller.functions.deposit(PAID, depositor.address))
    shares = vault.functions.balanceOf(depositor.address).call()
    fair = 20 * WAD * 9_790 // 10_000  # the vault was on target, so all of it moves away: 60 + 150 bps
    assert shares == expected == fair
    (issued,) = vault.events.Issued().process_receipt(receipt, errors=DISCARD)
    assert (issued["args"]["paid"], issued["args"]["flow_sequence"]) == (PAID, 1)

    before = world.cash.functions.balanceOf(depositor.address).call()
    chain.send(depositor, teller.functions.redeem(shares, depositor.address, depositor.address))
    back = world.cash.functions.balanceOf(depositor.address).call() - before
    assert (
        PAID * 97 // 100 < back < PAID * 9_790 * 9_950 // 10_000**2
    )  # most of it towards the target: the floor
    report = verify_vault(chain.web3, vault.address)
    assert (report.ok, report.entries) == (True, 2)  # Created, set_teller


def test_an_auction_trades_when_the_keeper_is_silent(world: World, vault: Contract) -> None:
    chain, filler = world.chain, world.chain.accounts[7]
    stock, cash = world.tokens[0], world.cash
    jump = replace(FIRST, prices=(FIRST.prices[0] * 8 // 5, *FIRST.prices[1:]))
    world.set_market(jump)
    chain.send(chain.accounts[8], vault.functions.open_session())
    chain.mine(chain.now + AUCTION[0] + AUCTION[1])  # the grace is over, the price at its lowest
    world.set_market(jump)
    before = read_vault(chain.web3, vault.address).state

    auction = world.auction.functions
    quote = (vault.address, stock.address, cash.address, 2**255)
    session, sold, owed = auction.quote(*quote).call()
    world.mint(filler.address, SEED, FIRST, only=[CASH])
    world.approve(filler, world.auction.address, only=[CASH])
    deadline = chain.now + DAY
    fill = auction.fill(vault.address, session, *quote[1:], owed * 2, filler.address, b"", deadline)
    chain.send(filler, fill)

    after = read_vault(chain.web3, vault.address).state
    assert stock.functions.balanceOf(filler.address).call() >= sold * 99 // 100 > 0
    assert sum(policy.drifts(after)) < sum(policy.drifts(before))
    lost = policy.nav(before) - policy.nav(after)
    assert lost * 10_000 <= before.rules.max_slippage_bps * policy.values(before, (sold, 0, 0, 0))[0]
    report = verify_vault(chain.web3, vault.address)
    assert (report.ok, report.entries) == (True, 3)  # Created, SessionOpened, Rebalanced
