"""Sweeps: the same numbers as one at a time, in order, in bounded memory; on disk, killed and resumed; grids."""

from __future__ import annotations

import pickle
import re
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from offchain.backtest import STATISTICS, BacktestError, Costs, Job, Market, Policy, RebalanceTo, run, sweep
from offchain.backtest.sweep import BATCH, grid, read_returns, statistics
from offchain.policy import CalendarUnit, Mode

COSTS = Costs(proportional_bps=10)


@cache
def stocks() -> Market:
    from skfolio.datasets import load_sp500_dataset  # slow to import: not where only `small` is used

    return Market.of(load_sp500_dataset())


def thresholds(count: int) -> list[Policy]:
    return [Policy(np.full(20, 0.05), bands=tau) for tau in np.linspace(0.002, 0.1, count)]


def test_the_anchors_sweep_of_a_thousand_thresholds() -> None:
    found = sweep(stocks(), thresholds(1_000), COSTS)
    assert round(found.final_value.sum()) == 248_352_063_075
    assert found.bands.tolist() == np.linspace(0.002, 0.1, 1_000).tolist()


def test_a_row_of_the_table_is_the_backtest_itself() -> None:
    moving = np.full((8_313, 20), np.nan)
    moving[0], moving[4_000] = 0.05, np.r_[np.full(10, 0.09), np.full(10, 0.01)]
    policies = [
        Policy(np.full(20, 0.05), name="plain"),
        Policy(moving, Mode.BOTH, name="moving", fee_bps=50),
        Policy(
            np.full(20, 0.05), Mode.THRESHOLD, rebalance_to=RebalanceTo.EDGE, name="edge", gain_over_cost=1
        ),
    ]
    found = sweep(stocks(), policies, COSTS, cash=5e6)
    assert found.name.tolist() == ["plain", "moving", "edge"]
    assert found["mode"].tolist() == ["EITHER", "BOTH", "THRESHOLD"]
    for policy, (_, line) in zip(policies, found.iterrows(), strict=True):
        alone = run(stocks(), policy, COSTS, cash=5e6).statistics
        assert {name: line[name] for name in STATISTICS} == alone


def test_order_and_numbers_do_not_depend_on_the_workers() -> None:
    one, three = (sweep(stocks(), thresholds(70), COSTS, workers=count) for count in (1, 3))
    assert one.equals(three)


def test_policies_are_taken_from_a_generator_as_needed() -> None:
    made, finished, ahead = 0, 0, []

    def policies() -> Iterator[Policy]:
        nonlocal made
        for policy in thresholds(300):
            made += 1
            ahead.append(made - finished)
            yield policy

    def progress(count: int) -> None:
        nonlocal finished
        finished += count

    assert len(sweep(stocks(), policies(), COSTS, workers=2, progress=progress)) == 300
    assert finished == 300 and max(ahead) <= 16 * (2 * 2 + 2)


def test_memory_does_not_grow_with_the_number_of_policies() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        sweep(stocks(), iter(thresholds(count)), COSTS, workers=2)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    assert (
        peak(640) < peak(160) + 480 * 8_000
    )  # a row of the table, a setting; far from 8,313 rows of anything


def test_a_worker_of_another_process_can_do_its_part() -> None:
    job = pickle.loads(pickle.dumps(Job.of(stocks(), COSTS)))
    policies = pickle.loads(pickle.dumps(thresholds(5)))
    assert statistics(job, policies)[:, 0].tolist() == sweep(stocks(), policies, COSTS).final_value.tolist()


def test_a_policy_that_fails_is_named() -> None:
    policies = [*thresholds(2), Policy(np.full(20, 0.04), name="too little")]
    with pytest.raises(BacktestError, match="policy too little: targets: the weights sum to"):
        sweep(stocks(), policies, COSTS)


def test_no_policies_make_an_empty_table() -> None:
    assert len(sweep(stocks(), [], COSTS)) == 0


# ---------------------------------------------------------------- on disk

ROWS = 3_000


def small(seed: int = 1, hours: int = 8) -> Market:
    moves = np.random.default_rng(seed).standard_normal((ROWS, 4)) / 50
    dates = np.datetime64("2020-01-01T05", "s") + np.arange(ROWS) * np.timedelta64(3_600 * hours, "s")
    return Market(dates, np.exp(np.cumsum(moves, axis=0)), "abcd")


def bands(count: int, name: str = "") -> list[Policy]:
    return [
        Policy(np.full(4, 0.25), bands=tau, name=f"{name}{tau:g}") for tau in np.linspace(0.01, 0.1, count)
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop_after(batches: int) -> Any:
    """A progress that interrupts, as Ctrl-C does."""
    count = 0

    def progress(_: int) -> None:
        nonlocal count
        count += 1
        if count == batches:
            raise KeyboardInterrupt

    return progress


def interrupted(out: Path, **more: Any) -> None:
    given = {"data": small(), "policies": bands(100), "costs": COSTS, "returns": "weekly"} | more
    with pytest.raises(KeyboardInterrupt):
        sweep(**given, out=out, progress=stop_after(3))


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
import test_backtest_sweep as t
from pathlib import Path
done = []
def progress(count):
    done.append(count)
    if len(done) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
t.sweep(t.small(), t.bands(100), t.COSTS, out=Path(sys.argv[3]), returns="daily", workers=2, progress=progress)
"""


def test_a_sweep_that_was_killed_does_only_what_is_missing_and_ends_with_the_same_file(
    tmp_path: Path,
) -> None:
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    out, here = tmp_path / "killed" / "x.parquet", Path(__file__)
    arguments = (str(here.parents[2]), str(here.parent), str(out))
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL and not out.exists()
    kept = sorted((tmp_path / "killed" / "x.parquet.parts").glob("[0-9]*.parquet"))
    assert 4 <= len(kept) < 7
    before = {path: path.stat().st_mtime_ns for path in kept}
    calls = []

    def progress(count: int) -> None:
        calls.append(count)
        assert {path: path.stat().st_mtime_ns for path in kept} == before  # not done again

    again = sweep(small(), iter(bands(100)), COSTS, out=out, returns="daily", progress=progress)
    assert sum(calls) == 100
    whole = sweep(small(), bands(100), COSTS, out=tmp_path / "whole" / "x.parquet", returns="daily")
    assert again.equals(whole) and whole.equals(sweep(small(), bands(100), COSTS))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert set(files(tmp_path / "whole")) == {"x.parquet", "x.returns.parquet"}


def test_the_file_is_sorted_by_number_and_a_second_start_only_reads_it(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    made = sweep(small(), bands(40), COSTS, out=out)
    table = pd.read_parquet(out)
    assert table["number"].tolist() == list(range(40)) and table["fingerprint"].nunique() == 40
    assert table["name"].tolist() == [policy.name for policy in bands(40)]
    before, calls = out.stat().st_mtime_ns, []
    again = sweep(small(), bands(40), COSTS, out=out, progress=calls.append)
    assert again.equals(made) and sum(calls) == 40 and out.stat().st_mtime_ns == before


def test_parts_can_be_read_while_a_sweep_is_under_way(tmp_path: Path) -> None:
    interrupted(tmp_path / "x.parquet")
    found = pd.read_parquet(tmp_path / "x.parquet.parts")
    alone = sweep(small(), bands(100), COSTS)
    assert len(found) == 3 * BATCH
    assert found["final_value"].tolist() == alone["final_value"][found["number"]].tolist()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"nonsense" * 99])
def test_a_part_that_cannot_be_read_is_done_again(tmp_path: Path, damage: Any) -> None:
    interrupted(tmp_path / "x.parquet")
    part = tmp_path / "x.parquet.parts" / f"{BATCH:09d}.parquet"
    part.write_bytes(damage(part.read_bytes()))
    made = sweep(small(), bands(100), COSTS, out=tmp_path / "x.parquet", returns="weekly")
    assert made.equals(sweep(small(), bands(100), COSTS))


DIFFERENT = [
    ({"data": small(seed=2)}, "other terms: prices: name another file, or delete"),
    ({"data": small(hours=4)}, "other terms: dates: name"),
    ({"costs": Costs(proportional_bps=12)}, "other terms: costs.proportional_bps (10, now 12): name"),
    ({"cash": 5e6, "holdings": np.ones(4)}, "other terms: cash (1000000.0, now 5000000.0), holdings: name"),
    ({"returns": "daily"}, "other terms: returns (weekly, now daily): name"),
    ({"policies": bands(100, "τ ")}, "other policies: number 0 was '0.01', now 'τ 0.01': name"),
    ({"policies": [*bands(100)[:20], *bands(99)[20:]]}, "other policies: number 20 was '0.0281818', now"),
    ({"policies": [replace(p, fee_bps=1) for p in bands(100)]}, "other policies: number 0 was '0.01', now"),
]


@pytest.mark.parametrize(("change", "message"), DIFFERENT)
@pytest.mark.parametrize("finished", [False, True])
def test_other_data_costs_or_policies_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], message: str, finished: bool
) -> None:
    out = tmp_path / "x.parquet"
    given: dict[str, Any] = {"data": small(), "policies": bands(100), "costs": COSTS, "returns": "weekly"}
    interrupted(out)
    if finished:
        sweep(**given, out=out)
    before = files(out.parent if finished else tmp_path / "x.parquet.parts")
    with pytest.raises(BacktestError, match=re.escape(f"out: {out} was begun with {message}")):
        sweep(**given | change, out=out, workers=1)
    assert files(out.parent if finished else tmp_path / "x.parquet.parts").items() >= before.items()
    made = sweep(**given, out=out)  # and as it was it goes on
    assert made.equals(sweep(small(), bands(100), COSTS))


def test_fewer_or_more_policies_than_before_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    interrupted(out)
    with pytest.raises(BacktestError, match="begun with more policies, at least 33, now 32: name"):
        sweep(small(), bands(100)[:32], COSTS, out=out, returns="weekly")
    sweep(small(), bands(100), COSTS, out=out, returns="weekly")
    for count, message in ((90, "number 90 was '0.0918182', now none"), (96, "number 96 was .*, now none")):
        with pytest.raises(BacktestError, match=f"begun with other policies: {message}"):
            sweep(small(), bands(100)[:count], COSTS, out=out, returns="weekly")
    more = [*bands(100), replace(bands(1)[0], bands=0.2, name="wide")]
    with pytest.raises(BacktestError, match="begun with other policies: number 100 was none, now 'wide'"):
        sweep(small(), more, COSTS, out=out, returns="weekly")


def test_another_version_of_the_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "x.parquet")
    monkeypatch.setattr(sys.modules["offchain.backtest.sweep"], "code_print", lambda: "another")
    with pytest.raises(BacktestError, match="other terms: another version of the engine: name another file"):
        sweep(small(), bands(100), COSTS, out=tmp_path / "x.parquet", returns="weekly")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write more, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 3_000, 30_000])  # of the terms, a part, the returns' file
def test_a_disk_that_is_full_is_told_and_nothing_is_lost(tmp_path: Path, size: int) -> None:
    out, other = tmp_path / "full" / "x.parquet", tmp_path / "whole" / "x.parquet"
    for path in (out, other):
        path.parent.mkdir()
    if size > 100:
        interrupted(out)
    kept = set(tmp_path.glob("full/x.parquet.parts/[0-9]*"))
    with (
        files_no_larger_than(size),
        pytest.raises(
            BacktestError, match=f"^out: {out} cannot be written: .*; what is finished is kept in .*$"
        ),
    ):
        sweep(small(), bands(100), COSTS, out=out, returns="weekly")
    assert not out.exists() and kept <= set(tmp_path.glob("full/x.parquet.parts/[0-9]*"))
    for path in (out, other):
        sweep(small(), bands(100), COSTS, out=path, returns="weekly")
    whole = files(other.parent)
    assert {name: content for name, content in files(out.parent).items() if name in whole} == whole


def test_one_sweep_at_a_time_writes_a_file(tmp_path: Path) -> None:
    def another(_: int) -> None:
        with pytest.raises(BacktestError, match=r"^out: another sweep is writing .*x\.parquet$"):
            sweep(small(), bands(20), COSTS, out=tmp_path / "x.parquet")

    assert len(sweep(small(), bands(20), COSTS, out=tmp_path / "x.parquet", progress=another)) == 20


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for out in (tmp_path / "x.csv", tmp_path / "nowhere" / "x.parquet"):
        with pytest.raises(
            BacktestError, match=r"is not a file name ending in \.parquet in a folder that is th"
        ):
            sweep(small(), bands(2), COSTS, out=out)
    for content in (b"mine", None):
        out = tmp_path / "mine.parquet"
        out.write_bytes(content) if content else pd.DataFrame({"a": [1]}).to_parquet(out)
        before = out.read_bytes()
        with pytest.raises(BacktestError, match="is there and not a sweep's: name another file"):
            sweep(small(), bands(2), COSTS, out=out)
        assert out.read_bytes() == before


# ---------------------------------------------------------------- returns


@pytest.mark.parametrize(("every", "rule"), [("daily", "D"), ("weekly", "W-SUN")])
def test_returns_are_those_of_the_backtest_itself(tmp_path: Path, every: str, rule: str) -> None:
    policies = [replace(policy, fee_bps=100) for policy in bands(20)]
    sweep(small(), policies, COSTS, out=tmp_path / "x.parquet", returns=every)
    found = read_returns(tmp_path / "x.parquet")
    assert found.columns.tolist() == list(range(20))
    for number in (0, 7, 19):
        index = pd.Series(run(small(), policies[number], COSTS).index, pd.DatetimeIndex(small().dates))
        last = index.resample(rule).last()
        expected = np.diff(np.log(last.to_numpy()))
        assert found[number].to_numpy() == pytest.approx(expected, rel=1e-6, abs=1e-12)
        labels = index.index.to_series().resample(rule).last().iloc[1:]
        assert (found.index == pd.DatetimeIndex(labels)).all()


def test_returns_that_cannot_be_are_refused(tmp_path: Path) -> None:
    refused = {
        "returns: needs `out`": {"returns": "daily"},
        "returns: 'hourly' is neither": {"returns": "hourly", "out": tmp_path / "x.parquet"},
        "returns: the data has no two periods": {
            "returns": "weekly",
            "out": tmp_path / "x.parquet",
            "data": Market(small().dates[:5], small().prices[:5]),
        },
    }
    for message, more in refused.items():
        with pytest.raises(BacktestError, match=message):
            sweep(**{"data": small(), "policies": bands(2)} | more)
    with pytest.raises(BacktestError, match="run the sweep to its end with `returns`"):
        read_returns(tmp_path / "x.parquet")


def test_returns_asked_for_later_need_another_file(tmp_path: Path) -> None:
    sweep(small(), bands(2), COSTS, out=tmp_path / "x.parquet")
    with pytest.raises(BacktestError, match=re.escape("returns (None, now weekly)")):
        sweep(small(), bands(2), COSTS, out=tmp_path / "x.parquet", returns="weekly")


# ---------------------------------------------------------------- grids

BASE = Policy(np.full(4, 0.25), name="base")


def test_a_grid_is_every_combination_named_by_what_varies() -> None:
    found = grid(
        {
            "mode": ["threshold", "Either"],
            "calendar_unit": ["days"],
            "rebalance_to": ["half band", "half_band"][:1],
            "band_points_bps": {"from": 100, "to": 300, "step": 100},
            "gain_over_cost": {"from": 0, "to": 1, "count": 3},
            "first_row_only": [True, False],
        },
        BASE,
    )
    assert len(found) == 2 * 3 * 3 * 2 == len({policy.name for policy in found})
    first, last = found[0], found[-1]
    assert (first.mode, first.calendar_unit, first.rebalance_to) == (
        Mode.THRESHOLD,
        CalendarUnit.DAYS,
        RebalanceTo.HALF_BAND,
    )
    assert (last.mode, last.band_points_bps, last.gain_over_cost, last.first_row_only) == (
        Mode.EITHER,
        300,
        1.0,
        False,
    )
    assert last.name == (
        "mode=either, calendar_unit=days, rebalance_to=half_band, band_points_bps=300, gain_over_cost=1.0, "
        "first_row_only=False"
    )
    assert all(policy.targets is BASE.targets for policy in found)


def test_a_range_has_the_values_that_one_would_write() -> None:
    steps = [policy.bands for policy in grid({"bands": {"from": 0.01, "to": 0.07, "step": 0.01}}, BASE)]
    assert steps == [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]
    short = [policy.bands for policy in grid({"bands": {"from": 0.1, "to": 0.35, "step": 0.1}}, BASE)]
    assert short == [0.1, 0.2, 0.3]
    counted = [policy.bands for policy in grid({"bands": {"from": 0, "to": 0.3, "count": 4}}, BASE)]
    assert counted == [0, 0.1, 0.2, 0.3]
    whole = [policy.fee_bps for policy in grid({"fee_bps": {"from": 0, "to": 100, "count": 5}}, BASE)]
    assert whole == [0, 25, 50, 75, 100] and all(isinstance(fee, int) for fee in whole)


def test_values_may_be_one_an_asset() -> None:
    found = grid({"bands": [0.05, [0.01, 0.02, 0.03, 0.04]], "targets": [[0.4, 0.3, 0.2, 0.1]]}, BASE)
    assert found[1].bands == [0.01, 0.02, 0.03, 0.04] and found[0].targets == [0.4, 0.3, 0.2, 0.1]
    assert len(sweep(small(), found, COSTS)) == 2


def test_targets_of_a_strategy_are_worked_out_once_and_shared() -> None:
    asked: list[dict[str, Any]] = []

    def targets(strategy: dict[str, Any]) -> np.ndarray:
        asked.append(strategy)
        return np.full(4, 0.25)

    settings = {"name": ["equal", "risk parity"], "lookback": {"from": 100, "to": 300, "step": 100}}
    found = grid({"bands": [0.01, 0.02], "strategy": settings}, BASE, targets)
    assert len(found) == 12 and len(asked) == 6
    assert asked[0] == {"name": "equal", "lookback": 100} and asked[-1] == {
        "name": "risk parity",
        "lookback": 300,
    }
    assert len({id(policy.targets) for policy in found}) == 6
    assert found[-1].name == "strategy.name=risk parity, strategy.lookback=300, bands=0.02"
    tables = [{"name": "equal"}, {"name": "fixed", "weights": [1, 0, 0, 0]}]
    assert len(grid({"strategy": tables}, BASE, targets)) == 2 and asked[-2:] == tables


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "sweep: no setting is varied"),
        ({"band": [1]}, "sweep.band: cannot be varied; can be: aversion, band_points_bps,"),
        ({"covariance": [1]}, "sweep.covariance: cannot be varied"),
        ({"fee_bps": 5}, "sweep.fee_bps: needs a list of values, or from, to and count or step"),
        ({"fee_bps": []}, "sweep.fee_bps: needs a list of values"),
        ({"fee_bps": [-1]}, "fee_bps: -1 is below 0"),
        ({"fee_bps": [1.5]}, "sweep.fee_bps: 1.5 is not a whole number"),
        ({"fee_bps": ["much"]}, "sweep.fee_bps: 'much' is not a number"),
        ({"fee_bps": [True]}, "sweep.fee_bps: True is not a number"),
        ({"fee_bps": [[1, 2, 3, 4]]}, "sweep.fee_bps: [1, 2, 3, 4] is not a number"),
        ({"bands": [float("nan")]}, "sweep.bands: nan is not a number"),
        ({"bands": [0.1, 0.10]}, "sweep.bands: 0.1 is there twice; each trial counts"),
        (
            {"bands": {"from": 0, "to": 1}},
            "sweep.bands: a range has from, to and either count or step, not fr",
        ),
        ({"bands": {"from": 1, "to": 1, "count": 2}}, "sweep.bands: from 1 is not below to 1"),
        ({"bands": {"from": 0, "to": "x", "count": 2}}, "sweep.bands.to: 'x' is not a number"),
        ({"bands": {"from": 0, "to": 1, "count": 1}}, "sweep.bands.count: 1 is not a whole number of at lea"),
        ({"bands": {"from": 0, "to": 1, "step": 0}}, "sweep.bands.step: 0 is not above 0"),
        ({"bands": {"from": 0, "to": 1, "step": 1e-7}}, "sweep.bands: 10,000,001 values; at most 1,000,000"),
        (
            {key: {"from": 0, "to": 0.5, "count": 1_001} for key in ("bands", "stops")},
            "sweep: 1,002,001 policies; at most 1,000,000",
        ),
        ({"mode": ["weekly"]}, "sweep.mode: 'weekly' is none of calendar, threshold, either, both"),
        ({"first_row_only": ["yes"]}, "sweep.first_row_only: 'yes' is neither true nor false"),
        ({"targets": [0.5]}, "sweep.targets: 0.5 is not a list of weights"),
        ({"bands": [0.1], "band_points_bps": [5]}, "sweep.band_points_bps: is not read where bands is set"),
        ({"stops": [0.1], "rebalance_to": ["edge"]}, "sweep.rebalance_to: is not read where stops is set"),
        ({"strategy": {}}, "sweep.strategy: needs a list of tables, or a table of lists"),
        ({"strategy": [{"name": "a"}, {"name": "a"}]}, "sweep.strategy: {'name': 'a'} is there twice"),
        ({"strategy": {"name": "equal"}}, "sweep.strategy.name: needs a list of values"),
        (
            {"strategy": {"name": ["equal"]}, "targets": [[1, 0, 0, 0]]},
            "sweep.strategy: there is no strategy h",
        ),
    ],
)
def test_a_grid_that_cannot_be_is_refused_by_its_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BacktestError, match="^" + re.escape(message)):
        grid(settings, BASE, lambda _: np.full(4, 0.25))


# ---------------------------------------------------------------- very large markets


def test_trades_of_a_market_too_large_for_one_in_every_row_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run(small(), bands(1)[0], COSTS)
    monkeypatch.setattr(sys.modules["offchain.backtest.engine"], "MOST_ROOM", 0)
    exact = run(small(), bands(1)[0], COSTS)
    assert exact.rebalances > 100 and exact.statistics == whole.statistics
    for name in ("trades", "units", "trade_rows", "trade_kinds", "trade_costs", "value"):
        assert (getattr(exact, name) == getattr(whole, name)).all()
