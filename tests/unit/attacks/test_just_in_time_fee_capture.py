"""Somebody steps in just before others pay a fee, takes part of it and leaves.

A teller's fee is shares that it burns over hours: who is there only while the fee is paid gets nothing of it, who
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


def test_burning_in_the_same_block_takes_nothing(desk: Desk):
    before = wealth(desk.world, STRANGER)
    step_in(desk, SUPPLY)
    desk.call("deposit", PAID, ALICE)
    desk.refuses("nothing to burn", "burn_fees", sender=STRANGER)
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
    desk.call("burn_fees", sender=STRANGER)
    desk.call("redeem", shares, STRANGER, STRANGER, sender=STRANGER)
    assert wealth(desk.world, STRANGER) < before - FEE


@pytest.mark.parametrize("hours", [1, 3, 6])
def test_who_stays_earns_what_every_holder_earns(desk: Desk, hours: int):
    before = wealth(desk.world, STRANGER)
    step_in(desk, SUPPLY)
    desk.call("deposit", PAID, ALICE)
    supply = desk.vault.call("totalSupply")
    desk.world.sleep(hours * 3_600)
    desk.call("burn_fees")
    step_out(desk)
    fair = FEE * hours // 6 * SUPPLY // supply
    assert wealth(desk.world, STRANGER) - before == pytest.approx(fair, rel=0.01)


# A known limit: the vault's supply falls when the shares are burnt, not with the time


def test_what_is_due_goes_to_who_is_there_when_it_is_burnt(desk: Desk):
    """In kind the price counts what is due and not burnt yet: this much, and no more, can be taken."""
    desk.call("deposit", PAID, ALICE)
    desk.world.sleep(3_600)
    before = wealth(desk.world, STRANGER)
    step_in(desk, 9 * desk.vault.call("totalSupply"))
    desk.call("burn_fees", sender=STRANGER)
    step_out(desk)
    assert 0 < wealth(desk.world, STRANGER) - before < FEE // 6 * 101 // 100


def test_nothing_is_left_to_take_once_it_has_been_burnt(desk: Desk):
    """Neighbour of the above: anyone's `burn_fees` before closes it."""
    desk.call("deposit", PAID, ALICE)
    desk.world.sleep(3_600)
    desk.call("burn_fees", sender=ALICE)
    before = wealth(desk.world, STRANGER)
    step_in(desk, 9 * desk.vault.call("totalSupply"))
    desk.refuses("nothing to burn", "burn_fees", sender=STRANGER)
    step_out(desk)
    assert wealth(desk.world, STRANGER) <= before + DUST
