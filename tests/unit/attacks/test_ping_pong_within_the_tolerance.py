"""A keeper trades to and fro around the target, within the tolerance, for its own venue's fees.

Each pass would pay the venue up to 1 % of what moves. A pass must halve the drift that it trades, so that passes
shrink; the session then closes, and every pass is charged to the loss budget.
"""

import pytest

from tests.support.evm import Reverted
from tests.unit.stage import K, Stage, usd

ABOVE = usd(504 * K, 298 * K, 198 * K)


def test_as_much_overshoot_as_was_corrected_is_refused(stage: Stage):
    stage.open_session()
    stage.set_balances(usd(504 * K, 298 * K + 1, 198 * K - 1))
    stage.refuses("drift fell too little", usd(500 * K, 302 * K + 1, 198 * K - 1))
    stage.set_balances(ABOVE)
    stage.rebalance(usd(500 * K, 302 * K, 198 * K))


def test_the_trade_back_finds_the_session_closed(stage: Stage):
    stage.open_session()
    stage.set_balances(ABOVE)
    back = usd(500 * K, 300 * K, 200 * K)
    stage.rebalance(usd(500 * K, 302 * K, 198 * K))
    stage.refuses("wrong session", back, session=1)
    stage.refuses("cooldown not over", back, session=2)


def test_all_passes_together_lose_no_more_than_the_drift_allows():
    """Out of a session that a third asset keeps open: passes between the two others, each losing 1 % of what it sells.

    Total drift falls by at least what is sold, so all passes together sell at most the drift there was: 24 thousand
    USD of which 1 %, 240 USD, is the most that can go.
    """
    stage = Stage(loss_capacity_bps=200)
    stage.open_session()
    start = usd(512 * K, 300 * K, 188 * K)
    stage.set_balances(start)
    sold = lost = 0
    cash, coin, stock = 512 * K, 300 * K, 188 * K
    for step in (12 * K, 6 * K, 4 * K, 4 * K, 2 * K, 2 * K, 1 * K, 1 * K):
        for source, sink in (("cash", "coin"), ("coin", "stock"), ("cash", "stock"), ("coin", "cash")):
            position = {"cash": cash, "coin": coin, "stock": stock}
            position[source] -= step
            position[sink] += step * 99 // 100
            try:
                stage.rebalance(usd(**position), session=1)
            except Reverted:
                continue
            cash, coin, stock = position["cash"], position["coin"], position["stock"]
            sold += step
            lost += step - step * 99 // 100
    assert sold > 0
    assert sold <= 24 * K
    assert lost <= 24 * K // 100
    with pytest.raises(Reverted):
        stage.rebalance(usd(cash - 13 * K, coin + 13 * K, stock), session=1)
