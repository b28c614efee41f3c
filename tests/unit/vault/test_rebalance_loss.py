"""rebalance(): the slippage limit and the loss budget."""

from tests.unit.stage import DAY, ON_TARGET, OUT_OF_BAND, K, Stage, usd

LOST = 902_255_639  # millionths of a USD: lost + 25 bps * (120 + 120 thousand - lost) is just within 15 bps of NAV


def test_reverts_if_more_than_the_slippage_is_lost(stage: Stage):
    """1 % of the 100 thousand sold."""
    stage.refuses("loss above slippage", usd(500 * K, 299 * K - 1, 200 * K))
    stage.rebalance(usd(500 * K, 299 * K, 200 * K))


def test_reverts_if_the_loss_budget_is_exceeded():
    stage = Stage(loss_capacity_bps=15)
    stage.set_balances(usd(620 * K, 240 * K, 140 * K))
    stage.refuses("loss budget exceeded", usd(500 * K, 300 * K, 200 * K - LOST - 1))
    stage.rebalance(usd(500 * K, 300 * K, 200 * K - LOST))


def test_spends_the_loss_budget_to_the_last_unit():
    """Four trades of 5 bps each are all of 20."""
    stage = Stage(loss_refill_bps_per_year=0)
    for number in range(1, 5):
        stage.set_balances(OUT_OF_BAND)
        stage.rebalance(ON_TARGET)
        assert stage.vault.call("loss_budget_used") == number * 5 * 10**14
        stage.sleep_until(stage.evm.now + DAY)
    stage.set_balances(OUT_OF_BAND)
    stage.refuses("loss budget exceeded", ON_TARGET)


def test_charges_what_was_lost_and_what_the_prices_may_be_wrong_by(stage: Stage):
    stage.rebalance(usd(500 * K, 300 * K, 199_600 * 10**6))
    lost = 400 * 10**12  # 0.04 % of NAV, WAD
    at_risk = 25 * (100_000 + 50_000 + 49_600) * 10**8  # 25 bps of what moved, WAD
    assert stage.vault.call("loss_budget_used") == lost + at_risk


def test_charges_a_gain_like_no_loss(stage: Stage):
    stage.rebalance(usd(500 * K, 300 * K, 200 * K + 400 * 10**6))
    assert stage.vault.call("loss_budget_used") == 25 * (100_000 + 50_000 + 50_400) * 10**8


def test_loss_budget_refills_with_time(stage: Stage):
    start = stage.evm.now
    stage.rebalance(ON_TARGET)
    assert stage.vault.call("loss_budget_used") == 5 * 10**14
    stage.sleep_until(start + DAY + 1)
    assert stage.vault.call("loss_budget_used") == 5 * 10**14 - (DAY + 1) * 100 * 10**14 // (365 * DAY)
    stage.sleep_until(start + 18 * DAY + DAY // 4 - 1)  # 100 bps a year: 5 in 18.25 days
    assert stage.vault.call("loss_budget_used") > 0
    stage.sleep_until(start + 18 * DAY + DAY // 4)
    assert stage.vault.call("loss_budget_used") == 0
