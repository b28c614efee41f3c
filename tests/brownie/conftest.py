"""What brownie itself must keep doing: deploy, events, exact revert strings. The rest runs in process (decision 12)."""

import pytest


@pytest.fixture(autouse=True)
def isolation(request):
    """Each test starts from the module's state."""
    request.getfixturevalue("fn_isolation")
