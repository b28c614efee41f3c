"""The sender against a node that is a Python function: fees, margins, dry run, revert strings, keystore."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from offchain.chain.contracts import ERC20, bind_abi
from offchain.chain.errors import ConfigError, DryRunError, TransactionError
from offchain.chain.sender import Sender, load_account, revert_reason

ACCOUNT = Account.from_key("0x" + "11" * 32)
HASH = "0x" + "01" * 32
GWEI = 10**9


class Node(BaseProvider):
    """Answers from a table; a callable gets the parameters, an exception's message becomes the error."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.answers = answers
        self.sent: list[str] = []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method == "eth_sendRawTransaction":
            self.sent.append(params[0])
        answer = self.answers[method]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(params)
        if isinstance(answer, Exception):
            error = {"code": -32000, "message": str(answer), "data": getattr(answer, "data", None)}
            return {"jsonrpc": "2.0", "id": 1, "error": error}  # type: ignore[typeddict-item]
        return {"jsonrpc": "2.0", "id": 1, "result": answer}


def block(base_fee: int | None) -> dict[str, Any]:
    found = {"number": "0x1", "hash": HASH, "gasLimit": hex(30_000_000), "timestamp": "0x1"}
    return found if base_fee is None else found | {"baseFeePerGas": hex(base_fee)}


def node(base_fee: int | None = 10 * GWEI, **answers: Any) -> Node:
    return Node(
        {
            "eth_getBlockByNumber": block(base_fee),
            "eth_estimateGas": hex(100_000),
            "eth_getTransactionCount": "0x7",
            "eth_chainId": "0x1",
            "eth_maxPriorityFeePerGas": hex(GWEI),
            "eth_gasPrice": hex(12 * GWEI),
            "eth_sendRawTransaction": HASH,
            "eth_getTransactionReceipt": None,
        }
        | answers
    )


def call(web3: Web3) -> Any:
    return bind_abi(web3, ERC20, "0x" + "22" * 20).functions.totalSupply()


def signed_fields(backend: Node, **settings: Any) -> dict[str, Any]:
    """What the transaction that `sign` makes says."""
    web3 = Web3(backend)
    seen: dict[str, Any] = {}

    class Spy:
        address = ACCOUNT.address

        def sign_transaction(self, tx: dict[str, Any]) -> Any:
            seen.update(tx)
            return ACCOUNT.sign_transaction(tx)

    Sender(web3, Spy(), **settings).sign(call(web3))  # type: ignore[arg-type]
    return seen


def test_eip_1559_where_the_chain_has_a_base_fee() -> None:
    tx = signed_fields(node())
    assert (tx["maxFeePerGas"], tx["maxPriorityFeePerGas"]) == (21 * GWEI, GWEI)
    assert "gasPrice" not in tx
    assert tx["nonce"] == 7


def test_legacy_where_it_has_none() -> None:
    tx = signed_fields(node(base_fee=None))
    assert tx["gasPrice"] == 12 * GWEI
    assert "maxFeePerGas" not in tx


def test_gas_limit_has_a_margin_within_the_block() -> None:
    assert signed_fields(node(), gas_margin_percent=50)["gas"] == 150_000
    assert signed_fields(node(eth_estimateGas=hex(29_000_000)), gas_margin_percent=50)["gas"] == 30_000_000


def test_fee_limit_caps_what_is_offered() -> None:
    assert signed_fields(node(), max_fee_wei=15 * GWEI)["maxFeePerGas"] == 15 * GWEI


@pytest.mark.parametrize("base_fee", [10 * GWEI, None])
def test_fee_limit_below_the_price_is_an_error(base_fee: int | None) -> None:
    with pytest.raises(TransactionError, match="max_fee_gwei"):
        signed_fields(node(base_fee), max_fee_wei=5 * GWEI)


def test_a_refused_estimate_is_an_error_with_the_reason() -> None:
    refusal = ContractLogicError(
        "execution reverted", data="0x08c379a0" + encode(["string"], ["no trigger"]).hex()
    )
    with pytest.raises(TransactionError, match="refuses the transaction: no trigger"):
        signed_fields(node(eth_estimateGas=refusal))


def test_sends_what_was_signed() -> None:
    backend = node()
    sender = Sender(Web3(backend), ACCOUNT)
    signed = sender.sign(call(sender.web3))
    sender.send(signed.raw, signed.tx_hash)
    assert backend.sent == [signed.raw]
    assert signed.nonce == 7


@pytest.mark.parametrize(("account", "dry_run"), [(None, False), (ACCOUNT, True), (None, True)])
def test_a_dry_run_sends_nothing(account: Any, dry_run: bool) -> None:
    backend = node()
    sender = Sender(Web3(backend), account, dry_run=dry_run)
    assert not sender.sends
    with pytest.raises(DryRunError):
        sender.send("0x02", HASH)
    assert backend.sent == []


def test_without_an_account_nothing_is_signed() -> None:
    sender = Sender(Web3(node()))
    with pytest.raises(DryRunError, match="keystore"):
        sender.sign(call(sender.web3))


@pytest.mark.parametrize("message", ["already known", "nonce too low"])
def test_a_transaction_that_the_node_has_is_no_error(message: str) -> None:
    backend = node(eth_sendRawTransaction=ValueError(message))
    Sender(Web3(backend), ACCOUNT).send("0x02", HASH)
    assert backend.sent == ["0x02"]


def test_a_refused_transaction_names_its_hash() -> None:
    backend = node(eth_sendRawTransaction=ValueError("insufficient funds"))
    with pytest.raises(TransactionError, match="insufficient funds") as caught:
        Sender(Web3(backend), ACCOUNT).send("0x02", HASH)
    assert caught.value.tx_hash == HASH


def test_waiting_ends_without_a_receipt() -> None:
    assert Sender(Web3(node()), ACCOUNT, receipt_timeout_seconds=0.01, poll_seconds=0.001).wait(HASH) is None


def test_waiting_ends_on_stop() -> None:
    sender = Sender(Web3(node()), ACCOUNT, receipt_timeout_seconds=600)
    sender.stop.set()
    assert sender.wait(HASH) is None


def test_revert_string_is_decoded_from_the_data() -> None:
    data = "0x08c379a0" + encode(["string"], ["bought past target"]).hex()
    assert revert_reason(ContractLogicError("execution reverted", data=data)) == "bought past target"
    assert revert_reason(ContractLogicError("execution reverted: paused")) == "paused"


def write_keystore(folder: Path, password: str = "correct") -> tuple[Path, Path]:
    keystore, password_file = folder / "key.json", folder / "password"
    keystore.write_text(json.dumps(Account.encrypt(ACCOUNT.key, "correct", kdf="pbkdf2", iterations=10)))
    password_file.write_text(password + "\n")
    return keystore, password_file


def test_keystore_opens_with_its_password(tmp_path: Path) -> None:
    assert load_account(*write_keystore(tmp_path)).address == ACCOUNT.address


def test_keystore_does_not_open_with_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keystore: .* does not open with that password"):
        load_account(*write_keystore(tmp_path, "wrong"))


def test_missing_files_are_named(tmp_path: Path) -> None:
    keystore, password_file = write_keystore(tmp_path)
    with pytest.raises(ConfigError, match="keystore: cannot read"):
        load_account(tmp_path / "none", password_file)
    with pytest.raises(ConfigError, match="password_file: cannot read"):
        load_account(keystore, tmp_path / "none")
    with pytest.raises(ConfigError, match="password_file: needed"):
        load_account(keystore, None)


def test_a_keystore_that_is_json_but_no_keystore(tmp_path: Path) -> None:
    _, password_file = write_keystore(tmp_path)
    other = tmp_path / "other.json"
    other.write_text("[1]")
    with pytest.raises(ConfigError, match="keystore"):
        load_account(other, password_file)
