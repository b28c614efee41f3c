import pytest
from brownie import ZERO_ADDRESS, chain, reverts

from offchain.planner.payload import SwapV2, Sweep, encode

WHOLE = 10**18
FOREVER = 2**40


@pytest.fixture
def payload(pair, cash, stock):
    """Half of 10 cash to stock; what is left of the cash goes to the zap."""
    swap = SwapV2(pair.address, cash.address, 5 * WHOLE, 0, 30, pair.token0() == cash.address, to_caller=True)
    return encode([swap, Sweep(cash.address)])


@pytest.fixture(autouse=True)
def funds(cash, zap, depositor, deployer):
    cash.mint(depositor, 10 * WHOLE, {"from": deployer})
    cash.approve(zap, 10 * WHOLE, {"from": depositor})


@pytest.fixture
def zap_in(zap, vault, cash, payload, receiver, depositor):
    def call(token=cash, amount=10 * WHOLE, payload=payload, min_shares=0, to=receiver, deadline=FOREVER):
        return zap.zap_in(vault, token, amount, payload, min_shares, to, deadline, {"from": depositor})

    return call


def test_mints_what_the_assets_allow(zap_in, vault, receiver, is_empty):
    shares = zap_in().events["ZappedIn"]["shares"]
    assert vault.balanceOf(receiver) == shares
    assert 4.98 * WHOLE < shares < 5 * WHOLE
    assert is_empty()


def test_returns_leftovers_to_the_caller(zap_in, cash, stock, depositor, receiver):
    zap_in()
    assert 0 < cash.balanceOf(depositor) < 0.02 * WHOLE  # the stock was the scarce one
    assert stock.balanceOf(depositor) <= 2  # wei
    assert cash.balanceOf(receiver) == stock.balanceOf(receiver) == 0


def test_returns_what_the_payload_left_at_the_executor(zap_in, pair, cash, depositor, is_empty):
    swap = SwapV2(pair.address, cash.address, 5 * WHOLE, 0, 30, pair.token0() == cash.address)
    zap_in(payload=encode([swap]))  # neither output nor rest are sent on
    assert 0 < cash.balanceOf(depositor) < 0.02 * WHOLE
    assert is_empty()


def test_emits_the_flow(zap_in, vault, cash, depositor, receiver):
    tx = zap_in()
    assert dict(tx.events["ZappedIn"]) == {
        "vault": vault,
        "caller": depositor,
        "receiver": receiver,
        "token": cash,
        "amount": 10 * WHOLE,
        "shares": vault.balanceOf(receiver),
    }


def test_accepts_exactly_the_minimum(zap_in, zap, vault, cash, payload, receiver, depositor):
    args = (vault, cash, 10 * WHOLE, payload, 0, receiver, FOREVER)
    shares = zap.zap_in.call(*args, {"from": depositor})
    with reverts("too few shares"):
        zap_in(min_shares=shares + 1)
    assert zap_in(min_shares=shares).events["ZappedIn"]["shares"] == shares


def test_reverts_when_an_asset_is_missing(zap_in):
    with reverts("too few shares"):
        zap_in(payload=b"")


def test_reverts_after_the_deadline(zap_in):
    with reverts("deadline passed"):
        zap_in(deadline=chain[-1].timestamp - 1)


def test_reverts_on_a_zero_receiver(zap_in):
    with reverts("zero receiver"):
        zap_in(to=ZERO_ADDRESS)


def test_reverts_without_allowance(zap_in, cash, zap, depositor):
    cash.approve(zap, 10 * WHOLE - 1, {"from": depositor})
    with reverts("insufficient allowance"):
        zap_in()


def test_returns_a_token_that_is_no_asset(
    zap_in, zap, executor, silent, cash, stock, depositor, deployer, is_empty
):
    cash.mint(executor, WHOLE, {"from": deployer})
    stock.mint(executor, 2 * WHOLE, {"from": deployer})
    silent.mint(depositor, 50, {"from": deployer})
    silent.approve(zap, 50, {"from": depositor})
    assert zap_in(token=silent, amount=50, payload=b"").events["ZappedIn"]["shares"] == WHOLE
    assert silent.balanceOf(depositor) == 50
    assert silent.balanceOf(zap) == silent.balanceOf(executor) == 0
    assert is_empty()


def test_approves_tokens_that_want_a_zero_allowance_first(
    InKindVault, zap, executor, silent, cash, depositor, deployer
):
    vault = deployer.deploy(InKindVault, [silent, cash], 100 * WHOLE)
    vault.set_takes_less(True, {"from": deployer})
    silent.mint(vault, 100, {"from": deployer})
    cash.mint(vault, 100 * WHOLE, {"from": deployer})
    for _ in range(2):
        silent.mint(executor, 4, {"from": deployer})
        zap.zap_in(vault, cash, 4 * WHOLE, b"", 0, depositor, FOREVER, {"from": depositor})
        assert silent.allowance(zap, vault) == cash.allowance(zap, vault) == 0
        assert silent.balanceOf(zap) == cash.balanceOf(zap) == 0


def test_cannot_be_reentered_by_its_vault(zap_in, zap, vault, cash, deployer, depositor):
    inner = zap.zap_out.encode_input(vault, 0, cash, b"", 0, depositor, FOREVER)
    vault.set_call(zap, inner, {"from": deployer})
    vault.make_call({"from": deployer})
    assert vault.called()  # by itself the call is fine

    zap_in()
    assert not vault.called()
