"""The vault's rules in exact integers: same formulas, same rounding, same order of checks, same revert strings.

Pure: state in, result out. `check_rebalance` is the main path; docs/spec.md numbers the steps it follows.
Units: values and NAV in USD WAD, weights, drifts, bands and budgets in WAD (1e18 = 100 %), amounts in token units.
An asset in quarantine at the state's `time` has no value and no target, whatever is held of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from offchain.errors import PolicyError
from offchain.policy.model import (
    BPS_IN_WAD,
    DAY,
    NO_ASSET,
    WAD,
    YEAR,
    Asset,
    CalendarUnit,
    Mode,
    Rules,
    Session,
    Trigger,
    VaultState,
    Verdict,
)

MAX_BPS = 10_000
MIN_BAND = 25 * BPS_IN_WAD  # 0.25 %
MAX_SUPPLY = 2**112 - 1
MAX_PENDING_FEE = 2**92 - 1
MAX_REDEEMABLE = 2**128 - 1


class Refused(Exception):
    """Internal: a rule said no; the message is the revert string."""


# ---------------------------------------------------------------- weights


def aside(state: VaultState) -> int:
    """Index of the asset in quarantine at the state's time, or NO_ASSET."""
    return state.aside if state.time < state.aside_until else NO_ASSET


def _without(index: int, numbers: Sequence[int]) -> list[int]:
    return [0 if i == index else number for i, number in enumerate(numbers)]


def usable(state: VaultState) -> bool:
    """Every price that counts is usable."""
    rows = enumerate(zip(state.prices, state.statuses, strict=True))
    return all(i == aside(state) or (price > 0 and status == 0) for i, (price, status) in rows)


def values(state: VaultState, balances: Sequence[int] | None = None) -> list[int]:
    """USD WAD of each holding, rounded down; of `balances` when given."""
    held = _without(aside(state), state.balances if balances is None else balances)
    return [q * p // a.scale for q, p, a in zip(held, state.prices, state.assets, strict=True)]


def nav(state: VaultState, balances: Sequence[int] | None = None) -> int:
    """USD WAD of the whole basket."""
    return sum(values(state, balances))


def weights(state: VaultState, balances: Sequence[int] | None = None) -> list[int]:
    """Share of the NAV of each asset, WAD, rounded down. Needs a NAV above 0."""
    return _weights(values(state, balances))


def _weights(asset_values: Sequence[int]) -> list[int]:
    total = sum(asset_values)
    if total == 0:
        raise PolicyError("balances: the vault holds nothing of value, so weights are undefined")
    return [v * WAD // total for v in asset_values]


def targets(state: VaultState) -> list[int]:
    """Target weights, WAD, rounded down; without the asset in quarantine the others grow in proportion."""
    own = [a.target_bps * BPS_IN_WAD for a in state.assets]
    index = aside(state)
    whole = WAD - (own[index] if index < len(own) else 0)
    if whole == 0:
        raise PolicyError("targets: the only asset with a target is in quarantine, so no other has one")
    return _without(index, [t * WAD // whole for t in own])


def drifts(state: VaultState, balances: Sequence[int] | None = None) -> list[int]:
    """Distance of each weight from its target, WAD."""
    return _drifts(state, weights(state, balances))


def _drifts(state: VaultState, asset_weights: Sequence[int]) -> list[int]:
    return [abs(w - t) for w, t in zip(asset_weights, targets(state), strict=True)]


def band(asset: Asset, target: int | None = None) -> int:
    """Drift at which the asset triggers, WAD: points or relative to the target, the narrower, at least 0.25 %.

    `target`: WAD, the asset's own when left out. Rounded down: trades start, and sessions close, sooner.
    """
    points = asset.band_points_bps * BPS_IN_WAD
    weight = asset.target_bps * BPS_IN_WAD if target is None else target
    return max(MIN_BAND, min(points, asset.band_relative_bps * weight // MAX_BPS))


def bands(state: VaultState) -> list[int]:
    """`band` of each asset, WAD."""
    return [band(a, t) for a, t in zip(state.assets, targets(state), strict=True)]


def tolerances(state: VaultState) -> list[int]:
    """How far past or beside its target a trade may leave an asset, WAD: at most a quarter of the band."""
    return [min(state.rules.tolerance_bps * BPS_IN_WAD, b // 4) for b in bands(state)]


# ---------------------------------------------------------------- time


def _at(state: VaultState, now: int) -> VaultState:
    return state if state.time == now else replace(state, time=now)


def calendar_slot(rules: Rules, now: int) -> int:
    """Number of the calendar slot at `now`, counted from 1 at the anchor; 0 before it."""
    if now < rules.calendar_anchor:
        return 0
    if rules.calendar_unit == CalendarUnit.DAYS:
        return (now - rules.calendar_anchor) // (rules.calendar_every * DAY) + 1
    return (_month(now) - _month(rules.calendar_anchor)) // rules.calendar_every + 1


def _month(timestamp: int) -> int:
    moment = datetime.fromtimestamp(timestamp, UTC)
    return 12 * moment.year + moment.month


def session_is_open(state: VaultState, now: int) -> bool:
    """The last session was not closed and its window is not over."""
    last = state.session
    return last.id > 0 and last.closed_at == 0 and now < last.opened_at + state.rules.window_seconds


def cooldown_over(state: VaultState, now: int) -> bool:
    """A new session may open, as far as the last one's end is concerned."""
    last = state.session
    if last.id == 0:
        return True
    end = last.closed_at or last.opened_at + state.rules.window_seconds
    return now >= end + state.rules.cooldown_seconds


def trigger(state: VaultState, now: int) -> Trigger:
    """Whether the calendar slot is due and/or a drift reached its band, as the mode asks."""
    state = _at(state, now)
    slot = calendar_slot(state.rules, now)
    hit = [i for i, (d, b) in enumerate(zip(drifts(state), bands(state), strict=True)) if d >= b]
    return trigger_from(state, slot, slot > state.session.slot, hit)


def trigger_from(state: VaultState, slot: int, due: bool, hit: Sequence[int]) -> Trigger:
    """The trigger where the calendar slot is known, whether it is due, and which assets are outside their bands."""
    mode = state.rules.mode
    by_calendar = due and mode != Mode.THRESHOLD
    by_threshold = bool(hit) and mode != Mode.CALENDAR
    holds = (by_calendar and by_threshold) if mode == Mode.BOTH else (by_calendar or by_threshold)
    found = [name for name, on in (("calendar", by_calendar), ("threshold", by_threshold)) if on]
    kind = " and ".join(found) if holds else "none"
    says = []
    if mode != Mode.THRESHOLD:
        used = "due" if due else "used"
        says.append(f"calendar slot {slot} is {used}" if slot else "the calendar has not begun")
    if mode != Mode.CALENDAR:
        outside = ", ".join(state.assets[i].token for i in hit)
        says.append(f"outside the band: {outside}" if hit else "every asset is in its band")
    return Trigger(holds, by_calendar, slot, kind, "; ".join(says))


def _refilled(used: int, since: int, now: int, per_period_bps: int, period: int) -> int:
    return max(0, used - (now - since) * per_period_bps * BPS_IN_WAD // period)


def loss_budget_used(state: VaultState, now: int) -> int:
    """What of the loss budget is used at `now`, WAD of NAV."""
    return _refilled(
        state.loss_used,
        state.loss_time,
        now,
        state.rules.loss_refill_bps_per_year,
        YEAR,
    )


def speed_budget_used(state: VaultState, now: int) -> int:
    """What of the speed limit on moving targets is used at `now`, WAD of weight."""
    return _refilled(
        state.speed_used,
        state.speed_time,
        now,
        state.rules.speed_refill_bps_per_day,
        DAY,
    )


# ---------------------------------------------------------------- flows


def mint_amounts(state: VaultState, shares: int) -> list[int]:
    """Token units that minting `shares` in kind takes, rounded up.

    `state` has the fee accrued (`accrue_fee`), and no teller's fee melts in it.
    """
    return [-(-q * shares // state.supply) for q in state.balances]


def redeem_amounts(state: VaultState, shares: int, skip: int = 0) -> list[int]:
    """Token units that redeeming `shares` in kind pays, rounded down; bit i of `skip` leaves asset i behind."""
    return [
        0 if skip >> i & 1 else min(q, MAX_REDEEMABLE) * shares // state.supply
        for i, q in enumerate(state.balances)
    ]


def accrue_fee(state: VaultState, now: int) -> VaultState:
    """The state with the streaming fee of the whole UTC days since the last accrual added to supply and pending."""
    days = now // DAY - state.fee_accrued_at // DAY
    if days <= 0:
        return state
    fee = state.supply * state.fee_bps * days // (365 * MAX_BPS)
    fee = min(fee, MAX_SUPPLY - state.supply, MAX_PENDING_FEE - state.pending_fee_shares)
    return replace(
        state,
        supply=state.supply + fee,
        pending_fee_shares=state.pending_fee_shares + fee,
        fee_accrued_at=now,
    )


# ---------------------------------------------------------------- rebalance


def clip_sells(state: VaultState, sells: Sequence[int]) -> list[int]:
    """Token units of each sell that the vault will send: never more than it holds or than lies above the target."""
    held = values(state)
    total = sum(held)
    clipped = []
    for sell, q, v, t, p, a in zip(
        sells,
        state.balances,
        held,
        targets(state),
        state.prices,
        state.assets,
        strict=True,
    ):
        excess = v - _ceil_div(t * total, WAD)
        clipped.append(min(sell, q, excess * a.scale // p) if excess > 0 else 0)
    return clipped


def check_open_session(state: VaultState, now: int) -> tuple[str, VaultState]:
    """Revert string of `open_session` ("" when it works) and the state after."""
    at = _at(state, now)
    try:
        if now < state.paused_until:
            raise Refused("paused")
        _check_prices(at)
        if session_is_open(at, now):
            raise Refused("wrong session")
        return "", replace(at, session=_opened(at, now))
    except Refused as refusal:
        return str(refusal), state


def next_session(state: VaultState, now: int) -> tuple[int, str]:
    """The session that a rebalance at `now` has to name, and the revert string that meets it anyway ("" if none)."""
    number = state.session.id + (0 if session_is_open(state, now) else 1)
    try:
        if now < state.paused_until:
            raise Refused("paused")
        _check_prices(_at(state, now))
        _session_for(state, number, now)
    except Refused as refusal:
        return number, str(refusal)
    return number, ""


def check_rebalance(
    state: VaultState,
    sells: Sequence[int],
    balances_after: Sequence[int],
    session: int,
    deadline: int,
    now: int,
    *,
    executor: str = "",
    keeper: bool = True,
    answered: bool = True,
) -> Verdict:
    """What the vault says to a rebalance called at `now` that leaves it with `balances_after`.

    `keeper`: the caller has the role. `answered`: the executor returned its magic value.
    """
    at = _at(state, now)
    try:
        _check_call(at, sells, deadline, now, executor, keeper)  # 1
        _check_prices(at)  # 2
        joined = _session_for(at, session, now)  # 3
        sent = clip_sells(at, sells)  # 4
        if not answered:
            raise Refused("executor did not answer")
        charge = _check_trade(at, sent, balances_after, now)  # 5 to 7
    except Refused as refusal:
        return Verdict(False, str(refusal), state)
    after = replace(
        at,
        session=joined,
        balances=tuple(balances_after),
        loss_used=loss_budget_used(at, now) + charge,
        loss_time=now,
    )
    closed = _is_done(after)  # 8
    if closed:  # which uses the calendar's slot; neither opening nor a part of the trade does
        slot = calendar_slot(at.rules, now) if joined.by_calendar else joined.slot
        after = replace(after, session=replace(joined, closed_at=now, slot=slot))
    return Verdict(True, "", after, tuple(sent), charge, closed)


def _check_call(
    state: VaultState,
    sells: Sequence[int],
    deadline: int,
    now: int,
    executor: str,
    keeper: bool,
) -> None:
    if not keeper:
        raise Refused("not keeper")
    if now > deadline:
        raise Refused("deadline passed")
    if now < state.paused_until:
        raise Refused("paused")
    if len(sells) != len(state.assets):
        raise Refused("wrong length")
    forbidden = {
        state.vault.lower(),
        state.oracle.lower(),
        *(a.token.lower() for a in state.assets),
    }
    if executor and executor.lower() in forbidden:
        raise Refused("executor not allowed")


def _check_prices(state: VaultState) -> None:
    if not usable(state):
        raise Refused("price not usable")
    if nav(state) == 0:
        raise Refused("no value")


def _session_for(state: VaultState, session: int, now: int) -> Session:
    """The session that a rebalance naming `session` belongs to: the open one, or the one that it opens."""
    if session_is_open(state, now):
        if session != state.session.id:
            raise Refused("wrong session")
        return state.session
    if session != state.session.id + 1:
        raise Refused("wrong session")
    return _opened(state, now)


def _opened(state: VaultState, now: int) -> Session:
    if not cooldown_over(state, now):
        raise Refused("cooldown not over")
    found = trigger(state, now)
    if not found.holds:
        raise Refused("no trigger")
    return Session(state.session.id + 1, now, 0, state.session.slot, found.by_calendar)


def _check_trade(state: VaultState, sent: Sequence[int], balances_after: Sequence[int], now: int) -> int:
    """The trade rules at unmoved prices; the charge to the loss budget, WAD of NAV."""
    before, after = values(state), values(state, balances_after)
    nav_before, nav_after = sum(before), sum(after)
    if nav_after == 0:
        raise Refused("no value")
    _check_directions(state, sent, balances_after, before, after)

    traded = [abs(new - old) for old, new in zip(before, after, strict=True)]
    sold = sum(v for v, q0, q1 in zip(traded, state.balances, balances_after, strict=True) if q1 < q0)
    drift_before = sum(_drifts(state, _weights(before)))
    drift_after = sum(_drifts(state, _weights(after)))
    if drift_before < drift_after + _ceil_div(sold * WAD, nav_before):
        raise Refused("drift fell too little")

    lost = max(nav_before - nav_after, 0)
    if lost * MAX_BPS > state.rules.max_slippage_bps * sold:
        raise Refused("loss above slippage")
    error = sum(a.price_error_bps * v for a, v in zip(state.assets, traded, strict=True))
    charge = _ceil_div(lost * WAD, nav_before) + _ceil_div(error * BPS_IN_WAD, nav_before)
    if loss_budget_used(state, now) + charge > state.rules.loss_capacity_bps * BPS_IN_WAD:
        raise Refused("loss budget exceeded")
    return charge


def _check_directions(
    state: VaultState,
    sent: Sequence[int],
    balances_after: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
) -> None:
    """Overweight assets are only sold, underweight ones only bought, none past its target by more than allowed."""
    nav_before, nav_after = sum(before), sum(after)
    gain = max(nav_after - nav_before, 0) * WAD // nav_after
    rows = zip(
        _without(aside(state), state.balances),
        _without(aside(state), balances_after),
        sent,
        _weights(before),
        _weights(after),
        targets(state),
        tolerances(state),
        strict=True,
    )
    for q0, q1, sent_i, w0, w1, t, tol in rows:
        if q1 < q0:
            if q0 - q1 > sent_i:
                raise Refused("balance fell by more than sent")
            if w0 <= t:
                raise Refused("asset not overweight")
            if w1 + tol + gain < t:
                raise Refused("sold past target")
        elif q1 > q0:
            if w0 >= t:
                raise Refused("asset not underweight")
            if w1 > t + tol + gain:
                raise Refused("bought past target")


def _is_done(state: VaultState) -> bool:
    """The session has done its work: on target if the calendar opened it, else back inside half of every band."""
    limits = tolerances(state) if state.session.by_calendar else [b // 2 for b in bands(state)]
    return all(d <= limit for d, limit in zip(drifts(state), limits, strict=True))


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
