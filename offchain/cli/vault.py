"""`evenkeel status`, `plan` and `costs`: what one vault is, would trade, has paid."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from web3 import Web3

from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError
from offchain.cli.common import (
    EXIT_FAILED,
    ConfigOption,
    JsonOption,
    RpcOption,
    VaultArgument,
    connect,
    plain_errors,
    settings_of,
)

if TYPE_CHECKING:  # a command loads what it needs, so that --help is quick
    from offchain.chain.vault import Snapshot
    from offchain.keeper.market import Observed
    from offchain.keeper.preview import Preview
    from offchain.keeper.rehearsal import Simulation
    from offchain.settings import Settings
    from offchain.show.names import Names

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog="Example:  evenkeel status 0xVault… --rpc-url http://127.0.0.1:8545 --json   or   evenkeel status --watch"
)
@plain_errors
def status(
    vault: Annotated[
        str | None,
        typer.Argument(
            metavar="[VAULT]", help="Address of the vault \\[default: all of the settings vaults or factory]."
        ),
    ] = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="A live table, until Ctrl-C.")] = False,
    every_seconds: Annotated[
        float, typer.Option("--every-seconds", min=0.2, help="Seconds between two readings, with --watch.")
    ] = 12,
) -> None:
    """Show a vault's weights, targets, bands and session; without VAULT all your vaults, a row each."""
    from offchain.show.live import show_live
    from offchain.show.status import overview_tables, vault_tables

    settings = settings_of(config, rpc_url=rpc_url)
    address = None if vault is None else address_of(vault, "VAULT")
    if as_json and watch:
        raise ConfigError("--watch: a table for people; leave out --json")
    web3 = connect(settings)
    read = _one(web3, settings, address) if address else _many(web3, settings)
    tables = vault_tables if address else overview_tables
    console = Console(highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(read(), indent=2))
    elif watch and console.is_terminal:
        show_live(read, tables, console, every_seconds)
    else:
        console.print(tables(read()))


def _one(web3: Web3, settings: Settings, vault: str) -> Callable[[], dict[str, Any]]:
    """What reads one vault."""
    from offchain.chain.lens import read_one
    from offchain.chain.vault import read_terms, symbols
    from offchain.show.status import status_report

    named = cache(lambda tokens: symbols(web3, list(tokens)))
    return lambda: status_report(
        read_one(web3, settings.lens, vault), read_terms(web3, vault), lambda tokens: named(tuple(tokens))
    )


def _many(web3: Web3, settings: Settings) -> Callable[[], dict[str, Any]]:
    """What reads all vaults that the settings name, at one block."""
    from offchain.chain.lens import read_vaults
    from offchain.chain.registry import vaults_of
    from offchain.chain.vault import latest_block, read_vault, symbols
    from offchain.show.status import overview_report

    listed = [kept.address for kept in settings.kept()]
    if not listed and settings.factory:
        listed = vaults_of(web3, settings.factory)
    if not listed:
        raise ConfigError("VAULT: name one, or set vaults or factory (in evenkeel.toml)")
    names: dict[str, str] = {}

    def read() -> dict[str, Any]:
        at = latest_block(web3)
        found: list[Snapshot | None] = (
            read_vaults(web3, settings.lens, listed, at)
            if settings.lens
            else [read_vault(web3, vault, at) for vault in listed]
        )
        tokens = {asset.token for one in found if one for asset in one.state.assets} - set(names)
        names.update(zip(sorted(tokens), symbols(web3, sorted(tokens)), strict=True))
        return overview_report(listed, found, names)

    return read


@app.command(
    help="Show what the keeper would trade now, through which pools, at what cost, and why. Nothing is sent.\n\n"
    "Where the vault's rules allow nothing now, it says why, and what would be traded if a session were open.\n\n"
    "Settings: v2_factories or v3_factories say where pools are. native_token or native_price_usd make gas count. "
    "--dry-run needs executor, and asks as simulate_as, as the keystore's address (no password), or as the last keeper "
    "that rebalanced. In JSON every integer is a decimal string.",
    epilog="Example:  evenkeel plan 0xVault… --explain --dry-run\n\n"
    "Exit code 0: planned, or nothing to trade, or not now. 1: the vault refuses in the dry run what its rules should "
    "accept, or the node fails. 2: a setting or argument is wrong.",
)
@plain_errors
def plan(
    vault: VaultArgument,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say for every asset why it is traded or not.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Also ask the vault, by eth_call, whether it would accept the plan."),
    ] = False,
    at_target: Annotated[
        bool, typer.Option("--at-target", help="Plan all the way to the targets, to compare with the keeper.")
    ] = False,
    volatility_percent: Annotated[
        float | None,
        typer.Option(
            "--volatility-percent",
            min=0.1,
            max=1_000,
            help="Of an asset against the rest, a year; for --explain, to say what bands cost a year.",
        ),
    ] = None,
    risk_aversion: Annotated[
        float,
        typer.Option(
            "--risk-aversion",
            min=0.001,
            max=1e6,
            help="NAV that a unit of variance a year costs; for --explain.",
        ),
    ] = 5.0,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the keeper would trade now, and why."""
    from offchain.keeper.preview import preview
    from offchain.keeper.rehearsal import caller_of, known_keeper, simulate, venues_of
    from offchain.planner import joint

    settings = settings_of(config, rpc_url=rpc_url)
    address = address_of(vault, "VAULT")
    if dry_run and settings.executor is None:
        raise ConfigError(
            "executor: not set, and --dry-run needs it (in evenkeel.toml, or EVENKEEL_EXECUTOR)"
        )
    web3, observed, snapshot = _observe(settings, address)
    asks = dry_run or bool(settings.aggregators)  # somebody, in the keeper's name
    if not joint.is_compiled():
        typer.echo("compiling the planner: some ten seconds, once on this machine", err=True)
    caller = (caller_of(settings) or known_keeper(web3, snapshot)) if asks else None
    found = preview(
        snapshot,
        observed,
        at_target=at_target,
        volatility=None if volatility_percent is None else volatility_percent / 100,
        risk_aversion=risk_aversion,
        venues=venues_of(web3, snapshot, settings, caller) if caller else None,
    )
    asked = simulate(web3, found, caller) if dry_run and caller and found.plan.trades else None
    _show_plan(web3, found, asked, explain=explain, as_json=as_json)
    if asks and caller is None:
        _no_caller(settings, dry_run=dry_run)
    if asked is not None and asked.refusal and found.possible:
        raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Example:  evenkeel costs 0xVault… --journal reports/demo/keeper.sqlite --last 3")
@plain_errors
def costs(
    vault: VaultArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The keeper's journal \\[setting: journal].")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", min=0, help="Transactions in detail; the totals are of all.")
    ] = 10,
    chain_id: Annotated[
        int | None,
        typer.Option("--chain-id", help="Which chain, where the journal knows the vault on several."),
    ] = None,
) -> None:
    """Show what the vault's rebalances cost and what was predicted: pool fees, price impact, gas.

    Read from the keeper's journal or `database`; no node is asked. In JSON every integer is a decimal string.
    """
    from offchain.show.costs import costs_json, print_costs, read_ledger

    settings = settings_of(config, journal=journal)
    address = address_of(vault, "VAULT")
    database = None if journal else settings.database
    place = settings.journal if database is None else database.get_secret_value()
    ledger = read_ledger(place, address, chain_id)
    if as_json:
        typer.echo(json.dumps(costs_json(address, ledger, last), indent=2))
    else:
        print_costs(address, ledger, last, Console(highlight=False))


def _observe(settings: Settings, vault: str) -> tuple[Web3, Observed, Snapshot]:
    """The vault and its market at the newest block."""
    from offchain.chain.vault import read_vault
    from offchain.keeper.market import Sources, need_factories, observe

    need_factories(settings)
    web3 = connect(settings)
    snapshot = read_vault(web3, vault)
    return web3, observe(web3, snapshot, Sources.from_settings(settings)), snapshot


def _show_plan(web3: Web3, found: Preview, asked: Simulation | None, *, explain: bool, as_json: bool) -> None:
    from offchain.show.plan import print_plan
    from offchain.show.plan_json import plan_json

    names = _token_names(web3, found)
    if as_json:
        typer.echo(json.dumps(plan_json(found, names, asked), indent=2))
    else:
        print_plan(found, names, asked, explain=explain, console=Console(highlight=False))


def _no_caller(settings: Settings, *, dry_run: bool) -> None:
    """Say what could not be asked without the keeper's address."""
    lost = [what for what, on in (("not simulated", dry_run), ("no venue asked", settings.aggregators)) if on]
    if lost:
        typer.echo(
            f"{', '.join(lost)}: no keeper is known; set simulate_as to an address with the vault's keeper role "
            "(the address alone, no key is needed)",
            err=True,
        )


def _token_names(web3: Web3, found: Preview) -> Names:
    """Of the basket and of the tokens that swaps pass through."""
    from offchain.chain.contracts import ERC20, bind_abi
    from offchain.chain.vault import symbols
    from offchain.show.names import Names

    decimals = {asset.token: asset.decimals for asset in found.problem.state.assets}
    known = {token.lower() for token in decimals}
    for planned in found.plan.legs:
        if planned.token_out.lower() not in known:
            known.add(planned.token_out.lower())
            token = bind_abi(web3, ERC20, planned.token_out)
            decimals[planned.token_out] = int(token.functions.decimals().call())
    named = symbols(web3, list(decimals))
    return Names.of([(token, name, d) for (token, d), name in zip(decimals.items(), named, strict=True)])
