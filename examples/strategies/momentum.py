"""Holds what has risen most: strategies.make("examples/strategies/momentum.py:Momentum", {"top": 3})."""

from offchain.strategies import Strategy


class Momentum(Strategy):
    """Equal weights in the `top` assets by return of the last year without its last month (Jegadeesh, Titman 1993)."""

    def __init__(self, top: int = 3, rows: int = 252, skip: int = 21) -> None:
        self.top, self.rows, self.skip = top, rows, skip

    def target_weights(self, history, now):
        """1 / top each."""
        past = history.iloc[-self.rows :]
        growth = past.iloc[-self.skip - 1] / past.iloc[0]
        best = growth.nlargest(min(self.top, len(growth))).index
        return dict.fromkeys(best, 1 / len(best))
