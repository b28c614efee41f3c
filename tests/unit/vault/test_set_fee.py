import pytest

from tests.support.world import (
    ALICE,
    BOB,
    DAY,
    FEE_RECIPIENT,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    ZERO,
    World,
    reverts,
)
from tests.unit.vault.support import SHARES, SUPPLY, OpenWorld, transfers


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, KEEPER, FEE_RECIPIENT, STRANGER, ALICE])
def test_by_anyone_but_the_timelock_reverts(world: World, caller: str) -> None:
    with reverts("not timelock"):
        world.vault.call("set_fee", 0, FEE_RECIPIENT, sender=caller)


def test_stores_and_records(open_world: OpenWorld) -> None:
    before = open_world.head()
    open_world.as_timelock("set_fee", 300, BOB)
    open_world.assert_recorded(before, "set_fee", ["uint256", "address"], [300, BOB])
    assert (open_world.vault.call("fee_bps"), open_world.vault.call("fee_recipient")) == (300, BOB)


def test_pays_what_is_owed_to_the_old_recipient_at_the_old_rate(open_world: OpenWorld) -> None:
    world = open_world
    world.as_timelock("set_fee", 100, ALICE)
    world.sleep(10 * DAY)
    owed = (SUPPLY + SHARES) * 100 * 10 // 3_650_000
    world.as_timelock("set_fee", 0, BOB)
    assert transfers(world.evm, world.vault) == [(ZERO, ALICE, owed)]
    assert world.vault.call("balanceOf", ALICE) == SHARES + owed
    world.sleep(365 * DAY)
    assert world.vault.call("pending_fee_shares") == 0
    assert world.vault.call("totalSupply") == SUPPLY + SHARES + owed


def test_above_the_cap_reverts(open_world: OpenWorld) -> None:
    with reverts("fee above cap"):
        open_world.as_timelock("set_fee", 301, BOB)
    open_world.as_timelock("set_fee", 300, BOB)


def test_to_nobody_or_the_vault_reverts(open_world: OpenWorld) -> None:
    for recipient in (ZERO, open_world.vault.address):
        with reverts("fee recipient not allowed"):
            open_world.as_timelock("set_fee", 0, recipient)
