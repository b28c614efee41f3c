from tests.support.world import ALICE, BOB, STRANGER, World


def test_sets_the_allowance(world: World) -> None:
    assert world.vault.call("approve", STRANGER, 5, sender=ALICE) is True
    (event,) = world.evm.events()
    assert (event.address.lower(), event.name) == (world.vault.address.lower(), "Approval")
    assert event.fields == {"owner": ALICE, "spender": STRANGER, "value": 5}
    assert world.vault.call("allowance", ALICE, STRANGER) == 5
    assert world.vault.call("allowance", STRANGER, ALICE) == 0
    assert world.vault.call("allowance", BOB, STRANGER) == 0


def test_replaces_what_was_there(world: World) -> None:
    for amount in (5, 3, 0, 2**256 - 1):
        world.vault.call("approve", STRANGER, amount, sender=ALICE)
        assert world.vault.call("allowance", ALICE, STRANGER) == amount
