"""The edge of the audit: read a vault's history from a node at one block, and what the verifier needs beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from eth_typing import BlockNumber, ChecksumAddress
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3Exception
from web3.types import EventData

from offchain.audit.chain import AuditBreak, Created, Event, Position, Rebalanced, RuleChanged
from offchain.audit.decision import Checked, Offered, Record, RecordError, Seen, parse_record
from offchain.audit.history import TRANSFER, History, Log, decode_log, decode_logs, parse_config
from offchain.audit.logs import Tell, Times, creation_block, logs_in, to_log
from offchain.audit.replay import Residual
from offchain.audit.verifier import Checkpoint, Finding, Stored, Verdict, verify
from offchain.chain.contracts import ERC20, address_of, bind, bind_abi
from offchain.chain.errors import NODE_ERRORS, ChainError
from offchain.chain.oracle import read_prices
from offchain.chain.pools import read_v2, read_v3
from offchain.chain.vault import BlockRef, block_at, read_vault
from offchain.planner.pools import Pool, V2Pool, same

__all__ = [
    "Gathered",
    "Report",
    "complete",
    "config_tokens",
    "gather",
    "report_of",
    "to_entry",
    "verify_vault",
]

PROXY_PREFIX = bytes.fromhex("363d3d373d3d3d363d73")  # EIP-1167: the implementation's address follows
PROXY_SUFFIX = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
VAULT_CREATED = keccak(
    text="VaultCreated(address,address,(string,string,(address,uint256,uint256,uint256,uint256,uint256,uint256,"
    "uint256)[],(uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256),"
    "address,address,uint256,address,address,address[],uint256,address))"
)
LOOK_ERRORS: tuple[type[Exception], ...] = (ChainError, *NODE_ERRORS)


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
    chain_id: int = 0
    rebalances: int = 0
    flows: int = 0
    codehash: str = ""  # 0x hash, of the implementation
    findings: tuple[Finding, ...] = ()
    decisions: tuple[Checked, ...] = ()
    residuals: tuple[Residual, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is broken and both heads are equal."""
        return self.first_break is None and self.head_recomputed == self.head_stored


@dataclass(frozen=True)
class Gathered:
    """All that a node says of a vault's history at one block."""

    history: History
    block: BlockRef
    head: bytes  # stored
    stored: Stored | None  # None: the vault does not answer
    problem: AuditBreak | None = field(default=None)  # what is wrong before any event is looked at


def verify_vault(
    web3: Web3,
    address: str,
    from_block: int = 0,
    to_block: int | None = None,
    records: Callable[[Sequence[bytes]], Sequence[Offered]] | Sequence[Offered] = (),
    checkpoint: Checkpoint | None = None,
    rebasing: Collection[str] = (),
    tell: Tell = lambda *_: None,
) -> Report:
    """Check the whole history of the vault at `address` against what the chain stores.

    Args:
        web3: a connection to the vault's chain.
        address: the vault's.
        from_block: the block the vault was created in, or one before it.
        to_block: everything is read at this block; the newest one if left out.
        records: of the keeper's decisions, or where to look for those with given hashes.
        checkpoint: a head that must be part of the history.
        rebasing: tokens that may take units away.
        tell: is told of the progress.

    Raises:
        ChainError: the address is not a vault, or the block was replaced while it was read.

    """
    found = gather(web3, address, from_block, to_block, tell)
    if found.problem is not None:
        return _broken(found, found.problem)
    try:
        trades = [e for e in decode_logs(found.history.logs) if isinstance(e, Rebalanced)]
    except AuditBreak:
        trades = []  # the verifier finds it, too
    offered = records([e.decision for e in trades]) if callable(records) else records
    seen = look_up(web3, found.history.vault, trades, offered, tell)
    verdict = verify(
        found.history, found.head, records=offered, seen=seen, stored=found.stored, checkpoint=checkpoint,
        rebasing=rebasing, end=found.block.time,
    )  # fmt: skip
    return report_of(found, verdict)


def report_of(found: Gathered, verdict: Verdict) -> Report:
    """The verdict with what it is about."""
    return Report(
        vault=found.history.vault,
        block=found.block.number,
        block_hash=found.block.hash,
        head_stored=_hex(found.head),
        head_recomputed=None if verdict.head is None else _hex(verdict.head),
        entries=verdict.entries,
        first_break=None if verdict.broken is None else str(verdict.broken),
        chain_id=found.history.chain_id,
        rebalances=verdict.rebalances,
        flows=verdict.flows,
        codehash=_hex(found.history.codehash),
        findings=verdict.findings,
        decisions=verdict.decisions,
        residuals=verdict.residuals,
    )


def _broken(found: Gathered, problem: AuditBreak) -> Report:
    return report_of(found, Verdict(None, 0, 0, 0, (Finding("vault", False, str(problem)),), broken=problem))


# ---------------------------------------------------------------- the history


def gather(
    web3: Web3,
    address: str,
    from_block: int = 0,
    to_block: int | None = None,
    tell: Tell = lambda *_: None,
) -> Gathered:
    """Read everything at `to_block`, the newest if left out; ChainError where that is no vault."""
    pinned = block_at(web3, "latest" if to_block is None else BlockNumber(to_block))
    vault = bind(web3, "Vault", address_of(address, "vault"))
    head, implementation = _read(vault, pinned.number)
    problem = _check_proxy(
        bytes(web3.eth.get_code(vault.address, BlockNumber(pinned.number))), implementation
    )
    codehash = keccak(bytes(web3.eth.get_code(implementation, BlockNumber(pinned.number))))
    logs = _vault_logs(web3, vault.address, from_block, pinned.number, tell) if problem is None else ()
    history = complete(web3, vault.address, codehash, logs, pinned.number)
    stored = _stored(web3, vault, pinned)
    if block_at(web3, BlockNumber(pinned.number)).hash != pinned.hash:
        raise ChainError(f"block {pinned.number} was replaced while it was read: try again")
    return Gathered(history, pinned, head, stored, problem)


def transfers(web3: Web3, vault: str, wallets: Sequence[str], from_block: int, to_block: int) -> list[Log]:
    """The Transfer logs of the vault's shares from and to the wallets."""
    first = creation_block(web3, vault, from_block, to_block)
    padded = [_hex(bytes(12) + bytes.fromhex(wallet[2:])) for wallet in wallets]
    wanted = [{"address": vault, "topics": [_hex(TRANSFER), *at]} for at in ([padded], [None, padded])]
    times = Times(web3)
    return [
        to_log(receipt, times.of(int(receipt["blockNumber"])))
        for _, _, found in logs_in(web3, wanted, first, to_block)
        for receipt in found
    ]


def complete(web3: Web3, vault: str, codehash: bytes, logs: tuple[Log, ...], block: int) -> History:
    """The logs with what they do not say: config, decimals, how long tellers' fees melt, the seed."""
    chain_id = web3.eth.chain_id
    created = next((log for log in logs if _is(log, Created)), None)
    config = b"" if created is None else _read_config(web3, vault, created)
    bare = History(chain_id, vault, codehash, config, logs, {})
    if created is None or not config:
        return bare
    decimals = _read_decimals(web3, bare, block)
    seed = _read_seed(web3, vault, created.transaction, config, decimals)
    return History(chain_id, vault, codehash, config, logs, decimals, _read_melting(web3, bare, block), seed)


def _vault_logs(web3: Web3, vault: str, from_block: int, last: int, tell: Tell) -> tuple[Log, ...]:
    """The vault's logs that the verifier reads, with their times."""
    first = creation_block(web3, vault, from_block, last)
    receipts = []
    for _, until, found in logs_in(web3, [{"address": vault}], first, last):
        receipts += [receipt for receipt in found if _counts(to_log(receipt, 0))]
        tell("events", until - first + 1, last - first + 1)
    times, logs = Times(web3), []
    for done, receipt in enumerate(receipts, start=1):
        logs.append(to_log(receipt, times.of(int(receipt["blockNumber"]))))
        tell("times", done, len(receipts))
    return tuple(logs)


def _counts(log: Log) -> bool:
    """Neither an approval nor a transfer between holders; what cannot be decoded counts: the verifier says so."""
    try:
        return decode_log(log) is not None
    except AuditBreak:
        return True


def _is(log: Log, kind: type) -> bool:
    try:
        return isinstance(decode_log(log), kind)
    except AuditBreak:
        return False


def _events(history: History) -> list[Any]:
    try:
        return list(decode_logs(history.logs))
    except AuditBreak:
        return []


def _read_config(web3: Web3, vault: str, created: Log) -> bytes:
    """What the factory logged beside the creation; b"" where nothing there hashes to what genesis names."""
    wanted = created.data[96:128]
    asked = {"topics": [_hex(VAULT_CREATED), _hex(bytes(12) + bytes.fromhex(vault[2:]))]}
    for _, _, found in logs_in(web3, [asked], created.block, created.block):
        for log in found:
            if keccak(bytes(log["data"])) == wanted:
                return bytes(log["data"])
    return b""


def config_tokens(history: History) -> list[str]:
    """Every token that ever was an asset."""
    tokens = {asset.token for asset in parse_config(history.config, _AnyDecimals()).assets}
    for event in _events(history):
        if isinstance(event, RuleChanged) and event.name == "add_asset" and len(event.data) >= 32:
            tokens.add(Web3.to_checksum_address(event.data[12:32]))
    return sorted(tokens)


def _read_decimals(web3: Web3, history: History, block: int) -> dict[str, int]:
    """Of every token that ever was an asset: as the vault fixed them, or as the token says where it left the basket."""
    tokens = config_tokens(history)
    basket = bind(web3, "Vault", history.vault).functions.basket().call(block_identifier=block)
    known = {str(row[0]).lower(): int(row[1]) for row in basket}
    for token in tokens:
        if token.lower() not in known:
            try:
                view = bind_abi(web3, ERC20, token).functions.decimals()
                known[token.lower()] = int(view.call(block_identifier=block))
            except (BadFunctionCallOutput, ContractLogicError):
                continue  # the verifier says that it is not known
    return known


class _AnyDecimals(dict[str, int]):
    """Knows of every token that it has 18 decimals; only to read the tokens of a config."""

    def get(self, key: str, default: Any = None) -> int:
        return 18


def _read_melting(web3: Web3, history: History, block: int) -> dict[str, int]:
    """Seconds, by teller: fixed when the teller was made."""
    tellers = {
        Web3.to_checksum_address(event.data[12:32])
        for event in _events(history)
        if isinstance(event, RuleChanged) and event.name == "set_teller" and len(event.data) >= 32
    }
    return {
        teller.lower(): int(bind(web3, "Teller", teller).functions.fees().call(block_identifier=block)[2])
        for teller in tellers
    }


def _read_seed(
    web3: Web3, vault: str, transaction: str, config: bytes, decimals: Mapping[str, int]
) -> tuple[int, ...] | None:
    """Token units that the creating transaction brought, where every token logged it."""
    try:
        receipt = web3.eth.get_transaction_receipt(transaction)  # type: ignore[arg-type]
        tokens = [asset.token for asset in parse_config(config, decimals).assets]
    except (Web3Exception, AuditBreak):
        return None
    brought = dict.fromkeys(tokens, 0)
    for log in receipt["logs"]:
        topics, data = [bytes(topic) for topic in log["topics"]], bytes(log["data"])
        if len(topics) != 3 or topics[0] != TRANSFER or len(data) != 32 or log["address"] not in brought:
            continue
        units = int.from_bytes(data, "big")
        brought[log["address"]] += units if topics[2][12:] == bytes.fromhex(vault[2:]) else 0
        brought[log["address"]] -= units if topics[1][12:] == bytes.fromhex(vault[2:]) else 0
    return tuple(brought.values()) if all(units > 0 for units in brought.values()) else None


def _stored(web3: Web3, vault: Contract, at: BlockRef) -> Stored | None:
    try:
        state = read_vault(web3, vault.address, at).state
        number = vault.functions.flow_sequence().call(block_identifier=at.number)
        recipient = vault.functions.fee_recipient().call(block_identifier=at.number)
    except (ChainError, BadFunctionCallOutput, ContractLogicError):
        return None
    return Stored(state, int(number), str(recipient))


def _read(vault: Contract, block: int) -> tuple[bytes, ChecksumAddress]:
    try:
        head = vault.functions.head().call(block_identifier=block)
        implementation = vault.functions.implementation().call(block_identifier=block)
    except (BadFunctionCallOutput, ContractLogicError) as error:
        raise ChainError(f"vault: {vault.address} is not a vault at block {block}") from error
    return bytes(head), Web3.to_checksum_address(implementation)


def _check_proxy(code: bytes, implementation: str) -> AuditBreak | None:
    """The vault must run the code that it names: its own code is a minimal proxy to it."""
    if code != PROXY_PREFIX + bytes.fromhex(implementation[2:]) + PROXY_SUFFIX:
        return AuditBreak(
            "implementation", f"the vault's own code is not a minimal proxy to {implementation}"
        )
    return None


# ---------------------------------------------------------------- the inputs of decisions


def look_up(
    web3: Web3,
    vault: str,
    trades: Sequence[Rebalanced],
    offered: Sequence[Offered],
    tell: Tell = lambda *_: None,
) -> dict[bytes, Seen]:
    """What the chain says of the inputs of the records at hand, by decision."""
    texts = {keccak(text=offer.text): offer.text for offer in offered}
    wanted = {trade.decision: trade for trade in trades if trade.decision in texts}
    found = {}
    for done, (decision, trade) in enumerate(wanted.items(), start=1):
        try:
            record = parse_record(texts[decision])
        except RecordError:
            continue  # the verifier says what is wrong with it
        if 0 <= record.block <= trade.position.block:
            found[decision] = _look(web3, vault, record)
        tell("decisions", done, len(wanted))
    return found


def _look(web3: Web3, vault: str, record: Record) -> Seen:
    at = block_at(web3, BlockNumber(record.block))
    try:
        snapshot = read_vault(web3, vault, at)
    except LOOK_ERRORS as error:
        why = type(error).__name__
        return Seen(missing=f"the node has no state of block {at.number}: it takes an archive node ({why})")
    if record.problem is None:
        return Seen(at.hash, at.time, snapshot.head, snapshot.state)
    pools = tuple(_pool(web3, pool, at.number) for pool in record.problem.pools)
    hub = _hub(
        web3, record.problem.hub, [a.token for a in snapshot.state.assets], snapshot.state.oracle, at.number
    )
    return Seen(at.hash, at.time, snapshot.head, snapshot.state, pools, hub)


def _pool(web3: Web3, said: Pool, block: int) -> Pool | None:
    try:
        if isinstance(said, V2Pool):
            return read_v2(web3, said.address, said.fee_bps, block)
        return read_v3(web3, said.address, block)
    except (BadFunctionCallOutput, ContractLogicError, ValueError):
        return None


def _hub(web3: Web3, hub: str, tokens: Sequence[str], oracle: str, block: int) -> tuple[int, int] | None:
    """Decimals and price as offchain/keeper/market.py reads them; None where the plan does not read them."""
    if not hub or any(same(hub, token) for token in tokens):
        return None
    try:
        ((price, status),) = read_prices(web3, oracle, [hub], block)
        if status or not price:
            return (18, 0)
        return int(bind_abi(web3, ERC20, hub).functions.decimals().call(block_identifier=block)), price
    except (BadFunctionCallOutput, ContractLogicError):
        return (18, 0)


# ---------------------------------------------------------------- for others


def to_entry(event: EventData) -> Event | None:
    """A log that extends the head as the verifier's dataclass; None for flows, transfers and the like."""
    kinds: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}
    kind = kinds.get(event["event"])
    if kind is None:
        return None
    position = Position(event["blockNumber"], event["transactionHash"].to_0x_hex(), event["logIndex"])
    args: Mapping[str, Any] = event["args"]
    return kind(position, **{name: tuple(v) if isinstance(v, list) else v for name, v in args.items()})


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
