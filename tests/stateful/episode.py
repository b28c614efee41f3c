"""One chain, two vaults, and the steps that are tried on them: the same of contracts and model, then the checks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from offchain import policy
from offchain.policy import DAY, WAD, Session
from tests.stateful import model
from tests.stateful.chain import (
    ACTORS,
    COLLECTOR,
    GUARDIAN,
    HOLDERS,
    KEEPER,
    OWNER,
    OWNER_2,
    STRANGER,
    STRATEGIST,
    THIEF,
    Chain,
    name_of,
    same,
)
from tests.stateful.doors import REDEEM, TELLERS, VIEWS, Act, Doors
from tests.stateful.generators import random_assets, random_rules
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
    check_rebalance,
    check_sums,
    head_after,
    hold,
)
from tests.stateful.model import (
    MAX,
    Refused,
    astuple_asset,
    astuple_rules,
    astuple_session,
    encode,
    selector,
    timelock_call,
    word,
)
from tests.support.evm import DEPLOYER, artifact

START = 1_700_000_000
SIZES = (2, 2, 4, 8, 16)  # of the first vault, by the seed
LEAVER = "0x" + "1e" * 20  # receives what a simulated redemption pays
ALLOWANCE = selector("allowance(address,address)")
BALANCE_OF, ROLES = selector("balanceOf(address)"), selector("roles(address)")


class Episode(Doors):
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

    def begin(self) -> None:
        """Before the first step: mostly a teller is made."""
        if self.rng.random() < 0.8:
            self._begin_with_teller(self.rng)

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
            melting=number(to, VIEWS["melting"]),
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
            melting=number(to, VIEWS["melting"]),
        )

    def _compare(self, vault: model.Vault, seen: Seen) -> None:
        """The model's state with what was seen."""
        supply, pending = vault.accrued()
        same("supply", seen.supply, supply)
        same("pending fee", seen.pending, pending)
        same("melting fees", seen.melting, vault.still_melting()[0])
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

        same("melting", ask(VIEWS["melting"]), encode(*vault.still_melting()))
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
            ask(ALLOWANCE + encode(*pair)),
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
                same("teller's fees", fees, encode(teller.floor, teller.surcharge, teller.melt_seconds))
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
        allowed = {
            account: self.chain.number(vault.address, ALLOWANCE + encode(account, act.sender))
            for account in act.parties - {act.sender}
        }
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
        for account, allowance in allowed.items():
            fell = before.shares.get(account, 0) - after.shares.get(account, 0)
            hold("I2", fell <= allowance, f"{account} lost {fell} shares without its leave")
        self._check(act, before, after, market, found is None)
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

    def _priced(self, act: Act, before: Seen, after: Seen) -> Priced:
        """The fee on what has moved, by the teller's own view; the dust: a few wei of USD and of shares."""
        asset, basket = self.world.tellers[act.teller].asset, self.market.basket(before)
        floor = self.chain.number(act.teller, selector("fees()"))
        moved = abs(after.held[asset] - before.held[asset]) * self.market.value[asset]
        dust = 10**24 * 40 + 4 * (basket // before.supply + 1)
        return Priced(moved * floor // 10_000, dust * (1 + moved // max(basket, 1)))

    def _check(self, act: Act, before: Seen, after: Seen, market: Market, done: bool) -> None:
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
        untouched = [a for a in self.accounts if a not in act.parties]
        priced = self._priced(act, before, after) if act.teller else None
        if priced:
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
