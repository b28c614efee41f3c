"""`evenkeel status`: a vault's weights, targets, bands and session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from offchain import policy
from offchain.chain.oracle import price_status

__all__ = ["print_status", "status_report"]


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
        "trigger_reason": _reason(trigger.reason, state.rules.mode) if trigger else "a price is not usable",
        "loss_budget_used_percent": state.loss_used / 1e16,
        "loss_budget_percent": state.rules.loss_capacity_bps / 100,
        "paused": state.time < state.paused_until,
        "quarantine_until": None if aside == policy.NO_ASSET else state.aside_until,
        "admin": terms.admin,
        "delay_seconds": terms.delay_seconds,
        "head": snapshot.head,
    }


def _reason(reason: str, mode: int) -> str:
    """Why there is a trigger, or none, without the calendar where the mode does not use it."""
    return reason.partition("; ")[2] if mode == policy.Mode.THRESHOLD else reason


def print_status(report: dict[str, Any]) -> None:
    """The report as a table."""
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
    console = Console(soft_wrap=True)
    console.print(table)
    session = report["session"]
    state = "open" if session["open"] else "cooldown" if not report["cooldown_over"] else "closed"
    console.print(
        f"session {session['id']} {state} · mode {report['mode']}"
        f" · trigger {report['trigger']}: {report['trigger_reason']}"
    )
    console.print(
        f"loss budget {report['loss_budget_used_percent']:.4f} of {report['loss_budget_percent']:.2f} %"
        f" · {'PAUSED' if report['paused'] else 'not paused'} · head {report['head']}"
    )
    console.print(f"admin {report['admin']} · changes wait {report['delay_seconds'] / 86_400:g} days")
