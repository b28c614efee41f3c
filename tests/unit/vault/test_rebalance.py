"""rebalance(): who may, when, every refusal with its accepted neighbour, what is recorded."""

from datetime import UTC, datetime

import brownie
import pytest
from brownie import chain
from eth_utils import keccak

from tests.unit.stage import (
    ALL,
    BOTH,
    CALENDAR,
    DAY,
    DECISION,
    EITHER,
    MONTHS,
    ON_TARGET,
    OUT_OF_BAND,
    PRICES,
    THRESHOLD,
    K,
    Stage,
    sleep_until,
    usd,
)

# The call itself


def test_reverts_if_not_keeper(stage: Stage):
    stage.refuses("not keeper", ON_TARGET, sender=stage.owner)
    stage.rebalance(ON_TARGET, sender=stage.keeper)


def test_reverts_after_the_deadline(stage: Stage):
    stage.refuses("deadline passed", ON_TARGET, deadline=chain.time() - 10)
    stage.rebalance(ON_TARGET, deadline=chain.time() + 600)


def test_reverts_while_paused(stage: Stage):
    stage.vault.pause({"from": stage.guardian})
    stage.refuses("paused", ON_TARGET)
    stage.vault.unpause({"from": stage.owner})
    stage.rebalance(ON_TARGET)


def test_pause_ends_by_itself(stage: Stage):
    stage.vault.pause({"from": stage.guardian})
    sleep_until(stage.vault.paused_until() - 60)
    stage.refuses("paused", ON_TARGET)
    sleep_until(stage.vault.paused_until())
    stage.rebalance(ON_TARGET)


@pytest.mark.parametrize("length", [0, 2, 4])
def test_reverts_if_sells_have_the_wrong_length(stage: Stage, length):
    stage.refuses("wrong length", ON_TARGET, sells=[0] * length)
    stage.rebalance(OUT_OF_BAND, sells=[0] * 3)


@pytest.mark.parametrize("name", ["vault", "oracle", 0, 1, 2])
def test_reverts_if_the_executor_is_part_of_the_vault(stage: Stage, name):
    forbidden = stage.tokens[name] if isinstance(name, int) else getattr(stage, name)
    stage.refuses("executor not allowed", ON_TARGET, executor=forbidden)
    stage.rebalance(ON_TARGET, executor=stage.executor)


def test_reverts_if_the_executor_does_not_answer(stage: Stage):
    stage.refuses("executor did not answer", ON_TARGET, answer=False)
    stage.rebalance(ON_TARGET, answer=True)


# Prices and balances


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5])
def test_reverts_if_a_price_has_a_bad_status(stage: Stage, status):
    stage.set_prices(PRICES, (0, status, 0))
    stage.refuses("price not usable", ON_TARGET)
    stage.set_prices(PRICES, (0, 0, 0))
    stage.rebalance(ON_TARGET)


def test_reverts_if_a_price_is_zero(stage: Stage):
    stage.set_prices((*PRICES[:2], 0))
    stage.refuses("price not usable", ON_TARGET)
    stage.set_prices((*PRICES[:2], 1))
    stage.rebalance(OUT_OF_BAND, sells=[0, 0, 0])


def test_reverts_if_the_oracle_answers_too_few_prices(stage: Stage):
    stage.set_prices(PRICES[:2], (0, 0))
    stage.refuses("price not usable", ON_TARGET)
    stage.set_prices(PRICES)
    stage.rebalance(ON_TARGET)


def test_reverts_without_value_before(stage: Stage):
    stage.hold([0, 0, 0])
    stage.refuses("no value", ON_TARGET)
    stage.hold([1, 0, 0])
    stage.rebalance([1, 0, 0])


def test_reverts_without_value_after(stage: Stage):
    stage.refuses("no value", [0, 0, 0])
    stage.refuses("balance fell by more than sent", [0, 0, 1])


# Sessions


@pytest.mark.parametrize("session", [0, 2])
def test_reverts_if_the_next_session_is_named_wrongly(stage: Stage, session):
    stage.refuses("wrong session", ON_TARGET, session=session)
    stage.rebalance(ON_TARGET, session=1)


@pytest.mark.parametrize("session", [0, 2])
def test_reverts_if_the_open_session_is_named_wrongly(stage: Stage, session):
    stage.open_session()
    stage.refuses("wrong session", ON_TARGET, session=session)
    stage.rebalance(ON_TARGET, session=1)


def test_reverts_without_a_trigger(stage: Stage):
    inside = usd(550 * K - 1, 270 * K + 1, 180 * K)
    stage.hold(inside)
    stage.refuses("no trigger", ON_TARGET)
    stage.hold(usd(550 * K, 270 * K, 180 * K))  # the band itself is outside
    stage.rebalance(ON_TARGET)


def test_opens_a_session(stage: Stage):
    tx = stage.rebalance(OUT_OF_BAND, sells=[0, 0, 0])
    assert stage.session() == {
        "id": 1,
        "opened_at": tx.timestamp,
        "closed_at": 0,
        "slot": stage.session()["slot"],
        "by_calendar": False,
    }


def test_needs_no_trigger_inside_the_window(stage: Stage):
    stage.rebalance(usd(530 * K, 285 * K, 185 * K))  # back inside the band, but not half of it
    sleep_until(stage.session()["opened_at"] + 2 * DAY - 60)
    stage.rebalance(ON_TARGET)
    assert stage.session()["id"] == 1


def test_needs_a_new_session_after_the_window(stage: Stage):
    opened = stage.rebalance(OUT_OF_BAND, sells=[0, 0, 0]).timestamp
    sleep_until(opened + 2 * DAY)
    stage.refuses("wrong session", ON_TARGET, session=1)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    sleep_until(opened + 3 * DAY - 60)  # the cooldown runs from the window's end
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    sleep_until(opened + 3 * DAY)
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["id"] == 2


def test_cooldown_runs_from_the_close(stage: Stage):
    closed = stage.rebalance(ON_TARGET).timestamp
    assert stage.session()["closed_at"] == closed
    stage.hold(OUT_OF_BAND)
    # closed, though its window is not over
    stage.refuses("wrong session", ON_TARGET, session=1)
    sleep_until(closed + DAY - 60)
    stage.refuses("cooldown not over", ON_TARGET, session=2)
    sleep_until(closed + DAY)
    stage.rebalance(ON_TARGET, session=2)


# Sells are clipped


def test_sends_no_more_than_what_is_above_target(stage: Stage):
    tx = stage.rebalance(ON_TARGET, sells=ALL)
    assert [token.balanceOf(stage.executor) for token in stage.tokens] == usd(100 * K, 0, 0)
    assert tx.events["Rebalanced"]["sells"] == ALL  # as called with


def test_sends_no_more_than_asked(stage: Stage):
    stage.rebalance(usd(560 * K, 270 * K, 170 * K), sells=usd(40 * K, 0, 0))
    assert stage.tokens[0].balanceOf(stage.executor) == usd(40 * K, 0, 0)[0]


# Direction


def test_reverts_if_a_balance_fell_by_more_than_sent(stage: Stage):
    stage.refuses("balance fell by more than sent", ON_TARGET, sells=usd(100 * K - 1, 0, 0))
    stage.rebalance(ON_TARGET, sells=usd(100 * K, 0, 0))


def test_reverts_if_an_underweight_asset_falls(stage: Stage):
    stage.refuses("balance fell by more than sent", usd(500 * K, 250 * K - 1, 250 * K + 1))
    stage.rebalance(usd(550 * K, 250 * K, 200 * K))


def test_reverts_if_an_asset_that_weighs_its_target_is_sold(stage: Stage):
    """Stock is worth 16 wei above target, of which its smallest unit is 10: the weight, rounded, is the target."""
    before, after = usd(560 * K, 240 * K, 200 * K), usd(501 * K, 299 * K, 200 * K)
    before[2] += 2
    after[2] += 1
    stage.hold(before)
    stage.refuses("asset not overweight", after)
    after[2] += 1
    stage.rebalance(after)


def test_reverts_if_an_overweight_asset_is_bought(stage: Stage):
    stage.hold(usd(600 * K, 190 * K, 210 * K))
    stage.refuses("asset not underweight", usd(520 * K, 270 * K - 1, 210 * K + 1))
    stage.rebalance(usd(520 * K, 270 * K, 210 * K))


def test_reverts_if_an_asset_on_target_is_bought(stage: Stage):
    stage.hold(usd(600 * K, 200 * K, 200 * K))
    stage.refuses("asset not underweight", usd(500 * K, 300 * K - 1, 200 * K + 1))
    stage.rebalance(usd(500 * K, 300 * K - 1, 200 * K))


# Overshoot


def test_reverts_if_bought_past_target(stage: Stage):
    """Stock may go to 20 % and half a point of tolerance."""
    stage.refuses("bought past target", usd(500 * K, 295 * K - 1, 205 * K + 1))
    stage.rebalance(usd(500 * K, 295 * K, 205 * K))


def test_a_gain_may_be_bought_past_target(stage: Stage):
    """A gain of 1 % of NAV may leave stock 1 point further: 215 / 1010 = 21.29 %, 20.5 + 0.99 allowed."""
    stage.refuses("bought past target", usd(500 * K, 292 * K, 218 * K))
    stage.rebalance(usd(500 * K, 295 * K, 215 * K))


def test_reverts_if_sold_past_target(stage: Stage):
    """A gain of 10 wei, less than the smallest drift, leaves cash below target by rounding, with no tolerance."""
    stage.set_rules(tolerance_bps=0)
    stage.refuses("sold past target", [*ON_TARGET[:2], ON_TARGET[2] + 1])
    stage.rebalance(ON_TARGET)


def test_tolerance_is_a_quarter_of_the_band_at_most(stage: Stage):
    stage.set_rules(tolerance_bps=1_000)
    stage.refuses("bought past target", usd(500 * K, 287_500_000_000 - 1, 212_500_000_000 + 1))
    stage.rebalance(usd(500 * K, 287_500_000_000, 212_500_000_000))


# Progress


def test_reverts_if_drift_falls_by_less_than_what_is_sold(stage: Stage):
    """4 thousand sold; all of it into coin, past its target, takes back of the drift what overshoots."""
    stage.open_session()
    stage.hold(usd(504 * K, 298 * K + 1, 198 * K - 1))
    stage.refuses("drift fell too little", usd(500 * K, 302 * K + 1, 198 * K - 1))
    stage.hold(usd(504 * K, 298 * K, 198 * K))
    stage.rebalance(usd(500 * K, 302 * K, 198 * K))


# Slippage


def test_reverts_if_more_than_the_slippage_is_lost(stage: Stage):
    """1 % of the 100 thousand sold."""
    stage.refuses("loss above slippage", usd(500 * K, 299 * K - 1, 200 * K))
    stage.rebalance(usd(500 * K, 299 * K, 200 * K))


# Loss budget


LOST = 902_255_639  # millionths of a USD: lost + 25 bps * (120 + 120 thousand - lost) is just within 15 bps of NAV


def test_reverts_if_the_loss_budget_is_exceeded(stage: Stage):
    stage.set_rules(loss_capacity_bps=15)
    stage.hold(usd(620 * K, 240 * K, 140 * K))
    stage.refuses("loss budget exceeded", usd(500 * K, 300 * K, 200 * K - LOST - 1))
    stage.rebalance(usd(500 * K, 300 * K, 200 * K - LOST))


def test_charges_what_was_lost_and_what_the_prices_may_be_wrong_by(stage: Stage):
    stage.rebalance(usd(500 * K, 300 * K, 199_600 * 10**6))
    lost = 400 * 10**12  # 0.04 % of NAV, WAD
    at_risk = 25 * (100_000 + 50_000 + 49_600) * 10**8  # 25 bps of what moved, WAD
    assert stage.vault.loss_budget_used() == lost + at_risk


def test_charges_a_gain_like_no_loss(stage: Stage):
    stage.rebalance(usd(500 * K, 300 * K, 200 * K + 400 * 10**6))
    assert stage.vault.loss_budget_used() == 25 * (100_000 + 50_000 + 50_400) * 10**8


def test_loss_budget_refills_with_time(stage: Stage):
    tx = stage.rebalance(ON_TARGET)
    used = stage.vault.loss_budget_used()
    assert used == 5 * 10**14
    chain.mine(timestamp=tx.timestamp + DAY)
    elapsed = chain[-1].timestamp - tx.timestamp
    assert stage.vault.loss_budget_used() in [
        used - (elapsed + late) * 100 * 10**14 // (365 * DAY) for late in range(3)
    ]
    chain.mine(timestamp=tx.timestamp + 19 * DAY)  # 100 bps a year: 5 in 18.25 days
    assert stage.vault.loss_budget_used() == 0


# Closing


HALF_BAND = usd(525 * K, 287 * K, 188 * K)


def test_a_session_opened_by_a_band_closes_at_half_the_band(stage: Stage):
    tx = stage.rebalance(usd(525 * K + 1, 287 * K, 188 * K - 1))
    assert "SessionClosed" not in tx.events
    assert stage.session()["closed_at"] == 0
    tx = stage.rebalance(HALF_BAND)
    assert tx.events["SessionClosed"]["session"] == 1
    assert stage.session()["closed_at"] == tx.timestamp


def test_a_session_opened_by_the_calendar_closes_on_target(stage: Stage):
    make_due(stage, CALENDAR)
    tx = stage.rebalance(HALF_BAND)
    assert "SessionClosed" not in tx.events
    tx = stage.rebalance(usd(505 * K + 1, 297 * K, 198 * K - 1))
    assert "SessionClosed" not in tx.events
    assert stage.session()["closed_at"] == 0
    tx = stage.rebalance(usd(505 * K, 297 * K, 198 * K))  # the tolerance
    assert tx.events["SessionClosed"]["session"] == 1
    assert stage.session()["closed_at"] == tx.timestamp


# The calendar


def make_due(stage: Stage, mode: int, every: int = 7) -> int:
    """The calendar's next slot begins; the time when it did."""
    now = chain.time()
    stage.set_rules(mode=mode, calendar_every=every, calendar_anchor=now - DAY)
    begins = now - DAY + every * DAY
    sleep_until(begins)
    return begins


def test_calendar_needs_a_new_slot(stage: Stage):
    begins = chain.time() + DAY
    stage.set_rules(mode=CALENDAR, calendar_anchor=begins)
    sleep_until(begins - 60)
    # though out of the band
    stage.refuses("no trigger", ON_TARGET)
    sleep_until(begins)
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 1
    assert stage.session()["by_calendar"]


def test_the_slot_of_the_day_of_creation_counts_as_used(stage: Stage):
    stage.set_rules(mode=CALENDAR, calendar_anchor=chain.time() - DAY)
    stage.refuses("no trigger", ON_TARGET)
    assert stage.session()["slot"] == 1


@pytest.mark.parametrize(
    ("mode", "due", "out_of_band", "opens"),
    [
        (CALENDAR, True, False, True),
        (CALENDAR, False, True, False),
        (THRESHOLD, True, False, False),
        (THRESHOLD, False, True, True),
        (EITHER, True, False, True),
        (EITHER, False, True, True),
        (EITHER, False, False, False),
        (BOTH, True, True, True),
        (BOTH, True, False, False),
        (BOTH, False, True, False),
    ],
)
def test_mode_says_what_triggers(stage: Stage, mode, due, out_of_band, opens):
    if due:
        make_due(stage, mode)
    else:
        stage.set_rules(mode=mode)
    balances = OUT_OF_BAND if out_of_band else usd(540 * K, 270 * K, 190 * K)
    stage.hold(balances)
    if opens:
        stage.rebalance(balances, sells=[0, 0, 0])
        assert stage.session()["id"] == 1
        assert stage.session()["by_calendar"] == (due and mode != THRESHOLD)
    else:
        with brownie.reverts("no trigger"):
            stage.rebalance(balances, sells=[0, 0, 0])


def test_a_calendar_slot_is_used_once(stage: Stage):
    begins = make_due(stage, CALENDAR)
    closed = stage.rebalance(ON_TARGET).timestamp
    sleep_until(closed + DAY)
    stage.refuses("no trigger", ON_TARGET, session=2)
    sleep_until(begins + 7 * DAY)
    stage.rebalance(ON_TARGET, session=2)


def test_a_calendar_slot_lapses_when_the_next_begins(stage: Stage):
    begins = make_due(stage, CALENDAR)
    assert stage.session()["slot"] == 1
    sleep_until(begins + 14 * DAY)  # slots 2 and 3 pass unused
    closed = stage.rebalance(ON_TARGET).timestamp
    assert stage.session()["slot"] == 4
    sleep_until(closed + DAY)
    stage.refuses("no trigger", ON_TARGET, session=2)


def test_a_refused_rebalance_uses_no_slot(stage: Stage):
    make_due(stage, CALENDAR)
    stage.refuses("loss above slippage", usd(500 * K, 299 * K - 1, 200 * K))
    assert stage.session()["slot"] == 1
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 2


def month_start(time: int, months: int) -> int:
    """Midnight UTC of the first day, so many months after the month of `time`."""
    day = datetime.fromtimestamp(time, UTC)
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return int(datetime(years, month + 1, 1, tzinfo=UTC).timestamp())


def test_calendar_months_begin_on_the_first(stage: Stage):
    stage.set_rules(mode=CALENDAR, calendar_unit=MONTHS, calendar_every=1, calendar_anchor=chain.time() - DAY)
    used = stage.session()["slot"]
    first = month_start(chain.time(), 1)
    sleep_until(first - 60)
    stage.refuses("no trigger", ON_TARGET)
    sleep_until(first)
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == used + 1


def test_a_calendar_month_lapses_when_the_next_begins(stage: Stage):
    stage.set_rules(mode=CALENDAR, calendar_unit=MONTHS, calendar_every=3, calendar_anchor=chain.time())
    start = chain.time()
    sleep_until(month_start(start, 3) - 60)
    stage.refuses("no trigger", ON_TARGET)
    sleep_until(month_start(start, 6))  # slot 2 has passed unused
    stage.rebalance(ON_TARGET)
    assert stage.session()["slot"] == 3
    sleep_until(month_start(start, 9) - 60)
    stage.refuses("no trigger", ON_TARGET, session=2)
    sleep_until(month_start(start, 9))
    stage.rebalance(ON_TARGET, session=2)
    assert stage.session()["slot"] == 4


# The record


def test_emits_what_the_head_is_the_hash_of(stage: Stage):
    head, after = stage.vault.head(), usd(540 * K, 280 * K, 180 * K)
    sells = [2**255, 7, 0]
    tx = stage.rebalance(after, sells=sells)
    assert dict(tx.events["Rebalanced"]) == {
        "keeper": stage.keeper,
        "previous_head": head,
        "kind": 2,
        "session": 1,
        "time": tx.timestamp,
        "supply": 10**24,
        "flow_sequence": 0,
        "prices": PRICES,
        "balances_before": tuple(OUT_OF_BAND),
        "balances_after": tuple(after),
        "sells": tuple(sells),
        "executor": stage.executor,
        "payload_hash": "0x" + keccak(stage.payload(after)).hex(),
        "decision": "0x" + DECISION.hex(),
    }
    entry = next(log for log in tx.logs if log["address"] == stage.vault.address)
    assert stage.vault.head() == "0x" + keccak(bytes(entry["data"])).hex()


def test_a_refused_rebalance_leaves_the_head(stage: Stage):
    head = stage.vault.head()
    stage.refuses("not keeper", ON_TARGET, sender=stage.stranger)
    assert stage.vault.head() == head
    stage.rebalance(ON_TARGET)
    assert stage.vault.head() != head


def test_closes_with_an_event_that_is_no_entry(stage: Stage):
    tx = stage.rebalance(ON_TARGET)
    assert [event.name for event in tx.events if event.address == stage.vault] == [
        "SessionClosed",
        "Rebalanced",
    ]
    assert dict(tx.events["SessionClosed"]) == {"session": 1}
    assert stage.vault.head() == "0x" + keccak(bytes(tx.logs[-1]["data"])).hex()
