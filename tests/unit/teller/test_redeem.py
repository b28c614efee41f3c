import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, ZERO
from tests.unit.teller.stage import CASH, COIN, STOCK, Desk

SHARES = 1_000 * 10**18 + 7


@pytest.fixture(autouse=True)
def owner_of_shares(desk: Desk) -> None:
    """ALICE has half of the shares."""
    desk.world.mint(ALICE, 1_000_000 * 10**18)


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
@pytest.mark.parametrize("holdings", [(500, 300, 200), (400, 360, 240), (590, 240, 170), (499, 299, 199)])
@pytest.mark.parametrize("shares", [10**18, SHARES, 123_456 * 10**18])
def test_pays_what_the_spec_says(desk: Desk, index: int, holdings: tuple[int, ...], shares: int):
    desk.hold([2 * thousands for thousands in holdings])
    state = desk.state(index)
    assets = state.redeem(shares)
    before = desk.world.tokens[index].call("balanceOf", BOB)
    assert desk.call("redeem", shares, BOB, ALICE, teller=index) == assets
    assert desk.world.tokens[index].call("balanceOf", BOB) == before + assets
    assert desk.shares() == 1_000_000 * 10**18 - shares
    assert desk.melting() == state.withdraw(assets)[1] > 0


def test_charges_only_the_floor_down_to_the_target(desk: Desk):
    desk.hold((1_200, 480, 320))  # of two million, 200,000 too much cash: (b - tV) / (1 - t) = 400,000
    assert desk.state().gap_out() == 400_000 * 10**18
    assert desk.call("redeem", 201_000 * 10**18, ALICE, ALICE) == 200_000 * 10**6


def test_charges_the_surcharge_beyond_the_target(desk: Desk):
    desk.hold((1_200, 480, 320))
    worth = 400_000 * 10_050 + 100_000 * (10_050 + 120)
    assert desk.call("redeem", worth * 10**14, ALICE, ALICE) == 500_000 * 10**6


def test_emits_the_withdrawal(desk: Desk):
    desk.vault.call("approve", BOB, SHARES, sender=ALICE)
    assets = desk.call("redeem", SHARES, BOB, ALICE, sender=BOB)
    (event,) = desk.evm.events("Withdraw")
    assert event.address.lower() == desk.tellers[CASH].address
    expected = {"sender": BOB, "receiver": BOB, "owner": ALICE, "assets": assets, "shares": SHARES}
    assert event.fields == expected


def test_supply_falls_by_all_but_the_fee(desk: Desk):
    supply = desk.vault.call("totalSupply")
    desk.call("redeem", SHARES, ALICE, ALICE)
    assert desk.vault.call("totalSupply") == supply - SHARES + desk.melting()


def test_pays_nothing_for_nothing(desk: Desk):
    assert desk.call("redeem", 0, ALICE, ALICE) == 0


def test_accepts_exactly_the_minimum(desk: Desk):
    assets = desk.call("previewRedeem", SHARES)
    desk.refuses("too few assets", "redeem", SHARES, ALICE, ALICE, assets + 1)
    assert desk.call("redeem", SHARES, ALICE, ALICE, assets) == assets


@pytest.mark.parametrize("receiver", ["zero", "vault"])
def test_reverts_on_a_receiver_that_cannot_be_paid(desk: Desk, receiver: str):
    address = {"zero": ZERO, "vault": desk.vault.address}[receiver]
    desk.refuses("receiver not allowed", "redeem", SHARES, address, ALICE)


def test_reverts_for_somebody_elses_shares(desk: Desk):
    desk.vault.call("approve", BOB, SHARES - 1, sender=ALICE)
    desk.refuses("allowance too low", "redeem", SHARES, BOB, ALICE, sender=BOB)


def test_reverts_for_the_fees(desk: Desk):
    desk.call("redeem", SHARES, ALICE, ALICE)
    teller = desk.tellers[CASH].address
    desk.refuses("owner not allowed", "redeem", 0, BOB, teller, sender=BOB)


def test_reverts_above_the_balance(desk: Desk):
    desk.refuses("balance too low", "redeem", 1, BOB, BOB, sender=BOB)


def test_reverts_while_paused(desk: Desk):
    desk.world.at_once("pause", sender=GUARDIAN)
    desk.refuses("paused", "redeem", SHARES, ALICE, ALICE)


def test_reverts_on_a_stale_price(desk: Desk):
    desk.world.sleep(31 * 86_400)
    desk.refuses("price not usable", "redeem", SHARES, ALICE, ALICE)


def test_reverts_beyond_the_flow_limit(desk: Desk):
    desk.world.delayed("set_teller", desk.tellers[CASH].address, 50, 120, 10, 10, True)
    desk.refuses("flow limit exceeded", "redeem", 2_001 * 10**18, ALICE, ALICE)
    desk.call("redeem", 2_000 * 10**18, ALICE, ALICE)
