"""Tables on the terminal, and where there is none."""

from __future__ import annotations

import os
import re
import sys

from rich.console import Console

__all__ = ["brief", "console_of", "short", "span"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\b", re.ASCII)
REASON = 120  # characters of what others wrote
WIDE = 200  # characters, without a terminal: nothing is cut, or wrapped in the middle of an address


def console_of(*, markup: bool = True) -> Console:
    """Standard output; as wide as the terminal, as COLUMNS says, or wide enough for a file."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(highlight=False, markup=markup, width=wide)


def short(address: str) -> str:
    """An address for a table, 0x1234…abcd; anything that is no longer than that as it is."""
    return address if len(address) <= 11 else f"{address[:6]}…{address[-4:]}"


def brief(text: str) -> str:
    """A reason for a table: addresses shortened, and cut where it is long."""
    from offchain.keeper.watch import plain  # brings the planner with it: not for every command

    return plain(_ADDRESS.sub(lambda found: short(found[0]), text), REASON)


def span(seconds: float | None) -> str:
    """How long, in the unit that fits; "-" where it is not known."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
