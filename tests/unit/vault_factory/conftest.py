from __future__ import annotations

from typing import Any

import pytest

from tests.support.evm import Contract
from tests.support.world import OWNER, World

SALT = b"\x01" * 32
FIELDS = (
    "name",
    "symbol",
    "assets",
    "rules",
    "oracle",
    "owner",
    "delay_seconds",
    "guardian",
    "strategist",
    "keepers",
    "fee_bps",
    "fee_recipient",
)


class Factory(World):
    """Creates more vaults like the first, with some fields replaced."""

    def config_with(self, **fields: Any) -> tuple[Any, ...]:
        return tuple((dict(zip(FIELDS, self.config, strict=True)) | fields).values())

    def create(
        self, seed: list[int] | None = None, salt: bytes = SALT, sender: str = OWNER, **fields: Any
    ) -> Contract:
        seeds = self.seed if seed is None else seed
        config = self.config_with(**fields)
        return self.at("Vault", self.factory.call("create_vault", config, seeds, salt, sender=sender))


class HookFactory(Factory):
    """Tokens call what a test says."""

    def make_token(self, decimals: int) -> Contract:
        return self.deploy("HookToken", decimals)


@pytest.fixture(autouse=True)
def isolation() -> None:
    """Each test has a chain of its own."""


@pytest.fixture
def world() -> Factory:
    made = Factory(fee_bps=100)
    made.give(OWNER, [10 * amount for amount in made.seed], spender=made.factory.address)
    return made


@pytest.fixture
def hooks() -> HookFactory:
    made = HookFactory()
    made.give(OWNER, [10 * amount for amount in made.seed], spender=made.factory.address)
    return made
