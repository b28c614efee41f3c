"""The own route against outside quotes. Pure: quotes, and the node's answers, come in as data and functions.

1. `exchanges` takes the own plan apart: how much of each sold asset becomes which bought asset, along its legs.
2. `with_quotes` puts calls of venues in the place of some or all exchanges, shrinks the own legs by what they no longer
   carry, predicts those to the wei, and keeps the combination with the lowest objective (`planner.problem`).
3. `improve` lets the node decide. The candidate carries a second payload, its proof: the same calls with minimums so
   high that, whatever happens inside a venue, an outcome that is accepted beats the own plan by the margin. Only if the
   node runs the proof is the candidate used; what is sent then allows each leg the usual tolerance.

An executor's CALL has no minimum of its own. `transfer(vault, minimum)` of the bought token right after it is one: it
reverts when the call paid less. What was paid beyond it is swept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak

from offchain import policy
from offchain.aggregators.base import Quote, QuoteRequest
from offchain.errors import EvenkeelError
from offchain.planner.payload import Call, Leg, SwapV2, Sweep, decode, encode
from offchain.planner.pools import Pool
from offchain.planner.problem import (
    BPS,
    GAS_REBALANCE,
    GAS_SWEEP,
    GAS_V2,
    GAS_V3,
    Costs,
    Plan,
    PlannedLeg,
    Problem,
    objective,
    tax_of,
)
from offchain.policy import Verdict

__all__ = [
    "AggregatedPlan",
    "Exchange",
    "compared",
    "exchanges",
    "improve",
    "refusal",
    "requests_for",
    "with_quotes",
]

GAS_CALL = 200_000  # of a venue's call, at least: what a venue says below that is not believed
GAS_AROUND = 100_000  # of the three approvals and the transfer around it
MAX_ASKED = 6  # exchanges: venues allow one to three requests a second
FINE = 10**9  # a shortfall is measured in parts of this

Pair = tuple[str, str]  # token sold, token bought; lower case
Simulate = Callable[
    [bytes], tuple[str, int]
]  # payload -> why the node refuses it or "", gas or 0: not measured


@dataclass(frozen=True, slots=True)
class Exchange:
    """A part of the own plan that others are asked about."""

    token_in: str
    token_out: str
    amount_in: int  # token units
    own_out: int  # what the own route pays for it

    @property
    def pair(self) -> Pair:
        """Its key."""
        return self.token_in.lower(), self.token_out.lower()


@dataclass(frozen=True, slots=True)
class AggregatedPlan(Plan):
    """A plan, what venues were asked and offered, and which of the offers it uses."""

    calls: tuple[Quote, ...] = ()  # carried out by this plan
    quotes: tuple[Quote, ...] = ()  # all that were asked for
    choice: str = ""  # what was chosen, and why
    proof: bytes = b""  # payload with the minimums that prove the gain
    worst: tuple[int, ...] = ()  # balances after, where every call pays no more than the proof's minimum
    margin_bps: int = 0  # by which the proof shows it to be better

    @property
    def trades(self) -> bool:
        """There is something to submit."""
        return bool(self.legs or self.calls)


def exchanges(problem: Problem, own: Plan) -> tuple[Exchange, ...]:
    """The own plan as amounts of sold assets that become bought ones, the largest first."""
    flow = _flow(problem, own)
    prices = {
        a.token.lower(): (p, a.scale) for a, p in zip(problem.state.assets, problem.state.prices, strict=True)
    }

    def value(exchange: Exchange) -> int:
        price, scale = prices[exchange.token_in]
        return exchange.amount_in * price // scale

    found = [Exchange(*pair, int(sold), int(flow.bought[pair])) for pair, sold in flow.sold.items()]
    worth = [e for e in found if e.amount_in and value(e) >= problem.min_leg_value]
    return tuple(sorted(worth, key=lambda e: (-value(e), e.pair)))


def requests_for(problem: Problem, own: Plan, chain_id: int, origin: str) -> tuple[QuoteRequest, ...]:
    """What to ask of every venue, the largest exchanges first; `origin`: the account that signs."""
    tolerance = problem.leg_tolerance_bps
    return tuple(
        QuoteRequest(chain_id, e.token_in, e.token_out, e.amount_in, problem.executor, origin, tolerance)
        for e in exchanges(problem, own)[:MAX_ASKED]
    )


def compared(problem: Problem, own: Plan, quotes: Sequence[Quote]) -> tuple[str, ...]:
    """A line a quote, for people: what it offers beside what the own route pays, or why there is no offer."""
    known = {e.pair: e.own_out for e in exchanges(problem, own)}
    lines = []
    for quote in quotes:
        asked = quote.request
        line = f"{quote.venue}: {asked.amount_in} of {asked.token_in} for {asked.token_out}"
        ours = known.get(_pair(quote), 0)
        if quote.amount_out and ours:
            line += f": {quote.amount_out}, own route {ours}, {(quote.amount_out / ours - 1) * BPS:+.1f} bps"
        lines.append(f"{line}: {quote.reason}" if quote.reason else line)
    return tuple(lines)


def refusal(problem: Problem, quote: Quote) -> str:
    """Why a quote must not be carried out, "" if it may be tried; what it does there is for the node and the vault."""
    if quote.reason:
        return quote.reason
    state = problem.state
    named = {state.vault: "the vault", state.oracle: "the oracle", problem.executor: "the executor"}
    named |= {asset.token: "an asset" for asset in state.assets} | {"0x" + "00" * 20: "nobody"}
    known = {address.lower(): who for address, who in named.items()}
    for role, address in (("call", quote.target), ("approve", quote.spender)):
        if address.lower() in known:
            return f"it wants the executor to {role} {known[address.lower()]}"
    if quote.request.taker.lower() != problem.executor.lower():
        return "it is for another taker than the executor"
    return ""


def with_quotes(
    problem: Problem, own: Plan, quotes: Sequence[Quote], margin_bps: int = 0
) -> AggregatedPlan | None:
    """The best combination of the own legs and these quotes by promise; None where none beats the own plan.

    `margin_bps`: of the value that the quotes exchange, by which the objective must be lower.
    """
    problem = replace(problem, state=replace(problem.state, time=problem.now))
    offers = {e.pair: e for e in exchanges(problem, own)}
    usable = [
        quote
        for quote in quotes
        if not refusal(problem, quote)
        and (exchange := offers.get(_pair(quote))) is not None
        and exchange.amount_in == quote.request.amount_in
    ]
    flow = _flow(problem, own)

    def made(chosen: Mapping[Pair, Quote]) -> AggregatedPlan | None:
        try:
            return _carried_out(problem, own, flow, chosen, margin_bps)
        except EvenkeelError:  # a rest that no pool takes, a payload too long: not this combination
            return None

    best: AggregatedPlan | None = None
    for start in ({}, {_pair(q): q for q in sorted(usable, key=lambda q: q.amount_out)}):
        chosen: dict[Pair, Quote] = start
        here = made(chosen) if chosen else None
        while True:  # one more, or another, quote as long as that helps
            tried = [{**chosen, _pair(q): q} for q in usable if chosen.get(_pair(q)) is not q]
            plans = [(plan, one) for one in tried if (plan := made(one)) is not None]
            step = min(plans, key=lambda found: _cost(problem, found[0]), default=None)
            if step is None or (here is not None and _cost(problem, step[0]) >= _cost(problem, here)):
                break
            here, chosen = step
        if here is not None and (best is None or _cost(problem, here) < _cost(problem, best)):
            best = here
    return _proven(problem, own, flow, best, margin_bps) if best else None


def improve(
    problem: Problem, own: Plan, quotes: Sequence[Quote], simulate: Simulate, margin_bps: int = 0
) -> AggregatedPlan:
    """The own plan, or a combination with quotes that the node has shown to be better by the margin."""
    left = list(quotes)
    refused = [f"{q.venue} not used: {why}" for q in quotes if q.executable and (why := refusal(problem, q))]

    def doubt(plan: AggregatedPlan) -> str:
        reason, gas = simulate(plan.proof)
        if reason or not problem.gas_price or not gas:
            return reason
        own_gas = simulate(own.payload)[1] or _gas(own.payload)  # measured against measured
        gain = objective(problem, own.balances_after, own_gas) - objective(problem, plan.worst, gas)
        enough = gain >= _margin(problem, plan.calls, margin_bps)
        return "" if enough else f"its gas of {gas} takes the gain away"

    while (candidate := with_quotes(problem, own, left, margin_bps)) is not None:
        reason = doubt(candidate)
        if not reason:
            gain = _gain(problem, own, candidate.worst, _gas(candidate.proof, candidate.calls))
            choice = (
                f"{_names(candidate.calls)}: in simulation at least {_usd(gain)} better than the own route"
            )
            said = "; ".join([choice, *refused])
            return replace(candidate, quotes=tuple(quotes), choice=said, margin_bps=margin_bps)
        alone = [(quote, with_quotes(problem, own, [quote], margin_bps)) for quote in candidate.calls]
        blame = [(quote, doubt(plan) if plan else "not better alone") for quote, plan in alone]
        for quote, why in [one for one in blame if one[1]] or [(candidate.calls[-1], reason)]:
            refused.append(f"{quote.venue} not used: {why}")
            left = [other for other in left if other is not quote]
    choice = (
        f"own route: no quote of {_names(quotes)} beats it by {margin_bps} bps" if quotes else "own route"
    )
    kept = {name: getattr(own, name) for name in Plan.__dataclass_fields__}
    return AggregatedPlan(
        **kept, quotes=tuple(quotes), choice="; ".join([choice, *refused]), margin_bps=margin_bps
    )


# ---------------------------------------------------------------- the own plan taken apart


@dataclass(frozen=True, slots=True)
class _Flow:
    """Where the own plan's tokens come from and go to; exact fractions, as if every token were well mixed."""

    sold: dict[Pair, Fraction]  # units of the first token that become the second
    bought: dict[Pair, Fraction]  # units of the second that it becomes
    share: tuple[dict[Pair, Fraction], ...]  # by leg: how much of it serves which pair


def _flow(problem: Problem, own: Plan) -> _Flow:
    sources = {a.token.lower(): sell for a, sell in zip(problem.state.assets, own.sells, strict=True) if sell}
    basket = {asset.token.lower() for asset in problem.state.assets}
    inflow = {token: {token: Fraction(sell)} for token, sell in sources.items()}
    origin = []  # by leg: share of each source in what it sells
    bought: dict[Pair, Fraction] = {}
    for leg in own.legs:  # every token's legs run after all that pay it
        token, out = leg.leg.token_in.lower(), leg.token_out.lower()
        total = sum(inflow[token].values(), Fraction(0))
        origin.append({source: units / total for source, units in inflow[token].items()})
        for source, part in origin[-1].items():
            if leg.leg.to_caller:
                bought[source, out] = bought.get((source, out), Fraction(0)) + part * leg.expected_out
            else:
                at = inflow.setdefault(out, {})
                at[source] = at.get(source, Fraction(0)) + part * leg.expected_out
    target: list[dict[str, Fraction]] = [{}] * len(
        own.legs
    )  # by leg: share of each bought asset in what it becomes
    of_token: dict[str, dict[str, Fraction]] = {}
    spent: dict[str, int] = {}
    for place in reversed(range(len(own.legs))):
        leg = own.legs[place]
        token, out = leg.leg.token_in.lower(), leg.token_out.lower()
        target[place] = (
            {out: Fraction(1)}
            if leg.leg.to_caller
            else _goes_to(out, of_token, spent, inflow, sources, basket)
        )
        at = of_token.setdefault(token, {})
        for sink, part in target[place].items():
            at[sink] = at.get(sink, Fraction(0)) + part * leg.amount_in
        spent[token] = spent.get(token, 0) + leg.amount_in
    for token, units in inflow.items():  # bought assets that also pass through: what the vault keeps of them
        kept = sum(units.values(), Fraction(0)) - spent.get(token, 0)
        if token in basket and token not in sources and kept > 0:
            for source, held in units.items():
                total = sum(units.values(), Fraction(0))
                bought[source, token] = bought.get((source, token), Fraction(0)) + kept * held / total
    share = tuple(
        {(source, sink): a * b for source, a in origin[place].items() for sink, b in target[place].items()}
        for place in range(len(own.legs))
    )
    sold: dict[Pair, Fraction] = {}
    for leg, shares in zip(own.legs, share, strict=True):
        for pair, part in shares.items():
            if pair[0] == leg.leg.token_in.lower():
                sold[pair] = sold.get(pair, Fraction(0)) + part * leg.amount_in
    return _Flow(sold, {pair: bought.get(pair, Fraction(0)) for pair in sold}, share)


def _goes_to(
    token: str,
    of_token: dict[str, dict[str, Fraction]],
    spent: dict[str, int],
    inflow: dict[str, dict[str, Fraction]],
    sources: dict[str, int],
    basket: set[str],
) -> dict[str, Fraction]:
    """What a token at the executor becomes: shares of the bought assets, itself where the vault keeps some."""
    units = dict(of_token.get(token, {}))
    kept = sum(inflow[token].values(), Fraction(0)) - spent.get(token, 0)
    if token in basket and token not in sources and kept > 0:
        units[token] = units.get(token, Fraction(0)) + kept
    total = sum(units.values(), Fraction(0))
    return {sink: part / total for sink, part in units.items()} if total else {token: Fraction(1)}


# ---------------------------------------------------------------- a combination carried out


def _carried_out(
    problem: Problem, own: Plan, flow: _Flow, chosen: Mapping[Pair, Quote], margin_bps: int
) -> AggregatedPlan | None:
    """The plan with these quotes, without proof, if it beats the own one by the margin and the rules accept it."""
    legs, at_hand, after = _rest(problem, own, flow, set(chosen))
    quotes = tuple(chosen.values())
    end = _after(after, quotes, [quote.amount_out for quote in quotes])
    swept = tuple(token for token, left in at_hand.items() if left > 0 and token in after)
    least = [_least(quote, problem.leg_tolerance_bps) for quote in quotes]
    payload = _payload(problem, [planned.leg for planned in legs], quotes, least, swept)
    gas = _gas(payload, quotes)
    verdict = _verdict(problem, own, end)
    if not verdict.ok or _gain(problem, own, end, gas) < max(_margin(problem, quotes, margin_bps), 1):
        return None
    lost = policy.nav(problem.state) - policy.nav(problem.state, end)
    return AggregatedPlan(
        own.sells, payload, tuple(legs), end, own.session, "", verdict, _explained(problem, own, quotes),
        Costs(0, lost, gas * problem.gas_price, tax_of(problem, end)),  # a venue's fee shows in its price only
        own.drift_before, sum(policy.drifts(problem.state, end)),
        None,  # the own route's bound says nothing of other venues
        f"{own.method} with {_names(quotes)}", quotes,
    )  # fmt: skip


def _proven(
    problem: Problem, own: Plan, flow: _Flow, plan: AggregatedPlan, margin_bps: int
) -> AggregatedPlan:
    """The plan with its proof: own legs pay as predicted, every call the least that still beats the own plan."""
    legs, at_hand, after = _rest(problem, own, flow, {_pair(quote) for quote in plan.calls})
    wanted = max(_margin(problem, plan.calls, margin_bps), 1)
    gas = _gas(plan.payload, plan.calls)

    def minimums(shortfall: int) -> list[int]:
        """Every call pays that many parts of FINE less than it offers, rounded up."""
        return [quote.amount_out - quote.amount_out * shortfall // FINE for quote in plan.calls]

    def better(shortfall: int) -> bool:
        end = _after(after, plan.calls, minimums(shortfall))
        return _gain(problem, own, end, gas) >= wanted and _verdict(problem, own, end).ok

    low, high = 0, problem.leg_tolerance_bps * FINE // BPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if better(middle) else (low, middle)
    exact = [replace(planned.leg, min_out=planned.expected_out) for planned in legs]
    swept = [token for token, left in at_hand.items() if left > 0 and token in after]
    proof = _payload(problem, exact, plan.calls, minimums(low), swept)
    return replace(plan, proof=proof, worst=_after(after, plan.calls, minimums(low)))


def _after(rest: Mapping[str, int], quotes: Sequence[Quote], paid: Sequence[int]) -> tuple[int, ...]:
    """Balances after, in the order of the assets: the rest, and what the calls pay."""
    end = dict(rest)
    for quote, units in zip(quotes, paid, strict=True):
        end[quote.request.token_out.lower()] += units
    return tuple(end.values())


def _verdict(problem: Problem, own: Plan, after: Sequence[int]) -> Verdict:
    return policy.check_rebalance(
        problem.state, own.sells, after, own.session, problem.now, problem.now, executor=problem.executor
    )


def _rest(
    problem: Problem, own: Plan, flow: _Flow, taken: set[Pair]
) -> tuple[list[PlannedLeg], dict[str, int], dict[str, int]]:
    """The own legs without the exchanges that were taken out, predicted to the wei.

    With it: what they leave at the executor, by token, and the vault's balances after, without what the calls pay.
    """
    state = problem.state
    tokens = [asset.token.lower() for asset in state.assets]
    at_hand = {token: sell for token, sell in zip(tokens, own.sells, strict=True) if sell}
    for pair in taken:
        at_hand[pair[0]] -= int(flow.sold[pair])
    after = {token: q - s for token, q, s in zip(tokens, state.balances, own.sells, strict=True)}
    pools: dict[str, Pool] = {pool.address.lower(): pool for pool in problem.pools}
    shares = [1 - sum((part for pair, part in s.items() if pair in taken), Fraction(0)) for s in flow.share]
    kept = [place for place, part in enumerate(shares) if part > 0]
    last = {own.legs[place].leg.token_in.lower(): place for place in kept}
    whole = {leg.leg.token_in.lower() for leg in own.legs if leg.leg.whole_balance} - {
        pair[0] for pair in taken
    }
    legs: list[PlannedLeg] = []
    for place in kept:
        planned, swap = own.legs[place], own.legs[place].leg
        token, out, pool = swap.token_in.lower(), planned.token_out.lower(), swap.pool.lower()
        everything = token in whole and last[token] == place
        amount = (
            at_hand.get(token, 0)
            if everything
            else min(int(planned.amount_in * shares[place]), at_hand.get(token, 0))
        )
        if amount == 0:
            continue
        paid, pools[pool] = pools[pool].swap(swap.token_in, amount)
        least = paid * (BPS - problem.leg_tolerance_bps) // BPS
        leg = replace(swap, amount_in=amount, min_out=least, whole_balance=everything)
        legs.append(PlannedLeg(leg, planned.token_out, amount, paid, least))
        at_hand[token] -= amount
        if swap.to_caller:
            after[out] += paid
        else:
            at_hand[out] = at_hand.get(out, 0) + paid
    for token in tokens:  # what stays is swept
        after[token] += at_hand.get(token, 0)
    return legs, at_hand, after


def _payload(
    problem: Problem,
    swaps: Sequence[Leg],
    quotes: Sequence[Quote],
    minimums: Sequence[int],
    tail: Sequence[str],
) -> bytes:
    """Own legs, what they leave, then the calls one by one, each with its approval, its minimum and its sweep."""
    sold = {quote.request.token_in.lower() for quote in quotes}
    legs = [*swaps, *(Sweep(token) for token in tail if token not in sold)]
    for quote, least in zip(quotes, minimums, strict=True):
        token_in, token_out = quote.request.token_in, quote.request.token_out
        legs += [
            Call(token_in, _erc20("approve", quote.spender, 0)),  # some tokens refuse to change an allowance
            Call(token_in, _erc20("approve", quote.spender, quote.request.amount_in)),
            Call(quote.target, quote.data),
            Call(token_in, _erc20("approve", quote.spender, 0)),
            Call(token_out, _erc20("transfer", problem.state.vault, least)),
            Sweep(token_out),
        ]
    return encode([*legs, *(Sweep(token) for token in sorted(sold))])


def _erc20(name: str, who: str, units: int) -> bytes:
    return keccak(text=f"{name}(address,uint256)")[:4] + abi_encode(["address", "uint256"], [who, units])


def _least(quote: Quote, tolerance_bps: int) -> int:
    """What is sent asks for the venue's own minimum, or the tolerance of any leg where that is more."""
    return max(quote.min_out, quote.amount_out * (BPS - tolerance_bps) // BPS)


def _explained(problem: Problem, own: Plan, quotes: Sequence[Quote]) -> tuple[str, ...]:
    """The own plan's sentence an asset, and which venues trade it instead."""
    sentences = own.explanations or ("",) * len(problem.state.assets)
    traded: list[str] = []
    for asset, sentence in zip(problem.state.assets, sentences, strict=True):
        names = sorted({q.venue for q in quotes if asset.token.lower() in _pair(q)})
        traded.append(f"{sentence}; through {', '.join(names)}" if names else sentence)
    return tuple(traded)


# ---------------------------------------------------------------- comparison


def _pair(quote: Quote) -> Pair:
    return quote.request.token_in.lower(), quote.request.token_out.lower()


def _gas(payload: bytes, calls: Sequence[Quote] = ()) -> int:
    """Of a rebalance with this payload."""
    total = GAS_REBALANCE + sum(max(quote.gas, GAS_CALL) + GAS_AROUND for quote in calls)
    for leg in decode(payload):
        if not isinstance(leg, Call):
            total += GAS_SWEEP if isinstance(leg, Sweep) else GAS_V2 if isinstance(leg, SwapV2) else GAS_V3
    return total


def _cost(problem: Problem, plan: AggregatedPlan) -> int:
    return objective(problem, plan.balances_after, _gas(plan.payload, plan.calls))


def _gain(problem: Problem, own: Plan, after: Sequence[int], gas: int) -> int:
    """By how much an outcome's objective is below the own plan's, USD WAD."""
    return objective(problem, own.balances_after, _gas(own.payload)) - objective(problem, after, gas)


def _names(quotes: Sequence[Quote]) -> str:
    return ", ".join(dict.fromkeys(quote.venue for quote in quotes))


def _margin(problem: Problem, quotes: Sequence[Quote], margin_bps: int) -> int:
    """USD WAD, rounded up."""
    worth = {
        a.token.lower(): (p, a.scale) for a, p in zip(problem.state.assets, problem.state.prices, strict=True)
    }
    total = 0
    for quote in quotes:
        price, scale = worth[quote.request.token_in.lower()]
        total += quote.request.amount_in * price // scale
    return -(-total * margin_bps // BPS)


def _usd(value: int) -> str:
    return f"{value / policy.WAD:,.2f} USD"
