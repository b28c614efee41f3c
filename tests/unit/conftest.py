"""For the tests of trades: `stage`, a vault that does to the last unit what a test says."""

import pytest

from tests.unit.stage import Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture(autouse=True)
def isolation(request):
    """Under brownie each test starts from the module's state; on the in-process chain it makes its own."""
    if request.config.pluginmanager.hasplugin("pytest-brownie"):
        request.getfixturevalue("fn_isolation")
