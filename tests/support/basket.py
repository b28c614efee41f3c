"""A vault of any tokens, created by the factory, with an oracle that answers what a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.evm import DEPLOYER, Contract, Evm, artifact
from tests.support.venue import MAX, send
from tests.support.world import DELAY, FEE_RECIPIENT, GUARDIAN, KEEPER, OWNER, STRATEGIST, asset

DEAD = "0x000000000000000000000000000000000000dead"
RULES = {
    "mode": 1,  # THRESHOLD
    "calendar_unit": 0,
    "calendar_every": 30,
    "calendar_anchor": 1_700_000_000,
    "window_seconds": 7_200,
    "cooldown_seconds": 3_600,
    "max_slippage_bps": 100,
    "loss_capacity_bps": 100,
    "loss_refill_bps_per_year": 200,
    "tolerance_bps": 50,
    "speed_capacity_bps": 1_000,
    "speed_refill_bps_per_day": 100,
}


def units_of(token: Contract, account: str) -> int:
    """What `account` truly holds of a TestToken or WeirdToken."""
    weird = any(entry.get("name") == "held" for entry in token.abi)
    return int(token.call("held" if weird else "balanceOf", account))


@dataclass
class Basket:
    """The vault and what it was made of; the creator, DEPLOYER, holds all shares but the dead one."""

    evm: Evm
    tokens: list[Contract]
    prices: list[int]  # USD WAD per whole token
    fee_bps: int = 0
    salt: bytes = bytes(32)
    oracle: Contract = field(init=False)
    implementation: Contract = field(init=False)
    timelock: Contract = field(init=False)
    factory: Contract = field(init=False)
    vault: Contract = field(init=False)

    def __post_init__(self) -> None:
        self.oracle = self.evm.deploy(artifact("WeirdOracle"))
        rule_book = self.evm.deploy(artifact("RuleBook")).address
        self.timelock = self.evm.deploy(artifact("Timelock"), rule_book, rule_book)  # no tellers here
        self.implementation = self.evm.deploy(artifact("Vault"), rule_book, self.timelock.address)
        self.factory = self.evm.deploy(artifact("VaultFactory"), self.implementation.address, rule_book)
        self.oracle.call("set_prices", self.prices, [0] * len(self.tokens))

    def config(self) -> tuple[Any, ...]:
        """Equal targets; the first takes what division leaves."""
        count = len(self.tokens)
        targets = [10_000 - (count - 1) * (10_000 // count)] + [10_000 // count] * (count - 1)
        assets = [asset(token.address, bps) for token, bps in zip(self.tokens, targets, strict=True)]
        return (
            "Basket",
            "BSK",
            assets,
            tuple(RULES.values()),
            self.oracle.address,
            OWNER,
            DELAY,
            GUARDIAN,
            STRATEGIST,
            [KEEPER],
            self.fee_bps,
            FEE_RECIPIENT,
        )

    def create(self, seeds: list[int]) -> Contract:
        """Mint the seeds to the creator and create the vault of them."""
        for token, seed in zip(self.tokens, seeds, strict=True):
            send(token, "mint", DEPLOYER, seed)
            send(token, "approve", self.factory.address, MAX)
        address = self.factory.call("create_vault", self.config(), seeds, self.salt)
        self.vault = self.evm.at(address, artifact("Vault"))
        return self.vault

    def fund(self, account: str, amounts: list[int]) -> None:
        """Give `account` tokens and let the vault take them."""
        for token, amount in zip(self.tokens, amounts, strict=True):
            send(token, "mint", account, amount)
            send(token, "approve", self.vault.address, MAX, sender=account)
