"""What the journal's database says of vaults and accounts at a glance. Reads only, a few queries whatever its size."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Float, Select, cast, func, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import defer

from offchain.keeper.database import reading
from offchain.keeper.tables import Attempt, Nonce, NonceState, Purpose, Run, Status

__all__ = ["Account", "Ledger", "Rebalances", "answers", "latest_runs", "read_ledger"]

RECENT = 20  # transactions that say what one may cost
MOST_VAULTS = 1_000  # of one answer


@dataclass(frozen=True, slots=True)
class Account:
    """What an account that sends has done and has under way."""

    chain_id: int
    address: str
    pending: int  # nonces with something signed that the chain has not used
    oldest_sent: int | None  # chain time of the oldest of them
    oldest_nonce: int | None
    spent_wei: float  # in all blocks; a float: it is shown, not reckoned with
    gas: int | None  # units, the largest limit of the last transactions


@dataclass(frozen=True, slots=True)
class Rebalances:
    """What a vault has behind it."""

    count: int
    last: int | None  # timestamp


@dataclass(frozen=True, slots=True)
class Ledger:
    """Accounts, and rebalances by chain and vault."""

    accounts: tuple[Account, ...]
    rebalances: dict[tuple[int, str], Rebalances]


def answers(engine: Engine) -> bool:
    """The database can be read."""
    try:
        with reading(engine) as db:
            return db.execute(text("select 1")).scalar() == 1
    except Exception:
        return False


def read_ledger(engine: Engine, vaults: Collection[str] | None = None) -> Ledger:
    """Of these vaults (at most 1,000 of them), or of all; JournalError where the database does not answer."""
    with reading(engine) as db:
        live = {
            (chain, sender): (int(count), nonce)
            for chain, sender, count, nonce in db.execute(
                select(Nonce.chain_id, Nonce.sender, func.count(), func.min(Nonce.nonce))
                .where(Nonce.state == NonceState.LIVE)
                .group_by(Nonce.chain_id, Nonce.sender)
            )
        }
        spent = {
            (chain, sender): float(wei or 0)
            for chain, sender, wei in db.execute(
                select(Attempt.chain_id, Attempt.sender, func.sum(cast(Attempt.gas_wei, Float)))
                .where(Attempt.block.is_not(None))
                .group_by(Attempt.chain_id, Attempt.sender)
            )
        }
        accounts = []
        for chain, sender in sorted(live.keys() | spent.keys()):
            pending, nonce = live.get((chain, sender), (0, None))
            mine = (Attempt.chain_id == chain, Attempt.sender == sender)
            oldest = db.scalar(select(func.min(Attempt.sent_time)).where(*mine, Attempt.nonce == nonce))
            gas = db.scalars(
                select(Attempt.gas)
                .where(*mine, Attempt.purpose == Purpose.CALL)
                .order_by(Attempt.id.desc())
                .limit(RECENT)
            ).all()
            accounts.append(
                Account(
                    chain,
                    sender,
                    pending,
                    oldest,
                    nonce,
                    spent.get((chain, sender), 0.0),
                    max(gas, default=None),
                )
            )
        rows = db.execute(_rebalances(vaults)).all()
    return Ledger(
        tuple(accounts), {(chain, vault): Rebalances(int(count), last) for chain, vault, count, last in rows}
    )


def latest_runs(engine: Engine, limit: int = MOST_VAULTS) -> list[Run]:
    """The newest run of each vault, by chain and vault; without what was only signed."""
    newest = select(func.max(Run.id)).group_by(Run.chain_id, Run.vault)
    query = select(Run).where(Run.id.in_(newest)).order_by(Run.chain_id, Run.vault).limit(limit)
    with reading(engine) as db:
        return list(db.scalars(query.options(defer(Run.decision))).all())


def _rebalances(vaults: Collection[str] | None) -> Select[int, str, int, int | None]:
    query = (
        select(Run.chain_id, Run.vault, func.count(), func.max(Attempt.block_time))
        .join(Attempt, Attempt.run == Run.id)
        .where(
            Attempt.block.is_not(None),
            Attempt.purpose == Purpose.CALL,
            Run.session > 0,  # else it moved targets
            Run.status.in_((Status.MINED, Status.CONFIRMED)),
        )
        .group_by(Run.chain_id, Run.vault)
    )
    if vaults is not None:
        query = query.where(Run.vault.in_(sorted(vaults)[:MOST_VAULTS]))
    return query
