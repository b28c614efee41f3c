"""Somebody who is not the keeper trades: the gain would be the loss budget, 20 bps of NAV at once."""

import pytest

from offchain.planner.payload import Call, encode
from tests.support.evm import DEPLOYER
from tests.support.venue import call_data
from tests.support.world import GUARDIAN, KEEPER, KEEPER_ROLE, OWNER, STRANGER, STRATEGIST, reverts
from tests.unit.stage import ALL, ON_TARGET, OUT_OF_BAND, Stage


@pytest.mark.parametrize("sender", [OWNER, GUARDIAN, STRATEGIST, STRANGER, DEPLOYER])
def test_is_refused(stage: Stage, sender):
    stage.refuses("not keeper", ON_TARGET, sender)
    assert stage.balances() == OUT_OF_BAND
    stage.rebalance(ON_TARGET, KEEPER)


def test_the_shared_executor_is_refused(stage: Stage):
    """Anyone may make it call anything: it must not be a keeper, and by default is none."""
    executor = stage.deploy("Executor")
    trade = (ALL, stage.executor.address, stage.payload(ON_TARGET), bytes(32), 1, 2**64)
    leg = encode([Call(stage.vault.address, call_data(stage.vault, "rebalance", *trade))])
    with reverts("not keeper"):
        executor.call("execute", leg, sender=KEEPER)
    stage.vault.call("rebalance", *trade, sender=KEEPER)


def test_a_dropped_keeper_is_refused(stage: Stage):
    stage.refuses("not keeper", ON_TARGET, STRANGER)
    stage.delayed("set_role", STRANGER, KEEPER_ROLE)
    stage.at_once("drop_role", KEEPER, sender=GUARDIAN)
    stage.refuses("not keeper", ON_TARGET, KEEPER)
    stage.rebalance(ON_TARGET, STRANGER)
