import pytest
from eth_utils import keccak

from tests.support.world import ALICE, DAY, GUARDIAN, KEEPER, OWNER, STRANGER, STRATEGIST, World, reverts
from tests.unit.vault.support import OpenWorld, bare_clone


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER, ALICE])
def test_by_anyone_but_the_timelock_reverts(world: World, caller: str) -> None:
    before = world.vault.call("settings")
    with reverts("not timelock"):
        world.vault.call("configure", "set_rules", b"", before, sender=caller)


def test_stores_every_field(open_world: OpenWorld) -> None:
    given = (
        tuple(world_words(open_world)[:2]),
        open_world.vault.call("settings")[1],
        7 | 1_700_000_100 << 32 | 1_700_000_200 << 72 | 9 << 112 | 1 << 152,
        3 * 10**14 | open_world.evm.now << 128,
        4 * 10**14 | open_world.evm.now << 128,
        STRANGER,
        open_world.evm.now + DAY,
    )
    open_world.as_timelock("configure", "many", b"", given)
    vault = open_world.vault
    assert vault.call("settings") == given
    assert len(vault.call("basket")) == len(vault.call("assets")) == len(vault.call("balances")) == 2
    assert vault.call("session") == (7, 1_700_000_100, 1_700_000_200, 9, True)
    assert vault.call("loss_budget_used") == 3 * 10**14
    assert vault.call("speed_budget_used") == 4 * 10**14
    assert (vault.call("oracle"), vault.call("paused_until")) == (STRANGER, open_world.evm.now + DAY)


def world_words(world: World) -> list[int]:
    return list(world.vault.call("settings")[0])


def test_records_what_it_is_told(open_world: OpenWorld) -> None:
    for name, data in [("set_targets", b""), ("x" * 20, b"\xab" * 1_184)]:
        before = open_world.head()
        open_world.as_timelock("configure", name, data, open_world.vault.call("settings"))
        (event,) = open_world.evm.events()
        assert (event.name, event.address.lower()) == ("RuleChanged", open_world.vault.address.lower())
        assert event.fields == {
            "previous_head": before,
            "kind": 3,
            "name": name,
            "time": open_world.evm.now,
            "data": data,
        }
        assert open_world.head() == keccak(event.data)


def test_of_a_bare_clone_by_others_reverts(world: World) -> None:
    with reverts("not timelock"):
        bare_clone(world).call("configure", "x", b"", world.vault.call("settings"), sender=OWNER)
