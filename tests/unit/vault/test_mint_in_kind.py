import pytest
from brownie import ZERO_ADDRESS, chain, reverts

from tests.unit.vault.deployment import DAY, NAV, SEEDS, WAD

ANY = [2**256 - 1] * 3


def test_takes_the_pro_rata_part_and_mints_shares(vault, tokens, depositor, receiver):
    had = [token.balanceOf(depositor) for token in tokens]
    tx = vault.mint_in_kind(100 * WAD, ANY, receiver, {"from": depositor})
    amounts = [seed // 100 for seed in SEEDS]
    assert list(tx.return_value) == amounts
    assert [token.balanceOf(depositor) for token in tokens] == [
        h - a for h, a in zip(had, amounts, strict=True)
    ]
    assert list(vault.balances()) == [s + a for s, a in zip(SEEDS, amounts, strict=True)]
    assert vault.balanceOf(receiver) == 100 * WAD
    assert vault.balanceOf(depositor) == 0
    assert vault.totalSupply() == NAV + 100 * WAD


def test_rounds_up(vault, depositor):
    assert list(vault.mint_in_kind(1, ANY, depositor, {"from": depositor}).return_value) == [1, 1, 1]


def test_takes_what_the_preview_says(vault, depositor):
    chain.sleep(10 * DAY)
    vault.collect_fee({"from": depositor})  # a supply that divides nothing
    shares = 123_456_789_012_345_678_901
    preview = vault.preview_mint_in_kind(shares)
    supply = vault.totalSupply()
    assert list(preview) == [-(-seed * shares // supply) for seed in SEEDS]
    assert vault.mint_in_kind(shares, preview, depositor, {"from": depositor}).return_value == preview


@pytest.mark.parametrize("i", [0, 1, 2])
def test_above_a_maximum_reverts(vault, depositor, i):
    most = list(vault.preview_mint_in_kind(100 * WAD))
    most[i] -= 1
    with reverts("amount above maximum"):
        vault.mint_in_kind(100 * WAD, most, depositor, {"from": depositor})
    most[i] += 1
    vault.mint_in_kind(100 * WAD, most, depositor, {"from": depositor})


def test_emits_the_flow(vault, depositor, receiver):
    number = vault.flow_sequence() + 1
    tx = vault.mint_in_kind(100 * WAD, ANY, receiver, {"from": depositor})
    assert dict(tx.events["MintedInKind"]) == {
        "caller": depositor,
        "receiver": receiver,
        "shares": 100 * WAD,
        "amounts": tuple(seed // 100 for seed in SEEDS),
        "flow_sequence": number,
    }
    assert vault.flow_sequence() == number
    minted = [log for log in tx.events["Transfer"] if log.address == vault.address]
    assert [list(log.values()) for log in minted] == [[ZERO_ADDRESS, receiver, 100 * WAD]]


def test_does_not_touch_the_head(vault, depositor):
    before = vault.head()
    vault.mint_in_kind(WAD, ANY, depositor, {"from": depositor})
    assert vault.head() == before


def test_goes_on_while_paused_and_without_prices(vault, oracle, tokens, guardian, owner, depositor):
    vault.pause({"from": guardian})
    oracle.set_feed(tokens[0], ZERO_ADDRESS, 0, 0, 0, {"from": owner})
    vault.mint_in_kind(WAD, ANY, depositor, {"from": depositor})
    assert vault.balanceOf(depositor) == WAD


def test_of_no_shares_reverts(vault, depositor):
    with reverts("zero shares"):
        vault.mint_in_kind(0, ANY, depositor, {"from": depositor})


@pytest.mark.parametrize("count", [0, 2, 4])
def test_with_a_wrong_number_of_maxima_reverts(vault, depositor, count):
    with reverts("wrong length"):
        vault.mint_in_kind(WAD, [2**256 - 1] * count, depositor, {"from": depositor})


def test_to_nobody_or_the_vault_reverts(vault, depositor):
    for receiver in (ZERO_ADDRESS, vault):
        with reverts("receiver not allowed"):
            vault.mint_in_kind(WAD, ANY, receiver, {"from": depositor})


def test_without_the_tokens_reverts(vault, tokens, stranger):
    for token in tokens:
        token.approve(vault, 2**256 - 1, {"from": stranger})
    with reverts("insufficient balance"):
        vault.mint_in_kind(WAD, ANY, stranger, {"from": stranger})


def test_without_approval_reverts(vault, creator):
    with reverts("insufficient allowance"):
        vault.mint_in_kind(WAD, ANY, creator, {"from": creator})


def test_above_the_supply_cap_reverts(vault, tokens, depositor):
    room = 2**112 - 1 - vault.totalSupply()
    for token in tokens:
        token.mint(depositor, 2**128, {"from": depositor})
    with reverts("supply above cap"):
        vault.mint_in_kind(room + 1, ANY, depositor, {"from": depositor})
    vault.mint_in_kind(room, ANY, depositor, {"from": depositor})
    assert vault.totalSupply() == 2**112 - 1


def test_after_a_donation_asks_for_more(vault, tokens, depositor):
    tokens[0].transfer(vault, SEEDS[0], {"from": depositor})
    assert vault.preview_mint_in_kind(100 * WAD)[0] == 2 * SEEDS[0] // 100
