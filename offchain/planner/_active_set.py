"""The numerics of `offchain.planner.tracking`, compiled by numba and cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Found", "Given", "Matrix", "States", "Vector", "certify", "normalise", "track"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
States = NDArray[np.int8]

FLOOR: Final = (
    1e-8  # smallest objective to measure a gap against, times aversion · largest variance + largest cost
)
RIDGE: Final = 1e-12  # added to the variances (their mean is 1) so that a singular covariance has one answer
RIDGES: Final = (1e-12, 1e-9)  # the descent's: the second where the first leaves it in a circle of roundings
SYSTEMS: Final = 20  # before the active set gives way to the descent; typical problems need 3 to 6

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Given(NamedTuple):
    """The caller's problem, arrays (n,), with its covariance prepared by `normalise`."""

    sigma: Matrix  # (n, n), mean variance 1
    scale: float  # that mean
    largest: float  # the largest variance
    target: Vector
    weights: Vector
    cost: Vector
    aversion: float
    turnover: float
    lower: Vector
    upper: Vector


class Found(NamedTuple):
    """The answer, in the caller's units."""

    code: int  # 0 active set, -1 descent; above 0: the problem is refused, see `_read`
    weights: Vector  # (n,)
    objective: float
    gap: float
    relative_gap: float
    nu: float
    lam: float
    states: States  # (n,)
    capped: bool
    systems: int


class Trades(NamedTuple):
    """The solver's own problem, in trades x from `start`, mean variance 1 and the aversion divided out.

    minimise (miss + x)ᵀ sigma (miss + x) / 2 + cᵀ|x|   subject to   Σ x = reach,   low <= x <= high,   Σ|x| <= room.
    The functions below call sigma (miss + x) the slope.
    """

    sigma: Matrix  # (n, n)
    miss: Vector  # (n,) start less target
    pull: Vector  # (n,) sigma miss
    c: Vector  # (n,)
    low: Vector  # (n,) <= 0
    high: Vector  # (n,) >= 0
    reach: float
    room: float


def _compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function in machine code: compiled at its first call (seconds, once a machine)."""
    machine: Callable[Arguments, Result] = njit(cache=True, error_model="numpy")(function)
    return machine


@_compiled
def normalise(sigma: Matrix) -> tuple[float, float]:
    """Divides sigma by its mean variance, in place: (that, largest variance), both -1 if it is no covariance."""
    n = len(sigma)
    trace = 0.0
    largest = 0.0
    for i in range(n):
        trace += sigma[i, i]
        largest = max(largest, sigma[i, i])
    if not 0 < trace < 1e300:
        return -1.0, -1.0
    scale = trace / n
    shifted = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            s = sigma[i, j] / scale
            if not abs(s) < 1e300 or abs(sigma[i, j] - sigma[j, i]) > 1e-9 * scale:
                return -1.0, -1.0
            shifted[i, j] = s
    for i in range(n):
        for j in range(n):
            sigma[i, j] = 0.5 * (shifted[i, j] + shifted[j, i])
    shifted[:] = sigma
    for i in range(n):
        shifted[i, i] += 1e-14 * n * n
    try:
        np.linalg.cholesky(shifted)
    except Exception:
        return -1.0, -1.0
    return float(scale), float(largest)


@_compiled
def certify(g: Given, w: Vector, nu: float, lam: float) -> tuple[float, float]:
    """(objective, gap) of feasible weights w and multipliers nu, lam >= 0: the formula in `tracking`'s docstring."""
    miss, moves = w - g.target, w - g.weights
    slope = (g.aversion * g.scale) * (g.sigma @ miss)
    objective = 0.5 * (miss @ slope) + g.cost @ np.abs(moves)
    low, high = g.lower - g.weights, g.upper - g.weights
    gap = _excess(moves, slope, nu, lam, g.cost, low, high, g.turnover)
    return float(objective), float(gap + abs(nu * (1.0 - np.sum(w))))


@_compiled
def _excess(
    x: Vector, slope: Vector, nu: float, lam: float, c: Vector, low: Vector, high: Vector, room: float
) -> float:
    """How far the trades x are from the minimum of the Lagrangian that (nu, lam) make at their slope."""
    excess, traded = 0.0, 0.0
    for i in range(len(x)):
        r, k = slope[i] + nu, c[i] + lam
        least = min(_phi(r, k, low[i]), _phi(r, k, high[i]))
        if low[i] <= 0 <= high[i]:
            least = min(least, 0.0)
        excess += _phi(r, k, x[i]) - least
        traded += abs(x[i])
    return excess + lam * abs(room - traded)


@_compiled
def _phi(r: float, k: float, move: float) -> float:
    return (r + k) * move if move > 0 else (r - k) * move


@_compiled
def track(g: Given, guess: States, warm: bool, capped: bool) -> Found:
    """The optimum. `guess` and `capped` are the states to begin with where `warm`."""
    n = len(g.target)
    w, states = np.empty(n), guess.copy()
    code, start, reach, room = _read(g)
    if code > 0:
        return Found(code, w, 0.0, 0.0, 0.0, 0.0, 0.0, states, False, 0)
    unit = g.aversion * g.scale
    miss = start - g.target
    t = Trades(g.sigma, miss, g.sigma @ miss, g.cost / unit, g.lower - start, g.upper - start, reach, room)
    if not warm:
        capped = False
        for i in range(n):
            states[i] = np.sign(-miss[i])
    x = np.zeros(n)
    nu, lam, capped, systems = _active_set(t, x, states, capped)
    for ridge in RIDGES:
        _repair(t, x, states)
        if _missed(t, x, nu, lam) <= 1e-8:
            break
        code = -1
        nu, lam, capped, more = _descend(t, ridge, x, states)
        systems += more
    if code < 0:
        _repair(t, x, states)
    for i in range(n):
        w[i] = min(max(start[i] + x[i], g.lower[i]), g.upper[i])
    nu, lam = nu * unit, lam * unit
    objective, gap = certify(g, w, nu, lam)
    floor = FLOOR * (g.aversion * g.largest + np.max(g.cost))
    return Found(
        code, w, objective, gap, gap / max(objective, floor, 1e-18), nu, lam, states, capped, systems
    )


@_compiled
def _read(g: Given) -> tuple[int, Vector, float, float]:
    """(code, weights moved into the bounds, what the trades from there must sum to, turnover left for them)."""
    n = len(g.target)
    start = np.empty(n)
    code = _refused(g)
    if code > 0:
        return code, start, 0.0, 0.0
    forced = 0.0
    for i in range(n):
        start[i] = min(max(g.weights[i], g.lower[i]), g.upper[i])
        forced += abs(start[i] - g.weights[i])
    reach = 1.0 - float(np.sum(start))
    if abs(reach) <= 5e-13:
        reach = 0.0
    room = g.turnover - forced
    if not room >= abs(reach) - 5e-13:
        return 6, start, 0.0, 0.0
    return 0, start, reach, max(room, abs(reach))


@_compiled
def _refused(g: Given) -> int:
    """What is wrong, 0 if nothing: 1 aversion, 2 shapes and what is not finite, 3 cost, 4 weights, 5 bounds."""
    n = len(g.target)
    if not 0 < g.aversion < np.inf:
        return 1
    if not len(g.weights) == len(g.cost) == len(g.lower) == len(g.upper) == n or n == 0:
        return 2
    for i in range(n):
        if not (abs(g.target[i]) < np.inf and abs(g.weights[i]) < np.inf and abs(g.upper[i]) < np.inf):
            return 2
        if not g.cost[i] < np.inf:
            return 2
        if g.cost[i] < 0:
            return 3
        if not 0 <= g.lower[i] <= g.upper[i]:
            return 5
    if abs(np.sum(g.weights) - 1.0) > 1e-9:
        return 4
    return 5 if np.sum(g.lower) > 1.0 + 1e-12 or np.sum(g.upper) < 1.0 - 1e-12 else 0


@_compiled
def _missed(t: Trades, x: Vector, nu: float, lam: float) -> float:
    """The gap of x, as a share of the objective."""
    slope = t.pull + t.sigma @ x
    return _excess(x, slope, nu, lam, t.c, t.low, t.high, t.room) / _worth(t, x, slope)


@_compiled
def _worth(t: Trades, x: Vector, slope: Vector) -> float:
    """The objective, not below what is measurable."""
    return max(0.5 * float((t.miss + x) @ slope) + float(t.c @ np.abs(x)), FLOOR)


# ---------------------------------------------------------------- all wrong states at once


@_compiled
def _active_set(t: Trades, x: Vector, states: States, capped: bool) -> tuple[float, float, bool, int]:
    """All wrong states change at once. (nu, lam, capped, systems); fills x and states, which begin as a guess."""
    n = len(x)
    for i in range(n):
        if (t.low[i] == 0 and states[i] < 0) or (t.high[i] == 0 and states[i] > 0) or t.room == 0:
            states[i] = 0
    nu = lam = 0.0
    systems = 0
    while systems < SYSTEMS:
        systems += 1
        before = x.copy()
        nu, lam, slope = _face(t, RIDGE, x, states, capped)
        changes, traded = 0, np.sum(np.abs(x))
        newly = not capped and traded > t.room + 1e-13
        for i in range(n):
            new = _corrected(states[i], x[i], t.low[i], t.high[i], slope[i], nu, t.c[i] + lam)
            if newly and abs(new) == 2:
                new = states[i]  # the cap will pull the trade back
            changes += new != states[i]
            states[i] = new
        if newly:
            capped = True
        elif capped and (lam < 0 or traded < t.room - 1e-12):
            capped = False
        elif changes == 0 and RIDGE * np.sum((x - before) ** 2) <= 1e-10 * _worth(t, x, slope):
            break
    return nu, max(lam, 0.0), capped, systems


@_compiled
def _corrected(state: int, x: float, low: float, high: float, slope: float, nu: float, k: float) -> int:
    """The state that the answer for a face says is right. k: cost plus lam."""
    if state == 1:
        return 0 if x <= 0 else 2 if x > high else 1
    if state == -1:
        return 0 if x >= 0 else -2 if x < low else -1
    r, noise = slope + nu, 1e-13 * (abs(slope) + abs(nu) + k)
    if state == 0:
        return -1 if r > k + noise and low < 0 else 1 if r < -k - noise and high > 0 else 0
    if state == 2:
        return 1 if r + k > noise else 2
    return -1 if r - k < -noise else -2


# ---------------------------------------------------------------- the optimum of given states


@_compiled
def _face(t: Trades, ridge: float, x: Vector, states: States, capped: bool) -> tuple[float, float, Vector]:
    """The optimum where the states hold, signs and bounds of the free assets aside: fills x; (nu, lam, slope).

    The ridge pulls towards the x that came in: with it a singular sigma has one answer, and its effect vanishes when
    the face is solved again from there (a proximal point step).
    """
    free = np.flatnonzero(np.abs(states) == 1)
    fixed, net, gross, side, both = _fixed(t, states)
    slope = t.pull + t.sigma @ fixed if gross != t.room else t.pull.copy()
    m = len(free)
    if m == 0:
        x[:] = fixed
        nu, lam = _prices(t, slope, states, gross <= 1e-13, net)
        return nu, lam, slope
    size = m + 2 if capped and both else m + 1
    kkt, rhs = np.zeros((size, size)), np.empty(size)
    for a in range(m):
        i = free[a]
        for b in range(m):
            kkt[a, b] = t.sigma[i, free[b]]
        kkt[a, a] += ridge
        kkt[a, m] = kkt[m, a] = 1.0
        kkt[a, size - 1] = kkt[size - 1, a] = 1.0 if size == m + 1 else states[i]
        rhs[a] = ridge * x[i] - slope[i] - t.c[i] * states[i]
    rhs[size - 1] = gross
    rhs[m] = net
    answer = np.linalg.solve(kkt, rhs)
    x[:] = fixed
    for a in range(m):
        x[free[a]] = answer[a]
    slope = t.pull + t.sigma @ x
    nu, lam = answer[m], answer[size - 1] if size > m + 1 else 0.0
    if capped and not both and np.sum(np.abs(x)) > t.room - 1e-13:
        nu, lam = _prices_one_sided(t, slope, states, nu, side)
    return nu, lam, slope


@_compiled
def _fixed(t: Trades, states: States) -> tuple[Vector, float, float, int, bool]:
    """(trades of the assets at a bound, what is left of reach and of room for the free ones, a side on which one of

    them trades, whether they trade on both).
    """
    fixed, net, gross, side, both = np.zeros(len(states)), t.reach, t.room, 0, False
    for i in range(len(states)):
        if abs(states[i]) == 1:
            both = both or states[i] * side < 0
            side = states[i]
        elif states[i] != 0:
            fixed[i] = t.high[i] if states[i] == 2 else t.low[i]
            net -= fixed[i]
            gross -= abs(fixed[i])
    return fixed, net, gross, side, both


@_compiled
def _prices(t: Trades, slope: Vector, states: States, capped: bool, net: float) -> tuple[float, float]:
    """(nu, lam) where no asset is free: the middle of what the states allow; if they must not stay, just beyond."""
    lam = 0.0
    if capped:  # the span of nu is concave in lam: ternary search for its maximum
        least, most = 0.0, 2.0 * np.max(np.abs(slope)) + np.max(t.c)
        for _ in range(100):
            a, b = least + (most - least) / 3, most - (most - least) / 3
            (nu_a, nu_b), (nu_c, nu_d) = _span(t, slope, states, a), _span(t, slope, states, b)
            least, most = (a, most) if nu_b - nu_a < nu_d - nu_c else (least, b)
        lam = 0.5 * (least + most)
    least, most = _span(t, slope, states, lam)
    if least == -np.inf and most == np.inf:
        return 0.0, lam
    if net > 0 and least > -np.inf:
        return min(least, most) - 1e-9 * (1 + abs(least)), lam
    if net < 0 and most < np.inf:
        return max(least, most) + 1e-9 * (1 + abs(most)), lam
    if least == -np.inf or most == np.inf:
        return (most if least == -np.inf else least), lam
    return 0.5 * (least + most), lam


@_compiled
def _span(t: Trades, slope: Vector, states: States, lam: float) -> tuple[float, float]:
    """The least and the largest nu at which no fixed asset wants to move; crossed where one does."""
    least, most = -np.inf, np.inf
    for i in range(len(slope)):
        k = t.c[i] + lam
        if states[i] == 0 and t.high[i] > 0:
            least = max(least, -k - slope[i])
        if states[i] == 0 and t.low[i] < 0:
            most = min(most, k - slope[i])
        if states[i] == 2:
            most = min(most, -k - slope[i])
        if states[i] == -2:
            least = max(least, k - slope[i])
    return least, most


@_compiled
def _prices_one_sided(t: Trades, slope: Vector, states: States, nu: float, side: int) -> tuple[float, float]:
    """(nu, lam) where the cap binds and all free assets trade to one side: only nu + side lam is determined."""
    least, most = 0.0, np.inf  # lam: idle assets of the other side stay idle; those at their bound stay there
    for i in range(len(slope)):
        half = 0.5 * (side * (slope[i] + nu) - t.c[i])
        if states[i] == 0 and (t.low[i] if side > 0 else -t.high[i]) < 0:
            least = max(least, half)
        if states[i] == -2 * side:
            most = min(most, half)
    lam = least if least <= most else max(0.5 * (least + most), 0.0)
    return nu - side * lam, lam


# ---------------------------------------------------------------- one state at a time


@_compiled
def _descend(t: Trades, ridge: float, x: Vector, states: States) -> tuple[float, float, bool, int]:
    """One state at a time, the objective never rising (primal active set): from x, or from no trade if better."""
    n = len(x)
    capped = _begin(t, x, states)
    nu = lam = 0.0
    systems = 0
    while systems < 100 + 20 * n:
        systems += 1
        goal = x.copy()
        nu, lam, slope = _face(t, ridge, goal, states, capped)
        step, blocker, becomes = _blocked(t, x, goal, states, capped)
        moved = np.sum((goal - x) ** 2)
        if blocker < 0:
            x[:] = goal
        else:
            x += step * (goal - x)
        if blocker == n:
            capped = True
        elif blocker >= 0:
            states[blocker] = becomes
            x[blocker] = 0.0 if becomes == 0 else t.high[blocker] if becomes > 0 else t.low[blocker]
        else:
            worth = _worth(t, x, slope)
            if _excess(x, slope, nu, max(lam, 0.0), t.c, t.low, t.high, t.room) <= 1e-11 * worth:
                break
            chosen, becomes = _most_wrong(t, x, slope, states, nu, lam, capped)
            if chosen == n:
                capped = False
            elif chosen >= 0:
                states[chosen] = becomes
            elif ridge * moved <= 1e-12 * worth:
                break
    return nu, max(lam, 0.0), capped, systems


@_compiled
def _begin(t: Trades, x: Vector, states: States) -> bool:
    """Makes x feasible and no worse than no trade, states what it does; whether the cap binds."""
    stay = 0.5 * (t.miss @ t.pull)
    reached = 0.5 * ((t.miss + x) @ (t.pull + t.sigma @ x)) + t.c @ np.abs(x)
    worse = t.reach == 0 and reached > stay
    if worse or abs(np.sum(x) - t.reach) > 1e-12 or np.sum(np.abs(x)) > t.room + 1e-12:
        left = t.reach
        for i in range(len(x)):
            x[i] = min(max(left, t.low[i]), t.high[i])
            left -= x[i]
    for i in range(len(x)):
        if x[i] > 0:
            states[i] = 2 if x[i] >= t.high[i] else 1
        elif x[i] < 0:
            states[i] = -2 if x[i] <= t.low[i] else -1
        else:
            states[i] = 0
    return bool(np.sum(np.abs(x)) >= t.room)


@_compiled
def _blocked(t: Trades, x: Vector, goal: Vector, states: States, capped: bool) -> tuple[float, int, int]:
    """How far x can go to the goal, what stops it (an asset, n the cap, -1 nothing), and that asset's state then."""
    n = len(x)
    step, blocker, becomes = 1.0, -1, 0
    for i in range(n):
        if abs(states[i]) != 1 or abs(goal[i] - x[i]) < 1e-15:  # rounding must not block a step
            continue
        side = states[i]
        bound = t.high[i] if side > 0 else t.low[i]
        if goal[i] * side < 0 and x[i] / (x[i] - goal[i]) < step:
            step, blocker, becomes = x[i] / (x[i] - goal[i]), i, 0
        elif (goal[i] - bound) * side > 0 and (bound - x[i]) / (goal[i] - x[i]) < step:
            step, blocker, becomes = (bound - x[i]) / (goal[i] - x[i]), i, 2 * side
    if not capped:
        before, after = np.sum(np.abs(x)), 0.0
        for i in range(n):
            after += goal[i] * states[i] if abs(states[i]) == 1 else abs(goal[i])
        if after > t.room and (t.room - before) < step * (after - before):
            step, blocker = (t.room - before) / (after - before), n
    return max(step, 0.0), blocker, becomes


@_compiled
def _most_wrong(
    t: Trades, x: Vector, slope: Vector, states: States, nu: float, lam: float, capped: bool
) -> tuple[int, int]:
    """The fixed asset (n: the cap, -1: none) that its multiplier wants freed most, and its state then."""
    n = len(x)
    worst, chosen, becomes = 0.0, -1, 0
    if capped and lam < 0:
        worst, chosen = -lam, n
    for i in range(n):
        r, k = slope[i] + nu, t.c[i] + max(lam, 0.0)
        new = _corrected(states[i], x[i], t.low[i], t.high[i], slope[i], nu, k)
        if abs(states[i]) != 1 and new != states[i]:
            wrong = abs(r) - k if states[i] == 0 else abs(r + k) if states[i] > 0 else abs(r - k)
            if wrong > worst:
                worst, chosen, becomes = wrong, i, new
    return chosen, becomes


@_compiled
def _repair(t: Trades, x: Vector, states: States) -> None:
    """Rounding errors out: bounds, then the sum, then the turnover, by moves of the size of the error."""
    n = len(x)
    for i in range(n):
        x[i] = min(max(x[i], t.low[i]), t.high[i])
    for _ in range(n):
        error = t.reach - np.sum(x)
        if abs(error) <= 1e-16:
            break
        best, most, traded = -1, 0.0, False
        for i in range(n):  # the asset with most way to go, one that trades if there is one
            way = t.high[i] - x[i] if error > 0 else x[i] - t.low[i]
            if way > 0 and (abs(states[i]) == 1, way) > (traded, most):
                best, most, traded = i, way, abs(states[i]) == 1
        if best < 0:
            break
        x[best] += min(max(error, -most), most)
    excess = np.sum(np.abs(x)) - t.room
    if excess > 1e-9 * t.room and t.reach == 0:
        x *= t.room / (t.room + excess)
    elif excess > 1e-15:
        buy, sell = np.argmax(x), np.argmin(x)
        if x[buy] > excess and x[sell] < -excess:
            x[buy] -= 0.5 * excess
            x[sell] += 0.5 * excess
