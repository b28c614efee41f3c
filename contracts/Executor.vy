# pragma version 0.4.3
# @license MIT
"""
@title Executor
@notice Runs a list of swaps and calls with the tokens that were sent to it, and pays the proceeds to its caller.
        It trusts nobody and nobody should trust it: anyone may call it with any payload, so whatever it holds between
        transactions belongs to whoever asks first. Never approve it; send tokens and call it in one transaction.
        Anyone can make it approve tokens to anybody, so code that a payload calls can take what the executor
        holds at that moment: the payload's author answers for the pools and targets named in it, and the caller must
        measure what came back. The V2 output is taken from the live reserves, which others can move: `min_out` is
        what protects a leg.
@custom:kill Nothing to stop: it has no owner and no state of value; callers name another executor.
"""

from ethereum.ercs import IERC20
from interfaces import IExecutor

implements: IExecutor


interface UniswapV2Pair:
    def getReserves() -> (uint112, uint112, uint32): view
    def swap(amount0_out: uint256, amount1_out: uint256, to: address, data: Bytes[1]): nonpayable


interface UniswapV3Pool:
    def swap(
        recipient: address, zero_for_one: bool, amount_specified: int256, sqrt_price_limit_x96: uint160, data: Bytes[32]
    ) -> (int256, int256): nonpayable


struct Swap:
    flags: uint256
    pool: address
    token_in: address
    amount_in: uint256
    min_out: uint256  # for amount_in; scaled to the amount used


MAX_PAYLOAD: constant(uint256) = 8192  # bytes
MAX_TOKENS: constant(uint256) = 17  # a vault's assets and one more
BPS: constant(uint256) = 10**4  # 100 %

# Legs and their sizes in bytes, see docs/spec.md
CALL: constant(uint256) = 0
SWAP_V2: constant(uint256) = 1
SWAP_V3: constant(uint256) = 2
SWEEP: constant(uint256) = 3
CALL_HEADER_SIZE: constant(uint256) = 23
SWAP_V3_SIZE: constant(uint256) = 74
SWAP_V2_SIZE: constant(uint256) = 76
SWEEP_SIZE: constant(uint256) = 21
MAX_LEGS: constant(uint256) = MAX_PAYLOAD // SWEEP_SIZE

# Flags of a swap
TOKEN0_IN: constant(uint256) = 1  # token_in is the pool's token0
TO_CALLER: constant(uint256) = 2  # the output goes to the caller, not to the executor
WHOLE_BALANCE: constant(uint256) = 4  # swap all that the executor has, not at most amount_in

MIN_SQRT_PRICE: constant(uint160) = 4295128739 + 1  # Uniswap V3 TickMath.MIN_SQRT_RATIO + 1
MAX_SQRT_PRICE: constant(uint160) = 1461446703485210103287273052203988822378723970342 - 1  # MAX_SQRT_RATIO - 1
NO_POOL: constant(address) = 0x0000000000000000000000000000000000000001  # not 0: setting it costs less

paying_pool: address  # the V3 pool that may call back now


@deploy
def __init__():
    self.paying_pool = NO_POOL


@external
@nonreentrant
def execute(payload: Bytes[MAX_PAYLOAD]) -> bytes4:
    """
    @notice Run the legs of `payload` in order with the tokens that the executor holds.
    @param payload Packed legs, big endian, see docs/spec.md
    @return This function's selector
    """
    size: uint256 = len(payload)
    at: uint256 = 0
    for _: uint256 in range(MAX_LEGS + 1):  # one more, to reach the end check or a stray byte
        if at == size:
            break
        kind: uint256 = convert(slice(payload, at, 1), uint256)

        if kind == SWAP_V2 or kind == SWAP_V3:
            leg_size: uint256 = SWAP_V2_SIZE if kind == SWAP_V2 else SWAP_V3_SIZE
            assert at + leg_size <= size, "bad leg"
            swap: Swap = Swap(
                flags=convert(slice(payload, at + 1, 1), uint256),
                pool=convert(slice(payload, at + 2, 20), address),
                token_in=convert(slice(payload, at + 22, 20), address),
                amount_in=convert(slice(payload, at + 42, 16), uint256),
                min_out=convert(slice(payload, at + 58, 16), uint256),
            )
            if kind == SWAP_V2:
                self._swap_v2(swap, convert(slice(payload, at + 74, 2), uint256))
            else:
                self._swap_v3(swap)
            at += leg_size

        elif kind == SWEEP:
            assert at + SWEEP_SIZE <= size, "bad leg"
            self._sweep(convert(slice(payload, at + 1, 20), address))
            at += SWEEP_SIZE

        else:
            assert kind == CALL and at + CALL_HEADER_SIZE <= size, "bad leg"
            target: address = convert(slice(payload, at + 1, 20), address)
            data_size: uint256 = convert(slice(payload, at + 21, 2), uint256)
            at += CALL_HEADER_SIZE
            assert at + data_size <= size and target.is_contract, "bad leg"
            raw_call(target, slice(payload, at, data_size))
            at += data_size

    return method_id("execute(bytes)", output_type=bytes4)


@external
@nonreentrant
def sweep(tokens: DynArray[address, MAX_TOKENS]):
    """
    @notice Send the executor's whole balance of each token to the caller.
    """
    for token: address in tokens:
        self._sweep(token)


@external
def uniswapV3SwapCallback(amount0_delta: int256, amount1_delta: int256, data: Bytes[32]):
    """
    @notice Pay the pool that is being swapped with; only that pool can call.
    """
    assert msg.sender == self.paying_pool, "not the pool"
    amount: uint256 = convert(max(amount0_delta, amount1_delta), uint256)
    self._send(abi_decode(data, address), msg.sender, amount)


@internal
def _swap_v2(swap: Swap, fee_bps: uint256):
    amount: uint256 = self._amount(swap)
    assert fee_bps < BPS, "bad leg"
    if amount == 0:
        return

    token0_in: bool = swap.flags & TOKEN0_IN != 0
    reserve0: uint112 = 0
    reserve1: uint112 = 0
    timestamp: uint32 = 0
    reserve0, reserve1, timestamp = staticcall UniswapV2Pair(swap.pool).getReserves()
    reserve_in: uint256 = convert(reserve0 if token0_in else reserve1, uint256)
    reserve_out: uint256 = convert(reserve1 if token0_in else reserve0, uint256)

    # out = (amount after fee) · reserve_out / (reserve_in + amount after fee), rounded down as the pool demands
    amount_after_fee: uint256 = amount * (BPS - fee_bps)
    paid: uint256 = amount_after_fee * reserve_out // (reserve_in * BPS + amount_after_fee)
    self._check_paid(swap, amount, paid)

    self._send(swap.token_in, swap.pool, amount)
    extcall UniswapV2Pair(swap.pool).swap(
        0 if token0_in else paid, paid if token0_in else 0, self._receiver(swap), b""
    )


@internal
def _swap_v3(swap: Swap):
    amount: uint256 = self._amount(swap)
    if amount == 0:
        return

    token0_in: bool = swap.flags & TOKEN0_IN != 0
    amount0: int256 = 0
    amount1: int256 = 0
    self.paying_pool = swap.pool
    amount0, amount1 = extcall UniswapV3Pool(swap.pool).swap(
        self._receiver(swap),
        token0_in,
        convert(amount, int256),
        MIN_SQRT_PRICE if token0_in else MAX_SQRT_PRICE,
        abi_encode(swap.token_in),
    )
    self.paying_pool = NO_POOL
    self._check_paid(swap, amount, convert(-(amount1 if token0_in else amount0), uint256))


@internal
@view
def _amount(swap: Swap) -> uint256:
    assert swap.flags < 8 and swap.amount_in > 0, "bad leg"
    balance: uint256 = staticcall IERC20(swap.token_in).balanceOf(self)
    return balance if swap.flags & WHOLE_BALANCE != 0 else min(swap.amount_in, balance)


@internal
@view
def _receiver(swap: Swap) -> address:
    return msg.sender if swap.flags & TO_CALLER != 0 else self


@internal
@pure
def _check_paid(swap: Swap, amount: uint256, paid: uint256):
    # paid / amount >= min_out / amount_in
    assert paid * swap.amount_in >= swap.min_out * amount, "leg paid too little"


@internal
def _sweep(token: address):
    balance: uint256 = staticcall IERC20(token).balanceOf(self)
    if balance > 0:
        self._send(token, msg.sender, balance)


@internal
def _send(token: address, to: address, amount: uint256):
    assert extcall IERC20(token).transfer(to, amount, default_return_value=True), "transfer failed"
