import pytest

from tests.support.world import ALICE, BOB, GUARDIAN, KEEPER, OWNER, STRANGER, WAD, ZERO, World, reverts
from tests.unit.vault.support import DEAD, MAX_SUPPLY, NONE, SHARES, SUPPLY, transfers

EVERYTHING = 2**256 - 1
SKIPS = range(8)


def redeem(world: World, shares: int, *, receiver: str = ALICE, owner: str = ALICE, sender: str = ALICE,
           least: list[int] = NONE, skip: int = 0) -> list[int]:  # fmt: skip
    return list(world.vault.call("redeem_in_kind", shares, receiver, owner, least, skip, sender=sender))


def part(world: World, shares: int = SHARES) -> list[int]:
    """Exactly pro rata, rounded down."""
    supply = world.vault.call("totalSupply")
    return [balance * shares // supply for balance in world.balances()]


def test_burns_shares_and_pays_the_pro_rata_part(world: World) -> None:
    supply, held, due = world.vault.call("totalSupply"), world.balances(), part(world)
    assert redeem(world, SHARES, receiver=BOB) == due
    assert world.balances(BOB) == due
    assert world.balances() == [h - d for h, d in zip(held, due, strict=True)]
    assert world.vault.call("balanceOf", ALICE) == 0
    assert world.vault.call("totalSupply") == supply - SHARES == SUPPLY


def test_rounds_down(world: World) -> None:
    assert redeem(world, 1) == [0, 0, 0]


def test_pays_what_the_preview_says(odd_world: World) -> None:
    world = odd_world
    shares = 12_345_678_901_234_567_890
    preview = list(world.vault.call("preview_redeem_in_kind", shares, 0))
    assert preview == part(world, shares)
    assert world.vault.call("totalSupply") > SUPPLY + SHARES  # the pending fee is counted
    assert redeem(world, shares, least=preview) == preview


def test_pays_by_the_supply_that_counts_the_pending_fee(odd_world: World) -> None:
    world = odd_world
    pending, due = world.vault.call("pending_fee_shares"), part(world)
    assert pending > 0
    assert redeem(world, SHARES) == due
    assert world.vault.call("pending_fee_shares") == pending


@pytest.mark.parametrize("skip", SKIPS)
def test_leaves_skipped_assets(world: World, skip: int) -> None:
    due = part(world)
    expected = [0 if skip >> i & 1 else due[i] for i in range(3)]
    assert list(world.vault.call("preview_redeem_in_kind", SHARES, skip)) == expected
    # a minimum of a skipped asset does not count
    least = [EVERYTHING if skip >> i & 1 else due[i] for i in range(3)]
    assert redeem(world, SHARES, receiver=BOB, least=least, skip=skip) == expected
    assert world.balances(BOB) == expected
    assert world.vault.call("balanceOf", ALICE) == 0


def test_ignores_the_bits_of_no_asset(world: World) -> None:
    due = part(world)
    assert redeem(world, SHARES, skip=EVERYTHING - 0b111) == due


@pytest.mark.parametrize("i", [0, 1, 2])
def test_below_a_minimum_reverts(world: World, i: int) -> None:
    least = part(world)
    least[i] += 1
    with reverts("amount below minimum"):
        redeem(world, SHARES, least=least)
    least[i] -= 1
    redeem(world, SHARES, least=least)


def test_emits_the_flow(world: World) -> None:
    world.vault.call("approve", STRANGER, SHARES, sender=ALICE)
    number = world.vault.call("flow_sequence") + 1
    due = part(world)
    amounts = redeem(world, SHARES, receiver=BOB, sender=STRANGER, skip=0b010)
    (event,) = world.evm.events("RedeemedInKind")
    assert event.address.lower() == world.vault.address.lower()
    assert event.fields == {
        "caller": STRANGER,
        "receiver": BOB,
        "owner": ALICE,
        "shares": SHARES,
        "amounts": (due[0], 0, due[2]),
        "skip": 0b010,
        "flow_sequence": number,
    }
    assert amounts == [due[0], 0, due[2]]
    assert transfers(world.evm, world.vault) == [(ALICE, ZERO, SHARES)]
    assert transfers(world.evm, world.tokens[1]) == []
    assert world.vault.call("flow_sequence") == number


def test_does_not_touch_the_head(world: World) -> None:
    before = world.head()
    redeem(world, SHARES)
    assert world.head() == before


def test_for_another_spends_the_allowance(world: World) -> None:
    world.vault.call("approve", STRANGER, SHARES, sender=ALICE)
    redeem(world, SHARES - 1, receiver=STRANGER, sender=STRANGER)
    assert world.vault.call("allowance", ALICE, STRANGER) == 1
    assert world.vault.call("balanceOf", ALICE) == 1


@pytest.mark.parametrize("caller", [STRANGER, OWNER, GUARDIAN, KEEPER])
def test_for_another_without_allowance_reverts(world: World, caller: str) -> None:
    world.vault.call("approve", caller, SHARES - 1, sender=ALICE)
    with reverts("allowance too low"):
        redeem(world, SHARES, receiver=caller, sender=caller)


def test_of_more_than_held_reverts(world: World) -> None:
    with reverts("balance too low"):
        redeem(world, SHARES + 1)
    redeem(world, SHARES)


def test_of_no_shares_reverts(world: World) -> None:
    with reverts("zero shares"):
        redeem(world, 0)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_with_a_wrong_number_of_minima_reverts(world: World, count: int) -> None:
    with reverts("wrong length"):
        redeem(world, SHARES, least=[0] * count)


def test_to_nobody_or_the_vault_reverts(world: World) -> None:
    for receiver in (ZERO, world.vault.address):
        with reverts("receiver not allowed"):
            redeem(world, SHARES, receiver=receiver)


def test_goes_on_while_paused_quarantined_and_without_prices(world: World) -> None:
    due = part(world)
    world.at_once("pause", sender=GUARDIAN)
    world.at_once("quarantine", world.tokens[1].address, sender=GUARDIAN)
    for feed in world.feeds:
        feed.call("set_answer", 0)
    assert redeem(world, SHARES, least=due) == due


def test_of_everything_else_leaves_the_dead_share(world: World) -> None:
    for holder in (OWNER, ALICE):
        redeem(world, world.vault.call("balanceOf", holder), receiver=holder, owner=holder, sender=holder)
    assert world.vault.call("totalSupply") == world.vault.call("balanceOf", DEAD) == WAD
    assert all(
        left - seed // 1_000_000 in (0, 1, 2) for left, seed in zip(world.balances(), world.seed, strict=True)
    )


def test_pays_of_a_huge_balance_as_if_it_were_the_largest(world: World) -> None:
    supply = world.vault.call("totalSupply")
    world.tokens[0].call("set_balance", world.vault.address, EVERYTHING)
    expected = (2**128 - 1) * SHARES // supply
    assert world.vault.call("preview_redeem_in_kind", SHARES, 0)[0] == expected
    assert redeem(world, SHARES)[0] == expected


def test_never_overflows_at_the_largest_supply(world: World) -> None:
    world.tokens[0].call("set_balance", world.vault.address, 0)
    room = MAX_SUPPLY - world.vault.call("totalSupply")
    world.mint(BOB, room)
    world.tokens[0].call("set_balance", world.vault.address, EVERYTHING)
    redeem(world, room, receiver=STRANGER, owner=BOB, sender=BOB)
    assert world.balances(STRANGER)[0] == (2**128 - 1) * room // MAX_SUPPLY


def test_skips_a_token_that_reverts(world: World) -> None:
    due = part(world)
    # the receiver's balance overflows: every transfer to it reverts
    world.tokens[2].call("set_balance", BOB, EVERYTHING)
    with reverts("0x"):
        redeem(world, SHARES, receiver=BOB)
    assert redeem(world, SHARES, receiver=BOB, skip=0b100) == [*due[:2], 0]
    assert world.balances(BOB)[:2] == due[:2]
