"""One local chain for all runs: two vaults that are due, two accounts that may keep them. A run's marks are undone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from offchain.chain.vault import KEEPER_ROLE
from offchain.demo.market import Day
from offchain.demo.world import DELAY, World
from offchain.keeper.journal import Journal
from offchain.policy import Mode
from tests.faults.keeper import Site
from tests.support.anvil import Anvil, anvil
from tests.support.demo_vault import DEPOSIT, FIRST, funded_vault
from tests.support.postgres import Postgres

JUMP = replace(FIRST, prices=(FIRST.prices[0] * 16 // 10, *FIRST.prices[1:]))  # tAAPL from 30 % to above 40 %
DISK_KILOBYTES = 2_048  # of the small disk


@dataclass
class Stage:
    """The chain, as the runs find it."""

    world: World
    vaults: tuple[Contract, ...]
    accounts: tuple[LocalAccount, ...]  # each may keep both vaults
    folder: Path
    postgres: Postgres | None
    block: int = 0  # the last one before the run
    _snapshot: Any = None
    _disks: list[Path] = field(default_factory=list)

    @property
    def chain(self) -> Anvil:
        assert isinstance(self.world.chain, Anvil)
        return self.world.chain

    def site(self, vaults: int) -> Site:
        world = self.world
        found = tuple(str(vault.address) for vault in self.vaults[:vaults])
        return Site(found, world.executor.address, world.cash.address, world.pool_source)

    @contextmanager
    def fresh(self, number: int) -> Iterator[Path]:
        """A folder for the run; the chain is set back first."""
        chain = self.chain
        if self._snapshot is not None:
            chain._rpc("evm_revert", [self._snapshot])
        chain._rpc("anvil_dropAllTransactions", [])
        self._snapshot = chain._rpc("evm_snapshot", [])
        chain.automine(False)
        chain.base_fee(10**9)
        self.block = chain.web3.eth.block_number
        folder = self.folder / str(number)
        folder.mkdir()
        try:
            yield folder
        finally:
            for disk in self._disks:
                subprocess.run(["umount", "-l", str(disk)], check=False)
            self._disks.clear()

    def small_disk(self, folder: Path) -> Path:
        """A folder on a disk of its own."""
        disk = folder / "disk"
        disk.mkdir()
        size = f"size={DISK_KILOBYTES}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], check=True)
        self._disks.append(disk)
        return disk

    def journal(self, folder: Path, name: str) -> str:
        """An empty journal in a file; a copy, as making one takes time."""
        empty = self.folder / "empty.sqlite"
        if not empty.exists():
            Journal(empty).close()
        return str(shutil.copy(empty, folder / f"{name}.sqlite"))


def may_mount() -> bool:
    """Whether small disks can be had."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=False)
        return mounted.returncode == 0


@contextmanager
def staged(postgres: Postgres | None) -> Iterator[Stage]:
    """The chain, with prices at which both vaults are due."""
    folder = Path(tempfile.mkdtemp(prefix="evenkeel-faults-"))
    with funded_vault(anvil) as (world, first):
        other = second_vault(world)
        accounts = (world.keeper, world.chain.accounts[8])
        hire(world, (first, other), accounts[1], FIRST)
        world.set_market(JUMP)
        try:
            yield Stage(world, (first, other), accounts, folder, postgres)
        finally:
            if not any(folder.glob("*/failed")) and not os.environ.get(
                "KEEP"
            ):  # else what the keepers said is kept
                shutil.rmtree(folder, ignore_errors=True)


def second_vault(world: World) -> Contract:
    """Another threshold vault (calendar slots and bands), with the same deposit."""
    vault = world.create_vault(Mode.EITHER, "Second basket", "SECOND", FIRST)
    depositor = world.chain.accounts[7]
    world.mint(depositor.address, DEPOSIT, FIRST)
    world.approve(depositor, vault.address)
    shares = (DEPOSIT - 1_000) * 10**18
    amounts = vault.functions.preview_mint_in_kind(shares).call()
    most = [amount * 2 for amount in amounts]
    world.chain.send(depositor, vault.functions.mint_in_kind(shares, most, depositor.address))
    return vault


def hire(world: World, vaults: tuple[Contract, ...], account: LocalAccount, day: Day) -> None:
    """The account may keep the vaults, too, once the delay is over; the prices stay fresh."""
    calls = [world.announce(vault, "set_role", account.address, KEEPER_ROLE) for vault in vaults]
    world.chain.mine(world.chain.now + DELAY + 60)
    for call in calls:
        world.chain.send(world.deployer, call)
    world.set_market(day)
