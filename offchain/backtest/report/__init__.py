"""The report of a backtest: one HTML file that needs no network, the same as JSON, and a short table."""
