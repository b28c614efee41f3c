"""The report: its numbers are the backtest's, its page holds all it needs and no name in the data can change that."""

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offchain.backtest import Costs, Policy, run
from offchain.backtest.command import study
from offchain.backtest.config import parse_config
from offchain.backtest.measures import measures
from offchain.backtest.report.charts import charts
from offchain.backtest.report.content import CHART_ROWS, content
from offchain.backtest.report.names import plain
from offchain.backtest.report.page import page
from offchain.backtest.report.study import Study
from offchain.backtest.report.tables import measure_text
from offchain.backtest.report.words import costs_in_words, policy_in_words
from offchain.policy import Mode

ROWS, DAY = 1_500, np.timedelta64(1, "D")
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>%{y}",
    "\u202eevil\u202c אבג </script><b>",
    "a&amp;b",
)


def write_prices(path: Path, names: tuple[str, ...], rows: int = ROWS, seed: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    moves = rng.normal(2e-4, 0.015, (rows, len(names))) + rng.normal(0, 0.008, (rows, 1))
    prices = np.round(100 * np.exp(moves.cumsum(axis=0)), 4)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["date", *names])
        for i, row in enumerate(prices):
            table.writerow([np.datetime64("2016-01-01") + i * DAY, *row])
    return prices


SETTINGS: dict[str, Any] = {
    "name": "A & B <i>",
    "data": {"source": "csv", "path": "prices.csv"},
    "policy": {"band_points_bps": 300, "calendar_every": 6, "fee_bps": 50},
    "costs": {"proportional_bps": 20, "per_leg": 3.0},
    "compare": [{"name": "calendar <b>", "policy": {"mode": "calendar"}}],
    "evidence": {"samples": 100},
    "sweep": {"band_points_bps": [200, 300, 400], "calendar_every": [3, 6]},
    "report": {"risk_free": 0.01},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_prices(folder / "prices.csv", HOSTILE)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Study:
    return study(parse_config(SETTINGS), folder)


@pytest.fixture(scope="module")
def said(found: Study) -> dict[str, Any]:
    return content(found)


@pytest.fixture(scope="module")
def html(said: dict[str, Any]) -> str:
    return page(said)


# ---------------------------------------------------------------- numbers


def test_the_backtest_is_the_engines(found: Study) -> None:
    policy = Policy(np.full(4, 0.25), band_points_bps=300, calendar_every=6, fee_bps=50)
    own = run(found.market, policy, Costs(proportional_bps=20, per_leg=3.0))
    assert np.array_equal(found.played[0].result.index, own.index)
    assert np.array_equal(found.played[0].result.trades, own.trades)
    by_calendar = run(
        found.market,
        Policy(np.full(4, 0.25), Mode.CALENDAR, calendar_every=6, fee_bps=50),
        Costs(proportional_bps=20, per_leg=3.0),
    )
    assert np.array_equal(found.played[2].result.index, by_calendar.index)


def test_buy_and_hold_buys_once(found: Study) -> None:
    held = found.played[1].result
    assert held.trade_rows.tolist() == [0]
    units = held.units[-1]
    growth = found.market.prices @ units
    assert np.allclose(held.value, growth, rtol=1e-12)


def test_measures_are_those_of_the_library(found: Study, said: dict[str, Any]) -> None:
    own = measures(
        found.played[0].result, benchmark=found.played[1].result, rows_per_year=365, risk_free=0.01
    )
    shown = {row["measure"]: row["values"][0] for row in said["measures"]["rows"]}
    assert set(shown) == set(own)
    for name, value in own.items():
        assert shown[name] == pytest.approx(value, rel=1e-9), name


def test_lines_are_the_index_at_their_dates(found: Study, said: dict[str, Any]) -> None:
    days = {str(day): i for i, day in enumerate(found.market.dates.astype("datetime64[D]"))}
    rows = [days[day] for day in said["growth"]["dates"]]
    for line, played in zip(said["growth"]["lines"], found.played, strict=True):
        index = played.result.index
        assert np.allclose(line["index"], index[rows], rtol=1e-6)
        peaks = np.maximum.accumulate(np.maximum(index, 1))
        assert np.allclose(line["drawdown_percent"], 100 * (index / peaks - 1)[rows], atol=1e-3)
        assert min(line["drawdown_percent"]) == pytest.approx(100 * (index / peaks - 1).min(), rel=1e-4)
        assert max(line["index"]) == pytest.approx(index.max(), rel=1e-6)
    assert set(found.played[0].result.trade_rows.tolist()) <= set(rows)
    assert CHART_ROWS <= len(rows) < ROWS and said["growth"]["of_rows"] == ROWS


def test_years_multiply_to_the_whole(found: Study, said: dict[str, Any]) -> None:
    for i, played in enumerate(found.played):
        growth = np.prod([1 + year["return_percent"][i] / 100 for year in said["years"]])
        assert growth * played.result.index[0] == pytest.approx(played.result.index[-1], rel=1e-3)
    main = found.played[0].result
    assert sum(year["trades"] for year in said["years"]) == main.rebalances
    turnover = sum(year["turnover_percent"] for year in said["years"])
    assert turnover == pytest.approx(100 * main.statistics["turnover"], rel=1e-3)


def test_costs_stand_under_their_cause(found: Study, said: dict[str, Any]) -> None:
    main = found.played[0].result
    before = main.value[main.trade_rows] + main.trade_costs.sum(axis=1)
    wanted = 1e4 * (main.trade_costs / before[:, None]).sum(axis=0)
    for cause, value in zip(("in proportion", "fixed", "market impact", "pools"), wanted, strict=True):
        assert sum(year["cost_bps"][cause] for year in said["years"]) == pytest.approx(value, rel=1e-3)
    assert wanted[0] > 0 and wanted[1] > 0 and wanted[2] == wanted[3] == 0


def test_weights_bands_and_what_trades_found(found: Study, said: dict[str, Any]) -> None:
    main, assets = found.played[0].result, said["weights"]["assets"]
    assert [asset["target"] for asset in assets] == [25.0] * 4
    assert [(asset["low"], asset["high"]) for asset in assets] == [(22.0, 28.0)] * 4
    assert np.allclose(np.sum([asset["weight"] for asset in assets], axis=0), 100, atol=0.01)
    for i, asset in enumerate(assets):
        assert asset["before_trades"][0] is None  # there was nothing before the first purchase
        for k, row in list(enumerate(main.trade_rows.tolist()))[1:]:
            before = main.units[k, i] * found.market.prices[row]
            share = before[i] / (main.units[k] @ found.market.prices[row])
            assert asset["before_trades"][k] == pytest.approx(100 * share, abs=0.01)
    away = np.abs(np.array([asset["before_trades"][1:] for asset in assets]) - 25).max(axis=0)
    by_band = np.array(["band" in why for why in said["trades"]["why"][1:]])
    assert by_band.any() and (away[by_band] >= 2.999).all()


def test_tracking_error_is_that_of_the_window(found: Study, said: dict[str, Any]) -> None:
    main, part = found.played[0].result, said["tracking_error"]
    prices = found.market.prices
    above = main.index[1:] / main.index[:-1] - 1 - (prices[1:] / prices[:-1] - 1).mean(axis=1)
    assert part["window_rows"] == 365
    wanted = 100 * above[-365:].std() * np.sqrt(365)
    assert part["percent"][-1] == pytest.approx(wanted, rel=1e-3)
    assert len(part["dates"]) == len(part["percent"])


def test_risk_adds_up(said: dict[str, Any]) -> None:
    assert sum(asset["risk_percent"] for asset in said["risk"]["assets"]) == pytest.approx(100, abs=0.05)
    assert sum(asset["weight_percent"] for asset in said["risk"]["assets"]) == pytest.approx(100, abs=0.05)
    parts = [asset["risk_percent"] for asset in said["risk"]["assets"]]
    assert parts == sorted(parts, reverse=True)


def test_the_sweep_is_a_grid_with_the_backtests_own_setting(found: Study, said: dict[str, Any]) -> None:
    part = said["sweep"]
    assert [axis["setting"] for axis in part["axes"]] == ["band_points_bps", "calendar_every"]
    assert part["chosen"] == {"band_points_bps": 300, "calendar_every": 6}
    assert len(part["measures"]["sharpe"]) == 6
    policy = Policy(np.full(4, 0.25), band_points_bps=400, calendar_every=3, fee_bps=50)
    own = measures(
        run(found.market, policy, Costs(proportional_bps=20, per_leg=3.0)),
        rows_per_year=found.rows_per_year,
        risk_free=0.01,
    )
    assert part["measures"]["sharpe"][4] == pytest.approx(own["sharpe"], rel=1e-6)
    kept = {row["measure"]: row["values"][0] for row in said["measures"]["rows"]}
    assert said["evidence"]["neighbours"]["value"] == pytest.approx(kept["sharpe"], rel=1e-6)


def test_years_under_bars_have_room(said: dict[str, Any]) -> None:
    for name in ("turnover", "cost"):
        axis = charts(said)[name]["layout"]["xaxis"]
        assert axis["type"] == "category" and axis["nticks"] <= 9


def test_every_setting_that_was_tried_is_a_trial(said: dict[str, Any]) -> None:
    evidence = said["evidence"]
    assert evidence["trials"]["made"] == 1 + 6  # the backtest is one of the sweep's six
    assert evidence["neighbours"]["parameters"] == {"band_points_bps": 300, "calendar_every": 6}
    assert set(evidence["differences"]) == {"buy and hold", "calendar <b>"}
    assert evidence["risk_free"] == 0.01


def test_what_it_stands_on_is_said(said: dict[str, Any]) -> None:
    setting = said["setting"]
    assert setting["rows_per_year"] == 365 and setting["benchmark"] == "buy and hold"
    assert "0.2 % of what is traded; 3 for each asset" in setting["costs"]
    assert any("365 rows" in line for line in setting["method"])
    assert "The risk-free rate is 1 % a year." in setting["method"]
    assert any("drift" in line for line in setting["method"])
    assert len(said["data"]["fingerprint_sha256"]) == 64


# ---------------------------------------------------------------- the page


class Elements(HTMLParser):
    """What a browser would make of it: tags with their attributes, texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_no_name_becomes_an_element(html: str) -> None:
    elements = Elements(html)
    assert len(elements.all("script")) == 3
    assert not elements.all("img") and not elements.all("b") and not elements.all("i")
    for _, attributes in elements.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert "\u202e" not in html
    shown = "".join(text for tag, text in elements.texts if tag not in ("script", "style"))
    assert "<script>alert(1)</script>" in shown and "evil אבג </script><b>" in shown and "a&amp;b" in shown


def test_names_in_charts_are_entities(html: str) -> None:
    data = json.loads(re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)[1])
    ticks = data["charts"]["risk"]["layout"]["xaxis"]["ticktext"]
    assert "\u2068&lt;script&gt;alert…\u2069" in ticks

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for one in value.values() for text in texts(one)]
        if isinstance(value, list):
            return [text for one in value for text in texts(one)]
        return [value] if isinstance(value, str) else []

    drawn = [
        chart | {"choices": [{**c, "name": ""} for c in chart.get("choices", [])]}
        for chart in data["charts"].values()
    ]
    for text in texts(drawn):
        assert not re.search(r"<(?!br>|extra>|/extra>)", text), text


def test_only_the_pages_own_scripts_may_run(html: str) -> None:
    policy = Elements(html).all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'")
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    sums = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}
    assert len(scripts) == 2 and sums == allowed
    assert "script-src 'sha256" in policy and "'unsafe-inline'" not in policy.partition("script-src")[2]


def test_nothing_is_asked_of_a_server(html: str) -> None:
    elements = Elements(html)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "action", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    assert "@import" not in html.partition("<script")[0] and "url(" not in html.partition("<script")[0]
    assert html.count("plotly.js v") == 1
    assert len(html) < 8_000_000


def test_evidence_leads_and_every_chart_has_words_and_a_table(html: str) -> None:
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert headings[0].startswith("Evidence")
    assert headings.index("Key figures") < headings.index("Growth and drawdown")
    charts = [a for a in Elements(html).all("div") if (a.get("class") or "").startswith("chart")]
    assert len(charts) == 9
    assert all(len(chart["aria-label"] or "") > 20 and chart["role"] == "img" for chart in charts)
    for part in html.split('<div class="chart')[1:]:
        assert part.index("<table>") < part.index("</details>")
    ids = [a["id"] for _, a in Elements(html).tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for a in Elements(html).all("a")}
    assert links <= {f"#{name}" for name in ids}


def test_the_page_shows_the_jsons_sentences_and_figures(html: str, said: dict[str, Any]) -> None:
    shown = "".join(text for tag, text in Elements(html).texts if tag not in ("script", "style"))
    for sentence in said["evidence"]["sentences"]:
        assert sentence in shown
    for row in said["measures"]["rows"]:
        if row["measure"] in ("cagr", "sharpe", "max_drawdown", "cost_bps_a_year"):
            for value in row["values"]:
                assert measure_text(row["measure"], value) in shown
    for one in said["stress"]:
        assert one["sentence"] in shown


def test_json_is_strict(said: dict[str, Any]) -> None:
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_a_report_without_evidence_says_so(folder: Path) -> None:
    less = SETTINGS | {"evidence": {"enabled": False}, "stress": {"enabled": False}, "sweep": {}, "costs": {}}
    said = content(study(parse_config(less), folder))
    text = page(said)
    assert "Nothing was tested" in text
    assert "Trading was free" in text and 'id="chart-cost"' not in text
    assert 'href="#stress"' not in text and 'href="#sweep"' not in text


def test_one_asset_and_few_rows(tmp_path: Path) -> None:
    write_prices(tmp_path / "prices.csv", ("ONE",), rows=40)
    few = {"data": SETTINGS["data"], "evidence": {"enabled": False}, "stress": {"enabled": False}}
    said = content(study(parse_config(few), tmp_path))
    assert said["correlation"] is None and said["growth"]["rows"] == 40
    assert "Charts show every row" in page(said)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\t c", "a b c"),
        ("\u202eabc\u2066\u200f", "abc"),
        ("x" * 70, "x" * 59 + "…"),
        ("שלום", "שלום"),
    ],
)
def test_plain_names(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (
            Policy([1.0]),
            "Trades every 3 months, and when an asset is 5 points or 25 % of its target away from it",
        ),
        (Policy([1.0], Mode.CALENDAR, calendar_every=1), "Trades every month; goes back to the targets."),
        (Policy([1.0], Mode.BOTH), "Trades every 3 months if an asset is 5 points"),
        (Policy([1.0], bands=0.02), "an asset is 2 points or more from its target"),
        (Policy([1.0], cooldown_seconds=7_200), "It rests 2 hours after a trade."),
        (Policy([1.0], fee_bps=75), "management fee of 0.75 % a year"),
    ],
)
def test_a_policy_in_words(policy: Policy, words: str) -> None:
    assert words in policy_in_words(policy)


def test_costs_in_words() -> None:
    assert costs_in_words(Costs()) == "Trading is free: no costs are set."
    assert "0.05 to 0.3 % of what is traded" in costs_in_words(Costs(proportional_bps=[5.0, 30.0]))
