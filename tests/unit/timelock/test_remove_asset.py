import pytest

from tests.support.world import ALICE, DAY, GUARDIAN, STRANGER, WAD, reverts
from tests.unit.timelock.support import Desk

NAV = 1_000_000  # USD, of the seed


@pytest.fixture
def desk() -> Desk:
    """Gold, the second of the three, has the target 0; the vault holds 100 USD of it: 1 bp of NAV."""
    made = Desk((5_000, 1_000, 4_000), speed_capacity_bps=4_000)
    made.at_once("set_targets", [5_500, 0, 4_500])
    made.set_balances([599_900 * 10**6, 200_000, 200 * 10**18])
    assert made.vault.call("appraise", made.tokens[1].address)[:3] == (NAV * WAD, NAV * WAD, 100 * WAD)
    return made


def refuses(desk: Desk, token: str, reason: str) -> None:
    desk.queue("remove_asset", token)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("remove_asset", token)


def test_needs_the_delay_and_takes_the_asset_out(desk: Desk) -> None:
    old = desk.basket()
    desk.assert_needs_the_delay("remove_asset", desk.tokens[1].address)
    assert desk.basket() == [old[0], old[2]]
    assert desk.vault.call("assets") == (old[0][0], old[2][0])
    assert desk.vault.call("balances") == (599_900 * 10**6, 200 * 10**18)


def test_is_recorded(desk: Desk) -> None:
    before = desk.head()
    desk.delayed("remove_asset", desk.tokens[1].address)
    desk.assert_recorded(before, "remove_asset", ["address"], [desk.tokens[1].address])


def test_leaves_what_is_left_to_nobody(desk: Desk) -> None:
    desk.delayed("remove_asset", desk.tokens[1].address)
    gold = desk.tokens.pop(1)
    desk.mint(ALICE, 2 * WAD)
    assert len(desk.redeem(ALICE, WAD)) == 2
    assert gold.call("balanceOf", desk.vault.address) == 200_000


def test_of_a_unit_more_than_1_bp_reverts(desk: Desk) -> None:
    token = desk.tokens[1]
    token.call("set_balance", desk.vault.address, 200_001)
    refuses(desk, token.address, "still held")
    token.call("set_balance", desk.vault.address, 200_000)
    desk.execute("remove_asset", token.address)


def test_of_all_that_is_held_reverts(desk: Desk) -> None:
    desk.set_balances([0, 1, 0])
    refuses(desk, desk.tokens[1].address, "still held")


def test_with_a_target_reverts(desk: Desk) -> None:
    desk.at_once("set_targets", [5_499, 1, 4_500])
    desk.tokens[1].call("set_balance", desk.vault.address, 0)
    refuses(desk, desk.tokens[1].address, "target not 0")
    desk.at_once("set_targets", [5_500, 0, 4_500])
    desk.execute("remove_asset", desk.tokens[1].address)


def test_of_another_token_reverts(desk: Desk) -> None:
    refuses(desk, STRANGER, "not an asset")


def test_of_one_of_two_reverts() -> None:
    desk = Desk((9_999, 1))
    desk.at_once("set_targets", [10_000, 0])
    desk.tokens[1].call("set_balance", desk.vault.address, 0)
    refuses(desk, desk.tokens[1].address, "fewer than 2 assets")


def test_of_a_paused_vault_reverts(desk: Desk) -> None:
    desk.at_once("pause", sender=GUARDIAN)
    refuses(desk, desk.tokens[1].address, "paused")


@pytest.mark.parametrize("i", [0, 1, 2])
def test_in_a_quarantine_reverts(desk: Desk, i: int) -> None:
    """What is held cannot be valued, and the quarantine's index would point elsewhere."""
    desk.at_once("quarantine", desk.tokens[i].address, sender=GUARDIAN)
    refuses(desk, desk.tokens[1].address, "quarantined")


def test_after_a_quarantine_of_a_later_asset_nothing_is_in_quarantine(desk: Desk) -> None:
    desk.at_once("quarantine", desk.tokens[2].address, sender=GUARDIAN)
    desk.sleep(14 * DAY)
    desk.delayed("remove_asset", desk.tokens[1].address)
    assert desk.vault.call("appraise", desk.tokens[2].address)[0] > 0
    desk.sleep(5 * DAY)
    desk.at_once("quarantine", desk.tokens[2].address, sender=GUARDIAN)
    assert desk.vault.call("settings")[1] >> 211 & 31 == 2


def test_without_a_price_reverts(desk: Desk) -> None:
    desk.feeds[0].call("set_answer", 0)
    refuses(desk, desk.tokens[1].address, "price not usable")
