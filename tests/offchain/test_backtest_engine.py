"""The fast engine: the anchors' figures, a slow independent engine that must agree, exact accounting, no look-ahead."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.datasets import load_sp500_dataset

from offchain import policy as vault
from offchain.backtest import BacktestError, Costs, Job, Kind, Market, Policy, RebalanceTo, run, simulate
from offchain.policy import CalendarUnit, Mode

DAY = 86_400


# ---------------------------------------------------------------- the anchors' job


@cache
def stocks() -> Market:
    return Market.of(load_sp500_dataset())


def quarterly(tau: float, **more: object) -> Policy:
    return Policy(np.full(20, 0.05), bands=tau, **more)


@pytest.mark.parametrize(
    ("tau", "final", "rebalances"), [(0.05, 257_129_209.433, 138), (0.01, 237_174_055.778, 555)]
)
def test_the_anchors_values_to_the_printed_digits(tau: float, final: float, rebalances: int) -> None:
    found = run(stocks(), quarterly(tau), Costs(proportional_bps=10))
    assert (round(found.final_value, 3), found.rebalances) == (final, rebalances)
    assert round(found.statistics["final_value"], 3) == final
    assert found.value[0] == pytest.approx(1_000_000 / 1.001, rel=1e-15)


def test_quarter_and_breach_together() -> None:
    policy = quarterly(0.05, mode=Mode.BOTH, first_row_only=True)
    found = run(stocks(), policy, Costs(proportional_bps=10))
    assert (round(found.final_value, 3), found.rebalances) == (220_141_788.855, 19)


def test_the_vaults_slot_stays_due_until_a_band_is_hit() -> None:
    found = run(stocks(), quarterly(0.05, mode=Mode.BOTH), Costs(proportional_bps=10))
    assert found.rebalances == 25  # not 19: the breach may come later in the quarter


def test_bands_in_the_vaults_words_give_the_same() -> None:
    words = Policy(np.full(20, 0.05), band_points_bps=500, band_relative_bps=10_000)
    found = run(stocks(), words, Costs(proportional_bps=10))
    assert (round(found.final_value, 3), found.rebalances) == (257_129_209.433, 138)


# ---------------------------------------------------------------- an independent engine


def month(timestamp: int) -> int:
    moment = pd.Timestamp(timestamp, unit="s")
    return 12 * moment.year + moment.month


class Slow:
    """The engine's docstring in plain Python: one asset at a time, roots by bisection."""

    def __init__(self, market: Market, policy: Policy, costs: Costs, cash: float) -> None:
        self.m, self.p, self.c, self.cash, self.n = market, policy, costs, cash, market.shape[1]
        self.units, self.shares = np.zeros(self.n), cash
        self.last, self.slot_used = None, self.slot(0)
        self.rows: list[dict[str, object]] = []

    def at(self, value: object, row: int) -> np.ndarray:
        array = np.asarray(value, dtype=float)
        return array[row] if array.ndim == 2 else np.broadcast_to(array, self.n)

    def slot(self, row: int) -> int:
        now, p = int(self.m.times[row]), self.p
        if now < p.calendar_anchor:
            return 0
        if p.calendar_unit == CalendarUnit.DAYS:
            return (now - p.calendar_anchor) // (p.calendar_every * DAY) + 1
        return (month(now) - month(p.calendar_anchor)) // p.calendar_every + 1

    def target(self, row: int) -> np.ndarray:
        table = np.asarray(self.p.targets, dtype=float)
        if table.ndim == 1:
            return table
        while np.isnan(table[row]).any():
            row -= 1
        return table[row]

    def band(self, row: int, target: np.ndarray) -> np.ndarray:
        p = self.p
        if p.bands is not None:
            return self.at(p.bands, row)
        narrow = np.minimum(
            self.at(p.band_points_bps, row) / 1e4, self.at(p.band_relative_bps, row) / 1e4 * target
        )
        return np.maximum(0.0025, narrow)

    def bill(self, trades: np.ndarray, row: int) -> np.ndarray:
        """Proportional, impact and pool cost."""
        size, c = np.abs(trades), self.c
        total = np.zeros(3)
        total[0] = (self.at(c.proportional_bps, row) / 1e4 * size).sum()
        if c.impact:
            rate = c.impact * self.at(c.volatility, row) * np.sqrt(size / self.at(c.daily_volume, row))
            total[1] = (rate * size).sum()
        if c.pool_depth is not None:
            depth = self.at(c.pool_depth, row)
            for x, whole in zip(trades, depth, strict=True):
                if np.isfinite(
                    whole
                ):  # x · y = k with both sides worth `whole`; what comes in less what goes out
                    total[2] += whole * whole / (whole - x) - whole - x
        return total

    def root(
        self,
        goals: np.ndarray,
        values: np.ndarray,
        moved: np.ndarray,
        cash: float,
        row: int,
        fixed: float,
        kept: float,
    ) -> float:
        budget, weight = values[moved].sum() + cash, goals[moved].sum() + kept
        low, high = 0.0, budget / weight
        for _ in range(200):
            y = (low + high) / 2
            spent = np.where(moved, goals * y - values, 0.0)
            if y * weight + self.bill(spent, row).sum() + fixed < budget:
                low = y
            else:
                high = y
        return (low + high) / 2

    def goals(self, weights: np.ndarray, target: np.ndarray, stop: np.ndarray) -> np.ndarray:
        away = np.clip(weights - target, -stop, stop)
        over, under = away.clip(0).sum(), (-away).clip(0).sum()
        side = 1.0 if over > under else -1.0
        low, high = 0.0, 1.0  # the largest distance left on the longer side
        for _ in range(100):
            most = (low + high) / 2
            if np.minimum((side * away).clip(0), most).sum() < min(over, under):
                low = most
            else:
                high = most
        return target + np.where(side * away > high, side * high, away)

    def flow(self, row: int, record: dict[str, object]) -> None:
        value = record["value"]
        kind = 0.0 if self.m.flows_in_kind is None else self.m.flows_in_kind[row]
        if kind:
            self.grow(kind / value)
            value += kind
        route = 0.0 if self.m.flows_by_route is None else self.m.flows_by_route[row]
        added = cost = 0.0
        if route:
            part = self.units * self.m.prices[row] / value
            fixed = self.c.per_leg * (part > 0).sum()
            everything = np.ones(self.n, dtype=bool)
            if route > 0:
                added = self.root(part, np.zeros(self.n), everything, route, row, fixed, self.cash / value)
                cost = route - added
            else:
                added, cost = route, self.bill(part * route, row).sum() + fixed
            self.grow(added / value)
            value += added
        record |= {"value": value, "flows": kind + added, "flow_costs": cost}

    def grow(self, fraction: float) -> None:
        self.units, self.cash, self.shares = (
            x * (1 + fraction) for x in (self.units, self.cash, self.shares)
        )

    def step(self, row: int) -> None:
        m, p, prices = self.m, self.p, self.m.prices[row]
        paid = (self.units * m.dividends[row]).sum() if m.dividends is not None and row else 0.0
        self.cash += paid
        value = (self.units * prices).sum() + self.cash
        fee = 0.0
        if row and p.fee_bps:
            days = int(m.times[row]) // DAY - int(m.times[row - 1]) // DAY
            left = 1 / (1 + p.fee_bps / 1e4 * days / 365)
            fee, value = value - value * left, value * left
            self.units, self.cash = self.units * left, self.cash * left
        record: dict[str, object] = {"value": value, "fees": fee, "dividends": paid}
        self.flow(row, record)
        value = record["value"]
        record |= {"trades": np.zeros(self.n), "costs": np.zeros(4), "kinds": 0}

        first = not self.units.any()
        target = self.target(row)
        weights, band = self.units * prices / value, self.band(row, target)
        hit = not first and p.mode != Mode.CALENDAR and bool((abs(weights - target) >= band).any())
        due = p.mode != Mode.THRESHOLD and self.slot(row) > self.slot_used
        wanted = (hit and due) if p.mode == Mode.BOTH else (hit or due)
        rested = self.last is None or m.times[row] >= self.last + p.cooldown_seconds
        if first or (wanted and rested):
            self.trade(row, record, target, band, first, due, hit)
        if p.first_row_only:
            self.slot_used = self.slot(row)
        value = record["value"]
        record |= {"cash": self.cash, "index": value / self.shares, "weights": self.units * prices / value}
        self.rows.append(record)

    def trade(
        self,
        row: int,
        record: dict[str, object],
        target: np.ndarray,
        band: np.ndarray,
        first: bool,
        due: bool,
        hit: bool,
    ) -> None:
        p, prices, value = self.p, self.m.prices[row], record["value"]
        held = self.units * prices
        stop = {
            RebalanceTo.TARGET: 0 * band,
            RebalanceTo.EDGE: band,
            RebalanceTo.HALF_BAND: band / 2,
            RebalanceTo.CLOSE: np.minimum(p.tolerance_bps / 1e4, band / 4) if due else band / 2,
        }[p.rebalance_to]
        stop = 0 * band if first else stop
        goals = self.goals(held / value, target, stop) if stop.any() else target
        moved = (abs(goals - held / value) > 1e-13) if stop.any() else (target > 0) | (held > 0)
        if not moved.any():
            return
        fixed = self.c.per_rebalance + self.c.per_leg * moved.sum()
        y = self.root(goals, held, moved, self.cash, row, fixed, 0.0)
        after = np.where(moved, goals * y, held)
        if abs(after - held).sum() <= 1e-9 * value:
            return
        if p.gain_over_cost and not first:
            sigma = np.eye(self.n) if p.covariance is None else p.covariance
            before, then = held / value - target, after / value - target
            gain = value * p.aversion / 2 * (before @ sigma @ before - then @ sigma @ then)
            if gain < p.gain_over_cost * (value - after.sum()):
                return
        a, b, c = self.bill(after - held, row)
        self.units, self.cash = after / prices, 0.0
        if not first:
            self.last = m_time = int(self.m.times[row])
            assert m_time
        if due:
            self.slot_used = self.slot(row)
        kind = Kind.FIRST if first else Kind.CALENDAR * due + Kind.THRESHOLD * hit
        record |= {
            "value": after.sum(),
            "trades": after - held,
            "costs": np.array([a, fixed, b, c]),
            "kinds": kind,
        }

    def play(self) -> dict[str, np.ndarray]:
        for row in range(len(self.m.times)):
            self.step(row)
        return {name: np.array([record[name] for record in self.rows]) for name in self.rows[0]}


def random_case(seed: int, rows: int = 160) -> tuple[Market, Policy, Costs]:
    """A market with everything in it, a policy and costs, each feature there or not."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    some = lambda: bool(rng.integers(2))  # noqa: E731
    prices = rng.uniform(5, 500, n) * np.exp(np.cumsum(rng.normal(0, 0.03, (rows, n)), axis=0))
    dates = np.datetime64("2019-11-20T21:00") + np.cumsum(rng.integers(6, 80, rows)).astype("timedelta64[h]")
    happens = rng.random(rows) < 0.06
    happens[[0, -1]] = False
    flows = np.where(happens, rng.choice([-1, 1], rows) * rng.uniform(1_000, 30_000, rows), 0.0)
    by_route = some()
    market = Market(
        dates,
        prices,
        dividends=np.where(rng.random((rows, n)) < 0.02, 0.01 * prices, 0.0) if some() else None,
        flows_in_kind=flows if some() else None,
        flows_by_route=np.roll(flows, 1) if by_route else None,
    )
    targets = rng.dirichlet(np.full(n, 3.0))
    if some():
        moving = np.full((rows, n), np.nan)
        for row in {0, *rng.integers(1, rows, 4).tolist()}:
            moving[row] = rng.dirichlet(np.full(n, 3.0)) * (rng.random(n) > 0.1)
            moving[row] = moving[row] / moving[row].sum() if moving[row].any() else targets
        targets = moving
    bands = (None, 0.02, rng.uniform(0.01, 0.05, n), rng.uniform(0.01, 0.05, (rows, n)))[rng.integers(4)]
    root = rng.normal(0, 1, (n, n))
    policy = Policy(
        targets,
        mode=Mode(int(rng.integers(4))),
        band_points_bps=rng.integers(50, 600, n).tolist(),
        band_relative_bps=rng.integers(300, 3_000, n).tolist(),
        bands=bands,
        calendar_unit=CalendarUnit(int(rng.integers(2))),
        calendar_every=int(rng.integers(1, 25)),
        calendar_anchor=int(rng.integers(1_573_000_000, 1_590_000_000)) if some() else 0,
        cooldown_seconds=int(rng.integers(20)) * DAY if some() else 0,
        tolerance_bps=int(rng.integers(100)),
        rebalance_to=list(RebalanceTo)[rng.integers(4)],
        fee_bps=int(rng.integers(300)) if some() else 0,
        first_row_only=some(),
        gain_over_cost=float(rng.uniform(0.1, 3)) if rng.random() < 0.3 else 0.0,
        aversion=float(rng.uniform(1, 30)),
        covariance=root @ root.T if some() else None,
    )
    depth = rng.uniform(1e6, 5e7, (rows, n) if some() else n)
    costs = Costs(
        proportional_bps=rng.uniform(0, 50, n) if some() else 10,
        per_rebalance=float(rng.uniform(0, 30)) if some() else 0.0,
        per_leg=float(rng.uniform(0, 10)) if some() else 0.0,
        impact=1.0 if some() else 0.0,
        volatility=rng.uniform(0.01, 0.05, (rows, n)),
        daily_volume=rng.uniform(1e6, 1e9, n),
        pool_depth=np.where(rng.random(depth.shape) < 0.2, np.inf, depth) if some() else None,
    )
    return market, policy, costs


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_slow_engine_agrees_on_everything(seed: int) -> None:
    market, policy, costs = random_case(seed)
    found, slow = run(market, policy, costs, cash=800_000.0), Slow(market, policy, costs, 800_000.0).play()
    np.testing.assert_array_equal(found.kinds, slow["kinds"])
    np.testing.assert_array_equal(found.trade_rows, np.flatnonzero(slow["kinds"]))
    for name in ("value", "index", "cash", "weights", "costs", "fees", "flows", "flow_costs", "dividends"):
        scale = 1.0 if name in ("index", "weights") else 800_000.0
        np.testing.assert_allclose(
            getattr(found, name), slow[name], rtol=1e-9, atol=1e-11 * scale, err_msg=name
        )
    np.testing.assert_allclose(found.trades, slow["trades"][found.trade_rows], rtol=1e-9, atol=1e-5)


# ---------------------------------------------------------------- exact accounting


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_unit_is_accounted_for(seed: int) -> None:
    market, policy, costs = random_case(seed)
    found = run(market, policy, costs)
    moved = (found.weights[:-1] * market.prices[1:] / market.prices[:-1]).sum(axis=1) * found.value[:-1]
    explained = (
        moved
        + found.cash[:-1]
        + found.dividends[1:]
        - found.fees[1:]
        + found.flows[1:]
        - found.costs[1:].sum(axis=1)
    )
    np.testing.assert_allclose(found.value[1:], explained, rtol=3e-15 * len(market.names) + 1e-14)
    np.testing.assert_allclose(found.weights.sum(axis=1) + found.cash / found.value, 1, rtol=1e-14)
    assert (found.cash >= 0).all() and (found.weights >= 0).all()
    assert (found.cash[found.trade_rows] == 0).all()
    spent = -found.trades.sum(
        axis=1
    )  # what sales brought beyond purchases, with the cash there was, paid the costs
    before = found.cash[found.trade_rows - 1] * (found.trade_rows > 0)
    if market.dividends is None and (found.flows == 0).all() and policy.fee_bps == 0:
        before[0] = 1_000_000.0
        np.testing.assert_allclose(spent + before, found.costs[found.trade_rows].sum(axis=1), atol=1e-7)
    total = found.statistics
    assert total["cost"] == pytest.approx(sum(found.cost_by_cause.values()), rel=1e-12)
    assert total["fees"] == pytest.approx(found.fees.sum(), rel=1e-12)
    assert total["rebalances"] == found.rebalances


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_weights_after_costs_are_the_targets(seed: int) -> None:
    market, policy, costs = random_case(seed)
    found = run(market, replace(policy, rebalance_to=RebalanceTo.TARGET), costs)
    rows = found.trade_rows
    np.testing.assert_allclose(found.weights[rows], found.targets[rows], atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_is_traded_away_from_or_past_its_target(seed: int) -> None:
    """The vault's rule 2, up to the costs, which what is traded pays: each in proportion to its goal."""
    market, policy, costs = random_case(seed)
    market = replace(market, dividends=None, flows_in_kind=None, flows_by_route=None)
    found = run(market, replace(policy, fee_bps=0), costs)
    for row, trade in list(zip(found.trade_rows, found.trades, strict=True))[1:]:
        cost, target = found.costs[row].sum(), found.targets[row]
        before = found.value[row] + cost
        held = found.weights[row] * found.value[row] - trade
        away, rest = held / before - target, found.weights[row] - target
        traded = trade != 0
        share = found.weights[row] / found.weights[row][traded].sum()
        noise = 1e-12 * before + 1.05 * cost * share
        assert (trade[away > 0] <= noise[away > 0]).all() and (trade[away < 0] >= -noise[away < 0]).all()
        past = noise / before
        assert (rest[away > 0] >= -past[away > 0]).all() and (rest[away < 0] <= past[away < 0]).all()


def test_rebalancing_to_half_the_band_closes_the_session() -> None:
    policy = quarterly(0.02, mode=Mode.THRESHOLD, rebalance_to=RebalanceTo.HALF_BAND)
    found = run(stocks(), policy)
    drift = abs(found.weights - 0.05)[found.trade_rows[1:]]
    assert found.rebalances > 50 and drift.max() <= 0.01 + 1e-12
    assert (drift.max(axis=1) > 0.0099).all()  # and goes no further


def test_only_what_drifted_and_one_counterpart_are_traded() -> None:
    prices = np.array([[1.0, 1, 1, 1], [1.5, 1, 1, 0.99]])
    policy = Policy(np.full(4, 0.25), Mode.THRESHOLD, bands=0.05, rebalance_to=RebalanceTo.EDGE)
    found = run(Market(["2024-01-01", "2024-01-02"], prices), policy)
    weight = prices[1] / prices[1].sum()
    over = weight[0] - 0.30  # must go; the three short ones get it, the furthest from target first
    assert (found.trades[1] > 0).tolist() == [False, True, True, True]
    after = found.weights[1]
    np.testing.assert_allclose(after[0], 0.30, rtol=1e-12)
    np.testing.assert_allclose(after[1:], (1 - 0.30) / 3, rtol=1e-12)
    assert abs(found.trades[1]).sum() == pytest.approx(2 * over * found.value[1])


# ---------------------------------------------------------------- fee, flows, dividends


def test_the_fee_is_the_vaults() -> None:
    dates = np.datetime64("2024-01-01T15:00") + np.cumsum([0, 9, 20, 55, 24, 1, 800]).astype("timedelta64[h]")
    market = Market(dates, np.ones((7, 2)))
    found = run(market, Policy([0.5, 0.5], fee_bps=250))
    times, supply = market.times.tolist(), 10**24
    rules = Policy([0.5, 0.5]).rules()
    state = vault.VaultState((), rules, vault.Session(), (), (), (), supply, times[0], fee_bps=250)
    state = replace(state, fee_accrued_at=times[0])
    for now, index in zip(times, found.index, strict=True):
        state = vault.accrue_fee(state, now)
        assert index == pytest.approx(supply / state.supply, rel=1e-14)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_flows_leave_the_others_return_alone(seed: int) -> None:
    market, policy, _ = random_case(seed)
    costs = Costs(proportional_bps=25)  # no fixed costs and no impact: those weigh less on a larger portfolio
    with_flows = run(market, policy, costs)
    without = run(replace(market, flows_in_kind=None, flows_by_route=None), policy, costs)
    np.testing.assert_allclose(with_flows.index, without.index, rtol=1e-11)


def test_who_comes_by_route_pays_for_the_trading() -> None:
    market = Market(
        ["2024-01-01", "2024-01-02", "2024-01-03"],
        np.ones((3, 2)),
        flows_by_route=[0.0, 100_100.0, -100_000.0],
    )
    found = run(market, Policy([0.5, 0.5]), Costs(proportional_bps=10), cash=1_001_000.0)
    assert found.value.tolist() == pytest.approx([1_000_000, 1_100_000, 1_000_000])
    assert found.flow_costs.tolist() == pytest.approx([0, 100, 100])
    assert found.index.tolist() == pytest.approx([1 / 1.001] * 3)


def test_dividends_wait_in_cash_for_the_next_rebalance() -> None:
    prices = np.array([[10.0, 10], [10, 10], [11, 10], [11, 10]])
    paid = np.array([[9.0, 9], [1, 0], [0, 0], [0, 0]])  # the first row's was somebody else's
    market = Market(["2024-01-01", "2024-01-02", "2024-03-31", "2024-04-01"], prices, dividends=paid)
    found = run(market, Policy([0.5, 0.5], Mode.CALENDAR), cash=2_000.0)
    assert found.cash.tolist() == pytest.approx([0, 100, 100, 0])
    assert found.value.tolist() == pytest.approx([2_000, 2_100, 2_200, 2_200])
    assert found.kinds.tolist() == [Kind.FIRST, Kind.NONE, Kind.NONE, Kind.CALENDAR]


def test_holdings_are_not_bought_again() -> None:
    paid = [[1.0, 1], [0, 0]]  # in the first row: to who held them before
    market = Market(["2024-01-01", "2024-01-02"], [[10.0, 10], [20, 10]], dividends=paid)
    policy = Policy([0.5, 0.5], Mode.THRESHOLD, bands=0.1)
    found = run(market, policy, Costs(proportional_bps=10), cash=0.0, holdings=[50, 50])
    assert found.value[0] == 1_000 and found.trade_rows.tolist() == [1]
    assert found.weights[1].tolist() == pytest.approx([0.5, 0.5])


# ---------------------------------------------------------------- no look-ahead


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 159))
def test_the_past_does_not_know_the_future(seed: int, cut: int) -> None:
    """Everything from row `cut` on is changed; everything before it stays the same, bit for bit."""
    market, policy, costs = random_case(seed)
    rng = np.random.default_rng(seed)

    def other(value: object) -> object:
        array = np.array(value, dtype=float)
        if value is None or array.ndim == 0 or len(array) != len(market.times):
            return value
        array[cut:] *= rng.uniform(0.7, 1.3)
        return array

    changed = replace(
        market,
        prices=market.prices * np.where(np.arange(160) < cut, 1.0, rng.uniform(0.9, 1.1, 160))[:, None],
        **{name: other(getattr(market, name)) for name in ("dividends", "flows_in_kind", "flows_by_route")},
    )
    targets = np.array(policy.targets)
    if targets.ndim == 2:
        targets[cut:] = targets[cut:, ::-1]
    bands = other(policy.bands) if np.ndim(policy.bands) == 2 else policy.bands
    other_policy = replace(policy, targets=targets, bands=bands)
    other_costs = replace(costs, volatility=other(costs.volatility), pool_depth=costs.pool_depth)
    first, second = run(market, policy, costs), run(changed, other_policy, other_costs)
    for name in (
        "value",
        "index",
        "cash",
        "weights",
        "kinds",
        "costs",
        "fees",
        "flows",
        "flow_costs",
        "dividends",
    ):
        assert getattr(first, name)[:cut].tobytes() == getattr(second, name)[:cut].tobytes(), name
    known = int((first.trade_rows < cut).sum())
    assert first.trades[:known].tobytes() == second.trades[:known].tobytes()
    if cut < 100:
        assert first.value[cut:].tobytes() != second.value[cut:].tobytes()


def test_the_same_bits_every_time() -> None:
    job = Job.of(stocks(), Costs(proportional_bps=10))
    first, again = simulate(job, quarterly(0.02)), simulate(job, quarterly(0.02))
    assert first.value.tobytes() == again.value.tobytes()
    assert first.trades.tobytes() == again.trades.tobytes()


# ---------------------------------------------------------------- statistics


def test_statistics_are_what_pandas_says() -> None:
    found = run(stocks(), quarterly(0.05), Costs(proportional_bps=10))
    share = pd.Series(np.r_[1.0, found.index])
    moves, years = share.iloc[1:].pct_change().dropna(), stocks().years
    per_year = len(moves) / years
    drawdown = 1 - (share / share.cummax()).min()
    expected = {
        "final_value": found.value[-1],
        "total_return": share.iloc[-1] - 1,
        "annual_return": share.iloc[-1] ** (1 / years) - 1,
        "annual_volatility": moves.std() * np.sqrt(per_year),
        "sharpe": moves.mean() / moves.std() * np.sqrt(per_year),
        "max_drawdown": drawdown,
        "rebalances": 138,
        "cost": found.costs.sum(),
        "cost_proportional": found.costs[:, 0].sum(),
        "fees": 0,
    }
    for name, value in expected.items():
        assert found.statistics[name] == pytest.approx(value, rel=1e-9), name
    value_before = found.value[found.trade_rows] + found.costs[found.trade_rows].sum(axis=1)
    turnover = (abs(found.trades).sum(axis=1) / value_before).sum()
    assert found.statistics["turnover"] == pytest.approx(turnover, rel=1e-9)
    assert found.statistics["annual_turnover"] == pytest.approx(turnover / years, rel=1e-9)


def test_the_first_purchase_is_part_of_the_drawdown() -> None:
    found = run(
        Market(["2024-01-01", "2024-01-02"], [[1.0, 1], [1, 1]]),
        Policy([0.5, 0.5]),
        Costs(proportional_bps=100),
    )
    assert found.statistics["max_drawdown"] == pytest.approx(1 - 1 / 1.01)


# ---------------------------------------------------------------- refusals


DATES = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[s]")
FINE = np.ones((3, 2))
TOO_LARGE = "the redemption takes all that the portfolio is worth, or more"
TOO_DEAR = "the flow cannot pay its own trading, or a pool is too small for it"


def broken(row: int, column: int, value: float) -> np.ndarray:
    array = np.ones((3, 2))
    array[row, column] = value
    return array


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prices": broken(1, 0, -3)}, "prices: row 1 (2024-01-02), column A: -3 is not a number above 0"),
        (
            {"prices": broken(2, 1, np.nan)},
            "prices: row 2 (2024-01-03), column B: nan is not a number above 0",
        ),
        (
            {"prices": broken(0, 1, np.inf)},
            "prices: row 0 (2024-01-01), column B: inf is not a number above 0",
        ),
        ({"prices": broken(0, 1, 0)}, "prices: row 0 (2024-01-01), column B: 0 is not a number above 0"),
        ({"prices": np.ones(3)}, "prices: has shape (3,), needs at least 2 rows and 1 column"),
        ({"prices": [["x", 1]]}, "prices: not a table of numbers"),
        ({"names": ("A",)}, "names: 1 names for 2 columns of prices"),
        ({"dates": DATES[:2]}, "dates: 2 dates for 3 rows of prices"),
        (
            {"dates": DATES[[0, 2, 1]]},
            "dates: row 2 (2024-01-02T00:00:00): not after the row before (2024-01-03T00:00:00)",
        ),
        (
            {"dates": DATES[[0, 1, 1]]},
            "dates: row 2 (2024-01-02T00:00:00): not after the row before (2024-01-02T00:00:00)",
        ),
        ({"dates": np.array(["2024-01-01", "NaT", "2024-01-03"], "datetime64[s]")}, "dates: row 1: no date"),
        (
            {"dates": ["a", "b", "c"]},
            "dates: not dates; pandas.to_datetime(..., utc=True).tz_convert(None) makes them",
        ),
        (
            {"dividends": broken(1, 1, -1)},
            "dividends: row 1 (2024-01-02), column B: -1 is not a number of at least 0",
        ),
        ({"dividends": np.ones((2, 2))}, "dividends: has shape (2, 2), prices have (3, 2)"),
        ({"flows_in_kind": [0, np.nan, 0]}, "flows_in_kind: row 1 (2024-01-02): nan is not an amount"),
        ({"flows_by_route": [0, 0]}, "flows_by_route: has shape (2,), needs one amount for each of 3 rows"),
        (
            {"flows_in_kind": [5, 0, 0]},
            "flows_in_kind: row 0 (2024-01-01): must be 0: what the vault starts with is `cash`",
        ),
    ],
)
def test_data_that_cannot_be_used_is_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(BacktestError) as refusal:
        Market(**({"dates": DATES, "prices": FINE, "names": ("A", "B")} | fields))
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (Costs(proportional_bps=-1), "proportional_bps: asset 0: -1 is not between 0 and 9999"),
        (
            Costs(proportional_bps=[1, 2, 3]),
            "proportional_bps: has shape (3,), needs one number, 2 numbers or 1 rows of 2",
        ),
        (Costs(per_leg=-1), "per_leg: -1 is not a number of at least 0"),
        (Costs(per_rebalance=np.nan), "per_rebalance: nan is not a number of at least 0"),
        (Costs(impact=1), "volatility: needed because impact is above 0"),
        (Costs(impact=1, volatility=0.1), "daily_volume: needed because impact is above 0"),
        (Costs(impact=1, volatility="x", daily_volume=1), "volatility: not a number or an array of numbers"),
        (
            Costs(per_rebalance=2e6),
            "costs: row 0 (2024-01-01): a rebalance would cost more than the portfolio is worth",
        ),
        (
            Costs(pool_depth=[1e9, 1e-4]),
            "pool_depth: row 0 (2024-01-01): a rebalance would buy more than a pool holds",
        ),
    ],
)
def test_costs_that_cannot_be_used_are_refused_by_name(costs: Costs, message: str) -> None:
    with pytest.raises(BacktestError) as refusal:
        run(Market(DATES, FINE, ("A", "B")), Policy([0.5, 0.5]), costs)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("flows", "costs", "message"),
    [
        ({"flows_in_kind": [0, -1e6, 0]}, Costs(), f"flows: row 1 (2024-01-02): {TOO_LARGE}"),
        ({"flows_by_route": [0, 0, -2e6]}, Costs(), f"flows: row 2 (2024-01-03): {TOO_LARGE}"),
        ({"flows_by_route": [0, 5, 0]}, Costs(per_leg=3), f"flows_by_route: row 1 (2024-01-02): {TOO_DEAR}"),
        ({"flows_by_route": [0, -5, 0]}, Costs(per_leg=3), f"flows_by_route: row 1 (2024-01-02): {TOO_DEAR}"),
    ],
)
def test_flows_that_cannot_be_met_are_refused_by_name(
    flows: dict[str, object], costs: Costs, message: str
) -> None:
    with pytest.raises(BacktestError) as refusal:
        run(Market(DATES, FINE, **flows), Policy([0.5, 0.5]), costs)
    assert str(refusal.value) == message


def test_a_start_with_nothing_is_refused() -> None:
    with pytest.raises(BacktestError, match="cash: 0 is not an amount to start with"):
        run(Market(DATES, FINE), Policy([0.5, 0.5]), cash=0)


def test_a_frame_in_another_time_zone_is_read_in_utc() -> None:
    index = pd.date_range("2024-01-01 20:00", periods=3, tz="America/New_York")
    market = Market.of(pd.DataFrame(FINE, index=index, columns=["A", "B"]))
    assert market.names == ("A", "B") and market.dates[0] == np.datetime64("2024-01-02T01:00:00")
