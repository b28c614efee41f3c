"""The stored supply counts what has melted until the next flow of a teller: the caps leave room for it."""

from __future__ import annotations

from tests.support.world import ALICE, BOB, DAY, WAD, reverts
from tests.unit.vault.support import MAX_SUPPLY, TELLER, OpenWorld

HOUR, FEE = 3_600, 40_000 * WAD


def melting_world(fee_bps: int = 0) -> OpenWorld:
    """A fee of FEE shares melts over an hour from now on."""
    world = OpenWorld(fee_bps=fee_bps)
    world.as_timelock("set_teller", TELLER, 10_000, 0)
    world.as_teller("issue", BOB, WAD, FEE, HOUR, world.tokens[0].address, 0)
    return world


def test_a_mint_stops_where_the_stored_supply_would_overflow() -> None:
    world = melting_world()
    world.sleep(HOUR // 4)
    room = MAX_SUPPLY - world.vault.call("totalSupply") - FEE // 4
    amounts = world.vault.call("preview_mint_in_kind", room + 1)
    world.give(ALICE, amounts, spender=world.vault.address)
    with reverts("supply above cap"):
        world.vault.call("mint_in_kind", room + 1, amounts, ALICE, sender=ALICE)
    world.vault.call("mint_in_kind", room, amounts, ALICE, sender=ALICE)
    assert world.vault.call("totalSupply") == MAX_SUPPLY - FEE // 4
    assert world.vault.call("pending_fee_shares") == 0


def test_the_management_fee_stops_there_too() -> None:
    world = melting_world(fee_bps=300)
    world.mint(ALICE, MAX_SUPPLY - world.vault.call("totalSupply") - 10)
    world.sleep(2 * DAY)
    assert world.vault.call("pending_fee_shares") == 10
    assert world.vault.call("totalSupply") == MAX_SUPPLY - FEE
    assert world.vault.call("collect_fee") == 10
    assert world.vault.call("totalSupply") == MAX_SUPPLY - FEE


def test_not_even_nothing_flows_beyond_a_lowered_limit() -> None:
    """A flow must lead back towards zero there."""
    world = melting_world()
    token = world.tokens[0].address
    world.as_timelock("set_teller", TELLER, 100, 0)
    with reverts("flow limit exceeded"):
        world.as_teller("issue", BOB, 0, 0, HOUR, token, 0)
    with reverts("flow limit exceeded"):
        world.as_teller("release", BOB, BOB, 0, 0, HOUR, token, 0, BOB)
    world.as_teller("release", BOB, BOB, 1, 0, HOUR, token, 0, BOB)
