"""Uniswap V2 and V3 pools in exact integers: what a swap pays on chain, to the wei, and the pool after it.

A pool is a frozen snapshot; `swap` returns the output and the next snapshot, so legs can be chained. V3 follows
UniswapV3Pool.swap step by step, the bounds of the tick bitmap's words included, because each step rounds.
Amounts are token units, prices the pool's own sqrt(token1/token0) * 2**96.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import floor, log, sqrt

from offchain.errors import PoolError

Q96 = 2**96
MIN_TICK, MAX_TICK = -887_272, 887_272
MIN_SQRT_RATIO = 4_295_128_739
MAX_SQRT_RATIO = 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342
PIPS = 1_000_000  # V3 fees are in millionths
MAX_UINT112 = 2**112 - 1


@dataclass(frozen=True, slots=True)
class V2Pool:
    """A constant-product pair."""

    address: str
    token0: str
    token1: str
    fee_bps: int  # 30 on Uniswap
    reserve0: int
    reserve1: int

    @property
    def keep(self) -> float:
        """The share of what comes in that the fee leaves."""
        return 1 - self.fee_bps / 10_000

    def amount_out(self, token_in: str, amount_in: int) -> int:
        """Token units paid for `amount_in` of `token_in`, the fee taken."""
        reserve_in, reserve_out = self._reserves(token_in)
        if reserve_in == 0 or reserve_out == 0:
            raise PoolError(f"pool {self.address} has no liquidity")
        if reserve_in + amount_in > MAX_UINT112:
            raise PoolError(f"pool {self.address} cannot hold that much {token_in}")
        after_fee = amount_in * (10_000 - self.fee_bps)
        return after_fee * reserve_out // (reserve_in * 10_000 + after_fee)

    def swap(self, token_in: str, amount_in: int) -> tuple[int, V2Pool]:
        """The output and the pool after the swap."""
        paid = self.amount_out(token_in, amount_in)
        if same(token_in, self.token0):
            return paid, replace(self, reserve0=self.reserve0 + amount_in, reserve1=self.reserve1 - paid)
        return paid, replace(self, reserve0=self.reserve0 - paid, reserve1=self.reserve1 + amount_in)

    def capacity(self, token_in: str) -> int:
        """The most of `token_in` that the pair can take."""
        reserve_in, reserve_out = self._reserves(token_in)
        return max(MAX_UINT112 - reserve_in, 0) if reserve_in and reserve_out else 0

    def _reserves(self, token_in: str) -> tuple[int, int]:
        if zero_for_one(self, token_in):
            return self.reserve0, self.reserve1
        return self.reserve1, self.reserve0


@dataclass(frozen=True, slots=True)
class V3Pool:
    """A concentrated-liquidity pool with its initialised ticks.

    `ticks` lists (tick, liquidityNet) in ascending order. They are complete between `known_from` and `known_to`;
    a swap that would leave that range raises PoolError instead of guessing.
    """

    address: str
    token0: str
    token1: str
    fee: int  # pips: 3000 = 0.3 %
    tick_spacing: int
    sqrt_price_x96: int
    tick: int
    liquidity: int
    ticks: tuple[tuple[int, int], ...]
    known_from: int = MIN_TICK
    known_to: int = MAX_TICK

    @property
    def keep(self) -> float:
        """The share of what comes in that the fee leaves."""
        return 1 - self.fee / PIPS

    def amount_out(self, token_in: str, amount_in: int) -> int:
        """Token units paid for `amount_in` of `token_in`, the fee taken."""
        return self.swap(token_in, amount_in)[0]

    def swap(self, token_in: str, amount_in: int) -> tuple[int, V3Pool]:
        """The output and the pool after the swap; PoolError when the pool cannot take all of `amount_in`."""
        downward = zero_for_one(self, token_in)
        limit = MIN_SQRT_RATIO + 1 if downward else MAX_SQRT_RATIO - 1
        price, tick, liquidity = self.sqrt_price_x96, self.tick, self.liquidity
        remaining, paid = amount_in, 0
        if not MIN_SQRT_RATIO <= price < MAX_SQRT_RATIO:
            raise PoolError(f"pool {self.address} has no price")
        while remaining > 0:
            if price == limit:
                raise PoolError(f"pool {self.address} has too little liquidity for {amount_in} of {token_in}")
            next_tick, net = self._next_tick(tick, downward)
            next_price = sqrt_ratio_at_tick(next_tick)
            bound = max(next_price, limit) if downward else min(next_price, limit)
            start = price
            price, taken, out, fee = swap_step(start, bound, liquidity, remaining, self.fee)
            remaining -= taken + fee
            paid += out
            if price == next_price:
                liquidity += -net if downward else net
                tick = next_tick - 1 if downward else next_tick
            elif price != start:
                tick = tick_at_sqrt_ratio(price)
        return paid, replace(self, sqrt_price_x96=price, tick=tick, liquidity=liquidity)

    def capacity(self, token_in: str) -> int:
        """The most of `token_in` that the pool can take inside the known ticks, as far as it has liquidity."""
        downward = zero_for_one(self, token_in)
        limit = MIN_SQRT_RATIO + 1 if downward else MAX_SQRT_RATIO - 1
        price, tick, liquidity, total = self.sqrt_price_x96, self.tick, self.liquidity, 0
        if not MIN_SQRT_RATIO <= price < MAX_SQRT_RATIO:
            return 0
        while price != limit:
            beyond = self.ticks and (tick < self.ticks[0][0] if downward else tick >= self.ticks[-1][0])
            if liquidity == 0 and (beyond or not self.ticks):
                break
            try:
                next_tick, net = self._next_tick(tick, downward)
            except PoolError:
                break
            next_price = sqrt_ratio_at_tick(next_tick)
            bound = max(next_price, limit) if downward else min(next_price, limit)
            low, high = min(price, bound), max(price, bound)
            taken = (amount0 if downward else amount1)(low, high, liquidity, up=True)
            total += taken + _ceil_div(taken * self.fee, PIPS - self.fee)
            price, tick = bound, next_tick - 1 if downward else next_tick
            liquidity += -net if downward else net
        return total

    def ranges(self, token_in: str) -> Iterator[tuple[int, int, int]]:
        """(liquidity, sqrt price from, to) of each range that selling `token_in` crosses, those without left out."""
        downward = zero_for_one(self, token_in)
        price, liquidity = self.sqrt_price_x96, self.liquidity
        if not MIN_SQRT_RATIO <= price < MAX_SQRT_RATIO:
            raise PoolError(f"pool {self.address} has no price")
        if not sqrt_ratio_at_tick(self.tick) <= price <= sqrt_ratio_at_tick(self.tick + 1):
            raise PoolError(f"pool {self.address}: its price is not in tick {self.tick}")
        for tick, net in self._edges(downward):
            target = min(max(sqrt_ratio_at_tick(tick), MIN_SQRT_RATIO + 1), MAX_SQRT_RATIO - 1)
            if liquidity < 0 or (target > price if downward else target < price):
                raise PoolError(f"pool {self.address}: price, tick and liquidity do not fit its ticks")
            if liquidity and target != price:
                yield liquidity, price, target
            price = target
            liquidity += -net if downward else net

    def _edges(self, downward: bool) -> Iterator[tuple[int, int]]:
        """The ticks ahead with their liquidityNet, then the last place that a swap can reach with 0."""
        word = 256 * self.tick_spacing
        at = bisect_right(self.ticks, self.tick, key=_tick_of)
        if downward:
            ahead = [entry for entry in reversed(self.ticks[:at]) if entry[0] >= self.known_from]
            end = MIN_TICK if self.known_from <= MIN_TICK else -(-self.known_from // word) * word
            last = end <= (ahead[-1][0] if ahead else self.tick)
        else:
            ahead = [entry for entry in self.ticks[at:] if entry[0] <= self.known_to]
            top = (self.known_to // self.tick_spacing + 1) // 256 * word - self.tick_spacing
            end = MAX_TICK if self.known_to >= MAX_TICK else top
            last = end > (ahead[-1][0] if ahead else self.tick)
        yield from ahead
        if last:
            yield end, 0

    def _next_tick(self, tick: int, downward: bool) -> tuple[int, int]:
        """The next initialised tick in this word of the bitmap with its liquidityNet, or the word's end and 0."""
        compressed = tick // self.tick_spacing
        if downward:
            end = (compressed >> 8 << 8) * self.tick_spacing
            at = bisect_right(self.ticks, tick, key=_tick_of) - 1
            found = at >= 0 and self.ticks[at][0] >= end
        else:
            end = (((compressed + 1) >> 8 << 8) + 255) * self.tick_spacing
            at = bisect_right(self.ticks, tick, key=_tick_of)
            found = at < len(self.ticks) and self.ticks[at][0] <= end
        next_tick, net = self.ticks[at] if found else (end, 0)
        if not self.known_from <= next_tick <= self.known_to and (MIN_TICK < next_tick < MAX_TICK):
            raise PoolError(
                f"pool {self.address}: the swap leaves the ticks that were read; read a wider range"
            )
        return min(max(next_tick, MIN_TICK), MAX_TICK), net


Pool = V2Pool | V3Pool


def same(a: str, b: str) -> bool:
    """Two addresses are the same, whatever their capitals."""
    return a == b or a.lower() == b.lower()


def zero_for_one(pool: Pool, token_in: str) -> bool:
    """The swap sells token0."""
    if same(token_in, pool.token0):
        return True
    if same(token_in, pool.token1):
        return False
    raise PoolError(f"pool {pool.address} does not trade {token_in}")


def trades(pool: Pool, a: str, b: str) -> bool:
    """The pool exchanges these two tokens."""
    return {pool.token0.lower(), pool.token1.lower()} == {a.lower(), b.lower()}


def stretches(pool: Pool, token_in: str) -> Iterator[tuple[float, float, float]]:
    """(depth, start, end) of each stretch of constant liquidity that selling `token_in` crosses, for optimisers.

    start and end are square roots of the price, token units out a unit in, fee apart. From start down to y the stretch
    takes depth · (1/y − 1/start) / keep and pays depth · (start − y). A V2 pool is one, a V3 pool one a tick range.
    """
    downward = zero_for_one(pool, token_in)
    if isinstance(pool, V2Pool):
        x, y = (pool.reserve0, pool.reserve1) if downward else (pool.reserve1, pool.reserve0)
        if y and 0 < x < MAX_UINT112:
            start = sqrt(y / x)
            yield sqrt(x * y), start, start * (x / (x + pool.keep * (MAX_UINT112 - x)))
        return
    for liquidity, begin, finish in pool.ranges(token_in):
        start, end = (begin / Q96, finish / Q96) if downward else (Q96 / begin, Q96 / finish)
        if start > end:
            yield float(liquidity), start, end


# ---------------------------------------------------------------- Uniswap V3 maths


def swap_step(price: int, target: int, liquidity: int, remaining: int, fee: int) -> tuple[int, int, int, int]:
    """SwapMath.computeSwapStep for an exact input: (next price, amount in, amount out, fee)."""
    downward = price >= target
    after_fee = remaining * (PIPS - fee) // PIPS
    to_target = (
        amount0(target, price, liquidity, up=True) if downward else amount1(price, target, liquidity, up=True)
    )
    reached = after_fee >= to_target
    next_price = target if reached else next_sqrt_price(price, liquidity, after_fee, downward)
    reached = next_price == target
    if downward:
        taken = to_target if reached else amount0(next_price, price, liquidity, up=True)
        paid = amount1(next_price, price, liquidity, up=False)
    else:
        taken = to_target if reached else amount1(price, next_price, liquidity, up=True)
        paid = amount0(price, next_price, liquidity, up=False)
    return (
        next_price,
        taken,
        paid,
        _ceil_div(taken * fee, PIPS - fee) if reached else remaining - taken,
    )


def amount0(low: int, high: int, liquidity: int, *, up: bool) -> int:
    """SqrtPriceMath.getAmount0Delta: token0 between two prices, low <= high."""
    numerator = (liquidity << 96) * (high - low)
    return _ceil_div(_ceil_div(numerator, high), low) if up else numerator // high // low


def amount1(low: int, high: int, liquidity: int, *, up: bool) -> int:
    """SqrtPriceMath.getAmount1Delta: token1 between two prices, low <= high."""
    numerator = liquidity * (high - low)
    return _ceil_div(numerator, Q96) if up else numerator // Q96


def next_sqrt_price(price: int, liquidity: int, amount: int, downward: bool) -> int:
    """SqrtPriceMath.getNextSqrtPriceFromInput, with its branch for products above 256 bits."""
    if not downward:
        return price + amount * Q96 // liquidity
    if amount == 0:
        return price
    numerator = liquidity << 96
    product = amount * price
    if product < 2**256 and numerator + product < 2**256:
        return _ceil_div(numerator * price, numerator + product)
    return _ceil_div(numerator, numerator // price + amount)


# sqrt(1.0001 ** -(2 ** bit)) * 2 ** 128, from TickMath
_TICK_FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)


@lru_cache(maxsize=2**16)
def sqrt_ratio_at_tick(tick: int) -> int:
    """TickMath.getSqrtRatioAtTick."""
    if not MIN_TICK <= tick <= MAX_TICK:
        raise PoolError(f"tick {tick} is outside {MIN_TICK}..{MAX_TICK}")
    ratio = 1 << 128
    for bit, factor in enumerate(_TICK_FACTORS):
        if abs(tick) >> bit & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = (2**256 - 1) // ratio
    return _ceil_div(ratio, 2**32)


def tick_at_sqrt_ratio(price: int) -> int:
    """TickMath.getTickAtSqrtRatio: the greatest tick whose price is not above `price`."""
    if not MIN_SQRT_RATIO <= price < MAX_SQRT_RATIO:
        raise PoolError(f"sqrt price {price} is outside the range of Uniswap V3")
    near = floor(2 * log(price / Q96) / log(1.0001))  # right but for rounding
    low, high = max(near - 1, MIN_TICK), min(near + 2, MAX_TICK)
    if not sqrt_ratio_at_tick(low) <= price < sqrt_ratio_at_tick(high):
        low, high = MIN_TICK, MAX_TICK
    return low - 1 + bisect_left(range(low, high + 1), price + 1, key=sqrt_ratio_at_tick)


def _tick_of(entry: tuple[int, int]) -> int:
    return entry[0]


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
