import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, ZERO
from tests.unit.teller.stage import CASH, COIN, STOCK, Desk

SHARES = 1_000 * 10**18 + 7


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
@pytest.mark.parametrize("holdings", [(500, 300, 200), (400, 360, 240), (590, 240, 170), (499, 299, 199)])
@pytest.mark.parametrize("shares", [10**18, SHARES, 123_456 * 10**18])
def test_asks_what_the_spec_says(desk: Desk, index: int, holdings: tuple[int, ...], shares: int):
    desk.hold(holdings)
    state = desk.state(index)
    assets = state.mint(shares)
    assert desk.call("mint", shares, BOB, teller=index) == assets
    assert desk.shares(BOB) == shares
    assert desk.melting() == state.deposit(assets)[1] > 0


def test_takes_the_assets_from_the_caller_to_the_vault(desk: Desk):
    cash = desk.world.tokens[CASH]
    before, held = cash.call("balanceOf", ALICE), cash.call("balanceOf", desk.vault.address)
    assets = desk.call("mint", SHARES, BOB)
    assert cash.call("balanceOf", ALICE) == before - assets
    assert cash.call("balanceOf", desk.vault.address) == held + assets


def test_emits_the_deposit(desk: Desk):
    assets = desk.call("mint", SHARES, BOB)
    (event,) = desk.evm.events("Deposit")
    assert event.address.lower() == desk.tellers[CASH].address
    assert event.fields == {"sender": ALICE, "owner": BOB, "assets": assets, "shares": SHARES}


def test_asks_nothing_for_nothing(desk: Desk):
    assert desk.call("mint", 0, ALICE) == 0


def test_accepts_exactly_the_maximum(desk: Desk):
    assets = desk.call("previewMint", SHARES)
    desk.refuses("too many assets", "mint", SHARES, ALICE, assets - 1)
    assert desk.call("mint", SHARES, ALICE, assets) == assets


@pytest.mark.parametrize("receiver", ["zero", "vault", "teller"])
def test_reverts_on_a_receiver_that_cannot_hold_shares(desk: Desk, receiver: str):
    address = {"zero": ZERO, "vault": desk.vault.address, "teller": desk.tellers[CASH].address}[receiver]
    desk.refuses("receiver not allowed", "mint", SHARES, address)


def test_reverts_while_paused(desk: Desk):
    desk.world.at_once("pause", sender=GUARDIAN)
    desk.refuses("paused", "mint", SHARES, ALICE)


def test_reverts_on_a_stale_price(desk: Desk):
    desk.world.sleep(31 * 86_400)
    desk.refuses("price not usable", "mint", SHARES, ALICE)


def test_reverts_beyond_the_flow_limit(desk: Desk):
    desk.refuses("flow limit exceeded", "mint", 1_000_001 * 10**18, ALICE)
