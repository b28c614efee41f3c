"""An oracle that answers for another number of assets than it was asked about is not believed."""

from __future__ import annotations

import pytest

from tests.unit.auction.stage import WAD, Stage, reverts

PRICES = (WAD, 100 * WAD, 10 * WAD)


@pytest.mark.parametrize(
    ("prices", "statuses"),
    [
        ((*PRICES, WAD), (0, 0, 0)),
        (PRICES, (0, 0, 0, 0)),
        (PRICES[:2], (0, 0, 0)),
        (PRICES, (0, 0)),
    ],
)
def test_refuses_answers_of_another_length(
    open_stage: Stage, prices: tuple[int, ...], statuses: tuple[int, ...]
) -> None:
    stage = open_stage
    assert stage.quote()[1] > 0
    stage.oracle.call("set_prices", prices, statuses)
    with reverts("price not usable"):
        stage.quote()
