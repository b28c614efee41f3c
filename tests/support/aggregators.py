"""Local servers that speak as the venues do, with the shapes of their public documentation.

Where each shape comes from is said at its function. Values are a test's; keys, nesting and types are the venue's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came over the wire."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: Any


@dataclass(frozen=True)
class Answer:
    """What the server says; `body` is JSON unless it is bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before anything is said
    drip: float = 0.0  # seconds between any two bytes


Script = Callable[[Asked], Answer]


@dataclass
class Server:
    """A running server and what it was asked."""

    url: str
    asked: list[Asked]


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    """A server on a free port of this machine, ended with the block."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self, method: str) -> None:
            address = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(raw) if raw else None
            asked.append(Asked(method, address.path, dict(parse_qsl(address.query)), headers, body))
            self._say(script(asked[-1]))

        def _say(self, answer: Answer) -> None:
            time.sleep(answer.delay)
            said = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                for at in range(len(said)) if answer.drip else ():
                    self.wfile.write(said[at : at + 1])
                    time.sleep(answer.drip)
                self.wfile.write(b"" if answer.drip else said)
            except OSError:  # the client has gone
                pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ---------------------------------------------------------------- 0x


def zeroex(asked: Asked, offer: int, least: int, target: str, spender: str, data: str) -> dict[str, Any]:
    """`GET /swap/allowance-holder/quote`: docs.0x.org, API reference, "getQuote (Allowance Holder)", its example."""
    query = asked.query
    return {
        "allowanceTarget": spender,
        "blockNumber": "20850142",
        "buyAmount": str(offer),
        "buyToken": query["buyToken"],
        "chainId": int(query["chainId"]),
        "fees": {
            "integratorFee": None,
            "zeroExFee": {"amount": "0", "token": query["buyToken"], "type": "volume"},
            "gasFee": None,
        },
        "gas": "288079",
        "gasPrice": "73178385",
        "issues": {
            "allowance": {"actual": "0", "spender": spender},
            "balance": {"token": query["sellToken"], "actual": "0", "expected": query["sellAmount"]},
            "simulationIncomplete": True,
            "invalidSourcesPassed": [],
        },
        "liquidityAvailable": True,
        "minBuyAmount": str(least),
        "route": {"fills": [], "tokens": []},
        "sellAmount": query["sellAmount"],
        "sellToken": query["sellToken"],
        "tokenMetadata": {
            "buyToken": {"buyTaxBps": "0", "sellTaxBps": "0"},
            "sellToken": {"buyTaxBps": "0", "sellTaxBps": "0"},
        },
        "totalNetworkFee": "21080000000000000",
        "transaction": {"to": target, "data": data, "gas": "288079", "gasPrice": "73178385", "value": "0"},
        "zid": "0x111111111111111111111111",
    }


ZEROEX_NONE = {"liquidityAvailable": False, "zid": "0x111111111111111111111111"}  # status 200, the same page
# docs.0x.org, "Handling API Issues and Error Codes"
ZEROEX_INVALID = {
    "name": "INPUT_INVALID",
    "message": "The input is invalid",
    "data": {"zid": "0x1111", "details": [{"field": "sellToken", "reason": "Invalid ethereum address"}]},
}

# ---------------------------------------------------------------- 1inch


def oneinch_spender(router: str) -> dict[str, Any]:
    """`GET /swap/v6.1/{chain}/approve/spender`: 1inch developer portal, Swap API, OpenAPI file."""
    return {"address": router}


def oneinch(asked: Asked, offer: int, target: str, data: str) -> dict[str, Any]:
    """`GET /swap/v6.1/{chain}/swap` with includeTokensInfo: 1inch developer portal, Swap API, OpenAPI file."""

    def token(where: str) -> dict[str, Any]:
        return {
            "address": where.lower(),
            "symbol": "T",
            "name": "Token",
            "decimals": 18,
            "logoURI": "",
            "tags": [],
        }

    return {
        "srcToken": token(asked.query["src"]),
        "dstToken": token(asked.query["dst"]),
        "dstAmount": str(offer),
        "tx": {
            "from": asked.query["from"].lower(),
            "to": target,
            "data": data,
            "value": "0",
            "gas": 0,
            "gasPrice": "1020000000",
        },
    }


# the error of its OpenAPI file, as recorded in the tests of cowprotocol/services
ONEINCH_NONE = {
    "statusCode": 400,
    "error": "Bad Request",
    "description": "insufficient liquidity",
    "meta": [{"type": "toTokenAmount", "value": "0"}],
    "requestId": "82444c15-9092-473a-82da-da3dd1de6d2d",
}

# ---------------------------------------------------------------- CoW


def cow(asked: Asked, offer: int, fee: int) -> dict[str, Any]:
    """`POST /api/v1/quote`: cowprotocol/services, crates/orderbook/openapi.yml, OrderQuoteResponse."""
    sold = int(asked.body["sellAmountBeforeFee"])
    return {
        "quote": {
            "sellToken": asked.body["sellToken"].lower(),
            "buyToken": asked.body["buyToken"].lower(),
            "receiver": asked.body["receiver"].lower(),
            "sellAmount": str(sold - fee),
            "buyAmount": str(offer),
            "validTo": 1_900_000_000,
            "appData": "0x" + "00" * 32,
            "feeAmount": str(fee),
            "gasAmount": "150000",
            "gasPrice": "15000000000",
            "sellTokenPrice": "0.0004",
            "kind": "sell",
            "partiallyFillable": False,
            "sellTokenBalance": "erc20",
            "buyTokenBalance": "erc20",
            "signingScheme": "eip1271",
        },
        "from": asked.body["from"].lower(),
        "expiration": "2026-11-21T18:35:18.814523Z",
        "id": 575_401,
        "verified": False,
    }


COW_NONE = {"errorType": "NoLiquidity", "description": "no route found"}  # status 404, the same file

# ---------------------------------------------------------------- UniswapX


def uniswapx(asked: Asked, start: int, end: int, fee: int = 0) -> dict[str, Any]:
    """`POST /v1/quote`: api-docs.uniswap.org, API reference, "Get a quote", the Dutch order of its example."""
    body = asked.body

    def output(first: int, last: int, to: str) -> dict[str, Any]:
        return {"startAmount": str(first), "endAmount": str(last), "token": body["tokenOut"], "recipient": to}

    outputs = [output(start, end, body["swapper"])]
    outputs += [output(fee, fee, "0x" + "fe" * 20)] if fee else []
    return {
        "requestId": "fb9ce7e5-f2ad-4c4d-9b0b-0e7a7c0f6f36",
        "routing": "DUTCH_V2",
        "permitData": {"domain": {}, "types": {}, "values": {}},
        "quote": {
            "encodedOrder": "0x00",
            "orderId": "0x" + "01" * 32,
            "orderInfo": {
                "chainId": body["tokenInChainId"],
                "nonce": "1993352342",
                "reactor": "0x" + "02" * 20,
                "swapper": body["swapper"],
                "deadline": 1_900_000_000,
                "additionalValidationContract": "0x" + "00" * 20,
                "additionalValidationData": "0x",
                "cosigner": "0x" + "03" * 20,
                "input": {
                    "startAmount": body["amount"],
                    "endAmount": body["amount"],
                    "token": body["tokenIn"],
                },
                "outputs": outputs,
            },
            "portionBips": 0,
            "portionAmount": "0",
        },
    }


UNISWAPX_NONE = {"errorCode": "ResourceNotFound", "detail": "No quotes available", "id": "a1b2"}  # status 404
