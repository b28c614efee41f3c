"""`evenkeel status`: one vault, all of the settings, all of the factory; the same through the lens."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner
from web3.contract import Contract

from offchain.chain.vault import read_vault
from offchain.cli import app
from offchain.demo.world import World
from offchain.policy import Mode, nav
from offchain.show.status import overview_report, overview_tables
from tests.support.demo_vault import FIRST, funded_vault


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    with funded_vault() as (world, vault):
        world.create_vault(Mode.CALENDAR, "Second", "TWO", FIRST)
        yield world, vault


@pytest.fixture(autouse=True)
def _own_settings(world: World, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVENKEEL_RPC_URL", world.chain.url)


def status(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["status", *arguments])


def test_all_vaults_of_the_settings_with_and_without_the_lens(
    world: World, vault: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = world.vaults[1]
    monkeypatch.setenv("EVENKEEL_VAULTS", json.dumps([vault.address, second.address]))
    told = json.loads(status("--json").stdout)
    values = [nav(read_vault(world.chain.web3, one.address).state) / 1e18 for one in (vault, second)]
    assert [(row["vault"], row["nav_usd"]) for row in told["vaults"]] == list(
        zip((vault.address, second.address), values, strict=True)
    )
    assert told["nav_usd"] == pytest.approx(sum(values))
    symbols = {token.functions.symbol().call() for token in world.tokens}
    assert {row["furthest"]["symbol"] for row in told["vaults"]} <= symbols
    lens = world.chain.deploy(world.deployer, "VaultLens").address
    monkeypatch.setenv("EVENKEEL_LENS", lens)
    again = json.loads(status("--json").stdout)
    assert again["vaults"] == told["vaults"]
    monkeypatch.setenv("COLUMNS", "120")
    table = status().stdout
    assert "2 vaults" in table and vault.address in table and second.address in table
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in status().stdout  # addresses are folded, nothing is cut


def test_all_vaults_of_the_factory(world: World, vault: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_FACTORY", world.factory.address)
    told = json.loads(status("--json").stdout)
    assert [row["vault"] for row in told["vaults"]] == [one.address for one in world.vaults]


def test_nothing_to_show_names_the_settings(world: World) -> None:
    result = status()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: VAULT: name one, or set vaults or factory (in evenkeel.toml)\n"
    assert "--watch: a table for people" in status("--json", "--watch").stderr


def test_one_vault_is_shown_as_before(world: World, vault: Contract) -> None:
    told = json.loads(status(vault.address, "--json").stdout)
    assert (told["vault"], len(told["assets"])) == (vault.address, 4)
    shown = status(vault.address, "--watch").stdout  # no terminal: once
    assert "session 0 closed" in shown and "loss budget" in shown


def test_a_row_says_what_is_wrong(world: World, vault: Contract) -> None:
    snapshot = read_vault(world.chain.web3, vault.address)
    report = overview_report([vault.address, "0xdead"], [snapshot, None], {})
    assert [row["readable"] for row in report["vaults"]] == [True, False]
    shown = io.StringIO()
    Console(file=shown, width=140).print(overview_tables(report))
    assert "cannot be read" in shown.getvalue()
