"""A vault with a teller for each asset, and the teller's sums in Python.

Three assets of 6, 8 and 18 decimals at 1, 50,000 and 2,000 USD, on target at 50, 30 and 20 %, a million USD in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.evm import Contract, Evm, artifact
from tests.support.world import ALICE, BOB, MANY, START, WAD, World, reverts

FLOOR, SURCHARGE = 50, 120  # bps
HOUR = 3_600
BURN = 6 * HOUR
CASH, COIN, STOCK = range(3)
USD = (10**6, 2_000, 5 * 10**14)  # of each token for one USD
MAX = 2**256 - 1
MAX_SUPPLY = 2**112 - 1
FEE_ON_TRANSFER, LIES, NO_ZERO, BURNS_GAS, HOOK = 32, 64, 128, 1024, 2048  # WeirdToken
SILENT, FALSE_ON_FAILURE, BALANCE_BURNS_GAS = 1, 2, 8192
WHOLE = (10_000, 10_000)  # flow limit: the whole supply, each day


class Desk:
    """The world, and one teller for each asset."""

    def __init__(
        self,
        floor: int = FLOOR,
        surcharge: int = SURCHARGE,
        limit: tuple[int, int] = WHOLE,
        burn: int = BURN,
        world: World | None = None,
        **settings: Any,
    ) -> None:
        self.world = world or World(**settings)
        self.evm = self.world.evm
        self.vault = self.world.vault
        self.tellers = [
            self.add_teller(i, floor, surcharge, limit, burn) for i in range(len(self.world.tokens))
        ]
        for account in (ALICE, BOB):
            self.fund(account)

    def add_teller(
        self,
        index: int,
        floor: int = FLOOR,
        surcharge: int = SURCHARGE,
        limit: tuple[int, int] = WHOLE,
        burn: int = BURN,
    ) -> Contract:
        token = self.world.tokens[index]
        self.world.delayed("add_teller", token.address, floor, surcharge, burn, *limit, True)
        (added,) = self.evm.events("TellerAdded")
        return self.world.at("Teller", added.fields["teller"])

    def fund(self, account: str) -> None:
        """Far more of each token than the vault has, and every teller and the vault may take it."""
        for token in self.world.tokens:
            token.call("set_balance", account, 10**40)
            for spender in (*self.tellers, self.vault):
                token.call("approve", spender.address, MANY, sender=account)

    def call(self, name: str, *args: Any, sender: str = ALICE, teller: int = CASH) -> Any:
        """Of the overloads, the one with as many arguments."""
        return call(self.tellers[teller], name, *args, sender=sender)

    def refuses(self, reason: str, name: str, *args: Any, sender: str = ALICE, teller: int = CASH) -> None:
        """The call reverts with exactly this reason."""
        with reverts(reason):
            self.call(name, *args, sender=sender, teller=teller)

    def shares(self, account: str = ALICE) -> int:
        return int(self.vault.call("balanceOf", account))

    def melting(self) -> int:
        """Fee shares that are still in the supply."""
        return int(self.vault.call("melting")[0])

    def state(self, teller: int = CASH) -> State:
        """What the teller prices by, read through other doors."""
        prices, balances = self.world.prices, self.world.balances()
        values = [q * p // 10**d for q, p, d in zip(balances, prices, self.world.decimals, strict=True)]
        targets = [row[2] for row in self.vault.call("basket")]
        floor, surcharge, _ = self.call("fees", teller=teller)
        return State(
            nav=sum(values),
            supply=self.vault.call("totalSupply"),
            melting=self.melting(),
            held=values[teller],
            target=targets[teller] * 10**14,
            price=prices[teller],
            scale=10 ** self.world.decimals[teller],
            floor=floor,
            surcharge=surcharge,
        )

    def hold(self, usd: Sequence[int]) -> None:
        """The vault holds assets worth so many thousand USD."""
        self.world.set_balances([1_000 * value * unit for value, unit in zip(usd, USD, strict=True)])


def call(contract: Contract, name: str, *args: Any, sender: str = ALICE) -> Any:
    """Of the overloads, the one with as many arguments."""
    abi = [e for e in contract.abi if e.get("name") == name and len(e["inputs"]) == len(args)]
    return Contract(contract.evm, contract.address, abi).call(name, *args, sender=sender)


class Settable(Contract):
    """A WeirdToken whose balances a test sets as it does a ScriptedToken's."""

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if name != "set_balance":
            return super().call(name, *args, **kwargs)
        super().call("seize", args[0], super().call("held", args[0]))
        return super().call("mint", *args)


class WeirdWorld(World):
    """Tokens are WeirdTokens that behave until told otherwise."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(evm=Evm(START), **settings)

    def deploy(self, name: str, *args: Any) -> Contract:
        if name != "ScriptedToken":
            return super().deploy(name, *args)
        token = super().deploy("WeirdToken", *args, 0)
        return Settable(self.evm, token.address, [plain(entry) for entry in artifact("WeirdToken")["abi"]])


def plain(entry: dict[str, Any]) -> dict[str, Any]:
    """What a function that returns raw bytes says it returns when it is not odd."""
    returned = {"balanceOf": "uint256", "approve": "bool", "transfer": "bool", "transferFrom": "bool"}
    name = entry.get("name", "")
    return entry | {"outputs": [{"type": returned[name], "name": ""}]} if name in returned else entry


@dataclass(frozen=True)
class State:
    """The vault before a flow and the fees; what docs/spec.md says of a flow, in whole numbers."""

    nav: int
    supply: int
    melting: int
    held: int
    target: int
    price: int
    scale: int
    floor: int
    surcharge: int

    def fee(self, value: int, gap: int) -> int:
        return up(self.floor * value + self.surcharge * max(0, value - gap), 10_000)

    def gap_in(self) -> int:
        return max(0, self.target * self.nav - self.held * WAD) // (WAD - self.target)

    def gap_out(self) -> int:
        return max(0, self.held * WAD - self.target * self.nav) // (WAD - self.target)

    def deposit(self, assets: int) -> tuple[int, int]:
        """Shares for the depositor and as the fee."""
        value = assets * self.price // self.scale
        fee = self.fee(value, self.gap_in())
        shares = (value - fee) * (self.supply - self.melting) // self.nav
        return shares, value * self.supply // self.nav - shares

    def mint(self, shares: int) -> int:
        """The fewest assets whose value, less its fee, buys the shares: by search, not by formula."""
        net = up(shares * self.nav, self.supply - self.melting)
        value = least(lambda v: v - self.fee(v, self.gap_in()) >= net, net, 2 * net + 10)
        return up(value * self.scale, self.price)

    def withdraw(self, assets: int) -> tuple[int, int]:
        """Shares to burn, and those of them that are the fee."""
        value = up(assets * self.price, self.scale)
        fee = self.fee(value, self.gap_out())
        return up((value + fee) * self.supply, self.nav), fee * self.supply // self.nav

    def redeem(self, shares: int) -> int:
        """The most assets whose value and fee the shares cover: by search, not by formula."""
        worth = shares * self.nav // self.supply
        value = least(lambda v: v + self.fee(v, self.gap_out()) > worth, 0, worth + 1) - 1
        return value * self.scale // self.price


def up(a: int, b: int) -> int:
    return -(-a // b)


def least(holds: Any, low: int, high: int) -> int:
    """The least number in [low, high] of which `holds`, when it holds of all above."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
