import pytest

from tests.unit.price_oracle.support import DELAY, HEARTBEAT, MAX, MIN, OK, OWNER, WAD, ZERO


def test_bounds_may_be_one_price(desk, oracle, token, feed):
    oracle.call("set_feed", token, feed.address, HEARTBEAT, 100 * WAD, 100 * WAD, sender=OWNER)
    assert desk.price(token) == (100 * WAD, OK)


def test_removing_a_feed_tells_of_no_second_source_where_there_is_none(desk, oracle, token, feed):
    oracle.call("set_feed", token, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    desk.change("set_feed", token, ZERO, 0, 0, 0)
    assert [e.name for e in desk.evm.events() if e.name in ("FeedSet", "SecondSourceSet")] == ["FeedSet"]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("set_feed", (ZERO, ZERO, 0, 0, 0)),
        ("set_second_source", (ZERO, ZERO, ZERO, 0, 0)),
        ("set_guardian", (ZERO,)),
    ],
)
def test_a_call_without_arguments_is_announced_like_any_other(desk, oracle, name, args):
    """It fails when it is made."""
    id = oracle.call("queue", desk.data(name, *args)[:4], sender=OWNER)
    assert oracle.call("ready_at", id) == desk.evm.now + DELAY
