"""The audit head of synthetic histories: right ones add up, each kind of damage is found and named."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from offchain.audit.chain import (
    CONFIG_TYPE,
    AuditBreak,
    Created,
    Event,
    Position,
    Rebalanced,
    RuleChanged,
    SessionOpened,
    genesis_head,
    next_head,
    recompute_head,
)

CHAIN_ID = 1337
VAULT = "0x" + "11" * 20
CODEHASH = keccak(b"implementation")
KEEPER = "0x" + "22" * 20
EXECUTOR = "0x" + "33" * 20
ZERO = "0x" + "00" * 20
ASSETS = tuple(("0x" + f"{i:02x}" * 20, 18, 5000, 500, 2500, 0, 10_000, 50) for i in (0xA1, 0xA2))
RULES = (2, 1, 1, 0, 86_400, 3_600, 100, 100, 400, 50, 1_000, 100)
CONFIG = ("Balanced", "BAL", ASSETS, RULES, KEEPER, KEEPER, KEEPER, ZERO, KEEPER, 50, KEEPER)


def position(index: int) -> Position:
    return Position(block=100 + index, transaction="0x" + f"{index:064x}", log_index=index)


def unsigned_history() -> list[Event]:
    """Every kind of entry, two assets, heads still empty."""
    return [
        Created(position(0), CONFIG, b""),
        SessionOpened(position(1), 1, True, 4, 1_000, 10**20, 2, (10**18, 2 * 10**18), (10**20, 10**19), b""),
        Rebalanced(
            position(2), 1, KEEPER, EXECUTOR, 1_010, 10**20, 2, (10**18, 2 * 10**18), (10**20, 10**19),
            (6 * 10**19, 3 * 10**19), (4 * 10**19, 0), keccak(b"payload"), keccak(b"decision"), b"",
        ),
        RuleChanged(position(3), "set_targets", encode(["uint256[]"], [[4000, 6000]]), 1_020, b""),
    ]  # fmt: skip


def with_heads(events: list[Event]) -> list[Event]:
    """The same events, each with the head that the contract would have written."""
    first = events[0]
    assert isinstance(first, Created)
    head = genesis_head(first, CHAIN_ID, VAULT, CODEHASH)
    signed: list[Event] = [replace(first, head=head)]
    for event in events[1:]:
        head = next_head(head, event)
        signed.append(replace(event, head=head))
    return signed


def changed(event: Event, **values: Any) -> Event:
    return replace(event, **values)


@pytest.fixture
def history() -> list[Event]:
    return with_heads(unsigned_history())


def recompute(events: list[Event]) -> bytes:
    return recompute_head(events, CHAIN_ID, VAULT, CODEHASH)


def test_recompute_head_follows_the_specification_byte_for_byte(history: list[Event]) -> None:
    """The four formulas of docs/spec.md written out again, with literal types."""
    genesis = keccak(
        encode(
            ["uint256", "uint256", "address", "bytes32", "bytes32"],
            [0, CHAIN_ID, VAULT, CODEHASH, keccak(encode([CONFIG_TYPE], [CONFIG]))],
        )
    )
    prices, before, after = [10**18, 2 * 10**18], [10**20, 10**19], [6 * 10**19, 3 * 10**19]
    numbers = ["uint256"] * 5
    opened = keccak(
        encode(["bytes32", *numbers, "uint256[]", "uint256[]"], [genesis, 1, 1, 1_000, 10**20, 2, prices, before])
    )
    traded = keccak(
        encode(
            ["bytes32", *numbers, *["uint256[]"] * 4, "address", "bytes32", "bytes32"],
            [
                opened, 2, 1, 1_010, 10**20, 2, prices, before, after, [4 * 10**19, 0], EXECUTOR,
                keccak(b"payload"), keccak(b"decision"),
            ],
        )
    )  # fmt: skip
    data = encode(["uint256[]"], [[4000, 6000]])
    changed = keccak(
        encode(
            ["bytes32", "uint256", "string", "uint256", "bytes32"],
            [traded, 3, "set_targets", 1_020, keccak(data)],
        )
    )
    assert [event.head for event in history] == [genesis, opened, traded, changed]
    assert recompute(history) == changed


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, {"config": (*CONFIG[:9], 51, CONFIG[10])}),
        (1, {"session": 2}),
        (1, {"supply": 10**20 + 1}),
        (1, {"flow_sequence": 3}),
        (1, {"prices": (10**18, 2 * 10**18 + 1)}),
        (1, {"balances": (10**20 + 1, 10**19)}),
        (2, {"session": 2}),
        (2, {"executor": KEEPER}),
        (2, {"time": 1_011}),
        (2, {"supply": 10**20 - 1}),
        (2, {"flow_sequence": 1}),
        (2, {"prices": (10**18 - 1, 2 * 10**18)}),
        (2, {"balances_before": (10**20, 10**19 - 1)}),
        (2, {"balances_after": (6 * 10**19, 3 * 10**19 + 1)}),
        (2, {"sells": (4 * 10**19, 1)}),
        (2, {"payload_hash": keccak(b"another payload")}),
        (2, {"decision": keccak(b"another decision")}),
        (3, {"name": "set_limits"}),
        (3, {"data": encode(["uint256[]"], [[5000, 5000]])}),
        (3, {"time": 1_021}),
        (3, {"head": keccak(b"another head")}),
    ],
)
def test_recompute_head_finds_a_tampered_value(history: list[Event], index: int, change: dict[str, Any]) -> None:
    history[index] = changed(history[index], **change)
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert found.value.position == position(index)
    assert found.value.field == "head"
    assert f"block {100 + index}, transaction {position(index).transaction}, field head:" in str(found.value)


@pytest.mark.parametrize("missing", [1, 2])
def test_recompute_head_finds_a_missing_event_at_the_next_one(history: list[Event], missing: int) -> None:
    del history[missing]
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert found.value.position == position(missing + 1)
    assert found.value.field == "head"


def test_recompute_head_without_the_last_event_gives_the_head_before_it(history: list[Event]) -> None:
    """Only the stored head can tell that the newest event is missing; verify_vault compares them."""
    assert recompute(history[:-1]) == history[-2].head != history[-1].head


@pytest.mark.parametrize("first", [1, 2])
def test_recompute_head_finds_reordered_events(history: list[Event], first: int) -> None:
    history[first], history[first + 1] = history[first + 1], history[first]
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert found.value.position == position(first + 1)


def test_recompute_head_finds_reordered_events_that_hide_their_position(history: list[Event]) -> None:
    history[1], history[2] = replace(history[2], position=position(1)), replace(history[1], position=position(2))
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(1), "head")


def test_recompute_head_finds_a_duplicated_event(history: list[Event]) -> None:
    history.insert(2, history[1])
    with pytest.raises(AuditBreak) as found:
        recompute(history)
    assert (found.value.position, found.value.field) == (position(1), "position")


def test_recompute_head_finds_a_second_creation() -> None:
    events = unsigned_history()
    history = with_heads(events[:2])
    history.append(replace(history[0], position=position(2)))
    with pytest.raises(AuditBreak, match="second Created") as found:
        recompute(history)
    assert found.value.field == "kind"


def test_recompute_head_finds_that_the_creation_is_missing(history: list[Event]) -> None:
    with pytest.raises(AuditBreak, match="does not start with Created") as found:
        recompute(history[1:])
    assert (found.value.position, found.value.field) == (position(1), "kind")


def test_recompute_head_refuses_an_empty_history() -> None:
    with pytest.raises(AuditBreak, match="no events"):
        recompute([])


def test_recompute_head_finds_time_that_runs_backwards() -> None:
    events = unsigned_history()
    events[3] = changed(events[3], time=1_009)
    history = with_heads(events)
    with pytest.raises(AuditBreak, match=r"field time: 1009 is before the last entry's 1010"):
        recompute(history)


@pytest.mark.parametrize("field", ["prices", "balances_before", "balances_after", "sells"])
def test_recompute_head_finds_a_list_that_does_not_fit_the_basket(field: str) -> None:
    events = unsigned_history()
    events[2] = changed(events[2], **{field: (1, 2, 3)})
    history = with_heads(events)
    with pytest.raises(AuditBreak, match=f"field {field}: 3 values for 2 assets"):
        recompute(history)


@pytest.mark.parametrize(
    ("chain_id", "vault", "codehash"),
    [(1, VAULT, CODEHASH), (CHAIN_ID, KEEPER, CODEHASH), (CHAIN_ID, VAULT, keccak(b"other"))],
)
def test_recompute_head_is_bound_to_chain_vault_and_code(
    history: list[Event], chain_id: int, vault: str, codehash: bytes
) -> None:
    with pytest.raises(AuditBreak) as found:
        recompute_head(history, chain_id, vault, codehash)
    assert found.value.position == position(0)
