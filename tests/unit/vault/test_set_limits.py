import pytest
from brownie import reverts

from tests.unit.vault.deployment import TARGETS, assert_recorded

LEAST, MOST = [4_000, 2_000, 1_000], [6_000, 4_000, 3_000]


def test_stores_the_limits_and_nothing_else(vault, owner):
    old = vault.basket()
    vault.set_limits(LEAST, MOST, {"from": owner})
    new = vault.basket()
    assert [asset[5] for asset in new] == LEAST
    assert [asset[6] for asset in new] == MOST
    for before, after in zip(old, new, strict=True):
        assert (*before[:5], before[7]) == (*after[:5], after[7])


def test_binds_set_targets(vault, owner, strategist):
    vault.set_limits(LEAST, [5_100, 4_000, 3_000], {"from": owner})
    with reverts("target outside limits"):
        vault.set_targets([5_101, 2_999, 1_900], {"from": strategist})
    vault.set_targets([5_100, 3_000, 1_900], {"from": strategist})


def test_records_the_limits(vault, owner):
    before = vault.head()
    tx = vault.set_limits(LEAST, MOST, {"from": owner})
    assert_recorded(vault, tx, "set_limits", ["uint256[]", "uint256[]"], [LEAST, MOST], before)


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "stranger"])
def test_by_others_reverts(vault, caller, request):
    with reverts("not owner"):
        vault.set_limits(LEAST, MOST, {"from": request.getfixturevalue(caller)})


@pytest.mark.parametrize(
    ("least", "most", "reason"),
    [
        (LEAST[:2], MOST, "wrong length"),
        (LEAST, [*MOST, 1], "wrong length"),
        ([5_001, 0, 0], MOST, "target outside limits"),
        (LEAST, [4_999, 10_000, 10_000], "target outside limits"),
        (LEAST, [10_001, 4_000, 3_000], "above 100%"),
    ],
)
def test_out_of_range_reverts(vault, owner, least, most, reason):
    with reverts(reason):
        vault.set_limits(least, most, {"from": owner})


def test_at_the_targets_is_accepted(vault, owner):
    vault.set_limits(TARGETS, TARGETS, {"from": owner})
    assert [asset[5] for asset in vault.basket()] == TARGETS
