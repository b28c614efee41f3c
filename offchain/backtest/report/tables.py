"""Tables of a report, for the page beside its charts and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offchain.backtest.model import CAUSES

__all__ = [
    "LABELS",
    "Table",
    "axis_value",
    "by_date",
    "by_year",
    "cost_table",
    "key_figures",
    "measure_text",
    "per_asset",
]

DATE_ROWS = 24  # of a table beside a chart over time
# measure: label, how to show it
LABELS = {
    "cagr": ("CAGR (growth a year)", "percent"),
    "volatility": ("Volatility a year", "percent"),
    "sharpe": ("Sharpe ratio", "number"),
    "sortino": ("Sortino ratio", "number"),
    "calmar": ("Calmar ratio", "number"),
    "max_drawdown": ("Maximum drawdown", "percent"),
    "max_drawdown_days": ("… from peak to recovery", "days"),
    "underwater_days": ("Longest time below a peak", "days"),
    "cvar_95": ("CVaR 95 % of a row", "percent"),
    "total_return": ("Total return", "percent"),
    "best_year": ("Best calendar year", "percent"),
    "worst_year": ("Worst calendar year", "percent"),
    "tracking_error": ("Tracking error to the benchmark", "percent"),
    "tracking_error_to_targets": ("Tracking error to the targets", "percent"),
    "distance_from_targets": ("Mean distance from the targets", "percent"),
    "rebalances": ("Rebalances", "count"),
    "turnover_a_year": ("Turnover a year (bought and sold)", "percent"),
    "cost_bps_a_year": ("Cost of trading a year", "bps"),
    **{f"cost_{cause}_bps_a_year": (f"… {cause}", "bps") for cause in CAUSES},
    "fees_bps_a_year": ("Management fee a year", "bps"),
    "annual_return": ("Growth a year", "percent"),  # of a sweep, by `STATISTICS`
    "annual_volatility": ("Volatility a year", "percent"),
    "annual_turnover": ("Turnover a year", "percent"),
    "cost": ("Cost of trading in all", "count"),
    "skew": ("Skewness", "number"),
    "kurtosis": ("Kurtosis", "number"),
}
STATED = ("years", "rows_per_year", "risk_free")  # the same for all, in words under Method
KINDS = {  # factor, digits, unit
    "percent": (100, 2, " %"),
    "bps": (1, 2, " bps"),
    "days": (1, 0, " days"),
    "count": (1, 0, ""),
    "number": (1, 3, ""),
}


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def measure_text(name: str, value: Any) -> str:
    """A measure as people read it."""
    if value is None:
        return "–"
    kind = LABELS.get(name, ("", "number"))[1]
    factor, digits, unit = KINDS[kind]
    text = f"{factor * value:,.{digits}f}"
    return (text.replace("-", "−") if text.strip("-0.,") else text.lstrip("-")) + unit


def label(name: str) -> str:
    """A measure's name as people read it."""
    return LABELS[name][0] if name in LABELS else name.replace("_", " ")


def key_figures(found: Mapping[str, Any], only: Sequence[str] = ()) -> Table:
    """Measures by policy: a column a policy."""
    rows = {row["measure"]: row["values"] for row in found["measures"]["rows"]}
    wanted = only or [
        name
        for name in (*LABELS, *rows)
        if name in rows and name not in STATED and not (name.startswith("cost_") and not any(rows[name]))
    ]
    causes = {
        f"cost_{cause}_bps_a_year": f"… {words}"
        for cause, words in zip(CAUSES, found["years"][0]["cost_bps"], strict=True)
    }
    return Table(
        ("", *found["measures"]["of"]),
        [
            (causes.get(name) or label(name), *(measure_text(name, value) for value in rows[name]))
            for name in dict.fromkeys(wanted)
            if name in rows
        ],
    )


def by_year(found: Mapping[str, Any]) -> Table:
    """Returns by calendar year."""
    return Table(
        ("year", *(f"{name}, %" for name in found["measures"]["of"])),
        [
            (str(row["year"]), *("–" if x is None else f"{x:.2f}" for x in row["return_percent"]))
            for row in found["years"]
        ],
        note="Returns by calendar year, the first without the first purchase; the first and the last may be parts of a "
        "year.",
    )


def cost_table(found: Mapping[str, Any]) -> Table:
    """Trades, turnover and cost by calendar year."""
    causes = list(found["years"][0]["cost_bps"])
    return Table(
        ("year", "trades", "turnover, %", *(f"{cause}, bps" for cause in causes)),
        [
            (
                str(row["year"]),
                str(row["trades"]),
                f"{row['turnover_percent']:.1f}",
                *(f"{row['cost_bps'][cause]:.3g}" for cause in causes),
            )
            for row in found["years"]
        ],
    )


def per_asset(found: Mapping[str, Any]) -> Table:
    """Each asset's weights, target and band."""
    rows = []
    for asset in found["weights"]["assets"]:
        weights = [x for x in asset["weight"] if x is not None]
        rows.append(
            (
                asset["name"],
                f"{sum(weights) / len(weights):.2f}",
                f"{min(weights):.2f}",
                f"{max(weights):.2f}",
                _range(asset["target"]),
                f"{_range(asset['low'])} to {_range(asset['high'])}"
                if not isinstance(asset["low"], list)
                else "moves",
            )
        )
    return Table(
        ("asset", "mean, %", "lowest, %", "highest, %", "target, %", "band, %"),
        rows,
        note="Of the charted rows.",
    )


def _range(values: Any) -> str:
    if not isinstance(values, list):
        return f"{values:.2f}"
    known = [x for x in values if x is not None]
    return f"{min(known):.2f} to {max(known):.2f}"


def by_date(
    dates: Sequence[str], lines: Sequence[tuple[str, Sequence[Any]]], unit: str, digits: int
) -> Table:
    """Some of the rows, evenly spaced, the last included."""
    count = len(dates)
    at = sorted({round(i * (count - 1) / (DATE_ROWS - 1)) for i in range(DATE_ROWS)}) if count else []
    comma = f", {unit}" if unit else ""
    return Table(
        ("date", *(f"{name}{comma}" for name, _ in lines)),
        [
            (dates[i], *("–" if y[i] is None else f"{y[i]:.{digits}f}" for _, y in lines))
            for i in at
        ],
    )  # fmt: skip


def axis_value(value: Any) -> str:
    """A setting's value in a table or on an axis."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
