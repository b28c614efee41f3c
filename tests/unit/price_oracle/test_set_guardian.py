import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import GUARDIAN, NEW_GUARDIAN, OWNER, STRANGER, ZERO


@pytest.mark.parametrize("account", [NEW_GUARDIAN, ZERO])
def test_changes_the_guardian_after_the_delay(desk, oracle, account):
    desk.change("set_guardian", account)
    (event,) = desk.evm.events("GuardianSet")
    assert event.fields == {"guardian": account}
    assert oracle.call("guardian") == account


def test_moves_the_veto(desk, oracle, token):
    desk.change("set_guardian", NEW_GUARDIAN)
    data = desk.data("set_feed", token, ZERO, 0, 0, 0)
    oracle.call("queue", data, sender=OWNER)
    with pytest.raises(Reverted, match=r"^not owner or guardian$"):
        oracle.call("cancel", data, sender=GUARDIAN)
    oracle.call("cancel", data, sender=NEW_GUARDIAN)


@pytest.mark.parametrize("sender", [OWNER, GUARDIAN, STRANGER])
def test_reverts_outside_the_queue(oracle, sender):
    with pytest.raises(Reverted, match=r"^not queued$"):
        oracle.call("set_guardian", NEW_GUARDIAN, sender=sender)
