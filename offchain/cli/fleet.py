"""`evenkeel fleet …`: workers that share many vaults through PostgreSQL."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from offchain.cli.common import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    RpcOption,
    connect,
    plain_errors,
    settings_of,
)

__all__ = ["app"]

WorkerOption = Annotated[
    str | None,
    typer.Option("--name", help="The worker's name in reports \\[setting: fleet_worker; host and process]."),
]

app = typer.Typer(
    help="Many vaults, any number of workers on any number of machines, one PostgreSQL.",
    no_args_is_help=True,
)


@app.command(epilog="Example:  EVENKEEL_DATABASE=postgresql+psycopg://keeper@db/evenkeel evenkeel fleet init")
@plain_errors
def init(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the journal and the queue in the database, or see that they are there. `work` does the same."""
    from offchain.keeper.database import open_database, where
    from offchain.keeper.fleet import create_queue, postgres_of

    engine = open_database(postgres_of(settings_of(config)))
    try:
        made = create_queue(engine)
    finally:
        engine.dispose()
    if as_json:
        typer.echo(json.dumps({"database": where(engine.url), "made": made}))
    else:
        typer.echo(f"{where(engine.url)}: the queue {'was made' if made else 'is there'}")


@app.command(epilog="Example:  EVENKEEL_FACTORY=0xFactory… evenkeel fleet work   (stop it with SIGTERM)")
@plain_errors
def work(
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
    name: WorkerOption = None,
) -> None:
    """One worker: keep the vaults of `vaults` and `factory`, together with all others on the same database.

    Run it as often and on as many machines as you like, with the same settings. Looks that are under way at SIGTERM or
    Ctrl-C are finished; the vaults of a worker that is silent for fleet_timeout_seconds are taken over by the others.
    """
    from offchain.keeper.fleet import fleet_from

    settings = settings_of(config, rpc_url=rpc_url, dry_run=dry_run or None, fleet_worker=name)
    with fleet_from(settings, connect(settings, check=False)) as fleet:
        fleet.work()


@app.command(epilog="Example:  evenkeel fleet status --json")
@plain_errors
def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    show_once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    every_seconds: Annotated[
        float, typer.Option("--every-seconds", min=0.2, help="Seconds between two readings.")
    ] = 2,
) -> None:
    """Workers and their heartbeats, the queue, and each vault: who has it, its last look. A live table, until Ctrl-C.

    Read from the database, which is not changed; no node is asked. Without a terminal, and with --json, it is printed
    once. The table shortens addresses to 0x1234…abcd; --json has them in full.
    """
    from offchain.keeper.database import open_to_read
    from offchain.keeper.fleet import postgres_of, status_report
    from offchain.show.console import console_of
    from offchain.show.live import show_live

    settings = settings_of(config)
    engine = open_to_read(postgres_of(settings))
    console = console_of()

    def read() -> dict[str, Any]:
        return status_report(engine, settings.fleet_timeout_seconds)

    try:
        if as_json:
            typer.echo(json.dumps(read(), indent=2))
        elif show_once or not console.is_terminal:
            console.print(tables(read()))
        else:
            show_live(read, tables, console, every_seconds)
    finally:
        engine.dispose()


def tables(report: dict[str, Any]) -> Group:
    """The report for people: workers, then vaults, those that are looked at first."""
    from offchain.show.console import brief, short, span

    def table(*names: str) -> Table:
        return Table(*names, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)

    workers = table("worker", "heartbeat", "looks")
    for worker in report["workers"]:
        age = f"{span(worker['heartbeat_age_seconds'])} ago"
        heartbeat = Text(f"{age}, silent: its vaults go to others", "red") if worker["silent"] else Text(age)
        workers.add_row(Text(worker["worker"] or f"#{worker['worker_id']}"), heartbeat, str(worker["looks"]))
    vaults = table("vault", "looked", "what came of it, and what is under way")
    order = {"looking": 0, "queued": 1, "idle": 2}
    for vault in sorted(report["vaults"], key=lambda vault: order[vault["state"]]):
        age = vault["look_age_seconds"]
        came = ": ".join(filter(None, (vault["result"], brief(vault["reason"] or ""))))
        now = {"looking": f"{vault['worker']} looks at it", "queued": "a look is queued", "idle": ""}
        said = "; ".join(filter(None, (now[vault["state"]], came)))
        vaults.add_row(short(vault["vault"]), "-" if age is None else f"{span(age)} ago", Text(said))
    queue = report["queue"]
    line = f"{len(report['vaults'])} vaults, {queue['running']} looks under way, {queue['waiting']} waiting"
    return Group(workers, vaults, Text(line))
