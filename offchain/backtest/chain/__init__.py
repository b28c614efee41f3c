"""Backtests on the vault's own rules, in exact integers or through its bytecode (docs/backtest.md)."""
