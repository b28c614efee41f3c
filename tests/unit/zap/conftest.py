import pytest

from tests.unit.executor.venue import v2_pair

FOREVER = 2**40  # deadline
WHOLE = 10**18  # one share, one token
LIQUIDITY = 10**24


@pytest.fixture(scope="module")
def deployer(accounts):
    return accounts[0]


@pytest.fixture(scope="module")
def depositor(accounts):
    return accounts[1]


@pytest.fixture(scope="module")
def receiver(accounts):
    return accounts[2]


@pytest.fixture(scope="module")
def cash(TestToken, deployer):
    return deployer.deploy(TestToken, "Cash", "CASH", 18)


@pytest.fixture(scope="module")
def stock(TestToken, deployer):
    return deployer.deploy(TestToken, "Stock", "STK", 18)


@pytest.fixture(scope="module")
def silent(SilentToken, deployer):
    return deployer.deploy(SilentToken)


@pytest.fixture(scope="module")
def pair(cash, stock, deployer):
    """A real V2 pair: 1 cash for 2 stock."""
    return v2_pair(deployer, cash, stock, LIQUIDITY)


@pytest.fixture(scope="module")
def executor(Executor, deployer):
    return deployer.deploy(Executor)


@pytest.fixture(scope="module")
def zap(Zap, executor, deployer):
    return deployer.deploy(Zap, executor)


@pytest.fixture(scope="module")
def vault(InKindVault, cash, stock, deployer):
    """100 shares on 100 cash and 200 stock."""
    vault = deployer.deploy(InKindVault, [cash, stock], 100 * WHOLE)
    cash.mint(vault, 100 * WHOLE, {"from": deployer})
    stock.mint(vault, 200 * WHOLE, {"from": deployer})
    return vault


@pytest.fixture(scope="module")
def is_empty(zap, executor, vault, cash, stock):
    """Neither the zap nor the executor holds anything or has approved the vault."""

    def check():
        held = [token.balanceOf(place) for token in (cash, stock, vault) for place in (zap, executor)]
        allowed = [token.allowance(zap, vault) for token in (cash, stock)]
        return not any(held + allowed)

    return check


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Each test starts from the module's state."""
