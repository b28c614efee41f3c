"""A token that lies, takes a fee or calls the attacker while it is on its way to the vault."""

from __future__ import annotations

import pytest

from tests.support.evm import Contract, Function, artifact
from tests.support.world import ALICE, BOB, MANY, WAD
from tests.unit.teller.stage import (
    CASH,
    COIN,
    FALSE_ON_FAILURE,
    FEE_ON_TRANSFER,
    HOOK,
    LIES,
    NO_ZERO,
    SILENT,
    STOCK,
    USD,
    Desk,
)

K = 1_000 * USD[CASH]


@pytest.mark.parametrize("weird", [FEE_ON_TRANSFER, LIES])
@pytest.mark.parametrize("name", ["deposit", "mint"])
def test_less_than_asked_is_refused(weird_desk: Desk, name: str, weird: int):
    weird_desk.world.tokens[CASH].call("set_weird", weird)
    weird_desk.refuses("received less than asked", name, 10**18, ALICE)


def test_a_transfer_that_returns_false_is_refused(weird_desk: Desk):
    weird_desk.world.tokens[CASH].call("set_weird", FALSE_ON_FAILURE)
    weird_desk.refuses("transfer failed", "deposit", 10**41, ALICE)  # more than there is


def test_a_token_that_returns_nothing_is_accepted(weird_desk: Desk):
    expected = weird_desk.call("previewDeposit", K)
    weird_desk.world.tokens[CASH].call("set_weird", SILENT)
    assert weird_desk.call("deposit", K, ALICE) == expected


def test_nothing_is_not_transferred(weird_desk: Desk):
    weird_desk.world.tokens[CASH].call("set_weird", NO_ZERO)
    assert weird_desk.call("deposit", 0, ALICE) == 0
    assert weird_desk.call("redeem", 0, ALICE, ALICE) == 0


def test_tokens_that_were_there_are_credited_to_nobody(weird_desk: Desk):
    """A donation before the deposit raises the price of a share, and is not the depositor's."""
    cash = weird_desk.world.tokens[CASH]
    plain = weird_desk.call("previewDeposit", K)
    cash.call("mint", weird_desk.vault.address, 1_000 * K)
    assert weird_desk.call("deposit", K, ALICE) < plain


# The hook comes after the tokens have moved and before a share is issued: the vault looks too rich


class Attack:
    """An account with shares whose one call is made inside the pull of a deposit of cash."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.onlooker = desk.evm.deploy(artifact("Onlooker"))
        desk.world.mint(BOB, 400_000 * WAD)
        desk.vault.call("transfer", self.onlooker.address, 200_000 * WAD, sender=BOB)
        for token in desk.world.tokens:
            token.call("set_balance", self.onlooker.address, 10**30)
            for spender in (*desk.tellers, desk.vault):
                entry = next(e for e in token.abi if e.get("name") == "approve")
                data = Function(entry).encode(spender.address, MANY)
                self.onlooker.call("look", token.address, data)

    def prepare(self, target: Contract, name: str, *args) -> None:
        data = next(
            Function(e).encode(*args)
            for e in target.abi
            if e.get("name") == name and len(e["inputs"]) == len(args)
        )
        entry = next(e for e in self.onlooker.abi if e.get("name") == "look")
        cash = self.desk.world.tokens[CASH]
        cash.call("set_call", self.onlooker.address, Function(entry).encode(target.address, data))
        cash.call("set_weird", HOOK)

    @property
    def me(self) -> str:
        return self.onlooker.address


@pytest.fixture
def attack(weird_desk: Desk) -> Attack:
    return Attack(weird_desk)


@pytest.mark.parametrize("index", [COIN, STOCK])
def test_redeeming_through_another_teller_undoes_the_deposit(weird_desk: Desk, attack: Attack, index: int):
    """At the inflated price the attacker would be paid for shares what the next line takes from the others."""
    attack.prepare(weird_desk.tellers[index], "redeem", 100_000 * WAD, attack.me, attack.me)
    weird_desk.refuses("shares changed", "deposit", 500 * K, ALICE)
    weird_desk.refuses("shares changed", "mint", 500_000 * WAD, ALICE)


def test_depositing_through_another_teller_undoes_the_deposit(weird_desk: Desk, attack: Attack):
    attack.prepare(weird_desk.tellers[STOCK], "deposit", 10**18, attack.me)
    weird_desk.refuses("shares changed", "deposit", 500 * K, ALICE)


def test_minting_in_kind_undoes_the_deposit(weird_desk: Desk, attack: Attack):
    """What it brings would else be counted as the deposit as well."""
    attack.prepare(weird_desk.vault, "mint_in_kind", 10**18, [10**30] * 3, attack.me)
    weird_desk.refuses("shares changed", "deposit", 500 * K, ALICE)


def test_redeeming_in_kind_undoes_the_deposit(weird_desk: Desk, attack: Attack):
    attack.prepare(weird_desk.vault, "redeem_in_kind", 10**18, attack.me, attack.me, [0] * 3, 0b001)
    weird_desk.refuses("shares changed", "deposit", 500 * K, ALICE)


def test_a_donation_meanwhile_undoes_the_minting(weird_desk: Desk, attack: Attack):
    """It raises the price of a share: what was asked no longer buys the shares."""
    attack.prepare(weird_desk.world.tokens[STOCK], "mint", weird_desk.vault.address, 10**20)
    weird_desk.refuses("too few shares", "mint", 500_000 * WAD, ALICE)
    assert weird_desk.call("deposit", 500 * K, ALICE) < 450_000 * WAD


FLOWS = [
    ("deposit", (K, "me")),
    ("mint", (10**18, "me")),
    ("withdraw", (K, "me", "me")),
    ("redeem", (10**18, "me", "me")),
]


@pytest.mark.parametrize(("name", "args"), FLOWS)
def test_the_teller_is_locked_meanwhile(weird_desk: Desk, attack: Attack, name: str, args: tuple):
    weird_desk.call("deposit", K, ALICE)
    weird_desk.world.sleep(60)
    looks = attack.onlooker.call("looks")
    attack.prepare(weird_desk.tellers[CASH], name, *(attack.me if a == "me" else a for a in args))
    expected = weird_desk.call("previewDeposit", 500 * K)
    assert weird_desk.call("deposit", 500 * K, ALICE) == expected
    assert attack.onlooker.call("looks") == looks + 1
    assert not attack.onlooker.call("success")
    assert b"locked" in attack.onlooker.call("answer")


@pytest.mark.parametrize(("name", "args"), FLOWS)
def test_the_same_call_succeeds_by_itself(weird_desk: Desk, attack: Attack, name: str, args: tuple):
    weird_desk.call("deposit", K, ALICE)
    weird_desk.world.sleep(60)
    args = tuple(attack.me if a == "me" else a for a in args)
    entry = next(
        e for e in weird_desk.tellers[CASH].abi if e.get("name") == name and len(e["inputs"]) == len(args)
    )
    attack.onlooker.call("look", weird_desk.tellers[CASH].address, Function(entry).encode(*args))
    assert attack.onlooker.call("success")


@pytest.mark.parametrize(("name", "args"), FLOWS)
def test_nothing_flows_while_tokens_are_paid_out(weird_desk: Desk, attack: Attack, name: str, args: tuple):
    """The vault is locked, and the teller has already written what the redemption leaves."""
    weird_desk.call("deposit", K, ALICE)
    weird_desk.world.sleep(60)
    attack.prepare(weird_desk.tellers[CASH], name, *(attack.me if a == "me" else a for a in args))
    expected = weird_desk.call("previewRedeem", 1_000 * WAD)
    assert weird_desk.call("redeem", 1_000 * WAD, BOB, BOB, sender=BOB) == expected
    assert not attack.onlooker.call("success")


def test_a_teller_is_open_again_afterwards(weird_desk: Desk, attack: Attack):
    attack.prepare(weird_desk.tellers[CASH], "deposit", K, attack.me)
    weird_desk.call("deposit", K, ALICE)
    weird_desk.world.tokens[CASH].call("set_weird", 0)
    weird_desk.call("deposit", K, ALICE)
    assert weird_desk.call("maxDeposit", ALICE) > 0
