import pytest

PRICE = 10**18  # WAD
HEARTBEAT = 3_600  # seconds


@pytest.fixture(scope="module")
def owner(accounts):
    return accounts[0]


@pytest.fixture(scope="module")
def non_owner(accounts):
    return accounts[1]


@pytest.fixture(scope="module")
def oracle(PriceOracle, owner):
    return owner.deploy(PriceOracle)


@pytest.fixture(scope="module")
def token(TestToken, owner):
    return owner.deploy(TestToken, "Cash", "CASH", 6)


@pytest.fixture(scope="module")
def feed(TestFeed, owner):
    return owner.deploy(TestFeed, 8, "CASH / USD", 100 * 10**8)


@pytest.fixture(scope="module")
def bad_feed(BadFeed, owner):
    return owner.deploy(BadFeed)


@pytest.fixture(scope="module")
def priced(oracle, token, feed, owner):
    """The oracle with one good feed: 100 USD, believed between 1 and 1,000 USD."""
    oracle.set_feed(token, feed, HEARTBEAT, PRICE, 1_000 * PRICE, {"from": owner})
    return oracle


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Each test starts from the module's state."""
