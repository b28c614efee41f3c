"""One run: keepers as processes, nodes that misbehave, faults as the scenario says, and the verdict."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from sqlalchemy import text

from offchain.keeper.journal import Journal
from tests.faults import judge
from tests.faults.keeper import LOCK_SECONDS, Orders, keep
from tests.faults.proxy import Proxy
from tests.faults.scenario import CREWS, Fault, Scenario
from tests.faults.stage import Stage

TICK_SECONDS = 0.05
REQUESTS_A_BLOCK = 10  # so that the chain is as fast as the keepers are, on any machine
BLOCK_EVERY_SECONDS = 0.5  # at least
BLOCK_SECONDS = 12
TROUBLE_SECONDS = 20  # then the nodes are well again
MOST_SECONDS = 180  # until all is settled
FULL_SECONDS = 0.5
FREEZE_SECONDS = 2
LOOKS_AFTER = 2  # of each keeper at each vault: the first may have begun before all was settled

NAMES = {  # of what happens while a keeper stands still
    "time": "clock of the chain",
    "chain goes on": "freeze",
    "stuck": "freeze, nothing is mined",
    "reorganisation": "reorganisation",
    "lock": "database locked",
    "restart": "database restarted",
}


def processes() -> ForkServerContext:
    """Keepers are forked from a process that has imported all of it, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.warm"])
    return context


@dataclass
class Slot:
    """One keeper: a process, and the next one when it is killed."""

    context: ForkServerContext
    orders: list[Orders]  # of each life; the last one is for all that follow
    proxy: Proxy
    process: ForkServerProcess | None = None
    life: int = -1
    read: int = 0  # bytes of what it said
    looks: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.life += 1
        orders = self.orders[min(self.life, len(self.orders) - 1)]
        if orders.act == "kill at a request":
            self._kill_at(self.proxy.seen + orders.moment, orders.when)
            orders = self.orders[-1]
        self.process = self.context.Process(target=keep, args=(orders,), daemon=True)
        self.process.start()

    def _kill_at(self, number: int, when: str) -> None:
        def watch(now: int, _method: str, moment: str) -> None:
            if now == number and moment == when and self.process and self.process.pid:
                self.fired.append("kill at a request")
                os.kill(self.process.pid, signal.SIGKILL)

        self.proxy.watch = watch

    @property
    def stands_still(self) -> bool:
        try:
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]  # type: ignore[union-attr]
        except OSError:
            return False
        return state == "T"

    def tick(self) -> str:
        """Why the run has failed, "" while it goes on."""
        self._listen()
        assert self.process is not None
        code = self.process.exitcode
        if code is None:
            return ""
        if code != -signal.SIGKILL:
            return f"{self.orders[0].name}: the process ended with {code}"
        self.process.close()
        self.start()
        return ""

    def _listen(self) -> None:
        path = self.orders[0].said
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self.read)
            said = file.read()
        whole = said[: said.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            words = json.loads(line)
            if "look" in words or "error" in words:
                self.looks.append(words.get("look") or words["error"])
            if "fired" in words:
                self.fired.append(words["fired"])
            if "bug" in words:
                self.bugs.append(f"{words['bug']}: {words['reason']}")

    def end(self) -> None:
        """The process is gone afterwards."""
        if self.process is None:
            return
        self.process.kill()  # all is settled, or it hangs
        self.process.join()
        self._listen()


@dataclass
class Verdict:
    """What came of a run."""

    scenario: Scenario
    wrong: list[str]
    fired: Counter[str]
    seconds: float
    folder: Path | None = None


class Episode:
    """The run of one scenario."""

    def __init__(
        self, stage: Stage, context: ForkServerContext, proxies: Sequence[Proxy], scenario: Scenario
    ) -> None:
        self.stage, self.scenario, self.rng = stage, scenario, random.Random(scenario.number)
        self.context, self.proxies = context, proxies
        self.fired: Counter[str] = Counter()
        self.slots: list[Slot] = []
        self.journals: list[Journal] = []
        self.full_since: float | None = None
        self.seen, self.mined_at = 0, 0.0
        self.whats: dict[int, Fault] = {}

    def run(self) -> Verdict:
        begun = time.monotonic()
        with self.stage.fresh(self.scenario.number) as folder:
            for proxy in self.proxies:
                proxy.calm()
                proxy.done.clear()
            try:
                self._begin(folder)
                wrong = self._go(folder)
            finally:
                for slot in self.slots:
                    slot.end()
            for slot in self.slots:
                wrong += [f"bug in {slot.orders[0].name}: {bug}" for bug in slot.bugs]
                self.fired.update(word for word in slot.fired if word != "freeze")
            wrong = wrong or self._judge()
            if wrong:
                (folder / "failed").write_text("\n".join(wrong))
            for journal in self.journals:
                journal.close()
        for proxy in self.proxies:
            proxy.watch = lambda number, method, when: None
            self.fired.update({f"RPC: {fault}": count for fault, count in proxy.done.items()})
        return Verdict(self.scenario, wrong, self.fired, time.monotonic() - begun, folder if wrong else None)

    # ------------------------------------------------------------ who keeps

    def _begin(self, folder: Path) -> None:
        crew, stage = self.scenario.crew, self.stage
        two = crew != CREWS[0]
        home = stage.small_disk(folder) if any(f.act == "full disk" for f in self.scenario.faults) else folder
        if crew == CREWS[2]:
            assert stage.postgres is not None
            targets = [stage.postgres.url()] * 2
        else:
            targets = [
                stage.journal(home if n == 0 else folder, f"journal{n}") for n in range(2 if two else 1)
            ]
        for n, target in enumerate(targets):
            account = stage.accounts[n if crew == CREWS[1] else 0]
            faults = self.scenario.faults if n == 0 else ()
            self.slots.append(self._slot(folder, n, target, account, faults))
        self.journals = [Journal(target) for target in dict.fromkeys(targets)]
        for slot in self.slots:
            slot.proxy.trouble(self.rng, self.scenario.trouble, self.scenario.rate, self.scenario.most)
            slot.start()

    def _slot(self, folder: Path, n: int, target: str, account: Any, faults: Sequence[Fault]) -> Slot:
        def orders(**act: Any) -> Orders:
            site, url = self.stage.site(self.scenario.vaults), self.proxies[n].url
            return Orders(site, url, target, account.key.hex(), str(folder), f"keeper{n}", **act)

        lives = [
            orders(moment=fault.moment, when=fault.when, act=fault.act, amount=fault.amount)
            for fault in faults
        ]
        self.whats = dict(enumerate(faults)) if n == 0 else self.whats
        return Slot(self.context, [*lives, orders()], self.proxies[n])

    # ------------------------------------------------------------ what happens

    def _go(self, folder: Path) -> list[str]:
        begun, tick, calm_looks = time.monotonic(), 0, None
        while True:
            mined = self._mine()
            for slot in self.slots:
                if problem := slot.tick():
                    return [problem]
                if slot.stands_still:
                    self._meanwhile(slot)
            self._give_room(folder)
            seconds, tick = time.monotonic() - begun, tick + mined
            if seconds > TROUBLE_SECONDS:
                self._calm()
            if mined and tick % 3 == 0:
                waits = self._waits_for()
                if waits:
                    calm_looks = None
                elif calm_looks is None:
                    self._calm()
                    calm_looks = [len(slot.looks) for slot in self.slots]
                elif all(
                    len(slot.looks) >= before + LOOKS_AFTER * self.scenario.vaults
                    for slot, before in zip(self.slots, calm_looks, strict=True)
                ):
                    return []
                if seconds > MOST_SECONDS:
                    return [f"not settled after {MOST_SECONDS} s: {waits or 'keepers do not look any more'}"]
            time.sleep(TICK_SECONDS)

    def _mine(self) -> bool:
        """Another block, if it is time for one."""
        seen, now = sum(proxy.seen for proxy in self.proxies), time.monotonic()
        if seen - self.seen < REQUESTS_A_BLOCK and now - self.mined_at < BLOCK_EVERY_SECONDS:
            return False
        self.seen, self.mined_at = seen, now
        self.stage.chain.mine_blocks(1, BLOCK_SECONDS)
        return True

    def _calm(self) -> None:
        for proxy in self.proxies:
            proxy.calm()

    def _waits_for(self) -> str:
        stage = self.stage
        for vault in stage.vaults[: self.scenario.vaults]:
            if not judge.closed(vault, stage.block):
                return f"{vault.address} is not rebalanced"
        return self._unsettled()

    def _unsettled(self) -> str:
        web3 = self.stage.chain.web3
        counts = {
            account.address: web3.eth.get_transaction_count(account.address) for account in self._accounts()
        }
        names = [str(vault.address) for vault in self.stage.vaults]
        return next(filter(None, (judge.unsettled(j, counts, names) for j in self.journals)), "")

    def _accounts(self) -> list[Any]:
        return list(self.stage.accounts if self.scenario.crew == CREWS[1] else self.stage.accounts[:1])

    def _give_room(self, folder: Path) -> None:
        """The disk that was full is tidied up after a while."""
        ballast = folder / "disk" / "ballast"
        if self.full_since is None and ballast.exists():
            self.full_since = time.monotonic()
        elif self.full_since is not None and time.monotonic() - self.full_since > FULL_SECONDS:
            ballast.unlink(missing_ok=True)
            self.full_since = None

    def _meanwhile(self, slot: Slot) -> None:
        """The process stands still; the world does not."""
        fault, chain = self.whats[slot.life], self.stage.chain
        if fault.what == "time":
            chain.mine_blocks(1, fault.amount)
        elif fault.what == "chain goes on":  # and so do the other keepers
            until = time.monotonic() + FREEZE_SECONDS
            while time.monotonic() < until:
                self._mine()
                time.sleep(TICK_SECONDS)
            chain.mine_blocks(1, fault.amount * BLOCK_SECONDS * 5)
        elif fault.what == "stuck":
            chain.mine_past(fault.amount, 5 * BLOCK_SECONDS)
        elif fault.what == "reorganisation":
            self._reorganise(fault.amount)
        elif fault.what == "restart" and self.scenario.crew == CREWS[2]:
            assert self.stage.postgres is not None
            self.stage.postgres.stop()
            self._wake(slot)
            time.sleep(0.3)
            self.stage.postgres.start()
        else:
            self._lock(slot)
        shared = self.scenario.crew == CREWS[2]
        self.fired["database locked" if fault.what == "restart" and not shared else NAMES[fault.what]] += 1
        self._wake(slot)

    def _reorganise(self, depth: int) -> None:
        """Some blocks, then as many are replaced; what was in them comes back, or not, or later."""
        chain = self.stage.chain
        chain.mine_blocks(self.rng.randint(1, 3), BLOCK_SECONDS)
        depth = min(depth, chain.web3.eth.block_number - self.stage.block)
        raws: list[str] = []
        for number in range(chain.web3.eth.block_number - depth + 1, chain.web3.eth.block_number + 1):
            for tx in chain.web3.eth.get_block(number)["transactions"]:
                raws.append(chain.web3.eth.get_raw_transaction(tx).to_0x_hex())  # type: ignore[arg-type]
        chain.reorganise(depth, *(raws if self.rng.random() < 0.4 else ()))

    def _lock(self, slot: Slot) -> None:
        """Another process writes for longer than the keeper waits."""
        target = slot.orders[0].journal
        if target.startswith("postgresql"):
            with self.journals[0]._engine.connect() as db:
                db.execute(text("lock table runs, nonces, attempts in access exclusive mode"))
                self._wake(slot)
                time.sleep(LOCK_SECONDS)
                db.rollback()
            return
        with closing(sqlite3.connect(target, isolation_level=None, timeout=5)) as db:
            db.execute("begin exclusive")
            self._wake(slot)
            time.sleep(LOCK_SECONDS * 1.5)
            db.execute("rollback")

    def _wake(self, slot: Slot) -> None:
        if slot.process is not None and slot.process.pid is not None and slot.process.exitcode is None:
            os.kill(slot.process.pid, signal.SIGCONT)

    # ------------------------------------------------------------ the verdict

    def _judge(self) -> list[str]:
        vaults = self.stage.vaults[: self.scenario.vaults]
        accounts = [account.address for account in self._accounts()]
        expected = {str(vault.address): 1 for vault in vaults}
        chain = self.stage.chain
        wrong = judge.faults_in(chain.web3, vaults, self.journals, accounts, self.stage.block, expected)
        if problem := self._unsettled():
            wrong.append(problem)
        waiting = {account: txs for account, txs in chain.pool().items() if account in accounts}
        if waiting:
            wrong.append(f"in the node's pool: {waiting}")
        return wrong
