"""The doors of an episode's contracts: which call is tried next, by whom, with what."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from offchain import policy
from offchain.policy import DAY, WAD
from tests.stateful import model
from tests.stateful.chain import (
    ACTORS,
    CAROL,
    COLLECTOR,
    GUARDIAN,
    GUARDIAN_2,
    HOLDERS,
    KEEPER,
    NO_CODE,
    OWNER,
    OWNER_2,
    STRANGER,
    STRATEGIST,
    THIEF,
    Chain,
)
from tests.stateful.generators import changed_rules, random_targets, random_trade
from tests.stateful.invariants import Seen, check_in_kind
from tests.stateful.model import MAX, ZERO, Refused, astuple_rules, encode, selector, timelock_call, word


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
        "settings", "totalSupply", "pending_fee_shares", "flow_sequence", "fee_bps", "fee_recipient", "head", "melting",
        "balances", "session", "rules", "basket", "assets", "loss_budget_used", "speed_budget_used",
    )
}  # fmt: skip

WIDE = 2**200
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


class Doors:
    """What is tried: each method draws one call, and says what the model makes of it."""

    chain: Chain
    world: model.World
    timelock: model.Timelock
    vaults: list[model.Vault]
    price: dict[str, int]  # USD WAD, by token
    pending: list[tuple[model.Vault, str, tuple[Any, ...]]]  # announced changes
    coverage: Counter[str]

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
                    selector("issue(address,uint256,uint256,uint256,address,uint256)")
                    + encode(THIEF, WAD, 0, 0, asset, 0),
                    "not teller",
                ),
                (
                    "vault.release",
                    selector("release(address,address,uint256,uint256,uint256,address,uint256,address)")
                    + encode(THIEF, THIEF, 0, 0, 0, asset, vault.holdings()[0], THIEF),
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
        assets = vault.assets
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
        name = rng.choice(("deposit", "deposit", "mint", "withdraw", "redeem", "redeem"))
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


DOORS = [
    Doors.mint, Doors.redeem, Doors.transfer, Doors.approve, Doors.transfer_from, Doors.collect_fee,
    Doors.open_session, Doors.rebalance, Doors.at_once, Doors.queue, Doors.execute, Doors.cancel,
    Doors.too_early, Doors.trespass, Doors.teller, Doors.fill,
]  # fmt: skip
WEIGHTS = [13, 13, 4, 3, 4, 3, 4, 24, 10, 7, 9, 1, 3, 2, 12, 8]
