"""`evenkeel audit …`: check what a vault did, index and export it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError
from offchain.cli.common import (
    EXIT_USAGE,
    ConfigOption,
    JsonOption,
    RpcOption,
    VaultArgument,
    connect,
    fail,
    plain_errors,
    settings_of,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from offchain.audit.decision import Offered
    from offchain.audit.logs import Tell
    from offchain.audit.verifier import Checkpoint
    from offchain.audit.verify import Report
    from offchain.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Check what a vault did.", no_args_is_help=True)

FromBlockOption = Annotated[int, typer.Option("--from-block", min=0, help="The vault's first block.")]
RecordsOption = Annotated[
    Path | None, typer.Option("--records", help="File with the keeper's records of its decisions (JSON).")
]
JournalOption = Annotated[
    str | None,
    typer.Option("--journal", help="Keeper's journal to find the records in: a file, or an address."),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Index: a file, or an SQLAlchemy address \\[default: the setting database, else evenkeel-index.sqlite].",
    ),
]


class Format(StrEnum):
    """Of an export."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


@app.command(
    epilog="Examples:  evenkeel audit verify 0xVault… --rpc-url http://127.0.0.1:8545 --journal evenkeel.sqlite\n\n"
    "evenkeel audit verify 0xVault… --from-file export.json --head 0x…   (no node is asked)\n\n"
    "evenkeel audit verify 0xVault… --json > today.json   and later   --checkpoint today.json"
)
@plain_errors
def verify(
    vault: VaultArgument,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    from_block: FromBlockOption = 0,
    records: RecordsOption = None,
    journal: JournalOption = None,
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="Read this JSON export, and ask no node.")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="The 32 bytes that you trust, with --from-file.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", help="JSON of an earlier verify, or an earlier export: must be a prefix."
        ),
    ] = None,
    rebasing: Annotated[
        list[str] | None, typer.Option("--rebasing", metavar="TOKEN", help="May take units away by itself.")
    ] = None,
) -> None:
    """Check a vault's whole history: its audit head, every rule of every rebalance, flows, and decisions.

    The head is recomputed from the events and compared with the one on chain, or with --head. Records of the keeper
    make its decisions verified or unexplained; without one a decision is undeclared. Exit code 1 at the first break,
    which is named with block, transaction and field; both heads are printed either way.
    """
    from offchain.audit.export import read_checkpoint
    from offchain.audit.records import text_of
    from offchain.show.audit import print_verdict, verdict_json

    address = address_of(vault, "VAULT")
    tokens = [address_of(token, "--rebasing") for token in rebasing or []]
    old = None if checkpoint is None else read_checkpoint(text_of(checkpoint, "--checkpoint"))
    if from_file is not None:
        report = _offline(address, from_file, head, _offered(records, journal), old, tokens)
    elif head is not None:
        raise ConfigError("--head: goes with --from-file; with a node the vault's own head is read")
    else:
        from offchain.audit import verify_vault

        settings = settings_of(config, rpc_url=rpc_url)
        with _progress() as tell:
            report = verify_vault(
                connect(settings), address, from_block, None, _offered(records, journal), old, tokens, tell
            )
    if as_json:
        typer.echo(json.dumps(verdict_json(report), indent=2))
    else:
        print_verdict(report, offline=from_file is not None)
    if report.ok:
        return
    if from_block and not report.entries:
        fail(
            f"no events since block {from_block}: --from-block must be at or before the vault's creation",
            EXIT_USAGE,
        )
    found = report.first_break or "the recomputed head is not the stored one"
    late = from_block and "does not start with Created" in found
    fail(f"{found}; --from-block must be at or before the vault's creation" if late else found)


@app.command(epilog="Example:  evenkeel audit export 0xVault… --format csv --out vault.csv")
@plain_errors
def export(
    vault: VaultArgument,
    out: Annotated[Path | None, typer.Option("--out", help="File to write \\[default: stdout].")] = None,
    form: Annotated[Format, typer.Option("--format", help="json can be verified offline.")] = Format.JSON,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    from_block: FromBlockOption = 0,
    records: RecordsOption = None,
    journal: JournalOption = None,
) -> None:
    """Write a vault's events to a file.

    The JSON is all that an outsider needs to verify the history offline against one 32-byte head:
    evenkeel audit verify VAULT --from-file FILE --head 0x… . CSV and Parquet have a row an event.
    """
    from offchain.audit.chain import Rebalanced
    from offchain.audit.export import Export, rows, to_csv, to_json, to_parquet
    from offchain.audit.history import decode_logs
    from offchain.audit.verify import gather

    address = address_of(vault, "VAULT")
    if form == Format.PARQUET and out is None:
        raise ConfigError("--out: Parquet is not text; name a file")
    settings = settings_of(config, rpc_url=rpc_url)
    with _progress() as tell:
        found = gather(connect(settings), address, from_block, None, tell)
    if form == Format.PARQUET:
        to_parquet(rows(found.history.logs), str(out))
    else:
        trades = [e.decision for e in decode_logs(found.history.logs) if isinstance(e, Rebalanced)]
        given = _offered(records, journal)(trades) if form == Format.JSON else []
        block = found.block
        whole = Export(
            found.history, found.head, block.number, block.hash, block.time, tuple(_of(given, trades))
        )
        text = to_json(whole) if form == Format.JSON else to_csv(rows(found.history.logs))
        if out is None:
            typer.echo(text, nl=False)
            return
        out.write_text(text, encoding="utf-8", newline="")
    typer.echo(f"{out}: {len(found.history.logs)} events, head 0x{found.head.hex()}", err=True)


@app.command(epilog="Example:  evenkeel audit index 0xVault… --check")
@plain_errors
def index(
    vaults: Annotated[
        list[str], typer.Argument(metavar="VAULT…", help="Addresses of the vaults.", show_default=False)
    ],
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    database: DatabaseOption = None,
    from_block: FromBlockOption = 0,
    compared: Annotated[
        bool, typer.Option("--check", help="Compare blocks with the node afterwards.")
    ] = False,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Blocks that --check compares.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Read vaults' events into a database, from where the last run stopped; reorganisations are undone.

    What `evenkeel audit history` shows comes from it alone. --check compares balances, supply, fees, flows and head
    with the vault's own answers at blocks spread over the history: older ones take an archive node.
    """
    from offchain.audit.index import check, index_vaults

    addresses = [address_of(vault, "VAULT") for vault in vaults]
    settings = settings_of(config, rpc_url=rpc_url)
    web3 = connect(settings)
    with _index(settings, database) as engine, _progress() as tell:
        found = index_vaults(web3, engine, addresses, from_block=from_block, tell=tell)
        checked = [check(web3, engine, vault, samples, tell) if compared else (0, []) for vault in addresses]
    told = []
    for one, (count, differences) in zip(found, checked, strict=True):
        told.append(
            {
                "vault": one.vault,
                "first_block": one.first_block,
                "last_block": one.last_block,
                "logs": one.logs,
                "blocks_checked": count,
                "differences": [dataclasses.asdict(difference) for difference in differences],
            }
        )
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        for one, (count, differences) in zip(found, checked, strict=True):
            typer.echo(
                f"{one.vault}  {one.logs} logs from block {one.first_block} up to block {one.last_block}"
            )
            if compared and not differences:
                typer.echo(f"{count} {'block' if count == 1 else 'blocks'} checked: equal")
    wrong = [(one, d) for one, (_, differences) in zip(found, checked, strict=True) for d in differences]
    if wrong:
        one, d = wrong[0]
        fail(f"{one.vault}: block {d.block}, field {d.field}: {d.indexed} in the index, {d.chain} on chain")


@app.command(epilog="Example:  evenkeel audit history 0xVault… --csv > history.csv")
@plain_errors
def history(
    vault: VaultArgument,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    database: DatabaseOption = None,
    chain_id: Annotated[
        int | None, typer.Option("--chain-id", min=1, help="The vault's chain; else the node is asked.")
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the result as CSV.")] = False,
) -> None:
    """Show a vault by block, out of the index: balances, NAV, weights, share price, supply and fees.

    Prices are those of the last audit entry. Amounts are in token units, shares in units of 1e-18, prices and NAV in
    units of 1e-18 USD; the table shows whole USD and shares.
    """
    from offchain.audit.export import to_csv
    from offchain.audit.index import history_of
    from offchain.show.audit import history_json, history_rows, print_history

    address = address_of(vault, "VAULT")
    if as_json and as_csv:
        raise ConfigError("--json and --csv: name one of them")
    settings = settings_of(config, rpc_url=rpc_url)
    number = connect(settings).eth.chain_id if chain_id is None else chain_id
    with _index(settings, database) as engine:
        found = history_of(engine, number, address)
    if as_json:
        typer.echo(json.dumps(history_json(found), indent=2))
    elif as_csv:
        typer.echo(to_csv(history_rows(found)), nl=False)
    else:
        print_history(found)


@contextmanager
def _index(settings: Settings, database: str | None) -> Iterator[Engine]:
    """The index that the option or the settings name."""
    from offchain.audit.index import DEFAULT, open_index

    named = settings.database.get_secret_value() if settings.database else DEFAULT
    engine = open_index(database or named)
    try:
        yield engine
    finally:
        engine.dispose()


def _offline(
    vault: str,
    path: Path,
    head: str | None,
    more: Callable[[Sequence[bytes]], Sequence[Offered]],
    checkpoint: Checkpoint | None,
    rebasing: Sequence[str],
) -> Report:
    """The verdict on an export. Without records from elsewhere its own count."""
    from offchain.audit.chain import AuditBreak, Rebalanced
    from offchain.audit.export import read_export
    from offchain.audit.history import decode_logs
    from offchain.audit.records import text_of
    from offchain.audit.verifier import verify as verify_history
    from offchain.audit.verify import Gathered, report_of
    from offchain.chain.vault import BlockRef

    if head is None or not re.fullmatch(r"0x[0-9a-fA-F]{64}", head):
        raise ConfigError("--head: needed with --from-file: the head that you trust, 0x and 64 hex digits")
    try:
        found = read_export(text_of(path, "--from-file"))
    except ConfigError as error:
        raise ConfigError(f"--from-file: {error}") from None
    history = found.history
    if history.vault != vault:
        raise ConfigError(f"--from-file: this is the history of {history.vault}, not of {vault}")
    try:
        trades = [e.decision for e in decode_logs(history.logs) if isinstance(e, Rebalanced)]
    except AuditBreak:
        trades = []  # the verifier says so
    trusted = bytes.fromhex(head[2:])
    records = [*more(trades), *found.records]
    verdict = verify_history(history, trusted, records=records, checkpoint=checkpoint, rebasing=rebasing)
    at = BlockRef(found.block, found.block_hash, found.time)
    return report_of(Gathered(history, at, trusted, None), verdict)


def _offered(records: Path | None, journal: str | None) -> Callable[[Sequence[bytes]], list[Offered]]:
    """Where records of given decisions are found."""

    def find(decisions: Sequence[bytes]) -> list[Offered]:
        from offchain.audit.records import from_file, from_journal

        found = [] if records is None else from_file(records)
        return found + ([] if journal is None else from_journal(journal, decisions))

    return find


def _of(given: Sequence[Offered], trades: Sequence[bytes]) -> list[Offered]:
    """The records with the decision that each hashes to; those of no trade are left out."""
    from eth_utils.crypto import keccak

    from offchain.audit.decision import Offered

    found = {keccak(text=offer.text): offer.text for offer in given}
    return [Offered(found[decision], decision) for decision in dict.fromkeys(trades) if decision in found]


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    bars: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    console = Console(stderr=True)
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as progress:

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)

        yield tell
