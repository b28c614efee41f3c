"""One look at a vault: settle -> read -> decide (plan, policy check) -> eth_call -> sign -> journal -> send -> follow.

`once(...)` is the programmatic entry; `Keeper` is the same with a memory. Every step is journalled before it is
taken: a transaction that a crash or a time-out left open is settled before anything new is looked at. What happens from
signing on is in `offchain.keeper.dispatch`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any

import structlog
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.types import BlockIdentifier, TxReceipt

from offchain import policy
from offchain.aggregators import Aggregator, ask, compared, improve, requests_for, venues
from offchain.chain.contracts import address_of, bind
from offchain.chain.errors import BusyError, ConfigError, HeldError, JournalError
from offchain.chain.lens import read_one
from offchain.chain.pools import PoolSource
from offchain.chain.rpc import agree
from offchain.chain.sender import Sender, revert_reason
from offchain.chain.signer import Signer
from offchain.chain.vault import Snapshot, block_at, deadline_after, latest_block
from offchain.keeper.costs import Entry
from offchain.keeper.decide import Decision, Planner, decide, waiting
from offchain.keeper.dispatch import Dispatch, Fate
from offchain.keeper.errand import settle
from offchain.keeper.journal import Journal, Run, Status
from offchain.keeper.market import Sources, need_factories, observe
from offchain.keeper.sanity import Sanity, kind_of
from offchain.planner import Plan, Problem
from offchain.planner import plan as joint_plan
from offchain.settings import Settings

__all__ = ["Keeper", "Outcome", "from_settings", "journal_of", "keeper_of", "once", "pause_after"]

FIRST_PAUSE = 60  # seconds after the second revert in a row; twice as long after each further one
LONGEST_PAUSE = 3_600  # seconds

log = structlog.get_logger("evenkeel.keeper")


@dataclass(frozen=True)
class Outcome:
    """What one look came to."""

    status: Status
    reason: str
    vault: str
    chain_id: int
    block: int  # the one observed
    session: int
    tx_hash: str | None = None
    decision: Decision | None = None
    snapshot: Snapshot | None = None
    receipt: TxReceipt | None = None

    @property
    def plan(self) -> Plan | None:
        """What was planned, if it came to that."""
        return self.decision.plan if self.decision else None

    @property
    def failed(self) -> bool:
        """A rebalance was due and did not happen."""
        return self.status in (Status.FAILED, Status.SENT)

    def summary(self) -> dict[str, Any]:
        """The outcome in JSON values."""
        return {
            "status": str(self.status),
            "reason": self.reason,
            "vault": self.vault,
            "chain_id": self.chain_id,
            "block": self.block,
            "session": self.session,
            "trigger": self.decision.trigger if self.decision else None,
            "tx_hash": self.tx_hash,
            "gas_used": int(self.receipt["gasUsed"]) if self.receipt else None,
            "sells": [str(sell) for sell in self.plan.sells] if self.plan else None,
            "decision": "0x" + self.decision.commitment.hex() if self.decision else None,
        }


@dataclass(frozen=True)
class Keeper:
    """Keeps one vault on target."""

    web3: Web3
    vault: str  # address
    executor: str  # address
    hub: str  # address of a cash token that swaps may pass through; "": none
    pools: PoolSource
    sender: Sender
    journal: Journal
    simulate_as: str | None = None  # the keeper's address where there is no account to sign with
    deadline_seconds: int = 600
    planner: Planner = field(default=joint_plan)
    native_token: str = ""  # address of the wrapped native token, which the vault's oracle prices; "": none
    native_price: int = 0  # USD WAD per whole native token, where the oracle has none; 0: gas is left out
    venues: tuple[Aggregator, ...] = ()  # whose quotes are compared with the own route; none: nobody is asked
    quote_seconds: float = 5  # for all quotes together
    quote_margin_bps: int = 2  # by how much of what it exchanges a quote must be better
    sanity: Sanity = field(default_factory=Sanity)  # the operator's own limits
    trigger_blocks: int = 1  # that a trigger with a band in it has to hold, before a session is opened for it
    lens: str | None = (
        None  # address of a VaultLens, which reads the vault in one call; without: a call a field
    )

    @property
    def dispatch(self) -> Dispatch:
        """What carries this account's transactions."""
        return Dispatch(self.web3, self.sender, self.journal)

    def once(self) -> Outcome:
        """Look once; act if the rules allow."""
        chain_id = self.web3.eth.chain_id
        if still_open := settle(self.dispatch, self.vault, chain_id):
            return self._still_open(*still_open)
        snapshot = read_one(self.web3, self.lens, self.vault, latest_block(self.web3))
        decision = self._decide(snapshot)
        if decision.act and (pause := self._pausing(snapshot) or self._flickering(snapshot, decision)):
            decision = replace(decision, act=False, reason=pause)
        if not decision.act:
            return self._skip(snapshot, decision)
        try:
            return self._act(snapshot, decision)
        except BusyError as error:
            return self._left(str(error), snapshot, decision)

    # ------------------------------------------------------------ decide

    def _decide(self, snapshot: Snapshot) -> Decision:
        state, now = snapshot.state, snapshot.state.time
        if policy.next_session(state, now)[1]:
            return waiting(snapshot, now)
        observed = observe(self.web3, snapshot, self._sources())
        for note in observed.notes:
            log.warning("about the plan", vault=snapshot.vault, note=note)
        asks = self.venues and self._caller() and not self._pausing(snapshot)
        planner = partial(self.best_route, snapshot) if asks else self.planner
        decision = decide(snapshot, observed.problem, planner, observed.gas)
        return self._sane(snapshot, observed.problem, decision)

    def _sane(self, snapshot: Snapshot, problem: Problem, decision: Decision) -> Decision:
        """The decision, unless the operator's own limits speak against its plan."""
        if not decision.act or decision.plan is None:
            return decision

        def ledger(latest: int) -> list[Entry]:
            return [cost for _, cost in self.journal.costs(snapshot.vault, snapshot.chain_id, latest)]

        refusal = self.sanity.refusal(snapshot, problem, decision.plan, ledger)
        return replace(decision, act=False, reason=refusal) if refusal else decision

    def best_route(self, snapshot: Snapshot, problem: Problem) -> Plan:
        """The own plan, or one with venues' quotes that the node has shown to be better."""
        own, caller = self.planner(problem), self._caller()
        if caller is None or not own.trades:
            return own
        wanted = requests_for(problem, own, snapshot.chain_id, caller)
        quotes = self.sanity.vetted(ask(self.venues, wanted, self.quote_seconds))
        trial = partial(self._try_payload, snapshot, problem, own, caller)
        found = improve(problem, own, quotes, trial, self.quote_margin_bps)
        for line in compared(problem, own, quotes):
            log.info("quote", vault=snapshot.vault, quote=line)
        log.info("route chosen", vault=snapshot.vault, choice=found.choice)
        return found

    def _try_payload(
        self, snapshot: Snapshot, problem: Problem, own: Plan, caller: ChecksumAddress, payload: bytes
    ) -> tuple[str, int]:
        """Why the vault, at the block that was read, refuses the plan with this payload, or the gas that it uses."""
        call = bind(self.web3, "Vault", self.vault).functions.rebalance(
            list(own.sells),
            self.executor,
            payload,
            bytes(32),
            own.session,
            snapshot.block.time + self.deadline_seconds,
        )
        refusal = _simulate(call, caller, snapshot.block.number)
        if refusal or not problem.gas_price:
            return refusal, 0
        try:
            return "", call.estimate_gas({"from": caller}, block_identifier=snapshot.block.number)
        except (ContractLogicError, Web3RPCError) as error:
            return revert_reason(error), 0

    def _sources(self) -> Sources:
        return Sources(
            self.pools,
            self.executor,
            self.hub,
            self.native_token,
            self.native_price,
            self.sender.max_fee_wei,
        )

    def _pausing(self, snapshot: Snapshot) -> str:
        """Why nothing is sent for now: what reverts again and again costs gas each time; "" when nothing speaks."""
        reverts = self.journal.reverts(snapshot.vault, snapshot.chain_id)
        if not reverts:
            return ""
        tried_at = (reverts[-1].deadline or 0) - self.deadline_seconds  # chain time
        again_at = tried_at + pause_after(len(reverts))
        if snapshot.block.time >= again_at:
            return ""
        return f"pausing after {len(reverts)} reverts on chain in a row, until {again_at}"

    def _flickering(self, snapshot: Snapshot, decision: Decision) -> str:
        """Why a band that is broken now is not acted on: it was not in one of the blocks before; "" when it was."""
        if "threshold" not in decision.trigger:
            return ""
        for back in range(1, self.trigger_blocks):
            block = block_at(self.web3, max(0, snapshot.block.number - back))
            state = read_one(self.web3, self.lens, self.vault, block).state
            if not policy.trigger(state, block.time).holds:
                return (
                    f"flickering: its trigger has to hold for {self.trigger_blocks} blocks (trigger_blocks)"
                )
        return ""

    def _skip(self, snapshot: Snapshot, decision: Decision) -> Outcome:
        self.journal.skip(
            snapshot.vault,
            snapshot.chain_id,
            snapshot.block.number,
            decision.session,
            decision.reason,
            "0x" + decision.commitment.hex(),
            decision.record,
        )
        log.info(
            "nothing to do",
            vault=snapshot.vault,
            block=snapshot.block.number,
            kind=str(kind_of(decision.reason)),
            reason=decision.reason,
        )
        return _outcome(Status.SKIPPED, decision.reason, snapshot, decision)

    # ------------------------------------------------------------ act

    def _act(self, snapshot: Snapshot, decision: Decision) -> Outcome:
        assert decision.plan is not None
        self._nodes_agree(snapshot)
        deadline = deadline_after(self.web3, snapshot.block, self.deadline_seconds)
        run = self.journal.plan(
            snapshot.vault,
            snapshot.chain_id,
            snapshot.block.number,
            decision.session,
            decision.reason,
            "0x" + decision.commitment.hex(),
            decision.record,
            deadline,
        )
        log.info(
            "planned",
            vault=snapshot.vault,
            session=decision.session,
            reason=decision.reason,
            legs=len(decision.plan.legs),
        )
        call = self._call(decision, decision.plan, deadline)
        caller = self._caller()
        if caller is None:
            reason = "not simulated and not sent: no keystore and no simulate_as is named"
            self.journal.dry(run, reason)
            return _outcome(Status.PLANNED, reason, snapshot, decision)
        if refusal := _simulate(call, caller):
            if why := self._outrun(snapshot):
                self.journal.dry(run, why)
                return self._left(why, snapshot, decision)
            return self._failed(run, f"the vault refuses in simulation: {refusal}", snapshot, decision)
        self.journal.simulated(run)
        if refusal := self.sender.refusal:
            why = refusal if refusal.startswith("kill_switch") else "dry run"
            reason = f"{why}, would rebalance: {decision.reason}"
            self.journal.dry(run, reason)
            log.info("not sent", vault=snapshot.vault, kind=str(kind_of(reason)), reason=reason)
            return _outcome(Status.SIMULATED, reason, snapshot, decision)
        return self._submit(run, call, snapshot, decision)

    def _nodes_agree(self, snapshot: Snapshot) -> None:
        """Raises NodesDisagree unless all nodes know the block and the vault's head that the decision rests on."""
        vault = bind(self.web3, "Vault", self.vault)
        agree(self.web3, snapshot.block, [(vault.address, vault.encode_abi("head"), snapshot.head)])

    def _submit(self, run: int, call: ContractFunction, snapshot: Snapshot, decision: Decision) -> Outcome:
        fate = self.dispatch.submit(run, call, partial(self._outrun, snapshot))
        if fate.status == Status.SKIPPED:
            return self._left(fate.reason, snapshot, decision)
        if fate.status == Status.FAILED:
            return self._failed(run, fate.reason, snapshot, decision, fate.tx_hash, fate.receipt)
        reason = fate.reason if fate.status in (Status.SENT, Status.MINED) else decision.reason
        return _outcome(fate.status, reason, snapshot, decision, fate.tx_hash, fate.receipt)

    def _outrun(self, snapshot: Snapshot) -> str:
        """That the vault is not, or will not be, what the decision rests on; "" where it is."""
        head = bind(self.web3, "Vault", self.vault).functions.head()
        heads = ["0x" + head.call().hex()]
        with contextlib.suppress(Web3RPCError):  # a node that knows no pending block
            heads.append("0x" + head.call(block_identifier="pending").hex())
        if set(heads) == {snapshot.head}:
            return ""
        return f"another keeper was first: the vault has changed since block {snapshot.block.number}"

    def _left(self, reason: str, snapshot: Snapshot, decision: Decision) -> Outcome:
        log.info("left to another keeper", vault=snapshot.vault, reason=reason)
        return _outcome(Status.SKIPPED, reason, snapshot, decision)

    def _failed(
        self,
        run: int,
        reason: str,
        snapshot: Snapshot,
        decision: Decision,
        tx_hash: str | None = None,
        receipt: TxReceipt | None = None,
    ) -> Outcome:
        if reason.endswith("not keeper"):
            reason += f" (account {self._caller()} lacks the keeper role of this vault)"
        if receipt is None and tx_hash is None:
            self.journal.failed(run, reason)
        log.error("failed", vault=snapshot.vault, reason=reason, tx_hash=tx_hash)
        return _outcome(Status.FAILED, reason, snapshot, decision, tx_hash, receipt)

    def _call(self, decision: Decision, plan: Plan, deadline: int) -> ContractFunction:
        vault = bind(self.web3, "Vault", self.vault)
        return vault.functions.rebalance(
            list(plan.sells),
            self.executor,
            plan.payload,
            decision.commitment,
            plan.session,
            deadline,
        )

    def _caller(self) -> ChecksumAddress | None:
        if self.sender.account is not None:
            return self.sender.account.address
        return None if self.simulate_as is None else Web3.to_checksum_address(self.simulate_as)

    # ------------------------------------------------------------ settle what an earlier run left open

    def tend(self) -> bool:
        """Look after what was sent and start nothing: while the vault is halted, and between two looks.

        Whether there is something to look at later.
        """
        return self.dispatch.keep_moving(self.vault, self.web3.eth.chain_id)

    def _still_open(self, run: Run, fate: Fate) -> Outcome:
        return Outcome(
            fate.status,
            fate.reason,
            run.vault,
            run.chain_id,
            run.block,
            run.session,
            fate.tx_hash,
        )


def pause_after(reverts: int) -> int:
    """Seconds from the last of so many reverts in a row to the next try: none after the first, then ever longer."""
    return 0 if reverts < 2 else min(FIRST_PAUSE << min(reverts - 2, 32), LONGEST_PAUSE)


def once(
    web3: Web3,
    vault: str,
    account: Signer | None,
    *,
    executor: str,
    hub: str = "",
    pools: PoolSource,
    journal: Journal | None = None,
    dry_run: bool = False,
    planner: Planner = joint_plan,
    native_token: str = "",
) -> Outcome:
    """Look at `vault` once and act with `account`; without a journal nothing is remembered between calls."""
    keeper = Keeper(
        web3=web3,
        vault=address_of(vault, "vault"),
        executor=address_of(executor, "executor"),
        hub=address_of(hub, "hub") if hub else "",
        pools=pools,
        sender=Sender(web3, account, dry_run=dry_run, poll_seconds=0.02),
        journal=journal or Journal(":memory:"),
        planner=planner,
        native_token=address_of(native_token, "native_token") if native_token else "",
    )
    return keeper.once()


@contextlib.contextmanager
def from_settings(settings: Settings, web3: Web3) -> Iterator[Keeper]:
    """The keeper that the settings describe; only one process at a time may use its journal."""
    vault, _ = _required(settings, ("vault", "executor"))
    sender = Sender.from_settings(web3, settings)
    with journal_of(settings, [vault]) as journal:
        yield keeper_of(settings, web3, sender, journal, vault)


def keeper_of(settings: Settings, web3: Web3, sender: Sender, journal: Journal, vault: str) -> Keeper:
    """The keeper of one vault that the settings describe, with a sender and a journal that others may share."""
    (executor,) = _required(settings, ("executor",))
    need_factories(settings)
    sources = Sources.from_settings(settings)
    timeout = settings.aggregator_timeout_seconds
    return Keeper(
        web3=web3,
        vault=vault,
        executor=executor,
        hub=sources.hub,
        pools=sources.pools,
        sender=sender,
        journal=journal,
        simulate_as=settings.simulate_as,
        deadline_seconds=settings.deadline_seconds,
        native_token=sources.native_token,
        native_price=sources.native_price,
        venues=venues(settings.aggregators, settings.aggregator_urls, timeout),
        quote_seconds=timeout,
        quote_margin_bps=settings.aggregator_margin_bps,
        sanity=Sanity.from_settings(settings),
        trigger_blocks=settings.of(vault).trigger_blocks or 1,
        lens=settings.lens,
    )


def _required(settings: Settings, names: Sequence[str]) -> list[str]:
    missing = [name for name in names if getattr(settings, name) is None]
    if missing:
        variables = ", ".join(f"EVENKEEL_{name.upper()}" for name in missing)
        raise ConfigError(f"{', '.join(missing)}: not set (in evenkeel.toml, or {variables})")
    return [str(getattr(settings, name)) for name in names]


@contextlib.contextmanager
def journal_of(settings: Settings, vaults: Sequence[str]) -> Iterator[Journal]:
    """The journal, and the right to use it: a file's for one process, a database's for one process a vault."""
    if settings.database is None:
        with _locked(settings), contextlib.closing(Journal(settings.journal)) as journal:
            yield journal
        return
    address = settings.database.get_secret_value()
    with contextlib.closing(Journal(address)) as journal, journal.hold(*vaults) as held:
        yield held


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[IO[str]]:
    path = settings.journal.with_name(settings.journal.name + ".lock")
    try:
        file = path.open("w")
    except OSError as error:
        kind = (
            JournalError
            if error.errno in (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT)
            else ConfigError
        )
        raise kind(f"journal: cannot write beside {settings.journal}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HeldError(f"journal: another keeper is using {settings.journal}") from None
        yield file


def _simulate(call: ContractFunction, caller: str, block: BlockIdentifier = "latest") -> str:
    """The revert string of an eth_call, "" when it goes through."""
    try:
        call.call({"from": Web3.to_checksum_address(caller)}, block_identifier=block)
    except (ContractLogicError, Web3RPCError) as error:
        return revert_reason(error)
    return ""


def _outcome(
    status: Status,
    reason: str,
    snapshot: Snapshot,
    decision: Decision,
    tx_hash: str | None = None,
    receipt: TxReceipt | None = None,
) -> Outcome:
    return Outcome(
        status,
        reason,
        snapshot.vault,
        snapshot.chain_id,
        snapshot.block.number,
        decision.session,
        tx_hash,
        decision,
        snapshot,
        receipt,
    )
