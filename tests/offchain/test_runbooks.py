"""What docs/operations.md tells an operator to do, done: the cases that no other test has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner
from web3.contract import Contract

from offchain.cli import app
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper
from tests.support.anvil import Anvil
from tests.support.demo_vault import FIRST, funded_vault, make_keeper


@pytest.fixture(scope="module")
def module_world() -> Iterator[tuple[World, Contract]]:
    """A vault that has to be rebalanced."""
    with funded_vault() as (world, vault):
        world.chain.mine(world.chain.now + 3_600)
        world.set_market(replace(FIRST, prices=(FIRST.prices[0] * 160 // 100, *FIRST.prices[1:])))
        yield world, vault


@pytest.fixture
def built(module_world: tuple[World, Contract]) -> Iterator[tuple[World, Contract]]:
    chain = module_world[0].chain
    kept = chain._rpc("evm_snapshot", [])
    yield module_world
    chain._rpc("evm_revert", [kept])


def keeper(world: World, vault: Contract, journal: Journal) -> Keeper:
    found = make_keeper(world, vault, journal)
    return replace(found, sender=replace(found.sender, receipt_timeout_seconds=0.1))


def count(world: World) -> int:
    return world.chain.web3.eth.get_transaction_count(world.keeper.address, "latest")


# ---------------------------------------------------------------- keeper key stolen


@pytest.mark.parametrize("as_guardian", [True, False])
def test_a_stolen_key_loses_its_role_at_once(built: tuple[World, Contract], as_guardian: bool) -> None:
    world, vault = built
    arguments = [
        "keeper",
        "revoke",
        vault.address,
        world.keeper.address,
        "--rpc-url",
        world.chain.url,
        "--json",
    ]
    arguments += ["--as", world.guardian.address] if as_guardian else []
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert found["refusal"] is None and count(world) == 0
    call = {name: found[name] for name in ("from", "to", "data")}
    web3 = world.chain.web3
    web3.provider.make_request("anvil_impersonateAccount", [found["from"]])  # type: ignore[arg-type]
    web3.provider.make_request("anvil_setBalance", [found["from"], hex(10**18)])  # type: ignore[arg-type]
    web3.eth.wait_for_transaction_receipt(web3.eth.send_transaction(call))
    with closing(Journal(":memory:")) as journal:
        outcome = keeper(world, vault, journal).once()
    assert outcome.status == Status.FAILED and "lacks the keeper role" in outcome.reason and count(world) == 0
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1 and "is neither keeper nor strategist" in again.stderr


def test_a_stranger_is_told_that_it_cannot(built: tuple[World, Contract]) -> None:
    world, vault = built
    stranger = world.chain.accounts[8].address
    arguments = ["keeper", "revoke", vault.address, world.keeper.address, "--rpc-url", world.chain.url]
    result = CliRunner().invoke(app, [*arguments, "--as", stranger])
    assert result.exit_code == 1
    assert result.stderr == f"error: the Timelock refuses it from {stranger}: not admin or guardian\n"


def test_what_is_no_vault_is_named(built: tuple[World, Contract]) -> None:
    world, _ = built
    place = world.oracle.address
    arguments = ["keeper", "revoke", place, world.keeper.address, "--rpc-url", world.chain.url]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stderr == f"error: vault: {place} does not say who administers it: not a vault?\n"


# ---------------------------------------------------------------- database restored


def test_a_restored_journal_that_has_missed_a_rebalance_does_not_make_another(
    built: tuple[World, Contract], tmp_path: Path
) -> None:
    world, vault = built
    path, backup = tmp_path / "evenkeel.sqlite", tmp_path / "backup.sqlite"
    Journal(path).close()
    shutil.copy(path, backup)
    with closing(Journal(path)) as journal:
        assert keeper(world, vault, journal).once().status == Status.CONFIRMED
    shutil.copy(backup, path)
    with closing(Journal(path)) as journal:
        outcome = keeper(world, vault, journal).once()
        assert outcome.status == Status.SKIPPED and count(world) == 1
        assert [run.status for run in journal.runs()] == [Status.SKIPPED]


def test_a_restored_journal_that_has_missed_what_still_waits_does_not_send_it_again(
    built: tuple[World, Contract], tmp_path: Path
) -> None:
    world, vault = built
    chain = world.chain
    assert isinstance(chain, Anvil)
    with closing(Journal(tmp_path / "lost.sqlite")) as journal:
        chain.automine(False)
        try:
            assert keeper(world, vault, journal).once().status == Status.SENT
            with closing(Journal(tmp_path / "restored.sqlite")) as restored:
                outcome = keeper(world, vault, restored).once()
                assert outcome.status == Status.SKIPPED, outcome.reason
                assert outcome.reason.startswith("another keeper was first")
                assert list(chain.pool()[world.keeper.address]) == [0]  # the first one, alone
                chain.mine_blocks()
                assert count(world) == 1
                assert keeper(world, vault, restored).once().status == Status.SKIPPED
        finally:
            chain.automine(True)
