import pytest

from tests.support.world import DAY, STRATEGIST, reverts
from tests.unit.timelock.support import Desk

LEAST, MOST = [4_000, 2_000, 1_000], [6_000, 4_000, 3_000]
TARGETS = [5_000, 3_000, 2_000]


def test_needs_the_delay_and_stores_the_limits_and_nothing_else(desk: Desk) -> None:
    old = desk.basket()
    desk.assert_needs_the_delay("set_limits", LEAST, MOST)
    new = desk.basket()
    assert [asset[5] for asset in new] == LEAST
    assert [asset[6] for asset in new] == MOST
    for before, after in zip(old, new, strict=True):
        assert (*before[:5], before[7]) == (*after[:5], after[7])


def test_is_recorded(desk: Desk) -> None:
    before = desk.head()
    desk.delayed("set_limits", LEAST, MOST)
    desk.assert_recorded(before, "set_limits", ["uint256[]", "uint256[]"], [LEAST, MOST])


def test_binds_set_targets(desk: Desk) -> None:
    desk.delayed("set_limits", LEAST, [5_100, 4_000, 3_000])
    with reverts("target outside limits"):
        desk.at_once("set_targets", [5_101, 2_999, 1_900], sender=STRATEGIST)
    desk.at_once("set_targets", [5_100, 3_000, 1_900], sender=STRATEGIST)


@pytest.mark.parametrize(
    ("least", "most", "reason"),
    [
        (LEAST[:2], MOST, "wrong length"),
        (LEAST, MOST[:2], "wrong length"),
        (LEAST, [*MOST, 1], "wrong length"),
        ([5_001, 0, 0], MOST, "target outside limits"),
        (LEAST, [4_999, 10_000, 10_000], "target outside limits"),
        (LEAST, [6_000, 4_000, 1_999], "target outside limits"),
        (LEAST, [10_001, 4_000, 3_000], "above 100%"),
        ([10_001, 0, 0], MOST, "above 100%"),
    ],
)
def test_out_of_range_reverts(desk: Desk, least: list[int], most: list[int], reason: str) -> None:
    desk.queue("set_limits", least, most)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_limits", least, most)


def test_at_the_targets_is_accepted(desk: Desk) -> None:
    desk.delayed("set_limits", TARGETS, TARGETS)
    assert [asset[5:7] for asset in desk.basket()] == [(bps, bps) for bps in TARGETS]


def test_of_16_assets_is_recorded() -> None:
    desk = Desk([625] * 16)
    before = desk.head()
    limits = [list(range(100, 116)), list(range(9_000, 9_016))]
    desk.delayed("set_limits", *limits)
    desk.assert_recorded(before, "set_limits", ["uint256[]", "uint256[]"], limits)
