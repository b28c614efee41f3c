"""A policy, its costs and the method as sentences, so that a report says what it stands on."""

from __future__ import annotations

from typing import Any

import numpy as np

from offchain.backtest.model import Costs, Policy, RebalanceTo
from offchain.policy import CalendarUnit, Mode

__all__ = ["cause_names", "costs_in_words", "method_in_words", "policy_in_words", "pools_in_words"]

CAUSE_NAMES = {  # by `CAUSES`
    "fast": ("in proportion", "fixed", "market impact", "pools"),
    "vault": ("pool fees", "gas, which the keeper pays", "other impact", "price impact"),
}

REACH = {
    RebalanceTo.TARGET: "back to the targets",
    RebalanceTo.CLOSE: "as far as closes the vault's session",
    RebalanceTo.HALF_BAND: "back to half the band",
    RebalanceTo.EDGE: "back to the band's edge",
}


def policy_in_words(policy: Policy) -> str:
    """When it trades and how far, in one sentence or a few."""
    calendar, band = _calendar(policy), _band(policy)
    no_rows = policy.calendar_rows is not None and not np.asarray(policy.calendar_rows).any()
    if no_rows and policy.mode == Mode.CALENDAR:
        return "Buys the targets in the first row and never trades again."
    when = {
        Mode.CALENDAR: f"Trades {calendar}",
        Mode.THRESHOLD: f"Trades when {band}",
        Mode.EITHER: f"Trades {calendar}, and when {band}",
        Mode.BOTH: f"Trades {calendar} if {band}",
    }[policy.mode]
    reach = "to the policy's own stops" if policy.stops is not None else REACH[policy.rebalance_to]
    more = []
    if policy.cooldown_seconds:
        more.append(f"rests {policy.cooldown_seconds / 3_600:g} hours after a trade")
    if policy.gain_over_cost > 0:
        more.append(
            f"trades only if the tracking loss falls by {policy.gain_over_cost:g} times the cost or more"
        )
    if policy.speed_capacity_bps is not None:
        more.append(
            f"moves its targets by {policy.speed_capacity_bps / 100:g} points at once and "
            f"{policy.speed_refill_bps_per_day / 100:g} more a day at most"
        )
    if policy.fee_bps:
        more.append(f"pays a management fee of {policy.fee_bps / 100:g} % a year")
    return f"{when}; goes {reach}." + "".join(f" It {words}." for words in more)


def _calendar(policy: Policy) -> str:
    if policy.calendar_rows is not None:
        return f"on {int(np.asarray(policy.calendar_rows).sum())} rows of an exchange's calendar"
    unit = "month" if policy.calendar_unit == CalendarUnit.MONTHS else "day"
    every = policy.calendar_every
    lapse = ", in the period's first row only" if policy.first_row_only else ""
    return (f"every {unit}" if every == 1 else f"every {every} {unit}s") + lapse


def _band(policy: Policy) -> str:
    if policy.bands is not None:
        return f"an asset is {_span(policy.bands, 100)} points or more from its target"
    points, relative = _span(policy.band_points_bps, 0.01), _span(policy.band_relative_bps, 0.01)
    if np.all(np.asarray(policy.band_relative_bps) >= 10_000):
        return f"an asset is {points} points or more from its target (at most the target itself)"
    return (
        f"an asset is {points} points or {relative} % of its target away from it, whichever is less "
        "(0.25 points at least)"
    )


def _span(value: Any, times: float) -> str:
    numbers = np.asarray(value, dtype=np.float64) * times
    low, high = float(numbers.min()), float(numbers.max())
    texts = [f"{x:,.10g}" if x >= 1_000 else f"{x:.4g}" for x in (low, high)]
    return texts[0] if low == high else " to ".join(texts)


def costs_in_words(costs: Costs) -> str:
    """What a trade costs."""
    parts = []
    if np.any(np.asarray(costs.proportional_bps) > 0):
        parts.append(f"{_span(costs.proportional_bps, 0.01)} % of what is traded")
    if costs.per_rebalance:
        parts.append(f"{costs.per_rebalance:,.6g} a rebalance")
    if costs.per_leg:
        parts.append(f"{costs.per_leg:,.6g} for each asset that is traded")
    if costs.impact:
        parts.append(
            f"square-root impact, {costs.impact:g} · daily volatility · √(traded / daily volume) of what is traded"
        )
    if costs.pool_depth is not None:
        parts.append(f"price impact in constant-product pools, {_span(costs.pool_depth, 1)} deep on one side")
    return (
        "Trading costs " + "; ".join(parts) + ". Paid out of the portfolio at each trade."
        if parts
        else "Trading is free: no costs are set."
    )


def pools_in_words(pools: Any) -> str:
    """What trading costs a vault."""
    venue = {"v2": "Uniswap V2 (0.3 %)", "v3": f"Uniswap V3 ({pools.v3_fee / 10_000:g} %)"}
    venues = " and ".join(venue.values() if pools.venue == "both" else [venue[pools.venue]])
    return (
        f"Trades go through pools of {venues}, {_span(pools.depth_usd, 1)} USD deep on each side at the first row; an "
        f"arbitrageur brings them to each row's prices. Gas costs {pools.gas_price_usd:g} USD a unit; the keeper pays "
        "it, not the vault."
    )


def cause_names(engine: str) -> tuple[str, ...]:
    """What `CAUSES` are with an engine."""
    return CAUSE_NAMES["fast" if engine == "fast" else "vault"]


def method_in_words(
    engine: str, rows_per_year: float, risk_free: float, rows: int, years: float
) -> list[str]:
    """What else the numbers rest on."""
    start = "The first row buys the targets; that purchase pays and counts."
    if engine != "fast":
        start = (
            "The vault is seeded at its targets in the first row, without trading; in each row the keeper looks once, "
            "plans with its own planner and trades if the vault's rules let it."
        )
    return [
        f"A year has {rows_per_year:.4g} rows here ({rows:,} rows in {years:.2f} years of 365.25 days): "
        "volatilities, Sharpe and Sortino ratios are annualised with that.",
        f"The risk-free rate is {100 * risk_free:g} % a year.",
        "Between trades the weights drift with the prices: nothing is rebalanced that the rule does not say.",
        "A decision at a row's close knows that row and the ones before it, and trades at that close.",
        start,
        "Growth and returns are of a share: time-weighted, after costs and fees; dividends wait in cash for the next "
        "trade.",
    ]
