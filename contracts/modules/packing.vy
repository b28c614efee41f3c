# pragma version 0.4.3
"""
@title Rules, and session with loss budget, in one storage word each
@license MIT
@notice Pure. Meaning and units of the fields: interfaces/IVault.vyi.
"""
from interfaces import IVault


ASIDE: constant(uint256) = 211  # where the rules' word holds the asset in quarantine: 5 bits, its index + 1
ASIDE_UNTIL: constant(uint256) = 216  # 40 bits, timestamp
ASIDE_MASK: constant(uint256) = (2**45 - 1) << 211
NO_ASSET: constant(uint256) = 16  # portfolio.vy
SESSION_ID: constant(uint256) = 2**32 - 1  # a session's word begins with it
LOSS_AT: constant(uint256) = 153  # above a session's word: level of the loss budget 60 bits | its time 40 bits
LOSS_TIME_AT: constant(uint256) = 213
LOSS_MASK: constant(uint256) = 2**60 - 1  # holds more than the greatest capacity, 8191 bps as a WAD


@internal
@view
def _aside(word: uint256) -> uint256:
    """
    @return Index of the asset in quarantine now, or NO_ASSET.
    """
    if block.timestamp >= word >> ASIDE_UNTIL:
        return NO_ASSET
    return ((word >> ASIDE) & 31) - 1


@internal
@pure
def _with_aside(word: uint256, index: uint256, until: uint256) -> uint256:
    return (word & (2**ASIDE - 1)) | ((index + 1) << ASIDE) | (until << ASIDE_UNTIL)


@internal
@pure
def _loss_refill(word: uint256) -> uint256:
    return (word >> 150) & (2**16 - 1)  # bps a year


@internal
@pure
def _speed_refill(word: uint256) -> uint256:
    return (word >> 195) & (2**16 - 1)  # bps a day


@internal
@pure
def _pack_rules(r: IVault.Rules) -> uint256:
    assert r.mode < 4, "unknown mode"
    assert r.calendar_unit < 2, "unknown calendar unit"
    assert r.calendar_every > 0, "calendar every 0"
    assert r.window_seconds > 0, "window 0"
    return (
        r.mode
        | (r.calendar_unit << 2)
        | self._field(r.calendar_every, 16, 4)
        | self._field(r.calendar_anchor, 40, 20)
        | self._field(r.window_seconds, 32, 60)
        | self._field(r.cooldown_seconds, 32, 92)
        | self._field(r.max_slippage_bps, 13, 124)
        | self._field(r.loss_capacity_bps, 13, 137)
        | self._field(r.loss_refill_bps_per_year, 16, 150)
        | self._field(r.tolerance_bps, 13, 166)
        | self._field(r.speed_capacity_bps, 16, 179)
        | self._field(r.speed_refill_bps_per_day, 16, 195)
    )


@internal
@pure
def _unpack_rules(word: uint256) -> IVault.Rules:
    return IVault.Rules(
        mode=word & 3,
        calendar_unit=(word >> 2) & 3,
        calendar_every=(word >> 4) & (2**16 - 1),
        calendar_anchor=(word >> 20) & (2**40 - 1),
        window_seconds=(word >> 60) & (2**32 - 1),
        cooldown_seconds=(word >> 92) & (2**32 - 1),
        max_slippage_bps=(word >> 124) & (2**13 - 1),
        loss_capacity_bps=(word >> 137) & (2**13 - 1),
        loss_refill_bps_per_year=(word >> 150) & (2**16 - 1),
        tolerance_bps=(word >> 166) & (2**13 - 1),
        speed_capacity_bps=(word >> 179) & (2**16 - 1),
        speed_refill_bps_per_day=(word >> 195) & (2**16 - 1),
    )


@internal
@pure
def _field(amount: uint256, bits: uint256, offset: uint256) -> uint256:
    assert amount >> bits == 0, "rule out of range"
    return amount << offset


@internal
@pure
def _pack_session(s: IVault.Session) -> uint256:
    return (
        s.id
        | (s.opened_at << 32)
        | (s.closed_at << 72)
        | (s.slot << 112)
        | (convert(s.by_calendar, uint256) << 152)
    )


@internal
@pure
def _unpack_session(word: uint256) -> IVault.Session:
    return IVault.Session(
        id=word & (2**32 - 1),
        opened_at=(word >> 32) & (2**40 - 1),
        closed_at=(word >> 72) & (2**40 - 1),
        slot=(word >> 112) & (2**40 - 1),
        by_calendar=(word >> 152) & 1 == 1,
    )


@internal
@pure
def _pack_trading(session: uint256, loss: uint256) -> uint256:
    """
    @return A session's word and the loss budget's (bucket.vy) in one.
    """
    return session | ((loss & (2**128 - 1)) << LOSS_AT) | (loss >> 128 << LOSS_TIME_AT)


@internal
@pure
def _with_session(trading: uint256, session: IVault.Session) -> uint256:
    return (trading & ~(2**LOSS_AT - 1)) | self._pack_session(session)


@internal
@pure
def _session_of(trading: uint256) -> uint256:
    return trading & (2**LOSS_AT - 1)


@internal
@pure
def _loss_of(trading: uint256) -> uint256:
    """
    @return As in bucket.vy.
    """
    return ((trading >> LOSS_AT) & LOSS_MASK) | (trading >> LOSS_TIME_AT << 128)
