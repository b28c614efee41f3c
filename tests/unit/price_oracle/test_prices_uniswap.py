"""A second source that is a real Uniswap V3 pool, with trades and time, against the reference."""

import random

import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.market import Market, open_market
from tests.unit.price_oracle.reference import mean_tick, second_price
from tests.unit.price_oracle.support import (
    DAY,
    DEVIATES,
    HEARTBEAT,
    NO_SECOND_SOURCE,
    OK,
    OWNER,
    WAD,
    WINDOW,
    Desk,
    open_desk,
)

DEVIATION = 200  # bps
PRICE = 2_000  # USD
DOLLAR = 99_990_000  # USD, 8 decimals: the quote's price


class Shop:
    """An asset of `PRICE` USD with a pool against a dollar; each order of the two tokens comes up."""

    def __init__(
        self, asset_decimals: int, quote_decimals: int, asset_is_token0: bool, memory: int = 300
    ) -> None:
        self.desk: Desk = open_desk()
        self.asset = self.desk.token(asset_decimals)
        self.quote = self.desk.token(quote_decimals)
        while (int(self.asset.address, 16) < int(self.quote.address, 16)) != asset_is_token0:
            self.quote = self.desk.token(quote_decimals)
        self.decimals = (asset_decimals, quote_decimals)
        self.sign = 1 if asset_is_token0 else -1
        self.feed = self.desk.feed(PRICE * 10**8)
        dollar = self.desk.feed(DOLLAR)
        for token, feed, low, high in ((self.asset, self.feed, 1, 10**6), (self.quote, dollar, 0.5, 2)):
            bounds = (int(low * WAD), int(high * WAD))
            self.desk.oracle.call("set_feed", token.address, feed.address, HEARTBEAT, *bounds, sender=OWNER)
        amounts = (1_000 * 10**asset_decimals, 1_000 * PRICE * 10**quote_decimals)
        self.market: Market = open_market(self.desk.evm, self.asset, self.quote, *amounts, memory)

    def join(self, window: int = WINDOW, deviation: int = DEVIATION) -> None:
        self.desk.change(
            "set_second_source",
            self.asset.address,
            self.market.pool.address,
            self.quote.address,
            window,
            deviation,
        )

    def expected(self, window: int = WINDOW) -> int:
        tick = mean_tick(self.market.history, self.desk.evm.now, window)
        return second_price(self.sign * tick, DOLLAR * 10**10, *self.decimals)

    def found(self) -> int:
        readable, price = self.desk.oracle.call("second_price", self.asset.address)
        assert readable
        return price


@pytest.fixture(params=[True, False], ids=["token0", "token1"])
def shop(request) -> Shop:
    shop = Shop(18, 6, request.param)
    shop.join()
    return shop


@pytest.mark.parametrize("asset_is_token0", [True, False], ids=["token0", "token1"])
@pytest.mark.parametrize("decimals", [(18, 6), (6, 18), (8, 6), (18, 18), (2, 24), (24, 2)])
def test_equals_the_reference_after_trades(decimals, asset_is_token0):
    shop = Shop(*decimals, asset_is_token0)
    shop.join()
    rng = random.Random(f"{decimals} {asset_is_token0}")
    first = shop.market.tick
    for _ in range(40):
        shop.desk.wait(rng.choice([1, 12, 60, 600, 3_600]))
        shop.market.move(first + rng.randint(-400, 400))
        shop.desk.wait(rng.choice([0, 1, 12, 900]))
        expected = shop.expected()
        assert expected - expected // 2**46 - 1 <= shop.found() <= expected
        # The verdict is that of the reference, beside the least of margins.
        deviation = abs(expected - PRICE * WAD) * 10_000 / (PRICE * WAD)
        assert abs(deviation - DEVIATION) > 1e-6
        assert shop.desk.status(shop.asset.address) == (OK if deviation < DEVIATION else DEVIATES)


@pytest.mark.parametrize("window", [300, 1_801, DAY])
def test_equals_the_reference_over_any_window(window):
    shop = Shop(18, 6, True)
    shop.join(window=window)
    first = shop.market.tick
    for step in range(1, 31):
        shop.desk.wait(37 + 211 * step)
        shop.market.move(first + (-1) ** step * 13 * step)
        expected = shop.expected(window)
        assert expected - expected // 2**46 - 1 <= shop.found() <= expected


def test_is_the_feeds_price_where_the_pool_has_not_moved(shop):
    assert shop.desk.price(shop.asset.address) == (PRICE * WAD, OK)


def test_bears_a_swing_within_one_block(shop):
    """A manipulation that is undone before time passes leaves no trace."""
    before = shop.found()
    tick = shop.market.tick
    shop.market.move(tick + 5_000)
    assert shop.found() == before
    assert shop.desk.status(shop.asset.address) == OK
    shop.market.move(tick)
    shop.desk.wait(WINDOW)
    assert shop.desk.status(shop.asset.address) == OK


def test_follows_the_pool_within_the_window(shop):
    """5 % away: vetoed once more than some 2/5 of the window has passed, and the feed's move ends the veto."""
    tick = shop.market.tick
    shop.market.move(tick + shop.sign * 488)
    shop.desk.wait(WINDOW * 35 // 100)
    assert shop.desk.status(shop.asset.address) == OK
    shop.desk.wait(WINDOW * 15 // 100)
    assert shop.desk.status(shop.asset.address) == DEVIATES
    shop.desk.wait(WINDOW)
    assert shop.desk.status(shop.asset.address) == DEVIATES
    shop.feed.call("set_answer", PRICE * 10**8 * 105 // 100)
    assert shop.desk.price(shop.asset.address) == (PRICE * WAD * 105 // 100, OK)


def test_catches_a_feed_that_errs(shop):
    for answer, status in (
        (PRICE * 1.019, OK),
        (PRICE * 1.021, DEVIATES),
        (PRICE * 0.981, OK),
        (PRICE * 0.979, DEVIATES),
    ):
        shop.feed.call("set_answer", int(answer * 10**8))
        assert shop.desk.status(shop.asset.address) == status


def test_is_vetoed_while_the_pool_forgets():
    """A pool of one observation knows nothing older than the last trade."""
    shop = Shop(18, 6, True, memory=1)
    shop.join()
    assert shop.desk.status(shop.asset.address) == OK
    shop.market.move(shop.market.tick + 10)
    assert shop.desk.price(shop.asset.address) == (0, NO_SECOND_SOURCE)
    shop.desk.wait(WINDOW - 1)
    assert shop.desk.status(shop.asset.address) == NO_SECOND_SOURCE
    shop.desk.wait(1)
    assert shop.desk.status(shop.asset.address) == OK


def test_cannot_be_set_where_the_pool_does_not_remember_the_window():
    shop = Shop(18, 6, True, memory=1)
    data = shop.desk.data(
        "set_second_source",
        shop.asset.address,
        shop.market.pool.address,
        shop.quote.address,
        WINDOW,
        DEVIATION,
    )
    shop.desk.oracle.call("queue", data, sender=OWNER)
    shop.desk.wait(2 * DAY)
    shop.market.move(shop.market.tick + 10)
    with pytest.raises(Reverted, match=r"^pool not readable$"):
        shop.desk.oracle.call("execute", data, sender=OWNER)
    shop.desk.wait(WINDOW)
    shop.desk.oracle.call("execute", data, sender=OWNER)


def test_leaves_room_for_the_longest_search():
    """A memory of 65,535 makes `observe` search as long as it ever can, within the gas that the oracle gives."""
    shop = Shop(18, 6, True)
    for memory in range(1_000, 66_001, 1_000):
        shop.market.pool.call("increaseObservationCardinalityNext", min(memory, 65_535))
    first = shop.market.tick
    for step in range(310):  # past the first 300, from where the memory is the new one
        shop.desk.wait(12)
        shop.market.move(first + step % 2 * 20 + 10)
    assert shop.market.pool.call("slot0")[3] == 65_535
    shop.join()
    for step in range(310):
        shop.desk.wait(12)
        shop.market.move(first + step % 2 * 20 + 10)
    assert shop.desk.status(shop.asset.address) == OK
    shop.market.pool.call("observe", [WINDOW, 0])
    assert shop.desk.evm.gas_used - 21_000 < 150_000
