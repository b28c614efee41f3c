"""How many vaults a keeper evaluates: through the lens, call by call, and through a plain multicall of the same fields.

On anvil with real vaults from the factory. A request is one HTTP request with one JSON-RPC call in it, never a batch.
Writes reports/benchmarks/keeper_scale.json and prints the table; `--quick`: 100 vaults. Beyond the vaults that exist,
they are read several times over (`repeated`), and beyond that it is modelled (`modelled` says how).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import requests
from eth_abi.abi import decode, encode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak
from rich.console import Console
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from offchain import policy
from offchain.chain.contracts import load_artifact
from offchain.chain.lens import read_vaults
from offchain.chain.vault import BlockRef, latest_block, read_vault
from offchain.demo.localchain import LocalChain
from offchain.demo.market import history
from offchain.demo.world import HEARTBEAT, MAX_PRICE, MIN_PRICE, World, build_world
from offchain.keeper.screen import screen
from offchain.policy import VaultState, many
from tests.benchmarks import common
from tests.support.anvil import anvil

SIZES = (100, 300, 1_000)
REPEATED = 10_000  # vaults: those of the largest size, several times over
BEYOND = (30_000, 100_000)
BLOCK_SECONDS = 12
CREATE_GAS = 6_000_000
WIDE = 16  # assets of every twentieth vault
NAIVE = 20  # vaults read call by call; the rest is these times so many
LIMIT_REQUESTS = 20  # for 1,000 vaults

# ---------------------------------------------------------------- the vaults


def make_vaults(world: World, number: int) -> list[str]:
    """Addresses of vaults of four assets and, one in twenty, of sixteen; of all modes, on target and off it."""
    chain, deployer, day = world.chain, world.deployer, history(2)[0]
    extra = [
        chain.deploy(deployer, "TestToken", f"T{i}", f"T{i}", 18) for i in range(WIDE - len(world.tokens))
    ]
    for token in extra:
        feed = chain.deploy(deployer, "TestFeed", 8, token.address, 10**8)
        chain.send(
            deployer,
            world.oracle.functions.set_feed(token.address, feed.address, HEARTBEAT, MIN_PRICE, MAX_PRICE),
        )
        chain.send(deployer, token.functions.mint(deployer.address, 10**30))
        chain.send(deployer, token.functions.approve(world.factory.address, 2**255))
    for _ in range(2):
        world.mint(deployer.address, 1_000 * number, day)
    scales = [10 ** int(token.functions.decimals().call()) for token in world.tokens]
    prices = [price * 10**10 for price in day.prices]
    bodies = []
    nonce = chain.web3.eth.get_transaction_count(deployer.address)
    for i in range(number):
        *head, assets, rules, oracle, owner, delay, guardian, strategist, keepers, fee, receiver = _config(
            world, i
        )
        usd = [(150 if j == 0 and i % 3 == 0 else 100) for j in range(4)]  # a third begins off its target
        seeds = [u * 25 * 10**16 * s // p for u, s, p in zip(usd, scales, prices, strict=True)]
        targets = [2_500] * 4
        tokens = list(world.tokens)
        if i % 20 == 0:
            tokens, targets = [*tokens, *extra], [625] * WIDE
            seeds += [25 * 10**18] * len(extra)
        rows = [(t.address, 0, bps, *assets[0][3:]) for t, bps in zip(tokens, targets, strict=True)]
        config = (*head, rows, rules, oracle, owner, delay, guardian, strategist, keepers, fee, receiver)
        data = world.factory.encode_abi("create_vault", [config, seeds, i.to_bytes(32, "big")])
        tx = {"from": deployer.address, "to": world.factory.address, "data": data, "gas": hex(CREATE_GAS)}
        bodies.append(
            tx | {"nonce": hex(nonce + i), "maxFeePerGas": hex(10**11), "maxPriorityFeePerGas": hex(0)}
        )
    _send_all(chain, bodies)
    count = world.factory.functions.vault_count().call()
    assert count == number, f"{count} of {number} vaults were made"
    return [world.factory.functions.vaults(i).call() for i in range(count)]


def _config(world: World, i: int) -> tuple[Any, ...]:
    return world._config(policy.Mode(i % 4), f"Vault {i}", f"V{i}")


def _send_all(chain: LocalChain, transactions: Sequence[dict[str, str]]) -> None:
    """The node signs and mines them; a hundred a JSON-RPC batch."""
    for i in range(0, len(transactions), 100):
        batch = [
            {"jsonrpc": "2.0", "id": n, "method": "eth_sendTransaction", "params": [tx]}
            for n, tx in enumerate(transactions[i : i + 100])
        ]
        for answer in requests.post(chain.url, json=batch, timeout=300).json():
            assert "result" in answer, answer
        while int(chain._rpc("txpool_status", [])["pending"], 16):
            chain._rpc("evm_mine", [])


# ---------------------------------------------------------------- a plain multicall

# (to 20 bytes, length 2 bytes, data)* in, (ok 32 bytes, length 32 bytes, data)* out: Multicall3's aggregate3 without
# what ABI encoding costs. For each: calldatacopy to the end of memory, staticcall, returndatacopy behind ok and length.
AGGREGATE = (  # 80 bytes of code
    "0x600060005b8036111561004b57803560501c8061ffff16808360160185376000600082868560101c5afa84523d84602001523d6000856040"
    "013e905001601601903d0160400190610004565b506000f3"
)
FIELDS = ("basket", "settings", "rules", "session", "totalSupply", "pending_fee_shares", "fee_bps",
          "loss_budget_used", "speed_budget_used", "balances", "head")  # fmt: skip


class Multicall:
    """The fields of `read_vault` through AGGREGATE; each vault's oracle and tokens, a call more, it is told."""

    def __init__(self, web3: Web3, known: dict[str, VaultState]) -> None:
        self.web3, self.known = web3, known
        self.place = Web3.to_checksum_address("0x" + "ca" * 20)
        web3.provider.make_request(RPCEndpoint("anvil_setCode"), [self.place, AGGREGATE])
        abi = {e["name"]: e for e in load_artifact("Vault")["abi"] if e["type"] == "function"}
        self.outputs = [[collapse_if_tuple(o) for o in abi[name]["outputs"]] for name in FIELDS]
        self.outputs.append(["uint256[]", "uint256[]"])
        self.calls = [keccak(text=f"{name}()")[:4] for name in FIELDS]
        self.prices = keccak(text="prices(address[])")[:4]

    def read(self, vaults: Sequence[str], at: BlockRef) -> list[list[Any]]:
        """Decoded, by vault and field. Batches of 128, halved where the node refuses."""
        found: list[list[Any]] = []
        size = 128
        while len(found) < len(vaults):
            part = vaults[len(found) : len(found) + size]
            data = b"".join(self._packed(vault) for vault in part)
            try:
                answer = bytes(self.web3.eth.call({"to": self.place, "data": data}, at.number))
            except Web3Exception:
                size //= 2
                continue
            found += self._decoded(answer)
        return found

    def _packed(self, vault: str) -> bytes:
        state = self.known[vault]
        prices = self.prices + encode(["address[]"], [[a.token for a in state.assets]])
        calls = [(vault, data) for data in self.calls] + [(state.oracle, prices)]
        return b"".join(bytes.fromhex(to[2:]) + len(data).to_bytes(2, "big") + data for to, data in calls)

    def _decoded(self, answer: bytes) -> list[list[Any]]:
        found: list[list[Any]] = []
        at = 0
        while at < len(answer):
            row = []
            for outputs in self.outputs:
                size = int.from_bytes(answer[at + 32 : at + 64], "big")
                row.append(decode(outputs, answer[at + 64 : at + 64 + size]))
                at += 64 + size
            found.append(row)
        return found


# ---------------------------------------------------------------- measuring


class Counting(HTTPProvider):
    """Counts HTTP requests, and eth_calls among them."""

    asked: Counter[str]

    def make_request(self, method: RPCEndpoint, params: Any) -> Any:
        """One request."""
        self.asked[method] += 1
        return super().make_request(method, params)


def counted(web3: Web3, work: Callable[[], Any]) -> tuple[int, int, float, Any]:
    """Requests, eth_calls among them, seconds on the wall, result."""
    provider = web3.provider
    assert isinstance(provider, Counting)
    provider.asked = Counter()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return provider.asked.total(), provider.asked["eth_call"], seconds, result


def measure(chain: LocalChain, sizes: Sequence[int]) -> list[common.Row]:
    """The table's rows."""
    world = build_world(chain, history(2)[0])
    lens = chain.deploy(world.deployer, "VaultLens").address
    console = Console(stderr=True)
    with console.status(f"creating {max(sizes)} vaults"):
        start = time.perf_counter()
        vaults = make_vaults(world, max(sizes))
        console.print(f"{len(vaults)} vaults created in {time.perf_counter() - start:.0f} s")
    web3 = Web3(Counting(chain.url, request_kwargs={"timeout": 120}))
    web3.middleware_onion.remove(
        "validation"
    )  # as the keeper's: it asks twice for the chain's id with each call
    web3.provider.asked = Counter()  # type: ignore[attr-defined]
    at = latest_block(web3)
    known = {s.vault: s.state for s in read_vaults(web3, lens, vaults, at) if s is not None}
    assert len(known) == len(vaults)
    multicall = Multicall(web3, known)
    naive_n, _, naive_s, one_by_one = counted(web3, lambda: [read_vault(web3, v, at) for v in vaults[:NAIVE]])
    assert one_by_one == read_vaults(web3, lens, vaults[:NAIVE], at)
    rows = []
    for size in sizes:
        part = vaults[:size]
        ours_n, ours_calls, ours_s, seen = counted(
            web3, lambda part=part: screen(web3, lens, part, latest_block(web3))
        )
        plain_n, _, plain_s, fields = counted(
            web3, lambda part=part: multicall.read(part, latest_block(web3))
        )
        assert [row[-1][0] for row in fields] == [s.snapshot.state.prices for s in seen]
        assert [row[9][0] for row in fields] == [s.snapshot.state.balances for s in seen]
        could = sum(s.could_act for s in seen)
        console.print(f"{size}: {ours_n} requests, {ours_calls} of them eth_calls; {could} vaults could act")
        each = naive_n / NAIVE
        goal = 1 / 50 if size == 1_000 else None
        rows += [
            common.row("requests", size, ours_n, each * size, "call by call", goal, "requests", kind="answer",
                       eth_calls=ours_calls, measured=NAIVE),
            common.row("requests", size, ours_n, plain_n, "multicall", None, "requests", kind="answer"),
            common.row("read and decide", size, ours_s, naive_s / NAIVE * size, "call by call", None, "s",
                       measured=NAIVE),
            common.row("read and decide", size, ours_s, plain_s, "multicall, read only", None, "s"),
        ]  # fmt: skip
        if size == 1_000:
            rows.append(
                common.row("requests", size, ours_n, LIMIT_REQUESTS, "the goal", 1, "requests", kind="answer")
            )
            rows.append(common.row("read and decide", size, ours_s, BLOCK_SECONDS, "a block", 1, "s"))
    if max(sizes) == max(SIZES):
        part = [vaults[i % len(vaults)] for i in range(REPEATED)]
        ours_n, ours_calls, ours_s, _ = counted(web3, lambda: screen(web3, lens, part, latest_block(web3)))
        each, times = naive_n / NAIVE * REPEATED, {"repeated": REPEATED // len(vaults)}
        rows += [
            common.row("requests", REPEATED, ours_n, each, "call by call", None, "requests", "answer",
                       eth_calls=ours_calls, **times),
            common.row("read and decide", REPEATED, ours_s, naive_s / NAIVE * REPEATED, "call by call", None, "s",
                       **times),
        ]  # fmt: skip
    return rows + deciding(list(known.values()), at.time) + modelled(rows, max(sizes))


def deciding(states: Sequence[VaultState], now: int) -> list[common.Row]:
    """Only the rules, vectorised and one by one, on as many states as are wished: the vaults', repeated."""
    rows = []
    for size in (len(states), 10_000, 100_000):
        many_states = [replace(states[i % len(states)], time=now) for i in range(size)]
        spent = common.taking_turns(
            {"many": lambda m=many_states: many.waiting_reasons(m, now),
             "one": lambda m=many_states: [policy.next_session(state, now) for state in m]},
            3 if size < 50_000 else 1,
        )  # fmt: skip
        assert many.next_sessions(many_states, now) == [
            policy.next_session(state, now) for state in many_states
        ]
        rows.append(
            common.row(
                "decide",
                size,
                min(spent["many"]),
                min(spent["one"]),
                "integer rules one by one",
                None,
                "CPU s",
            )
        )
    return rows


def modelled(rows: Sequence[common.Row], largest: int) -> list[common.Row]:
    """Beyond the vaults that exist: requests by the batches of the largest run, time in proportion."""
    base = {(r["name"], r["anchor_name"]): r for r in rows if r["size"] == largest}
    calls, times = base["requests", "call by call"], base["read and decide", "call by call"]
    how = {"modelled": "batches as large as with the vaults that exist, time in proportion"}
    found = []
    for size in (size for size in BEYOND if size > largest):
        more = size / largest
        ours = calls["ours"] - calls["eth_calls"] + -(-calls["eth_calls"] * size // largest)
        found += [
            common.row("requests", size, ours, calls["anchor"] * more, "call by call", None, "requests",
                       "answer", **how),
            common.row("read and decide", size, times["ours"] * more, times["anchor"] * more, "call by call", None, "s",
                       **how),
        ]  # fmt: skip
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 vaults only")
    sizes = SIZES[:1] if parser.parse_args().quick else SIZES
    with anvil(history(2)[0].timestamp) as chain:
        rows = measure(chain, sizes)
    common.show(
        "Vaults evaluated: ours through the lens",
        rows,
        "10,000: the 1,000 vaults ten times over; beyond: modelled, but for `decide`",
    )
    if sizes == SIZES:
        common.write("keeper_scale", rows)
    missed = [line for line in rows if not common.is_met(line)]
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
