"""A vault's address follows from factory, implementation, creator, salt and config: CREATE2."""

import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.basket import Basket
from tests.support.evm import DEPLOYER, Evm, Function, artifact
from tests.support.world import STRANGER, WAD, reverts

SEEDS = [100 * WAD, 100 * WAD]
SALT = b"\x07" * 32


@pytest.fixture
def basket():
    evm = Evm()
    tokens = [evm.deploy(artifact("TestToken"), name, name, 18) for name in ("CASH", "STOCK")]
    return Basket(evm, tokens, [WAD, WAD], salt=SALT)


def predicted(basket, creator=DEPLOYER):
    entry = next(e for e in basket.factory.abi if e.get("name") == "create_vault")
    config_type = Function(entry).inputs[0]
    config_hash = keccak(encode([config_type], [basket.config()]))
    salt = keccak(encode(["address", "bytes32", "bytes32"], [creator, basket.salt, config_hash]))
    implementation = basket.implementation.address[2:]
    proxy = f"602d3d8160093d39f3363d3d373d3d3d363d73{implementation}5af43d82803e903d91602b57fd5bf3"
    code = keccak(bytes.fromhex(proxy))
    place = bytes.fromhex(basket.factory.address[2:])
    return "0x" + keccak(b"\xff" + place + salt + code)[12:].hex()


def test_is_the_address_of_the_vault(basket):
    expected = predicted(basket)
    assert basket.create(SEEDS).address == expected


def test_differs_by_creator_salt_and_config(basket):
    addresses = {predicted(basket), predicted(basket, STRANGER)}
    basket.salt = bytes(32)
    addresses.add(predicted(basket))
    basket.fee_bps = 1
    addresses.add(predicted(basket))
    assert len(addresses) == 4
    assert basket.create(SEEDS).address in addresses


def test_another_creator_cannot_take_it(basket):
    """A stranger's creation with the same salt and config lands elsewhere, and does not hinder the creator."""
    expected = predicted(basket)
    for token, seed in zip(basket.tokens, SEEDS, strict=True):
        token.call("mint", STRANGER, seed)
        token.call("approve", basket.factory.address, seed, sender=STRANGER)
    args = (basket.config(), SEEDS, SALT)
    assert basket.factory.call("create_vault", *args, sender=STRANGER) == predicted(basket, STRANGER)
    assert basket.create(SEEDS).address == expected


def test_tokens_sent_there_before_do_not_hinder_the_creation(basket):
    """They are the creator's gain: they count as seed."""
    basket.tokens[0].call("mint", predicted(basket), 5 * WAD)
    vault = basket.create(SEEDS)
    assert vault.call("totalSupply") == 205 * WAD


def test_twice_the_same_reverts(basket):
    basket.create(SEEDS)
    before = basket.factory.call("vault_count")
    with reverts("0x"):
        basket.create(SEEDS)
    assert basket.factory.call("vault_count") == before == 1
