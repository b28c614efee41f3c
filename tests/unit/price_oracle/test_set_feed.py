import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import (
    DELAY,
    GUARDIAN,
    HEARTBEAT,
    MAX,
    MIN,
    NO_FEED,
    OK,
    OWNER,
    STRANGER,
    WAD,
    ZERO,
)


def test_stores_a_first_feed_at_once(desk, oracle, token, feed):
    oracle.call("set_feed", token, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    assert oracle.call("feeds", token) == (feed.address, 8, HEARTBEAT, MIN, MAX)
    assert desk.price(token) == (100 * WAD, OK)


def test_stores_a_first_feed_through_the_queue_too(desk, token, feed):
    desk.change("set_feed", token, feed.address, HEARTBEAT, MIN, MAX)
    assert desk.price(token) == (100 * WAD, OK)


def test_emits_the_setting(desk, oracle, token, feed):
    oracle.call("set_feed", token, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    (event,) = desk.evm.events()
    assert event.name == "FeedSet"
    assert event.fields == {
        "asset": token.lower(),
        "feed": feed.address.lower(),
        "decimals": 8,
        "heartbeat_seconds": HEARTBEAT,
        "min_price": MIN,
        "max_price": MAX,
    }


@pytest.mark.parametrize(
    ("low", "high", "kept"),
    [
        (1, 134_217_727, (1, 134_217_727)),
        (5, 5, (5, 5)),
        (134_217_727, 134_217_739, (134_217_727, 134_217_730)),
        (134_217_728, 10**18, (134_217_730, 10**18)),
        (99_999_999 * 10**18, 99_999_999 * 10**20, (99_999_999 * 10**18, 99_999_999 * 10**20)),
        (12_345_678 * 10**10 + 1, 12_345_678 * 10**11 + 1, (123_456_781 * 10**9, 12_345_678 * 10**11)),
        (1_342_177_271, 1_342_177_379, (1_342_177_300, 1_342_177_300)),
        (1, 2**128 - 1, (1, 34_028_236 * 10**31)),
    ],
)
def test_keeps_eight_digits_of_the_bounds(desk, oracle, token, feed, low, high, kept):
    """What is dropped makes the bounds narrower: no price is believed that they leave out."""
    oracle.call("set_feed", token, feed.address, HEARTBEAT, low, high, sender=OWNER)
    (event,) = desk.evm.events("FeedSet")
    assert oracle.call("feeds", token)[3:] == kept
    assert (event.fields["min_price"], event.fields["max_price"]) == kept


def test_changes_a_feed_after_the_delay(priced, token):
    other = priced.feed(7 * 10**6, 6).address
    priced.change("set_feed", token, other, 3_600, 2 * WAD, 8 * WAD)
    (event,) = priced.evm.events("FeedSet")
    assert event.fields["feed"] == other.lower()
    assert priced.oracle.call("feeds", token) == (other, 6, 3_600, 2 * WAD, 8 * WAD)


@pytest.mark.parametrize(
    ("heartbeat", "low", "high"),
    [(HEARTBEAT - 1, MIN, MAX), (HEARTBEAT, MIN - 1, MAX), (HEARTBEAT, MIN, MAX + 1), (HEARTBEAT, MIN, MAX)],
    ids=["heartbeat", "lower bound", "upper bound", "nothing"],
)
def test_reverts_on_a_change_outside_the_queue(priced, token, feed, heartbeat, low, high):
    with pytest.raises(Reverted, match=r"^not queued$"):
        priced.oracle.call("set_feed", token, feed.address, heartbeat, low, high, sender=OWNER)


def test_removes_a_feed_after_the_delay(priced, token):
    with pytest.raises(Reverted, match=r"^not queued$"):
        priced.oracle.call("set_feed", token, ZERO, 0, 0, 0, sender=OWNER)
    priced.change("set_feed", token, ZERO, 0, 0, 0)
    (event,) = priced.evm.events("FeedSet")
    assert event.fields == {
        "asset": token.lower(),
        "feed": ZERO,
        "decimals": 0,
        "heartbeat_seconds": 0,
        "min_price": 0,
        "max_price": 0,
    }
    assert priced.oracle.call("feeds", token) == (ZERO, 0, 0, 0, 0)
    assert priced.price(token) == (0, NO_FEED)


def test_of_an_asset_whose_feed_was_removed_waits(priced, token, feed):
    priced.change("set_feed", token, ZERO, 0, 0, 0)
    with pytest.raises(Reverted, match=r"^not queued$"):
        priced.oracle.call("set_feed", token, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    priced.change("set_feed", token, feed.address, HEARTBEAT, MIN, MAX)
    assert priced.price(token) == (100 * WAD, OK)


def test_keeps_the_second_source(doubled, token, pool):
    before = doubled.oracle.call("second_sources", token)
    doubled.change("set_feed", token, doubled.feed().address, HEARTBEAT, MIN, MAX)
    assert doubled.oracle.call("second_sources", token) == before
    pool.call("set_mode", 1)
    assert doubled.status(token) != OK


def test_of_zero_removes_the_second_source(doubled, token, feed):
    doubled.change("set_feed", token, ZERO, 0, 0, 0)
    (event,) = doubled.evm.events("SecondSourceSet")
    assert event.fields == {
        "asset": token.lower(),
        "pool": ZERO,
        "quote": ZERO,
        "window_seconds": 0,
        "max_deviation_bps": 0,
    }
    assert doubled.oracle.call("second_sources", token) == (ZERO, ZERO, 0, 0, 0, 0, False)
    assert doubled.price(token) == (0, NO_FEED)
    doubled.change("set_feed", token, feed.address, HEARTBEAT, MIN, MAX)
    assert doubled.price(token) == (100 * WAD, OK)


@pytest.mark.parametrize("sender", [STRANGER, GUARDIAN])
def test_reverts_when_not_owner(oracle, token, feed, sender):
    with pytest.raises(Reverted, match=r"^not owner$"):
        oracle.call("set_feed", token, feed.address, HEARTBEAT, MIN, MAX, sender=sender)


@pytest.mark.parametrize(
    ("heartbeat", "low", "high", "reason"),
    [
        (0, MIN, MAX, "bad heartbeat"),
        (30 * 86_400 + 1, MIN, MAX, "bad heartbeat"),
        (HEARTBEAT, 0, MAX, "bad bounds"),
        (HEARTBEAT, MAX, MIN, "bad bounds"),
        (HEARTBEAT, MIN, 2**128, "bad bounds"),
        (HEARTBEAT, 2**255, MAX, "bad bounds"),
        (HEARTBEAT, 1_342_177_271, 1_342_177_279, "bad bounds"),
        (HEARTBEAT, MAX + 1, MAX + 1, "bad bounds"),  # nothing is left between bounds of eight digits
        (HEARTBEAT, 2**128 - 1, 2**128 - 1, "bad bounds"),
    ],
)
def test_reverts_on_a_setting_out_of_range(desk, oracle, token, feed, heartbeat, low, high, reason):
    setting = (token, feed.address, heartbeat, low, high)
    with pytest.raises(Reverted, match=f"^{reason}$"):
        oracle.call("set_feed", *setting, sender=OWNER)
    with pytest.raises(Reverted, match=f"^{reason}$"):
        desk.change("set_feed", *setting)
    assert oracle.call("feeds", token) == (ZERO, 0, 0, 0, 0)


def test_reverts_on_a_zero_asset(oracle, feed):
    with pytest.raises(Reverted, match=r"^zero asset$"):
        oracle.call("set_feed", ZERO, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)


def test_reverts_on_a_feed_without_code(oracle, token):
    with pytest.raises(Reverted, match=r"^feed has no code$"):
        oracle.call("set_feed", token, STRANGER, HEARTBEAT, MIN, MAX, sender=OWNER)


@pytest.mark.parametrize("setting", [(HEARTBEAT, 0, 0), (0, MIN, 0), (0, 0, MAX)])
def test_reverts_on_settings_for_no_feed(oracle, token, setting):
    with pytest.raises(Reverted, match=r"^no feed to set$"):
        oracle.call("set_feed", token, ZERO, *setting, sender=OWNER)


def test_reverts_on_removing_what_is_not_there(desk, oracle, token, priced):
    with pytest.raises(Reverted, match=r"^no feed to remove$"):
        oracle.call("set_feed", STRANGER, ZERO, 0, 0, 0, sender=OWNER)
    priced.change("set_feed", token, ZERO, 0, 0, 0)
    with pytest.raises(Reverted, match=r"^no feed to remove$"):
        priced.change("set_feed", token, ZERO, 0, 0, 0)


def test_reverts_on_more_than_18_decimals(desk, oracle, token):
    with pytest.raises(Reverted, match=r"^feed decimals > 18$"):
        oracle.call("set_feed", token, desk.feed(10**19, 19).address, HEARTBEAT, MIN, MAX, sender=OWNER)


def test_does_not_come_before_the_delay(priced, token):
    data = priced.data("set_feed", token, ZERO, 0, 0, 0)
    priced.oracle.call("queue", data, sender=OWNER)
    priced.wait(DELAY - 1)
    with pytest.raises(Reverted, match=r"^not ready$"):
        priced.oracle.call("execute", data, sender=OWNER)
    assert priced.status(token) == OK
