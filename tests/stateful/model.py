"""A Python model of the vault and its timelock, written beside the contracts: what each call does, answers, logs.

Plain integers. A call either returns what the contract returns, having changed the model and logged what the contract
logs, or raises `Refused` with the exact revert string and has changed nothing. `""` is a revert without a string.
Trades and sessions are judged by `offchain.policy`; all else is written out here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any

from eth_utils import keccak

from offchain import policy
from offchain.policy import BPS_IN_WAD as BPS
from offchain.policy import DAY, NO_ASSET, WAD, YEAR, Asset, Rules, Session, VaultState

MAX_BPS = 10_000
MAX = 2**256 - 1
ZERO = "0x" + "00" * 20
DEAD = "0x" + "00" * 18 + "dead"
MAX_SUPPLY = 2**112 - 1
MAX_PENDING = 2**92 - 1
MAX_BALANCE = 2**128 - 1
MAX_FEE_BPS = 300
STOP, STOP_GAP, EXPIRY = 14 * DAY, 7 * DAY, 14 * DAY
MIN_DELAY, MAX_DELAY = 2 * DAY, 30 * DAY
KEEPER, STRATEGIST, GUARDIAN = 1, 2, 4


class Refused(Exception):
    """The contract reverts; `reason` is its string."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check(holds: bool, reason: str) -> None:
    if not holds:
        raise Refused(reason)


# ---------------------------------------------------------------- ABI


def word(value: Any) -> bytes:
    """One word: a number, a flag, an address in hex."""
    return int(int(value, 16) if isinstance(value, str) else value).to_bytes(32, "big")


def encode(*values: Any) -> bytes:
    """ABI: numbers and addresses as words, tuples as static structs, lists as arrays, bytes as bytes or strings."""
    heads: list[bytes] = []
    size = sum(32 * len(v) if isinstance(v, tuple) else 32 for v in values)
    tails = b""
    for value in values:
        if isinstance(value, (list, bytes)):
            heads.append(word(size + len(tails)))
            body = b"".join(map(word, value)) if isinstance(value, list) else value
            tails += word(len(value)) + body + bytes(-len(body) % 32)
        elif isinstance(value, tuple):
            heads += map(word, value)
        else:
            heads.append(word(value))
    return b"".join(heads) + tails


@cache
def topic(signature: str) -> int:
    return int.from_bytes(keccak(text=signature), "big")


@cache
def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


TRANSFER = "Transfer(address,address,uint256)"
ASSET_FIELDS = "(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
RULES_FIELDS = "(" + ",".join(["uint256"] * 12) + ")"
TIMELOCK = {  # functions that take the vault first
    "set_targets": "uint256[]",
    "pause": "",
    "quarantine": "address",
    "end_quarantine": "",
    "drop_role": "address",
    "set_rules": RULES_FIELDS,
    "set_fee": "uint256,address",
    "set_bands": "uint256[],uint256[]",
    "set_limits": "uint256[],uint256[]",
    "add_asset": ASSET_FIELDS,
    "remove_asset": "address",
    "set_oracle": "address",
    "set_role": "address,uint256",
    "unpause": "",
    "set_delay": "uint256",
    "transfer_admin": "address",
    "accept_admin": "",
    "add_teller": "address,uint256,uint256,uint256,uint256,uint256,bool",
    "set_teller": "address,uint256,uint256,uint256,uint256,bool",
}


def timelock_call(name: str, vault: str, *args: Any) -> bytes:
    """Calldata of a Timelock's function."""
    types = ",".join(filter(None, ["address", TIMELOCK[name]]))
    return selector(f"{name}({types})") + encode(vault, *args)


def fields_of(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """A flat dataclass as a tuple, quicker than `astuple`."""
    return attrgetter(*(f.name for f in fields(kind)))


astuple_asset, astuple_rules, astuple_session = fields_of(Asset), fields_of(Rules), fields_of(Session)


# ---------------------------------------------------------------- packed words


def pack_asset(a: Asset) -> int:
    fields = zip(
        (
            a.decimals,
            a.target_bps,
            a.band_points_bps,
            a.band_relative_bps,
            a.min_target_bps,
            a.max_target_bps,
            a.price_error_bps,
        ),
        (160, 168, 182, 196, 210, 224, 238),
        strict=True,
    )
    return int(a.token, 16) | sum(value << offset for value, offset in fields)


def pack_rules(r: Rules) -> int:
    offsets = (0, 2, 4, 20, 60, 92, 124, 137, 150, 166, 179, 195)
    return sum(value << offset for value, offset in zip(astuple_rules(r), offsets, strict=True))


def pack_session(s: Session) -> int:
    return s.id | s.opened_at << 32 | s.closed_at << 72 | s.slot << 112 | s.by_calendar << 152


RULE_BITS = (None, None, 16, 40, 32, 32, 13, 13, 16, 13, 16, 16)


# ---------------------------------------------------------------- the world around vaults


@dataclass
class Token:
    decimals: int
    balances: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    broken: bool = False  # every call of it reverts


@dataclass
class Feed:
    answer: int
    updated_at: int
    heartbeat: int


@dataclass
class World:
    """Tokens, prices and the clock that all vaults share, and the timelock's queue."""

    now: int
    timelock: str
    tokens: dict[str, Token] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)  # by token
    oracles: dict[str, set[str]] = field(default_factory=dict)  # the tokens that each has a feed for
    broken_oracles: set[str] = field(default_factory=set)
    approved: set[tuple[str, str]] = field(default_factory=set)  # (account, vault): may take all its tokens
    vaults: dict[str, Vault] = field(default_factory=dict)
    tellers: dict[str, Teller] = field(default_factory=dict)
    ready_at: dict[tuple[str, bytes], int] = field(default_factory=dict)
    log: list[tuple[str, list[int], bytes]] = field(default_factory=list)  # of the last call

    def emit(self, address: str, signature: str, indexed: Sequence[Any] = (), data: bytes = b"") -> None:
        self.log.append(
            (address, [topic(signature), *(int.from_bytes(word(v), "big") for v in indexed)], data)
        )

    def next_teller(self, ahead: int = 0) -> str:
        """Where the timelock will create its next teller: by CREATE, its nonces begin at 1."""
        nonce = len(self.tellers) + 1 + ahead
        return "0x" + keccak(b"\xd6\x94" + bytes.fromhex(self.timelock[2:]) + bytes([nonce]))[12:].hex()

    def prices(self, oracle: str, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Prices and statuses; only whether a status is 0 matters here."""
        check(oracle in self.oracles and oracle not in self.broken_oracles, "")
        prices, statuses = [], []
        for token in tokens:
            feed = self.feeds.get(token)
            ok = (
                feed is not None
                and token in self.oracles[oracle]
                and feed.answer > 0
                and self.now - feed.updated_at <= feed.heartbeat
            )
            prices.append(feed.answer if ok and feed else 0)
            statuses.append(0 if ok else 1)
        return prices, statuses


# ---------------------------------------------------------------- the vault


@dataclass
class Flow:
    """A teller's limit on net flow."""

    capacity_bps: int
    refill_bps: int
    time: int
    level: int = 0  # WAD of the supply, more than 0: came in

    def level_at(self, now: int) -> int:
        refill = (now - self.time) * self.refill_bps * BPS // DAY
        return max(self.level - refill, 0) if self.level > 0 else min(self.level + refill, 0)

    def charged(self, now: int, points: int) -> Flow:
        before = self.level_at(now)
        after = before + points
        check(abs(after) <= self.capacity_bps * BPS or abs(after) < abs(before), "flow limit exceeded")
        return replace(self, time=now, level=after)

    def room(self, now: int) -> tuple[int, int]:
        level = self.level_at(now)
        return max(self.capacity_bps * BPS - level, 0), max(self.capacity_bps * BPS + level, 0)


@dataclass
class Vault:
    """One vault and what the timelock knows of it."""

    world: World
    address: str
    assets: list[Asset]
    rules: Rules
    oracle: str
    admin: str
    delay: int
    roles: defaultdict[str, int]
    fee_bps: int
    fee_recipient: str
    head: bytes
    supply: int  # as stored: what has melted since is still in it
    balance: defaultdict[str, int]
    session: Session = field(default_factory=Session)
    day: int = 0  # of the last accrual
    pending: int = 0
    sequence: int = 0
    allowance: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    loss: tuple[int, int] = (0, 0)  # level, time
    speed: tuple[int, int] = (0, 0)
    paused_until: int = 0
    aside: int = -1  # as stored: -1 before the first quarantine
    aside_until: int = 0
    flows: dict[str, Flow] = field(default_factory=dict)
    melting: tuple[int, int, int] = (0, 0, 0)  # fee shares of nobody, since when, seconds until none are left
    pending_admin: str = ZERO

    # Reading

    @property
    def now(self) -> int:
        return self.world.now

    @property
    def count(self) -> int:
        return len(self.assets)

    @property
    def quarantined(self) -> int:
        """Index of the asset in quarantine now, or NO_ASSET."""
        return self.aside if self.now < self.aside_until else NO_ASSET

    def token(self, index: int) -> Token:
        return self.world.tokens[self.assets[index].token]

    def holdings(self) -> list[int]:
        """Token units of each asset."""
        return [self.world.tokens[a.token].balances[self.address] for a in self.assets]

    def melted(self) -> int:
        """Fee shares that the stored supply still counts and that are no more."""
        shares, since, left = self.melting
        elapsed = self.now - since
        return shares if elapsed >= left else shares * elapsed // left

    def still_melting(self) -> tuple[int, int]:
        """Fee shares that are left, and the seconds until none are."""
        shares, since, left = self.melting
        return shares - self.melted(), max(since + left - self.now, 0)

    def accrued(self) -> tuple[int, int]:
        """Supply and pending fee now."""
        days = self.now // DAY - self.day
        supply = self.supply - self.melted()
        fee = min(
            supply * self.fee_bps * days // (365 * MAX_BPS),
            MAX_SUPPLY - self.supply,
            MAX_PENDING - self.pending,
        )
        return supply + fee, self.pending + fee

    def _room(self) -> int:
        """Shares that may still be minted."""
        return MAX_SUPPLY - self.accrued()[0] - self.melted()

    def loss_used(self) -> int:
        level, since = self.loss
        return max(level - (self.now - since) * self.rules.loss_refill_bps_per_year * BPS // YEAR, 0)

    def speed_used(self) -> int:
        level, since = self.speed
        return max(level - (self.now - since) * self.rules.speed_refill_bps_per_day * BPS // DAY, 0)

    def settings_words(self) -> list[int]:
        """What `settings()` answers, in order: words, rules, session, loss, speed, oracle, paused_until."""
        rules = pack_rules(self.rules) | (self.aside + 1) << 211 | self.aside_until << 216
        return [
            *map(pack_asset, self.assets),
            rules,
            pack_session(self.session),
            self.loss[0] | self.loss[1] << 128,
            self.speed[0] | self.speed[1] << 128,
            int(self.oracle, 16),
            self.paused_until,
        ]

    def judged(self) -> VaultState:
        """The state as `offchain.policy` takes it; needs an oracle that answers."""
        prices, statuses = self.world.prices(self.oracle, [a.token for a in self.assets])
        supply, pending = self.accrued()
        return VaultState(
            assets=tuple(self.assets),
            rules=self.rules,
            session=self.session,
            balances=tuple(self.holdings()),
            prices=tuple(prices),
            statuses=tuple(statuses),
            supply=supply,
            time=self.now,
            pending_fee_shares=pending,
            fee_bps=self.fee_bps,
            fee_accrued_at=self.now,
            loss_used=self.loss[0],
            loss_time=self.loss[1],
            speed_used=self.speed[0],
            speed_time=self.speed[1],
            paused_until=self.paused_until,
            aside=self.aside,
            aside_until=self.aside_until,
            vault=self.address,
            oracle=self.oracle,
        )

    def mint_amounts(self, shares: int) -> list[int]:
        supply = self.accrued()[0] - self.still_melting()[0]
        return [-(-q * shares // supply) for q in self.holdings()]

    def redeem_amounts(self, shares: int, skip: int) -> list[int]:
        supply = self.accrued()[0]
        rows = enumerate(self.holdings())
        return [0 if skip >> i & 1 else min(q, MAX_BALANCE) * shares // supply for i, q in rows]

    # Shares

    def _accrue(self) -> None:
        supply, self.pending = self.accrued()
        self.supply = supply + self.melted()
        self.day = self.now // DAY

    def _melt(self, fee: int, seconds: int) -> None:
        """Add a fee in shares of nobody. The fee is accrued."""
        rest, left = self.still_melting()
        self.supply += fee - self.melted()
        if rest + fee:
            left = (rest * left + fee * seconds) // (rest + fee)
        self.melting = (rest + fee, self.now, left)

    def _moved(self, sender: str, receiver: str, amount: int) -> None:
        self.world.emit(self.address, TRANSFER, (sender, receiver), word(amount))

    def _check_receiver(self, receiver: str) -> None:
        check(receiver not in (ZERO, self.address), "receiver not allowed")

    def _mint(self, receiver: str, amount: int) -> None:
        """Checked before; the fee is accrued."""
        self.supply += amount
        self.balance[receiver] += amount
        self._moved(ZERO, receiver, amount)

    def _burn(self, owner: str, amount: int) -> None:
        self.supply -= amount
        self.balance[owner] -= amount
        self._moved(owner, ZERO, amount)

    def _check_allowance(self, owner: str, spender: str, amount: int) -> None:
        check(self.allowance[owner, spender] >= amount, "allowance too low")

    def _spend_allowance(self, owner: str, spender: str, amount: int) -> None:
        if self.allowance[owner, spender] != MAX:
            self.allowance[owner, spender] -= amount

    def transfer(self, sender: str, receiver: str, amount: int) -> bool:
        self._check_receiver(receiver)
        check(self.balance[sender] >= amount, "balance too low")
        self.balance[sender] -= amount
        self.balance[receiver] += amount
        self._moved(sender, receiver, amount)
        return True

    def transfer_from(self, sender: str, owner: str, receiver: str, amount: int) -> bool:
        self._check_allowance(owner, sender, amount)
        self.transfer(owner, receiver, amount)
        self._spend_allowance(owner, sender, amount)
        return True

    def approve(self, sender: str, spender: str, amount: int) -> bool:
        self.allowance[sender, spender] = amount
        self.world.emit(self.address, "Approval(address,address,uint256)", (sender, spender), word(amount))
        return True

    def collect_fee(self) -> int:
        self._accrue()
        collected, self.pending = self.pending, 0
        if collected:
            self.balance[self.fee_recipient] += collected
            self._moved(ZERO, self.fee_recipient, collected)
        return collected

    # In kind

    def mint_in_kind(self, sender: str, amount: int, most: Sequence[int], receiver: str) -> list[int]:
        check(amount > 0, "zero shares")
        check(len(most) == self.count, "wrong length")
        supply = self.accrued()[0] - self.still_melting()[0]  # who enters pays as if it had melted
        amounts = []
        for i, limit in enumerate(most):
            token = self.token(i)
            check(not token.broken, "")
            balance = token.balances[self.address]
            check(balance * amount + supply - 1 <= MAX, "")
            needed = -(-balance * amount // supply)
            check(needed <= limit, "amount above maximum")
            allowed = (sender, self.address) in self.world.approved
            check(needed == 0 or (allowed and token.balances[sender] >= needed), "")
            amounts.append(needed)
        self._check_receiver(receiver)
        check(amount <= self._room(), "supply above cap")
        for i, needed in enumerate(amounts):
            self.token(i).balances[sender] -= needed
            self.token(i).balances[self.address] += needed
        self._accrue()
        self.sequence += 1
        self._mint(receiver, amount)
        self.world.emit(
            self.address,
            "MintedInKind(address,address,uint256,uint256[],uint256)",
            (sender, receiver),
            encode(amount, amounts, self.sequence),
        )
        return amounts

    def redeem_in_kind(
        self, sender: str, amount: int, receiver: str, owner: str, least: Sequence[int], skip: int
    ) -> list[int]:
        check(amount > 0, "zero shares")
        self._check_receiver(receiver)
        check(len(least) == self.count, "wrong length")
        if sender != owner:
            self._check_allowance(owner, sender, amount)
        check(self.balance[owner] >= amount, "balance too low")
        amounts = self.redeem_amounts(amount, skip)
        for i, paid in enumerate(amounts):
            if not skip >> i & 1:
                check(not self.token(i).broken, "")
                check(paid >= least[i], "amount below minimum")
        if sender != owner:
            self._spend_allowance(owner, sender, amount)
        for i, paid in enumerate(amounts):
            self.token(i).balances[self.address] -= paid
            self.token(i).balances[receiver] += paid
        self._accrue()
        self.sequence += 1
        self._burn(owner, amount)
        self.world.emit(
            self.address,
            "RedeemedInKind(address,address,address,uint256,uint256[],uint256,uint256)",
            (sender, receiver, owner),
            encode(amount, amounts, skip, self.sequence),
        )
        return amounts

    # Priced

    def check_priced(self, teller: str) -> None:
        check(teller in self.flows, "not teller")
        check(self.now >= self.paused_until, "paused")
        check(self.quarantined == NO_ASSET, "quarantined")

    def _points(self, amount: int) -> int:
        return -(-amount * WAD // self.accrued()[0])

    def issue(
        self, teller: str, receiver: str, amount: int, fee: int, seconds: int, asset: str, paid: int
    ) -> None:
        """What a teller asks for; its tokens are here already."""
        self.check_priced(teller)
        flow = self.flows[teller].charged(self.now, self._points(amount + fee))
        self._check_receiver(receiver)
        if fee or self.melting[0]:
            room = MAX_SUPPLY - self.accrued()[0] - fee
            check(room >= 0, "")
        else:
            room = self._room()
        check(amount <= room, "supply above cap")
        self.flows[teller] = flow
        self._accrue()
        self.sequence += 1
        self._melt(fee, seconds)
        self._mint(receiver, amount)
        self.world.emit(
            self.address,
            "Issued(address,address,uint256,uint256,address,uint256,uint256)",
            (teller, receiver),
            encode(amount, fee, asset, paid, self.sequence),
        )

    def release(
        self,
        teller: str,
        operator: str,
        owner: str,
        amount: int,
        fee: int,
        seconds: int,
        asset: str,
        paid: int,
        receiver: str,
    ) -> None:
        self._check_receiver(receiver)
        self.check_priced(teller)
        check(fee <= amount, "fee above shares")
        if operator != owner:
            self._check_allowance(owner, operator, amount)
        flow = self.flows[teller].charged(self.now, -self._points(amount))
        check(self.balance[owner] >= amount, "balance too low")
        token = self.world.tokens[asset]
        check(paid == 0 or (not token.broken and token.balances[self.address] >= paid), "")
        if operator != owner:
            self._spend_allowance(owner, operator, amount)
        self.flows[teller] = flow
        self._accrue()
        self.sequence += 1
        self._melt(fee, seconds)
        self._burn(owner, amount)
        token.balances[self.address] -= paid
        token.balances[receiver] += paid
        self.world.emit(
            self.address,
            "Released(address,address,address,uint256,uint256,address,uint256,uint256)",
            (teller, owner, receiver),
            encode(amount, fee, asset, paid, self.sequence),
        )

    # Trades

    def _readable(self) -> bool:
        """The oracle answers, and so does every token that counts."""
        return self.oracle not in self.world.broken_oracles and self._tokens_answer()

    def _tokens_answer(self) -> bool:
        return not any(self.token(i).broken for i in range(self.count) if i != self.quarantined)

    def _judge(self, reason: str) -> str:
        """The verdict's reason, unless reading fails before."""
        first = [
            "not keeper",
            "deadline passed",
            "paused",
            "wrong length",
            "executor not allowed",
            "price not usable",
        ]
        return reason if self._tokens_answer() or reason in first else ""

    def _entry(self, signature: str, entry: bytes, indexed: Sequence[str] = ()) -> None:
        self.head = keccak(entry)
        self.world.emit(self.address, signature, indexed, entry)

    def _without_aside(self, numbers: Sequence[int]) -> list[int]:
        return [0 if i == self.quarantined else n for i, n in enumerate(numbers)]

    def open_session(self) -> int:
        check(self.now >= self.paused_until, "paused")
        state = self.judged()
        reason, after = policy.check_open_session(state, self.now)
        if reason or not self._tokens_answer():
            raise Refused(self._judge(reason))
        self.session = after.session
        entry = encode(
            self.head_word(),
            1,
            self.session.id,
            self.session.by_calendar,
            self.session.slot,
            self.now,
            state.supply,
            self.sequence,
            self._without_aside(state.prices),
            self._without_aside(state.balances),
        )
        self._entry(
            "SessionOpened(bytes32,uint256,uint256,bool,uint256,uint256,uint256,uint256,uint256[],uint256[])",
            entry,
        )
        return self.session.id

    def rebalance(
        self,
        sender: str,
        sells: list[int],
        executor: str,
        payload: bytes,
        decision: int,
        session: int,
        deadline: int,
        after: Sequence[int] | None,
        answered: bool = True,
    ) -> None:
        """`after`: the balances that the executor leaves; None: it is no contract."""
        keeper = bool(self.roles[sender] & KEEPER)
        if self.oracle in self.world.broken_oracles:
            state = replace(self._blind(), statuses=(1,) * self.count)  # found out where prices are read
        else:
            state = self.judged()
        left = state.balances if after is None else after
        verdict = policy.check_rebalance(
            state,
            sells,
            left,
            session,
            deadline,
            self.now,
            executor=executor,
            keeper=keeper,
            answered=answered and after is not None,
        )
        reason = verdict.reason
        if self.oracle in self.world.broken_oracles and reason == "price not usable":
            reason = ""
        if after is None and reason == "executor did not answer":
            reason = ""
        if not verdict.ok or not self._tokens_answer():
            raise Refused(self._judge(reason))
        for i, amount in enumerate(left):
            if i != self.quarantined:
                self.token(i).balances[self.address] = amount
        self.session = verdict.state.session
        self.loss = (verdict.state.loss_used, self.now)
        if verdict.closed:
            self.world.emit(self.address, "SessionClosed(uint256)", (), word(self.session.id))
        entry = encode(
            self.head_word(),
            2,
            self.session.id,
            self.now,
            state.supply,
            self.sequence,
            self._without_aside(state.prices),
            self._without_aside(state.balances),
            self._without_aside(left),
            sells,
            executor,
            int.from_bytes(keccak(payload), "big"),
            decision,
        )
        self._entry(
            "Rebalanced(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256[],uint256[],uint256[],"
            "uint256[],address,bytes32,bytes32)",
            entry,
            (sender,),
        )

    def _blind(self) -> VaultState:
        """The state without prices."""
        oracle, self.oracle = self.oracle, "none"
        self.world.oracles["none"] = set()
        state = self.judged()
        self.oracle = oracle
        return replace(state, oracle=oracle)

    def head_word(self) -> int:
        return int.from_bytes(self.head, "big")

    def appraise(self, asset: str) -> tuple[int, int]:
        """NAV and what is held of `asset`, USD WAD."""
        check(self.now >= self.paused_until, "paused")
        check(self.quarantined == NO_ASSET, "quarantined")
        state = self.judged()
        check(policy.usable(state), "price not usable")
        check(self._tokens_answer(), "")
        held = dict(zip([a.token for a in self.assets], policy.values(state), strict=True))
        check(asset in held, "not an asset")
        check(sum(held.values()) > 0, "no value")
        return sum(held.values()), held[asset]

    # The timelock's doors

    def record(self, name: str, data: bytes) -> None:
        entry = encode(self.head_word(), 3, name.encode(), self.now, data)
        self._entry("RuleChanged(bytes32,uint256,string,uint256,bytes)", entry)


# ---------------------------------------------------------------- the teller


@dataclass(frozen=True)
class Appraisal:
    """The vault as a teller prices it."""

    nav: int
    supply: int
    entry_supply: int  # as if tellers' fees had melted
    held: int
    target: int
    price: int
    scale: int

    def gap_in(self) -> int:
        if self.target == WAD:
            return MAX
        return max(self.target * self.nav - self.held * WAD, 0) // (WAD - self.target)

    def gap_out(self) -> int:
        if self.target == WAD:
            return MAX
        return max(self.held * WAD - self.target * self.nav, 0) // (WAD - self.target)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass
class Teller:
    """Priced entry in one asset. Its book of last seen values is for views only and left out."""

    address: str
    vault: Vault
    asset: str
    floor: int  # bps
    surcharge: int  # bps
    melt_seconds: int

    def _appraise(self, brought: int = 0) -> Appraisal:
        """As before `brought` came, which is in the vault already."""
        vault = self.vault
        nav, held = vault.appraise(self.asset)
        index = next(i for i, a in enumerate(vault.assets) if a.token == self.asset)
        price, asset = vault.judged().prices[index], vault.assets[index]
        before = (vault.token(index).balances[vault.address] - brought) * price // asset.scale
        check(nav - held + before > 0, "no value")
        supply = vault.accrued()[0]
        entry = supply - vault.still_melting()[0]
        target = asset.target_bps * BPS
        return Appraisal(nav - held + before, supply, entry, before, target, price, asset.scale)

    def _fee(self, amount: int, gap: int) -> int:
        return ceil_div(self.floor * amount + self.surcharge * max(amount - gap, 0), MAX_BPS)

    def _deposit_shares(self, a: Appraisal, assets: int) -> tuple[int, int]:
        paid = assets * a.price // a.scale
        fee = self._fee(paid, a.gap_in())
        shares = (paid - fee) * a.entry_supply // a.nav
        return shares, paid * a.supply // a.nav - shares

    def _mint_assets(self, a: Appraisal, shares: int) -> int:
        net, gap, rate = ceil_div(shares * a.nav, a.entry_supply) * MAX_BPS, a.gap_in(), MAX_BPS - self.floor
        paid = ceil_div(net, rate)
        if paid > gap:
            paid = ceil_div(net - self.surcharge * gap, rate - self.surcharge)
        return ceil_div(paid * a.scale, a.price)

    def _withdraw_shares(self, a: Appraisal, assets: int) -> int:
        leaving = ceil_div(assets * a.price, a.scale)
        return ceil_div((leaving + self._fee(leaving, a.gap_out())) * a.supply, a.nav)

    def _redeem_assets(self, a: Appraisal, shares: int) -> int:
        worth, gap, rate = shares * a.nav // a.supply * MAX_BPS, a.gap_out(), MAX_BPS + self.floor
        leaving = worth // rate
        if leaving > gap:
            leaving = (worth + self.surcharge * gap) // (rate + self.surcharge)
        return leaving * a.scale // a.price

    @contextmanager
    def _brought(self, sender: str, assets: int) -> Iterator[None]:
        """The sender's assets are in the vault; they go back when the flow is refused."""
        token = self.vault.world.tokens[self.asset]
        check(not token.broken, "")
        allowed = (sender, self.address) in self.vault.world.approved
        check(assets == 0 or (allowed and token.balances[sender] >= assets), "")
        token.balances[sender] -= assets
        token.balances[self.vault.address] += assets
        try:
            yield
        except Refused:
            token.balances[sender] += assets
            token.balances[self.vault.address] -= assets
            raise

    def deposit(self, sender: str, assets: int, receiver: str, least: int = 0) -> int:
        with self._brought(sender, assets):
            shares, fee = self._deposit_shares(self._appraise(assets), assets)
            check(shares >= least, "too few shares")
            self._issue(sender, receiver, assets, shares, fee)
        return shares

    def mint(self, sender: str, shares: int, receiver: str, most: int = MAX) -> int:
        assets = self._mint_assets(self._appraise(), shares)
        check(assets <= most, "too many assets")
        with self._brought(sender, assets):
            worth, fee = self._deposit_shares(self._appraise(assets), assets)
            check(worth >= shares, "too few shares")
            self._issue(sender, receiver, assets, shares, fee)
        return assets

    def _issue(self, sender: str, receiver: str, assets: int, shares: int, fee: int) -> None:
        check(receiver != self.address, "receiver not allowed")
        self.vault.issue(self.address, receiver, shares, fee, self.melt_seconds, self.asset, assets)
        signature = "Deposit(address,address,uint256,uint256)"
        self.vault.world.emit(self.address, signature, (sender, receiver), encode(assets, shares))

    def withdraw(self, sender: str, assets: int, receiver: str, owner: str, most: int = MAX) -> int:
        a = self._appraise()
        shares = self._withdraw_shares(a, assets)
        check(shares <= most, "too many shares")
        self._release(sender, a, receiver, owner, assets, shares)
        return shares

    def redeem(self, sender: str, shares: int, receiver: str, owner: str, least: int = 0) -> int:
        a = self._appraise()
        assets = self._redeem_assets(a, shares)
        check(assets >= least, "too few assets")
        self._release(sender, a, receiver, owner, assets, shares)
        return assets

    def _release(
        self, sender: str, a: Appraisal, receiver: str, owner: str, assets: int, shares: int
    ) -> None:
        check(owner != self.address, "owner not allowed")
        leaving = ceil_div(assets * a.price, a.scale)
        fee = self._fee(leaving, a.gap_out()) * a.supply // a.nav
        check(0 <= shares - fee <= a.supply, "")
        self.vault.release(
            self.address, sender, owner, shares, fee, self.melt_seconds, self.asset, assets, receiver
        )
        signature = "Withdraw(address,address,address,uint256,uint256)"
        self.vault.world.emit(self.address, signature, (sender, receiver, owner), encode(assets, shares))

    def check_fees(self, floor: int, surcharge: int) -> None:
        check(floor <= 2_000 and floor + surcharge <= 2_000, "fees above cap")


# ---------------------------------------------------------------- the timelock


def check_rules(rules: Rules, assets: Sequence[Asset]) -> None:
    """What the rule book says of rules and assets together."""
    check(len(assets) >= 2, "fewer than 2 assets")
    for i, a in enumerate(assets):
        check_asset(a)
        check(all(a.token != other.token for other in assets[:i]), "asset twice")
    check(sum(a.target_bps for a in assets) == MAX_BPS, "targets do not sum to 100%")
    error = sum(sorted(a.price_error_bps for a in assets)[-2:])
    check(rules.max_slippage_bps >= error + 10, "slippage below price errors")
    widest = max(policy.band(a) for a in assets)
    enough = rules.loss_capacity_bps * BPS * MAX_BPS >= 2 * widest * (rules.max_slippage_bps + error)
    check(enough, "loss budget below one rebalance")
    check(rules.mode == policy.Mode.THRESHOLD or rules.tolerance_bps > 0, "tolerance 0 with a calendar")
    check(rules.mode < 4, "unknown mode")
    check(rules.calendar_unit < 2, "unknown calendar unit")
    check(rules.calendar_every > 0, "calendar every 0")
    check(rules.window_seconds > 0, "window 0")
    for value, bits in zip(astuple_rules(rules), RULE_BITS, strict=True):
        check(bits is None or value >> bits == 0, "rule out of range")


def check_asset(a: Asset) -> None:
    check(a.decimals <= 24, "too many decimals")
    check(a.min_target_bps <= a.target_bps <= a.max_target_bps, "target outside limits")
    check(a.max_target_bps <= MAX_BPS, "limit above 100%")
    check(a.band_points_bps <= MAX_BPS and a.band_relative_bps <= MAX_BPS, "band above 100%")
    check(a.price_error_bps <= 255, "price error too large")


def is_safer(old: Rules, new: Rules) -> bool:
    """Only these five change, and none of them upwards."""
    lowered = {
        name: min(getattr(old, name), getattr(new, name))
        for name in (
            "max_slippage_bps",
            "loss_capacity_bps",
            "loss_refill_bps_per_year",
            "speed_capacity_bps",
            "speed_refill_bps_per_day",
        )
    }
    return replace(old, **lowered) == new


class Timelock:
    """Its functions, by name: `call(sender, name, vault, *args)`."""

    def __init__(self, world: World) -> None:
        self.world = world

    def call(self, sender: str, name: str, vault: Vault, *args: Any) -> Any:
        function: Callable[..., Any] = getattr(self, name)
        return function(sender, vault, *args)

    # Announce, wait, make

    def queue(self, sender: str, vault: Vault, name: str, args: Sequence[Any], subject: str = "") -> int:
        """`subject`: the vault that the queued call names, when another."""
        check(sender == vault.admin, "not admin")
        check(subject in ("", vault.address), "wrong vault")
        data = timelock_call(name, subject or vault.address, *args)
        before = self.world.ready_at.get((vault.address, data), 0)
        check(before == 0 or self.world.now > before + EXPIRY, "already queued")
        ready = self.world.now + vault.delay
        self.world.ready_at[vault.address, data] = ready
        id = self.id(vault, data)
        self.world.emit(
            self.world.timelock,
            "Queued(bytes32,address,uint256,bytes)",
            (id, vault.address),
            encode(ready, data),
        )
        return id

    @staticmethod
    def id(vault: Vault, data: bytes) -> int:
        return int.from_bytes(keccak(encode(vault.address, data)), "big")

    def execute(self, sender: str, vault: Vault, name: str, args: Sequence[Any]) -> None:
        check(sender == vault.admin, "not admin")
        data = timelock_call(name, vault.address, *args)
        ready = self.world.ready_at.get((vault.address, data), 0)
        check(ready > 0, "not queued")
        check(self.world.now >= ready, "not ready")
        check(self.world.now <= ready + EXPIRY, "expired")
        self.world.emit(self.world.timelock, "Executed(bytes32)", (self.id(vault, data),))
        self.call(self.world.timelock, name, vault, *args)
        self.world.ready_at[vault.address, data] = 0

    def cancel(self, sender: str, vault: Vault, name: str, args: Sequence[Any]) -> None:
        data = timelock_call(name, vault.address, *args)
        if sender != vault.admin:
            check(bool(vault.roles[sender] & GUARDIAN), "not admin or guardian")
            old = vault.roles[args[0]] if name == "set_role" else 0
            check(not old & GUARDIAN or bool(args[1] & ~old), "no veto on a guardian's removal")
        check(self.world.ready_at.get((vault.address, data), 0) > 0, "not queued")
        self.world.ready_at[vault.address, data] = 0
        self.world.emit(
            self.world.timelock,
            "Cancelled(bytes32,address)",
            (self.id(vault, data), sender),
        )

    # At once

    def set_targets(self, sender: str, vault: Vault, targets: list[int]) -> None:
        check(sender == vault.admin or bool(vault.roles[sender] & STRATEGIST), "not admin or strategist")
        assets = self._with(vault.assets, "target_bps", targets)
        path = sum(abs(t - a.target_bps) for t, a in zip(targets, vault.assets, strict=True)) * BPS
        self._check_settings(vault, assets)
        level = vault.speed_used() + path
        check(level <= vault.rules.speed_capacity_bps * BPS, "targets move too fast")
        vault.assets = assets
        vault.speed = (level, vault.now)
        vault.record("set_targets", encode(targets))

    def pause(self, sender: str, vault: Vault) -> None:
        self._check_guardian(sender, vault)
        self._check_gap(vault, vault.paused_until)
        self._pause(vault, vault.now + STOP)

    def quarantine(self, sender: str, vault: Vault, token: str) -> None:
        self._check_guardian(sender, vault)
        self._check_gap(vault, vault.aside_until)
        index = self._index(vault, token)
        self._check_settings(vault, vault.assets, index)
        vault.aside, vault.aside_until = index, vault.now + STOP
        vault.record("quarantine", encode(index, vault.aside_until))

    def end_quarantine(self, sender: str, vault: Vault) -> None:
        self._check_guardian(sender, vault)
        check(vault.quarantined != NO_ASSET, "no quarantine")
        vault.aside_until = vault.now
        vault.record("quarantine", encode(vault.aside, vault.now))

    def drop_role(self, sender: str, vault: Vault, account: str) -> None:
        check(sender == vault.admin or bool(vault.roles[sender] & GUARDIAN), "not admin or guardian")
        self._set_role(vault, account, vault.roles[account] & GUARDIAN)

    def set_rules(self, sender: str, vault: Vault, rules: tuple[int, ...]) -> None:
        new, old = Rules(*rules), vault.rules
        if is_safer(old, new):
            self._check_admin_or_delayed(sender, vault)
        else:
            self._check_delayed(sender)
        check_rules(new, vault.assets)
        loss, speed = vault.loss_used(), vault.speed_used()
        vault.loss, vault.speed = (loss, vault.now), (speed, vault.now)
        vault.session = self._renumbered(vault.session, old, new, vault.now)
        vault.rules = new
        vault.record("set_rules", encode(rules))

    @staticmethod
    def _renumbered(session: Session, old: Rules, new: Rules, now: int) -> Session:
        end = session.opened_at + old.window_seconds
        if session.id and not session.closed_at and now >= end:
            session = replace(session, closed_at=end)
        terms = ("calendar_unit", "calendar_every", "calendar_anchor")
        if any(getattr(old, name) != getattr(new, name) for name in terms):
            session = replace(session, slot=policy.calendar_slot(new, now))
        return session

    def set_fee(self, sender: str, vault: Vault, fee_bps: int, recipient: str) -> None:
        if recipient == vault.fee_recipient and fee_bps <= vault.fee_bps:
            self._check_admin_or_delayed(sender, vault)
        else:
            self._check_delayed(sender)
        check(fee_bps <= MAX_FEE_BPS, "fee above cap")
        check(recipient not in (ZERO, vault.address), "fee recipient not allowed")
        vault.collect_fee()
        vault.fee_bps, vault.fee_recipient = fee_bps, recipient
        vault.record("set_fee", encode(fee_bps, recipient))

    # After the delay

    def set_bands(self, sender: str, vault: Vault, points: list[int], relative: list[int]) -> None:
        self._check_delayed(sender)
        assets = self._with(vault.assets, "band_points_bps", points)
        assets = self._with(assets, "band_relative_bps", relative)
        self._check_settings(vault, assets)
        vault.assets = assets
        vault.record("set_bands", encode(points, relative))

    def set_limits(self, sender: str, vault: Vault, least: list[int], most: list[int]) -> None:
        self._check_delayed(sender)
        assets = self._with(vault.assets, "min_target_bps", least)
        assets = self._with(assets, "max_target_bps", most)
        self._check_settings(vault, assets)
        vault.assets = assets
        vault.record("set_limits", encode(least, most))

    def add_asset(self, sender: str, vault: Vault, asset: tuple[Any, ...]) -> None:
        self._check_delayed(sender)
        check(vault.count < 16, "too many assets")
        given = Asset(*asset)
        check(given.token != ZERO, "no token")
        token = self.world.tokens.get(given.token)
        check(token is not None and not token.broken, "")
        assert token is not None
        joined = replace(given, decimals=token.decimals)
        check_asset(joined)
        check(token.balances[vault.address] <= MAX_BALANCE, "balance too large")
        assets = [*vault.assets, joined]
        self._check_settings(vault, assets)
        self._check_prices(vault, assets, vault.oracle)
        vault.assets = assets
        vault.record("add_asset", encode(asset))

    def remove_asset(self, sender: str, vault: Vault, token: str) -> None:
        self._check_delayed(sender)
        index = self._index(vault, token)
        check(vault.assets[index].target_bps == 0, "target not 0")
        nav, held = vault.appraise(token)
        check(held * MAX_BPS <= nav, "still held")
        assets = [a for i, a in enumerate(vault.assets) if i != index]
        self._check_settings(vault, assets)
        vault.assets = assets
        vault.record("remove_asset", encode(token))

    def set_oracle(self, sender: str, vault: Vault, oracle: str) -> None:
        self._check_delayed(sender)
        self._check_prices(vault, vault.assets, oracle)
        vault.oracle = oracle
        vault.record("set_oracle", encode(oracle))

    def set_role(self, sender: str, vault: Vault, account: str, roles: int) -> None:
        self._check_delayed(sender)
        check(roles < 8, "")
        check(account != ZERO, "no account")
        self._set_role(vault, account, roles)

    def unpause(self, sender: str, vault: Vault) -> None:
        self._check_delayed(sender)
        self._pause(vault, min(vault.now, vault.paused_until))

    def set_delay(self, sender: str, vault: Vault, delay: int) -> None:
        self._check_delayed(sender)
        check(MIN_DELAY <= delay <= MAX_DELAY, "delay out of range")
        vault.delay = delay
        self.world.emit(self.world.timelock, "DelaySet(address,uint256)", (vault.address,), word(delay))

    def transfer_admin(self, sender: str, vault: Vault, admin: str) -> None:
        self._check_delayed(sender)
        vault.pending_admin = admin
        self.world.emit(self.world.timelock, "AdminTransferStarted(address,address)", (vault.address, admin))

    def accept_admin(self, sender: str, vault: Vault) -> None:
        check(sender == vault.pending_admin, "not pending admin")
        vault.admin, vault.pending_admin = sender, ZERO
        self.world.emit(self.world.timelock, "AdminTransferred(address,address)", (vault.address, sender))

    def add_teller(
        self,
        sender: str,
        vault: Vault,
        asset: str,
        floor: int,
        surcharge: int,
        burn_seconds: int,
        capacity: int,
        refill: int,
        arbitrageable: bool,
    ) -> None:
        self._check_delayed(sender)
        check(3_600 <= burn_seconds <= 30 * DAY, "burn time out of range")
        address = self.world.next_teller()
        teller = Teller(address, vault, asset, floor, surcharge, burn_seconds)
        teller.check_fees(floor, surcharge)
        vault.appraise(asset)
        self._set_teller(vault, teller, floor, surcharge, capacity, refill, arbitrageable)
        self.world.tellers[address] = teller
        signature = "TellerAdded(address,address,address)"
        self.world.emit(self.world.timelock, signature, (vault.address, address, asset))

    def set_teller(
        self,
        sender: str,
        vault: Vault,
        address: str,
        floor: int,
        surcharge: int,
        capacity: int,
        refill: int,
        arbitrageable: bool,
    ) -> None:
        self._check_delayed(sender)
        teller = self.world.tellers.get(address)
        check(teller is not None and teller.vault is vault, "not a teller")
        assert teller is not None
        teller.check_fees(floor, surcharge)
        self._set_teller(vault, teller, floor, surcharge, capacity, refill, arbitrageable)

    def _set_teller(
        self,
        vault: Vault,
        teller: Teller,
        floor: int,
        surcharge: int,
        capacity: int,
        refill: int,
        arbitrageable: bool,
    ) -> None:
        if capacity:
            index = self._index(vault, teller.asset)
            errors = [a.price_error_bps for a in vault.assets]
            check(arbitrageable or floor >= errors[index] + max(errors), "floor below price errors")
            check(arbitrageable or surcharge >= vault.rules.max_slippage_bps, "surcharge below slippage")
        check(not capacity or (capacity <= MAX_BPS and refill <= MAX_BPS), "flow limit above 100%")
        self.world.emit(teller.address, "FeesSet(uint256,uint256)", (), encode(floor, surcharge))
        teller.floor, teller.surcharge = floor, surcharge
        before = vault.flows.pop(teller.address, None)
        if capacity:
            level = before.level_at(vault.now) if before else 0
            vault.flows[teller.address] = Flow(capacity, refill, vault.now, level)
        vault.record("set_teller", encode(teller.address, capacity, refill))
        self.world.emit(
            self.world.timelock,
            "TellerSet(address,uint256,uint256,bool)",
            (teller.address,),
            encode(floor, surcharge, arbitrageable),
        )

    # Checks

    def _check_delayed(self, sender: str) -> None:
        check(sender == self.world.timelock, "needs the delay")

    def _check_admin_or_delayed(self, sender: str, vault: Vault) -> None:
        check(sender in (self.world.timelock, vault.admin), "not admin")

    @staticmethod
    def _check_guardian(sender: str, vault: Vault) -> None:
        check(bool(vault.roles[sender] & GUARDIAN), "not guardian")

    @staticmethod
    def _check_gap(vault: Vault, last_until: int) -> None:
        check(last_until == 0 or vault.now >= last_until + STOP_GAP, "too soon after the last")

    @staticmethod
    def _check_settings(vault: Vault, assets: Sequence[Asset], aside: int | None = None) -> None:
        check_rules(vault.rules, assets)
        index = vault.quarantined if aside is None else aside
        check(index == NO_ASSET or assets[index].target_bps < MAX_BPS, "nothing left")

    def _check_prices(self, vault: Vault, assets: Sequence[Asset], oracle: str) -> None:
        prices, statuses = self.world.prices(oracle, [a.token for a in assets])
        for i, (price, status) in enumerate(zip(prices, statuses, strict=True)):
            check(i == vault.quarantined or (price > 0 and status == 0), "price not usable")

    @staticmethod
    def _index(vault: Vault, token: str) -> int:
        found = [i for i, a in enumerate(vault.assets) if a.token == token]
        check(bool(found), "not an asset")
        return found[0]

    @staticmethod
    def _with(assets: Sequence[Asset], name: str, bps: Sequence[int]) -> list[Asset]:
        check(len(bps) == len(assets), "wrong length")
        check(all(b <= MAX_BPS for b in bps), "above 100%")
        return [replace(a, **{name: b}) for a, b in zip(assets, bps, strict=True)]

    @staticmethod
    def _pause(vault: Vault, until: int) -> None:
        vault.paused_until = until
        vault.record("pause", encode(until))

    @staticmethod
    def _set_role(vault: Vault, account: str, roles: int) -> None:
        check(account != ZERO, "no account")
        vault.roles[account] = roles
        vault.record("set_role", encode(account, roles))


@contextmanager
def logged(world: World) -> Iterator[None]:
    """Start with an empty log; a refusal leaves none."""
    world.log.clear()
    try:
        yield
    except Refused:
        world.log.clear()
        raise
