"""I1 to I8 and the model over tens of thousands of random steps; `make fuzz STEPS=…` runs as many as wished.

Half a minute on one core. The later tests show that each invariant's check can fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.stateful.campaign import EPISODE, report, run_episode
from tests.stateful.chain import ALICE, GUARDIAN, THIEF
from tests.stateful.episode import Episode
from tests.stateful.invariants import (
    FINE,
    Broken,
    Delays,
    Epoch,
    Losses,
    Market,
    Seen,
    check_claims,
    check_exit,
    check_fee,
    check_flow,
    check_in_kind,
    check_rebalance,
    check_sums,
    head_after,
)

EPISODES = 100  # 20 each with a vault of 4, 8 and 16 assets, 40 with 2
MET = {
    "mint_in_kind": "ok | amount above maximum | receiver not allowed | supply above cap | wrong length | zero shares",
    "redeem_in_kind": "ok | allowance too low | amount below minimum | balance too low | receiver not allowed | "
    "wrong length | zero shares",
    "transfer": "ok",
    "transferFrom": "ok",
    "approve": "ok",
    "collect_fee": "ok",
    "open_session": "ok | cooldown not over | no trigger | paused | price not usable | wrong session",
    "rebalance": "ok | not keeper | deadline passed | paused | wrong length | executor not allowed | "
    "price not usable | wrong session | cooldown not over | no trigger | executor did not answer | "
    "balance fell by more than sent | asset not underweight | bought past target | drift fell too little | "
    "loss above slippage | loss budget exceeded",
    "set_targets": "ok | targets move too fast | target outside limits | not admin or strategist",
    "set_rules": "ok | needs the delay",
    "set_fee": "ok | needs the delay",
    "pause": "ok | not guardian",
    "quarantine": "ok | not guardian",
    "end_quarantine": "ok",
    "drop_role": "ok",
    "queue": "ok | not admin | wrong vault | already queued",
    "cancel": "ok | not queued | not admin or guardian",
    "execute": "ok | not queued | not ready | expired | not admin",
    "accept_admin": "not pending admin",
    "add_asset": "needs the delay | made",
    "remove_asset": "needs the delay | made",
    "set_bands": "needs the delay | made",
    "set_limits": "needs the delay | made",
    "set_oracle": "needs the delay | made",
    "set_role": "needs the delay | made",
    "set_delay": "needs the delay | made",
    "transfer_admin": "needs the delay | made",
    "unpause": "needs the delay | made",
    "add_teller": "needs the delay | made",
    "set_teller": "needs the delay | made",
    "teller.deposit": "ok | flow limit exceeded | paused | price not usable | quarantined | receiver not allowed | "
    "too few shares",
    "teller.mint": "ok | flow limit exceeded | too many assets",
    "teller.withdraw": "ok | allowance too low | balance too low | flow limit exceeded | too many shares",
    "teller.redeem": "ok | allowance too low | balance too low | flow limit exceeded | too few assets",
    "vault.configure": "not timelock",
    "vault.set_fee": "not timelock",
    "vault.set_role": "not timelock",
    "vault.set_teller": "not timelock",
    "vault.issue": "not teller",
    "vault.release": "not teller",
}


def test_model_and_invariants_hold_in_every_step() -> None:
    coverage: Counter[str] = Counter()
    for seed in range(EPISODES):
        if failure := run_episode(seed, EPISODE, coverage):
            pytest.fail(report(failure))
    wanted = {f"{name}: {outcome}" for name, outcomes in MET.items() for outcome in outcomes.split(" | ")}
    assert not wanted - coverage.keys()


# ---------------------------------------------------------------- the checks can fail


@contextmanager
def breaks(beginning: str) -> Iterator[None]:
    """A check inside finds what its message begins with."""
    with pytest.raises(Broken) as broken:
        yield
    assert str(broken.value).startswith(beginning), broken.value


@pytest.fixture(scope="module")
def episode() -> Episode:
    return Episode(2)


@pytest.fixture
def seen(episode: Episode) -> Seen:
    return episode.seen[episode.vaults[0].address]


@pytest.fixture
def market(episode: Episode) -> Market:
    return episode.market


def moved(seen: Seen, index: int, units: int) -> Seen:
    """The vault with `units` more of an asset."""
    token = seen.tokens[index]
    return replace(seen, held=seen.held | {token: seen.held[token] + units})


def richer(market: Market, token: str, account: str, units: int) -> Market:
    return replace(
        market,
        owned=market.owned | {account: market.owned[account] | {token: market.owned[account][token] + units}},
    )


def test_i1_finds_a_wei_too_little(seen: Seen) -> None:
    fair = [q // 4 for q in seen.balances]
    quarter = replace(seen, supply=4 * 10**18)
    check_exit(quarter, 10**18, 0, fair, fair)
    with breaks("I1: asset 0"):
        check_exit(quarter, 10**18, 0, fair, [fair[0] - 1, *fair[1:]])
    with breaks("I1: asset 1"):
        check_exit(quarter, 10**18, 0b10, fair, fair)


def test_i2_finds_a_wei_too_much(seen: Seen, market: Market) -> None:
    token = seen.tokens[0]
    gone = moved(seen, 0, -1)
    check_flow(seen, seen, market, market, {ALICE})
    with breaks("I2: a flow of"):
        check_flow(seen, gone, market, richer(market, token, ALICE, 1), {ALICE})
    with breaks("I2: ["):
        check_flow(seen, seen, market, richer(market, token, ALICE, 1), {ALICE})
    epoch = Epoch()
    epoch.begin([seen], market)
    epoch.check([seen], market, {})
    with breaks("I2: "):
        epoch.check([seen], richer(market, token, ALICE, 1), {})


def test_i3_finds_losses_above_the_budget(seen: Seen, market: Market) -> None:
    seen = replace(seen, words=tuple(w & 2**238 - 1 for w in seen.words))  # no price errors
    losses, nav = Losses(0, seen.now), market.basket(seen)
    half = nav * seen.terms.capacity // 20_000 // market.value[seen.tokens[0]]
    losses.trade(seen, moved(seen, 0, -half), market)
    losses.trade(seen, moved(seen, 0, -half), market)
    with breaks("I3: keepers cost"):
        losses.trade(seen, moved(seen, 0, -half // 1000), market)
    level = losses.level
    losses.pass_time(replace(seen, now=seen.now + 365 * 86_400))
    assert level - losses.level == min(level, seen.terms.refill * FINE // 10_000)


def test_i4_finds_a_trade_without_a_trigger_and_one_that_only_loses(seen: Seen, market: Market) -> None:
    with breaks("I4: rule 1: "):
        check_rebalance(seen, seen, market)
    opened = replace(seen, session=1 | seen.now << 32)
    check_rebalance(opened, opened, market)
    with breaks("I4: rule "):
        check_rebalance(opened, moved(opened, 0, -opened.held[opened.tokens[0]] // 3), market)
    heavy = moved(opened, 0, opened.balances[0])
    with breaks("I4: rule 2: asset 0 bought, not underweight"):
        check_rebalance(heavy, moved(heavy, 0, opened.balances[0]), market)
    with breaks("I4: rule 5: fee_bps changed"):
        check_rebalance(opened, replace(opened, fee_bps=301), market)


def test_i5_finds_a_unit_too_much_and_a_lost_part(seen: Seen) -> None:
    shares, q = seen.supply // 3, seen.balances[0]
    paid = -(-q * shares // seen.supply)
    minted = seen
    for i, units in enumerate(seen.balances):
        minted = moved(minted, i, -(-units * shares // seen.supply))
    check_in_kind(seen, minted, shares, 0, True)
    for wrong in (1, -paid + q * shares // seen.supply - 1):
        with breaks("I5: asset 0"):
            check_in_kind(seen, moved(minted, 0, wrong), shares, 0, True)
    with breaks("I5: a share's part"):
        check_claims(seen, moved(seen, 1, -1), [])
    with breaks("I5: shares of"):
        check_claims(seen, replace(seen, shares=seen.shares | {ALICE: 1}), [ALICE])


def test_i6_finds_a_share_out_of_nothing_and_a_fee_above_the_cap(seen: Seen) -> None:
    check_sums(seen)
    with breaks("I6: balances"):
        check_sums(replace(seen, shares=seen.shares | {THIEF: seen.shares[THIEF] + 1}))
    with breaks("I6: fee"):
        check_sums(replace(seen, fee_bps=301))
    day = replace(seen, now=seen.now + 86_400)
    most = seen.supply * 300 // 3_650_000
    check_fee(seen, replace(day, supply=seen.supply + most, pending=seen.pending + most))
    with breaks("I6: fee of"):
        check_fee(seen, replace(day, supply=seen.supply + most + 1, pending=seen.pending + most + 1))
    with breaks("I6: supply changed"):
        check_fee(seen, replace(day, supply=seen.supply + 1))


def test_i7_finds_an_entry_that_does_not_follow(seen: Seen) -> None:
    from tests.stateful.model import encode, topic

    rule_changed = [topic("RuleChanged(bytes32,uint256,string,uint256,bytes)")]
    entry = encode(int.from_bytes(seen.head, "big"), 3, b"pause", 0, b"")
    head = head_after(seen.head, [(rule_changed, entry)])
    assert head != seen.head
    with breaks("I7"):
        head_after(head, [(rule_changed, entry)])


def test_i8_finds_what_was_not_announced_long_enough(seen: Seen) -> None:
    delays = Delays()
    for name, after in {
        "assets": replace(seen, words=(seen.words[0] ^ 1 << 182, *seen.words[1:])),
        "rules": replace(seen, rules=seen.rules ^ 1 << 92),
        "oracle": replace(seen, oracle=ALICE),
        "pause": replace(seen, paused_until=seen.now + 15 * 86_400),
        "fee": replace(seen, fee_recipient=ALICE),
        "roles": replace(seen, roles=seen.roles | {ALICE: 1}),
        "delay": replace(seen, delay=0),
    }.items():
        with breaks(f"I8: {name} without the delay"):
            delays.check(seen, after, None)
    with breaks("I8: roles"):
        delays.check(seen, replace(seen, roles=seen.roles | {GUARDIAN: 0}), None)
    with breaks("I8: made without"):
        delays.check(seen, seen, b"never announced")
    delays.queue(seen, b"a change")
    later = replace(seen, now=seen.now + seen.delay)
    with breaks("I8: made too soon"):
        delays.check(replace(later, now=later.now - 1), later, b"a change")
    delays.queue(seen, b"a change")
    delays.check(later, later, b"a change")
