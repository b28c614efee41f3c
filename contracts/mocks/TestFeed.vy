# pragma version 0.4.3
# @license MIT
"""
@title TestFeed
@notice Chainlink feed whose answer anyone can set, for tests and local chains only.
"""

from interfaces import IAggregatorV3

implements: IAggregatorV3


decimals: public(immutable(uint8))
description: public(String[64])

# The last round in one word, as cheap to read as a feed can be: answer 128 | updated at 40 | round 44 | answered in 44.
last_round: uint256

ANSWER_ZERO: constant(int256) = 2**127  # what an answer of 0 is stored as
MASK: constant(uint256) = 2**44 - 1


@deploy
def __init__(decimals_: uint8, description: String[64], answer: int256):
    decimals = decimals_
    self.description = description
    self._set_answer(answer, block.timestamp)


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    word: uint256 = self.last_round
    updated_at: uint256 = (word >> 88) & (2**40 - 1)
    return (
        convert((word >> 44) & MASK, uint80),
        convert(word >> 128, int256) - ANSWER_ZERO,
        updated_at,
        updated_at,
        convert(word & MASK, uint80),
    )


@external
def set_answer(answer: int256):
    """
    @param answer In the feed's decimals; a new round, updated now
    """
    self._set_answer(answer, block.timestamp)


@external
def set_answer_at(answer: int256, updated_at: uint256):
    """
    @param updated_at Seconds, UTC; the past makes the answer old, 0 the round incomplete
    """
    self._set_answer(answer, updated_at)


@external
def set_answered_in_round(answered_in_round: uint80):
    """
    @notice Pretend that the current round's answer was carried over from an older one.
    """
    self.last_round = (self.last_round & ~MASK) | convert(answered_in_round, uint256)


@internal
def _set_answer(answer: int256, updated_at: uint256):
    round: uint256 = ((self.last_round >> 44) & MASK) + 1
    self.last_round = (convert(answer + ANSWER_ZERO, uint256) << 128) | (updated_at << 88) | (round << 44) | round
