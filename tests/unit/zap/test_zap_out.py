import pytest

from offchain.planner.payload import SwapV2, SwapV3, Sweep, encode
from tests.support.basket import Basket, units_of
from tests.support.evm import DEPLOYER, Reverted, artifact
from tests.support.venue import FOREVER, V2_FEE_BPS, call_data, is_token0
from tests.support.world import WAD

SHARES = 20 * WAD  # 10 cash and 20 stock
FALSE_ON_FAILURE, FEE, BURNS_GAS, BALANCE_REVERTS = 2, 32, 1_024, 4_096
NOBODY = "0x" + "00" * 20


@pytest.fixture
def payload(pair, cash, stock):
    """All stock to cash, all cash to the zap."""
    swap = SwapV2(pair.address, stock.address, 1, 0, V2_FEE_BPS, is_token0(pair, stock), whole_balance=True)
    return encode([swap, Sweep(cash.address)])


@pytest.fixture
def zap_out(zap, vault, cash, payload, receiver, depositor):
    """The depositor has SHARES, and has approved them."""
    vault.call("transfer", depositor.address, SHARES)
    vault.call("approve", zap.address, SHARES, sender=depositor.address)

    def call(
        token=cash,
        shares=SHARES,
        skip=0,
        payload=payload,
        via=(),
        min_amount=0,
        to=receiver,
        deadline=FOREVER,
        of=vault,
        sender=depositor.address,
    ):
        tokens = [token.address for token in via]
        args = (of.address, shares, skip, token.address, payload, tokens, min_amount, to, deadline)
        return zap.call("zap_out", *args, sender=sender)

    return call


@pytest.fixture
def refuses(zap_out):
    def call(reason, **changes):
        with pytest.raises(Reverted) as refusal:
            zap_out(**changes)
        assert refusal.value.reason == reason

    return call


def test_pays_the_token_to_the_receiver(zap_out, vault, cash, receiver, depositor, is_empty):
    amount = zap_out()
    assert units_of(cash, receiver) == amount
    assert 19.9 * WAD < amount < 20 * WAD
    assert vault.call("balanceOf", depositor.address) == 0
    assert vault.call("allowance", depositor.address, DEPLOYER) == 0
    assert is_empty()


def test_returns_other_leftovers_to_the_caller(zap_out, cash, stock, receiver, depositor, is_empty):
    assert zap_out(payload=b"") == 10 * WAD
    assert units_of(cash, receiver) == 10 * WAD
    assert (units_of(cash, depositor.address), units_of(stock, depositor.address)) == (0, 20 * WAD)
    assert is_empty()


def test_pays_a_token_that_is_no_asset(zap_out, pair, pool, cash, stock, weird, receiver, is_empty):
    route = [
        SwapV2(pair.address, stock.address, 1, 0, V2_FEE_BPS, is_token0(pair, stock), whole_balance=True),
        SwapV3(pool.address, cash.address, 1, 0, is_token0(pool, cash), whole_balance=True),
    ]
    amount = zap_out(token=weird, payload=encode(route))
    assert units_of(weird, receiver) == amount
    assert 9.9 * WAD < amount < 10 * WAD
    assert is_empty()


def test_returns_what_is_left_of_a_token_on_the_way(
    evm, zap_out, pair, pool, cash, stock, weird, zap, executor, depositor
):
    """Stock to cash to weird, out of a vault without cash."""
    other = Basket(evm, [stock, weird], [WAD // 2, 2 * WAD])
    vault = other.create([200 * WAD, 50 * WAD])
    vault.call("transfer", depositor.address, SHARES)
    vault.call("approve", zap.address, SHARES, sender=depositor.address)
    route = [
        SwapV2(pair.address, stock.address, 1, 0, V2_FEE_BPS, is_token0(pair, stock), whole_balance=True),
        SwapV3(pool.address, cash.address, 9 * WAD, 0, is_token0(pool, cash)),
    ]
    zap_out(token=weird, payload=encode(route), of=vault, via=[cash])
    assert 0.9 * WAD < units_of(cash, depositor.address) < WAD
    assert (units_of(cash, zap.address), units_of(cash, executor.address)) == (0, 0)


@pytest.mark.parametrize("weirdness", [BALANCE_REVERTS, BURNS_GAS])
def test_leaves_a_broken_asset_to_the_others(evm, zap, cash, stock, weird, payload, receiver, weirdness):
    """The broken one is not called at all; the rest leaves as one token."""
    basket = Basket(evm, [cash, weird, stock], [WAD, 2 * WAD, WAD // 2])
    vault = basket.create([100 * WAD, 50 * WAD, 200 * WAD])
    shares = vault.call("balanceOf", DEPLOYER) // 10
    part = shares * 100 * WAD // vault.call("totalSupply")  # of the cash
    vault.call("approve", zap.address, shares)
    weird.call("set_weird", weirdness)

    def out(skip):
        args = (vault.address, shares, skip, cash.address, payload, [], 0, receiver, FOREVER)
        return zap.call("zap_out", *args)

    with pytest.raises(Reverted):
        out(0)
    amount = out(0b010)
    assert units_of(cash, receiver) == amount
    assert 1.99 * part < amount < 2 * part
    assert units_of(weird, vault.address) == 50 * WAD
    assert (units_of(weird, zap.address), units_of(weird, DEPLOYER)) == (0, units_of(weird, DEPLOYER))


def test_emits_the_flow(evm, zap_out, zap, vault, cash, receiver, depositor):
    amount = zap_out()
    (event,) = evm.events("ZappedOut")
    assert event.address.lower() == zap.address.lower()
    assert event.fields == {
        "vault": vault.address,
        "caller": depositor.address.lower(),
        "receiver": receiver,
        "token": cash.address.lower(),
        "shares": SHARES,
        "amount": amount,
    }


def test_accepts_exactly_the_minimum(zap_out, refuses):
    refuses("too little paid", payload=b"", min_amount=10 * WAD + 1)
    assert zap_out(payload=b"", min_amount=10 * WAD) == 10 * WAD


def test_measures_the_minimum_at_the_receiver(zap_out, refuses, executor, weird, receiver):
    weird.call("mint", executor.address, 10_000)
    weird.call("set_weird", FEE)  # once from the executor, once to the receiver
    refuses("too little paid", token=weird, payload=b"", min_amount=9_802)
    assert zap_out(token=weird, payload=b"", min_amount=9_801) == 9_801 == units_of(weird, receiver)


def test_does_not_count_what_the_receiver_had(refuses, cash, receiver):
    cash.call("mint", receiver, 100 * WAD)
    refuses("too little paid", payload=b"", min_amount=10 * WAD + 1)


def test_pays_nothing_of_a_token_it_never_got(zap_out, weird, cash, depositor, is_empty):
    assert zap_out(token=weird, payload=b"") == 0
    assert units_of(cash, depositor.address) == 10 * WAD
    assert is_empty()


def test_reverts_when_the_payment_returns_false(refuses, zap_out, weird, executor, receiver):
    weird.call("mint", executor.address, 5)
    weird.call("set_blocked", receiver, True)
    weird.call("set_weird", FALSE_ON_FAILURE)
    refuses("transfer failed", token=weird, payload=b"")
    weird.call("set_blocked", receiver, False)
    assert zap_out(token=weird, payload=b"") == 5


def test_reverts_after_the_deadline(evm, zap_out, refuses):
    refuses("deadline passed", deadline=evm.now - 1)
    zap_out(deadline=evm.now)


def test_reverts_on_a_receiver_that_keeps_nothing(refuses, zap, executor, vault):
    for to in (NOBODY, zap.address, executor.address, vault.address):
        refuses("receiver not allowed", to=to)


def test_reverts_without_allowance_for_the_shares(zap_out, refuses, vault, zap, depositor):
    vault.call("approve", zap.address, SHARES - 1, sender=depositor.address)
    refuses("allowance too low")
    zap_out(shares=SHARES - 1)


def test_reverts_without_the_shares(refuses, vault, zap, depositor):
    vault.call("approve", zap.address, SHARES + 1, sender=depositor.address)
    refuses("balance too low", shares=SHARES + 1)


def test_cannot_be_reentered_by_its_vault(evm, zap_out, zap, cash, depositor):
    hostile, other = (evm.deploy(artifact("WeirdVault")) for _ in range(2))
    inner = (other.address, 0, 0, cash.address, b"", [], 0, depositor.address, FOREVER)
    hostile.call("set_call", zap.address, call_data(zap, "zap_out", *inner))
    hostile.call("make_call")
    assert hostile.call("called")  # by itself the call is fine

    zap_out(of=hostile)
    assert not hostile.call("called")
