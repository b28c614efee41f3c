"""One or several nodes behind one web3 provider: `Web3(Nodes(["https://…", "https://…"]))`.

A request goes to the first node in the list that is well, and on to the next where that one does not answer, answers
nonsense, or says that it cannot; never because of what is asked (a revert, a used nonce). A node that fails is left
alone for a while, ever longer. Nodes of another chain are refused, nodes behind the others are not read from, signed
transactions go to all of them, and `agree` compares what they say before anything is done about it.

No address of a node is written anywhere beyond its host: the rest may be a key.

What is decided without a network is in `offchain.chain.rpc_rules`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import aiohttp
import certifi
import structlog
from pydantic import SecretStr
from web3 import Web3
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from offchain.chain.errors import ChainError, ConfigError
from offchain.chain.rpc_rules import (
    LONGEST_PAUSE,
    Fault,
    Health,
    Kind,
    decoded,
    hidden,
    is_address,
    out_of_step,
    outvoted,
    quantity,
    rank,
    read_answer,
    read_batch,
    repeatable,
    secrets_of,
    short,
    speaker,
    usable,
)
from offchain.chain.vault import BlockRef

__all__ = ["NodeStatus", "Nodes", "NodesDisagree", "NodesUnavailable", "WrongChain", "agree", "nodes_from"]

T = TypeVar("T")

ROUNDS = 3  # times that all nodes are asked before "no node answers"
BETWEEN_ROUNDS = 0.2  # seconds, doubled each time
PROBE_EVERY = 12.0  # seconds between two looks at how far each node is
FIRST_LOOK = 5.0  # seconds that the first one may hold up
GRACE = 1.0  # seconds that a broadcast waits for the other nodes once one has accepted
CATCH_UP = 2.0  # seconds that a node which lacks a block is waited for
MOST_BYTES = 64 << 20  # of an answer

log = structlog.get_logger("evenkeel.rpc")


class NodesUnavailable(ChainError, ConnectionError):
    """No node answers, or too few to agree: look at the nodes that the message names; it is tried again."""


class NodesDisagree(ChainError):
    """The nodes say different things about one block: nothing is done until they agree. Is one on a fork, or hacked?

    `values`: what each said, by its position in rpc_urls; 0 is what the caller had read before.
    """

    def __init__(self, block: int, what: str, values: Mapping[int, str]) -> None:
        self.block, self.what, self.values = block, what, dict(values)
        said = ", ".join(f"{speaker(at)} {short(value)}" for at, value in sorted(values.items()))
        super().__init__(f"the nodes disagree on the {what} of block {block}: {said}; nothing is done")


class WrongChain(ConfigError):
    """A node is of another chain than the first, or than chain_id: correct its address."""


# ---------------------------------------------------------------- the network


class _Wire:
    """HTTP on one background thread; total time-outs and concurrent requests are asyncio's."""

    _loop: asyncio.AbstractEventLoop | None = None
    _process = 0  # that the loop's thread is in: a fork has none
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()  # nobody waits for them
        self._session: aiohttp.ClientSession | None = None
        self._session_loop: asyncio.AbstractEventLoop | None = None
        self._context: ssl.SSLContext | None = None

    @classmethod
    def loop(cls) -> asyncio.AbstractEventLoop:
        with cls._lock:
            if cls._loop is None or cls._process != os.getpid():
                cls._loop, cls._process = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=cls._loop.run_forever, name="evenkeel-rpc", daemon=True).start()
            return cls._loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for it from any thread."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def later(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start it, in the loop's thread."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen; whoever waits for it gets it

    async def post(self, url: str, body: bytes, most: int) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body. Raises aiohttp's errors, Fault where the answer is too long."""
        session = self._open()
        request = session.post(url, data=body, allow_redirects=False, ssl=self._tls(url))
        async with request as response:
            found = bytearray()
            async for part in response.content.iter_any():
                found += part
                if len(found) > most:
                    response.close()
                    raise Fault(Kind.MALFORMED, f"an answer of more than {most} bytes")
            return response.status, response.headers, bytes(found)

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session_loop is not loop:
            self._session_loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # set around each request
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,  # a small body cannot become a huge one
                trust_env=True,
            )
        return self._session

    def _tls(self, url: str) -> ssl.SSLContext | bool:
        """The system's authorities and those that requests brings along."""
        if not url.startswith("https:"):
            return True
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.load_verify_locations(certifi.where())
        return self._context

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        if self._session is not None:
            await self._session.close()
            self._session = None


def _close(wire: _Wire) -> None:
    """At the end of the process, or of the provider."""
    if wire._session is None or (loop := _Wire._loop) is None or not loop.is_running():
        return
    future = asyncio.run_coroutine_threadsafe(wire.close(), loop)
    try:
        if asyncio.get_running_loop() is loop:
            return
    except RuntimeError:
        with contextlib.suppress(Exception):
            future.result(2)


# ---------------------------------------------------------------- the provider


@dataclass(frozen=True)
class NodeStatus:
    """One node as it is seen from here, for metrics and for people."""

    position: int  # in rpc_urls, from 1
    url: str  # without its key
    healthy: bool  # read from, if it is its turn
    serving: bool  # the last one read from
    lagging: bool
    paused_seconds: float
    latency_seconds: float | None
    head: int | None
    requests: int
    errors: dict[str, int]  # by kind


Call = tuple[str, str] | tuple[str, str, str]  # to, data and, where it was read before, what it answered


class Nodes(JSONBaseProvider):
    """A web3 provider over several nodes; thread-safe. All state belongs to the wire's thread."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_seconds: float = 20,  # of one request to one node; all tries together: twice that
        max_lag_blocks: int = 5,
        quorum: int | None = None,
        chain_id: int | None = None,
        max_bytes: int = MOST_BYTES,
        setting: str = "rpc_urls",  # named in errors
    ) -> None:
        super().__init__()
        for at, url in enumerate(urls, 1):
            if not is_address(url):
                where = setting if len(urls) == 1 else f"{setting}, endpoint {at}"
                raise ConfigError(f"{where}: {hidden(url)!r} is not an http:// or https:// address")
        if not urls:
            raise ConfigError(f"{setting}: no address of a node")
        if quorum is not None and quorum > len(urls):
            raise ConfigError(f"rpc_quorum: {quorum} cannot agree where there are {len(urls)} endpoints")
        self._urls, self._setting = tuple(urls), setting
        self._secrets = [secrets_of(url) for url in urls]
        self._timeout, self._max_bytes = timeout_seconds, max_bytes
        self._max_lag, self._quorum, self._chain_id = max_lag_blocks, quorum, chain_id
        self._nodes = [Health(at) for at in range(1, len(urls) + 1)]
        self._current: int | None = None
        self._looked = False
        self._probed_at = float("-inf")
        self._first_look: asyncio.Lock | None = None
        self.request_counter = itertools.count(secrets.randbelow(1 << 31))  # no old answer fits a new request
        self._wire = _Wire()
        self._finalizer = weakref.finalize(self, _close, self._wire)

    def __repr__(self) -> str:
        return f"Nodes({', '.join(map(hidden, self._urls))})"

    # ------------------------------------------------------------ what web3 calls

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """One answer. Raises NodesUnavailable, WrongChain."""
        return cast(RPCResponse, self._wire.run(self._request(method, params or [])))

    def make_batch_request(self, requests: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse] | RPCResponse:
        """Answers in the order of the requests, all from one node."""
        return cast("list[RPCResponse] | RPCResponse", self._wire.run(self._request("batch", requests)))

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Whether a node answers. Raises WrongChain."""
        try:
            return "result" in self.make_request(RPCEndpoint("eth_chainId"), [])
        except NodesUnavailable:
            if show_traceback:
                raise
            return False

    # ------------------------------------------------------------ what the keeper calls

    def agree(self, block: BlockRef, calls: Sequence[Call] = ()) -> int:
        """How many nodes show this hash for that block, and the same answers to `calls` there.

        Raises NodesDisagree where any says otherwise, or where the node that was read from is behind; NodesUnavailable
        where fewer than the quorum answer. With one node there is nothing to compare.
        """
        if len(self._nodes) == 1:
            return 1
        return self._wire.run(self._agree(block, calls))

    def probe(self) -> None:
        """Ask all nodes how far they are, now."""
        self._wire.run(self._probe())

    def status(self) -> list[NodeStatus]:
        """Each node, in the order of rpc_urls. Nothing is asked."""
        now = _now()
        return [
            NodeStatus(
                position=node.position,
                url=hidden(url),
                healthy=not node.refused and not node.lagging and node.paused_until <= now,
                serving=node.position - 1 == self._current,
                lagging=node.lagging,
                paused_seconds=max(0.0, node.paused_until - now),
                latency_seconds=node.latency,
                head=node.head,
                requests=node.requests,
                errors={str(kind): count for kind, count in node.errors.items()},
            )
            for node, url in zip(self._nodes, self._urls, strict=True)
        ]

    def close(self) -> None:
        """End its connections; the next request opens them again."""
        _close(self._wire)

    # ------------------------------------------------------------ one request

    async def _request(self, method: str, params: Any) -> Any:
        await self._look_first()
        if method == "eth_sendRawTransaction":
            return await self._rounds(method, lambda until: self._broadcast(params, until))
        if method == "eth_blockNumber" or (method == "eth_getBlockByNumber" and params[0] == "latest"):
            self._probe_now_and_then()
        if not repeatable(method):
            return await self._once(method, params)
        return await self._rounds(method, lambda until: self._read(method, params, until))

    async def _rounds(
        self, method: str, ask: Callable[[float], Coroutine[Any, Any, tuple[Any, Kind | None]]]
    ) -> Any:
        """Ask until there is an answer, three times at most, within twice a request's time."""
        until = _now() + 2 * self._timeout
        pause, answer = BETWEEN_ROUNDS, None
        for _ in range(ROUNDS):
            found, why = await ask(until)
            answer = found or answer
            waits_for_block = why == Kind.NO_BLOCK and len(self._nodes) > 1
            if found is not None and not waits_for_block:
                return found
            wait = max(pause, self._patience())
            if wait > self._timeout or _now() + wait > until:
                break
            await asyncio.sleep(wait)
            pause *= 2
        if answer is not None:
            return answer
        raise self._unavailable(method)

    async def _read(self, method: str, params: Any, until: float) -> tuple[Any, Kind | None]:
        """Node by node. What the first said where all say that they do not have it; None where none answers."""
        spare: tuple[Any, Kind | None] = (None, None)
        order = self._order()
        for turn, i in enumerate(order):
            share = (until - _now()) / (len(order) - turn)
            if share <= 0:
                break
            try:
                answer, elsewhere = await self._ask(i, method, params, min(self._timeout, share))
            except Fault:
                continue
            if spare[0] is None:
                self._serves(i)
            if elsewhere is None:
                return answer, None
            if spare[0] is None:
                spare = answer, elsewhere
        return spare

    def _patience(self) -> float:
        """Seconds until the first node may be asked again, 0 where one may be now: what they ask for is given."""
        waits = [node.asked_until - _now() for node in self._nodes if not node.refused and not node.lagging]
        return max(0.0, min(waits, default=0.0))

    async def _once(self, method: str, params: Any) -> Any:
        """What must not be repeated goes to one node, once."""
        for i in self._order()[:1]:
            try:
                return (await self._ask(i, method, params, self._timeout))[0]
            except Fault:
                break
        raise self._unavailable(method)

    async def _broadcast(self, params: Any, until: float) -> tuple[Any, Kind | None]:
        """A signed transaction, to every node that is well: the best of what they say.

        That it is accepted or known, else that it is refused, else that the node cannot.
        """
        now = _now()
        targets = [i for i, node in enumerate(self._nodes) if not node.refused and node.paused_until <= now]
        method, seconds = "eth_sendRawTransaction", min(self._timeout, until - now)
        waiting = {self._wire.later(self._ask(i, method, params, seconds)) for i in targets or self._order()}
        best: tuple[int, Any] = (9, None)
        while waiting:
            grace = GRACE if best[0] < 2 else None
            done, waiting = await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break  # the rest goes on by itself
            for task in done:
                if task.exception() is None:
                    answer, elsewhere = task.result()
                    best = min(best, (rank(answer, elsewhere), answer), key=lambda ranked: ranked[0])
        return best[1], None

    async def _ask(self, i: int, method: str, params: Any, seconds: float) -> tuple[Any, Kind | None]:
        """One request to one node, and what it says about the node. Raises Fault."""
        node, start = self._nodes[i], _now()
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._same_chain(i)
                found = await self._exchange(i, method, params)
                if method == "eth_chainId":
                    await self._check_chain(i, found[0])
        except Fault as fault:
            node.failed(_now(), fault)
            raise
        except Exception as error:
            other = Fault(*_network(error))
            node.failed(_now(), other)
            raise other from None  # aiohttp's own has the address
        node.succeeded(_now() - start)
        if found[1] is not None and found[1] != Kind.NOT_FOUND:
            node.errors[found[1]] += 1
        self._note_head(node, method, found[0])
        return found

    async def _exchange(self, i: int, method: str, params: Any) -> tuple[Any, Kind | None]:
        batch = method == "batch"
        body = (
            self.encode_batch_rpc_request(params)
            if batch
            else self.encode_rpc_request(RPCEndpoint(method), params)
        )
        try:
            status, headers, raw = await self._wire.post(self._urls[i], body, self._max_bytes)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) or not repeatable(method):
                raise
            # perhaps a kept connection that the node has just closed
            status, headers, raw = await self._wire.post(self._urls[i], body, self._max_bytes)
        sent = json.loads(body)
        answer = decoded(status, headers, raw)
        self._scrub(i, answer)
        if batch and isinstance(answer, list):
            return read_batch(params, [int(item["id"]) for item in sent], answer)
        try:
            ident, parameters = (None, []) if batch else (sent["id"], params)
            found, why = read_answer(method, parameters, answer, cast(int, ident))
        except Fault as fault:
            raise (fault if status == 200 else Fault(Kind.HTTP, f"HTTP {status}")) from None
        if batch and "error" not in found:
            raise Fault(Kind.MALFORMED, "one answer to a batch")
        return found, why

    def _scrub(self, i: int, answer: Any) -> None:
        """Take the node's key out of the words of its errors."""
        for item in answer if isinstance(answer, list) else [answer]:
            error = item.get("error") if isinstance(item, dict) else None
            if isinstance(error, dict) and isinstance(error.get("message"), str):
                for secret in self._secrets[i]:
                    error["message"] = error["message"].replace(secret, "…")

    # ------------------------------------------------------------ which node

    def _order(self) -> list[int]:
        return usable(self._nodes, _now())

    def _serves(self, i: int) -> None:
        """Say it once when another node is read from."""
        before, self._current = self._current, i
        if before is None or before == i:
            return
        left = self._nodes[before]
        reason = (
            left.refused or left.fault or ("behind the others" if left.lagging else "a preferred one is well")
        )
        log.warning("reading from another node", node=self._name(i), before=self._name(before), reason=reason)

    def _name(self, i: int) -> str:
        return f"endpoint {i + 1} ({hidden(self._urls[i])})"

    def _unavailable(self, method: str) -> ChainError | ConfigError:
        """Why nobody has answered."""
        if all(node.refused for node in self._nodes):
            return WrongChain(f"{self._setting}: " + "; ".join(node.refused for node in self._nodes))
        now, said = _now(), []
        for i, node in enumerate(self._nodes):
            why = node.refused or node.fault or ("behind the others" if node.lagging else "not asked")
            if node.asked_until > now:
                why += f", asks for {node.asked_until - now:.0f} s of patience"
            said.append(f"{self._name(i)}: {why}")
        what = "a batch" if method == "batch" else method
        return NodesUnavailable(f"{self._setting}: no node answers {what}: {'; '.join(said)}")

    # ------------------------------------------------------------ chain and heads

    async def _look_first(self) -> None:
        """Before anything is believed: which chain is each node of? Several are compared, one only with chain_id."""
        if self._looked:
            return
        if self._first_look is None:
            self._first_look = asyncio.Lock()
        async with self._first_look:
            if self._looked or (len(self._nodes) == 1 and self._chain_id is None):
                self._looked = True
                return
            asked = [self._ask_chain(i, min(FIRST_LOOK, self._timeout)) for i in range(len(self._nodes))]
            found = {i: chain for i, chain in enumerate(await asyncio.gather(*asked)) if chain is not None}
            if not found:
                return  # each is asked again before it is used
            expected = self._chain_id or next(iter(found.values()))
            for i, chain in found.items():
                if chain != expected:
                    raise WrongChain(f"{self._setting}: {self._of_chain(i, chain, expected)}")
            for i, chain in found.items():
                self._nodes[i].chain_id = chain
            self._chain_id, self._looked = expected, True
        await self._probe()

    async def _ask_chain(self, i: int, seconds: float) -> int | None:
        """None where the node does not answer."""
        start = _now()
        try:
            async with asyncio.timeout(seconds):
                answer, _ = await self._exchange(i, "eth_chainId", [])
                again, _ = await self._exchange(i, "eth_chainId", [])
            if answer.get("result") != again.get("result"):
                raise Fault(Kind.MALFORMED, "two chain ids")
        except Exception as error:
            self._nodes[i].failed(_now(), error if isinstance(error, Fault) else Fault(*_network(error)))
            return None
        self._nodes[i].succeeded(_now() - start)
        return int(answer["result"], 16) if "result" in answer else None

    async def _same_chain(self, i: int) -> None:
        """Fault, for good, if the node is of another chain than the others; asked before its first use."""
        node = self._nodes[i]
        if node.chain_id is not None or (len(self._nodes) == 1 and self._chain_id is None):
            return
        await self._check_chain(i, (await self._exchange(i, "eth_chainId", []))[0])

    async def _check_chain(self, i: int, answer: dict[str, Any]) -> None:
        """Fault, for good, if that is another chain than the one that is known. What is new has to be said twice."""
        node = self._nodes[i]
        if "result" not in answer:
            raise Fault(Kind.NODE, "no chain id")
        chain = int(answer["result"], 16)
        if chain != self._chain_id:
            again, _ = await self._exchange(i, "eth_chainId", [])
            if again.get("result") != answer["result"]:
                raise Fault(Kind.MALFORMED, "two chain ids")
        expected = self._chain_id = self._chain_id or chain
        if chain != expected:
            node.refused = self._of_chain(i, chain, expected)
            log.error("node refused", node=self._name(i), reason=node.refused)
            raise Fault(Kind.CHAIN, node.refused)
        node.chain_id = chain

    def _of_chain(self, i: int, chain: int, expected: int) -> str:
        return f"endpoint {i + 1} ({hidden(self._urls[i])}) is of chain {chain}, not {expected}"

    def _note_head(self, node: Health, method: str, answer: Any) -> None:
        if isinstance(answer, dict) and method == "eth_blockNumber" and "result" in answer:
            node.head = int(answer["result"], 16)
        elif (
            isinstance(answer, dict)
            and method == "eth_getBlockByNumber"
            and isinstance(answer.get("result"), dict)
        ):
            number = answer["result"].get("number")
            if quantity(number):
                node.head = max(node.head or 0, int(number, 16))

    def _probe_now_and_then(self) -> None:
        if len(self._nodes) > 1 and _now() - self._probed_at >= PROBE_EVERY:
            self._probed_at = _now()
            self._wire.later(self._probe())

    async def _probe(self) -> None:
        """How far is each node that is well, and who is not near the newest?"""
        self._probed_at = _now()
        asked = [i for i, node in enumerate(self._nodes) if not node.refused and node.paused_until <= _now()]
        heads = await asyncio.gather(*(self._head(i, min(FIRST_LOOK, self._timeout)) for i in asked))
        self._mark({i: head for i, head in zip(asked, heads, strict=True) if head is not None})

    async def _head(self, i: int, seconds: float) -> int | None:
        try:
            answer, _ = await self._ask(i, "eth_blockNumber", [], seconds)
        except Fault:
            return None
        return int(answer["result"], 16) if "result" in answer else None

    def _mark(self, heads: Mapping[int, int]) -> None:
        """Who is behind, of heads asked for at one time. A node that does not answer now has not gone back since."""
        behind = out_of_step(heads, self._max_lag)
        others = [
            node.head or 0
            for i, node in enumerate(self._nodes)
            if i not in heads and not node.refused and not node.lagging
        ]
        behind |= {i for i, head in heads.items() if head < max(others, default=0) - self._max_lag}
        for i in heads:
            if self._nodes[i].lagging != (i in behind):
                self._nodes[i].lagging = i in behind
                word = "node is behind the others" if i in behind else "node has caught up"
                log.warning(word, node=self._name(i), head=heads[i], newest=max(heads.values()))

    # ------------------------------------------------------------ agreement

    async def _agree(self, block: BlockRef, calls: Sequence[Call]) -> int:
        await self._look_first()
        now = _now()
        asked = [i for i, node in enumerate(self._nodes) if not node.refused and node.paused_until <= now]
        said = await asyncio.gather(*(self._testify(i, block.number, calls) for i in asked))
        heads = {i: heard[0] for i, heard in zip(asked, said, strict=True) if heard is not None}
        states = {i: heard[1] for i, heard in zip(asked, said, strict=True) if heard is not None and heard[1]}
        self._mark(heads)
        if self._current in heads and self._nodes[self._current].lagging:
            raise NodesDisagree(block.number, "newest block", {i + 1: str(head) for i, head in heads.items()})
        needed = self._quorum or 1
        if len(states) < needed:
            detail = (
                f"{len(states)} of {len(self._nodes)} answer for block {block.number}, {needed} must agree"
            )
            raise NodesUnavailable(f"rpc_quorum: {detail}")
        before = [block.hash.lower(), *(call[2].lower() if len(call) == 3 else None for call in calls)]
        for n, read in enumerate(before):
            values = {i: state[n] for i, state in states.items()}
            if len({*values.values(), *([] if read is None else [read])}) == 1:
                continue
            self._put_aside(outvoted(values, self._quorum))
            seen = {i + 1: value for i, value in values.items()} | ({} if read is None else {0: read})
            raise NodesDisagree(block.number, "hash" if n == 0 else f"state (call {n})", seen)
        return len(states)

    def _put_aside(self, nodes: set[int]) -> None:
        for i in nodes:
            self._nodes[i].failed(_now(), Fault(Kind.DISAGREES), first_pause=LONGEST_PAUSE)
            log.warning("node contradicts the others", node=self._name(i), paused_seconds=LONGEST_PAUSE)

    async def _testify(self, i: int, number: int, calls: Sequence[Call]) -> tuple[int, list[str]] | None:
        """The node's newest block, and its hash and answers at block `number`: none where it lacks the block.

        None where it does not answer.
        """
        head = await self._head(i, self._timeout)
        if head is None:
            return None
        try:
            async with asyncio.timeout(2 * self._timeout):
                return head, await self._state(i, head, number, calls)
        except (Fault, TimeoutError):
            return None

    async def _state(self, i: int, head: int, number: int, calls: Sequence[Call]) -> list[str]:
        give_up = _now() + min(CATCH_UP, self._timeout)
        while True:
            block, _ = await self._ask(i, "eth_getBlockByNumber", [hex(number), False], self._timeout)
            if isinstance(block.get("result"), dict):
                break
            if _now() > give_up or head < number - self._max_lag:
                return []
            await asyncio.sleep(BETWEEN_ROUNDS)
        state = [str(block["result"]["hash"]).lower()]
        for to, data, *_ in calls:
            request = [{"to": to, "data": data}, hex(number)]
            answer, elsewhere = await self._ask(i, "eth_call", request, self._timeout)
            if elsewhere is not None:
                return []
            state.append(str(answer.get("result", "reverted")).lower())
        return state


def agree(web3: Web3, block: BlockRef, calls: Sequence[Call] = ()) -> int:
    """`Nodes.agree` of the nodes behind `web3`; 1 where there is only one, of whatever provider."""
    return web3.provider.agree(block, calls) if isinstance(web3.provider, Nodes) else 1


class NodeSettings(Protocol):
    """The settings that `nodes_from` reads (offchain.settings.Settings has them)."""

    rpc_urls: list[SecretStr]
    rpc_timeout_seconds: float
    rpc_max_lag_blocks: int
    rpc_quorum: int | None
    chain_id: int | None

    @property
    def nodes(self) -> list[str]:
        """Their addresses."""


def nodes_from(settings: NodeSettings) -> Nodes:
    """The nodes that the settings name. Raises ConfigError."""
    return Nodes(
        settings.nodes,
        timeout_seconds=settings.rpc_timeout_seconds,
        max_lag_blocks=settings.rpc_max_lag_blocks,
        quorum=settings.rpc_quorum,
        chain_id=settings.chain_id,
        setting="rpc_urls" if settings.rpc_urls else "rpc_url",
    )


def _now() -> float:
    return time.monotonic()


def _network(error: Exception) -> tuple[Kind, str]:
    """What went wrong on the way, without the address."""
    if isinstance(error, TimeoutError):
        return Kind.TIMEOUT, "no answer in time"
    if isinstance(error, aiohttp.ClientPayloadError):
        return Kind.MALFORMED, "the answer broke off"
    if isinstance(error, OSError | aiohttp.ClientConnectionError):
        return Kind.CONNECTION, type(error).__name__
    return Kind.MALFORMED, type(error).__name__
