"""What a backtest found, before it is written down: the input of `content.content`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from offchain.backtest.model import Costs, Floats, Market

__all__ = ["Played", "Study", "Swept"]


@dataclass(frozen=True, eq=False)
class Played:
    """One policy's way through the market."""

    name: str
    strategy: str  # where its targets come from, in words
    result: Any  # `Result`, or what another engine returns with the same arrays
    measures: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Swept:
    """A measure at other settings of the policy."""

    axes: Mapping[str, Sequence[Any]]  # setting: its values; each with each, the last varies fastest
    chosen: Mapping[str, Any]  # the settings of the backtest itself
    measures: Mapping[str, Floats]  # measure: one number a combination


@dataclass(frozen=True, eq=False)
class Study:
    """The backtest first, then what stands beside it."""

    title: str
    engine: str
    market: Market
    costs: Costs  # of the fast engine
    pools: Any  # of the vault's engines: `chain.scenario.PoolSettings`; None with the fast engine
    cash: float
    played: Sequence[Played]  # the backtest, then the compared ones
    benchmark: int  # which of them the others are measured against
    rows_per_year: float
    risk_free: float  # a year
    source: Mapping[str, Any]  # of the data: description, fingerprint, warnings
    settings: Mapping[str, Any]  # of the file, as read
    evidence: Mapping[str, Any] | None = None
    stress: Sequence[Mapping[str, Any]] = ()
    swept: Swept | None = None
    notes: Sequence[str] = field(default=())  # what was left out, and why
