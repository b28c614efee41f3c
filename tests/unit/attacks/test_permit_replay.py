"""A permit is used again: once more, at another vault, on another chain, for another spender, after its deadline.

The victim signed 100 shares away and has 1,000: each replay would take another 100.
"""

import pytest

from tests.support.world import OWNER, STRANGER, World
from tests.unit.attacks.permits import SHARES, SIGNED, THIEF, VICTIM, sign, steal, stock


@pytest.fixture
def world() -> World:
    world = World()
    stock(world)
    return world


def test_takes_what_was_signed_and_no_more(world: World):
    deadline = world.evm.now + 60
    signature = sign(world.vault, deadline)
    assert steal(world.vault, signature, deadline) == SIGNED
    for _ in range(3):
        assert steal(world.vault, signature, deadline) == 0
    assert world.vault.call("balanceOf", VICTIM.address) == SHARES - SIGNED


def test_takes_nothing_at_another_vault_of_the_same_name(world: World):
    deadline = world.evm.now + 60
    world.give(OWNER, world.seed, spender=world.factory.address)
    address = world.factory.call("create_vault", world.config, world.seed, b"\x01" * 32, sender=OWNER)
    twin = world.at("Vault", address)
    twin.call("transfer", VICTIM.address, SHARES, sender=OWNER)
    assert twin.call("name") == world.vault.call("name")
    signature = sign(world.vault, deadline)
    assert steal(twin, signature, deadline) == 0
    assert steal(twin, sign(twin, deadline), deadline) == SIGNED
    assert steal(world.vault, signature, deadline) == SIGNED


@pytest.mark.parametrize("chain_id", [0, 2, 10, 42_161])
def test_takes_nothing_on_another_chain(world: World, chain_id):
    deadline = world.evm.now + 60
    assert steal(world.vault, sign(world.vault, deadline, chain_id=chain_id), deadline) == 0
    assert steal(world.vault, sign(world.vault, deadline, chain_id=1), deadline) == SIGNED


def test_takes_nothing_out_of_turn(world: World):
    deadline = world.evm.now + 60
    first, second = (sign(world.vault, deadline, nonce) for nonce in (0, 1))
    assert steal(world.vault, second, deadline) == 0
    assert steal(world.vault, first, deadline) == SIGNED
    assert steal(world.vault, second, deadline) == SIGNED
    assert steal(world.vault, second, deadline) == 0


def test_takes_nothing_for_another_spender_or_amount(world: World):
    deadline = world.evm.now + 60
    signature = sign(world.vault, deadline)
    assert steal(world.vault, signature, deadline, spender=STRANGER) == 0
    assert steal(world.vault, signature, deadline, amount=SHARES) == 0
    assert steal(world.vault, signature, deadline + 1) == 0
    assert steal(world.vault, signature, deadline) == SIGNED


def test_takes_nothing_after_its_deadline(world: World):
    deadline = world.evm.now + 60
    signature = sign(world.vault, deadline)
    world.sleep(61)
    assert steal(world.vault, signature, deadline) == 0
    late = sign(world.vault, world.evm.now)
    assert steal(world.vault, late, world.evm.now) == SIGNED


def test_a_permit_used_by_somebody_else_costs_nobody(world: World):
    """A stranger uses the permit first: the spender then has its allowance, and not twice."""
    deadline = world.evm.now + 60
    signature = sign(world.vault, deadline)
    world.vault.call("permit", VICTIM.address, THIEF, SIGNED, deadline, *signature, sender=STRANGER)
    assert world.vault.call("allowance", VICTIM.address, STRANGER) == 0
    assert steal(world.vault, signature, deadline) == 0
    assert world.vault.call("allowance", VICTIM.address, THIEF) == SIGNED
