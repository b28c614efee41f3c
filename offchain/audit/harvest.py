"""Losses that could be realised now, and what a sale of each token would cost in tax: for people and for the planner.

Pure. A proposal is tried on the same matching as everything else (offchain.audit.lots), so that a sale that the
wash-sale rule would disallow is refused by that rule and not by a second one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_CEILING, Decimal

from offchain.audit.lots import (
    EXACT,
    ZERO,
    Book,
    Disposed,
    Lot,
    LotError,
    Match,
    Method,
    Transaction,
    exact,
    is_long,
    match,
    method_at,
    ordered,
)

__all__ = ["Harvest", "Rates", "harvest", "tax_per_token"]

TRIAL = "harvest"  # id of the sale that is tried


@dataclass(frozen=True, slots=True)
class Rates:
    """Tax on a gain, as a fraction."""

    short: Decimal = Decimal("0.37")  # held for a year or less: the highest federal rate (26 U.S.C. 1(j)(2))
    long: Decimal = Decimal("0.20")  # held for longer (26 U.S.C. 1(h)(1)(D))

    def of(self, held_since: datetime, now: datetime, zone: tzinfo = UTC) -> Decimal:
        """The one for something held since then and sold now."""
        return self.long if is_long(held_since, now, zone) else self.short


@dataclass(frozen=True, slots=True)
class Harvest:
    """A sale that realises a loss."""

    account: str
    asset: str
    quantity: Decimal
    parts: tuple[Match, ...]  # of the sale, lot by lot
    loss: Decimal  # above 0
    saves: Decimal  # of tax, where there are gains to set it against
    refused: str  # why it would not count; "" where nothing speaks against it
    buy_again: (
        date | None
    )  # the first day on which a purchase leaves the loss alone; None without a wash-sale rule


@exact
def harvest(
    transactions: Sequence[Transaction],
    prices: Mapping[str, Decimal],
    now: datetime,
    methods: Method | Mapping[int, Method] = Method.FIFO,
    *,
    rates: Rates = Rates(),
    wash_days: int = 30,
    zone: tzinfo = UTC,
    planned: Collection[str] = (),
    least: Decimal = ZERO,
) -> list[Harvest]:
    """For each account and asset the sale that realises the greatest loss, the greatest first.

    Args:
        transactions: all until now.
        prices: of a whole token, by asset, in the same money.
        now: when it would be sold.
        methods: as in `match`; with another than Method.SPECIFIC lots can only be sold in its order.
        rates: what the loss is worth.
        wash_days: as in `match`; a purchase so shortly before, or one that is planned, refuses a proposal.
        zone: whose calendar counts.
        planned: assets that are to be bought within the window.
        least: smaller losses are left out.

    Raises:
        LotError: as `match`, or an asset has no price.

    """
    book = match(transactions, methods, wash_days=wash_days, zone=zone)
    method = method_at(methods, now, zone)
    found = []
    for account, asset in sorted({(lot.account, lot.asset) for lot in book.open}):
        if asset not in prices:
            raise LotError(f"prices: none for {asset}")
        chosen = _worst(ordered(book, account, asset, method), prices[asset])
        if not chosen:
            continue
        quantity = sum((lot.quantity for lot in chosen), ZERO)
        named = tuple(_by_source(chosen).items())
        sale = Disposed(
            TRIAL, now, account, asset, quantity, EXACT.multiply(quantity, prices[asset]), lots=named
        )
        tried = match([*transactions, sale], methods, wash_days=wash_days, zone=zone)
        parts = tuple(part for part in tried.matches if part.sale == TRIAL)
        loss = sum((part.basis - part.proceeds for part in parts), ZERO)
        if loss <= least:
            continue
        worth = [
            EXACT.multiply(part.basis - part.proceeds, rates.of(part.held_since, now, zone)) for part in parts
        ]
        again = now.astimezone(zone).date() + timedelta(days=wash_days + 1) if wash_days else None
        refused = _refusal(parts, asset in planned and bool(wash_days), wash_days)
        found.append(Harvest(account, asset, quantity, parts, loss, sum(worth, ZERO), refused, again))
    return sorted(found, key=lambda h: (-h.loss, h.account, h.asset))


@exact
def tax_per_token(
    book: Book,
    account: str,
    tokens: Sequence[str],
    prices: Mapping[str, Decimal],
    now: datetime,
    method: Method = Method.FIFO,
    *,
    rates: Rates = Rates(),
    proposals: Sequence[Harvest] = (),
) -> tuple[int, ...]:
    """What `Problem.tax_per_token` takes: (n,) USD WAD of tax per whole token sold, of the lot that goes first.

    Below 0, a saving, only where one of `proposals` would count: a loss that the wash-sale rule disallows is worth
    nothing. Rounded up.
    """
    counts = {found.asset for found in proposals if found.account == account and not found.refused}
    taxes = []
    for token in tokens:
        lots = ordered(book, account, token, method)
        if not lots:
            taxes.append(0)
            continue
        if token not in prices:
            raise LotError(f"prices: none for {token}")
        rate = rates.of(lots[0].held_since, now, book.zone)
        tax = EXACT.multiply(prices[token] - lots[0].unit_cost, rate)
        if tax < 0 and token not in counts:
            tax = ZERO
        taxes.append(int(EXACT.multiply(tax, Decimal(10**18)).to_integral_value(ROUND_CEILING)))
    return tuple(taxes)


def _worst(lots: Sequence[Lot], price: Decimal) -> list[Lot]:
    """Of lots in the order in which they would go, those until the greatest loss in all."""
    best, at, total = ZERO, 0, ZERO
    for number, lot in enumerate(lots, 1):
        total += EXACT.multiply(lot.quantity, price) - lot.basis
        if total < best:
            best, at = total, number
    return list(lots[:at])


def _by_source(lots: Sequence[Lot]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for lot in lots:
        found[lot.source] = found.get(lot.source, ZERO) + lot.quantity
    return found


def _refusal(parts: Sequence[Match], planned: bool, wash_days: int) -> str:
    sources = sorted({source for part in parts for source in part.replaced_by})
    if sources:
        return f"wash sale: bought again less than {wash_days} days before ({', '.join(sources)})"
    return f"wash sale: a purchase is planned within {wash_days} days" if planned else ""
