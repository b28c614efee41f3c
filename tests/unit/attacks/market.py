"""A vault of two tokens and a real Uniswap V2 pair between them, at the oracle's price."""

from __future__ import annotations

from offchain.planner.payload import SwapV2, Sweep, encode
from tests.support.evm import DEPLOYER, Contract, uniswap_artifact
from tests.support.venue import V2, V2_FEE_BPS, is_token0, v2_out
from tests.support.world import WAD, World

CASH, STOCK = 0, 1
PRICE = 2  # USD for STOCK, 1 for CASH
NAV = 1_000_000  # USD
DEPTH = 20_000_000  # USD on each side of the pair


class Market(World):
    """Half cash at 1 USD, half stock at 2, both of 18 decimals; 60 thousand USD too much cash. The real
    executor, `router`, trades on the pair.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__((5_000, 5_000), (18,), (1, PRICE), seed_usd=NAV, mode=1)
        self.router = self.deploy("Executor")
        factory = self.evm.deploy(uniswap_artifact(f"{V2}/UniswapV2Factory.json"), DEPLOYER)
        address = factory.call("createPair", *(token.address for token in self.tokens))
        self.pair = self.evm.at(address, uniswap_artifact(f"{V2}/UniswapV2Pair.json"))
        self.give(address, [depth * WAD, depth * WAD // PRICE])
        self.pair.call("mint", DEPLOYER)
        self.set_balances([560_000 * WAD, 440_000 * WAD // PRICE])

    @property
    def excess(self) -> int:
        """Cash above its target."""
        cash, stock = self.balances()
        return int(cash - stock * PRICE) // 2

    def leg(self, sold: int, min_out: int) -> SwapV2:
        """Cash to the pair, stock to the vault."""
        cash = self.tokens[CASH]
        first = is_token0(self.pair, cash)
        return SwapV2(self.pair.address, cash.address, sold, min_out, V2_FEE_BPS, first, to_caller=True)

    def quote(self, sold: int) -> int:
        """Stock that the pair pays now."""
        return v2_out(sold, *self.balances(self.pair.address))

    def trade(self, sold: int, min_out: int, *sweeps: Contract) -> None:
        """The keeper's rebalance, of what the planner makes: swap, then sweep what was left."""
        payload = encode([self.leg(sold, min_out), *(Sweep(token.address) for token in sweeps)])
        self.rebalance([], sells=[sold, 0], executor=self.router.address, payload=payload)

    def swap(self, account: str, token_in: int, amount: int) -> int:
        """An account's own swap; what it gets."""
        reserves = self.balances(self.pair.address)
        out = v2_out(amount, reserves[token_in], reserves[1 - token_in])
        self.tokens[token_in].call("transfer", self.pair.address, amount, sender=account)
        token1_out = is_token0(self.pair, self.tokens[token_in])
        self.pair.call("swap", 0 if token1_out else out, out if token1_out else 0, account, b"")
        return out
