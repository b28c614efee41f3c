"""What goes wrong, as problem+json (RFC 9457) with a code that programs can rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from web3.exceptions import Web3Exception

from offchain.audit.chain import AuditBreak
from offchain.audit.lots import LotError
from offchain.chain.errors import NODE_ERRORS, ChainError, ConfigError
from offchain.errors import EvenkeelError, PlannerError, PolicyError

__all__ = ["CODES", "CannotRoute", "Problem", "add_handlers", "problem_response"]

MEDIA_TYPE = "application/problem+json"
# Each code's status and title; docs/api.md says when.
CODES: dict[str, tuple[int, str]] = {
    "invalid_request": (422, "The request is not valid"),
    "invalid_address": (400, "Not an address"),
    "not_a_vault": (404, "No such vault"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "not_acceptable": (406, "Not acceptable"),
    "cannot_route": (409, "The pools cannot do this exchange"),
    "cannot_plan": (409, "No plan or quote is possible now"),
    "history_broken": (409, "The vault's history cannot be followed"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "The API key lacks the scope"),
    "host_not_allowed": (400, "This host name is not served"),
    "idempotency_in_flight": (409, "The first request with this key is still at work"),
    "idempotency_mismatch": (422, "This key came with another request"),
    "address_not_allowed": (422, "Webhooks may not be sent there"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body must be JSON"),
    "bad_request": (400, "Bad request"),
    "rate_limited": (429, "Too many requests"),
    "node_unavailable": (502, "The node does not answer"),
    "internal": (500, "A bug"),
}
_BY_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    415: "unsupported_media_type",
}
_log = structlog.get_logger(__name__)


class CannotRoute(PlannerError):
    """The pools do not lead there, or not with that much: another token, or a smaller amount."""


class Problem(EvenkeelError):
    """A request that cannot be answered as asked: its code, one sentence, and which fields."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors, self.headers = code, detail, list(errors), dict(headers or {})


def problem_response(
    code: str,
    detail: str,
    request_id: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer of that code."""
    status, title = CODES[code]
    body: dict[str, Any] = {
        "type": f"urn:evenkeel:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = list(errors)
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def explained(error: Exception) -> Problem:
    """What to tell the caller of an error; a `Problem` of code `internal` for one that is a bug here."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, "bad_request" if error.status_code < 500 else "internal")
            said = error.detail or HTTPStatus(error.status_code).phrase
            return Problem(code, str(said), headers=error.headers)
        case CannotRoute():
            return Problem("cannot_route", str(error))
        case AuditBreak() | LotError():
            return Problem("history_broken", str(error))
        case PlannerError() | PolicyError():
            return Problem("cannot_plan", str(error))
        case ChainError() | Web3Exception():
            return Problem("node_unavailable", f"the node's answer cannot be used ({type(error).__name__})")
        case ConfigError():
            return Problem("invalid_request", str(error))
    if isinstance(error, NODE_ERRORS):
        return Problem("node_unavailable", f"the node does not answer ({type(error).__name__})")
    return Problem("internal", "something went wrong here; quote the request_id")


def add_handlers(app: FastAPI, allowed: Callable[[str], set[str]]) -> None:
    """Every error of the application becomes problem+json. `allowed`: the methods that a path answers to."""

    def handle(request: Request, error: Exception) -> JSONResponse:
        request_id = str(request.state.request_id)
        told = explained(error)
        if told.code == "method_not_allowed":  # the framework names those of one route only
            told.headers = {"allow": ", ".join(sorted(allowed(request.url.path) or {"GET"}))}
        if told.code in ("internal", "node_unavailable"):
            _log.error("request failed", code=told.code, request_id=request_id, exc_info=error)
        return problem_response(told.code, told.detail, request_id, errors=told.errors, headers=told.headers)

    for kind in (EvenkeelError, RequestValidationError, HTTPException, *NODE_ERRORS):
        app.add_exception_handler(kind, handle)


def _invalid(error: RequestValidationError) -> Problem:
    """Each wrong field in words. What was sent is not repeated: it may be anything."""
    found = []
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part not in ("query", "path", "body", "header")]
        message = str(item["msg"]).removeprefix("Value error, ")
        found.append({"field": ".".join(place) or "body", "message": message})
    if found and all(item["message"].startswith("address:") for item in found):
        return Problem("invalid_address", f"{found[0]['field']}: {found[0]['message'][9:]}", errors=found)
    said = "; ".join(f"{item['field']}: {item['message']}" for item in found[:5])
    return Problem("invalid_request", said, errors=found)
