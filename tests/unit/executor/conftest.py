import pytest

from tests.unit.executor.venue import v2_pair, v3_pool

LIQUIDITY = 10**24


@pytest.fixture(scope="module")
def deployer(accounts):
    return accounts[0]


@pytest.fixture(scope="module")
def caller(accounts):
    return accounts[1]


@pytest.fixture(scope="module")
def executor(Executor, deployer):
    return deployer.deploy(Executor)


@pytest.fixture(scope="module")
def token_a(TestToken, deployer):
    return deployer.deploy(TestToken, "A", "A", 18)


@pytest.fixture(scope="module")
def token_b(TestToken, deployer):
    return deployer.deploy(TestToken, "B", "B", 18)


@pytest.fixture(scope="module")
def silent_token(SilentToken, deployer):
    return deployer.deploy(SilentToken)


@pytest.fixture(scope="module")
def pair(token_a, token_b, deployer):
    return v2_pair(deployer, token_a, token_b, LIQUIDITY)


@pytest.fixture(scope="module")
def pool(token_a, token_b, deployer):
    return v3_pool(deployer, token_a, token_b, LIQUIDITY)


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Each test starts from the module's state."""
