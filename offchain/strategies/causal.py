"""Does a strategy know what it cannot know? Three examinations of its weights, for strategies from users' files.

1. **Replay.** A fresh copy walks through a market that ends at some row: up to there the weights must be the same, bit
   for bit. Catches what reaches the market itself.
2. **Placebo.** A fresh copy decides on the real dates from resampled prices (blocks of 10 rows of the real returns),
   which say nothing of what really came next. If its weights still lean to what really rose next, it has that from
   elsewhere: its own copy of the data, a file, a global.
3. **Foresight.** The weights of the real walk against what was surprising in the next returns, that is what their
   recent past does not explain. Catches what recognises the real prices and looks them up; only a correlation that
   no honest strategy has is refused.

The statistic of 2 and 3: at each decision k the correlation x_k over the assets between the weights (less their mean
over time, so that a fixed preference is no sign) and the next returns (likewise); z = Σ x_k / √(Σ x_k²). Without
foreknowledge x_k is as often above as below 0 and z is about normal (self-normalised, so one large return cannot make
it large). The same with each decision in proportion to the size of its tilt, so that one that peeks only now and then
or from some row on, and holds the same otherwise, is seen as well; the larger z of the two counts. Four standard
deviations are chance once in 30,000, for each of the two and of at most four horizons.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offchain.strategies.base import Strategy, adapted
from offchain.strategies.constraints import Constraints
from offchain.strategies.errors import LookAheadError, StrategyError
from offchain.strategies.walk import Track

__all__ = ["Causality", "check_causal", "foreknowledge"]

Floats = NDArray[np.float64]
DECISIONS = 250
ENOUGH = 100  # fewer decisions than that are joined by other rows
BLOCK = 10  # rows
PLACEBO_Z = 4.0
FORESIGHT_Z = 6.0
FORESIGHT_CORRELATION = 0.25
PAST = (1, 5, 21, 63)  # rows whose trailing returns explain the next ones


@dataclass(frozen=True)
class Causality:
    """What the examinations found where they found nothing wrong."""

    replayed: int  # decisions that came out the same
    placebo: float  # the largest z
    foresight: float


def check_causal(
    factory: Callable[..., Any],
    market: Any,
    every: str | int = "month",
    lookback: int | None = 252,
    start: Any = None,
    *,
    targets: Floats | None = None,
    seed: int = 1,
    decisions: int = DECISIONS,
) -> Causality:
    """Raises LookAheadError, with the statistics, if the strategies that `factory` makes know later rows.

    `factory()` makes a fresh strategy; if it takes an argument, it gets the market, cut or with other prices.
    `targets`: what `walk` gave on the whole market, if it has been walked. StrategyError where the strategy is not
    deterministic or cannot decide from resampled prices. `decisions`: of the placebo, at most.
    """
    from offchain.backtest.model import Market

    market = Market.of(market)
    takes = any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in inspect.signature(factory).parameters.values()
    )

    def fresh(prices: Floats) -> Strategy:
        seen = Market(market.dates[: len(prices)].copy(), prices.copy(), market.names)
        return adapted(factory(seen) if takes else factory())

    strategy = fresh(market.prices)
    track = Track.of(market, strategy, every, lookback, start)
    if targets is None:
        targets = track.run(strategy)
    foresight = _foresight(strategy.name, track, targets)
    placebo = _placebo(fresh, track, seed, decisions)
    return Causality(_replay(fresh, track, targets), placebo, foresight)


# ---------------------------------------------------------------- replay


def _replay(fresh: Callable[[Floats], Strategy], track: Track, targets: Floats) -> int:
    """Walks to two rows again, on markets that end there."""
    rows = track.rows
    replayed = 0
    for cut in sorted({rows[len(rows) // 3], rows[(2 * len(rows)) // 3]}):
        short = track.until(max(cut, 1))
        strategy = fresh(short.prices)
        again = short.run(strategy)
        differ = _differs(targets[: len(again)], again)
        if differ is not None:
            who, date = strategy.name, np.datetime_as_string(track.dates[differ], "D")
            if _differs(again, short.run(fresh(short.prices))) is not None:
                raise StrategyError(
                    f"{who}: {date}: gives other weights each time: seed its random numbers, and "
                    "keep nothing between runs in a class or a module"
                )
            end = np.datetime_as_string(track.dates[cut], "D")
            raise LookAheadError(
                f"{who}: {date}: gives other weights where the data end at {end}: it knows rows later than now"
            )
        replayed += len(short.rows)
    return replayed


def _differs(one: Floats, other: Floats) -> int | None:
    """The first row that is not the same to the bit."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return None if same.all() else int((~same).any(axis=1).argmax())


# ---------------------------------------------------------------- placebo


def _placebo(fresh: Callable[[Floats], Strategy], track: Track, seed: int, decisions: int) -> float:
    rows = _sampled(track, decisions)
    prices = _resampled(track.prices, seed)
    strategy = fresh(prices)
    strategy.constraints = Constraints()  # they would blur what it wants
    other = track.on(prices, rows)
    weights = []
    for row in rows:
        try:
            weights.append(other.decide(strategy, row))
        except LookAheadError:
            raise
        except StrategyError as error:
            raise StrategyError(
                f"{error} (on resampled prices: a strategy must decide from any history)"
            ) from None
    largest = 0.0
    for horizon in _horizons(rows):
        ahead, kept = _ahead(track.prices, rows, horizon)
        found = _lean(np.array(weights)[kept], ahead)
        largest = max(largest, found.z)
        if found.z > PLACEBO_Z:
            raise LookAheadError(
                f"{strategy.name}: from resampled prices its weights still foretell the real returns of the next "
                f"{_rows(horizon)}: {found}: it knows later rows from elsewhere"
            )
    return largest


def _sampled(track: Track, decisions: int) -> list[int]:
    rows = np.array(track.rows)
    if len(rows) < ENOUGH:
        rows = np.arange(rows[0], len(track.prices))
    rows = rows[rows < len(track.prices) - 1]
    if len(rows) > decisions:
        rows = rows[np.linspace(0, len(rows) - 1, decisions).astype(int)]
    return [int(row) for row in rows]


def _resampled(prices: Floats, seed: int) -> Floats:
    """Prices from the same first row with blocks of the real returns in another order (with repetition)."""
    steps = np.diff(np.log(prices), axis=0)
    total = len(steps)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, total, size=total // BLOCK + 1)
    rows = ((starts[:, None] + np.arange(BLOCK)) % total).ravel()[:total]
    path = np.vstack([np.zeros(steps.shape[1]), np.cumsum(steps[rows], axis=0)])
    return np.asarray(prices[0] * np.exp(path), dtype=np.float64)


# ---------------------------------------------------------------- foresight


def _foresight(who: str, track: Track, targets: Floats) -> float:
    rows = [row for row in track.rows if row < len(track.prices) - 1]
    largest = 0.0
    for horizon in _horizons(rows):
        ahead, kept = _ahead(track.prices, rows, horizon)
        used = [row for row, keep in zip(rows, kept, strict=True) if keep]
        found = _lean(targets[used], _surprise(track.prices, used, ahead))
        largest = max(largest, found.z)
        if found.z > FORESIGHT_Z and found.correlation > FORESIGHT_CORRELATION:
            raise LookAheadError(
                f"{who}: its weights foretell the returns of the next {_rows(horizon)} as no history can: {found}: "
                "it knows later rows"
            )
    return largest


def _surprise(prices: Floats, rows: list[int], ahead: Floats) -> Floats:
    """What the assets' own trailing returns do not explain of the next ones (least squares over all decisions)."""
    logs = np.log(prices)
    features = []
    for span in PAST:
        past = np.array([logs[row] - logs[max(row - span, 0)] for row in rows])
        features.append((past - past.mean(axis=1, keepdims=True)).ravel())
    x = np.column_stack(features)
    y = (ahead - ahead.mean(axis=1, keepdims=True)).ravel()
    if len(y) <= x.shape[1]:
        return ahead
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return np.asarray(left.reshape(ahead.shape), dtype=np.float64)


# ---------------------------------------------------------------- the statistic


@dataclass(frozen=True)
class _Lean:
    """How far weights lean to what rises next."""

    right: int
    decisions: int  # where it leans at all
    correlation: float
    z: float

    def __str__(self) -> str:
        return (
            f"right at {self.right} of {self.decisions} decisions, correlation {self.correlation:.2f}, "
            f"z = {self.z:.1f} (chance {0.5 * math.erfc(self.z / math.sqrt(2)):.0e})"
        )


def _lean(weights: Floats, ahead: Floats) -> _Lean:
    """The larger z of the two: each decision alike, or in proportion to the size of its tilt."""
    x, size = foreknowledge(weights, ahead)
    found = []
    for weight in (np.ones(len(x)), size):
        y = weight * x
        power, whole = float((y**2).sum()), float(weight.sum())
        z = float(y.sum()) / math.sqrt(power) if power > 0 else 0.0
        share = float(y.sum()) / whole if whole > 0 else 0.0
        found.append(_Lean(int((x > 0).sum()), int((x != 0).sum()), share, z))
    return max(found, key=lambda one: one.z)


def foreknowledge(weights: Floats, ahead: Floats) -> tuple[Floats, Floats]:
    """Of weights (K, n) and the returns that followed (K, n), both less their means over time: (K,) correlations

    over the assets, 0 where either does not vary; (K,) sizes of the tilts.
    """
    if len(weights) == 0:
        return np.zeros(0), np.zeros(0)
    tilt, r = (part - part.mean(axis=1, keepdims=True) for part in (weights, ahead))
    tilt, r = tilt - tilt.mean(axis=0), r - r.mean(axis=0)
    size, moves = np.linalg.norm(tilt, axis=1), np.linalg.norm(r, axis=1)
    fine = (size > 1e-9) & (moves > 1e-12)
    return np.where(fine, (tilt * r).sum(axis=1) / np.where(fine, size * moves, 1.0), 0.0), size


def _horizons(rows: list[int]) -> list[int]:
    """1, 5, 21 rows and from decision to decision, as far as they do not overlap."""
    spacing = int(np.median(np.diff(rows))) if len(rows) > 1 else 1
    return sorted({h for h in (1, 5, 21, spacing) if h <= spacing} | {1})


def _ahead(prices: Floats, rows: list[int], horizon: int) -> tuple[Floats, NDArray[np.bool_]]:
    at = np.array(rows, dtype=np.int64)
    kept = at + horizon < len(prices)
    return prices[at[kept] + horizon] / prices[at[kept]] - 1, kept


def _rows(horizon: int) -> str:
    return "row" if horizon == 1 else f"{horizon} rows"
