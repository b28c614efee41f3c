"""Fee shares are burnt linearly, by every flow and by anyone; fees that meet share their mean remaining time."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.world import ALICE, BOB, GUARDIAN
from tests.unit.teller.stage import BURN, CASH, STOCK, USD, Desk, up

K = 1_000 * USD[CASH]


def test_burns_linearly(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    fee, supply = desk.locked(), desk.vault.call("totalSupply")
    for hours, left in ((1, up(fee * 5, 6)), (3, up(fee * 2, 6))):  # an hour, then three more
        desk.world.sleep(hours * 3_600)
        assert desk.locked() == left
        burnt = desk.shares(desk.tellers[CASH].address) - left
        assert desk.call("burn_fees", sender=BOB) == burnt > 0
        assert desk.shares(desk.tellers[CASH].address) == left
        assert desk.vault.call("totalSupply") == supply - fee + left


def test_all_are_burnt_in_the_end(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(BURN - 1)
    assert desk.locked() > 0
    desk.world.sleep(1)
    assert desk.call("locked_fees") == (0, 0)
    desk.call("burn_fees")
    assert desk.shares(desk.tellers[CASH].address) == 0


def test_needs_no_price(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(31 * 86_400)
    desk.refuses("price not usable", "previewDeposit", K)
    assert desk.call("burn_fees") > 0


def test_uses_no_flow_limit(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(3_600)
    before = desk.vault.call("flow_room", desk.tellers[CASH].address)
    desk.call("burn_fees")
    assert desk.vault.call("flow_room", desk.tellers[CASH].address) == before


def test_keeps_what_the_vault_was_last_seen_to_be_worth(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(31 * 86_400)
    before = desk.call("totalAssets"), desk.call("convertToShares", 10**12)
    desk.call("burn_fees")
    assert (desk.call("totalAssets"), desk.call("convertToShares", 10**12)) == before


def test_reverts_when_nothing_is_due(desk: Desk):
    desk.refuses("nothing to burn", "burn_fees")
    desk.call("deposit", 100 * K, ALICE)
    desk.refuses("nothing to burn", "burn_fees")  # in the same second


def test_reverts_while_paused(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(3_600)
    desk.world.at_once("pause", sender=GUARDIAN)
    desk.refuses("paused", "burn_fees")


def test_shares_sent_to_the_teller_are_burnt_and_block_nothing(desk: Desk):
    desk.world.mint(ALICE, 900_000 * 10**18)
    teller = desk.tellers[CASH].address
    desk.vault.call("transfer", teller, 900_000 * 10**18, sender=ALICE)
    desk.call("deposit", K, BOB)
    assert desk.shares(teller) == desk.locked()
    desk.world.mint(ALICE, 900_000 * 10**18)
    desk.vault.call("transfer", teller, 800_000 * 10**18, sender=ALICE)
    desk.call("redeem", 10**18, ALICE, ALICE)
    assert desk.shares(teller) == desk.locked()


def test_prices_do_not_count_what_is_due(desk: Desk):
    """The price of a share rises with the time, not with the burning."""
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(3_600)
    names = ("previewDeposit", "previewMint", "previewWithdraw", "previewRedeem", "convertToShares")
    before = [desk.call(name, 10**9) for name in names]
    desk.call("burn_fees")
    assert [desk.call(name, 10**9) for name in names] == before


# A new fee beside an old one


def test_a_new_fee_shares_the_mean_time(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(2 * 3_600)
    old, left = desk.call("locked_fees")
    desk.call("deposit", 50 * K, ALICE)
    locked, mean = desk.call("locked_fees")
    assert mean == (old * left + (locked - old) * BURN) // locked
    assert left < mean < BURN


def test_dust_delays_nothing(desk: Desk):
    """A deposit of a unit each minute: what was there burns down as if alone."""
    desk.call("deposit", 100 * K, ALICE)
    fee, start = desk.locked(), desk.evm.now
    while desk.evm.now < start + BURN - 60:
        desk.world.sleep(60)
        desk.call("deposit", 1, BOB)
        locked, left = desk.call("locked_fees")
        alone = up(fee * (start + BURN - desk.evm.now), BURN)
        assert left <= start + BURN - desk.evm.now + 1
        assert alone <= locked <= alone + 10**14
    desk.world.sleep(61)
    assert desk.locked() == 0


@pytest.mark.parametrize("usd", [1, 100, 10_000])
def test_to_delay_costs_as_much_as_is_delayed(desk: Desk, usd: int):
    """Share-seconds held back never exceed those that the new fees bring."""
    desk.call("deposit", 100 * K, ALICE)
    for _ in range(50):
        desk.world.sleep(300)
        before, left = desk.call("locked_fees")
        desk.call("deposit", usd * USD[CASH], BOB)
        locked, mean = desk.call("locked_fees")
        assert locked * mean <= before * left + (locked - before) * BURN
        assert locked * (mean + 1) > before * left  # nor is it burnt sooner for a new fee


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=st.lists(st.tuples(st.integers(0, 4 * 3_600), st.integers(0, 10**11)), min_size=1, max_size=12))
def test_the_teller_always_holds_what_it_says(desk: Desk, steps: list[tuple[int, int]]):
    snapshot = desk.evm.snapshot()
    for wait, amount in steps:
        desk.world.sleep(wait)
        desk.call("deposit", amount, ALICE)
        locked, left = desk.call("locked_fees")
        assert desk.shares(desk.tellers[CASH].address) == locked
        assert left <= BURN
        assert left > 0 or locked == 0
    desk.evm.revert(snapshot)


def test_each_teller_has_its_own(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    assert desk.locked(STOCK) == 0
    desk.call("deposit", 10**18, ALICE, teller=STOCK)
    assert desk.locked(STOCK) > 0
