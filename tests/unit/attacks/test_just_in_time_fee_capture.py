"""Somebody steps in just before others pay a fee, takes part of it and leaves.

A teller's fee is shares of nobody that melt over hours: who is there only while the fee is paid gets nothing of it, who
stays gets no more than what every holder earns in that time. Who enters meanwhile, through any door, pays as if it had
melted, and no flow makes a price of a share jump.
"""

from __future__ import annotations

import pytest

from tests.support.world import ALICE, STRANGER, WAD
from tests.unit.attacks.wealth import wealth
from tests.unit.teller.stage import BURN, CASH, STOCK, USD, Desk

SUPPLY = 10**6 * WAD  # at the start; a share is worth 1 USD
PAID = 400_000 * USD[CASH]  # by the victim
FEE = 2_000 * WAD + 4_800 * WAD  # floor, and the surcharge on all of it: the vault is on target
DUST = 10**13  # USD WAD: ten units of cash


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.fund(STRANGER)
    return desk


def step_in(desk: Desk, shares: int) -> None:
    desk.vault.call("mint_in_kind", shares, [10**40] * 3, STRANGER, sender=STRANGER)


def step_out(desk: Desk) -> None:
    shares = desk.shares(STRANGER)
    desk.vault.call("redeem_in_kind", shares, STRANGER, STRANGER, [0] * 3, 0, sender=STRANGER)


@pytest.mark.parametrize("shares", [SUPPLY // 10, SUPPLY, 1_000 * SUPPLY])
def test_around_a_deposit_takes_nothing(desk: Desk, shares: int):
    before = wealth(desk.world, STRANGER)
    step_in(desk, shares)
    desk.call("deposit", PAID, ALICE)
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST


@pytest.mark.parametrize("shares", [SUPPLY // 10, SUPPLY, 1_000 * SUPPLY])
def test_around_a_redemption_takes_nothing(desk: Desk, shares: int):
    desk.world.mint(ALICE, SUPPLY)
    before = wealth(desk.world, STRANGER)
    step_in(desk, shares)
    desk.call("redeem", SUPPLY // 4, ALICE, ALICE)
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST


def test_a_flow_of_ones_own_between_takes_nothing(desk: Desk):
    before = wealth(desk.world, STRANGER)
    step_in(desk, SUPPLY)
    desk.call("deposit", PAID, ALICE)
    desk.call("deposit", 0, STRANGER, sender=STRANGER, teller=STOCK)
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST


def test_through_the_teller_pays_the_fee_twice(desk: Desk):
    """Whoever waits for the fees through the priced door pays more than comes."""
    desk.call("deposit", PAID, ALICE)
    desk.world.sleep(BURN - 60)
    before = wealth(desk.world, STRANGER)
    shares = desk.call("deposit", PAID, STRANGER, sender=STRANGER)
    desk.world.sleep(60)
    desk.call("redeem", shares, STRANGER, STRANGER, sender=STRANGER)
    assert wealth(desk.world, STRANGER) < before - FEE


@pytest.mark.parametrize("hours", [1, 3, 6])
def test_who_was_there_before_earns_what_every_holder_earns(desk: Desk, hours: int):
    before = wealth(desk.world, STRANGER)
    step_in(desk, SUPPLY)
    desk.call("deposit", PAID, ALICE)
    supply = desk.vault.call("totalSupply")
    desk.world.sleep(hours * 3_600)
    step_out(desk)
    fair = FEE * hours // 6 * SUPPLY // supply
    assert wealth(desk.world, STRANGER) - before == pytest.approx(fair, rel=0.01)


@pytest.mark.parametrize("hours", [1, 3, 6])
@pytest.mark.parametrize("shares", [SUPPLY, 20 * SUPPLY])
def test_stepping_in_after_the_fee_and_staying_takes_nothing(desk: Desk, hours: int, shares: int):
    """Nor can who paid a fee mint a multiple of the supply to get it back: entering pays as if it had melted."""
    desk.call("deposit", PAID, ALICE)
    before = wealth(desk.world, STRANGER)
    step_in(desk, shares)
    desk.world.sleep(hours * 3_600)
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST


@pytest.mark.parametrize("hours", [1, 3, 6, 24])
@pytest.mark.parametrize("shares", [SUPPLY, 1_000 * SUPPLY])
def test_stepping_in_later_and_out_at_once_takes_nothing(desk: Desk, hours: int, shares: int):
    """There is no moment at which the fee is paid out: a flow of any kind between changes no price of a share."""
    desk.call("deposit", PAID, ALICE)
    desk.world.sleep(hours * 3_600)
    before = wealth(desk.world, STRANGER)
    step_in(desk, shares)
    desk.call("deposit", 0, ALICE)
    desk.vault.call("collect_fee")
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST


@pytest.fixture
def free_desk() -> Desk:
    """Cash is dear to bring, another teller of STOCK charges nothing: nothing but the price of entry can stop him."""
    desk = Desk(floor=100, surcharge=1_900)
    desk.tellers[STOCK] = desk.add_teller(STOCK, floor=0, surcharge=0)
    desk.fund(ALICE)
    desk.fund(STRANGER)
    return desk


ENTRIES = {"deposit": 300_000 * USD[STOCK], "mint": 300_000 * WAD}


@pytest.mark.parametrize("hours", [0, 1, 3, 6])
@pytest.mark.parametrize("name", ["deposit", "mint"])
def test_entering_through_another_teller_after_a_fee_takes_nothing(free_desk: Desk, name: str, hours: int):
    """A fee of 80,000 USD has just been paid for cash; who brings STOCK, for nothing, gets none of it by staying."""
    desk = free_desk
    desk.call("deposit", PAID, ALICE)
    before = wealth(desk.world, STRANGER)
    desk.call(name, ENTRIES[name], STRANGER, sender=STRANGER, teller=STOCK)
    desk.world.sleep(hours * 3_600)
    step_out(desk)
    assert before - 20_000 * WAD < wealth(desk.world, STRANGER) <= before + DUST


def test_who_was_there_before_gets_what_he_would_have_without_the_entry(free_desk: Desk):
    desk = free_desk
    step_in(desk, SUPPLY)
    desk.call("deposit", PAID, ALICE)
    snapshot = desk.evm.snapshot()
    desk.world.sleep(BURN)
    alone = wealth(desk.world, STRANGER)
    desk.evm.revert(snapshot)
    desk.call("deposit", ENTRIES["deposit"], ALICE, teller=STOCK)
    desk.world.sleep(BURN)
    assert wealth(desk.world, STRANGER) == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("name", ["deposit", "mint"])
def test_an_entry_while_a_fee_melts_makes_no_price_jump(free_desk: Desk, name: str):
    """What the entrant pays above the present worth of a share melts as well: else it could be stepped in for."""
    desk = free_desk
    before = wealth(desk.world, STRANGER)
    step_in(desk, SUPPLY)
    desk.call("deposit", PAID, ALICE)
    desk.call(name, ENTRIES[name], ALICE, teller=STOCK)
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST
