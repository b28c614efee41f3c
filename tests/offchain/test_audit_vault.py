"""verify_vault against the real bytecode, in process: an honest history verifies, a damaged one does not."""

from collections.abc import Callable
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from offchain.audit import verify_vault
from offchain.chain.errors import ChainError
from offchain.policy import DAY
from tests.support.evm import DEPLOYER, Evm, Reverted, artifact
from tests.support.world import (
    ALICE,
    BOB,
    FEE_RECIPIENT,
    GUARDIAN,
    KEEPER,
    OWNER,
    RULES,
    STRANGER,
    STRATEGIST,
    World,
    asset,
)

NOW = 1_700_000_000
UNIT = 10**18
CHAIN_ID = 1  # pyrevm's


class RecordingEvm(Evm):
    """Keeps every log as a node would return it; one transaction a block."""

    def __init__(self, now: int = NOW) -> None:
        self.logs: list[dict[str, Any]] = []
        self.times: dict[int, int] = {}  # timestamp, by block with logs
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
        self.times[self._block] = self.now
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
            "eth_getLogs": lambda p: self.logs([log for log in self.evm.logs if wanted(log, p[0])]),
            "eth_getTransactionReceipt": lambda p: {
                "logs": [log for log in self.evm.logs if log["transactionHash"] == HexBytes(p[0])]
            },
        }
        return {"jsonrpc": "2.0", "id": 1, "result": answers[method](params)}

    def _block(self, params: Any) -> dict[str, Any]:
        number = self.evm._block if params[0] == "latest" else int(params[0], 16)
        time = self.evm.times.get(number, self.evm.now)
        return {"number": number, "hash": block_hash(number), "timestamp": time}


def wanted(log: dict[str, Any], asked: dict[str, Any]) -> bool:
    """A node's filter: address or addresses, topics by place, blocks."""
    addresses = asked.get("address", log["address"])
    topics = asked.get("topics", [])
    first, last = (int(asked.get(name, "0x0"), 16) for name in ("fromBlock", "toBlock"))
    if log["address"] not in addresses or not first <= log["blockNumber"] <= last:
        return False
    if len(topics) > len(log["topics"]):
        return False
    pairs = zip(topics, log["topics"], strict=False)
    return all(
        one is None or log in map(HexBytes, [one] if isinstance(one, str) else one) for one, log in pairs
    )


class Market(World):
    """A vault made by the factory, two assets at 1 USD, with every kind of audit entry in its history."""

    def __init__(self) -> None:
        super().__init__((5_000, 5_000), (18,), (1,), seed_usd=2_000, fee_bps=50, evm=RecordingEvm(NOW))
        self.provider = EvmProvider(self.evm)
        self.web3 = Web3(self.provider, middleware=[])

    def live(self) -> None:
        """Flows in kind and priced, a rebalance, changes of all sorts, a session opened without a trade."""
        self.mint(ALICE, 500 * UNIT)
        self.delayed("add_teller", self.tokens[1].address, 50, 120, DAY, 1_000, 100, False)
        teller = self.at("Teller", self.evm.events("TellerAdded")[0].fields["teller"])
        self.give(BOB, [0, 20 * UNIT])
        self.tokens[1].call("approve", teller.address, 20 * UNIT, sender=BOB)
        shares = teller.call("deposit", 20 * UNIT, BOB, sender=BOB)
        teller.call("redeem", shares // 2, BOB, BOB, sender=BOB)
        self.set_price(0, 13 * UNIT // 10)
        self.trade()
        self.at_once("set_targets", [4_900, 5_100])
        self.redeem(ALICE, 100 * UNIT)
        self.at_once("quarantine", self.tokens[0].address, sender=GUARDIAN)
        self.at_once("end_quarantine", sender=GUARDIAN)
        self.at_once("pause", sender=GUARDIAN)
        self.delayed("unpause")
        self.sleep(29 * DAY)
        self.refresh()
        self.vault.call("open_session", sender=STRANGER)

    def trade(self) -> None:
        """100 of the first token for as much value of the second."""
        first, second, *others = self.balances()
        self.rebalance([first - 100 * UNIT, second + 100 * self.prices[0], *others])

    def third(self) -> str:
        """Another token at 1 USD that the oracle knows; its address."""
        token, feed = self.make_token(18), self.deploy("TestFeed", 18, "USD", UNIT)
        self.oracle.call("set_feed", token.address, feed.address, 30 * DAY, 1, 2**128 - 1)
        self.tokens.append(token)
        self.feeds.append(feed)
        self.prices.append(UNIT)
        return token.address

    def entry(self, event: str) -> dict[str, Any]:
        """The last log of the vault with this event's topic."""
        return [log for log in self.evm.logs if log["topics"][0] == topic_of("Vault", event)][-1]


def topic_of(contract: str, event: str) -> HexBytes:
    """The topic that the ABI gives to readers."""
    abi = next(e for e in artifact(contract)["abi"] if e["type"] == "event" and e["name"] == event)
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
    # Created, set_teller, Rebalanced, set_targets, quarantine twice, pause twice, SessionOpened
    assert report.entries == 9


def test_verify_vault_follows_every_entry() -> None:
    """I7: equal after each transaction, not only at the end."""
    market = Market()
    assert verify_vault(market.web3, market.vault.address).ok
    market.set_price(0, 13 * UNIT // 10)
    market.trade()
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
        verify_vault(market.web3, STRANGER)


AT_ONCE: list[tuple[str, Callable[[Market], tuple[Any, ...]], str, str]] = [
    # function of the Timelock, its arguments but the vault, who calls, name in the audit chain
    ("set_targets", lambda m: ([4_800, 5_200],), STRATEGIST, "set_targets"),
    ("set_rules", lambda m: (tuple((RULES | {"max_slippage_bps": 110}).values()),), OWNER, "set_rules"),
    ("set_fee", lambda m: (20, FEE_RECIPIENT), OWNER, "set_fee"),
    ("drop_role", lambda m: (KEEPER,), GUARDIAN, "set_role"),
]
DELAYED: list[tuple[str, Callable[[Market], tuple[Any, ...]], str]] = [
    ("set_bands", lambda m: ([400, 500], [2_000, 2_500]), "set_bands"),
    ("set_limits", lambda m: ([2_000, 2_000], [8_000, 8_000]), "set_limits"),
    ("set_rules", lambda m: (tuple((RULES | {"tolerance_bps": 40}).values()),), "set_rules"),
    ("set_fee", lambda m: (60, ALICE), "set_fee"),
    ("set_oracle", lambda m: (m.oracle.address,), "set_oracle"),
    ("set_role", lambda m: (BOB, 3), "set_role"),
    ("add_asset", lambda m: (asset(m.third(), 0),), "add_asset"),
    ("add_teller", lambda m: (m.tokens[0].address, 50, 120, DAY, 1_000, 100, False), "set_teller"),
]


def test_every_change_at_once_extends_the_head(market: Market) -> None:
    before = verify_vault(market.web3, market.vault.address).entries
    for done, (name, arguments, sender, recorded) in enumerate(AT_ONCE, start=1):
        market.at_once(name, *arguments(market), sender=sender)
        report = verify_vault(market.web3, market.vault.address)
        assert (report.ok, report.entries) == (True, before + done), name
        assert last_rule(market) == recorded


def test_every_delayed_change_extends_the_head(market: Market) -> None:
    before = verify_vault(market.web3, market.vault.address).entries
    for done, (name, arguments, recorded) in enumerate(DELAYED, start=1):
        market.delayed(name, *arguments(market))
        report = verify_vault(market.web3, market.vault.address)
        assert (report.ok, report.entries) == (True, before + done), name
        assert last_rule(market) == recorded


def test_the_chain_goes_on_through_assets_that_come_and_go() -> None:
    """Entries have as many prices and balances as the vault had assets then."""
    market = Market()
    market.delayed("add_asset", asset(market.third(), 0))
    market.set_price(0, 13 * UNIT // 10)
    market.trade()
    sizes = [len(bytes(market.entry("Rebalanced")["data"]))]
    market.delayed("remove_asset", market.tokens.pop().address)
    market.sleep(DAY)
    market.feeds.pop()
    market.prices.pop()
    market.set_price(0, 2 * UNIT)
    market.trade()
    sizes.append(len(bytes(market.entry("Rebalanced")["data"])))
    assert sizes[0] - sizes[1] == 4 * 32  # prices, balances before and after, sells
    report = verify_vault(market.web3, market.vault.address)
    assert (report.ok, report.entries, last_rule(market)) == (True, 5, "remove_asset")


def test_a_refused_call_leaves_the_head_as_it_was(market: Market) -> None:
    head = market.vault.call("head")
    with pytest.raises(Reverted, match="not admin"):
        market.at_once("set_fee", 0, FEE_RECIPIENT, sender=KEEPER)
    with pytest.raises(Reverted, match="not timelock"):
        market.vault.call("set_fee", 0, KEEPER, sender=OWNER)
    assert market.vault.call("head") == head


def last_rule(market: Market) -> str:
    data = bytes(market.entry("RuleChanged")["data"])
    return str(decode(["bytes32", "uint256", "string", "uint256", "bytes"], data)[2])


def test_config_hash_binds_what_the_vault_was_created_with(market: Market) -> None:
    """Genesis hashes the Config that the factory was given and logged."""
    topic = topic_of("VaultFactory", "VaultCreated")
    logged = next(log for log in market.evm.logs if log["topics"][0] == topic)
    assert bytes(market.entry("Created")["data"])[96:128] == keccak(bytes(logged["data"]))
