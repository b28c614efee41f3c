"""fee = floor * x + surcharge * max(0, x - gap): what it costs, and that parts cost the same as the whole."""

from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.world import ALICE, STRATEGIST, WAD
from tests.unit.teller.stage import FLOOR, SURCHARGE, Desk, State

HOLDINGS = st.tuples(*[st.integers(1, 10**6)] * 3)
MANY_EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def exact_fee(value: Fraction, gap: Fraction) -> Fraction:
    return (FLOOR * value + SURCHARGE * max(Fraction(0), value - gap)) / 10_000


def exact_gap_in(nav: Fraction, held: Fraction, target: Fraction) -> Fraction:
    return max(Fraction(0), (target * nav - held) / (1 - target))


def exact_gap_out(nav: Fraction, held: Fraction, target: Fraction) -> Fraction:
    return max(Fraction(0), (held - target * nav) / (1 - target))


def exact_parts(state: State, parts: list[int], inward: bool) -> Fraction:
    """The fees of flows of these values one after another, without rounding."""
    nav, held, target = Fraction(state.nav), Fraction(state.held), Fraction(state.target, WAD)
    total = Fraction(0)
    for part in parts:
        gap = exact_gap_in if inward else exact_gap_out
        total += exact_fee(Fraction(part), gap(nav, held, target))
        nav, held = (nav + part, held + part) if inward else (nav - part, held - part)
    return total


@MANY_EXAMPLES
@given(
    holdings=HOLDINGS, parts=st.lists(st.integers(1, 10**23), min_size=1, max_size=6), inward=st.booleans()
)
def test_parts_pay_exactly_what_the_whole_pays(
    desk: Desk, holdings: tuple[int, ...], parts: list[int], inward: bool
):
    desk.hold(holdings)
    state = desk.state()
    if not inward:
        parts = [part for part in parts if 6 * part <= state.held] or [1]
    assert exact_parts(state, parts, inward) == exact_parts(state, [sum(parts)], inward)


@MANY_EXAMPLES
@given(holdings=HOLDINGS, value=st.integers(1, 10**24), inward=st.booleans())
def test_the_contracts_sum_is_the_exact_one_rounded_up(
    desk: Desk, holdings: tuple[int, ...], value: int, inward: bool
):
    """`State` is what the other tests hold the contract to; the gap's rounding is part of a unit of its surcharge."""
    desk.hold(holdings)
    state = desk.state()
    gap = state.gap_in() if inward else state.gap_out()
    exact = exact_parts(state, [value], inward)
    assert exact <= state.fee(value, gap) < exact + 1 + Fraction(SURCHARGE, 10_000)


@MANY_EXAMPLES
@given(holdings=HOLDINGS, parts=st.lists(st.integers(1, 10**11), min_size=2, max_size=6))
def test_depositing_in_parts_issues_no_more_shares(desk: Desk, holdings: tuple[int, ...], parts: list[int]):
    """At unmoved prices and in one second: a later part pays as if the fees of the earlier had melted."""
    snapshot = desk.evm.snapshot()
    desk.hold(holdings)
    whole = desk.call("previewDeposit", sum(parts))
    state = desk.state()
    unit = 10 + 10 * state.supply // state.nav  # shares of ten units of value
    value = sum(parts) * state.price // state.scale
    dearer = whole * state.fee(value, state.gap_in()) // state.nav
    room = desk.call("maxDeposit", ALICE)
    if sum(parts) <= room // 2:
        got = sum(desk.call("deposit", part, ALICE) for part in parts)
        assert whole - dearer - len(parts) * unit <= got <= whole
    desk.evm.revert(snapshot)


@MANY_EXAMPLES
@given(holdings=HOLDINGS, parts=st.lists(st.integers(1, 10**11), min_size=2, max_size=6))
def test_withdrawing_in_parts_burns_the_same_shares(desk: Desk, holdings: tuple[int, ...], parts: list[int]):
    snapshot = desk.evm.snapshot()
    desk.world.mint(ALICE, 500_000 * WAD)
    desk.hold(holdings)
    whole = desk.call("previewWithdraw", sum(parts))
    unit = 10 + 10 * desk.vault.call("totalSupply") // desk.state().nav
    if sum(parts) <= desk.call("maxWithdraw", ALICE) // 2:
        burnt = sum(desk.call("withdraw", part, ALICE, ALICE) for part in parts)
        assert whole <= burnt <= whole + len(parts) * unit
    desk.evm.revert(snapshot)


def test_towards_the_target_and_back_pays_the_surcharge_on_the_way_back(desk: Desk):
    desk.hold((400, 360, 240))
    shares = desk.call("deposit", 100_000 * 10**6, ALICE)
    paid = desk.call("redeem", shares, ALICE, ALICE)
    floors = 100_000 * 10**6 * 9_950 // 10_000 * 10_000 // 10_050
    assert paid < floors * 9_990 // 10_000


def test_an_asset_that_alone_is_wanted_pays_no_surcharge():
    desk = Desk(targets_bps=(9_500, 500), decimals=(6, 8), prices_usd=(1, 50_000))
    desk.world.at_once("set_targets", [10_000, 0], sender=STRATEGIST)
    assert desk.call("previewDeposit", 10**4, teller=1) == 5 * WAD * (10_000 - FLOOR - SURCHARGE) // 10_000
    assert desk.call("deposit", 1_000 * 10**6, ALICE) == 995 * WAD
    assert desk.call("redeem", 201 * WAD, ALICE, ALICE) == pytest.approx(200 * 10**6, rel=1e-4)
