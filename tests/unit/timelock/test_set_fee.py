import pytest

from tests.support.world import (
    BOB,
    DAY,
    FEE_RECIPIENT,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    ZERO,
    reverts,
)
from tests.unit.timelock.support import Desk


def fee(desk: Desk) -> tuple[int, str]:
    return desk.vault.call("fee_bps"), desk.vault.call("fee_recipient")


@pytest.mark.parametrize("bps", [0, 99, 100])
def test_lowers_at_once_and_is_recorded(desk: Desk, bps: int) -> None:
    before = desk.head()
    desk.at_once("set_fee", bps, FEE_RECIPIENT)
    desk.assert_recorded(before, "set_fee", ["uint256", "address"], [bps, FEE_RECIPIENT])
    assert fee(desk) == (bps, FEE_RECIPIENT)


def test_lowering_may_be_queued_too(desk: Desk) -> None:
    desk.delayed("set_fee", 50, FEE_RECIPIENT)
    assert fee(desk) == (50, FEE_RECIPIENT)


@pytest.mark.parametrize("caller", [GUARDIAN, STRATEGIST, KEEPER, STRANGER, FEE_RECIPIENT])
def test_lowering_by_others_reverts(desk: Desk, caller: str) -> None:
    with reverts("not admin"):
        desk.at_once("set_fee", 50, FEE_RECIPIENT, sender=caller)


@pytest.mark.parametrize(
    ("bps", "recipient"), [(101, FEE_RECIPIENT), (300, FEE_RECIPIENT), (100, BOB), (0, BOB), (300, OWNER)]
)
def test_raising_or_another_recipient_needs_the_delay(desk: Desk, bps: int, recipient: str) -> None:
    desk.assert_needs_the_delay("set_fee", bps, recipient)
    assert fee(desk) == (bps, recipient)


def test_raising_is_recorded(desk: Desk) -> None:
    before = desk.head()
    desk.delayed("set_fee", 300, BOB)
    desk.assert_recorded(before, "set_fee", ["uint256", "address"], [300, BOB])


def test_what_was_lowered_at_once_is_raised_after_the_delay(desk: Desk) -> None:
    desk.at_once("set_fee", 50, FEE_RECIPIENT)
    for bps in (51, 100):
        with reverts("needs the delay"):
            desk.at_once("set_fee", bps, FEE_RECIPIENT)


def test_owes_the_past_at_the_old_rate_to_the_old_recipient(desk: Desk) -> None:
    desk.sleep(363 * DAY)
    desk.delayed("set_fee", 0, BOB)
    supply = desk.vault.call("totalSupply")
    assert desk.vault.call("balanceOf", FEE_RECIPIENT) == supply - 1_000_000 * 10**18 == 10_000 * 10**18
    desk.sleep(365 * DAY)
    assert desk.vault.call("pending_fee_shares") == 0


@pytest.mark.parametrize(
    ("bps", "recipient", "reason"),
    [(301, BOB, "fee above cap"), (50, ZERO, "fee recipient not allowed")],
)
def test_out_of_range_reverts(desk: Desk, bps: int, recipient: str, reason: str) -> None:
    desk.queue("set_fee", bps, recipient)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_fee", bps, recipient)


def test_to_the_vault_reverts(desk: Desk) -> None:
    change = ("set_fee", 50, desk.vault.address)
    desk.queue(*change)
    desk.sleep(2 * DAY)
    with reverts("fee recipient not allowed"):
        desk.execute(*change)
