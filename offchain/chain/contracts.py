"""Contract bindings: our own from compiled artifacts, ERC-20 and Uniswap from a few signatures."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract import Contract

from offchain.chain.errors import ConfigError

__all__ = [
    "ERC20",
    "V2_FACTORY",
    "V2_PAIR",
    "V3_FACTORY",
    "V3_POOL",
    "ZERO",
    "address_of",
    "bind",
    "bind_abi",
    "load_artifact",
]

ZERO = "0x0000000000000000000000000000000000000000"


@cache
def load_artifact(name: str) -> dict[str, Any]:
    """`abi`, `bytecode` and `deployedBytecode` of a compiled contract, `Vault` for instance."""
    file = resources.files("offchain.chain") / "artifacts" / f"{name}.json"
    if not file.is_file():
        raise ConfigError(f"no compiled artifact of contract {name}: run `make artifacts`")
    artifact: dict[str, Any] = json.loads(file.read_text())
    return artifact


def address_of(value: str, name: str) -> ChecksumAddress:
    """`value` as a checksummed address; `name` is what the error calls it.

    Mixed case must carry the right checksum, all lower or upper case is taken as it is.
    """
    text = value.strip()
    if not Web3.is_address(text):
        raise ConfigError(f"{name}: {value!r} is not an address; expected 0x and 40 hex digits")
    digits = text[2:]
    mixed_case = digits not in (digits.lower(), digits.upper())
    if mixed_case and not Web3.is_checksum_address(text):
        raise ConfigError(f"{name}: {value!r} has a wrong checksum: is a character mistyped?")
    return Web3.to_checksum_address(text)


def bind(web3: Web3, name: str, address: str) -> Contract:
    """One of our contracts at `address`."""
    return bind_abi(web3, load_artifact(name)["abi"], address)


def bind_abi(web3: Web3, abi: list[dict[str, Any]], address: str) -> Contract:
    """A contract with `abi` at `address`."""
    return web3.eth.contract(address=Web3.to_checksum_address(address), abi=abi)


def _view(name: str, inputs: str, outputs: str) -> dict[str, Any]:
    def params(types: str) -> list[dict[str, str]]:
        return [{"name": "", "type": kind} for kind in types.split(",") if kind]

    return {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": params(inputs),
        "outputs": params(outputs),
    }


ERC20 = [
    _view("symbol", "", "string"),
    _view("decimals", "", "uint8"),
    _view("balanceOf", "address", "uint256"),
    _view("totalSupply", "", "uint256"),
]
V2_FACTORY = [_view("getPair", "address,address", "address")]
V2_PAIR = [
    _view("token0", "", "address"),
    _view("token1", "", "address"),
    _view("getReserves", "", "uint112,uint112,uint32"),
]
V3_FACTORY = [_view("getPool", "address,address,uint24", "address")]
V3_POOL = [
    _view("token0", "", "address"),
    _view("token1", "", "address"),
    _view("fee", "", "uint24"),
    _view("tickSpacing", "", "int24"),
    _view("liquidity", "", "uint128"),
    _view("slot0", "", "uint160,int24,uint16,uint16,uint16,uint8,bool"),
    _view("tickBitmap", "int16", "uint256"),
    _view("ticks", "int24", "uint128,int128,uint256,uint256,int56,uint160,uint32,bool"),
]
