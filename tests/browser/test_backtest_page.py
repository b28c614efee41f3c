"""The report in a real browser: it draws, asks nobody for anything, fits a phone, follows dark and light."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from offchain.backtest.command import study, write_report
from offchain.backtest.config import parse_config
from tests.browser.chromium import Page, browser

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>%{y}",
    "<b>bold</b><a href='javascript:alert(3)'>x</a>",
)
DRAWN = "document.documentElement.dataset.drawn === 'yes'"
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    moves = np.random.default_rng(3).normal(3e-4, 0.015, (900, 3)).cumsum(axis=0)
    with (folder / "prices.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["date", *HOSTILE])
        table.writerows([np.datetime64("2019-01-01") + i, *row] for i, row in enumerate(100 * np.exp(moves)))
    settings = {
        "name": HOSTILE[0],
        "data": {"source": "csv", "path": "prices.csv"},
        "costs": {"proportional_bps": 10},
        "compare": [{"name": HOSTILE[1], "policy": {"mode": "calendar"}}],
        "evidence": {"samples": 100},
        "sweep": {"band_points_bps": [400, 500, 600], "calendar_every": [3, 6]},
    }
    _, page, _ = write_report(study(parse_config(settings), folder), folder / "report.html")
    return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def page(chromium: Page, report: Path) -> Page:
    chromium.size(1280, 900)
    chromium.prefer("light")
    chromium.open(report, DRAWN)
    return chromium


def test_it_draws_every_chart_and_asks_nobody(page: Page, report: Path) -> None:
    assert (
        page.evaluate(
            "[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('.main-svg').length > 0)"
        )
        == [True] * 9
    )
    asked = [url for url in page.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [report.as_uri()]
    assert page.complaints() == []


def test_the_pages_policy_stops_what_a_name_might_smuggle_in(page: Page) -> None:
    page.evaluate("window.ran = 0; window.alert = () => { window.ran++ }; 1")
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran++'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'https://example.org/x.png'; document.body.append(i); 1"
    )
    assert page.evaluate("window.ran") == 0
    complaints = " ".join(page.complaints())
    assert "inline script" in complaints and "https://example.org/x.png" in complaints
    assert not [
        event
        for event in page.events
        if event.get("method") == "Network.responseReceived" and "example" in str(event)
    ]


def test_names_are_texts_in_the_charts(page: Page) -> None:
    texts = page.evaluate(
        "[...document.querySelectorAll('#chart-growth .legendtext')].map(t => t.textContent)"
    )
    assert any(HOSTILE[1] in text for text in texts), texts
    ticks = page.evaluate("[...document.querySelectorAll('#chart-risk .xtick text')].map(t => t.textContent)")
    assert any("<script>alert" in tick for tick in ticks), ticks
    assert any("<b>bold</b><a" in tick for tick in ticks), ticks
    assert page.evaluate("document.querySelectorAll('.chart a, .chart img').length") == 0
    page.evaluate("Plotly.Fx.hover('chart-risk', [{curveNumber: 0, pointNumber: 0}]); 1")
    page.wait_for("document.querySelector('#chart-risk .hoverlayer text') !== null")
    hover = page.evaluate("document.querySelector('#chart-risk .hoverlayer').textContent")
    names = page.evaluate("document.getElementById('chart-risk').data[0].customdata")
    assert names[0].strip("\u2068\u2069").replace("&lt;", "<").replace("&gt;", ">") in hover


def test_the_scale_switches(page: Page) -> None:
    kind = "document.getElementById('chart-growth').layout.yaxis.type"
    before = page.evaluate(kind)
    page.evaluate("document.getElementById('log-growth').click(); 1")
    page.wait_for(f"{kind} !== '{before}'")
    assert {before, page.evaluate(kind)} == {"linear", "log"}


@pytest.mark.parametrize(("name", "values"), [("weights", "data[3].y"), ("sweep", "data[0].z")])
def test_another_asset_and_another_measure(page: Page, name: str, values: str) -> None:
    shown = f"JSON.stringify(document.getElementById('chart-{name}').{values})"
    before = page.evaluate(shown)
    page.evaluate(
        f"const s = document.getElementById('pick-{name}'); s.value = '1'; s.dispatchEvent(new Event('change')); 1"
    )
    page.wait_for(f"{shown} !== {before!r}")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_scrolls_sideways(chromium: Page, report: Path, width: int) -> None:
    chromium.size(width, 844, phone=width < 1_000)
    chromium.open(report, DRAWN)
    chromium.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true }); 1")
    scroll, client = chromium.evaluate(WIDTHS)
    assert scroll <= client
    charts = chromium.evaluate(
        "[...document.querySelectorAll('.chart .main-svg')].map(s => s.getBoundingClientRect().right)"
    )
    assert max(charts) <= client


def test_it_follows_dark_and_light(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    chart = "document.getElementById('chart-growth').layout.paper_bgcolor"
    light = page.evaluate(paper), page.evaluate(chart)
    page.prefer("dark")
    page.wait_for(f"{chart} !== '{light[1]}'")
    assert page.evaluate(paper) != light[0]
    assert page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()"
    ) == page.evaluate(chart)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(page: Page, scheme: str) -> None:
    """WCAG: 4.5 to 1 for text."""
    page.prefer(scheme)
    colours = page.evaluate(
        "['--paper', '--panel', '--ink', '--soft', '--accent'].map("
        "n => getComputedStyle(document.documentElement).getPropertyValue(n).trim())"
    )
    light = [_luminance(colour) for colour in colours]
    for paper in light[:2]:
        for text in light[2:]:
            assert (max(paper, text) + 0.05) / (min(paper, text) + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
