"""What a backtest returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offchain.backtest.model import CAUSES, Floats, Ints, Market, Policy, Schedule

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """A backtest, row by row; a row's numbers are as of its close, after its flows and its rebalance. R trades.

    value[i] = value[i−1] · weights[i−1]ᵀ (prices[i] / prices[i−1]) + cash[i−1]
               + dividends[i] − fees[i] + flows[i] − costs[i].sum()
    """

    market: Market
    policy: Policy
    value: Floats  # (T,) of all depositors
    index: Floats  # (T,) value of a share, time-weighted: 1 before the first purchase; flows leave it alone
    cash: Floats  # (T,) dividends that the next rebalance will spend; never below 0
    dividends: Floats  # (T,) received
    fees: Floats  # (T,) management fee, paid out in kind
    flows: Floats  # (T,) what deposits and redemptions changed the value by
    flow_costs: Floats  # (T,) what those by route paid for their own trading; not part of the value
    trade_rows: Ints  # (R,) rows that were traded, the first purchase included
    trade_kinds: NDArray[np.int8]  # (R,) `Kind`
    trade_costs: Floats  # (R, 4) by `CAUSES`
    trades: Floats  # (R, n) value bought (above 0) or sold (below 0)
    units: (
        Floats  # (1 + R, n) held at the start and after each trade; between trades flows and fees scale them
    )
    schedule: Schedule  # targets and bands
    statistics: dict[str, float]  # by `STATISTICS`

    @cached_property
    def weights(self) -> Floats:
        """(T, n) of the value; with the cash they sum to 1. Worked out when first asked for."""
        weights = np.empty(self.market.shape)
        _weigh(self.market.prices, self.units, self.trade_rows, self.value, self.cash, weights)
        return weights

    @cached_property
    def kinds(self) -> NDArray[np.int8]:
        """(T,) `Kind` of each row."""
        kinds = np.zeros(len(self.value), dtype=np.int8)
        kinds[self.trade_rows] = self.trade_kinds
        return kinds

    @cached_property
    def costs(self) -> Floats:
        """(T, 4) of rebalances, by `CAUSES`."""
        costs = np.zeros((len(self.value), len(CAUSES)))
        costs[self.trade_rows] = self.trade_costs
        return costs

    @property
    def targets(self) -> Floats:
        """(T, n) in effect."""
        return np.ascontiguousarray(self.schedule.table[0, self.schedule.setting])

    @property
    def bands(self) -> Floats:
        """(T, n) in effect."""
        return np.ascontiguousarray(self.schedule.table[1, self.schedule.setting])

    @property
    def final_value(self) -> float:
        """At the last row."""
        return float(self.value[-1])

    @property
    def rebalances(self) -> int:
        """How often was traded, the first purchase included."""
        return len(self.trade_rows)

    @property
    def cost_by_cause(self) -> dict[str, float]:
        """Sum over the rows."""
        return dict(zip(CAUSES, self.trade_costs.sum(axis=0).tolist(), strict=True))


def _weigh(
    prices: Floats, units: Floats, trade_rows: Ints, value: Floats, cash: Floats, weights: Floats
) -> None:
    k = 0
    for row in range(prices.shape[0]):
        while k < trade_rows.size and trade_rows[k] <= row:
            k += 1
        worth = 0.0
        for i in range(prices.shape[1]):
            weights[row, i] = units[k, i] * prices[row, i]
            worth += weights[row, i]
        part = (1 - cash[row] / value[row]) / worth if worth > 0 else 0.0
        for i in range(prices.shape[1]):
            weights[row, i] *= part


_weigh = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(_weigh)
