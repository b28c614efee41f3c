"""An in-process chain for tests: deploy artifacts, call them by name, read revert reasons, set the time.

pyrevm keeps every touched account in memory, so a long test makes a new `Evm` from time to time.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pyrevm
from eth_abi import decode, encode
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "offchain" / "chain" / "artifacts"
UNISWAP = ROOT / "node_modules" / "@uniswap"
DEPLOYER = "0x" + "d0" * 20
GAS = 30_000_000
ERROR_STRING = keccak(text="Error(string)")[:4]


class Reverted(Exception):
    """A call reverted; `reason` is its revert string, or the raw output in hex when it has none."""

    def __init__(self, output: bytes) -> None:
        is_string = output[:4] == ERROR_STRING
        self.reason: str = decode(["string"], output[4:])[0] if is_string else "0x" + output.hex()
        super().__init__(self.reason)


@cache
def artifact(name: str) -> dict[str, Any]:
    """A compiled contract of this project, as `make artifacts` wrote it."""
    found: dict[str, Any] = json.loads((ARTIFACTS / f"{name}.json").read_text())
    return found


@cache
def uniswap_artifact(path: str) -> dict[str, Any]:
    """A contract of Uniswap's npm packages, as they published it."""
    found: dict[str, Any] = json.loads((UNISWAP / path).read_text())
    if "evm" in found:  # V2 keeps the compiler's own layout
        found["bytecode"] = "0x" + found["evm"]["bytecode"]["object"]
    return found


class Function:
    """One function's selector and codec."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.inputs = [collapse_if_tuple(item) for item in entry["inputs"]]
        self.outputs = [collapse_if_tuple(item) for item in entry.get("outputs", [])]
        signature = f"{entry['name']}({','.join(self.inputs)})" if "name" in entry else ""
        self.selector = keccak(text=signature)[:4] if signature else b""  # a constructor has none

    def encode(self, *args: Any) -> bytes:
        return self.selector + encode(self.inputs, args)


class Evm:
    """A chain with one clock."""

    def __init__(self, now: int = 1_700_000_000) -> None:
        self._evm = pyrevm.EVM(gas_limit=GAS * 100, spec_id="MERGE")
        self._block = 1
        self.set_time(now)

    def set_time(self, now: int) -> None:
        """The next call is in a new block at this timestamp."""
        self.now = now
        self._block += 1
        self._evm.set_block_env(pyrevm.BlockEnv(number=self._block, timestamp=now, gas_limit=GAS * 100))

    def deploy(self, compiled: dict[str, Any], *args: Any) -> Contract:
        """A new contract from an artifact."""
        constructor = next((e for e in compiled["abi"] if e["type"] == "constructor"), {"inputs": []})
        code = bytes.fromhex(compiled["bytecode"][2:]) + Function(constructor).encode(*args)
        return Contract(self, self._evm.deploy(DEPLOYER, code), compiled["abi"])

    def at(self, address: str, compiled: dict[str, Any]) -> Contract:
        """A contract that is already there."""
        return Contract(self, address, compiled["abi"])

    def call(self, sender: str, to: str, data: bytes) -> bytes:
        """Raw output of a transaction; Reverted when it fails."""
        try:
            return bytes(self._evm.message_call(sender, to, data, gas=GAS))
        except RuntimeError as error:
            result = self._evm.result
            if result is not None and result.is_halt:
                raise
            raise Reverted(_revert_output(error)) from None


class Contract:
    """A deployed contract: `contract.call("name", *args, sender=...)`."""

    def __init__(self, evm: Evm, address: str, abi: list[dict[str, Any]]) -> None:
        self.evm = evm
        self.address = address
        self.abi = abi
        self._functions: dict[str, Function] = {}

    def call(self, name: str, *args: Any, sender: str = DEPLOYER) -> Any:
        """The decoded output: a value, a tuple of several, or None."""
        function = self._functions.get(name) or self._find(name)
        output = decode(function.outputs, self.evm.call(sender, self.address, function.encode(*args)))
        return output[0] if len(output) == 1 else (output or None)

    def _find(self, name: str) -> Function:
        entry = next(e for e in self.abi if e["type"] == "function" and e["name"] == name)
        self._functions[name] = Function(entry)
        return self._functions[name]


def _revert_output(error: RuntimeError) -> bytes:
    """pyrevm reports the output as hex inside its message."""
    text = str(error)
    start = text.find("0x")
    end = start + 2
    while end < len(text) and text[end] in "0123456789abcdefABCDEF":
        end += 1
    return bytes.fromhex(text[start + 2 : end]) if start >= 0 else b""
