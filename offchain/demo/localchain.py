"""A local chain of one's own: Ganache on a free port, ended with the `with` block.

Transactions are signed here by the accounts' own keys and mined one by one, so that each is a block.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.types import RPCEndpoint, TxParams, TxReceipt, Wei

from offchain.chain.contracts import ZERO, bind_abi, load_artifact
from offchain.chain.errors import ChainError, ConfigError
from offchain.chain.sender import revert_reason

__all__ = ["LocalChain", "accounts", "local_chain", "node_modules"]

MNEMONIC = (
    "test test test test test test test test test test test junk"  # everybody knows it: never for real money
)
CHAIN_ID = 1337
ACCOUNTS = 10
BLOCK_GAS_LIMIT = 30_000_000
GAS = 10_000_000  # limit of each transaction sent here
MAX_FEE = Wei(100 * 10**9)  # wei a gas unit, far above what an idle chain asks
TIP = Wei(10**9)
START_SECONDS = 60  # how long Ganache may take to answer
STOP_SECONDS = 10


@dataclass
class LocalChain:
    """A running Ganache, and accounts that it gave ether to."""

    web3: Web3
    url: str
    accounts: list[LocalAccount]
    _has_base_fee: bool | None = field(default=None, init=False)  # asked once: it is the chain's kind

    @property
    def now(self) -> int:
        """Timestamp of the newest block."""
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def set_time(self, timestamp: int) -> None:
        """Set the chain's clock; the next block carries this time. Never set it back."""
        if timestamp < self.now:
            raise ConfigError(f"timestamp: {timestamp} is before the newest block")
        self._rpc("evm_setTime", [timestamp * 1000])  # milliseconds

    def mine(self, timestamp: int) -> None:
        """An empty block at `timestamp`, so that reads see that time too."""
        self.set_time(timestamp)
        self._rpc("evm_mine", [timestamp])

    def send(self, sender: LocalAccount, call: ContractFunction | ContractConstructor) -> TxReceipt:
        """Sign, send and mine; ChainError with the reason if the transaction reverts."""
        receipt = self.send_unchecked(sender, call)
        if receipt["status"] != 1:
            name = call.fn_name if isinstance(call, ContractFunction) else "deployment"
            raise ChainError(f"{name}: {self.refusal(sender, call) or 'reverted'}")
        return receipt

    def send_unchecked(self, sender: LocalAccount, call: ContractFunction | ContractConstructor) -> TxReceipt:
        """The same, whether it reverts or not."""
        nonce = self.web3.eth.get_transaction_count(sender.address)
        params: TxParams = {
            "from": sender.address,
            "nonce": nonce,
            "gas": GAS,
            "chainId": self.web3.eth.chain_id,
        }
        tx = call.build_transaction({**params, **self._fees()})
        signed = sender.sign_transaction(cast(dict[str, Any], tx))
        try:
            tx_hash = self.web3.eth.send_raw_transaction(signed.raw_transaction)
        except Web3RPCError as error:
            raise ChainError(f"the local chain refuses the transaction: {revert_reason(error)}") from error
        return self.web3.eth.wait_for_transaction_receipt(tx_hash, timeout=30, poll_latency=0.01)

    def refusal(self, sender: LocalAccount, call: ContractFunction | ContractConstructor) -> str:
        """Why `call` would revert now; empty when it would not."""
        params: TxParams = {"from": sender.address, "gas": GAS}
        try:
            if isinstance(call, ContractFunction):
                call.call(params)
            else:
                call.estimate_gas(params)
        except (ContractLogicError, Web3RPCError) as error:
            return revert_reason(error)
        return ""

    def deploy(self, sender: LocalAccount, name: str, *arguments: Any) -> Contract:
        """Deploy one of our own contracts."""
        artifact = load_artifact(name)
        return self.deploy_code(sender, artifact["abi"], artifact["bytecode"], *arguments)

    def deploy_code(
        self, sender: LocalAccount, abi: list[dict[str, Any]], bytecode: str, *arguments: Any
    ) -> Contract:
        """Deploy any compiled contract."""
        factory = self.web3.eth.contract(abi=abi, bytecode=bytecode)
        receipt = self.send(sender, factory.constructor(*arguments))
        return bind_abi(self.web3, abi, receipt["contractAddress"] or ZERO)

    def _fees(self) -> TxParams:
        """What a brownie network without a base fee wants, too."""
        if self._has_base_fee is None:
            self._has_base_fee = "baseFeePerGas" in self.web3.eth.get_block("latest")
        if self._has_base_fee:
            return {"maxFeePerGas": MAX_FEE, "maxPriorityFeePerGas": TIP}
        return {"gasPrice": Wei(0)}

    def _rpc(self, method: str, params: list[Any]) -> Any:
        answer = self.web3.provider.make_request(RPCEndpoint(method), params)
        if "error" in answer:
            raise ChainError(f"{method}: {answer['error']}")
        return answer["result"]


@contextmanager
def local_chain(start: int | None = None, port: int | None = None) -> Iterator[LocalChain]:
    """Start Ganache with its clock at `start` (timestamp; default: now) and end it with the block."""
    listen = port or _free_port()
    process = subprocess.Popen(
        _command(listen, start),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{listen}"
        web3 = Web3(_provider(url))
        web3.middleware_onion.remove("validation")  # of transactions made here: a good part of a call's time
        _wait_until_ready(web3, process)
        yield LocalChain(web3, url, accounts())
    finally:
        _stop(process)


def node_modules() -> Path:
    """The folder with Ganache and Uniswap's compiled contracts: beside the package's source, or here."""
    for root in (*Path(__file__).resolve().parents, Path.cwd()):
        folder = root / "node_modules"
        if (folder / ".bin" / "ganache").exists():
            return folder
    raise ConfigError(
        "node_modules: Ganache is not installed; run `make install` in a clone of the repository"
    )


def _command(port: int, start: int | None) -> list[str]:
    command = [
        str(node_modules() / ".bin" / "ganache"),
        "--server.host=127.0.0.1",
        f"--server.port={port}",
        "--chain.hardfork=shanghai",
        f"--chain.chainId={CHAIN_ID}",
        f"--chain.networkId={CHAIN_ID}",
        f"--wallet.mnemonic={MNEMONIC}",
        f"--wallet.totalAccounts={ACCOUNTS}",
        "--wallet.defaultBalance=1000000",
        f"--miner.blockGasLimit={BLOCK_GAS_LIMIT}",
        f"--miner.callGasLimit={BLOCK_GAS_LIMIT}",
        "--logging.quiet",
    ]
    if start is not None:
        command.append(f"--chain.time={datetime.fromtimestamp(start, UTC).isoformat()}")
    return command


def _provider(url: str) -> HTTPProvider:
    """Asks for the chain's id once only: web3 wants it with every call."""
    return HTTPProvider(
        url,
        request_kwargs={"timeout": 60},
        cache_allowed_requests=True,
        cacheable_requests={RPCEndpoint("eth_chainId")},
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(web3: Web3, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            output = process.stdout.read().decode(errors="replace").strip() if process.stdout else ""
            raise ChainError(f"Ganache did not start (is Node 18 or newer on PATH?): {output}")
        if web3.is_connected():
            return
        time.sleep(0.1)
    raise ChainError(f"Ganache did not answer within {START_SECONDS} seconds")


def accounts() -> list[LocalAccount]:
    """The accounts of MNEMONIC, which Ganache gives ether to."""
    Account.enable_unaudited_hdwallet_features()
    return [Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}") for i in range(ACCOUNTS)]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group that `_command` started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout:
        process.stdout.close()
