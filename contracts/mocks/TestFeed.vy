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

round_id: uint80
answer: int256
updated_at: uint256
answered_in_round: uint80


@deploy
def __init__(decimals_: uint8, description: String[64], answer: int256):
    decimals = decimals_
    self.description = description
    self._set_answer(answer, block.timestamp)


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    return self.round_id, self.answer, self.updated_at, self.updated_at, self.answered_in_round


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
    self.answered_in_round = answered_in_round


@internal
def _set_answer(answer: int256, updated_at: uint256):
    self.round_id += 1
    self.answer = answer
    self.updated_at = updated_at
    self.answered_in_round = self.round_id
