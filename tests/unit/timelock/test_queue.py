import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.world import (
    ALICE,
    DAY,
    DELAY,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    ZERO,
    reverts,
)
from tests.unit.timelock.support import Desk

CHANGE = ("set_role", ALICE, 1)


def test_announces_the_change(desk: Desk) -> None:
    before = desk.state()
    data = desk.calldata(*CHANGE)
    id_ = desk.queue(*CHANGE)
    (event,) = desk.evm.events()
    assert id_ == keccak(encode(["address", "bytes"], [desk.vault.address, data]))
    assert (event.address.lower(), event.name) == (desk.timelock.address.lower(), "Queued")
    assert event.fields == {
        "id": id_,
        "subject": desk.vault.address.lower(),
        "ready_at": desk.evm.now + DELAY,
        "data": data,
    }
    assert desk.timelock.call("ready_at", id_) == desk.evm.now + DELAY
    assert desk.state() == before


@pytest.mark.parametrize("caller", [GUARDIAN, STRATEGIST, KEEPER, STRANGER])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not admin"):
        desk.queue(*CHANGE, sender=caller)


def test_for_a_vault_of_nobody_reverts(desk: Desk) -> None:
    for caller in (OWNER, STRANGER):
        with reverts("not admin"):
            desk.timelock.call("queue", ALICE, desk.calldata(*CHANGE), sender=caller)


def test_of_another_vaults_change_reverts(desk: Desk) -> None:
    """An admin of one vault cannot reach another through it."""
    desk.timelock.call("register", STRANGER, 2 * DAY, sender=STRANGER)
    with reverts("wrong vault"):
        desk.timelock.call("queue", STRANGER, desk.calldata(*CHANGE), sender=STRANGER)
    other = desk.calldata(*CHANGE)[:4] + encode(["address"], [STRANGER]) + desk.calldata(*CHANGE)[36:]
    with reverts("wrong vault"):
        desk.queue_data(other)
    desk.timelock.call("queue", STRANGER, other, sender=STRANGER)


@pytest.mark.parametrize("length", [0, 4, 35])
def test_of_data_that_names_no_vault_reverts(desk: Desk, length: int) -> None:
    data = desk.calldata("unpause")
    assert len(data) == 36
    with reverts("wrong vault"):
        desk.queue_data(data[:length])
    desk.queue_data(data)


def test_of_more_than_an_address_reverts(desk: Desk) -> None:
    data = bytearray(desk.calldata(*CHANGE))
    data[4] = 1
    with reverts("0x"):
        desk.queue_data(bytes(data))


def test_of_what_waits_already_reverts(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY + 14 * DAY)
    with reverts("already queued"):
        desk.queue(*CHANGE)
    desk.sleep(1)  # expired
    desk.queue(*CHANGE)
    assert desk.ready_at(*CHANGE) == desk.evm.now + DELAY


def test_of_another_change_waits_beside_it(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DAY)
    desk.queue("set_role", ALICE, 2)
    assert desk.ready_at("set_role", ALICE, 2) == desk.ready_at(*CHANGE) + DAY


def test_of_as_much_data_as_fits(desk: Desk) -> None:
    data = desk.calldata("unpause").ljust(4_096, b"\0")
    with reverts("0x"):
        desk.queue_data(data + b"\0")
    desk.queue_data(data)


def test_keeps_the_delay_of_its_time(desk: Desk) -> None:
    desk.queue("set_delay", 30 * DAY)
    desk.sleep(DELAY - 1)
    desk.queue(*CHANGE)
    ready = desk.evm.now + DELAY
    desk.sleep(1)
    desk.execute("set_delay", 30 * DAY)
    assert desk.ready_at(*CHANGE) == ready
    desk.queue("set_role", ALICE, 2)
    assert desk.ready_at("set_role", ALICE, 2) == desk.evm.now + 30 * DAY


def test_by_the_pending_admin_reverts(desk: Desk) -> None:
    desk.delayed("transfer_admin", ALICE)
    with reverts("not admin"):
        desk.queue(*CHANGE, sender=ALICE)
    desk.at_once("accept_admin", sender=ALICE)
    desk.queue(*CHANGE, sender=ALICE)
    assert desk.timelock.call("pending_admin", desk.vault.address) == ZERO
