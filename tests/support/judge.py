"""A second opinion on a plan, worked out from docs/spec.md and Uniswap's formulas alone.

`Judge(problem, prices)` states the continuous problem for cvxpy and Clarabel: amounts are real numbers, gas counts only
through the legs that the caller lets in. It shares no code with the planner but the dataclasses of pools and problem.
Values are shares of the NAV before the trade; `objective` is the planner's J over V, gas left out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import cvxpy as cp
import numpy as np

from offchain.planner import Plan, Pool, Problem, V2Pool

WAD = 10**18
GAS = {
    "v2": 70_000,
    "v3": 90_000,
    "sweep": 30_000,
    "vault": 250_000,
}  # docs/planner.md, measured by `make gas`


@dataclass(frozen=True)
class Facts:
    """The vault in fractions: what the rules compare."""

    nav: Fraction  # USD
    value: list[Fraction]  # USD
    weight: list[Fraction]
    target: list[Fraction]
    band: list[Fraction]
    tolerance: list[Fraction]
    closing: list[Fraction]  # drift at which the session closes
    budget: Fraction  # what the loss budget has left
    aside: int  # index in quarantine, or −1


def facts(problem: Problem) -> Facts:
    """From the spec's table of quantities, without its rounding."""
    state, now = problem.state, problem.now
    n, bp = len(state.assets), Fraction(1, 10_000)
    aside = state.aside if now < state.aside_until and state.aside < n else -1
    value = [
        Fraction(0) if i == aside else Fraction(q * p, 10**a.decimals * WAD)
        for i, (q, p, a) in enumerate(zip(state.balances, state.prices, state.assets, strict=True))
    ]
    nav = sum(value, Fraction(0))
    own = [a.target_bps * bp for a in state.assets]
    whole = 1 - (own[aside] if aside >= 0 else 0)
    target = [Fraction(0) if i == aside else t / whole for i, t in enumerate(own)]
    band = [
        max(25 * bp, min(a.band_points_bps * bp, a.band_relative_bps * bp * t))
        for a, t in zip(state.assets, target, strict=True)
    ]
    tolerance = [min(state.rules.tolerance_bps * bp, b / 4) for b in band]
    s, rules = state.session, state.rules
    if s.id and not s.closed_at and now < s.opened_at + rules.window_seconds:
        calendar = s.by_calendar
    else:  # days only, which is all that the tests use
        late = now >= rules.calendar_anchor
        slot = (now - rules.calendar_anchor) // (rules.calendar_every * 86_400) + 1 if late else 0
        calendar = slot > s.slot and rules.mode != 1
    used = Fraction(state.loss_used, WAD) - (now - state.loss_time) * rules.loss_refill_bps_per_year * bp / (
        365 * 86_400
    )
    return Facts(
        nav, value, [v / nav for v in value], target, band, tolerance,
        tolerance if calendar else [b / 2 for b in band], rules.loss_capacity_bps * bp - max(used, Fraction(0)), aside,
    )  # fmt: skip


def objective(problem: Problem, balances_after: tuple[int, ...] | list[int]) -> Fraction:
    """J over V of an outcome, gas left out, exactly."""
    f, state = facts(problem), problem.state
    after = [
        Fraction(0) if i == f.aside else Fraction(q * p, 10**a.decimals * WAD)
        for i, (q, p, a) in enumerate(zip(balances_after, state.prices, state.assets, strict=True))
    ]
    drift = [v / f.nav - t for v, t in zip(after, f.target, strict=True)]
    if problem.covariance is None:
        variance = sum((d * d for d in drift), Fraction(0))
    else:
        variance = sum(
            (
                d * e * Fraction(s, WAD)
                for d, row in zip(drift, problem.covariance, strict=True)
                for s, e in zip(row, drift, strict=True)
            ),
            Fraction(0),
        )
    reopen = Fraction(state.rules.max_slippage_bps if problem.closing else 0, 10_000)
    left = sum(after)
    loose = (
        sum(
            (
                max(abs(v - t * left) - c * left, Fraction(0))
                for v, t, c in zip(after, f.target, f.closing, strict=True)
            ),
            Fraction(0),
        )
        / f.nav
    )
    tax = sum(
        (
            Fraction(rate * max(q - r, 0), WAD * 10**a.decimals)
            for rate, q, r, a in zip(
                problem.tax_per_token, state.balances, balances_after, state.assets, strict=False
            )
        ),
        Fraction(0),
    )
    return (
        Fraction(problem.risk_aversion, 2 * WAD) * variance + reopen * loose + 1 - left / f.nav + tax / f.nav
    )


def gas_usd(problem: Problem, v2: int, v3: int, sweeps: int = 0) -> Fraction:
    """What so many legs cost, as a share of the NAV."""
    if not v2 + v3:
        return Fraction(0)
    units = GAS["vault"] + GAS["v2"] * v2 + GAS["v3"] * v3 + GAS["sweep"] * sweeps
    return Fraction(units * problem.gas_price, WAD) / facts(problem).nav


LARGEST = 3.0  # NAV: more than any leg of a plan can carry

# ---------------------------------------------------------------- pools as curves


@dataclass(frozen=True)
class Curve:
    """One stretch of a pool in one direction: pays price·φ/(1 + bend·φ) for φ after the fee, up to `most`."""

    leg: int  # 2 · pool + (0 where token0 is sold)
    price: float  # token units out a unit in
    bend: float  # a unit in
    most: float  # units in, after the fee


def curves(pool: Pool, place: int) -> list[Curve]:
    """From x·y = k, for V3 on each range between two ticks; nothing where there is no price or no liquidity."""
    if isinstance(pool, V2Pool):
        if not (pool.reserve0 and pool.reserve1):
            return []
        x, y = float(pool.reserve0), float(pool.reserve1)
        return [Curve(2 * place, y / x, 1 / x, x * 1e6), Curve(2 * place + 1, x / y, 1 / y, y * 1e6)]
    if not pool.sqrt_price_x96:
        return []
    found, root = [], pool.sqrt_price_x96 / 2**96
    at, liquidity = root, pool.liquidity
    below = sorted((t for t in pool.ticks if t[0] <= pool.tick and t[0] >= pool.known_from), reverse=True)
    for tick, net in [*below, (pool.known_from, 0)]:  # token0 comes in, its price falls
        to = 1.0001 ** (tick / 2)
        if to < at and liquidity > 0:
            found.append(Curve(2 * place, at * at, at / liquidity, liquidity * (1 / to - 1 / at)))
        at, liquidity = min(to, at), liquidity - net
    at, liquidity = root, pool.liquidity
    above = sorted(t for t in pool.ticks if t[0] > pool.tick and t[0] <= pool.known_to)
    for tick, net in [*above, (pool.known_to, 0)]:  # token1 comes in: the price of token1 falls
        to = 1.0001 ** (tick / 2)
        if to > at and liquidity > 0:
            found.append(Curve(2 * place + 1, 1 / (at * at), 1 / (at * liquidity), liquidity * (to - at)))
        at, liquidity = max(to, at), liquidity + net
    return found


def fee(pool: Pool) -> float:
    return pool.fee_bps / 1e4 if isinstance(pool, V2Pool) else pool.fee / 1e6


# ---------------------------------------------------------------- the continuous problem


class Judge:
    """The continuous optimum over any set of legs. `prices`: USD per whole token of tokens outside, by address."""

    def __init__(self, problem: Problem, outside: dict[str, tuple[float, int]]) -> None:
        self.problem, self.facts = problem, facts(problem)
        state, f = problem.state, self.facts
        self.tokens = [a.token.lower() for a in state.assets]
        unit = [
            float(Fraction(p, 10**a.decimals * WAD) / f.nav)
            for p, a in zip(state.prices, state.assets, strict=True)
        ]
        known = set(self.tokens)
        for address, (price, decimals) in outside.items():
            if address.lower() not in known:
                self.tokens.append(address.lower())
                unit.append(price / 10**decimals / float(f.nav))
        self.unit = unit
        index = {t: i for i, t in enumerate(self.tokens)}
        self.ends = []  # of each leg: token in, token out
        pieces: list[Curve] = []
        for k, pool in enumerate(problem.pools):
            a, b = index[pool.token0.lower()], index[pool.token1.lower()]
            self.ends += [(a, b), (b, a)]
            if f.aside not in (a, b):
                pieces += curves(pool, k)
        self.burnt, self.exact, self.dear = 0.0, True, 1.0
        self.curves = [c for c in pieces if c.most > 0 and self._rate(c) > 0.05]
        self.priced = len(state.assets) if not (problem.hub_price and problem.hub) else len(state.assets) + 1
        self.legs = sorted({c.leg for c in self.curves})
        if self.curves:
            self._state()

    def _rate(self, curve: Curve) -> float:
        """Value out a value in, at first."""
        tin, tout = self.ends[curve.leg]
        return curve.price * self.unit[tout] / self.unit[tin]

    def _state(self) -> None:
        """Variables and rules, once; which legs may be used is a parameter."""
        p, f, n = self.problem, self.facts, len(self.problem.state.assets)
        legs = np.array([c.leg for c in self.curves])
        tin = np.array([self.ends[leg][0] for leg in legs])
        tout = np.array([self.ends[leg][1] for leg in legs])
        u = np.array(self.unit)
        price = np.array([c.price for c in self.curves]) * u[tout] / u[tin]  # value out a value in
        bend = np.array([c.bend for c in self.curves]) / u[tin]
        most = np.minimum(np.array([c.most for c in self.curves]) * u[tin], LARGEST)
        keep = np.array([1 - fee(p.pools[leg // 2]) for leg in legs])
        scale = np.minimum(np.minimum(1.0, 1 / bend), most)
        self.scale, self.keep, self.leg_of, self.tin, self.tout = scale, keep, legs, tin, tout
        flow, paid = cp.Variable(len(legs), nonneg=True), cp.Variable(len(legs))
        self.flow, self.paid, self.paid_of = flow, paid, price * scale
        self.on = cp.Parameter(len(legs), nonneg=True)
        bent = self.bent = bend * scale
        # κφ² ≤ (φ − g)(1 + κφ): g ≤ φ/(1 + κφ)
        slack = flow - paid
        rows = [
            cp.SOC(
                slack + 1 + cp.multiply(bent, flow),
                cp.vstack([2 * cp.multiply(np.sqrt(bent), flow), slack - 1 - cp.multiply(bent, flow)]),
                axis=0,
            ),
            flow <= cp.multiply(self.on, most / scale),
        ]
        into, out = (np.zeros((len(self.tokens), len(legs))) for _ in range(2))
        into[tin, np.arange(len(legs))] = scale / keep
        out[tout, np.arange(len(legs))] = price * scale
        net = out @ paid - into @ flow
        x = cp.Variable(n)
        self.x = x
        rows.append(net[:n] == x)
        if len(self.tokens) > n:
            rows.append(net[n:] == 0)
        if p.pool_limit_bps < 10_000:
            rows += self._pool_limits(paid, flow, price, legs)
        value, target = (np.array([float(v) for v in side]) for side in (f.weight, f.target))
        tolerance = np.array([float(t) for t in f.tolerance])
        over = np.array([w > t for w, t in zip(f.weight, f.target, strict=True)])
        under = np.array([w < t for w, t in zip(f.weight, f.target, strict=True)])
        for i in range(n):
            if i == f.aside or not (over[i] or under[i]):
                rows.append(x[i] == 0)
            elif over[i]:  # the vault sends whole token units of what lies above the target
                excess = (f.value[i] - f.target[i] * f.nav) * 10 ** p.state.assets[i].decimals * WAD
                rows += [x[i] <= 0, x[i] >= -float(excess // p.state.prices[i]) * self.unit[i]]
            else:
                rows.append(x[i] >= 0)
        rules, total = p.state.rules, cp.sum(x)
        sold = -cp.sum(x[np.flatnonzero(over)]) if np.any(over) else 0
        slippage = max(rules.max_slippage_bps - p.slippage_margin_bps, 0) / 1e4
        error = np.array([a.price_error_bps for a in p.state.assets]) / 1e4
        signed = np.where(over, -1.0, 1.0)
        self.loss_rows = [-total <= slippage * sold, -total + (error * signed) @ x <= float(f.budget)]
        # drift falls by what is sold, all times the NAV after; with what was sold that is no convex rule, so the NAV
        # after is put in by `_run`
        self.left = cp.Parameter(nonneg=True, value=1.0)
        before = float(np.sum(np.abs(value - target)))
        self.falls = cp.sum(cp.abs(value + x - target * (1 + total))) + self.left * sold <= before * (
            1 + total
        )
        rows += [
            *self.loss_rows,
            self.falls,
            (error * signed) @ x <= float(f.budget),
            signed @ x <= p.turnover_cap / WAD,
        ]
        bought = [i for i in range(n) if under[i] and i != f.aside]
        loses, gains = [total <= 0], [total >= 0]
        for i in bought:
            limit = (target[i] + tolerance[i]) * (1 + total)
            loses.append(value[i] + x[i] <= limit)
            gains.append(value[i] + x[i] <= limit + total)
        sigma = np.eye(n) if p.covariance is None else np.array(p.covariance, dtype=float) / WAD
        vals, vecs = np.linalg.eigh((sigma + sigma.T) / 2)
        root = (vecs * np.sqrt(np.maximum(vals, 0))).T
        drift = (value - target) + x
        goal = p.risk_aversion / WAD / 2 * cp.sum_squares(root @ drift) - total
        if p.closing:
            limits = np.array([float(c) for c in f.closing])
            off = value + x - target * (1 + total)  # against the NAV after
            goal += rules.max_slippage_bps / 1e4 * cp.sum(cp.pos(cp.abs(off) - limits * (1 + total)))
        for i, tax in enumerate(p.tax_per_token):
            if over[i] and p.state.prices[i]:
                goal += tax / p.state.prices[i] * -x[i]
        self.branches = [cp.Problem(cp.Minimize(goal), rows + more) for more in (loses, gains)]

    def _pool_limits(self, paid: Any, flow: Any, price: np.ndarray, legs: np.ndarray) -> list[Any]:
        """No pool at a worse average price, where the oracle prices both tokens."""
        least, rows = 1 - self.problem.pool_limit_bps / 1e4, []
        for leg in self.legs:
            mine = np.flatnonzero(legs == leg)
            if max(self.ends[leg]) < self.priced:
                rows.append(
                    (price * self.scale)[mine] @ paid[mine]
                    >= least * (self.scale / self.keep)[mine] @ flow[mine]
                )
        return rows

    def solve(self, legs: set[int] | None = None) -> tuple[float, set[int]]:
        """(J over V, legs used) over all legs or these; (inf, …) where the solver fails."""
        if not self.curves:
            return float(objective(self.problem, self.problem.state.balances)), set()
        self.on.value = np.array([1.0 if legs is None or leg in legs else 0.0 for leg in self.leg_of])
        best, used = np.inf, set()
        for branch in self.branches:
            if not self._run(branch):
                continue
            if branch.value < best:
                best = float(branch.value)
                self.dear = 1 + sum(float(abs(row.dual_value)) for row in self.loss_rows)
                into = self.scale * self.flow.value
                flow = np.maximum(self.flow.value, 0)
                could = flow / (1 + self.bent * flow)
                self.burnt = float(np.sum(np.maximum(could - self.paid.value, 0) * self.paid_of))
                used = {leg for leg in self.legs if np.sum(into[self.leg_of == leg]) > 1e-7}
        return best, used

    def _run(self, branch: cp.Problem) -> bool:
        """With the NAV after in the rule on drift where that binds."""
        self.left.value = 1.0
        for _ in range(6):
            if not self._optimise(branch):
                return False
            left = 1 + float(np.sum(self.x.value))
            if abs(left - self.left.value) < 1e-9 or float(np.max(np.abs(self.falls.dual_value))) < 1e-7:
                return True
            self.left.value = left
        return True

    def _optimise(self, branch: cp.Problem) -> bool:
        """As exactly as Clarabel can."""
        self.exact = True
        for tight in (1e-11, 1e-9, 1e-8):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    branch.solve(
                        solver=cp.CLARABEL, tol_gap_abs=tight, tol_gap_rel=tight, tol_feas=tight, max_iter=300
                    )
                except cp.SolverError:
                    continue
            if branch.status == cp.OPTIMAL:
                return True
        self.exact = False
        return bool(branch.status == cp.OPTIMAL_INACCURATE)

    def turns(self, legs: set[int]) -> bool:
        """Some of these legs form a circle."""
        left = {self.ends[leg] for leg in legs}
        while True:
            inner = {(a, b) for a, b in left if any(b == c for c, _ in left) and any(a == d for _, d in left)}
            if inner == left:
                return bool(left)
            left = inner

    def ordered(self) -> float:
        """The optimum of plans that run their tokens in an order: the least over all orders. For few tokens."""
        best, used = self.solve()
        if not self.turns(used):
            return best
        busy = sorted({t for leg in self.legs for t in self.ends[leg]})
        found, dear = float(objective(self.problem, self.problem.state.balances)), 1.0
        for order in permutations(busy):
            place = {t: k for k, t in enumerate(order)}
            value, _ = self.solve(
                {leg for leg in self.legs if place[self.ends[leg][0]] < place[self.ends[leg][1]]}
            )
            if value < found:
                found, dear = value, self.dear
        self.dear = dear
        return found

    def subsets(self) -> float:
        """The optimum with gas, by trying every set of legs without a circle. For few legs."""
        best, dear = float(objective(self.problem, self.problem.state.balances)), 1.0
        pools = sorted({leg // 2 for leg in self.legs})
        for choice in product((None, 0, 1), repeat=len(pools)):
            legs = {2 * k + d for k, d in zip(pools, choice, strict=True) if d is not None}
            if not legs or self.turns(legs) or not legs <= set(self.legs):
                continue
            kinds = [isinstance(self.problem.pools[leg // 2], V2Pool) for leg in legs]
            ends = [self.ends[leg] for leg in legs]
            kept = sum(  # an asset that is bought and sold on is swept to the vault
                self.facts.weight[i] < self.facts.target[i]
                and any(i == a for a, _ in ends)
                and any(i == b for _, b in ends)
                for i in range(len(self.problem.state.assets))
            )
            gas = float(gas_usd(self.problem, sum(kinds), len(kinds) - sum(kinds), kept))
            if gas < best:
                value = self.solve(legs)[0] + gas
                if value < best:
                    best, dear, self.best_legs = value, self.dear, legs
        self.dear = dear
        return best


def allowance(judge: Judge, found: Plan) -> float:
    """What a plan may be above the continuous optimum: rounding, as dear as the rules make a loss there.

    Floats to 1e-9 of NAV. Of each leg two units of what goes in (a V3 pool rounds its fee and its input up) and one
    that comes out; of each trade one sold. `judge.dear`: the dual price of NAV lost, which is hundreds where a large
    trade fits the slippage limit only just.
    """
    return 3e-7 + judge.dear * (1e-9 + 3 * (len(found.legs) + 1) * max(judge.unit))
