"""A vault's history in a file: JSON that an outsider verifies offline, CSV and Parquet for spreadsheets and tools.

The JSON holds the logs as the chain has them (topics and data in hex), so that each entry is hashed as it is; see
docs/audit.md. Integers are decimal strings. Nothing in the file but the entries and the config is bound by the head:
the verifier checks what follows from them.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from offchain.audit.chain import AuditBreak
from offchain.audit.decision import Offered
from offchain.audit.history import AnyEvent, History, Log, decode_logs, entries_of
from offchain.audit.verifier import Checkpoint
from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError
from offchain.show.safe import cell, shown

__all__ = [
    "FORMAT",
    "Export",
    "read_checkpoint",
    "read_export",
    "read_records",
    "rows",
    "to_csv",
    "to_json",
    "to_parquet",
]

FORMAT = "evenkeel audit export 1"
MAX_FILE = 2_000_000_000  # characters
INTEGER = re.compile(r"0|[1-9][0-9]{0,77}")
HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


@dataclass(frozen=True)
class Export:
    """What an export says. `head` is the exporter's word, to be compared with one that is trusted."""

    history: History
    head: bytes
    block: int
    block_hash: str
    time: int
    records: tuple[Offered, ...] = ()


# ---------------------------------------------------------------- writing


def to_json(export: Export) -> str:
    """The export as text, one log a line, ASCII."""
    history = export.history
    top: dict[str, Any] = {
        "format": FORMAT,
        "chain_id": str(history.chain_id),
        "vault": history.vault,
        "block": {"number": str(export.block), "hash": export.block_hash, "time": str(export.time)},
        "head": _hex(export.head),
        "codehash": _hex(history.codehash),
        "config": _hex(history.config),
        "decimals": {token: str(digits) for token, digits in sorted(history.decimals.items())},
        "melt_seconds": {teller: str(seconds) for teller, seconds in sorted(history.melt_seconds.items())},
        "seed": None if history.seed is None else [str(units) for units in history.seed],
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in top.items()]
    logs = ",\n  ".join(json.dumps(_log(log)) for log in history.logs)
    records = [{"decision": _hex(r.decision or b""), "record": r.text} for r in export.records]
    told = ",\n  ".join(json.dumps(record) for record in records)
    lines += [f'"logs": [\n  {logs}\n ]', f'"records": [\n  {told}\n ]' if told else '"records": []']
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _log(log: Log) -> dict[str, Any]:
    return {
        "block": str(log.block),
        "time": str(log.time),
        "transaction": log.transaction,
        "log_index": str(log.log_index),
        "topics": [_hex(topic) for topic in log.topics],
        "data": _hex(log.data),
    }


def rows(logs: Sequence[Log]) -> list[dict[str, Any]]:
    """The events as flat rows with one set of columns; lists are spaced decimal strings, bytes hex."""
    events = decode_logs(logs)
    names = ["block", "time", "transaction", "log_index", "event"]
    for event in events:
        names += [field.name for field in fields(event) if field.name not in ("position", *names)]
    return [dict.fromkeys(names, "") | _row(event) for event in events]


def _row(event: AnyEvent) -> dict[str, Any]:
    at = event.position
    told = {
        "block": at.block,
        "time": at.time,
        "transaction": at.transaction,
        "log_index": at.log_index,
        "event": type(event).__name__,
    }
    own = {
        field.name: _flat(getattr(event, field.name)) for field in fields(event) if field.name != "position"
    }
    return told | own


def _flat(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return _hex(value) if isinstance(value, bytes) else value


def to_csv(table: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV (RFC 4180, ASCII). What a spreadsheet would take for a formula is marked as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(list(table[0]) if table else [])
    writer.writerows([cell(value) for value in row.values()] for row in table)
    return out.getvalue()


def to_parquet(table: Sequence[dict[str, Any]], path: str) -> None:
    """The rows as Parquet: places as 64-bit integers, everything else as text, since tokens count in 256 bits."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise ConfigError("--format parquet needs pyarrow: pip install 'evenkeel[backtest]'") from None
    places = ("block", "time", "log_index")
    columns = {
        name: pa.array([int(row[name]) for row in table], pa.int64())
        if name in places
        else pa.array([None if row[name] == "" else str(row[name]) for row in table], pa.string())
        for name in (table[0] if table else [])
    }
    parquet.write_table(pa.table(columns), path)


# ---------------------------------------------------------------- reading


def read_export(text: str) -> Export:
    """The export that this text is.

    Raises:
        ConfigError: it is none.
        AuditBreak: one of its logs is none; the position says which.

    """
    top = _object(text)
    if top.get("format") != FORMAT:
        raise ConfigError(f"not an audit export: format {shown(str(top.get('format')))!r}, not {FORMAT!r}")
    block = top.get("block")
    logs = top.get("logs")
    if not isinstance(block, dict) or not isinstance(logs, list):
        raise ConfigError("not an audit export: no block, or no logs")
    seed = top.get("seed")
    try:
        history = History(
            _int(top, "chain_id"),
            address_of(_str(top, "vault"), "vault"),
            _bytes(top, "codehash", 32),
            _bytes(top, "config"),
            tuple(_read_log(log, i) for i, log in enumerate(logs)),
            _numbers(top, "decimals"),
            _numbers(top, "melt_seconds"),
            None if seed is None else tuple(_int(dict(enumerate(seed)), i) for i in range(len(seed))),
        )
        head, number, time = _bytes(top, "head", 32), _int(block, "number"), _int(block, "time")
        records = tuple(_offered(item) for item in top.get("records", []))
        return Export(history, head, number, _str(block, "hash"), time, records)
    except (TypeError, AttributeError):
        raise ConfigError("not an audit export: something in it is not of its type") from None


def _read_log(log: Any, index: int) -> Log:
    try:
        topics = [_bytes(dict(enumerate(log["topics"])), i, 32) for i in range(len(log["topics"]))]
        return Log(
            _int(log, "block"),
            _int(log, "time"),
            _hash(log, "transaction"),
            _int(log, "log_index"),
            tuple(topics),
            _bytes(log, "data"),
        )
    except (ConfigError, KeyError, TypeError) as error:
        raise AuditBreak(f"logs[{index}]", f"not a log: {' '.join(str(error).split())}") from None


def read_checkpoint(text: str) -> Checkpoint:
    """A head noted before: from the JSON of `audit verify`, or from an export."""
    top = _object(text)
    if top.get("format") == FORMAT:
        old = read_export(text)
        return Checkpoint(
            old.history.chain_id, old.history.vault, old.head, len(entries_of(decode_logs(old.history.logs)))
        )
    if top.get("ok") is False:
        raise ConfigError("checkpoint: it was not verified itself")
    head = top.get("head", top.get("head_recomputed"))
    try:
        return Checkpoint(
            int(top["chain_id"]),
            address_of(_str(top, "vault"), "vault"),
            _bytes({"head": head}, "head", 32),
            int(top["entries"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"checkpoint: needs chain_id, vault, head and entries ({error})") from None


def read_records(text: str) -> list[Offered]:
    """Records from a file: one, a list of them, JSON lines, or an object from decision to record.

    Each is the record, as text or as the object it says, or {"decision": …, "record": …}.
    """
    try:
        values = _values(json.loads(text))
    except (ValueError, RecursionError):
        try:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise ConfigError("--records: neither JSON nor JSON lines") from None
    try:
        return [_offered(value) for value in values]
    except (TypeError, AttributeError):
        raise ConfigError("--records: something in it is no record") from None


def _values(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and value and all(HEX.fullmatch(k) and len(k) == 66 for k in value):
        return [{"decision": key, "record": record} for key, record in value.items()]
    return [value]


def _offered(value: Any) -> Offered:
    """A record, alone or with the decision that it was given for."""
    if isinstance(value, dict) and set(value) >= {"decision", "record"}:
        return Offered(_text(value["record"]), _bytes(value, "decision", 32))
    return Offered(_text(value))


def _text(record: Any) -> str:
    """A record's text; of an object its one spelling (offchain/keeper/decide.py, `canonical_json`)."""
    if isinstance(record, str):
        if any("\ud800" <= char <= "\udfff" for char in record):
            raise TypeError("half a character: nothing that can be hashed")
        return record
    if not isinstance(record, dict):
        raise TypeError(record)
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _object(text: str) -> dict[str, Any]:
    if len(text) > MAX_FILE:
        raise ConfigError(f"longer than {MAX_FILE} characters")
    try:
        top = json.loads(text, object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError):
        raise ConfigError("not JSON") from None
    if not isinstance(top, dict):
        raise ConfigError("not a JSON object")
    return top


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that stands twice another reader may take the other value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ConfigError("a name stands twice in an object")
    return found


def _int(top: Any, key: Any) -> int:
    value = top.get(key)
    if not isinstance(value, str) or not INTEGER.fullmatch(value):
        raise ConfigError(f"{key}: {shown(str(value))!r} is no whole number as a string")
    return int(value)


def _str(top: Any, key: str) -> str:
    value = top.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{key}: missing")
    return value


def _bytes(top: Any, key: Any, size: int | None = None) -> bytes:
    value = top.get(key)
    if (
        not isinstance(value, str)
        or not HEX.fullmatch(value)
        or (size is not None and len(value) != 2 + 2 * size)
    ):
        expected = "0x and hex digits" if size is None else f"0x and {2 * size} hex digits"
        raise ConfigError(f"{key}: {shown(str(value))!r} is not {expected}")
    return bytes.fromhex(value[2:])


def _hash(top: Any, key: str) -> str:
    return _hex(_bytes(top, key, 32))


def _numbers(top: Any, key: str) -> dict[str, int]:
    value = top.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: missing")
    return {address_of(name, key).lower(): _int(value, name) for name in value}


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
