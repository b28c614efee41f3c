"""`evenkeel plan --json`: everything that the tables show, and what they round.

Every integer is a decimal string in the unit that its name ends with: `_units` of a token, `_usd_wad` and `_wad` with
18 decimals, `_millionths`, `_seconds`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from offchain import policy
from offchain.keeper.preview import Preview, Quote, Theory, pool_fee
from offchain.keeper.rehearsal import Simulation
from offchain.planner import PlannedLeg, V2Pool
from offchain.planner.pools import PIPS
from offchain.policy import WAD
from offchain.show.names import Names

__all__ = ["plan_json"]


def plan_json(found: Preview, names: Names, simulation: Simulation | None) -> dict[str, Any]:
    """Everything that the tables show and what they round, as JSON values."""
    plan, problem = found.plan, found.problem
    report = {
        "vault": found.snapshot.vault,
        "chain_id": found.snapshot.chain_id,
        "block": found.snapshot.block.number,
        "block_hash": found.snapshot.block.hash,
        "time_seconds": problem.now,
        "nav_usd_wad": found.nav,
        "possible_now": found.possible,
        "waits": [{"reason": names.said(wait.reason), "until_seconds": wait.until} for wait in found.waits],
        "session": plan.session,
        "session_closes": bool(plan.verdict and plan.verdict.closed),
        "trades": plan.trades,
        "reason": names.said(plan.reason),
        "method": plan.method,
        "sells_units": plan.sells,
        "payload": "0x" + plan.payload.hex(),
        "legs": [_leg_json(found, names, planned) for planned in plan.legs],
        "assets": [_asset_json(found, names, i) for i in range(len(problem.state.assets))],
        "drift_before_wad": sum(found.drifts(problem.state.balances)),
        "drift_after_wad": sum(found.drifts(plan.balances_after)),
        "costs_usd_wad": plan.costs and asdict(plan.costs) | {"total": found.total_cost},
        "loss_budget": _budget(found),
        "certificate_usd_wad": plan.certificate and asdict(plan.certificate),
        "gas": {
            "price_usd_wad": found.gas.usd,
            "price_wei": found.gas.wei,
            "native_price_usd_wad": found.gas.native_price,
            "native_price_source": found.gas.source or None,
            "estimate_gas_units": found.gas_units(plan),
        },
        "notes": [names.said(note) for note in found.notes],
        "objective_usd_wad": found.measure(plan) if plan.trades else None,
        "keeper_objective_usd_wad": found.measure(found.keeper_plan) if found.keeper_plan else None,
        "choice": names.said(found.choice),
        "quotes": [_quote_json(names, quote) for quote in found.quotes],
        "simulation": simulation
        and {
            "caller": simulation.caller,
            "accepted": not simulation.refusal,
            "refusal": simulation.refusal,
            "gas_units": simulation.gas,
        },
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def _leg_json(found: Preview, names: Names, planned: PlannedLeg) -> dict[str, Any]:
    leg, pool = planned.leg, found.pool(planned)
    return {
        "pool": leg.pool,
        "pool_kind": "uniswap_v2" if isinstance(pool, V2Pool) else "uniswap_v3",
        "fee_millionths": round(pool_fee(pool) * PIPS),
        "token_in": leg.token_in,
        "symbol_in": names.of_token(leg.token_in),
        "amount_in_units": planned.amount_in,
        "token_out": planned.token_out,
        "symbol_out": names.of_token(planned.token_out),
        "expected_out_units": planned.expected_out,
        "min_out_units": planned.min_out,
        "sold_on_in_legs": found.sold_on(planned),
    }


def _quote_json(names: Names, quote: Quote) -> dict[str, Any]:
    return {
        "venue": quote.venue,
        "token_in": quote.token_in,
        "symbol_in": names.of_token(quote.token_in),
        "amount_in_units": quote.amount_in,
        "token_out": quote.token_out,
        "symbol_out": names.of_token(quote.token_out),
        "offered_units": quote.amount_out,
        "min_out_units": quote.min_out,
        "own_route_units": quote.own_out,
        "used": quote.used,
        "reason": quote.reason,
    }


def _asset_json(found: Preview, names: Names, i: int) -> dict[str, Any]:
    state, plan = found.problem.state, found.plan
    asset = state.assets[i]
    before, after = (found.weights(held)[i] for held in (state.balances, plan.balances_after))
    return {
        "token": asset.token,
        "symbol": names.of_token(asset.token),
        "decimals": asset.decimals,
        "price_usd_wad": state.prices[i],
        "balance_before_units": state.balances[i],
        "balance_after_units": plan.balances_after[i],
        "weight_before_wad": before,
        "weight_after_wad": after,
        "target_wad": policy.targets(state)[i],
        "band_wad": policy.bands(state)[i],
        "quarantined": i == policy.aside(state),
        "explanation": names.said(plan.explanations[i]) if plan.explanations else "",
        "theory": _theory_json(found, found.theories[i]),
    }


def _theory_json(found: Preview, theory: Theory | None) -> dict[str, Any] | None:
    if theory is None:
        return None
    wad = {
        "risk_aversion_wad": found.risk_aversion,
        "fee_wad": theory.fee,
        "half_width_wad": theory.band.half_width,
        "stop_wad": theory.band.stop,
        "closes_within_wad": theory.closes_within,
        "edge_cost_per_year_wad": theory.edge_cost,
        "target_cost_per_year_wad": theory.target_cost,
    }
    rounded = {name: None if value is None else round(value * WAD) for name, value in wad.items()}
    return rounded | {"advice": theory.advice.reason}


def _budget(found: Preview) -> dict[str, int]:
    state, verdict = found.problem.state, found.plan.verdict
    return {
        "capacity_wad": state.rules.loss_capacity_bps * policy.BPS_IN_WAD,
        "used_before_wad": policy.loss_budget_used(state, found.problem.now),
        "charge_wad": verdict.charge if verdict else 0,
    }


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(int(value)) if isinstance(value, int) and not isinstance(value, bool) else value
