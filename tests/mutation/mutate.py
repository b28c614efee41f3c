"""Break the contracts on purpose, one rule at a time, and see whether a test notices.

    python tests/mutation/mutate.py                      every mutant of every contract
    python tests/mutation/mutate.py Vault flow           only of these files
    python tests/mutation/mutate.py --only access lock   only of these classes
    python tests/mutation/mutate.py --match "_fee: "     only those whose name (--list) contains the text
    python tests/mutation/mutate.py --sample 50          that many, chosen at random (--seed)
    python tests/mutation/mutate.py --quick              not by the tests that take longest
    python tests/mutation/mutate.py --list               print the mutants
    python tests/mutation/mutate.py --report             print what is known, judge nothing

operators.py says what is broken, by class. A mutant is killed when one of the tests named for its file fails; it has
survived when all of them have passed (where --quick has left some out, it stays not judged). The order only saves
time: first the test that killed it last time, then those that need one contract alone, then tests and files that killed
most in its function, then the file of that name, then those that killed most in its file, then whatever has killed most
per second. Mutants that nobody can tell from the original are argued in equivalent.json and come last, or not at all
with --quick; any other survivor makes the run fail. Several runs can work side by side: each passes over what another
has judged meanwhile.

Verdicts are kept in build/mutation.jsonl. A killed mutant is judged again when its file or the test that killed it has
changed, a survivor when its file or any of its tests has; --fresh judges all again. Result: reports/mutation.json, and
a table.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import vyper
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts import build_artifacts  # noqa: E402
from scripts.build_artifacts import compile_contract  # noqa: E402
from tests.mutation import quick_vyper  # noqa: E402
from tests.mutation.operators import CLASSES, Mutant, mutants  # noqa: E402
from tests.mutation.quick_vyper import compile_quickly  # noqa: E402
from tests.support import evm  # noqa: E402
from tests.support.evm import COMPILED  # noqa: E402

REPORT = ROOT / "reports" / "mutation.json"
KEPT = ROOT / "build" / "mutation.jsonl"
PASSED = ROOT / "build" / "mutation-tests.json"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
TIMEOUT = 900  # seconds; who runs longer is killed, as a test that hangs would be noticed
UNIT = "tests/unit"
DIFFERENTIAL, INVARIANTS = "tests/stateful/test_policy_differential.py", "tests/stateful/test_invariants.py"
TRADES = [
    f"{UNIT}/vault",
    DIFFERENTIAL,
    f"{UNIT}/timelock",
    f"{UNIT}/vault_factory",
    INVARIANTS,
    f"{UNIT}/attacks",
]
# of TRADES, those that ask the rule book without a vault: one contract to compile instead of five
ALONE = (f"{UNIT}/vault/test_rule_book_alone.py", f"{UNIT}/vault/test_rule_book_to_the_wei.py")
# file -> the tests that must notice; two folders or files are enough for most
TESTS: dict[str, list[str]] = {
    "Vault": [f"{UNIT}/vault", f"{UNIT}/vault_factory", DIFFERENTIAL, INVARIANTS, f"{UNIT}/attacks"],
    "RuleBook": TRADES,
    "Timelock": [f"{UNIT}/timelock"],
    "VaultFactory": [f"{UNIT}/vault_factory"],
    "PriceOracle": [f"{UNIT}/price_oracle"],
    "Executor": [f"{UNIT}/executor"],
    "Zap": [f"{UNIT}/zap"],
    "Teller": [f"{UNIT}/teller"],
    "Auction": [f"{UNIT}/auction"],
    "VaultLens": [f"{UNIT}/vault_lens"],
    "Taker": [f"{UNIT}/taker"],
    "portfolio": TRADES,
    "packing": TRADES,
    "schedule": TRADES,
    "bucket": TRADES,
    "flow": [f"{UNIT}/vault", f"{UNIT}/teller"],
    "shares": [f"{UNIT}/vault", f"{UNIT}/teller", INVARIANTS],
    "queue": [f"{UNIT}/timelock", f"{UNIT}/price_oracle"],
    "ownable": [f"{UNIT}/price_oracle"],
}
# what --quick leaves out: thousands of random states, and attacks that play out over a year
SLOW = (
    DIFFERENTIAL,
    INVARIANTS,
    f"{UNIT}/attacks",
    f"{UNIT}/teller/test_erc4626_properties.py",
    f"{UNIT}/auction/test_fill_properties.py",
)
VERDICTS = ("killed", "equivalent", "survived", "not judged", "same code", "does not compile")


@dataclass
class Verdict:
    """What became of a mutant, and of which texts that is true."""

    key: str
    verdict: str
    killer: str = ""  # a test's id
    digest: str = ""


class Bench:
    """The contracts as they were when the run began, and room for broken copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("contracts", "interfaces"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copytree(evm.ARTIFACTS, folder / "artifacts")
        evm.ARTIFACTS = folder / "artifacts"
        self.sources = read_sources(folder)

    def broken(self, mutant: Mutant) -> Path:
        """A copy of the contracts with one mutant."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "contracts", folder / "contracts")
        (folder / "interfaces").symlink_to(self.folder / "interfaces")
        (folder / "contracts" / mutant.file).write_text(mutant.apply(self.sources[mutant.file]))
        return folder


class Judge:
    """Runs tests on the contracts of a folder, in a process of its own that ends with a file `verdict` there."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.same_code = True
        self.seconds: dict[str, float] = defaultdict(float)  # by test

    def run(self, items: list[pytest.Item]) -> NoReturn:
        """In order, until one fails."""
        signal.alarm(TIMEOUT)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        self.use(self.folder)
        items[0].config.pluginmanager.register(self)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        self.end("same code" if self.same_code else "survived")

    def use(self, folder: Path) -> None:
        """The tests take their contracts from `folder`."""
        broken = folder != self.bench.folder
        build_artifacts.ROOT, evm.CONTRACTS = folder, folder / "contracts"
        evm.COMPILED = folder / "compiled" if broken else COMPILED
        evm.compile_contract = self.compile_broken if broken else compile_contract  # type: ignore[attr-defined, assignment]
        evm.artifact.cache_clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after each part of a test."""
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.end("killed", report.nodeid)

    def compile_broken(self, source: Path, evm_version: str) -> dict[str, Any]:
        """Like `compile_contract`; what imports nothing that was broken is not compiled again."""
        digest = build_artifacts.source_hash(source)
        self.use(self.bench.folder)
        original = evm.artifact(source.stem, evm_version)
        self.use(self.folder)
        if original["sourceHash"] == digest:
            return original
        try:
            broken = compile_quickly(self.folder, source, evm_version)
        except (vyper.exceptions.VyperException, vyper.exceptions.VyperInternalException):
            self.end("does not compile")
        self.same_code &= _code(broken) == _code(original)
        return broken

    def end(self, verdict: str, killer: str = "") -> NoReturn:
        """Not to the parent's frames."""
        told = {"verdict": verdict, "killer": killer, "seconds": self.seconds}
        (self.folder / "verdict").write_text(json.dumps(told))
        os._exit(0)


class Campaign:
    """Collects the tests once, as a plugin of pytest, and judges each mutant in a fork of this process."""

    def __init__(
        self,
        bench: Bench,
        every: list[Mutant],
        chosen: list[Mutant],
        workers: int,
        quick: bool,
        known: Ledger,
    ) -> None:
        self.bench = bench
        self.chosen = chosen
        self.workers = workers
        self.quick = quick
        self.known = known
        self.killed: Counter[str] = Counter()  # by test
        self.killed_near: defaultdict[tuple[str, str], Counter[str]] = defaultdict(
            Counter
        )  # by file and function
        for mutant in every:
            self.count(mutant, known.killer(mutant))
        self.problem = ""

    def count(self, mutant: Mutant, killer: str) -> None:
        """A killer and its file are likely to kill again, above all in the same function."""
        self.killed[killer] += 1
        for name in (killer, killer.partition("::")[0]):
            self.killed_near[mutant.file, mutant.function][name] += 1
            self.killed_near[mutant.file, ""][name] += 1

    def run(self) -> None:
        """Every verdict goes to the ledger."""
        folders = sorted({folder for mutant in self.chosen for folder in tests_of(mutant)})
        options = ["-qq", "-s", "-p", "no:pytest-brownie", "-p", "no:cacheprovider", "--no-summary"]
        if pytest.main([*options, *folders], plugins=[self]) or self.problem:
            sys.exit(self.problem or f"the tests in {', '.join(folders)} could not be collected")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called by pytest in place of running the tests."""
        self.items = [item for item in session.items if not (self.quick and is_slow(item.nodeid))]
        self.seconds = self.pass_unbroken()
        if self.problem:
            return True
        gc.collect()
        gc.freeze()
        columns = (TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            task = progress.add_task("", total=len(self.chosen))
            for mutant, verdict in self.verdicts():
                progress.advance(task)
                if verdict in ("survived", "alive"):
                    progress.print(f"{verdict}: {mutant.line} {mutant.key}", markup=False)
        return True

    def pass_unbroken(self) -> dict[str, float]:
        """How long each test takes on the contracts as they are, which it must pass."""
        if unknown := [item for item in self.items if item.nodeid not in self.known.seconds()]:
            os.waitpid(self.start(self.bench.folder, unknown), 0)
            told = json.loads((self.bench.folder / "verdict").read_text())
            if told["killer"]:
                self.problem = f"a test fails on the contracts as they are: {told['killer']}"
            else:
                self.known.passed(told["seconds"])
        return self.known.seconds()

    def verdicts(self) -> Iterator[tuple[Mutant, str]]:
        """As they come in, `workers` at a time."""
        waiting = self.chosen[::-1]
        running: dict[int, tuple[Mutant, Path]] = {}
        while waiting or running:
            while waiting and len(running) < self.workers:
                mutant = waiting.pop()
                if self.known.has_learnt(mutant, self.quick):
                    yield mutant, "judged by another run"
                    continue
                folder = self.bench.broken(mutant)
                running[self.start(folder, self.order(mutant))] = mutant, folder
            pid, status = os.wait()
            mutant, folder = running.pop(pid)
            told = {"verdict": "killed", "killer": "timeout"}
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM):
                told = json.loads((folder / "verdict").read_text())
            shutil.rmtree(folder)
            self.count(mutant, told["killer"])
            verdict = told["verdict"]
            if verdict == "survived" and self.quick and has_slow_tests(mutant):
                verdict = "alive"
            self.known.add(mutant, verdict, told["killer"])
            yield mutant, verdict

    def start(self, folder: Path, items: list[pytest.Item]) -> int:
        """The id of a new process that judges."""
        if pid := os.fork():
            return pid
        gc.disable()
        try:
            Judge(self.bench, folder).run(items)
        finally:
            os._exit(1)  # never back into this process's copy of the campaign

    def order(self, mutant: Mutant) -> list[pytest.Item]:
        """The tests of the mutant's file, the likeliest killers first, else folder by folder.

        Those of --quick are not run again on what has outlived them as they are now.
        """
        only_slow = self.known.is_alive(mutant)
        killer = self.known.killer(mutant)
        named = mutant.function.strip("_")
        near = self.killed_near[mutant.file, mutant.function]
        in_file = self.killed_near[mutant.file, ""]
        ranked: list[tuple[tuple[object, ...], pytest.Item]] = []
        for item in self.items:
            test = item.nodeid
            place = next((i for i, path in enumerate(tests_of(mutant)) if within(test, path)), None)
            if place is not None and (is_slow(test) or not only_slow):
                by_name = named and item.path.stem.startswith(f"test_{named}")
                rate = (self.killed[test] + 0.01) / (self.seconds[test] + 0.001)
                file = test.partition("::")[0]
                alone = tests_of(mutant) is TRADES and file in ALONE
                likely = -near[test], -near[file], not by_name, -in_file[file], place, -rate, len(ranked)
                ranked.append(((test != killer, not alone, *likely), item))
        return [item for _, item in sorted(ranked, key=lambda pair: pair[0])]


class Ledger:
    """Verdicts of this and earlier runs, and whether they still hold."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.rows: dict[str, Verdict] = {}
        self.size = 0  # bytes of KEPT that have been read
        files = sorted(
            file for folder in ("tests/unit", "tests/stateful") for file in Path(folder).rglob("*.py")
        )
        self.tests = {file.as_posix(): file.read_text() for file in files}  # as they are now
        self.texts: dict[str, str] = {}  # digests, by file
        self.read()
        self.rows_at_first = dict(self.rows)

    def read(self) -> None:
        """What this or another run has added."""
        if KEPT.exists() and KEPT.stat().st_size > self.size:
            with KEPT.open("rb") as file:
                file.seek(self.size)
                added = file.read()
            added = added[: added.rfind(b"\n") + 1]
            self.size += len(added)
            for line in added.splitlines():
                row = Verdict(**json.loads(line))
                self.rows[row.key] = row

    def add(self, mutant: Mutant, verdict: str, killer: str) -> None:
        """Remember, here and on disk."""
        row = Verdict(mutant.key, verdict, killer, self.digest(mutant, verdict, killer))
        KEPT.parent.mkdir(exist_ok=True)
        with KEPT.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        self.read()

    def verdict(self, mutant: Mutant) -> str:
        """`not judged` where nothing is known, the texts have changed since, or only the quick tests have run."""
        row = self.rows.get(mutant.key)
        if not row or row.verdict == "alive" or row.digest != self.digest(mutant, row.verdict, row.killer):
            return "not judged"
        return row.verdict

    def is_done(self, mutant: Mutant, quick: bool) -> bool:
        """Whether a run, quick or not, need not judge it again."""
        return self.verdict(mutant) != "not judged" or (quick and self.is_alive(mutant))

    def is_alive(self, mutant: Mutant) -> bool:
        """Whether it has outlived the tests of --quick."""
        row = self.rows.get(mutant.key)
        return row is not None and row.verdict == "alive" and row.digest == self.digest(mutant, "alive", "")

    def has_learnt(self, mutant: Mutant, quick: bool) -> bool:
        """Whether another run has judged it since this one began."""
        self.read()
        is_new = self.rows.get(mutant.key) is not self.rows_at_first.get(mutant.key)
        return is_new and self.is_done(mutant, quick)

    def killer(self, mutant: Mutant) -> str:
        """The test that killed it last time."""
        return self.rows[mutant.key].killer if mutant.key in self.rows else ""

    def passed(self, seconds: dict[str, float]) -> None:
        """Remember that these tests pass on the contracts as they are, and how long each takes."""
        told = {test: (self.text_of(test), second) for test, second in seconds.items()}
        PASSED.write_text(json.dumps(self.told() | told))

    def seconds(self) -> dict[str, float]:
        """How long each test takes that is known to pass on the contracts as they are."""
        return {test: second for test, (text, second) in self.told().items() if text == self.text_of(test)}

    def told(self) -> dict[str, tuple[str, float]]:
        """All that PASSED holds."""
        told: dict[str, tuple[str, float]] = json.loads(PASSED.read_text()) if PASSED.exists() else {}
        return told

    def text_of(self, test: str) -> str:
        """A digest of the test's file, of what tests share, and of all contracts."""
        file = test.partition("::")[0]
        if file not in self.texts:
            shared = [text for name, text in self.tests.items() if not Path(name).name.startswith("test_")]
            whole = "\0".join([*self.sources.values(), *shared, self.tests.get(file, "")])
            self.texts[file] = hashlib.sha256(whole.encode()).hexdigest()[:16]
        return self.texts[file]

    def digest(self, mutant: Mutant, verdict: str, killer: str) -> str:
        """Of the mutant's file and of the test that killed it, or for a survivor of all that it has survived."""
        tests = tests_of(mutant) if verdict in ("survived", "alive") else []
        left_out: tuple[str, ...] = SLOW if verdict == "alive" else ()
        if "::" in killer:
            tests = [killer.partition("::")[0]]
        read = (text for file, text in self.tests.items() if is_in(file, tests) and not is_in(file, left_out))
        texts = [self.sources[mutant.file], *read]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _code(artifact: dict[str, Any]) -> str:
    """The creation code without the appendix that names its source; the last two bytes tell the appendix's size."""
    code: str = artifact["bytecode"]
    return code[: -2 * int(code[-4:], 16)]


def read_sources(folder: Path) -> dict[str, str]:
    """Text by file name, of the contracts and modules that go live."""
    contracts = folder / "contracts"
    files = [*contracts.glob("*.vy"), *contracts.glob("modules/*.vy")]
    return {file.relative_to(contracts).as_posix(): file.read_text() for file in sorted(files)}


def tests_of(mutant: Mutant) -> list[str]:
    return TESTS[Path(mutant.file).stem]


def within(test: str, path: str) -> bool:
    """Whether a test or a file lies in a folder or file."""
    return test.startswith((f"{path}/", f"{path}::")) or test == path


def is_in(test: str, paths: Iterable[str]) -> bool:
    return any(within(test, path) for path in paths)


def is_slow(test: str) -> bool:
    return is_in(test, SLOW)


def has_slow_tests(mutant: Mutant) -> bool:
    """Whether --quick leaves some of its tests out."""
    return any(is_in(slow, tests_of(mutant)) for slow in SLOW)


def arguments_given() -> dict[str, str]:
    """Why a mutant is equivalent, by its key."""
    given: dict[str, str] = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    return given


def report(every: list[Mutant], known: Ledger) -> Counter[str]:
    """Write all that is known to REPORT, print a table by file and class; the number of mutants by verdict."""
    argued = arguments_given()
    rows = []
    for mutant in every:
        verdict = known.verdict(mutant)
        why = argued.get(mutant.key) if verdict in ("survived", "not judged") else None
        verdict = "equivalent" if why else verdict
        killer = known.killer(mutant) if verdict == "killed" else None
        rows.append(asdict(mutant) | {"key": mutant.key, "verdict": verdict, "killer": killer, "why": why})
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(
        json.dumps({"counts": Counter(row["verdict"] for row in rows), "mutants": rows}, indent=1) + "\n"
    )
    changed = [row for row in rows if row["verdict"] not in ("same code", "does not compile")]
    shown = VERDICTS[:4]
    print("| | mutants | " + " | ".join(shown) + " |\n|---|" + "---:|" * (1 + len(shown)))
    for column in ("file", "kind"):
        names = CLASSES if column == "kind" else sorted({row["file"] for row in rows})
        for name in names:
            counts = Counter(row["verdict"] for row in changed if row[column] == name)
            print(
                f"| {name} | {counts.total()} | "
                + " | ".join(str(counts[verdict]) for verdict in shown)
                + " |"
            )
    total = Counter(row["verdict"] for row in changed)
    print(f"| all | {total.total()} | " + " | ".join(str(total[verdict]) for verdict in shown) + " |")
    print(f"left out: {len(rows) - len(changed)} that do not compile or compile to the same code")
    if unused := argued.keys() - {row["key"] for row in rows if row["why"]}:
        print(
            f"{len(unused)} arguments in {EQUIVALENT.name} for mutants that did not survive or are not there"
        )
    return total


def main() -> None:
    """Choose, judge, report; exit 1 where a mutant survived without an argument or was not judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", help="stems of contracts or modules, such as Vault or flow")
    parser.add_argument("--only", nargs="+", choices=CLASSES, default=CLASSES, help="classes of mutants")
    parser.add_argument("--match", default="", help="only mutants whose name contains this")
    parser.add_argument("--sample", type=int, help="only so many mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--fresh", action="store_true", help="forget earlier verdicts of the chosen mutants")
    parser.add_argument("--quick", action="store_true", help="not by the tests that take longest")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print the mutants only")
    parser.add_argument("--report", action="store_true", help="print what is known only")
    arguments = parser.parse_args()
    if unknown := set(arguments.files) - TESTS.keys():
        parser.error(
            f"no such contract or module: {', '.join(sorted(unknown))}; choose from {', '.join(TESTS)}"
        )
    os.chdir(ROOT)
    quick_vyper.install()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        bench = Bench(Path(folder))
        known = Ledger(bench.sources)
        every = [mutant for file in bench.sources for mutant in mutants(file, bench.sources)]
        chosen = choose(every, arguments, known)
        if arguments.list:
            print("\n".join(f"{mutant.line} {mutant.kind}: {mutant.key}" for mutant in chosen))
            return
        if chosen and not arguments.report:
            Campaign(bench, every, chosen, arguments.workers, arguments.quick, known).run()
        counts = report(every, known)
    if counts["survived"] or counts["not judged"]:
        sys.exit(1)


def choose(every: list[Mutant], arguments: argparse.Namespace, known: Ledger) -> list[Mutant]:
    """The mutants that were asked for and are not judged yet, in the order of files and classes, argued ones last."""
    stems = arguments.files or list(TESTS)
    wanted = [m for m in every if Path(m.file).stem in stems and m.kind in arguments.only]
    wanted = [m for m in wanted if arguments.match in m.key]
    if arguments.sample:
        wanted = random.Random(arguments.seed).sample(wanted, min(arguments.sample, len(wanted)))
    argued = set(arguments_given())
    if not (arguments.fresh or arguments.list):
        wanted = [mutant for mutant in wanted if not known.is_done(mutant, arguments.quick)]
        if arguments.quick:
            wanted = [mutant for mutant in wanted if mutant.key not in argued]

    def place(mutant: Mutant) -> tuple[bool, int, int, int]:
        stem = Path(mutant.file).stem
        return mutant.key in argued, stems.index(stem), CLASSES.index(mutant.kind), mutant.line

    return sorted(wanted, key=place)


if __name__ == "__main__":
    main()
