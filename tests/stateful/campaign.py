"""A seeded random campaign against the real bytecode: many actors, several vaults, every door, in step with the model.

    make fuzz STEPS=1000000          from a random seed, which it prints
    make fuzz SEED=7 STEPS=50000     again

Episode after episode (one chain with two vaults each) it draws steps: a flow, a trade, a change of the rules, a broken
token, a stale feed, time. After each, the model (`model.py`) must agree on answer, revert string, logs and state, and
the invariants (`invariants.py`) must hold on what the chain says. A step draws from a generator of its own, so that an
episode can be run again without some of its steps: that is how a failure is shrunk.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tests.stateful.chain import Judges, plain
from tests.stateful.episode import Episode
from tests.support.evm import CONTRACTS

EPISODE = 250  # steps; a chain grows slower with every transaction


@dataclass
class Failure:
    seed: int
    step: int
    error: AssertionError
    trail: list[tuple[str, bytes]]

    @property
    def kind(self) -> str:
        return str(getattr(self.error, "invariant", "model"))


def run_episode(
    seed: int, steps: int = EPISODE, coverage: Counter[str] | None = None, left_out: Collection[int] = ()
) -> Failure | None:
    """One episode, or its first `steps`; None when all is well."""
    episode = Episode(seed, coverage)
    for number in range(-1, steps):
        if number in left_out:
            continue
        try:
            if number < 0:
                episode.begin()
            else:
                episode.step(number)
        except AssertionError as error:
            return Failure(seed, number, error, episode.trail)
        except Exception:
            if Judges.model:
                raise
            return None  # a model that has lost its way ends the episode
    return None


def shrink(failure: Failure, seconds: float) -> tuple[Failure, set[int]]:
    """The failure with as many steps left out as can be found in the time."""
    left_out: set[int] = set()
    best, end = failure, time.monotonic() + seconds
    size = max(failure.step // 2, 1)
    while size and time.monotonic() < end:
        for first in range(-1, best.step, size):
            chunk = set(range(first, min(first + size, best.step))) - left_out
            if not chunk or time.monotonic() > end:
                continue
            found = run_episode(failure.seed, best.step + 1, None, left_out | chunk)
            if found and found.kind == failure.kind:
                best, left_out = found, left_out | chunk
        size //= 2
    return best, left_out


def report(failure: Failure, seconds: float = 60) -> str:
    """What failed, the fewest steps that were found to lead there, and how to see it again."""
    best, left_out = shrink(failure, seconds)
    lines = [
        f"episode {failure.seed}, step {failure.step}: {failure.error}",
        f"shrunk to {best.step + 1 - len([n for n in left_out if n <= best.step])} steps: {best.error}",
        *(f"  {what}{': ' if data else ''}{plain(data)[:300]}" for what, data in best.trail[-40:]),
        f"again: make fuzz SEED={failure.seed} STEPS={EPISODE}",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the vault against its model and invariants.")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="of the first episode")
    parser.add_argument("--shrink", type=float, default=60, help="seconds to look for fewer steps")
    parser.add_argument("--without-model", action="store_true", help="let the invariants alone judge")
    arguments = parser.parse_args()
    Judges.model = not arguments.without_model
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    first = random.randrange(10**9) if arguments.seed is None else arguments.seed
    print(f"SEED={first}, contracts from {CONTRACTS.name}/", flush=True)
    coverage: Counter[str] = Counter()
    begun, done = time.monotonic(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("steps", total=arguments.steps)
        while done < arguments.steps:
            steps = min(EPISODE, arguments.steps - done)
            failure = run_episode(first + done // EPISODE, steps, coverage)
            if failure:
                progress.stop()
                print(f"failed after {done + failure.step} steps; shrinking", flush=True)
                print(report(failure, arguments.shrink))
                return 1
            done += steps
            progress.advance(bar, steps)
            if progress.disable and done % 50_000 == 0:
                print(f"{done} steps", flush=True)
    rate = done / (time.monotonic() - begun)
    print(f"{done} steps, {rate:.0f} a second: model and invariants hold")
    for what, times in sorted(coverage.items()):
        print(f"  {times:>8} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
