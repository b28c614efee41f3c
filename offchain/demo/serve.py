"""`evenkeel demo --serve`: a chain that stays up, a vault with a history, the page, a wallet with test money.

The chain's clock ends at the present, as a real one's: a block every few seconds, feeds that answer anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from eth_account.signers.local import LocalAccount
from rich.console import Console
from web3.contract import Contract
from web3.exceptions import Web3Exception

from offchain.api import ChainSource, Options, Places, create_app
from offchain.api.demo_wallet import DemoWallet
from offchain.api.routes import Limits
from offchain.api.serving import host_names, listening, serve, url_of
from offchain.chain.errors import ChainError
from offchain.chain.sender import Sender
from offchain.demo.localchain import LocalChain, local_chain
from offchain.demo.market import CASH, TRADING_DAYS, Day, history
from offchain.demo.world import World, build_world
from offchain.errors import EvenkeelError
from offchain.keeper.journal import Journal
from offchain.keeper.loop import Keeper
from offchain.keeper.market import Sources
from offchain.policy import DAY, WAD, Mode

__all__ = ["Stage", "serve_demo", "staged"]

EVERY = 14  # trading days of a year of real prices are a day here
ALICE_SHARES = 80_000 * WAD
ZAP_USD = 60_000
WALLET_USD = 10_000  # of each token, for the test wallet
BLOCK_SECONDS = 4
REFRESH_SECONDS = 3_600  # of the feeds, whose heartbeat is a day
WALLET = 8  # of the chain's accounts
TELLER = (
    100,
    150,
    6 * 3_600,
    1_000,
    1_000,
    False,
)  # floor and surcharge bps, seconds, flow bps, refill bps a day


@dataclass
class Stage:
    """What the page shows."""

    world: World
    vault: Contract
    lens: Contract
    wallet: LocalAccount
    day: Day  # the newest prices

    @property
    def places(self) -> Places:
        """For the API."""
        world = self.world
        sources = Sources(world.pool_source, world.executor.address, world.cash.address)
        return Places(
            factory=world.factory.address,
            lens=self.lens.address,
            zap=world.zap.address,
            sources=sources,
            vaults=tuple(vault.address for vault in world.vaults),
        )


@contextmanager
def staged(
    start: Callable[[int], AbstractContextManager[LocalChain]] = local_chain,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Stage]:
    """A chain with one vault that traded through a year of prices, and an account with test money."""
    market = _recent(history(TRADING_DAYS)[::EVERY])
    with start(market[0].timestamp) as chain:
        progress("deploying Evenkeel, Uniswap V2 and V3, tokens and feeds")
        world = build_world(chain, market[0])
        vault = world.create_vault(Mode.EITHER, "Evenkeel Hybrid", "ekHYB", market[0])
        _deposit(world, vault, market[0])
        teller = world.announce(vault, "add_teller", world.cash.address, *TELLER)
        progress(f"{len(market)} days of the market, the keeper at work")
        journal = Journal(":memory:")
        keeper = _keeper(world, vault, journal)
        try:
            for number, day in enumerate(market[1:], start=1):
                chain.set_time(day.timestamp)
                world.set_market(day)
                outcome = keeper.once()
                if outcome.failed:
                    raise EvenkeelError(f"demo: the keeper failed: {outcome.reason}")
                if number == 3:  # the delay is over
                    chain.send(world.deployer, teller)
        finally:
            journal.close()
        wallet = chain.accounts[WALLET]
        world.mint(wallet.address, WALLET_USD, market[-1])
        lens = chain.deploy(world.deployer, "VaultLens")
        yield Stage(world, vault, lens, wallet, market[-1])


def serve_demo(address: str = "127.0.0.1", port: int = 0, static: Path | None = None) -> None:
    """Serve the page over a chain of its own until Ctrl-C."""
    console = Console(highlight=False)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with console.status("starting a local chain") as status, staged(progress=status.update) as stage:
        limits = Limits(block_age_seconds=None)
        options = Options(
            limits=limits,
            hosts=host_names(address, []),
            wallet=DemoWallet(stage.world.chain.web3, stage.wallet),
        )
        options = options if static is None else replace(options, static=static)
        app = create_app(ChainSource(stage.world.chain.web3, stage.places), options)
        with listening(address, port) as listener, _living(stage):
            status.stop()
            _tell(console, stage, url_of(listener))
            with suppress(KeyboardInterrupt):
                serve(app, listener)
            console.print("stopped")


# ---------------------------------------------------------------- parts


def _recent(market: list[Day]) -> list[Day]:
    """The days' prices, a day apart, the last one of now."""
    last = int(time.time()) - 60
    return [
        _Shifted(day.date, day.prices, last - (len(market) - 1 - n) * DAY) for n, day in enumerate(market)
    ]


@dataclass(frozen=True)
class _Shifted(Day):
    """A day's prices at another time."""

    at: int

    @property
    def timestamp(self) -> int:
        """Seconds UTC."""
        return self.at


def _deposit(world: World, vault: Contract, day: Day) -> None:
    """Alice comes in kind, Bob with cash."""
    alice, bob = world.chain.accounts[5:7]
    world.mint(alice.address, 2 * ALICE_SHARES // WAD, day)
    world.approve(alice, vault.address)
    amounts = vault.functions.preview_mint_in_kind(ALICE_SHARES).call()
    world.chain.send(alice, vault.functions.mint_in_kind(ALICE_SHARES, amounts, alice.address))
    world.mint(bob.address, ZAP_USD, day, only=[CASH])
    world.approve(bob, world.zap.address, only=[CASH])
    world.zap_in(bob, vault, ZAP_USD * CASH.scale)


def _keeper(world: World, vault: Contract, journal: Journal) -> Keeper:
    return Keeper(
        web3=world.chain.web3,
        vault=vault.address,
        executor=world.executor.address,
        hub=world.cash.address,
        pools=world.pool_source,
        sender=Sender(world.chain.web3, world.keeper, poll_seconds=0.02),
        journal=journal,
    )


@contextmanager
def _living(stage: Stage) -> Iterator[None]:
    """Blocks go on, and feeds answer anew, while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_live, args=(stage, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def _live(stage: Stage, stop: threading.Event) -> None:
    chain, world = stage.world.chain, stage.world
    refreshed = time.monotonic()
    while not stop.wait(BLOCK_SECONDS):
        try:
            if time.monotonic() - refreshed > REFRESH_SECONDS:
                feeds = [feed.address for feed in world.feeds]
                chain.send(world.deployer, world.board.functions.set_answers(feeds, list(stage.day.prices)))
                refreshed = time.monotonic()
            else:
                chain.mine(max(chain.now + 1, int(time.time())))
        except (ChainError, Web3Exception, OSError):  # a busy moment: the next block makes up for it
            continue


def _tell(console: Console, stage: Stage, url: str) -> None:
    console.print(f"\n[bold]open {url}[/]   (Ctrl-C ends it and the chain)\n")
    console.print("  1. Look around: holdings, bands, history, rules and roles need no wallet.")
    console.print(
        '  2. "Connect" and choose "Demo wallet". It is this chain\'s only: test money, no extension needed.'
    )
    console.print(
        f"  3. Deposit: pay with {CASH.symbol}, check the preview, and say OK when the wallet asks."
    )
    console.print("  4. Redeem: in kind, or in one token.\n")
    console.print(f"  test wallet  {stage.wallet.address}: {WALLET_USD:,} USD of each token")
    console.print(f"  vault        {stage.vault.address}")
    console.print(f"  node         {stage.world.chain.url}   chain {stage.world.chain.web3.eth.chain_id}")
    console.print(f"  API          {url}/v1/vaults   (docs/api.md)\n")
