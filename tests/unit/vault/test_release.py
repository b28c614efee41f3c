import pytest

from tests.support.world import ALICE, BOB, DAY, GUARDIAN, OWNER, STRANGER, WAD, ZERO, reverts
from tests.unit.vault.support import SHARES, SUPPLY, TELLER, OpenWorld, transfers

PERCENT = 10**16
PAID = 123_456
HOUR = 3_600


@pytest.fixture
def world(open_world: OpenWorld) -> OpenWorld:
    """TELLER may issue and release 5 % of the supply, 1 % more a day; ALICE holds 100 shares."""
    open_world.as_timelock("set_teller", TELLER, 500, 100)
    return open_world


def release(world: OpenWorld, amount: int, fee: int = 0, *, operator: str = ALICE, owner: str = ALICE,
            receiver: str = BOB, paid: int = PAID) -> None:  # fmt: skip
    token = world.tokens[0].address
    world.as_teller("release", operator, owner, amount, fee, HOUR, token, paid, receiver)


@pytest.mark.parametrize("fee", [0, 1, WAD, 7 * WAD])
def test_burns_pays_and_leaves_the_fee_to_melt(world: OpenWorld, fee: int) -> None:
    supply, had = world.vault.call("totalSupply"), world.balances()
    release(world, 7 * WAD, fee)
    assert transfers(world.evm, world.vault) == [(ALICE, ZERO, 7 * WAD)]
    assert world.vault.call("balanceOf", ALICE) == SHARES - 7 * WAD
    assert world.vault.call("totalSupply") == supply - 7 * WAD + fee
    assert world.vault.call("melting") == (fee, HOUR if fee else 0)
    assert world.balances() == [had[0] - PAID, *had[1:]]
    assert world.balances(BOB) == [PAID, 0, 0]
    world.sleep(HOUR)
    assert world.vault.call("totalSupply") == supply - 7 * WAD


def test_emits_the_flow(world: OpenWorld) -> None:
    number = world.vault.call("flow_sequence") + 1
    release(world, 7 * WAD, 31)
    (event,) = world.evm.events("Released")
    assert event.address.lower() == world.vault.address.lower()
    assert event.fields == {
        "teller": TELLER,
        "owner": ALICE,
        "receiver": BOB,
        "shares": 7 * WAD,
        "fee": 31,
        "asset": world.tokens[0].address.lower(),
        "paid": PAID,
        "flow_sequence": number,
    }
    assert transfers(world.evm, world.tokens[0]) == [(world.vault.address.lower(), BOB, PAID)]
    assert world.vault.call("flow_sequence") == number


def test_is_no_audit_entry(world: OpenWorld) -> None:
    before = world.head()
    release(world, 7 * WAD)
    assert world.head() == before


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, STRANGER, ALICE])
def test_by_others_reverts(world: OpenWorld, caller: str) -> None:
    with reverts("not teller"):
        token = world.tokens[0].address
        world.vault.call("release", caller, caller, 0, 0, 0, token, 1, caller, sender=caller)


def test_by_the_timelock_itself_reverts(world: OpenWorld) -> None:
    with reverts("not teller"):
        world.as_timelock("release", BOB, BOB, 0, 0, 0, world.tokens[0].address, 1, BOB)


def test_after_the_right_has_ended_reverts(world: OpenWorld) -> None:
    world.as_timelock("set_teller", TELLER, 0, 100)
    with reverts("not teller"):
        release(world, 1)


def test_of_a_paused_vault_reverts(world: OpenWorld) -> None:
    settings = list(world.vault.call("settings"))
    settings[6] = world.evm.now + 100
    world.as_timelock("configure", "pause", b"", settings)
    world.sleep(99)
    with reverts("paused"):
        release(world, WAD)
    world.sleep(1)
    release(world, WAD)


def test_in_a_quarantine_reverts(world: OpenWorld) -> None:
    settings = list(world.vault.call("settings"))
    settings[1] |= 2 << 211 | (world.evm.now + 100) << 216  # packing.vy: index 1
    world.as_timelock("configure", "quarantine", b"", settings)
    world.sleep(99)
    with reverts("quarantined"):
        release(world, WAD)
    world.sleep(1)
    release(world, WAD)


def test_to_nobody_or_the_vault_reverts(world: OpenWorld) -> None:
    for receiver in (ZERO, world.vault.address):
        with reverts("receiver not allowed"):
            release(world, WAD, receiver=receiver)


def test_for_another_spends_the_allowance(world: OpenWorld) -> None:
    world.vault.call("approve", STRANGER, 7 * WAD, sender=ALICE)
    release(world, 7 * WAD - 1, operator=STRANGER)
    assert world.vault.call("allowance", ALICE, STRANGER) == 1
    with reverts("allowance too low"):
        release(world, 2, operator=STRANGER)
    release(world, 1, operator=STRANGER)
    assert world.vault.call("allowance", ALICE, STRANGER) == 0


def test_for_oneself_spends_no_allowance(world: OpenWorld) -> None:
    for spender in (ALICE, TELLER):
        world.vault.call("approve", spender, 5, sender=ALICE)
    release(world, WAD)
    assert [world.vault.call("allowance", ALICE, spender) for spender in (ALICE, TELLER)] == [5, 5]


def test_does_not_spend_an_infinite_allowance(world: OpenWorld) -> None:
    world.vault.call("approve", STRANGER, 2**256 - 1, sender=ALICE)
    release(world, WAD, operator=STRANGER)
    assert world.vault.call("allowance", ALICE, STRANGER) == 2**256 - 1


@pytest.mark.parametrize("operator", [STRANGER, TELLER, OWNER])
def test_for_another_without_allowance_reverts(world: OpenWorld, operator: str) -> None:
    with reverts("allowance too low"):
        release(world, 1, operator=operator)


def test_of_more_than_held_reverts(world: OpenWorld) -> None:
    with reverts("balance too low"):
        release(world, SHARES + 1)
    release(world, SHARES)
    assert world.vault.call("balanceOf", ALICE) == 0


def test_fee_of_more_than_the_shares_reverts(world: OpenWorld) -> None:
    with reverts("fee above shares"):
        release(world, 7 * WAD, 7 * WAD + 1)
    release(world, 7 * WAD, 7 * WAD)


def test_of_more_tokens_than_there_are_reverts(world: OpenWorld) -> None:
    with reverts("0x"):  # the token's own, which has no reason
        release(world, WAD, paid=world.balances()[0] + 1)
    release(world, WAD, paid=world.balances()[0])


def test_paying_nothing_calls_no_token(world: OpenWorld) -> None:
    release(world, WAD, paid=0)
    assert transfers(world.evm, world.tokens[0]) == []


def test_counts_the_shares_fee_included(world: OpenWorld) -> None:
    release(world, 7 * WAD, WAD)
    used = -(-7 * WAD * WAD // (SUPPLY + SHARES))
    assert world.vault.call("flow_room", TELLER) == (5 * PERCENT + used, 5 * PERCENT - used)


def test_beyond_the_limit_reverts(world: OpenWorld) -> None:
    most = 5 * world.vault.call("totalSupply") // 100
    world.vault.call("transfer", ALICE, most, sender=OWNER)
    with reverts("flow limit exceeded"):
        release(world, most + 1)
    release(world, most)
    assert world.vault.call("flow_room", TELLER) == (10 * PERCENT, 0)
    with reverts("flow limit exceeded"):
        release(world, 1)


def test_refills_with_time(world: OpenWorld) -> None:
    most = 5 * world.vault.call("totalSupply") // 100
    world.vault.call("transfer", ALICE, 2 * most, sender=OWNER)
    release(world, most)
    supply = world.vault.call("totalSupply")
    world.sleep(DAY)
    with reverts("flow limit exceeded"):
        release(world, supply // 100 + 1)
    release(world, supply // 100)
