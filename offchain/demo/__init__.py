"""The whole system on a local chain: Ganache, real Uniswap pools, real price history, the keeper itself."""
