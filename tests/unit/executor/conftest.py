import pytest

from tests.support.evm import Evm, artifact
from tests.support.venue import v2_pair, v3_pool

LIQUIDITY = 10**24
SILENT = 1  # WeirdToken: returns nothing


@pytest.fixture(scope="package")
def evm():
    return Evm()


@pytest.fixture(scope="session")
def caller():
    return "0x" + "ca" * 20


@pytest.fixture(scope="package")
def executor(evm):
    return evm.deploy(artifact("Executor"))


@pytest.fixture(scope="package")
def token_a(evm):
    return evm.deploy(artifact("TestToken"), "A", "A", 18)


@pytest.fixture(scope="package")
def token_b(evm):
    return evm.deploy(artifact("TestToken"), "B", "B", 18)


@pytest.fixture(scope="package")
def silent_token(evm):
    return evm.deploy(artifact("WeirdToken"), 6, SILENT)


@pytest.fixture(scope="package")
def pair(evm, token_a, token_b):
    return v2_pair(evm, token_a, token_b, LIQUIDITY)


@pytest.fixture(scope="package")
def pool(evm, token_a, token_b):
    return v3_pool(evm, token_a, token_b, LIQUIDITY)


@pytest.fixture(autouse=True)
def isolation(evm, executor, silent_token, pair, pool):
    """Each test starts from the package's state."""
    before = evm.snapshot()
    yield
    evm.revert(before)
