import pytest

from tests.support.evm import Contract
from tests.support.venue import call_data
from tests.support.world import DAY, OWNER, STRANGER, WAD, asset, reverts
from tests.unit.timelock.support import BPS, Desk


@pytest.fixture
def teller(desk: Desk) -> Contract:
    """In cash: floor 50, surcharge 120 bps; 5 % of the supply, 1 % back a day."""
    desk.delayed("add_teller", desk.tokens[0].address, 50, 120, DAY, 500, 100, False)
    (event,) = desk.evm.events("TellerAdded")
    return desk.at("ScriptedTeller", event.fields["teller"])


def refuses(desk: Desk, change: tuple[object, ...], reason: str) -> None:
    desk.queue("set_teller", *change)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_teller", *change)


@pytest.mark.parametrize(
    "terms",
    [(50, 120, 500, 100, False), (60, 130, 600, 200, False), (0, 0, 1, 0, True), (50, 120, 400, 50, False)],
)
def test_needs_the_delay_both_ways(desk: Desk, teller: Contract, terms: tuple[int, ...]) -> None:
    floor, surcharge, capacity, refill, _ = terms
    desk.assert_needs_the_delay("set_teller", teller.address, *terms)
    assert (teller.call("floor_bps"), teller.call("surcharge_bps")) == (floor, surcharge)
    assert teller.call("burn_seconds") == DAY
    assert desk.vault.call("flow_room", teller.address) == (capacity * BPS, capacity * BPS)
    assert desk.timelock.call("vault_of", teller.address) == desk.vault.address.lower()
    assert refill <= 200


def test_says_so_and_is_recorded(desk: Desk, teller: Contract) -> None:
    before = desk.head()
    desk.delayed("set_teller", teller.address, 60, 130, 600, 200, True)
    (event,) = desk.evm.events("TellerSet")
    assert event.address.lower() == desk.timelock.address.lower()
    assert event.fields == {
        "teller": teller.address.lower(),
        "floor_bps": 60,
        "surcharge_bps": 130,
        "arbitrageable": True,
    }
    desk.assert_recorded(before, "set_teller", ["address", "uint256", "uint256"], [teller.address, 600, 200])


def test_of_no_capacity_ends_the_right(desk: Desk, teller: Contract) -> None:
    issue = call_data(desk.vault, "issue", STRANGER, WAD, 0, 0, desk.tokens[0].address, 0)
    teller.call("forward", issue)
    desk.delayed("set_teller", teller.address, 50, 120, 0, 0, False)
    assert desk.vault.call("flow_room", teller.address) == (0, 0)
    with reverts("not teller"):
        teller.call("forward", issue)
    desk.delayed("set_teller", teller.address, 50, 120, 500, 0, False)
    teller.call("forward", issue)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ((49, 120, 500, 100, False), "floor below price errors"),
        ((50, 119, 500, 100, False), "surcharge below slippage"),
        ((50, 120, 10_001, 100, False), "flow limit above 100%"),
        ((50, 120, 500, 10_001, False), "flow limit above 100%"),
    ],
)
def test_out_of_range_reverts(desk: Desk, teller: Contract, terms: tuple[int, ...], reason: str) -> None:
    refuses(desk, (teller.address, *terms), reason)
    assert (teller.call("floor_bps"), teller.call("surcharge_bps")) == (50, 120)


def test_of_what_is_no_teller_reverts(desk: Desk) -> None:
    for other in (STRANGER, desk.teller_implementation.address, desk.vault.address):
        refuses(desk, (other, 50, 120, 500, 100, False), "not a teller")


def test_of_another_vaults_teller_reverts(desk: Desk, teller: Contract) -> None:
    desk.give(OWNER, desk.seed, spender=desk.factory.address)
    other = desk.factory.call("create_vault", desk.config, desk.seed, b"\x01" * 32, sender=OWNER)
    first, desk.vault = desk.vault, desk.at("Vault", other)
    refuses(desk, (teller.address, 50, 120, 500, 100, False), "not a teller")
    assert desk.vault.call("flow_room", teller.address) == (0, 0)
    assert first.call("flow_room", teller.address) == (500 * BPS, 500 * BPS)


def test_keeps_the_net_flow(desk: Desk, teller: Contract) -> None:
    """Else each change of the fees would open the whole capacity again."""
    desk.delayed("set_teller", teller.address, 50, 120, 500, 0, False)
    supply = desk.vault.call("totalSupply")
    flow = call_data(desk.vault, "issue", STRANGER, supply // 100, 0, 0, desk.tokens[0].address, 0)
    teller.call("forward", flow)
    assert desk.vault.call("flow_room", teller.address) == (400 * BPS, 600 * BPS)
    desk.delayed("set_teller", teller.address, 60, 130, 300, 0, False)
    assert desk.vault.call("flow_room", teller.address) == (200 * BPS, 400 * BPS)


def test_ends_the_right_of_one_whose_asset_has_gone(desk: Desk) -> None:
    token, feed = desk.deploy("ScriptedToken", 6), desk.deploy("TestFeed", 18, "USD", WAD)
    desk.feeds.append(feed)
    desk.prices.append(WAD)
    desk.oracle.call("set_feed", token.address, feed.address, 30 * DAY, 1, 2**128 - 1)
    desk.delayed("add_asset", asset(token.address, 0))
    desk.delayed("add_teller", token.address, 50, 120, DAY, 500, 100, False)
    (event,) = desk.evm.events("TellerAdded")
    teller = event.fields["teller"]
    desk.delayed("remove_asset", token.address)
    refuses(desk, (teller, 50, 120, 500, 100, False), "not an asset")
    desk.delayed("set_teller", teller, 0, 0, 0, 0, False)
    assert desk.vault.call("flow_room", teller) == (0, 0)
