"""Events sent to webhooks, signed as Standard Webhooks says, tried again for a day, never to a private address.

`Courier.round()` reads new events of the vaults that somebody listens to, writes what is to be sent into the store,
and sends what is due. An event is sent at least once; its id is the same every time.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog
from eth_utils.crypto import keccak
from sqlalchemy import select, update
from standardwebhooks import Webhook as Signer

from offchain.api.problems import Problem
from offchain.api.source import Event, Source
from offchain.api.store import Delivery, Store, Webhook
from offchain.chain.vault import BlockRef

__all__ = ["EVENTS", "Courier", "Resolve", "address_of_url", "message", "resolved", "signature"]

EVENTS = {
    "Rebalanced": "vault.rebalanced",
    "SessionOpened": "vault.session_opened",
    "SessionClosed": "vault.session_closed",
    "RuleChanged": "vault.rule_changed",
    "MintedInKind": "vault.minted_in_kind",
    "RedeemedInKind": "vault.redeemed_in_kind",
    "Issued": "vault.issued",
    "Released": "vault.released",
}
RETRIES = (
    5,
    300,
    1_800,
    7_200,
    18_000,
    36_000,
    50_400,
)  # seconds after each failed attempt; then it is given up
TIMEOUT = 10.0  # seconds of one attempt
GONE = 410  # the receiver wants no more
AT_ONCE = 50  # deliveries of one round
_log = structlog.get_logger(__name__)

Resolve = Callable[[str, int], Sequence[str]]


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def address_of_url(url: str, *, private: bool, resolve: Resolve = resolved) -> str:
    """The IP address to send to; Problem where `url` may not be sent to.

    Without `private`: https only, and every address of the host must be public. The caller connects to the address
    returned, so that a name cannot mean another one a moment later.
    """
    try:
        parts = httpx.URL(url)
        host, port = parts.raw_host.decode("ascii"), parts.port or (443 if parts.scheme == "https" else 80)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise Problem("address_not_allowed", "url: not an address") from None
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise Problem("address_not_allowed", "url: must begin with https://")
    if not host or parts.userinfo or not 0 < port < 2**16:
        raise Problem("address_not_allowed", "url: must name a host, a port if any, and no user or password")
    try:
        found = resolve(host, port)
        public = all(_is_public(address) for address in found)
    except (OSError, ValueError):
        raise Problem("address_not_allowed", "url: the host is not known") from None
    if not found or not (private or public):
        raise Problem("address_not_allowed", "url: the host has a private address")
    return found[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        if inner is not None and not _is_public(str(inner)):
            return False
    return ip.is_global and not ip.is_multicast


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in ipaddress.ip_network("64:ff9b::/96") else None


def signature(webhook: Webhook, event_id: str, at: datetime, body: str) -> str:
    """`webhook-signature`: by the secret, and by the one before while it is still good."""
    signing = [webhook.secret]
    if webhook.previous_secret and webhook.previous_until and at.timestamp() < webhook.previous_until:
        signing.append(webhook.previous_secret)
    return " ".join(Signer(secret).sign(event_id, at, body) for secret in signing)


def message(chain_id: int, vault: str, event: Event) -> tuple[str, str, str]:
    """An event's (id, type, body)."""
    place = f"{chain_id} {event.block.hash} {event.tx_hash} {event.log_index}"
    kind = EVENTS[event.name]
    body = {
        "type": kind,
        "timestamp": datetime.fromtimestamp(event.block.time, UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "chain_id": chain_id,
            "vault": vault,
            "block": {"number": event.block.number, "hash": event.block.hash, "time": event.block.time},
            "tx_hash": event.tx_hash,
            "log_index": event.log_index,
            "event": event.name,
            "arguments": {name: _plain(value) for name, value in event.args.items()},
        },
    }
    return f"evt_{keccak(text=place).hex()[:32]}", kind, json.dumps(body, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Amounts as decimal strings, bytes as hex."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass
class Courier:
    """Sends what the store says."""

    source: Source
    store: Store
    confirmations: int = 1  # an event is sent when so many blocks, its own counted, hold it
    private: bool = False
    resolve: Resolve = resolved
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)
    )

    def run(self, stop: threading.Event, every_seconds: float = 5) -> None:
        """Until `stop`. A node or database that is away is waited out."""
        while not stop.wait(every_seconds):
            try:
                self.round(int(time.time()))
            except Exception as error:  # the thread lives as long as the process: nobody would start it again
                _log.warning("webhooks wait", reason=type(error).__name__)
        self.client.close()

    def round(self, now: int) -> int:
        """Look for events and send what is due; how many were delivered."""
        with self.store.session() as db:
            hooks = list(db.scalars(select(Webhook).where(Webhook.disabled_at.is_(None))))
        if hooks:
            try:
                newest = self.source.newest()
            except Exception as error:  # what was gathered before can be sent without a node
                _log.warning("webhooks: the node does not answer", reason=type(error).__name__)
                hooks = []
            for hook in hooks:
                try:
                    self._gather(hook, newest, now)
                except Exception as error:  # one vault's history must not hold up the others
                    _log.warning("webhook waits", webhook=hook.id, reason=type(error).__name__)
        return self._send_due(now)

    def _gather(self, hook: Webhook, newest: BlockRef, now: int) -> None:
        """New events of the hook's vaults into the store, and how far was looked, in one transaction."""
        last = newest.number - self.confirmations + 1
        if last <= hook.block:
            return
        found: list[Delivery] = []
        for vault in hook.vaults:
            for event in self.source.events(vault, newest):
                kind = EVENTS.get(event.name)
                if kind is None or not hook.block < event.block.number <= last:
                    continue
                if hook.events and kind not in hook.events:
                    continue
                found.append(_delivery(hook.id, *message(self.source.chain_id, vault, event), now))
        with self.store.session() as db:
            known = set(db.scalars(select(Delivery.event_id).where(Delivery.webhook_id == hook.id)))
            db.add_all(row for row in found if row.event_id not in known)
            db.execute(update(Webhook).where(Webhook.id == hook.id).values(block=last))

    def _send_due(self, now: int) -> int:
        with self.store.session() as db:
            due = list(
                db.execute(
                    select(Delivery, Webhook)
                    .join(Webhook, Webhook.id == Delivery.webhook_id)
                    .where(Delivery.next_at <= now, Webhook.disabled_at.is_(None))
                    .order_by(Delivery.next_at, Delivery.id)
                    .limit(AT_ONCE)
                )
            )
        return sum(self._deliver(delivery, hook, now) for delivery, hook in due if self._claim(delivery, now))

    def _claim(self, delivery: Delivery, now: int) -> bool:
        """Take the next attempt, unless another process did."""
        attempt = delivery.attempts
        next_at = now + RETRIES[attempt] if attempt < len(RETRIES) else None
        mine = (Delivery.id == delivery.id, Delivery.attempts == attempt)
        with self.store.session() as db:
            change = update(Delivery).where(*mine).values(attempts=attempt + 1, next_at=next_at)
            return bool(db.execute(change).rowcount)  # type: ignore[attr-defined]

    def _deliver(self, delivery: Delivery, hook: Webhook, now: int) -> bool:
        """One attempt, and what came of it."""
        try:
            status = self._post(delivery, hook, now)
            error = None if 200 <= status < 300 else f"answered {status}"
        except Problem as refused:
            status, error = None, refused.detail
        except (
            Exception
        ) as failed:  # whatever a receiver's name, address or answer does: the others are sent to
            status, error = None, type(failed).__name__
        values: dict[str, Any] = {"last_status": status, "last_error": error}
        if error is None:
            values |= {"delivered_at": now, "next_at": None}
        with self.store.session() as db:
            db.execute(update(Delivery).where(Delivery.id == delivery.id).values(**values))
            if status == GONE:
                off = {"disabled_at": now, "disabled_reason": "the receiver answered 410 Gone"}
                db.execute(update(Webhook).where(Webhook.id == hook.id).values(**off))
        return error is None

    def _post(self, delivery: Delivery, hook: Webhook, now: int) -> int:
        """The status of the answer. Its body is not read."""
        address = address_of_url(hook.url, private=self.private, resolve=self.resolve)
        url = httpx.URL(hook.url)
        at = datetime.fromtimestamp(now, UTC)
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "evenkeel",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(hook, delivery.event_id, at, delivery.body),
        }
        request = self.client.build_request(
            "POST",
            url.copy_with(host=address),
            content=delivery.body.encode(),
            headers=headers,
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        answer = self.client.send(request, stream=True)
        answer.close()
        return int(answer.status_code)


def _delivery(webhook_id: str, event_id: str, kind: str, body: str, now: int) -> Delivery:
    return Delivery(webhook_id=webhook_id, event_id=event_id, type=kind, body=body, attempts=0, next_at=now)


def test_message(now: int) -> tuple[str, str, str]:
    """(id, type, body) of a message that says nothing, to try a webhook."""
    moment = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    body = json.dumps({"type": "test", "timestamp": moment, "data": {}}, separators=(",", ":"))
    return f"evt_{re.sub('[^0-9]', '', moment)}test", "test", body
