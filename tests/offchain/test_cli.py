"""The command line without a chain: help that teaches, errors in one line, results apart from talk."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from offchain import __version__
from offchain.cli import app

VAULT = "0x52908400098527886E0F7030069857D2E4169EE7"
NOWHERE = "http://127.0.0.1:1"  # nothing listens there


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETH_RPC_URL", raising=False)


def evenkeel(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_version() -> None:
    result = evenkeel("version")
    assert (result.exit_code, result.stdout) == (0, __version__ + "\n")


@pytest.mark.parametrize(
    "command", [["status"], ["keeper", "once"], ["keeper", "run"], ["audit", "verify"], ["demo"]]
)
def test_help_shows_an_example(command: list[str]) -> None:
    result = evenkeel(*command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status", "0x12", "--rpc-url", NOWHERE], 2, "VAULT: '0x12' is not an address"),
        (["status", VAULT[:-1] + "e", "--rpc-url", NOWHERE], 2, "has a wrong checksum"),
        (["status", VAULT, "--rpc-url", NOWHERE], 2, "rpc_url: no Ethereum node answers at " + NOWHERE),
        (["status", VAULT, "--rpc-url", "localhost"], 2, "rpc_url: 'localhost' is not an http://"),
        (["status", VAULT, "--config", "none.toml"], 2, "config: no such file: none.toml"),
        (["audit", "verify", "hello", "--rpc-url", NOWHERE], 2, "VAULT: 'hello' is not an address"),
        (["keeper", "once", "--vault", "0x12"], 2, "vault: '0x12' is not an address"),
        (["keeper", "once", "--rpc-url", NOWHERE], 2, "rpc_url"),
        (["keeper", "run", "--rpc-url", NOWHERE], 2, "vault, executor, hub: not set"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(arguments: list[str], code: int, message: str) -> None:
    result = evenkeel(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def write_settings(extra: str) -> None:
    Path("evenkeel.toml").write_text(
        f'rpc_url = "{NOWHERE}"\nvault = "{VAULT}"\nexecutor = "{VAULT}"\nhub = "{VAULT}"\n{extra}'
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("", "v2_factories, v3_factories: name at least one"),
        (f'v2_factories = ["{VAULT}"]\nkeystore = "none"', "password_file: needed"),
        (f'v2_factories = ["{VAULT}"]\njournal = "none/journal.sqlite"', "journal: cannot write"),
        (f'v2_factories = ["{VAULT}"]\ncron = "often"', "cron: 'often'"),
        ("typo = 1", "typo: unknown key"),
    ],
)
def test_keeper_run_names_the_setting_to_fix(extra: str, message: str) -> None:
    write_settings(extra)
    result = evenkeel("keeper", "run")
    assert result.exit_code == 2
    assert message in result.stderr


def test_two_keepers_do_not_share_a_journal(tmp_path: Path) -> None:
    from web3 import Web3

    from offchain.keeper.loop import from_settings
    from offchain.settings import load_settings

    write_settings(f'v2_factories = ["{VAULT}"]\njournal = "{tmp_path / "j.sqlite"}"')
    with from_settings(load_settings(), Web3()):
        result = evenkeel("keeper", "run")
    assert result.exit_code == 2
    assert "journal: another keeper is using" in result.stderr


def test_demo_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "offchain.demo.run", None)  # as if it could not be imported
    result = evenkeel("demo", "--days", "5")
    assert result.exit_code == 2
    assert "pip install 'evenkeel[demo]'" in result.stderr
