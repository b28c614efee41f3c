"""`quote` is what `fill` would do, refusals included; it does not answer while a fill runs."""

from __future__ import annotations

import pytest

from tests.unit.auction.stage import DECAY, DRIFTED, GRACE, MANY, STRANGER, ZERO, Stage, calldata, reverts

SOLD = 10_000 * 10**6


@pytest.mark.parametrize("age", [GRACE, GRACE + DECAY // 3, GRACE + DECAY])
@pytest.mark.parametrize("max_sell", [1, SOLD, MANY])
def test_is_what_fill_does(stage: Stage, age: int, max_sell: int) -> None:
    stage.open(age)
    session, sold, owed = stage.quote(0, 1, max_sell)
    assert session == 1
    assert stage.fill(0, 1, max_sell) == (sold, owed)


def test_changes_nothing(open_stage: Stage) -> None:
    stage = open_stage
    before = stage.balances(), stage.settings()
    first = stage.quote()
    assert stage.quote() == first
    assert (stage.balances(), stage.settings()) == before


def refuses(stage: Stage, reason: str, sell: int = 0, buy: int = 1, **given: str) -> None:
    pair = (given.get("sell_token", stage.tokens[sell].address), stage.tokens[buy].address)
    with reverts(reason):
        stage.auction.call("quote", stage.vault.address, *pair, MANY)


def test_reverts_where_fill_does(stage: Stage) -> None:
    refuses(stage, "no session")
    stage.open(GRACE - 1)
    refuses(stage, "grace not over")
    stage.sleep(1)
    refuses(stage, "not an asset", sell_token=ZERO)
    refuses(stage, "nothing to fill", 1, 0)
    stage.set_prices(stage.prices, [0, 0, 1])
    refuses(stage, "price not usable")
    stage.set_prices(stage.prices)
    stage.pause(stage.evm.now + 1)
    refuses(stage, "paused")
    stage.sleep(1)
    stage.quarantine(1)
    refuses(stage, "quarantined")


def test_reverts_while_a_fill_runs(open_stage: Stage) -> None:
    """Its sold tokens have left the vault and are not yet paid for: balances say nothing then."""
    stage = open_stage
    filler = stage.deploy("Filler")
    stage.tokens[1].call("set_balance", filler.address, 10**30)
    pair = (stage.tokens[0].address, stage.tokens[1].address)
    question = calldata(stage.auction, "quote", stage.vault.address, pair[0], stage.tokens[2].address, MANY)
    filler.call("set_call", stage.auction.address, question)
    arguments = (stage.auction.address, stage.vault.address, 1, *pair, SOLD, MANY, filler.address)
    filler.call("fill", *arguments, b"ask", sender=STRANGER)
    assert not filler.call("called")
    assert stage.evm.call(STRANGER, stage.auction.address, question)  # the same question afterwards


def test_follows_a_fill(open_stage: Stage) -> None:
    _, whole, _ = open_stage.quote()
    open_stage.fill(0, 1, SOLD)
    assert whole - SOLD - 10 <= open_stage.quote()[1] <= whole - SOLD + 10
    open_stage.hold(DRIFTED)
    assert open_stage.quote()[1] == whole
