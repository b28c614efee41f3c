"""The rules that say when a session may open, for many vaults at once: `next_session` and `trigger` of each.

Times are exact. Drifts and bands are compared in floating point, whose error is below `MARGIN`, and a vault with an
asset nearer to its band than that is asked of the integer rules. So is one worth less than a dollar, where what
integers round off is no longer small. That makes the answers the integer rules' own.

The numbers of `rules`, `session` and the times must be below 2^62, as all are that a vault can store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from offchain.errors import PolicyError
from offchain.policy import rules as exact
from offchain.policy.model import BPS_IN_WAD, DAY, NO_ASSET, WAD, CalendarUnit, Mode, Trigger, VaultState

__all__ = ["next_sessions", "triggers", "waiting_reasons"]

# Of a drift, WAD. 20 roundings of 2^-53 in a weight v / V of at most 1, as few in target and band; what integers round
# off: 16 units of a value V >= 1e18, 1 of the weight, 1 of the target, 2 of the band. Together below 1e4.
MARGIN = 1e6
MAX_BPS = 10_000
MIN_BAND = 25 * BPS_IN_WAD

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def next_sessions(states: Sequence[VaultState], now: int) -> list[tuple[int, str]]:
    """`policy.next_session` of each state at `now`."""
    if not states:
        return []
    found = _look(states, now)
    answers = list(zip(found.session.tolist(), found.refusal.tolist(), strict=True))
    for i in np.flatnonzero(found.unsure).tolist():
        answers[i] = exact.next_session(states[i], now)
    return answers


def triggers(states: Sequence[VaultState], now: int) -> list[Trigger]:
    """`policy.trigger` of each state at `now`. Raises PolicyError where one holds nothing of value."""
    return _triggers(states, _look(states, now), now) if states else []


def waiting_reasons(states: Sequence[VaultState], now: int) -> list[str]:
    """Why no rebalance of each vault can start at `now`, in the keeper's words; "" where one can."""
    if not states:
        return []
    found = _look(states, now)
    reasons: list[str] = found.refusal.tolist()
    for i in np.flatnonzero(found.unsure).tolist():
        try:
            reasons[i] = exact.next_session(states[i], now)[1]
        except PolicyError as error:  # one vault's does not keep the others from theirs
            reasons[i] = str(error)
    idle = [i for i, reason in enumerate(reasons) if reason == "no trigger"]
    for i, trigger in zip(idle, _triggers([states[i] for i in idle], found.of(idle), now), strict=True):
        reasons[i] += f": {trigger.reason}"
    return reasons


def _triggers(states: Sequence[VaultState], found: _Found, now: int) -> list[Trigger]:
    outside: list[list[int]] = [[] for _ in states]
    for i, asset in np.argwhere(found.hit).tolist():
        outside[i].append(asset)
    rows = zip(states, found.slot.tolist(), found.due.tolist(), outside, found.unsure.tolist(), strict=True)
    return [
        exact.trigger(state, now) if unsure else exact.trigger_from(state, slot, due, hit)
        for state, slot, due, hit, unsure in rows
    ]


# ---------------------------------------------------------------- in columns


@dataclass(frozen=True)
class _Found:
    """The answers; shape (vaults,), `hit` (vaults, assets)."""

    session: Ints  # the number that a rebalance has to name
    refusal: NDArray[np.object_]  # the revert string that meets it anyway
    slot: Ints
    due: Bools  # the calendar's slot is not used yet
    hit: Bools  # the asset is outside its band
    unsure: Bools  # to be asked of the integer rules

    def of(self, rows: Sequence[int]) -> _Found:
        """Of some of the vaults."""
        return _Found(*(getattr(self, name)[list(rows)] for name in self.__dataclass_fields__))


def _look(states: Sequence[VaultState], now: int) -> _Found:
    slot, due = _calendar(states, now)
    usable, nav, hit, unsure = _basket(states, now)
    mode = _ints(s.rules.mode for s in states)
    by_calendar, by_threshold = due & (mode != Mode.THRESHOLD), hit.any(axis=1) & (mode != Mode.CALENDAR)
    holds = np.where(mode == Mode.BOTH, by_calendar & by_threshold, by_calendar | by_threshold)

    last = [s.session for s in states]
    number, opened, closed = (
        _ints(getattr(s, name) for s in last) for name in ("id", "opened_at", "closed_at")
    )
    window_end = opened + _ints(s.rules.window_seconds for s in states)
    is_open = (number > 0) & (closed == 0) & (now < window_end)
    ended = np.where(closed != 0, closed, window_end)
    rested = (number == 0) | (now >= ended + _ints(s.rules.cooldown_seconds for s in states))
    paused = now < _ints(s.paused_until for s in states)
    refusal = np.select(  # the first that is true, in the order of the vault's checks
        [paused, ~usable, nav < 1, is_open, ~rested, ~holds],
        ["paused", "price not usable", "no value", "", "cooldown not over", "no trigger"],
        "",
    ).astype(object)
    return _Found(number + ~is_open, refusal, slot, due, hit, unsure)


def _calendar(states: Sequence[VaultState], now: int) -> tuple[Ints, Bools]:
    """The slot at `now`, and whether it is due."""
    rules = [s.rules for s in states]
    unit, every, anchor = (
        _ints(getattr(r, name) for r in rules)
        for name in ("calendar_unit", "calendar_every", "calendar_anchor")
    )
    anchor = np.minimum(anchor, now + 1)  # a later one has no slot yet, whenever it is
    month = np.int64(now).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    months = month - anchor.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    passed = np.where(unit == CalendarUnit.DAYS, (now - anchor) // (every * DAY), months // every)
    slot = np.where(now < anchor, 0, passed + 1)
    return slot, slot > _ints(s.session.slot for s in states)


def _basket(states: Sequence[VaultState], now: int) -> tuple[Bools, Floats, Bools, Bools]:
    """Whether all prices can be used, the NAV, which assets are outside their bands, and where that is not sure."""
    assets = [s.assets for s in states]
    count = _ints(map(len, assets))
    is_there = np.arange(count.max()) < count[:, None]

    def spread(numbers: Iterable[int]) -> Floats:
        """One number for each asset of each vault, in a table of (vaults, assets)."""
        table = np.zeros(is_there.shape)
        table[is_there] = np.fromiter(numbers, np.float64, int(count.sum()))
        return table

    def each(name: str) -> Floats:
        return spread(getattr(a, name) for row in assets for a in row)

    set_aside = np.array([s.aside if now < s.aside_until else NO_ASSET for s in states])
    is_aside = np.arange(count.max()) == set_aside[:, None]
    prices = spread(chain.from_iterable(s.prices for s in states))
    ok = spread(status == 0 for s in states for status in s.statuses) > 0
    usable = (~is_there | is_aside | ((prices > 0) & ok)).all(axis=1)

    counts = is_there & ~is_aside
    balances = spread(chain.from_iterable(s.balances for s in states))
    values = np.where(counts, balances * prices / 10.0 ** each("decimals"), 0.0)
    nav = values.sum(axis=1)
    own = each("target_bps")
    rest = MAX_BPS - np.where(is_aside, own, 0).sum(axis=1)  # bps, of the assets that count
    targets = np.where(counts, own * (WAD / np.maximum(rest, 1))[:, None], 0.0)
    relative = each("band_relative_bps") * targets / MAX_BPS
    bands = np.maximum(MIN_BAND, np.minimum(each("band_points_bps") * BPS_IN_WAD, relative))
    with np.errstate(invalid="ignore", divide="ignore"):
        drifts = np.abs(values * (WAD / nav)[:, None] - targets)
    beyond = drifts - bands
    close = is_there & ~(np.abs(beyond) > MARGIN)  # where it is not a number, too
    odd = (set_aside != NO_ASSET) & ((set_aside < 0) | (set_aside >= count) | (rest <= 0))
    return usable, nav, is_there & (beyond >= 0), close.any(axis=1) | ~(nav >= WAD) | odd


def _ints(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, np.int64)
