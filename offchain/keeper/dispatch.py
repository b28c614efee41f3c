"""From a simulated run to a settled one: sign, journal, send, follow, replace, cancel, confirm; after a crash too.

What a node answers to a send is never believed to be final. Only the chain decides: a receipt in a block of the chain,
a nonce that another transaction used, or a deadline that has passed with the nonce unused, each as of the block that is
`confirmations` deep. Until then the run stays open and nothing new is started for its vault.

A nonce belongs to one run. Whatever was signed with it may be mined, so a run that is given up gets a cancel (a
transfer of nothing with the same nonce and higher fees), and later nonces of the account are not blocked by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from eth_typing import BlockNumber, ChecksumAddress
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import Web3Exception, Web3RPCError
from web3.types import BlockIdentifier, TxParams, TxReceipt

from offchain.chain.errors import BusyError, PassingError, TransactionError
from offchain.chain.fees import Fees, raised
from offchain.chain.sender import ETHER, Sender, find_receipt, is_underpriced
from offchain.chain.signer import decoded
from offchain.chain.vault import BlockRef, block_at, latest_block
from offchain.keeper.costs import Entry, entry
from offchain.keeper.journal import (
    REVERTED,
    UNFINISHED,
    UNSENT,
    Attempt,
    DayLimit,
    Journal,
    Mined,
    Nonce,
    NonceState,
    Purpose,
    Run,
    Status,
)

__all__ = ["Dispatch", "Fate"]

REORG_BLOCKS = 64  # a transaction this deep stays where it is
KEPT_BLOCKS = 128  # whose state a node that keeps no archive has
YOUNG_NONCES = 8  # of a vault that are looked at again, at most
REFUSED_BLOCKS = 3  # after so many the node that still refuses a transaction refuses it for good
FRESH_SECONDS = 10  # a transaction that was signed longer ago is looked at again before it is sent
DAY = 86_400
INTERRUPTED = "interrupted before anything was sent"
LATE = "its deadline passed before it was mined"
PASSING = ("insufficient funds", "nonce too high", "nonce gap", "pool is full", "limit exceeded")

log = structlog.get_logger("evenkeel.keeper")


@dataclass(frozen=True)
class Fate:
    """What became of a run."""

    status: Status  # SENT: not known yet; MINED: not deep enough yet
    reason: str
    tx_hash: str | None = None
    receipt: TxReceipt | None = None


@dataclass(frozen=True)
class Dispatch:
    """The transactions of one account, for any number of vaults."""

    web3: Web3
    sender: Sender
    journal: Journal

    # ------------------------------------------------------------ a new one

    def submit(self, run_id: int, call: ContractFunction, outrun: Callable[[], str] = lambda: "") -> Fate:
        """Sign the run's call, send it and follow it for as long as the sender waits for receipts.

        `outrun` says why a refusal in the simulation is no fault, "" where it is one: SKIPPED instead of FAILED.
        """
        sender, run = self.sender, self.journal.run(run_id)
        try:
            tx, fees = sender.prepare(call), sender.fees()
            limit = self._afford(run.chain_id, tx, fees)
            nonce = self.journal.reserve(run_id, _address(sender), *sender.counts())
            signed = sender.sign(tx, nonce, fees)
        except TransactionError as error:
            return self._unsent(run_id, str(error), outrun)
        if refusal := sender.refused(tx, "pending"):
            return self._unsent(run_id, f"the vault refuses in simulation: {refusal}", outrun)
        head, read_at = latest_block(self.web3), time.monotonic()
        if head.time > (run.deadline or head.time):
            return self._fail(run_id, LATE)
        try:
            attempt = self.journal.sent(run_id, signed, head.number, head.time, limit)
        except TransactionError as error:  # other vaults of this account were faster
            return self._fail(run_id, str(error))
        if time.monotonic() - read_at > FRESH_SECONDS:  # this process stood still
            log.warning(
                "signed long ago: looked at again first", tx_hash=attempt.tx_hash, nonce=attempt.nonce
            )
        elif problem := self._deliver(attempt):
            return Fate(Status.SENT, f"{problem}; the next look settles it", signed.tx_hash)
        return self.follow(self.journal.run(run_id))

    def _unsent(self, run_id: int, refusal: str, outrun: Callable[[], str]) -> Fate:
        if why := outrun():
            self.journal.dry(run_id, why)
            return Fate(Status.SKIPPED, why)
        return self._fail(run_id, refusal)

    def _fail(self, run_id: int, reason: str) -> Fate:
        self.journal.failed(run_id, reason)
        return Fate(Status.FAILED, reason)

    def _afford(self, chain_id: int, tx: TxParams, fees: Fees, nonce: int | None = None) -> DayLimit | None:
        """TransactionError where the account, or the limit of a day, does not cover what the transaction may cost.

        `nonce`: what else was sent with it costs nothing once this one is mined. The journal asks the limit again.
        """
        address, most = _address(self.sender), tx["gas"] * fees.most
        if (balance := self.web3.eth.get_balance(address)) < most:
            raise TransactionError(
                f"insufficient funds for gas: {address} has {balance / ETHER:.6f}, needs up to {most / ETHER:.6f}"
            )
        if self.sender.daily_gas_limit_wei is None:
            return None
        limit = DayLimit(self.sender.daily_gas_limit_wei, latest_block(self.web3).time - DAY)
        limit.check(self.journal.gas_spent(chain_id, address, limit.since, without=nonce), most)
        return limit

    def _deliver(self, attempt: Attempt, public: bool = False) -> str:
        """Send what the journal has; the node's words where it does not take it."""
        about = {"tx_hash": attempt.tx_hash, "nonce": attempt.nonce, "purpose": attempt.purpose}
        try:
            if public:
                self.sender.send(attempt.raw, attempt.tx_hash, public=True)
            else:
                self.sender.send(attempt.raw, attempt.tx_hash)
        except TransactionError as error:
            self.journal.note(attempt, str(error))
            log.warning("not accepted", reason=str(error), **about)
            return str(error)
        log.info("sent", **about)
        return ""

    # ------------------------------------------------------------ what became of it

    def keep_moving(self, vault: str, chain_id: int) -> bool:
        """Look once at the vault's open runs: settle, replace, cancel. Nothing is started or waited for.

        For a vault that is halted, and between two looks. Whether there is something to look at later.
        """
        if not self._has_open(vault, chain_id):
            return False
        self.reopen(vault, chain_id)
        for run in self.journal.unfinished(vault, chain_id):
            if run.status in UNSENT:
                self.give_up(run)
            else:
                self.follow(run, wait=False)
        self.tend(chain_id)
        return self._has_open(vault, chain_id)

    def _has_open(self, vault: str, chain_id: int) -> bool:
        return bool(self.journal.unfinished(vault, chain_id) or self.journal.young(chain_id, 1, vault=vault))

    def follow(self, run: Run, wait: bool = True) -> Fate:
        """Look at each new block, and keep the transaction moving, until its fate is known or time is up.

        Time is up at once unless `wait`.
        """
        give_up = time.monotonic() + (self.sender.receipt_timeout_seconds if wait else 0)
        seen, fate = "", Fate(Status.SENT, "")
        while True:
            head = latest_block(self.web3)
            if head.hash != seen:
                seen = head.hash
                attempts = self._attempts(run.chain_id, run.sender or "", run.nonce or 0)
                fate = self._look(attempts, head)
                if fate.status != Status.SENT:
                    return fate
                self._move(attempts, head)
            if time.monotonic() > give_up or self.sender.stop.wait(self.sender.poll_seconds):
                return fate

    def reopen(self, vault: str, chain_id: int) -> None:
        """Runs of the vault whose block has been replaced since are settled anew, and their costs with them.

        PassingError while the node has not come to where the vault's last transaction is: what it shows is old.
        """
        self._recheck(self.journal.young(chain_id, YOUNG_NONCES, vault=vault))

    def _recheck(self, nonces: Sequence[Nonce]) -> None:
        if not nonces:
            return
        head = latest_block(self.web3)
        for nonce in nonces:
            attempts = self._attempts(nonce.chain_id, nonce.sender, nonce.nonce)
            mined = next((attempt for attempt in attempts if attempt.block is not None), None)
            if mined is not None and not self._is_still_in(mined, head):
                self.journal.dropped(mined)
                log.warning("its block was replaced", tx_hash=mined.tx_hash, nonce=nonce.nonce)
            elif nonce.state == NonceState.USED and mined is None and self._receipt(attempts):
                self._look(attempts, head)  # it was not another's transaction after all
            elif nonce.state == NonceState.USED and self._is_final(nonce, mined, head):
                self.journal.final(nonce)

    def _is_still_in(self, attempt: Attempt, head: BlockRef) -> bool:
        number = attempt.block or 0
        if number > head.number:
            raise PassingError(
                f"the node is behind: it is at block {head.number}, {attempt.tx_hash} was in {number}: try again"
            )
        return block_at(self.web3, number).hash == attempt.block_hash

    def _is_final(self, nonce: Nonce, mined: Attempt | None, head: BlockRef) -> bool:
        deep = head.number - max(REORG_BLOCKS, self.sender.depth(nonce.chain_id))
        if mined is not None and mined.block is not None:
            return mined.block <= deep
        sender = Web3.to_checksum_address(nonce.sender)
        try:
            return deep >= 0 and self.web3.eth.get_transaction_count(sender, BlockNumber(deep)) > nonce.nonce
        except Web3RPCError:  # the node has forgotten the state of that time
            return False

    def displaced(self, chain_id: int) -> set[str]:
        """Vaults with a transaction in a block that is not in the chain any more; each block is asked for once."""
        newest = self.web3.eth.block_number
        found = self.journal.blocks_since(chain_id, newest - REORG_BLOCKS)
        true = {number: block_at(self.web3, number).hash for _, number, _ in found if number <= newest}
        return {vault for vault, number, block_hash in found if true.get(number) != block_hash}

    def tend(self, chain_id: int) -> None:
        """What no open run looks after: nonces of runs that were given up, and gaps that block the later ones."""
        if self.sender.account is None:
            return
        address, head = _address(self.sender), latest_block(self.web3)
        self._recheck(self.journal.young(chain_id, YOUNG_NONCES, fills_of=address))
        if not self.journal.open_nonces(chain_id, address):
            return
        mined, pending = self.sender.counts()
        self.journal.match_nonces(chain_id, address, mined, mined + REORG_BLOCKS)
        for nonce, run in self.journal.open_nonces(chain_id, address):
            given_up = run is None or run.status in (Status.FAILED, Status.SKIPPED)
            if nonce.state == NonceState.LIVE and given_up:
                attempts = self._attempts(chain_id, address, nonce.nonce)
                if self._look(attempts, head).status == Status.SENT:
                    self._move(attempts, head)
            elif run is not None and run.status in UNSENT and head.time > (run.deadline or 0):
                self.give_up(run)
        self._fill_gap(chain_id, mined, pending, head)

    def give_up(self, run: Run) -> None:
        """A run whose keeper is gone, it seems."""
        try:
            self.journal.given_up(run.id, INTERRUPTED)
        except BusyError as error:
            log.info("left to another keeper", vault=run.vault, reason=str(error))

    def _attempts(self, chain_id: int, sender: str, nonce: int) -> Sequence[Attempt]:
        return self.journal.attempts(chain_id, sender, nonce)

    def _look(self, attempts: Sequence[Attempt], head: BlockRef) -> Fate:
        """What the chain says of a nonce's attempts, written down."""
        if found := self._receipt(attempts):
            return self._mined(*found, head)
        last = attempts[-1]
        run = None if last.run is None else self.journal.run(last.run)
        final = block_at(self.web3, max(0, head.number - self.sender.depth(last.chain_id) + 1))
        sender = Web3.to_checksum_address(last.sender)
        if self.web3.eth.get_transaction_count(sender, BlockNumber(final.number)) > last.nonce:
            return self._used_by_another(attempts, final.number)
        if run is not None and run.status == Status.SENT and final.time > (run.deadline or 0):
            self.journal.given_up(run.id, LATE, (Status.SENT,))
            log.warning("settled: not mined", vault=run.vault, tx_hash=last.tx_hash, reason=LATE)
            return Fate(Status.FAILED, LATE, last.tx_hash)
        waits = "the last transaction is not mined yet; nothing new is started"
        return Fate(Status.SENT, f"{waits} ({last.note})" if last.note else waits, last.tx_hash)

    def _receipt(self, attempts: Sequence[Attempt]) -> tuple[Attempt, TxReceipt, BlockRef] | None:
        """The attempt that is in a block of the chain. A receipt counts when the node gives the same one twice."""
        for attempt in reversed(attempts):
            receipt = find_receipt(self.web3, attempt.tx_hash)
            if receipt is None or receipt["transactionHash"].to_0x_hex() != attempt.tx_hash:
                continue
            if find_receipt(self.web3, attempt.tx_hash) != receipt:
                log.warning("two answers about one receipt: looked at again", tx_hash=attempt.tx_hash)
                continue
            block = block_at(self.web3, receipt["blockNumber"])
            if block.hash == receipt["blockHash"].to_0x_hex():
                return attempt, receipt, block
        return None

    def _mined(self, attempt: Attempt, receipt: TxReceipt, block: BlockRef, head: BlockRef) -> Fate:
        paid = receipt.get("effectiveGasPrice", attempt.max_fee)
        at = Mined(block.number, block.hash, block.time, receipt["gasUsed"] * paid)
        run = None if attempt.run is None else self.journal.run(attempt.run)
        if run is None or attempt.purpose == Purpose.CANCEL:
            reason = run.reason if run else "a gap"
            cost = None if run is None else self._cost(run, receipt)
            self.journal.mined(attempt, at, Status.FAILED, cost=cost)
            log.info("nonce freed", nonce=attempt.nonce, tx_hash=attempt.tx_hash, reason=reason)
            return Fate(Status.FAILED, reason, attempt.tx_hash, receipt)
        needed = self.sender.depth(attempt.chain_id)
        depth = max(head.number - block.number, 0) + 1  # it may have been mined since the head was read
        status = Status.CONFIRMED if depth >= needed else Status.MINED
        reason = run.reason
        if receipt["status"] != 1:
            status, reason = Status.FAILED, f"{REVERTED}: {self._why(attempt, block.number)}"
        elif run.status == Status.FAILED:
            reason = f"mined after all ({reason})"
        if (attempt.block_hash, run.status) == (at.block_hash, Status.MINED) and receipt["status"] == 1:
            if status == Status.CONFIRMED:
                self.journal.deep_enough(run.id)
        else:
            self.journal.mined(attempt, at, status, reason, self._cost(run, receipt))
        log.info("settled", vault=run.vault, tx_hash=attempt.tx_hash, status=str(status), depth=depth)
        if status == Status.MINED:
            reason = f"mined in block {block.number}; {depth} of {needed} confirmations"
        return Fate(status, reason, attempt.tx_hash, receipt)

    def _why(self, attempt: Attempt, block: int) -> str:
        """Why it reverted, asked again on the state before its block."""
        sender = Web3.to_checksum_address(attempt.sender)
        why = self.sender.refused(_call(attempt), BlockNumber(block - 1), sender)
        return why or "state moved before it was mined"

    def _used_by_another(self, attempts: Sequence[Attempt], newest: int) -> Fate:
        """The nonce is used and there is no receipt: whose transaction is it?"""
        last = attempts[-1]
        who = _who_used(self.web3, last.sender, last.nonce, attempts[0].sent_block, newest)
        known = [attempt.tx_hash for attempt in attempts]
        if who == "" or who in known or self._receipt(attempts):
            return Fate(Status.SENT, "mined, but the node does not show it yet", last.tx_hash)
        reason = f"another transaction of {last.sender} used nonce {last.nonce}" + (f": {who}" if who else "")
        self.journal.lost(last, reason)
        log.warning("settled: not mined", tx_hash=last.tx_hash, reason=reason)
        return Fate(Status.FAILED, reason, last.tx_hash)

    def _cost(self, run: Run, receipt: TxReceipt) -> Entry | None:
        """The line for the ledger of a mined transaction; bookkeeping that fails never stops the keeper."""
        if not run.record:
            return None
        try:
            return entry(self.web3, run.record, receipt)
        except Exception:
            log.exception("bug: no entry in the cost ledger", vault=run.vault)
            return None

    # ------------------------------------------------------------ keep it moving

    def _move(self, attempts: Sequence[Attempt], head: BlockRef) -> None:
        """Send again what the node has lost, offer more for what is stuck, cancel what has no purpose any more."""
        last = attempts[-1]
        if not self.sender.sends or _address(self.sender) != last.sender:
            return
        run = None if last.run is None else self.journal.run(last.run)
        calling = last.purpose == Purpose.CALL
        if calling and (run is None or run.status not in UNFINISHED or head.time > (run.deadline or 0)):
            self._replace(last, Purpose.CANCEL, head, LATE)
            return
        lost = self._is_lost(last, head)
        if not lost and not self._is_stuck(last, head):
            return
        if calling and (refusal := self._refusal(attempts)):
            self._replace(last, Purpose.CANCEL, head, f"the vault would refuse it now: {refusal}")
        elif lost:
            problem = self._deliver(last, public=self.sender.relay is not None)
            if calling and problem and self._is_refused_for_good(last, problem, head):
                self._replace(last, Purpose.CANCEL, head, problem)
        else:
            self._replace(last, Purpose(last.purpose), head)

    def _is_stuck(self, last: Attempt, head: BlockRef) -> bool:
        """It is the account's next transaction and has waited too long, or the node found it too cheap."""
        waited = head.time - last.sent_time >= self.sender.replace_after_seconds
        if not waited and not (is_underpriced(last.note) and head.number > last.sent_block):
            return False
        sender = Web3.to_checksum_address(last.sender)
        return self.web3.eth.get_transaction_count(sender, "latest") == last.nonce

    def _is_lost(self, last: Attempt, head: BlockRef) -> bool:
        """The node does not know it, though it should. Not so what it found too cheap: that is to be replaced.

        A relay does not say what it has: what was given to one alone is replaced when its time is up.
        """
        if is_underpriced(last.note) or (self.sender.relay is not None and not self._is_public(last, head)):
            return False
        try:
            return not self.web3.eth.get_transaction(last.tx_hash)  # type: ignore[arg-type]
        except Web3Exception:
            return True

    def _is_refused_for_good(self, last: Attempt, problem: str, head: BlockRef) -> bool:
        """The node has refused it since it was signed, and not for want of what may come: money for gas, a place."""
        waiting = is_underpriced(problem) or any(words in problem.lower() for words in PASSING)
        return bool(last.note) and not waiting and head.number >= last.sent_block + REFUSED_BLOCKS

    def _is_public(self, last: Attempt, head: BlockRef) -> bool:
        """The private relay has had its time with this attempt."""
        relay = self.sender.relay
        after = None if relay is None else relay.public_after_blocks
        return after is not None and head.number >= last.sent_block + after

    def _refusal(self, attempts: Sequence[Attempt]) -> str:
        """Why the vault would refuse the call now: on top of the pending block, unless that holds the call itself."""
        block: BlockIdentifier = "pending"
        try:
            waiting = self.web3.eth.get_block("pending")["transactions"]
        except Web3Exception:
            waiting = []
        hashes = {tx.to_0x_hex() for tx in waiting if isinstance(tx, bytes)}
        if hashes & {attempt.tx_hash for attempt in attempts}:
            block = "latest"
        return self.sender.refused(_call(attempts[-1]), block)

    def _replace(self, last: Attempt, purpose: Purpose, head: BlockRef, reason: str = "") -> bool:
        """Another transaction with the same nonce and higher fees; False where a limit forbids it."""
        tx = self.sender.nothing() if purpose == Purpose.CANCEL else _call(last)
        try:
            fees = raised(_fees(last), self.sender.fees(), self.sender.limits)
            if fees is None:
                raise TransactionError("max_fee_gwei or max_tip_gwei: replacing it would cost more than that")
            limit = self._afford(last.chain_id, tx, fees, last.nonce)
            signed = self.sender.sign(tx, last.nonce, fees)
            attempt = self.journal.replaced(last, signed, purpose, head.number, head.time, reason, limit)
        except TransactionError as error:
            log.warning("not replaced", tx_hash=last.tx_hash, nonce=last.nonce, reason=str(error))
            return False
        except BusyError as error:
            log.info("left to another keeper", nonce=last.nonce, reason=str(error))
            return False
        log.warning("replaced", tx_hash=last.tx_hash, by=attempt.tx_hash, purpose=str(purpose), reason=reason)
        self._deliver(attempt)
        return True

    def _fill_gap(self, chain_id: int, mined: int, pending: int, head: BlockRef) -> None:
        """A nonce that nobody uses blocks all later ones: use it up."""
        address = _address(self.sender)
        nonces: dict[int, Nonce] = {
            nonce.nonce: nonce for nonce, _ in self.journal.open_nonces(chain_id, address)
        }
        blocked = [nonce for nonce, row in nonces.items() if row.state == NonceState.LIVE and nonce > mined]
        if not self.sender.sends or not blocked or pending > mined:
            return
        if mined in nonces and nonces[mined].state != NonceState.FREE:
            return
        waited = head.time - self._attempts(chain_id, address, min(blocked))[0].sent_time
        if mined not in nonces and waited < self.sender.replace_after_seconds:
            return
        tx = self.sender.nothing()
        try:
            fees = self.sender.fees()
            limit = self._afford(chain_id, tx, fees)
            signed = self.sender.sign(tx, mined, fees)
            filler = self.journal.filled(chain_id, signed, head.number, head.time, limit)
        except (TransactionError, BusyError) as error:
            log.warning("gap not filled", nonce=mined, reason=str(error))
            return
        self._deliver(filler)


def _address(sender: Sender) -> ChecksumAddress:
    if sender.account is None:
        raise TransactionError(sender.refusal)
    return sender.account.address


def _call(attempt: Attempt) -> TxParams:
    """What the attempt calls, as `Sender.sign` takes it."""
    said = decoded(attempt.raw)
    return {"to": said["to"], "data": said["data"], "value": said["value"], "gas": said["gas"]}


def _fees(attempt: Attempt) -> Fees:
    said = decoded(attempt.raw)
    return Fees(said.get("maxFeePerGas") or said["gasPrice"], said.get("maxPriorityFeePerGas"))


def _who_used(web3: Web3, sender: str, nonce: int, sent_block: int, newest: int) -> str | None:
    """The hash of the transaction that used the nonce, found by bisection of the account's count.

    None where the node has forgotten the state of that time, "" where its answers do not fit together, or it fails to
    answer for blocks that every node has.
    """
    address = Web3.to_checksum_address(sender)
    low, high = max(0, min(sent_block, newest) - REORG_BLOCKS), newest
    try:
        if web3.eth.get_transaction_count(address, BlockNumber(low)) > nonce:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            used = web3.eth.get_transaction_count(address, BlockNumber(middle)) > nonce
            low, high = (low, middle) if used else (middle, high)
        transactions = web3.eth.get_block(BlockNumber(high), full_transactions=True)["transactions"]
    except Web3RPCError:
        return None if newest - low > KEPT_BLOCKS else ""
    for tx in transactions:
        if not isinstance(tx, bytes) and tx["from"] == address and tx["nonce"] == nonce:
            return tx["hash"].to_0x_hex()
    return ""
