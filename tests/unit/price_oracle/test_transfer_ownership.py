import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import GUARDIAN, NEW_OWNER, OWNER, STRANGER, ZERO


def test_only_offers(desk, oracle):
    oracle.call("transfer_ownership", NEW_OWNER, sender=OWNER)
    (event,) = desk.evm.events()
    assert event.name == "OwnershipTransferStarted"
    assert event.fields == {"previous_owner": OWNER, "new_owner": NEW_OWNER}
    assert oracle.call("owner") == OWNER
    assert oracle.call("pending_owner") == NEW_OWNER


def test_of_zero_withdraws_an_offer(oracle):
    oracle.call("transfer_ownership", NEW_OWNER, sender=OWNER)
    oracle.call("transfer_ownership", ZERO, sender=OWNER)
    with pytest.raises(Reverted, match=r"^not pending owner$"):
        oracle.call("accept_ownership", sender=NEW_OWNER)


@pytest.mark.parametrize("sender", [STRANGER, GUARDIAN, NEW_OWNER])
def test_reverts_when_not_owner(oracle, sender):
    with pytest.raises(Reverted, match=r"^not owner$"):
        oracle.call("transfer_ownership", NEW_OWNER, sender=sender)
