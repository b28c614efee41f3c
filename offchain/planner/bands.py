"""How far an asset may stray before a trade pays, and how far back to trade it.

One weight's distance x from its target wanders as dx = b dW; being away costs a x² a unit of time, trading an amount Δ
costs c |Δ| + K. Trade when |x| reaches a half-width h, back to |x| = stop. The long-run cost of that is

    J(h, stop) = a (h² + stop²) / 6 + b² (K + c (h − stop)) / (h² − stop²)

(mean of x² and mean time between trades of a Brownian motion that restarts at ±stop when it leaves ±h). Its minimum:

    proportional cost only   h = stop = (3 c b² / 4 a)^⅓    to the edge     J = a h²
    the same, to target      h = (3 c b² / a)^⅓, stop = 0   26 % dearer     J = a h² / 2
    fixed cost only          h = (6 K b² / a)^¼, stop = 0   to the target   J = a h² / 3
    both                     a s d³ = 6 K b²,  a s (s² − d²) = 6 c b²,  s = h + stop, d = h − stop

The backtester takes its bands from here, and `evenkeel plan --explain` tells an asset's distance in these terms.

Sources: Davis and Norman 1990 and Leland 1996 (edge, cube root), Donohue and Yip 2003 (edge against target), Korn 1998
(fixed costs: to the inside). `tests/offchain/test_planner_bands.py` checks each against a simulation.

**Units.** Weights, x, h and stop: fractions of NAV. Time: years. a: NAV a year per squared weight, ½ aversion σ², σ
the asset's volatility a year against the rest of the basket. b: weight per √year, σ w (1 − w). c: fraction of what is
traded. K: fraction of NAV a trade (gas / NAV).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from offchain.errors import PlannerError

__all__ = [
    "Advice",
    "Band",
    "Drift",
    "advise",
    "band",
    "cost_rate",
    "edge_width",
    "fixed_width",
    "target_width",
]


@dataclass(frozen=True, slots=True)
class Drift:
    """What an asset's distance from its target costs, how fast it grows, what a trade costs."""

    a: float  # NAV a year per squared weight, > 0
    b: float  # weight per √year, >= 0
    c: float = 0.0  # NAV per weight traded, >= 0: 0.003 = 30 bps
    k: float = 0.0  # NAV a trade, >= 0

    @staticmethod
    def of(weight: float, volatility: float, aversion: float, cost: float, fixed: float = 0.0) -> Drift:
        """From the target weight, the volatility a year against the rest, risk aversion, and the costs."""
        return Drift(0.5 * aversion * volatility**2, volatility * weight * (1 - weight), cost, fixed)

    def __post_init__(self) -> None:
        if not (
            self.a > 0 and min(self.b, self.c, self.k) >= 0 and max(self.a, self.b, self.c, self.k) < math.inf
        ):
            raise PlannerError("drift: a must be above 0 and b, c, k not below 0, all finite")


@dataclass(frozen=True, slots=True)
class Band:
    """Trade when the distance from target reaches half_width, back to stop."""

    half_width: float  # weight
    stop: float  # weight, 0 (target) to half_width (edge)


@dataclass(frozen=True, slots=True)
class Advice:
    """Where to take one asset and why."""

    weight: float  # to trade to; the present one where the asset is not traded
    traded: bool
    reason: str  # in words, for `evenkeel plan --explain`


def edge_width(drift: Drift) -> float:
    """Best half-width when trades stop at the edge; proportional cost only."""
    return float((3 * drift.c * drift.b**2 / (4 * drift.a)) ** (1 / 3))


def target_width(drift: Drift) -> float:
    """Best half-width when trades go back to the target; proportional cost only."""
    return float((3 * drift.c * drift.b**2 / drift.a) ** (1 / 3))


def fixed_width(drift: Drift) -> float:
    """Best half-width, trades to the target; fixed cost only."""
    return float((6 * drift.k * drift.b**2 / drift.a) ** (1 / 4))


def band(drift: Drift) -> Band:
    """The best band for both costs together: the root of s³ − (6 K b² / a)^⅔ s^⅓ = 6 c b² / a, s = h + stop."""
    proportional, fixed = 6 * drift.c * drift.b**2 / drift.a, 6 * drift.k * drift.b**2 / drift.a
    low = fixed ** (1 / 4)  # the root without proportional cost: below it s < d
    high = low + proportional ** (1 / 3)
    for _ in range(200):
        s = 0.5 * (low + high)
        if s**3 - fixed ** (2 / 3) * s ** (1 / 3) < proportional:
            low = s
        else:
            high = s
    s = 0.5 * (low + high)
    d = min((fixed / s) ** (1 / 3), s) if s > 0 else 0.0
    return Band((s + d) / 2, (s - d) / 2)


def cost_rate(drift: Drift, half_width: float, stop: float) -> float:
    """J: NAV a year that a band costs, tracking loss and trades together. Infinite at the edge if trades cost K."""
    gap = half_width - stop
    if not 0 <= stop <= half_width:
        raise PlannerError("stop: must lie between the target and the half-width")
    away = drift.a * (half_width**2 + stop**2) / 6
    if drift.b == 0:
        return away
    fixed = drift.k / gap if gap > 0 else math.inf if drift.k > 0 else 0.0
    total = half_width + stop
    trades = (
        drift.b**2 * (fixed + drift.c) / total if total > 0 else math.inf if drift.c + drift.k > 0 else 0.0
    )
    return away + trades


def advise(weight: float, target: float, best: Band, closes_within: float | None = None) -> Advice:
    """Where to take one asset now.

    `closes_within`: the distance from target at which the open session closes (the rules' tolerance, or half the
    band), None where no session is open. It overrules theory: an asset outside it is traded to it or further in.
    """
    away = weight - target
    size, side = abs(away), "above" if away > 0 else "below"
    where = f"{_points(size)} {side} its target"
    must = closes_within is not None and size > closes_within
    if not must and size <= best.half_width:
        if size == 0:
            return Advice(weight, False, "not traded: on its target")
        return Advice(
            weight,
            False,
            f"not traded: {where}, inside ±{_points(best.half_width)}, where waiting costs less than a trade",
        )
    stop = best.stop if closes_within is None else min(best.stop, closes_within)
    if size <= stop:
        return Advice(weight, False, f"not traded: {where}, no further than where a trade would stop")
    goal = target + math.copysign(stop, away)
    if stop == 0:
        to = "to its target"
    elif stop < best.stop:
        to = f"to {_points(stop)} from its target, where the session closes"
    elif stop == best.half_width:
        to = f"to the edge of its band, {_points(stop)} from its target: going further costs more than it saves"
    else:
        to = (
            f"to {_points(stop)} from its target, inside its band, since each trade also costs a fixed amount"
        )
    return Advice(goal, True, f"{where}: {'sold' if away > 0 else 'bought'} {to}")


def _points(weight: float) -> str:
    return f"{100 * weight:.2f} points"
