import pytest

from offchain.planner.payload import SwapV2, SwapV3, encode
from tests.support.basket import units_of
from tests.support.evm import Reverted, artifact
from tests.support.venue import FOREVER, V2_FEE_BPS, call_data, is_token0, send
from tests.support.world import WAD

AMOUNT = 6 * WAD
NO_SIGNATURE = (27, bytes(32), bytes(32))


@pytest.fixture
def route(pair, pool, cash, weird):
    swaps = [
        SwapV3(pool.address, weird.address, 1, 0, is_token0(pool, weird), whole_balance=True),
        SwapV2(pair.address, cash.address, 6 * WAD, 0, V2_FEE_BPS, is_token0(pair, cash)),
    ]
    return encode(swaps)


@pytest.fixture(autouse=True)
def funds(weird, depositor, attacker):
    for account in (depositor.address, attacker):
        weird.call("mint", account, 10 * WAD)


@pytest.fixture
def signature(sign, weird, zap):
    return sign(weird, zap, AMOUNT, FOREVER)


@pytest.fixture
def zap_in(zap, vault, weird, route, signature, receiver, depositor):
    def call(token=weird, amount=AMOUNT, deadline=FOREVER, signature=signature, sender=depositor.address):
        args = (vault.address, token.address, amount, route, [], 0, receiver, deadline, *signature)
        return zap.call("zap_in_with_permit", *args, sender=sender)

    return call


@pytest.fixture
def refuses(zap_in):
    def call(reason, **changes):
        with pytest.raises(Reverted) as refusal:
            zap_in(**changes)
        assert refusal.value.reason == reason

    return call


def test_needs_no_allowance(zap_in, zap, vault, weird, receiver, depositor, is_empty):
    assert weird.call("allowance", depositor.address, zap.address) == 0
    shares = zap_in()
    assert vault.call("balanceOf", receiver) == shares > 11.9 * WAD
    assert units_of(weird, depositor.address) == 4 * WAD
    assert weird.call("allowance", depositor.address, zap.address) == 0
    assert is_empty()


def test_emits_the_flow(evm, zap_in, vault, weird, depositor, receiver):
    shares = zap_in()
    assert [event.fields for event in evm.events("ZappedIn")] == [
        {
            "vault": vault.address,
            "caller": depositor.address.lower(),
            "receiver": receiver,
            "token": weird.address.lower(),
            "amount": AMOUNT,
            "shares": shares,
        }
    ]


def test_works_when_somebody_used_the_permit_first(
    zap_in, refuses, zap, weird, depositor, attacker, signature
):
    permit = (depositor.address, zap.address, AMOUNT, FOREVER, *signature)
    weird.call("permit", *permit, sender=attacker)
    assert zap_in() > 11.9 * WAD
    refuses("permit failed")  # once


def test_reverts_when_neither_permit_nor_allowance_is_there(zap_in, refuses, zap, weird, depositor):
    refuses("permit failed", signature=NO_SIGNATURE)
    send(weird, "approve", zap.address, AMOUNT - 1, sender=depositor.address)
    refuses("permit failed", signature=NO_SIGNATURE)
    for amount in (0, AMOUNT):
        send(weird, "approve", zap.address, amount, sender=depositor.address)
    zap_in(signature=NO_SIGNATURE)


def test_takes_a_token_without_permit_that_is_approved(zap, vault, pair, cash, receiver, depositor):
    cash.call("mint", depositor.address, 10 * WAD)
    cash.call("approve", zap.address, 10 * WAD, sender=depositor.address)
    swap = SwapV2(pair.address, cash.address, 5 * WAD, 0, V2_FEE_BPS, is_token0(pair, cash))
    args = (vault.address, cash.address, 10 * WAD, encode([swap]), [], 0, receiver, FOREVER, *NO_SIGNATURE)
    assert zap.call("zap_in_with_permit", *args, sender=depositor.address) > 9.9 * WAD


def test_reverts_for_somebody_elses_permit(refuses, weird, attacker, depositor):
    refuses("permit failed", sender=attacker)
    assert units_of(weird, depositor.address) == 10 * WAD


def test_reverts_for_another_amount_or_deadline(refuses):
    refuses("permit failed", amount=AMOUNT + 1)
    refuses("permit failed", deadline=FOREVER - 1)


def test_reverts_after_the_deadline(evm, zap_in, refuses, sign, weird, zap):
    late = evm.now - 1
    refuses("permit failed", deadline=late, signature=sign(weird, zap, AMOUNT, late))
    zap_in(deadline=evm.now, signature=sign(weird, zap, AMOUNT, evm.now))


def test_reverts_after_the_deadline_with_an_allowance(evm, refuses, zap, weird, depositor):
    send(weird, "approve", zap.address, AMOUNT, sender=depositor.address)
    refuses("deadline passed", deadline=evm.now - 1)


def test_cannot_be_reentered_by_its_vault(evm, zap, weird, signature, receiver, depositor):
    hostile, other = (evm.deploy(artifact("WeirdVault")) for _ in range(2))
    hostile.call("set_answers", [weird.address], [1], 1, [1])
    inner = (other.address, 0, 0, weird.address, b"", [], 0, receiver, FOREVER)
    hostile.call("set_call", zap.address, call_data(zap, "zap_out", *inner))
    hostile.call("make_call")
    assert hostile.call("called")  # by itself the call is fine

    args = (hostile.address, weird.address, AMOUNT, b"", [], 0, receiver, FOREVER, *signature)
    zap.call("zap_in_with_permit", *args, sender=depositor.address)
    assert not hostile.call("called")
