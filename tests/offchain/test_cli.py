"""The command line without a chain: help that teaches, errors in one line, results apart from talk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from offchain import __version__
from offchain.audit.verify import Report
from offchain.cli import app

VAULT = "0x52908400098527886E0F7030069857D2E4169EE7"
ROOT = Path(__file__).resolve().parents[2]
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
    "command",
    [
        ["status"],
        ["plan"],
        ["keeper", "once"],
        ["keeper", "run"],
        ["fleet", "work"],
        ["filler"],
        ["audit", "verify"],
        ["tax", "report"],
        ["config", "check"],
        ["serve"],
        ["demo"],
    ],
)
def test_help_shows_an_example(command: list[str]) -> None:
    result = evenkeel(*command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status", "0x12", "--rpc-url", NOWHERE], 2, "VAULT: '0x12' is not an address"),
        (["status", VAULT[:-1] + "e", "--rpc-url", NOWHERE], 2, "has a wrong checksum"),
        (["status", VAULT, "--rpc-url", NOWHERE], 2, "rpc_url: no Ethereum node answers at " + NOWHERE),
        (["status", VAULT, "--rpc-url", "localhost"], 2, "rpc_url: 'localhost' is not an http://"),
        (["status", VAULT, "--config", "none.toml"], 2, "config: no such file: none.toml"),
        (["audit", "verify", "hello", "--rpc-url", NOWHERE], 2, "VAULT: 'hello' is not an address"),
        (["plan", "0x12"], 2, "VAULT: '0x12' is not an address"),
        (["plan", VAULT], 2, "v2_factories, v3_factories: name at least one"),
        (["plan", VAULT, "--dry-run"], 2, "executor: not set, and --dry-run needs it"),
        (["keeper", "once", "--vault", "0x12"], 2, "vault: '0x12' is not an address"),
        (["keeper", "once", "--rpc-url", NOWHERE], 2, "rpc_url"),
        (["keeper", "run", "--rpc-url", NOWHERE], 2, "vault, executor: not set"),
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

    from offchain.chain.errors import HeldError
    from offchain.keeper.loop import from_settings
    from offchain.settings import load_settings

    write_settings(f'v2_factories = ["{VAULT}"]\njournal = "{tmp_path / "j.sqlite"}"')
    with (
        from_settings(load_settings(), Web3()),
        pytest.raises(HeldError, match="journal: another keeper is using"),
        from_settings(load_settings(), Web3()),
    ):
        pass


@pytest.mark.parametrize(
    ("module", "command"),
    [("matplotlib", "pip install '.[demo]'\n"), ("rich.progress", "pip install .\n")],
)
def test_demo_names_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str, command: str) -> None:
    for name in ("offchain.demo.run", "offchain.demo.chart"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # as if it could not be imported
    result = evenkeel("demo", "--days", "5")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: demo: {module.partition('.')[0]} is missing")
    assert result.stderr.endswith(command)


def test_demo_names_a_folder_that_cannot_be_written() -> None:
    result = evenkeel("demo", "--days", "5", "--out", "/proc/nope")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --out: cannot write in /proc/nope")


def test_help_keeps_what_stands_in_brackets() -> None:
    result = CliRunner().invoke(app, ["keeper", "once", "--help"], env={"COLUMNS": "140"})
    assert "[setting: vault]" in result.stdout
    assert "[default: evenkeel.toml]" in result.stdout


def report(entries: int, first_break: str | None) -> Report:
    head = "0x" + "11" * 32
    return Report(VAULT, 9, head, head, None if first_break else head, entries, first_break)


@pytest.mark.parametrize(
    ("found", "code", "message"),
    [
        (report(1, None), 0, "verified: 1 entry up to block 9"),
        (
            report(0, "kind: no events"),
            2,
            "error: no events since block 5: --from-block must be at or before",
        ),
        (report(2, "does not start with Created"), 1, "Created; --from-block must be at or before"),
        (report(2, "price: altered"), 1, "error: price: altered\n"),
    ],
)
def test_audit_verify_says_what_it_found(
    monkeypatch: pytest.MonkeyPatch, found: Report, code: int, message: str
) -> None:
    monkeypatch.setattr("offchain.cli.audit.connect", lambda settings: None)
    monkeypatch.setattr("offchain.audit.verify_vault", lambda *_: found)
    result = evenkeel("audit", "verify", VAULT, "--from-block", "5")
    assert result.exit_code == code
    assert message in result.output


def test_keeper_run_stays_up_without_a_node_and_stops_on_sigterm(tmp_path: Path) -> None:
    write_settings(f'v2_factories = ["{VAULT}"]')
    command = [sys.executable, "-c", "from offchain.cli import main; main()", "keeper", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "the node is waited for" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 0
    assert "keeper stopped" in rest
    assert "Traceback" not in rest
