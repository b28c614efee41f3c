"""1inch Classic Swap API v6.1: the 1inch developer portal, "Swap API", and its OpenAPI file."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from offchain.aggregators.base import (
    Http,
    HttpVenue,
    Quote,
    QuoteRequest,
    address,
    amount,
    calldata,
    expect,
)

__all__ = ["OneInch"]

BPS = 10_000


class OneInch(HttpVenue):
    """Two GETs: who must be approved, which is asked once a chain, and the swap."""

    name = "1inch"
    default_url = "https://api.1inch.com/swap/v6.1"
    key_variable = "EVENKEEL_ONEINCH_API_KEY"

    def __init__(self, http: Http, url: str = "", key: SecretStr | None = None) -> None:
        super().__init__(http, url, key)
        self._spenders: dict[int, str] = {}  # by chain

    def _ask(self, request: QuoteRequest) -> Quote:
        spender = self._spender(request.chain_id)
        answer = self._get(
            request.chain_id,
            "swap",
            {
                "src": request.token_in,
                "dst": request.token_out,
                "amount": str(request.amount_in),
                "from": request.taker,
                "origin": request.origin,
                "slippage": f"{request.slippage_bps / 100:g}",  # per cent
                "disableEstimate": "true",  # the executor holds nothing yet
                "includeTokensInfo": "true",
            },
        )
        expect(answer, request.token_in, "srcToken", "address")
        expect(answer, request.token_out, "dstToken", "address")
        expect(answer, request.taker, "tx", "from")
        expect(answer, 0, "tx", "value")
        offered = amount(answer, "dstAmount")
        return Quote(
            self.name,
            request,
            offered,
            offered
            * (BPS - request.slippage_bps)
            // BPS,  # not in the answer; the router keeps to the slippage
            address(answer, "tx", "to"),
            spender,
            calldata(answer, "tx", "data"),
            amount(answer, "tx", "gas") if answer["tx"].get("gas") is not None else 0,
        )

    def _spender(self, chain_id: int) -> str:
        if chain_id not in self._spenders:
            self._spenders[chain_id] = address(self._get(chain_id, "approve/spender", {}), "address")
        return self._spenders[chain_id]

    def _get(self, chain_id: int, path: str, params: dict[str, str]) -> Any:
        return self._http.handle(
            "GET", f"{self._url}/{chain_id}/{path}", {"Authorization": f"Bearer {self._key}"}, params
        )
