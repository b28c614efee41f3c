"""Every function of the vault, called by an intruder that may do everything, from within a transaction of the vault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.evm import Contract, artifact
from tests.support.venue import call_data
from tests.support.world import ALICE, BOB, DAY, KEEPER, MANY, OWNER, STRANGER, WAD, ZERO
from tests.unit.stage import NOTHING, Stage
from tests.unit.vault.support import OpenWorld

REENTER = 3  # BadExecutor
WHOLE = 10_000  # bps
SHARES = 10 * WAD
# They move nothing and do not say what the vault or its shares are worth.
OPEN = {
    *("name", "symbol", "decimals", "DOMAIN_SEPARATOR", "balanceOf", "allowance", "nonces", "approve"),
    *("fee_bps", "fee_recipient", "assets", "basket", "rules", "roles", "speed_budget_used"),
    *("implementation", "rule_book", "timelock", "head", "oracle", "paused_until"),
}
ELSEWHERE = {"initialize", "permit"}  # succeed once, and with a signature only: files of their own
FUNCTIONS = {entry["name"]: entry for entry in artifact("Vault")["abi"] if entry["type"] == "function"}
DOORS = sorted(FUNCTIONS.keys() - ELSEWHERE)
VIEWS = [name for name in DOORS if FUNCTIONS[name]["stateMutability"] == "view"]
FLOWS = [name for name in DOORS if name not in VIEWS]


class Den(Stage, OpenWorld):
    """A stage that is all open to an intruder, which acts whenever a token moves or it is the executor.

    The intruder is keeper, strategist, guardian and teller, holds shares and tokens, and the vault's timelock obeys
    it. ALICE is a depositor, BOB another teller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.idle = self.deploy("BadExecutor")  # pays nothing and answers
        self.intruder = self.deploy("BadExecutor")
        self.intruder.call("set_mode", REENTER)
        address = self.intruder.address
        self.as_timelock("set_teller", address, WHOLE, WHOLE)
        self.as_timelock("set_teller", BOB, WHOLE, WHOLE)
        self.as_timelock("set_role", address, 7)
        self.as_timelock("set_fee", 100, STRANGER)
        for holder in (address, ALICE):
            self.vault.call("transfer", holder, 10 * SHARES, sender=OWNER)
            self.give(holder, [10**24] * 3)
        self.vault.call("approve", address, MANY, sender=OWNER)
        for token in self.tokens:
            self.intruder.call("approve", token.address, self.vault.address, MANY)
            token.call("approve", self.vault.address, MANY, sender=ALICE)
        self.sleep(DAY)  # so that there is a fee
        self.refresh()

    def make_token(self, decimals: int) -> Contract:
        return self.deploy("HookToken", decimals)

    def prepare(self, name: str) -> None:
        """The intruder's call: of the vault's function `name`, by way of the timelock where that is asked for."""
        target, data = self.vault, call_data(self.vault, name, *arguments(self, name))
        if name in ("configure", "set_fee", "set_role", "set_teller"):
            target, data = self.timelock, call_data(self.timelock, "forward", target.address, data)
        self.intruder.call("set_call", target.address, data)

    def works(self) -> bool:
        """Whether the intruder's call succeeds on its own."""
        before = self.evm.snapshot()
        self.intruder.call("execute", b"")
        called = bool(self.intruder.call("called"))
        self.evm.revert(before)
        return called

    def works_within(self, transaction: str) -> bool:
        """Whether it succeeds in the middle of a transaction of the vault, which itself goes through."""
        if transaction == "rebalance":
            self.rebalance([], sells=NOTHING, executor=self.intruder.address, payload=b"")
            return bool(self.intruder.call("called"))
        hook = self.tokens[0]
        hook.call("set_call", self.intruder.address, call_data(self.intruder, "execute", b""))
        if transaction == "redeem_in_kind":
            self.redeem(ALICE, SHARES)
        elif transaction == "mint_in_kind":
            self.vault.call("mint_in_kind", SHARES, [MANY] * 3, ALICE, sender=ALICE)
        else:
            self.vault.call("release", ALICE, ALICE, SHARES, 0, 0, hook.address, 5, STRANGER, sender=BOB)
        assert hook.call("calls") == 1
        hook.call("set_call", ZERO, b"")
        return bool(self.intruder.call("called"))


def arguments(den: Den, name: str) -> tuple[Any, ...]:
    """With which the call succeeds on its own."""
    return _ARGUMENTS[name](den) if name in _ARGUMENTS else ()


_ARGUMENTS: dict[str, Callable[[Den], tuple[Any, ...]]] = {
    "transfer": lambda den: (STRANGER, 1),
    "transferFrom": lambda den: (OWNER, STRANGER, 1),
    "approve": lambda den: (STRANGER, 1),
    "balanceOf": lambda den: (OWNER,),
    "allowance": lambda den: (OWNER, STRANGER),
    "nonces": lambda den: (OWNER,),
    "roles": lambda den: (KEEPER,),
    "mint_in_kind": lambda den: (SHARES, [MANY] * 3, STRANGER),
    "redeem_in_kind": lambda den: (SHARES, STRANGER, den.intruder.address, NOTHING, 0),
    "issue": lambda den: (STRANGER, 1, 1, 60, den.tokens[0].address, 1),
    "release": lambda den: (OWNER, OWNER, 1, 1, 60, den.tokens[0].address, 1, STRANGER),
    "appraise": lambda den: (den.tokens[0].address,),
    "flow_room": lambda den: (den.intruder.address,),
    "rebalance": lambda den: (NOTHING, den.idle.address, b"", bytes(32), 1, 2**64),
    "preview_mint_in_kind": lambda den: (SHARES,),
    "preview_redeem_in_kind": lambda den: (SHARES, 0),
    "configure": lambda den: ("set_oracle", b"", den.vault.call("settings")),
    "set_fee": lambda den: (1, STRANGER),
    "set_role": lambda den: (STRANGER, 1),
    "set_teller": lambda den: (STRANGER, 1, 1),
}
