"""Uniswap V2 and V3 on the local chain, from the bytecode in Uniswap's own npm packages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, log
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from offchain.chain.contracts import V2_PAIR, V3_POOL, ZERO, bind_abi
from offchain.demo.localchain import LocalChain, node_modules

__all__ = ["Uniswap", "Venue", "deploy_uniswap"]

V2_FEE_PER_MILLE = 3
PIPS = 1_000_000  # V3 fees are in millionths
Q96 = 2**96
MAX_TICK = 887_272
TICK_SPACING = {500: 10, 3_000: 60, 10_000: 200}  # by fee
FOREVER = 2**40  # a deadline after any date here


@dataclass(frozen=True)
class Venue:
    """A pool of two tokens, and where its prices stand."""

    version: int  # 2 or 3
    pool: Contract
    token0: str
    token1: str
    fee: int  # millionths

    def reading(self) -> ContractFunction:
        """The call that tells where its prices stand."""
        return self.pool.functions.getReserves() if self.version == 2 else self.pool.functions.slot0()

    def arbitrage(
        self, seen: Sequence[int], price0: int, price1: int
    ) -> tuple[int, str, str, int, bool, int]:
        """The `Arbitrageur.trade` leg that pulls the pool to the market price, up to its fee.

        `seen`: what `reading` answered.
        Both prices are USD per unit of token0 and of token1, times any common factor. Amount 0: nothing to gain.
        """
        sell0, amount, limit = (
            _move_v2(seen, price0, price1) if self.version == 2 else self._move_v3(seen, price0, price1)
        )
        return self.version, self.pool.address, self.token0 if sell0 else self.token1, amount, sell0, limit

    def _move_v3(self, seen: Sequence[int], price0: int, price1: int) -> tuple[bool, int, int]:
        sqrt_price = seen[0]
        low = isqrt(price0 * (PIPS - self.fee) * Q96 * Q96 // (price1 * PIPS))
        high = isqrt(price0 * PIPS * Q96 * Q96 // (price1 * (PIPS - self.fee)))
        if sqrt_price > high:  # token0 is dear in the pool: sell it there
            return True, 2**100, high
        if sqrt_price < low:
            return False, 2**100, low
        return True, 0, 0


@dataclass(frozen=True)
class Uniswap:
    """The factories, and what funds pools."""

    chain: LocalChain
    weth: Contract
    v2_factory: Contract
    v2_router: Contract
    v3_factory: Contract
    v3_positions: Contract
    v3_router: Contract

    def add_v2(self, provider: LocalAccount, a: str, b: str, amount_a: int, amount_b: int) -> Venue:
        """Make the pair and fund it at the ratio of the amounts; the provider has approved the router."""
        router = self.v2_router.functions
        self.chain.send(
            provider, router.addLiquidity(a, b, amount_a, amount_b, 0, 0, provider.address, FOREVER)
        )
        pair = bind_abi(self.chain.web3, V2_PAIR, self.v2_factory.functions.getPair(a, b).call())
        token0, token1 = _sorted(a, b)
        return Venue(2, pair, token0, token1, V2_FEE_PER_MILLE * 1000)

    def add_v3(
        self, provider: LocalAccount, a: str, b: str, amount_a: int, amount_b: int, fee: int, reach: float
    ) -> Venue:
        """Make the pool at the ratio of the amounts and fund it from price / reach to price * reach."""
        token0, token1 = _sorted(a, b)
        amount0, amount1 = (amount_a, amount_b) if token0 == a else (amount_b, amount_a)
        sqrt_price = isqrt(amount1 * Q96 * Q96 // amount0)
        spacing = TICK_SPACING[fee]
        lower, upper = (_tick(amount1 / amount0 * factor, spacing) for factor in (1 / reach, reach))
        positions = self.v3_positions.functions
        self.chain.send(
            provider, positions.createAndInitializePoolIfNecessary(token0, token1, fee, sqrt_price)
        )
        place = (token0, token1, fee, lower, upper, amount0, amount1, 0, 0, provider.address, FOREVER)
        self.chain.send(provider, positions.mint(place))
        pool = bind_abi(
            self.chain.web3, V3_POOL, self.v3_factory.functions.getPool(token0, token1, fee).call()
        )
        return Venue(3, pool, token0, token1, fee)


def deploy_uniswap(chain: LocalChain, deployer: LocalAccount) -> Uniswap:
    """WETH9 and both Uniswaps, with routers, as on a public chain."""

    def deploy(path: str, *arguments: Any) -> Contract:
        abi, bytecode = _artifact(path)
        return chain.deploy_code(deployer, abi, bytecode, *arguments)

    weth = deploy("v2-periphery/build/WETH9.json")
    v2_factory = deploy("v2-core/build/UniswapV2Factory.json", deployer.address)
    v2_router = deploy("v2-periphery/build/UniswapV2Router02.json", v2_factory.address, weth.address)
    v3_factory = deploy("v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json")
    periphery = "v3-periphery/artifacts/contracts"
    positions = deploy(
        f"{periphery}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json",
        v3_factory.address,
        weth.address,
        ZERO,
    )
    v3_router = deploy(f"{periphery}/SwapRouter.sol/SwapRouter.json", v3_factory.address, weth.address)
    return Uniswap(chain, weth, v2_factory, v2_router, v3_factory, positions, v3_router)


def _artifact(path: str) -> tuple[list[dict[str, Any]], str]:
    """ABI and bytecode of one of Uniswap's packages; V2 keeps the bytecode deeper and without 0x."""
    artifact = json.loads((node_modules() / "@uniswap" / path).read_text())
    bytecode = artifact["evm"]["bytecode"]["object"] if "evm" in artifact else artifact["bytecode"]
    return artifact["abi"], bytecode if bytecode.startswith("0x") else f"0x{bytecode}"


def _sorted(a: str, b: str) -> tuple[str, str]:
    """token0 and token1 of a pool."""
    first, second = sorted(
        (Web3.to_checksum_address(a), Web3.to_checksum_address(b)), key=lambda token: int(token, 16)
    )
    return first, second


def _tick(price: float, spacing: int) -> int:
    """The usable tick nearest to `price` (token1 units for a unit of token0)."""
    tick = round(log(price) / log(1.0001) / spacing) * spacing
    bound = MAX_TICK // spacing * spacing
    return max(-bound, min(bound, tick))


def _move_v2(seen: Sequence[int], price0: int, price1: int) -> tuple[bool, int, int]:
    reserve0, reserve1, _ = seen
    amount0 = _v2_amount(reserve0, reserve1, price0, price1)
    if amount0 > 0:
        return True, amount0, 0
    return False, _v2_amount(reserve1, reserve0, price1, price0), 0


def _v2_amount(reserve_in: int, reserve_out: int, price_in: int, price_out: int) -> int:
    """The input that profits most: after it the price, fee included, meets the market. 0 if none profits.

    reserve_in after = sqrt(k * (1 - fee) * price_out / price_in).
    """
    after = isqrt(reserve_in * reserve_out * (1000 - V2_FEE_PER_MILLE) * price_out // (1000 * price_in))
    return max(after - reserve_in, 0)
