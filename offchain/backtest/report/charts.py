"""Charts as plotly.js takes them, from a report's content; colours of text and grid are the page's.

Lines that share their dates name the list ("@growth") instead of repeating it. Plotly reads a part of HTML in every
text: whatever came from outside goes through `shown`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from offchain.backtest.report.names import isolated, plain
from offchain.backtest.report.tables import (
    KINDS,
    LABELS,
    Table,
    axis_value,
    by_date,
    by_year,
    cost_table,
    label,
    measure_text,
    per_asset,
)

__all__ = ["charts", "shown"]

Chart = dict[str, Any]
LOG_RATIO = 4  # of the highest to the lowest value: from there on a logarithmic scale says more
LEAST_BARS = 6  # that a chart has room for
YEAR_TICKS = 9  # years named under bars, at most: they fit on a telephone
TICK_LENGTH = 14  # characters of a name under a bar
COLOURS = ("#2c7fd1", "#d9730d", "#8f63d2", "#17936a", "#c8446a", "#8a7a1f", "#4c8c9c", "#7d7d7d")


def shown(text: str) -> str:
    """Text as plotly shows it: entities instead of tags, isolated from the direction of what is around it."""
    return isolated(html.escape(text, quote=False))


def charts(found: Mapping[str, Any]) -> dict[str, Chart]:
    """By section of the page; a chart that the content has nothing for is left out."""
    made = {
        "growth": _growth(found),
        "drawdown": _drawdown(found),
        "weights": _weights(found),
        "turnover": _turnover(found),
        "cost": _cost(found),
        "tracking": _tracking(found),
        "risk": _risk(found),
        "correlation": _correlation(found),
        "sweep": _sweep(found["sweep"]) if found["sweep"] else None,
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def _chart(
    alt: str, traces: Sequence[Mapping[str, Any]], table: Table, layout: Mapping[str, Any], **more: Any
) -> Chart:
    return {"alt": alt, "traces": list(traces), "table": table, "layout": dict(layout), **more}


def _line(name: str, x: Any, y: Any, colour: str, **more: Any) -> dict[str, Any]:
    line = {"color": colour, "width": 1.6} | more.pop("line", {})
    return {
        "type": "scatter", "mode": "lines", "name": shown(name), "x": x, "y": y, "line": line, **more,
    }  # fmt: skip


def _growth(found: Mapping[str, Any]) -> Chart:
    lines = found["growth"]["lines"]
    traces = [
        _line(
            line["name"],
            "@growth",
            line["index"],
            COLOURS[i % len(COLOURS)],
            line={"width": 2.4} if i == 0 else {},
            hovertemplate="%{y:.4~g}",
        )
        for i, line in reversed(list(enumerate(lines)))  # the backtest itself is drawn last, above the others
    ]
    ticks = _log_ticks(lines)
    ends = ", ".join(f"{line['name']} {line['index'][-1]:,.2f}" for line in lines)
    return _chart(
        f"Growth of 1 from {found['setting']['first']} to {found['setting']['last']}; at the end: {ends}.",
        traces,
        by_year(found),
        {
            "yaxis": {"title": {"text": "growth of 1"}, **ticks},
            "legend": {"traceorder": "reversed"},
            "xaxis": _span(found["growth"]["dates"]),
        },
        log="checked" if ticks else "unchecked",
        tall=True,
    )


def _log_ticks(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """1, 2, 5, 10 … as far as the lines go; 1, 10, 100 … where that would be many. Nothing where they go nowhere."""
    values = [x for line in lines for x in line["index"] if x is not None and x > 0]
    if max(values) < LOG_RATIO * min(values):
        return {}
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= 4 else (1,)
    at = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"tickvals": at, "ticktext": [f"{x:,.10g}" for x in at]}


def _span(dates: Sequence[str]) -> dict[str, Any]:
    return {"range": [dates[0], dates[-1]]}


def _drawdown(found: Mapping[str, Any]) -> Chart:
    lines = found["growth"]["lines"]
    traces = [
        _line(
            line["name"],
            "@growth",
            line["drawdown_percent"],
            COLOURS[i % len(COLOURS)],
            hovertemplate="%{y:.2f} %",
            **({"fill": "tozeroy", "fillcolor": COLOURS[0] + "2e"} if i == 0 else {}),
        )
        for i, line in reversed(list(enumerate(lines)))
    ]
    deepest = ", ".join(f"{line['name']} {min(line['drawdown_percent']):.1f} %" for line in lines)
    return _chart(
        f"Fall from the highest value so far; deepest: {deepest}.",
        traces,
        by_date(
            found["growth"]["dates"], [(line["name"], line["drawdown_percent"]) for line in lines], "%", 2
        ),
        {
            "yaxis": {"title": {"text": "below the peak, %"}},
            "legend": {"traceorder": "reversed"},
            "xaxis": _span(found["growth"]["dates"]),
        },
    )


def _weights(found: Mapping[str, Any]) -> Chart:
    dates = found["growth"]["dates"]
    choices = []
    for asset in found["weights"]["assets"]:
        traces = [
            _step("band", asset["low"], dates, width=0, hoverinfo="skip", showlegend=False),
            _step("band", asset["high"], dates, width=0, fill="tonexty", fillcolor=COLOURS[0] + "26",
                  hoverinfo="skip"),
            _step("target", asset["target"], dates, width=1.2, dash="dash", hovertemplate="%{y:.2f} %"),
            _line("weight", "@growth", asset["weight"], COLOURS[0], hovertemplate="%{y:.2f} %"),
            {
                "type": "scatter", "mode": "markers", "name": "weight before a trade", "x": "@trades",
                "y": asset["before_trades"], "text": found["trades"]["why"],
                "marker": {"color": COLOURS[1], "size": 6}, "hovertemplate": "%{y:.2f} % (%{text})",
            },
        ]  # fmt: skip
        choices.append({"name": asset["name"], "traces": traces})
    return _chart(
        "One asset's weight over time with its target, its band and the rows that were traded.",
        [],
        per_asset(found),
        {"yaxis": {"title": {"text": "weight, %"}}, "xaxis": _span(dates)},
        choices=choices,
    )


def _step(name: str, values: Any, dates: Sequence[str], width: float, **more: Any) -> dict[str, Any]:
    """A line that jumps; one number is a level all the time."""
    x: Any = "@growth" if isinstance(values, list) else [dates[0], dates[-1]]
    y = values if isinstance(values, list) else [values, values]
    line = {"width": width, "shape": "hv"} | ({"dash": more.pop("dash")} if "dash" in more else {})
    return _line(name, x, y, COLOURS[7] if width else COLOURS[0], line=line, **more)


def _bars(name: str, x: Any, y: Any, colour: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "bar", "name": shown(name), "x": x, "y": y, "marker": {"color": colour}, **more,
    }  # fmt: skip


def _turnover(found: Mapping[str, Any]) -> Chart:
    years = found["years"]
    return _chart(
        "Turnover by year, bought and sold, in % of the value.",
        [
            _bars(
                "turnover",
                [str(row["year"]) for row in years],
                [row["turnover_percent"] for row in years],
                COLOURS[0],
                hovertemplate="%{y:.1f} %",
            )
        ],
        cost_table(found),
        {"yaxis": {"title": {"text": "bought and sold, %"}}, "xaxis": _year_axis(years)},
    )


def _year_axis(years: Sequence[Any]) -> dict[str, Any]:
    return {
        "type": "category",
        "range": [-0.6, max(len(years), LEAST_BARS) - 0.4],
        "nticks": YEAR_TICKS,
        "tickangle": 0,
    }


def _cost(found: Mapping[str, Any]) -> Chart | None:
    years = found["years"]
    traces = [
        _bars(
            cause,
            [str(row["year"]) for row in years],
            [row["cost_bps"][cause] for row in years],
            COLOURS[i],
            hovertemplate="%{y:.3~g} bps",
        )
        for i, cause in enumerate(years[0]["cost_bps"])
        if any(row["cost_bps"][cause] for row in years)
    ]
    if not traces:
        return None
    return _chart(
        "Cost of trading by year and cause, in basis points of the value.",
        traces,
        cost_table(found),
        {
            "barmode": "stack",
            "showlegend": True,
            "yaxis": {"title": {"text": "cost, bps of the value"}},
            "xaxis": _year_axis(years),
        },
    )


def _tracking(found: Mapping[str, Any]) -> Chart:
    part = found["tracking_error"]
    return _chart(
        "Rolling tracking error against the targets, % a year.",
        [_line("tracking error", part["dates"], part["percent"], COLOURS[0], hovertemplate="%{y:.2f} %")],
        by_date(part["dates"], [("tracking error", part["percent"])], "% a year", 2),
        {"yaxis": {"title": {"text": "% a year"}, "rangemode": "tozero"}},
    )


def _risk(found: Mapping[str, Any]) -> Chart:
    assets = found["risk"]["assets"]
    at = list(range(len(assets)))
    names = [shown(asset["name"]) for asset in assets]
    ticks = [shown(plain(asset["name"], TICK_LENGTH)) for asset in assets]
    return _chart(
        "Each asset's mean weight and mean part of the portfolio's variance, %.",
        [
            _bars(
                kind,
                at,
                [asset[f"{kind}_percent"] for asset in assets],
                colour,
                customdata=names,
                hovertemplate="%{customdata}: %{y:.2f} %",
            )
            for kind, colour in (("weight", COLOURS[7]), ("risk", COLOURS[0]))
        ],
        Table(
            ("asset", "weight, %", "risk, %"),
            [(a["name"], f"{a['weight_percent']:.2f}", f"{a['risk_percent']:.2f}") for a in assets],
        ),
        {
            "barmode": "group",
            "showlegend": True,
            "xaxis": {"tickvals": at, "ticktext": ticks, "type": "linear", "tickangle": -45},
            "yaxis": {"title": {"text": "%"}},
        },
    )


def _correlation(found: Mapping[str, Any]) -> Chart | None:
    part = found["correlation"]
    if part is None:
        return None
    return _chart(
        "Rolling correlation of the assets' returns: the mean of all pairs, and the lowest and highest.",
        [
            _line("lowest", part["dates"], part["lowest"], COLOURS[7], line={"width": 0.8},
                  hovertemplate="%{y:.2f}"),
            _line("highest", part["dates"], part["highest"], COLOURS[7], line={"width": 0.8}, fill="tonexty",
                  fillcolor=COLOURS[7] + "26", hovertemplate="%{y:.2f}"),
            _line("mean of all pairs", part["dates"], part["mean"], COLOURS[0], line={"width": 2.2},
                  hovertemplate="%{y:.2f}"),
        ],
        by_date(
            part["dates"], [("lowest", part["lowest"]), ("mean", part["mean"]), ("highest", part["highest"])], "", 2
        ),
        {"yaxis": {"title": {"text": "correlation"}}},
    )  # fmt: skip


# ---------------------------------------------------------------- sweep


def _sweep(part: Mapping[str, Any]) -> Chart | None:
    axes, measures = part["axes"], part["measures"]
    if len(axes) not in (1, 2) or not measures:
        return None
    draw = _curve if len(axes) == 1 else _heatmap
    choices = [
        {"name": label(name), **draw(axes, part["chosen"], name, _in_unit(name, values))}
        for name, values in measures.items()
    ]
    names = " and ".join(axis["setting"] for axis in axes)
    return _chart(
        f"The result at other values of {names}; the backtest's own setting is marked.",
        [],
        _sweep_table(axes, measures),
        {},
        choices=choices,
        tall=len(axes) == 2,
    )


def _in_unit(name: str, values: Sequence[Any]) -> list[Any]:
    factor = KINDS[LABELS[name][1]][0]
    return [None if x is None else factor * x for x in values]


def _curve(axes: Any, chosen: Mapping[str, Any], name: str, values: Sequence[Any]) -> dict[str, Any]:
    setting, at = axes[0]["setting"], axes[0]["values"]
    numeric = all(isinstance(x, int | float) for x in at)
    x = at if numeric else [axis_value(v) for v in at]
    traces = [
        _line(name, x, values, COLOURS[0], mode="lines+markers" if len(at) <= 60 else "lines", showlegend=False,
              hovertemplate="%{x}: %{y:.5~g}")
    ]  # fmt: skip
    own = chosen.get(setting)
    if own in at:
        traces.append(_marked([own if numeric else axis_value(own)], [values[at.index(own)]]))
    return {
        "traces": traces,
        "layout": {
            "xaxis": {"title": {"text": setting}, "type": "linear" if numeric else "category"},
            "yaxis": {"title": {"text": label(name) + KINDS[LABELS[name][1]][2]}},
        },
    }


def _heatmap(axes: Any, chosen: Mapping[str, Any], name: str, values: Sequence[Any]) -> dict[str, Any]:
    down, across = axes
    width, unit = len(across["values"]), KINDS[LABELS[name][1]][2]
    table = [values[i * width : (i + 1) * width] for i in range(len(down["values"]))]
    traces: list[dict[str, Any]] = [
        {
            "type": "heatmap", "x": list(range(width)), "y": list(range(len(table))), "z": table,
            "colorscale": "Viridis", "colorbar": {"thickness": 12, "outlinewidth": 0, "ticksuffix": unit},
            "customdata": [[[axis_value(a), axis_value(b)] for b in across["values"]] for a in down["values"]],
            "hovertemplate": f"{down['setting']} %{{customdata[0]}}<br>{across['setting']} %{{customdata[1]}}"
            f"<br>%{{z:.5~g}}{unit}<extra></extra>",
        }
    ]  # fmt: skip
    own = [chosen.get(axis["setting"]) for axis in axes]
    if own[0] in down["values"] and own[1] in across["values"]:
        traces.append(_marked([across["values"].index(own[1])], [down["values"].index(own[0])]))
    return {
        "traces": traces,
        "layout": {
            "xaxis": _steps(across) | {"title": {"text": across["setting"]}},
            "yaxis": _steps(down) | {"title": {"text": down["setting"]}},
            "hovermode": "closest",
        },
    }


def _steps(axis: Mapping[str, Any]) -> dict[str, Any]:
    """An axis of evenly spaced cells, a dozen of them named."""
    count = len(axis["values"])
    at = list(range(0, count, max(1, -(-count // 12))))
    return {
        "type": "linear", "tickvals": at, "ticktext": [axis_value(axis["values"][i]) for i in at],
        "showgrid": False,
    }  # fmt: skip


def _marked(x: Sequence[Any], y: Sequence[Any]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": "this backtest", "x": list(x), "y": list(y),
        "marker": {"symbol": "circle-open", "size": 16, "color": COLOURS[1], "line": {"width": 3}},
        "hovertemplate": "this backtest<extra></extra>", "showlegend": True,
    }  # fmt: skip


def _sweep_table(axes: Any, measures: Mapping[str, Sequence[Any]]) -> Table:
    """The combinations, best first by the first measure; 40 of them."""
    names = list(measures)
    combinations: list[tuple[Any, ...]] = [()]
    for axis in axes:
        combinations = [(*some, value) for some in combinations for value in axis["values"]]
    rows = sorted(
        zip(combinations, *measures.values(), strict=True),
        key=lambda row: -(row[1] if row[1] is not None else float("-inf")),
    )[:40]
    return Table(
        (*(axis["setting"] for axis in axes), *map(label, names)),
        [(*map(axis_value, row[0]), *map(measure_text, names, row[1:])) for row in rows],
        note=f"The best {len(rows)} of {len(combinations)} by {label(names[0])}.",
    )
