"""Attack: a wei given to the vault or to the auction, or a small fill just ahead, to make an honest fill revert."""

from __future__ import annotations

import pytest

from tests.unit.auction.stage import FILLER, MANY, STRANGER, Stage

SOLD = 10_000 * 10**6


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("units", [1, 10**4])
def test_a_donation_to_the_vault_blocks_nobody(open_stage: Stage, index: int, units: int) -> None:
    """The honest filler asks for all that there was before; it gets what there is."""
    stage = open_stage
    _, sold, owed = stage.quote()
    stage.tokens[index].call("set_balance", STRANGER, units)
    stage.tokens[index].call("transfer", stage.vault.address, units, sender=STRANGER)
    filled, paid = stage.fill(0, 1, sold, max_pay=owed)
    assert sold - 2 * 10**6 <= filled <= sold
    assert paid <= owed


@pytest.mark.parametrize("index", [0, 1])
def test_a_donation_to_the_auction_blocks_nobody(open_stage: Stage, index: int) -> None:
    """It stays where it is, and the filler gets and pays exactly what was said."""
    stage = open_stage
    _, sold, owed = stage.quote()
    stage.tokens[index].call("set_balance", stage.auction.address, 7)
    before = stage.balance(1, FILLER)
    assert stage.fill(0, 1) == (sold, owed)
    assert stage.balance(index, stage.auction.address) == 7
    assert before - stage.balance(1, FILLER) == owed


@pytest.mark.parametrize("ahead", [1, 101, SOLD])
def test_a_fill_just_ahead_blocks_nobody(open_stage: Stage, ahead: int) -> None:
    stage = open_stage
    _, sold, owed = stage.quote()
    stage.tokens[1].call("set_balance", STRANGER, MANY)
    stage.tokens[1].call("approve", stage.auction.address, MANY, sender=STRANGER)
    assert stage.fill(0, 1, ahead, sender=STRANGER)[0] == ahead
    filled, paid = stage.fill(0, 1, sold, max_pay=owed)
    assert sold - ahead - 10 <= filled <= sold
    assert paid <= owed


def test_a_fill_of_all_but_dust_leaves_dust(open_stage: Stage) -> None:
    """What is left can be had, at the price of the moment; then there is nothing, and the refusal says so."""
    stage = open_stage
    _, sold, _ = stage.quote()
    stage.fill(0, 1, sold - 1_000)
    left, _ = stage.fill(0, 1, sold)
    assert 900 <= left <= 1_100
    stage.refuses("nothing to fill")


def test_a_fill_just_ahead_that_uses_up_the_loss_budget_leaves_the_rest(stage: Stage) -> None:
    """The budget has room for 1.5 fills of 20,000 USD: the second is half as large, and no larger one reverts."""
    stage.open()
    words, rules, session, _, *rest = stage.settings()
    used = 500 * 10**14 - 30_000 * 14_975 * 10**6
    stage.configure([words, rules, session, used | stage.evm.now << 128, *rest])
    assert stage.fill(0, 1, 2 * SOLD)[0] == 2 * SOLD
    assert stage.fill(0, 1, 2 * SOLD)[0] == pytest.approx(SOLD, rel=1e-3)


def test_a_large_donation_that_closes_the_gap_ends_the_auction(open_stage: Stage) -> None:
    """The donor has then paid for the whole correction."""
    stage = open_stage
    stage.tokens[1].call("set_balance", stage.vault.address, 10**6 * 10**8)
    stage.refuses("nothing to fill")
