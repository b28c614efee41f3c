"""Backtests: what a policy would have done with a basket, and what it would have cost (docs/backtest.md)."""

from offchain.backtest.engine import STATISTICS, Job, run, simulate
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import CAUSES, Costs, Kind, Market, Policy, RebalanceTo, Schedule
from offchain.backtest.result import Result
from offchain.backtest.sweep import sweep
from offchain.backtest.triggers import best_bands, exchange_rows, schedule, volatility_bands

__all__ = [
    "CAUSES",
    "STATISTICS",
    "BacktestError",
    "Costs",
    "Job",
    "Kind",
    "Market",
    "Policy",
    "RebalanceTo",
    "Result",
    "Schedule",
    "best_bands",
    "exchange_rows",
    "run",
    "schedule",
    "simulate",
    "sweep",
    "volatility_bands",
]
