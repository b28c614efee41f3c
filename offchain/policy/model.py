"""What the rules are about: the vault's state in plain integers, as the chain stores it (units: docs/spec.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

WAD = 10**18
BPS_IN_WAD = 10**14
DAY = 86_400
YEAR = 365 * DAY
NO_ASSET = 16  # as the index in quarantine: none is


class Mode(IntEnum):
    """When a session may open."""

    CALENDAR = 0
    THRESHOLD = 1
    EITHER = 2
    BOTH = 3


class CalendarUnit(IntEnum):
    """What `Rules.calendar_every` counts."""

    DAYS = 0
    MONTHS = 1  # calendar months, UTC


@dataclass(frozen=True, slots=True)
class Asset:
    """A token of the basket and its own limits."""

    token: str  # address
    decimals: int
    target_bps: int
    band_points_bps: int
    band_relative_bps: int  # of the target
    min_target_bps: int
    max_target_bps: int
    price_error_bps: int  # the feed's deviation threshold

    @property
    def scale(self) -> int:
        """Token units in one whole token."""
        return int(10**self.decimals)


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters that bind every rebalance of the vault."""

    mode: int
    calendar_unit: int
    calendar_every: int
    calendar_anchor: int  # timestamp; slot 1 starts there
    window_seconds: int
    cooldown_seconds: int
    max_slippage_bps: int
    loss_capacity_bps: int
    loss_refill_bps_per_year: int
    tolerance_bps: int
    speed_capacity_bps: int
    speed_refill_bps_per_day: int


@dataclass(frozen=True, slots=True)
class Session:
    """The last session; all zero before the first one, but for the calendar slot that creation used."""

    id: int = 0
    opened_at: int = 0
    closed_at: int = 0  # 0 while no rebalance closed it
    slot: int = 0  # last calendar slot used
    by_calendar: bool = False


@dataclass(frozen=True, slots=True)
class VaultState:
    """All that decides what the vault accepts, as of `time`. Lists are in the order of `assets`."""

    assets: tuple[Asset, ...]
    rules: Rules
    session: Session
    balances: tuple[int, ...]  # token units
    prices: tuple[int, ...]  # USD WAD per whole token
    statuses: tuple[int, ...]  # the oracle's, 0 = usable
    supply: int  # shares (18 decimals), with the fee pending as of `fee_accrued_at`
    time: int  # timestamp of the block read
    pending_fee_shares: int = 0  # of the supply, not yet minted to the recipient
    fee_bps: int = 0  # a year
    fee_accrued_at: int = 0  # timestamp of the last accrual
    loss_used: int = 0  # WAD of NAV, as of loss_time
    loss_time: int = 0
    speed_used: int = 0  # WAD of weight, as of speed_time
    speed_time: int = 0
    paused_until: int = 0
    aside: int = NO_ASSET  # index of the asset last in quarantine
    aside_until: int = 0  # timestamp
    vault: str = ""  # address
    oracle: str = ""  # address


@dataclass(frozen=True, slots=True)
class Trigger:
    """Whether a new session may open (the cooldown apart), and what for."""

    holds: bool
    by_calendar: bool
    slot: int  # the current calendar slot
    kind: str  # "none", "calendar", "threshold" or "calendar and threshold"
    reason: str  # one sentence for the log


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the vault says to a rebalance."""

    ok: bool
    reason: str  # the exact revert string, "" when accepted
    state: VaultState  # after the rebalance; unchanged when refused
    sent: tuple[int, ...] = ()  # token units that left for the executor
    charge: int = 0  # WAD of NAV, added to the loss budget
    closed: bool = False  # the session closed
