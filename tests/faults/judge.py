"""What the chain says happened, and whether the journals say the same. Nothing here asks a keeper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from web3 import Web3
from web3.contract import Contract
from web3.types import BlockIdentifier

from offchain import policy
from offchain.chain.vault import read_vault
from offchain.keeper.database import reading
from offchain.keeper.journal import REVERTED, UNFINISHED, Attempt, Journal, NonceState, Purpose, Run, Status

CHAIN_ID = 31337


@dataclass(frozen=True)
class Mined:
    """A transaction of a keeper's account, as the chain has it."""

    sender: str
    nonce: int
    tx_hash: str
    block: int
    block_hash: str
    succeeded: bool
    gas_wei: int


def mined_since(web3: Web3, accounts: Sequence[str], block: int) -> list[Mined]:
    """All transactions of the accounts after `block`, in order."""
    found = []
    for number in range(block + 1, web3.eth.block_number + 1):
        content = web3.eth.get_block(number, full_transactions=True)
        for tx in content["transactions"]:
            assert not isinstance(tx, bytes)
            if tx["from"] not in accounts:
                continue
            receipt = web3.eth.get_transaction_receipt(tx["hash"])
            cost = receipt["gasUsed"] * receipt["effectiveGasPrice"]
            place = number, content["hash"].to_0x_hex(), receipt["status"] == 1, cost
            found.append(Mined(tx["from"], tx["nonce"], tx["hash"].to_0x_hex(), *place))
    return found


def rebalances(vault: Contract, block: int, to: BlockIdentifier = "latest") -> list[Any]:
    """The vault's Rebalanced events after `block`."""
    return list(vault.events.Rebalanced().get_logs(from_block=block + 1, to_block=to))


def closed(vault: Contract, block: int) -> list[int]:
    """Sessions that ended after `block`."""
    return [
        int(log["args"]["session"]) for log in vault.events.SessionClosed().get_logs(from_block=block + 1)
    ]


def unsettled(journal: Journal, accounts: Mapping[str, int], vaults: Sequence[str]) -> str:
    """What the journal still waits for; "" when nothing. `accounts`: how many nonces the chain has used of each."""
    for vault in vaults:
        if runs := journal.unfinished(vault, CHAIN_ID):
            return f"run {runs[0].id} is {runs[0].status}: {runs[0].reason}"
    for account, count in accounts.items():
        for nonce, _ in journal.open_nonces(CHAIN_ID, account):
            if nonce.state != NonceState.FREE or nonce.nonce < count:
                return f"nonce {nonce.nonce} is {nonce.state}, the chain has used {count}"
    return ""


def faults_in(
    web3: Web3,
    vaults: Sequence[Contract],
    journals: Sequence[Journal],
    accounts: Sequence[str],
    since: int,
    expected: Mapping[str, int],
    parts: bool = False,
) -> list[str]:
    """Where chain and journals differ, and what the chain has too often or not at all; empty: all is well.

    `since`: the block after which the keepers worked; `expected`: how many sessions of each vault were due. `parts`: a
    session may be completed by a second trade, as when another vault's trade had moved the pools before the first.
    """
    wrong: list[str] = []
    mined = mined_since(web3, accounts, since)
    events = {vault.address: rebalances(vault, since) for vault in vaults}
    for vault in vaults:
        wrong += _sessions(vault, events[vault.address], since, expected[vault.address], parts)
    by_hash = {tx.tx_hash: tx for tx in mined}
    held: dict[str, Attempt] = {}
    for journal in journals:
        runs = {run.id: run for run in journal.runs(limit=1_000_000)}
        with reading(journal._engine) as db:
            attempts = db.scalars(select(Attempt)).all()
        wrong += _runs(journal, runs.values(), by_hash, events)
        for attempt in attempts:
            tx = by_hash.get(attempt.tx_hash)
            said = (attempt.block, attempt.block_hash, attempt.gas_wei)
            true = (None, None, None) if tx is None else (tx.block, tx.block_hash, tx.gas_wei)
            if said != true:
                wrong.append(f"{attempt.tx_hash}: the journal says {said}, the chain {true}")
            if tx is not None:
                held[attempt.tx_hash] = attempt
                run = runs.get(attempt.run or 0)
                if run is not None:
                    wrong += _fate(attempt, run, tx)
    wrong += [f"{tx} is in no journal" for tx in by_hash if tx not in held]
    for account in accounts:
        nonces = sorted(tx.nonce for tx in mined if tx.sender == account)
        if nonces != list(range(nonces[0], nonces[0] + len(nonces)) if nonces else []):
            wrong.append(f"nonces of {account}: {nonces}")
    return wrong


def _sessions(vault: Contract, events: Sequence[Any], since: int, expected: int, parts: bool) -> list[str]:
    wrong, name = [], vault.address
    sessions = [int(log["args"]["session"]) for log in events]
    ended = closed(vault, since)
    if len(set(sessions)) != expected:
        wrong.append(f"{name}: rebalanced in sessions {sessions}, {expected} were due")
    for session in sorted(set(sessions)):
        trades = [log["args"] for log in events if log["args"]["session"] == session]
        if len(trades) > 1 and not (parts and _completes(trades, _drift_of(vault))):
            wrong.append(f"{name}: traded twice in a session: {sessions}")
    if sorted(ended) != sorted(set(sessions)):
        wrong.append(f"{name}: sessions {sessions} were traded in, {ended} were completed")
    return wrong


def _completes(trades: Sequence[Any], drift: Callable[[Sequence[int], Sequence[int]], int]) -> bool:
    """Each trade of the session brought the vault nearer to its targets, and no keeper carried a decision out twice.

    A later one is in order where another vault's trade had moved the pools, or a reorganisation the order. Two keepers
    that read the same block come to the same decision; the vault clips what the second one sells.
    """
    nearer = all(
        drift(trade["prices"], trade["balances_after"]) < drift(trade["prices"], trade["balances_before"])
        for trade in trades
    )
    return nearer and len({(trade["keeper"], trade["decision"]) for trade in trades}) == len(trades)


def _drift_of(vault: Contract) -> Callable[[Sequence[int], Sequence[int]], int]:
    """The vault's drift from its targets with these prices and balances; the targets do not move here."""
    state = read_vault(vault.w3, vault.address).state

    def drift(prices: Sequence[int], balances: Sequence[int]) -> int:
        return sum(policy.drifts(replace(state, prices=tuple(prices), balances=tuple(balances))))

    return drift


def _runs(
    journal: Journal, runs: Any, mined: Mapping[str, Mined], events: Mapping[str, Sequence[Any]]
) -> list[str]:
    """Each run ended, and what it says it did is in the chain, its cost too."""
    wrong = []
    made = {
        (log["transactionHash"].to_0x_hex(), log["args"]["decision"].hex()): address
        for address, logs in events.items()
        for log in logs
    }
    costs = {run.id: cost for vault in events for run, cost in journal.costs(vault)}
    for run in runs:
        if run.status in UNFINISHED:
            wrong.append(f"run {run.id} is still {run.status}")
        tx = mined.get(run.tx_hash or "")
        done = run.tx_hash or "", (run.decision or "").removeprefix("0x")
        if run.status == Status.CONFIRMED and made.get(done) != run.vault:
            wrong.append(f"run {run.id} is confirmed, and the chain has no such rebalance")
        cost = costs.pop(run.id, None)
        if cost is not None and (
            tx is None or (cost.gas_wei, cost.block_hash) != (tx.gas_wei, tx.block_hash)
        ):
            wrong.append(f"run {run.id}: the ledger has a cost that the chain does not have")
        if tx is not None and cost is None:
            wrong.append(f"run {run.id}: {run.tx_hash} is mined and not in the cost ledger")
    return wrong


def _fate(attempt: Attempt, run: Run, tx: Mined) -> list[str]:
    """A mined transaction is the one of its run, with the right end."""
    if run.tx_hash != tx.tx_hash:
        return [f"run {run.id} names {run.tx_hash}, mined is {tx.tx_hash}"]
    if attempt.purpose == Purpose.CANCEL:
        good = run.status == Status.FAILED
    elif tx.succeeded:
        good = run.status == Status.CONFIRMED
    else:
        good = run.status == Status.FAILED and run.reason.startswith(REVERTED)
    return [] if good else [f"run {run.id} is {run.status} ({run.reason}), its {attempt.purpose} {tx}"]
