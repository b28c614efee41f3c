"""Lists in pages. A cursor is where the last page ended, opaque to the caller, and stays good while the list grows."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from offchain.api.problems import Problem

__all__ = ["Place", "page"]

T = TypeVar("T")
Place = tuple[int, int]  # of an item: what the list is sorted by, no two alike


def page(
    items: Sequence[T], place: Callable[[T], Place], cursor: str | None, limit: int, *, newest_first: bool
) -> tuple[list[T], str | None]:
    """The items after `cursor`, at most `limit`, and the cursor of what comes then. `items`: by place, ascending."""
    ordered = list(reversed(items)) if newest_first else list(items)
    if cursor is not None:
        after = _place_of(cursor)
        ordered = [i for i in ordered if (place(i) < after if newest_first else place(i) > after)]
    found = ordered[:limit]
    return found, _cursor_of(place(found[-1])) if len(ordered) > limit else None


def _cursor_of(place: Place) -> str:
    return base64.urlsafe_b64encode(f"{place[0]}.{place[1]}".encode()).decode().rstrip("=")


def _place_of(cursor: str) -> Place:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
    except (binascii.Error, ValueError):
        text = ""
    found = re.fullmatch(r"([0-9]{1,20})\.([0-9]{1,20})", text, re.ASCII)
    if found is None:
        raise Problem(
            "invalid_request",
            "cursor: not one of this list",
            errors=[{"field": "cursor", "message": "not one of this list"}],
        )
    return int(found[1]), int(found[2])
