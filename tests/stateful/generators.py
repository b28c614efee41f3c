"""Random assets, rules, targets and trades: mostly such as the vault accepts, some wrong in one way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from offchain import policy
from offchain.policy import DAY, WAD, Asset, Mode, Rules, VaultState
from tests.stateful import model
from tests.stateful.model import MAX


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
    mode = rng.choice((0, 1, 1, 2, 2, 2, 3))
    return Rules(
        mode=mode,
        calendar_unit=rng.randrange(2),
        calendar_every=rng.choice((1, 1, 2, 7)),
        calendar_anchor=now + rng.randint(-400 * DAY, 20 * DAY),
        window_seconds=rng.choice((3600, 3 * DAY)),
        cooldown_seconds=rng.choice((0, 600, DAY)),
        max_slippage_bps=slippage,
        loss_capacity_bps=min(enough + rng.choice((0, 1, 500)), 2**13 - 1),
        loss_refill_bps_per_year=rng.choice((0, 100, 5_000)),
        tolerance_bps=rng.choice((0, 10, 100) if mode == Mode.THRESHOLD else (1, 10, 100)),
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
                {"mode": Mode.BOTH, "tolerance_bps": 0},
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
