"""`evenkeel audit …`: check what a vault did, export it."""

from __future__ import annotations

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
    from offchain.audit.decision import Offered
    from offchain.audit.logs import Tell
    from offchain.audit.verifier import Checkpoint
    from offchain.audit.verify import Report

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
