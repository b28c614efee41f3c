import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import (
    DELAY,
    EXPIRY,
    GUARDIAN,
    HEARTBEAT,
    MAX,
    MIN,
    NEW_GUARDIAN,
    NEW_OWNER,
    OWNER,
    STRANGER,
    ZERO,
)


@pytest.fixture
def data(desk, token, feed) -> bytes:
    return desk.data("set_feed", token, feed.address, HEARTBEAT, MIN, MAX)


@pytest.mark.parametrize("seconds", [0, DELAY, DELAY + EXPIRY + 1], ids=["waiting", "ready", "expired"])
@pytest.mark.parametrize("sender", [OWNER, GUARDIAN], ids=["owner", "guardian"])
def test_drops_a_change(desk, oracle, data, seconds, sender):
    id = oracle.call("queue", data, sender=OWNER)
    desk.wait(seconds)
    oracle.call("cancel", data, sender=sender)
    (event,) = desk.evm.events()
    assert event.name == "Cancelled"
    assert event.fields == {"id": id, "by": sender}
    assert oracle.call("ready_at", id) == 0
    desk.wait(DELAY)
    with pytest.raises(Reverted, match=r"^not queued$"):
        oracle.call("execute", data, sender=OWNER)


def test_lets_it_be_announced_again_with_the_whole_delay(desk, oracle, data):
    oracle.call("queue", data, sender=OWNER)
    desk.wait(DELAY)
    oracle.call("cancel", data, sender=OWNER)
    id = oracle.call("queue", data, sender=OWNER)
    assert oracle.call("ready_at", id) == desk.evm.now + DELAY


@pytest.mark.parametrize("account", [ZERO, NEW_GUARDIAN, GUARDIAN])
def test_reverts_when_the_guardian_would_keep_itself(desk, oracle, account):
    change = desk.data("set_guardian", account)
    oracle.call("queue", change, sender=OWNER)
    with pytest.raises(Reverted, match=r"^own removal$"):
        oracle.call("cancel", change, sender=GUARDIAN)
    oracle.call("cancel", change, sender=OWNER)


def test_of_its_own_removal_is_open_to_an_owner_who_is_guardian(desk, oracle):
    desk.change("set_guardian", OWNER)
    change = desk.data("set_guardian", ZERO)
    oracle.call("queue", change, sender=OWNER)
    oracle.call("cancel", change, sender=OWNER)


@pytest.mark.parametrize("sender", [OWNER, GUARDIAN])
def test_reverts_on_what_is_not_queued(oracle, data, sender):
    with pytest.raises(Reverted, match=r"^not queued$"):
        oracle.call("cancel", data, sender=sender)


@pytest.mark.parametrize("sender", [STRANGER, NEW_OWNER])
def test_reverts_when_neither_owner_nor_guardian(oracle, data, sender):
    oracle.call("queue", data, sender=OWNER)
    oracle.call("transfer_ownership", NEW_OWNER, sender=OWNER)
    with pytest.raises(Reverted, match=r"^not owner or guardian$"):
        oracle.call("cancel", data, sender=sender)


@pytest.mark.parametrize("data", [b"", b"\x00" * 3])
def test_reverts_on_less_than_a_selector(oracle, data):
    with pytest.raises(Reverted, match=r"^not a change$"):
        oracle.call("cancel", data, sender=GUARDIAN)
