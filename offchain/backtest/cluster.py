"""A sweep on a Dask cluster: the batches of sweep.py, on other processes and machines, with the same numbers.

    dask scheduler                                  # prints its address
    dask worker tcp://10.0.0.1:8786                 # on each machine, with Evenkeel installed
    sweep(market, policies, costs, cluster="tcp://10.0.0.1:8786")

The market goes to the workers once. As many batches are under way as keep the workers busy; a batch whose worker dies
is done by another. Before anything runs, the workers' packages and our source must be those of this machine: numbers
from two versions do not belong in one table.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from queue import Empty, Queue
from typing import Any
from uuid import uuid4

from offchain.backtest.engine import Job
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Floats, Ints
from offchain.backtest.sweep import Batch, Done, Returns, code_print, play_all

__all__ = ["run_on"]

PACKAGES = (
    "python",
    "distributed",
    "numpy",
    "numba",
    "llvmlite",
)  # the same everywhere; first two: scheduler
CONNECT_SECONDS = 10
LOOK_SECONDS = 1
WORKER_SECONDS = 60  # to wait for a worker before giving up
AHEAD = 3  # batches under way for each thread of a worker
TIMES = 5  # that a batch may fall with its workers, or the market be lost with them all
INSTALL = "install the same Evenkeel there: pip install 'evenkeel[backtest]'"


def run_on(address: str, job: Job, batches: Iterator[Batch], ends: Ints | None) -> Iterator[Done]:
    """The batches as they finish, in any order. BacktestError if the cluster cannot be used, or is lost."""
    with _connected(address) as client:
        _check(client, address)
        yield from _Run(client, address, job, ends).all(batches)


# ---------------------------------------------------------------- what a worker does

_jobs: dict[str, Job] = {}  # of this process: the one it is at
_lock = threading.Lock()


def do(key: str, market: bytes, policies: bytes, ends: Ints | None) -> tuple[Floats, Returns | None]:
    """A batch. Pickled by us, since what Dask unpickles is read-only, which the engine would be compiled for anew."""
    with _lock:
        if key not in _jobs:
            _jobs.clear()
            _jobs[key] = pickle.loads(market)
        job = _jobs[key]
    return play_all(job, pickle.loads(policies), ends)


# ---------------------------------------------------------------- the connection


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise BacktestError("cluster: needs the package distributed: pip install '.[backtest]'") from None
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    levels = {log: log.level for log in map(logging.getLogger, names)}
    for log in levels:  # what goes wrong is told once, by us
        log.setLevel(logging.CRITICAL + 1)
    client: Any = None
    make: Any = distributed.Client
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions: `_check` compares those that matter
            client = make(address, timeout=CONNECT_SECONDS, set_as_default=False)
        yield client
    except (OSError, ValueError, ImportError) as error:  # of connecting; a run has its own
        if client is not None:
            raise
        raise BacktestError(
            f"cluster: no Dask scheduler of our version answers at {address}: {_line(error)}"
        ) from None
    finally:
        if client is not None:
            client.close(timeout=2)
        for log, level in levels.items():
            log.setLevel(level)


def _check(client: Any, address: str) -> None:
    """BacktestError if there is no worker, or one with other versions than ours."""
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise BacktestError(
            f"cluster: the scheduler at {address} has no workers: start some with `dask worker {address}`"
        ) from None
    found = client.get_versions(packages=PACKAGES[1:])
    ours = found["client"]["packages"]
    theirs = {"the scheduler": found["scheduler"]} | {
        f"worker {name}": w for name, w in found["workers"].items()
    }
    for name, their in theirs.items():
        for package in PACKAGES if name != "the scheduler" else PACKAGES[:2]:
            version = their["packages"].get(package)
            if version != ours[package]:
                there = "is missing" if version is None else f"is {version}"
                raise BacktestError(f"cluster: {name}: {package} {there}, here {ours[package]}: {INSTALL}")
    for name, code in client.run(code_print, on_error="return").items():
        if isinstance(code, Exception):
            raise BacktestError(f"cluster: worker {name}: {_line(code)}: {INSTALL}")
        if code != code_print():
            raise BacktestError(f"cluster: worker {name} has another version of offchain.backtest: {INSTALL}")


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


# ---------------------------------------------------------------- the run


class _Run:
    """Batches under way on a cluster."""

    def __init__(self, client: Any, address: str, job: Job, ends: Ints | None) -> None:
        self.client, self.address, self.ends = client, address, ends
        self.key, self.content = uuid4().hex, pickle.dumps(job)
        self.market: Any = None  # the content, where the workers are
        self.under_way: dict[Any, Batch] = {}
        self.ended: Queue[Any] = Queue()
        self.lost = 0  # how often in a row the market was lost with the workers that had it
        self.room, self.looked, self.worker_seen = 0, 0.0, time.monotonic()

    def all(self, batches: Iterator[Batch]) -> Iterator[Done]:
        self._look()
        for batch in islice(batches, self.room):
            self._submit(batch)
        while self.under_way:
            try:
                future = self.ended.get(timeout=LOOK_SECONDS)
            except Empty:
                self._look()
                continue
            batch = self.under_way.pop(future)
            found = self._result(future, batch)
            if found is not None:
                yield batch, *found
            if time.monotonic() > self.looked + LOOK_SECONDS:
                self._look()
            for batch in islice(batches, max(0, self.room - len(self.under_way))):
                self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        try:
            if self.market is None or self.market.status == "cancelled":
                self.market = self.client.scatter(self.content, broadcast=True, hash=False)
            policies = pickle.dumps(batch.policies)
            future = self.client.submit(do, self.key, self.market, policies, self.ends, pure=False)
        except OSError as error:
            raise self._gone(lost=not isinstance(error, TimeoutError)) from None
        self.under_way[future] = batch
        future.add_done_callback(self.ended.put)

    def _result(self, future: Any, batch: Batch) -> tuple[Floats, Returns | None] | None:
        """What a batch that ended found; None if it was lost with its workers and is under way again."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        where = f"policies {batch.start} to {batch.start + len(batch.policies) - 1}"
        while True:
            try:
                found: tuple[Floats, Returns | None] = future.result(timeout=LOOK_SECONDS)
                self.lost = 0
                return found
            except (TimeoutError, CommClosedError):
                self._look()  # the worker died with the result, and it is done again; or the scheduler died
            except BacktestError:
                raise
            except CancelledError:
                self.lost += 1
                if self.client.status != "running" or self.lost > TIMES * len(self.under_way) + TIMES:
                    raise self._gone(lost=self.client.status != "running") from None
                self._submit(batch)
                return None
            except KilledWorker:
                raise BacktestError(
                    f"cluster: each worker that was given {where} died: the market is "
                    f"{len(self.content) / 1e6:,.0f} MB; have they the memory?"
                ) from None
            except ImportError as error:
                raise BacktestError(f"cluster: a worker: {_line(error)}: {INSTALL}") from None
            except Exception as error:
                raise BacktestError(f"cluster: {where}: {type(error).__name__}: {_line(error)}") from None

    def _look(self) -> None:
        """How much can be under way; BacktestError if the scheduler is gone, or all workers for too long."""
        try:
            threads = sum(self.client.nthreads().values()) if self.client.status == "running" else None
        except OSError:
            threads = None
        if threads is None:
            raise self._gone(lost=True)
        self.looked = time.monotonic()
        self.room = AHEAD * threads
        if threads:
            self.worker_seen = self.looked
        elif self.looked > self.worker_seen + WORKER_SECONDS:
            raise self._gone(lost=False)

    def _gone(self, *, lost: bool) -> BacktestError:
        what = f"the connection to {self.address} was lost" if lost else f"{self.address} has no workers left"
        return BacktestError(
            f"cluster: {what}: with `out`, what is finished is kept and the "
            "same sweep started again goes on from there"
        )
