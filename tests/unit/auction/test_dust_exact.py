"""The smallest fill, and the longest order, to the unit."""

import pytest

from tests.support.evm import Reverted
from tests.unit.auction.stage import GRACE, MILLION, STRANGER, WAD, Stage, reverts

DUST = 100  # WAD of weight
MAX_PAYLOAD = 4_448
STOCK, CASH = 2, 0


def test_a_fill_is_worth_more_than_a_hundred_units_of_weight() -> None:
    """Stock has 18 decimals and costs 10 USD: of a million USD, a hundred units are ten million of its own."""
    stage = Stage()
    stage.hold((400_000 * WAD, 250_000 * WAD, 350_000 * WAD))
    assert stage.nav() == MILLION
    stage.open(GRACE)
    least = DUST * MILLION // WAD // 10
    with reverts("nothing to fill"):
        stage.quote(STOCK, CASH, least)
    assert stage.quote(STOCK, CASH, least + 1)[1] == least + 1


def test_an_order_has_4448_bytes_at_most() -> None:
    stage = Stage()
    with reverts("not the running fill"):
        stage.auction.call("execute", bytes(MAX_PAYLOAD), sender=STRANGER)
    with pytest.raises(Reverted, match=r"^0x$"):
        stage.auction.call("execute", bytes(MAX_PAYLOAD + 1), sender=STRANGER)
