"""Where the contracts of a replay stand and what its audit trail begins with: pure arithmetic, the same on every chain.

One account deploys everything in a fixed order, so each address follows from its place (CREATE), the vault's and the
pools' from what they are made of (CREATE2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak

from offchain.audit.chain import GENESIS_TYPES
from offchain.chain.contracts import load_artifact
from offchain.policy import DAY, Asset, Rules

__all__ = [
    "CHAIN_ID",
    "CREATOR",
    "DELAY",
    "DEPLOYER",
    "FEE_RECIPIENT",
    "GUARDIAN",
    "KEEPER",
    "SALT",
    "STRATEGIST",
    "TRADER",
    "Places",
    "config_of",
    "genesis_of",
    "places_of",
    "v2_address",
    "v3_address",
    "vault_address",
]

CHAIN_ID = 1  # pyrevm's
DEPLOYER, CREATOR, KEEPER, STRATEGIST, GUARDIAN, FEE_RECIPIENT, TRADER = (
    "0x" + f"{n:02x}" * 20 for n in range(0xD0, 0xD7)
)  # the creator is the depositor, too; the trader is who brings the pools to the market's prices
DELAY = 2 * DAY  # of the Timelock and the oracle: the least
SALT = bytes(32)
# keccak256 of the pools' creation code, as Uniswap published it
V2_INIT_HASH = bytes.fromhex("96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f")
V3_INIT_HASH = bytes.fromhex("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54")
PROXY_INIT = bytes.fromhex("602d3d8160093d39f3363d3d373d3d3d363d73")  # EIP-1167; the implementation follows
PROXY_END = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses in lower case; tokens and feeds in the order of the assets."""

    tokens: tuple[str, ...]
    hub: str  # one of the tokens, or the cash token outside the basket
    feeds: tuple[str, ...]
    board: str
    oracle: str
    rule_book: str
    timelock: str
    implementation: str
    factory: str
    lens: str
    executor: str
    arbitrageur: str
    v2_factory: str
    v3_factory: str
    v3_positions: str


def places_of(n: int, hub: int | None) -> Places:
    """Of n assets; `hub` is the asset that is the cash token, None for one outside the basket (deployed after them)."""
    deployed = iter(range(128))

    def some(count: int) -> tuple[str, ...]:
        return tuple(_create(DEPLOYER, next(deployed)) for _ in range(count))

    tokens = some(n if hub is not None else n + 1)
    return Places(tokens[:n], tokens[n if hub is None else hub], some(n), *some(12))


def config_of(places: Places, assets: Sequence[Asset], rules: Rules, fee_bps: int) -> tuple[Any, ...]:
    """`Config` of docs/spec.md: what the factory is called with. It reads the decimals from the tokens."""
    rows = [(a.token, 0, *astuple(a)[2:]) for a in assets]
    return (
        "Evenkeel backtest", "REPLAY", rows, astuple(rules), places.oracle, CREATOR, DELAY, GUARDIAN,
        STRATEGIST, [KEEPER], fee_bps, FEE_RECIPIENT,
    )  # fmt: skip


def vault_address(places: Places, config: tuple[Any, ...]) -> str:
    """Of the vault that CREATOR makes with SALT."""
    salt = keccak(encode(["address", "bytes32", "bytes32"], [CREATOR, SALT, _config_hash(config)]))
    code = PROXY_INIT + bytes.fromhex(places.implementation[2:]) + PROXY_END
    return _create2(places.factory, salt, keccak(code))


def genesis_of(places: Places, config: tuple[Any, ...]) -> bytes:
    """The new vault's audit head: chain, vault, code (with the addresses that are part of it) and parameters."""
    runtime = bytes.fromhex(load_artifact("Vault")["deployedBytecode"][2:])
    own = encode(["address"] * 3, [places.implementation, places.rule_book, places.timelock])
    vault = vault_address(places, config)
    return keccak(encode(GENESIS_TYPES, [CHAIN_ID, vault, keccak(runtime + own), _config_hash(config)]))


def v2_address(factory: str, token0: str, token1: str) -> str:
    """Of the Uniswap V2 pair."""
    salt = keccak(bytes.fromhex(token0[2:]) + bytes.fromhex(token1[2:]))
    return _create2(factory, salt, V2_INIT_HASH)


def v3_address(factory: str, token0: str, token1: str, fee: int) -> str:
    """Of the Uniswap V3 pool; `fee` in millionths."""
    salt = keccak(encode(["address", "address", "uint24"], [token0, token1, fee]))
    return _create2(factory, salt, V3_INIT_HASH)


def _config_hash(config: tuple[Any, ...]) -> bytes:
    create = next(e for e in load_artifact("VaultFactory")["abi"] if e.get("name") == "create_vault")
    return keccak(encode([collapse_if_tuple(create["inputs"][0])], [config]))


def _create(deployer: str, nonce: int) -> str:
    """keccak256(rlp([deployer, nonce])), nonce below 128."""
    return "0x" + keccak(b"\xd6\x94" + bytes.fromhex(deployer[2:]) + bytes([nonce or 0x80]))[12:].hex()


def _create2(deployer: str, salt: bytes, code_hash: bytes) -> str:
    return "0x" + keccak(b"\xff" + bytes.fromhex(deployer[2:]) + salt + code_hash)[12:].hex()
