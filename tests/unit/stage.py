"""A vault whose holdings and trades a test dictates to the last unit, for the tests of the trade rules.

Three assets of 6, 8 and 18 decimals at 1, 100 and 10 USD with the targets 50, 30 and 20 %, every band 5 points, half
of it 2.5, tolerance 0.5. `usd` turns amounts in millionths of a USD into balances, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi import encode

from tests.support.evm import Contract
from tests.support.world import DAY, KEEPER, STRANGER, WAD, World, reverts

K = 1_000 * 10**6  # a thousand USD, in millionths of a USD: the NAV is a thousand of them
UNITS = (1, 1, 10**11)  # of each token for a millionth of a USD
PRICES = (WAD, 100 * WAD, 10 * WAD)  # USD WAD
ALL = [2**256 - 1] * 3  # sells: as much as the vault will send
NOTHING = [0] * 3
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
}


def usd(cash: int, coin: int, stock: int) -> list[int]:
    """Balances worth so many millionths of a USD."""
    return [value * units for value, units in zip((cash, coin, stock), UNITS, strict=True)]


ON_TARGET = usd(500 * K, 300 * K, 200 * K)
OUT_OF_BAND = usd(600 * K, 250 * K, 150 * K)  # cash 10 points above, the others 5 below


class Stage(World):
    """The vault holds OUT_OF_BAND; `rules` replace some of RULES."""

    def __init__(self, **rules: int) -> None:
        super().__init__(prices_usd=(1, 100, 10), **(RULES | rules))
        self.set_balances(OUT_OF_BAND)

    def payload(self, after: Sequence[int], answer: bool = True) -> bytes:
        """What makes the scripted executor leave the vault with the balances `after`."""
        tokens = [token.address for token in self.tokens]
        return encode(["address[]", "uint256[]", "bool"], [tokens, list(after), answer])

    def refuses(self, reason: str, after: Sequence[int], sender: str = KEEPER, **call: Any) -> None:
        """The same `rebalance` reverts with `reason`."""
        with reverts(reason):
            self.rebalance(after, sender, **call)

    def open_session(self) -> int:
        """By anyone."""
        return int(self.vault.call("open_session", sender=STRANGER))

    def session(self) -> dict[str, Any]:
        """The last one."""
        names = ("id", "opened_at", "closed_at", "slot", "by_calendar")
        return dict(zip(names, self.vault.call("session"), strict=True))

    def closes(self) -> bool:
        """Whether the last transaction closed the session."""
        return len(self.evm.events("SessionClosed")) == 1

    def sleep_until(self, time: int) -> None:
        """With fresh prices then."""
        self.sleep(time - self.evm.now)
        self.refresh()

    def script_oracle(self) -> Contract:
        """From now on the oracle answers whatever it is told by `set_prices(prices, statuses)`."""
        oracle = self.deploy("ScriptedOracle")
        oracle.call("set_prices", PRICES, NOTHING)
        self.delayed("set_oracle", oracle.address)
        return oracle
