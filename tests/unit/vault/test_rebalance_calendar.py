"""rebalance(): what triggers a session in each mode, and how calendar slots are used and lapse."""

from datetime import UTC, datetime

import pytest

from tests.support.world import START
from tests.unit.stage import (
    BOTH,
    CALENDAR,
    DAY,
    EITHER,
    MONTHS,
    NOTHING,
    ON_TARGET,
    OUT_OF_BAND,
    THRESHOLD,
    K,
    Stage,
    usd,
)


@pytest.mark.parametrize(
    ("mode", "due", "out_of_band", "opens"),
    [
        (CALENDAR, True, False, True),
        (CALENDAR, False, True, False),
        (THRESHOLD, True, False, False),
        (THRESHOLD, False, True, True),
        (EITHER, True, False, True),
        (EITHER, False, True, True),
        (EITHER, False, False, False),
        (BOTH, True, True, True),
        (BOTH, True, False, False),
        (BOTH, False, True, False),
    ],
)
def test_mode_says_what_triggers(mode, due, out_of_band, opens):
    stage = Stage(mode=mode)
    if due:
        stage.sleep_until(START + 7 * DAY)
    balances = OUT_OF_BAND if out_of_band else usd(540 * K, 270 * K, 190 * K)
    stage.set_balances(balances)
    if opens:
        stage.rebalance(balances, sells=NOTHING)
        assert stage.session()["id"] == 1
        assert stage.session()["by_calendar"] == (due and mode != THRESHOLD)
    else:
        stage.refuses("no trigger", balances, sells=NOTHING)


def test_calendar_needs_a_new_slot():
    stage = Stage(mode=CALENDAR, calendar_anchor=START + DAY)
    assert stage.session()["slot"] == 0
    stage.sleep_until(START + DAY - 1)
    stage.refuses("no trigger", ON_TARGET)  # though out of the band
    stage.sleep_until(START + DAY)
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 1
    assert stage.session()["by_calendar"]


def test_the_slot_of_the_day_of_creation_counts_as_used():
    stage = Stage(mode=CALENDAR, calendar_anchor=START)
    assert stage.session()["slot"] == 1
    stage.refuses("no trigger", ON_TARGET)
    stage.sleep_until(START + 7 * DAY)
    stage.rebalance(ON_TARGET)


def test_a_calendar_slot_is_used_once():
    stage = Stage(mode=CALENDAR)
    stage.sleep_until(START + 7 * DAY)
    stage.rebalance(ON_TARGET)
    stage.sleep_until(START + 14 * DAY - 1)
    stage.refuses("no trigger", ON_TARGET, session=2)
    stage.sleep_until(START + 14 * DAY)
    stage.rebalance(ON_TARGET, session=2)


def test_a_calendar_slot_lapses_when_the_next_begins():
    stage = Stage(mode=CALENDAR)
    assert stage.session()["slot"] == 1
    stage.sleep_until(START + 21 * DAY)  # slots 2 and 3 pass unused
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 4
    stage.sleep_until(START + 22 * DAY)
    stage.refuses("no trigger", ON_TARGET, session=2)


def test_a_refused_rebalance_uses_no_slot():
    stage = Stage(mode=CALENDAR)
    stage.sleep_until(START + 7 * DAY)
    stage.refuses("loss above slippage", usd(500 * K, 299 * K - 1, 200 * K))
    assert stage.session()["slot"] == 1
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 2


def test_a_part_of_the_trade_uses_no_slot():
    stage = Stage(mode=CALENDAR)
    stage.sleep_until(START + 7 * DAY)
    stage.rebalance(usd(530 * K, 285 * K, 185 * K))
    assert stage.session()["slot"] == 1
    stage.rebalance(ON_TARGET, session=1)
    assert stage.closes()
    assert stage.session()["slot"] == 2


def test_a_session_across_two_slots_uses_the_one_in_which_it_closes():
    stage = Stage(mode=CALENDAR)
    stage.sleep_until(START + 14 * DAY - 1)
    stage.rebalance(usd(530 * K, 285 * K, 185 * K))
    stage.sleep_until(START + 14 * DAY)
    stage.rebalance(ON_TARGET, session=1)
    assert stage.session()["slot"] == 3


def month_start(months: int) -> int:
    """Midnight UTC of the first day, so many months after the month of START."""
    day = datetime.fromtimestamp(START, UTC)
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return int(datetime(years, month + 1, 1, tzinfo=UTC).timestamp())


def test_calendar_months_begin_on_the_first():
    stage = Stage(mode=CALENDAR, calendar_unit=MONTHS, calendar_every=1, calendar_anchor=START - DAY)
    assert stage.session()["slot"] == 1
    stage.sleep_until(month_start(1) - 1)
    stage.refuses("no trigger", ON_TARGET)
    stage.sleep_until(month_start(1))
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 2


def test_a_calendar_month_lapses_when_the_next_begins():
    stage = Stage(mode=CALENDAR, calendar_unit=MONTHS, calendar_every=3, calendar_anchor=START)
    stage.sleep_until(month_start(3) - 1)
    stage.refuses("no trigger", ON_TARGET)
    stage.sleep_until(month_start(6))  # slot 2 has passed unused
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 3
    stage.sleep_until(month_start(9) - 1)
    stage.refuses("no trigger", ON_TARGET, session=2)
    stage.sleep_until(month_start(9))
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 4
