import pytest

from tests.support.world import (
    ALICE,
    DAY,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    WAD,
    reverts,
)
from tests.unit.timelock.support import Desk

BANDS_ONLY = {"mode": 1}  # no calendar


@pytest.fixture
def desk() -> Desk:
    return Desk(**BANDS_ONLY)


def quarantine(desk: Desk, i: int, sender: str = GUARDIAN) -> None:
    desk.at_once("quarantine", desk.tokens[i].address, sender=sender)


def aside(desk: Desk) -> tuple[int, int]:
    """Index and end, as the rules' word holds them."""
    rules = desk.vault.call("settings")[1]
    return (rules >> 211 & 31) - 1, rules >> 216


@pytest.mark.parametrize("i", [0, 1, 2])
def test_sets_one_asset_aside_for_14_days(desk: Desk, i: int) -> None:
    before = desk.vault.call("settings")
    quarantine(desk, i)
    assert aside(desk) == (i, desk.evm.now + 14 * DAY)
    now = desk.vault.call("settings")
    assert now[1] & (2**211 - 1) == before[1]
    assert (now[0], *now[2:]) == (before[0], *before[2:])


@pytest.mark.parametrize("i", [0, 15])
def test_of_the_first_and_the_last_of_16(i: int) -> None:
    desk = Desk([625] * 16)
    quarantine(desk, i)
    assert aside(desk) == (i, desk.evm.now + 14 * DAY)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_is_recorded(desk: Desk, i: int) -> None:
    before = desk.head()
    quarantine(desk, i)
    desk.assert_recorded(before, "quarantine", ["uint256", "uint256"], [i, desk.evm.now + 14 * DAY])


@pytest.mark.parametrize("caller", [OWNER, STRATEGIST, KEEPER, STRANGER])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not guardian"):
        quarantine(desk, 0, sender=caller)


def test_of_another_token_reverts(desk: Desk) -> None:
    for other in (STRANGER, desk.vault.address):
        with reverts("not an asset"):
            desk.at_once("quarantine", other, sender=GUARDIAN)


@pytest.mark.parametrize("wait", [0, 14 * DAY - 1, 14 * DAY, 21 * DAY - 1])
@pytest.mark.parametrize("i", [0, 1])
def test_again_within_21_days_reverts(desk: Desk, wait: int, i: int) -> None:
    """One asset at a time, and after 14 days 7 must pass."""
    quarantine(desk, 0)
    desk.sleep(wait)
    with reverts("too soon after the last"):
        quarantine(desk, i)


def test_after_7_more_days_sets_aside_again(desk: Desk) -> None:
    quarantine(desk, 0)
    desk.sleep(21 * DAY)
    quarantine(desk, 1)
    assert aside(desk) == (1, desk.evm.now + 14 * DAY)


def test_within_7_days_of_its_end_reverts(desk: Desk) -> None:
    quarantine(desk, 0)
    desk.at_once("end_quarantine", sender=GUARDIAN)
    desk.sleep(7 * DAY - 1)
    with reverts("too soon after the last"):
        quarantine(desk, 0)
    desk.sleep(1)
    quarantine(desk, 0)


def test_that_leaves_nothing_reverts() -> None:
    desk = Desk((9_999, 1), speed_capacity_bps=2, **BANDS_ONLY)
    desk.at_once("set_targets", [10_000, 0])
    with reverts("nothing left"):
        quarantine(desk, 0)
    quarantine(desk, 1)


def test_lets_the_other_targets_grow_in_proportion(desk: Desk) -> None:
    """50 and 30 % of what is left of 80 %: on target without the third, as they were with it."""
    quarantine(desk, 2)
    desk.refresh()
    with reverts("no trigger"):
        desk.vault.call("open_session", sender=STRANGER)
    # targets 62.5 and 37.5 %; bands 5 points: cash at 57.4 and 57.6 % of the rest
    cash, gold = desk.balances()[:2]
    for weight, is_out in ((0.576, False), (0.574, True)):
        desk.tokens[0].call(
            "set_balance", desk.vault.address, int(cash * (0.375 * weight) / (0.625 * (1 - weight)))
        )
        if is_out:
            desk.vault.call("open_session", sender=STRANGER)
        else:
            with reverts("no trigger"):
                desk.vault.call("open_session", sender=STRANGER)
    assert gold == desk.balances()[1]


def test_shows_the_asset_as_nothing(desk: Desk) -> None:
    quarantine(desk, 1)
    desk.set_price(0, 3 * WAD)
    desk.vault.call("open_session", sender=STRANGER)
    (event,) = desk.evm.events("SessionOpened")
    assert event.fields["prices"] == (3 * WAD, 0, 2_000 * WAD)
    balances = desk.balances()
    assert event.fields["balances"] == (balances[0], 0, balances[2])


@pytest.mark.parametrize("i", [0, 1, 2])
def test_lets_the_others_trade_without_its_price(desk: Desk, i: int) -> None:
    """One of the two doubles, and goes back to its share of both."""
    quarantine(desk, i)
    up, down = (j for j in range(3) if j != i)
    desk.set_price(up, 2 * desk.prices[up])
    desk.feeds[i].call("set_answer", 0)
    after = desk.balances()
    targets = (5_000, 3_000, 2_000)
    both = sum(after[j] * desk.prices[j] // 10 ** desk.decimals[j] for j in (up, down))
    for j in (up, down):
        value = both * targets[j] // (targets[up] + targets[down])
        after[j] = value * 10 ** desk.decimals[j] // desk.prices[j] + (j == up)  # sold a unit less
    desk.rebalance(after, sells=[2**256 - 1 if j == up else 0 for j in range(3)])
    (event,) = desk.evm.events("Rebalanced")
    assert event.fields["balances_after"] == tuple(0 if j == i else after[j] for j in range(3))
    assert desk.balances() == after
    assert desk.vault.call("session")[2] == desk.evm.now  # on target


def test_without_it_a_dead_feed_stops_trades(desk: Desk) -> None:
    desk.set_price(0, 3 * WAD)
    desk.feeds[1].call("set_answer", 0)
    with reverts("price not usable"):
        desk.vault.call("open_session", sender=STRANGER)
    quarantine(desk, 1)
    desk.vault.call("open_session", sender=STRANGER)


def test_stops_priced_flows_and_not_those_in_kind(desk: Desk) -> None:
    quarantine(desk, 1)
    for token in desk.tokens:
        with reverts("quarantined"):
            desk.vault.call("appraise", token.address)
    desk.mint(ALICE, 2 * WAD)
    assert all(amount > 0 for amount in desk.redeem(ALICE, WAD))


def test_ends_by_itself_after_14_days(desk: Desk) -> None:
    quarantine(desk, 1)
    desk.sleep(14 * DAY - 1)
    with reverts("quarantined"):
        desk.vault.call("appraise", desk.tokens[0].address)
    desk.sleep(1)
    desk.refresh()
    assert desk.vault.call("appraise", desk.tokens[0].address)[0] == 1_000_000 * WAD
    with reverts("no trigger"):
        desk.vault.call("open_session", sender=STRANGER)
