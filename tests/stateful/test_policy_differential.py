"""The policy mirror against the deployed vault: thousands of generated states, equal to the wei and word for word.

An episode is one vault with random assets and rules. Each of its steps moves the clock, sets holdings and prices, and
attempts a trade that a scripted executor carries out exactly: good ones, bad ones, sessions open and closed. Vault and
mirror must give the same answer, the same revert string and the same state after; every revert string must be reached.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import astuple, replace

import pytest
from eth_abi import encode

from offchain import policy
from offchain.policy import DAY, WAD, Asset, Mode, Rules, Session, VaultState
from tests.support.evm import DEPLOYER, Contract, Evm, Reverted, artifact

EPISODES = 300
STEPS = 10
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
        implementation = self.evm.deploy(artifact("Vault"), rule_book.address)
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
        seed = (1000 * assets[0].scale * WAD // prices[0] + 1, *zero[1:])
        first = next(t for t in chain.tokens if t.address == assets[0].token)
        chain.oracle.call("set_prices", prices, zero)
        first.call("set_balance", DEPLOYER, seed[0])
        first.call("approve", chain.factory.address, seed[0])
        roles = (chain.oracle.address, OWNER, GUARDIAN, STRATEGIST, KEEPER)
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
            self.vault.call("pause", sender=GUARDIAN)
        except Reverted:
            return
        self.state = replace(self.state, paused_until=self.vault.call("paused_until"))

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
        assert self.vault.call("session") == astuple(self.state.session)
        assert self.vault.call("loss_budget_used") == policy.loss_budget_used(self.state, self.chain.evm.now)
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
    return tuple(
        Asset(
            token.address,
            (6, 8, 18)[tokens.index(token) % 3],
            share,
            rng.choice([0, 100, 500, 2000]),
            rng.choice([100, 1000, 2500, 5000]),
            0,
            10_000,
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
    return Rules(
        mode=rng.choice([*Mode, Mode.EITHER, Mode.THRESHOLD]),
        calendar_unit=rng.randrange(2),
        calendar_every=rng.choice([1, 1, 2, 7]),
        calendar_anchor=now + rng.randint(-400 * DAY, 20 * DAY),
        window_seconds=rng.choice([1, 3600, 3 * DAY]),
        cooldown_seconds=rng.choice([0, 600, DAY]),
        max_slippage_bps=slippage,
        loss_capacity_bps=min(capacity, 2**13 - 1),
        loss_refill_bps_per_year=rng.choice([0, 100, 5000]),
        tolerance_bps=rng.choice([0, 10, 100]),
        speed_capacity_bps=1000,
        speed_refill_bps_per_day=100,
    )


def random_pause(rng: random.Random, state: VaultState) -> int:
    """Seconds to the next step: none, a few, days, or right to the edge of the window or the cooldown."""
    window_end = state.session.opened_at + state.rules.window_seconds
    end = state.session.closed_at or window_end
    edge = rng.choice([window_end, end + state.rules.cooldown_seconds]) + rng.choice([-1, 0, 0])
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
    sells = [int(s * part) for s in policy.clip_sells(state, state.balances)]
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
    episode.arrange(balances, moved, statuses)
    episode.check_views(rng)
    reasons = []
    if rng.random() < 0.15:
        reasons.append(episode.open_session())
    if not all(moved) or not any(balances):
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
                met.update(run_step(rng, episode, prices))
            except AssertionError as error:
                raise AssertionError(f"episode {number}, step {step}: {error}\n{episode.state}") from error
    assert met.keys() | set(HAIRLINES) == REASONS
    assert met[""] >= EPISODES * STEPS // 10


# Two reasons need weights that differ in the last wei: (balances before, after the trade), both assets 1 USD.
HAIRLINES = {
    "asset not overweight": ((10**24 + 1, 10**24 - 1), (10**24, 10**24)),
    "sold past target": ((10**24 + 10**20, 10**24 - 10**20), (10**24, 10**24 + 1)),
}


@pytest.mark.parametrize("reason", HAIRLINES)
def test_vault_and_mirror_agree_at_a_hairline(reason: str) -> None:
    chain = Chain()
    assets = tuple(Asset(chain.tokens[i].address, 18, 5000, 500, 2500, 0, 10_000, 0) for i in (2, 5))
    rules = Rules(Mode.CALENDAR, 0, 1, START, DAY, 0, 50, 500, 100, 0, 1000, 100)
    episode = Episode(chain, assets, rules, [WAD, WAD], 0)
    chain.evm.set_time(START + DAY)
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
        rules = Rules(Mode.EITHER, unit, rng.randint(1, 24), anchor, DAY, 0, 50, 500, 100, 0, 1000, 100)
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
