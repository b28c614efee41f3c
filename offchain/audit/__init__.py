"""The audit trail: recompute a vault's head from its events and compare it with the stored one."""

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
