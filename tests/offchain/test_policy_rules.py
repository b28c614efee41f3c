"""The rules where the answer is known by hand; the differential test compares the rest with the bytecode."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain import policy
from offchain.errors import PolicyError
from offchain.policy import BPS_IN_WAD, DAY, WAD, YEAR, Asset, CalendarUnit, Mode, Rules, Session, VaultState

NOW = int(datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp())
RULES = Rules(Mode.THRESHOLD, 0, 1, NOW - 10 * DAY, DAY, 600, 100, 500, 365, 50, 1000, 100)


def asset(letter: str, target_bps: int, decimals: int = 18, points: int = 500, relative: int = 2500) -> Asset:
    return Asset("0x" + letter * 40, decimals, target_bps, points, relative, 0, 10_000, 10)


def state(cash: int, stock: int, **changes: object) -> VaultState:
    """40 % of a dollar with 6 decimals, 60 % of a share at 100 dollars; `cash`, `stock` in USD."""
    made = VaultState(
        assets=(asset("a", 4000, 6), asset("b", 6000)),
        rules=RULES,
        session=Session(),
        balances=(cash * 10**6, stock * WAD // 100),
        prices=(WAD, 100 * WAD),
        statuses=(0, 0),
        supply=1000 * WAD,
        time=NOW,
        fee_accrued_at=NOW,
        loss_time=NOW,
        speed_time=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_weights_follow_from_values_rounded_down() -> None:
    vault = state(500, 500)
    assert policy.values(vault) == [500 * WAD, 500 * WAD]
    assert policy.nav(vault) == 1000 * WAD
    assert policy.weights(vault) == [WAD // 2, WAD // 2]
    assert policy.drifts(vault) == [WAD // 10, WAD // 10]
    assert policy.values(vault, (1, 1)) == [10**12, 100]


def test_weights_of_nothing_are_refused() -> None:
    with pytest.raises(PolicyError, match="balances"):
        policy.weights(state(0, 0))


@pytest.mark.parametrize(
    ("target_bps", "points", "relative", "band_bps"),
    [(6000, 500, 2500, 500), (1000, 500, 2500, 250), (50, 500, 2500, 25), (6000, 0, 2500, 25)],
)
def test_band_is_the_narrower_but_never_below_25_bps(
    target_bps: int, points: int, relative: int, band_bps: int
) -> None:
    assert policy.band(asset("a", target_bps, points=points, relative=relative)) == band_bps * BPS_IN_WAD


def test_tolerance_is_at_most_a_quarter_of_the_band() -> None:
    vault = state(400, 600)
    assert policy.tolerances(vault) == [50 * BPS_IN_WAD, 50 * BPS_IN_WAD]
    wide = replace(vault, rules=replace(RULES, tolerance_bps=400))
    assert policy.tolerances(wide) == [125 * BPS_IN_WAD, 125 * BPS_IN_WAD]


@pytest.mark.parametrize(
    ("day", "slot"),
    [((2025, 12, 31), 0), ((2026, 1, 1), 1), ((2026, 3, 31), 1), ((2026, 4, 1), 2), ((2027, 1, 1), 5)],
)
def test_quarters_begin_on_the_first_of_the_month(day: tuple[int, int, int], slot: int) -> None:
    anchor = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    rules = replace(RULES, calendar_unit=CalendarUnit.MONTHS, calendar_every=3, calendar_anchor=anchor)
    assert policy.calendar_slot(rules, int(datetime(*day, tzinfo=UTC).timestamp())) == slot


@pytest.mark.parametrize(
    ("mode", "due", "drifted", "kind"),
    [
        (Mode.CALENDAR, True, False, "calendar"),
        (Mode.CALENDAR, False, True, "none"),
        (Mode.THRESHOLD, True, True, "threshold"),
        (Mode.THRESHOLD, True, False, "none"),
        (Mode.EITHER, True, False, "calendar"),
        (Mode.EITHER, False, True, "threshold"),
        (Mode.EITHER, False, False, "none"),
        (Mode.BOTH, True, True, "calendar and threshold"),
        (Mode.BOTH, True, False, "none"),
        (Mode.BOTH, False, True, "none"),
    ],
)
def test_trigger_follows_the_mode(mode: Mode, due: bool, drifted: bool, kind: str) -> None:
    session = Session(slot=policy.calendar_slot(RULES, NOW) - due)
    vault = state(500 if drifted else 400, 500 if drifted else 600, session=session)
    found = policy.trigger(replace(vault, rules=replace(RULES, mode=mode)), NOW)
    assert (found.kind, found.holds) == (kind, kind != "none")
    assert found.by_calendar == (due and mode != Mode.THRESHOLD)


def test_session_ends_with_its_window_and_the_cooldown_follows() -> None:
    vault = state(500, 500, session=Session(3, NOW, 0, 0, False))
    end = NOW + RULES.window_seconds
    assert policy.next_session(vault, end - 1) == (3, "")
    assert policy.next_session(vault, end) == (4, "cooldown not over")
    assert policy.next_session(vault, end + RULES.cooldown_seconds) == (4, "")


def test_next_session_says_what_would_be_refused() -> None:
    assert policy.next_session(state(400, 600), NOW) == (1, "no trigger")
    assert policy.next_session(state(500, 500, paused_until=NOW + 1), NOW) == (1, "paused")
    assert policy.next_session(state(500, 500, statuses=(0, 5)), NOW) == (1, "price not usable")
    assert policy.next_session(state(0, 0), NOW) == (1, "no value")


def test_a_perfect_trade_is_accepted_and_closes_the_session() -> None:
    vault = state(500, 500)
    sells = (10**12, 0)  # far too much: the vault clips
    verdict = policy.check_rebalance(vault, sells, (400 * 10**6, 6 * WAD), 1, NOW, NOW)
    assert verdict.ok
    assert verdict.closed
    assert verdict.sent == (100 * 10**6, 0)
    assert verdict.charge == 2 * BPS_IN_WAD  # 10 bps of error on 10 % sold and 10 % bought
    assert verdict.state.session == Session(1, NOW, NOW, 0, False)
    assert verdict.state.loss_used == verdict.charge


def test_a_refused_trade_leaves_the_state_alone() -> None:
    vault = state(500, 500)
    verdict = policy.check_rebalance(vault, (10**12, 0), (400 * 10**6, 59 * WAD // 10), 1, NOW, NOW)
    assert (verdict.ok, verdict.reason) == (False, "loss above slippage")  # 10 of 100 USD lost
    assert verdict.state is vault


def test_loss_budget_refills_continuously_down_to_nothing() -> None:
    vault = state(500, 500, loss_used=3 * BPS_IN_WAD)
    assert policy.loss_budget_used(vault, NOW) == 3 * BPS_IN_WAD
    assert policy.loss_budget_used(vault, NOW + YEAR // 365) == 2 * BPS_IN_WAD
    assert policy.loss_budget_used(vault, NOW + YEAR) == 0


def test_fee_accrues_in_whole_days() -> None:
    vault = state(500, 500, fee_bps=300, fee_accrued_at=NOW)
    midnight = NOW // DAY * DAY + DAY
    assert policy.accrue_fee(vault, midnight - 1) == vault
    after = policy.accrue_fee(vault, midnight)
    assert after.pending_fee_shares == 1000 * WAD * 300 // (365 * 10_000)
    assert after.supply == vault.supply + after.pending_fee_shares


def test_fee_saturates_instead_of_overflowing() -> None:
    vault = state(500, 500, fee_bps=300, supply=2**112 - 2)
    assert policy.accrue_fee(vault, NOW + YEAR).supply == 2**112 - 1
    full = state(500, 500, fee_bps=300, pending_fee_shares=2**92 - 1)
    assert policy.accrue_fee(full, NOW + YEAR).supply == full.supply


@given(st.integers(0, 10**30), st.integers(0, 10**30), st.integers(1, 10**30), st.integers(1, 10**30))
def test_minting_and_redeeming_in_kind_never_profits(cash: int, stock: int, supply: int, shares: int) -> None:
    vault = state(0, 0, balances=(cash, stock), supply=supply)
    paid = policy.mint_amounts(vault, shares)
    grown = tuple(q + p for q, p in zip(vault.balances, paid, strict=True))
    back = policy.redeem_amounts(replace(vault, balances=grown, supply=supply + shares), shares)
    assert all(got <= gave for got, gave in zip(back, paid, strict=True))


def test_a_skipped_asset_stays_behind() -> None:
    assert policy.redeem_amounts(state(500, 500), 100 * WAD, skip=0b01) == [0, WAD // 2]


def three(**changes: object) -> VaultState:
    """50, 30 and 20 % on target, 1,000 dollars, all at a dollar."""
    assets = (asset("a", 5000), asset("b", 3000), asset("c", 2000))
    made = state(0, 0, assets=assets, prices=(WAD,) * 3, statuses=(0,) * 3)
    return replace(made, balances=(500 * WAD, 300 * WAD, 200 * WAD), **changes)  # type: ignore[arg-type]


def test_a_quarantine_takes_the_asset_out_of_every_weight() -> None:
    reason, vault = policy.quarantine(three(), "0x" + "B" * 40, NOW)
    assert (reason, policy.aside(vault), vault.aside_until) == ("", 1, NOW + 14 * DAY)
    assert policy.values(vault) == [500 * WAD, 0, 200 * WAD]
    assert policy.targets(vault) == [5 * WAD // 7, 0, 2 * WAD // 7]
    assert policy.bands(vault)[2] == min(500 * BPS_IN_WAD, 2500 * (2 * WAD // 7) // 10_000)
    assert policy.clip_sells(replace(vault, balances=(WAD, 10**30, WAD)), (2**255,) * 3)[1] == 0
    assert policy.usable(replace(vault, prices=(WAD, 0, WAD), statuses=(0, 5, 0)))
    assert not policy.usable(replace(vault, statuses=(0, 0, 5)))


def test_a_quarantine_ends_by_itself() -> None:
    _, vault = policy.quarantine(three(), "0x" + "b" * 40, NOW)
    end = NOW + 14 * DAY
    dear = replace(vault, prices=(WAD, 0, WAD))
    assert policy.next_session(dear, end - 1) == (1, "no trigger")
    assert policy.next_session(dear, end) == (1, "price not usable")
    assert policy.targets(replace(vault, time=end)) == [WAD // 2, 3 * WAD // 10, WAD // 5]


def test_a_quarantine_is_followed_by_a_gap() -> None:
    _, vault = policy.quarantine(three(), "0x" + "b" * 40, NOW)
    assert policy.end_quarantine(three(), NOW) == ("no quarantine", three())
    _, ended = policy.end_quarantine(vault, NOW + DAY)
    assert policy.aside(ended) == policy.NO_ASSET
    token = "0x" + "a" * 40
    assert policy.quarantine(ended, token, NOW + 8 * DAY - 1)[0] == "too soon after the last"
    assert policy.quarantine(ended, token, NOW + 8 * DAY)[0] == ""
    assert policy.quarantine(ended, "0x" + "9" * 40, NOW + 8 * DAY)[0] == "not an asset"


def test_targets_move_within_limits_and_speed() -> None:
    vault = three(rules=replace(RULES, speed_capacity_bps=1000, speed_refill_bps_per_day=100))
    reason, moved = policy.set_targets(vault, (4600, 3000, 2400), NOW)
    assert (reason, moved.speed_used) == ("", 800 * BPS_IN_WAD)
    assert [a.target_bps for a in moved.assets] == [4600, 3000, 2400]
    assert policy.set_targets(moved, (4400, 3000, 2600), NOW)[0] == "targets move too fast"
    assert policy.set_targets(moved, (4400, 3000, 2600), NOW + 2 * DAY)[0] == ""
    assert policy.set_targets(vault, (5000, 3000, 2001), NOW)[0] == "targets do not sum to 100%"
    limited = replace(vault, assets=(replace(vault.assets[0], max_target_bps=5000), *vault.assets[1:]))
    assert policy.set_targets(limited, (5001, 2999, 2000), NOW)[0] == "target outside limits"


@pytest.mark.parametrize(("changes", "slot"), [({"tolerance_bps": 9}, 1), ({"calendar_every": 2}, 6)])
def test_new_rules_renumber_the_slots_only_with_new_terms(changes: dict[str, int], slot: int) -> None:
    """Ten days after the anchor, slots of one day: the eleventh; of two: the sixth."""
    vault = three(session=Session(slot=1))
    reason, after = policy.set_rules(vault, replace(RULES, **changes), NOW)  # type: ignore[arg-type]
    assert (reason, after.session.slot) == ("", slot)


def test_new_rules_keep_what_the_budgets_hold() -> None:
    vault = three(loss_used=3 * BPS_IN_WAD, session=Session(1, NOW - 2 * DAY, 0, 0, False))
    rules = replace(RULES, loss_refill_bps_per_year=0, window_seconds=30 * DAY)
    reason, after = policy.set_rules(vault, rules, NOW + DAY)
    assert reason == ""
    assert policy.loss_budget_used(after, NOW + YEAR) == 2 * BPS_IN_WAD
    assert after.session.closed_at == NOW - DAY  # its window is over, whatever the new one
    assert (
        policy.set_rules(vault, replace(RULES, max_slippage_bps=29), NOW)[0] == "slippage below price errors"
    )
