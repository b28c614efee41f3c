"""Gas of what users do, through the clone as deployed, beside its peers.

    python tests/benchmarks/gas.py            measures, prints the table, writes reports/benchmarks/gas.json
    python tests/benchmarks/gas.py --check    compares with tests/benchmarks/gas_snapshot.json, fails on a difference
    python tests/benchmarks/gas.py --update   replaces the snapshot

Receipts' `gasUsed` on anvil, calldata and 21,000 included, after refunds. `first`: the acting account's slots start at
zero, in a vault that others have used; `warm`: the same call again, in its own transaction. The peers' figures were
measured on one EVM with the same definitions in November 2026 and cannot be measured again here; a bare ERC-20
transfer, which was measured there too, shows that the two set-ups agree.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from web3 import HTTPProvider, Web3

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from offchain.planner.payload import SwapV2, encode  # noqa: E402
from tests.support.evm import artifact, uniswap_artifact  # noqa: E402

SNAPSHOT = Path(__file__).with_name("gas_snapshot.json")
REPORT = ROOT / "reports" / "benchmarks" / "gas.json"
ANVIL = ROOT / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
WAD = 10**18
DAY = 86_400
START = 1_700_000_000
BLOCK_SECONDS = 12  # the same in every run: a V2 pair's first swap in a second costs more
SEED = 1_000  # USD of each asset; every token has 18 decimals and starts at 1 USD
POOL = 10_000_000  # USD of each side
ZERO = "0x" + "00" * 20
HARDFORKS = {"paris": "paris", "cancun": "cancun"}  # target -> anvil's
# operation -> (peer, {N: gas}, goal as a ratio {N: ratio}), warm but where the name says otherwise
PEERS: dict[str, tuple[str, dict[int, int], dict[int, float]]] = {
    "mint in kind, first": ("Reserve Folio 6.0", {2: 153_216, 4: 199_091, 8: 290_845}, {}),
    "mint in kind": (
        "Reserve Folio 6.0",
        {2: 136_116, 4: 181_991, 8: 273_745},
        {2: 0.64, 4: 0.73, 8: 0.82},
    ),
    "redeem in kind, first": ("Reserve Folio 6.0", {2: 135_184, 4: 212_035, 8: 365_742}, {}),
    "redeem in kind": (
        "Reserve Folio 6.0",
        {2: 100_984, 4: 143_635, 8: 228_942},
        {2: 0.80, 4: 0.83, 8: 0.85},
    ),
    "priced deposit": (
        "Balancer V2 single-asset join",
        {2: 151_859, 4: 208_662, 8: 313_366},
        {2: 0.65, 4: 0.64, 8: 0.64},
    ),
    "rebalance, one swap": (
        "Enzyme v4, one unchecked trade",
        {2: 206_386, 4: 206_386, 8: 206_386},
        {2: 0.87, 4: 1.07, 8: 1.48},
    ),
    "rebalance, two swaps, per trade": (
        "Enzyme v4, one unchecked trade",
        {4: 206_386, 8: 206_386},
        {4: 0.73, 8: 0.93},
    ),
    "auction fill": ("Reserve Folio 6.0 bid", {2: 179_071, 4: 179_071, 8: 179_071}, {}),
    "creation, seeded": (
        "Reserve Folio 6.0",
        {2: 1_632_155, 4: 1_804_180, 8: 2_148_336},
        {2: 0.35, 4: 0.39, 8: 0.46},
    ),
    "share transfer": ("solmate ERC-4626", {2: 34_209}, {2: 1.07}),
    "bare ERC-20 transfer": ("OpenZeppelin 5.1", {2: 34_513}, {}),
}


@dataclass
class Chain:
    """An anvil of one's own."""

    web3: Web3

    @property
    def accounts(self) -> list[str]:
        return list(self.web3.eth.accounts)

    def deploy(self, compiled: dict[str, Any], *args: Any) -> Any:
        """A contract, by the first account."""
        factory = self.web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
        receipt = self._mine(factory.constructor(*args), self.accounts[0])
        return self.web3.eth.contract(address=receipt["contractAddress"], abi=compiled["abi"])

    def send(self, call: Any, sender: str) -> int:
        """Gas of the transaction; fails when it reverts."""
        return int(self._mine(call, sender)["gasUsed"])

    def sleep(self, seconds: int) -> None:
        now = self.web3.eth.get_block("latest")["timestamp"]
        self.web3.provider.make_request("evm_setNextBlockTimestamp", [now + seconds])  # type: ignore[arg-type]
        self.web3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]

    def _mine(self, call: Any, sender: str) -> Any:
        receipt = self.web3.eth.wait_for_transaction_receipt(
            call.transact({"from": sender, "gas": 12_000_000}), poll_latency=0.01
        )
        if receipt["status"] != 1:
            call.call({"from": sender, "gas": 12_000_000})  # raises with the reason
            raise RuntimeError(f"{call.fn_name} reverted")
        return receipt


@contextmanager
def anvil(hardfork: str) -> Iterator[Chain]:
    """Anvil on a free port, ended afterwards."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program = str(ANVIL) if ANVIL.exists() else shutil.which("anvil")
    if program is None:
        sys.exit("anvil: not found; npm brings it on Linux (make install), elsewhere put it on PATH")
    process = subprocess.Popen(
        [program, "--port", str(port), "--hardfork", hardfork, "--timestamp", str(START), "--silent"],
        stdin=subprocess.DEVNULL,
    )
    try:
        web3 = Web3(HTTPProvider(f"http://127.0.0.1:{port}"))
        for _ in range(200):
            if web3.is_connected():
                break
            time.sleep(0.05)
        web3.provider.make_request("anvil_setBlockTimestampInterval", [BLOCK_SECONDS])  # type: ignore[arg-type]
        yield Chain(web3)
    finally:
        process.terminate()
        process.wait()


class Fixture:
    """A vault of N assets of 18 decimals at 1 USD, a Uniswap V2 pair for each two neighbours, a teller."""

    def __init__(self, chain: Chain, count: int, target: str) -> None:
        def compiled(name: str) -> dict[str, Any]:
            return artifact(name, target)

        self.chain, self.count, self.up = chain, count, 0
        self.owner, self.keeper, self.alice, self.bob = chain.accounts[:4]
        self.tokens = [chain.deploy(compiled("TestToken"), f"T{i}", f"T{i}", 18) for i in range(count)]
        self.feeds = [chain.deploy(compiled("TestFeed"), 8, "USD", 10**8) for _ in range(count)]
        oracle = chain.deploy(compiled("PriceOracle"), ZERO, 2 * DAY, ZERO, 0)
        for token, feed in zip(self.tokens, self.feeds, strict=True):
            chain.send(
                oracle.functions.set_feed(token.address, feed.address, 30 * DAY, 1, 2**100), self.owner
            )
        book = chain.deploy(compiled("RuleBook"))
        teller = chain.deploy(compiled("Teller"))
        self.timelock = chain.deploy(compiled("Timelock"), book.address, teller.address)
        vault = chain.deploy(compiled("Vault"), book.address, self.timelock.address)
        self.factory = chain.deploy(compiled("VaultFactory"), vault.address, book.address)
        self.executor = chain.deploy(compiled("Executor"))
        self.auction = chain.deploy(compiled("Auction"), 600, 3600, 50)
        spenders = [self.factory.address, self.auction.address]
        for token in self.tokens:
            for account in (self.owner, self.alice, self.bob):
                chain.send(token.functions.mint(account, 10**9 * WAD), self.owner)
                for spender in spenders:
                    chain.send(token.functions.approve(spender, 2**256 - 1), account)
        share = 10_000 // count
        assets = [(token.address, 0, share, 500, 2_500, 0, 10_000, 25) for token in self.tokens]
        rules = (1, 0, 30, 1, 2 * DAY, DAY, 120, 500, 5_000, 50, 1_000, 100)
        config = (
            "Gas",
            "GAS",
            assets,
            rules,
            oracle.address,
            self.owner,
            2 * DAY,
            self.owner,
            self.owner,
            [self.keeper, self.auction.address],
            50,
            self.owner,
        )
        seed = [SEED * WAD] * count
        create = self.factory.functions.create_vault(config, seed, b"\0" * 32)
        address = create.call({"from": self.owner})
        self.creation_gas = chain.send(create, self.owner)
        self.vault = chain.web3.eth.contract(address=address, abi=compiled("Vault")["abi"])
        for token in self.tokens:
            for account in (self.owner, self.alice, self.bob):
                chain.send(token.functions.approve(address, 2**256 - 1), account)
        self.teller = self._add_teller(compiled("Teller")["abi"])
        self.pairs = self._add_pairs()

    def _add_teller(self, abi: Any) -> Any:
        timelock = self.timelock.functions
        data = self.timelock.encode_abi(
            "add_teller",
            [self.vault.address, self.tokens[0].address, 50, 120, 6 * 3600, 5_000, 5_000, False],
        )
        self.chain.send(timelock.queue(self.vault.address, data), self.owner)
        self.chain.sleep(2 * DAY)
        receipt = self.chain._mine(timelock.execute(self.vault.address, data), self.owner)
        added = self.timelock.events.TellerAdded().process_receipt(receipt)
        teller = self.chain.web3.eth.contract(address=added[0]["args"]["teller"], abi=abi)
        for account in (self.alice, self.bob):
            self.chain.send(self.tokens[0].functions.approve(teller.address, 2**256 - 1), account)
        return teller

    def _add_pairs(self) -> list[Any]:
        factory = self.chain.deploy(uniswap_artifact("v2-core/build/UniswapV2Factory.json"), self.owner)
        abi = uniswap_artifact("v2-core/build/UniswapV2Pair.json")["abi"]
        pairs = []
        for one, other in zip(self.tokens[::2], self.tokens[1::2], strict=True):
            self.chain.send(factory.functions.createPair(one.address, other.address), self.owner)
            pair = self.chain.web3.eth.contract(
                address=factory.functions.getPair(one.address, other.address).call(), abi=abi
            )
            for token in (one, other):
                self.chain.send(token.functions.transfer(pair.address, POOL * WAD), self.owner)
            self.chain.send(pair.functions.mint(self.owner), self.owner)
            pairs.append(pair)
        return pairs

    def mint(self, account: str) -> int:
        call = self.vault.functions.mint_in_kind(WAD, [2**256 - 1] * self.count, account)
        return self.chain.send(call, account)

    def redeem(self, account: str) -> int:
        call = self.vault.functions.redeem_in_kind(WAD // 4, account, account, [0] * self.count, 0)
        return self.chain.send(call, account)

    def deposit(self, account: str) -> int:
        return self.chain.send(self.teller.functions.deposit(WAD, account), account)

    def drift(self, swaps: int) -> None:
        """After the cooldown, new prices: in so many pairs one asset is half as much again, the other half."""
        self.chain.sleep(3 * DAY)
        balances = self.vault.functions.balances().call()
        self.prices = [SEED * WAD * 10**8 // balance for balance in balances]
        self.up = 1 - self.up
        for k in range(swaps):
            self.prices[2 * k + self.up] = self.prices[2 * k + self.up] * 3 // 2
            self.prices[2 * k + 1 - self.up] //= 2
        for feed, price in zip(self.feeds, self.prices, strict=True):
            self.chain.send(feed.functions.set_answer(price), self.owner)

    def rebalance(self, swaps: int) -> int:
        """Sell the overweight asset of each pair for the other, through the pair, moved to the market price."""
        self.drift(swaps)
        sells, legs = [0] * self.count, []
        for k in range(swaps):
            sold = 2 * k + self.up
            self._move_pool(k, self.prices[2 * k], self.prices[2 * k + 1])
            sells[sold] = (SEED - 1) * WAD * 10**8 // (2 * self.prices[sold])
            token = self.tokens[sold].address
            pair = self.pairs[k]
            legs.append(
                SwapV2(
                    pair.address,
                    token,
                    sells[sold],
                    1,
                    30,
                    zero_for_one=pair.functions.token0().call() == token,
                    to_caller=True,
                )
            )
        session = self.vault.functions.session().call()[0] + 1
        call = self.vault.functions.rebalance(
            sells, self.executor.address, encode(legs), b"\xdd" * 32, session, 2**40
        )
        return self.chain.send(call, self.keeper)

    def _move_pool(self, index: int, price_a: int, price_b: int) -> None:
        """Add to the pair's reserves until they stand at these prices."""
        pair = self.pairs[index]
        tokens = self.tokens[2 * index : 2 * index + 2]
        held = [token.functions.balanceOf(pair.address).call() for token in tokens]
        depth = max(held[0] * price_a, held[1] * price_b)
        for token, amount, price in zip(tokens, held, (price_a, price_b), strict=True):
            self.chain.send(token.functions.mint(pair.address, depth // price - amount), self.owner)
        self.chain.send(pair.functions.sync(), self.owner)

    def fill(self) -> int:
        """One auction fill, in a session opened before."""
        self.drift(1)
        self.chain.send(self.vault.functions.open_session(), self.owner)
        self.chain.sleep(3 * 3600)
        session = self.vault.functions.session().call()[0]
        sell, buy = self.up, 1 - self.up
        call = self.auction.functions.fill(
            self.vault.address,
            session,
            self.tokens[sell].address,
            self.tokens[buy].address,
            2**127,
            2**127,
            self.bob,
            b"",
            2**40,
        )
        return self.chain.send(call, self.bob)


def measure(target: str) -> dict[str, dict[str, int]]:
    """operation -> {N: gas} for one compiler target."""
    gas: dict[str, dict[str, int]] = {}

    def note(name: str, count: int, used: int) -> None:
        gas.setdefault(name, {})[str(count)] = used

    with anvil(HARDFORKS[target]) as chain:
        for count in (2, 4, 8):
            f = Fixture(chain, count, target)
            note("creation, seeded", count, f.creation_gas)
            f.mint(f.owner)
            f.chain.sleep(DAY)
            f.mint(f.owner)  # the day's fee has accrued
            note("mint in kind, first", count, f.mint(f.alice))
            note("mint in kind", count, f.mint(f.alice))
            fresh = chain.accounts[5]
            chain.send(f.vault.functions.transfer(fresh, WAD), f.owner)
            note("redeem in kind, first", count, f.redeem(fresh))
            note("redeem in kind", count, f.redeem(fresh))
            f.deposit(f.bob)
            note("priced deposit", count, f.deposit(f.bob))
            f.rebalance(1)
            note("rebalance, one swap", count, f.rebalance(1))
            if count > 2:
                f.rebalance(2)
                note("rebalance, two swaps, per trade", count, f.rebalance(2) // 2)
            f.fill()
            note("auction fill", count, f.fill())
            if count == 2:
                chain.send(f.vault.functions.transfer(f.bob, 1), f.alice)
                note("share transfer", count, chain.send(f.vault.functions.transfer(f.bob, 1), f.alice))
                chain.send(f.tokens[0].functions.transfer(f.bob, 1), f.alice)
                note(
                    "bare ERC-20 transfer",
                    count,
                    chain.send(f.tokens[0].functions.transfer(f.bob, 1), f.alice),
                )
    return gas


def rows(measured: dict[str, dict[str, dict[str, int]]]) -> list[dict[str, Any]]:
    """One row an operation, size and target, beside its peer."""
    found = []
    for target, operations in measured.items():
        for name, (peer, anchors, goals) in PEERS.items():
            for count, anchor in anchors.items():
                ours = operations.get(name, {}).get(str(count))
                if ours is not None:
                    found.append(
                        {
                            "name": f"{name} ({target})",
                            "size": count,
                            "ours": ours,
                            "anchor": anchor,
                            "anchor_name": peer,
                            "ratio": round(ours / anchor, 3),
                            "goal": goals.get(count),
                        }
                    )
    return found


def show(found: list[dict[str, Any]]) -> None:
    table = Table("operation", "N", "gas", "peer", "its gas", "ratio", "goal", title="Gas, beside the peers")
    for row in found:
        met = row["goal"] is None or row["ratio"] <= row["goal"]
        table.add_row(
            row["name"],
            str(row["size"]),
            f"{row['ours']:,}",
            row["anchor_name"],
            f"{row['anchor']:,}",
            f"[{'green' if met else 'red'}]{row['ratio']:.2f}",
            "" if row["goal"] is None else f"{row['goal']:.2f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Measure, then show, compare or keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where the snapshot says otherwise")
    parser.add_argument("--update", action="store_true", help="replace the snapshot")
    arguments = parser.parse_args()
    measured = {target: measure(target) for target in HARDFORKS}
    found = rows(measured)
    show(found)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.update:
        SNAPSHOT.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
    elif arguments.check:
        if not SNAPSHOT.exists():
            sys.exit("no snapshot yet: make gas UPDATE=1")
        kept = json.loads(SNAPSHOT.read_text())
        changes = [
            f"{target}, {name}, N = {count}: {kept.get(target, {}).get(name, {}).get(count)} -> {used}"
            for target, operations in measured.items()
            for name, sizes in operations.items()
            for count, used in sizes.items()
            if kept.get(target, {}).get(name, {}).get(count) != used
        ]
        if changes:
            sys.exit("gas differs from the snapshot (make gas UPDATE=1 keeps it):\n" + "\n".join(changes))


if __name__ == "__main__":
    main()
