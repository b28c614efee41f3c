"""Every exception that Evenkeel raises on purpose.

EvenkeelError
├── PolicyError         the rules were asked about a state that cannot exist
└── PlannerError        the planner was given a problem that it cannot read
    ├── PoolError       a pool snapshot is not usable
    └── PayloadError    an executor payload cannot be encoded or decoded

The command line prints the message and ends; anything else that escapes is a bug.
"""

__all__ = ["EvenkeelError", "PayloadError", "PlannerError", "PolicyError", "PoolError"]


class EvenkeelError(Exception):
    """Base of all errors with a message written for the operator."""


class PolicyError(EvenkeelError):
    """The state handed to the rules cannot exist on chain: fix the field that the message names."""


class PlannerError(EvenkeelError):
    """The planning problem is malformed: fix the field that the message names."""


class PoolError(PlannerError):
    """A pool's snapshot is not usable (no reserves, wrong token, ticks missing): read it again or leave it out."""


class PayloadError(PlannerError):
    """A payload is not a list of executor legs as in the specification."""
