"""Text of strangers, token names above all, made harmless for terminals, logs and spreadsheets."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["LONGEST", "cell", "shown"]

LONGEST = 64  # characters that are shown of a text
FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "|",
    "%",
)  # what a cell that a spreadsheet computes begins with

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")  # below 0, a spreadsheet reads it as what it is


def shown(text: str, longest: int = LONGEST) -> str:
    """The text on one line, without control, invisible and direction characters, cut to `longest`."""
    found = []
    for char in text[: 8 * longest]:
        kind = unicodedata.category(char)
        if kind[0] != "C" and kind not in ("Zl", "Zp"):
            found.append(" " if kind == "Zs" else char)
    plain = "".join(found).strip()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def cell(value: object) -> object:
    """A value for a CSV cell: numbers as they are; text without what a spreadsheet would run."""
    if value is None or isinstance(value, int | float):
        return value
    text = shown(str(value), 32_000)
    return "'" + text if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text
