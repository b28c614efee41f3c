"""`evenkeel tax …`: purchases and sales from the chain, gains by lot, losses to harvest. No tax advice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from offchain.audit.lots import LotError, Method
from offchain.chain.contracts import address_of
from offchain.chain.errors import ChainError, ConfigError
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

if TYPE_CHECKING:
    from offchain.audit.lots import Book, Transaction
    from offchain.audit.taxable import PriceOf

__all__ = ["app"]

app = typer.Typer(
    help="Tax lots: what was bought, which of it was sold, and the gain. No tax advice.\n\n"
    "evenkeel tax transactions VAULT --wallet 0x… > mine.csv   then   evenkeel tax report mine.csv",
    no_args_is_help=True,
)


class Form(StrEnum):
    """Of a report."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    FORM_8949 = "8949"


FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="CSV of transactions, as `tax transactions` writes it.")
]
MethodOption = Annotated[
    Method, typer.Option("--method", help="Which lot a sale takes, where it names none itself.")
]
YearsOption = Annotated[
    list[str] | None,
    typer.Option("--method-in", metavar="YEAR=METHOD", help="Another method for a year; may be repeated."),
]
WashOption = Annotated[
    int,
    typer.Option(
        "--wash-days",
        min=0,
        max=366,
        help="Days before and after in which a purchase disallows a loss; 0: never.",
    ),
]
ZoneOption = Annotated[str, typer.Option("--timezone", help="Whose days and years count.")]
PriceOption = Annotated[
    list[str] | None,
    typer.Option("--price", metavar="ASSET=PRICE", help="Of a whole token now; may be repeated."),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="File to write \\[default: stdout].")]


@app.command(epilog="Example:  evenkeel tax transactions 0xVault… --wallet 0xMine… --out mine.csv")
@plain_errors
def transactions(
    vault: VaultArgument,
    wallet: Annotated[
        list[str] | None,
        typer.Option(
            "--wallet", help="Of these wallets' shares; may be repeated. Without: of the vault's tokens."
        ),
    ] = None,
    out: OutOption = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
    from_block: Annotated[int, typer.Option("--from-block", min=0, help="The vault's first block.")] = 0,
) -> None:
    """Write what a vault, or wallets in it, bought and sold, valued at the oracle's prices of each block.

    Needs a node that still has the state of those blocks. Gas is not in it: add it to the column `fee`. Shares that
    came from or went to others have no value: fill in the column `value` before `tax report`.
    """
    from offchain.audit.tax_files import transactions_csv
    from offchain.audit.taxable import share_transactions, vault_transactions
    from offchain.audit.verify import gather, transfers
    from offchain.chain.oracle import price_status, read_prices

    address = address_of(vault, "VAULT")
    wallets = [address_of(one, "--wallet") for one in wallet or []]
    web3 = connect(settings_of(config, rpc_url=rpc_url))
    gathered = gather(web3, address, from_block, None)
    history = gathered.history

    def price_of(oracle: str, token: str, block: int) -> Decimal:
        ((price, status),) = read_prices(web3, oracle, [token], block)
        if status:
            raise ChainError(f"the oracle's price of {token} in block {block} was {price_status(status)}")
        return Decimal(price).scaleb(-18)

    price: PriceOf = price_of
    if wallets:
        logs = transfers(web3, address, wallets, from_block, gathered.block.number)
        found, unknown = share_transactions(history, wallets, logs, price)
    else:
        found, unknown = vault_transactions(history, price), []
    _write(transactions_csv(found, unknown), out)
    typer.echo(f"{len(found)} transactions", err=True)
    if unknown:
        typer.echo(f"fill in the value of {len(unknown)}: shares from or to others: {unknown[0]} …", err=True)


@app.command(
    epilog="Examples:  evenkeel tax report mine.csv --method hifo --price 0xVault…=1.07\n\n"
    "evenkeel tax report mine.csv --format 8949 --year 2026 --out 8949.csv"
)
@plain_errors
def report(
    file: FileArgument,
    method: MethodOption = Method.FIFO,
    method_in: YearsOption = None,
    wash_days: WashOption = 30,
    timezone: ZoneOption = "UTC",
    price: PriceOption = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="csv: every part of a lot that was sold. 8949: the form's columns."),
    ] = Form.TABLE,
    year: Annotated[
        int | None, typer.Option("--year", min=1970, max=9999, help="This year only; needed for 8949.")
    ] = None,
    out: OutOption = None,
) -> None:
    """Match sales with lots: gains by year, each part of a lot that was sold, and what is left with its gain.

    The wash-sale rule is applied to everything, also where the law does not yet: --wash-days 0 leaves it out.
    """
    from offchain.audit.tax_files import form_8949, matches_csv
    from offchain.show.tax import print_report, report_json

    if form == Form.FORM_8949 and year is None:
        raise ConfigError("--year: needed with --format 8949")
    prices = _prices(price)
    book = _book(_read(file), method, method_in, wash_days, timezone)
    if form == Form.TABLE and out is None:
        print_report(book, prices, year)
    elif form == Form.FORM_8949 and year is not None:
        _write(form_8949(book, year), out)
    elif form == Form.CSV:
        _write(matches_csv(book), out)
    else:
        _write(json.dumps(report_json(book, prices, year), indent=2) + "\n", out)


@app.command(epilog="Example:  evenkeel tax harvest mine.csv --price 0xVault…=0.93")
@plain_errors
def harvest(
    file: FileArgument,
    price: PriceOption = None,
    method: MethodOption = Method.FIFO,
    method_in: YearsOption = None,
    wash_days: WashOption = 30,
    timezone: ZoneOption = "UTC",
    short_rate: Annotated[
        float, typer.Option("--short-rate", min=0, max=1, help="Tax on gains of a year or less, a fraction.")
    ] = 0.37,
    long_rate: Annotated[
        float, typer.Option("--long-rate", min=0, max=1, help="Tax on gains of more than a year.")
    ] = 0.2,
    planned: Annotated[
        list[str] | None,
        typer.Option("--planned", metavar="ASSET", help="Will be bought within the window; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Losses that could be realised now, and which of them the wash-sale rule would disallow.

    Exit code 1 when every one of them is refused. In JSON, tax_per_token is what the planner takes: USD with 18
    decimals for each whole token sold.
    """
    from offchain.audit.harvest import Rates
    from offchain.audit.harvest import harvest as proposals
    from offchain.show.tax import harvest_json, print_harvest

    found = _read(file)
    prices, zone, now = _prices(price), _zone(timezone), datetime.now(UTC)
    methods = _methods(method, method_in)
    rates = Rates(Decimal(str(short_rate)), Decimal(str(long_rate)))
    given = proposals(
        found, prices, now, methods, rates=rates, wash_days=wash_days, zone=zone, planned=planned or []
    )
    if as_json:
        book = _book(found, method, method_in, wash_days, timezone)
        typer.echo(json.dumps(harvest_json(given, book, prices, now, methods, rates), indent=2))
    else:
        print_harvest(given)
    if given and all(one.refused for one in given):
        raise typer.Exit(EXIT_FAILED)


def _book(found: list[Transaction], method: Method, by_year: list[str] | None, days: int, zone: str) -> Book:
    from offchain.audit.lots import match

    return match(found, _methods(method, by_year), wash_days=days, zone=_zone(zone))


def _methods(method: Method, by_year: list[str] | None) -> dict[int, Method]:
    found = dict.fromkeys(range(1970, 10_000), method)
    for text in by_year or []:
        year, _, name = text.partition("=")
        if not year.isdecimal() or int(year) not in found or name not in list(Method):
            names = ", ".join(Method)
            raise ConfigError(
                f"--method-in: {text!r} is not YEAR=METHOD, such as 2026=hifo; methods: {names}"
            )
        found[int(year)] = Method(name)
    return found


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"--timezone: {name!r} is no time zone, such as Europe/Zurich") from None


def _prices(given: list[str] | None) -> dict[str, Decimal]:
    found = {}
    for text in given or []:
        asset, _, number = text.rpartition("=")
        try:
            price = Decimal(number)
        except InvalidOperation:
            price = Decimal(-1)
        if not asset or not price.is_finite() or price < 0:
            raise ConfigError(f"--price: {text!r} is not ASSET=PRICE, such as 0xVault…=1.07")
        found[asset] = price
    return found


def _read(file: Path) -> list[Transaction]:
    from offchain.audit.tax_files import read_transactions

    try:
        return read_transactions(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a UTF-8 text file") from None
    except LotError as error:
        raise LotError(f"{file}: {error}") from None


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8", newline="")
