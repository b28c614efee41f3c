"""Prices with a second source: it vetoes or lets pass, whatever it does; it never makes a price."""

import pytest
from eth_abi import encode

from tests.unit.price_oracle.reference import second_price
from tests.unit.price_oracle.support import (
    BAD_ANSWER,
    BAD_MODES,
    CALL_FAILED,
    DEVIATES,
    DEVIATION,
    HEARTBEAT,
    NO_SECOND_SOURCE,
    OK,
    OWNER,
    STALE,
    WAD,
    WINDOW,
    observed,
)

TICK = 46_054  # of 100.00 quotes, where the decimals are equal
LIMIT = 2**55  # of an int56


def test_are_the_feeds_where_the_pool_agrees(doubled, token):
    readable, second = doubled.oracle.call("second_price", token)
    assert readable
    assert second != 100 * WAD
    assert doubled.price(token) == (100 * WAD, OK)


@pytest.mark.parametrize("side", [1, -1], ids=["feed above", "feed below"])
def test_are_vetoed_beyond_the_deviation_only(doubled, token, side):
    """The farthest answer of a feed of 18 decimals that the pool bears, and the next one."""
    _, second = doubled.oracle.call("second_price", token)
    # |second - price| * 10,000 <= price * DEVIATION
    farthest = (
        second * 10_000 // (10_000 - DEVIATION) if side > 0 else -(-second * 10_000 // (10_000 + DEVIATION))
    )
    fine = doubled.feed(farthest, 18)
    doubled.change("set_feed", token, fine.address, HEARTBEAT, WAD, 1_000 * WAD)
    assert doubled.price(token) == (farthest, OK)
    fine.call("set_answer", farthest + side)
    assert doubled.price(token) == (0, DEVIATES)


@pytest.mark.parametrize(
    ("deviation", "farthest", "side"), [(2_000, 125 * 10**16, 1), (2_500, 80 * 10**16, -1)]
)
def test_are_not_vetoed_at_the_deviation(doubled, token, quote, pool, deviation, farthest, side):
    """The pool says 1 USD to the wei, at tick 0."""
    doubled.change("set_second_source", token, pool.address, quote, WINDOW, deviation)
    feed = doubled.feed(farthest, 18)
    doubled.change("set_feed", token, feed.address, HEARTBEAT, WAD // 2, 2 * WAD)
    pool.call("set_response", observed(0, 0))
    assert doubled.price(token) == (farthest, OK)
    feed.call("set_answer", farthest + side)
    assert doubled.status(token) == DEVIATES


@pytest.mark.parametrize(
    ("tick", "expected"),
    [(TICK + 98, OK), (TICK + 102, DEVIATES), (TICK - 98, OK), (TICK - 104, DEVIATES), (-TICK, DEVIATES)],
)
def test_follow_the_pools_tick(doubled, token, pool, tick, expected):
    pool.call("set_response", observed(0, tick * WINDOW))
    assert doubled.status(token) == expected


@pytest.mark.parametrize("tick", [887_272, 887_271, -887_271, -887_272])
def test_are_vetoed_by_the_last_ticks(doubled, token, pool, tick):
    pool.call("set_response", observed(0, tick * WINDOW))
    assert doubled.status(token) == DEVIATES


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (0, 887_272 * WINDOW + 1),
        (0, -887_272 * WINDOW - 1),
        (0, 2**54),
        (-LIMIT, LIMIT - 1),
        (LIMIT - 1, -LIMIT),
        (LIMIT, LIMIT + TICK * WINDOW),
        (LIMIT - TICK * WINDOW, LIMIT),
        (-LIMIT - 1, -LIMIT - 1 + TICK * WINDOW),
        (2**255 - 1, -(2**255)),
        (-(2**255), 2**255 - 1),
        (-(2**255), -(2**255)),
        (2**255 - 1, 2**255 - 1),
    ],
)
def test_are_vetoed_by_ticks_that_cannot_be(doubled, token, pool, then, now):
    pool.call("set_response", observed(then, now))
    assert doubled.status(token) == NO_SECOND_SOURCE


@pytest.mark.parametrize(
    ("then", "now"), [(-LIMIT, -LIMIT + TICK * WINDOW), (LIMIT - 1 - TICK * WINDOW, LIMIT - 1)]
)
def test_take_any_cumulative_that_can_be(doubled, token, pool, then, now):
    pool.call("set_response", observed(then, now))
    assert doubled.status(token) == OK


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, NO_SECOND_SOURCE),
        (32, NO_SECOND_SOURCE),
        (160, NO_SECOND_SOURCE),
        (255, NO_SECOND_SOURCE),
        (256, OK),
    ],
)
def test_need_all_eight_words(doubled, token, pool, size, expected):
    pool.call("set_response", observed(0, TICK * WINDOW)[:size])
    assert doubled.status(token) == expected


def test_take_more_than_eight_words(doubled, token, pool):
    pool.call("set_response", observed(0, TICK * WINDOW) + b"\xff" * 100)
    assert doubled.status(token) == OK


@pytest.mark.parametrize(
    "answer",
    [
        encode(["int256[]", "uint256[]"], [[0, TICK * WINDOW, 0], [0, 0, 0]]),
        encode(["int256[]", "uint256[]"], [[0], [0, 0, 0, 0]]),
        encode(["uint256"] * 8, [96, 160, 2, 0, TICK * WINDOW, 2, 0, 0]),
        encode(["uint256"] * 8, [2**256 - 1] * 8),
        b"\x00" * 256,
    ],
    ids=["three", "one", "elsewhere", "ones", "zeros"],
)
def test_are_vetoed_by_an_answer_of_another_form(doubled, token, pool, answer):
    pool.call("set_response", answer)
    assert doubled.status(token) == NO_SECOND_SOURCE


@pytest.mark.parametrize("mode", BAD_MODES.values(), ids=BAD_MODES.keys())
def test_are_vetoed_by_a_pool_that_does_not_tell(doubled, token, quote, pool, mode):
    pool.call("set_mode", mode)
    prices, statuses = doubled.oracle.call("prices", [token, quote])
    assert (prices, statuses) == ((0, WAD), (NO_SECOND_SOURCE, OK))
    assert doubled.evm.gas_used < 400_000


def test_are_vetoed_by_a_pool_whose_code_is_gone(doubled, token, pool):
    doubled.erase(pool)
    assert doubled.status(token) == NO_SECOND_SOURCE


def test_of_16_assets_whose_pools_burn_all_gas(doubled, token, pool):
    pool.call("set_mode", BAD_MODES["burns all gas"])
    assert doubled.oracle.call("prices", [token] * 16) == ((0,) * 16, (NO_SECOND_SOURCE,) * 16)
    assert doubled.evm.gas_used < 16 * 330_000


def test_are_vetoed_where_the_quote_has_no_price(doubled, token, quote):
    """One change at a time: the quote's feed answers, then what is out of its bounds."""
    dollar = doubled.feed(10**8)
    doubled.change("set_feed", quote, dollar.address, HEARTBEAT, WAD // 2, 2 * WAD)
    assert doubled.status(token) == OK
    dollar.call("set_answer", 3 * 10**8)
    assert doubled.oracle.call("prices", [token, quote])[1] == (NO_SECOND_SOURCE, BAD_ANSWER)


def test_are_vetoed_where_the_quote_is_stale(doubled, token, quote, feed):
    doubled.wait(HEARTBEAT)
    feed.call("set_answer", 100 * 10**8)
    assert doubled.oracle.call("prices", [token, quote])[1] == (NO_SECOND_SOURCE, STALE)


def test_do_not_ask_the_pool_where_the_feed_has_no_price(doubled, token, pool, feed):
    pool.call("set_mode", BAD_MODES["burns all gas"])
    feed.call("set_answer", 0)
    assert doubled.status(token) == BAD_ANSWER
    assert doubled.evm.gas_used < 100_000
    doubled.erase(feed)
    assert doubled.status(token) == CALL_FAILED


def test_follow_the_quotes_price(doubled, token, quote, feed):
    """A quote of 1.5 USD makes the token 150 USD to the pool."""
    dollar = doubled.feed(150_000_000)
    doubled.change("set_feed", quote, dollar.address, HEARTBEAT, WAD // 2, 2 * WAD)
    assert doubled.status(token) == DEVIATES
    feed.call("set_answer", 150 * 10**8)
    assert doubled.price(token) == (150 * WAD, OK)


def test_of_two_assets_that_quote_each_other(doubled, token, quote, pool):
    """The quote is priced by its feed alone, so this ends."""
    doubled.change("set_second_source", quote, pool.address, token, WINDOW, DEVIATION)
    assert doubled.oracle.call("prices", [token, quote]) == ((100 * WAD, WAD), (OK, OK))
    pool.call("set_mode", BAD_MODES["reverts"])
    assert doubled.oracle.call("prices", [token, quote])[1] == (NO_SECOND_SOURCE,) * 2


def test_of_others_are_not_touched(doubled, quote, pool):
    pool.call("set_mode", BAD_MODES["reverts"])
    assert doubled.price(quote) == (WAD, OK)


def test_ask_for_the_window(doubled, token, pool):
    """The pool's cumulatives are divided by the window that was set."""
    pool.call("set_response", observed(0, TICK * WINDOW * 2))
    assert doubled.oracle.call("second_price", token)[1] == pytest.approx(
        second_price(TICK * 2, WAD, 6, 6), rel=1e-12
    )


def test_cannot_be_set_by_anyone_who_asks(doubled, token, quote, pool):
    data = doubled.data("set_second_source", token, pool.address, quote, WINDOW, 5_000)
    doubled.oracle.call("queue", data, sender=OWNER)
    assert doubled.oracle.call("second_sources", token)[3] == DEVIATION
