"""Attack: an order that was made for other prices, or for another session, is filled late."""

from __future__ import annotations

from eth_abi import encode

from tests.unit.auction.stage import DECAY, DRIFTED, GRACE, KEEPER, MANY, RULES, WAD, Stage

SOLD = 10_000 * 10**6
FIRST, LAST = 101 * 10**8, 99 * 10**8  # paid for it, at the auction's first and last price


def test_an_order_for_the_last_session_is_not_filled_in_the_next(stage: Stage) -> None:
    """The next begins again at the first price, after its own grace period."""
    stage.open()
    assert stage.fill(0, 1, SOLD) == (SOLD, LAST)
    stage.hold(DRIFTED)
    stage.sleep(RULES["window_seconds"] + RULES["cooldown_seconds"])
    stage.open(GRACE - 1)
    stage.refuses("grace not over", 0, 1, SOLD, session=2)
    stage.sleep(1)
    stage.refuses("wrong session", 0, 1, SOLD, session=1)
    assert stage.fill(0, 1, SOLD, session=2) == (SOLD, FIRST)


def test_an_order_between_two_sessions_is_not_filled(stage: Stage) -> None:
    """Neither the one that ended nor the one that could open."""
    stage.open()
    stage.sleep(RULES["window_seconds"] + RULES["cooldown_seconds"])
    for session in (1, 2):
        stage.refuses("no session", 0, 1, SOLD, session=session)
    stage.vault.call("open_session")


def test_an_order_is_not_filled_at_a_price_that_has_jumped(open_stage: Stage) -> None:
    """The bought token is worth half: twice as much of it would be owed."""
    open_stage.set_prices([WAD, 50 * WAD, 10 * WAD])
    open_stage.refuses("pays above maximum", 0, 1, SOLD, max_pay=LAST)
    assert open_stage.fill(0, 1, SOLD, max_pay=2 * LAST) == (SOLD, 2 * LAST)


def test_nothing_is_filled_at_a_price_that_is_stale(open_stage: Stage) -> None:
    open_stage.set_prices(open_stage.prices, [5, 0, 0])
    open_stage.refuses("price not usable", 0, 1, SOLD)
    open_stage.set_prices(open_stage.prices)
    assert open_stage.fill(0, 1, SOLD)


def test_a_keepers_trade_does_not_start_the_price_again(stage: Stage) -> None:
    """It counts from the session's start; what the keeper leaves is for sale."""
    stage.open(GRACE + DECAY // 2)
    executor = stage.deploy("ScriptedExecutor")
    after = stage.worth((599_000 * WAD, 251_000 * WAD, 150_000 * WAD))
    payload = encode(["address[]", "uint256[]", "bool"], [[t.address for t in stage.tokens], after, True])
    arguments = ([MANY] * 3, executor.address, payload, bytes(32), 1, stage.evm.now)
    stage.vault.call("rebalance", *arguments, sender=KEEPER)
    assert stage.fill(0, 1, SOLD) == (SOLD, 100 * 10**8)


def test_a_session_shorter_than_the_grace_period_has_no_auction(stage: Stage) -> None:
    words, rules, *rest = stage.settings()
    stage.configure([words, rules & ~((2**32 - 1) << 60) | (GRACE - 1) << 60, *rest])
    stage.open(GRACE - 2)
    stage.refuses("grace not over")
    stage.sleep(1)
    stage.refuses("no session")
