"""The journal: what a keeper finds after a restart."""

from pathlib import Path

import pytest

from offchain.chain.errors import ConfigError
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import pause_after

VAULT, OTHER = "0x" + "a" * 40, "0x" + "b" * 40
HASH = "0x" + "01" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def planned(journal: Journal, vault: str = VAULT) -> int:
    return journal.plan(vault, 1, 10, 3, "threshold", HASH, '{"a":"1"}', 999)


def test_a_run_survives_a_restart(path: Path) -> None:
    run = planned(Journal(path))
    first = Journal(path)
    first.simulated(run)
    first.sent(run, tx_hash=HASH, nonce=5, raw_tx="0x02", sender=OTHER)
    (found,) = Journal(path).unfinished(VAULT, 1)
    assert (found.status, found.tx_hash, found.nonce, found.raw_tx) == (Status.SENT, HASH, 5, "0x02")
    assert (found.session, found.block, found.deadline, found.record) == (3, 10, 999, '{"a":"1"}')


def test_confirmed_and_failed_runs_are_finished(path: Path) -> None:
    journal = Journal(path)
    journal.confirmed(planned(journal))
    journal.failed(planned(journal), "loss above slippage")
    journal.dry(planned(journal), "dry run")
    assert journal.unfinished(VAULT, 1) == []
    assert [run.status for run in journal.runs()] == [Status.SKIPPED, Status.FAILED, Status.CONFIRMED]
    assert journal.runs()[1].reason == "loss above slippage"


def test_unfinished_is_per_vault_and_chain(path: Path) -> None:
    journal = Journal(path)
    planned(journal)
    assert journal.unfinished(OTHER, 1) == []
    assert journal.unfinished(VAULT, 2) == []


def test_the_same_reason_to_skip_is_one_entry(path: Path) -> None:
    journal = Journal(path)
    journal.skip(VAULT, 1, 10, 3, "no trigger")
    journal.skip(VAULT, 1, 11, 3, "no trigger")
    journal.skip(VAULT, 1, 12, 3, "paused")
    assert [(run.block, run.reason) for run in journal.runs(VAULT)] == [(12, "paused"), (11, "no trigger")]


def test_reverts_are_counted_from_the_last_rebalance(path: Path) -> None:
    journal = Journal(path)

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


def test_two_vaults_skip_apart(path: Path) -> None:
    journal = Journal(path)
    journal.skip(VAULT, 1, 10, 3, "no trigger")
    journal.skip(OTHER, 1, 10, 3, "no trigger")
    assert len(journal.runs()) == 2


def test_times_are_kept(path: Path) -> None:
    journal = Journal(path)
    planned(journal)
    (run,) = journal.runs()
    assert run.created_at is not None
    assert run.updated_at is not None


def test_a_file_that_is_no_journal_is_a_clear_error(path: Path) -> None:
    path.write_text("this is not a database, and long enough to be seen as none")
    with pytest.raises(ConfigError, match="journal: cannot use"):
        Journal(path)


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="journal: cannot use"):
        Journal(tmp_path / "nowhere" / "journal.sqlite")
