import pytest

from tests.unit.timelock.support import Desk


@pytest.fixture(autouse=True)
def isolation() -> None:
    """Each test has a chain of its own."""


@pytest.fixture
def desk() -> Desk:
    """A fee of 1 %, and limits of 10 to 70 % for every target."""
    return Desk(fee_bps=100, asset_fields={"min_target_bps": 1_000, "max_target_bps": 7_000})
