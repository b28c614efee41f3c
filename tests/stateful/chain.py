"""The contracts of an episode, called by raw bytes, and who calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyrevm
from eth_utils import keccak

from offchain.policy import DAY
from tests.stateful.model import ZERO, Refused, encode, selector, word
from tests.support.evm import DEPLOYER, Evm, Reverted, artifact

OWNER, OWNER_2, GUARDIAN, GUARDIAN_2, STRATEGIST, KEEPER, THIEF, STRANGER, COLLECTOR, ALICE, BOB, CAROL = (
    "0x" + f"{n:02x}" * 20 for n in range(0xA1, 0xAD)
)
ACTORS = [
    OWNER,
    OWNER_2,
    GUARDIAN,
    GUARDIAN_2,
    STRATEGIST,
    KEEPER,
    THIEF,
    STRANGER,
    COLLECTOR,
    ALICE,
    BOB,
    CAROL,
]
HOLDERS = [ALICE, BOB, CAROL, OWNER, THIEF]  # have tokens, and let the vaults take them
NO_CODE = "0x" + "e0" * 20
REVERTING = bytes.fromhex("60006000fd")  # revert(0, 0)
BALANCES = 1  # storage slot of a ScriptedToken's


class Different(AssertionError):
    """Chain and model disagree."""

    invariant = "model"


class Judges:
    """Who judges: the invariants always, the model unless it is told off."""

    model = True


def same(what: str, chain: Any, expected: Any) -> None:
    if chain != expected and Judges.model:
        if isinstance(chain, dict):
            chain = {key: value for key, value in chain.items() if value != expected[key]}
            expected = {key: expected[key] for key in chain}
        elif isinstance(chain, list) and len(chain) == len(expected):
            at = next(i for i, (a, b) in enumerate(zip(chain, expected, strict=True)) if a != b)
            what, chain, expected = f"{what}, number {at}", chain[at], expected[at]
        raise Different(f"{what}: chain {plain(chain)}, model {plain(expected)}")


def plain(value: Any) -> str:
    """Bytes in words of hex."""
    if isinstance(value, bytes):
        return " ".join(value[i : i + 32].hex().lstrip("0") or "0" for i in range(0, len(value), 32))
    if isinstance(value, tuple):
        return f"({', '.join(map(plain, value))})"
    return f"[{', '.join(map(plain, value))}]" if isinstance(value, list) else repr(value)


# ---------------------------------------------------------------- the chain


class Chain:
    """The contracts of an episode, called by raw bytes."""

    def __init__(
        self, now: int, decimals: Sequence[int], prices: Sequence[int], heartbeats: Sequence[int]
    ) -> None:
        self.evm = Evm(now)
        deploy = self.deploy
        self.tokens = [deploy("ScriptedToken", d) for d in decimals]
        self.feeds = [deploy("TestFeed", 18, "USD", price) for price in prices]
        self.feed_board = deploy("FeedBoard")
        self.oracles = [deploy("PriceOracle", GUARDIAN, 2 * DAY, ZERO, 0) for _ in range(2)]
        for i, (token, feed, heartbeat) in enumerate(zip(self.tokens, self.feeds, heartbeats, strict=True)):
            arguments = encode(token, feed, heartbeat, 1, 2**128 - 1)
            for oracle in self.oracles[: 1 if i == len(decimals) - 1 else 2]:  # one token has one feed only
                self.send(
                    DEPLOYER,
                    oracle,
                    selector("set_feed(address,address,uint256,uint256,uint256)") + arguments,
                )
        self.rule_book = deploy("RuleBook")
        self.teller_implementation = deploy("Teller")
        self.timelock = deploy("Timelock", self.rule_book, self.teller_implementation)
        self.implementation = deploy("Vault", self.rule_book, self.timelock)
        self.factory = deploy("VaultFactory", self.implementation, self.rule_book)
        self.executor = deploy("ScriptedExecutor")
        self.auction = deploy("Auction", 600, 3600, 100)  # seconds of grace and decay, first bps
        self.codes: dict[str, bytes] = {}  # of what is broken now
        self._places: dict[tuple[int, str], int] = {}

    def deploy(self, name: str, *args: Any) -> str:
        return self.evm.deploy(artifact(name), *args).address.lower()

    def send(self, sender: str, to: str, data: bytes) -> bytes:
        """The output; Refused with the revert string, "" when there is none."""
        try:
            return self.evm.call(sender, to, data)
        except Reverted as refusal:
            raise Refused("" if refusal.reason == "0x" else refusal.reason) from None

    def number(self, to: str, data: bytes) -> int:
        return int.from_bytes(self.evm.call(STRANGER, to, data)[:32], "big")

    def logs(self) -> list[tuple[str, list[int], bytes]]:
        """Of the last transaction, but for the tokens'."""
        result = self.evm._evm.result
        assert result is not None
        logs = (
            [log for log in result.logs if log.address.lower() not in self.tokens]
            if result.is_success
            else []
        )
        return [(log.address.lower(), [int(t, 16) for t in log.topics], bytes(log.data[1])) for log in logs]

    def units(self, token: str, account: str) -> int:
        """A ScriptedToken's balance, from its storage: a broken token has it still."""
        return self.entry(token, BALANCES, account)

    def entry(self, address: str, slot: int, key: str) -> int:
        """What a mapping at `slot` has for the account `key`. Some 30 times quicker than a view."""
        place = (slot, key)
        if place not in self._places:
            self._places[place] = int.from_bytes(keccak(word(slot) + word(key)), "big")
        return int(self.evm._evm.storage(address, self._places[place]))

    def find_slot(self, address: str, entries: dict[str, int]) -> int:
        """Where a mapping is that has these entries."""
        return next(s for s in range(500) if all(self.entry(address, s, k) == v for k, v in entries.items()))

    def give(self, token: str, account: str, amount: int) -> None:
        self.send(DEPLOYER, token, selector("set_balance(address,uint256)") + encode(account, amount))

    def break_code(self, address: str) -> None:
        """Every call reverts from now on; storage stays."""
        code = self.evm._evm.get_code(address)
        assert code is not None
        self.codes[address] = bytes(code)
        self.evm._evm.insert_account_info(address, pyrevm.AccountInfo(nonce=1, code=REVERTING))

    def mend(self, address: str) -> None:
        info = pyrevm.AccountInfo(nonce=1, code=self.codes.pop(address))
        self.evm._evm.insert_account_info(address, info)


NAMES = {value: name for name, value in globals().items() if name.isupper() and isinstance(value, str)}


def name_of(account: str) -> str:
    return NAMES.get(account, account)
