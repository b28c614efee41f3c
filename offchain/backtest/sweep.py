"""Many policies on one market: thousands of backtests of which only the statistics (and returns, if asked) are kept.

    policies = grid({"band_points_bps": {"from": 50, "to": 1000, "step": 10}, "mode": ["threshold", "either"]}, base)
    table = sweep(market, policies, costs, out="bands.parquet", returns="weekly", progress=bar.advance)
    returns = read_returns("bands.parquet")  # (D, P) log returns, for the probability of backtest overfitting

The compiled engine runs outside Python's global lock, so threads use all cores; with `cluster` the same batches go to a
Dask cluster (cluster.py). Memory is the market, plus for each worker one row of numbers a date and the tables of the
policy it is at, plus one row a policy of the table that is returned.

**On disk.** With `out` every finished batch becomes a small Parquet file in `<out>.parts`, written beside it and
renamed, so that it is there whole or not at all. When all are done they become `<out>`, in the policies' order, and
`.parts` goes. A sweep that was killed and is started again takes what is there and does the rest; the file at the end
is byte for byte that of a sweep that was never killed. Data, costs, code and each policy are remembered by their
SHA-256; with others the sweep is refused, naming what differs. Part files that cannot be read are done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offchain.backtest.engine import STATISTICS, Job, nothing_kept, play
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Costs, Floats, Ints, Market, Policy, RebalanceTo
from offchain.backtest.triggers import schedule
from offchain.policy import CalendarUnit, Mode

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["grid", "read_returns", "settings", "statistics", "sweep"]

BATCH = 16  # policies a worker takes at once, and of one part file
MOST_POLICIES = 1_000_000  # of a grid, which is a list
Returns = NDArray[np.float32]


def sweep(
    data: Any,
    policies: Iterable[Policy],
    costs: Costs | None = None,
    *,
    cash: float = 1_000_000.0,
    holdings: Any = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    out: str | Path | None = None,
    returns: str | None = None,
    cluster: str | None = None,
) -> pd.DataFrame:
    """A row for each policy, in their order: its plain settings, then `STATISTICS`.

    `data`: a Market, or a DataFrame of prices. `policies` may be a generator; few are held at a time. `workers`:
    threads, all cores by default. `progress` is called with the number of policies finished since the last call.
    `out`: a Parquet file of the same table with each policy's number and fingerprint; resumable (module docstring).
    `returns`: "daily" or "weekly" log returns of each policy, written beside `out` for `read_returns`. `cluster`: the
    address of a Dask scheduler, whose workers do the work instead of threads.
    """
    job = Job.of(data, costs, cash, holdings)
    if returns is not None and out is None:
        raise BacktestError("returns: needs `out`, the Parquet file beside which they are written")
    ends = None if returns is None else period_ends(job.market, returns)
    run = _threads(workers or os.cpu_count() or 1) if cluster is None else _cluster(cluster)
    told = progress or (lambda _: None)
    if out is None:
        rows = _Rows()
        for batch, found, _ in run(job, rows.batches(policies), ends):
            rows.take(batch, found)
            told(len(batch.policies))
        return rows.table()
    with _Store.opened(Path(out), job, costs or Costs(), returns) as store:
        return _sweep_to(store, job, policies, run, ends, told)


def _sweep_to(
    store: _Store,
    job: Job,
    policies: Iterable[Policy],
    run: Run,
    ends: Ints | None,
    told: Callable[[int], None],
) -> pd.DataFrame:
    """`sweep` with its results on disk: only what is not there yet is run."""
    if store.is_finished:
        return store.finished(policies, told)
    rows = _Rows()

    def missing() -> Iterator[Batch]:
        for batch in rows.batches(policies):
            found = store.part(batch)
            if found is None:
                yield batch
            else:
                rows.take(batch, found)
                told(len(batch.policies))

    for batch, found, moves in run(job, missing(), ends):
        store.add(batch, found, moves)
        rows.take(batch, found)
        told(len(batch.policies))
    return store.finish(rows, job.market, ends)


def statistics(job: Job, policies: Sequence[Policy]) -> Floats:
    """(P, len(STATISTICS)) of some policies, one after the other: what a worker does, in this process or another."""
    return play_all(job, policies, None)[0]


def play_all(job: Job, policies: Sequence[Policy], ends: Ints | None) -> tuple[Floats, Returns | None]:
    """`statistics`, and (P, D) log returns between the D + 1 rows `ends`."""
    rows, n = job.market.shape
    index, nothing = np.empty(rows), nothing_kept(n)
    found = np.empty((len(policies), len(STATISTICS)))
    moves = None if ends is None else np.empty((len(policies), len(ends) - 1), dtype=np.float32)
    for i, policy in enumerate(policies):
        try:
            found[i] = play(job, policy, schedule(policy, job.market), index, nothing)
        except BacktestError as error:
            raise BacktestError(f"policy {policy.name or policy}: {error}") from None
        if moves is not None:
            moves[i] = np.diff(np.log(index[ends]))
    return found, moves


def settings(policy: Policy) -> dict[str, Any]:
    """The settings of a policy that are one word or one number, for a table."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    plain = {
        name: value.name if isinstance(value, Enum) else value
        for name, value in values.items()
        if isinstance(value, Enum | str | int | float)
    }
    return plain


def period_ends(market: Market, every: str) -> Ints:
    """The last row of each UTC day or each week (Monday to Sunday)."""
    if every not in ("daily", "weekly"):
        raise BacktestError(f'returns: {every!r} is neither "daily" nor "weekly"')
    days = market.dates.astype("datetime64[D]").astype(np.int64)
    periods = days if every == "daily" else (days + 3) // 7  # 1 January 1970 was a Thursday
    ends = np.flatnonzero(np.append(periods[1:] != periods[:-1], True))
    if len(ends) < 2:
        raise BacktestError(f"returns: the data has no two periods to make {every} returns of")
    return ends


def read_returns(out: str | Path) -> pd.DataFrame:
    """(D, P) log returns of a finished sweep, by the date at which each period ended and the policy's number from 0."""
    import pandas as pd
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    path = returns_path(Path(out))
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise BacktestError(f"out: {path} is not there: run the sweep to its end with `returns`") from None
    dates = pd.DatetimeIndex(json.loads(table.schema.metadata[b"dates"]))
    values = table["returns"].combine_chunks().flatten().to_numpy().reshape(len(table), len(dates))
    return pd.DataFrame(values.T.astype(np.float64), dates, table["number"].to_numpy())


def returns_path(out: Path) -> Path:
    """Where the returns of a sweep are."""
    return out.with_name(f"{out.stem}.returns.parquet")


# ---------------------------------------------------------------- batches and who runs them


@dataclass(frozen=True, eq=False)
class Batch:
    """Policies number `start` and following."""

    start: int
    policies: list[Policy]


Done = tuple[Batch, Floats, Returns | None]
Run = Callable[[Job, Iterator[Batch], Ints | None], Iterator[Done]]  # in any order


class _Rows:
    """The table as it grows."""

    def __init__(self) -> None:
        self.settings: list[dict[str, Any]] = []
        self.found: dict[int, Floats] = {}

    def batches(self, policies: Iterable[Policy]) -> Iterator[Batch]:
        """All policies, as they are asked for."""
        rest = iter(policies)
        while some := list(islice(rest, BATCH)):
            batch = Batch(len(self.settings), some)
            self.settings += [settings(policy) for policy in some]
            yield batch

    def take(self, batch: Batch, found: Floats) -> None:
        self.found[batch.start] = found

    def table(self) -> pd.DataFrame:
        """In the policies' order, whatever order they were finished in."""
        import pandas as pd

        lines = (line for start in sorted(self.found) for line in self.found[start].tolist())
        pairs = zip(self.settings, lines, strict=True)
        return pd.DataFrame([row | dict(zip(STATISTICS, line, strict=True)) for row, line in pairs])


def _threads(workers: int) -> Run:
    def run(job: Job, batches: Iterator[Batch], ends: Ints | None) -> Iterator[Done]:
        waiting: deque[tuple[Batch, Future[tuple[Floats, Returns | None]]]] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(play_all, job, batch.policies, ends)))
                if len(waiting) > 2 * workers:
                    done, future = waiting.popleft()
                    yield done, *future.result()
            for done, future in waiting:
                yield done, *future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _cluster(address: str) -> Run:
    from offchain.backtest.cluster import run_on

    def run(job: Job, batches: Iterator[Batch], ends: Ints | None) -> Iterator[Done]:
        return run_on(address, job, batches, ends)

    return run


# ---------------------------------------------------------------- results on disk


class _Store:
    """Parts of a sweep and the file that they become."""

    def __init__(self, out: Path, terms: dict[str, Any]) -> None:
        self.out, self.terms = out, terms
        self.parts = out.with_name(out.name + ".parts")
        self.begun = (
            self.parts / "_sweep.json"
        )  # readers of a folder of Parquet files leave out what begins with _
        self.prints = _Prints()
        self.batches: dict[int, list[str]] = {}  # fingerprints by number of the first

    @classmethod
    @contextmanager
    def opened(cls, out: Path, job: Job, costs: Costs, returns: str | None) -> Iterator[_Store]:
        """For one sweep at a time; BacktestError if what is there was begun with other data."""
        if out.suffix != ".parquet" or not out.parent.is_dir():
            raise BacktestError(f"out: {out} is not a file name ending in .parquet in a folder that is there")
        store = cls(out, _terms(job, costs, returns))
        if out.exists():
            store.refuse_others(_terms_of(out))
        if store.is_finished:
            shutil.rmtree(store.parts, ignore_errors=True)  # killed between the file's birth and this
            yield store
            return
        with store.disk():
            store.parts.mkdir(exist_ok=True)
            lock = (store.parts / "_lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
            except BlockingIOError:
                raise BacktestError(f"out: another sweep is writing {out}") from None
            if store.begun.exists():
                store.refuse_others(json.loads(store.begun.read_text()))
            else:
                store.write(store.begun, json.dumps(store.terms).encode())
            yield store

    @property
    def is_finished(self) -> bool:
        returns = self.terms["returns"] is None or returns_path(self.out).exists()
        return returns and self.out.exists()

    def refuse_others(self, before: dict[str, Any]) -> None:
        """BacktestError that names the terms in which the sweep that was begun differs from this one."""
        different = [name for name in self.terms if before.get(name) != self.terms[name]]
        if different:
            words = ", ".join(_difference(name, before.get(name), self.terms[name]) for name in different)
            raise BacktestError(
                f"out: {self.out} was begun with other terms: {words}: name another file, or delete "
                f"{self.out if self.is_finished else self.parts}"
            )

    def part(self, batch: Batch) -> Floats | None:
        """What was found of a batch; None if it has to be done. BacktestError if it was of other policies."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.batches[batch.start] = [self.prints.of(policy) for policy in batch.policies]
        try:
            table = pq.read_table(self._path(batch.start))
            found = np.column_stack([table[name].to_numpy() for name in STATISTICS])
            prints, names = table["fingerprint"].to_pylist(), table["name"].to_pylist()
        except (OSError, KeyError, pa.ArrowInvalid):  # not there, or cut off by a power failure
            return None
        self._compare(batch, self.batches[batch.start], prints, names)
        return found

    def _compare(self, batch: Batch, wanted: list[str], prints: list[str], names: list[str]) -> None:
        for i in range(max(len(prints), len(wanted))):
            if prints[i : i + 1] != wanted[i : i + 1]:
                before = f"{names[i]!r}" if i < len(names) else "none"
                now = f"{batch.policies[i].name!r}" if i < len(wanted) else "none"
                raise BacktestError(
                    f"out: {self.out} was begun with other policies: number {batch.start + i} was {before}, "
                    f"now {now}: name another file, or delete {self.out if self.is_finished else self.parts}"
                )

    def add(self, batch: Batch, found: Floats, moves: Returns | None) -> None:
        """Keep a batch."""
        import pyarrow as pa

        columns: dict[str, Any] = {
            "number": np.arange(batch.start, batch.start + len(batch.policies)),
            "fingerprint": self.batches[batch.start],
            "name": [policy.name for policy in batch.policies],
        }
        columns |= dict(zip(STATISTICS, found.T, strict=True))
        if moves is not None:
            columns["returns"] = _lists(moves)
        self.write(self._path(batch.start), _parquet(pa.table(columns)))

    def finish(self, rows: _Rows, market: Market, ends: Ints | None) -> pd.DataFrame:
        """All parts as one file."""
        import pyarrow as pa

        more = sorted({int(path.stem) for path in self.parts.glob("[0-9]*.parquet")} - set(self.batches))
        if more:
            raise BacktestError(
                f"out: {self.out} was begun with more policies, at least {more[-1] + 1:,}, now "
                f"{len(rows.settings):,}: name another file, or delete {self.parts}"
            )
        table = rows.table()
        table.insert(0, "fingerprint", [x for prints in self.batches.values() for x in prints])
        table.insert(0, "number", np.arange(len(table)))
        if ends is not None:
            self._write_returns(market, ends)
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        metadata = {**(arrow.schema.metadata or {}), b"evenkeel.sweep": json.dumps(self.terms).encode()}
        self.write(self.out, _parquet(arrow.replace_schema_metadata(metadata)), sure=True)
        shutil.rmtree(self.parts, ignore_errors=True)
        return table.drop(columns=["number", "fingerprint"])

    def finished(self, policies: Iterable[Policy], told: Callable[[int], None]) -> pd.DataFrame:
        """The file that is there, if it is of these policies."""
        import pandas as pd

        table = pd.read_parquet(self.out)
        prints, names = table["fingerprint"].tolist(), table["name"].tolist()
        rows, end = _Rows(), 0
        for batch in rows.batches(policies):
            end = batch.start + BATCH
            wanted = [self.prints.of(policy) for policy in batch.policies]
            self._compare(batch, wanted, prints[batch.start : end], names[batch.start : end])
            told(len(batch.policies))
        self._compare(Batch(end, []), [], prints[end:], names[end:])
        return table.drop(columns=["number", "fingerprint"])

    def write(self, path: Path, content: bytes, sure: bool = False) -> None:
        """A whole file or none; `sure`: on the disk itself before what it replaces goes."""
        with self.disk():
            beside = path.with_name(f"_{path.name}.tmp")
            with beside.open("wb") as file:
                file.write(content)
                if sure:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """A disk that is full or not ours, in one line."""
        try:
            yield
        except OSError as error:
            raise BacktestError(
                f"out: {self.out} cannot be written: {error.strerror or error}; what is finished is kept in "
                f"{self.parts}, and the same sweep started again goes on from there"
            ) from None

    def _path(self, start: int) -> Path:
        return self.parts / f"{start:09d}.parquet"

    def _write_returns(self, market: Market, ends: Ints) -> None:
        """One row a policy, part by part, so that memory holds one part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = returns_path(self.out)
        beside = path.with_name(f"_{path.name}.tmp")
        dates = json.dumps(np.datetime_as_string(market.dates[ends[1:]]).tolist()).encode()
        row = pa.list_(pa.float32(), len(ends) - 1)
        schema = pa.schema({"number": pa.int64(), "returns": row}, metadata={b"dates": dates})
        with self.disk():
            with pq.ParquetWriter(beside, schema, use_dictionary=False) as writer:
                for start in self.batches:
                    part = pq.read_table(self._path(start), columns=["number", "returns"])
                    writer.write_table(part.cast(schema))
            beside.replace(path)


def _lists(moves: Returns) -> pa.Array:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(moves.ravel()), moves.shape[1])


def _parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


# ---------------------------------------------------------------- fingerprints


def _terms(job: Job, costs: Costs, returns: str | None) -> dict[str, Any]:
    """All that the results depend on but the policies: numbers as they are, arrays by their SHA-256."""
    market = job.market
    parts = ("prices", "dividends", "flows_in_kind", "flows_by_route")
    return {
        **{name: _term(getattr(market, name)) for name in parts},
        "dates": _term(market.times),
        "names": list(market.names),
        **{f"costs.{field.name}": _term(getattr(costs, field.name)) for field in fields(costs)},
        "cash": float(job.cash),
        "holdings": _term(job.holdings),
        "returns": returns,
        "code": code_print(),
    }


def _terms_of(out: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        terms: dict[str, Any] = json.loads(pq.read_schema(out).metadata[b"evenkeel.sweep"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        raise BacktestError(f"out: {out} is there and not a sweep's: name another file") from None
    return terms


def _term(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    array = np.ascontiguousarray(value)
    return hashlib.sha256(f"{array.shape} {array.dtype}".encode() + array.tobytes()).hexdigest()


def _difference(name: str, before: Any, now: Any) -> str:
    if name == "code":
        return "another version of the engine"
    plain = all(
        value is None or isinstance(value, int | float) or name == "returns" for value in (before, now)
    )
    return f"{name} ({before}, now {now})" if plain else name


class _Prints:
    """Fingerprints of policies; arrays that several of them share are read once."""

    def __init__(self) -> None:
        self.arrays: OrderedDict[int, tuple[Any, str]] = OrderedDict()

    def of(self, policy: Policy) -> str:
        words = [f"{field.name}={self._word(getattr(policy, field.name))}" for field in fields(policy)]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()

    def _word(self, value: Any) -> str:
        if value is None or isinstance(value, Enum | str | int | float):
            return repr(value)
        if id(value) not in self.arrays:
            if len(self.arrays) == 8:
                self.arrays.popitem(last=False)
            self.arrays[id(value)] = value, str(_term(value))
        return self.arrays[id(value)][1]


@cache
def code_print() -> str:
    """SHA-256 of what computes the numbers: our source and the versions of the compiler's packages."""
    import llvmlite  # type: ignore[import-untyped]
    import numba

    from offchain import policy as vault
    from offchain.backtest import engine, model, triggers

    versions = f"{np.__version__} {numba.__version__} {llvmlite.__version__}"
    sources = [Path(str(module.__file__)) for module in (engine, model, triggers)]
    sources += sorted(Path(str(vault.__file__)).parent.glob("*.py"))
    return hashlib.sha256(versions.encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()


# ---------------------------------------------------------------- grids

INTEGERS = (
    "calendar_every",
    "calendar_anchor",
    "cooldown_seconds",
    "tolerance_bps",
    "fee_bps",
    "speed_capacity_bps",
    "speed_refill_bps_per_day",
    "band_points_bps",
    "band_relative_bps",
)
NUMBERS = ("gain_over_cost", "aversion", "bands", "stops", "min_targets", "max_targets", "targets")
PER_ASSET = (
    "band_points_bps",
    "band_relative_bps",
    "bands",
    "stops",
    "min_targets",
    "max_targets",
    "targets",
)
WORDS: dict[str, type[Enum]] = {
    "mode": Mode,
    "calendar_unit": CalendarUnit,
    "rebalance_to": RebalanceTo,
}
OVERRULED = {  # the second setting is not read where the first is set
    "bands": ("band_points_bps", "band_relative_bps"),
    "stops": ("rebalance_to", "tolerance_bps"),
    "calendar_rows": ("calendar_unit", "calendar_every", "calendar_anchor"),
}


def grid(
    settings: Mapping[str, Any],
    base: Policy,
    targets: Callable[[dict[str, Any]], Any] | None = None,
) -> list[Policy]:
    """`base` with every combination of the values given; its length is the number of trials.

    `settings`: a field of Policy -> a list of values, or {"from", "to", "count"} or {"from", "to", "step"}, both ends
    included. The key "strategy" holds a strategy's settings the same way, or is a list of whole strategies (tables);
    `targets(strategy)` makes the (T, n) targets of one, once for all policies that share them. A policy's name says
    what was varied. BacktestError names the key.
    """
    rest = dict(settings)
    strategies = _strategies(rest.pop("strategy", None), base, rest, targets)
    values = {key: _values(key, given, base) for key, given in rest.items()}
    _check_effects(list(values), base)
    count = len(strategies)
    for choices in values.values():
        count *= len(choices)
    if count == 1 and not values and not strategies[0]:
        raise BacktestError("sweep: no setting is varied: give a list of values, or from, to and count")
    if count > MOST_POLICIES:
        raise BacktestError(f"sweep: {count:,} policies; at most {MOST_POLICIES:,}: give fewer values")
    made = []
    for strategy in strategies:
        start = replace(base, targets=targets(strategy)) if strategy and targets is not None else base
        words = [f"strategy.{key}={_word(value)}" for key, value in strategy.items()]
        for chosen in product(*values.values()):
            terms = dict(zip(values, chosen, strict=True))
            name = ", ".join(words + [f"{key}={_word(value)}" for key, value in terms.items()])
            made.append(replace(start, **terms, name=name))
    return made


def _strategies(
    given: Any, base: Policy, rest: Mapping[str, Any], targets: Callable[[dict[str, Any]], Any] | None
) -> list[dict[str, Any]]:
    """Each combination of a strategy's settings; one empty one if there are none."""
    if given is None:
        return [{}]
    if targets is None or "targets" in rest:
        raise BacktestError("sweep.strategy: there is no strategy here, or targets are varied as well")
    if isinstance(given, list):
        if not given or not all(isinstance(item, dict) and item for item in given):
            raise BacktestError("sweep.strategy: needs a list of tables, or a table of lists")
        found = given
    elif isinstance(given, dict) and given:
        choices = {key: _choices(f"strategy.{key}", values) for key, values in given.items()}
        found = [dict(zip(choices, chosen, strict=True)) for chosen in product(*choices.values())]
    else:
        raise BacktestError("sweep.strategy: needs a list of tables, or a table of lists")
    for i, item in enumerate(found):
        if item in found[:i]:
            raise BacktestError(f"sweep.strategy: {item} is there twice; each trial counts")
    return found


def _values(key: str, given: Any, base: Policy) -> list[Any]:
    """The values of one setting, checked one by one."""
    if key not in (*INTEGERS, *NUMBERS, *WORDS, "first_row_only"):
        known = ", ".join(sorted((*INTEGERS, *NUMBERS, *WORDS, "first_row_only", "strategy")))
        raise BacktestError(f"sweep.{key}: cannot be varied; can be: {known}")
    found: list[Any] = []
    for raw in _choices(key, given):
        value = _value(key, raw)
        if value in found:
            raise BacktestError(f"sweep.{key}: {_word(value)} is there twice; each trial counts")
        replace(base, **{key: value})  # what a policy refuses, it refuses here
        found.append(value)
    return found


def _choices(key: str, given: Any) -> list[Any]:
    """A list as it is, a range as its values: those that one would write, not sums of rounded steps."""
    if isinstance(given, list) and given:
        return given
    if not isinstance(given, dict):
        raise BacktestError(f"sweep.{key}: needs a list of values, or from, to and count or step")
    if set(given) not in ({"from", "to", "count"}, {"from", "to", "step"}):
        raise BacktestError(
            f"sweep.{key}: a range has from, to and either count or step, not {', '.join(given)}"
        )
    for name, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not np.isfinite(number):
            raise BacktestError(f"sweep.{key}.{name}: {number!r} is not a number")
    low, high = (Fraction(Decimal(str(given[name]))) for name in ("from", "to"))
    if not low < high:
        raise BacktestError(f"sweep.{key}: from {given['from']} is not below to {given['to']}")
    if "count" in given:
        count = given["count"]
        if not isinstance(count, int) or count < 2:
            raise BacktestError(f"sweep.{key}.count: {count} is not a whole number of at least 2")
        step = (high - low) / (count - 1)
    else:
        step = Fraction(Decimal(str(given["step"])))
        if step <= 0:
            raise BacktestError(f"sweep.{key}.step: {given['step']} is not above 0")
        count = int((high - low) / step) + 1
    if count > MOST_POLICIES:
        raise BacktestError(f"sweep.{key}: {count:,} values; at most {MOST_POLICIES:,}")
    numbers = (low + i * step for i in range(count))
    whole = all(isinstance(given[name], int) for name in ("from", "to"))
    return [int(x) if whole and x.denominator == 1 else float(x) for x in numbers]


def _value(key: str, raw: Any) -> Any:
    if key in WORDS:
        names = {choice.name: choice for choice in WORDS[key]}
        word = str(raw).strip().upper().replace(" ", "_")
        if word not in names:
            known = ", ".join(name.lower().replace("_", " ") for name in names)
            raise BacktestError(f"sweep.{key}: {raw!r} is none of {known}")
        return names[word]
    if key == "first_row_only":
        if not isinstance(raw, bool):
            raise BacktestError(f"sweep.{key}: {raw!r} is neither true nor false")
        return raw
    if isinstance(raw, list) and key in PER_ASSET:
        return [_number(key, x) for x in raw]
    if key == "targets":
        raise BacktestError(f"sweep.{key}: {raw!r} is not a list of weights")
    return _number(key, raw)


def _number(key: str, raw: Any) -> int | float:
    """A whole number where the setting is one."""
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not np.isfinite(raw):
        raise BacktestError(f"sweep.{key}: {raw!r} is not a number")
    if key in INTEGERS and raw != int(raw):
        raise BacktestError(f"sweep.{key}: {raw} is not a whole number, which this setting is")
    return int(raw) if key in INTEGERS else float(raw)


def _check_effects(keys: list[str], base: Policy) -> None:
    """No trials that cannot differ."""
    for over, under in OVERRULED.items():
        for key in keys:
            if key in under and (over in keys or getattr(base, over) is not None):
                raise BacktestError(f"sweep.{key}: is not read where {over} is set: vary one of the two")


def _word(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name.lower()
    return str(value)
