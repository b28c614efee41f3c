"""When a policy may trade and how wide its bands are, row by row: the vault's own functions applied to a history.

`schedule(policy, market)` makes tables that the engine reads; nothing in a row of theirs is known later than that row.
Slots are `policy.calendar_slot`, bands `policy.band`, the speed limit `policy.speed_budget_used`, not written again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offchain import policy as vault
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import SUM_TOLERANCE, Floats, Ints, Market, Policy, RebalanceTo, Schedule, shaped
from offchain.planner import bands as theory
from offchain.policy import BPS_IN_WAD, WAD, Asset, CalendarUnit, Rules, VaultState

__all__ = ["best_bands", "exchange_rows", "schedule", "volatility_bands"]


def schedule(policy: Policy, market: Market) -> Schedule:
    """The tables of a policy; BacktestError names the field that cannot be used."""
    rows, n = market.shape
    targets, setting = _targets(policy, market)
    bands, stops = (
        None if given is None else shaped(name, given, rows, n, 0.0, 1.0)
        for name, given in (("bands", policy.bands), ("stops", policy.stops))
    )
    if any(given is not None and len(given) > 1 for given in (bands, stops)):  # a setting for every row
        targets, setting = targets[setting], np.arange(rows, dtype=np.int32)
    table = np.empty((4, *targets.shape))
    table[0] = targets
    table[1] = _vault_bands(policy, targets) if bands is None else bands
    table[2], table[3] = _stops(policy, table[1]) if stops is None else (stops, stops)
    lapses = policy.first_row_only or policy.calendar_rows is not None
    return Schedule(table, setting, _slots(policy, market), lapses)


# ---------------------------------------------------------------- calendar


def _slots(policy: Policy, market: Market) -> NDArray[np.int32]:
    if policy.calendar_rows is not None:
        mask = np.asarray(policy.calendar_rows)
        if mask.shape != market.times.shape or mask.dtype != np.bool_:
            raise BacktestError(f"calendar_rows: needs True or False for each of {len(market.times)} rows")
        return np.cumsum(mask, dtype=np.int32)
    terms = (policy.calendar_unit, policy.calendar_every, policy.calendar_anchor)
    if terms not in market.cache:
        market.cache[terms] = _slots_of(policy.rules(), market)
    found: NDArray[np.int32] = market.cache[terms]
    return found


def _slots_of(rules: Rules, market: Market) -> NDArray[np.int32]:
    """`policy.calendar_slot` of each row; counted in months it can only change with the month or at the anchor."""
    times: Ints = market.times
    if rules.calendar_unit == CalendarUnit.DAYS:
        return np.array([vault.calendar_slot(rules, now) for now in times.tolist()], dtype=np.int32)
    month = market.dates.astype("datetime64[M]").astype(np.int64)
    section = 2 * month + (times >= rules.calendar_anchor)
    first = np.flatnonzero(np.diff(section, prepend=section[0] - 1))
    slots = [vault.calendar_slot(rules, now) for now in times[first].tolist()]
    return np.repeat(np.array(slots, dtype=np.int32), np.diff(first, append=len(times)))


def exchange_rows(market: Market, exchange: str, months: int = 3, last: bool = False) -> NDArray[np.bool_]:
    """(T,) True on the rows of the first (or last) trading day of every `months` calendar months of an exchange.

    `exchange`: an ISO code of the package exchange_calendars, "XNYS" for New York. Pass the rows as `calendar_rows`.
    Days on which the exchange is closed are never chosen, whatever rows there are (a token trades at weekends). Of
    several rows on one day it is the day's last, which is its close.
    """
    try:
        import exchange_calendars  # type: ignore[import-untyped]
    except ImportError:
        raise BacktestError(
            "exchange: needs the package exchange_calendars: pip install '.[backtest]'"
        ) from None
    if months < 1:
        raise BacktestError(f"months: {months} is below 1")
    days = market.dates.astype("datetime64[D]")
    try:
        start, end = days[0].astype("datetime64[M]"), days[-1].astype("datetime64[M]") + 1
        calendar = exchange_calendars.get_calendar(
            exchange, start=str(start), end=str(end.astype("datetime64[D]"))
        )
    except exchange_calendars.errors.InvalidCalendarName:
        known = ", ".join(exchange_calendars.get_calendar_names(include_aliases=False)[:8])
        raise BacktestError(f"exchange: {exchange!r} is not known; known are {known} ...") from None
    open_days = calendar.sessions.to_numpy().astype("datetime64[D]")
    period = open_days.astype("datetime64[M]").astype(np.int64) // months
    change = np.flatnonzero(period[1:] != period[:-1])
    chosen = open_days[change if last else change + 1]
    closes = np.append(days[1:] != days[:-1], True)
    rows: NDArray[np.bool_] = np.isin(days, chosen) & closes
    return rows


# ---------------------------------------------------------------- bands


def _vault_bands(policy: Policy, targets: Floats) -> Floats:
    """The vault's band of each target, (K, n)."""
    n = targets.shape[1]
    points, relative = (
        _bps(name, getattr(policy, name), n) for name in ("band_points_bps", "band_relative_bps")
    )
    wads = (
        np.rint(targets * 1e12).astype(np.int64) * (WAD // 10**12)
    ).tolist()  # exact for whole basis points
    table = [[_band(*terms) for terms in zip(points, relative, row, strict=True)] for row in wads]
    found = np.array(table, dtype=np.float64)
    whole = (
        np.abs(found - targets) <= 1e-12
    )  # of 100 %: the target itself, so that what is not held at all is beyond
    return np.where(whole, np.minimum(found, targets), found)


@lru_cache(maxsize=1 << 16)
def _band(points_bps: int, relative_bps: int, target: int) -> float:
    asset = Asset("", 0, 0, points_bps, relative_bps, 0, 0, 0)
    return vault.band(asset, target) / WAD


def _bps(name: str, value: Any, n: int) -> list[int]:
    table = shaped(name, value, 1, n, 0, 10_000)[0]
    if (table != np.rint(table)).any():
        raise BacktestError(f"{name}: whole basis points only; `bands` takes any width")
    return [int(x) for x in table]


def _stops(policy: Policy, bands: Floats) -> tuple[Floats, Floats]:
    """Where a trade stops, for a band's session and for the calendar's."""
    match policy.rebalance_to:
        case RebalanceTo.TARGET:
            return 0 * bands, 0 * bands
        case RebalanceTo.HALF_BAND:
            return bands / 2, bands / 2
        case RebalanceTo.EDGE:
            return bands, bands
        case RebalanceTo.CLOSE:  # as `policy.tolerances` and the rule that closes a session
            return bands / 2, np.minimum(policy.tolerance_bps / 10_000, bands / 4)


def volatility_bands(
    market: Market, bands: Any, *, fast: float = 21, slow: float = 252, low: float = 0.5, high: float = 2.0
) -> Floats:
    """(T, n) `bands` times each asset's recent volatility over its usual one, kept between `low` and `high` times.

    Both volatilities are exponentially weighted means of squared log returns with half-lives of `fast` and `slow` rows,
    known at their row. Never below the vault's 25 bps. A live vault's bands stay as they are: its keeper can wait for a
    wider band than the vault's, it cannot trade inside it, so for use on chain the vault's bands are the narrowest.
    """
    rows, n = market.shape
    if not (fast > 0 and slow > 0 and 0 < low <= 1 <= high):
        raise BacktestError("volatility bands: half-lives must be above 0, low in (0, 1], high at least 1")
    base = shaped("bands", bands, rows, n, 0.0, 1.0)
    squares = np.diff(np.log(market.prices), axis=0) ** 2
    recent, usual = _mean_square(squares, fast), _mean_square(squares, slow)
    ratio = np.sqrt(np.divide(recent, usual, out=np.ones_like(recent), where=usual > 0))
    floor = vault.band(Asset("", 0, 0, 0, 0, 0, 0, 0)) / WAD
    scaled: Floats = np.maximum(base * np.clip(ratio, low, high), floor)
    return scaled


def _mean_square(squares: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean of the rows so far; a row of 0 first, before there is a return."""
    import pandas as pd

    mean = pd.DataFrame(squares).ewm(halflife=half_life).mean().to_numpy()
    return np.concatenate((np.zeros_like(squares[:1]), mean))


def best_bands(
    targets: Any, volatility: Any, *, aversion: float, cost: float, fixed: float = 0.0
) -> tuple[Floats, Floats]:
    """(n,) half-widths and (n,) stops of `planner.bands`: what waiting and trading cost together is least.

    `volatility` a year of each asset against the rest, `cost` a fraction of what is traded, `fixed` a fraction of NAV a
    trade. For `Policy(bands=..., stops=..., mode=Mode.THRESHOLD)`.
    """
    weights = np.asarray(targets, dtype=np.float64)
    sigmas = np.broadcast_to(np.asarray(volatility, dtype=np.float64), weights.shape)
    pairs = zip(weights.tolist(), sigmas.tolist(), strict=True)
    found = [theory.band(theory.Drift.of(w, s, aversion, cost, fixed)) for w, s in pairs]
    return np.array([b.half_width for b in found]), np.array([b.stop for b in found])


# ---------------------------------------------------------------- targets


def _targets(policy: Policy, market: Market) -> tuple[Floats, NDArray[np.int32]]:
    """(K, n) different targets and which of them is in effect in each row."""
    rows, n = market.shape
    wanted = np.asarray(policy.targets, dtype=np.float64)
    if wanted.shape == (n,):
        wanted = wanted[None]
    if wanted.shape not in ((1, n), (rows, n)):
        raise BacktestError(f"targets: has shape {wanted.shape}, needs {n} weights or {rows} rows of {n}")
    free = policy.min_targets is None and policy.max_targets is None
    if len(wanted) == 1 and free and wanted.min() >= 0 and abs(wanted.sum() - 1) <= SUM_TOLERANCE:
        return np.ascontiguousarray(wanted), np.zeros(rows, dtype=np.int32)  # most common, so it is quick
    low, high = _limits(policy, n)
    given = np.flatnonzero(~np.isnan(wanted).all(axis=1))
    _check_targets(wanted, given, market, low, high)
    setting = np.zeros(rows, dtype=np.int32)
    if len(wanted) == 1:
        return np.ascontiguousarray(wanted), setting
    clipped = np.array([_within(wanted[row], low, high) for row in given])
    if policy.speed_capacity_bps is not None:
        return _at_speed(policy, market, given, clipped)
    setting[given[1:]] = 1
    return clipped, np.cumsum(setting, dtype=np.int32)


def _limits(policy: Policy, n: int) -> tuple[Floats, Floats]:
    if policy.min_targets is None and policy.max_targets is None:
        return np.zeros(n), np.ones(n)
    low = shaped("min_targets", 0 if policy.min_targets is None else policy.min_targets, 1, n, 0.0, 1.0)[0]
    high = shaped("max_targets", 1 if policy.max_targets is None else policy.max_targets, 1, n, 0.0, 1.0)[0]
    if (low > high).any() or low.sum() > 1 + SUM_TOLERANCE or high.sum() < 1 - SUM_TOLERANCE:
        raise BacktestError("min_targets, max_targets: no weights that sum to 1 lie between them")
    return low, high


def _check_targets(wanted: Floats, given: Ints, market: Market, low: Floats, high: Floats) -> None:
    def where(row: int, column: int | None = None) -> str:
        if len(wanted) > 1:
            return market.where(row, column) + ": "
        return "" if column is None else f"column {market.names[column]}: "

    if len(given) == 0 or given[0] != 0:
        raise BacktestError(f"targets: {market.where(0)}: the first row must have weights")
    rows = wanted[given]
    bad = ~(rows >= 0)  # NaN too
    if bad.any():
        i, column = (int(x) for x in np.argwhere(bad)[0])
        raise BacktestError(
            f"targets: {where(int(given[i]), column)}{rows[i, column]:g} is not a weight of at least 0"
        )
    off = np.abs(rows.sum(axis=1) - 1) > SUM_TOLERANCE
    if off.any():
        i = int(off.argmax())
        raise BacktestError(
            f"targets: {where(int(given[i]))}the weights sum to {rows[i].sum():.9g}, not to 1"
        )
    if len(wanted) == 1:
        outside = (rows[0] < low - SUM_TOLERANCE) | (rows[0] > high + SUM_TOLERANCE)
        if outside.any():
            column = int(outside.argmax())
            raise BacktestError(f"targets: {where(0, column)}outside min_targets and max_targets")


def _within(wanted: Floats, low: Floats, high: Floats) -> Floats:
    """The nearest weights (least squares) within the limits that sum to 1: clip(wanted + shift), shift by bisection."""
    if ((wanted >= low) & (wanted <= high)).all():
        return wanted
    below, above = -1.0, 1.0  # of the shift: at -1 all are at their lower limit, at 1 all at the upper
    for _ in range(60):
        shift = 0.5 * (below + above)
        if np.clip(wanted + shift, low, high).sum() < 1:
            below = shift
        else:
            above = shift
    found: Floats = np.clip(wanted + above, low, high)
    return found


def _at_speed(
    policy: Policy, market: Market, given: Ints, wanted: Floats
) -> tuple[Floats, NDArray[np.int32]]:
    """Targets that follow `wanted` as fast as the vault's speed limit lets them: the rest of the way in later rows."""
    start, rules = int(market.times[0]), policy.rules()
    state = VaultState((), rules, vault.Session(), (), (), (), supply=0, time=start, speed_time=start)
    capacity = rules.speed_capacity_bps * BPS_IN_WAD
    current = goal = wanted[0]
    table, setting = [current], np.zeros(len(market.times), dtype=np.int32)
    changes = dict(zip(given.tolist(), wanted, strict=True))
    for row, now in enumerate(market.times.tolist()):
        goal = changes.get(row, goal)
        if goal is not current:
            used = vault.speed_budget_used(state, now)
            path = int(np.rint(np.abs(goal - current).sum() * WAD))
            step = min(path, max(capacity - used, 0))
            current = goal if step == path else current + (goal - current) * (step / path)
            state = replace(state, speed_used=used + step, speed_time=now)
            table.append(current)
        setting[row] = len(table) - 1
    return np.array(table), setting
