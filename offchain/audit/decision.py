"""A keeper's record of one decision, checked (DESIGN.md, "Audit trail"). Pure.

*verified*: the record hashes to the `decision` of the entry, its inputs equal the chain's at the block that it names,
its plan yields this payload, and its certificate holds. *undeclared*: there is no record. *unexplained*: there is one
and it does not hold; the field says where. *unchecked*: all that could be checked holds, and something could not: the
chain's inputs without a node, or a plan without a certificate, as with a venue's quote. Only the first is a green tick.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from eth_utils.crypto import keccak

from offchain import policy
from offchain.audit.chain import Position, Rebalanced
from offchain.errors import EvenkeelError
from offchain.planner.payload import Call, SwapV2, SwapV3, Sweep, decode
from offchain.planner.pools import Pool, V2Pool
from offchain.planner.problem import Certificate, Costs, PlannedLeg, Problem, gas_of, objective, tax_of
from offchain.policy import VaultState

__all__ = [
    "AUCTION",
    "Checked",
    "Offered",
    "Record",
    "RecordError",
    "Seen",
    "Status",
    "check_decision",
    "parse_record",
]

AUCTION = b"auction fill".ljust(32, b"\0")  # contracts/Auction.vy: fills have no record
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,79})")
HEX = re.compile(r"0x([0-9a-f]{2})*")
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
MAX_RECORD = 8_000_000  # characters
EARLIER = {"closing_margin_bps": "0"}  # what records of before there was such an input mean
ROUNDING = 10**9  # of NAV: what two computations of one bound may differ by


class Status(StrEnum):
    """What a decision is."""

    VERIFIED = "verified"
    UNDECLARED = "undeclared"
    UNEXPLAINED = "unexplained"
    UNCHECKED = "unchecked"


class RecordError(EvenkeelError):
    """The record does not hold: `field` says where. Ask the keeper's operator for the right one."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


Then = Callable[
    [int, int], tuple[str, VaultState] | None
]  # block, its timestamp -> 0x head, state without prices


@dataclass(frozen=True)
class Offered:
    """A record as somebody gave it."""

    text: str
    decision: bytes | None = None  # what it was given for, where that was said


@dataclass(frozen=True)
class RecordedPlan:
    """What a record keeps of a plan."""

    sells: tuple[int, ...]
    payload: bytes
    legs: tuple[PlannedLeg, ...]
    balances_after: tuple[int, ...]
    method: str
    costs: Costs | None
    drift_before: int
    drift_after: int
    certificate: Certificate | None
    explanations: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A record, read."""

    chain_id: int
    vault: str
    block: int
    block_hash: str
    head: str
    now: int
    state: VaultState
    planner: str  # name and version
    problem: Problem | None
    plan: RecordedPlan | None
    gas_price: int | None = None  # USD WAD a unit, from what a unit costs in wei and the native token's price


@dataclass(frozen=True)
class Seen:
    """What the chain says of the inputs of a record, at the block that it names."""

    block_hash: str = ""
    time: int = 0
    head: str = ""
    state: VaultState | None = None
    pools: tuple[Pool | None, ...] = ()  # in the record's order; None: no such pool
    hub: tuple[int, int] | None = None  # decimals, price in USD WAD; None: in the basket, or there is none
    missing: str = ""  # why the chain could not be asked


@dataclass(frozen=True)
class Checked:
    """What became of one decision."""

    position: Position
    session: int
    decision: str  # 0x hash
    status: Status
    field: str = ""  # of the record, where it does not hold
    reason: str = ""
    block: int | None = None  # that the record says it observed


def check_decision(
    entry: Rebalanced, offered: Sequence[Offered], chain_id: int, vault: str, seen: Seen | None, then: Then
) -> Checked:
    """What `entry`'s decision is.

    Args:
        entry: the rebalance.
        offered: all records at hand.
        chain_id: of the vault's chain.
        vault: its address.
        seen: what the chain says at the record's block; None when it was not asked.
        then: the vault as its events rebuild it at a block.

    """
    text, given = _find(entry, offered, vault)

    def said(status: Status, field: str = "", reason: str = "", block: int | None = None) -> Checked:
        return Checked(
            entry.position, entry.session, "0x" + entry.decision.hex(), status, field, reason, block
        )

    if text is None:
        reason = "a fill of the auction: there is no record" if entry.decision == AUCTION else ""
        return said(Status.UNDECLARED, "", reason)
    if not given:
        found = keccak(text=text).hex()
        return said(
            Status.UNEXPLAINED, "record", f"it hashes to 0x{found}, the vault has 0x{entry.decision.hex()}"
        )
    block = None
    try:
        record = parse_record(text)
        block = record.block
        _check_place(record, entry, chain_id, vault, then)
        doubt = _check_inputs(record, seen)
        doubt = _check_plan(record, entry) or doubt
    except RecordError as error:
        return said(Status.UNEXPLAINED, error.field, error.reason, block)
    except (EvenkeelError, ArithmeticError, ValueError, IndexError, KeyError) as error:
        return said(Status.UNEXPLAINED, "inputs", f"cannot be: {error}", block)
    return said(Status.UNCHECKED, "", doubt, block) if doubt else said(Status.VERIFIED, "", "", block)


def _find(entry: Rebalanced, offered: Sequence[Offered], vault: str) -> tuple[str | None, bool]:
    """The record of this decision and True; else one that was given for it and does not hash to it, and False."""
    for offer in offered:
        if keccak(text=offer.text) == entry.decision:
            return offer.text, True
    for offer in offered:
        if offer.decision == entry.decision or (offer.decision is None and _claims(offer.text, entry, vault)):
            return offer.text, False
    return None, False


def _claims(text: str, entry: Rebalanced, vault: str) -> bool:
    """A record given without its hash says that it led to this entry: same vault, and head or payload."""
    try:
        value = json.loads(text)
        planned = value.get("plan")
        if str(value.get("vault")).lower() != vault.lower() or not isinstance(planned, dict):
            return False
        payload = bytes.fromhex(str(planned.get("payload"))[2:])
        return value.get("head") == "0x" + entry.previous_head.hex() or keccak(payload) == entry.payload_hash
    except (ValueError, AttributeError, RecursionError):
        return False


# ---------------------------------------------------------------- where and when


def _check_place(record: Record, entry: Rebalanced, chain_id: int, vault: str, then: Then) -> None:
    _same("chain_id", record.chain_id, chain_id)
    _same("vault", record.vault.lower(), vault.lower())
    _same("state.vault", record.state.vault.lower(), vault.lower())
    if record.block > entry.position.block:
        raise RecordError("block.number", f"{record.block}, after the trade in block {entry.position.block}")
    if record.now > entry.time:
        raise RecordError("now", f"{record.now}, after the trade at {entry.time}")
    _same("state.time", record.state.time, record.now)
    rebuilt = then(record.block, record.now)
    if rebuilt is None:
        raise RecordError("block.number", f"{record.block}, before the vault was created")
    head, state = rebuilt
    _same("head", record.head, head)
    # what was given to the vault since its last event shows in no event of it: with a node, it is compared
    _same_state(record.state, state, {"prices", "statuses", "balances"})
    for i, (said, held) in enumerate(zip(record.state.balances, state.balances, strict=True)):
        if said < held:
            raise RecordError(f"state.balances[{i}]", f"{said} in the record, at least {held} on the chain")


def _check_inputs(record: Record, seen: Seen | None) -> str:
    """The inputs equal the chain's; what could not be asked, in words."""
    if seen is None or seen.missing or seen.state is None:
        return (
            seen.missing if seen and seen.missing else f"prices and pools at block {record.block} need a node"
        )
    _same("block.hash", record.block_hash, seen.block_hash)
    _same("now", record.now, seen.time)
    _same("head", record.head, seen.head)
    _same_state(record.state, seen.state, set())
    problem = record.problem
    if problem is None:
        return ""
    for i, (said, found) in enumerate(zip(problem.pools, seen.pools, strict=True)):
        if found is None:
            raise RecordError(
                f"inputs.pools[{i}]", f"{said.address} is no pool with liquidity at block {record.block}"
            )
        _same_fields(f"inputs.pools[{i}]", said, found, {"fee_bps"} if isinstance(said, V2Pool) else set())
    if seen.hub is not None:
        _same("inputs.hub_decimals", problem.hub_decimals, seen.hub[0])
        _same("inputs.hub_price", problem.hub_price, seen.hub[1])
    return ""


def _same_state(said: VaultState, found: VaultState, unknown: set[str]) -> None:
    for name in ("assets", "rules", "session", "balances", "prices", "statuses"):
        if name in unknown:
            continue
        one, other = getattr(said, name), getattr(found, name)
        if name == "assets":
            _same("state.assets", len(one), len(other))
            for i, (a, b) in enumerate(zip(one, other, strict=True)):
                _same_fields(f"state.assets[{i}]", a, b, set())
        elif name in ("rules", "session"):
            _same_fields(f"state.{name}", one, other, set())
        else:
            _same(f"state.{name}", tuple(one), tuple(other))
    _same_fields("state", said, found, {"assets", "rules", "session", "balances", "prices", "statuses"})


def _same_fields(path: str, said: Any, found: Any, without: set[str]) -> None:
    _same(path, type(said).__name__, type(found).__name__)
    for field in dataclasses.fields(said):
        if field.name in without:
            continue
        one, other = getattr(said, field.name), getattr(found, field.name)
        if isinstance(one, str) and isinstance(other, str):
            one, other = one.lower(), other.lower()
        _same(f"{path}.{field.name}", one, other)


def _same(field: str, said: object, found: object) -> None:
    if said != found:
        raise RecordError(field, f"{_short(said)} in the record, {_short(found)} found")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:160] + "…"


# ---------------------------------------------------------------- the plan


def _check_plan(record: Record, entry: Rebalanced) -> str:
    """The plan is this trade, its prediction follows from the inputs, its certificate holds; what stays open."""
    problem, plan = record.problem, record.plan
    if problem is None or plan is None:
        raise RecordError("plan", "there is none, and the vault traded")
    _same("plan.sells", plan.sells, entry.sells)
    if keccak(plan.payload) != entry.payload_hash:
        found = keccak(plan.payload).hex()
        raise RecordError("plan.payload", f"hashes to 0x{found}, the vault ran 0x{entry.payload_hash.hex()}")
    _same("inputs.executor", problem.executor.lower(), entry.executor.lower())
    _same("inputs.now", problem.now, record.now)
    if record.gas_price is not None:
        _same("inputs.gas_price", problem.gas_price, record.gas_price)
    calls, sweeps = _check_legs(plan)
    _check_rules(problem, plan)
    if calls:
        return "a venue's call: what it pays is not in the record, and no bound covers it"
    after = _outcome(problem, plan)
    _same("plan.balances_after", plan.balances_after, after)
    _check_figures(problem, plan, sweeps)
    if plan.certificate is None:
        return "the plan carries no certificate"
    _check_certificate(problem, plan, plan.certificate, sweeps)
    return ""


def _check_legs(plan: RecordedPlan) -> tuple[int, int]:
    """The payload's swaps are the plan's legs; how many calls and sweeps it has beside them."""
    try:
        ran = decode(plan.payload)
    except EvenkeelError as error:
        raise RecordError("plan.payload", str(error)) from None
    swaps = [leg for leg in ran if isinstance(leg, SwapV2 | SwapV3)]
    _same("plan.legs", len(plan.legs), len(swaps))
    for i, (planned, leg) in enumerate(zip(plan.legs, swaps, strict=True)):
        _same_fields(f"plan.legs[{i}].leg", planned.leg, leg, set())
        _same(f"plan.legs[{i}].min_out", planned.min_out, leg.min_out)
    return sum(isinstance(leg, Call) for leg in ran), sum(isinstance(leg, Sweep) for leg in ran)


def _check_rules(problem: Problem, plan: RecordedPlan) -> None:
    state, now = problem.state, problem.now
    session, refusal = policy.next_session(state, now)
    if not refusal:
        verdict = policy.check_rebalance(
            state, plan.sells, plan.balances_after, session, now, now, executor=problem.executor
        )
        refusal = verdict.reason
    if refusal:
        raise RecordError("plan.balances_after", f"the rules refuse the outcome that it promises: {refusal}")


def _outcome(problem: Problem, plan: RecordedPlan) -> tuple[int, ...]:
    """The vault's balances after the payload, run on the recorded pools to the wei."""
    state = problem.state
    pools: dict[str, Pool] = {pool.address.lower(): pool for pool in problem.pools}
    sent = policy.clip_sells(state, plan.sells)
    tokens = [asset.token.lower() for asset in state.assets]
    vault = {t: q - s for t, q, s in zip(tokens, state.balances, sent, strict=True)}
    hand = {t: s for t, s in zip(tokens, sent, strict=True) if s}
    legs = iter(plan.legs)
    for leg in decode(plan.payload):
        if isinstance(leg, Sweep):
            token = leg.token.lower()
            if token in vault:
                vault[token] += hand.pop(token, 0)
        elif isinstance(leg, SwapV2 | SwapV3):
            planned = next(legs)
            token, out, where = leg.token_in.lower(), planned.token_out.lower(), leg.pool.lower()
            amount = hand.get(token, 0) if leg.whole_balance else leg.amount_in
            if where not in pools or amount > hand.get(token, 0):
                raise RecordError(
                    "plan.legs", f"sells {amount} of {token}, which is not there, or in no recorded pool"
                )
            paid, pools[where] = pools[where].swap(leg.token_in, amount)
            _same(
                "plan.legs.token_out",
                {token, out},
                {pools[where].token0.lower(), pools[where].token1.lower()},
            )
            _same("plan.legs.amount_in", planned.amount_in, amount)
            _same("plan.legs.expected_out", planned.expected_out, paid)
            if paid * leg.amount_in < leg.min_out * amount:
                raise RecordError("plan.legs", f"a leg pays {paid}, less than its minimum {leg.min_out}")
            hand[token] = hand.get(token, 0) - amount
            target = vault if leg.to_caller and out in vault else hand
            target[out] = target.get(out, 0) + paid
    return tuple(vault[token] for token in tokens)


def _check_figures(problem: Problem, plan: RecordedPlan, sweeps: int) -> None:
    state = problem.state
    _same("plan.drift_before", plan.drift_before, sum(policy.drifts(state)))
    _same("plan.drift_after", plan.drift_after, sum(policy.drifts(state, plan.balances_after)))
    if plan.costs is not None:
        lost = policy.nav(state) - policy.nav(state, plan.balances_after)
        _same("plan.costs", plan.costs.fee + plan.costs.impact, lost)
        _same("plan.costs.gas", plan.costs.gas, gas_of(plan.legs, sweeps) * problem.gas_price)
        _same("plan.costs.tax", plan.costs.tax, tax_of(problem, plan.balances_after))


def _check_certificate(problem: Problem, plan: RecordedPlan, given: Certificate, sweeps: int) -> None:
    """The objective is the plan's, and no plan is below the bound: the planner proves it anew on the same inputs."""
    from offchain.planner import plan as joint_plan

    problem = replace(problem, state=replace(problem.state, time=problem.now))
    reached = objective(problem, plan.balances_after) + gas_of(plan.legs, sweeps) * problem.gas_price
    _same("plan.certificate.objective", given.objective, reached)
    _same("plan.certificate.gap", given.gap, given.objective - given.bound)
    if given.gap < 0:
        raise RecordError("plan.certificate.gap", "below 0: the plan is better than the bound allows")
    again = joint_plan(problem).certificate
    if again is None:
        raise RecordError(
            "plan.certificate.bound", "the planner finds no trade for these inputs that is worth it"
        )
    if given.bound > again.bound + policy.nav(problem.state) // ROUNDING + 1:
        reason = f"{given.bound} is more than can be proven for these inputs: {again.bound} USD WAD"
        raise RecordError("plan.certificate.bound", reason)


# ---------------------------------------------------------------- reading


def parse_record(text: str) -> Record:
    """The record that this text, canonical JSON of offchain/keeper/decide.py, says. RecordError names the field."""
    if len(text) > MAX_RECORD:
        raise RecordError("record", f"longer than {MAX_RECORD} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RecordError("record", "not JSON") from None
    top = _dict(value, "record")
    state = _read(VaultState, top.get("state"), "state")
    block = _dict(top.get("block"), "block")
    inputs, planned = top.get("inputs"), top.get("plan")
    problem = None if inputs is None else _problem(_dict(inputs, "inputs"), state)
    plan = None
    if planned is not None:
        fields = _dict(planned, "plan")
        plan = RecordedPlan(**_fields(RecordedPlan, fields, "plan", extra=True))
    return Record(
        _read(int, top.get("chain_id"), "chain_id"),
        _read(str, top.get("vault"), "vault"),
        _read(int, block.get("number"), "block.number"),
        _read(str, block.get("hash"), "block.hash"),
        _read(str, top.get("head"), "head"),
        _read(int, top.get("now"), "now"),
        state,
        _read(str, top.get("planner"), "planner"),
        problem,
        plan,
        _gas_price(top.get("gas")),
    )


def _gas_price(gas: Any) -> int | None:
    """Of the record's `gas`; None where it has none."""
    if gas is None:
        return None
    fields = _dict(gas, "gas")
    usd, wei, native = (
        _read(int, fields.get(name), f"gas.{name}") for name in ("usd", "wei", "native_price")
    )
    _same("gas.usd", usd, -(-wei * native // policy.WAD))
    return int(usd)


def _problem(fields: dict[str, Any], state: VaultState) -> Problem:
    found = _fields(Problem, EARLIER | fields, "inputs", without=("state",))
    return Problem(state=state, **found)


def _fields(
    kind: type, fields: Mapping[str, Any], path: str, without: Sequence[str] = (), extra: bool = False
) -> dict[str, Any]:
    """The dataclass's fields from a JSON object that has all of them and, but for `extra`, no others."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in without]
    unknown = set(fields) - set(names) - {"kind"}
    if unknown and not extra:
        raise RecordError(f"{path}.{min(unknown)[:40]}", "not known")
    for name in names:
        if name not in fields:
            raise RecordError(f"{path}.{name}", "missing")
    return {name: _read(hints[name], fields[name], f"{path}.{name}") for name in names}


def _read(kind: Any, value: Any, path: str) -> Any:
    """`value` as the annotated type; RecordError where it is none."""
    if kind is int and isinstance(value, str) and INTEGER.fullmatch(value):
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is bytes and isinstance(value, str) and HEX.fullmatch(value):
        return bytes.fromhex(value[2:])
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(typing.get_args(kind), value, path)
    if origin is tuple and isinstance(value, list):
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_read(inner[0], item, f"{path}[{i}]") for i, item in enumerate(value))
        if len(inner) == len(value):
            return tuple(
                _read(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(inner, value, strict=True))
            )
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        fields = _dict(value, path)
        if fields.get("kind") != kind.__name__:
            raise RecordError(f"{path}.kind", f"not {kind.__name__}")
        return kind(**_fields(kind, fields, path))
    raise RecordError(path, f"{_short(value)!r} is not what belongs here")


def _read_union(kinds: Sequence[Any], value: Any, path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    named = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    chosen = value.get("kind") if isinstance(value, dict) else None
    for kind in kinds:
        if kind is not type(None) and (kind not in named or getattr(kind, "__name__", "") == chosen):
            return _read(kind, value, path)
    raise RecordError(f"{path}.kind", f"{_short(chosen)!r} is not known")


def _dict(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(path, "missing or no object")
    return value
