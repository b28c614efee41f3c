from tests.support.world import ALICE, BOB, OWNER, ZERO, reverts
from tests.unit.timelock.support import Desk


def test_needs_the_delay_and_only_offers(desk: Desk) -> None:
    terms = desk.timelock.call("terms", desk.vault.address)
    desk.assert_needs_the_delay("transfer_admin", ALICE)
    executed, event = desk.evm.events()
    assert (executed.name, event.name) == ("Executed", "AdminTransferStarted")
    assert event.address.lower() == desk.timelock.address.lower()
    assert event.fields == {"vault": desk.vault.address.lower(), "new_admin": ALICE}
    assert desk.timelock.call("pending_admin", desk.vault.address) == ALICE
    assert desk.timelock.call("terms", desk.vault.address) == terms


def test_replaces_an_offer(desk: Desk) -> None:
    desk.delayed("transfer_admin", ALICE)
    desk.delayed("transfer_admin", BOB)
    with reverts("not pending admin"):
        desk.at_once("accept_admin", sender=ALICE)
    desk.at_once("accept_admin", sender=BOB)


def test_withdraws_an_offer(desk: Desk) -> None:
    desk.delayed("transfer_admin", ALICE)
    desk.delayed("transfer_admin", ZERO)
    with reverts("not pending admin"):
        desk.at_once("accept_admin", sender=ALICE)
    assert desk.timelock.call("terms", desk.vault.address)[0] == OWNER
