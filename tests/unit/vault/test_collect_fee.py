import pytest

from tests.support.world import ALICE, BOB, DAY, FEE_RECIPIENT, STRANGER, WAD, ZERO, World, reverts
from tests.unit.vault.support import MAX_SUPPLY, NONE, SHARES, SUPPLY, transfers

START_SUPPLY = SUPPLY + SHARES
MAX_PENDING = 2**92 - 1
MAX_DAY = 2**20 - 1


def accrued(days: int, fee_bps: int = 100, supply: int = START_SUPPLY) -> int:
    return supply * fee_bps * days // (365 * 10_000)


def sleep_to_midnight(world: World, days: int) -> None:
    """To the `days`-th midnight (UTC) from now."""
    world.evm.set_time((world.evm.now // DAY + days) * DAY)


def fee(world: World) -> tuple[int, int]:
    return world.vault.call("pending_fee_shares"), world.vault.call("totalSupply")


def test_accrues_by_whole_days_and_counts_in_the_supply(world: World) -> None:
    assert fee(world) == (0, START_SUPPLY)
    sleep_to_midnight(world, 1)
    world.sleep(-1)
    assert fee(world) == (0, START_SUPPLY)
    world.sleep(1)
    assert fee(world) == (accrued(1), START_SUPPLY + accrued(1))
    sleep_to_midnight(world, 9)
    assert fee(world) == (accrued(10), START_SUPPLY + accrued(10))
    world.sleep(DAY - 1)
    assert fee(world) == (accrued(10), START_SUPPLY + accrued(10))


def test_pays_the_recipient_and_keeps_the_supply(world: World) -> None:
    sleep_to_midnight(world, 10)
    assert world.vault.call("collect_fee", sender=STRANGER) == accrued(10)
    assert transfers(world.evm, world.vault) == [(ZERO, FEE_RECIPIENT, accrued(10))]
    assert world.vault.call("balanceOf", FEE_RECIPIENT) == accrued(10)
    assert fee(world) == (0, START_SUPPLY + accrued(10))


def test_twice_pays_once(world: World) -> None:
    sleep_to_midnight(world, 10)
    world.vault.call("collect_fee", sender=STRANGER)
    assert world.vault.call("collect_fee", sender=STRANGER) == 0
    assert transfers(world.evm, world.vault) == []
    assert world.vault.call("balanceOf", FEE_RECIPIENT) == accrued(10)


def test_compounds_on_what_was_accrued(world: World) -> None:
    sleep_to_midnight(world, 10)
    world.vault.call("collect_fee", sender=STRANGER)
    sleep_to_midnight(world, 5)
    assert fee(world)[0] == accrued(5, supply=START_SUPPLY + accrued(10))


def test_rounds_down(world: World) -> None:
    supply = START_SUPPLY + 36_499  # one more, and the day's fee would be a share's last unit more
    world.mint(ALICE, 36_499)
    sleep_to_midnight(world, 1)
    assert fee(world)[0] == supply * 100 // 3_650_000 == START_SUPPLY * 100 // 3_650_000


@pytest.mark.parametrize("flow", ["mint", "redeem"])
def test_a_flow_accrues_first(world: World, flow: str) -> None:
    sleep_to_midnight(world, 10)
    getattr(world, flow)(ALICE, SHARES)
    after = START_SUPPLY + accrued(10) + (SHARES if flow == "mint" else -SHARES)
    assert fee(world) == (accrued(10), after)
    sleep_to_midnight(world, 5)
    assert fee(world)[0] == accrued(10) + accrued(5, supply=after)


def test_of_the_cap_is_three_percent_a_year() -> None:
    world = World(fee_bps=300)
    sleep_to_midnight(world, 365)
    assert fee(world) == (SUPPLY * 3 // 100, SUPPLY * 103 // 100)


def test_without_a_fee_pays_nothing() -> None:
    world = World()
    sleep_to_midnight(world, 365)
    assert world.vault.call("collect_fee", sender=STRANGER) == 0
    assert fee(world) == (0, SUPPLY)


def test_is_no_audit_entry_and_no_flow(world: World) -> None:
    before, number = world.head(), world.vault.call("flow_sequence")
    sleep_to_midnight(world, 10)
    world.vault.call("collect_fee", sender=STRANGER)
    assert (world.head(), world.vault.call("flow_sequence")) == (before, number)


def test_saturates_at_the_largest_supply(world: World) -> None:
    world.mint(BOB, MAX_SUPPLY - START_SUPPLY - 7)
    sleep_to_midnight(world, 1)
    assert fee(world) == (7, MAX_SUPPLY)
    sleep_to_midnight(world, 1_000)
    assert fee(world) == (7, MAX_SUPPLY)
    with reverts("supply above cap"):
        world.mint(BOB, 1)
    due = [balance * WAD // MAX_SUPPLY for balance in world.balances()]
    assert world.redeem(BOB, WAD) == due
    assert fee(world) == (7, MAX_SUPPLY - WAD)
    assert world.vault.call("collect_fee", sender=STRANGER) == 7


def test_saturates_at_the_largest_pending_fee(world: World) -> None:
    supply = 2**111
    world.mint(BOB, supply - START_SUPPLY)
    sleep_to_midnight(world, 1)
    assert accrued(1, supply=supply) > MAX_PENDING
    assert fee(world) == (MAX_PENDING, supply + MAX_PENDING)
    sleep_to_midnight(world, 1)
    assert fee(world) == (MAX_PENDING, supply + MAX_PENDING)
    world.redeem(BOB, world.vault.call("balanceOf", BOB))
    assert fee(world) == (MAX_PENDING, START_SUPPLY + MAX_PENDING)
    assert world.vault.call("collect_fee", sender=STRANGER) == MAX_PENDING


@pytest.mark.parametrize("time", [MAX_DAY * DAY, (MAX_DAY + 1) * DAY, 2**63])
def test_stops_at_the_last_day_that_fits(world: World, time: int) -> None:
    days = MAX_DAY - world.evm.now // DAY
    world.evm.set_time(time)
    assert fee(world) == (accrued(days), START_SUPPLY + accrued(days))
    due = list(world.vault.call("preview_redeem_in_kind", SHARES, 0))
    assert world.vault.call("redeem_in_kind", SHARES, BOB, ALICE, NONE, 0, sender=ALICE) == tuple(due)
    world.evm.set_time(time + 1_000 * DAY)
    assert fee(world)[0] == accrued(days)


def test_pays_to_the_recipient_of_the_time(world: World) -> None:
    sleep_to_midnight(world, 10)
    world.delayed("set_fee", 50, BOB)  # two days later
    assert world.vault.call("balanceOf", FEE_RECIPIENT) == accrued(12)
    sleep_to_midnight(world, 1)
    assert world.vault.call("collect_fee", sender=STRANGER) == accrued(
        1, fee_bps=50, supply=START_SUPPLY + accrued(12)
    )
    assert world.vault.call("balanceOf", BOB) > 0
