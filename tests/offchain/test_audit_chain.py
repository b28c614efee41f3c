"""The audit head of synthetic histories: right ones add up, each kind of damage is found and named."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from offchain.audit.chain import (
    AuditBreak,
    Created,
    Event,
    Position,
    Rebalanced,
    RuleChanged,
    SessionOpened,
    head_after,
    recompute_head,
)

CHAIN_ID = 1337
VAULT = "0x" + "11" * 20
CODEHASH = keccak(b"implementation")
CONFIG_HASH = keccak(b"config")
KEEPER = "0x" + "22" * 20
EXECUTOR = "0x" + "33" * 20


def position(index: int) -> Position:
    return Position(block=100 + index, transaction="0x" + f"{index:064x}", log_index=index)


def unlinked_history() -> list[Event]:
    """Every kind of entry, two assets, heads still empty."""
    return [
        Created(position(0), CHAIN_ID, VAULT, CODEHASH, CONFIG_HASH),
        SessionOpened(position(1), b"", 1, 7, True, 4, 1_000, 10**20, 2, (10**18, 2 * 10**18), (10**20, 10**19)),
        Rebalanced(
            position(2), KEEPER, b"", 2, 7, 1_010, 10**20, 2, (10**18, 2 * 10**18), (10**20, 10**19),
            (6 * 10**19, 3 * 10**19), (4 * 10**19, 0), EXECUTOR, keccak(b"payload"), keccak(b"decision"),
        ),
        RuleChanged(position(3), b"", 3, "set_targets", 1_020, encode(["uint256[]"], [[4000, 6000]])),
        RuleChanged(position(4), b"", 3, "pause", 1_030, encode(["uint256"], [2_000])),
    ]  # fmt: skip


def linked(events: list[Event]) -> list[Event]:
    """The same events, each with the head before it, as the contract would have written them."""
    chained = [events[0]]
    for event in events[1:]:
        chained.append(changed(event, previous_head=head_after(chained[-1])))
    return chained


def changed(event: Event, **values: Any) -> Event:
    return replace(event, **values)


@pytest.fixture
def history() -> list[Event]:
    return linked(unlinked_history())


def recompute(events: list[Event]) -> bytes:
    return recompute_head(events, CHAIN_ID, VAULT, CODEHASH)


def test_recompute_head_follows_the_specification_byte_for_byte(history: list[Event]) -> None:
    """The four formulas of docs/spec.md written out again, with literal types."""
    genesis = keccak(
        encode(["uint256", "address", "bytes32", "bytes32"], [CHAIN_ID, VAULT, CODEHASH, CONFIG_HASH])
    )
    prices, before, after = [10**18, 2 * 10**18], [10**20, 10**19], [6 * 10**19, 3 * 10**19]
    opened = keccak(
        encode(
            ["bytes32", "uint256", "uint256", "bool", *["uint256"] * 4, "uint256[]", "uint256[]"],
            [genesis, 1, 7, True, 4, 1_000, 10**20, 2, prices, before],
        )
    )
    traded = keccak(
        encode(
            ["bytes32", *["uint256"] * 5, *["uint256[]"] * 4, "address", "bytes32", "bytes32"],
            [
                opened, 2, 7, 1_010, 10**20, 2, prices, before, after, [4 * 10**19, 0], EXECUTOR,
                keccak(b"payload"), keccak(b"decision"),
            ],
        )
    )  # fmt: skip
    rule_types = ["bytes32", "uint256", "string", "uint256", "bytes"]
    targets = encode(["uint256[]"], [[4000, 6000]])
    changed_targets = keccak(encode(rule_types, [traded, 3, "set_targets", 1_020, targets]))
    paused = keccak(encode(rule_types, [changed_targets, 3, "pause", 1_030, encode(["uint256"], [2_000])]))
    assert [head_after(event) for event in history] == [genesis, opened, traded, changed_targets, paused]
    assert recompute(history) == paused


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, {"config_hash": keccak(b"another config")}),
        (1, {"session": 8}),
        (1, {"by_calendar": False}),
        (1, {"slot": 5}),
        (1, {"time": 1_001}),
        (1, {"supply": 10**20 + 1}),
        (1, {"flow_sequence": 3}),
        (1, {"prices": (10**18, 2 * 10**18 + 1)}),
        (1, {"balances": (10**20 + 1, 10**19)}),
        (2, {"session": 8}),
        (2, {"time": 1_011}),
        (2, {"supply": 10**20 - 1}),
        (2, {"flow_sequence": 1}),
        (2, {"prices": (10**18 - 1, 2 * 10**18)}),
        (2, {"balances_before": (10**20, 10**19 - 1)}),
        (2, {"balances_after": (6 * 10**19, 3 * 10**19 + 1)}),
        (2, {"sells": (4 * 10**19, 1)}),
        (2, {"sells": (4 * 10**19,)}),
        (2, {"executor": KEEPER}),
        (2, {"payload_hash": keccak(b"another payload")}),
        (2, {"decision": keccak(b"another decision")}),
        (3, {"name": "set_limits"}),
        (3, {"data": encode(["uint256[]"], [[5000, 5000]])}),
        (3, {"time": 1_021}),
    ],
)
def test_recompute_head_finds_a_tampered_value(
    history: list[Event], index: int, change: dict[str, Any]
) -> None:
    history[index] = changed(history[index], **change)
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(index + 1), "previous_head")
    assert f"block {101 + index}, transaction {position(index + 1).transaction}" in str(found.value)
    assert f"the entry in block {100 + index}, transaction {position(index).transaction}" in str(found.value)


def test_recompute_head_of_a_tampered_last_entry_is_another_head(history: list[Event]) -> None:
    """Only the stored head can tell; verify_vault compares them."""
    right = recompute(history)
    history[-1] = changed(history[-1], data=encode(["uint256"], [2_001]))
    assert recompute(history) != right


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_recompute_head_finds_a_missing_event_at_the_next_one(history: list[Event], missing: int) -> None:
    del history[missing]
    with pytest.raises(AuditBreak, match="entries between are missing") as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(missing + 1), "previous_head")


def test_recompute_head_without_the_last_event_gives_the_head_before_it(history: list[Event]) -> None:
    assert recompute(history[:-1]) == head_after(history[-2]) != recompute(history)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_recompute_head_finds_reordered_events(history: list[Event], first: int) -> None:
    history[first], history[first + 1] = history[first + 1], history[first]
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert found.value.position == position(first + 1)


def test_recompute_head_finds_reordered_events_that_hide_their_position(history: list[Event]) -> None:
    history[1], history[2] = (
        changed(history[2], position=position(1)),
        changed(history[1], position=position(2)),
    )
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(1), "previous_head")


def test_recompute_head_finds_a_duplicated_event(history: list[Event]) -> None:
    history.insert(2, history[1])
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(1), "position")


def test_recompute_head_finds_a_second_creation(history: list[Event]) -> None:
    history.append(changed(history[0], position=position(5)))
    with pytest.raises(AuditBreak, match="second Created") as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(5), "kind")


def test_recompute_head_finds_that_the_creation_is_missing(history: list[Event]) -> None:
    with pytest.raises(AuditBreak, match="does not start with Created") as found:
        recompute(history[1:])
    assert (found.value.position, found.value.field) == (position(1), "kind")


def test_recompute_head_refuses_an_empty_history() -> None:
    with pytest.raises(AuditBreak, match="no events"):
        recompute([])


def test_recompute_head_finds_time_that_runs_backwards() -> None:
    events = unlinked_history()
    events[3] = changed(events[3], time=1_009)
    with pytest.raises(AuditBreak, match=r"field time: 1009 is before the last entry's 1010"):
        recompute(linked(events))


def test_recompute_head_finds_a_kind_that_is_not_the_event_s() -> None:
    events = unlinked_history()
    events[2] = changed(events[2], kind=1)
    with pytest.raises(AuditBreak, match="1 in a Rebalanced event") as found:
        recompute(linked(events))
    assert (found.value.position, found.value.field) == (position(2), "kind")


@pytest.mark.parametrize(
    ("chain_id", "vault", "codehash", "field"),
    [
        (1, VAULT, CODEHASH, "chain_id"),
        (CHAIN_ID, KEEPER, CODEHASH, "vault"),
        (CHAIN_ID, VAULT, keccak(b"other"), "codehash"),
    ],
)
def test_recompute_head_is_bound_to_chain_vault_and_code(
    history: list[Event], chain_id: int, vault: str, codehash: bytes, field: str
) -> None:
    with pytest.raises(AuditBreak) as found:
        recompute_head(history, chain_id, vault, codehash)
    assert (found.value.position, found.value.field) == (position(0), field)
