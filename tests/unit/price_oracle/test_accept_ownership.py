import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import NEW_OWNER, OWNER, STRANGER, ZERO


@pytest.fixture
def offered(oracle):
    oracle.call("transfer_ownership", NEW_OWNER, sender=OWNER)
    return oracle


def test_takes_the_ownership(desk, offered):
    offered.call("accept_ownership", sender=NEW_OWNER)
    (event,) = desk.evm.events()
    assert event.name == "OwnershipTransferred"
    assert event.fields == {"previous_owner": OWNER, "new_owner": NEW_OWNER}
    assert offered.call("owner") == NEW_OWNER
    assert offered.call("pending_owner") == ZERO


def test_ends_the_old_owners_powers(desk, offered):
    offered.call("accept_ownership", sender=NEW_OWNER)
    data = desk.data("set_guardian", ZERO)
    with pytest.raises(Reverted, match=r"^not owner$"):
        offered.call("queue", data, sender=OWNER)
    offered.call("queue", data, sender=NEW_OWNER)


@pytest.mark.parametrize("sender", [OWNER, STRANGER])
def test_reverts_when_not_offered(offered, sender):
    with pytest.raises(Reverted, match=r"^not pending owner$"):
        offered.call("accept_ownership", sender=sender)


def test_reverts_the_second_time(offered):
    offered.call("accept_ownership", sender=NEW_OWNER)
    with pytest.raises(Reverted, match=r"^not pending owner$"):
        offered.call("accept_ownership", sender=NEW_OWNER)
