"""The rule book by itself on assets of 18 decimals at 1 USD, a USD in all: a unit of a token is one of a weight."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.evm import Contract, Evm, artifact
from tests.support.world import START, WAD, reverts
from tests.unit.vault.test_rule_book_alone import ASIDE_AT, ASIDE_UNTIL_AT, BPS, RULE_BITS, RULES, Book, word

THIRD = 10**18 * 3 // 10
ALL = 2**255


def make(targets_bps: Sequence[int], points_bps: int, relative_bps: int) -> Book:
    """As many assets as targets; the first alone has a band that can be met."""
    evm = Evm(START)
    tokens = [evm.deploy(artifact("ScriptedToken"), 18) for _ in targets_bps]
    rule_book: Contract = evm.deploy(artifact("RuleBook"))
    words = []
    for index, (token, target) in enumerate(zip(tokens, targets_bps, strict=True)):
        bands = (points_bps, relative_bps) if index == 0 else (10_000, 10_000)
        words.append(rule_book.call("pack_asset", (token.address, 0, target, *bands, 0, 10_000, 25)))
    oracle = evm.deploy(artifact("ScriptedOracle"))
    oracle.call("set_prices", [WAD] * len(tokens), [0] * len(tokens))
    return Book(evm, rule_book, tokens, oracle, words)


@pytest.mark.parametrize(
    ("points", "relative", "band"),
    [
        (0, 10_000, 25 * BPS),
        (25, 10_000, 25 * BPS),
        (26, 10_000, 26 * BPS),
        (10_000, 49, 25 * BPS),
        (10_000, 99, 5 * 99 * BPS // 10),
        (500, 1_000, 500 * BPS),
        (501, 1_000, 500 * BPS),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_a_session_opens_at_the_band(points: int, relative: int, band: int, side: int) -> None:
    """Above as below."""
    book = make((5_000, 3_000, 2_000), points, relative)
    rules = word(RULES, RULE_BITS)
    for drift, opens in ((band, True), (band - 1, False)):
        held = WAD // 2 + side * drift
        book.hold([held, THIRD, WAD - THIRD - held])
        if opens:
            assert book.enter(rules, 0, [], 1)[0] & 1 == 1
        else:
            with reverts("no trigger"):
                book.enter(rules, 0, [], 1)


def test_sends_what_is_above_the_target() -> None:
    """Of all, and of what a quarantine leaves: 5/7 of it, rounded down as a share and up as an amount."""
    book = make((5_000, 3_000, 2_000), 500, 1_000)
    rules = word(RULES, RULE_BITS)
    held = WAD // 2 + 10**17 + 3
    book.hold([held, THIRD, WAD - THIRD - held])
    assert list(book.enter(rules, 0, [ALL] * 3, 1)[3]) == [10**17 + 3, 0, 0]
    set_aside = rules | 2 << ASIDE_AT | (START + 1) << ASIDE_UNTIL_AT
    for rest in range(10**17, 10**17 + 20):
        book.hold([held, THIRD, rest])
        nav = held + rest
        wanted = -(-nav * (WAD * 5 // 7) // WAD)
        assert list(book.enter(set_aside, 0, [ALL] * 3, 1)[3]) == [held - wanted, 0, 0]


def test_of_sixteen_assets_and_no_quarantine() -> None:
    book = make((625,) * 16, 500, 1_000)
    book.hold([WAD // 8, *[WAD // 16] * 14, 0])
    sends = book.enter(word(RULES, RULE_BITS), 0, [ALL] * 16, 1)[3]
    assert list(sends) == [WAD // 16, *[0] * 15]


@pytest.mark.parametrize(
    ("relative", "tolerance_bps", "tolerance"),
    [(1_000, 50, 50 * BPS), (1_000, 8_000, 125 * BPS), (99, 50, 5 * 99 * BPS // 40), (0, 50, 25 * BPS // 4)],
)
def test_what_is_bought_may_pass_the_target_by_the_tolerance(
    relative: int, tolerance_bps: int, tolerance: int
) -> None:
    """The rule's, or a quarter of the band."""
    book = make((5_000, 3_000, 2_000), 10_000, relative)
    rules = word((*RULES[:6], 120, 8_191, 0, tolerance_bps, 0, 0), RULE_BITS)
    session = 1 | (START - 10) << 32
    before = [WAD // 2 - 10**17, THIRD, WAD // 5 + 10**17]
    for over, fits in ((tolerance, True), (tolerance + 1, False)):
        bought = 10**17 + over
        after = [before[0] + bought, THIRD, before[2] - bought]
        # the sold asset has a wide band, and so the rule's tolerance or more than is over
        if fits:
            book.settle(rules, session, [WAD] * 3, before, after, [0, 0, bought])
        else:
            with reverts("bought past target"):
                book.settle(rules, session, [WAD] * 3, before, after, [0, 0, bought])


def test_months_are_the_calendars() -> None:
    """In the first and in the last second of each, also beside leap days that centuries leave out."""
    book = make((5_000, 5_000), 500, 1_000)
    rules = word((1, 1, 1, 0, *RULES[4:]), RULE_BITS)  # every month from 1970 on
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    years = (1970, 1972, 2000, 2023, 2024, 2099, 2100, 2101, 2199, 2200, 2300, 2399, 2400, 2401, 2500, 2800)
    for year in years:
        for month in range(1, 13):
            start = int((datetime(year, month, 1, tzinfo=UTC) - epoch) / timedelta(seconds=1))
            number = 12 * (year - 1970) + month
            for time, slot in ((start, number), (start - 1, number - 1)):
                if time >= 0:
                    book.evm.set_time(time)
                    assert book.book.call("first_session", rules) >> 112 == slot, (year, month)
