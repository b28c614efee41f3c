"""A perfect attacker knows the true prices; the vault knows feeds that lag behind them by up to ε.

It issues and redeems through whatever teller is mispriced and closes at once in kind, which reads no price, or through
another teller. A flow moves what the prices hide, at most the combined error of the asset's feed and of the NAV's,
and pays the floor, which the Timelock requires to be that much. So months of it cost the others nothing: the fees that
the attacker pays are theirs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product

import pytest

from tests.support.world import DAY, STRANGER, WAD, reverts
from tests.unit.teller.stage import Desk

ERROR = 25  # bps: ε of every feed, what its deviation threshold lets it lag
COMBINED = 2 * ERROR  # the least floor that the Timelock accepts
SURCHARGE = 120
HOUR = 3_600
DUST = 10**14  # USD WAD
TELLERS = range(3)


def desk_with(floor: int, surcharge: int = SURCHARGE, limit: int = 2_000) -> Desk:
    desk = Desk(floor=floor, surcharge=surcharge, limit=(limit, limit))
    desk.fund(STRANGER)
    return desk


@dataclass
class Market:
    """True prices that wander, and feeds that follow when they are off by more than ε, or once a day."""

    desk: Desk
    lag: int = ERROR  # bps by which a feed may be off
    seed: int = 1
    true: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.true = list(self.desk.world.prices)

    def hour(self) -> None:
        """3 % a day of volatility for two assets; dollars are worth a dollar, give or take the error."""
        self.desk.world.sleep(HOUR)
        for index, daily in enumerate((0.001, 0.03, 0.03)):
            self.true[index] = int(self.true[index] * (1 + self.random.gauss(0, daily / 24**0.5)))
            feed = self.desk.world.prices[index]
            if abs(self.true[index] - feed) * 10_000 > self.lag * feed:
                self.desk.world.set_price(index, self.true[index])
        if self.desk.evm.now % DAY < HOUR:
            for index, price in enumerate(self.true):
                self.desk.world.set_price(index, price)

    def value(self, amounts: list[int]) -> int:
        scales = [10**decimals for decimals in self.desk.world.decimals]
        return sum(a * p // s for a, p, s in zip(amounts, self.true, scales, strict=True))

    def wealth(self) -> int:
        return self.value(self.desk.world.balances(STRANGER))

    def others(self) -> int:
        """True value of all shares but the attacker's; the tellers' are fees, which are the holders'."""
        supply = self.desk.vault.call("totalSupply")
        nav = self.value(self.desk.world.balances())
        return nav * (supply - self.desk.shares(STRANGER)) // supply


@dataclass(frozen=True)
class Trade:
    """In by one door and out by another in one block: None is in kind, a number a teller."""

    entry: int | None
    exit: int | None
    parts: int  # thousandths of the most that fits

    def make(self, desk: Desk) -> None:
        who = {"sender": STRANGER}
        if self.entry is None:
            assert self.exit is not None
            room = desk.vault.call("flow_room", desk.tellers[self.exit].address)[1]
            shares = desk.vault.call("totalSupply") * room // WAD * self.parts // 1_000
            desk.vault.call("mint_in_kind", shares, [10**40] * 3, STRANGER, **who)
        else:
            most = desk.call("maxDeposit", STRANGER, teller=self.entry)
            desk.call("deposit", most * self.parts // 1_000, STRANGER, teller=self.entry, **who)
        if self.exit is not None:
            shares = min(desk.shares(STRANGER), desk.call("maxRedeem", STRANGER, teller=self.exit))
            desk.call("redeem", shares, STRANGER, STRANGER, teller=self.exit, **who)
        shares = desk.shares(STRANGER)
        if shares > 0:
            desk.vault.call("redeem_in_kind", shares, STRANGER, STRANGER, [0] * 3, 0, **who)


DOORS = [(a, b) for a, b in product((None, *TELLERS), repeat=2) if (a, b) != (None, None) and a != b]
TRADES = [Trade(a, b, parts) for a, b in DOORS for parts in (20, 1_000)]


@contextmanager
def undone(desk: Desk) -> Iterator[None]:
    snapshot = desk.evm.snapshot()
    yield
    desk.evm.revert(snapshot)


def best(market: Market) -> tuple[int, Trade]:
    """Each trade is tried on the chain and undone."""
    found = []
    start = market.wealth()
    for number, trade in enumerate(TRADES):
        with undone(market.desk):
            trade.make(market.desk)
            found.append((market.wealth() - start, number))
    profit, number = max(found)
    return profit, TRADES[number]


def attack(market: Market, hours: int, every: int, at_a_loss: bool = False) -> tuple[int, int, int]:
    """Trades made, the attacker's profit and the others' loss, at the true prices of the moment."""
    trades = profit = loss = 0
    for hour in range(hours):
        market.hour()
        if hour % every:
            continue
        gain, trade = best(market)
        if gain > DUST or at_a_loss:
            others = market.others()
            trade.make(market.desk)
            trades, profit, loss = trades + 1, profit + gain, loss + others - market.others()
    return trades, profit, loss


@pytest.mark.parametrize(("seed", "days"), [(1, 120), (2, 30)])
def test_months_of_lagging_feeds_profit_nobody(seed: int, days: int):
    market = Market(desk_with(COMBINED), seed=seed)
    trades, profit, _ = attack(market, days * 24, every=12)
    assert (trades, profit) == (0, 0)


def test_whoever_trades_all_the_same_pays_the_others():
    market = Market(desk_with(COMBINED), seed=3)
    trades, profit, loss = attack(market, 60 * 24, every=24, at_a_loss=True)
    assert trades == 60
    assert profit < 0
    assert loss < 0


def test_without_a_fee_the_same_attacker_lives_off_the_others():
    """Neighbour of the first: what the floor is for, and what `arbitrageable` admits."""
    market = Market(desk_with(0, 0), seed=1)
    trades, profit, loss = attack(market, 30 * 24, every=12)
    assert trades > 20
    assert profit > 1_000 * WAD
    assert loss == pytest.approx(profit, rel=0.01)


def test_feeds_that_lag_by_more_than_declared_cost_at_most_the_difference_on_the_flow_limit():
    """Declared 25 bps, in truth 100: nobody is promised anything, and the flow limit bounds the loss still."""
    market = Market(desk_with(COMBINED), lag=100, seed=1)
    days, worst = 30, 2 * (100 - ERROR) + 5
    trades, _, loss = attack(market, days * 24, every=12)
    assert trades > 0
    flow = 3 * 2_000 * (days + 1)  # bps of the supply that the three tellers let through
    nav = market.value(market.desk.world.balances())
    assert 0 < loss < nav * flow * worst // 10**8


# No luck needed: every feed at the end of what it may be off, in either direction


HOLDINGS = [(500, 300, 200), (650, 200, 150), (350, 400, 250), (900, 60, 40), (40, 60, 900)]


@pytest.mark.parametrize("holdings", HOLDINGS)
@pytest.mark.parametrize("signs", [s for s in product((-1, 0, 1), repeat=3) if any(s)])
def test_no_pattern_of_errors_pays(holdings: tuple[int, ...], signs: tuple[int, ...]):
    market = extreme(COMBINED, holdings, signs)
    assert best(market)[0] <= DUST


@pytest.mark.parametrize(
    ("holdings", "signs"), [((350, 400, 250), (-1, 1, 1)), ((650, 200, 150), (1, -1, -1))]
)
def test_half_the_floor_would_not_do(holdings: tuple[int, ...], signs: tuple[int, ...]):
    assert best(extreme(COMBINED // 2, holdings, signs))[0] > WAD


DESKS: dict[int, Desk] = {}


def extreme(floor: int, holdings: tuple[int, ...], signs: tuple[int, ...]) -> Market:
    """True prices are ε above or below the feeds."""
    if floor not in DESKS:
        DESKS[floor] = desk_with(floor)
    desk = DESKS[floor]
    desk.hold(holdings)
    market = Market(desk)
    market.true = [p * (10_000 + s * ERROR) // 10_000 for p, s in zip(market.true, signs, strict=True)]
    return market


def test_the_timelock_asks_for_this_floor():
    desk = Desk()
    token = desk.world.tokens[0].address
    desk.world.delayed("add_teller", token, COMBINED, SURCHARGE, 6 * HOUR, 100, 100, False)
    with reverts("floor below price errors"):
        desk.world.delayed("add_teller", token, COMBINED - 1, SURCHARGE, 6 * HOUR, 100, 100, False)
