"""A keeper names an executor of its own and keeps the tokens."""

import brownie
import pytest

from tests.unit.stage import ON_TARGET, OUT_OF_BAND, K, Stage, usd

PAY, KEEP, WRONG_ANSWER, PAY_LESS = 0, 1, 2, 5


@pytest.fixture(scope="module")
def thief(stage: Stage, BadExecutor):
    """Has what an honest trade would pay."""
    thief = BadExecutor.deploy({"from": stage.keeper})
    bought = usd(0, 50 * K, 50 * K)
    stage.executor.set_balances(thief, stage.tokens, bought, {"from": stage.keeper})
    thief.set_payout(stage.tokens, bought, {"from": stage.keeper})
    return thief


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (KEEP, "drift fell too little"),
        (PAY_LESS, "loss above slippage"),
        (WRONG_ANSWER, "executor did not answer"),
    ],
)
def test_is_refused(stage: Stage, thief, mode, reason):
    thief.set_mode(mode, {"from": stage.keeper})
    stage.refuses(reason, [], executor=thief)
    thief.set_mode(PAY, {"from": stage.keeper})
    stage.rebalance([], executor=thief)
    assert list(stage.vault.balances()) == ON_TARGET


def test_a_little_is_refused_too(stage: Stage, thief):
    """One unit less than the slippage allows."""
    thief.set_payout(stage.tokens, usd(0, 50 * K, 49 * K - 1), {"from": stage.keeper})
    stage.refuses("loss above slippage", [], executor=thief)
    thief.set_payout(stage.tokens, usd(0, 50 * K, 49 * K), {"from": stage.keeper})
    stage.rebalance([], executor=thief)


def test_an_account_without_code_is_refused(stage: Stage):
    with brownie.reverts():
        stage.vault.rebalance.call(
            [2**255, 0, 0], stage.keeper, b"", bytes(32), 1, 2**64, {"from": stage.keeper}
        )
    assert list(stage.vault.balances()) == OUT_OF_BAND
    stage.rebalance(ON_TARGET)
