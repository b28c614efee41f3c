"""A keeper sells what is underweight, or buys what is overweight: drift to trade back, 1 % of it lost each time."""

from tests.unit.stage import ALL, OUT_OF_BAND, K, Stage, usd


def test_an_underweight_asset_is_not_sent(stage: Stage):
    stage.rebalance(usd(550 * K, 275 * K, 175 * K), sells=ALL)
    assert stage.balances(stage.executor.address)[1:] == [0, 0]


def test_an_underweight_asset_that_falls_is_refused(stage: Stage):
    stage.refuses("balance fell by more than sent", usd(600 * K, 200 * K, 200 * K))
    stage.rebalance(usd(550 * K, 250 * K, 200 * K))


def test_an_overweight_asset_that_grows_is_refused(stage: Stage):
    stage.set_balances(usd(520 * K, 240 * K, 240 * K))  # two to sell: the one paid with the other
    stage.open_session()
    stage.refuses("asset not underweight", usd(500 * K, 240 * K, 260 * K))
    stage.rebalance(usd(500 * K, 260 * K, 240 * K))


def test_a_gift_of_the_wrong_asset_is_refused(stage: Stage):
    """Not even for nothing: it would move the basket away from its targets."""
    stage.refuses("asset not underweight", usd(600 * K + 1, 250 * K, 150 * K))
    stage.rebalance(OUT_OF_BAND)
