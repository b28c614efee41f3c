"""The rules that say when a session may open, for many vaults: `next_session` and `trigger` of each."""

from __future__ import annotations

from collections.abc import Sequence

from offchain.policy.model import VaultState
from offchain.policy.rules import next_session, trigger

__all__ = ["waiting_reasons"]


def waiting_reasons(states: Sequence[VaultState], now: int) -> list[str]:
    """Why no rebalance of each vault can start at `now`, in the keeper's words; "" where one can."""
    reasons = []
    for state in states:
        refusal = next_session(state, now)[1]
        reasons.append(f"{refusal}: {trigger(state, now).reason}" if refusal == "no trigger" else refusal)
    return reasons
