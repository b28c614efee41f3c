"""A vault's whole state, read at one block, as the policy's dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import Any

from eth_typing import BlockNumber
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BadFunctionCallOutput, BlockNotFound, ContractLogicError, Web3RPCError
from web3.types import BlockIdentifier

from offchain import policy
from offchain.chain.contracts import ERC20, address_of, bind, bind_abi
from offchain.chain.errors import ChainError, PassingError
from offchain.chain.sender import is_revert
from offchain.policy import NO_ASSET, Asset, Rules, Session, VaultState

__all__ = [
    "GUARDIAN_ROLE",
    "KEEPER_ROLE",
    "STRATEGIST_ROLE",
    "BlockRef",
    "Snapshot",
    "Terms",
    "block_at",
    "deadline_after",
    "latest_block",
    "read_terms",
    "read_vault",
    "storable",
    "symbols",
]

KEEPER_ROLE, STRATEGIST_ROLE, GUARDIAN_ROLE = 1, 2, 4
ASIDE_AT, ASIDE_UNTIL_AT = 211, 216  # where the rules' word holds a quarantine (contracts/modules/packing.vy)
MAX_BPS = 10_000
MAX_DECIMALS = 24  # of a token that a vault takes (contracts/modules/portfolio.vy)
MOMENTS = 2**40  # above what a vault can store of a time, or of any number of its rules


@dataclass(frozen=True)
class BlockRef:
    """The block that a read is pinned to."""

    number: int
    hash: str
    time: int  # timestamp


@dataclass(frozen=True)
class Snapshot:
    """A vault as of one block."""

    chain_id: int
    block: BlockRef
    vault: str  # address
    state: VaultState
    head: str  # 0x hash, of the audit trail


@dataclass(frozen=True)
class Terms:
    """What the Timelock holds for a vault."""

    timelock: str  # address
    admin: str  # address
    delay_seconds: int


def latest_block(web3: Web3) -> BlockRef:
    """The newest block."""
    return block_at(web3, "latest")


def block_at(web3: Web3, at: BlockIdentifier) -> BlockRef:
    """The chain's block of that number or name."""
    block = web3.eth.get_block(at)
    return BlockRef(int(block["number"]), block["hash"].to_0x_hex(), int(block["timestamp"]))


def deadline_after(web3: Web3, block: BlockRef, seconds: int) -> int:
    """The timestamp so long after the block that comes next, which on a chain that stood still is late.

    A node that knows no pending block is asked for nothing more; one that has it more than a day away is not believed.
    """
    try:
        pending = int(web3.eth.get_block("pending")["timestamp"])
    except (Web3RPCError, BlockNotFound, KeyError, TypeError):  # the last two: it has no time
        pending = block.time
    return min(max(block.time, pending), block.time + policy.DAY) + seconds


def read_vault(web3: Web3, address: str, block: BlockRef | None = None) -> Snapshot:
    """Read `address` at `block` (default: the newest). Every call is pinned to that block."""
    at = block or latest_block(web3)
    vault = bind(web3, "Vault", address_of(address, "vault"))
    if not web3.eth.get_code(vault.address, BlockNumber(at.number)):
        raise ChainError(
            f"vault: no contract at {vault.address} on chain {web3.eth.chain_id} (wrong address or rpc_url?)"
        )

    def read(call: ContractFunction) -> Any:
        try:
            return call.call(block_identifier=at.number)
        except (BadFunctionCallOutput, ContractLogicError, Web3RPCError) as error:
            if isinstance(error, Web3RPCError) and not is_revert(error):
                raise
            raise ChainError(
                f"vault: {vault.address} does not answer {call.fn_name}(): not a vault?"
            ) from error

    assets = tuple(Asset(*row) for row in read(vault.functions.basket()))
    rules, session = Rules(*read(vault.functions.rules())), Session(*read(vault.functions.session()))
    _, rules_word, _, _, _, oracle, paused_until = read(vault.functions.settings())
    if not storable(assets, rules, session, paused_until, rules_word >> ASIDE_UNTIL_AT):
        raise PassingError(
            f"vault: {vault.address} answers what no vault can store: a bad node, or not a vault? try again"
        )
    prices, statuses = read(bind(web3, "PriceOracle", oracle).functions.prices([a.token for a in assets]))
    state = VaultState(
        assets=assets,
        rules=rules,
        session=session,
        balances=(),
        prices=tuple(prices),
        statuses=tuple(statuses),
        supply=read(vault.functions.totalSupply()),
        time=at.time,
        pending_fee_shares=read(vault.functions.pending_fee_shares()),
        fee_bps=read(vault.functions.fee_bps()),
        fee_accrued_at=at.time,  # the views count what is pending up to now
        loss_used=read(vault.functions.loss_budget_used()),
        loss_time=at.time,
        speed_used=read(vault.functions.speed_budget_used()),
        speed_time=at.time,
        paused_until=paused_until,
        # without a quarantine the field holds 0: no index, and over
        aside=((rules_word >> ASIDE_AT) & 31) - 1 if rules_word >> ASIDE_AT else NO_ASSET,
        aside_until=rules_word >> ASIDE_UNTIL_AT,
        vault=vault.address,
        oracle=oracle,
    )
    state = replace(state, balances=_balances(web3, state, at.number, read))
    head = "0x" + read(vault.functions.head()).hex()
    if web3.eth.get_block(BlockNumber(at.number))["hash"].to_0x_hex() != at.hash:
        raise PassingError(f"block {at.number} was replaced while it was read: try again")
    return Snapshot(web3.eth.chain_id, at, vault.address, state, head)


def storable(assets: tuple[Asset, ...], rules: Rules, session: Session, *moments: int) -> bool:
    """Whether a vault can have stored this. What poses as one, or was garbled, must not disturb the reckoning.

    `moments`: timestamps.
    """
    times = (session.id, session.opened_at, session.closed_at, session.slot, *moments)
    return max(times) < MOMENTS and _storable(assets, rules)


@lru_cache(maxsize=4_096)  # a basket and its rules are the same from block to block
def _storable(assets: tuple[Asset, ...], rules: Rules) -> bool:
    shares = [max(a.target_bps, a.band_points_bps, a.band_relative_bps, a.max_target_bps) for a in assets]
    return (
        len(assets) > 0
        and max(asset.decimals for asset in assets) <= MAX_DECIMALS
        and max(shares) <= MAX_BPS
        and rules.mode < 4
        and rules.calendar_every > 0
        and max(astuple(rules)) < MOMENTS
    )


def read_terms(web3: Web3, address: str) -> Terms:
    """Who administers the vault at `address`, and how long a change of it waits. ChainError where it is no vault."""
    vault = bind(web3, "Vault", address_of(address, "vault"))
    try:
        timelock = vault.functions.timelock().call()
        admin, delay_seconds = bind(web3, "Timelock", timelock).functions.terms(vault.address).call()
    except (BadFunctionCallOutput, ContractLogicError) as error:
        raise ChainError(f"vault: {vault.address} does not say who administers it: not a vault?") from error
    return Terms(timelock, admin, delay_seconds)


def _balances(
    web3: Web3, state: VaultState, block: int, read: Callable[[ContractFunction], Any]
) -> tuple[int, ...]:
    """What the vault holds; 0 of an asset in quarantine, whose token may not even answer."""
    index = policy.aside(state)
    if index == NO_ASSET:
        return tuple(read(bind(web3, "Vault", state.vault).functions.balances()))
    return tuple(
        0 if i == index else read(bind_abi(web3, ERC20, asset.token).functions.balanceOf(state.vault))
        for i, asset in enumerate(state.assets)
    )


def symbols(web3: Web3, tokens: list[str]) -> list[str]:
    """The tokens' symbols, a short address where a token has none."""
    found = []
    for token in tokens:
        try:
            found.append(str(bind_abi(web3, ERC20, token).functions.symbol().call()))
        except (
            BadFunctionCallOutput,
            ContractLogicError,
            Web3RPCError,
            OverflowError,
            UnicodeDecodeError,
        ):
            found.append(token[:8])
    return found
