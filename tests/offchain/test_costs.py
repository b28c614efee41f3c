"""The cost ledger against what real pools log: vault, executor and Uniswap in bytecode on the in-process chain."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hexbytes import HexBytes
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner
from web3 import Web3

from offchain import policy
from offchain.chain.errors import ChainError
from offchain.chain.events import PoolSwap, pool_swaps
from offchain.chain.fees import Fees
from offchain.chain.sender import SignedCall
from offchain.chain.vault import BlockRef, Snapshot
from offchain.cli import app
from offchain.keeper.costs import Entry, entry, read_record
from offchain.keeper.decide import Decision, decide
from offchain.keeper.journal import Journal, Mined, Purpose, Status
from offchain.keeper.market import GasPrice
from offchain.planner import Call, Pool, Problem, SwapV2, SwapV3, V2Pool, V3Pool, decode, encode
from offchain.planner.pools import PIPS, same, zero_for_one
from offchain.policy import NO_ASSET, WAD
from offchain.show.costs import Line, totals
from tests.support.bazaar import Bazaar, Market
from tests.support.evm import uniswap_artifact
from tests.support.venue import call_data

MARKETS = 150
WEB3 = Web3()  # decodes; there is no node behind it
GAS_WEI, NATIVE = 7 * 10**9, 2_500 * WAD
BLOCK_HASH = HexBytes("0x" + "b1" * 32)


@pytest.fixture(scope="module")
def bazaar() -> Bazaar:
    return Bazaar()


def decided(market: Market, native_price: int = 0) -> Decision:
    """What a keeper would decide and commit to."""
    problem = market.problem
    seen = Snapshot(
        1, BlockRef(7, "0x" + "77" * 32, problem.now), market.vault.address, problem.state, "0x00"
    )
    return decide(seen, problem, gas=GasPrice(usd=problem.gas_price, native_price=native_price))


def carry_out(market: Market, decision: Decision) -> Any:
    """The keeper's call; its receipt as a node would answer."""
    assert decision.plan is not None
    market.carry_out(decision.plan)
    return receipt(market)


def receipt(market: Market, **changes: Any) -> Any:
    """Of the last transaction."""
    result = market.bazaar.evm._evm.result
    logs = [
        {
            "address": Web3.to_checksum_address(log.address),
            "topics": [HexBytes(topic) for topic in log.topics],
            "data": HexBytes(bytes(log.data[1])),
            "blockNumber": 8,
            "blockHash": BLOCK_HASH,
            "logIndex": k,
            "transactionHash": BLOCK_HASH,
            "transactionIndex": 0,
        }
        for k, log in enumerate(result.logs)
    ]
    made = {
        "status": 1,
        "blockNumber": 8,
        "blockHash": BLOCK_HASH,
        "gasUsed": market.bazaar.evm.gas_used,
        "effectiveGasPrice": GAS_WEI,
        "logs": logs,
    }
    return made | changes


def predicted(found: Entry) -> tuple[int | None, ...]:
    return found.predicted_fee, found.predicted_impact, found.predicted_tax, found.predicted_drift


def realised(found: Entry) -> tuple[int | None, ...]:
    return found.fee, found.impact, found.tax, found.drift


def lost(problem: Problem, before: Sequence[int], after: Sequence[int], prices: Sequence[int]) -> int:
    """NAV lost at these prices, each holding rounded down as on chain."""
    scales = [10**asset.decimals for asset in problem.state.assets]
    worth = [
        sum(q * p // s for q, p, s in zip(held, prices, scales, strict=True)) for held in (before, after)
    ]
    return worth[0] - worth[1]


# ---------------------------------------------------------------- nothing moves


def test_realised_is_predicted_to_the_wei_when_nothing_moves(bazaar: Bazaar) -> None:
    """V2 and V3, direct and through tokens outside the basket, with taxes, quarantines and donated pairs."""
    traded = v2 = v3 = through = taxed = donated = priced = 0
    for seed in range(MARKETS):
        market = bazaar.market(seed, mode=policy.Mode.THRESHOLD)
        problem, decision = market.problem, decided(market, NATIVE)
        plan = decision.plan
        if not decision.act or plan is None:
            continue
        before = (
            market.vault.call("balances")
            if policy.aside(problem.state) == NO_ASSET
            else problem.state.balances
        )
        found = entry(WEB3, decision.record, carry_out(market, decision))
        assert realised(found) == predicted(found), seed
        assert found.why == "", seed
        assert found.fee + found.impact == lost(problem, before, plan.balances_after, problem.state.prices), (
            seed
        )
        assert found.nav == policy.nav(problem.state), seed
        if plan.costs is not None:  # the planner's own figures: floats for the fee
            assert abs(found.fee - plan.costs.fee) <= found.nav // 10**12, seed
            assert found.fee + found.impact == plan.costs.fee + plan.costs.impact, seed
            assert found.predicted_tax == plan.costs.tax, seed
            assert (found.predicted_gas or 0) == plan.costs.gas, seed
        assert found.predicted_drift == plan.drift_after, seed
        assert (found.predicted_gas is None) == (problem.gas_price == 0), seed
        traded += 1
        v2 += any(isinstance(leg.leg, SwapV2) for leg in plan.legs)
        v3 += any(isinstance(leg.leg, SwapV3) for leg in plan.legs)
        basket = [asset.token for asset in problem.state.assets]
        through += any(not any(same(leg.token_out, token) for token in basket) for leg in plan.legs)
        taxed += found.tax > 0
        donated += "unsynced" in market.notes
        priced += found.predicted_gas is not None
    assert min(traded // 2, v2, v3, 2 * through, 2 * donated, 2 * priced, 4 * taxed) > MARKETS // 8


def test_fee_is_what_each_pool_keeps_of_its_input(bazaar: Bazaar) -> None:
    """Counted again from the chain's own events and the pools' own fees, where all is priced by the oracle."""
    checked = 0
    for seed in range(40):
        options = {"outside": 0, "quarantine": False, "hub": "asset", "odd": False}
        market = bazaar.market(seed, mode=policy.Mode.THRESHOLD, **options)
        decision = decided(market)
        if not decision.act:
            continue
        found = entry(WEB3, decision.record, carry_out(market, decision))
        state = market.problem.state
        unit = {a.token.lower(): (p, 10**a.decimals) for a, p in zip(state.assets, state.prices, strict=True)}
        fee = Fraction(0)
        assert decision.plan is not None
        for leg, (where, amount, _) in zip(decision.plan.legs, market.paid(), strict=True):
            contract = market.bazaar.evm.at(where, {"abi": FEE})
            pips = contract.call("fee") if isinstance(leg.leg, SwapV3) else leg.leg.fee_bps * 100
            price, scale = unit[leg.leg.token_in.lower()]
            fee += Fraction(amount * price * pips, scale * PIPS)
        assert found.fee == int(fee), seed  # rounded down
        checked += 1
    assert checked > 10


FEE = [
    {
        "type": "function",
        "name": "fee",
        "inputs": [],
        "outputs": [{"type": "uint24"}],
        "stateMutability": "view",
    }
]


# ---------------------------------------------------------------- something moves


def simple(bazaar: Bazaar, seed: int = 0) -> tuple[Market, Decision]:
    """The first market from `seed` on whose plan has a V2 and a V3 leg, no donated pair and all the rules' room."""
    while True:
        market = bazaar.market(
            seed,
            mode=policy.Mode.THRESHOLD,
            quarantine=False,
            odd=False,
            spend=False,
            keeper_ticks=False,
            wealth=1e6,
            depth=10,
        )
        decision = decided(market)
        kinds = {type(leg.leg) for leg in decision.plan.legs} if decision.act and decision.plan else set()
        if kinds == {SwapV2, SwapV3}:
            return market, decision
        seed += 1


def sell_into(market: Market, pool: Pool, token: str, amount: int) -> Pool:
    """Somebody else sells; the pool after it, which is as the chain has it."""
    chain = market.bazaar
    contract = next(t for t in chain.tokens if same(t.address, token))
    contract.call("mint", chain.executor.address, amount)
    side = zero_for_one(pool, token)
    leg = (
        SwapV2(pool.address, token, amount, 0, 30, side)
        if isinstance(pool, V2Pool)
        else SwapV3(pool.address, token, amount, 0, side)
    )
    chain.executor.call("execute", encode([leg]))
    chain.executor.call("sweep", [t.address for t in chain.tokens])
    fair = replace(pool, fee_bps=30) if isinstance(pool, V2Pool) else pool
    _, after = fair.swap(token, amount)
    return (
        replace(after, fee_bps=pool.fee_bps)
        if isinstance(after, V2Pool) and isinstance(pool, V2Pool)
        else after
    )


@pytest.mark.parametrize("version", [V2Pool, V3Pool])
@pytest.mark.parametrize("seed", [0, 100, 200])
def test_a_swap_in_between_shows_as_exactly_what_it_did(
    bazaar: Bazaar, version: type[Pool], seed: int
) -> None:
    """The last leg into the vault is front-run: the pool pays less, and the ledger says by how much and which."""
    market, decision = simple(bazaar, seed)
    problem, plan = market.problem, decision.plan
    assert plan is not None
    pools = {pool.address.lower(): pool for pool in problem.pools}
    basket = [asset.token.lower() for asset in problem.state.assets]
    leg = next(
        leg
        for leg in reversed(plan.legs)
        if isinstance(pools[leg.leg.pool.lower()], version)
        and leg.leg.to_caller
        and leg.token_out.lower() in basket
    )
    pool = pools[leg.leg.pool.lower()]
    moved = sell_into(market, pool, leg.leg.token_in, max(leg.amount_in // 1_000, 10))
    paid = moved.amount_out(leg.leg.token_in, leg.amount_in)
    assert paid < leg.expected_out
    after = list(plan.balances_after)
    after[basket.index(leg.token_out.lower())] -= leg.expected_out - paid

    found = entry(WEB3, decision.record, carry_out(market, decision))
    assert tuple(market.vault.call("balances")) == tuple(after)
    state = problem.state
    assert found.fee + found.impact == lost(problem, state.balances, after, state.prices)
    assert found.predicted_fee + found.predicted_impact == lost(
        problem, state.balances, plan.balances_after, state.prices
    )
    assert found.fee == found.predicted_fee  # the same went in
    assert found.impact > found.predicted_impact
    assert found.drift == sum(policy.drifts(state, after)) != found.predicted_drift
    (line,) = found.why.splitlines()
    assert line.lower().startswith(f"pool {pool.address} had moved: it paid ".lower())
    assert line.endswith(" less than at block 7")


def test_a_swap_the_other_way_pays_more(bazaar: Bazaar) -> None:
    market, decision = simple(bazaar)
    assert decision.plan is not None
    leg = decision.plan.legs[-1]
    pool = next(pool for pool in market.problem.pools if same(pool.address, leg.leg.pool))
    sell_into(market, pool, leg.token_out, max(leg.expected_out // 1_000, 10))
    found = entry(WEB3, decision.record, carry_out(market, decision))
    assert found.impact < found.predicted_impact
    assert found.why.endswith(" more than at block 7")


def test_prices_and_balances_that_moved_are_named(bazaar: Bazaar) -> None:
    market, decision = simple(bazaar)
    state = market.problem.state
    prices = [p * 1_001 // 1_000 if i == 0 else p for i, p in enumerate(state.prices)]
    market.bazaar.oracle.call("set_prices", prices, [0] * len(prices))
    given = state.balances[1] // 1_000
    token = next(t for t in market.bazaar.tokens if same(t.address, state.assets[1].token))
    token.call("mint", market.vault.address, given)
    found = entry(WEB3, decision.record, carry_out(market, decision))
    before = [q + given if i == 1 else q for i, q in enumerate(state.balances)]
    assert found.fee + found.impact == lost(market.problem, before, market.vault.call("balances"), prices)
    assert found.nav == lost(market.problem, before, [0] * len(before), prices)
    assert found.why.splitlines()[:2] == [
        f"the oracle's price of {state.assets[0].token} had moved by +10.00 bps",
        f"the vault's balance of {state.assets[1].token} had moved by +10.00 bps",
    ]


def test_a_pool_beyond_the_ticks_that_were_read_is_said_to_be_so(bazaar: Bazaar) -> None:
    market, decision = simple(bazaar)
    mined = carry_out(market, decision)
    problem = read_record(decision.record)
    narrow = [
        replace(p, known_from=p.tick, known_to=p.tick) if isinstance(p, V3Pool) else p for p in problem.pools
    ]
    seen = Snapshot(1, BlockRef(7, "0x" + "77" * 32, 0), market.vault.address, problem.state, "0x00")
    record = decide(seen, replace(problem, pools=tuple(narrow)), lambda _: decision.plan).record  # type: ignore[arg-type, return-value]
    found = entry(WEB3, record, mined)
    assert "cannot be compared with the plan's block: pool " in found.why
    assert "leaves the ticks that were read" in found.why
    assert realised(found) == predicted(found)


def test_a_swap_in_a_pool_that_was_not_read_counts_as_impact(bazaar: Bazaar) -> None:
    market, decision = simple(bazaar)
    whole = entry(WEB3, decision.record, carry_out(market, decision))
    assert decision.plan is not None
    gone = decision.plan.legs[-1].leg.pool
    problem = read_record(decision.record)
    left = tuple(pool for pool in problem.pools if not same(pool.address, gone))
    seen = Snapshot(1, BlockRef(7, "0x" + "77" * 32, 0), market.vault.address, problem.state, "0x00")
    record = decide(seen, replace(problem, pools=left), lambda _: decision.plan).record  # type: ignore[arg-type, return-value]
    found = entry(WEB3, record, receipt(market))
    assert found.fee < whole.fee
    assert found.fee + found.impact == whole.fee + whole.impact
    assert found.why == "1 swaps in pools that were not read: their fees count as impact"


def test_a_plan_that_calls_other_contracts_says_so(bazaar: Bazaar) -> None:
    """As an outside venue would: the last leg is made of calls, which the plan cannot look into."""
    seed = 0
    while True:
        market, decision = simple(bazaar, seed)
        last = decision.plan.legs[-1] if decision.plan else None
        if (
            last is not None
            and isinstance(last.leg, SwapV2)
            and last.leg.to_caller
            and not market.problem.hub_price
        ):
            break
        seed += 1
    whole = entry(WEB3, decision.record, carry_out(market, decision))
    market, decision = simple(bazaar, seed)  # the same once more
    problem, plan = market.problem, decision.plan
    assert plan is not None
    token = next(t for t in bazaar.tokens if same(t.address, last.leg.token_in))
    pair = bazaar.evm.at(last.leg.pool, uniswap_artifact("v2-core/build/UniswapV2Pair.json"))
    outs = (0, last.expected_out) if last.leg.zero_for_one else (last.expected_out, 0)
    calls = [
        Call(token.address, call_data(token, "transfer", pair.address, last.amount_in)),
        Call(pair.address, call_data(pair, "swap", *outs, market.vault.address, b"")),
    ]
    legs = decode(plan.payload)
    payload = encode(
        [other for leg in legs for other in (calls if leg == legs[len(plan.legs) - 1] else [leg])]
    )
    seen = Snapshot(
        1, BlockRef(7, "0x" + "77" * 32, problem.now), market.vault.address, problem.state, "0x00"
    )
    called = decide(seen, problem, lambda _: replace(plan, payload=payload))
    found = entry(WEB3, called.record, carry_out(market, called))
    assert (found.fee, found.impact) == (whole.fee, whole.impact)
    assert found.predicted_fee < whole.predicted_fee
    assert found.predicted_fee + found.predicted_impact == found.fee + found.impact
    assert (
        found.why == "the plan called other contracts than pools: what fees they take was predicted as impact"
    )


# ---------------------------------------------------------------- gas, and what is not a rebalance


def test_gas_is_priced_as_the_plan_priced_it(bazaar: Bazaar) -> None:
    market, _ = simple(bazaar)
    decision = decided(market, NATIVE)
    found = entry(WEB3, decision.record, carry_out(market, decision))
    used = market.bazaar.evm.gas_used
    assert (found.gas_used, found.gas_wei) == (used, used * GAS_WEI)
    assert found.gas == used * GAS_WEI * 2_500
    assert found.native_price == NATIVE
    assert (found.block, found.block_hash, found.time) == (8, BLOCK_HASH.to_0x_hex(), market.problem.now)
    rollup = entry(WEB3, decision.record, receipt(market, l1Fee="0x10"))
    assert rollup.gas_wei == found.gas_wei + 16


def test_without_a_native_price_gas_has_no_dollars(bazaar: Bazaar) -> None:
    market, decision = simple(bazaar)
    found = entry(WEB3, decision.record, carry_out(market, decision))
    assert (found.gas, found.native_price) == (None, None)
    assert found.gas_wei > 0


def test_a_reverted_transaction_leaves_its_gas_alone(bazaar: Bazaar) -> None:
    market, _ = simple(bazaar)
    decision = decided(market, NATIVE)
    found = entry(WEB3, decision.record, receipt(market, status=0, gasUsed=90_000, logs=[]))
    assert found.reverted
    assert found.gas == 90_000 * GAS_WEI * 2_500
    assert predicted(found)[:3] == realised(found)[:3] == (0, 0, 0)
    assert found.drift == found.predicted_drift == sum(policy.drifts(market.problem.state))
    assert found.why == "reverted: the gas bought nothing"


def test_a_cancel_leaves_its_gas_alone(bazaar: Bazaar) -> None:
    market, _ = simple(bazaar)
    decision = decided(market, NATIVE)
    itself = "0x" + "34" * 20
    found = entry(
        WEB3, decision.record, receipt(market, gasUsed=21_000, logs=[], **{"from": itself, "to": itself})
    )
    assert found.gas == 21_000 * GAS_WEI * 2_500
    assert found.reverted and predicted(found)[:3] == realised(found)[:3] == (0, 0, 0)
    assert found.why == "cancelled: the gas freed the nonce"


def test_another_vaults_entry_is_refused(bazaar: Bazaar) -> None:
    market, decision = simple(bazaar)
    mined = carry_out(market, decision)
    other = decision.record.replace(market.vault.address, "0x" + "12" * 20)
    with pytest.raises(ChainError, match=r"^0 Rebalanced events of 0x1212"):
        entry(WEB3, other, mined)


def test_a_record_holds_the_whole_problem(bazaar: Bazaar) -> None:
    for seed in range(20):
        market = bazaar.market(seed)
        decision = decided(market)
        if decision.plan is not None:
            assert read_record(decision.record) == market.problem


# ---------------------------------------------------------------- logs

POOL, OTHER = Web3.to_checksum_address("0x" + "ab" * 20), "0x" + "00" * 12 + "cd" * 20
V2_TOPIC = Web3.keccak(text="Swap(address,uint256,uint256,uint256,uint256,address)")
V3_TOPIC = Web3.keccak(text="Swap(address,address,int256,int256,uint160,uint128,int24)")
TRANSFER = Web3.keccak(text="Transfer(address,address,uint256)")


def log(topic: bytes, *words: int, address: str = POOL, to: str = OTHER) -> Any:
    data = b"".join(word.to_bytes(32, "big", signed=word < 0) for word in words)
    topics = [HexBytes(topic), HexBytes(OTHER), HexBytes(to)]
    return {"address": address, "topics": topics, "data": HexBytes(data)}


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ([log(V2_TOPIC, 50, 0, 0, 40)], [(50, -40)]),
        ([log(V2_TOPIC, 0, 50, 40, 0)], [(-40, 50)]),
        ([log(V2_TOPIC, 50, 3, 0, 40)], [(50, -40)]),  # 3 of token1 were given to the pair
        ([log(V2_TOPIC, 60, 5, 10, 45)], [(50, -40)]),
        ([log(V3_TOPIC, -40, 50, 1, 1, 1)], [(-40, 50)]),
        ([log(V3_TOPIC, 50, -40, 1, 1)], []),  # another event of that name
        ([log(TRANSFER, 50)], []),
        ([{"address": POOL, "topics": [], "data": HexBytes("0x")}], []),
    ],
)
def test_swaps_are_read_from_logs(logs: list[Any], expected: list[tuple[int, int]]) -> None:
    assert pool_swaps(logs) == [PoolSwap(POOL, *amounts) for amounts in expected]


def test_what_lay_in_a_pair_before_is_not_what_was_put_in() -> None:
    to_pool = "0x" + "00" * 12 + POOL[2:]
    sent, swap = log(TRANSFER, 50, address=OTHER[:42], to=to_pool), log(V2_TOPIC, 57, 0, 0, 40)
    assert pool_swaps([sent, swap]) == [PoolSwap(POOL, 50, -40)]
    assert pool_swaps([swap]) == [PoolSwap(POOL, 57, -40)]
    assert pool_swaps([sent, swap, swap]) == [PoolSwap(POOL, 50, -40), PoolSwap(POOL, 57, -40)]


# ---------------------------------------------------------------- the journal

VAULT, HASH = Web3.to_checksum_address("0x" + "a" * 40), "0x" + "01" * 32
LINE = Entry(
    block=8,
    block_hash=HASH,
    time=1_700_000_000,
    reverted=False,
    nav=100_000 * WAD,
    predicted_fee=30 * WAD,
    predicted_impact=-2 * WAD,
    predicted_tax=0,
    predicted_gas=2**200,
    predicted_gas_used=400_000,
    predicted_drift=WAD // 100,
    fee=31 * WAD,
    impact=4 * WAD,
    tax=0,
    gas=2**201,
    gas_used=390_000,
    gas_wei=2**200,
    drift=WAD // 50,
    native_price=2_000 * WAD,
    why="pool 0x12 had moved: it paid 7.00 USD less than at block 7\nsecond reason",
)
UNPRICED = replace(LINE, predicted_gas=None, gas=None, native_price=None)
REVERTED = replace(
    LINE,
    reverted=True,
    predicted_fee=0,
    predicted_impact=0,
    predicted_gas=0,
    fee=0,
    impact=0,
    gas=5 * WAD,
    why="x",
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def sent(journal: Journal, chain_id: int = 1) -> int:
    run = journal.plan(VAULT, chain_id, 7, 3, "threshold", HASH, "{}", 999)
    nonce = journal.reserve(run, VAULT, 5, 5)
    journal.sent(run, SignedCall(f"0x{run:064x}", nonce, "0x02", VAULT, 21_000, Fees(2, 1)), 7, 1_700_000_000)
    return run


@pytest.mark.parametrize("line", [LINE, UNPRICED, REVERTED])
def test_the_journal_keeps_every_digit(journal: Journal, line: Entry) -> None:
    run = sent(journal)
    journal.confirmed(run, line)
    ((kept, found),) = Journal(journal.path).costs(VAULT)
    assert (kept.id, kept.status, found) == (run, Status.CONFIRMED, line)


@pytest.mark.parametrize("given_up", [True, False])
def test_a_mined_cancel_is_its_run_s_transaction_and_cost(journal: Journal, given_up: bool) -> None:
    run = sent(journal)
    (call,) = journal.attempts(1, VAULT, 5)
    if given_up:
        journal.failed(run, "too late")
    signed = SignedCall("0x" + "99" * 32, 5, "0x02", VAULT, 21_000, Fees(3, 2))
    cancel = journal.replaced(call, signed, Purpose.CANCEL, 8, 1_700_000_012, "" if given_up else "too late")
    journal.mined(cancel, Mined(9, HASH, 1_700_000_024, 7), Status.FAILED, cost=REVERTED)
    found = journal.run(run)
    assert (found.status, found.reason, found.tx_hash) == (Status.FAILED, "too late", cancel.tx_hash)
    assert [cost for _, cost in journal.costs(VAULT)] == [REVERTED]


def test_amounts_are_decimal_strings_in_the_file(journal: Journal) -> None:
    journal.confirmed(sent(journal), LINE)
    with closing(sqlite3.connect(journal.path)) as file:
        row = file.execute(
            "select fee, predicted_gas, typeof(fee), block, typeof(block) from costs"
        ).fetchone()
    assert row == (str(31 * WAD), str(2**200), "text", 8, "integer")


def test_the_run_and_its_costs_are_written_together_or_not_at_all(journal: Journal) -> None:
    run = sent(journal)
    with pytest.raises(IntegrityError):
        journal.confirmed(run, replace(LINE, why=None))  # type: ignore[arg-type]
    assert [one.status for one in journal.runs()] == [Status.SENT]
    assert journal.costs(VAULT) == []
    journal.confirmed(run, LINE)
    journal.confirmed(run, replace(LINE, fee=1))  # settled by two keepers: the last one counts, once
    assert [found.fee for _, found in journal.costs(VAULT)] == [1]


def test_a_dropped_run_is_to_be_settled_and_has_no_costs(journal: Journal) -> None:
    run = sent(journal)
    journal.failed(run, "reverted on chain", REVERTED)
    assert len(journal.costs(VAULT)) == 1
    journal.dropped(*journal.attempts(1, VAULT, 5))
    (left,) = journal.unfinished(VAULT, 1)
    assert (left.id, left.reason) == (run, "settled again: its block was replaced")
    assert journal.costs(VAULT) == []


def test_costs_are_per_vault_and_chain_and_the_latest_are_last(journal: Journal) -> None:
    for k, chain_id in enumerate((1, 1, 10, 1)):
        journal.confirmed(sent(journal, chain_id), replace(LINE, block=k))
    assert [found.block for _, found in journal.costs(VAULT)] == [0, 1, 2, 3]
    assert [found.block for _, found in journal.costs(VAULT, 1)] == [0, 1, 3]
    assert [found.block for _, found in journal.costs(VAULT, 1, latest=2)] == [1, 3]
    assert journal.costs(HASH) == []


# ---------------------------------------------------------------- the command


def costs(journal: Journal, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["costs", VAULT, "--journal", str(journal.path), *arguments])


def test_totals_add_up_by_cause() -> None:
    found = totals([LINE, UNPRICED, REVERTED])
    assert (found["fee"].predicted, found["fee"].realised, found["fee"].difference) == (
        60 * WAD,
        62 * WAD,
        2 * WAD,
    )
    assert (found["impact"].predicted, found["impact"].realised) == (-4 * WAD, 8 * WAD)
    assert (found["gas"].predicted, found["gas"].realised) == (2**200, 2**201 + 5 * WAD)
    assert found["fee"].predicted_bps == 6 and found["fee"].realised_bps == Fraction(62, 10)
    for side in ("predicted", "realised", "predicted_bps", "realised_bps"):
        assert getattr(found["total"], side) == sum(
            getattr(found[cause], side) for cause in ("fee", "impact", "gas")
        )


@pytest.mark.parametrize("others", [[], [replace(REVERTED, gas=None)]])
def test_gas_without_a_price_is_not_known_and_in_no_total(others: list[Entry]) -> None:
    found = totals([UNPRICED, *others])
    assert found["gas"] == Line(None, None, None, None)
    assert (found["gas"].difference, found["gas"].difference_bps) == (None, None)
    assert (found["total"].predicted, found["total"].realised) == (28 * WAD, 35 * WAD)


def test_costs_as_json(journal: Journal) -> None:
    for line in (UNPRICED, REVERTED):
        journal.confirmed(sent(journal), line)
    report = json.loads(costs(journal, "--json").stdout)
    assert (report["vault"], report["chain_id"]) == (VAULT, "1")
    assert (report["rebalances"], report["reverted"], report["without_gas_price"]) == ("1", "1", "1")
    assert report["totals"]["total"] == {
        "predicted_usd_wad": str(28 * WAD),
        "realised_usd_wad": str(40 * WAD),
        "difference_usd_wad": str(12 * WAD),
        "predicted_bps": 2.8,
        "realised_bps": 4.0,
        "difference_bps": 1.2,
    }
    first, second = report["entries"]
    assert first["costs"]["gas"]["realised_usd_wad"] is None
    assert first["why"] == LINE.why.splitlines()
    assert (first["gas_wei"], first["native_price_usd_wad"]) == (str(2**200), None)
    assert second["reverted"]
    assert [
        entry["run"] for entry in json.loads(costs(journal, "--json", "--last", "1").stdout)["entries"]
    ] == ["2"]


def test_costs_as_tables(journal: Journal) -> None:
    for line in (UNPRICED, REVERTED):
        journal.confirmed(sent(journal), line)
    shown = costs(journal).stdout
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert ["impact", "-2.0000", "4.0000", "6.0000", "-0.200", "0.400", "0.600"] in [
        [cell.strip() for cell in re.split(r"\s{2,}", line.strip())] for line in shown.splitlines()
    ]
    assert "2023-11-14 22:13 UTC, session 3: rebalance, NAV 100,000.00 USD" in shown
    assert "session 3: REVERTED" in shown
    assert "- pool 0x12 had moved: it paid 7.00 USD less than at block 7" in shown
    assert "gas: 390,000 units used (400,000 planned)" in shown
    assert "Gas of 1 of 2 transactions is left out: no price of the native token was set" in shown
    assert shown.startswith(f"Costs of {VAULT}\n")
    assert "All: 1 rebalance, 1 reverted transaction\n" in re.sub(" +\n", "\n", shown)
    assert "tax" not in shown
    assert "session" not in costs(journal, "--last", "0").stdout


def test_taxes_have_a_line_where_there_are_any(journal: Journal) -> None:
    journal.confirmed(sent(journal), replace(UNPRICED, tax=WAD))
    assert "tax" in costs(journal).stdout


def test_a_vault_without_costs_says_so(journal: Journal) -> None:
    result = costs(journal)
    assert result.exit_code == 0
    assert " ".join(result.stdout.split()).startswith(f"No costs of {VAULT} are in the journal yet")
    assert json.loads(costs(journal, "--json").stdout)["entries"] == []


def test_a_vault_on_two_chains_needs_the_chain(journal: Journal) -> None:
    for chain_id in (1, 10):
        journal.confirmed(sent(journal, chain_id), LINE)
    result = costs(journal)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: --chain-id: the journal has {VAULT} on chains 1, 10; name one of them\n"
    assert json.loads(costs(journal, "--json", "--chain-id", "10").stdout)["chain_id"] == "10"


def test_a_journal_that_is_not_there_is_named(journal: Journal, tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite"
    result = CliRunner().invoke(app, ["costs", VAULT, "--journal", str(missing)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: journal: no such file: {missing}")
    assert not missing.exists()
