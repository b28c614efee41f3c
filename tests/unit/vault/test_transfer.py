import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, STRANGER, ZERO, World, reverts
from tests.unit.vault.support import SHARES, SUPPLY, transfers


def transfer(world: World, receiver: str, amount: int, sender: str = ALICE) -> bool:
    return bool(world.vault.call("transfer", receiver, amount, sender=sender))


def test_moves_shares(world: World) -> None:
    assert transfer(world, BOB, 40) is True
    assert transfers(world.evm, world.vault) == [(ALICE, BOB, 40)]
    assert [world.vault.call("balanceOf", who) for who in (ALICE, BOB)] == [SHARES - 40, 40]
    assert world.vault.call("totalSupply") == SUPPLY + SHARES


def test_to_oneself_changes_nothing(world: World) -> None:
    transfer(world, ALICE, SHARES)
    assert world.vault.call("balanceOf", ALICE) == SHARES


def test_of_nothing_is_allowed(world: World) -> None:
    transfer(world, BOB, 0, sender=STRANGER)
    assert transfers(world.evm, world.vault) == [(STRANGER, BOB, 0)]


def test_of_more_than_held_reverts(world: World) -> None:
    with reverts("balance too low"):
        transfer(world, BOB, SHARES + 1)
    transfer(world, BOB, SHARES)


@pytest.mark.parametrize("amount", [0, 1])
def test_to_nobody_or_the_vault_reverts(world: World, amount: int) -> None:
    for receiver in (ZERO, world.vault.address):
        with reverts("receiver not allowed"):
            transfer(world, receiver, amount)


def test_goes_on_while_paused(world: World) -> None:
    world.at_once("pause", sender=GUARDIAN)
    assert transfer(world, BOB, 1)


def test_is_no_flow(world: World) -> None:
    before = world.vault.call("flow_sequence"), world.head()
    transfer(world, BOB, 1)
    assert (world.vault.call("flow_sequence"), world.head()) == before
