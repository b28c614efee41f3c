"""A keeper trades to and fro around the target, within the tolerance, for its own venue's fees."""

from tests.unit.stage import K, Stage, usd

ABOVE = usd(504 * K, 298 * K, 198 * K)


def test_as_much_overshoot_as_was_corrected_is_refused(stage: Stage):
    stage.open_session()
    stage.hold(usd(504 * K, 298 * K + 1, 198 * K - 1))
    stage.refuses("drift fell too little", usd(500 * K, 302 * K + 1, 198 * K - 1))
    stage.hold(ABOVE)
    stage.rebalance(usd(500 * K, 302 * K, 198 * K))


def test_the_trade_back_finds_the_session_closed(stage: Stage):
    stage.open_session()
    stage.hold(ABOVE)
    back = usd(500 * K, 300 * K, 200 * K)
    stage.rebalance(usd(500 * K, 302 * K, 198 * K))
    stage.refuses("wrong session", back, session=1)
    stage.refuses("cooldown not over", back, session=2)
