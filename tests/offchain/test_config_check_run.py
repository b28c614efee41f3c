"""`evenkeel config check` refuses what `keeper run` and `fleet work` would: against a vault on anvil."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner, Result
from web3.contract import Contract

from offchain.cli import app
from offchain.demo.world import World
from offchain.keeper.check import Finding, State
from offchain.keeper.journal import Journal
from tests.support.demo_vault import funded_vault

NOBODY = "0x" + "00" * 19 + "99"


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    with funded_vault() as (world, vault):
        yield world, vault


@pytest.fixture
def settings(
    built: tuple[World, Contract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a keeper of this world needs."""
    world, vault = built
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETH_RPC_URL", raising=False)
    keystore, password = tmp_path / "key.json", tmp_path / "password"
    keystore.write_text(json.dumps(Account.encrypt(world.keeper.key, "hush", kdf="pbkdf2", iterations=10)))
    password.write_text("hush\n")
    for file in (keystore, password):
        file.chmod(0o600)
    source = world.pool_source
    return {
        "rpc_url": world.chain.url,
        "chain_id": world.chain.web3.eth.chain_id,
        "vault": vault.address,
        "executor": world.executor.address,
        "hub": world.cash.address,
        "native_price_usd": 3_000,
        "keystore": str(keystore),
        "password_file": str(password),
        "kill_switch": str(tmp_path / "stop"),
        "v2_factories": list(source.v2_factories),
        "v3_factories": list(source.v3_factories),
        "v3_fees": list(source.v3_fees),
    }


def run(settings: dict[str, Any], *arguments: str) -> Result:
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value is not None]
    Path("evenkeel.toml").write_text("\n".join(lines))
    return CliRunner().invoke(app, ["config", *arguments])


def check(settings: dict[str, Any], *arguments: str) -> tuple[int, list[Finding]]:
    result = run(settings, "check", "--json", *arguments)
    report = json.loads(result.stdout)
    found = [
        Finding(one["what"], State(one["state"]), one["said"], one["setting"] or "")
        for one in report["findings"]
    ]
    assert report["ok"] is (not any(one.state == State.FAILED for one in found))
    return result.exit_code, found


def of(found: list[Finding], what: str) -> list[Finding]:
    return [one for one in found if one.what.startswith(what)]


# ---------------------------------------------------------------- what `keeper run` would refuse


def test_schedules_are_read_as_the_keeper_reads_them(settings: dict[str, Any]) -> None:
    for change, said, fix in (
        ({"cron": "61 * * * *"}, "'61 * * * *' is not a five-field cron line", "cron"),
        (
            {"cron": "0 9 * * *", "timezone": "Mars/Olympus"},
            "'Mars/Olympus' is not an IANA time zone",
            "timezone",
        ),
    ):
        code, found = check(settings | change)
        (one,) = of(found, "schedule")
        assert (code, one.state, one.setting) == (1, State.FAILED, fix) and one.said.startswith(said)
        result = CliRunner().invoke(app, ["keeper", "run"])  # the same
        assert result.exit_code == 2 and result.stderr.startswith(f"error: {fix}: {one.said}")
    (one,) = of(check(settings | {"cron": "0 9 * * 1"})[1], "schedule")
    assert (one.state, one.said) == (State.OK, "0 9 * * 1 UTC")


def test_a_vault_s_own_schedule_is_read(settings: dict[str, Any]) -> None:
    del settings["vault"]
    run(settings, "show")  # writes the file
    tables = "".join(
        f'\n[[vaults]]\naddress = "{NOBODY[:-1]}{i}"\ncron = "{cron}"'
        for i, cron in ((1, "5 * * * *"), (2, "x"))
    )
    Path("evenkeel.toml").write_text(Path("evenkeel.toml").read_text() + tables)
    report = json.loads(CliRunner().invoke(app, ["config", "check", "--json"]).stdout)
    found = {one["what"]: (one["state"], one["setting"]) for one in report["findings"]}
    assert found[f"schedule of vault {NOBODY[:-1]}1"] == ("ok", None)
    assert found[f"schedule of vault {NOBODY[:-1]}2"] == ("failed", "cron")


@pytest.mark.parametrize("setting", ["journal", "database"])
def test_a_journal_of_a_newer_program_is_refused(settings: dict[str, Any], setting: str) -> None:
    Journal(Path("newer.sqlite")).close()
    with closing(sqlite3.connect("newer.sqlite")) as file, file:
        file.execute("update alembic_version set version_num = '9999'")
    named = "newer.sqlite" if setting == "journal" else "sqlite:///newer.sqlite"
    code, found = check(settings | {setting: named})
    (one,) = of(found, "database")
    assert (code, one.state, one.setting) == (1, State.FAILED, setting)
    assert "written by a newer evenkeel (schema 9999): upgrade the program" in one.said


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("equal", "prices.csv", "equal is made; 3 rows of AAA, BBB; every 86400 s"),
        ("no-such", "prices.csv", "strategy: 'no-such' is not known; known are "),
        ("mine.py:Mine", "prices.csv", "strategy: mine.py: there is no such file"),
        ("equal", "nowhere.csv", "nowhere.csv"),
    ],
)
def test_a_strategy_is_made_and_its_files_are_read(
    settings: dict[str, Any], name: str, path: str, said: str
) -> None:
    Path("prices.csv").write_text("date,AAA,BBB\n2026-01-01,1,2\n2026-01-02,1,2\n2026-01-03,1,3\n")
    vault = settings.pop("vault")
    run(settings, "show")
    table = (
        f'\n[[vaults]]\naddress = "{vault}"\n[vaults.strategy]\nname = "{name}"\n'
        f'data = {{ source = "csv", path = "{path}" }}\n'
    )
    Path("evenkeel.toml").write_text(Path("evenkeel.toml").read_text() + table)
    report = json.loads(CliRunner().invoke(app, ["config", "check", "--json"]).stdout)
    (one,) = [one for one in report["findings"] if one["what"] == f"strategy of vault {vault}"]
    state, setting = ("ok", None) if "is made" in said else ("failed", "vaults.strategy")
    assert (one["state"], one["setting"]) == (state, setting) and said in one["said"], one


def test_new_blocks_over_a_web_socket(settings: dict[str, Any]) -> None:
    here = settings["rpc_url"].replace("http", "ws")
    for url, state in ((here, State.OK), ("ws://127.0.0.1:1/key-1234", State.WARNING)):
        code, found = check(settings | {"ws_url": url})
        (one,) = of(found, "new blocks")
        assert (code, one.state) == (0, state) and "key-1234" not in str(found)


def test_contracts_of_filler_and_zap_that_are_others(
    settings: dict[str, Any], built: tuple[World, Contract]
) -> None:
    other = built[0].executor.address
    code, found = check(settings | {"auction": NOBODY, "taker": other, "zap": other})
    failed = {(one.what, one.setting): one.said for one in found if one.state == State.FAILED}
    assert code == 1 and set(failed) == {(name, name) for name in ("auction", "taker", "zap")}
    assert failed["auction", "auction"].startswith(
        f"{NOBODY} does not answer grace_seconds(): not the Auction"
    )


def test_of_a_factory_the_vaults_are_looked_at_that_the_account_may_keep(
    settings: dict[str, Any], built: tuple[World, Contract]
) -> None:
    world, vault = built
    del settings["vault"]
    fleet = settings | {"factory": world.factory.address}
    code, found = check(fleet)
    account = world.keeper.address
    said = [one.said for one in of(found, "registry")]
    assert said == [
        f"{world.factory.address} has 1 vaults",
        f"{account} has the keeper role of 1 of them; looked at here: 1",
    ]
    assert "all prices of its oracle are usable" in [one.said for one in of(found, f"vault {vault.address}")]
    (queue,) = of(found, "queue")
    assert (code, queue.state, queue.setting) == (1, State.FAILED, "database")
    assert queue.said.startswith("a fleet needs PostgreSQL")
    stranger = fleet | {"keystore": None, "password_file": None, "simulate_as": NOBODY}
    *_, last = of(check(stranger)[1], "registry")
    assert last.state == State.FAILED and last.said == f"{NOBODY} has the keeper role of 0 of them"
    (one,) = of(check(fleet | {"factory": vault.address})[1], "registry")
    assert (one.state, one.setting) == (State.FAILED, "factory") and "not a VaultFactory?" in one.said


def test_a_lens_that_is_another_contract(settings: dict[str, Any], built: tuple[World, Contract]) -> None:
    (one,) = of(check(settings | {"lens": built[0].cash.address})[1], "lens")
    assert (one.state, one.setting) == (
        State.FAILED,
        "lens",
    ) and "is not this version's VaultLens" in one.said


# ---------------------------------------------------------------- what a deployment would be


@pytest.mark.parametrize("signs", [True, False])
def test_a_dry_deployment_of_a_taker_says_what_would_be_and_sends_nothing(
    settings: dict[str, Any], built: tuple[World, Contract], signs: bool
) -> None:
    web3, owner = built[0].chain.web3, built[0].keeper.address
    before = web3.eth.block_number
    nobody = {"keystore": None, "password_file": None}
    run(settings if signs else settings | nobody | {"simulate_as": owner}, "show")  # writes the file
    result = CliRunner().invoke(app, ["filler", "--deploy", "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["dry_run"], found["owner"]) == (True, owner)
    assert web3.eth.block_number == before and web3.eth.get_code(found["taker"]) == b""
    words = CliRunner().invoke(app, ["filler", "--deploy", "--dry-run"]).stdout
    assert f"would deploy a Taker of {owner} at {found['taker']}: {found['gas']} gas" in words
    if signs:
        result = CliRunner().invoke(app, ["filler", "--deploy", "--json"])
        made = json.loads(result.stdout)
        receipt = web3.eth.get_transaction_receipt(made["tx_hash"])
        assert (made["taker"], receipt["gasUsed"] <= found["gas"]) == (found["taker"], True)
        price = receipt["gasUsed"] * receipt["effectiveGasPrice"]
        assert price < Decimal(found["most_native"]) * 10**18
        return
    run(settings | nobody, "show")
    result = CliRunner().invoke(app, ["filler", "--deploy", "--dry-run"])
    assert result.exit_code == 2 and result.stderr.startswith(
        "error: keystore, account, signer_url or simulate_as: "
    )
