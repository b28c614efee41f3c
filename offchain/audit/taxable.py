"""A vault's history as purchases and sales: of the vault's own tokens, or of its shares by somebody's wallets. Pure.

What is received in an exchange costs what it is worth, and what is given is sold for that (fair market value of what
is received, 26 CFR 1.1001-1(a)). Of a rebalance the proceeds are the value bought at the entry's prices, each token
sold with its part of it: what pools and gas took lowers the gain. A flow is worth its tokens at the oracle's prices of
its block, which the caller supplies. Tokens that came without an event (a donation, a rebase) cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from eth_utils.address import to_checksum_address

from offchain.audit.chain import Created, Position, Rebalanced
from offchain.audit.history import (
    NOBODY,
    TRANSFER,
    AnyEvent,
    History,
    Issued,
    Log,
    MintedInKind,
    RedeemedInKind,
    Released,
    SharesMinted,
    decode_log,
)
from offchain.audit.lots import EXACT, ZERO, Acquired, Disposed, Moved, Transaction, exact, share
from offchain.audit.replay import Replay
from offchain.policy import Asset

__all__ = ["PriceOf", "share_transactions", "vault_transactions"]

PriceOf = Callable[[str, str, int], Decimal]  # (oracle, token, block) -> USD a whole token
SHARE_DECIMALS = 18


@exact
def vault_transactions(history: History, price_of: PriceOf) -> list[Transaction]:
    """What the vault bought and sold of its tokens; assets by address, the account is the vault.

    Raises:
        AuditBreak: the history cannot be.

    """
    found: list[Transaction] = []
    replay, seen = Replay(history), 0
    for log in history.logs:
        event = decode_log(log)
        if event is None:
            continue
        assets = replay.state.assets if replay.state else ()
        oracle = replay.state.oracle if replay.state else ""
        replay.feed(event)
        for residual in replay.residuals[seen:]:
            asset = next(a for a in (*assets, *replay.vault.assets) if a.token == residual.token)
            found.append(_gift(history.vault, asset, residual.amount, event.position))
        seen = len(replay.residuals)
        if isinstance(event, Created) and history.seed:
            assets, oracle = replay.vault.assets, replay.vault.oracle
            changes = list(zip(assets, history.seed, strict=True))
            found += _valued(history.vault, changes, event.position, price_of, oracle)
        elif isinstance(event, Rebalanced):
            found += _rebalance(history.vault, event, assets)
        else:
            found += _valued(history.vault, _moved(event, assets), event.position, price_of, oracle)
    return found


@exact
def share_transactions(
    history: History, wallets: Collection[str], transfers: Sequence[Log], price_of: PriceOf
) -> tuple[list[Transaction], list[str]]:
    """What the wallets bought and sold of the vault's shares, and the ids of transfers whose value nobody knows.

    `transfers`: the shares' Transfer logs from and to the wallets, in any order; a log may be there twice.
    A transfer between two of `wallets` is a move. One from or to somebody else has cost or proceeds 0, and its id is
    in the second list: the owner must say what it was. So are shares of the seed and collected fees.

    Raises:
        AuditBreak: the history cannot be.

    """
    own = {to_checksum_address(wallet) for wallet in wallets}
    found: list[Transaction] = []
    unknown: list[str] = []
    for log in set(transfers):
        made = _transfer(history.vault, own, log)
        found += made
        unknown += [t.id for t in made if not isinstance(t, Moved)]
    replay = Replay(history)
    minted: dict[tuple[str, str, int], Position] = {}  # of which no flow followed: the seed's, collected fees
    for log in history.logs:
        event = decode_log(log)
        if event is None:
            continue
        assets = replay.state.assets if replay.state else ()
        oracle = replay.state.oracle if replay.state else ""
        replay.feed(event)
        if isinstance(event, SharesMinted) and event.receiver in own:
            minted[event.position.transaction, event.receiver, event.shares] = event.position
        if isinstance(event, MintedInKind | Issued):
            minted.pop((event.position.transaction, event.receiver, event.shares), None)
        who = event.receiver if isinstance(event, MintedInKind | Issued) else getattr(event, "owner", "")
        if who in own and isinstance(event, MintedInKind | RedeemedInKind | Issued | Released):
            worth = sum(
                (
                    _value(asset, abs(units), price_of(oracle, asset.token, event.position.block))
                    for asset, units in _moved(event, assets)
                ),
                ZERO,
            )
            shares = Decimal(event.shares).scaleb(-SHARE_DECIMALS)
            made_of = (_id(event.position), _time(event.position), who, history.vault, shares, worth)
            bought = isinstance(event, MintedInKind | Issued)
            found.append(Acquired(*made_of) if bought else Disposed(*made_of))
    for (_, who, units), at in minted.items():
        shares = Decimal(units).scaleb(-SHARE_DECIMALS)
        found.append(Acquired(_id(at), _time(at), who, history.vault, shares, ZERO))
        unknown.append(_id(at))
    places = {_id(log.position): (log.block, log.log_index) for log in (*transfers, *history.logs)}
    return sorted(found, key=lambda t: places[t.id]), sorted(unknown, key=places.__getitem__)


# ---------------------------------------------------------------- one event


def _rebalance(vault: str, event: Rebalanced, assets: Sequence[Asset]) -> Iterator[Transaction]:
    rows = list(zip(assets, event.prices, event.balances_before, event.balances_after, strict=True))
    sold = [(a, b - c, _value(a, b - c, _usd(p))) for a, p, b, c in rows if c < b]
    bought = [(a, c - b, _value(a, c - b, _usd(p))) for a, p, b, c in rows if c > b]
    given = sum((value for *_, value in sold), ZERO)
    left = sum((value for *_, value in bought), ZERO)
    for asset, units, value in sold:
        part = share(left, value, given) if given else ZERO
        left, given = left - part, given - value
        yield Disposed(*_head(event.position, vault, asset, units), part)
    for asset, units, value in bought:
        yield Acquired(*_head(event.position, vault, asset, units), value)


def _moved(event: AnyEvent, assets: Sequence[Asset]) -> list[tuple[Asset, int]]:
    """Token units that a flow brought into the vault, below 0 took out; nothing for other events."""
    if isinstance(event, MintedInKind | RedeemedInKind):
        sign = 1 if isinstance(event, MintedInKind) else -1
        return [(a, sign * units) for a, units in zip(assets, event.amounts, strict=True) if units]
    if isinstance(event, Issued | Released):
        sign = 1 if isinstance(event, Issued) else -1
        return [(a, sign * event.paid) for a in assets if a.token == event.asset and event.paid]
    return []


def _valued(
    vault: str, changes: Sequence[tuple[Asset, int]], at: Position, price_of: PriceOf, oracle: str
) -> Iterator[Transaction]:
    for asset, units in changes:
        value = _value(asset, abs(units), price_of(oracle, asset.token, at.block))
        head = _head(at, vault, asset, abs(units))
        yield Acquired(*head, value) if units > 0 else Disposed(*head, value)


def _gift(vault: str, asset: Asset, units: int, at: Position) -> Transaction:
    """What came without an event cost nothing; what went brought nothing."""
    head = _head(at, vault, asset, abs(units))
    named = (head[0] + "/residual", *head[1:])
    return Acquired(*named, ZERO) if units > 0 else Disposed(*named, ZERO)


def _transfer(vault: str, own: Collection[str], log: Log) -> list[Transaction]:
    if log.topics[:1] != (TRANSFER,) or len(log.topics) != 3:
        return []
    sender, receiver = (to_checksum_address(topic[12:]) for topic in log.topics[1:])
    shares, at = Decimal(int.from_bytes(log.data, "big")).scaleb(-SHARE_DECIMALS), log.position
    if NOBODY in (sender, receiver) or sender == receiver or not shares:
        return []
    if sender in own and receiver in own:
        return [Moved(_id(at), _time(at), sender, receiver, vault, shares)]
    if receiver in own:
        return [Acquired(_id(at), _time(at), receiver, vault, shares, ZERO)]
    return [Disposed(_id(at), _time(at), sender, vault, shares, ZERO)] if sender in own else []


def _head(at: Position, vault: str, asset: Asset, units: int) -> tuple[str, datetime, str, str, Decimal]:
    return f"{_id(at)}/{asset.token}", _time(at), vault, asset.token, Decimal(units).scaleb(-asset.decimals)


def _value(asset: Asset, units: int, price: Decimal) -> Decimal:
    return EXACT.multiply(Decimal(units).scaleb(-asset.decimals), price)


def _usd(price: int) -> Decimal:
    return Decimal(price).scaleb(-18)


def _id(at: Position) -> str:
    return f"{at.transaction}/{at.log_index}"


def _time(at: Position) -> datetime:
    return datetime.fromtimestamp(at.time, UTC)
