"""What a strategy is refused for. The command line prints the message and ends."""

from offchain.errors import EvenkeelError

__all__ = ["LookAheadError", "StrategyError"]


class StrategyError(EvenkeelError):
    """A strategy, its settings or its constraints cannot be used: fix what the message names."""


class LookAheadError(StrategyError):
    """A strategy knows something later than `now`: its results would be worthless, so there are none."""
