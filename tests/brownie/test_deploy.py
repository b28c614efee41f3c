"""`brownie run deploy` on the local chain with the example file, and the vault as brownie's users test it."""

import json

import brownie
import pytest
import yaml
from brownie import ZERO_ADDRESS, TestToken, Timelock, Vault, VaultFactory, accounts

from scripts import deploy

WAD = 10**18


@pytest.fixture(scope="module")
def addresses(module_isolation):
    return deploy.main()


def test_deploy_creates_a_seeded_vault_on_target(addresses):
    vault = Vault.at(addresses["EK6040"])
    assert VaultFactory.at(addresses["VaultFactory"]).is_vault(vault)
    assert vault.oracle() == addresses["PriceOracle"]
    timelock = Timelock.at(addresses["Timelock"])
    assert vault.timelock() == timelock
    assert timelock.terms(vault) == (accounts[0], 2 * 86_400)
    assert timelock.teller_implementation() == addresses["Teller"]
    assert [vault.roles(who) for who in (accounts[0], addresses["Auction"])] == [7, 1]
    assert vault.balances() == (4 * 10**16, 80 * 10**6)
    assert vault.totalSupply() == 200 * 10**18


def test_deploy_writes_the_addresses_and_what_explorers_verify(addresses):
    folder = deploy.ROOT / "deploy" / "out" / "evenkeel"
    assert json.loads((folder / "addresses.json").read_text()) == addresses
    for name in deploy.CONTRACTS:
        assert json.loads((folder / f"{name}.standard.json").read_text())["settings"]["evmVersion"] == "paris"
    assert (folder / "Zap.constructor.txt").read_text().strip()[24:] == addresses["Executor"][2:].lower()


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("rules", "mode", "SOMETIMES", "mode: SOMETIMES is none of CALENDAR"),
        ("rules", "cooldown_seconds", None, "cooldown_seconds: missing"),
        ("rules", "calendar_anchor", "soon", "calendar_anchor: soon is not a date"),
        ("vault", "fee_bps", None, "fee_bps: missing"),
        ("vault", "delay_seconds", None, "delay_seconds: missing"),
        ("vault", "keepers", ["0x" + "11" * 20] * 4, "keepers: 4 at most, the auction counted"),
        ("auction", "start_bps", None, "start_bps: missing"),
        ("oracle", "delay_seconds", None, "delay_seconds: missing"),
        ("assets", "min_price_usd", 1.23456789, "WETH: min_price_usd: 1.23456789 has more than 8 digits"),
    ],
)
def test_deploy_names_the_field_that_is_wrong(tmp_path, section, field, value, message):
    plan = yaml.safe_load((deploy.ROOT / "deploy" / "example.yaml").read_text())
    parts = plan | {"rules": plan["vault"]["rules"], "assets": plan["assets"][0]}
    part = parts[section]
    part[field] = value
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    with pytest.raises(SystemExit, match=message):
        deploy.main(str(file))


# The vault: events, exact revert strings


@pytest.fixture(scope="module")
def vault(addresses):
    return Vault.at(addresses["EK6040"])


@pytest.fixture
def approved(vault):
    for token in vault.assets():
        TestToken.at(token).mint(accounts[0], 10**24, {"from": accounts[0]})
        TestToken.at(token).approve(vault, 2**256 - 1, {"from": accounts[0]})


def test_mint_in_kind_emits_the_flow(vault, approved):
    amounts = vault.preview_mint_in_kind(WAD)
    tx = vault.mint_in_kind(WAD, amounts, accounts[1], {"from": accounts[0]})
    assert tx.return_value == amounts
    assert tx.events["MintedInKind"] == {
        "caller": accounts[0],
        "receiver": accounts[1],
        "shares": WAD,
        "amounts": amounts,
        "flow_sequence": 1,
    }
    assert vault.balanceOf(accounts[1]) == WAD


def test_mint_in_kind_above_the_maximum_reverts(vault, approved):
    with brownie.reverts("amount above maximum"):
        vault.mint_in_kind(WAD, [0] * len(vault.assets()), accounts[1], {"from": accounts[0]})


def test_redeem_in_kind_to_nobody_reverts(vault):
    with brownie.reverts("receiver not allowed"):
        vault.redeem_in_kind(
            WAD, ZERO_ADDRESS, accounts[0], [0] * len(vault.assets()), 0, {"from": accounts[0]}
        )


def test_rebalance_by_a_stranger_reverts(vault):
    with brownie.reverts("not keeper"):
        vault.rebalance([0, 0], accounts[9], b"", bytes(32), 1, 2**40, {"from": accounts[9]})


def test_changes_wait_for_the_timelock(addresses, vault):
    timelock = Timelock.at(addresses["Timelock"])
    call = timelock.set_role.encode_input(vault, accounts[9], 1)
    with brownie.reverts("needs the delay"):
        timelock.set_role(vault, accounts[9], 1, {"from": accounts[0]})
    queued = timelock.queue(vault, call, {"from": accounts[0]})
    assert queued.events["Queued"]["ready_at"] == queued.timestamp + 2 * 86_400
    with brownie.reverts("not ready"):
        timelock.execute(vault, call, {"from": accounts[0]})
    brownie.chain.sleep(2 * 86_400)
    done = timelock.execute(vault, call, {"from": accounts[0]})
    assert done.events["RuleChanged"]["name"] == "set_role"
    assert vault.roles(accounts[9]) == 1
