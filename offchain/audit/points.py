"""A vault's history by block, from its events and the transfers of its tokens. Pure.

Balances follow the transfers, and are what an entry says where there is one. Prices are those of the last entry: an
oracle logs nothing of use, so between entries the NAV is the present holding at the prices of `priced_at`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from eth_utils.address import to_checksum_address

from offchain import policy
from offchain.audit.chain import Event, Rebalanced, SessionOpened, head_after
from offchain.audit.history import TRANSFER, History, Log, decode_log
from offchain.audit.replay import Replay
from offchain.policy import VaultState

__all__ = ["Point", "Tracker", "Transfer", "point_at", "points", "transfer_of"]

WAD = policy.WAD


@dataclass(frozen=True, slots=True)
class Transfer:
    """Units of a token that came to the vault, or went (below 0)."""

    block: int
    log_index: int
    token: str  # address
    amount: int  # token units


@dataclass(frozen=True, slots=True)
class Point:
    """A vault at the end of a block in which something happened."""

    block: int
    time: int  # timestamp
    events: tuple[str, ...]  # names
    tokens: tuple[str, ...]  # addresses of the assets
    balances: tuple[int, ...]  # token units; 0 of an asset in quarantine, as the chain counts
    prices: tuple[int, ...]  # USD WAD a whole token; 0: not known yet, or in quarantine
    priced_at: int | None  # the block of the prices
    nav: int | None  # USD WAD; None where a price is not known
    weights: tuple[int, ...] | None  # WAD
    supply: int  # shares, pending fee included
    share_price: int | None  # USD WAD a whole share
    pending_fee_shares: int
    flow_sequence: int
    head: str  # 0x hash


class Tracker:
    """The vault as its events and transfers leave it; fed in the chain's order."""

    def __init__(self, history: History) -> None:
        self.replay = Replay(history, rebasing=_Everything())
        self.held: dict[str, int] = {}  # token units, by address
        self.prices: dict[str, int] = {}
        self.priced_at: int | None = None
        self.head = b""

    def take(self, steps: Sequence[Log | Transfer]) -> list[str]:
        """What happened in a block; the names of it."""
        names = []
        for step in steps:
            if isinstance(step, Log):
                names.append(self._take_log(step))
            else:
                self._take_transfer(step)
                names.append("Transfer")
        self.replay.settle()
        return [name for name in names if name]

    def _take_transfer(self, transfer: Transfer) -> None:
        """Tokens moved."""
        self.held[transfer.token] = self.held.get(transfer.token, 0) + transfer.amount

    def _take_log(self, log: Log) -> str:
        """A log of the vault; the event's name, "" when it is none that counts."""
        event = decode_log(log)
        if event is None:
            return ""
        self.replay.feed(event)
        if isinstance(event, Event):
            self.head = head_after(event)
        if isinstance(event, SessionOpened | Rebalanced):
            self._observe(event)
        return type(event).__name__

    def _observe(self, event: SessionOpened | Rebalanced) -> None:
        """An entry has the balances and prices of its moment; the asset in quarantine is 0 in it."""
        after = event.balances if isinstance(event, SessionOpened) else event.balances_after
        state = replace(self.replay.vault, time=event.time)
        aside = policy.aside(state)
        self.priced_at = event.position.block
        for i, (asset, units, price) in enumerate(zip(state.assets, after, event.prices, strict=True)):
            if i != aside:
                self.held[asset.token], self.prices[asset.token] = units, price

    def state(self, now: int) -> VaultState:
        """What the chain answers at `now`, with the prices of the last entry."""
        state = self.replay.view(now)
        aside, tokens = policy.aside(state), [asset.token for asset in state.assets]
        return replace(
            state,
            balances=tuple(0 if i == aside else self.held.get(t, 0) for i, t in enumerate(tokens)),
            prices=tuple(0 if i == aside else self.prices.get(t, 0) for i, t in enumerate(tokens)),
            statuses=(0,) * len(tokens),
        )

    def point(self, block: int, now: int, events: Sequence[str]) -> Point:
        """The vault at the end of this block."""
        state = self.state(now)
        known = policy.usable(state) and policy.nav(state) > 0
        nav = policy.nav(state) if known else None
        return Point(
            block,
            now,
            tuple(events),
            tuple(asset.token for asset in state.assets),
            state.balances,
            state.prices,
            self.priced_at,
            nav,
            tuple(policy.weights(state)) if known else None,
            state.supply,
            None if nav is None or not state.supply else nav * WAD // state.supply,
            state.pending_fee_shares,
            self.replay.ledger.flow_sequence,
            "0x" + self.head.hex(),
        )


class _Everything(frozenset[str]):
    """Names every token: the index stops at nothing that went unseen."""

    def __contains__(self, _: object) -> bool:
        return True


def transfer_of(log: Log, token: str, vault: str) -> Transfer | None:
    """What a token's Transfer log moved to or from the vault; None for anything else."""
    if log.topics[:1] != (TRANSFER,) or len(log.topics) != 3 or len(log.data) != 32:
        return None
    units, me = int.from_bytes(log.data, "big"), bytes(12) + bytes.fromhex(vault[2:])
    amount = units * ((log.topics[2] == me) - (log.topics[1] == me))
    return Transfer(log.block, log.log_index, to_checksum_address(token), amount) if amount else None


def points(history: History, transfers: Sequence[tuple[Transfer, int]]) -> list[Point]:
    """A point for each block with an event or a transfer (given with its time), since the vault's creation."""
    tracker, found = Tracker(history), []
    for block, time, steps in _by_block(history, transfers):
        names = tracker.take(steps)
        if tracker.replay.state is not None:
            found.append(tracker.point(block, time, names))
    return found


def point_at(
    history: History, transfers: Sequence[tuple[Transfer, int]], block: int, time: int
) -> Point | None:
    """The vault at the end of any block, of this timestamp; None before its creation."""
    tracker, names = Tracker(history), []
    for number, _, steps in _by_block(history, transfers):
        if number > block:
            break
        names = tracker.take(steps)
        names = names if number == block else []
    return None if tracker.replay.state is None else tracker.point(block, time, names)


def _by_block(
    history: History, transfers: Sequence[tuple[Transfer, int]]
) -> Iterator[tuple[int, int, list[Log | Transfer]]]:
    """(block, its time, what happened in it, in order)."""
    steps: dict[int, list[tuple[int, Log | Transfer]]] = {}
    times: dict[int, int] = {}
    for log in history.logs:
        steps.setdefault(log.block, []).append((log.log_index, log))
        times[log.block] = log.time
    for transfer, time in transfers:
        steps.setdefault(transfer.block, []).append((transfer.log_index, transfer))
        times[transfer.block] = time
    for block in sorted(steps):
        yield block, times[block], [step for _, step in sorted(steps[block], key=lambda one: one[0])]
