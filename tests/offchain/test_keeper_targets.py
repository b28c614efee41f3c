"""Targets that a strategy moves: the nearest within the limits, and steps that the vault accepts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offchain import policy
from offchain.chain.errors import ConfigError
from offchain.chain.vault import Snapshot
from offchain.errors import EvenkeelError
from offchain.keeper.targets import FromHistory, next_step, within_limits
from offchain.policy import DAY, VaultState
from offchain.settings import StrategySettings
from tests.support.keeper_seen import CASH, NOW, RULES, STOCK, snapshot

RULES_THAT_MOVE = replace(RULES, max_slippage_bps=150, speed_capacity_bps=1_000, speed_refill_bps_per_day=100)


def state(*targets: int, low: int = 0, high: int = 10_000, used: int = 0) -> VaultState:
    """A vault whose targets may move by 10 % at once and 1 % a day."""
    like = snapshot().state
    assets = tuple(
        replace(like.assets[0], token=f"0x{i:040x}", target_bps=t, min_target_bps=low, max_target_bps=high)
        for i, t in enumerate(targets)
    )
    n = len(targets)
    return replace(
        like,
        assets=assets,
        rules=RULES_THAT_MOVE,
        balances=(10**18,) * n,
        prices=(10**18,) * n,
        statuses=(0,) * n,
        speed_used=used * policy.BPS_IN_WAD,
        speed_time=NOW,
    )


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("weights", "lows", "highs", "expected"),
    [
        ((0.5, 0.3, 0.2), (0, 0, 0), (10_000,) * 3, (5_000, 3_000, 2_000)),
        ((1.0, 0.0, 0.0), (0, 500, 500), (6_000,) * 3, (6_000, 2_000, 2_000)),
        ((0.9, 0.1, 0.0), (0, 0, 0), (6_000,) * 3, (6_000, 2_500, 1_500)),
        ((1 / 3,) * 3, (0,) * 3, (10_000,) * 3, (3_334, 3_333, 3_333)),
        ((0.0, 1.0), (4_000, 0), (10_000, 10_000), (4_000, 6_000)),
    ],
)
def test_the_nearest_within_the_limits(
    weights: tuple[float, ...], lows: tuple[int, ...], highs: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert within_limits(weights, lows, highs) == expected


def test_whatever_is_wanted_the_limits_hold_and_nothing_within_them_is_nearer() -> None:
    rng = random.Random(6)
    for _ in range(300):
        n = rng.randint(2, 16)
        raw = [rng.random() ** 3 for _ in range(n)]
        weights = [w / sum(raw) for w in raw]
        highs = [rng.randint(10_000 // n + 1, 10_000) for _ in range(n)]
        lows = [rng.randint(0, min(high, 10_000 // n)) for high in highs]
        found = within_limits(weights, lows, highs)
        assert sum(found) == 10_000
        assert all(low <= bps <= high for low, bps, high in zip(lows, found, highs, strict=True))
        gaps = [weight * 10_000 - bps for weight, bps in zip(weights, found, strict=True)]
        up = [gap for gap, bps, high in zip(gaps, found, highs, strict=True) if bps < high]
        down = [gap for gap, bps, low in zip(gaps, found, lows, strict=True) if bps > low]
        if up and down:
            assert max(up) - min(down) <= 2  # bps: moving one from the one to the other gains nothing


def test_limits_that_leave_nothing_are_said() -> None:
    with pytest.raises(EvenkeelError, match="limits leave no targets"):
        within_limits((0.5, 0.5), (0, 0), (4_000, 5_000))


# ---------------------------------------------------------------- steps


def test_a_short_way_is_gone_at_once() -> None:
    step = next_step(state(5_000, 3_000, 2_000), (5_400, 2_700, 1_900), 50, NOW)
    assert (step.targets_bps, step.path_bps, step.left_bps) == ((5_400, 2_700, 1_900), 800, 0)


def test_a_long_way_is_gone_in_steps_that_the_vault_accepts() -> None:
    """From 50/30/20 to 20/30/50: 6,000 bps at 1,000 now and 100 a day."""
    now, at, goal = NOW, state(5_000, 3_000, 2_000), (2_000, 3_000, 5_000)
    paths, days = [], [0, 1, 3, 10, 40]
    for day in days:
        now = NOW + day * DAY
        step = next_step(at, goal, 50, now)
        refusal, at = policy.set_targets(at, step.targets_bps, now)
        assert refusal == ""
        paths.append(step.path_bps)
        assert step.targets_bps[1] == 3_000
    assert paths == [1_000, 100, 200, 700, 1_000]
    assert all(asset.target_bps for asset in at.assets)


def test_no_step_is_refused_and_each_is_as_long_as_may_be() -> None:
    rng = random.Random(7)
    for _ in range(200):
        n = rng.randint(2, 16)
        start = within_limits([1 / n] * n, [0] * n, [10_000] * n)
        raw = [rng.random() ** 2 for _ in range(n)]
        goal = within_limits([w / sum(raw) for w in raw], [0] * n, [10_000] * n)
        used = rng.choice((0, 500, 900, 990, 1_000))
        at = state(*start, used=used)
        step = next_step(at, goal, 1, NOW)
        if not step.path_bps:
            assert used == 1_000 or start == goal
            continue
        refusal, after = policy.set_targets(at, step.targets_bps, NOW)
        assert refusal == ""
        left = 1_000 - policy.speed_budget_used(after, NOW) // policy.BPS_IN_WAD
        assert step.left_bps == 0 or left <= n  # bps, what rounding leaves
        assert all(min(a, b) <= c <= max(a, b) for a, b, c in zip(start, goal, step.targets_bps, strict=True))


def test_a_way_that_is_not_worth_it_is_not_gone() -> None:
    step = next_step(state(5_000, 5_000), (5_020, 4_980), 50, NOW)
    assert (step.targets_bps, step.path_bps, step.reason) == (
        (5_000, 5_000),
        0,
        "the targets are within 40 bps of what is wanted",
    )


def test_without_room_in_the_speed_limit_it_waits() -> None:
    step = next_step(state(5_000, 5_000, used=990), (6_000, 4_000), 50, NOW)
    assert (step.path_bps, step.left_bps) == (0, 2_000)
    assert step.reason == "targets move too fast: 2000 bps are left, and only 10 can be moved now"


def test_a_limit_that_no_step_can_keep_is_named() -> None:
    """Bands are a quarter of the target: a larger target needs more loss budget than there is."""
    like = state(2_000, 8_000)
    rules = replace(like.rules, loss_capacity_bps=10)
    step = next_step(replace(like, rules=rules), (8_000, 2_000), 50, NOW)
    assert step.path_bps == 0
    assert step.reason.startswith("loss budget below one rebalance")


# ---------------------------------------------------------------- what is wanted

DAYS = ("2023-11-10", "2023-11-13", "2023-11-14", "2023-11-20")  # NOW is 14 November 2023, 22:13


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "prices.csv"
    rows = [f"{day},{100 + i},1" for i, day in enumerate(DAYS)]
    file.write_text("\n".join(["date,ACME,dollar", *rows]) + "\n")
    return file


MINE = """
class Seen:
    rows_needed = 1
    def target_weights(self, history, now):
        assert str(history.index[-1])[:10] == "2023-11-14", history.index
        assert len(history) == 3
        return {"ACME": 0.7, "dollar": 0.3}
"""


def asks(csv: Path, **settings: Any) -> FromHistory:
    given = {"name": "equal", "data": {"source": "csv", "path": str(csv)}, "tokens": {"dollar": CASH}}
    return FromHistory.of(StrategySettings(**(given | settings)))


def seen(days_later: int = 0) -> Snapshot:
    found = snapshot()
    return replace(found, block=replace(found.block, time=NOW + days_later * DAY))


def test_the_strategy_sees_what_was_known_at_the_block_and_answers_in_the_vault_s_order(
    csv: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    wanted = asks(csv, name=f"{mine}:Seen").wanted(seen(), ["USDC", "acme"])
    assert wanted.weights == (0.3, 0.7)
    assert wanted.stale == ""
    assert "last row 2023-11-14" in wanted.history


def test_a_history_that_has_ended_is_not_acted_on(csv: Path) -> None:
    assert asks(csv).wanted(seen(12), ["USDC", "acme"]).stale == ""
    assert asks(csv).wanted(seen(14), ["USDC", "acme"]).stale.startswith("the history ends 8.9 days ago")
    assert asks(csv, max_age_days=9).wanted(seen(14), ["USDC", "acme"]).stale == ""


def test_turnover_is_counted_from_the_targets_as_they_are(csv: Path) -> None:
    limited = asks(csv, name="fixed", settings={"weights": {"ACME": 1}}, constraints={"max_turnover": 0.1})
    assert limited.wanted(seen(), ["USDC", "acme"]).weights == pytest.approx(
        (0.45, 0.55), abs=1e-3
    )  # 10 % moves


@pytest.mark.parametrize(
    ("settings", "symbols", "words"),
    [
        ({"tokens": {}}, ["USDC", "ACME"], "the data have no USDC"),
        ({"tokens": {"dollar": STOCK}}, ["dollar", "ACME"], "the data have no dollar"),
        ({}, ["USDC", "OTHER"], f"the data have no OTHER .{STOCK}.; they have ACME, dollar"),
    ],
)
def test_an_asset_without_a_history_is_named(
    csv: Path, settings: dict[str, Any], symbols: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        asks(csv, **settings).wanted(seen(), symbols)


def test_a_column_that_is_no_asset_is_named(csv: Path) -> None:
    csv.write_text("date,ACME,dollar,gold\n" + "\n".join(f"{day},1,1,1" for day in DAYS))
    with pytest.raises(ConfigError, match="gold of the data is not one asset of the vault"):
        asks(csv).wanted(seen(), ["USDC", "acme"])


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "no-such"},
        {"settings": {"x": 1}},
        {"data": {"source": "tea-leaves"}},
        {"constraints": {"x": 1}},
    ],
)
def test_a_strategy_that_is_none_is_known_before_anything_starts(csv: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(EvenkeelError):
        asks(csv, **settings)
