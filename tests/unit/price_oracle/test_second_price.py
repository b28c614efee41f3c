import random

import pytest

from tests.support.evm import artifact
from tests.unit.price_oracle.reference import second_price
from tests.unit.price_oracle.support import (
    DEVIATES,
    DEVIATION,
    HEARTBEAT,
    OWNER,
    STRANGER,
    WAD,
    WIDEST,
    WINDOW,
    Desk,
    observed,
    open_desk,
    round_data,
)

CAP = 2**176
LEAST = 2**46  # the result is at most one part in this below the exact figure
LAST_TICK = 887_272
DECIMALS = [(2, 2), (2, 24), (6, 18), (8, 6), (18, 6), (18, 18), (24, 2), (24, 24)]


def scripted(asset_decimals: int, quote_decimals: int, asset_is_token0: bool, quote_price: int):
    desk: Desk = open_desk()
    asset, quote = desk.token(asset_decimals).address, desk.token(quote_decimals).address
    dollar = desk.evm.deploy(artifact("BadFeed"))  # can answer more than a TestFeed
    dollar.call("set_decimals", 18)
    dollar.call("set_response", round_data(desk.evm.now, quote_price))
    for token, feed in ((asset, desk.feed()), (quote, dollar)):
        desk.oracle.call("set_feed", token, feed.address, HEARTBEAT, 1, 2**128 - 1, sender=OWNER)
    tokens = (asset, quote) if asset_is_token0 else (quote, asset)
    pool = desk.evm.deploy(artifact("ScriptedPool"), *tokens)
    pool.call("set_response", observed(0, 0))
    desk.change("set_second_source", asset, pool.address, quote, WINDOW, DEVIATION)
    return desk, asset, pool, dollar


def check(found: int, exact: int) -> None:
    """At most the exact figure, capped; at least the exact figure less one part in LEAST and a unit."""
    assert found <= min(exact, CAP)
    assert found >= min(exact - exact // LEAST - 1, CAP)


def test_of_an_asset_without_one_is_not_readable(priced, token):
    assert priced.oracle.call("second_price", token) == (False, 0)
    assert priced.oracle.call("second_price", STRANGER) == (False, 0)


def test_at_tick_zero_is_the_quotes_price(doubled, token, pool):
    pool.call("set_response", observed(5, 5))
    assert doubled.oracle.call("second_price", token) == (True, WAD)


@pytest.mark.parametrize("asset_is_token0", [True, False])
@pytest.mark.parametrize("decimals", DECIMALS)
def test_equals_the_definition(decimals, asset_is_token0):
    """All over the range of ticks and of prices of the quote."""
    rng = random.Random(f"{decimals} {asset_is_token0}")
    desk, asset, pool, dollar = scripted(*decimals, asset_is_token0, WAD)
    sign = 1 if asset_is_token0 else -1
    edges = [0, 1, -1, 2, -2, 2**19, -(2**19), 2**19 - 1, LAST_TICK, -LAST_TICK]
    ticks = edges + [rng.randint(-LAST_TICK, LAST_TICK) for _ in range(60)]
    for tick in ticks:
        quote_price = rng.choice([1, WAD, WIDEST, rng.randint(1, WIDEST), rng.getrandbits(70) or 1])
        dollar.call("set_response", round_data(desk.evm.now, quote_price))
        pool.call("set_response", observed(0, tick * WINDOW))
        readable, found = desk.oracle.call("second_price", asset)
        assert readable
        check(found, second_price(sign * tick, quote_price, *decimals))


@pytest.mark.parametrize(
    ("total", "tick"),
    [
        (WINDOW, 1),
        (WINDOW - 1, 0),
        (1, 0),
        (-1, -1),
        (-WINDOW, -1),
        (-WINDOW - 1, -2),
        (46_054 * WINDOW + WINDOW - 1, 46_054),
        (-46_054 * WINDOW - 1, -46_055),
        (LAST_TICK * WINDOW, LAST_TICK),
        (-LAST_TICK * WINDOW, -LAST_TICK),
        (-LAST_TICK * WINDOW + 1, -LAST_TICK),
    ],
)
def test_rounds_the_mean_tick_down(doubled, token, pool, total, tick):
    for start in (0, -(10**12), 10**12):
        pool.call("set_response", observed(start, start + total))
        readable, found = doubled.oracle.call("second_price", token)
        assert readable
        exact = second_price(tick, WAD, 6, 6)
        check(found, exact)
        if abs(tick) < 50_000:  # a tick is then worth more than the error
            assert found > second_price(tick - 1, WAD, 6, 6)


def test_of_a_token1_goes_the_other_way():
    desk, asset, pool, _ = scripted(6, 6, False, WAD)
    pool.call("set_response", observed(0, 46_054 * WINDOW))
    check(desk.oracle.call("second_price", asset)[1], second_price(-46_054, WAD, 6, 6))


def test_is_capped_far_above_any_feed():
    desk, asset, pool, _ = scripted(24, 2, True, WIDEST)
    pool.call("set_response", observed(0, LAST_TICK * WINDOW))
    assert desk.oracle.call("second_price", asset) == (True, CAP)
    assert desk.status(asset) == DEVIATES
