"""What a replay returns: the names of `backtest.Result`, and the exact state of every row behind them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offchain import policy as vault_policy
from offchain.backtest.chain.scenario import MAX_BPS, Scenario
from offchain.backtest.engine import STATISTICS
from offchain.backtest.engine import _summary as summary
from offchain.backtest.model import CAUSES, Floats, Ints, Kind, Market, Policy
from offchain.chain.vault import Snapshot
from offchain.keeper.decide import Decision
from offchain.planner.pools import Pool
from offchain.policy import WAD, VaultState

__all__ = ["ChainResult", "Trade", "result_of"]

COST_NAMES = tuple(f"cost_{cause}" for cause in CAUSES)


@dataclass(frozen=True, slots=True)
class Trade:
    """One rebalance."""

    row: int
    decision: Decision
    before: Snapshot
    after: Snapshot


@dataclass(frozen=True, eq=False)
class ChainResult:
    """A replay, row by row; a row's numbers are as of its end. USD. R trades.

    value[i] = value[i−1] · growth of the basket − fees[i] + flows[i] − NAV lost in trades (costs "pool" and "impact").
    """

    market: Market
    policy: Policy
    engine: str  # "integer" or "evm"
    value: Floats  # (T,) of all depositors: NAV without the shares that the fee has made
    index: Floats  # (T,) NAV of a share over its first one
    weights: Floats  # (T, n)
    fees: Floats  # (T,) management fee: what its new shares took from depositors
    flows: Floats  # (T,) what deposits and redemptions changed the value by
    trade_rows: Ints  # (R,)
    trade_kinds: NDArray[np.int8]  # (R,) `Kind`
    trade_costs: (
        Floats  # (R, 4) by CAUSES: pool fees as "proportional", gas as "fixed", price impact as "pool"
    )
    trades: Floats  # (R, n) value bought (above 0) or sold (below 0) at the row's prices
    units: Floats  # (1 + R, n) whole tokens at the start and after each trade
    targets: Floats  # (T, n) in effect
    bands: Floats  # (T, n) in effect
    statistics: dict[str, float]  # by STATISTICS
    # exact
    snapshots: list[Snapshot]  # (T,) the vault: balances, supply, session, budgets, audit head ...
    pools: list[tuple[Pool, ...]]  # (T,)
    rebalanced: list[Trade]  # (R,) with the keeper's decisions

    @cached_property
    def cash(self) -> Floats:
        """(T,) 0: a vault has none."""
        return np.zeros(len(self.value))

    @cached_property
    def dividends(self) -> Floats:
        """(T,) 0: its tokens pay none."""
        return np.zeros(len(self.value))

    @cached_property
    def flow_costs(self) -> Floats:
        """(T,) 0: flows are in kind."""
        return np.zeros(len(self.value))

    @cached_property
    def kinds(self) -> NDArray[np.int8]:
        """(T,) `Kind` of each row."""
        kinds = np.zeros(len(self.value), dtype=np.int8)
        kinds[self.trade_rows] = self.trade_kinds
        return kinds

    @cached_property
    def costs(self) -> Floats:
        """(T, 4) of rebalances, by CAUSES."""
        costs = np.zeros((len(self.value), len(CAUSES)))
        costs[self.trade_rows] = self.trade_costs
        return costs

    @property
    def final_value(self) -> float:
        """At the last row."""
        return float(self.value[-1])

    @property
    def rebalances(self) -> int:
        """How often was traded."""
        return len(self.trade_rows)

    @property
    def cost_by_cause(self) -> dict[str, float]:
        """Sum over the rows, by what the causes are here."""
        fee, gas, _, impact = self.trade_costs.sum(axis=0).tolist()
        return {"pool fee": fee, "price impact": impact, "gas": gas}


def result_of(
    scenario: Scenario,
    engine: str,
    snapshots: list[Snapshot],
    pools: list[tuple[Pool, ...]],
    flows: list[float],
    trades: list[Trade],
) -> ChainResult:
    """Floats from the exact states."""
    states = [snapshot.state for snapshot in snapshots]
    values = [vault_policy.values(state) for state in states]
    navs = [sum(row) for row in values]
    per_share = np.array([nav / state.supply for nav, state in zip(navs, states, strict=True)])
    pending = [state.pending_fee_shares for state in states]
    fee_shares = np.diff(np.array([0, *pending], dtype=np.float64)) / WAD
    held = [state.supply - fee for state, fee in zip(states, pending, strict=True)]
    index = per_share / per_share[0]
    turnover = np.array([[_moved(trade, i) for i in range(scenario.n)] for trade in trades])
    turnover = turnover.reshape(len(trades), scenario.n)
    bills = np.array([_bill(trade) for trade in trades]).reshape(len(trades), len(CAUSES))
    theirs = np.array([h / state.supply for h, state in zip(held, states, strict=True)])
    fees = per_share * fee_shares * np.concatenate(([1.0], theirs[:-1]))  # older fee shares bear the rest
    value = per_share * np.array(held, dtype=np.float64) / WAD
    navs_then = np.array([vault_policy.nav(trade.before.state) / WAD for trade in trades])
    costs = dict(zip(COST_NAMES, bills.sum(axis=0).tolist(), strict=True))
    sums = costs | {
        "final_value": float(value[-1]),
        "rebalances": len(trades),
        "turnover": float((np.abs(turnover).sum(axis=1) / navs_then).sum()),
        "cost": float(bills.sum()),
        "fees": float(fees.sum()),
    }
    return ChainResult(
        market=scenario.market,
        policy=scenario.policy,
        engine=engine,
        value=value,
        index=index,
        weights=np.array([[v / nav for v in row] for row, nav in zip(values, navs, strict=True)]),
        fees=fees,
        flows=np.array(flows),
        trade_rows=np.array([trade.row for trade in trades], dtype=np.int64),
        trade_kinds=np.array([_kind(trade) for trade in trades], dtype=np.int8),
        trade_costs=bills,
        trades=turnover,
        units=np.array([_units(s) for s in (scenario.state, *(trade.after.state for trade in trades))]),
        targets=np.array([[a.target_bps / MAX_BPS for a in state.assets] for state in states]),
        bands=np.array([_bands(state) for state in states]),
        statistics=_statistics(scenario.market, index, sums),
        snapshots=snapshots,
        pools=pools,
        rebalanced=trades,
    )


def _units(state: VaultState) -> list[float]:
    return [q / asset.scale for q, asset in zip(state.balances, state.assets, strict=True)]


def _bands(state: VaultState) -> list[float]:
    return [b / WAD for b in vault_policy.bands(state)]


def _moved(trade: Trade, i: int) -> float:
    """Value of asset i bought, at the row's prices."""
    before, after = trade.before.state, trade.after.state
    units = after.balances[i] - before.balances[i]
    return units * before.prices[i] / before.assets[i].scale / WAD


def _bill(trade: Trade) -> list[float]:
    """By CAUSES; fee and impact together are the NAV that the trade lost."""
    costs = trade.decision.plan.costs if trade.decision.plan else None
    lost = vault_policy.nav(trade.before.state) - vault_policy.nav(trade.after.state)
    if costs is None:  # the planner's exact fallback does not tell them apart
        return [0.0, 0.0, 0.0, lost / WAD]
    return [costs.fee / WAD, costs.gas / WAD, 0.0, (lost - costs.fee) / WAD]


def _kind(trade: Trade) -> int:
    kinds = {
        "calendar": Kind.CALENDAR,
        "threshold": Kind.THRESHOLD,
        "calendar and threshold": Kind.CALENDAR_AND_THRESHOLD,
    }
    by_calendar = trade.before.state.session.by_calendar  # of the session that is open
    return kinds.get(trade.decision.trigger, Kind.CALENDAR if by_calendar else Kind.THRESHOLD)


def _statistics(market: Market, index: Floats, sums: dict[str, float]) -> dict[str, float]:
    """The fast engine's, of the same names; `sums` has those that are not the index's."""
    stats = np.zeros(len(STATISTICS))
    for name, value in sums.items():
        stats[STATISTICS.index(name)] = value
    summary(index, market.years, stats)
    return dict(zip(STATISTICS, stats.tolist(), strict=True))
