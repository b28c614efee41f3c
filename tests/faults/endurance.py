"""For as long as you like: real keepers (`evenkeel keeper run`), moving prices, and faults all the time.

Four processes keep the same two vaults: two with an account and a file each, two on one account and one PostgreSQL
database, of which one is refused until the other is gone. Each has a bad node, or two, of its own. A market day comes
after another: a day passes on the chain and prices jump, and each vault that is due then must have completed exactly
one session before the next day. In the end the chain's record is compared with all journals.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from offchain import policy
from offchain.chain.errors import ChainError
from offchain.chain.vault import read_vault
from offchain.demo.market import Day
from offchain.keeper.journal import Journal
from offchain.policy import DAY
from tests.faults import judge
from tests.faults.proxy import FAULTS, Proxy, proxy
from tests.faults.stage import Stage, hire, staged
from tests.support.demo_vault import FIRST
from tests.support.postgres import Postgres

PASSWORD = "for-one-chain-only"
BLOCK_EVERY_SECONDS = 2.0
BLOCK_SECONDS = 12
SESSION_SECONDS = 600  # within which a session that is due has to be completed
ARBITRAGE_SECONDS = 30  # until others have brought the pools back to the market's prices
TIMEOUT_SECONDS = 5.0  # of a keeper's request
AGAIN_SECONDS = 2.0  # until a keeper that ended is started again
CONFIRMATIONS = 2
MARKET_DAYS = 30  # between two jumps: the vaults' loss budget refills


@dataclass
class Operator:
    """One `evenkeel keeper run`, started again when it ends, as a supervisor would."""

    name: str
    folder: Path
    proxies: Sequence[Proxy]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    ended_at: float = 0
    starts: int = 0

    def tick(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.process, self.ended_at = None, time.monotonic()
        if self.process is None and time.monotonic() - self.ended_at > AGAIN_SECONDS:
            with (self.folder / "log").open("ab") as log:
                command = [sys.executable, "-m", "offchain.cli", "keeper", "run"]
                self.process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self.starts += 1

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass
class Endurance:
    """The hour."""

    stage: Stage
    operators: list[Operator]
    journals: list[Journal]
    accounts: list[LocalAccount]
    rng: random.Random
    day: Day
    console: Console
    due: Counter[str] = field(default_factory=Counter)  # sessions, by vault
    fired: Counter[str] = field(default_factory=Counter)
    later: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)  # what ends a fault
    moved_at: int = 0  # block of the last market day
    next_fault: float = 0
    down: bool = False  # PostgreSQL

    def run(self, seconds: float, begun: float) -> list[str]:
        """What is wrong; empty: nothing."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            task = bar.add_task("endurance", total=seconds)
            while time.monotonic() - begun < seconds:
                self._market_day()
                if problem := self._until(self._completed, faults=True):
                    return [problem]
                bar.update(
                    task, completed=time.monotonic() - begun, description=f"{self.due.total()} sessions"
                )
                if bar.disable:
                    self.console.print(
                        f"{(time.monotonic() - begun) / 60:.0f} min: {self.due.total()} sessions, "
                        f"{self.fired.total()} faults"
                    )
        self._end_faults()
        problem = self._until(lambda: not self._unsettled(), faults=False)
        for operator in self.operators:
            operator.end()
        if problem or (problem := self._unsettled()):
            return [problem]
        vaults, accounts = self.stage.vaults, [account.address for account in self.accounts]
        return judge.faults_in(
            self.stage.chain.web3, vaults, self.journals, accounts, self.stage.block, self.due, parts=True
        )

    # ------------------------------------------------------------ the market

    def _market_day(self) -> None:
        """A day passes, one price jumps; which vaults are due is the chain's word and the policy's."""
        chain = self.stage.chain
        which = self.rng.randrange(len(self.day.prices) - 1)
        first = FIRST.prices[which]
        factor = 160 if self.day.prices[which] < first else 62
        prices = [*self.day.prices]
        prices[which] = prices[which] * (factor + self.rng.randint(-3, 3)) // 100
        self.day = replace(self.day, prices=tuple(prices))
        self._set_market(MARKET_DAYS * DAY)
        for vault in self.stage.vaults:
            state = read_vault(chain.web3, vault.address).state
            if policy.next_session(state, state.time)[1] == "":
                self.due[vault.address] += 1

    def _set_market(self, seconds: int) -> None:
        """Feeds and pools have the day's prices, which no reorganisation takes back."""
        chain = self.stage.chain
        chain.automine(True)
        chain.mine(chain.now + seconds)  # right after a reorganisation anvil takes no large transaction
        self.stage.world.set_market(self.day)
        chain.automine(False)
        self.moved_at = chain.web3.eth.block_number

    def _completed(self) -> bool:
        vaults, since = self.stage.vaults, self.stage.block
        return all(len(judge.closed(vault, since)) >= self.due[vault.address] for vault in vaults)

    def _until(self, done: Callable[[], bool], faults: bool) -> str:
        """Blocks and faults until it is done, and a while longer; why not, if it is not."""
        begun, finished = time.monotonic(), 0.0
        arbitrage_at = begun + ARBITRAGE_SECONDS
        while True:
            self.stage.chain.mine_blocks(1, BLOCK_SECONDS)
            for operator in self.operators:
                operator.tick()
            now = time.monotonic()
            for item in [item for item in self.later if item[0] <= now]:
                self.later.remove(item)
                item[1]()
            if faults and now > self.next_fault:
                self._fault()
                self.next_fault = now + self.rng.uniform(3, 12)
            if not finished and now > arbitrage_at:
                with suppress(ChainError):  # anvil's gas limit, sometimes: then next time
                    self._set_market(BLOCK_SECONDS)
                arbitrage_at = now + ARBITRAGE_SECONDS
            finished = (finished or now) if done() else 0.0  # a reorganisation may open it again
            if finished and now - finished > self.rng.uniform(2, 10):
                return ""
            if now - begun > SESSION_SECONDS:
                return f"not completed after {SESSION_SECONDS} s: {dict(self.due)}; {self._unsettled()}"
            time.sleep(BLOCK_EVERY_SECONDS)

    def _unsettled(self) -> str:
        web3 = self.stage.chain.web3
        counts = {a.address: web3.eth.get_transaction_count(a.address) for a in self.accounts}
        names = [str(vault.address) for vault in self.stage.vaults]
        return next(filter(None, (judge.unsettled(j, counts, names) for j in self.journals)), "")

    # ------------------------------------------------------------ the faults

    def _fault(self) -> None:
        operator = self.rng.choice(self.operators)
        kind = self.rng.choices(
            ("kill", "freeze", "RPC", "reorganisation", "nothing is mined", "database", "keepers restarted"),
            (3, 2, 4, 2, 1, 1, 0.3),
        )[0]
        if kind == "kill":
            operator.signal(signal.SIGKILL)
        elif kind == "freeze":
            operator.signal(signal.SIGSTOP)
            self._later(self.rng.uniform(1, 25), lambda: operator.signal(signal.SIGCONT))
        elif kind == "RPC":
            bad = self.rng.choice(operator.proxies)
            bad.trouble(self.rng, FAULTS, self.rng.choice((0.05, 0.3)), self.rng.choice((10, 40)))
        elif kind == "reorganisation":
            self._reorganise()
        elif kind == "nothing is mined":
            self.stage.chain.mine_past(self.rng.randint(3, 12), BLOCK_SECONDS)
        elif kind == "database":
            kind = self._database(operator)
        else:
            for each in self.operators:
                each.signal(signal.SIGTERM)
        self.fired[kind] += 1

    def _later(self, seconds: float, act: Callable[[], Any]) -> None:
        self.later.append((time.monotonic() + seconds, act))

    def _reorganise(self) -> None:
        """Up to five blocks, though not those of the market."""
        chain = self.stage.chain
        head = chain.web3.eth.block_number
        depth = min(self.rng.randint(1, 5), head - self.moved_at)
        if depth < 1:
            return
        raws = []
        for number in range(head - depth + 1, head + 1):
            for tx in chain.web3.eth.get_block(number)["transactions"]:
                raws.append(chain.web3.eth.get_raw_transaction(tx).to_0x_hex())  # type: ignore[arg-type]
        chain.reorganise(depth, *(raws if self.rng.random() < 0.4 else ()))

    def _database(self, operator: Operator) -> str:
        target = operator.environment.get("EVENKEEL_DATABASE")
        if target is None:
            held = sqlite3.connect(operator.folder / "evenkeel.sqlite", isolation_level=None, timeout=1)
            with suppress(sqlite3.OperationalError):
                held.execute("begin exclusive")
            self._later(self.rng.uniform(1, 10), held.close)
            return "database locked"
        if not self.down:
            assert self.stage.postgres is not None
            self.down = True
            self.stage.postgres.stop()
            self._later(self.rng.uniform(1, 8), self._database_back)
        return "database restarted"

    def _database_back(self) -> None:
        assert self.stage.postgres is not None
        self.stage.postgres.start()
        self.down = False

    def _end_faults(self) -> None:
        for _, act in self.later:
            act()
        self.later.clear()
        for operator in self.operators:
            for each in operator.proxies:
                each.calm()


def endure(console: Console, seed: int, seconds: float) -> int:
    """Exit code 0 where chain and journals agree."""
    begun = time.monotonic()
    with ExitStack() as stack:
        server = Postgres()
        stack.callback(server.close)
        stage = stack.enter_context(staged(server))
        accounts = [stage.accounts[0], stage.accounts[1], stage.chain.accounts[9]]
        hire(stage.world, stage.vaults, accounts[2], FIRST)
        shared = server.url()
        operators = []
        for name, account, database in (
            ("one", accounts[0], ""),
            ("two", accounts[1], ""),
            ("three", accounts[2], shared),
            ("four", accounts[2], shared),
        ):
            count = 2 if name in ("two", "four") else 1
            bad = [stack.enter_context(proxy(stage.chain.url, 1.5 * TIMEOUT_SECONDS)) for _ in range(count)]
            operators.append(_operator(stage, name, account, database, bad))
            stack.callback(operators[-1].end)
        journals = [Journal(operators[0].folder / "evenkeel.sqlite")]
        journals += [Journal(operators[1].folder / "evenkeel.sqlite"), Journal(shared)]
        stack.callback(lambda: [journal.close() for journal in journals])
        stage.chain.automine(False)
        stage.block = stage.chain.web3.eth.block_number
        rng = random.Random(seed)
        work = Endurance(stage, operators, journals, accounts, rng, FIRST, console)
        wrong = work.run(seconds, begun)
        for operator in operators:
            bugs = (operator.folder / "log").read_text(errors="replace").count("bug: ")
            if bugs:
                wrong.append(f"{operator.name}: {bugs} lines say bug: {operator.folder / 'log'}")
            for each in operator.proxies:
                work.fired.update({f"RPC: {fault}": count for fault, count in each.done.items()})
        mined = judge.mined_since(stage.chain.web3, [a.address for a in accounts], stage.block)
        found = {
            "seed": seed,
            "minutes": round((time.monotonic() - begun) / 60, 1),
            "sessions_due": work.due.total(),
            "transactions_mined": len(mined),
            "reverted": sum(not tx.succeeded for tx in mined),
            "starts_of_keepers": {operator.name: operator.starts for operator in operators},
            "faults": dict(sorted(work.fired.items())),
            "wrong": wrong,
        }
        if wrong:
            (stage.folder / "0").mkdir(exist_ok=True)
            (stage.folder / "0" / "failed").touch()
    from tests.faults.campaign import write

    write({"endurance": found})
    console.print_json(json.dumps(found))
    console.print(f"{len(wrong)} differences between the chain and the journals")
    return int(bool(wrong))


def _operator(
    stage: Stage, name: str, account: LocalAccount, database: str, bad: Sequence[Proxy]
) -> Operator:
    folder = stage.folder / name
    folder.mkdir()
    key = Account.encrypt(account.key, PASSWORD, kdf="pbkdf2", iterations=10)
    (folder / "key.json").write_text(json.dumps(key))
    (folder / "password").write_text(PASSWORD)
    world, source = stage.world, stage.world.pool_source
    lines = {
        "rpc_urls": [each.url for each in bad],
        "vaults": [str(vault.address) for vault in stage.vaults],
        "executor": world.executor.address,
        "hub": world.cash.address,
        "keystore": "key.json",
        "password_file": "password",
        "v2_factories": list(source.v2_factories),
        "v3_factories": list(source.v3_factories),
        "v3_fees": list(source.v3_fees),
        "interval_seconds": 5,
        "confirmations": CONFIRMATIONS,
        "deadline_seconds": 600,
        "receipt_timeout_seconds": 10,
        "rpc_timeout_seconds": TIMEOUT_SECONDS,
    }
    (folder / "evenkeel.toml").write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVENKEEL") and k != "ETH_RPC_URL"}
    environment["PYTHONPATH"] = str(Path.cwd())
    if database:
        environment["EVENKEEL_DATABASE"] = database
    return Operator(name, folder, bad, environment)
