"""What the settings switch on for those who look at a keeper from outside: metrics, health, alerts. All off by default.

The watch, and with it the halting of a vault whose looks end in errors, is always on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy.engine import Engine
from web3 import Web3

from offchain.chain.errors import JournalError
from offchain.chain.sender import Sender
from offchain.keeper.alerts import Alerts, is_over
from offchain.keeper.database import open_database
from offchain.keeper.health import Limits, Problem, alive, problems, ready, serving
from offchain.keeper.metrics import Sources, exposition, registry_of
from offchain.keeper.overview import Ledger, read_ledger
from offchain.keeper.probe import Probe
from offchain.keeper.watch import Facts, Watch
from offchain.settings import Settings

__all__ = ["TICK_SECONDS", "Outside", "watching"]

TICK_SECONDS = 15  # between two probes, and two checks of what is wrong
LOOK_SECONDS = 600  # that a look may take, the wait for its receipt apart

log = structlog.get_logger("evenkeel.keeper")


@dataclass
class Outside:
    """A watch, and what is made of it."""

    watch: Watch = field(default_factory=Watch)
    limits: Limits = field(default_factory=Limits)
    engine: Engine | None = None
    probe: Probe | None = None
    alerts: Alerts | None = None

    @property
    def ticks(self) -> bool:
        """Whether `tick` does anything."""
        return self.probe is not None

    def tick(self) -> None:
        """Ask the node and the database; tell what is wrong. Never raises."""
        if self.probe is None:
            return
        self.probe.ask()
        if self.alerts is None:
            return
        facts, ledger = self.watch.facts(), self.ledger()
        self.alerts.check(
            self.problems(facts, ledger), lambda kind, subject: is_over(kind, subject, facts, ledger)
        )

    def ledger(self) -> Ledger | None:
        """What the journal says; None where the database does not answer."""
        if self.engine is None:
            return None
        try:
            return read_ledger(self.engine, [seen.vault for seen in self.watch.facts().vaults])
        except JournalError:
            return None

    def problems(self, facts: Facts, ledger: Ledger | None) -> list[Problem]:
        """What is wrong by these limits."""
        return problems(facts, ledger, self.limits)

    @contextmanager
    def served(self, address: str, port: int) -> Iterator[int]:
        """Metrics and health on this port as long as the block runs; 0: a free one."""
        counts: Callable[[], dict[tuple[str, str], int]] = self.alerts.counts if self.alerts else dict
        registry = registry_of(Sources(self.watch.facts, self.ledger, self.problems, self.limits, counts))
        with serving(
            address,
            port,
            healthz=lambda: alive(self.watch.facts(), self.limits),
            readyz=self._ready,
            metrics=lambda accept: exposition(registry, accept),
        ) as opened:
            log.info("metrics and health", address=address, port=opened)
            yield opened

    def _ready(self) -> tuple[bool, dict[str, object]]:
        facts = self.watch.facts()
        return ready(facts, self.problems(facts, self.ledger()))


@contextmanager
def watching(
    settings: Settings, web3: Web3, sender: Sender, stop: threading.Event | None = None
) -> Iterator[Outside]:
    """By the settings, as long as the block runs. ConfigError where the port is taken."""
    watch = Watch(max_exceptions=settings.max_exceptions, chain_id=getattr(settings, "chain_id", None))
    outside = Outside(
        watch,
        Limits(
            look_seconds=settings.receipt_timeout_seconds + LOOK_SECONDS,
            stuck_seconds=settings.alert_stuck_seconds,
            block_age_seconds=settings.alert_block_age_seconds,
            low_gas_multiple=settings.low_gas_multiple,
            failures=settings.max_exceptions,
        ),
    )
    if settings.metrics_port is None and settings.alert_webhook_url is None:
        yield outside
        return
    database = settings.database.get_secret_value() if settings.database else settings.journal
    with ExitStack() as open_things:
        engine = outside.engine = open_database(database)  # its own: what is slow here holds up no look
        open_things.callback(engine.dispose)
        outside.probe = Probe(watch, web3, sender, engine, prices=settings.metrics_port is not None)
        if settings.alert_webhook_url is not None:
            stop = stop or sender.stop
            outside.alerts = Alerts(engine, settings.alert_webhook_url, settings.alert_repeat_seconds, stop)
        if settings.metrics_port is not None:
            open_things.enter_context(outside.served(settings.metrics_address, settings.metrics_port))
        yield outside
