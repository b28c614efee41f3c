"""`max*`: 0 where nothing can flow, else accepted as they are, and about as much as there is."""

import pytest

from tests.support.world import ALICE, BOB, WAD, ZERO
from tests.unit.teller.stage import CASH, COIN, MAX_SUPPLY, STOCK, USD, Desk

LIMIT = 1_000  # bps a day, of a million shares


@pytest.fixture
def limited(desk: Desk) -> Desk:
    """A tenth of the supply a day."""
    for index in (CASH, COIN, STOCK):
        desk.world.delayed("set_teller", desk.tellers[index].address, 50, 120, LIMIT, LIMIT, True)
    desk.world.mint(ALICE, 10**24)
    return desk


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
def test_deposit_is_what_the_limit_leaves(limited: Desk, index: int):
    most = limited.call("maxDeposit", BOB, teller=index)
    assert most == 200_000 * USD[index]
    limited.call("deposit", most, BOB, teller=index)
    assert limited.call("maxDeposit", BOB, teller=index) < USD[index] // 1_000 + 1
    limited.refuses("flow limit exceeded", "deposit", USD[index], BOB, teller=index)


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
def test_mint_is_what_the_limit_leaves(limited: Desk, index: int):
    most = limited.call("maxMint", BOB, teller=index)
    assert most == limited.call("previewDeposit", 200_000 * USD[index], teller=index)
    limited.call("mint", most, BOB, teller=index)
    limited.refuses("flow limit exceeded", "mint", 10**18, BOB, teller=index)


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
def test_redeem_is_what_the_limit_leaves(limited: Desk, index: int):
    assert limited.call("maxRedeem", ALICE, teller=index) == 200_000 * WAD
    limited.call("redeem", 200_000 * WAD, ALICE, ALICE, teller=index)
    limited.refuses("flow limit exceeded", "redeem", WAD, ALICE, ALICE, teller=index)


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
def test_withdraw_is_what_the_limit_leaves(limited: Desk, index: int):
    most = limited.call("maxWithdraw", ALICE, teller=index)
    assert most == limited.call("previewRedeem", 200_000 * WAD, teller=index)
    limited.call("withdraw", most, ALICE, ALICE, teller=index)
    limited.refuses("flow limit exceeded", "withdraw", USD[index], ALICE, ALICE, teller=index)


def test_grow_as_the_limit_refills(limited: Desk):
    limited.call("deposit", limited.call("maxDeposit", BOB), BOB)
    limited.world.sleep(12 * 3_600)
    assert limited.call("maxDeposit", BOB) == pytest.approx(110_000 * 10**6, rel=2e-3)


def test_what_came_in_can_go_out_beyond_the_limit(limited: Desk):
    before = limited.call("maxRedeem", ALICE)
    limited.call("deposit", 100_000 * 10**6, BOB)
    assert limited.call("maxRedeem", ALICE) > before


def test_redeem_is_at_most_the_owners_balance(limited: Desk):
    limited.vault.call("transfer", BOB, 5 * WAD, sender=ALICE)
    assert limited.call("maxRedeem", BOB) == 5 * WAD
    assert limited.call("maxWithdraw", BOB) == limited.call("previewRedeem", 5 * WAD)
    limited.call("redeem", 5 * WAD, BOB, BOB, sender=BOB)


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
def test_no_more_than_the_vault_holds(desk: Desk, index: int):
    desk.world.mint(ALICE, 10**24)
    holdings = [1_000, 600, 400]
    holdings[index] = 3
    desk.hold(holdings)
    held = desk.world.balances()[index]
    shares, assets = (desk.call(name, ALICE, teller=index) for name in ("maxRedeem", "maxWithdraw"))
    assert held * 999 // 1_000 < assets <= held
    desk.call("redeem", shares, ALICE, ALICE, teller=index)
    assert desk.world.balances()[index] == held - assets


def test_deposit_stays_below_the_largest_supply(desk: Desk):
    desk.world.mint(ALICE, MAX_SUPPLY - 10**22 - desk.vault.call("totalSupply"))
    most = desk.call("maxDeposit", BOB)
    assert most == 10**22 * 10**6 // WAD
    desk.refuses("supply above cap", "deposit", most + most // 50, BOB, sender=ALICE)
    desk.call("deposit", most, BOB)


@pytest.mark.parametrize("name", ["maxDeposit", "maxMint"])
def test_nothing_for_who_cannot_hold_shares(desk: Desk, name: str):
    assert desk.call(name, BOB) > 0
    for receiver in (ZERO, desk.vault.address, desk.tellers[CASH].address):
        assert desk.call(name, receiver) == 0


@pytest.mark.parametrize("name", ["maxWithdraw", "maxRedeem"])
def test_nothing_of_the_fees(desk: Desk, name: str):
    desk.call("deposit", 10**9, ALICE)
    assert desk.call(name, ALICE) > 0
    assert desk.call(name, desk.tellers[CASH].address) == 0


@pytest.mark.parametrize("name", ["maxDeposit", "maxMint", "maxWithdraw", "maxRedeem"])
def test_nothing_without_a_right(desk: Desk, name: str):
    desk.world.mint(ALICE, 10**22)
    assert desk.call(name, ALICE) > 0
    desk.world.delayed("set_teller", desk.tellers[CASH].address, 50, 120, 0, 0, True)
    assert desk.call(name, ALICE) == 0


def test_nothing_of_shares_that_someone_sent_to_the_teller(desk: Desk):
    desk.call("deposit", 10**9, ALICE)
    desk.vault.call("transfer", desk.tellers[CASH].address, desk.shares() // 2, sender=ALICE)
    teller = desk.tellers[CASH].address
    assert desk.vault.call("balanceOf", teller) > 0
    assert desk.call("maxRedeem", teller) == desk.call("maxWithdraw", teller) == 0
    assert desk.call("maxRedeem", ALICE) > 0
