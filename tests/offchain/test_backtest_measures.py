"""Measures against hand-made series, plain recomputations and the engine's own statistics."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from skfolio import Portfolio
from skfolio.datasets import load_sp500_dataset

from offchain.backtest import BacktestError, Costs, Market, Policy, Result, run
from offchain.backtest.measures import (
    Track,
    drawdowns,
    measures,
    risk_contributions,
    rolling_correlations,
    yearly_returns,
)
from offchain.policy import Mode


@cache
def stocks() -> Market:
    return Market.of(load_sp500_dataset().iloc[-1500:])


@cache
def result() -> Result:
    costs = Costs(proportional_bps=10, per_rebalance=20, per_leg=3)
    return run(stocks(), Policy(np.full(20, 0.05), bands=0.02, fee_bps=50), costs)


def days(count: int, start: str = "2020-01-01") -> np.ndarray:
    return np.datetime64(start) + np.arange(count)


def noise(count: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0005, 0.01, count)


# ---------------------------------------------------------------- of returns


def test_every_measure_of_a_series_small_enough_for_paper() -> None:
    returns = np.array([0.10, -0.20, 0.05, 0.30])
    found = measures(returns, days(5), rows_per_year=4, risk_free=1.02**4 - 1)  # 2 % a row
    years = 4 / 365.25
    total = 1.1 * 0.8 * 1.05 * 1.3
    mean, spread = 0.0625, np.sqrt(((returns - 0.0625) ** 2).sum() / 3)
    down = np.sqrt(0.22**2 / 4)  # only the −20 % is below 2 %
    assert found["total_return"] == pytest.approx(total - 1, rel=1e-12)
    assert found["cagr"] == pytest.approx(total ** (1 / years) - 1, rel=1e-9)
    assert found["volatility"] == pytest.approx(spread * 2, rel=1e-12)
    assert found["sharpe"] == pytest.approx((mean - 0.02) / spread * 2, rel=1e-9)
    assert found["sortino"] == pytest.approx((mean - 0.02) / down * 2, rel=1e-9)
    assert found["max_drawdown"] == pytest.approx(0.2, rel=1e-12)
    assert found["calmar"] == pytest.approx(found["cagr"] / 0.2, rel=1e-12)
    assert found["cvar_95"] == pytest.approx(0.2, rel=1e-12)
    assert found["max_drawdown_days"] == 3  # peak on day 1, back above it on day 4


def test_cvar_is_the_mean_of_the_worst_twentieth() -> None:
    returns = noise(1000)
    assert measures(returns, days(1001))["cvar_95"] == pytest.approx(-np.sort(returns)[:50].mean(), rel=1e-12)


def test_measures_equal_skfolios_portfolio() -> None:
    returns = noise()
    found = measures(returns, days(1001), rows_per_year=252)
    portfolio = Portfolio(
        X=pd.DataFrame({"a": returns}, index=days(1000)),
        weights=[1.0],
        annualization_factor=252,
        compounded=True,
    )
    assert found["volatility"] == pytest.approx(portfolio.annualized_standard_deviation, rel=1e-9)
    assert found["sharpe"] == pytest.approx(portfolio.annualized_sharpe_ratio, rel=1e-9)
    assert found["max_drawdown"] == pytest.approx(portfolio.max_drawdown, rel=1e-9)
    assert found["cvar_95"] == pytest.approx(portfolio.cvar, rel=1e-9)
    assert found["skew"] == pytest.approx(portfolio.skew, rel=1e-9)
    assert found["kurtosis"] == pytest.approx(portfolio.kurtosis, rel=1e-9)


@pytest.mark.parametrize(
    ("dates", "rows"),
    [
        (days(1000), 365.0),  # crypto
        (pd.bdate_range("2020-01-01", periods=1000).to_numpy(), 252.0),  # weekdays
        (load_sp500_dataset().index.to_numpy(), 252.0),  # an exchange
        (np.datetime64("2020-01-01T00") + np.arange(1000), 8760.0),
        (np.datetime64("2020-01-01") + 7 * np.arange(100), 52.0),
        (np.arange("2015-01", "2020-01", dtype="datetime64[M]").astype("datetime64[s]"), 12.0),
    ],
)
def test_rows_per_year_come_from_the_dates(dates: np.ndarray, rows: float) -> None:
    found = measures(np.resize([0.01, -0.01], len(dates) - 1), dates)
    assert found["rows_per_year"] == rows
    assert found["volatility"] == pytest.approx(0.01 * rows**0.5, rel=0.01)


def test_rows_that_no_custom_names_are_counted() -> None:
    odd = np.datetime64("2020-01-01T00") + 6 * np.arange(2000)
    assert measures(noise(1999), odd)["rows_per_year"] == pytest.approx(4 * 365.25, rel=1e-9)


def test_rows_per_year_can_be_set() -> None:
    a, b = (measures(noise(), days(1001), rows_per_year=rows) for rows in (100, 400))
    assert b["sharpe"] == pytest.approx(2 * a["sharpe"], rel=1e-12)
    assert b["cagr"] == a["cagr"]


def test_a_risk_free_rate_lowers_sharpe_and_sortino_and_nothing_else() -> None:
    none, some = (measures(noise(), days(1001), risk_free=rate) for rate in (0.0, 0.03))
    per_row = 1.03 ** (1 / 365) - 1
    assert none["sharpe"] - some["sharpe"] == pytest.approx(365 * per_row / none["volatility"], rel=1e-9)
    assert some["sortino"] < none["sortino"]
    same = ("cagr", "volatility", "max_drawdown", "calmar", "cvar_95")
    assert {name: none[name] for name in same} == {name: some[name] for name in same}


def test_what_is_not_defined_is_nan() -> None:
    found = measures(np.full(10, 0.01), days(11))
    assert np.isnan([found[name] for name in ("sharpe", "sortino", "calmar", "skew", "best_year")]).all()
    assert found["max_drawdown"] == 0 and found["max_drawdown_days"] == 0


def test_a_pandas_series_with_a_time_zone_is_taken() -> None:
    returns = noise(30)
    series = pd.Series(returns, index=pd.DatetimeIndex(days(30)).tz_localize("UTC"))
    assert measures(series) == measures(returns, days(31, "2019-12-31"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": noise(10)}, "dates: needed"),
        ({"data": noise(10), "dates": days(9)}, "as many dates or one more"),
        ({"data": noise(10), "dates": days(11)[::-1]}, "dates: not ascending"),
        ({"data": np.array([0.1, -1.0, 0.1]), "dates": days(4)}, "row 2: the value is not a number above 0"),
        ({"data": noise(1), "dates": days(2)}, "at least 3 rows"),
        ({"data": noise(10), "dates": days(11), "rows_per_year": 0}, "rows_per_year: 0 is not"),
        ({"data": noise(10), "dates": days(11), "risk_free": -1}, "risk_free: -1 is not"),
        (
            {"data": result, "benchmark": Track.of(noise(10), days(11))},
            "benchmark: its dates are not those of",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict, message: str) -> None:
    data = arguments.pop("data")
    with pytest.raises(BacktestError, match=message):
        measures(data() if callable(data) else data, **arguments)


# ---------------------------------------------------------------- of a backtest


def test_a_results_measures_agree_with_the_engines_statistics() -> None:
    found, statistics = measures(result()), result().statistics
    for name, theirs in (
        ("total_return", "total_return"),
        ("cagr", "annual_return"),
        ("max_drawdown", "max_drawdown"),
        ("turnover_a_year", "annual_turnover"),
        ("rebalances", "rebalances"),
    ):
        assert found[name] == pytest.approx(statistics[theirs], rel=1e-9), name
    exact = measures(result(), rows_per_year=1499 / stocks().years)
    assert exact["volatility"] == pytest.approx(statistics["annual_volatility"], rel=1e-9)
    assert exact["sharpe"] == pytest.approx(statistics["sharpe"], rel=1e-9)


def test_cost_a_year_is_the_gap_to_the_same_policy_without_costs() -> None:
    # Calendar rebalances to target happen at the same rows whatever they cost, so the costs alone part the two.
    policy = Policy(np.full(20, 0.05), Mode.CALENDAR, calendar_every=1)
    free, dear = (run(stocks(), policy, costs) for costs in (Costs(), Costs(10, per_rebalance=50, per_leg=2)))
    found = measures(dear)
    gap = np.log(free.final_value / dear.final_value) / stocks().years * 10_000
    assert found["cost_bps_a_year"] == pytest.approx(gap, rel=2e-3)
    causes = ("proportional", "fixed", "impact", "pool")
    parts = [found[f"cost_{cause}_bps_a_year"] for cause in causes]
    assert sum(parts) == pytest.approx(found["cost_bps_a_year"], rel=1e-12)
    assert parts[0] > 0 and parts[1] > 0 and parts[2:] == [0, 0]
    assert measures(free)["cost_bps_a_year"] == 0


def test_fees_a_year_are_the_policys() -> None:
    assert measures(result())["fees_bps_a_year"] == pytest.approx(50, rel=2e-3)


def test_tracking_error_to_targets_is_nought_for_who_rebalances_every_row_for_nothing() -> None:
    always = run(stocks(), Policy(np.full(20, 0.05), bands=1e-9))
    found = measures(always)
    assert found["tracking_error_to_targets"] < 1e-9
    assert found["distance_from_targets"] < 1e-9
    other = measures(result())
    assert 0.0005 < other["tracking_error_to_targets"] < 0.02
    assert 0.001 < other["distance_from_targets"] < 0.1


def test_tracking_error_to_targets_counts_dividends_on_both_sides() -> None:
    paid = np.zeros((300, 2))
    paid[::20] = 1.0
    prices = 100 * np.cumprod(1 + np.random.default_rng(1).normal(0, 0.01, (300, 2)), axis=0)
    market = Market(days(300), prices, dividends=paid)
    always = run(market, Policy(np.array([0.5, 0.5]), bands=1e-9))
    assert measures(always)["tracking_error_to_targets"] < 1e-9


def test_tracking_error_against_a_benchmark() -> None:
    held = run(stocks(), Policy(np.full(20, 0.05), Mode.THRESHOLD, bands=1.0))
    a, b = Track.of(result()).returns, Track.of(held).returns
    found = measures(result(), benchmark=held)["tracking_error"]
    assert found == pytest.approx(np.std(a - b, ddof=1) * 252**0.5, rel=1e-12)
    assert measures(result(), benchmark=b)["tracking_error"] == found
    assert measures(result(), benchmark=result())["tracking_error"] == 0


# ---------------------------------------------------------------- falls and years


def test_drawdowns_have_dates_and_length_and_do_not_overlap() -> None:
    wealth = np.array([1.0, 2.0, 1.0, 1.5, 2.0, 3.0, 2.7, 3.0, 3.3, 1.1, 2.0])
    falls = drawdowns(Track("", days(11).astype("datetime64[s]"), wealth))
    assert [fall.depth for fall in falls] == pytest.approx([2 / 3, 0.5, 0.1])
    assert [fall.rows for fall in falls] == [(8, 9, 10), (1, 2, 4), (5, 6, 7)]
    assert [fall.days for fall in falls] == [2, 3, 2]
    assert falls[0].recovery is None and str(falls[0].peak) == "2020-01-09T00:00:00"
    assert str(falls[1].recovery) == "2020-01-05T00:00:00"
    assert len(drawdowns(Track("", days(11).astype("datetime64[s]"), wealth), 2)) == 2


def test_the_deepest_fall_is_not_always_the_longest() -> None:
    returns = np.array([0.0, -0.5, 1.1, -0.1, -0.01, 0.0, 0.0, 0.2])
    found = measures(returns, days(9))
    assert found["max_drawdown_days"] == 2
    assert found["underwater_days"] == 5


def test_only_whole_years_count_as_best_and_worst() -> None:
    dates = np.array(["2019-06-30", "2019-12-31", "2020-12-31", "2021-12-31", "2022-03-01"], "datetime64[s]")
    track = Track("", dates, np.array([1.0, 3.0, 3.3, 2.97, 9.0]))
    assert yearly_returns(track) == pytest.approx({2020: 0.1, 2021: -0.1})
    assert list(yearly_returns(track, whole=False)) == [2019, 2020, 2021, 2022]
    found = measures(track)
    assert (found["best_year"], found["worst_year"]) == pytest.approx((0.1, -0.1))


def test_years_multiply_to_the_whole() -> None:
    track = Track.of(result())
    parts = np.array(list(yearly_returns(track, whole=False).values()))
    assert np.prod(1 + parts) == pytest.approx(track.wealth[-1] / track.wealth[0], rel=1e-12)


# ---------------------------------------------------------------- charts


def test_risk_contributions_sum_to_one_and_follow_the_risk() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0, 1, (400, 3)) * [0.03, 0.01, 0.0]
    market = Market(days(400), 100 * np.cumprod(1 + returns, axis=0))
    rows, parts = risk_contributions(market, np.full((400, 3), 1 / 3), window=300, points=4)
    assert rows.tolist() == [300, 333, 366, 399]
    assert parts.sum(axis=1) == pytest.approx(np.ones(4))
    assert parts[-1] == pytest.approx([0.9, 0.1, 0.0], abs=0.05)
    seen = np.cov(returns[100:], rowvar=False)
    expected = seen.sum(axis=1) / seen.sum()
    assert parts[-1] == pytest.approx(expected, abs=1e-12)


def test_risk_contributions_of_a_result_use_its_weights() -> None:
    rows, parts = risk_contributions(result(), points=3)
    again = risk_contributions(stocks(), result().weights, points=3)
    assert (parts == again[1]).all() and rows[-1] == 1499


def test_rolling_correlations_see_a_change_and_nothing_later() -> None:
    rng = np.random.default_rng(6)
    common = rng.normal(0, 0.01, (600, 1))
    returns = np.where(np.arange(600)[:, None] < 300, rng.normal(0, 0.01, (600, 3)), common * [1, 1, -1])
    prices = 100 * np.cumprod(1 + returns, axis=0)
    found = rolling_correlations(Market(days(600), prices), window=100, points=500)
    before, after = found.rows < 300, found.rows >= 400
    assert np.abs(found.mean[before]).max() < 0.25
    assert found.lowest[after] == pytest.approx(-1) and found.highest[after] == pytest.approx(1)
    assert found.latest[0] == pytest.approx([1, 1, -1])
    k = int(np.flatnonzero(found.rows == 250)[0])
    early = np.corrcoef(returns[151:251], rowvar=False)[np.triu_indices(3, 1)]
    assert found.mean[k] == pytest.approx(early.mean(), abs=1e-12)


def test_windows_longer_than_the_data_are_refused() -> None:
    with pytest.raises(BacktestError, match="window: 1500 is not between 2 and 1499"):
        rolling_correlations(stocks(), window=1500)


def test_tracking_error_to_targets_follows_targets_that_move() -> None:
    targets = np.random.default_rng(2).dirichlet(np.ones(20), 1500)
    assert measures(run(stocks(), Policy(targets, bands=1e-9)))["tracking_error_to_targets"] < 1e-9
