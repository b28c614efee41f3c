"""ERC-7730: what a wallet shows before it signs covers every call and every argument, as the contracts have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

from offchain.chain.contracts import load_artifact
from tests.support.evm import ROOT

FOLDER = ROOT / "deploy" / "erc7730"
CONTRACTS = ("Vault", "Teller", "Zap", "VaultFactory", "Timelock")
# called by our own contracts only: no wallet signs them
INTERNAL = {
    "Vault": {"initialize", "issue", "release", "configure", "set_fee", "set_role", "set_teller"},
    "Teller": {"initialize", "set_fees"},
    "Timelock": {"register"},
}


def described(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"calldata-{name}.json").read_text())["display"]["formats"]
    return found


def calls(name: str) -> list[dict[str, Any]]:
    return [
        entry
        for entry in load_artifact(name)["abi"]
        if entry["type"] == "function"
        and entry["stateMutability"] in ("nonpayable", "payable")
        and entry["name"] not in INTERNAL.get(name, set())
    ]


def selector(signature: str) -> bytes:
    """Of `f(address owner,(uint256 a,uint256 b)[] list)`: names are not part of it."""
    return bytes(keccak(text=re.sub(r"(?<=[\w\])]) \w+(?=[,)])", "", signature))[:4])


def leaves(inputs: list[dict[str, Any]], before: str = "") -> Iterator[str]:
    for item in inputs:
        path = before + item["name"] + (".[]" if item["type"].endswith("[]") else "")
        if item["type"].startswith("tuple"):
            yield from leaves(item["components"], f"{path}.")
        else:
            yield path


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_call_is_described(name: str) -> None:
    ours = {
        bytes(keccak(text=f"{entry['name']}({','.join(collapse_if_tuple(i) for i in entry['inputs'])})")[:4])
        for entry in calls(name)
    }
    assert {selector(signature) for signature in described(name)} == ours


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_argument_is_shown(name: str) -> None:
    wanted: dict[str, set[tuple[str, ...]]] = {}
    for entry in calls(name):
        wanted.setdefault(entry["name"], set()).add(tuple(sorted(leaves(entry["inputs"]))))
    shown: dict[str, set[tuple[str, ...]]] = {}
    for signature, entry in described(name).items():
        paths = [field["path"] for field in entry["fields"]]
        assert sorted(entry["required"]) == sorted(paths)
        shown.setdefault(signature.split("(")[0], set()).add(tuple(sorted(paths)))
    assert shown == wanted


def test_an_unlimited_approval_says_so() -> None:
    approve = described("Vault")["approve(address spender,uint256 amount)"]["fields"]
    permit = json.loads((FOLDER / "eip712-SharePermit.json").read_text())["display"]["formats"]
    for fields in (approve, *(entry["fields"] for entry in permit.values())):
        (limit,) = [field["params"] for field in fields if field["format"] == "tokenAmount"]
        assert (limit["message"], int(limit["threshold"], 16)) == ("Unlimited", 2**256 - 1)
