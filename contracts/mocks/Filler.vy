# pragma version 0.4.3
# @license MIT
"""
@title Filler
@notice Fills auctions and remembers what its callback was told; misbehaves in one chosen way. For tests only.
"""

from ethereum.ercs import IERC20
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
        data: Bytes[4096],
        deadline: uint256,
    ) -> (uint256, uint256): nonpayable


PAY: constant(uint256) = 0  # approves what it owes, and no more
PAY_NOTHING: constant(uint256) = 1  # approves nothing
WRONG_ANSWER: constant(uint256) = 2
CALL: constant(uint256) = 3  # makes the call it was given, and remembers the outcome
PAY_DIRECTLY: constant(uint256) = 4  # sends the tokens to the vault by itself, and approves nothing

mode: public(uint256)
target: public(address)
call_data: Bytes[4096]
vault: public(address)
called: public(bool)  # the call of CALL succeeded
answer: public(Bytes[256])  # of that call

# What on_fill was told
caller: public(address)
sell: public(address)
sold: public(uint256)
buy: public(address)
owed: public(uint256)
data: public(Bytes[4096])
held: public(uint256)  # of `sell`, at that moment


@external
def set_mode(mode: uint256):
    self.mode = mode


@external
def set_call(target: address, call_data: Bytes[4096]):
    self.mode = CALL
    self.target = target
    self.call_data = call_data


@external
def approve(token: address, spender: address, amount: uint256):
    extcall IERC20(token).approve(spender, amount)


@external
def fill(
    auction: address,
    vault: address,
    session: uint256,
    sell: address,
    buy: address,
    max_sell: uint256,
    max_pay: uint256,
    receiver: address,
    data: Bytes[4096],
) -> (uint256, uint256):
    self.vault = vault
    return extcall Auction(auction).fill(
        vault, session, sell, buy, max_sell, max_pay, receiver, data, block.timestamp
    )


@external
def make_call():
    """
    @notice The call of CALL, while no fill runs.
    """
    self._make_call()


@external
def on_fill(sell: address, sold: uint256, buy: address, owed: uint256, data: Bytes[4096]) -> bytes4:
    self.caller = msg.sender
    self.sell = sell
    self.sold = sold
    self.buy = buy
    self.owed = owed
    self.data = data
    self.held = staticcall IERC20(sell).balanceOf(self)
    if self.mode == CALL:
        self._make_call()
    if self.mode == PAY_DIRECTLY:
        extcall IERC20(buy).transfer(self.vault, owed)
    elif self.mode != PAY_NOTHING:
        extcall IERC20(buy).approve(msg.sender, owed)
    if self.mode == WRONG_ANSWER:
        return 0xdeadbeef
    return method_id("on_fill(address,uint256,address,uint256,bytes)", output_type=bytes4)


@internal
def _make_call():
    self.called, self.answer = raw_call(self.target, self.call_data, max_outsize=256, revert_on_failure=False)
