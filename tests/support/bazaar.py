"""Random markets on a real chain: the vault's, executor's and Uniswap's bytecode, with whatever makes a plan difficult.

`Bazaar().market(seed)` makes a vault of 2 to 8 assets and up to 40 pools, with tokens outside the basket, and gives
the planner's `Problem` as a keeper would read it. Everything is drawn from the seed. Nothing here asks the planner.
"""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass, field, replace
from math import isqrt
from typing import Any

from offchain import policy
from offchain.planner import Call, Plan, Pool, Problem, SwapV2, Sweep, V2Pool, V3Pool, encode
from offchain.policy import DAY, NO_ASSET, WAD, Asset, Mode, Rules, Session, VaultState
from tests.support.evm import DEPLOYER, Contract, Evm, Reverted, artifact, uniswap_artifact
from tests.support.market import SPACING, v3_pool, v3_state
from tests.support.venue import FOREVER, MAX, V2, V3_CORE, V3_PERIPHERY, call_data

KEEPER = "0x" + "ce" * 20
NOBODY = "0x" + "77" * 20
DECIMALS = (6, 8, 18)
EACH = 4  # tokens of each number of decimals on the chain
WINDOW = 4_000  # ticks that a keeper reads each side of the price, at least


@dataclass
class Market:
    """One random vault and its pools; `problem` is what the planner gets."""

    bazaar: Bazaar
    seed: int
    tokens: list[int]  # indices into the bazaar's; the basket's first
    prices: list[int]  # USD WAD of each of them, the outside ones' too
    vault: Contract
    problem: Problem
    notes: list[str] = field(default_factory=list)

    def carry_out(self, found: Plan) -> None:
        """The keeper's call."""
        self.vault.call(
            "rebalance", found.sells, self.bazaar.executor.address, found.payload, bytes(32), found.session,
            self.bazaar.evm.now, sender=KEEPER,
        )  # fmt: skip

    def paid(self) -> list[tuple[str, int, int]]:
        """(pool, amount in, amount out) of each swap of the last transaction."""
        swaps = []
        for event in self.bazaar.evm.events("Swap"):
            f = event.fields
            if "amount0In" in f:
                swaps.append(
                    (
                        event.address.lower(),
                        f["amount0In"] + f["amount1In"],
                        f["amount0Out"] + f["amount1Out"],
                    )
                )
            else:
                swaps.append(
                    (event.address.lower(), max(f["amount0"], f["amount1"]), -min(f["amount0"], f["amount1"]))
                )
        return swaps

    def outside(self) -> dict[str, tuple[float, int]]:
        """USD per whole token and decimals of every token here, by address."""
        rows = zip(self.tokens, self.prices, strict=True)
        return {self.bazaar.tokens[t].address: (p / WAD, self.bazaar.decimals[t]) for t, p in rows}

    def left_over(self) -> int:
        """Token units that the executor still holds, of all tokens."""
        return sum(t.call("balanceOf", self.bazaar.executor.address) for t in self.bazaar.tokens)


class Bazaar:
    """The chain with everything that does not differ between markets."""

    def __init__(self) -> None:
        self.evm = evm = Evm()
        order = random.Random(1)
        kinds = [d for d in DECIMALS for _ in range(EACH)]
        order.shuffle(kinds)
        self.decimals = kinds
        self.tokens = [evm.deploy(artifact("TestToken"), f"T{k}", f"T{k}", d) for k, d in enumerate(kinds)]
        self.oracle = evm.deploy(artifact("ScriptedOracle"))
        self.executor = evm.deploy(artifact("Executor"))
        rule_book = evm.deploy(artifact("RuleBook"))
        self.timelock = evm.deploy(artifact("Timelock"), rule_book.address, DEPLOYER)
        implementation = evm.deploy(artifact("Vault"), rule_book.address, self.timelock.address)
        self.factory = evm.deploy(artifact("VaultFactory"), implementation.address, rule_book.address)
        self.v2 = [evm.deploy(uniswap_artifact(f"{V2}/UniswapV2Factory.json"), DEPLOYER) for _ in range(2)]
        self.v3 = evm.deploy(uniswap_artifact(f"{V3_CORE}/UniswapV3Factory.sol/UniswapV3Factory.json"))
        self.v3.call("enableFeeAmount", 100, SPACING[100])
        self.manager = evm.deploy(
            uniswap_artifact(
                f"{V3_PERIPHERY}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"
            ),
            self.v3.address,
            DEPLOYER,
            DEPLOYER,
        )
        for token in self.tokens:
            token.call("mint", DEPLOYER, 2**200)
            for spender in (self.factory, self.manager):
                token.call("approve", spender.address, MAX)
        self._clean = evm.snapshot()

    def market(self, seed: int, **wanted: Any) -> Market:
        """The market of this seed; `wanted` fixes what is else drawn: see `_draw`."""
        self.evm.revert(self._clean)
        self._clean = self.evm.snapshot()
        return _Maker(self, seed, wanted).make()


class _Maker:
    """Draws one market and puts it on the chain."""

    def __init__(self, bazaar: Bazaar, seed: int, wanted: dict[str, Any]) -> None:
        self.bazaar, self.seed, self.rng = bazaar, seed, random.Random(seed)
        self.drawn = self._draw() | wanted
        self.notes: list[str] = []

    def _draw(self) -> dict[str, Any]:
        rng = self.rng
        assets = rng.randint(2, 8)
        return {
            "assets": assets,
            "outside": rng.choice((0, 0, 1, 2, 3)),
            "pools": rng.choice((rng.randint(1, 8), rng.randint(assets, 5 * assets), 40)),
            "wealth": 10 ** rng.uniform(0.7, 9),  # USD
            "depth": 10 ** rng.uniform(-2, 2),  # of a pool, in units of the vault's wealth
            "noise": rng.choice((0.0, 2e-4, 1e-3, 5e-3, 2e-2)),  # pools off the oracle's price
            "drift": rng.choice((0.1, 0.3, 0.6, 0.95)),
            "mode": rng.choice((Mode.THRESHOLD, Mode.THRESHOLD, Mode.CALENDAR, Mode.EITHER, Mode.BOTH)),
            "gas_price": rng.choice((0, 0, int(WAD * 10 ** rng.uniform(-8, -3.5)))),
            "quarantine": rng.random() < 0.1,
            "spend": rng.random() < 0.25,  # use up part of the loss budget first
            "covariance": rng.random() < 0.3,
            "tax": rng.random() < 0.2,
            "cap": rng.choice((2 * WAD, 2 * WAD, int(WAD * 10 ** rng.uniform(-3, 0)))),
            "least": rng.choice((WAD, WAD, 0, int(WAD * 10 ** rng.uniform(-2, 4)))),
            "aversion": int(WAD * 10 ** rng.uniform(-2, 1.5)),
            "limit": rng.choice((10_000, 10_000, 10_000, rng.randint(20, 500))),
            "margin": rng.choice((5, 5, 0, 20)),
            "odd": rng.random() < 0.4,  # pools that cannot be used, or hardly
            "keeper_ticks": rng.random() < 0.5,  # ticks are known as far as a keeper reads
            "hub": rng.choice(("asset", "asset", "outside", "none", "no price")),
        }

    def make(self) -> Market:
        rng, chain, drawn = self.rng, self.bazaar, self.drawn
        n = drawn["assets"]
        tokens = rng.sample(range(len(chain.tokens)), n + drawn["outside"])
        self.prices = [self._price() for _ in tokens]
        self.scales = [10 ** chain.decimals[t] for t in tokens]
        self.contracts = [chain.tokens[t] for t in tokens]
        vault, rules, assets = self._vault(n)
        pools = self._pools(n)
        pools = [p for p in pools if p is not None]
        state = self._state(vault, rules, assets)
        if drawn["spend"]:
            state = self._spend(vault, state)
        if drawn["quarantine"] and n > 2:
            state = self._quarantine(vault, state)
        problem = self._problem(state, tuple(pools), n)
        return Market(chain, self.seed, tokens, self.prices, vault, problem, self.notes)

    # The vault

    def _price(self) -> int:
        return int(WAD * 10 ** self.rng.uniform(-4, 5)) if self.rng.random() < 0.8 else WAD

    def _vault(self, n: int) -> tuple[Contract, Rules, tuple[Asset, ...]]:
        rng, chain, drawn, evm = self.rng, self.bazaar, self.drawn, self.bazaar.evm
        cut = sorted(rng.sample(range(20, 9980, 20), n - 1))
        targets = [b - a for a, b in zip([0, *cut], [*cut, 10_000], strict=True)]
        assets = tuple(
            Asset(
                self.contracts[i].address, chain.decimals[chain.tokens.index(self.contracts[i])], targets[i],
                rng.choice((50, 100, 300)), rng.choice((500, 1_000, 2_500)), 0, 10_000, rng.choice((1, 10, 25, 50)),
            )
            for i in range(n)
        )  # fmt: skip
        error = sum(sorted(a.price_error_bps for a in assets)[-2:])
        slippage = error + 10 + rng.choice((0, 20, 90, 300))
        widest = max(policy.band(a) for a in assets)
        needed = -(-2 * widest * (slippage + error) // WAD)
        capacity = needed + rng.choice((0, 5, 50, 1_000))
        rules = Rules(
            drawn["mode"], 0, rng.choice((1, 7, 30)), evm.now - DAY, 2 * DAY, 0, slippage, capacity,
            rng.choice((0, 100, 400)), max(rng.choice((0, 20, 50)), int(drawn["mode"] != Mode.THRESHOLD)), 1_000, 100,
        )  # fmt: skip
        amounts = []
        for i in range(n):
            usd = drawn["wealth"] * targets[i] / 10_000 * rng.uniform(1 - drawn["drift"], 1 + drawn["drift"])
            amounts.append(max(int(usd * WAD * self.scales[i] / self.prices[i]), 1))
        while sum(q * p // s for q, p, s in zip(amounts, self.prices, self.scales, strict=False)) < 2 * WAD:
            amounts = [2 * q for q in amounts]
        chain.oracle.call("set_prices", self.prices[:n], (0,) * n)
        config = (
            "Basket", "BSK", [astuple(a) for a in assets], astuple(rules), chain.oracle.address, DEPLOYER,
            2 * DAY, DEPLOYER, DEPLOYER, [KEEPER, DEPLOYER], 0, DEPLOYER,
        )  # fmt: skip
        address = chain.factory.call("create_vault", config, amounts, bytes(32))
        vault = evm.at(address, artifact("Vault"))
        if drawn["mode"] != Mode.THRESHOLD and rng.random() < 0.9:
            evm.set_time(evm.now + rules.calendar_every * DAY)
        elif rng.random() < 0.3:
            evm.set_time(evm.now + 60)
        return vault, rules, assets

    def _state(self, vault: Contract, rules: Rules, assets: tuple[Asset, ...]) -> VaultState:
        """As the chain says."""
        now = self.bazaar.evm.now
        balances = tuple(vault.call("balances"))
        return VaultState(
            assets, rules, Session(*vault.call("session")), balances, tuple(self.prices[: len(assets)]),
            (0,) * len(assets), vault.call("totalSupply"), now, loss_used=vault.call("loss_budget_used"),
            loss_time=now, vault=vault.address, oracle=self.bazaar.oracle.address,
        )  # fmt: skip

    def _spend(self, vault: Contract, state: VaultState) -> VaultState:
        """An earlier rebalance in the same session that lost all that it may."""
        now, rng = self.bazaar.evm.now, self.rng
        session, refusal = policy.next_session(state, now)
        most, gaps = policy.clip_sells(state, state.balances), []
        held, total = policy.values(state), policy.nav(state)
        for t, v in zip(policy.targets(state), held, strict=True):
            gaps.append(max(t * total // WAD - v, 0))
        if refusal or not any(most) or not any(gaps):
            return state
        i, j = (max(range(len(held)), key=lambda k: side[k]) for side in (
            [q * p // a.scale for q, p, a in zip(most, state.prices, state.assets, strict=True)], gaps,
        ))  # fmt: skip
        part, loss = rng.uniform(0.05, 0.9), rng.uniform(0.2, 0.999)
        for _ in range(30):  # less, until the vault accepts it
            sold = int(most[i] * part)
            worth = sold * state.prices[i] // state.assets[i].scale
            worth -= int(worth * loss) * state.rules.max_slippage_bps // 10_000
            bought = -(-worth * state.assets[j].scale // state.prices[j])
            sells = [sold if k == i else 0 for k in range(len(held))]
            after = [
                q - s + (bought if k == j else 0)
                for k, (q, s) in enumerate(zip(state.balances, sells, strict=True))
            ]
            if policy.check_rebalance(state, sells, after, session, now, now).ok:
                break
            part *= 0.7
        else:
            return state
        executor, a, b = self.bazaar.executor, self.contracts[i], self.contracts[j]
        b.call("mint", executor.address, bought)
        payload = encode([Call(a.address, call_data(a, "transfer", NOBODY, sold)), Sweep(b.address)])
        vault.call("rebalance", sells, executor.address, payload, bytes(32), session, now, sender=KEEPER)
        self.notes.append("spent")
        return self._state(vault, state.rules, state.assets)

    def _quarantine(self, vault: Contract, state: VaultState) -> VaultState:
        i = self.rng.randrange(len(state.assets))
        self.bazaar.timelock.call("quarantine", vault.address, state.assets[i].token)
        prices, statuses = list(state.prices), [0] * len(state.assets)
        if self.rng.random() < 0.6:
            prices[i], statuses[i] = 0, 5
            self.bazaar.oracle.call("set_prices", prices, statuses)
        self.notes.append("quarantine")
        state = replace(state, prices=tuple(prices), statuses=tuple(statuses))
        refused, after = policy.quarantine(state, state.assets[i].token, self.bazaar.evm.now)
        assert not refused
        return after

    # Pools

    def _pools(self, n: int) -> list[Pool]:
        rng = self.rng
        found, taken = [], set()
        for _ in range(self.drawn["pools"]):
            whole = range(len(self.contracts))
            a, b = rng.sample(whole, 2) if rng.random() < 0.5 else (0, rng.randrange(1, len(whole)))
            if int(self.contracts[a].address, 16) > int(self.contracts[b].address, 16):
                a, b = b, a
            kind = rng.choice((0, 1, 100, 500, 3_000, 10_000))
            if (a, b, kind) in taken:
                continue
            taken.add((a, b, kind))
            pool = self._v2(a, b, kind) if kind < 2 else self._v3(a, b, kind)
            if pool is not None:
                found.append(pool)
        return found

    def _sides(self, a: int, b: int) -> tuple[int, int]:
        """Token units of about the same value on both sides, as the pool prices them."""
        rng, drawn = self.rng, self.drawn
        depth = drawn["wealth"] * drawn["depth"] * 10 ** rng.uniform(-1, 1)
        off = (1 + rng.gauss(0, drawn["noise"]), 1.0)
        first, second = (
            max(int(depth * x * WAD * self.scales[k] / self.prices[k]), 1)
            for x, k in zip(off, (a, b), strict=True)
        )
        return min(first, 2**100), min(second, 2**100)

    def _v2(self, a: int, b: int, kind: int) -> Pool | None:
        held, evm = self._sides(a, b), self.bazaar.evm
        odd = self.rng.random() if self.drawn["odd"] else 1.0
        where = self.bazaar.v2[kind].call("createPair", self.contracts[a].address, self.contracts[b].address)
        pair = evm.at(where, uniswap_artifact(f"{V2}/UniswapV2Pair.json"))
        if held[0] * held[1] > 1_001**2 and odd > 0.1:
            for k, amount in zip((a, b), held, strict=True):
                self.contracts[k].call("mint", where, amount)
            pair.call("mint", DEPLOYER)
        elif odd > 0.05:
            self.contracts[a].call("mint", where, held[0])  # nobody has called mint
        if odd < 0.3:  # its balance is above its reserves
            self.contracts[b].call("mint", where, max(held[1] // 50, 1))
            self.notes.append("unsynced")
        reserves = pair.call("getReserves")[:2]
        fee = self.rng.choice((30, 30, 30, 45, 100))
        return V2Pool(where, self.contracts[a].address, self.contracts[b].address, fee, *reserves)

    def _v3(self, a: int, b: int, fee: int) -> Pool | None:
        rng, chain = self.rng, self.bazaar
        held = self._sides(a, b)
        price = isqrt(held[1] * 2**192 // held[0])
        sides = self.contracts[a].address, self.contracts[b].address
        odd = rng.random() if self.drawn["odd"] else 1.0
        if not 2**34 < price < 2**158:
            return None
        if odd < 0.05:  # created, no price yet
            where = chain.v3.call("createPool", *sides, fee)
            return V3Pool(where, *sides, fee, SPACING[fee], 0, 0, 0, ())
        chain.manager.call("createAndInitializePoolIfNecessary", *sides, fee, price)
        where = chain.v3.call("getPool", *sides, fee)
        pool = chain.evm.at(where, uniswap_artifact(f"{V3_CORE}/UniswapV3Pool.sol/UniswapV3Pool.json"))
        liquidity = int((held[0] * held[1]) ** 0.5 * 10 ** rng.uniform(-0.3, 1.6)) + 1
        tick, wanted = v3_state(rng, fee, price, liquidity, rng.randint(0, 6), gaps=rng.random() < 0.4)
        if odd < 0.2:  # all on one side: nothing at the price itself
            wanted = [p for p in wanted if p[0] > tick] or [
                (p[0] + 4_000, p[1] + 4_000, p[2]) for p in wanted
            ]
            self.notes.append("one-sided")
        elif odd < 0.25:
            wanted = []
        nets = []
        for lower, upper, amount in wanted:
            if lower < -887_000 or upper > 887_000 or amount >= 2**110:
                continue
            low, high = 1.0001 ** (lower / 2), 1.0001 ** (upper / 2)
            most = [int(amount / low * 1.5) + 10**9, int(amount * high * 1.5) + 10**9]
            given = self._added(pool, sides, fee, lower, upper, most, amount, price)
            if given:
                nets.append((lower, upper, given))
        at, where_now = pool.call("slot0")[:2]
        found = v3_pool(where, *sides, fee, at, where_now, nets)
        assert found.liquidity == pool.call("liquidity")
        return self._as_read(found) if self.drawn["keeper_ticks"] else found

    def _added(
        self, pool: Contract, sides: tuple[str, str], fee: int, lower: int, upper: int, most: list[int], amount: int,
        price: int,
    ) -> int:  # fmt: skip
        """Liquidity that a new position got; 0 where it would have none."""
        low, high = 2**96 * 1.0001 ** (lower / 2), 2**96 * 1.0001 ** (upper / 2)
        at = min(max(price, low), high)
        need = [amount * 2**96 * (1 / at - 1 / high), amount * (at - low) / 2**96]
        if max(need) < 10 or any(0 < x < 3 for x in need):
            return 0
        wish = [min(int(x * 1.0001) + 2, 2**120) for x in need]
        try:
            got = self.bazaar.manager.call(
                "mint", (*sides, fee, lower, upper, *wish, 0, 0, DEPLOYER, FOREVER)
            )
        except Reverted:  # too little for any liquidity, or too much
            return 0
        return int(got[1])

    @staticmethod
    def _as_read(pool: V3Pool) -> V3Pool:
        """Ticks in whole words of the bitmap about the price."""
        word = 256 * pool.tick_spacing
        low = ((pool.tick - WINDOW) // word - 1) * word
        high = ((pool.tick + WINDOW) // word + 2) * word - pool.tick_spacing
        low, high = max(low, -887_272), min(high, 887_272)
        ticks = tuple(entry for entry in pool.ticks if low <= entry[0] <= high)
        return replace(pool, ticks=ticks, known_from=low, known_to=high)

    # The problem

    def _problem(self, state: VaultState, pools: tuple[Pool, ...], n: int) -> Problem:
        rng, drawn = self.rng, self.drawn
        options: dict[str, Any] = {
            "gas_price": drawn["gas_price"],
            "turnover_cap": drawn["cap"],
            "min_leg_value": drawn["least"],
            "risk_aversion": drawn["aversion"],
            "pool_limit_bps": drawn["limit"],
            "slippage_margin_bps": drawn["margin"],
        }
        if drawn["tax"]:
            options["tax_per_token"] = tuple(int(p * rng.choice((0, 0.001, 0.01))) for p in state.prices)
        if drawn["covariance"]:
            factors = [[rng.gauss(0, 0.4) for _ in range(2)] for _ in range(n)]
            options["covariance"] = tuple(
                tuple(
                    int(WAD * (sum(x * y for x, y in zip(f, g, strict=True)) + 0.02 * (f is g)))
                    for g in factors
                )
                for f in factors
            )
        hub = self.contracts[0].address
        if drawn["hub"] == "none":
            hub = ""
        elif drawn["hub"] != "asset" and drawn["outside"]:
            hub = self.contracts[n].address
            options["hub_decimals"] = len(str(self.scales[n])) - 1
            options["hub_price"] = self.prices[n] if drawn["hub"] == "outside" else 0
        return Problem(state, pools, self.bazaar.executor.address, hub, self.bazaar.evm.now, **options)


__all__ = ["NO_ASSET", "Bazaar", "Market", "SwapV2"]
