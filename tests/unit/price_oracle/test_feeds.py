from tests.unit.price_oracle.support import DAY, HEARTBEAT, MAX, MIN, OWNER, STRANGER, WIDEST, ZERO


def test_of_an_asset_without_a_feed_is_zero(oracle):
    assert oracle.call("feeds", STRANGER) == (ZERO, 0, 0, 0, 0)


def test_tells_how_an_asset_is_priced(priced, token, feed):
    assert priced.oracle.call("feeds", token) == (feed.address, 8, HEARTBEAT, MIN, MAX)


def test_tells_the_widest_settings(desk, token):
    feed = desk.feed(10**18, 18).address
    desk.oracle.call("set_feed", token, feed, 30 * DAY, 1, 2**128 - 1, sender=OWNER)
    assert desk.oracle.call("feeds", token) == (feed, 18, 30 * DAY, 1, WIDEST)


def test_is_the_same_with_a_second_source(doubled, token, feed):
    assert doubled.oracle.call("feeds", token) == (feed.address, 8, HEARTBEAT, MIN, MAX)
