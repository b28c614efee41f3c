"""The calmer, the more: strategies.make("examples/strategies/inverse_volatility.py:InverseVolatility")."""

from offchain.strategies import Strategy


class InverseVolatility(Strategy):
    """Weights in proportion to 1 / volatility of the last `rows` returns."""

    def __init__(self, rows: int = 63) -> None:
        self.rows = rows

    def target_weights(self, history, now):
        """1 / volatility, scaled to sum 1."""
        calm = 1 / history.pct_change().iloc[-self.rows :].std()
        return calm / calm.sum()
