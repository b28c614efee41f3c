"""The share ledger, exactly as `contracts/modules/shares.vy` keeps it: supply, pending fee, melting fees. Pure.

All amounts are shares (18 decimals), times are timestamps in seconds (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from offchain.policy import DAY

__all__ = ["Ledger"]

MAX_SUPPLY = 2**112 - 1
MAX_PENDING = 2**92 - 1
FEE_YEAR = 365 * 10**4  # days * bps


@dataclass(frozen=True, slots=True)
class Ledger:
    """As stored at its last write; the properties of a moment come from `current`."""

    supply: int = 0  # pending fee included; what has melted since `melts_from` included
    pending_fee: int = 0
    day: int = 0  # of the last accrual, days since 1970
    flow_sequence: int = 0
    melting: int = 0  # fee shares of nobody, as of `melts_from`
    melts_from: int = 0
    melts_for: int = 0  # seconds from then until none are left
    melts: bool = False

    def melted(self, now: int) -> int:
        """Of `melting`, those that are no more. Rounded down."""
        elapsed = now - self.melts_from
        if not self.melts:
            return 0
        return self.melting if elapsed >= self.melts_for else self.melting * elapsed // self.melts_for

    def current(self, now: int, fee_bps: int) -> Ledger:
        """The ledger with what has melted gone from its supply and the fee accrued; `melting` is left as it was."""
        melted = self.melted(now)
        supply, pending, today = self.supply - melted, self.pending_fee, now // DAY
        if today > self.day:
            fee = supply * fee_bps * (today - self.day) // FEE_YEAR
            fee = min(fee, MAX_SUPPLY - supply - melted, MAX_PENDING - pending)
            return replace(self, supply=supply + fee, pending_fee=pending + fee, day=today)
        return replace(self, supply=supply)

    def entry_supply(self, now: int, fee_bps: int) -> int:
        """What who enters pays by: the supply as if all fees had melted."""
        supply = self.current(now, fee_bps).supply
        return supply - (self.melting - self.melted(now)) if self.melts else supply

    def collected(self, now: int, fee_bps: int) -> Ledger:
        """After the pending fee was paid."""
        return self._stored(replace(self.current(now, fee_bps), pending_fee=0), now)

    def minted(self, shares: int, now: int, fee_bps: int) -> Ledger:
        """After shares were minted, or burnt where below 0."""
        at = self.current(now, fee_bps)
        return self._stored(replace(at, supply=at.supply + shares), now)

    def flowed(self, shares: int, now: int, fee_bps: int, fee: int = 0, fee_seconds: int = 0) -> Ledger:
        """After a flow of `shares`, below 0 outwards, that leaves `fee` shares to melt over `fee_seconds`."""
        at = self.current(now, fee_bps)
        at = replace(at, flow_sequence=at.flow_sequence + 1)
        if fee == 0 and not self.melts:
            return self._stored(replace(at, supply=at.supply + shares), now)
        if fee == 0 and fee_seconds == 0:  # in kind: what melts goes on as it was
            return self._stored(replace(at, supply=at.supply + shares), now)
        rest = self.melting - self.melted(now) if self.melts else 0
        left = max(self.melts_from + self.melts_for, now) - now if self.melts else 0
        if rest + fee > 0:
            left = (rest * left + fee * fee_seconds) // (rest + fee)
        return replace(
            at,
            supply=at.supply + fee + shares,
            melting=rest + fee,
            melts_from=now,
            melts_for=left,
            melts=rest + fee > 0,
        )

    def _stored(self, at: Ledger, now: int) -> Ledger:
        """The supply is stored with what has melted, which the melting word still counts."""
        return replace(at, supply=at.supply + self.melted(now))
