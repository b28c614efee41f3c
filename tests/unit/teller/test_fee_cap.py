"""Floor and surcharge together may be 20 %, however they share it."""

import pytest

from tests.unit.teller.stage import BURN, Desk


@pytest.mark.parametrize(("floor", "surcharge"), [(2_000, 0), (0, 2_000), (1_999, 1)])
def test_fees_may_be_at_the_cap(desk: Desk, floor: int, surcharge: int) -> None:
    assert desk.world.at("Teller", desk.add_teller(0, floor, surcharge).address).call("fees") == (
        floor,
        surcharge,
        BURN,
    )
