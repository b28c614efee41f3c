"""The reading routes of `/v1`: each asks the `Source`, at one block, and shapes what it says (docs/api.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from offchain import __version__, policy
from offchain.api import models, views
from offchain.api.models import Address, Units
from offchain.api.paging import Place, page
from offchain.api.prepare import prepare
from offchain.api.problems import Problem
from offchain.api.quotes import Leftover, Market, Zapped, pairs_for, pool_fee_millionths, zap_in, zap_out
from offchain.api.source import Source, TokenInfo
from offchain.chain.errors import NODE_ERRORS, ChainError
from offchain.chain.vault import BlockRef, Snapshot
from offchain.planner import V2Pool
from offchain.planner.pools import same

__all__ = ["Limits", "Quoter", "router"]

Limit = Annotated[int, Query(ge=1, le=200, description="most items of one answer")]
Cursor = Annotated[str | None, Query(max_length=80, description="`next_cursor` of the answer before")]
Ascending = Annotated[bool, Query(alias="asc", description="oldest first")]
Slippage = Annotated[int, Query(ge=1, le=1000, description="basis points")]
Skip = Annotated[int, Query(ge=0, lt=2**16, description="bitmask of assets to leave to the other holders")]
PROBLEM = {
    "model": models.ProblemBody,
    "description": "problem+json",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
}
router = APIRouter(prefix="/v1", responses={"4XX": PROBLEM, "5XX": PROBLEM, 422: PROBLEM})


@dataclass(frozen=True)
class Limits:
    """What the page is told, and what a quote is good for."""

    high_impact_bps: int = 100
    blocked_impact_bps: int = 500
    quote_seconds: int = 60
    deadline_seconds: int = 600
    block_age_seconds: int | None = 300  # above it the newest block counts as old; None: it may be of any age


def source_of(request: Request) -> Source:
    """The application's."""
    found: Source = request.app.state.source
    return found


def limits_of(request: Request) -> Limits:
    """The application's."""
    found: Limits = request.app.state.limits
    return found


Chain = Annotated[Source, Depends(source_of)]
Bounds = Annotated[Limits, Depends(limits_of)]


def served(source: Source, vault: str, block: BlockRef) -> str:
    """`vault`; Problem where it is none of this server's."""
    if not source.serves(vault, block):
        raise Problem("not_a_vault", f"{vault} is no vault that is served here (chain {source.chain_id})")
    return vault


def snapshot_of(source: Source, vault: str, block: BlockRef) -> Snapshot:
    """The vault's state; Problem where it is none."""
    served(source, vault, block)
    try:
        return source.snapshot(vault, block)
    except ChainError as error:
        if isinstance(error, NODE_ERRORS) or "not a vault" not in str(error):
            raise
        raise Problem(
            "not_a_vault", f"{vault} does not answer as a vault (chain {source.chain_id})"
        ) from None


# ---------------------------------------------------------------- the deployment


@router.get("/config", operation_id="config")
def config(source: Chain, limits: Bounds, request: Request) -> models.Config:
    """What is served: the chain, the contracts, the limits of quotes."""
    block, places = source.newest(), source.places
    hub = places.sources.hub
    demo = request.app.state.demo_wallet
    return models.Config(
        block=views.block_of(block),
        chain_id=source.chain_id,
        rpc_path="/rpc",
        version=__version__,
        factory=places.factory,
        lens=places.lens,
        zap=places.zap,
        executor=places.executor,
        native_token=places.sources.native_token or None,
        hub=_token(source.tokens([hub], block)[hub]) if hub else None,
        default_vault=next(iter(places.vaults), None),
        impact_limits_bps=models.ImpactLimits(high=limits.high_impact_bps, blocked=limits.blocked_impact_bps),
        quote_seconds=limits.quote_seconds,
        demo=models.Demo(wallet=demo, wallet_script="/demo-wallet.js") if demo else None,
    )


@router.get("/health", operation_id="health")
def health(source: Chain, limits: Bounds) -> models.Health:
    """Whether the node answers and its newest block is young. 200 also when it is not."""
    try:
        block = source.newest()
    except NODE_ERRORS as error:
        check = models.Check(name="node", ok=False, detail=f"does not answer ({type(error).__name__})")
        return models.Health(block=None, status="down", checks=[check])
    age = max(0, int(time.time()) - block.time)
    young = limits.block_age_seconds is None or age <= limits.block_age_seconds
    return models.Health(
        block=views.block_of(block),
        status="ok" if young else "degraded",
        checks=[
            models.Check(name="node", ok=True, detail="answers"),
            models.Check(name="newest_block", ok=young, detail=f"{age} s old"),
        ],
    )


# ---------------------------------------------------------------- vaults


@router.get("/vaults", operation_id="vaults")
def vaults(source: Chain, limit: Limit = 50, cursor: Cursor = None) -> models.Vaults:
    """The vaults that are served, oldest first."""
    block = source.newest()
    known = list(enumerate(source.known(block)))
    here, after = page(known, lambda item: (item[0], 0), cursor, limit, newest_first=False)
    found = source.snapshots([vault for _, vault in here], block)
    rows = [_line(source, vault, state, block) for (_, vault), state in zip(here, found, strict=True)]
    return models.Vaults(block=views.block_of(block), vaults=rows, next_cursor=after)


def _line(source: Source, vault: str, found: Snapshot | None, block: BlockRef) -> models.VaultSummary:
    if found is None:
        return views.unreadable(vault, "it does not answer as a vault, or it is in use in this block")
    names = source.tokens([asset.token for asset in found.state.assets], block)
    return views.summary(found, source.titles(vault, block), names)


@router.get("/vaults/{vault}", operation_id="vault")
def vault(source: Chain, vault: Address) -> models.VaultDetail:
    """All about one vault: holdings, targets, bands, drift, rules, roles, fees, tellers."""
    block = source.newest()
    found = snapshot_of(source, vault, block)
    tokens = [asset.token for asset in found.state.assets]
    extras = source.extras(vault, block)
    unheard = [
        not found.state.balances[i] and not source.readable(token, vault, block)
        for i, token in enumerate(tokens)
    ]
    return views.vault_detail(
        found,
        extras,
        source.tokens(tokens, block),
        unheard,
        _known(lambda: source.roles(vault, block)),
        source.tellers(vault, extras.timelock, block),
    )


def _known(read: Callable[[], Any]) -> Any:
    """What it says, or None where the chain does not tell; a node that does not answer is an error all the same."""
    try:
        return read()
    except ChainError as error:
        if isinstance(error, NODE_ERRORS):
            raise
        return None


@router.get("/vaults/{vault}/history", operation_id="history")
def history(
    source: Chain, vault: Address, limit: Limit = 50, cursor: Cursor = None, asc: Ascending = False
) -> models.History:
    """NAV, share price and holdings at each block for which the vault recorded prices, and now."""
    block = source.newest()
    now = snapshot_of(source, vault, block)
    events = source.events(vault, block)
    points = views.points(events, _baskets(source, vault, events, block), now)
    here, after = page(points, _place, cursor, limit, newest_first=not asc)
    return models.History(block=views.block_of(block), points=here, next_cursor=after)


@router.get("/vaults/{vault}/rebalances", operation_id="rebalances")
def rebalances(
    source: Chain, vault: Address, limit: Limit = 50, cursor: Cursor = None, asc: Ascending = False
) -> models.Rebalances:
    """Every rebalance, with what the vault hashed of it."""
    block = source.newest()
    served(source, vault, block)
    events = source.events(vault, block)
    found = views.rebalances(events, _baskets(source, vault, events, block))
    here, after = page(found, _place, cursor, limit, newest_first=not asc)
    return models.Rebalances(block=views.block_of(block), rebalances=here, next_cursor=after)


@router.get("/vaults/{vault}/flows", operation_id="flows")
def flows(
    source: Chain,
    vault: Address,
    account: Address | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    asc: Ascending = False,
) -> models.Flows:
    """Who came in and went out."""
    block = source.newest()
    served(source, vault, block)
    events = source.events(vault, block)
    then = _baskets(source, vault, events, block)
    found = [views.flow(e, b) for e, b in zip(events, then, strict=True) if e.name in views.FLOWS]
    if account is not None:
        found = [f for f in found if account in (f.account, f.receiver)]
    here, after = page(found, _place, cursor, limit, newest_first=not asc)
    return models.Flows(block=views.block_of(block), flows=here, next_cursor=after)


def _place(item: models.Point | models.Rebalance | models.Flow) -> Place:
    # `now` has no log: it comes after all of its block
    return item.block.number, item.log_index if item.log_index is not None else 10**18


def _baskets(source: Source, vault: str, events: Sequence[Any], block: BlockRef) -> list[views.Basket]:
    first = _known(lambda: source.first_basket(vault, block))
    tokens = views.tokens_of(events, first)
    decimals = {token: info.decimals for token, info in source.tokens(tokens, block).items()}
    return views.baskets(events, first, decimals)


@router.get("/vaults/{vault}/accounts/{account}", operation_id="account")
def account(source: Chain, vault: Address, account: Address) -> models.AccountState:
    """An account's shares, what they are worth and would pay in kind, and its tokens."""
    block = source.newest()
    found = snapshot_of(source, vault, block)
    state = found.state
    tokens = list(
        dict.fromkeys([*(a.token for a in state.assets), *filter(None, [source.places.sources.hub])])
    )
    has = source.account(vault, account, tokens, block)
    names = source.tokens(tokens, block)
    priced = policy.usable(state)
    paid = policy.redeem_amounts(state, has.shares) if state.supply else [0] * len(state.assets)
    heard = [
        state.balances[i] > 0 or source.readable(a.token, vault, block) for i, a in enumerate(state.assets)
    ]
    return models.AccountState(
        block=views.block_of(block),
        vault=vault,
        account=account,
        shares_units=str(has.shares),
        value_usd_wad=str(policy.nav(state) * has.shares // state.supply)
        if priced and state.supply
        else None,
        in_kind=[
            models.NamedUnits(
                token=a.token,
                symbol=names[a.token].symbol,
                decimals=a.decimals,
                units=str(units) if ok else None,
            )
            for a, units, ok in zip(state.assets, paid, heard, strict=True)
        ],
        native_units=str(has.native),
        balances=[
            models.WalletUnits(
                token=token,
                symbol=names[token].symbol,
                decimals=names[token].decimals,
                units=_text(wallet.balance),
                allowance_vault_units=_text(wallet.allowance_vault),
                allowance_zap_units=_text(wallet.allowance_zap),
            )
            for token, wallet in has.wallets.items()
        ],
    )


@router.get("/vaults/{vault}/lots", operation_id="lots")
def lots(
    source: Chain,
    vault: Address,
    account: Address,
    method: Literal["fifo", "lifo", "hifo", "average"] = "fifo",
    wash_days: Annotated[int, Query(ge=0, le=366)] = 30,
    year: Annotated[int | None, Query(ge=1970, le=9999)] = None,
) -> models.Lots:
    """An account's tax lots of the vault's shares: what was sold of which, and what is left with its gain."""
    from offchain.audit.lots import Method, match
    from offchain.show.tax import report_json

    block = source.newest()
    state = snapshot_of(source, vault, block).state
    found, unvalued = source.purchases(vault, account, block)
    book = match(found, Method(method), wash_days=wash_days)
    priced = policy.usable(state) and state.supply
    price = {vault: Decimal(policy.nav(state)) / state.supply} if priced else {}
    return models.Lots(
        block=views.block_of(block),
        vault=vault,
        account=account,
        method=method,
        wash_days=wash_days,
        unvalued=unvalued,
        **report_json(book, price, year),
    )


@router.get("/vaults/{vault}/plan", operation_id="plan")
def plan(source: Chain, vault: Address) -> models.PlanAnswer:
    """What the keeper would trade now, and why: as `evenkeel plan --json` says it."""
    from offchain.keeper.preview import preview
    from offchain.show.names import Names
    from offchain.show.plan_json import plan_json

    block = source.newest()
    found = snapshot_of(source, vault, block)
    if not _factories(source):
        raise Problem("cannot_plan", "no pools are known here (settings v2_factories, v3_factories)")
    result = preview(found, source.observed(found))
    tokens = {asset.token for asset in found.state.assets}
    tokens |= {token for pool in result.problem.pools for token in (pool.token0, pool.token1)}
    infos = source.tokens(sorted(tokens), block).values()
    names = Names.of([(info.token, info.symbol, info.decimals) for info in infos])
    return models.PlanAnswer(block=views.block_of(block), plan=plan_json(result, names, None))


# ---------------------------------------------------------------- quotes


@router.get("/vaults/{vault}/quotes/zap-in", operation_id="quote_zap_in")
def quote_zap_in(
    source: Chain,
    limits: Bounds,
    vault: Address,
    token: Address,
    amount_units: Units,
    slippage_bps: Slippage = 50,
) -> models.ZapIn:
    """What `Zap.zap_in` would give now, and its parameters."""
    return Quoter(source, limits).zap_in(vault, token, int(amount_units), slippage_bps)


@router.get("/vaults/{vault}/quotes/zap-out", operation_id="quote_zap_out")
def quote_zap_out(
    source: Chain,
    limits: Bounds,
    vault: Address,
    token: Address,
    shares_units: Units,
    skip: Skip = 0,
    slippage_bps: Slippage = 50,
) -> models.ZapOut:
    """What `Zap.zap_out` would pay now, and its parameters."""
    return Quoter(source, limits).zap_out(vault, token, int(shares_units), skip, slippage_bps)


@router.post("/prepared-calls", operation_id="prepared_calls")
def prepared_calls(source: Chain, limits: Bounds, wanted: models.Prepare) -> models.PreparedCalls:
    """Unsigned calls for a deposit or a redemption, in order. Nothing is stored."""
    return prepare(source, Quoter(source, limits), wanted, limits.quote_seconds, limits.deadline_seconds)


@dataclass(frozen=True)
class Quoter:
    """Quotes of one source."""

    source: Source
    limits: Limits

    def zap_in(self, vault: str, token: str, amount: int, slippage_bps: int) -> models.ZapIn:
        """Shares for `amount` of `token`."""
        found, market, names = self._market(vault, token)
        melting = self.source.extras(vault, found.block).melting
        got = zap_in(found.state, melting, token, amount, market, slippage_bps)
        return models.ZapIn(
            kind="zap_in",
            amount_units=str(amount),
            expected_shares_units=str(got.expected),
            min_shares_units=str(got.least),
            **self._common(found, token, names, got, slippage_bps),
        )

    def zap_out(self, vault: str, token: str, shares: int, skip: int, slippage_bps: int) -> models.ZapOut:
        """`token` for `shares`."""
        found, market, names = self._market(vault, token, skip)
        state = found.state
        if shares > state.supply:
            raise Problem("cannot_route", f"shares_units: the vault has {state.supply} in all")
        got = zap_out(state, token, shares, skip, market, slippage_bps)
        rows = zip(state.assets, got.redeemed, strict=True)
        return models.ZapOut(
            kind="zap_out",
            shares_units=str(shares),
            skip=skip,
            expected_amount_units=str(got.expected),
            min_amount_units=str(got.least),
            redeemed=[
                models.NamedUnits(
                    token=a.token, symbol=names[a.token].symbol, decimals=a.decimals, units=str(units)
                )
                for i, (a, units) in enumerate(rows)
                if not skip >> i & 1
            ],
            **self._common(found, token, names, got, slippage_bps),
        )

    def _market(self, vault: str, token: str, skip: int = 0) -> tuple[Snapshot, Market, dict[str, TokenInfo]]:
        """The vault now, the pools around it, and the names of all tokens."""
        source = self.source
        if source.places.zap is None or source.places.executor is None:
            raise Problem("cannot_plan", "no zap is known here (settings zap, executor)")
        if not _factories(source):
            raise Problem("cannot_plan", "no pools are known here (settings v2_factories, v3_factories)")
        block = source.newest()
        found = snapshot_of(source, vault, block)
        state, hub = found.state, source.places.sources.hub
        aside = policy.aside(state)
        if aside < len(state.assets) and not skip >> aside & 1:
            raise Problem(
                "cannot_plan", f"{state.assets[aside].token} is in quarantine: deposit or redeem in kind"
            )
        assets = [a.token for i, a in enumerate(state.assets) if not skip >> i & 1]
        pools = source.pools(pairs_for(assets, token, hub), block)
        others = {t for pool in pools for t in (pool.token0, pool.token1)} | {token}
        tokens = list(dict.fromkeys([*(a.token for a in state.assets), *sorted(others)]))
        try:
            names = source.tokens(tokens, block)
        except ChainError as error:
            if isinstance(error, NODE_ERRORS):
                raise
            raise Problem("cannot_route", str(error)) from None
        market = Market(
            pools,
            self._prices(found, tokens),
            {t.lower(): 10**info.decimals for t, info in names.items()},
            source.gas_usd(found),
        )
        return found, market, names

    def _prices(self, found: Snapshot, tokens: Sequence[str]) -> dict[str, int]:
        """USD WAD of those that the vault's oracle prices: the basket's are already read."""
        state = found.state
        rows = zip(state.assets, state.prices, state.statuses, strict=True)
        prices = {a.token.lower(): p for a, p, status in rows if status == 0 and p > 0}
        others = [t for t in tokens if not any(same(t, a.token) for a in state.assets)][:16]
        if others:
            asked = self.source.prices(state.oracle, others, found.block)
            prices |= {
                t.lower(): p for t, (p, status) in zip(others, asked, strict=True) if status == 0 and p > 0
            }
        return prices

    def _common(
        self, found: Snapshot, token: str, names: dict[str, TokenInfo], got: Zapped, slippage_bps: int
    ) -> dict[str, Any]:
        places, time = self.source.places, found.block.time
        return {
            "block": views.block_of(found.block),
            "chain_id": found.chain_id,
            "vault": found.vault,
            "zap": places.zap,
            "executor": places.executor,
            "token": token,
            "symbol": names[token].symbol,
            "decimals": names[token].decimals,
            "payload": "0x" + got.payload.hex(),
            "via": list(got.via),
            "slippage_bps": slippage_bps,
            "deadline": time + self.limits.deadline_seconds,
            "expires_at": time + self.limits.quote_seconds,
            "value_in_usd_wad": _text(got.value_in),
            "value_out_usd_wad": _text(got.value_out),
            "cost": _cost(got),
            "impact": self._impact(got),
            "legs": _legs(got, names),
            "leftovers": [_leftover(leftover, names) for leftover in got.leftovers],
        }

    def _impact(self, got: Zapped) -> str:
        if got.costs is None or not got.value_in:
            return "unknown"
        bps = _bps(got.costs.total, got.value_in)
        if bps > self.limits.blocked_impact_bps:
            return "blocked"
        return "high" if bps > self.limits.high_impact_bps else "normal"


def _factories(source: Source) -> bool:
    pools = source.places.sources.pools
    return bool(pools.v2_factories or pools.v3_factories)


def _bps(part: int, whole: int) -> int:
    """Rounded up: a cost is never shown smaller than it is."""
    return -(-part * 10_000 // whole)


def _cost(got: Zapped) -> models.Cost | None:
    costs, value = got.costs, got.value_in
    if costs is None or not value:
        return None
    return models.Cost(
        total_bps=_bps(costs.total, value),
        pool_fee_bps=_bps(costs.fee, value),
        price_impact_bps=_bps(costs.impact, value),
        other_bps=_bps(costs.other, value),
        total_usd_wad=str(costs.total),
        pool_fee_usd_wad=str(costs.fee),
        price_impact_usd_wad=str(costs.impact),
        other_usd_wad=str(costs.other),
    )


def _legs(got: Zapped, names: dict[str, TokenInfo]) -> list[models.Leg]:
    symbols = {token.lower(): info.symbol for token, info in names.items()}
    return [
        models.Leg(
            pool=leg.pool.address,
            pool_kind="uniswap_v2" if isinstance(leg.pool, V2Pool) else "uniswap_v3",
            fee_millionths=pool_fee_millionths(leg.pool),
            token_in=leg.token_in,
            symbol_in=symbols[leg.token_in.lower()],
            amount_in_units=str(leg.amount_in),
            token_out=leg.token_out,
            symbol_out=symbols[leg.token_out.lower()],
            expected_out_units=str(leg.amount_out),
            min_out_units=str(swap.min_out),
        )
        for leg, swap in zip(got.legs, got.swaps, strict=True)
    ]


def _leftover(leftover: Leftover, names: dict[str, TokenInfo]) -> models.Leftover:
    info = names[leftover.token]
    return models.Leftover(
        token=leftover.token,
        symbol=info.symbol,
        decimals=info.decimals,
        units=str(leftover.units),
        value_usd_wad=_text(leftover.value),
        to="caller",
    )


def _token(info: TokenInfo) -> models.Token:
    return models.Token(token=info.token, symbol=info.symbol, name=info.name, decimals=info.decimals)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
