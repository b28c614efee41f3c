"""A vault whose holdings, prices and trades a test dictates to the last unit, for the tests of the trade rules.

Three assets of 6, 8 and 18 decimals with the targets 50, 30 and 20 %, every band 5 points, half of it 2.5, tolerance
0.5. `usd` turns amounts in millionths of a USD into balances, exactly.
"""

from dataclasses import dataclass
from typing import Any

import brownie
from brownie import chain
from eth_abi import encode

K = 1_000 * 10**6  # a thousand USD, in millionths of a USD: the NAV is a thousand of them
UNITS = (1, 1, 10**11)  # of each token for a millionth of a USD
DECIMALS = (6, 8, 18)
PRICES = (10**18, 100 * 10**18, 10 * 10**18)  # USD WAD
TARGETS = (5_000, 3_000, 2_000)  # bps
ALL = (2**256 - 1,) * 3  # sells: as much as the vault will send
DAY = 86_400
CALENDAR, THRESHOLD, EITHER, BOTH = range(4)
DAYS, MONTHS = range(2)
DECISION = b"\xdd" * 32
RULES = {
    "mode": THRESHOLD,
    "calendar_unit": DAYS,
    "calendar_every": 7,
    "calendar_anchor": 1_700_000_000,
    "window_seconds": 2 * DAY,
    "cooldown_seconds": DAY,
    "max_slippage_bps": 100,
    "loss_capacity_bps": 20,
    "loss_refill_bps_per_year": 100,
    "tolerance_bps": 50,
    "speed_capacity_bps": 1_000,
    "speed_refill_bps_per_day": 100,
}


def usd(cash: int, coin: int, stock: int) -> list[int]:
    """Balances worth so many millionths of a USD."""
    return [value * units for value, units in zip((cash, coin, stock), UNITS, strict=True)]


ON_TARGET = usd(500 * K, 300 * K, 200 * K)
OUT_OF_BAND = usd(600 * K, 250 * K, 150 * K)  # cash 10 points above, the others 5 below


@dataclass
class Stage:
    """Contracts and people; the vault was created by the factory and holds OUT_OF_BAND."""

    vault: Any
    tokens: list[Any]
    oracle: Any
    executor: Any  # leaves the vault with the balances that its payload names
    owner: Any
    guardian: Any
    strategist: Any
    keeper: Any
    stranger: Any

    def hold(self, balances: list[int]) -> None:
        """Give the vault these balances."""
        self.executor.set_balances(self.vault, self.tokens, balances, {"from": self.stranger})

    def set_prices(self, prices: list[int], statuses: tuple[int, ...] = (0, 0, 0)) -> None:
        self.oracle.set_prices(prices, statuses, {"from": self.stranger})

    def set_rules(self, **changes: int) -> None:
        """RULES but for `changes`."""
        self.vault.set_rules(tuple((RULES | changes).values()), {"from": self.owner})

    def payload(self, after: list[int], answer: bool = True) -> bytes:
        """What makes the executor leave the vault with the balances `after`."""
        tokens = [token.address for token in self.tokens]
        return encode(["address[]", "uint256[]", "bool"], [tokens, after, answer])

    def rebalance(self, after: list[int], session: int = 1, **call: Any) -> Any:
        """The keeper's trade that ends in the balances `after`; `call` replaces parts of the call."""
        return self.vault.rebalance(*self._arguments(after, session, **call))

    def refuses(self, reason: str, after: list[int], session: int = 1, **call: Any) -> None:
        """The same trade, simulated, reverts with `reason`."""
        with brownie.reverts(reason):
            self.vault.rebalance.call(*self._arguments(after, session, **call))

    def _arguments(self, after: list[int], session: int, **call: Any) -> list[Any]:
        return [
            call.get("sells", ALL),
            call.get("executor", self.executor),
            self.payload(after, call.get("answer", True)),
            DECISION,
            session,
            call.get("deadline", 2**64),
            {"from": call.get("sender", self.keeper)},
        ]

    def open_session(self) -> Any:
        return self.vault.open_session({"from": self.stranger})

    def refuses_to_open(self, reason: str) -> None:
        """Opening a session, simulated, reverts with `reason`."""
        with brownie.reverts(reason):
            self.vault.open_session.call({"from": self.stranger})

    def session(self) -> dict[str, Any]:
        return dict(self.vault.session().dict())


def sleep_until(time: int) -> None:
    """The next transaction's block is at `time` or a few seconds later."""
    chain.sleep(time - chain.time())
    chain.mine()  # for simulated calls


def create(project: Any, accounts: Any) -> Stage:
    """Deploy everything and create the vault as anybody would: through the factory."""
    owner, guardian, strategist, keeper, stranger = accounts[:5]
    sender = {"from": owner}
    tokens = [project.ScriptedToken.deploy(decimals, sender) for decimals in DECIMALS]
    oracle = project.ScriptedOracle.deploy(sender)
    executor = project.ScriptedExecutor.deploy(sender)
    book = project.RuleBook.deploy(sender)
    implementation = project.Vault.deploy(book, sender)
    factory = project.VaultFactory.deploy(implementation, book, sender)
    oracle.set_prices(PRICES, (0, 0, 0), sender)
    executor.set_balances(owner, tokens, OUT_OF_BAND, sender)
    for token in tokens:
        token.approve(factory, 2**256 - 1, sender)
    assets = [
        (token, 0, target, 500, 2_500, 0, 10_000, 25) for token, target in zip(tokens, TARGETS, strict=True)
    ]
    people = (owner, guardian, strategist, keeper)
    config = ("Stage", "STG", assets, tuple(RULES.values()), oracle, *people, 0, owner)
    vault = project.Vault.at(factory.create_vault(config, OUT_OF_BAND, bytes(32), sender).return_value)
    return Stage(vault, tokens, oracle, executor, *people, stranger)
