"""The invariants I1 to I8 (docs/security.md), checked on what the chain says, not on the model.

Nothing here uses the model's or the policy's rules: each check is written out again from the design, in exact integers
or fractions. Each raises `Broken` with the invariant's number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property

from eth_utils import keccak

DAY = 86_400
YEAR = 365 * DAY
WAD = 10**18
ATOM_DECIMALS = 24  # values are exact in atoms: token units * price * 10**(24 - decimals)
FIXED = 64  # bits after the point where values per share are summed up
FINE = 10**36  # points of NAV, for the cumulative loss
AUDIT = {
    int.from_bytes(keccak(text=signature), "big"): signature.split("(")[0]
    for signature in (
        "Created(uint256,address,bytes32,bytes32)",
        "SessionOpened(bytes32,uint256,uint256,bool,uint256,uint256,uint256,uint256,uint256[],uint256[])",
        "Rebalanced(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256[],uint256[],uint256[],uint256[],address,bytes32,bytes32)",
        "RuleChanged(bytes32,uint256,string,uint256,bytes)",
    )
}


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant


def hold(invariant: str, holds: bool, message: str) -> None:
    if not holds:
        raise Broken(invariant, message)


# ---------------------------------------------------------------- what the chain says


def bits(word: int, offset: int, size: int) -> int:
    return word >> offset & 2**size - 1


@dataclass(frozen=True)
class Terms:
    """The rules that a trade is judged by, from the vault's packed words."""

    mode: int
    unit: int
    every: int
    anchor: int
    window: int
    cooldown: int
    slippage: int  # bps
    capacity: int  # bps
    refill: int  # bps a year
    tolerance: int  # bps
    speed_capacity: int  # bps
    speed_refill: int  # bps a day


@dataclass(frozen=True)
class Seen:
    """One vault at one time, read from the chain."""

    now: int
    words: tuple[int, ...]  # of the assets
    rules: int
    session: int
    loss: int
    speed: int
    oracle: int
    paused_until: int
    supply: int
    pending: int
    melting: int  # fee shares of nobody
    sequence: int
    fee_bps: int
    fee_recipient: str
    head: bytes
    shares: dict[str, int]  # by account
    roles: dict[str, int]
    held: dict[str, int]  # by token: what the vault has, of every token there is
    admin: str
    delay: int
    tellers: dict[str, int] = field(default_factory=dict)  # what each may issue and release together

    @cached_property
    def tokens(self) -> list[str]:
        return [f"0x{bits(w, 0, 160):040x}" for w in self.words]

    @cached_property
    def aside(self) -> int:
        """Index of the asset in quarantine, or -1."""
        return bits(self.rules, 211, 5) - 1 if self.now < self.rules >> 216 else -1

    @cached_property
    def terms(self) -> Terms:
        r = self.rules
        sizes = (
            (0, 2),
            (2, 2),
            (4, 16),
            (20, 40),
            (60, 32),
            (92, 32),
            (124, 13),
            (137, 13),
            (150, 16),
            (166, 13),
        )
        return Terms(*(bits(r, o, s) for o, s in (*sizes, (179, 16), (195, 16))))

    @cached_property
    def balances(self) -> list[int]:
        return [self.held[t] for t in self.tokens]


@dataclass(frozen=True)
class Market:
    """True prices, in atoms of value a token unit, and what each account has of each token."""

    value: dict[str, int]  # atoms a unit, by token
    owned: dict[str, dict[str, int]]  # account: token: units

    @cached_property
    def worth(self) -> dict[str, int]:
        """Atoms of each account's tokens."""
        return {
            account: sum(amount * self.value[token] for token, amount in units.items() if amount)
            for account, units in self.owned.items()
        }

    def basket(self, seen: Seen) -> int:
        """Atoms of what a vault's shares stand for."""
        return sum(seen.held[token] * self.value[token] for token in seen.tokens)


# ---------------------------------------------------------------- I1, I5


def check_exit(before: Seen, shares: int, skip: int, amounts: Sequence[int], received: Sequence[int]) -> None:
    """I1: a redemption pays exactly the pro rata part of what is not skipped."""
    for i, (q, amount, got) in enumerate(zip(before.balances, amounts, received, strict=True)):
        due = 0 if skip >> i & 1 else q * shares // before.supply
        hold("I1", amount == got == due, f"asset {i}: due {due}, said {amount}, paid {got}")


def check_in_kind(before: Seen, after: Seen, shares: int, skip: int, inward: bool) -> None:
    """I5: what moves is within less than one unit of the exact part, and never for the mover; others' claims stay."""
    for i, (q0, q1) in enumerate(zip(before.balances, after.balances, strict=True)):
        supply = before.supply - before.melting * inward  # who enters pays as if the fees had melted
        moved = (q1 - q0) * supply
        exact = 0 if skip >> i & 1 else q0 * shares * (1 if inward else -1)
        hold("I5", 0 <= moved - exact < supply or moved == exact, f"asset {i} moved {q1 - q0}")


def check_claims(before: Seen, after: Seen, untouched: Iterable[str]) -> None:
    """I5: nobody else's part of any token falls, by a wei."""
    for q0, q1 in zip(before.balances, after.balances, strict=True):
        hold("I5", q1 * before.supply >= q0 * after.supply, f"a share's part of a token fell: {q0} to {q1}")
    for account in untouched:
        s0, s1 = before.shares[account], after.shares[account]
        hold("I5", s0 == s1, f"shares of {account} changed: {s0} to {s1}")


# ---------------------------------------------------------------- I2


def wealth(seen: Seen, market: Market, basket: int, account: str) -> int:
    """The account's tokens and its part of the vault, in atoms times the supply."""
    shares = seen.shares[account] + (seen.pending if account == seen.fee_recipient else 0)
    return market.worth[account] * seen.supply + shares * basket


@dataclass(frozen=True)
class Priced:
    """What a flow through a teller must do, in atoms."""

    fee: int  # the least that it must cost those who make it
    dust: int  # how far values that are rounded may be off


def check_flow(
    before: Seen,
    after: Seen,
    market0: Market,
    market1: Market,
    parties: set[str],
    priced: Priced | None = None,
) -> dict[str, int]:
    """I2: a flow at unmoved prices does not enrich those who make it, nor cost anybody else.

    Through a teller it costs those who make it the fee, which is nobody's until it has melted.
    Returns what each account was given by others, in atoms with FIXED bits after the point, rounded up.
    """
    fee, dust = (priced.fee, priced.dust) if priced else (0, 0)
    joint0 = joint1 = 0
    gifts = {}
    d0, d1 = before.supply, after.supply
    basket0, basket1 = market0.basket(before), market1.basket(after)
    for account in before.shares:
        n0, n1 = wealth(before, market0, basket0, account), wealth(after, market1, basket1, account)
        if account in parties:
            joint0, joint1 = joint0 + n0, joint1 + n1
        else:
            hold("I2", n1 * d0 + dust * d0 * d1 >= n0 * d1, f"a flow of {sorted(parties)} cost {account}")
        if parties != {account}:
            gifts[account] = max(-(-(n1 << FIXED) // d1) - (n0 << FIXED) // d0, 0)
        if dust:
            gifts[account] = gifts.get(account, 0) + (dust << FIXED)
    gained = joint1 * d0 - joint0 * d1 + (fee - dust) * d0 * d1
    hold("I2", gained <= 0, f"{sorted(parties)} gained by a flow, or paid too low a fee")
    return gifts


@dataclass
class Epoch:
    """I2 over a sequence: since prices last moved, nobody has more than at the start and what others gave."""

    start: dict[str, int] = field(default_factory=dict)  # atoms, FIXED bits after the point
    given: dict[str, int] = field(default_factory=dict)
    steps: int = 0

    @staticmethod
    def totals(seen: Sequence[Seen], market: Market) -> dict[str, int]:
        """Of each account: its tokens and its part of each vault, rounded down."""
        total = {account: worth << FIXED for account, worth in market.worth.items()}
        for vault in seen:
            a_share = (market.basket(vault) << 3 * FIXED) // vault.supply
            for account, shares in vault.shares.items():
                shares += vault.pending if account == vault.fee_recipient else 0
                total[account] += shares * a_share >> 2 * FIXED
        return total

    def begin(self, seen: Sequence[Seen], market: Market) -> None:
        self.start = self.totals(seen, market)
        self.given = dict.fromkeys(self.start, 0)
        self.steps = 0

    def check(self, seen: Sequence[Seen], market: Market, gifts: dict[str, int]) -> None:
        self.steps += 1
        for account, amount in gifts.items():
            self.given[account] += amount
        for account, now in self.totals(seen, market).items():
            # a start is rounded down, by less than 2 a vault: shares are fewer than 2**128
            most = self.start[account] + self.given[account] + 8 + self.steps
            hold("I2", now <= most, f"{account} gained {now - most} by {self.steps} flows")


# ---------------------------------------------------------------- I3


@dataclass
class Losses:
    """I3: what all keepers have cost the others, at the worst prices within each feed's error, less what refilled."""

    level: int = 0  # points of NAV in FINE
    time: int = 0

    def pass_time(self, before: Seen) -> None:
        refill = (before.now - self.time) * before.terms.refill * FINE // (10_000 * YEAR)
        self.level = max(self.level - refill, 0)
        self.time = before.now

    def trade(self, before: Seen, after: Seen, market: Market) -> None:
        nav = lost = 0
        for i, (w, t) in enumerate(zip(before.words, before.tokens, strict=True)):
            if i == before.aside:
                continue
            out = (before.held[t] - after.held[t]) * market.value[t]
            nav += before.held[t] * market.value[t]
            lost += 10_000 * out + (w >> 238) * abs(out)
        self.level += max(lost, 0) * FINE // (10_000 * nav)
        most = before.terms.capacity * FINE // 10_000 + 32 * 20 * FINE // WAD * max(1, 10**42 // nav)
        hold(
            "I3",
            self.level <= most,
            f"keepers cost {self.level / FINE:.3%}, capacity {before.terms.capacity} bps",
        )


# ---------------------------------------------------------------- I4


def months(timestamp: int) -> int:
    moment = datetime.fromtimestamp(timestamp, UTC)
    return 12 * moment.year + moment.month


def slot(terms: Terms, now: int) -> int:
    if now < terms.anchor:
        return 0
    if terms.unit == 1:
        return (months(now) - months(terms.anchor)) // terms.every + 1
    return (now - terms.anchor) // (terms.every * DAY) + 1


def check_rebalance(before: Seen, after: Seen, market: Market) -> None:
    """I4: the five trade rules, in fractions. `eps` covers what the chain rounds, a few wei."""
    terms, rows = before.terms, [i for i in range(len(before.words)) if i != before.aside]
    tokens = before.tokens
    price = [Fraction(market.value[t], 10**42) for t in tokens]  # USD a unit
    q0 = [before.held[t] for t in tokens]
    q1 = [after.held[t] for t in tokens]
    v0, v1 = [[q[i] * price[i] if i in rows else Fraction(0) for i in range(len(q))] for q in (q0, q1)]
    nav0, nav1 = sum(v0), sum(v1)
    eps = Fraction(40 * len(rows), WAD) * (1 + 1 / min(nav0, nav1))
    target = [Fraction(bits(w, 168, 14), 10_000) for w in before.words]
    whole = 1 - (target[before.aside] if before.aside >= 0 else 0)
    target = [target[i] / whole if i in rows else Fraction(0) for i in range(len(target))]
    band, tolerance = [], []
    for w, t in zip(before.words, target, strict=True):
        points, relative = Fraction(bits(w, 182, 14), 10_000), Fraction(bits(w, 196, 14), 10_000) * t
        band.append(max(Fraction(25, 10_000), min(points, relative)))
        tolerance.append(min(Fraction(terms.tolerance, 10_000), band[-1] / 4))
    w0, w1 = [v / nav0 for v in v0], [v / nav1 for v in v1]
    d0 = [abs(w - t) for w, t in zip(w0, target, strict=True)]
    d1 = [abs(w - t) for w, t in zip(w1, target, strict=True)]

    # 1: the session is open, or the trigger holds and the cooldown is over
    hold("I4", before.now >= before.paused_until, "traded while paused")
    number, opened, closed = (bits(before.session, o, s) for o, s in ((0, 32), (32, 40), (72, 40)))
    is_open = number > 0 and closed == 0 and before.now < opened + terms.window
    if not is_open:
        ended = closed or opened + terms.window
        hold("I4", number == 0 or before.now >= ended + terms.cooldown, "rule 1: cooldown not over")
        due = slot(terms, before.now) > bits(before.session, 112, 40)
        out = any(d0[i] >= band[i] - eps for i in rows)
        triggered = (due, out, due or out, due and out)[terms.mode]
        hold("I4", triggered, "rule 1: no trigger")
    hold("I4", bits(after.session, 0, 32) == number + (not is_open), "rule 1: session number")

    # 2: direction, and no overshoot beyond the tolerance and what was gained
    gain = max(nav1 - nav0, Fraction(0)) / nav1
    sold = Fraction(0)
    for i in rows:
        slack = tolerance[i] + gain + eps
        if q1[i] < q0[i]:
            hold("I4", w0[i] >= target[i] - eps, f"rule 2: asset {i} sold, not overweight")
            hold("I4", w1[i] >= target[i] - slack, f"rule 2: asset {i} sold past target")
            sold += v0[i] - v1[i]
        elif q1[i] > q0[i]:
            hold("I4", w0[i] <= target[i] + eps, f"rule 2: asset {i} bought, not underweight")
            hold("I4", w1[i] <= target[i] + slack, f"rule 2: asset {i} bought past target")

    # 3: total drift falls by what was sold
    hold("I4", sum(d0) - sum(d1) >= sold / nav0 - eps, "rule 3: drift fell too little")

    # 4: the loss; the budget is I3's
    lost = max(nav0 - nav1, Fraction(0))
    hold("I4", lost <= sold * terms.slippage / 10_000 + eps * nav0, "rule 4: loss above slippage")

    # 5: nothing else
    hold("I4", before.supply == after.supply and before.shares == after.shares, "rule 5: shares changed")
    same = (
        "words",
        "rules",
        "speed",
        "oracle",
        "paused_until",
        "pending",
        "fee_bps",
        "fee_recipient",
        "roles",
    )
    for name in same:
        hold("I4", getattr(before, name) == getattr(after, name), f"rule 5: {name} changed")
    for token, units in before.held.items():
        if token not in tokens or tokens.index(token) == before.aside:
            hold("I4", after.held[token] >= units, "rule 5: a token outside the trade left")


# ---------------------------------------------------------------- I6


def check_sums(seen: Seen) -> None:
    total = sum(seen.shares.values()) + seen.pending + seen.melting
    hold("I6", total == seen.supply, f"balances, pending and melting fees {total}, supply {seen.supply}")
    hold("I6", seen.fee_bps <= 300, f"fee {seen.fee_bps} bps")
    for units in seen.balances:
        claims = sum(
            units * s // seen.supply for s in (*seen.shares.values(), seen.pending, seen.melting) if s
        )
        hold("I6", claims <= units, f"claims of {claims} on {units} units")


def check_fee(earlier: Seen, now: Seen) -> None:
    """I6: while nothing but time passes, only the fee changes, within its cap."""
    fee, melted = now.pending - earlier.pending, earlier.melting - now.melting
    days = now.now // DAY - earlier.now // DAY
    hold(
        "I6",
        melted >= 0 and now.supply - earlier.supply == fee - melted,
        "supply changed by more than the fees",
    )
    # a fee that nobody has written down yet follows the supply: it falls by a little of what melts
    hold(
        "I6",
        -melted <= fee and fee * 3_650_000 <= earlier.supply * 300 * days,
        f"fee of {fee} in {days} days",
    )
    hold(
        "I6", now.shares == earlier.shares and now.sequence == earlier.sequence, "shares moved by themselves"
    )


# ---------------------------------------------------------------- I7


def head_after(head: bytes, logs: Iterable[tuple[list[int], bytes]]) -> bytes:
    """I7: the head that a vault's logs lead to; each entry must begin with the head before."""
    for topics, data in logs:
        if AUDIT.get(topics[0]):
            if AUDIT[topics[0]] != "Created":
                hold("I7", data[:32] == head, f"{AUDIT[topics[0]]} does not follow the head before it")
            head = keccak(data)
    return head


# ---------------------------------------------------------------- I8


@dataclass
class Delays:
    """I8: what only the delay allows was announced that long ago. Knows `queue`'s calls, not the queue."""

    announced: dict[bytes, int] = field(default_factory=dict)  # calldata: when it may be made

    def queue(self, before: Seen, data: bytes) -> None:
        self.announced[data] = before.now + before.delay

    def cancel(self, data: bytes) -> None:
        self.announced.pop(data, None)

    def check(self, before: Seen, after: Seen, executed: bytes | None) -> None:
        """`executed`: the calldata that `execute` was given in this step, if it was and succeeded."""
        if executed is not None:
            ready = self.announced.pop(executed, None)
            hold("I8", ready is not None, "made without an announcement")
            hold(
                "I8",
                ready is not None and ready <= before.now <= ready + 14 * DAY,
                "made too soon or too late",
            )
            return
        for name, why in self.needs_delay(before, after):
            hold("I8", False, f"{name} without the delay: {why}")

    @staticmethod
    def needs_delay(before: Seen, after: Seen) -> Iterable[tuple[str, str]]:
        """What changed that nobody may change at once."""
        if before.words == after.words and before.rules == after.rules:
            yield from Delays._needs_delay_elsewhere(before, after)
            return
        target = 2**14 - 1 << 168
        if [w & ~target for w in before.words] != [w & ~target for w in after.words]:
            yield "assets", "more than targets changed"
        else:
            path = 0
            for w0, w1 in zip(before.words, after.words, strict=True):
                if w0 != w1 and not bits(w1, 210, 14) <= bits(w1, 168, 14) <= bits(w1, 224, 14):
                    yield "targets", "outside the limits"
                path += abs(bits(w0, 168, 14) - bits(w1, 168, 14))
            if path > before.terms.speed_capacity:
                yield "targets", f"moved by {path} bps at once"
        t0, t1 = before.terms, after.terms
        lowered = ("slippage", "capacity", "refill", "speed_capacity", "speed_refill")
        for name in Terms.__dataclass_fields__:
            old, new = getattr(t0, name), getattr(t1, name)
            if new != old and (name not in lowered or new > old):
                yield "rules", f"{name} from {old} to {new}"
        until0, until1 = before.rules >> 216, after.rules >> 216
        if until1 > until0:
            if until0 and before.now < until0 + 7 * DAY:
                yield "quarantine", "within the gap"
            if until1 > before.now + 14 * DAY:
                yield "quarantine", "longer than 14 days"
        yield from Delays._needs_delay_elsewhere(before, after)

    @staticmethod
    def _needs_delay_elsewhere(before: Seen, after: Seen) -> Iterable[tuple[str, str]]:
        """The same of what is not in the words of assets and rules."""
        if after.oracle != before.oracle:
            yield "oracle", "changed"
        if after.paused_until < before.paused_until:
            yield "pause", "ended"
        if after.paused_until > before.paused_until:
            if before.paused_until and before.now < before.paused_until + 7 * DAY:
                yield "pause", "within the gap"
            if after.paused_until > before.now + 14 * DAY:
                yield "pause", "longer than 14 days"
        if after.fee_bps > before.fee_bps or after.fee_recipient != before.fee_recipient:
            yield "fee", "raised or redirected"
        for account, roles in after.roles.items():
            if roles & ~before.roles[account]:
                yield "roles", f"{account} gained {roles}"
            if before.roles[account] & ~roles & 4:
                yield "roles", f"guardian {account} dropped"
        for teller, right in after.tellers.items():
            if right > before.tellers.get(teller, 0):
                yield "teller", f"{teller} may issue and release {right}"
        if after.delay != before.delay:
            yield "delay", "changed"
