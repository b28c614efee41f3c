"""What a plan depends on, what it says, and the one currency in which plans are compared.

`objective(problem, balances_after, gas)` is what the planner minimises, in USD WAD, of a predicted outcome:

    J = V · aversion/2 · (w − t)ᵀ Σ (w − t)  +  V′ · reopen · Σᵢ max(0, driftᵢ − limitᵢ)  +  lost  +  tax  +  gas

V, V′: NAV before and after; w = value after / V, t the targets; Σ: the identity where no covariance is given (squared
drift); driftᵢ = |value after / V′ − tᵢ|, as the vault measures it, limitᵢ: the drift at which the session closes;
reopen: the vault's slippage limit, what another round may cost at most; lost = V − V′ at the oracle's prices, so pool
fees and price impact; gas of the legs. All terms are convex in the values after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from offchain import policy
from offchain.errors import PlannerError
from offchain.planner.payload import SwapV2, SwapV3
from offchain.planner.pools import Pool
from offchain.policy import WAD, VaultState, Verdict

BPS = 10_000
GAS_V2, GAS_V3 = 70_000, 90_000  # of one leg by the Executor, as in `route`
GAS_SWEEP = 30_000
GAS_REBALANCE = 250_000  # of the vault's own work, whatever the legs


@dataclass(frozen=True, slots=True)
class Problem:
    """All that a plan depends on. n assets; lists are in the order of `state.assets`."""

    state: VaultState
    pools: tuple[Pool, ...]
    executor: str  # address
    hub: str  # address of the cash token of the single-pool plan; in the basket or not; "" for none
    now: int  # timestamp at which the rebalance is expected to land
    hub_decimals: int = 18  # read only when the hub is not in the basket, as is hub_price
    hub_price: int = 0  # USD WAD per whole token
    leg_tolerance_bps: int = 50  # a leg reverts when it pays this much less than expected
    slippage_margin_bps: int = 5  # kept free below the vault's slippage limit
    min_leg_value: int = WAD  # USD WAD; smaller legs are not worth their gas
    risk_aversion: int = (
        3 * WAD // 10
    )  # WAD: NAV per variance, or squared drift without covariance (`planner.md`)
    covariance: tuple[tuple[int, ...], ...] | None = None  # (n, n) WAD, of the assets' returns
    gas_price: int = 0  # USD WAD per unit of gas
    turnover_cap: int = 2 * WAD  # WAD of NAV, sells plus buys; 2: none
    tax_per_token: tuple[int, ...] = ()  # (n,) USD WAD of tax per whole token sold; empty: none
    pool_limit_bps: int = (
        BPS  # no pool is used at a worse average price below the oracle's; 10 000: none is barred
    )
    closing: bool = True  # a drift that keeps the session open counts (`reopen` in the objective)
    closing_margin_bps: int = (
        0  # of NAV: how far inside the drifts that close the session to end; not part of J
    )


@dataclass(frozen=True, slots=True)
class PlannedLeg:
    """One swap and what it is expected to do."""

    leg: SwapV2 | SwapV3
    token_out: str
    amount_in: int
    expected_out: int
    min_out: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What the trade costs by cause, USD WAD. fee + impact = NAV lost at the oracle's prices."""

    fee: int  # what the pools' owners take
    impact: int  # price impact, and the pools' distance from the oracle's prices; below 0: a gain
    gas: int
    tax: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof of quality: no plan within the rules and the problem's limits has an objective below `bound`. USD WAD."""

    objective: int  # J of this plan
    bound: int  # of the dual problem over all pools and routes: continuous amounts, the least possible gas
    gap: int  # objective − bound: so much could the best conceivable plan be better
    routing_gap: int  # over the pools used, without gas: what the optimiser and integers left; no proof


@dataclass(frozen=True, slots=True)
class Plan:
    """What to call `rebalance` with and what it should lead to; no sells and a reason when there is nothing to do."""

    sells: tuple[int, ...]
    payload: bytes
    legs: tuple[PlannedLeg, ...]
    balances_after: tuple[int, ...]
    session: int
    reason: str  # why nothing is traded, "" otherwise
    verdict: Verdict | None = None  # the rules' answer to the predicted outcome
    explanations: tuple[str, ...] = ()  # (n,) one sentence an asset: what is traded, or why not
    costs: Costs | None = None
    drift_before: int = 0  # WAD, sum over the assets
    drift_after: int = 0
    certificate: Certificate | None = None
    method: str = "single pool"  # or "joint": which planner's trades these are

    @property
    def trades(self) -> bool:
        """There is something to submit."""
        return bool(self.legs)


def closing_limits(problem: Problem) -> list[int]:
    """Drift of each asset at which the session of a rebalance now closes, WAD."""
    state, now = problem.state, problem.now
    if policy.session_is_open(state, now):
        by_calendar = state.session.by_calendar
    else:
        by_calendar = policy.trigger(state, now).by_calendar
    return policy.tolerances(state) if by_calendar else [b // 2 for b in policy.bands(state)]


def closing_aims(problem: Problem) -> list[int]:
    """Drift of each asset at which a trade that closes the session aims to end at the most, WAD.

    The limit less the margin, at least half of the limit; the limit itself where closing does not count.
    """
    margin = problem.closing_margin_bps * policy.BPS_IN_WAD if problem.closing else 0
    return [limit - min(margin, limit // 2) for limit in closing_limits(problem)]


def reopen_price(problem: Problem) -> int:
    """NAV lost per unit of drift beyond the closing limit, WAD."""
    return problem.state.rules.max_slippage_bps * policy.BPS_IN_WAD if problem.closing else 0


def over_limits(problem: Problem, balances_after: Sequence[int]) -> str:
    """Which of the problem's own limits an outcome breaks, beside the vault's rules; "" where none."""
    before, after = policy.values(problem.state), policy.values(problem.state, balances_after)
    moved = [a - b for a, b in zip(after, before, strict=True)]
    slippage = max(problem.state.rules.max_slippage_bps - problem.slippage_margin_bps, 0)
    if -sum(moved) * BPS > slippage * sum(max(-m, 0) for m in moved):
        return "loss above slippage less its margin"
    if sum(abs(m) for m in moved) * WAD > problem.turnover_cap * sum(before):
        return "turnover cap exceeded"
    return ""


def gas_of(legs: Sequence[PlannedLeg], sweeps: int = 0) -> int:
    """Gas of a rebalance with these legs; 0 without any."""
    if not legs:
        return 0
    swaps = sum(GAS_V2 if isinstance(planned.leg, SwapV2) else GAS_V3 for planned in legs)
    return GAS_REBALANCE + swaps + sweeps * GAS_SWEEP


def tax_of(problem: Problem, balances_after: Sequence[int]) -> int:
    """USD WAD of tax on what is sold."""
    rows = zip(
        problem.tax_per_token, problem.state.assets, problem.state.balances, balances_after, strict=False
    )
    return sum(tax * max(before - after, 0) // asset.scale for tax, asset, before, after in rows)


def objective(problem: Problem, balances_after: Sequence[int], gas: int = 0) -> int:
    """J of an outcome, USD WAD, rounded up; `gas` in units."""
    state = problem.state
    before, after = policy.values(state), policy.values(state, balances_after)
    nav, left, targets = sum(before), sum(after), policy.targets(state)
    drifts = [Fraction(v, nav) - Fraction(t, WAD) for v, t in zip(after, targets, strict=True)]
    loose = sum(
        max(Fraction(abs(v * WAD - t * left) - limit * left, WAD), Fraction(0))
        for v, t, limit in zip(after, targets, closing_limits(problem), strict=True)
    )
    tracking = nav * Fraction(problem.risk_aversion, 2 * WAD) * _variance(problem, drifts)
    total = tracking + Fraction(reopen_price(problem), WAD) * loose
    total += (nav - left) + tax_of(problem, balances_after) + gas * problem.gas_price
    return -(-total.numerator // total.denominator)


def _variance(problem: Problem, drifts: list[Fraction]) -> Fraction:
    if problem.covariance is None:
        return sum((d * d for d in drifts), Fraction(0))
    rows = zip(drifts, problem.covariance, strict=True)
    return sum((d * s * e for d, row in rows for s, e in zip(row, drifts, strict=True)), Fraction(0)) / WAD


def check(problem: Problem) -> None:
    """PlannerError, naming the field, for a problem that cannot be read."""
    n = len(problem.state.assets)
    if problem.covariance is not None and [len(row) for row in problem.covariance] != [n] * n:
        raise PlannerError(f"covariance: needs {n} rows of {n}")
    if problem.tax_per_token and len(problem.tax_per_token) != n:
        raise PlannerError(f"tax_per_token: needs {n} entries")
    amounts = ("risk_aversion", "gas_price", "turnover_cap", "min_leg_value", "pool_limit_bps")
    for name in (*amounts, "closing_margin_bps"):
        if getattr(problem, name) < 0:
            raise PlannerError(f"{name}: below 0")
