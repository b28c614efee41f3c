"""The integer engine's chain: vault, tokens and pools in plain integers, as the contracts do it, wei for wei. Pure.

Rules, sessions and budgets are `offchain.policy`'s, pools `offchain.planner.pools`', the audit head `offchain.audit`'s;
what is written here is the rest: the share ledger, the Executor's legs, the order in which things are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from offchain import policy
from offchain.audit.chain import REBALANCE, RULE, Position, Rebalanced, RuleChanged, head_after
from offchain.backtest.chain.addresses import CHAIN_ID, KEEPER
from offchain.backtest.chain.arbitrage import Move, moved
from offchain.backtest.chain.scenario import Scenario
from offchain.backtest.errors import BacktestError
from offchain.chain.vault import BlockRef, Snapshot
from offchain.keeper.decide import Decision
from offchain.planner.payload import Call, SwapV2, SwapV3, Sweep, decode
from offchain.planner.pools import Pool, V2Pool
from offchain.policy import VaultState

__all__ = ["FIRST_BLOCK", "NO_HASH", "Ledger"]

FIRST_BLOCK = 2  # of the first row; the contracts are made in block 1
NO_HASH = "0x" + "00" * 32  # blocks of a replay have none
NOWHERE = Position(0, NO_HASH, 0)


class Ledger:
    """A vault and its pools. The same methods as `evm.EvmChain`, and the same answers."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._state = scenario.state  # as stored: fees and budgets as of their last change
        self._pools = {pool.address: pool for pool in scenario.pools}
        self._head = scenario.genesis
        self._left: dict[str, int] = {}  # token units that a plan left on the executor
        self._flows = 0  # sequence number
        self._now = scenario.state.time
        self._block = FIRST_BLOCK - 1
        self.depositors = scenario.state.supply - policy.WAD  # shares; one WAD of them is dead

    # ------------------------------------------------------------ from outside

    def move(self, now: int, answers: Sequence[int]) -> None:
        """A new block at `now`; the feeds answer."""
        state, self._now, self._block = self._state, now, self._block + 1
        unit = 10**18 // self._feed_scale
        self._state = replace(state, prices=tuple(a * unit for a in answers[: len(state.assets)]))

    def arbitrage(self, moves: Sequence[Move]) -> None:
        """The trader brings the pools to the market's prices."""
        for move in moves:
            self._pools[move.pool] = moved(self._pools[move.pool], move)

    def mint(self, shares: int) -> None:
        """A depositor mints in kind."""
        state = policy.accrue_fee(self._state, self._now)
        paid = policy.mint_amounts(state, shares)
        balances = tuple(q + x for q, x in zip(state.balances, paid, strict=True))
        self._store_flow(state, balances, shares)

    def redeem(self, shares: int) -> None:
        """A depositor redeems in kind."""
        state = policy.accrue_fee(self._state, self._now)
        paid = policy.redeem_amounts(state, shares)
        balances = tuple(q - x for q, x in zip(state.balances, paid, strict=True))
        self._store_flow(state, balances, -shares)

    def _store_flow(self, state: VaultState, balances: tuple[int, ...], shares: int) -> None:
        self._state = replace(state, balances=balances, supply=state.supply + shares)
        self._flows += 1
        self.depositors += shares

    def set_targets(self, targets_bps: Sequence[int]) -> None:
        """The strategist moves the targets."""
        refusal, self._state = policy.set_targets(self._state, targets_bps, self._now)
        if refusal:
            raise BacktestError(f"targets: the vault refuses {list(targets_bps)} bps: {refusal}")
        data = encode(["uint256[]"], [list(targets_bps)])
        self._head = head_after(RuleChanged(NOWHERE, self._head, RULE, "set_targets", self._now, data))

    # ------------------------------------------------------------ the keeper

    def pools(self) -> tuple[Pool, ...]:
        """As they are now."""
        return tuple(self._pools.values())

    def snapshot(self) -> Snapshot:
        """The vault as `chain.vault.read_vault` reads it: fee and budgets as of now."""
        state, now = self._state, self._now
        current = replace(
            policy.accrue_fee(state, now),
            time=now,
            fee_accrued_at=now,
            loss_used=policy.loss_budget_used(state, now),
            loss_time=now,
            speed_used=policy.speed_budget_used(state, now),
            speed_time=now,
        )
        block = BlockRef(self._block, NO_HASH, now)
        return Snapshot(CHAIN_ID, block, state.vault, current, "0x" + self._head.hex())

    def rebalance(self, decision: Decision, executor: str, deadline: int) -> None:
        """The keeper's transaction."""
        plan = decision.plan
        assert plan is not None
        state, now = self._state, self._now
        sent = policy.clip_sells(replace(state, time=now), plan.sells)
        after, pools, left = self._execute(plan.payload, state, sent)
        verdict = policy.check_rebalance(
            state, plan.sells, after, plan.session, deadline, now, executor=executor
        )
        if not verdict.ok:
            raise BacktestError(f"rebalance: the vault refuses what the keeper decided: {verdict.reason}")
        entry = Rebalanced(
            position=NOWHERE,
            keeper=KEEPER,
            previous_head=self._head,
            kind=REBALANCE,
            session=plan.session,
            time=now,
            supply=policy.accrue_fee(state, now).supply,
            flow_sequence=self._flows,
            prices=state.prices,
            balances_before=state.balances,
            balances_after=tuple(after),
            sells=plan.sells,
            executor=executor,
            payload_hash=keccak(plan.payload),
            decision=decision.commitment,
        )
        self._state, self._pools, self._left = verdict.state, pools, left
        self._head = head_after(entry)

    def _execute(
        self, payload: bytes, state: VaultState, sent: Sequence[int]
    ) -> tuple[list[int], dict[str, Pool], dict[str, int]]:
        """What Executor.vy makes of the payload: the vault's balances, the pools, what it is left with."""
        tokens = [asset.token for asset in state.assets]
        held = self._left | {t: s + self._left.get(t, 0) for t, s in zip(tokens, sent, strict=True)}
        back = [q - s for q, s in zip(state.balances, sent, strict=True)]
        pools = dict(self._pools)
        for leg in decode(payload):
            assert not isinstance(leg, Call)  # the planner makes none
            if isinstance(leg, Sweep):
                back[tokens.index(leg.token)] += held.pop(leg.token, 0)
                continue
            pool, at_hand = pools[leg.pool], held.get(leg.token_in, 0)
            amount = at_hand if leg.whole_balance else min(leg.amount_in, at_hand)
            if amount == 0:
                continue
            paid, pools[leg.pool] = pool.swap(leg.token_in, amount)
            _check_leg(leg, pool, amount, paid)
            token_out = pool.token1 if leg.zero_for_one else pool.token0
            held[leg.token_in] = at_hand - amount
            if leg.to_caller:
                back[tokens.index(token_out)] += paid
            else:
                held[token_out] = held.get(token_out, 0) + paid
        return back, pools, held

    @property
    def _feed_scale(self) -> int:
        return self._scenario.feed_scale


def _check_leg(leg: SwapV2 | SwapV3, pool: Pool, amount: int, paid: int) -> None:
    if isinstance(leg, SwapV2) != isinstance(pool, V2Pool) or paid * leg.amount_in < leg.min_out * amount:
        raise BacktestError(f"rebalance: a leg through pool {leg.pool} pays too little")
