"""An in-process chain for tests: deploy artifacts, call them by name, read revert reasons, set the time.

pyrevm keeps every touched account in memory, so a long test makes a new `Evm` from time to time.

EVENKEEL_CONTRACTS=<path>/contracts takes the contracts from a copy, with a copy of interfaces/ beside it: a test must
fail when a rule is broken there.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyrevm
from eth_abi import decode, encode
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

from scripts import build_artifacts
from scripts.build_artifacts import compile_contract, source_hash

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = Path(os.environ.get("EVENKEEL_CONTRACTS", ROOT / "contracts")).resolve()
build_artifacts.ROOT = CONTRACTS.parent  # where imports are looked up
ARTIFACTS = ROOT / "offchain" / "chain" / "artifacts"
COMPILED = ROOT / "build" / "compiled"
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
def artifact(name: str, evm_version: str = "paris") -> dict[str, Any]:
    """A contract of this project: the committed artifact while it is fresh, else compiled (and kept in build/)."""
    source = next(CONTRACTS.glob(f"**/{name}.vy"))
    digest = source_hash(source)
    committed = ARTIFACTS / f"{name}.json"
    if evm_version == "paris" and committed.exists():
        found: dict[str, Any] = json.loads(committed.read_text())
        if found["sourceHash"] == digest:
            return found
    kept = COMPILED / f"{name}-{evm_version}-{digest[:16]}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(compile_contract(source, evm_version)))
        half.rename(kept)
    found = json.loads(kept.read_text())
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


@dataclass(frozen=True)
class Event:
    """A decoded log: who emitted it, its name, its fields by name, and its data as it was logged."""

    address: str
    name: str
    fields: dict[str, Any]
    data: bytes = field(default=b"", compare=False)


class Evm:
    """A chain with one clock."""

    def __init__(self, now: int = 1_700_000_000, spec_id: str = "MERGE") -> None:
        self._evm = pyrevm.EVM(gas_limit=GAS * 100, spec_id=spec_id)
        self._block = 1
        self._events: dict[bytes, dict[str, Any]] = {}  # ABI entry by topic
        self.set_time(now)

    def set_time(self, now: int) -> None:
        """The next call is in a new block at this timestamp."""
        self.now = now
        self._block += 1
        self._evm.set_block_env(pyrevm.BlockEnv(number=self._block, timestamp=now, gas_limit=GAS * 100))

    def events(self, name: str = "") -> list[Event]:
        """Logs of the last transaction, or those called `name`; of deployed contracts' own kinds."""
        result = self._evm.result
        logs = result.logs if result is not None and result.is_success else []
        known = [log for log in logs if bytes.fromhex(log.topics[0][2:]) in self._events]
        found = [self._decode(log) for log in known]
        return [event for event in found if name in ("", event.name)]

    def _decode(self, log: Any) -> Event:
        entry = self._events[bytes.fromhex(log.topics[0][2:])]
        indexed = [item for item in entry["inputs"] if item["indexed"]]
        plain = [item for item in entry["inputs"] if not item["indexed"]]
        values = {
            item["name"]: decode([collapse_if_tuple(item)], bytes.fromhex(topic[2:]))[0]
            for item, topic in zip(indexed, log.topics[1:], strict=True)
        }
        data = decode([collapse_if_tuple(item) for item in plain], log.data[1])
        values |= {item["name"]: value for item, value in zip(plain, data, strict=True)}
        fields = {item["name"]: values[item["name"]] for item in entry["inputs"]}
        return Event(log.address, entry["name"], fields, bytes(log.data[1]))

    def learn(self, abi: list[dict[str, Any]]) -> None:
        """Decode the events of this ABI from now on."""
        for entry in abi:
            if entry["type"] == "event":
                types = ",".join(collapse_if_tuple(item) for item in entry["inputs"])
                self._events[keccak(text=f"{entry['name']}({types})")] = entry

    @property
    def gas_used(self) -> int:
        """Of the last transaction, calldata and 21,000 included, after refunds."""
        result = self._evm.result
        assert result is not None
        return int(result.gas_used)

    def snapshot(self) -> Any:
        """A checkpoint to `revert` to."""
        return self._evm.snapshot(), self._block, self.now

    def revert(self, snapshot: Any) -> None:
        """Undo everything since `snapshot`, the clock included."""
        checkpoint, self._block, now = snapshot
        self._evm.revert(checkpoint)
        self.set_time(now)

    def deploy(self, compiled: dict[str, Any], *args: Any) -> Contract:
        """A new contract from an artifact."""
        constructor = next((e for e in compiled["abi"] if e["type"] == "constructor"), {"inputs": []})
        code = bytes.fromhex(compiled["bytecode"][2:]) + Function(constructor).encode(*args)
        return Contract(self, self._evm.deploy(DEPLOYER, code), compiled["abi"])

    def at(self, address: str, compiled: dict[str, Any]) -> Contract:
        """A contract that is already there."""
        return Contract(self, address, compiled["abi"])

    def code(self, address: str) -> bytes:
        """The code at an address, without the 33 zeros that pyrevm pads it with."""
        return bytes(self._evm.get_code(address) or b"")[:-33]

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
        evm.learn(abi)
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
