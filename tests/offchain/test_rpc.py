"""Several nodes behind one provider: the rules alone, then against HTTP servers here that misbehave in each way."""

import contextlib
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from web3 import Web3
from web3._utils import method_formatters
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from offchain.chain import rpc
from offchain.chain.errors import NODE_ERRORS, ChainError, ConfigError
from offchain.chain.rpc import Nodes, NodesDisagree, NodesUnavailable, WrongChain, agree, nodes_from
from offchain.chain.rpc_rules import (
    READ,
    Fault,
    Health,
    Kind,
    decoded,
    hidden,
    is_address,
    out_of_step,
    outvoted,
    rank,
    read_answer,
    repeatable,
    retry_after,
    secrets_of,
    usable,
)
from offchain.chain.vault import BlockRef
from offchain.settings import load_settings

TO = "0x" + "22" * 20
RAW = "0x02" + "ab" * 40
RAW_HASH = Web3.keccak(hexstr=RAW).to_0x_hex()
TX = "0x" + "07" * 32
NOWHERE = "http://127.0.0.1:1"
KEY = "k3y-that-nobody-may-see"


# ---------------------------------------------------------------- rules: addresses


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
        (f"https://node.example/v3/{KEY}", "https://node.example/…"),
        (f"https://node.example?key={KEY}", "https://node.example/…"),
        (f"https://node.example#{KEY}", "https://node.example/…"),
        (f"https://me:{KEY}@node.example:99/", "https://node.example:99"),
        (f"https://me:a/b@c{KEY}@node.example", "https:///…"),
        (f"node.example/{KEY}", "node.example"),
        (f"me:{KEY}@node.example", "node.example"),
    ],
)
def test_an_address_is_shown_without_its_key(url: str, shown: str) -> None:
    assert hidden(url) == shown


def test_what_may_be_a_key_in_an_address() -> None:
    found = secrets_of(f"https://user:passw@h/v3/{KEY}?apikey=abcd&v=1")
    assert found[:2] == (KEY, "passw") and set(found[2:]) == {"user", "abcd"}


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://a", True),
        ("http://a:1/x", True),
        ("ws://a", False),
        ("localhost", False),
        ("http://", False),
        ("http://a:b", False),
        ("http://[::1", False),
        ("http://a:99999", False),
    ],
)
def test_what_is_an_address(url: str, good: bool) -> None:
    assert is_address(url) is good


# ---------------------------------------------------------------- rules: whose error

OWN = [
    (3, "execution reverted: header not found"),  # the contract's words
    (-32000, "execution reverted"),
    (-32603, "Error: VM Exception while processing transaction: reverted with reason string 'no'"),
    (-32000, "nonce too low: next nonce 5, tx nonce 4"),
    (-32603, "nonce too low"),
    (-32000, "replacement transaction underpriced"),
    (-32000, "already known"),
    (-32000, "insufficient funds for gas * price + value"),
    (-32003, "Max fee per gas less than block base fee"),
    (-32000, "intrinsic gas too low"),
    (-32000, "gas required exceeds allowance (30000000)"),
    (-32602, "invalid argument 0: hex string has odd length"),
    (-32000, "invalid opcode: INVALID"),
]
FAULTS = [
    (Kind.RATE_LIMIT, 429, "slow down"),
    (Kind.RATE_LIMIT, -32005, "daily request count exceeded, request rate limited"),
    (Kind.RATE_LIMIT, -32000, "Your app has exceeded its compute units per second capacity"),
    (Kind.RATE_LIMIT, -32029, "Too Many Requests"),
    (Kind.NODE, -32603, "Internal error"),
    (Kind.NODE, -32005, "limit exceeded"),
    (Kind.NODE, -32000, "request timed out"),
    (Kind.NODE, -32700, "parse error"),
    (Kind.NODE, -32000, "upstream connect error"),
    (Kind.NODE, -32000, "service temporarily unavailable"),
]
ELSEWHERE = [
    (Kind.NO_BLOCK, -32000, "header not found"),
    (Kind.NO_BLOCK, -39001, "Unknown block"),
    (Kind.NO_BLOCK, -32602, "BlockOutOfRangeError: block height is 5 but requested was 9"),
    (Kind.NO_BLOCK, -32000, "requested to block 9 after last accepted block 5"),
    (Kind.NO_STATE, -32000, "missing trie node 1234 (path ) state 0x12 is not available"),
    (Kind.NO_STATE, -32002, "No state available for block 0x12"),
    (Kind.NO_STATE, -32000, "old data not available due to pruning"),
    (Kind.NO_METHOD, -32601, "the method eth_feeHistory does not exist/is not available"),
    (Kind.NO_METHOD, -32601, "nothing here"),
]


def failing(code: Any, message: Any, ident: Any = 7, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": message} | more}


@pytest.mark.parametrize(("code", "message"), OWN)
def test_an_error_of_the_call_is_an_answer(code: int, message: str) -> None:
    answer, elsewhere = read_answer("eth_call", [], failing(code, message), 7)
    assert (answer["error"]["message"], elsewhere) == (message, None)


@pytest.mark.parametrize(("kind", "code", "message"), FAULTS)
def test_an_error_of_the_node_is_a_fault(kind: Kind, code: int, message: str) -> None:
    with pytest.raises(Fault) as caught:
        read_answer("eth_call", [], failing(code, message), 7)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("kind", "code", "message"), ELSEWHERE)
def test_what_a_node_does_not_have_another_may(kind: Kind, code: int, message: str) -> None:
    answer, elsewhere = read_answer("eth_call", [], failing(code, message), 7)
    assert (answer["error"]["code"], elsewhere) == (code, kind)


def test_revert_data_marks_the_call_whatever_the_words_are() -> None:
    assert read_answer("eth_call", [], failing(-32603, "Internal error", data="0x08c379a0"), 7)[1] is None
    with pytest.raises(Fault):
        read_answer("eth_call", [], failing(-32603, "Internal error", data="0x"), 7)


def test_too_many_logs_are_the_callers_matter_but_a_rate_limit_is_not() -> None:
    assert (
        read_answer("eth_getLogs", [], failing(-32005, "query returned more than 10000 results"), 7)[1]
        is None
    )
    assert read_answer("eth_getLogs", [], failing(-32000, "block range limit exceeded"), 7)[1] is None
    with pytest.raises(Fault, match="rate limit"):
        read_answer("eth_getLogs", [], failing(-32005, "request rate limit exceeded"), 7)
    with pytest.raises(Fault):
        read_answer("eth_getBalance", [], failing(-32005, "limit exceeded"), 7)


def test_a_panic_with_a_code_of_no_compiler_is_a_revert() -> None:
    for code, kept in (("11", True), ("7f", False)):
        told = failing(3, "execution reverted", data="0x4e487b71" + code.zfill(64))
        assert ("data" in read_answer("eth_call", [], told, 7)[0]["error"]) is kept


HASH = "0x" + "ab" * 32


@pytest.mark.parametrize(
    ("method", "params", "good"),
    [
        (
            "eth_getBlockByNumber",
            ["0x7"],
            {"hash": HASH, "number": "0x7", "timestamp": "0x1", "miner": HASH[:42]},
        ),
        ("eth_getBlockByNumber", ["pending"], {"timestamp": "0x1", "transactions": [HASH, {"r": HASH}]}),
        (
            "eth_getTransactionByHash",
            [HASH],
            {"hash": HASH, "input": "0x", "accessList": [{"storageKeys": [HASH]}]},
        ),
        ("eth_getLogs", [{}], [{"topics": [HASH], "removed": False, "type": "mined"}]),  # Parity
        (
            "eth_getTransactionReceipt",
            [HASH],
            dict.fromkeys(("transactionHash", "blockHash"), HASH)
            | dict.fromkeys(("blockNumber", "gasUsed", "status"), "0x1")
            | {
                "logs": [],
                "contractAddress": None,
                "l1FeeScalar": "0.684",
                "error": "Reverted",
            },  # and Nethermind
        ),
    ],
)
def test_text_that_is_no_hex_is_no_answer(method: str, params: list[Any], good: Any) -> None:
    """A byte that changed on the way: web3's formatters would end with a bare ValueError."""

    def read(result: Any) -> Any:
        return read_answer(method, params, {"jsonrpc": "2.0", "id": 7, "result": result}, 7)[0]["result"]

    assert read(good) == good
    text = json.dumps(good)
    for at in [at for at in range(len(text)) if text[at : at + 2] == "0x"]:
        changed = text[:at] + "8" + text[at + 1 :], text[: at + 2] + "?" + text[at + 3 :]
        for bad in changed if text[at + 2] != '"' else changed[:1]:
            with pytest.raises(Fault, match="malformed"):
                read(json.loads(bad))


def test_all_that_web3_turns_into_bytes_and_numbers_is_read() -> None:
    named = ("BLOCK_RESULT", "TRANSACTION_RESULT", "RECEIPT", "LOG_ENTRY", "WITHDRAWAL_RESULT")
    names = {name for table in named for name in getattr(method_formatters, f"{table}_FORMATTERS")}
    assert names - READ == {"type"}  # which web3 leaves as it is where it is a word


BLOCK = {"number": "0x10", "hash": "0x" + "11" * 32, "timestamp": "0x5"}
RECEIPT = {
    "transactionHash": TX,
    "blockHash": "0x" + "11" * 32,
    "blockNumber": "0x10",
    "gasUsed": "0x1",
    "status": "0x1",
    "logs": [],
}


@pytest.mark.parametrize(
    ("method", "params", "good", "bad"),
    [
        ("eth_blockNumber", [], ["0x0", "0x1aF"], ["0x", "12", 12, None, "0xg", "0x" + "1" * 65, "0x1\n"]),
        ("eth_call", [], ["0x", "0x00ff"], ["0x0", "00", None, "0xzz", 0, "0x00 0"]),
        ("eth_getBlockByNumber", ["0x10", False], [BLOCK, None], [BLOCK | {"number": "0x11"}, "0x", []]),
        (
            "eth_getBlockByNumber",
            ["latest", False],
            [BLOCK],
            [BLOCK | {"hash": "0x11"}, BLOCK | {"number": None}],
        ),
        ("eth_getBlockByNumber", ["pending", False], [{"hash": None}], [7]),
        ("eth_getBlockByHash", ["0x" + "11" * 32, False], [BLOCK], [BLOCK | {"hash": "0x" + "12" * 32}]),
        (
            "eth_getTransactionReceipt",
            [TX],
            [RECEIPT, None, RECEIPT | {"transactionHash": TX.upper().replace("X", "x")}],
            [
                RECEIPT | {"transactionHash": "0x" + "08" * 32},
                RECEIPT | {"status": None},
                RECEIPT | {"logs": None},
            ],
        ),
        ("eth_getTransactionByHash", [bytes.fromhex(TX[2:])], [{"hash": TX}], [{"hash": RAW_HASH}, {}]),
        ("eth_sendRawTransaction", [RAW], [RAW_HASH], [TX, None]),
        ("eth_getLogs", [{}], [[], [{"data": "0x"}]], [None, {}, ["0x"]]),
        ("eth_feeHistory", [], [{"baseFeePerGas": ["0x1"]}], [None, {}, {"baseFeePerGas": [None]}]),
        ("web3_clientVersion", [], ["anything", 5], []),
    ],
)
def test_a_result_has_the_form_of_its_method(
    method: str, params: Any, good: list[Any], bad: list[Any]
) -> None:
    for result in good:
        assert (
            read_answer(method, params, {"jsonrpc": "2.0", "id": 7, "result": result}, 7)[0]["result"]
            == result
        )
    for result in bad:
        with pytest.raises(Fault, match="malformed"):
            read_answer(method, params, {"jsonrpc": "2.0", "id": 7, "result": result}, 7)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "0x1",
        {"id": 7, "result": "0x1"},
        {"jsonrpc": "2.0", "id": 8, "result": "0x1"},
        {"jsonrpc": "2.0", "result": "0x1"},
        {"jsonrpc": "2.0", "id": 7},
        {"jsonrpc": "2.0", "id": 7, "error": "no"},
        failing(-32000, None),
        failing("x", "header not found"),
        failing(True, "header not found"),
        failing(3, "execution reverted", ident=8),
    ],
)
def test_what_is_no_answer_is_a_fault(answer: Any) -> None:
    with pytest.raises(Fault) as caught:
        read_answer("eth_call", [], answer, 7)
    assert caught.value.kind == Kind.MALFORMED


def test_old_nodes_send_a_null_error_with_the_result() -> None:
    answer = {"jsonrpc": "2.0", "id": 7, "result": "0x", "error": None}
    assert read_answer("eth_call", [], answer, 7) == ({"jsonrpc": "2.0", "id": 7, "result": "0x"}, None)


def test_http_errors_with_and_without_patience() -> None:
    for status, kind in ((429, Kind.RATE_LIMIT), (503, Kind.HTTP)):
        with pytest.raises(Fault) as caught:
            decoded(status, {"Retry-After": "30"}, b"{}")
        assert (caught.value.kind, caught.value.retry_after) == (kind, 30)
    assert decoded(400, {}, b"{}") == {}  # some send JSON-RPC errors so
    with pytest.raises(Fault, match="malformed"):
        decoded(200, {}, b"[" * 100_000)


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 0 < retry_after({"Retry-After": soon}) <= 100
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=100), usegmt=True)
    assert [retry_after({"Retry-After": said}) for said in ("7", past, "soon", "-5", "")] == [7, 0, 0, 0, 0]
    assert retry_after({}) == 0


# ---------------------------------------------------------------- rules: which node


def test_a_failing_node_is_left_alone_ever_longer_until_it_answers() -> None:
    node = Health(1)
    pauses = []
    for _ in range(9):
        node.failed(100, Fault(Kind.TIMEOUT))
        pauses.append(node.paused_until - 100)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 120, 120]
    node.succeeded(0.5)
    node.failed(100, Fault(Kind.HTTP))
    assert (node.paused_until, node.errors) == (101, {Kind.TIMEOUT: 9, Kind.HTTP: 1})


def test_a_node_gets_the_time_that_it_asks_for_within_an_hour() -> None:
    node = Health(1)
    node.failed(100, Fault(Kind.RATE_LIMIT, retry_after=30))
    assert (node.asked_until, node.paused_until) == (130, 130)
    node.failed(100, Fault(Kind.RATE_LIMIT, retry_after=1e9))
    assert node.asked_until == 3_700


def test_the_first_that_is_well_is_asked_first() -> None:
    nodes = [Health(1, paused_until=9), Health(2), Health(3, lagging=True), Health(4, refused="x"), Health(5)]
    assert usable(nodes, 8) == [1, 4]
    assert usable(nodes, 9) == [0, 1, 4]


def test_where_none_is_well_those_that_failed_are_asked_but_not_against_their_will() -> None:
    nodes = [Health(1, paused_until=9), Health(2, paused_until=5), Health(3, paused_until=7, asked_until=7)]
    assert usable(nodes, 0) == [1, 0]
    assert usable([Health(1, lagging=True), Health(2, refused="x")], 0) == []


@pytest.mark.parametrize(
    ("heads", "behind"),
    [
        ({}, set()),
        ({0: 100}, set()),
        ({0: 100, 1: 95}, set()),
        ({0: 100, 1: 94}, {1}),
        ({0: 50, 1: 100, 2: 99}, {0}),
        ({0: 10**9, 1: 100, 2: 97}, {0}),  # one alone does not make all others old
        ({0: 10**9, 1: 100}, {1}),
        ({0: 300, 1: 200, 2: 100}, {1, 2}),
        ({0: 50, 1: 50, 2: 100, 3: 100}, {0, 1}),
    ],
)
def test_who_is_out_of_step(heads: dict[int, int], behind: set[int]) -> None:
    assert out_of_step(heads, 5) == behind


@pytest.mark.parametrize(
    ("values", "quorum", "expected"),
    [
        ("aab", 2, {2}),
        ("aab", None, set()),
        ("aab", 3, set()),
        ("ab", 1, set()),  # who is right?
        ("aabb", 2, set()),
        ("aaabc", 3, {3, 4}),
    ],
)
def test_who_is_outvoted(values: str, quorum: int | None, expected: set[int]) -> None:
    assert outvoted(dict(enumerate(values)), quorum) == expected


def test_of_what_nodes_say_to_a_transaction_the_best_counts() -> None:
    said = [
        failing(-32601, "no method"),
        failing(-32000, "underpriced"),
        failing(-32010, "AlreadyKnown"),
        {"result": 1},
    ]
    assert [rank(answer, Kind.NO_METHOD if i == 0 else None) for i, answer in enumerate(said)] == [3, 2, 1, 0]
    assert rank(failing(-32000, "nonce too low"), None) == 1
    assert rank(failing(-32000, "unknown account"), None) == 2


def test_what_may_be_asked_twice() -> None:
    assert all(map(repeatable, ("eth_call", "eth_sendRawTransaction", "net_version", "batch")))
    assert not any(
        map(repeatable, ("eth_sendTransaction", "evm_mine", "anvil_mine", "eth_newFilter", "eth_sign"))
    )


# ---------------------------------------------------------------- servers


class Node:
    """A node here. `spoil[method]` does something else than answer; `answers[method]` is a value or a function."""

    def __init__(self) -> None:
        self.head, self.fork = 100, ""
        self.asked: list[str] = []
        self.spoil: dict[str, Callable[[Any, Any], None]] = {}
        self.answers: dict[str, Any] = {
            "eth_chainId": "0x1",
            "eth_blockNumber": lambda _: hex(self.head),
            "eth_getBlockByNumber": self.block,
            "eth_call": "0x" + "00" * 31 + "2a",
            "eth_sendRawTransaction": RAW_HASH,
            "eth_getTransactionReceipt": None,
            "eth_gasPrice": "0x5",
        }
        self.released = threading.Event()  # those that hang
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                node.serve(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, handler: Any, request: Any) -> None:
        method = "batch" if isinstance(request, list) else request["method"]
        self.asked.append(method)
        if method in self.spoil:
            self.spoil[method](handler, request)
            return
        found = [self.answer(item) for item in request] if method == "batch" else self.answer(request)
        respond(handler, json.dumps(found).encode())

    def answer(self, request: Any) -> Any:
        said = self.answers[request["method"]]
        said = said(request["params"]) if callable(said) else said
        shown = {"error": said.args[0]} if isinstance(said, Exception) else {"result": said}
        return {"jsonrpc": "2.0", "id": request["id"]} | shown

    def block(self, params: Any) -> Any:
        number = self.head if params[0] == "latest" else int(params[0], 16)
        if number > self.head:
            return None
        return {"number": hex(number), "hash": block_hash(number, self.fork), "timestamp": hex(12 * number)}

    def count(self, method: str) -> int:
        return self.asked.count(method)

    @property
    def ref(self) -> BlockRef:
        """Its newest block, as the keeper reads it."""
        return BlockRef(self.head, block_hash(self.head, self.fork), 12 * self.head)


def block_hash(number: int, fork: str = "") -> str:
    return Web3.keccak(text=f"{number} {fork}").to_0x_hex()


def error(code: int, message: str) -> Exception:
    return RuntimeError({"code": code, "message": message})


def respond(handler: Any, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
    """In one packet."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    handler.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def hang_up(handler: Any, _: Any) -> None:
    handler.close_connection = True


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Any, Any], None]:
    return lambda handler, _: respond(handler, body, code, **headers)


def body(data: bytes) -> Callable[[Any, Any], None]:
    return lambda handler, _: respond(handler, data)


def changed(**members: Any) -> Callable[[Any, Any], None]:
    """An answer like a good one but for these members; `id` is added to the right one."""

    def spoil(handler: Any, request: Any) -> None:
        answer = {"jsonrpc": "2.0", "id": request["id"] + members.get("id", 0), "result": "0x5"}
        answer |= {name: value for name, value in members.items() if name != "id"}
        respond(handler, json.dumps({k: v for k, v in answer.items() if v != "left out"}).encode())

    return spoil


def truncated(handler: Any, request: Any) -> None:
    respond(handler, b'{"jsonrpc": "2.0", "id": 1, "resu', length=90)
    handler.close_connection = True


def twice(handler: Any, request: Any) -> None:
    good = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": "0x5"}).encode()
    respond(handler, good + good)


def no_http(handler: Any, _: Any) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    handler.close_connection = True


@pytest.fixture
def make() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def one() -> Node:
        nodes.append(Node())
        return nodes[-1]

    yield one
    for node in nodes:
        node.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Nodes]]:
    made: list[Nodes] = []

    def over(*nodes: Node | str, **settings: Any) -> Nodes:
        urls = [node if isinstance(node, str) else node.url for node in nodes]
        made.append(Nodes(urls, **{"timeout_seconds": 30} | settings))
        return made[-1]

    yield over
    for provider in made:
        provider.close()


class Clock:
    """The provider's clock, which only the test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return 1_000 + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rpc, "_now", clock)
    return clock


Make = Callable[..., Node]
Connect = Callable[..., Nodes]

MISBEHAVIOUR = {
    "drops the connection": (hang_up, Kind.CONNECTION),
    "HTTP 500": (status(500), Kind.HTTP),
    "HTTP 502, a page": (status(502, b"<html>"), Kind.HTTP),
    "HTTP 500 with an answer": (status(500, b'{"jsonrpc": "2.0", "id": 1, "result": "0x5"}'), Kind.HTTP),
    "HTTP 429": (status(429), Kind.RATE_LIMIT),
    "HTTP 401": (status(401, b"who are you?"), Kind.HTTP),
    "HTTP 301": (status(301, Location="http://127.0.0.1:1/"), Kind.HTTP),
    "an empty body": (body(b""), Kind.MALFORMED),
    "a page": (body(b"<html>"), Kind.MALFORMED),
    "not UTF-8": (body(b'{"jsonrpc": "\xff"}'), Kind.MALFORMED),
    "half an answer": (truncated, Kind.MALFORMED),
    "an answer twice": (twice, Kind.MALFORMED),
    "another's answer": (changed(id=1), Kind.MALFORMED),
    "an answer without id": (body(b'{"jsonrpc": "2.0", "result": "0x5"}'), Kind.MALFORMED),
    "another protocol": (changed(jsonrpc="1.0"), Kind.MALFORMED),
    "no result": (changed(result="left out"), Kind.MALFORMED),
    "a result of another kind": (changed(result={"0x": 5}), Kind.MALFORMED),
    "a corrupted number": (changed(result="0x5\u00e9"), Kind.MALFORMED),
    "a huge answer": (changed(pad="x" * 300_000), Kind.MALFORMED),
    "no HTTP": (no_http, Kind.MALFORMED),
}


@pytest.mark.parametrize("how", MISBEHAVIOUR)
@pytest.mark.usefixtures("clock")
def test_the_next_node_is_asked_where_one(how: str, make: Make, connect: Connect) -> None:
    first, second = make(), make()
    spoil, kind = MISBEHAVIOUR[how]
    first.spoil["eth_gasPrice"] = spoil
    nodes = connect(first, second, max_bytes=100_000)
    assert Web3(nodes).eth.gas_price == 5
    before = first.count("eth_gasPrice")
    assert before > 0 and second.count("eth_gasPrice") == 1
    one, two = nodes.status()
    assert one.errors == {str(kind): 1} and two.errors == {}
    assert (one.healthy, two.healthy, two.serving) == (False, True, True)
    assert Web3(nodes).eth.gas_price == 5 and first.count("eth_gasPrice") == before  # it is left alone


def hang(node: Node) -> Callable[[Any, Any], None]:
    return lambda handler, request: node.released.wait(60) and None


def drip(node: Node) -> Callable[[Any, Any], None]:
    """Never silent, never done."""

    def spoil(handler: Any, _: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not node.released.wait(0.1):
            try:
                handler.wfile.write(b"X-More: 1\r\n")
            except OSError:
                return

    return spoil


@pytest.mark.parametrize("how", [hang, drip])
def test_the_next_node_is_asked_where_one_never_ends(how: Any, make: Make, connect: Connect) -> None:
    first, second = make(), make()
    nodes = connect(first, second, timeout_seconds=2.5)
    assert Web3(nodes).eth.block_number == 100
    first.spoil["eth_gasPrice"] = how(first)
    assert Web3(nodes).eth.gas_price == 5
    assert nodes.status()[0].errors == {"timeout": 1}


def test_all_tries_together_end(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.spoil["eth_gasPrice"], second.spoil["eth_gasPrice"] = hang(first), hang(second)
    with pytest.raises(NodesUnavailable, match=r"endpoint 1 .*timeout.*endpoint 2 .*timeout"):
        Web3(connect(first, second, timeout_seconds=0.5)).eth.gas_price  # noqa: B018
    assert first.count("eth_gasPrice") + second.count("eth_gasPrice") <= 6


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("kind", "code", "message"), FAULTS + ELSEWHERE)
def test_errors_of_the_node_are_asked_elsewhere(
    kind: Kind, code: int, message: str, make: Make, connect: Connect
) -> None:
    first, second = make(), make()
    first.answers["eth_call"] = error(code, message)
    nodes = connect(first, second)
    assert Web3(nodes).eth.call({"to": TO}, 99)[-1] == 42
    assert nodes.status()[0].errors == {str(kind): 1}
    assert nodes.status()[0].healthy is ((kind, code, message) in ELSEWHERE)


@pytest.mark.parametrize(("code", "message"), OWN)
def test_errors_of_the_call_are_not(code: int, message: str, make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.answers["eth_call"] = error(code, message)
    nodes = connect(first, second)
    with pytest.raises((Web3RPCError, ContractLogicError)):
        Web3(nodes).eth.call({"to": TO}, 99)
    assert second.count("eth_call") == 0
    assert nodes.status()[0].healthy and nodes.status()[0].errors == {}


def test_an_error_that_all_nodes_give_is_an_answer(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.answers["eth_call"] = error(-32000, "missing trie node 12")
    second.answers["eth_call"] = error(-32000, "old data not available due to pruning")
    with pytest.raises(Web3RPCError, match="missing trie node"):  # the preferred one's words
        Web3(connect(first, second)).eth.call({"to": TO}, 1)
    with pytest.raises(Web3RPCError, match="pruning"):
        Web3(connect(second)).eth.call({"to": TO}, 1)


def test_one_node_is_asked_again_before_it_counts_as_away(make: Make, connect: Connect) -> None:
    node = make()
    calls = iter([hang_up, hang_up, status(500)])
    node.spoil["eth_gasPrice"] = lambda handler, request: next(calls, changed())(handler, request)
    assert Web3(connect(node)).eth.gas_price == 5
    node.spoil["eth_gasPrice"] = status(500)
    with pytest.raises(
        NodesUnavailable, match=r"rpc_urls: no node answers eth_gasPrice: endpoint 1 .*HTTP 500"
    ):
        Web3(connect(node)).eth.gas_price  # noqa: B018
    assert isinstance(NodesUnavailable(""), NODE_ERRORS) and isinstance(NodesUnavailable(""), ChainError)


def test_the_preferred_node_comes_back_and_each_change_is_said_once(
    make: Make, connect: Connect, clock: Clock
) -> None:
    first, second = make(), make()
    nodes = connect(first, second)
    web3 = Web3(nodes)
    with capture_logs() as logs:
        assert [web3.eth.gas_price for _ in range(2)] == [5, 5]
        first.spoil["eth_gasPrice"] = status(500)
        assert [web3.eth.gas_price for _ in range(3)] == [5, 5, 5]
        first.spoil.clear()
        assert web3.eth.gas_price == 5 and nodes.status()[1].serving  # not yet
        clock.ahead += 2
        assert [web3.eth.gas_price for _ in range(2)] == [5, 5]
    changes = [(line["before"][:10], line["node"][:10], line["reason"]) for line in logs]
    assert changes == [
        ("endpoint 1", "endpoint 2", "http: HTTP 500"),
        ("endpoint 2", "endpoint 1", "a preferred one is well"),
    ]


def test_a_node_gets_its_time(make: Make, connect: Connect, clock: Clock) -> None:
    first, second = make(), make()
    nodes = connect(first, second)
    first.spoil["eth_gasPrice"] = status(429, Retry_After="900")
    assert Web3(nodes).eth.gas_price == 5
    second.spoil["eth_gasPrice"] = status(500)
    with pytest.raises(NodesUnavailable, match=r"endpoint 1 .* asks for 900 s of patience; endpoint 2"):
        Web3(nodes).eth.gas_price  # noqa: B018
    assert first.count("eth_gasPrice") == 1
    clock.ahead += 901
    first.spoil.clear()
    assert Web3(nodes).eth.gas_price == 5 and first.count("eth_gasPrice") == 2


def test_a_short_time_is_waited_for(make: Make, connect: Connect) -> None:
    node = make()
    calls = iter([status(429, Retry_After="1")])
    node.spoil["eth_gasPrice"] = lambda handler, request: next(calls, changed())(handler, request)
    assert Web3(connect(node)).eth.gas_price == 5
    assert node.count("eth_gasPrice") == 2


# ---------------------------------------------------------------- no key is shown


def test_no_key_is_in_errors_logs_or_names(
    make: Make, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first, second = make(), make()
    first.answers["eth_call"] = error(-32000, f"the key {KEY} may not do this")
    second.answers["eth_call"] = error(-32005, f"rate limit of {KEY}")
    urls = [
        f"{second.url}/v2/{KEY}",
        f"{first.url.replace('//', f'//me:{KEY}@')}/?apikey={KEY}",
        f"{NOWHERE}/{KEY}",
        f"http://{KEY}.invalid/{KEY}".replace(f"//{KEY}.", "//x."),
    ]
    seen = []
    with capture_logs() as logs:
        nodes = connect(*urls)
        seen += [repr(nodes), str(nodes), str(nodes.status())]
        for provider, expected in ((nodes, Web3RPCError), (connect(urls[2]), NodesUnavailable)):
            try:
                Web3(provider).eth.call({"to": TO}, 99)
            except expected as failed:
                seen += [str(failed), repr(failed), "".join(traceback.format_exception(failed))]
        for bad in (f"ws://h/{KEY}", f"me:{KEY}@h", f"http://h:x/{KEY}"):
            with pytest.raises(ConfigError) as caught:
                connect(bad)
            seen += [str(caught.value), "".join(traceback.format_exception(caught.value)).split("\n", 3)[0]]
    shown = "\n".join([*seen, str(logs), caplog.text])
    assert "may not do this" in shown and "no node answers" in shown
    assert KEY not in shown


# ---------------------------------------------------------------- chains


def test_nodes_of_two_chains_are_refused(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.answers["eth_chainId"] = "0x5"
    with pytest.raises(
        WrongChain, match=r"^rpc_urls: endpoint 2 \(http://127.0.0.1:\d+\) is of chain 5, not 1$"
    ):
        Web3(connect(first, second)).eth.gas_price  # noqa: B018
    assert first.count("eth_gasPrice") == second.count("eth_gasPrice") == 0
    assert issubclass(WrongChain, ConfigError)


def test_chain_id_says_which_one_is_wrong(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.answers["eth_chainId"] = "0x5"
    with pytest.raises(WrongChain, match=r"endpoint 1 .* is of chain 1, not 5"):
        connect(first, second, chain_id=5).is_connected()
    with pytest.raises(WrongChain, match=r"endpoint 1 .* is of chain 1, not 5"):
        connect(first, chain_id=5).is_connected()
    assert connect(second, chain_id=5).is_connected()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_chain_id_that_was_garbled_once_is_not_believed(
    make: Make, connect: Connect, clock: Clock, count: int, turn: int
) -> None:
    made = [make() for _ in range(count)]
    said = ["0x1"] * 4
    said[turn] = "0x5"
    made[0].answers["eth_chainId"] = lambda _: said.pop(0) if said else "0x1"
    web3 = Web3(connect(*made))
    found = []
    for _ in range(4):
        with contextlib.suppress(NodesUnavailable):
            found.append(web3.eth.chain_id)
        clock.ahead += 200
    assert set(found) == {1}
    assert all(node.healthy for node in web3.provider.status())  # type: ignore[attr-defined]


def test_a_single_node_that_becomes_one_of_another_chain_is_refused(make: Make, connect: Connect) -> None:
    node = make()
    web3 = Web3(connect(node))
    assert web3.eth.chain_id == 1
    node.answers["eth_chainId"] = "0x5"
    with pytest.raises(WrongChain, match="is of chain 5, not 1"):
        web3.eth.chain_id  # noqa: B018


def test_a_node_that_comes_up_later_with_another_chain_is_never_used(
    make: Make, connect: Connect, clock: Clock
) -> None:
    first, second = make(), make()
    first.answers["eth_chainId"] = "0x5"
    first.spoil["eth_chainId"] = hang_up
    nodes = connect(first, second)
    assert Web3(nodes).eth.gas_price == 5
    first.spoil.clear()
    clock.ahead += 200
    with capture_logs() as logs:
        assert [Web3(nodes).eth.gas_price for _ in range(2)] == [5, 5]
    # a dropped request is sent again, and what is new is asked for twice
    assert (first.count("eth_gasPrice"), first.count("eth_chainId")) == (0, 4)
    assert [line["event"] for line in logs] == ["node refused"]
    assert not nodes.status()[0].healthy


# ---------------------------------------------------------------- heads


def test_a_node_that_is_behind_is_not_read_from_until_it_has_caught_up(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.head = 94
    nodes = connect(first, second)
    web3 = Web3(nodes)
    assert web3.eth.get_block("latest")["number"] == 100
    assert [(node.lagging, node.head) for node in nodes.status()] == [(True, 94), (False, 100)]
    first.head = 95
    nodes.probe()
    assert web3.eth.block_number == 95


def test_a_node_that_is_behind_does_not_stand_in_for_one_that_is_away(
    make: Make, connect: Connect, clock: Clock
) -> None:
    first, second = make(), make()
    first.head = 94
    nodes = connect(first, second)
    assert Web3(nodes).eth.block_number == 100
    second.spoil |= {"eth_blockNumber": status(500), "eth_gasPrice": status(500)}
    nodes.probe()
    with pytest.raises(NodesUnavailable, match=r"endpoint 1 .*behind the others; endpoint 2 .*HTTP 500"):
        Web3(nodes).eth.gas_price  # noqa: B018
    first.head = 97
    nodes.probe()
    assert Web3(nodes).eth.gas_price == 5


def test_heads_are_looked_at_now_and_then(make: Make, connect: Connect, clock: Clock) -> None:
    first, second = make(), make()
    web3 = Web3(connect(first, second))
    assert web3.eth.block_number == 100
    looked = second.count("eth_blockNumber")
    assert web3.eth.block_number == 100 and second.count("eth_blockNumber") == looked
    second.head = 200
    clock.ahead += 13
    assert web3.eth.block_number in (100, 200)  # looks in the background
    for _ in range(500):
        if web3.eth.block_number == 200:
            break
        time.sleep(0.01)
    assert web3.eth.block_number == 200


# ---------------------------------------------------------------- agreement


def test_nodes_agree(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.head = 102
    nodes = connect(first, second)
    call = (TO, "0x1234", first.answers["eth_call"])
    assert nodes.agree(first.ref) == 2
    assert agree(Web3(nodes), first.ref, [call, (TO, "0x56")]) == 2
    assert first.count("eth_call") == second.count("eth_call") == 2


def test_one_node_has_nobody_to_disagree_with(make: Make, connect: Connect) -> None:
    node = make()
    assert agree(Web3(connect(node)), node.ref) == 1 and node.asked == []
    assert agree(Web3(Web3.HTTPProvider(node.url)), node.ref) == 1


def test_another_hash_is_a_disagreement(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.fork = "b"
    with pytest.raises(NodesDisagree) as caught:
        connect(first, second).agree(first.ref)
    right, other = block_hash(100), block_hash(100, "b")
    assert caught.value.values == {0: right, 1: right, 2: other}
    assert str(caught.value) == (
        f"the nodes disagree on the hash of block 100: what was read before {right}, endpoint 1 {right}, "
        f"endpoint 2 {other}; nothing is done"
    )
    assert isinstance(caught.value, ChainError) and not isinstance(caught.value, NODE_ERRORS)


def test_another_state_is_a_disagreement(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.answers["eth_call"] = lambda params: (
        "0x2b" if params[0]["data"] == "0x02" else "0x" + "00" * 31 + "2a"
    )
    nodes = connect(first, second)
    assert nodes.agree(first.ref, [(TO, "0x01")]) == 2
    with pytest.raises(
        NodesDisagree, match=r"state \(call 2\) of block 100: endpoint 1 0x0+2a, endpoint 2 0x2b"
    ):
        nodes.agree(first.ref, [(TO, "0x01"), (TO, "0x02")])


def test_what_was_read_before_must_be_what_all_say_now(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    nodes = connect(first, second)
    with pytest.raises(NodesDisagree, match="what was read before 0x2b"):
        nodes.agree(first.ref, [(TO, "0x01", "0x2b")])
    with pytest.raises(NodesDisagree, match="hash of block 100: what was read before 0x0101"):
        nodes.agree(BlockRef(100, "0x" + "01" * 32, 0))


def test_all_that_answer_must_agree(make: Make, connect: Connect) -> None:
    first, second, third = make(), make(), make()
    nodes = connect(first, second, third)
    assert nodes.agree(first.ref) == 3
    third.spoil["eth_getBlockByNumber"] = hang_up
    assert nodes.agree(first.ref) == 2
    second.fork = "b"
    with pytest.raises(NodesDisagree):
        nodes.agree(first.ref)


def test_a_quorum_must_answer(make: Make, connect: Connect) -> None:
    first, second, third = make(), make(), make()
    nodes = connect(first, second, third, quorum=3)
    assert nodes.agree(first.ref) == 3
    third.answers["eth_call"] = error(-32000, "missing trie node")
    with pytest.raises(NodesUnavailable, match="rpc_quorum: 2 of 3 answer for block 100, 3 must agree"):
        nodes.agree(first.ref, [(TO, "0x01")])


def test_whom_a_quorum_contradicts_is_put_aside_for_the_next_round(
    make: Make, connect: Connect, clock: Clock
) -> None:
    first, second, third = make(), make(), make()
    first.fork = "b"
    nodes = connect(first, second, third, quorum=2)
    with pytest.raises(NodesDisagree):
        nodes.agree(first.ref)
    assert nodes.agree(second.ref) == 2
    assert Web3(nodes).eth.get_block(100)["hash"].to_0x_hex() == block_hash(100)
    clock.ahead += 121
    with pytest.raises(NodesDisagree):
        nodes.agree(second.ref)


@pytest.mark.usefixtures("clock")
def test_a_node_that_lacks_the_block_for_a_moment_is_waited_for(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.head = 99
    asked = []

    def catch_up(params: Any) -> Any:
        asked.append(params)
        second.head = 99 + len(asked) // 2
        return second.block(params)

    second.answers["eth_getBlockByNumber"] = catch_up
    assert connect(first, second, quorum=2).agree(first.ref) == 2


def test_a_node_that_is_far_behind_is_no_witness(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    second.head = 60
    assert connect(first, second).agree(first.ref) == 1
    with pytest.raises(NodesUnavailable, match="rpc_quorum: 1 of 2 answer"):
        connect(first, second, quorum=2).agree(first.ref)


def test_what_a_stuck_node_has_shown_is_not_acted_on(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    nodes = connect(first, second)
    assert Web3(nodes).eth.block_number == 100
    second.head = 150  # the first is stuck; both know block 100
    with pytest.raises(NodesDisagree, match=r"newest block of block 100|endpoint 1 100, endpoint 2 150"):
        nodes.agree(first.ref)
    assert Web3(nodes).eth.block_number == 150
    assert nodes.agree(second.ref) == 1


# ---------------------------------------------------------------- transactions


def test_a_transaction_goes_to_all_nodes(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    assert Web3(connect(first, second)).eth.send_raw_transaction(RAW).to_0x_hex() == RAW_HASH
    assert first.count("eth_sendRawTransaction") == second.count("eth_sendRawTransaction") == 1


@pytest.mark.parametrize(
    "other",
    [
        error(-32000, "transaction underpriced"),
        error(-32601, "the method does not exist"),
        error(-32603, "internal error"),
        error(-32000, "already known"),
    ],
)
@pytest.mark.parametrize("accepts", [0, 1])
def test_one_acceptance_suffices(accepts: int, other: Exception, make: Make, connect: Connect) -> None:
    nodes = [make(), make()]
    nodes[1 - accepts].answers["eth_sendRawTransaction"] = other
    assert Web3(connect(*nodes)).eth.send_raw_transaction(RAW).to_0x_hex() == RAW_HASH


def test_a_node_that_hangs_does_not_hold_up_a_transaction(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.spoil["eth_sendRawTransaction"] = hang(first)
    assert (
        Web3(connect(first, second, timeout_seconds=300)).eth.send_raw_transaction(RAW).to_0x_hex()
        == RAW_HASH
    )
    assert first.count("eth_sendRawTransaction") == 1


def test_a_slow_acceptance_beats_a_quick_refusal(
    make: Make, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "GRACE", 0.05)
    first, second = make(), make()
    first.answers["eth_sendRawTransaction"] = error(-32000, "transaction underpriced")
    second.answers["eth_sendRawTransaction"] = lambda _: time.sleep(0.5) or RAW_HASH
    assert Web3(connect(first, second)).eth.send_raw_transaction(RAW).to_0x_hex() == RAW_HASH


def test_a_refusal_is_said_where_nobody_accepts(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.spoil["eth_sendRawTransaction"] = status(500)
    second.answers["eth_sendRawTransaction"] = error(-32000, "transaction underpriced")
    with pytest.raises(Web3RPCError, match="underpriced"):
        Web3(connect(first, second)).eth.send_raw_transaction(RAW)
    first.spoil.clear()
    first.answers["eth_sendRawTransaction"] = error(-32000, "nonce too low")
    with pytest.raises(Web3RPCError, match="nonce too low"):  # it may be mined: says more
        Web3(connect(first, second)).eth.send_raw_transaction(RAW)


def test_a_wrong_hash_is_no_acceptance(make: Make, connect: Connect) -> None:
    node = make()
    node.answers["eth_sendRawTransaction"] = TX
    with pytest.raises(NodesUnavailable, match="eth_sendRawTransaction"):
        Web3(connect(node)).eth.send_raw_transaction(RAW)


def test_a_receipt_is_looked_for_on_all_nodes(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    nodes = connect(first, second)
    with pytest.raises(TransactionNotFound):
        Web3(nodes).eth.get_transaction_receipt(TX)
    assert first.count("eth_getTransactionReceipt") == second.count("eth_getTransactionReceipt") == 1
    second.answers["eth_getTransactionReceipt"] = RECEIPT
    assert Web3(nodes).eth.get_transaction_receipt(TX)["blockNumber"] == 16
    assert nodes.status()[0].serving and nodes.status()[0].errors == {}


def test_a_node_that_does_not_have_the_block_yet_is_asked_again(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    nodes = connect(first, second)
    assert Web3(nodes).eth.block_number == 100
    first.spoil["eth_call"] = status(500)  # it alone has the block
    calls: list[Any] = []

    def late(params: Any) -> Any:
        calls.append(params)
        return error(-32000, "header not found") if len(calls) < 2 else "0x2a"

    second.answers["eth_call"] = late
    assert Web3(nodes).eth.call({"to": TO}, 100) == b"*"
    assert calls[0][1] == calls[1][1] == "0x64"


# ---------------------------------------------------------------- batches, threads, what must not be repeated


def test_a_batch_is_answered_in_order_by_one_node(make: Make, connect: Connect) -> None:
    first, second = make(), make()

    def backwards(handler: Any, request: Any) -> None:
        respond(handler, json.dumps([first.answer(item) for item in reversed(request)]).encode())

    def someone_elses(handler: Any, request: Any) -> None:
        found = [first.answer(item | {"id": item["id"] + 1}) for item in request]
        respond(handler, json.dumps(found).encode())

    def one_twice(handler: Any, request: Any) -> None:
        respond(handler, json.dumps([first.answer(item) for item in [*request, request[0]]]).encode())

    for spoil, served in (
        (backwards, 0),
        (one_twice, 1),
        (someone_elses, 1),
        (body(b"[]"), 1),
        (status(503), 1),
    ):
        first.spoil["batch"] = spoil
        nodes = connect(first, second)
        answers = nodes.make_batch_request(
            [("eth_gasPrice", []), ("eth_blockNumber", []), ("eth_chainId", [])]
        )
        assert [item["result"] for item in answers] == ["0x5", "0x64", "0x1"]
        assert nodes.status()[served].serving


def test_what_must_not_be_repeated_is_asked_once(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.spoil["evm_mine"] = hang_up
    nodes = connect(first, second)
    with pytest.raises(NodesUnavailable, match="no node answers evm_mine"):
        nodes.make_request("evm_mine", [])  # type: ignore[arg-type]
    assert (first.count("evm_mine"), second.count("evm_mine")) == (1, 0)


def test_many_threads_may_ask_at_once(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    calls = iter(range(10_000))
    good = changed()
    first.spoil["eth_gasPrice"] = lambda h, r: status(500)(h, r) if next(calls) % 5 == 4 else good(h, r)
    web3 = Web3(connect(first, second))
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(web3.eth.gas_price for _ in range(10))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 80


@pytest.mark.usefixtures("clock")
def test_the_snapshot_says_how_each_node_is(make: Make, connect: Connect) -> None:
    first, second = make(), make()
    first.spoil["eth_gasPrice"] = status(500)
    nodes = connect(first, second)
    assert Web3(nodes).eth.gas_price == 5
    one, two = nodes.status()
    assert (one.position, one.url, one.head, one.errors, one.serving) == (
        1,
        first.url,
        100,
        {"http": 1},
        False,
    )
    assert one.paused_seconds > 0 and one.latency_seconds is not None and two.paused_seconds == 0
    assert (two.position, two.healthy, two.serving, two.requests) == (
        2,
        True,
        True,
        3,
    )  # chain, head, gas price


# ---------------------------------------------------------------- settings


@pytest.fixture
def _toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ETH_RPC_URL", "EVENKEEL_RPC_URL", "EVENKEEL_RPC_URLS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_toml")
def test_settings_name_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("evenkeel.toml").write_text(f'rpc_urls = ["http://a/{KEY}", "http://b"]\nrpc_quorum = 2\n')
    settings = load_settings()
    assert KEY not in repr(settings)
    assert repr(nodes_from(settings)) == "Nodes(http://a/…, http://b)"
    assert repr(nodes_from(load_settings(rpc_url="http://c"))) == "Nodes(http://c)"  # that one and no other
    monkeypatch.setenv("ETH_RPC_URL", "http://d")  # of other programs
    assert repr(nodes_from(load_settings())) == "Nodes(http://a/…, http://b)"
    monkeypatch.setenv("EVENKEEL_RPC_URLS", '["http://e"]')
    monkeypatch.setenv("EVENKEEL_RPC_QUORUM", "1")
    assert repr(nodes_from(load_settings())) == "Nodes(http://e)"


@pytest.mark.usefixtures("_toml")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rpc_urls = ["http://a"]\nrpc_url = "http://b"', "rpc_url and rpc_urls: set one of them"),
        ('rpc_urls = ["http://a"]\nrpc_quorum = 2', "rpc_quorum: 2 is more than there are rpc_urls"),
        ("rpc_quorum = 2", "rpc_quorum: 2 is more than there are rpc_urls"),
        ("rpc_max_lag_blocks = -1", "rpc_max_lag_blocks: "),
        ("chain_id = 0", "chain_id: "),
        ('rpc_urls = ["http://a", "b"]', "rpc_urls, endpoint 2: 'b' is not an http:// or https:// address"),
    ],
)
def test_a_wrong_setting_is_named(text: str, message: str) -> None:
    Path("evenkeel.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        nodes_from(load_settings())
