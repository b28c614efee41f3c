"""What a user gets wrong in a setting is one line that names it and says what would be valid; never a stack trace."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from offchain.cli import app
from offchain.extras import EXTRAS
from tests.support.evm import ROOT

VAULT = "0x52908400098527886E0F7030069857D2E4169EE7"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETH_RPC_URL", raising=False)
    return tmp_path


def said(*arguments: str) -> str:
    """The one line on stderr of a command that ends with 2 and prints nothing else."""
    result: Result = CliRunner().invoke(app, list(arguments))
    assert (result.exit_code, result.stdout) == (2, ""), (result.stderr, result.exception)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").strip()


# ---------------------------------------------------------------- a database


@pytest.mark.parametrize("setting", ["database", "api_database"])
@pytest.mark.parametrize(
    "value", ["postgresql:u:SEKRET@host/x", "u:SEKRET@host", "postgresql//u:SEKRET@host/x", "SEKRET.sqlite"]
)
def test_a_database_that_is_no_address_is_neither_shown_nor_made(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv(f"EVENKEEL_{setting.upper()}", value)
    words = said("keeper", "status", "--once")
    assert words.startswith(
        f"settings: {setting}: not an address such as postgresql+psycopg://user@host/name"
    )
    assert "SEKRET" not in words and not list(folder.iterdir())


@pytest.mark.parametrize("value", ["postgresql:u:SEKRET@host/x", "u:SEKRET@host"])
def test_a_database_in_an_option_is_neither_shown_nor_made(value: str, folder: Path) -> None:
    words = said("audit", "history", VAULT, "--chain-id", "1", "--database", value)
    assert words == "database: not an address such as postgresql+psycopg://user@host/name"
    assert not list(folder.iterdir())


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("max_fee_gwei = inf", "max_fee_gwei: Input should be less than or equal to 1000000000"),
        ("max_tip_gwei = nan", "max_tip_gwei: Input should be less than or equal to 1000000000"),
        ("max_fee_gwei = 1e300", "max_fee_gwei: Input should be less than or equal to 1000000000"),
        ("rpc_timeout_seconds = inf", "rpc_timeout_seconds: Input should be less than or equal to 3600"),
        (
            "receipt_timeout_seconds = nan",
            "receipt_timeout_seconds: Input should be less than or equal to 86400",
        ),
        ("poll_seconds = inf", "poll_seconds: Input should be less than or equal to 3600"),
        ("low_gas_multiple = nan", "low_gas_multiple: Input should be less than or equal to 1000000"),
        (
            "interval_seconds = 10000000000000000000",
            "interval_seconds: Input should be less than or equal to 3",
        ),
        ("v3_fees = [500, -5]", "v3_fees.1: Input should be greater than 0"),
        ("v3_fees = [1000000]", "v3_fees.0: Input should be less than 1000000"),
        ('signer_url = "localhost:9000/SEKRET"', "signer_url: not an http:// or https:// address"),
        ('private_rpc_url = "wss://relay/SEKRET"', "private_rpc_url: not an http:// or https:// address"),
        ('alert_webhook_url = "https:///SEKRET"', "alert_webhook_url: not an http:// or https:// address"),
        ('ws_url = "http://node/SEKRET"', "ws_url: not a ws:// or wss:// address"),
        ('ws_url = "ws://"', "ws_url: not a ws:// or wss:// address"),
        ("rpc_url = 5", "rpc_url: Input should be a valid string"),
        ('rpc_urls = ["http://one"]\nrpc_quorum = 2', "rpc_quorum: 2 is more than there are rpc_urls"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_can(line: str, words: str, folder: Path) -> None:
    (folder / "evenkeel.toml").write_text(line)
    found = said("config", "check")
    assert found.startswith(f"settings: {words}") and "SEKRET" not in found


@pytest.mark.parametrize(
    "line", ['ws_url = "wss://node:8546/key"', 'database = "sqlite:///j.sqlite"', "v3_fees = [1]"]
)
def test_a_value_that_can_be_is_taken(line: str, folder: Path) -> None:
    (folder / "evenkeel.toml").write_text(line)
    result = CliRunner().invoke(app, ["config", "show", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[line.split()[0]]["from"] == "evenkeel.toml"


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("v2_factories", "0x00", 'a list such as ["…", "…"]'),
        ("v3_fees", "100,500", "a list such as [100, 500, 3000, 10000]"),
        ("market_symbols", "ETH/USD", 'a table such as {"…": "…"}'),
        ("allowed_tokens", "0x00", 'a list such as ["…", "…"]'),
    ],
)
def test_a_list_in_a_variable_is_written_in_json(
    name: str, value: str, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"EVENKEEL_{name.upper()}", value)
    assert said("config", "check") == f"settings: {name}: not {example}"


# ---------------------------------------------------------------- files


def test_a_file_that_is_no_text_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "evenkeel.toml").write_bytes(b'fleet_worker = "J\xfcrgen"\n')
    assert said("config", "show") == "evenkeel.toml: not UTF-8 text: save it as UTF-8"
    (folder / "evenkeel.toml").unlink()
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "evenkeel_database").write_bytes(b"postgresql://J\xfcrgen")
    monkeypatch.setenv("EVENKEEL_SECRETS_DIR", str(secrets))
    assert said("config", "show") == f"{secrets / 'evenkeel_database'}: not UTF-8 text: save it as UTF-8"


# ---------------------------------------------------------------- packages that are not there


@pytest.mark.parametrize(
    ("module", "arguments", "install"),
    [
        ("procrastinate", ("fleet", "init"), "'evenkeel[fleet]'"),
        ("somebody_s", ("fleet", "init"), "somebody_s"),
    ],
)
def test_a_package_that_is_missing_is_named_with_how_to_get_it(
    module: str, arguments: tuple[str, ...], install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.part")

    monkeypatch.setattr("offchain.cli.fleet.settings_of", missing)
    assert said(*arguments) == f"{module} is not installed: pip install {install}"


def test_a_fleet_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    monkeypatch.delitem(sys.modules, "offchain.keeper.fleet", raising=False)
    assert said("fleet", "init") == "procrastinate is not installed: pip install 'evenkeel[fleet]'"


def test_every_extra_s_packages_are_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {"scikit_learn": "sklearn"}
    for extra, packages in extras.items():
        for package in packages:
            name = package.split(">")[0].split("=")[0].split("[")[0].replace("-", "_")
            module = modules.get(name, name)
            by = EXTRAS.get(module)
            known = by == extra or any(package.split(">")[0] in one for one in extras.get(by, []))
            assert known or module == "httpx", (extra, package)
