import pytest

from tests.support.evm import Function
from tests.unit.price_oracle.support import (
    BAD_ANSWER,
    BAD_MODES,
    BAD_ROUND,
    CALL_FAILED,
    DAY,
    HEARTBEAT,
    MAX,
    MIN,
    NO_FEED,
    OK,
    OWNER,
    STALE,
    STRANGER,
    WAD,
    WIDEST,
    round_data,
)


@pytest.fixture
def broken(desk, token, bad_feed):
    """The oracle with a feed that answers what the test says."""
    desk.oracle.call("set_feed", token, bad_feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    bad_feed.call("set_response", round_data(desk.evm.now))
    return desk


@pytest.mark.parametrize(
    ("decimals", "answer"), [(0, 7), (6, 7_123_456), (8, 712_345_678), (18, 7 * 10**18 + 1)]
)
def test_scales_the_answer_to_18_decimals(desk, token, decimals, answer):
    feed = desk.feed(answer, decimals).address
    desk.oracle.call("set_feed", token, feed, HEARTBEAT, 1, 2**128 - 1, sender=OWNER)
    assert desk.price(token) == (answer * 10 ** (18 - decimals), OK)


def test_of_no_assets_is_empty(oracle):
    assert oracle.call("prices", []) == ((), ())


def test_keeps_order_and_repeats(priced, token):
    answer = priced.oracle.call("prices", [STRANGER, token, token])
    assert answer == ((0, 100 * WAD, 100 * WAD), (NO_FEED, OK, OK))


def test_of_16_assets(priced, token):
    assert priced.oracle.call("prices", [token] * 16) == ((100 * WAD,) * 16, (OK,) * 16)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (10**8, OK),
        (10**8 - 1, BAD_ANSWER),
        (1_000 * 10**8, OK),
        (1_000 * 10**8 + 1, BAD_ANSWER),
        (0, BAD_ANSWER),
        (-1, BAD_ANSWER),
        (-(100 * 10**8), BAD_ANSWER),
        (2**128, BAD_ANSWER),
        (2**255 - 1, BAD_ANSWER),
        (-(2**255), BAD_ANSWER),
    ],
)
def test_believes_answers_within_the_bounds_only(broken, token, bad_feed, answer, expected):
    bad_feed.call("set_response", round_data(broken.evm.now, answer))
    assert broken.status(token) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (1, OK),
        (WIDEST, OK),
        (WIDEST + 1, BAD_ANSWER),
        (2**128 - 1, BAD_ANSWER),
        (2**128, BAD_ANSWER),
        (0, BAD_ANSWER),
        (-1, BAD_ANSWER),
    ],
)
def test_believes_answers_within_the_widest_bounds(desk, token, bad_feed, answer, expected):
    bad_feed.call("set_decimals", 18)
    bad_feed.call("set_response", round_data(desk.evm.now, answer))
    desk.oracle.call("set_feed", token, bad_feed.address, HEARTBEAT, 1, 2**128 - 1, sender=OWNER)
    assert desk.price(token) == (answer if expected == OK else 0, expected)


def test_is_stale_after_the_heartbeat(priced, token):
    priced.wait(HEARTBEAT)
    assert priced.status(token) == OK
    priced.wait(1)
    assert priced.status(token) == STALE


def test_has_a_heartbeat_for_each_feed(priced, token):
    other = priced.token().address
    priced.oracle.call("set_feed", other, priced.feed().address, 3_600, MIN, MAX, sender=OWNER)
    priced.wait(3_601)
    assert (priced.status(token), priced.status(other)) == (OK, STALE)


@pytest.mark.parametrize(("seconds", "expected"), [(0, OK), (1, BAD_ROUND), (DAY, BAD_ROUND)])
def test_refuses_a_round_from_the_future(priced, token, feed, seconds, expected):
    feed.call("set_answer_at", 100 * 10**8, priced.evm.now + seconds)
    assert priced.status(token) == expected


def test_refuses_a_round_that_is_not_complete(priced, token, feed):
    feed.call("set_answer_at", 100 * 10**8, 0)
    assert priced.status(token) == BAD_ROUND


def test_refuses_an_answer_of_an_older_round(priced, token, feed):
    feed.call("set_answer", 100 * 10**8)
    assert priced.status(token) == OK
    feed.call("set_answered_in_round", 1)
    assert priced.status(token) == BAD_ROUND


@pytest.mark.parametrize(
    ("size", "expected"), [(0, CALL_FAILED), (32, CALL_FAILED), (159, CALL_FAILED), (160, OK)]
)
def test_needs_all_five_words(broken, token, bad_feed, size, expected):
    bad_feed.call("set_response", round_data(broken.evm.now)[:size])
    assert broken.status(token) == expected


def test_takes_more_than_five_words(broken, token, bad_feed):
    bad_feed.call("set_response", round_data(broken.evm.now) + b"\xff" * 100)
    assert broken.status(token) == OK


def test_takes_words_wider_than_their_types(broken, token, bad_feed):
    wide = round_data(broken.evm.now, round_id=2**256 - 1, answered_in_round=2**256 - 1)
    bad_feed.call("set_response", wide)
    assert broken.status(token) == OK


def test_takes_any_times(broken, token, bad_feed):
    bad_feed.call("set_response", round_data(2**256 - 1))
    assert broken.status(token) == BAD_ROUND


@pytest.mark.parametrize("mode", BAD_MODES.values(), ids=BAD_MODES.keys())
def test_does_not_revert_and_prices_the_others(broken, token, bad_feed, feed, mode):
    other = broken.token().address
    broken.oracle.call("set_feed", other, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    bad_feed.call("set_mode", mode)
    prices, statuses = broken.oracle.call("prices", [token, other])
    assert prices == (0, 100 * WAD)
    assert statuses[0] in (CALL_FAILED, BAD_ANSWER)
    assert statuses[1] == OK
    assert broken.evm.gas_used < 300_000


def test_does_not_revert_on_16_feeds_that_burn_all_gas(broken, token, bad_feed):
    bad_feed.call("set_mode", BAD_MODES["burns all gas"])
    assert broken.oracle.call("prices", [token] * 16) == ((0,) * 16, (CALL_FAILED,) * 16)
    assert broken.evm.gas_used < 16 * 210_000


def test_does_not_revert_on_a_feed_whose_code_is_gone(broken, token, bad_feed):
    broken.erase(bad_feed)
    assert broken.status(token) == CALL_FAILED


def test_of_four_feeds_costs_little(desk):
    tokens = [desk.token().address for _ in range(4)]
    for token in tokens:
        desk.oracle.call("set_feed", token, desk.feed().address, HEARTBEAT, MIN, MAX, sender=OWNER)
    desk.oracle.call("prices", [])
    base = desk.evm.gas_used
    desk.oracle.call("prices", tokens)
    assert (
        desk.evm.gas_used - base < 4 * 20_000
    )  # cold: 2 words of settings, the feed's account and its 4 words


def test_never_gets_another_price_for_lack_of_gas(doubled, token):
    """Whatever gas the caller gives: the call fails as a whole, or the price is the price or none."""
    prices = Function(next(e for e in doubled.oracle.abi if e.get("name") == "prices"))
    data = prices.encode([token])
    seen = set()
    for gas in range(22_000, 120_000, 250):
        try:
            output = doubled.evm._evm.message_call(STRANGER, doubled.oracle.address, data, gas=gas)
        except RuntimeError:
            continue
        words = [int.from_bytes(output[i : i + 32], "big") for i in range(0, len(output), 32)]
        seen.add((words[3], words[5]))
    assert (100 * WAD, OK) in seen
    assert all(price == (100 * WAD if status == OK else 0) for price, status in seen)
