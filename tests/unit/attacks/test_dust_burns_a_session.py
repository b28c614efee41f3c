"""A rebalance of next to nothing, or an opening by anyone, must not keep the basket off its targets."""

from brownie import chain

from tests.unit.stage import CALENDAR, DAY, ON_TARGET, OUT_OF_BAND, K, Stage, sleep_until, usd


def test_dust_leaves_the_session_open(stage: Stage):
    stage.rebalance(usd(600 * K - 1, 250 * K + 1, 150 * K))
    assert stage.session()["closed_at"] == 0
    stage.rebalance(ON_TARGET, session=1)
    assert stage.session()["closed_at"] > 0


def test_nothing_at_all_leaves_the_session_open(stage: Stage):
    stage.rebalance(OUT_OF_BAND, sells=[0, 0, 0])
    assert stage.session()["closed_at"] == 0
    stage.rebalance(ON_TARGET, session=1)


def test_an_opening_by_anyone_leaves_the_keeper_its_window(stage: Stage):
    stage.open_session()
    stage.refuses("wrong session", ON_TARGET, session=2)
    stage.rebalance(ON_TARGET, session=1)


def test_an_opening_by_anyone_leaves_the_calendar_slot(stage: Stage):
    begins = chain.time() + DAY
    stage.set_rules(mode=CALENDAR, calendar_every=30, calendar_anchor=begins)
    sleep_until(begins)
    opened = stage.open_session().timestamp
    sleep_until(opened + 3 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 1
