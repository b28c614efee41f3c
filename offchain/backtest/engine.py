"""The fast engine: float64, compiled, one pass over the rows, exact accounting.

What happens in a row, in this order, at the row's prices:
1. dividends go to cash; who held the row before gets them;
2. the management fee of the UTC days since the row before leaves in kind (docs/spec.md, Fee: shares are diluted by
   f = fee · days / 365, so holders keep 1 / (1 + f));
3. flows: in kind pro rata; by route pro rata with the trading paid by whoever comes or goes;
4. if the policy's trigger holds, the rebalance, its costs out of the portfolio.
The first row buys the targets for cash; that purchase pays and counts. Weights are of the whole value, cash included,
and cash is spent by the next rebalance.

**The rebalance.** Assets beyond their stop go to it (stop 0: the target). What that leaves over or short is made up on
the other side by those furthest from target, so that nothing is moved away from its target and no more is traded than
needed. Let g be these goals, A the assets that are traded, v the values held. Their values after are g·Y, where

    F(Y) = Y · Σ_A g + Σ_A cost(g·Y − v) + fixed − Σ_A v − cash = 0

so cash is 0 afterwards and every unit of cost is paid. With stops of 0, A is everything, Σ g = 1 and Y is the value
after costs, whose weights are exactly the targets. Each cost is convex in what is traded, so F is convex. F is at least
0 where nothing would be paid, Y = (Σ_A v + cash) / Σ_A g, and below 0 at Y = 0 if selling out can pay its own costs; so
it has one root between, and Newton's method, started from the right, falls to it monotonically (a convex function lies
above its tangents). With proportional costs F is piecewise linear and Newton ends exactly, after as many steps as signs
change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offchain.backtest.errors import BacktestError
from offchain.backtest.model import CAUSES, Costs, Floats, Ints, Market, Policy, Schedule, shaped
from offchain.backtest.result import Result
from offchain.backtest.triggers import schedule
from offchain.policy import DAY, Mode

__all__ = ["STATISTICS", "Job", "run", "simulate"]

STATISTICS = (
    "final_value",
    "total_return",  # of a share, time-weighted
    "annual_return",
    "annual_volatility",
    "sharpe",  # of those two, without a risk-free rate
    "max_drawdown",
    "rebalances",
    "turnover",  # bought and sold, in values of the portfolio, the first purchase included
    "annual_turnover",
    "cost",
    "cost_proportional",
    "cost_fixed",
    "cost_impact",
    "cost_pool",
    "fees",
    "flow_costs",
)
MIN_TURNOVER = 1e-9  # of the value: less than this is rounding, not a rebalance
STEPS = 200  # of Newton's method at most; it takes 1 to 5
PRECISION = 1e-14  # of Y: its last step, before which the bill is taken
NEAR = 1e-9  # of a pool's depth: it may not be emptied further
MOST_ROOM = 10**8  # prices in a market: with more, trades are counted first and room is made for as many
# outcomes of a simulation
FINE, TOO_DEAR, DRAINED, FLOW_TOO_DEAR, FLOW_TOO_LARGE = range(5)
CALENDAR, THRESHOLD, EITHER, BOTH = (
    int(mode) for mode in (Mode.CALENDAR, Mode.THRESHOLD, Mode.EITHER, Mode.BOTH)
)
NONE, BY_CALENDAR, BY_THRESHOLD, BY_TWO, FIRST = range(5)  # as Kind
VALUE, RETURN, ANNUAL, VOLATILITY, SHARPE, DRAWDOWN, REBALANCES, TURNOVER, ANNUAL_TURNOVER, COST = range(10)
FEES, FLOW_COSTS = 14, 15  # after the four causes


# ---------------------------------------------------------------- kernels

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))


def _compiled_loosely(function: F) -> F:
    """Sums may be taken in any order, so that they use vector instructions."""
    return cast(
        F, njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    )


@_compiled_loosely
def _bill(
    goals: Floats, y: float, moved: Floats, row: int, rate: Floats, impact: Floats, depth: Floats
) -> tuple[float, float, float, float]:
    """What trading each of `moved` to goals · y costs, by cause but the fixed, and the derivative of the sum in y."""
    proportional = shift = pool = slope = 0.0
    for i in range(goals.size):
        x = goals[i] * y - moved[i]
        proportional += rate[i] * abs(x)
        slope += goals[i] * rate[i] * (1.0 if x >= 0 else -1.0)
    if impact.shape[0] > 0:
        r = row if impact.shape[0] > 1 else 0
        for i in range(goals.size):
            x = goals[i] * y - moved[i]
            root = impact[r, i] * math.sqrt(abs(x))
            shift += root * abs(x)
            slope += goals[i] * 1.5 * root * (1.0 if x >= 0 else -1.0)
    if depth.shape[0] > 0:
        r = row if depth.shape[0] > 1 else 0
        for i in range(goals.size):
            x = goals[i] * y - moved[i]  # a pool of infinite depth costs nothing
            part = x / (depth[r, i] - x)
            pool += x * part
            slope += goals[i] * part * (2 + part)
    return proportional, shift, pool, slope


@_compiled_loosely
def _settle(
    goals: Floats,
    moved: Floats,
    cash: float,
    kept: float,
    fixed: float,
    row: int,
    rate: Floats,
    impact: Floats,
    depth: Floats,
    bill: Floats,
) -> tuple[float, int]:
    """The root Y of F (module docstring) and the outcome; `goals` and `moved` are 0 for what is not traded.

    `kept`: the part of Y that stays cash. `bill` (4,) is filled with the costs.
    """
    budget, total = cash, kept
    for i in range(goals.size):
        budget += moved[i]
        total += goals[i]
    if total <= 0:
        return 0.0, TOO_DEAR
    y, limited = budget / total, False
    if depth.shape[0] > 0:  # start where every pool can still pay
        r = row if depth.shape[0] > 1 else 0
        for i in range(goals.size):
            if goals[i] * y > moved[i] + (1 - NEAR) * depth[r, i]:
                y, limited = (moved[i] + (1 - NEAR) * depth[r, i]) / goals[i], True
    bill[1] = fixed
    for _ in range(STEPS):
        bill[0], bill[2], bill[3], slope = _bill(goals, y, moved, row, rate, impact, depth)
        f = y * total + fixed - budget + bill[0] + bill[2] + bill[3]
        if limited and f < 0:
            return 0.0, DRAINED
        limited = False
        step = f / (total + slope)
        y -= step
        if not (y > 0 and total + slope > 0):
            return 0.0, TOO_DEAR
        if step <= PRECISION * y:  # what is left after it is smaller by the costs' slope or by its square
            break
    return y, FINE


@_compiled
def _reach(goals: Floats, targets: Floats, k: int, side: float, amount: float) -> None:
    """Lower the distances on one side of the target to at most m, where they sum to `amount`: the furthest move."""
    m = math.inf
    while True:
        near, count = 0.0, 0
        for i in range(goals.size):
            away = side * (goals[i] - targets[k, i])
            if away > 0:
                if away < m and m < math.inf:
                    near += away
                else:
                    count += 1
        better = (amount - near) / count if count > 0 else m
        if m < math.inf and better <= m:
            break
        m = better
    for i in range(goals.size):
        if side * (goals[i] - targets[k, i]) > m:
            goals[i] = targets[k, i] + side * m


@_compiled_loosely
def _aim(
    goals: Floats, moved: Floats, held: Floats, value: float, targets: Floats, k: int, stops: Floats, s: int
) -> int:
    """Goals as weights, the values that will be traded (both 0 where nothing is), and how many those are."""
    over = under = 0.0
    for i in range(goals.size):
        away = min(max(held[i] / value - targets[k, i], -stops[s, i]), stops[s, i])
        goals[i] = targets[k, i] + away
        over += max(away, 0.0)
        under += max(-away, 0.0)
    if over > under:
        _reach(goals, targets, k, 1.0, under)
    elif under > over:
        _reach(goals, targets, k, -1.0, over)
    legs = 0
    for i in range(goals.size):
        away = abs(goals[i] - held[i] / value)
        untouched = (stops[s, i] > 0 and away < 1e-15) or (goals[i] == 0 and held[i] == 0)
        legs += not untouched
        moved[i] = 0.0 if untouched else held[i]
        goals[i] = 0.0 if untouched else goals[i]
    return legs


@_compiled
def _loss(away: Floats, covariance: Floats) -> float:
    """awayᵀ Σ away; Σ is the identity where none is given."""
    total = 0.0
    for i in range(away.size):
        if covariance.shape[0] == 0:
            total += away[i] * away[i]
        else:
            for j in range(away.size):
                total += away[i] * covariance[i, j] * away[j]
    return total


@_compiled_loosely
def _summary(index: Floats, years: float, stats: Floats) -> None:
    """Statistics of a share's value, 1 before the first row."""
    total = squares = 0.0
    for i in range(1, index.size):
        move = index[i] / index[i - 1] - 1
        total += move
        squares += move * move
    peak, worst = 1.0, 1.0
    for i in range(index.size):
        peak = max(peak, index[i])
        worst = min(worst, index[i] / peak)
    n = index.size - 1
    mean, per_year = total / n, n / years
    spread = math.sqrt(max(squares / n - mean * mean, 0.0) * n / max(n - 1, 1))
    stats[RETURN] = index[-1] - 1
    stats[ANNUAL] = index[-1] ** (1 / years) - 1 if index[-1] > 0 else -1.0
    stats[VOLATILITY] = spread * math.sqrt(per_year)
    stats[SHARPE] = mean * per_year / stats[VOLATILITY] if stats[VOLATILITY] > 0 else math.nan
    stats[DRAWDOWN] = 1 - worst
    stats[ANNUAL_TURNOVER] = stats[TURNOVER] / years


@_compiled_loosely
def _rebalance(
    goals: Floats,
    moved: Floats,
    held: Floats,
    cash: float,
    fixed: float,
    row: int,
    rate: Floats,
    impact: Floats,
    depth: Floats,
    bill: Floats,
) -> tuple[float, float, int]:
    """From goals as weights to values after costs, in place; (value after, value traded, outcome) and the bill (4,)."""
    y, outcome = _settle(goals, moved, cash, 0.0, fixed, row, rate, impact, depth, bill)
    after = turnover = 0.0
    for i in range(goals.size):
        x = goals[i] * y - moved[i]
        turnover += abs(x)
        goals[i] = held[i] + x if goals[i] == 0 else goals[i] * y
        after += goals[i]
    return after, turnover, outcome


@_compiled
def _by_route(
    amount: float,
    slice_: Floats,
    kept: float,
    row: int,
    per_leg: float,
    rate: Floats,
    impact: Floats,
    depth: Floats,
    nothing: Floats,
    bill: Floats,
) -> tuple[float, float, int]:
    """What a flow for cash changes the value by, what its trading costs who comes or goes, and the outcome.

    `slice_`: the portfolio's weights, `kept`: its cash as a weight. `nothing` is 0, `bill` scratch.
    """
    legs = 0
    for i in range(slice_.size):
        legs += slice_[i] > 0
    cost = per_leg * legs
    if amount > 0:
        added, outcome = _settle(slice_, nothing, amount, kept, cost, row, rate, impact, depth, bill)
        return added, amount - added, FINE if outcome == FINE else FLOW_TOO_DEAR
    a, b, c, _ = _bill(slice_, amount, nothing, row, rate, impact, depth)
    cost += a + b + c
    return amount, cost, FINE if cost <= -amount else FLOW_TOO_DEAR


@_compiled
def _gain(
    held: Floats, after: Floats, value: float, targets: Floats, k: int, aversion: float, covariance: Floats
) -> float:
    """Fall of the tracking loss, in money: value · aversion / 2 · (δᵀΣδ before − after), δ = held / value − target."""
    away, total = np.empty(held.size), 0.0
    for side in range(2):
        for i in range(held.size):
            away[i] = (held[i] if side == 0 else after[i]) / value - targets[k, i]
        total += (1 - 2 * side) * _loss(away, covariance)
    return value * aversion / 2 * total


@_compiled_loosely
def _simulate(
    times: Ints,
    days: NDArray[np.int32],
    prices: Floats,
    dividends: Floats,
    pays: NDArray[np.bool_],
    in_kind: Floats,
    by_route: Floats,
    rate: Floats,
    impact: Floats,
    depth: Floats,
    per_rebalance: float,
    per_leg: float,
    start: float,
    holdings: Floats,
    years: float,
    numbers: Floats,
    keeps: Floats,
    table: Floats,
    setting: NDArray[np.int32],
    slots: NDArray[np.int32],
    covariance: Floats,
    index: Floats,
    stats: Floats,
    series: Floats,
    events: Floats,
    trade_rows: Ints,
    kinds: NDArray[np.int8],
    bills: Floats,
    trades: Floats,
) -> tuple[int, int]:
    """One policy over all rows; fills `index` (T,), `stats` and, where they are not empty, the others.

    series (2, T): value, cash. events (4, T): dividends, fees, flows, their costs. By trade, as far as there are any:
    trade_rows (T,), kinds (T,), bills (T, 4), trades (2, T, n): values traded and units after.

    Returns the outcome and the row that it concerns.
    """
    rows, n = prices.shape
    mode, cooldown, lapses = int(numbers[0]), int(numbers[1]), numbers[2] > 0
    least_gain, aversion = numbers[3], numbers[4]
    targets, bands, stops, calendar_stops = table[0], table[1], table[2], table[3]
    by_slots, by_bands = mode != THRESHOLD, mode != CALENDAR
    has_dividends, has_in_kind, has_route = dividends.shape[0] > 0, in_kind.size > 0, by_route.size > 0
    has_fee = keeps.size > 0
    keeps_series, keeps_events = series.shape[1] > 0, events.shape[1] > 0
    keeps_trades, trade = trades.shape[1] > 0, 0
    no_stops, held, goals, moved, bill = np.zeros((1, n)), np.empty(n), np.empty(n), np.empty(n), np.empty(4)
    units, scale, cash = holdings.copy(), 1.0, start  # held are scale · units
    shares, empty = start, True
    for i in range(n):
        shares += units[i] * prices[0, i]
        empty &= units[i] == 0
    closed, used, all_fees = -1, slots[0], 0.0

    for row in range(rows):
        k = int(setting[row])
        value = 0.0
        for i in range(n):
            value += units[i] * prices[row, i]
        value = scale * value + cash
        paid = fee_paid = flow = flow_cost = 0.0
        if has_dividends and row > 0 and pays[row]:
            for i in range(n):
                paid += units[i] * dividends[row, i]
            paid *= scale
            cash += paid
            value += paid
        if has_fee:
            keep = keeps[days[row]]
            fee_paid = value * (1 - keep)
            value, scale, cash = value * keep, scale * keep, cash * keep
            all_fees += fee_paid
        if has_in_kind and in_kind[row] != 0:
            flow = in_kind[row]
            grow = 1 + flow / value
            if grow <= 0:
                return FLOW_TOO_LARGE, row
            value, scale, cash, shares = value * grow, scale * grow, cash * grow, shares * grow
        if has_route and by_route[row] != 0:
            for i in range(n):
                held[i] = scale * units[i] * prices[row, i] / value
            added, flow_cost, outcome = _by_route(
                by_route[row], held, cash / value, row, per_leg, rate, impact, depth, no_stops[0], bill
            )
            grow = 1 + added / value
            if outcome != FINE or grow <= 0:
                return outcome if outcome != FINE else FLOW_TOO_LARGE, row
            flow += added
            value, scale, cash, shares = value * grow, scale * grow, cash * grow, shares * grow
            stats[FLOW_COSTS] += flow_cost

        due, hit = by_slots and slots[row] > used, False
        if by_bands and not empty:
            for i in range(n):
                away = abs(scale * units[i] * prices[row, i] - targets[k, i] * value)
                hit |= away >= bands[k, i] * value
        kind = NONE
        if empty or (
            ((due and hit) if mode == BOTH else (due or hit))
            and (closed < 0 or times[row] >= closed + cooldown)
        ):
            for i in range(n):
                held[i] = scale * units[i] * prices[row, i]
            if empty:
                legs = _aim(goals, moved, held, value, targets, k, no_stops, 0)
            else:
                legs = _aim(goals, moved, held, value, targets, k, calendar_stops if due else stops, k)
            after, turnover, outcome = value, 0.0, FINE
            if legs > 0:
                fixed = per_rebalance + per_leg * legs
                after, turnover, outcome = _rebalance(
                    goals, moved, held, cash, fixed, row, rate, impact, depth, bill
                )
            if outcome != FINE:
                return outcome, row
            go = turnover > MIN_TURNOVER * value
            if go and least_gain > 0 and not empty:
                go = _gain(held, goals, value, targets, k, aversion, covariance) >= least_gain * (
                    value - after
                )
            if go:
                kind = FIRST if empty else BY_CALENDAR * due + BY_THRESHOLD * hit
                if not empty:
                    closed = times[row]
                if due:
                    used = slots[row]
                stats[REBALANCES] += 1
                stats[TURNOVER] += turnover / value
                for c in range(4):
                    stats[COST] += bill[c]
                    stats[COST + 1 + c] += bill[c]
                for i in range(n):
                    units[i] = goals[i] / prices[row, i]
                if keeps_trades:
                    trade_rows[trade], kinds[trade], bills[trade] = row, kind, bill
                    for i in range(n):
                        trades[0, trade, i], trades[1, trade, i] = goals[i] - held[i], units[i]
                    trade += 1
                value, scale, cash, empty = after, 1.0, 0.0, False
        if lapses:
            used = slots[row]

        index[row] = value / shares
        if keeps_series:
            series[0, row], series[1, row] = value, cash
        if keeps_events:
            events[0, row], events[1, row], events[2, row], events[3, row] = paid, fee_paid, flow, flow_cost
    stats[VALUE], stats[FEES] = index[-1] * shares, all_fees
    _summary(index, years, stats)
    return FINE, 0


# ---------------------------------------------------------------- around them


@dataclass(frozen=True, eq=False)
class Job:
    """What all policies of a comparison share: market, costs and start, checked and as the kernel wants them."""

    market: Market
    cash: float
    holdings: Floats  # (n,) units
    shared: tuple[Any, ...]  # first arguments of the kernel

    @property
    def quiet(self) -> bool:
        """No dividends and no flows."""
        market = self.market
        return market.dividends is None and market.flows_in_kind is None and market.flows_by_route is None

    @cached_property
    def zeros(self) -> Floats:
        """(4, T) what a quiet market pays, for all results to share."""
        return np.zeros((4, len(self.market.times)))

    @cached_property
    def day_counts(self) -> Floats:
        """0, 1, ... up to the most UTC days between two rows."""
        return np.arange(self.shared[1].max() + 1, dtype=np.float64)

    @staticmethod
    def of(data: Any, costs: Costs | None = None, cash: float = 1_000_000.0, holdings: Any = None) -> Job:
        """`data`: Market or DataFrame. With `holdings` (n,) nothing has to be bought in the first row."""
        market = Market.of(data)
        rows, n = market.shape
        costs = costs or Costs()
        units = shaped("holdings", 0.0 if holdings is None else holdings, 1, n)[0].copy()
        if not 0 <= cash < np.inf or (cash == 0 and not units.any()):
            raise BacktestError(f"cash: {cash} is not an amount to start with")
        empty, none = np.empty((0, n)), np.empty(0)
        rate, impact, depth = _cost_tables(costs, rows, n)
        dividends = empty if market.dividends is None else market.dividends
        days = market.times // DAY
        shared = (
            market.times,
            np.diff(days, prepend=days[0]).astype(np.int32),  # UTC days since the row before
            market.prices,
            dividends,
            dividends.any(axis=1),
            none if market.flows_in_kind is None else market.flows_in_kind,
            none if market.flows_by_route is None else market.flows_by_route,
            rate,
            impact,
            depth,
            _amount("per_rebalance", costs.per_rebalance),
            _amount("per_leg", costs.per_leg),
            float(cash),
            units,
            market.years,
        )
        return Job(market, cash, units, shared)


def run(
    data: Any,
    policy: Policy,
    costs: Costs | None = None,
    *,
    cash: float = 1_000_000.0,
    holdings: Any = None,
) -> Result:
    """One backtest, row by row. `data`: a Market, or a DataFrame of prices with a row a date and a column an asset."""
    return simulate(Job.of(data, costs, cash, holdings), policy)


def simulate(job: Job, policy: Policy) -> Result:
    """`run` for a job that is prepared already."""
    market, plan = job.market, schedule(policy, job.market)
    rows, n = market.shape
    index, series = np.empty(rows), np.empty((2, rows))
    quiet = policy.fee_bps == 0 and job.quiet
    events = job.zeros if quiet else np.empty((4, rows))
    room = rows  # for a trade in every row; only what is used is ever touched, but the system must be able to give it
    if rows * n > MOST_ROOM:
        room = int(play(job, policy, plan, index, nothing_kept(n))[REBALANCES])
    trade_rows, kinds = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int8)
    bills, trades = np.empty((room, len(CAUSES))), np.empty((2, room, n))
    kept = (series, events[:, :0] if quiet else events, trade_rows, kinds, bills, trades)
    stats = play(job, policy, plan, index, kept)
    count = int(stats[REBALANCES])
    return Result(
        market=market,
        policy=policy,
        value=series[0],
        index=index,
        cash=series[1],
        dividends=events[0],
        fees=events[1],
        flows=events[2],
        flow_costs=events[3],
        trade_rows=trade_rows[:count].copy(),
        trade_kinds=kinds[:count].copy(),
        trade_costs=bills[:count].copy(),
        trades=trades[0, :count].copy(),
        units=np.concatenate((job.holdings[None], trades[1, :count])),
        schedule=plan,
        statistics=dict(zip(STATISTICS, stats.tolist(), strict=True)),
    )


def nothing_kept(n: int) -> tuple[Any, ...]:
    """Empty arrays for `play`: statistics only."""
    return (
        np.empty((2, 0)),
        np.empty((4, 0)),
        np.empty(0, dtype=np.int64),
        np.empty(0, dtype=np.int8),
        np.empty((0, len(CAUSES))),
        np.empty((2, 0, n)),
    )


def play(job: Job, policy: Policy, plan: Schedule, index: Floats, kept: tuple[Any, ...]) -> Floats:
    """Statistics of a policy, in the order of `STATISTICS`; `index` (T,) and the arrays `kept` are filled."""
    _, n = job.market.shape
    settings = (policy.mode, policy.cooldown_seconds, plan.lapses, policy.gain_over_cost, policy.aversion)
    numbers = np.array(settings, dtype=np.float64)
    fee = policy.fee_bps / 10_000
    keeps = 1 / (1 + fee * job.day_counts / 365) if fee > 0 else job.day_counts[:0]
    covariance = np.empty((0, n)) if policy.covariance is None else _covariance(policy.covariance, n)
    stats = np.zeros(len(STATISTICS))
    own = (numbers, keeps, plan.table, plan.setting, plan.slots, covariance, index, stats)
    arguments: tuple[Any, ...] = (*job.shared, *own, *kept)
    outcome, row = _simulate(*arguments)
    if outcome != FINE:
        raise BacktestError(REFUSED[outcome].format(where=job.market.where(row)))
    return stats


REFUSED = {
    TOO_DEAR: "costs: {where}: a rebalance would cost more than the portfolio is worth",
    DRAINED: "pool_depth: {where}: a rebalance would buy more than a pool holds",
    FLOW_TOO_DEAR: "flows_by_route: {where}: the flow cannot pay its own trading, or a pool is too small for it",
    FLOW_TOO_LARGE: "flows: {where}: the redemption takes all that the portfolio is worth, or more",
}


def _cost_tables(costs: Costs, rows: int, n: int) -> tuple[Floats, Floats, Floats]:
    """Rate (n,), impact coefficient per value^1.5 and pool depth, each (0 | 1 | T, n)."""
    rate = shaped("proportional_bps", costs.proportional_bps, 1, n, 0.0, 9_999)[0] / 10_000
    impact = depth = np.empty((0, n))
    if _amount("impact", costs.impact) > 0:
        for name in ("volatility", "daily_volume"):
            if getattr(costs, name) is None:
                raise BacktestError(f"{name}: needed because impact is above 0")
        volatility = shaped("volatility", costs.volatility, rows, n)
        volume = shaped("daily_volume", costs.daily_volume, rows, n, np.finfo(np.float64).tiny)
        impact = costs.impact * volatility / np.sqrt(volume)
    if costs.pool_depth is not None:
        depth = shaped("pool_depth", costs.pool_depth, rows, n, np.finfo(np.float64).tiny)
    return rate, impact, depth


def _amount(name: str, value: float) -> float:
    if not 0 <= value < np.inf:
        raise BacktestError(f"{name}: {value} is not a number of at least 0")
    return float(value)


def _covariance(value: Any, n: int) -> Floats:
    matrix = np.ascontiguousarray(value, dtype=np.float64)
    if matrix.shape != (n, n) or not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        raise BacktestError(f"covariance: needs a symmetric table of {n} rows of {n} finite numbers")
    return matrix
