"""The chain in the loop beside the bare EVM calls it consists of: one process, taking turns, a decade of days.

    python -m tests.benchmarks.backtest_evm [--rows 2520] [--rounds 3]

The calls of a run (deployments, blocks, feeds, swaps, reads, rebalances), encoded beforehand, are the anchor: a new EVM
does them again in a bare loop. Ours is the whole replay: scenario, decisions, planner, result. CPU time of the thread.
Goal: at least a third of their speed. Stops where the two engines are not equal to the wei in every row. Writes
reports/benchmarks/backtest_evm.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from skfolio.datasets import load_sp500_dataset

from offchain.backtest import Market, Policy
from offchain.backtest.chain import PoolSettings, replay
from offchain.backtest.chain.addresses import DEPLOYER
from offchain.backtest.chain.evm import GAS, EvmChain, new_evm
from offchain.backtest.chain.replay import play
from offchain.backtest.chain.scenario import Scenario
from offchain.policy import Mode
from tests.benchmarks.common import Row, row, show, taking_turns, write

GOAL = 3.0  # times the bare calls


def jobs(rows: int) -> dict[str, tuple[Market, Policy, PoolSettings]]:
    """The same prices with little to do and with much."""
    prices = load_sp500_dataset().iloc[-rows:, :4]
    flows = np.zeros(rows)
    flows[5::21] = np.random.default_rng(1).normal(0, 20_000, len(flows[5::21]))
    threshold = Policy(np.full(4, 0.25), mode=Mode.THRESHOLD)
    busy = Policy(np.full(4, 0.25), mode=Mode.EITHER, calendar_every=1, fee_bps=50)
    return {
        "threshold": (Market.of(prices), threshold, PoolSettings(venue="v2")),
        "threshold, V2 and V3 pools": (Market.of(prices), threshold, PoolSettings()),
        "monthly or threshold, V2 and V3 pools, fee, monthly flows": (
            Market.of(prices, flows_in_kind=flows), busy, PoolSettings(),
        ),
    }  # fmt: skip


def bare(steps: list[Any]) -> None:
    """All that a run asked of its EVM, and nothing else."""
    evm = new_evm()
    call, set_block = evm.message_call, evm.set_block_env
    for step in steps:
        if not isinstance(step, tuple):
            set_block(step)
        elif len(step) == 1:
            evm.deploy(DEPLOYER, step[0])
        else:
            call(*step, gas=GAS)


def measure(name: str, market: Market, policy: Policy, pools: PoolSettings, rounds: int) -> list[Row]:
    """Both engines against the bare calls of the EVM's."""
    steps: list[Any] = []
    scenario = Scenario.of(market, policy, pools=pools)
    result = play(scenario, EvmChain(scenario, steps), engine="evm")
    whole = partial(replay, market, policy, pools=pools)
    exact = whole(engine="integer")
    if (exact.snapshots, exact.pools) != (result.snapshots, result.pools):
        raise SystemExit(f"{name}: the engines disagree")
    calls: dict[str, Callable[[], object]] = {
        "evm": partial(whole, engine="evm"),
        "bare": partial(bare, steps),
        "integer": partial(whole, engine="integer"),
    }
    spent = {engine: float(np.median(times)) for engine, times in taking_turns(calls, rounds).items()}
    size = f"{len(scenario.times):,} rows, {scenario.n} assets"
    count = sum(isinstance(step, tuple) for step in steps)
    more = {"rebalances": result.rebalances, "calls": count, "final_value": result.final_value}
    return [
        row(f"{engine}: {name}", size, spent[engine], spent["bare"], "bare EVM calls", goal, "s", **more)
        for engine, goal in (("evm", GOAL), ("integer", None))
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_520, help="days")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found: list[Row] = []
    for name, (market, policy, pools) in jobs(arguments.rows).items():
        found += measure(name, market, policy, pools, arguments.rounds)
    notes = [
        f"{line['name']}: {line['rebalances']} rebalances, {line['calls']:,} calls" for line in found[::2]
    ]
    show("The chain in the loop, CPU seconds", found, "\n".join(notes))
    if arguments.rows == 2_520:
        write("backtest_evm", found)


if __name__ == "__main__":
    main()
