"""What is decided about nodes without a network: what an answer means, which node to ask, who is behind or outvoted.

`offchain.chain.rpc` is the network.
"""

from __future__ import annotations

import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from web3 import Web3

__all__ = [
    "LONGEST_PAUSE",
    "PANIC",
    "PANICS",
    "Fault",
    "Health",
    "Kind",
    "decoded",
    "hidden",
    "is_address",
    "out_of_step",
    "outvoted",
    "quantity",
    "rank",
    "read_answer",
    "read_batch",
    "repeatable",
    "secrets_of",
    "short",
    "speaker",
    "usable",
]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0  # seconds that a failing node is left alone: doubled each time
LONGEST_REQUESTED = 3_600.0  # seconds that a node may ask for (Retry-After)


# ---------------------------------------------------------------- addresses


def hidden(url: str) -> str:
    """The address without what may be a key: `https://host:port/…`."""
    start, _, rest = url.partition("://") if "://" in url else ("", "", url)
    where = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = where.rpartition("@")[2]
    more = rest[len(where) :] not in ("", "/")
    if "@" in rest[len(where) :]:  # a password with a slash, perhaps
        host = ""
    return f"{start}://{host}{'/…' if more else ''}" if start else host


def is_address(url: str) -> bool:
    """Whether it can be a node's: http or https, a host, a port if any."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def secrets_of(url: str) -> tuple[str, ...]:
    """Parts of the address that must not be repeated: of the path, the query, the login; longest first."""
    parts = urlsplit(url)
    found = {part for part in parts.path.split("/") if len(part) >= 8}
    found |= {value for _, value in parse_qsl(parts.query) if len(value) >= 4}
    found |= {word for word in (parts.username, parts.password) if word and len(word) >= 4}
    return tuple(sorted(found, key=len, reverse=True))


def speaker(position: int) -> str:
    """Who said it, by its position in rpc_urls."""
    return f"endpoint {position}" if position else "what was read before"


def short(value: str) -> str:
    """A hash as it is, longer hex by its size and fingerprint."""
    if len(value) <= 66:
        return value
    return f"{len(value) // 2 - 1} bytes (keccak {Web3.keccak(text=value).to_0x_hex()[:18]})"


# ---------------------------------------------------------------- what an answer means


class Kind(StrEnum):
    """Why an answer does not count. The last four say nothing against the node."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    HTTP = "http"
    RATE_LIMIT = "rate limit"
    MALFORMED = "malformed"
    NODE = "node error"
    CHAIN = "other chain"
    DISAGREES = "disagrees"
    NO_BLOCK = "block unknown"
    NO_STATE = "state unknown"
    NO_METHOD = "method unknown"
    NOT_FOUND = "not found"


class Fault(Exception):
    """The node is at fault, not the request."""

    def __init__(self, kind: Kind, detail: str = "", retry_after: float = 0) -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind, self.retry_after = kind, retry_after


# Words of nodes: geth, Erigon, Nethermind, Besu, reth, anvil, Avalanche's, and the services that run them.
OWN = re.compile(  # the call's own errors, whatever else the message says
    "revert|nonce|underpriced|already known|known transaction|insufficient funds|opcode|gas|fee |stack|signature"
)
LIMITED = re.compile(
    "rate.?limit|too many requests|requests per second|request limit|throttl|compute units|throughput|quota"
    "|daily request count|capacity exceeded"
)
BROKEN = re.compile(
    "internal (server )?error|upstream|unavailable|bad gateway|timed out|timeout|is syncing|not synced|no available"
    "|connection refused|try again"
)
UNKNOWN = (
    (
        Kind.NO_BLOCK,
        re.compile(
            "header not found|unknown block|block not found|could not find block|out of range|blockoutofrange"
            "|beyond (current )?head|future block|after last accepted|unfinalized"
        ),
    ),
    (
        Kind.NO_STATE,
        re.compile(
            "missing trie node|state (is )?not available|no state available|world state unavailable|prun(ed|ing)"
            "|historical state|archive"
        ),
    ),
    (Kind.NO_METHOD, re.compile("does not exist/is not available|method not (found|supported)")),
)
RANGE = re.compile("range|results|logs|response size|timeout|timed out|limit exceeded")  # of eth_getLogs
# of a signed transaction
KNOWN = re.compile(r"already.?known|\bknown tr|already imported|already in the pool|existing tx|nonce.*low")


def read_answer(
    method: str, params: Sequence[Any], answer: Any, ident: int
) -> tuple[dict[str, Any], Kind | None]:
    """The answer as web3 wants it, and why another node should be asked too (None: no need).

    Raises Fault where the node is at fault.
    """
    if not isinstance(answer, dict) or answer.get("jsonrpc") != "2.0":
        raise Fault(Kind.MALFORMED, "not a JSON-RPC answer")
    error = answer.get("error")
    if error is None:
        if answer.get("id") != ident or "result" not in answer:
            raise Fault(Kind.MALFORMED, "answer to another request" if "result" in answer else "no result")
        if not _fits(method, params, answer["result"]):
            raise Fault(Kind.MALFORMED, f"that is no answer to {method}")
        found = {"jsonrpc": "2.0", "id": ident, "result": answer["result"]}
        return found, _absent(method, params, answer["result"])
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        raise Fault(Kind.MALFORMED, "not a JSON-RPC error")
    if type(error.get("code")) is not int:
        raise Fault(Kind.MALFORMED, "not a JSON-RPC error")
    if answer.get("id") not in (ident, None):
        raise Fault(Kind.MALFORMED, "answer to another request")
    whose = _whose(method, error, answer.get("id"))
    return {"jsonrpc": "2.0", "id": ident, "error": _without_strange_panic(error)}, whose


def _without_strange_panic(error: dict[str, Any]) -> dict[str, Any]:
    """web3 ends with a KeyError where a panic's code is none of Solidity's."""
    data = error.get("data")
    if isinstance(data, str) and data.startswith(f"0x{PANIC}") and data[-2:] not in WEB3_PANICS:
        return {name: value for name, value in error.items() if name != "data"}
    return error


def _whose(method: str, error: dict[str, Any], ident: Any) -> Kind | None:
    """None: the call's own error. Raises Fault where it is the node's."""
    code, text, data = error["code"], error["message"].lower(), error.get("data")
    if code == 3 or "revert" in text or (isinstance(data, str) and data.startswith("0x") and len(data) > 2):
        return None
    if code in (429, -32029) or LIMITED.search(text):
        raise Fault(Kind.RATE_LIMIT, error["message"][:80])
    if method == "batch" or (method == "eth_getLogs" and code != -32603 and RANGE.search(text)):
        return None  # the caller asks for less
    if method != "eth_sendRawTransaction":
        for kind, words in UNKNOWN:
            if words.search(text):
                return kind
    if code == -32601:
        return Kind.NO_METHOD
    if OWN.search(text):
        return None
    if ident is None or code in (-32603, -32700, -32005) or BROKEN.search(text):
        raise Fault(Kind.NODE, error["message"][:80])
    return None


def read_batch(asked: Any, idents: list[int], answers: list[Any]) -> tuple[list[Any], Kind | None]:
    """The answers by id; the first reason to ask elsewhere holds for all."""
    by_id = {
        item.get("id"): item for item in answers if isinstance(item, dict) and type(item.get("id")) is int
    }
    if len(answers) != len(idents) or set(by_id) != set(idents):
        raise Fault(Kind.MALFORMED, "not one answer to each request")
    found, elsewhere = [], None
    for (method, params), ident in zip(asked, idents, strict=True):
        answer, why = read_answer(method, params, by_id[ident], ident)
        found.append(answer)
        elsewhere = elsewhere or why
    return found, elsewhere


def rank(answer: dict[str, Any], elsewhere: Kind | None) -> int:
    """Of what nodes say to a signed transaction: 0 accepted, 1 known or mined, 2 refused, 3 cannot."""
    if "result" in answer:
        return 0
    if KNOWN.search(answer["error"]["message"].lower()):
        return 1
    return 2 if elsewhere is None else 3


def decoded(status: int, headers: Mapping[str, str], raw: bytes) -> Any:
    """The JSON of an answer. Raises Fault."""
    if status == 429:
        raise Fault(Kind.RATE_LIMIT, "HTTP 429", retry_after(headers))
    if status >= 500 or 300 <= status < 400:
        raise Fault(Kind.HTTP, f"HTTP {status}", retry_after(headers))
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Fault(
            *((Kind.MALFORMED, "not JSON") if status == 200 else (Kind.HTTP, f"HTTP {status}"))
        ) from None


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, 0 where the node does not say: a number or a date."""
    said = headers.get("Retry-After", "")
    if said.strip().isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def repeatable(method: str) -> bool:
    """Asked twice, or of another node, it does no harm and means the same."""
    if method in ("eth_sendTransaction", "eth_sign", "eth_signTransaction") or "filter" in method.lower():
        return False
    return method == "batch" or method.startswith(("eth_", "net_", "web3_", "debug_", "trace_", "txpool_"))


def quantity(value: Any) -> bool:
    """Whether it is a number as JSON-RPC writes it."""
    return isinstance(value, str) and len(value) <= 66 and re.fullmatch(r"0x[0-9a-fA-F]+", value) is not None


def _data(value: Any, size: int | None = None) -> bool:
    if not isinstance(value, str) or not value.startswith("0x") or size not in (None, len(value) // 2 - 1):
        return False
    try:
        binascii.unhexlify(value[2:])
    except (binascii.Error, ValueError):
        return False
    return True


def _hex(value: Any) -> bool:
    """Whether all text that is read of blocks, transactions, receipts and logs is hex.

    Nodes add words of their own: Nethermind why a transaction failed, Optimism a fraction, Parity whether it is mined.
    """
    if isinstance(value, str):
        return HEX.fullmatch(value) is not None
    if isinstance(value, dict):
        return all(_hex(found) for name, found in value.items() if name in READ)
    return not isinstance(value, list) or all(map(_hex, value))


def _same(asked: Any, found: Any) -> bool:
    asked = Web3.to_hex(asked) if isinstance(asked, bytes) else str(asked)
    return isinstance(found, str) and asked.lower() == found.lower()


def _fits_block(params: Sequence[Any], found: Any) -> bool:
    if found is None or params[0] == "pending":
        return found is None or (isinstance(found, dict) and _hex(found))
    if (
        not isinstance(found, dict)
        or not _data(found.get("hash"), 32)
        or not quantity(found.get("timestamp"))
        or not _hex(found)
    ):
        return False
    if not quantity(found.get("number")):
        return False
    asked = params[0]
    if isinstance(asked, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,16}", asked):
        return int(asked, 16) == int(found["number"], 16)
    return True


def _fits_hash(params: Sequence[Any], found: Any, key: str) -> bool:
    return found is None or (isinstance(found, dict) and _same(params[0], found.get(key)) and _hex(found))


def _fits_receipt(params: Sequence[Any], found: Any) -> bool:
    if found is None:
        return True
    return (
        _fits_hash(params, found, "transactionHash")
        and _data(found.get("blockHash"), 32)
        and all(quantity(found.get(key)) for key in ("blockNumber", "gasUsed", "status"))
        and isinstance(found.get("logs"), list)
    )


def _fits_fees(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(fees := found.get("baseFeePerGas"), list)
        and all(map(quantity, fees))
    )


PANIC = "4e487b71"  # Panic(uint256)
PANICS = {  # what its codes mean, by the Solidity documentation
    0x00: "inserted by the compiler",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "no member of the enum",
    0x22: "storage of bytes is malformed",
    0x31: "pop of an empty array",
    0x32: "index out of bounds",
    0x41: "too much memory",
    0x51: "call of a function that is not set",
}
WEB3_PANICS = {f"{code:02x}" for code in PANICS}
HEX = re.compile(r"0x[0-9a-fA-F]*")
WORDS = (  # read by web3, or by us
    "accessList address amount authorizationList baseFeePerGas blobGasPrice blobGasUsed blobVersionedHashes blockHash"
    " blockNumber chainId contractAddress cumulativeGasUsed data difficulty effectiveGasPrice excessBlobGas extraData"
    " from gas gasLimit gasPrice gasUsed hash index input logIndex logs logsBloom maxFeePerBlobGas maxFeePerGas"
    " maxPriorityFeePerGas miner mixHash nonce number parentBeaconBlockRoot parentHash publicKey r raw receiptsRoot"
    " requestsHash s sha3Uncles size standardV stateRoot status storageKeys timestamp to topics totalDifficulty"
    " transactionHash transactionIndex transactions transactionsRoot uncles v validatorIndex value withdrawals"
    " withdrawalsRoot yParity"
)
READ = frozenset(WORDS.split())
QUANTITIES = ["eth_blockNumber", "eth_chainId", "eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_getBalance"]
QUANTITIES += ["eth_getTransactionCount", "eth_estimateGas"]
SHAPES: dict[str, Callable[[Sequence[Any], Any], bool]] = {
    **dict.fromkeys(
        QUANTITIES,
        lambda _, found: quantity(found),
    ),
    **dict.fromkeys(("eth_call", "eth_getCode", "eth_getStorageAt"), lambda _, found: _data(found)),
    "eth_getBlockByNumber": _fits_block,
    "eth_getBlockByHash": lambda params, found: _fits_hash(params, found, "hash"),
    "eth_getTransactionByHash": lambda params, found: _fits_hash(params, found, "hash"),
    "eth_getTransactionReceipt": _fits_receipt,
    "eth_getLogs": lambda _, found: (
        isinstance(found, list) and all(isinstance(item, dict) and _hex(item) for item in found)
    ),
    "eth_feeHistory": lambda _, found: _fits_fees(found),
    "eth_sendRawTransaction": lambda params, found: _same(_hash_of(params[0]), found),
}


def _fits(method: str, params: Sequence[Any], result: Any) -> bool:
    """Whether this can be the result of that, by its form and by what it says it is of."""
    shape = SHAPES.get(method)
    return shape is None or shape(params, result)


def _hash_of(raw: Any) -> bytes:
    return bytes(Web3.keccak(raw) if isinstance(raw, bytes) else Web3.keccak(hexstr=raw))


def _absent(method: str, params: Sequence[Any], result: Any) -> Kind | None:
    """Nothing is there: another node may have it."""
    if result is not None:
        return None
    return Kind.NO_BLOCK if method == "eth_getBlockByNumber" and params[0] != "pending" else Kind.NOT_FOUND


# ---------------------------------------------------------------- which node


@dataclass
class Health:
    """What is known of one node. Times are of one monotonic clock, seconds."""

    position: int  # in rpc_urls, from 1
    failures: int = 0  # in a row
    paused_until: float = 0
    asked_until: float = 0  # by the node's own Retry-After
    head: int | None = None  # the newest block that it has shown
    lagging: bool = False  # too far from the other nodes, at the last look
    chain_id: int | None = None
    refused: str = ""  # why it is never used
    latency: float | None = None  # seconds, smoothed
    requests: int = 0
    errors: Counter[Kind] = field(default_factory=Counter)
    fault: str = ""  # the last one, "" since it has answered again

    def succeeded(self, seconds: float) -> None:
        """It has answered, in so many seconds."""
        self.requests += 1
        self.failures, self.paused_until, self.asked_until, self.fault = 0, 0.0, 0.0, ""
        self.latency = seconds if self.latency is None else 0.8 * self.latency + 0.2 * seconds

    def failed(self, now: float, fault: Fault, first_pause: float = FIRST_PAUSE) -> None:
        """It has failed: left alone for 1, 2, 4, … seconds, or for as long as it asks."""
        self.requests += 1
        self.errors[fault.kind] += 1
        self.failures += 1
        self.fault = str(fault)
        pause = min(first_pause * 2 ** min(self.failures - 1, 32), LONGEST_PAUSE)
        if fault.retry_after > 0:
            self.asked_until = max(self.asked_until, now + min(fault.retry_after, LONGEST_REQUESTED))
        self.paused_until = max(self.paused_until, now + pause, self.asked_until)


def usable(nodes: Sequence[Health], now: float) -> list[int]:
    """Indices of the nodes to read from, the preferred first.

    Those that are well; where there is none, those that failed, the one longest ago first, unless they asked for time.
    """
    near = [i for i, node in enumerate(nodes) if not node.refused and not node.lagging]
    well = [i for i in near if nodes[i].paused_until <= now]
    return well or sorted(
        (i for i in near if nodes[i].asked_until <= now), key=lambda i: nodes[i].paused_until
    )


def out_of_step(heads: Mapping[int, int], most: int) -> set[int]:
    """Who, of heads asked for at one time, is more than `most` blocks from the newest.

    Of three or more the newest is the highest that two are near to, so that one node alone cannot make all others old.
    """
    newest = max(heads.values(), default=0)
    if len(heads) > 2:
        near = [a for a in heads.values() if sum(abs(a - b) <= most for b in heads.values()) > 1]
        newest = max(near, default=newest)
    return {at for at, head in heads.items() if abs(head - newest) > most}


def outvoted(values: Mapping[int, str], quorum: int | None) -> set[int]:
    """Who contradicts what at least `quorum` others, and more than half of all, say; nobody without a quorum."""
    value, votes = Counter(values.values()).most_common(1)[0]
    if quorum is None or votes < quorum or 2 * votes <= len(values):
        return set()
    return {at for at, said in values.items() if said != value}
