"""Nothing secret leaves a keeper: settings that are full of secrets, and all that it lets others see.

A keeper runs as a process of its own with the kill switch on; then commands that fail in every way that has an address
or a password in it. What is searched: logs, output, errors, arguments, metrics, health, journal, what the webhook got.
"""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, cast

import click
import pytest
import requests
import typer
from eth_account import Account
from typer.testing import CliRunner
from web3.contract import Contract

from offchain.cli import app
from offchain.demo.localchain import _free_port
from offchain.demo.world import World
from offchain.settings import load_settings
from tests.support.demo_vault import FIRST, funded_vault
from tests.support.evm import ROOT

NAMES = ("password", "node", "relay", "hook", "market", "venue", "database")
CANARIES = {name: f"CANARY{name}f00dbabe" for name in NAMES}
NOWHERE = "http://127.0.0.1:1"
JSON = {"Content-Type": "application/json"}
GIVE_UP_SECONDS = 120  # a keeper that has not said what it should by then is ended, and the test fails


@dataclass
class Server:
    """A node behind an address with a key, and a webhook that refuses what it is told."""

    upstream: str
    url: str = ""
    paths: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)


@contextmanager
def serving(upstream: str) -> Iterator[Server]:
    found, session = Server(upstream), requests.Session()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.paths.add(self.path)
            hook = self.path.startswith("/hook")
            if hook:
                found.told.append(body.decode())
            data = (
                b"no" if hook else session.post(found.upstream, data=body, headers=JSON, timeout=30).content
            )
            self.send_response(400 if hook else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    found.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield found
    finally:
        http.shutdown()
        http.server_close()


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A vault that has to be rebalanced."""
    with funded_vault() as (world, vault):
        world.chain.mine(world.chain.now + 3_600)
        world.set_market(replace(FIRST, prices=(FIRST.prices[0] * 160 // 100, *FIRST.prices[1:])))
        yield world, vault


def secret_settings(world: World, vault: Contract, server: Server, folder: Path) -> dict[str, str]:
    """A file and variables in which everything that can hold a secret holds one; the variables."""
    keystore, password = folder / "key.json", folder / "password"
    key = Account.encrypt(world.keeper.key, CANARIES["password"], kdf="pbkdf2", iterations=10)
    keystore.write_text(json.dumps(key))
    password.write_text(CANARIES["password"] + "\n")
    source = world.pool_source
    options = {"apiKey": CANARIES["market"], "urls": {"api": {"public": NOWHERE, "private": NOWHERE}}}
    values = {
        "vault": vault.address,
        "executor": world.executor.address,
        "hub": world.cash.address,
        "keystore": str(keystore),
        "password_file": str(password),
        "kill_switch": str(folder / "stop"),
        "v2_factories": list(source.v2_factories),
        "v3_factories": list(source.v3_factories),
        "v3_fees": list(source.v3_fees),
        "market_source": "bitstamp",
        "market_when_away": "trade",
        "metrics_port": _free_port(),
        "interval_seconds": 3_600,
        "aggregators": ["0x"],
        "receipt_timeout_seconds": 1,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    token = world.tokens[0].address
    lines += ["[market_symbols]", f'"{token}" = "ETH/USD"', "[aggregator_urls]", f'0x = "{NOWHERE}"']
    lines += ["[market_options]", f'apiKey = "{options["apiKey"]}"']
    lines += ["[market_options.urls.api]", f'public = "{NOWHERE}"', f'private = "{NOWHERE}"']
    (folder / "evenkeel.toml").write_text("\n".join(lines))
    return {
        "EVENKEEL_RPC_URL": f"{server.url}/v3/{CANARIES['node']}",
        "EVENKEEL_PRIVATE_RPC_URL": f"{NOWHERE}/{CANARIES['relay']}",
        "EVENKEEL_ALERT_WEBHOOK_URL": f"{server.url}/hook/{CANARIES['hook']}",
        "EVENKEEL_ZEROX_API_KEY": CANARIES["venue"],
    }


def lines_until(pipe: IO[str], wanted: set[str]) -> str:
    """What the process logs until each of the words was there; it ends with the process at the latest."""
    read = ""
    for line in pipe:
        read += line
        if all(word in read for word in wanted):
            return read
    raise AssertionError(f"the keeper ended before it said all of {wanted}: {read}")


def test_nothing_secret_is_seen(
    built: tuple[World, Contract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, vault = built
    seen: dict[str, str] = {}
    with serving(world.chain.url) as server:
        variables = secret_settings(world, vault, server, tmp_path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("ETH_RPC_URL", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        seen |= a_keeper_that_runs(tmp_path)

        (tmp_path / "stop").unlink()
        seen |= {
            "keeper once": command("keeper", "once"),  # the relay is away
            "keeper status": command("keeper", "status", "--once"),
            "config show": command("config", "show"),
            "config show --json": command("config", "show", "--json"),
            "config check": command("config", "check", "--json", "--send-test-alert"),
            "status": command("status", vault.address),
            "plan": command("plan", vault.address),
        }
        assert "error: private_rpc_url: the relay does not answer" in seen["keeper once"]
        monkeypatch.setenv("EVENKEEL_RPC_URL", f"{NOWHERE}/v3/{CANARIES['node']}")
        seen["no node"] = command("keeper", "once")
        monkeypatch.setenv("EVENKEEL_RPC_URL", f"wrong://{CANARIES['node']}@host/{CANARIES['node']}")
        seen["no address"] = command("keeper", "once")
        (tmp_path / "password").write_text(CANARIES["password"] + " and more")
        monkeypatch.setenv("EVENKEEL_RPC_URL", server.url)
        seen["wrong password"] = command("keeper", "once")
        database = f"postgresql+psycopg://keeper:{CANARIES['database']}@127.0.0.1:1/evenkeel"
        monkeypatch.setenv("EVENKEEL_DATABASE", database)
        seen["no database"] = command("config", "check") + command("config", "show")
        seen["webhook"] = "".join(server.told)
        seen["repr"] = repr(load_settings())

    for file in tmp_path.iterdir():
        if file.name.startswith("evenkeel.sqlite"):
            seen[file.name] = file.read_bytes().decode("latin-1")
    assert "evenkeel.sqlite" in seen and '"kind": "kill_switch"' in seen["webhook"]
    assert {path for path in server.paths if "CANARY" in path} == {  # the secrets were in use
        f"/v3/{CANARIES['node']}",
        f"/hook/{CANARIES['hook']}",
    }
    key = bytes(world.keeper.key).hex()
    secrets = {**CANARIES, "private key": key, "private key, capitals": key.upper()}
    leaks = [
        (where, name) for where, text in seen.items() for name, secret in secrets.items() if secret in text
    ]
    assert leaks == []


def a_keeper_that_runs(folder: Path) -> dict[str, str]:
    """All that can be seen of it from outside, until it was told to stop."""
    (folder / "stop").touch()
    metrics = f"http://127.0.0.1:{load_settings().metrics_port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "offchain.cli", "keeper", "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EVENKEEL_LOG_JSON": "true"},
    )
    watchdog = threading.Timer(GIVE_UP_SECONDS, process.kill)
    try:
        wanted = {"alert not delivered", '"not sent"', "traded without the second market source", '"quote"'}
        assert process.stdout is not None
        watchdog.start()
        read = lines_until(process.stdout, wanted)
        seen = {
            "arguments": Path(f"/proc/{process.pid}/cmdline").read_text(),
            **{
                path: requests.get(metrics + path, timeout=30).text
                for path in ("/metrics", "/healthz", "/readyz")
            },
        }
    finally:
        watchdog.cancel()
        process.terminate()
        rest, _ = process.communicate()
    assert "keeper\0run" in seen["arguments"] and "evenkeel_kill_switch 1.0" in seen["/metrics"]
    return {**seen, "log": read + rest}


def command(*arguments: str) -> str:
    """Everything that it prints."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output + result.stderr


# ---------------------------------------------------------------- passwords


def test_a_password_is_asked_for_at_a_terminal_and_not_shown(tmp_path: Path) -> None:
    account = Account.create()
    keystore = tmp_path / "key.json"
    keystore.write_text(json.dumps(Account.encrypt(account.key, "let me in", kdf="pbkdf2", iterations=10)))
    code = "import sys, pathlib; from offchain.chain.signer import load_account; "
    code += "print(load_account(pathlib.Path(sys.argv[1]), None).address)"
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(keystore)],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    os.close(slave)
    try:
        screen = read_screen(master, "Password of ")
        os.write(master, b"let me in\n")
        screen += read_screen(master, account.address)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "let me in" not in screen and str(keystore) in screen.replace("\r\n", "")


def read_screen(master: int, wanted: str) -> str:
    """What the terminal shows until these words."""
    read = io.BytesIO()
    while wanted not in read.getvalue().decode():
        ready, _, _ = select.select([master], [], [], 120)
        assert ready, f"it does not say {wanted!r}: {read.getvalue()!r}"
        read.write(os.read(master, 4_096))
    return read.getvalue().decode()


def test_no_option_takes_a_secret() -> None:
    """What is on the command line is seen by everybody on the machine, and stays in the shell's history."""

    def options(group: click.Command, path: str = "evenkeel") -> Iterator[tuple[str, str]]:
        for parameter in group.params:
            yield path, str(parameter.name)
        for name, one in getattr(group, "commands", {}).items():
            yield from options(one, f"{path} {name}")

    words = ("password", "secret", "private", "mnemonic", "passphrase", "signer_url", "token_key")
    found = list(options(cast(click.Command, typer.main.get_command(app))))
    assert len(found) > 50
    assert [one for one in found if any(word in one[1] for word in words)] == []
