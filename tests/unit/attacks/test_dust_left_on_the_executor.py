"""Dust is sent to the executor before a trade, so that what it sweeps back breaks a rule of the vault.

The dust goes to the vault's holders, and the trade goes on. To stop a trade the attacker would have to give as much as
is traded, or leave a token that the payload sweeps without trading it: so a payload sweeps what it trades, no more.
"""

import pytest

from tests.support.world import STRANGER, WAD, reverts
from tests.unit.attacks.market import CASH, STOCK, Market
from tests.unit.attacks.wealth import wealth


def leave(market: Market, token: int, amount: int) -> None:
    market.give(STRANGER, [amount * (i == token) for i in range(2)])
    market.tokens[token].call("transfer", market.router.address, amount, sender=STRANGER)


@pytest.mark.parametrize("token", [CASH, STOCK])
@pytest.mark.parametrize("amount", [1, WAD, 100 * WAD])
def test_does_not_stop_the_trade(token, amount):
    market, clean = Market(), Market()
    sold = market.excess
    leave(market, token, amount)
    attacker = wealth(market, STRANGER)
    for each in (market, clean):
        each.trade(sold, each.quote(sold), *each.tokens)
    gift = [amount * (i == token) for i in range(2)]
    assert market.balances() == [has + more for has, more in zip(clean.balances(), gift, strict=True)]
    assert market.balances(market.router.address) == [0, 0]
    assert wealth(market, STRANGER) == attacker == 0  # it had the dust and has nothing for it


def test_what_is_not_swept_does_not_matter():
    market = Market()
    leave(market, CASH, 10**30)
    market.trade(market.excess, 0)
    assert market.balances(market.router.address) == [10**30, 0]


def test_as_much_as_is_sold_would_be_needed():
    """Given back in full, the trade sells nothing: but the attacker has paid for what the vault buys."""
    market = Market()
    sold = market.excess
    leave(market, CASH, sold + 1)
    with reverts("asset not underweight"):
        market.trade(sold, 0, market.tokens[CASH])
    market.trade(sold, 0)
    assert market.excess < 1_000 * WAD
