import pytest
from brownie import ZERO_ADDRESS, reverts

HEARTBEAT = 3_600
MIN, MAX = 10**18, 1_000 * 10**18


def test_stores_the_feed(oracle, token, feed, owner):
    oracle.set_feed(token, feed, HEARTBEAT, MIN, MAX, {"from": owner})
    assert oracle.feeds(token) == (feed.address, 8, HEARTBEAT, MIN, MAX)


def test_stores_the_widest_bounds(oracle, token, feed, owner):
    oracle.set_feed(token, feed, 30 * 86_400, 1, 2**128 - 1, {"from": owner})
    assert oracle.feeds(token) == (feed.address, 8, 30 * 86_400, 1, 2**128 - 1)


def test_emits_the_setting(oracle, token, feed, owner):
    event = oracle.set_feed(token, feed, HEARTBEAT, MIN, MAX, {"from": owner}).events["FeedSet"]
    assert dict(event) == {
        "asset": token,
        "feed": feed,
        "decimals": 8,
        "heartbeat_seconds": HEARTBEAT,
        "min_price": MIN,
        "max_price": MAX,
    }


def test_removes_a_feed(priced, token, owner):
    priced.set_feed(token, ZERO_ADDRESS, 0, 0, 0, {"from": owner})
    assert priced.feeds(token) == (ZERO_ADDRESS, 0, 0, 0, 0)
    assert priced.prices([token]) == ([0], [1])


def test_reverts_when_not_owner(oracle, token, feed, non_owner):
    with reverts("not owner"):
        oracle.set_feed(token, feed, HEARTBEAT, MIN, MAX, {"from": non_owner})


@pytest.mark.parametrize(
    ("heartbeat", "low", "high", "reason"),
    [
        (0, MIN, MAX, "bad heartbeat"),
        (30 * 86_400 + 1, MIN, MAX, "bad heartbeat"),
        (HEARTBEAT, 0, MAX, "bad bounds"),
        (HEARTBEAT, MAX, MIN, "bad bounds"),
        (HEARTBEAT, MIN, 2**128, "bad bounds"),
    ],
)
def test_reverts_on_a_setting_out_of_range(oracle, token, feed, owner, heartbeat, low, high, reason):
    with reverts(reason):
        oracle.set_feed(token, feed, heartbeat, low, high, {"from": owner})


def test_reverts_on_a_zero_asset(oracle, feed, owner):
    with reverts("zero asset"):
        oracle.set_feed(ZERO_ADDRESS, feed, HEARTBEAT, MIN, MAX, {"from": owner})


def test_reverts_on_a_feed_without_code(oracle, token, owner, non_owner):
    with reverts("feed has no code"):
        oracle.set_feed(token, non_owner, HEARTBEAT, MIN, MAX, {"from": owner})


def test_reverts_on_settings_for_no_feed(oracle, token, owner):
    with reverts("no feed to set"):
        oracle.set_feed(token, ZERO_ADDRESS, HEARTBEAT, MIN, MAX, {"from": owner})


def test_reverts_on_more_than_18_decimals(oracle, token, owner, TestFeed):
    feed = owner.deploy(TestFeed, 19, "CASH / USD", 10**19)
    with reverts("feed decimals > 18"):
        oracle.set_feed(token, feed, HEARTBEAT, MIN, MAX, {"from": owner})
