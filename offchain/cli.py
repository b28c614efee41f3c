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
from typing import Annotated, Any, ParamSpec, TypeVar

import requests
import structlog
import typer
from rich.console import Console
from rich.table import Table
from web3 import Web3
from web3.exceptions import Web3Exception

from offchain import __version__
from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError
from offchain.chain.oracle import price_status
from offchain.chain.sender import revert_reason
from offchain.errors import EvenkeelError
from offchain.settings import Settings, load_settings

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

    settings = _settings(config, rpc_url=rpc_url)
    address = address_of(vault, "VAULT")
    web3 = _connect(settings)
    snapshot = read_vault(web3, address)
    report = status_report(snapshot, read_terms(web3, address), lambda tokens: symbols(web3, tokens))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print_status(report)


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
    from offchain.keeper.schedule import run as run_schedule

    settings = _settings(
        config,
        rpc_url=rpc_url,
        vault=vault,
        dry_run=dry_run or None,
        interval_seconds=interval_seconds,
        cron=cron,
    )
    with from_settings(settings, _connect(settings, check=False)) as keeper:
        run_schedule(keeper, interval_seconds=settings.interval_seconds, cron=settings.cron)


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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `evenkeel` command."""
    app()


def status_report(snapshot: Any, terms: Any, name_tokens: Callable[[list[str]], list[str]]) -> dict[str, Any]:
    """What `evenkeel status` shows. Fractions are per cent, amounts decimal strings in token units, USD in dollars."""
    from offchain import policy

    state = snapshot.state
    usable = policy.usable(state) and policy.nav(state) > 0
    aside = policy.aside(state)
    trigger = policy.trigger(state, state.time) if usable else None
    values = policy.values(state)
    weights: list[int | None] = list(policy.weights(state)) if usable else [None] * len(state.assets)
    rows = zip(name_tokens([a.token for a in state.assets]), state.assets, state.balances, state.prices, state.statuses,
               values, weights, policy.targets(state), policy.bands(state), strict=True)  # fmt: skip
    return {
        "vault": snapshot.vault,
        "chain_id": snapshot.chain_id,
        "block": snapshot.block.number,
        "block_hash": snapshot.block.hash,
        "time": state.time,
        "nav_usd": sum(values) / 1e18,
        "supply": str(state.supply),
        "assets": [
            {
                "symbol": symbol,
                "token": asset.token,
                "balance": str(balance),
                "price_usd": price / 1e18,
                "price_status": status,
                "value_usd": value / 1e18,
                "weight_percent": None if weight is None else weight / 1e16,
                "target_percent": target / 1e16,
                "band_percent": band / 1e16,
                "quarantined": i == aside,
            }
            for i, (symbol, asset, balance, price, status, value, weight, target, band) in enumerate(rows)
        ],
        "mode": policy.Mode(state.rules.mode).name,
        "session": dataclasses.asdict(state.session) | {"open": policy.session_is_open(state, state.time)},
        "cooldown_over": policy.cooldown_over(state, state.time),
        "trigger": trigger.kind if trigger else "none",
        "trigger_reason": _reason(trigger.reason, state.rules.mode) if trigger else "a price is not usable",
        "loss_budget_used_percent": state.loss_used / 1e16,
        "loss_budget_percent": state.rules.loss_capacity_bps / 100,
        "paused": state.time < state.paused_until,
        "quarantine_until": None if aside == policy.NO_ASSET else state.aside_until,
        "admin": terms.admin,
        "delay_seconds": terms.delay_seconds,
        "head": snapshot.head,
    }


def _reason(reason: str, mode: int) -> str:
    """Why there is a trigger, or none, without the calendar where the mode does not use it."""
    from offchain import policy

    return reason.partition("; ")[2] if mode == policy.Mode.THRESHOLD else reason


def _print_status(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['vault']}  NAV {report['nav_usd']:,.2f} USD  block {report['block']}")
    table.add_column("asset")
    for name in ("weight %", "target %", "band ±%", "value USD", "price USD"):
        table.add_column(name, justify="right")
    for asset in report["assets"]:
        weight = asset["weight_percent"]
        price = (
            "in quarantine"
            if asset["quarantined"]
            else f"{asset['price_usd']:,.4f}"
            if asset["price_status"] == 0
            else f"not usable: {price_status(asset['price_status'])}"
        )
        table.add_row(
            asset["symbol"],
            "-" if weight is None else f"{weight:.2f}",
            f"{asset['target_percent']:.2f}",
            f"{asset['band_percent']:.2f}",
            f"{asset['value_usd']:,.2f}",
            price,
        )
    console = Console(soft_wrap=True)
    console.print(table)
    session = report["session"]
    state = "open" if session["open"] else "cooldown" if not report["cooldown_over"] else "closed"
    console.print(
        f"session {session['id']} {state} · mode {report['mode']}"
        f" · trigger {report['trigger']}: {report['trigger_reason']}"
    )
    console.print(
        f"loss budget {report['loss_budget_used_percent']:.4f} of {report['loss_budget_percent']:.2f} %"
        f" · {'PAUSED' if report['paused'] else 'not paused'} · head {report['head']}"
    )
    console.print(f"admin {report['admin']} · changes wait {report['delay_seconds'] / 86_400:g} days")


def _settings(config: Path | None, **overrides: Any) -> Settings:
    settings = load_settings(config, **overrides)
    _log_to_stderr(settings.log_json)
    return settings


def _connect(settings: Settings, *, check: bool = True) -> Web3:
    url = settings.rpc_url
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"rpc_url: {url!r} is not an http:// or https:// address")
    web3 = Web3(Web3.HTTPProvider(url, request_kwargs={"timeout": settings.rpc_timeout_seconds}))
    if check and not web3.is_connected():
        raise ConfigError(f"rpc_url: no Ethereum node answers at {url}")
    return web3


def _log_to_stderr(as_json: bool) -> None:
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever stderr is at the time
        cache_logger_on_first_use=False,
    )


if __name__ == "__main__":
    main()
