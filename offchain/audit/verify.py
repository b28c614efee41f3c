"""The edge of the audit: read a vault's history at one block and compare the head it leads to with the stored one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from eth_typing import BlockNumber, ChecksumAddress
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import BadFunctionCallOutput, ContractLogicError
from web3.types import EventData

from offchain.audit.chain import AuditBreak, Event, Position, recompute_head
from offchain.chain.contracts import address_of, bind
from offchain.chain.errors import ChainError
from offchain.chain.events import vault_events

PROXY_PREFIX = bytes.fromhex("363d3d373d3d3d363d73")  # EIP-1167: the implementation's address follows
PROXY_SUFFIX = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


@dataclass(frozen=True)
class Report:
    """What the verifier found; `ok` only when the whole history leads to the stored head."""

    vault: str  # address
    block: int  # everything was read at this block
    block_hash: str
    head_stored: str  # 0x hash
    head_recomputed: str | None  # 0x hash; None when the history breaks before its end
    entries: int  # Created, SessionOpened, Rebalanced and RuleChanged events found
    first_break: str | None  # names block, transaction and field

    @property
    def ok(self) -> bool:
        """True when nothing is broken and both heads are equal."""
        return self.first_break is None and self.head_recomputed == self.head_stored


def verify_vault(web3: Web3, address: str, from_block: int = 0, to_block: int | None = None) -> Report:
    """Recompute the head of the vault at `address` from its events and compare it with the stored one.

    Args:
        web3: a connection to the vault's chain.
        address: the vault's.
        from_block: the block the vault was created in, or one before it.
        to_block: everything is read at this block; the newest one if left out.

    Raises:
        ChainError: the address is not a vault, or the block was replaced while it was read.

    """
    pinned = web3.eth.get_block("latest" if to_block is None else BlockNumber(to_block))
    number, block_hash = pinned["number"], pinned["hash"].to_0x_hex()
    vault = bind(web3, "Vault", address_of(address, "vault"))
    stored, implementation = _read(vault, number)
    events = vault_events(web3, vault.address, from_block, number)
    code = bytes(web3.eth.get_code(vault.address, number))
    codehash = keccak(bytes(web3.eth.get_code(implementation, number)))
    if web3.eth.get_block(BlockNumber(number))["hash"].to_0x_hex() != block_hash:
        raise ChainError(f"block {number} was replaced while it was read: try again")
    entries: list[Event] = []
    recomputed = None
    first_break = None
    try:
        entries = [entry for event in events if (entry := to_entry(event))]
        _check_proxy(code, implementation)
        recomputed = recompute_head(entries, web3.eth.chain_id, vault.address, codehash)
        _check_end(entries, recomputed, stored)
    except AuditBreak as found:
        first_break = str(found)
    return Report(
        vault=vault.address,
        block=number,
        block_hash=block_hash,
        head_stored=_hex(stored),
        head_recomputed=None if recomputed is None else _hex(recomputed),
        entries=len(entries),
        first_break=first_break,
    )


def to_entry(event: EventData) -> Event | None:
    """A log that extends the head as the verifier's dataclass; None for flows, transfers and the like."""
    kinds: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}
    kind = kinds.get(event["event"])
    if kind is None:
        return None
    position = Position(event["blockNumber"], event["transactionHash"].to_0x_hex(), event["logIndex"])
    args: Mapping[str, Any] = event["args"]
    return kind(position, **{name: tuple(v) if isinstance(v, list) else v for name, v in args.items()})


def _read(vault: Contract, block: int) -> tuple[bytes, ChecksumAddress]:
    try:
        head = vault.functions.head().call(block_identifier=block)
        implementation = vault.functions.implementation().call(block_identifier=block)
    except (BadFunctionCallOutput, ContractLogicError) as error:
        raise ChainError(f"vault: {vault.address} is not a vault at block {block}") from error
    return bytes(head), Web3.to_checksum_address(implementation)


def _check_proxy(code: bytes, implementation: str) -> None:
    """The vault must run the code that it names: its own code is a minimal proxy to it."""
    if code != PROXY_PREFIX + bytes.fromhex(implementation[2:]) + PROXY_SUFFIX:
        raise AuditBreak("implementation", f"the vault's own code is not a minimal proxy to {implementation}")


def _check_end(entries: list[Event], recomputed: bytes, stored: bytes) -> None:
    if recomputed != stored:
        reason = (
            f"the last entry leads to {_hex(recomputed)}, the vault stores {_hex(stored)}: "
            "that entry was changed, or entries after it are missing"
        )
        raise AuditBreak("head", reason, entries[-1].position)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
