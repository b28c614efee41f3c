"""A keeper trades again before the cooldown is over, however it asks: each trade could lose 1 % of what it sells."""

from tests.support.world import KEEPER_ROLE, STRANGER, reverts
from tests.unit.stage import DAY, ON_TARGET, OUT_OF_BAND, Stage


def test_the_closed_session_and_a_new_one_are_refused(stage: Stage):
    closed = stage.evm.now
    stage.rebalance(ON_TARGET)
    stage.set_balances(OUT_OF_BAND)
    for time in (closed, closed + DAY - 1):
        stage.sleep_until(time)
        stage.refuses("wrong session", ON_TARGET, session=1)
        stage.refuses("cooldown not over", ON_TARGET, session=2)
        stage.refuses("wrong session", ON_TARGET, session=3)
        with reverts("cooldown not over"):
            stage.open_session()
    stage.sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, session=2)


def test_another_keeper_is_refused_too(stage: Stage):
    stage.delayed("set_role", STRANGER, KEEPER_ROLE)
    closed = stage.evm.now
    stage.rebalance(ON_TARGET)
    stage.set_balances(OUT_OF_BAND)
    stage.refuses("cooldown not over", ON_TARGET, STRANGER, session=2)
    stage.sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, STRANGER, session=2)


def test_new_rules_do_not_end_the_cooldown(stage: Stage):
    """Safer rules come at once, and leave session and cooldown alone."""
    closed = stage.evm.now
    stage.rebalance(ON_TARGET)
    stage.set_balances(OUT_OF_BAND)
    safer = tuple((stage.rules | {"max_slippage_bps": 60}).values())
    stage.at_once("set_rules", safer)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    stage.sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, session=2)
