"""CoW Protocol order book API, `POST /api/v1/quote`: crates/orderbook/openapi.yml of cowprotocol/services."""

from __future__ import annotations

from offchain.aggregators.base import HttpVenue, Quote, QuoteError, QuoteRequest, amount, expect, field

__all__ = ["Cow"]

NETWORKS = {
    1: "mainnet",
    56: "bnb",
    100: "xdai",
    137: "polygon",
    8453: "base",
    9745: "plasma",
    42161: "arbitrum_one",
    43114: "avalanche",
    57073: "ink",
    59144: "linea",
    11155111: "sepolia",
}


class Cow(HttpVenue):
    """A benchmark only: an order must be signed and is settled later by a solver, not inside a rebalance."""

    name = "cow"
    default_url = "https://api.cow.fi"
    key_variable = ""

    def _ask(self, request: QuoteRequest) -> Quote:
        network = NETWORKS.get(request.chain_id)
        if network is None:
            raise QuoteError(f"it does not run on chain {request.chain_id}")
        answer = self._http.handle(
            "POST",
            f"{self._url}/{network}/api/v1/quote",
            {},
            body={
                "sellToken": request.token_in,
                "buyToken": request.token_out,
                "from": request.taker,
                "receiver": request.taker,
                "kind": "sell",
                "sellAmountBeforeFee": str(request.amount_in),
                "signingScheme": "eip1271",  # what a contract's order would use
                "priceQuality": "optimal",  # "verified" would need the executor to hold the tokens
            },
        )
        quote = field(answer, "quote")
        expect(quote, request.token_in, "sellToken")
        expect(quote, request.token_out, "buyToken")
        if amount(quote, "sellAmount") + amount(quote, "feeAmount") != request.amount_in:
            raise QuoteError(f"sellAmount and feeAmount do not add up to {request.amount_in}")
        offered = amount(quote, "buyAmount")
        least = offered * (10_000 - request.slippage_bps) // 10_000  # what one would sign
        reason = "settles later, by a signed order, not inside the rebalance: shown for comparison"
        return Quote(self.name, request, offered, least, reason=reason)
