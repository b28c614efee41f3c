"""Odd prices, a vault of so little and fees so high that a unit shows: each rounding has its direction."""

from __future__ import annotations

import random

import pytest

from tests.support.evm import Evm
from tests.support.world import ALICE, GUARDIAN, OWNER, START, WAD, World
from tests.unit.teller.stage import Desk


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk(surcharge=1_000, world=World(decimals=(18,), prices_usd=(1,), evm=Evm(START)))


def shrink(desk: Desk, rng: random.Random) -> None:
    """Any prices of a third of a USD to three, and a few thousand units of each token."""
    for index in range(3):
        desk.world.set_price(index, rng.randint(WAD // 3, 3 * WAD))
    desk.world.set_balances([rng.randint(1, 10 ** rng.randint(3, 6)) for _ in range(3)])


def test_previews_are_the_sums_of_the_spec(desk: Desk) -> None:
    for number in range(300):
        rng = random.Random(number)
        shrink(desk, rng)
        teller = rng.randrange(3)
        state = desk.state(teller)
        assets = rng.randint(1, 10 ** rng.randint(1, 6))
        shares = rng.randint(1, state.supply)
        out = rng.randint(0, desk.world.balances()[teller])
        asked = {
            "previewDeposit": (assets, state.deposit(assets)[0]),
            "previewMint": (shares, state.mint(shares)),
            "previewWithdraw": (out, state.withdraw(out)[0]),
            "previewRedeem": (shares, state.redeem(shares)),
        }
        for name, (amount, wanted) in asked.items():
            assert desk.call(name, amount, teller=teller) == wanted, (number, name, amount)


def test_a_mint_that_just_fills_the_gap_pays_for_all_of_it(desk: Desk) -> None:
    """Where the surcharge begins, a unit either way: by search, as everywhere in `State.mint`."""
    for number in range(60):
        shrink(desk, random.Random(number))
        for teller in range(3):
            state = desk.state(teller)
            net = state.gap_in() * (10_000 - state.floor) // 10_000
            for value in range(max(net - 2, 1), net + 2):
                shares = value * (state.supply - state.melting) // state.nav
                assert desk.call("previewMint", shares, teller=teller) == state.mint(shares), (number, teller)


def test_what_a_flow_leaves_is_remembered(desk: Desk) -> None:
    """A paused vault is worth what it was after the last flow, in whole units of the asset."""
    for number in range(40):
        rng = random.Random(number)
        snapshot = desk.evm.snapshot()
        shrink(desk, rng)
        teller = rng.randrange(3)
        state = desk.state(teller)
        held = desk.world.balances()[teller]
        assets = rng.randint(1, max(1, held // 10))
        nav = state.nav + assets * state.price // state.scale
        if number % 2:
            desk.world.vault.call("transfer", ALICE, state.supply // 2, sender=OWNER)
            nav = state.nav - -(-assets * state.price // state.scale)
            desk.call("withdraw", assets, ALICE, ALICE, teller=teller)
        else:
            desk.call("deposit", assets, ALICE, teller=teller)
        desk.world.at_once("pause", sender=GUARDIAN)
        assert desk.call("totalAssets", teller=teller) == nav * state.scale // state.price, number
        desk.evm.revert(snapshot)


def test_the_most_is_rounded_down() -> None:
    """A flow limit of 1 bp of a supply that 10,000 does not divide, where a share is worth a thousand units."""
    desk = Desk(limit=(1, 0), world=World(decimals=(18,), prices_usd=(1,), evm=Evm(START)))
    desk.world.mint(ALICE, 10**23 + 12_345)
    desk.world.set_balances([1_000 * balance for balance in desk.world.balances()])
    state = desk.state()
    shares = state.supply // 10_000
    assert state.supply % 10_000 > 0
    assert desk.call("maxRedeem", ALICE) == shares
    most = desk.call("maxDeposit", ALICE)
    assert most == shares * state.nav // state.supply < (shares + 1) * state.nav // state.supply
    desk.call("deposit", most, ALICE)
