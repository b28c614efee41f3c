"""A node asked for much: calls in batches and logs in ranges, halved where it refuses; blocks by their time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from offchain.backtest.errors import BacktestError
from offchain.data.cache import Span
from offchain.data.settings import DataSettings
from offchain.data.table import Ints, day_of

__all__ = ["Node", "Refused", "call_of", "until_head"]

ATTEMPTS = 4  # at a node that does not answer
BUSY = (429, 502, 503)  # HTTP: worth waiting for
GATEWAY_TIMEOUT = 504
RATE_LIMIT = ("too many requests", "rate limit", "requests per second", "compute units", "throughput")


class Refused(Exception):
    """The node answered that it will not; the message is its own."""


class Busy(Exception):
    """The node asks for less, later, or cannot be reached."""


class Node:
    """JSON-RPC by HTTP."""

    def __init__(self, settings: DataSettings) -> None:
        self.url = settings.node()
        kwargs = {"timeout": settings.rpc_timeout_seconds}
        self._provider = HTTPProvider(self.url, request_kwargs=kwargs, exception_retry_configuration=None)
        self._batch = self._most_calls = settings.calls_per_request
        self._range = self._most_blocks = settings.blocks_per_request
        self.chain_id = int(self.ask("eth_chainId"), 16)
        self.genesis = str(self.ask("eth_getBlockByNumber", "0x0", False)["hash"])
        self.key = {"chain": self.chain_id, "genesis": self.genesis}  # what makes it another chain
        self.head = max(int(self.ask("eth_blockNumber"), 16) - settings.confirmations, 0)
        self._times: dict[int, int] = {}  # timestamp of each block seen

    def ask(self, method: str, *params: Any) -> Any:
        """One answer. Refused with the node's words; BacktestError if the node cannot be reached."""
        return _patiently(
            lambda: _result(_sent(lambda: self._provider.make_request(RPCEndpoint(method), list(params))))
        )

    def ask_many(self, asked: Sequence[tuple[str, list[Any]]]) -> Iterator[Any]:
        """The answer to each, in order; what is refused is the exception Refused."""
        at = 0
        while at < len(asked):
            part = asked[at : at + self._batch]
            if len(part) == 1:
                yield self._or_refused(*part[0])
                at += 1
                continue
            try:
                answers = self._together(part)
            except (Refused, requests.Timeout):
                self._batch = max(len(part) // 2, 1)
                continue
            yield from map(_result_or_refused, answers)
            at += len(part)
            self._batch = min(self._batch * 2, self._most_calls)

    def _or_refused(self, method: str, params: list[Any]) -> Any:
        try:
            return self.ask(method, *params)
        except Refused as error:
            return error

    def call(self, to: str, data: str, block: int | str = "latest") -> bytes:
        """What a view answers. Refused if it reverts."""
        return bytes.fromhex(self.ask("eth_call", *call_of(to, data, block)).removeprefix("0x"))

    def logs(
        self, address: str, topics: Sequence[str], span: Span
    ) -> Iterator[tuple[Span, list[dict[str, Any]]]]:
        """Logs of any of the topics, range by range, ascending."""
        first, last = span
        while first <= last:
            until = min(first + self._range - 1, last)
            wanted = {
                "address": address,
                "topics": [list(topics)],
                "fromBlock": hex(first),
                "toBlock": hex(until),
            }
            try:
                found = self._one("eth_getLogs", wanted)
            except (Refused, requests.Timeout) as error:
                if until == first:
                    why = str(error) if isinstance(error, Refused) else "no answer in time"
                    raise BacktestError(f"data.rpc_url: eth_getLogs of block {first}: {why}") from None
                self._range = (until - first + 1) // 2
                continue
            yield (first, until), [log for log in found if not log.get("removed")]
            first = until + 1
            self._range = min(self._range * 2, self._most_blocks)

    def blocks_at(self, times: Ints) -> Ints:
        """(T,) the last block up to the head at or before each time, -1 before the first block.

        All are searched at a time, a batch a step: in turns between the blocks known around a time, where the time
        lies between theirs (blocks come at a steady pace) and in the middle.
        """
        self._know(sorted({0, min(1, self.head), self.head}))
        found = np.full(len(times), -1, dtype=np.int64)
        turn = 0
        while True:
            blocks = sorted(self._times)
            stamps = [self._times[block] for block in blocks]
            guesses = set()
            for i, time in enumerate(times.tolist()):
                at = bisect_right(stamps, time) - 1
                if at < 0:
                    continue
                low, high = blocks[at], blocks[min(at + 1, len(blocks) - 1)]
                if high - low <= 1:
                    found[i] = high if stamps[-1] <= time else low
                    continue
                share = 0.5 if turn % 3 == 2 else (time - stamps[at]) / (stamps[at + 1] - stamps[at])
                guess = low + int(share * (high - low))
                near = guess + 1 if turn % 3 == 1 else guess
                guesses.add(min(max(near, low + 1), high - 1))
            if not guesses:
                return found
            self._know(sorted(guesses))
            turn += 1

    def time_of(self, block: int) -> int:
        """A block's timestamp."""
        self._know([block])
        return self._times[block]

    def _know(self, blocks: Sequence[int]) -> None:
        new = [block for block in blocks if block not in self._times]
        asked: list[tuple[str, list[Any]]] = [("eth_getBlockByNumber", [hex(block), False]) for block in new]
        for block, header in zip(new, self.ask_many(asked), strict=True):
            if isinstance(header, Refused) or header is None:
                raise BacktestError(f"data.rpc_url: the node has no block {block}: {header}")
            self._times[block] = int(header["timestamp"], 16)

    def _one(self, method: str, *params: Any) -> Any:
        """As `ask`, but a timeout is the caller's matter."""
        request = RPCEndpoint(method), list(params)
        return _patiently(
            lambda: _result(_sent(lambda: self._provider.make_request(*request), timeouts=True))
        )

    def _together(self, part: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        batch = [(RPCEndpoint(method), params) for method, params in part]

        def send() -> list[Any]:
            answers = _sent(lambda: self._provider.make_batch_request(batch), timeouts=True)
            if not isinstance(answers, list) or len(answers) != len(part):
                _result(answers)
                raise Refused("not an answer for each call")
            if late := [answer for answer in answers if _is_rate_limit(answer)]:
                raise Busy(_words(late[0]))
            return answers

        found: list[Any] = _patiently(send)
        return found


def call_of(to: str, data: str, block: int | str = "latest") -> list[Any]:
    """The parameters of an eth_call."""
    return [{"to": to, "data": data}, block if isinstance(block, str) else hex(block)]


def _sent(send: Callable[[], Any], timeouts: bool = False) -> Any:
    """A node's raw answer; Refused if HTTP says no, Busy if another try may help, Timeout only where asked for."""
    try:
        return send()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if timeouts and status == GATEWAY_TIMEOUT:
            raise requests.Timeout from None
        text = error.response.text[:200] if error.response is not None else str(error)
        raise (Busy if status in BUSY else Refused)(f"HTTP {status}: {text}") from None
    except requests.Timeout as error:
        if timeouts and not isinstance(error, requests.ConnectTimeout):
            raise
        raise Busy("no answer in time") from None
    except (requests.RequestException, ConnectionError) as error:
        if timeouts and (
            isinstance(error, requests.exceptions.ChunkedEncodingError) or "Read timed out" in str(error)
        ):
            raise requests.Timeout from None  # the answer broke off: it was too long
        raise Busy(f"cannot be reached ({type(error).__name__})") from None
    except ValueError as error:  # not JSON
        raise Refused(f"not a node's answer: {error}") from None


def _patiently(send: Callable[[], Any]) -> Any:
    tries = Retrying(
        retry=retry_if_exception_type(Busy),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=0.25, max=10),
        reraise=True,
    )
    try:
        return tries(send)
    except Busy as error:
        raise BacktestError(f"data.rpc_url: the node: {error}") from None


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict) or answer.get("error") is not None or "result" not in answer:
        raise (Busy if _is_rate_limit(answer) else Refused)(_words(answer))
    return answer["result"]


def _words(answer: Any) -> str:
    """Of an error, the node's own."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)[:200]


def _is_rate_limit(answer: Any) -> bool:
    if isinstance(answer, dict) and answer.get("error") is None:
        return False
    words = _words(answer).lower()
    return any(word in words for word in RATE_LIMIT)


def _result_or_refused(answer: Any) -> Any:
    try:
        return _result(answer)
    except Refused as error:
        return error


def until_head(node: Node, end: int) -> None:
    """BacktestError if `end` is later than what the node knows for sure."""
    newest = node.time_of(node.head)
    if end >= newest:  # where blocks share a second, others may follow in it
        raise BacktestError(
            f"data.end: {day_of(end)} is not before {day_of(newest)}, the newest block that is read "
            f"({node.head}; confirmations says how far below the newest)"
        )
