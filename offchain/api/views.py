"""From what a `Source` read to the answers' shapes. Pure: no chain, clock or disk.

A price that is not usable makes values, weights and NAV null, never 0. An asset in quarantine has no weight and no
target; the NAV goes on without it, as the vault's does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from offchain import policy
from offchain.api import models
from offchain.api.source import Event, Extras, Teller, TokenInfo
from offchain.chain.oracle import price_status
from offchain.chain.vault import GUARDIAN_ROLE, KEEPER_ROLE, STRATEGIST_ROLE, BlockRef, Snapshot
from offchain.keeper.preview import next_slot
from offchain.policy import WAD, CalendarUnit, Mode, VaultState

__all__ = [
    "Basket",
    "baskets",
    "block_of",
    "flow",
    "points",
    "price_of_shares",
    "rebalances",
    "summary",
    "tokens_of",
    "unreadable",
    "vault_detail",
]

Names = Mapping[str, TokenInfo]
Basket = tuple[tuple[str, int], ...]  # (token, decimals) in the vault's order


def block_of(block: BlockRef) -> models.Block:
    """As it stands in answers."""
    return models.Block(number=block.number, hash=block.hash, time=block.time)


def price_of_shares(nav: int, supply: int) -> int:
    """USD WAD a share, rounded down."""
    return nav * WAD // supply if supply else 0


# ---------------------------------------------------------------- now


def summary(found: Snapshot, title: tuple[str, str], names: Names) -> models.VaultSummary:
    """A line of the list."""
    state = found.state
    known = _valued(state)
    nav = policy.nav(state) if known else None
    weights = _weights(state)
    drifts = policy.drifts(state) if known and nav else None
    bands = policy.bands(state)
    rows = zip(state.assets, weights, policy.targets(state), bands, strict=True)
    return models.VaultSummary(
        vault=found.vault,
        name=title[0],
        symbol=title[1],
        readable=True,
        reason=None,
        nav_usd_wad=_text(nav),
        share_price_usd_wad=None if nav is None else str(price_of_shares(nav, state.supply)),
        supply_units=str(state.supply),
        max_drift_wad=_text(max(drifts)) if drifts else None,
        max_drift_of_band_bps=max(d * 10_000 // b for d, b in zip(drifts, bands, strict=True))
        if drifts
        else None,
        prices_usable=known,
        paused=state.time < state.paused_until,
        session_open=policy.session_is_open(state, state.time),
        assets=[
            models.AssetSummary(
                token=a.token,
                symbol=names[a.token].symbol,
                weight_wad=_text(w),
                target_wad=str(t),
                band_wad=str(b),
            )
            for a, w, t, b in rows
        ],
    )


def unreadable(vault: str, reason: str) -> models.VaultSummary:
    """The line of a vault that cannot be read."""
    empty = dict.fromkeys(models.VaultSummary.model_fields, None)
    return models.VaultSummary(**empty | {"vault": vault, "readable": False, "reason": reason, "assets": []})


def vault_detail(
    found: Snapshot,
    extras: Extras,
    names: Names,
    unheard: Sequence[bool],
    roles: Mapping[str, int] | None,
    tellers: Sequence[Teller],
) -> models.VaultDetail:
    """All about one vault. `unheard` (n,): the token does not say what the vault holds; `roles`: None, not known."""
    state = found.state
    nav = policy.nav(state) if _valued(state) else None
    return models.VaultDetail(
        block=block_of(found.block),
        chain_id=found.chain_id,
        vault=found.vault,
        name=extras.name,
        symbol=extras.symbol,
        decimals=18,
        from_factory=extras.from_factory,
        implementation=extras.implementation,
        oracle=state.oracle,
        timelock=extras.timelock,
        head=found.head,
        nav_usd_wad=_text(nav),
        share_price_usd_wad=None if nav is None else str(price_of_shares(nav, state.supply)),
        supply_units=str(state.supply),
        pending_fee_shares_units=str(state.pending_fee_shares),
        melting_units=str(extras.melting),
        flow_sequence=extras.flow_sequence,
        prices_usable=_valued(state),
        assets=[_asset(state, i, names, heard=not unheard[i]) for i in range(len(state.assets))],
        rules=_rules(state),
        session=_session(state),
        due=_due(state, names),
        loss_budget=models.Budget(
            capacity_wad=str(state.rules.loss_capacity_bps * policy.BPS_IN_WAD),
            used_wad=str(policy.loss_budget_used(state, state.time)),
        ),
        speed_budget=models.Budget(
            capacity_wad=str(state.rules.speed_capacity_bps * policy.BPS_IN_WAD),
            used_wad=str(policy.speed_budget_used(state, state.time)),
        ),
        paused=state.time < state.paused_until,
        paused_until=state.paused_until,
        quarantine=_quarantine(state),
        fee=models.Fee(bps_per_year=state.fee_bps, recipient=extras.fee_recipient),
        roles=_roles(extras, roles),
        tellers=[
            models.TellerState(
                teller=t.teller,
                asset=t.asset,
                floor_bps=t.floor_bps,
                surcharge_bps=t.surcharge_bps,
                burn_seconds=t.burn_seconds,
                room_in_wad=str(t.room_in),
                room_out_wad=str(t.room_out),
            )
            for t in tellers
        ],
    )


def _valued(state: VaultState) -> bool:
    return policy.usable(state)


def _weights(state: VaultState) -> list[int | None]:
    if _valued(state) and policy.nav(state):
        return list(policy.weights(state))
    return [None] * len(state.assets)


def _asset(state: VaultState, i: int, names: Names, *, heard: bool) -> models.AssetState:
    asset, status, aside = state.assets[i], state.statuses[i], i == policy.aside(state)
    priced = status == 0 and state.prices[i] > 0
    weight, target, band = _weights(state)[i], policy.targets(state)[i], policy.bands(state)[i]
    drift = None if weight is None else abs(weight - target)
    value = state.balances[i] * state.prices[i] // asset.scale if priced and heard else None
    return models.AssetState(
        index=i,
        token=asset.token,
        symbol=names[asset.token].symbol,
        name=names[asset.token].name,
        decimals=asset.decimals,
        balance_units=str(state.balances[i]) if heard else None,
        readable=heard,
        price_usd_wad=str(state.prices[i]) if priced else None,
        price_status="usable" if priced else price_status(status),
        price_usable=priced,
        value_usd_wad=_text(value),
        weight_wad=_text(weight),
        target_wad=str(target),
        band_wad=str(band),
        drift_wad=_text(drift),
        outside_band=None if drift is None else drift >= band,
        own_target_bps=asset.target_bps,
        min_target_bps=asset.min_target_bps,
        max_target_bps=asset.max_target_bps,
        band_points_bps=asset.band_points_bps,
        band_relative_bps=asset.band_relative_bps,
        price_error_bps=asset.price_error_bps,
        quarantined=aside,
    )


def _rules(state: VaultState) -> models.RulesState:
    rules = state.rules
    own = {name: getattr(rules, name) for name in models.RulesState.model_fields}
    return models.RulesState(
        **own | {"mode": Mode(rules.mode).name, "calendar_unit": CalendarUnit(rules.calendar_unit).name}
    )


def _session(state: VaultState) -> models.SessionState:
    last, is_open = state.session, policy.session_is_open(state, state.time)
    return models.SessionState(
        id=last.id,
        open=is_open,
        opened_at=last.opened_at,
        closed_at=last.closed_at or None,
        closes_at=last.opened_at + state.rules.window_seconds if is_open else None,
        by_calendar=last.by_calendar,
        slot=last.slot,
    )


def _due(state: VaultState, names: Names) -> models.Due:
    uses_calendar = state.rules.mode != Mode.THRESHOLD
    next_at = next_slot(state.rules, state.time) if uses_calendar else None
    if not _valued(state) or not policy.nav(state):
        reason = "a price is not usable" if not _valued(state) else "the vault holds nothing of value"
        return models.Due(now=False, trigger=None, reason=reason, refusal=reason, next_calendar_at=next_at)
    trigger = policy.trigger(state, state.time)
    refusal = policy.next_session(state, state.time)[1]
    reason = trigger.reason
    for token, info in names.items():
        reason = reason.replace(token, info.symbol)
    return models.Due(
        now=not refusal,
        trigger=trigger.kind,
        reason=reason,
        refusal=refusal or None,
        next_calendar_at=next_at,
    )


def _quarantine(state: VaultState) -> models.Quarantine | None:
    index = policy.aside(state)
    if index >= len(state.assets):
        return None
    return models.Quarantine(index=index, token=state.assets[index].token, until=state.aside_until)


def _roles(extras: Extras, roles: Mapping[str, int] | None) -> models.Roles:
    def having(role: int) -> list[str]:
        return sorted(account for account, own in (roles or {}).items() if own & role)

    return models.Roles(
        admin=extras.admin,
        delay_seconds=extras.delay_seconds,
        guardians=having(GUARDIAN_ROLE),
        strategists=having(STRATEGIST_ROLE),
        keepers=having(KEEPER_ROLE),
        complete=roles is not None,
    )


# ---------------------------------------------------------------- then


def baskets(
    events: Sequence[Event], first: Sequence[str] | None, decimals: Mapping[str, int]
) -> list[Basket]:
    """The basket at each event, before it: what the vault began with, and what joined and left since.

    `first`: the tokens it began with; None, not known: then every basket is empty. `decimals`: by token.
    """
    tokens = list(first or [])
    found: list[Basket] = []
    for event in events:
        found.append(tuple((token, decimals[token]) for token in tokens))
        if first is not None and event.name == "RuleChanged":
            tokens = _changed(tokens, event.args["name"], event.args["data"])
    return found


def tokens_of(events: Sequence[Event], first: Sequence[str] | None) -> list[str]:
    """Every token that was in the basket once."""
    joined = [
        _token_in(e.args["data"]) for e in events if e.name == "RuleChanged" and e.args["name"] == "add_asset"
    ]
    return list(dict.fromkeys([*(first or []), *joined]))


def _changed(tokens: list[str], name: str, data: bytes) -> list[str]:
    if name == "add_asset":
        return [*tokens, _token_in(data)]
    if name == "remove_asset":
        return [token for token in tokens if token != _token_in(data)]
    return tokens


def _token_in(data: bytes) -> str:
    """The first argument of add_asset and remove_asset."""
    return str(to_checksum_address(decode(["address"], data[:32])[0]))


def points(events: Sequence[Event], then: Sequence[Basket], now: Snapshot) -> list[models.Point]:
    """What the vault recorded with prices, oldest first, and now. `then`: the basket at each event."""
    found = []
    for event, basket in zip(events, then, strict=True):
        if event.name not in ("SessionOpened", "Rebalanced"):
            continue
        args = event.args
        held = args["balances"] if event.name == "SessionOpened" else args["balances_after"]
        if len(basket) != len(held):
            continue
        kind = "session_opened" if event.name == "SessionOpened" else "rebalanced"
        found.append(_point(event.block, kind, basket, held, args["prices"], args["supply"], event))
    state = now.state
    if _valued(state) and policy.nav(state):
        basket = tuple((a.token, a.decimals) for a in state.assets)
        counted = [0 if i == policy.aside(state) else p for i, p in enumerate(state.prices)]
        found.append(_point(now.block, "now", basket, state.balances, counted, state.supply, None))
    return found


def _point(
    block: BlockRef,
    kind: Any,
    basket: Basket,
    held: Sequence[int],
    prices: Sequence[int],
    supply: int,
    event: Event | None,
) -> models.Point:
    values = _values(basket, held, prices)
    nav = sum(values)
    return models.Point(
        block=block_of(block),
        tx_hash=event.tx_hash if event else None,
        log_index=event.log_index if event else None,
        kind=kind,
        assets=[token for token, _ in basket],
        nav_usd_wad=str(nav),
        share_price_usd_wad=str(price_of_shares(nav, supply)),
        supply_units=str(supply),
        weights_wad=[str(v * WAD // nav) if nav else "0" for v in values],
        balances_units=[str(b) for b in held],
        prices_usd_wad=[str(p) for p in prices],
    )


def rebalances(events: Sequence[Event], then: Sequence[Basket]) -> list[models.Rebalance]:
    """Every rebalance, oldest first, with what the vault hashed. `then`: the basket at each event."""
    found = []
    for event, basket in zip(events, then, strict=True):
        if event.name != "Rebalanced":
            continue
        args = event.args
        if len(basket) != len(args["prices"]):
            basket = ()
        found.append(
            models.Rebalance(
                block=block_of(event.block),
                tx_hash=event.tx_hash,
                log_index=event.log_index,
                session=args["session"],
                keeper=args["keeper"],
                executor=args["executor"],
                supply_units=str(args["supply"]),
                flow_sequence=args["flow_sequence"],
                assets=[token for token, _ in basket],
                prices_usd_wad=_texts(args["prices"]),
                balances_before_units=_texts(args["balances_before"]),
                balances_after_units=_texts(args["balances_after"]),
                sells_units=_texts(args["sells"]),
                nav_before_usd_wad=_nav(basket, args["balances_before"], args["prices"]),
                nav_after_usd_wad=_nav(basket, args["balances_after"], args["prices"]),
                payload_hash=_hex(args["payload_hash"]),
                decision=_hex(args["decision"]),
                proof=models.Proof(
                    previous_head=_hex(args["previous_head"]),
                    data=_hex(event.data),
                    head=_hex(keccak(event.data)),
                ),
            )
        )
    return found


FLOWS = {
    "MintedInKind": "mint_in_kind",
    "RedeemedInKind": "redeem_in_kind",
    "Issued": "issue",
    "Released": "release",
}


def flow(event: Event, basket: Basket) -> models.Flow:
    """One of `FLOWS`."""
    args, kind = event.args, FLOWS[event.name]
    amounts = (
        [(token, units) for (token, _), units in zip(basket, args["amounts"], strict=False) if units]
        if "amounts" in args
        else [(args["asset"], args["paid"])]
    )
    return models.Flow(
        block=block_of(event.block),
        tx_hash=event.tx_hash,
        log_index=event.log_index,
        kind=kind,
        caller=args.get("caller") or args["teller"],
        account=args.get("owner") or args["receiver"],
        receiver=args["receiver"],
        shares_units=str(args["shares"]),
        fee_units=str(args.get("fee", 0)),
        amounts=[models.TokenUnits(token=token, units=str(units)) for token, units in amounts],
        skip=args.get("skip", 0),
        flow_sequence=args["flow_sequence"],
    )


def _values(basket: Basket, held: Sequence[int], prices: Sequence[int]) -> list[int]:
    """USD WAD of each holding."""
    return [q * p // 10**d for (_, d), q, p in zip(basket, held, prices, strict=True)]


def _nav(basket: Basket, held: Sequence[int], prices: Sequence[int]) -> str | None:
    return str(sum(_values(basket, held, prices))) if basket else None


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _texts(numbers: Sequence[int]) -> list[str]:
    return [str(number) for number in numbers]


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()
