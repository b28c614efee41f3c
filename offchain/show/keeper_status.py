"""`evenkeel keeper status`: what the keepers of a journal are doing, as a live table. No node is asked."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from sqlalchemy import select
from sqlalchemy.engine import Engine

from offchain import policy
from offchain.chain.errors import ConfigError
from offchain.errors import EvenkeelError
from offchain.keeper.database import open_to_read, reading
from offchain.keeper.overview import latest_runs, read_ledger
from offchain.keeper.tables import Alert, Attempt, Base, Nonce, Run
from offchain.keeper.watch import plain
from offchain.policy import VaultState
from offchain.settings import Settings
from offchain.show.console import brief, short, span

__all__ = ["open_journal", "print_status", "status_report", "tables"]

TABLES = [Base.metadata.tables[kind.__tablename__] for kind in (Run, Nonce, Attempt, Alert)]
_STATE = TypeAdapter(VaultState)


def open_journal(settings: Settings) -> Engine:
    """The journal's database, only to be read; ConfigError where there is none yet."""
    if settings.database is not None:
        return open_to_read(settings.database.get_secret_value(), TABLES)
    path = Path(settings.journal)
    if not path.is_file():
        raise ConfigError(f"journal: no such file: {path} (the keeper makes it; name it with --journal)")
    return open_to_read(path, TABLES)


def status_report(engine: Engine, vault: str | None = None, now: float | None = None) -> dict[str, Any]:
    """All vaults of the journal, or one, its accounts and its open alerts. JournalError where it cannot be read.

    Ages are seconds; weights and drifts bps; amounts of gas whole native tokens.
    """
    now = time.time() if now is None else now
    runs = [run for run in latest_runs(engine) if vault is None or run.vault.lower() == vault.lower()]
    ledger = read_ledger(engine, None if vault is None else [run.vault for run in runs])
    with reading(engine) as db:
        alerts = db.scalars(select(Alert).order_by(Alert.since)).all()
    vaults = []
    for run in runs:
        done = ledger.rebalances.get((run.chain_id, run.vault))
        vaults.append(
            {
                "vault": run.vault,
                "chain_id": run.chain_id,
                "status": run.status,
                "reason": plain(run.reason),
                "block": run.block,
                "session": run.session,
                "look_age_seconds": _age(now, _utc(run.updated_at)),
                "tx_hash": run.tx_hash,
                "rebalances": done.count if done else 0,
                "rebalance_age_seconds": _age(now, done.last) if done else None,
                **_drift(run),
            }
        )
    return {
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "vaults": vaults,
        "accounts": [
            {
                "account": account.address,
                "chain_id": account.chain_id,
                "pending": account.pending,
                "oldest_nonce": account.oldest_nonce,
                "oldest_sent": account.oldest_sent,
                "gas_spent_native": account.spent_wei / 1e18,
            }
            for account in ledger.accounts
        ],
        "alerts": [
            {
                "kind": alert.kind,
                "subject": alert.key.partition(":")[2],
                "age_seconds": _age(now, alert.since),
                "sent": alert.sent_at is not None,
                "text": plain(alert.text),
            }
            for alert in alerts
        ],
    }


def print_status(report: dict[str, Any], console: Console) -> None:
    """The report once, as tables."""
    console.print(tables(report))


def tables(report: dict[str, Any]) -> Group:
    """The report for people: vaults, accounts, open alerts."""
    parts: list[Any] = [_vaults(report)]
    if report["accounts"]:
        parts.append(_accounts(report))
    for alert in report["alerts"]:
        said = "" if alert["sent"] else " (not delivered yet)"
        text = f"{alert['kind']} for {span(alert['age_seconds'])}{said}: {alert['text']} {brief(alert['subject'])}"
        parts.append(Text(f"! {text}", "bold red"))
    return Group(*parts)


def _vaults(report: dict[str, Any]) -> Table:
    chains = {vault["chain_id"] for vault in report["vaults"]}
    where = f", chain {chains.pop()}" if len(chains) == 1 else ""
    table = _table(f"Keepers{where}, {report['time']}")
    for name, right in (("vault", False), ("looked", True), ("drift, of band", True), ("rebalanced", True)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("what came of it", overflow="fold")
    for vault in report["vaults"]:
        drift, used = vault["drift_bps"], vault["band_used_percent"]
        style = (
            "red" if vault["status"] == "failed" else "yellow" if vault["status"] in ("sent", "mined") else ""
        )
        address = short(vault["vault"])
        cells = (
            address if where else f"{vault['chain_id']}:{address}",
            span(vault["look_age_seconds"]),
            "-" if drift is None else f"{drift / 100:.2f} %, {used:.0f} %",
            f"{vault['rebalances']}, {span(vault['rebalance_age_seconds'])}" if vault["rebalances"] else "-",
            ": ".join(filter(None, (vault["status"], brief(vault["reason"])))),
        )
        table.add_row(*(Text(cell) for cell in cells), style=style)
    if not report["vaults"]:
        table.add_row(*(Text(cell) for cell in ("none yet", *[""] * 4)))
    return table


def _accounts(report: dict[str, Any]) -> Table:
    table = _table()
    for name, right in (("account", False), ("chain", True), ("waiting", True), ("gas spent, native", True)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for account in report["accounts"]:
        waiting = str(account["pending"])
        if account["pending"]:
            waiting += f", from nonce {account['oldest_nonce']}"
        spent = f"{account['gas_spent_native']:.6f}"
        table.add_row(*map(Text, (short(account["account"]), str(account["chain_id"]), waiting, spent)))
    return table


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _drift(run: Run) -> dict[str, Any]:
    """The asset that is nearest to its band or the farthest past it, as the run's record has it."""
    nothing = {"drift_bps": None, "band_bps": None, "band_used_percent": None, "token": None}
    try:
        state = _STATE.validate_python(json.loads(run.record or "{}")["state"])
        if not policy.usable(state):
            return nothing
        rows = zip(policy.drifts(state), policy.bands(state), state.assets, strict=True)
        drift, band, asset = max(rows, key=lambda row: row[0] / max(row[1], 1))
    except (KeyError, ValueError, ValidationError, EvenkeelError):
        return nothing
    return {
        "drift_bps": drift / policy.BPS_IN_WAD,
        "band_bps": band / policy.BPS_IN_WAD,
        "band_used_percent": 100 * drift / max(band, 1),
        "token": asset.token,
    }


def _utc(moment: datetime) -> float:
    """SQLite gives times back without their zone, which is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _age(now: float, then: float | None) -> float | None:
    return None if then is None else round(max(0.0, now - then), 1)
