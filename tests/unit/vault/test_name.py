"""Name and symbol as they were given, however long; the permit's domain is of that name."""

import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.evm import Contract
from tests.support.world import OWNER, World

NAMES = [
    "",
    "E",
    "x" * 31,
    "y" * 32,
    "z" * 33,
    "Evenkeel, sixty parts shares and forty parts bonds, rebalanced!!",
    "é" * 16,
]


def named(world: World, name: str, symbol: str) -> Contract:
    """Another vault, like the world's but for its name."""
    world.give(OWNER, world.seed, spender=world.factory.address)
    config = (name, symbol, *world.config[2:])
    address = world.factory.call("create_vault", config, world.seed, b"\1" * 32, sender=OWNER)
    return world.at("Vault", address)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symbol", ["", "E", "SIXTEEN LETTERS!"])
def test_is_what_was_given(world: World, name: str, symbol: str) -> None:
    vault = named(world, name, symbol)
    assert (vault.call("name"), vault.call("symbol")) == (name, symbol)


@pytest.mark.parametrize("name", NAMES)
def test_is_the_domains(world: World, name: str) -> None:
    vault = named(world, name, "EVEN")
    kind = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    fields = [kind, keccak(text=name), keccak(text="1"), 1, vault.address]
    domain = keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], fields))
    assert vault.call("DOMAIN_SEPARATOR") == domain
