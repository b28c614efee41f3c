"""The numerics of `offchain.planner.tracking`, compiled by numba and cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Matrix", "States", "Vector", "certify", "normalise", "track"]

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
def certify(
    sigma: Matrix,
    scale: float,
    target: Vector,
    weights: Vector,
    cost: Vector,
    aversion: float,
    turnover: float,
    lower: Vector,
    upper: Vector,
    w: Vector,
    nu: float,
    lam: float,
) -> tuple[float, float]:
    """(objective, gap) of feasible weights w and multipliers nu, lam >= 0: the formula in the module's docstring."""
    miss, moves = w - target, w - weights
    slope = (aversion * scale) * (sigma @ miss)
    objective = 0.5 * (miss @ slope) + cost @ np.abs(moves)
    gap = _excess(moves, slope, nu, lam, cost, lower - weights, upper - weights, turnover)
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
def track(
    sigma: Matrix,
    scale: float,
    largest: float,
    target: Vector,
    weights: Vector,
    cost: Vector,
    aversion: float,
    turnover: float,
    lower: Vector,
    upper: Vector,
    guess: States,
    warm: bool,
    capped: bool,
) -> tuple[int, Vector, float, float, float, float, float, States, bool, int]:
    """(code, weights, objective, gap, relative gap, nu, lam, states, capped, systems) of the caller's problem."""
    n = len(target)
    w, states = np.empty(n), guess.copy()
    code, start, reach, room = _read(n, target, weights, cost, aversion, turnover, lower, upper)
    if code > 0:
        return code, w, 0.0, 0.0, 0.0, 0.0, 0.0, states, False, 0
    unit = aversion * scale
    miss, low, high, c = start - target, lower - start, upper - start, cost / unit
    pull = sigma @ miss
    if not warm:
        capped = False
        for i in range(n):
            states[i] = np.sign(-miss[i])
    x = np.zeros(n)
    nu, lam, capped, systems = _active_set(sigma, miss, pull, c, low, high, reach, room, x, states, capped)
    _repair(x, states, low, high, reach, room)
    slope = pull + sigma @ x
    for ridge in RIDGES:
        if _excess(x, slope, nu, lam, c, low, high, room) <= 1e-8 * _worth(x, miss, slope, c):
            break
        code = -1
        nu, lam, capped, more = _descend(sigma, ridge, miss, pull, c, low, high, reach, room, x, states)
        systems += more
        _repair(x, states, low, high, reach, room)
        slope = pull + sigma @ x
    for i in range(n):
        w[i] = min(max(start[i] + x[i], lower[i]), upper[i])
    nu, lam = nu * unit, lam * unit
    objective, gap = certify(
        sigma, scale, target, weights, cost, aversion, turnover, lower, upper, w, nu, lam
    )
    floor = FLOOR * (aversion * largest + np.max(cost))
    return code, w, objective, gap, gap / max(objective, floor, 1e-18), nu, lam, states, capped, systems


@_compiled
def _read(
    n: int,
    target: Vector,
    weights: Vector,
    cost: Vector,
    aversion: float,
    turnover: float,
    lower: Vector,
    upper: Vector,
) -> tuple[int, Vector, float, float]:
    """(code, weights moved into the bounds, what the trades from there must sum to, turnover left for them)."""
    start = np.empty(n)
    if not 0 < aversion < np.inf:
        return 1, start, 0.0, 0.0
    if not len(weights) == len(cost) == len(lower) == len(upper) == n or n == 0:
        return 2, start, 0.0, 0.0
    held, low, high, forced, total = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        if not (
            abs(target[i]) < np.inf
            and abs(weights[i]) < np.inf
            and cost[i] < np.inf
            and abs(upper[i]) < np.inf
        ):
            return 2, start, 0.0, 0.0
        if cost[i] < 0:
            return 3, start, 0.0, 0.0
        if not 0 <= lower[i] <= upper[i]:
            return 5, start, 0.0, 0.0
        start[i] = min(max(weights[i], lower[i]), upper[i])
        held += weights[i]
        total += start[i]
        forced += abs(start[i] - weights[i])
        low += lower[i]
        high += upper[i]
    if abs(held - 1.0) > 1e-9:
        return 4, start, 0.0, 0.0
    if low > 1.0 + 1e-12 or high < 1.0 - 1e-12:
        return 5, start, 0.0, 0.0
    reach = 1.0 - total
    if abs(reach) <= 5e-13:
        reach = 0.0
    room = turnover - forced
    if not room >= abs(reach) - 5e-13:
        return 6, start, 0.0, 0.0
    return 0, start, reach, max(room, abs(reach))


# The solver's own problem, Sigma's mean variance 1 and the aversion divided out, in trades x from `start`:
#     minimise (start - target + x)' sigma (start - target + x) / 2 + c' |x|
#     subject to sum x = reach, low <= x <= high, sum |x| <= room.
# slope = sigma (start - target + x);  miss = start - target;  pull = sigma miss.


@_compiled
def _active_set(
    sigma: Matrix,
    miss: Vector,
    pull: Vector,
    c: Vector,
    low: Vector,
    high: Vector,
    reach: float,
    room: float,
    x: Vector,
    states: States,
    capped: bool,
) -> tuple[float, float, bool, int]:
    """All wrong states change at once. (nu, lam, capped, systems); fills x and states, which begin as a guess."""
    n = len(c)
    for i in range(n):
        if (low[i] == 0 and states[i] < 0) or (high[i] == 0 and states[i] > 0) or room == 0:
            states[i] = 0
    nu = lam = 0.0
    systems = 0
    while systems < SYSTEMS:
        systems += 1
        before = x.copy()
        nu, lam, slope = _face(sigma, RIDGE, pull, c, low, high, reach, room, x, states, capped)
        changes, traded = 0, np.sum(np.abs(x))
        newly = not capped and traded > room + 1e-13
        for i in range(n):
            new = _corrected(states[i], x[i], low[i], high[i], slope[i], nu, c[i] + lam)
            if newly and abs(new) == 2:
                new = states[i]  # the cap will pull the trade back
            changes += new != states[i]
            states[i] = new
        if newly:
            capped = True
        elif capped and (lam < 0 or traded < room - 1e-12):
            capped = False
        elif changes == 0 and RIDGE * np.sum((x - before) ** 2) <= 1e-10 * _worth(x, miss, slope, c):
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


@_compiled
def _face(
    sigma: Matrix,
    ridge: float,
    pull: Vector,
    c: Vector,
    low: Vector,
    high: Vector,
    reach: float,
    room: float,
    x: Vector,
    states: States,
    capped: bool,
) -> tuple[float, float, Vector]:
    """The optimum where the states hold, signs and bounds of the free assets aside: fills x; (nu, lam, slope).

    The ridge pulls towards the x that came in: with it a singular sigma has one answer, and its effect vanishes when
    the face is solved again from there (a proximal point step).
    """
    n = len(c)
    free = np.empty(n, np.int64)
    m, net, gross, side = 0, reach, room, 0
    fixed = np.zeros(n)
    both = False
    for i in range(n):
        if abs(states[i]) == 1:
            free[m] = i
            m += 1
            both = both or states[i] * side < 0
            side = states[i]
        elif states[i] != 0:
            fixed[i] = high[i] if states[i] == 2 else low[i]
            net -= fixed[i]
            gross -= abs(fixed[i])
    slope = pull + sigma @ fixed if gross != room else pull.copy()
    if m == 0:
        x[:] = fixed
        nu, lam = _prices(slope, c, low, high, states, gross <= 1e-13, net)
        return nu, lam, slope
    size = m + 2 if capped and both else m + 1
    kkt, rhs = np.zeros((size, size)), np.empty(size)
    for a in range(m):
        i = free[a]
        for b in range(m):
            kkt[a, b] = sigma[i, free[b]]
        kkt[a, a] += ridge
        kkt[a, m] = kkt[m, a] = 1.0
        kkt[a, size - 1] = kkt[size - 1, a] = 1.0 if size == m + 1 else states[i]
        rhs[a] = ridge * x[i] - slope[i] - c[i] * states[i]
    rhs[size - 1] = gross
    rhs[m] = net
    answer = np.linalg.solve(kkt, rhs)
    x[:] = fixed
    for a in range(m):
        x[free[a]] = answer[a]
    slope = pull + sigma @ x
    nu, lam = answer[m], answer[size - 1] if size > m + 1 else 0.0
    if capped and not both and np.sum(np.abs(x)) > room - 1e-13:
        nu, lam = _prices_one_sided(slope, c, low, high, states, nu, side)
    return nu, lam, slope


@_compiled
def _prices(
    slope: Vector, c: Vector, low: Vector, high: Vector, states: States, capped: bool, net: float
) -> tuple[float, float]:
    """(nu, lam) where no asset is free: the middle of what the states allow; if they must not stay, just beyond."""
    lam = 0.0
    if capped:  # the span of nu is concave in lam: ternary search for its maximum
        least, most = 0.0, 2.0 * np.max(np.abs(slope)) + np.max(c)
        for _ in range(100):
            a, b = least + (most - least) / 3, most - (most - least) / 3
            (nu_a, nu_b), (nu_c, nu_d) = (
                _span(slope, c, low, high, states, a),
                _span(slope, c, low, high, states, b),
            )
            least, most = (a, most) if nu_b - nu_a < nu_d - nu_c else (least, b)
        lam = 0.5 * (least + most)
    least, most = _span(slope, c, low, high, states, lam)
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
def _span(
    slope: Vector, c: Vector, low: Vector, high: Vector, states: States, lam: float
) -> tuple[float, float]:
    """The least and the largest nu at which no fixed asset wants to move; crossed where one does."""
    least, most = -np.inf, np.inf
    for i in range(len(c)):
        k = c[i] + lam
        if states[i] == 0 and high[i] > 0:
            least = max(least, -k - slope[i])
        if states[i] == 0 and low[i] < 0:
            most = min(most, k - slope[i])
        if states[i] == 2:
            most = min(most, -k - slope[i])
        if states[i] == -2:
            least = max(least, k - slope[i])
    return least, most


@_compiled
def _prices_one_sided(
    slope: Vector, c: Vector, low: Vector, high: Vector, states: States, nu: float, side: int
) -> tuple[float, float]:
    """(nu, lam) where the cap binds and all free assets trade to one side: only nu + side lam is determined."""
    least, most = 0.0, np.inf  # lam: idle assets of the other side stay idle; those at their bound stay there
    for i in range(len(c)):
        half = 0.5 * (side * (slope[i] + nu) - c[i])
        if states[i] == 0 and (low[i] if side > 0 else -high[i]) < 0:
            least = max(least, half)
        if states[i] == -2 * side:
            most = min(most, half)
    lam = least if least <= most else max(0.5 * (least + most), 0.0)
    return nu - side * lam, lam


@_compiled
def _worth(x: Vector, miss: Vector, slope: Vector, c: Vector) -> float:
    """The objective, not below what is measurable."""
    objective = 0.5 * float((miss + x) @ slope) + float(c @ np.abs(x))
    return max(objective, FLOOR)


@_compiled
def _descend(
    sigma: Matrix,
    ridge: float,
    miss: Vector,
    pull: Vector,
    c: Vector,
    low: Vector,
    high: Vector,
    reach: float,
    room: float,
    x: Vector,
    states: States,
) -> tuple[float, float, bool, int]:
    """One state at a time, the objective never rising (primal active set): from x, or from no trade if better."""
    n = len(c)
    stay = 0.5 * (miss @ pull)
    worse = reach == 0 and 0.5 * ((miss + x) @ (pull + sigma @ x)) + c @ np.abs(x) > stay
    if worse or abs(np.sum(x) - reach) > 1e-12 or np.sum(np.abs(x)) > room + 1e-12:
        left = reach
        for i in range(n):
            x[i] = min(max(left, low[i]), high[i])
            left -= x[i]
    for i in range(n):
        states[i] = (
            0 if x[i] == 0 else (2 if x[i] >= high[i] else 1) if x[i] > 0 else -2 if x[i] <= low[i] else -1
        )
    capped = np.sum(np.abs(x)) >= room
    nu = lam = 0.0
    systems = 0
    while systems < 100 + 20 * n:
        systems += 1
        goal = x.copy()
        nu, lam, slope = _face(sigma, ridge, pull, c, low, high, reach, room, goal, states, capped)
        step, blocker, becomes = 1.0, -1, 0
        for i in range(n):
            if abs(states[i]) != 1 or abs(goal[i] - x[i]) < 1e-15:  # rounding must not block a step
                continue
            side = states[i]
            bound = high[i] if side > 0 else low[i]
            if goal[i] * side < 0 and x[i] / (x[i] - goal[i]) < step:
                step, blocker, becomes = x[i] / (x[i] - goal[i]), i, 0
            elif (goal[i] - bound) * side > 0 and (bound - x[i]) / (goal[i] - x[i]) < step:
                step, blocker, becomes = (bound - x[i]) / (goal[i] - x[i]), i, 2 * side
        if not capped:
            before, after = np.sum(np.abs(x)), 0.0
            for i in range(n):
                after += goal[i] * states[i] if abs(states[i]) == 1 else abs(goal[i])
            if after > room and (room - before) < step * (after - before):
                step, blocker = (room - before) / (after - before), n
        step = max(step, 0.0)
        moved = np.sum((goal - x) ** 2)
        if blocker < 0:
            x[:] = goal
        else:
            x += step * (goal - x)
        if blocker == n:
            capped = True
            continue
        if blocker >= 0:
            states[blocker] = becomes
            x[blocker] = 0.0 if becomes == 0 else high[blocker] if becomes > 0 else low[blocker]
            continue
        worth = _worth(x, miss, slope, c)
        if _excess(x, slope, nu, max(lam, 0.0), c, low, high, room) <= 1e-11 * worth:
            break
        worst, chosen, becomes = 0.0, -1, 0
        if capped and lam < 0:
            worst, chosen = -lam, n
        for i in range(n):
            new = _corrected(states[i], x[i], low[i], high[i], slope[i], nu, c[i] + max(lam, 0.0))
            if abs(states[i]) != 1 and new != states[i]:
                r, k = slope[i] + nu, c[i] + max(lam, 0.0)
                wrong = abs(r) - k if states[i] == 0 else abs(r + k) if states[i] > 0 else abs(r - k)
                if wrong > worst:
                    worst, chosen, becomes = wrong, i, new
        if chosen == n:
            capped = False
        elif chosen >= 0:
            states[chosen] = becomes
        elif ridge * moved <= 1e-12 * worth:
            break
    return nu, max(lam, 0.0), capped, systems


@_compiled
def _repair(x: Vector, states: States, low: Vector, high: Vector, reach: float, room: float) -> None:
    """Rounding errors out: bounds, then the sum, then the turnover, by moves of the size of the error."""
    n = len(x)
    for i in range(n):
        x[i] = min(max(x[i], low[i]), high[i])
    for _ in range(n):
        error = reach - np.sum(x)
        if abs(error) <= 1e-16:
            break
        best, most, traded = -1, 0.0, False
        for i in range(n):  # the asset with most way to go, one that trades if there is one
            way = high[i] - x[i] if error > 0 else x[i] - low[i]
            if way > 0 and (abs(states[i]) == 1, way) > (traded, most):
                best, most, traded = i, way, abs(states[i]) == 1
        if best < 0:
            break
        x[best] += min(max(error, -most), most)
    excess = np.sum(np.abs(x)) - room
    if excess > 1e-9 * room and reach == 0:
        x *= room / (room + excess)
    elif excess > 1e-15:
        buy, sell = np.argmax(x), np.argmin(x)
        if x[buy] > excess and x[sell] < -excess:
            x[buy] -= 0.5 * excess
            x[sell] += 0.5 * excess
