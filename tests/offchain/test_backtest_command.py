"""`evenkeel backtest`: the file, its mistakes named by their key, what it writes."""

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from offchain.backtest import BacktestError, Costs, Market, Policy, RebalanceTo, command
from offchain.backtest.command import make_costs, make_policy, study
from offchain.backtest.config import Config, PolicySettings, load_config, parse_config
from offchain.chain.errors import ConfigError
from offchain.cli import app
from offchain.data import Loaded
from offchain.errors import EvenkeelError
from offchain.policy import CalendarUnit, Mode
from offchain.show.backtest import EXAMPLE

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("AA", "BB", "CC")
BARE = {
    "data": {"source": "csv", "path": "prices.csv"},
    "evidence": {"enabled": False},
    "stress": {"enabled": False},
}


def evenkeel(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def toml(settings: dict[str, Any]) -> str:
    """Enough TOML for these tests: scalars, and one level of tables."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
    for name, table in settings.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(7)
    prices = 100 * np.exp(rng.normal(0, 0.02, (120, 3)).cumsum(axis=0))
    with Path("prices.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["date", *NAMES])
        for i, row in enumerate(prices):
            table.writerow([np.datetime64("2020-01-01") + i, *(f"{x:.4f}" for x in row)])
    return tmp_path


@pytest.fixture(scope="module")
def market() -> Market:
    days = np.datetime64("2020-01-01") + np.arange(120)
    return Market(days, np.exp(np.random.default_rng(1).normal(0, 0.02, (120, 3)).cumsum(axis=0)), NAMES)


# ---------------------------------------------------------------- what it writes


def test_a_page_a_json_and_a_table(folder: Path) -> None:
    Path("mine.toml").write_text(
        toml(BARE | {"policy": {"mode": "calendar"}, "costs": {"proportional_bps": 10}})
    )
    result = evenkeel("backtest", "mine.toml")
    assert result.exit_code == 0, result.stderr
    assert "this backtest" in result.stdout and "buy and hold" in result.stdout and "CAGR" in result.stdout
    assert "reports/mine.html" in result.stdout
    values = json.loads(Path("reports/mine.json").read_text())
    assert values["title"] == "mine" and values["setting"]["assets"] == list(NAMES)
    assert "<h1><bdi>mine</bdi></h1>" in Path("reports/mine.html").read_text()


def test_json_is_the_whole_report_on_stdout(folder: Path) -> None:
    Path("mine.toml").write_text(toml(BARE))
    result = evenkeel("backtest", "mine.toml", "--json", "--out", "there/report.html")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(Path("there/report.json").read_text())
    assert Path("there/report.html").exists() and not Path("reports").exists()


def test_a_history_too_short_for_evidence_has_a_report_that_says_so(folder: Path) -> None:
    rows = Path("prices.csv").read_text().splitlines()
    Path("prices.csv").write_text("\n".join(rows[:31]))
    Path("short.toml").write_text(toml(BARE | {"evidence": {}}))
    found = evenkeel("backtest", "short.toml", "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["evidence"] is None
    assert "No evidence: it needs more than 60 rows, there are 30." in found.stdout


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    Path("sub").mkdir()
    settings = {"data": {"source": "csv", "path": "../prices.csv"}, "report": {"out": "made/r.html"}}
    Path("sub/mine.toml").write_text(toml(BARE | settings))
    assert evenkeel("backtest", "sub/mine.toml").exit_code == 0
    assert Path("sub/made/r.html").exists() and Path("sub/made/r.json").exists()


def test_quick_says_so(folder: Path) -> None:
    Path("mine.toml").write_text(toml({"data": BARE["data"]}))
    result = evenkeel("backtest", "mine.toml", "--quick")
    assert result.exit_code == 0, result.stderr
    assert "A quick look: 200 bootstrap samples" in result.stdout
    values = json.loads(Path("reports/mine.json").read_text())
    assert values["evidence"]["samples"] == 200 and values["stress"] == []


def test_the_anchors_job_through_the_file() -> None:
    settings = {
        "data": {"source": "sp500"},
        "policy": {"band_points_bps": 500, "band_relative_bps": 10_000, "calendar_every": 3},
        "costs": {"proportional_bps": 10},
        "evidence": {"enabled": False},
        "stress": {"enabled": False},
    }
    found = study(parse_config(settings), Path())
    assert found.played[0].result.final_value == pytest.approx(257_129_209.433, abs=0.001)
    assert found.played[0].result.rebalances == 138


# ---------------------------------------------------------------- the example


def test_the_example_is_printed_and_is_the_one_in_the_repository() -> None:
    result = evenkeel("backtest", "--example")
    assert result.exit_code == 0 and result.stdout == EXAMPLE
    assert (ROOT / "examples/backtest/sp500.toml").read_text() == EXAMPLE


@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples/backtest").glob("*.toml")), ids=lambda file: file.name
)
def test_examples_are_valid(file: Path) -> None:
    assert isinstance(load_config(file), Config)


def test_what_the_example_leaves_out_is_valid_too() -> None:
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in EXAMPLE.split("\n")
    ]
    raw = tomllib.loads("\n".join(line for line in lines if not line.startswith("path")))
    assert len(raw["data"]) == 4
    parse_config(raw)


def test_every_table_of_the_file_is_in_the_docs() -> None:
    docs = (
        (ROOT / "docs/backtest.md").read_text().partition("## From the command line")[2].partition("\n## ")[0]
    )
    for name, field in Config.model_fields.items():
        assert f"[{name}]" in docs or f"`{name}`" in docs, name
        if name in ("evidence", "sweep", "report"):
            for key in field.annotation.model_fields:  # type: ignore[union-attr]
                assert f"`{key}`" in docs or f"`{key} =" in docs, f"{name}.{key}"


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {}}, "data.source: missing"),
        ({"dta": {}}, "dta: unknown key; did you mean data?"),
        (
            {"policy": {"band_point_bps": 5}},
            "policy.band_point_bps: unknown key; did you mean band_points_bps?",
        ),
        ({"policy": {"zzz": 5}}, "policy.zzz: unknown key; known are mode, band_points_bps"),
        (
            {"policy": {"mode": "sometimes"}},
            "policy.mode: input should be 'calendar', 'threshold', 'either' or 'both'",
        ),
        (
            {"policy": {"band_points_bps": "wide"}},
            "policy.band_points_bps: needs a number, a list of numbers",
        ),
        (
            {"policy": {"calendar_every": 0}},
            "policy.calendar_every: input should be greater than or equal to 1",
        ),
        ({"policy": {"calendar_anchor": "soon"}}, "policy.calendar_anchor: "),
        (
            {"policy": {"exchange": "XNYS", "calendar_unit": "days"}},
            "policy.exchange: goes with calendar_unit",
        ),
        ({"costs": {"proportional": 5}}, "costs.proportional: unknown key; did you mean proportional_bps?"),
        ({"costs": {"per_leg": -1}}, "costs.per_leg: input should be greater than or equal to 0"),
        ({"cash": 0}, "cash: input should be greater than 0"),
        ({"engine": "warp"}, "engine: input should be 'fast', 'integer' or 'evm'"),
        (
            {"data": {"source": "csv", "path": "a", "sorted": True}},
            "data.sorted: unknown key; did you mean sort?",
        ),
        ({"data": {"source": "sp500", "path": "a"}}, 'data.path: source = "sp500" does not read it'),
        (
            {"compare": [{"name": "x", "policy": {"mod": 1}}]},
            "compare.1.policy.mod: unknown key; did you mean mode?",
        ),
        ({"compare": [{"nam": "x"}]}, "compare.1.nam: unknown key; did you mean name?"),
        ({"evidence": {"samples": 3}}, "evidence.samples: input should be greater than or equal to 100"),
        ({"stress": {"depeg": 2}}, "stress.depeg: input should be less than 1"),
        ({"sweep": {"workers": 0}}, "sweep.workers: input should be greater than or equal to 1"),
        ({"compare": [{"name": "a"}, {"name": "a"}]}, "compare: the name 'a' is there twice, or taken"),
        (
            {"compare": [{"name": "buy and hold"}]},
            "compare: the name 'buy and hold' is there twice, or taken",
        ),
        ({"compare": {"name": "a"}}, "compare: needs two brackets, [[compare]], for each"),
        ({"pools": {"venue": "v4"}}, "pools.venue: input should be 'v2', 'v3' or 'both'"),
    ],
)
def test_a_mistake_names_its_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"data": {"source": "sp500"}} | change)
    assert str(error.value).startswith(f"backtest: {message}")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"report": {"benchmark": "DD"}}, 1, "report.benchmark: 'DD' is neither"),
        ({"data": {"source": "csv", "path": "none.csv"}}, 1, "data.path: no such file"),
        ({"strategy": {"name": "best"}}, 1, "strategy: 'best' is not known"),
        ({"strategy": {"name": "equal", "x": 1}}, 1, "error: strategy: equal: 'x' is no setting"),
        (
            {"strategy": {"name": "fixed", "weights": [0.5, 0.2, 0.2]}},
            1,
            "error: strategy: Fixed: at 2020-01-01: the weights sum to 0.9, not to 1",
        ),
        ({"policy": {"band_points_bps": [1, 2]}}, 1, "policy.band_points_bps: 2 values for 3 assets"),
        ({"policy": {"exchange": "XNOPE"}}, 1, "exchange: 'XNOPE' is not known"),
        (
            {"costs": {"daily_volume": "data", "impact": 1.0}},
            1,
            'costs.daily_volume: "data": the data has none',
        ),
        ({"constraints": {"max_weight": 0.2}}, 1, "error: constraints: 'max_weight' is no setting"),
        ({"sweep": {"band_point_bps": [1, 2]}}, 1, "sweep.band_point_bps: cannot be varied"),
        ({"stress": {"depeg_asset": "ZZ"}}, 1, "stress.depeg_asset: no asset 'ZZ'"),
    ],
)
def test_what_the_data_cannot_do_is_one_line(
    folder: Path, change: dict[str, Any], code: int, message: str
) -> None:
    Path("mine.toml").write_text(toml(BARE | change))
    result = evenkeel("backtest", "mine.toml")
    assert result.exit_code == code
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "CONFIG: missing; evenkeel backtest --example > mine.toml makes one"),
        (["none.toml"], "none.toml: No such file or directory"),
        (["broken.toml"], "broken.toml: not valid TOML"),
        (["mine.toml", "--engine", "warp"], "--engine: 'warp' is none of fast, integer, evm"),
        (
            ["mine.toml", "--cluster", "tcp://127.0.0.1:1"],
            "--cluster: runs the sweep, and the file has no [sweep]",
        ),
        (["mine.toml", "--out", "report.json"], "--out: report.json: needs to end in .html"),
    ],
)
def test_a_wrong_argument_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    Path("mine.toml").write_text(toml(BARE))
    Path("broken.toml").write_text("a = ")
    result = evenkeel("backtest", *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and message in result.stderr


@pytest.mark.parametrize("module", ["plotly.offline", "jinja2"])
def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    Path("mine.toml").write_text(toml(BARE))
    for ours in ("offchain.backtest.command", "offchain.backtest.report.page"):
        monkeypatch.delitem(sys.modules, ours, raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # as if it could not be imported
    result = evenkeel("backtest", "mine.toml")
    assert result.exit_code == 2
    assert f"backtest: {module.partition('.')[0]} is missing" in result.stderr


# ---------------------------------------------------------------- settings become policies and costs


CHANGED: dict[str, tuple[Any, str, Any]] = {  # key: its value, the field of Policy, what that becomes
    "mode": ("both", "mode", Mode.BOTH),
    "band_points_bps": ([1, 2, 3], "band_points_bps", [1, 2, 3]),
    "band_relative_bps": ({"CC": 3, "AA": 1, "BB": 2}, "band_relative_bps", [1, 2, 3]),
    "bands": (0.07, "bands", 0.07),
    "calendar_unit": ("days", "calendar_unit", CalendarUnit.DAYS),
    "calendar_every": (7, "calendar_every", 7),
    "calendar_anchor": (date(2020, 1, 2), "calendar_anchor", 1_577_923_200),
    "first_row_only": (True, "first_row_only", True),
    "window_seconds": (99, "window_seconds", 99),
    "cooldown_seconds": (98, "cooldown_seconds", 98),
    "tolerance_bps": (97, "tolerance_bps", 97),
    "rebalance_to": ("half band", "rebalance_to", RebalanceTo.HALF_BAND),
    "fee_bps": (96, "fee_bps", 96),
    "min_targets": ([0.1, 0.1, 0.1], "min_targets", [0.1, 0.1, 0.1]),
    "max_targets": (0.5, "max_targets", 0.5),
    "speed_capacity_bps": (95, "speed_capacity_bps", 95),
    "speed_refill_bps_per_day": (94, "speed_refill_bps_per_day", 94),
    "gain_over_cost": (1.5, "gain_over_cost", 1.5),
    "aversion": (0.7, "aversion", 0.7),
}
BY_MARKET = {"exchange", "exchange_day", "volatility_scaled"}  # tested below


def test_every_setting_of_a_policy_is_tested_here() -> None:
    assert set(PolicySettings.model_fields) == set(CHANGED) | BY_MARKET


@pytest.mark.parametrize("key", CHANGED)
def test_a_setting_reaches_the_policy_and_nothing_else_changes(market: Market, key: str) -> None:
    value, field, wanted = CHANGED[key]
    targets = np.full(3, 1 / 3)
    policy = make_policy(PolicySettings.model_validate({key: value}), market, targets)
    plain = Policy(targets)
    for one in dataclasses.fields(Policy):
        found = getattr(policy, one.name)
        assert (
            found == wanted
            if one.name == field
            else found is getattr(plain, one.name) or found == getattr(plain, one.name)
        )


@pytest.fixture
def _far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_from_greenwich")
@pytest.mark.parametrize(
    "value",
    ["2020-01-02", "2020-01-02T00:00:00", "2020-01-02T00:00:00Z", "2020-01-02T01:00:00+01:00", "1577923200"],
)
def test_an_anchor_is_a_date_a_time_or_a_number(value: str) -> None:
    table = tomllib.loads(f"calendar_anchor = {value}")
    assert PolicySettings.model_validate(table).anchor() == 1_577_923_200


def test_an_exchanges_days_and_scaled_bands(market: Market) -> None:
    targets = np.full(3, 1 / 3)
    days = {}
    for which in ("first", "last"):
        settings = PolicySettings(exchange="XNYS", calendar_every=1, exchange_day=which)
        rows = make_policy(settings, market, targets).calendar_rows
        days[which] = [str(day) for day in market.dates[rows].astype("datetime64[D]")]
    assert days["first"] == ["2020-02-03", "2020-03-02", "2020-04-01"]
    assert days["last"][:3] == ["2020-01-31", "2020-02-28", "2020-03-31"]
    bands = make_policy(PolicySettings(bands=0.05, volatility_scaled=True), market, targets).bands
    assert bands.shape == (120, 3) and bands.min() < 0.05 < bands.max()


def test_costs_of_assets_and_of_the_data(market: Market) -> None:
    volume = np.full((120, 3), 5e6)
    loaded = Loaded(market, volume, None, "", "", ())
    config = parse_config(
        {
            "data": {"source": "sp500"},
            "costs": {
                "proportional_bps": {"BB": 2, "CC": 3, "AA": 1},
                "daily_volume": "data",
                "volatility": 0.02,
                "impact": 1,
            },
        }
    )
    costs = make_costs(config.costs, loaded)
    assert costs.proportional_bps == [1, 2, 3] and costs.daily_volume is volume and costs.volatility == 0.02
    assert isinstance(costs, Costs)
    for wrong, message in (
        ({"AA": 1}, "no value for BB, CC"),
        ({"DD": 1}, "costs.proportional_bps.DD: no such asset"),
    ):
        config = parse_config({"data": {"source": "sp500"}, "costs": {"proportional_bps": wrong}})
        with pytest.raises(BacktestError, match=message):
            make_costs(config.costs, loaded)


# ---------------------------------------------------------------- strategies, benchmarks, engines


OWN = """
class Mine:
    def __init__(self, first=0.5):
        self.first = first

    def target_weights(self, history, now):
        return [self.first, (1 - self.first) / 2, (1 - self.first) / 2]
"""


def test_a_strategy_of_the_users_own_file_and_its_settings(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/mine.py").write_text(OWN)
    settings = BARE | {
        "data": {"source": "csv", "path": "../prices.csv"},
        "strategy": {"name": "mine.py:Mine", "first": 0.6, "every": "month", "lookback": 10},
        "constraints": {"max_weights": 0.55},
        "compare": [
            {"name": "unchanged", "strategy": {"first": 0.4}},
            {"name": "other", "strategy": {"name": "equal"}},
        ],
    }
    settings["compare"] = settings["compare"][:1]
    found = study(parse_config(settings), Path("sub"))
    ends = [played.result.targets[-1, 0] for played in found.played]
    assert ends == pytest.approx([0.55, 1 / 3, 0.4])  # capped; buy and hold of the start; as asked
    assert found.played[0].strategy.startswith(
        "Targets: mine.py:Mine (first 0.6; every month; lookback 10), constrained (max weights 0.55). It decides"
    )
    table = parse_config(settings | {"strategy": {"name": "fixed", "weights": {"AA": 0.5, "BB": 0.5}}})
    said = study(table.model_copy(update={"compare": []}), Path("sub")).played[0].strategy
    assert said.startswith("Targets: fixed (weights AA 0.5, BB 0.5), constrained")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": {"weights": [1]}}, "compare.2: strategy: equal: 'weights' is no setting"),
        ({"policy": {"bands": [0.1]}}, "compare.2: policy.bands: 1 values for 3 assets"),
    ],
)
def test_a_mistake_in_a_compared_policy_says_which(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    settings = BARE | {"compare": [{"name": "fine"}, {"name": "other", **change}]}
    with pytest.raises(EvenkeelError, match=re.escape(message)):
        study(parse_config(settings), folder)


def test_where_nothing_can_be_written_nothing_is_worked_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(toml(BARE))
    monkeypatch.setattr(command, "study", lambda *_, **__: pytest.fail("worked for nothing"))
    result = evenkeel("backtest", "mine.toml", "--out", "prices.csv/r.html")
    assert result.exit_code == 2 and "prices.csv is a file, not a folder" in result.stderr
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    result = evenkeel("backtest", "mine.toml", "--out", "new/r.html")
    assert result.exit_code == 2 and "--out: new/r.html: may not be written" in result.stderr


def test_ctrl_c_says_what_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    Path("mine.toml").write_text(toml(BARE))
    monkeypatch.setattr(command, "study", interrupted)
    result = evenkeel("backtest", "mine.toml")
    assert result.exit_code == 130 and result.stdout == ""
    assert result.stderr.startswith("stopped; no report. A [sweep] with out goes on from here")


def test_the_benchmark_is_checked_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "walk", lambda *_, **__: pytest.fail("worked for nothing"))
    with pytest.raises(BacktestError, match=r"report\.benchmark: 'DD' is neither"):
        study(parse_config(BARE | {"report": {"benchmark": "DD"}}), folder)


def test_the_terminal_always_has_the_benchmark(folder: Path) -> None:
    others = "".join(f'[[compare]]\nname = "other {i}"\n' for i in range(5))
    Path("mine.toml").write_text(toml(BARE | {"report": {"benchmark": "CC"}}) + "\n" + others)
    result = evenkeel("backtest", "mine.toml")
    assert result.exit_code == 0, result.stderr
    (head,) = (line for line in result.stdout.splitlines() if "this backtest" in line)
    assert re.split("  +", head.strip()) == ["this backtest", "CC", "buy and hold", "other 0"]
    assert "and 4 more in the report" in result.stdout
    page = json.loads(Path("reports/mine.json").read_text())["measures"]
    cagr = {row["measure"]: row["values"] for row in page["rows"]}["cagr"]
    (line,) = (line.strip() for line in result.stdout.splitlines() if "CAGR" in line)
    assert f"{100 * cagr[-1]:.2f} %" == re.split("  +", line)[2].replace("−", "-")


@pytest.mark.parametrize("benchmark", ["BB", "by calendar", "buy and hold"])
def test_a_benchmark_is_an_asset_or_a_compared_policy(folder: Path, benchmark: str) -> None:
    settings = BARE | {
        "report": {"benchmark": benchmark},
        "compare": [{"name": "by calendar", "policy": {"mode": "calendar"}}],
    }
    found = study(parse_config(settings), folder)
    assert found.played[found.benchmark].name == benchmark
    if benchmark == "BB":
        prices = found.market.prices[:, 1]
        assert np.allclose(found.played[found.benchmark].result.index, prices / prices[0])
    other = found.played[found.benchmark].result.index
    own = found.played[0].result.index
    gap = np.diff(own) / own[:-1] - np.diff(other) / other[:-1]
    assert found.played[0].measures["tracking_error"] == pytest.approx(gap.std(ddof=1) * 365**0.5)


def test_the_vaults_engine_plays_it_and_the_compared(folder: Path) -> None:
    settings = BARE | {
        "engine": "integer",
        "data": {"source": "csv", "path": "prices.csv", "end": "2020-02-15"},
        "policy": {"band_points_bps": 100},
        "compare": [{"name": "wide", "policy": {"band_points_bps": 900}}],
        "pools": {"depth_usd": 5e6, "venue": "v2"},
        "costs": {"proportional_bps": 10},  # of the fast engine, for stress and sweep
    }
    found = study(parse_config(settings), folder)
    assert [getattr(played.result, "engine", "fast") for played in found.played] == [
        "integer",
        "fast",
        "integer",
    ]
    assert found.played[0].result.rebalances > found.played[2].result.rebalances
    assert found.pools.depth_usd == 5e6 and found.pools.venue == "v2"
    assert found.played[1].result.trade_costs.sum() == 0  # beside a vault that is seeded without trading
    hold = found.played[1]
    assert (
        hold.result.rebalances == 0 and hold.measures["turnover_a_year"] == 0
    )  # nor is its purchase turnover
    assert hold.result.value[0] == pytest.approx(found.cash)
    assert any(
        note.startswith("The integer engine played the backtest and the compared") for note in found.notes
    )


def test_a_strategy_may_decide_again_under_stress(folder: Path) -> None:
    settings = {
        "data": BARE["data"],
        "evidence": {"enabled": False},
        "strategy": {"name": "min-variance", "lookback": 20, "every": 10},
    }
    ends = {}
    for again in (False, True):
        found = study(parse_config(settings | {"stress": {"retarget": again, "depeg_row": 60}}), folder)
        ends[again] = {one["name"]: one["stressed"]["total_return"] for one in found.stress}
    assert ends[True]["depeg, for good"] != ends[False]["depeg, for good"]
    assert ends[True]["fee spike"] == ends[False]["fee spike"]  # its prices are the true ones


def test_a_sweep_is_kept_and_resumed(folder: Path) -> None:
    settings = BARE | {
        "sweep": {"band_points_bps": {"from": 100, "to": 400, "step": 100}, "out": "sweep.parquet"}
    }
    found = study(parse_config(settings), folder)
    assert Path("sweep.parquet").exists()
    assert found.swept is not None and found.swept.axes == {"band_points_bps": [100, 200, 300, 400]}
    again = study(parse_config(settings), folder)
    assert again.swept is not None
    assert np.array_equal(found.swept.measures["sharpe"], again.swept.measures["sharpe"])
    with pytest.raises(
        BacktestError, match=r"^sweep: out: .*sweep\.parquet was begun with other terms: costs\.per_leg"
    ):
        study(parse_config(settings | {"costs": {"per_leg": 1.0}}), folder)


def test_a_sweep_over_a_strategys_settings(folder: Path) -> None:
    Path("mine.py").write_text(OWN)
    settings = BARE | {
        "strategy": {"name": "mine.py:Mine", "lookback": 5},
        "sweep": {"mode": ["calendar", "either"], "strategy": {"first": [0.2, 0.8]}},
    }
    found = study(parse_config(settings), folder).swept
    assert found is not None
    assert found.axes == {
        "strategy": ["first=0.2", "first=0.8"],
        "mode": ["calendar", "either"],
    }
    assert found.chosen == {"strategy": None, "mode": "either"}
    assert len(found.measures["sharpe"]) == 4 and len(set(found.measures["annual_return"].tolist())) > 2


def test_trials_are_counted_once_and_neighbours_are_of_the_same_strategy(folder: Path) -> None:
    Path("mine.py").write_text(OWN)
    settings = {
        "data": BARE["data"],
        "stress": {"enabled": False},
        "evidence": {"samples": 100},
        "strategy": {"name": "mine.py:Mine", "first": 0.5, "lookback": 5},
        "compare": [
            {"name": "calendar", "policy": {"mode": "calendar"}},
            {"name": "other", "strategy": {"first": 0.3}},
        ],
        "sweep": {
            "mode": ["calendar", "either"],
            "calendar_every": [1, 3],
            "strategy": {"first": [0.5, 0.8]},
        },
    }
    found = study(parse_config(settings), folder)
    assert found.evidence is not None and found.swept is not None
    assert found.swept.chosen == {"strategy": "first=0.5", "mode": "either", "calendar_every": 3}
    # the sweep's eight, with the backtest and "calendar" among them, and "other"
    assert found.evidence["trials"]["made"] == found.evidence["trials"]["given"] == 9
    assert found.evidence["neighbours"]["neighbours"] == 2  # not three: another strategy is no step
    more = study(parse_config(settings | {"evidence": {"samples": 100, "trials_made": 50}}), folder)
    assert more.evidence is not None and more.evidence["trials"]["made"] == 50


def test_a_compared_strategy_keeps_the_rhythm_alone() -> None:
    own = {"name": "min-variance", "covariance": "oas", "every": "year", "lookback": 90}
    compare = [
        {"name": "a", "strategy": {"name": "equal"}},
        {"name": "b", "strategy": {"covariance": "sample"}},
    ]
    config = parse_config({"data": {"source": "sp500"}, "strategy": own, "compare": compare})
    assert config.strategy_of(config.compare[0]) == {"name": "equal", "every": "year", "lookback": 90}
    assert config.strategy_of(config.compare[1]) == own | {"covariance": "sample"}


def test_the_command_line_stays_quick() -> None:
    script = (
        "import sys; import offchain.cli, offchain.show.backtest;"
        "print(sorted({'numba', 'pandas', 'plotly', 'jinja2', 'skfolio', 'dask', 'scipy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"
