"""Predicted equals paid: what a route says each leg pays is what Uniswap's own bytecode pays, to the wei.

    python tests/offchain/test_planner_route_on_chain.py --states 5000 [--seed 1]

A market: tokens of 6, 8 and 18 decimals, V2 pairs and V3 pools of 0.01 % to 1 % with random ranges, empty ones among
them. A state: the market with random swaps behind it, snapshots read from the pools, and one order through the real
executor. Orders are from one unit to more than all liquidity; with and without gas; one and two hops; split and single.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from offchain.errors import PoolError
from offchain.planner.payload import encode, from_route
from offchain.planner.pools import MAX_TICK, MIN_TICK, Pool, V2Pool, V3Pool, sqrt_ratio_at_tick
from offchain.planner.route import Order, Route, route
from tests.support.evm import DEPLOYER, Contract, Evm, Reverted, artifact, uniswap_artifact

CORE, PERIPHERY = "v3-core/artifacts/contracts", "v3-periphery/artifacts/contracts"
V3_ARTIFACT = uniswap_artifact(f"{CORE}/UniswapV3Pool.sol/UniswapV3Pool.json")
V2_ARTIFACT = uniswap_artifact("v2-core/build/UniswapV2Pair.json")
FOREVER = 2**40
SUPPLY = 10**36
SPACING = {100: 1, 500: 10, 3000: 60, 10_000: 200}
DECIMALS = (6, 18, 8, 18)
DOLLARS = (1.0, 2_500.0, 60_000.0, 0.3)
PART = 250  # states between two lines of the campaign's output
WORDS = 100  # of the bitmap that are known each side of the price where they are narrow
PAIRS = [(0, 1), (0, 1), (0, 2), (2, 1), (0, 3), (3, 1)]


class Market:
    """Pools of four tokens: orders sell the first for the second, or back, through the others or not."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.evm = rng, Evm()
        self.executor = self.evm.deploy(artifact("Executor"))
        self.tokens = [self.evm.deploy(artifact("TestToken"), f"T{d}", f"T{d}", d) for d in DECIMALS]
        v2 = self.evm.deploy(uniswap_artifact("v2-core/build/UniswapV2Factory.json"), DEPLOYER)
        v3 = self.evm.deploy(uniswap_artifact(f"{CORE}/UniswapV3Factory.sol/UniswapV3Factory.json"))
        v3.call("enableFeeAmount", 100, 1)
        manager = self.evm.deploy(
            uniswap_artifact(f"{PERIPHERY}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"),
            v3.address,
            DEPLOYER,
            DEPLOYER,
        )
        for token in self.tokens:
            token.call("mint", DEPLOYER, SUPPLY)
            token.call("approve", manager.address, 2**256 - 1)
        self.pools: dict[str, tuple[Contract, list[int]]] = {}  # with the ticks of a V3 pool
        for pair in PAIRS:
            if rng.random() < 0.8:
                self._add_v2(v2, pair)
            for fee in rng.sample(list(SPACING), rng.randint(0, 2)):
                self._add_v3(v3, manager, pair, fee)

    def units(self, token: int, dollars: float) -> int:
        return int(dollars / DOLLARS[token] * 10 ** DECIMALS[token])

    def _add_v2(self, factory: Contract, pair: tuple[int, int]) -> None:
        a, b = (self.tokens[i] for i in pair)
        if factory.call("getPair", a.address, b.address) != "0x" + "00" * 20:
            return
        address = factory.call("createPair", a.address, b.address)
        dollars = 10 ** self.rng.uniform(1, 8)
        for token, i in ((a, pair[0]), (b, pair[1])):
            token.call("transfer", address, self.units(i, dollars * self.rng.uniform(0.98, 1.02)))
        contract = self.evm.at(address, V2_ARTIFACT)
        contract.call("mint", DEPLOYER)
        self.pools[address] = (contract, [])

    def _add_v3(self, factory: Contract, manager: Contract, pair: tuple[int, int], fee: int) -> None:
        rng, spacing = self.rng, SPACING[fee]
        first, second = sorted(pair, key=lambda i: int(self.tokens[i].address, 16))
        sides = (self.tokens[first].address, self.tokens[second].address)
        if factory.call("getPool", *sides, fee) != "0x" + "00" * 20:
            return
        wanted = self.units(second, 1e6) / self.units(first, 1e6)
        low, high = -MAX_TICK, MAX_TICK
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (middle + 1, high) if (sqrt_ratio_at_tick(middle) / 2**96) ** 2 < wanted else (low, middle)
            )
        tick = low + rng.randint(-60, 60)
        address = factory.call("createPool", *sides, fee)
        contract = self.evm.at(address, V3_ARTIFACT)
        contract.call("initialize", sqrt_ratio_at_tick(tick) + rng.randint(0, 10**6))
        whole = MAX_TICK // spacing * spacing
        ranges = [(-whole, whole)] if rng.random() < 0.6 else []
        for _ in range(rng.randint(1, 5)):
            lower = (tick + rng.randint(-1500, 1200)) // spacing * spacing
            ranges.append((lower, lower + spacing * rng.randint(1, 1 + 1500 // spacing)))
        edges = set()
        for lower, upper in ranges:
            dollars = 10 ** rng.uniform(1, 7)
            amounts = (self.units(first, dollars), self.units(second, dollars))
            try:
                manager.call("mint", (*sides, fee, lower, upper, *amounts, 0, 0, DEPLOYER, FOREVER))
            except Reverted:  # too little for a unit of liquidity
                continue
            edges |= {lower, upper}
        self.pools[address] = (contract, sorted(edges))

    def snapshots(self) -> tuple[Pool, ...]:
        """Every pool as it is now."""
        found: list[Pool] = []
        for address, (contract, edges) in self.pools.items():
            sides = (contract.call("token0"), contract.call("token1"))
            if "getReserves" in {entry.get("name") for entry in contract.abi}:
                found.append(V2Pool(address, *sides, 30, *contract.call("getReserves")[:2]))
                continue
            ticks = tuple((edge, contract.call("ticks", edge)[1]) for edge in edges)
            price, tick = contract.call("slot0")[:2]
            shape = (
                contract.call("fee"),
                contract.call("tickSpacing"),
                price,
                tick,
                contract.call("liquidity"),
            )
            known = (MIN_TICK, MAX_TICK)
            if shape[1] == 1:  # to walk all words of the bitmap takes more gas than a block has
                known = ((tick // 256 - WORDS) * 256, (tick // 256 + WORDS) * 256 + 255)
            inside = tuple(entry for entry in ticks if entry[1] and known[0] <= entry[0] <= known[1])
            found.append(V3Pool(address, *sides, *shape, inside, *known))
        return tuple(found)

    def order(self) -> Order:
        """Of any size, one unit to a hundred times the market."""
        rng = self.rng
        sell, buy = (0, 1) if rng.random() < 0.5 else (1, 0)
        amount = (
            max(self.units(sell, 10 ** rng.uniform(-6, 9.5)), 1) if rng.random() < 0.9 else rng.randint(1, 9)
        )
        gas = (60 * 10**18, 2 * 10**28)[buy] if rng.random() < 0.3 else 0
        ends = (self.tokens[sell].address, self.tokens[buy].address)
        order = Order(*ends, amount, self.snapshots(), gas_price=gas, max_hops=rng.choice([1, 2, 2]))
        if rng.random() < 0.2:
            order = replace(order, pools=tuple(p for p in order.pools if rng.random() < 0.4))
        return order

    def run(self, order: Order, found: Route) -> list[int]:
        """What each leg pays on the chain, one leg a call; the executor ends empty."""
        where = {token.address: token for token in self.tokens}
        where[order.token_in].call("transfer", self.executor.address, found.amount_in)
        paid = []
        for leg, planned in zip(from_route(found, 0), found.legs, strict=True):
            token = where[planned.token_out]
            holder = DEPLOYER if leg.to_caller else self.executor.address
            before = token.call("balanceOf", holder)
            self.executor.call("execute", encode([leg]))
            paid.append(token.call("balanceOf", holder) - before)
        assert [token.call("balanceOf", self.executor.address) for token in self.tokens] == [0] * 4
        return paid

    def run_at_once(self, order: Order, found: Route, tolerance_bps: int = 0) -> int:
        """What the whole payload pays in one transaction."""
        where = {token.address: token for token in self.tokens}
        where[order.token_in].call("transfer", self.executor.address, found.amount_in)
        before = where[order.token_out].call("balanceOf", DEPLOYER)
        self.executor.call("execute", encode(from_route(found, tolerance_bps)))
        assert [token.call("balanceOf", self.executor.address) for token in self.tokens] == [0] * 4
        return int(where[order.token_out].call("balanceOf", DEPLOYER)) - before

    def disturb(self) -> None:
        """Somebody trades, so that prices stand anywhere in a tick, on its edge, or in an empty range."""
        pool = self.rng.choice(self.snapshots())
        token = self.rng.choice([pool.token0, pool.token1])
        most = pool.capacity(token)
        if not most:
            return
        dollars = self.units(next(i for i, t in enumerate(self.tokens) if t.address == token), 10_000)
        amount = most if self.rng.random() < 0.2 and isinstance(pool, V3Pool) else min(most, dollars)
        amount = max(1, int(amount * self.rng.random())) if amount != most else amount
        if amount > SUPPLY // 10**6:
            return
        try:
            found = route(Order(token, pool.token1 if token == pool.token0 else pool.token0, amount, (pool,)))
        except PoolError:
            return
        if found.legs:
            self.run_at_once(Order(token, found.legs[0].token_out, amount, (pool,)), found)


def campaign(seed: int | str, states: int, each: int = 25) -> Counter[str]:
    """`states` states, a new market every `each`; counts what they met. Fails at the first difference."""
    met: Counter[str] = Counter()
    market = None
    for number in range(states):
        rng = random.Random(f"{seed} {number}")
        if number % each == 0 or market is None:
            market = Market(rng)
        market.rng = rng
        for _ in range(rng.randint(0, 2)):
            market.disturb()
        order = market.order()
        found = route(order)
        assert found.certificate.gap >= 0
        if sum(leg.amount_in for leg in found.legs) > SUPPLY // 10:
            met["more than there is"] += 1
            continue
        at_once = rng.random() < 0.7
        try:
            paid = market.run_at_once(order, found) if at_once else market.run(order, found)
        except Reverted as error:
            raise AssertionError(f"seed {seed}, state {number}: reverted with {error.reason}") from error
        predicted = found.amount_out if at_once else [leg.amount_out for leg in found.legs]
        assert paid == predicted, f"seed {seed}, state {number}: paid {paid}, predicted {predicted}"
        note(met, order, found)
    return met


def note(met: Counter[str], order: Order, found: Route) -> None:
    met["states"] += 1
    met["legs"] += len(found.legs)
    met["nothing"] += not found.legs
    met["partial"] += bool(found.legs and found.reason)
    met["split"] += len(found.legs) > 1
    met["two hops"] += any(leg.token_out not in (order.token_in, order.token_out) for leg in found.legs)
    for leg in found.legs:
        if isinstance(leg.pool, V2Pool):
            met["V2"] += 1
            continue
        met[f"V3 {leg.pool.fee / 10_000:g} %"] += 1
        after = leg.pool.swap(leg.token_in, leg.amount_in)[1]
        met["ticks crossed"] += sum(
            min(after.tick, leg.pool.tick) < tick <= max(after.tick, leg.pool.tick)
            for tick, _ in leg.pool.ticks
        )
        met["from an empty range"] += leg.pool.liquidity == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_chain_pays_what_the_route_says(seed: int) -> None:
    met = campaign(seed, 40)
    assert met["split"] and met["two hops"] and met["ticks crossed"] and met["V2"]


def test_a_leg_reverts_when_the_pool_has_moved() -> None:
    """The minimum of each leg is what protects it: a prediction from before another's trade is refused."""
    market = Market(random.Random(4))
    sell, buy = market.tokens[0], market.tokens[1]
    order = Order(sell.address, buy.address, market.units(0, 1_000), market.snapshots())
    found = route(order)
    market.run_at_once(order, found)
    with pytest.raises(Reverted, match="leg paid too little"):
        market.run_at_once(order, found)


def test_the_whole_of_an_intermediate_token_is_sold() -> None:
    """What lies in the executor by then goes the same way, instead of staying behind."""
    market = Market(random.Random(0))
    pools = tuple(
        p for p in market.snapshots() if {p.token0, p.token1} != {t.address for t in market.tokens[:2]}
    )
    order = Order(market.tokens[0].address, market.tokens[1].address, market.units(0, 10), pools)
    found = route(order)
    assert len(found.legs) >= 2
    middle = next(token for token in market.tokens if token.address == found.legs[-1].token_in)
    middle.call("transfer", market.executor.address, found.legs[-1].amount_in)
    assert market.run_at_once(order, found, tolerance_bps=9_000) > found.amount_out


def main(arguments: Sequence[str] | None = None) -> None:
    """The campaign, with what it met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--states", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    met: Counter[str] = Counter()
    for part, begun in enumerate(range(0, chosen.states, PART)):
        met += campaign(f"{chosen.seed} {part}", min(PART, chosen.states - begun))
        print(
            f"{met['states']} states, every leg as predicted, {time.monotonic() - started:.0f} s: {dict(met)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
