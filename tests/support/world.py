"""A whole system on the test chain: oracle and feeds, rule book, timelock, factory, and one vault made by it.

Tokens are ScriptedTokens, whose balances a test sets at will, and `executor` leaves the vault with whatever balances
its payload names. Prices come from real feeds through the real PriceOracle. Every role has its own account.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.evm import Contract, Evm, Function, Reverted, artifact

WAD = 10**18
DAY = 86_400
START = 1_700_000_000
DELAY = 2 * DAY
HEARTBEAT = 30 * DAY
ZERO = "0x" + "00" * 20
OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER, FEE_RECIPIENT, ALICE, BOB = (
    "0x" + f"{n:02x}" * 20 for n in range(0xA1, 0xA9)
)
MANY = 2**255  # an allowance that lasts
KEEPER_ROLE, STRATEGIST_ROLE, GUARDIAN_ROLE = 1, 2, 4
RULES: dict[str, int] = {
    "mode": 2,  # EITHER
    "calendar_unit": 1,  # months
    "calendar_every": 1,
    "calendar_anchor": START - 30 * DAY,
    "window_seconds": 2 * DAY,
    "cooldown_seconds": DAY,
    "max_slippage_bps": 120,
    "loss_capacity_bps": 200,
    "loss_refill_bps_per_year": 400,
    "tolerance_bps": 50,
    "speed_capacity_bps": 1_000,
    "speed_refill_bps_per_day": 100,
}


def asset(token: str, target_bps: int, **fields: int) -> tuple[Any, ...]:
    """An `Asset` struct: bands 5/25, no limits, price error 25 bps; `fields` replace some."""
    given = {
        "decimals": 0,
        "target_bps": target_bps,
        "band_points_bps": 500,
        "band_relative_bps": 2_500,
        "min_target_bps": 0,
        "max_target_bps": 10_000,
        "price_error_bps": 25,
    }
    return (token, *(given | fields).values())


@contextmanager
def reverts(reason: str) -> Iterator[None]:
    """A call inside reverts with exactly this string."""
    with pytest.raises(Reverted) as refusal:
        yield
    assert refusal.value.reason == reason


class World:
    """One vault on target and everything around it.

    `targets_bps` gives the number of assets; `decimals` and `prices_usd` repeat over them. The seed is worth
    `seed_usd` at target weights and belongs to OWNER, but for the dead share.
    """

    def __init__(
        self,
        targets_bps: Sequence[int] = (5_000, 3_000, 2_000),
        decimals: Sequence[int] = (6, 8, 18),
        prices_usd: Sequence[int] = (1, 50_000, 2_000),
        seed_usd: int = 1_000_000,
        fee_bps: int = 0,
        keepers: Sequence[str] = (KEEPER,),
        asset_fields: dict[str, int] | None = None,
        evm: Evm | None = None,
        **rules: int,
    ) -> None:
        self.evm = evm or Evm(START)
        count = len(targets_bps)
        self.decimals = [decimals[i % len(decimals)] for i in range(count)]
        self.prices = [prices_usd[i % len(prices_usd)] * WAD for i in range(count)]
        self.tokens = [self.make_token(d) for d in self.decimals]
        self.feeds = [self.deploy("TestFeed", 18, "USD", price) for price in self.prices]
        self.oracle = self.deploy("PriceOracle", GUARDIAN, DELAY, ZERO, 0)
        for token, feed in zip(self.tokens, self.feeds, strict=True):
            self.oracle.call("set_feed", token.address, feed.address, HEARTBEAT, 1, 2**128 - 1)
        self.rule_book = self.deploy("RuleBook")
        self.teller_implementation = self.make_teller()
        self.timelock = self.make_timelock()
        self.implementation = self.deploy("Vault", self.rule_book.address, self.timelock.address)
        self.factory = self.deploy("VaultFactory", self.implementation.address, self.rule_book.address)
        self.executor = self.deploy("ScriptedExecutor")
        self.rules = RULES | rules
        fields = asset_fields or {}
        self.config = (
            "Evenkeel Test",
            "EVEN",
            [asset(t.address, bps, **fields) for t, bps in zip(self.tokens, targets_bps, strict=True)],
            tuple(self.rules.values()),
            self.oracle.address,
            OWNER,
            DELAY,
            GUARDIAN,
            STRATEGIST,
            list(keepers),
            fee_bps,
            FEE_RECIPIENT,
        )
        self.seed = [
            seed_usd * bps * 10**d * WAD // (10_000 * price)
            for bps, d, price in zip(targets_bps, self.decimals, self.prices, strict=True)
        ]
        self.give(OWNER, self.seed, spender=self.factory.address)
        address = self.factory.call("create_vault", self.config, self.seed, b"\0" * 32, sender=OWNER)
        self.vault = self.at("Vault", address)

    # Contracts; a subclass may put another in the place of the first three

    def make_token(self, decimals: int) -> Contract:
        return self.deploy("ScriptedToken", decimals)

    def make_teller(self) -> Contract:
        """The implementation that the timelock's tellers share."""
        return self.deploy("Teller")

    def make_timelock(self) -> Contract:
        return self.deploy("Timelock", self.rule_book.address, self.teller_implementation.address)

    def deploy(self, name: str, *args: Any) -> Contract:
        """A new contract of this project, by DEPLOYER."""
        return self.evm.deploy(artifact(name), *args)

    def at(self, name: str, address: str) -> Contract:
        """A contract of this project that is already there."""
        return self.evm.at(address, artifact(name))

    # Tokens and prices

    def give(self, account: str, amounts: Sequence[int], spender: str = "") -> None:
        """Add to the account's balances, and let `spender` take them."""
        for token, amount in zip(self.tokens, amounts, strict=True):
            token.call("set_balance", account, token.call("balanceOf", account) + amount)
            if spender:
                token.call("approve", spender, MANY, sender=account)

    def balances(self, account: str = "") -> list[int]:
        """Of the account, or of the vault."""
        return [token.call("balanceOf", account or self.vault.address) for token in self.tokens]

    def set_balances(self, amounts: Sequence[int]) -> None:
        """The vault holds exactly these."""
        for token, amount in zip(self.tokens, amounts, strict=True):
            token.call("set_balance", self.vault.address, amount)

    def set_price(self, index: int, price: int) -> None:
        """USD WAD, fresh."""
        self.prices[index] = price
        self.feeds[index].call("set_answer", price)

    def refresh(self) -> None:
        """All feeds answer their prices again, now."""
        for index, price in enumerate(self.prices):
            self.set_price(index, price)

    # Time and the timelock

    def sleep(self, seconds: int) -> None:
        """The clock moves; feeds do not."""
        self.evm.set_time(self.evm.now + seconds)

    def calldata(self, name: str, *args: Any) -> bytes:
        """A call of the Timelock's function `name` for this vault."""
        entry = next(e for e in self.timelock.abi if e.get("name") == name and e["type"] == "function")
        return Function(entry).encode(self.vault.address, *args)

    def at_once(self, name: str, *args: Any, sender: str = OWNER) -> Any:
        """The Timelock's function `name` for this vault, without a delay."""
        return self.timelock.call(name, self.vault.address, *args, sender=sender)

    def delayed(self, name: str, *args: Any) -> None:
        """Queue, wait, refresh the feeds, execute."""
        data = self.calldata(name, *args)
        self.timelock.call("queue", self.vault.address, data, sender=OWNER)
        self.sleep(self.timelock.call("terms", self.vault.address)[1])
        self.refresh()
        self.timelock.call("execute", self.vault.address, data, sender=OWNER)

    # Flows and trades

    def mint(self, account: str, shares: int) -> list[int]:
        """Bring the tokens and mint in kind."""
        amounts = self.vault.call("preview_mint_in_kind", shares)
        self.give(account, amounts, spender=self.vault.address)
        return list(self.vault.call("mint_in_kind", shares, amounts, account, sender=account))

    def redeem(self, account: str, shares: int, skip: int = 0) -> list[int]:
        """Redeem in kind, no minimum."""
        zeros = [0] * len(self.tokens)
        return list(self.vault.call("redeem_in_kind", shares, account, account, zeros, skip, sender=account))

    def rebalance(self, after: Sequence[int], sender: str = KEEPER, **call: Any) -> Any:
        """A trade that leaves the vault with the balances `after`; `call` replaces arguments of it."""
        tokens = [token.address for token in self.tokens]
        session = self.vault.call("session")
        is_open = (
            session[0] > 0 and session[2] == 0 and self.evm.now < session[1] + self.rules["window_seconds"]
        )
        return self.vault.call(
            "rebalance",
            call.get("sells", [2**256 - 1] * len(tokens)),
            call.get("executor", self.executor.address),
            call.get("payload", encode(["address[]", "uint256[]", "bool"], [tokens, list(after), True])),
            call.get("decision", b"\xdd" * 32),
            call.get("session", session[0] if is_open else session[0] + 1),
            call.get("deadline", 2**64),
            sender=sender,
        )

    def head(self) -> bytes:
        """The vault's audit head."""
        return bytes(self.vault.call("head"))

    def assert_recorded(self, before: bytes, name: str, types: Sequence[str], values: Sequence[Any]) -> None:
        """The last transaction's only audit entry: this setter, these arguments; the head is its data's hash."""
        (entry,) = self.evm.events("RuleChanged")
        assert entry.address.lower() == self.vault.address.lower()
        assert entry.fields == {
            "previous_head": before,
            "kind": 3,
            "name": name,
            "time": self.evm.now,
            "data": encode(types, values),
        }
        assert self.head() == keccak(entry.data)
