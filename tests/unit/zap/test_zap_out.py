import pytest
from brownie import ZERO_ADDRESS, chain, reverts

from offchain.planner.payload import SwapV2, Sweep, encode

WHOLE = 10**18
FOREVER = 2**40


@pytest.fixture
def payload(pair, cash, stock):
    """All stock to cash, all cash to the zap."""
    swap = SwapV2(pair.address, stock.address, 1, 0, 30, pair.token0() == stock.address, whole_balance=True)
    return encode([swap, Sweep(cash.address)])


@pytest.fixture
def zap_out(zap, vault, cash, payload, receiver, deployer):
    """The deployer owns all shares of the vault."""
    vault.approve(zap, 10 * WHOLE, {"from": deployer})

    def call(token=cash, shares=10 * WHOLE, payload=payload, min_amount=0, to=receiver, deadline=FOREVER):
        return zap.zap_out(vault, shares, token, payload, min_amount, to, deadline, {"from": deployer})

    return call


def test_pays_the_token_to_the_receiver(zap_out, vault, cash, receiver, deployer, is_empty):
    amount = zap_out().events["ZappedOut"]["amount"]
    assert cash.balanceOf(receiver) == amount
    assert 19.9 * WHOLE < amount < 20 * WHOLE
    assert vault.balanceOf(deployer) == 90 * WHOLE
    assert is_empty()


def test_returns_other_leftovers_to_the_caller(zap_out, cash, stock, receiver, deployer, is_empty):
    before = stock.balanceOf(deployer)
    zap_out(payload=b"")
    assert cash.balanceOf(receiver) == 10 * WHOLE
    assert stock.balanceOf(deployer) == before + 20 * WHOLE
    assert is_empty()


def test_emits_the_flow(zap_out, vault, cash, receiver, deployer):
    tx = zap_out()
    assert dict(tx.events["ZappedOut"]) == {
        "vault": vault,
        "caller": deployer,
        "receiver": receiver,
        "token": cash,
        "shares": 10 * WHOLE,
        "amount": cash.balanceOf(receiver),
    }


def test_accepts_exactly_the_minimum(zap_out):
    with reverts("too little paid"):
        zap_out(payload=b"", min_amount=10 * WHOLE + 1)
    assert zap_out(payload=b"", min_amount=10 * WHOLE).events["ZappedOut"]["amount"] == 10 * WHOLE


def test_pays_nothing_of_a_token_it_never_got(zap_out, silent, cash, receiver, deployer, is_empty):
    before = cash.balanceOf(deployer)
    assert zap_out(token=silent, payload=b"").events["ZappedOut"]["amount"] == 0
    assert cash.balanceOf(deployer) == before + 10 * WHOLE
    assert is_empty()


def test_reverts_after_the_deadline(zap_out):
    with reverts("deadline passed"):
        zap_out(deadline=chain[-1].timestamp - 1)


def test_reverts_on_a_zero_receiver(zap_out):
    with reverts("zero receiver"):
        zap_out(to=ZERO_ADDRESS)


def test_reverts_without_allowance_for_the_shares(zap_out):
    with reverts():
        zap_out(shares=10 * WHOLE + 1)


def test_reverts_for_shares_of_somebody_else(zap, vault, cash, payload, depositor, zap_out):
    """The deployer approved the zap; another caller cannot use that."""
    with reverts():
        zap.zap_out(vault, WHOLE, cash, payload, 0, depositor, FOREVER, {"from": depositor})
