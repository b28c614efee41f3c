"""Walking a strategy, loading one from a file, and what a user is told who makes a mistake."""

from __future__ import annotations

import ast
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from offchain import strategies
from offchain.backtest import BacktestError, Market, Policy, run
from offchain.strategies import (
    KINDS,
    NAMES,
    Constraints,
    Equal,
    Fixed,
    MinVariance,
    Strategy,
    StrategyError,
    make,
    walk,
)
from offchain.strategies.kinds import Estimated

ROOT = Path(__file__).parents[2]
SHARED = [field.name for field in fields(Estimated)]


def frame(rows: int = 400, n: int = 4, start: str = "2020-01-01") -> pd.DataFrame:
    steps = np.random.default_rng(5).normal(0.0003, 0.01, (rows, n))
    prices = 100 * np.exp(np.cumsum(steps, axis=0))
    return pd.DataFrame(prices, pd.date_range(start, periods=rows), [f"a{i}" for i in range(n)])


def decided(targets: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isfinite(targets[:, 0]))


class Sees(Strategy):
    """Notes what it is given."""

    seen: list[Any]

    def __init__(self) -> None:
        self.seen = []

    def target_weights(self, history, now):
        self.seen.append((len(history), history.index[-1], now))
        return np.full(history.shape[1], 1 / history.shape[1])


# ---------------------------------------------------------------- rhythm


@pytest.mark.parametrize(
    ("every", "lookback", "first_dates"),
    [
        ("month", 60, ["2020-01-01", "2020-02-29", "2020-03-01", "2020-04-01"]),
        ("quarter", 60, ["2020-01-01", "2020-02-29", "2020-04-01", "2020-07-01"]),
        ("year", 60, ["2020-01-01", "2020-02-29", "2021-01-01"]),
        ("week", 60, ["2020-01-01", "2020-02-29", "2020-03-02", "2020-03-09"]),
        ("day", 60, ["2020-01-01", "2020-02-29", "2020-03-01", "2020-03-02"]),
        (50, 60, ["2020-01-01", "2020-02-29", "2020-04-10", "2020-05-30"]),
        ("month", None, ["2020-01-01", "2020-09-08", "2020-10-01", "2020-11-01"]),
    ],
)
def test_it_decides_when_its_history_is_complete_and_then_at_each_period(
    every: str | int, lookback: int | None, first_dates: list[str]
) -> None:
    data = frame()
    targets = walk(Sees(), data, every=every, lookback=lookback, check=False)
    rows = decided(targets)
    assert [str(data.index[row].date()) for row in rows[: len(first_dates)]] == first_dates
    assert targets[0] == pytest.approx(np.full(4, 0.25))
    assert targets[rows].sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-12)


def test_fixed_and_equal_decide_from_the_first_row() -> None:
    targets = walk(Fixed({"a0": 1.0}), frame(10), every="month", lookback=252)
    assert decided(targets).tolist() == [0]
    assert targets[0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("lookback", "lengths"), [(60, {60}), (None, None)])
def test_the_strategy_sees_its_lookback_up_to_now(lookback: int | None, lengths: set[int] | None) -> None:
    strategy = Sees()
    strategy.__class__.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    try:
        walk(strategy, frame(), every="month", lookback=lookback, check=False)
    finally:
        del strategy.__class__.__deepcopy__  # type: ignore[attr-defined]
    assert all(last == now for _, last, now in strategy.seen)
    sizes = [size for size, _, _ in strategy.seen]
    assert set(sizes) == lengths if lengths else sizes == sorted(set(sizes))


def test_start_is_held_until_then() -> None:
    for start in ({"a1": 1.0}, [0, 1, 0, 0]):
        assert walk(MinVariance(), frame(300), start=start)[0].tolist() == [0, 1, 0, 0]
    strategy = make("min-variance", {}, Constraints(max_weights=0.5))
    assert walk(strategy, frame(300), start={"a1": 1.0})[0] == pytest.approx([1 / 6, 0.5, 1 / 6, 1 / 6])


def test_the_targets_are_what_a_policy_takes() -> None:
    data = frame()
    found = run(data, Policy(walk(MinVariance(), data, every="quarter", lookback=60)))
    assert found.final_value > 0
    with_market = walk(MinVariance(), Market.of(data), every="quarter", lookback=60)
    assert (
        np.nan_to_num(with_market) == np.nan_to_num(walk(MinVariance(), data, every="quarter", lookback=60))
    ).all()


def test_progress_counts_the_decisions() -> None:
    seen: list[tuple[int, int]] = []
    walk(Equal(), frame(100), every=10, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k + 1, 10) for k in range(10)]


def test_time_zones_are_utc_and_a_later_history_in_a_zone_is_still_later() -> None:
    data = frame().tz_localize("America/New_York")
    history = data.iloc[:100]
    found = Equal().target_weights(history, history.index[-1])
    assert found.sum() == 1
    with pytest.raises(strategies.LookAheadError):
        Equal().target_weights(history, history.index[-1] - pd.Timedelta(hours=1))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"every": "fortnight"}, "every: 'fortnight' is none of day, week, month, quarter, year"),
        ({"every": 0}, "every: 0 is none of"),
        ({"lookback": 1000}, "lookback: the first decision is at row 999, the data end at row 399"),
        ({"lookback": 2}, "lookback: 2 is not a number of at least the 3 rows that MinVariance needs"),
        ({"start": {"x": 1.0}}, "start: weights: 'x' is not an asset; assets are a0, a1"),
        ({"start": [0.5, 0, 0, 0]}, "start: the weights sum to 0.5, not to 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(StrategyError) as error:
        walk(MinVariance(), frame(), **more)
    assert said in str(error.value)


def test_a_market_that_cannot_be_is_the_backtests_matter() -> None:
    data = frame()
    data.iloc[3, 1] = np.nan
    with pytest.raises(BacktestError, match="prices: row 3"):
        walk(Equal(), data)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([0.5, 0.5, 0], "weights: have shape (3,), needs 4, one an asset"),
        ([0.5, 0.6, 0, 0], "the weights sum to 1.1, not to 1"),
        ([1.5, -0.5, 0, 0], "weight of a1: -0.5 is not at least 0"),
        ([float("nan"), 1, 0, 0], "weight of a0: nan is not at least 0"),
        ([float("inf"), 1, 0, 0], "weight of a0: inf is not at least 0"),
        ({"zz": 1.0}, "weights: 'zz' is not an asset; assets are a0, a1, a2, a3"),
        (None, "weights: have shape (), needs 4, one an asset"),
        ("all in", "weights: str is not a list of numbers"),
    ],
)
def test_answers_that_are_no_weights_are_refused(answer: Any, said: str) -> None:
    class Says(Strategy):
        def target_weights(self, history, now):
            return answer

    with pytest.raises(StrategyError) as error:
        walk(Says(), frame(), every=50, lookback=60)
    assert str(error.value) == f"Says: at 2020-02-29: {said}"


def test_answers_may_be_a_series_a_dict_or_numbers() -> None:
    for answer in (
        pd.Series({"a2": 0.4, "a0": 0.6}),
        {"a2": 0.4, "a0": 0.6},
        [0.6, 0, 0.4, 0],
        np.array([0.6, 0, 0.4, 0]),
    ):

        class Says(Strategy):
            given = answer

            def target_weights(self, history, now):
                return self.given

        data = frame()
        assert Says().target_weights(data, data.index[-1]).tolist() == [0.6, 0, 0.4, 0]


@pytest.mark.parametrize(
    "history", [None, np.ones((3, 2)), pd.DataFrame({"a": [1.0, 2.0]}), frame().iloc[:1]]
)
def test_histories_that_are_none_are_refused(history: Any) -> None:
    with pytest.raises(StrategyError, match="MinVariance: history: "):
        MinVariance().target_weights(history, "2030-01-01")


def test_a_class_instead_of_a_strategy() -> None:
    with pytest.raises(StrategyError, match=r"Equal: a class, not a strategy: call it, Equal\(\)"):
        walk(Equal, frame())
    with pytest.raises(StrategyError, match="dict: has no method target_weights"):
        walk({}, frame())


# ---------------------------------------------------------------- the user's file


def user(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


GOOD = """
class Hold:
    def __init__(self, asset, other=1):
        self.asset = asset
    def target_weights(self, history, now):
        return {self.asset: 1.0}
"""


def test_a_class_from_a_file_with_settings_and_constraints(tmp_path: Path) -> None:
    path = user(tmp_path, GOOD)
    for name in (f"{path}:Hold", path):
        strategy = make(name, {"asset": "a1"}, Constraints(max_weights=0.7))
        targets = walk(strategy, frame(300), every=50, lookback=60)
        assert targets[59] == pytest.approx([0.1, 0.7, 0.1, 0.1])


@pytest.mark.parametrize(
    ("text", "name", "settings", "said"),
    [
        (GOOD, ":Sell", {}, "has no class Sell; classes with target_weights are Hold"),
        (GOOD, ":Hold", {}, "missing a required argument: 'asset'; settings are asset, other"),
        (GOOD, ":Hold", {"asset": "a", "size": 1}, "'size' is no setting; settings are asset, other"),
        ("x = 1\n\ny = 1 / 0\n", ":Hold", {}, "mine.py:3: ZeroDivisionError: division by zero"),
        ("def (:\n", ":Hold", {}, "line 1: SyntaxError"),
        ("import no_such_module\n", ":Hold", {}, "mine.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("class Hold:\n    pass\n", ":Hold", {}, "Hold has no method target_weights(history, now)"),
        ("raise SystemExit(3)\n", ":Hold", {}, "mine.py:1: SystemExit: 3"),
        (GOOD + GOOD.replace("Hold", "Two"), "", {}, "name the class, file.py:Class; classes with"),
        ("class Hold:\n    def __init__(self):\n        self.x = {}['k']\n    def target_weights(self, h, n): ...\n",
         ":Hold", {}, "mine.py:3: KeyError: 'k'"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_say_why_in_a_line(
    tmp_path: Path, text: str, name: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(StrategyError) as error:
        make(user(tmp_path, text) + name, settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "mine.py" in str(error.value)


def test_a_file_that_is_not_there_and_a_name_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match=r"nowhere.py: there is no such file"):
        make(f"{tmp_path}/nowhere.py:Hold")
    with pytest.raises(StrategyError) as error:
        make("momentum")
    assert all(name in str(error.value) for name in NAMES)


def test_an_error_inside_a_decision_names_file_line_date_and_exception(tmp_path: Path) -> None:
    path = user(tmp_path, GOOD.replace("return {self.asset: 1.0}", "return [1 / 0 for _ in history]"))
    with pytest.raises(StrategyError) as error:
        walk(make(f"{path}:Hold", {"asset": "a1"}), frame(), every=50, lookback=60)
    assert str(error.value) == f"Hold: at 2020-02-29: {path}:6: ZeroDivisionError: division by zero"
    assert error.value.__suppress_context__ or error.value.__cause__ is None


def test_names_may_be_written_with_underscores_or_capitals() -> None:
    assert type(make("Risk_Parity")) is KINDS["risk-parity"]


# ---------------------------------------------------------------- docs and examples


def test_the_docs_table_has_every_strategy_and_every_setting() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text()
    for name, kind in KINDS.items():
        assert f"| `{name}` |" in text
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        for setting in (field.name for field in fields(kind)):
            if setting not in SHARED:
                assert f"`{setting}`" in row, (name, setting)
    for setting in (*SHARED, *(field.name for field in fields(Constraints))):
        assert f"`{setting}" in text, setting


def test_the_docs_class_is_under_20_lines_and_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "strategies.md").read_text()
    code = text.split("```python\n# mine.py\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) < 20
    strategy = make(user(tmp_path, code) + ":Momentum", {"rows": 60})
    targets = walk(strategy, frame(), every="month", lookback=100)
    assert len(decided(targets)) > 5


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "strategies").glob("*.py")), ids=lambda path: path.name
)
def test_the_examples_run_as_a_users_file(path: Path) -> None:
    names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    assert names
    for name in names:
        targets = walk(make(f"{path}:{name}"), frame(500), every="month", lookback=252)
        assert len(decided(targets)) > 5


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    import subprocess

    heavy = "('skfolio', 'sklearn', 'pymoo', 'cvxpy', 'torch')"
    code = f"import sys, offchain.strategies; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
