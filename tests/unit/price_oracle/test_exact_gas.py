"""What a feed and a pool get to answer with: no caller gives them less, and nothing they do costs more."""

from tests.support.evm import Contract, artifact
from tests.unit.exact_gas import needs_gas
from tests.unit.price_oracle.support import (
    HEARTBEAT,
    MAX,
    MIN,
    OK,
    OWNER,
    WINDOW,
    Desk,
    observed,
    open_desk,
    round_data,
)

FEED_GAS, POOL_GAS = 200_000, 300_000


def test_a_feed_gets_200_000(priced: Desk, token: str, feed: Contract) -> None:
    needs_gas(priced.evm, feed, FEED_GAS, round_data(priced.evm.now))
    assert priced.status(token) == OK


def test_the_sequencers_feed_gets_200_000(desk: Desk) -> None:
    uptime, price = desk.feed(0), desk.feed()
    on_rollup = open_desk(uptime.address, 1, desk.evm)
    token = desk.evm.deploy(artifact("TestToken"), "Token", "TKN", 6).address
    on_rollup.oracle.call("set_feed", token, price.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    needs_gas(desk.evm, uptime, FEED_GAS, round_data(desk.evm.now - 2, answer=0))
    assert on_rollup.status(token) == OK


def test_a_pool_gets_300_000(doubled: Desk, token: str, pool: Contract) -> None:
    needs_gas(doubled.evm, pool, POOL_GAS, observed(0, 46_054 * WINDOW))
    assert doubled.status(token) == OK
