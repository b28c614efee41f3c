"""Band widths and stopping points against a simulated weight, and the advice made of them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.errors import PlannerError
from offchain.planner.bands import Band, Drift, advise, band, cost_rate, edge_width, fixed_width, target_width

# a quarter of the basket, 60 % volatile; 30 bps a trade, or gas worth 0.5 bp of NAV
PROPORTIONAL = Drift.of(0.25, 0.6, aversion=5, cost=0.003)
FIXED = Drift.of(0.25, 0.6, aversion=5, cost=0, fixed=0.00005)
BOTH = Drift.of(0.25, 0.6, aversion=5, cost=0.003, fixed=0.00005)
PATHS, STEPS = 2_000, 7_000
UNIT = edge_width(PROPORTIONAL) / 30  # weight: one standard deviation a step
TIME = (UNIT / PROPORTIONAL.b) ** 2  # years a step


@cache
def shocks() -> np.ndarray:
    """(STEPS, PATHS) the same for every policy, so that their difference is not luck."""
    return np.random.default_rng(2026).standard_normal((STEPS, PATHS), np.float32) * np.float32(UNIT)


@cache
def simulate(drift: Drift, half_width: float, stop: float) -> np.ndarray:
    """(PATHS,) NAV a year that each path paid for tracking and trading, from the long run's distribution on."""
    sides = (
        np.array([[half_width + stop], [half_width - stop]]) / 2
    )  # a trapezoid: the sum of two uniform numbers
    x = np.random.default_rng(1).uniform(-sides, sides, (2, PATHS)).sum(0).astype(np.float32)
    risk, traded, trades = np.zeros(PATHS), np.zeros(PATHS), np.zeros(PATHS)
    for shock in shocks():
        x += shock
        out = np.abs(x) >= half_width
        after = np.where(out, np.copysign(np.float32(stop), x), x)
        traded += np.abs(x - after)
        trades += out
        risk += after * after
        x = after
    return (drift.a * risk * TIME + drift.c * traded + drift.k * trades) / (STEPS * TIME)


def mean_and_error(sample: np.ndarray) -> tuple[float, float]:
    return float(sample.mean()), float(sample.std() / np.sqrt(len(sample)))


# ---------------------------------------------------------------- simulation


def test_the_edge_beats_the_target_under_proportional_costs() -> None:
    edge = simulate(PROPORTIONAL, edge_width(PROPORTIONAL), edge_width(PROPORTIONAL))
    target = simulate(PROPORTIONAL, target_width(PROPORTIONAL), 0.0)
    excess, error = mean_and_error(target / edge.mean() - edge / edge.mean())
    assert excess > 10 * error  # significant
    assert excess == pytest.approx(4 ** (2 / 3) / 2 - 1, abs=0.04)  # theory: 26 % more


def test_a_fixed_cost_turns_it_around() -> None:
    width = fixed_width(FIXED)
    target = simulate(FIXED, width, 0.0)
    best_edge = min((simulate(FIXED, scale * width, scale * width) for scale in (1, 1.5, 2)), key=np.mean)
    excess, error = mean_and_error(best_edge / target.mean() - target / target.mean())
    assert excess > 10 * error
    assert excess > 0.5


def test_with_both_costs_the_inside_beats_edge_and_target() -> None:
    best = band(BOTH)
    assert 0 < best.stop < best.half_width
    inside = simulate(BOTH, best.half_width, best.stop)
    for scale in (0.8, 1.0, 1.25):
        for stop in (0.0, 1.0):
            other = simulate(BOTH, scale * best.half_width, stop * scale * best.half_width)
            excess, error = mean_and_error(other / inside.mean() - inside / inside.mean())
            assert excess > 5 * error and excess > 0.02, (scale, stop, excess)


@pytest.mark.parametrize(
    ("drift", "half_width", "stop"),
    [
        (PROPORTIONAL, edge_width(PROPORTIONAL), edge_width(PROPORTIONAL)),
        (PROPORTIONAL, target_width(PROPORTIONAL), 0.0),
        (FIXED, fixed_width(FIXED), 0.0),
        (BOTH, band(BOTH).half_width, band(BOTH).stop),
    ],
    ids=["edge", "target", "fixed", "both"],
)
def test_the_cost_rate_is_what_a_path_pays(drift: Drift, half_width: float, stop: float) -> None:
    mean, error = mean_and_error(simulate(drift, half_width, stop))
    assert error < 0.01 * mean
    assert mean == pytest.approx(cost_rate(drift, half_width, stop), rel=0.05)  # steps are 1/30 of a band


@pytest.mark.parametrize("scale", [0.6, 1.6])
def test_other_widths_cost_more(scale: float) -> None:
    for drift, width, is_edge in (
        (PROPORTIONAL, edge_width(PROPORTIONAL), 1),
        (PROPORTIONAL, target_width(PROPORTIONAL), 0),
        (FIXED, fixed_width(FIXED), 0),
    ):
        best, other = (
            simulate(drift, width, is_edge * width),
            simulate(drift, scale * width, scale * is_edge * width),
        )
        excess, error = mean_and_error(other / best.mean() - best / best.mean())
        assert excess > 5 * error and excess > 0.05


# ---------------------------------------------------------------- formulas

positive = st.floats(1e-6, 1.0)


@settings(max_examples=200, deadline=None)
@given(
    a=st.floats(1e-3, 1e3),
    b=positive,
    c=st.floats(0, 0.1),
    k=st.floats(0, 0.01),
    moves=st.tuples(positive, positive),
)
def test_no_other_band_is_cheaper(a: float, b: float, c: float, k: float, moves: tuple[float, float]) -> None:
    drift = Drift(a, b, c, k)
    best = band(drift)
    least = cost_rate(drift, best.half_width, best.stop)
    for width in (
        best.half_width * (1 + moves[0]),
        best.half_width / (1 + moves[0]),
        1.001 * best.half_width,
    ):
        for stop in (0.0, width * moves[1], best.stop, 0.999 * best.stop, width):
            if stop <= width:
                assert cost_rate(drift, width, stop) >= least * (1 - 1e-9)


def test_one_kind_of_cost_is_the_known_formula() -> None:
    width = edge_width(PROPORTIONAL)
    assert band(PROPORTIONAL).half_width == pytest.approx(width) and band(PROPORTIONAL).stop == pytest.approx(
        width
    )
    assert cost_rate(PROPORTIONAL, width, width) == pytest.approx(PROPORTIONAL.a * width**2)
    assert cost_rate(PROPORTIONAL, target_width(PROPORTIONAL), 0) == pytest.approx(
        PROPORTIONAL.a * target_width(PROPORTIONAL) ** 2 / 2
    )
    assert band(FIXED).half_width == pytest.approx(fixed_width(FIXED)) and band(FIXED).stop == pytest.approx(
        0, abs=1e-9
    )
    assert cost_rate(FIXED, fixed_width(FIXED), 0) == pytest.approx(FIXED.a * fixed_width(FIXED) ** 2 / 3)


def test_no_costs_or_no_movement_leave_no_band() -> None:
    assert band(Drift(1, 0.1)) == Band(0, 0)
    assert band(Drift(1, 0, 0.003, 0.001)) == Band(0, 0)


@pytest.mark.parametrize(
    "bad", [(0, 0.1, 0, 0), (1, -0.1, 0, 0), (1, 0.1, -1, 0), (1, 0.1, 0, -1), (float("nan"), 1, 0, 0)]
)
def test_impossible_drifts_are_refused(bad: tuple[float, ...]) -> None:
    with pytest.raises(PlannerError, match="drift"):
        Drift(*bad)


# ---------------------------------------------------------------- advice

EDGE, INSIDE, TARGET = Band(0.03, 0.03), Band(0.04, 0.01), Band(0.03, 0.0)


@pytest.mark.parametrize(
    ("weight", "best", "closes", "goal", "words"),
    [
        (0.25, EDGE, None, 0.25, "not traded: on its target"),
        (0.27, EDGE, None, 0.27, "not traded: 2.00 points above its target, inside ±3.00 points"),
        (0.30, EDGE, None, 0.28, "5.00 points above its target: sold to the edge of its band"),
        (0.20, EDGE, None, 0.22, "5.00 points below its target: bought to the edge of its band"),
        (0.30, INSIDE, None, 0.26, "inside its band, since each trade also costs a fixed amount"),
        (0.30, TARGET, None, 0.25, "sold to its target"),
        (0.30, EDGE, 0.02, 0.27, "to 2.00 points from its target, where the session closes"),
        (0.27, EDGE, 0.01, 0.26, "where the session closes"),  # theory would wait, the session may not
        (0.265, EDGE, 0.02, 0.265, "not traded"),
        (0.30, EDGE, 0.05, 0.28, "edge of its band"),  # the session closes anyway
        (0.30, EDGE, 0.0, 0.25, "to its target"),
    ],
)
def test_advice(weight: float, best: Band, closes: float | None, goal: float, words: str) -> None:
    said = advise(weight, 0.25, best, closes)
    assert said.weight == pytest.approx(goal)
    assert said.traded == (goal != weight)
    assert words in said.reason


@settings(max_examples=300, deadline=None)
@given(
    weight=st.floats(0, 1),
    target=st.floats(0, 1),
    width=st.floats(0, 0.2),
    share=st.floats(0, 1),
    closes=st.one_of(st.none(), st.floats(0, 0.2)),
)
def test_advice_closes_the_session_and_never_overshoots(
    weight: float, target: float, width: float, share: float, closes: float | None
) -> None:
    said = advise(weight, target, Band(width, share * width), closes)
    assert abs(said.weight - target) <= abs(weight - target) + 1e-15
    assert (said.weight - target) * (weight - target) >= 0
    if closes is not None:
        assert abs(said.weight - target) <= closes + 1e-15
    assert said.traded or said.weight == weight
    assert said.reason.startswith("not traded") != said.traded
