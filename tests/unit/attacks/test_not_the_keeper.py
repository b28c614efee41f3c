"""Somebody who is not the keeper trades."""

import pytest

from tests.unit.stage import ON_TARGET, Stage


@pytest.mark.parametrize("role", ["owner", "guardian", "strategist", "stranger"])
def test_is_refused(stage: Stage, role):
    stage.refuses("not keeper", ON_TARGET, sender=getattr(stage, role))
    stage.rebalance(ON_TARGET, sender=stage.keeper)


def test_a_dropped_keeper_is_refused(stage: Stage):
    stage.refuses("not keeper", ON_TARGET, sender=stage.stranger)
    stage.vault.set_role(stage.stranger, 1, {"from": stage.owner})
    stage.vault.drop_role(stage.keeper, {"from": stage.guardian})
    stage.refuses("not keeper", ON_TARGET, sender=stage.keeper)
    stage.rebalance(ON_TARGET, sender=stage.stranger)
