import pytest
from eth_abi import encode
from eth_utils import keccak

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
def data(desk) -> bytes:
    return desk.data("set_guardian", NEW_GUARDIAN)


def test_announces_a_change(desk, oracle, data):
    id = oracle.call("queue", data, sender=OWNER)
    (event,) = desk.evm.events()
    assert event.name == "Queued"
    assert event.fields == {
        "id": id,
        "subject": oracle.address.lower(),
        "ready_at": desk.evm.now + DELAY,
        "data": data,
    }
    assert id == keccak(encode(["address", "bytes"], [oracle.address, data]))
    assert oracle.call("ready_at", id) == desk.evm.now + DELAY


def test_changes_nothing(desk, oracle, data):
    oracle.call("queue", data, sender=OWNER)
    desk.wait(DELAY)
    assert oracle.call("guardian") == GUARDIAN


def test_takes_each_change_there_is(desk, oracle):
    for name, args in (
        ("set_feed", (STRANGER, ZERO, 0, 0, 0)),
        ("set_second_source", (STRANGER, ZERO, ZERO, 0, 0)),
        ("set_guardian", (ZERO,)),
    ):
        oracle.call("queue", desk.data(name, *args), sender=OWNER)


def test_takes_several_changes_at_once(desk, oracle, token, feed):
    changes = [desk.data("set_feed", token, feed.address, HEARTBEAT, MIN, MAX + i) for i in range(3)]
    ids = {oracle.call("queue", change, sender=OWNER) for change in changes}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("transfer_ownership", (NEW_OWNER,)),
        ("accept_ownership", ()),
        ("queue", (b"\x00" * 4,)),
        ("execute", (b"\x00" * 4,)),
        ("cancel", (b"\x00" * 4,)),
        ("prices", ([],)),
    ],
)
def test_reverts_on_other_calls(desk, oracle, name, args):
    with pytest.raises(Reverted, match=r"^not a change$"):
        oracle.call("queue", desk.data(name, *args), sender=OWNER)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00" * 3])
def test_reverts_on_less_than_a_selector(oracle, data):
    with pytest.raises(Reverted, match=r"^not a change$"):
        oracle.call("queue", data, sender=OWNER)


@pytest.mark.parametrize("seconds", [0, DELAY - 1, DELAY, DELAY + EXPIRY])
def test_reverts_while_the_same_change_waits(desk, oracle, data, seconds):
    oracle.call("queue", data, sender=OWNER)
    desk.wait(seconds)
    with pytest.raises(Reverted, match=r"^already queued$"):
        oracle.call("queue", data, sender=OWNER)


def test_takes_an_expired_change_again_with_the_whole_delay(desk, oracle, data):
    oracle.call("queue", data, sender=OWNER)
    desk.wait(DELAY + EXPIRY + 1)
    id = oracle.call("queue", data, sender=OWNER)
    assert oracle.call("ready_at", id) == desk.evm.now + DELAY


def test_takes_a_change_again_once_it_is_made(desk, oracle, data):
    desk.change("set_guardian", NEW_GUARDIAN)
    id = oracle.call("queue", data, sender=OWNER)
    assert oracle.call("ready_at", id) == desk.evm.now + DELAY


@pytest.mark.parametrize("sender", [GUARDIAN, STRANGER])
def test_reverts_when_not_owner(oracle, data, sender):
    with pytest.raises(Reverted, match=r"^not owner$"):
        oracle.call("queue", data, sender=sender)
