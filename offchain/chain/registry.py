"""Which vaults a factory has made, and many calls in few requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError

from offchain.chain.contracts import bind
from offchain.chain.errors import ConfigError

__all__ = ["batched", "vault_count", "vaults_of"]

BATCH = 100  # calls in one request to the node


def vault_count(web3: Web3, factory: str) -> int:
    """How many vaults the factory has made. ConfigError where there is no VaultFactory at that address."""
    try:
        return int(bind(web3, "VaultFactory", factory).functions.vault_count().call())
    except (BadFunctionCallOutput, ContractLogicError) as error:
        raise ConfigError(f"factory: {factory} does not answer vault_count(): not a VaultFactory?") from error


def vaults_of(web3: Web3, factory: str, first: int = 0) -> list[str]:
    """Addresses of the factory's vaults, the oldest first, from number `first` on."""
    vaults = bind(web3, "VaultFactory", factory).functions.vaults
    return batched(web3, [vaults(i) for i in range(first, vault_count(web3, factory))])


def batched(web3: Web3, calls: Sequence[Any]) -> list[Any]:
    """What the contract calls return, a hundred in each request."""
    found: list[Any] = []
    for start in range(0, len(calls), BATCH):
        with web3.batch_requests() as batch:
            for call in calls[start : start + BATCH]:
                batch.add(call)
            found += batch.execute()
    return found
