"""Attack: a contract poses as a vault to get at the allowances that fillers have given to the auction.

Only who calls `fill` can be charged, once, what the order says and at most `max_pay`; nobody else ever.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.evm import Contract, Reverted
from tests.unit.auction.stage import (
    DRIFTED,
    FILLER,
    MANY,
    RECEIVER,
    VICTIM,
    WAD,
    Stage,
    calldata,
    order_bytes,
    reverts,
)

DELIVER, KEEP, REMEMBER, TWICE, FORGE, CALL, DELEGATE = range(7)
SOLD, OWED = 10_000 * 10**6, 99 * 10**8
FORTUNE = 10**20


class Attack:
    """An impostor with the real vault's settings and holdings; the victim has approved everything."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.impostor = stage.deploy("FillerVault")
        for token, amount in zip(stage.tokens, stage.worth(DRIFTED), strict=True):
            token.call("set_balance", self.impostor.address, amount)
            token.call("set_balance", VICTIM, FORTUNE)
            token.call("approve", stage.auction.address, MANY, sender=VICTIM)
        self.before = self.holdings(FILLER)

    def holdings(self, account: str) -> list[int]:
        return [self.stage.balance(i, account) for i in range(3)]

    def fill(self, mode: int, target: Contract | None = None, call: bytes = b"", **given: Any) -> Any:
        """The attacker's own fill at the impostor, which then does its trick."""
        stage = self.stage
        self.impostor.call("set_up", mode, stage.auction.address, tuple(stage.settings()))
        self.impostor.call("set_call", (target or stage.auction).address, call)
        return stage.fill(0, 1, SOLD, vault=self.impostor.address, **given)

    def check_victim(self) -> None:
        assert self.holdings(VICTIM) == [FORTUNE] * 3

    def check_charged_once(self) -> None:
        self.check_victim()
        spent = [a - b for a, b in zip(self.before, self.holdings(FILLER), strict=True)]
        assert spent == [0, OWED, 0]
        assert self.stage.balance(0, RECEIVER) == SOLD

    def reason(self) -> str:
        """Why the trick failed."""
        assert not self.impostor.call("succeeded")
        return str(Reverted(self.impostor.call("answer")).reason)


@pytest.fixture
def attack(open_stage: Stage) -> Attack:
    return Attack(open_stage)


def test_an_impostor_that_keeps_to_the_rules_takes_what_the_caller_agreed_to(attack: Attack) -> None:
    assert attack.fill(DELIVER) == (SOLD, OWED)
    attack.check_charged_once()


def test_an_order_for_somebody_else_is_refused(attack: Attack) -> None:
    forged = order_bytes(attack.stage, vault=attack.impostor.address, filler=VICTIM, sold=SOLD, owed=FORTUNE)
    attack.fill(FORGE, call=calldata(attack.stage.auction, "execute", forged))
    assert attack.reason() == "not the running fill"
    attack.check_charged_once()


@pytest.mark.parametrize(
    "change", [{"owed": OWED - 1}, {"sold": 0}, {"receiver": VICTIM}, {"buy": 2}, {"data": b"x"}]
)
def test_an_order_that_was_changed_is_refused(attack: Attack, change: dict[str, Any]) -> None:
    order = {"vault": attack.impostor.address, "filler": FILLER, "sold": SOLD, "owed": OWED} | change
    attack.fill(FORGE, call=calldata(attack.stage.auction, "execute", order_bytes(attack.stage, **order)))
    assert attack.reason() == "not the running fill"
    attack.check_charged_once()


def test_an_order_is_charged_once(attack: Attack) -> None:
    attack.fill(TWICE)
    assert attack.reason() == "not the running fill"
    attack.check_charged_once()


def test_an_order_cannot_be_kept_for_later(attack: Attack) -> None:
    """Else the impostor could charge its caller in a later block, or inside somebody else's fill."""
    with reverts("vault did not trade"):
        attack.fill(REMEMBER)
    attack.fill(DELIVER)
    with reverts("not the running fill"):
        attack.impostor.call("run_kept")
    attack.check_charged_once()


def test_an_order_is_refused_from_another_contract(attack: Attack) -> None:
    accomplice = attack.stage.deploy("FillerVault")
    accomplice.call("set_up", DELIVER, attack.stage.auction.address, tuple(attack.stage.settings()))
    attack.fill(DELEGATE, target=accomplice)
    assert attack.reason() == "not the vault"
    attack.check_charged_once()


def test_nothing_is_charged_when_nothing_is_delivered(attack: Attack) -> None:
    with pytest.raises(Reverted):
        attack.fill(KEEP)
    attack.check_victim()
    assert attack.holdings(FILLER) == attack.before


def test_a_genuine_fill_cannot_be_nested_in_an_impostors(attack: Attack) -> None:
    """The impostor would be the inner fill's caller; it has tokens and an allowance, so only the lock stops it."""
    stage = attack.stage
    inner = calldata(stage.auction, "fill", *stage.arguments(0, 1, SOLD))
    attack.fill(CALL, call=inner)
    assert not attack.impostor.call("succeeded")
    attack.check_charged_once()


def test_a_quote_cannot_be_asked_inside_an_impostors_fill(attack: Attack) -> None:
    stage = attack.stage
    pair = (stage.tokens[0].address, stage.tokens[1].address)
    attack.fill(CALL, call=calldata(stage.auction, "quote", stage.vault.address, *pair, SOLD))
    assert not attack.impostor.call("succeeded")


def test_an_impostors_oracle_can_ask_for_no_more_than_the_maximum(attack: Attack) -> None:
    stage = attack.stage
    stage.set_prices([WAD * 10**6, 100 * WAD, 10 * WAD])
    with reverts("pays above maximum"):
        attack.fill(DELIVER, max_pay=OWED)
    assert attack.holdings(FILLER) == attack.before


def test_an_impostor_cannot_make_the_auction_trade_at_a_vault(attack: Attack) -> None:
    """The only call that a fill makes at a vault is its own rebalance: a genuine vault's order names that vault."""
    stage = attack.stage
    before = stage.balances(), stage.vault.call("head")
    attack.fill(CALL, target=stage.vault, call=calldata(stage.vault, "open_session"))
    assert not attack.impostor.call("succeeded")
    assert (stage.balances(), stage.vault.call("head")) == before


def test_what_lies_at_the_auction_is_not_a_fillers(attack: Attack) -> None:
    """Tokens sent here by mistake can be taken by an impostor; fillers leave none."""
    stage = attack.stage
    stage.tokens[0].call("set_balance", stage.auction.address, SOLD)
    attack.fill(KEEP)
    attack.check_charged_once()
    assert stage.balance(0, stage.auction.address) == 0
