"""A keeper trades past the targets, so that there is something to trade back.

Each trade to and fro would pay its own venue up to the slippage; at most the tolerance, half a point, may be overshot.
"""

from tests.unit.stage import ALL, DAY, ON_TARGET, K, Stage, usd


def test_all_that_can_be_sold_is_what_is_above_target(stage: Stage):
    stage.refuses("balance fell by more than sent", usd(500 * K - 1, 300 * K, 200 * K), sells=ALL)
    stage.rebalance(ON_TARGET, sells=ALL)
    assert stage.balances(stage.executor.address) == usd(100 * K, 0, 0)


def test_all_of_it_into_one_asset_is_refused(stage: Stage):
    stage.refuses("bought past target", usd(500 * K, 350 * K, 150 * K))
    stage.rebalance(usd(500 * K, 305 * K, 195 * K))


def test_the_tolerance_does_not_add_up_over_trades(stage: Stage):
    """Once above its target an asset may only be sold."""
    stage.rebalance(usd(570 * K, 280 * K, 150 * K))
    stage.rebalance(usd(545 * K, 305 * K, 150 * K))
    stage.refuses("asset not underweight", usd(545 * K - 1, 305 * K + 1, 150 * K))
    stage.rebalance(usd(545 * K - 1, 305 * K, 150 * K + 1))


def test_a_gift_buys_no_profitable_overshoot(stage: Stage):
    """A gift of 1 % of NAV lets stock end 1 point further: 10 thousand given for a sale back that can lose 150."""
    stage.refuses("bought past target", usd(500 * K, 295 * K - 1, 205 * K + 1))
    gift = usd(500 * K, 295 * K, 215 * K)
    stage.rebalance(gift)
    stage.sleep_until(stage.evm.now + DAY)
    stage.set_balances(gift)  # nothing is out of its band, so there is no session to sell it back in
    stage.refuses("no trigger", usd(505 * K, 303 * K, 201_850 * 10**6))
