"""Backtests on the vault's own rules, in exact integers or through its bytecode (docs/backtest.md)."""

from offchain.backtest.chain.journal import Replayed, replay_journal, replay_record
from offchain.backtest.chain.replay import ENGINES, choose, replay, worth
from offchain.backtest.chain.result import ChainResult, Trade
from offchain.backtest.chain.scenario import PoolSettings, VaultSettings

__all__ = [
    "ENGINES",
    "ChainResult",
    "PoolSettings",
    "Replayed",
    "Trade",
    "VaultSettings",
    "choose",
    "replay",
    "replay_journal",
    "replay_record",
    "worth",
]
