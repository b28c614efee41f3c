"""The signed bucket of a teller's net flow: contracts/modules/flow.vy."""

import random

import pytest

from tests.support.world import ALICE, BOB, DAY, STRANGER, WAD, ZERO, reverts
from tests.unit.vault.support import TELLER, OpenWorld

PERCENT = 10**16
CAPACITY, REFILL = 500, 100  # bps, bps a day
OTHER = "0x" + "7f" * 20


@pytest.fixture
def world(open_world: OpenWorld) -> OpenWorld:
    open_world.as_timelock("set_teller", TELLER, CAPACITY, REFILL)
    return open_world


def flow(world: OpenWorld, amount: int, teller: str = TELLER) -> None:
    """Issue so many shares to ALICE, or release them."""
    token = world.tokens[0].address
    if amount >= 0:
        world.vault.call("issue", ALICE, amount, 0, 0, token, 0, sender=teller)
    else:
        world.vault.call("release", ALICE, ALICE, -amount, 0, 0, token, 0, BOB, sender=teller)


def room(world: OpenWorld, teller: str = TELLER) -> tuple[int, int]:
    issued, released = world.vault.call("flow_room", teller)
    return issued, released


def percent(world: OpenWorld, hundredths: int) -> int:
    """Shares of so many hundredths of a percent of the supply."""
    return int(world.vault.call("totalSupply")) * hundredths // 10_000


def test_is_the_capacity_both_ways(world: OpenWorld) -> None:
    assert room(world) == (5 * PERCENT, 5 * PERCENT)


@pytest.mark.parametrize("account", [STRANGER, OTHER, ZERO])
def test_of_others_is_nothing(world: OpenWorld, account: str) -> None:
    assert room(world, account) == (0, 0)


def test_moves_with_the_net_flow(world: OpenWorld) -> None:
    flow(world, percent(world, 300))
    assert room(world) == (2 * PERCENT, 8 * PERCENT)
    flow(world, percent(world, 100))
    assert room(world) == (PERCENT, 9 * PERCENT)


def test_does_not_move_in_kind(world: OpenWorld) -> None:
    world.mint(TELLER, percent(world, 500))
    world.redeem(TELLER, WAD)
    assert room(world) == (5 * PERCENT, 5 * PERCENT)


def test_each_side_gives_the_other_room(world: OpenWorld) -> None:
    world.mint(ALICE, percent(world, 2_000))
    flow(world, percent(world, 500))
    assert room(world) == (0, 10 * PERCENT)
    flow(world, -percent(world, 1_000))
    assert room(world) == (10 * PERCENT, 0)
    flow(world, percent(world, 1_000))
    assert room(world) == (0, 10 * PERCENT)


@pytest.mark.parametrize("direction", [1, -1])
def test_returns_to_the_capacity_and_no_further(world: OpenWorld, direction: int) -> None:
    world.mint(ALICE, percent(world, 2_000))
    flow(world, direction * percent(world, 300))
    for days, level in [(1, 2 * PERCENT), (1, PERCENT), (1, 0), (1, 0), (1_000, 0)]:
        world.sleep(days * DAY)
        assert room(world)[::direction] == (5 * PERCENT - level, 5 * PERCENT + level)


def test_returns_continuously_rounded_down(world: OpenWorld) -> None:
    flow(world, percent(world, 300))
    world.sleep(12_345)
    assert room(world)[0] == 2 * PERCENT + 12_345 * REFILL * 10**14 // DAY


def test_without_a_refill_stays(world: OpenWorld) -> None:
    world.as_timelock("set_teller", TELLER, CAPACITY, 0)
    flow(world, percent(world, 300))
    world.sleep(10_000 * DAY)
    assert room(world) == (2 * PERCENT, 8 * PERCENT)


def test_rounds_a_flow_up(world: OpenWorld) -> None:
    flow(world, 1)
    assert room(world)[0] == 5 * PERCENT - 1
    world.sleep(DAY)
    flow(world, -1)
    assert room(world)[1] == 5 * PERCENT - 1


def test_is_each_tellers_own(world: OpenWorld) -> None:
    world.as_timelock("set_teller", OTHER, 200, 0)
    flow(world, percent(world, 300))
    assert room(world, OTHER) == (2 * PERCENT, 2 * PERCENT)
    flow(world, percent(world, 100), teller=OTHER)
    assert (room(world, OTHER), room(world)) == (
        (PERCENT, 3 * PERCENT),
        (2 * PERCENT, 8 * PERCENT),
    )


def test_may_be_the_whole_supply(world: OpenWorld) -> None:
    world.as_timelock("set_teller", TELLER, 10_000, 10_000)
    flow(world, world.vault.call("totalSupply"))
    assert room(world) == (0, 2 * WAD)
    with reverts("flow limit exceeded"):
        flow(world, 1)


def test_after_a_lowered_capacity_never_exceeds_it(world: OpenWorld) -> None:
    world.mint(ALICE, percent(world, 2_000))
    flow(world, percent(world, 500))
    world.as_timelock("set_teller", TELLER, 100, 0)
    issued, released = room(world)
    assert issued <= PERCENT and released >= PERCENT
    with reverts("flow limit exceeded"):
        flow(world, percent(world, 101))
    flow(world, -percent(world, 100))


@pytest.mark.parametrize("direction", [1, -1])
def test_after_a_lowered_capacity_leads_back_and_not_past_it(world: OpenWorld, direction: int) -> None:
    world.mint(ALICE, percent(world, 5_000))
    flow(world, direction * percent(world, 400))
    world.as_timelock("set_teller", TELLER, 100, 0)
    flow(world, -direction * percent(world, 100))  # still beyond the new capacity, but on its way back
    with reverts("flow limit exceeded"):
        flow(world, direction)
    with reverts("flow limit exceeded"):
        flow(world, -direction * percent(world, 550))
    flow(world, -direction * percent(world, 350))


@pytest.mark.parametrize("seed", range(5))
def test_follows_a_model(world: OpenWorld, seed: int) -> None:
    """A random sequence of flows and waits against the bucket, written out."""
    pick = random.Random(seed)
    world.mint(ALICE, percent(world, 3_000))
    stored, at, refused = 0, world.evm.now, 0
    for _ in range(60):
        world.sleep(pick.choice([0, 1, 3_600, DAY, 2 * DAY]))
        refill = (world.evm.now - at) * REFILL * 10**14 // DAY
        level = max(stored - refill, 0) if stored > 0 else min(stored + refill, 0)
        assert room(world) == (CAPACITY * 10**14 - level, CAPACITY * 10**14 + level)
        supply = world.vault.call("totalSupply")
        amount = pick.randint(-supply // 20, supply // 20)
        points = -(-abs(amount) * WAD // supply) * (1 if amount >= 0 else -1)
        if abs(level + points) <= CAPACITY * 10**14:
            flow(world, amount)
            stored, at = level + points, world.evm.now
        else:
            with reverts("flow limit exceeded"):
                flow(world, amount)
            refused += 1
    assert 0 < refused < 60
