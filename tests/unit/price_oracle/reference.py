"""What the second source should say, from the definition, in decimals of 80 digits."""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Context, Decimal

CONTEXT = Context(prec=120)
TICK = Decimal("1.0001")


def second_price(tick: int, quote_price: int, asset_decimals: int, quote_decimals: int) -> int:
    """USD WAD per whole asset, rounded down; the asset is token0, else give the tick's negative."""
    power = CONTEXT.power(TICK, tick)
    exponent = asset_decimals - quote_decimals
    exact = CONTEXT.multiply(Decimal(quote_price).scaleb(exponent, CONTEXT), power)
    return int(exact.to_integral_value(ROUND_FLOOR, CONTEXT))


def mean_tick(history: Sequence[tuple[int, int]], now: int, window: int) -> int:
    """The floor of the mean over the window; `history` holds (time, tick from then on), oldest first."""
    total = 0
    ends = [time for time, _ in history[1:]] + [now]
    for (start, tick), end in zip(history, ends, strict=True):
        total += tick * max(0, end - max(start, now - window))
    return total // window
