"""The verifier: a history, the head to compare it with, and records in; what holds and what does not out.

Pure: no clock, disk or network. In this order, and nothing is said of what follows a break:
1. *hash chain*: the entries follow each other and lead to the head; the first binds chain, vault, code and config;
2. *checkpoint*: a head that was noted before is the one that the history had after so many entries;
3. *rules*: every event can follow the ones before it, every rebalance is accepted by the rules of its time;
4. *flows*: numbered without a gap, and what they say adds up to the supply and the balances of the entries;
5. *state*: what the events lead to is what the chain stores, where that is known;
6. *decisions*: `offchain/audit/decision.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from offchain.audit.chain import AuditBreak, Event, Rebalanced, head_after, recompute_head
from offchain.audit.decision import Checked, Offered, Seen, Status, check_decision
from offchain.audit.history import AnyEvent, Flow, History, decode_logs, entries_of
from offchain.audit.replay import Replay, Residual
from offchain.policy import VaultState

__all__ = ["Checkpoint", "Finding", "Stored", "Verdict", "verify"]


@dataclass(frozen=True)
class Checkpoint:
    """A head that was noted before: it stays in the vault's history for ever."""

    chain_id: int
    vault: str  # address
    head: bytes
    entries: int  # that led to it


@dataclass(frozen=True)
class Stored:
    """What the chain stores of the vault at the end of the history."""

    state: VaultState
    flow_sequence: int
    fee_recipient: str


@dataclass(frozen=True)
class Finding:
    """One part of the verdict."""

    name: str
    holds: bool | None  # None: not looked at
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What was found; `ok` only when nothing is broken."""

    head: bytes | None  # recomputed; None when the chain of entries is broken
    entries: int
    rebalances: int
    flows: int
    findings: tuple[Finding, ...]
    decisions: tuple[Checked, ...] = ()
    residuals: tuple[Residual, ...] = ()
    broken: AuditBreak | None = None
    replay: Replay | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Nothing is broken."""
        return self.broken is None


def verify(
    history: History, head: bytes, *, records: Sequence[Offered] = (), seen: Mapping[bytes, Seen] | None = None,
    stored: Stored | None = None, checkpoint: Checkpoint | None = None, rebasing: Collection[str] = (), end: int = 0,
) -> Verdict:  # fmt: skip
    """Check everything that the history allows to check.

    Args:
        history: the vault's events, and what they do not say.
        head: the 32 bytes to compare with: the vault's, or those that somebody trusts.
        records: the keeper's, of its decisions.
        seen: what the chain says of the inputs of the decisions' records, by decision; a missing one was not asked.
        stored: what the chain stores at the end; None: not known.
        checkpoint: that must be part of this history.
        rebasing: tokens of which units may vanish without an event.
        end: timestamp at which `stored` was read.

    """
    run = _Run(history, head, [token.lower() for token in rebasing])
    try:
        run.chain()
        run.checkpoint(checkpoint)
        run.rules()
        run.state(stored, end)
        run.decide(records, seen or {})
    except AuditBreak as found:
        run.fail(found)
    return run.verdict()


class _Run:
    """The steps, and what they found so far."""

    def __init__(self, history: History, head: bytes, rebasing: Collection[str]) -> None:
        self.history, self.head = history, head
        self.replay = Replay(history, rebasing)
        self.events: list[AnyEvent] = []
        self.entries: list[Event] = []
        self.past: list[tuple[int, str, Replay]] = []  # block, 0x head and vault after its last event
        self.recomputed: bytes | None = None
        self.findings: list[Finding] = []
        self.decisions: list[Checked] = []
        self.broken: AuditBreak | None = None
        self.now = "hash chain"

    def chain(self) -> None:
        """The entries lead to the head."""
        self.events = decode_logs(self.history.logs)
        self.entries = entries_of(self.events)
        codehash = self.history.codehash
        self.recomputed = recompute_head(self.entries, self.history.chain_id, self.history.vault, codehash)
        if self.recomputed != self.head:
            reason = (
                f"the last entry leads to 0x{self.recomputed.hex()}, the head is 0x{self.head.hex()}: "
                "that entry was changed, or entries after it are missing"
            )
            raise AuditBreak("head", reason, self.entries[-1].position)
        self._holds(f"{len(self.entries)} entries lead to head 0x{self.head.hex()}")

    def checkpoint(self, old: Checkpoint | None) -> None:
        """The old head is one of this history's."""
        if old is None:
            return
        self.now = "checkpoint"
        if (old.chain_id, old.vault.lower()) != (self.history.chain_id, self.history.vault.lower()):
            reason = f"it is of {old.vault} on chain {old.chain_id}"
            raise AuditBreak("checkpoint", reason)
        if not 0 < old.entries <= len(self.entries):
            reason = (
                f"it had {old.entries} entries, this history has {len(self.entries)}: entries are missing"
            )
            raise AuditBreak("checkpoint", reason, self.entries[-1].position)
        last = self.entries[old.entries - 1]
        found = head_after(last)
        if found != old.head:
            reason = f"after {old.entries} entries the head was 0x{old.head.hex()}, now it is 0x{found.hex()}"
            raise AuditBreak("checkpoint", f"{reason}: the history was rewritten", last.position)
        later = len(self.entries) - old.entries
        self._holds(f"its {old.entries} entries are the first of these; {later} came since")

    def rules(self) -> None:
        """Every event can follow the ones before it."""
        self.now = "rules and flows"
        head = ""
        for block, events in groupby(self.events, key=lambda event: event.position.block):
            for event in events:
                self.replay.feed(event)
                if isinstance(event, Event):
                    head = "0x" + head_after(event).hex()
            self.replay.settle()
            self.past.append((block, head, self.replay.copy()))
        self.replay.end()
        trades = sum(isinstance(event, Rebalanced) for event in self.entries)
        flows = self.replay.ledger.flow_sequence
        self._holds(
            f"{trades} rebalances accepted by the rules of their time; {flows} flows numbered without a gap, "
            f"supply exact, {len(self.replay.residuals)} residuals"
        )

    def state(self, stored: Stored | None, end: int) -> None:
        """What the events lead to is what the chain stores."""
        self.now = "state"
        if stored is None:
            self.findings.append(
                Finding(self.now, None, "not known without a node, nor is what came after the last entry")
            )
            return
        at = self.replay.last
        mine, theirs = self.replay.view(end), stored.state
        for name, one, other in (
            ("flow_sequence", self.replay.ledger.flow_sequence, stored.flow_sequence),
            ("fee_recipient", self.replay.fee_recipient.lower(), stored.fee_recipient.lower()),
            *((name, getattr(mine, name), getattr(theirs, name)) for name in _COMPARED),
        ):
            if one != other:
                reason = (
                    f"the events lead to {_short(one)}, the chain stores {_short(other)}: events are missing"
                )
                raise AuditBreak(name, reason, at)
        self._settle(mine, theirs)
        self._holds("rules, session, budgets, fee and supply are what the vault stores")

    def _settle(self, mine: VaultState, theirs: VaultState) -> None:
        """Balances at the end; in a quarantine the chain's view of that asset is 0, and so is ours."""
        at = self.replay.last
        if at is None:
            return
        for asset, one, other in zip(mine.assets, mine.balances, theirs.balances, strict=True):
            if one not in (-1, other):
                self.replay.differs(at, asset.token, other - one, "balances")

    def decide(self, records: Sequence[Offered], seen: Mapping[bytes, Seen]) -> None:
        """What each decision is; the first that is not explained is a break."""
        self.now = "decisions"
        for entry in self.entries:
            if isinstance(entry, Rebalanced):
                self.decisions.append(self._decision(entry, records, seen.get(entry.decision)))
        counts = {status: sum(d.status == status for d in self.decisions) for status in Status}
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        wrong = next((d for d in self.decisions if d.status == Status.UNEXPLAINED), None)
        if wrong is not None:
            reason = f"{wrong.decision} is unexplained: {wrong.reason}"
            raise AuditBreak(f"decision.{wrong.field}", reason, wrong.position)
        self._holds(said)

    def _decision(self, entry: Rebalanced, records: Sequence[Offered], seen: Seen | None) -> Checked:
        return check_decision(
            entry, records, self.history.chain_id, self.history.vault, seen, self._vault_then
        )

    def _vault_then(self, block: int, now: int) -> tuple[str, VaultState] | None:
        """0x head and state at the end of a block of timestamp `now`; None before the vault was created."""
        place = bisect_right(self.past, block, key=lambda one: one[0])
        if not place:
            return None
        _, head, replay = self.past[place - 1]
        state = replay.view(now)
        rows = zip(state.assets, state.balances, strict=True)
        known = [-1 if asset.token.lower() in self.replay.rebasing else q for asset, q in rows]
        return head, replace(state, balances=tuple(known))

    # ------------------------------------------------------------ the result

    def _holds(self, detail: str) -> None:
        self.findings.append(Finding(self.now, True, detail))

    def fail(self, found: AuditBreak) -> None:
        """The first break ends it."""
        self.broken = found
        self.findings.append(Finding(self.now, False, str(found)))

    def verdict(self) -> Verdict:
        """All that was found."""
        return Verdict(
            self.recomputed,
            len(self.entries),
            sum(isinstance(event, Rebalanced) for event in self.entries),
            sum(isinstance(event, Flow) for event in self.events),
            tuple(self.findings),
            tuple(self.decisions),
            tuple(self.replay.residuals),
            self.broken,
            self.replay,
        )


_COMPARED = (
    "assets", "rules", "session", "supply", "pending_fee_shares", "fee_bps", "loss_used", "speed_used", "paused_until",
    "aside", "aside_until", "oracle",
)  # fmt: skip


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"
