# pragma version 0.4.3
# @license MIT
"""
@title BadFeed
@notice A feed that answers `latestRoundData` with whatever bytes a test chose, or in no useful way. For tests only.
"""

ANSWER: constant(uint256) = 0  # returns the chosen bytes
REVERT: constant(uint256) = 1
BURN_GAS: constant(uint256) = 2  # until none is left
LONG_ANSWER: constant(uint256) = 3  # returns 64,000 bytes
REVERT_ANSWER: constant(uint256) = 4  # reverts with the chosen bytes

decimals: public(uint8)
mode: public(uint256)
response: Bytes[1024]


@deploy
def __init__():
    self.decimals = 8


@external
def set_decimals(decimals: uint8):
    self.decimals = decimals


@external
def set_mode(mode: uint256):
    self.mode = mode


@external
def set_response(response: Bytes[1024]):
    self.response = response


@external
@view
@raw_return
def __default__() -> Bytes[64000]:
    mode: uint256 = self.mode
    assert mode != REVERT, "feed is broken"
    if mode == REVERT_ANSWER:
        raw_revert(self.response)
    if mode == BURN_GAS:
        burnt: bytes32 = empty(bytes32)
        for _: uint256 in range(1_000_000):
            burnt = keccak256(burnt)
    if mode == LONG_ANSWER:
        zeros: bytes32[2000] = empty(bytes32[2000])
        return slice(abi_encode(zeros), 0, 64000)
    return self.response
