"""Tax lots as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from offchain.audit.harvest import Harvest, Rates, tax_per_token
from offchain.audit.lots import EXACT, ZERO, Book, Match, Method, is_long, method_at, unrealised, years
from offchain.audit.tax_files import cents, plain
from offchain.show.safe import shown

__all__ = ["harvest_json", "print_harvest", "print_report", "report_json"]


def report_json(book: Book, prices: Mapping[str, Decimal], year: int | None) -> dict[str, Any]:
    """Everything, amounts as decimal strings."""
    priced = _priced(book, prices)
    return {
        "years": [
            {
                "year": row.year,
                "account": row.account,
                "asset": row.asset,
                "method": str(row.method),
                **{n: plain(getattr(row, n)) for n in ("proceeds", "basis", "disallowed", "short", "long")},
            }
            for row in years(book)
            if year in (None, row.year)
        ],
        "sales": [_match(found, book) for found in book.matches if year in (None, _year(found, book))],
        "open": [
            {
                "lot": lot.source,
                "account": lot.account,
                "asset": lot.asset,
                "bought": lot.bought.isoformat(),
                "held_since": lot.held_since.isoformat(),
                "quantity": plain(lot.quantity),
                "basis": plain(lot.basis),
                "replaces": lot.replaces,
                "gain": None if gain is None else plain(gain),
            }
            for lot, gain in priced
        ],
    }


def print_report(book: Book, prices: Mapping[str, Decimal], year: int | None) -> None:
    """Three tables: gains by year, each part of a lot sold, what is left."""
    console = Console(highlight=False, markup=False)
    table = _table(
        "Realised",
        "year",
        "account",
        "asset",
        "method",
        ">proceeds",
        ">basis",
        ">disallowed",
        ">short",
        ">long",
    )
    for row in years(book):
        if year in (None, row.year):
            amounts = (row.proceeds, row.basis, row.disallowed, row.short, row.long)
            table.add_row(
                str(row.year), _short(row.account), _short(row.asset), str(row.method), *map(_usd, amounts)
            )
    console.print(table)
    table = _table(
        "Sales, lot by lot",
        "sold",
        "asset",
        ">quantity",
        "bought",
        "term",
        ">proceeds",
        ">basis",
        ">gain",
        "lot",
    )
    for found in book.matches:
        if year in (None, _year(found, book)):
            term = "long" if is_long(found.held_since, found.sold, book.zone) else "short"
            wash = " W" if found.disallowed else ""
            table.add_row(
                found.sold.astimezone(book.zone).date().isoformat(), _short(found.asset), _quantity(found.quantity),
                found.bought.astimezone(book.zone).date().isoformat(), term, _usd(found.proceeds), _usd(found.basis),
                _usd(found.gain) + wash, _short(found.lot),
            )  # fmt: skip
    console.print(table)
    table = _table("Left", "bought", "account", "asset", ">quantity", ">basis", ">gain", "lot")
    for lot, gain in _priced(book, prices):
        table.add_row(
            lot.bought.astimezone(book.zone).date().isoformat(), _short(lot.account), _short(lot.asset),
            _quantity(lot.quantity), _usd(lot.basis), "no price" if gain is None else _usd(gain), _short(lot.source),
        )  # fmt: skip
    console.print(table)
    if any(found.disallowed for found in book.matches):
        console.print("W: a wash sale; what is disallowed is in the basis of what was bought instead.")


def harvest_json(
    found: Sequence[Harvest],
    book: Book,
    prices: Mapping[str, Decimal],
    now: datetime,
    methods: Mapping[int, Method],
    rates: Rates,
) -> dict[str, Any]:
    """The proposals, and what the planner takes."""
    method = method_at(methods, now, book.zone)
    taxes: dict[str, dict[str, str]] = {}
    for account, asset in sorted({(lot.account, lot.asset) for lot in book.open}):
        (tax,) = tax_per_token(book, account, [asset], prices, now, method, rates=rates, proposals=found)
        taxes.setdefault(account, {})[asset] = str(tax)
    return {
        "proposals": [
            {
                "account": one.account,
                "asset": one.asset,
                "quantity": plain(one.quantity),
                "loss": plain(one.loss),
                "saves": plain(one.saves),
                "refused": one.refused,
                "buy_again": one.buy_again.isoformat() if one.buy_again else None,
                "lots": [_match(part, book) for part in one.parts],
            }
            for one in found
        ],
        "tax_per_token": taxes,
    }


def print_harvest(found: Sequence[Harvest]) -> None:
    """A table."""
    console = Console(highlight=False, markup=False)
    if not found:
        console.print("no loss to realise at these prices")
        return
    table = _table(
        "Losses to harvest", "account", "asset", ">sell", ">loss", ">saves", "do not buy before", "refused"
    )
    for one in found:
        again = one.buy_again.isoformat() if one.buy_again else "-"
        table.add_row(
            _short(one.account), _short(one.asset), _quantity(one.quantity), _usd(one.loss), _usd(one.saves), again,
            one.refused or "-",
        )  # fmt: skip
    console.print(table)


def _match(found: Match, book: Book) -> dict[str, Any]:
    return {
        "sale": found.sale,
        "lot": found.lot,
        "account": found.account,
        "asset": found.asset,
        "quantity": plain(found.quantity),
        "bought": found.bought.isoformat(),
        "sold": found.sold.isoformat(),
        "term": "long" if is_long(found.held_since, found.sold, book.zone) else "short",
        "method": str(found.method),
        **{name: plain(getattr(found, name)) for name in ("proceeds", "basis", "disallowed", "gain")},
        "replaced_by": list(found.replaced_by),
    }


def _priced(book: Book, prices: Mapping[str, Decimal]) -> list[tuple[Any, Decimal | None]]:
    known = dict.fromkeys((lot.asset for lot in book.open), ZERO) | dict(prices)
    return [(lot, gain if lot.asset in prices else None) for lot, gain in unrealised(book, known)]


def _year(found: Match, book: Book) -> int:
    return found.sold.astimezone(book.zone).year


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    return table


def _short(text: str) -> str:
    text = shown(text)
    return text if len(text) <= 14 else f"{text[:6]}…{text[-6:]}"


def _usd(amount: Decimal) -> str:
    return f"{cents(amount):,}"


def _quantity(amount: Decimal) -> str:
    return plain(amount.quantize(Decimal("0.000001"), context=EXACT)) if amount >= 1 else plain(amount)
