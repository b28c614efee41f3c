"""The plan: the joint optimum of trades and routes, in exact integers, that the vault's rules accept.

`plan(problem)` in five steps:
1. read the problem as arrays (`market`) and solve it with all pools (`joint`); the dual gives a bound that no plan
   beats;
2. leave out legs that a fixed cost or a rule of execution forbids, and solve again each time: legs that turn in a
   circle, legs below the smallest size, legs whose gas is more than they gain (backward elimination, each removal kept
   only if the objective falls);
3. turn the flows into integer legs in an order in which each token is there when it is sold, predict every one to the
   wei, ask `policy.check_rebalance`, shrink what is refused;
4. keep the best of this and the single-pool plan by the same objective, in integers; say why for every asset;
5. where that closes the session by less than the problem's margin, do 2 and 3 again, aimed further inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import pairwise, permutations

import numpy as np

from offchain import policy
from offchain.errors import EvenkeelError, PlannerError
from offchain.planner import joint
from offchain.planner.market import Reading, keep_legs, read, ridge, untrimmed
from offchain.planner.payload import Leg, SwapV2, SwapV3, Sweep, encode
from offchain.planner.pools import PIPS, Pool, V2Pool
from offchain.planner.problem import (
    BPS,
    GAS_REBALANCE,
    Certificate,
    Costs,
    Plan,
    PlannedLeg,
    Problem,
    check,
    closing_aims,
    gas_of,
    objective,
    over_limits,
    tax_of,
)
from offchain.planner.single_pool import single_pool_plan
from offchain.policy import WAD

__all__ = ["Certificate", "Costs", "Plan", "PlannedLeg", "Problem", "plan"]

DUST = 1e-12  # of NAV: a flow below it is the optimiser's rounding
MARGIN = 1e-8  # of NAV: added to the loss that the weights after the trade allow for
LARGEST_MARGIN = 1e-5  # of NAV: the same in a vault of few token units
MAX_SOLVES = 150  # of each search
EXCHANGES = 300  # solves of the local search over legs
ADDITIONS = 16  # legs, or pairs of legs, that are tried beside those in use
SCALINGS = 8  # rounds of slope scaling
ROUNDING = 1e-9  # of NAV: what a bound gives away for floats and for the trimmed ends of pools
CLOSE = 1e-8  # of NAV: a branch that gains less is not explored
STEPS = 20  # of the bisection that shrinks a refused trade
LOSS_ROWS = ("slippage", "budget")
GREED = 1e-3  # curvature of the problem whose prices bound the gain: small, but Newton wants some
TIGHTENINGS = 4  # of limits that what a trade loses, and rounding to whole token units, changes
COARSE = 10**6  # token units: less is paid, and rounding takes more than a millionth
SHARES = (1, 2, 4)  # the whole closing margin, half, a quarter: tried until one is reached
PARTS = 1 << 50  # a token's flow is split in these parts


def plan(problem: Problem) -> Plan:
    """The best trade found that the vault accepts; none, with the reason, when there is none or it is not worth it."""
    check(problem)
    asked = replace(problem, state=replace(problem.state, time=problem.now))
    problem = replace(asked, closing_margin_bps=0)
    state = problem.state
    session, refusal = policy.next_session(state, problem.now)
    if refusal:
        found = policy.trigger(state, problem.now) if refusal == "no trigger" else None
        reason = f"{refusal}: {found.reason}" if found else refusal
        return _nothing(problem, session, reason, (reason,) * len(state.assets))
    try:
        reading = _read(problem)
        frontier = _without_circles(problem, reading)
        attempts = _search(problem, reading, frontier[0])
    except (
        ArithmeticError,
        np.linalg.LinAlgError,
    ) as error:  # floats, whatever comes: the exact plan still stands
        reason = f"the joint optimiser failed ({error})"
        found_exactly = _single_pool(problem)
        return found_exactly or _nothing(problem, session, reason, (reason,) * len(state.assets))
    search = attempts[0]
    candidates = [*(_exact(problem, reading, one, session) for one in attempts), _single_pool(problem)]
    accepted = [c for c in candidates if c is not None and c.trades]
    best = min(accepted, key=lambda c: _objective(problem, c), default=None)
    idle = objective(problem, state.balances)
    if best is None or _objective(problem, best) >= idle:
        explanations = _explain(problem, reading, search, state.balances)
        return _nothing(problem, session, _reason(problem, reading, candidates[0], best), explanations)
    best = _further_inside(asked, best, frontier[0].kept, idle)
    return _finish(problem, reading, frontier, search, best, idle)


def _further_inside(problem: Problem, best: Plan, kept: np.ndarray, idle: int) -> Plan:
    """`best`, or the same aimed inside the drifts that close the session by the problem's margin, as near as is found.

    Only where `best` closes the session; what takes its place does so, too, and is worth more than no trade. `kept`:
    legs allowed; `idle`: J without a trade.
    """
    if best.verdict is None or not best.verdict.closed:
        return best
    for share in SHARES:
        aimed = replace(problem, closing_margin_bps=problem.closing_margin_bps // share)
        if _outside(aimed, best) == 0:
            break
        try:
            reading = _read(aimed)
            attempts = _search(aimed, reading, _attempt(aimed, reading, kept, None))
        except (ArithmeticError, np.linalg.LinAlgError):  # floats: what was found without a margin stands
            break
        found = [_exact(aimed, reading, one, best.session) for one in attempts]
        closing = [one for one in found if one and one.trades and one.verdict and one.verdict.closed]
        worth = [one for one in closing if _objective(problem, one) < idle]
        best = min([best, *worth], key=lambda one: _outside(problem, one))
    return best


def _outside(problem: Problem, found: Plan) -> int:
    """WAD: how much the drift that is furthest from where the margin wants it has to fall; 0: all are there."""
    left = policy.drifts(problem.state, found.balances_after)
    return max(max(d - aim for d, aim in zip(left, closing_aims(problem), strict=True)), 0)


# ---------------------------------------------------------------- search


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The relaxed optimum over a set of legs; flows are values in NAV."""

    kept: np.ndarray  # (2 · pools,) bool: legs that were allowed
    solution: joint.Solution
    value_in: np.ndarray  # (2 · pools,) of each leg
    value_out: np.ndarray
    change: np.ndarray  # (n,) of each asset
    relaxed: float  # cost relative to no trade, NAV
    total: float  # the same with gas, and with what rounding to token units takes


def _read(problem: Problem) -> Reading:
    """The market; where pools pay more than the oracle's prices, with twice the room that a gain gives to purchases."""
    reading, room = read(problem), 0.0
    for _ in range(TIGHTENINGS):
        gain = float(np.sum(joint.solve(reading.market).change))
        if gain <= max(room / 2, DUST):
            break
        room = 4 * gain
        reading = read(problem, -room)
    return reading


def _without_circles(problem: Problem, reading: Reading) -> list[_Attempt]:
    """Branch and bound over the circles of tokens: a plan runs each token's legs in one go, so it has none.

    Pools out of line with each other earn by circles. Wherever the relaxed optimum has one, a branch for each of its
    connections is solved without that connection, best first. The answer is the frontier: the optimum first, then all
    branches that were not explored; every plan belongs to one of them.
    """
    root = _attempt(problem, reading, np.ones(2 * len(problem.pools), dtype=bool), None)
    if not _cuts(reading, root):
        return [root]
    best = _runnable(problem, reading, root.kept, root.solution)
    heap = [(root.relaxed, 0, root)]
    solves = 0
    while heap and heap[0][0] < best.relaxed - CLOSE and solves < MAX_SOLVES:
        _, _, node = heappop(heap)
        cuts = _cuts(reading, node)
        if not cuts:
            heappush(heap, (node.relaxed, solves, node))
            best = node
            break
        for cut in cuts:
            solves += 1
            child = _attempt(problem, reading, node.kept & ~cut, node.solution)
            if child.relaxed < best.relaxed and not _cuts(reading, child):
                best = child
            heappush(heap, (child.relaxed, solves, child))
    if heap and heap[0][0] < best.relaxed - CLOSE:  # too many branches: finish the most promising one
        other = _runnable(problem, reading, heap[0][2].kept, heap[0][2].solution)
        best = min(best, other, key=lambda one: one.relaxed)
    return [_reordered(problem, reading, best), *(node for _, _, node in heap)]


def _reordered(problem: Problem, reading: Reading, best: _Attempt) -> _Attempt:
    """Local search over the order in which tokens are sold: one of them moves, all legs that fit the order may run."""
    ends = _ends(reading)
    order, solves, improved = _order_of(reading, best), 0, True
    while improved and solves < MAX_SOLVES:
        improved = False
        for token, to in permutations(range(len(order)), 2):
            moved = [*order[:token], *order[token + 1 :]]
            moved.insert(to, order[token])
            place = np.argsort(moved)
            forward = (ends[:, 0] >= 0) & (place[ends[:, 0]] < place[ends[:, 1]])
            tried = _attempt(problem, reading, forward, best.solution)
            solves += 1
            if tried.relaxed < best.relaxed - CLOSE:
                best, order, improved = tried, moved, True
                break
            if solves >= MAX_SOLVES:
                break
    return best


def _order_of(reading: Reading, attempt: _Attempt) -> list[int]:
    """All tokens, each before those that it is exchanged for."""
    ends, left, order = _ends(reading), set(range(reading.market.tokens)), []
    edges = {(int(a), int(b)) for a, b in ends[attempt.value_in > DUST]}
    while left:
        fed = {b for a, b in edges if a in left}
        ready = sorted(left - fed)
        order += ready
        left -= set(ready)
    return order


def _search(problem: Problem, reading: Reading, start: _Attempt) -> list[_Attempt]:
    """Legs that can be carried out and are worth their gas, at the optimum of what is left.

    In a vault so small that whole token units matter, with all legs as well: the exact amounts decide.
    """
    for _ in range(TIGHTENINGS):  # the weights are measured after the trade, against what is left
        lost = -float(np.sum(start.change))
        assumed = lost + 0.02 * abs(lost) + MARGIN
        reading = _boxed(problem, reading, assumed)
        start = _runnable(problem, reading, start.kept, start.solution)
        if -float(np.sum(start.change)) <= assumed:
            break
    reading = _inside(reading)
    start = _runnable(problem, reading, start.kept, start.solution)
    if float(np.sum(_fixed(reading, start.solution)[start.value_in > DUST])) < CLOSE:
        return [start]
    tries = [_eliminate(problem, reading, one) for one in (start, _concentrated(problem, reading, start))]
    best = _exchanged(problem, reading, min(tries, key=lambda one: one.total), start.kept)
    return [best, start] if float(np.max(reading.rounding, initial=0.0)) > CLOSE else [best]


def _boxed(problem: Problem, reading: Reading, lost: float) -> Reading:
    """With the limits of sales and purchases of a trade that loses so much of the NAV."""
    box = read(problem, lost).market
    return replace(reading, market=replace(reading.market, lower=box.lower, upper=box.upper))


def _inside(reading: Reading) -> Reading:
    """With the drifts at which the session closes a rounding nearer, so that it does close."""
    n, closing = reading.market.assets, np.array([name == "closing" for name in reading.row_names])
    movable = (reading.market.lower < 0) | (reading.market.upper > 0)
    nearer = min(MARGIN + 2 * float(np.max(reading.unit[:n][movable], initial=0.0)), LARGEST_MARGIN)
    return replace(reading, market=replace(reading.market, room=reading.market.room - nearer * closing))


def _runnable(problem: Problem, reading: Reading, kept: np.ndarray, guess: joint.Solution | None) -> _Attempt:
    """The optimum over legs that form no circle, each of the smallest size at least."""
    attempt = _attempt(problem, reading, kept, guess)
    while True:
        cuts = _cuts(reading, attempt)
        if not cuts:
            used = attempt.value_in > DUST
            small = used & (attempt.value_in < problem.min_leg_value / policy.nav(problem.state))
            units = reading.unit[_ends(reading)]  # less than one cannot be sold or paid
            small |= used & ((attempt.value_in < units[:, 0]) | (attempt.value_out < units[:, 1]))
            cuts = [small] if np.any(small) else []
        if not cuts:
            return attempt
        tried = [_attempt(problem, reading, attempt.kept & ~cut, attempt.solution) for cut in cuts]
        attempt = min(tried, key=lambda one: one.total)


def _attempt(problem: Problem, reading: Reading, kept: np.ndarray, guess: joint.Solution | None) -> _Attempt:
    some = keep_legs(reading, kept)
    solution = joint.solve(some.market, guess)
    s, legs = some.market.segments, len(kept)
    value_in = np.bincount(some.leg, solution.value_in, legs)
    value_out = np.bincount(some.leg, solution.value_out, legs)
    tokens = some.market.tokens
    net = np.bincount(s.token_out, solution.value_out, tokens) - np.bincount(
        s.token_in, solution.value_in, tokens
    )
    change = np.asarray(net[: some.market.assets], dtype=np.float64)
    used = value_in > DUST
    fixed = float(np.sum(_fixed(reading, solution)[used]))
    if np.any(used):
        fixed += GAS_REBALANCE * problem.gas_price / policy.nav(problem.state)
    relaxed = joint.cost(some.market, change)
    return _Attempt(kept, solution, value_in, value_out, change, relaxed, relaxed + fixed)


def _fixed(reading: Reading, solution: joint.Solution) -> np.ndarray:
    """(2 · pools,) what each leg costs whatever its size, NAV: gas, and rounding, which counts as a loss."""
    limited = np.array([name in LOSS_ROWS for name in reading.row_names])
    return np.asarray(reading.gas + reading.rounding * (1 + float(np.sum(solution.multipliers[limited]))))


def _concentrated(problem: Problem, reading: Reading, start: _Attempt) -> _Attempt:
    """The best of a few sparse choices of legs: each leg's gas is charged by the unit, at the flow it had before.

    Slope scaling (Kim and Pardalos 1999): a small flow becomes dear and gives way to a large one.
    """
    best, used = start, start.value_in > DUST
    if not np.any(used):
        return start
    flow = np.where(used, start.value_in, np.mean(start.value_in[used]))
    guess = start.solution
    for _ in range(SCALINGS):
        some = keep_legs(reading, start.kept)
        rate = np.minimum(_fixed(reading, start.solution) / flow, 0.5)[some.leg]
        segments = replace(some.market.segments, keep=some.market.segments.keep * (1 - rate))
        guess = joint.solve(replace(some.market, segments=segments), guess)
        taken = np.bincount(some.leg, guess.value_in, len(flow))
        used = taken > DUST
        if not np.any(used):
            break
        tried = _runnable(problem, reading, start.kept & used, guess)
        best = min(best, tried, key=lambda one: one.total)
        flow = np.where(used, np.maximum(taken, DUST), flow)
    return best


def _eliminate(problem: Problem, reading: Reading, best: _Attempt) -> _Attempt:
    """Backward elimination: drop the legs, and the assets, without which the objective with gas is lower.

    Dropping a leg loses at least what it earns at the optimal prices (weak duality), so only legs that earn less than
    their gas are tried, the worst first.
    """
    solves, improved = 0, True
    while improved and solves < MAX_SOLVES:
        improved = False
        for drop in _removals(reading, best):
            if solves >= MAX_SOLVES:
                break
            tried = _runnable(problem, reading, best.kept & ~drop, best.solution)
            solves += 1
            if tried.total < best.total - DUST:
                best, improved = tried, True
                break
    return best


def _exchanged(problem: Problem, reading: Reading, best: _Attempt, allowed: np.ndarray) -> _Attempt:
    """Local search: legs are added, left out and exchanged, the best choice each time, while J with gas falls."""
    solves, improved = 0, True
    while improved and solves < EXCHANGES:
        improved, now = False, best
        for tried in _neighbours(problem, reading, now, allowed):
            solves += 1
            if tried.total < best.total - DUST:
                best, improved = tried, True
            if solves >= EXCHANGES:
                break
    return best


def _neighbours(
    problem: Problem, reading: Reading, attempt: _Attempt, allowed: np.ndarray
) -> Iterator[_Attempt]:
    """Choices of legs that differ in one or two: more, fewer, others."""
    used = attempt.value_in > DUST
    if not np.any(used):
        return
    for more in _additions(reading, attempt.solution, allowed, used):
        yield _runnable(problem, reading, used | more, attempt.solution)
    for leg in np.flatnonzero(used):
        without = used & (np.arange(len(used)) != leg)
        fewer = _runnable(problem, reading, without, attempt.solution)
        yield fewer
        for more in _additions(reading, fewer.solution, allowed & (np.arange(len(used)) != leg), without):
            yield _runnable(problem, reading, without | more, fewer.solution)


def _additions(
    reading: Reading, solution: joint.Solution, allowed: np.ndarray, used: np.ndarray
) -> list[np.ndarray]:
    """Legs, and pairs of legs through another token, that may be worth their gas beside those in use, by promise.

    Weak duality: what is added gains at most what it earns at the present optimum's prices; of an asset that is not
    traded, for which many prices are optimal, at what a little more or less of it is worth to the vault. Nor can it
    gain more than its first price does on all of an asset that may be sold, or bought.
    """
    market, n, ends = reading.market, reading.market.assets, _ends(reading)
    busy = np.isin(np.arange(market.tokens), ends[used])
    nu, idle = solution.prices.copy(), np.flatnonzero(~busy[:n])
    pull = market.quadratic @ (market.drift + solution.change) + solution.multipliers @ market.rows
    nu[idle] = np.maximum(market.slope - pull, joint.SMALLEST_PRICE)[idle]
    gives, takes = busy.astype(float), busy.astype(float)  # NAV that can leave each token, that can come in
    gives[idle], takes[idle] = -market.lower[idle], market.upper[idle]
    gas, earned = _fixed(reading, solution), _earnings(reading, replace(solution, prices=nu))
    rate = np.zeros(len(used))
    np.maximum.at(rate, reading.leg, market.segments.keep * market.segments.start**2)

    def promise(legs: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        first, last = int(ends[legs[0], 0]), int(ends[legs[-1], 1])
        price = float(np.prod(rate[list(legs)]))
        most = min(gives[first], takes[last] / price)
        gain = min(float(np.sum(earned[list(legs)])), (nu[last] * price - nu[first]) * most)
        return gain - float(np.sum(gas[list(legs)])), legs

    legs = [int(leg) for leg in np.flatnonzero(allowed & ~used & (rate > 0))]
    found = [promise((leg,)) for leg in legs]
    for token in set(ends[legs].reshape(-1).tolist()) - set(np.flatnonzero(busy).tolist()):
        into, out = [k for k in legs if ends[k, 1] == token], [k for k in legs if ends[k, 0] == token]
        found += [promise((a, b)) for a in into for b in out if ends[a, 0] != ends[b, 1]]
    best = sorted((one for one in found if one[0] > 0), reverse=True)[:ADDITIONS]
    return [np.isin(np.arange(len(used)), more) for _, more in best]


def _earnings(reading: Reading, solution: joint.Solution) -> np.ndarray:
    """(2 · pools,) NAV: what each leg's best trade earns at the solution's prices."""
    s, nu = reading.market.segments, solution.prices
    value_in, value_out = s.flows(nu)
    return np.bincount(reading.leg, nu[s.token_out] * value_out - nu[s.token_in] * value_in, len(reading.gas))


def _removals(reading: Reading, attempt: _Attempt) -> list[np.ndarray]:
    """Sets of legs to try without: all that earn too little, each of them, each asset, by promise."""
    used = attempt.value_in > DUST
    ends = _ends(reading)
    nu = attempt.solution.prices
    earns = nu[ends[:, 1]] * attempt.value_out - nu[ends[:, 0]] * attempt.value_in
    earns -= _fixed(reading, attempt.solution)
    poor = used & (earns < 0)
    order = sorted(np.flatnonzero(poor), key=lambda leg: float(earns[leg]))
    sets = [poor & (attempt.value_in < 0.25 * np.max(attempt.value_in, initial=0.0))]
    sets += [np.arange(len(used)) == leg for leg in order]
    sets += [used & np.any(ends == token, axis=1) for token in range(reading.market.tokens)]
    return [s for s in sets if np.any(s)]


def _ends(reading: Reading) -> np.ndarray:
    """(2 · pools, 2): token in and token out of each leg; −1 where the leg has no segment."""
    ends = np.full((len(reading.gas), 2), -1, dtype=np.int64)
    ends[reading.leg, 0] = reading.market.segments.token_in
    ends[reading.leg, 1] = reading.market.segments.token_out
    return ends


def _cuts(reading: Reading, attempt: _Attempt) -> list[np.ndarray]:
    """Where legs form a circle, which cannot be run one after the other: the ways to cut it, as masks of legs.

    A circle earns by arbitrage between pools. Its input would have to be there before its output.
    """
    ends = _ends(reading)
    used = attempt.value_in > DUST
    edges = {(int(a), int(b)) for a, b in ends[used]}
    flow = {edge: float(np.sum(attempt.value_in[used & np.all(ends == edge, axis=1)])) for edge in edges}
    back = [(min(flow[a, b], flow[b, a]), a, b) for a, b in edges if a < b and (b, a) in edges]
    circle = [max(back)[1:], max(back)[:0:-1]] if back else _circle(edges)
    return [(ends[:, 0] == a) & (ends[:, 1] == b) for a, b in circle]


def _circle(edges: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges of one circle, none if there is none."""
    left = set(edges)
    while True:  # peel off edges that lead to a token without exit, or come from one without entry
        exits, entries = {a for a, _ in left}, {b for _, b in left}
        inner = {(a, b) for a, b in left if b in exits and a in entries}
        if inner == left:
            break
        left = inner
    if not left:
        return []
    path = [min(left)[0]]
    while path[-1] not in path[:-1]:
        path.append(min(b for a, b in left if a == path[-1]))
    path = path[path.index(path[-1]) :]
    return list(pairwise(path))


# ---------------------------------------------------------------- integers


def _exact(problem: Problem, reading: Reading, attempt: _Attempt, session: int) -> Plan | None:
    """The attempt in integers, as much of it as the rules accept; its reason is the refusal when that is nothing."""
    if not np.any(attempt.value_in > DUST):
        return None
    whole = _carry_out(problem, reading, attempt, session, 1.0)
    if not whole.reason:
        return whole
    for less in (1e-9, 1e-6, 1e-4):  # rounding, mostly
        nearly = _carry_out(problem, reading, attempt, session, 1 - less)
        if not nearly.reason:
            return nearly
    tried = [
        _tightened(problem, reading, attempt, session, whole),
        _shrunk(problem, reading, attempt, session),
    ]
    accepted = [one for one in tried if one is not None]
    return min(accepted, key=lambda one: _objective(problem, one), default=replace(whole, legs=()))


def _tightened(
    problem: Problem, reading: Reading, attempt: _Attempt, session: int, refused: Plan
) -> Plan | None:
    """The same legs within limits as the exact amounts have them: what rounding loses on top is kept free."""
    nav, kept = policy.nav(problem.state), attempt.kept & (attempt.value_in > DUST)
    for _ in range(2 * TIGHTENINGS):
        if refused.verdict is None:
            return None
        lost = 1 - policy.nav(problem.state, refused.balances_after) / nav
        excess = max(lost + float(np.sum(attempt.change)), 0.0)
        reading = _boxed(problem, reading, lost + 0.02 * abs(lost) + MARGIN)
        if refused.reason == "drift fell too little":
            reading = _falling(problem, reading, attempt.change)
        limited = np.array([name in LOSS_ROWS for name in reading.row_names])
        room = reading.market.room - limited * 1.1 * excess
        reading = replace(reading, market=replace(reading.market, room=room))
        attempt = _runnable(problem, reading, kept, attempt.solution)
        refused = _carry_out(problem, reading, attempt, session, 1.0)
        if not refused.reason:
            return refused
    return None


def _falling(problem: Problem, reading: Reading, x: np.ndarray) -> Reading:
    """With one more rule: the tangent at x of Σ drift + sold ≤ Σ drift before, which the relaxed problem leaves out.

    It matters where a purchase passes its target, inside the tolerance, by more than it was short of it.
    """
    market = reading.market
    target = np.array(policy.targets(problem.state)) / WAD
    after, left = market.drift + target + x, 1 + float(np.sum(x))
    off = after / left - target
    sells = np.where(market.lower < 0, -1.0, 0.0)
    above = float(np.sum(np.abs(off)) + sells @ x - np.sum(np.abs(market.drift)))
    row = np.sign(off) / left - float(np.sign(off) @ after) / left**2 + sells
    market = replace(
        market, rows=np.vstack([market.rows, row]), room=np.append(market.room, row @ x - above - MARGIN),
        price=np.append(market.price, np.inf),
    )  # fmt: skip
    return replace(reading, market=market, row_names=(*reading.row_names, "drift"))


def _shrunk(problem: Problem, reading: Reading, attempt: _Attempt, session: int) -> Plan | None:
    """The largest part of the attempt's flows that is accepted."""
    accepted, low, high = None, 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = _carry_out(problem, reading, attempt, session, middle)
        if tried.reason:
            high = middle
        else:
            low, accepted = middle, tried
    return accepted


def _carry_out(problem: Problem, reading: Reading, attempt: _Attempt, session: int, scale: float) -> Plan:
    """The attempt's flows times `scale` as integer legs, predicted and judged; refused: the reason."""
    state, n = problem.state, len(problem.state.assets)
    most = policy.clip_sells(state, state.balances)
    sells = [
        min(int(-x * scale / u), most[i]) if -x > DUST and most[i] else 0
        for i, (x, u) in enumerate(zip(attempt.change, reading.unit[:n], strict=True))
    ]
    run = _Run(problem, reading, attempt, scale, [*sells, *[0] * (len(reading.tokens) - n)])
    try:
        run.all_legs()
        payload = encode(run.calls())
    except EvenkeelError as error:
        return Plan(tuple(sells), b"", (), state.balances, session, str(error))
    sells = run.sells[:n]
    after = tuple(q - s + back for q, s, back in zip(state.balances, sells, run.back, strict=False))
    verdict = policy.check_rebalance(
        state, sells, after, session, problem.now, problem.now, executor=problem.executor
    )
    reason = verdict.reason if run.legs else "nothing left to trade"
    reason = reason or over_limits(problem, after)
    return Plan(tuple(sells), payload, tuple(run.legs), after, session, reason, verdict, method="joint")


class _Run:
    """Carries out legs token by token, all that flows into a token before what flows out."""

    def __init__(
        self, problem: Problem, reading: Reading, attempt: _Attempt, scale: float, sells: list[int]
    ) -> None:
        self.problem, self.reading, self.attempt, self.scale = problem, reading, attempt, scale
        self.sells = (
            sells  # token units that the vault sends, by token; fewer where rounding would waste some
        )
        self.at_hand = list(sells)  # token units at the executor, by token
        self.back = [0] * len(sells)  # token units that the vault gets back, by token
        self.legs: list[PlannedLeg] = []
        self.sweeps: list[str] = []
        ends = _ends(reading)
        self.leaving: dict[int, list[int]] = {}
        for leg in self._used(ends):
            self.leaving.setdefault(int(ends[leg, 0]), []).append(leg)
        for legs in self.leaving.values():
            legs.sort(key=lambda leg: -attempt.value_in[leg])
        self.target = ends[:, 1]

    def _used(self, ends: np.ndarray) -> list[int]:
        """The legs with a flow, less what leads to a token that nobody takes: the optimiser's rounding."""
        legs = [int(leg) for leg in np.flatnonzero(self.attempt.value_in > DUST)]
        while True:
            takes = {int(ends[leg, 0]) for leg in legs}
            kept = [leg for leg in legs if ends[leg, 1] in takes or self._keeps(int(ends[leg, 1]))]
            if kept == legs:
                return legs
            legs = kept

    def all_legs(self) -> None:
        """Every token's legs, then what stays goes to the vault."""
        for token in self._order():
            self._spend(token)
        for token, left in enumerate(self.at_hand):
            if left > 0:
                if token >= len(self.problem.state.assets):
                    raise PlannerError("a token outside the basket would be left over")
                self.sweeps.append(self.problem.state.assets[token].token)
                self.back[token] += left

    def calls(self) -> list[Leg]:
        """What the executor runs."""
        return [*(planned.leg for planned in self.legs), *(Sweep(token) for token in self.sweeps)]

    def _order(self) -> list[int]:
        """Tokens that are sold, sources first; there are no circles."""
        left, order = set(self.leaving), []
        while left:
            fed = {int(self.target[leg]) for token in left for leg in self.leaving[token]}
            ready = sorted(left - fed)
            order += ready
            left -= set(ready)
        return order

    def _spend(self, token: int) -> None:
        """Sell what is at hand over the token's legs: all of it, unless the vault is to keep some."""
        legs, at_hand = self.leaving[token], self.at_hand[token]
        if at_hand == 0:  # its legs were the optimiser's rounding
            return
        flows = self.attempt.value_in[legs]
        keeps = token < len(self.back) and self._keeps(token)
        wanted = at_hand
        if keeps:
            wanted = min(int(float(np.sum(flows)) * self.scale / self.reading.unit[token]), at_hand)
        shares = self._shares(flows, wanted)
        while not all(pays := [self._quote(leg, share) > 0 for leg, share in zip(legs, shares, strict=True)]):
            if len(legs) == 1:
                if token >= len(self.problem.state.assets):
                    raise PlannerError(f"no pool pays anything for {wanted} of {self.reading.tokens[token]}")
                return  # the vault keeps it
            kept = pays if any(pays) else [k == 0 for k in range(len(legs))]
            legs, flows = [leg for leg, paid in zip(legs, kept, strict=True) if paid], flows[kept]
            shares = self._shares(flows, wanted)
        if self.sells[token]:
            shares = [self._least(leg, share) for leg, share in zip(legs, shares, strict=True)]
            spared = min(wanted - sum(shares), self.sells[token])
            shares[-1] += wanted - sum(shares) - spared
            self.sells[token] -= spared
            self.at_hand[token] -= spared
        for leg, amount in zip(legs, shares, strict=True):
            self._swap(leg, amount, whole=not keeps and leg == legs[-1])
        self.at_hand[token] -= sum(shares)

    def _shares(self, flows: np.ndarray, wanted: int) -> list[int]:
        """`wanted` token units in the ratio of the flows, the remainder to the last."""
        parts = [int(flow / float(np.sum(flows)) * PARTS) for flow in flows]
        shares = [wanted * part // PARTS for part in parts[:-1]]
        return [*shares, wanted - sum(shares)]

    def _quote(self, leg: int, amount: int) -> int:
        """What the leg's pool pays for `amount`, 0 for nothing."""
        pool = self.problem.pools[leg // 2]
        return pool.amount_out(pool.token1 if leg % 2 else pool.token0, amount) if amount > 0 else 0

    def _least(self, leg: int, amount: int) -> int:
        """The least that pays as much as `amount`: what a coarse token rounds away is not sold in the first place."""
        paid = self._quote(leg, amount)
        if paid > COARSE:
            return amount
        low, high = 0, amount  # pays less, pays as much
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._quote(leg, middle) >= paid else (middle, high)
        return high

    def _keeps(self, token: int) -> bool:
        """The vault buys this asset, so not all of it flows on."""
        n = len(self.problem.state.assets)
        buys = token < n and self.reading.market.upper[token] > 0  # else a change above 0 is rounding
        return bool(buys and self.attempt.change[token] > DUST)

    def _swap(self, leg: int, amount: int, *, whole: bool) -> None:
        pool, out, paid = self.problem.pools[leg // 2], int(self.target[leg]), self._quote(leg, amount)
        token_in, token_out = (pool.token1, pool.token0) if leg % 2 else (pool.token0, pool.token1)
        min_out = paid * (BPS - self.problem.leg_tolerance_bps) // BPS
        to_caller = out not in self.leaving
        swap = _swap_leg(pool, token_in, amount, min_out, leg % 2 == 0, to_caller, whole)
        self.legs.append(PlannedLeg(swap, token_out, amount, paid, min_out))
        if to_caller:
            self.back[out] += paid
        else:
            self.at_hand[out] += paid


def _swap_leg(
    pool: Pool, token_in: str, amount: int, min_out: int, down: bool, to_caller: bool, whole: bool
) -> SwapV2 | SwapV3:
    if isinstance(pool, V2Pool):
        return SwapV2(pool.address, token_in, amount, min_out, pool.fee_bps, down, to_caller, whole)
    return SwapV3(pool.address, token_in, amount, min_out, down, to_caller, whole)


# ---------------------------------------------------------------- comparison and report


def _single_pool(problem: Problem) -> Plan | None:
    """The single-pool plan, where there is one inside the problem's own limits."""
    try:
        return single_pool_plan(problem)
    except EvenkeelError:
        return None


def _gas(found: Plan) -> int:
    sweeps = (len(found.payload) - sum(76 if isinstance(p.leg, SwapV2) else 74 for p in found.legs)) // 21
    return gas_of(found.legs, sweeps)


def _objective(problem: Problem, found: Plan) -> int:
    return objective(problem, found.balances_after, _gas(found))


def _finish(
    problem: Problem, reading: Reading, frontier: list[_Attempt], search: _Attempt, best: Plan, idle: int
) -> Plan:
    """The plan with its costs, drifts, certificate and explanations."""
    state = problem.state
    lost = policy.nav(state) - policy.nav(state, best.balances_after)
    fee, gas = _fees(problem, reading, best.legs), _gas(best) * problem.gas_price
    return replace(
        best,
        costs=Costs(fee, lost - fee, gas, tax_of(problem, best.balances_after)),
        drift_before=sum(policy.drifts(state)),
        drift_after=sum(policy.drifts(state, best.balances_after)),
        certificate=_certificate(problem, reading, frontier, search, best, idle),
        explanations=_explain(problem, reading, search, best.balances_after),
    )


def _certificate(
    problem: Problem, reading: Reading, frontier: list[_Attempt], search: _Attempt, best: Plan, idle: int
) -> Certificate:
    """Lower bounds on what any plan can reach, from the dual alone."""
    nav = policy.nav(problem.state)
    reached, gas = objective(problem, best.balances_after), _gas(best) * problem.gas_price
    fixed = GAS_REBALANCE * problem.gas_price
    lowest, reading = np.inf, _relaxed(problem, reading)
    for node in frontier:
        lowest = min(lowest, _bound_with_gas(problem, reading, node, search.solution, lowest))
    bounded = idle + int((lowest - ROUNDING - _ridged(problem, reading)) * nav) + fixed
    some = keep_legs(reading, search.kept)
    routing = idle + int(joint.bound(some.market, search.solution.prices, search.solution.multipliers) * nav)
    least = min(bounded, idle, reached + gas)  # to do nothing is a plan, too
    return Certificate(reached + gas, least, reached + gas - least, reached - routing)


def _relaxed(problem: Problem, reading: Reading) -> Reading:
    """A market in which every plan is a trade: pools untrimmed, purchases as far as the largest gain lets them go.

    Prices at which no more is gained than the optimum says are those of a market where gaining is all that counts.
    """
    market, n = untrimmed(reading), reading.market.assets
    cap = problem.turnover_cap / WAD
    market = replace(market, upper=np.where(market.upper > 0, cap, 0.0))
    greedy = replace(
        market, drift=np.zeros(n), quadratic=GREED * np.eye(n), slope=np.ones(n), upper=reading.market.upper
    )
    hard = np.isinf(market.price)
    greedy = replace(greedy, rows=market.rows[hard], room=market.room[hard], price=market.price[hard])
    guesses = [np.ones(market.tokens), joint.solve(greedy).prices]
    gain = cap
    for _ in range(TIGHTENINGS):
        gain = max(min([gain, *(joint.most_gain(market, nu) for nu in guesses)]), 0.0) + DUST
        upper = np.minimum(read(problem, -gain).market.upper, cap)
        market = replace(market, upper=upper)
    return replace(reading, market=market)


def _ridged(problem: Problem, reading: Reading) -> float:
    """NAV: the most that the ridge on the covariance can have added to the objective of a trade, above that of none."""
    market = reading.market
    furthest = np.maximum(np.abs(market.drift + market.lower), np.abs(market.drift + market.upper))
    return ridge(problem) / 2 * max(float(np.sum(furthest**2 - market.drift**2)), 0.0)


def _bound_with_gas(
    problem: Problem, reading: Reading, node: _Attempt, other: joint.Solution, enough: float
) -> float:
    """The best bound over a branch's legs from prices between its own and another solution's: any lead to a bound.

    Weak duality with fixed costs: a leg adds what it earns at these prices less its gas, or nothing. `enough`: the
    first bound above it will do.
    """
    some, own = keep_legs(reading, node.kept), node.solution
    s, best = some.market.segments, -np.inf
    for part in (0.0, 0.25, 0.5, 0.75, 1.0) if problem.gas_price else (0.0,):
        prices = (1 - part) * own.prices + part * other.prices
        value_in, value_out = s.flows(prices)
        profit = prices[s.token_out] * value_out - prices[s.token_in] * value_in
        kept_by_gas = np.minimum(np.bincount(some.leg, profit, len(reading.gas)), reading.gas)
        multipliers = (1 - part) * own.multipliers + part * other.multipliers
        best = max(best, joint.bound(some.market, prices, multipliers) + float(np.sum(kept_by_gas)))
        if best > enough:
            break
    return best


def _fees(problem: Problem, reading: Reading, legs: tuple[PlannedLeg, ...]) -> int:
    """USD WAD that the pools keep, at the oracle's prices, or the deepest pool's where there is none."""
    nav, total = policy.nav(problem.state), 0.0
    pools = {pool.address.lower(): pool for pool in problem.pools}
    for planned in legs:
        pool = pools[planned.leg.pool.lower()]
        rate = pool.fee_bps / BPS if isinstance(pool, V2Pool) else pool.fee / PIPS
        unit = reading.unit[reading.tokens.index(planned.leg.token_in.lower())]
        total += planned.amount_in * unit * rate
    return round(total * nav)


def _explain(problem: Problem, reading: Reading, search: _Attempt, after: tuple[int, ...]) -> tuple[str, ...]:
    """One sentence an asset."""
    state = problem.state
    before, then = policy.values(state), policy.values(state, after)
    old, new, targets = policy.weights(state), policy.weights(state, after), policy.targets(state)
    limits = _binding(reading, search)
    sentences = []
    for i in range(len(before)):
        moved = then[i] - before[i]
        aim = f"weight {old[i] / WAD:.2%} to {new[i] / WAD:.2%}, target {targets[i] / WAD:.2%}"
        if reading.why_not[i]:
            sentences.append(f"not traded: {reading.why_not[i]}")
        elif after[i] != state.balances[i]:
            short = abs(new[i] - targets[i]) > WAD // 10_000
            why = f"; {limits}" if short and limits else ""
            verb = "sold" if moved < 0 else "bought"
            sentences.append(f"{verb} {abs(moved) / WAD:,.2f} USD: {aim}{why}")
        elif old[i] == targets[i]:
            sentences.append("not traded: on target")
        else:
            place = f"weight {old[i] / WAD:.2%}, target {targets[i] / WAD:.2%}"
            sentences.append(f"not traded: {_idle(reading, search, i)} ({place})")
    return tuple(sentences)


def _idle(reading: Reading, search: _Attempt, i: int) -> str:
    """Why an asset that could be traded is not."""
    market = reading.market
    if market.lower[i] == 0 == market.upper[i]:
        return "the rules leave no room for it"
    limits = _binding(reading, search)
    if limits:
        return limits
    if not np.any(market.lower < 0) or not np.any(market.upper > 0):
        return "there is nothing to exchange it for"
    return "what trading it costs is more than its drift is worth"


def _binding(reading: Reading, search: _Attempt) -> str:
    """Which rule stops the whole trade from being larger."""
    words = {
        "slippage": "the slippage limit allows no more",
        "budget": "the loss budget allows no more",
        "turnover": "the turnover cap allows no more",
    }
    rows = zip(reading.row_names, search.solution.multipliers, strict=True)
    hit = {words[name] for name, mu in rows if name in words and mu > 1e-6}
    return " and ".join(sorted(hit))


def _reason(problem: Problem, reading: Reading, tried: Plan | None, best: Plan | None) -> str:
    """Why nothing is traded."""
    aside = policy.aside(problem.state)
    if best is not None:
        return "no trade is worth what it costs"
    if tried is not None and tried.reason:
        return f"the vault would refuse every size of the trade: {tried.reason}"
    if aside < len(reading.tokens) and reading.tokens[aside] == problem.hub.lower():
        return "the hub is in quarantine, and no other pool can trade the drift"
    rules = problem.state.rules
    used = policy.loss_budget_used(problem.state, problem.now)
    if used >= rules.loss_capacity_bps * policy.BPS_IN_WAD:
        return "the vault would refuse every size of the trade: loss budget exceeded"
    return "no pool can trade the drift at a cost that it is worth"


def _nothing(problem: Problem, session: int, reason: str, explanations: tuple[str, ...]) -> Plan:
    state = problem.state
    drift = sum(policy.drifts(state)) if policy.nav(state) else 0
    return Plan(
        (0,) * len(state.assets), b"", (), state.balances, session, reason,
        explanations=explanations, drift_before=drift, drift_after=drift, method="joint",
    )  # fmt: skip
