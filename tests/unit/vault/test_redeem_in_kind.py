import pytest
from brownie import ZERO_ADDRESS, chain, reverts

from tests.unit.vault.deployment import DAY, NAV, SALT, SEEDS, WAD, asset

NONE = [0, 0, 0]
PART = [seed // 100 for seed in SEEDS]  # of 100 shares


def test_burns_shares_and_pays_the_pro_rata_part(vault, tokens, shares, depositor, receiver):
    supply = vault.totalSupply()
    tx = vault.redeem_in_kind(shares, receiver, depositor, NONE, 0, {"from": depositor})
    assert list(tx.return_value) == PART
    assert [token.balanceOf(receiver) for token in tokens] == PART
    assert list(vault.balances()) == SEEDS
    assert vault.balanceOf(depositor) == 0
    assert vault.totalSupply() == supply - shares == NAV


def test_rounds_down(vault, tokens, shares, depositor):
    tx = vault.redeem_in_kind(1, depositor, depositor, NONE, 0, {"from": depositor})
    assert list(tx.return_value) == [0, 0, 0]


def test_pays_what_the_preview_says(vault, shares, depositor):
    chain.sleep(10 * DAY)
    vault.collect_fee({"from": depositor})  # a supply that divides nothing
    supply, held = vault.totalSupply(), vault.balances()
    part = 12_345_678_901_234_567_890
    preview = vault.preview_redeem_in_kind(part, 0)
    assert list(preview) == [balance * part // supply for balance in held]
    assert (
        vault.redeem_in_kind(part, depositor, depositor, preview, 0, {"from": depositor}).return_value
        == preview
    )


@pytest.mark.parametrize("skip", range(8))
def test_leaves_skipped_assets(vault, tokens, shares, depositor, receiver, skip):
    left = [skip >> i & 1 for i in range(3)]
    expected = [0 if is_left else part for is_left, part in zip(left, PART, strict=True)]
    assert list(vault.preview_redeem_in_kind(shares, skip)) == expected
    # a minimum of a skipped asset does not count
    least = [2**256 - 1 if is_left else part for is_left, part in zip(left, PART, strict=True)]
    tx = vault.redeem_in_kind(shares, receiver, depositor, least, skip, {"from": depositor})
    assert list(tx.return_value) == expected
    assert [token.balanceOf(receiver) for token in tokens] == expected
    assert vault.balanceOf(depositor) == 0


@pytest.mark.parametrize("i", [0, 1, 2])
def test_below_a_minimum_reverts(vault, shares, depositor, i):
    least = list(PART)
    least[i] += 1
    with reverts("amount below minimum"):
        vault.redeem_in_kind(shares, depositor, depositor, least, 0, {"from": depositor})
    least[i] -= 1
    vault.redeem_in_kind(shares, depositor, depositor, least, 0, {"from": depositor})


def test_emits_the_flow(vault, shares, depositor, receiver, stranger):
    vault.approve(stranger, shares, {"from": depositor})
    number = vault.flow_sequence() + 1
    tx = vault.redeem_in_kind(shares, receiver, depositor, NONE, 0b010, {"from": stranger})
    assert dict(tx.events["RedeemedInKind"]) == {
        "caller": stranger,
        "receiver": receiver,
        "owner": depositor,
        "shares": shares,
        "amounts": (PART[0], 0, PART[2]),
        "skip": 0b010,
        "flow_sequence": number,
    }
    assert vault.flow_sequence() == number
    burned = [log for log in tx.events["Transfer"] if log.address == vault.address]
    assert [list(log.values()) for log in burned] == [[depositor, ZERO_ADDRESS, shares]]


def test_for_another_spends_the_allowance(vault, shares, depositor, stranger):
    vault.approve(stranger, shares, {"from": depositor})
    vault.redeem_in_kind(shares - 1, stranger, depositor, NONE, 0, {"from": stranger})
    assert vault.allowance(depositor, stranger) == 1


def test_for_another_without_allowance_reverts(vault, shares, depositor, stranger):
    vault.approve(stranger, shares - 1, {"from": depositor})
    with reverts("allowance too low"):
        vault.redeem_in_kind(shares, stranger, depositor, NONE, 0, {"from": stranger})


def test_of_more_than_held_reverts(vault, shares, depositor):
    with reverts("balance too low"):
        vault.redeem_in_kind(shares + 1, depositor, depositor, NONE, 0, {"from": depositor})


def test_of_no_shares_reverts(vault, shares, depositor):
    with reverts("zero shares"):
        vault.redeem_in_kind(0, depositor, depositor, NONE, 0, {"from": depositor})


@pytest.mark.parametrize("count", [0, 2, 4])
def test_with_a_wrong_number_of_minima_reverts(vault, shares, depositor, count):
    with reverts("wrong length"):
        vault.redeem_in_kind(shares, depositor, depositor, [0] * count, 0, {"from": depositor})


def test_to_nobody_or_the_vault_reverts(vault, shares, depositor):
    for receiver in (ZERO_ADDRESS, vault):
        with reverts("receiver not allowed"):
            vault.redeem_in_kind(shares, receiver, depositor, NONE, 0, {"from": depositor})


def test_goes_on_while_paused_and_without_an_oracle(
    vault, tokens, oracle, shares, owner, guardian, depositor
):
    vault.pause({"from": guardian})
    for token in tokens:
        oracle.set_feed(token, ZERO_ADDRESS, 0, 0, 0, {"from": owner})
    tx = vault.redeem_in_kind(shares, depositor, depositor, PART, 0, {"from": depositor})
    assert list(tx.return_value) == PART


def test_of_everything_else_leaves_the_dead_share(vault, shares, creator, depositor):
    for holder in (creator, depositor):
        vault.redeem_in_kind(vault.balanceOf(holder), holder, holder, NONE, 0, {"from": holder})
    assert vault.totalSupply() == WAD
    assert list(vault.balances()) == [seed // 10_000 for seed in SEEDS]


def test_pays_of_a_huge_balance_as_if_it_were_the_largest(vault, tokens, shares, depositor, receiver):
    supply = vault.totalSupply()
    tokens[0].mint(vault, 2**255, {"from": depositor})
    vault.redeem_in_kind(shares, receiver, depositor, NONE, 0, {"from": depositor})
    assert tokens[0].balanceOf(receiver) == (2**128 - 1) * shares // supply


@pytest.fixture
def broken_vault(Vault, ScriptedToken, factory, config, tokens, oracle, feeds, approved, creator, owner):
    """The creator's vault of two sound tokens and one that then loses the vault's balance underneath it."""
    token = owner.deploy(ScriptedToken, 18)
    token.set_balance(creator, SEEDS[2], {"from": owner})
    token.approve(factory, SEEDS[2], {"from": creator})
    oracle.set_feed(token, feeds[2], 30 * DAY, 1, 2**100, {"from": owner})
    assets = [*config["assets"][:2], asset(token, 2_000)]
    tx = factory.create_vault(tuple((config | {"assets": assets}).values()), SEEDS, SALT, {"from": creator})
    return Vault.at(tx.events["VaultCreated"]["vault"]), token


def test_skips_a_token_that_reverts(broken_vault, tokens, creator, receiver):
    vault, token = broken_vault
    # the receiver's balance overflows: every transfer to it reverts
    token.set_balance(receiver, 2**256 - 1, {"from": creator})
    with reverts():
        vault.redeem_in_kind(100 * WAD, receiver, creator, NONE, 0, {"from": creator})
    tx = vault.redeem_in_kind(100 * WAD, receiver, creator, NONE, 0b100, {"from": creator})
    assert list(tx.return_value) == [*PART[:2], 0]
    assert [tokens[i].balanceOf(receiver) for i in (0, 1)] == PART[:2]
    assert token.address not in [call["to"] for call in tx.subcalls]
