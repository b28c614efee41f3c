"""rebalance(): the direction of a trade, its overshoot and its progress, each refusal with its accepted neighbour."""

from tests.unit.stage import ON_TARGET, K, Stage, usd

# Direction


def test_reverts_if_a_balance_fell_by_more_than_sent(stage: Stage):
    stage.refuses("balance fell by more than sent", ON_TARGET, sells=usd(100 * K - 1, 0, 0))
    stage.rebalance(ON_TARGET, sells=usd(100 * K, 0, 0))


def test_reverts_if_an_underweight_asset_falls(stage: Stage):
    stage.refuses("balance fell by more than sent", usd(500 * K, 250 * K - 1, 250 * K + 1))
    stage.rebalance(usd(550 * K, 250 * K, 200 * K))


def test_reverts_if_an_asset_that_weighs_its_target_is_sold(stage: Stage):
    """Stock is worth 16 wei above target, of which its smallest unit is 10: the weight, rounded, is the target."""
    before, after = usd(560 * K, 240 * K, 200 * K), usd(501 * K, 299 * K, 200 * K)
    before[2] += 2
    after[2] += 1
    stage.set_balances(before)
    stage.refuses("asset not overweight", after)
    after[2] += 1
    stage.rebalance(after)


def test_reverts_if_an_overweight_asset_is_bought(stage: Stage):
    stage.set_balances(usd(600 * K, 190 * K, 210 * K))
    stage.refuses("asset not underweight", usd(520 * K, 270 * K - 1, 210 * K + 1))
    stage.rebalance(usd(520 * K, 270 * K, 210 * K))


def test_reverts_if_an_asset_on_target_is_bought(stage: Stage):
    stage.set_balances(usd(600 * K, 200 * K, 200 * K))
    stage.refuses("asset not underweight", usd(500 * K, 300 * K - 1, 200 * K + 1))
    stage.rebalance(usd(500 * K, 300 * K - 1, 200 * K))


# Overshoot


def test_reverts_if_bought_past_target(stage: Stage):
    """Stock may go to 20 % and half a point of tolerance."""
    stage.refuses("bought past target", usd(500 * K, 295 * K - 1, 205 * K + 1))
    stage.rebalance(usd(500 * K, 295 * K, 205 * K))


def test_a_gain_may_be_bought_past_target(stage: Stage):
    """A gain of 1 % of NAV may leave stock 1 point further: 215 / 1010 = 21.29 %, 20.5 + 0.99 allowed."""
    stage.refuses("bought past target", usd(500 * K, 292 * K, 218 * K))
    stage.rebalance(usd(500 * K, 295 * K, 215 * K))


def test_reverts_if_sold_past_target():
    """A gain of 10 wei, less than the smallest drift, leaves cash below target by rounding, with no tolerance."""
    stage = Stage(tolerance_bps=0)
    stage.refuses("sold past target", [*ON_TARGET[:2], ON_TARGET[2] + 1])
    stage.rebalance(ON_TARGET)


def test_tolerance_is_a_quarter_of_the_band_at_most():
    stage = Stage(tolerance_bps=1_000)
    stage.refuses("bought past target", usd(500 * K, 287_500_000_000 - 1, 212_500_000_000 + 1))
    stage.rebalance(usd(500 * K, 287_500_000_000, 212_500_000_000))


# Progress


def test_reverts_if_drift_falls_by_less_than_what_is_sold(stage: Stage):
    """4 thousand sold; all of it into coin, past its target, takes back of the drift what overshoots."""
    stage.open_session()
    stage.set_balances(usd(504 * K, 298 * K + 1, 198 * K - 1))
    stage.refuses("drift fell too little", usd(500 * K, 302 * K + 1, 198 * K - 1))
    stage.set_balances(usd(504 * K, 298 * K, 198 * K))
    stage.rebalance(usd(500 * K, 302 * K, 198 * K))
