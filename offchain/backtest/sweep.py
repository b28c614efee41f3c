"""Many policies on one market: thousands of backtests of which only the statistics are kept.

The compiled engine runs outside Python's global lock, so threads use all cores. Memory is the market, plus for each
worker one row of numbers a date and the tables of the policy it is at, however many policies there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from offchain.backtest.engine import STATISTICS, Job, nothing_kept, play
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Costs, Floats, Policy
from offchain.backtest.triggers import schedule

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["settings", "statistics", "sweep"]

BATCH = 16  # policies a worker takes at once


def sweep(
    data: Any,
    policies: Iterable[Policy],
    costs: Costs | None = None,
    *,
    cash: float = 1_000_000.0,
    holdings: Any = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """A row for each policy, in their order: its plain settings, then `STATISTICS`.

    `data`: a Market, or a DataFrame of prices. `policies` may be a generator; few are held at a time. `workers`:
    threads, all cores by default. `progress` is called with the number of policies finished since the last call.
    """
    import pandas as pd

    job = Job.of(data, costs, cash, holdings)
    rows = []
    for batch, numbers in _batches(job, iter(policies), workers or os.cpu_count() or 1):
        rows += [
            settings(policy) | dict(zip(STATISTICS, line, strict=True))
            for policy, line in zip(batch, numbers.tolist(), strict=True)
        ]
        if progress is not None:
            progress(len(batch))
    return pd.DataFrame(rows)


def statistics(job: Job, policies: Sequence[Policy]) -> Floats:
    """(P, len(STATISTICS)) of some policies, one after the other: what a worker does, in this process or another."""
    rows, n = job.market.shape
    index, nothing = np.empty(rows), nothing_kept(n)
    found = np.empty((len(policies), len(STATISTICS)))
    for i, policy in enumerate(policies):
        try:
            found[i] = play(job, policy, schedule(policy, job.market), index, nothing)
        except BacktestError as error:
            raise BacktestError(f"policy {policy.name or policy}: {error}") from None
    return found


def settings(policy: Policy) -> dict[str, Any]:
    """The settings of a policy that are one word or one number, for a table."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    plain = {
        name: value.name if isinstance(value, Enum) else value
        for name, value in values.items()
        if isinstance(value, Enum | str | int | float)
    }
    return plain


def _batches(job: Job, policies: Iterator[Policy], workers: int) -> Iterator[tuple[list[Policy], Floats]]:
    waiting: deque[tuple[list[Policy], Future[Floats]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(islice(policies, BATCH)):
            waiting.append((batch, pool.submit(statistics, job, batch)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
