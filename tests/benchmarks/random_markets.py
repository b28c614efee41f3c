"""A campaign over random markets: python -m tests.benchmarks.random_markets FIRST LAST

Each market is planned three times: as drawn, carried out on the chain and compared to the wei; without gas against
Clarabel; and, made small, with gas against every set of legs. Prints what is wrong with its seed, and a summary.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np

from offchain import policy
from offchain.planner import plan
from offchain.policy import WAD
from tests.offchain.test_planner_random_markets import MAX_PAYLOAD, SMALL, assert_explained, assert_paid
from tests.support.bazaar import Bazaar
from tests.support.evm import Reverted
from tests.support.judge import Judge, allowance, facts, objective

CHAIN_LIFE = 150  # markets on one chain: it keeps all accounts in memory


def on_chain(bazaar: Bazaar, seed: int, count: Counter[str], seconds: list[float]) -> None:
    """As drawn: crash, refusal, misprediction, false explanation, time."""
    market = bazaar.market(seed)
    start = time.process_time()
    found = plan(market.problem)
    seconds.append(time.process_time() - start)
    if seconds[-1] > 2:
        say(count, "slow", seed, f"{seconds[-1]:.2f} s")
    try:
        assert_explained(market.problem, found)
    except AssertionError as error:
        say(count, "explanation", seed, str(error))
    if not found.trades:
        count["no trade"] += 1
        return
    count["carried out"] += 1
    count["legs"] += len(found.legs)
    count[found.method] += 1
    if len(found.payload) > MAX_PAYLOAD:
        say(count, "payload", seed)
    try:
        market.carry_out(found)
        assert_paid(market, found)
    except Reverted as error:
        say(count, "refused", seed, error.reason)
    except AssertionError as error:
        say(count, "mispredicted", seed, str(error))


def against_clarabel(bazaar: Bazaar, seed: int, count: Counter[str], gaps: list[float]) -> None:
    """Without gas and smallest legs."""
    market = bazaar.market(seed, gas_price=0, least=0)
    problem = market.problem
    if policy.next_session(problem.state, problem.now)[1]:
        return
    judge = Judge(problem, market.outside())
    best, used = judge.solve()
    if len(judge.tokens) <= 4 and judge.turns(used):
        best = judge.ordered()
    elif judge.turns(used):
        count["circles, not judged"] += 1
        return
    if judge.burnt > 1e-7 or not judge.exact or not np.isfinite(best):
        count["Clarabel, not exact"] += 1
        return
    compare(seed, judge, best, count, gaps, "convex")


def against_subsets(bazaar: Bazaar, seed: int, count: Counter[str], gaps: list[float]) -> None:
    """Three assets, four pools, gas that matters."""
    wealth = 10 ** (3 + seed % 5)
    gas = int(WAD * wealth * 10 ** -(9 + seed % 4))
    market = bazaar.market(
        seed, assets=2 + seed % 2, outside=seed // 2 % 2, pools=4, wealth=wealth, gas_price=gas,
        noise=(0, 2e-4, 1e-3, 5e-3)[seed % 4], **SMALL,
    )  # fmt: skip
    problem = market.problem
    if policy.next_session(problem.state, problem.now)[1]:
        return
    judge = Judge(problem, market.outside())
    best = judge.subsets()
    if judge.burnt < 1e-7:
        compare(seed, judge, best, count, gaps, "subsets")


def compare(seed: int, judge: Judge, best: float, count: Counter[str], gaps: list[float], name: str) -> None:
    """The plan against the optimum, its bound too."""
    problem, found = judge.problem, plan(judge.problem)
    nav = facts(problem).nav
    mine = float(objective(problem, found.balances_after))
    if found.certificate is not None:
        mine = float(found.certificate.objective / WAD / nav)
        bound = float(found.certificate.bound / WAD / nav)
        if bound > min(best + 1e-7 + judge.dear * 1e-9, mine):
            say(count, f"{name}: bound", seed, f"{bound - best:.1e}, above the plan {bound - mine:.1e}")
    count[name] += 1
    slack = allowance(judge, found)
    if slack < 1e-6:
        gaps.append(mine - best)
    if mine > best + slack:
        say(
            count,
            f"{name}: worse",
            seed,
            f"{mine - best:.1e} of {best:.1e}, allowed {slack:.1e}, NAV {float(nav):.3g}",
        )
    if mine < best - 3e-7 - judge.dear * 1e-9:
        say(count, f"{name}: below the optimum", seed, f"{mine - best:.1e}")


def say(count: Counter[str], what: str, seed: int, more: str = "") -> None:
    """One finding."""
    count[what] += 1
    print(f"{what}: seed {seed} {more[:300]}", flush=True)


def main() -> None:
    """The campaign."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    parts = sys.argv[3] if len(sys.argv) > 3 else "chain,convex,subsets"
    bazaar, count = Bazaar(), Counter[str]()
    plan(bazaar.market(3).problem)  # compiles
    seconds: list[float] = []
    gaps: dict[str, list[float]] = {"convex": [], "subsets": []}
    for seed in range(first, last):
        if seed % CHAIN_LIFE == 0:
            bazaar = Bazaar()
        try:
            if "chain" in parts:
                on_chain(bazaar, seed, count, seconds)
            if "convex" in parts:
                against_clarabel(bazaar, seed, count, gaps["convex"])
            if "subsets" in parts and seed % 5 == 0:
                against_subsets(bazaar, seed, count, gaps["subsets"])
        except Exception as error:
            say(count, "crash", seed, repr(error))
    for what, number in sorted(count.items()):
        print(f"{number:8d} {what}")
    if seconds:
        p50, p99 = np.percentile(seconds, [50, 99])
        print(f"seconds of processor a plan: p50 {p50:.3f} p99 {p99:.3f} max {max(seconds):.3f}")
    for name, found in gaps.items():
        if found:
            middle, most = np.median(found), max(found)
            print(
                f"{name}: above the optimum, share of NAV: median {middle:.1e} max {most:.1e} of {len(found)}"
            )


if __name__ == "__main__":
    main()
