"""Errors of the edge: settings, node and transactions.

EvenkeelError
├── ConfigError         a setting or an argument is wrong: the message names it
├── ChainError          the node or the contract answered what cannot be right
└── TransactionError    a transaction was not sent, or was refused; `tx_hash` when one exists
    └── DryRunError     nothing is sent: no keystore is named, or dry run is on
"""

from __future__ import annotations

import requests
from web3.exceptions import Web3Exception

from offchain.errors import EvenkeelError

__all__ = [
    "NODE_ERRORS",
    "ChainError",
    "ConfigError",
    "DryRunError",
    "TransactionError",
]

# What a node that is down, busy or behind raises: worth another try.
NODE_ERRORS: tuple[type[Exception], ...] = (
    requests.RequestException,
    ConnectionError,
    TimeoutError,
    Web3Exception,
)


class ConfigError(EvenkeelError):
    """A setting or argument is wrong: fix the one that the message names."""


class ChainError(EvenkeelError):
    """The chain's answer cannot be used: check the node's address, the chain and the contract's address."""


class TransactionError(EvenkeelError):
    """A transaction was not accepted: read the reason; `tx_hash` says which one, if it was signed."""

    def __init__(self, message: str, tx_hash: str | None = None) -> None:
        super().__init__(message)
        self.tx_hash = tx_hash


class DryRunError(TransactionError):
    """Nothing is sent in a dry run: name a keystore and switch `dry_run` off."""
