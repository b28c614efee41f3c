"""Uniswap's published pools on the in-process chain, each with liquidity: 1 A for 2 B."""

from __future__ import annotations

from typing import Any

from tests.support.evm import DEPLOYER, Contract, Evm, Function, uniswap_artifact

V2 = "v2-core/build"
V3_CORE = "v3-core/artifacts/contracts"
V3_PERIPHERY = "v3-periphery/artifacts/contracts"
Q96 = 2**96
FULL_RANGE = 887_220  # the widest tick of spacing 60
FOREVER = 2**40
V2_FEE_BPS = 30
MAX = 2**256 - 1


def v2_pair(evm: Evm, a: Contract, b: Contract, amount: int) -> Contract:
    """A V2 pair that holds `amount` of A and twice as much B."""
    factory = evm.deploy(uniswap_artifact(f"{V2}/UniswapV2Factory.json"), DEPLOYER)
    address = factory.call("createPair", a.address, b.address)
    pair = evm.at(address, uniswap_artifact(f"{V2}/UniswapV2Pair.json"))
    a.call("mint", pair.address, amount)
    b.call("mint", pair.address, 2 * amount)
    pair.call("mint", DEPLOYER)
    return pair


def v3_pool(evm: Evm, a: Contract, b: Contract, amount: int, fee: int = 3_000) -> Contract:
    """A V3 pool over the full range that holds about `amount` of A and twice as much B."""
    factory = evm.deploy(uniswap_artifact(f"{V3_CORE}/UniswapV3Factory.sol/UniswapV3Factory.json"))
    manager = evm.deploy(
        uniswap_artifact(f"{V3_PERIPHERY}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"),
        factory.address,
        DEPLOYER,  # stands for WETH, which is not used
        DEPLOYER,  # stands for the descriptor, which is not used
    )
    a_first = int(a.address, 16) < int(b.address, 16)
    token0, token1 = (a.address, b.address) if a_first else (b.address, a.address)
    sqrt_price = int(2**0.5 * Q96) if a_first else int(0.5**0.5 * Q96)
    manager.call("createAndInitializePoolIfNecessary", token0, token1, fee, sqrt_price)
    pool = evm.at(
        factory.call("getPool", token0, token1, fee),
        uniswap_artifact(f"{V3_CORE}/UniswapV3Pool.sol/UniswapV3Pool.json"),
    )
    for token, units in ((a, amount), (b, 2 * amount)):
        token.call("mint", DEPLOYER, units)
        send(token, "approve", manager.address, MAX)
    amounts = (amount, 2 * amount) if a_first else (2 * amount, amount)
    manager.call("mint", (token0, token1, fee, -FULL_RANGE, FULL_RANGE, *amounts, 0, 0, DEPLOYER, FOREVER))
    return pool


def is_token0(pool: Contract, token: Contract) -> bool:
    """Whether `token` is the pool's token0."""
    return bool(int(pool.call("token0"), 16) == int(token.address, 16))


def v2_out(amount: int, reserve_in: int, reserve_out: int) -> int:
    """What a V2 pair pays for `amount`, rounded down."""
    after_fee = amount * 997
    return after_fee * reserve_out // (reserve_in * 1000 + after_fee)


def call_data(contract: Contract, name: str, *args: Any) -> bytes:
    """What a CALL leg or another contract sends to call `name`."""
    return Function(next(e for e in contract.abi if e.get("name") == name)).encode(*args)


def send(token: Contract, name: str, *args: Any, sender: str = DEPLOYER) -> bytes:
    """A call of a token that may answer anything: the raw output."""
    return token.evm.call(sender, token.address, call_data(token, name, *args))
