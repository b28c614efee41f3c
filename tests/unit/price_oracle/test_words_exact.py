"""Every field of a feed's and of a second source's word, odd and at its ends, beside such neighbours."""

from __future__ import annotations

import random
from itertools import product

import pytest

from tests.support.evm import artifact
from tests.unit.price_oracle.reference import CONTEXT, TICK
from tests.unit.price_oracle.support import (
    DAY,
    HEARTBEAT,
    OK,
    OWNER,
    WAD,
    Desk,
    observed,
    open_desk,
    round_data,
)

MOST = 134_217_727  # 27 bits
LAST_TICK = 887_272


def test_a_feed_is_what_was_set(desk: Desk) -> None:
    heartbeats = (1, 2, DAY + 1, HEARTBEAT - 1, HEARTBEAT)
    bounds = ((1, MOST), (3, 5), (WAD - 10**11, 34_028_235 * 10**31))
    token = desk.token().address
    for decimals in range(19):
        feed = desk.feed(10**decimals, decimals).address
        for heartbeat, (least, greatest) in product(heartbeats, bounds):
            snapshot = desk.evm.snapshot()
            desk.oracle.call("set_feed", token, feed, heartbeat, least, greatest, sender=OWNER)
            expected = (feed.lower(), decimals, heartbeat, least, greatest)
            assert desk.oracle.call("feeds", token) == expected
            if least <= WAD <= greatest:
                assert desk.price(token) == (WAD, OK)
            desk.evm.revert(snapshot)


def scripted(asset_decimals: int, quote_decimals: int, is_token0: bool) -> tuple[Desk, str, str, str]:
    """A desk, an asset and a quote with feeds of 18 decimals, and a pool of theirs."""
    desk = open_desk()
    asset, quote = desk.token(asset_decimals).address, desk.token(quote_decimals).address
    for token in (asset, quote):
        feed = desk.feed(WAD, 18).address
        desk.oracle.call("set_feed", token, feed, HEARTBEAT, 1, 2**128 - 1, sender=OWNER)
    pool = desk.evm.deploy(artifact("ScriptedPool"), *((asset, quote) if is_token0 else (quote, asset)))
    pool.call("set_response", observed(0, 0))
    return desk, asset, quote, pool.address


@pytest.mark.parametrize("is_token0", [True, False])
@pytest.mark.parametrize("decimals", [(2, 3), (3, 2), (23, 24), (24, 23)])
def test_a_second_source_is_what_was_set(is_token0: bool, decimals: tuple[int, int]) -> None:
    desk, asset, quote, pool = scripted(*decimals, is_token0)
    for window, deviation in product((300, 301, DAY - 1, DAY), (1, 2, 4_095, 5_000)):
        snapshot = desk.evm.snapshot()
        desk.change("set_second_source", asset, pool, quote, window, deviation)
        expected = (pool.lower(), quote.lower(), window, deviation, *decimals, is_token0)
        assert desk.oracle.call("second_sources", asset) == expected
        desk.evm.revert(snapshot)


def test_a_second_price_uses_48_bits_of_the_power() -> None:
    """The mantissa's first 48 bits, rounded down, times price and decimals, rounded down."""
    desk, asset, quote, pool = scripted(6, 8, True)
    dollar = desk.evm.deploy(artifact("BadFeed"))
    dollar.call("set_decimals", 18)
    desk.change("set_second_source", asset, pool, quote, 1_800, 100)
    desk.change("set_feed", quote, dollar.address, HEARTBEAT, 1, 2**128 - 1)
    rng = random.Random(1)
    scripted_pool = desk.evm.at(pool, artifact("ScriptedPool"))
    for _ in range(200):
        tick, price = rng.randint(-400_000, 400_000), rng.randint(1, 10**24)
        dollar.call("set_response", round_data(desk.evm.now, price))
        scripted_pool.call("set_response", observed(0, tick * 1_800))
        power = CONTEXT.power(TICK, tick)
        exponent = 0
        while CONTEXT.divide(power, CONTEXT.power(2, exponent)) >= 2:
            exponent += 1
        while CONTEXT.divide(power, CONTEXT.power(2, exponent)) < 1:
            exponent -= 1
        mantissa = int(CONTEXT.multiply(power, CONTEXT.power(2, 47 - exponent)))
        assert 2**47 <= mantissa < 2**48
        scaled, places = price * 10**6 * mantissa, exponent - 47
        scaled = scaled << places if places >= 0 else scaled >> -places
        assert desk.oracle.call("second_price", asset) == (True, scaled // 10**8), tick
