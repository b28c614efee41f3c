"""rebalance(): opens a session, needs no trigger inside it, closes it, waits out the cooldown."""

import pytest

from tests.unit.stage import CALENDAR, DAY, NOTHING, ON_TARGET, OUT_OF_BAND, K, Stage, usd

HALF_BAND = usd(525 * K, 287 * K, 188 * K)

# Opening


@pytest.mark.parametrize("session", [0, 2])
def test_reverts_if_the_next_session_is_named_wrongly(stage: Stage, session):
    stage.refuses("wrong session", ON_TARGET, session=session)
    stage.rebalance(ON_TARGET, session=1)


@pytest.mark.parametrize("session", [0, 2])
def test_reverts_if_the_open_session_is_named_wrongly(stage: Stage, session):
    stage.open_session()
    stage.refuses("wrong session", ON_TARGET, session=session)
    stage.rebalance(ON_TARGET, session=1)


def test_reverts_without_a_trigger(stage: Stage):
    stage.set_balances(usd(550 * K - 1, 270 * K + 1, 180 * K))
    stage.refuses("no trigger", ON_TARGET)
    stage.set_balances(usd(550 * K, 270 * K, 180 * K))  # the band itself is outside
    stage.rebalance(ON_TARGET)


def test_opens_a_session(stage: Stage):
    slot = stage.session()["slot"]
    stage.rebalance(OUT_OF_BAND, sells=NOTHING)
    assert stage.session() == {
        "id": 1,
        "opened_at": stage.evm.now,
        "closed_at": 0,
        "slot": slot,
        "by_calendar": False,
    }


def test_needs_no_trigger_inside_the_window(stage: Stage):
    opened = stage.evm.now
    stage.rebalance(usd(530 * K, 285 * K, 185 * K))  # back inside the band, but not half of it
    stage.sleep_until(opened + 2 * DAY - 1)
    stage.rebalance(ON_TARGET, session=1)
    assert stage.session()["opened_at"] == opened


def test_needs_a_new_session_after_the_window(stage: Stage):
    opened = stage.evm.now
    stage.rebalance(OUT_OF_BAND, sells=NOTHING)
    stage.sleep_until(opened + 2 * DAY)
    stage.refuses("wrong session", ON_TARGET, session=1)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    stage.sleep_until(opened + 3 * DAY - 1)  # the cooldown runs from the window's end
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    stage.sleep_until(opened + 3 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["id"] == 2


# Closing


def test_cooldown_runs_from_the_close(stage: Stage):
    closed = stage.evm.now
    stage.rebalance(ON_TARGET)
    assert stage.session()["closed_at"] == closed
    stage.set_balances(OUT_OF_BAND)
    stage.refuses("wrong session", ON_TARGET, session=1)  # closed, though its window is not over
    stage.sleep_until(closed + DAY - 1)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    stage.sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, session=2)


def test_a_session_opened_by_a_band_closes_at_half_the_band(stage: Stage):
    stage.rebalance(usd(525 * K + 1, 287 * K, 188 * K - 1))
    assert not stage.closes()
    assert stage.session()["closed_at"] == 0
    stage.rebalance(HALF_BAND)
    assert stage.evm.events("SessionClosed")[0].fields == {"session": 1}
    assert stage.session()["closed_at"] == stage.evm.now


def test_a_session_opened_by_the_calendar_closes_on_target():
    stage = Stage(mode=CALENDAR)
    stage.sleep_until(stage.evm.now + 7 * DAY)
    stage.rebalance(HALF_BAND)
    assert not stage.closes()
    stage.rebalance(usd(505 * K + 1, 297 * K, 198 * K - 1))
    assert not stage.closes()
    assert stage.session()["closed_at"] == 0
    stage.rebalance(usd(505 * K, 297 * K, 198 * K))  # the tolerance
    assert stage.evm.events("SessionClosed")[0].fields == {"session": 1}
    assert stage.session()["closed_at"] == stage.evm.now
