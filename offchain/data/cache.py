"""What was fetched, kept in Parquet files: a folder for what was asked, a file for each span of it that is known.

A file's name says which span it is, so a later call fetches only the spans that are missing. Files are written beside
their place and renamed: a crash leaves none half written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from offchain.backtest.errors import BacktestError

__all__ = ["Span", "Spans"]

Span = tuple[int, int]  # first and last, both inclusive


class Spans:
    """One series on disk, by a whole number that it is asked by: a block, a round, a time."""

    def __init__(self, cache: Path, title: str, key: Mapping[str, Any], schema: pa.Schema) -> None:
        """`key`: what makes another series; `schema`: its columns, the first is the number."""
        text = json.dumps(key, sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", title) + "-" + hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder = cache / name
        self.schema = schema
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (ignore := cache / ".gitignore").exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise BacktestError(f"data.cache: {self.folder}: {error.strerror}") from None

    def known(self) -> list[Span]:
        """The spans on disk, ascending, those that touch joined."""
        found: list[Span] = []
        for first, last in sorted(self._files()):
            if found and first <= found[-1][1] + 1:
                found[-1] = found[-1][0], max(found[-1][1], last)
            else:
                found.append((first, last))
        return found

    def missing(self, first: int, last: int) -> list[Span]:
        """The spans of first to last that are not on disk, ascending."""
        found = []
        for low, high in self.known():
            if high < first or low > last:
                continue
            if low > first:
                found.append((first, low - 1))
            first = high + 1
        return [*found, (first, last)] if first <= last else found

    def put(self, span: Span, rows: Mapping[str, Any]) -> None:
        """Keep all there is in `span`, which may be nothing."""
        table = pa.table(
            {name: pa.array(rows[name], self.schema.field(name).type) for name in self.schema.names}
        )
        path = self.folder / f"{span[0]}_{span[1]}.parquet"
        half = path.with_suffix(f".{os.getpid()}.half")
        try:
            pq.write_table(table, half)
            half.replace(path)
        except OSError as error:
            raise BacktestError(f"data.cache: {path}: {error.strerror}") from None
        finally:
            half.unlink(missing_ok=True)

    def read(self, first: int, last: int) -> pa.Table:
        """What is known from first to last, ascending, each row once."""
        column = self.schema.names[0]
        tables = [self.schema.empty_table()]
        for span, path in sorted(self._files().items()):
            if span[1] >= first and span[0] <= last:
                try:
                    tables.append(pq.read_table(path, schema=self.schema))
                except (pa.ArrowException, OSError):
                    raise BacktestError(
                        f"data.cache: {path} cannot be read: delete it, it is fetched again"
                    ) from None
        table = pa.concat_tables(tables)
        table = table.filter((pc.field(column) >= first) & (pc.field(column) <= last))
        if len(tables) > 2:  # spans that two runs fetched at a time may overlap
            table = table.group_by(self.schema.names).aggregate([])
        return table.sort_by([(name, "ascending") for name in self.schema.names[:2]])

    def _files(self) -> dict[Span, Path]:
        found = {}
        for path in self.folder.glob("*.parquet"):
            if match := re.fullmatch(r"(-?\d+)_(-?\d+)", path.stem):
                found[int(match[1]), int(match[2])] = path
        return found
