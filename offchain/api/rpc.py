"""JSON-RPC passed on to the node, so that the page needs no third party: reads, and transactions that are signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from offchain.api.problems import Problem
from offchain.api.source import Source
from offchain.chain.errors import NODE_ERRORS
from offchain.chain.events import BLOCKS_PER_REQUEST

__all__ = ["METHODS", "MOST_CALLS", "pass_on"]

METHODS = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction",
        "eth_syncing",
        "net_version",
    }
)
MOST_CALLS = 50  # in a batch
MOST_BLOCKS = BLOCKS_PER_REQUEST  # of eth_getLogs
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, LIMIT, INTERNAL = (
    -32700,
    -32600,
    -32601,
    -32602,
    -32005,
    -32603,
)


def pass_on(source: Source, body: bytes, spend: Callable[[str, int], int | None]) -> Any:
    """The answer to a call or a batch of them, as JSON values; None where none is due.

    `spend("rpc", n)` counts n calls and says how many seconds to wait where they are too many: then `Problem`.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return _error(None, PARSE_ERROR, "the body is not JSON")
    calls = asked if isinstance(asked, list) else [asked]
    if not calls:
        return _error(None, INVALID_REQUEST, "an empty batch")
    if len(calls) > MOST_CALLS:
        return _error(None, LIMIT, f"at most {MOST_CALLS} calls in a batch")
    wait = spend("rpc", len(calls))
    if wait is not None:
        raise Problem(
            "rate_limited", f"too many calls; try again in {wait} s", headers={"retry-after": str(wait)}
        )
    answers = [answer for call in calls if (answer := _answer(source, call)) is not None]
    return answers or None if isinstance(asked, list) else (answers[0] if answers else None)


def _answer(source: Source, call: Any) -> Any:
    if not isinstance(call, dict) or not isinstance(call.get("method"), str):
        return _error(None, INVALID_REQUEST, "not a JSON-RPC call")
    number, method, params = call.get("id"), call["method"], call.get("params", [])
    if isinstance(number, dict | list | bool):
        return _error(None, INVALID_REQUEST, "id: must be a number or a string")
    if method not in METHODS:
        return _error(number, NO_METHOD, "this method is not passed on")
    if not isinstance(params, list):
        return _error(number, INVALID_PARAMS, "params: must be a list")
    try:
        if method == "eth_getLogs" and (refused := _refused_range(source, params)):
            return _error(number, *refused)
        answer = source.request(method, params)
    except NODE_ERRORS as error:
        return _error(number, INTERNAL, f"the node does not answer ({type(error).__name__})")
    if "id" not in call:
        return None
    said = {"error": answer["error"]} if "error" in answer else {"result": answer.get("result")}
    return {"jsonrpc": "2.0", "id": number} | said


def _refused_range(source: Source, params: list[Any]) -> tuple[int, str] | None:
    """Why a range of logs is not asked for: its code and message."""
    wanted = params[0] if params else None
    if not isinstance(wanted, dict):
        return INVALID_PARAMS, "params: a filter is missing"
    if "blockHash" in wanted:
        return None
    try:
        first, last = (_block(source, wanted.get(name)) for name in ("fromBlock", "toBlock"))
    except (ValueError, TypeError):
        return INVALID_PARAMS, "fromBlock, toBlock: must be block numbers or tags"
    if last - first >= MOST_BLOCKS:
        return LIMIT, f"at most {MOST_BLOCKS} blocks at once"
    return None


def _block(source: Source, value: Any) -> int:
    if value == "earliest":
        return 0
    if value in (None, "latest", "pending", "safe", "finalized"):
        return source.newest().number
    return int(value, 16)


def _error(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
