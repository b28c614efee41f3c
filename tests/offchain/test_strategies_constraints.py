"""Personal constraints: the nearest weights by another solver, contradictions named, turnover, positions, risk, tax."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.strategies import (
    PROFILES,
    QUESTIONS,
    Book,
    Constraints,
    Equal,
    Lot,
    Strategy,
    StrategyError,
    make,
    risk_profile,
    walk,
)

NAMES = ["a", "b", "c", "d", "e"]
FLAT = np.ones((2, 5))


def moved(
    wanted: Any, limits: Constraints, book: Book | None = None, prices: np.ndarray = FLAT
) -> np.ndarray:
    return limits.nearest(np.array(wanted, dtype=float), NAMES, prices, book)


def refused(limits: Constraints, wanted: Any = (0.2,) * 5, **more: Any) -> str:
    with pytest.raises(StrategyError) as error:
        moved(wanted, limits, **more)
    return str(error.value)


# ---------------------------------------------------------------- the nearest weights


def test_weights_that_keep_them_stay_as_they_are_to_the_bit() -> None:
    wanted = np.array([0.3, 0.1, 0.2, 0.15, 0.25])
    assert Constraints().nearest(wanted, NAMES, FLAT) is wanted
    assert moved(
        wanted, Constraints(max_weights=0.3, groups={"g": ["a"]}, max_groups={"g": 0.3})
    ) == pytest.approx(wanted, abs=0)


@given(
    st.lists(st.floats(0.01, 1), min_size=5, max_size=5),
    st.floats(0.25, 1),
    st.floats(0, 0.15),
    st.floats(0.3, 0.9),
    st.floats(0.05, 0.25),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_nearest_weights_are_another_solvers(
    raw: list[float], high: float, low: float, most: float, least: float
) -> None:
    wanted = np.array(raw) / sum(raw)
    limits = Constraints(
        max_weights=high,
        min_weights=low,
        groups={"g": ["a", "b"], "h": ["e"]},
        max_groups={"g": most},
        min_groups={"h": least},
    )
    got = moved(wanted, limits)
    w = cp.Variable(5)
    rules = [cp.sum(w) == 1, w >= low, w <= high, w[0] + w[1] <= most, w[4] >= least]
    cp.Problem(cp.Minimize(cp.sum_squares(w - wanted)), rules).solve(solver=cp.PIQP)
    assert got == pytest.approx(w.value, abs=1e-5)
    assert got.sum() == pytest.approx(1, abs=1e-12)


def test_by_name_bounds_hold_for_those_named() -> None:
    w = moved([0.2] * 5, Constraints(max_weights={"a": 0.05}, min_weights={"b": 0.4}))
    assert w == pytest.approx([0.05, 0.4, 0.55 / 3, 0.55 / 3, 0.55 / 3], abs=1e-9)


def test_exclusions_of_assets_and_groups_are_exactly_zero() -> None:
    limits = Constraints(groups={"tobacco": ["b", "c"]}, exclude=["tobacco", "e"])
    w = moved([0.2] * 5, limits)
    assert (w[[1, 2, 4]] == 0).all()
    assert w == pytest.approx([0.5, 0, 0, 0.5, 0])


def test_every_strategy_keeps_them() -> None:
    rng = np.random.default_rng(0)
    prices = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (160, 5)), axis=0))
    history = pd.DataFrame(prices, pd.date_range("2020", periods=160), NAMES)
    limits = Constraints(max_weights=0.35, exclude=["c"], groups={"g": ["a", "b"]}, max_groups={"g": 0.4})
    cases: dict[str, dict[str, Any]] = {
        "fixed": {"weights": {"c": 1.0}},
        "equal": {},
        "mean-variance": {},
        "min-variance": {},
        "max-sharpe": {},
        "risk-parity": {},
        "hrp": {},
        "black-litterman": {"views": ["c = 1"]},
        "correlation-aware": {},
        "genetic": {"generations": 5},
        "forecast": {},
        "volatility-target": {"cash": "d"},
    }
    for name, more in cases.items():
        w = make(name, more, limits).target_weights(history, history.index[-1])
        assert w["c"] == 0, name
        assert w.max() <= 0.35 + 1e-7, name
        assert w["a"] + w["b"] <= 0.4 + 1e-7, name
        assert w.sum() == pytest.approx(1, abs=1e-12), name


# ---------------------------------------------------------------- positions


def test_min_position_and_max_assets() -> None:
    w = moved([0.4, 0.3, 0.2, 0.06, 0.04], Constraints(min_position=0.1))
    assert w[w > 0].min() >= 0.1 - 1e-9
    assert (w > 0).sum() in (3, 4)
    w = moved([0.4, 0.3, 0.2, 0.06, 0.04], Constraints(max_assets=2))
    assert w == pytest.approx([0.55, 0.45, 0, 0, 0], abs=1e-7)


def test_positions_are_chosen_so_that_the_other_constraints_can_be_kept() -> None:
    limits = Constraints(
        max_assets=3, max_weights=0.5, groups={"g": ["d", "e"]}, min_groups={"g": 0.5}, min_position=0.1
    )
    w = moved([0.5, 0.4, 0.1, 0, 0], limits)  # the three largest alone hold nothing of the group
    assert (w > 0).sum() <= 3
    assert w[3] + w[4] >= 0.5 - 1e-7


# ---------------------------------------------------------------- contradictions


@pytest.mark.parametrize(
    ("limits", "named", "innocent"),
    [
        ({"max_weights": 0.1}, ["max_weights"], []),
        ({"min_weights": 0.3}, ["min_weights"], []),
        ({"max_weights": 0.3, "exclude": ["a", "b"]}, ["max_weights", "exclude (a, b)"], []),
        ({"groups": {"g": ["a", "b"]}, "max_groups": {"g": 0.2}, "min_weights": {"a": 0.3}, "max_assets": 4},
         ["min_weights", "max_groups (g 0.2)"], ["max_assets"]),
        ({"groups": {"g": ["a"], "h": ["b"]}, "min_groups": {"g": 0.7, "h": 0.7}, "max_weights": 0.9},
         ["min_groups (g 0.7)", "min_groups (h 0.7)"], ["max_weights"]),
        ({"max_assets": 2, "max_weights": 0.4}, ["max_weights", "max_assets (2)"], []),
        ({"min_position": 0.4, "max_weights": 0.45}, ["max_weights", "min_position (0.4)"], []),
    ],
)  # fmt: skip
def test_a_contradiction_names_a_smallest_set_and_nobody_else(
    limits: dict[str, Any], named: list[str], innocent: list[str]
) -> None:
    said = refused(Constraints(**limits))
    assert said.startswith("constraints: no weights keep ")
    assert all(name in said for name in named)
    assert not any(name in said for name in innocent)


def test_a_turnover_limit_that_cannot_reach_the_bounds_is_named() -> None:
    book = Book.of_weights([1, 0, 0, 0, 0], np.ones(5))
    said = refused(Constraints(max_turnover=0.1, max_weights=0.5), book=book)
    assert "max_weights" in said
    assert "max_turnover (0.1)" in said


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_wieghts": 1}, "'max_wieghts' is no setting; settings are min_weights, max_weights"),
        ({"max_weights": 2}, "max_weights: a: 2 is not between 0 and 1"),
        ({"max_weights": {"x": 0.1}}, "max_weights: 'x' is not an asset of the data"),
        ({"groups": {"g": ["x"]}, "max_groups": {"g": 0.1}}, "groups: g: 'x' is not an asset"),
        ({"max_groups": {"g": 0.1}}, "max_groups: 'g' is no group; groups are none"),
        ({"exclude": ["x"]}, "exclude: 'x' is neither an asset nor a group"),
        ({"exclude": "a"}, "exclude: 'a': needs a list of names"),
        ({"max_turnover": -1}, "max_turnover: -1 is not a number between 0 and 2"),
        ({"max_assets": 0}, "max_assets: 0 is not a number"),
        ({"risk_profile": "wild"}, "risk_profile: 'wild' is none of conservative"),
        ({"risk_profile": "growth", "max_volatility": 0.1}, "max_volatility and risk_profile: give one"),
        ({"lots": [{"asset": "a"}]}, "lots: {'asset': 'a'} is not {asset, units, cost}"),
        ({"lots": [{"asset": "x", "units": 1, "cost": 1}]}, "lots: 'x' is not an asset"),
        ({"lots": [{"asset": "a", "units": -1, "cost": 1}]}, "lots: a: units -1 is not a number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(StrategyError) as error:
        moved([0.9, 0.1, 0, 0, 0], Constraints.of(limits))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- turnover


def test_turnover_is_limited_from_what_is_held() -> None:
    book = Book.of_weights([0.2] * 5, np.ones(5))
    w = moved([1, 0, 0, 0, 0], Constraints(max_turnover=0.3), book)
    assert np.abs(w - 0.2).sum() == pytest.approx(0.3, abs=1e-7)
    assert w == pytest.approx([0.35, 0.1625, 0.1625, 0.1625, 0.1625], abs=1e-7)


class Turns(Strategy):
    rows_needed = 1

    def target_weights(self, history, now):
        return np.eye(5)[len(history) % 5]


def test_walk_measures_turnover_from_the_targets_as_prices_have_moved_them() -> None:
    prices = np.cumprod(1 + np.random.default_rng(1).normal(0, 0.02, (30, 5)), axis=0)
    frame = pd.DataFrame(prices, pd.date_range("2020", periods=30), NAMES)
    strategy = Turns()
    strategy.constraints = Constraints(max_turnover=0.2)
    targets = walk(strategy, frame, every=3, lookback=None, check=False)
    rows = np.flatnonzero(np.isfinite(targets[:, 0]))
    assert len(rows) == 10
    for before, row in pairwise(rows):
        held = targets[before] * prices[row] / prices[before]
        assert np.abs(targets[row] - held / held.sum()).sum() == pytest.approx(0.2, abs=1e-6)
    assert strategy.book is None


# ---------------------------------------------------------------- risk


def test_risk_profiles_are_a_documented_ladder() -> None:
    assert list(PROFILES.values()) == sorted(PROFILES.values())
    low, high = dict.fromkeys(QUESTIONS, 0), dict.fromkeys(QUESTIONS, 4)
    assert risk_profile(low) == ("conservative", 0.04)
    assert risk_profile(high) == ("aggressive", 0.20)
    assert risk_profile({**high, "horizon": 0}) == ("cautious", 0.07)  # a short horizon is not outvoted
    assert risk_profile(dict.fromkeys(QUESTIONS, 2)) == ("balanced", 0.10)
    for question in QUESTIONS:  # a braver answer never lowers the target
        levels = [risk_profile({**dict.fromkeys(QUESTIONS, 2), question: a})[1] for a in range(5)]
        assert levels == sorted(levels)
    with pytest.raises(StrategyError, match="risk_answers: loss: None is not a number from 0 to 4"):
        risk_profile({"horizon": 1})
    with pytest.raises(StrategyError, match="risk_answers: 'mood' is no question"):
        risk_profile({**low, "mood": 1})
    assert Constraints(risk_answers=high).max_volatility == 0.20
    assert Constraints(risk_profile="growth").max_volatility == 0.14


def noisy(rows: int = 200) -> np.ndarray:
    steps = np.random.default_rng(2).normal(0, 1, (rows, 5)) * np.array([0.001, 0.01, 0.02, 0.02, 0.03])
    return np.exp(np.cumsum(steps, axis=0))


def test_max_volatility_is_kept_and_an_impossible_one_names_what_is_possible() -> None:
    prices = noisy()
    x = prices[1:] / prices[:-1] - 1
    weight = 0.5 ** (np.arange(len(x))[::-1] / 63.0)
    sigma = (x.T * weight / weight.sum()) @ x * 252
    w = moved([0, 0, 0, 0, 1], Constraints(max_volatility=0.1), prices=prices)
    assert np.sqrt(w @ sigma @ w) == pytest.approx(0.1, abs=1e-6)
    said = refused(Constraints(max_volatility=0.05, exclude=["a"]), prices=prices)
    assert "exclude (a)" in said
    assert "max_volatility (0.05)" in said
    least = float(said.split("has ")[1].split(" ")[0])
    assert 0.05 < least < 0.16


# ---------------------------------------------------------------- tax

GAINED = [Lot("a", 5.0, 0.2), Lot("a", 3.0, 1.5), Lot("b", 2.0, 1.0)]  # at prices of 1: a 0.5 and 0.3, b 0.2


def test_lots_that_cost_most_are_sold_first_and_gains_are_limited() -> None:
    limits = Constraints(lots=GAINED, max_gains=0.08)
    w = moved([0, 0, 1, 0, 0], limits)
    # free of gain: the 0.3 bought at 1.5, and b; of the lot with a gain of 0.8 a unit a tenth
    assert w == pytest.approx([0.4, 0, 0.6, 0, 0], abs=1e-6)
    book = Book.of(GAINED, NAMES)
    assert book.trade(w, np.ones(5)) == pytest.approx(0.08, abs=1e-6)


def test_a_tax_makes_selling_gains_costly_and_losses_free() -> None:
    none = moved([0, 0, 1, 0, 0], Constraints(lots=GAINED))
    assert none == pytest.approx([0, 0, 1, 0, 0])
    some = moved([0, 0, 1, 0, 0], Constraints(lots=GAINED, tax_rate=0.25, tax_aversion=0.1))
    more = moved([0, 0, 1, 0, 0], Constraints(lots=GAINED, tax_rate=0.25, tax_aversion=2.0))
    assert 0 < some[0] < more[0] <= 0.5 + 1e-7
    assert some[1] == pytest.approx(0, abs=1e-6)
    # ½‖w − wanted‖² with a kept and c short of 1 by it: 2 · kept = rate · aversion · gain
    assert some[0] == pytest.approx(0.25 * 0.1 * 0.8 / 2, abs=1e-6)


def test_a_buy_pays_no_tax_and_stays_to_the_bit() -> None:
    limits = Constraints(lots=[Lot("a", 1.0, 0.2)], tax_rate=0.5, tax_aversion=1.0)
    wanted = np.array([1.0, 0, 0, 0, 0])
    assert (moved(wanted, limits) == wanted).all()


def test_walk_keeps_the_lots_as_it_trades() -> None:
    prices = np.ones((12, 5))
    prices[4:, 0] = 2.0  # a doubles: its gain is half of what it sells for
    frame = pd.DataFrame(prices, pd.date_range("2020", periods=12), NAMES)
    strategy = Equal()
    strategy.constraints = Constraints(max_gains=0.01, tax_rate=0.2, tax_aversion=0.0)
    targets = walk(strategy, frame, every=4, lookback=None)
    assert targets[0] == pytest.approx([0.2] * 5)
    assert targets[4][0] == pytest.approx(1 / 3 - 0.02, abs=1e-6)  # held a third; 0.02 sold realises 0.01
    assert targets[8][0] == pytest.approx(1 / 3 - 0.04, abs=1e-6)


def test_a_lot_bought_later_and_cheaper_is_sold_later() -> None:
    book = Book.of_weights([0.5, 0.5, 0, 0, 0], np.ones(5))  # 0.5 of a at 1
    cheap = np.array([0.5, 1, 1, 1, 1])
    book.trade(np.array([1.0, 0, 0, 0, 0]), cheap)  # 1 more of a at 0.5
    assert book.lots[0] == [(0.5, pytest.approx(1.0)), (1.0, pytest.approx(0.5))]
    realised = book.trade(
        np.array([2 / 3, 1 / 3, 0, 0, 0]), np.ones(5)
    )  # 0.5 of the 1.5 at 1: those bought at 1
    assert realised == pytest.approx(0, abs=1e-12)


def test_a_book_adds_up() -> None:
    book = Book.of_weights([0.5, 0.5, 0, 0, 0], np.array([1.0, 2, 1, 1, 1]))
    assert book.units() == pytest.approx([0.5, 0.25, 0, 0, 0])
    doubled = np.array([2.0, 2, 1, 1, 1])
    assert book.weights(doubled) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    assert book.gains(doubled) == [(0, pytest.approx(2 / 3), 0.5), (1, pytest.approx(1 / 3), 0.0)]
    realised = book.trade(np.array([0, 1.0, 0, 0, 0]), doubled)
    assert realised == pytest.approx(0.5 / 1.5)
    assert book.units() == pytest.approx([0, 0.75, 0, 0, 0])
