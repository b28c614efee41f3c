import pytest

from tests.support.basket import units_of
from tests.support.evm import DEPLOYER, Reverted, artifact
from tests.support.venue import FOREVER, call_data
from tests.support.world import WAD

SHARES = 20 * WAD  # 10 cash and 20 stock
NO_SIGNATURE = (27, bytes(32), bytes(32))


@pytest.fixture
def signature(sign, vault, zap):
    return sign(vault, zap, SHARES, FOREVER)


@pytest.fixture
def zap_out(zap, vault, cash, signature, receiver, depositor):
    """The depositor has SHARES, and has not approved them."""
    vault.call("transfer", depositor.address, SHARES)

    def call(shares=SHARES, skip=0, deadline=FOREVER, signature=signature, sender=depositor.address):
        args = (vault.address, shares, skip, cash.address, b"", [], 0, receiver, deadline, *signature)
        return zap.call("zap_out_with_permit", *args, sender=sender)

    return call


@pytest.fixture
def refuses(zap_out):
    def call(reason, **changes):
        with pytest.raises(Reverted) as refusal:
            zap_out(**changes)
        assert refusal.value.reason == reason

    return call


def test_needs_no_allowance(zap_out, zap, vault, cash, stock, receiver, depositor, is_empty):
    assert zap_out() == 10 * WAD == units_of(cash, receiver)
    assert units_of(stock, depositor.address) == 20 * WAD
    assert vault.call("allowance", depositor.address, zap.address) == 0
    assert is_empty()


def test_leaves_skipped_assets(zap_out, stock, depositor):
    assert zap_out(skip=0b10) == 10 * WAD
    assert units_of(stock, depositor.address) == 0


def test_emits_the_flow(evm, zap_out, vault, cash, depositor, receiver):
    zap_out()
    assert [event.fields for event in evm.events("ZappedOut")] == [
        {
            "vault": vault.address,
            "caller": depositor.address.lower(),
            "receiver": receiver,
            "token": cash.address.lower(),
            "shares": SHARES,
            "amount": 10 * WAD,
        }
    ]


def test_works_when_somebody_used_the_permit_first(
    zap_out, refuses, zap, vault, depositor, attacker, signature
):
    permit = (depositor.address, zap.address, SHARES, FOREVER, *signature)
    vault.call("permit", *permit, sender=attacker)
    assert zap_out() == 10 * WAD
    refuses("permit failed")  # once


def test_reverts_when_neither_permit_nor_allowance_is_there(zap_out, refuses, zap, vault, depositor):
    vault.call("approve", zap.address, SHARES - 1, sender=depositor.address)
    refuses("permit failed", signature=NO_SIGNATURE)
    vault.call("approve", zap.address, SHARES, sender=depositor.address)
    zap_out(signature=NO_SIGNATURE)


def test_reverts_for_somebody_elses_permit(refuses, vault, attacker, depositor):
    vault.call("transfer", attacker, SHARES, sender=DEPLOYER)
    refuses("permit failed", sender=attacker)
    assert vault.call("balanceOf", depositor.address) == SHARES


def test_reverts_for_another_amount_or_deadline(refuses):
    refuses("permit failed", shares=SHARES - 1)
    refuses("permit failed", deadline=FOREVER - 1)


def test_reverts_after_the_deadline(evm, zap_out, refuses, sign, vault, zap, depositor):
    late = evm.now - 1
    refuses("permit failed", deadline=late, signature=sign(vault, zap, SHARES, late))
    vault.call("approve", zap.address, SHARES, sender=depositor.address)
    refuses("deadline passed", deadline=late)
    zap_out(deadline=evm.now)


def test_cannot_be_reentered_by_its_vault(evm, zap, cash, receiver):
    hostile, other = (evm.deploy(artifact("WeirdVault")) for _ in range(2))
    hostile.call("set_allowance", DEPLOYER, zap.address, SHARES)
    inner = (other.address, 0, 0, cash.address, b"", [], 0, receiver, FOREVER)
    hostile.call("set_call", zap.address, call_data(zap, "zap_out", *inner))
    hostile.call("make_call")
    assert hostile.call("called")  # by itself the call is fine

    args = (hostile.address, SHARES, 0, cash.address, b"", [], 0, receiver, FOREVER, *NO_SIGNATURE)
    zap.call("zap_out_with_permit", *args)
    assert not hostile.call("called")
