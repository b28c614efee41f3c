"""A feed has fallen silent and the market has moved: trades and priced flows at the old price would be a gift.

Coin has halved: who sells 50 thousand USD's worth of it to the vault at the old price gains 25 thousand, and only the
old price's half of it would be charged to nobody. Trades stop when the answer is older than its heartbeat; leaving in
kind needs no price.
"""

import pytest

from tests.support.world import HEARTBEAT, OWNER, STRANGER, WAD, reverts
from tests.unit.stage import ON_TARGET, OUT_OF_BAND, K, Stage, usd

COIN = 1
THEFT = usd(550 * K, 300 * K, 150 * K)  # 50 thousand cash for coin that was worth as much


def silence(stage: Stage, seconds: int) -> None:
    """Coin's feed has said nothing for so long; the others have."""
    stage.sleep(seconds)
    for index in (0, 2):
        stage.set_price(index, stage.prices[index])


def test_a_trade_at_a_stale_price_is_refused(stage: Stage):
    silence(stage, HEARTBEAT + 1)
    stage.refuses("price not usable", THEFT)
    with reverts("price not usable"):
        stage.open_session()
    assert stage.balances() == OUT_OF_BAND
    stage.set_price(COIN, 50 * WAD)  # as the market is
    stage.refuses("loss above slippage", THEFT)
    stage.set_price(COIN, 100 * WAD)  # were it still the market's price, it would be a fair trade
    stage.rebalance(THEFT)
    assert stage.evm.events("Rebalanced")


def test_a_price_as_old_as_its_heartbeat_is_still_used(stage: Stage):
    silence(stage, HEARTBEAT)
    stage.rebalance(ON_TARGET)


@pytest.mark.parametrize("token", [0, 1, 2])
def test_priced_flows_stop_whichever_feed_is_silent(stage: Stage, token):
    silence(stage, HEARTBEAT + 1)
    with reverts("price not usable"):
        stage.vault.call("appraise", stage.tokens[token].address)
    stage.set_price(COIN, 100 * WAD)
    stage.vault.call("appraise", stage.tokens[token].address)


def test_leaving_in_kind_goes_on(stage: Stage):
    silence(stage, HEARTBEAT + 1)
    supply = stage.vault.call("totalSupply")
    stage.vault.call("transfer", STRANGER, supply // 10, sender=OWNER)
    assert stage.redeem(STRANGER, supply // 10) == [balance // 10 for balance in OUT_OF_BAND]
