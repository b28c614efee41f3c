# pragma version 0.4.3
# @license MIT
"""
@title FillerVault
@notice Poses as a vault before an auction and tries to get at the allowances that its fillers gave it. For tests only.
"""

from ethereum.ercs import IERC20
from interfaces import IVault


interface Auction:
    def execute(payload: Bytes[8192]) -> bytes4: nonpayable


DELIVER: constant(uint256) = 0  # sends what it was asked for and runs the order: an honest vault without rules
KEEP: constant(uint256) = 1  # runs the order without having sent anything
REMEMBER: constant(uint256) = 2  # does not run the order, and keeps it for later
TWICE: constant(uint256) = 3  # runs the order, then once more
FORGE: constant(uint256) = 4  # runs an order that a test wrote, then the real one
CALL: constant(uint256) = 5  # makes a call, then runs the order
DELEGATE: constant(uint256) = 6  # lets a call that a test wrote run the order

mode: public(uint256)
kept: public(IVault.Settings)
auction: address
order: public(Bytes[8192])
target: address
call_data: Bytes[8192]
succeeded: public(bool)  # the attack's call
answer: public(Bytes[256])


@external
def set_up(mode: uint256, auction: address, settings: IVault.Settings):
    self.mode = mode
    self.auction = auction
    self.kept = settings


@external
def set_call(target: address, call_data: Bytes[8192]):
    self.target = target
    self.call_data = call_data


@external
@view
def settings() -> IVault.Settings:
    return self.kept


@external
def rebalance(
    sells: DynArray[uint256, 16],
    executor: address,
    payload: Bytes[8192],
    decision: bytes32,
    session: uint256,
    deadline: uint256,
):
    mode: uint256 = self.mode
    self.order = payload
    if mode == REMEMBER:
        return
    if mode != KEEP:
        for i: uint256 in range(len(sells), bound=16):
            if sells[i] > 0:
                token: address = convert(self.kept.words[i] & (2**160 - 1), address)
                extcall IERC20(token).transfer(executor, sells[i])
    if mode == FORGE or mode == CALL:
        self._attack(self.target, self.call_data)
    if mode == DELEGATE:
        self._attack(self.target, abi_encode(payload, method_id=method_id("run(bytes)")))
    extcall Auction(self.auction).execute(payload)
    if mode == TWICE:
        self._attack(self.auction, abi_encode(payload, method_id=method_id("execute(bytes)")))


@external
def run(payload: Bytes[8192]):
    """
    @notice Hand an order to the auction: what another contract than its vault may try.
    """
    extcall Auction(self.auction).execute(payload)


@external
def run_kept():
    """
    @notice Run the order of the last `rebalance` now.
    """
    extcall Auction(self.auction).execute(self.order)


@internal
def _attack(target: address, call_data: Bytes[8260]):
    self.succeeded, self.answer = raw_call(target, call_data, max_outsize=256, revert_on_failure=False)
