"""A large part of what was sold is handed back, so that a loss on the rest looks small against what was sent.

100 thousand USD go to the executor; measured by those, 1 % slippage would let it keep 1,000 USD of whatever it truly
exchanges. Sold is what is gone in the end: giving back 90 thousand leaves 1 % of 10.
"""

import pytest

from tests.unit.stage import K, Stage, usd


@pytest.mark.parametrize("given_back", [0, 50, 90, 99])
def test_the_slippage_is_of_what_is_gone(stage: Stage, given_back):
    sold = (100 - given_back) * K
    kept = sold // 100
    cash = 500 * K + given_back * K
    half = sold // 2
    stage.refuses("loss above slippage", usd(cash, 250 * K + half - kept - 1, 150 * K + half))
    stage.rebalance(usd(cash, 250 * K + half - kept, 150 * K + half))
    assert (
        stage.balances(stage.executor.address)[0] == 100 * K
    )  # sent, the scripted executor pays from elsewhere


def test_giving_everything_back_earns_nothing(stage: Stage):
    stage.refuses("drift fell too little", usd(600 * K - 1, 250 * K, 150 * K))
    stage.refuses("asset not underweight", usd(600 * K + 1, 250 * K, 150 * K))
    stage.rebalance(usd(600 * K, 250 * K, 150 * K))
    assert stage.vault.call("loss_budget_used") == 0


def test_selling_two_and_giving_one_back(stage: Stage):
    """What comes back of one asset does not cover the loss on the other."""
    stage.open_session()
    stage.set_balances(usd(540 * K, 330 * K, 130 * K))  # 40 thousand cash and 30 thousand coin to sell
    stage.refuses("loss above slippage", usd(540 * K, 320 * K, 140 * K - 100 * 10**6 - 1))
    stage.rebalance(usd(540 * K, 320 * K, 140 * K - 100 * 10**6))
