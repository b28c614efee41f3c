"""`evenkeel filler`: fill the auctions of other people's vaults, where that pays."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from offchain.chain.errors import ConfigError, TransactionError
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

if TYPE_CHECKING:
    from web3 import Web3

    from offchain.chain.sender import Sender
    from offchain.keeper.loop import Outcome

__all__ = ["app"]

app = typer.Typer()


@app.command(
    help="Fill the auctions of other people's vaults, only at a profit after gas, until SIGTERM or Ctrl-C.\n\n"
    "No keeper's role is needed and no money but gas: a Taker contract of your own sells what the auction sells in the "
    "same transaction, and reverts unless the gain reaches the minimum. --deploy makes one.\n\n"
    "Settings: vaults (or --vault) or factory, auction, taker, executor, v2_factories or v3_factories, native_token or "
    "native_price_usd, min_profit_usd, keystore; a journal that no keeper uses.",
    epilog="Example:  evenkeel filler --vault 0xVault… --once --dry-run\n\n"
    "Exit code 0: filled, or nothing worth filling. 1: a fill was sent and failed. 2: a setting is wrong.",
)
@plain_errors
def filler(
    vault: VaultOption = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Look once at each vault, and end.")] = False,
    dry_run: DryRunOption = False,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Deploy a Taker of this account, print its address, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill auctions at a profit."""
    from offchain.chain.sender import Sender
    from offchain.keeper.filler import deploy_taker, fillers
    from offchain.keeper.schedule import serve_fillers
    from offchain.keeper.watch import Watch

    settings = settings_of(config, rpc_url=rpc_url, vault=vault, dry_run=dry_run or None)
    web3 = connect(settings, check=deploy or once)
    if deploy and settings.dry_run:
        found = _would_deploy(web3, Sender.from_settings(web3, settings), settings.simulate_as)
        typer.echo(json.dumps(found) if as_json else _said(found))
        return
    if deploy:
        tx_hash, address = deploy_taker(web3, Sender.from_settings(web3, settings))
        typer.echo(json.dumps({"tx_hash": tx_hash, "taker": address}) if as_json else address)
        return
    with fillers(settings, web3) as made:
        if not once:
            serve_fillers(settings, web3, made)
            return
        watch = Watch()
        outcomes = [(one.vault, watch.look(one.vault, one.once)) for one in made]
    results = [_result(address, outcome) for address, outcome in outcomes]
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        Console(highlight=False).print(_table(results))
    if any(outcome is None or outcome.failed for _, outcome in outcomes):
        raise typer.Exit(EXIT_FAILED)


def _would_deploy(web3: Web3, sender: Sender, simulate_as: str | None) -> dict[str, Any]:
    """What --deploy would do, by simulation: the Taker's address, its owner, gas, and the most that it can cost."""
    from web3.exceptions import ContractLogicError, Web3RPCError
    from web3.utils.address import get_create_address

    from offchain.chain.contracts import load_artifact
    from offchain.chain.sender import ETHER, revert_reason
    from offchain.keeper.errand import caller_of

    owner = caller_of(sender, simulate_as)
    if owner is None:
        raise ConfigError(
            "keystore, account, signer_url or simulate_as: set one, for whom would it be deployed?"
        )
    try:
        gas = web3.eth.estimate_gas({"from": owner, "data": load_artifact("Taker")["bytecode"]})
    except (ContractLogicError, Web3RPCError) as error:
        raise TransactionError(f"the deployment fails in simulation: {revert_reason(error)}") from error
    address = get_create_address(owner, web3.eth.get_transaction_count(owner, "pending"))
    limit = gas * 12 // 10  # as deploy_taker has it
    most = Decimal(limit * sender.fees().most) / ETHER
    return {"dry_run": True, "taker": address, "owner": owner, "gas": gas, "most_native": f"{most:f}"}


def _said(found: dict[str, Any]) -> str:
    return (
        f"would deploy a Taker of {found['owner']} at {found['taker']}: {found['gas']} gas, "
        f"at most {Decimal(found['most_native']):.6f} of the native token; nothing was sent"
    )


def _result(vault: str, outcome: Outcome | None) -> dict[str, Any]:
    """In JSON values."""
    if outcome is None:
        return {
            "vault": vault,
            "status": "error",
            "reason": "see the log above",
            "tx_hash": None,
            "block": None,
        }
    return {
        "vault": vault,
        "status": str(outcome.status),
        "reason": outcome.reason,
        "tx_hash": outcome.tx_hash,
        "block": outcome.block,
    }


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("vault", "status", "reason", "transaction")
    for result in results:
        table.add_row(result["vault"], result["status"], result["reason"], result["tx_hash"] or "")
    return table
