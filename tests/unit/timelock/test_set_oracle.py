import pytest

from tests.support.evm import Contract
from tests.support.world import DAY, GUARDIAN, STRANGER, WAD, reverts
from tests.unit.timelock.support import Desk

ONE = [WAD] * 3


@pytest.fixture
def oracle(desk: Desk) -> Contract:
    """Answers what a test says; a price for every asset."""
    made = desk.deploy("ScriptedOracle")
    made.call("set_prices", ONE, [0, 0, 0])
    return made


def refuses(desk: Desk, oracle: str, reason: str) -> None:
    desk.queue("set_oracle", oracle)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("set_oracle", oracle)
    assert desk.vault.call("oracle") == desk.oracle.address.lower()


def test_needs_the_delay_and_stores_the_oracle(desk: Desk, oracle: Contract) -> None:
    before = desk.vault.call("settings")
    desk.assert_needs_the_delay("set_oracle", oracle.address)
    assert desk.vault.call("oracle") == oracle.address.lower()
    now = desk.vault.call("settings")
    assert (*now[:5], now[6]) == (*before[:5], before[6])


def test_is_recorded(desk: Desk, oracle: Contract) -> None:
    before = desk.head()
    desk.delayed("set_oracle", oracle.address)
    desk.assert_recorded(before, "set_oracle", ["address"], [oracle.address])


@pytest.mark.parametrize(
    ("prices", "statuses"),
    [
        (ONE[:2], [0, 0]),
        (ONE, [0, 0]),
        (ONE[:2], [0, 0, 0]),
        ([*ONE, WAD], [0, 0, 0, 0]),
        ([*ONE, WAD], [0, 0, 0]),
        (ONE, [0, 0, 0, 0]),
        (ONE, [0, 0, 5]),
        (ONE, [1, 0, 0]),
        ([WAD, 0, WAD], [0, 0, 0]),
    ],
)
def test_that_answers_nonsense_reverts(
    desk: Desk, oracle: Contract, prices: list[int], statuses: list[int]
) -> None:
    oracle.call("set_prices", prices, statuses)
    refuses(desk, oracle.address, "price not usable")
    oracle.call("set_prices", ONE, [0, 0, 0])
    desk.execute("set_oracle", oracle.address)


def test_need_not_price_what_is_in_quarantine(desk: Desk, oracle: Contract) -> None:
    oracle.call("set_prices", [WAD, 0, WAD], [0, 5, 0])
    refuses(desk, oracle.address, "price not usable")
    desk.at_once("quarantine", desk.tokens[1].address, sender=GUARDIAN)
    desk.execute("set_oracle", oracle.address)
    assert desk.vault.call("oracle") == oracle.address.lower()


@pytest.mark.parametrize("i", [0, 2])
def test_must_price_what_stands_beside_a_quarantine(desk: Desk, oracle: Contract, i: int) -> None:
    desk.at_once("quarantine", desk.tokens[1].address, sender=GUARDIAN)
    oracle.call("set_prices", ONE, [5 if j == i else 0 for j in range(3)])
    refuses(desk, oracle.address, "price not usable")


def test_that_is_no_oracle_reverts(desk: Desk) -> None:
    for other in (STRANGER, desk.tokens[0].address):
        refuses(desk, other, "0x")
