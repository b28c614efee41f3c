"""`evenkeel audit …`: check what a vault did."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from offchain.chain.contracts import address_of
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

__all__ = ["app"]

app = typer.Typer(help="Check what a vault did.", no_args_is_help=True)


@app.command(epilog="Example:  evenkeel audit verify 0xVault… --rpc-url http://127.0.0.1:8545")
@plain_errors
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

    settings = settings_of(config, rpc_url=rpc_url)
    address = address_of(vault, "VAULT")
    report = verify_vault(connect(settings), address, from_block)
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
        fail(
            f"no events since block {from_block}: --from-block must be at or before the vault's creation",
            EXIT_USAGE,
        )
    found = report.first_break or "the recomputed head is not the stored one"
    late = from_block and "does not start with Created" in found
    fail(f"{found}; --from-block must be at or before the vault's creation" if late else found)
