"""Break the contracts on purpose, one rule at a time, and see whether a test notices.

    python tests/mutation/mutate.py                      every mutant of every contract
    python tests/mutation/mutate.py Vault flow           only of these files
    python tests/mutation/mutate.py --sample 50          that many, chosen at random (--seed)
    python tests/mutation/mutate.py --list               print the mutants

Mutants: each `assert` removed; each comparison in it, in an `if` or in a conditional moved by one (`>=` to `>`, `<` to
`<=`) or turned round; each rounding up made down; each `min` and `max` exchanged; each `+=` and `-=` exchanged; each
lock removed. A mutant is killed when the tests named for its contract fail. Survivors that change nothing anybody can
see are argued in equivalent.json; any other survivor makes the run fail. Results: reports/mutation.json. A run goes on
from where the last one ended unless --fresh is given: results are kept by the mutant's and the tests' text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import local

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "reports" / "mutation.json"
KEPT = ROOT / "build" / "mutation.json"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
TIMEOUT = 600  # seconds; a mutant that runs longer is killed
UNIT = "tests/unit"
TRADES = [f"{UNIT}/vault", f"{UNIT}/attacks", "tests/stateful"]
# file -> the tests that must notice, quickest first
TESTS: dict[str, list[str]] = {
    "Vault": [f"{UNIT}/vault", f"{UNIT}/vault_factory", f"{UNIT}/attacks", "tests/stateful"],
    "RuleBook": [*TRADES, f"{UNIT}/vault_factory", f"{UNIT}/timelock"],
    "Timelock": [f"{UNIT}/timelock", f"{UNIT}/attacks"],
    "VaultFactory": [f"{UNIT}/vault_factory", f"{UNIT}/attacks"],
    "PriceOracle": [f"{UNIT}/price_oracle"],
    "Executor": [f"{UNIT}/executor"],
    "Zap": [f"{UNIT}/zap"],
    "Teller": [f"{UNIT}/teller"],
    "Auction": [f"{UNIT}/auction"],
    "VaultLens": [f"{UNIT}/vault_lens"],
    "portfolio": [*TRADES, f"{UNIT}/vault_factory", f"{UNIT}/timelock"],
    "packing": [*TRADES, f"{UNIT}/vault_factory", f"{UNIT}/timelock"],
    "schedule": [*TRADES],
    "bucket": [f"{UNIT}/attacks", *TRADES, f"{UNIT}/timelock"],
    "flow": [f"{UNIT}/vault", f"{UNIT}/teller"],
    "shares": [f"{UNIT}/vault", "tests/stateful"],
    "queue": [f"{UNIT}/timelock", f"{UNIT}/price_oracle"],
    "ownable": [f"{UNIT}/price_oracle"],
}
SWAPS = {">=": ">", "<=": "<", ">": ">=", "<": "<=", "==": "!=", "!=": "=="}
TURNS = {">=": "<", "<=": ">", ">": "<=", "<": ">="}
COMPARISON = re.compile(r" (>=|<=|==|!=|>|<) ")


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    file: str  # below contracts/
    line: int  # from 1
    what: str
    before: str
    after: str

    @property
    def key(self) -> str:
        return f"{self.file}:{self.before.strip()}:{self.what}:{self.after.strip()}"


def sources() -> list[Path]:
    """The contracts and modules that go live."""
    return sorted([*ROOT.glob("contracts/*.vy"), *ROOT.glob("contracts/modules/*.vy")])


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    found = []
    lines = path.read_text().splitlines()
    in_doc = False
    for number, line in enumerate(lines, 1):
        in_doc ^= line.count('"""') % 2 == 1
        if in_doc or '"""' in line or line.lstrip().startswith(("#", "event", "struct", "interface")):
            continue
        for what, after in _changes(line, lines, number):
            if after != line:
                name = path.relative_to(ROOT / "contracts").as_posix()
                found.append(Mutant(name, number, what, line, after))
    return found


def _changes(line: str, lines: list[str], number: int) -> list[tuple[str, str]]:
    code, hash_sign, comment = line.partition("  #")
    tail = hash_sign + comment
    found: list[tuple[str, str]] = []
    stripped = code.strip()
    indent = code[: len(code) - len(code.lstrip())]
    if stripped == "@nonreentrant":
        return [("lock removed", indent + "# no lock")]
    if stripped.startswith("assert ") and not stripped.endswith("("):
        found.append(("assert removed", indent + "pass"))
    deciding = re.match(r"(assert|if|elif|return)\b", stripped) or " if " in stripped or " and " in stripped
    if deciding:
        for match in COMPARISON.finditer(code):
            for kind, table in (("moved by one", SWAPS), ("turned round", TURNS)):
                if other := table.get(match[1]):
                    found.append(
                        (f"{match[1]} {kind}", code[: match.start(1)] + other + code[match.end(1) :] + tail)
                    )
    for match in re.finditer(r"\((.+?) \+ [\w.]+ - 1\) //", code):
        found.append(("rounded down", code.replace(match[0], f"({match[1]}) //") + tail))
    for one, other in (("min(", "max("), ("max(", "min(")):
        for match in re.finditer(rf"\b{re.escape(one)}", code):
            found.append(
                (f"{one[:3]} for {other[:3]}", code[: match.start()] + other + code[match.end() :] + tail)
            )
    for one, other in ((" += ", " -= "), (" -= ", " += ")):
        if one in code:
            found.append((f"{one.strip()} for {other.strip()}", code.replace(one, other, 1) + tail))
    for one, other in ((" and ", " or "), (" or ", " and ")):
        if one in code and deciding:
            found.append((f"{one.strip()} for {other.strip()}", code.replace(one, other, 1) + tail))
    if "self._check_" in code and stripped.startswith("self._check_"):
        found.append(("check removed", indent + "pass"))
    return found


class Bench:
    """Runs mutants, each in a copy of the contracts of its thread's own."""

    def __init__(self) -> None:
        self._mine = local()
        self._folders: list[Path] = []

    def judge(self, mutant: Mutant) -> str:
        """`killed`, `survived` or `does not compile`."""
        contracts = self._copy()
        path = contracts / mutant.file
        original = (ROOT / "contracts" / mutant.file).read_text()
        lines = original.splitlines(keepends=True)
        lines[mutant.line - 1] = mutant.after + "\n"
        path.write_text("".join(lines))
        try:
            return self._test(mutant, contracts)
        finally:
            path.write_text(original)

    def close(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _test(self, mutant: Mutant, contracts: Path) -> str:
        if not self._compiles(mutant, contracts):
            return "does not compile"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:pytest-brownie",
            "-p",
            "no:cacheprovider",
        ]
        tests = [test for test in TESTS[Path(mutant.file).stem] if (ROOT / test).exists()]
        try:
            done = subprocess.run(
                [*command, *tests],
                cwd=ROOT,
                env=os.environ | {"EVENKEEL_CONTRACTS": str(contracts)},
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "killed"
        if done.returncode not in (0, 1):
            raise RuntimeError(f"pytest could not run:\n{done.stdout.decode()[-2000:]}")
        return "killed" if done.returncode == 1 else "survived"

    def _compiles(self, mutant: Mutant, contracts: Path) -> bool:
        """A module is compiled with the contract that shows most of it."""
        host = {"portfolio": "RuleBook", "schedule": "RuleBook", "packing": "RuleBook", "bucket": "Vault"}
        stem = Path(mutant.file).stem
        name = host.get(
            stem,
            {"flow": "Vault", "shares": "Vault", "queue": "Timelock", "ownable": "PriceOracle"}.get(
                stem, stem
            ),
        )
        done = subprocess.run(
            [
                str(ROOT / ".venv/bin/vyper"),
                "-p",
                str(contracts.parent),
                "-f",
                "abi",
                str(contracts / f"{name}.vy"),
            ],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def _copy(self) -> Path:
        if not hasattr(self._mine, "contracts"):
            folder = Path(tempfile.mkdtemp(prefix="mutants-"))
            self._folders.append(folder)
            for name in ("contracts", "interfaces"):
                shutil.copytree(ROOT / name, folder / name)
            self._mine.contracts = folder / "contracts"
        contracts: Path = self._mine.contracts
        return contracts


def fingerprint(mutant: Mutant) -> str:
    """Changes with the mutant, its file or the tests that judge it."""
    digest = hashlib.sha256(mutant.key.encode())
    digest.update((ROOT / "contracts" / mutant.file).read_bytes())
    for test in TESTS[Path(mutant.file).stem]:
        for path in sorted((ROOT / test).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run(chosen: list[Mutant], fresh: bool, workers: int) -> list[dict[str, object]]:
    """Verdicts, in the order of the mutants."""
    kept: dict[str, str] = {} if fresh or not KEPT.exists() else json.loads(KEPT.read_text())
    keys = {mutant: fingerprint(mutant) for mutant in chosen}
    bench = Bench()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task("mutants", total=len(chosen))
        waiting = {pool.submit(bench.judge, m): m for m in chosen if keys[m] not in kept}
        progress.advance(task, len(chosen) - len(waiting))
        for future in as_completed(waiting):
            mutant = waiting[future]
            kept[keys[mutant]] = future.result()
            if kept[keys[mutant]] == "survived":
                progress.print(f"survived: {mutant.file}:{mutant.line} {mutant.what}: {mutant.after.strip()}")
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(kept))
            progress.advance(task)
    bench.close()
    argued: dict[str, str] = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    verdicts = []
    for mutant in chosen:
        verdict, why = kept[keys[mutant]], argued.get(mutant.key)
        if verdict == "survived" and why:
            verdict = "equivalent"
        verdicts.append(
            asdict(mutant) | {"verdict": verdict, "why": why if verdict == "equivalent" else None}
        )
    return verdicts


def main() -> None:
    """Choose, judge, report; exit 1 where a mutant survived without an argument."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", help="stems of contracts or modules, such as Vault or flow")
    parser.add_argument("--sample", type=int, help="only so many mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print the mutants only")
    arguments = parser.parse_args()
    if unknown := set(arguments.files) - TESTS.keys():
        parser.error(
            f"no such contract or module: {', '.join(sorted(unknown))}; choose from {', '.join(TESTS)}"
        )
    wanted = [path for path in sources() if not arguments.files or path.stem in arguments.files]
    chosen = [mutant for path in wanted for mutant in mutants(path)]
    if arguments.sample:
        chosen = sorted(
            random.Random(arguments.seed).sample(chosen, min(arguments.sample, len(chosen))),
            key=lambda m: (m.file, m.line),
        )
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.file}:{mutant.line}: {mutant.what}: {mutant.after.strip()}")
        print(f"{len(chosen)} mutants")
        return
    verdicts = run(chosen, arguments.fresh, arguments.workers)
    counts = {
        verdict: sum(row["verdict"] == verdict for row in verdicts)
        for verdict in ("killed", "survived", "equivalent", "does not compile")
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"counts": counts, "mutants": verdicts}, indent=1) + "\n")
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["survived"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
