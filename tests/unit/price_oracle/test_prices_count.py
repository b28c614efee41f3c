"""prices(): of up to 16 assets."""

import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import OK, Desk


def test_of_no_asset_and_of_16(priced: Desk, token: str) -> None:
    for count in (0, 1, 16):
        prices, statuses = priced.oracle.call("prices", [token] * count)
        assert len(prices) == count
        assert list(statuses) == [OK] * count


def test_of_17_reverts(priced: Desk, token: str) -> None:
    with pytest.raises(Reverted):
        priced.oracle.call("prices", [token] * 17)
