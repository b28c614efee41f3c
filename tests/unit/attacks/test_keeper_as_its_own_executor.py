"""A keeper names an executor of its own and keeps the tokens: 100 thousand USD are sent to it.

What it may keep is the slippage, 1 % of that; one unit more is refused.
"""

import pytest

from tests.support.world import KEEPER, reverts
from tests.unit.stage import ON_TARGET, OUT_OF_BAND, K, Stage, usd

PAY, KEEP, WRONG_ANSWER, PAY_LESS = 0, 1, 2, 5
BOUGHT = usd(0, 50 * K, 50 * K)


@pytest.fixture
def thief(stage: Stage):
    """Has what an honest trade would pay."""
    thief = stage.deploy("BadExecutor")
    stage.give(thief.address, BOUGHT)
    pay(stage, thief, BOUGHT)
    return thief


def pay(stage: Stage, thief, amounts):
    thief.call("set_payout", [token.address for token in stage.tokens], amounts)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (KEEP, "drift fell too little"),
        (PAY_LESS, "loss above slippage"),
        (WRONG_ANSWER, "executor did not answer"),
    ],
)
def test_is_refused(stage: Stage, thief, mode, reason):
    thief.call("set_mode", mode)
    stage.refuses(reason, [], executor=thief.address, payload=b"")
    assert stage.balances(thief.address) == BOUGHT
    thief.call("set_mode", PAY)
    stage.rebalance([], executor=thief.address, payload=b"")
    assert stage.balances() == ON_TARGET


def test_a_little_is_refused_too(stage: Stage, thief):
    """One unit less than the slippage allows."""
    pay(stage, thief, usd(0, 50 * K, 49 * K - 1))
    stage.refuses("loss above slippage", [], executor=thief.address, payload=b"")
    pay(stage, thief, usd(0, 50 * K, 49 * K))
    stage.rebalance([], executor=thief.address, payload=b"")
    kept = sum(stage.balances(thief.address)[i] // units for i, units in enumerate((1, 1, 10**11)))
    assert kept - 100 * K == 100 * K // 100  # of what it had, it paid 1 % less than it got


def test_an_account_without_code_is_refused(stage: Stage):
    with reverts("0x"):
        stage.rebalance(ON_TARGET, executor=KEEPER)
    assert stage.balances() == OUT_OF_BAND
    stage.rebalance(ON_TARGET)
