"""Where keepers' records of their decisions are looked for: files, and the journal's database. The edge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from offchain.audit.decision import Offered
from offchain.audit.export import read_records
from offchain.chain.errors import ConfigError
from offchain.keeper.database import open_database, reading
from offchain.keeper.tables import Run

__all__ = ["from_file", "from_journal"]

BATCH = 500  # hashes in one query


def from_file(path: Path) -> list[Offered]:
    """The records in a file (`offchain.audit.export.read_records`)."""
    return read_records(text_of(path, "--records"))


def from_journal(target: Path | str, decisions: Sequence[bytes]) -> list[Offered]:
    """The records of these decisions in a keeper's journal: a file, or an SQLAlchemy address."""
    if "://" not in str(target) and not Path(target).is_file():
        raise ConfigError(f"--journal: no such file: {target}")
    engine = open_database(target)
    found = []
    wanted = ["0x" + decision.hex() for decision in decisions]
    try:
        with reading(engine) as db:
            for start in range(0, len(wanted), BATCH):
                query = select(Run.decision, Run.record).where(
                    Run.decision.in_(wanted[start : start + BATCH]), Run.record.is_not(None)
                )
                rows = db.execute(query.distinct()).all()
                found += [Offered(str(row.record), bytes.fromhex(row.decision[2:])) for row in rows]
    finally:
        engine.dispose()
    return found


def text_of(path: Path, name: str) -> str:
    """The file's text; ConfigError where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{name}: {path}: {why}") from None
