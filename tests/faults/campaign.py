"""Faults by the hundred against real keeper processes on a local chain, and the chain's word against the journals'.

    make faults RUNS=300             from a random seed, which it prints
    make faults SEED=7 RUNS=1        one run again: what is drawn is the same, how processes interleave is not
    make faults MINUTES=60           endurance: `evenkeel keeper run`, several of them, moving prices (endurance.py)

Writes reports/faults.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.faults.episode import Episode, Verdict, processes
from tests.faults.keeper import TIMEOUT_SECONDS
from tests.faults.proxy import proxy
from tests.faults.scenario import KINDS, Scenario, draw
from tests.faults.stage import may_mount, staged
from tests.support.postgres import Postgres

REPORT = Path("reports/faults.json")


def run(
    numbers: Iterable[int], console: Console, only: str = "", postgres: bool = True, jobs: int = 1
) -> list[Verdict]:
    """The runs of these numbers, on `jobs` chains at a time."""
    kinds = (only,) if only else tuple(kind for kind in KINDS if kind != "full disk" or may_mount())
    if "full disk" not in kinds and not only:
        console.print("[yellow]no full disk: a small one (tmpfs) can only be mounted as root")
    todo, verdicts = [draw(number, kinds, postgres) for number in numbers], []
    waiting, context = iter(todo), processes()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("runs", total=len(todo))

        def work() -> None:
            for verdict in _runs(waiting, context, postgres):
                verdicts.append(verdict)
                progress.update(bar, advance=1, description=verdict.scenario.kind)
                if verdict.wrong:
                    _say_failure(console, verdict)
                if progress.disable and len(verdicts) % 25 == 0:
                    console.print(f"{len(verdicts)} runs")

        with ThreadPoolExecutor(jobs) as pool:
            working = [pool.submit(work) for _ in range(jobs)]
            try:
                wait(working)
            except KeyboardInterrupt:  # those under way are finished, and what was done is told
                list(waiting)
            for one in working:
                one.result()
    return verdicts


def _runs(waiting: Iterator[Scenario], context: ForkServerContext, postgres: bool) -> Iterator[Verdict]:
    """One chain, and run after run on it while there are any."""
    with ExitStack() as stack:
        server = stack.enter_context(_server()) if postgres else None
        stage = stack.enter_context(staged(server))
        proxies = [stack.enter_context(proxy(stage.chain.url, 1.5 * TIMEOUT_SECONDS)) for _ in range(2)]
        for scenario in waiting:
            yield Episode(stage, context, proxies, scenario).run()


class _server:
    """A PostgreSQL server for the campaign."""

    def __enter__(self) -> Postgres:
        self.server = Postgres()
        return self.server

    def __exit__(self, *_: object) -> None:
        self.server.close()


def _say_failure(console: Console, verdict: Verdict) -> None:
    scenario = verdict.scenario
    console.print(
        f"[red]failed[/red]: {scenario.kind}, {scenario.crew}, {scenario.vaults} vault(s): "
        f"{scenario.faults} {scenario.trouble}"
    )
    for line in verdict.wrong:
        console.print(f"  {line}", highlight=False)
    console.print(
        f"  again: make faults SEED={scenario.number} RUNS=1; what the keepers said: {verdict.folder}"
    )


def table(verdicts: list[Verdict]) -> Table:
    """Runs, faults and failures by kind."""
    found = Table(title="Fault campaign")
    for name in ("kind of run", "runs", "faults that happened", "failed", "seconds a run"):
        found.add_column(name, justify="left" if name == "kind of run" else "right")
    for kind in KINDS:
        mine = [verdict for verdict in verdicts if verdict.scenario.kind == kind]
        if mine:
            found.add_row(kind, *_figures(mine))
    found.add_section()
    found.add_row("all", *_figures(verdicts))
    return found


def faults_table(verdicts: list[Verdict]) -> Table:
    """How often each fault happened."""
    found = Table(title="Faults that happened")
    found.add_column("fault")
    found.add_column("times", justify="right")
    for name, count in sorted(_fired(verdicts).items()):
        found.add_row(name, str(count))
    return found


def _fired(verdicts: list[Verdict]) -> Counter[str]:
    return sum((verdict.fired for verdict in verdicts), Counter())


def _figures(verdicts: list[Verdict]) -> tuple[str, ...]:
    seconds = sum(verdict.seconds for verdict in verdicts) / len(verdicts)
    failed = sum(bool(verdict.wrong) for verdict in verdicts)
    return str(len(verdicts)), str(_fired(verdicts).total()), str(failed), f"{seconds:.1f}"


def report(verdicts: list[Verdict], first: int, seconds: float) -> dict[str, Any]:
    """The campaign in JSON values."""
    kinds = Counter(verdict.scenario.kind for verdict in verdicts)
    crews = Counter(verdict.scenario.crew for verdict in verdicts)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": first,
        "runs": len(verdicts),
        "seconds": round(seconds),
        "failed": sum(bool(verdict.wrong) for verdict in verdicts),
        "runs_by_kind": dict(sorted(kinds.items())),
        "runs_by_keepers": dict(sorted(crews.items())),
        "faults": dict(sorted(_fired(verdicts).items())),
        "failures": [
            {"seed": v.scenario.number, "kind": v.scenario.kind, "keepers": v.scenario.crew, "wrong": v.wrong}
            for v in verdicts
            if v.wrong
        ],
    }


def write(found: dict[str, Any], path: Path = REPORT) -> None:
    """Beside what other campaigns wrote."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Kill, cut off, reorganise and fill up; then compare journal and chain."
    )
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None, help="number of the first run")
    parser.add_argument(
        "--minutes", type=float, default=0, help="endurance with real keeper processes instead"
    )
    parser.add_argument(
        "--only", choices=KINDS, default="", help="runs of one kind (changes what a seed draws)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="chains at a time")
    arguments = parser.parse_args()
    console = Console()
    first = random.randrange(10**6) if arguments.seed is None else arguments.seed
    console.print(f"SEED={first}")
    if arguments.minutes:
        from tests.faults.endurance import endure

        return endure(console, first, arguments.minutes * 60)
    begun = time.monotonic()
    verdicts = run(range(first, first + arguments.runs), console, arguments.only, jobs=arguments.jobs)
    console.print(table(verdicts), faults_table(verdicts))
    write(report(verdicts, first, time.monotonic() - begun))
    failed = sum(bool(verdict.wrong) for verdict in verdicts)
    console.print(f"{failed} of {len(verdicts)} runs failed; {REPORT}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
