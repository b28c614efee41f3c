"""The first depositor redeems almost every share, makes each dear by a donation, and waits for a victim's rounding.

Were the supply one wei, a victim of half the donation would get no share for its deposit, and the attacker the whole.
One share, 1e18 of its smallest units, is dead from the start: the donation goes to it, and rounding takes from a
victim less than a billionth of what a wei of shares is worth and a unit of each token.
"""

import pytest

from tests.support.world import ALICE, OWNER, WAD, World, reverts
from tests.unit.attacks.wealth import stake, value, wealth

MILLION = 1_000_000
DUST = 2 * (10**12 + 5 * 10**14 + 2_000)  # USD WAD: two units of each token


@pytest.fixture
def world() -> World:
    """As small a vault as may be made, but for rounding: two USD, of which OWNER, the attacker, has one."""
    return World(seed_usd=2)


def donate(world: World) -> None:
    """OWNER sends all its tokens to the vault."""
    for token, amount in zip(world.tokens, world.balances(OWNER), strict=True):
        token.call("transfer", world.vault.address, amount, sender=OWNER)


@pytest.mark.parametrize("kept", [1, 10**9, WAD])
def test_costs_the_attacker_and_not_the_victim(world: World, kept):
    held = world.vault.call("balanceOf", OWNER)
    if kept < held:
        world.redeem(OWNER, held - kept)
    world.give(OWNER, [unit * MILLION // 2 for unit in world.seed])
    before = wealth(world, OWNER)
    donate(world)

    nav, supply = value(world, world.balances()), world.vault.call("totalSupply")
    wanted = MILLION // 2 * WAD  # USD WAD that the victim brings
    shares = wanted * supply // nav
    paid = value(world, world.mint(ALICE, shares))
    wei_of_shares = nav // supply + 1
    assert wanted - paid <= wei_of_shares + DUST  # what it could not spend, it still has
    assert paid - stake(world, ALICE) <= DUST

    to_the_dead = MILLION * WAD * WAD // (WAD + kept)
    assert wealth(world, OWNER) - before <= DUST - to_the_dead


def test_the_supply_never_returns_to_zero(world: World):
    """Nor below one share, whatever is redeemed: the dead account has no key."""
    world.redeem(OWNER, world.vault.call("balanceOf", OWNER))
    assert world.vault.call("totalSupply") == WAD
    with reverts("balance too low"):
        world.redeem(OWNER, 1)
    assert value(world, world.balances()) >= WAD


def test_a_wei_of_shares_is_never_free(world: World):
    """Mints round up: each unit that the vault holds is paid for by any share, however small."""
    world.give(OWNER, [unit * MILLION for unit in world.seed])
    donate(world)
    supply, held = world.vault.call("totalSupply"), world.balances()
    assert world.mint(ALICE, 1) == [-(-amount // supply) for amount in held]
    assert world.redeem(ALICE, 1) == [(amount + 1) // (supply + 1) for amount in held]
