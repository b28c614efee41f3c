"""`make test-fleet`: three workers, one killed, one frozen and woken, many vaults on a real chain, a real PostgreSQL.

Two waves: the market moves and every vault has to be rebalanced, once, while one worker dies and one is frozen; then
the frozen one is woken, the database is restarted, the cooldown passes, the market moves again, and the two that are
left do it all once more. Nothing is arranged: the signals come whenever a worker has vaults in its hands. The chain's
own events are the judge.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from pathlib import Path

from offchain.policy import DAY
from tests.fleet import stage
from tests.fleet.stage import JUMP, judge, many_vaults, moved, rebalanced, workers
from tests.support.postgres import Postgres


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vaults", type=int, default=200)
    count = parser.parse_args().vaults
    stage.PATIENCE = 1_800
    begin = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {words}", flush=True)

    postgres = Postgres()
    try:
        with many_vaults(count) as world, tempfile.TemporaryDirectory() as folder:
            say(f"{count} vaults of one factory on anvil")
            database = postgres.url()
            with workers(world, database, Path(folder), "abc") as fleet:
                fleet.until(lambda: len(fleet.report()["workers"]) == 3, "three workers")
                fleet.until(lambda: fleet.screened() == count, "every vault to be screened")
                say("three workers have screened all of them: nothing to do")

                world.set_market(JUMP)
                held = fleet.freeze_at_work("a")
                fleet.signal("a", signal.SIGKILL)
                say(f"a killed while it had {len(held)} vaults; {len(rebalanced(world))} are done")
                held = fleet.freeze_at_work("b")
                said = fleet.log("b")
                say(f"b frozen while it had {len(held)} vaults; {len(rebalanced(world))} are done")
                fleet.until(lambda: len(rebalanced(world)) == count, "c to do the rest")
                fleet.until(lambda: {"c"} == fleet.last_workers(held), "c to take over what b has")
                assert fleet.log("b") == said, "b did not stay frozen"
                say("c has done the rest")
                fleet.wake("b")
                fleet.until(lambda: "left to another worker" in fleet.log("b"), "b to see that")
                judge(world, database)
                say(f"b woke up and did nothing: {count} vaults, none missed, none doubled")

                postgres.stop()
                postgres.start()
                say("the database was restarted")
                before = fleet.log("b").count("settled")
                world.chain.mine(world.chain.now + DAY)
                world.set_market(moved(JUMP, per_cent=60))
                fleet.until(lambda: sum(rebalanced(world).values()) == 2 * count, "b and c to do it again")
                fleet.stop()
                judge(world, database, times=2)
                mine = fleet.log("b").count("settled") - before
                say(f"the second wave: none missed, none doubled; b did {mine} of {count}")
                assert mine > 0, "b did nothing after it woke up"
    finally:
        postgres.close()


if __name__ == "__main__":
    main()
