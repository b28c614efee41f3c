"""A chain that the test is the miner of: anvil on a free port, as a `LocalChain`, ended with the `with` block."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from web3 import Web3

from offchain.demo.localchain import (
    BLOCK_GAS_LIMIT,
    LocalChain,
    _free_port,
    _provider,
    _stop,
    accounts,
    node_modules,
)

SMALL = 20_000  # units: no transaction fits


class Anvil(LocalChain):
    """Blocks are mined when the test says so, once `automine(False)` was called."""

    def automine(self, on: bool) -> None:
        self._rpc("evm_setAutomine", [on])

    def mine_blocks(self, number: int = 1, seconds: int = 12) -> None:
        """Blocks with what waits in the pool, as far as it pays enough."""
        for _ in range(number):
            self._rpc("evm_mine", [self.now + seconds])

    def mine_past(self, number: int = 1, seconds: int = 12) -> None:
        """Blocks that leave the pool waiting: nothing in it fits into their gas limit."""
        self._rpc("evm_setBlockGasLimit", [hex(SMALL)])
        self.mine_blocks(number, seconds)
        self._rpc("evm_setBlockGasLimit", [hex(BLOCK_GAS_LIMIT)])

    def base_fee(self, wei: int) -> None:
        """Of the next block."""
        self._rpc("anvil_setNextBlockBaseFeePerGas", [hex(wei)])

    def reorganise(self, depth: int, *raw: str) -> None:
        """Replace the newest `depth` blocks; the first new one holds `raw`."""
        self._rpc("anvil_reorg", [depth, [[tx, 0] for tx in raw]])
        self._rpc("evm_setBlockGasLimit", [hex(BLOCK_GAS_LIMIT)])  # which it may have forgotten

    def drop(self, tx_hash: str) -> None:
        """Out of the pool."""
        self._rpc("anvil_dropTransaction", [tx_hash])

    def pool(self) -> dict[str, Any]:
        """What waits, by nonce, of each account."""
        content = self._rpc("txpool_content", [])["pending"]
        return {
            Web3.to_checksum_address(sender): {int(nonce): tx for nonce, tx in waiting.items()}
            for sender, waiting in content.items()
        }


@contextmanager
def anvil(start: int | None = None) -> Iterator[Anvil]:
    """A new chain; its clock begins at `start` (timestamp)."""
    port = _free_port()
    command = [str(node_modules() / ".bin" / "anvil"), f"--port={port}", "--silent", "--hardfork=shanghai"]
    command += [f"--gas-limit={BLOCK_GAS_LIMIT}", "--base-fee=1000000000", "--balance=1000000"]
    if start is not None:
        command.append(f"--timestamp={start}")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        web3 = Web3(_provider(url))
        give_up = time.monotonic() + 60
        while not web3.is_connected():
            assert process.poll() is None and time.monotonic() < give_up, "anvil did not start"
            time.sleep(0.05)
        yield Anvil(web3, url, accounts())
    finally:
        _stop(process)
