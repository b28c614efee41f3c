import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, ZERO
from tests.unit.teller.stage import CASH, COIN, STOCK, USD, Desk

THOUSAND = [1_000 * unit for unit in USD]


@pytest.mark.parametrize("index", [CASH, COIN, STOCK])
@pytest.mark.parametrize("holdings", [(500, 300, 200), (400, 360, 240), (590, 240, 170), (499, 299, 199)])
@pytest.mark.parametrize("usd", [1, 1_000, 7_777, 300_000])
def test_issues_what_the_spec_says(desk: Desk, index: int, holdings: tuple[int, ...], usd: int):
    desk.hold(holdings)
    shares, fee = desk.state(index).deposit(usd * USD[index])
    assert desk.call("deposit", usd * USD[index], BOB, teller=index) == shares
    assert desk.shares(BOB) == shares > 0
    assert desk.melting() == fee > 0


def test_takes_the_assets_from_the_caller_to_the_vault(desk: Desk):
    cash = desk.world.tokens[CASH]
    before, held = cash.call("balanceOf", ALICE), cash.call("balanceOf", desk.vault.address)
    desk.call("deposit", 12_345_678, BOB)
    assert cash.call("balanceOf", ALICE) == before - 12_345_678
    assert cash.call("balanceOf", desk.vault.address) == held + 12_345_678
    assert cash.call("balanceOf", desk.tellers[CASH].address) == 0


def test_emits_the_deposit(desk: Desk):
    shares = desk.call("deposit", THOUSAND[CASH], BOB)
    (event,) = desk.evm.events("Deposit")
    assert event.address.lower() == desk.tellers[CASH].address
    assert event.fields == {"sender": ALICE, "owner": BOB, "assets": THOUSAND[CASH], "shares": shares}
    (issued,) = desk.evm.events("Issued")
    assert issued.fields["fee"] == desk.melting()


def test_charges_only_the_floor_up_to_the_target(desk: Desk):
    desk.hold((400, 360, 240))  # 100,000 below half of a million: the gap is 200,000
    assert desk.state().gap_in() == 200_000 * 10**18
    shares = desk.call("deposit", 200_000 * USD[CASH], ALICE)
    assert shares == 200_000 * 10**18 * 9_950 // 10_000


def test_charges_the_surcharge_beyond_the_target(desk: Desk):
    desk.hold((400, 360, 240))
    shares = desk.call("deposit", 300_000 * USD[CASH], ALICE)
    assert shares == (300_000 * 9_950 - 100_000 * 120) * 10**18 // 10_000


def test_issues_nothing_for_nothing(desk: Desk):
    assert desk.call("deposit", 0, ALICE) == 0
    assert desk.shares() == 0


def test_accepts_exactly_the_minimum(desk: Desk):
    shares = desk.call("previewDeposit", THOUSAND[CASH])
    desk.refuses("too few shares", "deposit", THOUSAND[CASH], ALICE, shares + 1)
    assert desk.call("deposit", THOUSAND[CASH], ALICE, shares) == shares


@pytest.mark.parametrize("receiver", ["zero", "vault", "teller"])
def test_reverts_on_a_receiver_that_cannot_hold_shares(desk: Desk, receiver: str):
    address = {"zero": ZERO, "vault": desk.vault.address, "teller": desk.tellers[CASH].address}[receiver]
    desk.refuses("receiver not allowed", "deposit", THOUSAND[CASH], address)


def test_reverts_while_paused(desk: Desk):
    desk.world.at_once("pause", sender=GUARDIAN)
    desk.refuses("paused", "deposit", THOUSAND[CASH], ALICE)


def test_reverts_in_quarantine(desk: Desk):
    desk.world.at_once("quarantine", desk.world.tokens[STOCK].address, sender=GUARDIAN)
    desk.refuses("quarantined", "deposit", THOUSAND[CASH], ALICE)


def test_reverts_on_a_stale_price(desk: Desk):
    desk.world.sleep(31 * 86_400)
    desk.refuses("price not usable", "deposit", THOUSAND[CASH], ALICE)


def test_reverts_beyond_the_flow_limit(desk: Desk):
    desk.call("deposit", 999_000 * USD[CASH], ALICE)
    desk.refuses("flow limit exceeded", "deposit", 999_000 * USD[CASH], ALICE)


def test_reverts_when_the_vault_is_worth_nothing(desk: Desk):
    desk.world.set_balances([0, 0, 0])
    desk.refuses("no value", "deposit", THOUSAND[CASH], ALICE)


def test_reverts_without_a_right(desk: Desk):
    desk.world.delayed("set_teller", desk.tellers[CASH].address, 50, 120, 0, 0, True)
    desk.refuses("not teller", "deposit", THOUSAND[CASH], ALICE)


def test_reverts_without_allowance(desk: Desk):
    token = desk.world.tokens[CASH]
    token.call("approve", desk.tellers[CASH].address, THOUSAND[CASH] - 1, sender=ALICE)
    desk.refuses("0x", "deposit", THOUSAND[CASH], ALICE)
    token.call("approve", desk.tellers[CASH].address, THOUSAND[CASH], sender=ALICE)
    desk.call("deposit", THOUSAND[CASH], ALICE)
