"""The policy mirror against the deployed vault: thousands of generated states, equal to the wei and word for word.

An episode is one vault with random assets and rules. Each of its steps moves the clock, sets holdings and prices, and
attempts a trade that a scripted executor carries out exactly: good ones, bad ones, sessions open and closed. In
between the Timelock moves targets, changes rules and quarantines assets. Vault and mirror must give the same answer,
the same revert string and the same state after; every revert string must be reached.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import astuple, replace
from typing import Any

import pytest
from eth_abi import encode

from offchain import policy
from offchain.policy import DAY, NO_ASSET, WAD, Asset, Mode, Rules, Session, VaultState
from tests.support.evm import DEPLOYER, Contract, Evm, Function, Reverted, artifact

EPISODES = 300
STEPS = 10
DELAY = 2 * DAY
START = 1_700_000_000
OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER, FEE_RECIPIENT = (
    "0x" + f"{n:02x}" * 20 for n in range(0xA1, 0xA7)
)
REASONS = {
    "",
    "not keeper",
    "deadline passed",
    "paused",
    "wrong length",
    "executor not allowed",
    "price not usable",
    "no value",
    "wrong session",
    "cooldown not over",
    "no trigger",
    "executor did not answer",
    "balance fell by more than sent",
    "asset not underweight",
    "bought past target",
    "drift fell too little",
    "loss above slippage",
    "loss budget exceeded",
    "asset not overweight",
    "sold past target",
}
SETTER_REASONS = {
    "set_targets": {
        "",
        "wrong length",
        "above 100%",
        "target outside limits",
        "targets do not sum to 100%",
        "loss budget below one rebalance",
        "targets move too fast",
        "nothing left",
    },
    "set_rules": {
        "",
        "slippage below price errors",
        "loss budget below one rebalance",
        "tolerance 0 with a calendar",
        "unknown mode",
        "unknown calendar unit",
        "calendar every 0",
        "window 0",
        "rule out of range",
    },
    "quarantine": {"", "too soon after the last", "not an asset", "nothing left"},
    "end_quarantine": {"", "no quarantine"},
}
TRADES = ["good"] * 6 + [
    "lossy",
    "gain",
    "one buyer",
    "wrong seller",
    "wrong buyer",
    "nothing",
    "no proceeds",
]


class Chain:
    """The contracts that episodes share."""

    def __init__(self) -> None:
        self.evm = Evm(START)
        rule_book = self.evm.deploy(artifact("RuleBook"))
        self.timelock = self.evm.deploy(artifact("Timelock"), rule_book.address, DEPLOYER)  # no tellers here
        implementation = self.evm.deploy(artifact("Vault"), rule_book.address, self.timelock.address)
        self.factory = self.evm.deploy(artifact("VaultFactory"), implementation.address, rule_book.address)
        self.oracle = self.evm.deploy(artifact("ScriptedOracle"))
        self.executor = self.evm.deploy(artifact("ScriptedExecutor"))
        self.tokens = [self.evm.deploy(artifact("ScriptedToken"), (6, 8, 18)[i % 3]) for i in range(16)]


class Episode:
    """One vault and its mirror."""

    def __init__(
        self, chain: Chain, assets: tuple[Asset, ...], rules: Rules, prices: list[int], fee_bps: int
    ) -> None:
        self.chain = chain
        now = chain.evm.now
        zero = (0,) * len(assets)
        seed = (1000 * assets[0].scale * WAD // prices[0] + 1, *(1 for _ in assets[1:]))
        chain.oracle.call("set_prices", prices, zero)
        for asset, amount in zip(assets, seed, strict=True):
            token = next(t for t in chain.tokens if t.address == asset.token)
            token.call("set_balance", DEPLOYER, amount)
            token.call("approve", chain.factory.address, amount)
        roles = (chain.oracle.address, OWNER, DELAY, GUARDIAN, STRATEGIST, [KEEPER])
        config = (
            "Basket",
            "BSK",
            [astuple(a) for a in assets],
            astuple(rules),
            *roles,
            fee_bps,
            FEE_RECIPIENT,
        )
        address = chain.factory.call("create_vault", config, seed, bytes(32))
        self.vault = chain.evm.at(address, artifact("Vault"))
        self.state = VaultState(
            assets=assets,
            rules=rules,
            session=Session(slot=policy.calendar_slot(rules, now)),
            balances=seed,
            prices=tuple(prices),
            statuses=zero,
            supply=0,
            time=now,
            fee_bps=fee_bps,
            fee_accrued_at=now,
            vault=address,
            oracle=chain.oracle.address,
        )
        self.state = replace(self.state, supply=policy.nav(self.state))

    def arrange(self, balances: list[int], prices: list[int], statuses: list[int]) -> None:
        """Give vault and oracle these holdings and answers."""
        tokens = [a.token for a in self.state.assets]
        self.chain.executor.call("set_balances", self.vault.address, tokens, balances)
        self.chain.oracle.call("set_prices", prices, statuses)
        self.state = replace(
            self.state,
            balances=tuple(balances),
            prices=tuple(prices),
            statuses=tuple(statuses),
            time=self.chain.evm.now,
        )

    def pause(self) -> None:
        """The guardian's pause, when one is allowed."""
        try:
            self.chain.timelock.call("pause", self.vault.address, sender=GUARDIAN)
        except Reverted:
            return
        self.state = replace(self.state, paused_until=self.vault.call("paused_until"))

    def change(self, name: str, *args: Any, sender: str) -> str:
        """Compare one of the Timelock's functions that need no delay; the reason that both gave."""
        reason, after = getattr(policy, name)(self.state, *args, self.chain.evm.now)
        assert _reason(self.chain.timelock, name, self.vault.address, *args, sender=sender) == reason
        self.state = after
        self._check_state()
        return str(reason)

    def set_rules(self, rules: Rules) -> str:
        """Compare `set_rules` after the delay; the reason that both gave."""
        evm, timelock = self.chain.evm, self.chain.timelock
        entry = next(e for e in timelock.abi if e.get("name") == "set_rules")
        data = Function(entry).encode(self.vault.address, astuple(rules))
        timelock.call("queue", self.vault.address, data, sender=OWNER)
        evm.set_time(evm.now + DELAY)
        reason, after = policy.set_rules(self.state, rules, evm.now)
        assert _reason(timelock, "execute", self.vault.address, data, sender=OWNER) == reason
        if reason:
            timelock.call("cancel", self.vault.address, data, sender=GUARDIAN)
        self.state = after
        self._check_state()
        return reason

    def check_views(self, rng: random.Random) -> None:
        """Every view that the mirror computes."""
        now = self.chain.evm.now
        current = policy.accrue_fee(self.state, now)
        assert self.vault.call("totalSupply") == current.supply
        assert self.vault.call("pending_fee_shares") == current.pending_fee_shares
        assert self.vault.call("loss_budget_used") == policy.loss_budget_used(self.state, now)
        shares = rng.randint(1, 2 * current.supply)
        assert list(self.vault.call("preview_mint_in_kind", shares)) == policy.mint_amounts(current, shares)
        shares, skip = rng.randint(1, current.supply), rng.getrandbits(16)
        expected = policy.redeem_amounts(current, shares, skip)
        assert list(self.vault.call("preview_redeem_in_kind", shares, skip)) == expected

    def open_session(self) -> str:
        """Compare `open_session`; the reason that both gave."""
        reason, after = policy.check_open_session(self.state, self.chain.evm.now)
        assert _reason(self.vault, "open_session") == reason
        self.state = after
        self._check_state()
        return reason

    def rebalance(
        self,
        sells: list[int],
        after: list[int],
        *,
        session: int | None = None,
        deadline: int | None = None,
        sender: str = KEEPER,
        executor: str = "",
        answer: bool = True,
    ) -> str:
        """Compare `rebalance`; the reason that both gave."""
        now = self.chain.evm.now
        session = policy.next_session(self.state, now)[0] if session is None else session
        deadline = now if deadline is None else deadline
        executor = executor or self.chain.executor.address
        verdict = policy.check_rebalance(
            self.state,
            sells,
            after,
            session,
            deadline,
            now,
            executor=executor,
            keeper=sender == KEEPER,
            answered=answer,
        )
        tokens = [a.token for a in self.state.assets]
        payload = encode(["address[]", "uint256[]", "bool"], [tokens, after, answer])
        arguments = (sells, executor, payload, bytes(32), session, deadline)
        assert _reason(self.vault, "rebalance", *arguments, sender=sender) == verdict.reason
        assert verdict.ok == (verdict.reason == "")
        self.state = verdict.state
        self._check_state()
        return verdict.reason

    def _check_state(self) -> None:
        now = self.chain.evm.now
        assert self.vault.call("session") == astuple(self.state.session)
        assert self.vault.call("rules") == astuple(self.state.rules)
        assert self.vault.call("basket") == tuple(astuple(a) for a in self.state.assets)
        assert self.vault.call("loss_budget_used") == policy.loss_budget_used(self.state, now)
        assert self.vault.call("speed_budget_used") == policy.speed_budget_used(self.state, now)
        assert tuple(self.vault.call("balances")) == self.state.balances


def _reason(vault: Contract, function: str, *arguments: object, sender: str = STRANGER) -> str:
    try:
        vault.call(function, *arguments, sender=sender)
    except Reverted as refusal:
        return refusal.reason
    return ""


# ---------------------------------------------------------------- generators


def random_assets(rng: random.Random, tokens: list[Contract]) -> tuple[Asset, ...]:
    """2 to 16 assets whose targets add up to 100 %; a target of 0 happens."""
    chosen = rng.sample(tokens, rng.choice([2, 2, 3, 4, 6, 10, 16]))
    cuts = sorted(rng.randint(0, 10_000) for _ in chosen[1:])
    shares = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    if rng.random() < 0.05:
        shares = [10_000, *(0 for _ in chosen[1:])]
    return tuple(
        Asset(
            token.address,
            (6, 8, 18)[tokens.index(token) % 3],
            share,
            rng.choice([0, 100, 500, 2000]),
            rng.choice([100, 1000, 2500, 5000]),
            rng.choice([0, 0, max(share - 300, 0)]),
            rng.choice([10_000, 10_000, min(share + 300, 10_000)]),
            rng.choice([0, 5, 25, 100]),
        )
        for token, share in zip(chosen, shares, strict=True)
    )


def random_rules(rng: random.Random, assets: tuple[Asset, ...], now: int) -> Rules:
    """Rules that the vault accepts for these assets, often with the smallest loss budget."""
    error = sum(sorted(a.price_error_bps for a in assets)[-2:])
    slippage = error + rng.choice([10, 50, 200])
    capacity = -(-2 * max(policy.band(a) for a in assets) * (slippage + error) // WAD) + rng.choice(
        [0, 1, 500]
    )
    mode = rng.choice([*Mode, Mode.EITHER, Mode.THRESHOLD])
    return Rules(
        mode=mode,
        calendar_unit=rng.randrange(2),
        calendar_every=rng.choice([1, 1, 2, 7]),
        calendar_anchor=now + rng.randint(-400 * DAY, 20 * DAY),
        window_seconds=rng.choice([1, 3600, 3 * DAY]),
        cooldown_seconds=rng.choice([0, 600, DAY]),
        max_slippage_bps=slippage,
        loss_capacity_bps=min(capacity, 2**13 - 1),
        loss_refill_bps_per_year=rng.choice([0, 100, 5000]),
        tolerance_bps=rng.choice([0, 10, 100] if mode == Mode.THRESHOLD else [1, 10, 100]),
        speed_capacity_bps=1000,
        speed_refill_bps_per_day=100,
    )


def random_targets(rng: random.Random, state: VaultState) -> list[int]:
    """A small or large shift between two assets, now and then something that cannot be."""
    targets = [a.target_bps for a in state.assets]
    source, sink = rng.sample(range(len(targets)), 2)
    shift = min(targets[source], rng.choice([0, 1, 50, 50, 400, 3_000]))
    targets[source] -= shift
    targets[sink] += shift
    unusual = rng.random()
    if unusual < 0.1:
        targets[sink] += rng.choice([-1, 1, 10_001])
    elif unusual < 0.15:
        targets = targets[1:]
    elif unusual < 0.25:
        whole = state.aside if state.aside < len(targets) else sink
        targets = [10_000 * (i == whole) for i in range(len(targets))]
    return [max(bps, 0) for bps in targets]


def random_change_of_rules(rng: random.Random, state: VaultState, now: int) -> Rules:
    """Other rules for these assets, often with the calendar's terms as they are, at times with one field wrong."""
    new = random_rules(rng, state.assets, now)
    if rng.random() < 0.5:
        old = state.rules
        terms = (old.calendar_unit, old.calendar_every, old.calendar_anchor)
        new = replace(new, calendar_unit=terms[0], calendar_every=terms[1], calendar_anchor=terms[2])
    wrong: list[dict[str, int]] = [
        {"mode": 4},
        {"calendar_unit": 2},
        {"calendar_every": 0},
        {"window_seconds": 0},
        {"tolerance_bps": 2**13},
        {"tolerance_bps": 0, "mode": rng.choice([Mode.CALENDAR, Mode.EITHER, Mode.BOTH])},
        {"max_slippage_bps": 9},
        {"loss_capacity_bps": 0},
    ]
    return replace(new, **rng.choice(wrong)) if rng.random() < 0.3 else new


def run_changes(rng: random.Random, episode: Episode) -> list[tuple[str, str]]:
    """Mostly nothing; what the Timelock was asked, and the reason it gave."""
    done: list[tuple[str, str]] = []
    chosen = rng.random()
    if chosen < 0.15:
        targets = random_targets(rng, episode.state)
        sender = rng.choice([OWNER, STRATEGIST])
        done.append(("set_targets", episode.change("set_targets", targets, sender=sender)))
    elif chosen < 0.25:
        rules = random_change_of_rules(rng, episode.state, episode.chain.evm.now)
        done.append(("set_rules", episode.set_rules(rules)))
    elif chosen < 0.4:
        tokens = [*(a.token for a in episode.state.assets), STRANGER]
        done.append(("quarantine", episode.change("quarantine", rng.choice(tokens), sender=GUARDIAN)))
    elif chosen < 0.45:
        done.append(("end_quarantine", episode.change("end_quarantine", sender=GUARDIAN)))
    return done


def random_pause(rng: random.Random, state: VaultState) -> int:
    """Seconds to the next step: none, a few, days, or right to the edge of window, cooldown or quarantine."""
    window_end = state.session.opened_at + state.rules.window_seconds
    end = state.session.closed_at or window_end
    edges = [window_end, end + state.rules.cooldown_seconds, state.aside_until]
    edge = rng.choice(edges) + rng.choice([-1, 0, 0])
    steps = [0, rng.randint(1, 600), rng.randint(1, 40 * DAY), max(edge - state.time, 0)]
    return rng.choice([*steps, steps[-1], DAY])


def random_holdings(rng: random.Random, state: VaultState, prices: list[int]) -> list[int]:
    """Balances whose weights lie on, near or far from the targets."""
    total = rng.randint(1, 10**9) * 10 ** rng.randint(6, 20)
    far = rng.choice([0.0, 0.002, 0.02, 0.2, 0.5, 1.0])
    wished = [a.target_bps / 10_000 * (1 + 2 * rng.uniform(-far, far)) for a in state.assets]
    shares = [max(wish + rng.uniform(0, far) / 9, 0) for wish in wished]
    rows = zip(shares, prices, state.assets, strict=True)
    return [int(share * 10**9) * total // 10**9 * a.scale // max(p, 1) for share, p, a in rows]


def random_trade(rng: random.Random, state: VaultState) -> tuple[list[int], list[int]]:
    """Sells and the balances that they lead to; what kind of trade is drawn from TRADES."""
    kind = rng.choice(TRADES)
    part = rng.choice([1.0, 1.0, rng.random()])
    sells = [min(int(s * part), s) for s in policy.clip_sells(state, state.balances)]
    after = [q - s for q, s in zip(state.balances, sells, strict=True)]
    held, total = policy.values(state), policy.nav(state)
    gaps = [max(t * total // WAD - v, 0) for v, t in zip(held, policy.targets(state), strict=True)]
    if kind == "one buyer":
        keep = rng.randrange(len(gaps))
        gaps = [g if i == keep else 0 for i, g in enumerate(gaps)]
    slippage = state.rules.max_slippage_bps / 10_000
    loss = {"lossy": rng.uniform(0, 4) * slippage, "gain": -rng.uniform(0, 0.1), "no proceeds": 1.0}.get(
        kind, rng.choice([0.0, slippage, rng.uniform(0, 1) * slippage])
    )
    cash = int(
        sum(s * p // a.scale for s, p, a in zip(sells, state.prices, state.assets, strict=True)) * (1 - loss)
    )
    for i, gap in enumerate(gaps):
        if gap and kind != "nothing":
            after[i] += cash * gap // sum(gaps) * state.assets[i].scale // state.prices[i]
    if kind == "nothing":
        after = list(state.balances)
    other = rng.randrange(len(after))
    if kind == "wrong seller":
        after[other] -= rng.randint(0, after[other])
    if kind == "wrong buyer":
        after[other] += rng.randint(1, 2 * after[other] + 1)
    if rng.random() < 0.2:
        sells = [2**256 - 1 if s else rng.getrandbits(200) for s in sells]  # the vault clips
    return sells, after


def random_call(rng: random.Random, episode: Episode) -> dict[str, object]:
    """Usually nothing, sometimes one thing wrong with the call itself."""
    state, now = episode.state, episode.chain.evm.now
    forbidden = [state.vault, state.oracle, state.assets[-1].token]
    wrong: list[dict[str, object]] = [
        {"session": state.session.id + rng.choice([0, 1, 2])},
        {"deadline": now - 1},
        {"sender": STRANGER},
        {"executor": rng.choice(forbidden)},
        {"answer": False},
    ]
    return rng.choice(wrong) if rng.random() < 0.15 else {}


def run_step(rng: random.Random, episode: Episode, prices: list[int]) -> list[str]:
    """One state and what is tried on it; the reasons that came up."""
    state, evm = episode.state, episode.chain.evm
    evm.set_time(evm.now + random_pause(rng, state))
    moved = [max(int(p * rng.uniform(0.9, 1.1)), 1) for p in prices]
    balances = random_holdings(rng, state, moved)
    statuses = [0] * len(moved)
    unusual = rng.random()
    if unusual < 0.02:
        balances = [0] * len(balances)
    elif unusual < 0.04:
        statuses[rng.randrange(len(statuses))] = rng.randint(1, 5)
    elif unusual < 0.05:
        moved[rng.randrange(len(moved))] = 0
    elif unusual < 0.06:
        episode.pause()
    aside = policy.aside(replace(state, time=evm.now))
    if aside != NO_ASSET and rng.random() < 0.7:  # whatever the oracle says of it
        moved[aside], statuses[aside] = rng.choice([(0, 5), (0, 0), (moved[aside], 3)])
    episode.arrange(balances, moved, statuses)
    episode.check_views(rng)
    reasons = []
    if rng.random() < 0.15:
        reasons.append(episode.open_session())
    if not policy.usable(episode.state) or policy.nav(episode.state) == 0:
        sells, after = [0] * len(balances), balances
    else:
        sells, after = random_trade(rng, episode.state)
    if rng.random() < 0.02:
        sells = [*sells[1:]] if len(sells) == 16 or rng.random() < 0.5 else [*sells, 0]
    reasons.append(episode.rebalance(sells, after, **random_call(rng, episode)))  # type: ignore[arg-type]
    return reasons


# ---------------------------------------------------------------- tests


def test_vault_and_mirror_agree_on_thousands_of_states() -> None:
    met: Counter[str] = Counter()
    changed: Counter[tuple[str, str]] = Counter()
    traded_aside = 0
    for number in range(EPISODES):
        if number % 50 == 0:
            chain = Chain()
        rng = random.Random(number)
        assets = random_assets(rng, chain.tokens)
        rules = random_rules(rng, assets, chain.evm.now)
        prices = [10 ** rng.randint(14, 22) * rng.randint(1, 9) for _ in assets]
        episode = Episode(chain, assets, rules, prices, rng.choice([0, 50, 300]))
        for step in range(STEPS):
            try:
                changed.update(run_changes(rng, episode))
                reasons = run_step(rng, episode, prices)
            except AssertionError as error:
                raise AssertionError(f"episode {number}, step {step}: {error}\n{episode.state}") from error
            met.update(reasons)
            traded_aside += reasons[-1] == "" and policy.aside(episode.state) != NO_ASSET
    assert met.keys() | set(HAIRLINES) == REASONS
    assert met[""] >= EPISODES * STEPS // 10
    assert changed.keys() == {
        (name, reason) for name, reasons in SETTER_REASONS.items() for reason in reasons
    }
    assert traded_aside >= EPISODES // 20


# Two reasons need weights that differ in the last wei: (balances before, after the trade), both assets 1 USD.
HAIRLINES = {
    "asset not overweight": ((10**24 + 1, 10**24 - 1), (10**24, 10**24)),
    "sold past target": ((10**24 + 10**20, 10**24 - 10**20), (10**24, 10**24 + 1)),
}


@pytest.mark.parametrize("reason", HAIRLINES)
def test_vault_and_mirror_agree_at_a_hairline(reason: str) -> None:
    chain = Chain()
    assets = tuple(Asset(chain.tokens[i].address, 18, 5000, 500, 2500, 0, 10_000, 0) for i in (2, 5))
    rules = Rules(Mode.THRESHOLD, 0, 1, START, DAY, 0, 50, 500, 100, 0, 1000, 100)
    episode = Episode(chain, assets, rules, [WAD, WAD], 0)
    episode.arrange([2 * 10**24, 10**24], [WAD, WAD], [0, 0])
    assert episode.open_session() == ""
    before, after = HAIRLINES[reason]
    episode.arrange(list(before), [WAD, WAD], [0, 0])
    assert episode.rebalance([2**255, 0], list(after)) == reason
    fair = (before[0] - 1, before[1] + 1) if reason == "sold past target" else before
    assert episode.rebalance([1, 0], list(fair)) == ""


@pytest.mark.parametrize("unit", [0, 1])
def test_calendar_slots_agree_over_a_century(unit: int) -> None:
    """The slot that creation stores is the mirror's, whatever the date."""
    rng = random.Random(unit)
    chain = Chain()
    assets = tuple(Asset(chain.tokens[i].address, 18, 5000, 500, 2500, 0, 10_000, 0) for i in (2, 5))
    for _ in range(100):
        chain.evm.set_time(rng.randint(1, 4_102_444_800))
        anchor = rng.randint(0, 4_102_444_800)
        rules = Rules(Mode.EITHER, unit, rng.randint(1, 24), anchor, DAY, 0, 50, 500, 100, 1, 1000, 100)
        episode = Episode(chain, assets, rules, [WAD, WAD], 0)
        assert episode.vault.call("session")[3] == policy.calendar_slot(rules, chain.evm.now)


@pytest.mark.parametrize(("gap", "reason"), [(5 * 10**22, ""), (5 * 10**22 - 2 * 10**6, "no trigger")])
def test_vault_and_mirror_agree_at_the_edge_of_the_band(gap: int, reason: str) -> None:
    """A drift of exactly the band (5 points of a million USD) triggers; one WAD unit less does not."""
    chain = Chain()
    assets = tuple(Asset(chain.tokens[i].address, 18, 5000, 500, 2500, 0, 10_000, 0) for i in (2, 5))
    rules = Rules(Mode.THRESHOLD, 0, 1, START, DAY, 0, 50, 500, 100, 0, 1000, 100)
    episode = Episode(chain, assets, rules, [WAD, WAD], 0)
    episode.arrange([5 * 10**23 + gap, 5 * 10**23 - gap], [WAD, WAD], [0, 0])
    assert episode.open_session() == reason
