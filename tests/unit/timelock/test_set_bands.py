import pytest

from tests.support.world import DAY, reverts
from tests.unit.timelock.support import Desk

POINTS, RELATIVE = [400, 300, 200], [2_000, 1_000, 500]


def test_needs_the_delay_and_stores_the_bands_and_nothing_else(desk: Desk) -> None:
    old = desk.basket()
    desk.assert_needs_the_delay("set_bands", POINTS, RELATIVE)
    new = desk.basket()
    assert [asset[3] for asset in new] == POINTS
    assert [asset[4] for asset in new] == RELATIVE
    for before, after in zip(old, new, strict=True):
        assert (*before[:3], *before[5:]) == (*after[:3], *after[5:])


def test_is_recorded(desk: Desk) -> None:
    before = desk.head()
    desk.delayed("set_bands", POINTS, RELATIVE)
    desk.assert_recorded(before, "set_bands", ["uint256[]", "uint256[]"], [POINTS, RELATIVE])


@pytest.mark.parametrize(
    ("points", "relative", "reason"),
    [
        (POINTS[:2], RELATIVE, "wrong length"),
        (POINTS, RELATIVE[:2], "wrong length"),
        (POINTS, [*RELATIVE, 0], "wrong length"),
        ([10_001, 0, 0], RELATIVE, "above 100%"),
        (POINTS, [0, 0, 10_001], "above 100%"),
        # 2 * band * (slippage 120 + errors 50 bps) <= capacity of 200 bps: no wider than 58.82 %
        ([5_883, 0, 0], [10_000, 0, 0], "loss budget below one rebalance"),
    ],
)
def test_out_of_range_reverts(points: list[int], relative: list[int], reason: str) -> None:
    desk = Desk((6_000, 3_000, 1_000))
    desk.queue("set_bands", points, relative)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_bands", points, relative)


def test_as_wide_as_the_loss_budget_allows() -> None:
    desk = Desk((6_000, 3_000, 1_000))
    desk.delayed("set_bands", [5_882, 0, 0], [10_000, 0, 0])
    assert desk.basket()[0][3] == 5_882


def test_of_16_assets_is_recorded() -> None:
    desk = Desk([625] * 16)
    before = desk.head()
    bands = [list(range(100, 116)), list(range(200, 216))]
    desk.delayed("set_bands", *bands)
    desk.assert_recorded(before, "set_bands", ["uint256[]", "uint256[]"], bands)
