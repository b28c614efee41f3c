"""UniswapX through the Uniswap Trading API, `POST /quote`: api-docs.uniswap.org, "Get a quote" and "Swap routing"."""

from __future__ import annotations

from offchain.aggregators.base import (
    HttpVenue,
    Quote,
    QuoteError,
    QuoteRequest,
    address,
    amount,
    expect,
    field,
)

__all__ = ["UniswapX"]

ROUTINGS = ("DUTCH_V2", "DUTCH_LIMIT")  # Dutch auctions with a start and an end


class UniswapX(HttpVenue):
    """A benchmark only: the swapper signs a Dutch order that a filler settles later."""

    name = "uniswapx"
    default_url = "https://trade-api.gateway.uniswap.org/v1"
    key_variable = "EVENKEEL_UNISWAP_API_KEY"

    def _ask(self, request: QuoteRequest) -> Quote:
        answer = self._http.handle(
            "POST",
            f"{self._url}/quote",
            {"x-api-key": self._key, "Accept": "application/json"},
            body={
                "type": "EXACT_INPUT",
                "amount": str(request.amount_in),
                "tokenInChainId": request.chain_id,
                "tokenOutChainId": request.chain_id,
                "tokenIn": request.token_in,
                "tokenOut": request.token_out,
                "swapper": request.taker,
                "slippageTolerance": request.slippage_bps / 100,  # per cent
                "protocols": ["UNISWAPX_V2"],
            },
        )
        routing = field(answer, "routing")
        if routing not in ROUTINGS:
            raise QuoteError(f"routing {routing!r} is none of {', '.join(ROUTINGS)}")
        order = field(answer, "quote", "orderInfo")
        expect(order, request.chain_id, "chainId")
        expect(order, request.token_in, "input", "token")
        expect(order, request.amount_in, "input", "startAmount")
        outputs = field(order, "outputs")
        if not isinstance(outputs, list):
            raise QuoteError("quote.orderInfo.outputs is not a list")
        ours = [out for out in outputs if address(out, "recipient") == request.taker.lower()]  # others: fees
        for out in ours:
            expect(out, request.token_out, "token")
        offered = sum(amount(out, "startAmount") for out in ours)
        least = sum(amount(out, "endAmount") for out in ours)
        reason = "settles later, by a signed order, not inside the rebalance: shown for comparison"
        return Quote(self.name, request, offered, least, reason=reason)
