"""The rule book by itself, asked by an account that holds the tokens: words, and the sums of one trade, written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.evm import Contract, Evm, artifact
from tests.support.world import START, WAD, ZERO, reverts

HOLDER = "0x" + "c0" * 20
BPS, DAY, YEAR = 10**14, 86_400, 365 * 86_400
# offset and bits of the fields of Rules, Asset and Session: packing.vy, portfolio.vy
RULE_BITS = (2, 2, 16, 40, 32, 32, 13, 13, 16, 13, 16, 16)
ASSET_BITS = (160, 8, 14, 14, 14, 14, 14, 8)
SESSION_BITS = (32, 40, 40, 40, 1)
LOSS_AT, LOSS_TIME_AT, ASIDE_AT, ASIDE_UNTIL_AT = 153, 213, 211, 216
# mode, unit, every, anchor, window, cooldown, slippage, loss capacity, its refill, tolerance, speed, its refill
RULES = (1, 0, 7, START - 100, 2 * DAY, DAY, 120, 200, 100, 50, 1_000, 100)


def word(fields: Any, bits: tuple[int, ...]) -> int:
    """The fields beside each other, the first lowest."""
    packed, at = 0, 0
    for field, width in zip(fields, bits, strict=True):
        assert field < 1 << width
        packed |= field << at
        at += width
    return packed


def ends(bits: tuple[int, ...]) -> list[tuple[int, ...]]:
    """One field full and the others empty, and the other way round."""
    full = [(1 << width) - 1 for width in bits]
    return [
        tuple(most if (i == one) is is_full else 0 for i, most in enumerate(full))
        for one in range(len(bits))
        for is_full in (True, False)
    ]


@dataclass
class Book:
    evm: Evm
    book: Contract
    tokens: list[Contract]
    oracle: Contract
    words: list[int]

    def asset(self, index: int = 0, **fields: int) -> tuple[Any, ...]:
        names = ("decimals", "target", "points", "relative", "minimum", "maximum", "error")
        return (self.tokens[index].address, *(fields.get(name, 0) for name in names))

    def enter(self, rules: int, trading: int, sells: list[int], session: int) -> Any:
        return self.book.call(
            "enter", self.words, rules, trading, self.oracle.address, sells, session, sender=HOLDER
        )

    def settle(
        self,
        rules: int,
        trading: int,
        prices: list[int],
        before: list[int],
        after: list[int],
        sent: list[int],
    ) -> Any:
        self.hold(after)
        return self.book.call("settle", self.words, rules, trading, prices, before, sent, sender=HOLDER)

    def hold(self, balances: list[int]) -> None:
        for token, amount in zip(self.tokens, balances, strict=True):
            token.call("set_balance", HOLDER, amount)


@pytest.fixture(scope="module")
def made() -> Book:
    evm = Evm(START)
    tokens = [evm.deploy(artifact("ScriptedToken"), decimals) for decimals in (6, 8, 18)]
    book = evm.deploy(artifact("RuleBook"))
    assets = [
        (token.address, 0, target, 500, 2_500, 0, 10_000, 25)
        for token, target in zip(tokens, (5_000, 3_000, 2_000), strict=True)
    ]
    words = [book.call("pack_asset", asset) for asset in assets]
    return Book(evm, book, tokens, evm.deploy(artifact("ScriptedOracle")), words)


@pytest.fixture
def book(made: Book) -> Any:
    """A million USD, cash 10 points above its target, the others 5 below; all at round prices."""
    snapshot = made.evm.snapshot()
    made.oracle.call("set_prices", [WAD, 100 * WAD, 10 * WAD], [0, 0, 0])
    made.hold([600_000 * 10**6, 2_500 * 10**8, 15_000 * 10**18])
    yield made
    made.evm.revert(snapshot)


def test_assets_are_read_from_their_places(book: Book) -> None:
    cases = ends(ASSET_BITS)
    for first in range(0, len(cases), 8):
        part = cases[first : first + 8]
        found = book.book.call("unpack_assets", [word(fields, ASSET_BITS) for fields in part])
        assert [(int(asset[0], 16), *asset[1:]) for asset in found] == part


@pytest.mark.parametrize("index", [0, 1, 2])
def test_assets_are_packed_into_their_places(book: Book, index: int) -> None:
    for fields in (
        {},
        {"points": 10_000},
        {"points": 9_999},
        {"relative": 10_000},
        {"relative": 9_999},
        {"maximum": 10_000},
        {"target": 9_999, "maximum": 9_999},
        {"target": 10_000, "minimum": 10_000, "maximum": 10_000},
        {"minimum": 9_999, "target": 10_000, "maximum": 10_000},
        {"error": 255},
        {"points": 1, "relative": 1, "target": 1, "minimum": 1, "maximum": 1, "error": 1},
    ):
        given = book.asset(index, **fields)
        expected = (int(given[0], 16), (6, 8, 18)[index], *given[2:])
        assert book.book.call("pack_asset", given) == word(expected, ASSET_BITS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": 5, "minimum": 6, "maximum": 9}, "target outside limits"),
        ({"target": 10, "minimum": 6, "maximum": 9}, "target outside limits"),
        ({"maximum": 10_001}, "limit above 100%"),
        ({"points": 10_001}, "band above 100%"),
        ({"relative": 10_001}, "band above 100%"),
        ({"error": 256}, "price error too large"),
    ],
)
def test_refuses_a_bad_asset(book: Book, fields: dict[str, int], reason: str) -> None:
    with reverts(reason):
        book.book.call("pack_asset", book.asset(**fields))


def test_refuses_no_token_and_more_than_24_decimals(book: Book) -> None:
    with reverts("no token"):
        book.book.call("pack_asset", (ZERO, *[0] * 7))
    for decimals in (24, 25):
        token = book.evm.deploy(artifact("ScriptedToken"), decimals)
        if decimals == 25:
            with reverts("too many decimals"):
                book.book.call("pack_asset", (token.address, *[0] * 7))
        else:
            packed = book.book.call("pack_asset", (token.address, *[0] * 7))
            assert packed == int(token.address, 16) | 24 << 160


LEAST = (1, 0, 1, 0, 1, 0, 60, 100, 0, 0, 0, 0)  # a threshold vault needs no tolerance
MOST = (3, 1, 2**16 - 1, 2**40 - 1, 2**32 - 1, 2**32 - 1, 800, 8_191, 2**16 - 1, 8_191, 2**16 - 1, 2**16 - 1)


def test_rules_are_packed_into_their_places(book: Book) -> None:
    """A field at its end beside others as small as they may be, and the other way round."""
    for one in range(12):
        for ours, others in ((MOST, LEAST), (LEAST, MOST)):
            fields = [ours[i] if i == one else others[i] for i in range(12)]
            fields[9] = max(fields[9], int(fields[0] != 1))
            fields[7] = max(fields[7], (fields[6] + 50) // 10)  # 2 * 5 % * (slippage + 50)
            assert book.book.call("pack_rules", fields, book.words) == word(fields, RULE_BITS)


@pytest.mark.parametrize(
    ("index", "number", "reason"),
    [
        (0, 4, "unknown mode"),
        (1, 2, "unknown calendar unit"),
        (2, 0, "calendar every 0"),
        (4, 0, "window 0"),
        *[(i, 1 << RULE_BITS[i], "rule out of range") for i in (2, 3, 4, 5, 7, 8, 9, 10, 11)],
    ],
)
def test_refuses_bad_rules(book: Book, index: int, number: int, reason: str) -> None:
    fields = list(RULES)
    fields[index] = number
    with reverts(reason):
        book.book.call("pack_rules", fields, book.words)


def test_sessions_come_back_as_they_were(book: Book) -> None:
    """Under the same rules; closed, or it would be closed here."""
    rules = word(RULES, RULE_BITS)
    for fields in ends(SESSION_BITS):
        if fields[0] > 0 and fields[2] == 0:
            fields = (*fields[:2], 7, *fields[3:])
        session = word(fields, SESSION_BITS)
        assert book.book.call("renumber", rules, rules, session) == session


def test_a_new_vaults_session_has_the_present_slot(book: Book) -> None:
    """Weeks from an anchor, and months from one in another year."""
    for unit, every, anchor, slot in [
        (0, 7, START - 100, 1),
        (0, 7, START - 7 * DAY + 1, 1),
        (0, 7, START - 7 * DAY, 2),
        (0, 1, START - 500 * DAY, 501),
        (0, 7, START, 1),
        (0, 7, START + 1, 0),
        (1, 1, START - 30 * DAY, 2),  # 15 October; START is in November 2023
        (1, 5, START - 365 * 2 * DAY, 5),
    ]:
        rules = word((*RULES[:1], unit, every, anchor, *RULES[4:]), RULE_BITS)
        assert book.book.call("first_session", rules) == slot << 112


def test_entering_opens_a_session_and_keeps_the_loss(book: Book) -> None:
    """What may be sold is what cash is above its target, and nothing of the others."""
    rules = word(RULES, RULE_BITS)
    loss = (2**60 - 1) << LOSS_AT | START << LOSS_TIME_AT
    entered = book.enter(rules, loss | 3 << 112, [2**255] * 3, 1)
    session = word((1, START, 0, 3, 0), SESSION_BITS)
    assert entered[0] == loss | session
    assert list(entered[1]) == [WAD, 100 * WAD, 10 * WAD]
    assert list(entered[2]) == [600_000 * 10**6, 2_500 * 10**8, 15_000 * 10**18]
    assert list(entered[3]) == [100_000 * 10**6, 0, 0]
    again = book.enter(rules, entered[0], [7, 7, 7], 1)
    assert again[0] == entered[0]
    assert list(again[3]) == [7, 0, 0]


def test_a_quarantine_counts_one_asset_out_until_its_end(book: Book) -> None:
    """Coin is set aside: cash has 5/7 of the rest for its target."""
    until = START + 5
    rules = word(RULES, RULE_BITS) | 2 << ASIDE_AT | until << ASIDE_UNTIL_AT
    entered = book.enter(rules, 0, [2**255] * 3, 1)
    wanted = -(-750_000 * WAD * (10**18 * 5 // 7) // WAD)
    assert list(entered[1]) == [WAD, 0, 10 * WAD]
    assert list(entered[2]) == [600_000 * 10**6, 0, 15_000 * 10**18]
    assert list(entered[3]) == [(600_000 * WAD - wanted) // 10**12, 0, 0]
    book.evm.set_time(until - 1)
    assert book.enter(rules, 0, [2**255] * 3, 1)[2][1] == 0
    book.evm.set_time(until)
    assert list(book.enter(rules, 0, [2**255] * 3, 1)[3]) == [100_000 * 10**6, 0, 0]


@pytest.mark.parametrize(
    ("points", "relative", "band"), [(500, 10_000, 500), (10_000, 900, 450), (0, 9_999, 25)]
)
def test_a_band_is_the_narrower_of_two_and_at_least_25_bps(
    book: Book, points: int, relative: int, band: int
) -> None:
    """Cash is at 50 % and opens a session at its band; the others are far inside theirs."""
    fields = [
        (token.address, 0, target, *bands, 0, 10_000, 25)
        for token, target, bands in zip(
            book.tokens,
            (5_000, 3_000, 2_000),
            ((points, relative), (10_000,) * 2, (10_000,) * 2),
            strict=True,
        )
    ]
    words = [book.book.call("pack_asset", asset) for asset in fields]
    mine = Book(book.evm, book.book, book.tokens, book.oracle, words)
    above = 100 * 10**6 * band  # cash units; the NAV is a million
    rest = [2_500 * 10**8, (250_000 * 10**6 - above) * 10**11]
    rules = word(RULES, RULE_BITS)
    mine.hold([500_000 * 10**6 + above - 1, rest[0], rest[1] + 10**11])
    with reverts("no trigger"):
        mine.enter(rules, 0, [], 1)
    mine.hold([500_000 * 10**6 + above, *rest])
    mine.enter(rules, 0, [], 1)


def test_settling_charges_the_loss_budget(book: Book) -> None:
    """Half of the way for cash, 60 USD lost: what is lost, and 25 bps of what is traded on both sides."""
    rules = word(RULES, RULE_BITS)
    level, past = 3 * 10**15 + 1, 10 * DAY
    session = word((1, START - 10, 0, 3, 0), SESSION_BITS)
    trading = session | level << LOSS_AT | (START - past) << LOSS_TIME_AT
    before = [600_000 * 10**6, 2_500 * 10**8, 15_000 * 10**18]
    after = [550_000 * 10**6, 2_500 * 10**8, 19_994 * 10**18]
    settled = book.settle(rules, trading, [WAD, 100 * WAD, 10 * WAD], before, after, [50_000 * 10**6, 0, 0])
    nav = 10**6 * WAD
    used = level - min(level, past * 100 * BPS // YEAR)
    used += -(-60 * WAD * WAD // nav) + -(-25 * (50_000 + 49_940) * WAD * BPS // nav)
    assert list(settled[0]) == after
    assert settled[1] == session | used << LOSS_AT | START << LOSS_TIME_AT
    assert settled[2] is False


def test_settling_on_target_closes_the_session(book: Book) -> None:
    """And uses the slot of a calendar's; a tolerance is the rule's or a quarter of the band."""
    rules = word((0, *RULES[1:]), RULE_BITS)
    session = word((1, START - 10, 0, 0, 1), SESSION_BITS)
    prices = [WAD, 100 * WAD, 10 * WAD]
    before = [600_000 * 10**6, 2_500 * 10**8, 15_000 * 10**18]
    for off, closes in ((5_000, True), (5_001, False)):  # USD: 50 bps
        after = [(500_000 + off) * 10**6, 3_000 * 10**8 - off * 10**6, 20_000 * 10**18]
        settled = book.settle(rules, session, prices, before, after, [100_000 * 10**6, 0, 0])
        assert settled[2] is closes
        found = settled[1] & (2**LOSS_AT - 1)
        assert found == (word((1, START - 10, START, 1, 1), SESSION_BITS) if closes else session)
