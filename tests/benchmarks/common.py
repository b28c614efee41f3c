"""What the planner's benchmarks share: taking turns, rows with goals, tables, growth curves.

A row of a report: name, size, ours, anchor, anchor_name, ratio (ours / anchor), goal (the ratio is at most this; null:
only told). More keys: `unit`; `kind`, "time" or "answer"; `noted`, what the anchors' author measured for anchor_name on
another machine in November 2026, in the same unit.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported: one BLAS thread for everybody

import matplotlib as mpl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

mpl.use("Agg")
from matplotlib import pyplot as plt

REPORTS = Path(__file__).resolve().parents[2] / "reports" / "benchmarks"
Row = dict[str, Any]
Curves = Mapping[str, Mapping[int, float]]  # name -> size -> time


def row(
    name: str,
    size: object,
    ours: float,
    anchor: float,
    anchor_name: str,
    goal: float | None,
    unit: str,
    kind: str = "time",
    **more: object,
) -> Row:
    """One comparison."""
    return {
        "name": name, "size": size, "ours": ours, "anchor": anchor, "anchor_name": anchor_name,
        "ratio": ours / anchor, "goal": goal, "unit": unit, "kind": kind, **more,
    }  # fmt: skip


def is_met(line: Row) -> bool:
    """The goal, where there is one."""
    return line["goal"] is None or line["ratio"] <= line["goal"]


def taking_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, repeats: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """CPU seconds a call by name, a figure a round: in each, all take turns, 1 call or `repeats` in a row.

    Time of the calling thread, so that who else uses the machine matters little; a peer's other threads go uncounted.
    """
    spent: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                times = (repeats or {}).get(name, 1)
                start = time.thread_time()
                for _ in range(times):
                    call()
                spent[name].append((time.thread_time() - start) / times)
    finally:
        gc.enable()
    return spent


def progress() -> Progress:
    """A bar that tells what is being measured."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def show(title: str, rows: Iterable[Row], note: str = "") -> None:
    """The rows as a table, ratios green where the goal is met."""
    table = Table(title=title, caption=note or None, caption_justify="left")
    for name in ("what", "size", "ours", "beside", "its", "noted", "unit", "ratio", "goal"):
        table.add_column(name, justify="left" if name in ("what", "beside", "unit") else "right")
    for line in rows:
        colour = "" if line["goal"] is None else "[green]" if is_met(line) else "[bold red]"
        noted = line.get("noted")
        table.add_row(
            line["name"], str(line["size"]), figure(line["ours"]), line["anchor_name"], figure(line["anchor"]),
            "" if noted is None else figure(noted), line["unit"], colour + figure(line["ratio"]),
            "" if line["goal"] is None else f"≤ {line['goal']:.3g}",
        )  # fmt: skip
    Console(width=132).print(table)


def figure(number: float) -> str:
    """Three digits."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def write(name: str, rows: Sequence[Row]) -> None:
    """reports/benchmarks/<name>.json"""
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(json.dumps(list(rows), indent=1) + "\n")


def draw(name: str, panels: Sequence[tuple[str, str, str, Curves]]) -> None:
    """Growth with size, logarithmic on both axes: (title, label of the sizes, of the times, curves) side by side."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(7 * len(panels), 4.8), layout="constrained", squeeze=False
    )
    for axis, (title, sizes, times, curves) in zip(axes[0], panels, strict=True):
        for label, points in curves.items():
            ours = label.startswith("ours")
            axis.plot(
                list(points), list(points.values()), label=label, marker="o", markersize=3,
                linewidth=2.5 if ours else 1, color="black" if ours else None,
                linestyle="--" if "warm" in label or "whole" in label else "-",
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", title=title, xlabel=sizes, ylabel=times)
        ticks = sorted({size for points in curves.values() for size in points})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    REPORTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(REPORTS / f"{name}.png", dpi=110)
    plt.close(figure)
