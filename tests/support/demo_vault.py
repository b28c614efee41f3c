"""One vault of the demo's world, on anvil unless told otherwise, that holds enough to trade, and its keeper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from web3.contract import Contract

from offchain.chain.sender import Sender
from offchain.demo.localchain import LocalChain
from offchain.demo.market import history
from offchain.demo.world import World, build_world
from offchain.keeper.journal import Journal
from offchain.keeper.loop import Keeper
from offchain.policy import Mode
from tests.support.anvil import anvil

FIRST = history(2)[0]
DEPOSIT = 100_000  # USD


@contextmanager
def funded_vault(
    start: Callable[[int], AbstractContextManager[LocalChain]] = anvil,
) -> Iterator[tuple[World, Contract]]:
    """A world at the prices of FIRST with one threshold vault, into which DEPOSIT came in kind.

    `start` makes the chain, its clock at the timestamp it is given.
    """
    with start(FIRST.timestamp) as chain:
        world = build_world(chain, FIRST)
        vault = world.create_vault(Mode.THRESHOLD, "Test basket", "TEST", FIRST)
        depositor = chain.accounts[6]
        world.mint(depositor.address, DEPOSIT, FIRST)
        world.approve(depositor, vault.address)
        shares = (DEPOSIT - 1_000) * 10**18
        amounts = vault.functions.preview_mint_in_kind(shares).call()
        chain.send(
            depositor, vault.functions.mint_in_kind(shares, [a * 2 for a in amounts], depositor.address)
        )
        yield world, vault


def make_keeper(world: World, vault: Contract, journal: Journal, **changes: Any) -> Keeper:
    """The vault's keeper, with other settings where `changes` names them."""
    keeper = Keeper(
        web3=world.chain.web3,
        vault=vault.address,
        executor=world.executor.address,
        hub=world.cash.address,
        pools=world.pool_source,
        sender=Sender(world.chain.web3, world.keeper, poll_seconds=0.02),
        journal=journal,
    )
    return replace(keeper, **changes)
