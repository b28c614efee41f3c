"""Who could act now? One batch of reads and the rules for all vaults: what comes before a `look` at each of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from web3 import Web3

from offchain.chain.lens import read_vaults
from offchain.chain.vault import BlockRef, Snapshot
from offchain.policy import many

__all__ = ["UNREADABLE", "Screened", "screen"]

UNREADABLE = "the vault cannot be read: no vault there, or one of its tokens or its oracle does not answer"


@dataclass(frozen=True, slots=True)
class Screened:
    """A vault and whether a look at it could lead to a rebalance."""

    vault: str  # address
    snapshot: Snapshot | None  # None: it cannot be read
    could_act: bool
    reason: str  # why not, in the words of a look's outcome; "" when it could


def screen(web3: Web3, lens: str, vaults: Sequence[str], at: BlockRef) -> list[Screened]:
    """The vaults at block `at`, in their order; the requests are `read_vaults`'.

    Says no more than the rules: whether a plan pays for itself is the look's business.
    """
    snapshots = read_vaults(web3, lens, vaults, at)
    readable = [snapshot for snapshot in snapshots if snapshot is not None]
    reasons = iter(many.waiting_reasons([snapshot.state for snapshot in readable], at.time))
    found = []
    for vault, snapshot in zip(vaults, snapshots, strict=True):
        reason = UNREADABLE if snapshot is None else next(reasons)
        found.append(Screened(snapshot.vault if snapshot else vault, snapshot, not reason, reason))
    return found
