"""From one signature anyone can make a second that is valid too, and some code takes garbage for the zero address's.

(r, -s) with the other v signs the same. Whoever tells used signatures by their bytes is fooled; here the twin is
refused, so that a permit has one form. The victim has 1,000 shares; a forged permit would take them all.
"""

import pytest

from tests.support.world import ZERO, World, reverts
from tests.unit.attacks.permits import ORDER, SIGNED, THIEF, VICTIM, Signature, sign, steal, stock


@pytest.fixture
def world() -> World:
    world = World()
    stock(world)
    return world


def twin(signature: Signature) -> Signature:
    v, r, s = signature
    return 55 - v, r, (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")


def test_the_twin_is_refused_before_and_after(world: World):
    deadline = world.evm.now
    signature = sign(world.vault, deadline)
    assert steal(world.vault, twin(signature), deadline) == 0
    assert world.vault.call("nonces", VICTIM.address) == 0
    assert steal(world.vault, signature, deadline) == SIGNED
    assert steal(world.vault, twin(signature), deadline) == 0


def test_twin_of_the_twin_is_the_signature(world: World):
    """So that the twin above is a valid one but for its form."""
    signature = sign(world.vault, world.evm.now)
    assert twin(twin(signature)) == signature
    assert int.from_bytes(twin(signature)[2], "big") > ORDER // 2


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 35, 36, 255])
def test_another_v_is_refused(world: World, v):
    deadline = world.evm.now
    _, r, s = sign(world.vault, deadline)
    assert steal(world.vault, (v, r, s), deadline) == 0


@pytest.mark.parametrize("v", [0, 26, 27, 28])
def test_garbage_is_nobodys_permit(world: World, v):
    """ecrecover answers nothing to garbage: that must not be taken for the zero address, nor for any other owner."""
    deadline = world.evm.now
    for r, s in ((bytes(32), bytes(32)), (b"\xff" * 32, b"\x01" * 32), (b"\x01" * 32, bytes(32))):
        for owner in (ZERO, VICTIM.address):
            with reverts("invalid signature"):
                world.vault.call("permit", owner, THIEF, 1, deadline, v, r, s, sender=THIEF)
    assert world.vault.call("allowance", ZERO, THIEF) == 0


def test_a_contract_owner_is_asked_in_one_form(world: World):
    """ERC-1271: a wallet that approves the digest is enough; one that does not, or breaks, is not."""
    deadline = world.evm.now
    wallet = world.deploy("ScriptedWallet")
    with reverts("invalid signature"):
        world.vault.call("permit", wallet.address, THIEF, 1, deadline, *sign(world.vault, deadline))
    assert world.vault.call("nonces", wallet.address) == 0
