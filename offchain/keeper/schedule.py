"""`run`: the keeper on a schedule. It waits out node outages and ends cleanly on SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
from datetime import UTC, datetime
from functools import partial

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
from offchain.keeper.health import BEAT_SECONDS
from offchain.keeper.loop import Keeper
from offchain.keeper.outside import TICK_SECONDS, Outside
from offchain.keeper.watch import Watch, words_of

__all__ = ["run"]

LONGEST_PAUSE = 60  # seconds between two tries while the node is away

log = structlog.get_logger("evenkeel.keeper")


def run(
    keeper: Keeper,
    *,
    interval_seconds: int,
    cron: str | None = None,
    stop: threading.Event | None = None,
    outside: Outside | None = None,
) -> None:
    """Look every `interval_seconds`, or on the `cron` line (UTC), until a signal or `stop`.

    `outside`: what others see of it (offchain.keeper.outside.watching).
    """
    outside = outside or Outside()
    trigger = _trigger(interval_seconds, cron)
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    scheduler = BackgroundScheduler(timezone=UTC)
    logging.getLogger("apscheduler").setLevel(
        logging.ERROR
    )  # that a look takes longer than the interval is no news
    first = {} if cron else {"next_run_time": datetime.now(UTC)}
    _expect(outside.watch, keeper.vault, trigger)
    scheduler.add_job(
        _look_and_expect,
        trigger,
        (keeper, stop, outside.watch, trigger),
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        **first,
    )
    _add_others(scheduler, outside)
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


def look(
    keeper: Keeper, stop: threading.Event, longest_pause: float = LONGEST_PAUSE, watch: Watch | None = None
) -> None:
    """One look that never raises; while the node is away it tries again, ever more slowly.

    Not made while `watch` has the vault's keeper halted, because too many looks in a row ended in an error.
    """
    watch = watch or Watch()

    def waits(state: RetryCallState) -> None:
        watch.outage(keeper.vault, state.outcome.exception() if state.outcome else None)
        _log_outage(state)

    retrying = Retrying(
        retry=retry_if_exception_type(NODE_ERRORS),
        wait=wait_random_exponential(multiplier=1, max=longest_pause),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=waits,
        reraise=True,
    )
    watch.look(keeper.vault, partial(retrying, keeper.once))


def _look_and_expect(keeper: Keeper, stop: threading.Event, watch: Watch, trigger: BaseTrigger) -> None:
    look(keeper, stop, watch=watch)
    _expect(watch, keeper.vault, trigger)


def _expect(watch: Watch, vault: str, trigger: BaseTrigger) -> None:
    """Tell the watch when the next look is due; one that does not begin is a missed run."""
    now = datetime.now(UTC)
    following = trigger.get_next_fire_time(now, now)
    if following is not None:
        watch.due(vault, (following - now).total_seconds())


def _add_others(scheduler: BackgroundScheduler, outside: Outside) -> None:
    """What runs beside the looks: the sign of life and, where they are on, probes and alerts."""
    jobs = [(outside.watch.beat, BEAT_SECONDS), *([(outside.tick, TICK_SECONDS)] if outside.ticks else [])]
    for job, seconds in jobs:
        scheduler.add_job(
            job,
            IntervalTrigger(seconds=seconds, timezone=UTC),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
            next_run_time=datetime.now(UTC),
        )


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
        error=words_of(error),
    )
