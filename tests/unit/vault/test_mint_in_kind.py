import pytest

from tests.support.world import BOB, DAY, GUARDIAN, STRANGER, ZERO, World, reverts
from tests.unit.vault.support import ANY, MAX_SUPPLY, SHARES, SUPPLY, transfers

PART = 10_000  # of the vault: SHARES


@pytest.fixture
def rich(world: World) -> World:
    """BOB has tokens, and has approved them to the vault; no shares."""
    world.give(BOB, [balance * 10 for balance in world.balances()], spender=world.vault.address)
    return world


def mint(world: World, shares: int, most: list[int] = ANY, receiver: str = BOB) -> list[int]:
    return list(world.vault.call("mint_in_kind", shares, most, receiver, sender=BOB))


def test_takes_the_pro_rata_part_and_mints_shares(rich: World) -> None:
    held, had = rich.balances(), rich.balances(BOB)
    supply = rich.vault.call("totalSupply")
    amounts = mint(rich, SHARES, receiver=STRANGER)
    assert supply == SUPPLY + SHARES
    assert amounts == [-(-seed // PART) for seed in rich.seed]
    assert rich.balances(BOB) == [h - a for h, a in zip(had, amounts, strict=True)]
    assert rich.balances() == [h + a for h, a in zip(held, amounts, strict=True)]
    assert [rich.vault.call("balanceOf", who) for who in (STRANGER, BOB)] == [SHARES, 0]
    assert rich.vault.call("totalSupply") == supply + SHARES


def test_rounds_up(rich: World) -> None:
    assert mint(rich, 1) == [1, 1, 1]


def test_takes_what_the_preview_says(odd_world: World) -> None:
    world = odd_world
    shares = 123_456_789_012_345_678_901
    supply = world.vault.call("totalSupply")
    assert supply > SUPPLY + SHARES  # the fee is counted
    preview = list(world.vault.call("preview_mint_in_kind", shares))
    exact = [balance * shares / supply for balance in world.balances()]
    assert preview == [-(-balance * shares // supply) for balance in world.balances()]
    assert all(taken > part for taken, part in zip(preview[:2], exact[:2], strict=True))
    world.give(BOB, preview, spender=world.vault.address)
    assert mint(world, shares, preview) == preview
    assert world.balances(BOB) == [0, 0, 0]


def test_mints_at_the_supply_that_counts_the_pending_fee(odd_world: World) -> None:
    world = odd_world
    pending = world.vault.call("pending_fee_shares")
    supply = world.vault.call("totalSupply")
    world.mint(BOB, SHARES)
    assert (world.vault.call("pending_fee_shares"), world.vault.call("totalSupply")) == (
        pending,
        supply + SHARES,
    )


@pytest.mark.parametrize("i", [0, 1, 2])
def test_above_a_maximum_reverts(rich: World, i: int) -> None:
    most = list(rich.vault.call("preview_mint_in_kind", SHARES))
    most[i] -= 1
    with reverts("amount above maximum"):
        mint(rich, SHARES, most)
    most[i] += 1
    mint(rich, SHARES, most)


def test_emits_the_flow(rich: World) -> None:
    number = rich.vault.call("flow_sequence") + 1
    amounts = mint(rich, SHARES, receiver=STRANGER)
    (event,) = rich.evm.events("MintedInKind")
    assert event.address.lower() == rich.vault.address.lower()
    assert event.fields == {
        "caller": BOB,
        "receiver": STRANGER,
        "shares": SHARES,
        "amounts": tuple(amounts),
        "flow_sequence": number,
    }
    assert transfers(rich.evm, rich.vault) == [(ZERO, STRANGER, SHARES)]
    for token, amount in zip(rich.tokens, amounts, strict=True):
        assert transfers(rich.evm, token) == [(BOB, rich.vault.address.lower(), amount)]
    assert rich.vault.call("flow_sequence") == number


def test_does_not_touch_the_head(rich: World) -> None:
    before = rich.head()
    mint(rich, SHARES)
    assert rich.head() == before


def test_goes_on_while_paused_quarantined_and_without_prices(rich: World) -> None:
    rich.at_once("pause", sender=GUARDIAN)
    rich.at_once("quarantine", rich.tokens[1].address, sender=GUARDIAN)
    rich.feeds[0].call("set_answer", 0)
    mint(rich, SHARES)
    assert rich.vault.call("balanceOf", BOB) == SHARES


def test_of_no_shares_reverts(rich: World) -> None:
    with reverts("zero shares"):
        mint(rich, 0)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_with_a_wrong_number_of_maxima_reverts(rich: World, count: int) -> None:
    with reverts("wrong length"):
        mint(rich, SHARES, [2**256 - 1] * count)


def test_to_nobody_or_the_vault_reverts(rich: World) -> None:
    for receiver in (ZERO, rich.vault.address):
        with reverts("receiver not allowed"):
            mint(rich, SHARES, receiver=receiver)


def test_without_the_tokens_or_the_approval_reverts(rich: World) -> None:
    for token in rich.tokens:
        token.call("approve", rich.vault.address, 0, sender=BOB)
        with reverts("0x"):  # the token's own, which has no reason
            mint(rich, SHARES)
        token.call("approve", rich.vault.address, 2**255, sender=BOB)
        had = token.call("balanceOf", BOB)
        token.call("set_balance", BOB, 0)
        with reverts("0x"):
            mint(rich, SHARES)
        token.call("set_balance", BOB, had)
    mint(rich, SHARES)


def test_above_the_supply_cap_reverts(rich: World) -> None:
    rich.give(BOB, [2**160] * 3)
    room = MAX_SUPPLY - rich.vault.call("totalSupply")
    with reverts("supply above cap"):
        mint(rich, room + 1)
    mint(rich, room)
    assert rich.vault.call("totalSupply") == MAX_SUPPLY
    with reverts("supply above cap"):
        mint(rich, 1)


def test_after_a_donation_asks_for_more(rich: World) -> None:
    before = list(rich.vault.call("preview_mint_in_kind", SHARES))
    rich.tokens[0].call("transfer", rich.vault.address, rich.balances()[0], sender=BOB)
    assert list(rich.vault.call("preview_mint_in_kind", SHARES)) == [2 * before[0], *before[1:]]


def test_asks_for_nothing_of_an_asset_of_which_there_is_nothing(rich: World) -> None:
    rich.tokens[1].call("set_balance", rich.vault.address, 0)
    assert mint(rich, SHARES)[1] == 0
    assert transfers(rich.evm, rich.tokens[1]) == []


def test_counts_every_flow(rich: World) -> None:
    first = rich.vault.call("flow_sequence")
    for number in range(1, 4):
        mint(rich, 1)
        assert rich.vault.call("flow_sequence") == first + number
        rich.sleep(DAY)
