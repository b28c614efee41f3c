"""`execute` runs the order of the running fill, for its vault, and calls the filler back before it charges."""

from __future__ import annotations

import pytest
from eth_abi import encode
from eth_utils.crypto import keccak

from tests.support.evm import Contract, Reverted
from tests.unit.auction.stage import (
    FILLER,
    MANY,
    RECEIVER,
    STRANGER,
    VICTIM,
    ZERO,
    Stage,
    order_bytes,
    reverts,
)

PAY, PAY_NOTHING, WRONG_ANSWER, CALL, PAY_DIRECTLY = range(5)
DATA = b"which route to take"
SOLD, OWED = 10_000 * 10**6, 99 * 10**8  # 10,000 USD for 9,900


@pytest.fixture
def contract_filler(open_stage: Stage) -> Contract:
    """A contract with tokens and, until its callback, no allowance."""
    filler = open_stage.deploy("Filler")
    for token in open_stage.tokens:
        token.call("set_balance", filler.address, 10**30)
    return filler


def fill(stage: Stage, filler: Contract, data: bytes = DATA, receiver: str = "") -> tuple[int, int]:
    pair = (stage.tokens[0].address, stage.tokens[1].address)
    there = receiver or filler.address
    sold, paid = filler.call(
        "fill", stage.auction.address, stage.vault.address, 1, *pair, SOLD, MANY, there, data, sender=STRANGER
    )
    return sold, paid


# ---------------------------------------------------------------- who may call, and with what


@pytest.mark.parametrize("caller", [STRANGER, FILLER, VICTIM])
def test_reverts_when_no_fill_runs(open_stage: Stage, caller: str) -> None:
    """For nothing, and for an order against somebody who has approved tokens."""
    stage = open_stage
    forged = order_bytes(stage, vault=caller, filler=FILLER, sold=0, owed=1)
    for payload in (b"", bytes(32), forged):
        with reverts("not the running fill"):
            stage.auction.call("execute", payload, sender=caller)


def test_reverts_for_an_order_that_has_run(open_stage: Stage) -> None:
    stage = open_stage
    sold, owed = stage.fill(0, 1, SOLD)
    ran = order_bytes(stage, vault=stage.vault.address, filler=FILLER, sold=sold, owed=owed)
    with reverts("not the running fill"):
        stage.auction.call("execute", ran, sender=STRANGER)


def test_the_payload_is_the_order(open_stage: Stage) -> None:
    """What the audit entry hashes is the order as the specification encodes it."""
    stage = open_stage
    sold, owed = stage.fill(0, 1, SOLD)
    (entry,) = [e.fields for e in stage.evm.events("Rebalanced")]
    order = order_bytes(stage, vault=stage.vault.address, filler=FILLER, sold=sold, owed=owed)
    assert entry["payload_hash"] == keccak(order)


# ---------------------------------------------------------------- the callback


def test_calls_the_filler_when_there_is_data(open_stage: Stage, contract_filler: Contract) -> None:
    """It has the tokens by then, and learns what it owes; the allowance may come from the callback."""
    stage, filler = open_stage, contract_filler
    before = stage.balance(0, filler.address)
    assert fill(stage, filler) == (SOLD, OWED)
    told = {name: filler.call(name) for name in ("caller", "sell", "sold", "buy", "owed", "data", "held")}
    assert told == {
        "caller": stage.auction.address.lower(),
        "sell": stage.tokens[0].address.lower(),
        "sold": SOLD,
        "buy": stage.tokens[1].address.lower(),
        "owed": OWED,
        "data": DATA,
        "held": before + SOLD,
    }


def test_the_receiver_has_the_tokens_before_the_callback(
    open_stage: Stage, contract_filler: Contract
) -> None:
    fill(open_stage, contract_filler, receiver=RECEIVER)
    assert open_stage.balance(0, RECEIVER) == SOLD
    assert contract_filler.call("held") == 10**30


def test_does_not_call_the_filler_without_data(open_stage: Stage, contract_filler: Contract) -> None:
    contract_filler.call("approve", open_stage.tokens[1].address, open_stage.auction.address, OWED)
    assert fill(open_stage, contract_filler, data=b"") == (SOLD, OWED)
    assert contract_filler.call("caller") == ZERO


def test_passes_as_much_data_as_the_interface_allows(open_stage: Stage, contract_filler: Contract) -> None:
    assert fill(open_stage, contract_filler, data=b"\xab" * 4_096) == (SOLD, OWED)
    assert contract_filler.call("data") == b"\xab" * 4_096


def test_reverts_when_the_filler_does_not_answer(open_stage: Stage, contract_filler: Contract) -> None:
    contract_filler.call("set_mode", WRONG_ANSWER)
    with reverts("filler did not answer"):
        fill(open_stage, contract_filler)


def test_reverts_when_an_account_without_code_gives_data(open_stage: Stage) -> None:
    open_stage.refuses("0x", data=DATA)


def test_reverts_when_the_filler_does_not_pay(open_stage: Stage, contract_filler: Contract) -> None:
    contract_filler.call("set_mode", PAY_NOTHING)
    with pytest.raises(Reverted):
        fill(open_stage, contract_filler)
    contract_filler.call("set_mode", PAY)
    assert fill(open_stage, contract_filler) == (SOLD, OWED)


def test_tokens_that_the_filler_sends_by_itself_do_not_count(
    open_stage: Stage, contract_filler: Contract
) -> None:
    """They are the vault's: what is owed is pulled all the same."""
    contract_filler.call("set_mode", PAY_DIRECTLY)
    with pytest.raises(Reverted):
        fill(open_stage, contract_filler)
    contract_filler.call("approve", open_stage.tokens[1].address, open_stage.auction.address, OWED)
    before = open_stage.balance(1, open_stage.vault.address)
    fill(open_stage, contract_filler)
    assert open_stage.balance(1, open_stage.vault.address) == before + 2 * OWED


def test_charges_the_caller_of_fill_and_not_the_receiver(open_stage: Stage) -> None:
    stage = open_stage
    stage.tokens[1].call("set_balance", VICTIM, 10**12)
    stage.tokens[1].call("approve", stage.auction.address, MANY, sender=VICTIM)
    before = stage.balance(1, FILLER)
    assert stage.fill(0, 1, SOLD, receiver=VICTIM) == (SOLD, OWED)
    assert stage.balance(1, FILLER) == before - OWED
    assert stage.balance(1, VICTIM) == 10**12


def test_data_beyond_the_interface_is_refused(open_stage: Stage) -> None:
    assert len(encode(["bytes"], [b"\0" * 4_096])) == 4_160
    open_stage.refuses("0x", data=b"\0" * 4_097)
