"""A plan carried out: vault, executor and Uniswap pools in bytecode end with exactly the balances predicted."""

from __future__ import annotations

import os
import random
from dataclasses import astuple, dataclass, replace
from math import isqrt
from typing import Any

import pytest

from offchain import policy
from offchain.errors import PoolError
from offchain.planner import Plan, Pool, Problem, SwapV2, SwapV3, V2Pool, encode, plan
from offchain.planner.pools import zero_for_one
from offchain.policy import DAY, NO_ASSET, WAD, Asset, Mode, Rules, Session, VaultState
from tests.support.evm import DEPLOYER, Contract, Evm, Reverted, artifact, uniswap_artifact
from tests.support.market import SPACING, v3_pool, v3_state
from tests.support.venue import FOREVER, MAX, V2, V3_CORE, V3_PERIPHERY

KEEPER = "0x" + "ce" * 20
DECIMALS = (6, 18, 8)
PRICES = (WAD, 250 * WAD, 40_000 * WAD)
TARGETS = (2000, 5000, 3000)
POOL_DOLLARS = 2_000_000


@pytest.mark.parametrize(
    "dollars",
    [(30_000, 40_000, 30_000), (10_000, 60_000, 30_000), (20_000, 60_000, 20_000), (1, 50_000, 50_000)],
)
@pytest.mark.parametrize("aside", [NO_ASSET, 1, 2])
def test_the_chain_ends_where_the_plan_says(dollars: tuple[int, ...], aside: int) -> None:
    """`aside`: this asset is in quarantine, and has no price."""
    evm = Evm()
    tokens = [evm.deploy(artifact("TestToken"), f"T{d}", f"T{d}", d) for d in DECIMALS]
    oracle, executor = evm.deploy(artifact("ScriptedOracle")), evm.deploy(artifact("Executor"))
    rule_book = evm.deploy(artifact("RuleBook"))
    timelock = evm.deploy(artifact("Timelock"), rule_book.address, DEPLOYER)  # no tellers here
    implementation = evm.deploy(artifact("Vault"), rule_book.address, timelock.address)
    factory = evm.deploy(artifact("VaultFactory"), implementation.address, rule_book.address)
    oracle.call("set_prices", PRICES, (0, 0, 0))

    rows = zip(tokens, DECIMALS, TARGETS, strict=True)
    assets = tuple(Asset(t.address, d, share, 300, 2500, 0, 10_000, 10) for t, d, share in rows)
    rules = Rules(Mode.THRESHOLD, 0, 1, evm.now, DAY, 0, 100, 500, 100, 50, 1000, 100)
    amounts = tuple(usd * WAD * 10**d // p for usd, d, p in zip(dollars, DECIMALS, PRICES, strict=True))
    for token, amount in zip(tokens, amounts, strict=True):
        token.call("mint", DEPLOYER, amount + 10**30)
        token.call("approve", factory.address, amount)
    roles = (oracle.address, DEPLOYER, 2 * DAY, DEPLOYER, DEPLOYER, [KEEPER])
    config = ("Basket", "BSK", [astuple(a) for a in assets], astuple(rules), *roles, 0, DEPLOYER)
    vault = evm.at(factory.call("create_vault", config, amounts, bytes(32)), artifact("Vault"))

    pairs = evm.deploy(uniswap_artifact("v2-core/build/UniswapV2Factory.json"), DEPLOYER)
    pools: list[Pool] = []
    for i in (1, 2):
        address = pairs.call("createPair", tokens[0].address, tokens[i].address)
        for j in (0, i):
            tokens[j].call("transfer", address, POOL_DOLLARS * WAD * 10 ** DECIMALS[j] // PRICES[j])
        pair = evm.at(address, uniswap_artifact("v2-core/build/UniswapV2Pair.json"))
        pair.call("mint", DEPLOYER)
        sides = (pair.call("token0"), pair.call("token1"))
        pools.append(V2Pool(address, *sides, 30, *pair.call("getReserves")[:2]))

    session = Session(slot=policy.calendar_slot(rules, evm.now))
    state = VaultState(assets, rules, session, amounts, PRICES, (0, 0, 0), WAD, evm.now)
    state = replace(state, vault=vault.address, oracle=oracle.address)
    if aside != NO_ASSET:
        timelock.call("quarantine", vault.address, tokens[aside].address, sender=DEPLOYER)
        prices = tuple(0 if i == aside else p for i, p in enumerate(PRICES))
        oracle.call("set_prices", prices, [5 * (i == aside) for i in range(3)])
        _, state = policy.quarantine(replace(state, prices=prices), tokens[aside].address, evm.now)
    found = plan(Problem(state, tuple(pools), executor.address, tokens[0].address, evm.now))
    assert found.verdict is not None
    assert found.trades
    assert aside == NO_ASSET or found.balances_after[aside] == amounts[aside]
    vault.call(
        "rebalance",
        found.sells,
        executor.address,
        found.payload,
        bytes(32),
        found.session,
        evm.now,
        sender=KEEPER,
    )
    assert tuple(vault.call("balances")) == found.balances_after
    assert vault.call("loss_budget_used") == found.verdict.charge
    assert vault.call("session") == astuple(found.verdict.state.session)
    assert [t.call("balanceOf", executor.address) for t in tokens] == [0, 0, 0]


# ---------------------------------------------------------------- random joint plans

BASKET = ((6, WAD), (18, 250 * WAD), (8, 40_000 * WAD), (18, WAD // 50), (6, 3 * WAD))  # decimals, price
OUTSIDE = (18, 1_800 * WAD)  # not in the basket: trades pass through it
SHARES = (2500, 2500, 2000, 1500, 1500)  # bps
PAIRS = (
    (0, 1),
    (0, 2),
    (0, 3),
    (1, 2),
    (0, 5),
    (1, 5),
    (2, 5),
    (4, 5),
    (3, 5),
    (0, 4),
)  # V2, and V3 of a fee each
CASES = int(os.environ.get("CASES", "150"))  # 500 and more by hand: CASES=500


@dataclass
class Town:
    """A vault of five assets, an executor, and twenty Uniswap pools of these and one more token."""

    evm: Evm
    tokens: list[Contract]
    oracle: Contract
    executor: Contract
    vault: Contract
    pairs: list[tuple[Contract, int, int]]  # V2: contract, tokens
    concentrated: list[
        tuple[Contract, str, str, int, list[tuple[int, int, int]]]
    ]  # V3: …, token0, token1, fee
    state: VaultState

    def pools(self) -> tuple[Pool, ...]:
        """What a keeper would read."""
        found: list[Pool] = []
        for pair, *_ in self.pairs:
            held = pair.call("getReserves")[:2]
            found.append(V2Pool(pair.address, pair.call("token0"), pair.call("token1"), 30, *held))
        for pool, token0, token1, fee, positions in self.concentrated:
            price, tick = pool.call("slot0")[:2]
            found.append(v3_pool(pool.address, token0, token1, fee, price, tick, positions))
            assert found[-1].liquidity == pool.call("liquidity")
        return tuple(found)

    def disturb(self, rng: random.Random) -> VaultState:
        """Other people trade in the pools, prices move a little, and tokens come to the vault."""
        for pool in rng.sample(self.pools(), 6):
            sold = rng.choice((pool.token0, pool.token1))
            token = next(t for t in self.tokens if t.address.lower() == sold.lower())
            held = token.call("balanceOf", pool.address)
            amount = int(held * 10 ** rng.uniform(-5, -2.5)) + 1
            try:
                pool.amount_out(sold, amount)
            except PoolError:
                continue
            token.call("mint", self.executor.address, amount)
            side = zero_for_one(pool, sold)
            leg = (
                SwapV2(pool.address, sold, amount, 0, 30, side)
                if isinstance(pool, V2Pool)
                else SwapV3(pool.address, sold, amount, 0, side)
            )
            self.executor.call("execute", encode([leg]))
            self.executor.call("sweep", [t.address for t in self.tokens])
        prices = tuple(int(p * (1 + rng.gauss(0, 0.0005))) for _, p in BASKET)
        self.oracle.call("set_prices", prices, (0,) * 5)
        wealth = 10 ** rng.uniform(3, 6.5)
        for token, (decimals, price), share in zip(self.tokens, BASKET, SHARES, strict=False):
            token.call(
                "mint",
                self.vault.address,
                int(wealth * share * rng.uniform(0.5, 1.5) * 10**decimals * 1e14 / price),
            )
        balances = tuple(self.vault.call("balances"))
        return replace(self.state, prices=prices, balances=balances)


@pytest.fixture(scope="module")
def town() -> Town:
    evm = Evm()
    listed = (*BASKET, OUTSIDE)
    tokens = [evm.deploy(artifact("TestToken"), f"T{k}", f"T{k}", d) for k, (d, _) in enumerate(listed)]
    oracle, executor = evm.deploy(artifact("ScriptedOracle")), evm.deploy(artifact("Executor"))
    rule_book = evm.deploy(artifact("RuleBook"))
    timelock = evm.deploy(artifact("Timelock"), rule_book.address, DEPLOYER)
    implementation = evm.deploy(artifact("Vault"), rule_book.address, timelock.address)
    factory = evm.deploy(artifact("VaultFactory"), implementation.address, rule_book.address)
    prices = tuple(p for _, p in BASKET)
    oracle.call("set_prices", prices, (0,) * 5)
    rows = zip(tokens, BASKET, SHARES, strict=False)
    assets = tuple(Asset(t.address, d, share, 300, 2500, 0, 10_000, 10) for t, (d, _), share in rows)
    rules = Rules(Mode.THRESHOLD, 0, 1, evm.now, DAY, 0, 150, 800, 100, 20, 1000, 100)
    seeds = tuple(share * 10**d * WAD // (10 * p) for (d, p), share in zip(BASKET, SHARES, strict=True))
    for token in tokens:
        token.call("mint", DEPLOYER, 10**40)
        token.call("approve", factory.address, MAX)
    roles = (oracle.address, DEPLOYER, 2 * DAY, DEPLOYER, DEPLOYER, [KEEPER])
    config = ("Basket", "BSK", [astuple(a) for a in assets], astuple(rules), *roles, 0, DEPLOYER)
    vault = evm.at(factory.call("create_vault", config, seeds, bytes(32)), artifact("Vault"))
    session = Session(slot=policy.calendar_slot(rules, evm.now))
    state = VaultState(assets, rules, session, seeds, prices, (0,) * 5, WAD, evm.now)
    state = replace(state, vault=vault.address, oracle=oracle.address)
    rng = random.Random(5)
    pairs = _make_pairs(evm, tokens, listed, rng)
    return Town(evm, tokens, oracle, executor, vault, pairs, _make_v3(evm, tokens, listed, rng), state)


def _make_pairs(
    evm: Evm, tokens: list[Contract], listed: Any, rng: random.Random
) -> list[tuple[Contract, int, int]]:
    factory = evm.deploy(uniswap_artifact(f"{V2}/UniswapV2Factory.json"), DEPLOYER)
    made = []
    for a, b in PAIRS:
        where = factory.call("createPair", tokens[a].address, tokens[b].address)
        pair = evm.at(where, uniswap_artifact(f"{V2}/UniswapV2Pair.json"))
        dollars = int(10 ** rng.uniform(5, 7.5))
        for k in (a, b):
            tokens[k].call("mint", where, dollars * WAD * 10 ** listed[k][0] // listed[k][1])
        pair.call("mint", DEPLOYER)
        made.append((pair, a, b))
    return made


def _make_v3(
    evm: Evm, tokens: list[Contract], listed: Any, rng: random.Random
) -> list[tuple[Contract, str, str, int, list[tuple[int, int, int]]]]:
    factory = evm.deploy(uniswap_artifact(f"{V3_CORE}/UniswapV3Factory.sol/UniswapV3Factory.json"))
    factory.call("enableFeeAmount", 100, SPACING[100])
    manager = evm.deploy(
        uniswap_artifact(f"{V3_PERIPHERY}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"),
        factory.address,
        DEPLOYER,
        DEPLOYER,
    )
    for token in tokens:
        token.call("approve", manager.address, MAX)
    made = []
    for pair, fee in zip(PAIRS, (100, 500, 3_000, 10_000, 500, 3_000, 100, 500, 3_000, 500), strict=True):
        a, b = sorted(pair, key=lambda k: int(tokens[k].address, 16))
        sides = tokens[a].address, tokens[b].address
        held = [10**6 * WAD * 10 ** listed[k][0] // listed[k][1] for k in (a, b)]
        price = isqrt(held[1] * 2**192 // held[0])
        manager.call("createAndInitializePoolIfNecessary", *sides, fee, price)
        where = factory.call("getPool", *sides, fee)
        pool = evm.at(where, uniswap_artifact(f"{V3_CORE}/UniswapV3Pool.sol/UniswapV3Pool.json"))
        liquidity = int((held[0] * held[1]) ** 0.5 * 10 ** rng.uniform(-0.5, 1.5))
        tick, wanted = v3_state(rng, fee, price, liquidity, 5, gaps=True)
        positions = []
        for lower, upper, amount in wanted:
            most = [int(amount * x * 1.5) + 10**9 for x in (1.0001 ** (-lower / 2), 1.0001 ** (upper / 2))]
            got = manager.call("mint", (*sides, fee, lower, upper, *most, 0, 0, DEPLOYER, FOREVER))
            positions.append((lower, upper, got[1]))
        assert pool.call("slot0")[1] == tick
        made.append((pool, *sides, fee, positions))
    return made


def carry_out(town: Town, found: Plan) -> None:
    town.vault.call(
        "rebalance", found.sells, town.executor.address, found.payload, bytes(32), found.session, town.evm.now,
        sender=KEEPER,
    )  # fmt: skip


def test_random_joint_plans_pay_what_they_say(town: Town) -> None:
    """Every plan of many random states is accepted, and its balances are predicted to the wei."""
    before = town.evm.snapshot()
    traded = legs = indirect = joint = 0
    for seed in range(CASES):
        rng = random.Random(seed)
        state = town.disturb(rng)
        options = {
            "gas_price": rng.choice((0, 0, 10**11, 10**13)),
            "risk_aversion": rng.choice((WAD // 10, WAD, 5 * WAD)),
        }
        problem = Problem(
            state, town.pools(), town.executor.address, town.tokens[0].address, town.evm.now, **options
        )
        found = plan(problem)
        if found.trades:
            carry_out(town, found)
            assert tuple(town.vault.call("balances")) == found.balances_after, seed
            assert found.verdict is not None
            assert town.vault.call("loss_budget_used") == found.verdict.charge, seed
            assert town.vault.call("session") == astuple(found.verdict.state.session), seed
            assert [t.call("balanceOf", town.executor.address) for t in town.tokens] == [0] * 6, seed
            traded += 1
            legs += len(found.legs)
            joint += found.method == "joint"
            indirect += any(leg.token_out.lower() == town.tokens[5].address.lower() for leg in found.legs)
        else:
            assert found.reason, seed
        town.evm.revert(before)
        before = town.evm.snapshot()
    assert traded > CASES * 3 // 4
    assert joint > traded * 9 // 10
    assert indirect > traded // 4
    assert legs > 4 * traded


def test_a_plan_for_another_state_of_a_pool_is_refused(town: Town) -> None:
    """The legs' minima protect: somebody sells into every pool just ahead."""
    before = town.evm.snapshot()
    state = town.disturb(random.Random(1))
    found = plan(Problem(state, town.pools(), town.executor.address, town.tokens[0].address, town.evm.now))
    assert found.trades
    for planned in found.legs:
        sold = next(t for t in town.tokens if t.address.lower() == planned.leg.token_in.lower())
        pool = next(p for p in town.pools() if p.address == planned.leg.pool)
        amount = sold.call("balanceOf", pool.address) // 20
        sold.call("mint", town.executor.address, amount)
        town.executor.call("execute", encode([replace(planned.leg, amount_in=amount, min_out=0)]))
    with pytest.raises(Reverted, match="leg paid too little"):
        carry_out(town, found)
    town.evm.revert(before)
