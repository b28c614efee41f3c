"""verify_vault against the real bytecode, in process: an honest history verifies, a damaged one does not."""

from collections.abc import Callable
from typing import Any

import pytest
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from offchain.audit import verify_vault
from offchain.chain.contracts import load_artifact
from offchain.chain.errors import ChainError
from offchain.policy import DAY
from tests.support.evm import DEPLOYER, Contract, Evm, Reverted

NOW = 1_700_000_000
KEEPER = "0x" + "22" * 20
GUARDIAN = "0x" + "33" * 20
RECIPIENT = "0x" + "44" * 20
ZERO = "0x" + "00" * 20
UNIT = 10**18
CHAIN_ID = 1  # pyrevm's
RULES = (2, 1, 1, NOW, 2 * DAY, DAY, 120, 200, 400, 50, 1_000, 100)  # EITHER, monthly


class RecordingEvm(Evm):
    """Keeps every log as a node would return it; one transaction a block."""

    def __init__(self, now: int = NOW) -> None:
        self.logs: list[dict[str, Any]] = []
        super().__init__(now)

    def call(self, sender: str, to: str, data: bytes) -> bytes:
        output = super().call(sender, to, data)
        result = self._evm.result
        assert result is not None
        if result.logs:
            self._record(result.logs)
            self.set_time(self.now + 12)
        return output

    def code(self, address: str) -> bytes:
        """An account's code; pyrevm appends 33 zero bytes of its own to it."""
        account = self._evm.basic(address)
        assert account.code is not None
        code = account.code[:-33]
        assert not code or keccak(code) == account.code_hash
        return code

    def _record(self, logs: list[Any]) -> None:
        for index, log in enumerate(logs):
            self.logs.append(
                {
                    "address": Web3.to_checksum_address(log.address),
                    "topics": [HexBytes(topic) for topic in log.topics],
                    "data": HexBytes(log.data[1]),
                    "blockNumber": self._block,
                    "blockHash": block_hash(self._block),
                    "transactionHash": HexBytes(keccak(text=f"transaction {self._block}")),
                    "transactionIndex": 0,
                    "logIndex": index,
                    "removed": False,
                }
            )


def block_hash(number: int) -> HexBytes:
    return HexBytes(keccak(text=f"block {number}"))


class EvmProvider(BaseProvider):
    """The handful of methods that the verifier asks a node for."""

    def __init__(self, evm: RecordingEvm) -> None:
        super().__init__()
        self.evm = evm
        self.logs: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda logs: logs

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answers: dict[str, Callable[[Any], Any]] = {
            "eth_chainId": lambda _: hex(CHAIN_ID),
            "eth_getBlockByNumber": self._block,
            "eth_getCode": lambda p: HexBytes(self.evm.code(p[0])),
            "eth_call": lambda p: HexBytes(
                self.evm.call(DEPLOYER, p[0]["to"], bytes(HexBytes(p[0]["data"])))
            ),
            "eth_getLogs": lambda p: self.logs(
                [log for log in self.evm.logs if log["address"] in p[0]["address"]]
            ),
        }
        return {"jsonrpc": "2.0", "id": 1, "result": answers[method](params)}

    def _block(self, params: Any) -> dict[str, Any]:
        number = self.evm._block if params[0] == "latest" else int(params[0], 16)
        return {"number": number, "hash": block_hash(number), "timestamp": self.evm.now}


class Market:
    """A vault made by the factory, two assets at 1 USD, with every kind of audit entry in its history."""

    def __init__(self) -> None:
        self.evm = RecordingEvm()
        self.tokens = [self.evm.deploy(load_artifact("TestToken"), f"T{i}", f"T{i}", 18) for i in range(2)]
        self.feeds = [self.evm.deploy(load_artifact("TestFeed"), 8, "USD", 10**8) for _ in range(2)]
        self.oracle = self.evm.deploy(load_artifact("PriceOracle"))
        for token, feed in zip(self.tokens, self.feeds, strict=True):
            self.oracle.call("set_feed", token.address, feed.address, 30 * DAY, 1, 10**24)
        book = self.evm.deploy(load_artifact("RuleBook"))
        self.implementation = self.evm.deploy(load_artifact("Vault"), book.address)
        factory = self.evm.deploy(load_artifact("VaultFactory"), self.implementation.address, book.address)
        self.executor = self.evm.deploy(load_artifact("BadExecutor"))
        for token in self.tokens:
            for holder in (DEPLOYER, self.executor.address):
                token.call("mint", holder, 10**6 * UNIT)
            token.call("approve", factory.address, 2**256 - 1)
        assets = [(token.address, 0, 5_000, 500, 2_500, 1_000, 9_000, 50) for token in self.tokens]
        config = (
            "Balanced",
            "BAL",
            assets,
            RULES,
            self.oracle.address,
            DEPLOYER,
            GUARDIAN,
            ZERO,
            KEEPER,
            50,
            RECIPIENT,
        )
        address = factory.call("create_vault", config, [1_000 * UNIT] * 2, b"\0" * 32)
        self.vault: Contract = self.evm.at(address, load_artifact("Vault"))
        self.provider = EvmProvider(self.evm)
        self.web3 = Web3(self.provider, middleware=[])

    def live(self) -> None:
        """Flows, a rebalance, rule changes, a session opened without a trade."""
        for token in self.tokens:
            token.call("approve", self.vault.address, 2**256 - 1)
        self.vault.call("mint_in_kind", 500 * UNIT, [500 * UNIT] * 2, KEEPER)
        self.reprice(13 * 10**7)
        self.rebalance()
        self.vault.call("set_targets", [4_900, 5_100])
        self.vault.call("redeem_in_kind", 100 * UNIT, KEEPER, KEEPER, [0, 0], 0, sender=KEEPER)
        self.vault.call("pause", sender=GUARDIAN)
        self.vault.call("unpause")
        self.evm.set_time(self.evm.now + 31 * DAY)
        self.reprice(13 * 10**7)
        self.vault.call("open_session")

    def reprice(self, answer: int) -> None:
        self.feeds[0].call("set_answer", answer)
        self.feeds[1].call("set_answer", 10**8)

    def rebalance(self) -> None:
        sold, price = 100 * UNIT, 13
        self.executor.call("set_payout", [self.tokens[1].address], [sold * price // 10])
        session = self.vault.call("session")[0] + 1
        arguments = ([sold, 0], self.executor.address, b"payload", keccak(b"why"), session, self.evm.now)
        self.vault.call("rebalance", *arguments, sender=KEEPER)

    def entry(self, event: str) -> dict[str, Any]:
        """The last log of the vault with this event's topic."""
        return [log for log in self.evm.logs if log["topics"][0] == topic_of("Vault", event)][-1]


def topic_of(contract: str, event: str) -> HexBytes:
    """The topic that the ABI gives to readers."""
    abi = next(e for e in load_artifact(contract)["abi"] if e["type"] == "event" and e["name"] == event)
    return HexBytes(keccak(text=f"{event}({','.join(collapse_if_tuple(item) for item in abi['inputs'])})"))


@pytest.fixture
def market() -> Market:
    market = Market()
    market.live()
    return market


def test_verify_vault_finds_an_honest_history_equal(market: Market) -> None:
    report = verify_vault(market.web3, market.vault.address)
    assert report.first_break is None
    assert report.ok
    assert report.head_recomputed == report.head_stored == "0x" + market.vault.call("head").hex()
    assert report.entries == 6  # Created, Rebalanced, set_targets, pause, unpause, SessionOpened


def test_verify_vault_follows_every_entry() -> None:
    """I7: equal after each transaction, not only at the end."""
    market = Market()
    assert verify_vault(market.web3, market.vault.address).ok
    market.reprice(13 * 10**7)
    market.rebalance()
    report = verify_vault(market.web3, market.vault.address)
    assert (report.ok, report.entries) == (True, 2)


@pytest.mark.parametrize("event", ["SessionOpened", "Rebalanced", "RuleChanged"])
def test_verify_vault_finds_a_changed_entry(market: Market, event: str) -> None:
    log = market.entry(event)
    data = bytearray(log["data"])
    data[4 * 32 - 1] ^= 1  # the fourth word: by_calendar, or a time
    log["data"] = HexBytes(bytes(data))
    report = verify_vault(market.web3, market.vault.address)
    assert not report.ok
    assert report.first_break is not None
    assert (
        f"block {log['blockNumber']}, transaction {log['transactionHash'].to_0x_hex()}" in report.first_break
    )


@pytest.mark.parametrize("event", ["Created", "SessionOpened", "Rebalanced", "RuleChanged"])
def test_verify_vault_finds_a_missing_entry(market: Market, event: str) -> None:
    missing = market.entry(event)
    market.provider.logs = lambda logs: [log for log in logs if log is not missing]
    report = verify_vault(market.web3, market.vault.address)
    assert not report.ok
    assert report.first_break is not None


def test_verify_vault_finds_entries_in_another_order(market: Market) -> None:
    first, second = market.entry("Rebalanced"), market.entry("RuleChanged")
    for field in ("blockNumber", "transactionHash"):
        first[field], second[field] = second[field], first[field]
    report = verify_vault(market.web3, market.vault.address)
    assert not report.ok
    assert report.first_break is not None
    assert "field previous_head" in report.first_break


def test_verify_vault_refuses_a_vault_that_is_not_a_proxy(market: Market) -> None:
    """The implementation itself: its head is a lock, and it has no history."""
    report = verify_vault(market.web3, market.implementation.address)
    assert not report.ok
    assert report.first_break is not None
    assert "not a minimal proxy" in report.first_break


def test_verify_vault_refuses_what_is_not_a_vault(market: Market) -> None:
    with pytest.raises(ChainError, match="is not a vault"):
        verify_vault(market.web3, RECIPIENT)


def test_every_setter_extends_the_head(market: Market) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("set_bands", ([400, 500], [2_000, 2_500])),
        ("set_limits", ([2_000, 2_000], [8_000, 8_000])),
        ("set_rules", ((*RULES[:9], 40, *RULES[10:]),)),
        ("set_fee", (20, KEEPER)),
        ("set_oracle", (market.oracle.address,)),
        ("set_role", (RECIPIENT, 3)),
        ("drop_role", (RECIPIENT,)),
        ("transfer_ownership", (DEPLOYER,)),
        ("accept_ownership", ()),
    ]
    before = verify_vault(market.web3, market.vault.address).entries
    for done, (name, arguments) in enumerate(calls, start=1):
        market.vault.call(name, *arguments)
        report = verify_vault(market.web3, market.vault.address)
        assert (report.ok, report.entries) == (True, before + done), name


def test_a_refused_call_leaves_the_head_as_it_was(market: Market) -> None:
    head = market.vault.call("head")
    with pytest.raises(Reverted, match="not owner"):
        market.vault.call("set_fee", 0, KEEPER, sender=KEEPER)
    assert market.vault.call("head") == head


def test_config_hash_binds_what_the_vault_was_created_with(market: Market) -> None:
    """Genesis hashes the Config that the factory was given and logged."""
    topic = topic_of("VaultFactory", "VaultCreated")
    logged = next(log for log in market.evm.logs if log["topics"][0] == topic)
    assert bytes(market.entry("Created")["data"])[96:128] == keccak(bytes(logged["data"]))
