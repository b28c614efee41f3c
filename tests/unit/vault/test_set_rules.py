import pytest
from brownie import reverts

from tests.unit.vault.deployment import RULES, RULES_TYPE, assert_recorded, changed

OTHER = (3, 1, 2, 1_600_000_000, 3_600, 60, 90, 200, 300, 40, 500, 50)


def test_stores_every_field(vault, owner):
    vault.set_rules(OTHER, {"from": owner})
    assert tuple(vault.rules()) == OTHER


def test_stores_the_widest_fields(vault, owner):
    widest = (
        3, 1, 2**16 - 1, 2**40 - 1, 2**32 - 1, 2**32 - 1,
        2**13 - 1, 2**13 - 1, 2**16 - 1, 2**13 - 1, 2**16 - 1, 2**16 - 1,
    )  # fmt: skip
    vault.set_rules(widest, {"from": owner})
    assert tuple(vault.rules()) == widest


def test_records_the_rules(vault, owner):
    before = vault.head()
    tx = vault.set_rules(OTHER, {"from": owner})
    assert_recorded(vault, tx, "set_rules", [RULES_TYPE], [OTHER], before)


def test_counts_the_present_calendar_slot_as_used(vault, owner, stranger):
    tx = vault.set_rules(changed(RULES, mode=0, calendar_every=1), {"from": owner})
    assert vault.session()[3] == (tx.timestamp - RULES["calendar_anchor"]) // 86_400 + 1
    with reverts("no trigger"):
        vault.open_session({"from": stranger})


def test_keeps_what_was_used_of_the_speed(vault, owner):
    vault.set_targets([5_250, 2_750, 2_000], {"from": owner})
    vault.set_rules(changed(RULES, speed_refill_bps_per_day=0), {"from": owner})
    assert 499 * 10**14 < vault.speed_budget_used() <= 500 * 10**14


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "stranger"])
def test_by_others_reverts(vault, caller, request):
    with reverts("not owner"):
        vault.set_rules(OTHER, {"from": request.getfixturevalue(caller)})


@pytest.mark.parametrize(
    ("field", "number", "reason"),
    [
        ("mode", 4, "unknown mode"),
        ("calendar_unit", 2, "unknown calendar unit"),
        ("calendar_every", 0, "calendar every 0"),
        ("window_seconds", 0, "window 0"),
        ("calendar_every", 2**16, "rule out of range"),
        ("calendar_anchor", 2**40, "rule out of range"),
        ("window_seconds", 2**32, "rule out of range"),
        ("cooldown_seconds", 2**32, "rule out of range"),
        ("loss_capacity_bps", 2**13, "rule out of range"),
        ("loss_refill_bps_per_year", 2**16, "rule out of range"),
        ("tolerance_bps", 2**13, "rule out of range"),
        ("speed_capacity_bps", 2**16, "rule out of range"),
        ("speed_refill_bps_per_day", 2**16, "rule out of range"),
        ("max_slippage_bps", 59, "slippage below price errors"),  # 25 + 25 + 10
        ("loss_capacity_bps", 14, "loss budget below one rebalance"),  # 2 * 5 % * (100 + 50 bps)
    ],
)
def test_out_of_range_reverts(vault, owner, field, number, reason):
    with reverts(reason):
        vault.set_rules(changed(RULES, **{field: number}), {"from": owner})


@pytest.mark.parametrize(("field", "number"), [("max_slippage_bps", 60), ("loss_capacity_bps", 15)])
def test_at_the_edge_is_accepted(vault, owner, field, number):
    vault.set_rules(changed(RULES, **{field: number}), {"from": owner})
    assert vault.rules().dict()[field] == number
