import pytest

from offchain.planner.payload import SwapV2, SwapV3, Sweep, encode
from tests.support.basket import Basket, units_of
from tests.support.evm import Reverted, artifact
from tests.support.venue import FOREVER, V2_FEE_BPS, call_data, is_token0, send
from tests.support.world import WAD

SILENT, FALSE_ON_FAILURE, FEE, NO_ZERO, ZERO_FIRST, PAUSED, APPROVE_FALSE = 1, 2, 32, 128, 256, 512, 65_536
NOBODY = "0x" + "00" * 20


@pytest.fixture
def payload(pair, cash):
    """Half of 10 cash to stock; what is left of the cash goes to the zap."""
    swap = SwapV2(pair.address, cash.address, 5 * WAD, 0, V2_FEE_BPS, is_token0(pair, cash), to_caller=True)
    return encode([swap, Sweep(cash.address)])


@pytest.fixture
def route(pair, pool, cash, weird):
    """Weird to cash, and 6 of the cash to stock: cash and stock are left at the executor."""
    swaps = [
        SwapV3(pool.address, weird.address, 1, 0, is_token0(pool, weird), whole_balance=True),
        SwapV2(pair.address, cash.address, 6 * WAD, 0, V2_FEE_BPS, is_token0(pair, cash)),
    ]
    return encode(swaps)


@pytest.fixture(autouse=True)
def funds(cash, weird, zap, depositor):
    for token in (cash, weird):
        send(token, "mint", depositor.address, 10 * WAD)
        send(token, "approve", zap.address, 10 * WAD, sender=depositor.address)


@pytest.fixture
def zap_in(zap, vault, cash, payload, receiver, depositor):
    def call(
        token=cash,
        amount=10 * WAD,
        payload=payload,
        via=(),
        min_shares=0,
        to=receiver,
        deadline=FOREVER,
        of=vault,
        sender=depositor.address,
    ):
        tokens = [token.address for token in via]
        args = (of.address, token.address, amount, payload, tokens, min_shares, to, deadline)
        return zap.call("zap_in", *args, sender=sender)

    return call


@pytest.fixture
def refuses(zap_in):
    def call(reason, **changes):
        with pytest.raises(Reverted) as refusal:
            zap_in(**changes)
        assert refusal.value.reason == reason

    return call


def test_mints_what_the_assets_allow(zap_in, vault, receiver, is_empty):
    shares = zap_in()
    assert vault.call("balanceOf", receiver) == shares
    assert 9.96 * WAD < shares < 10 * WAD
    assert is_empty()


def test_asks_for_no_share_that_it_cannot_pay(zap_in, vault, cash, stock, executor, depositor):
    """Behind a unit of a share lie a thousand units of cash: the last ones pay for none."""
    cash.call("mint", vault.address, 199_900 * WAD)
    stock.call("mint", executor.address, 50 * WAD)
    assert zap_in(amount=5_999, payload=encode([Sweep(stock.address)])) == 5
    assert units_of(cash, depositor.address) == 10 * WAD - 5_000


def test_returns_leftovers_to_the_caller(zap_in, cash, stock, depositor, receiver):
    zap_in()
    assert 0 < units_of(cash, depositor.address) < 0.02 * WAD  # the stock was the scarce one
    assert units_of(stock, depositor.address) <= 2  # wei
    assert units_of(cash, receiver) == units_of(stock, receiver) == 0


def test_returns_what_the_payload_left_at_the_executor(zap_in, pair, cash, depositor, is_empty):
    swap = SwapV2(pair.address, cash.address, 5 * WAD, 0, V2_FEE_BPS, is_token0(pair, cash))
    zap_in(payload=encode([swap]))  # neither output nor rest are sent on
    assert 0 < units_of(cash, depositor.address) < 0.02 * WAD
    assert is_empty()


def test_takes_any_token_by_any_route(zap_in, route, weird, vault, receiver, depositor, is_empty):
    shares = zap_in(token=weird, payload=route, amount=6 * WAD)  # 12 cash
    assert vault.call("balanceOf", receiver) == shares
    assert 11.9 * WAD < shares < 12 * WAD
    assert units_of(weird, depositor.address) == 4 * WAD
    assert is_empty()


def test_returns_a_token_that_was_not_used(zap_in, weird, cash, stock, executor, depositor, is_empty):
    cash.call("mint", executor.address, WAD)
    stock.call("mint", executor.address, 2 * WAD)
    assert zap_in(token=weird, amount=50, payload=b"") == 2 * WAD
    assert units_of(weird, depositor.address) == 10 * WAD
    assert is_empty()


@pytest.fixture
def stock_vault(evm, stock, weird):
    """Of stock and weird, so that cash is only on the way."""
    return Basket(evm, [stock, weird], [WAD // 2, 2 * WAD]).create([200 * WAD, 50 * WAD])


@pytest.mark.parametrize("is_named", [True, False])
def test_returns_what_is_left_of_a_token_on_the_way(
    zap_in, stock_vault, pair, pool, cash, weird, depositor, zap, executor, is_named
):
    route = [
        SwapV3(pool.address, weird.address, 2 * WAD, 0, is_token0(pool, weird)),
        SwapV2(pair.address, cash.address, 3 * WAD, 0, V2_FEE_BPS, is_token0(pair, cash)),
    ]
    before = units_of(cash, depositor.address)
    zap_in(token=weird, payload=encode(route), of=stock_vault, via=[cash] if is_named else [])
    left = units_of(cash, depositor.address) - before
    lost = units_of(cash, executor.address)
    if is_named:
        assert 0.9 * WAD < left < WAD
        assert (lost, units_of(cash, zap.address)) == (0, 0)
    else:
        assert left == 0
        assert 0.9 * WAD < lost < WAD


def test_emits_the_flow(evm, zap_in, zap, vault, cash, depositor, receiver):
    shares = zap_in()
    (event,) = evm.events("ZappedIn")
    assert event.address.lower() == zap.address.lower()
    assert event.fields == {
        "vault": vault.address,
        "caller": depositor.address.lower(),
        "receiver": receiver,
        "token": cash.address.lower(),
        "amount": 10 * WAD,
        "shares": shares,
    }


def test_accepts_exactly_the_minimum(evm, zap_in, refuses):
    before = evm.snapshot()
    shares = zap_in()
    evm.revert(before)
    refuses("too few shares", min_shares=shares + 1)
    assert zap_in(min_shares=shares) == shares


def test_reverts_when_an_asset_is_missing(refuses):
    refuses("too few shares", payload=b"")


def test_reverts_after_the_deadline(evm, zap_in, refuses):
    refuses("deadline passed", deadline=evm.now - 1)
    zap_in(deadline=evm.now)


def test_reverts_on_a_receiver_that_keeps_nothing(refuses, zap, executor, vault):
    for to in (NOBODY, zap.address, executor.address, vault.address):
        refuses("receiver not allowed", to=to)


def test_reverts_without_allowance(zap_in, refuses, cash, zap, depositor):
    cash.call("approve", zap.address, 10 * WAD - 1, sender=depositor.address)
    refuses("insufficient allowance")
    cash.call("approve", zap.address, 10 * WAD, sender=depositor.address)
    zap_in()


def test_reverts_when_the_token_returns_false(refuses, weird):
    weird.call("set_weird", FALSE_ON_FAILURE | PAUSED)
    refuses("transfer failed", token=weird)


def test_reverts_when_an_approval_returns_false(zap_in, refuses, stock_vault, weird, stock, executor):
    stock.call("mint", executor.address, 40 * WAD)
    weird.call("set_weird", APPROVE_FALSE)
    refuses("approve failed", token=weird, payload=b"", of=stock_vault)
    weird.call("set_weird", 0)
    assert zap_in(token=weird, payload=b"", of=stock_vault) == 40 * WAD


def test_keeps_nothing_of_a_token_with_a_fee(zap_in, weird, cash, stock, executor, depositor, is_empty):
    cash.call("mint", executor.address, WAD)
    stock.call("mint", executor.address, 2 * WAD)
    weird.call("set_weird", FEE)  # on the way to the executor, to the zap and back
    assert zap_in(token=weird, amount=10_000, payload=b"") == 2 * WAD
    assert units_of(weird, depositor.address) == 10 * WAD - 10_000 + 9_703
    assert is_empty()


def test_approves_tokens_that_want_a_zero_allowance_first(zap_in, stock_vault, weird, stock, executor, zap):
    weird.call("set_weird", SILENT | ZERO_FIRST)
    for _ in range(2):
        stock.call("mint", executor.address, 4 * WAD)
        assert zap_in(token=weird, amount=WAD, payload=b"", of=stock_vault) == 4 * WAD
        assert weird.call("allowance", zap.address, stock_vault.address) == 0


def test_does_without_an_asset_that_the_vault_holds_none_of(
    zap_in, stock_vault, weird, stock, executor, depositor
):
    """Nothing of it is asked, approved or moved."""
    weird.call("seize", stock_vault.address, 50 * WAD)
    weird.call("set_weird", NO_ZERO)
    stock.call("mint", executor.address, 4 * WAD)
    assert zap_in(token=stock, amount=0, payload=b"", of=stock_vault, via=[weird]) == 4 * WAD
    assert units_of(weird, depositor.address) == 10 * WAD


def test_cannot_be_reentered_by_its_vault(evm, zap_in, zap, cash, depositor):
    hostile, other = (evm.deploy(artifact("WeirdVault")) for _ in range(2))
    hostile.call("set_answers", [cash.address], [1], 1, [1])
    inner = (other.address, 0, 0, cash.address, b"", [], 0, depositor.address, FOREVER)
    hostile.call("set_call", zap.address, call_data(zap, "zap_out", *inner))
    hostile.call("make_call")
    assert hostile.call("called")  # by itself the call is fine

    zap_in(of=hostile)
    assert not hostile.call("called")
