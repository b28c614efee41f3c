"""Tax lots: what was bought, which of it a sale disposed of, and the gain. Pure, exact: no clock, disk or network.

    book = match(transactions, Method.FIFO, wash_days=30)
    book.matches    # every part of a lot that was sold: proceeds, basis, gain, holding period
    book.open       # what is left, lot by lot

Money is a Decimal in one currency, quantities are Decimals in whole tokens. A part of a lot takes its share of the
basis, rounded to 1e-18; the rest keeps the remainder, so nothing is lost or made. No tax advice: the methods and the
wash-sale rule are those of the United States (26 CFR 1.1012-1, 26 U.S.C. 1091) as far as written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from enum import StrEnum
from functools import wraps
from typing import ParamSpec, TypeVar

from offchain.errors import EvenkeelError

__all__ = [
    "Acquired",
    "Book",
    "Disposed",
    "Lot",
    "LotError",
    "Match",
    "Method",
    "Moved",
    "Transaction",
    "Year",
    "exact",
    "is_long",
    "match",
    "ordered",
    "unrealised",
    "years",
]

EXACT = Context(
    prec=100, rounding=ROUND_HALF_EVEN
)  # sums of what a file may say, 40 digits and 40 behind the point
SMALLEST = Decimal("1e-18")
ZERO = Decimal(0)
P = ParamSpec("P")
R = TypeVar("R")


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """`function` in EXACT: Python's own context rounds every sum to 28 digits."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return inside


class LotError(EvenkeelError):
    """The transactions cannot be matched: correct the one that is named."""


class Method(StrEnum):
    """Which lot a sale takes first."""

    FIFO = "fifo"  # the oldest
    LIFO = "lifo"  # the newest
    HIFO = "hifo"  # the one that cost most a unit, fees included
    AVERAGE = "average"  # the oldest, each at the average cost of all
    SPECIFIC = "specific"  # those that the sale names, and no sale without


@dataclass(frozen=True, slots=True)
class Acquired:
    """A purchase."""

    id: str
    time: datetime
    account: str
    asset: str
    quantity: Decimal
    cost: Decimal  # paid, without the fee
    fee: Decimal = ZERO  # part of the basis


@dataclass(frozen=True, slots=True)
class Disposed:
    """A sale."""

    id: str
    time: datetime
    account: str
    asset: str
    quantity: Decimal
    proceeds: Decimal  # received, before the fee
    fee: Decimal = ZERO  # lowers the proceeds
    lots: tuple[tuple[str, Decimal], ...] = ()  # (id of the purchase, quantity): these, whatever the method


@dataclass(frozen=True, slots=True)
class Moved:
    """From one account of the owner to another: lots go along, nothing is realised."""

    id: str
    time: datetime
    account: str  # from
    to: str
    asset: str
    quantity: Decimal
    lots: tuple[tuple[str, Decimal], ...] = ()


Transaction = Acquired | Disposed | Moved


@dataclass(frozen=True, slots=True)
class Lot:
    """What is left of a purchase, or of a part of it that a wash sale or a move split off."""

    source: str  # id of the purchase
    account: str
    asset: str
    bought: datetime
    held_since: datetime  # before `bought` where a wash sale's holding period is added
    quantity: Decimal
    basis: Decimal
    replaces: str = ""  # id of the sale whose loss went into the basis

    @property
    def unit_cost(self) -> Decimal:
        """Basis of a whole token."""
        return EXACT.divide(self.basis, self.quantity)


@dataclass(frozen=True, slots=True)
class Match:
    """A part of a lot that a sale disposed of."""

    sale: str  # id
    lot: str  # id of the purchase
    account: str
    asset: str
    quantity: Decimal
    bought: datetime
    held_since: datetime
    sold: datetime
    proceeds: Decimal  # net of fees
    basis: Decimal
    method: Method
    disallowed: Decimal = ZERO  # of a loss: went into the basis of what replaced it
    replaced_by: tuple[str, ...] = ()  # ids of the purchases

    @property
    def gain(self) -> Decimal:
        """Below 0: a loss. What a wash sale disallows is not counted."""
        return EXACT.add(EXACT.subtract(self.proceeds, self.basis), self.disallowed)


@dataclass(frozen=True, slots=True)
class Book:
    """All sales matched with lots, and what is left."""

    matches: tuple[Match, ...]  # in the order of the sales
    open: tuple[Lot, ...]  # in the order of the purchases
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Year:
    """Realised in one year of the owner's time zone."""

    year: int
    account: str
    asset: str
    method: Method
    proceeds: Decimal
    basis: Decimal
    disallowed: Decimal
    short: Decimal  # gain of what was held for a year or less
    long: Decimal


# ---------------------------------------------------------------- matching


@exact
def match(
    transactions: Iterable[Transaction],
    methods: Method | Mapping[int, Method] = Method.FIFO,
    *,
    wash_days: int = 0,
    zone: tzinfo = UTC,
) -> Book:
    """Match every sale with lots.

    Args:
        transactions: any order; those of the same time are taken as they come.
        methods: one, or one for each year that has a sale (in `zone`).
        wash_days: a loss is disallowed as far as the same asset is bought, in any account, so many days before or after
            (30 in the United States); 0: no such rule.
        zone: whose calendar days and years count.

    Raises:
        LotError: more is sold than there is, a lot that is named does not exist, or no method is given for a year.

    """
    at_work = _Matching(methods, wash_days, zone)
    for transaction in sorted(_checked(transactions), key=lambda t: t.time):
        match transaction:
            case Acquired():
                at_work.acquire(transaction)
            case Disposed():
                at_work.dispose(transaction)
            case Moved():
                at_work.move(transaction)
    return Book(tuple(at_work.matches), tuple(sorted(at_work.lots, key=lambda lot: lot.bought)), zone)


@dataclass(slots=True)
class _Matching:
    """The state between two transactions."""

    methods: Method | Mapping[int, Method]
    wash_days: int
    zone: tzinfo
    lots: list[Lot] = field(default_factory=list)  # in the order in which they are known
    matches: list[Match] = field(default_factory=list)
    losses: list[tuple[int, Decimal]] = field(default_factory=list)  # (place in matches, not yet replaced)

    def acquire(self, bought: Acquired) -> None:
        """A new lot; first as far as needed in place of what was sold at a loss shortly before."""
        lot = Lot(
            bought.id,
            bought.account,
            bought.asset,
            bought.time,
            bought.time,
            bought.quantity,
            bought.cost + bought.fee,
        )
        waiting = []
        for place, missing in self.losses:
            loss = self.matches[place]
            if not self._near(loss.sold, bought.time):
                continue
            if loss.asset == bought.asset and lot.quantity:
                used = min(missing, lot.quantity)
                taken, lot = split(lot, used)
                self.lots.append(self._replace(place, used, taken, last=used == missing))
                missing -= used
            if missing:
                waiting.append((place, missing))
        self.losses = waiting
        if lot.quantity:
            self.lots.append(lot)

    def dispose(self, sold: Disposed) -> None:
        """Lots out, a match for each part."""
        method = self._method(sold)
        if method == Method.AVERAGE:
            self._average(sold.account, sold.asset)
        left, proceeds = sold.quantity, sold.proceeds - sold.fee
        first = len(self.matches)
        for taken in self._take(sold, Method.SPECIFIC if sold.lots else method):
            part = share(proceeds, taken.quantity, left)
            left, proceeds = left - taken.quantity, proceeds - part
            self.matches.append(
                Match(
                    sold.id,
                    taken.source,
                    taken.account,
                    taken.asset,
                    taken.quantity,
                    taken.bought,
                    taken.held_since,
                    sold.time,
                    part,
                    taken.basis,
                    method,
                )
            )
        if self.wash_days:
            for place in range(first, len(self.matches)):
                self._wash(place)

    def move(self, moved: Moved) -> None:
        """The same lots in another account."""
        method = Method.SPECIFIC if moved.lots else Method.FIFO
        self.lots += [replace(taken, account=moved.to) for taken in self._take(moved, method)]

    def _method(self, sold: Disposed) -> Method:
        return method_at(self.methods, sold.time, self.zone)

    # ------------------------------------------------------------ which lots

    def _held(self, account: str, asset: str) -> list[Lot]:
        return [lot for lot in self.lots if (lot.account, lot.asset) == (account, asset)]

    def _take(self, going: Disposed | Moved, method: Method) -> list[Lot]:
        """Remove what goes from the lots: the parts, in order."""
        held = self._held(going.account, going.asset)
        if method == Method.SPECIFIC:
            order = _named(going, held)
        else:
            order = [(lot, lot.quantity) for lot in _sorted(held, method)]
        taken, missing = [], going.quantity
        for lot, most in order:
            used = min(most, missing)
            if not used:
                break
            part, rest = split(lot, used)
            taken.append(part)
            missing -= used
            place = next(i for i, known in enumerate(self.lots) if known is lot)
            self.lots[place : place + 1] = [rest] if rest.quantity else []
        if missing:
            raise LotError(
                f"{going.id}: {going.quantity} {going.asset} leave {going.account}, which had "
                f"{going.quantity - missing}: a transaction before is missing, or belongs to another account"
            )
        return taken

    def _average(self, account: str, asset: str) -> None:
        """Spread what all lots cost over them."""
        held = self._held(account, asset)
        for lot, spread in zip(held, averaged(held), strict=True):
            place = next(i for i, known in enumerate(self.lots) if known is lot)
            self.lots[place] = spread

    # ------------------------------------------------------------ wash sales

    def _wash(self, place: int) -> None:
        """A loss goes into what was bought for it before; the rest waits for purchases to come.

        Oldest purchase first (26 CFR 1.1091-1(c), (d)). What is left of the very lot that was sold replaces nothing
        (Rev. Rul. 56-602); of another lot that the same sale reduced it does.
        """
        loss = self.matches[place]
        if loss.proceeds >= loss.basis:
            return
        missing = loss.quantity
        for lot in sorted(self.lots, key=lambda lot: lot.bought):
            fits = lot.asset == loss.asset and not lot.replaces and lot.source != loss.lot
            if not missing or not fits or not self._near(lot.bought, loss.sold):
                continue
            used = min(missing, lot.quantity)
            taken, rest = split(lot, used)
            where = next(i for i, known in enumerate(self.lots) if known is lot)
            self.lots[where : where + 1] = [
                self._replace(place, used, taken, last=used == missing),
                *([rest] if rest.quantity else []),
            ]
            missing -= used
        if missing:
            self.losses.append((place, missing))

    def _replace(self, place: int, used: Decimal, lot: Lot, *, last: bool) -> Lot:
        """So much of the loss is disallowed, and goes into `lot` with the time for which it was held."""
        loss = self.matches[place]
        whole = loss.basis - loss.proceeds
        moved = whole - loss.disallowed if last else share(whole, used, loss.quantity)
        self.matches[place] = replace(
            loss, disallowed=loss.disallowed + moved, replaced_by=(*loss.replaced_by, lot.source)
        )
        days = timedelta(days=(self._day(loss.sold) - self._day(loss.held_since)).days)
        since = lot.bought.astimezone(self.zone) - days  # calendar days, as holding periods are counted
        return replace(
            lot, basis=lot.basis + moved, held_since=since.astimezone(lot.bought.tzinfo), replaces=loss.sale
        )

    def _near(self, one: datetime, other: datetime) -> bool:
        return abs((self._day(other) - self._day(one)).days) <= self.wash_days

    def _day(self, time: datetime) -> date:
        return time.astimezone(self.zone).date()


_KEYS = {
    Method.FIFO: lambda lot: lot.bought,
    Method.AVERAGE: lambda lot: lot.bought,
    Method.LIFO: lambda lot: -lot.bought.timestamp(),
    Method.HIFO: lambda lot: (-lot.unit_cost, lot.bought),
}


def _sorted(held: Sequence[Lot], method: Method) -> list[Lot]:
    """As the method takes them; of purchases at the same time LIFO takes the one that is listed last."""
    return sorted(held[::-1] if method == Method.LIFO else held, key=_KEYS[method])


def method_at(methods: Method | Mapping[int, Method], time: datetime, zone: tzinfo) -> Method:
    """The one of a sale at that time; LotError where its year has none."""
    if isinstance(methods, Method):
        return methods
    year = time.astimezone(zone).year
    if year not in methods:
        raise LotError(f"method: none for {year}, in which there is a sale")
    return methods[year]


def _named(going: Disposed | Moved, held: Sequence[Lot]) -> list[tuple[Lot, Decimal]]:
    """The lots that the transaction names, and how much of each."""
    if sum((quantity for _, quantity in going.lots), ZERO) != going.quantity:
        raise LotError(f"{going.id}: lots: their quantities do not sum to {going.quantity}")
    order = []
    for source, quantity in going.lots:
        wanted = quantity
        for lot in (lot for lot in held if lot.source == source):
            used = min(lot.quantity, wanted)
            if used:
                order.append((lot, used))
                wanted -= used
        if wanted:
            raise LotError(
                f"{going.id}: lots: {going.account} has {quantity - wanted} of {source}, not {quantity}"
            )
    return order


def averaged(lots: Sequence[Lot]) -> list[Lot]:
    """The lots, each at the average cost of all."""
    left, basis = sum((lot.quantity for lot in lots), ZERO), sum((lot.basis for lot in lots), ZERO)
    found = []
    for lot in lots:
        part = share(basis, lot.quantity, left)
        left, basis = left - lot.quantity, basis - part
        found.append(replace(lot, basis=part))
    return found


def split(lot: Lot, quantity: Decimal) -> tuple[Lot, Lot]:
    """`quantity` of the lot, and the rest; of its basis each has its share."""
    basis = share(lot.basis, quantity, lot.quantity)
    rest = replace(lot, quantity=lot.quantity - quantity, basis=lot.basis - basis)
    return replace(lot, quantity=quantity, basis=basis), rest


def share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Amount · part / whole, to 1e-18; all of it where the part is the whole."""
    if part == whole:
        return amount
    return EXACT.divide(EXACT.multiply(amount, part), whole).quantize(SMALLEST, context=EXACT)


def _checked(transactions: Iterable[Transaction]) -> list[Transaction]:
    known, found = set(), list(transactions)
    for t in found:
        if t.id in known:
            raise LotError(f"{t.id}: two transactions have this id")
        known.add(t.id)
        if t.time.tzinfo is None:
            raise LotError(f"{t.id}: time: has no time zone")
        if not 1900 <= t.time.year < 9000:
            raise LotError(f"{t.id}: time: the year {t.time.year} is not between 1900 and 8999")
        money = [] if isinstance(t, Moved) else [("fee", t.fee)]
        money += [("cost", t.cost)] if isinstance(t, Acquired) else []
        money += [("proceeds", t.proceeds)] if isinstance(t, Disposed) else []
        for name, amount in money:
            if not amount.is_finite() or amount < 0:
                raise LotError(f"{t.id}: {name}: {amount} is not an amount of at least 0")
        if not t.quantity.is_finite() or t.quantity <= 0:
            raise LotError(f"{t.id}: quantity: {t.quantity} is not above 0")
        named = () if isinstance(t, Acquired) else t.lots
        if any(not q.is_finite() or q <= 0 for _, q in named):
            raise LotError(f"{t.id}: lots: a quantity is not above 0")
        if len({source for source, _ in named}) < len(named):
            raise LotError(f"{t.id}: lots: one is named twice")
    return found


# ---------------------------------------------------------------- reading a book


def is_long(held_since: datetime, sold: datetime, zone: tzinfo = UTC) -> bool:
    """Held for more than a year (26 U.S.C. 1222), which begins on the day after the purchase (Rev. Rul. 66-7)."""
    return sold.astimezone(zone).date() >= _anniversary(
        held_since.astimezone(zone).date() + timedelta(days=1)
    )


@exact
def years(book: Book) -> list[Year]:
    """Realised gains by year, account and asset; a row for each method that was used."""
    rows: dict[tuple[int, str, str, Method], Year] = {}
    for found in book.matches:
        key = (found.sold.astimezone(book.zone).year, found.account, found.asset, found.method)
        row = rows.get(key) or Year(*key, ZERO, ZERO, ZERO, ZERO, ZERO)
        long = is_long(found.held_since, found.sold, book.zone)
        rows[key] = replace(
            row,
            proceeds=row.proceeds + found.proceeds,
            basis=row.basis + found.basis,
            disallowed=row.disallowed + found.disallowed,
            short=row.short + (ZERO if long else found.gain),
            long=row.long + (found.gain if long else ZERO),
        )
    return [rows[key] for key in sorted(rows)]


@exact
def ordered(book: Book, account: str, asset: str, method: Method) -> list[Lot]:
    """The open lots as the next sale would take them, at the cost that counts; Method.SPECIFIC: the dearest first."""
    held = [lot for lot in book.open if (lot.account, lot.asset) == (account, asset)]
    if method == Method.AVERAGE:
        held = averaged(held)
    return _sorted(held, Method.HIFO if method == Method.SPECIFIC else method)


@exact
def unrealised(book: Book, prices: Mapping[str, Decimal]) -> list[tuple[Lot, Decimal]]:
    """Each open lot and its gain at `prices` (by asset, a whole token).

    Raises:
        LotError: an asset has no price.

    """
    rows = []
    for lot in book.open:
        if lot.asset not in prices:
            raise LotError(f"prices: none for {lot.asset}")
        rows.append((lot, EXACT.multiply(lot.quantity, prices[lot.asset]) - lot.basis))
    return rows


def _anniversary(day: date) -> date:
    """A year later; of 29 February, 1 March."""
    try:
        return day.replace(year=day.year + 1)
    except ValueError:
        return date(day.year + 1, 3, 1)
