"""A vault made by the factory, an auction that is its keeper, and a filler with tokens and allowances.

The vault's timelock makes any call for anyone, so that tests can set what only it may. Tokens are scripted:
`hold` gives the vault any balances. Values are in USD WAD unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from eth_abi import encode

from tests.support.evm import Contract, Event, Evm, Function, Reverted, artifact

WAD = 10**18
BPS = 10**14
DAY = 86_400
HOUR = 3_600
START = 1_700_000_000
ZERO = "0x" + "00" * 20
OWNER, KEEPER, FILLER, RECEIVER, VICTIM, STRANGER = ("0x" + f"{n:02x}" * 20 for n in range(0xB1, 0xB7))
MANY = 2**255
GRACE, DECAY, START_BPS = HOUR, 4 * HOUR, 100
MILLION = 10**6 * WAD
RULES: dict[str, int] = {
    "mode": 1,  # THRESHOLD
    "calendar_unit": 0,
    "calendar_every": 7,
    "calendar_anchor": START,
    "window_seconds": 2 * DAY,
    "cooldown_seconds": DAY,
    "max_slippage_bps": 100,
    "loss_capacity_bps": 500,
    "loss_refill_bps_per_year": 100,
    "tolerance_bps": 0,
    "speed_capacity_bps": 1_000,
    "speed_refill_bps_per_day": 100,
}


def calldata(contract: Contract, function: str, *args: Any) -> bytes:
    """A call to it."""
    entries = (e for e in contract.abi if e["type"] == "function" and e["name"] == function)
    return Function(next(entries)).encode(*args)


def is_weird(token: Contract) -> bool:
    """A WeirdToken: it may lie about balances and answer anything."""
    return token.abi is artifact("WeirdToken")["abi"]


@contextmanager
def reverts(reason: str) -> Iterator[None]:
    """What runs within reverts with exactly this reason."""
    with pytest.raises(Reverted) as refusal:
        yield
    assert refusal.value.reason == reason


class Stage:
    """The vault has targets of 50, 30 and 20 % and is worth a million USD; `hold` moves it off target."""

    def __init__(
        self,
        targets_bps: Sequence[int] = (5_000, 3_000, 2_000),
        decimals: Sequence[int] = (6, 8, 18),
        prices: Sequence[int] = (WAD, 100 * WAD, 10 * WAD),
        errors_bps: Sequence[int] = (25,),
        tokens: list[Contract] | None = None,
        auction: tuple[int, int, int] = (GRACE, DECAY, START_BPS),
        evm: Evm | None = None,
        **rules: int,
    ) -> None:
        self.evm = evm or Evm(START)
        self.targets_bps = targets_bps
        self.scales = [10**d for d in decimals]
        self.prices = list(prices)
        self.errors_bps = [errors_bps[i % len(errors_bps)] for i in range(len(targets_bps))]
        self.rules = RULES | rules
        self.tokens = tokens or [self.deploy("ScriptedToken", d) for d in decimals]
        self.oracle = self.deploy("ScriptedOracle")
        self.set_prices(self.prices)
        self.auction = self.deploy("Auction", *auction)
        self.timelock = self.deploy("OpenTimelock")
        self.book = self.deploy("RuleBook")
        implementation = self.deploy("Vault", self.book.address, self.timelock.address)
        self.factory = self.deploy("VaultFactory", implementation.address, self.book.address)
        self.vault = self._create()
        for token in self.tokens:
            self.set_balance(token, FILLER, 10**40)
            self.approve(token, FILLER, self.auction, MANY)

    def _create(self) -> Contract:
        rows = zip(self.tokens, self.targets_bps, self.errors_bps, strict=True)
        assets = [(t.address, 0, target, 500, 2_500, 0, 10_000, error) for t, target, error in rows]
        people = (OWNER, 2 * DAY, ZERO, ZERO, [KEEPER, self.auction.address])
        rules = tuple(self.rules.values())
        config = ("Stage", "STG", assets, rules, self.oracle.address, *people, 0, OWNER)
        seed = self.worth([max(bps, 1) * 100 * WAD for bps in self.targets_bps])
        for token, amount in zip(self.tokens, seed, strict=True):
            self.set_balance(token, OWNER, amount)
            self.approve(token, OWNER, self.factory, amount)
        address = self.factory.call("create_vault", config, seed, bytes(32), sender=OWNER)
        return self.evm.at(address, artifact("Vault"))

    def deploy(self, name: str, *args: Any) -> Contract:
        return self.evm.deploy(artifact(name), *args)

    # Tokens and prices

    def set_balance(self, token: Contract, account: str, amount: int) -> None:
        """Of a WeirdToken too, which mints and seizes."""
        if not is_weird(token):
            token.call("set_balance", account, amount)
        else:
            token.call("seize", account, token.call("held", account))
            token.call("mint", account, amount)

    def balance(self, index: int, account: str) -> int:
        token = self.tokens[index]
        return int(token.call("held" if is_weird(token) else "balanceOf", account))

    def approve(self, token: Contract, owner: str, spender: Contract, amount: int) -> None:
        """Whatever the token answers."""
        self.evm.call(owner, token.address, calldata(token, "approve", spender.address, amount))

    def balances(self) -> list[int]:
        return [self.balance(i, self.vault.address) for i in range(len(self.tokens))]

    def worth(self, values: Sequence[int]) -> list[int]:
        """Token amounts of these values in USD WAD, rounded down."""
        return [v * s // p for v, s, p in zip(values, self.scales, self.prices, strict=True)]

    def hold(self, values: Sequence[int]) -> None:
        """The vault holds so much of each asset, in USD WAD."""
        for token, amount in zip(self.tokens, self.worth(values), strict=True):
            self.set_balance(token, self.vault.address, amount)

    def value(self, index: int, amount: int) -> int:
        """USD WAD, rounded down."""
        return amount * self.prices[index] // self.scales[index]

    def nav(self) -> int:
        return sum(self.value(i, amount) for i, amount in enumerate(self.balances()))

    def set_prices(self, prices: Sequence[int], statuses: Sequence[int] | None = None) -> None:
        self.prices = list(prices)
        self.oracle.call("set_prices", prices, statuses or [0] * len(prices))

    # The vault's settings

    def settings(self) -> list[Any]:
        return list(self.vault.call("settings"))

    def configure(self, settings: Sequence[Any]) -> None:
        self.as_timelock("configure", "test", b"", tuple(settings))

    def as_timelock(self, function: str, *args: Any) -> None:
        """A call of the vault's that only its timelock may make."""
        self.timelock.call("forward", self.vault.address, calldata(self.vault, function, *args))

    def pause(self, until: int) -> None:
        self.configure([*self.settings()[:6], until])

    def quarantine(self, index: int) -> None:
        """Set the asset aside for a day, as the rules' word holds it (rulebook.vy)."""
        words, rules, *rest = self.settings()
        self.configure([words, rules | (index + 1) << 211 | (self.evm.now + DAY) << 216, *rest])

    # Sessions and fills

    def sleep(self, seconds: int) -> None:
        self.evm.set_time(self.evm.now + seconds)

    def open(self, age: int = GRACE + DECAY) -> None:
        """Anyone opens a session, `age` seconds ago by the time this returns."""
        self.vault.call("open_session", sender=STRANGER)
        self.sleep(age)

    def factor(self, age: int) -> int:
        """WAD: the part of the oracle's price that a fill pays at this age of the session."""
        fall = (START_BPS + self.rules["max_slippage_bps"]) * BPS * min(age - GRACE, DECAY) // DECAY
        return WAD + START_BPS * BPS - fall

    def fill(
        self, sell: int = 0, buy: int = 1, max_sell: int = MANY, sender: str = FILLER, **given: Any
    ) -> Any:
        """What was sold and paid; `given` replaces arguments."""
        return self.auction.call("fill", *self.arguments(sell, buy, max_sell, **given), sender=sender)

    def arguments(self, sell: int, buy: int, max_sell: int, **given: Any) -> list[Any]:
        return [
            given.get("vault", self.vault.address),
            given.get("session", 1),
            given.get("sell_token", self.tokens[sell].address),
            given.get("buy_token", self.tokens[buy].address),
            max_sell,
            given.get("max_pay", MANY),
            given.get("receiver", RECEIVER),
            given.get("data", b""),
            given.get("deadline", self.evm.now),
        ]

    def refuses(self, reason: str, sell: int = 0, buy: int = 1, max_sell: int = MANY, **given: Any) -> None:
        """The same fill reverts with exactly this reason."""
        with reverts(reason):
            self.fill(sell, buy, max_sell, **given)

    def quote(self, sell: int = 0, buy: int = 1, max_sell: int = MANY) -> Any:
        """Session, sold, owed."""
        pair = (self.tokens[sell].address, self.tokens[buy].address)
        return self.auction.call("quote", self.vault.address, *pair, max_sell)

    def filled(self) -> Event:
        """The auction's only event of the last transaction."""
        (event,) = [e for e in self.evm.events() if e.address.lower() == self.auction.address.lower()]
        return event


def order_bytes(stage: Stage, vault: str, filler: str, sold: int, owed: int, **given: Any) -> bytes:
    """The payload of a fill of asset 0 for asset 1, as docs/spec.md encodes it."""
    receiver, data = given.get("receiver", RECEIVER), given.get("data", b"")
    buy = stage.tokens[given.get("buy", 1)].address
    order = (vault, filler, receiver, stage.tokens[0].address, sold, buy, owed, data)
    return encode(["(address,address,address,address,uint256,address,uint256,bytes)"], [order])


# Asset 0 is 10 points above its target, the others 5 below.
DRIFTED = (600_000 * WAD, 250_000 * WAD, 150_000 * WAD)
