"""What a backtest shows and what it does not: numbers, and the sentences a report leads with.

`assess(chosen, others, trials=..., table=...)` is pure and, with its seed, gives the same numbers every time. A claim
that one policy is better than another is made only where the interval of the difference leaves out 0 and the p-value
that counts all of the comparisons agrees; all else is called noise. What each number means: docs/evidence.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from offchain.backtest import overfitting
from offchain.backtest.bootstrap import (
    CLAIMED,
    Interval,
    adjusted_p,
    as_compared,
    block_length,
    bootstrap,
    chance_of_trials,
    interval,
)
from offchain.backtest.errors import BacktestError
from offchain.backtest.measures import CORE, Track, core
from offchain.backtest.model import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Deflated", "Difference", "Evidence", "Trials", "assess"]

LEAST_ROWS = 60  # of returns: below this nothing is shown
PBO_LOW, PBO_COIN = 0.05, 0.4  # the choice holds up below the one, is near chance above the other
LONGEST_LIST = 1_000  # in `as_dict`


@dataclass(frozen=True)
class Difference:
    """Chosen less another, of one measure, from paired bootstrap samples."""

    interval: Interval
    p: float | None  # adjusted for every comparison made; None: not one of `CLAIMED`

    @property
    def noise(self) -> bool:
        """Not shown to differ from 0."""
        return self.interval.covers_zero or (self.p is not None and self.p >= 1 - self.interval.level)


@dataclass(frozen=True)
class Deflated:
    """A Sharpe ratio after what was tried is taken into account; a year."""

    sharpe: float
    luck: float  # what the best of the trials would show without any skill
    probability: float  # DSR
    effective: int  # number of trials, those that move alike counted once
    luck_effective: float  # the two with that number
    probability_effective: float


@dataclass(frozen=True, eq=False)
class Trials:
    """What choosing among trials did. Sharpe ratios a year."""

    made: int
    given: int
    own: Deflated  # of the chosen's returns above the risk-free rate
    active: Deflated | None  # of its returns above the benchmark's
    backtest_overfitting: overfitting.BacktestOverfitting | None  # its Sharpe ratios are of a row
    cross_validation: Floats | None  # (P,) Sharpe ratio of each path
    cross_average: float | None  # of the mean of all trials
    walk_forward: overfitting.WalkForward | None
    walk_names: list[str]  # chosen in each span
    walk_cagr: float | None  # out of sample
    walk_difference: Interval | None  # of its CAGR, less that of the mean of all trials


@dataclass(frozen=True, eq=False)
class Evidence:
    """`sentences` say what the numbers show; the numbers are below them."""

    sentences: list[str]
    chosen: str
    benchmark: str | None  # the first of the others
    years: float
    rows_per_year: float
    risk_free: float
    level: float
    samples: int
    block: float  # rows, mean length
    seed: int
    intervals: dict[str, Interval]  # by measure, of the chosen
    differences: dict[str, dict[str, Difference]]  # by other and measure
    probabilistic_sharpe: float  # that the Sharpe ratio is above 0
    probabilistic_sharpe_active: float | None  # that its returns above the benchmark have one above 0
    min_track_years: float  # of the first, at `level`
    trials: Trials | None
    neighbours: overfitting.Neighbours | None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, words, lists and dicts, for JSON. None: not defined, endless, or over `LONGEST_LIST` long."""
        found: dict[str, Any] = _plain(self)
        return found


def assess(
    chosen: Any,
    others: Mapping[str, Any] | None = None,
    *,
    trials: Any = None,
    trials_made: int | None = None,
    table: pd.DataFrame | None = None,
    parameters: Sequence[str] | None = None,
    row: int | None = None,
    measure: str = "sharpe",
    name: str = "",
    dates: Any = None,
    rows_per_year: float | None = None,
    risk_free: float = 0.0,
    level: float = 0.95,
    samples: int = 1_000,
    block: float | None = None,
    seed: int = 0,
    train_years: float = 3.0,
    test_years: float = 1.0,
    purged: int = 5,
) -> Evidence:
    """Evidence for a chosen policy.

    `chosen`, `others` by name: Results, Tracks or returns with `dates` (`Track.of`) on the same dates; the first of the
    others is the benchmark. `trials`: all that the chosen was chosen from, Results or returns by name, or (T − 1, N)
    returns (`overfitting.trial_returns`); `trials_made`: how many there were if more. `table`: a sweep, in which the
    neighbours of `row` (None: the best) by `measure` are looked at. `risk_free`: a year.
    """
    track = Track.of(chosen, dates, name)
    rest = [Track.of(one, dates, other) for other, one in (others or {}).items()]
    label = name or track.name or "the policy"
    if len(track.returns) < LEAST_ROWS:
        raise BacktestError(
            f"evidence: needs at least {LEAST_ROWS} rows of returns, there are {len(track.returns)}"
        )
    per_year = track.rows_per_year if rows_per_year is None else rows_per_year
    stacked = np.stack([one.returns for one in _same_dates(track, rest)], axis=1)
    length = block_length(stacked) if block is None else block
    terms = Terms(per_year, risk_free, level, samples, length, seed)
    names, returns = (
        ([], np.empty((len(track.returns), 0))) if trials is None else _trials(trials, track, dates)
    )
    intervals, differences = _intervals(track, rest, returns, terms)
    free = (1 + risk_free) ** (1 / per_year) - 1
    excess = track.returns - free
    active = track.returns - rest[0].returns if rest else None
    tried = None
    if trials is not None:
        tried = _of_trials(track, excess, active, names, returns, free, rest, trials_made, terms)
        tried = _chosen_again(tried, names, returns, free, track, terms, (train_years, test_years, purged))
    sharpe = float(intervals["sharpe"].value) / per_year**0.5
    evidence = Evidence(
        sentences=[],
        chosen=label,
        benchmark=rest[0].name if rest else None,
        years=track.years,
        rows_per_year=per_year,
        risk_free=risk_free,
        level=level,
        samples=samples,
        block=length,
        seed=seed,
        intervals=intervals,
        differences=differences,
        probabilistic_sharpe=overfitting.probabilistic_sharpe(excess),
        probabilistic_sharpe_active=None if active is None else overfitting.probabilistic_sharpe(active),
        min_track_years=overfitting.min_track_rows(
            sharpe, overfitting.sharpe_variance_of(excess), level=level
        )
        / per_year,
        trials=tried,
        neighbours=None if table is None else overfitting.neighbours(table, measure, parameters, row),
    )
    evidence.sentences.extend(_sentences(evidence))
    return evidence


@dataclass(frozen=True)
class Terms:
    """What all numbers of an assessment share."""

    rows_per_year: float
    risk_free: float
    level: float
    samples: int
    block: float
    seed: int

    def draw(self, tracks: list[Track]) -> dict[str, Floats]:
        """(samples, K) by measure."""
        return bootstrap(
            tracks,
            self.rows_per_year,
            self.risk_free,
            samples=self.samples,
            block=self.block,
            seed=self.seed,
        )

    def chance(self, trials: Floats, rest: list[Track], years: float) -> Floats:
        """(samples,) largest |t| by chance of the trials' differences to the others."""
        others = np.stack([one.returns for one in rest], axis=1)
        return chance_of_trials(
            trials,
            others,
            years,
            self.rows_per_year,
            self.risk_free,
            samples=self.samples,
            block=self.block,
            seed=self.seed,
        )

    def measure(self, track: Track) -> dict[str, float]:
        """`CORE` of a track."""
        found: dict[str, float] = core(
            track.returns, track.years, self.rows_per_year, self.risk_free, float(track.wealth[0])
        )
        return found


def _same_dates(track: Track, rest: list[Track]) -> list[Track]:
    for other in rest:
        if not np.array_equal(other.dates, track.dates):
            raise BacktestError(f"{other.name}: its dates are not those of {track.name or 'the policy'}")
    return [track, *rest]


# ---------------------------------------------------------------- intervals


def _intervals(
    track: Track, rest: list[Track], trials: Floats, terms: Terms
) -> tuple[dict[str, Interval], dict[str, dict[str, Difference]]]:
    """Of the chosen's measures, and of their differences to each other policy's, the trials' (T − 1, N) counted."""
    drawn = terms.draw([track, *rest])
    values = [terms.measure(one) for one in (track, *rest)]
    own = {name: interval(values[0][name], drawn[name][:, 0], terms.level) for name in CORE}
    if not rest:
        return own, {}
    gaps = {name: np.array([values[0][name] - other[name] for other in values[1:]]) for name in CORE}
    spread = {name: drawn[name][:, :1] - drawn[name][:, 1:] for name in CORE}
    at = {name: as_compared(name, [one[name] for one in values]) for name in CLAIMED}
    around = {name: as_compared(name, drawn[name]) for name in CLAIMED}
    besides = terms.chance(trials, rest, track.years) if trials.size else None
    p = adjusted_p(
        np.concatenate([at[name][0] - at[name][1:] for name in CLAIMED]),
        np.concatenate([around[name][:, :1] - around[name][:, 1:] for name in CLAIMED], axis=1),
        besides,
    )
    p_of = dict(zip(CLAIMED, p.reshape(len(CLAIMED), len(rest)).tolist(), strict=True))
    return own, {
        other.name: {
            name: Difference(
                interval(gaps[name][k], spread[name][:, k], terms.level),
                p_of[name][k] if name in CLAIMED else None,
            )
            for name in CORE
        }
        for k, other in enumerate(rest)
    }


# ---------------------------------------------------------------- trials


def _trials(given: Any, track: Track, dates: Any) -> tuple[list[str], Floats]:
    """Names and (T − 1, N) returns on the chosen's dates."""
    if isinstance(given, Mapping):
        tracks = [Track.of(one, dates, name) for name, one in given.items()]
        _same_dates(track, tracks)
        if len(tracks) < 2:
            raise BacktestError("trials: needs 2 or more")
        return list(given), np.stack([one.returns for one in tracks], axis=1)
    returns = np.asarray(given, dtype=np.float64)
    if returns.ndim != 2 or len(returns) != len(track.returns) or returns.shape[1] < 2:
        raise BacktestError(
            f"trials: has shape {returns.shape}, needs {len(track.returns)} rows of returns and 2 or more columns"
        )
    return [f"trial {i}" for i in range(returns.shape[1])], returns


def _of_trials(
    track: Track,
    excess: Floats,
    active: Floats | None,
    names: list[str],
    returns: Floats,
    free: float,
    rest: list[Track],
    made: int | None,
    terms: Terms,
) -> Trials:
    """How many there were and the deflated Sharpe ratios."""
    count = len(names) if made is None else made
    if count < len(names):
        raise BacktestError(f"trials_made: {made} is below the {len(names)} trials that are given")
    own = _deflated(excess, returns - free, count, terms)
    above = None
    if active is not None and np.ptp(active) > 0:
        above = _deflated(active, returns - rest[0].returns[:, None], count, terms)
    return Trials(
        made=count,
        given=len(names),
        own=own,
        active=above,
        backtest_overfitting=None,
        cross_validation=None,
        cross_average=None,
        walk_forward=None,
        walk_names=[],
        walk_cagr=None,
        walk_difference=None,
    )


def _deflated(chosen: Floats, trials: Floats, count: int, terms: Terms) -> Deflated:
    year, effective = terms.rows_per_year**0.5, overfitting.effective_trials(trials)
    probability, luck = overfitting.deflated_sharpe(chosen, trials, count)
    fewer, less = overfitting.deflated_sharpe(chosen, trials, effective)
    return Deflated(
        overfitting.sharpe_of(chosen) * year, luck * year, probability, effective, less * year, fewer
    )


def _chosen_again(
    tried: Trials,
    names: list[str],
    returns: Floats,
    free: float,
    track: Track,
    terms: Terms,
    spans: tuple[float, float, int],
) -> Trials:
    """What choosing by Sharpe ratio is worth on rows not chosen on; left out where the rows are too few."""
    from dataclasses import replace

    excess, per_year = returns - free, terms.rows_per_year
    purged = spans[2]
    if len(returns) >= 64:
        tried = replace(tried, backtest_overfitting=overfitting.probability_of_overfitting(excess))
    if len(returns) >= 10 * (purged + len(returns) // 100 + 3):
        found = overfitting.cross_validation(excess, purged=purged)
        year = per_year**0.5
        tried = replace(
            tried, cross_validation=found.sharpes * year, cross_average=float(found.average * year)
        )
    train, test = (max(round(span * per_year), 10) for span in spans[:2])
    if len(returns) >= train + purged + 2 * test:
        walked = overfitting.walk_forward(excess, train, test, purged=purged)
        stretch = track.dates[[walked.rows[0], *(walked.rows + 1)]]
        of_choice = Track.of(walked.returns + free, stretch, "walk-forward")
        of_all = Track.of(walked.average + free, stretch, "the mean of all trials")
        drawn = terms.draw([of_choice, of_all])["cagr"]
        gap = terms.measure(of_choice)["cagr"] - terms.measure(of_all)["cagr"]
        tried = replace(
            tried,
            walk_forward=walked,
            walk_names=[names[i] for i in walked.chosen],
            walk_cagr=terms.measure(of_choice)["cagr"],
            walk_difference=interval(gap, drawn[:, 0] - drawn[:, 1], terms.level),
        )
    return tried


# ---------------------------------------------------------------- in words


def _sentences(evidence: Evidence) -> list[str]:
    """What is shown first, what is not shown after it; nothing is claimed where the interval covers 0."""
    found = [_of_chosen(evidence)]
    for other, differences in evidence.differences.items():
        found += _of_difference(evidence, other, differences)
        found.append(_of_risk(evidence, other, differences))
    found.append(_of_sharpe(evidence))
    if evidence.trials is not None:
        found += _of_choosing(evidence, evidence.trials)
    if evidence.neighbours is not None:
        found.append(_of_neighbours(evidence.neighbours))
    return [sentence[0].upper() + sentence[1:] for sentence in found]


def _of_chosen(evidence: Evidence) -> str:
    cagr, (value, low, high) = evidence.intervals["cagr"], _numbers("cagr", evidence.intervals["cagr"])
    about = (
        f"Over {evidence.years:.1f} years {evidence.chosen} earned {value} %/year; "
        f"its {_level(cagr)} interval is {low} to {high}"
    )
    if cagr.covers_zero:
        about += ", so that it earns anything at all is not shown"
    return (
        f"{about} ({evidence.samples:,} block-bootstrap samples, mean block {evidence.block:.0f} rows, "
        f"{evidence.rows_per_year:g} rows a year)."
    )


WORDS = {  # measure: name, unit after the numbers, more of it, less of it
    "cagr": ("CAGR", " %/year", "earned more", "earned less"),
    "sharpe": ("Sharpe ratio", "", "earned more for its risk", "earned less for its risk"),
}


def _of_difference(evidence: Evidence, other: str, differences: dict[str, Difference]) -> list[str]:
    """One sentence on the CAGR always; on the others if they are beyond noise."""
    found = []
    count = len(CLAIMED) * len(evidence.differences) * (1 + (evidence.trials.given if evidence.trials else 0))
    for name in CLAIMED:
        word, unit, more, less = WORDS[name]
        difference = differences[name]
        gap, (value, low, high) = difference.interval, _numbers(name, difference.interval, signed=True)
        of = "" if name == "cagr" else f" in {word}"
        if np.isnan(gap.low):
            continue
        if not difference.noise:
            found.append(
                f"{evidence.chosen} {more if gap.value > 0 else less} than {other}: "
                f"a difference{of} of {value}{unit}, {_level(gap)} interval {low} to {high}, "
                f"p = {_p(difference.p)} with all {count:,} comparisons counted."
            )
        elif gap.low == gap.value == gap.high == 0 and name == "cagr":
            found.append(f"There is no difference to {other}: both earned the same in every sample.")
        elif gap.covers_zero and name == "cagr":
            found.append(
                f"The difference of {value}{unit} to {other} is noise: its {_level(gap)} interval is {low} to {high}."
            )
        elif not gap.covers_zero:
            found.append(
                f"The difference{of} of {value}{unit} to {other} is not enough: its {_level(gap)} interval is "
                f"{low} to {high}, but with all {count:,} comparisons counted p = {_p(difference.p)}; take it as noise."
            )
    return found


def _of_risk(evidence: Evidence, other: str, differences: dict[str, Difference]) -> str:
    """What happened, without a claim: intervals of risk are too short where calm and wild times last."""
    (own, theirs), (fall, their_fall) = (
        (_percent(value), _percent(value - differences[name].interval.value))
        for name, value in ((name, evidence.intervals[name].value) for name in ("volatility", "max_drawdown"))
    )
    return (
        f"In this history the volatility was {own} %/year against {theirs} % for {other}, "
        f"and the deepest fall {fall} % against {their_fall} %."
    )


def _of_sharpe(evidence: Evidence) -> str:
    sharpe = evidence.intervals["sharpe"].value
    if np.isnan(evidence.probabilistic_sharpe):
        return "There is no Sharpe ratio: the returns never vary."
    shown = evidence.probabilistic_sharpe >= evidence.level
    return (
        f"Its Sharpe ratio of {_minus(f'{sharpe:.2f}')} is {'' if shown else 'not '}shown to be above 0: confidence "
        f"{_confidence(evidence.probabilistic_sharpe)} (probabilistic Sharpe ratio), "
        + (
            f"and {evidence.min_track_years:.1f} of its {evidence.years:.1f} years would have been enough."
            if shown
            else f"and it would take {evidence.min_track_years:.1f} years of such returns."
            if np.isfinite(evidence.min_track_years)
            else "and no number of years of such returns would show it."
        )
    )


def _of_choosing(evidence: Evidence, tried: Trials) -> list[str]:
    found = [_of_luck(evidence, tried, tried.own, "Sharpe ratio")]
    if tried.active is not None:
        found.append(
            _of_luck(evidence, tried, tried.active, f"Sharpe ratio of its returns above {evidence.benchmark}")
        )
    if tried.backtest_overfitting is not None:
        found.append(_of_overfitting(tried.backtest_overfitting))
    if tried.cross_validation is not None and tried.cross_average is not None:
        found.append(_of_paths(tried.cross_validation, tried.cross_average))
    if tried.walk_forward is not None and tried.walk_difference is not None and tried.walk_cagr is not None:
        gap, (value, low, high) = (
            tried.walk_difference,
            _numbers("cagr", tried.walk_difference, signed=True),
        )
        verdict = (
            "choosing shows no gain"
            if gap.covers_zero
            else f"choosing {'helped' if gap.value > 0 else 'hurt'}"
        )
        found.append(
            "Walk-forward, the best of one span held for the span after it, earned "
            f"{_percent(tried.walk_cagr)} %/year out of sample; against the mean of all trials that is "
            f"{value} %/year, {_level(gap)} interval {low} to {high}: {verdict}."
        )
    return found


def _of_luck(evidence: Evidence, tried: Trials, deflated: Deflated, what: str) -> str:
    if np.isnan(deflated.probability):
        return f"There is no {what}: those returns never vary."
    shown = deflated.probability >= evidence.level
    return (
        f"The best of {tried.made:,} trials without skill would show a {what} of {deflated.luck:.2f} by luck; "
        f"{evidence.chosen} has {_minus(f'{deflated.sharpe:.2f}')}: "
        f"{'more than luck' if shown else 'not shown to be more than luck'} "
        f"(deflated Sharpe ratio {_confidence(deflated.probability)}; counted as {deflated.effective:,} different "
        f"{'trial' if deflated.effective == 1 else 'trials'}, {_confidence(deflated.probability_effective)})."
    )


def _of_overfitting(found: overfitting.BacktestOverfitting) -> str:
    if found.probability <= PBO_LOW:
        verdict = "the choice holds up"
    elif found.probability < PBO_COIN:
        verdict = "the choice holds up in part"
    else:
        verdict = "choosing among these trials is no better than chance"
    return (
        f"The trial that was best in one half of the history was in the worse half of the trials in the other half "
        f"in {100 * found.probability:.0f} % of {len(found.logits):,} splits (probability of backtest overfitting): "
        f"{verdict}."
    )


def _of_paths(sharpes: Floats, average: float) -> str:
    low, mid, high = (_minus(f"{x:.2f}") for x in (sharpes.min(), np.median(sharpes), sharpes.max()))
    better = float((sharpes > average).mean())
    return (
        f"Chosen anew in {len(sharpes)} cross-validated histories, the out-of-sample Sharpe ratio is {low} to {high}, "
        f"median {mid}; the mean of all trials has {_minus(f'{average:.2f}')}, below {100 * better:.0f} % of them. "
        "They share the same rows: a spread, not a test."
    )


def _of_neighbours(found: overfitting.Neighbours) -> str:
    where = ", ".join(
        f"{name} {value:g}" if isinstance(value, float | np.floating) else f"{name} {value}"
        for name, value in found.parameters.items()
    )
    own, mean, worst, typical = (
        _minus(f"{x:.3g}") for x in (found.value, found.mean, found.worst, found.typical)
    )
    if found.neighbours == 0:
        return f"The setting {where} has no neighbours in the sweep: whether it is a spike is not known."
    numbers = (
        f"{found.measure} {own} at {where}, {mean} on average and {worst} at worst one step beside it, "
        f"{typical} in the median"
    )
    if found.shape == "ordinary":
        return f"The setting is no better than the typical one: {numbers}."
    if found.shape == "plateau":
        return f"The result stands on a plateau, not on one lucky setting: {numbers}."
    return (
        "The setting stands on a spike, most of what it has over the median setting is gone one step beside: "
        f"{numbers}; distrust that part."
    )


def _level(interval_: Interval) -> str:
    return f"{100 * interval_.level:g} %"


def _confidence(probability: float) -> str:
    return "over 99.9 %" if probability > 0.999 else f"{100 * probability:.1f} %"


def _p(p: float | None) -> str:
    return "?" if p is None else f"{p:.3f}" if p >= 0.001 else "0.001 or less"


def _minus(text: str) -> str:
    """A true minus sign, and none before a number that rounds to 0."""
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else "−" + text[1:]
    return text


def _percent(value: float) -> str:
    return _minus(f"{100 * value:.1f}")


def _numbers(name: str, found: Interval, signed: bool = False) -> tuple[str, str, str]:
    """Value, low and high with as few digits (1 to 4) as show each as what it is, 0 or not; in % but for ratios."""
    values = [x * (1 if name == "sharpe" else 100) for x in (found.value, found.low, found.high)]
    digits = 2 if name == "sharpe" or abs(values[0]) < 1 else 1
    while digits < 4 and any(x != 0 and round(x, digits) == 0 for x in values):
        digits += 1
    a, b, c = (("+" if signed and round(x, digits) > 0 else "") + _minus(f"{x:.{digits}f}") for x in values)
    return a, b, c


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        found = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, Difference):
            found["noise"] = value.noise
        if isinstance(value, overfitting.Neighbours):
            found["shape"] = value.shape
        return found
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist()) if value.size <= LONGEST_LIST else None
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
