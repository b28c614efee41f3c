"""The journal: what a keeper finds after a restart. On SQLite and on PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from offchain.chain.errors import BusyError, TransactionError
from offchain.chain.fees import Fees
from offchain.chain.sender import SignedCall
from offchain.keeper.journal import UNSENT, Attempt, DayLimit, Journal, Mined, NonceState, Purpose, Status
from offchain.keeper.loop import pause_after
from tests.support.postgres import Postgres, postgres  # noqa: F401

VAULT, OTHER = "0x" + "a" * 40, "0x" + "b" * 40
HASH = "0x" + "01" * 32
SENDER = "0x" + "c" * 40


@pytest.fixture(params=["sqlite", "postgresql"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "journal.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url()


@pytest.fixture
def opened(path: Path | str) -> Iterator[Callable[[], Journal]]:
    """Each call is a keeper that starts on the same journal."""
    journals: list[Journal] = []

    def start() -> Journal:
        journals.append(Journal(path))
        return journals[-1]

    yield start
    for journal in journals:
        journal.close()


@pytest.fixture
def journal(opened: Callable[[], Journal]) -> Journal:
    return opened()


def signed(nonce: int, number: int = 0, most: int = 2, gas: int = 21_000) -> SignedCall:
    return SignedCall(f"0x{nonce:062x}{number:02x}", nonce, "0x02", SENDER, gas, Fees(most, 1))


def sent(journal: Journal, vault: str = VAULT, mined: int = 5, pending: int = 5) -> Attempt:
    """A run whose transaction is about to be sent."""
    run = planned(journal, vault)
    nonce = journal.reserve(run, SENDER, mined, pending)
    return journal.sent(run, signed(nonce), 10, 1_000)


def mined_at(block: int, gas_wei: int = 7) -> Mined:
    return Mined(block, f"0x{block:064x}", 1_000 + block, gas_wei)


def states(journal: Journal) -> dict[int, str]:
    return {nonce.nonce: nonce.state for nonce, _ in journal.open_nonces(1, SENDER)}


def planned(journal: Journal, vault: str = VAULT) -> int:
    return journal.plan(vault, 1, 10, 3, "threshold", HASH, '{"a":"1"}', 999)


def test_a_run_survives_a_restart(opened: Callable[[], Journal]) -> None:
    run = planned(opened())
    first = opened()
    first.simulated(run)
    nonce = first.reserve(run, SENDER, 5, 5)
    first.sent(run, signed(nonce), 10, 1_000)
    (found,) = opened().unfinished(VAULT, 1)
    assert (found.status, found.tx_hash, found.nonce) == (Status.SENT, signed(5).tx_hash, 5)
    assert (found.session, found.block, found.deadline, found.record) == (3, 10, 999, '{"a":"1"}')
    (attempt,) = opened().attempts(1, SENDER, 5)
    assert (attempt.raw, attempt.max_fee, attempt.tip, attempt.purpose) == ("0x02", 2, 1, Purpose.CALL)


def test_confirmed_and_failed_runs_are_finished(journal: Journal) -> None:
    journal.confirmed(planned(journal))
    journal.failed(planned(journal), "loss above slippage")
    journal.dry(planned(journal), "dry run")
    assert journal.unfinished(VAULT, 1) == []
    assert [run.status for run in journal.runs()] == [Status.SKIPPED, Status.FAILED, Status.CONFIRMED]
    assert journal.runs()[1].reason == "loss above slippage"


def test_unfinished_is_per_vault_and_chain(journal: Journal) -> None:
    planned(journal)
    assert journal.unfinished(OTHER, 1) == []
    assert journal.unfinished(VAULT, 2) == []


def test_the_same_reason_to_skip_is_one_entry(journal: Journal) -> None:
    journal.skip(VAULT, 1, 10, 3, "no trigger")
    journal.skip(VAULT, 1, 11, 3, "no trigger")
    journal.skip(VAULT, 1, 12, 3, "paused")
    assert [(run.block, run.reason) for run in journal.runs(VAULT)] == [(12, "paused"), (11, "no trigger")]


def test_reverts_are_counted_from_the_last_rebalance(journal: Journal) -> None:

    def fail(reason: str, vault: str = VAULT) -> None:
        journal.failed(planned(journal, vault), reason)

    fail("reverted on chain: no trigger")
    journal.confirmed(planned(journal))
    assert journal.reverts(VAULT, 1) == []
    fail("reverted on chain: no trigger")
    journal.skip(VAULT, 1, 10, 3, "no trigger")
    fail("its deadline passed before it was mined")
    fail("reverted on chain")
    fail("reverted on chain", OTHER)
    assert [run.reason for run in journal.reverts(VAULT, 1)] == [
        "reverted on chain: no trigger",
        "reverted on chain",
    ]
    assert journal.reverts(VAULT, 2) == []


@pytest.mark.parametrize(
    ("reverts", "seconds"), [(0, 0), (1, 0), (2, 60), (3, 120), (7, 1_920), (8, 3_600), (1_000, 3_600)]
)
def test_pauses_grow_to_an_hour(reverts: int, seconds: int) -> None:
    assert pause_after(reverts) == seconds


def test_two_vaults_skip_apart(journal: Journal) -> None:
    journal.skip(VAULT, 1, 10, 3, "no trigger")
    journal.skip(OTHER, 1, 10, 3, "no trigger")
    assert len(journal.runs()) == 2


def test_times_are_kept(journal: Journal) -> None:
    planned(journal)
    (run,) = journal.runs()
    assert run.created_at is not None
    assert run.updated_at is not None


# ---------------------------------------------------------------- nonces


def test_one_open_run_a_vault(journal: Journal) -> None:
    run = planned(journal)
    with pytest.raises(BusyError, match="another keeper is at work"):
        planned(journal)
    planned(journal, OTHER)
    journal.failed(run, "given up")
    planned(journal)


def test_a_nonce_is_for_one_run(journal: Journal) -> None:
    one, other = planned(journal), planned(journal, OTHER)
    assert [journal.reserve(run, SENDER, 5, 5) for run in (one, other)] == [5, 6]
    assert states(journal) == {5: NonceState.RESERVED, 6: NonceState.RESERVED}


def test_nonces_that_wait_in_the_pool_are_left_alone(journal: Journal) -> None:
    assert journal.reserve(planned(journal), SENDER, 5, 8) == 8


def test_a_reserved_nonce_goes_back_when_nothing_was_signed(journal: Journal) -> None:
    run = planned(journal)
    journal.reserve(run, SENDER, 5, 5)
    journal.failed(run, "interrupted")
    assert states(journal) == {5: NonceState.FREE}
    assert journal.reserve(planned(journal), SENDER, 5, 5) == 5


def test_a_nonce_that_was_signed_with_never_goes_back(journal: Journal) -> None:
    attempt = sent(journal)
    assert attempt.run is not None
    journal.failed(attempt.run, "its deadline passed")
    assert states(journal) == {5: NonceState.LIVE}
    assert journal.reserve(planned(journal), SENDER, 5, 5) == 6


def test_a_run_that_another_process_ended_is_not_sent(journal: Journal) -> None:
    run = planned(journal)
    nonce = journal.reserve(run, SENDER, 5, 5)
    journal.failed(run, "interrupted")
    with pytest.raises(BusyError, match="ended by another process"):
        journal.sent(run, signed(nonce), 10, 1_000)
    assert journal.attempts(1, SENDER, nonce) == []


def test_a_run_that_was_sent_meanwhile_is_not_given_up(journal: Journal) -> None:
    """Another keeper saw it unsent, and its own keeper was faster."""
    attempt = sent(journal)
    assert attempt.run is not None
    with pytest.raises(BusyError, match="ended by another process: sent"):
        journal.given_up(attempt.run, "interrupted")
    with pytest.raises(BusyError, match="ended by another process: sent"):
        journal.dry(attempt.run, "dry run")
    assert journal.run(attempt.run).status == Status.SENT


def test_a_run_that_was_mined_meanwhile_is_not_too_late(journal: Journal) -> None:
    attempt = sent(journal)
    journal.mined(attempt, mined_at(13), Status.MINED)
    with pytest.raises(BusyError, match="ended by another process: mined"):
        journal.given_up(attempt.run or 0, "its deadline passed", (*UNSENT, Status.SENT))
    assert journal.run(attempt.run or 0).status == Status.MINED


def test_a_run_whose_block_was_replaced_meanwhile_is_not_confirmed(journal: Journal) -> None:
    attempt = sent(journal)
    journal.mined(attempt, mined_at(13), Status.MINED)
    journal.dropped(attempt)
    with pytest.raises(BusyError, match="ended by another process: sent"):
        journal.deep_enough(attempt.run or 0)
    assert journal.run(attempt.run or 0).status == Status.SENT


def test_a_nonce_that_another_run_took_is_not_used(journal: Journal) -> None:
    run, other = planned(journal), planned(journal, OTHER)
    journal.reserve(run, SENDER, 5, 5)
    nonce = journal.reserve(other, SENDER, 5, 5)
    with pytest.raises(BusyError, match="does not hold nonce"):
        journal.sent(run, signed(nonce), 10, 1_000)


def test_the_same_transaction_is_written_once(journal: Journal) -> None:
    attempt = sent(journal)
    with pytest.raises(BusyError, match="sent by another process"):
        journal.replaced(attempt, signed(5), Purpose.CALL, 11, 1_012)
    assert len(journal.attempts(1, SENDER, 5)) == 1


def test_many_processes_reserve_at_once_and_never_the_same(opened: Callable[[], Journal]) -> None:
    first = opened()
    runs = [planned(first, f"0x{k:040x}") for k in range(12)]
    got: list[int] = []

    def reserve(mine: list[int]) -> None:
        journal = opened()
        got.extend(journal.reserve(run, SENDER, 5, 5) for run in mine)

    threads = [threading.Thread(target=reserve, args=(runs[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(5, 17))


# ---------------------------------------------------------------- what became of them


def test_whichever_attempt_is_mined_settles_the_run(journal: Journal) -> None:
    first = sent(journal)
    second = journal.replaced(first, signed(5, 1, most=3), Purpose.CALL, 12, 1_060)
    assert journal.run(first.run or 0).tx_hash == second.tx_hash
    journal.mined(first, mined_at(13), Status.CONFIRMED)
    run = journal.run(first.run or 0)
    assert (run.status, run.tx_hash) == (Status.CONFIRMED, first.tx_hash)
    assert [attempt.block for attempt in journal.attempts(1, SENDER, 5)] == [13, None]
    assert states(journal) == {}


def test_the_other_attempt_after_a_reorganisation(journal: Journal) -> None:
    first = sent(journal)
    second = journal.replaced(first, signed(5, 1, most=3), Purpose.CALL, 12, 1_060)
    journal.mined(first, mined_at(13), Status.MINED)
    journal.mined(second, mined_at(14), Status.MINED)
    assert [attempt.block for attempt in journal.attempts(1, SENDER, 5)] == [None, 14]
    assert journal.run(first.run or 0).tx_hash == second.tx_hash


def test_a_cancel_that_is_mined_ends_the_run_with_its_reason(journal: Journal) -> None:
    first = sent(journal)
    cancel = journal.replaced(first, signed(5, 1), Purpose.CANCEL, 12, 1_060, "the vault would refuse")
    assert journal.run(first.run or 0).status == Status.SENT  # the call may still win
    journal.mined(cancel, mined_at(13), Status.FAILED)
    run = journal.run(first.run or 0)
    assert (run.status, run.reason) == (Status.FAILED, "the vault would refuse")


def test_a_run_that_was_given_up_is_mined_after_all(journal: Journal) -> None:
    attempt = sent(journal)
    journal.failed(attempt.run or 0, "its deadline passed")
    journal.mined(attempt, mined_at(13), Status.CONFIRMED, "mined after all")
    assert journal.run(attempt.run or 0).status == Status.CONFIRMED


def test_a_settled_nonce_is_not_replaced(journal: Journal) -> None:
    attempt = sent(journal)
    journal.mined(attempt, mined_at(13), Status.CONFIRMED)
    with pytest.raises(BusyError, match="nonce 5 is settled"):
        journal.replaced(attempt, signed(5, 1), Purpose.CALL, 14, 1_072)


def test_a_block_that_was_replaced_makes_the_run_open_again(journal: Journal) -> None:
    attempt = sent(journal)
    journal.mined(attempt, mined_at(13), Status.CONFIRMED)
    (found,) = journal.attempts(1, SENDER, 5)
    assert (found.block, found.gas_wei) == (13, 7)
    assert journal.blocks_since(1, 12) == [(VAULT, 13, found.block_hash)]
    assert journal.blocks_since(1, 13) == []
    journal.dropped(found)
    assert journal.blocks_since(1, 12) == []
    assert states(journal) == {5: NonceState.LIVE}
    assert [run.status for run in journal.unfinished(VAULT, 1)] == [Status.SENT]


def test_nonces_are_looked_at_again_until_they_are_final(journal: Journal) -> None:
    attempt = sent(journal)
    journal.filled(1, signed(4), 10, 1_000)

    def young(**whose: str) -> list[tuple[int, str]]:
        return [(nonce.nonce, nonce.state) for nonce in journal.young(1, 8, **whose)]

    assert young(vault=VAULT) == [(5, NonceState.LIVE)]
    assert young(fills_of=SENDER) == [(4, NonceState.LIVE)]
    (live,) = journal.young(1, 8, vault=VAULT)
    journal.final(live)  # the chain has not used it
    assert young(vault=VAULT) == [(5, NonceState.LIVE)]
    journal.mined(attempt, mined_at(13), Status.CONFIRMED)
    assert young(vault=VAULT) == [(5, NonceState.USED)]
    journal.final(live)
    assert (young(vault=VAULT), young(vault=SENDER), young(fills_of=VAULT)) == ([], [], [])
    assert states(journal) == {4: NonceState.LIVE}


def test_nonces_that_a_replaced_chain_had_used_are_live_again(journal: Journal) -> None:
    journal.lost(sent(journal), "another transaction used it")
    assert states(journal) == {}
    journal.match_nonces(1, SENDER, 6, 70)
    assert states(journal) == {}
    journal.match_nonces(1, SENDER, 5, 69)
    assert states(journal) == {5: NonceState.LIVE}
    journal.match_nonces(1, SENDER, 6, 70)
    assert states(journal) == {5: NonceState.LIVE}  # nobody knows by what it was used


def test_a_node_that_was_behind_for_a_while_leaves_no_nonce_open(journal: Journal) -> None:
    journal.mined(sent(journal), mined_at(13), Status.CONFIRMED)
    journal.match_nonces(1, SENDER, 5, 69)
    assert states(journal) == {5: NonceState.LIVE}
    journal.match_nonces(1, SENDER, 6, 70)
    assert states(journal) == {}


def test_a_gap_is_filled_once(journal: Journal) -> None:
    journal.filled(1, signed(4), 10, 1_000)
    assert states(journal) == {4: NonceState.LIVE}
    with pytest.raises(BusyError, match="nonce 4 is taken"):
        journal.filled(1, signed(4, 1), 10, 1_000)


def test_the_limit_of_a_day_holds_for_many_that_send_at_once(opened: Callable[[], Journal]) -> None:
    journals, limit = [opened() for _ in range(3)], DayLimit(3 * 42_000 + 41_999, 0)
    runs = [planned(journals[0], f"0x{number:040x}") for number in range(9)]
    calls = [signed(journals[0].reserve(run, SENDER, 5, 5)) for run in runs]

    def send(number: int) -> bool:
        try:
            journals[number % 3].sent(runs[number], calls[number], 10, 1_000, limit)
        except TransactionError:
            return False
        return True

    with ThreadPoolExecutor(9) as pool:
        assert sum(pool.map(send, range(9))) == 3
    assert journals[0].gas_spent(1, SENDER, 0) == 3 * 42_000


def test_the_limit_of_a_day_holds_for_replacements_and_gaps(journal: Journal) -> None:
    first, limit = sent(journal), DayLimit(21_000 * 3 - 1, 0)
    with pytest.raises(TransactionError, match="daily_gas_limit_native"):
        journal.replaced(first, signed(5, 1, most=3), Purpose.CALL, 14, 1_072, limit=limit)
    with pytest.raises(TransactionError, match="daily_gas_limit_native"):
        journal.filled(1, signed(4), 14, 1_072, limit)
    assert len(journal.attempts(1, SENDER, 5)) == 1
    assert states(journal) == {5: NonceState.LIVE}


def test_spent_gas_is_what_was_paid_and_the_worst_of_what_may_be(journal: Journal) -> None:
    paid = sent(journal)
    journal.mined(paid, mined_at(13, gas_wei=1_000_000), Status.CONFIRMED)
    first = sent(journal, mined=6, pending=6)
    journal.replaced(first, signed(6, 1, most=3), Purpose.CALL, 14, 1_072)
    assert journal.gas_spent(1, SENDER, since=1_012) == 1_000_000 + 21_000 * 3
    assert journal.gas_spent(1, SENDER, since=1_012, without=6) == 1_000_000
    assert journal.gas_spent(1, SENDER, since=1_013) == 21_000 * 3  # older than the window
    assert journal.gas_spent(2, SENDER, since=0) == 0
