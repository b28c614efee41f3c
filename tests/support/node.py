"""A real node, anvil, on a free port; and a fussy one in front of it that refuses as public nodes do."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests
from web3 import HTTPProvider, Web3

from offchain.demo.localchain import LocalChain, _free_port, accounts
from tests.support.evm import ROOT

ANVIL = ROOT / "node_modules" / ".bin" / "anvil"


@contextmanager
def anvil(start: int, interval: int = 12) -> Iterator[LocalChain]:
    """A chain whose first block is of `start`, a block a transaction, `interval` seconds apart."""
    port = _free_port()
    program = str(ANVIL) if ANVIL.exists() else str(shutil.which("anvil"))
    process = subprocess.Popen(
        [program, "--port", str(port), "--timestamp", str(start), "--silent"], stdin=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        web3 = Web3(HTTPProvider(url))
        for _ in range(600):
            if web3.is_connected():
                break
            time.sleep(0.05)
        web3.provider.make_request("anvil_setBlockTimestampInterval", [interval])  # type: ignore[arg-type]
        yield LocalChain(web3, url, accounts())
    finally:
        process.terminate()
        process.wait()


@dataclass
class Fussy:
    """How the node in front refuses, and what it was asked."""

    upstream: str
    most_blocks: int = 10**9  # of eth_getLogs
    most_logs: int = 10**9
    most_calls: int = 10**9  # in a batch
    slow_blocks: int = 10**9  # ranges above this are not answered in time
    slow_seconds: float = 1.0
    busy: int = 0  # requests that are answered with 429 first
    breaks_after: int = 10**9  # requests after which it answers nothing useful
    asked: list[tuple[str, Any]] = field(default_factory=list)
    received: int = 0  # requests
    url: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.asked)

    def answer(self, body: Any) -> tuple[int, Any]:
        self.received += 1
        if self.busy:
            self.busy -= 1
            return 429, {"error": "too many requests"}
        if self.received > self.breaks_after:
            return 400, {"error": "broken"}
        if isinstance(body, list):
            if len(body) > self.most_calls:
                return 200, _error(None, "batch too large")
            self.asked += [(item["method"], item["params"]) for item in body]
            return 200, self.session.post(self.upstream, json=body, timeout=30).json()
        self.asked.append((body["method"], body["params"]))
        if body["method"] == "eth_getLogs":
            wanted = body["params"][0]
            blocks = int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1
            if blocks > self.slow_blocks:
                time.sleep(self.slow_seconds)
            if blocks > self.most_blocks:
                return 200, _error(body["id"], "block range too large")
        answer = self.session.post(self.upstream, json=body, timeout=30).json()
        if body["method"] == "eth_getLogs" and len(answer["result"]) > self.most_logs:
            return 200, _error(body["id"], "query returned more than 10000 results")
        return 200, answer


def _error(number: Any, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": -32005, "message": message}}


@contextmanager
def fussy(upstream: str, **rules: Any) -> Iterator[Fussy]:
    """A server that answers as `Fussy` says."""
    node = Fussy(upstream, **rules)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_POST(self) -> None:
            status, answer = node.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # who asked did not wait
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    node.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()
