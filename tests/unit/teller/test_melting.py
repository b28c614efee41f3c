"""Fee shares leave the supply linearly, for every door alike; fees that meet share their mean remaining time."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.world import ALICE, BOB, GUARDIAN
from tests.unit.teller.stage import BURN, CASH, STOCK, USD, Desk, up

K = 1_000 * USD[CASH]


def test_the_supply_falls_linearly(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    fee, supply = desk.melting(), desk.vault.call("totalSupply")
    assert fee > 0
    start = desk.evm.now
    for hours in (1, 3, 2, 5):
        desk.world.sleep(hours * 3_600)
        gone = fee * min(BURN, desk.evm.now - start) // BURN
        assert desk.melting() == fee - gone
        assert desk.vault.call("totalSupply") == supply - gone


def test_nothing_is_left_in_the_end(desk: Desk):
    supply = desk.vault.call("totalSupply")
    shares = desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(BURN - 1)
    assert desk.vault.call("melting")[0] > 0
    desk.world.sleep(1)
    assert desk.vault.call("melting") == (0, 0)
    assert desk.vault.call("totalSupply") == supply + shares


def test_nothing_stops_it(desk: Desk):
    """Neither a pause, nor a stale price, nor the end of the teller's right."""
    desk.call("deposit", 100 * K, ALICE)
    desk.world.at_once("pause", sender=GUARDIAN)
    desk.world.sleep(BURN // 2)
    assert desk.vault.call("melting")[1] == BURN - BURN // 2
    desk.world.delayed("set_teller", desk.tellers[CASH].address, 50, 120, 0, 0, True)
    assert desk.vault.call("melting") == (0, 0)


def test_in_kind_follows_it(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    before = desk.vault.call("preview_redeem_in_kind", 10**18, 0)[CASH]
    desk.world.sleep(BURN)
    state = desk.state()
    after = desk.vault.call("preview_redeem_in_kind", 10**18, 0)[CASH]
    assert after > before
    assert after == desk.world.balances()[CASH] * 10**18 // state.supply


def test_flows_in_kind_change_nothing_of_it(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(1_000)
    before, supply = desk.vault.call("melting"), desk.vault.call("totalSupply")
    desk.world.mint(BOB, 10**24)
    assert desk.vault.call("melting") == before
    desk.world.redeem(BOB, 10**24)
    assert (desk.vault.call("melting"), desk.vault.call("totalSupply")) == (before, supply)


def test_a_new_fee_shares_the_mean_time(desk: Desk):
    desk.call("deposit", 100 * K, ALICE)
    desk.world.sleep(2 * 3_600)
    old, left = desk.vault.call("melting")
    desk.call("deposit", 10**18, ALICE, teller=STOCK)
    shares, mean = desk.vault.call("melting")
    assert mean == (old * left + (shares - old) * BURN) // shares
    assert left <= mean < BURN


def test_dust_delays_nothing(desk: Desk):
    """A deposit of a unit each minute: what was there melts as if alone."""
    desk.call("deposit", 100 * K, ALICE)
    fee, start = desk.melting(), desk.evm.now
    while desk.evm.now < start + BURN - 60:
        desk.world.sleep(60)
        desk.call("deposit", 1, BOB)
        shares, left = desk.vault.call("melting")
        alone = up(fee * (start + BURN - desk.evm.now), BURN)
        assert left <= start + BURN - desk.evm.now + 1
        assert alone - 10**3 <= shares <= alone + 10**14
    desk.world.sleep(61)
    assert desk.melting() == 0


@pytest.mark.parametrize("usd", [1, 100, 10_000])
def test_to_delay_costs_as_much_as_is_delayed(desk: Desk, usd: int):
    """Share-seconds held back never exceed those that the new fees bring."""
    desk.call("deposit", 100 * K, ALICE)
    for _ in range(50):
        desk.world.sleep(300)
        before, left = desk.vault.call("melting")
        desk.call("deposit", usd * USD[CASH], BOB)
        shares, mean = desk.vault.call("melting")
        assert shares * mean <= before * left + (shares - before) * BURN
        assert shares * (mean + 1) > before * left  # nor do they melt sooner for a new fee


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=st.lists(st.tuples(st.integers(0, 4 * 3_600), st.integers(0, 10**11)), min_size=1, max_size=12))
def test_balances_and_what_melts_are_the_supply(desk: Desk, steps: list[tuple[int, int]]):
    snapshot = desk.evm.snapshot()
    others = desk.vault.call("totalSupply")
    for wait, amount in steps:
        desk.world.sleep(wait)
        desk.call("deposit", amount, ALICE)
        assert desk.vault.call("totalSupply") == others + desk.shares() + desk.melting()
    desk.world.sleep(BURN)
    desk.call("redeem", desk.shares() // 2, ALICE, ALICE)
    assert desk.vault.call("totalSupply") == others + desk.shares() + desk.melting()
    desk.evm.revert(snapshot)
