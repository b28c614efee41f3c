"""For the tests of trades: `stage`, a vault that does to the last unit what a test says."""

import pytest

from tests.unit.stage import Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()
