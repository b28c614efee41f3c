"""A seeded random campaign against the real bytecode: many actors, several vaults, every door, in step with the model.

    make fuzz STEPS=1000000          from a random seed, which it prints
    make fuzz SEED=7 STEPS=50000     again

Episode after episode (one chain with two vaults each) it draws steps: a flow, a trade, a change of the rules, a broken
token, a stale feed, time. After each, the model (`model.py`) must agree on answer, revert string, logs and state, and
the invariants (`invariants.py`) must hold on what the chain says. A step draws from a generator of its own, so that an
episode can be run again without some of its steps: that is how a failure is shrunk.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyrevm
from eth_utils import keccak

from offchain import policy
from offchain.policy import DAY, WAD, Asset, Rules, Session, VaultState
from tests.stateful import model
from tests.stateful.invariants import (
    ATOM_DECIMALS,
    Broken,
    Delays,
    Epoch,
    Losses,
    Market,
    Priced,
    Seen,
    check_claims,
    check_exit,
    check_fee,
    check_flow,
    check_in_kind,
    check_rebalance,
    check_sums,
    head_after,
    hold,
)
from tests.stateful.model import (
    MAX,
    ZERO,
    Refused,
    astuple_asset,
    astuple_rules,
    astuple_session,
    encode,
    selector,
    timelock_call,
    word,
)
from tests.support.evm import CONTRACTS, DEPLOYER, Evm, Reverted, artifact

START = 1_700_000_000
EPISODE = 250  # steps; a chain grows slower with every transaction
SIZES = (2, 2, 4, 8, 16)
OWNER, OWNER_2, GUARDIAN, GUARDIAN_2, STRATEGIST, KEEPER, THIEF, STRANGER, COLLECTOR, ALICE, BOB, CAROL = (
    "0x" + f"{n:02x}" * 20 for n in range(0xA1, 0xAD)
)
ACTORS = [
    OWNER,
    OWNER_2,
    GUARDIAN,
    GUARDIAN_2,
    STRATEGIST,
    KEEPER,
    THIEF,
    STRANGER,
    COLLECTOR,
    ALICE,
    BOB,
    CAROL,
]
HOLDERS = [ALICE, BOB, CAROL, OWNER, THIEF]  # have tokens, and let the vaults take them
LEAVER = "0x" + "1e" * 20  # receives what a simulated redemption pays
NO_CODE = "0x" + "e0" * 20
REVERTING = bytes.fromhex("5f5ffd".replace("5f", "6000"))  # revert(0, 0)
WIDE = 2**200
BALANCES = 1  # storage slot of a ScriptedToken's


class Different(AssertionError):
    """Chain and model disagree."""

    invariant = "model"


class Judges:
    """Who judges: the invariants always, the model unless it is told off."""

    model = True


def same(what: str, chain: Any, expected: Any) -> None:
    if chain != expected and Judges.model:
        if isinstance(chain, dict):
            chain = {key: value for key, value in chain.items() if value != expected[key]}
            expected = {key: expected[key] for key in chain}
        elif isinstance(chain, list) and len(chain) == len(expected):
            at = next(i for i, (a, b) in enumerate(zip(chain, expected, strict=True)) if a != b)
            what, chain, expected = f"{what}, number {at}", chain[at], expected[at]
        raise Different(f"{what}: chain {plain(chain)}, model {plain(expected)}")


def plain(value: Any) -> str:
    """Bytes in words of hex."""
    if isinstance(value, bytes):
        return " ".join(value[i : i + 32].hex().lstrip("0") or "0" for i in range(0, len(value), 32))
    if isinstance(value, tuple):
        return f"({', '.join(map(plain, value))})"
    return f"[{', '.join(map(plain, value))}]" if isinstance(value, list) else repr(value)


# ---------------------------------------------------------------- the chain


class Chain:
    """The contracts of an episode, called by raw bytes."""

    def __init__(
        self, now: int, decimals: Sequence[int], prices: Sequence[int], heartbeats: Sequence[int]
    ) -> None:
        self.evm = Evm(now)
        deploy = self.deploy
        self.tokens = [deploy("ScriptedToken", d) for d in decimals]
        self.feeds = [deploy("TestFeed", 18, "USD", price) for price in prices]
        self.feed_board = deploy("FeedBoard")
        self.oracles = [deploy("PriceOracle", GUARDIAN, 2 * DAY, ZERO, 0) for _ in range(2)]
        for i, (token, feed, heartbeat) in enumerate(zip(self.tokens, self.feeds, heartbeats, strict=True)):
            arguments = encode(token, feed, heartbeat, 1, 2**128 - 1)
            for oracle in self.oracles[: 1 if i == len(decimals) - 1 else 2]:  # one token has one feed only
                self.send(
                    DEPLOYER,
                    oracle,
                    selector("set_feed(address,address,uint256,uint256,uint256)") + arguments,
                )
        self.rule_book = deploy("RuleBook")
        self.teller_implementation = deploy("Teller")
        self.timelock = deploy("Timelock", self.rule_book, self.teller_implementation)
        self.implementation = deploy("Vault", self.rule_book, self.timelock)
        self.factory = deploy("VaultFactory", self.implementation, self.rule_book)
        self.executor = deploy("ScriptedExecutor")
        self.auction = deploy("Auction", 600, 3600, 100)  # seconds of grace and decay, first bps
        self.codes: dict[str, bytes] = {}  # of what is broken now
        self._places: dict[tuple[int, str], int] = {}

    def deploy(self, name: str, *args: Any) -> str:
        return self.evm.deploy(artifact(name), *args).address.lower()

    def send(self, sender: str, to: str, data: bytes) -> bytes:
        """The output; Refused with the revert string, "" when there is none."""
        try:
            return self.evm.call(sender, to, data)
        except Reverted as refusal:
            raise Refused("" if refusal.reason == "0x" else refusal.reason) from None

    def number(self, to: str, data: bytes) -> int:
        return int.from_bytes(self.evm.call(STRANGER, to, data)[:32], "big")

    def logs(self) -> list[tuple[str, list[int], bytes]]:
        """Of the last transaction, but for the tokens'."""
        result = self.evm._evm.result
        assert result is not None
        logs = (
            [log for log in result.logs if log.address.lower() not in self.tokens]
            if result.is_success
            else []
        )
        return [(log.address.lower(), [int(t, 16) for t in log.topics], bytes(log.data[1])) for log in logs]

    def units(self, token: str, account: str) -> int:
        """A ScriptedToken's balance, from its storage: a broken token has it still."""
        return self.entry(token, BALANCES, account)

    def entry(self, address: str, slot: int, key: str) -> int:
        """What a mapping at `slot` has for the account `key`. Some 30 times quicker than a view."""
        place = (slot, key)
        if place not in self._places:
            self._places[place] = int.from_bytes(keccak(word(slot) + word(key)), "big")
        return int(self.evm._evm.storage(address, self._places[place]))

    def find_slot(self, address: str, entries: dict[str, int]) -> int:
        """Where a mapping is that has these entries."""
        return next(s for s in range(500) if all(self.entry(address, s, k) == v for k, v in entries.items()))

    def give(self, token: str, account: str, amount: int) -> None:
        self.send(DEPLOYER, token, selector("set_balance(address,uint256)") + encode(account, amount))

    def break_code(self, address: str) -> None:
        """Every call reverts from now on; storage stays."""
        code = self.evm._evm.get_code(address)
        assert code is not None
        self.codes[address] = bytes(code)
        self.evm._evm.insert_account_info(address, pyrevm.AccountInfo(nonce=1, code=REVERTING))

    def mend(self, address: str) -> None:
        info = pyrevm.AccountInfo(nonce=1, code=self.codes.pop(address))
        self.evm._evm.insert_account_info(address, info)


# ---------------------------------------------------------------- steps


@dataclass
class Act:
    """A transaction and what the model says of it."""

    name: str
    sender: str
    to: str
    data: bytes
    expected: Callable[[], Any]
    vault: model.Vault
    parties: set[str] = field(default_factory=set)  # of a flow; empty: none
    check: Callable[[Seen, Seen], None] | None = None
    executes: bytes | None = None
    queues: bytes | None = None
    cancels: bytes | None = None
    trades: bool = False
    teller: str = ""  # that a priced flow goes through
    must: bool = False  # it may not be refused


VIEWS = {
    name: selector(f"{name}()")
    for name in (
        "settings", "totalSupply", "pending_fee_shares", "flow_sequence", "fee_bps", "fee_recipient", "head",
        "balances", "session", "rules", "basket", "assets", "loss_budget_used", "speed_budget_used",
    )
}  # fmt: skip
BALANCE_OF, ROLES = selector("balanceOf(address)"), selector("roles(address)")


class Episode:
    """One chain, two vaults, and the steps that are tried on them."""

    def __init__(self, seed: int, coverage: Counter[str] | None = None) -> None:
        self.seed = seed
        self.coverage: Counter[str] = Counter() if coverage is None else coverage
        self.rng = rng = random.Random(seed)
        self.trail: list[tuple[str, bytes]] = []
        sizes = [SIZES[seed % len(SIZES)], rng.choice((2, 4))]
        count = max(sizes) + 2
        prices = [10 ** rng.randint(15, 22) * rng.randint(1, 9) for _ in range(count)]
        decimals = [(6, 8, 18)[i % 3] for i in range(count)]
        heartbeats = [rng.choice((3 * DAY, 30 * DAY)) for _ in range(count)]
        self.chain = chain = Chain(START + rng.randint(0, 400 * DAY), decimals, prices, heartbeats)
        self.world = world = model.World(chain.evm.now, chain.timelock)
        self.timelock = model.Timelock(world)
        self.price = dict(zip(chain.tokens, prices, strict=True))
        for token, d, price, heartbeat in zip(chain.tokens, decimals, prices, heartbeats, strict=True):
            world.tokens[token] = model.Token(d)
            world.feeds[token] = model.Feed(price, world.now, heartbeat)
        world.oracles = {chain.oracles[0]: set(chain.tokens), chain.oracles[1]: set(chain.tokens[:-1])}
        self.vaults = [self._create(size, OWNER if i == 0 else OWNER_2, rng) for i, size in enumerate(sizes)]
        self.future_tellers = [world.next_teller(ahead) for ahead in range(TELLERS)]
        self.accounts = [*ACTORS, model.DEAD, chain.timelock, chain.auction, *self.future_tellers]
        self._fund()
        self.pending: list[tuple[model.Vault, str, tuple[Any, ...]]] = []  # announced changes
        self.heads = {v.address: v.head for v in self.vaults}
        self.losses = {v.address: Losses(0, world.now) for v in self.vaults}
        self.delays = {v.address: Delays() for v in self.vaults}
        self.shares_at = chain.find_slot(
            self.vaults[0].address, {model.DEAD: WAD, OWNER: self.vaults[0].balance[OWNER]}
        )
        self.roles_at = chain.find_slot(self.vaults[0].address, {GUARDIAN: 4, STRATEGIST: 2, KEEPER: 1})
        self.market = self._market()
        self.seen = {v.address: self._see(v) for v in self.vaults}
        self.epoch = Epoch()
        self._begin_epoch()
        if rng.random() < 0.8:
            self._begin_with_teller(rng)

    # Setting up

    def _create(self, size: int, owner: str, rng: random.Random) -> model.Vault:
        chain, world = self.chain, self.world
        tokens = chain.tokens[:size] if owner == OWNER else rng.sample(chain.tokens[:-1], size)
        assets = random_assets(rng, tokens, world)
        rules = random_rules(rng, assets, world.now)
        # from just above the least to all that the share supply can express
        usd = rng.choice((1, 10**3, 10**6, 10**6, 10**9, 5 * 10**15))
        seed = [
            usd * a.target_bps * 10**a.decimals * WAD // (10_000 * self.price[a.token]) + 10**a.decimals
            for a in assets
        ]
        for asset, amount in zip(assets, seed, strict=True):
            chain.give(asset.token, owner, amount)
            chain.send(owner, asset.token, selector("approve(address,uint256)") + encode(chain.factory, MAX))
        fee_bps = rng.choice((0, 50, 300))
        config = (
            "Fuzz", "FUZZ", [astuple_asset(a) for a in assets], astuple_rules(rules), chain.oracles[0], owner,
             2 * DAY, GUARDIAN, STRATEGIST, [KEEPER, THIEF, chain.auction], fee_bps, COLLECTOR,
        )  # fmt: skip
        factory = chain.evm.at(chain.factory, artifact("VaultFactory"))
        address = str(factory.call("create_vault", config, seed, bytes(32), sender=owner)).lower()
        logs = [(topics, data) for emitter, topics, data in chain.logs() if emitter == address]
        for asset, amount in zip(assets, seed, strict=True):
            world.tokens[asset.token].balances[address] = amount
            world.tokens[asset.token].balances[owner] = 0
        nav = sum(q * self.price[a.token] // a.scale for q, a in zip(seed, assets, strict=True))
        roles = {GUARDIAN: 4, STRATEGIST: 2, KEEPER: 1, THIEF: 1, chain.auction: 1}
        vault = model.Vault(
            world, address, list(assets), rules, chain.oracles[0], owner, 2 * DAY, model.defaultdict(int, roles),
            fee_bps, COLLECTOR, head_after(b"", logs), nav,
            model.defaultdict(int, {model.DEAD: WAD, owner: nav - WAD}),
            session=Session(slot=policy.calendar_slot(rules, world.now)),
            day=world.now // DAY,
        )  # fmt: skip
        world.vaults[address] = vault
        return vault

    def _begin_with_teller(self, rng: random.Random) -> None:
        """The first vault announces a teller, and makes it."""
        vault = self.vaults[0]
        args = self._teller_terms(rng, vault, False)
        self._run(
            rng, self._queue(vault, vault.admin, "add_teller", args, vault.address), self.seen[vault.address]
        )
        self.world.now += vault.delay
        self.chain.evm.set_time(self.world.now)
        self._answer(list(self.world.tokens))
        self._observe()
        self._run(rng, self._execute(vault, vault.admin, "add_teller", args), self.seen[vault.address])

    def _fund(self) -> None:
        for name, token in self.world.tokens.items():
            for holder in HOLDERS:
                assert (
                    self.chain.units(name, self.vaults[0].address) == token.balances[self.vaults[0].address]
                )
                amount = 10**16 * 10**token.decimals * WAD // self.price[name]
                self.chain.give(name, holder, amount)
                token.balances[holder] = amount
                for spender in [*self.world.vaults, *self.future_tellers, self.chain.auction]:
                    data = selector("approve(address,uint256)") + encode(spender, 2**255)
                    self.chain.send(holder, name, data)
                    self.world.approved.add((holder, spender))

    # Looking at the chain

    def _market(self) -> Market:
        """All prices and what all accounts have."""
        value = {
            name: self.price[name] * 10 ** (ATOM_DECIMALS - token.decimals)
            for name, token in self.world.tokens.items()
        }
        return Market(value, {account: self._owned(account) for account in self.accounts})

    def _owned(self, account: str) -> dict[str, int]:
        return {token: self.chain.units(token, account) for token in self.world.tokens}

    def _market_after(self, parties: set[str]) -> Market:
        """At the same prices; only these accounts' tokens may have moved."""
        changed = {account: self._owned(account) for account in self.accounts if account in parties}
        return Market(self.market.value, self.market.owned | changed) if changed else self.market

    def _held(self, vault: model.Vault) -> dict[str, int]:
        return {t: self.chain.units(t, vault.address) for t in self.world.tokens}

    def _see(self, vault: model.Vault) -> Seen:
        """All of a vault, from its views."""
        number, to = self.chain.number, vault.address
        raw = self.chain.evm.call(STRANGER, to, VIEWS["settings"])
        words = [int.from_bytes(raw[i : i + 32], "big") for i in range(32, len(raw), 32)]
        rules, session, loss, speed, oracle, paused_until = words[1:7]
        terms = self.chain.evm.call(STRANGER, self.chain.timelock, selector("terms(address)") + word(to))
        return Seen(
            now=self.world.now,
            words=tuple(words[8 : 8 + words[7]]),
            rules=rules,
            session=session,
            loss=loss,
            speed=speed,
            oracle=f"0x{oracle:040x}",
            paused_until=paused_until,
            supply=number(to, VIEWS["totalSupply"]),
            pending=number(to, VIEWS["pending_fee_shares"]),
            sequence=number(to, VIEWS["flow_sequence"]),
            fee_bps=number(to, VIEWS["fee_bps"]),
            fee_recipient=f"0x{number(to, VIEWS['fee_recipient']):040x}",
            head=self.chain.evm.call(STRANGER, to, VIEWS["head"]),
            shares={a: self.chain.entry(to, self.shares_at, a) for a in self.accounts},
            roles={a: self.chain.entry(to, self.roles_at, a) for a in self.accounts},
            held=self._held(vault),
            admin=f"0x{int.from_bytes(terms[:32], 'big'):040x}",
            delay=int.from_bytes(terms[32:], "big"),
            tellers={t.address: sum(self._room(t)) for t in self.world.tellers.values() if t.vault is vault},
        )

    def _room(self, teller: model.Teller) -> tuple[int, int]:
        data = selector("flow_room(address)") + word(teller.address)
        raw = self.chain.evm.call(STRANGER, teller.vault.address, data)
        return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")

    def _now(self, vault: model.Vault) -> Seen:
        """The vault as last seen, with what time and the fee have changed since."""
        number, to = self.chain.number, vault.address
        return replace(
            self.seen[to],
            now=self.world.now,
            supply=number(to, VIEWS["totalSupply"]),
            pending=number(to, VIEWS["pending_fee_shares"]),
        )

    def _compare(self, vault: model.Vault, seen: Seen) -> None:
        """The model's state with what was seen."""
        supply, pending = vault.accrued()
        same("supply", seen.supply, supply)
        same("pending fee", seen.pending, pending)
        same("flow sequence", seen.sequence, vault.sequence)
        same("fee", (seen.fee_bps, seen.fee_recipient), (vault.fee_bps, vault.fee_recipient))
        same("head", seen.head, vault.head)
        settings = [
            *seen.words,
            seen.rules,
            seen.session,
            seen.loss,
            seen.speed,
            int(seen.oracle, 16),
            seen.paused_until,
        ]
        same("settings", settings, vault.settings_words())
        same("shares", seen.shares, {a: vault.balance[a] for a in self.accounts})
        same("roles", seen.roles, {a: vault.roles[a] for a in self.accounts})
        same(
            "tokens", seen.held, {t: token.balances[vault.address] for t, token in self.world.tokens.items()}
        )
        same("terms", (seen.admin, seen.delay), (vault.admin, vault.delay))

    def _compare_views(self, vault: model.Vault, rng: random.Random) -> None:
        """What the other views answer."""

        def ask(data: bytes) -> bytes:
            return self.chain.evm.call(STRANGER, vault.address, data)

        same("session", ask(VIEWS["session"]), encode(astuple_session(vault.session)))
        same("rules", ask(VIEWS["rules"]), encode(astuple_rules(vault.rules)))
        same("assets", ask(VIEWS["assets"]), encode([a.token for a in vault.assets]))
        basket = b"".join(encode(astuple_asset(a)) for a in vault.assets)
        same("basket", ask(VIEWS["basket"]), word(32) + word(vault.count) + basket)
        same("loss budget", ask(VIEWS["loss_budget_used"]), word(vault.loss_used()))
        same("speed budget", ask(VIEWS["speed_budget_used"]), word(vault.speed_used()))
        for account in self.accounts:
            same("balanceOf", ask(BALANCE_OF + word(account)), word(vault.balance[account]))
            same("roles", ask(ROLES + word(account)), word(vault.roles[account]))
        pair = (rng.choice(ACTORS), rng.choice(ACTORS))
        same(
            "allowance",
            ask(selector("allowance(address,address)") + encode(*pair)),
            word(vault.allowance[pair]),
        )
        if not any(vault.token(i).broken for i in range(vault.count)):
            same("balances", ask(VIEWS["balances"]), encode(vault.holdings()))
            shares, skip = rng.randint(1, vault.accrued()[0]), rng.getrandbits(16)
            data = selector("preview_mint_in_kind(uint256)") + encode(shares)
            same("preview of a mint", ask(data), encode(vault.mint_amounts(shares)))
            data = selector("preview_redeem_in_kind(uint256,uint256)") + encode(shares, skip)
            same("preview of a redemption", ask(data), encode(vault.redeem_amounts(shares, skip)))
        for teller in self.world.tellers.values():
            if teller.vault is vault:
                flow = vault.flows.get(teller.address)
                same("flow room", self._room(teller), flow.room(vault.now) if flow else (0, 0))
                fees = self.chain.evm.call(STRANGER, teller.address, selector("fees()"))
                same("teller's fees", fees, encode(teller.floor, teller.surcharge, teller.burn_seconds))
                locked = self.chain.evm.call(STRANGER, teller.address, selector("locked_fees()"))
                same("teller's locked fees", locked, encode(*teller.remaining()))
        pending = word(
            self.chain.number(self.chain.timelock, selector("pending_admin(address)") + word(vault.address))
        )
        same("pending admin", pending, word(vault.pending_admin))
        for (subject, data), ready in self.world.ready_at.items():
            if subject == vault.address:
                id = word(self.timelock.id(vault, data))
                same(
                    "ready_at",
                    self.chain.number(self.chain.timelock, selector("ready_at(bytes32)") + id),
                    ready,
                )

    def _begin_epoch(self) -> None:
        self.epoch.begin(list(self.seen.values()), self.market)

    def note(self, what: str, arguments: bytes = b"") -> None:
        """For the report of a failure."""
        self.trail.append((what, arguments))

    # One step

    def step(self, number: int) -> None:
        """Time, then perhaps the world, then a transaction."""
        rng = random.Random(self.seed * 1_000_003 + number)
        self.rng = rng
        vault = self.vaults[rng.random() < 0.25]
        self._pass_time(rng, vault)
        if rng.random() < 0.15 or (self.chain.codes and rng.random() < 0.3):
            self._change_world(rng)
        before = self._observe()
        act = self._draw(rng, vault)
        self._run(rng, act, before[act.vault.address])
        if rng.random() < 0.03:
            self._compare_all(rng)

    def _observe(self) -> dict[str, Seen]:
        """What time has done."""
        before = {v.address: self._now(v) for v in self.vaults}
        new_epoch = False
        for v in self.vaults:
            check_fee(self.seen[v.address], before[v.address])
            self.losses[v.address].pass_time(before[v.address])
            new_epoch |= self.seen[v.address].supply != before[v.address].supply
        self.seen = dict(before)
        if new_epoch:
            self._begin_epoch()
        return before

    def _compare_all(self, rng: random.Random) -> None:
        """Every vault and account, whether or not a step touched it."""
        for v in self.vaults:
            self._compare(v, self._see(v))
            self._compare_views(v, rng)
        for account, units in self._market().owned.items():
            same(
                f"tokens of {account}",
                units,
                {t: token.balances[account] for t, token in self.world.tokens.items()},
            )
            same(f"tokens of {account}, remembered", units, self.market.owned[account])

    def _run(self, rng: random.Random, act: Act, before: Seen) -> None:
        """The same call of both: first what must hold on the chain, then what must agree."""
        vault, reason, answer = act.vault, None, None
        priced = self._priced(act, before) if act.teller else None
        try:
            with model.logged(self.world):
                answer = act.expected()
        except Refused as refusal:
            reason = refusal.reason
        found, output = None, b""
        try:
            output = self.chain.send(act.sender, act.to, act.data)
        except Refused as refusal:
            found = refusal.reason
        logs = self.chain.logs()
        verdict = "" if found is None else f" -> {found or 'reverts'!r}"
        self.note(f"{self.world.now} {act.name} by {name_of(act.sender)}{verdict}", act.data[4:])
        self.coverage[f"{act.name}: {'ok' if found is None else found}"] += 1

        after = self._see(vault)
        market = self._market_after(act.parties)
        hold("views", found is None or not act.must, f"{act.name}: what a view offers is refused: {found}")
        self._check(act, before, after, market, found is None, priced)
        entries = [(topics, data) for emitter, topics, data in logs if emitter == vault.address]
        self.heads[vault.address] = head_after(self.heads[vault.address], entries)
        hold("I7", self.heads[vault.address] == after.head, "the head from the events is not the vault's")
        self.seen[vault.address], self.market = after, market
        self._leave(rng, act.vault)

        same(f"{act.name}: verdict", found, reason)
        if found is None:
            same(f"{act.name}: answer", output, b"" if answer is None else encode(answer))
            same(f"{act.name}: logs", logs, self.world.log)
        self._compare(vault, after)
        for account in act.parties & market.owned.keys():
            units = {t: token.balances[account] for t, token in self.world.tokens.items()}
            same(f"tokens of {account}", market.owned[account], units)

    def _priced(self, act: Act, before: Seen) -> Priced:
        """The fees that are due, from the teller's own view; the dust: a few wei of USD and of shares."""
        locked = self.chain.number(act.teller, selector("locked_fees()"))
        basket = self.market.basket(before)
        dust = 10**24 * 40 + 4 * (basket // before.supply + 1)
        return Priced(act.teller, before.shares[act.teller] - locked, 0, dust)

    def _paid(self, priced: Priced, before: Seen, after: Seen) -> Priced:
        """With the fee on what has moved."""
        asset = self.world.tellers[priced.teller].asset
        floor = self.chain.number(priced.teller, selector("fees()"))
        moved = abs(after.held[asset] - before.held[asset]) * self.market.value[asset]
        times = 1 + moved // max(self.market.basket(before), 1)
        return replace(priced, fee=moved * floor // 10_000, dust=priced.dust * times)

    def _check(
        self, act: Act, before: Seen, after: Seen, market: Market, done: bool, priced: Priced | None
    ) -> None:
        delays = self.delays[act.vault.address]
        check_sums(after)
        if done and act.queues:
            delays.queue(before, act.queues)
        if done and act.cancels:
            delays.cancel(act.cancels)
        delays.check(before, after, act.executes if done else None)
        if done and act.trades:
            check_rebalance(before, after, market)
            self.losses[act.vault.address].trade(before, after, market)
            self.seen[act.vault.address] = after
            self.market = market
            self._begin_epoch()
            return
        if not done or not act.parties:
            if after.words != before.words:
                self.seen[act.vault.address] = after
                self._begin_epoch()  # an asset came or went: not a flow
            return
        untouched = [a for a in self.accounts if a not in {*act.parties, act.teller}]
        if priced:
            priced = self._paid(priced, before, after)
            for account in untouched:
                hold("I2", before.shares[account] == after.shares[account], f"shares of {account} changed")
        else:
            check_claims(before, after, untouched)
        gifts = check_flow(before, after, self.market, market, act.parties, priced)
        if act.check:
            act.check(before, after)
        seen = [after if address == act.vault.address else s for address, s in self.seen.items()]
        self.epoch.check(seen, market, gifts)

    def _leave(self, rng: random.Random, vault: model.Vault) -> None:
        """I1: somebody redeems in kind, in a world that is then undone."""
        seen = self.seen[vault.address]
        holders = [a for a, s in seen.shares.items() if s and a not in self.future_tellers]
        holder = rng.choice(holders)
        shares = rng.choice((1, seen.shares[holder], rng.randint(1, seen.shares[holder])))
        skip = rng.getrandbits(16) if rng.random() < 0.3 else 0
        skip |= sum(1 << i for i in range(vault.count) if vault.token(i).broken)
        data = REDEEM + encode(shares, LEAVER, holder, [0] * vault.count, skip)
        checkpoint = self.chain.evm.snapshot()
        try:
            output = self.chain.send(holder, vault.address, data)
            received = [self.chain.units(t, LEAVER) for t in seen.tokens]
        except Refused as refusal:
            raise Broken("I1", f"{shares} shares could not be redeemed: {refusal.reason!r}") from None
        finally:
            self.chain.evm._evm.revert(checkpoint[0])
        amounts = [int.from_bytes(output[i : i + 32], "big") for i in range(64, len(output), 32)]
        check_exit(seen, shares, skip, amounts, received)

    # The world

    def _pass_time(self, rng: random.Random, vault: model.Vault) -> None:
        if rng.random() < 0.5:
            return
        session, rules, now = vault.session, vault.rules, self.world.now
        window_end = session.opened_at + rules.window_seconds
        cooled = (session.closed_at or window_end) + rules.cooldown_seconds
        edges = [window_end, cooled, vault.paused_until, vault.aside_until]
        edges += [vault.paused_until + 7 * DAY, vault.aside_until + 7 * DAY]
        for subject, name, args in self.pending[:4]:
            ready = self.world.ready_at.get((subject.address, timelock_call(name, subject.address, *args)), 0)
            edges += [ready, ready, ready + 14 * DAY + 1]
        ahead = [edge for edge in edges if now < edge < now + 40 * DAY]
        pause = rng.choice((1, rng.randint(1, 600), rng.randint(1, 3600), rng.randint(1, DAY)))
        if rng.random() < 0.02:
            pause = rng.randint(1, 30 * DAY)
        if rng.random() < 0.002:
            pause = rng.randint(1, 30) * 365 * DAY
        if ahead and rng.random() < 0.2:
            pause = rng.choice(ahead) - now - (rng.random() < 0.2)
        self.world.now += pause
        self.chain.evm.set_time(self.world.now)
        if pause > 3600 and rng.random() < 0.8:
            self._answer(list(self.world.tokens))  # feeds go on

    def _answer(self, tokens: Sequence[str]) -> None:
        """The feeds of these tokens answer their prices now."""
        feeds = [self.chain.feeds[self.chain.tokens.index(t)] for t in tokens]
        prices = [self.price[t] for t in tokens]
        data = selector("set_answers(address[],int256[])") + encode(feeds, prices)
        self.chain.send(DEPLOYER, self.chain.feed_board, data)
        for token in tokens:
            feed = self.world.feeds[token]
            feed.answer, feed.updated_at = self.price[token], self.world.now

    def _change_world(self, rng: random.Random) -> None:
        tokens = list(self.world.tokens)
        drawn = rng.random() if not self.chain.codes else rng.choice((0, 0.9))
        if drawn < 0.80:  # prices move
            far = rng.choice((0.001, 0.02, 0.1, 0.5))
            for token in tokens:
                moved = int(self.price[token] * (1 + rng.uniform(-far, far)))
                self.price[token] = min(max(moved, 10**14), 10**24)
            self._answer(tokens)
            self.market = self._market()
            self._begin_epoch()
            self.note(f"prices moved by up to {far:.1%}")
        elif drawn < 0.84:  # a feed answers nothing usable until it answers again
            token = rng.choice(tokens)
            index = self.chain.tokens.index(token)
            self.chain.send(DEPLOYER, self.chain.feeds[index], selector("set_answer(int256)") + encode(0))
            self.world.feeds[token].answer = 0
            self.note(f"feed {index} broke")
        elif drawn < 0.92:  # a token, or the oracle, breaks or is mended
            oracle = rng.random() < 0.15
            address = rng.choice(self.chain.oracles) if oracle else rng.choice(tokens)
            if self.chain.codes and rng.random() < 0.8:
                address = rng.choice(list(self.chain.codes))
            mended = address in self.chain.codes
            (self.chain.mend if mended else self.chain.break_code)(address)
            if address in self.world.oracles:
                self.world.broken_oracles ^= {address}
            else:
                self.world.tokens[address].broken = not mended
            self.note(f"{address} {'mended' if mended else 'broke'}")
        elif not self.chain.codes:  # somebody donates
            token, giver, vault = rng.choice(tokens), rng.choice(HOLDERS), rng.choice(self.vaults)
            amount = rng.choice((1, 10 ** self.world.tokens[token].decimals, self._part(rng, token, vault)))
            self._donate(token, giver, vault, amount)

    def _part(self, rng: random.Random, token: str, vault: model.Vault) -> int:
        return rng.randint(0, max(self.world.tokens[token].balances[vault.address], 1))

    def _donate(self, token: str, giver: str, vault: model.Vault, amount: int) -> None:
        before, market = self._now(vault), self.market
        amount = min(amount, market.owned[giver][token])
        self.chain.send(giver, token, selector("transfer(address,uint256)") + encode(vault.address, amount))
        self.world.tokens[token].balances[giver] -= amount
        self.world.tokens[token].balances[vault.address] += amount
        after, richer = replace(self._now(vault), held=self._held(vault)), self._market_after({giver})
        check_flow(before, after, market, richer, {giver})
        check_claims(before, after, self.accounts)
        self.note(f"{name_of(giver)} donates {amount} of {token}")
        self.seen[vault.address] = after
        self.market = richer
        self._begin_epoch()

    # What is tried

    def _draw(self, rng: random.Random, vault: model.Vault) -> Act:
        return rng.choices(DOORS, WEIGHTS)[0](self, rng, vault)

    def _account(self, rng: random.Random, vault: model.Vault) -> str:
        """Mostly somebody who has shares."""
        holders = [a for a in ACTORS if vault.balance[a]]
        return rng.choice(holders) if holders and rng.random() < 0.9 else rng.choice(ACTORS)

    @staticmethod
    def _amount(rng: random.Random, most: int) -> int:
        return rng.choice(
            (
                0,
                1,
                2,
                rng.randint(1, max(most, 1)),
                rng.randint(1, max(most // 1000, 1)),
                most,
                most,
                most + 1,
            )
            if rng.random() < 0.97
            else (MAX, WIDE, 2**112)
        )

    def mint(self, rng: random.Random, vault: model.Vault) -> Act:
        sender = rng.choice(HOLDERS) if rng.random() < 0.95 else rng.choice(ACTORS)
        receiver = sender if rng.random() < 0.7 else rng.choice((*ACTORS, ZERO, vault.address))
        amount = max(self._amount(rng, vault.accrued()[0]), rng.random() < 0.95)
        most = [min(q + rng.choice((0, 0, 1)), MAX) for q in vault.mint_amounts(amount)]
        if rng.random() < 0.05:
            most = [max(m - rng.choice((0, 1)), 0) for m in most]
        if rng.random() < 0.02:
            most = most[1:]
        return Act(
            "mint_in_kind",
            sender,
            vault.address,
            selector("mint_in_kind(uint256,uint256[],address)") + encode(amount, most, receiver),
            lambda: vault.mint_in_kind(sender, amount, most, receiver),
            vault,
            {sender, receiver},
            lambda before, after: check_in_kind(before, after, amount, 0, True),
        )

    def redeem(self, rng: random.Random, vault: model.Vault) -> Act:
        owner = self._account(rng, vault)
        sender = owner if rng.random() < 0.7 else rng.choice(ACTORS)
        receiver = sender if rng.random() < 0.7 else rng.choice((*ACTORS, ZERO, vault.address))
        amount = self._amount(rng, vault.balance[owner])
        if sender != owner and rng.random() < 0.7:
            amount = min(amount, vault.allowance[owner, sender])
        skip = rng.getrandbits(16) if rng.random() < 0.2 else 0
        if rng.random() < 0.7:
            skip |= sum(1 << i for i in range(vault.count) if vault.token(i).broken)
        least = [0 if rng.random() < 0.5 else q for q in vault.redeem_amounts(min(amount, 2**112), skip)]
        if rng.random() < 0.03:
            least = [q + rng.choice((0, 0, 1)) for q in least]
        if rng.random() < 0.02:
            least = [*least, 0][: 16 if vault.count < 16 else 15]
        return Act(
            "redeem_in_kind",
            sender,
            vault.address,
            REDEEM + encode(amount, receiver, owner, least, skip),
            lambda: vault.redeem_in_kind(sender, amount, receiver, owner, least, skip),
            vault,
            {sender, receiver, owner},
            lambda before, after: check_in_kind(before, after, amount, skip, False),
        )

    def transfer(self, rng: random.Random, vault: model.Vault) -> Act:
        sender = self._account(rng, vault)
        # not to a teller: what is sent there by mistake is a gift to whoever flows through it next
        receiver = rng.choice(ACTORS) if rng.random() < 0.95 else rng.choice((ZERO, vault.address))
        amount = self._amount(rng, vault.balance[sender])
        return Act(
            "transfer",
            sender,
            vault.address,
            selector("transfer(address,uint256)") + encode(receiver, amount),
            lambda: vault.transfer(sender, receiver, amount),
            vault,
            {sender, receiver},
        )

    def approve(self, rng: random.Random, vault: model.Vault) -> Act:
        sender, spender = self._account(rng, vault), rng.choice(ACTORS)
        amount = rng.choice((0, MAX, vault.balance[sender], self._amount(rng, vault.balance[sender])))
        return Act(
            "approve",
            sender,
            vault.address,
            selector("approve(address,uint256)") + encode(spender, amount),
            lambda: vault.approve(sender, spender, amount),
            vault,
            {sender},
        )

    def transfer_from(self, rng: random.Random, vault: model.Vault) -> Act:
        pairs = [pair for pair, amount in vault.allowance.items() if amount]
        owner, sender = rng.choice(pairs) if pairs and rng.random() < 0.8 else rng.sample(ACTORS, 2)
        receiver = rng.choice(ACTORS) if rng.random() < 0.95 else rng.choice((ZERO, vault.address))
        amount = self._amount(rng, min(vault.balance[owner], vault.allowance[owner, sender]))
        return Act(
            "transferFrom",
            sender,
            vault.address,
            selector("transferFrom(address,address,uint256)") + encode(owner, receiver, amount),
            lambda: vault.transfer_from(sender, owner, receiver, amount),
            vault,
            {sender, owner, receiver},
        )

    def collect_fee(self, rng: random.Random, vault: model.Vault) -> Act:
        sender = rng.choice(ACTORS)
        data = selector("collect_fee()")
        return Act(
            "collect_fee",
            sender,
            vault.address,
            data,
            vault.collect_fee,
            vault,
            {sender, vault.fee_recipient},
        )

    def open_session(self, rng: random.Random, vault: model.Vault) -> Act:
        data = selector("open_session()")
        return Act("open_session", rng.choice(ACTORS), vault.address, data, vault.open_session, vault)

    def rebalance(self, rng: random.Random, vault: model.Vault) -> Act:
        keepers = [a for a in (KEEPER, THIEF) if vault.roles[a] & 1]
        sender = rng.choice(keepers) if keepers and rng.random() < 0.97 else rng.choice(ACTORS)
        blind = vault.oracle in self.world.broken_oracles
        if rng.random() < 0.7 and not blind and policy.next_session(vault.judged(), vault.now)[1]:
            return self.redeem(rng, vault) if rng.random() < 0.5 else self.mint(rng, vault)
        sells, after = self._trade(rng, vault, sender == THIEF)
        world, now = self.world, self.world.now
        session = vault.session.id
        if not (
            session
            and not vault.session.closed_at
            and now < vault.session.opened_at + vault.rules.window_seconds
        ):
            session += 1
        deadline, executor, answered = now, self.chain.executor, True
        wrong = rng.random()
        if wrong < 0.01:
            session += rng.choice((-1, 1)) if session else 1
        elif wrong < 0.02:
            deadline = now - 1
        elif wrong < 0.03:
            executor = rng.choice((vault.address, vault.oracle, vault.assets[-1].token, NO_CODE))
        elif wrong < 0.04:
            answered = False
        elif wrong < 0.05:
            sells = sells[1:] if vault.count == 16 else [*sells, 0]
        touched = [i for i in range(vault.count) if i != vault.quarantined]
        if any(world.tokens[vault.assets[i].token].broken for i in touched):
            touched = []  # the vault refuses before the executor is called
        payload = encode([vault.assets[i].token for i in touched], [after[i] for i in touched], answered)
        decision = rng.getrandbits(256)
        left = None if executor == NO_CODE else after
        return Act(
            "rebalance",
            sender,
            vault.address,
            selector("rebalance(uint256[],address,bytes,bytes32,uint256,uint256)")
            + encode(sells, executor, payload, decision, session, deadline),
            lambda: vault.rebalance(
                sender, sells, executor, payload, decision, session, deadline, left, answered
            ),
            vault,
            trades=True,
        )

    def fill(self, rng: random.Random, vault: model.Vault) -> Act:
        """The auction: what it offers, the vault must accept."""
        session, chain = vault.session, self.chain
        end = session.opened_at + vault.rules.window_seconds
        is_open = session.id and not session.closed_at and vault.now < end
        if not is_open and rng.random() < 0.9:
            return self.open_session(rng, vault)
        auction, filler = chain.auction, rng.choice(HOLDERS) if rng.random() < 0.97 else rng.choice(ACTORS)
        receiver = filler if rng.random() < 0.9 else rng.choice((*ACTORS, ZERO, vault.address, auction))
        sell, buy = (rng.choice(vault.assets).token for _ in range(2))
        if vault.oracle not in self.world.broken_oracles and rng.random() < 0.9:
            state = vault.judged()
            if policy.usable(state) and policy.nav(state):
                rows = zip(policy.weights(state), policy.targets(state), vault.assets, strict=True)
                order = sorted((w - t, rng.random(), a.token) for w, t, a in rows)
                sell, buy = order[-1][2], order[0][2]
        most = MAX if rng.random() < 0.7 else self._part(rng, sell, vault)
        data = encode(vault.address, sell, buy, most)
        refused, sold, owed = "", 0, 0
        try:
            quote = chain.send(filler, auction, selector("quote(address,address,address,uint256)") + data)
            _, sold, owed = (int.from_bytes(quote[i : i + 32], "big") for i in (0, 32, 64))
            offered = True
        except Refused as refusal:
            refused, offered = refusal.reason, False
        max_pay = rng.choice((owed, owed, MAX, max(owed - 1, 0)))
        number = session.id if rng.random() < 0.97 else session.id + 1
        sells = [sold if a.token == sell else 0 for a in vault.assets]
        payload = word(32) + encode(vault.address, filler, receiver, sell, sold, buy, owed, b"")

        def expected() -> tuple[int, int]:
            model.check(receiver not in (ZERO, auction, vault.address), "receiver not allowed")
            model.check(offered, refused)
            model.check(owed <= max_pay, "pays above maximum")
            paying, selling = self.world.tokens[buy], self.world.tokens[sell]
            can_pay = (filler, auction) in self.world.approved and paying.balances[filler] >= owed
            left = [
                q - sold * (a.token == sell) + owed * (a.token == buy)
                for q, a in zip(vault.holdings(), vault.assets, strict=True)
            ]
            vault.rebalance(
                auction,
                sells,
                auction,
                payload,
                AUCTION_DECISION,
                number,
                vault.now,
                left if can_pay else None,
            )
            selling.balances[receiver] += sold
            paying.balances[filler] -= owed
            self.world.emit(
                auction,
                "Filled(address,address,uint256,address,address,uint256,uint256,address)",
                (vault.address, filler),
                encode(number, sell, buy, sold, owed, receiver),
            )
            return sold, owed

        usual = receiver == filler and number == session.id and max_pay >= owed
        can_pay = filler in HOLDERS and self.world.tokens[buy].balances[filler] >= owed
        return Act(
            "fill",
            filler,
            auction,
            selector("fill(address,uint256,address,address,uint256,uint256,address,bytes,uint256)")
            + encode(vault.address, number, sell, buy, most, max_pay, receiver, b"", vault.now),
            expected,
            vault,
            {filler, receiver},
            trades=True,
            must=offered and usual and can_pay and bool(vault.roles[auction] & 1),
        )

    def _trade(self, rng: random.Random, vault: model.Vault, steal: bool) -> tuple[list[int], list[int]]:
        """Sells and the balances that they lead to."""
        held = vault.holdings()
        if vault.oracle in self.world.broken_oracles:
            return [0] * len(held), held
        state = vault.judged()
        if not policy.usable(state) or not policy.nav(state):
            return [0] * len(held), held
        return random_trade(rng, state, steal)

    # The timelock

    def at_once(self, rng: random.Random, vault: model.Vault) -> Act:
        """A Timelock's function, called directly."""
        name, args = self._change(rng, vault, AT_ONCE)
        who = {
            "set_targets": (STRATEGIST, vault.admin),
            "pause": (GUARDIAN,),
            "quarantine": (GUARDIAN,),
            "end_quarantine": (GUARDIAN,),
            "drop_role": (GUARDIAN, vault.admin),
            "accept_admin": (vault.pending_admin,),
        }.get(name, (vault.admin,))
        sender = rng.choice(who) if rng.random() < 0.9 else rng.choice(ACTORS)
        if sender == ZERO:
            sender = STRANGER
        return Act(
            name,
            sender,
            self.chain.timelock,
            timelock_call(name, vault.address, *args),
            lambda: self.timelock.call(sender, name, vault, *args),
            vault,
        )

    def queue(self, rng: random.Random, vault: model.Vault) -> Act:
        name, args = self._change(rng, vault, CHANGES)
        sender = vault.admin if rng.random() < 0.95 else rng.choice(ACTORS)
        subject = rng.choice(self.vaults).address if rng.random() < 0.05 else vault.address
        return self._queue(vault, sender, name, args, subject)

    def _queue(self, vault: model.Vault, sender: str, name: str, args: tuple[Any, ...], subject: str) -> Act:
        data = timelock_call(name, subject, *args)

        def expected() -> int:
            id = self.timelock.queue(sender, vault, name, args, subject)
            self.pending.append((vault, name, args))
            return id

        return Act(
            "queue",
            sender,
            self.chain.timelock,
            selector("queue(address,bytes)") + encode(vault.address, data),
            expected,
            vault,
            queues=data,
        )

    def _announced(self, rng: random.Random, vault: model.Vault) -> tuple[model.Vault, str, tuple[Any, ...]]:
        """A change that was announced, preferably one that is ready; at times one that was not."""
        if not self.pending or rng.random() < 0.03:
            return (vault, *self._change(rng, vault, list(model.TIMELOCK)))

        def ready_at(change: tuple[model.Vault, str, tuple[Any, ...]]) -> int:
            subject, name, args = change
            return self.world.ready_at.get((subject.address, timelock_call(name, subject.address, *args)), 0)

        now = self.world.now
        if rng.random() < 0.9:
            self.pending = [c for c in self.pending if ready_at(c) + model.EXPIRY >= now] or self.pending[:1]
        ripe = [change for change in self.pending if 0 < ready_at(change) <= now]
        return rng.choice(ripe) if ripe and rng.random() < 0.9 else rng.choice(self.pending)

    def execute(self, rng: random.Random, vault: model.Vault) -> Act:
        ripe = any(0 < ready <= vault.now <= ready + model.EXPIRY for ready in self.world.ready_at.values())
        if not ripe and rng.random() < 0.8:
            return self.queue(rng, vault)
        subject, name, args = self._announced(rng, vault)
        if name == "add_teller" and len(self.world.tellers) == TELLERS:
            return self.queue(rng, vault)
        sender = subject.admin if rng.random() < 0.95 else rng.choice(ACTORS)
        return self._execute(subject, sender, name, args)

    def _execute(self, subject: model.Vault, sender: str, name: str, args: tuple[Any, ...]) -> Act:
        data = timelock_call(name, subject.address, *args)

        def expected() -> None:
            self.timelock.execute(sender, subject, name, args)
            self.coverage[f"{name}: made"] += 1

        return Act(
            "execute",
            sender,
            self.chain.timelock,
            selector("execute(address,bytes)") + encode(subject.address, data),
            expected,
            subject,
            executes=data,
        )

    def cancel(self, rng: random.Random, vault: model.Vault) -> Act:
        subject, name, args = change = self._announced(rng, vault)
        sender = rng.choice((subject.admin, GUARDIAN)) if rng.random() < 0.9 else rng.choice(ACTORS)
        data = timelock_call(name, subject.address, *args)

        def expected() -> None:
            self.timelock.cancel(sender, subject, name, args)
            if change in self.pending:
                self.pending.remove(change)

        return Act(
            "cancel",
            sender,
            self.chain.timelock,
            selector("cancel(address,bytes)") + encode(subject.address, data),
            expected,
            subject,
            cancels=data,
        )

    def too_early(self, rng: random.Random, vault: model.Vault) -> Act:
        """A function that needs the delay, called without it."""
        name, args = self._change(rng, vault, DELAYED)
        sender = vault.admin if rng.random() < 0.7 else rng.choice(ACTORS)
        return Act(
            name,
            sender,
            self.chain.timelock,
            timelock_call(name, vault.address, *args),
            lambda: self.timelock.call(sender, name, vault, *args),
            vault,
        )

    def trespass(self, rng: random.Random, vault: model.Vault) -> Act:
        """A door of the vault that is not for anybody here."""
        settings = self.chain.evm.call(STRANGER, vault.address, VIEWS["settings"])
        asset = vault.assets[0].token
        name, data, reason = rng.choice(
            (
                ("vault.set_fee", selector("set_fee(uint256,address)") + encode(0, THIEF), "not timelock"),
                ("vault.set_role", selector("set_role(address,uint256)") + encode(THIEF, 1), "not timelock"),
                (
                    "vault.set_teller",
                    selector("set_teller(address,uint256,uint256)") + encode(THIEF, 10_000, 10_000),
                    "not timelock",
                ),
                (
                    "vault.configure",
                    CONFIGURE + encode(96, 160, 192, 5) + b"pause".ljust(32, b"\0") + word(0) + settings[32:],
                    "not timelock",
                ),
                (
                    "vault.issue",
                    selector("issue(address,uint256,uint256,address,uint256)")
                    + encode(THIEF, WAD, 0, asset, 0),
                    "not teller",
                ),
                (
                    "vault.release",
                    selector("release(address,address,uint256,uint256,address,uint256,address)")
                    + encode(THIEF, THIEF, 0, 0, asset, vault.holdings()[0], THIEF),
                    "not teller",
                ),
            )
        )

        def expected() -> None:
            raise Refused(reason)

        return Act(name, rng.choice(ACTORS), vault.address, data, expected, vault, {THIEF})

    def _change(
        self, rng: random.Random, vault: model.Vault, names: Sequence[str]
    ) -> tuple[str, tuple[Any, ...]]:
        """A call of one of the Timelock's functions, mostly one that can be made."""
        name = rng.choice(names)
        assets, count = vault.assets, vault.count
        wild = rng.random() < 0.1
        args: tuple[Any, ...] = ()
        if name == "set_targets":
            args = (random_targets(rng, vault, wild),)
        elif name in ("quarantine", "remove_asset"):
            empty = [a.token for a in assets if not a.target_bps]
            token = rng.choice(empty) if empty and name == "remove_asset" else rng.choice(assets).token
            args = (rng.choice(self.chain.tokens) if wild else token,)
        elif name == "drop_role":
            args = (rng.choice((KEEPER, THIEF, STRATEGIST, *ACTORS, *ACTORS, ZERO)),)
        elif name == "set_rules":
            args = (astuple_rules(changed_rules(rng, vault, wild)),)
        elif name == "set_fee":
            lower = rng.randint(0, vault.fee_bps)
            args = (rng.choice((lower, 300, 301) if wild else (lower, 300)), vault.fee_recipient)
            if rng.random() < 0.3:
                args = (args[0], rng.choice((COLLECTOR, CAROL, ZERO, vault.address)))
        elif name == "set_bands":
            top = 10_001 if wild else 2_000
            args = ([rng.randint(0, top) for _ in assets], [rng.randint(0, 2 * top) for _ in assets])
            args = (args[0], [min(r, 10_000 + wild) for r in args[1]])
        elif name == "set_limits":
            least = [rng.randint(0, a.target_bps + wild) for a in assets]
            args = (
                least,
                [rng.randint(a.target_bps - (wild and a.target_bps > 0), 10_000 + wild) for a in assets],
            )
            if rng.random() < 0.03:
                args = (args[0][1:], args[1])
        elif name == "add_asset":
            free = [t for t in self.chain.tokens if t not in {a.token for a in assets}]
            token = rng.choice(free) if free and not wild else rng.choice((*self.chain.tokens, ZERO, NO_CODE))
            target = rng.choice((0, 1)) if wild else 0
            bands = (rng.randint(0, 10_000), rng.randint(0, 10_000 + wild))
            args = (
                (
                    token,
                    rng.choice((0, 6, 99)),
                    target,
                    *bands,
                    0,
                    10_000 + wild * rng.randint(0, 1),
                    25 + 240 * wild,
                ),
            )
        elif name == "set_oracle":
            args = (NO_CODE if wild else rng.choice(self.chain.oracles),)
        elif name == "set_role":
            usual = (
                (KEEPER, 1),
                (THIEF, 1),
                (STRATEGIST, 2),
                (GUARDIAN, 4),
                (GUARDIAN_2, 4),
                (GUARDIAN_2, 0),
            )
            args = (rng.choice((*ACTORS, ZERO)), rng.randint(0, 8)) if wild else rng.choice(usual)
        elif name == "add_teller":
            args = self._teller_terms(rng, vault, wild)
        elif name == "set_teller":
            own = [t for t in self.world.tellers.values() if t.vault is vault]
            _, floor, surcharge, _, *rest = self._teller_terms(rng, vault, wild)
            address = rng.choice(own).address if own else rng.choice((*self.world.tellers, NO_CODE))
            args = (address, floor, surcharge, *rest)
        elif name == "set_delay":
            args = (rng.choice((2 * DAY, 3 * DAY, 30 * DAY, 0, 31 * DAY)),)
        elif name == "transfer_admin":
            args = (rng.choice((OWNER, OWNER_2, CAROL, ZERO)),)
        assert count == len(assets)
        return name, args

    def _teller_terms(self, rng: random.Random, vault: model.Vault, wild: bool) -> tuple[Any, ...]:
        """Asset, floor, surcharge, burn time, capacity, refill, and whether low fees are admitted."""
        asset = rng.choice(vault.assets)
        floor = asset.price_error_bps + max(a.price_error_bps for a in vault.assets) + rng.choice((0, 1, 50))
        surcharge = min(vault.rules.max_slippage_bps + rng.choice((0, 100)), max(2_000 - floor, 0))
        burn_seconds, capacity = rng.choice((3_600, DAY, 30 * DAY)), rng.choice((10, 500, 5_000, 10_000))
        refill, arbitrageable = rng.choice((0, 500, 10_000)), rng.random() < 0.4
        if arbitrageable:
            floor, surcharge = rng.choice(((0, 0), (0, 100), (floor, 0), (1, 1)))
        token = asset.token
        if wild:
            wrong = rng.randrange(6)
            token = NO_CODE if wrong == 0 else token
            floor = rng.choice((0, 2_001)) if wrong == 1 else floor
            surcharge = rng.choice((0, 2_001)) if wrong == 2 else surcharge
            burn_seconds = rng.choice((3_599, 30 * DAY + 1)) if wrong == 3 else burn_seconds
            capacity = rng.choice((0, 10_001)) if wrong == 4 else capacity
            refill = 10_001 if wrong == 5 else refill
        return token, floor, surcharge, burn_seconds, capacity, refill, arbitrageable

    # Priced flows

    def teller(self, rng: random.Random, vault: model.Vault) -> Act:
        """A flow through a teller, if there is one."""
        own = [t for t in self.world.tellers.values() if t.vault is vault]
        tellers = own or list(self.world.tellers.values())
        if not tellers:
            return self.mint(rng, vault)
        teller = rng.choice(tellers)
        vault = teller.vault
        name = rng.choice(("deposit", "deposit", "mint", "withdraw", "redeem", "redeem", "burn_fees"))
        if name == "burn_fees":
            sender = rng.choice(ACTORS)
            data, parties = selector("burn_fees()"), {sender}
            return Act(
                name,
                sender,
                teller.address,
                data,
                lambda: teller.burn_fees(sender),
                vault,
                parties,
                teller=teller.address,
            )
        inward = name in ("deposit", "mint")
        owner = rng.choice(HOLDERS) if inward else self._account(rng, vault)
        sender = owner if inward or rng.random() < 0.8 else rng.choice(ACTORS)
        receiver = (
            sender if rng.random() < 0.8 else rng.choice((*ACTORS, ZERO, vault.address, teller.address))
        )
        units = self.world.tokens[teller.asset].balances[vault.address]
        most = {
            "deposit": units // rng.choice((1, 3, 100, 10_000)),
            "mint": vault.supply // rng.choice((1, 3, 100, 10_000)),
            "withdraw": units * vault.balance[owner] // (vault.supply * rng.choice((1, 2, 30))),
            "redeem": vault.balance[owner] // rng.choice((1, 2, 30)),
        }[name]
        amount = rng.choice(
            (0, 1, rng.randint(0, max(most, 1)), rng.randint(0, max(most, 1)), most, 3 * most + 1)
        )
        must = False
        if rng.random() < 0.25:  # the most that the teller says is possible
            limit = name.capitalize()
            account = receiver if inward else owner
            amount = self.chain.number(teller.address, selector(f"max{limit}(address)") + word(account))
            enough = (
                self.world.tokens[teller.asset].balances[sender] >= 2 * amount
                if name == "deposit"
                else name != "mint"
            )
            usual = receiver not in (ZERO, vault.address, teller.address)
            must = amount > 0 and enough and usual and sender == owner
        bound = rng.random()
        types, args = (
            ("uint256,address", (amount, receiver))
            if inward
            else (
                "uint256,address,address",
                (amount, receiver, owner),
            )
        )
        if bound < 0.3 and not must:
            types += ",uint256"
            args = (*args, rng.choice((0, amount, WAD)))
        function: Callable[..., int] = getattr(teller, name)
        return Act(
            f"teller.{name}",
            sender,
            teller.address,
            selector(f"{name}({types})") + encode(*args),
            lambda: function(sender, *args),
            vault,
            {sender, receiver} if inward else {sender, receiver, owner},
            teller=teller.address,
            must=must,
        )


TELLERS = 3  # the most of an episode
AUCTION_DECISION = int.from_bytes(b"auction fill".ljust(32, b"\0"), "big")
REDEEM = selector("redeem_in_kind(uint256,address,address,uint256[],uint256)")
CONFIGURE = selector("configure(string,bytes,(uint256[],uint256,uint256,uint256,uint256,address,uint256))")
CHANGES = (
    [*model.TIMELOCK]
    + ["set_role"] * 4
    + ["set_limits", "set_bands", "add_asset", "remove_asset", "add_teller", "set_teller"] * 2
)
AT_ONCE = (
    ["set_targets"] * 8
    + ["set_rules", "set_rules", "set_fee", "set_fee", "pause", "quarantine", "end_quarantine", "drop_role"]
    + ["accept_admin"] * 2
)
DELAYED = [
    "set_rules", "set_fee", "set_bands", "set_limits", "add_asset", "remove_asset", "set_oracle", "set_role", "unpause",
    "set_delay", "transfer_admin", "add_teller", "set_teller",
]  # fmt: skip
DOORS = [
    Episode.mint, Episode.redeem, Episode.transfer, Episode.approve, Episode.transfer_from, Episode.collect_fee,
    Episode.open_session, Episode.rebalance, Episode.at_once, Episode.queue, Episode.execute, Episode.cancel,
    Episode.too_early, Episode.trespass, Episode.teller, Episode.fill,
]  # fmt: skip
WEIGHTS = [13, 13, 4, 3, 4, 3, 4, 24, 10, 7, 9, 1, 1, 1, 12, 8]


NAMES = {value: name for name, value in globals().items() if name.isupper() and isinstance(value, str)}


def name_of(account: str) -> str:
    return NAMES.get(account, account)


# ---------------------------------------------------------------- generators


def random_assets(rng: random.Random, tokens: Sequence[str], world: model.World) -> list[Asset]:
    """Targets that add up to 100 %; one may be 0."""
    cuts = sorted(rng.randint(0, 10_000) for _ in tokens[1:])
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    if rng.random() < 0.7:  # about equal
        parts = [10_000 // len(tokens)] * len(tokens)
        parts[0] += 10_000 - sum(parts)
    return [
        Asset(
            token,
            world.tokens[token].decimals,
            part,
            rng.choice((100, 500, 2_000)),
            rng.choice((1_000, 2_500, 5_000)),
            rng.choice((0, part // 2)),
            rng.choice((10_000, min(2 * part, 10_000))),
            rng.choice((0, 5, 25, 100)),
        )
        for token, part in zip(tokens, parts, strict=True)
    ]


def random_rules(rng: random.Random, assets: Sequence[Asset], now: int) -> Rules:
    """Rules that the vault accepts for these assets, often with the smallest loss budget."""
    error = sum(sorted(a.price_error_bps for a in assets)[-2:])
    slippage = error + rng.choice((10, 50, 200))
    enough = -(-2 * max(policy.band(a) for a in assets) * (slippage + error) // WAD)
    return Rules(
        mode=rng.choice((0, 1, 1, 2, 2, 2, 3)),
        calendar_unit=rng.randrange(2),
        calendar_every=rng.choice((1, 1, 2, 7)),
        calendar_anchor=now + rng.randint(-400 * DAY, 20 * DAY),
        window_seconds=rng.choice((3600, 3 * DAY)),
        cooldown_seconds=rng.choice((0, 600, DAY)),
        max_slippage_bps=slippage,
        loss_capacity_bps=min(enough + rng.choice((0, 1, 500)), 2**13 - 1),
        loss_refill_bps_per_year=rng.choice((0, 100, 5_000)),
        tolerance_bps=rng.choice((0, 10, 100)),
        speed_capacity_bps=rng.choice((500, 1_000, 4_000)),
        speed_refill_bps_per_day=rng.choice((0, 100, 1_000)),
    )


def changed_rules(rng: random.Random, vault: model.Vault, wild: bool) -> Rules:
    """Lower ones, raised ones, quite others; wild: ones that cannot be."""
    rules = vault.rules
    if wild:
        wrong: dict[str, int] = rng.choice(
            (
                {"mode": 4},
                {"calendar_unit": 2},
                {"calendar_every": 0},
                {"window_seconds": 0},
                {"max_slippage_bps": 0},
                {"loss_capacity_bps": 0},
                {"loss_capacity_bps": 2**13},
                {"cooldown_seconds": 2**32},
            )
        )
        return replace(rules, **wrong)
    kind = rng.random()
    if kind < 0.4:
        return replace(
            rules,
            max_slippage_bps=rules.max_slippage_bps - (rng.random() < 0.3),
            loss_capacity_bps=rules.loss_capacity_bps - (rng.random() < 0.3),
            loss_refill_bps_per_year=rng.randint(0, rules.loss_refill_bps_per_year),
            speed_capacity_bps=rng.randint(rules.speed_capacity_bps * 9 // 10, rules.speed_capacity_bps),
        )
    if kind < 0.7:
        return replace(
            rules,
            loss_capacity_bps=min(rules.loss_capacity_bps + rng.randint(0, 300), 2**13 - 1),
            loss_refill_bps_per_year=rng.randint(0, 10_000),
            window_seconds=rng.choice((3600, DAY, 3 * DAY)),
            cooldown_seconds=rng.choice((0, 600)),
            speed_capacity_bps=rng.randint(0, 5_000),
        )
    return random_rules(rng, vault.assets, vault.now)


def random_targets(rng: random.Random, vault: model.Vault, wild: bool) -> list[int]:
    """Some weight from one asset to another, mostly within the limits."""
    targets = [a.target_bps for a in vault.assets]
    if wild:
        return rng.choice(
            (
                targets[1:],
                [t + 1 for t in targets],
                [10_001, *targets[1:]],
                [0] * (len(targets) - 1) + [10_000],
            )
        )
    for _ in range(rng.choice((1, 1, 2))):
        give, take = rng.sample(range(len(targets)), 2)
        moved = rng.choice((1, 50, 200, 1_000, targets[give]))
        moved = min(moved, targets[give], vault.assets[take].max_target_bps - targets[take])
        if rng.random() < 0.9:
            moved = min(moved, targets[give] - vault.assets[give].min_target_bps)
        moved = max(moved, 0)
        targets[give], targets[take] = targets[give] - moved, targets[take] + moved
    return targets


def random_trade(rng: random.Random, state: VaultState, steal: bool) -> tuple[list[int], list[int]]:
    """A trade at the state's prices: good, costly, or wrong in one way. `steal`: as costly as may be."""
    kind = rng.choice(
        ("good",) * 12 + ("lossy", "gain", "one buyer", "wrong seller", "wrong buyer", "nothing")
    )
    part = rng.choice((10**6, 10**6, rng.randrange(10**6), rng.randrange(10**4)))
    sells = [s * part // 10**6 for s in policy.clip_sells(state, state.balances)]
    after = [q - s for q, s in zip(state.balances, sells, strict=True)]
    held, total = policy.values(state), policy.nav(state)
    gaps = [max(t * total // WAD - v, 0) for v, t in zip(held, policy.targets(state), strict=True)]
    if kind == "one buyer":
        keep = rng.randrange(len(gaps))
        gaps = [g if i == keep else 0 for i, g in enumerate(gaps)]
    slippage = state.rules.max_slippage_bps / 10_000
    loss = rng.choice((0.0, slippage, rng.uniform(0, 1) * slippage))
    if steal:
        loss = min(slippage * rng.choice((0.99, 0.99999, 1.0)), 1.0)
    if kind == "lossy":
        loss = min(rng.uniform(0, 4) * slippage, 1.0)
    elif kind == "gain":
        loss = -rng.uniform(0, 0.1)
    cash = sum(s * p // a.scale for s, p, a in zip(sells, state.prices, state.assets, strict=True))
    cash = cash * int((1 - loss) * 10**9) // 10**9
    if kind == "nothing":
        return sells, list(state.balances)
    for i, gap in enumerate(gaps):
        if gap:
            after[i] += cash * gap // sum(gaps) * state.assets[i].scale // state.prices[i]
    other = rng.randrange(len(after))
    if kind == "wrong seller":
        after[other] -= rng.randint(0, after[other])
    elif kind == "wrong buyer":
        after[other] += rng.randint(1, 2 * after[other] + 1)
    if rng.random() < 0.2:
        sells = [MAX if s else rng.getrandbits(200) for s in sells]  # the vault clips
    return sells, after


# ---------------------------------------------------------------- running


@dataclass
class Failure:
    seed: int
    step: int
    error: AssertionError
    trail: list[tuple[str, bytes]]

    @property
    def kind(self) -> str:
        return str(getattr(self.error, "invariant", "model"))


def run_episode(
    seed: int, steps: int = EPISODE, coverage: Counter[str] | None = None, left_out: Collection[int] = ()
) -> Failure | None:
    """One episode, or its first `steps`; None when all is well."""
    episode = Episode(seed, coverage)
    for number in range(steps):
        if number in left_out:
            continue
        try:
            episode.step(number)
        except AssertionError as error:
            return Failure(seed, number, error, episode.trail)
        except Exception:
            if Judges.model:
                raise
            return None  # a model that has lost its way ends the episode
    return None


def shrink(failure: Failure, seconds: float) -> tuple[Failure, set[int]]:
    """The failure with as many steps left out as can be found in the time."""
    left_out: set[int] = set()
    best, end = failure, time.monotonic() + seconds
    size = max(failure.step // 2, 1)
    while size and time.monotonic() < end:
        for first in range(0, best.step, size):
            chunk = set(range(first, min(first + size, best.step))) - left_out
            if not chunk or time.monotonic() > end:
                continue
            found = run_episode(failure.seed, best.step + 1, None, left_out | chunk)
            if found and found.kind == failure.kind:
                best, left_out = found, left_out | chunk
        size //= 2
    return best, left_out


def report(failure: Failure, seconds: float = 60) -> str:
    """What failed, the fewest steps that were found to lead there, and how to see it again."""
    best, left_out = shrink(failure, seconds)
    lines = [
        f"episode {failure.seed}, step {failure.step}: {failure.error}",
        f"shrunk to {best.step + 1 - len([n for n in left_out if n <= best.step])} steps: {best.error}",
        *(f"  {what}{': ' if data else ''}{plain(data)[:300]}" for what, data in best.trail[-40:]),
        f"again: make fuzz SEED={failure.seed} STEPS={EPISODE}",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the vault against its model and invariants.")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="of the first episode")
    parser.add_argument("--shrink", type=float, default=60, help="seconds to look for fewer steps")
    parser.add_argument("--without-model", action="store_true", help="let the invariants alone judge")
    arguments = parser.parse_args()
    Judges.model = not arguments.without_model
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    first = random.randrange(10**9) if arguments.seed is None else arguments.seed
    print(f"SEED={first}, contracts from {CONTRACTS.name}/", flush=True)
    coverage: Counter[str] = Counter()
    begun, done = time.monotonic(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("steps", total=arguments.steps)
        while done < arguments.steps:
            steps = min(EPISODE, arguments.steps - done)
            failure = run_episode(first + done // EPISODE, steps, coverage)
            if failure:
                progress.stop()
                print(f"failed after {done + failure.step} steps; shrinking", flush=True)
                print(report(failure, arguments.shrink))
                return 1
            done += steps
            progress.advance(bar, steps)
            if progress.disable and done % 50_000 == 0:
                print(f"{done} steps", flush=True)
    rate = done / (time.monotonic() - begun)
    print(f"{done} steps, {rate:.0f} a second: model and invariants hold")
    for what, times in sorted(coverage.items()):
        print(f"  {times:>8} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
