"""`take` fills an auction with what the sold tokens bring, and gains at least the minimum or nothing happens."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi import encode

from tests.support.evm import DEPLOYER, Contract, Reverted
from tests.unit.auction.stage import FILLER, KEEPER, MANY, STRANGER, Stage, reverts

SOLD = 10_000 * 10**6  # 10,000 USD of asset 0, for 9,900 USD of asset 1
OWED = 99 * 10**8


@pytest.fixture
def taker(open_stage: Stage) -> Contract:
    """It belongs to DEPLOYER, who has nothing."""
    return open_stage.deploy("Taker")


@pytest.fixture
def executor(open_stage: Stage) -> Contract:
    """Leaves the taker with the balances that the payload names."""
    return open_stage.deploy("ScriptedExecutor")


def take(
    stage: Stage,
    taker: Contract,
    executor: Contract,
    brought: int,
    left: int = 0,
    least: int = 0,
    **given: Any,
) -> int:
    """The swap brings `brought` of asset 1 and leaves `left` of asset 0."""
    tokens = [stage.tokens[1].address, stage.tokens[0].address]
    payload = encode(
        ["address[]", "uint256[]", "bool"], [tokens, [brought, left], given.get("answers", True)]
    )
    return int(
        taker.call(
            "take",
            stage.auction.address,
            stage.vault.address,
            given.get("session", 1),
            stage.tokens[0].address,
            stage.tokens[1].address,
            SOLD,
            given.get("max_pay", MANY),
            executor.address,
            payload,
            least,
            stage.evm.now,
            sender=given.get("sender", DEPLOYER),
        )
    )


def test_pays_the_vault_and_its_owner(open_stage: Stage, taker: Contract, executor: Contract) -> None:
    before = open_stage.balances()
    assert take(open_stage, taker, executor, OWED + 7, left=5) == 7
    assert [a - b for a, b in zip(open_stage.balances(), before, strict=True)] == [-SOLD, OWED, 0]
    assert open_stage.balance(1, DEPLOYER) == 7
    assert open_stage.balance(0, DEPLOYER) == 5  # what the swap left over
    assert open_stage.balance(0, executor.address) == SOLD  # it went there at once
    for i, token in enumerate(open_stage.tokens):
        assert open_stage.balance(i, taker.address) == 0
        assert token.call("allowance", taker.address, open_stage.auction.address) == 0


def test_a_gain_of_the_minimum_is_enough(open_stage: Stage, taker: Contract, executor: Contract) -> None:
    assert take(open_stage, taker, executor, OWED + 7, least=7) == 7


def test_less_than_the_minimum_reverts(open_stage: Stage, taker: Contract, executor: Contract) -> None:
    with reverts("profit below minimum"):
        take(open_stage, taker, executor, OWED + 6, least=7)


def test_what_the_owner_had_before_is_no_gain(open_stage: Stage, taker: Contract, executor: Contract) -> None:
    open_stage.set_balance(open_stage.tokens[1], DEPLOYER, 10**12)
    assert take(open_stage, taker, executor, OWED + 7) == 7
    with reverts("profit below minimum"):
        take(open_stage, taker, executor, OWED + 6, least=7)


def test_too_little_for_the_vault_reverts(open_stage: Stage, taker: Contract, executor: Contract) -> None:
    with pytest.raises(Reverted):
        take(open_stage, taker, executor, OWED - 1)


def test_a_price_above_the_maximum_reverts(open_stage: Stage, taker: Contract, executor: Contract) -> None:
    assert take(open_stage, taker, executor, OWED, max_pay=OWED) == 0
    with reverts("pays above maximum"):
        take(open_stage, taker, executor, OWED, max_pay=OWED - 1)


@pytest.mark.parametrize("sender", [STRANGER, FILLER, KEEPER])
def test_only_its_owner_takes(open_stage: Stage, taker: Contract, executor: Contract, sender: str) -> None:
    assert taker.call("owner").lower() == DEPLOYER.lower()
    with reverts("not owner"):
        take(open_stage, taker, executor, OWED + 7, sender=sender)


def test_an_executor_that_answers_wrongly_reverts(
    open_stage: Stage, taker: Contract, executor: Contract
) -> None:
    with reverts("executor did not answer"):
        take(open_stage, taker, executor, OWED + 7, answers=False)


@pytest.mark.parametrize("after_a_fill", [False, True])
def test_nobody_calls_it_back_but_the_running_auction(
    open_stage: Stage, taker: Contract, executor: Contract, after_a_fill: bool
) -> None:
    if after_a_fill:
        take(open_stage, taker, executor, OWED)
    tokens = [token.address for token in open_stage.tokens[:2]]
    for sender in (DEPLOYER, FILLER, STRANGER):
        with reverts("not the running auction"):
            taker.call("on_fill", tokens[0], SOLD, tokens[1], OWED, b"", sender=sender)
