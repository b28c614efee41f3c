"""The pools' integer maths against Uniswap's own bytecode, swapped through the executor: equal to the wei."""

from __future__ import annotations

import random

import pytest

from offchain.errors import PoolError
from offchain.planner import SwapV2, SwapV3, V2Pool, V3Pool, encode
from offchain.planner.pools import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    Q96,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)
from tests.support.evm import DEPLOYER, Contract, Evm, artifact, uniswap_artifact

V3_CORE = "v3-core/artifacts/contracts"
V3_PERIPHERY = "v3-periphery/artifacts/contracts"
FOREVER = 2**40
SUPPLY = 10**33
SPACING = {500: 10, 3000: 60, 10_000: 200}


class Market:
    """Two tokens of 6 and 18 decimals, an executor, and the means to make pools."""

    def __init__(self) -> None:
        self.evm = Evm()
        self.executor = self.evm.deploy(artifact("Executor"))
        tokens = [self.evm.deploy(artifact("TestToken"), f"T{d}", f"T{d}", d) for d in (6, 18)]
        self.token0, self.token1 = sorted(tokens, key=lambda t: int(t.address, 16))
        for token in tokens:
            token.call("mint", DEPLOYER, SUPPLY)

    def v3(self, fee: int, tick: int, ranges: list[tuple[int, int, int]]) -> tuple[Contract, V3Pool]:
        """A pool at `tick` with positions (lower, upper, amount of either token), and its snapshot."""
        factory = self.evm.deploy(uniswap_artifact(f"{V3_CORE}/UniswapV3Factory.sol/UniswapV3Factory.json"))
        manager = self.evm.deploy(
            uniswap_artifact(
                f"{V3_PERIPHERY}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"
            ),
            factory.address,
            DEPLOYER,
            DEPLOYER,
        )
        for token in (self.token0, self.token1):
            token.call("approve", manager.address, 2**256 - 1)
        pair = (self.token0.address, self.token1.address)
        address = factory.call("createPool", *pair, fee)
        pool = self.evm.at(address, uniswap_artifact(f"{V3_CORE}/UniswapV3Pool.sol/UniswapV3Pool.json"))
        pool.call("initialize", sqrt_ratio_at_tick(tick) + 12345)
        for lower, upper, amount in ranges:
            manager.call("mint", (*pair, fee, lower, upper, amount, amount, 0, 0, DEPLOYER, FOREVER))
        edges = sorted({edge for lower, upper, _ in ranges for edge in (lower, upper)})
        ticks = tuple((edge, pool.call("ticks", edge)[1]) for edge in edges)
        price, at_tick = pool.call("slot0")[:2]
        snapshot = V3Pool(
            address,
            *pair,
            fee,
            SPACING[fee],
            price,
            at_tick,
            pool.call("liquidity"),
            tuple(t for t in ticks if t[1]),
        )
        return pool, snapshot

    def v2(self, amount0: int, amount1: int) -> tuple[Contract, V2Pool]:
        """A pair with these reserves, and its snapshot."""
        factory = self.evm.deploy(uniswap_artifact("v2-core/build/UniswapV2Factory.json"), DEPLOYER)
        address = factory.call("createPair", self.token0.address, self.token1.address)
        pair = self.evm.at(address, uniswap_artifact("v2-core/build/UniswapV2Pair.json"))
        self.token0.call("transfer", address, amount0)
        self.token1.call("transfer", address, amount1)
        pair.call("mint", DEPLOYER)
        return pair, V2Pool(address, self.token0.address, self.token1.address, 30, amount0, amount1)

    def swap(self, pool: V2Pool | V3Pool, token_in: Contract, amount: int, min_out: int) -> int:
        """What the executor brings back for `amount`."""
        token_out = self.token1 if token_in is self.token0 else self.token0
        token_in.call("transfer", self.executor.address, amount)
        had: int = token_out.call("balanceOf", DEPLOYER)
        down = token_in is self.token0
        leg: SwapV2 | SwapV3
        if isinstance(pool, V2Pool):
            leg = SwapV2(pool.address, token_in.address, amount, min_out, pool.fee_bps, down, to_caller=True)
        else:
            leg = SwapV3(pool.address, token_in.address, amount, min_out, down, to_caller=True)
        self.executor.call("execute", encode([leg]))
        return int(token_out.call("balanceOf", DEPLOYER)) - had


def random_ranges(rng: random.Random, tick: int, spacing: int) -> list[tuple[int, int, int]]:
    """Overlapping positions around the price; the first one spans every tick there is."""
    whole = MAX_TICK // spacing * spacing
    ranges = [(-whole, whole, 10**20)]
    for _ in range(rng.randint(1, 6)):
        lower = tick // spacing * spacing + spacing * rng.randint(-300, 100)
        ranges.append((lower, lower + spacing * rng.randint(1, 400), 10 ** rng.randint(18, 24)))
    return ranges


@pytest.mark.parametrize("fee", [500, 3000, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_v3_swaps_equal_the_pool_to_the_wei(fee: int, seed: int) -> None:
    rng = random.Random(f"{fee} {seed}")
    tick = rng.choice([0, -276_325, 23_027, 100_000, -60])
    market = Market()
    contract, pool = market.v3(fee, tick, random_ranges(rng, tick, SPACING[fee]))
    for _ in range(30):
        token_in = rng.choice([market.token0, market.token1])
        amount = rng.randint(1, 10 ** rng.randint(1, 24))
        expected, after = pool.swap(token_in.address, amount)
        assert market.swap(pool, token_in, amount, expected) == expected
        assert contract.call("slot0")[:2] == (after.sqrt_price_x96, after.tick)
        assert contract.call("liquidity") == after.liquidity
        pool = after


@pytest.mark.parametrize("seed", range(2))
def test_v2_swaps_equal_the_pair_to_the_wei(seed: int) -> None:
    rng = random.Random(seed)
    market = Market()
    contract, pool = market.v2(rng.randint(10**9, 10**16), rng.randint(10**18, 10**26))
    for _ in range(40):
        token_in = rng.choice([market.token0, market.token1])
        expected, after = pool.swap(token_in.address, amount := rng.randint(10**4, 10 ** rng.randint(5, 20)))
        if expected == 0:
            continue
        assert market.swap(pool, token_in, amount, expected) == expected
        assert contract.call("getReserves")[:2] == (after.reserve0, after.reserve1)
        pool = after


def test_tick_maths_agrees_with_uniswap_at_the_bounds() -> None:
    assert sqrt_ratio_at_tick(MIN_TICK) == MIN_SQRT_RATIO
    assert sqrt_ratio_at_tick(MAX_TICK) == MAX_SQRT_RATIO
    assert sqrt_ratio_at_tick(0) == Q96
    for tick in (MIN_TICK, -60, -1, 0, 1, 23_027, MAX_TICK - 1):
        price = sqrt_ratio_at_tick(tick)
        assert tick_at_sqrt_ratio(price) == tick
        assert tick_at_sqrt_ratio(price + 1) == tick
        assert tick_at_sqrt_ratio(sqrt_ratio_at_tick(tick + 1) - 1) == tick


def v3_pool(**changes: int) -> V3Pool:
    fields = {"known_from": MIN_TICK, "known_to": MAX_TICK, **changes}
    ticks = ((-600, 10**18), (600, -(10**18)))
    return V3Pool("0x" + "01" * 20, "0xaa", "0xbb", 3000, 60, Q96, 0, 10**18, ticks, **fields)


def test_a_swap_beyond_the_liquidity_is_refused() -> None:
    assert v3_pool().amount_out("0xaa", 10**15) > 0
    with pytest.raises(PoolError, match="too little liquidity"):
        v3_pool().amount_out("0xaa", 10**24)


def test_a_swap_beyond_the_known_ticks_is_refused() -> None:
    narrow = v3_pool(known_from=-15_360, known_to=15_300)
    assert narrow.amount_out("0xaa", 10**15) == v3_pool().amount_out("0xaa", 10**15)
    with pytest.raises(PoolError, match="leaves the ticks"):
        narrow.amount_out("0xaa", 10**24)


def test_a_foreign_token_and_an_empty_pair_are_refused() -> None:
    empty = V2Pool("0x" + "02" * 20, "0xaa", "0xbb", 30, 0, 0)
    with pytest.raises(PoolError, match="does not trade 0xcc"):
        empty.amount_out("0xcc", 1)
    with pytest.raises(PoolError, match="no liquidity"):
        empty.amount_out("0xaa", 1)
