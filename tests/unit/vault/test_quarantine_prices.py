"""While an asset is in quarantine its price counts as 0, whatever the oracle says, and so it is recorded."""

from tests.support.world import GUARDIAN
from tests.unit.stage import NOTHING, PRICES, K, Stage, usd


def test_the_price_of_the_asset_in_quarantine_is_recorded_as_0(stage: Stage) -> None:
    """Once where the oracle has a price, once where it has a status beside one."""
    oracle = stage.script_oracle()
    stage.at_once("quarantine", stage.tokens[1].address, sender=GUARDIAN)
    for statuses in (NOTHING, [0, 5, 0]):
        snapshot = stage.evm.snapshot()
        oracle.call("set_prices", PRICES, statuses)
        stage.open_session()
        (opened,) = stage.evm.events("SessionOpened")
        assert opened.fields["prices"] == (PRICES[0], 0, PRICES[2])
        stage.rebalance(usd(536 * K, 250 * K, 214 * K))
        (rebalanced,) = stage.evm.events("Rebalanced")
        assert rebalanced.fields["prices"] == (PRICES[0], 0, PRICES[2])
        stage.evm.revert(snapshot)
