"""What a venue is asked and what it answers, and the HTTP in between.

`Aggregator.quote(request)` never raises: a venue that is down, slow, wrong or hostile gives a `Quote` whose `reason`
says so. Nothing here trusts an answer further than its shape; whether a quote is used is decided in `compare`.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, ClassVar, Protocol

import requests
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from offchain.errors import EvenkeelError
from offchain.planner.payload import MAX_PAYLOAD

__all__ = ["Aggregator", "Http", "HttpVenue", "Quote", "QuoteError", "QuoteRequest", "ask", "failed"]

MAX_ANSWER = 1 << 20  # bytes; real answers have some 10,000
MAX_WORDS = 200  # characters that are quoted of a venue's error
MAX_TRIES = 3
FIRST_PAUSE = 0.25  # seconds before the second try, doubled each time, where the venue names none
AGAIN = (429, 502, 503, 504)  # too many requests, and gateways without a server behind them
WORDS = ("name", "error", "errorType", "errorCode", "message", "description", "detail")  # of a venue's error


class QuoteError(EvenkeelError):
    """A venue gave no quote that can be read: the message says why; the own route needs none."""


class _TryAgainError(QuoteError):
    """The same request may be answered a little later."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after  # seconds, as the venue asked


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """Sell exactly `amount_in`. Addresses in any case."""

    chain_id: int
    token_in: str
    token_out: str
    amount_in: int  # token units
    taker: str  # holds and receives the tokens: the executor
    origin: str  # account that signs the transaction: the keeper's
    slippage_bps: int  # the calldata must revert when it would pay this much less than offered


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer; one with a `reason` cannot be carried out, and without `amount_out` it is none at all."""

    venue: str
    request: QuoteRequest
    amount_out: int = 0  # token units
    min_out: int = 0  # what the calldata guarantees
    target: str = ""  # contract that the executor calls, with no ether
    spender: str = ""  # gets an allowance of amount_in for the length of the call
    data: bytes = b""
    gas: int = 0  # of the call, as the venue says; 0: not said
    reason: str = ""

    @property
    def executable(self) -> bool:
        """It can be part of a rebalance."""
        return not self.reason


class Aggregator(Protocol):
    """A venue that quotes."""

    @property
    def name(self) -> str:
        """As in the settings."""

    def quote(self, request: QuoteRequest) -> Quote:
        """Its offer, or why there is none; never raises."""


def failed(venue: str, request: QuoteRequest, reason: str) -> Quote:
    """No offer."""
    return Quote(venue, request, reason=reason)


def ask(venues: Sequence[Aggregator], wanted: Sequence[QuoteRequest], timeout: float) -> tuple[Quote, ...]:
    """Every venue's answer to every request, in this order; all venues at once, a venue's requests in turn.

    Whatever has not come after `timeout` seconds, by the clock, is given up.
    """
    given: dict[str, list[Quote]] = {venue.name: [] for venue in venues}

    def work(venue: Aggregator) -> None:
        for request in wanted:
            given[venue.name].append(venue.quote(request))

    give_up = time.monotonic() + timeout
    threads = [Thread(target=work, args=(venue,), daemon=True) for venue in venues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(give_up - time.monotonic(), 0))
    quotes: list[Quote] = []
    for venue in venues:
        got = given[venue.name][: len(wanted)]
        quotes += got
        quotes += [failed(venue.name, late, f"no answer within {timeout:g} s") for late in wanted[len(got) :]]
    return tuple(quotes)


class Http:
    """JSON over HTTP with one time limit for an answer, its retries included. Follows no redirects."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    def handle(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """The decoded answer. A request for a quote changes nothing, so any may be tried again."""
        give_up = time.monotonic() + self.timeout
        tries = Retrying(
            retry=retry_if_exception_type(_TryAgainError),
            stop=stop_before_delay(self.timeout) | stop_after_attempt(MAX_TRIES),
            wait=_pause,
            reraise=True,
        )
        for attempt in tries:
            with attempt:
                left = max(give_up - time.monotonic(), 0.01)
                return _decoded(*self._answer(method, url, headers, params, body, left))
        raise AssertionError("unreachable")

    def _answer(
        self, method: str, url: str, headers: Any, params: Any, body: Any, left: float
    ) -> tuple[int, str | None, bytes]:
        """Status, Retry-After, body. Messages name no address: it may be long, and its host is the operator's."""
        try:
            with requests.Session() as session:
                session.auth = lambda request: request  # a .netrc must not replace the key
                answer = session.request(
                    method, url, headers=headers, params=params, json=body, timeout=left, allow_redirects=False,
                    stream=True,
                )  # fmt: skip
                read, give_up = b"", time.monotonic() + left
                while piece := answer.raw.read1(1 << 16, decode_content=True):  # whatever has come
                    read += piece
                    if len(read) > MAX_ANSWER:
                        raise QuoteError(f"its answer is longer than {MAX_ANSWER} bytes")
                    if time.monotonic() > give_up:
                        raise QuoteError(f"no answer within {self.timeout:g} s")
                return answer.status_code, answer.headers.get("Retry-After"), read
        except (requests.Timeout, TimeoutError, ReadTimeoutError):
            raise QuoteError(f"no answer within {self.timeout:g} s") from None
        except requests.ConnectionError:
            raise _TryAgainError("cannot be reached") from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise QuoteError(f"the request failed ({type(error).__name__})") from None


class HttpVenue(ABC):
    """What the clients have in common. A subclass says how to ask and how to read."""

    name: ClassVar[str]
    default_url: ClassVar[str]
    key_variable: ClassVar[str]  # environment variable with the key; "": needs none

    def __init__(self, http: Http, url: str = "", key: SecretStr | None = None) -> None:
        self._http = http
        self._url = (url or self.default_url).rstrip("/")
        self._key = key.get_secret_value() if key else ""

    def quote(self, request: QuoteRequest) -> Quote:
        """Its offer, or why there is none."""
        try:
            quote = self._ask(request)
        except QuoteError as error:
            return failed(self.name, request, self._clean(str(error)))
        return quote if quote.reason else replace(quote, reason=_flaw(quote))

    @abstractmethod
    def _ask(self, request: QuoteRequest) -> Quote:
        """QuoteError when there is no offer, or none that can be read."""

    def _clean(self, words: str) -> str:
        """One printable line, and the key struck out: a venue may repeat it in its error."""
        shown = words.replace(self._key, "***") if self._key else words
        return "".join(c if c.isprintable() else " " for c in shown)[:MAX_WORDS]


# ---------------------------------------------------------------- reading answers


def field(answer: Any, *path: str) -> Any:
    """The value at `path` of nested objects."""
    for depth, name in enumerate(path):
        if not isinstance(answer, dict) or name not in answer:
            raise QuoteError(f"its answer has no {'.'.join(path[: depth + 1])}")
        answer = answer[name]
    return answer


def amount(answer: Any, *path: str) -> int:
    """A uint256, written as decimal digits or as a JSON integer; a float has lost digits and is refused."""
    value = field(answer, *path)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 78:
        raise QuoteError(f"{'.'.join(path)} is not a whole number")
    if int(text) >= 1 << 256:
        raise QuoteError(f"{'.'.join(path)} is above 2^256")
    return int(text)


def address(answer: Any, *path: str) -> str:
    """An address in lower case."""
    value = field(answer, *path)
    text = value.lower() if isinstance(value, str) else ""
    if len(text) != 42 or not text.startswith("0x") or any(c not in "0123456789abcdef" for c in text[2:]):
        raise QuoteError(f"{'.'.join(path)} is not an address")
    return text


def calldata(answer: Any, *path: str) -> bytes:
    """Bytes written as 0x and hex digits."""
    value = field(answer, *path)
    try:
        return bytes.fromhex(value[2:] if value.startswith("0x") else "not hex")
    except (AttributeError, TypeError, ValueError):
        raise QuoteError(f"{'.'.join(path)} is not hex data") from None


def expect(answer: Any, wanted: str | int, *path: str) -> None:
    """What the venue echoes must be what it was asked for."""
    got = address(answer, *path) if isinstance(wanted, str) else amount(answer, *path)
    if got != (wanted.lower() if isinstance(wanted, str) else wanted):
        raise QuoteError(f"{'.'.join(path)} is {got}, asked was {wanted}")


def _flaw(quote: Quote) -> str:
    """Why an offer makes no sense in itself, "" if it does."""
    if quote.amount_out == 0:
        return "it offers nothing"
    if quote.min_out > quote.amount_out:
        return f"its minimum {quote.min_out} is above its offer {quote.amount_out}"
    if len(quote.data) < 4:
        return "it has no calldata"
    if len(quote.data) > MAX_PAYLOAD:
        return f"its calldata of {len(quote.data)} bytes does not fit the executor's payload of {MAX_PAYLOAD}"
    return ""


def _decoded(status: int, retry_after: str | None, body: bytes) -> Any:
    if 300 <= status < 400:
        raise QuoteError(f"{status}: it redirects elsewhere, which is not followed")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
        if status == 200:
            raise QuoteError("its answer is not JSON") from None
    if status == 200:
        return answer
    words = f"{status}: {_words(answer)}".rstrip(": ")
    raise _TryAgainError(words, _seconds(retry_after)) if status in AGAIN else QuoteError(words)


def _words(answer: Any) -> str:
    """What a venue's error says; each has its own keys."""
    if not isinstance(answer, dict):
        return ""
    said = [answer[key] for key in WORDS if isinstance(answer.get(key), str)]
    return ", ".join(dict.fromkeys(said))


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in either of its forms."""
    try:
        return None if retry_after is None else Retry().parse_retry_after(retry_after)
    except InvalidHeader:
        return None


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    after = error.after if isinstance(error, _TryAgainError) else None
    return float(after) if after is not None else FIRST_PAUSE * 2.0 ** (state.attempt_number - 1)
