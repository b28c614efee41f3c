"""Whether to act, and how: a vault and pools in, a decision out. Pure: no clock, disk or network.

A plan is acted on only if the vault's own rules, asked once more here, accept its predicted outcome.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from eth_utils.crypto import keccak

from offchain import __version__, policy
from offchain.aggregators import AggregatedPlan
from offchain.chain.vault import Snapshot
from offchain.errors import EvenkeelError
from offchain.keeper.market import GasPrice
from offchain.planner import Plan, Problem
from offchain.planner import plan as joint_plan

__all__ = ["PLANNER_VERSION", "Decision", "Planner", "canonical_json", "decide"]

PLANNER_VERSION = f"evenkeel {__version__} joint"

PLAN_RECORD = (  # of the plan, what the record keeps: the trade, what it should lead to and cost, why, and the proof
    "sells",
    "payload",
    "legs",
    "balances_after",
    "method",
    "costs",
    "drift_before",
    "drift_after",
    "certificate",
    "explanations",
)
VENUES_RECORD = (
    "quotes",
    "choice",
    "margin_bps",
)  # and where venues were asked: what they said, what was made of it

Planner = Callable[[Problem], Plan]


@dataclass(frozen=True)
class Decision:
    """What to do about the vault as it was at one block."""

    act: bool
    reason: str  # what triggered it, or why nothing is done
    trigger: str  # "none", "calendar", "threshold", "calendar and threshold" or "session open"
    session: int  # the one a rebalance now would belong to
    plan: Plan | None
    record: str  # canonical JSON of what was seen and planned
    commitment: bytes  # keccak256 of the record: `decision` of the vault's rebalance


def decide(
    snapshot: Snapshot, problem: Problem, planner: Planner = joint_plan, gas: GasPrice | None = None
) -> Decision:
    """Plan for `problem`, whose state is the snapshot's, and check the plan against the rules.

    `gas`: where `problem.gas_price` comes from, for the record.
    """
    state, now = problem.state, problem.now
    session, refusal = policy.next_session(state, now)
    if refusal:
        return waiting(snapshot, now)
    decided = partial(_decision, snapshot, problem, gas, session)
    try:
        plan = planner(problem)
    except EvenkeelError as error:
        return decided(None, f"no plan: {error}")
    if not plan.trades:
        return decided(plan, plan.reason)
    verdict = policy.check_rebalance(
        state,
        plan.sells,
        plan.balances_after,
        plan.session,
        now,
        now,
        executor=problem.executor,
    )
    if not verdict.ok:
        return decided(plan, f"the vault would refuse the plan: {verdict.reason}")
    return decided(plan, _why(snapshot, now), act=True)


def waiting(snapshot: Snapshot, now: int) -> Decision:
    """The decision to do nothing because no rebalance can start now; needs no pools."""
    session, refusal = policy.next_session(snapshot.state, now)
    found = policy.trigger(snapshot.state, now) if refusal == "no trigger" else None
    reason = f"{refusal}: {found.reason}" if found else refusal
    record = canonical_json(_seen(snapshot, now) | {"reason": reason})
    return Decision(False, reason, "none", session, None, record, keccak(text=record))


def canonical_json(value: object) -> str:
    """JSON with one spelling: sorted keys, no spaces, integers as decimal strings, bytes as hex, ASCII."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _decision(
    snapshot: Snapshot,
    problem: Problem,
    gas: GasPrice | None,
    session: int,
    plan: Plan | None,
    reason: str,
    *,
    act: bool = False,
) -> Decision:
    inputs = {
        field.name: getattr(problem, field.name)
        for field in dataclasses.fields(problem)
        if field.name != "state"
    }
    names = PLAN_RECORD + (VENUES_RECORD if isinstance(plan, AggregatedPlan) else ())
    planned = None if plan is None else {name: getattr(plan, name) for name in names}
    found = {"inputs": inputs, "gas": gas, "plan": planned, "reason": reason}
    record = canonical_json(_seen(snapshot, problem.now) | found)
    trigger = _trigger(snapshot, problem.now)
    return Decision(act, reason, trigger, session, plan, record, keccak(text=record))


def _seen(snapshot: Snapshot, now: int) -> dict[str, Any]:
    return {
        "chain_id": snapshot.chain_id,
        "vault": snapshot.vault,
        "block": {"number": snapshot.block.number, "hash": snapshot.block.hash},
        "head": snapshot.head,
        "now": now,
        "state": snapshot.state,
        "planner": PLANNER_VERSION,
    }


def _trigger(snapshot: Snapshot, now: int) -> str:
    if policy.session_is_open(snapshot.state, now):
        return "session open"
    return policy.trigger(snapshot.state, now).kind


def _why(snapshot: Snapshot, now: int) -> str:
    if policy.session_is_open(snapshot.state, now):
        return f"session {snapshot.state.session.id} is open"
    found = policy.trigger(snapshot.state, now)
    return f"{found.kind}: {found.reason}"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__} | fields
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return str(int(value))
    raise TypeError(f"{type(value).__name__} has no canonical JSON")
