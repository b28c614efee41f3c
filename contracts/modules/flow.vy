# pragma version 0.4.3
"""
@title A limit on net flow in one word
@license MIT
@notice The level rises with what comes in, falls with what goes out and returns to 0 continuously; it may not leave
        the capacity on either side. No storage; levels in WAD of the supply.
"""

DAY: constant(uint256) = 86400
BPS: constant(uint256) = 10**14  # one basis point as a WAD
ZERO: constant(int256) = 2**127  # what a level of 0 is stored as

# capacity in bps 16 | refill in bps a day 16 | time of the level 40 | level 128


@internal
@view
def _limit(word: uint256, capacity_bps: uint256, refill_bps_per_day: uint256) -> uint256:
    """
    @return The word under a new limit: its level stays.
    """
    assert capacity_bps <= 10**4 and refill_bps_per_day <= 10**4, "flow limit above 100%"
    return self._pack(capacity_bps | (refill_bps_per_day << 16), self._level(word) if word > 0 else 0)


@internal
@view
def _charge(word: uint256, points: int256) -> uint256:
    """
    @return The word after a flow: `points` of the supply, more than 0 for what comes in.
    """
    before: int256 = self._level(word)
    after: int256 = before + points
    # back towards 0 it may always go: the capacity may have been lowered meanwhile
    towards_zero: bool = abs(after) < abs(before) and (after > 0) == (before > 0)
    assert abs(after) <= self._capacity(word) or towards_zero, "flow limit exceeded"
    return self._pack(word, after)


@internal
@view
def _room(word: uint256) -> (uint256, uint256):
    """
    @return What may still come in, and go out; nothing when there is no limit.
    """
    if word == 0:
        return 0, 0
    level: int256 = self._level(word)
    capacity: int256 = self._capacity(word)
    return convert(max(capacity - level, 0), uint256), convert(max(capacity + level, 0), uint256)


@internal
@view
def _level(word: uint256) -> int256:
    level: int256 = convert(word >> 72, int256) - ZERO
    elapsed: uint256 = block.timestamp - ((word >> 32) & (2**40 - 1))
    refill: int256 = convert(elapsed * ((word >> 16) & (2**16 - 1)) * BPS // DAY, int256)  # down
    return max(level - refill, 0) if level > 0 else min(level + refill, 0)


@internal
@pure
def _capacity(word: uint256) -> int256:
    return convert((word & (2**16 - 1)) * BPS, int256)


@internal
@view
def _pack(limit: uint256, level: int256) -> uint256:
    return (limit & (2**32 - 1)) | (block.timestamp << 32) | (convert(level + ZERO, uint256) << 72)
