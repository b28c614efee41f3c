"""A market and a policy in the chain's integers: what both engines start from. Pure; it refuses what a vault cannot do.

T rows, n assets. USD amounts are WAD, prices the feeds' answers, targets basis points, tokens in their own units.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from offchain import policy as vault_policy
from offchain.backtest.chain.addresses import (
    Places,
    config_of,
    genesis_of,
    places_of,
    v2_address,
    v3_address,
    vault_address,
)
from offchain.backtest.chain.arbitrage import sqrt_price
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Floats, Market, Policy, shaped
from offchain.backtest.triggers import schedule
from offchain.errors import PoolError
from offchain.planner.pools import (
    MAX_TICK,
    MAX_UINT112,
    Pool,
    V2Pool,
    V3Pool,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)
from offchain.policy import WAD, Asset, Rules, Session, VaultState
from offchain.policy.changes import check_settings
from offchain.policy.rules import Refused

__all__ = ["MAX_BPS", "MAX_TIME", "PoolSettings", "Scenario", "VaultSettings"]

MAX_BPS = 10_000
MAX_TIME = 2**40 - 1  # timestamp: what the contracts' fields hold
MAX_FEE_BPS = 300  # a year, the vault's cap
HUB_DECIMALS = 6  # of the cash token outside the basket
V2_FEE_BPS = 30
V3_SPACING = {500: 10, 3_000: 60, 10_000: 200}  # by fee, as Uniswap's factory was deployed
NO_SPEED_LIMIT = 65_535  # bps, the most that the field holds; any path is at most 20,000
Q96 = 2**96
NOT_IN_A_VAULT = {
    "bands": "the vault's bands are band_points_bps and band_relative_bps",
    "stops": "the planner decides how far a trade goes",
    "calendar_rows": "the vault's calendar is calendar_unit, calendar_every and calendar_anchor",
    "first_row_only": "a vault's calendar slot stays due until it is used",
}


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Where the vault trades: Uniswap pools of each asset against one cash token (the hub), and what gas costs."""

    depth_usd: Any = 10_000_000.0  # scalar or (n,): on each side of each pool at the first row
    venue: str = "both"  # "v2" (30 bps), "v3" or "both"
    v3_fee: int = 500  # millionths: 500, 3,000 or 10,000; liquidity over the full range
    hub: str = ""  # name of the asset that is the cash token; "": one outside the basket, worth 1 USD
    gas_price_usd: float = 5e-6  # of a unit of gas: 2 gwei at 2,500 USD; 0: gas is free


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """What a vault has and a Policy has not."""

    decimals: Any = 18  # scalar or (n,) of the tokens
    price_error_bps: Any = 30  # scalar or (n,): the feeds' deviation threshold
    feed_decimals: int = 8  # of the prices, as Chainlink's USD feeds
    max_slippage_bps: int = 150
    loss_capacity_bps: int = 100
    loss_refill_bps_per_year: int = 400


@dataclass(frozen=True, eq=False)
class Scenario:
    """All that happens to a vault from outside, and the vault as it is created."""

    market: Market
    policy: Policy
    pool_settings: PoolSettings
    places: Places
    config: tuple[Any, ...]  # that the factory is called with
    genesis: bytes  # audit head of the new vault
    state: VaultState  # the new vault: its seed at target weights, 1 share = 1 USD
    pools: tuple[Pool, ...]  # as created
    pool_amounts: tuple[tuple[int, int], ...]  # units of token0 and token1 that each is made with
    pool_assets: tuple[tuple[int, int], ...]  # of each pool: column of token0, of token1; n: the hub outside
    pool_scales: tuple[tuple[int, int], ...]  # of each pool: units in one whole token0, token1
    decimals: tuple[int, ...]  # of the columns, the hub outside included
    hub_outside: bool
    feed_scale: int  # answer of 1 USD
    answers: list[list[int]]  # (T, n or n + 1) the feeds' answers, the hub outside included
    times: list[int]
    targets: dict[int, tuple[int, ...]]  # by row: the targets wished from then on, bps
    flows: list[int]  # (T,) USD WAD, in kind: deposits above 0, redemptions below
    gas_price: int  # USD WAD a unit
    risk_aversion: int  # WAD
    covariance: tuple[tuple[int, ...], ...] | None  # WAD

    @property
    def n(self) -> int:
        """Number of assets."""
        return len(self.state.assets)

    def pool_price(self, pool: int, row: int) -> tuple[int, int]:
        """Units of token1 a unit of token0 at the row's prices, as a fraction."""
        (a, b), (scale0, scale1) = self.pool_assets[pool], self.pool_scales[pool]
        prices = self.answers[row]
        return prices[a] * scale1, prices[b] * scale0

    @staticmethod
    def of(
        data: Any,
        policy: Policy,
        *,
        cash: float = 1_000_000.0,
        pools: PoolSettings | None = None,
        vault: VaultSettings | None = None,
        flows: Any = None,
    ) -> Scenario:
        """`cash` USD is the seed. BacktestError names the argument, row and column that a vault cannot take."""
        market, pools, vault = Market.of(data), pools or PoolSettings(), vault or VaultSettings()
        _refuse(market, policy)
        n = market.shape[1]
        decimals = _integers("decimals", vault.decimals, n, 2, 24)
        hub = _hub(market, pools)
        places = places_of(n, hub)
        answers = _answers(market, vault, outside=hub is None)
        targets = _targets(market, policy)
        assets = _assets(policy, vault, places, decimals, targets[0])
        rules = _rules(policy, vault)
        config = config_of(places, assets, rules, policy.fee_bps)
        state = _new_vault(market, policy, vault, places, config, assets, rules, answers[0], cash)
        columns = (*decimals, *(() if hub is not None else (HUB_DECIMALS,)))
        made, amounts, ends = _pools(market, pools, places, hub, columns, answers[0], vault.feed_decimals)
        sigma = policy.covariance
        return Scenario(
            market=market,
            policy=policy,
            pool_settings=pools,
            places=places,
            config=config,
            genesis=genesis_of(places, config),
            state=state,
            pools=made,
            pool_amounts=amounts,
            pool_assets=ends,
            pool_scales=tuple((10 ** columns[a], 10 ** columns[b]) for a, b in ends),
            decimals=columns,
            hub_outside=hub is None,
            feed_scale=10**vault.feed_decimals,
            answers=answers,
            times=[int(t) for t in market.times],
            targets=targets,
            flows=_flows(market, flows),
            gas_price=round(_number("gas_price_usd", pools.gas_price_usd) * WAD),
            risk_aversion=round(policy.aversion * WAD),
            covariance=None if sigma is None else _wads(sigma, n),
        )


# ---------------------------------------------------------------- the vault


def _refuse(market: Market, policy: Policy) -> None:
    n = market.shape[1]
    if not 2 <= n <= 16:
        raise BacktestError(f"prices: {n} columns; a vault has 2 to 16 assets")
    if market.times[0] < 0 or market.times[-1] > MAX_TIME:
        raise BacktestError(f"dates: {market.where(0)}: a chain's clock starts in 1970")
    if market.dividends is not None:
        raise BacktestError(
            "dividends: a vault's tokens pay none; use adjusted prices, as of tokens that reinvest"
        )
    if market.flows_by_route is not None and market.flows_by_route.any():
        raise BacktestError("flows_by_route: the chain engines take flows in kind: use flows_in_kind")
    defaults = {field.name: field.default for field in fields(Policy)}
    for name, why in NOT_IN_A_VAULT.items():
        if getattr(policy, name) is not defaults[name]:
            raise BacktestError(f"{name}: not in a vault: {why}")
    if policy.fee_bps > MAX_FEE_BPS:
        raise BacktestError(f"fee_bps: {policy.fee_bps} is above the vault's cap of {MAX_FEE_BPS}")


def _rules(policy: Policy, vault: VaultSettings) -> Rules:
    rules = replace(
        policy.rules(),
        max_slippage_bps=vault.max_slippage_bps,
        loss_capacity_bps=vault.loss_capacity_bps,
        loss_refill_bps_per_year=vault.loss_refill_bps_per_year,
    )
    if policy.speed_capacity_bps is None:
        rules = replace(rules, speed_capacity_bps=NO_SPEED_LIMIT, speed_refill_bps_per_day=NO_SPEED_LIMIT)
    return rules


def _assets(
    policy: Policy, vault: VaultSettings, places: Places, decimals: list[int], targets: tuple[int, ...]
) -> tuple[Asset, ...]:
    n = len(targets)
    columns = zip(
        places.tokens,
        decimals,
        targets,
        _integers("band_points_bps", policy.band_points_bps, n, 0, MAX_BPS),
        _integers("band_relative_bps", policy.band_relative_bps, n, 0, MAX_BPS),
        _limits("min_targets", policy.min_targets, 0.0, n),
        _limits("max_targets", policy.max_targets, 1.0, n),
        _integers("price_error_bps", vault.price_error_bps, n, 0, 255),
        strict=True,
    )
    return tuple(Asset(*column) for column in columns)


def _new_vault(
    market: Market,
    policy: Policy,
    vault: VaultSettings,
    places: Places,
    config: tuple[Any, ...],
    assets: tuple[Asset, ...],
    rules: Rules,
    answers: list[int],
    cash: float,
) -> VaultState:
    """Seeded with `cash` USD at the targets: 1 share = 1 USD. An asset without a target gets one unit, as it must."""
    now = int(market.times[0])
    prices = tuple(answer * 10 ** (18 - vault.feed_decimals) for answer in answers[: len(assets)])
    usd = round(_number("cash", cash) * WAD)
    seed = tuple(
        max(usd * a.target_bps * a.scale // (MAX_BPS * p), 1) for a, p in zip(assets, prices, strict=True)
    )
    state = VaultState(
        assets=assets,
        rules=rules,
        session=Session(slot=vault_policy.calendar_slot(rules, now)),
        balances=seed,
        prices=prices,
        statuses=(0,) * len(assets),
        supply=0,
        time=now,
        fee_bps=policy.fee_bps,
        fee_accrued_at=now,
        vault=vault_address(places, config),
        oracle=places.oracle,
    )
    try:
        check_settings(state)
    except Refused as refusal:
        raise BacktestError(f"policy: the vault refuses it: {refusal}") from None
    supply = vault_policy.nav(state)
    if supply <= WAD:
        raise BacktestError(f"cash: {cash} USD is too little; a vault is seeded with more than 1 USD")
    return replace(state, supply=supply)


# ---------------------------------------------------------------- prices, targets, flows


def _answers(market: Market, vault: VaultSettings, *, outside: bool) -> list[list[int]]:
    if not 0 <= vault.feed_decimals <= 18:
        raise BacktestError(f"feed_decimals: {vault.feed_decimals} is not between 0 and 18")
    scale = 10**vault.feed_decimals
    rows = [[round(price * scale) for price in row] for row in market.prices.tolist()]
    for i, row in enumerate(rows):
        for j, answer in enumerate(row):
            if not 0 < answer * 10 ** (18 - vault.feed_decimals) < 2**100:
                where, price = market.where(i, j), market.prices[i, j]
                raise BacktestError(
                    f"prices: {where}: {price:g} does not fit a feed of {vault.feed_decimals} decimals: "
                    "set feed_decimals"
                )
    return [[*row, scale] for row in rows] if outside else rows


def _targets(market: Market, policy: Policy) -> dict[int, tuple[int, ...]]:
    """By row, in whole basis points, from the first row on."""
    n = market.shape[1]
    low = np.array(_limits("min_targets", policy.min_targets, 0.0, n))
    high = np.array(_limits("max_targets", policy.max_targets, 1.0, n))
    plan = schedule(replace(policy, speed_capacity_bps=None), market)  # the vault's own limit holds later
    changes = np.flatnonzero(np.diff(plan.setting, prepend=-1))
    return {int(row): _whole_bps(plan.table[0, plan.setting[row]], low, high) for row in changes}


def _whole_bps(weights: Floats, low: Any, high: Any) -> tuple[int, ...]:
    """The nearest whole basis points that sum to 100 %: the largest remainders are rounded up."""
    exact = weights * MAX_BPS
    whole = np.clip(np.floor(exact + 1e-6).astype(np.int64), low, high)
    order = np.argsort(whole - exact, kind="stable")  # most cut off first
    while (missing := MAX_BPS - int(whole.sum())) != 0:
        step = 1 if missing > 0 else -1
        for i in (order if step > 0 else order[::-1])[: abs(missing)]:
            whole[i] += step * (low[i] <= whole[i] + step <= high[i])
    return tuple(int(bps) for bps in whole)


def _flows(market: Market, flows: Any) -> list[int]:
    given = market.flows_in_kind if flows is None else replace(market, flows_in_kind=flows).flows_in_kind
    if given is None:
        return [0] * len(market.times)
    return [round(usd * WAD) for usd in given.tolist()]


# ---------------------------------------------------------------- pools


def _hub(market: Market, pools: PoolSettings) -> int | None:
    """Column of the hub; None outside the basket."""
    if not pools.hub:
        return None
    if pools.hub not in market.names:
        raise BacktestError(f"hub: {pools.hub!r} is none of the columns {', '.join(market.names)}")
    return list(market.names).index(pools.hub)


def _pools(
    market: Market,
    settings: PoolSettings,
    places: Places,
    hub: int | None,
    decimals: tuple[int, ...],
    answers: list[int],
    feed_decimals: int,
) -> tuple[tuple[Pool, ...], tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """The pools as created at the first row's prices, what goes into them, and the columns of their tokens."""
    n = market.shape[1]
    versions = {"v2": (2,), "v3": (3,), "both": (2, 3)}.get(settings.venue)
    if versions is None:
        raise BacktestError(f"venue: {settings.venue!r} is none of 'v2', 'v3', 'both'")
    if settings.v3_fee not in V3_SPACING:
        raise BacktestError(f"v3_fee: {settings.v3_fee} is none of {', '.join(map(str, V3_SPACING))}")
    depths = [round(usd * 10**feed_decimals) for usd in _depths(settings, n)]
    made: list[Pool] = []
    used, ends = [], []
    for i in range(n):
        if i == hub:
            continue
        tokens = {i: places.tokens[i], n if hub is None else hub: places.hub}
        a, b = sorted(tokens, key=lambda column: tokens[column])
        amounts = (depths[i] * 10 ** decimals[a] // answers[a], depths[i] * 10 ** decimals[b] // answers[b])
        price = _unit_price(answers[a], decimals[a], answers[b], decimals[b])
        for version in versions:
            try:
                if version == 2:
                    made.append(_v2_pool(places, tokens[a], tokens[b], amounts))
                else:
                    made.append(_v3_pool(places, tokens[a], tokens[b], amounts, price, settings.v3_fee))
            except PoolError as error:
                raise BacktestError(f"depth_usd: {market.where(0, i)}: {error}") from None
            used.append(amounts)
            ends.append((a, b))
    return tuple(made), tuple(used), tuple(ends)


def _depths(settings: PoolSettings, n: int) -> list[float]:
    found: list[float] = shaped("depth_usd", settings.depth_usd, 1, n, 1.0, 1e15)[0].tolist()
    return found


def _unit_price(answer0: int, decimals0: int, answer1: int, decimals1: int) -> tuple[int, int]:
    """Units of token1 a unit of token0, as a fraction."""
    return answer0 * 10**decimals1, answer1 * 10**decimals0


def _v2_pool(places: Places, token0: str, token1: str, amounts: tuple[int, int]) -> V2Pool:
    if not all(1_000 < amount < MAX_UINT112 // 2**10 for amount in amounts):
        raise PoolError(f"a Uniswap V2 pair cannot hold {amounts[0]} and {amounts[1]} token units")
    return V2Pool(v2_address(places.v2_factory, token0, token1), token0, token1, V2_FEE_BPS, *amounts)


def _v3_pool(
    places: Places, token0: str, token1: str, amounts: tuple[int, int], price: tuple[int, int], fee: int
) -> V3Pool:
    """With the liquidity that Uniswap's LiquidityAmounts finds for the amounts over the full range."""
    spacing, at = V3_SPACING[fee], sqrt_price(*price)
    edge = MAX_TICK // spacing * spacing
    low, high = sqrt_ratio_at_tick(-edge), sqrt_ratio_at_tick(edge)
    if not low < at < high:
        raise PoolError("the price is outside Uniswap V3's range")
    liquidity = min(
        amounts[0] * (at * high // Q96) // (high - at),
        amounts[1] * Q96 // (at - low),
    )
    if not 0 < liquidity < 2**110:
        raise PoolError(f"a Uniswap V3 pool cannot hold {amounts[0]} and {amounts[1]} token units")
    ticks = ((-edge, liquidity), (edge, -liquidity))
    address = v3_address(places.v3_factory, token0, token1, fee)
    return V3Pool(address, token0, token1, fee, spacing, at, tick_at_sqrt_ratio(at), liquidity, ticks)


# ---------------------------------------------------------------- checks


def _integers(name: str, value: Any, n: int, low: int, high: int) -> list[int]:
    table = shaped(name, value, 1, n, low, high)[0]
    if (table != np.rint(table)).any():
        raise BacktestError(f"{name}: whole numbers only")
    return [int(x) for x in table]


def _limits(name: str, value: Any, default: float, n: int) -> list[int]:
    """Limits of moving targets in basis points."""
    table = shaped(name, default if value is None else value, 1, n, 0.0, 1.0)[0] * MAX_BPS
    if (np.abs(table - np.rint(table)) > 1e-6).any():
        raise BacktestError(f"{name}: whole basis points only in a vault")
    return [round(x) for x in table.tolist()]


def _wads(sigma: Any, n: int) -> tuple[tuple[int, ...], ...]:
    table = np.asarray(sigma, dtype=np.float64)
    if table.shape != (n, n) or not np.isfinite(table).all():
        raise BacktestError(f"covariance: needs {n} rows of {n} finite numbers")
    return tuple(tuple(round(x * WAD) for x in row) for row in table.tolist())


def _number(name: str, value: float) -> float:
    if not 0 <= value < 1e15:
        raise BacktestError(f"{name}: {value} is not a number from 0 to 1e15")
    return float(value)
