"""Evidence where the truth is known: noise, skill, worked examples of the papers; sentences claim what numbers show."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from skfolio.datasets import load_sp500_dataset
from skfolio.measures import deflated_sharpe_ratio, probabilistic_sharpe_ratio

from offchain.backtest import BacktestError, Costs, Market, Policy, run, sweep
from offchain.backtest.bootstrap import (
    Interval,
    adjusted_p,
    as_compared,
    block_length,
    bootstrap,
    chance_of_trials,
    interval,
    resampled_rows,
)
from offchain.backtest.evidence import Difference, Evidence, _of_neighbours, assess
from offchain.backtest.measures import CORE, Track, measures
from offchain.backtest.overfitting import (
    confidence,
    cross_validation,
    deflated_sharpe,
    effective_trials,
    luck,
    min_track_rows,
    neighbours,
    probabilistic_sharpe,
    probability_of_overfitting,
    sharpe_of,
    sharpe_variance,
    sharpe_variance_of,
    trial_returns,
    walk_forward,
)

SIZE = 0.01  # of a row's noise


def days(rows: int) -> np.ndarray:
    return np.datetime64("2015-01-01") + np.arange(rows)


def track(returns: np.ndarray, name: str = "") -> Track:
    return Track.of(returns, days(len(returns) + 1), name)


def noise(rows: int, columns: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, SIZE, (rows, columns))


# ---------------------------------------------------------------- Sharpe ratios, as in the papers


def test_deflated_sharpe_ratio_of_the_papers_example() -> None:
    # Bailey and López de Prado 2014, "A numerical example": annual SR 2.5 of 5 years of 250 days, 100 trials with a
    # variance of 1/2 (annual), skew −3, kurtosis 10: SR0 0.1132 (daily), DSR 0.9004; 46 trials: 0.9505.
    sharpe = 2.5 / np.sqrt(250)
    variance = sharpe_variance(sharpe, -3.0, 10.0)
    spread = np.array([-1.0, 1.0]) * np.sqrt(0.5 / 250 / 2)  # two numbers with that variance
    assert luck(spread, 100) == pytest.approx(0.1132, abs=5e-5)
    assert confidence(sharpe, variance, 1250, luck(spread, 100)) == pytest.approx(0.9004, abs=5e-5)
    assert confidence(sharpe, variance, 1250, luck(spread, 46)) == pytest.approx(0.9505, abs=5e-5)
    normal = confidence(sharpe, sharpe_variance(sharpe), 1250, luck(spread, 88))
    assert normal == pytest.approx(0.9505, abs=5e-4)


def test_probabilistic_sharpe_ratio_of_the_papers_example() -> None:
    # Bailey and López de Prado 2012: 24 months of mean 0.036 and spread 0.079, skew −2.448, kurtosis 10.164.
    sharpe = 0.036 / 0.079
    assert confidence(sharpe, sharpe_variance(sharpe), 24) == pytest.approx(0.982, abs=1e-3)
    assert confidence(sharpe, sharpe_variance(sharpe, -2.448, 10.164), 24) == pytest.approx(0.913, abs=1e-3)


@pytest.mark.parametrize(
    ("rows_per_year", "skew", "kurtosis", "years"),
    [(252, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_minimum_track_record_length_of_the_papers_example(
    rows_per_year: int, skew: float, kurtosis: float, years: float
) -> None:
    # Bailey and López de Prado 2012: an annual Sharpe ratio of 2 against 1, at 95 %.
    sharpe = 2 / np.sqrt(rows_per_year)
    rows = min_track_rows(sharpe, sharpe_variance(sharpe, skew, kurtosis), sharpe / 2)
    assert rows / rows_per_year == pytest.approx(years, abs=0.005)


def test_after_its_minimum_length_a_track_has_that_confidence() -> None:
    returns = noise(400, 1, 3, 0.001)[:, 0]
    sharpe, variance = sharpe_of(returns), sharpe_variance_of(returns)
    rows = min_track_rows(sharpe, variance, 0.01, 0.9)
    assert confidence(sharpe, variance, rows, 0.01) == pytest.approx(0.9, abs=1e-9)  # type: ignore[arg-type]
    assert min_track_rows(sharpe, variance, against=sharpe) == np.inf


def test_sharpe_ratios_equal_skfolios() -> None:
    trials = noise(300, 12, 4) ** 3 * 1e4 + 0.0004  # skewed by nothing, heavy tails
    sharpes = trials.mean(axis=0) / trials.std(axis=0, ddof=1)
    best = trials[:, sharpes.argmax()]
    assert probabilistic_sharpe(best, 0.01) == pytest.approx(probabilistic_sharpe_ratio(best, 0.01), rel=1e-9)
    assert deflated_sharpe(best, trials)[0] == pytest.approx(deflated_sharpe_ratio(best, sharpes), rel=1e-9)


def test_more_trials_deflate_more() -> None:
    trials = noise(300, 12, 4)
    found = [deflated_sharpe(trials[:, 0], trials, count)[0] for count in (1, 12, 100, 10_000)]
    assert found == sorted(found, reverse=True) and found[0] > found[-1]
    assert deflated_sharpe(trials[:, 0], trials) == deflated_sharpe(trials[:, 0], trials, 12)


def test_the_best_of_noise_looks_like_skill_until_it_is_deflated() -> None:
    plain, deflated = [], []
    for seed in range(40):
        trials = noise(500, 20, seed)
        best = trials[:, (trials.mean(axis=0) / trials.std(axis=0)).argmax()]
        plain.append(probabilistic_sharpe(best))
        deflated.append(deflated_sharpe(best, trials)[0])
    assert np.mean(np.array(plain) > 0.95) > 0.5
    assert np.mean(np.array(deflated) > 0.95) < 0.05
    assert 0.4 < np.median(deflated) < 0.6


def test_a_trial_with_skill_stays_after_deflation() -> None:
    trials = noise(1500, 100, 1)
    trials[:, 7] += 0.2 * SIZE
    assert deflated_sharpe(trials[:, 7], trials)[0] > 0.99


def test_returns_that_never_vary_have_no_sharpe_ratio() -> None:
    assert np.isnan(probabilistic_sharpe(np.full(100, 0.001)))


def test_effective_trials_are_the_groups_that_move_alike() -> None:
    five = np.repeat(noise(600, 5, 1), 10, axis=1)
    assert effective_trials(five + 0.3 * noise(600, 50, 2)) == 5
    assert effective_trials(noise(600, 30, 3)) == 30
    assert effective_trials(np.repeat(noise(600, 1, 1), 8, axis=1)) == 1
    assert effective_trials(np.c_[noise(600, 2, 3), np.zeros(600)]) == 3


# ---------------------------------------------------------------- overfitting


def plain_pbo(trials: np.ndarray, blocks: int) -> float:
    """The paper's steps, one split at a time."""
    parts, below = np.array_split(trials, blocks), []
    for chosen in combinations(range(blocks), blocks // 2):
        rest = [i for i in range(blocks) if i not in chosen]
        inside, outside = (np.concatenate([parts[i] for i in some]) for some in (chosen, rest))
        scores = [half.mean(axis=0) / half.std(axis=0, ddof=1) for half in (inside, outside)]
        rank = stats.rankdata(scores[1])[scores[0].argmax()] / (trials.shape[1] + 1)
        below.append(1.0 if rank < 0.5 - 1e-12 else 0.5 if rank < 0.5 + 1e-12 else 0.0)
    return float(np.mean(below))


@pytest.mark.parametrize("columns", [5, 8])
def test_overfitting_equals_the_papers_steps_one_by_one(columns: int) -> None:
    trials = noise(250, columns, columns)
    found = probability_of_overfitting(trials, 8)
    assert found.probability == pytest.approx(plain_pbo(trials, 8), abs=1e-12)
    assert len(found.logits) == 70


def test_overfitting_of_noise_is_a_coin() -> None:
    found = [
        probability_of_overfitting(noise(240, columns, seed), 8).probability
        for seed in range(60)
        for columns in (3, 10)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_a_trial_with_skill_is_not_overfitted() -> None:
    trials = noise(2000, 20, 1)
    trials[:, 7] += 0.15 * SIZE
    found = probability_of_overfitting(trials)
    assert found.probability < 0.02 and found.loss < 0.02
    assert len(found.logits) == 12_870


def test_the_best_of_one_half_that_is_the_worst_of_the_other_is_overfitted() -> None:
    # What a trial gains in one half it loses in the other: the choice is always wrong.
    gain = np.linspace(-0.01, 0.01, 9)
    trials = noise(400, 9, 1) * 1e-3
    trials[:200] += gain
    trials[200:] -= gain
    found = probability_of_overfitting(trials, 2)
    assert found.probability == 1 and found.loss == 1
    assert found.in_sample.min() > 0 > found.out_of_sample.max()


def test_cross_validation_uses_every_row_out_of_sample_once_a_path() -> None:
    trials = noise(600, 6, 2)
    trials[:, 3] += 0.3 * SIZE
    found = cross_validation(trials, 6, 2, purged=2, embargo=3)
    assert found.paths.shape == (5, 600) and not np.isnan(found.paths).any()
    assert (found.chosen == 3).all() and len(found.chosen) == 15
    assert (found.paths == trials[:, 3]).all()
    assert found.sharpes == pytest.approx(np.full(5, sharpe_of(trials[:, 3])), rel=1e-9)
    assert found.average == pytest.approx(sharpe_of(trials.mean(axis=1)), rel=1e-9)


def test_cross_validation_never_learns_from_the_rows_it_is_tested_on() -> None:
    # A trial that shines in one fold alone is chosen only where that fold is learned from.
    trials = noise(600, 2, 3)
    trials[:, 1] -= 0.3 * SIZE
    trials[200:300, 1] += 6 * SIZE
    found = cross_validation(trials, 6, 2, purged=2, embargo=3)
    tested = [2 in pair for pair in combinations(range(6), 2)]
    assert (found.chosen == np.where(tested, 0, 1)).all()
    assert (found.paths[:, 200:300] == trials[200:300, 0]).all()


def test_cross_validated_noise_has_no_sharpe_ratio() -> None:
    found = [np.median(cross_validation(noise(600, 10, seed), 6, 2).sharpes) for seed in range(40)]
    assert np.mean(found) == pytest.approx(0, abs=3 * np.std(found) / np.sqrt(40))


def test_walk_forward_chooses_on_the_past_and_earns_on_what_follows() -> None:
    trials = noise(100, 3, 5) * 0.01
    trials[:40, 0] += SIZE
    trials[40:70, 1] += SIZE
    trials[70:, 2] += SIZE
    found = walk_forward(trials, 40, 30)
    assert found.chosen.tolist() == [0, 1]
    assert found.rows.tolist() == list(range(40, 100))
    assert (found.returns == np.r_[trials[40:70, 0], trials[70:, 1]]).all()
    assert found.average == pytest.approx(trials[40:].mean(axis=1))
    assert found.efficiency == pytest.approx(
        (trials[40:70, 0].mean() + trials[70:, 1].mean()) / (trials[:40, 0].mean() + trials[30:70, 1].mean()),
        rel=1e-9,
    )
    assert found.efficiency < 0.1
    assert walk_forward(trials, 40, 30, expand=True).in_sample[1] == pytest.approx(
        trials[:70, walk_forward(trials, 40, 30, expand=True).chosen[1]].mean()
    )


def test_walk_forward_with_skill_is_efficient() -> None:
    trials = noise(3000, 5, 6)
    trials[:, 2] += 0.3 * SIZE
    found = walk_forward(trials, 500, 250, purged=5)
    assert (found.chosen == 2).all()
    assert found.efficiency == pytest.approx(1, abs=0.2)
    assert found.rows[0] == 505


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probability_of_overfitting(noise(100, 5), 7), "blocks: 7 is not an even number"),
        (lambda: probability_of_overfitting(noise(20, 5)), "needs at least 64 rows of returns, there are 20"),
        (lambda: probability_of_overfitting(noise(100, 1)), "2 columns or more"),
        (lambda: probability_of_overfitting(np.full((100, 3), np.nan)), "finite returns"),
        (lambda: cross_validation(noise(300, 5), 5, 5, purged=1), "cross-validation: "),
        (lambda: cross_validation(noise(50, 5)), "cross-validation: needs at least 80 rows"),
        (lambda: walk_forward(noise(100, 5), 80, 30), "walk-forward: needs at least 110 rows"),
        (lambda: walk_forward(noise(100, 5), 5, 30), "train of at least 10 rows"),
        (lambda: trial_returns(stocks(), []), "trials: there are none"),
    ],
)
def test_what_cannot_be_tested_is_refused(call: object, message: str) -> None:
    with pytest.raises(BacktestError, match=message):
        call()  # type: ignore[operator]


# ---------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("rho", [0.3, 0.6])
def test_block_length_is_politis_and_whites_of_an_autoregression(rho: float) -> None:
    # For x_t = ρ x_{t−1} + e_t the optimum is (2ρ / (1 − ρ²))^(2/3) n^(1/3); that of its squares is shorter.
    rows, found = 2000, []
    for seed in range(12):
        x = noise(rows, 1, seed)[:, 0]
        for t in range(1, rows):
            x[t] += rho * x[t - 1]
        found.append(block_length(x))
    assert np.median(found) == pytest.approx((2 * rho / (1 - rho**2)) ** (2 / 3) * rows ** (1 / 3), rel=0.25)


def test_blocks_of_noise_are_short_and_of_calm_and_wild_times_long() -> None:
    white = noise(2000, 1, 1)[:, 0]
    waves = white * (1.5 + np.sin(np.arange(2000) / 60))
    assert block_length(white) < 5 < 30 < block_length(waves)
    assert block_length(np.stack([white, waves], axis=1)) == block_length(waves)
    assert block_length(waves[:100]) <= 5  # a twentieth
    assert block_length(np.zeros(50)) == 1


def test_resampled_rows_are_blocks_of_the_mean_length() -> None:
    rows = resampled_rows(np.random.default_rng(0), 500, 10.0, 200)
    assert rows.shape == (500, 200) and rows.min() == 0 and rows.max() == 499
    breaks = (np.diff(rows, axis=0) % 500 != 1).mean()
    assert breaks == pytest.approx(1 / 10 * 499 / 500, rel=0.05)
    assert np.bincount(rows.ravel(), minlength=500) / 200 == pytest.approx(np.ones(500), abs=0.35)
    rotation = resampled_rows(np.random.default_rng(0), 50, 1e9, 3)  # one block
    assert (np.sort(rotation, axis=0) == np.arange(50)[:, None]).all()


def test_the_bootstrap_measures_its_samples_as_measures_does() -> None:
    returns = noise(80, 2, 1, 0.001)
    tracks = [track(returns[:, k]) for k in range(2)]
    drawn = bootstrap(tracks, 365.0, 0.02, samples=100, block=4, seed=5)
    rows = resampled_rows(np.random.default_rng([5, 0]), 80, 4, 100)
    for sample, k in ((0, 0), (37, 1)):
        again = measures(returns[rows[:, sample], k], days(81), risk_free=0.02)
        assert {name: drawn[name][sample, k] for name in CORE} == pytest.approx(
            {name: again[name] for name in CORE}
        )


def test_the_same_seed_gives_the_same_evidence_and_another_does_not() -> None:
    tracks = {str(k): track(noise(200, 3, 1)[:, k]) for k in range(3)}
    a, b, c = (assess(tracks["0"], tracks, samples=100, seed=seed) for seed in (1, 1, 2))
    assert a.as_dict() == b.as_dict() != c.as_dict()


def test_an_interval_holds_the_middle_of_what_was_drawn() -> None:
    drawn = np.r_[np.arange(1001.0), np.nan]
    found = interval(400.0, drawn, 0.9)
    assert (found.value, found.low, found.high, found.level) == pytest.approx((400, 50, 950, 0.9), rel=1e-12)
    assert interval(1.0, drawn - 2000).covers_zero is False
    assert interval(1.0, drawn - 500).covers_zero is True
    assert interval(np.nan, drawn).covers_zero is True


def test_intervals_of_a_mean_are_those_of_the_normal_distribution() -> None:
    returns = noise(1000, 1, 8, 0.0005)[:, 0]
    found = assess(track(returns), samples=1000).intervals["sharpe"]
    error = np.sqrt(sharpe_variance_of(returns) / 999) * np.sqrt(365)
    middle = sharpe_of(returns) * np.sqrt(365)
    assert (found.low, found.high) == pytest.approx(
        (middle - 1.96 * error, middle + 1.96 * error), abs=0.25 * error
    )


def test_paired_samples_cancel_what_two_policies_share() -> None:
    base = noise(600, 1, 1)[:, 0]
    a, b = track(base), track(base + 1e-4 * np.sign(np.sin(np.arange(600))) + 5e-5)
    found = assess(b, {"a": a}, samples=200)
    alone, together = found.intervals["cagr"], found.differences["a"]["cagr"].interval
    assert together.high - together.low < 0.03 * (alone.high - alone.low)
    assert not together.covers_zero and together.value > 0


@pytest.mark.parametrize(("persistence", "shared"), [(0.0, 0.0), (0.0, 0.9), (0.3, 0.0)])
def test_differences_of_noise_are_called_noise_as_often_as_stated(persistence: float, shared: float) -> None:
    # 5 % of intervals leave 0 out; of 120 that has a spread of 2 %, and bootstrap intervals are a bit short.
    wrong, claimed = 0, 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        x = shared**0.5 * rng.normal(0, SIZE, (300, 1)) + (1 - shared) ** 0.5 * rng.normal(0, SIZE, (300, 4))
        for t in range(1, 300):
            x[t] += persistence * x[t - 1]
        tracks = {str(k): track(x[:, k]) for k in range(4)}
        found = assess(tracks.pop("0"), tracks, samples=150, seed=seed)
        wrong += not found.differences["1"]["cagr"].interval.covers_zero
        claimed += any(" earned more" in s or " earned less" in s for s in found.sentences)
    assert 1 <= wrong <= 14  # 12 %
    assert claimed <= 12  # of 6 comparisons together, 10 %


def test_adjusted_p_of_one_number_is_its_own_and_grows_with_more() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, 1, (5000, 10))
    values = np.r_[2.2, np.zeros(9)]
    alone = adjusted_p(values[:1], values[:1] + drawn[:, :1])[0]
    assert alone == pytest.approx(2 * stats.norm.sf(2.2), abs=0.006)
    together = adjusted_p(values, values + drawn)[0]
    assert together == pytest.approx(1 - (1 - alone) ** 10, abs=0.02)
    besides = np.abs(rng.normal(0, 1, (5000, 90))).max(axis=1)
    assert adjusted_p(values[:1], values[:1] + drawn[:, :1], besides)[0] == pytest.approx(
        1 - (1 - alone) ** 91, abs=0.03
    )


def test_adjusted_p_steps_down() -> None:
    # A number that is surely not 0 is not in the way of the next: the second of two is tested alone.
    drawn = np.random.default_rng(0).normal(0, 1, (5000, 2))
    values = np.array([9.0, 2.2])
    found = adjusted_p(values, values + drawn)
    assert found[0] == pytest.approx(1 / 5001)
    assert found[1] == adjusted_p(values[1:], values[1:] + drawn[:, 1:])[0]


def test_what_never_varies_or_is_unknown_has_a_p_of_one() -> None:
    drawn = np.c_[np.zeros(200), np.full(200, np.nan), np.random.default_rng(0).normal(9, 1, 200)]
    assert adjusted_p(np.array([0.0, np.nan, 9.0]), drawn).tolist() == [1, 1, pytest.approx(1 / 201)]


def test_the_trials_chance_is_that_of_the_full_bootstrap() -> None:
    x = noise(150, 5, 2, 0.0005)
    tracks = [track(x[:, k]) for k in range(5)]
    terms = {"samples": 120, "block": 3.0, "seed": 4}
    drawn = bootstrap(tracks, 365.0, 0.01, **terms)  # type: ignore[arg-type]
    value = {k: measures(one, risk_free=0.01) for k, one in enumerate(tracks)}
    most = np.zeros(120)
    for name in ("cagr", "sharpe"):
        for trial in range(3):
            for other in (3, 4):
                moved = as_compared(name, drawn[name][:, trial]) - as_compared(name, drawn[name][:, other])
                away = moved - (as_compared(name, value[trial][name]) - as_compared(name, value[other][name]))
                most = np.maximum(most, np.abs(away) / moved.std())
    found = chance_of_trials(x[:, :3], x[:, 3:], tracks[0].years, 365.0, 0.01, **terms)  # type: ignore[arg-type]
    assert found == pytest.approx(most, rel=1e-6)


def test_the_best_of_many_trials_is_not_better_for_having_been_chosen() -> None:
    single, counted = 0, 0
    for seed in range(40):
        x = noise(300, 21, seed)
        other, trials = 0.05 * x[:, 0], x[:, 1:]
        best = trials[:, trials.mean(axis=0).argmax()]
        for given in (None, trials):
            found = assess(track(best), {"other": track(other)}, trials=given, samples=100, seed=seed)
            claim = not found.differences["other"]["cagr"].noise
            single, counted = single + (claim and given is None), counted + (claim and given is not None)
    assert single >= 8  # one test of the best of 20 finds skill in noise far too often
    assert counted <= 4


# ---------------------------------------------------------------- neighbours


def grid(value: object) -> pd.DataFrame:
    rows = [(a, b, unit) for a in (0.01, 0.02, 0.05, 0.1) for b in (1, 2, 4) for unit in ("DAYS", "MONTHS")]
    table = pd.DataFrame(rows, columns=["bands", "calendar_every", "calendar_unit"])
    table["sharpe"] = [value(*row) for row in rows]  # type: ignore[operator]
    table["cooldown_seconds"] = 0
    return table


def test_neighbours_are_one_step_away_in_one_parameter() -> None:
    table = grid(lambda a, b, unit: 10 * a + b + (unit == "DAYS") * 0.5)
    row = int(
        table.index[(table.bands == 0.05) & (table.calendar_every == 2) & (table.calendar_unit == "DAYS")][0]
    )
    found = neighbours(table, chosen=row)
    assert found.parameters == {"bands": 0.05, "calendar_every": 2, "calendar_unit": "DAYS"}
    beside = [0.2 + 2.5, 1.0 + 2.5, 0.5 + 1.5, 0.5 + 4.5, 0.5 + 2]
    assert found.neighbours == 5
    assert found.mean == pytest.approx(np.mean(beside)) and found.worst == pytest.approx(min(beside))
    assert found.value == pytest.approx(3.0) and found.typical == pytest.approx(table.sharpe.median())


def test_a_plateau_and_a_spike() -> None:
    bands = np.linspace(0.01, 0.1, 19)
    smooth = pd.DataFrame({"bands": bands, "sharpe": 1 - 100 * (bands - 0.05) ** 2})
    found = neighbours(smooth)
    assert found.parameters == {"bands": pytest.approx(0.05)} and found.neighbours == 2
    assert found.shape == "plateau" and found.sharpness < 0.1
    spike = smooth.assign(sharpe=smooth.sharpe + np.where(np.arange(19) == 3, 1.0, 0.0))
    found = neighbours(spike)
    assert found.shape == "spike" and found.sharpness > 0.9
    assert "most of what it has over the median setting is gone" in _of_neighbours(found)
    assert found.value == pytest.approx(spike.sharpe.max())
    assert neighbours(spike, chosen=18).shape == "ordinary"


def test_the_best_of_a_measure_of_which_less_is_better_is_its_least() -> None:
    table = grid(lambda a, b, unit: a).rename(columns={"sharpe": "max_drawdown"})
    found = neighbours(table, "max_drawdown", ["bands"])
    assert found.value == 0.01 and found.worst == 0.02 and found.typical == pytest.approx(0.035)


def test_one_setting_has_no_neighbours_and_unknown_columns_are_named() -> None:
    table = grid(lambda a, b, unit: a)
    assert neighbours(table.iloc[:1], parameters=["bands"]).shape == "alone"
    with pytest.raises(BacktestError, match="no setting varies"):
        neighbours(table.iloc[:1])
    with pytest.raises(BacktestError, match="no column 'x' in the sweep; there are bands"):
        neighbours(table, "x")


# ---------------------------------------------------------------- sentences


def find(evidence: Evidence, words: str) -> str:
    found = [sentence for sentence in evidence.sentences if words in sentence]
    assert len(found) == 1, evidence.sentences
    return found[0]


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def test_a_difference_that_is_noise_is_called_noise_with_its_numbers() -> None:
    x = noise(700, 2, 1, 0.0004)
    found = assess(track(x[:, 0]), {"buy-and-hold": track(x[:, 1])}, samples=300)
    gap = found.differences["buy-and-hold"]["cagr"]
    assert gap.interval.covers_zero and gap.noise
    sentence = find(found, "is noise")
    match = re.fullmatch(
        r"The difference of (\S+) %/year to buy-and-hold is noise: its 95 % interval is (\S+) to (\S+)\.",
        sentence,
    )
    assert match, sentence
    exact = (gap.interval.value, gap.interval.low, gap.interval.high)
    assert [number(text) for text in match.groups()] == pytest.approx([100 * x for x in exact], abs=0.06)
    assert not any(" earned more" in s or " earned less" in s for s in found.sentences)


@pytest.mark.parametrize(("edge", "word", "sign"), [(0.002, "more", "+"), (-0.002, "less", "−")])
def test_a_difference_that_is_not_noise_is_claimed_with_its_sign(edge: float, word: str, sign: str) -> None:
    base = noise(700, 1, 1)[:, 0]
    a, b = base + 0.3 * noise(700, 1, 2)[:, 0], base
    found = assess(track(a + edge), {"the rest": track(b)}, name="mine", samples=300)
    gap = found.differences["the rest"]["cagr"]
    assert not gap.noise and gap.interval.value * edge > 0
    sentence = find(found, f"Mine earned {word} than the rest")
    assert f"a difference of {sign}" in sentence
    match = re.search(r"interval (\S+) to (\S+), p", sentence)
    assert match and all(number(text) * edge > 0 for text in match.groups())
    assert not any("noise" in s for s in found.sentences)


def test_a_difference_alone_beyond_noise_but_not_among_many_is_noise() -> None:
    # 20 others, one of them a little worse than the rest: seldom enough to be news among 20.
    x = noise(400, 21, 3)
    x[:, 1] = x[:, 0] - 0.05 * SIZE + 0.4 * noise(400, 1, 9)[:, 0]
    tracks = {f"other {k}": track(x[:, k]) for k in range(1, 21)}
    found = assess(track(x[:, 0]), tracks, samples=400)
    gap = found.differences["other 1"]["cagr"]
    assert not gap.interval.covers_zero and gap.noise and gap.p is not None and gap.p > 0.05
    assert "with all 40 comparisons counted" in find(found, "%/year to other 1 is not enough")
    assert not any(s.startswith("The policy earned more than other 1:") for s in found.sentences)


def test_identical_policies_differ_by_nothing() -> None:
    one = track(noise(300, 1, 1, 0.0005)[:, 0])
    found = assess(one, {"twin": one}, samples=100)
    assert found.differences["twin"]["cagr"].interval == Interval(0.0, 0.0, 0.0, 0.95)
    assert find(found, "to twin") == "There is no difference to twin: both earned the same in every sample."


def test_a_policy_that_earns_nothing_is_not_said_to_earn() -> None:
    found = assess(track(noise(500, 1, 4)[:, 0] - noise(500, 1, 4).mean()), samples=200)
    assert "so that it earns anything at all is not shown" in found.sentences[0]
    assert "is not shown to be above 0" in find(found, "Sharpe ratio")
    good = assess(track(noise(500, 1, 4)[:, 0] + 0.3 * SIZE), samples=200)
    assert "not shown" not in good.sentences[0]
    assert "is shown to be above 0: confidence over 99.9 %" in find(good, "Sharpe ratio")


def test_a_losing_policy_would_need_for_ever() -> None:
    found = assess(track(noise(500, 1, 4, -0.002)[:, 0]), samples=100)
    assert "no number of years of such returns would show it" in find(found, "Sharpe ratio")
    assert found.min_track_years == np.inf and found.as_dict()["min_track_years"] is None


def test_choosing_among_noise_is_said_to_be_chance() -> None:
    trials = noise(1200, 12, 3)
    best = track(trials[:, (trials.mean(axis=0) / trials.std(axis=0)).argmax()])
    other = track(noise(1200, 1, 99)[:, 0])
    found = assess(
        best, {"other": other}, trials=trials, trials_made=500, samples=150, train_years=1, test_years=0.5
    )
    assert found.trials is not None
    assert (found.trials.made, found.trials.given, found.trials.own.effective) == (500, 12, 12)
    assert found.trials.own.probability < 0.95
    assert sum(s.startswith("The best of 500 trials without skill") for s in found.sentences) == 2
    assert sum("not shown to be more than luck" in s for s in found.sentences) == 2
    assert "choosing shows no gain" in find(found, "Walk-forward")
    assert found.trials.cross_validation is not None and len(found.trials.cross_validation) == 9
    assert f"{100 * found.trials.backtest_overfitting.probability:.0f} %" in find(
        found, "backtest overfitting"
    )
    assert not any("earned more" in s for s in found.sentences)


def test_choosing_a_trial_with_skill_is_said_to_hold_up() -> None:
    trials = noise(2500, 12, 3)
    trials[:, 5] += 0.2 * SIZE
    found = assess(
        track(trials[:, 5]), {"other": track(trials[:, 0])}, trials=trials, samples=150, test_years=1
    )
    assert sum("more than luck (" in s and "not shown" not in s for s in found.sentences) == 2
    assert "the choice holds up." in find(found, "backtest overfitting")
    assert "choosing helped" in find(found, "Walk-forward")
    assert found.trials is not None and set(found.trials.walk_names) == {"trial 5"}
    assert "earned more than other" in find(found, "earned more than")


def test_the_overfitting_sentence_follows_the_number() -> None:
    words = {
        0.05: "holds up.",
        0.06: "holds up in part",
        0.39: "holds up in part",
        0.4: "no better than chance",
    }
    from dataclasses import replace

    from offchain.backtest.evidence import _of_overfitting

    found = probability_of_overfitting(noise(100, 4), 4)
    for probability, word in words.items():
        assert word in _of_overfitting(replace(found, probability=probability))


def test_a_short_history_leaves_out_what_it_cannot_hold() -> None:
    trials = noise(62, 4, 1)
    found = assess(track(trials[:, 0]), trials=trials, samples=100)
    assert found.trials is not None
    assert (
        found.trials.backtest_overfitting
        is found.trials.walk_forward
        is found.trials.cross_validation
        is None
    )
    with pytest.raises(BacktestError, match="evidence: needs at least 60 rows of returns, there are 40"):
        assess(track(trials[:40, 0]))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"others": {"b": np.zeros(50)}}, "50"),
        (
            {"others": {"b": Track.of(np.zeros(300), np.datetime64("2001-01-01") + np.arange(301))}},
            "b: its dates",
        ),
        ({"trials": np.zeros((10, 3))}, r"trials: has shape \(10, 3\), needs 300 rows"),
        ({"trials": noise(300, 3), "trials_made": 2}, "trials_made: 2 is below the 3 trials"),
        ({"trials": {"one": np.zeros(300)}, "dates": days(301)}, "trials: needs 2 or more"),
        ({"samples": 10}, "samples: 10 is below 100"),
        ({"level": 95}, "level: 95 is not between 0 and 1"),
        ({"block": 0.0}, "block: 0.0 is not a number of rows"),
    ],
)
def test_evidence_that_cannot_be_given_is_refused(terms: dict, message: str) -> None:
    with pytest.raises(BacktestError, match=message):
        assess(noise(300, 1)[:, 0], **({"dates": days(301)} | terms))


# ---------------------------------------------------------------- of real backtests


@cache
def stocks() -> Market:
    return Market.of(load_sp500_dataset().iloc[-1200:, :6])


def test_evidence_of_backtests_from_end_to_end() -> None:
    equal, costs = np.full(6, 1 / 6), Costs(10)
    policies = [Policy(equal, bands=band) for band in np.linspace(0.01, 0.08, 8)]
    trials, table = trial_returns(stocks(), policies, costs), sweep(stocks(), policies, costs)
    chosen = run(stocks(), policies[3], costs)
    assert trials[:, 3] == pytest.approx(Track.of(chosen).returns, rel=1e-12)
    hold = run(
        stocks(), Policy(equal, bands=1.0, first_row_only=True, calendar_rows=np.zeros(1200, bool)), costs
    )
    found = assess(chosen, {"buy-and-hold": hold}, trials=trials, table=table, row=3, samples=100)
    assert found.rows_per_year == 252 and found.benchmark == "buy-and-hold"
    assert found.intervals["cagr"].value == measures(chosen)["cagr"]
    assert found.differences["buy-and-hold"]["sharpe"].interval.value == pytest.approx(
        measures(chosen)["sharpe"] - measures(hold)["sharpe"], rel=1e-9
    )
    own, other = (100 * measures(one)["volatility"] for one in (chosen, hold))
    assert f"was {own:.1f} %/year against {other:.1f} % for buy-and-hold" in find(found, "In this history")
    assert found.neighbours is not None and found.neighbours.parameters == {"bands": pytest.approx(0.04)}
    assert "bands 0.04" in found.sentences[-1]
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["sentences"] == found.sentences
    for sentence in found.sentences:
        assert sentence.endswith(".") and "nan" not in sentence
        assert not re.search(r"-\d", sentence)  # a true minus sign


def test_a_difference_is_noise_unless_interval_and_p_agree() -> None:
    apart, over = Interval(0.2, 0.1, 0.3, 0.95), Interval(0.2, -0.1, 0.5, 0.95)
    assert not Difference(apart, 0.01).noise and not Difference(apart, None).noise
    assert Difference(over, 0.01).noise and Difference(over, None).noise and Difference(apart, 0.06).noise


def test_choosing_is_judged_above_the_risk_free_rate() -> None:
    trials = noise(600, 4, 1, 0.0005)
    none, some = (
        assess(track(trials[:, 0]), trials=trials, risk_free=r, samples=100).trials for r in (0, 0.1)
    )
    assert none is not None and some is not None and none.cross_average is not None
    free = (1.1 ** (1 / 365) - 1) / trials.mean(axis=1).std(ddof=1) * 365**0.5
    assert some.cross_average == pytest.approx(none.cross_average - free, rel=1e-9)
