"""What a plan depends on, read from a node at one block: the pools around a vault, the hub, what gas costs.

`observe` is the edge: node in, the planner's `Problem` out. `make_problem`, `pairs` and `priced` are its pure parts.
The keeper and `evenkeel plan` both use it, so they plan the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, Web3Exception

from offchain import policy
from offchain.chain.contracts import ERC20, bind_abi
from offchain.chain.errors import NODE_ERRORS, ConfigError
from offchain.chain.oracle import price_status, read_prices
from offchain.chain.pools import PoolSource, discover, read_pools
from offchain.chain.sender import is_revert
from offchain.chain.vault import Snapshot
from offchain.planner import Pool, Problem
from offchain.planner.pools import same
from offchain.policy import WAD, VaultState
from offchain.settings import Settings

__all__ = [
    "GasPrice",
    "Hub",
    "Observed",
    "Sources",
    "make_problem",
    "need_factories",
    "observe",
    "pairs",
    "priced",
    "read_gas_price",
]

NO_GAS_PRICE = "gas is left out: set native_token or native_price_usd, so that it counts"


@dataclass(frozen=True)
class Sources:
    """Where to look, as the settings say."""

    pools: PoolSource
    executor: str = ""  # address; "": not known, so whether the vault allows it is not checked
    hub: str = ""  # address of a cash token that swaps may pass through; "": none
    native_token: str = ""  # address of the wrapped native token, priced by the vault's oracle; "": none
    native_price: int = 0  # USD WAD per whole native token, where the oracle has none; 0: not known
    max_fee_wei: int | None = None  # the most that the keeper pays for a unit of gas
    closing_margin_bps: int = 0  # of NAV: how far inside the drift that closes a session plans end

    @classmethod
    def from_settings(cls, settings: Settings) -> Sources:
        """What the settings name."""
        pools = PoolSource(
            settings.v2_factories, settings.v3_factories, settings.v3_fees, v2_fee_bps=settings.v2_fee_bps
        )
        max_fee = None if settings.max_fee_gwei is None else int(settings.max_fee_gwei * 10**9)
        native_price = 0 if settings.native_price_usd is None else int(settings.native_price_usd * WAD)
        return cls(
            pools,
            settings.executor or "",
            settings.hub or "",
            settings.native_token or "",
            native_price,
            max_fee,
            settings.closing_margin_bps,
        )


@dataclass(frozen=True, slots=True)
class GasPrice:
    """What a unit of gas costs; usd 0 and the reason where that is not known, and plans then leave gas out."""

    usd: int = 0  # USD WAD a unit, rounded up
    wei: int = 0  # a unit
    native_price: int = 0  # USD WAD per whole native token
    source: str = ""  # what priced the native token: "oracle" or "native_price_usd"
    note: str = ""  # what the operator should know


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub outside the basket."""

    decimals: int = 18
    price: int = 0  # USD WAD per whole token; 0: not known
    note: str = ""


@dataclass(frozen=True)
class Observed:
    """The problem, and what was left out of it."""

    problem: Problem
    gas: GasPrice
    notes: tuple[str, ...] = ()  # one sentence each, with the setting that changes it


def need_factories(settings: Settings) -> None:
    """ConfigError where the settings name no place to look for pools."""
    if not settings.v2_factories and not settings.v3_factories:
        raise ConfigError("v2_factories, v3_factories: name at least one, or there is nowhere to trade")


# ---------------------------------------------------------------- pure


def pairs(state: VaultState, hub: str) -> list[tuple[str, str]]:
    """Every two tokens whose pools a plan may use: the basket without the asset in quarantine, and the hub."""
    aside = policy.aside(state)
    tokens = [asset.token for i, asset in enumerate(state.assets) if i != aside]
    if hub and not in_basket(state, hub):
        tokens.append(hub)
    return list(combinations(tokens, 2))


def in_basket(state: VaultState, token: str) -> bool:
    """Whether the token is one of the assets."""
    return any(same(asset.token, token) for asset in state.assets)


def make_problem(
    snapshot: Snapshot, pools: tuple[Pool, ...], sources: Sources, hub: Hub, gas: GasPrice
) -> Problem:
    """The planner's problem at the snapshot's block. A pool worse than the slippage limit is not used."""
    state = snapshot.state
    return Problem(
        state=state,
        pools=pools,
        executor=sources.executor,
        hub=sources.hub,
        now=state.time,
        hub_decimals=hub.decimals,
        hub_price=hub.price,
        gas_price=gas.usd,
        pool_limit_bps=state.rules.max_slippage_bps,
        closing_margin_bps=sources.closing_margin_bps,
    )


def priced(wei: int, native_price: int, source: str, max_fee_wei: int | None) -> GasPrice:
    """A unit of gas at `wei`, or at the most that the keeper pays, in USD."""
    note = ""
    if max_fee_wei is not None and wei > max_fee_wei:
        note = (
            f"gas costs {wei / 1e9:g} gwei now, above max_fee_gwei {max_fee_wei / 1e9:g}: planned at that limit, "
            "and nothing is sent until gas is cheaper"
        )
        wei = max_fee_wei
    usd = -(-wei * native_price // WAD)  # up: gas is never thought cheaper than it is
    return GasPrice(usd, wei, native_price, source, note)


# ---------------------------------------------------------------- edge


def observe(web3: Web3, snapshot: Snapshot, sources: Sources) -> Observed:
    """Read what a plan for the vault depends on; every contract is asked at the snapshot's block."""
    gas = read_gas_price(web3, snapshot, sources)
    hub = _read_hub(web3, snapshot, sources.hub)
    wanted, block = pairs(snapshot.state, sources.hub), snapshot.block.number
    try:
        pools = read_pools(web3, wanted, sources.pools, block)
    except Web3Exception:
        _check_factories(web3, wanted, sources.pools, block)
        raise
    notes = tuple(note for note in (gas.note, hub.note) if note)
    return Observed(make_problem(snapshot, pools, sources, hub, gas), gas, notes)


def _check_factories(web3: Web3, wanted: list[tuple[str, str]], source: PoolSource, block: int) -> None:
    """ConfigError that names the factory which does not answer as one."""
    named = [("v2_factories", factory, PoolSource([factory])) for factory in source.v2_factories]
    named += [
        ("v3_factories", factory, PoolSource([], [factory], source.v3_fees))
        for factory in source.v3_factories
    ]
    for setting, factory, alone in named:
        try:
            discover(web3, wanted, alone, block)
        except Web3Exception as error:
            if is_revert(error) or isinstance(error, BadFunctionCallOutput):
                kind, chain = setting[:2].upper(), web3.eth.chain_id
                raise ConfigError(
                    f"{setting}: {factory} is no Uniswap {kind} factory on chain {chain}"
                ) from None
            raise


def read_gas_price(web3: Web3, snapshot: Snapshot, sources: Sources) -> GasPrice:
    """What a unit of gas costs at the snapshot's block. Never raises: a plan without gas is better than none."""
    try:
        native = _native_price(web3, snapshot, sources)
        return native if not native.native_price else _gas_at(web3, snapshot, sources, native)
    except NODE_ERRORS as error:
        return GasPrice(note=f"gas is left out: the node does not say what it costs ({type(error).__name__})")


def _native_price(web3: Web3, snapshot: Snapshot, sources: Sources) -> GasPrice:
    """The native token's price alone: the oracle's, else the setting's."""
    why = ""
    if sources.native_token:
        oracle, block = snapshot.state.oracle, snapshot.block.number
        ((price, status),) = read_prices(web3, oracle, [sources.native_token], block)
        if status == 0 and price > 0:
            return GasPrice(native_price=price, source="oracle")
        why = f"the vault's oracle has no usable price for native_token ({price_status(status)})"
    if sources.native_price:
        return GasPrice(native_price=sources.native_price, source="native_price_usd")
    return GasPrice(note=f"gas is left out: {why}; set native_price_usd" if why else NO_GAS_PRICE)


def _gas_at(web3: Web3, snapshot: Snapshot, sources: Sources, native: GasPrice) -> GasPrice:
    """Base fee of the block + the priority fee that the node suggests; the node's gas price on older chains."""
    base = web3.eth.get_block(snapshot.block.number).get("baseFeePerGas")
    wei = web3.eth.gas_price if base is None else base + web3.eth.max_priority_fee
    return priced(int(wei), native.native_price, native.source, sources.max_fee_wei)


def _read_hub(web3: Web3, snapshot: Snapshot, hub: str) -> Hub:
    """Decimals and price of a hub outside the basket; without a price the single-pool plan cannot be compared."""
    if not hub or in_basket(snapshot.state, hub):
        return Hub()
    block = snapshot.block.number
    ((price, status),) = read_prices(web3, snapshot.state.oracle, [hub], block)
    if status or not price:
        why = f"hub: the vault's oracle has no usable price for {hub} ({price_status(status)})"
        return Hub(note=f"{why}; its pools are used, the single-pool plan is not compared")
    decimals = int(bind_abi(web3, ERC20, hub).functions.decimals().call(block_identifier=block))
    return Hub(decimals, price)
