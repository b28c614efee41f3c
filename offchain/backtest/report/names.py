"""Names as users and their data have them: shown as they are, with no power over the page."""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["isolated", "plain"]

NAME_LENGTH = 60  # characters


def plain(text: Any, length: int = NAME_LENGTH) -> str:
    """Text of a user's in one line: without control characters and without what turns the direction of reading."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " if c.isspace() else "" for c in str(text))
    kept = " ".join(kept.split())
    return kept if len(kept) <= length else kept[: length - 1] + "…"


def isolated(text: str) -> str:
    """The text between marks that keep its direction of reading to itself."""
    return f"\u2068{text}\u2069"
