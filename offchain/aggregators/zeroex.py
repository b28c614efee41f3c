"""0x Swap API v2, AllowanceHolder flow: docs.0x.org, "getQuote (Allowance Holder)"."""

from __future__ import annotations

from offchain.aggregators.base import (
    HttpVenue,
    Quote,
    QuoteError,
    QuoteRequest,
    address,
    amount,
    calldata,
    expect,
    field,
)

__all__ = ["ZeroEx"]


class ZeroEx(HttpVenue):
    """One GET. The other flow, Permit2, needs a signature, which the executor cannot give."""

    name = "0x"
    default_url = "https://api.0x.org"
    key_variable = "EVENKEEL_ZEROX_API_KEY"

    def _ask(self, request: QuoteRequest) -> Quote:
        answer = self._http.handle(
            "GET",
            f"{self._url}/swap/allowance-holder/quote",
            {"0x-api-key": self._key, "0x-version": "v2"},
            {
                "chainId": str(request.chain_id),
                "sellToken": request.token_in,
                "buyToken": request.token_out,
                "sellAmount": str(request.amount_in),
                "taker": request.taker,
                "txOrigin": request.origin,  # asked for where the taker is a contract
                "slippageBps": str(request.slippage_bps),
            },
        )
        if field(answer, "liquidityAvailable") is not True:
            raise QuoteError("it has no liquidity for this")
        if "chainId" in answer:
            expect(answer, request.chain_id, "chainId")
        expect(answer, request.token_in, "sellToken")
        expect(answer, request.token_out, "buyToken")
        expect(answer, request.amount_in, "sellAmount")
        expect(answer, 0, "transaction", "value")
        return Quote(
            self.name,
            request,
            amount(answer, "buyAmount"),
            amount(answer, "minBuyAmount"),
            address(answer, "transaction", "to"),
            address(answer, "allowanceTarget"),
            calldata(answer, "transaction", "data"),
            amount(answer, "transaction", "gas") if answer["transaction"].get("gas") is not None else 0,
        )
