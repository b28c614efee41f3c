# pragma version 0.4.3
"""
@title A leaky bucket in one word
@license MIT
@notice Fills by what is charged, empties continuously: no window edge to wait for. No storage; the level
        is a WAD.
"""

BPS: constant(uint256) = 10**14  # one basis point as a WAD
LEVEL_MASK: constant(uint256) = 2**128 - 1


@internal
@view
def _level(word: uint256, refill_bps: uint256, period: uint256) -> uint256:
    """
    @return What is used now, when `refill_bps` come back in every `period` seconds; refill rounded down.
    """
    level: uint256 = word & LEVEL_MASK
    refill: uint256 = (block.timestamp - (word >> 128)) * refill_bps * BPS // period
    return level - min(level, refill)


@internal
@view
def _pack(level: uint256) -> uint256:
    return level | (block.timestamp << 128)
