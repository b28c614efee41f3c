"""Attack: depositors have approved tokens and shares to the zap, which is what an attacker wants."""

import pytest

from offchain.planner.payload import Call, encode
from tests.support.basket import units_of
from tests.support.evm import Reverted, artifact
from tests.support.venue import FOREVER, MAX, call_data, send
from tests.support.world import WAD

HOOK = 2_048


@pytest.fixture(autouse=True)
def treasure(cash, vault, zap, depositor):
    cash.call("mint", depositor.address, 100 * WAD)
    vault.call("transfer", depositor.address, 100 * WAD)
    for token in (cash, vault):
        token.call("approve", zap.address, MAX, sender=depositor.address)
    yield
    assert cash.call("balanceOf", depositor.address) == 100 * WAD
    assert vault.call("balanceOf", depositor.address) == 100 * WAD


@pytest.fixture
def hostile(evm, cash):
    """A vault that says whatever helps."""
    made = evm.deploy(artifact("WeirdVault"))
    made.call("set_answers", [cash.address], [1], 1, [MAX])
    return made


def refuses(reason, contract, name, *args, sender):
    with pytest.raises(Reverted) as refusal:
        contract.call(name, *args, sender=sender)
    assert refusal.value.reason == reason


def test_another_caller_cannot_use_them(zap, vault, cash, attacker):
    args = (vault.address, cash.address, WAD, b"", [], 0, attacker, FOREVER)
    refuses("insufficient allowance", zap, "zap_in", *args, sender=attacker)
    args = (vault.address, WAD, 0, cash.address, b"", [], 0, attacker, FOREVER)
    refuses("allowance too low", zap, "zap_out", *args, sender=attacker)


def test_a_payload_cannot_use_them(zap, executor, vault, cash, attacker, depositor):
    """The executor calls what the payload says, but it is not the zap."""
    for token, reason in ((cash, "insufficient allowance"), (vault, "allowance too low")):
        take = call_data(token, "transferFrom", depositor.address, attacker, WAD)
        payload = encode([Call(token.address, take)])
        args = (vault.address, cash.address, 0, payload, [], 0, attacker, FOREVER)
        refuses(reason, zap, "zap_in", *args, sender=attacker)
    inner = call_data(zap, "zap_in", vault.address, cash.address, WAD, b"", [], 0, attacker, FOREVER)
    args = (vault.address, cash.address, 0, encode([Call(zap.address, inner)]), [], 0, attacker, FOREVER)
    refuses("0x", zap, "zap_in", *args, sender=attacker)  # the lock
    refuses(
        "insufficient allowance", executor, "execute", encode([Call(zap.address, inner)]), sender=attacker
    )


def test_a_hostile_vault_keeps_no_allowance_of_the_zap(zap, hostile, cash, attacker, depositor):
    """It was allowed everything while it minted, and took nothing then."""
    cash.call("mint", attacker, 1)
    cash.call("approve", zap.address, 1, sender=attacker)
    args = (hostile.address, cash.address, 1, b"", [], 0, attacker, FOREVER)
    zap.call("zap_in", *args, sender=attacker)
    assert cash.call("allowance", zap.address, hostile.address) == 0
    cash.call("mint", zap.address, 5)
    refuses("insufficient allowance", hostile, "take", cash.address, zap.address, 5, sender=attacker)
    refuses("insufficient allowance", hostile, "take", cash.address, depositor.address, 5, sender=attacker)


def test_a_hostile_vault_gets_no_more_than_its_caller_brought(zap, hostile, cash, attacker):
    cash.call("mint", attacker, 7)
    cash.call("approve", zap.address, 7, sender=attacker)
    hostile.call("set_takes", [8])
    args = (hostile.address, cash.address, 7, b"", [], 0, attacker, FOREVER)
    refuses("insufficient balance", zap, "zap_in", *args, sender=attacker)
    hostile.call("set_takes", [7])
    zap.call("zap_in", *args, sender=attacker)
    assert units_of(cash, hostile.address) == 7


def test_a_token_as_the_vault_moves_nothing(zap, cash, attacker):
    args = (cash.address, WAD, 0, cash.address, b"", [], 0, attacker, FOREVER)
    refuses("0x", zap, "zap_out", *args, sender=attacker)
    refuses("permit failed", zap, "zap_out_with_permit", *args, 27, bytes(32), bytes(32), sender=attacker)


def test_a_hostile_token_cannot_reenter(evm, zap, hostile, cash, weird, attacker):
    inner = (hostile.address, 0, 0, cash.address, b"", [], 0, attacker, FOREVER)
    weird.call("set_weird", HOOK)
    weird.call("set_call", zap.address, call_data(zap, "zap_out", *inner))
    weird.call("mint", attacker, 10)
    send(weird, "transfer", attacker, 1, sender=attacker)
    assert (weird.call("calls"), weird.call("successes")) == (1, 1)  # by itself the call is fine

    send(weird, "approve", zap.address, 10, sender=attacker)
    args = (hostile.address, weird.address, 10, b"", [], 0, attacker, FOREVER)
    cash.call("mint", zap.address, 1)
    zap.call("zap_in", *args, sender=attacker)
    assert (weird.call("calls"), weird.call("successes")) == (4, 1)  # in, to the zap, back


def test_what_foreign_code_takes_from_the_executor_the_minimum_finds(
    evm, zap, executor, vault, cash, weird, attacker
):
    """Anyone makes the executor approve; a token on the way that runs foreign code then lets it be used."""
    thief = evm.deploy(artifact("WeirdVault"))
    approve = encode([Call(cash.address, call_data(cash, "approve", thief.address, MAX))])
    executor.call("execute", approve, sender=attacker)
    weird.call("set_weird", HOOK)
    weird.call("set_call", thief.address, call_data(thief, "take", cash.address, executor.address, 1))
    weird.call("mint", executor.address, 5)

    caller = "0x" + "ca" * 20
    vault.call("transfer", caller, 20 * WAD)
    vault.call("approve", zap.address, 20 * WAD, sender=caller)
    payload = encode([Call(weird.address, call_data(weird, "transfer", caller, 5))])
    args = [vault.address, 20 * WAD, 0, cash.address, payload, [], 10 * WAD, caller, FOREVER]
    refuses("too little paid", zap, "zap_out", *args, sender=caller)
    weird.call("set_weird", 0)
    assert zap.call("zap_out", *args, sender=caller) == 10 * WAD
