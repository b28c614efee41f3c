"""What the demo saw, and how it is shown: tables for people, JSON for programs. Integers as decimal strings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from web3.contract import Contract
from web3.types import EventData

from offchain import policy
from offchain.audit import Report
from offchain.demo.market import Day
from offchain.demo.world import TOKENS
from offchain.keeper.costs import Entry
from offchain.keeper.loop import Keeper
from offchain.policy import WAD, VaultState

__all__ = [
    "Attempt", "Exit", "Point", "Rebalance", "VaultRun", "attempts_table", "audit_table", "exits_table",
    "rebalance_from", "rebalance_table", "result_table", "write_json",
]  # fmt: skip

MODE_NAMES = ("calendar", "threshold", "hybrid", "both")


@dataclass(frozen=True)
class Rebalance:
    """One rebalance as the vault's own event tells it. Values and weights are WAD, amounts token units."""

    date: date
    time: int  # timestamp of the block
    trigger: str
    drift_before: int  # the largest of any asset
    drift_after: int
    sold: dict[str, int]  # symbol -> USD
    bought: dict[str, int]
    nav_before: int  # USD
    nav_after: int
    cost_bps_of_sold: float
    cost_bps_of_nav: float
    balances_before: tuple[int, ...]
    balances_after: tuple[int, ...]
    prices: tuple[int, ...]
    session: int
    gas: int
    block: int
    transaction: str


@dataclass(frozen=True)
class Point:
    """A vault at the end of a day, WAD."""

    date: date
    weights: tuple[int, ...]
    nav: int  # USD
    share_price: int  # USD, per share; 1e18 on the first day
    held: int  # what the first day's basket of a share is worth


@dataclass(frozen=True)
class Attempt:
    """Something a dishonest keeper tried."""

    date: date
    vault: str
    what: str
    reason: str  # the vault's
    transaction: str  # mined and reverted


@dataclass(frozen=True)
class Exit:
    """A depositor's way in and out of a vault."""

    depositor: str
    vault: str
    way_in: str
    usd_in: int  # WAD
    shares: int
    amounts: dict[str, int]  # symbol -> token units
    usd_out: int  # WAD
    transaction: str


@dataclass
class VaultRun:
    """A vault, its keeper, and what happened to it."""

    name: str
    contract: Contract
    keeper: Keeper
    state: VaultState  # as read after the last transaction that changed it
    first: VaultState  # on the first day, all deposits in
    rebalances: list[Rebalance] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    costs: list[Entry] = field(default_factory=list)  # of the keeper's ledger
    audit: Report | None = None

    def at(self, day: Day, time: int) -> VaultState:
        """The state with another day's prices: balances move only in transactions that the demo knows of."""
        prices = tuple(price * 10**10 for price in day.prices)
        return replace(self.state, prices=prices, time=time)

    def add_point(self, day: Day) -> None:
        """Note where the vault stands."""
        state = self.at(day, day.timestamp)
        nav, first = policy.nav(state), self.first
        base = policy.nav(first) * WAD // first.supply
        share_price = nav * WAD // state.supply
        held = policy.nav(state, first.balances) * WAD // first.supply
        weights = tuple(policy.weights(state))
        self.points.append(Point(day.date, weights, nav, share_price * WAD // base, held * WAD // base))


def rebalance_from(event: EventData, run: VaultRun, day: Day, trigger: str, gas: int) -> Rebalance:
    """A row of the table from the vault's Rebalanced event."""
    args = event["args"]
    before, after = tuple(args["balances_before"]), tuple(args["balances_after"])
    state = replace(run.state, prices=tuple(args["prices"]))
    values_before, values_after = policy.values(state, before), policy.values(state, after)
    sold = {t.symbol: b - a for t, b, a in zip(TOKENS, values_before, values_after, strict=True) if b > a}
    bought = {t.symbol: a - b for t, b, a in zip(TOKENS, values_before, values_after, strict=True) if a > b}
    nav_before, nav_after = sum(values_before), sum(values_after)
    lost = nav_before - nav_after
    return Rebalance(
        date=day.date,
        time=args["time"],
        trigger=trigger,
        drift_before=max(policy.drifts(state, before)),
        drift_after=max(policy.drifts(state, after)),
        sold=sold,
        bought=bought,
        nav_before=nav_before,
        nav_after=nav_after,
        cost_bps_of_sold=lost * 10_000 / max(sum(sold.values()), 1),
        cost_bps_of_nav=lost * 10_000 / nav_before,
        balances_before=before,
        balances_after=after,
        prices=tuple(args["prices"]),
        session=args["session"],
        gas=gas,
        block=event["blockNumber"],
        transaction=event["transactionHash"].to_0x_hex(),
    )


def rebalance_table(run: VaultRun) -> Table:
    """One line a rebalance."""
    table = _table(f"{run.name} vault: {_count(run.rebalances)}", "time (UTC)", "trigger")
    for column in ("drift", "after", *(token.symbol for token in TOKENS), "cost", "gas"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("transaction", no_wrap=True)
    for row in run.rebalances:
        table.add_row(
            datetime.fromtimestamp(row.time, UTC).strftime("%Y-%m-%d %H:%M"),
            row.trigger.replace("calendar and threshold", "both"),
            _percent(row.drift_before),
            _percent(row.drift_after),
            *(_traded(row, token.symbol) for token in TOKENS),
            f"{row.cost_bps_of_sold:.1f}",
            f"{row.gas:,}",
            row.transaction[:10] + "…",
        )
    table.caption = (
        "drift: the largest of any asset, % points; tokens: USD [red]sold (-)[/] and [green]bought (+)[/]; "
        "cost: NAV lost, bps of the value sold"
    )
    return table


def result_table(runs: Sequence[VaultRun]) -> Table:
    """The vaults side by side."""
    table = _table("Side by side", "vault")
    columns = ("rebalances", "days out of band", "sold", "cost", "return", "buy and hold")
    for column in columns:
        table.add_column(column, justify="right")
    for run in runs:
        last, bands = run.points[-1], policy.bands(run.state)
        sold = sum(sum(row.sold.values()) / row.nav_before for row in run.rebalances)
        table.add_row(
            run.name,
            str(len(run.rebalances)),
            str(sum(_outside(run.state, point, bands) for point in run.points)),
            f"{100 * sold:.1f} %",
            f"{sum(row.cost_bps_of_nav for row in run.rebalances):.1f}",
            f"{last.share_price / WAD - 1:+.2%}",
            f"{last.held / WAD - 1:+.2%}",
        )
    table.caption = "sold: % of NAV, all rebalances together; cost: NAV lost, bps of NAV"
    return table


def attempts_table(attempts: Sequence[Attempt]) -> Table:
    """What was refused, and why."""
    table = _table("A dishonest keeper tries", "date", "vault", "what it does", "reverts with", "transaction")
    for attempt in attempts:
        answer = f'"{attempt.reason}"'
        table.add_row(
            attempt.date.isoformat(), attempt.vault, attempt.what, answer, attempt.transaction[:10] + "…"
        )
    return table


def exits_table(exits: Sequence[Exit]) -> Table:
    """Who left with what."""
    table = _table("Both depositors leave in kind", "depositor", "vault", "came")
    for column in ("in, USD", "out, USD", *(token.symbol for token in TOKENS)):
        table.add_column(column, justify="right", no_wrap=True)
    for row in exits:
        amounts = [f"{row.amounts[token.symbol] / token.scale:,.2f}" for token in TOKENS]
        usd_in, usd_out = f"{row.usd_in / WAD:,.0f}", f"{row.usd_out / WAD:,.0f}"
        table.add_row(row.depositor, row.vault, row.way_in, usd_in, usd_out, *amounts)
    return table


def audit_table(runs: Sequence[VaultRun]) -> Table:
    """Stored and recomputed heads."""
    table = _table(
        "Audit: head recomputed from the vault's events",
        "vault",
        "entries",
        "stored on chain",
        "recomputed",
        "",
    )
    for run in runs:
        if run.audit is not None:
            stored, found = run.audit.head_stored, run.audit.head_recomputed or "none"
            verdict = "[green]equal[/]" if run.audit.ok else f"[red]{run.audit.first_break or 'different'}[/]"
            table.add_row(run.name, str(run.audit.entries), _short(stored), _short(found), verdict)
    return table


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write the machine-readable report."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(_plain(content), indent=1) + "\n")


def vault_json(run: VaultRun) -> dict[str, Any]:
    """All that happened to a vault."""
    return {
        "name": run.name,
        "address": run.contract.address,
        "mode": run.state.rules.mode,
        "assets": [asdict(asset) for asset in run.state.assets],
        "rules": asdict(run.state.rules),
        "rebalances": [asdict(row) for row in run.rebalances],
        "costs": [asdict(entry) for entry in run.costs],
        "series": [asdict(point) for point in run.points],
        "audit": None if run.audit is None else asdict(run.audit) | {"ok": run.audit.ok},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value


def _outside(state: VaultState, point: Point, bands: Sequence[int]) -> bool:
    targets = policy.targets(state)
    return any(abs(w - t) >= band for w, t, band in zip(point.weights, targets, bands, strict=True))


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", caption_justify="left", box=SIMPLE_HEAD
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _percent(wad: int) -> str:
    return f"{wad / 1e16:.2f}"


def _traded(row: Rebalance, symbol: str) -> str:
    if symbol in row.sold:
        return f"[red]-{row.sold[symbol] / WAD:,.0f}[/]"
    return f"[green]+{row.bought[symbol] / WAD:,.0f}[/]" if symbol in row.bought else ""


def _count(rebalances: Sequence[Rebalance]) -> str:
    return f"{len(rebalances)} rebalance{'' if len(rebalances) == 1 else 's'}"


def _short(digest: str) -> str:
    return f"{digest[:10]}…{digest[-6:]}"
