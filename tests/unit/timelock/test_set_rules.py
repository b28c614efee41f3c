from typing import Any

import pytest

from tests.support.world import (
    DAY,
    GUARDIAN,
    KEEPER,
    OWNER,
    RULES,
    START,
    STRANGER,
    STRATEGIST,
    reverts,
)
from tests.unit.timelock.support import BPS, Desk

RULES_TYPE = f"({','.join(['uint256'] * 12)})"
SAFER = ("max_slippage_bps", "loss_capacity_bps", "loss_refill_bps_per_year", "speed_capacity_bps",
         "speed_refill_bps_per_day")  # fmt: skip
OTHERS = tuple(field for field in RULES if field not in SAFER)
LOWERED = {field: RULES[field] - 1 for field in SAFER}
OTHER = (3, 0, 2, 1_600_000_000, 3_600, 60, 90, 150, 300, 40, 500, 50)
WIDEST = (3, 1, 2**16 - 1, 2**40 - 1, 2**32 - 1, 2**32 - 1, 2**13 - 1, 2**13 - 1, 2**16 - 1, 2**13 - 1, 2**16 - 1,
          2**16 - 1)  # fmt: skip


def changed(**fields: int) -> tuple[int, ...]:
    return tuple((RULES | fields).values())


# At once: lower slippage, loss budget, speed


@pytest.mark.parametrize("field", SAFER)
def test_lowers_at_once_and_is_recorded(desk: Desk, field: str) -> None:
    before, rules = desk.head(), changed(**{field: RULES[field] - 1})
    desk.at_once("set_rules", rules)
    desk.assert_recorded(before, "set_rules", [RULES_TYPE], [rules])
    assert desk.vault.call("rules") == rules


def test_lowers_all_of_them_at_once(desk: Desk) -> None:
    desk.at_once("set_rules", changed(**LOWERED))
    assert desk.vault.call("rules") == changed(**LOWERED)


def test_lowers_to_the_floors(desk: Desk) -> None:
    floors = {"max_slippage_bps": 60, "loss_capacity_bps": 11}  # 25 + 25 + 10; 2 * 5 % * (60 + 50)
    zero = {"loss_refill_bps_per_year": 0, "speed_capacity_bps": 0, "speed_refill_bps_per_day": 0}
    desk.at_once("set_rules", changed(**floors, **zero))
    for field, reason in [
        ("max_slippage_bps", "slippage below price errors"),
        ("loss_capacity_bps", "loss budget below one rebalance"),
    ]:
        with reverts(reason):
            desk.at_once("set_rules", changed(**(floors | zero | {field: floors[field] - 1})))


def test_the_same_rules_may_be_set_at_once(desk: Desk) -> None:
    desk.at_once("set_rules", changed())
    assert desk.vault.call("rules") == changed()


@pytest.mark.parametrize("caller", [GUARDIAN, STRATEGIST, KEEPER, STRANGER])
def test_lowering_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not admin"):
        desk.at_once("set_rules", changed(**LOWERED), sender=caller)


def test_lowering_may_be_queued_too(desk: Desk) -> None:
    desk.delayed("set_rules", changed(**LOWERED))
    assert desk.vault.call("rules") == changed(**LOWERED)


# After the delay: everything else


@pytest.mark.parametrize("field", SAFER)
def test_raising_needs_the_delay(desk: Desk, field: str) -> None:
    rules = changed(**{field: RULES[field] + 1})
    desk.assert_needs_the_delay("set_rules", rules)
    assert desk.vault.call("rules") == rules


@pytest.mark.parametrize("field", SAFER)
def test_raising_one_while_lowering_the_others_needs_the_delay(desk: Desk, field: str) -> None:
    rules = changed(**(LOWERED | {field: RULES[field] + 1}))
    desk.assert_needs_the_delay("set_rules", rules)
    assert desk.vault.call("rules") == rules


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("field", OTHERS)
def test_another_field_needs_the_delay_both_ways(field: str, change: int) -> None:
    desk = Desk(calendar_unit=1 if change < 0 else 0, calendar_every=2)
    rules = desk.rules | {field: desk.rules[field] + change}
    desk.assert_needs_the_delay("set_rules", tuple(rules.values()))
    assert desk.vault.call("rules") == tuple(rules.values())


@pytest.mark.parametrize("field", OTHERS)
def test_another_field_needs_the_delay_even_while_all_is_lowered(desk: Desk, field: str) -> None:
    rules = changed(**(LOWERED | {field: RULES[field] + (-1 if field == "calendar_unit" else 1)}))
    desk.assert_needs_the_delay("set_rules", rules)
    assert desk.vault.call("rules") == rules


@pytest.mark.parametrize("rules", [OTHER, WIDEST])
def test_stores_every_field_and_is_recorded(desk: Desk, rules: tuple[int, ...]) -> None:
    before = desk.head()
    desk.delayed("set_rules", rules)
    desk.assert_recorded(before, "set_rules", [RULES_TYPE], [rules])
    assert desk.vault.call("rules") == rules


@pytest.mark.parametrize(
    ("field", "number", "reason"),
    [
        ("mode", 4, "unknown mode"),
        ("calendar_unit", 2, "unknown calendar unit"),
        ("calendar_every", 0, "calendar every 0"),
        ("window_seconds", 0, "window 0"),
        ("tolerance_bps", 0, "tolerance 0 with a calendar"),
        ("calendar_every", 2**16, "rule out of range"),
        ("calendar_anchor", 2**40, "rule out of range"),
        ("window_seconds", 2**32, "rule out of range"),
        ("cooldown_seconds", 2**32, "rule out of range"),
        ("loss_capacity_bps", 2**13, "rule out of range"),
        ("loss_refill_bps_per_year", 2**16, "rule out of range"),
        ("tolerance_bps", 2**13, "rule out of range"),
        ("speed_capacity_bps", 2**16, "rule out of range"),
        ("speed_refill_bps_per_day", 2**16, "rule out of range"),
        ("max_slippage_bps", 1_951, "loss budget below one rebalance"),  # 2 * 5 % * (1,951 + 50) > 200
    ],
)
def test_out_of_range_reverts(desk: Desk, field: str, number: int, reason: str) -> None:
    rules = changed(**{field: number})
    desk.queue("set_rules", rules)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_rules", rules)


def test_of_the_largest_slippage_the_budget_allows(desk: Desk) -> None:
    desk.delayed("set_rules", changed(max_slippage_bps=1_950))
    assert desk.vault.call("rules")[6] == 1_950


# What was used, and the calendar


def spend(desk: Desk) -> int:
    """A rebalance back to target after ETH has doubled; what it used of the loss budget."""
    desk.set_price(2, 2 * desk.prices[2])
    nav = 1_200_000
    desk.rebalance(
        [nav * bps * 10**d * 10**18 // (10_000 * price)
         for bps, d, price in zip((5_000, 3_000, 2_000), desk.decimals, desk.prices, strict=True)]
    )  # fmt: skip
    used = int(desk.vault.call("loss_budget_used"))
    assert used > 10**14
    return used


@pytest.mark.parametrize("refill", [0, 399])
def test_what_the_loss_budget_holds_was_refilled_at_the_old_rate(desk: Desk, refill: int) -> None:
    used, year = spend(desk), 365 * DAY
    desk.sleep(3 * DAY)
    back = 3 * DAY * 400 * BPS // year
    assert desk.vault.call("loss_budget_used") == used - back > 0
    desk.at_once("set_rules", changed(loss_refill_bps_per_year=refill))
    assert desk.vault.call("loss_budget_used") == used - back
    desk.sleep(DAY)
    assert desk.vault.call("loss_budget_used") == used - back - DAY * refill * BPS // year


def test_a_higher_refill_does_not_work_backwards(desk: Desk) -> None:
    used, year = spend(desk), 365 * DAY
    desk.delayed("set_rules", changed(loss_refill_bps_per_year=40_000))
    assert desk.vault.call("loss_budget_used") == used - 2 * DAY * 400 * BPS // year


@pytest.mark.parametrize("refill", [0, 99])
def test_what_the_speed_budget_holds_was_refilled_at_the_old_rate(desk: Desk, refill: int) -> None:
    desk.at_once("set_targets", [5_250, 2_750, 2_000])
    desk.sleep(DAY)
    assert desk.vault.call("speed_budget_used") == 400 * BPS
    desk.at_once("set_rules", changed(speed_refill_bps_per_day=refill))
    assert desk.vault.call("speed_budget_used") == 400 * BPS
    desk.sleep(DAY)
    assert desk.vault.call("speed_budget_used") == (400 - refill) * BPS


def test_keeps_the_quarantine(desk: Desk) -> None:
    desk.at_once("quarantine", desk.tokens[1].address, sender=GUARDIAN)
    word = desk.vault.call("settings")[1]
    for change in ("at_once", "delayed"):
        getattr(desk, change)("set_rules", changed(**LOWERED))
        assert desk.vault.call("settings")[1] >> 211 == word >> 211
    with reverts("quarantined"):
        desk.vault.call("appraise", desk.tokens[0].address)


NEXT_MONTH = START + 30 * DAY  # 14 December, the second slot of the calendar


@pytest.mark.parametrize(
    ("fields", "slot"),
    [
        ({"calendar_unit": 0, "calendar_every": 1}, 33),
        ({"calendar_every": 2}, 1),
        ({"calendar_anchor": START - 90 * DAY}, 4),
        ({"calendar_anchor": START + 90 * DAY}, 0),
    ],
)
def test_a_new_calendar_counts_the_present_slot_as_used(
    desk: Desk, fields: dict[str, int], slot: int
) -> None:
    assert desk.vault.call("session")[3] == 2
    desk.delayed("set_rules", changed(**fields))
    assert desk.vault.call("session")[3] == slot
    with reverts("no trigger"):
        desk.vault.call("open_session", sender=STRANGER)


def test_the_same_calendar_leaves_a_due_slot_due(desk: Desk) -> None:
    """Lowering a budget at once cannot make the vault miss its rebalance."""
    desk.evm.set_time(NEXT_MONTH)
    desk.refresh()
    desk.at_once("set_rules", changed(**LOWERED))
    assert desk.vault.call("session")[3] == 2
    desk.vault.call("open_session", sender=STRANGER)


def test_a_longer_window_does_not_open_an_ended_session_again(desk: Desk) -> None:
    desk.evm.set_time(NEXT_MONTH)
    desk.refresh()
    desk.vault.call("open_session", sender=STRANGER)
    opened = desk.evm.now
    desk.delayed("set_rules", changed(window_seconds=30 * DAY))  # two days later the old window is over
    session = desk.vault.call("session")
    assert session[:3] == (1, opened, opened + RULES["window_seconds"])


def test_an_open_session_gets_the_longer_window(desk: Desk) -> None:
    desk.evm.set_time(NEXT_MONTH - DAY)
    rules = changed(window_seconds=30 * DAY)
    desk.queue("set_rules", rules)
    desk.sleep(DAY)
    desk.refresh()
    desk.vault.call("open_session", sender=STRANGER)
    desk.sleep(DAY)
    desk.execute("set_rules", rules)
    assert desk.vault.call("session")[:3] == (1, NEXT_MONTH, 0)
    desk.sleep(10 * DAY)
    with reverts("wrong session"):  # it is still open
        desk.vault.call("open_session", sender=STRANGER)


def test_by_the_former_admin_reverts(desk: Desk) -> None:
    lowered: dict[str, Any] = LOWERED
    desk.delayed("transfer_admin", STRANGER)
    desk.at_once("set_rules", changed(), sender=OWNER)
    desk.at_once("accept_admin", sender=STRANGER)
    with reverts("not admin"):
        desk.at_once("set_rules", changed(**lowered), sender=OWNER)
    desk.at_once("set_rules", changed(**lowered), sender=STRANGER)
