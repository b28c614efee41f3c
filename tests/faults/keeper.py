"""A keeper as a process of its own: it looks, again and again, until it is killed.

At moments of its journal (the commits, and the sending) it can be told to die, to stand still, or to fill its disk.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from eth_account import Account
from sqlalchemy import event
from sqlalchemy.orm import Session
from web3 import Web3
from web3.types import RPCEndpoint

from offchain.chain.errors import NODE_ERRORS
from offchain.chain.pools import PoolSource
from offchain.chain.rpc import Nodes
from offchain.chain.sender import Sender
from offchain.errors import EvenkeelError
from offchain.keeper import database
from offchain.keeper.journal import Journal
from offchain.keeper.loop import Keeper

TIMEOUT_SECONDS = 1.0  # of one request to the node
LOCK_SECONDS = 1  # that the journal waits for another writer
PAUSE_SECONDS = 0.2  # between two looks
CONFIRMATIONS = 2
DEADLINE_SECONDS = 1_200


@dataclass(frozen=True)
class Site:
    """What is deployed."""

    vaults: tuple[str, ...]
    executor: str
    hub: str
    pools: PoolSource


@dataclass(frozen=True)
class Orders:
    """Who keeps what, and what happens to the process."""

    site: Site
    node: str
    journal: str  # a file or an address
    key: str
    folder: str  # of what it says and is told
    name: str
    moment: int = 0  # which of its commits and sendings; 0: nothing happens
    when: str = "after"
    act: str = ""  # "kill", "freeze", "full disk", "clock"
    amount: float = 0  # seconds that the clock jumps

    @property
    def said(self) -> Path:
        return Path(self.folder, f"{self.name}.jsonl")


def keep(orders: Orders) -> None:
    """The process."""
    log = Path(orders.folder, f"{orders.name}.log").open("a", buffering=1)  # noqa: SIM115
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
    logging.basicConfig(stream=log, force=True)
    database.LOCK_SECONDS = LOCK_SECONDS
    with _moments(orders):
        _looks(orders)


def _looks(orders: Orders) -> None:
    web3 = Web3(Nodes([orders.node], timeout_seconds=TIMEOUT_SECONDS))
    account = Account.from_key(orders.key)
    sender = Sender(
        web3,
        account,
        receipt_timeout_seconds=1,
        poll_seconds=0.1,
        confirmations=CONFIRMATIONS,
        replace_after_seconds=60,
    )
    journal = None
    while True:
        for vault in orders.site.vaults:
            try:
                journal = journal or Journal(orders.journal)
                site = orders.site
                keeper = Keeper(
                    web3,
                    vault,
                    site.executor,
                    site.hub,
                    site.pools,
                    sender,
                    journal,
                    deadline_seconds=DEADLINE_SECONDS,
                )
                outcome = keeper.once()
                say(orders, look=str(outcome.status), vault=vault, reason=outcome.reason)
            except (EvenkeelError, *NODE_ERRORS) as error:
                say(orders, error=type(error).__name__, vault=vault, reason=str(error))
            except Exception as error:
                say(orders, bug=type(error).__name__, vault=vault, reason=str(error))
                logging.exception("bug")
        time.sleep(PAUSE_SECONDS)


def say(orders: Orders, **words: Any) -> None:
    """A line that survives what comes next."""
    with orders.said.open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), **words}) + "\n")


@contextmanager
def _moments(orders: Orders) -> Any:
    """Count commits and sendings; act at the one that is named."""
    number = 0
    send = Nodes.make_request

    def at(when: str) -> None:
        if number == orders.moment and when == orders.when:
            say(orders, fired=orders.act, moment=f"{when} {number}")
            ACTS[orders.act](orders)

    def before(_: object) -> None:
        nonlocal number
        number += 1
        at("before")

    def after(_: object) -> None:
        at("after")

    def make_request(self: Nodes, method: RPCEndpoint, params: Any) -> Any:
        if method != "eth_sendRawTransaction":
            return send(self, method, params)
        before(None)
        try:
            return send(self, method, params)
        finally:
            after(None)

    if orders.moment:
        event.listen(Session, "before_commit", before)
        event.listen(Session, "after_commit", after)
        Nodes.make_request = make_request  # type: ignore[method-assign]
    yield


def _kill(_: Orders) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _freeze(_: Orders) -> None:
    """Stand still until somebody says SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _full_disk(orders: Orders) -> None:
    """No byte more on the journal's disk, a small tmpfs."""
    folder = Path(orders.journal).parent
    ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
    size = 4096
    while size:
        try:
            os.write(ballast, bytes(size))
        except OSError:
            size //= 2
    os.close(ballast)  # else its bytes stay taken when the file is removed


def _clock(orders: Orders) -> None:
    """The wall clock is set."""
    real = time.time
    time.time = lambda: real() + orders.amount


ACTS: dict[str, Callable[[Orders], None]] = {
    "kill": _kill,
    "freeze": _freeze,
    "full disk": _full_disk,
    "clock": _clock,
}
