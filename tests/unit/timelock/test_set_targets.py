import pytest

from tests.support.world import DAY, GUARDIAN, KEEPER, OWNER, STRANGER, STRATEGIST, reverts
from tests.unit.timelock.support import BPS, Desk

TARGETS, MOVED = [5_000, 3_000, 2_000], [4_900, 3_200, 1_900]
FAR = {"min_target_bps": 1_000, "max_target_bps": 7_000}


def targets(desk: Desk) -> list[int]:
    return [asset[2] for asset in desk.basket()]


@pytest.fixture
def fast() -> Desk:
    """Any speed."""
    return Desk(asset_fields=FAR, speed_capacity_bps=20_000)


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST])
def test_moves_the_targets_and_nothing_else(desk: Desk, caller: str) -> None:
    old, settings = desk.basket(), desk.vault.call("settings")
    desk.at_once("set_targets", MOVED, sender=caller)
    assert targets(desk) == MOVED
    for before, after in zip(old, desk.basket(), strict=True):
        assert (*before[:2], *before[3:]) == (*after[:2], *after[3:])
    now = desk.vault.call("settings")
    assert (*now[1:4], *now[5:]) == (*settings[1:4], *settings[5:])


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST])
def test_is_recorded(desk: Desk, caller: str) -> None:
    before = desk.head()
    desk.at_once("set_targets", MOVED, sender=caller)
    desk.assert_recorded(before, "set_targets", ["uint256[]"], [MOVED])


@pytest.mark.parametrize("caller", [KEEPER, GUARDIAN, STRANGER])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not admin or strategist"):
        desk.at_once("set_targets", TARGETS, sender=caller)


def test_by_a_dropped_strategist_reverts(desk: Desk) -> None:
    desk.at_once("set_targets", MOVED, sender=STRATEGIST)
    desk.at_once("drop_role", STRATEGIST, sender=GUARDIAN)
    with reverts("not admin or strategist"):
        desk.at_once("set_targets", MOVED, sender=STRATEGIST)


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST])
@pytest.mark.parametrize("moved", [[7_001, 1_999, 1_000], [5_000, 4_001, 999]])
def test_outside_the_limits_reverts(fast: Desk, caller: str, moved: list[int]) -> None:
    with reverts("target outside limits"):
        fast.at_once("set_targets", moved, sender=caller)


def test_at_the_limits_is_accepted(fast: Desk) -> None:
    fast.at_once("set_targets", [7_000, 2_000, 1_000])
    assert targets(fast) == [7_000, 2_000, 1_000]


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST])
def test_faster_than_the_capacity_reverts(desk: Desk, caller: str) -> None:
    with reverts("targets move too fast"):  # a path of 1,002 bps
        desk.at_once("set_targets", [5_501, 2_499, 2_000], sender=caller)
    desk.at_once("set_targets", [5_500, 2_500, 2_000], sender=caller)
    assert desk.vault.call("speed_budget_used") == 1_000 * BPS


def test_the_admin_and_the_strategist_share_the_speed(desk: Desk) -> None:
    desk.at_once("set_targets", [5_500, 2_500, 2_000], sender=STRATEGIST)
    with reverts("targets move too fast"):
        desk.at_once("set_targets", [5_501, 2_499, 2_000], sender=OWNER)


def test_gets_its_speed_back_with_time(desk: Desk) -> None:
    desk.at_once("set_targets", [5_500, 2_500, 2_000])
    desk.sleep(2 * DAY - 1)
    with reverts("targets move too fast"):
        desk.at_once("set_targets", [5_400, 2_600, 2_000])
    desk.sleep(1)
    desk.at_once("set_targets", [5_400, 2_600, 2_000])


def test_there_and_back_counts_twice(desk: Desk) -> None:
    desk.at_once("set_targets", [5_250, 2_750, 2_000])
    assert desk.vault.call("speed_budget_used") == 500 * BPS
    desk.at_once("set_targets", TARGETS)
    assert desk.vault.call("speed_budget_used") == 1_000 * BPS
    with reverts("targets move too fast"):
        desk.at_once("set_targets", [5_001, 2_999, 2_000])


def test_of_the_same_costs_nothing(desk: Desk) -> None:
    desk.at_once("set_targets", TARGETS)
    assert desk.vault.call("speed_budget_used") == 0


@pytest.mark.parametrize(
    ("moved", "reason"),
    [
        ([5_000, 3_000], "wrong length"),
        ([5_000, 3_000, 2_000, 0], "wrong length"),
        ([], "wrong length"),
        ([5_000, 3_000, 1_999], "targets do not sum to 100%"),
        ([5_000, 3_000, 2_001], "targets do not sum to 100%"),
        ([10_001, 0, 0], "above 100%"),
        ([2**255, 0, 0], "above 100%"),
    ],
)
def test_of_what_makes_no_basket_reverts(desk: Desk, moved: list[int], reason: str) -> None:
    with reverts(reason):
        desk.at_once("set_targets", moved)


def test_to_a_band_wider_than_the_loss_budget_reverts() -> None:
    """Bands of half the target: one of 40 % needs a budget of 68 bps, one of 41 % 70."""
    fields = {"band_points_bps": 10_000, "band_relative_bps": 5_000}
    desk = Desk((4_000, 3_000, 3_000), asset_fields=fields, loss_capacity_bps=68)
    with reverts("loss budget below one rebalance"):
        desk.at_once("set_targets", [4_001, 2_999, 3_000])
    desk.at_once("set_targets", [3_900, 3_100, 3_000])


def test_that_would_leave_nothing_beside_a_quarantine_reverts() -> None:
    desk = Desk(speed_capacity_bps=40_000)
    desk.at_once("quarantine", desk.tokens[0].address, sender=GUARDIAN)
    with reverts("nothing left"):
        desk.at_once("set_targets", [10_000, 0, 0])
    desk.at_once("set_targets", [0, 10_000, 0])
    desk.sleep(14 * DAY)
    desk.at_once("set_targets", [10_000, 0, 0])


def test_of_16_assets_is_recorded() -> None:
    desk = Desk([625] * 16)
    before, moved = desk.head(), [600, 650] * 8
    desk.at_once("set_targets", moved)
    desk.assert_recorded(before, "set_targets", ["uint256[]"], [moved])
    assert targets(desk) == moved
