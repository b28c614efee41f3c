"""Stresses: each does what it says to market, costs or decisions, and its row says so with the right sign."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from skfolio.datasets import load_sp500_dataset

from offchain.backtest import BacktestError, Costs, Market, Policy, RebalanceTo, Result, run
from offchain.backtest.stress import (
    CRISES,
    Shock,
    StressResult,
    _outcome,
    as_decided,
    correlated,
    crises,
    delayed,
    depegged,
    frozen,
    stress,
)
from offchain.policy import Mode

EQUAL = np.full(4, 0.25)
COSTS = Costs(
    proportional_bps=10, per_rebalance=3, impact=1, volatility=0.02, daily_volume=1e7, pool_depth=1e8
)
POLICY = Policy(EQUAL, bands=0.03, calendar_every=12)


@cache
def stocks() -> Market:
    return Market.of(load_sp500_dataset().iloc[:, :4])


@cache
def market(seed: int = 0, rows: int = 700) -> Market:
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0002, 0.02, (rows, 4)) + rng.normal(0, 0.01, (rows, 1))
    return Market(
        np.datetime64("2021-01-01") + np.arange(rows), 50 * np.cumprod(1 + moves, axis=0), tuple("abcd")
    )


@cache
def plain() -> Result:
    return run(market(), POLICY, COSTS)


@cache
def table() -> dict[str, StressResult]:
    return {row.name: row for row in stress(market(), POLICY, COSTS)}


# ---------------------------------------------------------------- crises


def test_dated_crises_are_those_inside_the_data() -> None:
    found = crises(stocks())
    assert [name for name, _, _ in found[: len(CRISES)]] == [name for name, _, _ in CRISES]
    days = stocks().dates.astype("datetime64[D]").astype(str)
    for (name, start, end), (_, first, last) in zip(found, CRISES, strict=False):
        assert (days[start], days[end]) == (first, last), name
    part = Market.of(load_sp500_dataset().iloc[:, :4].loc["2008-01-01":"2020-03-20"])
    assert [name for name, _, _ in crises(part) if name in {c[0] for c in CRISES}] == [
        "euro debt",
        "end of 2018",
    ]


def test_the_datas_own_falls_are_the_deepest_and_overlap_nothing() -> None:
    found = crises(stocks())
    own = found[len(CRISES) :]
    assert len(own) == 3
    spans = [(start, end) for _, start, end in found]
    for i, (start, end) in enumerate(spans[len(CRISES) :], len(CRISES)):
        assert all(end < a or b < start for a, b in spans[:i])
    moves = np.cumprod(np.r_[1, (stocks().prices[1:] / stocks().prices[:-1]).mean(axis=1)])
    depth = [1 - moves[end] / moves[start] for _, start, end in own]
    assert depth == sorted(depth, reverse=True) and depth[-1] >= 0.1


def test_a_crisis_compares_the_run_with_its_holdings_left_alone() -> None:
    base = run(stocks(), POLICY, COSTS)
    row = next(row for row in stress(stocks(), POLICY, COSTS) if row.name == "financial crisis")
    start, end = (
        int(np.flatnonzero(stocks().dates == np.datetime64(day))[0]) for day in (row.start, row.end)
    )
    assert row.stressed is not None
    assert row.stressed.total_return == pytest.approx(base.value[end] / base.value[start] - 1, rel=1e-12)
    inside = (base.trade_rows > start) & (base.trade_rows <= end)
    assert row.stressed.rebalances == inside.sum() > 0
    assert row.stressed.cost == pytest.approx(base.trade_costs[inside].sum(), rel=1e-12)
    grown = stocks().prices[start : end + 1] / stocks().prices[start] @ base.weights[start]
    assert row.base.total_return == pytest.approx(grown[-1] - 1, rel=1e-9)
    assert row.base.max_drawdown == pytest.approx(1 - (grown / np.maximum.accumulate(grown)).min(), rel=1e-9)
    assert row.base.value == pytest.approx(base.value[start] * grown[-1], rel=1e-9)
    assert row.base.rebalances == row.base.cost == 0
    word = "more" if row.stressed.total_return > row.base.total_return else "less"
    assert f"points {word} than the holdings" in row.sentence


def test_holdings_left_alone_keep_their_dividends() -> None:
    paid = np.zeros((700, 4))
    paid[::7] = 0.5
    with_dividends = Market(market().dates, market().prices, market().names, paid)
    rows = stress(with_dividends, POLICY)
    crisis = next(row for row in rows if row.kind == "crisis")
    base = run(with_dividends, POLICY)
    start, end = (
        int(np.flatnonzero(market().dates == np.datetime64(d))[0]) for d in (crisis.start, crisis.end)
    )
    units = base.value[start] * base.weights[start] / market().prices[start]
    kept = base.cash[start] + units @ (market().prices[end] + paid[start + 1 : end + 1].sum(axis=0))
    assert crisis.base.value == pytest.approx(kept, rel=1e-9)


# ---------------------------------------------------------------- correlation


def test_correlation_goes_to_one_and_means_and_volatilities_stay() -> None:
    before, after = market(), correlated(market(), 0.95, 100, 400)
    logs, mixed = (np.diff(np.log(m.prices[100:401]), axis=0) for m in (before, after))
    pairs = np.triu_indices(4, 1)
    assert np.corrcoef(logs, rowvar=False)[pairs].max() < 0.4
    assert np.corrcoef(mixed, rowvar=False)[pairs].min() > 0.9
    assert mixed.std(axis=0) == pytest.approx(logs.std(axis=0), rel=1e-9)
    assert mixed.mean(axis=0) == pytest.approx(logs.mean(axis=0), abs=1e-12)
    outside = np.r_[0:101, 400:700]
    assert (after.prices[outside] == before.prices[outside]).all()
    inside = np.s_[101:400]
    assert (after.prices[inside] != before.prices[inside]).all()
    one = correlated(market(), 1.0, 100, 400)
    assert np.corrcoef(np.diff(np.log(one.prices[100:401]), axis=0), rowvar=False) == pytest.approx(
        np.ones((4, 4))
    )


def test_an_asset_that_stands_still_keeps_standing_still() -> None:
    prices = market().prices.copy()
    prices[:, 2] = 1.0
    shocked = correlated(Market(market().dates, prices), 0.95, 100, 400)
    assert (shocked.prices[:, 2] == 1.0).all() and np.isfinite(shocked.prices).all()


# ---------------------------------------------------------------- costs


def test_a_fee_spike_is_a_run_with_those_costs() -> None:
    dear = run(market(), POLICY, Costs(50, 60, impact=1, volatility=0.02, daily_volume=1e7, pool_depth=1e8))
    row = table()["fee spike"]
    assert row.stressed is not None
    assert row.stressed.value == dear.final_value and row.base.value == plain().final_value
    assert row.stressed.cost == pytest.approx(dear.trade_costs.sum(), rel=1e-12)
    assert row.stressed.rebalances == dear.rebalances
    assert "lower" in row.sentence


def test_a_liquidity_drought_shrinks_volumes_and_pools_and_raises_impact() -> None:
    dry = run(market(), POLICY, Costs(10, 3, impact=2, volatility=0.02, daily_volume=1e6, pool_depth=1e7))
    row = table()["liquidity drought"]
    assert row.stressed is not None
    assert row.stressed.value == dry.final_value < row.base.value
    assert "lower" in row.sentence


def test_a_drought_without_impact_or_pools_says_that_it_shows_nothing() -> None:
    row = next(r for r in stress(market(), POLICY, Costs(10)) if r.name == "liquidity drought")
    assert row.stressed == row.base
    assert "know no impact and no pools" in row.sentence


def test_a_policy_that_cannot_go_on_is_a_row_that_says_why() -> None:
    once = Policy(EQUAL, Mode.THRESHOLD, bands=1.0)
    row = next(r for r in stress(market(), once, Costs(per_rebalance=6e4)) if r.name == "fee spike")
    assert row.stressed is None
    assert "could not have gone on (costs: row 0 (2021-01-01)" in row.sentence


# ---------------------------------------------------------------- oracle


def keeper(
    prices: np.ndarray, seen: np.ndarray, band: float, rate: float, cash: float = 1e6
) -> tuple[float, int]:
    """Final value and rebalances: weights are judged at `seen`, trades happen at `prices`; row by row, in plain words.

    What is wanted is units in proportion to target / seen price; they are bought and sold at true prices and the cost
    is paid from the portfolio, found by bisection.
    """
    units, count = np.zeros(4), 0
    for true, shown in zip(prices, seen, strict=True):
        weights = units * shown / (units @ shown) if count else np.zeros(4)
        if count and (np.abs(weights - EQUAL) < band).all():
            continue
        wanted, held = EQUAL / shown, units * true
        goal = wanted * true / (wanted @ true)
        low, high = 0.0, held.sum() + (0 if count else cash)
        budget = high
        for _ in range(200):
            y = (low + high) / 2
            if y + rate * np.abs(goal * y - held).sum() > budget:
                high = y
            else:
                low = y
        units, count = goal * low / true, count + 1
    return float(units @ prices[-1]), count


@pytest.mark.parametrize("delay", [1, 5, 30])
def test_a_late_oracle_is_a_keeper_that_sees_old_prices(delay: int) -> None:
    policy = Policy(EQUAL, Mode.THRESHOLD, bands=0.03)
    late = next(
        row
        for row in stress(market(), policy, Costs(20), shock=Shock(stale_rows=[delay]))
        if row.kind == "oracle" and "late" in row.name
    )
    value, count = keeper(market().prices, delayed(market().prices, delay), 0.03, 0.002)
    assert late.stressed is not None
    assert late.stressed.value == pytest.approx(value, rel=1e-9)
    assert late.stressed.rebalances == count > 10
    assert late.base.value == pytest.approx(
        keeper(market().prices, market().prices, 0.03, 0.002)[0], rel=1e-9
    )


def test_a_frozen_oracle_stands_still_where_prices_fell_most() -> None:
    policy = Policy(EQUAL, Mode.THRESHOLD, bands=0.01)
    row = next(
        r
        for r in stress(market(), policy, Costs(20), shock=Shock(frozen_rows=40))
        if r.name == "oracle frozen"
    )
    wealth = np.cumprod(np.r_[1, (market().prices[1:] / market().prices[:-1]).mean(axis=1)])
    start = int((wealth[40:] / wealth[:-40]).argmin())
    assert row.start == str(market().dates[start].astype("datetime64[D]"))
    assert row.end == str(market().dates[start + 39].astype("datetime64[D]"))
    seen = frozen(market().prices, start, start + 39)
    value, count = keeper(market().prices, seen, 0.01, 0.002)
    assert row.stressed is not None
    assert row.stressed.value == pytest.approx(value, rel=1e-9) != row.base.value
    assert row.stressed.rebalances == count


def test_delayed_and_frozen_prices() -> None:
    prices = np.arange(1.0, 7.0)[:, None]
    assert delayed(prices, 2)[:, 0].tolist() == [1, 1, 1, 2, 3, 4]
    assert frozen(prices, 1, 3)[:, 0].tolist() == [1, 2, 2, 2, 5, 6]


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        Policy(EQUAL, bands=0.04, rebalance_to=RebalanceTo.HALF_BAND, fee_bps=100),
        Policy(EQUAL, Mode.CALENDAR, calendar_every=2, cooldown_seconds=86_400 * 90),
    ],
)
@pytest.mark.parametrize("held", [None, [9e3, 0.0, 1e3, 0.0]])
def test_decisions_on_true_prices_replay_to_the_same_run(policy: Policy, held: list[float] | None) -> None:
    first = run(market(), policy, COSTS, holdings=held)
    again = run(market(), as_decided(first, market()), COSTS, holdings=held)
    assert again.trade_rows.tolist() == first.trade_rows.tolist()
    assert again.value == pytest.approx(first.value, rel=1e-9)
    assert again.weights == pytest.approx(first.weights, abs=1e-9)


# ---------------------------------------------------------------- depeg


def test_a_depeg_hits_one_asset_for_good_or_for_a_month() -> None:
    for_good, back = depegged(market(), 1, 0.4, 300), depegged(market(), 1, 0.4, 300, 330)
    for shocked, rows in ((for_good, np.s_[300:]), (back, np.s_[300:330])):
        ratio = np.ones((700, 4))
        ratio[rows, 1] = 0.6
        assert shocked.prices == pytest.approx(market().prices * ratio, rel=1e-12)
    shock = Shock(depeg=0.4, depeg_asset="b", depeg_row=300)
    rows = {row.name: row for row in stress(market(), POLICY, COSTS, shock=shock)}
    for name, shocked in (("depeg, for good", for_good), ("depeg, back", back)):
        row = rows[name]
        assert row.stressed is not None
        assert row.stressed.value == run(shocked, POLICY, COSTS).final_value
    assert "b loses 40.0 % on 2021-10-28 for good: the final value is" in rows["depeg, for good"].sentence
    assert rows["depeg, back"].end == "2021-11-27"


def test_the_asset_of_the_largest_target_depegs_unless_one_is_named() -> None:
    rows = stress(market(), Policy([0.2, 0.2, 0.5, 0.1], bands=0.05), COSTS)
    assert any(row.sentence.startswith("c loses 50.0 %") for row in rows)


def test_a_rebalancer_loses_more_to_a_depeg_than_who_holds() -> None:
    # It buys the asset on its way down: an asset that halves eleven days in a row, beside ones that stand still.
    falling = 0.5 ** np.clip(np.arange(40) - 10, 0, 11)
    prices = np.stack([falling, np.ones(40), np.ones(40)], axis=1)
    still = Market(np.datetime64("2022-01-01") + np.arange(40), prices)
    third = np.full(3, 1 / 3)
    bought, held = (run(still, Policy(third, Mode.THRESHOLD, bands=band)) for band in (0.05, 1.0))
    assert bought.final_value < held.final_value


# ---------------------------------------------------------------- all of them


def test_every_row_agrees_with_its_sentence() -> None:
    rows = stress(market(), POLICY, COSTS)
    assert [row.kind for row in rows if row.kind != "crisis"] == [
        *("correlation", "liquidity", "oracle", "oracle", "oracle", "fees", "depeg", "depeg")
    ]
    for row in rows:
        assert row.stressed is not None
        if row.kind == "crisis":
            gap = row.stressed.total_return - row.base.total_return
            low, high = "points less than", "points more than"
        else:
            gap = row.stressed.total_return - row.base.total_return
            low, high = "lower", "higher"
            assert row.base.value == plain().final_value
        if abs(gap) > 1e-4:
            assert (high if gap > 0 else low) in row.sentence, row
            assert (low if gap > 0 else high) not in row.sentence, row
    assert json.loads(json.dumps([row.as_dict() for row in rows], allow_nan=False))


def test_moving_targets_are_kept_unless_decided_again() -> None:
    moving = np.full((700, 4), np.nan)
    moving[0], moving[350] = EQUAL, [0.4, 0.4, 0.1, 0.1]
    asked: list[Market] = []

    def retarget(shocked: Market) -> np.ndarray:
        asked.append(shocked)
        return np.full(4, 0.25)

    policy = Policy(moving, bands=0.03)
    kept = {row.name: row for row in stress(market(), policy, COSTS)}
    again = {row.name: row for row in stress(market(), policy, COSTS, retarget=retarget)}
    assert len(asked) == 3  # the correlation and two depegs change the market; costs and oracle do not
    assert kept["fee spike"] == again["fee spike"]
    assert kept["depeg, back"] != again["depeg, back"]
    depeg = again["depeg, back"].stressed
    assert depeg is not None
    assert depeg.value == run(asked[2], Policy(EQUAL, bands=0.03), COSTS).final_value


def test_progress_counts_the_rows() -> None:
    steps: list[int] = []
    assert len(stress(market(), POLICY, COSTS, progress=steps.append)) == sum(steps)


def test_the_window_of_the_correlation_shock_can_be_given() -> None:
    row = next(r for r in stress(market(), POLICY, COSTS, window=(10, 60)) if r.kind == "correlation")
    assert (row.start, row.end) == ("2021-01-11", "2021-03-02")
    assert row.stressed is not None
    assert row.stressed.value == run(correlated(market(), 0.95, 10, 60), POLICY, COSTS).final_value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shock": Shock(correlation=1.5)}, "correlation: 1.5 is not between 0 and 1"),
        ({"shock": Shock(gas=0.5)}, "gas: 0.5 is not a factor of at least 1"),
        ({"shock": Shock(depeg=1.0)}, "depeg: 1.0 is not a part between 0 and 1"),
        ({"shock": Shock(depeg_asset="x")}, "depeg_asset: no asset 'x'; there are a, b, c, d"),
        ({"shock": Shock(depeg_row=700)}, "depeg_row: 700 is not between 1 and 699"),
        ({"shock": Shock(stale_rows=[0])}, "stale_rows: 0 is not between 1 and 699"),
        ({"shock": Shock(frozen_rows=700)}, "frozen_rows: 700 is not between 1 and 699"),
        ({"window": (5, 7)}, "window: .* is not two rows"),
        ({"window": (5, 700)}, "window: .* is not two rows"),
    ],
)
def test_a_shock_that_cannot_be_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(BacktestError, match=message):
        stress(market(), POLICY, COSTS, **arguments)


def test_a_trade_at_the_first_close_is_not_part_of_what_follows() -> None:
    start = int(plain().trade_rows[3])
    found = _outcome(plain(), start, 699)
    assert found.rebalances == plain().rebalances - 4
    assert _outcome(plain(), 0, 699).rebalances == plain().rebalances
