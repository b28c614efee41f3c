"""The joint plan against a convex solver, brute force, the vault's rules and the single-pool plan."""

from __future__ import annotations

import importlib
import random
import warnings
from dataclasses import replace
from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from offchain import policy
from offchain.errors import PlannerError
from offchain.planner import Plan, Problem, Sweep, V2Pool, V3Pool, decode, joint, plan, single_pool_plan
from offchain.planner.joint import Market, bound, cost, solve
from offchain.planner.market import keep_legs, read
from offchain.planner.pools import same
from offchain.planner.problem import gas_of, objective
from offchain.policy import WAD, Asset, Mode, Rules, Session, VaultState
from tests.support.market import (
    EXECUTOR,
    NOW,
    random_problem,
    spent_budget,
    sqrt_ratio_at_tick,
    v3_pool,
    v3_state,
)

planner = importlib.import_module("offchain.planner.plan")  # the package's `plan` is the function

SEEDS = st.integers(0, 10**6)
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # a seed does not shrink
DAY = 86_400
RULES = Rules(Mode.THRESHOLD, 0, 1, NOW, DAY, 0, 100, 1000, 100, 20, 1000, 100)


def token(letter: str) -> str:
    return "0x" + letter * 40


def vault(targets: dict[str, int], dollars: dict[str, int], rules: Rules = RULES) -> VaultState:
    """Assets of a dollar each with 18 decimals."""
    assets = tuple(Asset(token(k), 18, t, 500, 2500, 0, 10_000, 10) for k, t in targets.items())
    balances = tuple(dollars[k] * WAD for k in targets)
    flat = (0,) * len(assets)
    prices = (WAD,) * len(assets)
    return VaultState(assets, rules, Session(), balances, prices, flat, WAD, NOW, vault="0x" + "01" * 20)


def pair(a: str, b: str, dollars: int, tag: str = "0", fee_bps: int = 30, mispriced_bps: int = 0) -> V2Pool:
    """A V2 pool of two tokens; `mispriced_bps`: so much more of b for an a."""
    where = "0x" + (a + b + tag) * 13 + "0"
    return V2Pool(
        where, token(a), token(b), fee_bps, dollars * WAD, dollars * WAD * (10_000 + mispriced_bps) // 10_000
    )


def planned(state: VaultState, *pools: V2Pool | V3Pool, **options: object) -> Plan:
    return plan(Problem(state, pools, EXECUTOR, "", NOW, **options))  # type: ignore[arg-type]


def net(market: Market, solution: joint.Solution) -> np.ndarray:
    """(tokens,) what the pools pay less what they take."""
    s = market.segments
    paid = np.bincount(s.token_out, solution.value_out, market.tokens)
    return np.asarray(paid - np.bincount(s.token_in, solution.value_in, market.tokens))


def by_cvxpy(market: Market) -> float:
    """The same relaxed problem in the modelling language, solved by Clarabel; relative to no trade."""
    s, n = market.segments, market.assets
    y, taken = cp.Variable(len(s.pool)), cp.Variable(len(s.pool))
    x, slack = cp.Variable(n), cp.Variable(len(market.room), nonneg=True)
    into, out = (np.zeros((market.tokens, len(s.pool))) for _ in range(2))
    into[s.token_in, np.arange(len(s.pool))] = 1
    out[s.token_out, np.arange(len(s.pool))] = 1
    left = out @ cp.multiply(s.depth, s.start - y) - into @ taken
    soft = np.isfinite(market.price)
    constraints = [
        cp.inv_pos(y) <= 1 / s.start + cp.multiply(taken, s.keep / s.depth),
        y <= s.start,
        y >= s.end,
        left[:n] >= x,
        x >= market.lower,
        x <= market.upper,
        market.rows @ x <= market.room + slack,
        slack[~soft] == 0,
        *([left[n:] >= 0] if market.tokens > n else []),
    ]
    root = np.linalg.cholesky(market.quadratic)
    goal = 0.5 * cp.sum_squares(root.T @ (market.drift + x)) - market.slope @ x
    if np.any(soft):
        goal += slack[soft] @ market.price[soft]
    problem = cp.Problem(cp.Minimize(goal), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.solve(solver=cp.CLARABEL)
    if problem.status != cp.OPTIMAL:
        pytest.fail(f"Clarabel: {problem.status}")
    idle = 0.5 * market.drift @ market.quadratic @ market.drift
    idle += np.maximum(-market.room, 0)[soft] @ market.price[soft]
    return float(problem.value - idle)


# ---------------------------------------------------------------- the relaxed problem


@pytest.mark.parametrize("seed", range(14))
def test_the_optimum_is_clarabels(seed: int) -> None:
    market = read(random_problem(seed, covariance=seed % 2 == 1)).market
    found = solve(market)
    value, least = (
        cost(market, net(market, found)[: market.assets]),
        bound(market, found.prices, found.multipliers),
    )
    other = by_cvxpy(market)
    assert value == pytest.approx(other, rel=2e-3, abs=2e-6)  # Clarabel's accuracy on tiny segments
    assert value <= other + 2e-6
    assert -1e-9 <= value - least <= 1e-7
    assert least <= other + 1e-6


@given(SEEDS, st.booleans())
@settings(max_examples=60, deadline=None, phases=QUICK)
def test_the_solution_adds_up_and_is_certified(seed: int, covariance: bool) -> None:
    market = read(random_problem(seed, covariance=covariance)).market
    found = solve(market)
    x = found.change
    over = net(market, found) - np.concatenate([x, np.zeros(market.tokens - market.assets)])
    assert np.min(over) > -1e-8
    assert np.all((np.abs(over) < 1e-8) | (found.prices < 1e-4))  # what is worth nothing may be left over
    assert np.all(market.lower <= x) and np.all(x <= market.upper)
    hard = ~np.isfinite(market.price)
    assert np.all(market.rows[hard] @ x <= market.room[hard] + 1e-8)
    assert -1e-9 <= cost(market, x) - bound(market, found.prices, found.multipliers) <= 1e-7


@given(SEEDS, st.integers(0, 10**6))
@settings(max_examples=40, deadline=None, phases=QUICK)
def test_no_prices_give_a_bound_above_the_optimum(seed: int, other: int) -> None:
    market = read(random_problem(seed)).market
    found = solve(market)
    rng = np.random.default_rng(other)
    prices = found.prices * np.exp(rng.normal(0, 0.01, market.tokens))
    multipliers = found.multipliers * rng.uniform(0, 2, len(market.room))
    assert bound(market, prices, multipliers) <= cost(market, found.change) + 1e-9


def test_marginal_prices_are_equal_on_all_paths_used() -> None:
    market = read(random_problem(7)).market
    found, s = solve(market), market.segments
    y = s.start - found.value_out / s.depth
    inside = (found.value_out > 1e-9) & (y > s.end * (1 + 1e-9))
    assert np.sum(inside) > 3
    ratio = s.keep * y**2 * found.prices[s.token_out] / found.prices[s.token_in]
    assert ratio[inside] == pytest.approx(1, abs=1e-9)


def test_no_trade_of_a_fine_grid_is_better() -> None:
    """Two assets, two pools: every split and size on a grid, in exact integers."""
    state = vault({"a": 5000, "b": 5000}, {"a": 65_000, "b": 35_000})
    pools = (pair("a", "b", 3_000_000), pair("a", "b", 9_000_000, "1", fee_bps=40))
    problem = Problem(state, pools, EXECUTOR, "", NOW)
    found = plan(problem)
    assert found.certificate is not None
    best = objective(problem, state.balances)
    for first, second in product(range(0, 15_001, 250), repeat=2):
        if 0 < first + second <= 15_000:
            paid = sum(p.amount_out(token("a"), x * WAD) for p, x in zip(pools, (first, second), strict=True))
            after = (state.balances[0] - (first + second) * WAD, state.balances[1] + paid)
            if policy.check_rebalance(state, ((first + second) * WAD, 0), after, 1, NOW, NOW).ok:
                best = min(best, objective(problem, after))
    assert found.certificate.objective <= best
    assert found.certificate.bound <= best
    assert best - found.certificate.bound < WAD  # the grid comes within a dollar: the bound is tight


# ---------------------------------------------------------------- gas


def test_with_gas_the_choice_of_legs_is_near_the_best_of_all() -> None:
    """Every subset of the legs of small markets; elimination is a heuristic, its bound is not."""
    near = tried = 0
    for seed in range(40):
        problem = random_problem(seed, assets=3, pools=4, gas=True)
        found = plan(problem)
        if policy.next_session(problem.state, NOW)[1]:
            continue
        reading = read(problem)
        nav = policy.nav(problem.state)
        idle, best = objective(problem, problem.state.balances), 0.0
        for kept in product((False, True), repeat=len(reading.gas)):
            mask = np.array(kept)
            if not any(mask[i] and mask[i + 1] for i in range(0, len(mask), 2)):
                best = min(best, planner._attempt(problem, reading, mask, None).total)
        least = idle + best * nav
        reached = idle if found.certificate is None else found.certificate.objective
        if found.certificate is not None:
            assert found.certificate.bound <= least * (1 + 1e-9) + 1
        tried += 1
        near += reached <= least + 1e-5 * nav
    assert tried > 25
    assert near >= 0.9 * tried


def test_gas_leaves_out_legs_that_do_not_earn_it() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 60_000, "b": 40_000})
    pools = (pair("a", "b", 3_000_000), pair("a", "b", 300_000, "1"))
    free, dear = planned(state, *pools), planned(state, *pools, gas_price=WAD // 10_000)  # 7 USD a leg
    assert len(free.legs) == 2
    assert [leg.leg.pool for leg in dear.legs] == [pools[0].address]
    assert dear.costs is not None
    assert dear.costs.gas == gas_of(dear.legs) * WAD // 10_000
    ruinous = planned(state, *pools, gas_price=WAD)
    assert not ruinous.trades
    assert ruinous.reason == "no trade is worth what it costs" or ruinous.reason.startswith(
        "no pool can trade"
    )


# ---------------------------------------------------------------- plans


def check_plan(problem: Problem, found: Plan) -> None:
    """All that every plan has to be, worked out again here."""
    state, nav = problem.state, policy.nav(problem.state)
    session, refusal = policy.next_session(state, NOW)
    assert len(found.explanations) == len(state.assets) and all(found.explanations)
    if not found.trades:
        assert found.reason
        assert (found.balances_after, found.payload) == (state.balances, b"")
        return
    assert not refusal and found.session == session
    verdict = policy.check_rebalance(
        state, found.sells, found.balances_after, session, NOW, NOW, executor=EXECUTOR
    )
    assert verdict.ok and verdict == found.verdict
    assert list(verdict.sent) == list(found.sells)
    assert run(problem, found) == list(found.balances_after)
    assert found.certificate is not None and found.costs is not None
    mine = objective(problem, found.balances_after) + found.costs.gas
    assert found.certificate.objective == mine < objective(problem, state.balances)
    assert 0 <= found.certificate.gap == mine - found.certificate.bound
    assert found.costs.fee + found.costs.impact == nav - policy.nav(state, found.balances_after)
    assert found.drift_after == sum(policy.drifts(state, found.balances_after)) < found.drift_before
    first = single_pool_plan(problem) if problem.hub else None
    if first is not None and first.trades and turnover(state, first) <= problem.turnover_cap:
        sweeps = sum(isinstance(leg, Sweep) for leg in decode(first.payload))
        assert mine <= objective(problem, first.balances_after, gas_of(first.legs, sweeps))


def turnover(state: VaultState, found: Plan) -> float:
    before, after = policy.values(state), policy.values(state, found.balances_after)
    return sum(abs(a - b) for a, b in zip(before, after, strict=True)) * WAD / sum(before)


def run(problem: Problem, found: Plan) -> list[int]:
    """The executor in Python: the vault's balances after the payload; it must end empty."""
    state = problem.state
    hands = {a.token.lower(): s for a, s in zip(state.assets, found.sells, strict=True)}
    home = {a.token.lower(): q - s for a, q, s in zip(state.assets, state.balances, found.sells, strict=True)}
    pools = {p.address: p for p in problem.pools}
    for leg in decode(found.payload):
        if isinstance(leg, Sweep):
            home[leg.token.lower()] += hands.pop(leg.token.lower(), 0)
            continue
        pool, sold = pools[next(a for a in pools if same(a, leg.pool))], leg.token_in.lower()
        amount = hands[sold] if leg.whole_balance else min(leg.amount_in, hands[sold])
        assert amount == leg.amount_in
        paid, pools[pool.address] = pool.swap(sold, amount)
        assert paid >= leg.min_out
        bought = (pool.token1 if same(sold, pool.token0) else pool.token0).lower()
        hands[sold] -= amount
        where = home if leg.to_caller else hands
        where[bought] = where.get(bought, 0) + paid
    assert not any(hands.values())
    return [home[a.token.lower()] for a in state.assets]


@given(SEEDS, st.booleans(), st.booleans(), st.sampled_from((WAD // 10, WAD, 4 * WAD)))
@settings(max_examples=70, deadline=None, phases=QUICK)
def test_every_plan_is_accepted_certified_and_never_worse(
    seed: int, gas: bool, covariance: bool, aversion: int
) -> None:
    problem = random_problem(seed, gas=gas, covariance=covariance, risk_aversion=aversion)
    check_plan(problem, plan(problem))


@given(SEEDS, st.floats(0.01, 3), st.integers(WAD // 1000, WAD // 5), st.integers(0, 100 * WAD))
@settings(max_examples=40, deadline=None, phases=QUICK)
def test_so_is_every_plan_under_tight_limits(seed: int, left_bps: float, cap: int, least: int) -> None:
    problem = spent_budget(random_problem(seed, turnover_cap=cap, min_leg_value=least), left_bps)
    found = plan(problem)
    check_plan(problem, found)
    before, after = policy.values(problem.state), policy.values(problem.state, found.balances_after)
    moved = sum(abs(a - b) for a, b in zip(before, after, strict=True))
    assert moved <= cap * sum(before) // WAD
    if found.method == "joint":
        for planned_leg in found.legs:
            unit = read(problem).unit[read(problem).tokens.index(planned_leg.leg.token_in.lower())]
            assert planned_leg.amount_in * unit * sum(before) >= least * 0.999


def test_plans_are_near_their_bound() -> None:
    """Without gas, where pools agree on prices: within a tenth of a basis point of the NAV, most far closer."""
    gaps = []
    for seed in range(60):
        problem = random_problem(seed, noise=0.0001)
        found = plan(problem)
        if found.certificate is not None:
            gaps.append(found.certificate.gap / policy.nav(problem.state))
    assert len(gaps) > 40
    assert np.median(gaps) < 1e-7
    assert np.quantile(gaps, 0.9) < 1e-5


def test_assets_are_exchanged_without_a_hub() -> None:
    state = vault(
        {"a": 2500, "b": 2500, "c": 2500, "d": 2500},
        dict(zip("abcd", (35_000, 15_000, 33_000, 17_000), strict=True)),
    )
    found = planned(state, pair("a", "b", 10**8), pair("c", "d", 10**8))
    assert {(leg.leg.token_in, leg.token_out) for leg in found.legs} == {
        (token("a"), token("b")),
        (token("c"), token("d")),
    }
    assert found.verdict is not None and found.verdict.closed
    check_plan(Problem(state, (pair("a", "b", 10**8), pair("c", "d", 10**8)), EXECUTOR, "", NOW), found)


def test_a_route_passes_through_a_token_outside_the_basket() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 60_000, "b": 40_000})
    found = planned(
        state, pair("a", "c", 10**8, fee_bps=1), pair("b", "c", 10**8, fee_bps=1), pair("a", "b", 10**6)
    )
    through = [leg for leg in found.legs if same(leg.token_out, token("c"))]
    assert len(through) == 1
    assert [leg.leg.whole_balance for leg in found.legs if same(leg.leg.token_in, token("c"))] == [True]
    assert found.legs[-1].leg.to_caller


def test_an_overweight_asset_passes_on_what_another_is_sold_for() -> None:
    """Netting: c is sold for a, and a, itself overweight, for b."""
    state = vault({"a": 4000, "b": 3000, "c": 3000}, {"a": 46_000, "b": 18_000, "c": 36_000})
    pools = (pair("a", "b", 10**8), pair("a", "c", 10**8))
    found = planned(state, *pools)
    assert [leg.leg.token_in for leg in found.legs] == [token("c"), token("a")]
    assert found.legs[1].amount_in == found.sells[0] + found.legs[0].expected_out
    check_plan(Problem(state, pools, EXECUTOR, "", NOW), found)


def test_pools_out_of_line_form_no_circle() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 60_000, "b": 40_000})
    pools = (
        pair("a", "b", 10**6),
        pair("a", "b", 10**6, "1", mispriced_bps=300),
        pair("a", "b", 10**6, "2", mispriced_bps=-300),
    )
    found = planned(state, *pools)
    assert {leg.leg.token_in for leg in found.legs} == {token("a")}
    check_plan(Problem(state, pools, EXECUTOR, "", NOW), found)
    assert found.certificate is not None
    assert found.certificate.gap < WAD // 1000


def test_tax_keeps_an_asset() -> None:
    state = vault({"a": 4000, "b": 4000, "c": 2000}, {"a": 45_000, "b": 45_000, "c": 10_000})
    pools = (pair("a", "c", 10**8), pair("b", "c", 10**8))
    even = planned(state, *pools)
    taxed = planned(state, *pools, tax_per_token=(WAD // 50, 0, 0))
    assert even.sells[0] == pytest.approx(even.sells[1], rel=1e-6)
    assert taxed.sells[0] < taxed.sells[1]
    assert taxed.costs is not None and taxed.costs.tax == taxed.sells[0] // 50


def test_covariance_hedges_with_a_correlated_asset() -> None:
    """b cannot be bought, but c moves as b does: with the covariance more of c is bought, and less of d."""
    state = vault(
        {"a": 4000, "b": 2000, "c": 2000, "d": 2000}, {"a": 50_000, "b": 12_000, "c": 19_000, "d": 19_000}
    )
    pools = (pair("a", "c", 10**8), pair("a", "d", 10**8))
    tenth, both = WAD // 10, WAD * 9 // 100
    covariance = ((tenth, 0, 0, 0), (0, tenth, both, 0), (0, both, tenth, 0), (0, 0, 0, tenth))
    plain = planned(state, *pools, turnover_cap=WAD // 50)
    hedged = planned(state, *pools, turnover_cap=WAD // 50, covariance=covariance, risk_aversion=10 * WAD)
    assert plain.balances_after[2] == pytest.approx(plain.balances_after[3], rel=1e-6)
    assert hedged.balances_after[2] > plain.balances_after[2]
    assert hedged.balances_after[3] < plain.balances_after[3]


# ---------------------------------------------------------------- when the exact problem will not do


def test_an_asset_without_pools_does_not_stop_the_others() -> None:
    state = vault({"a": 3000, "b": 3000, "c": 4000}, {"a": 45_000, "b": 20_000, "c": 35_000})
    found = planned(state, pair("a", "b", 10**8))
    assert found.trades
    assert found.explanations[0].startswith("sold") and found.explanations[1].startswith("bought")
    assert found.explanations[2] == "not traded: no pool that was read trades it"
    neighbour = planned(state, pair("a", "b", 10**8), pair("a", "c", 10**8))
    assert neighbour.explanations[2].startswith("bought")


def test_an_asset_in_quarantine_is_left_alone_and_not_passed_through() -> None:
    state = vault({"a": 4000, "b": 4000, "c": 2000}, {"a": 50_000, "b": 30_000, "c": 20_000})
    through, direct = (
        (pair("a", "c", 10**8, fee_bps=1), pair("c", "b", 10**8, fee_bps=1)),
        pair("a", "b", 10**8),
    )
    aside = replace(state, aside=2, aside_until=NOW + DAY, prices=(WAD, WAD, 0), statuses=(0, 0, 5))
    assert {leg.leg.pool for leg in planned(state, *through, direct).legs} == {p.address for p in through}
    found = planned(aside, *through, direct)
    assert [leg.leg.pool for leg in found.legs] == [direct.address]
    assert found.explanations[2] == "not traded: in quarantine: not touched"
    blind = planned(replace(aside, aside_until=NOW), *through, direct)
    assert blind.reason == "price not usable" and blind.explanations == ("price not usable",) * 3


def test_unknown_ticks_bound_the_trade() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 70_000, "b": 30_000})
    price, positions = sqrt_ratio_at_tick(30), [(-5000, 5000, 10**6 * WAD)]
    pool = v3_pool("0x" + "33" * 20, token("a"), token("b"), 100, price, 30, positions)
    known = replace(pool, known_from=0, known_to=255, ticks=())  # one word of the bitmap
    whole, part = planned(state, pool), planned(state, known)
    assert 0 < part.sells[0] < whole.sells[0]
    with pytest.raises(Exception, match="read a wider range"):
        known.amount_out(token("a"), whole.sells[0])


def test_an_almost_empty_budget_is_used_up() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 70_000, "b": 30_000})
    problem = Problem(state, (pair("a", "b", 10**8),), EXECUTOR, "", NOW)
    full, low = plan(problem), plan(spent_budget(problem, 0.5))
    assert low.verdict is not None and full.verdict is not None
    assert low.verdict.charge == pytest.approx(WAD * 0.5 / 10_000, rel=1e-4)
    assert low.verdict.charge <= WAD * 0.5 / 10_000 < full.verdict.charge
    assert low.certificate is not None
    assert low.certificate.gap < policy.nav(state) // 10**7  # the whole rule is in the relaxed problem
    assert "the loss budget allows no more" in low.explanations[0]
    none = plan(spent_budget(problem, 0))
    assert none.reason == "the vault would refuse every size of the trade: loss budget exceeded"
    assert "the loss budget allows no more" in none.explanations[0]


def test_a_shallow_pool_is_used_up_to_the_slippage_limit() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 70_000, "b": 30_000})
    found = planned(state, pair("a", "b", 200_000))
    before, after = policy.values(state), policy.values(state, found.balances_after)
    lost = (sum(before) - sum(after)) * 10_000 / (before[0] - after[0])
    assert 90 < lost < 95.001  # the limit of 100 less the margin of 5


def test_a_pool_out_of_line_is_left_alone_where_that_is_asked_for() -> None:
    state = vault({"a": 4000, "b": 3000, "c": 3000}, {"a": 60_000, "b": 20_000, "c": 20_000})
    pools = (pair("a", "b", 10**8, mispriced_bps=-120), pair("a", "c", 10**8))
    free, limited = planned(state, *pools), planned(state, *pools, pool_limit_bps=95)
    assert {leg.leg.pool for leg in free.legs} == {p.address for p in pools}
    assert {leg.leg.pool for leg in limited.legs} == {pools[1].address}
    assert limited.explanations[1].startswith("not traded")


@pytest.mark.parametrize(
    ("pools", "reason", "words"),
    [
        ((), "no pool can trade", "no pool that was read trades it"),
        (
            (pair("a", "b", 10**8, mispriced_bps=-300),),
            "no pool can trade",
            "the slippage limit allows no more",
        ),
        ((V2Pool("0x" + "77" * 20, token("a"), token("b"), 30, 0, 0),), "no pool can trade", "no liquidity"),
    ],
)
def test_nothing_to_do_says_why(pools: tuple[V2Pool, ...], reason: str, words: str) -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 60_000, "b": 40_000})
    found = planned(state, *pools)
    assert not found.trades
    assert found.reason.startswith(reason)
    assert all(words in sentence for sentence in found.explanations)
    assert planned(state, pair("a", "b", 10**8)).trades


def test_the_turnover_cap_is_said() -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 70_000, "b": 30_000})
    found = planned(state, pair("a", "b", 10**8), turnover_cap=WAD // 10)
    assert found.sells[0] == pytest.approx(5_000 * WAD, rel=0.01)
    assert "the turnover cap allows no more" in found.explanations[0]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"covariance": ((WAD,),)}, "covariance"),
        ({"tax_per_token": (1,)}, "tax_per_token"),
        ({"gas_price": -1}, "gas_price"),
        ({"risk_aversion": -1}, "risk_aversion"),
    ],
)
def test_a_problem_that_cannot_be_read_names_the_field(options: dict[str, object], field: str) -> None:
    state = vault({"a": 5000, "b": 5000}, {"a": 60_000, "b": 40_000})
    with pytest.raises(PlannerError, match=field):
        planned(state, pair("a", "b", 10**8), **options)


def test_the_single_pool_plan_stands_in_for_an_optimiser_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(3)
    exact = single_pool_plan(problem)
    assert exact.trades and plan(problem).method == "joint"

    def broken(*_: object) -> None:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(planner.joint, "solve", broken)
    assert plan(problem) == exact
    lost = plan(replace(problem, hub=""))
    assert not lost.trades and lost.reason == "the joint optimiser failed (singular)"


def test_the_single_pool_plan_is_taken_where_it_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(3)
    exact = single_pool_plan(problem)
    monkeypatch.setattr(planner, "_exact", lambda *_: None)
    found = plan(problem)
    assert (found.payload, found.method) == (exact.payload, "single pool")
    check_plan(problem, found)


def test_the_same_problem_gives_the_same_payload() -> None:
    problem = random_problem(2, gas=True)
    assert plan(problem) == plan(problem)


def test_leaving_legs_out_leaves_the_rest() -> None:
    reading = read(random_problem(7))
    kept = np.arange(len(reading.gas)) % 2 == 0
    some = keep_legs(reading, kept)
    assert set(some.leg) == {leg for leg in reading.leg if leg % 2 == 0}
    assert len(some.market.segments.pool) == len(some.leg) < len(reading.leg)


def test_a_v3_position_layout_is_read_as_the_pool_swaps() -> None:
    """Segments against the exact pool, over empty ranges and crossings."""
    for seed in range(20):
        rng = random.Random(seed)
        tick, positions = v3_state(rng, 3_000, 2**96, 10**24, 5, gaps=True)
        pool = v3_pool("0x" + "33" * 20, token("a"), token("b"), 3_000, 2**96, tick, positions)
        state = vault({"a": 5000, "b": 5000}, {"a": 60_000, "b": 40_000})
        reading = read(Problem(state, (pool,), EXECUTOR, "", NOW))
        s = reading.market.segments.only(reading.leg == 0)
        y = s.end[-1] * 1.0000001
        taken, paid = s.flows(np.array([s.keep[0] * y * y if k == 0 else 1.0 for k in range(2)]))
        exact = pool.amount_out(token("a"), int(np.sum(taken) / reading.unit[0]))
        assert exact * reading.unit[1] == pytest.approx(np.sum(paid), rel=1e-9)
