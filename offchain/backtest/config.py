"""The backtest file: TOML, checked, each mistake named by its key.

[data] says which prices, [strategy] and [constraints] which target weights, [policy] and [costs] when they are traded
and what that costs; [[compare]] other policies to stand beside it, [evidence], [stress] and [sweep] what is asked of
the result. `offchain.show.backtest.EXAMPLE` has the most important keys with their meaning.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from offchain.chain.errors import ConfigError
from offchain.data.settings import DataSettings

__all__ = [
    "Compared",
    "Config",
    "CostSettings",
    "Engine",
    "PolicySettings",
    "load_config",
    "parse_config",
]

Engine = Literal["fast", "integer", "evm"]
RHYTHM = ("every", "lookback", "start")  # keys of [strategy] that are `walk`'s
MAIN, HOLD = "this backtest", "buy and hold"  # the names of what is always there
KINDS = {
    "int",
    "float",
    "str",
    "bool",
    "date",
    "datetime",
    "constrained-str",
}  # pydantic's words in an error's place


class Section(BaseModel):
    """A table of the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    def given(self) -> dict[str, Any]:
        """The keys that the file sets."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set
        }


def _per_asset(value: Any) -> Any:
    """A number, a list of numbers, or a table of numbers by asset."""
    numbers = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers) or not numbers:
        raise ValueError("needs a number, a list of numbers, or a table of numbers by asset")
    return value


PerAsset = Annotated[Any, AfterValidator(_per_asset)]


class PolicySettings(Section):
    """[policy]: `offchain.backtest.Policy`, without its targets; what is not set is as there."""

    mode: Literal["calendar", "threshold", "either", "both"] = "either"
    band_points_bps: PerAsset = 500
    band_relative_bps: PerAsset = 2_500
    bands: PerAsset | None = None  # half-widths as fractions, instead of the two above
    volatility_scaled: bool = False  # the bands times recent volatility over usual
    calendar_unit: Literal["days", "months"] = "months"
    calendar_every: int = Field(default=3, ge=1)
    calendar_anchor: datetime | date | int = 0
    exchange: str | None = None  # such as "XNYS": the calendar's slots start on its trading days
    exchange_day: Literal["first", "last"] = "first"
    first_row_only: bool = False
    window_seconds: int = Field(default=86_400, ge=1)
    cooldown_seconds: int = Field(default=0, ge=0)
    tolerance_bps: int = Field(default=50, ge=0)
    rebalance_to: Literal["target", "close", "half band", "edge"] = "target"
    fee_bps: int = Field(default=0, ge=0, le=10_000)
    min_targets: PerAsset | None = None
    max_targets: PerAsset | None = None
    speed_capacity_bps: int | None = Field(default=None, ge=0)
    speed_refill_bps_per_day: int = Field(default=0, ge=0)
    gain_over_cost: float = Field(default=0.0, ge=0)
    aversion: float = Field(default=0.3, ge=0)

    @model_validator(mode="after")
    def _exchange_counts_months(self) -> PolicySettings:
        if self.exchange is not None and self.calendar_unit != "months":
            raise ValueError('exchange: goes with calendar_unit = "months" only')
        return self

    def anchor(self) -> int:
        """`calendar_anchor` as a timestamp, UTC."""
        when = self.calendar_anchor
        if isinstance(when, int):
            return when
        if not isinstance(when, datetime):
            when = datetime(when.year, when.month, when.day)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


class CostSettings(Section):
    """[costs]: `offchain.backtest.Costs`."""

    proportional_bps: PerAsset = 0.0
    per_rebalance: float = Field(default=0.0, ge=0)
    per_leg: float = Field(default=0.0, ge=0)
    impact: float = Field(default=0.0, ge=0)
    volatility: PerAsset | None = None
    daily_volume: PerAsset | Literal["data"] | None = None  # "data": as the prices' source has it
    pool_depth: PerAsset | Literal["data"] | None = None


class Compared(Section):
    """[[compare]]: another policy or strategy; what it does not say is as in [policy] and [strategy]."""

    name: str = Field(min_length=1)
    policy: dict[str, Any] = {}
    strategy: dict[str, Any] = {}


class ReportSettings(Section):
    """[report]."""

    out: Path | None = None  # HTML; the JSON stands beside it
    benchmark: str = "buy and hold"  # or an asset, or the name of a [[compare]]
    risk_free: float = Field(default=0.0, gt=-1)  # a year
    rows_per_year: float | None = Field(default=None, gt=0)  # by default as the dates have it


class SweepSettings(BaseModel):
    """[sweep]: fields of `Policy`, each a list of values or { from, to, count or step }; [sweep.strategy] alike."""

    model_config = ConfigDict(extra="allow", frozen=True)
    out: Path | None = None  # Parquet; a sweep that was stopped goes on from it
    workers: int | None = Field(default=None, ge=1)  # threads

    def axes(self) -> dict[str, Any]:
        """What is varied: `sweep.grid` reads it."""
        return dict(self.model_extra or {})


class EvidenceSettings(Section):
    """[evidence]: `evidence.assess`."""

    enabled: bool = True
    samples: int = Field(default=1_000, ge=100, le=100_000)  # of the block bootstrap
    level: float = Field(default=0.95, gt=0.5, lt=1)  # of intervals
    seed: int = 0
    trials_made: int | None = Field(default=None, ge=1)  # settings ever tried, if more than the file has
    train_years: float = Field(default=3.0, gt=0)  # of the walk-forward
    test_years: float = Field(default=1.0, gt=0)
    purged_rows: int = Field(default=5, ge=0)


class StressSettings(Section):
    """[stress]: `stress.Shock`."""

    enabled: bool = True
    retarget: bool = False  # the strategy decides again on prices with a shock in them
    correlation: float = Field(default=0.95, ge=0, le=1)
    liquidity: float = Field(default=10.0, ge=1)
    impact: float = Field(default=2.0, ge=1)
    stale_rows: list[int] = [1, 5]
    gas: float = Field(default=20.0, ge=1)
    proportional: float = Field(default=5.0, ge=1)
    depeg: float = Field(default=0.5, gt=0, lt=1)
    depeg_asset: str | None = None
    depeg_row: int | None = Field(default=None, ge=1)


class PoolSettings(Section):
    """[pools]: where the vault of engine "integer" and "evm" trades; as `chain.scenario.PoolSettings`."""

    depth_usd: PerAsset = 10_000_000.0
    venue: Literal["v2", "v3", "both"] = "both"
    v3_fee: Literal[500, 3_000, 10_000] = 500
    hub: str = ""
    gas_price_usd: float = Field(default=5e-6, ge=0)


class VaultSettings(Section):
    """[vault]: what that vault has and a policy has not; as `chain.scenario.VaultSettings`."""

    decimals: PerAsset = 18
    price_error_bps: PerAsset = 30
    feed_decimals: int = Field(default=8, ge=0, le=18)
    max_slippage_bps: int = Field(default=150, ge=0)
    loss_capacity_bps: int = Field(default=100, ge=0)
    loss_refill_bps_per_year: int = Field(default=400, ge=0)


class Config(Section):
    """The whole file."""

    name: str = Field(default="", max_length=200)
    cash: float = Field(default=1_000_000.0, gt=0)
    engine: Engine = "fast"
    data: DataSettings
    strategy: dict[str, Any] = {"name": "equal"}
    constraints: dict[str, Any] = {}
    policy: PolicySettings = PolicySettings()
    costs: CostSettings = CostSettings()
    compare: list[Compared] = []
    evidence: EvidenceSettings = EvidenceSettings()
    stress: StressSettings = StressSettings()
    sweep: SweepSettings = SweepSettings()
    pools: PoolSettings = PoolSettings()
    vault: VaultSettings = VaultSettings()
    report: ReportSettings = ReportSettings()

    def policy_of(self, compared: Compared) -> PolicySettings:
        """[policy] with what a compared one changes."""
        return PolicySettings.model_validate(self.policy.given() | compared.policy)

    def strategy_of(self, compared: Compared) -> dict[str, Any]:
        """[strategy] with what a compared one changes; of another strategy only the rhythm stays."""
        kept = dict(self.strategy)
        if compared.strategy.get("name", kept.get("name")) != kept.get("name"):
            kept = {key: value for key, value in kept.items() if key in RHYTHM}
        return kept | compared.strategy

    @model_validator(mode="after")
    def _names_differ(self) -> Config:
        names = [MAIN, HOLD]
        for compared in self.compare:
            if compared.name in names:
                raise ValueError(f"compare: the name {compared.name!r} is there twice, or taken")
            names.append(compared.name)
        return self


# ---------------------------------------------------------------- reading


def load_config(path: Path) -> Config:
    """The file at `path`; ConfigError names each key that is wrong, and the nearest known one for a key that is not."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse_config(raw, str(path))


def parse_config(raw: Mapping[str, Any], where: str = "backtest") -> Config:
    """The same of a dict."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_lines(error))) from None
    for number, compared in enumerate(config.compare):
        try:
            config.policy_of(compared)
        except ValidationError as error:
            found = "; ".join(_lines(error, ("compare", number, "policy"), PolicySettings))
            raise ConfigError(f"{where}: {found}") from None
    return config


def _lines(
    error: ValidationError, inside: Sequence[str | int] = (), model: type[BaseModel] | None = None
) -> list[str]:
    """A line a mistake, each key once."""
    found: dict[str, str] = {}
    for item in sorted(error.errors(), key=lambda item: item["type"] == "missing"):  # it may be misspelt
        key = _key([*inside, *item["loc"]])
        table = _table(model or Config, item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            parent = _table(model or Config, item["loc"][:-1])
            message = "unknown key" + _nearest(
                str(item["loc"][-1]), list(parent.model_fields if parent else ())
            )
        elif item["type"] == "missing":
            message = "missing"
        elif item["type"] == "list_type" and key == "compare":
            message = "needs two brackets, [[compare]], for each"
        elif table is not None and key and ": " in message:  # of a table as a whole: names its key itself
            key, message = f"{key}.{message.partition(': ')[0]}", message.partition(": ")[2]
        found.setdefault(key, message[:1].lower() + message[1:])
    return [f"{key}: {message}" if key else message for key, message in found.items()]


def _key(path: Sequence[str | int]) -> str:
    """`compare.2.policy.mode`, tables counted from 1; without the names that pydantic gives to kinds of values."""
    parts = [str(part + 1) if isinstance(part, int) else part for part in path]
    return ".".join(part for part in parts if "[" not in part and part not in KINDS)


def _table(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the table at `path`, None if there is a value."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = _models(field.annotation) if field else []
        if not inner:
            return None
        model = inner[0]
    return model


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _nearest(key: str, known: Sequence[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
