"""A rebalance of next to nothing, or an opening by anyone, must not keep the basket off its targets.

The attacker gains nothing; it would cost the depositors a window and a cooldown in which the basket drifts.
"""

from tests.support.world import START
from tests.unit.stage import CALENDAR, DAY, NOTHING, ON_TARGET, OUT_OF_BAND, K, Stage, usd


def test_dust_leaves_the_session_open(stage: Stage):
    stage.rebalance(usd(600 * K - 1, 250 * K + 1, 150 * K))
    assert not stage.closes()
    stage.rebalance(ON_TARGET, session=1)
    assert stage.closes()


def test_nothing_at_all_leaves_the_session_open(stage: Stage):
    stage.rebalance(OUT_OF_BAND, sells=NOTHING)
    assert not stage.closes()
    stage.rebalance(ON_TARGET, session=1)


def test_dust_uses_none_of_the_loss_budget_worth_naming(stage: Stage):
    """A hundred trades of a millionth of a USD: at most 3 wei of points each, for rounding and the feeds' errors."""
    for n in range(1, 101):
        stage.rebalance(usd(600 * K - n, 250 * K + n, 150 * K))
    assert stage.vault.call("loss_budget_used") <= 100 * (2 * 25 * 10**14 // (1_000 * K) + 2)
    stage.rebalance(ON_TARGET, session=1)


def test_an_opening_by_anyone_leaves_the_keeper_its_window(stage: Stage):
    stage.open_session()
    stage.refuses("wrong session", ON_TARGET, session=2)
    stage.rebalance(ON_TARGET, session=1)


def test_an_opening_by_anyone_leaves_the_calendar_slot():
    stage = Stage(mode=CALENDAR, calendar_every=30, calendar_anchor=START + DAY)
    stage.sleep_until(START + DAY)
    stage.open_session()
    stage.sleep_until(START + 4 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 1


def test_dust_in_a_session_that_runs_out_leaves_the_calendar_slot():
    """By a keeper, or by anyone who fills the auction with dust in the last second of the window."""
    stage = Stage(mode=CALENDAR, calendar_every=30, calendar_anchor=START + DAY)
    stage.sleep_until(START + DAY)
    stage.open_session()
    stage.sleep_until(START + 3 * DAY - 1)
    stage.rebalance(usd(600 * K - 1, 250 * K + 1, 150 * K), session=1)
    assert stage.session()["slot"] == 0
    stage.sleep_until(START + 4 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 1
