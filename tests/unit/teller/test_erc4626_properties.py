"""What holds of any ERC-4626 vault, of a teller with fees and of one without, in whatever state its vault is.

A state has any holdings, prices, fees still locked and time gone by. Amounts come from a unit to all there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.evm import Reverted
from tests.support.world import ALICE, BOB
from tests.unit.teller.stage import MAX, Desk

CAROL = "0x" + "ca" * 20
EXAMPLES = 150


@dataclass(frozen=True)
class Scene:
    """What a state is made from."""

    free: bool
    teller: int
    balances: tuple[int, ...]
    prices: tuple[int, ...]
    deposit_bps: int  # of what may be deposited: ALICE has these shares
    wait: int  # seconds since


SCENES = st.builds(
    Scene,
    free=st.booleans(),
    teller=st.integers(0, 2),
    balances=st.tuples(
        st.integers(0, 10**15) | st.integers(0, 100),
        st.integers(0, 10**15) | st.integers(0, 100),
        st.integers(0, 10**27) | st.integers(0, 100),
    ),
    prices=st.tuples(*[st.integers(10**12, 10**24)] * 3),
    deposit_bps=st.integers(1, 8_000),
    wait=st.sampled_from([0, 1, 3_600, 86_400]),
)
PARTS = st.integers(1, 10**6) | st.just(10**6) | st.just(1)  # millionths
DESKS: dict[bool, Desk] = {}


def desk_of(free: bool) -> Desk:
    if free not in DESKS:
        DESKS[free] = Desk(floor=0, surcharge=0) if free else Desk()
    return DESKS[free]


@contextmanager
def stage(scene: Scene) -> Iterator[Desk]:
    """The scene, ALICE with shares; undone afterwards."""
    desk = desk_of(scene.free)
    snapshot, prices = desk.evm.snapshot(), list(desk.world.prices)
    try:
        desk.world.set_balances(scene.balances)
        for index, price in enumerate(scene.prices):
            desk.world.set_price(index, price)
        state = desk.state(scene.teller)
        assume(state.nav > 10**9)  # a teller is made for a vault that is worth something
        amount = desk.call("maxDeposit", ALICE, teller=scene.teller) * scene.deposit_bps // 10_000
        desk.call("deposit", amount, ALICE, teller=scene.teller)
        desk.world.sleep(scene.wait)
        yield desk
    finally:
        desk.evm.revert(snapshot)
        desk.world.prices = prices


def part(of: int, parts: int) -> int:
    return min(of, of * parts // 10**6 + 1)


def is_property(test):
    """Many scenes; a slow first example compiles."""
    checked = settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )(test)
    return given(SCENES, PARTS)(checked)


# Views


@is_property
def test_conversions_round_down_and_ask_nobody(scene: Scene, parts: int):
    with stage(scene) as desk:

        def ask(name: str, amount: int, sender: str = ALICE) -> int:
            return desk.call(name, amount, sender=sender, teller=scene.teller)

        amount = part(10**30, parts)
        for name in ("convertToShares", "convertToAssets"):
            assert ask(name, amount) == ask(name, amount, CAROL)
            assert ask(name, 0) == 0
            assert ask(name, amount) <= ask(name, amount + 1)
        assert ask("convertToAssets", ask("convertToShares", amount)) <= amount
        assert ask("convertToShares", ask("convertToAssets", amount)) <= amount
        total, state = desk.call("totalAssets", teller=scene.teller), desk.state(scene.teller)
        assert total == state.nav * state.scale // state.price
        assert ask("convertToAssets", state.supply) <= total


@is_property
def test_previews_are_no_better_than_conversions(scene: Scene, parts: int):
    with stage(scene) as desk:

        def ask(name: str, amount: int) -> int:
            return desk.call(name, amount, teller=scene.teller)

        assets = part(max(1, desk.call("totalAssets", teller=scene.teller)), parts)
        shares = part(desk.vault.call("totalSupply"), parts)
        assert ask("previewDeposit", assets) <= ask("convertToShares", assets)
        assert ask("previewMint", shares) >= ask("convertToAssets", shares)
        assert ask("previewWithdraw", assets) >= ask("convertToShares", assets)
        assert ask("previewRedeem", shares) <= ask("convertToAssets", shares)


# Flows: previews exact, balances move by what is said, nobody else loses


@is_property
@pytest.mark.parametrize("name", ["deposit", "mint"])
def test_paying_in(name: str, scene: Scene, parts: int):
    with stage(scene) as desk:
        token = desk.world.tokens[scene.teller]
        most = desk.call("max" + name.title(), CAROL, teller=scene.teller)
        amount = part(most, parts)
        preview = desk.call("preview" + name.title(), amount, sender=CAROL, teller=scene.teller)
        paid, before = token.call("balanceOf", ALICE), desk.state(scene.teller)
        got = desk.call(name, amount, CAROL, teller=scene.teller)
        assert got == preview
        assets, shares = (amount, got) if name == "deposit" else (got, amount)
        assert desk.shares(CAROL) == shares
        assert token.call("balanceOf", ALICE) == paid - assets
        no_loss(desk, scene, before)


@is_property
@pytest.mark.parametrize("name", ["withdraw", "redeem"])
def test_paying_out(name: str, scene: Scene, parts: int):
    with stage(scene) as desk:
        token = desk.world.tokens[scene.teller]
        amount = part(desk.call("max" + name.title(), ALICE, teller=scene.teller), parts)
        preview = desk.call("preview" + name.title(), amount, sender=CAROL, teller=scene.teller)
        held, before = desk.shares(), desk.state(scene.teller)
        got = desk.call(name, amount, CAROL, ALICE, teller=scene.teller)
        assert got == preview
        assets, shares = (amount, got) if name == "withdraw" else (got, amount)
        assert desk.shares() == held - shares
        assert token.call("balanceOf", CAROL) == assets
        no_loss(desk, scene, before)


def no_loss(desk: Desk, scene: Scene, before) -> None:
    """A share is worth no less than before."""
    after = desk.state(scene.teller)
    assert after.nav * before.supply >= before.nav * after.supply


# Limits


@is_property
@pytest.mark.parametrize("name", ["deposit", "mint"])
def test_the_most_that_may_be_paid_in_is_accepted(name: str, scene: Scene, parts: int):
    with stage(scene) as desk:
        most = desk.call("max" + name.title(), CAROL, teller=scene.teller)
        desk.call(name, most, CAROL, teller=scene.teller)


@is_property
@pytest.mark.parametrize("name", ["withdraw", "redeem"])
def test_the_most_that_may_be_paid_out_is_accepted(name: str, scene: Scene, parts: int):
    with stage(scene) as desk:
        most = desk.call("max" + name.title(), ALICE, teller=scene.teller)
        desk.call(name, most, CAROL, ALICE, teller=scene.teller)
        assert desk.call("max" + name.title(), CAROL, teller=scene.teller) == 0  # who has nothing


# Allowances are the shares', from the owner to the caller


@is_property
@pytest.mark.parametrize("name", ["withdraw", "redeem"])
def test_somebody_else_spends_exactly_the_allowance(name: str, scene: Scene, parts: int):
    with stage(scene) as desk:
        amount = part(desk.call("max" + name.title(), ALICE, teller=scene.teller), parts)
        preview = desk.call("preview" + name.title(), amount, teller=scene.teller)
        shares = preview if name == "withdraw" else amount
        assume(shares > 0)
        desk.vault.call("approve", BOB, shares - 1, sender=ALICE)
        reason = "allowance too low"
        desk.refuses(reason, name, amount, BOB, ALICE, sender=BOB, teller=scene.teller)
        desk.vault.call("approve", desk.tellers[scene.teller].address, MAX, sender=ALICE)  # not what counts
        desk.refuses(reason, name, amount, BOB, ALICE, sender=BOB, teller=scene.teller)
        desk.vault.call("approve", BOB, shares + 5, sender=ALICE)
        desk.call(name, amount, BOB, ALICE, sender=BOB, teller=scene.teller)
        assert desk.vault.call("allowance", ALICE, BOB) == 5


@is_property
def test_an_infinite_allowance_is_not_spent(scene: Scene, parts: int):
    with stage(scene) as desk:
        desk.vault.call("approve", BOB, MAX, sender=ALICE)
        amount = part(desk.call("maxRedeem", ALICE, teller=scene.teller), parts)
        desk.call("redeem", amount, BOB, ALICE, sender=BOB, teller=scene.teller)
        assert desk.vault.call("allowance", ALICE, BOB) == MAX


# There and back never profits


@is_property
@pytest.mark.parametrize("back", ["redeem", "withdraw"])
@pytest.mark.parametrize("there", ["deposit", "mint"])
def test_in_and_out(there: str, back: str, scene: Scene, parts: int):
    """What comes out is no more than what went in; or taking the same out costs no fewer shares."""
    with stage(scene) as desk:
        amount = part(desk.call("max" + there.title(), CAROL, teller=scene.teller), parts)
        got = desk.call(there, amount, CAROL, teller=scene.teller)
        assets, shares = (amount, got) if there == "deposit" else (got, amount)
        if back == "redeem":
            shares = min(shares, desk.call("maxRedeem", CAROL, teller=scene.teller))
            assert desk.call("redeem", shares, CAROL, CAROL, sender=CAROL, teller=scene.teller) <= assets
        else:
            assert desk.call("previewWithdraw", assets, teller=scene.teller) >= shares


@is_property
@pytest.mark.parametrize("back", ["deposit", "mint"])
@pytest.mark.parametrize("there", ["redeem", "withdraw"])
def test_out_and_in(there: str, back: str, scene: Scene, parts: int):
    with stage(scene) as desk:
        amount = part(desk.call("max" + there.title(), ALICE, teller=scene.teller), parts)
        got = desk.call(there, amount, ALICE, ALICE, teller=scene.teller)
        shares, assets = (amount, got) if there == "redeem" else (got, amount)
        if desk.state(scene.teller).nav == 0:
            return  # all was this asset, and all went out
        if back == "deposit":
            assets = min(assets, desk.call("maxDeposit", ALICE, teller=scene.teller))
            assert desk.call("deposit", assets, ALICE, teller=scene.teller) <= shares
        else:
            assert desk.call("previewMint", shares, teller=scene.teller) >= assets


# The inverse of a preview is as good as it can be


@is_property
def test_minting_asks_no_more_than_depositing_did(scene: Scene, parts: int):
    with stage(scene) as desk:
        assets = part(desk.call("maxDeposit", ALICE, teller=scene.teller), parts)
        shares = desk.call("previewDeposit", assets, teller=scene.teller)
        asked = desk.call("previewMint", shares, teller=scene.teller)
        assert asked <= assets
        assert desk.call("previewDeposit", asked, teller=scene.teller) >= shares


@is_property
def test_withdrawing_burns_no_more_than_redeeming_did(scene: Scene, parts: int):
    with stage(scene) as desk:
        shares = part(desk.call("maxRedeem", ALICE, teller=scene.teller), parts)
        assets = desk.call("previewRedeem", shares, teller=scene.teller)
        burnt = desk.call("previewWithdraw", assets, teller=scene.teller)
        assert burnt <= shares
        assert desk.call("previewRedeem", burnt, teller=scene.teller) >= assets


# What the sums in whole numbers say


@is_property
def test_equals_the_spec(scene: Scene, parts: int):
    with stage(scene) as desk:
        state = desk.state(scene.teller)
        assets = part(desk.call("maxDeposit", ALICE, teller=scene.teller), parts)
        shares = part(state.supply, parts)
        for name, amount, expected in (
            ("previewDeposit", assets, state.deposit(assets)[0]),
            ("previewMint", shares, state.mint(shares)),
            ("previewWithdraw", assets, state.withdraw(assets)[0]),
            ("previewRedeem", shares, state.redeem(shares)),
        ):
            assert desk.call(name, amount, teller=scene.teller) == expected, name


def test_the_largest_amounts_convert(desk: Desk):
    """To less than they are worth where amount times price is no number."""
    for name in ("convertToShares", "convertToAssets"):
        assert MAX // 10**20 < desk.call(name, MAX) <= MAX
    with pytest.raises(Reverted):
        desk.call("previewDeposit", MAX)
