"""What a backtest refuses. The command line prints the message and ends."""

from offchain.errors import EvenkeelError

__all__ = ["BacktestError"]


class BacktestError(EvenkeelError):
    """The data, the policy or the costs of a backtest cannot be used: fix the field, row and column it names."""
