"""Desks that the tests of the teller start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.teller.stage import Desk, WeirdWorld


@pytest.fixture(autouse=True)
def isolation() -> None:
    """In place of brownie's; `desk` and `free_desk` undo what a test did."""


@pytest.fixture(scope="module")
def _desk() -> Desk:
    return Desk()


@pytest.fixture
def desk(_desk: Desk) -> Iterator[Desk]:
    """Floor 50 bps, surcharge 120 bps, burnt over six hours."""
    snapshot, prices = _desk.evm.snapshot(), list(_desk.world.prices)
    yield _desk
    _desk.evm.revert(snapshot)
    _desk.world.prices = prices


@pytest.fixture(scope="module")
def _free_desk() -> Desk:
    return Desk(floor=0, surcharge=0)


@pytest.fixture
def free_desk(_free_desk: Desk) -> Iterator[Desk]:
    """No fees."""
    snapshot, prices = _free_desk.evm.snapshot(), list(_free_desk.world.prices)
    yield _free_desk
    _free_desk.evm.revert(snapshot)
    _free_desk.world.prices = prices


@pytest.fixture
def weird_desk() -> Desk:
    """Like `desk`; its tokens turn odd when a test says so."""
    return Desk(world=WeirdWorld())
