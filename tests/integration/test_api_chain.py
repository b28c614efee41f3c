"""The API on a real chain: quotes are what the Zap does, to the wei; proofs lead to the stored head."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import structlog
from eth_utils import keccak
from fastapi import FastAPI
from web3 import Web3
from web3.contract import Contract

from offchain.api import ChainSource, Options, Places, create_app
from offchain.api.demo_wallet import DemoWallet
from offchain.api.edge import Rates
from offchain.demo.world import World
from offchain.keeper.journal import Journal
from offchain.keeper.market import Sources
from tests.support.api import Client
from tests.support.demo_vault import FIRST, funded_vault, make_keeper

WAD = 10**18
LATER = 10**9  # seconds: deadlines are for another test


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A vault that was rebalanced once, and its keeper, guardian and strategist."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with funded_vault() as (world, vault):
        prices = list(FIRST.prices)
        prices[0] = prices[0] * 16 // 10
        world.set_market(replace(FIRST, prices=tuple(prices)))
        assert not make_keeper(world, vault, Journal(":memory:")).once().failed
        yield world
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def app(world: World) -> FastAPI:
    places = Places(
        factory=world.factory.address,
        zap=world.zap.address,
        sources=Sources(world.pool_source, world.executor.address, world.cash.address),
    )
    wallet = DemoWallet(world.chain.web3, world.chain.accounts[8])
    return create_app(
        ChainSource(world.chain.web3, places), Options(rates=Rates(10**6, 10**6, 10**6), wallet=wallet)
    )


@pytest.fixture
def client(app: FastAPI) -> Client:
    return Client(app)


@pytest.fixture
def vault(world: World) -> Contract:
    return world.vaults[0]


def read(client: Client, path: str) -> dict[str, Any]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def zap_in(world: World, vault: Contract, quote: dict[str, Any], least: int) -> int:
    """Deposit as the quote says; the shares."""
    account = world.chain.accounts[6]
    token = next(t for t in world.tokens if t.address == quote["token"])
    amount = int(quote["amount_units"])
    world.chain.send(world.deployer, token.functions.mint(account.address, amount))
    world.chain.send(account, token.functions.approve(world.zap.address, amount))
    before = vault.functions.balanceOf(account.address).call()
    payload = bytes.fromhex(quote["payload"][2:])
    call = world.zap.functions.zap_in(
        vault.address,
        token.address,
        amount,
        payload,
        quote["via"],
        least,
        account.address,
        quote["deadline"] + LATER,
    )
    world.chain.send(account, call)
    return int(vault.functions.balanceOf(account.address).call() - before)


@pytest.mark.parametrize(("index", "amount"), [(3, 2_500 * 10**6), (0, 30 * WAD), (1, 3 * 10**8)])
def test_a_zap_in_mints_exactly_what_was_quoted(
    world: World, client: Client, vault: Contract, index: int, amount: int
) -> None:
    token = world.tokens[index].address
    quote = read(client, f"/v1/vaults/{vault.address}/quotes/zap-in?token={token}&amount_units={amount}")
    expected = int(quote["expected_shares_units"])
    # the day's fee may have been accrued in between: shares are then cheaper, never dearer
    assert zap_in(world, vault, quote, int(quote["min_shares_units"])) == expected
    cost = {
        name: int(quote["cost"][f"{name}_usd_wad"]) for name in ("total", "pool_fee", "price_impact", "other")
    }
    assert (
        quote["impact"] == "normal" and cost["pool_fee"] > 0
    )  # the impact may be a gain: pools and oracle differ
    assert cost["total"] == cost["pool_fee"] + cost["price_impact"] + cost["other"]


@pytest.mark.parametrize("skip", [0, 1])
def test_a_zap_out_pays_exactly_what_was_quoted(
    world: World, client: Client, vault: Contract, skip: int
) -> None:
    account, token, shares = world.chain.accounts[6], world.cash, 400 * WAD
    path = (
        f"/v1/vaults/{vault.address}/quotes/zap-out?token={token.address}&shares_units={shares}&skip={skip}"
    )
    quote = read(client, path)
    world.chain.send(account, vault.functions.approve(world.zap.address, shares))
    before = token.functions.balanceOf(account.address).call()
    call = world.zap.functions.zap_out(
        vault.address,
        shares,
        skip,
        token.address,
        bytes.fromhex(quote["payload"][2:]),
        quote["via"],
        int(quote["min_amount_units"]),
        account.address,
        quote["deadline"] + LATER,
    )
    world.chain.send(account, call)
    got = token.functions.balanceOf(account.address).call() - before
    assert got == int(quote["expected_amount_units"]) and len(quote["redeemed"]) == 4 - skip


def test_the_quote_of_a_moved_market_is_refused_by_the_chain(
    world: World, client: Client, vault: Contract
) -> None:
    token = world.tokens[0].address
    quote = read(client, f"/v1/vaults/{vault.address}/quotes/zap-in?token={token}&amount_units={WAD}")
    with pytest.raises(Exception, match="too few shares"):
        zap_in(world, vault, quote, int(quote["expected_shares_units"]) * 101 // 100)


def test_the_proofs_lead_to_the_head_that_the_vault_stores(
    client: Client, world: World, vault: Contract
) -> None:
    (found,) = read(client, f"/v1/vaults/{vault.address}/rebalances")["rebalances"]
    proof = found["proof"]
    assert "0x" + keccak(bytes.fromhex(proof["data"][2:])).hex() == proof["head"]
    assert proof["head"] == "0x" + vault.functions.head().call().hex()
    assert found["keeper"] == world.keeper.address and len(found["assets"]) == 4
    nav = read(client, f"/v1/vaults/{vault.address}/history?asc=true")["points"][0]["nav_usd_wad"]
    assert found["nav_after_usd_wad"] == nav


def test_roles_flows_and_accounts_are_the_vaults_own(client: Client, world: World, vault: Contract) -> None:
    body = read(client, f"/v1/vaults/{vault.address}")
    assert body["roles"]["guardians"] == [world.guardian.address] and body["roles"]["complete"] is True
    assert sorted(body["roles"]["keepers"]) == sorted([world.keeper.address, world.auction.address])
    assert body["from_factory"] is True and body["supply_units"] == str(vault.functions.totalSupply().call())
    holder = world.chain.accounts[6].address
    flows = read(client, f"/v1/vaults/{vault.address}/flows?account={holder}&asc=true")["flows"]
    assert flows[0]["kind"] == "mint_in_kind" and flows[0]["flow_sequence"] == 1
    account = read(client, f"/v1/vaults/{vault.address}/accounts/{holder}")
    shares = vault.functions.balanceOf(holder).call()
    paid = vault.functions.preview_redeem_in_kind(shares, 0).call()
    assert [row["units"] for row in account["in_kind"]] == [str(units) for units in paid]


def test_lots_are_what_the_account_paid_in(client: Client, world: World, vault: Contract) -> None:
    holder = world.chain.accounts[6].address
    found = read(client, f"/v1/vaults/{vault.address}/lots?account={holder}")
    held = Decimal(vault.functions.balanceOf(holder).call()) / WAD
    assert sum(Decimal(lot["quantity"]) for lot in found["open"]) == held and found["unvalued"] == []
    assert Decimal(found["open"][-1]["basis"]) > 0 and found["open"][0]["gain"] is not None


def test_a_contract_that_is_no_vault_and_a_vault_of_another_factory_are_not_served(
    client: Client, world: World
) -> None:
    for address in (world.cash.address, world.factory.address, world.implementation.address):
        answer = client.get(f"/v1/vaults/{address}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_a_vault")
        assert client.get(f"/v1/vaults/{address}/history").status_code == 404


def test_events_follow_a_reorganisation(client: Client, world: World, vault: Contract) -> None:
    """A deposit that was in the block before, and is in none any more, is not shown."""
    account, web3 = world.chain.accounts[6], world.chain.web3
    path = f"/v1/vaults/{vault.address}/flows"
    before = len(read(client, path)["flows"])
    snapshot = web3.provider.make_request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
    amounts = [2 * a for a in vault.functions.preview_mint_in_kind(WAD).call()]
    world.chain.send(account, vault.functions.mint_in_kind(WAD, amounts, account.address))
    assert len(read(client, path)["flows"]) == before + 1
    web3.provider.make_request("evm_revert", [snapshot])  # type: ignore[arg-type]
    for _ in range(2):
        web3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]
    assert len(read(client, path)["flows"]) == before


def test_the_browser_reads_and_sends_through_the_api(client: Client, world: World) -> None:
    def ask(method: str, *params: Any) -> Any:
        return client.post(
            "/rpc", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        ).json()

    assert int(ask("eth_chainId")["result"], 16) == world.chain.web3.eth.chain_id
    assert "error" in ask("eth_call", {"to": world.cash.address, "data": "0xdeadbeef"}, "latest")
    account = world.chain.accounts[7]
    tx = {
        "to": account.address,
        "value": 0,
        "gas": 21_000,
        "nonce": world.chain.web3.eth.get_transaction_count(account.address),
        "chainId": world.chain.web3.eth.chain_id,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    }
    sent = ask("eth_sendRawTransaction", account.sign_transaction(tx).raw_transaction.to_0x_hex())["result"]
    assert ask("eth_getTransactionReceipt", sent)["result"]["status"] == "0x1"


def test_the_demo_wallet_signs_for_its_own_chain_only(client: Client, world: World) -> None:
    account = world.chain.accounts[8]

    def wallet(method: str, *params: Any) -> Any:
        return client.post("/demo-wallet", json={"method": method, "params": params}).json()

    script = client.get("/demo-wallet.js").text
    assert account.address in script and hex(world.chain.web3.eth.chain_id) in script
    assert account.key.hex() not in script
    transfer = {"from": account.address, "to": world.deployer.address, "value": "0x7"}
    before = world.chain.web3.eth.get_balance(world.deployer.address)
    assert wallet("eth_sendTransaction", transfer)["result"].startswith("0x")
    assert world.chain.web3.eth.get_balance(world.deployer.address) == before + 7
    assert (
        wallet("eth_sendTransaction", transfer | {"from": world.deployer.address})["error"]["code"] == -32602
    )
    assert (
        "insufficient"
        in wallet("eth_sendTransaction", transfer | {"value": hex(10**30)})["error"]["message"].lower()
    )
    assert wallet("eth_sign", account.address, "0x00")["error"]["code"] == 4200
    assert wallet("personal_sign", "0xzz")["error"]["code"] == -32602
    form = client.post("/demo-wallet", content="{}", headers={"content-type": "text/plain"})
    assert form.status_code == 415


def test_the_plan_is_the_keepers(client: Client, vault: Contract) -> None:
    body = read(client, f"/v1/vaults/{vault.address}/plan")
    assert body["plan"]["vault"] == vault.address and body["plan"]["possible_now"] is False
    assert body["plan"]["block_hash"] == body["block"]["hash"]


def test_prepared_calls_do_what_they_say(client: Client, world: World, vault: Contract) -> None:
    account, shares = world.chain.accounts[6], 10 * WAD
    wanted = {"vault": vault.address, "account": account.address, "shares_units": str(shares)}
    for kind, change in (("redeem_in_kind", -shares), ("mint_in_kind", shares)):
        before = vault.functions.balanceOf(account.address).call()
        answer = client.post("/v1/prepared-calls", json=wanted | {"kind": kind})
        assert answer.status_code == 200, answer.text
        for call in answer.json()["calls"]:
            tx = {
                "to": Web3.to_checksum_address(call["to"]),
                "data": call["data"],
                "value": 0,
                "gas": 3_000_000,
                "nonce": world.chain.web3.eth.get_transaction_count(account.address),
                "chainId": world.chain.web3.eth.chain_id,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
            }
            sent = world.chain.web3.eth.send_raw_transaction(account.sign_transaction(tx).raw_transaction)
            assert world.chain.web3.eth.wait_for_transaction_receipt(sent)["status"] == 1, call["says"]
        assert vault.functions.balanceOf(account.address).call() - before == change
