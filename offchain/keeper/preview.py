"""What the keeper would do now, and why: the plan, or what it would be if a session opened; theory asset by asset.

Pure; `rehearsal` asks the node what goes with it, `offchain.show` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

from offchain import policy
from offchain.aggregators import AggregatedPlan
from offchain.aggregators.compare import exchanges
from offchain.chain.oracle import price_status
from offchain.chain.vault import Snapshot
from offchain.keeper.decide import Planner
from offchain.keeper.market import GasPrice, Observed
from offchain.planner import Plan, PlannedLeg, Pool, Problem, Sweep, V2Pool, decode
from offchain.planner import plan as joint_plan
from offchain.planner.bands import Advice, Band, Drift, advise, band, cost_rate
from offchain.planner.pools import PIPS, same
from offchain.planner.problem import BPS, GAS_REBALANCE, GAS_V3, closing_limits, gas_of, objective
from offchain.policy import DAY, WAD, CalendarUnit, Mode, Rules, Session, VaultState

__all__ = [
    "Preview",
    "Quote",
    "Theory",
    "Venues",
    "Wait",
    "as_if_open",
    "next_slot",
    "pool_fee",
    "preview",
    "theory",
    "waits",
]

Venues = Callable[[Problem, Plan, bool], Plan]

AT_TARGET = 1_000 * WAD  # risk aversion at which what a drift costs is far above any trade
RISK_AVERSION = 5.0  # of the theory: NAV lost a year per unit of variance a year (docs/planner.md)


@dataclass(frozen=True, slots=True)
class Wait:
    """Something for which the vault refuses every rebalance now."""

    reason: str  # names tokens by address
    until: int | None = None  # timestamp at which it is over at the latest; None: nobody knows


@dataclass(frozen=True, slots=True)
class Theory:
    """One asset on its own: how far it may stray before a trade pays, and how far back to trade it."""

    band: Band
    closes_within: float  # distance from target at which the session closes, weight
    fee: float  # of a trade, fraction: the cheapest of its pools
    advice: Advice
    edge_cost: float | None = None  # NAV a year of that band; None: no volatility was given
    target_cost: float | None = (
        None  # the same of the best band from which trades go all the way to the target
    )


@dataclass(frozen=True, slots=True)
class Quote:
    """What a venue outside offers for one of the plan's exchanges (docs/planner.md, Aggregators)."""

    venue: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int  # 0 where there is no offer
    min_out: int  # what the venue's call guarantees
    own_out: int  # of the plan's own route
    used: bool
    reason: str = ""  # why there is no offer, or why it is not used


@dataclass(frozen=True)
class Preview:
    """All that `evenkeel plan` shows."""

    snapshot: Snapshot
    problem: Problem  # as planned: with a session open where the vault would not open one now
    plan: Plan
    gas: GasPrice
    waits: tuple[Wait, ...]  # empty: the vault accepts a rebalance now
    notes: tuple[str, ...] = ()
    theories: tuple[Theory | None, ...] = ()  # (n,) None: cannot be traded
    risk_aversion: float = RISK_AVERSION  # of the theory
    keeper_plan: Plan | None = None  # where `plan` goes to the targets: what the keeper does instead
    quotes: tuple[Quote, ...] = ()
    choice: str = ""  # which of the quotes and the own route is taken, and why

    @property
    def possible(self) -> bool:
        """The vault accepts a rebalance now."""
        return not self.waits

    @property
    def nav(self) -> int:
        """Before the trade, USD WAD."""
        return policy.nav(self.problem.state)

    @property
    def total_cost(self) -> int:
        """Of the plan, USD WAD: by cause, or what the NAV falls by where the causes are not known."""
        if self.plan.costs is None:
            return self.nav - policy.nav(self.problem.state, self.plan.balances_after)
        return sum(asdict(self.plan.costs).values())

    def weights(self, balances: Sequence[int]) -> list[int]:
        """WAD; 0 where the vault holds nothing of value."""
        state = self.problem.state
        return policy.weights(state, balances) if policy.nav(state, balances) else [0] * len(balances)

    def drifts(self, balances: Sequence[int]) -> list[int]:
        """WAD; 0 where the vault holds nothing of value."""
        state = self.problem.state
        return policy.drifts(state, balances) if policy.nav(state, balances) else [0] * len(balances)

    def pool(self, planned: PlannedLeg) -> Pool:
        """The pool that the leg trades with."""
        return next(pool for pool in self.problem.pools if same(pool.address, planned.leg.pool))

    def sold_on(self, planned: PlannedLeg) -> list[int]:
        """Numbers, from 1, of the later legs that sell what this one buys: it passes through."""
        legs = self.plan.legs
        later = enumerate(legs[legs.index(planned) + 1 :], start=legs.index(planned) + 2)
        if planned.leg.to_caller:
            return []
        return [number for number, other in later if same(other.leg.token_in, planned.token_out)]

    def gas_units(self, plan: Plan) -> int:
        """Of a rebalance with this plan, as the planner estimates it."""
        if self.gas.usd and plan.costs is not None:
            return plan.costs.gas // self.gas.usd
        return gas_of(plan.legs, sum(isinstance(leg, Sweep) for leg in decode(plan.payload)))

    def measure(self, plan: Plan) -> int:
        """What the keeper minimises (J of `problem`), USD WAD."""
        return objective(self.problem, plan.balances_after, self.gas_units(plan))


def preview(
    snapshot: Snapshot,
    observed: Observed,
    planner: Planner = joint_plan,
    *,
    at_target: bool = False,
    volatility: float | None = None,
    risk_aversion: float = RISK_AVERSION,
    venues: Venues | None = None,
) -> Preview:
    """Plan as the keeper does; where the vault would refuse everything now, as if a session opened now.

    `at_target`: plan all the way to the targets, whatever it costs inside the rules. `volatility`: a year, fraction.
    `venues`: the plan with what outside venues offer, given the own one and whether the vault would accept one now.
    """
    problem = observed.problem
    found = waits(problem.state, problem.now)
    if found:
        problem = replace(problem, state=as_if_open(problem.state, problem.now))
    own = planner(problem)
    chosen = own
    if at_target:
        chosen = planner(replace(problem, risk_aversion=AT_TARGET))
    elif venues is not None and own.trades:
        chosen = venues(problem, own, not found)
    theories = tuple(theory(problem, i, volatility, risk_aversion) for i in range(len(problem.state.assets)))
    asked = chosen if isinstance(chosen, AggregatedPlan) else None
    return Preview(
        snapshot,
        problem,
        chosen,
        observed.gas,
        tuple(found),
        observed.notes,
        theories,
        risk_aversion,
        own if at_target else None,
        _quotes(problem, own, asked) if asked else (),
        asked.choice if asked else "",
    )


def _quotes(problem: Problem, own: Plan, asked: AggregatedPlan) -> tuple[Quote, ...]:
    """The venues' quotes beside what the own route pays for the same."""
    ours = {exchange.pair: exchange.own_out for exchange in exchanges(problem, own)}
    return tuple(
        Quote(
            quote.venue,
            quote.request.token_in,
            quote.request.token_out,
            quote.request.amount_in,
            quote.amount_out,
            quote.min_out,
            ours.get((quote.request.token_in.lower(), quote.request.token_out.lower()), 0),
            quote in asked.calls,
            quote.reason,
        )
        for quote in asked.quotes
    )


# ---------------------------------------------------------------- when the vault accepts nothing


def waits(state: VaultState, now: int) -> list[Wait]:
    """Every reason for which the vault refuses a rebalance now; none where it would accept one."""
    found = []
    if now < state.paused_until:
        found.append(Wait("trades are paused", state.paused_until))
    dead = [
        Wait(f"the oracle has no usable price for {asset.token} ({price_status(status)})")
        for i, (asset, price, status) in enumerate(
            zip(state.assets, state.prices, state.statuses, strict=True)
        )
        if i != policy.aside(state) and (status or price <= 0)
    ]
    if dead:
        return found + dead
    if policy.nav(state) == 0:
        return [*found, Wait("the vault holds nothing of value")]
    if policy.session_is_open(state, now):
        return found
    if not policy.cooldown_over(state, now):
        last, rules = state.session, state.rules
        end = last.closed_at or last.opened_at + rules.window_seconds
        found.append(Wait(f"cooldown after session {last.id}", end + rules.cooldown_seconds))
    if not policy.trigger(state, now).holds:
        found.append(_no_trigger(state, now))
    return found


def _no_trigger(state: VaultState, now: int) -> Wait:
    rules, slot = state.rules, policy.calendar_slot(state.rules, now)
    drifts, bands = policy.drifts(state), policy.bands(state)
    nearest = max(range(len(bands)), key=lambda i: drifts[i] / bands[i])
    inside = all(d < b for d, b in zip(drifts, bands, strict=True))
    bands_say = (
        f"every asset is inside its band (the nearest to its edge: {state.assets[nearest].token}, "
        f"{drifts[nearest] / 1e16:.2f} of {bands[nearest] / 1e16:.2f} points from its target)"
    )
    calendar_says = f"the calendar's slot {slot} is used" if slot else "the calendar has not begun"
    if rules.mode == Mode.THRESHOLD:
        return Wait(bands_say)
    if rules.mode == Mode.CALENDAR:
        return Wait(calendar_says, next_slot(rules, now))
    if rules.mode == Mode.EITHER:
        return Wait(f"{calendar_says}, and {bands_say}", next_slot(rules, now))
    due = slot > state.session.slot
    missing = [words for words, lacks in ((calendar_says, not due), (bands_say, inside)) if lacks]
    return Wait(" and ".join(missing), None if inside else next_slot(rules, now))


def next_slot(rules: Rules, now: int) -> int:
    """Timestamp at which the calendar's next slot begins."""
    slot = policy.calendar_slot(rules, now)
    if slot == 0:
        return rules.calendar_anchor
    if rules.calendar_unit == CalendarUnit.DAYS:
        return rules.calendar_anchor + slot * rules.calendar_every * DAY
    anchor = datetime.fromtimestamp(rules.calendar_anchor, UTC)
    months = 12 * anchor.year + anchor.month - 1 + slot * rules.calendar_every
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp())


def as_if_open(state: VaultState, now: int) -> VaultState:
    """The state if the vault were not paused and a session opened now, of the kind that its mode and drifts suggest."""
    state = replace(state, paused_until=0)
    if policy.session_is_open(state, now):
        return state
    outside = policy.nav(state) > 0 and any(
        d >= b for d, b in zip(policy.drifts(state), policy.bands(state), strict=True)
    )
    by_calendar = state.rules.mode in (Mode.CALENDAR, Mode.BOTH) or (
        state.rules.mode == Mode.EITHER and not outside
    )
    return replace(state, session=Session(state.session.id + 1, now, 0, state.session.slot, by_calendar))


# ---------------------------------------------------------------- edge or target


def theory(
    problem: Problem, i: int, volatility: float | None = None, risk_aversion: float = RISK_AVERSION
) -> Theory | None:
    """What the theory of bands says of asset i on its own; None where it cannot be traded.

    The widths do not depend on the volatility: it speeds up the drift as much as it makes the drift matter.
    """
    state = problem.state
    target = policy.targets(state)[i] / WAD if policy.usable(state) else 0.0
    mine = [pool_fee(pool) for pool in problem.pools if _trades(pool, state.assets[i].token)]
    if not mine or i == policy.aside(state) or not 0 < target < 1 or policy.nav(state) == 0:
        return None
    nav = policy.nav(state)
    fixed = (GAS_REBALANCE + GAS_V3) * problem.gas_price / nav
    drift = Drift.of(target, volatility or 1.0, risk_aversion, min(mine), fixed)
    best = band(drift)
    weight, closes = policy.values(state)[i] / nav, closing_limits(problem)[i] / WAD
    found = Theory(best, closes, min(mine), advise(weight, target, best, closes))
    if not volatility:
        return found
    edge = cost_rate(drift, best.half_width, best.stop)
    return replace(found, edge_cost=edge, target_cost=_to_target(drift))


def _to_target(drift: Drift) -> float:
    """NAV a year of the best band from which every trade goes to the target."""
    found = minimize_scalar(lambda h: cost_rate(drift, h, 0.0), bounds=(1e-9, 1.0), method="bounded")
    return float(found.fun)


def pool_fee(pool: Pool) -> float:
    """What the pool takes of what is sold to it, fraction."""
    return pool.fee_bps / BPS if isinstance(pool, V2Pool) else pool.fee / PIPS


def _trades(pool: Pool, token: str) -> bool:
    return same(pool.token0, token) or same(pool.token1, token)
