import pytest
from eth_account import Account

from tests.support.basket import Basket, units_of
from tests.support.evm import Evm, artifact
from tests.support.venue import v2_pair, v3_pool
from tests.support.world import WAD

LIQUIDITY = 10**24
SILENT, ZERO_FIRST = 1, 256  # WeirdToken


@pytest.fixture(scope="package")
def evm():
    return Evm()


@pytest.fixture(scope="session")
def depositor():
    """An account that can sign permits."""
    return Account.from_key(b"\x11" * 32)


@pytest.fixture(scope="session")
def receiver():
    return "0x" + "4e" * 20


@pytest.fixture(scope="session")
def attacker():
    return "0x" + "bb" * 20


@pytest.fixture(scope="package")
def cash(evm):
    return evm.deploy(artifact("TestToken"), "Cash", "CASH", 18)


@pytest.fixture(scope="package")
def stock(evm):
    return evm.deploy(artifact("TestToken"), "Stock", "STK", 18)


@pytest.fixture(scope="package")
def weird(evm):
    """Not in the basket; returns nothing and wants a zero allowance first; has a permit."""
    return evm.deploy(artifact("WeirdToken"), 18, SILENT | ZERO_FIRST)


@pytest.fixture(scope="package")
def pair(evm, cash, stock):
    """A real V2 pair: 1 cash for 2 stock."""
    return v2_pair(evm, cash, stock, LIQUIDITY)


@pytest.fixture(scope="package")
def pool(evm, weird, cash):
    """A real V3 pool: 1 weird for 2 cash."""
    return v3_pool(evm, weird, cash, LIQUIDITY)


@pytest.fixture(scope="package")
def executor(evm):
    return evm.deploy(artifact("Executor"))


@pytest.fixture(scope="package")
def zap(evm, executor):
    return evm.deploy(artifact("Zap"), executor.address)


@pytest.fixture(scope="package")
def vault(evm, cash, stock):
    """200 shares on 100 cash and 200 stock; the deployer's but for a dead one."""
    return Basket(evm, [cash, stock], [WAD, WAD // 2]).create([100 * WAD, 200 * WAD])


@pytest.fixture
def is_empty(zap, executor, vault, cash, stock, weird):
    """Neither the zap nor the executor holds anything or has approved the vault."""

    def check():
        held = [
            units_of(token, place.address)
            for token in (cash, stock, weird, vault)
            for place in (zap, executor)
        ]
        allowed = [
            token.call("allowance", zap.address, vault.address) for token in (cash, stock, weird, vault)
        ]
        return not any(held + allowed)

    return check


@pytest.fixture(autouse=True)
def isolation(evm, pair, pool, zap, vault):
    """Each test starts from the package's state."""
    before = evm.snapshot()
    yield
    evm.revert(before)


@pytest.fixture(scope="session")
def sign(depositor):
    """The depositor's permit: sign(token, spender, amount, deadline) -> (v, r, s)."""

    def sign(token, spender, amount, deadline, nonce=0):
        domain = {
            "name": token.call("name"),
            "version": "1",
            "chainId": 1,
            "verifyingContract": token.address,
        }
        fields = {
            "owner": "address",
            "spender": "address",
            "value": "uint256",
            "nonce": "uint256",
            "deadline": "uint256",
        }
        types = {"Permit": [{"name": name, "type": type_} for name, type_ in fields.items()]}
        values = (depositor.address, spender.address, amount, nonce, deadline)
        signed = depositor.sign_typed_data(domain, types, dict(zip(fields, values, strict=True)))
        return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")

    return sign
