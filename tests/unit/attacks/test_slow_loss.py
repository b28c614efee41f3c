"""A keeper loses as much as the slippage allows, again and again: the loss budget stops it.

Budget 20 bps of NAV, 100 bps a year. Each full loss here takes 10 bps, and 5 for what the prices may be wrong by.
"""

from tests.unit.stage import DAY, NOTHING, ON_TARGET, OUT_OF_BAND, K, Stage, usd

NAV = 1_000 * K
LOSSY = usd(500 * K, 299_500 * 10**6, 199_500 * 10**6)  # 1 % of what is sold: 10 bps of NAV, and 5 at risk


def test_the_second_full_loss_is_refused(stage: Stage):
    stage.rebalance(LOSSY)
    stage.set_balances(OUT_OF_BAND)
    stage.sleep_until(stage.evm.now + DAY)
    stage.refuses("loss budget exceeded", LOSSY)
    stage.rebalance(ON_TARGET)  # costs only what the prices may be wrong by


def test_what_has_been_lost_comes_back_at_the_refill(stage: Stage):
    """14.9875 bps used of 20: another 14.9875 fit when 9.975 are back, 100 bps a year, so after 36.4 days."""
    start = stage.evm.now
    stage.rebalance(LOSSY)
    stage.set_balances(OUT_OF_BAND)
    stage.sleep_until(start + 36 * DAY)
    stage.refuses("loss budget exceeded", LOSSY)
    stage.sleep_until(start + 37 * DAY)
    stage.rebalance(LOSSY)


def test_gains_do_not_refill_it(stage: Stage):
    stage.rebalance(usd(550 * K, 275 * K + 500 * 10**6, 175 * K))
    used = stage.vault.call("loss_budget_used")
    assert used == 25 * (50_000 + 25_500 + 25_000) * 10**8
    stage.rebalance(usd(540 * K, 285_500 * 10**6, 175 * K))
    assert stage.vault.call("loss_budget_used") > used


def test_small_slices_lose_no_more():
    """Slices of a thousand USD, each at the full slippage, within one session: the bucket adds them up."""
    stage = Stage(loss_capacity_bps=15)
    stage.set_balances(usd(700 * K, 200 * K, 100 * K))
    cash, coin, stock, lost = 700 * K, 200 * K, 100 * K, 0
    for _ in range(9):
        cash, coin = cash - 10 * K, coin + 9_900 * 10**6
        lost += 100 * 10**6
        stage.rebalance(usd(cash, coin, stock))
    assert lost * 10_000 // NAV == 9
    stage.rebalance(usd(cash - 10 * K, coin, stock + 9_900 * 10**6))
    stage.refuses("loss budget exceeded", usd(cash - 20 * K, coin, stock + 19_800 * 10**6))
    stage.rebalance(usd(cash - 10 * K, coin, stock + 9_900 * 10**6), sells=NOTHING)
