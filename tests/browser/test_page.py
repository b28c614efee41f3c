"""The page in a real browser, on a real chain, with a wallet that signs with a real key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from web3 import Web3

from offchain.chain.contracts import bind
from tests.browser.stage import PAUSED, Stage, stage
from tests.browser.wallet import Refusal, Tab, Wallet, tab
from tests.support.evm import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
OTHER_CHAIN = 424242


@pytest.fixture(scope="module")
def built() -> Iterator[Stage]:
    with stage() as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Tab]:
    with tab() as found:
        yield found


@pytest.fixture
def page(chromium: Tab, built: Stage) -> Iterator[Tab]:
    """A first visit, on a desktop, in light; what the chain becomes is undone afterwards."""
    before = built.chain._rpc("evm_snapshot", [])
    chromium.wallet = Wallet(built.chain.web3, built.depositor)
    chromium.size(1280, 900)
    chromium.prefer("light")
    yield chromium
    chromium.call("Page.navigate", url="about:blank")
    built.chain._rpc("evm_revert", [before])


def at(built: Stage, tab: str = "overview") -> str:
    return f"{built.url}#/vault/{built.vault.address}/{tab}"


def connect(page: Tab) -> None:
    page.press("Connect a wallet")
    page.press("Test wallet")
    page.sees("Disconnect")
    page.wait_for("document.querySelector('dialog') === null")


def open_deposit(page: Tab, built: Stage) -> None:
    page.visit(at(built, "deposit"))
    connect(page)
    page.sees("Your balances are enough for")


def shares_of(built: Stage, wallet: Wallet) -> int:
    return int(built.vault.functions.balanceOf(wallet.accounts[0].address).call())


def allowances(built: Stage, spender: str) -> list[int]:
    return [t.functions.allowance(built.depositor.address, spender).call() for t in built.tokens]


# Reading


def test_a_first_visit_needs_no_wallet_and_every_value_has_its_block(page: Tab, built: Stage) -> None:
    page.wallet = None
    page.visit(built.url)
    page.sees("Evenkeel Demo Basket")
    page.sees("within bands")
    block = built.chain.web3.eth.block_number
    assert f"block {block}" in page.text("main table")
    page.visit(at(built))
    page.sees("vetoes changes")
    assert f"as of block {block}" in page.text("#as-of")
    rows = page.evaluate("[...document.querySelectorAll('tbody tr')].map(r => r.innerText)")
    assert [row.split("\t")[2] for row in rows][1:] == ["$290,000.00", "$200,000.00", "$100,000.00"]
    assert all(role in page.text() for role in ("Keeper", "Strategist", "Guardian", "Admin", "Worst: "))
    page.sees(built.world.keeper.address[:6], ".roles")
    assert page.complaints() == []
    assert all(url.startswith((built.url, "data:", "about:")) for url in page.requests())


def test_the_wrong_network_only_stops_actions(page: Tab, built: Stage) -> None:
    assert page.wallet
    page.wallet.chain_id = OTHER_CHAIN
    page.visit(at(built, "deposit"))
    connect(page)
    page.sees("on another network")
    assert "$999,999.99" in page.text(".headline")
    page.fill("amount", "100")
    page.wait_for("document.getElementById('next').innerText === 'Switch to local chain'")
    page.press("Switch to local chain")
    page.wait_for("document.getElementById('next').innerText === 'Review'")
    assert "wallet_switchEthereumChain" in page.wallet.methods()


def test_every_wallet_that_announces_itself_is_listed_as_text(page: Tab, built: Stage) -> None:
    page.visit(built.url)
    page.press("Connect a wallet")
    page.sees("Test wallet")
    assert "Another <b>wallet</b>" in page.text("dialog")
    assert page.evaluate("document.querySelectorAll('dialog b').length") == 0
    assert not [url for url in page.requests() if "example.org" in url]
    page.press("Another")
    page.sees("You declined in the wallet. Nothing was shared.")
    page.key("Escape")
    page.wait_for("document.querySelector('dialog') === null")
    assert page.focused().startswith("button connect")


def test_hostile_names_are_texts(page: Tab, built: Stage) -> None:
    page.visit(at(built))
    page.evaluate("window.ran = () => { window.wasRun = true }, 1")
    page.sees("<script>ran()")
    page.sees("<img src=x onerror=ran()>")
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert page.evaluate("window.wasRun ?? false") is False
    assert (
        page.evaluate(r"/[\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText + document.title)")
        is False
    )
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("hash_", "said"),
    [
        ("#/vault/0x5FbDB2315678afecb367f032d93F642f64180aA4", "checksum"),
        ("#/vault/0x123", "40 hexadecimal digits"),
        ("#/vault/0x000000000000000000000000000000000000dEaD", "not a vault"),
        ("#/vault/%3Cscript%3E", "40 hexadecimal digits"),
        ("#/elsewhere", "no such page"),
    ],
)
def test_bad_addresses_are_told(page: Tab, built: Stage, hash_: str, said: str) -> None:
    page.visit(built.url + hash_)
    page.sees(said)
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("1,5", "without commas"),
        ("1e5", "not an amount"),
        ("-3", "not an amount"),
        ("0.0000000000000000001", "At most 18 decimals"),
        ("9" * 60, "more than can exist"),
        ("0", "above 0"),
        ("0.000000000000000001", ""),
    ],
)
def test_amounts_are_checked(page: Tab, built: Stage, typed: str, said: str) -> None:
    page.visit(at(built, "deposit"))
    page.choose("unit", "shares")
    page.fill("amount", typed)
    if said:
        page.sees(said, "#amount-mistake")
    else:
        page.sees("You would pay now")


def test_a_link_cannot_name_other_contracts_than_the_servers(page: Tab, built: Stage) -> None:
    nowhere = "0x000000000000000000000000000000000000dEaD"
    page.visit(f"{built.url}?factory={nowhere}&zap={nowhere}&vault={nowhere}#/")
    page.sees("Evenkeel Demo Basket", "main table")
    assert nowhere[:6] not in page.text("main table")


def test_a_contract_that_only_looks_like_a_vault_is_warned_of(page: Tab, built: Stage) -> None:
    # passes every question on to a real vault
    code = f"365f5f375f5f365f73{built.vault.address[2:]}5afa3d5f5f3e6029573d5ffd5b3d5ff3"
    twin = Web3.to_checksum_address("0x" + "ab" * 20)
    built.chain._rpc("anvil_setCode", [twin, "0x" + code])
    page.visit(at(built, "deposit"))
    page.sees("What do you bring?")
    assert "not made by this site" not in page.text()
    page.visit(f"{built.url}#/vault/{twin}/deposit")
    page.sees("not made by this site", ".alerts")
    connect(page)
    page.choose("unit", "shares")
    page.fill("amount", "1")
    page.press("Review")
    page.sees("not made by this site", "dialog")


def test_a_token_without_decimals_is_not_offered(page: Tab, built: Stage) -> None:
    mute = Web3.to_checksum_address("0x" + "cd" * 20)
    built.chain._rpc("anvil_setCode", [mute, "0x00"])
    built.config["hub"] = {"token": mute}
    try:
        open_deposit(page, built)
        assert page.evaluate("document.querySelectorAll('#source option').length") == 5
    finally:
        del built.config["hub"]


# Deposits


def test_a_deposit_in_kind_with_exact_approvals(page: Tab, built: Stage) -> None:
    assert page.wallet
    # an old allowance that the USDT-like token wants reset, and one that is enough
    tether, honest = built.tokens[3], built.tokens[0]
    built.chain.send(built.depositor, tether.functions.approve(built.vault.address, 7))
    built.chain.send(built.depositor, honest.functions.approve(built.vault.address, 10**30))
    open_deposit(page, built)
    page.choose("unit", "shares")
    page.fill("amount", "1000")
    page.sees("You would pay now")
    page.press("Review")
    page.sees("Reset the old approval of", "dialog")
    assert (
        page.evaluate("document.querySelectorAll('.step').length") == 5
    )  # reset, three approvals, the deposit
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert "You received 1,000 ekODD." in page.text("dialog")
    assert built.shares(built.depositor) == 1000 * 10**18
    approved = [
        int(params[0]["data"][74:], 16)
        for method, params in page.wallet.asked
        if method == "eth_sendTransaction" and params[0]["data"].startswith("0x095ea7b3")
    ]
    assert len(approved) == 4 and 0 in approved and all(amount < 2**128 for amount in approved)
    # what is left is the tolerance of half a percent, no more
    spent = [
        1000 * 10**18 * t.functions.balanceOf(built.vault.address).call() // 10**24 for t in built.tokens
    ]
    for left, amount in list(zip(allowances(built, built.vault.address), spent, strict=True))[1:]:
        assert left <= amount * 6 // 1000
    page.press("Close")
    page.sees("1,000 ekODD", ".headline")
    assert page.complaints() == []


def test_a_deposit_by_permit_is_one_signature_and_one_transaction(page: Tab, built: Stage) -> None:
    assert page.wallet
    open_deposit(page, built)
    page.choose("source", built.tokens[1].address)
    page.fill("amount", "500")
    page.sees("Through the teller")
    page.press("Review")
    page.sees("Sign a permit", "dialog")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert page.wallet.methods().count("eth_sendTransaction") == 1
    assert page.wallet.methods().count("eth_signTypedData_v4") == 1
    assert allowances(built, built.teller.address)[1] == 0
    minimum = int(
        next(p for m, p in page.wallet.asked if m == "eth_sendTransaction")[0]["data"][10 + 128 : 10 + 192],
        16,
    )
    got = built.shares(built.depositor)
    assert 496 * 10**18 < got < 498 * 10**18  # 0.6 %, no surcharge: the basket wants this asset
    assert got * 994 // 1000 <= minimum <= got


def test_a_permit_that_somebody_else_spent_does_not_fail_the_deposit(page: Tab, built: Stage) -> None:
    assert page.wallet
    wallet, cash, teller = page.wallet, built.tokens[1], built.teller
    open_deposit(page, built)
    page.choose("source", cash.address)
    page.fill("amount", "500")
    page.press("Review")
    page.sees("Sign a permit", "dialog")

    def spend() -> (
        None
    ):  # somebody uses the signature that the page has just got, with the same allowance as result
        data = next(p for m, p in reversed(wallet.asked) if m == "eth_signTypedData_v4")[1]
        message = json.loads(data)
        signed = built.depositor.sign_typed_data(full_message=message)
        said = message["message"]
        built.chain.send(
            built.poor,
            cash.functions.permit(
                said["owner"], said["spender"], int(said["value"]), int(said["deadline"]), signed.v,
                signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"),
            ),
        )  # fmt: skip

    wallet.before_sending = spend
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert built.shares(built.depositor) > 490 * 10**18
    assert cash.functions.allowance(built.depositor.address, teller.address).call() == 0


@pytest.mark.parametrize("status", ["supported", "ready"])
def test_a_wallet_that_batches_confirms_once(page: Tab, built: Stage, status: str) -> None:
    assert page.wallet
    page.wallet.atomic = status
    open_deposit(page, built)
    page.fill("amount", "1000")
    page.press("Review")
    page.wait_for("document.querySelectorAll('.step').length === 5")
    assert (
        page.evaluate("document.querySelector('.steps').getAttribute('aria-label')")
        == "Steps, all in one confirmation"
    )
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert page.wallet.methods().count("wallet_sendCalls") == 1
    assert page.wallet.methods().count("eth_sendTransaction") == 0
    assert shares_of(built, page.wallet) > 0


def test_a_declined_upgrade_falls_back_to_single_calls(page: Tab, built: Stage) -> None:
    assert page.wallet
    page.wallet.atomic = "ready"
    page.wallet.declines["wallet_sendCalls"] = 5750
    open_deposit(page, built)
    page.fill("amount", "1000")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert page.wallet.methods().count("eth_sendTransaction") == 5
    assert "Problem" not in page.text("dialog")


def test_another_chains_batches_count_for_nothing(page: Tab, built: Stage) -> None:
    wallet = page.wallet
    assert wallet
    plain = wallet.request

    def request(method: str, params: list[Any]) -> Any:
        if method == "wallet_getCapabilities":
            return {hex(OTHER_CHAIN): {"atomic": {"status": "supported"}}}
        return plain(method, params)

    wallet.request = request  # type: ignore[method-assign]
    open_deposit(page, built)
    page.fill("amount", "1000")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert wallet.methods().count("wallet_sendCalls") == 0


@pytest.mark.parametrize("trouble", ["no receipts", "no answer once"])
def test_a_batch_is_never_sent_a_second_time(page: Tab, built: Stage, trouble: str) -> None:
    wallet = page.wallet
    assert wallet
    plain, wallet.atomic = wallet.request, "supported"

    def request(method: str, params: list[Any]) -> Any:
        answer = plain(method, params)
        if method == "wallet_getCallsStatus" and trouble == "no receipts":
            del answer["receipts"]  # EIP-5792 leaves them to the wallet
        elif method == "wallet_getCallsStatus" and wallet.methods().count(method) == 1:
            raise Refusal(-32603, "the node does not answer")
        return answer

    wallet.request = request  # type: ignore[method-assign]
    open_deposit(page, built)
    page.choose("unit", "shares")
    page.fill("amount", "1000")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.wait_for("document.querySelector('dialog .buttons')?.innerText.startsWith('Close')")
    assert "onfirmed" in page.text("#outcome") and "Problem" not in page.text("dialog")
    assert wallet.methods().count("wallet_sendCalls") == 1
    assert wallet.methods().count("eth_sendTransaction") == 0
    assert built.shares(built.depositor) == 1000 * 10**18


def test_an_account_that_changes_halfway_ends_the_deposit(page: Tab, built: Stage) -> None:
    assert page.wallet
    open_deposit(page, built)
    page.fill("amount", "1000")
    page.press("Review")
    with by_hand(built):
        page.press("Confirm in the wallet")
        page.sees("Sent: ", "dialog")
        # the wallet still shares the old account, and would sign for it
        page.emit("accountsChanged", [built.poor.address])
        page.wait_for("document.querySelector('dialog') === null")
        built.chain.mine_blocks(1)
    page.wait_for("document.getElementById('live').innerText.startsWith('The review was closed')")
    assert page.wallet.methods().count("eth_sendTransaction") == 1


def test_two_clicks_are_one_confirmation(page: Tab, built: Stage) -> None:
    assert page.wallet
    give_shares(built)
    page.visit(at(built, "redeem"))
    connect(page)
    page.fill("shares", "10")
    page.press("Review")
    page.wait_for("document.querySelectorAll('.step').length === 1")
    page.evaluate("document.getElementById('confirm').click(), document.getElementById('confirm').click(), 1")
    page.sees("Confirmed in block", "dialog")
    assert page.wallet.methods().count("eth_sendTransaction") == 1


def test_what_was_sent_is_waited_for_while_the_node_refuses(page: Tab, built: Stage) -> None:
    assert page.wallet
    give_shares(built)
    page.visit(at(built, "redeem"))
    connect(page)
    page.fill("shares", "10")
    page.press("Review")
    refused = []

    def forge(content: bytes) -> bytes:
        if b'"cumulativeGasUsed"' not in content or len(refused) == 4:
            return content
        refused.append(content)
        found = json.loads(content)
        error = {"code": -32005, "message": "limit exceeded"}
        answers = [
            {"jsonrpc": "2.0", "id": one["id"], "error": error}
            for one in (found if isinstance(found, list) else [found])
        ]
        return json.dumps(answers if isinstance(found, list) else answers[0]).encode()

    built.forge = forge
    try:
        with by_hand(built):
            page.press("Confirm in the wallet")
            page.sees("Sent: ", "dialog")
            built.chain.mine_blocks(1)
        # never "Back to the review", which would send it again
        page.wait_for("document.querySelector('dialog .buttons button')?.innerText !== 'Waiting…'")
    finally:
        built.forge = bytes
    assert "Confirmed in block" in page.text("dialog")
    assert len(refused) == 4


def test_a_cancelled_transaction_is_not_called_confirmed(page: Tab, built: Stage) -> None:
    assert page.wallet
    give_shares(built)
    page.visit(at(built, "redeem"))
    connect(page)
    page.fill("shares", "10")
    page.press("Review")
    asked: list[bytes] = []

    def forge(content: bytes) -> bytes:
        asked.append(content)
        return content

    built.forge = forge
    with by_hand(built):
        page.press("Confirm in the wallet")
        page.sees("Sent: ", "dialog")
        page.wait_until(
            lambda: any(b'"maxPriorityFeePerGas"' in answer for answer in asked)
        )  # the page knows it
        account, eth = built.depositor, built.chain.web3.eth
        cancel = account.sign_transaction({
            "to": account.address, "value": 0, "gas": 21_000, "nonce": eth.get_transaction_count(account.address),
            "chainId": eth.chain_id, "maxFeePerGas": 300 * 10**9, "maxPriorityFeePerGas": 30 * 10**9,
        })  # fmt: skip
        eth.send_raw_transaction(cancel.raw_transaction)
        built.chain.mine_blocks(1)
    built.forge = bytes
    page.sees("cancelled or replaced in the wallet", "dialog")
    assert "Confirmed" not in page.text("dialog")


@contextmanager
def by_hand(built: Stage) -> Iterator[None]:
    """Blocks come only when the test makes one."""
    built.chain._rpc("evm_setAutomine", [False])
    try:
        yield
    finally:
        built.chain._rpc("evm_setAutomine", [True])


def test_declining_returns_to_the_review(page: Tab, built: Stage) -> None:
    assert page.wallet
    page.wallet.declines["eth_signTypedData_v4"] = 4001
    open_deposit(page, built)
    page.choose("source", built.tokens[1].address)
    page.fill("amount", "500")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("You declined in the wallet. Nothing was sent.", "dialog")
    assert "Problem" not in page.text("dialog")
    assert page.text("#live") == "You declined in the wallet. Nothing was sent."
    page.wallet.declines["eth_sendTransaction"] = 4001
    page.press("Confirm in the wallet again")
    page.wait_for("document.querySelector('.step:last-child').innerText.includes('to do')")
    page.press("Confirm in the wallet again")
    page.sees("Confirmed in block", "dialog")


def test_an_insufficient_balance_is_told_before_anything_is_asked(page: Tab, built: Stage) -> None:
    assert page.wallet
    page.wallet.accounts = [built.poor]
    open_deposit(page, built)
    page.fill("amount", "1000")
    page.wait_for("document.getElementById('next').innerText.startsWith('Not enough tAAPL')")
    assert page.evaluate("document.getElementById('next').getAttribute('aria-disabled')") == "true"
    page.evaluate("document.getElementById('next').click(), 1")
    assert page.evaluate("document.querySelector('dialog')") is None
    assert page.text("#live").startswith("Not enough tAAPL")


def test_holdings_that_move_beyond_the_tolerance_refuse_in_a_sentence(page: Tab, built: Stage) -> None:
    assert page.wallet
    for token in built.tokens:
        built.chain.send(built.depositor, token.functions.approve(built.vault.address, 10**40))
    open_deposit(page, built)
    page.choose("unit", "shares")
    page.fill("amount", "1000")
    page.press("Review")
    page.wait_for("document.querySelectorAll('.step').length === 1")
    odd = built.tokens[2]
    built.chain.send(built.poor, odd.functions.mint(built.vault.address, 10**24))  # a donation: dearer shares
    page.press("Confirm in the wallet")
    page.sees("more than the most that you agreed to", "dialog")
    assert page.wallet.methods().count("eth_sendTransaction") == 0
    assert built.shares(built.depositor) == 0


def test_a_stale_price_stops_the_teller_and_not_the_deposit_in_kind(page: Tab, built: Stage) -> None:
    built.chain.mine_blocks(1, 3 * 86_400)
    open_deposit(page, built)
    page.sees("price is stale", ".alerts")
    page.sees("at least $0.00: a price is missing", ".headline")
    page.choose("source", built.tokens[1].address)
    page.fill("amount", "500")
    page.sees("The oracle has no usable price")
    assert page.text("#next") == "No way in with this token now"
    page.choose("source", "basket")
    page.fill("amount", "100")
    page.sees("enter shares instead of USD")
    page.choose("unit", "shares")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert built.shares(built.depositor) == 100 * 10**18


# Redemptions


def give_shares(built: Stage, shares: int = 1000 * 10**18 + 12_345) -> None:
    for token in built.tokens:
        built.chain.send(built.depositor, token.functions.approve(built.vault.address, 10**40))
    amounts = [2**200] * 4
    built.chain.send(
        built.depositor, built.vault.functions.mint_in_kind(shares, amounts, built.depositor.address)
    )


def test_a_redemption_for_nothing_is_not_offered(page: Tab, built: Stage) -> None:
    page.visit(at(built, "redeem"))
    page.choose("into", built.tokens[1].address)
    page.fill("shares", "0.000000000000000001")
    page.sees("too little to be paid anything")


def test_max_redeems_every_share(page: Tab, built: Stage) -> None:
    give_shares(built)
    page.visit(at(built, "redeem"))
    connect(page)
    page.press("Max")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert built.shares(built.depositor) == 0
    assert page.wallet and page.wallet.methods().count("eth_sendTransaction") == 1


def test_a_broken_token_is_found_and_left_behind(page: Tab, built: Stage) -> None:
    give_shares(built)
    broken = built.tokens[3]
    built.chain.send(built.poor, broken.functions.set_weird(PAUSED))
    before = [t.functions.balanceOf(built.depositor.address).call() for t in built.tokens]
    page.visit(at(built, "redeem"))
    connect(page)
    page.press("Max")
    page.sees("These tokens do not move now")
    page.press("Review")
    page.sees("Problem", "dialog")
    page.key("Escape")
    page.press("Leave them behind")
    page.sees("You forfeit")
    page.press("Review")
    page.sees("left behind, you forfeit", "dialog")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    gained = [
        t.functions.balanceOf(built.depositor.address).call() - b
        for t, b in zip(built.tokens, before, strict=True)
    ]
    assert all(gained[:3]) and gained[3] == 0
    assert built.shares(built.depositor) == 0


def test_a_redemption_through_the_teller_has_a_minimum(page: Tab, built: Stage) -> None:
    give_shares(built)
    page.visit(at(built, "redeem"))
    connect(page)
    page.choose("into", built.tokens[1].address)
    page.fill("shares", "300")
    page.sees("Through the teller")
    page.sees(
        "You will be asked to type your consent"
    )  # 0.6 % and 1.6 %: it moves the basket away from its targets
    page.press("Review")
    page.sees("You receive at least", "dialog")
    page.evaluate("document.getElementById('confirm').click(), 1")
    page.fill("consent", "I accept the costs")
    assert page.evaluate("document.getElementById('confirm').getAttribute('aria-disabled')") == "true"
    page.fill("consent", "I accept the cost")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert page.wallet and page.wallet.methods().count("eth_sendTransaction") == 1
    data = next(p for m, p in page.wallet.asked if m == "eth_sendTransaction")[0]["data"]
    assert int(data[10 + 3 * 64 : 10 + 4 * 64], 16) > 290 * 10**18


# The wallet and the chain change


def test_another_account_is_another_balance(page: Tab, built: Stage) -> None:
    give_shares(built)
    page.visit(at(built, "redeem"))
    connect(page)
    page.sees("1,000 ekODD", ".headline")
    page.press("Max")
    page.press("Review")
    page.wait_for("document.querySelector('dialog') !== null")
    assert page.wallet
    page.wallet.accounts = [built.poor]
    page.emit("accountsChanged", [built.poor.address])
    page.wait_for("document.querySelector('dialog') === null")  # the review was the other account's
    page.sees("0 ekODD", ".headline")
    page.wait_for("document.getElementById('next').innerText === 'Not enough shares'")
    page.emit("accountsChanged", [])
    page.sees("Connect a wallet")


def test_a_restarted_chain_is_noticed(page: Tab, built: Stage) -> None:
    with stage() as other:
        other.chain.mine_blocks(50, 12)
        page.visit(at(other))
        page.sees("vetoes changes")
        upstream = other.chain.url
        other.chain.url = "http://127.0.0.1:9/"
        page.sees("The node does not answer")
        assert "as of block" in page.text("#as-of")  # what was read stays, with its block
        other.chain.url, other.config["factory"] = built.chain.url, built.world.factory.address
        page.sees("The chain began anew")
        page.wait_for("document.querySelector('.banners').innerText.includes('does not answer') === false")
        block = built.chain.web3.eth.block_number
        page.sees(f"as of block {block}", "#as-of")
        other.chain.url = upstream


# The record


def test_the_head_is_recomputed_and_both_values_are_shown(page: Tab, built: Stage) -> None:
    page.visit(at(built, "verify"))
    page.press("Recompute the head")
    page.sees("The two are equal")
    head = "0x" + built.vault.functions.head().call().hex()
    assert page.text("#recomputed").strip() == page.text("#stored").strip() == head


@pytest.mark.parametrize(
    ("damage", "said"),
    [("change", "field previous_head"), ("remove", "field previous_head"), ("cut", "The two differ")],
)
def test_a_node_that_forges_the_record_is_found_out(page: Tab, built: Stage, damage: str, said: str) -> None:
    world = built.world
    for _ in range(2):  # two more entries, both of the strategist
        built.chain.send(
            world.deployer,
            world.timelock.functions.set_targets(built.vault.address, [4_000, 3_000, 2_000, 1_000]),
        )
    topic = built.chain.web3.keccak(text="RuleChanged(bytes32,uint256,string,uint256,bytes)").to_0x_hex()

    def forge(content: bytes) -> bytes:
        answers = json.loads(content)
        for answer in answers if isinstance(answers, list) else [answers]:
            found = answer.get("result")
            if not isinstance(found, list):
                continue
            rules = [log for log in found if isinstance(log, dict) and log.get("topics", [""])[0] == topic]
            if len(rules) < 3:
                continue
            if damage == "change":  # the last target of an entry
                rules[-2]["data"] = rules[-2]["data"][:-1] + "9"
            else:
                found.remove(rules[-2] if damage == "remove" else rules[-1])
        return json.dumps(answers).encode()

    built.forge = forge
    try:
        page.visit(at(built, "verify"))
        page.press("Recompute the head")
        page.sees(said, "#verdict")
        assert "Verified" not in page.text("#verdict")
    finally:
        built.forge = bytes


def test_the_history_names_each_event(page: Tab, built: Stage) -> None:
    give_shares(built)
    page.visit(at(built, "history"))
    page.sees("Deposit in kind: 1,000 ekODD minted.")
    page.sees("The vault was created.")
    page.sees("rule changed by set teller")


# People


def test_a_deposit_by_keyboard_alone_on_a_phone(page: Tab, built: Stage) -> None:
    page.size(360, 740, phone=True)
    page.visit(at(built, "deposit"))
    page.sees("What do you bring?")

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            if wanted in page.focused():
                return
            page.key("Tab")
        raise AssertionError(f"{wanted} is not reached by the keyboard")

    tab_to("Connect a wallet")
    page.key("Enter")
    page.sees("Test wallet", "dialog")
    tab_to("Test wallet")
    page.key("Enter")
    page.sees("Disconnect")
    page.wait_for("document.querySelector('dialog') === null")
    tab_to("input amount")
    for digit in "250":
        page.key(digit)
    page.sees("You would pay now")
    tab_to("button next Review")
    page.key("Enter")
    page.sees("Confirm in the wallet", "dialog")
    for _ in range(12):  # the focus stays in the dialog
        page.key("Tab")
        assert page.evaluate(
            "document.querySelector('dialog').contains(document.activeElement)"
            " || document.activeElement === document.body"
        )
    tab_to("button confirm")
    page.wait_for("!document.getElementById('confirm').hasAttribute('aria-disabled')")
    page.key("Enter")
    page.sees("Confirmed in block", "dialog")
    assert page.text("#live").startswith("Confirmed in block")
    page.key("Escape")
    page.wait_for("document.querySelector('dialog') === null")
    assert page.focused().startswith("button next")
    assert 249 * 10**18 < built.shares(built.depositor) < 251 * 10**18


# The creator's page


def test_a_vault_is_created_after_the_contracts_have_checked_it(page: Tab, built: Stage) -> None:
    assert page.wallet
    page.visit(f"{built.url}#/")
    page.sees("within bands")
    connect(page)
    page.press("Create")
    page.sees("Create a vault", "h1")
    page.fill("name", "Made in a browser")
    page.fill("symbol", "ekMADE")
    for i, (token, target) in enumerate(zip(built.tokens[::2], ("60", "30"), strict=True)):
        page.fill(f"token{i}", token.address)
        page.fill(f"target{i}", target)
    page.sees("The targets add up to 90 %, not 100 %.")
    page.fill("target1", "40")
    page.sees("The rule book accepts these rules")
    page.fill("capacity", "0.1")
    page.sees("The loss budget is too small for one full rebalance")
    page.wait_for("document.getElementById('next').innerText === 'Not possible as it is'")
    page.fill("capacity", "1")
    page.sees("The rule book accepts these rules")
    # it survives a reload
    page.call("Page.reload")
    page.wait_for("document.getElementById('name')?.value === 'Made in a browser'")
    page.sees("Disconnect")
    assert page.evaluate("document.getElementById('target1').value") == "40"
    page.sees("The rule book accepts these rules")
    page.press("Review")
    page.sees("No guardian", "dialog")
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    factory = built.world.factory
    made = bind(
        built.chain.web3, "Vault", factory.functions.vaults(factory.functions.vault_count().call() - 1).call()
    )
    assert made.functions.symbol().call() == "ekMADE"
    assert made.functions.balanceOf(built.depositor.address).call() > 98 * 10**18
    page.press("Close")
    page.sees(f"Created: {made.address}")
    assert page.evaluate("localStorage.getItem('draft')") is None


def test_weights_come_from_a_csv_file(page: Tab, built: Stage, tmp_path: Path) -> None:
    page.visit(f"{built.url}#/create")
    page.press("Load the weights")
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    lines = [
        f"{token.address},{target}" for token, target in zip(built.tokens, (40, 30, 20, 10), strict=True)
    ]
    good.write_text("\n".join(["token,target %", *lines]))
    bad.write_text(
        "\n".join([*lines[:2], "0x5FbDB2315678afecb367f032d93F642f64180aA4,3", "=cmd|' /C calc'!A0,5"])
    )
    page.upload("csv", bad)
    page.sees("Line 3: The checksum of this address is wrong")
    page.upload("csv", good)
    page.wait_for("document.getElementById('target3')?.value === '10'")
    page.sees("priced at $20.00")


def test_a_symbol_of_kilobytes_is_cut(page: Tab, built: Stage) -> None:
    answer = encode(["string"], ["\u202e<b>" + "A" * 20_000])
    runtime = bytes.fromhex(f"61{len(answer):04x}600e5f3961{len(answer):04x}5ff3") + b"\0\0" + answer
    creation = bytes.fromhex(f"61{len(runtime):04x}600c5f3961{len(runtime):04x}5ff3") + runtime
    token = built.chain.deploy_code(built.world.deployer, [], "0x" + creation.hex())
    page.visit(f"{built.url}#/create")
    page.fill("token0", token.address)
    page.sees("<b>AAAA", ".asset-form")
    assert len(page.text(".asset-form legend")) < 60
    assert page.evaluate("document.querySelectorAll('.asset-form b').length") == 0


# A treasury


def test_a_safe_gets_a_file_with_the_same_calls(page: Tab, built: Stage) -> None:
    page.visit(at(built, "deposit"))
    page.evaluate(
        "window.made = []; const plain = URL.createObjectURL; "
        "URL.createObjectURL = blob => { blob.text().then(t => made.push(t)); return plain.call(URL, blob) }, 1"
    )
    page.press("For a Safe")
    page.fill("safe", built.depositor.address)  # any account: its balances and allowances count
    page.choose("unit", "shares")
    page.fill("amount", "10")
    page.press("Review")
    page.press("Download the Safe file")
    page.wait_for("window.made.length === 1")
    batch = json.loads(page.evaluate("made[0]"))
    assert batch["version"] == "1.0" and batch["chainId"] == str(built.chain.web3.eth.chain_id)
    assert batch["meta"]["createdFromSafeAddress"] == built.depositor.address
    assert len(batch["transactions"]) == 5
    for call in batch["transactions"]:  # the Safe runs them in order
        tx = {"from": built.depositor.address, "to": call["to"], "data": call["data"], "gas": 10**6}
        receipt = built.chain.web3.eth.wait_for_transaction_receipt(built.chain.web3.eth.send_transaction(tx))
        assert receipt["status"] == 1
    assert built.shares(built.depositor) == 10 * 10**18


def test_a_proposal_of_a_contract_account_waits_for_its_signers(page: Tab, built: Stage) -> None:
    wallet = page.wallet
    assert wallet
    plain = wallet.request
    give_shares(built)
    built.chain._rpc("anvil_setCode", [built.depositor.address, "0x00"])  # a contract wallet: it has code

    def request(method: str, params: list[Any]) -> Any:
        return "0x" + "5a" * 32 if method == "eth_sendTransaction" else plain(method, params)

    wallet.request = request  # type: ignore[method-assign]
    page.visit(at(built, "redeem"))
    connect(page)
    page.press("Max")
    page.press("Review")
    page.press("Confirm in the wallet")
    page.sees("waiting for the account’s other signers", "dialog")
    assert "0x" + "5a" * 32 in page.text("dialog")
    page.press("Dismiss")
    page.wait_for("document.querySelector('dialog') === null")


VIEWS = ["", "#/vault/{vault}/overview", "#/vault/{vault}/deposit", "#/vault/{vault}/redeem", "#/vault/{vault}/history",
         "#/vault/{vault}/verify", "#/create"]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(page: Tab, built: Stage, view: str, scheme: str) -> None:
    page.prefer(scheme)
    page.visit(built.url + view.format(vault=built.vault.address))
    page.wait_for("document.querySelector('.working') === null")
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_review(page: Tab, built: Stage, scheme: str) -> None:
    page.prefer(scheme)
    open_deposit(page, built)
    page.fill("amount", "1000")
    page.press("Review")
    page.wait_for("document.querySelectorAll('.step').length === 5")
    assert violations(page) == []
    page.press("Confirm in the wallet")
    page.sees("Confirmed in block", "dialog")
    assert violations(page) == []


def violations(page: Tab) -> list[str]:
    page.evaluate(AXE.read_text() + "; 1")
    found = page.evaluate(
        "axe.run(document).then(r => r.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html)]))"
    )
    return [json.dumps(item) for item in found]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [320, 390])
def test_nothing_scrolls_sideways(page: Tab, built: Stage, view: str, width: int) -> None:
    page.size(width, 740, phone=True)
    page.visit(built.url + view.format(vault=built.vault.address))
    page.wait_for("document.querySelector('.working') === null")
    scroll, client = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert scroll <= client == width
