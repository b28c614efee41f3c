# pragma version 0.4.3
# @license MIT
"""
@title FeedBoard
@notice Sets many test feeds in one transaction, for tests and local chains only.
"""

interface TestFeed:
    def set_answer(answer: int256): nonpayable


@external
def set_answers(feeds: DynArray[address, 32], answers: DynArray[int256, 32]):
    """
    @param answers One for each feed, in that feed's decimals
    """
    assert len(feeds) == len(answers), "wrong length"
    for i: uint256 in range(len(feeds), bound=32):
        extcall TestFeed(feeds[i]).set_answer(answers[i])
