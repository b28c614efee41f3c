"""What an account would have if it left now, for the profit and loss of an attack."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.world import World


def value(world: World, amounts: Sequence[int]) -> int:
    """USD WAD at the present prices, rounded down."""
    return sum(
        amount * price // 10**decimals
        for amount, price, decimals in zip(amounts, world.prices, world.decimals, strict=True)
    )


def stake(world: World, account: str) -> int:
    """What the account's shares redeem for, USD WAD."""
    shares = world.vault.call("balanceOf", account)
    return value(world, world.vault.call("preview_redeem_in_kind", shares, 0)) if shares else 0


def wealth(world: World, *accounts: str) -> int:
    """Tokens and shares of the accounts together, USD WAD."""
    return sum(value(world, world.balances(account)) + stake(world, account) for account in accounts)
