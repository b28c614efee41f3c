"""A strategy moves a vault's targets: settle -> read -> what is wanted -> a step the vault accepts -> `set_targets`.

A step goes straight from the targets as they are towards what the strategy wants, within each asset's limits, and as
far as the speed limit's bucket has room (offchain.policy.set_targets is the mirror of both). What is left of the way is
for the next times: targets glide. The account needs the strategist's role and no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from web3 import Web3
from web3.contract.contract import ContractFunction

from offchain import policy
from offchain.chain.contracts import bind
from offchain.chain.errors import BusyError, ConfigError
from offchain.chain.sender import Sender
from offchain.chain.vault import Snapshot, deadline_after, latest_block, read_vault, symbols
from offchain.errors import EvenkeelError
from offchain.keeper.decide import canonical_json
from offchain.keeper.dispatch import Dispatch, Fate
from offchain.keeper.errand import Errand, caller_of, carry_out, settle
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Outcome
from offchain.policy import BPS_IN_WAD, WAD, VaultState
from offchain.policy.rules import MAX_BPS
from offchain.settings import Settings, StrategySettings

if TYPE_CHECKING:  # loaded only where a strategy is set
    from offchain.data import DataSettings
    from offchain.strategies import Strategy

__all__ = ["FromHistory", "Step", "Strategist", "Wanted", "next_step", "strategist_of", "within_limits"]

DAY = 86_400
NO_ROLE = "not admin or strategist"  # how the Timelock refuses

log = structlog.get_logger("evenkeel.keeper")


# ---------------------------------------------------------------- pure


@dataclass(frozen=True, slots=True)
class Step:
    """What to set the targets to now, or why nothing."""

    targets_bps: tuple[int, ...]  # as they are where nothing is to be done
    reason: str
    path_bps: int = 0  # of this step, the sum of what moves over all assets; 0: nothing is to be done
    left_bps: int = 0  # of the way, after it


def within_limits(weights: Sequence[float], lows: Sequence[int], highs: Sequence[int]) -> tuple[int, ...]:
    """Targets in bps that sum to 100 %, the nearest to `weights` (fractions) by squares within the limits (bps).

    EvenkeelError where the limits leave none.
    """
    if sum(lows) > MAX_BPS or sum(highs) < MAX_BPS:
        raise EvenkeelError("the assets' limits leave no targets that sum to 100 %")
    wanted = [int(weight * WAD) for weight in weights]
    low = [bps * BPS_IN_WAD for bps in lows]
    high = [bps * BPS_IN_WAD for bps in highs]

    def moved(by: int) -> list[int]:
        return [min(max(w + by, lo), hi) for w, lo, hi in zip(wanted, low, high, strict=True)]

    below, above = -2 * WAD, 2 * WAD  # by how much all move: the sum is at most, and at least, 100 %
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if sum(moved(middle)) <= WAD else (below, middle)
    return _rounded(moved(below), BPS_IN_WAD, highs)


def next_step(state: VaultState, goal_bps: Sequence[int], least_bps: int, now: int) -> Step:
    """As far towards the goal as the vault accepts at `now`; nothing where way or step are below `least_bps`."""
    current = tuple(asset.target_bps for asset in state.assets)
    path = _path(current, goal_bps)
    if path < least_bps:
        return Step(current, f"the targets are within {path} bps of what is wanted", 0, path)
    refusal, _ = policy.set_targets(state, goal_bps, now)
    if not refusal:
        return Step(tuple(goal_bps), f"moves the targets by {path} bps, all the way", path)
    good, bad = 0, path  # of `path` parts of the way: accepted, refused
    while bad - good > 1:
        middle = (good + bad) // 2
        accepted = not policy.set_targets(state, _towards(current, goal_bps, middle, path), now)[0]
        good, bad = (middle, bad) if accepted else (good, middle)
    step = _towards(current, goal_bps, good, path)
    moved = _path(current, step)
    if moved < min(least_bps, max(state.rules.speed_capacity_bps, 1)):
        return Step(current, f"{refusal}: {path} bps are left, and only {moved} can be moved now", 0, path)
    left = _path(step, goal_bps)
    return Step(step, f"moves the targets by {moved} bps, {left} bps are left: {refusal}", moved, left)


def _path(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _towards(start: Sequence[int], goal: Sequence[int], part: int, whole: int) -> tuple[int, ...]:
    """`part` of `whole` of the way, in bps that sum to 100 %."""
    exact = [a * whole + (b - a) * part for a, b in zip(start, goal, strict=True)]
    return _rounded(exact, whole, [max(a, b) for a, b in zip(start, goal, strict=True)])


def _rounded(exact: Sequence[int], unit: int, most: Sequence[int]) -> tuple[int, ...]:
    """Whole units that sum to 100 %: rounded down, and what is missing goes to the largest remainders below `most`."""
    found = [value // unit for value in exact]
    order = sorted(range(len(exact)), key=lambda i: (-(exact[i] % unit), i))
    missing = MAX_BPS - sum(found)
    while missing > 0:
        for i in order:
            if missing > 0 and found[i] < most[i]:
                found[i] += 1
                missing -= 1
    return tuple(found)


# ---------------------------------------------------------------- what is wanted


@dataclass(frozen=True)
class Wanted:
    """What a strategy wants."""

    weights: tuple[float, ...]  # fractions in the order of the vault's assets, sum 1
    strategy: str  # in words
    history: str  # in words: where it is from and to when it goes
    stale: str = ""  # why it is too old to be acted on


@dataclass(frozen=True)
class FromHistory:
    """Asks a strategy with the history that its data source has now."""

    strategy: Strategy
    data: DataSettings
    settings: StrategySettings

    @classmethod
    def of(cls, settings: StrategySettings) -> FromHistory:
        """By the settings; EvenkeelError where a name or a setting is wrong. Nothing is loaded yet."""
        from offchain.data import data_settings
        from offchain.strategies import Constraints, make

        constraints = Constraints.of(settings.constraints)
        return cls(
            make(settings.name, settings.settings, constraints), data_settings(settings.data), settings
        )

    def wanted(self, snapshot: Snapshot, names: Sequence[str]) -> Wanted:
        """The weights at the snapshot's time; `names`: the assets' symbols."""
        import pandas as pd

        from offchain.data import load
        from offchain.strategies import Book

        loaded, state = load(self.data), snapshot.state
        market, now = loaded.market, pd.Timestamp(snapshot.block.time, unit="s")
        columns = self._columns(market.names, state, names)
        history = pd.DataFrame(market.prices, pd.DatetimeIndex(market.dates), list(market.names)).loc[:now]
        history = history if self.settings.lookback is None else history.iloc[-self.settings.lookback :]
        if len(history) == 0:
            raise ConfigError(f"strategy.data: no row at or before {now:%Y-%m-%d %H:%M}")
        last = history.index[-1]
        age_days = (now - last).total_seconds() / DAY
        told = f"{loaded.source}; last row {last:%Y-%m-%d %H:%M} UTC; SHA-256 {loaded.fingerprint}"
        stale = ""
        if age_days > self.settings.max_age_days:
            stale = f"the history ends {age_days:.1f} days ago (strategy.max_age_days {self.settings.max_age_days:g})"
        if self.strategy.constraints.follows_a_book:
            held = [state.assets[columns.index(i)].target_bps / MAX_BPS for i in range(len(columns))]
            self.strategy.book = Book.of_weights(held, history.to_numpy()[-1])
        found = self.strategy.target_weights(history, now).to_numpy()
        return Wanted(tuple(float(found[i]) for i in columns), self.settings.name, told, stale)

    def _columns(self, known: Sequence[str], state: VaultState, names: Sequence[str]) -> list[int]:
        """For each asset, its column of the data. ConfigError unless each has one and no column is left."""
        tokens = {name: token.lower() for name, token in self.settings.tokens.items()}
        by_token = {tokens[name]: i for i, name in enumerate(known) if name in tokens}
        by_name = {name.lower(): i for i, name in enumerate(known) if name not in tokens}
        found = []
        for asset, symbol in zip(state.assets, names, strict=True):
            column = by_token.get(asset.token.lower(), by_name.get(symbol.lower()))
            if column is None:
                raise ConfigError(
                    f"strategy.tokens: the data have no {symbol} ({asset.token}); they have {', '.join(known)}"
                )
            found.append(column)
        for i, name in enumerate(known):
            if found.count(i) != 1:
                raise ConfigError(f"strategy.tokens: {name} of the data is not one asset of the vault")
        return found


# ---------------------------------------------------------------- the edge


@dataclass(frozen=True)
class Strategist:
    """Moves one vault's targets."""

    web3: Web3
    vault: str  # address
    asks: Any  # FromHistory, or what has its method `wanted`
    sender: Sender
    journal: Journal
    least_move_bps: int = 50
    deadline_seconds: int = 600
    simulate_as: str | None = None

    def once(self) -> Outcome:
        """Ask the strategy; take one step if there is one to take."""
        chain_id = self.web3.eth.chain_id
        dispatch = Dispatch(self.web3, self.sender, self.journal)
        if still_open := settle(dispatch, self.vault, chain_id):
            run, fate = still_open
            return Outcome(
                fate.status, fate.reason, run.vault, chain_id, run.block, run.session, fate.tx_hash
            )
        snapshot = read_vault(self.web3, self.vault, latest_block(self.web3))
        assets = snapshot.state.assets
        wanted = self.asks.wanted(snapshot, symbols(self.web3, [asset.token for asset in assets]))
        goal = within_limits(
            wanted.weights, [a.min_target_bps for a in assets], [a.max_target_bps for a in assets]
        )
        step = next_step(snapshot.state, goal, self.least_move_bps, snapshot.block.time)
        record = _record(snapshot, wanted, goal, step)
        reason = f"{wanted.strategy}: {wanted.stale or step.reason}"
        if wanted.stale or not step.path_bps:
            return self._skip(snapshot, reason, record)
        errand = Errand(
            snapshot.vault,
            chain_id,
            snapshot.block.number,
            reason,
            record,
            deadline_after(self.web3, snapshot.block, self.deadline_seconds),
        )
        caller = caller_of(self.sender, self.simulate_as)
        try:
            fate = carry_out(dispatch, errand, self._call(step), caller)
        except BusyError as error:
            fate = Fate(Status.SKIPPED, str(error))
        why = fate.reason or reason
        if fate.status == Status.FAILED and why.endswith(NO_ROLE):
            why += f" (account {caller} lacks the strategist role of this vault)"
        told = log.error if fate.status == Status.FAILED else log.info
        told("targets", vault=snapshot.vault, status=str(fate.status), reason=why, tx_hash=fate.tx_hash)
        return _outcome(snapshot, fate.status, why, fate)

    def tend(self) -> bool:
        """Follow what was sent, start nothing; whether there is something to follow later."""
        return Dispatch(self.web3, self.sender, self.journal).keep_moving(self.vault, self.web3.eth.chain_id)

    def _call(self, step: Step) -> ContractFunction:
        timelock = bind(self.web3, "Vault", self.vault).functions.timelock().call()
        return bind(self.web3, "Timelock", timelock).functions.set_targets(self.vault, list(step.targets_bps))

    def _skip(self, snapshot: Snapshot, reason: str, record: str) -> Outcome:
        self.journal.skip(snapshot.vault, snapshot.chain_id, snapshot.block.number, 0, reason, record=record)
        log.info("targets stay", vault=snapshot.vault, reason=reason)
        return _outcome(snapshot, Status.SKIPPED, reason, Fate(Status.SKIPPED, reason))


def _outcome(snapshot: Snapshot, status: Status, reason: str, fate: Fate) -> Outcome:
    return Outcome(
        status,
        reason,
        snapshot.vault,
        snapshot.chain_id,
        snapshot.block.number,
        0,
        fate.tx_hash,
        snapshot=snapshot,
        receipt=fate.receipt,
    )


def _record(snapshot: Snapshot, wanted: Wanted, goal: Sequence[int], step: Step) -> str:
    found: Mapping[str, Any] = {
        "chain_id": snapshot.chain_id,
        "vault": snapshot.vault,
        "block": {"number": snapshot.block.number, "hash": snapshot.block.hash},
        "state": snapshot.state,
        "strategy": wanted.strategy,
        "history": wanted.history,
        "weights": [f"{weight:.12f}" for weight in wanted.weights],
        "goal_bps": list(goal),
        "targets_bps": list(step.targets_bps),
        "reason": wanted.stale or step.reason,
    }
    return canonical_json(found)


def strategist_of(
    settings: Settings, strategy: StrategySettings, web3: Web3, sender: Sender, journal: Journal, vault: str
) -> Strategist:
    """The strategist of one vault that the settings describe; EvenkeelError where they are wrong."""
    return Strategist(
        web3,
        vault,
        FromHistory.of(strategy),
        sender,
        journal,
        strategy.least_move_bps,
        settings.deadline_seconds,
        settings.simulate_as,
    )
