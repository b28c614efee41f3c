"""Slots, bands and moving targets of a history: the vault's own numbers, and nothing known too early."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain import policy as vault
from offchain.backtest import (
    BacktestError,
    Costs,
    Kind,
    Market,
    Policy,
    RebalanceTo,
    best_bands,
    exchange_rows,
    run,
    schedule,
    volatility_bands,
)
from offchain.planner import bands as theory
from offchain.policy import WAD, Asset, CalendarUnit, Mode

DAY = 86_400
HALVES = [0.5, 0.5]


def market(rows: int, n: int = 2, seed: int = 0, start: str = "2023-11-07T21:00", hours: int = 24) -> Market:
    rng = np.random.default_rng(seed)
    dates = np.datetime64(start) + np.arange(rows) * np.timedelta64(hours, "h")
    return Market(dates, 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (rows, n)), axis=0)))


# ---------------------------------------------------------------- calendar


@settings(max_examples=60, deadline=None)
@given(
    unit=st.sampled_from(CalendarUnit),
    every=st.integers(1, 40),
    anchor=st.integers(1_640_000_000, 1_760_000_000) | st.just(0),
    hours=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_slots_are_the_vaults(unit: CalendarUnit, every: int, anchor: int, hours: int, seed: int) -> None:
    steps = np.random.default_rng(seed).integers(1, 30 * hours * 60, 300).astype("timedelta64[m]")
    found = Market(np.datetime64("2021-12-30T23:00") + np.cumsum(steps), np.ones((300, 2)))
    policy = Policy(HALVES, calendar_unit=unit, calendar_every=every, calendar_anchor=anchor)
    rules = policy.rules()
    expected = [vault.calendar_slot(rules, int(now)) for now in found.times]
    assert schedule(policy, found).slots.tolist() == expected


def test_the_calendar_trades_on_the_first_row_of_each_slot() -> None:
    found = run(market(400), Policy(HALVES, Mode.CALENDAR))
    days = [found.market.dates[row].astype("datetime64[D]").item().isoformat() for row in found.trade_rows]
    assert days == ["2023-11-07", "2024-01-01", "2024-04-01", "2024-07-01", "2024-10-01"]
    assert found.kinds[found.trade_rows].tolist() == [Kind.FIRST] + [Kind.CALENDAR] * 4


def test_every_n_days_from_an_anchor() -> None:
    anchor = int(datetime(2023, 11, 10, 22, tzinfo=UTC).timestamp())  # after the close of that day
    policy = Policy(
        HALVES,
        Mode.CALENDAR,
        calendar_unit=CalendarUnit.DAYS,
        calendar_every=10,
        calendar_anchor=anchor,
    )
    assert run(market(40), policy).trade_rows.tolist() == [0, 4, 14, 24, 34]


def test_new_york_is_closed_on_the_first_of_january_and_at_weekends() -> None:
    tokens = market(460)  # every day
    first, last = exchange_rows(tokens, "XNYS"), exchange_rows(tokens, "XNYS", last=True)

    def days(rows: np.ndarray) -> list[str]:
        return tokens.dates[rows].astype("datetime64[D]").astype(str).tolist()

    assert days(first) == ["2024-01-02", "2024-04-01", "2024-07-01", "2024-10-01", "2025-01-02"]
    assert days(last) == ["2023-12-29", "2024-03-28", "2024-06-28", "2024-09-30", "2024-12-31"]
    found = run(tokens, Policy(HALVES, Mode.CALENDAR, calendar_rows=last))
    assert found.trade_rows[1:].tolist() == np.flatnonzero(last).tolist()


def test_an_exchange_row_is_the_days_last() -> None:
    hourly = market(24 * 120, hours=1)
    rows = np.flatnonzero(exchange_rows(hourly, "XNYS"))
    assert hourly.dates[rows].astype(str).tolist() == ["2024-01-02T23:00:00"]


def test_calendar_rows_lapse_at_once() -> None:
    mask = np.zeros(50, dtype=bool)
    mask[[10, 30]] = True
    both = Policy(HALVES, Mode.BOTH, bands=0.02, calendar_rows=mask)
    found = run(market(50, seed=4), both)
    drift = abs(
        run(market(50, seed=4), Policy(HALVES, Mode.CALENDAR, calendar_rows=mask[:50] & False)).weights - 0.5
    )
    assert set(found.trade_rows) <= {0, 10, 30}
    assert (10 in found.trade_rows) == bool(drift[10].max() >= 0.02)
    assert (drift[10:30].max(axis=1) >= 0.02).any()


# ---------------------------------------------------------------- bands


@settings(max_examples=60, deadline=None)
@given(
    bps=st.lists(st.integers(0, 10_000), min_size=3, max_size=3),
    points=st.lists(st.integers(0, 10_000), min_size=3, max_size=3),
    relative=st.lists(st.integers(0, 10_000), min_size=3, max_size=3),
)
def test_bands_are_the_vaults(bps: list[int], points: list[int], relative: list[int]) -> None:
    targets = [b // 3 for b in bps[:2]]
    targets = np.array([*targets, 10_000 - sum(targets)])
    policy = Policy(targets / 10_000, band_points_bps=points, band_relative_bps=relative)
    assets = [Asset("", 18, int(t), p, r, 0, 0, 0) for t, p, r in zip(targets, points, relative, strict=True)]
    found = schedule(policy, market(3, 3)).table[1]
    assert found.tolist() == [[vault.band(asset) / WAD for asset in assets]]


def test_five_and_twenty_five() -> None:
    policy = Policy([0.40, 0.10, 0.004, 0.496])
    assert schedule(policy, market(3, 4)).table[1][0].tolist() == pytest.approx([0.05, 0.025, 0.0025, 0.05])


def test_a_band_moves_with_its_target() -> None:
    targets = np.full((5, 2), np.nan)
    targets[0], targets[3] = [0.1, 0.9], [0.2, 0.8]
    found = run(market(5), Policy(targets))
    assert found.bands[:, 0].tolist() == pytest.approx([0.025] * 3 + [0.05] * 2)
    assert found.targets[:, 0].tolist() == pytest.approx([0.1] * 3 + [0.2] * 2)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_not_held_is_beyond_a_band_of_its_whole_target(seed: int) -> None:
    a, b = np.random.default_rng(seed).uniform(0.05, 0.4, 2)
    targets = np.full((5, 3), np.nan)
    targets[0], targets[2] = [0, 1 - a, a], [b, 1 - a - b, a]
    still = Market(np.datetime64("2024-01-01") + np.arange(5), np.full((5, 3), 7.0))
    wide = Policy(targets, Mode.THRESHOLD, band_points_bps=10_000, band_relative_bps=10_000)
    assert run(still, wide).trade_rows.tolist() == [0, 2]


def test_volatility_bands_widen_when_it_is_wild_and_know_only_the_past() -> None:
    rng = np.random.default_rng(1)
    sigma = np.where(np.arange(900) < 600, 0.01, 0.04)[:, None]
    prices = np.exp(np.cumsum(rng.normal(0, 1, (900, 2)) * sigma, axis=0))
    dates = np.datetime64("2020-01-01") + np.arange(900)
    found = volatility_bands(Market(dates, prices), 0.05)
    assert found.shape == (900, 2)
    assert abs(found[300:600].mean() - 0.05) < 0.005 and (found[640:660] > 0.095).all()
    assert found.max() == 0.10  # its limit
    changed = prices.copy()
    changed[700:] *= rng.uniform(0.5, 2, (200, 2))
    again = volatility_bands(Market(dates, changed), 0.05)
    assert again[:700].tobytes() == found[:700].tobytes() and (again[700:] != found[700:]).any()


def test_volatility_bands_are_weighted_means() -> None:
    found = market(40, 1)
    moves = np.diff(np.log(found.prices[:, 0])) ** 2
    row, expected = 30, []
    for half_life in (5.0, 20.0):
        weight = 0.5 ** (np.arange(row)[::-1] / half_life)
        expected.append((weight * moves[:row]).sum() / weight.sum())
    ratio = np.clip(np.sqrt(expected[0] / expected[1]), 0.5, 2)
    bands = volatility_bands(found, 0.1, fast=5, slow=20)
    assert bands[row, 0] == pytest.approx(0.1 * ratio, rel=1e-9)
    assert volatility_bands(found, 0.0001).min() == 0.0025


def test_best_bands_are_the_theorys() -> None:
    half, stop = best_bands([0.2, 0.3, 0.5], [0.6, 0.2, 0.4], aversion=5, cost=0.003, fixed=0.00001)
    second = theory.band(theory.Drift.of(0.3, 0.2, 5, 0.003, 0.00001))
    assert (half[1], stop[1]) == (second.half_width, second.stop)
    assert (stop > 0).all() and (stop < half).all() and half[0] < half[1] < half[2]


def test_trading_to_the_best_edge_costs_less_than_to_the_target() -> None:
    """Theory in use: the same bands' half-width, edge against target, over 20 simulated years."""
    rng = np.random.default_rng(7)
    rows = 5_000
    prices = np.exp(np.cumsum(rng.normal(0, 0.6 / np.sqrt(252), (rows, 2)), axis=0))
    dates = np.datetime64("2000-01-01") + np.arange(rows)
    bands, stops = best_bands([0.5, 0.5], [0.85, 0.85], aversion=5, cost=0.003)
    costs = Costs(proportional_bps=30)
    edge = run(Market(dates, prices), Policy(HALVES, Mode.THRESHOLD, bands=bands, stops=stops), costs)
    target = run(Market(dates, prices), Policy(HALVES, Mode.THRESHOLD, bands=bands), costs)
    assert edge.statistics["cost"] < 0.75 * target.statistics["cost"]


# ---------------------------------------------------------------- when a trigger is not enough


def test_the_cooldown_holds_a_band_back() -> None:
    quick = Policy(HALVES, Mode.THRESHOLD, bands=0.01)
    free = run(market(200), quick)
    rested = run(market(200), replace(quick, cooldown_seconds=10 * DAY))
    assert np.diff(free.trade_rows[1:]).min() < 10 == np.diff(rested.trade_rows[1:]).min()
    assert rested.trade_rows[1] == free.trade_rows[1]  # the purchase is no session: nothing to rest from


def test_a_slot_missed_in_the_cooldown_is_still_due_after_it() -> None:
    policy = Policy(HALVES, bands=0.03, calendar_unit=CalendarUnit.DAYS, calendar_every=30)
    found = run(market(300, seed=2), replace(policy, cooldown_seconds=20 * DAY))
    slots = schedule(policy, found.market).slots
    used = slots[found.trade_rows]
    assert (np.diff(used) <= 1).all() and found.kinds.max() >= Kind.THRESHOLD
    late = [row for row in found.trade_rows[1:] if found.kinds[row] & 1 and slots[row] == slots[row - 1]]
    assert late  # not on the first row of its slot


def test_a_trade_must_earn_its_cost() -> None:
    """The tracking loss that a trade takes away, in money, against what it costs."""
    costs = Costs(proportional_bps=20, per_rebalance=5.0)
    eager = Policy(HALVES, Mode.THRESHOLD, bands=0.005)
    choosy = run(market(400), replace(eager, gain_over_cost=1.0), costs)
    lazy = run(market(400), replace(eager, gain_over_cost=4.0), costs)
    assert run(market(400), eager, costs).rebalances > choosy.rebalances > lazy.rebalances > 1
    for found, multiple in ((choosy, 1.0), (lazy, 4.0)):
        for row, trade in zip(found.trade_rows[1:], found.trades[1:], strict=True):
            cost = found.costs[row].sum()
            before = found.value[row] + cost
            away = (found.weights[row] * found.value[row] - trade) / before - 0.5
            then = found.weights[row] * found.value[row] / before - 0.5
            assert before * 0.15 * (away @ away - then @ then) >= multiple * cost


def test_covariance_weighs_the_loss() -> None:
    """Drift between twins is no risk: there is nothing to gain by trading it away."""
    twins = np.array([[1.0, 1.0], [1.0, 1.0]]) * 0.04
    policy = Policy(HALVES, Mode.THRESHOLD, bands=0.01, gain_over_cost=1e-6, aversion=1)
    costs = Costs(proportional_bps=1)
    assert run(market(200), policy, costs).rebalances > 5
    assert run(market(200), replace(policy, covariance=twins), costs).rebalances == 1


# ---------------------------------------------------------------- moving targets


def test_targets_stay_until_the_next_row_that_names_them() -> None:
    targets = np.full((60, 2), np.nan)
    targets[0], targets[20], targets[40] = [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]
    found = run(market(60), Policy(targets, Mode.THRESHOLD))
    assert found.targets[:, 0].tolist() == [0.5] * 20 + [0.9] * 20 + [0.2] * 20
    assert {20, 40} <= set(found.trade_rows.tolist())  # a target that moves out of its band is a trigger


def test_targets_are_clipped_to_their_limits() -> None:
    targets = np.full((4, 3), np.nan)
    targets[0], targets[2] = [0.4, 0.3, 0.3], [0.9, 0.1, 0.0]
    found = run(market(4, 3), Policy(targets, min_targets=0.1, max_targets=[0.6, 1, 1]))
    assert found.targets[3].tolist() == pytest.approx([0.6, 0.25, 0.15])  # the rest moves by the same shift


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clipped_targets_are_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    wanted, low = rng.dirichlet(np.ones(n)), rng.uniform(0, 1 / n, n)
    high = np.minimum(1, low + rng.uniform(0.1, 1, n))
    if high.sum() < 1:
        high[:] = 1
    targets = np.full((2, n), np.nan)
    targets[0] = wanted
    found = run(market(2, n), Policy(targets, min_targets=low, max_targets=high)).targets[0]
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found >= low).all() and (found <= high).all()
    for other in rng.dirichlet(np.ones(n), 200):
        step = found + 0.01 * (other - found)
        if ((step >= low) & (step <= high)).all():
            assert ((step - wanted) ** 2).sum() >= ((found - wanted) ** 2).sum() - 1e-12


def test_targets_move_no_faster_than_the_vaults_bucket() -> None:
    targets = np.full((60, 2), np.nan)
    targets[0], targets[10], targets[35] = [0.5, 0.5], [0.8, 0.2], [0.4, 0.6]
    policy = Policy(targets, speed_capacity_bps=2_000, speed_refill_bps_per_day=200)
    found = run(market(60), policy).targets[:, 0]
    assert found[9] == 0.5 and found[10] == pytest.approx(0.6)  # a path of 20 points: all the bucket has
    assert np.diff(found[10:29]) == pytest.approx([0.01] * 18)  # then 2 points of path a day: one each side
    assert found[30:35] == pytest.approx([0.8] * 5)
    # the vault, asked in whole basis points, accepts each of these moves and no larger one
    rules, levels = policy.rules(), []
    state = vault.VaultState(
        tuple(Asset("", 18, 5_000, 500, 10_000, 0, 10_000, 0) for _ in range(2)),
        rules,
        vault.Session(),
        *((), (), ()),
        supply=0,
        time=0,
    )
    for row, now in enumerate(run(market(60), policy).market.times.tolist()):
        bps = round(found[row] * 10_000)
        if bps == state.assets[0].target_bps:
            continue
        further = bps + (1 if bps > state.assets[0].target_bps else -1)
        if found[row] not in (0.8, 0.4):
            assert vault.set_targets(state, [further, 10_000 - further], now)[0] == "targets move too fast"
        reason, state = vault.set_targets(state, [bps, 10_000 - bps], now)
        levels.append(reason)
    assert len(levels) > 20 and not any(levels)


# ---------------------------------------------------------------- closing


def test_rebalancing_as_far_as_the_session_needs() -> None:
    policy = Policy([0.3, 0.3, 0.4], bands=0.04, tolerance_bps=50, rebalance_to=RebalanceTo.CLOSE)
    found = run(market(600, 3), policy)
    drift = abs(found.weights - found.targets).max(axis=1)
    by_calendar = [row for row in found.trade_rows[1:] if found.kinds[row] & Kind.CALENDAR]
    by_band = [row for row in found.trade_rows[1:] if found.kinds[row] == Kind.THRESHOLD]
    assert by_calendar and drift[by_calendar].max() <= 0.005 + 1e-12
    assert by_band and drift[by_band].max() <= 0.02 + 1e-12
    assert drift[by_band].min() > 0.0199


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": [0.5, 0.6]}, "targets: the weights sum to 1.1, not to 1"),
        ({"targets": [1.5, -0.5]}, "targets: column B: -0.5 is not a weight of at least 0"),
        ({"targets": [1.0]}, "targets: has shape (1,), needs 2 weights or 5 rows of 2"),
        (
            {"targets": np.full((5, 2), np.nan)},
            "targets: row 0 (2024-01-01): the first row must have weights",
        ),
        (
            {"targets": [[0.5, 0.5], [np.nan] * 2, [0.5, np.nan], [np.nan] * 2, [0.5, 0.5]]},
            "targets: row 2 (2024-01-03), column B: nan is not a weight of at least 0",
        ),
        (
            {"targets": [[0.5, 0.5], [np.nan] * 2, [0.5, 0.4], [np.nan] * 2, [0.5, 0.5]]},
            "targets: row 2 (2024-01-03): the weights sum to 0.9, not to 1",
        ),
        ({"bands": -0.1}, "bands: asset 0: -0.1 is not between 0 and 1"),
        ({"bands": [[0.1, 0.1]] * 4}, "bands: has shape (4, 2), needs one number, 2 numbers or 5 rows of 2"),
        ({"band_points_bps": [5, 1.5]}, "band_points_bps: whole basis points only; `bands` takes any width"),
        ({"band_relative_bps": 10_001}, "band_relative_bps: asset 0: 10001 is not between 0 and 10000"),
        ({"calendar_rows": [True]}, "calendar_rows: needs True or False for each of 5 rows"),
        ({"max_targets": 0.4}, "min_targets, max_targets: no weights that sum to 1 lie between them"),
        ({"max_targets": [0.4, 1]}, "targets: column A: outside min_targets and max_targets"),
        ({"covariance": [[1, 2]]}, "covariance: needs a symmetric table of 2 rows of 2 finite numbers"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_by_name(fields: dict[str, object], message: str) -> None:
    days = Market(np.datetime64("2024-01-01") + np.arange(5), np.ones((5, 2)), ("A", "B"))
    with pytest.raises(BacktestError) as refusal:
        run(days, Policy(**({"targets": HALVES} | fields)))
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": 7}, "mode: 7 is none of Mode.CALENDAR, Mode.THRESHOLD, Mode.EITHER, Mode.BOTH"),
        ({"rebalance_to": "edge"}, "rebalance_to: 'edge' is none of RebalanceTo.TARGET, "),
        ({"calendar_every": 0}, "calendar_every: 0 is below 1"),
        ({"cooldown_seconds": -1}, "cooldown_seconds: -1 is below 0"),
        ({"gain_over_cost": float("nan")}, "gain_over_cost: nan is below 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(fields: dict[str, object], message: str) -> None:
    with pytest.raises(BacktestError) as refusal:
        Policy(HALVES, **fields)
    assert str(refusal.value).startswith(message)


def test_an_unknown_exchange_is_refused() -> None:
    with pytest.raises(BacktestError, match="exchange: 'XXXX' is not known"):
        exchange_rows(market(90), "XXXX")


def test_volatility_bands_refuse_half_lives_of_nothing() -> None:
    with pytest.raises(BacktestError, match="half-lives must be above 0"):
        volatility_bands(market(9), 0.05, fast=0)
