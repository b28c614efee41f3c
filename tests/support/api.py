"""A client for the API without a network, and a chain that is a few Python values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from eth_abi import encode
from eth_utils import keccak, to_checksum_address
from fastapi import FastAPI

from offchain.api.source import Account, Event, Extras, Places, Teller, TokenInfo, Wallet
from offchain.chain.errors import ChainError
from offchain.chain.pools import PoolSource
from offchain.chain.vault import BlockRef, Snapshot
from offchain.keeper.market import GasPrice, Observed, Sources
from offchain.planner import Pool, Problem, V2Pool
from offchain.policy import WAD, Asset, Rules, Session, VaultState


def address(number: int) -> str:
    return to_checksum_address(f"0x{number:040x}")


VAULT, OTHER_VAULT, ZAP, EXECUTOR, ORACLE = (address(n) for n in (0xAA01, 0xAA02, 0xBB01, 0xBB02, 0xBB03))
GOLD, COIN, CASH, HUB, STRANGE = (address(n) for n in (0xCC01, 0xCC02, 0xCC03, 0xCC04, 0xCC05))
HOLDER, KEEPER = address(0xDD01), address(0xDD02)
DECIMALS = {GOLD: 18, COIN: 8, CASH: 6, HUB: 6, STRANGE: 18, VAULT: 18}
USD = {GOLD: 2_000 * WAD, COIN: 50_000 * WAD, CASH: WAD, HUB: WAD}
RULES = Rules(2, 1, 3, 1_577_836_800, 86_400, 86_400, 150, 100, 400, 20, 2_000, 100)
NOW = 1_700_000_000


class Client:
    """Requests to an application, one event loop each."""

    def __init__(self, app: FastAPI, host: str = "testserver", client: str = "203.0.113.7") -> None:
        self._app, self._host, self._client = app, host, client

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False, client=(self._client, 1))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{self._host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        return self.request("DELETE", path, **more)


def vault_state(**changes: Any) -> VaultState:
    """100,000 USD, half gold, three tenths coin, the rest cash; 100,000 shares."""
    assets = tuple(
        Asset(token, DECIMALS[token], bps, 500, 2_500, 0, 10_000, 30)
        for token, bps in ((GOLD, 5_000), (COIN, 3_000), (CASH, 2_000))
    )
    state = VaultState(
        assets=assets,
        rules=RULES,
        session=Session(1, NOW - 10**6, NOW - 10**6, 16, False),
        balances=(25 * 10**18, 60_000_000, 20_000 * 10**6),
        prices=tuple(USD[a.token] for a in assets),
        statuses=(0, 0, 0),
        supply=100_000 * WAD,
        time=NOW,
        fee_accrued_at=NOW,
        loss_time=NOW,
        speed_time=NOW,
        vault=VAULT,
        oracle=ORACLE,
    )
    return replace(state, **changes)


def pool(number: int, a: str, b: str, usd: int, fee_bps: int = 30) -> V2Pool:
    """A pair at the oracle's prices, so many USD deep on each side."""
    zero, one = sorted((a, b), key=lambda token: token.lower())
    reserves = [usd * WAD * 10 ** DECIMALS[t] // USD[t] for t in (zero, one)]
    return V2Pool(address(0xEE00 + number), zero, one, fee_bps, *reserves)


REBALANCED = (
    "bytes32", "uint256", "uint256", "uint256", "uint256", "uint256", "uint256[]", "uint256[]", "uint256[]",
    "uint256[]", "address", "bytes32", "bytes32",
)  # fmt: skip


def rebalanced(number: int, head: bytes) -> Event:
    """The vault's rebalance in block `number`, and what it hashed."""
    state = vault_state()
    args: dict[str, Any] = {
        "previous_head": head,
        "kind": 2,
        "session": number,
        "time": NOW,
        "supply": state.supply,
        "flow_sequence": 0,
        "prices": list(state.prices),
        "balances_before": list(state.balances),
        "balances_after": [25 * 10**18, 60_000_000, 19_990 * 10**6],
        "sells": [0, 0, 10**7],
        "executor": EXECUTOR,
        "payload_hash": keccak(b"payload"),
        "decision": bytes(32),
    }
    data = encode(REBALANCED, list(args.values()))
    return event(number, "Rebalanced", args | {"keeper": KEEPER}, data)


def event(number: int, name: str, args: dict[str, Any], data: bytes = b"", log_index: int = 0) -> Event:
    return Event(name, args, block(number), "0x" + keccak(text=f"{name} {number}").hex(), log_index, data)


def block(number: int) -> BlockRef:
    return BlockRef(number, "0x" + keccak(text=str(number)).hex(), NOW)


@dataclass
class FakeSource:
    """A chain with one vault; a test changes what it says."""

    chain_id: int = 31_337
    places: Places = field(
        default_factory=lambda: Places(
            zap=ZAP,
            sources=Sources(PoolSource([address(0xFF01)]), EXECUTOR, HUB),
            vaults=(VAULT, OTHER_VAULT),
        )
    )
    state: VaultState = field(default_factory=vault_state)
    number: int = 100
    logs: list[Event] = field(default_factory=list)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)  # by token: symbol, name
    deaf: set[str] = field(default_factory=set)  # tokens that do not answer
    market: tuple[Pool, ...] = ()
    melting: int = 0
    down: Exception | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    allowance: int = 0
    bought: list[Any] = field(default_factory=list)

    def newest(self) -> BlockRef:
        if self.down is not None:
            raise self.down
        return block(self.number)

    def known(self, _: BlockRef) -> list[str]:
        return list(self.places.vaults)

    def serves(self, vault: str, _: BlockRef) -> bool:
        return vault in self.places.vaults

    def snapshot(self, vault: str, at: BlockRef) -> Snapshot:
        if vault != VAULT:
            raise ChainError(f"vault: {vault} does not answer basket(): not a vault?")
        return Snapshot(self.chain_id, at, vault, self.state, "0x" + "11" * 32)

    def snapshots(self, vaults: Sequence[str], at: BlockRef) -> list[Snapshot | None]:
        return [self.snapshot(vault, at) if vault == VAULT else None for vault in vaults]

    def extras(self, vault: str, _: BlockRef) -> Extras:
        return Extras("A basket", "BSKT", EXECUTOR, ORACLE, self.melting, 0, HOLDER, HOLDER, 172_800, None)

    def titles(self, vault: str, _: BlockRef) -> tuple[str, str]:
        return "A basket", "BSKT"

    def readable(self, token: str, vault: str, _: BlockRef) -> bool:
        return token not in self.deaf

    def tokens(self, tokens: Sequence[str], _: BlockRef) -> dict[str, TokenInfo]:
        own = {GOLD: "GOLD", COIN: "COIN", CASH: "CASH", HUB: "HUB", VAULT: "BSKT"}
        for token in tokens:
            if token not in DECIMALS:
                raise ChainError(f"token: {token} does not say how many decimals it has")
        return {
            t: TokenInfo(t, *self.names.get(t, (own.get(t, "ODD"), "A token")), DECIMALS[t]) for t in tokens
        }

    def prices(self, oracle: str, tokens: Sequence[str], _: BlockRef) -> list[tuple[int, int]]:
        return [(USD.get(token, 0), 0 if token in USD else 1) for token in tokens]

    def events(self, vault: str, at: BlockRef) -> list[Event]:
        return [e for e in self.logs if e.block.number <= at.number] if vault == VAULT else []

    def first_basket(self, vault: str, _: BlockRef) -> list[str]:
        return [GOLD, COIN, CASH]

    def roles(self, vault: str, _: BlockRef) -> dict[str, int]:
        return {KEEPER: 1, HOLDER: 6}

    def tellers(self, vault: str, timelock: str, _: BlockRef) -> list[Teller]:
        return [Teller(address(0xBB09), CASH, 60, 150, 21_600, WAD // 10, WAD // 10)]

    def account(self, vault: str, account: str, tokens: Sequence[str], _: BlockRef) -> Account:
        wallets = {
            t: Wallet(None if t in self.deaf else 10**24, self.allowance, self.allowance) for t in tokens
        }
        return Account(1_000 * WAD, WAD, wallets, self.allowance)

    def purchases(self, vault: str, account: str, _: BlockRef) -> tuple[list[Any], list[str]]:
        return self.bought, []

    def teller_preview(self, teller: str, amount: int, into: bool, _: BlockRef) -> int:
        return amount * 10**12 if into else amount // 10**12

    def pools(self, pairs: Sequence[tuple[str, str]], _: BlockRef) -> tuple[Pool, ...]:
        wanted = {frozenset(pair) for pair in pairs}
        return tuple(p for p in self.market if frozenset((p.token0, p.token1)) in wanted)

    def gas_usd(self, _: Snapshot) -> int:
        return 0

    def observed(self, _: Snapshot) -> Observed:
        return Observed(Problem(self.state, self.market, EXECUTOR, HUB, NOW), GasPrice())

    def request(self, method: str, params: Any) -> Any:
        self.asked.append((method, params))
        return {"jsonrpc": "2.0", "id": 0, "result": "0x7"}
