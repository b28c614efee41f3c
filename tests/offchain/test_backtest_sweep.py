"""Sweeps: the same numbers as one at a time, in order, in bounded memory."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from skfolio.datasets import load_sp500_dataset

from offchain.backtest import STATISTICS, BacktestError, Costs, Job, Market, Policy, RebalanceTo, run, sweep
from offchain.backtest.sweep import statistics
from offchain.policy import Mode

COSTS = Costs(proportional_bps=10)


@cache
def stocks() -> Market:
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
