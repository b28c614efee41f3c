"""`evenkeel serve` and `evenkeel api …`: the REST API and the page."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from offchain.chain.errors import ConfigError
from offchain.cli.common import (
    ConfigOption,
    JsonOption,
    RpcOption,
    connect,
    fail,
    plain_errors,
    settings_of,
)

__all__ = ["app"]

app = typer.Typer()
api = typer.Typer(help="The REST API's keys.", no_args_is_help=True)
key = typer.Typer(help="Keys for what is not open to all: webhooks and notes.", no_args_is_help=True)
api.add_typer(key, name="key")
app.add_typer(api, name="api")


@app.command(epilog="Example:  evenkeel serve --port 8080 --rpc-url http://127.0.0.1:8545")
@plain_errors
def serve(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen at \\[setting: api_address].")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="Port; 0: a free one \\[setting: api_port]."),
    ] = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the page and the REST API for one chain, until Ctrl-C. Prints the address to open.

    It reads only: it holds no key and signs nothing. Behind a proxy, let the proxy speak TLS.
    """
    need_api()
    from offchain.api.serving import app_from, listening, sending, url_of
    from offchain.api.serving import serve as run

    settings = settings_of(config, rpc_url=rpc_url, api_address=host, api_port=port)
    application, courier = app_from(settings, connect(settings))
    with listening(settings.api_address, settings.api_port) as listener, sending(courier):
        typer.echo(url_of(listener))
        try:
            run(application, listener, settings.api_proxies)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


@key.command(
    "create",
    epilog="Example:  evenkeel api key create --name crm --scope webhooks:read --scope webhooks:write",
)
@plain_errors
def create_key(
    name: Annotated[str, typer.Option("--name", help="Whose it is, for your own list.")],
    scopes: Annotated[list[str], typer.Option("--scope", help="What it may do; several times.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: this once, it is kept as a hash.

    Scopes: notes:read, notes:write, webhooks:read, webhooks:write.
    """
    need_api()
    from offchain.api.serving import store_from
    from offchain.api.store import SCOPES

    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise ConfigError(f"--scope: {unknown[0]!r} is none of {', '.join(SCOPES)}")
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise ConfigError("--name: 1 to 100 printable characters")
    made = store_from(settings_of(config)).create_key(name.strip(), scopes, int(time.time()))
    typer.echo(json.dumps({"key": made}) if as_json else made)


@key.command("list", epilog="Example:  evenkeel api key list --json")
@plain_errors
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The keys, without their secrets."""
    need_api()
    from offchain.api.serving import store_from

    rows = store_from(settings_of(config)).all_keys()
    if as_json:
        shown = ("id", "name", "scopes", "created_at", "revoked_at")
        typer.echo(json.dumps([{name: getattr(row, name) for name in shown} for row in rows], indent=2))
        return
    table = Table("id", "name", "scopes", "state", box=None)
    for row in rows:
        state = "revoked" if row.revoked_at else "good"
        table.add_row(row.id, escape(row.name), " ".join(row.scopes), state)
    Console(soft_wrap=True).print(table)


@key.command("revoke", epilog="Example:  evenkeel api key revoke 1f2e3d4c5b6a")
@plain_errors
def revoke_key(
    number: Annotated[str, typer.Argument(metavar="ID", help="As `evenkeel api key list` shows it.")],
    config: ConfigOption = None,
) -> None:
    """End a key at once, and its webhooks with it."""
    need_api()
    from offchain.api.serving import store_from

    if not store_from(settings_of(config)).revoke_key(number, int(time.time())):
        fail(f"ID: no key {number!r} that is not revoked")
    typer.echo(f"revoked {number}", err=True)


def need_api() -> None:
    """ConfigError where the packages of the extra `api` are not installed."""
    try:
        import fastapi  # noqa: F401
        import limits  # noqa: F401
        import standardwebhooks  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        missing = (error.name or "a package").partition(".")[0]
        raise ConfigError(f"serve: {missing} is missing; install evenkeel[api]") from None
