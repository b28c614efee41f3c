"""open_session(): anyone, while the trigger holds."""

from brownie import chain
from eth_utils import keccak

from tests.unit.stage import CALENDAR, DAY, ON_TARGET, OUT_OF_BAND, PRICES, K, Stage, sleep_until, usd


def test_opens_for_anyone(stage: Stage):
    tx = stage.open_session()
    assert tx.return_value == 1
    assert stage.session()["id"] == 1
    assert stage.session()["opened_at"] == tx.timestamp
    assert stage.session()["closed_at"] == 0
    assert not stage.session()["by_calendar"]


def test_moves_no_token(stage: Stage):
    stage.open_session()
    assert list(stage.vault.balances()) == OUT_OF_BAND


def test_emits_what_the_head_is_the_hash_of(stage: Stage):
    head = stage.vault.head()
    tx = stage.open_session()
    assert [event.name for event in tx.events] == ["SessionOpened"]
    assert dict(tx.events["SessionOpened"]) == {
        "previous_head": head,
        "kind": 1,
        "session": 1,
        "by_calendar": False,
        "slot": stage.session()["slot"],
        "time": tx.timestamp,
        "supply": 10**24,
        "flow_sequence": 0,
        "prices": PRICES,
        "balances": tuple(OUT_OF_BAND),
    }
    assert stage.vault.head() == "0x" + keccak(bytes(tx.logs[0]["data"])).hex()


def test_reverts_while_paused(stage: Stage):
    stage.vault.pause({"from": stage.guardian})
    stage.refuses_to_open("paused")
    stage.vault.unpause({"from": stage.owner})
    stage.open_session()


def test_reverts_if_a_price_is_not_usable(stage: Stage):
    stage.set_prices(PRICES, (5, 0, 0))
    stage.refuses_to_open("price not usable")
    stage.set_prices(PRICES, (0, 0, 0))
    stage.open_session()


def test_reverts_without_value(stage: Stage):
    stage.hold([0, 0, 0])
    stage.refuses_to_open("no value")
    stage.hold([1, 0, 0])
    stage.open_session()


def test_reverts_without_a_trigger(stage: Stage):
    stage.hold(usd(550 * K - 1, 270 * K + 1, 180 * K))
    stage.refuses_to_open("no trigger")
    stage.hold(usd(550 * K, 270 * K, 180 * K))
    stage.open_session()


def test_reverts_while_one_is_open(stage: Stage):
    opened = stage.open_session().timestamp
    sleep_until(opened + 2 * DAY - 60)
    stage.refuses_to_open("wrong session")
    sleep_until(opened + 2 * DAY)
    stage.refuses_to_open("cooldown not over")
    sleep_until(opened + 3 * DAY)
    assert stage.open_session().return_value == 2


def test_reverts_in_the_cooldown(stage: Stage):
    closed = stage.rebalance(ON_TARGET).timestamp
    stage.hold(OUT_OF_BAND)
    sleep_until(closed + DAY - 60)
    stage.refuses_to_open("cooldown not over")
    sleep_until(closed + DAY)
    stage.open_session()


def test_uses_no_calendar_slot(stage: Stage):
    """Else anyone could burn a slot while the keeper is away; the keeper's rebalance uses it."""
    begins = chain.time() + DAY
    stage.set_rules(mode=CALENDAR, calendar_every=30, calendar_anchor=begins)
    sleep_until(begins)
    opened = stage.open_session().timestamp
    assert stage.session()["by_calendar"]
    assert stage.session()["slot"] == 0
    sleep_until(opened + 3 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 1
    sleep_until(opened + 5 * DAY)
    stage.refuses_to_open("no trigger")
