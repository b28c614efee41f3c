"""The simplest plan: sell down what is overweight, buy up what is underweight, each through the best single pool.

The joint plan is measured against it, and never worse. `single_pool_plan(problem)` nets the basket into one cash token
(the hub): overweight assets are sold into it, underweight ones bought with it. Each leg is sized against the pools'
real reserves so that its price, fee and impact included, stays inside the vault's slippage limit less a margin. The
predicted outcome goes through `policy.check_rebalance`; a refused trade is shrunk until it is accepted. Pure integers:
prices and values in USD WAD, amounts in token units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from offchain import policy
from offchain.errors import PlannerError, PoolError
from offchain.planner.payload import Leg, SwapV2, SwapV3, Sweep, encode
from offchain.planner.pools import Pool, V2Pool, same, trades, zero_for_one
from offchain.planner.problem import BPS, Plan, PlannedLeg, Problem, over_limits
from offchain.policy import WAD

__all__ = ["single_pool_plan"]

STEPS = 24  # of each bisection: 2**-24 of the trade is less than any rounding that matters


def single_pool_plan(problem: Problem) -> Plan:
    """The trades that bring the vault towards its targets and that its rules accept."""
    problem = replace(problem, state=replace(problem.state, time=problem.now))
    session, refusal = policy.next_session(problem.state, problem.now)
    if refusal:
        found = policy.trigger(problem.state, problem.now) if refusal == "no trigger" else None
        return _nothing(problem, session, f"{refusal}: {found.reason}" if found else refusal)
    hub = _Hub.of(problem)
    if hub.index == policy.aside(problem.state):
        return _nothing(problem, session, "the hub is in quarantine: every swap would go through it")
    wanted = _size_legs(problem, hub)
    if not any(wanted.sells) or not (any(wanted.buys) or wanted.hub_buy):
        return _nothing(problem, session, "no pool can trade the drift inside the slippage limit")
    accepted, refused = _largest_accepted(lambda scale: _simulate(problem, hub, wanted, session, scale))
    if accepted is None:
        return _nothing(
            problem,
            session,
            f"the vault would refuse every size of the trade: {refused}",
        )
    return accepted


# ---------------------------------------------------------------- sizing


@dataclass(frozen=True, slots=True)
class _Hub:
    """The cash token: its place in the basket (-1: not in it), scale and price."""

    token: str
    index: int
    scale: int
    price: int

    @staticmethod
    def of(problem: Problem) -> _Hub:
        for i, (asset, price) in enumerate(zip(problem.state.assets, problem.state.prices, strict=True)):
            if same(asset.token, problem.hub):
                return _Hub(asset.token, i, asset.scale, price)
        if problem.hub_price <= 0:
            raise PlannerError("hub_price: needed because the hub token is not in the basket")
        return _Hub(problem.hub, -1, 10**problem.hub_decimals, problem.hub_price)

    def value(self, amount: int) -> int:
        return amount * self.price // self.scale

    def amount(self, value: int) -> int:
        return value * self.scale // self.price


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The size of each asset's leg. Sells in token units, buys in USD WAD of hub to spend."""

    sells: list[int]  # with the hub's own excess, which needs no swap
    buys: list[int]
    hub_buy: int  # USD WAD of hub that the vault keeps


def _size_legs(problem: Problem, hub: _Hub) -> _Wanted:
    """The largest legs inside the slippage limit, with sells and buys brought to the same value."""
    state = problem.state
    total, held = policy.nav(state), policy.values(state)
    excess = policy.clip_sells(state, state.balances)
    sells, buys, hub_buy = [0] * len(held), [0] * len(held), 0
    for i, (asset, price, v, t) in enumerate(
        zip(state.assets, state.prices, held, policy.targets(state), strict=True)
    ):
        gap = t * total // WAD - v
        if i == hub.index:
            sells[i], hub_buy = excess[i], max(gap, 0)
        elif excess[i]:
            fair = (
                price * hub.scale,
                asset.scale * hub.price,
            )  # hub units a token unit
            sells[i] = _largest_fair(problem, asset.token, hub.token, excess[i], fair)
            sells[i] = sells[i] if _value(problem, i, sells[i]) >= problem.min_leg_value else 0
        elif gap >= problem.min_leg_value:
            fair = (hub.price * asset.scale, hub.scale * price)
            spend = _largest_fair(problem, hub.token, asset.token, hub.amount(gap), fair)
            buys[i] = hub.value(spend) if hub.value(spend) >= problem.min_leg_value else 0
    return _balanced(problem, sells, buys, hub_buy)


def _balanced(problem: Problem, sells: list[int], buys: list[int], hub_buy: int) -> _Wanted:
    """Sells scaled down to what the buys can take; too few sells simply leave each buy with less."""
    sources = sum(_value(problem, i, s) for i, s in enumerate(sells))
    sinks = sum(buys) + hub_buy
    if sources > sinks:
        sells = [s * sinks // sources for s in sells]
    return _Wanted(sells, buys, hub_buy)


def _value(problem: Problem, index: int, amount: int) -> int:
    return amount * problem.state.prices[index] // problem.state.assets[index].scale


def _largest_fair(problem: Problem, token_in: str, token_out: str, most: int, fair: tuple[int, int]) -> int:
    """The largest input, at most `most`, whose average price in the best pool stays inside the slippage limit.

    `fair`: numerator and denominator of the oracle's price, units of token_out a unit of token_in.
    """
    slippage = max(problem.state.rules.max_slippage_bps - problem.slippage_margin_bps, 0)
    limit = BPS - min(slippage, problem.pool_limit_bps)
    pools = [p for p in problem.pools if trades(p, token_in, token_out)]

    def is_fair(amount: int) -> bool:
        paid = max((_quote(p, token_in, amount) for p in pools), default=0)
        return paid * fair[1] * BPS >= amount * fair[0] * limit

    if most == 0 or is_fair(most):
        return most if pools else 0
    low, high = 0, most  # invariant: low is fair, high is not
    for _ in range(STEPS):
        middle = (low + high) // 2
        low, high = (middle, high) if is_fair(middle) else (low, middle)
    return low


def _quote(pool: Pool, token_in: str, amount: int) -> int:
    """What the pool pays, 0 when it cannot."""
    try:
        return pool.amount_out(token_in, amount)
    except PoolError:
        return 0


# ---------------------------------------------------------------- prediction


def _largest_accepted(attempt: Callable[[int], Plan]) -> tuple[Plan | None, str]:
    """The plan at the largest scale (WAD) that the rules accept, or none and the last refusal."""
    candidate = attempt(WAD)
    if not candidate.reason:
        return candidate, ""
    accepted, low, high = None, 0, WAD
    for _ in range(STEPS):
        middle = (low + high) // 2
        tried = attempt(middle)
        if tried.reason:
            high, candidate = middle, tried
        else:
            low, accepted = middle, tried
    return accepted, candidate.reason


@dataclass(slots=True)
class _Route:
    """Legs chosen so far, the pools after them, and what the caller has got back."""

    problem: Problem
    pools: list[Pool]
    legs: list[PlannedLeg] = field(default_factory=list)

    def swap(
        self,
        token_in: str,
        token_out: str,
        amount: int,
        *,
        to_caller: bool,
        whole: bool = False,
    ) -> int:
        """Add the swap through the pool that pays most; the output, 0 when none pays."""
        usable = [i for i, p in enumerate(self.pools) if trades(p, token_in, token_out)]
        best = max(usable, key=lambda i: _quote(self.pools[i], token_in, amount), default=None)
        if best is None or amount == 0 or _quote(self.pools[best], token_in, amount) == 0:
            return 0
        pool = self.pools[best]
        paid, self.pools[best] = pool.swap(token_in, amount)
        min_out = paid * (BPS - self.problem.leg_tolerance_bps) // BPS
        down = zero_for_one(pool, token_in)
        leg: SwapV2 | SwapV3
        if isinstance(pool, V2Pool):
            leg = SwapV2(
                pool.address,
                token_in,
                amount,
                min_out,
                pool.fee_bps,
                down,
                to_caller,
                whole,
            )
        else:
            leg = SwapV3(pool.address, token_in, amount, min_out, down, to_caller, whole)
        self.legs.append(PlannedLeg(leg, token_out, amount, paid, min_out))
        return paid


def _simulate(problem: Problem, hub: _Hub, wanted: _Wanted, session: int, scale: int) -> Plan:
    """The plan at `scale` (WAD) of the wanted size, with the outcome predicted and judged; refused: its reason."""
    state, route = problem.state, _Route(problem, list(problem.pools))
    sells = [s * scale // WAD for s in wanted.sells]
    after = [q - s for q, s in zip(state.balances, sells, strict=True)]
    cash = sells[hub.index] if hub.index >= 0 else 0
    for i, sell in enumerate(sells):
        if sell and i != hub.index:
            cash += route.swap(state.assets[i].token, hub.token, sell, to_caller=False)

    sinks = sum(wanted.buys) + wanted.hub_buy
    buyers = [i for i, buy in enumerate(wanted.buys) if buy]
    left = cash
    for i in buyers:
        last = i == buyers[-1] and not wanted.hub_buy
        spend = left if last else cash * wanted.buys[i] // sinks
        after[i] += route.swap(hub.token, state.assets[i].token, spend, to_caller=True, whole=last)
        left -= spend
    calls: list[Leg] = [planned.leg for planned in route.legs]
    if wanted.hub_buy:
        calls.append(Sweep(hub.token))
        after[hub.index] += left

    verdict = policy.check_rebalance(
        state,
        sells,
        after,
        session,
        problem.now,
        problem.now,
        executor=problem.executor,
    )
    reason = verdict.reason or over_limits(problem, after) if route.legs else "nothing left to trade"
    return Plan(
        tuple(sells),
        encode(calls),
        tuple(route.legs),
        tuple(after),
        session,
        reason,
        verdict,
    )


def _nothing(problem: Problem, session: int, reason: str) -> Plan:
    return Plan(
        (0,) * len(problem.state.assets),
        b"",
        (),
        problem.state.balances,
        session,
        reason,
    )
