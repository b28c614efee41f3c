"""The HTML file: a template around the content, charts drawn by plotly.js, which stands in the file.

Nothing is fetched: the page's own policy (CSP) forbids every request and every script but the two whose checksums it
names, so that a name in somebody's data cannot become one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from offchain.backtest.report.charts import charts
from offchain.backtest.report.names import isolated
from offchain.backtest.report.tables import Table, key_figures, label, measure_text

__all__ = ["page"]

CONTENTS = (
    ("evidence", "Evidence"),
    ("figures", "Key figures"),
    ("growth", "Growth"),
    ("weights", "Weights"),
    ("trading", "Turnover and cost"),
    ("tracking", "Tracking error"),
    ("risk", "Risk"),
    ("stress", "Stress"),
    ("sweep", "Other settings"),
    ("data", "Data"),
    ("method", "Method"),
)

TRIED = {  # what stands in `evidence.trials`, in words
    "made": "Settings tried",
    "given": "… with their returns at hand",
    "own: sharpe": "Sharpe ratio a year",
    "own: luck": "… of the best of as many without skill",
    "own: probability": "Deflated Sharpe ratio (1: sure)",
    "own: effective": "Settings that differ in their returns",
    "own: luck_effective": "… the best of those without skill",
    "own: probability_effective": "… deflated Sharpe ratio with those",
    "active: sharpe": "Sharpe ratio a year of returns above the benchmark",
    "active: luck": "… of the best of as many without skill",
    "active: probability": "… deflated (1: sure)",
    "active: effective": "… settings that differ in them",
    "active: luck_effective": "… the best of those without skill",
    "active: probability_effective": "… deflated with those",
    "backtest_overfitting: probability": "Probability of backtest overfitting",
    "cross_average": "Sharpe ratio of the mean of all, cross-validated",
    "walk_cagr": "Walk-forward, growth a year out of sample",
}


def page(found: Mapping[str, Any]) -> str:
    """The whole file, from `content`."""
    drawn = charts(found)
    plotly, script = _plotly(), _file("page.js")
    stress = _stress_tables(found["stress"])
    absent = {"stress"} - ({"stress"} if stress else set()) | (set() if found["sweep"] else {"sweep"})
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_file("page.html"))
    return template.render(
        found=found,
        charts={"correlation": None, "cost": None, "sweep": None}
        | {name: _missing_to_none(c) for name, c in drawn.items()},
        css=Markup(_file("page.css")),
        plotly=Markup(plotly),
        script=Markup(script),
        hashes=Markup(" ".join(f"'sha256-{_checksum(text)}'" for text in (plotly, script))),
        data=Markup(
            _in_script(
                {
                    "shared": {"growth": found["growth"]["dates"], "trades": found["trades"]["dates"]},
                    "charts": _drawing(drawn),
                }
            )
        ),
        figures=key_figures(found),
        evidence_tables=_evidence_tables(found["evidence"]),
        stress=stress,
        contents=[(anchor, words) for anchor, words in CONTENTS if anchor not in absent],
        lead=_lead(found),
        warnings=found["data"].get("warnings", []),
        data_words=_data_words(found),
        settings=json.dumps(found["settings"], indent=2, ensure_ascii=False),
        **_captions(found),
    )


@cache
def _file(name: str) -> str:
    return (files("offchain.backtest.report") / name).read_text("utf-8")


@cache
def _plotly() -> str:
    text: str = get_plotlyjs()
    return text


def _checksum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _in_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _drawing(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """What the script needs of the charts."""
    return {
        name: {key: chart[key] for key in ("traces", "layout", "choices") if key in chart}
        for name, chart in drawn.items()
    }


def _missing_to_none(chart: Mapping[str, Any]) -> dict[str, Any]:
    return {"log": "", "tall": False, "choices": None} | dict(chart)


# ---------------------------------------------------------------- words


def _lead(found: Mapping[str, Any]) -> str:
    setting = found["setting"]
    assets = setting["assets"]
    names = ", ".join(map(isolated, assets[:8])) + (f" and {len(assets) - 8} more" if len(assets) > 8 else "")
    return (
        f"{setting['first']} to {setting['last']} ({setting['years']:g} years, {setting['rows']:,} rows), "
        f"{len(assets)} assets: {names}. {setting['policies'][0]['strategy']} "
        f"{setting['policies'][0]['rule']} Started with {setting['cash']:,.2f}. Engine: {setting['engine']}."
    )


def _captions(found: Mapping[str, Any]) -> dict[str, str]:
    weights, trades, growth = found["weights"], found["trades"], found["growth"]
    shown = len(weights["assets"])
    few = (
        ""
        if shown == weights["of_assets"]
        else f" The {shown} assets of {weights['of_assets']} with the largest weights."
    )
    part = (
        ""
        if trades["shown"] == trades["count"]
        else f" The first {trades['shown']:,} of {trades['count']:,} trades are marked."
    )
    all_rows = growth["rows"] == growth["of_rows"]
    correlation = found["correlation"]
    return {
        "weights_caption": "Shaded: the band around the target; dots: the weight as a trade found it "
        f"({trades['count']:,} trades in all).{few}{part}",
        "tracking_caption": "Standard deviation of the return above that of the targets held at every row without "
        f"costs, over {found['tracking_error']['window_rows']:,} rows, annualised.",
        "risk_caption": "Each asset's part of the portfolio's variance beside its weight, both as means over "
        f"{found['risk']['points']:,} windows of {found['risk']['window_rows']:,} rows.",
        "correlation_caption": ""
        if correlation is None
        else f"Of the returns of {correlation['window_rows']:,} rows: all pairs' mean, lowest and highest.",
        "rows_words": "Charts show every row."
        if all_rows
        else f"Charts over time show {growth['rows']:,} of {growth['of_rows']:,} rows: evenly spaced ones, those that "
        "were traded, and each line's extremes. Figures and tables use all rows, unless they say so.",
        "sweep_caption": "The result at other settings; the circle is this backtest. A lone peak is luck, a plateau is "
        "not proof.",
        "sweep_words": "Too many settings were varied at once for a picture; the JSON file has the results.",
    }


def _data_words(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    words = []
    for name, value in found["data"].items():
        if name == "warnings" or value in (None, "", [], {}):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append((name.replace("_", " "), text))
    return [*words, ("assets", ", ".join(map(isolated, found["setting"]["assets"])))]


# ---------------------------------------------------------------- tables of others


def _evidence_tables(evidence: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Intervals, differences, what was tried: what stands behind the sentences."""
    if evidence is None:
        return []
    level = f"{100 * evidence['level']:g} %"
    intervals = Table(
        ("", "value", f"{level} from", "to"),
        [
            (label(name), *(measure_text(name, one[key]) for key in ("value", "low", "high")))
            for name, one in evidence["intervals"].items()
        ],
        note=f"Stationary block bootstrap: {evidence['samples']:,} samples, mean block {evidence['block']:.0f} rows, "
        f"seed {evidence['seed']}.",
    )
    differences = Table(
        ("", "difference", f"{level} from", "to", "p, all counted", ""),
        [
            (
                f"{label(name)}, to {other}",
                *(measure_text(name, one["interval"][key]) for key in ("value", "low", "high")),
                "" if one["p"] is None else f"{one['p']:.3f}",
                _verdict(one),
            )
            for other, found in evidence["differences"].items()
            for name, one in found.items()
        ],
        note="This backtest less the other, drawn from the same rows.",
    )
    found = [("Intervals", intervals), ("Differences to the others", differences)]
    for key, title in (("trials", "What was tried"), ("neighbours", "Neighbours in the sweep")):
        if evidence[key]:
            found.append((title, _plain_table(evidence[key])))
    return [{"title": title, "table": table} for title, table in found if table.rows]


def _verdict(difference: Mapping[str, Any]) -> str:
    """Only what was counted among all comparisons is said to differ."""
    if difference["p"] is not None:
        return "noise" if difference["noise"] else "beyond noise"
    return "0 is in the interval" if difference["noise"] else "0 is not in it; not counted"


def _plain_table(values: Mapping[str, Any]) -> Table:
    """Whatever is one number or word, by its name; those of a part under "part: name"."""
    return Table(
        ("", "value"),
        [(TRIED.get(name, name.replace("_", " ")), _cell(value)) for name, value in _flat(values)],
    )


def _flat(values: Mapping[str, Any], part: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{part}{name}: ")
        elif value is not None and not isinstance(value, list):
            yield part + name, value


def _stress_tables(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Crises beside the same holdings left alone, shocks beside the run without them."""
    crises = [one for one in found if one["kind"] == "crisis"]
    shocks = [one for one in found if one["kind"] != "crisis"]
    made = []
    for title, rows, against, note in (
        (
            "Crises in the data",
            crises,
            "left alone",
            "Beside the holdings of the crisis's first day, left alone.",
        ),
        ("Shocks", shocks, "without it", "The whole history again, beside the run without the shock."),
    ):
        head = ("", "return", against, "deepest fall", against, "cost", against, "rebalances", "from", "to")
        lines = [_stress_row(one) for one in rows]
        sentences = [one["sentence"] for one in rows]
        made.append({"title": title, "table": Table(head, lines, note), "sentences": sentences})
    return [part for part in made if part["sentences"]]


def _stress_row(one: Mapping[str, Any]) -> list[str]:
    base, own = one["base"], one["stressed"] or dict.fromkeys(one["base"])
    pairs = [
        measure_text(name, side[key])
        for key, name in (("total_return", "cagr"), ("max_drawdown", "cagr"), ("cost", "rebalances"))
        for side in (own, base)
    ]
    return [one["name"], *pairs, measure_text("rebalances", own["rebalances"]), one["start"], one["end"]]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
