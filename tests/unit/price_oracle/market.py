"""A real Uniswap V3 pool on the in-process chain, and someone who trades in it."""

from dataclasses import dataclass, field
from math import isqrt, log

from tests.support.evm import DEPLOYER, Contract, Evm, artifact, uniswap_artifact
from tests.support.venue import FOREVER, MAX, Q96, V3_CORE, V3_PERIPHERY

SPACING = 60
FEE = 3_000  # millionths
REACH = 6_000  # ticks of liquidity on each side of the first price


@dataclass
class Market:
    """A pool, and each tick that it had since `start`: (time, tick from then on)."""

    evm: Evm
    pool: Contract
    trader: Contract
    history: list[tuple[int, int]] = field(default_factory=list)

    @property
    def tick(self) -> int:
        return int(self.pool.call("slot0")[1])

    def note(self) -> None:
        self.history.append((self.evm.now, self.tick))

    def move(self, tick: int) -> None:
        """Trade until the price is that of `tick`, as far as the liquidity goes."""
        down = tick < self.tick
        token_in = self.pool.call("token0" if down else "token1")
        limit = int(1.0001 ** (tick / 2) * Q96) + 1
        self.trader.call("trade", [(3, self.pool.address, token_in, 2**120, down, limit)])
        assert abs(self.tick - tick) <= 1
        self.note()


def open_market(evm: Evm, a: Contract, b: Contract, amount_a: int, amount_b: int, memory: int) -> Market:
    """A pool at the ratio of the amounts, funded with about them, that remembers `memory` observations."""
    factory = evm.deploy(uniswap_artifact(f"{V3_CORE}/UniswapV3Factory.sol/UniswapV3Factory.json"))
    manager = evm.deploy(
        uniswap_artifact(f"{V3_PERIPHERY}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"),
        factory.address,
        DEPLOYER,  # stands for WETH, which is not used
        DEPLOYER,  # stands for the descriptor, which is not used
    )
    trader = evm.deploy(artifact("Arbitrageur"))
    for token, units in ((a, amount_a), (b, amount_b)):
        token.call("mint", DEPLOYER, units)
        token.call("mint", trader.address, 2**128)
        token.call("approve", manager.address, MAX)
    (token0, amount0), (token1, amount1) = sorted(
        ((a.address, amount_a), (b.address, amount_b)), key=lambda side: int(side[0], 16)
    )
    manager.call(
        "createAndInitializePoolIfNecessary", token0, token1, FEE, isqrt(amount1 * Q96 * Q96 // amount0)
    )
    pool = evm.at(
        factory.call("getPool", token0, token1, FEE),
        uniswap_artifact(f"{V3_CORE}/UniswapV3Pool.sol/UniswapV3Pool.json"),
    )
    middle = round(log(amount1 / amount0, 1.0001) / SPACING) * SPACING
    place = (token0, token1, FEE, middle - REACH, middle + REACH, amount0, amount1, 0, 0, DEPLOYER, FOREVER)
    manager.call("mint", place)
    pool.call("increaseObservationCardinalityNext", memory)
    market = Market(evm, pool, trader)
    market.note()
    return market
