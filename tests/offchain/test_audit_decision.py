"""A keeper's record of a decision: the honest one is verified, and whatever is changed in it is found or is its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.crypto import keccak

from offchain.audit.chain import Position, Rebalanced
from offchain.audit.decision import AUCTION, Checked, Offered, Seen, Status, check_decision
from offchain.keeper.decide import Decision, canonical_json, decide
from offchain.keeper.market import GasPrice
from offchain.planner import Plan
from offchain.policy import VaultState
from tests.offchain.test_keeper_decide import NOW, problem, snapshot

HEAD = "0x" + "00" * 32
SEEN = snapshot(stock=60)
PROBLEM = problem(SEEN)
CHAIN = Seen(SEEN.block.hash, SEEN.block.time, SEEN.head, SEEN.state, PROBLEM.pools)
Path = tuple[str | int, ...]


@pytest.fixture(scope="module")
def decision() -> Decision:
    made = decide(SEEN, PROBLEM, gas=GasPrice(0, 0, 0, "oracle"))
    assert made.plan is not None and made.act
    return made


def entry(plan: Plan, decision: bytes, **changes: Any) -> Rebalanced:
    """What the vault logs of this plan."""
    state = SEEN.state
    made = Rebalanced(
        Position(9, "0x" + "aa" * 32, 3, NOW + 60), "0x" + "22" * 20, bytes(32), 2, 1, NOW + 60, state.supply, 0,
        state.prices, state.balances, plan.balances_after, plan.sells, PROBLEM.executor, keccak(plan.payload), decision,
    )  # fmt: skip
    return replace(made, **changes)


def then(block: int, now: int) -> tuple[str, VaultState]:
    return HEAD, SEEN.state


def checked(plan: Plan, text: str, seen: Seen | None = CHAIN, **changes: Any) -> Checked:
    """Of a vault whose `decision` is the hash of this record, true or not: a keeper can commit to anything."""
    made = entry(plan, keccak(text=text), **changes)
    return check_decision(made, [Offered(text)], 1, SEEN.vault, seen, then)


def plan_of(decision: Decision) -> Plan:
    assert decision.plan is not None
    return decision.plan


def test_an_honest_record_is_verified(decision: Decision) -> None:
    found = checked(plan_of(decision), decision.record)
    assert (found.status, found.field, found.reason) == (Status.VERIFIED, "", "")


def test_without_a_record_it_is_undeclared(decision: Decision) -> None:
    other = Offered(canonical_json({"vault": SEEN.vault}))
    for offered in ([], [other]):
        found = check_decision(
            entry(plan_of(decision), decision.commitment), offered, 1, SEEN.vault, CHAIN, then
        )
        assert found.status == Status.UNDECLARED
    fill = check_decision(entry(plan_of(decision), AUCTION), [], 1, SEEN.vault, CHAIN, then)
    assert (fill.status, "auction" in fill.reason) == (Status.UNDECLARED, True)


def test_without_the_chain_s_inputs_it_is_never_verified(decision: Decision) -> None:
    assert checked(plan_of(decision), decision.record, None).status == Status.UNCHECKED
    pruned = checked(plan_of(decision), decision.record, Seen(missing="no state of block 7"))
    assert (pruned.status, pruned.reason) == (Status.UNCHECKED, "no state of block 7")


def test_a_plan_without_certificate_is_never_verified(decision: Decision) -> None:
    record = json.loads(decision.record)
    record["plan"]["certificate"] = None
    found = checked(plan_of(decision), canonical_json(record))
    assert (found.status, found.reason) == (Status.UNCHECKED, "the plan carries no certificate")


@pytest.mark.parametrize("keyed", [True, False])
def test_a_record_altered_after_the_fact_is_unexplained(decision: Decision, keyed: bool) -> None:
    """It no longer hashes to the decision: found by the decision it is given for, or by what it says."""
    altered = decision.record.replace("threshold", "calendar")
    offered = [Offered(altered, decision.commitment if keyed else None)]
    found = check_decision(entry(plan_of(decision), decision.commitment), offered, 1, SEEN.vault, CHAIN, then)
    assert (found.status, found.field) == (Status.UNEXPLAINED, "record")
    assert decision.commitment.hex() in found.reason


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"payload_hash": keccak(b"another payload")}, "plan.payload"),
        ({"sells": (0, 1)}, "plan.sells"),
        ({"executor": "0x" + "44" * 20}, "inputs.executor"),
        ({"time": NOW - 1}, "now"),
        ({"position": Position(6, "0x" + "aa" * 32, 3, NOW + 60)}, "block.number"),
    ],
)
def test_the_plan_is_not_this_trade(decision: Decision, change: dict[str, Any], field: str) -> None:
    found = checked(plan_of(decision), decision.record, **change)
    assert (found.status, found.field) == (Status.UNEXPLAINED, field)


@pytest.mark.parametrize(
    ("seen", "field"),
    [
        (replace(CHAIN, block_hash="0x" + "78" * 32), "block.hash"),
        (replace(CHAIN, time=NOW + 1), "now"),
        (replace(CHAIN, head="0x" + "01" * 32), "head"),
        (replace(CHAIN, state=replace(SEEN.state, prices=(10**18, 10**18 + 1))), "state.prices"),
        (replace(CHAIN, state=replace(SEEN.state, loss_used=1)), "state.loss_used"),
        (replace(CHAIN, pools=(None,)), "inputs.pools[0]"),
        (replace(CHAIN, pools=(replace(PROBLEM.pools[0], reserve0=1),)), "inputs.pools[0].reserve0"),  # type: ignore[arg-type]
        (replace(CHAIN, hub=(18, 1)), "inputs.hub_price"),
    ],
)
def test_the_inputs_are_not_the_chain_s(decision: Decision, seen: Seen, field: str) -> None:
    found = checked(plan_of(decision), decision.record, seen)
    assert (found.status, found.field) == (Status.UNEXPLAINED, field)


def test_a_certificate_that_promises_more_than_can_be_proven_is_found(decision: Decision) -> None:
    record = json.loads(decision.record)
    certificate = record["plan"]["certificate"]
    certificate["bound"], certificate["gap"] = certificate["objective"], "0"
    found = checked(plan_of(decision), canonical_json(record))
    assert (found.status, found.field) == (Status.UNEXPLAINED, "plan.certificate.bound")


def test_a_certificate_may_promise_less(decision: Decision) -> None:
    record = json.loads(decision.record)
    certificate = record["plan"]["certificate"]
    certificate["bound"] = str(int(certificate["bound"]) - 10**18)
    certificate["gap"] = str(int(certificate["objective"]) - int(certificate["bound"]))
    assert checked(plan_of(decision), canonical_json(record)).status == Status.VERIFIED


def test_a_record_from_before_there_was_a_margin_says_none(decision: Decision) -> None:
    record = json.loads(decision.record)
    assert record["inputs"].pop("closing_margin_bps") == "0"
    assert checked(plan_of(decision), canonical_json(record)).status == Status.VERIFIED
    record["inputs"].pop("closing")
    assert checked(plan_of(decision), canonical_json(record)).status == Status.UNEXPLAINED


OWN = (  # words, and what the keeper chose: nothing on the chain says otherwise
    ("reason",), ("planner",), ("gas", "kind"), ("gas", "note"), ("gas", "source"), ("plan", "method"),
    ("plan", "explanations", 0), ("plan", "explanations", 1), ("plan", "certificate", "routing_gap"),
    ("inputs", "closing"), ("inputs", "closing_margin_bps"), ("inputs", "hub"),
    ("inputs", "hub_decimals"), ("inputs", "hub_price"),
    ("inputs", "leg_tolerance_bps"), ("inputs", "min_leg_value"), ("inputs", "pool_limit_bps"),
    ("inputs", "slippage_margin_bps"), ("inputs", "turnover_cap"),
    ("block", "number"),  # the edge reads at that block, whose hash then differs
    ("gas", "wei"), ("gas", "native_price"),  # of nothing, a product of nothing
)  # fmt: skip


def test_every_field_of_a_lying_record_is_found_or_is_the_keeper_s_own(decision: Decision) -> None:
    """The keeper commits to the changed record, so its hash is right."""
    record, plan = json.loads(decision.record), plan_of(decision)
    missed = []
    for path in leaves(record):
        changed = copy.deepcopy(record)
        put(changed, path, other(get(record, path)))
        if checked(plan, canonical_json(changed)).status != Status.UNEXPLAINED:
            missed.append(path)
    assert set(missed) == set(OWN)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", '"x"', "[" * 100_000, '{"state":' * 5_000, "{}", '{"state": null}',
        '{"state": {"kind": "VaultState"}}',
    ],
)  # fmt: skip
def test_what_is_no_record_is_unexplained(decision: Decision, text: str) -> None:
    assert checked(plan_of(decision), text).status == Status.UNEXPLAINED


@pytest.mark.parametrize("number", ["9" * 80, "-1", "9" * 81, "1e3", "0x1", "", "01", 7, None, 1.5])
@pytest.mark.parametrize("path", [("now",), ("state", "supply"), ("inputs", "pools", 0, "reserve1")])
def test_numbers_beyond_limits_do_no_harm(decision: Decision, path: Path, number: Any) -> None:
    record = json.loads(decision.record)
    put(record, path, number)
    assert checked(plan_of(decision), json.dumps(record)).status == Status.UNEXPLAINED


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path


def get(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def put(value: Any, path: Path, new: Any) -> None:
    get(value, path[:-1])[path[-1]] = new


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if value is None:
        return "1"
    if value.lstrip("-").isdigit():
        return str(int(value) + 1)
    if value.startswith("0x"):
        return value[:-1] + ("2" if value[-1] == "1" else "1")
    return value + "!"
