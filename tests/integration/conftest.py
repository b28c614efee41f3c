"""Fixtures over a module's own `built`, a world with a vault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web3.contract import Contract

from offchain.demo.world import World
from offchain.keeper.journal import Journal


@pytest.fixture
def world(built: tuple[World, Contract]) -> Iterator[World]:
    """The world as built; what a test does to the chain is undone."""
    world, _ = built
    snapshot = world.chain._rpc("evm_snapshot", [])
    yield world
    world.chain._rpc("evm_revert", [snapshot])


@pytest.fixture
def vault(built: tuple[World, Contract], world: World) -> Contract:
    return built[1]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()
