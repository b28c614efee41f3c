"""What a policy would have done in bad times: those of the history, and shocks put into it.

A crisis is a part of the plain run, beside the same holdings left alone. A shock changes market or costs and runs the
whole history again, beside the plain run. Times and sizes are stated in each row's sentence. Targets that a strategy
decided on the true history stay as they are, unless `retarget` decides them again on the shocked one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from offchain.backtest.engine import run
from offchain.backtest.errors import BacktestError
from offchain.backtest.measures import Track, drawdowns
from offchain.backtest.model import Costs, Floats, Market, Policy
from offchain.backtest.result import Result
from offchain.policy import Mode

__all__ = [
    "CRISES",
    "Outcome",
    "Shock",
    "StressResult",
    "as_decided",
    "correlated",
    "crises",
    "delayed",
    "depegged",
    "frozen",
    "stress",
]

CRISES = (  # from a peak of the S&P 500 to its low
    ("Gulf war", "1990-07-16", "1990-10-11"),
    ("Russia and LTCM", "1998-07-17", "1998-10-08"),
    ("dot-com", "2000-03-24", "2002-10-09"),
    ("financial crisis", "2007-10-09", "2009-03-09"),
    ("euro debt", "2011-04-29", "2011-10-03"),
    ("end of 2018", "2018-09-20", "2018-12-24"),
    ("covid", "2020-02-19", "2020-03-23"),
    ("inflation of 2022", "2022-01-03", "2022-10-12"),
)
OWN_CRISES = 3  # the deepest falls of equal weights that are in none of the above
LEAST_FALL = 0.1  # of an own crisis
LEAST_ROWS = 5  # of a crisis
DEPEG_DAYS = 30  # until a depeg that comes back is over
SAME = 5e-6  # changes below this are none


@dataclass(frozen=True)
class Outcome:
    """Over the rows that a stress looks at."""

    value: float  # at their end, money
    total_return: float  # of a share, fraction
    max_drawdown: float  # fraction
    cost: float  # of rebalances, money
    rebalances: int


@dataclass(frozen=True)
class StressResult:
    """One row of the stress table; `stressed` is None if the policy could not have gone on, which the sentence says."""

    name: str
    kind: str  # crisis, correlation, liquidity, oracle, fees, depeg
    start: str  # dates
    end: str
    against: str  # what `base` is
    base: Outcome
    stressed: Outcome | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, words and dicts, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Shock:
    """How hard; rows are of the market."""

    correlation: float = 0.95  # of each asset with the common factor, squared: of two assets with each other
    liquidity: float = 10.0  # volumes and pools shrink by
    impact: float = 2.0  # and the coefficient of impact grows by
    stale_rows: Sequence[int] = (1, 5)  # decisions see prices this many rows old
    frozen_rows: int = 5  # the oracle stands still, where equal weights fell most over as many
    gas: float = 20.0  # costs of a rebalance and a leg grow by
    proportional: float = 5.0  # and proportional costs by
    depeg: float = 0.5  # the asset loses this part
    depeg_asset: str | None = None  # None: that of the largest target
    depeg_row: int | None = None  # None: in the middle


def stress(
    data: Any,
    policy: Policy,
    costs: Costs | None = None,
    *,
    cash: float = 1_000_000.0,
    holdings: Any = None,
    shock: Shock | None = None,
    window: tuple[int, int] | None = None,
    retarget: Callable[[Market], ArrayLike] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[StressResult]:
    """Every stress that the data allow, the plain run first run anew.

    `window`: rows (first, last) of the correlation shock; None: the deepest fall of equal weights.
    `retarget` gives targets for a shocked market (a strategy's walk). `progress` is called with 1 after each row.
    """
    market, bill, size = Market.of(data), costs or Costs(), shock or Shock()
    _check(size, market)
    base = run(market, policy, bill, cash=cash, holdings=holdings)
    start, end = _window(market) if window is None else _given(window, market)
    job = _Job(base, bill, cash, holdings, retarget)
    makers: list[Callable[[], StressResult]] = [
        *(partial(job.crisis, *crisis) for crisis in crises(market)),
        partial(_correlation, job, size, start, end),
        partial(_liquidity, job, size),
        *(partial(_stale, job, rows) for rows in size.stale_rows),
        partial(_frozen, job, size),
        partial(_fees, job, size),
        *(partial(_depeg, job, size, back) for back in (False, True)),
    ]
    found = []
    for make in makers:
        found.append(make())
        if progress is not None:
            progress(1)
    return found


def _check(size: Shock, market: Market) -> None:
    if not 0 <= size.correlation <= 1:
        raise BacktestError(f"correlation: {size.correlation} is not between 0 and 1")
    for name in ("liquidity", "impact", "gas", "proportional"):
        if not 1 <= getattr(size, name) < np.inf:
            raise BacktestError(f"{name}: {getattr(size, name)} is not a factor of at least 1")
    if not 0 < size.depeg < 1:
        raise BacktestError(f"depeg: {size.depeg} is not a part between 0 and 1")
    if size.depeg_asset is not None and size.depeg_asset not in market.names:
        raise BacktestError(
            f"depeg_asset: no asset {size.depeg_asset!r}; there are {', '.join(market.names)}"
        )
    rows = len(market.times)
    if size.depeg_row is not None and not 0 < size.depeg_row < rows:
        raise BacktestError(f"depeg_row: {size.depeg_row} is not between 1 and {rows - 1}")
    for name, count in (
        *(("stale_rows", delay) for delay in size.stale_rows),
        ("frozen_rows", size.frozen_rows),
    ):
        if not 0 < count < rows:
            raise BacktestError(f"{name}: {count} is not between 1 and {rows - 1}")


def _given(window: tuple[int, int], market: Market) -> tuple[int, int]:
    first, last = window
    if not 0 <= first < last - 2 < len(market.times) - 2:
        raise BacktestError(f"window: {window} is not two rows, 3 apart, from 0 to {len(market.times) - 1}")
    return first, last


# ---------------------------------------------------------------- crises of the history


def crises(market: Market) -> list[tuple[str, int, int]]:
    """Name, first and last row: the dated ones that lie wholly in the data, then the data's own."""
    found = []
    for name, first, last in CRISES:
        day = market.dates.astype("datetime64[D]")
        if np.datetime64(first) < day[0] or np.datetime64(last) > day[-1]:
            continue
        start = int(np.searchsorted(day, np.datetime64(first)))
        end = int(np.searchsorted(day, np.datetime64(last), side="right")) - 1
        if end - start >= LEAST_ROWS:
            found.append((name, start, end))
    own = 0
    for fall in drawdowns(_equal(market), len(market.times)):
        start, end, _ = fall.rows
        if own == OWN_CRISES or fall.depth < LEAST_FALL:
            break
        if end - start >= LEAST_ROWS and not any(start <= last and first <= end for _, first, last in found):
            month = str(fall.peak.astype("datetime64[M]"))
            found.append((f"own fall from {month}", start, end))
            own += 1
    return found


def _equal(market: Market) -> Track:
    """Equal weights, rebalanced at every row for nothing."""
    moves = (market.prices[1:] / market.prices[:-1]).mean(axis=1)
    return Track("equal weights", market.dates, np.concatenate(([1.0], np.cumprod(moves))))


def _window(market: Market) -> tuple[int, int]:
    """Rows of the deepest fall of equal weights; the whole history if they never fell for 3 rows."""
    for fall in drawdowns(_equal(market), 1):
        if fall.rows[1] - fall.rows[0] > 2:
            return fall.rows[0], fall.rows[1]
    return 0, len(market.times) - 1


# ---------------------------------------------------------------- markets with a shock


def correlated(market: Market, correlation: float, start: int, end: int) -> Market:
    """Returns from row `start` to `end` with one common factor.

    Log returns become mean + volatility · (√ρ f + √(1 − ρ) e): f the mean of the standardised returns, e what is left
    of each without f, both standardised, so two assets correlate by ρ where their e do not. Each asset keeps its mean
    and volatility, so its price at both ends.
    """
    logs = np.diff(np.log(market.prices[start : end + 1]), axis=0)
    mean, spread = logs.mean(axis=0), logs.std(axis=0)
    moves = spread > 1e-12
    z = np.where(moves, (logs - mean) / np.where(moves, spread, 1.0), 0.0)
    factor = z[:, moves].mean(axis=1) if moves.any() else z[:, 0]
    factor = factor / (factor.std() or 1.0)
    left = z - factor[:, None] * (z * factor[:, None]).mean(axis=0)
    left = left / np.where(left.std(axis=0) > 1e-9, left.std(axis=0), 1.0)
    mixed = np.sqrt(correlation) * factor[:, None] + np.sqrt(1 - correlation) * left
    mixed = mixed / np.where(mixed.std(axis=0) > 1e-9, mixed.std(axis=0), 1.0)
    prices = market.prices.copy()
    path = np.where(moves, mean + spread * mixed, logs).cumsum(axis=0)
    prices[start + 1 : end] = prices[start] * np.exp(path[:-1])
    return _with(market, prices)


def delayed(prices: Floats, rows: int) -> Floats:
    """What an oracle shows that is `rows` rows behind; the first price until then."""
    return np.concatenate((np.repeat(prices[:1], rows, axis=0), prices[:-rows]))


def frozen(prices: Floats, start: int, end: int) -> Floats:
    """What an oracle shows that stands still from row `start` to row `end`."""
    seen = prices.copy()
    seen[start : end + 1] = prices[start]
    return seen


def depegged(market: Market, asset: int, part: float, start: int, end: int | None = None) -> Market:
    """An asset loses `part` of its price at row `start`, and gets it back at row `end` if there is one."""
    prices = market.prices.copy()
    prices[start:end, asset] *= 1 - part
    return _with(market, prices)


def _with(market: Market, prices: Floats) -> Market:
    return Market(
        market.dates, prices, market.names, market.dividends, market.flows_in_kind, market.flows_by_route
    )


# ---------------------------------------------------------------- runs


@dataclass(frozen=True, eq=False)
class _Job:
    base: Result
    costs: Costs
    cash: float
    holdings: Any
    retarget: Callable[[Market], ArrayLike] | None

    @property
    def whole(self) -> Outcome:
        return _outcome(self.base, 0, len(self.base.value) - 1)

    def crisis(self, name: str, start: int, end: int) -> StressResult:
        """A part of the plain run beside its holdings at the start, left alone."""
        own = _outcome(self.base, start, end)
        alone = _alone(self.base, start, end)
        gap = own.total_return - alone.total_return
        points = f"{_percent(abs(gap))[:-2]} points {'more' if gap > 0 else 'less'} than"
        verdict = "the same as" if abs(gap) < SAME else points
        sentence = (
            f"{_upper(name)} ({self.day(start)} to {self.day(end)}): {_percent(own.total_return, sign=True)}, "
            f"{verdict} the holdings of its first day left alone; "
            f"deepest fall {_percent(own.max_drawdown)} against {_percent(alone.max_drawdown)}, "
            f"{_count(own.rebalances)} for {own.cost:,.0f}."
        )
        against = "the holdings of the first day, left alone"
        return StressResult(name, "crisis", self.day(start), self.day(end), against, alone, own, sentence)

    def shocked(
        self,
        name: str,
        kind: str,
        what: str,
        rows: tuple[int, int],
        market: Market | None = None,
        costs: Costs | None = None,
        policy: Policy | None = None,
    ) -> StressResult:
        """The whole history again, with what is given in place of the plain run's."""
        used = policy or self.base.policy
        if market is not None and self.retarget is not None:
            used = replace(used, targets=self.retarget(market))
        stressed, found = None, ""
        try:
            result = run(
                market or self.base.market, used, costs or self.costs, cash=self.cash, holdings=self.holdings
            )
            stressed = _outcome(result, 0, len(result.value) - 1)
            found = _change(self.whole, stressed)
        except BacktestError as error:
            found = f"the policy could not have gone on ({error})"
        return StressResult(
            name=name,
            kind=kind,
            start=self.day(rows[0]),
            end=self.day(rows[1]),
            against="the run without the shock",
            base=self.whole,
            stressed=stressed,
            sentence=f"{what}: {found}.",
        )

    def day(self, row: int) -> str:
        return str(np.datetime_as_string(self.base.market.dates[row], "D"))


def _outcome(result: Result, start: int, end: int) -> Outcome:
    """From the close of row `start` to that of row `end`; from before the first purchase if that is the first row."""
    index = result.index[start : end + 1]
    if start == 0:
        index = np.concatenate(([1.0], index))
    traded = (result.trade_rows > start) | (start == 0)
    traded &= result.trade_rows <= end
    return Outcome(
        value=float(result.value[end]),
        total_return=float(index[-1] / index[0] - 1),
        max_drawdown=float((1 - index / np.maximum.accumulate(index)).max()),
        cost=float(result.trade_costs[traded].sum()),
        rebalances=int(traded.sum()),
    )


def _alone(base: Result, start: int, end: int) -> Outcome:
    """What was held at row `start`, never traded until row `end`; dividends stay cash."""
    market, rows = base.market, slice(start, end + 1)
    weights = base.weights[start]
    part = Market(
        market.dates[rows],
        market.prices[rows],
        market.names,
        None if market.dividends is None else market.dividends[rows],
    )
    never = Policy(
        weights / weights.sum(), Mode.CALENDAR, calendar_rows=np.zeros(end + 1 - start, dtype=np.bool_)
    )
    held = base.value[start] * weights / market.prices[start]
    return _outcome(run(part, never, cash=float(base.cash[start]), holdings=held), 0, end - start)


def _change(base: Outcome, stressed: Outcome) -> str:
    if stressed == base:
        return "nothing changes"
    ratio = (1 + stressed.total_return) / (1 + base.total_return) - 1
    value = (
        "the final value stays the same"
        if abs(ratio) < SAME
        else f"the final value is {_percent(abs(ratio))} {'higher' if ratio > 0 else 'lower'}"
    )
    return (
        f"{value}, the deepest fall {_percent(stressed.max_drawdown)} instead of {_percent(base.max_drawdown)}, "
        f"the cost {stressed.cost:,.0f} instead of {base.cost:,.0f}, "
        f"{_count(stressed.rebalances)} instead of {base.rebalances}"
    )


# ---------------------------------------------------------------- shocks


def _correlation(job: _Job, size: Shock, start: int, end: int) -> StressResult:
    what = (
        f"Correlations of about {size.correlation:g} from {job.day(start)} to {job.day(end)}, "
        "each asset's volatility and its price at the end as they were"
    )
    market = correlated(job.base.market, size.correlation, start, end)
    return job.shocked("correlation to one", "correlation", what, (start, end), market)


def _liquidity(job: _Job, size: Shock) -> StressResult:
    costs = job.costs
    rows = (0, len(job.base.value) - 1)
    what = f"Volumes and pools a {size.liquidity:g}th of what they were, impact × {size.impact:g}, throughout"
    if costs.impact == 0 and costs.pool_depth is None:
        base = job.whole
        sentence = (
            f"{what}: nothing changes, because the costs know no impact and no pools; give them to see it."
        )
        return StressResult(
            "liquidity drought",
            "liquidity",
            job.day(0),
            job.day(-1),
            "the run without the shock",
            base,
            base,
            sentence,
        )
    less: dict[str, Any] = {
        name: None if value is None else np.asarray(value, dtype=np.float64) / size.liquidity
        for name, value in (("daily_volume", costs.daily_volume), ("pool_depth", costs.pool_depth))
    }
    dry = replace(costs, impact=costs.impact * size.impact, **less)
    return job.shocked("liquidity drought", "liquidity", what, rows, costs=dry)


def _fees(job: _Job, size: Shock) -> StressResult:
    costs = job.costs
    dear = replace(
        costs,
        per_rebalance=costs.per_rebalance * size.gas,
        per_leg=costs.per_leg * size.gas,
        proportional_bps=np.minimum(np.asarray(costs.proportional_bps) * size.proportional, 9_999),
    )
    what = f"Gas × {size.gas:g} and proportional costs × {size.proportional:g} throughout"
    return job.shocked("fee spike", "fees", what, (0, len(job.base.value) - 1), costs=dear)


def _stale(job: _Job, rows: int) -> StressResult:
    what = f"Decisions on prices {rows} {'row' if rows == 1 else 'rows'} old, trades at true ones, throughout"
    seen = delayed(job.base.market.prices, rows)
    return _blind(
        job, f"oracle {rows} rows late" if rows > 1 else "oracle 1 row late", what, seen, (0, len(seen) - 1)
    )


def _frozen(job: _Job, size: Shock) -> StressResult:
    wealth = _equal(job.base.market).wealth
    start = int((wealth[size.frozen_rows :] / wealth[: -size.frozen_rows]).argmin())
    end = start + size.frozen_rows - 1
    what = f"An oracle that stands still from {job.day(start)} to {job.day(end)}, trades at true prices"
    return _blind(job, "oracle frozen", what, frozen(job.base.market.prices, start, end), (start, end))


def _blind(job: _Job, name: str, what: str, seen: Floats, rows: tuple[int, int]) -> StressResult:
    """Decide on prices `seen`, trade at the market's.

    The policy runs on what it sees; that gives the rows it trades at and the proportions of units it wants to hold.
    At the same rows the true market is traded to these proportions. Between trades units do not depend on prices, so
    the decisions are what they would be with the true holdings; only the value, which fixed costs are compared with
    when `gain_over_cost` is set, and cash from dividends are those of the prices seen.
    """
    policy = job.base.policy
    try:
        blind = run(_with(job.base.market, seen), policy, job.costs, cash=job.cash, holdings=job.holdings)
    except BacktestError as error:
        return StressResult(
            name,
            "oracle",
            job.day(rows[0]),
            job.day(rows[1]),
            "the run without the shock",
            job.whole,
            None,
            f"{what}: the policy could not have gone on ({error}).",
        )
    return job.shocked(name, "oracle", what, rows, policy=as_decided(blind, job.base.market))


def as_decided(seen: Result, market: Market) -> Policy:
    """A policy that at the rows of `seen` goes to the proportions of units held there, at the market's own prices."""
    count, n = market.shape
    targets = np.full((count, n), np.nan)
    worth = seen.units[1:] * market.prices[seen.trade_rows]
    targets[seen.trade_rows] = worth / worth.sum(axis=1, keepdims=True)
    if np.isnan(targets[0, 0]):
        targets[0] = seen.targets[0]  # never used: row 0 is not traded
    due = np.zeros(count, dtype=np.bool_)
    due[seen.trade_rows] = True
    at_once = (
        due[0] and seen.units[0].any()
    )  # what is held is traded in row 0, for which a calendar is never due
    return Policy(
        targets,
        Mode.EITHER if at_once else Mode.CALENDAR,
        calendar_rows=due,
        bands=np.where(np.arange(count)[:, None] == 0, 0.0, np.ones((count, n))) if at_once else None,
        fee_bps=seen.policy.fee_bps,
        name=seen.policy.name,
    )


def _depeg(job: _Job, size: Shock, back: bool) -> StressResult:
    market = job.base.market
    asset = (
        int(job.base.targets.mean(axis=0).argmax())
        if size.depeg_asset is None
        else market.names.index(size.depeg_asset)
    )
    start = len(market.times) // 2 if size.depeg_row is None else size.depeg_row
    late = np.searchsorted(market.times, market.times[start] + DEPEG_DAYS * 86_400)
    end = int(min(max(late, start + 1), len(market.times) - 1))
    what = (
        f"{market.names[asset]} loses {_percent(size.depeg)} on {job.day(start)}"
        f"{f' and gets it back on {job.day(end)}' if back else ' for good'}"
    )
    shocked = depegged(market, asset, size.depeg, start, end if back else None)
    rows = (start, end if back else len(market.times) - 1)
    return job.shocked(f"depeg, {'back' if back else 'for good'}", "depeg", what, rows, shocked)


# ---------------------------------------------------------------- words


def _percent(value: float, sign: bool = False) -> str:
    """With a true minus; two digits where one would show 0."""
    digits = 1 if abs(value) >= 0.001 else 2 if abs(value) >= 0.0001 else 3
    text = f"{100 * abs(value):.{digits}f} %"
    if value < 0 and text.strip("0. %"):
        return "−" + text
    return ("+" if sign and text.strip("0. %") else "") + text


def _count(rebalances: int) -> str:
    return f"{rebalances} rebalance{'' if rebalances == 1 else 's'}"


def _upper(name: str) -> str:
    return name[0].upper() + name[1:]
