# pragma version 0.4.3
"""
@title Taker: fills auctions without money of its own
@license MIT
@notice For whoever fills other people's auctions: take -> the auction's `fill` -> `on_fill` -> what the vault sold is
        swapped by an executor -> the vault is paid from that -> the owner gets the rest, or nothing has happened.
        It holds nothing between transactions and leaves no allowance behind. Trusted: its owner, with what one
        transaction moves. Not trusted: auctions, vaults, executors and tokens: whatever they do, the owner has gained
        `min_profit` at the end, or the transaction reverts and costs gas only.
@custom:kill Nothing to stop: it has no state of value; its owner stops calling it.
"""
from ethereum.ercs import IERC20
from interfaces import IExecutor
from interfaces import IFiller

implements: IFiller


interface Auction:
    def fill(
        vault: address,
        session: uint256,
        sell: address,
        buy: address,
        max_sell: uint256,
        max_pay: uint256,
        receiver: address,
        data: Bytes[MAX_DATA],
        deadline: uint256,
    ) -> (uint256, uint256): nonpayable


MAX_DATA: constant(uint256) = 4096  # of the auction
MAX_PAYLOAD: constant(uint256) = 3968  # with an executor's address it fits into MAX_DATA
EXECUTED: constant(bytes4) = method_id("execute(bytes)", output_type=bytes4)
FILLED: constant(bytes4) = method_id(
    "on_fill(address,uint256,address,uint256,bytes)", output_type=bytes4
)

owner: public(immutable(address))

filling: address  # the auction that may call back now


@deploy
def __init__():
    owner = msg.sender


@external
@nonreentrant
def take(
    auction: address,
    vault: address,
    session: uint256,
    sell: address,
    buy: address,
    max_sell: uint256,
    max_pay: uint256,
    executor: address,
    payload: Bytes[MAX_PAYLOAD],
    min_profit: uint256,
    deadline: uint256,
) -> uint256:
    """
    @notice Buy up to `max_sell` of `sell` from the vault, pay with what `payload` makes of it, and keep the rest.
    @param max_pay Most of `buy` to pay the vault
    @param executor Gets what the vault sold, and runs `payload`, which returns `buy` to its caller
    @param min_profit Units of `buy`
    @return What the owner gained, units of `buy`
    """
    assert msg.sender == owner, "not owner"
    before: uint256 = staticcall IERC20(buy).balanceOf(owner)
    self.filling = auction
    extcall Auction(auction).fill(
        vault, session, sell, buy, max_sell, max_pay, executor, abi_encode(executor, payload), deadline
    )
    self.filling = empty(address)
    self._pass_on(buy)
    self._pass_on(sell)  # what the payload left over
    gained: uint256 = staticcall IERC20(buy).balanceOf(owner) - before
    assert gained >= min_profit, "profit below minimum"
    return gained


@external
def on_fill(sell: address, sold: uint256, buy: address, owed: uint256, data: Bytes[MAX_DATA]) -> bytes4:
    """
    @notice The auction's call while `take` runs: the executor has what the vault sold.
    """
    assert msg.sender == self.filling, "not the running auction"
    self.filling = empty(address)  # once
    executor: address = empty(address)
    payload: Bytes[MAX_PAYLOAD] = b""
    executor, payload = abi_decode(data, (address, Bytes[MAX_PAYLOAD]))
    assert extcall IExecutor(executor).execute(payload) == EXECUTED, "executor did not answer"
    assert extcall IERC20(buy).approve(msg.sender, owed, default_return_value=True), "approve failed"
    return FILLED


@internal
def _pass_on(token: address):
    balance: uint256 = staticcall IERC20(token).balanceOf(self)
    if balance > 0:
        assert extcall IERC20(token).transfer(owner, balance, default_return_value=True), "transfer failed"
