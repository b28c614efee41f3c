"""Prometheus metrics, made at each scrape from what the process saw (`Watch`) and from the journal.

Labels hold addresses, chain ids and words of our own lists; the one name that others chose is `symbol` of
`evenkeel_token_info`, printable and short. Tokens of more than `MOST_VAULTS` vaults get no series of their own.
A count that comes from the journal survives a restart, and never goes down while the process runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from offchain import __version__, policy
from offchain.chain.sender import ETHER
from offchain.errors import EvenkeelError
from offchain.keeper.health import Kind, Limits, Problem, block_age, low_gas_wei, overdue
from offchain.keeper.overview import Account, Ledger
from offchain.keeper.sanity import NotTraded
from offchain.keeper.watch import RESULTS, Facts, Reason, VaultSeen

__all__ = ["METRICS", "KeeperCollector", "Sources", "exposition", "registry_of"]

MOST_VAULTS = 1_000  # with series of their own for each token
BPS = 10**14  # in WAD

_CHAIN, _VAULT, _TOKEN = ("chain_id",), ("chain_id", "vault"), ("chain_id", "vault", "token")
_ACCOUNT, _NODE = ("chain_id", "account"), ("position", "host")
# name -> (what it is, labels); a name that ends with _total is a counter, all others are gauges
METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "evenkeel_build_info": ("The version that runs; always 1.", ("version",)),
    "evenkeel_sends": (
        "1 if transactions are sent: not in a dry run, without a key or with the kill switch.",
        (),
    ),
    "evenkeel_kill_switch": ("1 while the kill switch is on.", ()),
    "evenkeel_database_up": ("1 if the journal's database answers.", ()),
    "evenkeel_scheduler_age_seconds": ("Since the scheduler last ran anything.", ()),
    "evenkeel_problems": ("What is wrong now, by kind; the kinds of /readyz and of the alerts.", ("kind",)),
    "evenkeel_node_up": ("1 if a node answers.", _CHAIN),
    "evenkeel_block_number": ("The newest block.", _CHAIN),
    "evenkeel_block_age_seconds": ("Since the newest block.", _CHAIN),
    "evenkeel_endpoint_healthy": ("1 if this node is read from when it is its turn.", _NODE),
    "evenkeel_endpoint_lagging": ("1 if this node is behind the others.", _NODE),
    "evenkeel_endpoint_block_number": ("The newest block that this node has shown.", _NODE),
    "evenkeel_endpoint_latency_seconds": ("Of its answers, smoothed.", _NODE),
    "evenkeel_endpoint_requests_total": ("Requests to this node.", _NODE),
    "evenkeel_endpoint_errors_total": ("Requests that it failed, by kind.", (*_NODE, "kind")),
    "evenkeel_gas_balance_native": ("What the account has for gas, whole native tokens.", _ACCOUNT),
    "evenkeel_gas_balance_low_native": ("Below this it is to be filled up, whole native tokens.", _ACCOUNT),
    "evenkeel_gas_spent_native_total": ("What mined transactions cost, whole native tokens.", _ACCOUNT),
    "evenkeel_pending_transactions": (
        "Nonces that something was signed with and the chain has not used.",
        _ACCOUNT,
    ),
    "evenkeel_pending_transaction_age_seconds": ("Of the oldest of them, chain time; 0: none.", _ACCOUNT),
    "evenkeel_vaults": ("Vaults that this process looks after.", ()),
    "evenkeel_vaults_without_tokens": ("Of them, those too many to have series for each token.", ()),
    "evenkeel_look_age_seconds": ("Since the last look at the vault ended.", _VAULT),
    "evenkeel_look_overdue_seconds": (
        "By which the next look is late, or the one under way too long.",
        _VAULT,
    ),
    "evenkeel_looks_total": ("Looks at the vault, by what they came to.", (*_VAULT, "result")),
    "evenkeel_failures_total": (
        "Looks, and tries within a look, that failed, by reason.",
        (*_VAULT, "reason"),
    ),
    "evenkeel_not_traded_total": (
        "Looks that ended without a transaction, by reason.",
        (*_VAULT, "reason"),
    ),
    "evenkeel_failures_in_a_row": ("Since the last look that did not fail.", _VAULT),
    "evenkeel_halted": ("1 while the vault's keeper pauses because of errors in a row.", _VAULT),
    "evenkeel_rebalances_total": ("Rebalances in the chain, by the journal.", _VAULT),
    "evenkeel_rebalance_age_seconds": ("Since the last rebalance of the journal.", _VAULT),
    "evenkeel_vault_paused": ("1 while the vault's guardian has it paused.", _VAULT),
    "evenkeel_session_open": ("1 while a session is open.", _VAULT),
    "evenkeel_nav_usd": ("Value of the basket at the oracle's prices, US dollars.", _VAULT),
    "evenkeel_loss_budget_used_bps": ("Of the NAV, at the last look.", _VAULT),
    "evenkeel_loss_budget_bps": ("What may be used of it.", _VAULT),
    "evenkeel_token_info": ("What the token calls itself, cleaned; always 1.", (*_TOKEN, "symbol")),
    "evenkeel_weight_bps": ("Share of the NAV.", _TOKEN),
    "evenkeel_target_bps": ("Share of the NAV that is aimed at.", _TOKEN),
    "evenkeel_drift_bps": ("Distance of weight and target.", _TOKEN),
    "evenkeel_band_bps": ("Drift at which the asset triggers.", _TOKEN),
    "evenkeel_price_usable": ("1 if the oracle says that its price can be used.", _TOKEN),
    "evenkeel_price_age_seconds": ("Since the feed last spoke.", _TOKEN),
    "evenkeel_price_heartbeat_seconds": ("An older price is stale.", _TOKEN),
    "evenkeel_alerts_sent_total": ("Messages that the webhook took.", ("kind", "status")),
    "evenkeel_alerts_failed_total": ("Messages that it did not take after several tries.", ("kind",)),
}


@dataclass
class Sources:
    """Where the numbers come from."""

    facts: Callable[[], Facts]
    ledger: Callable[[], Ledger | None]  # None: the database does not answer
    problems: Callable[[Facts, Ledger | None], list[Problem]]
    limits: Limits = field(default_factory=Limits)
    # messages so far, by kind and status ("firing", "resolved", "failed")
    alerts: Callable[[], dict[tuple[str, str], int]] = dict


class _Families:
    """The samples of one scrape, by name."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        for name, (help_text, labels) in METRICS.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            self.made[name] = kind(name, help_text, labels=labels)

    def add(self, name: str, value: float | bool | None, *labels: object) -> None:
        """One sample; nothing where the value is not known."""
        if value is not None:
            self.made[f"evenkeel_{name}"].add_metric([str(label) for label in labels], float(value))


class KeeperCollector(Collector):
    """What prometheus_client asks at each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._highest: dict[tuple[str, ...], float] = {}

    def describe(self) -> Iterable[Metric]:
        """All names, without samples: nothing is read for that."""
        yield from _Families().made.values()

    def collect(self) -> Iterator[Metric]:
        """All samples."""
        families, facts, ledger = _Families(), self._sources.facts(), self._sources.ledger()
        _process(families, facts)
        _chain(families, facts)
        found = self._sources.problems(facts, ledger)
        for kind in Kind:
            families.add("problems", sum(problem.kind == kind for problem in found), kind)
        for (name, status), count in self._sources.alerts().items():
            if status == "failed":
                families.add("alerts_failed_total", count, name)
            else:
                families.add("alerts_sent_total", count, name, status)
        for account in ledger.accounts if ledger else ():
            self._account(families, account, facts)
        self._balance(families, facts, ledger)
        for i, seen in enumerate(facts.vaults):
            self._vault(families, seen, facts, ledger, tokens=i < MOST_VAULTS)
        yield from families.made.values()

    def _rising(self, families: _Families, name: str, value: float, *labels: object) -> None:
        """A count from the journal: a reorganisation that takes a rebalance back must not look like a restart."""
        key = (name, *map(str, labels))
        self._highest[key] = max(value, self._highest.get(key, 0.0))
        families.add(name, self._highest[key], *labels)

    def _account(self, families: _Families, account: Account, facts: Facts) -> None:
        mine = facts.account
        if mine is not None and (mine.chain_id, mine.address) != (account.chain_id, account.address):
            return  # another key's, earlier or on another machine
        labels = (account.chain_id, account.address)
        self._rising(families, "gas_spent_native_total", account.spent_wei / ETHER, *labels)
        families.add("pending_transactions", account.pending, *labels)
        now = facts.node.block_time if facts.node else None
        if not account.pending or account.oldest_sent is None:
            families.add("pending_transaction_age_seconds", 0, *labels)
        elif now is not None:
            families.add("pending_transaction_age_seconds", max(0, now - account.oldest_sent), *labels)

    def _balance(self, families: _Families, facts: Facts, ledger: Ledger | None) -> None:
        mine = facts.account
        if mine is None:
            return
        labels = (mine.chain_id, mine.address)
        families.add("gas_balance_native", mine.balance / ETHER, *labels)
        known = {(one.chain_id, one.address): one for one in (ledger.accounts if ledger else ())}
        low = low_gas_wei(mine, known.get(labels), facts.node, self._sources.limits)
        families.add("gas_balance_low_native", None if low is None else low / ETHER, *labels)

    def _vault(
        self, families: _Families, seen: VaultSeen, facts: Facts, ledger: Ledger | None, *, tokens: bool
    ) -> None:
        chain = seen.chain_id or facts.expected_chain or 0
        labels = (chain, seen.vault)
        if seen.looked_at is not None:
            families.add("look_age_seconds", max(0.0, facts.clock - seen.looked_at), *labels)
        families.add("look_overdue_seconds", overdue(seen, facts.clock, self._sources.limits), *labels)
        for result in RESULTS:
            families.add("looks_total", seen.looks[result], *labels, result)
        for reason in Reason:
            families.add("failures_total", seen.failures[reason], *labels, reason)
        for kind in NotTraded:
            families.add("not_traded_total", seen.not_traded[kind], *labels, kind)
        families.add("failures_in_a_row", seen.failures_in_a_row, *labels)
        families.add("halted", seen.halted_until is not None, *labels)
        done = ledger.rebalances.get((chain, seen.vault)) if ledger else None
        if ledger is not None:
            self._rising(families, "rebalances_total", done.count if done else 0, *labels)
        if done is not None and done.last is not None:
            families.add("rebalance_age_seconds", max(0.0, facts.wall - done.last), *labels)
        if seen.snapshot is not None:
            with suppress(
                EvenkeelError, ArithmeticError, ValueError
            ):  # one odd vault must not hide the others
                _state(families, seen, facts, labels, tokens=tokens)


def _process(families: _Families, facts: Facts) -> None:
    families.add("build_info", 1, __version__)
    families.add("sends", facts.sends)
    families.add("kill_switch", bool(facts.kill_switch))
    families.add("database_up", facts.database)
    families.add("scheduler_age_seconds", None if facts.beat_at is None else facts.clock - facts.beat_at)
    families.add("vaults", len(facts.vaults))
    families.add("vaults_without_tokens", max(0, len(facts.vaults) - MOST_VAULTS))


def _chain(families: _Families, facts: Facts) -> None:
    if facts.node is not None:
        chain = facts.node.chain_id or facts.expected_chain or 0
        families.add("node_up", facts.node.answers, chain)
        families.add("block_number", facts.node.block, chain)
        families.add("block_age_seconds", block_age(facts.node, facts.wall), chain)
    for one in facts.endpoints:
        labels = (one.position, one.url)
        families.add("endpoint_healthy", one.healthy, *labels)
        families.add("endpoint_lagging", one.lagging, *labels)
        families.add("endpoint_block_number", one.head, *labels)
        families.add("endpoint_latency_seconds", one.latency_seconds, *labels)
        families.add("endpoint_requests_total", one.requests, *labels)
        for kind, count in one.errors.items():
            families.add("endpoint_errors_total", count, *labels, kind.replace(" ", "_"))


def _state(
    families: _Families, seen: VaultSeen, facts: Facts, labels: tuple[int, str], *, tokens: bool
) -> None:
    """What the chain said at the last look that read it."""
    assert seen.snapshot is not None
    state = seen.snapshot.state
    now = int(facts.wall)
    nav = policy.nav(state)
    families.add("vault_paused", now < state.paused_until, *labels)
    families.add("session_open", policy.session_is_open(state, now), *labels)
    families.add("nav_usd", nav / policy.WAD, *labels)
    families.add("loss_budget_used_bps", state.loss_used / BPS, *labels)
    families.add("loss_budget_bps", state.rules.loss_capacity_bps, *labels)
    if not tokens:
        return
    priced = policy.usable(state) and nav > 0  # else weights mean nothing
    for i, asset in enumerate(state.assets):
        of_token = (*labels, asset.token)
        families.add("target_bps", policy.targets(state)[i] / BPS, *of_token)
        families.add("band_bps", policy.bands(state)[i] / BPS, *of_token)
        if priced:
            families.add("weight_bps", policy.weights(state)[i] / BPS, *of_token)
            families.add("drift_bps", policy.drifts(state)[i] / BPS, *of_token)
        families.add("price_usable", state.prices[i] > 0 and state.statuses[i] == 0, *of_token)
        if (price := facts.prices.get((state.oracle, asset.token))) is not None:
            families.add("price_age_seconds", max(0.0, facts.wall - price.updated_at), *of_token)
            families.add("price_heartbeat_seconds", price.heartbeat_seconds, *of_token)
        families.add("token_info", 1, *of_token, facts.names.get(asset.token, asset.token[:8]))


def registry_of(sources: Sources) -> CollectorRegistry:
    """A registry with nothing but these metrics."""
    registry = CollectorRegistry()
    registry.register(KeeperCollector(sources))
    return registry


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Content type and text of a scrape, in the format that `accept` asks for."""
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
