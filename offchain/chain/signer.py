"""Who signs: an encrypted account file (also brownie's), or a signer elsewhere that is asked over JSON-RPC.

No key, password or address of a signer appears in a message. What a signer elsewhere sends back is read again and
compared field by field with what it was asked for.
"""

from __future__ import annotations

import getpass
import itertools
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.types import TxParams

from offchain.chain.errors import ConfigError, TransactionError

__all__ = ["RemoteSigner", "Signer", "decoded", "load_account", "load_brownie_account"]

BROWNIE_ACCOUNTS = Path(".brownie", "accounts")  # below the home folder
SIGN_METHODS = ("eth_signTransaction", "account_signTransaction")  # web3signer and nodes; clef by itself
METHOD_NOT_FOUND = -32601
SIGNER_SECONDS = 30  # how long a signer elsewhere may take, which may ask a person
_ids = itertools.count(1)


class SignedTransaction(Protocol):
    """What a signer makes."""

    @property
    def hash(self) -> HexBytes:
        """The transaction's hash."""

    @property
    def raw_transaction(self) -> HexBytes:
        """What eth_sendRawTransaction takes."""


class Signer(Protocol):
    """Signs for one address; eth_account's LocalAccount is one."""

    @property
    def address(self) -> ChecksumAddress:
        """Whose transactions they are."""

    def sign_transaction(self, transaction_dict: Any, /) -> SignedTransaction:
        """Sign all of the transaction's fields as they are."""


@dataclass(frozen=True)
class _Signed:
    raw_transaction: HexBytes

    @property
    def hash(self) -> HexBytes:
        return HexBytes(keccak(self.raw_transaction))


@dataclass(frozen=True)
class RemoteSigner:
    """A signer that holds the key elsewhere: web3signer, clef, or a node with an account of its own."""

    url: str = field(repr=False)  # may hold a password
    address: ChecksumAddress
    timeout_seconds: float = SIGNER_SECONDS

    def sign_transaction(self, transaction_dict: TxParams, /) -> SignedTransaction:
        """The signed transaction; TransactionError where the signer is away, declines, or signs something else."""
        asked = {name: _quantity(value) for name, value in transaction_dict.items() if name != "type"}
        answer = self._ask({**asked, "from": self.address})
        raw = answer.get("raw") if isinstance(answer, dict) else answer
        try:
            found = HexBytes(raw)  # type: ignore[arg-type]
            wrong = _differences(transaction_dict, self.address, found)
        except Exception:  # whatever it sent, it is no transaction
            raise TransactionError("signer_url: what the signer sent is no signed transaction") from None
        if wrong:
            raise TransactionError(f"signer_url: the signer signed something else: {', '.join(wrong)}")
        return _Signed(found)

    def _ask(self, transaction: dict[str, Any]) -> Any:
        said: Any = None
        for method in SIGN_METHODS:
            body = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": [transaction]}
            try:
                answer = requests.post(self.url, json=body, timeout=self.timeout_seconds).json()
            except (requests.RequestException, ValueError) as error:
                raise TransactionError(f"signer_url: no answer ({type(error).__name__})") from None
            if not isinstance(answer, dict):
                break
            said = answer.get("error")
            if not said:
                return answer.get("result")
            if not isinstance(said, dict) or said.get("code") != METHOD_NOT_FOUND:
                break
        reason = said.get("message") if isinstance(said, dict) else said
        raise TransactionError(f"signer_url: the signer declines: {reason}")


def decoded(raw: str | bytes) -> dict[str, Any]:
    """A signed transaction's fields by their names in JSON-RPC; ValueError where it is none of a kind sent here."""
    data = bytes(HexBytes(raw))
    number = _number
    if data[:1] == b"\x02":
        chain, nonce, tip, most, gas, to, value, call, access, *_ = rlp.decode(data[1:])
        found = {"chainId": number(chain), "maxPriorityFeePerGas": number(tip), "maxFeePerGas": number(most)}
        if access:
            raise ValueError("an access list")
    elif data[:1] >= b"\xc0":
        nonce, price, gas, to, value, call, v, *_ = rlp.decode(data)
        found = {"chainId": (number(v) - 35) // 2, "gasPrice": number(price)}  # EIP-155
    else:
        raise ValueError("a transaction of another type")
    return {
        **found,
        "nonce": number(nonce),
        "gas": number(gas),
        "to": Web3.to_checksum_address(to),
        "value": number(value),
        "data": HexBytes(call),
    }


def load_account(keystore: Path, password_file: Path | None, setting: str = "keystore") -> LocalAccount:
    """The account of an encrypted keystore file."""
    if password_file is None and not sys.stdin.isatty():
        raise ConfigError(f"password_file: needed to open the {setting}: there is no terminal to ask at")
    try:
        content = json.loads(keystore.read_text())
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {keystore}: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "crypto" not in map(str.lower, content):
        raise ConfigError(
            f"{setting}: {keystore} is no encrypted account file: JSON with a key crypto, as geth, clef, brownie and"
            " ethers make it"
        )
    password = _password(keystore, password_file)
    try:
        key = Account.decrypt(content, password)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{setting}: {keystore} does not open with that password") from None
    account: LocalAccount = Account.from_key(key)
    return account


def _password(keystore: Path, password_file: Path | None) -> str:
    """From the file, or asked for where there is a terminal; it is in no argument and no variable."""
    if password_file is None:
        return getpass.getpass(f"Password of {keystore}: ")
    try:
        return password_file.read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"password_file: cannot read {password_file}: {getattr(error, 'strerror', None) or 'not text'}"
        ) from None


def load_brownie_account(name: str, password_file: Path | None) -> LocalAccount:
    """The account that brownie keeps by this name (`brownie accounts list`)."""
    folder = Path.home() / BROWNIE_ACCOUNTS
    path = folder / f"{name}.json"
    if not re.fullmatch(r"[\w.-]+", name) or not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
        raise ConfigError(f"account: brownie has no account {name!r} (it has: {names})")
    return load_account(path, password_file, "account")


def _differences(asked: Mapping[str, Any], address: str, raw: HexBytes) -> list[str]:
    """Names of what the signed transaction says otherwise than it was asked to."""
    found = decoded(raw)
    wanted = {name: value for name, value in asked.items() if name not in ("from", "type", "accessList")}
    wanted["data"] = HexBytes(wanted.get("data", b""))
    wrong = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    return wrong + ([] if Account.recover_transaction(raw) == address else ["from"])


def _quantity(value: Any) -> Any:
    """Integers and bytes as JSON-RPC has them."""
    if isinstance(value, bytes):
        return "0x" + bytes(value).hex()
    return hex(value) if isinstance(value, int) else value


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
