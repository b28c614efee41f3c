"""Tax as files: transactions in, matches and Form 8949 out. CSV (RFC 4180), amounts as plain decimals."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from offchain.audit.export import to_csv
from offchain.audit.lots import (
    EXACT,
    ZERO,
    Acquired,
    Book,
    Disposed,
    LotError,
    Match,
    Moved,
    Transaction,
    exact,
    is_long,
)
from offchain.show.safe import shown

__all__ = ["COLUMNS", "form_8949", "matches_csv", "plain", "read_transactions", "transactions_csv"]

COLUMNS = ("id", "time", "account", "kind", "asset", "quantity", "value", "fee", "to", "lots")
NEEDED = COLUMNS[:6]
KINDS = "buy, sell or move"
AMOUNT = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?")
LONGEST = 200  # characters of a name


def read_transactions(text: str) -> list[Transaction]:
    """Transactions from CSV with the columns COLUMNS; `fee`, `to` and `lots` may be left out.

    time: ISO 8601 with a zone. quantity: whole tokens. value: what was paid or received without the fee. fee: paid for
    it. to: the account that a move goes to. lots: "id:quantity id:quantity", of a sale or a move.

    Raises:
        LotError: names the line and the column.

    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    try:
        names = reader.fieldnames or []
        if missing := [name for name in NEEDED if name not in names]:
            raise LotError(
                f"line 1: the column {missing[0]} is missing; the columns are {', '.join(COLUMNS)}"
            )
        if more := [name for name in names if name not in COLUMNS]:
            raise LotError(f"line 1: {shown(more[0])!r} is no column; the columns are {', '.join(COLUMNS)}")
        return [_transaction(row, reader.line_num) for row in reader]
    except csv.Error as error:
        raise LotError(f"after line {reader.line_num}: not CSV: {error}") from None


def _transaction(row: dict[str | None, str | None], line: int) -> Transaction:
    if None in row:
        raise LotError(f"line {line}: has more cells than there are columns")
    cells = {str(name): _text(value) for name, value in row.items()}
    for name in ("id", "account", "asset"):
        if not 0 < len(cells[name]) <= LONGEST:
            raise LotError(f"line {line}: {name}: needs 1 to {LONGEST} characters")
    head = (cells["id"], _time(cells["time"], line), cells["account"])
    quantity, fee = _amount(cells, "quantity", line), _amount(cells, "fee", line, ZERO)
    lots = _lots(cells.get("lots", ""), line)
    kind = cells["kind"].lower()
    if kind == "move":
        if not cells.get("to"):
            raise LotError(f"line {line}: to: a move needs the account that it goes to")
        return Moved(*head, cells["to"], cells["asset"], quantity, lots)
    made_of = (*head, cells["asset"], quantity)
    if kind == "buy":
        return Acquired(*made_of, _amount(cells, "value", line), fee)
    if kind == "sell":
        return Disposed(*made_of, _amount(cells, "value", line), fee, lots)
    raise LotError(f"line {line}: kind: {shown(kind)!r} is not {KINDS}")


def _text(value: str | None) -> str:
    """A cell; the mark that keeps a spreadsheet from computing it is no part of it."""
    text = (value or "").strip()
    return text[1:] if text[:1] == "'" else text


def _time(text: str, line: int) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise LotError(f"line {line}: time: {shown(text)!r} is not like 2026-03-31T14:00:00+00:00") from None
    if found.tzinfo is None:
        raise LotError(
            f"line {line}: time: {shown(text)!r} has no time zone; write 2026-03-31T14:00:00+00:00"
        )
    return found


def _amount(cells: dict[str, str], name: str, line: int, default: Decimal | None = None) -> Decimal:
    text = cells.get(name, "")
    if not text:
        if default is not None:
            return default
        raise LotError(f"line {line}: {name}: missing; fill in what is known of {shown(cells['id'], 80)}")
    if not AMOUNT.fullmatch(text):
        raise LotError(f"line {line}: {name}: {shown(text)!r} is not an amount like 1234.5")
    return Decimal(text)


def _lots(text: str, line: int) -> tuple[tuple[str, Decimal], ...]:
    found = []
    for part in text.split():
        source, _, quantity = part.rpartition(":")
        try:
            found.append((source, Decimal(quantity)))
        except InvalidOperation:
            raise LotError(f"line {line}: lots: {shown(part)!r} is not id:quantity") from None
    return tuple(found)


# ---------------------------------------------------------------- writing


def transactions_csv(transactions: Iterable[Transaction], unknown: Collection[str] = ()) -> str:
    """As `read_transactions` reads it; the value of those in `unknown` is left empty, for the owner to fill in."""
    rows = []
    for t in transactions:
        row: dict[str, str] = dict.fromkeys(COLUMNS, "")
        row |= {"id": t.id, "time": t.time.isoformat(), "account": t.account, "asset": t.asset}
        row |= {"quantity": plain(t.quantity)}
        if isinstance(t, Moved):
            row |= {"kind": "move", "to": t.to}
        else:
            value = t.cost if isinstance(t, Acquired) else t.proceeds
            row |= {"kind": "buy" if isinstance(t, Acquired) else "sell", "fee": plain(t.fee)}
            row["value"] = "" if t.id in unknown else plain(value)
        if not isinstance(t, Acquired):
            row["lots"] = " ".join(f"{source}:{plain(quantity)}" for source, quantity in t.lots)
        rows.append(row)
    return to_csv(rows) if rows else ",".join(COLUMNS) + "\r\n"


def matches_csv(book: Book) -> str:
    """A row for each part of a lot that was sold."""
    return to_csv([_row(found, book.zone) for found in book.matches])


def _row(found: Match, zone: tzinfo) -> dict[str, str]:
    return {
        "sale": found.sale,
        "lot": found.lot,
        "account": found.account,
        "asset": found.asset,
        "quantity": plain(found.quantity),
        "bought": found.bought.isoformat(),
        "held_since": found.held_since.isoformat(),
        "sold": found.sold.isoformat(),
        "proceeds": plain(found.proceeds),
        "basis": plain(found.basis),
        "disallowed": plain(found.disallowed),
        "gain": plain(found.gain),
        "term": "long" if is_long(found.held_since, found.sold, zone) else "short",
        "method": str(found.method),
        "replaced_by": " ".join(found.replaced_by),
    }


@exact
def form_8949(book: Book, year: int, names: dict[str, str] | None = None) -> str:
    """The sales of a year with the columns of Form 8949, Parts I and II told apart by the first column.

    Amounts in cents, each rounded by itself, and (h) from the rounded ones, as the form adds up. Code W and column (g)
    where a wash sale disallows a loss.
    """
    rows = []
    for found in sorted(book.matches, key=lambda m: is_long(m.held_since, m.sold, book.zone)):
        if found.sold.astimezone(book.zone).year != year:
            continue
        proceeds, basis, adjusted = (cents(x) for x in (found.proceeds, found.basis, found.disallowed))
        name = shown((names or {}).get(found.asset, found.asset))
        rows.append(
            {
                "Part": "II" if is_long(found.held_since, found.sold, book.zone) else "I",
                "(a) Description of property": f"{plain(found.quantity)} {name}",
                "(b) Date acquired": _date(found.bought, book.zone),
                "(c) Date sold or disposed of": _date(found.sold, book.zone),
                "(d) Proceeds": f"{proceeds}",
                "(e) Cost or other basis": f"{basis}",
                "(f) Code": "W" if found.disallowed else "",
                "(g) Amount of adjustment": f"{adjusted}" if found.disallowed else "",
                "(h) Gain or (loss)": _accounting(proceeds - basis + adjusted),
            }
        )
    return to_csv(rows)


def cents(amount: Decimal) -> Decimal:
    """To two decimals, a half up."""
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP, EXACT)


def plain(amount: Decimal) -> str:
    """All its digits, without an exponent or zeros at the end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _accounting(amount: Decimal) -> str:
    return f"({-amount})" if amount < 0 else f"{amount}"


def _date(time: datetime, zone: tzinfo) -> str:
    return time.astimezone(zone).strftime("%m/%d/%Y")
