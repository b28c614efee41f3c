import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, ZERO
from tests.unit.teller.stage import CASH, COIN, STOCK, USD, Desk

ASSETS = 1_000 * USD[CASH] + 7


@pytest.fixture(autouse=True)
def owner_of_shares(desk: Desk) -> None:
    """ALICE has half of the shares."""
    desk.world.mint(ALICE, 1_000_000 * 10**18)


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
@pytest.mark.parametrize("holdings", [(500, 300, 200), (400, 360, 240), (590, 240, 170), (499, 299, 199)])
@pytest.mark.parametrize("usd", [1, 1_000, 123_456])
def test_burns_what_the_spec_says(desk: Desk, index: int, holdings: tuple[int, ...], usd: int):
    desk.hold([2 * thousands for thousands in holdings])
    assets = usd * USD[index] + 1
    shares, fee = desk.state(index).withdraw(assets)
    before = desk.world.tokens[index].call("balanceOf", BOB)
    assert desk.call("withdraw", assets, BOB, ALICE, teller=index) == shares
    assert desk.world.tokens[index].call("balanceOf", BOB) == before + assets
    assert desk.shares() == 1_000_000 * 10**18 - shares
    assert desk.melting() == fee > 0


def test_emits_the_withdrawal(desk: Desk):
    desk.vault.call("approve", BOB, 10**30, sender=ALICE)
    shares = desk.call("withdraw", ASSETS, BOB, ALICE, sender=BOB)
    (event,) = desk.evm.events("Withdraw")
    assert event.address.lower() == desk.tellers[CASH].address
    expected = {"sender": BOB, "receiver": BOB, "owner": ALICE, "assets": ASSETS, "shares": shares}
    assert event.fields == expected


def test_burns_nothing_for_nothing(desk: Desk):
    assert desk.call("withdraw", 0, ALICE, ALICE) == 0


def test_accepts_exactly_the_maximum(desk: Desk):
    shares = desk.call("previewWithdraw", ASSETS)
    desk.refuses("too many shares", "withdraw", ASSETS, ALICE, ALICE, shares - 1)
    assert desk.call("withdraw", ASSETS, ALICE, ALICE, shares) == shares


@pytest.mark.parametrize("receiver", ["zero", "vault"])
def test_reverts_on_a_receiver_that_cannot_be_paid(desk: Desk, receiver: str):
    address = {"zero": ZERO, "vault": desk.vault.address}[receiver]
    desk.refuses("receiver not allowed", "withdraw", ASSETS, address, ALICE)


def test_reverts_for_somebody_elses_shares(desk: Desk):
    shares = desk.call("previewWithdraw", ASSETS)
    desk.vault.call("approve", BOB, shares - 1, sender=ALICE)
    desk.refuses("allowance too low", "withdraw", ASSETS, BOB, ALICE, sender=BOB)
    desk.vault.call("approve", BOB, shares, sender=ALICE)
    desk.call("withdraw", ASSETS, BOB, ALICE, sender=BOB)


def test_reverts_for_the_fees(desk: Desk):
    desk.call("withdraw", ASSETS, ALICE, ALICE)
    desk.refuses("owner not allowed", "withdraw", 0, BOB, desk.tellers[CASH].address, sender=BOB)


def test_reverts_above_the_balance(desk: Desk):
    desk.refuses("balance too low", "withdraw", 1, BOB, BOB, sender=BOB)


def test_reverts_while_paused(desk: Desk):
    desk.world.at_once("pause", sender=GUARDIAN)
    desk.refuses("paused", "withdraw", ASSETS, ALICE, ALICE)


def test_reverts_on_a_stale_price(desk: Desk):
    desk.world.sleep(31 * 86_400)
    desk.refuses("price not usable", "withdraw", ASSETS, ALICE, ALICE)
