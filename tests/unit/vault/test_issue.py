import pytest

from tests.support.world import ALICE, BOB, DAY, GUARDIAN, OWNER, STRANGER, WAD, ZERO, reverts
from tests.unit.vault.support import MAX_SUPPLY, SHARES, SUPPLY, TELLER, OpenWorld, transfers

PERCENT = 10**16
PAID = 123_456


HOUR = 3_600


@pytest.fixture
def world(open_world: OpenWorld) -> OpenWorld:
    """TELLER may issue and release 5 % of the supply, 1 % more a day."""
    open_world.as_timelock("set_teller", TELLER, 500, 100)
    return open_world


def issue(world: OpenWorld, amount: int, fee: int = 0, receiver: str = BOB, melt_seconds: int = HOUR) -> None:
    world.as_teller("issue", receiver, amount, fee, melt_seconds, world.tokens[0].address, PAID)


@pytest.mark.parametrize("fee", [0, 1, WAD, 100 * WAD])
def test_mints_shares_and_a_fee_of_nobody(world: OpenWorld, fee: int) -> None:
    supply = world.vault.call("totalSupply")
    issue(world, 7 * WAD, fee)
    assert transfers(world.evm, world.vault) == [(ZERO, BOB, 7 * WAD)]
    assert world.vault.call("balanceOf", BOB) == 7 * WAD
    assert world.vault.call("totalSupply") == supply + 7 * WAD + fee
    assert world.vault.call("melting") == (fee, HOUR if fee else 0)


def test_fee_melts_by_the_second_whatever_flows_meanwhile(world: OpenWorld) -> None:
    start, supply = world.evm.now, world.vault.call("totalSupply")
    issue(world, 7 * WAD, 36 * WAD)
    for elapsed in (1, 900, 3_599):
        world.evm.set_time(start + elapsed)
        melting = 36 * WAD - 36 * WAD * elapsed // HOUR
        assert world.vault.call("melting") == (melting, HOUR - elapsed)
        assert world.vault.call("totalSupply") == supply + 7 * WAD + melting
        world.redeem(BOB, WAD)
        supply -= WAD
    world.evm.set_time(start + HOUR)
    assert world.vault.call("melting") == (0, 0)
    assert world.vault.call("totalSupply") == supply + 7 * WAD


def test_second_fee_melts_with_the_rest_for_their_mean_time(world: OpenWorld) -> None:
    issue(world, WAD, 36 * WAD)
    world.sleep(HOUR // 2)
    issue(world, WAD, 6 * WAD)  # beside 18 with half an hour left
    left = (18 * HOUR // 2 + 6 * HOUR) // 24
    assert world.vault.call("melting") == (24 * WAD, left)
    world.sleep(left)
    assert world.vault.call("melting") == (0, 0)


def test_dust_delays_no_melting(world: OpenWorld) -> None:
    issue(world, WAD, 36 * WAD)
    for _ in range(10):
        world.sleep(60)
        issue(world, 0, 1, melt_seconds=30 * DAY)
    melting, left = world.vault.call("melting")
    assert melting <= 30 * WAD + 10
    assert left <= 50 * 60


def test_emits_the_flow(world: OpenWorld) -> None:
    number = world.vault.call("flow_sequence") + 1
    issue(world, 7 * WAD, 31)
    (event,) = world.evm.events("Issued")
    assert event.address.lower() == world.vault.address.lower()
    assert event.fields == {
        "teller": TELLER,
        "receiver": BOB,
        "shares": 7 * WAD,
        "fee": 31,
        "asset": world.tokens[0].address.lower(),
        "paid": PAID,
        "flow_sequence": number,
    }
    assert world.vault.call("flow_sequence") == number


def test_moves_no_token_and_is_no_audit_entry(world: OpenWorld) -> None:
    before = world.balances(), world.head()
    issue(world, 7 * WAD)
    assert (world.balances(), world.head()) == before


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, STRANGER, ALICE])
def test_by_others_reverts(world: OpenWorld, caller: str) -> None:
    with reverts("not teller"):
        world.vault.call("issue", caller, 1, 0, 0, world.tokens[0].address, 1, sender=caller)


def test_by_the_timelock_itself_reverts(world: OpenWorld) -> None:
    with reverts("not teller"):
        world.as_timelock("issue", BOB, 1, 0, 0, world.tokens[0].address, 1)


def test_after_the_right_has_ended_reverts(world: OpenWorld) -> None:
    world.as_timelock("set_teller", TELLER, 0, 100)
    with reverts("not teller"):
        issue(world, 1)


def test_of_a_paused_vault_reverts(world: OpenWorld) -> None:
    until = world.evm.now + 100
    settings = list(world.vault.call("settings"))
    settings[6] = until
    world.as_timelock("configure", "pause", b"", settings)
    with reverts("paused"):
        issue(world, WAD)
    world.evm.set_time(until - 1)
    with reverts("paused"):
        issue(world, WAD)
    world.sleep(1)
    issue(world, WAD)


def quarantine(world: OpenWorld, until: int) -> None:
    settings = list(world.vault.call("settings"))
    settings[1] |= 2 << 211 | until << 216  # packing.vy: index 1
    world.as_timelock("configure", "quarantine", b"", settings)


def test_in_a_quarantine_reverts(world: OpenWorld) -> None:
    quarantine(world, world.evm.now + 100)
    world.sleep(99)
    with reverts("quarantined"):
        issue(world, WAD)
    world.sleep(1)
    issue(world, WAD)


@pytest.mark.parametrize("amount", [0, 1])
def test_to_nobody_or_the_vault_reverts(world: OpenWorld, amount: int) -> None:
    for receiver in (ZERO, world.vault.address):
        with reverts("receiver not allowed"):
            issue(world, amount, receiver=receiver)


def test_counts_shares_and_fee(world: OpenWorld) -> None:
    issue(world, 2 * WAD, 3 * WAD)
    used = -(-5 * WAD * WAD // (SUPPLY + SHARES))
    assert world.vault.call("flow_room", TELLER) == (5 * PERCENT - used, 5 * PERCENT + used)
    world.sleep(1)
    issue(world, 0, 0)  # what has melted is not counted
    refilled = PERCENT // DAY
    assert world.vault.call("flow_room", TELLER) == (
        5 * PERCENT - used + refilled,
        5 * PERCENT + used - refilled,
    )


def test_beyond_the_limit_reverts(world: OpenWorld) -> None:
    most = 5 * world.vault.call("totalSupply") // 100
    with reverts("flow limit exceeded"):
        issue(world, most + 1)
    with reverts("flow limit exceeded"):
        issue(world, most, 1)
    issue(world, most)
    assert world.vault.call("flow_room", TELLER) == (0, 10 * PERCENT)
    with reverts("flow limit exceeded"):
        issue(world, 1)


def test_refills_with_time(world: OpenWorld) -> None:
    issue(world, 5 * world.vault.call("totalSupply") // 100)
    supply = world.vault.call("totalSupply")
    world.sleep(DAY)
    with reverts("flow limit exceeded"):
        issue(world, supply // 100 + 1)
    issue(world, supply // 100)


def test_above_the_supply_cap_reverts(world: OpenWorld) -> None:
    world.as_timelock("set_teller", TELLER, 10_000, 100)
    world.mint(STRANGER, MAX_SUPPLY - world.vault.call("totalSupply") - 10)
    with reverts("supply above cap"):
        issue(world, 11)
    with reverts("supply above cap"):
        issue(world, 10, 1)
    issue(world, 10)


def test_by_the_supply_that_counts_the_pending_fee() -> None:
    world = OpenWorld(fee_bps=300)
    world.as_timelock("set_teller", TELLER, 500, 0)
    world.sleep(100 * DAY)
    pending, supply = world.vault.call("pending_fee_shares"), world.vault.call("totalSupply")
    assert supply == SUPPLY + pending > SUPPLY
    issue(world, supply // 100)
    assert world.vault.call("flow_room", TELLER) == (4 * PERCENT, 6 * PERCENT)
    assert world.vault.call("pending_fee_shares") == pending
    assert world.vault.call("totalSupply") == supply + supply // 100
