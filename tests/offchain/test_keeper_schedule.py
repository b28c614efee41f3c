"""The schedule: a look never ends the keeper, an outage is waited out, a stop is clean."""

import threading
import time
from typing import Any

import pytest
import requests

from offchain.chain.errors import ConfigError
from offchain.errors import EvenkeelError
from offchain.keeper.schedule import look, run


class Sends:
    sends = False
    stop = threading.Event()


class Scripted:
    """A keeper whose looks do what the list says."""

    vault = "0x" + "a" * 40
    sender = Sends()

    def __init__(self, *script: Exception | None, then: threading.Event | None = None) -> None:
        self.script = list(script)
        self.looks = 0
        self.then = then

    def once(self) -> None:
        self.looks += 1
        step = self.script.pop(0) if self.script else None
        if not self.script and self.then:
            self.then.set()
        if step is not None:
            raise step


def keeper(*script: Exception | None, then: threading.Event | None = None) -> Any:
    return Scripted(*script, then=then)


def test_an_outage_is_waited_out() -> None:
    watched = keeper(requests.ConnectionError(), TimeoutError(), None)
    look(watched, threading.Event(), longest_pause=0.01)
    assert watched.looks == 3


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    watched = keeper(*[requests.ConnectionError()] * 2, then=stop)
    look(watched, stop, longest_pause=0.01)
    assert watched.looks == 2


@pytest.mark.parametrize("error", [EvenkeelError("vault: not a vault"), RuntimeError("a bug")])
def test_other_errors_end_only_the_look(error: Exception) -> None:
    watched = keeper(error)
    look(watched, threading.Event())
    assert watched.looks == 1


def test_run_looks_at_once_and_again_until_stopped() -> None:
    stop = threading.Event()
    watched = keeper(RuntimeError("a bug"), None, then=stop)
    started = time.monotonic()
    run(watched, interval_seconds=1, stop=stop)
    assert watched.looks == 2
    assert time.monotonic() - started < 10


def test_a_cron_line_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="cron: 'often'"):
        run(keeper(), interval_seconds=1, cron="often", stop=threading.Event())
