"""`fill` sells what the vault has too much of, at the auction's price, and says why where it does not."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak

from tests.support.evm import Reverted
from tests.unit.auction.stage import (
    BPS,
    DECAY,
    DRIFTED,
    FILLER,
    GRACE,
    KEEPER,
    MANY,
    OWNER,
    RECEIVER,
    RULES,
    STRANGER,
    WAD,
    ZERO,
    Stage,
)

K = 1_000 * WAD


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# ---------------------------------------------------------------- the price


@pytest.mark.parametrize(
    ("age", "percent"),
    [
        (GRACE, 101),
        (GRACE + DECAY // 4, 100.5),
        (GRACE + DECAY // 2, 100),
        (GRACE + DECAY - 1, None),
        (GRACE + DECAY, 99),
        (GRACE + DECAY + 1, 99),
        (2 * DECAY, 99),
    ],
)
def test_charges_the_price_of_the_moment(stage: Stage, age: int, percent: float | None) -> None:
    """10,000 of an asset of 1 USD and 6 decimals, against one of 100 USD and 8 decimals."""
    stage.open(age)
    factor = stage.factor(age)
    if percent is not None:
        assert factor == int(percent * 10) * WAD // 1_000
    sold, paid = stage.fill(max_sell=10_000 * 10**6)
    assert sold == 10_000 * 10**6
    assert paid == ceil_div(ceil_div(10_000 * WAD * factor, WAD) * 10**8, 100 * WAD)


def test_follows_the_oracle(open_stage: Stage) -> None:
    """What is sold became 1 % dearer since the session opened, what is bought 2 %."""
    open_stage.set_prices([101 * 10**16, 102 * WAD, 10 * WAD])
    sold, paid = open_stage.fill(max_sell=10_000 * 10**6)
    assert (sold, paid) == (10_000 * 10**6, ceil_div(10_100 * 99 * 10**6, 102))


def test_rounds_the_payment_up(open_stage: Stage) -> None:
    """0.000101 USD sold, at 99 % of the oracle's price: 99.99 units of the other, worth a millionth each."""
    sold, paid = open_stage.fill(max_sell=101)
    assert (sold, paid) == (101, 100)


def test_follows_the_slippage_of_the_rules(stage: Stage) -> None:
    stage.open()
    words, rules, *rest = stage.settings()
    stage.configure([words, rules & ~((2**13 - 1) << 124) | 250 << 124, *rest])
    assert stage.fill(max_sell=10_000 * 10**6) == (10_000 * 10**6, 9_750 * 10**6)


# ---------------------------------------------------------------- what moves, and what is recorded


def test_pays_the_receiver_and_the_vault(open_stage: Stage) -> None:
    stage = open_stage
    before, filler = stage.balances(), [stage.balance(i, FILLER) for i in range(3)]
    sold, paid = stage.fill(0, 1, 10_000 * 10**6)
    assert stage.balances() == [before[0] - sold, before[1] + paid, before[2]]
    assert [stage.balance(i, FILLER) for i in range(3)] == [filler[0], filler[1] - paid, filler[2]]
    assert [stage.balance(i, RECEIVER) for i in range(3)] == [sold, 0, 0]
    assert [stage.balance(i, stage.auction.address) for i in range(3)] == [0, 0, 0]


def test_emits_filled(open_stage: Stage) -> None:
    stage = open_stage
    sold, paid = stage.fill(0, 2, 10_000 * 10**6)
    event = stage.filled()
    assert event.name == "Filled"
    assert event.fields == {
        "vault": stage.vault.address.lower(),
        "filler": FILLER,
        "session": 1,
        "sell": stage.tokens[0].address.lower(),
        "buy": stage.tokens[2].address.lower(),
        "sold": sold,
        "paid": paid,
        "receiver": RECEIVER,
    }


def test_is_a_rebalance_that_says_auction_fill(open_stage: Stage) -> None:
    """The vault's audit entry: the auction is keeper and executor, the decision is a constant."""
    stage = open_stage
    sold, _ = stage.fill(0, 1, 10_000 * 10**6)
    (entry,) = [e.fields for e in stage.evm.events("Rebalanced")]
    assert entry["keeper"] == entry["executor"] == stage.auction.address.lower()
    assert entry["decision"] == b"auction fill".ljust(32, b"\0")
    assert list(entry["sells"]) == [sold, 0, 0]
    assert entry["session"] == 1
    assert len(entry["payload_hash"]) == 32 and entry["payload_hash"] != keccak(b"")


def test_sells_from_any_place_in_the_basket(stage: Stage) -> None:
    stage.hold((450_000 * WAD, 250_000 * WAD, 300_000 * WAD))
    stage.open()
    sold, _ = stage.fill(2, 0, 10**18)
    (entry,) = [e.fields for e in stage.evm.events("Rebalanced")]
    assert sold == 10**18
    assert list(entry["sells"]) == [0, 0, sold]


# ---------------------------------------------------------------- how much


def test_a_fill_is_as_large_as_the_vault_has_too_much(stage: Stage) -> None:
    """At the oracle's price, so that the NAV stays: 20 points too much of one asset, 15 and 5 too little of others."""
    stage.hold((700_000 * WAD, 150_000 * WAD, 150_000 * WAD))
    stage.open(GRACE + DECAY // 2)
    first, _ = stage.fill(0, 1)
    second, _ = stage.fill(0, 2)
    assert 150_000 * 10**6 - 4 <= first <= 150_000 * 10**6
    assert 200_000 * 10**6 - 4 <= first + second <= 200_000 * 10**6
    assert all(abs(stage.value(i, q) - t * 100 * WAD) <= 4 * 10**12 for i, (q, t) in rows(stage))


def rows(stage: Stage) -> list[tuple[int, tuple[int, int]]]:
    return list(enumerate(zip(stage.balances(), stage.targets_bps, strict=True)))


def test_a_fill_stops_at_the_target_of_what_is_bought(open_stage: Stage) -> None:
    """With a tolerance of 0 a cent more would revert; the NAV falls by what the filler gains."""
    stage = open_stage
    stage.fill(0, 1)
    gap = stage.nav() * 3_000 // 10_000 - stage.value(1, stage.balance(1, stage.vault.address))
    assert 0 <= gap <= 10**14
    stage.refuses("nothing to fill", 0, 1)


def test_a_fill_stops_at_the_target_of_what_is_sold(stage: Stage) -> None:
    stage.hold((520_000 * WAD, 250_000 * WAD, 230_000 * WAD))
    stage.open(GRACE)
    stage.fill(0, 1)
    surplus = stage.value(0, stage.balance(0, stage.vault.address)) - stage.nav() // 2
    assert 0 <= surplus <= 10**14
    stage.refuses("nothing to fill", 0, 1)


def test_a_fill_stops_where_the_loss_budget_does(stage: Stage) -> None:
    """A loss of 1 % and an error of 25 bps on both sides: 1.4975 % of what is sold; 3 bps of the NAV are left."""
    stage.open()
    words, rules, session, _, *rest = stage.settings()
    stage.configure([words, rules, session, 497 * BPS | stage.evm.now << 128, *rest])
    sold, _ = stage.fill(0, 1)
    assert sold == pytest.approx(300 / 0.014975 * 10**6, rel=1e-6)
    assert 0 <= 500 * BPS - stage.vault.call("loss_budget_used") <= 10**9
    stage.configure([words, rules, session, 500 * BPS | stage.evm.now << 128, *rest])
    stage.refuses("nothing to fill", 0, 1)


def test_max_sell_is_kept(open_stage: Stage) -> None:
    assert open_stage.fill(0, 1, 12_345_678)[0] == 12_345_678


def test_a_second_fill_takes_the_rest(open_stage: Stage) -> None:
    stage = open_stage
    snapshot = stage.evm.snapshot()
    whole, _ = stage.fill(0, 1)
    stage.evm.revert(snapshot)
    part, _ = stage.fill(0, 1, whole // 3)
    rest, _ = stage.fill(0, 1)
    assert part == whole // 3
    assert whole - 10 <= part + rest <= whole + 10


# ---------------------------------------------------------------- refusals, each beside what is just allowed


def test_reverts_before_the_grace_period_is_over(stage: Stage) -> None:
    stage.open(GRACE - 1)
    stage.refuses("grace not over")
    stage.sleep(1)
    assert stage.fill()


def test_reverts_without_a_session(stage: Stage) -> None:
    """Nobody has opened one; a fill does not either, under whatever number."""
    stage.refuses("no session", session=1)
    stage.refuses("no session", session=0)
    stage.open(GRACE)
    assert stage.fill()


def test_no_session_is_not_one_that_began_in_1970() -> None:
    """In a window of 136 years it would still be open, and a fill would open the first session at the last price."""
    stage = Stage(window_seconds=2**32 - 1)
    stage.hold(DRIFTED)
    stage.refuses("no session", session=1)
    stage.open(GRACE)
    assert stage.fill()


def test_reverts_when_the_session_has_closed(open_stage: Stage) -> None:
    stage = open_stage
    stage.fill(0, 1)
    stage.fill(0, 2)
    assert stage.vault.call("session")[2] > 0
    stage.hold(DRIFTED)
    stage.refuses("no session")


def test_reverts_in_another_session(open_stage: Stage) -> None:
    """A fill that was meant for the last session does not pay the first price of the next."""
    open_stage.refuses("wrong session", session=0)
    open_stage.refuses("wrong session", session=2)
    assert open_stage.fill(session=1)


def test_reverts_above_the_maximum(open_stage: Stage) -> None:
    _, _, owed = open_stage.quote()
    open_stage.refuses("pays above maximum", max_pay=owed - 1)
    assert open_stage.fill(max_pay=owed)[1] == owed


def test_reverts_after_the_deadline(open_stage: Stage) -> None:
    open_stage.refuses("deadline passed", deadline=open_stage.evm.now - 1)
    assert open_stage.fill(deadline=open_stage.evm.now)


def test_reverts_while_the_vault_is_paused(open_stage: Stage) -> None:
    open_stage.pause(open_stage.evm.now + 1)
    open_stage.refuses("paused")
    open_stage.sleep(1)
    assert open_stage.fill()


def test_reverts_without_the_role(open_stage: Stage) -> None:
    open_stage.as_timelock("set_role", open_stage.auction.address, 2 | 4)
    open_stage.refuses("not keeper")
    open_stage.as_timelock("set_role", open_stage.auction.address, 1)
    assert open_stage.fill()


@pytest.mark.parametrize(
    ("prices", "statuses"), [([WAD, 0, 10 * WAD], [0] * 3), ([WAD] * 3, [0, 0, 5]), ([], [])]
)
def test_reverts_on_a_price_that_is_not_usable(
    open_stage: Stage, prices: list[int], statuses: list[int]
) -> None:
    """Of any asset, since all of them make the NAV; also one that is not traded."""
    open_stage.oracle.call("set_prices", prices, statuses)
    open_stage.refuses("price not usable")


@pytest.mark.parametrize("side", ["sell_token", "buy_token"])
def test_reverts_for_what_is_not_an_asset(open_stage: Stage, side: str) -> None:
    for token in (open_stage.oracle.address, ZERO):
        open_stage.refuses("not an asset", **{side: token})


def test_reverts_for_one_asset_against_itself(open_stage: Stage) -> None:
    open_stage.refuses("not an asset", 0, 0)


@pytest.mark.parametrize(("sell", "buy"), [(1, 0), (2, 0), (1, 2), (2, 1)])
def test_reverts_in_the_wrong_direction(open_stage: Stage, sell: int, buy: int) -> None:
    open_stage.refuses("nothing to fill", sell, buy)


def test_reverts_for_nothing(open_stage: Stage) -> None:
    open_stage.refuses("nothing to fill", max_sell=0)
    assert open_stage.fill(max_sell=1) == (1, 1)


def test_reverts_for_a_vault_without_value(open_stage: Stage) -> None:
    open_stage.hold((0, 0, 0))
    open_stage.refuses("nothing to fill")


def test_reverts_for_a_receiver_that_cannot_be_meant(open_stage: Stage) -> None:
    for receiver in (ZERO, open_stage.auction.address, open_stage.vault.address):
        open_stage.refuses("receiver not allowed", receiver=receiver)
    assert open_stage.fill(receiver=FILLER)


def test_reverts_when_the_filler_has_not_approved(open_stage: Stage) -> None:
    open_stage.tokens[1].call("approve", open_stage.auction.address, 0, sender=FILLER)
    with pytest.raises(Reverted):
        open_stage.fill()
    open_stage.tokens[1].call("approve", open_stage.auction.address, MANY, sender=FILLER)
    assert open_stage.fill()


def test_anyone_may_fill(open_stage: Stage) -> None:
    stage = open_stage
    for account in (STRANGER, KEEPER, OWNER):
        stage.tokens[1].call("set_balance", account, 10**12)
        stage.tokens[1].call("approve", stage.auction.address, 10**12, sender=account)
        assert stage.fill(0, 1, 10**9, sender=account) == (10**9, 99 * 10**7)


# ---------------------------------------------------------------- quarantine


def test_fills_around_an_asset_in_quarantine(stage: Stage) -> None:
    """50 and 30 % become 62.5 and 37.5 % of what the two are worth; the third is neither priced nor called."""
    stage.open(GRACE + DECAY // 2)
    stage.quarantine(2)
    stage.set_prices([WAD, 100 * WAD, 0], [0, 0, 5])
    sold, _ = stage.fill(0, 1)
    assert sold == pytest.approx((600 - 0.625 * 850) * 1_000 * 10**6, rel=1e-9)


@pytest.mark.parametrize(("sell", "buy"), [(0, 2), (2, 0)])
def test_reverts_for_an_asset_in_quarantine(open_stage: Stage, sell: int, buy: int) -> None:
    open_stage.quarantine(2)
    open_stage.refuses("quarantined", sell, buy)


# ---------------------------------------------------------------- hairlines


def test_a_gain_too_small_to_count_does_not_sell_past_the_target() -> None:
    """At exactly the oracle's price the payment's last unit makes the vault a wei richer, and so the weight of what
    was sold a wei lighter, but the vault rounds such a gain down to nothing: the last of the surplus stays.
    """
    stage = Stage([5_000, 3_000, 2_000], [18, 18, 18], [WAD, 3 * WAD, WAD])
    stage.hold((550_000 * WAD, 219_999 * WAD, 230_001 * WAD))
    stage.open(GRACE + DECAY // 2)
    assert stage.fill(0, 1)[0] >= 50_000 * WAD - 10**7


def test_the_last_unit_of_the_payment_does_not_buy_past_the_target() -> None:
    """In a vault worth 10,000,000 wei of a USD a payment's last unit weighs 1e-7."""
    prices = [2596101087539780164, 2269702871339453450, 176639677730684348]
    stage = Stage([1_172, 1_300, 7_528], [18, 18, 18], prices, errors_bps=[0], loss_capacity_bps=8_000)
    for token, amount in zip(stage.tokens, [272_467, 266_118, 49_188_461], strict=True):
        stage.set_balance(token, stage.vault.address, amount)
    stage.open(16_429)
    assert stage.fill(2, 0) == (2_648_742, 178_813)


def test_a_session_survives_the_end_of_its_decay_until_its_window_closes(stage: Stage) -> None:
    stage.open(RULES["window_seconds"] - 1)
    assert stage.fill(0, 1, 100 * 10**6) == (100 * 10**6, 99 * 10**6)
    stage.sleep(1)
    stage.refuses("no session")
    stage.refuses("no session", session=2)
