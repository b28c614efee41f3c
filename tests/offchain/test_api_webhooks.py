"""API keys, idempotency, notes and webhooks: who may, what is signed, where nothing is sent."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import delete, select
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from offchain.api import Options, create_app
from offchain.api.edge import Rates
from offchain.api.problems import Problem
from offchain.api.store import SCOPES, ApiKey, Delivery, Kept, Note, Store, Webhook
from offchain.api.webhooks import RETRIES, Courier, address_of_url, message, signature
from offchain.api.writes import MOST_WEBHOOKS, writes
from tests.support.api import VAULT, Client, FakeSource, address, rebalanced

PUBLIC = "93.184.216.34"


@dataclass
class Clock:
    now: int = 1_700_000_000

    def __call__(self) -> float:
        return float(self.now)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world's only host."""

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host != "hooks.example":
            raise OSError("unknown")
        return [(2, 1, 6, "", (PUBLIC, port))]

    monkeypatch.setattr("socket.getaddrinfo", resolve)


@dataclass
class Served:
    """Made once: the application is the slowest part."""

    folder: Path
    store: Store
    clock: Clock
    app: FastAPI


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, clock = tmp_path_factory.mktemp("api"), Clock()
    store = Store.open(folder / "api.sqlite")
    options = Options(rates=Rates(10**6, 10**6, 10**6), routers=[writes(store, clock=clock)])
    yield Served(folder, store, clock, create_app(FakeSource(), options))
    store.engine.dispose()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(logs=[rebalanced(50, bytes(32))])


@pytest.fixture
def store(served: Served) -> Store:
    """Empty."""
    with served.store.session() as db:
        for table in (ApiKey, Webhook, Delivery, Note, Kept):
            db.execute(delete(table))
    return served.store


@pytest.fixture
def clock(served: Served) -> Clock:
    served.clock.now = Clock().now
    return served.clock


@pytest.fixture
def client(served: Served, source: FakeSource, store: Store, clock: Clock) -> Client:
    served.app.state.source = source
    return Client(served.app)


@pytest.fixture
def bearer(store: Store) -> dict[str, str]:
    return {"authorization": f"Bearer {store.create_key('all', SCOPES, 1)}"}


HOOK = {"url": "https://hooks.example/in?x=1", "vaults": [VAULT]}


# ---------------------------------------------------------------- keys


def test_a_key_is_needed_has_scopes_and_can_be_revoked(client: Client, store: Store) -> None:
    anonymous = client.get("/v1/webhooks")
    assert anonymous.status_code == 401 and anonymous.json()["code"] == "unauthorized"
    assert anonymous.headers["www-authenticate"] == "Bearer"
    key = store.create_key("reader", ["webhooks:read"], 1)
    bearer = {"authorization": f"Bearer {key}"}
    assert client.get("/v1/webhooks", headers=bearer).status_code == 200
    denied = client.post("/v1/webhooks", json=HOOK, headers=bearer)
    assert denied.status_code == 403 and denied.json()["code"] == "forbidden"
    for wrong in (
        key[:-1] + ("0" if key[-1] != "0" else "1"),
        "ek__",
        "ek_x_y",
        "x",
        key.upper(),
        "ek_" + "ü" * 9,
    ):
        answer = client.get("/v1/webhooks", headers={"authorization": f"Bearer {wrong}".encode()})
        assert answer.status_code == 401, wrong
    assert store.revoke_key(key.split("_")[1], 2) and not store.revoke_key(key.split("_")[1], 3)
    assert client.get("/v1/webhooks", headers=bearer).status_code == 401


def test_no_secret_of_a_key_is_kept(store: Store, served: Served) -> None:
    secret = store.create_key("a", ["notes:read"], 1).split("_")[2]
    store.engine.dispose()
    kept = b"".join(file.read_bytes() for file in served.folder.iterdir())
    assert secret.encode() not in kept and b"notes:read" in kept


def test_what_one_key_made_does_not_exist_for_another(
    client: Client, store: Store, bearer: dict[str, str]
) -> None:
    made = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()
    other = {"authorization": f"Bearer {store.create_key('b', SCOPES, 1)}"}
    assert client.get("/v1/webhooks", headers=other).json() == {"webhooks": []}
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/test"),
        ("GET", "/deliveries"),
    ):
        answer = client.request(method, f"/v1/webhooks/{made['id']}{path}", headers=other)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert client.delete(f"/v1/webhooks/{made['id']}", headers=bearer).status_code == 204
    assert client.get(f"/v1/webhooks/{made['id']}", headers=bearer).status_code == 404


# ---------------------------------------------------------------- idempotency


def test_a_repeated_request_gets_the_first_answer(
    client: Client, bearer: dict[str, str], clock: Clock
) -> None:
    again = bearer | {"idempotency-key": "one"}
    first = client.post("/v1/webhooks", json=HOOK, headers=again)
    second = client.post("/v1/webhooks", json=HOOK, headers=again)
    assert (first.status_code, second.status_code) == (201, 201) and first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert len(client.get("/v1/webhooks", headers=bearer).json()["webhooks"]) == 1
    changed = client.post("/v1/webhooks", json=HOOK | {"events": ["vault.issued"]}, headers=again)
    assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_mismatch")
    clock.now += 86_401  # a day later it is forgotten
    assert client.post("/v1/webhooks", json=HOOK, headers=again).json()["id"] != first.json()["id"]


def test_two_at_once_make_one(
    client: Client, store: Store, bearer: dict[str, str], source: FakeSource
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    plain = source.serves

    def slowly(vault: str, block: Any) -> bool:
        inside.set()
        assert go_on.wait(60)
        return plain(vault, block)

    source.serves = slowly  # type: ignore[method-assign]
    answers: list[httpx.Response] = []
    headers = bearer | {"idempotency-key": "two"}
    path, body = f"/v1/vaults/{VAULT}/notes", {"text": "hello"}
    first = threading.Thread(target=lambda: answers.append(client.post(path, json=body, headers=headers)))
    first.start()
    assert inside.wait(60)
    meanwhile = client.post(path, json=body, headers=headers)
    go_on.set()
    first.join()
    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "idempotency_in_flight")
    assert answers[0].status_code == 201
    assert len(client.get(path, headers=bearer).json()["notes"]) == 1


def test_a_request_that_failed_may_be_sent_again(
    client: Client, bearer: dict[str, str], source: FakeSource
) -> None:
    headers = bearer | {"idempotency-key": "three"}
    source.down = ConnectionError()
    assert client.post("/v1/webhooks", json=HOOK, headers=headers).status_code == 502
    source.down = None
    assert client.post("/v1/webhooks", json=HOOK, headers=headers).status_code == 201


# ---------------------------------------------------------------- where nothing is sent


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", "10.0.0.8", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
     "2002:7f00:1::", "192.0.2.1"],
)  # fmt: skip
def test_private_addresses_are_refused_whatever_the_name(ip: str) -> None:
    for found in ([ip], [PUBLIC, ip]):
        with pytest.raises(Problem, match="private address"):
            address_of_url("https://hooks.example", private=False, resolve=lambda *_, found=found: found)
    assert address_of_url("http://hooks.example", private=True, resolve=lambda *_: [ip]) == ip


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example", "ftp://hooks.example", "file:///etc/passwd", "https://", "https://user:pw@hooks.example",
     "//hooks.example", "https://[::1", "https://hooks.example:99999", "https://nowhere.example", "javascript:1"],
)  # fmt: skip
def test_other_addresses_are_refused(client: Client, bearer: dict[str, str], url: str) -> None:
    answer = client.post("/v1/webhooks", json=HOOK | {"url": url}, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (422, "address_not_allowed")


def test_unknown_vaults_and_too_many_webhooks_are_refused(client: Client, bearer: dict[str, str]) -> None:
    unknown = client.post("/v1/webhooks", json=HOOK | {"vaults": [address(5)]}, headers=bearer)
    assert unknown.status_code == 404 and unknown.json()["code"] == "not_a_vault"
    for _ in range(MOST_WEBHOOKS):
        assert client.post("/v1/webhooks", json=HOOK, headers=bearer).status_code == 201
    assert client.post("/v1/webhooks", json=HOOK, headers=bearer).status_code == 403


# ---------------------------------------------------------------- messages


@dataclass
class Receiver:
    """Answers what it is told to."""

    status: int = 204
    got: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.got.append(request)
        return httpx.Response(self.status, headers={"location": "https://elsewhere.example"})


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def courier(source: FakeSource, store: Store, receiver: Receiver) -> Courier:
    client = httpx.Client(transport=httpx.MockTransport(receiver), follow_redirects=False)
    return Courier(source, store, confirmations=3, client=client)


def test_an_event_is_sent_once_signed_and_to_the_address_that_was_checked(
    client: Client,
    source: FakeSource,
    courier: Courier,
    receiver: Receiver,
    bearer: dict[str, str],
    clock: Clock,
) -> None:
    secret = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["secret"]
    source.logs.append(rebalanced(101, bytes(32)))
    source.number = 102
    assert courier.round(clock.now) == 0  # two blocks hold it, three are asked for
    source.number = 103
    assert courier.round(clock.now) == 1 and courier.round(clock.now) == 0
    (request,) = receiver.got
    assert request.url.host == PUBLIC and request.headers["host"] == "hooks.example"
    assert request.extensions["sni_hostname"] == "hooks.example" and request.url.query == b"x=1"
    headers = dict(request.headers) | {"webhook-timestamp": str(int(datetime.now(UTC).timestamp()))}
    body = request.content.decode()
    said = json.loads(body)
    assert said["type"] == "vault.rebalanced" and said["data"]["block"]["number"] == 101
    assert (
        said["data"]["arguments"]["balances_after"][0] == str(25 * 10**18) and said["data"]["vault"] == VAULT
    )
    with pytest.raises(WebhookVerificationError):  # the time is signed, too
        Verifier(secret).verify(body, headers)
    found = client.get("/v1/webhooks", headers=bearer).json()["webhooks"][0]
    deliveries = client.get(f"/v1/webhooks/{found['id']}/deliveries", headers=bearer).json()["deliveries"]
    assert [(d["attempts"], d["last_status"], d["next_at"]) for d in deliveries] == [(1, 204, None)]
    assert "secret" not in found


def test_both_secrets_sign_during_a_rotation_and_a_change_is_noticed(
    client: Client, store: Store, bearer: dict[str, str], clock: Clock
) -> None:
    made = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()
    clock.now = int(datetime.now(UTC).timestamp())
    turned = client.post(f"/v1/webhooks/{made['id']}/rotate", headers=bearer).json()
    with store.session() as db:
        row = db.scalars(select(Webhook)).one()
    at = datetime.fromtimestamp(clock.now, UTC)
    signed = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(clock.now),
        "webhook-signature": signature(row, "evt_1", at, '{"a":1}'),
    }
    for secret in (made["secret"], turned["secret"]):
        assert Verifier(secret).verify('{"a":1}', signed) == {"a": 1}
        for change in ({"webhook-id": "evt_2"}, {"webhook-timestamp": str(clock.now - 1)}):
            with pytest.raises(WebhookVerificationError):
                Verifier(secret).verify('{"a":1}', signed | change)
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify('{"a":2}', signed)
    later = datetime.fromtimestamp(clock.now + 86_400, UTC)
    assert " " not in signature(row, "evt_1", later, "{}") and " " in signed["webhook-signature"]


def test_a_failure_is_tried_again_less_and_less_often_and_then_given_up(
    client: Client, courier: Courier, receiver: Receiver, bearer: dict[str, str], clock: Clock, store: Store
) -> None:
    hook = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
    client.post(f"/v1/webhooks/{hook}/test", headers=bearer)
    receiver.status = 307  # not followed
    waits = []
    for wait in (0, *RETRIES):
        clock.now += wait
        assert courier.round(clock.now - 1) == 0 and courier.round(clock.now) == 0
        waits.append(len(receiver.got))
    assert waits == list(range(1, len(RETRIES) + 2))
    clock.now += 10**7
    courier.round(clock.now)
    assert len(receiver.got) == len(RETRIES) + 1
    assert len({r.headers["webhook-id"] for r in receiver.got}) == 1
    assert {r.url.host for r in receiver.got} == {PUBLIC}
    with store.session() as db:
        row = db.scalars(select(Delivery)).one()
    assert (row.next_at, row.delivered_at, row.last_error) == (None, None, "answered 307")


def test_a_host_that_turned_private_is_not_sent_to(
    client: Client, courier: Courier, receiver: Receiver, bearer: dict[str, str], clock: Clock
) -> None:
    hook = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
    client.post(f"/v1/webhooks/{hook}/test", headers=bearer)
    courier.resolve = lambda *_: ["10.0.0.1"]
    assert courier.round(clock.now) == 0 and receiver.got == []
    deliveries = client.get(f"/v1/webhooks/{hook}/deliveries", headers=bearer).json()["deliveries"]
    assert "private" in deliveries[0]["last_error"]


def test_a_receiver_that_is_gone_or_a_key_that_is_revoked_ends_it(
    client: Client, courier: Courier, receiver: Receiver, bearer: dict[str, str], clock: Clock, store: Store
) -> None:
    first = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
    client.post(f"/v1/webhooks/{first}/test", headers=bearer)
    receiver.status = 410
    courier.round(clock.now)
    assert client.get(f"/v1/webhooks/{first}", headers=bearer).json()["disabled_at"] == clock.now
    second = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
    client.post(f"/v1/webhooks/{second}/test", headers=bearer)
    store.revoke_key(bearer["authorization"].split("_")[1], clock.now)
    assert courier.round(clock.now + 10) == 0 and len(receiver.got) == 1


@pytest.mark.parametrize(
    "wrong",
    [httpx.InvalidURL("x"), ValueError("no IP address"), UnicodeError("idna"), ssl.CertificateError("x"),
     OSError("x"), RuntimeError("x"), Problem("address_not_allowed", "x")],
    ids=lambda wrong: type(wrong).__name__,
)  # fmt: skip
def test_a_receiver_that_breaks_does_not_stop_the_others(
    client: Client, courier: Courier, bearer: dict[str, str], clock: Clock, store: Store, wrong: Exception
) -> None:
    for _ in range(2):
        hook = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
        client.post(f"/v1/webhooks/{hook}/test", headers=bearer)
    answers = iter([wrong, None])

    def answer(_: httpx.Request) -> httpx.Response:
        if (error := next(answers)) is not None:
            raise error
        return httpx.Response(204)

    courier.client = httpx.Client(transport=httpx.MockTransport(answer))
    assert courier.round(clock.now) == 1
    with store.session() as db:
        first, second = db.scalars(select(Delivery).order_by(Delivery.id))
    assert (first.delivered_at, first.next_at) == (None, clock.now + RETRIES[0]) and first.last_error
    assert second.delivered_at == clock.now


def test_a_history_that_cannot_be_read_does_not_stop_the_others(
    client: Client, source: FakeSource, courier: Courier, bearer: dict[str, str], clock: Clock
) -> None:
    """Nor does a node that is away stop what is due."""
    for _ in range(2):
        hook = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
    source.logs.append(rebalanced(101, bytes(32)))
    source.number = 103
    plain, broken = source.events, iter([True, False])

    def events(vault: str, block: Any) -> Any:
        if next(broken):
            raise ValueError("not decoded")
        return plain(vault, block)

    source.events = events  # type: ignore[method-assign]
    assert courier.round(clock.now) == 1
    source.down = ConnectionError()
    client.post(f"/v1/webhooks/{hook}/test", headers=bearer)
    assert courier.round(clock.now) == 1


def test_the_courier_outlives_any_error(courier: Courier) -> None:
    stop, rounds = threading.Event(), []

    def failing(now: int) -> int:
        rounds.append(now)
        if len(rounds) == 3:
            stop.set()
        raise KeyError("a bug")

    courier.round = failing  # type: ignore[method-assign]
    courier.run(stop, every_seconds=0)
    assert len(rounds) == 3


def test_a_name_is_asked_for_as_it_is_sent_to() -> None:
    """The two standards of international names lead to two hosts: faß.de and fass.de."""
    asked = []
    address_of_url(
        "https://fa\u00df.de", private=False, resolve=lambda host, _: asked.append(host) or [PUBLIC]
    )
    assert asked == ["xn--fa-hia.de"]
    with pytest.raises(Problem, match="not known"):
        address_of_url("https://hooks.example", private=False, resolve=lambda *_: ["no address"])


def test_a_request_that_was_given_up_leaves_its_successor_alone(store: Store) -> None:
    """It took longer than a request may: the key is another one's by then."""
    assert store.begin("k", "slow", "r", 1_000) is None
    assert store.begin("k", "slow", "r", 2_000) is None
    store.forget("k", "slow", 1_000)
    store.end("k", "slow", 1_000, 201, "first")
    kept = store.begin("k", "slow", "r", 2_001)
    assert kept is not None and kept.status is None
    store.end("k", "slow", 2_000, 201, "second")
    kept = store.begin("k", "slow", "r", 2_001)
    assert kept is not None and (kept.status, kept.body) == (201, "second")
    store.forget("k", "slow", 2_000)


def test_two_processes_do_not_send_the_same_attempt_twice(
    client: Client, courier: Courier, receiver: Receiver, bearer: dict[str, str], clock: Clock, store: Store
) -> None:
    hook = client.post("/v1/webhooks", json=HOOK, headers=bearer).json()["id"]
    client.post(f"/v1/webhooks/{hook}/test", headers=bearer)
    with store.session() as db:
        row = db.scalars(select(Delivery)).one()
    assert courier._claim(row, clock.now) and not courier._claim(row, clock.now)


def test_only_the_events_that_were_asked_for_are_sent(
    client: Client, source: FakeSource, courier: Courier, bearer: dict[str, str], clock: Clock
) -> None:
    client.post("/v1/webhooks", json=HOOK | {"events": ["vault.issued"]}, headers=bearer)
    source.logs.append(rebalanced(101, bytes(32)))
    source.number = 200
    assert courier.round(clock.now) == 0
    assert message(1, VAULT, source.logs[0])[0] != message(2, VAULT, source.logs[0])[0]


# ---------------------------------------------------------------- notes


def test_a_note_is_kept_as_it_was_written_and_belongs_to_its_key(
    client: Client, store: Store, bearer: dict[str, str]
) -> None:
    text = "<b>\u202e=1+1</b>"
    path = f"/v1/vaults/{VAULT}/notes"
    assert client.post(path, json={"text": text}, headers=bearer).status_code == 201
    assert client.post(path, json={"text": "x" * 2_001}, headers=bearer).status_code == 422
    assert [n["text"] for n in client.get(path, headers=bearer).json()["notes"]] == [text]
    other = {"authorization": f"Bearer {store.create_key('b', SCOPES, 1)}"}
    assert client.get(path, headers=other).json()["notes"] == []
