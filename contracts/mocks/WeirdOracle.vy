# pragma version 0.4.3
# @license MIT
"""
@title WeirdOracle
@notice An oracle that answers what a test set, or fails in one chosen way; for tests only.
"""

REVERTS: constant(uint256) = 1
BURNS_GAS: constant(uint256) = 2
SHORT: constant(uint256) = 3  # answers for fewer assets than asked

mode: public(uint256)
answers: DynArray[uint256, 16]  # USD per whole token, 18 decimals
states: DynArray[uint256, 16]  # 0: usable


@external
def set_prices(prices_: DynArray[uint256, 16], statuses: DynArray[uint256, 16]):
    self.answers = prices_
    self.states = statuses


@external
def set_mode(mode: uint256):
    self.mode = mode


@external
@view
def prices(assets: DynArray[address, 16]) -> (DynArray[uint256, 16], DynArray[uint256, 16]):
    assert self.mode != REVERTS, "oracle is broken"
    assert self.mode != BURNS_GAS, UNREACHABLE  # the invalid instruction takes all gas
    if self.mode == SHORT:
        return [], []
    return self.answers, self.states
