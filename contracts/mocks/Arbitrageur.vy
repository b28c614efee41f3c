# pragma version 0.4.3
# @license MIT
"""
@title Arbitrageur
@notice Pulls Uniswap pools to the market price in one transaction, for tests and local chains only. It pays with tokens
        minted to it and keeps what it gets. Anyone can trade with it and take from it.
"""

from ethereum.ercs import IERC20


interface UniswapV2Pair:
    def getReserves() -> (uint112, uint112, uint32): view
    def swap(amount0_out: uint256, amount1_out: uint256, to: address, data: Bytes[1]): nonpayable


interface UniswapV3Pool:
    def swap(
        recipient: address, zero_for_one: bool, amount_specified: int256, sqrt_price_limit_x96: uint160, data: Bytes[32]
    ) -> (int256, int256): nonpayable


struct Leg:
    kind: uint256  # 2: Uniswap V2, 3: Uniswap V3
    pool: address
    token_in: address
    amount_in: uint256  # V2: exact; V3: at most, the swap stops at the price limit
    zero_for_one: bool  # token_in is the pool's token0
    sqrt_price_limit_x96: uint160  # V3 only


V2: constant(uint256) = 2
V3: constant(uint256) = 3
V2_FEE_DENOMINATOR: constant(uint256) = 1000
V2_FEE_FACTOR: constant(uint256) = 997  # 0.3 % fee


@external
def trade(legs: DynArray[Leg, 32]):
    """
    @notice Swap on each pool in order; a leg with amount 0 is left out.
    """
    for leg: Leg in legs:
        assert leg.kind == V2 or leg.kind == V3, "unknown kind"
        if leg.amount_in == 0:
            continue
        if leg.kind == V2:
            self._swap_v2(leg)
        else:
            extcall UniswapV3Pool(leg.pool).swap(
                self,
                leg.zero_for_one,
                convert(leg.amount_in, int256),
                leg.sqrt_price_limit_x96,
                abi_encode(leg.token_in),
            )


@external
def uniswapV3SwapCallback(amount0_delta: int256, amount1_delta: int256, data: Bytes[32]):
    self._pay(abi_decode(data, address), msg.sender, convert(max(amount0_delta, amount1_delta), uint256))


@internal
def _swap_v2(leg: Leg):
    reserve0: uint112 = 0
    reserve1: uint112 = 0
    timestamp: uint32 = 0
    reserve0, reserve1, timestamp = staticcall UniswapV2Pair(leg.pool).getReserves()
    reserve_in: uint256 = convert(reserve0 if leg.zero_for_one else reserve1, uint256)
    reserve_out: uint256 = convert(reserve1 if leg.zero_for_one else reserve0, uint256)
    amount_after_fee: uint256 = leg.amount_in * V2_FEE_FACTOR
    paid: uint256 = amount_after_fee * reserve_out // (reserve_in * V2_FEE_DENOMINATOR + amount_after_fee)
    self._pay(leg.token_in, leg.pool, leg.amount_in)
    extcall UniswapV2Pair(leg.pool).swap(0 if leg.zero_for_one else paid, paid if leg.zero_for_one else 0, self, b"")


@internal
def _pay(token: address, to: address, amount: uint256):
    assert extcall IERC20(token).transfer(to, amount, default_return_value=True), "transfer failed"
