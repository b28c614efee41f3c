"""open_session(): anyone, while the trigger holds."""

import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.world import GUARDIAN, KEEPER, START, STRANGER, reverts
from tests.unit.stage import CALENDAR, DAY, NOTHING, ON_TARGET, OUT_OF_BAND, PRICES, K, Stage, usd

ENTRY = ["bytes32", "uint256", "uint256", "bool", *("uint256",) * 4, "uint256[]", "uint256[]"]


@pytest.mark.parametrize("sender", [STRANGER, KEEPER])
def test_opens_for_anyone(stage: Stage, sender):
    assert stage.vault.call("open_session", sender=sender) == 1
    assert stage.session() == {
        "id": 1,
        "opened_at": stage.evm.now,
        "closed_at": 0,
        "slot": 1,
        "by_calendar": False,
    }


def test_moves_no_token(stage: Stage):
    stage.open_session()
    assert stage.balances() == OUT_OF_BAND


def test_emits_what_the_head_is_the_hash_of(stage: Stage):
    head = stage.head()
    stage.open_session()
    events = stage.evm.events()
    assert [event.name for event in events] == ["SessionOpened"]
    assert events[0].fields == {
        "previous_head": head,
        "kind": 1,
        "session": 1,
        "by_calendar": False,
        "slot": 1,
        "time": stage.evm.now,
        "supply": 10**24,
        "flow_sequence": 0,
        "prices": PRICES,
        "balances": tuple(OUT_OF_BAND),
    }
    assert stage.head() == keccak(encode(ENTRY, list(events[0].fields.values())))


def test_reverts_while_paused(stage: Stage):
    stage.at_once("pause", sender=GUARDIAN)
    with reverts("paused"):
        stage.open_session()
    stage.delayed("unpause")
    stage.open_session()


def test_reverts_if_a_price_is_not_usable(stage: Stage):
    oracle = stage.script_oracle()
    oracle.call("set_prices", PRICES, [5, 0, 0])
    with reverts("price not usable"):
        stage.open_session()
    oracle.call("set_prices", PRICES, NOTHING)
    stage.open_session()


@pytest.mark.parametrize(
    ("prices", "statuses"),
    [((*PRICES, 1), NOTHING), (PRICES, [0] * 4), (PRICES[:2], NOTHING), (PRICES, [0] * 2)],
)
def test_reverts_if_the_oracle_answers_too_much_or_too_little(stage: Stage, prices, statuses):
    stage.script_oracle().call("set_prices", prices, statuses)
    with reverts("price not usable"):
        stage.open_session()


def test_reverts_without_value(stage: Stage):
    stage.set_balances([0, 0, 0])
    with reverts("no value"):
        stage.open_session()
    stage.set_balances([1, 0, 0])
    stage.open_session()


def test_reverts_without_a_trigger(stage: Stage):
    stage.set_balances(usd(550 * K - 1, 270 * K + 1, 180 * K))
    with reverts("no trigger"):
        stage.open_session()
    stage.set_balances(usd(550 * K, 270 * K, 180 * K))
    stage.open_session()


def test_reverts_while_one_is_open(stage: Stage):
    opened = stage.evm.now
    stage.open_session()
    stage.sleep_until(opened + 2 * DAY - 1)
    with reverts("wrong session"):
        stage.open_session()
    stage.sleep_until(opened + 2 * DAY)
    with reverts("cooldown not over"):
        stage.open_session()
    stage.sleep_until(opened + 3 * DAY)
    assert stage.open_session() == 2


def test_reverts_in_the_cooldown(stage: Stage):
    closed = stage.evm.now
    stage.rebalance(ON_TARGET)
    stage.set_balances(OUT_OF_BAND)
    stage.sleep_until(closed + DAY - 1)
    with reverts("cooldown not over"):
        stage.open_session()
    stage.sleep_until(closed + DAY)
    stage.open_session()


def test_uses_no_calendar_slot():
    """Else anyone could burn a slot while the keeper is away; the rebalance that closes the session uses it."""
    stage = Stage(mode=CALENDAR, calendar_every=30, calendar_anchor=START + DAY)
    stage.sleep_until(START + DAY)
    opened = stage.evm.now
    stage.open_session()
    assert stage.session()["by_calendar"]
    assert stage.session()["slot"] == 0
    stage.sleep_until(opened + 3 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 1
    stage.sleep_until(opened + 5 * DAY)
    with reverts("no trigger"):
        stage.open_session()


def test_the_first_session_waits_for_no_cooldown():
    """However long it is: here 136 years, and as long a window."""
    stage = Stage(window_seconds=2**32 - 1, cooldown_seconds=2**32 - 1)
    assert stage.open_session() == 1
