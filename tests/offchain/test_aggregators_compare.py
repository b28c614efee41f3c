"""The own plan taken apart, and put together with quotes: random markets, everything exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from offchain import policy
from offchain.aggregators import Quote, compared, improve, requests_for, with_quotes
from offchain.aggregators.compare import MAX_ASKED, _flow, _rest, exchanges
from offchain.planner import Call, Plan, Problem, SwapV2, SwapV3, decode, plan
from offchain.planner.payload import MAX_PAYLOAD
from offchain.planner.problem import objective
from tests.support.market import EXECUTOR, random_problem

KEEPER, DESK = "0x" + "ce" * 20, "0x" + "77" * 20
SEEDS = range(24)


@pytest.fixture(scope="module", params=SEEDS)
def market(request: Any) -> tuple[Problem, Plan]:
    problem = random_problem(request.param, gas=request.param % 2 == 1)
    return problem, plan(problem)


def offers(problem: Problem, own: Plan, bps: int) -> list[Quote]:
    """A quote for every exchange that is asked about, so much better than the own route."""
    known = {exchange.pair: exchange.own_out for exchange in exchanges(problem, own)}
    quotes = []
    for request in requests_for(problem, own, 1, KEEPER):
        out = max(known[request.token_in, request.token_out] * (10_000 + bps) // 10_000, 1)
        quotes.append(Quote("desk", request, out, out * 995 // 1_000, DESK, DESK, b"swap" * 40))
    return quotes


def test_the_exchanges_add_up_to_the_plan(market: tuple[Problem, Plan]) -> None:
    problem, own = market
    flow = _flow(problem, own)
    state = problem.state
    spent = {leg.leg.token_in.lower() for leg in own.legs}
    for asset, sell, before, after in zip(
        state.assets, own.sells, state.balances, own.balances_after, strict=True
    ):
        token = asset.token.lower()
        sold = sum(units for (source, _), units in flow.sold.items() if source == token)
        bought = sum(units for (_, sink), units in flow.bought.items() if sink == token)
        assert sold <= sell
        assert sold == before - after or token not in spent or after >= before
        assert bought == max(after - before, 0)
    assert all(sum(shares.values()) == 1 for shares in flow.share)


def test_with_nothing_replaced_the_rest_is_the_own_plan(market: tuple[Problem, Plan]) -> None:
    problem, own = market
    legs, _, after = _rest(problem, own, _flow(problem, own), set())
    assert tuple(legs) == own.legs
    assert tuple(after.values()) == own.balances_after


@pytest.mark.parametrize("bps", [-5, 0, 30])
def test_a_combination_beats_the_own_plan_even_at_its_proofs_minimums(
    market: tuple[Problem, Plan], bps: int
) -> None:
    problem, own = market
    quotes = offers(problem, own, bps)
    found = with_quotes(problem, own, quotes, 1)
    if found is None:
        return
    assert objective(problem, found.balances_after) <= objective(problem, found.worst)
    if not problem.gas_price:
        assert objective(problem, found.worst) < objective(problem, own.balances_after)
    assert found.verdict is not None and found.verdict.ok
    state = replace(problem.state, time=problem.now)
    for after in (found.balances_after, found.worst):
        assert policy.check_rebalance(
            state, own.sells, after, own.session, problem.now, problem.now, executor=EXECUTOR
        ).ok
    assert len(found.payload) == len(found.proof) <= MAX_PAYLOAD
    for sent, proven in zip(decode(found.payload), decode(found.proof), strict=True):
        if isinstance(sent, SwapV2 | SwapV3):
            assert isinstance(proven, SwapV2 | SwapV3)
            assert sent.min_out <= proven.min_out
        elif isinstance(sent, Call) and sent.data.startswith(bytes.fromhex("a9059cbb")):
            assert isinstance(proven, Call)
            assert sent.data <= proven.data  # the minimum is its last word


def test_better_quotes_are_used_nearly_always() -> None:
    """But where the rules refuse the gain, since a purchase may not pass its target."""
    traded = used = all_used = 0
    for seed in range(0, 40, 2):
        problem = random_problem(seed)
        own = plan(problem)
        if own.trades:
            single = [with_quotes(problem, own, [quote]) for quote in offers(problem, own, 5)]
            traded += 1
            used += any(single)
            all_used += all(single)
    assert traded > 10
    assert used > traded * 8 // 10
    assert all_used > traded // 2


def test_no_more_is_asked_than_venues_allow(market: tuple[Problem, Plan]) -> None:
    problem, own = market
    assert len(requests_for(problem, own, 1, KEEPER)) <= MAX_ASKED


def test_a_plan_that_does_not_trade_is_left_alone() -> None:
    problem = random_problem(3)
    idle = replace(plan(problem), sells=(0,) * len(problem.state.assets), legs=(), payload=b"")
    assert requests_for(problem, idle, 1, KEEPER) == ()
    found = improve(problem, idle, (), lambda _: ("", 0))
    assert (found.trades, found.choice) == (False, "own route")


def test_every_quote_has_a_line_for_people() -> None:
    problem = random_problem(0)
    own = plan(problem)
    (quote, *_) = offers(problem, own, 30)
    lines = compared(problem, own, [quote, replace(quote, amount_out=0, reason="cannot be reached")])
    asked = f"desk: {quote.request.amount_in} of {quote.request.token_in} for {quote.request.token_out}"
    assert lines[0].startswith(f"{asked}: {quote.amount_out}, own route ")
    assert lines[0].endswith(" bps")
    assert lines[1] == f"{asked}: cannot be reached"
