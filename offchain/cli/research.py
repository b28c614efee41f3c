"""`evenkeel demo` and `backtest`: the system without anybody's money."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from offchain.chain.errors import ConfigError
from offchain.cli.common import plain_errors
from offchain.cli.serve import need_api

__all__ = ["app"]

DEMO_EXTRA = {"matplotlib", "pandas", "skfolio"}  # what only `evenkeel demo` needs

app = typer.Typer()


@app.command(epilog="Example:  evenkeel demo --days 60 --out reports/demo")
@plain_errors
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
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Instead of replaying a year: a vault with a short history, the page, and a test wallet.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Of --serve; 0: a free one, which it prints.")
    ] = 0,
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
    if serve:
        need_api()
        from offchain.demo.serve import serve_demo

        serve_demo(port=port)
        return
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
@plain_errors
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
