"""`evenkeel keeper …`: look once, run, what runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from offchain.cli.common import (
    EXIT_FAILED,
    ConfigOption,
    DryRunOption,
    JsonOption,
    RpcOption,
    VaultOption,
    connect,
    plain_errors,
    settings_of,
)

__all__ = ["app"]

app = typer.Typer(help="Watch a vault and rebalance it when its rules allow.", no_args_is_help=True)


@app.command(epilog="Example:  evenkeel keeper once --vault 0xVault… --dry-run")
@plain_errors
def once(
    vault: VaultOption = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look at the vault once; rebalance it if its rules allow; say what was done and why.

    Exit code 0: rebalanced, simulated in a dry run, or nothing to do. 1: a rebalance was due and failed.
    """
    from offchain.keeper.loop import from_settings

    settings = settings_of(config, rpc_url=rpc_url, vault=vault, dry_run=dry_run or None)
    with from_settings(settings, connect(settings)) as keeper:
        outcome = keeper.once()
    result = outcome.summary()
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo("  ".join(str(result[key]) for key in ("status", "tx_hash", "reason") if result[key]))
    if outcome.failed:
        raise typer.Exit(EXIT_FAILED)


@app.command(
    epilog="Example:  EVENKEEL_CRON='*/5 * * * *' evenkeel keeper run --vault 0xVault…   (stop it with SIGTERM)"
)
@plain_errors
def run(
    vault: VaultOption = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
    interval_seconds: Annotated[
        int | None,
        typer.Option("--interval-seconds", min=1, help="Seconds between looks."),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", help="Five-field cron line instead of the interval; setting: timezone."),
    ] = None,
) -> None:
    """Keep the vaults on target until SIGTERM or Ctrl-C: `vault`, or all of `vaults`, each on its own schedule.

    A look at a time of the schedule; also at each new block (on_block) or when a price moved (on_price). What was
    missed while it did not run is made up for once. Node outages are waited out.
    """
    from offchain.keeper.schedule import run_settings

    settings = settings_of(
        config,
        rpc_url=rpc_url,
        vault=vault,
        dry_run=dry_run or None,
        interval_seconds=interval_seconds,
        cron=cron,
    )
    run_settings(settings, connect(settings, check=False))


@app.command("status", epilog="Example:  evenkeel keeper status --journal evenkeel.sqlite --once")
@plain_errors
def keeper_status(
    vault: VaultOption = None,
    config: ConfigOption = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The keeper's journal \\[setting: journal].")
    ] = None,
    as_json: JsonOption = False,
    show_once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    every_seconds: Annotated[
        float, typer.Option("--every-seconds", min=0.2, help="Seconds between two readings.")
    ] = 2,
) -> None:
    """What the keepers of a journal are doing: last look, drift, transactions, alerts. A live table, until Ctrl-C.

    Read from the journal's database; no node is asked. Without a terminal, and with --json, it is printed once.
    """
    from offchain.show.keeper_status import open_journal, print_status, show_live, status_report

    settings = settings_of(config, vault=vault, journal=journal)
    engine = open_journal(settings)
    console = Console(highlight=False)
    try:
        if as_json:
            typer.echo(json.dumps(status_report(engine, settings.vault), indent=2))
        elif show_once or not console.is_terminal:
            print_status(status_report(engine, settings.vault), console)
        else:
            show_live(lambda: status_report(engine, settings.vault), console, every_seconds)
    finally:
        engine.dispose()
