import pytest

from tests.support.evm import Evm
from tests.unit.price_oracle.support import (
    DAY,
    DELAY,
    GUARDIAN,
    OWNER,
    START,
    STRANGER,
    ZERO,
    deploy_reason,
    open_desk,
)


@pytest.fixture
def evm() -> Evm:
    return Evm(START)


def test_sets_the_roles_and_the_delay(evm):
    oracle = open_desk(evm=evm).oracle
    (event,) = evm.events("GuardianSet")
    assert event.fields == {"guardian": GUARDIAN}
    assert oracle.call("owner") == OWNER
    assert oracle.call("pending_owner") == ZERO
    assert oracle.call("guardian") == GUARDIAN
    assert oracle.call("delay_seconds") == DELAY
    assert oracle.call("sequencer_feed") == ZERO
    assert oracle.call("grace_seconds") == 0


def test_sets_the_sequencer_feed(evm):
    feed = open_desk(evm=evm).feed().address
    oracle = open_desk(feed, 3_600, evm=evm).oracle
    assert oracle.call("sequencer_feed") == feed
    assert oracle.call("grace_seconds") == 3_600


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (2 * DAY - 1, "bad delay"),
        (2 * DAY, "nothing"),
        (30 * DAY, "nothing"),
        (30 * DAY + 1, "bad delay"),
        (0, "bad delay"),
    ],
)
def test_reverts_on_a_delay_out_of_range(evm, seconds, reason):
    assert deploy_reason(evm, GUARDIAN, seconds, ZERO, 0) == reason


@pytest.mark.parametrize(
    ("grace", "reason"), [(0, "bad grace"), (1, "nothing"), (DAY, "nothing"), (DAY + 1, "bad grace")]
)
def test_reverts_on_a_grace_out_of_range(evm, grace, reason):
    feed = open_desk(evm=evm).feed().address
    assert deploy_reason(evm, GUARDIAN, DELAY, feed, grace) == reason


def test_reverts_on_a_sequencer_feed_without_code(evm):
    assert deploy_reason(evm, GUARDIAN, DELAY, STRANGER, 3_600) == "feed has no code"


def test_reverts_on_a_grace_without_a_sequencer(evm):
    assert deploy_reason(evm, GUARDIAN, DELAY, ZERO, 3_600) == "no sequencer"
