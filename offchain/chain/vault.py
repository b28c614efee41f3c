"""A vault's whole state, read at one block, as the policy's dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_typing import BlockNumber
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3RPCError

from offchain.chain.contracts import ERC20, address_of, bind, bind_abi
from offchain.chain.errors import ChainError
from offchain.chain.sender import is_revert
from offchain.policy import Asset, Rules, Session, VaultState

__all__ = [
    "KEEPER_ROLE",
    "BlockRef",
    "Snapshot",
    "latest_block",
    "read_vault",
    "symbols",
]

KEEPER_ROLE = 1


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


def latest_block(web3: Web3) -> BlockRef:
    """The newest block."""
    block = web3.eth.get_block("latest")
    return BlockRef(int(block["number"]), block["hash"].to_0x_hex(), int(block["timestamp"]))


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
    oracle = read(vault.functions.oracle())
    prices, statuses = read(bind(web3, "PriceOracle", oracle).functions.prices([a.token for a in assets]))
    state = VaultState(
        assets=assets,
        rules=Rules(*read(vault.functions.rules())),
        session=Session(*read(vault.functions.session())),
        balances=tuple(read(vault.functions.balances())),
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
        paused_until=read(vault.functions.paused_until()),
        vault=vault.address,
        oracle=oracle,
    )
    head = "0x" + read(vault.functions.head()).hex()
    if web3.eth.get_block(BlockNumber(at.number))["hash"].to_0x_hex() != at.hash:
        raise ChainError(f"block {at.number} was replaced while it was read: try again")
    return Snapshot(web3.eth.chain_id, at, vault.address, state, head)


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
