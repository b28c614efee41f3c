"""A chain with many vaults, a fleet of real processes, and the chain's own record of what they did."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from sqlalchemy.engine import Engine
from web3.types import FilterParams, TxParams

from offchain.chain.contracts import bind
from offchain.chain.events import vault_events
from offchain.cli import app
from offchain.demo.localchain import MAX_FEE, TIP
from offchain.demo.market import Day
from offchain.demo.world import TOKENS, World, _amount, build_world
from offchain.keeper.database import open_database
from offchain.keeper.fleet import create_queue, status_report
from offchain.keeper.journal import Journal, Status
from offchain.policy import Mode
from tests.support.anvil import Anvil, anvil
from tests.support.demo_vault import FIRST

SEED_USD = 1_000  # in each vault
CREATE_GAS = 4_000_000
PATIENCE = 300  # seconds until a fleet that stands still is a failure; nothing is measured by it
SILENT = 5  # fleet_timeout_seconds


def moved(day: Day, per_cent: int, stock: int = 0) -> Day:
    """The day's prices with one stock moved."""
    prices = list(day.prices)
    prices[stock] = prices[stock] * (100 + per_cent) // 100
    return replace(day, prices=tuple(prices))


JUMP = moved(FIRST, per_cent=60)  # tAAPL from 30 % to above 40 %: every band is broken


@contextmanager
def many_vaults(count: int) -> Iterator[World]:
    """`count` threshold vaults of one factory, on target, with the Uniswap pools of the demo."""
    with anvil(FIRST.timestamp) as chain:
        world = build_world(chain, FIRST)
        add_vaults(world, count)
        yield world


def add_vaults(world: World, count: int) -> None:
    """Made by one account, its transactions one behind the other."""
    chain, deployer = world.chain, world.deployer
    web3 = chain.web3
    world.mint(deployer.address, SEED_USD * count, FIRST)
    seeds = [
        _amount(token, price, SEED_USD) * token.target_bps // 10_000
        for token, price in zip(TOKENS, FIRST.prices, strict=True)
    ]
    nonce, first = web3.eth.get_transaction_count(deployer.address), len(world.vaults)
    last = None
    for number in range(first, first + count):
        config = world._config(Mode.THRESHOLD, f"Basket {number}", f"B{number}")
        call = world.factory.functions.create_vault(config, seeds, number.to_bytes(32, "big"))
        tx: TxParams = {
            "to": world.factory.address,
            "data": call._encode_transaction_data(),
            "nonce": cast(Any, nonce),
            "gas": CREATE_GAS,
            "chainId": 31_337,
            "value": cast(Any, 0),
            "maxFeePerGas": MAX_FEE,
            "maxPriorityFeePerGas": TIP,
        }
        signed = deployer.sign_transaction(cast(dict[str, Any], tx))
        last = web3.eth.send_raw_transaction(signed.raw_transaction)
        nonce += 1
    if last is not None:
        assert web3.eth.wait_for_transaction_receipt(last)["status"] == 1
    for number in range(first, world.factory.functions.vault_count().call()):
        world.vaults.append(bind(web3, "Vault", world.factory.functions.vaults(number).call()))
    assert len(world.vaults) == first + count


def rebalanced(world: World) -> Counter[str]:
    """How often each vault was rebalanced, by the chain's own events."""
    web3, vault = world.chain.web3, world.vaults[0]
    topic = vault.events.Rebalanced().topic
    wanted: FilterParams = {
        "fromBlock": 0,
        "toBlock": "latest",
        "address": [vault.address for vault in world.vaults],
        "topics": [topic],
    }
    return Counter(entry["address"] for entry in web3.eth.get_logs(wanted))


def sent_by_keeper(world: World) -> list[tuple[str, int]]:
    """Hash and status (1: it did not revert) of every transaction of the keeper's account that is in a block."""
    web3 = world.chain.web3
    found = []
    for number in range(web3.eth.block_number + 1):
        for tx in web3.eth.get_block(number, full_transactions=True)["transactions"]:
            if not isinstance(tx, bytes) and tx["from"] == world.keeper.address:
                receipt = web3.eth.get_transaction_receipt(tx["hash"])
                found.append((tx["hash"].to_0x_hex(), int(receipt["status"])))
    return found


def judge(world: World, database: str, times: int = 1) -> None:
    """No vault was missed, none rebalanced twice, nothing reverted, and the journal says the same as the chain."""
    wanted = {vault.address: times for vault in world.vaults}
    assert dict(rebalanced(world)) == wanted
    sent = sent_by_keeper(world)
    assert [tx for tx, status in sent if status != 1] == []
    journal = Journal(database)
    try:
        runs = journal.runs(limit=100_000)
    finally:
        journal.close()
    done = [run for run in runs if run.status == Status.CONFIRMED]
    assert Counter(run.vault for run in done) == wanted
    assert {run.tx_hash for run in done} <= {tx for tx, _ in sent}
    assert [run for run in runs if run.status in (Status.SENT, Status.MINED)] == []
    for vault in world.vaults[:: max(1, len(world.vaults) // 10)]:  # the slow way, for some
        web3 = world.chain.web3
        events = vault_events(web3, vault.address, 0, web3.eth.block_number)
        hashes = {event["transactionHash"].to_0x_hex() for event in events if event["event"] == "Rebalanced"}
        assert hashes == {run.tx_hash for run in done if run.vault == vault.address}


@dataclass
class Workers:
    """`evenkeel fleet work`, several times."""

    world: World
    database: str
    folder: Path
    looks: int = 2
    fork: bool = False  # out of this process, which has imported everything; else programs of their own
    processes: dict[str, Any] = field(default_factory=dict)  # Popen or Forked
    engine: Engine | None = None

    def __post_init__(self) -> None:
        self.engine = open_database(self.database)
        create_queue(self.engine)
        keystore, password = self.folder / "key.json", self.folder / "password"
        key = Account.encrypt(self.world.keeper.key, "secret", kdf="pbkdf2", iterations=10)
        keystore.write_text(json.dumps(key))
        password.write_text("secret\n")
        lens = self.world.chain.deploy(self.world.deployer, "VaultLens")
        source = self.world.pool_source
        (self.folder / "evenkeel.toml").write_text(
            f'rpc_url = "{self.world.chain.url}"\nfactory = "{self.world.factory.address}"\n'
            f'lens = "{lens.address}"\nexecutor = "{self.world.executor.address}"\n'
            f'hub = "{self.world.cash.address}"\nkeystore = "{keystore}"\npassword_file = "{password}"\n'
            f"v2_factories = {json.dumps(source.v2_factories)}\nv3_factories = {json.dumps(source.v3_factories)}\n"
            f"v3_fees = {json.dumps(list(source.v3_fees))}\ninterval_seconds = 1\n"
            f"fleet_tick_seconds = 1\nfleet_looks = {self.looks}\nfleet_timeout_seconds = {SILENT}\n"
        )

    def start(self, name: str) -> None:
        """A process of its own; its log is `name`.log."""
        arguments = ["fleet", "work", "--name", name, "--config", str(self.folder / "evenkeel.toml")]
        log = self.folder / f"{name}.log"
        log.touch()
        if self.fork:
            self.processes[name] = Forked(arguments, self.database, log)
            return
        with log.open("wb") as file:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "offchain.cli", *arguments],
                env={**os.environ, "EVENKEEL_DATABASE": self.database},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,  # a shell that ends wakes the frozen of its own session
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def report(self) -> dict[str, Any]:
        assert self.engine is not None
        return status_report(self.engine, SILENT)

    def looking(self, name: str) -> list[str]:
        """The vaults that this worker has now."""
        return [vault["vault"] for vault in self.report()["vaults"] if vault["worker"] == name]

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def screened(self) -> int:
        """How many vaults a round found to be not worth a look."""
        return sum(vault["result"] == "waiting" for vault in self.report()["vaults"])

    def last_workers(self, vaults: list[str]) -> set[str]:
        """Who looked at these last."""
        return {vault["last_worker"] for vault in self.report()["vaults"] if vault["vault"] in vaults}

    def freeze(self, names: str = "") -> None:
        """Stop all of them, or these, and wait until they stand still."""
        for name in names or self.processes:
            self.processes[name].send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.processes[name].pid, os.WSTOPPED)

    def wake(self, names: str) -> None:
        for name in names:
            self.processes[name].send_signal(signal.SIGCONT)

    def freeze_at_work(self, name: str) -> list[str]:
        """Freeze the worker while it looks at a vault; which it had then, and has for as long as it is frozen."""
        while True:
            self.until(lambda: self.looking(name), f"{name} to look at something")
            self.freeze(name)
            if held := self.looking(name):
                return held
            self.wake(name)

    def until(self, true: Callable[[], object], what: str) -> None:
        """Wait for it; AssertionError with the logs where it does not come."""
        give_up = time.monotonic() + PATIENCE
        while not true():
            gone = [name for name, process in self.processes.items() if process.poll() not in (None, -9)]
            said = {name: self.log(name)[-3_000:] for name in self.processes}
            assert not gone and time.monotonic() < give_up, (f"waited for {what}", gone, said)
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM, and see that each ends well."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for name, process in self.processes.items():
            code = process.wait(60)
            assert code in (0, -9), (name, code, self.log(name)[-3_000:])

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.engine is not None:
            self.engine.dispose()


class Forked:
    """The command in a fork of this process, with what is used of Popen."""

    def __init__(self, arguments: list[str], database: str, log: Path) -> None:
        self._process = multiprocessing.get_context("fork").Process(
            target=_command, args=(arguments, database, log), daemon=True
        )
        self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode


def _command(arguments: list[str], database: str, log: Path) -> None:
    os.setsid()
    os.environ["EVENKEEL_DATABASE"] = database
    with log.open("a", buffering=1) as file:
        sys.stdout = sys.stderr = file
        app(arguments, standalone_mode=True)


@contextmanager
def workers(
    world: World, database: str, folder: Path, names: str, looks: int = 2, fork: bool = False
) -> Iterator[Workers]:
    """One worker a letter of `names`, until the block ends."""
    found = Workers(world, database, folder, looks, fork)
    try:
        for name in names:
            found.start(name)
        yield found
    finally:
        found.close()


__all__ = ["JUMP", "SILENT", "Anvil", "Workers", "judge", "many_vaults", "moved", "rebalanced", "workers"]
