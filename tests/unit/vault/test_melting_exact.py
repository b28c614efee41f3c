"""Fee shares that melt, to the unit: what who enters pays while they do, and the ends of their time."""

from __future__ import annotations

import pytest

from tests.support.world import BOB, WAD
from tests.unit.vault.support import TELLER, OpenWorld

HOUR = 3_600


@pytest.fixture
def world(open_world: OpenWorld) -> OpenWorld:
    """TELLER may issue and release the whole supply."""
    open_world.as_timelock("set_teller", TELLER, 10_000, 0)
    return open_world


def issue(world: OpenWorld, amount: int, fee: int, melt_seconds: int = HOUR) -> None:
    world.as_teller("issue", BOB, amount, fee, melt_seconds, world.tokens[0].address, 0)


@pytest.mark.parametrize("elapsed", [0, 1_234, HOUR - 1, HOUR, HOUR + 1])
def test_who_enters_pays_as_if_the_fee_were_gone(world: OpenWorld, elapsed: int) -> None:
    """In kind by the smaller supply, and so says the appraisal; who leaves gets his part of the whole."""
    supply = world.vault.call("totalSupply")
    issue(world, WAD, 50_000 * WAD)
    world.sleep(elapsed)
    left = 50_000 * WAD - 50_000 * WAD * min(elapsed, HOUR) // HOUR
    entry = supply + WAD
    held = world.balances()
    needed = [-(-balance * 7 * WAD // entry) for balance in held]
    appraisal = world.vault.call("appraise", world.tokens[0].address)
    assert (appraisal[1], appraisal[7]) == (entry + left, entry)
    assert list(world.vault.call("preview_mint_in_kind", 7 * WAD)) == needed
    paid = [balance * WAD // (entry + left) for balance in held]
    assert list(world.vault.call("preview_redeem_in_kind", WAD, 0)) == paid
    assert world.mint(BOB, 7 * WAD) == needed
    assert world.vault.call("totalSupply") == entry + left + 7 * WAD


def test_a_flow_without_a_fee_when_all_has_melted(world: OpenWorld) -> None:
    """In the last second, and long after it."""
    issue(world, WAD, 10 * WAD)
    for wait in (HOUR, 10 * HOUR):
        world.sleep(wait)
        supply = world.vault.call("totalSupply")
        issue(world, WAD, 0)
        assert world.vault.call("totalSupply") == supply + WAD
        assert world.vault.call("melting") == (0, 0)


def test_a_fee_that_melts_in_no_time_is_gone_at_once(world: OpenWorld) -> None:
    supply = world.vault.call("totalSupply")
    issue(world, WAD, 10 * WAD, melt_seconds=0)
    assert world.vault.call("melting") == (0, 0)
    assert world.vault.call("totalSupply") == supply + WAD


def test_every_flow_rounds_what_has_melted_anew(world: OpenWorld) -> None:
    """Of 5 units over 10 seconds none is gone after one, and of 5 over 9 none after one more."""
    issue(world, WAD, 5, melt_seconds=10)
    world.sleep(1)
    issue(world, WAD, 0)
    assert world.vault.call("melting") == (5, 9)
    world.sleep(1)
    assert world.vault.call("melting") == (5, 8)
    world.sleep(1)
    assert world.vault.call("melting") == (4, 7)
