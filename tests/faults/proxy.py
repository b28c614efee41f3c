"""A bad node: between keepers and the real one, over HTTP. What it does to an answer is one of FAULTS."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SEND = "eth_sendRawTransaction"
FAULTS = (
    "dropped request",  # the connection is reset before the node has it
    "dropped answer",  # the node has it, and the connection is reset
    "late answer",  # the node has it, and the answer comes after the time-out
    "cut off",  # half of the body, then the end of the connection
    "half a JSON",  # half of the body, said to be all
    "wrong id",  # the answer to another request
    "not JSON",
    "garbled",  # one hex digit of the result is another one: its form is right
    "HTTP 500",
    "HTTP 429",
    "node error",
    "null",  # there is no such thing
    "sent twice",  # each request reaches the node two times
    "swallowed",  # a transaction is answered with its hash, and goes nowhere
    "refused",  # a transaction is refused for good; any other request is answered
    "old block",  # as of some blocks ago, for a while
)
OF_A_SEND = ("swallowed", "refused")
REFUSALS = ("intrinsic gas too low", "tx fee (1.20 ether) exceeds the configured cap (1.00 ether)")


class Proxy:
    """Answers as the node does until `trouble` is set; threads share it."""

    def __init__(self, upstream: str, late_seconds: float) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._late = late_seconds
        self._local = threading.local()
        self._lock = threading.Lock()
        self._rng = random.Random(0)
        self.url = ""
        self.done: Counter[str] = Counter()  # faults that happened
        self.seen = 0  # requests
        self.watch: Callable[[int, str, str], None] = lambda number, method, when: None
        self.calm()

    def calm(self) -> None:
        """A good node from now on."""
        self._kinds: tuple[str, ...] = ()
        self._rate, self._left, self._behind, self._behind_left = 0.0, 0, 0, 0

    def trouble(self, rng: random.Random, kinds: tuple[str, ...], rate: float, most: int) -> None:
        """Each request has one of `kinds` with probability `rate`, `most` times in all."""
        with self._lock:
            self._rng = random.Random(rng.random())
            self._kinds, self._rate, self._left = kinds, rate, most

    def _choose(self, method: str) -> str:
        with self._lock:
            self.seen += 1
            if self._behind_left:
                self._behind_left -= 1
                return "old block"
            rate = self._rate if method != SEND else max(self._rate, 0.5 * bool(self._kinds))
            if not self._kinds or self._left <= 0 or self._rng.random() >= rate:
                return ""
            of_a_send = [kind for kind in self._kinds if kind in OF_A_SEND and method == SEND]
            others = [kind for kind in self._kinds if kind not in OF_A_SEND]
            kinds = of_a_send if of_a_send and self._rng.random() < 0.5 else others  # else they are too rare
            if not kinds:
                return ""
            fault = self._rng.choice(kinds)
            if method == "eth_chainId" and fault in ("null", "old block"):
                return ""
            self._left -= 1
            if fault == "old block":
                self._behind, self._behind_left = self._rng.randint(1, 3), self._rng.randint(5, 40)
            self.done[fault] += 1
            return fault

    # ------------------------------------------------------------ the node

    def ask(self, body: bytes) -> bytes:
        """The node's own answer."""
        for last in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = http.client.HTTPConnection(self._host, self._port, 60)
            try:
                connection.request("POST", "/", body, {"Content-Type": "application/json"})
                return bytes(connection.getresponse().read())
            except (http.client.HTTPException, OSError):
                connection.close()
                self._local.connection = None
                if last:
                    raise
        raise AssertionError

    def _call(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return json.loads(self.ask(body)).get("result")

    def answer(self, request: Any, body: bytes, fault: str) -> bytes:
        """The answer with the faults that are in its content."""
        method = request.get("method", "") if isinstance(request, dict) else "batch"
        if fault == "swallowed":
            from web3 import Web3

            found = Web3.keccak(hexstr=request["params"][0]).to_0x_hex()
            return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": found}).encode()
        if fault == "refused":
            return _error(request, -32000, REFUSALS[len(body) % len(REFUSALS)])
        if fault == "node error":
            return _error(request, -32603, "internal error")
        if fault == "null":
            return json.dumps({"jsonrpc": "2.0", "id": _id(request), "result": None}).encode()
        if fault == "sent twice":
            self.ask(body)
        if fault == "old block" and method not in ("batch", SEND):
            return self._old(request)
        raw = self.ask(body)
        if fault == "wrong id":
            found = json.loads(raw)
            if isinstance(found, dict):
                found["id"] = (found.get("id") or 0) + 1
            return json.dumps(found).encode()
        if fault == "garbled":
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("result"):
                found["result"] = self._garbled(found["result"])
            return json.dumps(found).encode()
        if fault == "half a JSON":
            return raw[: len(raw) // 2]
        if fault == "not JSON":
            return b"<html><body>502 Bad Gateway</body></html>"
        return raw

    def _garbled(self, value: Any) -> Any:
        """With one hex digit changed, somewhere."""
        if isinstance(value, str) and value.startswith("0x") and len(value) > 2:
            with self._lock:
                at, digit = self._rng.randrange(2, len(value)), self._rng.choice("0123456789abcdef")
            return value[:at] + digit + value[at + 1 :]
        places = (
            list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        )
        if not places:
            return value
        with self._lock:
            at = self._rng.choice(list(places))
        changed = value.copy()
        changed[at] = self._garbled(value[at])
        return changed

    def _old(self, request: Any) -> bytes:
        """As the node would have answered some blocks ago."""
        method, params = request["method"], json.loads(json.dumps(request["params"]))
        at = max(0, int(self._call("eth_blockNumber"), 16) - self._behind)
        if method == "eth_blockNumber":
            return _result(request, hex(at))
        number = _number(params)
        if number is not None and number > at:
            if method == "eth_getBlockByNumber":
                return _result(request, None)
            return _error(request, -32000, "header not found")
        params = [hex(at) if item in ("latest", "pending") else item for item in params]
        found = self._call(method, *params) if params != request["params"] else None
        if found is not None:
            return _result(request, found)
        raw = self.ask(json.dumps(request).encode())
        if method == "eth_getTransactionReceipt":
            result = json.loads(raw).get("result")
            if result and int(result["blockNumber"], 16) > at:
                return _result(request, None)
        return raw


def _number(params: list[Any]) -> int | None:
    for item in params:
        if isinstance(item, str) and item.startswith("0x") and len(item) < 20:
            return int(item, 16)
    return None


def _id(request: Any) -> Any:
    return request.get("id") if isinstance(request, dict) else None


def _result(request: Any, result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": _id(request), "result": result}).encode()


def _error(request: Any, code: int, message: str) -> bytes:
    error = {"code": code, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": _id(request), "error": error}).encode()


@contextmanager
def proxy(upstream: str, late_seconds: float) -> Iterator[Proxy]:
    """A bad node in front of `upstream`."""
    found = Proxy(upstream, late_seconds)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            method = request.get("method", "") if isinstance(request, dict) else "batch"
            fault = found._choose(method)
            number = found.seen
            found.watch(number, method, "before")
            try:
                self._answer(request, body, fault)
                found.watch(number, method, "after")
            except (OSError, http.client.HTTPException):  # who asked did not wait; or the node is gone
                self.close_connection = True

        def _answer(self, request: Any, body: bytes, fault: str) -> None:
            if fault == "dropped request":
                return self._reset()
            if fault in ("HTTP 500", "HTTP 429"):
                return self._reply(int(fault[-3:]), b'{"error": "busy"}')
            data = found.answer(request, body, fault)
            if fault == "dropped answer":
                return self._reset()
            if fault == "late answer":
                time.sleep(found._late)
            self._reply(200, data, len(data) // 2 if fault == "cut off" else None)

        def _reply(self, status: int, data: bytes, only: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:only])
            if only is not None:
                self.close_connection = True

        def _reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a connection that was reset

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
