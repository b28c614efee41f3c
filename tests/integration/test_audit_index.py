"""The index against the real bytecode: equal to the chain's own state at every block, resumed, rolled back."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from sqlalchemy import event
from sqlalchemy.engine import Engine
from typer.testing import CliRunner
from web3 import Web3
from web3.exceptions import BlockNotFound

from offchain.audit.index import at_block, check, compare, history_of, index_vaults, load, open_index
from offchain.audit.verifier import verify
from offchain.audit.verify import verify_vault
from offchain.chain.errors import ChainError, ConfigError, JournalError
from offchain.cli import app
from offchain.policy import DAY
from tests.offchain.test_audit_vault import EvmProvider, Market, RecordingEvm
from tests.support.evm import Reverted
from tests.support.postgres import Postgres, postgres  # noqa: F401
from tests.support.world import ALICE, BOB, GUARDIAN, START, STRANGER, World, asset

UNIT = 10**18


class Node(EvmProvider):
    """Blocks of a fork have other hashes; ranges and results can be limited; requests are counted."""

    def __init__(self, evm: Any) -> None:
        super().__init__(evm)
        self.forks: list[int] = []  # blocks above which the chain was replaced
        self.most_blocks = 10**9
        self.stale = 0  # so many answers with logs are of blocks that were replaced
        self.ranges: list[tuple[int, int]] = []
        self.tip: int | None = None  # the newest block that it has; None: all
        self.chain_id = 1
        self.after_logs: Callable[[], None] = lambda: None  # runs once, when logs were told

    def make_request(self, method: Any, params: Any) -> Any:
        if method == "eth_chainId":
            return {"jsonrpc": "2.0", "id": 1, "result": hex(self.chain_id)}
        if method == "eth_getLogs":
            first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
            self.ranges.append((first, last))
            if last - first >= self.most_blocks:
                error = {"code": -32005, "message": "block range too large"}
                return {"jsonrpc": "2.0", "id": 1, "error": error}
        answer = super().make_request(method, params)
        if method == "eth_getLogs":
            answer["result"] = [
                log | {"blockHash": self.hash(log["blockNumber"])} for log in answer["result"]
            ]
        if method == "eth_getLogs" and self.stale and answer["result"]:
            self.stale -= 1
            other = {"blockHash": HexBytes(b"\x01" * 32), "data": HexBytes(bytes(32))}
            answer["result"] = [log | other for log in answer["result"]]
        if method == "eth_getLogs":
            once, self.after_logs = self.after_logs, lambda: None
            once()
        return answer

    def _block(self, params: Any) -> dict[str, Any]:
        if self.tip is not None and params[0] == "latest":
            params = [hex(self.tip)]
        if self.tip is not None and int(params[0], 16) > self.tip:
            raise BlockNotFound(params[0])
        found = super()._block(params)
        self.evm.shown = max(self.evm.shown, found["number"])
        return found | {"hash": self.hash(found["number"])}

    def hash(self, number: int) -> HexBytes:
        return HexBytes(keccak(text=f"block {number} {sum(number > fork for fork in self.forks)}"))


class Blocks(RecordingEvm):
    """A block that a node has told of gets no more transactions."""

    shown = 0

    def _record(self, logs: list[Any]) -> None:
        self._block = max(self._block, self.shown + 1)
        super()._record(logs)


class Chain(Market):
    """A market whose node can reorganise."""

    def __init__(self) -> None:
        World.__init__(self, (5_000, 5_000), (18,), (1,), seed_usd=2_000, fee_bps=50, evm=Blocks(START))
        self.provider = Node(self.evm)
        self.web3 = Web3(self.provider, middleware=[])

    def fork(self) -> Any:
        return self.evm.snapshot(), len(self.evm.logs), self.evm._block

    def replace(self, fork: Any) -> None:
        """Back to the fork: what came after it never happened."""
        snapshot, count, block = fork
        self.evm.revert(snapshot)
        self.evm.shown = self.evm._block
        del self.evm.logs[count:]
        self.provider.forks.append(block - 1)

    def donate(self, index: int, units: int) -> None:
        token = self.tokens[index]
        token.call("set_balance", BOB, units)
        token.call("transfer", self.vault.address, units, sender=BOB)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_index(tmp_path / "index.sqlite")
    yield engine
    engine.dispose()


def follow(chain: Chain, engine: Engine) -> None:
    """Index to the newest block; it is what the chain says there."""
    (found,) = index_vaults(chain.web3, engine, [chain.vault.address])
    newest = at_block(engine, 1, chain.vault.address, found.last_block, chain.evm.now)
    assert newest is not None
    assert compare(chain.web3, chain.vault.address, newest) == []


def step(chain: Chain, dice: random.Random) -> str:
    """Something that can happen to a vault; its name, "" where the vault refused."""
    name = dice.choice(
        ["mint", "redeem", "trade", "donate", "wait", "fee", "collect", "targets", "deposit", "bands"]
    )
    try:
        if name == "mint":
            chain.mint(ALICE, dice.randrange(1, 300 * UNIT))
        elif name == "redeem":
            chain.redeem(ALICE, dice.randrange(1, 100 * UNIT), skip=dice.randrange(4))
        elif name == "trade":
            chain.set_price(0, dice.randrange(7 * UNIT // 10, 14 * UNIT // 10))
            halves(chain)
        elif name == "donate":
            chain.donate(dice.randrange(2), dice.randrange(1, 10 * UNIT))
        elif name == "wait":
            chain.sleep(dice.randrange(1, 3 * DAY))
            chain.refresh()
            return ""
        elif name == "fee":
            chain.at_once("set_fee", chain.vault.call("fee_bps") - 1, chain.vault.call("fee_recipient"))
        elif name == "collect":
            chain.vault.call("collect_fee")
        elif name == "targets":
            bps = dice.randrange(4_900, 5_100)
            chain.at_once("set_targets", [bps, 10_000 - bps])
        elif name == "deposit":
            shares = chain.teller.call("deposit", 2 * UNIT, BOB, sender=BOB)
            chain.teller.call("redeem", shares // 2, BOB, BOB, sender=BOB)
        else:
            chain.delayed("set_bands", [dice.randrange(300, 500)] * 2, [2_000, 2_500])
    except Reverted:
        return ""
    return name


def halves(chain: Chain) -> None:
    """A trade to the targets at the oracle's prices."""
    first, second = chain.balances()
    target = chain.vault.call("basket")[0][2]
    value = first * chain.prices[0] // UNIT + second
    wanted = (
        value * target // 10_000 * UNIT // chain.prices[0] + UNIT // 100
    )  # the vault rounds against itself
    chain.rebalance([wanted, second + (first - wanted) * chain.prices[0] // UNIT])


def with_teller(chain: Chain) -> None:
    chain.mint(ALICE, 500 * UNIT)
    chain.delayed("add_teller", chain.tokens[1].address, 50, 120, DAY, 1_000, 1_000, False)
    chain.teller = chain.at("Teller", chain.evm.events("TellerAdded")[0].fields["teller"])
    chain.tokens[1].call("set_balance", BOB, 10_000 * UNIT)
    chain.tokens[1].call("approve", chain.teller.address, 2**255, sender=BOB)


def test_the_index_equals_the_chain_at_every_block(chain: Chain, engine: Engine) -> None:
    """A random history of flows, trades, fees, changes and donations: all of it, after every transaction."""
    dice = random.Random(5)
    with_teller(chain)
    happened = set()
    for _ in range(28):
        happened.add(step(chain, dice))
        follow(chain, engine)
    assert happened - {""} >= {"mint", "redeem", "trade", "donate", "collect", "deposit", "targets"}
    history, _ = load(engine, 1, chain.vault.address)
    found = verify(history, chain.head())
    assert found.ok, found.broken
    assert verify_vault(chain.web3, chain.vault.address).ok


def test_the_history_has_values_by_block(chain: Chain, engine: Engine) -> None:
    chain.mint(ALICE, 500 * UNIT)
    chain.set_price(0, 13 * UNIT // 10)
    chain.trade()
    chain.donate(0, UNIT)
    follow(chain, engine)
    created, minted, traded, given = history_of(engine, 1, chain.vault.address)
    assert "Created" in created.events and created.nav is None  # no price is known before the first entry
    assert minted.events.count("MintedInKind") == 1 and minted.supply == 2_500 * UNIT
    assert traded.events[-1] == "Rebalanced" and traded.prices == (13 * UNIT // 10, UNIT)
    assert traded.nav == 1_150 * 13 * UNIT // 10 + 1_380 * UNIT
    assert traded.share_price == traded.nav * UNIT // traded.supply
    assert traded.weights is not None and traded.weights[1] == 1_380 * UNIT * UNIT // traded.nav
    assert (given.events, given.priced_at) == (("Transfer",), traded.block)
    assert given.nav is not None and given.nav - traded.nav == 13 * UNIT // 10


def test_indexing_goes_on_where_it_stopped(chain: Chain, engine: Engine) -> None:
    follow(chain, engine)
    chain.provider.ranges.clear()
    (same,) = index_vaults(chain.web3, engine, [chain.vault.address])
    assert chain.provider.ranges == []
    chain.mint(ALICE, UNIT)
    (more,) = index_vaults(chain.web3, engine, [chain.vault.address])
    assert (more.last_block > same.last_block, more.logs) == (
        True,
        same.logs + 4,
    )  # 2 transfers, a mint, its flow
    assert {first for first, _ in chain.provider.ranges} == {same.last_block + 1}


def test_ranges_adapt_to_the_node(chain: Chain, engine: Engine) -> None:
    chain.live()
    chain.provider.most_blocks = 3
    follow(chain, engine)
    sizes = [last - first + 1 for first, last in chain.provider.ranges]
    assert max(sizes) > 3  # was refused
    assert (
        sorted({last for (first, last) in chain.provider.ranges if last - first < 3})[-1] == chain.evm._block
    )
    chain.provider.most_blocks = 0
    chain.mint(ALICE, UNIT)
    with pytest.raises(ChainError, match=r"does not give the logs of block \d+"):
        index_vaults(chain.web3, engine, [chain.vault.address])


def test_the_index_is_the_same_on_postgresql(chain: Chain, engine: Engine, postgres: Postgres) -> None:  # noqa: F811
    chain.live()
    follow(chain, engine)
    other = open_index(postgres.url())
    for _ in range(2):
        follow(chain, other)
        chain.donate(0, UNIT)
        follow(chain, engine)
    follow(chain, other)
    vault = chain.vault.address
    assert history_of(other, 1, vault) == history_of(engine, 1, vault)
    other.dispose()


@pytest.mark.parametrize("deep", [False, True])
def test_a_reorganisation_is_rolled_back(chain: Chain, engine: Engine, deep: bool) -> None:
    """The index of the new chain is the one that a fresh index has."""
    chain.mint(ALICE, 500 * UNIT)
    fork = chain.fork()
    if not deep:
        follow(chain, engine)
    chain.set_price(0, 13 * UNIT // 10)
    chain.trade()
    chain.redeem(ALICE, 7 * UNIT)
    follow(chain, engine)
    old = history_of(engine, 1, chain.vault.address)
    chain.replace(fork)
    chain.sleep(30)
    chain.donate(1, 5 * UNIT)
    chain.redeem(ALICE, 8 * UNIT)
    follow(chain, engine)
    new = history_of(engine, 1, chain.vault.address)
    assert new != old and "Rebalanced" not in {name for point in new for name in point.events}
    fresh = open_index(":memory:")
    index_vaults(chain.web3, fresh, [chain.vault.address])
    assert history_of(fresh, 1, chain.vault.address) == new
    fresh.dispose()


def test_a_reorganisation_while_a_range_is_read_is_noticed(chain: Chain, engine: Engine) -> None:
    chain.mint(ALICE, 500 * UNIT)
    follow(chain, engine)
    chain.mint(ALICE, 5 * UNIT)
    chain.provider.stale = 1
    follow(chain, engine)
    assert chain.provider.stale == 0


def test_tokens_that_join_later_are_followed(chain: Chain, engine: Engine) -> None:
    follow(chain, engine)
    third = chain.third()
    chain.donate(2, 3 * UNIT)  # before it is an asset
    follow(chain, engine)
    chain.delayed("add_asset", asset(third, 0))
    chain.donate(2, 4 * UNIT)
    follow(chain, engine)
    point = history_of(engine, 1, chain.vault.address)[-1]
    assert point.balances[2] == 7 * UNIT
    chain.at_once("quarantine", chain.tokens[0].address, sender=GUARDIAN)
    follow(chain, engine)
    assert history_of(engine, 1, chain.vault.address)[-1].balances[0] == 0


def test_several_vaults_in_one_pass(chain: Chain, engine: Engine) -> None:
    """One was indexed before, the other is new; each has its own history."""
    first = chain.vault
    follow(chain, engine)
    chain.give(STRANGER, chain.seed, spender=chain.factory.address)
    second = chain.factory.call("create_vault", chain.config, chain.seed, b"\1" * 32, sender=STRANGER)
    chain.mint(ALICE, UNIT)
    both = index_vaults(chain.web3, engine, [first.address, second])
    assert both[0].last_block == both[1].last_block == chain.evm._block
    for vault in (first.address, second):
        newest = at_block(engine, 1, vault, both[0].last_block, chain.evm.now)
        assert newest is not None and compare(chain.web3, vault, newest) == []
    assert len(history_of(engine, 1, second)) == 1


def test_an_altered_index_is_found(chain: Chain, engine: Engine) -> None:
    chain.mint(ALICE, 500 * UNIT)
    follow(chain, engine)
    assert check(chain.web3, engine, chain.vault.address, samples=1) == (1, [])
    with engine.begin() as db:
        db.exec_driver_sql("update audit_logs set data = replace(data, '1', '2') where address != vault")
    _, differences = check(chain.web3, engine, chain.vault.address, samples=1)
    assert [difference.field for difference in differences] == ["balances"]


def test_an_index_of_another_layout_is_refused(tmp_path: Path) -> None:
    engine = open_index(tmp_path / "index.sqlite")
    with engine.begin() as db:
        db.exec_driver_sql("update audit_meta set layout = 99")
    engine.dispose()
    with pytest.raises(ConfigError, match="layout 99"):
        open_index(tmp_path / "index.sqlite")


def same_as_fresh(chain: Chain, engine: Engine) -> None:
    """The index, brought up to date, is the one that is made anew, log by log."""
    fresh = open_index(":memory:")
    for one in (engine, fresh):
        index_vaults(chain.web3, one, [chain.vault.address])
    assert load(engine, 1, chain.vault.address) == load(fresh, 1, chain.vault.address)
    fresh.dispose()


def test_a_chain_that_shares_no_block_with_the_index_is_read_anew(chain: Chain, engine: Engine) -> None:
    chain.mint(ALICE, 500 * UNIT)
    for _ in range(3):
        chain.donate(0, UNIT)
        follow(chain, engine)
    chain.provider.forks.append(-1)  # every block is another one
    same_as_fresh(chain, engine)
    with engine.connect() as db:
        hashes = db.exec_driver_sql("select number, hash from audit_blocks").all()
    assert all(said == chain.provider.hash(number).to_0x_hex() for number, said in hashes)


def test_a_reorganisation_behind_a_range_without_logs_is_noticed(chain: Chain, engine: Engine) -> None:
    """The range's logs are told by one chain, the hash of its last block by the next."""
    follow(chain, engine)
    fork = chain.fork()
    chain.evm._block += 5  # blocks without logs

    asked = iter(range(3))  # the vault's logs, its tokens' transfers to it and from it

    def reorganise() -> None:
        if next(asked) < 2:
            chain.provider.after_logs = reorganise
            return
        chain.replace(fork)
        chain.provider.forks[-1] += 1  # the block that was indexed last stays
        chain.donate(0, UNIT)
        chain.evm._block += 5

    chain.provider.after_logs = reorganise
    same_as_fresh(chain, engine)
    assert history_of(engine, 1, chain.vault.address)[-1].events == ("Transfer",)


@pytest.mark.parametrize("behind", [2, 1_000])
def test_a_node_that_is_behind_takes_nothing_for_a_reorganisation(
    chain: Chain, engine: Engine, behind: int
) -> None:
    """A few blocks may be a reorganisation: they are read again. Many are a node that is not synced."""
    follow(chain, engine)
    chain.evm._block += 1_000
    chain.donate(0, UNIT)
    follow(chain, engine)
    before = load(engine, 1, chain.vault.address)
    chain.provider.tip = chain.evm._block - behind
    if behind == 2:
        (found,) = index_vaults(chain.web3, engine, [chain.vault.address])
        assert found.last_block == chain.provider.tip
    else:
        with pytest.raises(ChainError, match=r"rpc_url: the node is at block \d+, the index at \d+: wait"):
            index_vaults(chain.web3, engine, [chain.vault.address])
        assert load(engine, 1, chain.vault.address) == before
    chain.provider.tip = None
    same_as_fresh(chain, engine)
    assert load(engine, 1, chain.vault.address) == before


def test_another_process_that_goes_back_leaves_no_gap(chain: Chain, engine: Engine) -> None:
    """One process has read a range when another one rolls the index back, and then ends."""
    chain.mint(ALICE, 500 * UNIT)
    index_vaults(chain.web3, engine, [chain.vault.address])
    chain.donate(0, UNIT)

    def rolled_back() -> None:
        with engine.begin() as db:
            for table, column in (("audit_logs", "block"), ("audit_blocks", "number")):
                db.exec_driver_sql(f"delete from {table} where {column} > 3")
            db.exec_driver_sql("update audit_vaults set next_block = 4")

    chain.provider.after_logs = rolled_back
    same_as_fresh(chain, engine)


def test_another_process_that_forgets_the_vault_is_no_crash(chain: Chain, engine: Engine) -> None:
    def forgotten() -> None:
        with engine.begin() as db:
            for table in ("audit_logs", "audit_blocks", "audit_vaults"):
                db.exec_driver_sql(f"delete from {table}")

    chain.provider.after_logs = forgotten
    same_as_fresh(chain, engine)


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_two_processes_index_the_same_database(
    chain: Chain,
    tmp_path: Path,
    where: str,
    postgres: Postgres,  # noqa: F811
) -> None:
    """Both begin with nothing, the tables included, and go in small steps; a third is made of the whole."""
    chain.live()
    target = tmp_path / "two.sqlite" if where == "sqlite" else postgres.url()
    one_call, errors, ready = threading.Lock(), [], threading.Barrier(2)
    ask = chain.provider.make_request

    def locked(method: Any, params: Any) -> Any:  # the chain of the test is for one thread at a time
        with one_call:
            return ask(method, params)

    def work() -> None:
        try:
            ready.wait(60)
            engine = open_index(target)
            chain.provider.most_blocks = 4
            index_vaults(Web3(chain.provider, middleware=[]), engine, [chain.vault.address], size=2)
            engine.dispose()
        except BaseException as error:
            errors.append(error)

    chain.provider.make_request = locked  # type: ignore[method-assign]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    both = open_index(target)
    same_as_fresh(chain, both)
    both.dispose()


def test_a_process_killed_in_the_midst_of_a_range_is_taken_up(chain: Chain, tmp_path: Path) -> None:
    """SIGKILL in the second transaction with logs: those are written, their blocks are not."""
    chain.live()
    chain.provider.most_blocks = 3
    child = os.fork()
    if child == 0:  # never returns
        seen = 0
        try:
            engine = open_index(tmp_path / "index.sqlite")

            @event.listens_for(engine, "after_cursor_execute")
            def kill(_c: Any, _u: Any, text: str, *_: Any) -> None:
                nonlocal seen
                seen += text.startswith("INSERT INTO audit_logs")
                if seen == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

            index_vaults(chain.web3, engine, [chain.vault.address], size=2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    engine = open_index(tmp_path / "index.sqlite")
    same_as_fresh(chain, engine)
    engine.dispose()


def test_the_same_vault_of_another_chain_is_apart(chain: Chain, engine: Engine) -> None:
    chain.mint(ALICE, 500 * UNIT)
    follow(chain, engine)
    before = load(engine, 1, chain.vault.address)
    chain.provider.chain_id = 2
    chain.provider.forks.append(-1)
    chain.donate(0, UNIT)
    index_vaults(Web3(chain.provider, middleware=[]), engine, [chain.vault.address])
    assert load(engine, 1, chain.vault.address) == before
    other, moved = load(engine, 2, chain.vault.address)
    assert other.chain_id == 2 and len(moved) == len(before[1]) + 1


def test_a_full_disk_is_one_line_and_nothing_half_done(chain: Chain, engine: Engine) -> None:
    follow(chain, engine)
    before = load(engine, 1, chain.vault.address)
    for _ in range(30):
        chain.donate(0, UNIT)

    def full(connection: Any, *_: Any) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")

    engine.dispose()
    event.listen(engine, "connect", full)
    with pytest.raises(JournalError, match="disk is full") as said:
        index_vaults(chain.web3, engine, [chain.vault.address])
    assert "\n" not in str(said.value)
    assert load(engine, 1, chain.vault.address) == before
    event.remove(engine, "connect", full)
    engine.dispose()
    same_as_fresh(chain, engine)


# ---------------------------------------------------------------- the commands


@pytest.fixture
def command(chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("offchain.cli.audit.connect", lambda settings: chain.web3)
    return lambda *arguments: CliRunner().invoke(app, ["audit", *arguments], env={"COLUMNS": "200"})


def test_the_commands_index_and_show(chain: Chain, command: Any, tmp_path: Path) -> None:
    chain.mint(ALICE, 500 * UNIT)
    chain.set_price(0, 13 * UNIT // 10)
    chain.trade()
    vault = chain.vault.address
    early = command("history", vault, "--chain-id", "1")
    assert early.exit_code == 2 and "is not indexed: run `evenkeel audit index" in early.stderr
    done = command("index", vault)
    assert done.exit_code == 0, done.output
    assert f"up to block {chain.evm._block}" in done.stdout
    shown = command("history", vault, "--chain-id", "1")
    assert shown.exit_code == 0, shown.output
    assert "Rebalanced" in shown.stdout
    told = json.loads(command("history", vault, "--chain-id", "1", "--json").stdout)
    assert told[-1]["supply"] == str(2_500 * UNIT)
    table = command("history", vault, "--chain-id", "1", "--csv").stdout.splitlines()
    assert table[0].startswith("block,time,events,") and len(table) == len(told) + 1
    exported = command("export", vault, "--out", str(tmp_path / "export.json"))
    assert exported.exit_code == 0, exported.output
    head = "0x" + chain.head().hex()
    verdict = command("verify", vault, "--from-file", str(tmp_path / "export.json"), "--head", head)
    assert verdict.exit_code == 0, verdict.output


def test_index_check_compares_with_the_node(chain: Chain, command: Any) -> None:
    vault = chain.vault.address
    done = command("index", vault, "--check", "--samples", "1")
    assert done.exit_code == 0, done.output
    assert "1 block checked: equal" in done.stdout
    chain.provider.logs = lambda logs: [log for log in logs if log["address"].lower() == vault.lower()]
    chain.donate(0, UNIT)
    wrong = command("index", vault, "--check", "--samples", "1")
    assert wrong.exit_code == 1 and "balances" in wrong.stderr
