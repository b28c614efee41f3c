"""Zaps in the page, with the real API's quotes, on real pools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web3.contract import Contract

from offchain.api.app import Options, create_app
from offchain.api.demo_wallet import DemoWallet
from offchain.api.edge import Rates
from offchain.api.serving import serving
from offchain.api.source import ChainSource, Places
from offchain.demo.world import World, build_world
from offchain.keeper.market import Sources
from offchain.policy import Mode
from tests.browser.stage import FIRST
from tests.browser.wallet import Tab, Wallet, tab
from tests.support.anvil import Anvil, anvil

CASH = 10**6  # units of a whole tUSD


class Place:
    """A chain with pools, a vault, and the API in front of it."""

    def __init__(self, chain: Anvil, world: World, vault: Contract) -> None:
        self.chain, self.world, self.vault = chain, world, vault
        self.depositor = chain.accounts[6]
        self.url = ""

    @property
    def cash(self) -> str:
        return str(self.world.cash.address)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with anvil(FIRST.timestamp) as chain:
        world = build_world(chain, FIRST)
        vault = world.create_vault(Mode.THRESHOLD, "Evenkeel Demo Basket", "ekDEMO", FIRST)
        made = Place(chain, world, vault)
        world.mint(made.depositor.address, 30_000_000, FIRST)
        world.approve(made.depositor, vault.address)
        chain.send(
            made.depositor,
            vault.functions.mint_in_kind(100_000 * 10**18, [2**200] * 4, made.depositor.address),
        )
        sources = Sources(world.pool_source, world.executor.address, world.cash.address)
        lens = chain.deploy(world.deployer, "VaultLens")
        source = ChainSource(
            chain.web3,
            Places(world.factory.address, lens.address, world.zap.address, sources, (vault.address,)),
        )
        options = Options(rates=Rates(10**6, 10**6, 10**6), wallet=DemoWallet(chain.web3, made.depositor))
        with serving(create_app(source, options)) as url:
            made.url = f"{url}/"
            yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Tab]:
    with tab() as found:
        yield found


@pytest.fixture
def page(chromium: Tab, place: Place) -> Iterator[Tab]:
    before = place.chain._rpc("evm_snapshot", [])
    chromium.wallet = Wallet(place.chain.web3, place.depositor)
    chromium.size(1280, 900)
    chromium.prefer("light")
    yield chromium
    chromium.call("Page.navigate", url="about:blank")
    place.chain._rpc("evm_revert", [before])


def visit(page: Tab, place: Place, tab: str) -> None:
    page.visit(f"{place.url}#/vault/{place.vault.address}/{tab}")
    page.press("Connect a wallet")
    page.press("Test wallet")
    page.sees("Disconnect")
    page.wait_for("document.querySelector('dialog') === null")


def sent(page: Tab) -> list[str]:
    assert page.wallet
    return [params[0]["data"] for method, params in page.wallet.asked if method == "eth_sendTransaction"]


def word(data: str, number: int) -> int:
    return int(data[10 + 64 * number : 74 + 64 * number], 16)


def test_a_zap_in_shows_its_route_and_carries_a_minimum(page: Tab, place: Place) -> None:
    before = place.vault.functions.balanceOf(place.depositor.address).call()
    visit(page, place, "deposit")
    page.choose("source", place.cash)
    page.fill("amount", "10000")
    page.sees("By zap, through pools")
    page.sees("tUSD to tAAPL in uniswap", ".options")
    page.press("Review")
    page.sees("Left over", "dialog")
    page.sees("Quote good until", "dialog")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    got = place.vault.functions.balanceOf(place.depositor.address).call() - before
    approval, zap = sent(page)
    assert word(approval, 1) == 10_000 * CASH  # exactly
    minimum = word(zap, 5)
    assert 9_800 * 10**18 < minimum <= got < 10_000 * 10**18
    assert place.world.cash.functions.allowance(place.depositor.address, place.world.zap.address).call() == 0
    assert page.complaints() == []


def test_a_server_that_praises_leftovers_cannot_hide_what_a_route_costs(page: Tab, place: Place) -> None:
    visit(page, place, "deposit")
    page.evaluate("""{ const plain = window.fetch; window.fetch = async (...asked) => {
        const answer = await plain(...asked)
        if (!String(asked[0]).includes('/quotes/')) return answer
        const body = await answer.json()
        body.expected_shares_units = String(BigInt(body.expected_shares_units) / 10n)  // the minimum follows it
        body.leftovers = [{ units: '1', decimals: 0, symbol: 'X', value_usd_wad: '9000' + '0'.repeat(18) }]
        return new Response(JSON.stringify(body))
    }; 1 }""")
    page.choose("source", place.cash)
    page.fill("amount", "10000")
    page.sees("the page does not send it")
    page.wait_for("document.getElementById('next').innerText === 'This costs too much'")


def test_the_demo_wallet_asks_and_deposits(page: Tab, place: Place) -> None:
    """As `evenkeel demo --serve` does it."""
    page.wallet = None
    before = place.vault.functions.balanceOf(place.depositor.address).call()
    page.visit(f"{place.url}#/vault/{place.vault.address}/deposit")
    page.press("Connect a wallet")
    page.press("Demo wallet")
    page.sees("Disconnect")
    page.fill("amount", "100")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert place.vault.functions.balanceOf(place.depositor.address).call() > before
    asked = [e["params"]["message"] for e in page.events if e.get("method") == "Page.javascriptDialogOpening"]
    assert any("Send this transaction?" in text and place.vault.address in text for text in asked)
    assert page.complaints() == []


def test_a_zap_out_uses_the_permit_of_the_shares(page: Tab, place: Place) -> None:
    before = place.world.cash.functions.balanceOf(place.depositor.address).call()
    visit(page, place, "redeem")
    page.choose("into", place.cash)
    page.fill("shares", "5000")
    page.sees("By zap, through pools")
    page.press("Review")
    page.sees("Sign a permit", "dialog")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    (zap,) = sent(page)
    got = place.world.cash.functions.balanceOf(place.depositor.address).call() - before
    assert 4_900 * CASH < word(zap, 6) <= got < 5_000 * CASH


def test_a_stale_quote_cannot_be_sent(page: Tab, place: Place) -> None:
    visit(page, place, "deposit")
    page.choose("source", place.cash)
    page.fill("amount", "10000")
    page.press("Review")
    page.sees("Quote good until", "dialog")
    page.wait_for("!document.getElementById('confirm').hasAttribute('aria-disabled')")
    place.chain.mine_blocks(1, 3_000)
    page.press("Confirm in the wallet")
    page.sees("The quote is too old to be sent", "dialog")
    assert sent(page) == []


def test_a_quote_that_gets_old_while_the_approval_is_mined_is_not_sent(page: Tab, place: Place) -> None:
    assert page.wallet
    visit(page, place, "deposit")
    page.choose("source", place.cash)
    page.fill("amount", "10000")
    page.press("Review")
    page.wait_for("document.querySelectorAll('.step').length === 2")
    page.wallet.before_sending = lambda: place.chain.mine_blocks(1, 600)
    page.press("Confirm in the wallet")
    page.sees("The quote is too old to be sent", "dialog")
    assert len(sent(page)) == 1  # the approval
    page.press("Close")
    page.press("Review")  # a new quote
    page.wait_for("document.querySelectorAll('.step').length === 1")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")


def test_a_dear_zap_needs_typed_consent_and_a_very_dear_one_is_not_sent(page: Tab, place: Place) -> None:
    visit(page, place, "deposit")
    page.choose("source", place.cash)
    page.fill("amount", "2500000")
    page.sees("You will be asked to type your consent")
    page.press("Review")
    page.sees("Quote good until", "dialog")
    page.evaluate("document.getElementById('confirm').click(), 1")
    assert sent(page) == []
    page.fill("consent", "I accept the cost")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    page.press("Close")
    page.fill("amount", "20000000")
    page.sees("the page does not send it")
    page.wait_for("document.getElementById('next').innerText === 'This costs too much'")
    assert len(sent(page)) == 2


def test_what_cannot_be_routed_says_why_and_in_kind_is_named(page: Tab, place: Place) -> None:
    place.chain.mine_blocks(1, 3 * 86_400)  # prices are stale
    visit(page, place, "redeem")
    page.choose("into", place.cash)
    page.fill("shares", "5000")
    page.sees("By zap")
    page.sees("If this does not work now, in kind does")
    page.choose("into", "basket")
    page.wait_for("document.getElementById('next').innerText === 'Review'")
