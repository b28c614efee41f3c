"""rebalance(): who may, what it needs, what it sends and records. Its rules: the other test_rebalance files."""

import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.world import GUARDIAN, KEEPER, OWNER, STRANGER, reverts
from tests.unit.stage import ALL, DECISION, NOTHING, ON_TARGET, OUT_OF_BAND, PRICES, K, Stage, usd

ENTRY = [
    "bytes32",
    *("uint256",) * 5,
    *("uint256[]",) * 4,
    "address",
    *("bytes32",) * 2,
]

# The call itself


@pytest.mark.parametrize("sender", [OWNER, STRANGER])
def test_reverts_if_not_keeper(stage: Stage, sender):
    stage.refuses("not keeper", ON_TARGET, sender)
    stage.rebalance(ON_TARGET, KEEPER)


def test_reverts_after_the_deadline(stage: Stage):
    stage.refuses("deadline passed", ON_TARGET, deadline=stage.evm.now - 1)
    stage.rebalance(ON_TARGET, deadline=stage.evm.now)


def test_reverts_while_paused(stage: Stage):
    stage.at_once("pause", sender=GUARDIAN)
    stage.refuses("paused", ON_TARGET)
    stage.delayed("unpause")
    stage.rebalance(ON_TARGET)


def test_pause_ends_by_itself(stage: Stage):
    stage.at_once("pause", sender=GUARDIAN)
    ends = stage.vault.call("paused_until")
    stage.sleep_until(ends - 1)
    stage.refuses("paused", ON_TARGET)
    stage.sleep_until(ends)
    stage.rebalance(ON_TARGET)


@pytest.mark.parametrize("length", [0, 2, 4])
def test_reverts_if_sells_have_the_wrong_length(stage: Stage, length):
    stage.refuses("wrong length", ON_TARGET, sells=[0] * length)
    stage.rebalance(OUT_OF_BAND, sells=NOTHING)


@pytest.mark.parametrize("name", ["vault", "oracle", 0, 1, 2])
def test_reverts_if_the_executor_is_part_of_the_vault(stage: Stage, name):
    forbidden = stage.tokens[name] if isinstance(name, int) else getattr(stage, name)
    stage.refuses("executor not allowed", ON_TARGET, executor=forbidden.address)
    stage.rebalance(ON_TARGET, executor=stage.executor.address)


def test_reverts_if_the_executor_does_not_answer(stage: Stage):
    stage.refuses("executor did not answer", ON_TARGET, payload=stage.payload(ON_TARGET, answer=False))
    stage.rebalance(ON_TARGET, payload=stage.payload(ON_TARGET, answer=True))


# Prices and balances


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5])
def test_reverts_if_a_price_has_a_bad_status(stage: Stage, status):
    oracle = stage.script_oracle()
    oracle.call("set_prices", PRICES, [0, status, 0])
    stage.refuses("price not usable", ON_TARGET)
    oracle.call("set_prices", PRICES, NOTHING)
    stage.rebalance(ON_TARGET)


def test_reverts_if_a_price_is_zero(stage: Stage):
    oracle = stage.script_oracle()
    oracle.call("set_prices", [*PRICES[:2], 0], NOTHING)
    stage.refuses("price not usable", ON_TARGET)
    oracle.call("set_prices", [*PRICES[:2], 1], NOTHING)
    stage.rebalance(OUT_OF_BAND, sells=NOTHING)


@pytest.mark.parametrize(("prices", "statuses"), [(2, 3), (3, 2)])
def test_reverts_if_the_oracle_answers_too_little(stage: Stage, prices, statuses):
    oracle = stage.script_oracle()
    oracle.call("set_prices", PRICES[:prices], NOTHING[:statuses])
    stage.refuses("price not usable", ON_TARGET)
    oracle.call("set_prices", PRICES, NOTHING)
    stage.rebalance(ON_TARGET)


def test_reverts_without_value_before(stage: Stage):
    stage.set_balances([0, 0, 0])
    stage.refuses("no value", ON_TARGET)
    stage.set_balances([1, 0, 0])
    stage.rebalance([1, 0, 0])


def test_reverts_without_value_after(stage: Stage):
    stage.refuses("no value", [0, 0, 0])
    stage.refuses("balance fell by more than sent", [0, 0, 1])


# What is sent


def test_sends_no_more_than_what_is_above_target(stage: Stage):
    stage.rebalance(ON_TARGET, sells=ALL)
    assert stage.evm.events("Rebalanced")[0].fields["sells"] == tuple(ALL)  # as called with
    assert stage.balances(stage.executor.address) == usd(100 * K, 0, 0)


def test_sends_no_more_than_asked(stage: Stage):
    stage.rebalance(usd(560 * K, 270 * K, 170 * K), sells=usd(40 * K, 0, 0))
    assert stage.balances(stage.executor.address) == usd(40 * K, 0, 0)


# The record


def test_emits_what_the_head_is_the_hash_of(stage: Stage):
    head, after = stage.head(), usd(540 * K, 280 * K, 180 * K)
    sells = [2**255, 7, 0]
    stage.rebalance(after, sells=sells)
    event = stage.evm.events("Rebalanced")[0]
    assert event.fields == {
        "keeper": KEEPER,
        "previous_head": head,
        "kind": 2,
        "session": 1,
        "time": stage.evm.now,
        "supply": 10**24,
        "flow_sequence": 0,
        "prices": PRICES,
        "balances_before": tuple(OUT_OF_BAND),
        "balances_after": tuple(after),
        "sells": tuple(sells),
        "executor": stage.executor.address.lower(),
        "payload_hash": keccak(stage.payload(after)),
        "decision": DECISION,
    }
    entry = encode(ENTRY, list(event.fields.values())[1:])
    assert stage.head() == keccak(entry)


def test_a_refused_rebalance_leaves_the_head(stage: Stage):
    head = stage.head()
    stage.refuses("not keeper", ON_TARGET, STRANGER)
    assert stage.head() == head
    stage.rebalance(ON_TARGET)
    assert stage.head() != head


def test_closes_with_an_event_that_is_no_entry(stage: Stage):
    stage.rebalance(ON_TARGET)
    vault = stage.vault.address.lower()
    of_the_vault = [event for event in stage.evm.events() if event.address.lower() == vault]
    assert [event.name for event in of_the_vault] == ["SessionClosed", "Rebalanced"]
    assert of_the_vault[0].fields == {"session": 1}
    assert stage.head() == keccak(encode(ENTRY, list(of_the_vault[1].fields.values())[1:]))


def test_an_executor_without_code_reverts(stage: Stage):
    with reverts("0x"):
        stage.rebalance(ON_TARGET, executor=STRANGER)
    stage.rebalance(ON_TARGET)
