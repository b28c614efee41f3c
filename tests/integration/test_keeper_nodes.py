"""The keeper behind two nodes, one of which may lie about the vault."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from web3 import Web3
from web3.contract import Contract

from offchain.chain.rpc import Nodes, NodesDisagree
from offchain.chain.sender import Sender
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper
from tests.support.anvil import anvil
from tests.support.demo_vault import FIRST, funded_vault, make_keeper

HOUR = 3_600


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    with funded_vault(anvil) as (world, vault):
        yield world, vault


@contextmanager
def second_node(url: str, lies: dict[str, str]) -> Iterator[str]:
    """A node's address that answers as the one at `url`, except for the results that `lies` names."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            answer = requests.post(url, data=asked, headers={"Content-Type": "application/json"}, timeout=30)
            found = answer.json()
            for one in found if isinstance(found, list) else [found]:
                if isinstance(one.get("result"), str):
                    one["result"] = lies.get(one["result"], one["result"])
            body = json.dumps(found).encode()
            self.send_response(answer.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def behind(keeper: Keeper, world: World, urls: list[str]) -> Keeper:
    """The same keeper, asking these nodes."""
    web3 = Web3(Nodes(urls))
    return replace(keeper, web3=web3, sender=Sender(web3, world.keeper, poll_seconds=0.02))


def jump(world: World) -> None:
    """A stock rises so far that the vault is to be rebalanced."""
    world.chain.mine(world.chain.now + HOUR)
    world.set_market(replace(FIRST, prices=(FIRST.prices[0] * 8 // 5, *FIRST.prices[1:])))


def test_a_node_that_says_otherwise_of_the_vault_stops_the_keeper(
    world: World, vault: Contract, journal: Journal
) -> None:
    jump(world)
    head = "0x" + vault.functions.head().call().hex()
    with second_node(world.chain.url, {head: "0x" + "11" * 32}) as liar:
        keeper = behind(make_keeper(world, vault, journal), world, [world.chain.url, liar])
        with pytest.raises(NodesDisagree, match="11111111"):
            keeper.once()
    assert not journal.runs()
    assert world.chain.web3.eth.get_transaction_count(world.keeper.address, "pending") == 0


def test_nodes_that_agree_let_it_act_once(world: World, vault: Contract, journal: Journal) -> None:
    jump(world)
    with second_node(world.chain.url, {}) as other:
        keeper = behind(make_keeper(world, vault, journal), world, [world.chain.url, other])
        outcome = keeper.once()
        assert outcome.status == Status.CONFIRMED, outcome.reason
        assert keeper.once().status == Status.SKIPPED
    assert world.chain.web3.eth.get_transaction_count(world.keeper.address) == 1
