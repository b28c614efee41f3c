"""The demo's chart: each vault's weights against its bands, and share prices against buy-and-hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

matplotlib.use("Agg")  # no display

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, MonthLocator

from offchain import policy
from offchain.demo.report import Rebalance, VaultRun
from offchain.demo.world import TOKENS

__all__ = ["draw"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7a5195")  # of TOKENS; distinct for the colour-blind
VAULT_COLOURS = ("#56b4e9", "#e69f00", "#cc79a7")
PERCENT = 1e16  # WAD
SIZE = (14, 11)  # inches
DPI = 100


def draw(runs: list[VaultRun], file: Path) -> None:
    """Write the chart as PNG."""
    figure = plt.figure(figsize=SIZE, layout="constrained")
    grid = figure.add_gridspec(len(runs) + 1, len(TOKENS), height_ratios=[1] * len(runs) + [1.5])
    for i, token in enumerate(TOKENS):
        first: Axes | None = None
        for row, run in enumerate(runs):
            axis = figure.add_subplot(grid[row, i], sharex=first, sharey=first)
            first = first or axis
            _draw_weight(axis, run, i)
            if row == 0:
                axis.set_title(token.symbol, color=COLOURS[i], fontweight="bold")
            if i == 0:
                axis.set_ylabel(f"{run.name}\nweight, %")
    _draw_nav(figure.add_subplot(grid[len(runs), :]), runs)
    _describe(figure, runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def _describe(figure: Figure, runs: list[VaultRun]) -> None:
    first, last = runs[0].points[0].date, runs[0].points[-1].date
    figure.suptitle(
        f"Evenkeel: the same market, {first} to {last}, under three policies\n"
        "dashed: target, shaded: band, dots: weights as a rebalance found them",
        fontsize=12,
    )


def _draw_weight(axis: Axes, run: VaultRun, index: int) -> None:
    colour, target = COLOURS[index], TOKENS[index].target_bps / 100
    band = policy.bands(run.state)[index] / PERCENT
    axis.axhspan(target - band, target + band, color=colour, alpha=0.12, linewidth=0)
    axis.axhline(target, color=colour, linewidth=0.9, linestyle="--")
    axis.plot(
        _days(run), [point.weights[index] / PERCENT for point in run.points], color=colour, linewidth=1.3
    )
    when = np.array([rebalance.date for rebalance in run.rebalances], dtype="datetime64[D]")
    found = [_weights_before(run, rebalance)[index] / PERCENT for rebalance in run.rebalances]
    axis.plot(when, found, "o", color=colour, markersize=4)
    for rebalance in run.rebalances:
        moment: Any = rebalance.date  # matplotlib takes dates, its types do not say so
        axis.axvline(moment, color="black", linewidth=0.6, linestyle=":")
    _dates(axis)


def _draw_nav(axis: Axes, runs: list[VaultRun]) -> None:
    for run, colour in zip(runs, VAULT_COLOURS, strict=False):
        label = f"{run.name}, {len(run.rebalances)} rebalances"
        prices = [point.share_price / PERCENT for point in run.points]
        axis.plot(_days(run), prices, color=colour, label=label, linewidth=1.6)
    held = [point.held / PERCENT for point in runs[0].points]
    axis.plot(_days(runs[0]), held, color="black", linewidth=1.2, linestyle="--", label="buy and hold")
    axis.set_title("NAV of a share, first day = 100, trading costs included")
    axis.set_ylabel("index")
    axis.grid(alpha=0.25)
    axis.legend(loc="upper left", frameon=False)
    _dates(axis)


def _dates(axis: Axes) -> None:
    locator = MonthLocator(interval=2)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axis.margins(x=0.01)


def _weights_before(run: VaultRun, rebalance: Rebalance) -> list[int]:
    return policy.weights(replace(run.state, prices=rebalance.prices), rebalance.balances_before)


def _days(run: VaultRun) -> NDArray[np.datetime64]:
    return np.array([point.date for point in run.points], dtype="datetime64[D]")
