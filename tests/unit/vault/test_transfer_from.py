import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, KEEPER, OWNER, STRANGER, ZERO, World, reverts
from tests.unit.vault.support import SHARES, transfers

FOREVER = 2**256 - 1


@pytest.fixture
def allowed(world: World) -> World:
    """STRANGER may move 10 of ALICE's shares."""
    world.vault.call("approve", STRANGER, 10, sender=ALICE)
    return world


def transfer_from(world: World, amount: int, receiver: str = BOB, sender: str = STRANGER) -> bool:
    return bool(world.vault.call("transferFrom", ALICE, receiver, amount, sender=sender))


def test_moves_and_spends(allowed: World) -> None:
    assert transfer_from(allowed, 4) is True
    assert transfers(allowed.evm, allowed.vault) == [(ALICE, BOB, 4)]
    assert [allowed.vault.call("balanceOf", who) for who in (ALICE, BOB)] == [SHARES - 4, 4]
    assert allowed.vault.call("allowance", ALICE, STRANGER) == 6


def test_does_not_spend_an_infinite_allowance(allowed: World) -> None:
    for allowance, left in [(FOREVER, FOREVER), (FOREVER - 1, FOREVER - 5)]:
        allowed.vault.call("approve", STRANGER, allowance, sender=ALICE)
        transfer_from(allowed, 4)
        assert allowed.vault.call("allowance", ALICE, STRANGER) == left


@pytest.mark.parametrize("caller", [BOB, OWNER, KEEPER, GUARDIAN, ALICE])
def test_without_allowance_reverts(allowed: World, caller: str) -> None:
    with reverts("allowance too low"):
        transfer_from(allowed, 1, sender=caller)


def test_beyond_the_allowance_reverts(allowed: World) -> None:
    with reverts("allowance too low"):
        transfer_from(allowed, 11)
    transfer_from(allowed, 10)


def test_beyond_the_balance_reverts(allowed: World) -> None:
    allowed.vault.call("approve", STRANGER, FOREVER, sender=ALICE)
    with reverts("balance too low"):
        transfer_from(allowed, SHARES + 1)
    transfer_from(allowed, SHARES)


def test_to_nobody_or_the_vault_reverts(allowed: World) -> None:
    for receiver in (ZERO, allowed.vault.address):
        with reverts("receiver not allowed"):
            transfer_from(allowed, 1, receiver=receiver)
    assert allowed.vault.call("allowance", ALICE, STRANGER) == 10
