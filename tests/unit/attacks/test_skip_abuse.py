"""`skip` leaves tokens to the other holders. Used for something else it must not pay: not by choosing the good tokens,
not by going in and out again, not on another's shares.

What is skipped is lost to whoever skips it: the attacker's profit at unmoved prices is never above 0.
"""

import random

import pytest

from tests.support.world import ALICE, BOB, OWNER, STRANGER, WAD, World, reverts
from tests.unit.attacks.wealth import stake, value, wealth

SHARES = 100_000 * WAD


@pytest.fixture
def world() -> World:
    """ALICE, the attacker, and BOB hold a tenth of the supply each."""
    world = World()
    for account in (ALICE, BOB):
        world.vault.call("transfer", account, SHARES, sender=OWNER)
        for token in world.tokens:
            token.call("approve", world.vault.address, 2**255, sender=account)
    return world


@pytest.mark.parametrize("skip", range(8))
def test_what_is_skipped_goes_to_the_others(world: World, skip):
    before, others = wealth(world, ALICE), wealth(world, BOB, OWNER)
    due = world.vault.call("preview_redeem_in_kind", SHARES, 0)
    paid = world.redeem(ALICE, SHARES, skip)
    assert paid == [0 if skip >> i & 1 else amount for i, amount in enumerate(due)]
    left = value(world, [amount - got for amount, got in zip(due, paid, strict=True)])
    assert before - wealth(world, ALICE) == left
    assert left - WAD <= wealth(world, BOB, OWNER) - others <= left  # the dead share has the rest


@pytest.mark.parametrize("skip", [2**3, 2**255, 2**256 - 8])
def test_bits_beyond_the_assets_mean_nothing(world: World, skip):
    due = world.vault.call("preview_redeem_in_kind", SHARES, 0)
    assert world.redeem(ALICE, SHARES, skip) == list(due)


@pytest.mark.parametrize("seed", range(4))
def test_no_sequence_of_flows_profits(world: World, seed):
    """Mint, redeem with any skip, let BOB do the same between, a hundred times."""
    choose = random.Random(seed)
    bob = wealth(world, BOB)
    for _ in range(100):
        actor = choose.choice([ALICE, ALICE, BOB])
        before = wealth(world, actor)
        if choose.random() < 0.5:
            shares = choose.choice([1, 10**6, WAD, choose.randrange(1, SHARES)])
            amounts = world.vault.call("preview_mint_in_kind", shares)
            if any(has < needs for has, needs in zip(world.balances(actor), amounts, strict=True)):
                continue
            world.vault.call("mint_in_kind", shares, amounts, actor, sender=actor)
        else:
            held = world.vault.call("balanceOf", actor)
            if held > 0:
                world.redeem(
                    actor, choose.randrange(1, held + 1), choose.randrange(8) if actor == ALICE else 0
                )
        assert wealth(world, actor) <= before + 1_000  # USD WAD: each of three tokens' values is rounded down
    assert wealth(world, BOB) >= bob - 10**17  # rounding, a hundred times: what ALICE skipped is more


def test_a_strangers_shares_are_not_skipped_away(world: World):
    """Burning another's shares for nothing takes its allowance."""
    with reverts("allowance too low"):
        world.vault.call("redeem_in_kind", SHARES, STRANGER, BOB, [0] * 3, 7, sender=STRANGER)
    assert stake(world, BOB) > 0


def test_a_minimum_holds_for_what_is_not_skipped(world: World):
    due = list(world.vault.call("preview_redeem_in_kind", SHARES, 0))
    with reverts("amount below minimum"):
        world.vault.call(
            "redeem_in_kind", SHARES, ALICE, ALICE, [due[0], due[1], due[2] + 1], 1, sender=ALICE
        )
    world.vault.call("redeem_in_kind", SHARES, ALICE, ALICE, due, 1, sender=ALICE)
