"""Transactions: sign with a local account, send in one place, wait for the receipt.

`Sender.send` is the only function that gives the node a transaction, and it refuses in a dry run.
Signing and sending are apart so that the journal can hold the hash before the node does.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError
from web3.types import TxParams, TxReceipt, Wei

from offchain.chain.errors import ConfigError, DryRunError, TransactionError

__all__ = [
    "Sender",
    "SenderSettings",
    "SignedCall",
    "find_receipt",
    "is_revert",
    "load_account",
    "revert_reason",
]

ALREADY_KNOWN = (
    "already known",
    "known transaction",
    "already imported",
    "nonce too low",
    "already in the pool",
)


class SenderSettings(Protocol):
    """The settings that `Sender.from_settings` reads (offchain.settings.Settings has them)."""

    keystore: Path | None
    password_file: Path | None
    dry_run: bool
    gas_margin_percent: int
    max_fee_gwei: float | None
    receipt_timeout_seconds: float


@dataclass(frozen=True)
class SignedCall:
    """A signed transaction that the node may not know yet."""

    tx_hash: str
    nonce: int
    raw: str  # hex, what eth_sendRawTransaction takes


@dataclass(frozen=True)
class Sender:
    """Signs for one account; without an account, or in a dry run, it sends nothing."""

    web3: Web3
    account: LocalAccount | None = None
    dry_run: bool = False
    gas_margin_percent: int = (
        60  # a Uniswap V2 swap alone costs half as much again once the block time has moved
    )
    max_fee_wei: int | None = None  # a gas unit
    receipt_timeout_seconds: float = 180
    poll_seconds: float = 0.2
    stop: threading.Event = field(default_factory=threading.Event)  # set: wait no longer for receipts

    @classmethod
    def from_settings(cls, web3: Web3, settings: SenderSettings) -> Sender:
        """The sender that the settings describe; reads the keystore if one is named."""
        account = load_account(settings.keystore, settings.password_file) if settings.keystore else None
        max_fee = None if settings.max_fee_gwei is None else int(settings.max_fee_gwei * 10**9)
        return cls(
            web3,
            account,
            dry_run=settings.dry_run,
            gas_margin_percent=settings.gas_margin_percent,
            max_fee_wei=max_fee,
            receipt_timeout_seconds=settings.receipt_timeout_seconds,
        )

    @property
    def sends(self) -> bool:
        """Whether `send` would send."""
        return self.account is not None and not self.dry_run

    def sign(self, call: ContractFunction) -> SignedCall:
        """Sign `call` with the account's next nonce, a gas limit with margin and current fees.

        The account is the keeper's alone: a transaction of it that is still waiting is replaced.
        """
        account = self._account()
        sender: TxParams = {"from": account.address}
        try:
            estimate = call.estimate_gas(sender)
        except (ContractLogicError, Web3RPCError) as error:
            raise TransactionError(f"the node refuses the transaction: {revert_reason(error)}") from error
        gas = estimate * (100 + self.gas_margin_percent) // 100
        gas = min(gas, self.web3.eth.get_block("latest")["gasLimit"])
        nonce = self.web3.eth.get_transaction_count(account.address, "latest")
        tx = call.build_transaction(
            {
                **sender,
                "gas": gas,
                "nonce": nonce,
                "chainId": self.web3.eth.chain_id,
                **self._fees(),
            }
        )
        signed = account.sign_transaction(cast("dict[str, Any]", tx))
        return SignedCall(signed.hash.to_0x_hex(), nonce, signed.raw_transaction.to_0x_hex())

    def send(self, raw: str, tx_hash: str) -> None:
        """Give a signed transaction to the node; one that the node has already is no error."""
        if not self.sends:
            raise DryRunError("dry run: nothing is sent (set keystore, and dry_run to false)", tx_hash)
        try:
            self.web3.eth.send_raw_transaction(raw)  # type: ignore[arg-type]
        except (Web3RPCError, ValueError) as error:
            if any(text in str(error).lower() for text in ALREADY_KNOWN):
                return
            raise TransactionError(
                f"the node refuses the transaction: {revert_reason(error)}", tx_hash
            ) from error

    def wait(self, tx_hash: str) -> TxReceipt | None:
        """The receipt, or None if it has not come within the time-out or before `stop`."""
        give_up = time.monotonic() + self.receipt_timeout_seconds
        while (receipt := find_receipt(self.web3, tx_hash)) is None:
            if time.monotonic() > give_up or self.stop.wait(self.poll_seconds):
                return None
        return receipt

    def _account(self) -> LocalAccount:
        if self.account is None:
            raise DryRunError("keystore: no account is named, so nothing can be signed")
        return self.account

    def _fees(self) -> TxParams:
        """Legacy gas price, or EIP-1559 fees where the chain has a base fee. wei a gas unit."""
        base = self.web3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:
            price = self._within_cap(self.web3.eth.gas_price)
            return {"gasPrice": Wei(price)}
        tip = self.web3.eth.max_priority_fee
        self._within_cap(base + tip)
        most = 2 * base + tip  # room for six full blocks
        if self.max_fee_wei is not None:
            most = min(most, self.max_fee_wei)
        return {"maxFeePerGas": Wei(most), "maxPriorityFeePerGas": Wei(tip)}

    def _within_cap(self, price: int) -> int:
        if self.max_fee_wei is not None and price > self.max_fee_wei:
            raise TransactionError(
                f"max_fee_gwei: gas costs {price / 1e9:.3f} gwei now, above the limit {self.max_fee_wei / 1e9:.3f}"
            )
        return price


def load_account(keystore: Path, password_file: Path | None) -> LocalAccount:
    """The account of an encrypted keystore file."""
    if password_file is None:
        raise ConfigError("password_file: needed to open the keystore")
    try:
        content = json.loads(keystore.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"keystore: cannot read {keystore}: {error}") from None
    try:
        password = password_file.read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"password_file: cannot read {password_file}: {error}") from None
    try:
        key = Account.decrypt(content, password)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"keystore: {keystore} does not open with that password") from None
    account: LocalAccount = Account.from_key(key)
    return account


def find_receipt(web3: Web3, tx_hash: str) -> TxReceipt | None:
    """The receipt if the transaction is mined."""
    try:
        return web3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
    except TransactionNotFound:
        return None


def revert_reason(error: Exception) -> str:
    """The revert string inside a web3 error, else the error's own text."""
    data = _revert_data(error)
    if data is not None and data.startswith("0x08c379a0"):  # Error(string)
        body = bytes.fromhex(data[10:])
        length = int.from_bytes(body[32:64], "big")
        return body[64 : 64 + length].decode(errors="replace")
    text = _error_text(error)
    for prefix in ("execution reverted", "VM Exception while processing transaction: revert"):
        if text.startswith(prefix):
            text = text.removeprefix(prefix).lstrip(": ") or "reverted without a reason"
    return text.strip() or type(error).__name__


def is_revert(error: Exception) -> bool:
    """The call itself failed, not the node."""
    return isinstance(error, ContractLogicError) or "revert" in _error_text(error)


def _rpc_error(error: Exception) -> dict[str, Any]:
    """The `error` member of the node's answer."""
    response: Any = (error.rpc_response or {}) if isinstance(error, Web3RPCError) else {}
    found = response.get("error")
    return found if isinstance(found, dict) else {}


def _error_text(error: Exception) -> str:
    return str(_rpc_error(error).get("message") or getattr(error, "message", None) or error)


def _revert_data(error: Exception) -> str | None:
    """The output of a reverted call: nodes put it in `data`, some a level deeper."""
    found: Any = getattr(error, "data", None) or _rpc_error(error).get("data")
    if isinstance(found, dict):
        found = found.get("result") or found.get("data")
    return found if isinstance(found, str) and found.startswith("0x") else None
