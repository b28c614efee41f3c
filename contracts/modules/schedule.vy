# pragma version 0.4.3
"""
@title Calendar slots
@license MIT
@notice Slot k is the k-th stretch of N days from an anchor, or of N calendar months (UTC). Pure.
"""

DAY: constant(uint256) = 86400
MONTHS: constant(uint256) = 1  # calendar unit; 0 is days


@internal
@pure
def _slot(time: uint256, unit: uint256, every: uint256, anchor: uint256) -> uint256:
    """
    @return Number of the slot that holds `time`; 0 before the anchor.
    """
    if time < anchor:
        return 0
    if unit == MONTHS:
        return (self._month(time) - self._month(anchor)) // every + 1
    return (time - anchor) // (every * DAY) + 1


@internal
@pure
def _month(time: uint256) -> uint256:
    """
    @dev 12 * year + month (January is 0) of a Unix time, proleptic Gregorian calendar, years from March so that
         the leap day ends a year (Hinnant, "chrono-compatible low-level date algorithms").
    """
    day: uint256 = time // DAY + 719468  # days since 0000-03-01
    era: uint256 = day // 146097
    day_of_era: uint256 = day % 146097
    year_of_era: uint256 = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year: uint256 = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march: uint256 = (5 * day_of_year + 2) // 153
    return 12 * (400 * era + year_of_era) + month_from_march + 2
