"""Sweeps on a real Dask cluster: a scheduler and workers started by command, some of them killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from distributed.comm.core import CommClosedError

import offchain
from offchain.backtest import BacktestError, Costs, Market, Policy, cluster, sweep
from offchain.backtest.engine import Job
from offchain.backtest.sweep import Batch, read_returns

COSTS = Costs(proportional_bps=10, per_leg=1)
OUTPUT: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

WITHOUT_OFFCHAIN = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "offchain":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
"""


@cache
def market() -> Market:
    """Long enough for a batch to take a while."""
    moves = np.random.default_rng(5).standard_normal((25_000, 8)) / 50
    dates = np.datetime64("2020-01-01", "s") + np.arange(len(moves)) * np.timedelta64(3_600, "s")
    return Market(dates, np.exp(np.cumsum(moves, axis=0) * 0.3))


def policies(count: int) -> list[Policy]:
    return [Policy(np.full(8, 1 / 8), bands=tau, name=f"{tau:g}") for tau in np.linspace(0.01, 0.1, count)]


class Cluster:
    """Processes of this test alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", str(self.file))
        until(self.file.exists)
        self.address: str = json.loads(self.file.read_text())["address"]
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, kind: str, *more: str, path: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *more]
        if kind == "scheduler":
            command += ["--dashboard-address", ":0", "--host", "127.0.0.1"]
        root = str(Path(offchain.__file__).parents[1])
        env = os.environ | {"PYTHONPATH": f"{path}:{root}"}
        return subprocess.Popen(command, env=env, cwd=self.folder, **OUTPUT)

    def add(self, name: str, path: str = "") -> None:
        """A worker, one process that nobody starts again."""
        more = ("--no-nanny", "--nthreads", "1", "--name", name, "--host", "127.0.0.1")
        self.workers[name] = self.start("worker", self.address, *more, path=path)

    def remove(self, name: str) -> None:
        """Dead without a word."""
        process = self.workers.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def wait_for(self, client: Client, count: int) -> None:
        until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == count)

    def stop(self) -> None:
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One scheduler for all tests but that in which it dies; each test has its own workers."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.stop()


@contextmanager
def workers(dask: Cluster, *names: str) -> Iterator[Client]:
    """A client that watches, once these workers are there; they are gone at the end."""
    with Client(dask.address, set_as_default=False) as client:
        try:
            for name in names:
                dask.add(name)
            dask.wait_for(client, len(names))
            yield client
        finally:
            for name in list(dask.workers):
                dask.remove(name)
            dask.wait_for(client, 0)


def test_a_worker_killed_on_the_way_leaves_nothing_missing_and_nothing_double(
    tmp_path: Path, dask: Cluster
) -> None:
    finished: list[int] = []
    with workers(dask, "a", "b", "c") as watcher:

        def progress(count: int) -> None:
            finished.append(count)
            if len(finished) >= 3 and len(dask.workers) == 3:
                names = {a: w["name"] for a, w in watcher.scheduler_info(n_workers=-1)["workers"].items()}
                busy = [names[address] for address, work in watcher.processing().items() if work]
                if busy or len(finished) == 9:  # with work that is lost; all have none only on a slow machine
                    dask.remove((busy or ["b"])[0])

        made = sweep(
            market(),
            iter(policies(240)),
            COSTS,
            out=tmp_path / "cluster.parquet",
            returns="weekly",
            cluster=dask.address,
            progress=progress,
        )
        dask.wait_for(watcher, 2)
    assert sum(finished) == 240 and len(finished) == 15
    alone = sweep(market(), policies(240), COSTS, out=tmp_path / "alone.parquet", returns="weekly")
    assert made.equals(alone)
    for name in ("cluster.parquet", "cluster.returns.parquet"):  # the same file, to the byte
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("cluster", "alone")).read_bytes()
    assert read_returns(tmp_path / "cluster.parquet").shape[1] == 240


def test_a_market_lost_with_its_only_worker_is_sent_again(dask: Cluster) -> None:
    finished: list[int] = []
    with workers(dask, "first"):

        def progress(count: int) -> None:
            finished.append(count)
            if len(finished) == 3:
                dask.remove("first")
                dask.add("second")

        made = sweep(market(), policies(96), COSTS, cluster=dask.address, progress=progress)
    assert finished == [16] * 6
    assert made.equals(sweep(market(), policies(96), COSTS))


def test_a_scheduler_that_dies_is_told_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    out, finished = tmp_path / "x.parquet", []
    dask = Cluster(tmp_path)
    dask.add("a")
    try:

        def progress(count: int) -> None:
            finished.append(count)
            if len(finished) == 3:
                dask.scheduler.kill()

        with pytest.raises(BacktestError, match=f"connection to {dask.address} was lost: .* started again"):
            sweep(market(), policies(240), COSTS, out=out, cluster=dask.address, progress=progress)
    finally:
        dask.stop()
    kept = sorted((tmp_path / "x.parquet.parts").glob("0*.parquet"))
    assert len(kept) == len(finished) < 15
    before = [path.stat().st_mtime_ns for path in kept]
    told: list[int] = []

    def seen(count: int) -> None:
        if not told:  # what was kept is not done again
            assert [path.stat().st_mtime_ns for path in kept] == before
        told.append(count)

    made = sweep(market(), policies(240), COSTS, out=out, progress=seen)
    assert sum(told) == 240 and made.equals(sweep(market(), policies(240), COSTS))


def test_a_scheduler_that_dies_while_a_result_is_fetched_is_told_the_same() -> None:
    class Lost:  # the client does not know yet, and says so only to the next who asks
        status = "running"

        def nthreads(self) -> dict[str, int]:
            raise CommClosedError("in <TCP (closed)>")

        def result(self, timeout: float) -> None:
            raise CommClosedError("in <TCP (closed)>: Connection reset by peer")

    going = cluster._Run(Lost(), "tcp://127.0.0.1:1", Job.of(market(), COSTS), None)
    with pytest.raises(
        BacktestError, match=r"^cluster: the connection to tcp://127.0.0.1:1 was lost: .* started"
    ):
        going._result(Lost(), Batch(0, policies(2)))


def test_workers_that_would_give_other_numbers_are_refused(tmp_path: Path, dask: Cluster) -> None:
    other = tmp_path / "numpy" / "numpy-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "sitecustomize.py").write_text(WITHOUT_OFFCHAIN)
    changed = tmp_path / "changed" / "offchain"
    shutil.copytree(Path(offchain.__file__).parent, changed, ignore=shutil.ignore_patterns("__pycache__"))
    engine = changed / "backtest" / "engine.py"
    engine.write_text(engine.read_text() + "\n# changed\n")
    refused = {
        "numpy": rf"^cluster: worker tcp://\S+: numpy is 0.0.1, here {np.__version__}: install the same",
        "lacking": r"^cluster: worker tcp://\S+: .*No module named 'offchain'.*: install the same",
        "changed": r"^cluster: worker tcp://\S+ has another version of offchain.backtest: install the same",
    }
    with workers(dask) as client:
        for name, message in refused.items():
            dask.add(name, path=str(tmp_path / name))
            dask.wait_for(client, 1)
            with pytest.raises(BacktestError, match=message):
                sweep(market(), policies(2), COSTS, cluster=dask.address)
            dask.remove(name)
            dask.wait_for(client, 0)


def test_no_scheduler_no_workers_and_a_bad_policy_are_told_in_one_line(
    dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(BacktestError, match=rf"^cluster: no Dask scheduler .* answers at {address}: .*$"):
            sweep(market(), policies(2), COSTS, cluster=address)
    with pytest.raises(BacktestError, match=r"^cluster: no Dask scheduler .* answers at nonsense://1"):
        sweep(market(), policies(2), COSTS, cluster="nonsense://1")
    with workers(dask) as client:
        with pytest.raises(
            BacktestError, match=f"{dask.address} has no workers: .*dask worker {dask.address}"
        ):
            sweep(market(), policies(2), COSTS, cluster=dask.address)
        dask.add("a")
        dask.wait_for(client, 1)
        bad = [*policies(20), Policy(np.full(8, 0.1), name="too little")]
        with pytest.raises(BacktestError, match=r"^policy too little: targets: the weights sum to 0\.8"):
            sweep(market(), bad, COSTS, cluster=dask.address)

        def leave(_: int) -> None:
            if dask.workers:
                dask.remove("a")

        with pytest.raises(BacktestError, match=f"^cluster: {dask.address} has no workers left: with `out`"):
            sweep(market(), policies(200), COSTS, cluster=dask.address, progress=leave)
