import pytest
from brownie import chain, reverts

from tests.unit.vault.deployment import DAY, TARGETS, assert_recorded

BPS = 10**14  # WAD


def targets(vault):
    return [asset[2] for asset in vault.basket()]


@pytest.mark.parametrize("caller", ["owner", "strategist"])
def test_moves_the_targets_and_nothing_else(vault, caller, request):
    old = vault.basket()
    vault.set_targets([4_900, 3_200, 1_900], {"from": request.getfixturevalue(caller)})
    assert targets(vault) == [4_900, 3_200, 1_900]
    for before, after in zip(old, vault.basket(), strict=True):
        assert (*before[:2], *before[3:]) == (*after[:2], *after[3:])


def test_records_the_targets(vault, strategist):
    before = vault.head()
    tx = vault.set_targets([4_900, 3_200, 1_900], {"from": strategist})
    assert_recorded(vault, tx, "set_targets", ["uint256[]"], [[4_900, 3_200, 1_900]], before)


@pytest.mark.parametrize("caller", ["keeper", "guardian", "stranger"])
def test_by_others_reverts(vault, caller, request):
    with reverts("not owner or strategist"):
        vault.set_targets(TARGETS, {"from": request.getfixturevalue(caller)})


@pytest.mark.parametrize("caller", ["owner", "strategist"])
@pytest.mark.parametrize("moved", [[7_001, 1_999, 1_000], [5_000, 4_001, 999]])
def test_outside_the_limits_reverts(vault, owner, caller, moved, request):
    rules = list(vault.rules())
    rules[10] = 10_000  # any speed
    vault.set_rules(rules, {"from": owner})
    with reverts("target outside limits"):
        vault.set_targets(moved, {"from": request.getfixturevalue(caller)})


def test_at_the_limits_is_accepted(vault, owner):
    rules = list(vault.rules())
    rules[10] = 10_000
    vault.set_rules(rules, {"from": owner})
    vault.set_targets([7_000, 2_000, 1_000], {"from": owner})
    assert targets(vault) == [7_000, 2_000, 1_000]


@pytest.mark.parametrize("caller", ["owner", "strategist"])
def test_faster_than_the_capacity_reverts(vault, caller, request):
    account = request.getfixturevalue(caller)
    with reverts("targets move too fast"):  # a path of 1,002 bps
        vault.set_targets([5_501, 2_499, 2_000], {"from": account})
    vault.set_targets([5_500, 2_500, 2_000], {"from": account})
    assert 999 * BPS < vault.speed_budget_used() <= 1_000 * BPS


def test_gets_its_speed_back_with_time(vault, strategist):
    vault.set_targets([5_500, 2_500, 2_000], {"from": strategist})
    chain.sleep(2 * DAY - 600)
    with reverts("targets move too fast"):
        vault.set_targets([5_400, 2_600, 2_000], {"from": strategist})
    chain.sleep(601)
    vault.set_targets([5_400, 2_600, 2_000], {"from": strategist})


def test_there_and_back_counts_twice(vault, strategist):
    vault.set_targets([5_500, 2_500, 2_000], {"from": strategist})
    with reverts("targets move too fast"):
        vault.set_targets(TARGETS, {"from": strategist})


@pytest.mark.parametrize(
    ("moved", "reason"),
    [
        ([5_000, 3_000], "wrong length"),
        ([5_000, 3_000, 2_000, 0], "wrong length"),
        ([5_000, 3_000, 1_999], "targets do not sum to 100%"),
        ([5_000, 3_000, 2_001], "targets do not sum to 100%"),
        ([10_001, 0, 0], "above 100%"),
    ],
)
def test_of_what_makes_no_basket_reverts(vault, owner, moved, reason):
    with reverts(reason):
        vault.set_targets(moved, {"from": owner})
