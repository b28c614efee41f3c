"""What the chain engines refuse, in one line that names what to change; and their small parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import numpy as np
import pytest
from eth_utils.crypto import keccak

from offchain.backtest import BacktestError, Market, Policy
from offchain.backtest.chain import PoolSettings, VaultSettings, evm, replay, replay_journal, replay_record
from offchain.backtest.chain.arbitrage import moved, sqrt_price, to_price
from offchain.backtest.chain.journal import read_record
from offchain.backtest.chain.replay import _step, choose, worth
from offchain.backtest.chain.scenario import Scenario
from offchain.chain.errors import ConfigError
from offchain.planner import Problem
from offchain.planner import plan as joint_plan
from offchain.planner.pools import V2Pool, V3Pool, tick_at_sqrt_ratio
from offchain.policy import DAY, Mode

START = 1_577_998_800
HALVES = [0.5, 0.5]


def market(rows: int = 60, **more: Any) -> Market:
    """Two assets that drift apart."""
    rng = np.random.default_rng(4)
    prices = np.array([10.0, 200.0]) * np.exp(np.cumsum(rng.normal(0, [0.03, 0.01], (rows, 2)), axis=0))
    dates = np.array([START + DAY * i for i in range(rows)], dtype="datetime64[s]")
    return Market(dates, more.pop("prices", prices), ("AAA", "BBB"), **more)


LOW = np.full((60, 2), 3e-9)
LEAVES = np.where(np.arange(60) == 7, -2e6, 0.0)

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown engine": ({"engine": "quick"}, "engine: 'quick' is none of integer, evm"),
    "bands of any width": ({"policy": Policy(HALVES, bands=0.05)}, "bands: not in a vault: the vault's bands are"),
    "an exchange calendar": (
        {"policy": Policy(HALVES, calendar_rows=np.ones(60, dtype=bool))},
        "calendar_rows: not in a vault",
    ),
    "dividends": ({"data": market(dividends=np.ones((60, 2)))}, "dividends: a vault's tokens pay none"),
    "flows by route": ({"data": market(flows_by_route=-LEAVES)}, "flows_by_route: the chain engines take flows in"),
    "more than is held": (
        {"flows": LEAVES},
        "flows: row 7 (2020-01-09): 2,000,000.00 USD are redeemed and depositors hold ",
    ),
    "a price below the feed's unit": (
        {"data": market(prices=LOW)},
        "prices: row 0 (2020-01-02), column AAA: 3e-09 does not fit a feed of 8 decimals: set feed_decimals",
    ),
    "too high a fee": ({"policy": Policy(HALVES, fee_bps=301)}, "fee_bps: 301 is above the vault's cap of 300"),
    "a calendar without tolerance": (
        {"policy": Policy(HALVES, tolerance_bps=0)},
        "policy: the vault refuses it: tolerance 0 with a calendar",
    ),
    "too tight a slippage": (
        {"vault": VaultSettings(max_slippage_bps=60)},
        "policy: the vault refuses it: slippage below price errors",
    ),
    "too small a loss budget": (
        {"vault": VaultSettings(loss_capacity_bps=5)},
        "policy: the vault refuses it: loss budget below one rebalance",
    ),
    "a venue": ({"pools": PoolSettings(venue="v4")}, "venue: 'v4' is none of 'v2', 'v3', 'both'"),
    "a fee tier": ({"pools": PoolSettings(v3_fee=100)}, "v3_fee: 100 is none of 500, 3000, 10000"),
    "a hub": ({"pools": PoolSettings(hub="USD")}, "hub: 'USD' is none of the columns AAA, BBB"),
    "a depth": ({"pools": PoolSettings(depth_usd=[1e6, -1])}, "depth_usd: asset 1: -1 is not between 1 and"),
    "a pool that holds nothing": (
        {"pools": PoolSettings(depth_usd=1.0, venue="v2"), "vault": VaultSettings(decimals=2)},
        "depth_usd: row 0 (2020-01-02), column AAA: a Uniswap V2 pair cannot hold",
    ),
    "a limit in parts of a basis point": (
        {"policy": Policy(HALVES, min_targets=0.00005)},
        "min_targets: whole basis points only in a vault",
    ),
    "a seed of nothing": ({"cash": 0.5}, "cash: 0.5 USD is too little; a vault is seeded with more than 1 USD"),
    "decimals": ({"vault": VaultSettings(decimals=1)}, "decimals: asset 0: 1 is not between 2 and 24"),
    "a covariance": ({"policy": Policy(HALVES, covariance=[[1.0]])}, "covariance: needs 2 rows of 2 finite numbers"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused_by_name(what: str) -> None:
    changes, message = REFUSED[what]
    given = {"data": market(), "policy": Policy(HALVES), **changes}
    with pytest.raises(BacktestError) as refusal:
        replay(given.pop("data"), given.pop("policy"), **given)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_one_asset_is_no_vault() -> None:
    data = Market(market().dates, market().prices[:, :1])
    with pytest.raises(BacktestError, match="prices: 1 columns; a vault has 2 to 16 assets"):
        replay(data, Policy([1.0]))


def test_without_uniswap_s_packages_the_evm_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise ConfigError("node_modules: Ganache is not installed")

    monkeypatch.setattr(evm, "node_modules", absent)
    evm._artifact.cache_clear()
    with pytest.raises(BacktestError, match="run `make install` in a clone of the repository"):
        replay(market(), Policy(HALVES), engine="evm")
    evm._artifact.cache_clear()


def test_a_revert_is_told_in_the_contract_s_words() -> None:
    chain = evm.EvmChain(Scenario.of(market(), Policy(HALVES)))
    with pytest.raises(BacktestError, match=r"evm: Vault\.redeem_in_kind at 1577998800: balance too low"):
        chain.redeem(2 * 10**24)


# ---------------------------------------------------------------- the trader outside


@pytest.mark.parametrize("factor", [0.5, 0.97, 1.0001, 1.4])
def test_a_v2_pool_lands_on_the_price(factor: float) -> None:
    pool = V2Pool("0x" + "aa" * 20, "0x" + "01" * 20, "0x" + "02" * 20, 30, 10**24, 5 * 10**15)
    price = round(pool.reserve1 * factor), pool.reserve0
    move = to_price(pool, *price)
    assert move is not None and move.zero_for_one == (factor < 1)
    after = moved(pool, move)
    assert isinstance(after, V2Pool)
    assert after.reserve1 / after.reserve0 == pytest.approx(price[0] / price[1], rel=1e-8)
    assert after.reserve0 * after.reserve1 > pool.reserve0 * pool.reserve1  # the fee stays
    again = to_price(after, *price)
    assert again is None or again.amount_in < move.amount_in / 10**6


def test_a_v3_pool_lands_on_the_price() -> None:
    at = isqrt(2**192 * 5 // 10**9)
    ticks = ((-887_220, 10**19), (887_220, -(10**19)))
    pool = V3Pool(
        "0x" + "aa" * 20, "0x" + "01" * 20, "0x" + "02" * 20, 3_000, 60, at, tick_at_sqrt_ratio(at), 10**19, ticks
    )  # fmt: skip
    assert to_price(pool, 5, 10**9) is None
    move = to_price(pool, 6, 10**9)
    assert move is not None and not move.zero_for_one
    after = moved(pool, move)
    assert isinstance(after, V3Pool)
    assert after.sqrt_price_x96 == sqrt_price(6, 10**9)
    assert after.tick == tick_at_sqrt_ratio(after.sqrt_price_x96)


# ---------------------------------------------------------------- moving targets


def state_at(targets: list[float], **policy: Any) -> Any:
    data = market(3) if len(targets) == 2 else None
    return Scenario.of(data, Policy(targets, **policy)).state


def test_targets_go_as_far_as_the_bucket_allows() -> None:
    state = state_at(HALVES, speed_capacity_bps=501, speed_refill_bps_per_day=10)
    assert _step(state, (5_000, 5_000)) is None
    assert _step(state, (5_100, 4_900)) == (5_100, 4_900)
    assert _step(state, (9_000, 1_000)) == (5_250, 4_750)  # 501 bps: 250 up, 250 down, one left
    full = replace(state, speed_used=501 * 10**14, speed_time=state.time)
    assert _step(full, (9_000, 1_000)) is None
    assert _step(replace(full, time=state.time + DAY), (9_000, 1_000)) == (5_005, 4_995)


# ---------------------------------------------------------------- the decision


@dataclass
class Run:
    """A journal's run."""

    id: int
    block: int
    decision: str
    record: str | None


class Journal:
    """Runs, newest first."""

    def __init__(self, runs: list[Run]) -> None:
        self.kept = runs

    def runs(self, vault: str | None = None, limit: int = 100) -> list[Run]:
        return self.kept[::-1][:limit]


@pytest.fixture(scope="module")
def result() -> Any:
    found = replay(market(), Policy(HALVES, mode=Mode.THRESHOLD, band_points_bps=200))
    assert found.rebalances >= 3
    return found


@pytest.fixture
def journal(result: Any) -> Journal:
    runs = [
        Run(i, t.before.block.number, "0x" + t.decision.commitment.hex(), t.decision.record)
        for i, t in enumerate(result.rebalanced)
    ]
    return Journal([*runs, Run(99, 1, "", None)])


def test_every_decision_with_a_record_is_made_again(result: Any, journal: Journal) -> None:
    again = replay_journal(journal)
    assert [r.run for r in again] == list(range(result.rebalances))
    assert all(r.same and r.replayed == r.recorded for r in again)
    first = result.rebalanced[0].decision
    assert replay_record(first.record) == first


def test_waiting_is_decided_again_too(result: Any) -> None:
    quiet = next(s for s in result.snapshots if s.block.number not in {t.row + 2 for t in result.rebalanced})
    problem = Problem(quiet.state, (), "", "", quiet.state.time)
    waited = choose(quiet, problem)
    assert not waited.act and "no trigger" in waited.reason
    assert replay_record(waited.record) == waited


def test_a_changed_record_does_not_hash_to_the_decision(journal: Journal) -> None:
    journal.kept[0].record = str(journal.kept[0].record).replace('"now":"1', '"now":"2', 1)
    changed, *others = replay_journal(journal)
    assert changed.mismatch.startswith("record: hashes to 0x") and changed.mismatch.endswith("it was changed")
    assert all(r.same for r in others)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"amount_in":"', '"amount_in":"1', "plan.legs[0].amount_in: 1"),
        ('"sells":["', '"sells":["7', "plan.sells[0]: 7"),
        ('"payload":"0x', '"payload":"0x00', "plan.payload: 0x00"),
        ('"planner":"', '"planner":"old ', "planner: old evenkeel"),
        ('"min_leg_value":"', '"min_leg_value":"x', "record: cannot be read: ValueError"),
        ('"pools":[', '"pools":[7,', "record: inputs.pools[0]: 7 is not what a keeper writes there"),
    ],
)  # fmt: skip
def test_what_differs_is_named(journal: Journal, old: str, new: str, named: str) -> None:
    run = journal.kept[1]
    run.record = str(run.record).replace(old, new, 1)
    run.decision = "0x" + keccak(text=run.record).hex()
    found = replay_journal(journal)[1]
    assert not found.same and found.mismatch.startswith(named)


def test_a_gain_below_its_multiple_is_not_traded(result: Any) -> None:
    snapshot, problem, _ = read_record(result.rebalanced[0].decision.record)
    plan = joint_plan(problem)
    assert plan.trades
    assert worth(joint_plan, 0.01)(problem) == plan
    idle = worth(joint_plan, 1e6)(problem)
    assert not idle.trades and idle.reason.endswith("less than 1e+06 times")
    assert idle.balances_after == snapshot.state.balances and idle.payload == b"" and not any(idle.sells)
