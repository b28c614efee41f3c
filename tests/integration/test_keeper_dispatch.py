"""What becomes of transactions on a real chain: replaced, cancelled, reorganised, lost. anvil mines on call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.types import RPCEndpoint

from offchain.chain.errors import ChainError
from offchain.chain.fees import Fees
from offchain.chain.sender import Relay, Sender
from offchain.chain.signer import decoded
from offchain.keeper.dispatch import INTERRUPTED, Dispatch, Fate
from offchain.keeper.errand import settle
from offchain.keeper.journal import Attempt, Journal, NonceState, Purpose, Run, Status
from tests.support.anvil import Anvil, anvil

START = 1_700_000_000
GWEI = 10**9


@dataclass
class Stage:
    """A chain that mines on call, a contract that can refuse, and one account's transactions."""

    chain: Anvil
    token: Contract
    journal: Journal
    sender: Sender
    vaults: int = 0

    @property
    def dispatch(self) -> Dispatch:
        return Dispatch(self.sender.web3, self.sender, self.journal)

    @property
    def keeper(self) -> Any:
        return self.sender.account

    def settings(self, **changes: Any) -> None:
        self.sender = replace(self.sender, **changes)

    def allow(self, amount: int) -> None:
        """The contract accepts `call` for so much; 0: it refuses."""
        self.chain.automine(True)
        self.chain.send(self.chain.accounts[0], self.token.functions.approve(self.keeper.address, amount))
        self.chain.automine(False)

    def plan(self, seconds: int = 600) -> int:
        self.vaults += 1
        vault = Web3.to_checksum_address(f"0x{self.vaults:040x}")
        deadline = self.chain.now + seconds
        run = self.journal.plan(vault, 31337, self.chain.web3.eth.block_number, 1, "due", "0x", "", deadline)
        self.journal.simulated(run)
        return run

    def submit(self, seconds: int = 600) -> tuple[int, Fate]:
        run = self.plan(seconds)
        owner = self.chain.accounts[0].address
        call = self.token.functions.transferFrom(owner, self.chain.accounts[9].address, 1)
        return run, self.dispatch.submit(run, call)

    def look(self, run: int) -> Fate:
        return self.dispatch.follow(self.run(run))

    def run(self, run: int) -> Run:
        return self.journal.run(run)

    def attempts(self, run: int) -> list[Attempt]:
        found = self.run(run)
        return list(self.journal.attempts(31337, self.keeper.address, found.nonce or 0))

    def done(self) -> int:
        """How often the call happened."""
        return int(self.token.functions.balanceOf(self.chain.accounts[9].address).call())

    def count(self) -> int:
        return int(self.chain.web3.eth.get_transaction_count(self.keeper.address))

    def states(self) -> dict[int, str]:
        rows = self.journal.open_nonces(31337, self.keeper.address)
        return {nonce.nonce: nonce.state for nonce, _ in rows}


@pytest.fixture
def stage(journal: Journal) -> Iterator[Stage]:
    with anvil(START) as chain:
        owner = chain.accounts[0]
        token = chain.deploy(owner, "TestToken", "Test", "TEST", 18)
        chain.send(owner, token.functions.mint(owner.address, 10**6))
        sender = Sender(
            chain.web3, chain.accounts[1], receipt_timeout_seconds=0, poll_seconds=0.001, confirmations=1
        )
        found = Stage(chain, token, journal, sender)
        found.allow(10**6)
        yield found


def test_mined_and_confirmed(stage: Stage) -> None:
    run, fate = stage.submit()
    assert (fate.status, stage.done()) == (Status.SENT, 0)
    stage.chain.mine_blocks()
    fate = stage.look(run)
    assert fate.status == Status.CONFIRMED
    (attempt,) = stage.attempts(run)
    assert attempt.block == stage.chain.web3.eth.block_number
    assert attempt.gas_wei == fate.receipt["gasUsed"] * fate.receipt["effectiveGasPrice"]  # type: ignore[index]
    assert (stage.states(), stage.done()) == ({}, 1)


def test_confirmed_only_as_deep_as_it_has_to_be(stage: Stage) -> None:
    stage.settings(confirmations=3)
    run, _ = stage.submit()
    stage.chain.mine_blocks(2)
    fate = stage.look(run)
    assert (fate.status, stage.run(run).status) == (Status.MINED, Status.MINED)
    assert fate.reason.endswith("; 2 of 3 confirmations")
    stage.chain.mine_blocks()
    assert (stage.look(run).status, stage.run(run).status) == (Status.CONFIRMED, Status.CONFIRMED)


def test_what_reverts_on_chain_says_why(stage: Stage) -> None:
    run, _ = stage.submit()
    revoke = stage.token.functions.approve(stage.keeper.address, 0)
    owner = stage.chain.accounts[0]
    signed = owner.sign_transaction(
        revoke.build_transaction(
            {
                "nonce": stage.chain.web3.eth.get_transaction_count(owner.address),
                "gas": 100_000,
                "gasPrice": 10**12,
            }
        )
    )
    stage.chain.web3.eth.send_raw_transaction(signed.raw_transaction)
    stage.chain.mine_blocks()
    fate = stage.look(run)
    assert fate.status == Status.FAILED
    assert fate.reason == "reverted on chain: state moved before it was mined"
    assert (stage.states(), stage.done()) == ({}, 0)
    assert stage.journal.gas_spent(31337, stage.keeper.address, START) > 0


# ---------------------------------------------------------------- replacement


def stick(stage: Stage, seconds: int = 60) -> None:
    """Time passes and it is not mined."""
    stage.chain.mine_past(1, seconds)


def test_what_is_stuck_is_offered_for_more_with_its_nonce(stage: Stage) -> None:
    run, _ = stage.submit()
    stick(stage, 59)
    assert stage.look(run).status == Status.SENT
    assert len(stage.attempts(run)) == 1
    stick(stage, 1)
    stage.look(run)
    first, second = stage.attempts(run)
    assert (first.nonce, first.purpose) == (second.nonce, second.purpose) == (0, Purpose.CALL)
    assert second.max_fee * 8 >= first.max_fee * 9
    assert (second.tip or 0) * 8 >= (first.tip or 0) * 9
    (waiting,) = stage.chain.pool()[stage.keeper.address].values()
    assert waiting["hash"] == second.tx_hash  # the node took it in the other's place
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.CONFIRMED
    assert (stage.run(run).tx_hash, stage.done(), stage.count()) == (second.tx_hash, 1, 1)


def test_a_replacement_is_not_refused_for_what_it_replaces(stage: Stage) -> None:
    """On the pending block, which holds the first attempt, there is nothing left to allow."""
    stage.allow(1)
    run, _ = stage.submit()
    stick(stage)
    stage.look(run)
    assert [attempt.purpose for attempt in stage.attempts(run)] == [Purpose.CALL, Purpose.CALL]
    stage.chain.mine_blocks()
    assert (stage.look(run).status, stage.done()) == (Status.CONFIRMED, 1)


def test_whichever_attempt_is_mined_settles_the_run(stage: Stage) -> None:
    run, _ = stage.submit()
    stick(stage)
    stage.look(run)
    first, second = stage.attempts(run)
    stage.chain.drop(second.tx_hash)
    stage.chain.web3.eth.send_raw_transaction(first.raw)  # type: ignore[arg-type]
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.CONFIRMED
    assert (stage.run(run).tx_hash, stage.done()) == (first.tx_hash, 1)


def test_a_limit_stops_replacements(stage: Stage) -> None:
    stage.settings(max_fee_wei=3 * GWEI)
    run, _ = stage.submit()
    for _ in range(3):
        stick(stage)
        stage.look(run)
    fees = [attempt.max_fee for attempt in stage.attempts(run)]
    assert 1 <= len(fees) < 4
    assert max(fees) <= 3 * GWEI
    assert stage.run(run).status == Status.SENT


def test_only_the_account_s_next_transaction_is_replaced(stage: Stage) -> None:
    one, _ = stage.submit()
    two, _ = stage.submit()
    stick(stage)
    stage.look(two)
    assert len(stage.attempts(two)) == 1
    stage.look(one)
    assert len(stage.attempts(one)) == 2
    stage.chain.mine_blocks()
    assert (stage.look(one).status, stage.look(two).status) == (Status.CONFIRMED, Status.CONFIRMED)
    assert stage.done() == 2


def test_what_the_pool_lost_is_sent_again_as_it_was(stage: Stage) -> None:
    run, fate = stage.submit()
    stage.chain.drop(fate.tx_hash or "")
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.SENT
    assert list(stage.chain.pool()[stage.keeper.address]) == [0]
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.CONFIRMED
    assert (len(stage.attempts(run)), stage.done()) == (1, 1)


# ---------------------------------------------------------------- giving up


def lapsed(stage: Stage) -> int:
    """A run whose transaction the pool lost, and whose deadline has passed."""
    run, fate = stage.submit(seconds=30)
    stage.chain.drop(fate.tx_hash or "")
    stage.chain.mine_blocks(1, 31)
    return run


def test_a_deadline_that_passed_frees_the_nonce_with_a_cancel(stage: Stage) -> None:
    run = lapsed(stage)
    fate = stage.look(run)
    assert (fate.status, fate.reason) == (Status.FAILED, "its deadline passed before it was mined")
    stage.dispatch.tend(31337)
    call, cancel = stage.attempts(run)
    assert cancel.purpose == Purpose.CANCEL
    said = decoded(cancel.raw)
    assert (said["to"], said["value"], said["data"], said["nonce"]) == (
        stage.keeper.address,
        0,
        b"",
        call.nonce,
    )
    assert cancel.max_fee * 8 >= call.max_fee * 9
    other, _ = stage.submit()  # behind it, not in its place
    assert stage.run(other).nonce == 1
    stage.chain.mine_blocks()
    assert stage.look(other).status == Status.CONFIRMED
    stage.dispatch.tend(31337)
    assert (stage.run(run).status, stage.done(), stage.count(), stage.states()) == (Status.FAILED, 1, 2, {})


def test_the_cancel_does_not_wait_until_the_deadline_is_final(stage: Stage) -> None:
    stage.settings(confirmations=3)
    run = lapsed(stage)
    assert stage.look(run).status == Status.SENT
    assert [attempt.purpose for attempt in stage.attempts(run)] == [Purpose.CALL, Purpose.CANCEL]
    stage.chain.mine_blocks()
    fate = stage.look(run)
    assert (fate.status, fate.reason) == (Status.FAILED, "its deadline passed before it was mined")
    assert (stage.states(), stage.done()) == ({}, 0)


def test_a_cancel_that_is_stuck_is_replaced_too(stage: Stage) -> None:
    run, _ = stage.submit(seconds=30)
    stick(stage, 31)
    stage.look(run)
    stage.dispatch.tend(31337)
    stick(stage, 60)
    stage.dispatch.tend(31337)
    purposes = [attempt.purpose for attempt in stage.attempts(run)]
    assert purposes == [Purpose.CALL, Purpose.CANCEL, Purpose.CANCEL]
    stage.chain.mine_blocks()
    stage.dispatch.tend(31337)
    assert (stage.states(), stage.done()) == ({}, 0)


def test_what_the_vault_would_refuse_now_is_cancelled_and_not_replaced(stage: Stage) -> None:
    run, fate = stage.submit()
    stage.chain.drop(fate.tx_hash or "")
    stage.allow(0)
    assert stage.look(run).status == Status.SENT  # it may still be mined somewhere
    call, cancel = stage.attempts(run)
    assert (call.purpose, cancel.purpose) == (Purpose.CALL, Purpose.CANCEL)
    stage.chain.mine_blocks()
    fate = stage.look(run)
    assert fate.status == stage.run(run).status == Status.FAILED
    assert fate.reason.startswith("the vault would refuse it now: ")
    assert (stage.states(), stage.done(), stage.count()) == ({}, 0, 1)


def test_what_is_refused_just_before_it_is_sent_is_not_sent(stage: Stage) -> None:
    class Late(Sender):
        def sign(self, *args: Any) -> Any:
            stage.allow(0)
            return super().sign(*args)

    stage.sender = Late(**{**stage.sender.__dict__})
    run, fate = stage.submit()
    assert fate.status == stage.run(run).status == Status.FAILED
    assert fate.reason.startswith("the vault refuses in simulation: ")
    assert (stage.chain.pool(), stage.states()) == ({}, {0: NonceState.FREE})


def test_a_run_that_was_given_up_wrongly_is_mined_after_all(stage: Stage, tmp_path: Path) -> None:
    run, _ = stage.submit(seconds=30)
    stage.settings(kill_switch=tmp_path / "stop")
    (tmp_path / "stop").touch()
    stick(stage, 31)
    assert stage.look(run).status == Status.FAILED
    stage.chain.mine_blocks()
    stage.dispatch.tend(31337)
    found = stage.run(run)
    assert found.status == Status.CONFIRMED
    assert found.reason == "mined after all (its deadline passed before it was mined)"


def test_with_the_kill_switch_on_open_transactions_are_only_watched(stage: Stage, tmp_path: Path) -> None:
    run, fate = stage.submit()
    stage.settings(kill_switch=tmp_path / "stop")
    (tmp_path / "stop").touch()
    stage.chain.drop(fate.tx_hash or "")
    stick(stage, 600)
    stage.look(run)
    stick(stage, 60)
    stage.dispatch.tend(31337)
    assert (stage.chain.pool(), len(stage.attempts(run))) == ({}, 1)


# ---------------------------------------------------------------- reorganisations


def mined(stage: Stage, **settings: Any) -> tuple[int, Attempt]:
    """A run whose transaction is in the newest block, known to be."""
    stage.settings(**{"confirmations": 4} | settings)
    run, _ = stage.submit()
    stage.chain.mine_blocks()
    assert stage.look(run).status == (Status.MINED if stage.sender.confirmations != 1 else Status.CONFIRMED)
    return run, stage.attempts(run)[0]


def settled(stage: Stage, run: int) -> Fate:
    stage.dispatch.reopen(stage.run(run).vault, 31337)
    return stage.look(run)


def test_the_same_transaction_in_another_block(stage: Stage) -> None:
    run, before = mined(stage)
    stage.chain.mine_blocks()
    stage.chain.reorganise(2, before.raw)
    stage.chain.mine_blocks()
    assert settled(stage, run).status == Status.MINED
    (after,) = stage.attempts(run)
    assert (after.tx_hash, after.block) == (before.tx_hash, before.block)
    assert after.block_hash not in (None, before.block_hash)
    assert stage.done() == 1


@pytest.mark.parametrize("confirmations", [1, 4])
def test_a_transaction_that_is_not_in_the_chain_any_more_is_sent_again(
    stage: Stage, confirmations: int
) -> None:
    run, before = mined(stage, confirmations=confirmations)
    stage.chain.reorganise(1)
    assert (stage.done(), stage.count()) == (0, 0)
    assert settled(stage, run).status == Status.SENT
    stage.chain.mine_blocks(4)
    assert stage.look(run).status == Status.CONFIRMED
    assert [attempt.tx_hash for attempt in stage.attempts(run)] == [before.tx_hash]
    assert stage.done() == 1


def test_a_transaction_whose_purpose_went_with_its_block_is_dropped(stage: Stage) -> None:
    run, _ = mined(stage)
    stage.chain.reorganise(1)
    stage.allow(0)
    assert settled(stage, run).status == Status.SENT
    stage.chain.mine_blocks()
    assert settled(stage, run).status == Status.FAILED
    assert stage.run(run).reason.startswith("the vault would refuse it now: ")
    assert (stage.done(), stage.count()) == (0, 1)
    other, _ = stage.submit()
    assert stage.run(other).status == Status.FAILED  # refused, and it left no gap
    stage.allow(10)
    last, _ = stage.submit()
    assert stage.run(last).nonce == 1


def test_what_is_mined_is_watched_until_it_is_deep_and_no_longer(stage: Stage) -> None:
    run, before = mined(stage, confirmations=1)
    vault = stage.run(run).vault
    assert stage.dispatch.keep_moving(vault, 31337)
    stage.chain.mine_blocks(60)
    stage.chain.reorganise(61, before.raw)
    assert stage.dispatch.displaced(31337) == {vault}
    assert stage.dispatch.keep_moving(vault, 31337)
    assert stage.dispatch.displaced(31337) == set()
    (after,) = stage.attempts(run)
    assert (after.block, after.block_hash == before.block_hash) == (before.block, False)
    stage.chain.mine_blocks(64)
    assert not stage.dispatch.keep_moving(vault, 31337)
    assert (stage.run(run).status, stage.done()) == (Status.CONFIRMED, 1)


def test_what_has_to_be_deeper_to_be_confirmed_is_watched_until_it_is(stage: Stage) -> None:
    """Else the run would wait for ever for a transaction that nobody looks for."""
    run, _ = mined(stage, confirmations=100)
    vault = stage.run(run).vault
    stage.chain.mine_blocks(80)
    assert stage.dispatch.keep_moving(vault, 31337)
    stage.chain.reorganise(81)
    stage.chain.mine_past(1, 700)  # its deadline
    assert stage.dispatch.keep_moving(vault, 31337)
    stage.chain.mine_blocks(101)
    assert stage.dispatch.keep_moving(vault, 31337)
    assert (stage.run(run).status, stage.states(), stage.done()) == (Status.FAILED, {}, 0)


def used_by_another(stage: Stage) -> tuple[str, str]:
    """The vault of a run whose nonce another transaction of the account has used, and what the run had signed."""
    run, _ = stage.submit()
    (attempt,) = stage.attempts(run)
    stage.chain.drop(attempt.tx_hash)
    foreign = stage.sender.sign(stage.sender.nothing(), 0, Fees(2 * GWEI, GWEI))
    stage.sender.send(foreign.raw, foreign.tx_hash)
    stage.chain.mine_blocks()
    assert stage.look(run).reason.endswith(f"used nonce 0: {foreign.tx_hash}")
    return stage.run(run).vault, attempt.raw


def test_a_nonce_that_another_transaction_had_used_until_its_block_was_replaced(stage: Stage) -> None:
    vault, raw = used_by_another(stage)
    stage.chain.reorganise(1, raw)
    assert stage.dispatch.keep_moving(vault, 31337)
    (run,) = stage.journal.runs(vault)
    assert (run.status, stage.done()) == (Status.CONFIRMED, 1)
    assert run.reason.startswith("mined after all")


def test_a_nonce_that_another_transaction_has_used_is_final_too(stage: Stage) -> None:
    vault, _ = used_by_another(stage)
    stage.chain.mine_blocks(63)
    assert stage.dispatch.keep_moving(vault, 31337)
    stage.chain.mine_blocks()
    assert not stage.dispatch.keep_moving(vault, 31337)


def test_nonces_stay_in_step_with_a_chain_that_went_back(stage: Stage) -> None:
    run = lapsed(stage)
    stage.look(run)
    stage.dispatch.tend(31337)
    stage.chain.mine_blocks()
    stage.dispatch.tend(31337)
    assert (stage.states(), stage.count()) == ({}, 1)  # the cancel has used the nonce
    stage.chain.reorganise(1)
    stage.chain.mine_blocks(1)
    other, _ = stage.submit()
    assert stage.run(other).nonce == 1
    stage.dispatch.tend(31337)
    stage.chain.mine_blocks(2)
    assert stage.look(other).status == Status.CONFIRMED
    assert (stage.count(), stage.done()) == (2, 1)


def test_a_node_that_is_behind_is_waited_for(stage: Stage) -> None:
    run, _ = mined(stage)
    stage.chain._rpc("anvil_rollback", [1])
    with pytest.raises(ChainError, match="the node is behind"):
        settled(stage, run)
    assert stage.run(run).status == Status.MINED


# ---------------------------------------------------------------- several of one account


def test_transactions_of_several_vaults_wait_together(stage: Stage) -> None:
    runs = [stage.submit()[0] for _ in range(5)]
    assert [stage.run(run).nonce for run in runs] == [0, 1, 2, 3, 4]
    stage.chain.mine_blocks()
    assert {stage.look(run).status for run in runs} == {Status.CONFIRMED}
    assert stage.done() == 5


def test_two_keepers_with_one_journal_and_one_account(stage: Stage, journal: Journal) -> None:
    stage.chain.automine(True)
    runs = [stage.plan() for _ in range(12)]
    owner, receiver = stage.chain.accounts[0].address, stage.chain.accounts[9].address
    fates: list[Fate] = []

    def keeper(mine: list[int]) -> None:
        web3 = Web3(HTTPProvider(stage.chain.url))
        own = Journal(journal.path)
        sender = replace(stage.sender, web3=web3, receipt_timeout_seconds=30)
        call = web3.eth.contract(stage.token.address, abi=stage.token.abi).functions
        for run in mine:
            fates.append(Dispatch(web3, sender, own).submit(run, call.transferFrom(owner, receiver, 1)))
        own.close()

    threads = [threading.Thread(target=keeper, args=(runs[k::2],)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [fate.status for fate in fates] == [Status.CONFIRMED] * 12
    assert sorted(stage.run(run).nonce or 0 for run in runs) == list(range(12))
    assert (stage.done(), stage.count()) == (12, 12)


def test_two_keepers_with_a_journal_each_and_one_account(stage: Stage, tmp_path: Path) -> None:
    """Both sign nonce 0; the node takes one. The other's run fails when the chain shows whose nonce it was."""
    other = Stage(stage.chain, stage.token, Journal(tmp_path / "other.sqlite"), stage.sender)
    run = stage.plan()
    theirs, _ = other.submit()
    nonce = stage.journal.reserve(run, stage.keeper.address, 0, 0)  # it had asked before the other one sent
    call = stage.token.functions.transferFrom(
        stage.chain.accounts[0].address, stage.chain.accounts[9].address, 7
    )
    signed = stage.sender.sign(stage.sender.prepare(call), nonce, Fees(2 * GWEI, 1))
    stage.journal.sent(run, signed, 1, stage.chain.now)
    stage.chain.mine_blocks()
    fate = stage.look(run)
    assert fate.status == Status.FAILED
    assert fate.reason.endswith(f"used nonce 0: {other.run(theirs).tx_hash}")
    assert other.look(theirs).status == Status.CONFIRMED
    again, _ = stage.submit()
    assert stage.run(again).nonce == 1
    assert stage.done() == 1
    other.journal.close()


def test_a_gap_that_nobody_fills_is_filled(stage: Stage) -> None:
    foreign = stage.sender.sign(stage.sender.nothing(), 0, Fees(2 * GWEI, GWEI))
    stage.sender.send(foreign.raw, foreign.tx_hash)
    run, _ = stage.submit()
    assert stage.run(run).nonce == 1
    stage.chain.drop(foreign.tx_hash)
    stage.chain.mine_blocks(1, 60)
    assert (stage.look(run).status, stage.count()) == (Status.SENT, 0)
    stage.dispatch.tend(31337)
    stage.look(run)
    stage.chain.mine_blocks(2)
    assert stage.look(run).status == Status.CONFIRMED
    assert (stage.count(), stage.done()) == (2, 1)


def test_the_block_of_what_filled_a_gap_is_followed_too(stage: Stage) -> None:
    address = stage.keeper.address
    filler = stage.sender.sign(stage.sender.nothing(), 0, Fees(2 * GWEI, GWEI))
    attempt = stage.journal.filled(31337, filler, 1, stage.chain.now)
    stage.sender.send(attempt.raw, attempt.tx_hash)
    stage.chain.mine_blocks()
    stage.dispatch.tend(31337)
    (before,) = stage.journal.attempts(31337, address, 0)
    stage.chain.reorganise(1, attempt.raw)
    stage.chain.mine_blocks()
    stage.dispatch.tend(31337)
    stage.dispatch.tend(31337)
    (after,) = stage.journal.attempts(31337, address, 0)
    assert after.block == before.block
    assert after.block_hash not in (None, before.block_hash)


def test_a_gap_is_filled_while_the_only_vault_waits_behind_it(stage: Stage) -> None:
    foreign = stage.sender.sign(stage.sender.nothing(), 0, Fees(2 * GWEI, GWEI))
    stage.sender.send(foreign.raw, foreign.tx_hash)
    run, _ = stage.submit()
    vault = stage.run(run).vault
    stage.chain.drop(foreign.tx_hash)
    stage.chain.mine_blocks(1, 60)
    found = settle(stage.dispatch, vault, 31337)
    assert found is not None and found[1].status == Status.SENT
    stage.chain.mine_blocks()
    assert (stage.count(), stage.done()) == (2, 1)
    assert settle(stage.dispatch, vault, 31337) is None
    assert stage.run(run).status == Status.CONFIRMED


def test_a_reserved_nonce_whose_keeper_is_gone_is_given_back(stage: Stage) -> None:
    gone = stage.plan(seconds=30)
    stage.journal.reserve(gone, stage.keeper.address, 0, 0)
    run, _ = stage.submit()
    assert stage.run(run).nonce == 1
    stage.chain.mine_blocks(1, 31)
    stage.dispatch.tend(31337)
    assert stage.run(gone).reason == "interrupted before anything was sent"
    stage.dispatch.tend(31337)
    stage.look(run)
    stage.chain.mine_blocks(2)
    assert stage.look(run).status == Status.CONFIRMED


# ---------------------------------------------------------------- money and ways


def test_nothing_is_signed_that_the_account_cannot_pay(stage: Stage) -> None:
    stage.chain._rpc("anvil_setBalance", [stage.keeper.address, hex(10**13)])
    _, fate = stage.submit()
    assert fate.status == Status.FAILED
    assert fate.reason.startswith("insufficient funds for gas: ")
    assert stage.states() == {}


def test_the_limit_of_a_day_counts_what_was_paid_and_survives_a_restart(stage: Stage) -> None:
    run, _ = stage.submit()
    stage.chain.mine_blocks()
    stage.look(run)
    (paid,) = stage.attempts(run)
    worst = paid.gas * paid.max_fee
    stage.settings(daily_gas_limit_wei=(paid.gas_wei or 0) + worst // 2)
    stage.journal = Journal(stage.journal.path)
    _, fate = stage.submit()
    assert fate.status == Status.FAILED
    assert fate.reason.startswith("daily_gas_limit_native: ")
    assert stage.states() == {}
    stage.chain.mine_past(1, 86_401)
    stage.chain.mine_blocks()
    assert stage.submit()[1].status == Status.SENT
    stage.journal.close()


def test_what_another_vault_commits_meanwhile_counts_for_the_limit_of_a_day(stage: Stage) -> None:
    first, _ = stage.submit()
    (paid,) = stage.attempts(first)
    stage.settings(daily_gas_limit_wei=paid.gas * paid.max_fee * 5 // 2)  # room for one more

    class Meanwhile(Journal):
        def reserve(self, *account: Any) -> int:
            if others:
                others.pop()
                assert stage.submit()[1].status == Status.SENT
            return super().reserve(*account)

    others = [1]
    stage.journal.__class__ = Meanwhile
    run, fate = stage.submit()
    assert fate.status == Status.FAILED
    assert fate.reason.startswith("daily_gas_limit_native: ")
    assert stage.run(run).status == Status.FAILED
    assert len(stage.chain.pool()[stage.keeper.address]) == 2


def test_the_limit_of_a_day_stops_replacements_too(stage: Stage) -> None:
    run, _ = stage.submit()
    (first,) = stage.attempts(run)
    stage.settings(daily_gas_limit_wei=first.gas * first.max_fee)
    stick(stage)
    stage.look(run)
    assert len(stage.attempts(run)) == 1


def test_a_private_relay_first_and_the_public_node_in_the_end(stage: Stage) -> None:
    given: list[str] = []

    class Provider(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            given.append(params[0])
            return {"jsonrpc": "2.0", "id": 1, "result": "0x" + "00" * 32}

    stage.settings(relay=Relay(Web3(Provider()), public_after_blocks=2))
    run, _ = stage.submit()
    (attempt,) = stage.attempts(run)
    assert (given, stage.chain.pool()) == ([attempt.raw], {})
    stage.chain.mine_blocks()
    stage.look(run)
    assert stage.chain.pool() == {}
    stage.chain.mine_blocks()
    stage.look(run)
    assert list(stage.chain.pool()[stage.keeper.address]) == [0]
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.CONFIRMED
    assert given == [attempt.raw]


@pytest.mark.parametrize("of_old_blocks", [True, False])
def test_a_node_that_hides_a_receipt_is_not_believed(stage: Stage, of_old_blocks: bool) -> None:
    """Nor one that, too, cannot say just then what it knew a few blocks ago."""

    class Hiding(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            if method == "eth_getTransactionReceipt":
                return {"jsonrpc": "2.0", "id": 1, "result": None}
            if not of_old_blocks and method == "eth_getTransactionCount" and params[1] == "0x0":
                return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "try again"}}
            return super().make_request(method, params)

    run, _ = stage.submit()
    stage.chain.mine_blocks(1, 601)
    honest = stage.sender
    stage.settings(web3=Web3(Hiding(stage.chain.url)))
    fate = stage.look(run)
    assert (fate.status, fate.reason) == (Status.SENT, "mined, but the node does not show it yet")
    stage.sender = honest
    assert stage.look(run).status == Status.CONFIRMED


def test_a_receipt_from_a_block_that_is_not_in_the_chain_is_not_believed(stage: Stage) -> None:
    remembered: dict[str, Any] = {}

    class Remembering(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            answer = super().make_request(method, params)
            if method == "eth_getTransactionReceipt":
                return (
                    answer
                    if answer["result"] is None and not remembered
                    else remembered.setdefault("r", answer)
                )
            return answer

    stage.settings(web3=Web3(Remembering(stage.chain.url)))
    run, _ = mined(stage, confirmations=1)
    stage.chain.reorganise(1)
    assert settled(stage, run).status == Status.SENT
    assert stage.done() == 0


# ---------------------------------------------------------------- what the fault campaign found


def test_what_a_node_refuses_for_good_is_cancelled_long_before_its_deadline(stage: Stage) -> None:
    class Refusing(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            if method == "eth_sendRawTransaction" and decoded(params[0])["data"]:
                error = {
                    "code": -32000,
                    "message": "tx fee (1.20 ether) exceeds the configured cap (1.00 ether)",
                }
                return {"jsonrpc": "2.0", "id": 1, "error": error}
            return super().make_request(method, params)

    stage.settings(web3=Web3(Refusing(stage.chain.url)))
    run, fate = stage.submit()
    assert fate.status == Status.SENT
    for _ in range(2):
        stage.chain.mine_blocks()
        assert "exceeds the configured cap" in stage.look(run).reason  # the operator sees why it waits
    assert [attempt.purpose for attempt in stage.attempts(run)] == [Purpose.CALL]
    stage.chain.mine_blocks()
    stage.look(run)
    assert [attempt.purpose for attempt in stage.attempts(run)] == [Purpose.CALL, Purpose.CANCEL]
    stage.chain.mine_blocks()
    fate = stage.look(run)
    assert fate.status == stage.run(run).status == Status.FAILED
    assert "exceeds the configured cap" in fate.reason
    assert (stage.states(), stage.done(), stage.count()) == ({}, 0, 1)


def test_what_waits_for_gas_money_is_sent_again_and_not_cancelled(stage: Stage) -> None:
    poor = True

    class Poor(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            if method == "eth_sendRawTransaction" and poor:
                error = {"code": -32000, "message": "insufficient funds for gas * price + value"}
                return {"jsonrpc": "2.0", "id": 1, "error": error}
            return super().make_request(method, params)

    stage.settings(web3=Web3(Poor(stage.chain.url)))
    run, _ = stage.submit()
    for _ in range(4):
        stage.chain.mine_blocks()
        stage.look(run)
    poor = False
    stage.look(run)
    stage.chain.mine_blocks()
    stage.look(run)
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.CONFIRMED
    assert [attempt.purpose for attempt in stage.attempts(run)] == [Purpose.CALL]


def test_a_keeper_that_stood_still_until_the_deadline_sends_nothing(stage: Stage) -> None:
    class Frozen(Sender):
        def refused(self, *args: Any) -> str:
            refusal = super().refused(*args)
            stage.chain.mine_blocks(1, 601)
            return refusal

    stage.sender = Frozen(**{**stage.sender.__dict__})
    run, fate = stage.submit()
    assert (fate.status, fate.reason) == (Status.FAILED, "its deadline passed before it was mined")
    assert (stage.attempts(run), stage.chain.pool(), stage.states()) == ([], {}, {0: NonceState.FREE})


def test_a_keeper_that_stood_still_between_journal_and_node_looks_again_first(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the meantime the vault has no use for it any more."""
    write = Journal.sent

    def slowly(self: Journal, *args: Any) -> Attempt:
        attempt = write(self, *args)
        stage.allow(0)
        monkeypatch.setattr("offchain.keeper.dispatch.FRESH_SECONDS", -1)
        return attempt

    monkeypatch.setattr(Journal, "sent", slowly)
    run, _ = stage.submit()
    assert [attempt.purpose for attempt in stage.attempts(run)] == [Purpose.CALL, Purpose.CANCEL]
    (waiting,) = stage.chain.pool()[stage.keeper.address].values()
    assert waiting["hash"] == stage.attempts(run)[1].tx_hash
    stage.chain.mine_blocks()
    assert stage.look(run).status == Status.FAILED
    assert (stage.states(), stage.done()) == ({}, 0)


def test_what_a_halted_vault_has_sent_is_looked_after_without_waiting(stage: Stage) -> None:
    run, _ = stage.submit()
    stage.settings(receipt_timeout_seconds=10**6)
    stick(stage)
    stage.dispatch.keep_moving(stage.run(run).vault, 31337)
    assert len(stage.attempts(run)) == 2  # offered for more
    stage.chain.mine_blocks()
    stage.dispatch.keep_moving(stage.run(run).vault, 31337)
    assert (stage.run(run).status, stage.done(), stage.states()) == (Status.CONFIRMED, 1, {})


def test_a_vault_with_nothing_open_costs_no_request(stage: Stage) -> None:
    stage.settings(web3=Web3(HTTPProvider("http://127.0.0.1:1")))
    assert not stage.dispatch.keep_moving("0x" + "00" * 20, 31337)


def test_what_a_crash_left_unsent_is_given_up_before_the_next_look(stage: Stage) -> None:
    run = stage.plan()
    stage.journal.reserve(run, stage.keeper.address, 0, 0)
    assert not stage.dispatch.keep_moving(stage.run(run).vault, 31337)
    assert (stage.run(run).status, stage.run(run).reason) == (Status.FAILED, INTERRUPTED)
    assert stage.states() == {0: NonceState.FREE}


def test_a_free_nonce_that_somebody_else_used_is_forgotten(stage: Stage) -> None:
    gone = stage.plan()
    stage.journal.reserve(gone, stage.keeper.address, 0, 0)
    stage.journal.failed(gone, "refused")
    foreign = stage.sender.sign(stage.sender.nothing(), 0, Fees(2 * GWEI, GWEI))
    stage.sender.send(foreign.raw, foreign.tx_hash)
    stage.chain.mine_blocks()
    assert stage.states() == {0: NonceState.FREE}
    stage.dispatch.tend(31337)
    assert stage.states() == {}
    assert stage.run(stage.submit()[0]).nonce == 1


class Garbling(HTTPProvider):
    """One answer says something else than the others, in a form that is right."""

    def __init__(self, url: str, method: str, key: str, value: str) -> None:
        super().__init__(url)
        self.method, self.key, self.value, self.left = method, key, value, 1

    def make_request(self, method: RPCEndpoint, params: Any) -> Any:
        answer = super().make_request(method, params)
        found = answer.get("result")
        if method != self.method or not found or not self.left:
            return answer
        self.left -= 1
        return {**answer, "result": {**found, self.key: self.value} if self.key else self.value}


@pytest.mark.parametrize(("key", "value"), [("status", "0x0"), ("gasUsed", "0x1"), ("blockNumber", "0x1")])
def test_a_receipt_that_is_garbled_once_settles_nothing(stage: Stage, key: str, value: str) -> None:
    run, _ = stage.submit()
    stage.chain.mine_blocks()
    honest = stage.sender
    stage.settings(web3=Web3(Garbling(stage.chain.url, "eth_getTransactionReceipt", key, value)))
    assert stage.look(run).status == Status.SENT
    fate = stage.look(run)
    assert (fate.status, stage.run(run).status) == (Status.CONFIRMED, Status.CONFIRMED)
    stage.sender = honest
    receipt = stage.chain.web3.eth.get_transaction_receipt(stage.attempts(run)[0].tx_hash)  # type: ignore[arg-type]
    assert stage.attempts(run)[0].gas_wei == receipt["gasUsed"] * receipt["effectiveGasPrice"]


def test_a_count_that_is_garbled_once_is_no_nonce(stage: Stage) -> None:
    stage.settings(web3=Web3(Garbling(stage.chain.url, "eth_getTransactionCount", "", "0x64")))
    run, _ = stage.submit()
    assert (stage.run(run).nonce, list(stage.chain.pool()[stage.keeper.address])) == (0, [0])


def test_a_node_that_counts_differently_each_time_gives_no_nonce(stage: Stage) -> None:
    class Counting(HTTPProvider):
        number = 0

        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            if method != "eth_getTransactionCount":
                return super().make_request(method, params)
            self.number += 1
            return {"jsonrpc": "2.0", "id": 1, "result": hex(self.number)}

    stage.settings(web3=Web3(Counting(stage.chain.url)))
    with pytest.raises(ChainError, match="says another number of transactions of 0x"):
        stage.submit()
    assert (stage.chain.pool(), stage.states()) == ({}, {})


def test_a_run_that_another_process_moved_on_is_left_to_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process had read the run while it was simulated; the other one has sent it since."""
    planned = stage.run(stage.plan())
    run, _ = stage.submit()
    sent = stage.run(run)
    planned.id = run
    monkeypatch.setattr(Journal, "unfinished", lambda *_: [planned])
    assert settle(stage.dispatch, sent.vault, 31337) is None
    assert stage.run(run).status == Status.SENT
