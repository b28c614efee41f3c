import pytest
from brownie import reverts

from tests.unit.vault.deployment import assert_recorded

POINTS, RELATIVE = [400, 300, 200], [2_000, 1_000, 500]


def test_stores_the_bands_and_nothing_else(vault, owner):
    old = vault.basket()
    vault.set_bands(POINTS, RELATIVE, {"from": owner})
    new = vault.basket()
    assert [asset[3] for asset in new] == POINTS
    assert [asset[4] for asset in new] == RELATIVE
    for before, after in zip(old, new, strict=True):
        assert (*before[:3], *before[5:]) == (*after[:3], *after[5:])


def test_records_the_bands(vault, owner):
    before = vault.head()
    tx = vault.set_bands(POINTS, RELATIVE, {"from": owner})
    assert_recorded(vault, tx, "set_bands", ["uint256[]", "uint256[]"], [POINTS, RELATIVE], before)


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "stranger"])
def test_by_others_reverts(vault, caller, request):
    with reverts("not owner"):
        vault.set_bands(POINTS, RELATIVE, {"from": request.getfixturevalue(caller)})


@pytest.mark.parametrize(
    ("points", "relative", "reason"),
    [
        (POINTS[:2], RELATIVE, "wrong length"),
        (POINTS, [*RELATIVE, 0], "wrong length"),
        ([10_001, 0, 0], RELATIVE, "above 100%"),
        (POINTS, [0, 0, 10_001], "above 100%"),
        # 2 * band * (slippage 100 + errors 50 bps) <= capacity of 100 bps: no wider than 33.33 %
        ([3_334, 0, 0], [10_000, 0, 0], "loss budget below one rebalance"),
    ],
)
def test_out_of_range_reverts(vault, owner, points, relative, reason):
    with reverts(reason):
        vault.set_bands(points, relative, {"from": owner})


def test_as_wide_as_the_loss_budget_allows(vault, owner):
    vault.set_bands([3_333, 0, 0], [10_000, 0, 0], {"from": owner})
    assert vault.basket()[0][3] == 3_333
