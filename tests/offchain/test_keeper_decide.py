"""The decision: act only on what the rules accept; the commitment binds what was seen and planned."""

import json
from dataclasses import asdict, replace

import pytest
from eth_utils.crypto import keccak

from offchain import policy
from offchain.chain.vault import BlockRef, Snapshot
from offchain.errors import PlannerError
from offchain.keeper.decide import canonical_json, decide, waiting
from offchain.keeper.market import GasPrice
from offchain.planner import Plan, Problem, V2Pool, plan
from offchain.policy import WAD, Asset, Mode, Rules, Session, VaultState

CASH, STOCK, EXECUTOR = ("0x" + digit * 40 for digit in "123")
NOW = 1_700_000_000
E18 = 10**18


def asset(token: str) -> Asset:
    return Asset(token, 18, 5_000, 500, 2_500, 0, 10_000, 10)


RULES = Rules(
    mode=Mode.THRESHOLD,
    calendar_unit=0,
    calendar_every=30,
    calendar_anchor=NOW - 86_400,
    window_seconds=3_600,
    cooldown_seconds=3_600,
    max_slippage_bps=100,
    loss_capacity_bps=200,
    loss_refill_bps_per_year=1_000,
    tolerance_bps=50,
    speed_capacity_bps=0,
    speed_refill_bps_per_day=0,
)


def snapshot(stock: int = 60, **changes: object) -> Snapshot:
    """A vault with `stock` USD of STOCK and 100 - `stock` of CASH, a thousand times."""
    state = VaultState(
        assets=(asset(CASH), asset(STOCK)),
        rules=RULES,
        session=Session(slot=1),
        balances=((100 - stock) * 1_000 * E18, stock * 1_000 * E18),
        prices=(WAD, WAD),
        statuses=(0, 0),
        supply=100_000 * E18,
        time=NOW,
        vault="0x" + "a" * 40,
        oracle="0x" + "b" * 40,
    )
    return Snapshot(
        1, BlockRef(7, "0x" + "77" * 32, NOW), state.vault, replace(state, **changes), "0x" + "00" * 32
    )  # type: ignore[arg-type]


def problem(seen: Snapshot, depth: int = 10_000_000) -> Problem:
    pool = V2Pool("0x" + "9" * 40, CASH, STOCK, 30, depth * E18, depth * E18)
    return Problem(seen.state, (pool,), EXECUTOR, CASH, NOW)


def test_acts_at_the_band() -> None:
    seen = snapshot(stock=60)
    decision = decide(seen, problem(seen))
    assert decision.act
    assert decision.trigger == "threshold"
    assert decision.reason == f"threshold: outside the band: {CASH}, {STOCK}"
    assert decision.session == 1
    assert decision.plan is not None
    assert decision.plan.sells[1] > 0


def test_does_not_act_inside_the_band() -> None:
    seen = snapshot(stock=54)
    decision = decide(seen, problem(seen))
    assert not decision.act
    assert decision.reason.startswith("no trigger")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (Mode.THRESHOLD, "every asset is in its band"),
        (Mode.CALENDAR, "calendar slot 1 is used"),
        (Mode.EITHER, "calendar slot 1 is used; every asset is in its band"),
        (Mode.BOTH, "calendar slot 1 is used; every asset is in its band"),
    ],
)
def test_says_of_its_rules_only_what_the_vault_has(mode: Mode, says: str) -> None:
    seen = snapshot(stock=54, rules=replace(RULES, mode=mode))
    assert waiting(seen, NOW).reason == f"no trigger: {says}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"paused_until": NOW + 1}, "paused"),
        ({"statuses": (0, 5)}, "price not usable"),
        ({"session": Session(1, NOW - 100, NOW - 50, 1)}, "cooldown not over"),
    ],
)
def test_waits_for_what_the_vault_would_refuse(changes: dict[str, object], reason: str) -> None:
    seen = snapshot(stock=60, **changes)
    for decision in (decide(seen, problem(seen)), waiting(seen, NOW)):
        assert not decision.act
        assert decision.reason == reason


def test_acts_in_an_open_session_without_a_trigger() -> None:
    seen = snapshot(stock=53, session=Session(4, NOW - 10, 0, 1))
    decision = decide(seen, problem(seen))
    assert decision.act
    assert decision.session == 4
    assert decision.trigger == "session open"


def test_refuses_a_plan_that_the_rules_refuse() -> None:
    seen = snapshot(stock=60)

    def overshooting(task: Problem) -> Plan:
        good = plan(task)
        return replace(good, sells=(0, good.sells[1]), balances_after=(70_000 * E18, 30_000 * E18), reason="")

    decision = decide(seen, problem(seen), overshooting)
    assert not decision.act
    assert decision.reason == "the vault would refuse the plan: bought past target"


def test_refuses_a_plan_that_costs_too_much() -> None:
    seen = snapshot(stock=60)

    def wasteful(task: Problem) -> Plan:
        good = plan(task)
        cash, stock = good.balances_after
        return replace(good, balances_after=(cash - 1_000 * E18, stock), reason="")

    decision = decide(seen, problem(seen), wasteful)
    assert not decision.act
    assert decision.reason == "the vault would refuse the plan: loss above slippage"


def test_a_planner_that_fails_is_a_reason_to_wait() -> None:
    seen = snapshot(stock=60)

    def failing(_task: Problem) -> Plan:
        raise PlannerError("no route")

    assert decide(seen, problem(seen), failing).reason == "no plan: no route"


def test_no_pool_is_a_reason_to_wait() -> None:
    seen = snapshot(stock=60)
    decision = decide(seen, replace(problem(seen), pools=()))
    assert not decision.act
    assert decision.plan is not None
    assert not decision.plan.trades


def test_commitment_is_the_hash_of_the_record() -> None:
    seen = snapshot(stock=60)
    decision = decide(seen, problem(seen))
    assert decision.commitment == keccak(text=decision.record)
    record = json.loads(decision.record)
    assert record["block"] == {"number": "7", "hash": seen.block.hash}
    assert record["planner"]
    assert record["state"]["balances"] == [str(q) for q in seen.state.balances]
    assert decision.plan is not None
    assert record["plan"]["payload"] == "0x" + decision.plan.payload.hex()


def test_the_record_says_what_the_plan_should_lead_to_and_cost_and_why() -> None:
    seen = snapshot(stock=60)
    decision = decide(seen, problem(seen))
    found, record = decision.plan, json.loads(decision.record)["plan"]
    assert found is not None and found.costs is not None and found.certificate is not None
    assert record["method"] == found.method
    assert [leg["expected_out"] for leg in record["legs"]] == [str(leg.expected_out) for leg in found.legs]
    for name, said in (("costs", found.costs), ("certificate", found.certificate)):
        values = {key: value for key, value in record[name].items() if key != "kind"}
        assert values == {key: str(value) for key, value in asdict(said).items()}
    assert (record["drift_before"], record["drift_after"]) == (
        str(found.drift_before),
        str(found.drift_after),
    )
    assert record["explanations"] == list(found.explanations) and len(found.explanations) == 2


def test_the_record_says_what_gas_costs_and_who_says_so() -> None:
    seen = snapshot(stock=60)
    gas = GasPrice(usd=30_000, wei=10, native_price=3_000 * WAD, source="oracle")
    priced = replace(problem(seen), gas_price=gas.usd)
    record = json.loads(decide(seen, priced, gas=gas).record)
    assert record["inputs"]["gas_price"] == "30000"
    assert record["gas"] == {
        "kind": "GasPrice",
        "usd": "30000",
        "wei": "10",
        "native_price": str(3_000 * WAD),
        "source": "oracle",
        "note": "",
    }
    assert decide(seen, priced).commitment != decide(seen, priced, gas=gas).commitment


def test_the_record_of_no_trade_says_why() -> None:
    seen = snapshot(stock=60)
    record = json.loads(decide(seen, replace(problem(seen), pools=())).record)
    assert record["plan"]["certificate"] is None
    assert record["plan"]["explanations"] == ["not traded: no pool that was read trades it"] * 2


def test_commitment_changes_with_any_input() -> None:
    seen = snapshot(stock=60)
    first = decide(seen, problem(seen))
    assert decide(seen, problem(seen)).commitment == first.commitment
    other = replace(seen, block=replace(seen.block, hash="0x" + "78" * 32))
    assert decide(other, problem(other)).commitment != first.commitment
    assert decide(seen, problem(seen, depth=10_000_001)).commitment != first.commitment


def test_canonical_json_has_one_spelling() -> None:
    value = {"b": [1, True, None], "a": b"\x01", "é": Mode.BOTH}
    assert canonical_json(value) == '{"a":"0x01","b":["1",true,null],"\\u00e9":"3"}'
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_canonical_json_refuses_floats() -> None:
    with pytest.raises(TypeError, match="float"):
        canonical_json({"a": 0.1})


def test_the_plan_closes_the_session_in_the_mirror() -> None:
    seen = snapshot(stock=60)
    decision = decide(seen, problem(seen))
    assert decision.plan is not None
    verdict = policy.check_rebalance(
        seen.state, decision.plan.sells, decision.plan.balances_after, 1, NOW, NOW
    )
    assert verdict.ok
    assert verdict.closed


def test_an_asset_in_quarantine_is_neither_priced_nor_traded() -> None:
    third = asset("0x" + "4" * 40)
    base = snapshot()
    shares = (4_000, 4_000, 2_000)
    assets = tuple(
        replace(a, target_bps=bps) for a, bps in zip((*base.state.assets, third), shares, strict=True)
    )
    seen = snapshot(
        assets=assets,
        balances=(40_000 * E18, 60_000 * E18, 10**30),
        prices=(WAD, WAD, 0),
        statuses=(0, 0, 5),
        aside=2,
        aside_until=NOW + 1,
    )
    decision = decide(seen, problem(seen))
    assert decision.act
    assert decision.plan is not None
    assert decision.plan.sells[2] == 0
    assert decision.plan.balances_after[2] == 10**30
    assert json.loads(decision.record)["state"]["aside"] == "2"
    over = replace(seen, state=replace(seen.state, aside_until=NOW))
    assert decide(over, problem(over)).reason == "price not usable"


def test_waits_while_the_hub_is_in_quarantine() -> None:
    third = replace(asset("0x" + "4" * 40), target_bps=2_000)
    base = snapshot()
    seen = snapshot(
        assets=(*(replace(a, target_bps=4_000) for a in base.state.assets), third),
        balances=(40_000 * E18, 60_000 * E18, 20_000 * E18),
        prices=(0, WAD, WAD),
        statuses=(5, 0, 0),
        aside=0,
        aside_until=NOW + 1,
    )
    decision = decide(seen, problem(seen))
    assert not decision.act
    assert decision.reason.startswith("the hub is in quarantine")
