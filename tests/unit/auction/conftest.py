"""The stages that the tests of the auction start from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.auction.stage import DRIFTED, WAD, Stage


@pytest.fixture(autouse=True)
def isolation() -> None:
    """In place of brownie's; `stage` undoes what a test did."""


@pytest.fixture(scope="module")
def _stage() -> Stage:
    return Stage()


@pytest.fixture
def stage(_stage: Stage) -> Any:
    """Drifted, and no session open yet."""
    snapshot = _stage.evm.snapshot()
    _stage.prices = [WAD, 100 * WAD, 10 * WAD]
    _stage.hold(DRIFTED)
    yield _stage
    _stage.evm.revert(snapshot)


@pytest.fixture
def open_stage(stage: Stage) -> Stage:
    """The same, with a session whose price has fallen all the way."""
    stage.open()
    return stage
