"""What the page's tests play on: a chain with vaults of odd tokens, and a server with nothing but a node behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
from eth_account.signers.local import LocalAccount
from web3.contract import Contract
from web3.logs import DISCARD

from offchain.chain.contracts import bind, bind_abi
from offchain.demo.market import PRICE_DECIMALS, history
from offchain.demo.world import DELAY, World, build_world
from offchain.policy import DAY, Mode
from tests.support.anvil import Anvil, anvil
from tests.support.evm import ROOT, artifact

STATIC = ROOT / "offchain" / "api" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
HOSTILE_NAME = "<img src=x onerror=ran()>\u202egnp.x\u202c Basket"
HOSTILE_SYMBOL = "<script>ran()</script>\u202eX"
FIRST = history(2)[0]
PAUSED, ZERO_FIRST = 512, 256  # WeirdToken's flags
MINT = 10**9  # whole tokens


@dataclass
class Stage:
    """The chain and who is on it."""

    chain: Anvil
    world: World
    vault: Contract  # of the odd tokens
    plain: Contract  # the demo's basket
    tokens: list[
        Contract
    ]  # of `vault`: honest, with ERC-2612 (shares of `plain`), with a hostile name, like USDT
    feeds: list[Contract]
    prices: list[int]
    teller: Contract
    depositor: LocalAccount
    poor: LocalAccount
    url: str = ""
    forge: Callable[[bytes], bytes] = bytes  # what the node answers, as a dishonest one would
    config: dict[str, Any] = field(default_factory=dict)

    def refresh(self) -> None:
        """All feeds answer again, now."""
        chain, world = self.chain, self.world
        feeds = [feed.address for feed in world.feeds] + [feed.address for feed in self.feeds[1:]]
        answers = [*FIRST.prices, *self.prices[1:]]
        chain.send(world.deployer, world.board.functions.set_answers(feeds, answers))

    def shares(self, account: LocalAccount) -> int:
        """Of the vault of odd tokens."""
        return int(self.vault.functions.balanceOf(account.address).call())


def build(chain: Anvil) -> Stage:
    """Deploy it."""
    world = build_world(chain, FIRST)
    deployer = world.deployer
    plain = world.create_vault(Mode.THRESHOLD, "Evenkeel Demo Basket", "ekDEMO", FIRST)
    weird = artifact("WeirdToken")
    balance_of = next(entry for entry in weird["abi"] if entry.get("name") == "balanceOf")
    balance_of["outputs"][0]["type"] = "uint256"  # the same bytes
    hostile = chain.deploy(deployer, "TestToken", HOSTILE_NAME[:60], HOSTILE_SYMBOL, 18)
    tether = chain.deploy_code(deployer, weird["abi"], weird["bytecode"], 8, ZERO_FIRST)
    prices = [FIRST.prices[0], 10**PRICE_DECIMALS, 5 * 10**PRICE_DECIMALS, 20 * 10**PRICE_DECIMALS]
    tokens, feeds = [world.tokens[0], plain, hostile, tether], [world.feeds[0]]
    for token, price in zip(tokens[1:], prices[1:], strict=True):
        feed = chain.deploy(deployer, "TestFeed", PRICE_DECIMALS, "ODD / USD", price)
        chain.send(
            deployer, world.oracle.functions.set_feed(token.address, feed.address, DAY, 10**15, 10**23)
        )
        feeds.append(feed)
    depositor, poor = chain.accounts[6], chain.accounts[7]
    for account, worth in ((deployer, 400_000), (depositor, 20_000)):
        world.mint(account.address, 2 * worth, FIRST)
        world.approve(account, plain.address)
        chain.send(account, plain.functions.mint_in_kind(worth * 10**18, [2**200] * 4, account.address))
        world.approve(account, plain.address)
    vault = _odd_vault(world, tokens, prices)
    for token in (tokens[0], *tokens[2:]):
        chain.send(
            deployer, token.functions.mint(depositor.address, MINT * 10 ** token.functions.decimals().call())
        )
    stage = Stage(chain, world, vault, plain, tokens, feeds, prices, vault, depositor, poor)
    stage.teller = _add_teller(stage, plain)
    return stage


def _odd_vault(world: World, tokens: list[Contract], prices: list[int]) -> Contract:
    chain, deployer = world.chain, world.deployer
    targets, held = [4_000, 3_000, 2_000, 1_000], [4_100, 2_900, 2_000, 1_000]
    seeds = []
    for token, bps, price in zip(tokens, held, prices, strict=True):
        seeds.append(100 * bps * 10 ** token.functions.decimals().call() * 10**PRICE_DECIMALS // price)
        if token is not tokens[1]:
            chain.send(deployer, token.functions.mint(deployer.address, seeds[-1]))
        chain.send(deployer, token.functions.approve(world.factory.address, seeds[-1]))
    config = list(world._config(Mode.EITHER, HOSTILE_NAME, "ekODD"))
    config[2] = [
        (token.address, 0, bps, 500, 2_500, 0, 10_000, 30) for token, bps in zip(tokens, targets, strict=True)
    ]
    chain.send(deployer, world.factory.functions.create_vault(tuple(config), seeds, b"\7" * 32))
    count = world.factory.functions.vault_count().call()
    return bind(chain.web3, "Vault", world.factory.functions.vaults(count - 1).call())


def _add_teller(stage: Stage, asset: Contract) -> Contract:
    world, chain = stage.world, stage.chain
    execute = world.announce(stage.vault, "add_teller", asset.address, 60, 160, 6 * 3_600, 5_000, 100, False)
    chain.mine_blocks(1, DELAY + 1)
    stage.refresh()
    receipt = chain.send(world.deployer, execute)
    (event,) = world.timelock.events.TellerAdded().process_receipt(receipt, errors=DISCARD)
    return bind(chain.web3, "Teller", event["args"]["teller"])


@contextmanager
def stage(lens: bool = False) -> Iterator[Stage]:
    """On a chain of its own, with a server."""
    with anvil(FIRST.timestamp) as chain:
        built = build(chain)
        built.config = {"chain_id": chain.web3.eth.chain_id, "factory": built.world.factory.address}
        if lens:
            built.config["lens"] = chain.deploy(built.world.deployer, "VaultLens").address
        with serve(built):
            yield built


@contextmanager
def serve(built: Stage) -> Iterator[None]:
    """The page, `/v1/config` and the node behind `/rpc`; nothing else."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/v1/config":
                return self.answer(200, "application/json", json.dumps(built.config).encode())
            file = STATIC / (path.lstrip("/") or "index.html")
            if file.resolve().parent != STATIC.resolve() or not file.is_file():
                return self.answer(404, "application/problem+json", b'{"detail": "not found"}')
            self.answer(200, TYPES[Path(file).suffix], file.read_bytes())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                found = requests.post(
                    built.chain.url, data=body, headers={"Content-Type": "application/json"}, timeout=30
                )
            except requests.RequestException:
                return self.answer(502, "application/problem+json", b'{"code": "node_unavailable"}')
            self.answer(200, "application/json", built.forge(found.content))

        def answer(self, status: int, kind: str, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", POLICY)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    built.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


__all__ = ["HOSTILE_NAME", "MINT", "PAUSED", "Stage", "bind_abi", "build", "serve", "stage"]
