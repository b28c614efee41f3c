import pytest

from tests.support.evm import DEPLOYER, Contract
from tests.support.world import ALICE, GUARDIAN, OWNER, reverts
from tests.unit.teller.stage import BURN, CASH, HOUR, STOCK, WHOLE, Desk, call


def clone(desk: Desk) -> Contract:
    """A fresh proxy of the teller, which nobody has initialised."""
    target = desk.world.teller_implementation.address
    code = bytes.fromhex(
        "602d3d8160093d39f3363d3d373d3d3d363d73" + target[2:] + "5af43d82803e903d91602b57fd5bf3"
    )
    return desk.world.at("Teller", desk.evm._evm.deploy(DEPLOYER, code))


def arguments(desk: Desk):
    return desk.vault.address, desk.world.tokens[CASH].address, 50, 120, BURN


def test_serves_the_vault_and_the_asset(desk: Desk):
    teller = desk.add_teller(STOCK)
    assert call(teller, "share") == desk.vault.address
    assert call(teller, "asset") == desk.world.tokens[STOCK].address
    assert call(teller, "fees") == (50, 120, BURN)


def test_emits_the_fees(desk: Desk):
    desk.add_teller(CASH)
    (event,) = desk.evm.events("FeesSet")
    assert event.fields == {"floor_bps": 50, "surcharge_bps": 120}


def test_knows_what_the_vault_is_worth_from_the_start(desk: Desk):
    teller = desk.add_teller(CASH)
    desk.world.at_once("pause", sender=GUARDIAN)
    assert call(teller, "totalAssets") == pytest.approx(10**12, rel=1e-9)


def test_reverts_the_second_time(desk: Desk):
    with reverts("already initialized"):
        desk.call("initialize", *arguments(desk))


def test_reverts_on_the_implementation(desk: Desk):
    with reverts("already initialized"):
        call(desk.world.teller_implementation, "initialize", *arguments(desk))


def test_reverts_unless_the_vaults_timelock_calls(desk: Desk):
    teller = clone(desk)
    for sender in (ALICE, OWNER):
        with reverts("not timelock"):
            call(teller, "initialize", *arguments(desk), sender=sender)


@pytest.mark.parametrize("burn", [HOUR - 1, 30 * 86_400 + 1])
def test_reverts_on_a_burn_time_out_of_range(desk: Desk, burn: int):
    with reverts("burn time out of range"):
        desk.add_teller(CASH, burn=burn)


@pytest.mark.parametrize("burn", [HOUR, 30 * 86_400])
def test_accepts_the_ends_of_the_range(desk: Desk, burn: int):
    assert call(desk.add_teller(CASH, burn=burn), "fees")[2] == burn


@pytest.mark.parametrize(("floor", "surcharge"), [(2_001, 0), (0, 2_001), (1_000, 1_001)])
def test_reverts_on_fees_above_the_cap(desk: Desk, floor: int, surcharge: int):
    with reverts("fees above cap"):
        desk.add_teller(CASH, floor, surcharge)


def test_accepts_fees_at_the_cap(desk: Desk):
    assert call(desk.add_teller(CASH, 1_000, 1_000), "fees")[:2] == (1_000, 1_000)


def test_reverts_on_a_token_that_is_no_asset(desk: Desk):
    with reverts("not an asset"):
        desk.world.delayed("add_teller", desk.vault.address, 50, 120, BURN, *WHOLE, True)
