import pytest

from tests.support.evm import Contract, artifact
from tests.unit.price_oracle.support import (
    DEVIATION,
    HEARTBEAT,
    MAX,
    MIN,
    OWNER,
    START,
    WAD,
    WINDOW,
    Desk,
    observed,
    open_desk,
)


@pytest.fixture(autouse=True)
def isolation():
    """Each test has a chain of its own."""


@pytest.fixture
def desk() -> Desk:
    return open_desk()


@pytest.fixture
def oracle(desk) -> Contract:
    return desk.oracle


@pytest.fixture
def token(desk) -> str:
    return desk.token(6).address


@pytest.fixture
def feed(desk) -> Contract:
    return desk.feed()


@pytest.fixture
def bad_feed(desk) -> Contract:
    return desk.evm.deploy(artifact("BadFeed"))


@pytest.fixture
def priced(desk, token, feed) -> Desk:
    """The token has one good feed: 100 USD, believed between 1 and 1,000 USD."""
    desk.oracle.call("set_feed", token, feed.address, HEARTBEAT, MIN, MAX, sender=OWNER)
    return desk


@pytest.fixture
def quote(priced) -> str:
    """A dollar of 6 decimals."""
    quote = priced.token(6).address
    dollar = priced.feed(10**8).address
    priced.oracle.call("set_feed", quote, dollar, HEARTBEAT, WAD // 2, 2 * WAD, sender=OWNER)
    return quote


@pytest.fixture
def pool(priced, token, quote) -> Contract:
    """Token0 is the token, of 6 decimals as the quote: tick 46,054 is a price of 100.0024."""
    pool = priced.evm.deploy(artifact("ScriptedPool"), token, quote)
    pool.call("set_response", observed(0, 46_054 * WINDOW))
    return pool


@pytest.fixture
def doubled(priced, token, quote, pool) -> Desk:
    """The token's price can be vetoed by the pool."""
    priced.change("set_second_source", token, pool.address, quote, WINDOW, DEVIATION)
    assert priced.evm.now > START
    return priced
