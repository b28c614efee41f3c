import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import (
    DELAY,
    EXPIRY,
    GUARDIAN,
    NEW_GUARDIAN,
    OWNER,
    STRANGER,
    ZERO,
)


@pytest.fixture
def data(desk) -> bytes:
    return desk.data("set_guardian", NEW_GUARDIAN)


@pytest.fixture
def queued(desk, data):
    """The oracle, with a change announced now."""
    desk.oracle.call("queue", data, sender=OWNER)
    return desk.oracle


@pytest.mark.parametrize("seconds", [DELAY, DELAY + EXPIRY])
def test_makes_the_change(desk, queued, data, seconds):
    desk.wait(seconds)
    queued.call("execute", data, sender=OWNER)
    id = keccak(encode(["address", "bytes"], [queued.address, data]))
    executed, changed = desk.evm.events()
    assert (executed.name, executed.fields) == ("Executed", {"id": id})
    assert (changed.name, changed.fields) == ("GuardianSet", {"guardian": NEW_GUARDIAN})
    assert queued.call("guardian") == NEW_GUARDIAN
    assert queued.call("ready_at", id) == 0


@pytest.mark.parametrize("seconds", [0, 1, DELAY - 1])
def test_reverts_before_the_delay_is_over(desk, queued, data, seconds):
    desk.wait(seconds)
    with pytest.raises(Reverted, match=r"^not ready$"):
        queued.call("execute", data, sender=OWNER)


def test_reverts_14_days_after_the_delay(desk, queued, data):
    desk.wait(DELAY + EXPIRY + 1)
    with pytest.raises(Reverted, match=r"^expired$"):
        queued.call("execute", data, sender=OWNER)


def test_reverts_the_second_time(desk, queued, data):
    desk.wait(DELAY)
    queued.call("execute", data, sender=OWNER)
    with pytest.raises(Reverted, match=r"^not queued$"):
        queued.call("execute", data, sender=OWNER)


def test_reverts_on_another_change(desk, queued):
    desk.wait(DELAY)
    with pytest.raises(Reverted, match=r"^not queued$"):
        queued.call("execute", desk.data("set_guardian", STRANGER), sender=OWNER)


def test_reverts_with_the_changes_own_reason_and_can_be_tried_again(desk, oracle, token):
    data = desk.data("set_second_source", token, ZERO, ZERO, 0, 0)
    oracle.call("queue", data, sender=OWNER)
    desk.wait(DELAY)
    for _ in range(2):
        with pytest.raises(Reverted, match=r"^no pool to remove$"):
            oracle.call("execute", data, sender=OWNER)


@pytest.mark.parametrize("sender", [GUARDIAN, STRANGER])
def test_reverts_when_not_owner(desk, queued, data, sender):
    desk.wait(DELAY)
    with pytest.raises(Reverted, match=r"^not owner$"):
        queued.call("execute", data, sender=sender)
