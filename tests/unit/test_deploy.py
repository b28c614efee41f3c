"""`brownie run deploy` on the local chain, with the example file."""

import json

import pytest
import yaml
from brownie import Timelock, Vault, VaultFactory, accounts

from scripts import deploy


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
    ],
)
def test_deploy_names_the_field_that_is_wrong(tmp_path, section, field, value, message):
    plan = yaml.safe_load((deploy.ROOT / "deploy" / "example.yaml").read_text())
    part = plan["vault"]["rules"] if section == "rules" else plan[section]
    part[field] = value
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    with pytest.raises(SystemExit, match=message):
        deploy.main(str(file))
