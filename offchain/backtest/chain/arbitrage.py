"""The trader outside: brings each pool to the row's market price with one swap. Deterministic integers, pure.

The swap ends where the pool's own price (its fee apart) is the market's: arbitrage stops a fee short of that, and the
other traders of a day bring it the rest of the way. With reserves x, y, fee f and market price P (units of y a unit of
x), selling a of x leaves x + a and x y / (x + a (1 - f)), so

    P (x + a) (x + a (1 - f)) = x y
    a = (sqrt(f² x² + 4 (1 - f) x y / P) - (2 - f) x) / (2 (1 - f))

On V3 the swap takes the price as its limit and ends exactly there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

from offchain.errors import PoolError
from offchain.planner.pools import (
    MAX_SQRT_RATIO,
    MIN_SQRT_RATIO,
    Pool,
    V2Pool,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)

__all__ = ["Move", "moved", "sqrt_price", "to_price"]

V3_MOST = 2**118  # token units that a swap to a limit may take: it takes far less


@dataclass(frozen=True, slots=True)
class Move:
    """A leg of `Arbitrageur.trade`."""

    version: int  # 2 or 3
    pool: str
    token_in: str
    amount_in: int  # V2: exact; V3: at most
    zero_for_one: bool
    limit: int = 0  # V3: sqrt price times 2**96


def to_price(pool: Pool, numerator: int, denominator: int) -> Move | None:
    """The swap that brings the pool to numerator / denominator units of token1 a unit of token0; None: it is there."""
    if isinstance(pool, V2Pool):
        return _move_v2(pool, numerator, denominator)
    limit = sqrt_price(numerator, denominator)
    if limit == pool.sqrt_price_x96:
        return None
    down = limit < pool.sqrt_price_x96
    return Move(3, pool.address, pool.token0 if down else pool.token1, V3_MOST, down, limit)


def sqrt_price(numerator: int, denominator: int) -> int:
    """sqrt(numerator / denominator) * 2**96, rounded down."""
    price = isqrt((numerator << 192) // denominator)
    if not MIN_SQRT_RATIO < price < MAX_SQRT_RATIO - 1:
        raise PoolError(f"price {numerator}/{denominator} is outside the range of Uniswap V3")
    return price


def moved(pool: Pool, move: Move) -> Pool:
    """The pool after the move. On V3 one that crosses no initialised tick: the liquidity is over the full range."""
    if isinstance(pool, V2Pool):
        return pool.swap(move.token_in, move.amount_in)[1]
    tick = tick_at_sqrt_ratio(move.limit)
    # a fall to the very price of a tick at the end of a word of the bitmap leaves the pool in the tick below
    at_end = tick % (256 * pool.tick_spacing) == 0 and sqrt_ratio_at_tick(tick) == move.limit
    return replace(pool, sqrt_price_x96=move.limit, tick=tick - (move.zero_for_one and at_end))


def _move_v2(pool: V2Pool, numerator: int, denominator: int) -> Move | None:
    for down, x, y, over, under in (
        (True, pool.reserve0, pool.reserve1, numerator, denominator),
        (False, pool.reserve1, pool.reserve0, denominator, numerator),
    ):
        amount = _amount(x, x * y * under // over)
        token_in = pool.token0 if down else pool.token1
        if amount > 0 and pool.amount_out(token_in, amount) > 0:
            return Move(2, pool.address, token_in, amount, down)
    return None


def _amount(x: int, xy_over_p: int) -> int:
    """What to sell, the docstring's a with f = 3/1000, rounded down; below 0: the other way round."""
    return (isqrt(9 * x * x + 4 * 997 * 1_000 * xy_over_p) - 1_997 * x) // (2 * 997)
