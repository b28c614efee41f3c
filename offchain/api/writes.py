"""The routes that need an API key: webhooks and notes. A key sees what it made."""

# Without `from __future__ import annotations`: the routes' annotations name what `writes` makes.

import hashlib
import json
import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select, update
from starlette.concurrency import run_in_threadpool

from offchain.api import models, views
from offchain.api.models import Address
from offchain.api.paging import page
from offchain.api.problems import Problem
from offchain.api.routes import PROBLEM, Chain, Cursor, Limit, served
from offchain.api.store import ApiKey, Delivery, Note, Store, Webhook
from offchain.api.webhooks import address_of_url, test_message

__all__ = ["writes"]

MOST_WEBHOOKS = 20  # of one key
ROTATION_SECONDS = 86_400  # for which the old secret signs, too
EventType = Literal[
    "vault.rebalanced",
    "vault.session_opened",
    "vault.session_closed",
    "vault.rule_changed",
    "vault.minted_in_kind",
    "vault.redeemed_in_kind",
    "vault.issued",
    "vault.released",
]
Idempotency = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,200}$",
        description="a request with the same key and body gets the first one's answer, for a day",
    ),
]
WebhookId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
bearer = HTTPBearer(auto_error=False, description="`evenkeel api key create`", scheme_name="ApiKey")


class NewWebhook(models.Body):
    """Where events are to go."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    vaults: list[Address] = Field(min_length=1, max_length=100)
    events: list[EventType] = Field(default=[], max_length=20, description="empty: all")


class WebhookState(models.Answer):
    """A webhook, without its secret."""

    id: str
    url: str
    vaults: list[str]
    events: list[str]
    created_at: int
    disabled_at: int | None
    disabled_reason: str | None
    both_sign_until: int | None


class WebhookSecret(WebhookState):
    """The only answer that has the secret."""

    secret: str


class Webhooks(models.Answer):
    """A key's webhooks."""

    webhooks: list[WebhookState]


class DeliveryState(models.Answer):
    """A message, and what came of it."""

    event_id: str
    type: str
    attempts: int
    delivered_at: int | None
    next_at: int | None
    last_status: int | None
    last_error: str | None


class Deliveries(models.Answer):
    """Newest first."""

    deliveries: list[DeliveryState]
    next_cursor: str | None


class NewNote(models.Body):
    """What to write."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class NoteState(models.Answer):
    """What was written; shown as text, never as HTML."""

    id: int
    vault: str
    text: str
    created_at: int


class Notes(models.Answer):
    """Newest first."""

    block: models.Block
    notes: list[NoteState]
    next_cursor: str | None


def writes(store: Store, *, private: bool = False, clock: Callable[[], float] = time.time) -> APIRouter:
    """The routes over `store`. `private`: webhooks may go to private addresses, and by http."""
    routes = APIRouter(
        prefix="/v1", responses={"4XX": PROBLEM, "5XX": PROBLEM, 422: PROBLEM, 401: PROBLEM, 403: PROBLEM}
    )

    def now() -> int:
        return int(clock())

    def needs(scope: str) -> Any:
        def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> ApiKey:
            key = store.key(given.credentials) if given else None
            if key is None:
                challenge = {"www-authenticate": "Bearer"}
                raise Problem(
                    "unauthorized", "send `Authorization: Bearer` and an API key", headers=challenge
                )
            if scope not in key.scopes:
                raise Problem("forbidden", f"the key lacks the scope {scope}")
            return key

        return Depends(check)

    async def once(
        request: Request, key: ApiKey, name: str | None, status: int, do: Callable[[], BaseModel]
    ) -> Response:
        """The answer of `do`, or the first one with this idempotency key."""
        if name is None:
            return JSONResponse((await run_in_threadpool(do)).model_dump(mode="json"), status)
        said = [request.method.encode(), request.url.path.encode(), await request.body()]
        fingerprint = hashlib.sha256(b"\n".join(said)).hexdigest()
        return await run_in_threadpool(_once, store, key.id, name, fingerprint, now(), status, do)

    @routes.post("/webhooks", operation_id="create_webhook", status_code=201, response_model=WebhookSecret)
    async def create_webhook(
        source: Chain,
        request: Request,
        body: NewWebhook,
        key: Annotated[ApiKey, needs("webhooks:write")],
        idempotency_key: Idempotency = None,
    ) -> Any:
        """Send events there from now on. The secret is in this answer only."""

        def create() -> WebhookSecret:
            address_of_url(body.url, private=private)
            block = source.newest()
            vaults = [served(source, vault, block) for vault in dict.fromkeys(body.vaults)]
            row = Webhook(
                id=secrets.token_hex(8),
                key_id=key.id,
                url=body.url,
                secret=_new_secret(),
                previous_secret=None,
                previous_until=None,
                vaults=vaults,
                events=list(dict.fromkeys(body.events)),
                block=block.number,
                created_at=now(),
            )
            with store.session() as db:
                own = select(Webhook).where(Webhook.key_id == key.id, Webhook.disabled_at.is_(None))
                if len(list(db.scalars(own))) >= MOST_WEBHOOKS:
                    raise Problem(
                        "forbidden", f"a key has at most {MOST_WEBHOOKS} webhooks; delete one first"
                    )
                db.add(row)
            return WebhookSecret(**_state(row).model_dump(), secret=row.secret)

        return await once(request, key, idempotency_key, 201, create)

    @routes.get("/webhooks", operation_id="webhooks")
    def list_webhooks(key: Annotated[ApiKey, needs("webhooks:read")]) -> Webhooks:
        """The key's webhooks."""
        with store.session() as db:
            rows = db.scalars(select(Webhook).where(Webhook.key_id == key.id).order_by(Webhook.created_at))
            return Webhooks(webhooks=[_state(row) for row in rows])

    @routes.get("/webhooks/{webhook}", operation_id="webhook")
    def one_webhook(webhook: WebhookId, key: Annotated[ApiKey, needs("webhooks:read")]) -> WebhookState:
        """One of them."""
        return _state(_own(store, webhook, key))

    @routes.delete("/webhooks/{webhook}", operation_id="delete_webhook", status_code=204)
    def delete_webhook(webhook: WebhookId, key: Annotated[ApiKey, needs("webhooks:write")]) -> Response:
        """Send nothing there any more."""
        row = _own(store, webhook, key)
        with store.session() as db:
            for delivery in db.scalars(select(Delivery).where(Delivery.webhook_id == row.id)):
                db.delete(delivery)
            db.delete(db.merge(row))
        return Response(status_code=204)

    @routes.post("/webhooks/{webhook}/rotate", operation_id="rotate_webhook")
    def rotate_webhook(webhook: WebhookId, key: Annotated[ApiKey, needs("webhooks:write")]) -> WebhookSecret:
        """A new secret. For a day both sign."""
        row = _own(store, webhook, key)
        change = {
            "secret": _new_secret(),
            "previous_secret": row.secret,
            "previous_until": now() + ROTATION_SECONDS,
        }
        with store.session() as db:
            db.execute(update(Webhook).where(Webhook.id == row.id).values(**change))
        row = _own(store, webhook, key)
        return WebhookSecret(**_state(row).model_dump(), secret=row.secret)

    @routes.post("/webhooks/{webhook}/test", operation_id="test_webhook", status_code=202)
    def try_webhook(webhook: WebhookId, key: Annotated[ApiKey, needs("webhooks:write")]) -> DeliveryState:
        """Send a message of type `test`."""
        row = _own(store, webhook, key)
        event_id, kind, body = test_message(now())
        with store.session() as db:
            same = select(Delivery).where(Delivery.webhook_id == row.id, Delivery.event_id == event_id)
            sent = db.scalar(same)
            if sent is None:
                sent = Delivery(
                    webhook_id=row.id, event_id=event_id, type=kind, body=body, attempts=0, next_at=now()
                )
                db.add(sent)
        return _delivery(sent)

    @routes.get("/webhooks/{webhook}/deliveries", operation_id="deliveries")
    def deliveries(
        webhook: WebhookId,
        key: Annotated[ApiKey, needs("webhooks:read")],
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Deliveries:
        """What was sent, and what came of it."""
        row = _own(store, webhook, key)
        with store.session() as db:
            mine = select(Delivery).where(Delivery.webhook_id == row.id).order_by(Delivery.id)
            found = list(db.scalars(mine))
        here, after = page(found, lambda d: (d.id, 0), cursor, limit, newest_first=True)
        return Deliveries(deliveries=[_delivery(d) for d in here], next_cursor=after)

    @routes.post(
        "/vaults/{vault}/notes", operation_id="create_note", status_code=201, response_model=NoteState
    )
    async def create_note(
        source: Chain,
        request: Request,
        vault: Address,
        body: NewNote,
        key: Annotated[ApiKey, needs("notes:write")],
        idempotency_key: Idempotency = None,
    ) -> Any:
        """Write a note about a vault. It stays here: nothing of it goes to the chain."""

        def create() -> NoteState:
            served(source, vault, source.newest())
            row = Note(vault=vault, key_id=key.id, text=body.text, created_at=now())
            with store.session() as db:
                db.add(row)
            return _note(row)

        return await once(request, key, idempotency_key, 201, create)

    @routes.get("/vaults/{vault}/notes", operation_id="notes")
    def notes(
        source: Chain,
        vault: Address,
        key: Annotated[ApiKey, needs("notes:read")],
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Notes:
        """The key's notes about a vault."""
        block = source.newest()
        served(source, vault, block)
        with store.session() as db:
            mine = select(Note).where(Note.vault == vault, Note.key_id == key.id).order_by(Note.id)
            found = list(db.scalars(mine))
        here, after = page(found, lambda n: (n.id, 0), cursor, limit, newest_first=True)
        return Notes(block=views.block_of(block), notes=[_note(n) for n in here], next_cursor=after)

    return routes


def _once(
    store: Store, key_id: str, name: str, request: str, now: int, status: int, do: Callable[[], BaseModel]
) -> Response:
    before = store.begin(key_id, name, request, now)
    if before is not None:
        if before.request != request:
            raise Problem("idempotency_mismatch", "Idempotency-Key: was used with another request")
        if before.status is None:
            raise Problem("idempotency_in_flight", "Idempotency-Key: the first request is still at work")
        replayed = {"idempotency-replayed": "true"}
        return JSONResponse(json.loads(before.body), before.status, headers=replayed)
    try:
        body = do().model_dump(mode="json")
    except BaseException:
        store.forget(key_id, name, now)
        raise
    store.end(key_id, name, now, status, json.dumps(body))
    return JSONResponse(body, status)


def _own(store: Store, webhook: str, key: ApiKey) -> Webhook:
    """The key's webhook of that id; another key's does not exist."""
    with store.session() as db:
        row = db.get(Webhook, webhook)
    if row is None or row.key_id != key.id:
        raise Problem("not_found", f"no webhook {webhook}")
    return row


def _new_secret() -> str:
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def _state(row: Webhook) -> WebhookState:
    return WebhookState(
        id=row.id,
        url=row.url,
        vaults=row.vaults,
        events=row.events,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        both_sign_until=row.previous_until,
    )


def _delivery(row: Delivery) -> DeliveryState:
    return DeliveryState(**{name: getattr(row, name) for name in DeliveryState.model_fields})


def _note(row: Note) -> NoteState:
    return NoteState(id=row.id, vault=row.vault, text=row.text, created_at=row.created_at)
