"""The vault's engines: integers and bytecode agree to the wei in every row; the fast engine says nearly the same."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from offchain import policy as vault_policy
from offchain.backtest import Costs, Market, Policy, RebalanceTo, run
from offchain.backtest.chain import ChainResult, PoolSettings, VaultSettings
from offchain.backtest.chain.addresses import CREATOR, FEE_RECIPIENT
from offchain.backtest.chain.evm import EvmChain, _encoded
from offchain.backtest.chain.ledger import Ledger
from offchain.backtest.chain.replay import play, replay
from offchain.backtest.chain.scenario import Scenario
from offchain.planner import Plan, Problem
from offchain.planner import plan as joint_plan
from offchain.policy import DAY, WAD, CalendarUnit, Mode

ROWS = 540  # days of trading: a little more than two years
START = 1_577_998_800  # 2 January 2020, 21:00 UTC
FOUR = np.array([0.4, 0.3, 0.2, 0.1])
BASKET = VaultSettings(decimals=[18, 8, 18, 6], price_error_bps=[25, 30, 50, 10])


def market(rows: int = ROWS, seed: int = 1, **more: Any) -> Market:
    """Three lively assets and a dollar, closes of weekdays."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0003, [0.025, 0.02, 0.03, 0], (rows, 4))
    moves[0] = 0
    days = [START + DAY * (7 * (i // 5) + i % 5) for i in range(rows)]
    prices = np.array([75.0, 34_000.0, 0.42, 1.0]) * np.exp(np.cumsum(moves, axis=0))
    dates = np.array(days, dtype="datetime64[s]")
    return Market(dates, prices, ("AAA", "BTC", "CENT", "USD"), **more)


def flows(rows: int = ROWS, seed: int = 2) -> Any:
    """Now and then somebody comes or goes."""
    rng = np.random.default_rng(seed)
    usd = np.where(rng.random(rows) < 0.08, rng.normal(0, 60_000, rows), 0.0)
    usd[0] = 0
    return usd


def moving() -> Any:
    """A strategy's targets every 40 rows, NaN between."""
    table = np.full((ROWS, 4), np.nan)
    wishes = np.random.default_rng(3).dirichlet([8, 6, 4, 4], ROWS)
    table[::40] = wishes[::40]
    table[0] = FOUR
    return table


JOBS: dict[str, tuple[Policy, PoolSettings, VaultSettings]] = {
    "calendar": (
        Policy(FOUR, mode=Mode.CALENDAR, calendar_every=1, cooldown_seconds=3 * DAY, fee_bps=100),
        PoolSettings(venue="v2", hub="USD"),
        BASKET,
    ),
    "threshold": (
        Policy(FOUR, mode=Mode.THRESHOLD, band_points_bps=300, fee_bps=300, window_seconds=4 * DAY),
        PoolSettings(venue="v3", v3_fee=3_000),
        BASKET,
    ),
    "either": (
        Policy(FOUR, mode=Mode.EITHER, calendar_unit=CalendarUnit.DAYS, calendar_every=45, fee_bps=25),
        PoolSettings(depth_usd=[2e7, 5e7, 1e7, 2e7]),
        VaultSettings(decimals=[18, 8, 18, 6], feed_decimals=18),
    ),
    "both": (
        Policy(FOUR, mode=Mode.BOTH, calendar_every=1, band_points_bps=[200, 300, 400, 500], aversion=2.0),
        PoolSettings(venue="v2", gas_price_usd=1e-4),
        BASKET,
    ),
    "moving targets": (
        Policy(
            moving(),
            mode=Mode.THRESHOLD,
            min_targets=[0.2, 0.15, 0.05, 0.05],
            max_targets=[0.6, 0.5, 0.4, 0.3],
            speed_capacity_bps=700,
            speed_refill_bps_per_day=150,
            fee_bps=50,
        ),
        PoolSettings(hub="USD"),
        BASKET,
    ),
    "shallow pools": (  # which take a correction in parts: sessions last for several rows, some run out
        Policy(FOUR, mode=Mode.EITHER, calendar_every=1, window_seconds=3 * DAY, cooldown_seconds=DAY),
        PoolSettings(depth_usd=300_000, venue="v2", gas_price_usd=1e-6),
        replace(BASKET, max_slippage_bps=110, loss_capacity_bps=60, loss_refill_bps_per_year=300),
    ),
    "cost-aware": (
        Policy(FOUR, mode=Mode.EITHER, calendar_every=1, gain_over_cost=2),
        PoolSettings(),
        BASKET,
    ),
}  # fmt: skip
COMPARED = list(JOBS)
JOBS["cost-blind"] = (replace(JOBS["cost-aware"][0], gain_over_cost=0), *JOBS["cost-aware"][1:])


LESS = {"shallow pools": 100, "cost-aware": 150, "cost-blind": 150}  # rows: these plan in many of them


@cache
def played(name: str, engine: str) -> ChainResult:
    policy, pools, vault = JOBS[name]
    rows = LESS.get(name, ROWS)
    return replay(market(rows, flows_in_kind=flows(rows)), policy, engine=engine, pools=pools, vault=vault)


def moments(result: ChainResult) -> list[int]:
    """Ids of the sessions that were open at the end of a row."""
    return [s.state.session.id for s in result.snapshots if not s.state.session.closed_at]


# ---------------------------------------------------------------- equal to the wei


@pytest.mark.parametrize("name", COMPARED)
def test_bytecode_and_integers_agree_in_every_row(name: str) -> None:
    integer, evm = played(name, "integer"), played(name, "evm")
    for row, (ours, chains) in enumerate(zip(integer.snapshots, evm.snapshots, strict=True)):
        assert ours == chains, f"row {row}"  # balances, supply, fee, session, budgets, targets, audit head
        assert integer.pools[row] == evm.pools[row], f"row {row}"
    assert [t.decision for t in integer.rebalanced] == [t.decision for t in evm.rebalanced]
    for field in ("value", "index", "weights", "fees", "flows", "trade_costs", "trades", "units"):
        assert np.array_equal(getattr(integer, field), getattr(evm, field)), field
    assert integer.statistics == evm.statistics
    assert integer.rebalances >= 2


def test_the_jobs_do_what_they_are_there_for() -> None:
    kinds = {name: set(played(name, "integer").trade_kinds.tolist()) for name in COMPARED}
    assert kinds["calendar"] == {1}
    assert kinds["threshold"] == {2}
    assert {1, 2} <= kinds["either"]
    assert kinds["both"] == {3}
    targets = played("moving targets", "integer").targets
    assert 40 < len(np.unique(targets, axis=0)) < 450  # the speed limit makes steps, and they arrive
    assert (targets >= [0.2, 0.15, 0.05, 0.05]).all() and (targets <= [0.6, 0.5, 0.4, 0.3]).all()
    shallow = played("shallow pools", "integer")
    assert len(moments(shallow)) > len(set(moments(shallow)))  # a session for more than a row
    triggers = [trade.decision.trigger for trade in shallow.rebalanced]
    assert "session open" in triggers
    assert played("cost-aware", "integer").rebalances < played("cost-blind", "integer").rebalances


def test_what_accounts_hold_is_the_same_on_chain() -> None:
    policy, pools, vault = JOBS["threshold"]
    data = market(120, flows_in_kind=flows(120))
    scenario = Scenario.of(data, policy, pools=pools, vault=vault)
    ledger, chain = Ledger(scenario), EvmChain(scenario)
    play(scenario, ledger, engine="integer")
    result = play(scenario, chain, engine="evm")
    assert chain.depositors == ledger.depositors
    places, state = scenario.places, result.snapshots[-1].state
    for token, units in zip(places.tokens, state.balances, strict=True):
        assert chain._number_of(token, _encoded("TestToken", "balanceOf", state.vault)) == units
        assert chain._number_of(token, _encoded("TestToken", "balanceOf", places.executor)) == 0
    fee = chain._number_of(state.vault, _encoded("Vault", "collect_fee"))
    assert fee == state.pending_fee_shares > 0
    assert chain._number_of(state.vault, _encoded("Vault", "balanceOf", FEE_RECIPIENT)) == fee
    held = chain._number_of(state.vault, _encoded("Vault", "balanceOf", CREATOR))
    assert held + fee + WAD == state.supply  # one share is dead


def test_a_stable_pair_at_exactly_one() -> None:
    """Uniswap V3's tick 0 ends a word of the bitmap: a pool that falls to it is in tick -1, one that rises in 0."""
    prices = np.array(
        [[1.0, 1.0], [1.001, 1.0], [1.0, 1.0], [0.999, 1.0], [1.0, 1.0], [1.0, 1.002], [1.0, 1.0]]
    )
    days = np.array([START + DAY * i for i in range(7)], dtype="datetime64[s]")
    data, policy = Market(days, prices, ("A", "B")), Policy([0.5, 0.5], mode=Mode.THRESHOLD)
    pools, vault = PoolSettings(hub="B", venue="v3", gas_price_usd=0), VaultSettings(decimals=6)
    results = [replay(data, policy, engine=e, pools=pools, vault=vault) for e in ("integer", "evm")]
    assert results[0].pools == results[1].pools
    assert results[0].snapshots == results[1].snapshots
    ticks = {pool.tick for (pool,) in results[0].pools if pool.sqrt_price_x96 == 2**96}
    assert ticks == {-1, 0}


def test_what_a_clumsy_planner_leaves_on_the_executor_is_the_next_trade_s() -> None:
    """It sends a unit more than its legs sell; legs that sell all that is there find it later."""

    def clumsy(problem: Problem) -> Plan:
        plan = joint_plan(problem)
        return replace(plan, sells=tuple(sell + 1000 * (sell > 0) for sell in plan.sells))

    policy, pools, vault = JOBS["threshold"]
    results = [
        replay(market(200), policy, engine=e, pools=pools, vault=vault, planner=clumsy)
        for e in ("integer", "evm")
    ]
    assert results[0].snapshots == results[1].snapshots
    assert results[0].pools == results[1].pools
    assert results[0].rebalances >= 4
    assert results[0].final_value < replay(market(200), policy, pools=pools, vault=vault).final_value


# ---------------------------------------------------------------- what the result says


@pytest.mark.parametrize("name", ["threshold", "moving targets"])
def test_every_dollar_is_accounted_for(name: str) -> None:
    result = played(name, "integer")
    prices = result.market.prices
    growth = (result.weights[:-1] * prices[1:] / prices[:-1]).sum(axis=1)
    lost = result.costs[1:, [0, 3]].sum(axis=1)  # gas is the keeper's to pay
    expected = result.value[:-1] * growth - result.fees[1:] + result.flows[1:]
    nav = result.value * [
        s.state.supply / (s.state.supply - s.state.pending_fee_shares) for s in result.snapshots
    ]
    part = result.value[1:] / nav[1:]  # the fee's shares bear their part of what trades lose
    assert np.allclose(result.value[1:], expected - lost * part, rtol=1e-6)
    assert result.fees.sum() > 0 and abs(result.flows).sum() > 0
    assert np.allclose(result.weights.sum(axis=1), 1)
    assert sum(result.cost_by_cause.values()) == pytest.approx(result.trade_costs.sum())
    assert (result.trade_costs[:, 0] > 0).all()


def test_flows_are_what_was_asked_for_and_move_no_price() -> None:
    data = market(60)
    asked = np.zeros(60)
    asked[[10, 20, 30]] = [50_000, -20_000, 0.5]
    policy = Policy(FOUR, mode=Mode.CALENDAR, calendar_every=240)
    without, with_flows = (replay(data, policy, vault=BASKET, flows=f) for f in (None, asked))
    assert without.rebalances == 0
    assert with_flows.flows == pytest.approx(asked, abs=1e-3)  # a unit of BTC is worth that much
    assert np.allclose(with_flows.index, without.index, rtol=1e-12)


def test_nothing_later_than_the_row_is_known() -> None:
    policy, pools, vault = JOBS["either"]
    early = replay(market(200), policy, pools=pools, vault=vault)
    other = market(200)
    other.prices[120:] *= np.exp(np.random.default_rng(9).normal(0, 0.1, (80, 4)))
    late = replay(other, policy, pools=pools, vault=vault)
    assert early.snapshots[:120] == late.snapshots[:120]
    assert early.snapshots[-1] != late.snapshots[-1]


def test_the_fast_engine_says_nearly_the_same() -> None:
    """The planner and the fast engine's rule trade different amounts on some days: bps a year apart, not more."""
    depth, data = 1e8, market()
    policy = Policy(FOUR, mode=Mode.EITHER, rebalance_to=RebalanceTo.CLOSE)
    exact = replay(data, policy, pools=PoolSettings(depth, "v2", hub="USD", gas_price_usd=0), vault=BASKET)
    depths = depth * np.sqrt(data.prices / data.prices[0])
    depths[:, 3] = np.inf
    fast = run(data, policy, Costs(proportional_bps=[30, 30, 30, 0], pool_depth=depths))
    apart = np.log(exact.index[-1] / (fast.index[-1] / fast.index[0])) / data.years * 1e4
    assert abs(apart) < 15
    assert abs(exact.rebalances - (fast.rebalances - 1)) <= 4
    assert exact.index[0] == 1


def test_the_pools_are_at_the_row_s_prices_before_the_keeper_looks() -> None:
    data = market(30)
    policy = Policy(FOUR, mode=Mode.CALENDAR, calendar_every=240)  # never trades
    scenario = Scenario.of(data, policy, vault=BASKET)
    result = play(scenario, Ledger(scenario), engine="integer")
    for row in (1, 17, 29):
        for i, pool in enumerate(result.pools[row]):
            over, under = scenario.pool_price(i, row)
            at = getattr(pool, "sqrt_price_x96", 0) ** 2 / 2**192 or pool.reserve1 / pool.reserve0  # type: ignore[union-attr]
            assert at == pytest.approx(over / under, rel=1e-5)


def test_targets_become_whole_basis_points_that_sum() -> None:
    data = market(5)
    scenario = Scenario.of(data, Policy([1 / 3, 1 / 3, 1 / 6, 1 / 6]), vault=BASKET)
    targets = [asset.target_bps for asset in scenario.state.assets]
    assert sum(targets) == 10_000
    assert all(
        abs(bps - 10_000 * w) < 1 for bps, w in zip(targets, [1 / 3, 1 / 3, 1 / 6, 1 / 6], strict=True)
    )


def test_the_seed_is_at_target_and_a_share_is_a_dollar() -> None:
    result = replay(market(3), Policy(FOUR), vault=BASKET, cash=250_000)
    assert result.value[0] == pytest.approx(250_000, abs=0.1)
    assert result.weights[0] == pytest.approx(FOUR, abs=1e-5)
    state = result.snapshots[0].state
    assert state.supply == vault_policy.nav(state)


def test_progress_counts_the_rows() -> None:
    done: list[int] = []
    replay(market(20), Policy(FOUR), vault=BASKET, progress=done.append)
    assert sum(done) == 20
