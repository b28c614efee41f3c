"""The REST API over a chain of a few Python values: shapes, errors, limits, strangers' names, the node's door."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from eth_abi import decode, encode
from eth_utils import keccak
from fastapi import FastAPI
from web3.exceptions import Web3RPCError

from offchain.api import Options, create_app
from offchain.api.edge import CSP, MOST_BODY, Rates
from offchain.api.problems import CODES
from offchain.api.rpc import METHODS, MOST_BLOCKS
from offchain.api.store import Store
from offchain.api.text import plain, returned_text
from offchain.api.writes import writes
from offchain.audit.lots import Acquired, Disposed
from offchain.chain.rpc import NodesUnavailable
from offchain.policy import WAD
from tests.support.api import (
    CASH,
    COIN,
    EXECUTOR,
    GOLD,
    HOLDER,
    HUB,
    KEEPER,
    NOW,
    OTHER_VAULT,
    STRANGE,
    VAULT,
    ZAP,
    Client,
    FakeSource,
    address,
    event,
    pool,
    rebalanced,
    vault_state,
)

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
MARKET = (
    pool(1, GOLD, CASH, 5_000_000),
    pool(2, COIN, CASH, 5_000_000),
    pool(3, HUB, CASH, 50_000_000, 5),
    pool(4, GOLD, HUB, 2_000_000),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(market=MARKET)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """Made once: it is the slowest part. Each test gives it its own chain."""
    return create_app(FakeSource(), Options(rates=Rates(10**6, 10**6, 10**6)))


@pytest.fixture
def client(app: FastAPI, source: FakeSource) -> Client:
    app.state.source = source
    return Client(app)


READS = [
    "/v1/config",
    "/v1/health",
    "/v1/vaults",
    f"/v1/vaults/{VAULT}",
    f"/v1/vaults/{VAULT}/history",
    f"/v1/vaults/{VAULT}/rebalances",
    f"/v1/vaults/{VAULT}/flows",
    f"/v1/vaults/{VAULT}/accounts/{HOLDER}",
    f"/v1/vaults/{VAULT}/quotes/zap-in?token={HUB}&amount_units=1000000000",
    f"/v1/vaults/{VAULT}/quotes/zap-out?token={HUB}&shares_units={100 * WAD}",
]


# ---------------------------------------------------------------- shapes


def amounts_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from amounts_in(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from amounts_in(item, name)
    elif re.search("_(units|wad)$", name):
        yield name, value


@pytest.mark.parametrize("path", READS)
def test_every_answer_has_its_block_and_amounts_as_decimal_strings(
    client: Client, source: FakeSource, path: str
) -> None:
    source.logs = [rebalanced(50, bytes(32)), flowed(60)]
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["block"] == {"number": 100, "hash": "0x" + keccak(text="100").hex(), "time": NOW}
    for name, value in amounts_in(body):
        assert value is None or re.fullmatch("-?[0-9]+", value), (name, value)
    assert answer.headers["x-request-id"]


def flowed(number: int) -> Any:
    args = {
        "caller": KEEPER,
        "receiver": HOLDER,
        "shares": 5 * WAD,
        "amounts": [10**15, 0, 10**6],
        "flow_sequence": 1,
    }
    return event(number, "MintedInKind", args)


def test_a_vault_shows_holdings_targets_bands_drift_and_roles(client: Client) -> None:
    body = client.get(f"/v1/vaults/{VAULT}").json()
    assert body["nav_usd_wad"] == str(100_000 * WAD) and body["share_price_usd_wad"] == str(WAD)
    gold = body["assets"][0]
    assert (gold["weight_wad"], gold["target_wad"], gold["drift_wad"]) == (str(WAD // 2), str(WAD // 2), "0")
    assert gold["band_wad"] == str(5 * WAD // 100) and gold["outside_band"] is False
    assert body["roles"] == {
        "admin": HOLDER,
        "delay_seconds": 172_800,
        "guardians": [HOLDER],
        "strategists": [HOLDER],
        "keepers": [KEEPER],
        "complete": True,
    }
    assert body["tellers"][0]["asset"] == CASH and body["rules"]["mode"] == "EITHER"


def test_a_price_that_is_not_usable_is_null_and_never_zero(client: Client, source: FakeSource) -> None:
    source.state = vault_state(prices=(0, *vault_state().prices[1:]), statuses=(5, 0, 0))
    body = client.get(f"/v1/vaults/{VAULT}").json()
    assert body["nav_usd_wad"] is None and body["share_price_usd_wad"] is None and not body["prices_usable"]
    gold, coin = body["assets"][:2]
    assert gold["price_status"] == "STALE" and gold["value_usd_wad"] is None and gold["weight_wad"] is None
    assert coin["weight_wad"] is None and coin["value_usd_wad"] == str(30_000 * WAD)
    line = client.get("/v1/vaults").json()["vaults"][0]
    assert line["nav_usd_wad"] is None and line["prices_usable"] is False
    assert client.get(f"/v1/vaults/{VAULT}/history").json()["points"] == []


def test_a_token_that_does_not_answer_has_no_balance_rather_than_none_of_it(
    client: Client, source: FakeSource
) -> None:
    source.state = vault_state(balances=(0, 60_000_000, 20_000 * 10**6), aside=0, aside_until=NOW + 9)
    source.deaf = {GOLD}
    body = client.get(f"/v1/vaults/{VAULT}").json()
    gold = body["assets"][0]
    assert gold["balance_units"] is None and gold["readable"] is False and gold["quarantined"] is True
    assert body["quarantine"] == {"index": 0, "token": GOLD, "until": NOW + 9}
    account = client.get(f"/v1/vaults/{VAULT}/accounts/{HOLDER}").json()
    assert account["in_kind"][0]["units"] is None and account["balances"][0]["units"] is None
    assert account["in_kind"][1]["units"] == "600000"


def test_a_vault_that_cannot_be_read_stays_in_the_list(client: Client) -> None:
    lines = client.get("/v1/vaults").json()["vaults"]
    assert [line["vault"] for line in lines] == [VAULT, OTHER_VAULT]
    assert lines[1]["readable"] is False and lines[1]["reason"] and lines[1]["nav_usd_wad"] is None


def test_a_rebalance_carries_what_the_vault_hashed(client: Client, source: FakeSource) -> None:
    source.logs = [rebalanced(50, bytes(32))]
    (found,) = client.get(f"/v1/vaults/{VAULT}/rebalances").json()["rebalances"]
    data = bytes.fromhex(found["proof"]["data"][2:])
    assert "0x" + keccak(data).hex() == found["proof"]["head"]
    assert "0x" + data[:32].hex() == found["proof"]["previous_head"]
    assert found["nav_before_usd_wad"] == str(100_000 * WAD)
    assert found["nav_after_usd_wad"] == str(99_990 * WAD) and found["keeper"] == KEEPER


def test_the_basket_of_then_is_used_not_todays(client: Client, source: FakeSource) -> None:
    removed = event(55, "RuleChanged", {"name": "remove_asset", "data": encode(["address"], [COIN])})
    later = rebalanced(60, bytes(32))
    short = {name: v[:2] if isinstance(v, list) else v for name, v in later.args.items()}
    source.logs = [rebalanced(50, bytes(32)), removed, replace(later, args=short | {"prices": [WAD, WAD]})]
    first, second = client.get(f"/v1/vaults/{VAULT}/rebalances?asc=true").json()["rebalances"]
    assert first["assets"] == [GOLD, COIN, CASH] and second["assets"] == [GOLD, CASH]
    added = event(56, "RuleChanged", {"name": "add_asset", "data": encode(["address", "uint256"], [HUB, 6])})
    source.logs = [removed, added, flowed(60)]
    (flow,) = client.get(f"/v1/vaults/{VAULT}/flows").json()["flows"]
    assert flow["amounts"] == [{"token": GOLD, "units": str(10**15)}, {"token": HUB, "units": str(10**6)}]


def test_lots_are_matched_as_asked_and_what_is_left_is_valued_now(client: Client, source: FakeSource) -> None:
    def when(day: int) -> datetime:
        return datetime(2025, 1, day, tzinfo=UTC)

    source.bought = [
        Acquired("a", when(1), HOLDER, VAULT, Decimal(10), Decimal(8)),
        Acquired("b", when(2), HOLDER, VAULT, Decimal(10), Decimal(12)),
        Disposed("c", when(3), HOLDER, VAULT, Decimal(10), Decimal(11)),
    ]
    path = f"/v1/vaults/{VAULT}/lots?account={HOLDER}&wash_days=0&method="
    first, last = client.get(path + "fifo").json(), client.get(path + "hifo").json()
    assert (first["years"][0]["short"], last["years"][0]["short"]) == ("3", "-1")
    assert [(lot["lot"], lot["quantity"], lot["gain"]) for lot in first["open"]] == [("b", "10", "-2")]
    assert [(lot["lot"], lot["gain"]) for lot in last["open"]] == [("a", "2")]
    source.bought = source.bought[2:]  # sold what was never bought
    broken = client.get(path + "fifo")
    assert (broken.status_code, broken.json()["code"]) == (409, "history_broken")


def test_flows_of_one_account(client: Client, source: FakeSource) -> None:
    source.logs = [flowed(60)]
    assert len(client.get(f"/v1/vaults/{VAULT}/flows?account={HOLDER}").json()["flows"]) == 1
    assert client.get(f"/v1/vaults/{VAULT}/flows?account={KEEPER}").json()["flows"] == []


# ---------------------------------------------------------------- pages, tags, limits


def test_pages_neither_skip_nor_repeat_while_the_list_grows(client: Client, source: FakeSource) -> None:
    source.logs = [rebalanced(n, bytes(32)) for n in range(1, 8)]
    seen, cursor = [], ""
    for _ in range(3):
        body = client.get(f"/v1/vaults/{VAULT}/rebalances?limit=3{cursor}").json()
        seen += [row["session"] for row in body["rebalances"]]
        cursor = f"&cursor={body['next_cursor']}"
        source.logs.append(rebalanced(len(source.logs) + 1, bytes(32)))
    assert seen == [7, 6, 5, 4, 3, 2, 1] and body["next_cursor"] is None
    oldest = client.get(f"/v1/vaults/{VAULT}/rebalances?limit=2&asc=true").json()
    assert [row["session"] for row in oldest["rebalances"]] == [1, 2]


def test_an_unchanged_answer_is_not_sent_again(client: Client, source: FakeSource) -> None:
    first = client.get("/v1/vaults")
    again = client.get("/v1/vaults", headers={"if-none-match": f'W/"old", {first.headers["etag"]}'})
    assert again.status_code == 304 and not again.content
    assert again.headers["etag"] == first.headers["etag"]
    source.number += 1
    moved = client.get("/v1/vaults", headers={"if-none-match": first.headers["etag"]})
    assert moved.status_code == 200 and moved.headers["etag"] != first.headers["etag"]


def test_too_many_requests_are_told_when_to_come_back(source: FakeSource) -> None:
    app = create_app(source, Options(rates=Rates(requests=3, quotes=1, rpc_calls=4)))
    client = Client(app)
    quote = f"/v1/vaults/{VAULT}/quotes/zap-in?token={HUB}&amount_units=1000000000"
    assert client.get(quote).status_code == 200
    answers = [client.get("/v1/vaults").status_code for _ in range(3)]
    refused = client.get("/v1/vaults")
    assert answers == [200] * 3 and refused.status_code == 429
    assert refused.json()["code"] == "rate_limited" and 1 <= int(refused.headers["retry-after"]) <= 61
    assert client.get(quote).status_code == 429  # counted apart
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"}
    assert client.post("/rpc", json=[call] * 4).status_code == 200
    assert client.post("/rpc", json=call).status_code == 429
    assert client.get("/healthz").status_code == 200
    assert Client(app, client="203.0.113.8").get("/v1/vaults").status_code == 200  # another client


def test_other_sites_may_read_only_when_the_settings_say_so(source: FakeSource) -> None:
    from_there = {"origin": "https://platform.example"}
    assert (
        "access-control-allow-origin"
        not in Client(create_app(source)).get("/v1/vaults", headers=from_there).headers
    )
    app = create_app(source, Options(origins=["https://platform.example"]))
    allowed = Client(app).get("/v1/vaults", headers=from_there)
    assert allowed.headers["access-control-allow-origin"] == "https://platform.example"
    other = Client(app).get("/v1/vaults", headers={"origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_only_its_own_host_names_are_answered_to(source: FakeSource) -> None:
    app = create_app(source, Options(hosts=["localhost"]))
    assert Client(app, host="localhost:8080").get("/v1/vaults").status_code == 200
    refused = Client(app, host="rebound.example").get("/v1/vaults")
    assert refused.status_code == 400 and refused.json()["code"] == "host_not_allowed"


# ---------------------------------------------------------------- errors


LOWER_CASE = KEEPER.lower()
MIXED = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
WRONG_SUM = MIXED[:-1] + MIXED[-1].swapcase() if MIXED[-1].isalpha() else MIXED[:-2] + "b8"
QUOTE = f"/v1/vaults/{VAULT}/quotes/zap-in?token={HUB}&amount_units="


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/v1/vaults/{WRONG_SUM}", 400, "invalid_address"),
        ("/v1/vaults/0x12", 400, "invalid_address"),
        ("/v1/vaults/vitalik.eth", 400, "invalid_address"),
        ("/v1/vaults/" + "9" * 10_000, 400, "invalid_address"),
        (f"/v1/vaults/{LOWER_CASE}", 404, "not_a_vault"),
        (f"/v1/vaults/{OTHER_VAULT}", 404, "not_a_vault"),
        (f"/v1/vaults/{KEEPER}/history", 404, "not_a_vault"),
        (f"/v1/vaults/{KEEPER}/flows", 404, "not_a_vault"),
        ("/v1/vaults?limit=0", 422, "invalid_request"),
        ("/v1/vaults?limit=" + "9" * 400, 422, "invalid_request"),
        ("/v1/vaults?cursor=%00", 422, "invalid_request"),
        ("/v1/vaults?cursor=MTIzLg", 422, "invalid_request"),
        ("/v1/nothing", 404, "not_found"),
        (QUOTE + "-1", 422, "invalid_request"),
        (QUOTE + "1e18", 422, "invalid_request"),
        (QUOTE + "1.5", 422, "invalid_request"),
        (QUOTE + "%EF%BC%91", 422, "invalid_request"),  # a digit of another script
        (QUOTE + str(2**256), 422, "invalid_request"),
        (QUOTE + str(2**256 - 1), 409, "cannot_route"),
        (QUOTE + "0", 409, "cannot_route"),
        (QUOTE + "5&slippage_bps=0", 422, "invalid_request"),
        (f"/v1/vaults/{VAULT}/quotes/zap-in?token={STRANGE}&amount_units=1000", 409, "cannot_route"),
        (f"/v1/vaults/{VAULT}/quotes/zap-in?token={address(0x77)}&amount_units=1000", 409, "cannot_route"),
        (f"/v1/vaults/{VAULT}/quotes/zap-out?token={HUB}&shares_units={10**30}", 409, "cannot_route"),
        (f"/v1/vaults/{VAULT}/quotes/zap-out?token={HUB}&shares_units=9&skip=65536", 422, "invalid_request"),
    ],
)
def test_a_mistake_is_one_problem_with_its_code(client: Client, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    body = answer.json()
    assert (answer.status_code, body["code"], body["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["request_id"] == answer.headers["x-request-id"] and body["detail"] and body["title"]
    assert len(body["detail"]) < 400  # what was sent is not repeated at length


def test_wrong_methods_and_bodies_are_problems_too(client: Client) -> None:
    wrong = client.post("/v1/vaults")
    assert wrong.status_code == 405 and wrong.json()["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "GET"
    for path in ("/rpc", "/v1/prepared-calls"):  # the page's route takes every other path
        assert client.get(path).status_code == 405 and client.get(path).headers["allow"] == "POST"
    for content in (b"{", b"\xff\xfe", b"[]", b'{"kind": "all"}', b"null"):
        answer = client.post(
            "/v1/prepared-calls", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422 and answer.json()["code"] == "invalid_request", content
        assert answer.json()["errors"]
    large = client.post("/v1/prepared-calls", content=b"[" * (MOST_BODY + 1))
    assert large.status_code == 413 and large.json()["code"] == "payload_too_large"


@pytest.mark.parametrize(
    "failure",
    [NodesUnavailable("none answers"), Web3RPCError("busy"), ConnectionError("refused"), TimeoutError()],
)
def test_a_node_that_is_away_is_an_error_and_never_an_empty_answer(
    client: Client, source: FakeSource, failure: Exception
) -> None:
    source.down = failure
    for path in READS:
        answer = client.get(path)
        if path == "/v1/health":
            assert answer.json()["status"] == "down" and answer.json()["block"] is None
            continue
        assert (answer.status_code, answer.json()["code"]) == (502, "node_unavailable"), path
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200


def test_a_bug_says_nothing_of_the_inside(client: Client, source: FakeSource) -> None:
    source.down = ZeroDivisionError("secret detail")
    answer = client.get("/v1/vaults")
    assert answer.status_code == 500 and answer.json()["code"] == "internal" and "secret" not in answer.text
    assert answer.headers["content-security-policy"] == CSP


# ---------------------------------------------------------------- what strangers wrote


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("USDC", "USDC"),
        ("<script>alert(1)</script>", "<script>aler"),  # text, cut; the page shows it as text
        ("\u202egnp.exe", "gnp.exe"),  # written from right to left
        ("a\u0000b\x1b[31mc\nd", "ab[31mcd"),
        ("x" * 5_000, "x" * 12),
        ("\u200b\u2066\ufeff", "0x1234"),
        ("", "0x1234"),
        ("Z\u0351\u0352\u0353algo", "Zalgo"),  # marks that climb over the line
        ("  a   b  ", "a b"),
        ("=HYPERLINK(1)", "=HYPERLINK(1"),
    ],
)
def test_symbols_are_made_harmless(written: str, shown: str) -> None:
    assert plain(written, 12, "0x1234") == shown


def test_whatever_a_token_returns_is_a_string() -> None:
    text = "Tether"
    assert returned_text(encode(["string"], [text])) == text
    assert returned_text(text.encode().ljust(32, b"\0")) == text
    assert returned_text(b"") == "" and returned_text(b"\1") == ""
    assert returned_text((2**255).to_bytes(32, "big") + bytes(64)) == ""
    assert returned_text((32).to_bytes(32, "big") + (2**200).to_bytes(32, "big") + bytes(32)) == ""
    assert returned_text((2**255).to_bytes(32, "big") + bytes(300_000)) == ""
    long = returned_text(encode(["string"], ["y" * 300_000]))
    assert plain(long, 12, "-") == "y" * 12
    assert plain(returned_text(encode(["bytes"], [b"\xff\xfeok"])), 12, "-") == "\ufffd\ufffdok"


# ---------------------------------------------------------------- the node's door


def call(method: str, params: Any = None, number: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or []}


def test_reads_and_signed_transactions_pass_to_the_node(client: Client, source: FakeSource) -> None:
    answers = client.post(
        "/rpc", json=[call("eth_call", [{}]), call("eth_sendRawTransaction", ["0x00"], "b")]
    ).json()
    assert answers == [
        {"jsonrpc": "2.0", "id": 1, "result": "0x7"},
        {"jsonrpc": "2.0", "id": "b", "result": "0x7"},
    ]
    assert source.asked == [("eth_call", [{}]), ("eth_sendRawTransaction", ["0x00"])]


@pytest.mark.parametrize(
    "method",
    ["eth_sendTransaction", "eth_sign", "eth_accounts", "anvil_mine", "evm_setTime", "debug_traceCall",
     "admin_peers", "personal_unlockAccount", "eth_newFilter", "txpool_content", "ETH_CALL"],
)  # fmt: skip
def test_nothing_else_passes(client: Client, source: FakeSource, method: str) -> None:
    assert method not in METHODS
    assert client.post("/rpc", json=call(method)).json()["error"]["code"] == -32601
    assert source.asked == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b'{"id": 1, "method": 5}', -32600),
        (b'{"id": {}, "method": "eth_call"}', -32600),
        (b'{"id": 1, "method": "eth_call", "params": {}}', -32602),
        (b'{"id": 1, "method": "eth_getLogs", "params": []}', -32602),
        (b'{"id": 1, "method": "eth_getLogs", "params": [{"fromBlock": "one"}]}', -32602),
        (b'{"id": 1, "method": "eth_getLogs", "params": [{"fromBlock": 5}]}', -32602),
    ],
)
def test_what_is_no_call_is_an_error_of_json_rpc(
    client: Client, source: FakeSource, body: bytes, code: int
) -> None:
    answer = client.post("/rpc", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200 and answer.json()["error"]["code"] == code
    assert source.asked == []


def test_logs_of_too_many_blocks_and_batches_of_too_many_calls_are_refused(
    client: Client, source: FakeSource
) -> None:
    source.number = 10 * MOST_BLOCKS
    assert (
        client.post("/rpc", json=call("eth_getLogs", [{"fromBlock": "0x0"}])).json()["error"]["code"]
        == -32005
    )
    most = {"fromBlock": "0x1", "toBlock": hex(MOST_BLOCKS)}
    assert "result" in client.post("/rpc", json=call("eth_getLogs", [most])).json()
    more = {"fromBlock": "0x1", "toBlock": hex(MOST_BLOCKS + 1)}
    assert client.post("/rpc", json=call("eth_getLogs", [more])).json()["error"]["code"] == -32005
    assert client.post("/rpc", json=[call("eth_chainId")] * 51).json()["error"]["code"] == -32005
    form = client.post(
        "/rpc", content=json.dumps(call("eth_chainId")), headers={"content-type": "text/plain"}
    )
    assert form.status_code == 415
    quiet = client.post("/rpc", json={"jsonrpc": "2.0", "method": "eth_chainId"})
    assert quiet.status_code == 204 and not quiet.content


# ---------------------------------------------------------------- the page


@pytest.fixture
def pages(source: FakeSource, tmp_path: Path) -> Client:
    root = tmp_path / "static"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<html><head></head><body>page</body></html>")
    (root / "assets" / "page.js").write_text("1")
    (tmp_path / "secret.txt").write_text("secret")
    return Client(create_app(source, Options(static=root)))


def test_the_page_is_served_with_a_policy_that_forbids_everything_else(pages: Client) -> None:
    page = pages.get("/")
    assert page.status_code == 200 and "page" in page.text
    assert page.headers["content-security-policy"] == CSP and "unsafe" not in CSP and "http" not in CSP
    assert (
        page.headers["x-content-type-options"] == "nosniff"
        and page.headers["referrer-policy"] == "no-referrer"
    )
    script = pages.get("/assets/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"] and page.headers["cache-control"] == "no-cache"
    assert pages.get("/vault/0x1").text == page.text


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/..%2fsecret.txt", "/assets/..%2f..%2fsecret.txt", "/%2e%2e/secret.txt", "/a%00.txt"],
)
def test_nothing_outside_the_page_is_served(pages: Client, path: str) -> None:
    answer = pages.get(path)
    assert answer.status_code == 404 and "secret" not in answer.text.replace("secret.txt", "")


def test_the_demo_wallet_exists_in_demo_mode_only(pages: Client) -> None:
    assert pages.get("/demo-wallet.js").status_code == 404
    assert pages.post("/demo-wallet", json={"method": "eth_accounts"}).status_code in (404, 405)
    assert "demo-wallet" not in pages.get("/").text
    assert pages.get("/v1/config").json()["demo"] is None


# ---------------------------------------------------------------- prepared calls


def prepared(client: Client, **wanted: Any) -> dict[str, Any]:
    answer = client.post("/v1/prepared-calls", json={"vault": VAULT, "account": HOLDER} | wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_zap_is_prepared_with_an_exact_approval_before_it(client: Client) -> None:
    found = prepared(client, kind="zap_in", token=HUB, amount_units="1000000000")
    approve, zap = found["calls"]
    assert (approve["to"], approve["function"]) == (HUB, "approve(address,uint256)")
    assert approve["arguments"] == {"spender": ZAP, "value": "1000000000"}
    assert zap["to"] == ZAP and zap["value_units"] == "0"
    types = ["address", "address", "uint256", "bytes", "address[]", "uint256", "address", "uint256"]
    values = decode(types, bytes.fromhex(zap["data"][10:]))
    assert values[0] == VAULT.lower() and values[2] == 10**9 and values[6] == HOLDER.lower()
    assert values[5] == int(found["quote"]["min_shares_units"]) > 0 and values[7] == NOW + 600
    assert zap["data"][2:10] == keccak(text=f"zap_in({','.join(types)})")[:4].hex()


def test_an_allowance_that_is_too_low_is_reset_first_and_one_that_is_enough_is_left(
    client: Client, source: FakeSource
) -> None:
    source.allowance = 5
    calls = prepared(client, kind="zap_in", token=HUB, amount_units="1000000000")["calls"]
    assert [c["arguments"].get("value") for c in calls] == ["0", "1000000000", None]
    source.allowance = 10**9
    assert len(prepared(client, kind="zap_in", token=HUB, amount_units="1000000000")["calls"]) == 1


@pytest.mark.parametrize(
    ("wanted", "functions", "least"),
    [
        ({"kind": "mint_in_kind", "shares_units": str(WAD)}, ["approve"] * 3 + ["mint_in_kind"], "max_amounts"),
        ({"kind": "redeem_in_kind", "shares_units": str(WAD), "skip": 1}, ["redeem_in_kind"], "min_amounts"),
        ({"kind": "zap_out", "shares_units": str(WAD), "token": HUB}, ["approve", "zap_out"], "min_amount"),
        (
            {"kind": "teller_deposit", "amount_units": "1000000", "token": CASH},
            ["approve"] * 2 + ["deposit"],
            "min_shares",
        ),
        ({"kind": "teller_redeem", "shares_units": str(WAD), "token": CASH}, ["redeem"], "min_assets"),
    ],
)  # fmt: skip
def test_every_deposit_and_redemption_carries_a_bound(
    client: Client, wanted: dict[str, Any], functions: list[str], least: str
) -> None:
    calls = prepared(client, **wanted)["calls"]
    assert [c["function"].partition("(")[0] for c in calls] == functions
    bound = calls[-1]["arguments"][least]
    assert (
        all(int(b) >= 0 for b in bound) and any(int(b) for b in bound)
        if isinstance(bound, list)
        else int(bound)
    )


def test_what_is_missing_for_a_call_is_named(client: Client) -> None:
    wanted = {"kind": "zap_in", "vault": VAULT, "account": HOLDER, "token": HUB}
    answer = client.post("/v1/prepared-calls", json=wanted)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "amount_units"
    no_teller = {
        "kind": "teller_redeem",
        "vault": VAULT,
        "account": HOLDER,
        "token": GOLD,
        "shares_units": "1",
    }
    assert client.post("/v1/prepared-calls", json=no_teller).json()["code"] == "cannot_plan"


def test_the_plan_says_what_would_be_sold(client: Client, source: FakeSource) -> None:
    source.state = vault_state(balances=(35 * 10**18, 60_000_000, 0))  # gold far above its target, no cash
    plan = client.get(f"/v1/vaults/{VAULT}/plan").json()["plan"]
    assert (plan["possible_now"], plan["trades"], plan["waits"]) == (True, True, [])
    gold, coin, cash = (int(units) for units in plan["sells_units"])
    assert gold > 0 and coin >= 0 and cash == 0
    source.state = vault_state()
    plan = client.get(f"/v1/vaults/{VAULT}/plan").json()["plan"]
    assert plan["possible_now"] is False and plan["waits"]


# ---------------------------------------------------------------- the description


def test_every_route_and_every_code_is_documented(source: FakeSource, tmp_path: Path) -> None:
    app = create_app(source, Options(routers=[writes(Store.open(tmp_path / "a.sqlite"))]))
    text = DOCS.read_text()
    for path in app.openapi()["paths"]:
        assert f"`{path}`" in text or f" {path}`" in text, path
    for code, (status, _) in CODES.items():
        assert f"`{code}`" in text and str(status) in text, code


def test_the_description_needs_no_other_site(client: Client) -> None:
    assert client.get("/docs").status_code == 404 or "cdn" not in client.get("/docs").text
    described = client.get("/openapi.json")
    assert described.status_code == 200 and "ProblemBody" in described.text
    assert "HTTPValidationError" not in described.text  # FastAPI's own errors are not what is sent


def test_executor_and_zap_are_told(client: Client) -> None:
    config = client.get("/v1/config").json()
    assert (config["zap"], config["executor"], config["hub"]["token"]) == (ZAP, EXECUTOR, HUB)
    assert config["default_vault"] == VAULT and config["chain_id"] == 31_337
