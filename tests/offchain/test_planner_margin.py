"""The margin inside the drift that closes a session: kept where it can be, and never at the cost of the session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from offchain import policy
from offchain.chain.pools import PoolSource
from offchain.chain.vault import BlockRef, Snapshot
from offchain.errors import PlannerError
from offchain.keeper.market import GasPrice, Hub, Sources, make_problem
from offchain.planner import Plan, Pool, Problem, V2Pool, plan
from offchain.planner.problem import closing_aims, closing_limits, gas_of, objective
from offchain.policy import DAY, WAD, Asset, Mode, Rules, Session, VaultState, Verdict
from offchain.settings import Settings
from tests.support.market import random_problem, spent_budget

NOW = 1_700_000_000
A, B, EXECUTOR = ("0x" + digit * 40 for digit in "abe")
BP = 10**14  # WAD
RULES = Rules(Mode.THRESHOLD, 0, 1, NOW, DAY, 0, 150, 1_000, 100, 20, 1_000, 100)


def problem(margin_bps: int, *, first: int = 56_000, band_bps: int = 300, rules: Rules = RULES) -> Problem:
    """Two assets of a dollar, half of 100,000 each, `first` dollars of the first; a pool of 1 % between them.

    At that fee it pays to go no further than where the session closes.
    """
    assets = tuple(Asset(token, 18, 5_000, band_bps, 2_500, 0, 10_000, 10) for token in (A, B))
    balances = (first * WAD, (100_000 - first) * WAD)
    state = VaultState(
        assets, rules, Session(), balances, (WAD, WAD), (0, 0), WAD, NOW, vault="0x" + "1" * 40
    )
    pool = V2Pool("0x" + "7" * 40, A, B, 100, 2_000_000 * WAD, 2_000_000 * WAD)
    return Problem(state, (pool,), EXECUTOR, "", NOW, closing_margin_bps=margin_bps)


def room(given: Problem, found: Plan) -> float:
    """Basis points of NAV from the drift nearest to where it keeps the session open to there."""
    left = policy.drifts(given.state, found.balances_after)
    return min(limit - d for limit, d in zip(closing_limits(given), left, strict=True)) / BP


def carried_out(given: Problem, found: Plan, pools: Iterable[Pool]) -> Verdict:
    """What the vault says to the plan's legs, run on `pools`; each leg pays the least that it has to."""
    now = {pool.address: pool for pool in pools}
    tokens = [asset.token for asset in given.state.assets]
    held, back = dict(zip(tokens, found.sells, strict=True)), dict.fromkeys(tokens, 0)
    for planned in found.legs:
        leg = planned.leg
        amount = held[leg.token_in] if leg.whole_balance else leg.amount_in
        paid, now[leg.pool] = now[leg.pool].swap(leg.token_in, amount)
        assert paid * leg.amount_in >= leg.min_out * amount
        held[leg.token_in] -= amount
        (back if leg.to_caller else held)[planned.token_out] += paid
    rows = zip(given.state.balances, found.sells, tokens, strict=True)
    after = [had - sold + back[token] + (held[token] if sold else 0) for had, sold, token in rows]
    return policy.check_rebalance(given.state, found.sells, after, found.session, NOW, NOW, executor=EXECUTOR)


# ---------------------------------------------------------------- where it can be kept


@pytest.mark.parametrize("margin", [0, 1, 5, 10, 40])
def test_a_plan_ends_inside_by_the_margin_and_no_further(margin: int) -> None:
    found = plan(problem(margin))
    assert found.verdict is not None and found.verdict.closed
    assert margin <= room(problem(margin), found) < margin + 0.01


def test_the_margin_is_not_part_of_what_is_proven() -> None:
    """J and its bound are those of the problem without it, so the gap says what the margin costs."""
    bare, found = plan(problem(0)).certificate, plan(problem(20)).certificate
    assert bare is not None and found is not None
    assert found.bound == bare.bound
    assert 0 < found.gap - bare.gap == found.objective - bare.objective < 100_000 * WAD // 10_000


@pytest.mark.parametrize("before", [100, 1_000])
def test_another_trade_in_the_same_block_does_not_keep_the_session_open(before: int) -> None:
    """`before`: dollars that somebody sells to the pool ahead of the plan, whose own sale is some 4,600."""
    for margin, closes in ((0, False), (5, True)):
        given = problem(margin)
        found = plan(given)
        assert carried_out(given, found, given.pools) == found.verdict
        verdict = carried_out(given, found, [pool.swap(A, before * WAD)[1] for pool in given.pools])
        assert (verdict.ok, verdict.closed) == (True, closes), margin


@pytest.mark.parametrize("cents", [1, 15])
def test_a_price_that_moves_before_the_trade_does_not_keep_the_session_open(cents: int) -> None:
    """`cents`: by which a hundred dollars of the asset that is sold have become dearer; weights move by a quarter."""
    for margin, closes in ((0, False), (10, True)):
        given = problem(margin)
        found = plan(given)
        moved = replace(given, state=replace(given.state, prices=(WAD + cents * BP, WAD)))
        verdict = carried_out(moved, found, moved.pools)
        assert (verdict.ok, verdict.closed) == (True, closes), margin


# ---------------------------------------------------------------- where it cannot, or need not be


def test_at_most_half_of_a_narrow_limit_is_given_to_it() -> None:
    given = problem(100, first=51_000, band_bps=30)
    assert closing_limits(given) == [15 * BP] * 2
    assert closing_aims(given) == [15 * BP // 2] * 2
    assert 7.5 <= room(given, plan(given)) < 7.51


def test_a_calendar_session_has_it_too() -> None:
    calendar = replace(RULES, mode=Mode.CALENDAR, tolerance_bps=20)
    for margin in (0, 8):
        given = problem(margin, rules=calendar)
        assert margin <= room(given, plan(given)) < margin + 0.01


def test_a_loss_budget_that_is_nearly_used_leaves_less_of_it() -> None:
    """The budget pays for closing the session and a little more: some of the margin is kept, and the session closes."""
    charge = plan(problem(0)).verdict.charge / BP  # type: ignore[union-attr]
    exactly, more = (spent_budget(problem(20), left) for left in (charge + 1e-6, charge * 1.02))
    assert 0 <= room(exactly, plan(exactly)) < 0.01
    assert 1 < room(more, plan(more)) < 20


def test_where_the_whole_margin_costs_the_session_a_part_of_it_is_kept() -> None:
    """Six assets: spent on all of the margin of some, the budget would not bring the others to where it closes."""
    given = random_problem(5, gas=True)
    bare = plan(given)
    assert bare.verdict is not None and room(given, bare) < 0.01
    tight = spent_budget(given, bare.verdict.charge / BP * 1.005 + 0.01)
    found = plan(replace(tight, closing_margin_bps=20))
    assert found.verdict is not None and found.verdict.closed
    assert 4 < room(tight, found) < 20


def test_a_trade_that_hardly_pays_for_its_gas_is_still_made() -> None:
    """Ended at the edge it gains a cent, ended further inside it would lose some."""
    bare, given = plan(problem(0)), problem(20)
    assert bare.certificate is not None
    gain = objective(given, given.state.balances) - bare.certificate.objective
    dear = replace(given, gas_price=(gain - WAD // 100) // gas_of(bare.legs))
    assert plan(dear).trades
    assert 0 <= room(dear, plan(dear)) < 0.01
    assert plan(replace(dear, gas_price=dear.gas_price * 9 // 10)).verdict == plan(given).verdict


def test_whatever_the_market_a_session_that_closed_still_closes() -> None:
    """Random vaults, some with a budget that hardly pays for it: nothing is lost, and nothing moves without need."""
    nearer = same = 0
    for seed in range(22):
        drawn = random_problem(seed, gas=bool(seed % 2))
        bare = plan(drawn)
        if seed % 4 == 1 and bare.verdict is not None:
            drawn = spent_budget(drawn, bare.verdict.charge / BP * 1.005)
            bare = plan(drawn)
        asked = replace(drawn, closing_margin_bps=60 if seed % 2 else 20)
        found = plan(asked)
        assert found.trades == bare.trades, seed
        if not bare.trades:
            continue
        assert found.verdict is not None and bare.verdict is not None
        assert found.verdict.ok
        assert found.verdict.closed == bare.verdict.closed, seed
        left = policy.drifts(drawn.state, bare.balances_after)
        inside = all(d <= aim for d, aim in zip(left, closing_aims(asked), strict=True))
        if inside or not bare.verdict.closed:
            assert found == bare, seed
            same += 1
        elif found != bare:
            nearer += 1
    assert nearer >= 4 and same >= 4


def test_a_margin_below_nothing_is_refused() -> None:
    with pytest.raises(PlannerError, match="closing_margin_bps: below 0"):
        plan(problem(-1))


def test_the_keepers_margin_is_the_settings() -> None:
    given = problem(0)
    seen = Snapshot(1, BlockRef(7, "0x77", NOW), given.state.vault, given.state, "0x00")
    for settings, margin in ((Settings(), 10), (Settings(closing_margin_bps=3), 3)):
        made = make_problem(seen, given.pools, Sources.from_settings(settings), Hub(), GasPrice())
        assert made.closing_margin_bps == margin
    assert make_problem(seen, given.pools, Sources(PoolSource()), Hub(), GasPrice()).closing_margin_bps == 0
