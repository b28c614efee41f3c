"""The keeper over a price history: on integers, or on the real bytecode.

What happens in a row, in this order, all at the row's time, which is a block's:
1. the feeds answer the row's prices; the trader outside brings every pool to them (`arbitrage`);
2. deposits and redemptions in kind;
3. the strategist moves the targets as far towards those wished for as the vault's speed limit allows;
4. the keeper looks once and acts: `choose`, its own code (`policy.next_session`, the planner, `keeper.decide`).

Both engines run this loop; a chain (`Ledger` or `EvmChain`) is what they differ in. Gas is the keeper's to pay: it
counts in its plans and is listed among the costs, but it does not leave the vault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from offchain import policy as vault_policy
from offchain.backtest.chain.arbitrage import Move, to_price
from offchain.backtest.chain.ledger import Ledger
from offchain.backtest.chain.result import ChainResult, Trade, result_of
from offchain.backtest.chain.scenario import MAX_BPS, PoolSettings, Scenario, VaultSettings
from offchain.backtest.errors import BacktestError
from offchain.backtest.model import Policy
from offchain.chain.pools import PoolSource
from offchain.chain.vault import Snapshot
from offchain.errors import PoolError
from offchain.keeper.decide import Decision, Planner, decide, waiting
from offchain.keeper.market import GasPrice, Hub, Sources, make_problem
from offchain.planner import Plan, Pool, Problem
from offchain.planner import plan as joint_plan
from offchain.planner.problem import objective
from offchain.policy import BPS_IN_WAD, WAD, VaultState

__all__ = ["ENGINES", "Chain", "choose", "play", "replay", "worth"]

ENGINES = ("integer", "evm")
DEADLINE = 600  # seconds


class Chain(Protocol):
    """A vault, its pools, and who deals with them."""

    @property
    def depositors(self) -> int:
        """Shares that they hold."""

    def move(self, now: int, answers: Sequence[int]) -> None:
        """A new block at `now`; the feeds answer."""

    def arbitrage(self, moves: Sequence[Move]) -> None:
        """The trader brings the pools to the market's prices."""

    def mint(self, shares: int) -> None:
        """A depositor mints in kind."""

    def redeem(self, shares: int) -> None:
        """A depositor redeems in kind."""

    def set_targets(self, targets_bps: Sequence[int]) -> None:
        """The strategist moves the targets."""

    def pools(self) -> tuple[Pool, ...]:
        """As they are now."""

    def snapshot(self) -> Snapshot:
        """The vault as the keeper reads it."""

    def rebalance(self, decision: Decision, executor: str, deadline: int) -> None:
        """The keeper's transaction."""


def replay(
    data: Any,
    policy: Policy,
    *,
    engine: str = "integer",
    cash: float = 1_000_000.0,
    pools: PoolSettings | None = None,
    vault: VaultSettings | None = None,
    flows: Any = None,
    planner: Planner = joint_plan,
    progress: Callable[[int], None] | None = None,
) -> ChainResult:
    """One backtest of the keeper and its vault, row by row.

    `data`: a Market, or a DataFrame of prices. `cash` USD seed the vault at its targets, without trading. `flows` (T,)
    USD in kind, instead of the market's. `progress` is called with the number of rows done
    since the last call. Engine "integer" is pure
    arithmetic; "evm" runs the contracts, needs pyrevm and Uniswap's packages, and gives the same to the wei.
    """
    if engine not in ENGINES:
        raise BacktestError(f"engine: {engine!r} is none of {', '.join(ENGINES)}")
    scenario = Scenario.of(data, policy, cash=cash, pools=pools, vault=vault, flows=flows)
    chain: Chain
    if engine == "evm":
        from offchain.backtest.chain.evm import EvmChain

        chain = EvmChain(scenario)
    else:
        chain = Ledger(scenario)
    return play(scenario, chain, engine=engine, planner=planner, progress=progress)


def play(
    scenario: Scenario,
    chain: Chain,
    *,
    engine: str,
    planner: Planner = joint_plan,
    progress: Callable[[int], None] | None = None,
) -> ChainResult:
    """The scenario's rows on a chain that has just been made from it."""
    snapshots: list[Snapshot] = []
    pools: list[tuple[Pool, ...]] = []  # before each row, and after the last
    trades: list[Trade] = []
    flows: list[float] = []  # USD that depositors brought in each row
    goal = tuple(asset.target_bps for asset in scenario.state.assets)
    for row, now in enumerate(scenario.times):
        chain.move(now, scenario.answers[row])
        pools.append(chain.pools())
        chain.arbitrage(_moves(scenario, pools[-1], row))
        snapshot = chain.snapshot()
        flows.append(0.0)
        if usd := scenario.flows[row]:
            shares = _flow(scenario, chain, snapshot.state, usd, row)
            snapshot = chain.snapshot()
            flows[row] = shares * vault_policy.nav(snapshot.state) / snapshot.state.supply / WAD
        goal = scenario.targets.get(row, goal)
        if (step := _step(snapshot.state, goal)) is not None:
            chain.set_targets(step)
            snapshot = chain.snapshot()
        if not vault_policy.next_session(snapshot.state, now)[1]:
            problem = _problem(scenario, snapshot, chain.pools())
            decision = choose(
                snapshot, problem, worth(planner, scenario.policy.gain_over_cost), _gas(scenario)
            )
            if decision.act:
                chain.rebalance(decision, scenario.places.executor, now + DEADLINE)
                after = chain.snapshot()
                trades.append(Trade(row, decision, snapshot, after))
                snapshot = after
        snapshots.append(snapshot)
        if progress is not None:
            progress(1)
    pools.append(chain.pools())
    return result_of(scenario, engine, snapshots, pools[1:], flows, trades)


# ---------------------------------------------------------------- the keeper's decision


def choose(
    snapshot: Snapshot, problem: Problem, planner: Planner = joint_plan, gas: GasPrice | None = None
) -> Decision:
    """What the keeper does when it looks: the live one, both engines and `replay_journal` decide by this."""
    if vault_policy.next_session(snapshot.state, problem.now)[1]:
        return waiting(snapshot, problem.now)
    return decide(snapshot, problem, planner, gas)


def worth(planner: Planner, least_gain: float) -> Planner:
    """The planner, but it trades only if the tracking loss falls by `least_gain` times the cost; for live keepers, too.

    Tracking loss as in `planner.problem`, with the problem's aversion and covariance; cost: NAV lost, tax, gas. The
    planner itself also trades for less where that saves another round in an open session.
    """
    if least_gain <= 0:
        return planner
    multiple = round(least_gain * WAD)

    def plan(problem: Problem) -> Plan:
        found = planner(problem)
        if not found.trades or found.costs is None:
            return found
        lost = found.costs.fee + found.costs.impact + found.costs.tax
        loss = replace(problem, closing=False)  # the objective is then tracking loss and what is lost
        gain = objective(loss, problem.state.balances) - objective(loss, found.balances_after) + lost
        cost = lost + found.costs.gas
        if gain * WAD >= multiple * cost:
            return found
        reason = (
            f"the trade gains {gain / WAD:.2f} USD and costs {cost / WAD:.2f}: less than {least_gain:g} times"
        )
        idle = (0,) * len(found.sells)
        return replace(
            found, sells=idle, payload=b"", legs=(), balances_after=problem.state.balances, reason=reason
        )

    return plan


def _problem(scenario: Scenario, snapshot: Snapshot, pools: tuple[Pool, ...]) -> Problem:
    """The planner's problem as the keeper makes it, with the policy's aversion and covariance."""
    sources = Sources(PoolSource(), scenario.places.executor, scenario.places.hub)
    hub = Hub(scenario.decimals[-1], WAD) if scenario.hub_outside else Hub()
    problem = make_problem(snapshot, pools, sources, hub, _gas(scenario))
    return replace(problem, risk_aversion=scenario.risk_aversion, covariance=scenario.covariance)


def _gas(scenario: Scenario) -> GasPrice:
    return GasPrice(usd=scenario.gas_price, source="gas_price_usd")


# ---------------------------------------------------------------- from outside


def _moves(scenario: Scenario, pools: tuple[Pool, ...], row: int) -> list[Move]:
    try:
        found = [to_price(pool, *scenario.pool_price(i, row)) for i, pool in enumerate(pools)]
    except PoolError as error:
        raise BacktestError(f"prices: {scenario.market.where(row)}: {error}") from None
    return [move for move in found if move is not None]


def _flow(scenario: Scenario, chain: Chain, state: VaultState, usd: int, row: int) -> int:
    """Shares worth `usd` (WAD), rounded down: minted where above 0, redeemed where below; how many."""
    shares = abs(usd) * state.supply // vault_policy.nav(state)
    if shares == 0:
        return 0
    if usd > 0:
        chain.mint(shares)
        return shares
    held = chain.depositors
    if shares > held:
        most = held * vault_policy.nav(state) / state.supply / WAD
        where = scenario.market.where(row)
        raise BacktestError(
            f"flows: {where}: {-usd / WAD:,.2f} USD are redeemed and depositors hold {most:,.2f}"
        )
    chain.redeem(shares)
    return -shares


def _step(state: VaultState, goal: tuple[int, ...]) -> tuple[int, ...] | None:
    """The targets to set now: the goal, or as far towards it as the speed limit allows; None where nothing moves."""
    now = tuple(asset.target_bps for asset in state.assets)
    path = sum(abs(a - b) for a, b in zip(now, goal, strict=True))
    if path == 0:
        return None
    free = state.rules.speed_capacity_bps * BPS_IN_WAD - vault_policy.speed_budget_used(state, state.time)
    half = min(path, max(free, 0) // BPS_IN_WAD) // 2  # bps up, and as many down
    if half == 0:
        return None
    ups = _share([max(b - a, 0) for a, b in zip(now, goal, strict=True)], half)
    downs = _share([max(a - b, 0) for a, b in zip(now, goal, strict=True)], half)
    step = tuple(a + up - down for a, up, down in zip(now, ups, downs, strict=True))
    assert sum(step) == MAX_BPS
    return step


def _share(wanted: list[int], total: int) -> list[int]:
    """`total` in proportion to what is wanted, which is at least as much: whole numbers, the first get what is left."""
    parts = [total * x // sum(wanted) for x in wanted]
    for i, x in enumerate(wanted):
        more = min(x - parts[i], total - sum(parts))
        parts[i] += more
    return parts
