"""`evenkeel backtest`: from the file to the report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from offchain.backtest.config import HOLD, MAIN, RHYTHM, Config, CostSettings, PolicySettings, load_config
from offchain.backtest.engine import run
from offchain.backtest.errors import BacktestError
from offchain.backtest.evidence import LEAST_ROWS, assess
from offchain.backtest.measures import Track, measures
from offchain.backtest.model import Costs, Floats, Market, Policy, RebalanceTo
from offchain.backtest.overfitting import trial_returns
from offchain.backtest.report.content import content
from offchain.backtest.report.page import page
from offchain.backtest.report.study import Played, Study, Swept
from offchain.backtest.stress import Shock, stress
from offchain.backtest.sweep import grid, sweep
from offchain.backtest.triggers import exchange_rows, schedule, volatility_bands
from offchain.chain.errors import ConfigError
from offchain.data import Loaded, load
from offchain.policy import CalendarUnit, Mode
from offchain.strategies import Constraints, Equal, Fixed, make, walk
from offchain.strategies.errors import StrategyError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Reporter", "backtest", "make_costs", "make_policy", "study", "write_report"]

ENGINES = ("fast", "integer", "evm")
SWEPT = (
    "sharpe",
    "annual_return",
    "annual_volatility",
    "max_drawdown",
    "annual_turnover",
    "cost",
)  # in the report
QUICK_SAMPLES = 200  # of the bootstrap
TRIAL_NUMBERS = 50_000_000  # returns of trials that are looked at together: 400 MB


class Reporter:
    """Says on stderr what is being done, with a bar for what takes long; silent where nobody looks."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip

    @contextmanager
    def stage(self, words: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """While a part of the work is done; yields what is told how much more is finished, and of how much."""
        with self._progress:
            task = self._progress.add_task(words, total=total)
            try:
                yield lambda more, of=total: self._progress.update(task, advance=more, total=of)
            finally:
                self._progress.remove_task(task)


def backtest(
    path: Path,
    *,
    engine: str | None = None,
    cluster: str | None = None,
    out: Path | None = None,
    quick: bool = False,
) -> tuple[dict[str, Any], Path, Path]:
    """Read a backtest file, do what it asks for, write the page and the JSON; the content and where the two are."""
    config = load_config(path)
    if engine is not None and engine not in ENGINES:
        raise ConfigError(f"--engine: {engine!r} is none of {', '.join(ENGINES)}")
    if cluster is not None and not config.sweep.axes():
        raise ConfigError("--cluster: runs the sweep, and the file has no [sweep]")
    if out is None and config.report.out is not None:
        out = path.parent / config.report.out
    config = config if config.name else config.model_copy(update={"name": path.stem})
    target = Path("reports") / f"{path.stem}.html" if out is None else out
    if target.is_dir():
        target = target / f"{path.stem}.html"
    if target.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: {target}: needs to end in .html; the JSON is written beside it")
    _writable(target)
    found = study(config, path.parent, engine=engine, cluster=cluster, quick=quick)
    return write_report(found, target)


def _writable(target: Path) -> None:
    """Before the work is done for nothing."""
    folder = next(one for one in target.absolute().parents if one.exists())
    if not folder.is_dir():
        raise ConfigError(f"--out: {target}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise ConfigError(f"--out: {target}: may not be written")


def study(
    config: Config,
    base: Path,
    *,
    engine: str | None = None,
    cluster: str | None = None,
    quick: bool = False,
    reporter: Reporter | None = None,
) -> Study:
    """Everything that the file asks for; paths in it are relative to `base`."""
    say = reporter or Reporter()
    with say.stage("prices"):
        loaded = load(config.data, base=base)
    work = Work(config, base, loaded, engine or config.engine, say)
    work.check_benchmark()
    main = work.policy(config.policy, config.strategy, MAIN)
    result = work.play(main, MAIN, work.engine)
    results = [(MAIN, work.words(config.strategy), result), work.hold(result.targets[0])]
    for number, compared in enumerate(config.compare, 1):
        strategy = config.strategy_of(compared)
        with _inside(f"compare.{number}"):
            policy = work.policy(config.policy_of(compared), strategy, compared.name)
            found = work.play(policy, compared.name, "fast" if work.engine == "fast" else "integer")
        results.append((compared.name, work.words(strategy), found))
    benchmark = work.benchmark(results)
    track = Track.of(result)
    if work.engine == "fast" and not result.trade_costs.any():
        work.notes.append("Trading was free: [costs] is not set, so every policy looks better than it is.")
    per_year = config.report.rows_per_year or track.rows_per_year
    terms: dict[str, Any] = {"rows_per_year": per_year, "risk_free": config.report.risk_free}
    swept, policies, table = work.sweep(main, cluster, terms)
    if work.engine != "fast":
        others = "" if work.engine == "integer" else ", the integer engine, which is equal to it,"
        work.notes.append(
            f"The {work.engine} engine played the backtest{others or ' and'} the compared policies. "
            "Buy and hold pays nothing. Stress and other settings are the fast engine's, with [costs]."
        )
    return Study(
        title=config.name or "Backtest",
        engine=work.engine,
        market=loaded.market,
        costs=work.costs,
        pools=work.pools,
        cash=config.cash,
        played=[
            Played(name, words, found, measures(found, benchmark=results[benchmark][2], **terms))
            for name, words, found in results
        ],
        benchmark=benchmark,
        rows_per_year=per_year,
        risk_free=config.report.risk_free,
        source={
            "source": loaded.source,
            "fingerprint_sha256": loaded.fingerprint,
            "warnings": list(loaded.warnings),
        },
        settings=config.model_dump(mode="json", exclude_unset=True),
        evidence=work.evidence(results, benchmark, policies, table, terms, quick),
        stress=work.stress(main, quick),
        swept=swept,
        notes=work.notes,
    )


def write_report(found: Study, out: Path) -> tuple[dict[str, Any], Path, Path]:
    """The page at `out` and the JSON beside it; the content and where the two are."""
    values = content(found)
    beside = out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(values), "utf-8")
    beside.write_text(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    return values, out, beside


# ---------------------------------------------------------------- the parts of a study


@dataclass
class Work:
    """A file's settings on its data; what could not be done is said in `notes`."""

    config: Config
    base: Path
    loaded: Loaded
    engine: str
    say: Reporter
    notes: list[str] = field(default_factory=list)
    costs: Costs = field(init=False)
    targets_of: dict[str, Floats] = field(default_factory=dict)  # by strategy, as JSON

    def __post_init__(self) -> None:
        self.costs = make_costs(self.config.costs, self.loaded)

    @property
    def market(self) -> Market:
        """The data's."""
        return self.loaded.market

    def policy(self, settings: PolicySettings, strategy: Mapping[str, Any], name: str) -> Policy:
        """A policy with a strategy's targets."""
        return make_policy(settings, self.market, self.targets(strategy), name)

    def targets(self, strategy: Mapping[str, Any]) -> Floats:
        """(n,) or (T, n) of a strategy; each is walked once."""
        key = json.dumps(strategy, sort_keys=True, default=str)
        if key not in self.targets_of:
            with _inside("strategy"):
                self.targets_of[key] = self._walked(dict(strategy))
        return self.targets_of[key]

    def _walked(self, settings: dict[str, Any], shocked: Market | None = None) -> Floats:
        market = shocked or self.market
        name = str(settings.pop("name", "equal"))
        rhythm = {key: settings.pop(key) for key in RHYTHM if key in settings}
        path, colon, kind = name.rpartition(":") if ".py:" in name else (name, "", "")
        if ".py" in name and not Path(path).expanduser().is_absolute():
            name = f"{self.base / path}{colon}{kind}"
        strategy = make(name, settings, Constraints.of(self.config.constraints))
        if isinstance(strategy, Fixed | Equal) and not self.config.constraints and not rhythm:
            every: Any = len(market.times)  # the same weights for ever: nothing to walk
            targets: Floats = walk(strategy, market, every=every)[0]
            return targets
        with self.say.stage(f"strategy {strategy.name}") as done:
            return walk(strategy, market, **rhythm, progress=lambda _, total: done(1, total))

    def words(self, strategy: Mapping[str, Any]) -> str:
        """Where the targets come from."""
        settings = {key: value for key, value in strategy.items() if key != "name"}
        more, limits = _listed(settings), _listed(self.config.constraints)
        found = f"Targets: {strategy.get('name', 'equal')}{f' ({more})' if more else ''}"
        found += f", constrained ({limits})." if limits else "."
        targets = self.targets(strategy)
        given = np.flatnonzero(~np.isnan(np.atleast_2d(targets)[:, 0]))
        if len(given) > 1:
            first = np.datetime_as_string(self.market.dates[given[1]], "D")
            found += f" It decides {len(given) - 1:,} times, first on {first}; until then its start is held."
        return found

    @property
    def pools(self) -> Any:
        """Of the vault's engines; None with the fast one."""
        if self.engine == "fast":
            return None
        from offchain.backtest.chain.scenario import PoolSettings

        return PoolSettings(**self._by_asset("pools", self.config.pools))

    def _by_asset(self, table: str, settings: Any) -> dict[str, Any]:
        return {
            key: _of_assets(f"{table}.{key}", value, self.market) for key, value in settings.given().items()
        }

    def play(self, policy: Policy, name: str, engine: str) -> Any:
        """One policy's result."""
        cash = self.config.cash
        if engine == "fast":
            with self.say.stage(name):
                return run(self.market, policy, self.costs, cash=cash)
        from offchain.backtest.chain.replay import replay
        from offchain.backtest.chain.scenario import VaultSettings

        vault = VaultSettings(**self._by_asset("vault", self.config.vault))
        with self.say.stage(f"{name} ({engine})", len(self.market.times)) as done:
            return replay(
                self.market, policy, engine=engine, cash=cash, pools=self.pools, vault=vault, progress=done
            )

    def hold(self, targets: Floats, name: str = HOLD, words: str = "The backtest's first targets.") -> Any:
        """Buys in the first row and never trades again; free where the vault is seeded without trading."""
        never = np.zeros(len(self.market.times), dtype=np.bool_)
        policy = Policy(targets=targets, mode=Mode.CALENDAR, calendar_rows=never, name=name)
        if self.engine == "fast":
            return name, words, run(self.market, policy, self.costs, cash=self.config.cash)
        seeded = self.config.cash * targets / self.market.prices[0]  # like the vault: nothing is bought
        return name, words, run(self.market, policy, Costs(), cash=0.0, holdings=seeded)

    def check_benchmark(self) -> None:
        """BacktestError if there is no such."""
        wanted, assets = self.config.report.benchmark, list(self.market.names)
        others = [HOLD, *(compared.name for compared in self.config.compare)]
        if wanted not in others + assets:
            known = ", ".join(others + assets[:10])
            raise BacktestError(
                f"report.benchmark: {wanted!r} is neither a compared policy nor an asset; known are {known}"
            )

    def benchmark(self, results: list[tuple[str, str, Any]]) -> int:
        """Which of the results it is; an asset is added to them."""
        wanted, assets = self.config.report.benchmark, list(self.market.names)
        names = [name for name, _, _ in results]
        if wanted in names[1:]:
            return names.index(wanted, 1)
        alone = np.zeros(len(assets))
        alone[assets.index(wanted)] = 1.0
        results.append(self.hold(alone, wanted, "One asset alone."))
        return len(results) - 1

    # -------------------------------------------------------- sweep and evidence

    def sweep(
        self, main: Policy, cluster: str | None, terms: Mapping[str, float]
    ) -> tuple[Swept | None, list[Policy], pd.DataFrame | None]:
        """The result at other settings: for the report, the policies, and the whole table."""
        settings = self.config.sweep
        varied = settings.axes()
        if not varied:
            return None, [], None
        policies = grid(varied, main, targets=lambda more: self.targets(self.config.strategy | more))
        with self.say.stage("other settings", len(policies)) as done, _inside("sweep"):
            table = sweep(
                self.market,
                policies,
                self.costs,
                cash=self.config.cash,
                workers=settings.workers,
                progress=done,
                out=None if settings.out is None else self.base / settings.out,
                cluster=cluster,
            )
        table["sharpe"] = _sharpe(table, self.market, **terms)
        axes, chosen = _axes(varied, policies, main)
        return Swept(axes, chosen, {name: table[name].to_numpy() for name in SWEPT}), policies, table

    def evidence(
        self,
        results: Sequence[tuple[str, str, Any]],
        benchmark: int,
        policies: list[Policy],
        table: pd.DataFrame | None,
        terms: Mapping[str, Any],
        quick: bool,
    ) -> dict[str, Any] | None:
        """What the result shows and what it does not; every setting that was tried counts as a trial."""
        settings = self.config.evidence
        if not settings.enabled:
            return None
        main = results[0][2]
        if len(main.value) <= LEAST_ROWS:
            self.notes.append(
                f"No evidence: it needs more than {LEAST_ROWS} rows, there are {len(main.value)}."
            )
            return None
        order = [benchmark, *(i for i in range(1, len(results)) if i != benchmark)]
        others = {results[i][0]: results[i][2] for i in order}
        played = {MAIN: main} | {name: found for name, _, found in results[2 : 2 + len(self.config.compare)]}
        again = {_row_of(found.policy, policies) for found in played.values()}  # rows of the sweep
        swept = [policy for row, policy in enumerate(policies) if row not in again]
        trials = self._trials(played, swept)
        made = max(settings.trials_made or 0, len(played) + len(swept))
        beside, row, varied = self._neighbours(main.policy, policies, table)
        samples = min(QUICK_SAMPLES, settings.samples) if quick else settings.samples
        if quick:
            self.notes.append(
                f"A quick look: {samples} bootstrap samples, so intervals are rough, and no stress test."
            )
        with self.say.stage("evidence"):
            found = assess(
                main,
                others,
                trials=trials,
                trials_made=None if trials is None else made,
                table=beside,
                parameters=varied,
                row=row,
                name=MAIN,
                dates=self.market.dates,
                level=settings.level,
                samples=samples,
                seed=settings.seed,
                train_years=settings.train_years,
                test_years=settings.test_years,
                purged=settings.purged_rows,
                **terms,
            )
        return found.as_dict()

    def _neighbours(
        self, main: Policy, policies: Sequence[Policy], table: pd.DataFrame | None
    ) -> tuple[pd.DataFrame | None, int | None, list[str]]:
        """The part of a sweep with the backtest's strategy, its own row in it, what is varied; None: not there."""
        varied = [key for key in self.config.sweep.axes() if key != "strategy"]
        if table is None or not varied:
            return None, None, []
        alike = [i for i, policy in enumerate(policies) if policy.targets is main.targets]
        row = _row_of(main, [policies[i] for i in alike])
        if row is None:
            self.notes.append(
                "The backtest's own setting is not among those of the sweep, so its neighbours were not looked at."
            )
            return None, None, []
        return table.iloc[alike].reset_index(drop=True), row, varied

    def stress(self, main: Policy, quick: bool) -> list[dict[str, Any]]:
        """Crises of the history and shocks put into it, by the fast engine."""
        settings = self.config.stress
        if not settings.enabled or quick:
            return []
        shock = Shock(
            **{key: value for key, value in settings.given().items() if key not in ("enabled", "retarget")}
        )
        strategy = dict(self.config.strategy)
        retarget = (lambda market: self._walked(dict(strategy), market)) if settings.retarget else None
        try:
            with self.say.stage("stress") as done:
                found = stress(
                    self.market,
                    main,
                    self.costs,
                    cash=self.config.cash,
                    shock=shock,
                    retarget=retarget,
                    progress=done,
                )
        except BacktestError as error:
            raise BacktestError(f"stress.{error}") from None
        return [one.as_dict() for one in found]

    def _trials(self, played: Mapping[str, Any], policies: Sequence[Policy]) -> dict[str, Floats] | None:
        """(T − 1,) returns of what was played and swept, by name; evenly spaced ones of a sweep too large to hold."""
        if len(played) + len(policies) < 2:
            return None
        most = max(2, TRIAL_NUMBERS // len(self.market.times))
        if len(policies) > most:
            self.notes.append(
                f"{most:,} of the {len(policies):,} settings of the sweep stand for all as trials."
            )
            policies = [policies[i] for i in np.linspace(0, len(policies) - 1, most).astype(int)]
        found = {name: one.index[1:] / one.index[:-1] - 1 for name, one in played.items()}
        if policies:
            with self.say.stage("trials"):
                returns = trial_returns(self.market, policies, self.costs, cash=self.config.cash)
            found |= dict(zip([policy.name for policy in policies], returns.T, strict=True))
        return found


@contextmanager
def _inside(table: str) -> Iterator[None]:
    """A mistake is said to be in that table of the file, if its message does not begin with a table already."""
    try:
        yield
    except (BacktestError, StrategyError) as error:
        own = ("strategy", "constraints") if table == "strategy" else (table,)
        known = str(error).startswith(own)
        raise type(error)(str(error) if known else f"{table}: {error}") from None


def _listed(settings: Mapping[str, Any]) -> str:
    """`rows 126; weights BTC 0.4, ETH 0.6`."""
    return "; ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return ", ".join(map(_value, value)) if isinstance(value, list) else str(value)


def _sharpe(table: pd.DataFrame, market: Market, rows_per_year: float, risk_free: float) -> Any:
    """A sweep's Sharpe ratios as `measures` defines them: above the risk-free rate, with the report's rows a year."""
    per_year = (market.shape[0] - 1) / market.years  # the engine's
    volatility = table["annual_volatility"]
    mean = table["sharpe"] * volatility / per_year
    free = (1 + risk_free) ** (1 / rows_per_year) - 1
    return (mean - free) / (volatility / per_year**0.5) * rows_per_year**0.5


def _axes(
    varied: Mapping[str, Any], policies: Sequence[Policy], main: Policy
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The values of each varied setting, slowest first, and the backtest's own."""
    names = [key for key in varied if key != "strategy"]
    axes = {key: list(dict.fromkeys(_word(getattr(p, key)) for p in policies)) for key in names}
    chosen = {key: _word(getattr(main, key)) for key in names}
    if "strategy" not in varied:
        return axes, chosen
    kinds = [policy.name.rsplit(", ", len(names))[0].replace("strategy.", "") for policy in policies]
    own = [kind for kind, policy in zip(kinds, policies, strict=True) if policy.targets is main.targets]
    return {"strategy": list(dict.fromkeys(kinds))} | axes, {"strategy": own[0] if own else None} | chosen


def _word(value: Any) -> Any:
    return getattr(value, "name", value).lower() if hasattr(value, "name") else value


def _row_of(own: Policy, policies: Sequence[Policy]) -> int | None:
    """The first of the policies that is the same but for its name, if one is."""
    names = [one.name for one in fields(Policy) if one.name not in ("name", "targets")]
    for row, policy in enumerate(policies):
        if policy.targets is own.targets and all(
            np.array_equal(np.asarray(getattr(policy, name)), np.asarray(getattr(own, name)))
            for name in names
        ):
            return row
    return None


# ---------------------------------------------------------------- from settings


def make_policy(settings: PolicySettings, market: Market, targets: Floats, name: str = "") -> Policy:
    """The policy of [policy] on a market's assets."""
    given = settings.given()
    more: dict[str, Any] = {
        key: given[key]
        for key in (
            "calendar_every", "first_row_only", "window_seconds", "cooldown_seconds", "tolerance_bps", "fee_bps",
            "speed_capacity_bps", "speed_refill_bps_per_day", "gain_over_cost", "aversion",
        )
        if key in given
    }  # fmt: skip
    for key in ("band_points_bps", "band_relative_bps", "bands", "min_targets", "max_targets"):
        if given.get(key) is not None:
            more[key] = _of_assets(f"policy.{key}", given[key], market)
    if settings.exchange is not None:
        last = settings.exchange_day == "last"
        more["calendar_rows"] = exchange_rows(market, settings.exchange, settings.calendar_every, last)
    try:
        policy = Policy(
            targets=targets,
            mode=Mode[settings.mode.upper()],
            calendar_unit=CalendarUnit[settings.calendar_unit.upper()],
            calendar_anchor=settings.anchor(),
            rebalance_to=RebalanceTo(settings.rebalance_to),
            name=name,
            **more,
        )
    except BacktestError as error:
        raise BacktestError(f"policy.{error}") from None
    if not settings.volatility_scaled:
        return policy
    table = schedule(policy, market)
    return replace(policy, bands=volatility_bands(market, table.table[1, table.setting]))


def make_costs(settings: CostSettings, loaded: Loaded) -> Costs:
    """The costs of [costs] on a market's assets; volume and depth of pools may come with the data ("data")."""
    values = {
        key: _of_assets(f"costs.{key}", value, loaded.market)
        for key, value in settings.given().items()
        if value is not None
    }
    for key, found in (("daily_volume", loaded.volume), ("pool_depth", loaded.pool_depth)):
        if isinstance(values.get(key), str):
            if found is None:
                raise BacktestError(f'costs.{key}: "data": the data has none for all assets')
            values[key] = found
    return Costs(**values)


def _of_assets(key: str, value: Any, market: Market) -> Any:
    """A number, or one for each asset in the market's order."""
    names = list(market.names)
    if isinstance(value, dict):
        for name in value:
            if name not in names:
                raise BacktestError(f"{key}.{name}: no such asset; there are {', '.join(names[:20])}")
        lacking = [name for name in names if name not in value]
        if lacking:
            raise BacktestError(f"{key}: no value for {', '.join(lacking[:5])}; name every asset")
        return [value[name] for name in names]
    if isinstance(value, list) and len(value) != len(names):
        raise BacktestError(f"{key}: {len(value)} values for {len(names)} assets")
    return value
