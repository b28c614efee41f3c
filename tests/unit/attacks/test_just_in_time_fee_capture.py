"""Somebody steps in just before others pay a fee, takes part of it and leaves.

A teller's fee is shares of nobody that melt over hours: who is there only while the fee is paid gets nothing of it, who
stays gets no more than what every holder earns in that time.
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
