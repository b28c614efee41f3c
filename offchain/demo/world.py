"""Everything on one local chain: tokens, feeds, oracle, Uniswap pools at market prices, Evenkeel's contracts.

`build_world(chain, day)` deploys it, `World.set_market(day)` moves it to another day's prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from offchain import policy
from offchain.chain.contracts import ZERO, bind
from offchain.chain.lens import read_one
from offchain.chain.pools import PoolSource, read_pools
from offchain.demo.localchain import LocalChain
from offchain.demo.market import CASH, PRICE_DECIMALS, STOCKS, Day, Token
from offchain.demo.uniswap import Uniswap, Venue, deploy_uniswap
from offchain.planner.payload import Leg, SwapV2, SwapV3, encode
from offchain.planner.pools import Pool, V2Pool, zero_for_one
from offchain.policy import DAY, WAD, CalendarUnit, Mode, VaultState

__all__ = ["TOKENS", "World", "build_world"]

TOKENS = (*STOCKS, CASH)
V2_DEPTH = 20_000_000  # USD on each side of each pair
V3_DEPTHS = {
    "tAAPL": (500, 10_000_000),
    "tJPM": (3_000, 2_000_000),
    "tXOM": (500, 10_000_000),
}  # fee, USD on each side
V3_REACH = 4.0  # V3 liquidity lies from a quarter of the first price to four times it
MAX_UINT256 = 2**256 - 1
ARBITRAGE_FUNDS = 10**9  # USD of each token
HEARTBEAT = DAY  # a closed market is a stale price, and a stale price stops trades
MIN_PRICE, MAX_PRICE = WAD // 1_000, 100_000 * WAD  # USD WAD
SEED = 1_000  # USD that the creator puts into each vault
CALENDAR_ANCHOR = 1_577_836_800  # 1 January 2020
CALENDAR_MONTHS = 3
DELAY = 2 * DAY  # of the Timelock, and of the oracle's owner
AUCTION = (6 * 3_600, 3_600, 100)  # seconds of grace, seconds of decay, bps of the first price
MARGIN_BPS = 100  # a swap or a zap reverts when it would get this much less than expected


@dataclass
class World:
    """The contracts, and who is who. All amounts in token units."""

    chain: LocalChain
    deployer: LocalAccount
    keeper: LocalAccount
    guardian: LocalAccount
    provider: LocalAccount  # of liquidity
    arbitrageur_bot: LocalAccount
    tokens: list[Contract]  # in the order of TOKENS, as everywhere
    feeds: list[Contract]
    oracle: Contract
    executor: Contract
    zap: Contract
    auction: Contract
    rule_book: Contract
    timelock: Contract
    implementation: Contract
    factory: Contract
    uniswap: Uniswap
    board: Contract
    arbitrageur: Contract
    lens: Contract
    venues: list[Venue] = field(default_factory=list)
    vaults: list[Contract] = field(default_factory=list)

    @property
    def cash(self) -> Contract:
        """The cash token's contract."""
        return self.tokens[-1]

    @property
    def pool_source(self) -> PoolSource:
        """Where the keeper finds the pools."""
        fees = sorted({fee for fee, _ in V3_DEPTHS.values()})
        return PoolSource([self.uniswap.v2_factory.address], [self.uniswap.v3_factory.address], fees)

    def set_market(self, day: Day) -> None:
        """Move the feeds to the day's prices, then let arbitrage pull the pools along: two transactions."""
        feeds = [feed.address for feed in self.feeds]
        self.chain.send(self.deployer, self.board.functions.set_answers(feeds, list(day.prices)))
        per_unit = {
            str(contract.address): price * 10**30 // token.scale
            for token, contract, price in zip(TOKENS, self.tokens, day.prices, strict=True)
        }
        with self.chain.web3.batch_requests() as batch:
            for venue in self.venues:
                batch.add(venue.reading())
            seen: list[Any] = batch.execute()
        legs = [
            venue.arbitrage(reading, per_unit[venue.token0], per_unit[venue.token1])
            for venue, reading in zip(self.venues, seen, strict=True)
        ]
        self.chain.send(self.arbitrageur_bot, self.arbitrageur.functions.trade(legs))

    def mint(self, receiver: str, usd: int, day: Day, only: Sequence[Token] = TOKENS) -> None:
        """Give `usd` dollars' worth of each token of `only`."""
        for token, contract, price in zip(TOKENS, self.tokens, day.prices, strict=True):
            if token in only:
                self.chain.send(self.deployer, contract.functions.mint(receiver, _amount(token, price, usd)))

    def approve(self, owner: LocalAccount, spender: str, only: Sequence[Token] = TOKENS) -> None:
        """Let `spender` take the owner's tokens."""
        for token, contract in zip(TOKENS, self.tokens, strict=True):
            if token in only:
                self.chain.send(owner, contract.functions.approve(spender, MAX_UINT256))

    def create_vault(self, mode: Mode, name: str, symbol: str, day: Day) -> Contract:
        """A vault of all tokens with the demo's rules, seeded by the deployer at the target weights."""
        seeds = [
            _amount(token, price, SEED) * token.target_bps // 10_000
            for token, price in zip(TOKENS, day.prices, strict=True)
        ]
        self.mint(self.deployer.address, SEED, day)
        create = self.factory.functions.create_vault(
            self._config(mode, name, symbol), seeds, bytes(31) + bytes([mode])
        )
        self.chain.send(self.deployer, create)
        count = self.factory.functions.vault_count().call()
        vault = bind(self.chain.web3, "Vault", self.factory.functions.vaults(count - 1).call())
        self.vaults.append(vault)
        return vault

    def state(self, vault: Contract) -> VaultState:
        """As of the newest block."""
        return read_one(self.chain.web3, self.lens.address, vault.address).state

    def announce(self, vault: Contract, name: str, *arguments: Any) -> ContractFunction:
        """The admin queues a change of `vault` at the Timelock; the call that makes it after the delay."""
        call = self.timelock.get_function_by_name(name)(vault.address, *arguments)
        data = bytes.fromhex(call._encode_transaction_data().removeprefix("0x"))
        self.chain.send(self.deployer, self.timelock.functions.queue(vault.address, data))
        return self.timelock.functions.execute(vault.address, data)

    def zap_in(self, depositor: LocalAccount, vault: Contract, amount: int) -> int:
        """Deposit `amount` of cash through the Zap, swapped into the vault's weights; the shares received."""
        payload, expected = self._zap_payload(vault, amount)
        before = vault.functions.balanceOf(depositor.address).call()
        least = expected * (10_000 - MARGIN_BPS) // 10_000
        deadline = self.chain.now + DAY
        self.chain.send(
            depositor,
            self.zap.functions.zap_in(
                vault.address, self.cash.address, amount, payload, [], least, depositor.address, deadline
            ),
        )
        return int(vault.functions.balanceOf(depositor.address).call() - before)

    def swap_leg(self, sold: Contract, bought: Contract, amount: int, *, to_caller: bool) -> SwapV2 | SwapV3:
        """An executor's leg that swaps `amount` of `sold` in the pool that pays most now, to_caller or to itself."""
        block = self.chain.web3.eth.block_number
        pools = read_pools(self.chain.web3, [(sold.address, bought.address)], self.pool_source, block)
        paid, best = max(((pool.amount_out(sold.address, amount), pool) for pool in pools), key=_paid)
        least = paid * (10_000 - MARGIN_BPS) // 10_000
        sells0 = zero_for_one(best, sold.address)
        if isinstance(best, V2Pool):
            return SwapV2(best.address, sold.address, amount, least, best.fee_bps, sells0, to_caller)
        return SwapV3(best.address, sold.address, amount, least, sells0, to_caller)

    def _zap_payload(self, vault: Contract, amount: int) -> tuple[bytes, int]:
        """Swap cash into each stock in the vault's proportions; the shares to expect before costs."""
        state = self.state(vault)
        values = policy.values(state)
        total = sum(values)
        legs: list[Leg] = [
            self.swap_leg(self.cash, stock, amount * value // total, to_caller=True)
            for stock, value in zip(self.tokens[:-1], values, strict=False)
        ]
        deposited = amount * state.prices[-1] // CASH.scale
        return encode(legs), deposited * state.supply // total

    def _config(self, mode: Mode, name: str, symbol: str) -> tuple[Any, ...]:
        """`Config` of docs/spec.md."""
        assets = [
            (contract.address, 0, token.target_bps, 500, 2_500, 500, 6_000, 30)
            for token, contract in zip(TOKENS, self.tokens, strict=True)
        ]
        rules = (
            int(mode),
            int(CalendarUnit.MONTHS),
            CALENDAR_MONTHS,
            CALENDAR_ANCHOR,
            DAY,  # window
            DAY,  # cooldown
            150,  # bps, slippage
            100,  # bps, loss capacity
            400,  # bps a year, its refill
            20,  # bps, tolerance
            2_000,  # bps, speed capacity of moving targets
            100,  # bps a day, its refill
        )
        admin, guardian = self.deployer.address, self.guardian.address
        keepers = [self.keeper.address, self.auction.address]
        who = (admin, DELAY, guardian, admin, keepers)  # the admin is the strategist, too
        return name, symbol, assets, rules, self.oracle.address, *who, 0, admin


def build_world(chain: LocalChain, day: Day) -> World:
    """Deploy all of it at the day's prices."""
    deployer, keeper, guardian, provider, bot = chain.accounts[:5]
    tokens = [chain.deploy(deployer, "TestToken", t.name, t.symbol, t.decimals) for t in TOKENS]
    feeds = [
        chain.deploy(deployer, "TestFeed", PRICE_DECIMALS, f"{t.symbol} / USD", price)
        for t, price in zip(TOKENS, day.prices, strict=True)
    ]
    oracle = chain.deploy(deployer, "PriceOracle", guardian.address, DELAY, ZERO, 0)  # no sequencer here
    for token, feed in zip(tokens, feeds, strict=True):
        chain.send(
            deployer, oracle.functions.set_feed(token.address, feed.address, HEARTBEAT, MIN_PRICE, MAX_PRICE)
        )
    executor = chain.deploy(deployer, "Executor")
    rule_book = chain.deploy(deployer, "RuleBook")
    teller = chain.deploy(deployer, "Teller")
    timelock = chain.deploy(deployer, "Timelock", rule_book.address, teller.address)
    implementation = chain.deploy(deployer, "Vault", rule_book.address, timelock.address)
    world = World(
        chain=chain,
        deployer=deployer,
        keeper=keeper,
        guardian=guardian,
        provider=provider,
        arbitrageur_bot=bot,
        tokens=tokens,
        feeds=feeds,
        oracle=oracle,
        executor=executor,
        zap=chain.deploy(deployer, "Zap", executor.address),
        auction=chain.deploy(deployer, "Auction", *AUCTION),
        rule_book=rule_book,
        timelock=timelock,
        implementation=implementation,
        factory=chain.deploy(deployer, "VaultFactory", implementation.address, rule_book.address),
        uniswap=deploy_uniswap(chain, deployer),
        board=chain.deploy(deployer, "FeedBoard"),
        arbitrageur=chain.deploy(deployer, "Arbitrageur"),
        lens=chain.deploy(deployer, "VaultLens"),
    )
    _add_pools(world, day)
    world.mint(world.arbitrageur.address, ARBITRAGE_FUNDS, day)
    world.approve(deployer, world.factory.address)
    return world


def _add_pools(world: World, day: Day) -> None:
    """A V2 pair and a V3 pool of each stock against cash."""
    uniswap, provider, cash = world.uniswap, world.provider, world.cash
    world.mint(provider.address, 5 * V2_DEPTH, day)
    world.approve(provider, uniswap.v2_router.address)
    world.approve(provider, uniswap.v3_positions.address)
    for stock, contract, price in zip(STOCKS, world.tokens, day.prices, strict=False):
        depth = _amount(stock, price, V2_DEPTH)
        world.venues.append(
            uniswap.add_v2(provider, contract.address, cash.address, depth, V2_DEPTH * CASH.scale)
        )
        fee, usd = V3_DEPTHS[stock.symbol]
        depth = _amount(stock, price, usd)
        venue = uniswap.add_v3(
            provider, contract.address, cash.address, depth, usd * CASH.scale, fee, V3_REACH
        )
        world.venues.append(venue)


def _paid(quote: tuple[int, Pool]) -> int:
    return quote[0]


def _amount(token: Token, price: int, usd: int) -> int:
    """Token units worth `usd`; `price` in the feed's decimals."""
    return int(usd * 10**PRICE_DECIMALS * token.scale // price)
