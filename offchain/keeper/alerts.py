"""Alerts: what is wrong (offchain.keeper.health) posted to a webhook as JSON, each once.

A problem is told once it has lasted a little (`HOLD_SECONDS`), again while it goes on after `alert_repeat_seconds`, and
once more when nobody has seen it for `CLEAR_SECONDS`; what comes and goes is one alert. What was told is kept in the
journal's database, so that a restart or another worker does not tell it again; while that is away, in memory.

Delivery is at least once: `id` is the same for a message that comes twice. `text` is what Slack and Mattermost show. A
webhook that does not answer is tried again and never holds the keeper up; its address is a secret and is not logged.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
import structlog
from pydantic import SecretStr
from sqlalchemy import delete, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from offchain import __version__
from offchain.chain.errors import JournalError
from offchain.keeper.database import reading, writing
from offchain.keeper.health import BLOCKING, Kind, Problem
from offchain.keeper.overview import Ledger
from offchain.keeper.tables import Alert
from offchain.keeper.watch import Facts, plain

__all__ = ["Alerts", "is_over"]

HOLD_SECONDS = {  # what may be over in a moment
    Kind.DATABASE: 30,
    Kind.NODE_AWAY: 60,
    Kind.STALE_BLOCK: 60,
    Kind.NODE_DISAGREEMENT: 60,
    Kind.LOW_GAS: 30,
    Kind.STALE_ORACLE: 30,
}
CLEAR_SECONDS = 120  # so long it has to be over
TOUCH_SECONDS = 30  # how often it is noted that it goes on: others may not see it
CLAIM_SECONDS = 120  # that one message may take; nobody else sends it then
MOST_MESSAGES = 20  # in one check; the others come in the next ones
TRIES = 4
TIMEOUT = (3, 10)  # seconds to connect, and to answer
SILENT = frozenset({Kind.STARTING})  # said by /readyz only
CRITICAL = BLOCKING | {Kind.MISSED_RUN, Kind.REPEATED_FAILURE, Kind.STUCK_TRANSACTION}
OF_HOST = frozenset(  # seen from this machine; others may see it differently
    {
        Kind.DATABASE,
        Kind.KILL_SWITCH,
        Kind.NODE_AWAY,
        Kind.WRONG_CHAIN,
        Kind.STALE_BLOCK,
        Kind.NODE_DISAGREEMENT,
    }
)
AWAY = (JournalError, SQLAlchemyError)

log = structlog.get_logger("evenkeel.alerts")


@dataclass
class _Told:
    """What is known of one alert. UTC seconds."""

    key: str
    kind: str
    since: int
    seen_at: int
    sent_at: int | None = None
    claimed_until: int = 0
    text: str = ""


class _Busy(Exception):
    """The webhook may take it later."""


@dataclass
class Alerts:
    """One webhook. `check` is for one thread at a time."""

    engine: Engine
    url: SecretStr
    repeat_seconds: int
    stop: threading.Event = field(default_factory=threading.Event)
    wall: Callable[[], float] = time.time
    pause_seconds: float = 1  # before the second try; twice as long before each further one
    host: str = field(default_factory=socket.gethostname)
    _kept: dict[str, _Told] = field(default_factory=dict)
    _unsaved: set[str] = field(default_factory=set)
    _began: dict[str, float] = field(default_factory=dict)  # when this process first saw it …
    _ended: dict[str, float] = field(default_factory=dict)  # … and first saw it over
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def counts(self) -> dict[tuple[str, str], int]:
        """Messages so far, by kind and by "firing", "resolved" or "failed"."""
        return dict(self._counts)

    def check(self, found: Sequence[Problem], over: Callable[[Kind, str], bool]) -> None:
        """Tell what is to be told. `over`: whether this kind of problem of this subject is known to be over.

        Never raises.
        """
        try:
            self._check(found, over)
        except Exception as error:
            log.error("bug: alerts failed", kind=type(error).__name__)  # the text may hold the address

    def _check(self, found: Sequence[Problem], over: Callable[[Kind, str], bool]) -> None:
        now, known = int(self.wall()), self._load()
        active = {self._key(one.kind, one.subject): one for one in found if one.kind not in SILENT}
        self._began = {key: began for key, began in self._began.items() if key in active}
        messages = 0
        for key, problem in active.items():
            self._ended.pop(key, None)
            began = self._began.setdefault(key, now)
            told = known.get(key)
            if told is None:
                if now - began < HOLD_SECONDS.get(problem.kind, 0) and now >= began:
                    continue
                told = self._add(_Told(key, problem.kind, int(began), now, text=problem.text))
            elif now - told.seen_at >= TOUCH_SECONDS or now < told.seen_at:
                self._touch(told, now)
            if not self._is_due(told, now) or messages >= MOST_MESSAGES:
                continue
            if not self._claim(told, now):
                continue
            messages += 1
            if not self._post(self._firing(problem, told), problem.kind, "firing"):
                return
            told.sent_at, told.seen_at, told.claimed_until, told.text = now, now, 0, problem.text
            self._save(told)
        for key, told in known.items():
            if key not in active and self._is_over(told, over, now) and messages < MOST_MESSAGES:
                messages += told.sent_at is not None
                if not self._resolve(told, now):
                    return

    # ------------------------------------------------------------ when

    def _is_due(self, told: _Told, now: int) -> bool:
        if now < told.claimed_until <= now + CLAIM_SECONDS:
            return False
        if told.sent_at is None:
            return True
        ago = now - told.sent_at
        return ago >= self.repeat_seconds or ago < -CLAIM_SECONDS  # the clock was set back

    def _is_over(self, told: _Told, over: Callable[[Kind, str], bool], now: int) -> bool:
        kind, _, subject = told.key.partition(":")
        subject, _, host = subject.partition("@")
        if kind not in set(Kind) or (host and host != self.host) or not over(Kind(kind), subject):
            self._ended.pop(told.key, None)
            return False
        ended = self._ended.setdefault(told.key, now)
        quiet = now - ended >= CLEAR_SECONDS or now < ended
        return quiet and (now - told.seen_at >= CLEAR_SECONDS or now < told.seen_at)

    def _resolve(self, told: _Told, now: int) -> bool:
        """False where the webhook did not take it."""
        if told.sent_at is not None:
            if now < told.claimed_until <= now + CLAIM_SECONDS or not self._claim(told, now):
                return True
            if not self._post(self._resolved(told), told.kind, "resolved"):
                return False
        self._ended.pop(told.key, None)
        self._forget(told.key)
        return True

    def _key(self, kind: Kind, subject: str) -> str:
        return f"{kind}:{subject}{f'@{self.host}' if kind in OF_HOST else ''}"[:200]

    # ------------------------------------------------------------ what

    def _firing(self, problem: Problem, told: _Told) -> dict[str, Any]:
        where = [f"vault {problem.vault}"] if problem.vault else []
        where += [f"account {problem.account}"] if problem.account else []
        words = " ".join([problem.text, plain(problem.detail), *where]).strip()
        return self._message(told, problem.kind, "firing", words, told.sent_at) | {
            "vault": problem.vault,
            "account": problem.account,
            "chain_id": problem.chain_id,
            "repeated": told.sent_at is not None,
        }

    def _resolved(self, told: _Told) -> dict[str, Any]:
        subject = told.key.partition(":")[2]
        return self._message(
            told, told.kind, "resolved", f"Over ({subject}). It was: {told.text}", "resolved"
        )

    def _message(self, told: _Told, kind: str, status: str, words: str, which: object) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{told.key} {told.since} {which}")),
            "kind": str(kind),
            "status": status,
            "severity": "critical" if kind in CRITICAL else "warning",
            "subject": told.key.partition(":")[2],
            "since": told.since,
            "host": self.host,
            "version": __version__,
            "text": _escaped(f"[{status}] {kind}: {words}"),
        }

    # ------------------------------------------------------------ to whom

    def _post(self, message: dict[str, Any], kind: str, status: str) -> bool:
        """Whether the webhook took it."""
        retrying = Retrying(
            retry=retry_if_exception_type((requests.RequestException, _Busy)),
            wait=wait_random_exponential(multiplier=2 * self.pause_seconds, max=10),
            stop=stop_after_attempt(TRIES) | stop_when_event_set(self.stop),
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            answer = retrying(self._once, message)
        except Exception as error:  # requests' own words hold the address
            answer = str(error) if isinstance(error, _Busy) else type(error).__name__
        if not answer:
            self._counts[str(kind), status] += 1
            log.info("alert sent", kind=str(kind), status=status, id=message["id"])
            return True
        self._counts[str(kind), "failed"] += 1
        log.warning("alert not delivered", kind=str(kind), reason=answer, host=_host(self.url))
        return False

    def _once(self, message: dict[str, Any]) -> str:
        """Why the webhook refuses it, "" where it takes it. Raises where another try may help."""
        with requests.post(
            self.url.get_secret_value(), json=message, timeout=TIMEOUT, allow_redirects=False, stream=True
        ) as response:
            status = response.status_code
        if status == 429 or status >= 500:
            raise _Busy(f"HTTP {status}")
        return "" if 200 <= status < 300 else f"HTTP {status}"

    # ------------------------------------------------------------ what was told, in the database and here

    def _load(self) -> dict[str, _Told]:
        """All alerts that are known; what could not be written before is written now."""
        try:
            for key in sorted(self._unsaved):
                self._write(key)
            with reading(self.engine) as db:
                rows = db.scalars(select(Alert)).all()
            self._kept = {row.key: _told(row) for row in rows}
        except AWAY:
            pass
        return dict(self._kept)

    def _add(self, told: _Told) -> _Told:
        """A new one, or what another worker has just written of it."""
        self._kept[told.key] = told
        try:
            with writing(self.engine) as db:
                db.add(Alert(**vars(told)))
        except IntegrityError:
            with reading(self.engine) as db:
                row = db.get(Alert, told.key)
            self._kept[told.key] = told if row is None else _told(row)
        except AWAY:
            self._unsaved.add(told.key)
        return self._kept[told.key]

    def _save(self, told: _Told) -> None:
        self._unsaved.add(told.key)
        try:
            self._write(told.key)
        except AWAY:
            log.warning("alert not written down", kind=told.kind)

    def _touch(self, told: _Told, now: int) -> None:
        """It goes on."""
        told.seen_at = now
        try:
            with writing(self.engine) as db:
                db.execute(update(Alert).where(Alert.key == told.key).values(seen_at=now))
        except AWAY:
            self._unsaved.add(told.key)

    def _forget(self, key: str) -> None:
        del self._kept[key]
        self._unsaved.add(key)
        try:
            self._write(key)
        except AWAY:
            log.warning("alert not written down", kind=key.partition(":")[0])

    def _write(self, key: str) -> None:
        """As it is here."""
        told = self._kept.get(key)
        with writing(self.engine) as db:
            if told is None:
                db.execute(delete(Alert).where(Alert.key == key))
            else:
                db.merge(Alert(**vars(told)))
        self._unsaved.discard(key)

    def _claim(self, told: _Told, now: int) -> bool:
        """Nobody else sends it for a while; True without a database."""
        until, old = now + CLAIM_SECONDS, told.claimed_until
        try:
            with writing(self.engine) as db:
                found = db.execute(
                    update(Alert)
                    .where(Alert.key == told.key, Alert.claimed_until == old)
                    .where(Alert.sent_at.is_not_distinct_from(told.sent_at))
                    .values(claimed_until=until)
                )
                if found.rowcount != 1 and told.key not in self._unsaved:  # type: ignore[attr-defined]
                    return False
        except AWAY:
            self._unsaved.add(told.key)
        told.claimed_until = until
        return True


def is_over(kind: Kind, subject: str, facts: Facts, ledger: Ledger | None) -> bool:
    """That a problem is not there means that it is over, and not that this process cannot tell, or is not the one."""
    if kind in (Kind.DATABASE, Kind.KILL_SWITCH):
        return facts.database is not None
    node = facts.node
    if kind in OF_HOST:
        return node is not None and (node.answers or kind != Kind.STALE_BLOCK)
    if kind in (Kind.LOW_GAS, Kind.STUCK_TRANSACTION):
        mine = facts.account is not None and facts.account.address == subject
        known = node is not None and node.block_time is not None and ledger is not None
        return mine and known and (kind != Kind.LOW_GAS or (node is not None and node.gas_price is not None))
    seen = next((seen for seen in facts.vaults if seen.vault == subject), None)
    if seen is None or seen.looked_at is None:
        return False
    if kind in (Kind.REPEATED_FAILURE, Kind.HALTED):
        return seen.reason is None  # nor is anything waited for
    return kind == Kind.MISSED_RUN or seen.snapshot is not None


def _told(row: Alert) -> _Told:
    return _Told(row.key, row.kind, row.since, row.seen_at, row.sent_at, row.claimed_until, row.text)


def _host(url: SecretStr) -> str:
    return urlsplit(url.get_secret_value()).hostname or ""


def _escaped(text: str) -> str:
    """Slack reads <…> as a link or a call to everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
