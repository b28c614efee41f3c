"""The single-pool plan, which the joint one is measured against: what it trades, and that the rules accept it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from offchain import policy
from offchain.errors import PlannerError
from offchain.planner import Plan, Pool, Problem, Sweep, V2Pool, V3Pool, decode
from offchain.planner.pools import sqrt_ratio_at_tick, tick_at_sqrt_ratio
from offchain.planner.single_pool import single_pool_plan as plan
from offchain.policy import WAD, Asset, Mode, Rules, Session, VaultState

NOW = 1_700_000_000
DAY = 86_400
EXECUTOR = "0x" + "ee" * 20
RULES = Rules(Mode.THRESHOLD, 0, 1, NOW, DAY, 0, 100, 1000, 100, 50, 1000, 100)
DECIMALS = {"a": 6, "b": 18, "c": 8}
PRICES = {"a": WAD, "b": 250 * WAD, "c": 40_000 * WAD}


def token(letter: str) -> str:
    return "0x" + letter * 40


def vault(targets: dict[str, int], dollars: dict[str, int], rules: Rules = RULES) -> VaultState:
    """Assets a (a dollar, the hub), b, c with targets in bps and holdings in USD."""
    assets = tuple(Asset(token(k), DECIMALS[k], t, 500, 2500, 0, 10_000, 10) for k, t in targets.items())
    balances = tuple(dollars[k] * WAD * 10 ** DECIMALS[k] // PRICES[k] for k in targets)
    prices = tuple(PRICES[k] for k in targets)
    zero = (0,) * len(assets)
    return VaultState(assets, rules, Session(), balances, prices, zero, WAD, NOW, vault="0x" + "01" * 20)


def pair(letter: str, dollars: int, mispriced_bps: int = 0) -> V2Pool:
    """A V2 pair of the hub and another token, with `dollars` on each side."""
    other = dollars * WAD * 10 ** DECIMALS[letter] // PRICES[letter] * (10_000 + mispriced_bps) // 10_000
    return V2Pool("0x" + letter * 38 + "02", token("a"), token(letter), 30, dollars * 10**6, other)


def concentrated(letter: str, liquidity_dollars: int, fee: int = 3000) -> V3Pool:
    """A V3 pool of the hub and another token at the oracle's price, its liquidity within some 60 %."""
    raw = 10 ** DECIMALS[letter] * WAD * 2**192 // (PRICES[letter] * 10**6)
    price = int(raw**0.5)
    tick = tick_at_sqrt_ratio(price)
    lower, upper = tick // 60 * 60 - 6000, tick // 60 * 60 + 6000
    liquidity = liquidity_dollars * 10**6 * (price - 1) // 2**96
    assert sqrt_ratio_at_tick(lower) < price < sqrt_ratio_at_tick(upper)
    ticks = ((lower, liquidity), (upper, -liquidity))
    return V3Pool(
        "0x" + letter * 38 + "03", token("a"), token(letter), fee, 60, price, tick, liquidity, ticks
    )


def planned(state: VaultState, *pools: Pool, **options: int) -> Plan:
    return plan(Problem(state, pools, EXECUTOR, token("a"), NOW, **options))


def loss_bps(state: VaultState, found: Plan) -> float:
    """NAV lost over the value sold."""
    before, after = policy.values(state), policy.values(state, found.balances_after)
    sold = sum(b - a for b, a in zip(before, after, strict=True) if a < b)
    return (sum(before) - sum(after)) * 10_000 / sold


HALF = {"a": 5000, "b": 5000}


def test_overweight_cash_buys_the_underweight_asset() -> None:
    state = vault(HALF, {"a": 60_000, "b": 40_000})
    found = planned(state, pair("b", 10_000_000))
    assert found.session == 1
    assert found.sells == (10_000 * 10**6, 0)
    assert [leg.token_out for leg in found.legs] == [token("b")]
    assert found.legs[0].leg.whole_balance
    assert found.legs[0].leg.to_caller
    assert found.legs[0].min_out == found.legs[0].expected_out * 9_950 // 10_000
    assert max(policy.drifts(state, found.balances_after)) < 10**15
    assert found.verdict is not None
    assert found.verdict.ok
    assert found.verdict.closed


def test_underweight_cash_is_swept_back() -> None:
    state = vault(HALF, {"a": 40_000, "b": 60_000})
    found = planned(state, pair("b", 10_000_000))
    assert found.sells[0] == 0
    assert decode(found.payload)[-1] == Sweep(token("a"))
    assert found.balances_after[0] == state.balances[0] + found.legs[0].expected_out
    assert found.verdict is not None
    assert found.verdict.ok


def test_hub_outside_the_basket_leaves_no_dust() -> None:
    state = vault({"b": 5000, "c": 5000}, {"b": 60_000, "c": 40_000})
    with pytest.raises(PlannerError, match="hub_price"):
        planned(state, pair("b", 10**7), pair("c", 10**7))
    found = planned(state, pair("b", 10**7), pair("c", 10**7), hub_price=WAD, hub_decimals=6)
    assert [leg.token_out for leg in found.legs] == [token("a"), token("c")]
    assert found.legs[-1].leg.whole_balance
    assert found.legs[-1].amount_in == found.legs[0].expected_out


def test_the_pool_that_pays_more_is_used() -> None:
    state = vault(HALF, {"a": 60_000, "b": 40_000})
    cheap, dear = concentrated("b", 10**8, fee=500), pair("b", 10**7)
    assert planned(state, dear, cheap).legs[0].leg.pool == cheap.address
    assert planned(state, dear).legs[0].leg.pool == dear.address


def test_legs_are_sized_to_the_reserves() -> None:
    state = vault(HALF, {"a": 80_000, "b": 20_000})
    small, large = planned(state, pair("b", 500_000)), planned(state, pair("b", 10**8))
    assert 0 < small.sells[0] < large.sells[0] == 30_000 * 10**6
    assert 90 < loss_bps(state, small) <= 95  # the limit of 100 less the margin of 5
    assert 30 < loss_bps(state, large) < 34  # the fee and 3 bps of impact


def test_a_mispriced_pool_is_left_alone() -> None:
    state = vault({"a": 2000, "b": 4000, "c": 4000}, {"a": 40_000, "b": 30_000, "c": 30_000})
    found = planned(state, pair("b", 10**7, mispriced_bps=-200), pair("c", 10**7))
    assert [leg.token_out for leg in found.legs] == [token("c")]
    assert found.balances_after[1] == state.balances[1]


def test_the_loss_budget_bounds_the_trade() -> None:
    tight = replace(RULES, loss_capacity_bps=1)
    state = vault(HALF, {"a": 80_000, "b": 20_000}, tight)
    found = planned(state, pair("b", 10**8))
    assert found.verdict is not None
    assert 99 * 10**12 < found.verdict.charge <= 10**14
    spent = replace(state, loss_used=10**14, loss_time=NOW)
    assert (
        planned(spent, pair("b", 10**8)).reason
        == "the vault would refuse every size of the trade: loss budget exceeded"
    )


@pytest.mark.parametrize(
    ("dollars", "pools", "reason"),
    [
        ({"a": 51_000, "b": 49_000}, [pair("b", 10**7)], "no trigger"),
        ({"a": 60_000, "b": 40_000}, [], "no pool can trade"),
        ({"a": 60_000, "b": 40_000}, [pair("b", 10**7, mispriced_bps=-300)], "no pool can trade"),
        ({"a": 60_000, "b": 40_000}, [pair("c", 10**7)], "no pool can trade"),
        ({"a": 0, "b": 0}, [pair("b", 10**7)], "no value"),
    ],
)
def test_nothing_to_do_says_why(dollars: dict[str, int], pools: list[Pool], reason: str) -> None:
    state = vault(HALF, dollars)
    found = planned(state, *pools)
    assert not found.trades
    assert found.reason.startswith(reason)
    assert (found.sells, found.payload, found.balances_after) == ((0, 0), b"", state.balances)


def test_every_plan_is_accepted_and_reduces_the_drift() -> None:
    rng = random.Random(7)
    traded = 0
    for _ in range(150):
        cut = sorted(rng.sample(range(500, 9500), 2))
        targets = {"a": cut[0], "b": cut[1] - cut[0], "c": 10_000 - cut[1]}
        wealth = 10 ** rng.randint(2, 7)
        dollars = {k: int(wealth * t / 10_000 * rng.uniform(0.5, 1.5)) for k, t in targets.items()}
        state = vault(targets, dollars, replace(RULES, max_slippage_bps=rng.choice([50, 100, 300])))
        pools = [pair("b", 10 ** rng.randint(4, 8)), concentrated("b", 10 ** rng.randint(5, 8))]
        pools += [pair("c", 10 ** rng.randint(4, 8)), concentrated("c", 10 ** rng.randint(5, 8), 500)]
        found = planned(state, *pools)
        if not found.trades:
            assert found.reason
            continue
        traded += 1
        verdict = policy.check_rebalance(state, found.sells, found.balances_after, found.session, NOW, NOW)
        assert verdict == found.verdict
        assert verdict.ok
        assert list(verdict.sent) == list(found.sells)  # the vault clips nothing that the legs count on
        assert sum(policy.drifts(verdict.state)) < sum(policy.drifts(state))
    assert traded > 75
