"""`evenkeel status`: a vault's weights, targets, bands and session; many vaults, a row each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from offchain import policy
from offchain.chain.oracle import price_status
from offchain.chain.vault import Snapshot

__all__ = ["overview_report", "overview_tables", "status_report", "vault_tables"]


def status_report(snapshot: Any, terms: Any, name_tokens: Callable[[list[str]], list[str]]) -> dict[str, Any]:
    """What `evenkeel status` shows. Fractions are per cent, amounts decimal strings in token units, USD in dollars."""
    state = snapshot.state
    usable = policy.usable(state) and policy.nav(state) > 0
    aside = policy.aside(state)
    trigger = policy.trigger(state, state.time) if usable else None
    values = policy.values(state)
    weights: list[int | None] = list(policy.weights(state)) if usable else [None] * len(state.assets)
    rows = zip(name_tokens([a.token for a in state.assets]), state.assets, state.balances, state.prices, state.statuses,
               values, weights, policy.targets(state), policy.bands(state), strict=True)  # fmt: skip
    return {
        "vault": snapshot.vault,
        "chain_id": snapshot.chain_id,
        "block": snapshot.block.number,
        "block_hash": snapshot.block.hash,
        "time": state.time,
        "nav_usd": sum(values) / 1e18,
        "supply": str(state.supply),
        "assets": [
            {
                "symbol": symbol,
                "token": asset.token,
                "balance": str(balance),
                "price_usd": price / 1e18,
                "price_status": status,
                "value_usd": value / 1e18,
                "weight_percent": None if weight is None else weight / 1e16,
                "target_percent": target / 1e16,
                "band_percent": band / 1e16,
                "quarantined": i == aside,
            }
            for i, (symbol, asset, balance, price, status, value, weight, target, band) in enumerate(rows)
        ],
        "mode": policy.Mode(state.rules.mode).name,
        "session": dataclasses.asdict(state.session) | {"open": policy.session_is_open(state, state.time)},
        "cooldown_over": policy.cooldown_over(state, state.time),
        "trigger": trigger.kind if trigger else "none",
        "trigger_reason": trigger.reason if trigger else "a price is not usable",
        "loss_budget_used_percent": state.loss_used / 1e16,
        "loss_budget_percent": state.rules.loss_capacity_bps / 100,
        "paused": state.time < state.paused_until,
        "quarantine_until": None if aside == policy.NO_ASSET else state.aside_until,
        "admin": terms.admin,
        "delay_seconds": terms.delay_seconds,
        "head": snapshot.head,
    }


def vault_tables(report: dict[str, Any]) -> Group:
    """One vault for people."""
    table = Table(title=f"{report['vault']}  NAV {report['nav_usd']:,.2f} USD  block {report['block']}")
    table.add_column("asset")
    for name in ("weight %", "target %", "band ±%", "value USD", "price USD"):
        table.add_column(name, justify="right")
    for asset in report["assets"]:
        weight = asset["weight_percent"]
        price = (
            "in quarantine"
            if asset["quarantined"]
            else f"{asset['price_usd']:,.4f}"
            if asset["price_status"] == 0
            else f"not usable: {price_status(asset['price_status'])}"
        )
        table.add_row(
            asset["symbol"],
            "-" if weight is None else f"{weight:.2f}",
            f"{asset['target_percent']:.2f}",
            f"{asset['band_percent']:.2f}",
            f"{asset['value_usd']:,.2f}",
            price,
        )
    session = report["session"]
    state = "open" if session["open"] else "cooldown" if not report["cooldown_over"] else "closed"
    lines = (
        f"session {session['id']} {state} · mode {report['mode']}"
        f" · trigger {report['trigger']}: {report['trigger_reason']}",
        f"loss budget {report['loss_budget_used_percent']:.4f} of {report['loss_budget_percent']:.2f} %"
        f" · {'PAUSED' if report['paused'] else 'not paused'} · head {report['head']}",
        f"admin {report['admin']} · changes wait {report['delay_seconds'] / 86_400:g} days",
    )
    return Group(table, *(Text(line) for line in lines))


def overview_report(
    vaults: Sequence[str], snapshots: Sequence[Snapshot | None], names: Mapping[str, str]
) -> dict[str, Any]:
    """Many vaults, a row each. A vault that cannot be read has only its address.

    `names`: symbols by token. `furthest` is the asset that is furthest out, measured in its band.
    """
    known = [snapshot for snapshot in snapshots if snapshot is not None]
    return {
        "chain_id": known[0].chain_id if known else None,
        "block": known[0].block.number if known else None,
        "block_hash": known[0].block.hash if known else None,
        "time": known[0].block.time if known else None,
        "nav_usd": sum(policy.nav(snapshot.state) for snapshot in known) / 1e18,
        "vaults": [_row(*pair, names) for pair in zip(vaults, snapshots, strict=True)],
    }


def _row(vault: str, snapshot: Snapshot | None, names: Mapping[str, str]) -> dict[str, Any]:
    if snapshot is None:
        return {"vault": vault, "readable": False}
    state = snapshot.state
    usable = policy.usable(state) and policy.nav(state) > 0
    row = {
        "vault": vault,
        "readable": True,
        "nav_usd": policy.nav(state) / 1e18,
        "assets": len(state.assets),
        "session_open": policy.session_is_open(state, state.time),
        "cooldown_over": policy.cooldown_over(state, state.time),
        "paused": state.time < state.paused_until,
        "trigger": policy.trigger(state, state.time).kind if usable else "a price is not usable",
        "furthest": None,
    }
    if usable:
        drifts = [abs(w - t) for w, t in zip(policy.weights(state), policy.targets(state), strict=True)]
        bands = policy.bands(state)
        worst = max(range(len(drifts)), key=lambda i: drifts[i] / bands[i] if bands[i] else 0)
        token = state.assets[worst].token
        row["furthest"] = {
            "symbol": names.get(token, token),
            "token": token,
            "drift_percent": drifts[worst] / 1e16,
            "band_percent": bands[worst] / 1e16,
        }
    return row


def overview_tables(report: dict[str, Any]) -> Group:
    """Many vaults for people."""
    table = Table(
        title=f"{len(report['vaults'])} vaults  NAV {report['nav_usd']:,.2f} USD  block {report['block']}"
    )
    table.add_column("vault", overflow="fold", min_width=21)
    table.add_column("NAV USD", justify="right", no_wrap=True)
    table.add_column("furthest out", no_wrap=True)
    table.add_column("now")
    for row in report["vaults"]:
        if not row["readable"]:
            table.add_row(row["vault"], "-", "-", Text("cannot be read", "red"))
            continue
        far = row["furthest"]
        out = (
            "-"
            if far is None
            else f"{far['symbol']} {far['drift_percent']:.2f} of ±{far['band_percent']:.2f} %"
        )
        now = (
            "session open"
            if row["session_open"]
            else "cooldown"
            if not row["cooldown_over"]
            else row["trigger"]
        )
        table.add_row(
            row["vault"], f"{row['nav_usd']:,.2f}", Text(out), Text("PAUSED" if row["paused"] else now)
        )
    return Group(table)
