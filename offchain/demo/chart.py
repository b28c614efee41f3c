"""The demo's chart: each vault's weights against its bands, and share prices against buy-and-hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")  # no display

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from offchain import policy
from offchain.demo.report import Rebalance, VaultRun
from offchain.demo.world import TOKENS

__all__ = ["draw"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7f7f7f")  # of TOKENS; distinct for the colour-blind
VAULT_COLOURS = ("#56b4e9", "#e69f00", "#cc79a7")
PERCENT = 1e16  # WAD


def draw(runs: list[VaultRun], file: Path) -> None:
    """Write the chart as PNG."""
    figure, axes = plt.subplots(len(runs) + 1, 1, figsize=(12, 3.1 * (len(runs) + 1)), sharex=True)
    for axis, run in zip(axes, runs, strict=False):
        _draw_weights(axis, run)
    _draw_nav(axes[-1], runs)
    figure.suptitle("Evenkeel: three vaults through the same market", fontsize=14, x=0.07, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_weights(axis: Axes, run: VaultRun) -> None:
    dates = _days(run)
    bands = policy.bands(run.state)
    for i, (token, colour) in enumerate(zip(TOKENS, COLOURS, strict=True)):
        target, band = token.target_bps / 100, bands[i] / PERCENT
        axis.axhspan(target - band, target + band, color=colour, alpha=0.07, linewidth=0)
        axis.axhline(target, color=colour, linewidth=0.8, linestyle=(0, (4, 4)))
        axis.plot(
            dates,
            [p.weights[i] / PERCENT for p in run.points],
            color=colour,
            label=token.symbol,
            linewidth=1.5,
        )
    for rebalance in run.rebalances:
        moment: Any = rebalance.date  # matplotlib takes dates, its types do not say so
        axis.axvline(moment, color="black", linewidth=0.7, linestyle=":")
    axis.set_title(
        f"{run.name}: {_count(run.rebalances)} (dotted), targets dashed, bands shaded",
        fontsize=10,
        loc="left",
    )
    axis.set_ylabel("weight, %")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axis.margins(x=0.005)


def _draw_nav(axis: Axes, runs: list[VaultRun]) -> None:
    for run, colour in zip(runs, VAULT_COLOURS, strict=False):
        dates = _days(run)
        axis.plot(
            dates, [p.share_price / PERCENT for p in run.points], color=colour, label=run.name, linewidth=1.5
        )
    held = [point.held / PERCENT for point in runs[0].points]
    dates = _days(runs[0])
    axis.plot(dates, held, color="black", linewidth=1.2, linestyle="--", label="buy and hold")
    axis.set_title("NAV of a share, first day = 100, costs included", fontsize=10, loc="left")
    axis.set_ylabel("index")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axis.margins(x=0.005)


def _days(run: VaultRun) -> NDArray[np.datetime64]:
    return np.array([point.date for point in run.points], dtype="datetime64[D]")


def _count(rebalances: list[Rebalance]) -> str:
    return f"{len(rebalances)} rebalance{'' if len(rebalances) == 1 else 's'}"
