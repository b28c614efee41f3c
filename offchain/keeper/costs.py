"""The cost ledger: what a rebalance was predicted to cost and what it did cost, by cause. Pure.

The prediction is read from the record that the vault committed to (`decision`), so it can be made again at any time;
what was paid from the receipt: the vault's own entry (`Rebalanced`), the pools' Swap logs, the gas.

    lost = NAV before − NAV after      fee = Σ over swaps of amount in · pool's fee · price      impact = lost − fee

Predicted at the prices that the plan saw, realised at those of the entry; a token that the oracle does not price counts
at the price of the deepest pool that was read, as in the planner. Both in the same integers: they are equal to the wei
when nothing moved in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pydantic import TypeAdapter
from web3 import Web3
from web3.types import TxReceipt

from offchain import policy
from offchain.audit.chain import Rebalanced
from offchain.audit.verify import to_entry
from offchain.chain.errors import ChainError
from offchain.chain.events import PoolSwap, events_in, pool_swaps
from offchain.errors import PoolError
from offchain.planner import Call, Leg, PlannedLeg, Pool, Problem, SwapV2, SwapV3, Sweep, V2Pool, decode
from offchain.planner.pools import PIPS, Q96, same
from offchain.planner.problem import BPS, gas_of, tax_of
from offchain.policy import WAD

__all__ = ["Entry", "entry", "read_record"]

_PROBLEM = TypeAdapter(Problem)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. USD WAD unless it says otherwise; `predicted_…` is what the plan said of the same.

    Of a transaction that reverted, or was cancelled, only the gas is there: nothing was traded, so nothing else was
    predicted or lost.
    """

    block: int
    block_hash: str
    time: int  # seconds, UTC: of the vault's entry; of the plan where it reverted
    reverted: bool  # or cancelled
    nav: int  # before the trade
    predicted_fee: int
    predicted_impact: int  # price impact, and the pools' distance from the oracle's prices; below 0: a gain
    predicted_tax: int
    predicted_gas: int | None  # None: the plan knew no price of gas
    predicted_gas_used: int  # units
    predicted_drift: int  # WAD, sum over the assets, after the trade
    fee: int
    impact: int
    tax: int
    gas: int | None  # None: no price of the native token is known
    gas_used: int  # units
    gas_wei: int  # what the gas cost, in wei of the native token
    drift: int
    native_price: int | None  # USD WAD per whole native token, the plan's
    why: str  # what moved between plan and trade, a line each; "" when nothing did


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a record says."""

    vault: str
    block: int
    problem: Problem
    legs: tuple[Leg, ...]
    balances_after: tuple[int, ...]
    gas: int  # USD WAD; 0: not known
    native_price: int | None


def entry(web3: Web3, record: str, receipt: TxReceipt) -> Entry | None:
    """The line of the ledger for a mined transaction that was sent for the plan in `record`; None without a plan.

    `web3` decodes only. ChainError when the receipt is not that of a rebalance of the record's vault.
    """
    if "plan" not in json.loads(record):
        return None  # no rebalance: targets that moved, an auction's fill
    planned = _read(record)
    if "from" in receipt and receipt.get("to") == receipt["from"]:
        return _reverted(planned, receipt, "cancelled: the gas freed the nonce")
    if receipt["status"] != 1:
        return _reverted(planned, receipt, "reverted: the gas bought nothing")
    found = [to_entry(event) for event in events_in(web3, planned.vault, receipt["logs"])]
    made = [event for event in found if isinstance(event, Rebalanced)]
    if len(made) != 1:
        raise ChainError(f"{len(made)} Rebalanced events of {planned.vault} in one transaction: expected one")
    return _made(planned, made[0], pool_swaps(receipt["logs"]), receipt)


def read_record(record: str) -> Problem:
    """The planning problem that a decision's record holds."""
    return _read(record).problem


def _read(record: str) -> _Planned:
    data = json.loads(record)
    inputs, made = data["inputs"], data["plan"]
    native_price = int((data.get("gas") or {}).get("native_price", 0))
    return _Planned(
        vault=data["vault"],
        block=int(data["block"]["number"]),
        problem=_PROBLEM.validate_python(inputs | {"state": data["state"]}),
        legs=decode(bytes.fromhex(made["payload"].removeprefix("0x"))),
        balances_after=tuple(int(balance) for balance in made["balances_after"]),
        gas=int((made.get("costs") or {}).get("gas", 0)),
        native_price=native_price or None,
    )


def _made(planned: _Planned, event: Rebalanced, swaps: Sequence[PoolSwap], receipt: TxReceipt) -> Entry:
    problem, legs = planned.problem, planned.legs
    after = replace(problem, state=_state_at(problem, event))
    fee, lost, tax, drift = _outcome(after, event.balances_after, _taken(problem, swaps))
    expected = _outcome(problem, planned.balances_after, _sold(legs))
    price = problem.gas_price
    gas_units = planned.gas // price if planned.gas and price else _gas_units(legs)
    return Entry(
        time=event.time,
        reverted=False,
        nav=policy.nav(after.state),
        predicted_fee=expected[0],
        predicted_impact=expected[1] - expected[0],
        predicted_tax=expected[2],
        predicted_gas=gas_units * price or None,
        predicted_gas_used=gas_units,
        predicted_drift=expected[3],
        fee=fee,
        impact=lost - fee,
        tax=tax,
        drift=drift,
        why="\n".join(_why(planned, event, swaps)),
        **_gas(planned, receipt),
    )


def _reverted(planned: _Planned, receipt: TxReceipt, why: str) -> Entry:
    state = planned.problem.state
    drift = sum(policy.drifts(state))
    return Entry(
        time=planned.problem.now,
        reverted=True,
        nav=policy.nav(state),
        predicted_fee=0,
        predicted_impact=0,
        predicted_tax=0,
        predicted_gas=0,
        predicted_gas_used=0,
        predicted_drift=drift,
        fee=0,
        impact=0,
        tax=0,
        drift=drift,
        why=why,
        **_gas(planned, receipt),
    )


def _gas(planned: _Planned, receipt: TxReceipt) -> dict[str, Any]:
    """Where the transaction was mined and what it cost; a rollup's charge for its data (`l1Fee`) included."""
    data_fee: Any = receipt.get("l1Fee", 0)
    wei = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    wei += int(data_fee, 16) if isinstance(data_fee, str) else int(data_fee)
    price = planned.native_price
    return {
        "block": int(receipt["blockNumber"]),
        "block_hash": receipt["blockHash"].to_0x_hex(),
        "gas": None if price is None else wei * price // WAD,
        "gas_used": int(receipt["gasUsed"]),
        "gas_wei": wei,
        "native_price": price,
    }


# ---------------------------------------------------------------- what a trade cost


def _state_at(problem: Problem, event: Rebalanced) -> policy.VaultState:
    """The vault as the entry says it was before the trade; targets as the plan knew them."""
    return replace(problem.state, prices=event.prices, balances=event.balances_before, time=event.time)


def _outcome(
    problem: Problem, balances_after: Sequence[int], taken: Iterable[tuple[str, str, int]]
) -> tuple[int, int, int, int]:
    """Fee, NAV lost and tax (USD WAD) and the drift that is left (WAD), of a trade from the problem's state.

    `taken`: pool, token and token units that went in, of each swap. A pool that was not read has no known fee.
    """
    pools = {pool.address.lower(): pool for pool in problem.pools}
    units = _units(problem)
    fee = sum(
        (
            amount * _rate(pools[where.lower()]) * units.get(token.lower(), Fraction(0))
            for where, token, amount in taken
            if where.lower() in pools
        ),
        Fraction(0),
    )
    lost = policy.nav(problem.state) - policy.nav(problem.state, balances_after)
    drift = sum(policy.drifts(problem.state, balances_after))
    return int(fee), lost, tax_of(problem, balances_after), drift  # the fee rounded down


def _sold(legs: Iterable[Leg]) -> list[tuple[str, str, int]]:
    """What the plan's legs put in."""
    return [(leg.pool, leg.token_in, leg.amount_in) for leg in legs if isinstance(leg, SwapV2 | SwapV3)]


def _gas_units(legs: Sequence[Leg]) -> int:
    """Gas of a rebalance with these legs, as the planner counts it; calls of other contracts are not known."""
    swaps = [
        PlannedLeg(leg, "", leg.amount_in, 0, leg.min_out) for leg in legs if isinstance(leg, SwapV2 | SwapV3)
    ]
    return gas_of(swaps, sum(isinstance(leg, Sweep) for leg in legs))


def _taken(problem: Problem, swaps: Iterable[PoolSwap]) -> list[tuple[str, str, int]]:
    """What the pools logged as put in."""
    pools = {pool.address.lower(): pool for pool in problem.pools}
    found = []
    for swap in swaps:
        pool = pools.get(swap.pool.lower())
        if pool is not None:
            found.append((swap.pool, *_put_in(pool, swap)))
    return found


def _put_in(pool: Pool, swap: PoolSwap) -> tuple[str, int]:
    return (pool.token0, swap.amount0) if swap.amount0 > 0 else (pool.token1, swap.amount1)


def _rate(pool: Pool) -> Fraction:
    """The part of what comes in that the pool keeps."""
    return Fraction(pool.fee_bps, BPS) if isinstance(pool, V2Pool) else Fraction(pool.fee, PIPS)


def _units(problem: Problem) -> dict[str, Fraction]:
    """USD WAD of a unit of each token: the oracle's price, else by the deepest pool with a token that has one."""
    state = problem.state
    units = {a.token.lower(): Fraction(p, a.scale) for a, p in zip(state.assets, state.prices, strict=True)}
    if problem.hub_price > 0:
        units.setdefault(problem.hub.lower(), Fraction(problem.hub_price, 10**problem.hub_decimals))
    while True:  # one ring of tokens further out each time
        found: dict[str, tuple[Fraction, Fraction]] = {}  # value of the known side, price of a unit
        for pool in problem.pools:
            a, b = pool.token0.lower(), pool.token1.lower()
            held = dict(zip((a, b), _depth(pool), strict=True))
            for known, new in ((a, b), (b, a)):
                value = held[known] * units.get(known, 0)
                if new not in units and value > 0 and held[new] > 0:
                    found[new] = max(found.get(new, (Fraction(0), Fraction(0))), (value, value / held[new]))
        if not found:
            return units
        units |= {token: price for token, (_, price) in found.items()}


def _depth(pool: Pool) -> tuple[Fraction, Fraction]:
    """Token units at the present price; of a V3 pool the virtual ones."""
    if isinstance(pool, V2Pool):
        return Fraction(pool.reserve0), Fraction(pool.reserve1)
    if pool.sqrt_price_x96 == 0:
        return Fraction(0), Fraction(0)
    root = Fraction(pool.sqrt_price_x96, Q96)
    return pool.liquidity / root, pool.liquidity * root


# ---------------------------------------------------------------- why it differs


def _why(planned: _Planned, event: Rebalanced, swaps: Sequence[PoolSwap]) -> list[str]:
    """What had moved since the plan's block, in words: prices, the vault's balances, pools."""
    state, lines = planned.problem.state, []
    aside = policy.aside(replace(state, time=event.time))  # counts as 0 in the entry
    for what, seen, met in (
        ("oracle's price", state.prices, event.prices),
        ("vault's balance", state.balances, event.balances_before),
    ):
        for i, (asset, old, new) in enumerate(zip(state.assets, seen, met, strict=True)):
            if old != new and i != aside:
                lines.append(f"the {what} of {asset.token} had moved by {_bps(new - old, old)}")
    if any(isinstance(leg, Call) for leg in planned.legs):
        lines.append(
            "the plan called other contracts than pools: what fees they take was predicted as impact"
        )
    return lines + _moved_pools(planned, event, swaps)


def _moved_pools(planned: _Planned, event: Rebalanced, swaps: Sequence[PoolSwap]) -> list[str]:
    """Pools that paid another amount than the pool that was read would have paid for the same input."""
    problem = replace(planned.problem, state=_state_at(planned.problem, event))
    pools, units = {pool.address.lower(): pool for pool in problem.pools}, _units(problem)
    gained: dict[str, Fraction] = {}  # USD WAD by pool
    lines, unread = [], 0
    for swap in swaps:
        pool = pools.get(swap.pool.lower())
        if pool is None:
            unread += 1
            continue
        sold, amount = _put_in(pool, swap)
        bought = pool.token0 if same(sold, pool.token1) else pool.token1
        paid = -min(swap.amount0, swap.amount1)
        try:
            expected, pools[swap.pool.lower()] = pool.swap(sold, amount)
        except PoolError as error:
            lines.append(f"cannot be compared with the plan's block: {error}")
            continue
        if paid != expected:
            value = (paid - expected) * units.get(bought.lower(), Fraction(0))
            gained[swap.pool] = gained.get(swap.pool, Fraction(0)) + value
    for where, usd in gained.items():
        difference = f"{_usd(abs(usd))} {'more' if usd > 0 else 'less'}"
        lines.append(f"pool {where} had moved: it paid {difference} than at block {planned.block}")
    if unread:
        lines.append(f"{unread} swaps in pools that were not read: their fees count as impact")
    return lines


def _usd(value: Fraction) -> str:
    return f"{float(value) / WAD:,.2f} USD" if value >= WAD else f"{float(value) / WAD:.2g} USD"


def _bps(change: int, base: int) -> str:
    return f"{change * BPS / base:+,.2f} bps" if base else f"{change:+} from 0"
