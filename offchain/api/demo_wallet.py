"""A wallet for the demo's own chain: its key is one that everybody knows, and it exists in demo mode only.

The page finds it as any other wallet (EIP-6963). The browser asks its user, this signs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, cast

from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import TxParams

from offchain.chain.sender import revert_reason

__all__ = ["DemoWallet"]

SCRIPT = Path(__file__).with_name("demo_wallet.js")
UNSUPPORTED, INVALID, INTERNAL = 4200, -32602, -32603


@dataclass
class DemoWallet:
    """Signs with `account` for the local chain of `web3`."""

    web3: Web3
    account: LocalAccount
    _lock: Lock = field(default_factory=Lock)

    def script(self) -> str:
        """What announces it to the page (EIP-6963)."""
        chain_id = hex(self.web3.eth.chain_id)
        return (
            SCRIPT.read_text().replace("__ACCOUNT__", self.account.address).replace("__CHAIN_ID__", chain_id)
        )

    def answer(self, body: bytes) -> dict[str, Any]:
        """A JSON-RPC answer: `result` or `error`."""
        try:
            call = json.loads(body)
            method, params = call["method"], call.get("params") or []
            return {"result": self._run(method, params)}
        except _UnsupportedError as error:
            return {"error": {"code": UNSUPPORTED, "message": str(error)}}
        except Web3Exception as error:
            return {"error": {"code": INTERNAL, "message": revert_reason(error) or "refused"}}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return {"error": {"code": INVALID, "message": "the demo wallet does not understand this"}}

    def _run(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_sendTransaction":
                return self._send(params[0])
            case "personal_sign":
                message = encode_defunct(hexstr=params[0])
                return self.account.sign_message(message).signature.to_0x_hex()
            case "eth_signTypedData_v4":
                data = params[1] if isinstance(params[1], dict) else json.loads(params[1])
                return self.account.sign_message(encode_typed_data(full_message=data)).signature.to_0x_hex()
        raise _UnsupportedError(f"{method}: not in the demo wallet")

    def _send(self, wanted: dict[str, Any]) -> str:
        """Fill in what is missing, sign, send; the hash."""
        if Web3.to_checksum_address(wanted["from"]) != self.account.address:
            raise ValueError("another account")
        with self._lock:  # one nonce at a time
            tx: dict[str, Any] = {
                "from": self.account.address,
                "to": Web3.to_checksum_address(wanted["to"]) if wanted.get("to") else "",
                "data": HexBytes(wanted.get("data") or wanted.get("input") or "0x"),
                "value": int(str(wanted.get("value") or "0x0"), 16),
                "chainId": self.web3.eth.chain_id,
                "nonce": self.web3.eth.get_transaction_count(self.account.address, "pending"),
                **self._fees(),
            }
            tx["gas"] = (
                int(wanted["gas"], 16)
                if wanted.get("gas")
                else self.web3.eth.estimate_gas(cast(TxParams, tx)) * 13 // 10
            )
            signed = self.account.sign_transaction(tx)
            return self.web3.eth.send_raw_transaction(signed.raw_transaction).to_0x_hex()

    def _fees(self) -> dict[str, int]:
        base = self.web3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:
            return {"gasPrice": int(self.web3.eth.gas_price)}
        return {"maxFeePerGas": 2 * int(base) + 10**9, "maxPriorityFeePerGas": 10**9}


class _UnsupportedError(Exception):
    pass
