"""For the tests of trades: `stage`, a vault that does to the last unit what a test says."""

import pytest

from tests.unit.stage import Stage, create


@pytest.fixture(scope="module")
def stage(Vault, accounts) -> Stage:
    return create(Vault._project, accounts)


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Each test starts from the module's state."""
