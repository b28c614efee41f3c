"""What a keeper process knows of itself, for those who look at it from outside: metrics, health, alerts, halting.

`Watch.look(vault, once)` runs one look, notes what came of it, and never raises. After `max_exceptions` looks in a row
that ended in an error the vault's keeper is halted: it pauses, ever longer, and then tries one look; a look that ends
without an error ends the halt. Nodes, databases and other keepers that are in the way are waited for and do not count.

Ages are of a monotonic clock, so that a clock that is set does not look like a keeper that stands still.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import structlog

from offchain.chain.errors import NODE_ERRORS, BusyError, ChainError, ConfigError, JournalError
from offchain.chain.rpc import NodesDisagree, NodeStatus, WrongChain
from offchain.chain.rpc_rules import hidden
from offchain.chain.sender import RelayUnavailable
from offchain.chain.vault import Snapshot
from offchain.errors import EvenkeelError
from offchain.keeper.dispatch import INTERRUPTED, LATE
from offchain.keeper.journal import REVERTED, Status
from offchain.keeper.loop import Outcome, pause_after
from offchain.keeper.sanity import NotTraded, kind_of

__all__ = [
    "RESULTS",
    "AccountSeen",
    "Facts",
    "NodeSeen",
    "PriceSeen",
    "Reason",
    "VaultSeen",
    "Watch",
    "plain",
    "reason_of",
    "reason_of_error",
    "words_of",
]

AWAY_SECONDS = 60  # so long looks may fail for something that is away before that counts as failures in a row
TEXT = 300  # characters of a reason that others wrote
ERROR, NODE_AWAY, BUSY, HALTED = "error", "node_away", "busy", "halted"
RESULTS = (*map(str, Status), ERROR, NODE_AWAY, BUSY, HALTED)  # of a look

log = structlog.get_logger("evenkeel.keeper")


class Reason(StrEnum):
    """Why a look failed: all that the label `reason` of a metric can be."""

    NODE = "node_away"
    RELAY = "relay_away"
    DISAGREEMENT = "node_disagreement"
    WRONG_CHAIN = "wrong_chain"
    SETTING = "setting"
    CHAIN = "chain_answer"  # node or contract answer what cannot be right
    DATABASE = "database"
    SIMULATION = "simulation_refused"
    NOT_KEEPER = "not_keeper"
    REVERTED = "reverted"
    FUNDS = "insufficient_funds"
    FEE_LIMIT = "fee_limit"
    DAILY_LIMIT = "daily_gas_limit"
    NODE_REFUSED = "node_refused"  # the node, or the relay, does not take the transaction
    LATE = "deadline_passed"
    NONCE_TAKEN = "nonce_taken"
    INTERRUPTED = "interrupted"
    KILL_SWITCH = "kill_switch"
    BUG = "bug"
    OTHER = "other"


# What the reason of a failed run says (offchain.keeper.loop, dispatch, chain.sender, chain.fees). The first that fits.
_WORDS: tuple[tuple[str, Reason], ...] = (
    ("lacks the keeper role", Reason.NOT_KEEPER),
    ("the vault refuses in simulation", Reason.SIMULATION),
    ("the vault would refuse it now", Reason.SIMULATION),
    (REVERTED, Reason.REVERTED),
    ("insufficient funds", Reason.FUNDS),
    ("daily_gas_limit_native", Reason.DAILY_LIMIT),
    ("max_fee_gwei", Reason.FEE_LIMIT),
    ("max_tip_gwei", Reason.FEE_LIMIT),
    ("refuses the transaction", Reason.NODE_REFUSED),
    (LATE, Reason.LATE),
    ("used nonce", Reason.NONCE_TAKEN),
    (INTERRUPTED, Reason.INTERRUPTED),
    ("kill_switch", Reason.KILL_SWITCH),
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s()<>\"']+", re.IGNORECASE)
_PAUSING = "pausing after"  # a look that waits after reverts on chain does not mean that they are over


@dataclass(slots=True)
class VaultSeen:
    """A vault's looks. Times are of the monotonic clock, seconds."""

    vault: str  # address
    chain_id: int | None = None
    result: str = ""  # of the last look, one of RESULTS; "": none has ended
    reason: Reason | None = None  # of the last failure, while it lasts
    detail: str = ""  # the same in words
    snapshot: Snapshot | None = None  # the last one that was read
    started_at: float | None = None  # of the look that is under way, or of its newest try
    looked_at: float | None = None  # end of the last look
    due_at: float | None = None  # when the next look has to start
    failures_in_a_row: int = 0
    away_since: float | None = (
        None  # clock; something is waited for that the probe finds there, or has not asked
    )
    exceptions_in_a_row: int = 0
    halted_until: float | None = None
    looks: Counter[str] = field(default_factory=Counter)
    failures: Counter[Reason] = field(default_factory=Counter)
    not_traded: Counter[NotTraded] = field(default_factory=Counter)  # looks that ended without a transaction


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """What the node said when it was last asked."""

    answers: bool
    chain_id: int | None = None
    block: int | None = None
    block_time: int | None = None  # timestamp
    gas_price: int | None = None  # wei a gas unit that a transaction would offer at most


@dataclass(frozen=True, slots=True)
class AccountSeen:
    """The account that sends."""

    chain_id: int
    address: str
    balance: int  # wei of the native token


@dataclass(frozen=True, slots=True)
class PriceSeen:
    """When a feed last spoke."""

    updated_at: int  # timestamp
    heartbeat_seconds: int  # an older price is stale


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it at one moment."""

    clock: float  # monotonic, seconds
    wall: float  # UTC, seconds
    beat_at: float | None  # when the scheduler last ran anything; None: it does not run yet
    vaults: tuple[VaultSeen, ...]
    node: NodeSeen | None  # None: not asked yet
    account: AccountSeen | None
    prices: Mapping[tuple[str, str], PriceSeen]  # by oracle and token
    names: Mapping[str, str]  # symbols by token, plain
    endpoints: tuple[NodeStatus, ...]
    expected_chain: int | None
    database: bool | None  # whether it answered; None: not asked yet
    kill_switch: str  # the file, while it exists
    sends: bool
    standby: bool = False  # another keeper has the journal or the vaults


class Watch:
    """What the process saw; safe to use from several threads."""

    def __init__(
        self,
        *,
        max_exceptions: int = 3,
        chain_id: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.max_exceptions = max_exceptions
        self.clock, self._wall, self._lock = clock, wall, threading.RLock()
        self._vaults: dict[str, VaultSeen] = {}
        self._probed: dict[
            Reason, bool
        ] = {}  # whether it answered the probe: what does not has its own alert
        self._facts = Facts(
            0, 0, None, (), None, None, {}, {}, (), chain_id, None, kill_switch="", sends=False
        )

    # ------------------------------------------------------------ looks

    def look(
        self, vault: str, once: Callable[[], Outcome], meanwhile: Callable[[], object] | None = None
    ) -> Outcome | None:
        """One look, unless the vault's keeper is halted; None where it did not end with an outcome. Never raises.

        `meanwhile` is done instead while it is halted: what was sent before is still looked after.
        """
        if self.halted(vault):
            self._instead(vault, meanwhile)
            return None
        self.started(vault)
        try:
            outcome = once()
            self.looked(vault, outcome)
        except Exception as error:
            self.failed(vault, error)
            return None
        return outcome

    def _instead(self, vault: str, meanwhile: Callable[[], object] | None) -> None:
        if meanwhile is None:
            return
        try:
            meanwhile()
        except Exception as error:
            log.warning(
                "halted, and what was sent cannot be looked after", vault=vault, error=words_of(error)
            )

    def started(self, vault: str) -> None:
        """A look begins."""
        with self._lock:
            self._of(vault).started_at = self.clock()

    def outage(self, vault: str, error: BaseException | None) -> None:
        """The look that is under way waits for node or database and will try again."""
        reason, ours = reason_of_error(error), isinstance(error, RelayUnavailable | JournalError)
        with self._lock:
            seen = self._of(vault)
            seen.started_at = self.clock()  # it moves
            self._waits(seen, reason, words_of(error) if ours else "the node does not answer")
            if reason == Reason.DATABASE:
                self._facts = replace(self._facts, database=False)

    def looked(self, vault: str, outcome: Outcome) -> None:
        """A look ended with an outcome."""
        with self._lock:
            seen = self._of(vault)
            self._end(seen, str(outcome.status))
            seen.chain_id = outcome.chain_id
            seen.snapshot = outcome.snapshot or seen.snapshot
            if outcome.status in (Status.SKIPPED, Status.SIMULATED, Status.PLANNED):
                seen.not_traded[kind_of(outcome.reason)] += 1
            seen.exceptions_in_a_row, halted, seen.halted_until = 0, seen.halted_until, None
            seen.away_since = None
            if outcome.status == Status.FAILED:
                self._failure(seen, reason_of(outcome.reason), plain(outcome.reason))
            elif outcome.status != Status.SENT and not outcome.reason.startswith(_PAUSING):
                seen.failures_in_a_row, seen.reason, seen.detail = 0, None, ""
        if halted is not None:
            log.warning("no longer halted", vault=vault)

    def failed(self, vault: str, error: Exception) -> None:
        """A look ended with an error."""
        reason = reason_of_error(error)
        known = isinstance(error, EvenkeelError)
        if isinstance(error, BusyError):
            with self._lock:
                self._end(self._of(vault), BUSY)
            log.info("look ended", vault=vault, reason=str(error))
            return
        waited_for = isinstance(error, NODE_ERRORS) or reason == Reason.DATABASE
        with self._lock:
            seen = self._of(vault)
            self._end(seen, NODE_AWAY if isinstance(error, NODE_ERRORS) else ERROR)
            if waited_for:
                self._waits(seen, reason, words_of(error))
            else:
                self._failure(seen, reason, words_of(error))
                self._count(seen)
            if reason == Reason.DATABASE:
                self._facts = replace(self._facts, database=False)
        if isinstance(error, NODE_ERRORS):
            log.warning("stopped while the node was away", vault=vault, error=words_of(error))
        elif known:
            log.error("look failed", vault=vault, reason=str(reason), error=words_of(error))
        else:
            log.error("bug: look failed", vault=vault, exc_info=error)

    def halted(self, vault: str) -> bool:
        """Whether no look is to be made now, because of errors in a row; noted as a look that was left out."""
        with self._lock:
            seen = self._of(vault)
            if seen.halted_until is None or self.clock() >= seen.halted_until:
                return False
            said = seen.result == HALTED
            self._end(seen, HALTED)
            left = seen.halted_until - self.clock()
            errors = seen.exceptions_in_a_row
        if not said:
            log.warning("halted", vault=vault, errors_in_a_row=errors, again_in_seconds=round(left))
        return True

    def due(self, vault: str, in_seconds: float) -> None:
        """The next look has to start in so many seconds."""
        with self._lock:
            self._of(vault).due_at = self.clock() + in_seconds

    def forget(self, vault: str) -> None:
        """Somebody else looks after the vault now."""
        with self._lock:
            self._vaults.pop(vault, None)

    def _of(self, vault: str) -> VaultSeen:
        return self._vaults.setdefault(vault, VaultSeen(vault))

    def _end(self, seen: VaultSeen, result: str) -> None:
        seen.result = result
        seen.looks[result] += 1
        seen.started_at = None
        if result != HALTED:
            seen.looked_at = self.clock()

    def _failure(self, seen: VaultSeen, reason: Reason, detail: str) -> None:
        seen.failures[reason] += 1
        seen.failures_in_a_row += 1
        seen.reason, seen.detail, seen.away_since = reason, detail, None

    def _waits(self, seen: VaultSeen, reason: Reason, detail: str) -> None:
        """Something is away and waited for. In a row it counts where nothing else tells of it: when looks have failed
        for a minute although the probe finds it there.
        """
        seen.failures[reason] += 1
        seen.reason, seen.detail = reason, detail
        now = self.clock()
        if seen.away_since is None or self._probed.get(reason) is False:
            seen.away_since = now
        if now - seen.away_since >= AWAY_SECONDS:
            seen.failures_in_a_row += 1

    def _count(self, seen: VaultSeen) -> None:
        seen.exceptions_in_a_row += 1
        over = seen.exceptions_in_a_row - self.max_exceptions
        if over >= 0:
            seen.halted_until = self.clock() + pause_after(over + 2)

    # ------------------------------------------------------------ the rest

    def beat(self) -> None:
        """The scheduler runs."""
        with self._lock:
            self._facts = replace(self._facts, beat_at=self.clock())

    def note(
        self,
        *,
        node: NodeSeen | None = None,
        account: AccountSeen | None = None,
        database: bool | None = None,
        endpoints: Sequence[NodeStatus] | None = None,
        prices: Mapping[tuple[str, str], PriceSeen] | None = None,
        names: Mapping[str, str] | None = None,
        kill_switch: str | None = None,
        sends: bool | None = None,
        standby: bool | None = None,
    ) -> None:
        """What a probe found (offchain.keeper.probe); what is left out stays as it was."""
        found = {
            "node": node,
            "account": account,
            "database": database,
            "endpoints": None if endpoints is None else tuple(endpoints),
            "kill_switch": kill_switch,
            "sends": sends,
            "standby": standby,
        }
        with self._lock:
            if node is not None:
                self._probed[Reason.NODE] = node.answers
            if database is not None:
                self._probed[Reason.DATABASE] = database
            new: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
            if self._facts.expected_chain is None and node is not None:
                new["expected_chain"] = node.chain_id
            old = self._facts
            self._facts = replace(
                old, prices={**old.prices, **(prices or {})}, names={**old.names, **(names or {})}, **new
            )

    def facts(self) -> Facts:
        """All that is known now, apart from what changes later."""
        with self._lock:
            vaults = tuple(
                replace(
                    seen,
                    looks=Counter(seen.looks),
                    failures=Counter(seen.failures),
                    not_traded=Counter(seen.not_traded),
                )
                for seen in self._vaults.values()
            )
            return replace(self._facts, clock=self.clock(), wall=self._wall(), vaults=vaults)


def reason_of(text: str) -> Reason:
    """The kind of a failed run's reason."""
    return next((reason for words, reason in _WORDS if words in text), Reason.OTHER)


def reason_of_error(error: BaseException | None) -> Reason:
    """The kind of an error that ended a look."""
    kinds: tuple[tuple[type[BaseException] | tuple[type[Exception], ...], Reason], ...] = (
        (NodesDisagree, Reason.DISAGREEMENT),
        (WrongChain, Reason.WRONG_CHAIN),
        (RelayUnavailable, Reason.RELAY),
        (NODE_ERRORS, Reason.NODE),
        (JournalError, Reason.DATABASE),
        (ConfigError, Reason.SETTING),
        (ChainError, Reason.CHAIN),
    )
    for kind, reason in kinds:
        if isinstance(error, kind):
            return reason
    return reason_of(str(error)) if isinstance(error, EvenkeelError) else Reason.BUG


def words_of(error: BaseException | None) -> str:
    """What an error says; of what is not ours only its kind: the rest may hold a node's address, and that a key."""
    return plain(str(error)) if isinstance(error, EvenkeelError) else type(error).__name__


def plain(text: str, most: int = TEXT) -> str:
    """Words of others, fit for a label, a terminal or a message: printable, on one line, short, and of addresses only
    the host.
    """
    printable = "".join(
        c if c.isprintable() else " " for c in _ADDRESS.sub(lambda found: hidden(found[0]), text)
    )
    found = " ".join(printable.split())
    return found if len(found) <= most else found[: most - 1] + "…"
