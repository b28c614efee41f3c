"""The command line: a thin skin on the library. Results on stdout, talk on stderr, non-zero exit on failure."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import requests
import structlog
import typer
from rich.console import Console
from web3 import Web3
from web3.exceptions import Web3Exception

from offchain import __version__
from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError
from offchain.chain.sender import revert_reason
from offchain.errors import EvenkeelError
from offchain.settings import Settings, load_settings

if TYPE_CHECKING:  # a command loads what it needs, so that --help is quick
    from offchain.chain.vault import Snapshot
    from offchain.keeper.market import Observed
    from offchain.keeper.preview import Preview
    from offchain.keeper.rehearsal import Simulation
    from offchain.show.names import Names

__all__ = ["app", "main"]

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED = 1  # the thing asked for did not happen
EXIT_USAGE = 2  # a setting or argument is wrong
DEMO_EXTRA = {"matplotlib", "pandas", "skfolio"}  # what only `evenkeel demo` needs

app = typer.Typer(
    help="Keeps on-chain baskets at their target weights.\n\n"
    "Settings come from EVENKEEL_… variables (EVENKEEL_RPC_URL or ETH_RPC_URL for the node) and from evenkeel.toml.",
    epilog="Start with:  evenkeel demo   then   evenkeel status VAULT --rpc-url URL",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
keeper_app = typer.Typer(help="Watch a vault and rebalance it when its rules allow.", no_args_is_help=True)
audit_app = typer.Typer(help="Check what a vault did.", no_args_is_help=True)
app.add_typer(keeper_app, name="keeper")
app.add_typer(audit_app, name="audit")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings \\[default: evenkeel.toml]"),
]
RpcOption = Annotated[str | None, typer.Option("--rpc-url", help="Address of the node, http://… .")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
VaultArgument = Annotated[str, typer.Argument(metavar="VAULT", help="Address of the vault.")]
VaultOption = Annotated[str | None, typer.Option("--vault", help="Address of the vault \\[setting: vault].")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Read, plan and simulate, but send nothing.")]


def _plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user or a node can get wrong into one line on stderr and a non-zero exit."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except EvenkeelError as error:
            _fail(
                str(error),
                EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED,
                getattr(error, "tx_hash", None),
            )
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            _fail(
                f"rpc_url: the node does not answer ({type(error).__name__}); is it running, and is the address right?"
            )
        except Web3Exception as error:
            _fail(f"the node's answer cannot be used: {revert_reason(error)}")
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}")
        raise AssertionError  # pragma: no cover

    return wrapped


def _fail(message: str, code: int = EXIT_FAILED, tx_hash: str | None = None) -> None:
    if tx_hash:
        typer.echo(tx_hash)
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


@app.command(epilog="Example:  evenkeel status 0xVault… --rpc-url http://127.0.0.1:8545 --json")
@_plain_errors
def status(
    vault: VaultArgument,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a vault's weights, targets, bands and session."""
    from offchain.chain.vault import read_terms, read_vault, symbols
    from offchain.show.status import print_status, status_report

    settings = _settings(config, rpc_url=rpc_url)
    address = address_of(vault, "VAULT")
    web3 = _connect(settings)
    snapshot = read_vault(web3, address)
    report = status_report(snapshot, read_terms(web3, address), lambda tokens: symbols(web3, tokens))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        print_status(report)


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
@_plain_errors
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

    settings = _settings(config, rpc_url=rpc_url)
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


@keeper_app.command(epilog="Example:  evenkeel keeper once --vault 0xVault… --dry-run")
@_plain_errors
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

    settings = _settings(config, rpc_url=rpc_url, vault=vault, dry_run=dry_run or None)
    with from_settings(settings, _connect(settings)) as keeper:
        outcome = keeper.once()
    result = outcome.summary()
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo("  ".join(str(result[key]) for key in ("status", "tx_hash", "reason") if result[key]))
    if outcome.failed:
        raise typer.Exit(EXIT_FAILED)


@keeper_app.command(
    epilog="Example:  EVENKEEL_CRON='*/5 * * * *' evenkeel keeper run --vault 0xVault…   (stop it with SIGTERM)"
)
@_plain_errors
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
        typer.Option("--cron", help="Five-field cron line, UTC, instead of the interval."),
    ] = None,
) -> None:
    """Keep the vault on target on a schedule until SIGTERM or Ctrl-C. Node outages are waited out."""
    from offchain.keeper.loop import from_settings
    from offchain.keeper.outside import watching
    from offchain.keeper.schedule import run as run_schedule

    settings = _settings(
        config,
        rpc_url=rpc_url,
        vault=vault,
        dry_run=dry_run or None,
        interval_seconds=interval_seconds,
        cron=cron,
    )
    with (
        from_settings(settings, _connect(settings, check=False)) as keeper,
        watching(settings, keeper.web3, keeper.sender) as outside,
    ):
        run_schedule(keeper, interval_seconds=settings.interval_seconds, cron=settings.cron, outside=outside)


@keeper_app.command("status", epilog="Example:  evenkeel keeper status --journal evenkeel.sqlite --once")
@_plain_errors
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

    settings = _settings(config, vault=vault, journal=journal)
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


@audit_app.command(epilog="Example:  evenkeel audit verify 0xVault… --rpc-url http://127.0.0.1:8545")
@_plain_errors
def verify(
    vault: VaultArgument,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    from_block: Annotated[int, typer.Option("--from-block", min=0, help="The vault's first block.")] = 0,
) -> None:
    """Recompute the audit head from the vault's events and compare it with the one on chain.

    Exit code 1 when they differ; both heads are printed either way.
    """
    from offchain.audit import verify_vault

    settings = _settings(config, rpc_url=rpc_url)
    address = address_of(vault, "VAULT")
    report = verify_vault(_connect(settings), address, from_block)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report) | {"ok": report.ok}, indent=2))
    else:
        typer.echo(f"head stored      {report.head_stored}")
        typer.echo(f"head recomputed  {report.head_recomputed or '-'}")
        typer.echo(
            f"{'verified' if report.ok else 'NOT verified'}: {report.entries}"
            f" {'entry' if report.entries == 1 else 'entries'} up to block {report.block}"
        )
    if report.ok:
        return
    if from_block and not report.entries:
        _fail(
            f"no events since block {from_block}: --from-block must be at or before the vault's creation",
            EXIT_USAGE,
        )
    found = report.first_break or "the recomputed head is not the stored one"
    late = from_block and "does not start with Created" in found
    _fail(f"{found}; --from-block must be at or before the vault's creation" if late else found)


@app.command(epilog="Example:  evenkeel costs 0xVault… --journal reports/demo/keeper.sqlite --last 3")
@_plain_errors
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

    settings = _settings(config, journal=journal)
    address = address_of(vault, "VAULT")
    database = None if journal else settings.database
    place = settings.journal if database is None else database.get_secret_value()
    ledger = read_ledger(place, address, chain_id)
    if as_json:
        typer.echo(json.dumps(costs_json(address, ledger, last), indent=2))
    else:
        print_costs(address, ledger, last, Console(highlight=False))


@app.command(epilog="Example:  evenkeel demo --days 60 --out reports/demo")
@_plain_errors
def demo(
    days: Annotated[
        int | None,
        typer.Option("--days", min=2, help="Trading days of price history to replay."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the chart and the tables.")] = Path(
        "reports/demo"
    ),
    keep_chain: Annotated[
        bool,
        typer.Option("--keep-chain", help="Leave the local chain running at the end."),
    ] = False,
) -> None:
    """Run the whole system on a local chain with real Uniswap pools and real price history."""
    if importlib.util.find_spec("offchain.demo") is None:
        raise ConfigError(
            "demo: not in this installation; in Evenkeel's repository, run: pip install '.[demo]'"
        )
    try:
        from offchain.demo.run import run_demo
    except ModuleNotFoundError as error:
        missing = (error.name or "a package").partition(".")[0]
        what = "'.[demo]'" if missing in DEMO_EXTRA else "."
        raise ConfigError(
            f"demo: {missing} is missing; in Evenkeel's repository, run: pip install {what}"
        ) from None
    run_demo(**({} if days is None else {"days": days}), out=out, keep_chain=keep_chain)


@app.command(
    help="Replay prices through a policy and write what would have happened: one HTML page that works offline, the "
    "same as JSON beside it, a short table here.\n\n"
    "CONFIG is a TOML file: data, strategy, policy, costs, what to compare and to test. --example prints one with "
    "comments.",
    epilog="Example:  evenkeel backtest --example > mine.toml   then   evenkeel backtest mine.toml\n\n"
    "Exit code 0: the report is written. 1: the data or the engine cannot do what the file asks. 2: a setting or "
    "argument is wrong.",
)
@_plain_errors
def backtest(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="The backtest file.", show_default=False)
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", help="fast, integer or evm \\[setting: engine]. The last two equal the chain."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Address of a Dask scheduler for the sweep, tcp://… ."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write the page \\[default: reports/CONFIG.html]."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: fewer resamples and settings, and it says so.")
    ] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a commented CONFIG and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON instead of the table.")
    ] = False,
) -> None:
    """What a policy would have done, as a report."""
    if config is None and not example:
        raise ConfigError("CONFIG: missing; evenkeel backtest --example > mine.toml makes one")
    from offchain.show.backtest import EXAMPLE, print_report

    if config is None or example:
        typer.echo(EXAMPLE, nl=False)
        return
    try:
        from offchain.backtest.command import backtest as run_backtest
    except ModuleNotFoundError as error:
        missing = (error.name or "a package").partition(".")[0]
        raise ConfigError(
            f"backtest: {missing} is missing; in Evenkeel's repository, run: pip install '.[backtest]'"
        ) from None
    try:
        found, page, beside = run_backtest(config, engine=engine, cluster=cluster, out=out, quick=quick)
    except KeyboardInterrupt:
        typer.echo("stopped; no report. A [sweep] with out goes on from here when started again.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    print_report(found, Console(highlight=False))
    typer.echo(f"report: {page}   the same as JSON: {beside}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `evenkeel` command."""
    app()


def _observe(settings: Settings, vault: str) -> tuple[Web3, Observed, Snapshot]:
    """The vault and its market at the newest block."""
    from offchain.chain.vault import read_vault
    from offchain.keeper.market import Sources, need_factories, observe

    need_factories(settings)
    web3 = _connect(settings)
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


def _settings(config: Path | None, **overrides: Any) -> Settings:
    settings = load_settings(config, **overrides)
    _log_to_stderr(settings.log_json)
    return settings


def _connect(settings: Settings, *, check: bool = True) -> Web3:
    from offchain.chain.rpc import nodes_from

    nodes = nodes_from(settings)
    if check and not nodes.is_connected():
        where = " or ".join(node.url for node in nodes.status())
        raise ConfigError(
            f"{'rpc_urls' if settings.rpc_urls else 'rpc_url'}: no Ethereum node answers at {where}"
        )
    return Web3(nodes)


def _log_to_stderr(as_json: bool) -> None:
    # Tracebacks without the values of variables: one of them may be a key.
    plain = structlog.dev.plain_traceback
    renderers = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever stderr is at the time
        cache_logger_on_first_use=False,
    )


if __name__ == "__main__":
    main()
