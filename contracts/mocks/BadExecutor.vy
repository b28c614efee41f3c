# pragma version 0.4.3
# @license MIT
"""
@title BadExecutor
@notice An executor that does what a test tells it: pays its caller fixed amounts from its own tokens, and misbehaves in
        one chosen way. For tests only.
"""

from ethereum.ercs import IERC20
from interfaces import IExecutor

implements: IExecutor


PAY: constant(uint256) = 0  # pays what it was told and answers: an honest executor with a fixed price
KEEP: constant(uint256) = 1  # keeps everything
WRONG_ANSWER: constant(uint256) = 2  # pays, but does not answer its selector
REENTER: constant(uint256) = 3  # makes the call it was given, pays, and remembers whether the call succeeded
REENTER_OR_REVERT: constant(uint256) = 4  # the same, and reverts with the call's reason when it failed
PAY_LESS: constant(uint256) = 5  # pays half

mode: public(uint256)
payout_tokens: DynArray[address, 16]
payout_amounts: DynArray[uint256, 16]
target: public(address)
data: Bytes[4096]
called: public(bool)  # the call of REENTER was made and succeeded


@external
def set_mode(mode: uint256):
    assert mode <= PAY_LESS, "unknown mode"
    self.mode = mode


@external
def set_payout(tokens: DynArray[address, 16], amounts: DynArray[uint256, 16]):
    """
    @notice What to pay to the caller; the tokens must be here by then.
    """
    assert len(tokens) == len(amounts), "wrong length"
    self.payout_tokens = tokens
    self.payout_amounts = amounts


@external
def set_call(target: address, data: Bytes[4096]):
    self.target = target
    self.data = data


@external
def approve(token: address, spender: address, amount: uint256):
    """
    @notice So that a reentrant call can pay, and fails only by the lock.
    """
    assert extcall IERC20(token).approve(spender, amount, default_return_value=True), "approve failed"


@external
def execute(payload: Bytes[8192]) -> bytes4:
    mode: uint256 = self.mode
    if mode == REENTER:
        self.called = raw_call(self.target, self.data, revert_on_failure=False)
    elif mode == REENTER_OR_REVERT:
        raw_call(self.target, self.data)
        self.called = True

    if mode != KEEP:
        for i: uint256 in range(len(self.payout_tokens), bound=16):
            amount: uint256 = self.payout_amounts[i]
            if mode == PAY_LESS:
                amount //= 2
            assert extcall IERC20(self.payout_tokens[i]).transfer(msg.sender, amount, default_return_value=True)

    if mode == WRONG_ANSWER:
        return 0xdeadbeef
    return method_id("execute(bytes)", output_type=bytes4)
