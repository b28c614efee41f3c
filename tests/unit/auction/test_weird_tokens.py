"""Tokens that return nothing work; where one moves less than it was told, the fill reverts."""

from __future__ import annotations

import pytest

from tests.unit.auction.stage import DRIFTED, FILLER, MANY, RECEIVER, Stage, reverts

SOLD, OWED = 10_000 * 10**6, 99 * 10**8
SILENT, FALSE_ON_FAILURE, FEE, LIES, NO_ZERO, PAUSED = 1, 2, 32, 64, 128, 512


def make(sell: int = 0, buy: int = 0, start: int = 0) -> Stage:
    """Odd tokens on both sides, from the start where `start` says so, else after the session has opened."""
    evm = Stage().evm
    first = Stage(evm=evm)
    tokens = [first.deploy("WeirdToken", 6, start), first.deploy("WeirdToken", 8, start), first.tokens[2]]
    stage = Stage(tokens=tokens, evm=evm)
    stage.hold(DRIFTED)
    stage.open()
    tokens[0].call("set_weird", start | sell)
    tokens[1].call("set_weird", start | buy)
    return stage


@pytest.mark.parametrize("start", [0, SILENT, FALSE_ON_FAILURE, NO_ZERO])
def test_fills_with_tokens_that_move_what_they_say(start: int) -> None:
    stage = make(start=start)
    before = stage.balance(1, FILLER)
    assert stage.fill(0, 1, SOLD) == (SOLD, OWED)
    assert stage.balance(0, RECEIVER) == SOLD
    assert before - stage.balance(1, FILLER) == OWED


def test_reverts_when_the_bought_token_takes_a_fee() -> None:
    make(buy=FEE).refuses("received less than asked", 0, 1, SOLD)


def test_reverts_when_the_sold_token_takes_a_fee() -> None:
    """The auction has less than was sold; and where somebody left some there, the receiver has less."""
    stage = make(sell=FEE)
    stage.refuses("insufficient balance", 0, 1, SOLD)
    stage.tokens[0].call("mint", stage.auction.address, SOLD)
    stage.refuses("received less than asked", 0, 1, SOLD)
    stage.tokens[0].call("set_weird", 0)
    assert stage.fill(0, 1, SOLD) == (SOLD, OWED)


def test_reverts_when_the_bought_token_moves_nothing() -> None:
    make(buy=LIES).refuses("received less than asked", 0, 1, SOLD)


def test_reverts_when_the_sold_token_moves_nothing() -> None:
    """It answers true to the vault, and to the auction, which has as much by chance."""
    stage = make(sell=LIES)
    stage.tokens[0].call("mint", stage.auction.address, SOLD)
    stage.refuses("received less than asked", 0, 1, SOLD)


def test_reverts_when_a_token_returns_false() -> None:
    stage = make(start=FALSE_ON_FAILURE)
    stage.approve(stage.tokens[1], FILLER, stage.auction, OWED - 1)
    stage.refuses("transfer failed", 0, 1, SOLD)
    stage.approve(stage.tokens[1], FILLER, stage.auction, MANY)
    assert stage.fill(0, 1, SOLD) == (SOLD, OWED)


def test_reverts_when_the_receiver_is_refused() -> None:
    stage = make(start=FALSE_ON_FAILURE)
    stage.tokens[0].call("set_blocked", RECEIVER, True)
    stage.refuses("transfer failed", 0, 1, SOLD)
    assert stage.fill(0, 1, SOLD, receiver=FILLER) == (SOLD, OWED)


def test_a_paused_token_stops_its_own_fills_only() -> None:
    stage = make(buy=PAUSED)
    with reverts("paused token"):
        stage.fill(0, 1, SOLD)
    assert stage.fill(0, 2, SOLD)[0] == SOLD
