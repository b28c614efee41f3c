"""Live = backtest: the decisions in a keeper's journal, made again by what decides in a backtest, bit for bit.

A record (`keeper.decide`) holds all that a decision depended on: the vault's state, the pools, what gas cost, the
planner's settings. `replay_record` reads it back, decides by `choose` as both engines do, and gives what it comes to;
`replay_journal` compares that with what the keeper did. Pure but for reading the journal.

The planner works in floats before it works in integers: the same bits are promised on the same kind of machine.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

from eth_utils.crypto import keccak

from offchain.backtest.chain.replay import choose
from offchain.backtest.errors import BacktestError
from offchain.chain.vault import BlockRef, Snapshot
from offchain.errors import EvenkeelError
from offchain.keeper.decide import PLANNER_VERSION, Decision, Planner
from offchain.keeper.market import GasPrice
from offchain.planner import Problem
from offchain.planner import plan as joint_plan
from offchain.policy import VaultState

__all__ = ["Replayed", "read_record", "replay_journal", "replay_record"]

SHOWN = 60  # characters of a value that differs
MOST = 10_000  # runs of the journal


class Run(Protocol):
    """What is read of a journal's run."""

    id: Any
    block: Any
    decision: Any  # 0x hash
    record: Any  # canonical JSON; None where the keeper wrote none: it had nothing to do


class Journal(Protocol):
    """A `keeper.journal.Journal`."""

    def runs(self, vault: str | None = None, limit: int = 100) -> Any:
        """The latest runs, newest first."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision of the journal, made again."""

    run: int
    block: int
    recorded: str  # 0x hash, as the journal has it and the chain got it
    replayed: str  # 0x hash of what it comes to now; "" where it cannot be made again
    mismatch: str  # "" where all is the same to the bit; else the first thing that differs, by name

    @property
    def same(self) -> bool:
        """The backtester decides what the keeper decided."""
        return not self.mismatch


def replay_journal(
    journal: Journal, vault: str | None = None, planner: Planner = joint_plan
) -> list[Replayed]:
    """Every decision with a record, oldest first. `vault`: of this one only. `planner`: the keeper's."""
    runs = [run for run in journal.runs(vault, limit=MOST) if run.record is not None]
    return [_replayed(run, planner) for run in reversed(runs)]


def replay_record(record: str, planner: Planner = joint_plan) -> Decision:
    """The decision again, from what the record says was seen; BacktestError names what cannot be read."""
    snapshot, problem, gas = read_record(record)
    return choose(snapshot, problem, planner, gas)


def read_record(record: str) -> tuple[Snapshot, Problem, GasPrice | None]:
    """What the keeper saw: the vault, the planner's problem, what gas cost. A record of waiting has no pools."""
    try:
        seen = json.loads(record)
        state = _read(VaultState, seen["state"], "state")
        now = int(seen["now"])
        block = BlockRef(int(seen["block"]["number"]), seen["block"]["hash"], state.time)
        snapshot = Snapshot(int(seen["chain_id"]), block, seen["vault"], state, seen["head"])
        inputs = seen.get("inputs")
        if inputs is None:
            return snapshot, Problem(state, (), "", "", now), None
        hints = _hints(Problem)
        given = {name: _read(hints[name], value, f"inputs.{name}") for name, value in inputs.items()}
        gas = _read(GasPrice | None, seen["gas"], "gas")
    except (KeyError, TypeError, ValueError) as error:
        raise BacktestError(f"record: cannot be read: {type(error).__name__}: {error}") from None
    return snapshot, Problem(state=state, **given), gas


# ---------------------------------------------------------------- comparing


def _replayed(run: Run, planner: Planner) -> Replayed:
    again = ""
    try:
        if (hashed := "0x" + keccak(text=run.record).hex()) != run.decision:
            mismatch = f"record: hashes to {hashed}, the decision is {run.decision}: it was changed"
        else:
            found = replay_record(run.record, planner)
            again = "0x" + found.commitment.hex()
            mismatch = _first_difference(json.loads(run.record), json.loads(found.record))
    except (EvenkeelError, ValueError) as error:
        mismatch = str(error)
    return Replayed(run.id, run.block, run.decision or "", again, mismatch)


def _first_difference(recorded: Any, replayed: Any) -> str:
    if recorded.get("planner") != replayed["planner"]:
        return f"planner: {recorded.get('planner')} decided, this is {PLANNER_VERSION}"
    if isinstance(recorded.get("plan"), dict) and "quotes" in recorded["plan"]:
        return "plan.quotes: outside venues were asked; what they answered cannot be asked again"
    for path, old, new in _differences(recorded, replayed, ""):
        return f"{path}: {old} in the journal, {new} in the backtest"
    return ""


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{path}[{i}]")
    elif old != new:
        yield path, str(old)[:SHOWN], str(new)[:SHOWN]


# ---------------------------------------------------------------- reading


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, path: str) -> Any:
    """The opposite of `keeper.decide.canonical_json` for a value of the type `kind`; BacktestError names the path."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read(_member(kind, value), value, path)
    if kind is type(None) and value is None:
        return None
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = _hints(kind)
        given = {field.name: value[field.name] for field in fields(kind)}
        return kind(**{name: _read(hints[name], item, f"{path}.{name}") for name, item in given.items()})
    if origin is tuple and isinstance(value, list):
        types_ = get_args(kind)
        kinds = [types_[0]] * len(value) if types_[-1] is Ellipsis else list(types_)
        rows = zip(kinds, value, strict=True)
        return tuple(_read(one, item, f"{path}[{i}]") for i, (one, item) in enumerate(rows))
    if kind is int and isinstance(value, str):
        return int(value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise BacktestError(f"record: {path}: {str(value)[:SHOWN]} is not what a keeper writes there")


def _member(kind: Any, value: Any) -> Any:
    """The member of a union that the value is of: by its kind, None for none."""
    members = get_args(kind)
    if value is None:
        return type(None)
    if isinstance(value, dict):
        return next(m for m in members if getattr(m, "__name__", "") == value.get("kind"))
    return next(m for m in members if m is not type(None))
