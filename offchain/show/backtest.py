"""`evenkeel backtest` for people: a file to start from, and the report's key figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["EXAMPLE", "print_report"]

COLUMNS = 4  # of policies that fit
SENTENCES = 4  # of the evidence
WORDS = {  # of the measures, short
    "cagr": "CAGR",
    "volatility": "volatility",
    "sharpe": "Sharpe",
    "sortino": "Sortino",
    "max_drawdown": "max drawdown",
    "turnover_a_year": "turnover a year",
    "cost_bps_a_year": "cost a year",
    "rebalances": "rebalances",
}
EXAMPLE = """\
# A backtest of Evenkeel:  evenkeel backtest sp500.toml
# Every key but [data] source may be left out. Fractions: 0.05 is 5 %; bps: 100 are 1 %.

name = "Twenty shares, equal weights, 5/25"
cash = 1_000_000                    # to start with, in the prices' money
engine = "fast"                     # or "integer" or "evm": to the wei, slower

[data]
source = "sp500"                    # twenty US shares, 1990 to 2022, bundled; or "csv", "parquet", "ccxt", "chain"
# path = "prices.csv"               # a column a share, a row a close: for "csv" and "parquet"
# assets = ["AAPL", "KO", "XOM"]    # all by default
# start = 2000-01-01
# end = 2019-12-31

[strategy]
name = "equal"                      # or "min-variance", "risk-parity", …, or a file of your own

[policy]                            # when to trade: the vault's words
mode = "either"                     # "calendar", "threshold", "either", "both"
band_points_bps = 500               # an asset may be 5 points from its target …
band_relative_bps = 2_500           # … or 25 % of it, whichever is less
calendar_every = 3                  # months
rebalance_to = "target"             # or "close", "half band", "edge"

[costs]
proportional_bps = 10               # of what is traded
# per_leg = 2.0                     # for each asset that is traded, such as gas

[[compare]]                         # other policies, what they do not say is as above
name = "Each quarter"
policy.mode = "calendar"

[[compare]]
name = "Bands of 2 points"
policy.band_points_bps = 200
policy.band_relative_bps = 10_000

[sweep]                             # the result at other settings, each with each
band_relative_bps = { from = 500, to = 5_000, count = 10 }
calendar_every = [1, 2, 3, 6, 12]
"""


def print_report(found: Mapping[str, Any], console: Console) -> None:
    """A heading, the evidence's sentences, a table of the most important figures, the data's warnings."""
    from offchain.backtest.report.tables import key_figures

    setting = found["setting"]
    console.print(Text(found["title"], "bold"))
    console.print(
        Text(
            f"{setting['first']} to {setting['last']}, {setting['rows']:,} rows, {len(setting['assets'])} assets, "
            f"{setting['engine']} engine"
        )
    )
    sentences = (found["evidence"] or {}).get("sentences", [])
    for sentence in sentences[:SENTENCES]:
        console.print(Text(f"- {sentence}"))
    if len(sentences) > SENTENCES:
        console.print(Text(f"- and {len(sentences) - SENTENCES} more findings in the report", "dim"))
    figures = key_figures(found, tuple(WORDS))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    first = [1, 1 + found["measures"]["benchmark"]]  # columns: the backtest and what it is measured against
    shown = [*first, *(i for i in range(1, len(figures.head)) if i not in first)][:COLUMNS]
    table.add_column("")
    for i in shown:
        table.add_column(Text(figures.head[i]), justify="right", overflow="fold")
    for words, row in zip(WORDS.values(), figures.rows, strict=True):
        table.add_row(words, *(Text(row[i]) for i in shown))
    console.print(table)
    left = len(figures.head) - 1 - COLUMNS
    if left > 0:
        console.print(Text(f"and {left} more in the report", "dim"))
    for warning in found["data"].get("warnings", []):
        console.print(Text(f"data: {warning}", "yellow"))
    for note in found["notes"]:
        console.print(Text(note, "dim"))
