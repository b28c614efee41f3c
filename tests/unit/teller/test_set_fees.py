import pytest

from tests.support.world import ALICE, OWNER, reverts
from tests.unit.teller.stage import BURN, CASH, USD, WHOLE, Desk, call


def set_fees(desk: Desk, floor: int, surcharge: int) -> None:
    """As the vault's admin does it."""
    desk.world.delayed("set_teller", desk.tellers[CASH].address, floor, surcharge, *WHOLE, True)


def test_replaces_floor_and_surcharge_and_nothing_else(desk: Desk):
    set_fees(desk, 70, 200)
    assert desk.call("fees") == (70, 200, BURN)
    assert desk.call("share") == desk.vault.address


def test_is_what_the_next_flow_pays(desk: Desk):
    set_fees(desk, 70, 0)
    assert desk.call("deposit", 1_000 * USD[CASH], ALICE) == 1_000 * 9_930 * 10**14


def test_emits_the_fees(desk: Desk):
    set_fees(desk, 70, 200)
    (event,) = desk.evm.events("FeesSet")
    assert event.fields == {"floor_bps": 70, "surcharge_bps": 200}


@pytest.mark.parametrize("sender", [ALICE, OWNER])
def test_reverts_for_anyone_else(desk: Desk, sender: str):
    desk.refuses("not timelock", "set_fees", 70, 200, sender=sender)


def test_reverts_on_the_implementation(desk: Desk):
    with reverts("not timelock"):
        call(desk.world.teller_implementation, "set_fees", 0, 0)


@pytest.mark.parametrize(("floor", "surcharge"), [(2_001, 0), (0, 2_001), (1_000, 1_001)])
def test_reverts_on_fees_above_the_cap(desk: Desk, floor: int, surcharge: int):
    with reverts("fees above cap"):
        set_fees(desk, floor, surcharge)
