"""Which weights to trade to: tracking risk plus proportional costs, solved exactly and with a proof.

`solve(Tracking(...))` returns the weights w that minimise

    F(w) = aversion / 2 · (w − target)ᵀ Σ (w − target) + costᵀ |w − weights|
    subject to   Σ w = 1,   lower ≤ w ≤ upper,   ‖w − weights‖₁ ≤ turnover,

with the identity for Σ where no covariance is given (squared drift). The absolute values give every asset a region in
which it is not traded. `TrackingSolver` keeps what depends on Σ alone, for a caller who solves again and again while
prices and weights move.

For callers without pools, strategies and backtests (docs/decisions/0014); the keeper's `plan` knows the pools and
solves the joint problem. Mean-variance with costs, max rᵀw − aversion/2 · wᵀΣw − costᵀ|w − weights|, is this problem
with target = Σ⁻¹r / aversion, which need not be a portfolio.

**Method.** Every asset is in one of five states: at its lower bound, sold, untraded, bought, at its upper bound. Given
the states, the optimum is one linear system in the traded weights and two multipliers, of Σ w = 1 and of the cap. Its
answer shows which states are wrong; all of those change at once and the system is solved again: a primal-dual active
set, that is a semismooth Newton method (Hintermüller, Ito and Kunisch 2003). It ends at the exact optimum after 3 to 6
systems, but nothing guarantees that it ends. Where it does not, one state changes at a time while the objective falls
(the primal active set method, Nocedal and Wright 2006, ch. 16.5), which is slower and safe.

**Certificate.** F − F* ≤ gap for any weights w that satisfy the constraints and any multipliers ν, λ ≥ 0, because the
quadratic lies above its tangent at w (convexity) and the Lagrangian of the rest separates over the assets:

    gap = Σᵢ [ φᵢ(wᵢ) − min over lowerᵢ ≤ y ≤ upperᵢ of φᵢ(y) ] + λ (turnover − ‖w − weights‖₁)
    φᵢ(y) = (gᵢ + ν) y + (costᵢ + λ) |y − weightsᵢ|,   g = aversion · Σ (w − target)

It is computed from the problem, the final weights and (ν, λ) alone, so it holds whatever produced them.

Floats: weights leave this module as proposals, and whoever sends them to the chain rounds them to integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offchain.errors import PlannerError
from offchain.planner._active_set import Given, Matrix, States, Vector, certify, normalise, track

__all__ = ["AssetState", "Tracked", "Tracking", "TrackingSolver", "certificate", "solve"]

TOLERANCE: Final = 1e-7  # of the relative gap: an answer above it is not certified
FEASIBLE: Final = 1e-12  # on Σ w = 1 and on the turnover


class AssetState(IntEnum):
    """Where an asset's optimal weight is."""

    AT_LOWER = -2
    SOLD = -1
    UNTRADED = 0
    BOUGHT = 1
    AT_UPPER = 2


@dataclass(frozen=True, slots=True)
class Tracking:
    """The problem. Weights and turnover are fractions of NAV; n assets."""

    target: Vector  # (n,) any finite numbers
    weights: Vector  # (n,) held now, sum 1
    cost: Vector  # (n,) NAV lost per unit of weight traded, >= 0: 0.003 = 30 bps
    covariance: Matrix | None = None  # (n, n) of returns over any period; None: the identity
    aversion: float = (
        1.0  # NAV per unit of variance (same period), > 0; without covariance NAV per squared weight
    )
    turnover: float = 2.0  # cap on ‖w − weights‖₁, sells plus buys; 2: none
    lower: Vector | None = None  # (n,) None: 0
    upper: Vector | None = None  # (n,) None: 1


@dataclass(frozen=True, slots=True)
class Tracked:
    """The answer and its proof."""

    weights: Vector  # (n,) sum 1 and turnover to 1e-12, bounds exactly
    objective: float  # F(weights), fraction of NAV
    gap: float  # F(weights) exceeds the optimum by at most this
    relative_gap: float  # gap / max(objective, 1e-7 · (aversion · largest variance + largest cost), 1e-18)
    budget_price: float  # ν, multiplier of Σ w = 1
    turnover_price: float  # λ >= 0, multiplier of the turnover cap: 0 where the cap does not bind
    states: States  # (n,) AssetState of each asset
    systems: int  # linear systems solved
    method: str  # "active set", "descent"

    @property
    def certified(self) -> bool:
        """The gap proves the weights optimal to TOLERANCE."""
        return self.relative_gap <= TOLERANCE

    @property
    def untraded(self) -> NDArray[np.bool_]:
        """(n,) assets that keep their weight."""
        untraded: NDArray[np.bool_] = self.states == AssetState.UNTRADED
        return untraded

    @property
    def cap_binds(self) -> bool:
        """A larger turnover would lower the objective."""
        return self.turnover_price > 0


def solve(problem: Tracking) -> Tracked:
    """The optimal weights with their certificate; PlannerError when the problem is malformed or has no solution."""
    return TrackingSolver(problem.covariance).solve(problem)


def certificate(
    problem: Tracking, weights: Vector, budget_price: float, turnover_price: float
) -> tuple[float, float]:
    """(objective, gap) of any weights that satisfy the constraints, for any multipliers with turnover_price >= 0."""
    n = len(problem.target)
    sigma = np.eye(n) if problem.covariance is None else _floats(problem.covariance)
    given = _given(problem, sigma, 1.0, 0.0)
    return certify(given, _floats(weights), float(budget_price), float(turnover_price))


class TrackingSolver:
    """Solves many problems with one covariance; each answer's states are the next one's first guess."""

    def __init__(self, covariance: Matrix | None = None) -> None:
        """Copies and checks the covariance: (n, n), symmetric, positive semidefinite, finite."""
        self._given = covariance
        self._sigma: Matrix = np.empty((0, 0))
        self._states: States | None = None
        self._capped = False
        if covariance is not None:
            self._prepare(covariance)

    def solve(self, problem: Tracking) -> Tracked:
        """The optimum of a problem that has this solver's covariance."""
        n = len(problem.target)
        if problem.covariance is not self._given:
            self._refuse_other(problem.covariance)
        if len(self._sigma) != n:
            if self._given is not None:
                raise PlannerError(f"covariance: {len(self._sigma)} assets, target: {n}")
            self._prepare(np.eye(n))
        warm = self._states is not None
        guess = np.empty(n, np.int8) if self._states is None else self._states
        given = _given(problem, self._sigma, self._scale, self._largest)
        found = track(given, guess, warm, self._capped)
        if found.code > 0:
            raise PlannerError(_REFUSALS[found.code])
        self._states, self._capped = found.states, found.capped
        method = "active set" if found.code == 0 else "descent"
        return Tracked(*found[1:8], found.systems, method)

    def _prepare(self, covariance: Matrix) -> None:
        sigma = np.array(covariance, dtype=np.float64, order="C")
        n = len(sigma)
        if sigma.shape != (n, n):
            raise PlannerError("covariance: not square")
        self._scale, self._largest = normalise(sigma)
        if self._scale < 0:
            raise PlannerError("covariance: not finite, symmetric, positive semidefinite and above 0")
        self._sigma, self._states = sigma, None

    def _refuse_other(self, covariance: Matrix | None) -> None:
        if covariance is None or self._given is None or not np.array_equal(covariance, self._given):
            raise PlannerError("covariance: not this solver's; make a new TrackingSolver for it")


def _given(problem: Tracking, sigma: Matrix, scale: float, largest: float) -> Given:
    """The problem as the compiled code wants it."""
    n = len(problem.target)
    lower = np.zeros(n) if problem.lower is None else _floats(problem.lower)
    upper = np.ones(n) if problem.upper is None else _floats(problem.upper)
    return Given(
        sigma, scale, largest, _floats(problem.target), _floats(problem.weights), _floats(problem.cost),
        float(problem.aversion), float(problem.turnover), lower, upper,
    )  # fmt: skip


def _floats(values: Vector) -> Vector:
    """As compiled code was compiled for: float64, contiguous, writeable."""
    array = np.ascontiguousarray(values, np.float64)
    return array if array.flags.writeable else array.copy()


_REFUSALS = {
    1: "aversion: must be above 0 and finite",
    2: "target, weights, cost, lower, upper: (n,) finite floats",
    3: "cost: below 0",
    4: "weights: must sum to 1",
    5: "lower, upper: 0 <= lower <= upper, with room for a sum of 1",
    6: "turnover: too small to reach the bounds",
}
