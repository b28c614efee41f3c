"""What strangers wrote (names and symbols of tokens and vaults), made harmless to show."""

from __future__ import annotations

import unicodedata

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

__all__ = ["MAX_NAME", "MAX_SYMBOL", "plain", "returned_text"]

MAX_SYMBOL = 12  # characters
MAX_NAME = 64
MOST_BYTES = 4_096  # of an answer that are looked at at all


def plain(text: str, most: int, instead: str) -> str:
    """At most `most` visible characters of `text`, `instead` where none is left.

    Left out: control, direction, invisible, private and unassigned characters, and marks that stack on others.
    """
    seen = (c for c in text[:MOST_BYTES] if c.isprintable() and not unicodedata.combining(c))
    return " ".join("".join(seen).split())[:most].strip() or instead


def returned_text(data: bytes) -> str:
    """The string that a contract returned: ABI-encoded, or padded to 32 bytes as old tokens do. "" if neither."""
    if len(data) == 32:
        return data.rstrip(b"\0").decode(errors="replace")
    try:
        # the string may lie beyond what is looked at; then it is none
        raw: bytes = decode(["bytes"], data[:MOST_BYTES])[0] if len(data) <= MOST_BYTES else _head(data)
    except (DecodingError, OverflowError):
        return ""
    return raw.decode(errors="replace")


def _head(data: bytes) -> bytes:
    """The beginning of a string whose encoding is too long to be decoded whole."""
    start = int.from_bytes(data[:32], "big")
    if start > MOST_BYTES - 32:
        return b""
    return data[start + 32 : MOST_BYTES]
