import pytest

from tests.support.world import ALICE, BOB, DELAY, FEE_RECIPIENT, ZERO, reverts
from tests.unit.timelock.support import EVERYONE, Desk


@pytest.fixture
def offered(desk: Desk) -> Desk:
    """To ALICE."""
    desk.delayed("transfer_admin", ALICE)
    return desk


def test_takes_the_role_and_says_so(offered: Desk) -> None:
    offered.at_once("accept_admin", sender=ALICE)
    (event,) = offered.evm.events()
    assert (event.name, event.address.lower()) == ("AdminTransferred", offered.timelock.address.lower())
    assert event.fields == {"vault": offered.vault.address.lower(), "new_admin": ALICE}
    assert offered.timelock.call("terms", offered.vault.address) == (ALICE, DELAY)
    assert offered.timelock.call("pending_admin", offered.vault.address) == ZERO


def test_takes_it_from_the_former_admin(offered: Desk) -> None:
    offered.queue("set_role", BOB, 1)
    offered.at_once("accept_admin", sender=ALICE)
    with reverts("not admin"):
        offered.queue("set_role", BOB, 2)
    offered.sleep(DELAY)
    with reverts("not admin"):
        offered.execute("set_role", BOB, 1)
    with reverts("not admin or guardian"):
        offered.cancel("set_role", BOB, 1)
    with reverts("not admin"):
        offered.at_once("set_fee", 0, FEE_RECIPIENT)
    offered.execute("set_role", BOB, 1, sender=ALICE)  # what was announced stands


@pytest.mark.parametrize("caller", [*EVERYONE, BOB])
def test_by_others_reverts(offered: Desk, caller: str) -> None:
    with reverts("not pending admin"):
        offered.at_once("accept_admin", sender=caller)


def test_twice_reverts(offered: Desk) -> None:
    offered.at_once("accept_admin", sender=ALICE)
    with reverts("not pending admin"):
        offered.at_once("accept_admin", sender=ALICE)


def test_without_an_offer_reverts(desk: Desk) -> None:
    with reverts("not pending admin"):
        desk.at_once("accept_admin", sender=ALICE)


def test_of_another_vault_reverts(offered: Desk) -> None:
    with reverts("not pending admin"):
        offered.timelock.call("accept_admin", BOB, sender=ALICE)
