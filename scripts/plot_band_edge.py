"""Draws docs/img/band_edge.png: what bands cost, by formula (lines) and by simulation (dots).

python scripts/plot_band_edge.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from offchain.planner.bands import Drift, band, cost_rate, edge_width, target_width  # noqa: E402

PICTURE = ROOT / "docs" / "img" / "band_edge.png"
PATHS, STEPS = 2_000, 8_000
BPS = 1e4


def drift(fixed_bps: float) -> Drift:
    """A quarter of the basket, 60 % volatile, aversion 5, 30 bps a trade; fixed cost in bps of NAV."""
    return Drift.of(0.25, 0.6, aversion=5, cost=0.003, fixed=fixed_bps / BPS)


def simulated(costs: Drift, half_width: float, stop: float, shocks: np.ndarray, step_size: float) -> float:
    """NAV a year, mean over paths of a weight that moves step_size times a shock each step."""
    # the long run's distribution of x is a trapezoid: the sum of two uniform numbers
    rng, sides = np.random.default_rng(2), np.array([[half_width + stop], [half_width - stop]]) / 2
    x = (rng.uniform(-sides, sides, (2, shocks.shape[1])).sum(0)).astype(np.float32)
    paid, years = 0.0, len(shocks) * (step_size / costs.b) ** 2
    for shock in shocks:
        x += shock * np.float32(step_size)
        out = np.abs(x) >= half_width
        after = np.where(out, np.copysign(np.float32(stop), x), x)
        paid += costs.a * (step_size / costs.b) ** 2 * float(np.mean(after * after))
        paid += costs.c * float(np.mean(np.abs(x - after))) + costs.k * float(np.mean(out))
        x = after
    return paid / years


def main() -> None:
    """Left: half-width, to the edge or to target. Right: where to stop, as a trade's fixed cost grows."""
    shocks = np.random.default_rng(1).standard_normal((STEPS, PATHS), np.float32)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    costs = drift(0)
    step_size = edge_width(costs) / 30
    widths = np.linspace(0.4, 3.2, 100) * edge_width(costs)
    for name, color, is_edge, best in (
        ("to the edge", "tab:blue", 1, edge_width(costs)),
        ("to the target", "tab:red", 0, target_width(costs)),
    ):
        left.plot(
            100 * widths, [BPS * cost_rate(costs, h, is_edge * h) for h in widths], color=color, label=name
        )
        for h in widths[4::19]:
            left.plot(
                100 * h, BPS * simulated(costs, h, is_edge * h, shocks, step_size), "o", color=color, ms=4
            )
        left.plot(100 * best, BPS * cost_rate(costs, best, is_edge * best), "*", color=color, ms=14)
    left.set(
        xlabel="half-width of the band, points of weight", ylabel="cost, bps of NAV a year", ylim=(0, 45)
    )
    left.set_title("30 bps a trade: stopping at the edge is cheaper")
    left.legend()
    for fixed, color in ((0.0, "tab:blue"), (0.1, "tab:green"), (0.5, "tab:orange"), (2.0, "tab:red")):
        costs = drift(fixed)
        best = band(costs)
        shares = np.linspace(0, 1 if fixed == 0 else 0.97, 60)
        least = cost_rate(costs, best.half_width, best.stop)
        # at each share of the way out, the best band that stops there
        tries = np.linspace(0.5, 2.5, 200) * best.half_width
        rates = [min((cost_rate(costs, h, s * h), h) for h in tries) for s in shares]
        right.plot(
            shares, [r / least for r, _ in rates], color=color, label=f"and {fixed:g} bps of NAV fixed"
        )
        right.plot(best.stop / best.half_width, 1, "*", color=color, ms=14)
        for share, (_, h) in list(zip(shares, rates, strict=True))[::15]:
            rate = simulated(costs, h, share * h, shocks, step_size)
            right.plot(share, rate / least, "o", color=color, ms=4)
    right.set(
        xlabel="where the trade stops: 0 target, 1 edge",
        ylabel="cost / cost of the best band",
        ylim=(0.95, 2),
    )
    right.set_title("a fixed cost moves the stop inside")
    right.legend()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
