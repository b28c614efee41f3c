# pragma version 0.4.3
# @license MIT
"""
@title Onlooker
@notice Makes the calls that it is told to, by a token's hook say, and remembers the last answer; for tests only.
"""

success: public(bool)
answer: public(Bytes[256])  # the first words
looks: public(uint256)


@external
def look(target: address, data: Bytes[1024]):
    self.success, self.answer = raw_call(target, data, max_outsize=256, revert_on_failure=False)
    self.looks += 1
