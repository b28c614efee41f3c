"""Who signs: keystore, brownie's accounts, a signer over JSON-RPC; and that nothing secret is in what anyone reads."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hexbytes import HexBytes
from web3 import Web3

from offchain.chain.errors import ConfigError, TransactionError
from offchain.chain.sender import Sender
from offchain.chain.signer import RemoteSigner, decoded, load_account, load_brownie_account
from offchain.settings import load_settings

KEY = "0x" + "11" * 32
ACCOUNT, STRANGER = Account.from_key(KEY), Account.from_key("0x" + "22" * 32)
PASSWORD = "correct-horse-battery"
TO = Web3.to_checksum_address("0x" + "33" * 20)
TX: dict[str, Any] = {
    "to": TO,
    "data": HexBytes("0x1234"),
    "value": 0,
    "gas": 100_000,
    "nonce": 7,
    "chainId": 1,
    "maxFeePerGas": 20,
    "maxPriorityFeePerGas": 2,
}
LEGACY = {name: value for name, value in TX.items() if not name.startswith("max")} | {"gasPrice": 20}


def write_keystore(path: Path, password: str = PASSWORD) -> tuple[Path, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=10)))
    password_file = path.with_name("password")
    password_file.write_text(password + "\n")
    return path, password_file


# ---------------------------------------------------------------- keystore and brownie


def test_keystore_opens_with_its_password(tmp_path: Path) -> None:
    assert load_account(*write_keystore(tmp_path / "key.json")).address == ACCOUNT.address


def test_keystore_does_not_open_with_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keystore: .* does not open with that password") as caught:
        load_account(*write_keystore(tmp_path / "key.json", "another-password"))
    assert "another-password" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    keystore, password_file = write_keystore(tmp_path / "key.json")
    with pytest.raises(ConfigError, match=r"keystore: cannot read .*none: No such file or directory$"):
        load_account(tmp_path / "none", password_file)
    with pytest.raises(ConfigError, match="password_file: cannot read"):
        load_account(keystore, tmp_path / "none")
    with pytest.raises(ConfigError, match="password_file: needed"):
        load_account(keystore, None)


def test_a_password_file_that_is_no_text_is_not_shown(tmp_path: Path) -> None:
    keystore, password_file = write_keystore(tmp_path / "key.json")
    password_file.write_bytes(b"secret\xff\xfe")
    with pytest.raises(ConfigError, match="password_file: cannot read") as caught:
        load_account(keystore, password_file)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "{}", '{"key": "0x1234"}', "no JSON", "[" * 100_000])
def test_a_file_that_is_no_keystore_is_told_from_a_wrong_password(tmp_path: Path, text: str) -> None:
    _, password_file = write_keystore(tmp_path / "key.json")
    other = tmp_path / "other.json"
    other.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_account(other, password_file)
    assert str(caught.value).startswith(
        f"keystore: {other} is no encrypted account file: JSON with a key crypto"
    )
    assert "1234" not in str(caught.value)


def test_brownie_s_accounts_are_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _, password_file = write_keystore(tmp_path / ".brownie" / "accounts" / "keeper.json")
    assert load_brownie_account("keeper", password_file).address == ACCOUNT.address
    for name in ("keper", "../accounts/keeper", ""):
        with pytest.raises(ConfigError, match=r"account: brownie has no account .* \(it has: keeper\)"):
            load_brownie_account(name, password_file)


def test_no_brownie_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"\(it has: none\)"):
        load_brownie_account("keeper", None)


# ---------------------------------------------------------------- a signer over JSON-RPC


class SignerServer:
    """Signs with ACCOUNT what `change` makes of it; `wrap` is the shape of its answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda tx: tx
        self.wrap: Callable[[str], Any] = lambda raw: raw
        self.error: Any = None
        self.knows = ("eth_signTransaction",)
        self.account = ACCOUNT
        handler = type("Handler", (_Handler,), {"signer": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://keeper:{PASSWORD}@127.0.0.1:{self._server.server_port}/"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if body["method"] not in self.knows:
            return {"error": {"code": -32601, "message": "method not found"}}
        if self.error is not None:
            return {"error": self.error}
        (said,) = body["params"]
        names = ("nonce", "gas", "value", "chainId", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")
        tx = {name: int(said[name], 16) for name in names if name in said}
        tx |= {"to": said["to"], "data": said["data"]}
        raw = self.account.sign_transaction(self.change(tx)).raw_transaction.to_0x_hex()
        return {"result": self.wrap(raw)}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    signer: SignerServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"jsonrpc": "2.0", "id": body["id"], **self.signer.answer(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[SignerServer]:
    found = SignerServer()
    yield found
    found.close()


@pytest.fixture
def signer(server: SignerServer) -> RemoteSigner:
    return RemoteSigner(server.url, ACCOUNT.address, timeout_seconds=10)


@pytest.mark.parametrize("tx", [TX, LEGACY])
@pytest.mark.parametrize("shape", ["web3signer", "clef"])
def test_a_signer_elsewhere_signs(
    server: SignerServer, signer: RemoteSigner, tx: dict[str, Any], shape: str
) -> None:
    if shape == "clef":
        server.knows = ("account_signTransaction",)
        server.wrap = lambda raw: {"raw": raw, "tx": {"hash": "0x00"}}
    signed = signer.sign_transaction(tx)
    here = ACCOUNT.sign_transaction(tx)
    assert (signed.raw_transaction, signed.hash) == (here.raw_transaction, here.hash)
    (said,) = server.asked[-1]["params"]
    assert (said["from"], said["to"], said["nonce"], said["data"]) == (ACCOUNT.address, TO, "0x7", "0x1234")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonce", 8),
        ("to", STRANGER.address),
        ("value", 1),
        ("data", "0x1235"),
        ("gas", 100_001),
        ("chainId", 2),
        ("maxFeePerGas", 21),
        ("maxPriorityFeePerGas", 3),
    ],
)
def test_what_was_not_asked_for_is_refused(
    server: SignerServer, signer: RemoteSigner, name: str, value: Any
) -> None:
    server.change = lambda tx: tx | {name: value}
    with pytest.raises(TransactionError, match=f"signer_url: the signer signed something else: {name}$"):
        signer.sign_transaction(TX)


def test_another_account_s_signature_is_refused(server: SignerServer, signer: RemoteSigner) -> None:
    server.account = STRANGER
    with pytest.raises(TransactionError, match="signed something else: from"):
        signer.sign_transaction(TX)


def test_another_type_of_transaction_is_refused(server: SignerServer, signer: RemoteSigner) -> None:
    server.change = lambda tx: {k: v for k, v in tx.items() if not k.startswith("max")} | {"gasPrice": 20}
    with pytest.raises(
        TransactionError, match="something else: gasPrice, maxFeePerGas, maxPriorityFeePerGas"
    ):
        signer.sign_transaction(TX)
    entry = {"address": TO, "storageKeys": []}
    server.change = lambda tx: tx | {"accessList": [entry]}
    with pytest.raises(TransactionError, match="no signed transaction"):
        signer.sign_transaction(TX)


@pytest.mark.parametrize("result", [None, "0x", "0xzz", "0x02", {}, {"raw": None}, 7, "0x03" + "c0" * 9])
def test_what_is_no_transaction_is_refused(server: SignerServer, signer: RemoteSigner, result: Any) -> None:
    server.wrap = lambda raw: result
    with pytest.raises(TransactionError, match="signer_url: what the signer sent is no signed transaction"):
        signer.sign_transaction(TX)


@pytest.mark.parametrize("error", [{"code": -32000, "message": "request denied"}, "request denied"])
def test_a_signer_that_declines_is_told_so(server: SignerServer, signer: RemoteSigner, error: Any) -> None:
    server.error = error
    with pytest.raises(TransactionError, match="signer_url: the signer declines: request denied"):
        signer.sign_transaction(TX)
    assert len(server.asked) == 1


def test_a_signer_that_is_away(server: SignerServer, signer: RemoteSigner) -> None:
    server.close()
    with pytest.raises(TransactionError, match="signer_url: no answer") as caught:
        signer.sign_transaction(TX)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_decoded_is_what_was_signed() -> None:
    assert decoded(ACCOUNT.sign_transaction(TX).raw_transaction) == TX
    assert decoded(ACCOUNT.sign_transaction(LEGACY).raw_transaction) == LEGACY


# ---------------------------------------------------------------- settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_settings_name_who_signs(folder: Path, server: SignerServer) -> None:
    keystore, password_file = write_keystore(folder / "key.json")
    write_keystore(folder / ".brownie" / "accounts" / "keeper.json")
    ways: list[dict[str, Any]] = [
        {"keystore": keystore, "password_file": password_file},
        {"account": "keeper", "password_file": password_file},
        {"signer_url": server.url, "signer_address": ACCOUNT.address},
    ]
    for way in ways:
        sender = Sender.from_settings(Web3(), load_settings(**way))
        assert sender.account is not None
        assert sender.account.address == ACCOUNT.address
    with pytest.raises(ConfigError, match="signer_address: needed with signer_url"):
        Sender.from_settings(Web3(), load_settings(signer_url=server.url))
    with pytest.raises(ConfigError, match="keystore and account: set one of them"):
        load_settings(keystore=keystore, account="keeper", password_file=password_file)


def test_nothing_secret_is_in_settings_senders_logs_or_errors(
    folder: Path, server: SignerServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keystore, password_file = write_keystore(folder / "key.json")
    seen: list[str] = []
    for way in (
        {"keystore": keystore, "password_file": password_file},
        {"signer_url": server.url, "signer_address": ACCOUNT.address},
    ):
        settings = load_settings(**way)
        sender = Sender.from_settings(Web3(), settings)
        assert sender.account is not None
        sender.account.sign_transaction(TX)
        seen += [
            repr(settings),
            str(settings.model_dump()),
            repr(sender),
            repr(sender.account),
            str(sender.account),
        ]
    seen.append(caplog.text)
    for secret in (KEY.removeprefix("0x"), PASSWORD):
        assert secret not in "\n".join(seen)
