"""Tax lots: by hand on small cases, beside RP2 on many random ones."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from offchain.audit.harvest import harvest, tax_per_token
from offchain.audit.lots import (
    Acquired,
    Book,
    Disposed,
    LotError,
    Method,
    Moved,
    is_long,
    match,
    unrealised,
    years,
)
from offchain.policy import WAD
from tests.offchain.test_planner_joint import pair, planned, vault

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2024, 1, 1, tzinfo=UTC)
RULES = [Method.FIFO, Method.LIFO, Method.HIFO, Method.AVERAGE]


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def buy(
    id: str, on: int, quantity: str, cost: str, fee: str = "0", account: str = "a", asset: str = "X"
) -> Acquired:
    return Acquired(id, day(on), account, asset, D(quantity), D(cost), D(fee))


def sell(
    id: str, on: int, quantity: str, proceeds: str, fee: str = "0", account: str = "a", **more: Any
) -> Disposed:
    return Disposed(id, day(on), account, more.pop("asset", "X"), D(quantity), D(proceeds), D(fee), **more)


THREE = [buy("1", 0, "10", "100", "1"), buy("2", 10, "10", "300"), buy("3", 20, "10", "200")]


@pytest.mark.parametrize(
    ("method", "lots", "basis"),
    [
        (Method.FIFO, ["1", "2"], D(101) + D(150)),
        (Method.LIFO, ["3", "2"], D(200) + D(150)),
        (Method.HIFO, ["2", "3"], D(300) + D(100)),
        (Method.AVERAGE, ["1", "2"], D("300.5")),
    ],
)
def test_each_method_takes_its_lots(method: Method, lots: list[str], basis: D) -> None:
    book = match([*THREE, sell("s", 40, "15", "900", "2")], method)
    assert [found.lot for found in book.matches] == lots
    assert sum(found.basis for found in book.matches) == basis
    assert sum(found.proceeds for found in book.matches) == 898
    assert sum(found.gain for found in book.matches) == 898 - basis
    assert {found.method for found in book.matches} == {method}
    assert sum(lot.basis for lot in book.open) == 601 - basis


def test_a_sale_takes_the_lots_that_it_names() -> None:
    named = sell("s", 40, "15", "900", lots=(("3", D(10)), ("1", D(5))))
    book = match([*THREE, named], Method.SPECIFIC)
    assert [(found.lot, found.quantity, found.basis) for found in book.matches] == [
        ("3", 10, 200),
        ("1", 5, D("50.5")),
    ]
    assert [(lot.source, lot.quantity) for lot in book.open] == [("1", 5), ("2", 10)]


@pytest.mark.parametrize(
    ("lots", "message"),
    [
        ((), "s: lots: their quantities do not sum to 15"),
        ((("3", D(10)),), "s: lots: their quantities do not sum to 15"),
        ((("3", D(15)),), "s: lots: a has 10 of 3, not 15"),
        ((("9", D(15)),), "s: lots: a has 0 of 9, not 15"),
        ((("1", D(5)), ("1", D(10))), "s: lots: one is named twice"),
        ((("1", D(-5)), ("2", D(20))), "s: lots: a quantity is not above 0"),
    ],
)
def test_lots_that_are_not_there_are_refused(lots: tuple[tuple[str, D], ...], message: str) -> None:
    with pytest.raises(LotError, match=f"^{message}$"):
        match([*THREE, sell("s", 40, "15", "900", lots=lots)], Method.SPECIFIC)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (sell("s", 40, "31", "1"), "s: 31 X leave a, which had 30: a transaction before is missing"),
        (sell("s", 5, "11", "1"), "s: 11 X leave a, which had 10"),
        (sell("s", 40, "1", "1", account="b"), "s: 1 X leave b, which had 0: .* belongs to another account"),
        (sell("1", 40, "1", "1"), "1: two transactions have this id"),
        (sell("s", 40, "0", "1"), "s: quantity: 0 is not above 0"),
        (sell("s", 40, "NaN", "1"), "s: quantity: NaN is not above 0"),
        (sell("s", 40, "1", "-1"), "s: proceeds: -1 is not an amount of at least 0"),
        (sell("s", 40, "1", "1", "Infinity"), "s: fee: Infinity is not an amount"),
        (buy("b", 40, "1", "-1"), "b: cost: -1 is not an amount"),
        (Acquired("b", datetime(2024, 1, 1), "a", "X", D(1), D(1)), "b: time: has no time zone"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: Any, message: str) -> None:
    with pytest.raises(LotError, match=f"^{message}"):
        match([*THREE, wrong])


def test_accounts_and_assets_are_apart_and_a_move_takes_the_lots_along() -> None:
    book = match(
        [
            buy("1", 0, "10", "100"),
            buy("2", 1, "10", "300", account="b"),
            buy("3", 2, "10", "700", asset="Y"),
            Moved("m", day(3), "a", "b", "X", D(4)),
            sell("s", 400, "6", "600", account="b"),
        ]
    )
    assert [(found.lot, found.quantity, found.basis) for found in book.matches] == [
        ("1", 4, 40),
        ("2", 2, 60),
    ]
    assert [is_long(found.held_since, found.sold) for found in book.matches] == [True, True]
    assert {(lot.account, lot.asset, lot.source): lot.quantity for lot in book.open} == {
        ("a", "X", "1"): 6,
        ("b", "X", "2"): 8,
        ("a", "Y", "3"): 10,
    }


def test_a_method_for_each_year_in_the_owners_calendar() -> None:
    late = Disposed("s1", datetime(2024, 12, 31, 23, 30, tzinfo=UTC), "a", "X", D(1), D(50))
    later = Disposed("s2", datetime(2025, 6, 1, tzinfo=UTC), "a", "X", D(1), D(50))
    by_year = {2024: Method.LIFO, 2025: Method.HIFO}
    assert [m.lot for m in match([*THREE, late, later], by_year).matches] == ["3", "2"]
    zurich = match([*THREE, late, later], by_year, zone=ZoneInfo("Europe/Zurich"))
    assert [(m.lot, m.method) for m in zurich.matches] == [("2", Method.HIFO), ("2", Method.HIFO)]
    assert [row.year for row in years(zurich)] == [2025]
    with pytest.raises(LotError, match=r"^method: none for 2025, in which there is a sale$"):
        match([*THREE, late, later], {2024: Method.FIFO})


@pytest.mark.parametrize(
    ("bought", "sold", "long"),
    [
        (datetime(2023, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, 23, tzinfo=UTC), False),
        (datetime(2023, 3, 1, 23, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC), True),
        (datetime(2023, 2, 28, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), False),  # Rev. Rul. 66-7
        (datetime(2023, 2, 28, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), True),
        (datetime(2024, 2, 28, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC), True),
        (datetime(2024, 2, 29, tzinfo=UTC), datetime(2025, 2, 28, tzinfo=UTC), False),
        (datetime(2024, 2, 29, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC), True),
    ],
)
def test_long_is_more_than_a_year(bought: datetime, sold: datetime, long: bool) -> None:
    assert is_long(bought, sold) is long


# ---------------------------------------------------------------- wash sales


def wash(*transactions: Any, days: int = 30) -> Book:
    return match(transactions, Method.FIFO, wash_days=days)


def test_a_loss_goes_into_what_is_bought_within_the_window() -> None:
    book = wash(
        buy("1", 0, "10", "1000"),
        sell("s", 100, "10", "600"),
        buy("2", 110, "4", "250"),
        sell("t", 300, "4", "400"),
    )
    loss, gain = book.matches
    assert (loss.disallowed, loss.gain, loss.replaced_by) == (160, -240, ("2",))
    assert (gain.basis, gain.gain) == (250 + 160, -10)
    assert gain.held_since == day(110) - timedelta(days=100)  # the time of the first lot is added
    assert (years(book)[0].short, years(book)[0].disallowed) == (-250, 160)


def test_a_purchase_before_the_sale_counts_too_but_not_the_same_lot() -> None:
    before = wash(buy("1", 0, "10", "1000"), buy("2", 90, "5", "400"), sell("s", 100, "10", "600"))
    assert before.matches[0].disallowed == 200
    assert [(lot.source, lot.basis, lot.replaces) for lot in before.open] == [("2", 600, "s")]
    same = wash(buy("1", 95, "10", "1000"), sell("s", 100, "6", "300"))  # Rev. Rul. 56-602
    assert same.matches[0].disallowed == 0


@pytest.mark.parametrize(("on", "disallowed"), [(130, 400), (131, 0), (70, 400), (69, 0)])
def test_the_window_is_thirty_days_each_way(on: int, disallowed: int) -> None:
    book = wash(buy("1", 0, "10", "1000"), buy("2", on, "10", "500"), sell("s", 100, "10", "600"))
    assert book.matches[0].disallowed == disallowed


def test_a_replacement_serves_one_loss_only_and_in_any_account() -> None:
    book = wash(
        buy("1", 0, "10", "1000"),
        sell("s", 100, "5", "300"),
        sell("t", 101, "5", "200"),
        buy("2", 110, "6", "360", account="b"),
        buy("3", 120, "2", "100"),
    )
    assert [found.disallowed for found in book.matches] == [200, 180]
    assert [(lot.source, lot.quantity, lot.basis, lot.replaces) for lot in book.open] == [
        ("2", 5, 500, "s"),
        ("2", 1, 120, "t"),
        ("3", 2, 220, "t"),
    ]


def test_gains_and_other_assets_are_no_wash_sales_and_without_the_rule_nothing_is() -> None:
    assert (
        wash(buy("1", 0, "1", "10"), sell("s", 9, "1", "11"), buy("2", 9, "1", "9")).matches[0].disallowed
        == 0
    )
    assert (
        wash(buy("1", 0, "1", "10"), sell("s", 9, "1", "9"), buy("2", 9, "1", "9", asset="Y")).matches[0].gain
        == -1
    )
    assert (
        match([buy("1", 0, "1", "10"), sell("s", 9, "1", "9"), buy("2", 9, "1", "9")]).matches[0].gain == -1
    )


def test_the_examples_of_the_regulation() -> None:
    """26 CFR 1.1091-1(h), examples 1 to 3."""
    one = wash(buy("1", 0, "100", "10000"), buy("2", 14, "100", "9000"), sell("s", 33, "100", "9000"))
    assert (one.matches[0].gain, one.open[0].basis) == (0, 10_000)
    two = wash(
        buy("1", 0, "100", "5000"),
        buy("2", 91, "50", "2750"),
        buy("3", 97, "25", "1125"),
        sell("s", 104, "100", "4000"),
    )
    assert (two.matches[0].disallowed, two.matches[0].gain) == (750, -250)
    assert [lot.basis for lot in two.open] == [3250, 1375]
    days = [buy(str(n), 518 + n, "50", "2000") for n in range(4)]
    three = wash(buy("first", 0, "100", "5000"), sell("s", 504, "100", "4000"), *days)
    assert (three.matches[0].gain, three.matches[0].replaced_by) == (0, ("0", "1"))
    assert [lot.held_since for lot in three.open] == [day(518 - 504), day(519 - 504), day(520), day(521)]


def test_what_a_sale_leaves_of_a_later_lot_replaces_the_lot_before() -> None:
    book = wash(buy("1", 0, "100", "1000"), buy("2", 138, "100", "900"), sell("s", 147, "150", "750"))
    assert [(found.lot, found.disallowed, found.gain) for found in book.matches] == [
        ("1", 250, -250),
        ("2", 0, -200),
    ]
    assert [(lot.quantity, lot.basis, lot.held_since) for lot in book.open] == [(50, 700, day(138 - 147))]


def test_the_holding_period_of_a_loss_is_added_in_calendar_days() -> None:
    hours = timedelta(hours=1)
    book = wash(
        Acquired("1", day(0) + hours, "a", "X", D(1), D(10)),
        Disposed("s", day(152) + 23 * hours, "a", "X", D(1), D(5)),
        Acquired("2", day(166) + hours / 2, "a", "X", D(1), D(5)),
    )
    assert book.open[0].held_since.date() == day(166 - 152).date()


def test_lifo_takes_the_last_listed_of_the_same_time() -> None:
    book = match([buy("1", 0, "1", "10"), buy("2", 0, "1", "20"), sell("s", 1, "1", "30")], Method.LIFO)
    assert book.matches[0].lot == "2"


@pytest.mark.parametrize("method", RULES)
def test_sums_are_exact_beyond_28_digits(method: Method) -> None:
    whole, least = D("123456789012345678901234567890.123456789012345678"), D("1e-18")
    book = match(
        [
            Acquired("1", day(0), "a", "X", whole, whole, least),
            Disposed("s", day(1), "a", "X", least, least),
            Disposed("t", day(2), "a", "X", D("123456789012345678901234567890.123456789012345677"), whole),
        ],
        method,
    )  # fmt: skip
    assert book.open == ()
    assert sum((found.gain for found in book.matches), D(0)) == 0
    assert book.matches[0].quantity == least


# ---------------------------------------------------------------- sums


def random_account(seed: int, *, most: int = 60) -> list[Any]:
    """Purchases and sales of odd amounts, never more sold than there is; no two at a time."""
    rng = random.Random(seed)
    held, on, found = D(0), 0.0, []
    for number in range(most):
        on += rng.choice((0.2, 3.3, 11.7, 45.1))
        at = START + timedelta(days=on)
        if held == 0 or rng.random() < 0.55:
            quantity = D(rng.randrange(1, 10**9)) / 10**6
            price = D(rng.randrange(100, 100_000)) / 100
            cost = (quantity * price).quantize(D("0.000001"))
            found.append(Acquired(f"b{number}", at, "a", "X", quantity, cost, cost / 1000))
            held += quantity
        else:
            quantity = (
                held if rng.random() < 0.1 else (held * D(rng.randrange(1, 100)) / 100).quantize(D("1e-8"))
            )
            price = D(rng.randrange(100, 100_000)) / 100
            found.append(
                Disposed(f"s{number}", at, "a", "X", quantity, (quantity * price).quantize(D("0.000001")))
            )
            held -= quantity
    return found


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("wash_days", [0, 30])
def test_nothing_is_lost_or_made(method: Method, wash_days: int) -> None:
    for seed in range(15):
        transactions = random_account(seed)
        book = match(transactions, method, wash_days=wash_days)
        bought = [t for t in transactions if isinstance(t, Acquired)]
        sold = {t.id: t for t in transactions if isinstance(t, Disposed)}
        put_in = sum(t.cost + t.fee for t in bought)
        moved = sum(found.disallowed for found in book.matches)
        taken = sum(found.basis for found in book.matches)
        assert put_in + moved == taken + sum(lot.basis for lot in book.open)
        assert sum(t.quantity for t in bought) == sum(x.quantity for x in (*book.matches, *book.open))
        for id, sale in sold.items():
            parts = [found for found in book.matches if found.sale == id]
            assert sum(found.quantity for found in parts) == sale.quantity
            assert sum(found.proceeds for found in parts) == sale.proceeds
        total = sum(row.short + row.long for row in years(book))
        price = {"X": D(100)}
        assert total + sum(gain for _, gain in unrealised(book, price)) == sum(
            t.proceeds for t in sold.values()
        ) - put_in + sum(lot.quantity * 100 for lot in book.open)
        if wash_days:
            assert moved > 0
            assert all(found.disallowed <= max(found.basis - found.proceeds, 0) for found in book.matches)


def test_an_open_lot_needs_a_price() -> None:
    with pytest.raises(LotError, match=r"^prices: none for X$"):
        unrealised(match(THREE), {})


# ---------------------------------------------------------------- RP2


def by_rp2(jobs: list[tuple[list[Any], dict[int, Method]]]) -> list[Any]:
    """Of each job the gains and losses as RP2 computes them."""
    told = [
        {
            "methods": methods,
            "transactions": [
                (
                    t.id,
                    t.time.isoformat(),
                    str(t.quantity),
                    str(t.cost if isinstance(t, Acquired) else t.proceeds),
                    str(t.fee),
                )
                for t in transactions
            ],
        }
        for transactions, methods in jobs
    ]
    command = [sys.executable, "-m", "tests.support.rp2_gains"]
    found = subprocess.run(
        command, input=json.dumps(told), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return list(json.loads(found.stdout))


METHODS = [
    {2024: Method.FIFO},
    {2024: Method.LIFO},
    {2024: Method.HIFO},
    {2024: Method.LIFO, 2025: Method.HIFO, 2026: Method.FIFO},
]


def test_rp2_matches_the_same_lots_with_the_same_gains() -> None:
    """The fee is a fixed share of the price, since RP2's HIFO leaves it out of its order."""
    jobs = [(random_account(seed), methods) for seed in range(20) for methods in METHODS]
    sales = 0
    for (transactions, methods), theirs in zip(jobs, by_rp2(jobs), strict=True):
        last = methods[max(methods)]
        ours = match(transactions, {year: methods.get(year, last) for year in range(2024, 2040)})
        seen = {(found.sale, found.lot): found for found in ours.matches}
        assert len(seen) == len(ours.matches) == len(theirs)
        for sale, lot, quantity, gain, basis, long in theirs:
            found = seen[sale, lot]
            assert found.quantity == D(quantity)
            assert abs(found.gain - D(gain)) < D("1e-10")
            assert abs(found.basis - D(basis)) < D("1e-10")
            held = found.sold.date() - found.bought.date()
            if abs(held.days - 365) > 1:  # RP2 counts days, of leap years too
                assert is_long(found.held_since, found.sold) == long
            sales += 1
    assert sales > 2_000


# ---------------------------------------------------------------- harvest

NOW = day(400)
PRICES = {"X": D(20), "Y": D(50)}


def test_the_worst_prefix_of_what_the_method_would_sell() -> None:
    book = [buy("1", 0, "10", "100"), buy("2", 300, "10", "400"), buy("3", 310, "10", "150")]
    (found,) = harvest(book, PRICES, NOW, Method.FIFO)
    assert (found.quantity, found.loss) == (20, 100)  # the gain of 1 goes along
    assert found.saves == -100 * D("0.20") + 200 * D("0.37")
    assert (found.refused, found.buy_again) == ("", (NOW + timedelta(days=31)).date())
    (best,) = harvest(book, PRICES, NOW, Method.SPECIFIC)
    assert ([part.lot for part in best.parts], best.loss, best.saves) == (["2"], 200, 74)
    (average,) = harvest([*book, buy("4", 320, "10", "350")], PRICES, NOW, Method.AVERAGE)
    assert (average.quantity, average.loss) == (40, 200)
    assert harvest(book, {"X": D(50)}, NOW) == []
    assert harvest(book, PRICES, NOW, least=D(100)) == []


def test_a_harvest_that_breaks_the_window_is_refused() -> None:
    book = [
        buy("1", 0, "10", "400"),
        buy("2", 375, "4", "70", account="b"),
        buy("3", 0, "1", "90", asset="Y"),
    ]
    first, second = harvest(book, PRICES, NOW)
    assert (first.asset, first.refused) == ("X", "wash sale: bought again less than 30 days before (2)")
    assert (second.asset, second.refused) == ("Y", "")
    planned = harvest(book, PRICES, NOW, planned=["Y"])[1]
    assert planned.refused == "wash sale: a purchase is planned within 30 days"
    assert [found.refused for found in harvest(book, PRICES, NOW, planned=["Y"], wash_days=0)] == ["", ""]
    with pytest.raises(LotError, match=r"^prices: none for Y$"):
        harvest(book, {"X": D(20)}, NOW)


def test_the_planner_sells_what_it_saves_tax_on_first() -> None:
    """Two tokens equally above target: with tax the planner sells the one with a loss, unless that would not count."""
    transactions = [buy("1", 0, "1000", "500"), buy("2", 0, "1000", "3000", asset="Y")]
    prices = {"X": D(1), "Y": D(1)}
    state = vault({"a": 3_000, "b": 3_000, "c": 4_000}, {"a": 40_000, "b": 40_000, "c": 20_000})
    pools = [pair("a", "c", 10_000_000), pair("b", "c", 10_000_000, "1")]

    def sold(taxes: tuple[int, ...]) -> tuple[int, ...]:
        return planned(state, *pools, tax_per_token=taxes, risk_aversion=WAD // 100, closing=False).sells[:2]

    book = match(transactions)
    proposals = harvest(transactions, prices, NOW)
    taxes = tax_per_token(book, "a", ["X", "Y", "Z"], prices, NOW, proposals=proposals)
    assert taxes == (WAD // 10, -4 * WAD // 10, 0)
    gain, loss = sold(taxes)
    assert loss > gain
    refused = harvest([*transactions, buy("3", 390, "1", "1", asset="Y")], prices, NOW)
    worthless = tax_per_token(book, "a", ["X", "Y", "Z"], prices, NOW, proposals=refused)
    assert worthless == (WAD // 10, 0, 0)
    assert sold(worthless)[1] < loss
