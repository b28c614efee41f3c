"""The keeper's journal: each step is written down before it is taken.

A run is `planned`, `simulated`, `sent`, `mined`, then `confirmed` or `failed`; or it is `skipped`. A transaction takes
a nonce of the account (table `nonces`: one run a nonce), and each signed version of it (table `attempts`) is written
before a node sees it, so that a keeper that died there finds it again instead of making a second one.
What a mined transaction cost (table `costs`) is written together with its run's end: once, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Select, delete, func, insert, or_, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from offchain.chain.errors import BusyError, HeldError, TransactionError
from offchain.chain.sender import ETHER, SignedCall
from offchain.keeper.costs import Entry
from offchain.keeper.database import Hold, lock, open_database, reading, writing
from offchain.keeper.tables import Attempt, Nonce, NonceState, Purpose, Run, Status
from offchain.keeper.tables import costs as _costs

__all__ = [
    "REVERTED",
    "UNFINISHED",
    "UNSENT",
    "Attempt",
    "DayLimit",
    "Journal",
    "Mined",
    "Nonce",
    "NonceState",
    "Purpose",
    "Run",
    "Status",
]

REVERTED = "reverted on chain"  # how the reason of a run begins whose transaction was mined and failed
UNFINISHED = (Status.PLANNED, Status.SIMULATED, Status.SENT, Status.MINED)
UNSENT = (Status.PLANNED, Status.SIMULATED)
OPEN = (NonceState.RESERVED, NonceState.FREE, NonceState.LIVE)


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction is, and what it cost."""

    block: int
    block_hash: str
    time: int  # timestamp of the block
    gas_wei: int


@dataclass(frozen=True, slots=True)
class DayLimit:
    """What an account's transactions may cost in 24 hours."""

    wei: int
    since: int  # timestamp, a day before the newest block

    def check(self, spent: int, most: int) -> None:
        """TransactionError where something that may cost `most` is too much after `spent`. wei."""
        if spent + most > self.wei:
            raise TransactionError(
                f"daily_gas_limit_native: {spent / ETHER:.6f} are spent or committed in 24 hours and this may cost "
                f"{most / ETHER:.6f}, above the limit {self.wei / ETHER:.6f}"
            )


class Journal:
    """Runs of any number of vaults in one database: a file (`:memory:` for none), an SQLAlchemy address, or an engine
    that `open_database` made.
    """

    def __init__(self, target: Path | str | Engine) -> None:
        self._engine = target if isinstance(target, Engine) else open_database(target)
        self.path = Path(self._engine.url.database or "")  # of an SQLite file

    def close(self) -> None:
        """Let the database go."""
        self._engine.dispose()

    @contextmanager
    def hold(self, *vaults: str) -> Iterator[Journal]:
        """The journal for the one process that looks after the vaults; HeldError where another one does.

        PostgreSQL's locks go when the server is restarted. They are asked for at each write; where another process has
        one by then, that is a BusyError and nothing is written.
        """
        hold = Hold(self._engine, [f"vault {vault}" for vault in vaults])

        def check(_: Session) -> None:
            if taken := hold.take():
                raise BusyError(f"another keeper looks after {taken.removeprefix('vault ')}")

        try:
            if taken := hold.take():
                raise HeldError(f"database: another keeper looks after {taken.removeprefix('vault ')}")
            yield Journal(self._engine.execution_options(evenkeel_fence=check))
        finally:
            hold.release()

    # ------------------------------------------------------------ runs

    def skip(
        self,
        vault: str,
        chain_id: int,
        block: int,
        session: int,
        reason: str,
        decision: str | None = None,
        record: str | None = None,
    ) -> None:
        """Note that nothing was done; the same reason again only moves the last entry's block, time and record."""
        with writing(self._engine) as db:
            last = db.scalar(
                select(Run)
                .where(Run.vault == vault, Run.chain_id == chain_id)
                .order_by(Run.id.desc())
                .limit(1)
            )
            same = (Status.SKIPPED, reason, session)
            if last is not None and (last.status, last.reason, last.session) == same:
                last.block, last.updated_at = block, datetime.now(UTC)
                last.decision, last.record = decision, record
                return
            db.add(
                Run(
                    vault=vault,
                    chain_id=chain_id,
                    block=block,
                    session=session,
                    status=Status.SKIPPED,
                    reason=reason,
                    decision=decision,
                    record=record,
                )
            )

    def plan(
        self,
        vault: str,
        chain_id: int,
        block: int,
        session: int,
        reason: str,
        decision: str,
        record: str,
        deadline: int,
    ) -> int:
        """Note a plan before it is simulated; the run's id. BusyError while another run of the vault is open."""
        run = Run(
            vault=vault,
            chain_id=chain_id,
            block=block,
            session=session,
            status=Status.PLANNED,
            reason=reason,
            decision=decision,
            record=record,
            deadline=deadline,
        )
        with writing(self._engine) as db:
            lock(db, "vault", chain_id, vault)
            if db.scalar(_unfinished(vault, chain_id).limit(1)) is not None:
                raise BusyError(f"another keeper is at work on {vault}")
            db.add(run)
            db.flush()
            return run.id

    def simulated(self, run_id: int) -> None:
        """The node accepts the plan in an eth_call."""
        with writing(self._engine) as db:
            _unsent(db, run_id).status = Status.SIMULATED

    def dry(self, run_id: int, reason: str) -> None:
        """The run ended after the simulation because nothing is to be sent."""
        with writing(self._engine) as db:
            _end(db, _unsent(db, run_id), Status.SKIPPED, reason)

    def failed(self, run_id: int, reason: str, cost: Entry | None = None) -> None:
        """The run ended without a rebalance; `cost` is the gas of a transaction that was mined and failed.

        A nonce that it had reserved and signed nothing with goes to the next intent.
        """
        with writing(self._engine) as db:
            _end(db, db.get_one(Run, run_id), Status.FAILED, reason)
            _write_cost(db, run_id, cost)

    def given_up(self, run_id: int, reason: str, seen: Sequence[Status] = UNSENT) -> None:
        """`failed`, for who saw the run in one of these states. BusyError where it has another one by now."""
        with writing(self._engine) as db:
            _end(db, _still(db, run_id, seen), Status.FAILED, reason)

    def confirmed(self, run_id: int, cost: Entry | None = None) -> None:
        """The transaction succeeded and is as deep as it has to be; `cost`, where it is not noted yet."""
        with writing(self._engine) as db:
            db.get_one(Run, run_id).status = Status.CONFIRMED
            if cost is not None:
                _write_cost(db, run_id, cost)

    def deep_enough(self, run_id: int) -> None:
        """A run that is `mined` is confirmed. BusyError where another process saw its block replaced."""
        with writing(self._engine) as db:
            _still(db, run_id, (Status.MINED, Status.CONFIRMED)).status = Status.CONFIRMED

    def run(self, run_id: int) -> Run:
        """The run as it is now."""
        with reading(self._engine) as db:
            return db.get_one(Run, run_id)

    def runs(self, vault: str | None = None, limit: int = 100) -> Sequence[Run]:
        """The latest runs, newest first."""
        query = select(Run).order_by(Run.id.desc()).limit(limit)
        if vault is not None:
            query = query.where(Run.vault == vault)
        with reading(self._engine) as db:
            return db.scalars(query).all()

    def unfinished(self, vault: str, chain_id: int) -> Sequence[Run]:
        """Runs of the vault that a crash or a time-out left half way, or that are not deep enough yet, oldest first."""
        with reading(self._engine) as db:
            return db.scalars(_unfinished(vault, chain_id)).all()

    def reverts(self, vault: str, chain_id: int) -> Sequence[Run]:
        """Runs that reverted on chain since the last rebalance of the vault, oldest first."""
        done = (Status.CONFIRMED, Status.MINED)
        last = select(func.max(Run.id)).where(
            Run.vault == vault, Run.chain_id == chain_id, Run.status.in_(done)
        )
        with reading(self._engine) as db:
            query = (
                select(Run)
                .where(
                    Run.vault == vault,
                    Run.chain_id == chain_id,
                    Run.id > (db.scalar(last) or 0),
                    Run.status == Status.FAILED,
                    Run.reason.startswith(REVERTED),
                )
                .order_by(Run.id)
            )
            return db.scalars(query).all()

    def costs(
        self, vault: str, chain_id: int | None = None, latest: int | None = None
    ) -> Sequence[tuple[Run, Entry]]:
        """The vault's ledger, oldest first: what each mined transaction cost, or the `latest` of them."""
        query = select(Run, _costs).join(_costs, _costs.c.run == Run.id).where(Run.vault == vault)
        if chain_id is not None:
            query = query.where(Run.chain_id == chain_id)
        query = query.order_by(Run.id.desc()).limit(latest)
        names = [field.name for field in fields(Entry)]
        with reading(self._engine) as db:
            rows = db.execute(query).all()
        return [(row.Run, Entry(**{name: row._mapping[name] for name in names})) for row in reversed(rows)]

    # ------------------------------------------------------------ nonces and attempts, written before the act

    def reserve(self, run_id: int, sender: str, mined: int, pending: int) -> int:
        """A nonce of `sender` for this run alone: the lowest that the chain, its node's pool and no other run has.

        `mined` and `pending` are the account's counts by the node. BusyError when the run is not open any more.
        """
        with writing(self._engine) as db:
            run = _unsent(db, run_id)
            lock(db, "account", run.chain_id, sender)
            query = select(Nonce).where(
                Nonce.chain_id == run.chain_id, Nonce.sender == sender, Nonce.nonce >= mined
            )
            known = {row.nonce: row for row in db.scalars(query)}
            nonce = mined
            while nonce < pending or (nonce in known and known[nonce].state != NonceState.FREE):
                nonce += 1
            row = known.get(nonce) or Nonce(chain_id=run.chain_id, sender=sender, nonce=nonce)
            row.run, row.state = run.id, NonceState.RESERVED
            db.add(row)
            run.sender, run.nonce = sender, nonce
            return nonce

    def sent(
        self, run_id: int, signed: SignedCall, block: int, time: int, limit: DayLimit | None = None
    ) -> Attempt:
        """The run's transaction is signed, and about to be given to a node. BusyError where somebody ended the run.

        `block` and `time`: of the chain's newest block. TransactionError above `limit`, whatever others commit
        meanwhile; so do `replaced` and `filled`.
        """
        with writing(self._engine) as db:
            run = _unsent(db, run_id)
            _within(db, run.chain_id, signed, limit)
            row = db.get(Nonce, (run.chain_id, signed.sender, signed.nonce), with_for_update=True)
            if row is None or (row.run, row.state) != (run.id, NonceState.RESERVED):
                raise BusyError(f"run {run_id} does not hold nonce {signed.nonce} any more")
            row.state, run.status, run.tx_hash = NonceState.LIVE, Status.SENT, signed.tx_hash
            return _attempt(db, run.chain_id, run.id, signed, Purpose.CALL, block, time)

    def replaced(
        self,
        old: Attempt,
        signed: SignedCall,
        purpose: Purpose,
        block: int,
        time: int,
        reason: str = "",
        limit: DayLimit | None = None,
    ) -> Attempt:
        """Another transaction with the nonce of `old` is about to be sent; `reason`: why the run is given up."""
        with writing(self._engine) as db:
            _within(db, old.chain_id, signed, limit)
            row = db.get_one(Nonce, (old.chain_id, old.sender, old.nonce), with_for_update=True)
            if row.state != NonceState.LIVE:
                raise BusyError(f"nonce {old.nonce} is settled")
            run = None if old.run is None else db.get_one(Run, old.run)
            if run is not None and run.status == Status.SENT:
                run.tx_hash = signed.tx_hash
                run.reason = reason or run.reason
            return _attempt(db, old.chain_id, old.run, signed, purpose, block, time)

    def filled(
        self, chain_id: int, signed: SignedCall, block: int, time: int, limit: DayLimit | None = None
    ) -> Attempt:
        """A transfer of nothing is about to be sent with a nonce that no run has, so that later ones can be mined."""
        with writing(self._engine) as db:
            lock(db, "account", chain_id, signed.sender)
            _within(db, chain_id, signed, limit)
            key = {"chain_id": chain_id, "sender": signed.sender, "nonce": signed.nonce}
            row = db.get(Nonce, tuple(key.values()), with_for_update=True)
            if row is not None and row.state != NonceState.FREE:
                raise BusyError(f"nonce {signed.nonce} is taken")
            row = row or Nonce(**key)
            row.run, row.state = None, NonceState.LIVE
            db.add(row)
            db.flush()
            return _attempt(db, chain_id, None, signed, Purpose.CANCEL, block, time)

    def note(self, attempt: Attempt, text: str) -> None:
        """What the node said when it did not take the attempt."""
        with writing(self._engine) as db:
            db.get_one(Attempt, attempt.id).note = text

    # ------------------------------------------------------------ what became of them

    def mined(
        self,
        attempt: Attempt,
        at: Mined,
        status: Status,
        reason: str | None = None,
        cost: Entry | None = None,
    ) -> None:
        """The attempt is in a block: its nonce is used and its run has `status`, whatever was thought of it before."""
        with writing(self._engine) as db:
            _forget_block(db, attempt)
            row = db.get_one(Attempt, attempt.id)
            row.block, row.block_hash, row.block_time, row.gas_wei = (
                at.block,
                at.block_hash,
                at.time,
                at.gas_wei,
            )
            _nonce(db, attempt).state = NonceState.USED
            if attempt.run is None:
                return
            run = db.get_one(Run, attempt.run)
            run.tx_hash = attempt.tx_hash
            _write_cost(db, run.id, cost)
            if attempt.purpose == Purpose.CALL or run.status in UNFINISHED:
                run.status, run.reason = status, run.reason if reason is None else reason

    def lost(self, attempt: Attempt, reason: str) -> None:
        """Another transaction, not of this journal, used the attempt's nonce."""
        with writing(self._engine) as db:
            _nonce(db, attempt).state = NonceState.USED
            run = None if attempt.run is None else db.get_one(Run, attempt.run)
            if run is not None and run.status in UNFINISHED:
                _end(db, run, Status.FAILED, reason)

    def match_nonces(self, chain_id: int, sender: str, mined: int, most: int) -> None:
        """Follow the chain, which has used the account's nonces below `mined`; it may have gone back.

        Used nonces from there on (below `most`) are live again; live ones below it are used if one is in a block. Free
        ones below it were used by somebody else: they are forgotten.
        """
        account = (Nonce.chain_id == chain_id, Nonce.sender == sender)
        open_again = (*account, Nonce.state == NonceState.USED, Nonce.nonce >= mined, Nonce.nonce < most)
        in_a_block = select(Attempt.nonce).where(
            Attempt.chain_id == chain_id, Attempt.sender == sender, Attempt.block.is_not(None)
        )
        used_again = (
            *account,
            Nonce.state == NonceState.LIVE,
            Nonce.nonce < mined,
            Nonce.nonce.in_(in_a_block),
        )
        with writing(self._engine) as db:
            db.execute(update(Nonce).where(*open_again).values(state=NonceState.LIVE))
            db.execute(update(Nonce).where(*used_again).values(state=NonceState.USED))
            db.execute(delete(Nonce).where(*account, Nonce.state == NonceState.FREE, Nonce.nonce < mined))

    def final(self, nonce: Nonce) -> None:
        """What used the nonce is so deep in the chain that it stays there."""
        with writing(self._engine) as db:
            row = db.get_one(Nonce, (nonce.chain_id, nonce.sender, nonce.nonce), with_for_update=True)
            if row.state == NonceState.USED:
                row.state = NonceState.FINAL

    def dropped(self, attempt: Attempt) -> None:
        """The block that the attempt was in is no longer part of the chain: it is to be settled again."""
        with writing(self._engine) as db:
            _forget_block(db, attempt)
            _nonce(db, attempt).state = NonceState.LIVE
            if attempt.run is None:
                return
            _write_cost(db, attempt.run, None)
            if attempt.purpose == Purpose.CALL:
                run = db.get_one(Run, attempt.run)
                run.status, run.reason = Status.SENT, "settled again: its block was replaced"

    # ------------------------------------------------------------ what there is

    def attempts(self, chain_id: int, sender: str, nonce: int) -> Sequence[Attempt]:
        """Everything that was signed with this nonce, oldest first."""
        query = select(Attempt).where(
            Attempt.chain_id == chain_id, Attempt.sender == sender, Attempt.nonce == nonce
        )
        with reading(self._engine) as db:
            return db.scalars(query.order_by(Attempt.id)).all()

    def young(
        self, chain_id: int, limit: int, *, vault: str | None = None, fills_of: str | None = None
    ) -> Sequence[Nonce]:
        """Nonces, signed with and not final, newest first: of the vault's runs, or the account's that fill gaps."""
        query = select(Nonce).join(Run, Nonce.run == Run.id, isouter=True)
        of_chain = Nonce.chain_id + 0 == chain_id  # + 0: SQLite would rather read all nonces of the chain
        query = query.where(of_chain, Nonce.state.in_((NonceState.LIVE, NonceState.USED)))
        if vault is not None:
            query = query.where(Run.vault == vault)
        else:
            query = query.where(Nonce.run.is_(None), Nonce.sender == fills_of)
        with reading(self._engine) as db:
            return db.scalars(query.order_by(Nonce.nonce.desc()).limit(limit)).all()

    def blocks_since(self, chain_id: int, block: int) -> Sequence[tuple[str, int, str]]:
        """Vault, block and block's hash of each transaction for a vault that is in a block after `block`."""
        query = (
            select(Run.vault, Attempt.block, Attempt.block_hash)
            .join(Run, Attempt.run == Run.id)
            .where(Attempt.chain_id + 0 == chain_id, Attempt.block > block)  # + 0: see `young`
        )
        with reading(self._engine) as db:
            return [(row.vault, row.block, row.block_hash) for row in db.execute(query.distinct())]

    def open_nonces(self, chain_id: int, sender: str) -> Sequence[tuple[Nonce, Run | None]]:
        """The account's nonces that the chain has not used, lowest first, and the runs that they are for."""
        query = (
            select(Nonce, Run)
            .join(Run, Nonce.run == Run.id, isouter=True)
            .where(Nonce.chain_id + 0 == chain_id, Nonce.sender == sender, Nonce.state.in_(OPEN))
        )
        with reading(self._engine) as db:
            return [(row.Nonce, row.Run) for row in db.execute(query.order_by(Nonce.nonce))]

    def gas_spent(self, chain_id: int, sender: str, since: int, without: int | None = None) -> int:
        """Wei that the account's transactions cost in blocks after `since` (timestamp), and may cost at most.

        What was sent with the nonce `without` is left out.
        """
        with reading(self._engine) as db:
            return _spent(db, chain_id, sender, since, without)


def _spent(db: Session, chain_id: int, sender: str, since: int, without: int | None) -> int:
    live = select(Nonce.nonce).where(
        Nonce.chain_id == chain_id, Nonce.sender == sender, Nonce.state == NonceState.LIVE
    )
    query = select(Attempt).where(
        Attempt.chain_id == chain_id,
        Attempt.sender == sender,
        or_(Attempt.block_time > since, Attempt.nonce.in_(live)),
    )
    worst: dict[int, int] = {}  # of several attempts of a nonce one is mined
    for attempt in db.scalars(query):
        if attempt.nonce == without:
            continue
        cost = attempt.gas * attempt.max_fee if attempt.gas_wei is None else attempt.gas_wei
        worst[attempt.nonce] = max(worst.get(attempt.nonce, 0), cost)
    return sum(worst.values())


def _within(db: Session, chain_id: int, signed: SignedCall, limit: DayLimit | None) -> None:
    """TransactionError where `signed` is above the limit; none else of its account is written before this ends."""
    if limit is None:
        return
    lock(db, "account", chain_id, signed.sender)
    spent = _spent(db, chain_id, signed.sender, limit.since, without=signed.nonce)
    limit.check(spent, signed.gas * signed.fees.most)


def _unfinished(vault: str, chain_id: int) -> Select[Run]:
    return (
        select(Run)
        .where(Run.vault == vault, Run.chain_id == chain_id, Run.status.in_(UNFINISHED))
        .order_by(Run.id)
    )


def _unsent(db: Session, run_id: int) -> Run:
    """The run, held until the transaction's end; BusyError once something was sent for it or it was ended."""
    return _still(db, run_id, UNSENT)


def _still(db: Session, run_id: int, states: Sequence[Status]) -> Run:
    """The run, held until the transaction's end; BusyError where it has none of these states any more."""
    run = db.get_one(Run, run_id, with_for_update=True)
    if run.status not in states:
        raise BusyError(f"run {run_id} was changed or ended by another process: {run.status}, {run.reason}")
    return run


def _end(db: Session, run: Run, status: Status, reason: str) -> None:
    run.status, run.reason = status, reason
    db.execute(
        update(Nonce)
        .where(Nonce.run == run.id, Nonce.state == NonceState.RESERVED)
        .values(state=NonceState.FREE, run=None)
    )


def _nonce(db: Session, attempt: Attempt) -> Nonce:
    return db.get_one(Nonce, (attempt.chain_id, attempt.sender, attempt.nonce), with_for_update=True)


def _forget_block(db: Session, attempt: Attempt) -> None:
    """None of the nonce's attempts is in a block any more."""
    db.execute(
        update(Attempt)
        .where(
            Attempt.chain_id == attempt.chain_id,
            Attempt.sender == attempt.sender,
            Attempt.nonce == attempt.nonce,
        )
        .values(block=None, block_hash=None, block_time=None, gas_wei=None)
    )


def _attempt(
    db: Session, chain_id: int, run: int | None, signed: SignedCall, purpose: Purpose, block: int, time: int
) -> Attempt:
    attempt = Attempt(
        chain_id=chain_id,
        sender=signed.sender,
        nonce=signed.nonce,
        run=run,
        purpose=purpose,
        tx_hash=signed.tx_hash,
        raw=signed.raw,
        gas=signed.gas,
        max_fee=signed.fees.most,
        tip=signed.fees.tip,
        sent_block=block,
        sent_time=time,
    )
    db.add(attempt)
    try:
        db.flush()
    except IntegrityError:
        raise BusyError(f"{signed.tx_hash} is sent by another process") from None
    return attempt


def _write_cost(db: Session, run_id: int, cost: Entry | None) -> None:
    """The run's line in the ledger is `cost`, or none."""
    db.execute(delete(_costs).where(_costs.c.run == run_id))
    if cost is not None:
        db.execute(insert(_costs).values(run=run_id, **asdict(cost)))
