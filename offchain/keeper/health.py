"""Health as others ask for it: `/healthz` (alive), `/readyz` (able to work) and `/metrics`, on one small HTTP server.

`problems` says what is wrong, in kinds; the readiness answer and the alerts (offchain.keeper.alerts) are made of it.
Alive means: the scheduler ran a moment ago, and no look hangs. A supervisor restarts what is not alive; it waits for
what is not ready. Some problems leave the keeper able to work: then it is `degraded`, and says why.
Answers come from memory: asking costs nothing and waits for nobody. They hold addresses of vaults and accounts, and no
text of others, no settings, no secrets.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from offchain import __version__, policy
from offchain.chain.errors import ConfigError
from offchain.chain.oracle import price_status
from offchain.keeper.overview import Account, Ledger
from offchain.keeper.watch import AccountSeen, Facts, NodeSeen, Reason, VaultSeen

__all__ = ["Kind", "Limits", "Problem", "alive", "low_gas_wei", "problems", "ready", "serving"]

BEAT_SECONDS = 10  # how often the scheduler says that it runs
BEAT_LATE_SECONDS = 60
GRACE_SECONDS = 60  # a look may start so late
USUAL_GAS = 2_000_000  # units of a rebalance, until the journal knows better


class Kind(StrEnum):
    """What can be wrong."""

    STARTING = "starting"
    STANDBY = "standby"
    DATABASE = "database_away"
    NODE_AWAY = "node_away"
    WRONG_CHAIN = "wrong_chain"
    KILL_SWITCH = "kill_switch"
    HALTED = "halted"
    VAULT_PAUSED = "vault_paused"
    STALE_BLOCK = "stale_block"
    NODE_DISAGREEMENT = "node_disagreement"
    MISSED_RUN = "missed_run"
    REPEATED_FAILURE = "repeated_failure"
    STUCK_TRANSACTION = "stuck_transaction"
    LOW_GAS = "low_gas"
    STALE_ORACLE = "stale_oracle"


# With these nothing can be done; those of one vault count when all of the process's vaults have one.
BLOCKING = frozenset(
    {
        Kind.STARTING,
        Kind.STANDBY,
        Kind.DATABASE,
        Kind.NODE_AWAY,
        Kind.WRONG_CHAIN,
        Kind.KILL_SWITCH,
        Kind.HALTED,
    }
) | {Kind.VAULT_PAUSED}


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is a problem."""

    look_seconds: float = 900  # a look that takes longer hangs
    stuck_seconds: int = 900  # chain time that a transaction may wait
    block_age_seconds: int = 300
    low_gas_multiple: float = 4  # rebalances that the account should be able to pay
    failures: int = 3  # in a row


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    kind: Kind
    subject: str  # the vault, the account, the node …: kind and subject are the same as long as it goes on
    text: str  # one sentence for people
    vault: str | None = None
    account: str | None = None
    chain_id: int | None = None
    detail: str = ""  # may hold words of others: for alerts and people, not for the health answers


def problems(facts: Facts, ledger: Ledger | None, limits: Limits) -> list[Problem]:
    """All that is wrong, worst first. `ledger` None: the database does not answer."""
    found = [
        *_process(facts, ledger),
        *_node(facts, limits),
        *(problem for seen in facts.vaults for problem in _vault(seen, facts, limits)),
        *_accounts(facts, ledger, limits),
    ]
    order = list(Kind)
    return sorted(found, key=lambda problem: order.index(problem.kind))


def _process(facts: Facts, ledger: Ledger | None) -> Iterator[Problem]:
    if facts.standby:
        yield Problem(Kind.STANDBY, "process", "Another keeper works here; this one waits to take its place.")
    if facts.database is False or ledger is None:
        yield Problem(
            Kind.DATABASE, "database", "The journal's database does not answer; nothing is done without it."
        )
    if facts.kill_switch:
        yield Problem(
            Kind.KILL_SWITCH, facts.kill_switch, "The kill switch is on: nothing is signed or sent."
        )


def _node(facts: Facts, limits: Limits) -> Iterator[Problem]:
    node, chain = facts.node, facts.expected_chain
    if node is None:
        return
    subject = "node" if chain is None else f"chain {chain}"
    if not node.answers:
        text = "No node answers." if chain is None else f"No node of chain {chain} answers."
        yield Problem(Kind.NODE_AWAY, subject, text, chain_id=chain)
    elif node.chain_id != chain:
        text = f"The node is of chain {node.chain_id}, not of {chain}."
        yield Problem(Kind.WRONG_CHAIN, subject, text, chain_id=chain)
    elif (age := block_age(node, facts.wall)) is not None and age > limits.block_age_seconds:
        text = f"The newest block of chain {chain} is {_span(age)} old: the node or the chain stands still."
        yield Problem(Kind.STALE_BLOCK, subject, text, chain_id=chain)
    behind = [str(one.position) for one in facts.endpoints if one.lagging or one.errors.get("disagrees")]
    lagging = [str(one.position) for one in facts.endpoints if one.lagging]
    if any(seen.reason == Reason.DISAGREEMENT for seen in facts.vaults) or (
        lagging and len(facts.endpoints) > 1
    ):
        text = f"Nodes of chain {chain} disagree or are behind" + (
            f": rpc_urls {', '.join(behind)}." if behind else "."
        )
        yield Problem(Kind.NODE_DISAGREEMENT, subject, text, chain_id=chain)


def _vault(seen: VaultSeen, facts: Facts, limits: Limits) -> Iterator[Problem]:
    def problem(kind: Kind, text: str, detail: str = "") -> Problem:
        return Problem(kind, seen.vault, text, seen.vault, None, seen.chain_id, detail)

    if seen.looked_at is None:
        yield problem(Kind.STARTING, "No look has ended yet.")
    if seen.halted_until is not None:
        why = f"{seen.exceptions_in_a_row} looks in a row ended in an error ({seen.reason})"
        yield problem(Kind.HALTED, f"Paused, and tried again ever more rarely: {why}.", seen.detail)
    if (late := overdue(seen, facts.clock, limits)) > 0:
        yield problem(Kind.MISSED_RUN, f"A look should have ended or begun {_span(late)} ago.")
    if seen.failures_in_a_row >= limits.failures:
        text = f"{seen.failures_in_a_row} failures in a row ({seen.reason})."
        yield problem(Kind.REPEATED_FAILURE, text, seen.detail)
    if seen.snapshot is None:
        return
    state = seen.snapshot.state
    if facts.wall < state.paused_until:
        yield problem(Kind.VAULT_PAUSED, "The vault's guardian has paused it.")
    bad = [
        f"{facts.names.get(asset.token, asset.token)} {price_status(status)}"
        for i, (asset, status) in enumerate(zip(state.assets, state.statuses, strict=True))
        if status != 0 and i != policy.aside(state)
    ]
    if bad:
        yield problem(Kind.STALE_ORACLE, f"{len(bad)} prices are not usable.", ", ".join(bad))


def _accounts(facts: Facts, ledger: Ledger | None, limits: Limits) -> Iterator[Problem]:
    known = {(account.chain_id, account.address): account for account in (ledger.accounts if ledger else ())}
    now = None if facts.node is None else facts.node.block_time
    mine = facts.account
    if mine is None:
        return
    account = known.get((mine.chain_id, mine.address))
    where = {"account": mine.address, "chain_id": mine.chain_id}
    if account is not None and now is not None and account.oldest_sent is not None:
        waited = now - account.oldest_sent
        if account.pending and waited > limits.stuck_seconds:
            text = f"The transaction with nonce {account.oldest_nonce} has waited {_span(waited)}."
            yield Problem(Kind.STUCK_TRANSACTION, mine.address, text, **where)  # type: ignore[arg-type]
    low = low_gas_wei(mine, account, facts.node, limits)
    if low is not None and mine.balance < low:
        text = f"The account has {mine.balance / 1e18:.6f} for gas, less than {low / 1e18:.6f}."
        yield Problem(Kind.LOW_GAS, mine.address, text, **where)  # type: ignore[arg-type]


def low_gas_wei(
    mine: AccountSeen, account: Account | None, node: NodeSeen | None, limits: Limits
) -> int | None:
    """Below this the account is to be filled up: some rebalances at today's price; None where that is not known."""
    if node is None or node.gas_price is None:
        return None
    gas = (account.gas if account is not None else None) or USUAL_GAS
    return int(limits.low_gas_multiple * gas * node.gas_price)


def block_age(node: NodeSeen | None, wall: float) -> float | None:
    """Seconds since the newest block."""
    return None if node is None or node.block_time is None else max(0.0, wall - node.block_time)


def overdue(seen: VaultSeen, clock: float, limits: Limits) -> float:
    """Seconds by which the next look is late, or the one under way too long; 0 when all is well."""
    if seen.started_at is not None:
        return max(0.0, clock - seen.started_at - limits.look_seconds)
    return 0.0 if seen.due_at is None else max(0.0, clock - seen.due_at - GRACE_SECONDS)


# ---------------------------------------------------------------- the two answers


def alive(facts: Facts, limits: Limits) -> tuple[bool, dict[str, Any]]:
    """Whether the process works at all: the scheduler runs and no look hangs."""
    beat = None if facts.beat_at is None else facts.clock - facts.beat_at
    hangs = any(
        seen.started_at is not None and overdue(seen, facts.clock, limits) > 0 for seen in facts.vaults
    )
    reasons = []
    if beat is None or beat > BEAT_LATE_SECONDS:
        reasons.append("scheduler_stands_still")
    if hangs:
        reasons.append("look_hangs")
    return not reasons, {
        "status": "unavailable" if reasons else "ok",
        "reasons": reasons,
        "scheduler_age_seconds": None if beat is None else round(beat, 1),
        "version": __version__,
    }


def ready(facts: Facts, found: Sequence[Problem]) -> tuple[bool, dict[str, Any]]:
    """Whether it can do its work, and all that is wrong."""
    ill = {problem.vault for problem in found if problem.kind in BLOCKING and problem.vault is not None}
    general = any(problem.kind in BLOCKING and problem.vault is None for problem in found)
    starting = facts.node is None or facts.database is None
    blocked = starting or general or (bool(facts.vaults) and ill >= {seen.vault for seen in facts.vaults})
    return not blocked, {
        "status": "unavailable" if blocked else "degraded" if found else "ok",
        "reasons": [
            {
                "kind": str(problem.kind),
                "text": problem.text,
                "vault": problem.vault,
                "account": problem.account,
                "chain_id": problem.chain_id,
            }
            for problem in found
        ]
        or ([{"kind": str(Kind.STARTING), "text": "Nothing was asked yet."}] if starting else []),
        "vaults": len(facts.vaults),
        "sends": facts.sends,
        "version": __version__,
    }


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds:.0f} s"


# ---------------------------------------------------------------- the server

Answer = tuple[int, str, bytes]  # status, content type, body


@contextmanager
def serving(
    address: str,
    port: int,
    *,
    healthz: Callable[[], tuple[bool, dict[str, Any]]],
    readyz: Callable[[], tuple[bool, dict[str, Any]]],
    metrics: Callable[[str], tuple[str, bytes]],
) -> Iterator[int]:
    """Answer on `address`:`port` (0: a free one) as long as the block runs; the port. ConfigError where it is taken.

    `metrics` gets the request's Accept header and returns content type and text.
    """

    def answer(path: str, accept: str) -> Answer:
        if path == "/metrics":
            return 200, *metrics(accept)
        asked = {"/healthz": healthz, "/readyz": readyz}.get(path)
        if asked is None:
            return 404, "text/plain; charset=utf-8", b"/metrics, /healthz, /readyz\n"
        good, body = asked()
        return 200 if good else 503, "application/json", json.dumps(body).encode() + b"\n"

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a request to come in
        server_version, sys_version = "evenkeel", ""

        def do_GET(self) -> None:
            try:
                status, kind, body = answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
            except Exception:
                status, kind, body = 500, "text/plain; charset=utf-8", b"failed\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: who asks is no event."""

    try:
        server = ThreadingHTTPServer((address, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"metrics_port, metrics_address: cannot open {address}:{port}: {reason}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
