"""`preview_mint_in_kind` and `preview_redeem_in_kind`: the formulas, and what a flow then does, in random states."""

import random

import pytest

from tests.support.world import ALICE, BOB, DAY, World
from tests.unit.vault.support import ANY, NONE, SHARES, bare_clone


@pytest.mark.parametrize("seed", range(10))
def test_are_exact(world: World, seed: int) -> None:
    pick = random.Random(seed)
    vault = world.vault
    world.give(BOB, [2**200] * 3, spender=vault.address)
    for _ in range(5):
        world.sleep(pick.choice([0, 1, DAY, 400 * DAY]))
        world.set_balances(
            [pick.choice([0, 1, pick.randint(0, 10**12), pick.randint(0, 2**127)]) for _ in "123"]
        )
        supply, held = vault.call("totalSupply"), world.balances()
        amount, skip = pick.choice([1, 10**18, pick.randint(1, supply)]), pick.randint(0, 7)
        minted = [-(-balance * amount // supply) for balance in held]
        assert list(vault.call("preview_mint_in_kind", amount)) == minted
        assert list(vault.call("mint_in_kind", amount, ANY, BOB, sender=BOB)) == minted
        held = [balance + paid for balance, paid in zip(held, minted, strict=True)]
        redeemed = [
            0 if skip >> i & 1 else balance * amount // (supply + amount) for i, balance in enumerate(held)
        ]
        assert list(vault.call("preview_redeem_in_kind", amount, skip)) == redeemed
        assert list(vault.call("redeem_in_kind", amount, BOB, BOB, NONE, skip, sender=BOB)) == redeemed
        assert all(paid >= back for paid, back in zip(minted, redeemed, strict=True))  # I2


def test_of_nothing_is_nothing(world: World) -> None:
    assert world.vault.call("preview_mint_in_kind", 0) == (0, 0, 0)
    assert world.vault.call("preview_redeem_in_kind", 0, 0) == (0, 0, 0)


def test_change_nothing(world: World) -> None:
    before = world.vault.call("flow_sequence"), world.vault.call("totalSupply"), world.balances()
    world.vault.call("preview_mint_in_kind", SHARES)
    world.vault.call("preview_redeem_in_kind", SHARES, 0)
    assert (world.vault.call("flow_sequence"), world.vault.call("totalSupply"), world.balances()) == before
    assert world.vault.call("balanceOf", ALICE) == SHARES


def test_of_a_bare_clone_are_empty(world: World) -> None:
    clone = bare_clone(world)
    assert clone.call("preview_mint_in_kind", SHARES) == ()
    assert clone.call("preview_redeem_in_kind", SHARES, 0) == ()
