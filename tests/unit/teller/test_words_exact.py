"""Fees and what was seen in their words: odd fields beside each other, and the largest supply."""

from __future__ import annotations

import pytest

from tests.support.world import ALICE, GUARDIAN, WAD
from tests.unit.teller.stage import HOUR, MAX_SUPPLY, Desk


@pytest.mark.parametrize(
    "terms",
    [
        (1, 0, HOUR),
        (0, 1, HOUR),
        (0, 0, HOUR + 1),
        (1_999, 1, HOUR + 1),
        (1, 1_999, 30 * 86_400 - 1),
        (2_000, 0, 30 * 86_400),
        (0, 2_000, 30 * 86_400),
    ],
)
def test_fees_are_what_was_set(desk: Desk, terms: tuple[int, int, int]) -> None:
    floor, surcharge, burn = terms
    teller = desk.add_teller(0, floor, surcharge, burn=burn)
    assert teller.call("fees") == terms
    assert teller.call("share") == desk.vault.address


def test_the_largest_supply_is_remembered(desk: Desk) -> None:
    room = MAX_SUPPLY - desk.vault.call("totalSupply") - 100 * WAD
    desk.world.mint(ALICE, room)
    desk.call("deposit", 10**6, ALICE)
    supply, total = desk.vault.call("totalSupply"), desk.call("totalAssets")
    assert supply > 2**111
    desk.world.at_once("pause", sender=GUARDIAN)
    assert desk.call("totalAssets") == total
    assert desk.call("convertToAssets", supply) == total
    assert desk.call("convertToShares", total) == supply
