"""make bench-planner: the optimal trade, the split over pools and the joint problem beside their peers, in one run.

    python -m tests.benchmarks.planner [--quick] [--only tracking|route|joint]

Prints a table each with ratios and goals, writes reports/benchmarks/{tracking,route,joint}.json (rows as in `common`)
and planner.png (growth with n and k). Ratios within a run are what counts: times are this machine's, with what else
runs on it. Ends with 1 when an answer misses its goal (a gap, a broken constraint, a worse plan); a missed time is only
told.
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks import common, joint, route, tracking

PARTS = {
    "tracking": (tracking, "b. Optimal trade: tracking risk and costs over n assets", "ms"),
    "route": (route, "c. One order over k pools", "µs"),
    "joint": (joint, "Joint problem: 8 assets, 40 pools, V2 and V3, two hops, gas", "ms"),
}
SIZE_OF = {"tracking": "assets", "route": "pools"}


def main() -> int:
    """Measure, show, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of less than a minute")
    parser.add_argument("--only", choices=PARTS, help="one of the three")
    args = parser.parse_args()
    found, panels, notes = {}, [], {}
    with common.progress() as bar:
        for name, (part, title, unit) in PARTS.items():
            if args.only in (None, name):
                task = bar.add_task(name, total=part.ticks(args.quick))
                found[name], curves, notes[name] = part.run(args.quick, lambda task=task: bar.advance(task))
                common.write(name, found[name])
                if name in SIZE_OF:
                    panels.append((title, SIZE_OF[name], f"{unit}, median", curves))
    for name, rows in found.items():
        common.show(PARTS[name][1], rows, notes[name])
    if panels:
        common.draw("planner", panels)
    return verdict([line for rows in found.values() for line in rows])


def verdict(rows: list[common.Row]) -> int:
    """Goals met and missed; the exit code."""
    goals = [line for line in rows if line["goal"] is not None]
    missed = [line for line in goals if not common.is_met(line)]
    print(f"goals met: {len(goals) - len(missed)} of {len(goals)}")
    for line in missed:
        beside = f"{line['name']}, {line['size']}, beside {line['anchor_name']}"
        print(f"missed: {beside}: {line['ratio']:.3g} > {line['goal']:.3g}")
    return int(any(line["kind"] == "answer" for line in missed))


if __name__ == "__main__":
    sys.exit(main())
