"""What the tests of the Timelock share."""

from __future__ import annotations

from typing import Any

from eth_abi import encode
from eth_utils import keccak

from tests.support.evm import Contract
from tests.support.world import (
    ALICE,
    BOB,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    World,
    reverts,
)

EVERYONE = (OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER)
BPS = 10**14  # WAD


class Desk(World):
    """Tellers only remember what the Timelock sets."""

    def make_teller(self) -> Contract:
        return self.deploy("ScriptedTeller")

    # Announce, wait, make

    def queue(self, name: str, *args: Any, sender: str = OWNER) -> bytes:
        return self.queue_data(self.calldata(name, *args), sender)

    def queue_data(self, data: bytes, sender: str = OWNER) -> bytes:
        return bytes(self.timelock.call("queue", self.vault.address, data, sender=sender))

    def execute(self, name: str, *args: Any, sender: str = OWNER) -> None:
        self.timelock.call("execute", self.vault.address, self.calldata(name, *args), sender=sender)

    def cancel(self, name: str, *args: Any, sender: str = OWNER) -> None:
        self.timelock.call("cancel", self.vault.address, self.calldata(name, *args), sender=sender)

    def id_of(self, name: str, *args: Any) -> bytes:
        return keccak(encode(["address", "bytes"], [self.vault.address, self.calldata(name, *args)]))

    def ready_at(self, name: str, *args: Any) -> int:
        return int(self.timelock.call("ready_at", self.id_of(name, *args)))

    def state(self) -> list[Any]:
        """All that the Timelock may change of the vault, and that the vault records."""
        vault = self.vault
        roles = [vault.call("roles", account) for account in (*EVERYONE, ALICE, BOB, self.timelock.address)]
        fee = [vault.call("fee_bps"), vault.call("fee_recipient")]
        terms = [self.timelock.call(view, vault.address) for view in ("terms", "pending_admin")]
        return [vault.call("settings"), vault.call("head"), roles, fee, terms]

    def assert_needs_the_delay(self, name: str, *args: Any) -> None:
        """I8: nobody makes this change at once; it happens from the delay on, not a second sooner. It is made here."""
        before = self.state()
        for caller in EVERYONE:
            with reverts("needs the delay"):
                self.at_once(name, *args, sender=caller)
        self.queue(name, *args)
        self.sleep(self.timelock.call("terms", self.vault.address)[1] - 1)
        self.refresh()
        with reverts("not ready"):
            self.execute(name, *args)
        assert self.state() == before
        self.sleep(1)
        self.execute(name, *args)

    def basket(self) -> list[tuple[Any, ...]]:
        return list(self.vault.call("basket"))
