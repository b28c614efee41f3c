"""Three workers, processes of their own: one is killed, one is frozen and woken. `make test-fleet`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from offchain.demo.world import World
from tests.fleet.stage import JUMP, judge, many_vaults, rebalanced, workers
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]

VAULTS = 12


@pytest.fixture
def world() -> Iterator[World]:
    with many_vaults(VAULTS) as world:
        yield world


def test_three_workers_one_killed_one_frozen(world: World, postgres: Postgres, tmp_path: Path) -> None:
    """Each vault is rebalanced once, by the chain's events; the campaign does it with 200 vaults."""
    database = postgres.url()
    with workers(world, database, tmp_path, "abc", fork=True) as fleet:
        fleet.until(lambda: len(fleet.report()["workers"]) == 3, "three workers")
        fleet.until(lambda: fleet.screened() == VAULTS, "every vault to be screened")
        fleet.freeze()  # no block comes while they look: whoever is killed or frozen next has work in its hands
        world.set_market(JUMP)
        world.chain.automine(False)  # type: ignore[attr-defined]
        fleet.wake("abc")
        assert fleet.freeze_at_work("a")
        fleet.signal("a", signal.SIGKILL)
        frozen = fleet.freeze_at_work("b")
        world.chain.automine(True)  # type: ignore[attr-defined]
        world.chain.mine_blocks()  # type: ignore[attr-defined]
        fleet.until(lambda: len(rebalanced(world)) == VAULTS, "c to do the rest")
        fleet.until(lambda: {"c"} == fleet.last_workers(frozen), "c to take over what b has")
        fleet.wake("b")
        fleet.until(lambda: "left to another worker" in fleet.log("b"), "b to see that")
        fleet.stop()
        judge(world, database)
