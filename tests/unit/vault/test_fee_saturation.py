"""The fee saturates, so that no supply and no length of time can make a redemption revert."""

import pytest

from tests.support.basket import DEAD, Basket
from tests.support.evm import DEPLOYER, Evm, artifact
from tests.support.venue import MAX
from tests.support.world import ALICE, DAY, FEE_RECIPIENT, WAD, reverts

MAX_SUPPLY = 2**112 - 1
MAX_PENDING = 2**92 - 1
MAX_BALANCE = 2**128 - 1
YEAR = 365 * DAY
NONE = [0, 0]


@pytest.fixture
def basket():
    """200 USD, 3 % a year."""
    evm = Evm()
    tokens = [evm.deploy(artifact("TestToken"), name, name, 18) for name in ("CASH", "STOCK")]
    made = Basket(evm, tokens, [WAD, WAD], fee_bps=300)
    made.create([100 * WAD, 100 * WAD])
    made.fund(ALICE, [2**130, 2**130])
    return made


def mint_up_to(basket, supply):
    """ALICE mints what is missing."""
    shares = supply - basket.vault.call("totalSupply")
    basket.vault.call("mint_in_kind", shares, [MAX] * 2, ALICE, sender=ALICE)


def redeems_exactly(basket, shares):
    vault, supply = basket.vault, basket.vault.call("totalSupply")
    part = [min(units, MAX_BALANCE) * shares // supply for units in vault.call("balances")]
    args = (shares, ALICE, ALICE, NONE, 0)
    assert list(vault.call("redeem_in_kind", *args, sender=ALICE)) == part
    assert vault.call("totalSupply") == supply - shares


def test_stops_at_the_largest_supply(basket):
    mint_up_to(basket, MAX_SUPPLY - 5)
    basket.evm.set_time(basket.evm.now + YEAR)
    assert basket.vault.call("totalSupply") == MAX_SUPPLY
    assert basket.vault.call("pending_fee_shares") == 5
    redeems_exactly(basket, basket.vault.call("balanceOf", ALICE))
    assert basket.vault.call("collect_fee") == 5
    assert basket.vault.call("balanceOf", FEE_RECIPIENT) == 5


def test_stops_at_the_largest_pending_fee(basket):
    mint_up_to(basket, 2**111)
    basket.evm.set_time(basket.evm.now + YEAR)
    assert basket.vault.call("pending_fee_shares") == MAX_PENDING
    assert basket.vault.call("totalSupply") == 2**111 + MAX_PENDING
    redeems_exactly(basket, 2**110)
    assert basket.vault.call("collect_fee") == MAX_PENDING
    basket.evm.set_time(basket.evm.now + DAY)
    assert basket.vault.call("pending_fee_shares") > 0  # and goes on


def test_a_mint_above_the_largest_supply_reverts(basket):
    missing = MAX_SUPPLY - basket.vault.call("totalSupply")
    with reverts("supply above cap"):
        basket.vault.call("mint_in_kind", missing + 1, [MAX] * 2, ALICE, sender=ALICE)
    basket.vault.call("mint_in_kind", missing, [MAX] * 2, ALICE, sender=ALICE)
    assert basket.vault.call("totalSupply") == MAX_SUPPLY


def test_days_saturate(basket):
    mint_up_to(basket, 1_000 * WAD)
    basket.evm.set_time(2**20 * DAY)
    fee = 1_000 * WAD * 300 * (2**20 - 1 - 1_700_000_000 // DAY) // (365 * 10**4)
    assert basket.vault.call("pending_fee_shares") == fee
    redeems_exactly(basket, 100 * WAD)
    basket.evm.set_time(2**60)
    assert basket.vault.call("pending_fee_shares") == fee
    redeems_exactly(basket, 100 * WAD)


def test_sums_hold_at_the_largest_supply(basket):
    """I6: balances and pending fee are the supply."""
    vault = basket.vault
    mint_up_to(basket, MAX_SUPPLY - 5)
    basket.evm.set_time(basket.evm.now + YEAR)
    held = sum(vault.call("balanceOf", account) for account in (ALICE, DEPLOYER, DEAD, FEE_RECIPIENT))
    assert held + vault.call("pending_fee_shares") == vault.call("totalSupply") == MAX_SUPPLY
