"""Where the API's numbers come from: `Source`, and `ChainSource`, a node.

Everything is asked at a block that the caller names; nothing is converted, rounded or left out here. What cannot be
read raises, or is None where the type says so: never 0.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_typing import BlockNumber
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3Exception, Web3RPCError
from web3.types import EventData, RPCEndpoint, RPCResponse

from offchain.api.text import MAX_NAME, MAX_SYMBOL, plain, returned_text
from offchain.audit.chain import AuditBreak
from offchain.chain.contracts import ZERO, bind, bind_abi
from offchain.chain.errors import NODE_ERRORS, ChainError
from offchain.chain.events import BLOCKS_PER_REQUEST, events_in
from offchain.chain.lens import read_one, read_vaults
from offchain.chain.oracle import read_prices
from offchain.chain.pools import PoolSource, read_pools
from offchain.chain.sender import is_revert
from offchain.chain.vault import BlockRef, Snapshot, block_at, latest_block, read_terms
from offchain.keeper.market import Observed, Sources, observe, read_gas_price
from offchain.planner import Pool

if TYPE_CHECKING:
    from offchain.audit.lots import Transaction

__all__ = ["Account", "ChainSource", "Event", "Extras", "Places", "Source", "Teller", "TokenInfo", "Wallet"]

T = TypeVar("T")
TEXT_GAS = 200_000  # for symbol() and name(): what that can return is some 300 KB
TOKEN_GAS = 500_000  # for a token's other views
WALLET = [
    {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": [{"name": "", "type": kind} for kind in inputs],
        "outputs": [{"name": "", "type": "uint256"}],
    }
    for name, inputs in (("balanceOf", ["address"]), ("allowance", ["address", "address"]))
]


@dataclass(frozen=True)
class Places:
    """The deployment that is served. Addresses are checksummed; None: not known."""

    factory: str | None = None
    lens: str | None = None
    zap: str | None = None
    sources: Sources = field(default_factory=lambda: Sources(PoolSource()))
    vaults: tuple[str, ...] = ()  # named in the settings; the first is the page's default
    from_block: int = 0  # no vault is older

    @property
    def executor(self) -> str | None:
        """The Executor that plans and zaps go through."""
        return self.sources.executor or None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token by name; what strangers wrote is made harmless."""

    token: str
    symbol: str
    name: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Extras:
    """What a vault says of itself beside its `Snapshot`."""

    name: str
    symbol: str
    implementation: str
    timelock: str
    melting: int  # shares, 18 decimals
    flow_sequence: int
    fee_recipient: str
    admin: str
    delay_seconds: int
    from_factory: bool | None  # None: no factory is known


@dataclass(frozen=True, slots=True)
class Teller:
    """A teller that may issue or release now."""

    teller: str
    asset: str
    floor_bps: int
    surcharge_bps: int
    burn_seconds: int
    room_in: int  # WAD of the supply
    room_out: int


@dataclass(frozen=True, slots=True)
class Event:
    """A vault's event, decoded, and the block it is in."""

    name: str
    args: dict[str, Any]
    block: BlockRef
    tx_hash: str
    log_index: int
    data: bytes  # of the log


@dataclass(frozen=True, slots=True)
class Wallet:
    """What an account holds of a token, and who may take it; None: the token does not say."""

    balance: int | None
    allowance_vault: int | None
    allowance_zap: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account beside a vault."""

    shares: int
    native: int  # wei
    wallets: dict[str, Wallet]  # by token
    allowance_zap_shares: int | None


class Source(Protocol):
    """What the API asks of a chain."""

    @property
    def chain_id(self) -> int:
        """Of the chain that is served."""

    @property
    def places(self) -> Places:
        """The deployment that is served."""

    def newest(self) -> BlockRef:
        """The newest block."""

    def known(self, block: BlockRef) -> list[str]:
        """The vaults that are served, oldest first."""

    def serves(self, vault: str, block: BlockRef) -> bool:
        """Whether `vault` is among them."""

    def snapshot(self, vault: str, block: BlockRef) -> Snapshot:
        """One vault; ChainError where it cannot be read."""

    def snapshots(self, vaults: Sequence[str], block: BlockRef) -> list[Snapshot | None]:
        """Several; None where one cannot be read."""

    def extras(self, vault: str, block: BlockRef) -> Extras:
        """What else a vault says of itself."""

    def titles(self, vault: str, block: BlockRef) -> tuple[str, str]:
        """A vault's (name, symbol), harmless."""

    def readable(self, token: str, vault: str, block: BlockRef) -> bool:
        """Whether the token says what the vault holds."""

    def tokens(self, tokens: Sequence[str], block: BlockRef) -> dict[str, TokenInfo]:
        """By address as given."""

    def prices(self, oracle: str, tokens: Sequence[str], block: BlockRef) -> list[tuple[int, int]]:
        """(USD WAD per whole token, status; 0 usable)."""

    def events(self, vault: str, block: BlockRef) -> list[Event]:
        """All of the vault's, oldest first."""

    def first_basket(self, vault: str, block: BlockRef) -> list[str]:
        """The tokens that the vault was created with; ChainError where that cannot be told."""

    def roles(self, vault: str, block: BlockRef) -> dict[str, int]:
        """The roles of every account that was ever given one; ChainError where that cannot be told."""

    def tellers(self, vault: str, timelock: str, block: BlockRef) -> list[Teller]:
        """Those that have a right now."""

    def account(self, vault: str, account: str, tokens: Sequence[str], block: BlockRef) -> Account:
        """What an account has."""

    def purchases(self, vault: str, account: str, block: BlockRef) -> tuple[list[Transaction], list[str]]:
        """What an account bought and sold of the vault's shares; the ids of those whose value nobody knows."""

    def teller_preview(self, teller: str, amount: int, into: bool, block: BlockRef) -> int:
        """Shares for `amount` of its asset (`into`), or its asset for `amount` of shares."""

    def pools(self, pairs: Sequence[tuple[str, str]], block: BlockRef) -> tuple[Pool, ...]:
        """The pools for these pairs of tokens."""

    def gas_usd(self, snapshot: Snapshot) -> int:
        """USD WAD a unit of gas; 0: not known."""

    def observed(self, snapshot: Snapshot) -> Observed:
        """The keeper's problem."""

    def request(self, method: str, params: Any) -> RPCResponse:
        """The node's answer to any JSON-RPC call."""


class ChainSource:
    """A node, with what it said of recent blocks remembered. Thread-safe."""

    def __init__(self, web3: Web3, places: Places) -> None:
        self.web3, self.places = web3, places
        self.chain_id = int(web3.eth.chain_id)
        self._memory = _Memory(2_000)
        self._logs = _Logs(web3)

    def newest(self) -> BlockRef:
        """The newest block."""
        return latest_block(self.web3)

    # ---------------------------------------------------------------- vaults

    def known(self, block: BlockRef) -> list[str]:
        """Those of the settings, then the factory's, each once."""
        return list(dict.fromkeys([*self.places.vaults, *self._registered(block)]))

    def _registered(self, block: BlockRef) -> list[str]:
        """The factory's registry, read on from where the last reading ended."""
        if self.places.factory is None:
            return []
        factory = bind(self.web3, "VaultFactory", self.places.factory).functions
        count = int(self._call(factory.vault_count(), block))

        def at(n: int) -> str:
            return str(self._remembered(("registry", n), lambda: self._call(factory.vaults(n), block)))

        return [at(n) for n in range(count)]

    def serves(self, vault: str, block: BlockRef) -> bool:
        """A vault of the settings or the factory; any where neither is set."""
        if vault in self.places.vaults:
            return True
        if self.places.factory is None:
            return not self.places.vaults and bool(
                self.web3.eth.get_code(_sum(vault), BlockNumber(block.number))
            )
        factory = bind(self.web3, "VaultFactory", self.places.factory).functions
        return bool(
            self._remembered((block.hash, "ours", vault), lambda: self._call(factory.is_vault(vault), block))
        )

    def snapshot(self, vault: str, block: BlockRef) -> Snapshot:
        """One vault; ChainError where it cannot be read."""
        return self._remembered(
            (block.hash, "snapshot", vault), lambda: read_one(self.web3, self.places.lens, vault, block)
        )

    def snapshots(self, vaults: Sequence[str], block: BlockRef) -> list[Snapshot | None]:
        """Several: by the lens in few calls, else one by one."""
        if self.places.lens:
            return read_vaults(self.web3, self.places.lens, vaults, block)
        return [self._snapshot_or_none(vault, block) for vault in vaults]

    def _snapshot_or_none(self, vault: str, block: BlockRef) -> Snapshot | None:
        try:
            return self.snapshot(vault, block)
        except ChainError as error:
            if isinstance(error, NODE_ERRORS):  # nobody answers: that is not the vault's fault
                raise
            return None

    def extras(self, vault: str, block: BlockRef) -> Extras:
        """What else a vault says of itself."""
        return self._remembered((block.hash, "extras", vault), lambda: self._extras(vault, block))

    def _extras(self, vault: str, block: BlockRef) -> Extras:
        says = bind(self.web3, "Vault", vault).functions
        terms = read_terms(self.web3, vault)
        name, symbol = self.titles(vault, block)
        return Extras(
            name,
            symbol,
            str(self._call(says.implementation(), block)),
            str(self._call(says.timelock(), block)),
            int(self._call(says.melting(), block)[0]),
            int(self._call(says.flow_sequence(), block)),
            str(self._call(says.fee_recipient(), block)),
            terms.admin,
            terms.delay_seconds,
            None if self.places.factory is None else self._from_factory(vault, block),
        )

    def _from_factory(self, vault: str, block: BlockRef) -> bool:
        factory = bind(self.web3, "VaultFactory", self.places.factory or ZERO).functions
        return bool(self._call(factory.is_vault(vault), block))

    def titles(self, vault: str, block: BlockRef) -> tuple[str, str]:
        """A vault's (name, symbol), harmless; they cannot change."""
        info = self._info(vault, block, decimals=18)
        return info.name, info.symbol

    # ---------------------------------------------------------------- tokens

    def readable(self, token: str, vault: str, block: BlockRef) -> bool:
        """Whether the token says what the vault holds."""
        return self._number(token, "balanceOf", [vault], block) is not None

    def tokens(self, tokens: Sequence[str], block: BlockRef) -> dict[str, TokenInfo]:
        """By address as given."""
        return {token: self._info(token, block) for token in tokens}

    def _info(self, token: str, block: BlockRef, decimals: int | None = None) -> TokenInfo:
        def read() -> TokenInfo:
            symbol = plain(self._text(token, "symbol()", block), MAX_SYMBOL, token[:8])
            name = plain(self._text(token, "name()", block), MAX_NAME, symbol)
            places = decimals if decimals is not None else self._decimals(token, block)
            return TokenInfo(token, symbol, name, places)

        return self._remembered(("token", token), read)

    def _decimals(self, token: str, block: BlockRef) -> int:
        raw = self._raw(token, "decimals()", block)
        if len(raw) != 32 or int.from_bytes(raw, "big") > 77:
            raise ChainError(f"token: {token} does not say how many decimals it has")
        return int.from_bytes(raw, "big")

    def _text(self, token: str, function: str, block: BlockRef) -> str:
        return returned_text(self._raw(token, function, block))

    def _raw(self, token: str, function: str, block: BlockRef) -> bytes:
        """What the token returns to a call without arguments; nothing where it reverts."""
        call = {"to": _sum(token), "data": HexBytes(keccak(text=function)[:4]), "gas": TEXT_GAS}
        try:
            return bytes(self.web3.eth.call(cast(Any, call), BlockNumber(block.number)))
        except (ContractLogicError, Web3RPCError) as error:
            if isinstance(error, Web3RPCError) and not is_revert(error):
                raise
            return b""

    def _number(self, token: str, function: str, args: list[str], block: BlockRef) -> int | None:
        call = bind_abi(self.web3, WALLET, token).get_function_by_name(function)(*map(_sum, args))
        try:
            return int(call.call({"gas": TOKEN_GAS}, block_identifier=block.number))
        except (BadFunctionCallOutput, ContractLogicError, Web3RPCError, OverflowError) as error:
            if isinstance(error, Web3RPCError) and not is_revert(error):
                raise
            return None

    def prices(self, oracle: str, tokens: Sequence[str], block: BlockRef) -> list[tuple[int, int]]:
        """(USD WAD per whole token, status; 0 usable)."""
        return read_prices(self.web3, oracle, tokens, block.number)

    # ---------------------------------------------------------------- events

    def events(self, vault: str, block: BlockRef) -> list[Event]:
        """All of the vault's, oldest first."""
        logs = self._logs.of(vault, None, self.first_block(vault, block), block)
        data = {(log["blockNumber"], log["logIndex"]): bytes(log["data"]) for log in logs}
        return [
            self._event(found, data[found["blockNumber"], found["logIndex"]])
            for found in events_in(self.web3, vault, logs)
        ]

    def _event(self, found: EventData, data: bytes) -> Event:
        number, block_hash = int(found["blockNumber"]), HexBytes(found["blockHash"]).to_0x_hex()
        time = self._remembered(
            ("time", block_hash), lambda: int(self.web3.eth.get_block(HexBytes(block_hash))["timestamp"])
        )
        return Event(
            found["event"],
            dict(found["args"]),
            BlockRef(number, block_hash, time),
            found["transactionHash"].to_0x_hex(),
            int(found["logIndex"]),
            data,
        )

    def first_block(self, vault: str, block: BlockRef) -> int:
        """The block that the vault was created in, or one before it."""
        return self._remembered(("first", vault), lambda: self._search_first(vault, block))

    def _search_first(self, vault: str, block: BlockRef) -> int:
        """By halving: where its code begins. Nodes without old states do not know; then it is `from_block`."""
        low, high = self.places.from_block, block.number
        try:
            while low < high:
                middle = (low + high) // 2
                if self.web3.eth.get_code(_sum(vault), BlockNumber(middle)):
                    high = middle
                else:
                    low = middle + 1
        except (Web3Exception, ValueError):
            return self.places.from_block
        return low

    def roles(self, vault: str, block: BlockRef) -> dict[str, int]:
        """The roles of every account that was ever given one; ChainError where that cannot be told."""
        return self._remembered((block.hash, "roles", vault), lambda: self._roles(vault, block))

    def _roles(self, vault: str, block: BlockRef) -> dict[str, int]:
        says = bind(self.web3, "Vault", vault).functions
        accounts = [*self._first_accounts(vault, block)]
        for event in self.events(vault, block):
            if event.name == "RuleChanged" and event.args["name"] in ("set_role", "drop_role"):
                accounts.append(_account_in(event.args["data"]))
        return {
            account: int(self._call(says.roles(account), block))
            for account in dict.fromkeys(accounts)
            if account != ZERO
        }

    def _first_accounts(self, vault: str, block: BlockRef) -> list[str]:
        """Guardian, strategist and keepers that the vault began with."""
        config = self._config(vault, block)
        return [config["guardian"], config["strategist"], *config["keepers"]]

    def first_basket(self, vault: str, block: BlockRef) -> list[str]:
        """The tokens that the vault was created with; ChainError where that cannot be told."""
        return [str(asset["token"]) for asset in self._config(vault, block)["assets"]]

    def _config(self, vault: str, block: BlockRef) -> Any:
        """What the vault was created with: of the events that say so, the one whose hash the vault recorded."""
        first = self.first_block(vault, block)
        created = bind(self.web3, "VaultFactory", self.places.factory or ZERO).events.VaultCreated()
        topic = "0x" + _sum(vault)[2:].lower().rjust(64, "0")
        last = min(first + BLOCKS_PER_REQUEST - 1, block.number)
        logs = self._logs.of(self.places.factory, [created.topic, topic], first, BlockRef(last, "", 0))
        recorded = [e.args["config_hash"] for e in self.events(vault, block) if e.name == "Created"]
        for log in logs:
            if recorded and keccak(bytes(log["data"])) == recorded[0]:
                return created.process_log(log)["args"]["config"]
        raise ChainError(f"vault: the event of its creation was not found from block {first} on")

    def tellers(self, vault: str, timelock: str, block: BlockRef) -> list[Teller]:
        """Those that have a right now."""
        return self._remembered((block.hash, "tellers", vault), lambda: self._tellers(vault, timelock, block))

    def _tellers(self, vault: str, timelock: str, block: BlockRef) -> list[Teller]:
        if not any(
            e.name == "RuleChanged" and e.args["name"] == "set_teller" for e in self.events(vault, block)
        ):
            return []
        added = bind(self.web3, "Timelock", timelock).events.TellerAdded()
        topic = "0x" + _sum(vault)[2:].lower().rjust(64, "0")
        logs = self._logs.of(timelock, [added.topic, topic], self.first_block(vault, block), block)
        found = []
        for log in logs:
            args = added.process_log(log)["args"]
            flows = bind(self.web3, "Vault", vault).functions.flow_room(args["teller"])
            room_in, room_out = self._call(flows, block)
            fees = self._call(bind(self.web3, "Teller", args["teller"]).functions.fees(), block)
            floor, surcharge, burn = map(int, fees)
            if room_in or room_out:
                found.append(
                    Teller(args["teller"], args["asset"], floor, surcharge, burn, int(room_in), int(room_out))
                )
        return found

    def teller_preview(self, teller: str, amount: int, into: bool, block: BlockRef) -> int:
        """Shares for `amount` of its asset (`into`), or its asset for `amount` of shares."""
        says = bind(self.web3, "Teller", teller).functions
        return int(self._call(says.previewDeposit(amount) if into else says.previewRedeem(amount), block))

    # ---------------------------------------------------------------- accounts

    def account(self, vault: str, account: str, tokens: Sequence[str], block: BlockRef) -> Account:
        """What an account has."""
        zap = self.places.zap
        shares = self._number(vault, "balanceOf", [account], block)
        if shares is None:
            raise ChainError(f"vault: {vault} does not say what {account} holds")
        wallets = {
            token: Wallet(
                self._number(token, "balanceOf", [account], block),
                self._number(token, "allowance", [account, vault], block),
                None if zap is None else self._number(token, "allowance", [account, zap], block),
            )
            for token in tokens
        }
        native = int(self.web3.eth.get_balance(_sum(account), BlockNumber(block.number)))
        allowed = None if zap is None else self._number(vault, "allowance", [account, zap], block)
        return Account(shares, native, wallets, allowed)

    def purchases(self, vault: str, account: str, block: BlockRef) -> tuple[list[Transaction], list[str]]:
        """What an account bought and sold of the vault's shares; the ids of those whose value nobody knows.

        At the oracle's prices of each block, so the node must know old states. Raises AuditBreak.
        """
        return self._remembered(
            (block.hash, "purchases", vault, account), lambda: self._purchases(vault, account, block)
        )

    def _purchases(self, vault: str, account: str, block: BlockRef) -> tuple[list[Transaction], list[str]]:
        from offchain.audit.taxable import share_transactions
        from offchain.audit.verify import gather, transfers

        def price_of(oracle: str, token: str, at: int) -> Decimal:
            ((price, status),) = read_prices(self.web3, oracle, [token], at)
            if status:
                raise AuditBreak("price", f"the oracle's price of {token} was not usable in block {at}")
            return Decimal(price).scaleb(-18)

        first = self.first_block(vault, block)
        history = gather(self.web3, vault, first, block.number).history
        moved = transfers(self.web3, vault, [account], first, block.number)
        return share_transactions(history, [account], moved, price_of)

    # ---------------------------------------------------------------- markets

    def pools(self, pairs: Sequence[tuple[str, str]], block: BlockRef) -> tuple[Pool, ...]:
        """The pools for these pairs of tokens."""
        return self._remembered(
            (block.hash, "pools", tuple(pairs)),
            lambda: read_pools(self.web3, pairs, self.places.sources.pools, block.number),
        )

    def gas_usd(self, snapshot: Snapshot) -> int:
        """USD WAD a unit of gas; 0: not known."""
        return self._remembered(
            (snapshot.block.hash, "gas", snapshot.state.oracle),
            lambda: read_gas_price(self.web3, snapshot, self.places.sources).usd,
        )

    def observed(self, snapshot: Snapshot) -> Observed:
        """The keeper's problem."""
        return observe(self.web3, snapshot, self.places.sources)

    def request(self, method: str, params: Any) -> RPCResponse:
        """The node's answer to any JSON-RPC call."""
        return self.web3.provider.make_request(RPCEndpoint(method), params)

    # ---------------------------------------------------------------- plumbing

    def _call(self, call: ContractFunction, block: BlockRef) -> Any:
        """ChainError where the contract does not answer; what the node cannot do is raised as it is."""
        try:
            return call.call(block_identifier=block.number)
        except (BadFunctionCallOutput, ContractLogicError, Web3RPCError) as error:
            if isinstance(error, Web3RPCError) and not is_revert(error):
                raise
            raise ChainError(f"{call.address} does not answer {call.fn_name}()") from error

    def _remembered(self, key: Hashable, read: Callable[[], T]) -> T:
        """`read()`, or what it said the last time; two threads may ask at once, and then one answer stays."""
        known = self._memory.get(key)
        if known is not None:
            return cast(T, known[0])
        found = read()
        self._memory.put(key, (found,))
        return found


class _Memory:
    """The `size` entries that were used last. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Any:
        """None where there is none."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)


class _Logs:
    """Logs by address and topics, each block asked for once; all again where a block that was read is not the chain's
    any more.
    """

    def __init__(self, web3: Web3) -> None:
        self._web3 = web3
        self._read = _Memory(500)  # (BlockRef, logs)

    def of(self, address: str | None, topics: list[str] | None, first: int, last: BlockRef) -> list[Any]:
        """In the chain's order, from block `first` to `last`."""
        key = (address, tuple(topics or ()), first)
        seen, logs = self._read.get(key) or (None, [])
        if seen is not None and (not seen.hash or not last.hash or seen.number > last.number):
            return [log for log in logs if log["blockNumber"] <= last.number]
        if seen is not None and seen.hash != last.hash and not self._stands(seen):
            seen, logs = None, []  # a reorganisation
        start = first if seen is None else seen.number + 1
        found = [*logs, *self._ask(address, topics, start, last.number)]
        self._read.put(key, (last, found))
        return found

    def _stands(self, block: BlockRef) -> bool:
        return block_at(self._web3, BlockNumber(block.number)).hash == block.hash

    def _ask(self, address: str | None, topics: list[str] | None, first: int, last: int) -> list[Any]:
        found: list[Any] = []
        for start in range(first, last + 1, BLOCKS_PER_REQUEST):
            wanted: dict[str, Any] = {
                "fromBlock": start,
                "toBlock": min(start + BLOCKS_PER_REQUEST - 1, last),
            }
            if address is not None:
                wanted["address"] = _sum(address)
            if topics:
                wanted["topics"] = topics
            found += self._web3.eth.get_logs(cast(Any, wanted))
        return sorted(found, key=lambda log: (log["blockNumber"], log["logIndex"]))


def _account_in(data: bytes) -> str:
    try:
        return str(_sum(str(decode(["address"], data[:32])[0])))
    except DecodingError:
        return ZERO


def _sum(address: str) -> Any:
    return Web3.to_checksum_address(address)
