"""`run`: the keeper on a schedule. It waits out node outages and ends cleanly on SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from offchain.chain.errors import NODE_ERRORS, ConfigError
from offchain.errors import EvenkeelError
from offchain.keeper.loop import Keeper

__all__ = ["run"]

LONGEST_PAUSE = 60  # seconds between two tries while the node is away

log = structlog.get_logger("evenkeel.keeper")


def run(
    keeper: Keeper,
    *,
    interval_seconds: int,
    cron: str | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Look every `interval_seconds`, or on the `cron` line (UTC), until a signal or `stop`."""
    trigger = _trigger(interval_seconds, cron)
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    scheduler = BackgroundScheduler(timezone=UTC)
    first = {} if cron else {"next_run_time": datetime.now(UTC)}
    scheduler.add_job(
        look,
        trigger,
        (keeper, stop),
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        **first,
    )
    scheduler.start()
    log.info(
        "keeper runs",
        vault=keeper.vault,
        schedule=cron or f"every {interval_seconds} s",
        sends=keeper.sender.sends,
    )
    stop.wait()
    keeper.sender.stop.set()
    scheduler.shutdown(wait=True)  # a look that is under way is finished; what it sent is in the journal
    log.info("keeper stopped", vault=keeper.vault)


def look(keeper: Keeper, stop: threading.Event, longest_pause: float = LONGEST_PAUSE) -> None:
    """One look that never raises; while the node is away it tries again, ever more slowly."""
    retrying = Retrying(
        retry=retry_if_exception_type(NODE_ERRORS),
        wait=wait_random_exponential(multiplier=1, max=longest_pause),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=_log_outage,
        reraise=True,
    )
    try:
        retrying(keeper.once)
    except NODE_ERRORS as error:
        log.warning("stopped while the node was away", vault=keeper.vault, error=str(error))
    except EvenkeelError as error:
        log.error("look failed", vault=keeper.vault, error=str(error))
    except Exception:
        log.exception("bug: look failed", vault=keeper.vault)


def _trigger(interval_seconds: int, cron: str | None) -> BaseTrigger:
    if cron is None:
        return IntervalTrigger(seconds=interval_seconds, timezone=UTC)
    try:
        return CronTrigger.from_crontab(cron, timezone=UTC)
    except ValueError as error:
        raise ConfigError(f"cron: {cron!r} is not a five-field cron line: {error}") from None


def _log_outage(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = round(state.next_action.sleep, 1) if state.next_action else 0
    log.warning(
        "node does not answer",
        attempt=state.attempt_number,
        again_in_seconds=pause,
        error=str(error),
    )
