"""The audit of a real keeper's work on anvil: its decisions are verified, a lying keeper's are not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from typer.testing import CliRunner
from web3.contract import Contract

from offchain.audit.decision import Status as Is
from offchain.audit.index import check, history_of, index_vaults, open_index
from offchain.audit.records import from_journal
from offchain.audit.verify import Report, verify_vault
from offchain.chain.vault import Snapshot
from offchain.cli import app
from offchain.demo.world import World
from offchain.keeper.decide import Decision, canonical_json
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper
from tests.integration.test_keeper import JUMP, later
from tests.support.anvil import anvil
from tests.support.demo_vault import funded_vault, make_keeper


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    with funded_vault(anvil) as (world, vault):
        yield world, vault


def audited(world: World, vault: Contract, journal: Journal) -> Report:
    return verify_vault(
        world.chain.web3, vault.address, 0, None, lambda decisions: from_journal(journal.path, decisions)
    )


@dataclasses.dataclass(frozen=True)
class Liar(Keeper):
    """Commits to another record than the one it acted on."""

    lie: Callable[[dict[str, Any]], None] = lambda record: None

    def _decide(self, snapshot: Snapshot) -> Decision:
        decision = super()._decide(snapshot)
        record = json.loads(decision.record)
        self.lie(record)
        text = canonical_json(record)
        return dataclasses.replace(decision, record=text, commitment=keccak(text=text))


def test_a_keeper_s_decision_is_verified(
    world: World, vault: Contract, journal: Journal, tmp_path: Path
) -> None:
    later(world, 3_600, JUMP)
    assert make_keeper(world, vault, journal).once().status == Status.CONFIRMED
    report = audited(world, vault, journal)
    assert (report.ok, [d.status for d in report.decisions]) == (True, [Is.VERIFIED])
    undeclared = verify_vault(world.chain.web3, vault.address)
    assert (undeclared.ok, [d.status for d in undeclared.decisions]) == (True, [Is.UNDECLARED])

    def audit(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["audit", *arguments], env={"COLUMNS": "200"})

    node, out = ("--rpc-url", world.chain.url), tmp_path / "export.json"
    shown = audit("verify", vault.address, *node, "--journal", str(journal.path))
    assert shown.exit_code == 0, shown.output
    assert "1 verified, 0 undeclared, 0 unexplained" in shown.stdout
    exported = audit("export", vault.address, *node, "--journal", str(journal.path), "--out", str(out))
    assert exported.exit_code == 0, exported.output
    arguments = ("verify", vault.address, "--from-file", str(out), "--head", report.head_stored)
    offline = audit(*arguments)
    assert offline.exit_code == 0, offline.output
    assert (
        "0 verified, 0 undeclared, 0 unexplained, 1 unchecked" in offline.stdout
    )  # prices and pools take a node

    top = json.loads(out.read_text())
    top["records"][0]["record"] = top["records"][0]["record"].replace('"joint"', '"other"')
    out.write_text(json.dumps(top))
    altered = audit(*arguments)
    assert altered.exit_code == 1
    assert (
        "field decision.record" in altered.stderr
        and f"block {report.decisions[0].position.block}" in altered.stderr
    )


def test_the_index_of_a_real_node_equals_it(world: World, vault: Contract, journal: Journal) -> None:
    later(world, 3_600, JUMP)
    assert make_keeper(world, vault, journal).once().status == Status.CONFIRMED
    engine = open_index(":memory:")
    (found,) = index_vaults(world.chain.web3, engine, [vault.address], size=7)
    assert found.last_block == world.chain.web3.eth.block_number
    assert check(world.chain.web3, engine, vault.address)[1] == []
    last = [point for point in history_of(engine, world.chain.web3.eth.chain_id, vault.address) if point.nav]
    assert "Rebalanced" in last[0].events and last[0].priced_at == last[0].block

    snapshot = world.chain._rpc("evm_snapshot", [])  # a reorganisation: what follows is replaced
    world.chain.mine(world.chain.now + 60)
    index_vaults(world.chain.web3, engine, [vault.address])
    world.chain._rpc("evm_revert", [snapshot])
    world.chain.mine(world.chain.now + 90)
    world.chain.mine(world.chain.now + 90)
    index_vaults(world.chain.web3, engine, [vault.address])
    assert check(world.chain.web3, engine, vault.address)[1] == []
    engine.dispose()


def price(record: dict[str, Any]) -> None:
    record["state"]["prices"][0] = str(int(record["state"]["prices"][0]) + 1)


def pool(record: dict[str, Any]) -> None:
    found = next(one for one in record["inputs"]["pools"] if one["kind"] == "V3Pool")
    found["liquidity"] = str(int(found["liquidity"]) + 1)


@pytest.mark.parametrize(("lie", "field"), [(price, "state.prices"), (pool, "inputs.pools[")])
def test_a_lying_keeper_s_decision_is_unexplained(
    world: World, vault: Contract, journal: Journal, lie: Any, field: str
) -> None:
    """The vault accepts the trade, which is a good one: only the record is false."""
    later(world, 3_600, JUMP)
    honest = make_keeper(world, vault, journal)
    keeper = Liar(**{f.name: getattr(honest, f.name) for f in dataclasses.fields(honest)}, lie=lie)
    assert keeper.once().status == Status.CONFIRMED
    report = audited(world, vault, journal)
    assert not report.ok
    (found,) = report.decisions
    assert found.status == Is.UNEXPLAINED and found.field.startswith(field), (found.field, found.reason)
    assert report.first_break is not None and f"field decision.{found.field}" in report.first_break
