"""`evenkeel config …`: what the settings are, whether they work, an example of all of them."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Table

from offchain.cli.common import EXIT_FAILED, ConfigOption, JsonOption, RpcOption, plain_errors, settings_of
from offchain.settings import SECRETS_FOLDER, TOML_FILE, Settings, StrategySettings, VaultSettings
from offchain.show.console import console_of

if TYPE_CHECKING:
    from offchain.keeper.check import Finding

__all__ = ["app", "example_file"]

SET = "set, not shown"
ADDRESSES = ("rpc_url", "rpc_urls", "aggregator_urls")  # shown without what may be a key
UNSHOWN = ("market_options",)  # may hold a key
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}
SECTIONS = {  # of the example, by the first setting in each
    "rpc_url": "Nodes",
    "vault": "What is kept on target, and with what",
    "keystore": "Who signs: one of keystore, account and signer_url; without one nothing is sent",
    "v2_factories": "Where is traded",
    "allowed_targets": "Sanity before a trade",
    "interval_seconds": "When",
    "deadline_seconds": "Transactions",
    "private_rpc_url": "A private relay",
    "database": "A database for several keepers",
    "auction": "The filler: other people's vaults, at auctions",
    "journal": "Journal and log, where no database is set",
    "metrics_port": "Seen from outside",
    "fleet_tick_seconds": "A fleet",
    "lens": "Contracts that save requests and transactions",
    "api_address": "The API and its page",
}

app = typer.Typer(help="See, check and write the settings.", no_args_is_help=True)


@app.command(epilog="Example:  evenkeel config check --config evenkeel.toml --send-test-alert")
@plain_errors
def check(
    config: ConfigOption = None,
    rpc_url: RpcOption = None,
    send_test_alert: Annotated[
        bool, typer.Option("--send-test-alert", help="Post a test message to alert_webhook_url.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try what the settings name: nodes, key, vaults, roles, executor, pools, database, port. Says what is missing.

    Nothing is signed or sent. Exit code 0: the keeper can run; a warning is no failure. 1: something that it needs
    is missing. 2: a setting is wrong.
    """
    from offchain.keeper.check import State
    from offchain.keeper.check import check as check_all

    found = check_all(settings_of(config, rpc_url=rpc_url), send_test_alert=send_test_alert)
    failed = sum(one.state == State.FAILED for one in found)
    if as_json:
        rows = [
            {"what": one.what, "state": str(one.state), "said": one.said, "setting": one.setting or None}
            for one in found
        ]
        typer.echo(json.dumps({"ok": not failed, "findings": rows}, indent=2))
    else:
        _print(found)
        warnings = sum(one.state == State.WARNING for one in found)
        typer.echo(f"{failed} failed, {warnings} warnings, {len(found) - failed - warnings} ok")
    if failed:
        raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Example:  evenkeel config show --json")
@plain_errors
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every setting and where it comes from. What may be a secret is not shown."""
    settings = settings_of(config)
    rows = list(_rows(settings, config or Path(TOML_FILE)))
    if as_json:
        typer.echo(
            json.dumps({name: {"value": value, "from": source} for name, value, source in rows}, indent=2)
        )
        return
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, value, source in rows:
        style = "dim" if source == "default" else ""
        table.add_row(name, "-" if value is None else _plain_text(value), source, style=style)
    console_of(markup=False).print(table)


@app.command(epilog="Example:  evenkeel config example > evenkeel.toml")
@plain_errors
def example() -> None:
    """Print an evenkeel.toml with every setting, its default and one line on each."""
    typer.echo(example_file(), nl=False)


def example_file() -> str:
    """Every setting as a comment with its default, TOML."""
    lines = [
        "# evenkeel.toml: every setting with its default. Remove the # of those that you change.",
        "# Each is also a variable, EVENKEEL_ and the name in capitals, which comes before this file. What holds a",
        "# password or a key belongs in a variable or in a file of its own that only the keeper can read.",
        "# Then: evenkeel config check",
    ]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines += ["", f"# ---- {SECTIONS[name]}"]
        default = field.get_default(call_default_factory=True)
        value = f" {_toml(default)}" if default is not None else ""
        lines += ["", f"# {_sentence(field.description or '')}", f"# {name} ={value}"]
    return "\n".join([*lines, *_table_of_a_vault()]) + "\n"


def _table_of_a_vault() -> list[str]:
    """The tables come last, as TOML wants it."""
    lines = [
        "",
        "# ---- One of several vaults, with settings of its own; what is left out is as above. Repeat the table.",
        "",
        "# [[vaults]]",
        '# address = "0x…"',
    ]
    for name in VaultSettings.model_fields:
        if name not in ("address", "strategy"):
            lines.append(f"# {name} =")
    lines += [
        "",
        "# A strategy that moves this vault's targets, as far as its rules let it.",
        "# [vaults.strategy]",
    ]
    for name, field in StrategySettings.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = f" {_toml(default)}" if default is not None else ""
        lines.append(f"# {name} ={value}  # {field.description}")
    return lines


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _toml(value: Any) -> str:
    """A default as TOML writes it; JSON's spelling is the same for these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()  # a default is no secret
    if isinstance(value, Path):
        value = str(value)
    if value == {}:
        return "{}"
    return json.dumps(value, ensure_ascii=False)


def _print(found: list[Finding]) -> None:
    table = Table("", "what", "found", "setting to fix", box=None, pad_edge=False)
    for one in found:
        state = str(one.state)
        table.add_row(
            f"[{COLOURS[state]}]{state}[/]", *(_escaped(t) for t in (one.what, one.said, one.setting))
        )
    console_of().print(table)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _rows(settings: Settings, path: Path) -> Iterator[tuple[str, Any, str]]:
    """(name, value fit to be shown, where it comes from)."""
    in_file = tomllib.loads(path.read_text()) if path.is_file() else {}
    for name in type(settings).model_fields:
        yield name, _shown(name, getattr(settings, name)), _source(name, in_file, path)


def _source(name: str, in_file: dict[str, Any], path: Path) -> str:
    variables = [f"EVENKEEL_{name.upper()}", *(["ETH_RPC_URL"] if name == "rpc_url" else [])]
    given = {variable.upper() for variable in os.environ}
    own, *others = [variable in given for variable in variables]
    if own:
        return variables[0]
    if any(others) and name not in in_file:
        return variables[1]
    folder = os.environ.get(SECRETS_FOLDER)
    if folder and (Path(folder) / variables[0].lower()).is_file():
        return str(Path(folder) / variables[0].lower())
    return str(path) if name in in_file else "default"


def _shown(name: str, value: Any) -> Any:
    """The value in JSON; of addresses only the host, of secrets nothing."""
    from offchain.chain.rpc_rules import hidden

    if name in ADDRESSES and not isinstance(value, dict):
        urls = [
            hidden(url.get_secret_value() if isinstance(url, SecretStr) else url)
            for url in (value if isinstance(value, list) else [value])
        ]
        return urls if isinstance(value, list) else urls[0]
    if isinstance(value, SecretStr) or (name in UNSHOWN and value):
        return SET
    if name in ADDRESSES:
        return {key: hidden(url) for key, url in value.items()}
    if isinstance(value, list):
        return [_shown(name, one) for one in value]
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def _plain_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
