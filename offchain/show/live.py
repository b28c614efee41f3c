"""A report on the terminal, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from offchain.chain.errors import NODE_ERRORS
from offchain.errors import EvenkeelError
from offchain.keeper.watch import words_of

__all__ = ["show_live"]

T = TypeVar("T")
AWAY: tuple[type[Exception], ...] = (EvenkeelError, *NODE_ERRORS)


def show_live(
    read: Callable[[], T],
    tables: Callable[[T], RenderableType],
    console: Console,
    every_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """What is read, until Ctrl-C; while it cannot be read the last one stays, and a line says why."""
    shown: list[RenderableType] = []
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        try:
            while True:
                try:
                    shown = [tables(read())]
                    note = Text(f"every {every_seconds:g} s, until Ctrl-C", "dim")
                except AWAY as error:
                    note = Text(words_of(error), "red")
                live.update(Group(*shown, note), refresh=True)
                sleep(every_seconds)
        except KeyboardInterrupt:
            return
