"""Quotes carried out: vault, executor, Uniswap pools and router in bytecode, behind local servers that speak as 0x.

What a candidate is simulated with here is what a keeper uses `eth_call` for: the call is made and undone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import vyper
from pydantic import SecretStr
from vyper.compiler.settings import Settings as CompilerSettings

from offchain import policy
from offchain.aggregators import AggregatedPlan, Quote, QuoteRequest, ask, improve, requests_for, with_quotes
from offchain.aggregators.base import Http
from offchain.aggregators.compare import exchanges
from offchain.aggregators.zeroex import ZeroEx
from offchain.planner import Call, Plan, Pool, Problem, Sweep, V2Pool, decode, encode, plan
from offchain.planner.problem import objective
from offchain.policy import WAD, Asset, Mode, Rules, Session, VaultState
from tests.support import aggregators as shapes
from tests.support.aggregators import Answer, Asked, Server, serving
from tests.support.basket import RULES, Basket, units_of
from tests.support.evm import DEPLOYER, Contract, Evm, Reverted, artifact, uniswap_artifact
from tests.support.venue import FOREVER, MAX, V2, V2_FEE_BPS, call_data, send
from tests.support.world import KEEPER

ORIGIN = KEEPER
CHAIN = 1
DECIMALS = (6, 18, 8, 18)
PRICES = (WAD, 250 * WAD, 40_000 * WAD, 3 * WAD)
USDT = 1 | 256  # WeirdToken: returns nothing, and an allowance must be 0 before it is changed

DESK = """
# pragma version 0.4.3
from ethereum.ercs import IERC20

short: public(uint256)  # parts of 10,000 that it keeps of what it promised
thief: public(address)

@external
def set_short(short: uint256):
    self.short = short

@external
def swap(token_in: IERC20, amount_in: uint256, token_out: IERC20, amount_out: uint256):
    extcall token_in.transferFrom(msg.sender, self, amount_in, default_return_value=True)
    extcall token_out.transfer(msg.sender, amount_out * (10_000 - self.short) // 10_000, default_return_value=True)

@external
def grab(token_in: IERC20, amount_in: uint256, token_out: IERC20, amount_out: uint256, other: IERC20):
    extcall token_in.transferFrom(msg.sender, self, amount_in, default_return_value=True)
    extcall token_out.transfer(msg.sender, amount_out, default_return_value=True)
    held: uint256 = staticcall other.balanceOf(msg.sender)
    extcall other.transferFrom(msg.sender, self, held, default_return_value=True)
"""


@cache
def desk_code() -> dict[str, Any]:
    """A venue that pays what its calldata says, less what the test told it to keep; or takes more than it should."""
    settings = CompilerSettings(evm_version="paris")
    return vyper.compile_code(DESK, output_formats=["abi", "bytecode"], settings=settings)


@dataclass
class Bourse:
    """A vault of four tokens, the own V2 pools against the first, and venues that the own planner does not know."""

    basket: Basket
    executor: Contract
    pairs: list[Contract]
    router: Contract  # of another V2 exchange
    direct: Contract  # its pair of the second and the third token
    desk: Contract
    seeds: list[int] = field(default_factory=list)

    @property
    def evm(self) -> Evm:
        return self.basket.evm

    @property
    def tokens(self) -> list[Contract]:
        return self.basket.tokens

    def held(self, account: str) -> list[int]:
        return [units_of(token, account) for token in self.tokens]

    def problem(self, dollars: tuple[int, ...], **options: Any) -> Problem:
        """The vault holds that many dollars of each token."""
        for token, price, decimals, usd in zip(self.tokens, PRICES, DECIMALS, dollars, strict=True):
            wanted = usd * WAD * 10**decimals // price - units_of(token, self.basket.vault.address)
            assert wanted >= 0
            send(token, "mint", self.basket.vault.address, wanted)
        config = self.basket.config()
        assets = tuple(Asset(a[0], decimals, *a[2:]) for a, decimals in zip(config[2], DECIMALS, strict=True))
        rules = Rules(Mode(RULES["mode"]), *list(RULES.values())[1:])
        state = VaultState(
            assets, rules, Session(slot=policy.calendar_slot(rules, self.evm.now)),
            tuple(self.basket.vault.call("balances")), PRICES, (0,) * 4, WAD, self.evm.now,
            vault=self.basket.vault.address, oracle=self.basket.oracle.address,
        )  # fmt: skip
        return Problem(state, self.pools(), self.executor.address, "", self.evm.now, **options)

    def pools(self) -> tuple[Pool, ...]:
        return tuple(self.pool(pair) for pair in self.pairs)

    def pool(self, pair: Contract) -> V2Pool:
        sides = pair.call("token0"), pair.call("token1")
        return V2Pool(pair.address, *sides, V2_FEE_BPS, *pair.call("getReserves")[:2])

    def rebalance(self, found: Plan, payload: bytes | None = None) -> None:
        self.basket.vault.call(
            "rebalance", found.sells, self.executor.address, found.payload if payload is None else payload,
            bytes(32), found.session, self.evm.now + 600, sender=KEEPER,
        )  # fmt: skip

    def simulate(self, found: Plan) -> Callable[[bytes], tuple[str, int]]:
        """What a node says to a payload, without doing it."""

        def run(payload: bytes) -> tuple[str, int]:
            before = self.evm.snapshot()
            try:
                self.rebalance(found, payload)
                return "", self.evm.gas_used
            except Reverted as error:
                return error.reason, 0
            finally:
                self.evm.revert(before)

        return run

    def clean(self) -> None:
        """The executor keeps nothing: no token, and no allowance to any venue."""
        assert self.held(self.executor.address) == [0, 0, 0, 0]
        for token in self.tokens:
            for venue in (self.router, self.desk):
                assert token.call("allowance", self.executor.address, venue.address) == 0


@pytest.fixture(scope="module")
def built() -> Bourse:
    evm = Evm()
    test_token, weird = artifact("TestToken"), artifact("WeirdToken")
    tokens = [evm.deploy(test_token, f"T{k}", f"T{k}", d) for k, d in enumerate(DECIMALS)]
    tokens[2] = evm.deploy(weird, DECIMALS[2], USDT)
    basket = Basket(evm, tokens, list(PRICES))
    seeds = [250 * WAD * 10**d // p for d, p in zip(DECIMALS, PRICES, strict=True)]
    basket.create(seeds)

    def pair(factory: Contract, a: int, b: int, usd: int) -> Contract:
        made = evm.at(
            factory.call("createPair", tokens[a].address, tokens[b].address),
            uniswap_artifact(f"{V2}/UniswapV2Pair.json"),
        )
        for k in (a, b):
            send(tokens[k], "mint", made.address, usd * WAD * 10 ** DECIMALS[k] // PRICES[k])
        made.call("mint", DEPLOYER)
        return made

    own, other = (evm.deploy(uniswap_artifact(f"{V2}/UniswapV2Factory.json"), DEPLOYER) for _ in range(2))
    pairs = [pair(own, 0, k, 4_000_000) for k in (1, 2, 3)]
    direct = pair(other, 1, 2, 20_000_000)
    router = evm.deploy(
        uniswap_artifact("v2-periphery/build/UniswapV2Router02.json"), other.address, DEPLOYER
    )
    desk = evm.deploy(desk_code())
    for token in tokens:
        send(token, "mint", desk.address, 10**30)
    return Bourse(basket, evm.deploy(artifact("Executor")), pairs, router, direct, desk)


@pytest.fixture
def bourse(built: Bourse) -> Iterator[Bourse]:
    before = built.evm.snapshot()
    yield built
    built.evm.revert(before)


# ---------------------------------------------------------------- venues behind HTTP

OVER = (20_000, 40_000, 20_000, 20_000)  # the second token is to be sold for the three others
TWO = (24_000, 36_000, 12_000, 28_000)  # two tokens over, two under


def by_router(bourse: Bourse, promise_bps: int = 0) -> Callable[[Asked], Answer]:
    """0x with one source, the other exchange's pair; `promise_bps` more is offered than it pays."""
    pool = bourse.pool(bourse.direct)
    known = {pool.token0.lower(), pool.token1.lower()}

    def script(asked: Asked) -> Answer:
        sold, bought, amount = (asked.query[k] for k in ("sellToken", "buyToken", "sellAmount"))
        if {sold.lower(), bought.lower()} != known:
            return Answer(shapes.ZEROEX_NONE)
        pays = pool.amount_out(sold, int(amount))
        least = pays * (10_000 - int(asked.query["slippageBps"])) // 10_000
        data = call_data(
            bourse.router, "swapExactTokensForTokens", int(amount), least, [sold, bought],
            asked.query["taker"], FOREVER,
        )  # fmt: skip
        promise = pays * (10_000 + promise_bps) // 10_000
        where = bourse.router.address
        return Answer(shapes.zeroex(asked, promise, least, where, where, "0x" + data.hex()))

    return script


def offered(problem: Problem, own: Plan, server: Server) -> tuple[Quote, ...]:
    """What the server's venue says to the own plan's exchanges."""
    venue = ZeroEx(Http(5), server.url, SecretStr("key"))
    return ask([venue], requests_for(problem, own, CHAIN, ORIGIN), 10)


def quoted(bourse: Bourse, problem: Problem, own: Plan, script: Callable[[Asked], Answer]) -> AggregatedPlan:
    with serving(script) as server:
        quotes = offered(problem, own, server)
    return improve(problem, own, quotes, bourse.simulate(own), 2)


def gain(problem: Problem, own: Plan, found: Plan) -> int:
    return objective(problem, own.balances_after) - objective(problem, found.balances_after)


def index(bourse: Bourse, where: str) -> int:
    return next(k for k, token in enumerate(bourse.tokens) if token.address.lower() == where.lower())


def at_desk(bourse: Bourse, request: QuoteRequest, pays: int, name: str = "swap", *more: Any) -> Quote:
    """A quote of the desk, which pays what its calldata says."""
    data = call_data(bourse.desk, name, request.token_in, request.amount_in, request.token_out, pays, *more)
    least = pays * (10_000 - request.slippage_bps) // 10_000
    return Quote("desk", request, pays, least, bourse.desk.address, bourse.desk.address, data)


# ---------------------------------------------------------------- better quotes are carried out


def test_a_better_route_is_carried_out_and_pays_what_it_says(bourse: Bourse) -> None:
    """Direct through the other exchange for one pair, own pools for the rest: two fees less on that part."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    found = quoted(bourse, problem, own, by_router(bourse))
    assert [call.venue for call in found.calls] == ["0x"]
    assert found.legs  # the rest stays with the own pools
    assert found.choice.startswith("0x: in simulation at least ")
    assert found.method == "joint with 0x"
    sold = found.calls[0].request.amount_in
    assert allowances(found.payload) == allowances(found.proof) == [0, sold, 0]
    bourse.rebalance(found)
    assert tuple(bourse.basket.vault.call("balances")) == found.balances_after  # to the wei
    assert gain(problem, own, found) > 5 * WAD
    bourse.clean()


def test_the_own_route_does_worse_on_the_same_chain(bourse: Bourse) -> None:
    """The neighbour of the test above: what the vault would have got without the quote."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    bourse.rebalance(own)
    assert tuple(bourse.basket.vault.call("balances")) == own.balances_after


def test_all_exchanges_can_go_to_venues(bourse: Bourse) -> None:
    problem = bourse.problem(TWO)
    own = plan(problem)
    wanted = requests_for(problem, own, CHAIN, ORIGIN)
    assert len(wanted) > 1
    prices = {e.pair: e.own_out * 10_060 // 10_000 for e in exchanges(problem, own)}
    quotes = [at_desk(bourse, r, prices[r.token_in.lower(), r.token_out.lower()]) for r in wanted]
    found = improve(problem, own, quotes, bourse.simulate(own), 2)
    assert len(found.calls) == len(wanted)
    assert not found.legs
    assert found.trades
    bourse.rebalance(found)
    assert tuple(bourse.basket.vault.call("balances")) == found.balances_after
    bourse.clean()


def test_an_allowance_that_somebody_left_is_no_obstacle(bourse: Bourse) -> None:
    """Anyone can make the executor approve; this token refuses to change an allowance that is not 0."""
    weird = bourse.tokens[2]
    problem = bourse.problem((20_000, 20_000, 40_000, 20_000))
    own = plan(problem)
    assert own.sells[2]
    approve = Call(weird.address, call_data(weird, "approve", bourse.router.address, 7))
    bourse.executor.call("execute", encode([approve]))
    assert weird.call("allowance", bourse.executor.address, bourse.router.address) == 7
    found = quoted(bourse, problem, own, by_router(bourse))
    assert found.calls
    bourse.rebalance(found)
    assert tuple(bourse.basket.vault.call("balances")) == found.balances_after
    bourse.clean()


def test_gas_can_take_the_gain_away_by_promise(bourse: Bourse) -> None:
    """A venue that says its call needs next to nothing is not believed."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    best = quoted(bourse, problem, own, by_router(bourse))
    dear = replace(problem, gas_price=gain(problem, own, best) // 40_000)  # a call costs some 100,000 more
    quotes = [replace(quote, gas=1) for quote in best.quotes]
    assert with_quotes(replace(problem, gas_price=1), own, quotes) is not None
    assert with_quotes(dear, own, quotes) is None


def test_gas_can_take_the_gain_away_as_measured(bourse: Bourse) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    best = quoted(bourse, problem, own, by_router(bourse))
    better = gain(problem, own, best)
    problem = replace(problem, gas_price=better // 10**6)

    def using(more: int) -> Callable[[bytes], tuple[str, int]]:
        return lambda payload: ("", 300_000 if payload == own.payload else 300_000 + more)

    assert improve(problem, own, best.quotes, using(0), 2).calls
    found = improve(problem, own, best.quotes, using(2 * 10**6), 2)
    assert not found.calls
    assert "its gas of 2300000 takes the gain away" in found.choice


# ---------------------------------------------------------------- worse, lying and hostile ones are not


def test_a_worse_quote_is_not_used(bourse: Bourse) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    (first, *_) = exchanges(problem, own)
    found = improve(
        problem, own, [at_desk(bourse, request, first.own_out * 99 // 100)], bourse.simulate(own), 2
    )
    assert not found.calls
    assert found.payload == own.payload
    assert found.choice == "own route: no quote of desk beats it by 2 bps"


def test_a_quote_better_by_less_than_the_margin_is_not_used(bourse: Bourse) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    quote = at_desk(bourse, request, exchanges(problem, own)[0].own_out * 10_010 // 10_000)
    assert improve(problem, own, [quote], bourse.simulate(own), 2).calls
    assert not improve(problem, own, [quote], bourse.simulate(own), 200).calls


def test_a_venue_that_promises_more_than_it_pays_is_found_out(bourse: Bourse) -> None:
    """It pays 1 % less than the own route and promises 2 % more."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    pays = exchanges(problem, own)[0].own_out * 99 // 100
    lying = replace(at_desk(bourse, request, pays), amount_out=pays * 103 // 100, venue="liar")
    assert with_quotes(problem, own, [lying]) is not None  # by promise it is the best
    found = improve(problem, own, [lying], bourse.simulate(own), 2)
    assert not found.calls
    assert "liar not used: " in found.choice
    assert found.payload == own.payload


def test_a_little_less_than_offered_is_still_better(bourse: Bourse) -> None:
    """The proof asks for what beats the own route, not for the whole offer."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    out = exchanges(problem, own)[0].own_out
    quote = replace(at_desk(bourse, request, out * 10_030 // 10_000), amount_out=out * 10_040 // 10_000)
    found = improve(problem, own, [quote], bourse.simulate(own), 2)
    assert found.calls
    bourse.rebalance(found)
    after = tuple(bourse.basket.vault.call("balances"))
    assert after != found.balances_after
    assert all(got >= least for got, least in zip(after, found.worst, strict=True))
    assert objective(problem, after) < objective(problem, own.balances_after)


def test_a_proof_holds_for_the_own_legs_too(bourse: Bourse) -> None:
    """Somebody trades in an own pool first: what is sent would still be accepted, but it proves nothing any more."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    quote = at_desk(bourse, request, exchanges(problem, own)[0].own_out * 10_040 // 10_000)
    found = improve(problem, own, [quote], bourse.simulate(own), 2)
    assert found.calls and found.legs
    leg = found.legs[0].leg
    token = bourse.tokens[index(bourse, leg.token_in)]
    send(token, "mint", bourse.executor.address, leg.amount_in // 100)
    bourse.executor.call("execute", encode([replace(leg, amount_in=leg.amount_in // 100, min_out=0)]))
    bourse.executor.call("sweep", [other.address for other in bourse.tokens])
    assert bourse.simulate(own)(found.payload)[0] == ""
    late = improve(problem, own, [quote], bourse.simulate(own), 2)
    assert not late.calls
    assert "desk not used: leg paid too little" in late.choice


def test_the_honest_one_is_used_beside_a_liar(bourse: Bourse) -> None:
    problem = bourse.problem(TWO)
    own = plan(problem)
    prices = {e.pair: e.own_out for e in exchanges(problem, own)}
    quotes = []
    for request in requests_for(problem, own, CHAIN, ORIGIN):
        out = prices[request.token_in.lower(), request.token_out.lower()]
        quotes.append(at_desk(bourse, request, out * 10_040 // 10_000))
        lie = at_desk(bourse, request, out * 9_900 // 10_000)
        quotes.append(replace(lie, amount_out=out * 10_090 // 10_000, venue="liar"))
    found = improve(problem, own, quotes, bourse.simulate(own), 2)
    assert {call.venue for call in found.calls} == {"desk"}
    assert len(found.calls) == len(quotes) // 2
    bourse.rebalance(found)
    assert tuple(bourse.basket.vault.call("balances")) == found.balances_after


def theft(bourse: Bourse) -> tuple[Problem, Plan, AggregatedPlan]:
    """A plan with a quote whose calldata takes the tokens and pays nothing."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    promise = exchanges(problem, own)[0].own_out * 10_100 // 10_000
    quote = replace(at_desk(bourse, request, 0), amount_out=promise, min_out=promise)
    stolen = with_quotes(problem, own, [quote])
    assert stolen is not None
    return problem, own, stolen


def test_theft_is_found_out_in_simulation(bourse: Bourse) -> None:
    problem, own, stolen = theft(bourse)
    found = improve(problem, own, stolen.calls, bourse.simulate(own), 2)
    assert not found.calls
    assert "desk not used: " in found.choice


def test_theft_reverts_even_where_nobody_simulates(bourse: Bourse) -> None:
    """First by the minimum in the payload; without that by the vault's rules."""
    _, _, stolen = theft(bourse)
    before = bourse.held(bourse.basket.vault.address)
    with pytest.raises(Reverted):
        bourse.rebalance(stolen)
    bare = [leg for leg in decode(stolen.payload) if not is_minimum(leg)]
    assert len(bare) == len(decode(stolen.payload)) - 1
    with pytest.raises(Reverted, match=r"^(loss above slippage|drift fell too little)$"):
        bourse.rebalance(stolen, encode(bare))
    assert bourse.held(bourse.basket.vault.address) == before


def allowances(payload: bytes) -> list[int]:
    """What the executor approves, in order."""
    approve = bytes.fromhex("095ea7b3")  # approve(address,uint256)
    data = [leg.data for leg in decode(payload) if isinstance(leg, Call) and leg.data.startswith(approve)]
    return [int.from_bytes(words[-32:]) for words in data]


def is_minimum(leg: Any) -> bool:
    return isinstance(leg, Call) and leg.data[:4].hex() == "a9059cbb"  # transfer(address,uint256)


def test_what_a_two_faced_venue_can_take_is_the_tolerance_of_a_leg(bourse: Bourse) -> None:
    """Honest while it is simulated; then it keeps something."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    quote = at_desk(bourse, request, exchanges(problem, own)[0].own_out * 10_100 // 10_000)
    found = improve(problem, own, [quote], bourse.simulate(own), 2)
    assert found.calls
    before = bourse.evm.snapshot()
    bourse.desk.call("set_short", problem.leg_tolerance_bps + 1)
    with pytest.raises(Reverted):
        bourse.rebalance(found)
    bourse.evm.revert(before)
    bourse.desk.call("set_short", problem.leg_tolerance_bps - 1)
    bourse.rebalance(found)
    bought = index(bourse, request.token_out)
    least = found.balances_after[bought] - quote.amount_out * problem.leg_tolerance_bps // 10_000
    assert bourse.held(bourse.basket.vault.address)[bought] >= least


def test_a_venue_cannot_take_what_is_meant_for_another(bourse: Bourse) -> None:
    """It made the executor approve it beforehand, and grabs the other call's tokens while they are there."""
    problem = bourse.problem(TWO)
    own = plan(problem)
    wanted = requests_for(problem, own, CHAIN, ORIGIN)
    sold = {r.token_in.lower() for r in wanted}
    assert len(sold) == 2
    out = {e.pair: e.own_out * 10_050 // 10_000 for e in exchanges(problem, own)}
    quotes = [at_desk(bourse, r, out[r.token_in.lower(), r.token_out.lower()]) for r in wanted]
    other = next(token for token in sold if token != wanted[0].token_in.lower())
    first = at_desk(bourse, wanted[0], quotes[0].amount_out + 1, "grab", other)
    token = bourse.tokens[index(bourse, other)]
    approve = Call(other, call_data(token, "approve", bourse.desk.address, MAX))
    bourse.executor.call("execute", encode([approve]))
    greedy = replace(first, venue="greedy")
    candidate = with_quotes(problem, own, [greedy, *quotes[1:]])
    assert candidate is not None and greedy in candidate.calls
    with pytest.raises(Reverted):
        bourse.rebalance(candidate)
    found = improve(problem, own, [greedy, *quotes[1:]], bourse.simulate(own), 2)
    assert found.calls != candidate.calls
    bourse.rebalance(found)
    assert tuple(bourse.basket.vault.call("balances")) == found.balances_after


@pytest.mark.parametrize(
    ("role", "who", "words"),
    [
        ("target", "token", "it wants the executor to call an asset"),
        ("target", "vault", "it wants the executor to call the vault"),
        ("target", "oracle", "it wants the executor to call the oracle"),
        ("target", "executor", "it wants the executor to call the executor"),
        ("spender", "vault", "it wants the executor to approve the vault"),
        ("spender", "zero", "it wants the executor to approve nobody"),
    ],
)
def test_some_addresses_are_never_called_nor_approved(
    bourse: Bourse, role: str, who: str, words: str
) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    address = {
        "token": bourse.tokens[3].address,
        "vault": bourse.basket.vault.address,
        "oracle": bourse.basket.oracle.address,
        "executor": bourse.executor.address,
        "zero": "0x" + "00" * 20,
    }[who]
    quote = at_desk(bourse, request, exchanges(problem, own)[0].own_out * 2)
    found = improve(problem, own, [replace(quote, **{role: address})], bourse.simulate(own), 2)
    assert not found.calls
    assert found.choice.endswith(f"desk not used: {words}")


@pytest.mark.parametrize("times", [6, 2**200])
def test_an_absurd_promise_is_refused_by_the_rules(bourse: Bourse, times: int) -> None:
    """Six times as much would be a great gain, and more drift than before: the vault would refuse it."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    promise = exchanges(problem, own)[0].own_out * times
    quote = replace(at_desk(bourse, request, 1), amount_out=promise)
    assert with_quotes(problem, own, [quote]) is None


@pytest.mark.parametrize("change", [{"amount_in": 1}, {"token_out": "0x" + "99" * 20}, {"taker": KEEPER}])
def test_a_quote_for_something_else_is_left_out(bourse: Bourse, change: dict[str, Any]) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    quote = at_desk(bourse, request, exchanges(problem, own)[0].own_out * 10_050 // 10_000)
    assert with_quotes(problem, own, [quote]) is not None
    assert with_quotes(problem, own, [replace(quote, request=replace(request, **change))]) is None


def test_calldata_that_does_not_fit_is_left_out(bourse: Bourse) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    quote = at_desk(bourse, request, exchanges(problem, own)[0].own_out * 10_050 // 10_000)
    assert with_quotes(problem, own, [replace(quote, data=quote.data + bytes(7_000))]) is not None
    assert with_quotes(problem, own, [replace(quote, data=quote.data + bytes(8_000))]) is None


def test_slow_dead_and_empty_venues_leave_the_own_route(bourse: Bourse) -> None:
    problem = bourse.problem(OVER)
    own = plan(problem)
    wanted = requests_for(problem, own, CHAIN, ORIGIN)
    with (
        serving(lambda _: Answer({}, delay=3.0)) as slow,
        serving(lambda _: Answer(shapes.ZEROEX_NONE)) as empty,
    ):
        with serving(lambda _: Answer({})) as dead:
            pass
        venues = [ZeroEx(Http(0.3), server.url, SecretStr("key")) for server in (slow, empty, dead)]
        quotes = [quote for venue in venues for quote in ask([venue], wanted[:1], 3.0)]
    assert [quote.reason for quote in quotes] == [
        "no answer within 0.3 s",
        "it has no liquidity for this",
        "cannot be reached",
    ]
    found = improve(problem, own, quotes, bourse.simulate(own), 2)
    assert found.payload == own.payload
    assert found.quotes == tuple(quotes)


# ---------------------------------------------------------------- many markets

CASES = 60


def test_whatever_is_offered_the_outcome_is_as_predicted_and_never_worse(bourse: Bourse) -> None:
    """Random holdings and random offers of the desk, some of them lies."""
    used = partly = lies = 0
    for seed in range(CASES):
        before = bourse.evm.snapshot()
        rng = random.Random(seed)
        dollars = tuple(int(30_000 * rng.uniform(0.5, 1.5)) for _ in DECIMALS)
        options = {"gas_price": rng.choice((0, 10**11)), "leg_tolerance_bps": rng.choice((10, 50, 100))}
        problem = bourse.problem(dollars, **options)
        own = plan(problem)
        quotes = []
        if own.trades:
            out = {e.pair: e.own_out for e in exchanges(problem, own)}
            for request in requests_for(problem, own, CHAIN, ORIGIN):
                fair = out[request.token_in.lower(), request.token_out.lower()]
                pays = int(fair * rng.uniform(0.995, 1.01))
                quote = at_desk(bourse, request, pays)
                lie = rng.random() < 0.2
                quotes.append(replace(quote, amount_out=pays * 101 // 100, venue="liar") if lie else quote)
            found = improve(problem, own, quotes, bourse.simulate(own), 1)
            used += bool(found.calls)
            partly += bool(found.calls and found.legs)
            lies += "liar not used" in found.choice
            assert with_quotes(problem, own, found.calls, 1) is not None or not found.calls
            bourse.rebalance(found)
            after = tuple(bourse.basket.vault.call("balances"))
            if all(call.venue == "desk" for call in found.calls):
                assert after == found.balances_after, seed
            assert objective(problem, after) <= objective(problem, own.balances_after) or problem.gas_price, (
                seed
            )
            if found.calls:
                assert all(got >= least for got, least in zip(after, found.worst, strict=True)), seed
            bourse.clean()
        bourse.evm.revert(before)
    assert used > CASES // 3
    assert partly > CASES // 6
    assert lies > CASES // 12


def test_sweeps_leave_nothing_when_a_venue_takes_less(bourse: Bourse) -> None:
    """A venue that sells only half of what it was given: the rest goes back to the vault."""
    problem = bourse.problem(OVER)
    own = plan(problem)
    (request, *_) = requests_for(problem, own, CHAIN, ORIGIN)
    pays = exchanges(problem, own)[0].own_out * 10_050 // 10_000
    data = call_data(bourse.desk, "swap", request.token_in, request.amount_in // 2, request.token_out, pays)
    quote = replace(at_desk(bourse, request, pays), data=data)
    found = with_quotes(problem, own, [quote])
    assert found is not None
    assert isinstance(decode(found.payload)[-1], Sweep)
    bourse.rebalance(found)
    bourse.clean()
