"""Before a plan is sent: is it sane? And in one word why nothing is traded.

The vault bounds what a rebalance may cost; these checks are the operator's own, before gas is paid for. Pure but for
`Sanity`, the edge, which asks the second market source and the journal. A refusal is a sentence that begins with the
setting that it comes from; "" means that nothing speaks against the plan. The checks, cheapest first:

1. payload: every pool is one that was read, every contract called is in `allowed_targets`, every token in
   `allowed_tokens`, and what is paid out goes to the vault;
2. pool share: no pool pays more than `max_pool_share_bps` of what it holds in range;
3. gas: what the trade improves (the planner's objective) is more than its gas;
4. spending: gas and NAV lost, with those of the last 24 hours, stay within `daily_spend_limit_usd`;
5. market: the oracle's prices are within `market_deviation_bps` of a second source's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import structlog
from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from offchain import policy
from offchain.aggregators import Quote
from offchain.chain.errors import ConfigError
from offchain.chain.vault import Snapshot
from offchain.keeper.costs import Entry
from offchain.planner import Call, Plan, Pool, Problem, SwapV2, SwapV3, Sweep, V2Pool, decode
from offchain.planner.pools import amount0, amount1, same, zero_for_one
from offchain.planner.problem import BPS, gas_of, objective
from offchain.policy import DAY, WAD, VaultState
from offchain.settings import Settings

__all__ = [
    "Limits",
    "NotTraded",
    "PriceSource",
    "Sanity",
    "basket_refusal",
    "cost_of",
    "gas_refusal",
    "kind_of",
    "market_refusal",
    "payload_refusal",
    "share_refusal",
    "spend_refusal",
    "spent_since",
]

APPROVE, TRANSFER = bytes.fromhex("095ea7b3"), bytes.fromhex("a9059cbb")  # of ERC-20
FIRST_ENTRIES = 16  # of the ledger, that are read at once

log = structlog.get_logger("evenkeel.keeper")


class NotTraded(StrEnum):
    """Why a look ended without a trade: all that the label `reason` of evenkeel_not_traded_total can be."""

    NO_TRIGGER = "no_trigger"
    COOLDOWN = "cooldown"
    PAUSED = "vault_paused"
    ORACLE = "oracle_price"  # not usable, or the basket is worth nothing
    NOT_WORTH_IT = "not_worth_its_cost"
    NO_POOL = "no_pool"  # that can trade the drift at a cost that it is worth
    NO_PLAN = "no_plan"  # the planner could not read its problem
    LOSS_BUDGET = "loss_budget"  # of the vault, used up
    VAULT_RULES = "vault_rules"
    AFTER_REVERTS = "pausing_after_reverts"
    FLICKERING = "flickering"
    PAYLOAD = "payload_not_allowed"
    POOL_SHARE = "pool_share"
    GAS = "gas_above_benefit"
    SPEND_LIMIT = "daily_spend_limit"
    MARKET_DEVIATES = "market_deviates"
    MARKET_AWAY = "market_source_away"
    DRY_RUN = "dry_run"
    KILL_SWITCH = "kill_switch"
    BUSY = "another_keeper"
    OTHER = "other"


# What the sentences hold. The first that fits.
_WORDS: tuple[tuple[str, NotTraded], ...] = (
    ("no plan: ", NotTraded.NO_PLAN),
    ("no trigger", NotTraded.NO_TRIGGER),
    ("cooldown not over", NotTraded.COOLDOWN),
    ("pausing after", NotTraded.AFTER_REVERTS),
    ("flickering: ", NotTraded.FLICKERING),
    ("price not usable", NotTraded.ORACLE),
    ("no value", NotTraded.ORACLE),
    ("allowed_targets: ", NotTraded.PAYLOAD),
    ("allowed_tokens: ", NotTraded.PAYLOAD),
    ("payload: ", NotTraded.PAYLOAD),
    ("max_pool_share_bps: ", NotTraded.POOL_SHARE),
    ("gas: ", NotTraded.GAS),
    ("daily_spend_limit_usd: ", NotTraded.SPEND_LIMIT),
    ("market_deviation_bps: ", NotTraded.MARKET_DEVIATES),
    ("market_source: ", NotTraded.MARKET_AWAY),
    ("kill_switch", NotTraded.KILL_SWITCH),
    ("dry run", NotTraded.DRY_RUN),
    ("not simulated and not sent", NotTraded.DRY_RUN),
    ("no trade is worth", NotTraded.NOT_WORTH_IT),
    ("loss budget exceeded", NotTraded.LOSS_BUDGET),
    ("the vault would refuse", NotTraded.VAULT_RULES),
    ("no pool can trade", NotTraded.NO_POOL),
    ("no other pool can trade", NotTraded.NO_POOL),
    ("another keeper", NotTraded.BUSY),
    ("another process", NotTraded.BUSY),
    ("does not hold nonce", NotTraded.BUSY),
    ("paused", NotTraded.PAUSED),
)


def kind_of(reason: str) -> NotTraded:
    """The kind of the reason that the journal and the log give in words."""
    return next((kind for words, kind in _WORDS if words in reason), NotTraded.OTHER)


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits; None: not limited."""

    max_pool_share_bps: int | None = None
    allowed_targets: tuple[str, ...] | None = None  # addresses; (): nothing but pools
    allowed_tokens: tuple[str, ...] | None = None  # addresses, the basket's own among them
    daily_spend_usd: int | None = None  # USD WAD
    market_deviation_bps: int = 300


# ---------------------------------------------------------------- 1. the payload


def basket_refusal(state: VaultState, limits: Limits) -> str:
    """Which of the vault's tokens is not allowed."""
    return next((found for asset in state.assets if (found := _not_token(asset.token, limits))), "")


def payload_refusal(problem: Problem, payload: bytes, limits: Limits) -> str:
    """What in the executor's payload is not allowed.

    A venue's own calldata is not taken apart: it can only take tokens that a leg before it approves, and those legs,
    the one who is approved and the contract that is called are checked here.
    """
    pools = {pool.address.lower(): pool for pool in problem.pools}
    tokens = {asset.token.lower() for asset in problem.state.assets} | {problem.hub.lower()} - {""}
    tokens |= {token.lower() for pool in problem.pools for token in (pool.token0, pool.token1)}
    for leg in decode(payload):
        if isinstance(leg, SwapV2 | SwapV3):
            pool = pools.get(leg.pool.lower())
            if pool is None:
                return f"payload: {leg.pool} is none of the pools that were read"
            found = _not_token(pool.token0, limits) or _not_token(pool.token1, limits)
        elif isinstance(leg, Sweep):
            found = _not_token(leg.token, limits)
        else:
            found = _call_refusal(leg, tokens, problem, limits)
        if found:
            return found
    return ""


def _call_refusal(leg: Call, tokens: set[str], problem: Problem, limits: Limits) -> str:
    selector = leg.data[:4]
    if selector not in (APPROVE, TRANSFER):
        known = {problem.state.vault.lower(), problem.state.oracle.lower(), problem.executor.lower()} - {""}
        if leg.target.lower() in tokens | known:
            return (
                f"payload: it calls {leg.target} with 0x{selector.hex()}, which only venues are called with"
            )
        return _not_target(leg.target, limits)
    try:
        who, _ = abi_decode(["address", "uint256"], leg.data[4:])
    except DecodingError:
        return f"payload: it calls {leg.target} with arguments that cannot be read"
    if selector == TRANSFER and not same(who, problem.state.vault):
        return f"payload: it sends {leg.target} to {who}, which is not the vault"
    return _not_token(leg.target, limits) or (_not_target(who, limits) if selector == APPROVE else "")


def _not_target(address: str, limits: Limits) -> str:
    allowed = limits.allowed_targets
    if allowed is None or any(same(address, one) for one in allowed):
        return ""
    return f"allowed_targets: {address} is not in the list"


def _not_token(address: str, limits: Limits) -> str:
    allowed = limits.allowed_tokens
    if allowed is None or any(same(address, one) for one in allowed):
        return ""
    return f"allowed_tokens: {address} is not in the list"


# ---------------------------------------------------------------- 2. size against liquidity


def share_refusal(problem: Problem, plan: Plan, limits: Limits) -> str:
    """Which pool would pay too much of what it holds. What a venue's call takes from where is not known here."""
    most = limits.max_pool_share_bps
    if most is None:
        return ""
    pools = {pool.address.lower(): pool for pool in problem.pools}
    paid: dict[tuple[str, str], int] = {}  # pool, token sold -> token units bought
    for planned in plan.legs:
        key = (planned.leg.pool.lower(), planned.leg.token_in)
        paid[key] = paid.get(key, 0) + planned.expected_out
    for (where, token_in), units in paid.items():
        if where not in pools:
            return f"payload: {where} is none of the pools that were read"
        held = _held(pools[where], token_in)
        if units * BPS > most * held:
            share = f"{units * BPS // held} bps of what it holds" if held else "more than it holds"
            return f"max_pool_share_bps: pool {where} would pay {share}, the limit is {most}"
    return ""


def _held(pool: Pool, token_in: str) -> int:
    """Token units that selling `token_in` could take out of the pool: a V2 pool's reserve, of a V3 pool what its
    liquidity holds in the ticks that were read.
    """
    downward = zero_for_one(pool, token_in)
    if isinstance(pool, V2Pool):
        return pool.reserve1 if downward else pool.reserve0
    total = 0
    for liquidity, begin, end in pool.ranges(token_in):
        low, high = min(begin, end), max(begin, end)
        total += (amount1 if downward else amount0)(low, high, liquidity, up=False)
    return total


# ---------------------------------------------------------------- 3. and 4. what it costs


def _gas_cost(problem: Problem, plan: Plan) -> int:
    """USD WAD; 0 where no price of gas is known."""
    if plan.costs is not None:
        return plan.costs.gas
    return gas_of(plan.legs) * problem.gas_price


def cost_of(problem: Problem, plan: Plan) -> int:
    """What the plan should cost: NAV lost at the oracle's prices (a gain counts as 0) and gas. USD WAD."""
    lost = policy.nav(problem.state) - policy.nav(problem.state, plan.balances_after)
    return max(lost, 0) + _gas_cost(problem, plan)


def gas_refusal(problem: Problem, plan: Plan) -> str:
    """The gas is more than the trade is worth. The own planner never says so; another one may."""
    gas = _gas_cost(problem, plan)
    worth = objective(problem, problem.state.balances) - objective(problem, plan.balances_after)
    if not gas or worth > gas:
        return ""
    return f"gas: it costs {_usd(gas)} and the trade is worth {_usd(worth)}"


def spend_refusal(cost: int, spent: int, limits: Limits) -> str:
    """A day's limit leaves no room for this cost. USD WAD."""
    most = limits.daily_spend_usd
    if most is None or spent + cost <= most:
        return ""
    return (
        f"daily_spend_limit_usd: {_usd(spent)} were spent in 24 hours and this costs {_usd(cost)}, "
        f"above the limit {_usd(most)}"
    )


def spent_since(entries: Callable[[int], list[Entry]], since: int) -> int:
    """Gas and NAV lost of all ledger entries after `since` (timestamp), USD WAD; gains do not make room.

    `entries(n)`: the latest n, oldest first.
    """
    wanted = FIRST_ENTRIES
    while True:
        found = entries(wanted)
        if len(found) < wanted or found[0].time <= since:
            break
        wanted *= 2
    return sum(max(one.fee + one.impact, 0) + (one.gas or 0) for one in found if one.time > since)


# ---------------------------------------------------------------- 5. a second market source


def market_refusal(state: VaultState, prices: Mapping[str, int], limits: Limits, source: str) -> str:
    """Which oracle price is too far from the second source's; `prices`: USD WAD per whole token, by token."""
    theirs = {token.lower(): price for token, price in prices.items()}
    aside = policy.aside(state)
    for i, asset in enumerate(state.assets):
        market, oracle = theirs.get(asset.token.lower()), state.prices[i]
        if market is None or i == aside:
            continue
        apart = abs(oracle - market) * BPS
        if apart > limits.market_deviation_bps * market:
            return (
                f"market_deviation_bps: the oracle's price of {asset.token} is {_usd(oracle)}, {source} says "
                f"{_usd(market)}: {apart // market} bps apart, the limit is {limits.market_deviation_bps}"
            )
    return ""


class PriceSource(Protocol):
    """Prices from elsewhere (offchain.keeper.ticker)."""

    @property
    def name(self) -> str:
        """For messages."""

    def prices(self) -> dict[str, int]:
        """USD WAD per whole token, by token; ConnectionError where any is missing, old or makes no sense."""


# ---------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Sanity:
    """The checks in their order."""

    limits: Limits = field(default_factory=Limits)
    market: PriceSource | None = None
    trade_without_market: bool = False  # when the second source does not answer

    @classmethod
    def from_settings(cls, settings: Settings) -> Sanity:
        """What the settings ask for; ConfigError where a check that is asked for could not work."""
        from offchain.keeper.ticker import Ticker

        daily, priced = settings.daily_spend_limit_usd, settings.native_token or settings.native_price_usd
        if daily is not None and not priced:
            raise ConfigError(
                "daily_spend_limit_usd: gas counts only with native_token or native_price_usd: set one of them"
            )
        limits = Limits(
            settings.max_pool_share_bps,
            _tuple(settings.allowed_targets),
            _tuple(settings.allowed_tokens),
            None if daily is None else int(daily * WAD),
            settings.market_deviation_bps,
        )
        return cls(limits, Ticker.from_settings(settings), settings.market_when_away == "trade")

    def refusal(
        self, snapshot: Snapshot, problem: Problem, plan: Plan, ledger: Callable[[int], list[Entry]]
    ) -> str:
        """Why the plan is not to be sent; `ledger(n)`: the vault's latest n entries, oldest first."""
        cost = cost_of(problem, plan)
        spent = 0
        if self.limits.daily_spend_usd is not None:
            spent = spent_since(ledger, snapshot.block.time - DAY)
        return (
            payload_refusal(problem, plan.payload, self.limits)
            or share_refusal(problem, plan, self.limits)
            or gas_refusal(problem, plan)
            or spend_refusal(cost, spent, self.limits)
            or self._market(problem.state)
        )

    def vetted(self, quotes: Sequence[Quote]) -> tuple[Quote, ...]:
        """The quotes, those that must not be carried out with the reason: the own route may still be taken."""
        return tuple(replace(quote, reason=quote.reason or self._not_venue(quote)) for quote in quotes)

    def _not_venue(self, quote: Quote) -> str:
        if not quote.amount_out:
            return ""
        return _not_target(quote.target, self.limits) or _not_target(quote.spender, self.limits)

    def _market(self, state: VaultState) -> str:
        if self.market is None:
            return ""
        try:
            prices = self.market.prices()
        except ConnectionError as error:
            if not self.trade_without_market:
                return f"market_source: {error}; waiting, as market_when_away says"
            log.warning("traded without the second market source", reason=str(error))
            return ""
        return market_refusal(state, prices, self.limits, self.market.name)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _usd(value: int) -> str:
    return f"{value / WAD:,.2f} USD" if abs(value) >= WAD else f"{value / WAD:.2g} USD"
