import pytest

from tests.support.world import (
    ALICE,
    BOB,
    DAY,
    DELAY,
    FEE_RECIPIENT,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    reverts,
)
from tests.unit.timelock.support import Desk

CHANGE = ("set_role", ALICE, 1)


def test_makes_the_change_and_says_so(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY)
    desk.execute(*CHANGE)
    executed, recorded = desk.evm.events()
    assert (executed.address.lower(), executed.name) == (desk.timelock.address.lower(), "Executed")
    assert executed.fields == {"id": desk.id_of(*CHANGE)}
    assert recorded.name == "RuleChanged"
    assert desk.vault.call("roles", ALICE) == 1
    assert desk.ready_at(*CHANGE) == 0


@pytest.mark.parametrize("early", [DELAY, DAY, 1])
def test_before_the_delay_reverts(desk: Desk, early: int) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY - early)
    with reverts("not ready"):
        desk.execute(*CHANGE)
    desk.sleep(early)
    desk.execute(*CHANGE)


def test_until_14_days_after(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY + 14 * DAY)
    desk.execute(*CHANGE)
    assert desk.vault.call("roles", ALICE) == 1


def test_later_reverts(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY + 14 * DAY + 1)
    with reverts("expired"):
        desk.execute(*CHANGE)
    assert desk.vault.call("roles", ALICE) == 0


def test_of_what_was_not_queued_reverts(desk: Desk) -> None:
    with reverts("not queued"):
        desk.execute(*CHANGE)
    desk.queue("set_role", ALICE, 2)
    desk.sleep(DELAY)
    with reverts("not queued"):
        desk.execute(*CHANGE)


def test_twice_reverts(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY)
    desk.execute(*CHANGE)
    with reverts("not queued"):
        desk.execute(*CHANGE)
    desk.queue(*CHANGE)
    with reverts("not ready"):
        desk.execute(*CHANGE)


@pytest.mark.parametrize("caller", [GUARDIAN, STRATEGIST, KEEPER, STRANGER])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY)
    with reverts("not admin"):
        desk.execute(*CHANGE, sender=caller)


def test_of_a_change_that_is_refused_reverts_with_its_reason_and_leaves_it_queued(desk: Desk) -> None:
    change = ("set_targets", [5_000, 3_000, 2_000])
    for refused, reason in [
        (("set_fee", 301, FEE_RECIPIENT), "fee above cap"),
        (change, "not admin or strategist"),
    ]:
        desk.queue(*refused)
        desk.sleep(DELAY)
        with reverts(reason):
            desk.execute(*refused)
        assert desk.ready_at(*refused) == desk.evm.now
    desk.delayed("set_role", desk.timelock.address, 2)  # now it is a strategist
    desk.execute(*change)


@pytest.mark.parametrize("name", ["pause", "end_quarantine"])
def test_lends_the_admin_no_role(desk: Desk, name: str) -> None:
    desk.queue(name)
    desk.sleep(DELAY)
    with reverts("not guardian"):
        desk.execute(name)


def test_of_no_function_reverts(desk: Desk) -> None:
    data = b"\xde\xad\xbe\xef" + desk.calldata(*CHANGE)[4:]
    desk.queue_data(data)
    desk.sleep(DELAY)
    with reverts("0x"):
        desk.timelock.call("execute", desk.vault.address, data, sender=OWNER)


@pytest.mark.parametrize("inner", ["queue", "execute", "cancel"])
def test_of_itself_is_not_the_admin(desk: Desk, inner: str) -> None:
    """A change that wraps another gives no way round the queue."""
    desk.queue(*CHANGE)
    wrapped = (inner, desk.calldata(*CHANGE))
    desk.queue(*wrapped)
    desk.sleep(DELAY)
    with reverts("not admin or guardian" if inner == "cancel" else "not admin"):
        desk.execute(*wrapped)


def test_is_each_vaults_own(desk: Desk) -> None:
    """Two vaults of one admin: what is queued for one cannot be made for the other."""
    seed = desk.seed
    desk.give(OWNER, seed, spender=desk.factory.address)
    other = desk.factory.call("create_vault", desk.config, seed, b"\x01" * 32, sender=OWNER)
    desk.queue(*CHANGE)
    desk.sleep(DELAY)
    with reverts("not queued"):
        desk.timelock.call("execute", other, desk.calldata(*CHANGE), sender=OWNER)
    desk.execute(*CHANGE)
    assert desk.at("Vault", other).call("roles", ALICE) == 0
    assert desk.vault.call("roles", BOB) == 0
