import pytest

from tests.support.world import ALICE, BOB, DAY, GUARDIAN, OWNER, STRANGER, WAD, ZERO, reverts
from tests.unit.vault.support import MAX_SUPPLY, SHARES, SUPPLY, TELLER, OpenWorld, transfers

PERCENT = 10**16
PAID = 123_456


@pytest.fixture
def world(open_world: OpenWorld) -> OpenWorld:
    """TELLER may issue and release 5 % of the supply, 1 % more a day; it holds 30 shares."""
    open_world.as_timelock("set_teller", TELLER, 500, 100)
    open_world.mint(TELLER, 30 * WAD)
    return open_world


def issue(world: OpenWorld, amount: int, retained: int = 30 * WAD, receiver: str = BOB) -> None:
    world.as_teller("issue", receiver, amount, retained, world.tokens[0].address, PAID)


def held(world: OpenWorld) -> tuple[int, int]:
    """By BOB and by the teller."""
    return world.vault.call("balanceOf", BOB), world.vault.call("balanceOf", TELLER)


@pytest.mark.parametrize("retained", [0, 29 * WAD, 30 * WAD, 31 * WAD, 100 * WAD])
def test_mints_and_settles_what_the_teller_retains(world: OpenWorld, retained: int) -> None:
    supply = world.vault.call("totalSupply")
    issue(world, 7 * WAD, retained)
    moved = transfers(world.evm, world.vault)
    assert held(world) == (7 * WAD, retained)
    assert world.vault.call("totalSupply") == supply + 7 * WAD + retained - 30 * WAD
    expected = [(ZERO, BOB, 7 * WAD)]
    if retained < 30 * WAD:
        expected.append((TELLER, ZERO, 30 * WAD - retained))
    elif retained > 30 * WAD:
        expected.append((ZERO, TELLER, retained - 30 * WAD))
    assert moved == expected


def test_emits_the_flow(world: OpenWorld) -> None:
    number = world.vault.call("flow_sequence") + 1
    issue(world, 7 * WAD, 31 * WAD)
    (event,) = world.evm.events("Issued")
    assert event.address.lower() == world.vault.address.lower()
    assert event.fields == {
        "teller": TELLER,
        "receiver": BOB,
        "shares": 7 * WAD,
        "retained": 31 * WAD,
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
        world.vault.call("issue", caller, 1, 0, world.tokens[0].address, 1, sender=caller)


def test_by_the_timelock_itself_reverts(world: OpenWorld) -> None:
    with reverts("not teller"):
        world.as_timelock("issue", BOB, 1, 0, world.tokens[0].address, 1)


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


def test_counts_what_is_minted_and_nothing_that_is_burnt(world: OpenWorld) -> None:
    supply = SUPPLY + SHARES + 30 * WAD
    issue(world, 2 * WAD, 33 * WAD)
    used = -(-5 * WAD * WAD // supply)
    assert world.vault.call("flow_room", TELLER) == (5 * PERCENT - used, 5 * PERCENT + used)
    issue(world, 0, 0)  # all its own burnt
    assert world.vault.call("flow_room", TELLER) == (5 * PERCENT - used, 5 * PERCENT + used)


def test_beyond_the_limit_reverts(world: OpenWorld) -> None:
    most = 5 * world.vault.call("totalSupply") // 100
    with reverts("flow limit exceeded"):
        issue(world, most + 1)
    with reverts("flow limit exceeded"):
        issue(world, most, 30 * WAD + 1)
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
        issue(world, 10, 30 * WAD + 1)
    issue(world, 10)


def test_by_the_supply_that_counts_the_pending_fee() -> None:
    world = OpenWorld(fee_bps=300)
    world.as_timelock("set_teller", TELLER, 500, 0)
    world.sleep(100 * DAY)
    pending, supply = world.vault.call("pending_fee_shares"), world.vault.call("totalSupply")
    assert supply == SUPPLY + pending > SUPPLY
    issue(world, supply // 100, 0)
    assert world.vault.call("flow_room", TELLER) == (4 * PERCENT, 6 * PERCENT)
    assert world.vault.call("pending_fee_shares") == pending
    assert world.vault.call("totalSupply") == supply + supply // 100


def test_to_the_teller_itself_ends_in_what_it_retains(world: OpenWorld) -> None:
    issue(world, 7 * WAD, 35 * WAD, receiver=TELLER)
    assert held(world) == (0, 35 * WAD)
    assert world.vault.call("totalSupply") == SUPPLY + SHARES + 35 * WAD
