"""A vault's history on a chain as purchases and sales: what lots are left is what the chain says is held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal as D
from pathlib import Path

import pytest
from typer.testing import CliRunner
from web3.contract import Contract

from offchain.audit.lots import Book, match
from offchain.audit.tax_files import read_transactions
from offchain.cli import app
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from tests.support.demo_vault import FIRST, funded_vault, make_keeper


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """Deposits, a donation, a rebalance, shares that change hands, an exit."""
    with funded_vault() as (world, vault):
        chain, (first, second, third) = world.chain, world.chain.accounts[6:9]
        dollar = vault.functions.totalSupply().call() // 100
        chain.send(first, vault.functions.transfer(second.address, 5 * dollar))
        chain.send(first, vault.functions.transfer(third.address, 7 * dollar))
        world.mint(first.address, 100, FIRST)
        chain.send(first, world.tokens[0].functions.transfer(vault.address, 10**6))
        chain.mine(chain.now + 3_600)
        world.set_market(replace(FIRST, prices=(FIRST.prices[0] * 16 // 10, *FIRST.prices[1:])))
        assert make_keeper(world, vault, Journal(":memory:")).once().status == Status.CONFIRMED
        n = len(vault.functions.basket().call())
        out = vault.functions.redeem_in_kind(9 * dollar, first.address, first.address, [0] * n, 0)
        chain.send(first, out)
        yield world, vault


def transactions(world: World, vault: Contract, folder: Path, *wallets: str) -> tuple[str, str]:
    out = folder / "out.csv"
    arguments = ["tax", "transactions", vault.address, "--rpc-url", world.chain.url, "--out", str(out)]
    for wallet in wallets:
        arguments += ["--wallet", wallet]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return out.read_text(), result.stderr


def held(book: Book) -> dict[tuple[str, str], D]:
    found: Counter[tuple[str, str]] = Counter()
    for lot in book.open:
        found[lot.account, lot.asset] += lot.quantity  # type: ignore[assignment]
    return dict(found)  # type: ignore[arg-type]


def test_what_is_left_of_a_vaults_lots_is_what_it_holds(
    world: World, vault: Contract, tmp_path: Path
) -> None:
    text, _ = transactions(world, vault, tmp_path)
    book = match(read_transactions(text))
    basket, balances = vault.functions.basket().call(), vault.functions.balances().call()
    assert held(book) == {
        (vault.address, asset[0]): D(units).scaleb(-asset[1])
        for asset, units in zip(basket, balances, strict=True)
    }
    (gift,) = [t for t in read_transactions(text) if t.id.endswith("/residual")]
    assert (gift.asset, getattr(gift, "cost", None)) == (world.tokens[0].address, 0)
    (log,) = vault.events.Rebalanced().get_logs(from_block=0)
    traded = [t for t in read_transactions(text) if t.id.startswith(log["transactionHash"].to_0x_hex())]
    bought = sum(t.cost for t in traded if hasattr(t, "cost"))
    sold = sum(t.proceeds for t in traded if hasattr(t, "proceeds"))
    assert bought == sold > 0  # what was received is what was paid


def test_what_is_left_of_wallets_shares_is_what_they_hold(
    world: World, vault: Contract, tmp_path: Path
) -> None:
    first, second, third = (account.address for account in world.chain.accounts[6:9])
    text, told = transactions(world, vault, tmp_path, first, second)
    assert "fill in the value of 1: shares from or to others" in told
    lines = text.splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if ",sell," in line and ",,0," in line)
    lines[place] = lines[place].replace(",,0,", ",7000,0,")
    book = match(read_transactions("".join(lines)))
    shares = {w: D(vault.functions.balanceOf(w).call()).scaleb(-18) for w in (first, second)}
    assert held(book) == {(w, vault.address): q for w, q in shares.items()}
    assert next(found.proceeds for found in book.matches) == 7000
    paid = sum(t.cost for t in read_transactions("".join(lines)) if hasattr(t, "cost"))
    assert abs(paid - 99_000) < 1  # USD that came in kind, at the oracle's prices
    _, told = transactions(world, vault, tmp_path, third)
    assert "fill in the value of 1" in told
