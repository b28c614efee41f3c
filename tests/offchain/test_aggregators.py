"""The clients against local servers that speak the venues' documented shapes; every failure is a reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from offchain.aggregators import VENUES, ask, venues
from offchain.aggregators.base import MAX_ANSWER, Http, HttpVenue, Quote, QuoteRequest, failed
from offchain.chain.errors import ConfigError
from offchain.settings import load_settings
from tests.support import aggregators as shapes
from tests.support.aggregators import Answer, Asked, Script, Server, serving

KEY = "s3cret-KEY-0123456789"
SOLD, BOUGHT, EXECUTOR, KEEPER = ("0x" + f"{n:02x}" * 20 for n in (0xA1, 0xB2, 0xE3, 0xC4))
ROUTER, SPENDER = "0x" + "11" * 20, "0x" + "22" * 20
REQUEST = QuoteRequest(1, SOLD, BOUGHT, 5_000_000, EXECUTOR, KEEPER, 50)
DATA = "0x" + "ab" * 100
PATIENCE = 3.0  # seconds; plenty for a server on this machine


def client(name: str, server: Server, timeout: float = 5.0, key: str = KEY) -> HttpVenue:
    return VENUES[name](Http(timeout), server.url, SecretStr(key))


def good(name: str) -> Script:
    """A server of the venue that offers 10,000 for whatever is asked."""

    def script(asked: Asked) -> Answer:
        if name == "0x":
            return Answer(shapes.zeroex(asked, 10_000, 9_950, ROUTER, SPENDER, DATA))
        if name == "1inch":
            spender = asked.path.endswith("approve/spender")
            return Answer(
                shapes.oneinch_spender(SPENDER) if spender else shapes.oneinch(asked, 10_000, ROUTER, DATA)
            )
        if name == "cow":
            return Answer(shapes.cow(asked, 10_000, 1_000))
        return Answer(shapes.uniswapx(asked, 10_000, 9_900, fee=15))

    return script


def answers(name: str, change: Callable[[Any], Any]) -> Script:
    """The same with the answer to the quote changed."""
    original = good(name)

    def script(asked: Asked) -> Answer:
        answer = original(asked)
        return answer if asked.path.endswith("spender") else Answer(change(answer.body))

    return script


def quoted(name: str, script: Script, **options: Any) -> tuple[Quote, Server]:
    with serving(script) as server:
        return client(name, server, **options).quote(REQUEST), server


def put(*path: str, value: Any) -> Callable[[Any], Any]:
    """Set the value at a path of an answer."""

    def change(answer: Any) -> Any:
        at = answer
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        return answer

    return change


def drop(*path: str) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        at = answer
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]
        return answer

    return change


# ---------------------------------------------------------------- what is asked, and what is understood


def test_0x_is_asked_as_its_documentation_says() -> None:
    quote, server = quoted("0x", good("0x"))
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", "/swap/allowance-holder/quote")
    assert asked.query == {
        "chainId": "1",
        "sellToken": SOLD,
        "buyToken": BOUGHT,
        "sellAmount": "5000000",
        "taker": EXECUTOR,
        "txOrigin": KEEPER,
        "slippageBps": "50",
    }
    assert (asked.headers["0x-api-key"], asked.headers["0x-version"]) == (KEY, "v2")
    assert quote == Quote("0x", REQUEST, 10_000, 9_950, ROUTER, SPENDER, bytes.fromhex(DATA[2:]), 288_079)
    assert quote.executable


def test_1inch_is_asked_as_its_documentation_says_and_for_its_spender_once() -> None:
    with serving(good("1inch")) as server:
        venue = client("1inch", server)
        quote = venue.quote(REQUEST)
        assert venue.quote(REQUEST) == quote
    assert [asked.path for asked in server.asked] == ["/1/approve/spender", "/1/swap", "/1/swap"]
    assert server.asked[1].query == {
        "src": SOLD,
        "dst": BOUGHT,
        "amount": "5000000",
        "from": EXECUTOR,
        "origin": KEEPER,
        "slippage": "0.5",
        "disableEstimate": "true",
        "includeTokensInfo": "true",
    }
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    assert quote == Quote("1inch", REQUEST, 10_000, 9_950, ROUTER, SPENDER, bytes.fromhex(DATA[2:]))


def test_cow_is_a_benchmark() -> None:
    quote, server = quoted("cow", good("cow"))
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/mainnet/api/v1/quote")
    assert asked.body["sellAmountBeforeFee"] == "5000000"
    assert (asked.body["kind"], asked.body["from"]) == ("sell", EXECUTOR)
    assert (quote.amount_out, quote.min_out, quote.data) == (10_000, 9_950, b"")
    assert quote.reason.startswith("settles later, by a signed order")


def test_uniswapx_is_a_benchmark_without_the_fee_of_others() -> None:
    quote, server = quoted("uniswapx", good("uniswapx"))
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["x-api-key"]) == ("POST", "/quote", KEY)
    assert asked.body["type"] == "EXACT_INPUT"
    assert asked.body["protocols"] == ["UNISWAPX_V2"]
    assert (quote.amount_out, quote.min_out) == (10_000, 9_900)
    assert quote.reason.startswith("settles later, by a signed order")


def test_a_netrc_does_not_replace_the_key(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    _, server = quoted("1inch", good("1inch"))
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


# ---------------------------------------------------------------- answers that are refused

OTHER = "0x" + "99" * 20
REFUSED: list[tuple[str, Callable[[Any], Any], str]] = [
    ("0x", lambda _: shapes.ZEROEX_NONE, "it has no liquidity for this"),
    ("0x", put("buyToken", value=OTHER), f"buyToken is {OTHER}, asked was {BOUGHT}"),
    ("0x", put("sellToken", value=OTHER), f"sellToken is {OTHER}, asked was {SOLD}"),
    ("0x", put("sellAmount", value="5000001"), "sellAmount is 5000001, asked was 5000000"),
    ("0x", put("chainId", value=137), "chainId is 137, asked was 1"),
    ("0x", put("transaction", "value", value="1"), "transaction.value is 1, asked was 0"),
    ("0x", put("buyAmount", value=1e4), "buyAmount is not a whole number"),
    ("0x", put("buyAmount", value="-5"), "buyAmount is not a whole number"),
    ("0x", put("buyAmount", value=True), "buyAmount is not a whole number"),
    ("0x", put("buyAmount", value="1" * 79), "buyAmount is not a whole number"),
    ("0x", put("buyAmount", value=str(2**256)), "buyAmount is above 2^256"),
    ("0x", put("buyAmount", value="0"), "it offers nothing"),
    ("0x", put("minBuyAmount", value="10001"), "its minimum 10001 is above its offer 10000"),
    ("0x", drop("minBuyAmount"), "its answer has no minBuyAmount"),
    ("0x", drop("transaction", "to"), "its answer has no transaction.to"),
    ("0x", put("transaction", value="0x"), "its answer has no transaction.value"),
    ("0x", put("transaction", "to", value="0x12"), "transaction.to is not an address"),
    ("0x", put("allowanceTarget", value=None), "allowanceTarget is not an address"),
    ("0x", put("transaction", "data", value="0xzz"), "transaction.data is not hex data"),
    ("0x", put("transaction", "data", value=["0x"]), "transaction.data is not hex data"),
    ("0x", put("transaction", "data", value="0x"), "it has no calldata"),
    (
        "0x",
        put("transaction", "data", value="0x" + "00" * 8_193),
        "its calldata of 8193 bytes does not fit the executor's payload of 8192",
    ),
    ("0x", lambda _: [], "its answer has no liquidityAvailable"),
    ("1inch", put("dstToken", "address", value=OTHER), f"dstToken.address is {OTHER}, asked was {BOUGHT}"),
    ("1inch", put("tx", "from", value=OTHER), f"tx.from is {OTHER}, asked was {EXECUTOR}"),
    ("1inch", put("tx", "value", value="7"), "tx.value is 7, asked was 0"),
    ("1inch", drop("tx"), "its answer has no tx"),
    ("1inch", put("dstAmount", value=None), "dstAmount is not a whole number"),
    ("cow", put("quote", "buyToken", value=OTHER), f"buyToken is {OTHER}, asked was {BOUGHT}"),
    ("cow", put("quote", "feeAmount", value="1"), "sellAmount and feeAmount do not add up to 5000000"),
    ("uniswapx", put("routing", value="CLASSIC"), "routing 'CLASSIC' is none of DUTCH_V2, DUTCH_LIMIT"),
    ("uniswapx", put("quote", "orderInfo", "chainId", value=10), "chainId is 10, asked was 1"),
    ("uniswapx", put("quote", "orderInfo", "outputs", value=7), "quote.orderInfo.outputs is not a list"),
]


@pytest.mark.parametrize(("name", "change", "reason"), REFUSED)
def test_an_answer_that_is_not_what_was_asked_is_refused(
    name: str, change: Callable[[Any], Any], reason: str
) -> None:
    quote, _ = quoted(name, answers(name, change))
    assert quote.reason == reason
    assert not quote.executable


@pytest.mark.parametrize(
    ("name", "status", "body", "reason"),
    [
        ("0x", 400, shapes.ZEROEX_INVALID, "400: INPUT_INVALID, The input is invalid"),
        ("1inch", 400, shapes.ONEINCH_NONE, "400: Bad Request, insufficient liquidity"),
        ("cow", 404, shapes.COW_NONE, "404: NoLiquidity, no route found"),
        ("uniswapx", 404, shapes.UNISWAPX_NONE, "404: ResourceNotFound, No quotes available"),
        ("0x", 500, b"<html>", "500"),
        ("0x", 200, b"{", "its answer is not JSON"),
        ("0x", 200, b"[" * 100_000, "its answer is not JSON"),
        ("0x", 200, b" " * (MAX_ANSWER + 1), f"its answer is longer than {MAX_ANSWER} bytes"),
    ],
)
def test_an_error_is_a_reason_and_is_not_asked_again(name: str, status: int, body: Any, reason: str) -> None:
    quote, server = quoted(name, lambda _: Answer(body, status))
    assert quote.reason == reason
    assert len(server.asked) == 1


def test_cow_does_not_run_everywhere() -> None:
    with serving(good("cow")) as server:
        quote = client("cow", server).quote(replace(REQUEST, chain_id=1337))
    assert quote.reason == "it does not run on chain 1337"
    assert not server.asked


def test_a_redirect_is_not_followed() -> None:
    with serving(good("0x")) as elsewhere:
        quote, _ = quoted("0x", lambda _: Answer(b"", 302, {"Location": elsewhere.url}))
        assert quote.reason == "302: it redirects elsewhere, which is not followed"
        assert not elsewhere.asked  # nor does the key get there


@pytest.mark.parametrize("name", list(VENUES))
def test_the_key_is_in_no_reason_and_no_quote(name: str) -> None:
    said = {"name": "FORBIDDEN", "message": f"unknown key {KEY}\n\x1b[31m"}
    quote, _ = quoted(name, lambda _: Answer(said, 403))
    assert quote.reason == "403: FORBIDDEN, unknown key ***  [31m"
    with serving(good(name)) as server:
        venue = client(name, server)
        assert KEY not in repr(venue.quote(REQUEST)) + repr(venue)


# ---------------------------------------------------------------- slow, busy and dead venues


def test_a_busy_venue_is_asked_again_when_it_says() -> None:
    turns = iter([Answer({"message": "slow down"}, 429, {"Retry-After": "0"}), Answer(b"", 503)])
    calm = good("0x")
    quote, server = quoted("0x", lambda asked: next(turns, None) or calm(asked))
    assert quote.executable
    assert len(server.asked) == 3


@pytest.mark.parametrize("after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_long_wait_is_not_waited_for(after: str) -> None:
    quote, server = quoted("0x", lambda _: Answer({"message": "slow"}, 429, {"Retry-After": after}))
    assert quote.reason == "429: slow"
    assert len(server.asked) == 1


def test_a_venue_that_stays_busy_is_given_up() -> None:
    quote, server = quoted("0x", lambda _: Answer({"message": "slow"}, 429, {"Retry-After": "0"}))
    assert quote.reason == "429: slow"
    assert len(server.asked) == 3


def test_a_dead_venue_is_a_reason() -> None:
    with serving(good("0x")) as server:
        pass
    assert client("0x", server).quote(REQUEST).reason == "cannot be reached"


def test_a_slow_venue_is_a_reason() -> None:
    quote, server = quoted("0x", lambda _: Answer({}, delay=2.0), timeout=0.2)
    assert quote.reason == "no answer within 0.2 s"
    assert len(server.asked) == 1


def test_a_venue_that_drips_is_a_reason() -> None:
    """A byte now and then keeps every read of the connection inside its limit."""
    quote, server = quoted("0x", lambda _: Answer(b" " * 1_000, drip=0.1), timeout=0.5)
    assert quote.reason == "no answer within 0.5 s"
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_a_reason() -> None:
    quote, _ = quoted("0x", lambda _: Answer(b"{}", headers={"Content-Encoding": "gzip"}))
    assert quote.reason == "the request failed (DecodeError)"


def test_nobody_waits_for_a_venue_that_drips() -> None:
    """A byte now and then keeps a connection alive; the others' quotes come all the same, and soon."""
    with serving(lambda _: Answer(b" " * 1_000, drip=0.1)) as dripping, serving(good("1inch")) as quick:
        asked = [client("0x", dripping, timeout=60), client("1inch", quick)]
        wanted = [REQUEST, replace(REQUEST, amount_in=7)]
        quotes = ask(asked, wanted, PATIENCE)
    assert [(q.venue, q.request.amount_in, q.executable) for q in quotes] == [
        ("0x", 5_000_000, False),
        ("0x", 7, False),
        ("1inch", 5_000_000, True),
        ("1inch", 7, True),
    ]
    assert quotes[0].reason == f"no answer within {PATIENCE:g} s"


def test_quotes_come_in_the_order_of_venues_and_requests() -> None:
    class Fixed:
        def __init__(self, name: str, delay: float) -> None:
            self.name, self.delay = name, delay

        def quote(self, request: QuoteRequest) -> Quote:
            time.sleep(self.delay)
            return failed(self.name, request, "none")

    quotes = ask([Fixed("slow", 0.05), Fixed("quick", 0)], [REQUEST, replace(REQUEST, amount_in=7)], 5)
    assert [(q.venue, q.request.amount_in) for q in quotes] == [
        ("slow", 5_000_000),
        ("slow", 7),
        ("quick", 5_000_000),
        ("quick", 7),
    ]


# ---------------------------------------------------------------- keys


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for venue in VENUES.values():
        monkeypatch.delenv(venue.key_variable or "UNUSED", raising=False)
    return monkeypatch


def test_keys_come_from_the_environment(no_keys: pytest.MonkeyPatch) -> None:
    no_keys.setenv("EVENKEEL_ZEROX_API_KEY", f" {KEY} ")
    with serving(good("0x")) as server:
        zeroex, _ = venues(["0x", "cow"], {"0x": server.url}, 5)
        assert zeroex.quote(REQUEST).executable
    assert server.asked[0].headers["0x-api-key"] == KEY


@pytest.mark.parametrize("name", ["0x", "1inch", "uniswapx"])
def test_a_missing_key_names_its_variable(no_keys: pytest.MonkeyPatch, name: str) -> None:
    variable = VENUES[name].key_variable
    with pytest.raises(
        ConfigError, match=f"^aggregators: {name} needs a key in the environment variable {variable}$"
    ):
        venues([name], {}, 5)


def test_a_key_that_no_header_can_carry_is_refused_unseen(no_keys: pytest.MonkeyPatch) -> None:
    no_keys.setenv("EVENKEEL_ZEROX_API_KEY", "schlüssel")
    with pytest.raises(ConfigError, match=r"^EVENKEEL_ZEROX_API_KEY: not a key") as error:
        venues(["0x"], {}, 5)
    assert "schlüssel" not in str(error.value)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("names", "urls", "words"),
    [
        (["paraswap"], {}, "aggregators: 'paraswap' is not known; choose from 0x, 1inch, cow, uniswapx"),
        (["cow", "cow"], {}, "aggregators: cow is named twice"),
        (
            ["cow"],
            {"cwo": "https://a"},
            "aggregator_urls: 'cwo' is not known; choose from 0x, 1inch, cow, uniswapx",
        ),
        *(
            (["cow"], {"cow": url}, f"aggregator_urls: cow: {url!r} is not an https:// address")
            for url in ("http://api.cow.fi", "api.cow.fi", "ftp://localhost", "https://", "https://a?key=1")
        ),
    ],
)
def test_a_wrong_setting_is_named(names: list[str], urls: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        venues(names, urls, 5)
    assert str(error.value).startswith(words)


@pytest.mark.parametrize(
    "url", ["", "https://proxy.example/cow", "http://127.0.0.1:8080", "http://localhost"]
)
def test_addresses_that_are_safe_for_a_key(url: str) -> None:
    (venue,) = venues(["cow"], {"cow": url} if url else {}, 5)
    assert venue.name == "cow"


def test_nobody_is_named_by_default(
    no_keys: pytest.MonkeyPatch, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert venues(settings.aggregators, settings.aggregator_urls, settings.aggregator_timeout_seconds) == ()


def test_a_key_is_no_setting(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment it is left alone; in the file it is refused, and not repeated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVENKEEL_ZEROX_API_KEY", KEY)
    assert KEY not in repr(load_settings())
    (tmp_path / "evenkeel.toml").write_text(f'zerox_api_key = "{KEY}"\n')
    with pytest.raises(ConfigError, match=r"^settings: zerox_api_key: unknown key$"):
        load_settings()
