"""What every request passes: a request id, the host's name, size and rate limits, ETags, headers, errors in JSON."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offchain.api.problems import explained, problem_response

__all__ = ["CSP", "Edge", "Rates"]

MOST_BODY = 128 * 1024  # bytes
HEAVY = (
    "/lots",
    "/plan",
    "/quotes/zap-in",
    "/quotes/zap-out",
    "/prepared-calls",
)  # ends of paths that cost the node a lot
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin-allow-popups",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(self), hid=(self)",
}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rates:
    """Requests a minute and client address: JSON-RPC calls count one by one, quotes and plans apart."""

    requests: int = 600
    quotes: int = 60
    rpc_calls: int = 3_000


class Edge:
    """ASGI middleware; the first that a request meets."""

    def __init__(self, app: ASGIApp, *, rates: Rates, hosts: Sequence[str] = ()) -> None:
        self._app, self._hosts = app, [host.lower() for host in hosts]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._rates = {
            "requests": RateLimitItemPerMinute(rates.requests),
            "quotes": RateLimitItemPerMinute(rates.quotes),
            "rpc": RateLimitItemPerMinute(rates.rpc_calls),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(scope, send, request_id)
        try:
            refused = self._refused(scope)
            body = b"" if refused else await _body(receive)
            if body is None:
                refused = ("payload_too_large", f"at most {MOST_BODY} bytes", {})
            if refused:
                code, detail, headers = refused
                await problem_response(code, detail, request_id, headers=headers)(scope, receive, answer.send)
                return
            scope["state"]["spend"] = lambda kind, cost: self._spend(scope, kind, cost)
            await self._app(scope, _replayed(body or b"", receive), answer.send)
        except Exception as error:  # the last line of defence: nothing of it may reach the caller
            if answer.started:
                raise
            told = explained(error)
            _log.error("request failed", code=told.code, request_id=request_id, exc_info=error)
            await problem_response(told.code, told.detail, request_id)(scope, receive, answer.send)

    def _refused(self, scope: Scope) -> tuple[str, str, Mapping[str, str]] | None:
        host = Headers(scope=scope).get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._hosts and name.lower() not in self._hosts:
            return "host_not_allowed", "this server does not answer to that name (setting api_hosts)", {}
        path: str = scope["path"]
        kind = "quotes" if path.startswith("/v1") and path.endswith(HEAVY) else "requests"
        if path in ("/rpc", "/healthz", "/readyz"):
            return None
        wait = self._spend(scope, kind, 1)
        if wait is None:
            return None
        return "rate_limited", f"too many requests; try again in {wait} s", {"retry-after": str(wait)}

    def _spend(self, scope: Scope, kind: str, cost: int) -> int | None:
        """Count `cost` requests; the seconds to wait where they are too many."""
        client = scope["client"][0] if scope.get("client") else "unknown"
        rate = self._rates[kind]
        if self._limiter.hit(rate, kind, client, cost=cost):
            return None
        reset = self._limiter.get_window_stats(rate, kind, client).reset_time
        return max(1, int(reset - time.time()) + 1)


class _Answer:
    """Sends on what the application answers, with headers; a GET's JSON gets an ETag."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope, self._send, self._request_id = scope, send, request_id
        self._held: Message | None = None  # the start, while the body is gathered
        self._body = bytearray()
        self.started = False

    async def send(self, message: Message) -> None:
        """One ASGI message."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            for name, value in SECURITY.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["cache-control"] = "no-cache"
            if self._gets_etag(message):
                self._held = message
                return
        elif self._held is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            await self._send_tagged()
            return
        self.started = True
        await self._send(message)

    def _gets_etag(self, start: Message) -> bool:
        path: str = self._scope["path"]
        return self._scope["method"] == "GET" and start["status"] == 200 and path.startswith("/v1/")

    async def _send_tagged(self) -> None:
        start, body = self._held, bytes(self._body)
        assert start is not None
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = MutableHeaders(scope=start)
        headers["etag"] = etag
        asked = Headers(scope=self._scope).get("if-none-match", "")
        if asked == "*" or etag in [tag.strip().removeprefix("W/") for tag in asked.split(",")]:
            start["status"], body = 304, b""
            for name in ("content-length", "content-type"):
                if name in headers:
                    del headers[name]
        self.started = True
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes | None:
    """The request's body; None where it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
