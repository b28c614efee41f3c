"""Errors of the edge: settings, node and transactions.

EvenkeelError
├── ConfigError         a setting or an argument is wrong: the message names it
├── ChainError          the node or the contract answered what cannot be right
│   └── PassingError    for now: ask again
├── JournalError        the journal was not read or written: nothing is sent that is not in it
├── BusyError           another process is at it, or has settled it: look again
├── HeldError           another keeper has the journal or the vault: `keeper run` stands by
└── TransactionError    a transaction was not sent, or was refused; `tx_hash` when one exists
    └── DryRunError     nothing is sent: no account is named, or dry run is on
        └── HaltedError the kill switch is on
"""

from __future__ import annotations

import requests
from web3.exceptions import Web3Exception

from offchain.errors import EvenkeelError

__all__ = [
    "NODE_ERRORS",
    "BusyError",
    "ChainError",
    "ConfigError",
    "DryRunError",
    "HaltedError",
    "HeldError",
    "JournalError",
    "PassingError",
    "TransactionError",
]


class ConfigError(EvenkeelError):
    """A setting or argument is wrong: fix the one that the message names."""


class HeldError(EvenkeelError):
    """Another keeper works with this journal or on this vault: stop it, or name another one."""


class ChainError(EvenkeelError):
    """The chain's answer cannot be used: check the node's address, the chain and the contract's address."""


class PassingError(ChainError):
    """What the node shows does not fit together for now, as while a block is replaced: ask again."""


class JournalError(EvenkeelError):
    """The database is away or full: bring it back; the keeper goes on where it was."""


class BusyError(EvenkeelError):
    """Another process works on this vault or has settled the run: nothing to do, the next look sees what it did."""


class TransactionError(EvenkeelError):
    """A transaction was not accepted: read the reason; `tx_hash` says which one, if it was signed."""

    def __init__(self, message: str, tx_hash: str | None = None) -> None:
        super().__init__(message)
        self.tx_hash = tx_hash


class DryRunError(TransactionError):
    """Nothing is sent in a dry run: name a keystore and switch `dry_run` off."""


class HaltedError(DryRunError):
    """The file that `kill_switch` names exists: remove it when the keeper may sign and send again."""


# What a node that is down, busy or behind raises: worth another try.
NODE_ERRORS: tuple[type[Exception], ...] = (
    requests.RequestException,
    ConnectionError,
    TimeoutError,
    Web3Exception,
    PassingError,
)
