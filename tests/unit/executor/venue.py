"""Uniswap's published pools on brownie's chain, each with liquidity: 1 A for 2 B."""

import json
from pathlib import Path

from brownie import Contract
from eth_abi import encode

UNISWAP = Path("node_modules/@uniswap")
Q96 = 2**96
FULL_RANGE = 887_220  # the widest tick of spacing 60
FOREVER = 2**40


def deploy(path, deployer, *args):
    artifact = json.loads((UNISWAP / path).read_text())
    code = (
        artifact["evm"]["bytecode"]["object"]
        if "evm" in artifact
        else artifact["bytecode"].removeprefix("0x")
    )
    types = [i["type"] for item in artifact["abi"] if item["type"] == "constructor" for i in item["inputs"]]
    created = deployer.transfer(data="0x" + code + encode(types, [str(arg) for arg in args]).hex())
    return Contract.from_abi(Path(path).stem, created.contract_address, artifact["abi"])


def at(path, address):
    return Contract.from_abi(Path(path).stem, address, json.loads((UNISWAP / path).read_text())["abi"])


def v2_pair(deployer, a, b, amount):
    """A V2 pair that holds `amount` of A and twice as much B."""
    factory = deploy("v2-core/build/UniswapV2Factory.json", deployer, deployer)
    factory.createPair(a, b, {"from": deployer})
    pair = at("v2-core/build/UniswapV2Pair.json", factory.getPair(a, b))
    a.mint(pair, amount, {"from": deployer})
    b.mint(pair, 2 * amount, {"from": deployer})
    pair.mint(deployer, {"from": deployer})
    return pair


def v3_pool(deployer, a, b, amount, fee=3_000):
    """A V3 pool over the full range that holds about `amount` of A and twice as much B."""
    core, periphery = "v3-core/artifacts/contracts", "v3-periphery/artifacts/contracts"
    factory = deploy(f"{core}/UniswapV3Factory.sol/UniswapV3Factory.json", deployer)
    manager = deploy(
        f"{periphery}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json",
        deployer,
        factory.address,
        deployer,  # stands for WETH, which is not used
        deployer,  # stands for the descriptor, which is not used
    )
    a_first = int(a.address, 16) < int(b.address, 16)
    token0, token1 = (a, b) if a_first else (b, a)
    sqrt_price = int(2**0.5 * Q96) if a_first else int(0.5**0.5 * Q96)
    manager.createAndInitializePoolIfNecessary(token0, token1, fee, sqrt_price, {"from": deployer})
    pool = at(f"{core}/UniswapV3Pool.sol/UniswapV3Pool.json", factory.getPool(token0, token1, fee))
    a.mint(deployer, amount, {"from": deployer})
    b.mint(deployer, 2 * amount, {"from": deployer})
    for token in (a, b):
        token.approve(manager, 2**256 - 1, {"from": deployer})
    amounts = (amount, 2 * amount) if a_first else (2 * amount, amount)
    manager.mint(
        (token0, token1, fee, -FULL_RANGE, FULL_RANGE, *amounts, 0, 0, deployer, FOREVER), {"from": deployer}
    )
    return pool
