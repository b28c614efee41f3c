"""Transactions: priced, signed, and given to a node in one place.

`Sender.send` is the only function that gives a node a transaction. It refuses in a dry run and while the kill switch is
on. Signing and sending are apart so that the journal can hold the transaction before the node does; what the journal
holds, and what becomes of it, is `offchain.keeper.dispatch`'s.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import requests
from eth_typing import ChecksumAddress
from pydantic import SecretStr
from web3 import HTTPProvider, Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BadResponseFormat, ContractLogicError, TransactionNotFound, Web3RPCError
from web3.types import BlockIdentifier, Nonce, RPCEndpoint, TxParams, TxReceipt, Wei

from offchain.chain.errors import (
    ChainError,
    ConfigError,
    DryRunError,
    HaltedError,
    PassingError,
    TransactionError,
)
from offchain.chain.fees import FeeLimits, Fees, fees_now
from offchain.chain.rpc_rules import PANIC, PANICS
from offchain.chain.signer import RemoteSigner, Signer, load_account, load_brownie_account

__all__ = [
    "Relay",
    "RelayUnavailable",
    "Sender",
    "SenderSettings",
    "SignedCall",
    "find_receipt",
    "is_revert",
    "is_underpriced",
    "revert_reason",
]

# What nodes answer to a transaction that they have, or had: geth and Erigon, anvil, Ganache, Nethermind, Besu.
ALREADY_KNOWN = (
    "already known",
    "known transaction",
    "already imported",
    "already in the pool",
    "alreadyknown",
    "existing tx with same hash",
)
# To one whose nonce the chain has used; the journal finds out by whom.
NONCE_USED = ("nonce too low", "nonce is too low", "oldnonce", "doesn't have the correct nonce")
# To one that offers too little, be it to replace another or at all.
UNDERPRICED = (
    "underpriced",
    "feetoolow",
    "fee too low",
    "replacementnotallowed",
    "could not replace",
    "price too low",
)

ERROR = "08c379a0"  # Error(string), what our contracts revert with
NO_REASON = "reverted without a reason"

CONFIRMATIONS = {1: 12, 56: 15, 137: 32, 1337: 1, 31337: 1, 43114: 1}  # blocks, by chain id
OTHER_CONFIRMATIONS = 12
MOST_PENDING = 1_000  # transactions of one account that a node's pool may be believed to hold
COUNTED = 3  # times that the node is asked again for an account's transactions, at most
CANCEL_GAS = 21_000  # a plain transfer, units
ETHER = 10**18


class SenderSettings(Protocol):
    """The settings that `Sender.from_settings` reads (offchain.settings.Settings has them)."""

    keystore: Path | None
    account: str | None
    password_file: Path | None
    signer_url: SecretStr | None
    signer_address: str | None
    dry_run: bool
    kill_switch: Path | None
    gas_margin_percent: int
    max_fee_gwei: float | None
    max_tip_gwei: float | None
    fee_percentile: int
    receipt_timeout_seconds: float
    replace_after_seconds: int
    confirmations: int | None
    daily_gas_limit_native: Decimal | None
    private_rpc_url: SecretStr | None
    private_method: Any
    public_after_blocks: int | None
    rpc_timeout_seconds: float


@dataclass(frozen=True)
class SignedCall:
    """A signed transaction that no node may know yet."""

    tx_hash: str
    nonce: int
    raw: str  # hex, what eth_sendRawTransaction takes
    sender: str  # address
    gas: int  # limit, units
    fees: Fees


class RelayUnavailable(ChainError, ConnectionError):
    """The private relay does not answer: look at private_rpc_url; it is tried again."""


@dataclass(frozen=True)
class Relay:
    """A private way into a block, past the public pool."""

    web3: Web3
    method: str = "eth_sendRawTransaction"  # or eth_sendPrivateTransaction
    public_after_blocks: int | None = None  # then the public node gets it too; None: never

    def send(self, raw: str) -> None:
        """Hand it over. The relay's address and its page of errors, which may hold a key, are in no message."""
        params: list[Any] = [{"tx": raw}] if self.method == "eth_sendPrivateTransaction" else [raw]
        try:
            self.web3.manager.request_blocking(RPCEndpoint(self.method), params)
        except (requests.RequestException, json.JSONDecodeError, BadResponseFormat) as error:
            said = f"private_rpc_url: the relay does not answer ({type(error).__name__})"
            raise RelayUnavailable(said) from None


@dataclass(frozen=True)
class Sender:
    """Signs for one account; without an account, or in a dry run, it sends nothing."""

    web3: Web3
    account: Signer | None = None
    dry_run: bool = False
    gas_margin_percent: int = (
        60  # a Uniswap V2 swap alone costs half as much again once the block time has moved
    )
    max_fee_wei: int | None = None  # a gas unit
    receipt_timeout_seconds: float = 180
    poll_seconds: float = 0.2
    stop: threading.Event = field(default_factory=threading.Event)  # set: wait no longer for receipts
    # a node executes the call some ten times for that; many at a time are too much for Ganache
    estimating: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)
    max_tip_wei: int | None = None  # a gas unit
    fee_percentile: int = 50
    kill_switch: Path | None = None  # while this file exists nothing is signed or sent
    replace_after_seconds: int = 60  # chain time
    confirmations: int | None = None  # blocks; None: what the chain needs
    daily_gas_limit_wei: int | None = None
    relay: Relay | None = None

    @classmethod
    def from_settings(cls, web3: Web3, settings: SenderSettings) -> Sender:
        """The sender that the settings describe; reads the keystore if one is named."""
        daily = settings.daily_gas_limit_native
        return cls(
            web3,
            _signer(settings),
            dry_run=settings.dry_run,
            gas_margin_percent=settings.gas_margin_percent,
            max_fee_wei=_gwei(settings.max_fee_gwei),
            max_tip_wei=_gwei(settings.max_tip_gwei),
            fee_percentile=settings.fee_percentile,
            kill_switch=settings.kill_switch,
            receipt_timeout_seconds=settings.receipt_timeout_seconds,
            replace_after_seconds=settings.replace_after_seconds,
            confirmations=settings.confirmations,
            daily_gas_limit_wei=None if daily is None else int(daily * ETHER),
            relay=_relay(settings),
        )

    # ------------------------------------------------------------ whether

    @property
    def refusal(self) -> str:
        """Why `sign` and `send` would refuse, "" where they would not."""
        if self.account is None:
            return "keystore: no account is named, so nothing can be signed"
        if self.dry_run:
            return "dry run: nothing is sent (set dry_run to false)"
        if self.kill_switch is not None and _exists(self.kill_switch):
            return f"kill_switch: {self.kill_switch} exists, so nothing is signed or sent"
        return ""

    @property
    def sends(self) -> bool:
        """Whether `send` would send."""
        return not self.refusal

    def depth(self, chain_id: int) -> int:
        """How many blocks, its own among them, make a transaction final enough."""
        return self.confirmations or CONFIRMATIONS.get(chain_id, OTHER_CONFIRMATIONS)

    # ------------------------------------------------------------ prepare

    def prepare(self, call: ContractFunction) -> TxParams:
        """`to`, `data`, `value` and a gas limit with margin; TransactionError where the node says it would fail."""
        sender = self._account().address
        try:
            with self.estimating:
                estimate = call.estimate_gas({"from": sender})
        except (ContractLogicError, Web3RPCError) as error:
            raise TransactionError(f"the node refuses the transaction: {revert_reason(error)}") from error
        gas = estimate * (100 + self.gas_margin_percent) // 100
        gas = min(gas, self.web3.eth.get_block("latest")["gasLimit"])
        rest: TxParams = {"gas": gas, "gasPrice": Wei(0), "nonce": Nonce(0), "chainId": 0}
        built = call.build_transaction(rest)
        return {"to": built["to"], "data": built["data"], "value": Wei(0), "gas": gas}

    def nothing(self) -> TxParams:
        """A transfer of nothing to oneself: it only uses its nonce."""
        return {"to": self._account().address, "data": b"", "value": Wei(0), "gas": CANCEL_GAS}

    def fees(self) -> Fees:
        """What gets into a block soon; TransactionError when that is above the limit."""
        return fees_now(self.web3, self.limits, self.fee_percentile)

    @property
    def limits(self) -> FeeLimits:
        """What a gas unit may cost at most."""
        return FeeLimits(self.max_fee_wei, self.max_tip_wei)

    def counts(self) -> tuple[int, int]:
        """The account's transactions in the chain, and with those that wait in the node's pool.

        A nonce rests on them: the node has to say the same twice in a row. PassingError where it does not.
        """
        address = self._account().address
        count = self.web3.eth.get_transaction_count
        said = count(address, "latest"), count(address, "pending")
        for _ in range(COUNTED):
            before, said = said, (count(address, "latest"), count(address, "pending"))
            if said == before:
                break
        else:
            raise PassingError(
                f"the node says another number of transactions of {address} each time: try again"
            )
        mined, pending = said
        if pending > mined + MOST_PENDING:
            raise PassingError(
                f"the node says that {pending - mined} transactions of {address} wait: not believed"
            )
        return mined, max(mined, pending)

    def refused(self, tx: TxParams, block: BlockIdentifier, sender: ChecksumAddress | None = None) -> str:
        """Why the transaction would fail on top of `block`, "" when it goes through.

        A node that knows no pending block is asked for the newest.
        """
        who = sender or self._account().address
        try:
            self.web3.eth.call({"from": who, "to": tx["to"], "data": tx["data"], "gas": tx["gas"]}, block)
        except (ContractLogicError, Web3RPCError) as error:
            if block == "pending" and not is_revert(error):
                return self.refused(tx, "latest", sender)
            return revert_reason(error)
        return ""

    # ------------------------------------------------------------ sign and send

    def sign(self, tx: TxParams, nonce: int, fees: Fees) -> SignedCall:
        """Sign `tx` (as `prepare` makes it) with this nonce and these fees."""
        account = self._account()
        self._check(None)
        whole = {**tx, "nonce": nonce, "chainId": self.web3.eth.chain_id, **fees.fields()}
        signed = account.sign_transaction(whole)
        raw = signed.raw_transaction.to_0x_hex()
        return SignedCall(signed.hash.to_0x_hex(), nonce, raw, account.address, tx["gas"], fees)

    def send(self, raw: str, tx_hash: str, public: bool = False) -> None:
        """Give a signed transaction to the node, or to the private relay unless `public`.

        One that the node has or had already is no error. TransactionError with the node's words otherwise;
        RelayUnavailable where the relay says nothing.
        """
        self._check(tx_hash)
        relay = None if public else self.relay
        try:
            if relay is not None:
                relay.send(raw)
            else:
                self.web3.eth.send_raw_transaction(raw)  # type: ignore[arg-type]
        except (Web3RPCError, ValueError) as error:
            text = str(error).lower()
            if any(known in text for known in ALREADY_KNOWN + NONCE_USED):
                return
            who = "the node" if relay is None else "private_rpc_url: the relay"
            reason = f"{who} refuses the transaction: {revert_reason(error)}"
            raise TransactionError(reason, tx_hash) from error

    def _check(self, tx_hash: str | None) -> None:
        if refusal := self.refusal:
            kind = DryRunError if self.account is None or self.dry_run else HaltedError
            raise kind(refusal, tx_hash)

    def _account(self) -> Signer:
        if self.account is None:
            raise DryRunError(self.refusal)
        return self.account


def is_underpriced(text: str) -> bool:
    """A node's words mean that the transaction offers too little."""
    return any(word in text.lower() for word in UNDERPRICED)


def _signer(settings: SenderSettings) -> Signer | None:
    """Who signs by the settings: at most one of keystore, account and signer_url is set."""
    if settings.keystore is not None:
        return load_account(settings.keystore, settings.password_file)
    if settings.account is not None:
        return load_brownie_account(settings.account, settings.password_file)
    if settings.signer_url is None:
        return None
    if settings.signer_address is None:
        raise ConfigError("signer_address: needed with signer_url, the account that it signs for")
    return RemoteSigner(
        settings.signer_url.get_secret_value(), Web3.to_checksum_address(settings.signer_address)
    )


def _relay(settings: SenderSettings) -> Relay | None:
    if settings.private_rpc_url is None:
        return None
    options = {"timeout": settings.rpc_timeout_seconds}
    provider = HTTPProvider(settings.private_rpc_url.get_secret_value(), request_kwargs=options)
    return Relay(Web3(provider), settings.private_method, settings.public_after_blocks)


def _gwei(amount: float | None) -> int | None:
    return None if amount is None else int(amount * 10**9)


def _exists(path: Path) -> bool:
    """Whether the file is there; one that cannot be looked at counts as there."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def find_receipt(web3: Web3, tx_hash: str) -> TxReceipt | None:
    """The receipt if the transaction is mined."""
    try:
        return web3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
    except TransactionNotFound:
        return None


def revert_reason(error: Exception) -> str:
    """Why the call reverted, of a web3 error: the string, what a panic's code means, a custom error's selector.

    Else the error's own text. Never "".
    """
    if reason := _reason_in(_revert_data(error)):
        return reason
    text = _error_text(error)
    for prefix in ("execution reverted", "VM Exception while processing transaction: revert"):
        if text.startswith(prefix):
            text = text.removeprefix(prefix).lstrip(": ") or NO_REASON
    return text.strip() or type(error).__name__


def _reason_in(data: str | None) -> str:
    """What a reverted call put out, in words; "" where it says nothing."""
    try:
        raw = bytes.fromhex((data or "0x")[2:])
    except ValueError:
        return ""
    selector, body = raw[:4].hex(), raw[4:]
    if selector == ERROR:
        length = int.from_bytes(body[32:64], "big")
        return body[64 : 64 + length].decode(errors="replace") or NO_REASON
    if selector == PANIC:
        code = int.from_bytes(body[:32], "big")
        return f"panic 0x{code:02x}: {PANICS.get(code, 'a code of no known meaning')}"
    return f"custom error 0x{selector}" if len(raw) >= 4 else ""


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
