"""Changes of a vault's settings as the Timelock makes them: same checks in the same order, same revert strings.

Pure: state in; the revert string ("" when it works) and the state after out. Who may call, and after which delay, is
not asked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from offchain.policy.model import BPS_IN_WAD, DAY, NO_ASSET, WAD, Mode, Rules, VaultState
from offchain.policy.rules import (
    MAX_BPS,
    Refused,
    aside,
    band,
    calendar_slot,
    loss_budget_used,
    session_is_open,
    speed_budget_used,
)

MIN_SLIPPAGE_MARGIN = 10  # bps above the feeds' errors
STOP = 14 * DAY  # how long a quarantine lasts
STOP_GAP = 7 * DAY  # between the end of one and the next
FIELD_BITS = {
    "calendar_every": 16,
    "calendar_anchor": 40,
    "window_seconds": 32,
    "cooldown_seconds": 32,
    "max_slippage_bps": 13,
    "loss_capacity_bps": 13,
    "loss_refill_bps_per_year": 16,
    "tolerance_bps": 13,
    "speed_capacity_bps": 16,
    "speed_refill_bps_per_day": 16,
}


def set_targets(state: VaultState, targets_bps: Sequence[int], now: int) -> tuple[str, VaultState]:
    """Move the targets within each asset's limits and the speed limit."""
    try:
        if len(targets_bps) != len(state.assets):
            raise Refused("wrong length")
        if any(bps > MAX_BPS for bps in targets_bps):
            raise Refused("above 100%")
        rows = zip(state.assets, targets_bps, strict=True)
        moved = replace(state, assets=tuple(replace(a, target_bps=bps) for a, bps in rows), time=now)
        check_settings(moved)
        path = sum(abs(a.target_bps - bps) for a, bps in zip(state.assets, targets_bps, strict=True))
        level = speed_budget_used(state, now) + path * BPS_IN_WAD
        if level > state.rules.speed_capacity_bps * BPS_IN_WAD:
            raise Refused("targets move too fast")
    except Refused as refusal:
        return str(refusal), state
    return "", replace(moved, speed_used=level, speed_time=now)


def set_rules(state: VaultState, rules: Rules, now: int) -> tuple[str, VaultState]:
    """Change the rules: what the budgets hold now was refilled at the old rates."""
    try:
        check_settings(replace(state, rules=rules, time=now))
    except Refused as refusal:
        return str(refusal), state
    old, session = state.rules, state.session
    if session.id > 0 and session.closed_at == 0 and not session_is_open(state, now):
        session = replace(session, closed_at=session.opened_at + old.window_seconds)
    if _terms(rules) != _terms(old):  # slots are numbered anew: the present one counts as used
        session = replace(session, slot=calendar_slot(rules, now))
    after = replace(
        state,
        rules=rules,
        session=session,
        loss_used=loss_budget_used(state, now),
        loss_time=now,
        speed_used=speed_budget_used(state, now),
        speed_time=now,
        time=now,
    )
    return "", after


def quarantine(state: VaultState, token: str, now: int) -> tuple[str, VaultState]:
    """Set one asset aside for 14 days; again only 7 days after that."""
    try:
        if state.aside_until > 0 and now < state.aside_until + STOP_GAP:
            raise Refused("too soon after the last")
        tokens = [a.token.lower() for a in state.assets]
        if token.lower() not in tokens:
            raise Refused("not an asset")
        after = replace(state, aside=tokens.index(token.lower()), aside_until=now + STOP, time=now)
        check_settings(after)
    except Refused as refusal:
        return str(refusal), state
    return "", after


def end_quarantine(state: VaultState, now: int) -> tuple[str, VaultState]:
    """The asset counts again."""
    at = replace(state, time=now)
    if aside(at) == NO_ASSET:
        return "no quarantine", state
    return "", replace(at, aside_until=now)


def check_settings(state: VaultState) -> None:
    """Refuse rules and assets that do not work together."""
    assets, rules = state.assets, state.rules
    for asset in assets:
        if not asset.min_target_bps <= asset.target_bps <= asset.max_target_bps:
            raise Refused("target outside limits")
    if sum(asset.target_bps for asset in assets) != MAX_BPS:
        raise Refused("targets do not sum to 100%")
    error = sum(sorted(asset.price_error_bps for asset in assets)[-2:])
    if rules.max_slippage_bps < error + MIN_SLIPPAGE_MARGIN:
        raise Refused("slippage below price errors")
    widest = max(band(asset) for asset in assets)
    if rules.loss_capacity_bps * WAD < 2 * widest * (rules.max_slippage_bps + error):
        raise Refused("loss budget below one rebalance")
    if rules.mode != Mode.THRESHOLD and rules.tolerance_bps == 0:
        raise Refused("tolerance 0 with a calendar")
    _check_rules(rules)
    index = aside(state)
    if index != NO_ASSET and assets[index].target_bps >= MAX_BPS:
        raise Refused("nothing left")


def _check_rules(rules: Rules) -> None:
    if rules.mode >= 4:
        raise Refused("unknown mode")
    if rules.calendar_unit >= 2:
        raise Refused("unknown calendar unit")
    if rules.calendar_every == 0:
        raise Refused("calendar every 0")
    if rules.window_seconds == 0:
        raise Refused("window 0")
    if any(getattr(rules, name) >> bits for name, bits in FIELD_BITS.items()):
        raise Refused("rule out of range")


def _terms(rules: Rules) -> tuple[int, int, int]:
    return rules.calendar_unit, rules.calendar_every, rules.calendar_anchor
