"""The audit trail: recompute a vault's head from its events and compare it with the stored one."""

from typing import TYPE_CHECKING, Any

from offchain.audit.chain import (
    AuditBreak,
    Created,
    Event,
    Position,
    Rebalanced,
    RuleChanged,
    SessionOpened,
    recompute_head,
)

if TYPE_CHECKING:
    from offchain.audit.verify import Report, verify_vault

__all__ = [
    "AuditBreak",
    "Created",
    "Event",
    "Position",
    "Rebalanced",
    "Report",
    "RuleChanged",
    "SessionOpened",
    "recompute_head",
    "verify_vault",
]


def __getattr__(name: str) -> Any:
    """What asks a node brings the planner along, which tax lots and the command line do without: loaded when used."""
    if name not in ("Report", "verify_vault"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from offchain.audit import verify

    return getattr(verify, name)
