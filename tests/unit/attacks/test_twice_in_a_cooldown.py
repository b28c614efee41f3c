"""A keeper trades again before the cooldown is over, however it asks."""

from tests.unit.stage import DAY, ON_TARGET, OUT_OF_BAND, Stage, sleep_until


def test_the_closed_session_and_a_new_one_are_refused(stage: Stage):
    closed = stage.rebalance(ON_TARGET).timestamp
    stage.hold(OUT_OF_BAND)
    stage.refuses("wrong session", ON_TARGET, session=1)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    stage.refuses_to_open("cooldown not over")
    sleep_until(closed + DAY - 60)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, session=2)


def test_another_keeper_is_refused_too(stage: Stage):
    stage.vault.set_role(stage.stranger, 1, {"from": stage.owner})
    closed = stage.rebalance(ON_TARGET).timestamp
    stage.hold(OUT_OF_BAND)
    stage.refuses("cooldown not over", ON_TARGET, session=2, sender=stage.stranger)
    sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, session=2, sender=stage.stranger)
