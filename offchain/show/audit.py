"""`evenkeel audit …`: the verdict on one page, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from offchain.audit.decision import Status
from offchain.audit.points import Point
from offchain.audit.verify import Report
from offchain.show.safe import shown

__all__ = ["history_json", "history_rows", "print_history", "print_verdict", "verdict_json"]

MOST_LINES = 20  # decisions and residuals on the page; --json has all
MARKS = {True: ("holds", "green"), False: ("BROKEN", "bold red"), None: ("not checked", "yellow")}
COLOURS = {Status.VERIFIED: "green", Status.UNEXPLAINED: "bold red"}


def verdict_json(report: Report) -> dict[str, Any]:
    """All of it. Integers that may be large are decimal strings. A checkpoint for `--checkpoint`, too."""
    return {
        "vault": report.vault,
        "chain_id": report.chain_id,
        "block": report.block,
        "block_hash": report.block_hash,
        "head_stored": report.head_stored,
        "head_recomputed": report.head_recomputed,
        "entries": report.entries,
        "rebalances": report.rebalances,
        "flows": report.flows,
        "codehash": report.codehash,
        "first_break": report.first_break,
        "findings": [{"name": f.name, "holds": f.holds, "detail": f.detail} for f in report.findings],
        "decisions": [
            {
                "block": d.position.block,
                "transaction": d.position.transaction,
                "session": d.session,
                "decision": d.decision,
                "status": str(d.status),
                "field": d.field,
                "reason": d.reason,
            }
            for d in report.decisions
        ],
        "residuals": [
            {
                "block": r.position.block,
                "transaction": r.position.transaction,
                "token": r.token,
                "amount": str(r.amount),
            }
            for r in report.residuals
        ],
        "ok": report.ok,
    }


def print_verdict(report: Report, offline: bool = False) -> None:
    """One page: the two heads, what holds, the decisions, what came without an event."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"head {'given' if offline else 'stored'}      {report.head_stored}")
    console.print(f"head recomputed  {report.head_recomputed or '-'}")
    table = Table(
        title=f"{report.vault} on chain {report.chain_id}, block {report.block}", title_justify="left"
    )
    table.add_column("what")
    table.add_column("")
    table.add_column("found", overflow="fold")
    for finding in report.findings:
        word, style = MARKS[finding.holds]
        table.add_row(finding.name, Text(word, style), Text(shown(finding.detail, 600)))
    if report.findings:
        console.print(table)
    _print_decisions(console, report)
    _print_residuals(console, report)
    if report.findings:
        console.print(f"hash of the code it runs  {report.codehash}")
    word = "verified" if report.ok else "NOT verified"
    noun = "entry" if report.entries == 1 else "entries"
    console.print(f"{word}: {report.entries} {noun} up to block {report.block}")


def _print_decisions(console: Console, report: Report) -> None:
    if not report.decisions:
        return
    table = Table(title="decisions", title_justify="left")
    for name in ("block", "session", "decision", "is", "why"):
        table.add_column(name, overflow="fold")
    for d in report.decisions[-MOST_LINES:]:
        why = f"{d.field}: {d.reason}" if d.field else d.reason
        style = COLOURS.get(d.status, "yellow")
        row = (str(d.position.block), str(d.session), d.decision[:14] + "…")
        table.add_row(*row, Text(str(d.status), style), Text(shown(why, 300)))
    console.print(table)
    _say_rest(console, len(report.decisions))


def _print_residuals(console: Console, report: Report) -> None:
    if not report.residuals:
        return
    table = Table(
        title="residuals: tokens that came or went without an entry or a flow", title_justify="left"
    )
    for name in ("found in block", "token", "units"):
        table.add_column(name, overflow="fold")
    for r in report.residuals[-MOST_LINES:]:
        table.add_row(str(r.position.block), r.token, f"{r.amount:+d}")
    console.print(table)
    _say_rest(console, len(report.residuals))


def _say_rest(console: Console, count: int) -> None:
    if count > MOST_LINES:
        console.print(f"… and {count - MOST_LINES} before them: --json has all")


def history_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A vault by block. Amounts are decimal strings."""
    return [{name: _plain(name, value) for name, value in asdict(point).items()} for point in points]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [item if isinstance(item, str) else str(item) for item in value]
    places = ("block", "time", "priced_at", "flow_sequence")
    return str(value) if isinstance(value, int) and name not in places else value


def history_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The same as flat rows, lists spaced."""
    return [
        {
            name: " ".join(map(str, value))
            if isinstance(value, list | tuple)
            else ""
            if value is None
            else value
            for name, value in asdict(point).items()
        }
        for point in points
    ]


def print_history(points: Sequence[Point]) -> None:
    """The same as a table."""
    table = Table()
    for name in ("block", "time (UTC)", "what", "NAV USD", "share USD", "shares", "weights %"):
        table.add_column(name, justify="left" if name in ("time (UTC)", "what") else "right")
    for point in points:
        moment = datetime.fromtimestamp(point.time, UTC)
        names = list(dict.fromkeys(point.events))
        table.add_row(
            str(point.block),
            f"{moment:%Y-%m-%d %H:%M:%S}",
            ", ".join(names),
            "-" if point.nav is None else f"{point.nav / 1e18:,.2f}",
            "-" if point.share_price is None else f"{point.share_price / 1e18:,.6f}",
            f"{point.supply / 1e18:,.4f}",
            "-" if point.weights is None else " ".join(f"{weight / 1e16:.2f}" for weight in point.weights),
        )
    Console(soft_wrap=True).print(table)
