"""`evenkeel keeper …`: look once, run, what runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from web3.exceptions import ContractLogicError, Web3RPCError

from offchain.cli.common import (
    EXIT_FAILED,
    ConfigOption,
    DryRunOption,
    JsonOption,
    RpcOption,
    VaultArgument,
    VaultOption,
    connect,
    fail,
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
    from offchain.keeper.check import need_contracts
    from offchain.keeper.loop import from_settings

    settings = settings_of(config, rpc_url=rpc_url, vault=vault, dry_run=dry_run or None)
    web3 = connect(settings)
    need_contracts(settings, web3)
    with from_settings(settings, web3) as keeper:
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
    from offchain.keeper.check import need_contracts
    from offchain.keeper.schedule import run_settings

    settings = settings_of(
        config,
        rpc_url=rpc_url,
        vault=vault,
        dry_run=dry_run or None,
        interval_seconds=interval_seconds,
        cron=cron,
    )
    web3 = connect(settings, check=False)
    need_contracts(settings, web3)
    run_settings(settings, web3)


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

    Read from the journal's database, which is not changed; no node is asked. Without a terminal, and with --json, it is
    printed once. The table shortens addresses to 0x1234…abcd and long reasons; says of the asset that has used most of
    its band how far it is off; and how many rebalances there were, and how long ago the last. --json has all in full.
    """
    from offchain.show.console import console_of
    from offchain.show.keeper_status import open_journal, print_status, status_report, tables
    from offchain.show.live import show_live

    settings = settings_of(config, vault=vault, journal=journal)
    engine = open_journal(settings)
    console = console_of()
    try:
        if as_json:
            typer.echo(json.dumps(status_report(engine, settings.vault), indent=2))
        elif show_once or not console.is_terminal:
            print_status(status_report(engine, settings.vault), console)
        else:
            show_live(lambda: status_report(engine, settings.vault), tables, console, every_seconds)
    finally:
        engine.dispose()


@app.command(epilog="Example:  evenkeel keeper revoke 0xVault… 0xStolenKeeper… --as 0xGuardian…")
@plain_errors
def revoke(
    vault: VaultArgument,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose key is lost or stolen.")],
    caller: Annotated[
        str | None,
        typer.Option("--as", help="The guardian or admin that will send it \\[default: the admin]."),
    ] = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the call that takes an account's keeper and strategist roles away at once. Nothing is signed or sent.

    The guardian or the admin sends it, from any wallet or Safe: `to` and `data`, no value. It is simulated here.
    Exit code 1: the vault's Timelock would refuse it, or the account has no such role.
    """
    from offchain.chain.contracts import address_of, bind
    from offchain.chain.sender import revert_reason
    from offchain.chain.vault import KEEPER_ROLE, STRATEGIST_ROLE, read_terms

    web3 = connect(settings_of(config, rpc_url=rpc_url))
    where, who = address_of(vault, "VAULT"), address_of(account, "ACCOUNT")
    terms = read_terms(web3, where)
    sender = address_of(caller or terms.admin, "--as")
    call = bind(web3, "Timelock", terms.timelock).functions.drop_role(where, who)
    roles = bind(web3, "Vault", where).functions.roles(who).call()
    refusal = (
        ""
        if roles & (KEEPER_ROLE | STRATEGIST_ROLE)
        else f"{who} is neither keeper nor strategist of {where}"
    )
    try:
        call.call({"from": sender})
    except (ContractLogicError, Web3RPCError) as error:
        refusal = refusal or f"the Timelock refuses it from {sender}: {revert_reason(error)}"
    made = {"to": terms.timelock, "data": call._encode_transaction_data(), "value": "0", "from": sender}
    if as_json:
        typer.echo(json.dumps({**made, "refusal": refusal or None}, indent=2))
    else:
        for name, value in made.items():
            typer.echo(f"{name:<6}{value}")
    if refusal:
        fail(refusal)
