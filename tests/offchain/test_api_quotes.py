"""Quotes of the Zap, recomputed: what the legs pay on the pools one after another, and what the Zap makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offchain.api.problems import CannotRoute
from offchain.api.quotes import Market, Zapped, pairs_for, zap_in, zap_out
from offchain.planner import Pool, decode
from offchain.planner.payload import SwapV2, SwapV3
from offchain.policy import WAD
from tests.support.api import CASH, COIN, DECIMALS, GOLD, HUB, USD, pool, vault_state

POOLS = (
    pool(1, GOLD, CASH, 3_000_000),
    pool(2, COIN, CASH, 1_000_000),
    pool(3, HUB, CASH, 20_000_000, 5),
    pool(4, GOLD, HUB, 500_000),
)
SCALES = {token.lower(): 10**d for token, d in DECIMALS.items()}
MARKET = Market(POOLS, {token.lower(): price for token, price in USD.items()}, SCALES)


def run(payload: bytes, held: dict[str, int], pools: tuple[Pool, ...] = POOLS) -> dict[str, int]:
    """What the executor's caller and the executor hold after the legs, as contracts/Executor.vy does them."""
    now = {p.address.lower(): p for p in pools}
    executor = {token.lower(): units for token, units in held.items()}
    caller: dict[str, int] = {}
    for leg in decode(payload):
        assert isinstance(leg, SwapV2 | SwapV3)
        there = executor.get(leg.token_in, 0)
        amount = there if leg.whole_balance else min(leg.amount_in, there)
        executor[leg.token_in] = there - amount
        used = now[leg.pool]
        paid, now[leg.pool] = used.swap(leg.token_in, amount)
        assert paid * leg.amount_in >= leg.min_out * amount
        token = used.token1 if leg.token_in == used.token0.lower() else used.token0
        to = caller if leg.to_caller else executor
        to[token.lower()] = to.get(token.lower(), 0) + paid
    for token, units in executor.items():  # swept
        caller[token] = caller.get(token, 0) + units
    return caller


@pytest.mark.parametrize("token", [HUB, CASH, GOLD, COIN])
@pytest.mark.parametrize("usd", [10, 5_000, 100_000])
def test_shares_are_what_the_zap_will_mint(token: str, usd: int) -> None:
    state, melting = vault_state(), 700 * WAD
    amount = usd * WAD * 10 ** DECIMALS[token] // USD[token]
    quote = zap_in(state, melting, token, amount, MARKET, 50)
    held = run(quote.payload, {token: amount})
    supply = state.supply - melting
    rows = list(zip(state.assets, state.balances, strict=True))
    shares = min(held.get(a.token.lower(), 0) * supply // q for a, q in rows)
    assert shares == quote.expected and quote.least == shares * 9_950 // 10_000
    used = {a.token.lower(): -(-q * shares // supply) for a, q in rows}
    left = {t: units - used.get(t, 0) for t, units in held.items() if units > used.get(t, 0)}
    assert left == {leftover.token.lower(): leftover.units for leftover in quote.leftovers}
    assert_adds_up(quote)
    value = sum(leftover.value or 0 for leftover in quote.leftovers)
    assert value * 1_000 < (quote.value_in or 0)  # what comes back is dust: less than 0.1 %


def assert_adds_up(quote: Zapped) -> None:
    assert quote.costs is not None and quote.value_in is not None and quote.value_out is not None
    back = sum(leftover.value or 0 for leftover in quote.leftovers)
    assert quote.costs.total == quote.value_in - quote.value_out - back
    assert quote.costs.total == quote.costs.fee + quote.costs.impact + quote.costs.other
    assert quote.costs.fee > 0


@pytest.mark.parametrize("token", [HUB, CASH, GOLD])
@pytest.mark.parametrize("skip", [0, 2])
def test_what_is_paid_out_is_what_the_pools_pay(token: str, skip: int) -> None:
    state, shares = vault_state(), 2_000 * WAD
    quote = zap_out(state, token, shares, skip, MARKET, 100)
    rows = list(zip(state.assets, state.balances, strict=True))
    redeemed = {a.token: 0 if skip >> i & 1 else q * shares // state.supply for i, (a, q) in enumerate(rows)}
    assert list(quote.redeemed) == list(redeemed.values())
    held = run(quote.payload, redeemed)
    assert held[token.lower()] == quote.expected and quote.least == quote.expected * 99 // 100
    assert {t: u for t, u in held.items() if u and t != token.lower()} == {}
    assert not skip or all(
        COIN.lower() not in (leg.token_in.lower(), leg.token_out.lower()) for leg in quote.legs
    )
    assert_adds_up(quote)


def test_routes_through_one_pool_are_priced_one_after_the_other() -> None:
    """Both coin and cash are reached through one shallow pool: priced alone, each would be promised too much."""
    shallow = (pool(1, GOLD, CASH, 3_000_000), pool(2, COIN, CASH, 1_000_000), pool(3, HUB, CASH, 60_000))
    market = replace(MARKET, pools=shallow)
    quote = zap_in(vault_state(), 0, HUB, 20_000 * 10**6, market, 50)
    through = [leg for leg in quote.legs if leg.pool.address == shallow[2].address]
    assert len(through) == 3
    held = run(quote.payload, {HUB: 20_000 * 10**6}, shallow)
    state = vault_state()
    assert quote.expected == min(
        held[a.token.lower()] * state.supply // q for a, q in zip(state.assets, state.balances, strict=True)
    )


def test_a_token_in_between_that_is_no_asset_is_named_so_that_its_rest_is_returned() -> None:
    state = vault_state(
        assets=vault_state().assets[:2], balances=(25 * 10**18, 60_000_000), prices=(USD[GOLD], USD[COIN])
    )
    quote = zap_in(state, 0, HUB, 1_000 * 10**6, MARKET, 50)
    assert quote.via == (CASH,)
    last = [leg for leg in decode(quote.payload) if leg.token_in == CASH.lower()][-1]  # type: ignore[union-attr]
    assert last.whole_balance  # type: ignore[union-attr]
    assert run(quote.payload, {HUB: 10**9}).get(CASH.lower(), 0) == 0


def test_what_cannot_be_done_is_refused_in_words() -> None:
    state = vault_state()
    for amount, market in (
        (0, MARKET),
        (1, MARKET),
        (10**9, replace(MARKET, pools=POOLS[:1])),
        (2**127, MARKET),
    ):
        with pytest.raises(CannotRoute):
            zap_in(state, 0, HUB, amount, market, 50)
    with pytest.raises(CannotRoute, match="too few"):
        zap_out(state, HUB, 1, 0, MARKET, 50)
    with pytest.raises(CannotRoute, match="too few"):
        zap_out(state, HUB, WAD, 7, MARKET, 50)
    with pytest.raises(CannotRoute, match="holds nothing"):
        zap_in(vault_state(balances=(0, 0, 0)), 0, HUB, 10**9, MARKET, 50)


def test_without_a_price_there_is_a_quote_but_no_cost() -> None:
    blind = replace(MARKET, prices={})
    quote = zap_in(vault_state(), 0, HUB, 1_000 * 10**6, blind, 50)
    assert quote.expected > 0 and quote.costs is None and quote.value_in is None and quote.value_out is None


def test_a_large_basket_is_reached_through_the_hub_only() -> None:
    many = [f"0x{n:040x}" for n in range(1, 13)]
    assert len(pairs_for(many, CASH, HUB)) == 12 + 12 + 1
    assert len(pairs_for(many[:3], CASH, HUB)) == 10  # every two of five
