"""What the tests of the vault share."""

from __future__ import annotations

from typing import Any

from tests.support.evm import Contract, Evm
from tests.support.venue import call_data
from tests.support.world import DAY, WAD, World

SUPPLY = 1_000_000 * WAD  # of the seed
SHARES = 100 * WAD  # ALICE's
ODD = 10 * DAY + 12_345  # seconds
TELLER = "0x" + "7e" * 20
DEAD = "0x000000000000000000000000000000000000dead"
MAX_SUPPLY = 2**112 - 1
ANY = [2**256 - 1] * 3
NONE = [0, 0, 0]


class OpenWorld(World):
    """The vault's timelock makes any call for anyone."""

    def make_timelock(self) -> Contract:
        return self.deploy("OpenTimelock")

    def as_timelock(self, name: str, *args: Any) -> None:
        """The vault's function, called by its timelock."""
        self.timelock.call("forward", self.vault.address, call_data(self.vault, name, *args))

    def as_teller(self, name: str, *args: Any) -> Any:
        return self.vault.call(name, *args, sender=TELLER)


def transfers(evm: Evm, contract: Contract) -> list[tuple[str, str, int]]:
    """Sender, receiver and amount of what the last transaction logged of this token or vault."""
    logged = [
        event.fields for event in evm.events("Transfer") if event.address.lower() == contract.address.lower()
    ]
    return [(fields["sender"], fields["receiver"], fields["value"]) for fields in logged]


def bare_clone(world: World) -> Contract:
    """A minimal proxy of the vault's implementation that nobody has initialised."""
    implementation = world.implementation
    code = f"0x602d3d8160093d39f3363d3d373d3d3d363d73{implementation.address[2:].lower()}5af43d82803e903d91602b57fd5bf3"
    abi = [entry for entry in implementation.abi if entry["type"] != "constructor"]
    return world.evm.deploy({"abi": abi, "bytecode": code})
