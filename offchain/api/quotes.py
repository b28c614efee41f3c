"""Quotes of the Zap: into a vault with one token, and out of it into one (contracts/Zap.vy).

Pure: a vault's state and pools in, calldata and what to expect out. `zap_in` spends the token so that each asset
arrives in the vault's proportions: what is spent on each is corrected by what it fetched, until all fit.
The routes are worked out one after another, each on the pools as the ones before leave them, and the legs run in that
order, so the outputs are what the chain pays if nothing else moves the pools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from offchain.api.problems import CannotRoute
from offchain.planner import Pool, SwapV2, SwapV3, V2Pool, encode
from offchain.planner.payload import from_route
from offchain.planner.pools import PIPS, same
from offchain.planner.route import Order, Route, RouteLeg, route
from offchain.policy import WAD, VaultState

__all__ = ["Costs", "Leftover", "Market", "Zapped", "pairs_for", "zap_in", "zap_out"]

ROUNDS = 8  # of spending again
CLOSE = 10**5  # the proportions fit when they differ by less than one part in this
FEW = 6  # assets up to which every pair's pools are read: the page waits for them
MAX_VIA = 8  # tokens that are no assets in a route, as the Zap takes them


@dataclass(frozen=True, slots=True)
class Market:
    """Where to swap. Prices: USD WAD per whole token, by lower-case address; not all are known."""

    pools: tuple[Pool, ...]
    prices: Mapping[str, int]
    scales: Mapping[str, int]  # token units in a whole token, by lower-case address
    gas_usd: int = 0  # USD WAD a unit of gas; 0: not known, and gas does not count

    def value(self, token: str, units: int) -> int | None:
        """USD WAD, rounded down; None without a price."""
        price = self.prices.get(token.lower())
        return None if price is None else units * price // self.scales[token.lower()]


@dataclass(frozen=True, slots=True)
class Leftover:
    """What comes back to the caller."""

    token: str
    units: int
    value: int | None  # USD WAD


@dataclass(frozen=True, slots=True)
class Costs:
    """USD WAD of what was put in; below 0: a gain. total = fee + impact + other."""

    total: int
    fee: int  # the pools'
    impact: int  # what the trades lose against the vault's oracle apart from that
    other: int  # rounding, and what entering pays for fee shares that melt


@dataclass(frozen=True, slots=True)
class Zapped:
    """What a zap does."""

    payload: bytes
    via: tuple[str, ...]
    legs: tuple[RouteLeg, ...]
    swaps: tuple[SwapV2 | SwapV3, ...]  # the legs as the executor gets them
    expected: int  # shares minted, or units of the token paid
    least: int  # of that: what the zap must give
    value_in: int | None  # USD WAD
    value_out: int | None  # USD WAD, without leftovers
    costs: Costs | None
    leftovers: tuple[Leftover, ...]
    redeemed: tuple[int, ...] = ()  # token units of each asset, of a zap out


def pairs_for(assets: Sequence[str], token: str, hub: str) -> list[tuple[str, str]]:
    """The pairs whose pools a zap may use: directly, through the hub, and in a small basket through any asset."""
    few = len(assets) <= FEW or not hub
    middles = [*([hub] if hub else []), *(assets if few else [])]
    found: dict[frozenset[str], tuple[str, str]] = {}
    for asset in assets:
        for a, b in [(token, asset), *((token, m) for m in middles), *((m, asset) for m in middles)]:
            if not same(a, b):
                found.setdefault(frozenset((a.lower(), b.lower())), (a, b))
    return list(found.values())


# ---------------------------------------------------------------- in


def zap_in(
    state: VaultState, melting: int, token: str, amount: int, market: Market, slippage_bps: int
) -> Zapped:
    """Spend `amount` of `token` on shares. `melting`: fee shares that still melt. Raises CannotRoute."""
    if amount == 0:
        raise CannotRoute("amount_units: nothing to spend")
    wanted = [i for i, held in enumerate(state.balances) if held > 0]
    if not wanted:
        raise CannotRoute("the vault holds nothing, so there is nothing to buy")
    spent = _first_guess(state, wanted, amount)
    best: tuple[int, list[_Bought]] | None = None
    for _ in range(ROUNDS):
        bought = _buy(state, token, spent, market)
        shares = _shares(state, melting, bought)
        if best is None or shares > best[0]:
            best = shares, bought
        again = _again(state, spent, bought, amount)
        if again is None:
            break
        spent = again
    assert best is not None
    shares, bought = best
    if shares == 0:
        raise CannotRoute("amount_units: too little for a single unit of shares")
    return _entered(state, melting, token, amount, market, slippage_bps, shares, bought)


@dataclass(frozen=True, slots=True)
class _Bought:
    asset: int
    spent: int  # of the token
    got: int  # of the asset
    route: Route | None  # None: the token is the asset


def _first_guess(state: VaultState, wanted: Sequence[int], amount: int) -> dict[int, int]:
    """By value; evenly where a price is missing."""
    held = {i: state.balances[i] * state.prices[i] // state.assets[i].scale for i in wanted}
    if not all(held.values()):
        held = dict.fromkeys(wanted, 1)
    return _divided(held, amount)


def _divided(parts: Mapping[int, int], amount: int) -> dict[int, int]:
    """`amount` in these proportions, at least 1 of each where there is enough; what rounding leaves to the largest."""
    total = sum(parts.values())
    found = {i: max(amount * part // total, 1) for i, part in parts.items()}
    largest = max(found, key=lambda i: found[i])
    found[largest] += amount - sum(found.values())
    if found[largest] <= 0:
        raise CannotRoute("amount_units: too little to buy every asset")
    return found


def _buy(state: VaultState, token: str, spent: Mapping[int, int], market: Market) -> list[_Bought]:
    found = []
    pools = market.pools
    for i, units in spent.items():
        asset = state.assets[i].token
        if same(asset, token):
            found.append(_Bought(i, units, units, None))
            continue
        way, pools = _exchange(token, asset, units, pools, market)
        found.append(_Bought(i, units, way.amount_out, way))
    return found


def _exchange(
    token_in: str, token_out: str, amount: int, pools: tuple[Pool, ...], market: Market
) -> tuple[Route, tuple[Pool, ...]]:
    """The best route for all of `amount`, and the pools after it."""
    price = market.prices.get(token_out.lower(), 0)
    gas = market.gas_usd * market.scales[token_out.lower()] * WAD // price if price else 0
    way = route(Order(token_in, token_out, amount, pools, gas_price=gas, max_legs=6))
    if way.amount_in < amount or way.amount_out == 0:
        why = way.reason or "too little to be paid anything"
        raise CannotRoute(f"{token_in} to {token_out}: {why}")
    after = {pool.address: pool for pool in pools}
    for leg in way.legs:
        after[leg.pool.address] = after[leg.pool.address].swap(leg.token_in, leg.amount_in)[1]
    return way, tuple(after.values())


def _shares(state: VaultState, melting: int, bought: Sequence[_Bought]) -> int:
    """As `Zap._affordable_shares`."""
    supply = state.supply - melting
    return min(b.got * supply // state.balances[b.asset] for b in bought)


def _again(
    state: VaultState, spent: Mapping[int, int], bought: Sequence[_Bought], amount: int
) -> dict[int, int] | None:
    """What to spend next; None when all assets came in the vault's proportions, or cannot come closer."""
    fetched = {
        b.asset: b.got * WAD // state.balances[b.asset] for b in bought
    }  # part of what the vault holds
    low, high = min(fetched.values()), max(fetched.values())
    if low == 0 or (high - low) * CLOSE <= high:
        return None
    cost = {b.asset: b.spent * WAD // fetched[b.asset] for b in bought}
    if not any(cost.values()):
        return None
    found = _divided(cost, amount)
    return None if found == dict(spent) else found


def _entered(
    state: VaultState,
    melting: int,
    token: str,
    amount: int,
    market: Market,
    slippage_bps: int,
    shares: int,
    bought: Sequence[_Bought],
) -> Zapped:
    supply = state.supply - melting
    used = {b.asset: -(-state.balances[b.asset] * shares // supply) for b in bought}
    left = [(state.assets[b.asset].token, b.got - used[b.asset]) for b in bought if b.got > used[b.asset]]
    ways = [b.route for b in bought if b.route is not None]
    legs, swaps = _legs(ways, slippage_bps, to_caller=True)
    leftovers = tuple(Leftover(t, units, market.value(t, units)) for t, units in left)
    value_in = market.value(token, amount)
    got = [market.value(state.assets[b.asset].token, b.got) for b in bought]
    back = [leftover.value for leftover in leftovers]
    nav = [market.value(a.token, q) for a, q in zip(state.assets, state.balances, strict=True)]
    value_out = _sum([nav_of and nav_of * shares // state.supply for nav_of in nav])
    return Zapped(
        payload=encode(list(swaps)),
        via=_via(legs, [a.token for a in state.assets], token),
        legs=legs,
        swaps=swaps,
        expected=shares,
        least=shares * (10_000 - slippage_bps) // 10_000,
        value_in=value_in,
        value_out=value_out,
        costs=_costs(value_in, _sum(got), value_out, _sum(back), _fees(ways, market)),
        leftovers=leftovers,
    )


# ---------------------------------------------------------------- out


def zap_out(
    state: VaultState, token: str, shares: int, skip: int, market: Market, slippage_bps: int
) -> Zapped:
    """Redeem `shares` into `token`, leaving the assets of the bitmask `skip`. Raises CannotRoute."""
    amounts = [
        0 if skip >> i & 1 else min(q, 2**128 - 1) * shares // state.supply
        for i, q in enumerate(state.balances)
    ]
    if not any(amounts):
        raise CannotRoute("shares_units: too few to be paid anything")
    left_out = {a.token.lower() for i, a in enumerate(state.assets) if skip >> i & 1}
    pools = tuple(
        p for p in market.pools if p.token0.lower() not in left_out and p.token1.lower() not in left_out
    )
    ways, paid = [], 0
    for asset, units in zip(state.assets, amounts, strict=True):
        if same(asset.token, token):
            paid += units
        elif units:
            way, pools = _exchange(asset.token, token, units, pools, market)
            ways.append(way)
            paid += way.amount_out
    legs, swaps = _legs(ways, slippage_bps, to_caller=True)
    value_in = _sum([market.value(a.token, units) for a, units in zip(state.assets, amounts, strict=True)])
    value_out = market.value(token, paid)
    redeemed = [a.token for i, a in enumerate(state.assets) if not skip >> i & 1]
    return Zapped(
        payload=encode(list(swaps)),
        via=_via(legs, redeemed, token),
        legs=legs,
        swaps=swaps,
        expected=paid,
        least=paid * (10_000 - slippage_bps) // 10_000,
        value_in=value_in,
        value_out=value_out,
        costs=_costs(value_in, value_out, value_out, 0, _fees(ways, market)),
        leftovers=(),
        redeemed=tuple(amounts),
    )


# ---------------------------------------------------------------- both


def _legs(
    ways: Sequence[Route], slippage_bps: int, *, to_caller: bool
) -> tuple[tuple[RouteLeg, ...], tuple[SwapV2 | SwapV3, ...]]:
    """All routes' legs in order. The last one that sells a token that others passed on sells whatever is left of it."""
    legs = [leg for way in ways for leg in way.legs]
    swaps = [s for way in ways for s in from_route(way, slippage_bps, to_caller=to_caller, whole=False)]
    passed = {leg.token_out.lower() for leg, swap in zip(legs, swaps, strict=True) if not swap.to_caller}
    last = {leg.token_in.lower(): place for place, leg in enumerate(legs)}
    for middle in passed & set(last):
        swaps[last[middle]] = replace(swaps[last[middle]], whole_balance=True)
    return tuple(legs), tuple(swaps)


def _via(legs: Sequence[RouteLeg], swept: Sequence[str], token: str) -> tuple[str, ...]:
    """Tokens of the route that the Zap would not look at by itself."""
    known = {t.lower() for t in (*swept, token)}
    found = {leg.token_out.lower(): leg.token_out for leg in legs if leg.token_out.lower() not in known}
    if len(found) > MAX_VIA:
        raise CannotRoute(f"the route passes through {len(found)} tokens; the zap takes {MAX_VIA}")
    return tuple(found.values())


def _fees(ways: Sequence[Route], market: Market) -> int | None:
    """What the pools take, USD WAD; a token in between is worth what was paid for it."""
    total = 0
    for way in ways:
        if not way.legs:
            continue
        first = way.legs[0].token_in
        worth: dict[str, tuple[int, int]] = {}  # by token in between: (USD WAD, units)
        for leg in way.legs:
            if same(leg.token_in, first):
                value = market.value(leg.token_in, leg.amount_in)
            else:
                usd, units = worth[leg.token_in.lower()]
                value = usd * leg.amount_in // units
            if value is None:
                return None
            fee = value * pool_fee_millionths(leg.pool) // PIPS
            total += fee
            usd, units = worth.get(leg.token_out.lower(), (0, 0))
            worth[leg.token_out.lower()] = usd + value - fee, units + leg.amount_out
    return total


def pool_fee_millionths(pool: Pool) -> int:
    """What the pool takes of what is sold to it."""
    return pool.fee_bps * 100 if isinstance(pool, V2Pool) else pool.fee


def _costs(
    value_in: int | None, bought: int | None, value_out: int | None, back: int | None, fees: int | None
) -> Costs | None:
    if value_in is None or bought is None or value_out is None or back is None or fees is None:
        return None
    total, traded = value_in - value_out - back, value_in - bought
    return Costs(total=total, fee=fees, impact=traded - fees, other=total - traded)


def _sum(values: Sequence[int | None]) -> int | None:
    return None if any(v is None for v in values) else sum(v or 0 for v in values)
