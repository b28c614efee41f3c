import pytest

from tests.support.evm import Contract
from tests.support.world import ALICE, DAY, GUARDIAN, HEARTBEAT, STRANGER, WAD, asset, reverts
from tests.unit.timelock.support import Desk

ASSET_TYPE = "(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"


@pytest.fixture
def token(desk: Desk) -> Contract:
    """18 decimals, 10 USD."""
    return priced(desk)


def priced(desk: Desk, decimals: int = 18) -> Contract:
    token = desk.deploy("ScriptedToken", decimals)
    desk.feeds.append(desk.deploy("TestFeed", 18, "USD", 10 * WAD))
    desk.prices.append(10 * WAD)
    desk.oracle.call("set_feed", token.address, desk.feeds[-1].address, HEARTBEAT, 1, 2**128 - 1)
    return token


def test_needs_the_delay_and_appends_the_asset(desk: Desk, token: Contract) -> None:
    old = desk.basket()
    desk.assert_needs_the_delay("add_asset", asset(token.address, 0, max_target_bps=2_000))
    assert desk.basket()[:3] == old
    assert desk.basket()[3] == (token.address.lower(), 18, 0, 500, 2_500, 0, 2_000, 25)
    assert desk.vault.call("assets")[3] == token.address.lower()
    assert desk.vault.call("balances")[3] == 0


def test_is_recorded(desk: Desk, token: Contract) -> None:
    before = desk.head()
    desk.delayed("add_asset", asset(token.address, 0, decimals=7))
    desk.assert_recorded(before, "add_asset", [ASSET_TYPE], [asset(token.address, 0, decimals=7)])


def test_reads_the_decimals_from_the_token(desk: Desk) -> None:
    desk.delayed("add_asset", asset(priced(desk, 7).address, 0, decimals=18))
    assert desk.basket()[3][1] == 7


def test_lets_the_strategist_move_into_it(desk: Desk, token: Contract) -> None:
    desk.delayed("add_asset", asset(token.address, 0))
    desk.at_once("set_targets", [4_900, 3_000, 2_000, 100])
    assert [one[2] for one in desk.basket()] == [4_900, 3_000, 2_000, 100]


def test_costs_a_depositor_nothing_of_it_yet(desk: Desk, token: Contract) -> None:
    desk.delayed("add_asset", asset(token.address, 0))
    desk.tokens.append(token)
    assert desk.mint(ALICE, WAD)[3] == 0
    assert desk.redeem(ALICE, WAD)[3] == 0


def test_in_a_quarantine_leaves_it_where_it_is(desk: Desk, token: Contract) -> None:
    desk.at_once("quarantine", desk.tokens[2].address, sender=GUARDIAN)
    desk.delayed("add_asset", asset(token.address, 0))
    assert desk.vault.call("settings")[1] >> 211 & 31 == 3
    assert len(desk.basket()) == 4


def test_in_a_quarantine_asks_for_the_other_prices_only(desk: Desk, token: Contract) -> None:
    desk.at_once("quarantine", desk.tokens[2].address, sender=GUARDIAN)
    desk.prices[2] = 0  # a dead feed
    desk.delayed("add_asset", asset(token.address, 0))
    assert len(desk.basket()) == 4


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target_bps": 1}, "targets do not sum to 100%"),
        ({"min_target_bps": 1}, "target outside limits"),
        ({"max_target_bps": 10_001}, "limit above 100%"),
        ({"band_points_bps": 10_001}, "band above 100%"),
        ({"price_error_bps": 256}, "price error too large"),
        ({"price_error_bps": 86}, "slippage below price errors"),
    ],
)
def test_that_does_not_fit_reverts(desk: Desk, token: Contract, fields: dict[str, int], reason: str) -> None:
    refuses(desk, asset(token.address, fields.pop("target_bps", 0), **fields), reason)


def refuses(desk: Desk, given: tuple[object, ...], reason: str) -> None:
    desk.queue("add_asset", given)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("add_asset", given)


def test_at_the_edge_is_accepted(desk: Desk, token: Contract) -> None:
    desk.delayed("add_asset", asset(token.address, 0, price_error_bps=85))
    assert desk.basket()[3][7] == 85


def test_that_is_there_already_reverts(desk: Desk) -> None:
    for token in desk.tokens:
        refuses(desk, asset(token.address, 0), "asset twice")


def test_without_a_price_reverts(desk: Desk, token: Contract) -> None:
    desk.feeds[-1].call("set_answer", 0)
    refuses(desk, asset(token.address, 0), "price not usable")
    refuses(desk, asset(desk.deploy("ScriptedToken", 18).address, 0), "price not usable")


def test_without_another_assets_price_reverts(desk: Desk, token: Contract) -> None:
    desk.feeds[0].call("set_answer", 0)
    refuses(desk, asset(token.address, 0), "price not usable")


def test_that_is_no_token_reverts(desk: Desk) -> None:
    refuses(desk, asset(STRANGER, 0), "0x")


def test_with_too_many_decimals_reverts(desk: Desk) -> None:
    refuses(desk, asset(priced(desk, 25).address, 0), "too many decimals")


def test_of_a_17th_reverts() -> None:
    desk = Desk([667] * 14 + [662])
    desk.delayed("add_asset", asset(priced(desk).address, 0))
    assert len(desk.basket()) == 16
    refuses(desk, asset(priced(desk).address, 0), "too many assets")


@pytest.mark.parametrize(
    ("balance", "reason"),
    [(2**128 - 1, ""), (2**128, "balance too large"), (2**256 - 1, "balance too large")],
)
def test_of_a_balance_that_could_overflow_reverts(
    desk: Desk, token: Contract, balance: int, reason: str
) -> None:
    token.call("set_balance", desk.vault.address, balance)
    if reason:
        with reverts(reason):
            desk.delayed("add_asset", asset(token.address, 0))
    else:
        desk.delayed("add_asset", asset(token.address, 0))


def test_of_a_token_that_does_not_tell_its_balance_reverts(desk: Desk) -> None:
    token = desk.deploy("WeirdToken", 18, 4096)  # its balanceOf reverts
    feed = desk.deploy("TestFeed", 18, "USD", WAD)
    desk.oracle.call("set_feed", token.address, feed.address, HEARTBEAT, 1, 2**128 - 1)
    with reverts("no balance"):
        desk.delayed("add_asset", asset(token.address, 0))
